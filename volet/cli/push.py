"""`volet push`: documents into records (TD2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from security.identity import AccessMode
from volet.cli import options
from volet.cli.options import CaOption, CardOption, JsonOption, LangOption, ModeOption, ReasonOption, UrlOption
from volet.cli.show import Lang, View, answering, echo, finish, told_by
from volet.client import transactions
from volet.client.answers import Rejected, Told, of_findings
from volet.client.exchange import Endpoint
from volet.client.submission import Document, Lot, by_patient, make_lot, read_document
from xds.findings import Catalogue, Finding, Refused, Where
from xds.messages import OBJECT_REF
from xds.rim import first
from xds.vocabulary import APPROVED

NOT_FOUND = Catalogue("volet")["V-VOLET-CLIENT-NOT-FOUND"]

Files = Annotated[list[Path], typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True,
                                             help="CDA documents, of one patient or several.")]
Patient = Annotated[str | None, typer.Option("--patient", metavar="INS",
                                             help="Whose record; must agree with the documents that say it.")]
Replaced = Annotated[str | None, typer.Option("--replace", metavar="UNIQUE_ID", help="Document that FILE replaces.")]
Masks = Annotated[list[options.Mask] | None, typer.Option(
    "--mask", metavar="|".join(options.Mask),
    help="Mask from professionals, the patient, legal representatives; may be repeated.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volet push samples/vsm.xml --card medecin-traitant")(push)


def push(
    files: Files, card: CardOption, url: UrlOption = options.URL, patient: Patient = None,
    mode: ModeOption = AccessMode.NORMAL, reason: ReasonOption = "", replace: Replaced = None, mask: Masks = None,
    ca: CaOption = None, lang: LangOption = Lang.FR, as_json: JsonOption = False,
) -> None:
    """Put documents into records.

    One signed submission for each patient; metadata come from the documents' own headers.
    """
    if replace and len(files) != 1:
        raise typer.BadParameter("one FILE replaces one document", param_hint="--replace")
    endpoint, view = options.endpoint_of(card, url, ca, mode, reason), View(lang, as_json)
    whose = options.patient_of(patient) if patient else ""
    with answering(view, _answer([])):
        documents = _read(files, whose, mask or ())
        outcomes = [_send(endpoint, group, replace or "") for group in by_patient(documents)]
    finish(view, _answer(outcomes), lambda: _show(view, outcomes))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the documents of one patient; `lot` is None when it could not be made."""

    documents: tuple[Document, ...]
    lot: Lot | None
    done: bool
    message_id: str
    findings: tuple[Told, ...]


def _read(files: Iterable[Path], patient: str, masks: Iterable[str]) -> list[Document]:
    """All the files, before anything is sent; `Refused` with everything that is wrong with any of them."""
    documents: list[Document] = []
    findings: list[Finding] = []
    for path in files:
        try:
            documents.append(read_document(path, patient, masks))
        except Refused as refused:
            findings += refused.findings
    if findings:
        raise Refused(findings)
    return documents


def _send(endpoint: Endpoint, documents: tuple[Document, ...], replaced: str) -> Outcome:
    """One submission; what goes wrong is its own, the other patients' go on."""
    warnings = of_findings(finding for document in documents for finding in document.warnings)
    lot: Lot | None = None
    try:
        target = entry_uuid_of(endpoint, documents[0].entry.patient_id, replaced) if replaced else ""
        lot = make_lot(documents, endpoint.card, datetime.now(UTC), target)
        sent = transactions.provide(endpoint, lot)
    except (Rejected, Refused, OSError) as error:
        message_id = error.message_id if isinstance(error, Rejected) else ""
        return Outcome(documents, lot, False, message_id, (*told_by(error), *warnings))
    return Outcome(documents, lot, True, sent.message_id, (*sent.warnings, *warnings))


def entry_uuid_of(endpoint: Endpoint, patient: str, unique_id: str) -> str:
    """The entryUUID of a document by its uniqueId (TD3.1b); `Refused` when there is none to be seen.

    Where several entries share the uniqueId, the one in force counts.
    """
    uuids = transactions.get_documents(endpoint, patient, [unique_id], OBJECT_REF).uuids
    if len(uuids) > 1:
        entries = transactions.get_documents(endpoint, patient, [unique_id]).entries
        uuids = tuple(entry.id for entry in entries if entry.status == APPROVED) or uuids
    if not uuids:
        raise Refused(NOT_FOUND.at(Where("--replace"), received=unique_id))
    return uuids[0]


# --- answer --------------------------------------------------------------------------------------------------------


def _answer(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The JSON answer: of several submissions, the identifiers are the first one's, the rest is of all."""
    told = [_told(outcome) for outcome in outcomes]
    first_one = told[0] if told else {"transaction": "", "submission_set": ""}
    done = bool(outcomes) and all(outcome.done for outcome in outcomes)
    return {
        "status": "Success" if done else "Failure", "transaction": first_one["transaction"],
        "submission_set": first_one["submission_set"], "documents": [item for one in told for item in one["documents"]],
        "findings": [finding for one in told for finding in one["findings"]], "submissions": told}


def _told(outcome: Outcome) -> dict[str, Any]:
    """One submission: the documents that were registered, the files that were meant."""
    return {
        "status": "Success" if outcome.done else "Failure", "transaction": outcome.message_id,
        "submission_set": outcome.lot.submission.submission_set.unique_id if outcome.lot else "",
        "patient": outcome.documents[0].entry.patient_id,
        "documents": [{"unique_id": document.entry.unique_id, "entry_uuid": document.entry.id,
                       "file": str(document.path)} for document in outcome.documents if outcome.done],
        "files": [str(document.path) for document in outcome.documents], "findings": list(outcome.findings)}


def _show(view: View, outcomes: Iterable[Outcome]) -> None:
    for outcome in outcomes:
        for document in outcome.documents:
            verdict = view.word("pushed" if outcome.done else "refused")
            echo(f"{verdict} {first(document.entry.title)} ({document.path})", err=not outcome.done)
            if outcome.done:
                echo(f"    {document.entry.unique_id}")
                echo(f"    {document.entry.id}")
        if outcome.done and outcome.lot:
            echo(f"    {view.word('set')} {outcome.lot.submission.submission_set.unique_id}, "
                 f"{view.word('request')} {outcome.message_id}")
