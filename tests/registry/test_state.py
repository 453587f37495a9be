"""Each rule about what the registry holds already: one change, the finding with its XDS code, and nothing kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from registry import tables
from registry.register import Registry, register
from tests.registry.samples import (
    AUTHOR,
    OTHER,
    PATIENT,
    SHA1,
    STRANGER,
    ask,
    document,
    find,
    folder,
    fresh_oid,
    get,
    holds,
    link,
    listed,
    put,
    replacing,
    shown,
    status_of,
    submission,
    the_set,
)
from xds.findings import Refused
from xds.model import Submission
from xds.vocabulary import APND, HAS_MEMBER, IS_SNAPSHOT_OF, ON_DEMAND, RELATIONSHIPS, RPLC, SIGNS, XFRM, XFRM_RPLC

META = "XDSRegistryMetadataError"
NOWHERE = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"
Count = Callable[[Registry], dict[str, int]]


def counts(registry: Registry) -> dict[str, int]:
    """Rows of every table but the code book, which only grows and tells nothing."""
    with registry.database.read() as connection:
        return {name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in tables.metadata.tables.items() if name != "code"}


def refused(registry: Registry, whole: Submission) -> list[tuple[str, str, str]]:
    """The findings of a refusal that left no row anywhere."""
    before = counts(registry)
    with pytest.raises(Refused) as caught:
        register(registry, whole)
    assert counts(registry) == before
    return shown(caught.value.findings)


# --- patient -------------------------------------------------------------------------------------------------------


def test_an_unknown_patient(registry: Registry) -> None:
    """Plan 11996."""
    whole = submission(document(patient_id=STRANGER), patient_id=STRANGER)
    assert refused(registry, whole) == [("V-REG-PATIENT-UNKNOWN", "patientId", "XDSUnknownPatientId")]


@pytest.mark.parametrize("patient", [PATIENT.replace(".10&", ".11&"), PATIENT.replace("2999", "2998")])
def test_another_authority_or_id_is_another_patient(registry: Registry, patient: str) -> None:
    whole = submission(document(patient_id=patient), patient_id=patient)
    assert [code for code, _, _ in refused(registry, whole)] == ["V-REG-PATIENT-UNKNOWN"]


def test_a_source_patient_need_not_be_known(registry: Registry) -> None:
    assert put(registry, document(source_patient_id=STRANGER))


# --- uniqueId ------------------------------------------------------------------------------------------------------


def test_a_set_whose_unique_id_is_used(registry: Registry) -> None:
    """Plan 15806."""
    put(registry, unique_id="1.2.3")
    assert refused(registry, submission(unique_id="1.2.3")) == [
        ("V-REG-UNIQUE-ID-USED", "SubmissionSet(Set01)/uniqueId", "XDSDuplicateUniqueIdInRegistry")]


@pytest.mark.parametrize("earlier", [
    submission(document(unique_id="1.2.3")), submission(folder(unique_id="1.2.3")), submission(unique_id="1.2.3")])
@pytest.mark.parametrize(("kind", "whole"), [
    ("SubmissionSet(Set01)", lambda: submission(unique_id="1.2.3")),
    ("Folder(Folder01)", lambda: submission(folder(unique_id="1.2.3")))])
def test_a_unique_id_used_by_anything(registry: Registry, earlier: Submission, kind: str,
                                      whole: Callable[[], Submission]) -> None:
    register(registry, earlier)
    assert refused(registry, whole()) == [
        ("V-REG-UNIQUE-ID-USED", f"{kind}/uniqueId", "XDSDuplicateUniqueIdInRegistry")]


@pytest.mark.parametrize("earlier", [submission(folder(unique_id="1.2.3")), submission(unique_id="1.2.3")])
def test_a_document_with_the_unique_id_of_something_else(registry: Registry, earlier: Submission) -> None:
    register(registry, earlier)
    assert refused(registry, submission(document(unique_id="1.2.3"))) == [
        ("V-REG-UNIQUE-ID-USED", "DocumentEntry(Document01)/uniqueId", "XDSDuplicateUniqueIdInRegistry")]


def test_a_unique_id_used_by_another_patient(registry: Registry) -> None:
    put(registry, document(patient_id=OTHER), patient_id=OTHER, unique_id="1.2.3")
    assert [xds for *_, xds in refused(registry, submission(unique_id="1.2.3"))] == ["XDSDuplicateUniqueIdInRegistry"]


def test_the_same_document_with_other_content(registry: Registry) -> None:
    """Plan 12004, third step."""
    put(registry, document(unique_id="1.2.3"))
    whole = submission(document(unique_id="1.2.3", hash="0" * 40))
    assert refused(registry, whole) == [
        ("V-REG-HASH-DIFFERS", "DocumentEntry(Document01)/uniqueId", "XDSNonIdenticalHash")]


def test_the_same_document_of_another_size(registry: Registry) -> None:
    put(registry, document(unique_id="1.2.3"))
    assert refused(registry, submission(document(unique_id="1.2.3", size="7"))) == [
        ("V-REG-SIZE-DIFFERS", "DocumentEntry(Document01)/uniqueId", "XDSNonIdenticalSize")]


def test_the_same_document_again(registry: Registry) -> None:
    """Plan 12004: a second entry; the case of the hash does not matter."""
    put(registry, document(unique_id="1.2.3"))
    put(registry, document(unique_id="1.2.3", hash=SHA1.upper(), size="00"))
    found = ask(registry, "GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId="('1.2.3')")
    assert len(set(found.refs)) == 2
    assert [code for code, *_ in refused(registry, submission(document(unique_id="1.2.3", hash="1" * 40)))] == [
        "V-REG-HASH-DIFFERS"]


# --- entryUUID -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spell", [str.lower, lambda text: text[:9] + text[9:].upper()])
@pytest.mark.parametrize("symbol", ["Document01", "Set01"])
def test_an_entry_uuid_that_is_there(registry: Registry, symbol: str, spell: Callable[[str], str]) -> None:
    there = spell(put(registry).ids[symbol])
    assert refused(registry, submission(document(there))) == [
        ("V-REG-UUID-USED", f"DocumentEntry({there})/entryUUID", META)]


def test_a_symbol_like_a_unique_id_is_a_symbol(registry: Registry) -> None:
    put(registry, document("1.2.3", unique_id="1.2.3"))
    again = put(registry, document("1.2.3", unique_id="1.2.3"))
    assert again.ids["1.2.3"].startswith("urn:uuid:")


def test_a_symbol_like_a_unique_id_leads_nowhere(registry: Registry) -> None:
    put(registry, document(unique_id="1.2.3"))
    whole = submission(document(unique_id="1.2.3"), link(APND, "Document01", "1.2.3", "Relation"))
    assert refused(registry, whole) == [
        ("V-REG-REFERENCE-UNRESOLVED", "Association(Relation)/targetObject", "UnresolvedReferenceException")]


# --- links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(RELATIONSHIPS))
@pytest.mark.parametrize("target", [NOWHERE, "Document99"])
def test_a_target_that_is_nowhere(registry: Registry, kind: str, target: str) -> None:
    whole = submission(document(), link(kind, "Document01", target, "Relation"))
    assert refused(registry, whole) == [
        ("V-REG-REFERENCE-UNRESOLVED", "Association(Relation)/targetObject", "UnresolvedReferenceException")]


def test_a_folder_or_a_member_that_is_nowhere(registry: Registry) -> None:
    whole = submission(document(), folder(), holds(NOWHERE, "Document01", "One"), holds("Folder01", NOWHERE, "Two"))
    assert refused(registry, whole) == [
        ("V-REG-REFERENCE-UNRESOLVED", "Association(One)/sourceObject", "UnresolvedReferenceException"),
        ("V-REG-REFERENCE-UNRESOLVED", "Association(Two)/targetObject", "UnresolvedReferenceException")]


def elsewhere(registry: Registry) -> dict[str, str]:
    """Objects of the other patient."""
    return dict(put(registry, document(patient_id=OTHER), folder(patient_id=OTHER), patient_id=OTHER).ids)


@pytest.mark.parametrize("kind", [RPLC, XFRM, XFRM_RPLC, APND, SIGNS])
def test_a_target_of_another_patient(registry: Registry, kind: str) -> None:
    """Plan 11998."""
    old = elsewhere(registry)["Document01"]
    assert refused(registry, submission(document(), link(kind, "Document01", old, "Relation"))) == [
        ("V-REG-PATIENT-OF-LINK", "Association(Relation)/targetObject", "XDSPatientIdDoesNotMatch")]
    assert find(registry, patient=OTHER).documents[0].status.endswith("Approved")


def test_a_folder_of_another_patient(registry: Registry) -> None:
    """Plan 12002."""
    there = elsewhere(registry)
    whole = submission(document(), holds(there["Folder01"], "Document01", "Inner"))
    assert refused(registry, whole) == [
        ("V-REG-PATIENT-OF-LINK", "Association(Inner)/sourceObject", "XDSPatientIdDoesNotMatch")]
    assert ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=f"'{there['Folder01']}'").counts == (0, 0, 1, 0)


def test_a_document_of_another_patient_by_reference(registry: Registry) -> None:
    old = elsewhere(registry)["Document01"]
    whole = submission(the_set(), link(HAS_MEMBER, "Set01", old, "Member", submission_set_status="Reference"))
    assert refused(registry, whole) == [
        ("V-REG-PATIENT-OF-LINK", "Association(Member)/targetObject", "XDSPatientIdDoesNotMatch")]


@pytest.mark.parametrize("kind", [RPLC, XFRM, XFRM_RPLC, APND, SIGNS])
def test_a_deprecated_target(registry: Registry, kind: str) -> None:
    """Plans 11993 and 11994: the second addendum or transformation is refused."""
    old = put(registry).ids["Document01"]
    put(registry, *replacing(old))
    assert refused(registry, submission(document(), link(kind, "Document01", old, "Relation"))) == [
        ("V-REG-TARGET-DEPRECATED", "Association(Relation)/targetObject", "XDSRegistryDeprecatedDocumentError")]


def test_a_deprecated_member(registry: Registry) -> None:
    old = put(registry).ids["Document01"]
    put(registry, *replacing(old))
    by_reference = link(HAS_MEMBER, "Set01", old, "Member", submission_set_status="Reference")
    assert refused(registry, submission(the_set(), by_reference, folder(), holds("Folder01", old, "Inner"))) == [
        ("V-REG-TARGET-DEPRECATED", "Association(Member)/targetObject", "XDSRegistryDeprecatedDocumentError"),
        ("V-REG-TARGET-DEPRECATED", "Association(Inner)/targetObject", "XDSRegistryDeprecatedDocumentError")]


def one_of_each(registry: Registry) -> dict[str, str]:
    """A set with a document in a folder: symbol -> entryUUID, the links too."""
    return dict(put(registry, document(), folder(), holds("Folder01", "Document01", "Inner")).ids)


@pytest.mark.parametrize("kind", [RPLC, XFRM, XFRM_RPLC, APND])
@pytest.mark.parametrize("target", ["Set01", "Folder01", "Inner"])
def test_a_relationship_leads_to_documents_only(registry: Registry, kind: str, target: str) -> None:
    there = one_of_each(registry)
    assert refused(registry, submission(document(), link(kind, "Document01", there[target], "Relation"))) == [
        ("V-REG-ASSOCIATION-TARGET", "Association(Relation)/targetObject", META)]


@pytest.mark.parametrize("target", ["Document01", "Set01"])
def test_a_signature_of_a_document_or_of_a_set(registry: Registry, target: str) -> None:
    there = one_of_each(registry)
    assert put(registry, document(), link(SIGNS, "Document01", there[target]))


@pytest.mark.parametrize("source", ["Document01", "Set01", "Inner"])
def test_only_folders_and_the_new_set_hold_something(registry: Registry, source: str) -> None:
    there = one_of_each(registry)
    assert refused(registry, submission(document(), holds(there[source], "Document01", "Member"))) == [
        ("V-REG-ASSOCIATION-SOURCE", "Association(Member)/sourceObject", META)]


@pytest.mark.parametrize("target", ["Set01", "Folder01", "Inner"])
def test_a_folder_holds_documents_only(registry: Registry, target: str) -> None:
    there = one_of_each(registry)
    assert refused(registry, submission(folder(), holds("Folder01", there[target], "Member"))) == [
        ("V-REG-ASSOCIATION-TARGET", "Association(Member)/targetObject", META)]


def test_a_set_does_not_hold_a_set(registry: Registry) -> None:
    there = one_of_each(registry)
    member = link(HAS_MEMBER, "Set01", there["Set01"], "Member", submission_set_status="Reference")
    assert refused(registry, submission(document(), member)) == [
        ("V-REG-ASSOCIATION-TARGET", "Association(Member)/targetObject", META)]


def on_demand() -> Submission:
    return submission(document(object_type=ON_DEMAND, creation_time="", hash="", size="", legal_authenticator=""))


def test_a_snapshot_is_of_an_entry_on_demand(registry: Registry) -> None:
    """Plan 15805."""
    source = register(registry, on_demand()).ids["Document01"]
    stable = put(registry).ids["Document01"]
    assert put(registry, document(), link(IS_SNAPSHOT_OF, "Document01", source))
    assert refused(registry, submission(document(), link(IS_SNAPSHOT_OF, "Document01", stable, "Relation"))) == [
        ("V-REG-ASSOCIATION-TARGET", "Association(Relation)/targetObject", META)]


def test_ends_may_be_written_in_upper_case(registry: Registry) -> None:
    old = put(registry).ids["Document01"]
    put(registry, *replacing(old[:9] + old[9:].upper()))
    assert status_of(registry, old) == "Deprecated"
    assert {one.target for one in ask(registry, "GetAssociations", uuid=listed(old)).associations} == {old}


# --- all at once ---------------------------------------------------------------------------------------------------


def test_all_findings_at_once(registry: Registry) -> None:
    put(registry, document(unique_id="1.2.3"), unique_id="1.2.4")
    there = elsewhere(registry)
    whole = submission(
        document(unique_id="1.2.3", hash="0" * 40), folder(unique_id="1.2.4"), link(RPLC, "Document01", NOWHERE),
        link(APND, "Document01", there["Document01"]), holds(there["Folder01"], "Document01"), unique_id="1.2.3")
    assert sorted(xds for *_, xds in refused(registry, whole)) == sorted([
        "XDSNonIdenticalHash", "XDSDuplicateUniqueIdInRegistry", "XDSDuplicateUniqueIdInRegistry",
        "UnresolvedReferenceException", "XDSPatientIdDoesNotMatch", "XDSPatientIdDoesNotMatch"])


def test_what_was_refused_may_come_again(registry: Registry) -> None:
    """Nothing of a refused submission holds an identifier."""
    entry, unique_id = document(authors=(AUTHOR,)), fresh_oid()
    refused(registry, submission(entry, link(RPLC, "Document01", NOWHERE), unique_id=unique_id))
    ids = put(registry, entry, unique_id=unique_id).ids
    assert get(registry, ids["Document01"]).documents[0].unique_id == entry.unique_id
