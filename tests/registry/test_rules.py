"""Each metadata rule that needs no database: a valid submission, one change, the finding expected and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.affinity import AffinityDomain, CodeList
from tests.registry.samples import (
    DOMAIN,
    OTHER,
    PATIENT,
    changed,
    check,
    code,
    document,
    folder,
    holds,
    link,
    shown,
    submission,
    the_set,
)
from xds import hl7
from xds.findings import Severity
from xds.model import Submission
from xds.rim import Classification, RegistryObject, Slot, localized
from xds.vocabulary import (
    APND,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    RELATIONSHIPS,
    RPLC,
    SIGNS,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY,
    XFRM,
    XFRM_RPLC,
)

META = "XDSRegistryMetadataError"
OLD = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"
Shown = list[tuple[str, str, str]]


def on(identity: str, **changes: object) -> Callable[[RegistryObject], RegistryObject]:
    """A change of one object."""
    return lambda thing: replace(thing, **changes) if thing.id == identity else thing  # type: ignore[arg-type]


def with_slot(identity: str, *slots: Slot) -> Submission:
    return changed(submission(), lambda thing: replace(thing, slots=(*thing.slots, *slots))
                   if thing.id == identity else thing)


def member(target: str = "Document01", status: str = "Original", identity: str = "Member") -> object:
    return link(HAS_MEMBER, "Set01", target, identity, submission_set_status=status)


# --- one object ----------------------------------------------------------------------------------------------------


def test_a_valid_submission_has_none() -> None:
    whole = submission(document(), document("Document02"), folder(), holds("Folder01", "Document01"),
                       link(RPLC, "Document01", OLD), link(SIGNS, "Document02", "Set01"))
    assert shown(check(whole)) == []


def test_a_slot_name_twice() -> None:
    whole = with_slot("Document01", Slot("urn:x", ("1",)), Slot("urn:x", ("2",)))
    assert shown(check(whole)) == [("V-REG-DUPLICATE-SLOT", "DocumentEntry(Document01)/urn:x", META)]


def test_a_slot_twice_has_too_many_values_too() -> None:
    whole = with_slot("Document01", Slot("size", ("0",)))
    assert shown(check(whole)) == [("V-REG-ATTRIBUTE-TOO-MANY", "DocumentEntry(Document01)/size", META),
                                   ("V-REG-DUPLICATE-SLOT", "DocumentEntry(Document01)/size", META)]


@pytest.mark.parametrize("values", [(), ("",), ("", "")])
def test_an_empty_slot(values: tuple[str, ...]) -> None:
    whole = with_slot("Set01", Slot("urn:x", values))
    assert shown(check(whole)) == [("V-REG-EMPTY-SLOT", "SubmissionSet(Set01)/urn:x", META)]


def test_a_required_slot_left_empty() -> None:
    whole = changed(submission(), lambda thing: replace(thing, slots=tuple(
        Slot(slot.name) if slot.name == "hash" else slot for slot in thing.slots)))
    assert shown(check(whole)) == [("V-REG-ATTRIBUTE-MISSING", "DocumentEntry(Document01)/hash", META),
                                   ("V-REG-EMPTY-SLOT", "DocumentEntry(Document01)/hash", META)]


def test_a_value_too_long() -> None:
    assert shown(check(with_slot("Document01", Slot("urn:x", ("é" * 256,))))) == []
    (found,) = check(with_slot("Document01", Slot("urn:x", ("é", "é" * 257))))
    assert shown([found]) == [("V-REG-VALUE-TOO-LONG", "DocumentEntry(Document01)/urn:x", META)]
    assert (found.expected, found.received) == ("256", "257")


def test_a_long_title_is_no_slot() -> None:
    assert shown(check(submission(document(comments=localized("x" * 5000))))) == []


@pytest.mark.parametrize("identity", ["Document01", "Set01"])
def test_a_classification_of_another_object(identity: str) -> None:
    def astray(thing: RegistryObject) -> RegistryObject:
        first, *others = thing.classifications
        return replace(thing, classifications=(replace(first, classified_object="Other"), *others))

    whole = changed(submission(), lambda thing: astray(thing) if thing.id == identity else thing)
    kind = {"Document01": "DocumentEntry", "Set01": "SubmissionSet"}[identity]
    (found,) = check(whole)
    assert shown([found]) == [("V-REG-CLASSIFIED-OBJECT", f"{kind}({identity})", META)]
    assert (found.expected, found.received) == (identity, "Other")


def test_an_identifier_of_another_object() -> None:
    def astray(thing: RegistryObject) -> RegistryObject:
        return replace(thing, external_identifiers=tuple(
            replace(item, registry_object="Other") for item in thing.external_identifiers[:1]
            ) + thing.external_identifiers[1:])

    whole = changed(submission(), lambda thing: astray(thing) if thing.id == "Document01" else thing)
    assert shown(check(whole)) == [("V-REG-CLASSIFIED-OBJECT", "DocumentEntry(Document01)", META)]


def domain(complete: bool = True, attribute: str = "classCode", *codes: tuple[str, str]) -> AffinityDomain:
    known = frozenset(codes or {("11", "1.2.3"), ("12", "1.2.3")})
    return replace(DOMAIN, codes={attribute: CodeList(complete, known)})


def test_a_code_of_the_domain() -> None:
    assert shown(check(submission(), domain=domain())) == []


@pytest.mark.parametrize("value", [code("99"), code("11", "1.2.4"), code("1"), code("11 ")])
def test_a_code_not_of_the_domain(value: object) -> None:
    (found,) = check(submission(document(class_code=value)), domain=domain())
    assert shown([found]) == [("V-REG-CODE-UNKNOWN", "DocumentEntry(Document01)/classCode", META)]
    assert found.severity is Severity.ERROR
    assert found.expected == "11, 12"


def test_a_list_that_is_not_complete_warns_only() -> None:
    (found,) = check(submission(document(class_code=code("99"))), domain=domain(False))
    assert (found.code, found.severity) == ("V-REG-CODE-UNKNOWN", Severity.WARNING)


@pytest.mark.parametrize(("attribute", "whole", "path"), [
    ("typeCode", submission(document()), "DocumentEntry(Document01)/typeCode"),
    ("formatCode", submission(document()), "DocumentEntry(Document01)/formatCode"),
    ("practiceSettingCode", submission(document()), "DocumentEntry(Document01)/practiceSettingCode"),
    ("healthcareFacilityTypeCode", submission(document()), "DocumentEntry(Document01)/healthcareFacilityTypeCode"),
    ("eventCodeList", submission(document()), "DocumentEntry(Document01)/eventCodeList"),
    ("confidentialityCode", submission(document()), "DocumentEntry(Document01)/confidentialityCode"),
    ("contentTypeCode", submission(), "SubmissionSet(Set01)/contentTypeCode"),
    ("codeList", submission(folder()), "Folder(Folder01)/codeList"),
    ("associationDocumentation", submission(document(), link(
        RPLC, "Document01", OLD, "Relation", documentation=(code("MOTIF"),))),
     "Association(Relation)/associationDocumentation"),
])
def test_every_coded_attribute_is_looked_up(attribute: str, whole: Submission, path: str) -> None:
    """Plan 12370/not_configured asks for the last one."""
    found = check(whole, domain=domain(True, attribute, ("none", "none")))
    assert shown(found) == [("V-REG-CODE-UNKNOWN", path, META)]


def test_each_of_several_codes_is_looked_up() -> None:
    entry = document(confidentiality=(code("11"), code("X"), code("12"), code("Y")))
    found = check(submission(entry), domain=domain(True, "confidentialityCode"))
    assert [one.received for one in found] == ["X^^1.2.3", "Y^^1.2.3"]


def test_a_media_type_not_of_the_domain() -> None:
    admitting = replace(DOMAIN, mime_types=frozenset({"text/xml"}))
    assert shown(check(submission(), domain=admitting)) == []
    found = check(submission(document(mime_type="text/plain")), domain=admitting)
    assert shown(found) == [("V-REG-MIME-UNKNOWN", "DocumentEntry(Document01)/mimeType", META)]


# --- the whole submission ------------------------------------------------------------------------------------------


def test_two_objects_of_one_id() -> None:
    whole = submission(document(), document("Set01"))
    assert ("V-REG-DUPLICATE-ID", "DocumentEntry(Set01)", META) in shown(check(whole))


def test_two_nested_elements_of_one_id() -> None:
    def alike(thing: RegistryObject) -> RegistryObject:
        return replace(thing, classifications=tuple(replace(item, id="Same") if n < 2 else item
                                                    for n, item in enumerate(thing.classifications)))

    whole = changed(submission(), lambda thing: alike(thing) if thing.id == "Document01" else thing)
    assert shown(check(whole)) == [("V-REG-DUPLICATE-ID", "DocumentEntry(Document01)", META)]


def test_a_package_that_is_neither_set_nor_folder() -> None:
    whole = submission(document(), folder())
    whole = changed(whole, lambda thing: None if thing.target == "Folder01" else replace(
        thing, classifications=()) if thing.id == "Folder01" else thing)
    assert shown(check(whole)) == [("V-REG-PACKAGE-UNKNOWN", "RegistryPackage(Folder01)", META)]


def test_no_set() -> None:
    whole = changed(submission(document()), lambda thing: None if thing.id == "Set01" or thing.source else thing)
    (found,) = check(whole)
    assert (found.code, found.expected, found.received, found.xds) == ("V-REG-SET-NUMBER", "1", "0", META)


def test_two_sets() -> None:
    found = check(submission(document(), the_set(), the_set("Set02")))
    assert [(one.code, one.received, one.xds) for one in found] == [("V-REG-SET-NUMBER", "2", META)]


def test_an_empty_set() -> None:
    assert shown(check(submission(the_set()))) == [("V-REG-SET-EMPTY", "SubmissionSet(Set01)", META)]


@pytest.mark.parametrize("whole", [
    submission(folder()),
    submission(the_set(), link(HAS_MEMBER, "Set01", OLD, submission_set_status="Reference")),
    submission(the_set(), holds(OLD, OLD.replace("1", "2"))),
], ids=["a folder", "a reference", "an older document into an older folder"])
def test_a_set_without_a_document(whole: Submission) -> None:
    assert shown(check(whole)) == []


@pytest.mark.parametrize(("target", "kind"), [
    ("Document01", "DocumentEntry"), ("Folder01", "Folder"), ("Inner", "Association")])
def test_what_the_set_does_not_hold(target: str, kind: str) -> None:
    whole = submission(document(), folder(), holds("Folder01", "Document01", "Inner"))
    whole = changed(whole, lambda thing: None if thing.source == "Set01" and thing.target == target else thing)
    assert shown(check(whole)) == [("V-REG-NOT-IN-SET", f"{kind}({target})", META)]


@pytest.mark.parametrize(("target", "kind"), [
    ("Document01", "DocumentEntry"), ("Folder01", "Folder"), ("Inner", "Association")])
def test_what_the_set_holds_twice(target: str, kind: str) -> None:
    status = "Original" if target == "Document01" else ""
    more = [member(target, status, identity) for identity in ("One", "Two")]
    whole = submission(document(), folder(), holds("Folder01", "Document01", "Inner"), *more)  # type: ignore[arg-type]
    assert shown(check(whole)) == [("V-REG-NOT-IN-SET", f"{kind}({target})", META)]


@pytest.mark.parametrize("kind", sorted(RELATIONSHIPS))
@pytest.mark.parametrize("source", ["Set01", "Folder01", OLD])
def test_a_relationship_starts_at_a_new_document(kind: str, source: str) -> None:
    found = check(submission(document(), folder(), link(kind, source, OLD.replace("1", "2"), "Relation")))
    assert shown(found) == [("V-REG-ASSOCIATION-SOURCE", "Association(Relation)/sourceObject", META)]


@pytest.mark.parametrize("kind", sorted(RELATIONSHIPS - {SIGNS}))
def test_a_relationship_does_not_lead_to_the_set(kind: str) -> None:
    found = check(submission(document(), link(kind, "Document01", "Set01", "Relation")))
    assert shown(found) == [("V-REG-ASSOCIATION-TARGET", "Association(Relation)/targetObject", META)]


@pytest.mark.parametrize("kind", sorted(RELATIONSHIPS))
def test_a_relationship_does_not_lead_to_a_folder(kind: str) -> None:
    found = check(submission(document(), folder(), link(kind, "Document01", "Folder01", "Relation")))
    assert shown(found) == [("V-REG-ASSOCIATION-TARGET", "Association(Relation)/targetObject", META)]


@pytest.mark.parametrize("kind", [RPLC, XFRM_RPLC, IS_SNAPSHOT_OF])
def test_what_is_replaced_is_in_the_registry_already(kind: str) -> None:
    found = check(submission(document(), document("Document02"), link(kind, "Document01", "Document02", "Relation")))
    assert shown(found) == [("V-REG-ASSOCIATION-TARGET", "Association(Relation)/targetObject", META)]


@pytest.mark.parametrize("kind", [APND, XFRM, SIGNS])
def test_other_relationships_may_join_two_new_documents(kind: str) -> None:
    assert shown(check(submission(document(), document("Document02"), link(kind, "Document01", "Document02")))) == []


def test_nothing_holds_the_set() -> None:
    found = check(submission(document(), folder(), holds("Folder01", "Set01", "Inner")))
    assert shown(found) == [("V-REG-ASSOCIATION-TARGET", "Association(Inner)/targetObject", META)]


def test_a_document_holds_nothing() -> None:
    found = check(submission(document(), document("Document02"), holds("Document02", "Document01", "Inner")))
    assert shown(found) == [("V-REG-ASSOCIATION-SOURCE", "Association(Inner)/sourceObject", META)]


@pytest.mark.parametrize("target", ["Folder02", "Other"])
def test_a_folder_holds_documents_only(target: str) -> None:
    whole = submission(document(), folder(), folder("Folder02"), holds("Folder02", "Document01", "Other"),
                       holds("Folder01", target, "Inner"))
    assert shown(check(whole)) == [("V-REG-ASSOCIATION-TARGET", "Association(Inner)/targetObject", META)]


@pytest.mark.parametrize(("status", "target"), [
    ("", "Document01"), ("Reference", "Document01"), ("", OLD), ("Original", OLD)])
def test_submission_set_status(status: str, target: str) -> None:
    parts = [document(), member(target, status)]
    (found,) = check(submission(*parts))  # type: ignore[arg-type]
    assert shown([found]) == [("V-REG-SET-STATUS", "Association(Member)/SubmissionSetStatus", META)]
    assert found.expected == ("Original" if target == "Document01" else "Reference")
    assert found.received == status


def test_submission_set_status_on_a_link_of_a_folder() -> None:
    whole = submission(document(), folder(), holds("Folder01", "Document01", "Inner",
                                                   submission_set_status="Original"))
    assert shown(check(whole)) == [("V-REG-SET-STATUS", "Association(Inner)/SubmissionSetStatus", META)]


@pytest.mark.parametrize("kind", [RPLC, XFRM, XFRM_RPLC, APND])
def test_documentation(kind: str) -> None:
    relation = link(kind, "Document01", OLD, "Relation", documentation=(code("MOTIF"),))
    assert shown(check(submission(document(), relation))) == []


@pytest.mark.parametrize("relation", [
    link(SIGNS, "Document01", "Set01", "Relation", documentation=(code("MOTIF"),)),
    link(IS_SNAPSHOT_OF, "Document01", OLD, "Relation", documentation=(code("MOTIF"),)),
    link(HAS_MEMBER, "Set01", "Document01", "Relation", submission_set_status="Original",
         documentation=(code("MOTIF"),)),
])
def test_documentation_misplaced(relation: object) -> None:
    whole = submission(document(), relation)  # type: ignore[arg-type]
    assert shown(check(whole)) == [("V-REG-DOCUMENTATION-MISPLACED", "Association(Relation)", META)]


@pytest.mark.parametrize("transaction", ["ITI-41", "ITI-42"])
@pytest.mark.parametrize("kind", [UPDATE_AVAILABILITY, SUBMIT_ASSOCIATION])
def test_an_update_in_the_wrong_transaction(transaction: str, kind: str) -> None:
    """Plan 21000."""
    found = check(submission(document(), link(kind, "Set01", OLD, "Update")), transaction)
    assert shown(found) == [("V-REG-WRONG-TRANSACTION", "Association(Update)", META)]


def test_a_new_version_in_the_wrong_transaction() -> None:
    """What ITI-57 takes: a lid that is not the id; silently making it a first version would fork the document."""
    whole = changed(submission(), on("Document01", lid=OLD))
    assert shown(check(whole)) == [("V-REG-LOGICAL-ID", "DocumentEntry(Document01)/logicalID", META)]
    assert shown(check(changed(submission(), on("Document01", lid="Document01")))) == []


@pytest.mark.parametrize(("transaction", "object_type"), [("ITI-42", ON_DEMAND), ("ITI-41", ON_DEMAND)])
def test_an_entry_of_the_type_of_another_transaction(transaction: str, object_type: str) -> None:
    found = check(submission(document(object_type=object_type)), transaction)
    assert shown(found) == [("V-REG-OBJECT-TYPE", "DocumentEntry(Document01)/objectType", META)]


def test_a_stable_entry_is_not_registered_on_demand() -> None:
    entry = document(creation_time="", hash="", size="", legal_authenticator="")
    assert shown(check(submission(entry), "ITI-61")) == [
        ("V-REG-OBJECT-TYPE", "DocumentEntry(Document01)/objectType", META)]


# --- patients, identifiers, times ----------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [
    submission(document(patient_id=OTHER)), submission(folder(patient_id=OTHER)),
    submission(document(), document("Document02", patient_id=OTHER)),
    submission(document(patient_id=PATIENT.replace(".10&", ".11&"))),
])
def test_patients_that_differ(whole: Submission) -> None:
    """Plans 11986 and 11997; no one asks yet whether any of them is known."""
    assert [(found.code, found.xds) for found in check(whole)] == [
        ("V-REG-PATIENTS-DIFFER", "XDSPatientIdDoesNotMatch")]


def test_a_type_of_identifier_does_not_make_another_patient() -> None:
    assert shown(check(submission(document(patient_id=PATIENT.removesuffix("^NH")), folder(patient_id=PATIENT.replace(
        "^NH", "^PI"))))) == []


def test_a_malformed_patient_is_told_once() -> None:
    found = check(submission(document(patient_id="123")))
    assert shown(found) == [("V-REG-ATTRIBUTE-MALFORMED", "DocumentEntry(Document01)/patientId", META)]


def test_the_source_patient_is_not_compared() -> None:
    assert shown(check(submission(document(source_patient_id=OTHER)))) == []


@pytest.mark.parametrize("parts", [
    (document(unique_id="1.2.3"), document("Document02", unique_id="1.2.3")),
    (document(unique_id="1.2.3"), the_set(unique_id="1.2.3")),
    (folder(unique_id="1.2.3"), the_set(unique_id="1.2.3")),
    (document(unique_id="1.2.3"), folder(unique_id="1.2.3")),
])
def test_a_unique_id_twice(parts: tuple[object, ...]) -> None:
    (found,) = check(submission(*parts))  # type: ignore[arg-type]
    assert (found.code, found.xds) == ("V-REG-UNIQUE-ID-TWICE", "XDSRegistryDuplicateUniqueIdInMessage")
    assert found.where.path.endswith("/uniqueId")


def test_an_extension_makes_another_unique_id() -> None:
    assert shown(check(submission(document(unique_id="1.2.3"), document("Document02", unique_id="1.2.3^1")))) == []


@pytest.mark.parametrize(("start", "stop"), [
    ("20250103", "20250102"), ("2026", "20250101"), ("20250101", "2024"), ("20250101120001", "20250101120000")])
def test_times_reversed(start: str, stop: str) -> None:
    found = check(submission(document(service_start=start, service_stop=stop)))
    assert shown(found) == [("V-REG-TIMES-REVERSED", "DocumentEntry(Document01)/serviceStartTime", META)]


times = st.datetimes().map(lambda moment: moment.strftime("%Y%m%d%H%M%S").zfill(14))
precisions = st.sampled_from([4, 6, 8, 10, 12, 14])


@given(times, times, precisions, precisions)
def test_times_reversed_in_any_precision(one: str, other: str, width: int, other_width: int) -> None:
    """Reversed only where no moment of the start is at or before a moment of the stop."""
    start, stop = one[:width], other[:other_width]
    found = check(submission(document(service_start=start, service_stop=stop)))
    wrong = hl7.DTM.parse(start).lower_bound > hl7.DTM.parse(stop).upper_bound
    assert [one.code for one in found] == (["V-REG-TIMES-REVERSED"] if wrong else [])


# --- all at once ---------------------------------------------------------------------------------------------------


def test_all_findings_of_a_submission_at_once() -> None:
    whole = submission(
        document(language="", mime_type="x", service_start="2026", service_stop="2025"),
        folder(patient_id=OTHER), link(RPLC, "Set01", "Set01", "Relation", documentation=(code("M"),)),
        link(SUBMIT_ASSOCIATION, "Set01", OLD))
    whole = changed(whole, lambda thing: None if thing.target == "Folder01" else thing)
    assert {found.code for found in check(whole)} == {
        "V-REG-ATTRIBUTE-MISSING", "V-REG-ATTRIBUTE-MALFORMED", "V-REG-TIMES-REVERSED", "V-REG-PATIENTS-DIFFER",
        "V-REG-ASSOCIATION-SOURCE", "V-REG-ASSOCIATION-TARGET", "V-REG-WRONG-TRANSACTION", "V-REG-NOT-IN-SET"}


def test_a_stranger_among_the_classifications_is_no_finding() -> None:
    def with_stranger(thing: RegistryObject) -> RegistryObject:
        extra = Classification("urn:uuid:00000000-0000-4000-8000-00000000000f", "", "x", thing.id, "Stranger")
        return replace(thing, classifications=(*thing.classifications, extra))

    whole = changed(submission(), lambda thing: with_stranger(thing) if thing.id == "Document01" else thing)
    assert shown(check(whole)) == []


@pytest.mark.parametrize("part", [document(), folder()])
def test_a_set_that_holds_nothing_though_something_is_there(part: object) -> None:
    """Not empty: what is there is not in it."""
    whole = changed(submission(part), lambda thing: None if thing.source else thing)  # type: ignore[arg-type]
    assert [found.code for found in check(whole)] == ["V-REG-NOT-IN-SET"]


@pytest.mark.parametrize("stop", ["2024-01-01", "hier", ""])
def test_times_of_which_one_is_none_are_not_compared(stop: str) -> None:
    codes = [found.code for found in check(submission(document(service_start="20250102", service_stop=stop)))]
    assert codes == (["V-REG-ATTRIBUTE-MALFORMED"] if stop else [])


def test_no_media_type_is_missing_and_not_unknown_too() -> None:
    found = check(submission(document(mime_type="")), domain=replace(DOMAIN, mime_types=frozenset({"text/xml"})))
    assert shown(found) == [("V-REG-ATTRIBUTE-MISSING", "DocumentEntry(Document01)/mimeType", META)]


def test_an_update_where_it_belongs() -> None:
    """A lid of its own and the associations of ITI-57: `registry.update` judges them."""
    whole = changed(submission(document(), link(UPDATE_AVAILABILITY, "Set01", OLD)), on("Document01", lid=OLD))
    assert shown(check(whole, "ITI-57")) == []
