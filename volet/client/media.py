"""Documents to and from an XDM medium (ITI-32; the IHE_XDM.ZIP of secure mail): values in, values out.

Out: documents and card -> submissions to write, one a patient, as `make_lot` makes them but unsigned.
In: a subset that was read -> documents to send, their metadata checked against their headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from cda.derive import derive
from cda.tables import formats
from repository.spool import chunks_of
from security.dsig_build import CLASS as SIGNATURE_CLASS
from volet import __version__
from volet.client.card import SOFTWARE, Card
from volet.client.submission import Document, author_of, by_patient, content_type, source_id
from xds import xdm
from xds.findings import Catalogue, Finding, Refused, Where, errors
from xds.hl7 import DTM, PID, XPN, same_patient
from xds.model import Association, DocumentEntry, Submission, SubmissionSet
from xds.rim import first
from xds.soap import new_message_id as new_uuid
from xds.vocabulary import DOCUMENT, HAS_MEMBER, SIGNS
from xds.xdm import Content, Subset
from xds.xdm_pages import Origin
from xds.xml import MAX_BYTES, TOO_LARGE

RULES = Catalogue("volet")
IDENTITY = RULES["V-VOLET-MEDIA-IDENTITY"]
HEADER = RULES["V-VOLET-MEDIA-HEADER"]
LEFT_OUT = RULES["V-VOLET-MEDIA-LEFT-OUT"]
SIGNATURE = RULES["V-VOLET-MEDIA-SIGNATURE"]
EMPTY = RULES["V-VOLET-MEDIA-EMPTY"]
PATIENT_ABSENT = RULES["V-VOLET-CLIENT-PATIENT-ABSENT"]

_VENDOR = "Volet, logiciel libre, non officiel / free software, unofficial"
_PATIENT_PATH = "/ClinicalDocument/recordTarget/patientRole/id"
T = TypeVar("T")
U = TypeVar("U")


def each(work: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """The results of all; `Refused` with everything that is wrong with any."""
    results: list[U] = []
    findings: list[Finding] = []
    for item in items:
        try:
            results.append(work(item))
        except Refused as refused:
            findings += refused.findings
    if findings:
        raise Refused(findings)
    return results


# --- export --------------------------------------------------------------------------------------------------------


def contents_of(documents: Sequence[Document], card: Card, now: datetime) -> list[Content]:
    """One submission a patient, the holder its author; each has its own second (ITI TF-2 §3.32.4.1.2.2)."""
    return [_content(group, card, now + timedelta(seconds=number))
            for number, group in enumerate(by_patient(documents))]


def _content(documents: Sequence[Document], card: Card, now: datetime) -> Content:
    the_set = SubmissionSet(
        id=new_uuid(), unique_id=f"2.25.{uuid4().int}", source_id=source_id(card),
        patient_id=documents[0].entry.patient_id, submission_time=str(DTM.of(now)), authors=(author_of(card),),
        content_type=content_type(card.said["sector"]))
    links = tuple(Association(new_uuid(), HAS_MEMBER, the_set.id, document.entry.id, submission_set_status="Original")
                  for document in documents)
    submission = Submission((the_set,), tuple(document.entry for document in documents), (), links)
    return Content(submission, {document.entry.id: _source(document.path) for document in documents})


def _source(path: Path) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        with path.open("rb") as stream:
            yield from chunks_of(stream.read)

    return pieces


def origin_of(card: Card) -> Origin:
    """Who makes the medium: the holder and their structure."""
    said = card.said
    structure = f"{said['structure']['name']} ({said['structure']['id']})"
    person = " ".join(filter(None, (said["family"], said["given"])))
    return Origin(", ".join(filter(None, (person, structure))), f"{SOFTWARE} {__version__}", _VENDOR)


def subject_of(submission: Submission) -> str:
    """The subject of the mail that carries a submission: `XDM/1.0/DDM+title NAME given dd/mm/yyyy` (MSSanté)."""
    entry = submission.documents[0]
    told = {pid.number: pid.values for value in entry.source_patient_info if (pid := _pid(value)) and pid.values}
    name, born = told.get(5, ("",))[0], str(told.get(7, ("",))[0])
    words = [first(entry.title), *((name.family, name.given) if isinstance(name, XPN) else ()),
             f"{born[6:8]}/{born[4:6]}/{born[:4]}" if len(born) >= 8 else born]
    return "XDM/1.0/DDM+" + " ".join(" ".join(words).split())


def _pid(value: str) -> PID | None:
    try:
        return PID.parse(value)
    except ValueError:
        return None


# --- import --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taken:
    """Documents of a subset ready to be sent, and what of the subset does not travel on."""

    documents: tuple[Document, ...]
    findings: tuple[Finding, ...] = ()


def taken(subset: Subset, folder: Path) -> Taken:
    """The documents of a subset as files in a folder; `Refused` unless all of it can be relied on.

    They will be a new submission: new entryUUIDs, the same uniqueIds. What METADATA.XML may leave out on media is
    taken from the header.
    """
    if errors(subset.findings):
        raise Refused(subset.findings)
    entries = [entry for entry in subset.submission.documents if not _is_signature(entry)]
    if not entries:
        raise Refused(EMPTY.at(Where(subset.name)))

    def take(entry: DocumentEntry) -> Document:
        return _take(entry, subset.documents[entry.id], folder / f"{entries.index(entry)}.xml")

    documents = each(take, entries)
    return Taken(tuple(documents), (*subset.findings, *_left_out(subset)))


def _is_signature(entry: DocumentEntry) -> bool:
    return entry.class_code is not None and entry.class_code.code == SIGNATURE_CLASS.code


def _take(entry: DocumentEntry, document: xdm.Document, path: Path) -> Document:
    place = Where(document.name)
    if document.size > MAX_BYTES:
        raise Refused(TOO_LARGE.at(place, expected=f"≤ {MAX_BYTES}", received=document.size))
    data = document.read()
    try:
        derived = derive(data, entry_id=new_uuid())
    except Refused as refused:
        raise Refused([replace(found, where=replace(found.where, part=document.name)) for found in refused.findings]
                      ) from refused
    findings = [*_identity(entry, derived, document.name), *_differences(entry, derived, document.name)]
    if errors(findings):
        raise Refused(findings)
    path.write_bytes(data)
    return Document(path, _renewed(entry, derived, document), tuple(findings))


def _renewed(entry: DocumentEntry, derived: DocumentEntry, document: xdm.Document) -> DocumentEntry:
    """The entry of a new submission: without what a medium or a registry added, complete as a record wants it."""
    told = {field.name: getattr(derived, field.name) for field in fields(entry) if not getattr(entry, field.name)}
    flags = tuple(item for item in entry.extra_classifications if item.node != DOCUMENT.limited_metadata)
    return replace(entry, **told | {
        "id": derived.id, "uri": (), "lid": "", "status": "", "version": "", "home": "", "repository_unique_id": "",
        "availability": "", "hash": document.sha1, "size": str(document.size), "extra_classifications": flags})


def _left_out(subset: Subset) -> Iterator[Finding]:
    submission, place = subset.submission, Where(subset.name)
    for entry in submission.documents:
        if _is_signature(entry):
            yield SIGNATURE.at(place, received=entry.unique_id)
    for folder in submission.folders:
        yield LEFT_OUT.at(place, received=f"Folder {first(folder.title) or folder.unique_id}")
    ours = {entry.id for entry in submission.documents} | {folder.id for folder in submission.folders}
    ours |= {the_set.id for the_set in submission.sets}
    for link in submission.associations:
        if link.type not in (HAS_MEMBER, SIGNS) or link.target not in ours:
            yield LEFT_OUT.at(place, received=f"{link.type.rpartition(':')[2]} {link.target}")


# --- header and metadata -------------------------------------------------------------------------------------------


def _identity(entry: DocumentEntry, derived: DocumentEntry, name: str) -> Iterator[Finding]:
    """Whose and which document it is must not be in doubt."""
    if entry.unique_id and derived.unique_id and entry.unique_id != derived.unique_id:
        yield IDENTITY.at(Where(name, path="/ClinicalDocument/id"), expected=entry.unique_id,
                          received=derived.unique_id, attribute="uniqueId")
    if entry.patient_id and derived.patient_id and not same_patient(entry.patient_id, derived.patient_id):
        yield IDENTITY.at(Where(name, path=_PATIENT_PATH), expected=entry.patient_id, received=derived.patient_id,
                          attribute="patientId")
    if not (entry.patient_id or derived.patient_id):
        yield PATIENT_ABSENT.at(Where(name, path=_PATIENT_PATH), expected="INS")


#: Attributes that metadata take from the header (CI-SIS), and what of them is compared
_COMPARED: tuple[tuple[str, Callable[[DocumentEntry], str]], ...] = (
    ("classCode", lambda entry: str(entry.class_code or "")),
    ("typeCode", lambda entry: str(entry.type_code or "")),
    ("formatCode", lambda entry: "" if entry.format_code == formats().unknown else str(entry.format_code or "")),
    ("healthcareFacilityTypeCode", lambda entry: str(entry.facility_type or "")),
    ("practiceSettingCode", lambda entry: str(entry.practice_setting or "")),
    ("title", lambda entry: first(entry.title)),
    ("languageCode", lambda entry: entry.language),
    ("legalAuthenticator", lambda entry: entry.legal_authenticator.partition("^")[0]),
)
_TIMES: tuple[tuple[str, Callable[[DocumentEntry], str]], ...] = (
    ("creationTime", lambda entry: entry.creation_time),
    ("serviceStartTime", lambda entry: entry.service_start),
    ("serviceStopTime", lambda entry: entry.service_stop),
)


def _differences(entry: DocumentEntry, derived: DocumentEntry, name: str) -> Iterator[Finding]:
    """Where both speak and say different things; of times, one may be more precise."""
    for attribute, value in _COMPARED:
        if value(entry) and value(derived) and value(entry) != value(derived):
            yield HEADER.at(Where(name), expected=value(derived), received=value(entry), attribute=attribute)
    for attribute, value in _TIMES:
        told, header = value(entry), value(derived)
        if told and header and not (told.startswith(header) or header.startswith(told)):
            yield HEADER.at(Where(name), expected=header, received=told, attribute=attribute)
    missing = [str(code) for code in derived.confidentiality if str(code) not in map(str, entry.confidentiality)]
    if entry.confidentiality and missing:
        yield HEADER.at(Where(name), expected=", ".join(missing), received=", ".join(map(str, entry.confidentiality)),
                        attribute="confidentialityCode")
