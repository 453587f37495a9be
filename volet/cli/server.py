"""`volet serve` and `volet init`."""

from __future__ import annotations

import json
import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from pydantic import ValidationError

from cda.derive import derive
from volet.settings import Mode, ProfileName, Settings


class Level(StrEnum):
    """How much the log says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Data = Annotated[Path | None, typer.Option(help="Folder of database, documents, PKI and cards. [var]")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: volet serve --init --profile ihe --http 127.0.0.1:18080")(serve)
    app.command(epilog="Example: volet init --data /tmp/essai")(init)


def serve(
    profile: Annotated[ProfileName | None, typer.Option(help="Whose rules hold. [dmp]")] = None,
    mode: Annotated[Mode | None, typer.Option(help="Test or production. [test]")] = None,
    data: Data = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT of plain HTTP, loopback only. [127.0.0.1:8080]")] = None,
    https: Annotated[str | None, typer.Option(help="HOST:PORT of TLS. [127.0.0.1:8443]")] = None,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL. [SQLite in the data folder]")] = None,
    documents: Annotated[str | None, typer.Option(help="Folder of documents. [in the data folder]")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes for each listener. [1]")] = None,
    log_level: Annotated[Level | None, typer.Option(help="How much the log says. [info]")] = None,
    make: Annotated[bool, typer.Option("--init", help="Make what is missing first.")] = False,
) -> None:
    """Start the server in the foreground."""
    settings = _settings(profile=profile, mode=mode, data=data, http=http, https=https, database=database,
                         documents=documents, workers=workers, log_level=log_level)
    _set_up_log(settings)
    if make:
        _init(settings)
    elif not (settings.data / "pki" / "ca.pem").exists() and settings.profile is ProfileName.DMP:
        _fail(f"{settings.data}: no trust anchors here. Run `volet init --data {settings.data}` first, "
              "or start with `volet serve --init`.")
    # The server's own libraries take half of the start: other commands do without them.
    from volet.listeners import serve as listen

    try:
        status = listen(settings, lambda: _say_hello(settings))
    except (OSError, ValueError) as error:
        _fail(str(error))
    raise typer.Exit(status)


def init(data: Data = None,
         as_json: Annotated[bool, typer.Option("--json", help="Answer for programs.")] = False) -> None:
    """Make what a test server needs: tables, test PKI, cards, seed patients. What is there stays."""
    from volet import initial

    settings = _settings(data=data)
    made = initial.init(settings)
    if as_json:
        typer.echo(json.dumps({"data": str(settings.data), "pki": made.pki, "cards": made.cards,
                               "patients": made.patients}))
    else:
        typer.echo(f"{settings.data}: {'test PKI made' if made.pki else 'test PKI kept'}, {made.cards} cards, "
                   f"{made.patients} patients added")


def _settings(**given: Any) -> Settings:
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        _fail("Settings: " + "; ".join(problems), status=2)


def _init(settings: Settings) -> None:
    if not (settings.data / "pki" / "ca.pem").exists():
        typer.echo(f"Making a test server in {settings.data}/ (tables, test PKI, cards, seed patients)…")
    if not settings.is_test:
        _fail("--init makes demonstration anchors: not in production mode", status=2)
    from volet import initial

    initial.init(settings)


def _fail(message: str, status: int = 1) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)


def _say_hello(settings: Settings) -> None:
    """Addresses and the next thing to type: what a newcomer needs in the first minute."""
    addresses = [f"Volet, profile {settings.profile}, mode {settings.mode}, data in {settings.data}/",
                 f"  https://{settings.https}/si-dmp-server/v2/services/   SOAP with a card (registry, repository)"]
    if settings.is_test:
        addresses.append(f"  http://{settings.http}/api/journal   what was received and answered")
    story = _story(settings) if settings.is_test and settings.profile is ProfileName.DMP else []
    typer.echo("\n".join([*addresses, *story, "", "Ctrl-C stops it."]))


def _story(settings: Settings) -> list[str]:
    """Lines for a second terminal, ready to be pasted."""
    from volet import initial

    volet = _shown(Path(sys.argv[0])) if "/" in sys.argv[0] else "volet"
    cards = f"{settings.data}/cards"
    url = "" if settings.https == "127.0.0.1:8443" else f" --url https://{settings.https}"
    http = "" if settings.http == "127.0.0.1:8080" else f" --url http://{settings.http}"
    vsm, dlu = initial.sample("vsm.xml"), initial.sample("dlu.xml")
    summary, liaison = derive(vsm.read_bytes()), derive(dlu.read_bytes())
    ins, resident = (entry.patient_id.partition("^")[0] for entry in (summary, liaison))
    return [
        "",
        "In a second terminal: a medical summary (VSM) goes in from one doctor's card and comes out by another's",
        f"  {volet} push {_shown(vsm)} --card {cards}/medecin-traitant{url}",
        f"  {volet} find --card {cards}/cardiologue --patient {ins}{url}",
        f"  {volet} get {summary.unique_id} --card {cards}/cardiologue --patient {ins} -o received{url}",
        f"  cmp received/*.xml {_shown(vsm)} && echo identical",
        "An emergency file (DLU) fed by a care home, read by the SAMU; the home itself and a secretary may not read it",
        f"  {volet} push {_shown(dlu)} --card {cards}/ehpad{url}",
        f"  {volet} find --card {cards}/regulateur-samu --mode centre_15 --patient {resident}{url}",
        f"  {volet} find --card {cards}/ehpad --patient {resident}{url}",
        f"  {volet} find --card {cards}/secretaire-cpe --patient {resident}{url}",
        f"  {volet} journal{http}",
    ]


def _shown(path: Path) -> str:
    """A path as short as it can be typed here."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _set_up_log(settings: Settings) -> None:
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper("iso"),
                    structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr))
