"""`volet media`: XDM media, the IHE_XDM.ZIP of secure mail (ITI-32): make one, look into one, feed its documents."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from security.identity import AccessMode
from volet.cli import options
from volet.cli.options import CaOption, CardOption, JsonOption, LangOption, ModeOption, ReasonOption, UrlOption
from volet.cli.push import Files, Masks, Patient
from volet.cli.show import Lang, View, answering, echo, finish, iso_time, local_time, told_by
from volet.client import media, transactions
from volet.client.answers import Rejected, Told, of_findings
from volet.client.exchange import Endpoint
from volet.client.submission import Document, Lot, by_patient, make_lot, read_document
from xds import xdm
from xds.findings import Catalogue, Refused, Where
from xds.model import DocumentEntry, Submission
from xds.rim import first
from xds.xdm import Media, Subset

EXISTS = Catalogue("volet")["V-VOLET-MEDIA-EXISTS"]

Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", dir_okay=False, help="Archive to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an archive that is there.")]
ArchiveFile = Annotated[Path, typer.Argument(metavar="ARCHIVE", exists=True, dir_okay=False, readable=True,
                                             help="An IHE_XDM.ZIP.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="XDM media: the IHE_XDM.ZIP of secure mail.",
                        epilog="Example: volet media show IHE_XDM.ZIP")
    group.command(epilog="Example: volet media export samples/vsm.xml --card medecin-traitant -o IHE_XDM.ZIP")(export)
    group.command(epilog="Example: volet media show IHE_XDM.ZIP --json")(show)
    group.command("import", epilog="Example: volet media import IHE_XDM.ZIP --card medecin-traitant")(take_in)
    app.add_typer(group, name="media")


# --- export --------------------------------------------------------------------------------------------------------


def export(
    files: Files, card: CardOption, output: Output = Path("IHE_XDM.ZIP"), patient: Patient = None, mask: Masks = None,
    force: Force = False, lang: LangOption = Lang.FR, as_json: JsonOption = False,
) -> None:
    """Write documents to an archive for secure mail; nothing is sent.

    One subset for each patient; metadata come from the documents' own headers, the holder of the card is the sender.
    """
    loaded, view = options.load(card), View(lang, as_json)
    whose = options.patient_of(patient) if patient else ""
    with answering(view, {"archive": str(output), "subject": "", "subsets": []}):
        documents = media.each(lambda path: read_document(path, whose, mask or ()), files)
        if output.exists() and not force:
            raise Refused(EXISTS.at(Where("-o"), received=output))
        now = datetime.now(UTC)
        contents = media.contents_of(documents, loaded, now)
        if len(contents) > xdm.MOST_SUBSETS:
            raise typer.BadParameter(f"an archive holds documents of at most {xdm.MOST_SUBSETS} patients")
        with _whole(output) as file:
            written = xdm.write_to(file, contents, now, media.origin_of(loaded))
        with output.open("rb") as stream:
            found = xdm.read(stream)
            stream.seek(0)
            sha1 = hashlib.file_digest(stream, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
    told = of_findings([*found.findings, *(warning for document in documents for warning in document.warnings)])
    answer = {"archive": str(output), "size": output.stat().st_size, "sha1": sha1,
              "subject": media.subject_of(written[0]), "subsets": [_told(subset) for subset in found.subsets],
              "findings": told}
    finish(view, answer, lambda: _show_export(view, answer, found))


@contextmanager
def _whole(output: Path) -> Iterator[BinaryIO]:
    """The file to write: complete or not there at all."""
    unfinished = output.with_name(output.name + ".part")
    try:
        with unfinished.open("w+b") as file:
            yield file
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)


def _show_export(view: View, answer: dict[str, Any], found: Media) -> None:
    echo(f"{view.word('written')} {answer['archive']} ({answer['size']} {view.word('bytes')})")
    _show_subsets(view, found.subsets)
    echo(f"{view.word('mail_subject')} {answer['subject']}")


# --- show ----------------------------------------------------------------------------------------------------------


def show(archive: ArchiveFile, lang: LangOption = Lang.FR, as_json: JsonOption = False) -> None:
    """List what an archive holds, and everything that is wrong with it.

    Each document is compared with the size and the SHA-1 of its metadata.
    """
    view = View(lang, as_json)
    with answering(view, {"archive": str(archive), "subsets": []}), archive.open("rb") as stream:
        found = xdm.read(stream)
    answer = {"archive": str(archive), "subsets": [_told(subset) for subset in found.subsets],
              "findings": of_findings(found.all_findings())}
    finish(view, answer, lambda: _show_subsets(view, found.subsets))


def _told(subset: Subset) -> dict[str, Any]:
    the_set = next(iter(subset.submission.sets), None)
    return {
        "name": subset.name, "submission_set": the_set.unique_id if the_set else "",
        "patient": the_set.patient_id if the_set else "",
        "submitted": iso_time(the_set.submission_time) if the_set else "",
        "author": the_set.authors[0].person if the_set and the_set.authors else "",
        "documents": [_told_document(entry, subset) for entry in subset.submission.documents],
        "findings": of_findings(subset.findings)}


def _told_document(entry: DocumentEntry, subset: Subset) -> dict[str, Any]:
    document = subset.documents.get(entry.id)
    return {
        "unique_id": entry.unique_id, "entry_uuid": entry.id, "file": document.name if document else "",
        "title": first(entry.title), "type": entry.type_code.code if entry.type_code else "",
        "created": iso_time(entry.creation_time), "mime_type": entry.mime_type,
        "size": document.size if document else None, "sha1": document.sha1 if document else "",
        "intact": _intact(entry, subset)}


def _intact(entry: DocumentEntry, subset: Subset) -> bool | None:
    """Whether the document is the one that its entry tells of; None where nothing can be compared."""
    document = subset.documents.get(entry.id)
    return document.sha1 == entry.hash.lower() if document and entry.hash else None


def _show_subsets(view: View, subsets: Iterable[Subset]) -> None:
    said = {True: "intact", False: "altered", None: "unhashed"}
    for subset in subsets:
        echo(_heading(view, subset.name, subset.submission))
        for entry in subset.submission.documents:
            document = subset.documents.get(entry.id)
            kind = entry.type_code.display or entry.type_code.code if entry.type_code else ""
            echo(f"    {document.name if document else '–'} : "
                 + " · ".join(filter(None, (first(entry.title), kind, local_time(entry.creation_time)))))
            echo(f"        {entry.unique_id}")
            if document:
                echo(f"        {document.size} {view.word('bytes')}, {view.word(said[_intact(entry, subset)])}")


def _heading(view: View, name: str, submission: Submission) -> str:
    """A subset's name, submission set, patient and time."""
    facts = [f"{view.word('set')} {the_set.unique_id}, {view.word('patient').lower()} "
             f"{the_set.patient_id.partition('^')[0]}, {local_time(the_set.submission_time)}"
             for the_set in submission.sets[:1]]
    return ", ".join([name, *facts])


# --- import --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the documents of a subset, of one patient; `lot` is None when none could be made."""

    subset: str
    documents: tuple[Document, ...]
    lot: Lot | None
    done: bool
    message_id: str
    findings: tuple[Told, ...]


def take_in(
    archive: ArchiveFile, card: CardOption, url: UrlOption = options.URL, mode: ModeOption = AccessMode.NORMAL,
    reason: ReasonOption = "", ca: CaOption = None, lang: LangOption = Lang.FR, as_json: JsonOption = False,
) -> None:
    """Put the documents of an archive into records.

    Each subset becomes a new submission, signed by the card; metadata come from METADATA.XML and must agree with the
    documents' headers.
    """
    endpoint, view = options.endpoint_of(card, url, ca, mode, reason), View(lang, as_json)
    outcomes: list[Outcome] = []
    with answering(view, _answer([], ())), archive.open("rb") as stream:
        found = xdm.read(stream)
        for subset in found.subsets:
            with tempfile.TemporaryDirectory(prefix="volet-") as folder:
                outcomes += _take_in(subset, endpoint, Path(folder))
    finish(view, _answer(outcomes, of_findings(found.findings)), lambda: _show(view, outcomes))


def _take_in(subset: Subset, endpoint: Endpoint, folder: Path) -> list[Outcome]:
    """A subset, if all of it can be relied on; what goes wrong is its own, the others go on."""
    try:
        taken = media.taken(subset, folder)
    except Refused as refused:
        return [Outcome(subset.name, (), None, False, "", of_findings(refused.findings))]
    outcomes = [_send(subset.name, group, endpoint) for group in by_patient(taken.documents)]
    first_one = outcomes[0]
    return [Outcome(first_one.subset, first_one.documents, first_one.lot, first_one.done, first_one.message_id,
                    (*first_one.findings, *of_findings(taken.findings))), *outcomes[1:]]


def _send(name: str, documents: tuple[Document, ...], endpoint: Endpoint) -> Outcome:
    warnings = of_findings(finding for document in documents for finding in document.warnings)
    lot: Lot | None = None
    try:
        lot = make_lot(documents, endpoint.card, datetime.now(UTC))
        sent = transactions.provide(endpoint, lot)
    except (Rejected, Refused, OSError) as error:
        message_id = error.message_id if isinstance(error, Rejected) else ""
        return Outcome(name, documents, lot, False, message_id, (*told_by(error), *warnings))
    return Outcome(name, documents, lot, True, sent.message_id, (*sent.warnings, *warnings))


def _answer(outcomes: Sequence[Outcome], findings: Sequence[Told]) -> dict[str, Any]:
    """The JSON answer, in the shape of push's: identifiers are the first submission's, the rest is of all."""
    told = [_told_outcome(outcome) for outcome in outcomes]
    first_one = told[0] if told else {"transaction": "", "submission_set": ""}
    done = bool(outcomes) and all(outcome.done for outcome in outcomes)
    return {
        "status": "Success" if done else "Failure", "transaction": first_one["transaction"],
        "submission_set": first_one["submission_set"], "documents": [item for one in told for item in one["documents"]],
        "findings": [*findings, *(finding for one in told for finding in one["findings"])], "submissions": told}


def _told_outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "subset": outcome.subset, "status": "Success" if outcome.done else "Failure",
        "transaction": outcome.message_id,
        "submission_set": outcome.lot.submission.submission_set.unique_id if outcome.lot else "",
        "patient": outcome.documents[0].entry.patient_id if outcome.documents else "",
        "documents": [{"unique_id": document.entry.unique_id, "entry_uuid": document.entry.id}
                      for document in outcome.documents if outcome.done],
        "findings": list(outcome.findings)}


def _show(view: View, outcomes: Iterable[Outcome]) -> None:
    for outcome in outcomes:
        verdict = view.word("pushed" if outcome.done else "refused")
        if not outcome.documents:
            echo(f"{verdict} {outcome.subset}", err=True)
        for document in outcome.documents:
            echo(f"{verdict} {first(document.entry.title)} ({outcome.subset})", err=not outcome.done)
            if outcome.done:
                echo(f"    {document.entry.unique_id}")
                echo(f"    {document.entry.id}")
        if outcome.done and outcome.lot:
            echo(f"    {view.word('set')} {outcome.lot.submission.submission_set.unique_id}, "
                 f"{view.word('request')} {outcome.message_id}")
