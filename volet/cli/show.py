"""What the command line shows: words in French or English, findings, tables; what others wrote never comes raw."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from volet.client.answers import Rejected, Told, of_findings
from xds.findings import Catalogue, Refused, Severity
from xds.hl7 import DTM

RULES = Catalogue("volet")
FILE = RULES["V-VOLET-CLIENT-FILE"]

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}
_LONGEST = 2000  # characters of one text
_UNBOUNDED = 220  # columns where no terminal says how many it has


class Lang(StrEnum):
    """Language of what is shown."""

    FR = "fr"
    EN = "en"


@dataclass(frozen=True, slots=True)
class View:
    """How a command answers: in which language, for a person or for a program."""

    lang: Lang = Lang.FR
    as_json: bool = False

    def word(self, key: str, table: str = "words") -> str:
        """The word of that key; a code that the table does not know is shown as it is."""
        entry = labels()[table].get(key)
        return entry[self.lang] if entry else key


@cache
def labels() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """`labels.toml`."""
    return tomllib.loads(resources.files("volet.cli").joinpath("labels.toml").read_text("utf-8"))


def plain(value: object) -> str:
    """Text for a terminal: control characters, of which escape sequences are made, become blanks."""
    text = str(value)[:_LONGEST]
    return text if text.isprintable() else "".join(sign if sign.isprintable() else " " for sign in text)


def echo(text: str = "", *, err: bool = False) -> None:
    """One line."""
    typer.echo(plain(text), err=err)


def echo_json(value: object) -> None:
    """An answer for programs."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def local_time(dtm: str) -> str:
    """A DTM in local time at its own precision, as people read it; the text itself when it is none."""
    try:
        moment = DTM.parse(dtm).moment()
    except ValueError:
        return dtm
    if len(dtm) <= len("YYYYMMDD"):  # a day has no time zone
        return moment.strftime({4: "%Y", 6: "%Y-%m"}.get(len(dtm), "%Y-%m-%d"))
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def iso_time(dtm: str) -> str:
    """A DTM as ISO 8601 at its own precision."""
    try:
        moment = DTM.parse(dtm).moment()
    except ValueError:
        return dtm
    return moment.strftime({4: "%Y", 6: "%Y-%m", 8: "%Y-%m-%d"}.get(len(dtm), "%Y-%m-%dT%H:%M:%SZ"))


def local_iso(text: str) -> str:
    """An ISO 8601 instant in local time; the text itself when it is none."""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


# --- findings ------------------------------------------------------------------------------------------------------


def show_findings(view: View, findings: Iterable[Told], *, err: bool = True, indent: str = "") -> None:
    """Each finding with its code, sentence, place, what was expected, what came and what to do."""
    for finding in findings:
        severity = str(finding.get("severity", "error"))
        head = typer.style(f"{view.word(severity)} {plain(finding.get('code', ''))}", bold=True,
                           fg=_COLOURS.get(Severity(severity) if severity in _COLOURS else Severity.ERROR))
        typer.echo(f"{indent}{head}  {plain(finding.get(view.lang, ''))}", err=err)
        for key, text in _facts(view, finding):
            echo(f"{indent}    {view.word(key):<9} {text}", err=err)


def _facts(view: View, finding: Told) -> Iterator[tuple[str, str]]:
    hint = "hint" if view.lang is Lang.FR else "hint_en"
    facts = {"where": _place(view, finding.get("where")), "expected": finding.get("expected"),
             "received": finding.get("received"), "do": finding.get(hint), "clause": finding.get("clause")}
    return ((key, str(text)) for key, text in facts.items() if text)


def _place(view: View, where: object) -> str:
    if not isinstance(where, Mapping):
        return ""
    line = f"{view.word('line')} {where['line']}" if where.get("line") else ""
    return ", ".join(filter(None, (str(where.get("part", "")), line, str(where.get("path", "")))))


def is_error(finding: Told) -> bool:
    """Whether a finding refuses."""
    return finding.get("severity") == Severity.ERROR


def told_by(error: Refused | Rejected | OSError) -> tuple[Told, ...]:
    """Findings of whatever stopped a command."""
    if isinstance(error, OSError):
        return of_findings([FILE.at(received=error)])
    return error.findings if isinstance(error, Rejected) else of_findings(error.findings)


@contextmanager
def answering(view: View, shape: Mapping[str, Any]) -> Iterator[None]:
    """Show what stops the block and exit with status 1; `shape` is the JSON answer without its findings."""
    try:
        yield
    except BrokenPipeError:  # whoever reads what is shown has enough: the library ends quietly
        raise
    except (Refused, Rejected, OSError) as error:
        findings = told_by(error)
        request = {"transaction": error.message_id} if isinstance(error, Rejected) else {}
        if view.as_json:
            echo_json({**shape, **request, "findings": findings})
        else:
            show_findings(view, findings)
        raise typer.Exit(1) from error


def finish(view: View, answer: Mapping[str, Any], show: Callable[[], None]) -> None:
    """Give an answer, as JSON or by `show`, then its findings; status 1 when one of them is an error."""
    findings: Sequence[Told] = answer["findings"]
    if view.as_json:
        echo_json(answer)
    else:
        show()
        show_findings(view, findings)
    if any(map(is_error, findings)):
        raise typer.Exit(1)


# --- tables --------------------------------------------------------------------------------------------------------


def console() -> Console:
    """Where tables go. Without a terminal lines are as long as they need to be: a program may cut them."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=_UNBOUNDED)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with these headings."""
    table = Table(*columns, box=SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console().print(table)
