"""Documents of one patient as a signed submission set (TD2.1): files and card in, metadata, links and signature out."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from cda.derive import PROFESSIONALS, STRUCTURES, derive, derive_findings
from security import vihf_names
from security.dsig_build import SignedDocument, sign_submission, signature_entry_metadata
from volet import __version__
from volet.client.card import SOFTWARE, Card
from xds.findings import Catalogue, Finding, Refused, Where
from xds.hl7 import DTM, FN, HD, XCN, XON, encode, same_patient
from xds.model import Association, Author, Code, DocumentEntry, Submission, SubmissionSet
from xds.rim import localized
from xds.soap import new_message_id as new_uuid
from xds.vocabulary import HAS_MEMBER, RPLC
from xds.xml import MAX_BYTES, TOO_LARGE

RULES = Catalogue("volet")
PATIENT_ABSENT = RULES["V-VOLET-CLIENT-PATIENT-ABSENT"]
PATIENT_OTHER = RULES["V-VOLET-CLIENT-PATIENT-OTHER"]

_VISIBILITY = "1.2.250.1.213.1.1.4.13"
#: Confidentiality codes that mask a document, by whom it is masked from (NOS JDV_J08)
MASKS: Mapping[str, Code] = {
    "ps": Code("MASQUE_PS", _VISIBILITY, localized("Masqué aux professionnels de santé")),
    "patient": Code("INVISIBLE_PATIENT", _VISIBILITY, localized("Non visible par le patient")),
    "legal": Code("INVISIBLE_REPRESENTANTS_LEGAUX", _VISIBILITY,
                  localized("Non visible par les représentants légaux du patient")),
}
_AUTHOR_SPECIALTY = "1.2.250.1.213.1.1.4.5"  # NOS TRE_A01, professions and specialities of authors
_BY_ROLE = "99"  # TRE_G15: a professional whom the role characterises


@dataclass(frozen=True, slots=True)
class Document:
    """A file to be sent: its metadata, and what its header left untold."""

    path: Path
    entry: DocumentEntry
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Lot:
    """A submission ready to be sent. The signature document is the last entry of the submission."""

    submission: Submission
    documents: tuple[Document, ...]
    signature: bytes


# --- documents -----------------------------------------------------------------------------------------------------


def read_document(path: Path, patient: str = "", masks: Iterable[str] = ()) -> Document:
    """The file with metadata derived from its header; `Refused` when it is no CDA document or of another patient.

    `patient` is a CX, "" to take the header's. Identifiers are real UUIDs: the registry keeps them, so that the sender
    knows them (ITI TF-3 §4.1.12.3).
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise Refused(TOO_LARGE.at(Where(path.name), expected=f"≤ {MAX_BYTES}", received=size))
    data = path.read_bytes()
    try:
        entry, warnings = derive(data, entry_id=new_uuid()), derive_findings(data, part=path.name)
    except Refused as refused:
        raise Refused([replace(found, where=replace(found.where, part=path.name)) for found in refused.findings]
                      ) from refused
    codes = tuple(MASKS[mask] for mask in dict.fromkeys(masks))
    whole = replace(_of_patient(entry, patient, path.name), confidentiality=entry.confidentiality + codes)
    return Document(path, whole, tuple(warnings))


def _of_patient(entry: DocumentEntry, patient: str, name: str) -> DocumentEntry:
    place = Where(name, path="/ClinicalDocument/recordTarget/patientRole/id")
    if entry.patient_id and patient and not same_patient(entry.patient_id, patient):
        raise Refused(PATIENT_OTHER.at(place, expected=patient, received=entry.patient_id))
    if not entry.patient_id and not patient:
        raise Refused(PATIENT_ABSENT.at(place, expected="INS"))
    chosen = entry.patient_id or patient
    return replace(entry, patient_id=chosen, source_patient_id=entry.source_patient_id or chosen)


def by_patient(documents: Iterable[Document]) -> list[tuple[Document, ...]]:
    """The documents of each patient, in the order in which they came."""
    groups: list[list[Document]] = []
    for document in documents:
        of = (group for group in groups if same_patient(group[0].entry.patient_id, document.entry.patient_id))
        group = next(of, None)
        if group is None:
            groups.append([document])
        else:
            group.append(document)
    return [tuple(group) for group in groups]


# --- the lot -------------------------------------------------------------------------------------------------------


def make_lot(documents: Sequence[Document], card: Card, now: datetime, replaced: str = "") -> Lot:
    """The signed submission of documents of one patient; `replaced` is the entryUUID that the first one replaces."""
    first = documents[0].entry
    the_set = SubmissionSet(
        id=new_uuid(), unique_id=_new_oid(), source_id=source_id(card), patient_id=first.patient_id,
        submission_time=str(DTM.of(now)), authors=(author_of(card),), content_type=content_type(card.said["sector"]))
    links = [_link(HAS_MEMBER, the_set.id, document.entry.id, "Original") for document in documents]
    if replaced:
        links.append(_link(RPLC, first.id, replaced))
    # every document is a CDA, so that all digests are over canonical XML
    signed = [SignedDocument(document.entry.unique_id, document.path.read_bytes()) for document in documents]
    signature = sign_submission(the_set.unique_id, signed, card.key, card.chain, now)
    of_it = signature_entry_metadata(signature, _new_oid(), first, the_set, now, new_uuid())
    entries = (*(document.entry for document in documents), of_it.entry)
    submission = Submission((the_set,), entries, (), (*links, of_it.has_member, of_it.signs))
    return Lot(submission, tuple(documents), signature)


def source_id(card: Card) -> str:
    """OID of this source of documents, the same for everybody of a structure."""
    return _oid_of(uuid5(NAMESPACE_OID, f"{STRUCTURES}.{card.said['structure']['id']}").int)


def content_type(sector: str) -> Code:
    """Type of activity that a sector's submissions come from."""
    table = _content_types()
    code = table["sectors"].get(sector, table["default"])
    return Code(code, table["system"], localized(table["labels"][code]))


def _link(kind: str, source: str, target: str, status: str = "") -> Association:
    return Association(id=new_uuid(), type=kind, source=source, target=target, submission_set_status=status)


def _new_oid() -> str:
    return _oid_of(uuid4().int)


def _oid_of(number: int) -> str:
    """A UUID as an OID (ITU-T X.667 §6.3)."""
    return f"2.25.{number}"


@cache
def _content_types() -> Mapping[str, Any]:
    return tomllib.loads(resources.files("volet.client").joinpath("content_types.toml").read_text("utf-8"))


# --- the author ----------------------------------------------------------------------------------------------------


def author_of(card: Card) -> Author:
    """The holder as author of a submission set, in the forms of the DMP (CI-SIS Partage de documents de santé)."""
    structure = card.said["structure"]
    institution = XON(structure["name"], authority=HD("", STRUCTURES, "ISO"), type_code="IDNST", id=structure["id"])
    return Author(persons=(str(_person(card)),), institutions=(str(institution),),
                  specialties=tuple(_specialties(card)))


def _person(card: Card) -> XCN:
    """A professional; for a structure the software that acts in its name."""
    said = card.said
    if card.is_structure:
        return XCN(source_id(card), FN(SOFTWARE), __version__, name_type="U", type_code="RI")
    # PDT-INF-617: who has no name on the card goes by the structure's
    family = said["family"] or said["structure"]["name"]
    return XCN(said["identifier"], FN(family), said["given"], authority=HD("", PROFESSIONALS, "ISO"), name_type="D",
               type_code="IDNPS")


def _specialties(card: Card) -> Iterator[str]:
    """`G15_10/SM26^label^OID`; who has no profession, or "99", by the role and its own table (NOS JDV_J01)."""
    by_system = {role["system"]: role for role in reversed(card.said["roles"])}
    speciality = by_system.pop(vihf_names.SPECIALITY, None)
    profession = by_system.pop(vihf_names.PROFESSION, None)
    training = by_system.pop(vihf_names.FUTURE_PROFESSION, None)
    if by_system and (profession is None or profession["code"] == _BY_ROLE):
        role = next(iter(by_system.values()))
        yield _coded(role["code"], role["label"], role["system"])
    elif profession:
        held = [profession, *([speciality] if speciality else [])]
        yield _coded("G15_" + "/".join(role["code"] for role in held), " - ".join(role["label"] for role in held))
    elif training:
        yield _coded("G16_" + training["code"], training["label"])


def _coded(code: str, label: str, system: str = _AUTHOR_SPECIALTY) -> str:
    return "^".join(map(encode, (code, label, system)))
