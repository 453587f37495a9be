"""`volet journal`: what a server received and answered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from volet.cli import options
from volet.cli.options import JsonOption, LangOption
from volet.cli.show import Lang, View, answering, echo, echo_json, local_iso, plain, show_findings
from volet.client.journal import fetch

_EVERY = 1.0  # seconds between two looks
_MOST = 1000  # exchanges that one look takes


class Verdict(StrEnum):
    """How an exchange ended."""

    ACCEPTED = "accepted"
    WARNED = "warned"
    REFUSED = "refused"


_COLOURS = {Verdict.ACCEPTED: "green", Verdict.WARNED: "yellow", Verdict.REFUSED: "red"}

Url = Annotated[str, typer.Option("--url", metavar="URL", envvar="VOLET_HTTP_URL",
                                  help="HTTP port of a server in test mode.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=_MOST, help="The newest so many.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on showing what comes; Ctrl-C stops.")]
Wanted = Annotated[Verdict | None, typer.Option("--verdict", help="Only those that ended so.")]
Name = Annotated[str, typer.Option("--name", metavar="ITI-NN", help="Only this transaction.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volet journal --verdict refused --follow")(journal)


def journal(
    url: Url = "http://127.0.0.1:8080", limit: Limit = 20, follow: Follow = False, verdict: Wanted = None,
    name: Name = "", lang: LangOption = Lang.FR, as_json: JsonOption = False,
) -> None:
    """Show what a server received and answered.

    The newest exchanges, oldest first; those refused with their findings.
    """
    base, view = options.checked_url(url), View(lang, as_json)
    with answering(view, {}):
        rows = fetch(base, limit, verdict=verdict or "", name=name)
        if follow:
            _follow(view, base, rows, verdict or "", name)
        elif as_json:
            echo_json(rows)
        else:
            _head(view)
            _show(view, rows)
            if not rows:
                echo(view.word("empty"))


def _follow(view: View, base: str, rows: list[dict[str, Any]], verdict: str, name: str) -> None:
    """Look again and again from the last exchange seen; JSON comes as one object a line."""
    cursor = ""
    if not view.as_json:
        _head(view)
    try:
        while True:
            _give(view, rows)
            cursor = str(rows[-1].get("transaction", cursor)) if rows else cursor
            time.sleep(_EVERY)
            rows = fetch(base, _MOST, cursor, verdict, name)
    except KeyboardInterrupt:
        return


def _give(view: View, rows: Iterable[Mapping[str, Any]]) -> None:
    if view.as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
    else:
        _show(view, rows)


def _head(view: View) -> None:
    echo(_line(view.word("time"), view.word("transaction"), view.word("verdict"), "ms",
               f"{view.word('caller')} > {view.word('patient')}"))


def _show(view: View, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        verdict = str(row.get("verdict", ""))
        milliseconds = row.get("milliseconds")
        taken = f"{milliseconds:.0f}" if isinstance(milliseconds, int | float) else ""
        about = " > ".join(filter(None, (str(row.get("caller", "")), str(row.get("patient", "")).partition("^")[0])))
        line = _line(local_iso(str(row.get("time", ""))), str(row.get("name", "")),
                     view.word(f"verdict_{verdict}"), taken, about)
        colour = _COLOURS.get(Verdict(verdict)) if verdict in list(Verdict) else None
        typer.secho(plain(line), fg=colour)
        findings = row.get("findings")
        if verdict == Verdict.REFUSED and isinstance(findings, list):
            show_findings(view, [item for item in findings if isinstance(item, dict)], err=False, indent="    ")


def _line(moment: str, name: str, verdict: str, milliseconds: str, about: str) -> str:
    return f"{moment:<19}  {name:<11}  {verdict:<8}  {milliseconds:>6}  {about}".rstrip()
