"""`volet find` and `volet get`: what is in a record, and the documents themselves (TD3.1, TD3.2)."""

from __future__ import annotations

import mimetypes
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cda.tables import document_types
from repository.spool import Received
from security.identity import AccessMode
from volet.cli import options
from volet.cli.options import (
    CaOption,
    CardOption,
    JsonOption,
    LangOption,
    ModeOption,
    PatientOption,
    ReasonOption,
    UrlOption,
)
from volet.cli.show import Lang, View, answering, console, echo, finish, iso_time, local_time, show_table
from volet.client import transactions
from volet.client.answers import Told, of_findings
from volet.client.transactions import STATUSES
from xds.findings import Catalogue, Finding, Refused, Where
from xds.hl7 import XCN, XON
from xds.model import DocumentEntry
from xds.rim import first
from xds.vocabulary import APPROVED

RULES = Catalogue("volet")
NOT_FOUND = RULES["V-VOLET-CLIENT-NOT-FOUND"]
NOT_SENT = RULES["V-VOLET-CLIENT-NOT-SENT"]
HASH = RULES["V-VOLET-CLIENT-HASH"]
FILE_EXISTS = RULES["V-VOLET-CLIENT-FILE-EXISTS"]

_WORDS = {status: word for word, status in STATUSES.items()}
_SUFFIXES = {"text/xml": ".xml", "application/xslt+xml": ".xsl"}
_WIDE = 130  # columns that a table with whole identifiers needs

Types = Annotated[list[str] | None, typer.Option("--type", metavar="CODE",
                                                 help="Type of document (SYNTH, 74207-2 …); may be repeated.")]
Since = Annotated[datetime | None, typer.Option("--since", metavar="DATE", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"],
                                                help="Created from then on, local time: 2026-01-31.")]
Statuses = Annotated[list[options.Status], typer.Option("--status", metavar="|".join(options.Status),
                                                        help="May be repeated.")]
UniqueIds = Annotated[list[str], typer.Argument(metavar="UNIQUE_ID", help="Identifiers, as volet find shows them.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", file_okay=False, help="Folder to write to.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: volet find --card cardiologue --patient 258059999900193 --type SYNTH")(find)
    app.command(epilog="Example: volet get 2.25.123 --card cardiologue --patient 258059999900193 -o received")(get)


# --- find ----------------------------------------------------------------------------------------------------------


def find(
    card: CardOption, patient: PatientOption, url: UrlOption = options.URL, kinds: Types = None, since: Since = None,
    statuses: Statuses = [options.Status.APPROVED],  # noqa: B006  read only, and typer shows it
    mode: ModeOption = AccessMode.NORMAL, reason: ReasonOption = "", ca: CaOption = None, lang: LangOption = Lang.FR,
    as_json: JsonOption = False,
) -> None:
    """List the documents of a record, newest first."""
    endpoint, view = options.endpoint_of(card, url, ca, mode, reason), View(lang, as_json)
    whose, types = options.patient_of(patient), [_type(code) for code in kinds or ()]
    with answering(view, {"documents": []}):
        found = transactions.find_documents(endpoint, whose, types, options.dtm_of(since), statuses)
    entries = sorted(found.entries, key=lambda entry: entry.creation_time, reverse=True)
    finish(view, {"documents": [_told(entry) for entry in entries], "findings": list(found.warnings)},
           lambda: _show(view, entries))


def _type(code: str) -> str:
    """`code^^scheme` of a type; wrong usage when the code stands in no table and brings no scheme."""
    if "^^" in code:
        return code
    known = document_types().get(code)
    if known is None:
        raise typer.BadParameter(f"{code} is no type of the French record; another one is written CODE^^SCHEME",
                                 param_hint="--type")
    return str(known.type_code)


def _told(entry: DocumentEntry) -> dict[str, Any]:
    return {
        "entry_uuid": entry.id, "lid": entry.lid, "unique_id": entry.unique_id,
        "type": entry.type_code.code if entry.type_code else "", "type_label": _label(entry),
        "title": first(entry.title), "created": iso_time(entry.creation_time), "status": _status(entry),
        "author": _author(entry), "confidentiality": [code.code for code in entry.confidentiality],
        "mime_type": entry.mime_type, "size": entry.size, "repository": entry.repository_unique_id}


def _show(view: View, entries: Sequence[DocumentEntry]) -> None:
    """A table; on a narrow terminal three lines a document, so that identifiers stay whole and can be copied."""
    rows = [(first(entry.title), _label(entry), local_time(entry.creation_time), _author(entry),
             view.word(_status(entry)), entry.unique_id) for entry in entries]
    if not rows:
        echo(view.word("nothing"))
    elif console().width >= _WIDE:
        show_table([view.word(key) for key in ("title", "type", "created", "author", "status", "unique_id")], rows)
    else:
        for title, label, created, author, status, unique_id in rows:
            echo(f"{title} ({status})")
            echo("    " + " · ".join(filter(None, (label, created, author))))
            echo(f"    {unique_id}")


def _label(entry: DocumentEntry) -> str:
    if entry.type_code is None:
        return ""
    known = document_types().get(entry.type_code.code)
    return known.type_code.display if known else entry.type_code.display or entry.type_code.code


def _status(entry: DocumentEntry) -> str:
    return _WORDS.get(entry.status, entry.status.rpartition(":")[2].lower())


def _author(entry: DocumentEntry) -> str:
    """The first author's name, and whose house it was written in."""
    if not entry.authors:
        return ""
    author = entry.authors[0]
    return ", ".join(filter(None, (_person(author.person), *map(_institution, author.institutions[:1]))))


def _person(text: str) -> str:
    try:
        name = XCN.parse(text)
    except ValueError:
        return text
    return f"{name.family} {name.given}".strip() or name.id


def _institution(text: str) -> str:
    try:
        return XON.parse(text).name
    except ValueError:
        return text


# --- get -----------------------------------------------------------------------------------------------------------


def get(
    unique_ids: UniqueIds, card: CardOption, patient: PatientOption, output: Output, url: UrlOption = options.URL,
    force: Force = False, mode: ModeOption = AccessMode.NORMAL, reason: ReasonOption = "", ca: CaOption = None,
    lang: LangOption = Lang.FR, as_json: JsonOption = False,
) -> None:
    """Write documents of a record to files.

    Byte for byte; each is compared with the SHA-1 of its metadata.
    """
    endpoint, view = options.endpoint_of(card, url, ca, mode, reason), View(lang, as_json)
    whose, wanted = options.patient_of(patient), list(dict.fromkeys(unique_ids))
    with answering(view, {"documents": []}):
        found = transactions.get_documents(endpoint, whose, wanted)
        entries = _chosen(found.entries, wanted)
        findings = [NOT_FOUND.at(Where("--patient", path=whose), received=name)
                    for name in wanted if name not in entries]
        if not entries:
            raise Refused(findings)
        paths = {name: output / _file_name(entry) for name, entry in entries.items()}
        if not force:
            _check_free(paths.values())
        output.mkdir(parents=True, exist_ok=True)
        with transactions.retrieve(endpoint, whose, entries.values()) as retrieved:
            written = [_write(entries[name], paths[name], document, force)
                       for name, document in retrieved.documents.items() if name in entries]
            findings += [NOT_SENT.at(Where("envelope"), received=name)
                         for name in entries if name not in retrieved.documents]
    findings += [finding for row in written for finding in _hash_findings(row)]
    told: list[Told] = [*found.warnings, *retrieved.findings, *of_findings(findings)]
    finish(view, {"documents": written, "findings": told}, lambda: _show_files(view, written))


def _chosen(entries: Iterable[DocumentEntry], wanted: Iterable[str]) -> dict[str, DocumentEntry]:
    """The entry of each uniqueId: of several the one in force, else the last."""
    ranked = sorted(entries, key=lambda entry: entry.status == APPROVED)
    found = {entry.unique_id: entry for entry in ranked}
    return {name: found[name] for name in wanted if name in found}


def _file_name(entry: DocumentEntry) -> str:
    """Of the uniqueId and nothing else: what could lead out of the folder is percent-encoded."""
    suffix = _SUFFIXES.get(entry.mime_type) or mimetypes.guess_extension(entry.mime_type) or ".bin"
    return quote(entry.unique_id, safe="") + suffix


def _check_free(paths: Iterable[Path]) -> None:
    there = [FILE_EXISTS.at(Where("-o"), received=path) for path in paths if path.exists()]
    if there:
        raise Refused(there)


def _write(entry: DocumentEntry, path: Path, received: Received, force: bool) -> dict[str, Any]:
    """The file, complete or not at all; what is told of it."""
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        if received.data is not None:
            file.write(received.data)
        else:
            with received.open() as source:
                shutil.copyfileobj(source, file)
    if not force:
        _check_free([path])
    unfinished.replace(path)
    intact = received.sha1 == entry.hash.lower() if entry.hash else None
    return {"unique_id": entry.unique_id, "file": str(path), "mime_type": entry.mime_type, "size": received.size,
            "sha1": received.sha1, "expected_sha1": entry.hash.lower(), "intact": intact}


def _hash_findings(row: Mapping[str, Any]) -> Iterator[Finding]:
    if row["intact"] is False:
        yield HASH.at(Where(row["file"]), expected=row["expected_sha1"], received=row["sha1"])


def _show_files(view: View, written: Iterable[Mapping[str, Any]]) -> None:
    said = {True: "intact", False: "altered", None: "unhashed"}
    for row in written:
        echo(f"{row['file']}  {view.word(said[row['intact']])}")
