"""French rules on a submission: documents that are what their metadata say, visibility, and who signed the set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cda.derive import derive
from dmp import submissions
from dmp.profile import DmpProfile, Signature
from security.dsig_build import SignedDocument, sign_submission, signature_entry_metadata
from security.identity import Caller
from tests.security.signing import NOW, Card, FakeTrust, doctor, nursing_home, other_doctor
from xds.ebxml import from_submission, to_submission
from xds.findings import Finding
from xds.model import Association, Code, DocumentEntry, Submission, SubmissionSet
from xds.rim import localized
from xds.vocabulary import HAS_MEMBER, SIGNS

SAMPLES = Path(__file__).parents[2] / "samples"
VSM, ORDONNANCE = (SAMPLES.joinpath(name).read_bytes() for name in ("vsm.xml", "ordonnance.xml"))
ENTRY = derive(VSM, entry_id="Document01")
SECOND = derive(ORDONNANCE, entry_id="Document02")
SET = SubmissionSet("Set01", "1.2.250.1.999.1.1", "1.2.250.1.999.1", ENTRY.patient_id, "20261122090000",
                    authors=ENTRY.authors)
Contents = dict[str, Callable[[], bytes]]


def whole(*entries: DocumentEntry, links: tuple[Association, ...] = ()) -> Submission:
    members = [Association(f"Member-{entry.id}", HAS_MEMBER, "Set01", entry.id, submission_set_status="Original")
               for entry in entries]
    return to_submission(from_submission(Submission((SET,), entries, (), (*members, *links))))


def contents(**documents: bytes) -> Contents:
    return {identity: lambda data=data: data for identity, data in documents.items()}  # type: ignore[misc]


def short(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.code.removeprefix("V-DMP-"), finding.xds) for finding in findings]


# --- documents and their metadata ----------------------------------------------------------------------------------


def documents(entry: DocumentEntry = ENTRY, data: bytes = VSM) -> list[tuple[str, str]]:
    return short(list(submissions.check_documents(whole(entry), contents(Document01=data))))


def test_a_document_is_what_its_metadata_say() -> None:
    assert documents() == []
    assert documents(replace(ENTRY, patient_id=ENTRY.patient_id.replace("^NH", "^PI"))) == []


def test_another_patient() -> None:
    """The wrong file for the right patient: the error that hurts."""
    patient = ENTRY.patient_id.replace("2", "1", 1)
    assert documents(replace(ENTRY, patient_id=patient)) == [("DOCUMENT-PATIENT", "XDSPatientIdDoesNotMatch")]


def test_another_identifier() -> None:
    assert documents(replace(ENTRY, unique_id="1.2.3")) == [("DOCUMENT-ID", "XDSRepositoryMetadataError")]


def test_another_document() -> None:
    found = documents(ENTRY, ORDONNANCE)
    assert ("DOCUMENT-ID", "XDSRepositoryMetadataError") in found


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", b"<a/>", VSM[:2000], VSM.replace(b"ClinicalDocument", b"Other"),
                                  b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>", b"\xff\xfe\x00"])
def test_what_is_no_cda(data: bytes) -> None:
    assert documents(ENTRY, data) == [("NOT-CDA", "XDSRepositoryError")]


def test_other_types_and_documents_that_did_not_come_are_for_other_rules() -> None:
    assert documents(replace(ENTRY, mime_type="application/dicom"), b"DICM") == []
    assert short(list(submissions.check_documents(whole(ENTRY), {}))) == []


def test_every_document_is_looked_at() -> None:
    found = list(submissions.check_documents(
        whole(replace(ENTRY, unique_id="1.2.3"), replace(SECOND, unique_id="1.2.4")),
        contents(Document01=VSM, Document02=ORDONNANCE)))
    assert [finding.where.part for finding in found] == ["document 1.2.3", "document 1.2.4"]


# --- metadata alone ------------------------------------------------------------------------------------------------

MASKED = Code("MASQUE_PS", "1.2.250.1.213.1.1.4.13", localized("Masqué"))
UNSEEN = Code("INVISIBLE_PATIENT", "1.2.250.1.213.1.1.4.13", localized("Invisible"))
GUARDIANS = Code("INVISIBLE_REPRESENTANTS_LEGAUX", "1.2.250.1.213.1.1.4.13", localized("Invisible"))


@pytest.mark.parametrize(("more", "expected"), [
    ((), []), ((MASKED,), []), ((UNSEEN,), []), ((MASKED, GUARDIANS), []), ((UNSEEN, GUARDIANS), []),
    ((MASKED, UNSEEN), [("MASKING-COMBINED", "XDSRegistryMetadataError")]),
    ((MASKED, UNSEEN, GUARDIANS), [("MASKING-COMBINED", "XDSRegistryMetadataError")])])
def test_masked_to_professionals_or_invisible_to_the_patient(more: tuple[Code, ...],
                                                             expected: list[tuple[str, str]]) -> None:
    entry = replace(ENTRY, confidentiality=(*ENTRY.confidentiality, *more))
    assert short(list(submissions.check_entries(whole(entry)))) == expected


def test_identity_of_the_patient() -> None:
    entry = replace(ENTRY, source_patient_info=())
    assert short(list(submissions.check_entries(whole(entry)))) == [("PATIENT-INFO", "XDSRegistryMetadataError")]


# --- the signature of the set --------------------------------------------------------------------------------------


def signed(card: Card | None = None, *, over: tuple[SignedDocument, ...] = (SignedDocument(ENTRY.unique_id, VSM),),
           unique_id: str = SET.unique_id) -> bytes:
    who = card or doctor()
    return sign_submission(unique_id, over, who.key, [who.signature], NOW)


def lot(signature: bytes | None = None, *entries: DocumentEntry, links: bool = True,
        at: datetime = NOW) -> tuple[Submission, Contents]:
    """A set of one document with its signature document and the association that says so."""
    octets = signed() if signature is None else signature
    metadata = signature_entry_metadata(octets, "1.2.250.1.999.3.1", ENTRY, SET, at)
    return (whole(*(entries or (ENTRY,)), metadata.entry, links=(metadata.signs,) if links else ()),
            contents(Document01=VSM, Document02=ORDONNANCE, Signature01=octets))


def verified(submission: Submission, known: Contents, who: Card | None = None, required: bool = True,
             cards: tuple[Card, ...] = ()) -> list[Finding]:
    card = who or doctor()
    caller = Caller(card.identity, card.identity.national_id)
    trust: Any = FakeTrust(cards or (doctor(), other_doctor(), nursing_home()))
    return list(submissions.check_signature(submission, known, caller, trust, NOW, required))


def test_a_signed_set() -> None:
    assert verified(*lot()) == []


def test_a_set_signed_by_a_structure() -> None:
    assert verified(*lot(signed(nursing_home())), who=nursing_home()) == []


def test_a_set_of_two_documents() -> None:
    both = signed(over=(SignedDocument(ENTRY.unique_id, VSM), SignedDocument(SECOND.unique_id, ORDONNANCE)))
    assert verified(*lot(both, ENTRY, SECOND)) == []
    assert verified(*lot(signed(), ENTRY, SECOND))  # the second one is not signed
    assert verified(*lot(both))  # one that is signed is not there


@pytest.mark.parametrize(("required", "expected"), [(True, [("SIGNATURE-MISSING", "XDSRepositoryError")]), (False, [])])
def test_a_set_without_a_signature(required: bool, expected: list[tuple[str, str]]) -> None:
    assert short(verified(whole(ENTRY), contents(Document01=VSM), required=required)) == expected


def test_two_signatures() -> None:
    submission, known = lot()
    twin = replace(submission.documents[1], id="Signature02", unique_id="1.2.250.1.999.3.2")
    assert short(verified(whole(*submission.documents, twin), known)) == [
        ("SIGNATURE-NUMBER", "XDSRepositoryMetadataError")]


def test_a_signature_without_its_link() -> None:
    assert short(verified(*lot(links=False))) == [("SIGNATURE-LINK", "XDSRegistryMetadataError")]


@pytest.mark.parametrize("change", [
    lambda link: replace(link, target="Document01"), lambda link: replace(link, source="Document01"),
    lambda link: replace(link, type=HAS_MEMBER)])
def test_a_link_that_is_not_that_of_the_signature(change: Callable[[Association], Association]) -> None:
    submission, known = lot()
    astray = tuple(change(link) if link.type == SIGNS else link for link in submission.associations)
    assert ("SIGNATURE-LINK", "XDSRegistryMetadataError") in short(
        verified(replace(submission, associations=astray), known))


def test_a_set_signed_by_someone_else() -> None:
    """Another card, though known: who sends is who signs."""
    (finding,) = verified(*lot(signed(other_doctor())))
    assert finding.code == "V-DMP-SIGNER"
    assert (finding.expected, finding.received) == (doctor().identity.national_id, other_doctor().identity.national_id)


@pytest.mark.parametrize("signature", [
    signed(unique_id="1.2.3"), signed(over=()), signed(over=(SignedDocument(ENTRY.unique_id, ORDONNANCE),)),
    signed(over=(SignedDocument("1.2.3", VSM),)), b"", b"<Signature/>", signed()[:-20],
    signed().replace(b"AA==", b"AB==")])
def test_a_signature_of_something_else(signature: bytes) -> None:
    found = verified(*lot(signature))
    assert found
    assert [finding.code for finding in found if not finding.code.startswith(("V-SEC-", "V-XML-"))] == []


def test_a_signature_even_where_none_is_asked_for() -> None:
    """Accepted means: when it is there, it must be right."""
    assert verified(*lot(signed(other_doctor())), required=False)
    assert verified(*lot(b"<x/>"), required=False)


def test_an_unknown_signer() -> None:
    (finding,) = verified(*lot(), cards=(other_doctor(),))
    assert finding.code.startswith("V-SEC")


def test_who_calls_without_a_card_is_not_compared() -> None:
    submission, known = lot()
    trust: Any = FakeTrust((doctor(),))
    assert list(submissions.check_signature(submission, known, Caller(), trust, NOW, True)) == []


def test_the_signature_is_exempt_from_the_rules_of_documents() -> None:
    """Masked and invisible at once, no CDA, no sourcePatientInfo: as the DMP's own sample has it."""
    submission, known = lot()
    assert list(submissions.check_entries(submission)) == []
    assert list(submissions.check_documents(submission, known)) == []


@pytest.mark.parametrize(("setting", "expected"), [
    (Signature.REQUIRED, ["V-DMP-SIGNATURE-MISSING"]), (Signature.ACCEPTED, []), (Signature.IGNORED, [])])
def test_the_setting(setting: Signature, expected: list[str]) -> None:
    profile = DmpProfile("domain", str, lambda: FakeTrust((doctor(),)), setting)  # type: ignore[arg-type, return-value]
    found = list(profile.check(whole(ENTRY), contents(Document01=VSM), Caller()))
    assert [finding.code for finding in found] == expected


def test_all_findings_at_once() -> None:
    profile = DmpProfile("domain", str, lambda: FakeTrust((doctor(),)))  # type: ignore[arg-type, return-value]
    entry = replace(ENTRY, unique_id="1.2.3", source_patient_info=(), confidentiality=(MASKED, UNSEEN))
    found = list(profile.check(whole(entry), contents(Document01=VSM), Caller()))
    assert [finding.code.removeprefix("V-DMP-") for finding in found] == [
        "PATIENT-INFO", "MASKING-COMBINED", "DOCUMENT-ID", "SIGNATURE-MISSING"]
