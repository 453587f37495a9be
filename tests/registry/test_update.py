"""Operations of an update (ITI-57): statuses, links, and nothing else; a refusal changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.register import Registry, register
from registry.update import update as update_document_set
from tests.registry.changes import (
    SET,
    again,
    codes,
    doc,
    ends,
    events,
    instead,
    linked,
    links,
    one_entry,
    one_filed,
    refusal,
    request,
    restate,
    restated,
    send,
    version,
    versions,
)
from tests.registry.samples import (
    ask,
    code,
    document,
    find,
    folder,
    holds,
    link,
    listed,
    put,
    quoted,
    submission,
)
from xds.findings import Refused
from xds.model import Association, DocumentEntry
from xds.vocabulary import (
    APND,
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    RPLC,
    SIGNS,
    XFRM,
)

NOWHERE = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"
GIVEN = "urn:uuid:6c1b0c5e-0002-4000-8000-00000000000a"


@pytest.fixture
def entry(registry: Registry) -> DocumentEntry:
    return one_entry(registry)


@pytest.fixture
def filed(registry: Registry) -> dict[str, str]:
    return one_filed(registry)


# --- nothing else in the request -----------------------------------------------------------------------------------


def test_what_no_operation_is_about(registry: Registry, entry: DocumentEntry, filed: dict[str, str]) -> None:
    """A document, a folder, a link and a membership that would be registered without any check."""
    new = again(entry)
    parts = (document("Document77"), folder("Folder77"), link(APND, entry.id, filed["D"], "Link77"),
             holds(SET, filed["D"], "Member77", submission_set_status="Reference"),
             holds(filed["F"], entry.id, "Member78"))
    told = refusal(registry, new, instead(new), *parts)
    assert {path for _, path, _ in told} == {
        "DocumentEntry(Document77)", "Folder(Folder77)", "Association(Link77)", "Association(Member77)",
        "Association(Member78)"}
    assert {(code, xds) for code, _, xds in told} == {
        ("V-UPD-NOT-AN-OPERATION", "XDSMetadataUpdateOperationError")}


def test_an_operation_that_does_not_start_at_the_set(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry)
    one = instead(new)
    for part in (replace(one, source=entry.id, submission_set_status=""),
                 restated(entry.id, APPROVED, source=entry.id), linked(one, source=entry.id)):
        told = refusal(registry, new, part)
        assert {code for code, _, _ in told} == {"V-UPD-NOT-AN-OPERATION"}


def test_a_request_without_any_operation(registry: Registry) -> None:
    assert codes(registry) == ["XDSRegistryMetadataError"], "a set with nothing in it"
    with pytest.raises(Refused) as caught:
        update_document_set(registry, request())
    assert [finding.xds for finding in caught.value.findings] == ["XDSMetadataUpdateOperationError"]


def test_a_first_registration_goes_by_another_transaction(registry: Registry) -> None:
    body = submission(document(), folder(), holds("Folder01", "Document01"))
    told = refusal(registry, *body.sets, *body.documents, *body.folders, *body.associations)
    assert {code for code, _, _ in told} == {"V-UPD-FIRST-VERSION", "V-UPD-PREVIOUS-MISSING", "V-UPD-NOT-AN-OPERATION"}


@pytest.mark.parametrize("name", ["OriginalStatus", "NewStatus"])
def test_slots_of_a_status_on_a_membership(registry: Registry, entry: DocumentEntry, name: str) -> None:
    new = again(entry)
    one = instead(new, **{name: APPROVED})
    assert refusal(registry, new, one) == [
        ("V-UPD-SLOT", f"Association({one.id})/{name}", "XDSMetadataUpdateOperationError")]


@pytest.mark.parametrize("name", ["PreviousVersion", "AssociationPropagation"])
def test_slots_of_a_version_on_a_status(registry: Registry, entry: DocumentEntry, name: str) -> None:
    one = restated(entry.id, APPROVED, **{name: "yes"})
    assert refusal(registry, one) == [
        ("V-UPD-SLOT", f"Association({one.id})/{name}", "XDSMetadataUpdateOperationError")]


# --- statuses ------------------------------------------------------------------------------------------------------


def test_a_status_changes_no_version(registry: Registry, entry: DocumentEntry) -> None:
    restate(registry, entry.id)
    assert versions(registry, entry.lid) == [("1", entry.id, "Deprecated")]
    restate(registry, entry.id.upper().replace("URN:UUID", "urn:uuid"), DEPRECATED)
    assert versions(registry, entry.lid) == [("1", entry.id, "Approved")]


def test_the_status_of_an_older_version_is_history(registry: Registry, entry: DocumentEntry) -> None:
    version(registry, entry)
    one = restated(entry.id, DEPRECATED)
    assert refusal(registry, one) == [
        ("V-UPD-STATE", f"Association({one.id})/targetObject", "XDSMetadataUpdateError")]


def test_a_version_whose_status_changes_in_the_same_request(registry: Registry, entry: DocumentEntry) -> None:
    """The new version gets it, the old one is deprecated as ever (§3.57.4.1.3.1), whichever of them is named."""
    for previous in ("1", "2"):
        new = again(entry)
        target = new.id if previous == "1" else versions(registry, entry.lid)[-1][1]
        made = send(registry, new, instead(new, previous), restated(target, APPROVED))
        assert doc(registry, made[new.id]).status == DEPRECATED
        restate(registry, made[new.id], DEPRECATED)
    assert [(number, status) for number, _, status in versions(registry, entry.lid)] == [
        ("1", "Deprecated"), ("2", "Deprecated"), ("3", "Approved")]


def test_the_status_of_the_new_version_is_checked_too(registry: Registry, entry: DocumentEntry) -> None:
    """Plan 20003: it is Approved already."""
    new = again(entry)
    assert codes(registry, new, instead(new), restated(new.id, DEPRECATED)) == ["XDSMetadataUpdateError"]
    assert codes(registry, new, instead(new), restated(new.id, APPROVED, APPROVED)) == ["XDSMetadataUpdateError"]
    twice = (restated(new.id, APPROVED), restated(entry.id, APPROVED))
    assert "V-UPD-TWICE" in {code for code, _, _ in refusal(registry, new, instead(new), *twice)}


@pytest.mark.parametrize(("original", "wanted", "wrong"), [
    (DEPRECATED, DEPRECATED, ["OriginalStatus"]), ("", DEPRECATED, ["OriginalStatus"]),
    (APPROVED, "urn:oasis:names:tc:ebxml-regrep:StatusType:Submitted", ["NewStatus"]),
    (APPROVED, "Deprecated", ["NewStatus"]), (f"{APPROVED}|{APPROVED}", DEPRECATED, ["OriginalStatus"]),
    (APPROVED, f"{DEPRECATED}|{APPROVED}", ["NewStatus"]), ("x", "y", ["OriginalStatus", "NewStatus"])])
def test_statuses_are_those_there_are(registry: Registry, entry: DocumentEntry, original: str, wanted: str,
                                      wrong: list[str]) -> None:
    one = restated(entry.id, original or "out", wanted)
    if not original:
        one = replace(one, extra_slots=one.extra_slots[1:])
    assert refusal(registry, one) == [
        ("V-UPD-STATUS-VALUES", f"Association({one.id})/{name}", "XDSMetadataUpdateError") for name in wrong]


def test_what_has_no_status_to_change(registry: Registry, filed: dict[str, str]) -> None:
    """A set, its memberships, what is not registered, and what is no entryUUID."""
    (of_set,) = (one.id for one in links(registry, filed["D"]).associations if one.source == filed["Set"])
    for target in (filed["Set"], of_set, NOWHERE, doc(registry, filed["D"]).unique_id, "Document01", SET):
        one = restated(target, APPROVED)
        assert refusal(registry, one) == [
            ("V-UPD-STATUS-TARGET", f"Association({one.id})/targetObject", "XDSMetadataUpdateError")]


def test_one_status_an_object_and_a_request(registry: Registry, entry: DocumentEntry) -> None:
    one, two = restated(entry.id, APPROVED), restated(entry.id, APPROVED)
    assert refusal(registry, one, two) == [
        ("V-UPD-TWICE", f"Association({two.id})/targetObject", "XDSMetadataUpdateError")]


def test_a_deprecated_document_is_found_as_such(registry: Registry, entry: DocumentEntry) -> None:
    restate(registry, entry.id)
    assert find(registry, status=listed(APPROVED)).documents == []
    assert [one.id for one in find(registry, status=listed(DEPRECATED)).documents] == [entry.id]


# --- links ---------------------------------------------------------------------------------------------------------


def two_documents(registry: Registry) -> tuple[str, str]:
    return put(registry).ids["Document01"], put(registry).ids["Document01"]


@pytest.mark.parametrize("kind", [APND, XFRM, SIGNS])
def test_a_link_between_documents(registry: Registry, kind: str) -> None:
    one, two = two_documents(registry)
    added = link(kind, one, two.upper().replace("URN:UUID", "urn:uuid"), "New", documentation=() if kind == SIGNS else
                 (code("POURQUOI"),))
    made = send(registry, added, linked(added))
    assert ends(registry, one, kind) == {(one, two)}
    (told,) = (thing for thing in links(registry, one).associations if thing.type == kind)
    assert (told.id, told.lid, told.version, told.status) == (made["New"], made["New"], "1", APPROVED)
    assert told.documentation == added.documentation


def test_a_document_put_into_a_folder(registry: Registry) -> None:
    ids = put(registry, document(), folder()).ids
    added = holds(ids["Folder01"], ids["Document01"], "New")
    send(registry, added, linked(added))
    told = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(ids["Folder01"]))
    assert told.counts == (0, 1, 1, 1)


def test_a_replacement_told_afterwards(registry: Registry, filed: dict[str, str]) -> None:
    """RPLC between two that are there does what it always does: deprecates, with dependents, and follows folders."""
    other = put(registry).ids["Document01"]
    added = link(RPLC, other, filed["D"], "New")
    send(registry, added, linked(added))
    assert [doc(registry, filed[name]).status for name in "DA"] == [DEPRECATED, DEPRECATED]
    assert doc(registry, other).status == APPROVED
    assert (filed["F"], other) in ends(registry, other, HAS_MEMBER)
    (_, payload), = events(registry, "update")
    assert set(payload["deprecated"]) == {filed["D"], filed["A"]}


def test_a_snapshot_is_of_a_living_document(registry: Registry) -> None:
    stable, other = two_documents(registry)
    living = register(registry, submission(document(object_type=ON_DEMAND, creation_time="", hash="", size="",
                                                    legal_authenticator=""))).ids["Document01"]
    right, *wrong = (link(IS_SNAPSHOT_OF, source, target, "New") for source, target in (
        (stable, living), (living, stable), (stable, other), (living, living)))
    for one in wrong:
        assert set(codes(registry, one, linked(one))) == {"XDSMetadataUpdateError"}
    send(registry, right, linked(right))
    assert ends(registry, stable, IS_SNAPSHOT_OF) == {(stable, living)}


def test_ends_of_a_link(registry: Registry, filed: dict[str, str]) -> None:
    """Registered, of the right kind, the newest version, in force: each end is told on its own."""
    one, two = two_documents(registry)
    version(registry, doc(registry, one))
    restate(registry, two)
    unique_id = doc(registry, filed["D"]).unique_id
    for wrong in (NOWHERE, "Document01", unique_id, filed["F"], filed["Set"], filed["In"], one, two):
        for attribute, added in (("sourceObject", link(APND, wrong, filed["D"])),
                                 ("targetObject", link(APND, filed["A"], wrong))):
            assert refusal(registry, added, linked(added)) == [
                ("V-UPD-LINK", f"Association({added.id})/{attribute}", "XDSMetadataUpdateError")]
    for source, target, wrong_ends in ((filed["D"], filed["A"], {"sourceObject"}), (filed["F"], filed["F"],
                                       {"targetObject"}), (filed["A"], filed["F"], {"sourceObject", "targetObject"})):
        added = holds(source, target)
        assert {path.rpartition("/")[2] for _, path, _ in refusal(registry, added, linked(added))} == wrong_ends


def test_an_end_in_the_request_itself(registry: Registry, entry: DocumentEntry) -> None:
    """Links join what is registered; the new version gets the links of the old one."""
    new = again(entry)
    added = link(APND, new.id, put(registry).ids["Document01"])
    assert refusal(registry, new, instead(new), added, linked(added)) == [
        ("V-UPD-LINK", f"Association({added.id})/sourceObject", "XDSMetadataUpdateError")]


def test_an_end_that_changes_in_the_same_request(registry: Registry, entry: DocumentEntry) -> None:
    other = put(registry).ids["Document01"]
    added, new = link(APND, other, entry.id), again(entry)
    for parts in ((new, instead(new)), (restated(entry.id, APPROVED),)):
        assert refusal(registry, *parts, added, linked(added)) == [
            ("V-UPD-CONFLICT", f"Association({added.id})/targetObject", "XDSMetadataUpdateOperationError")]


def test_a_link_that_is_there_already(registry: Registry, filed: dict[str, str]) -> None:
    added = link(APND, filed["A"], filed["D"])
    expected = [("V-UPD-LINK-TWICE", f"Association({added.id})", "XDSMetadataUpdateError")]
    assert refusal(registry, added, linked(added)) == expected
    restate(registry, filed["To"])
    twin = link(APND, filed["A"], filed["D"].upper().replace("URN:UUID", "urn:uuid"))
    assert [one[0] for one in refusal(registry, added, twin, linked(added), linked(twin))] == ["V-UPD-LINK-TWICE"]
    send(registry, added, linked(added))
    assert len(ends(registry, filed["D"], APND)) == 1


def test_another_link_between_the_same(registry: Registry, filed: dict[str, str]) -> None:
    added = link(SIGNS, filed["A"], filed["D"])
    send(registry, added, linked(added))
    assert ends(registry, filed["D"], SIGNS) == {(filed["A"], filed["D"])}


def test_a_link_has_no_versions(registry: Registry, filed: dict[str, str]) -> None:
    one, two = two_documents(registry)
    added = link(APND, one, two, lid=filed["To"])
    assert refusal(registry, added, linked(added)) == [
        ("V-UPD-LINK-VERSION", f"Association({added.id})/lid", "XDSMetadataUpdateError")]
    same = link(APND, one, two, "Same", lid="Same")
    assert send(registry, same, linked(same))["Same"]


def test_an_operation_about_nothing(registry: Registry, entry: DocumentEntry) -> None:
    one = Association("Op", linked(link(APND, "a", "b")).type, SET, "Nowhere")
    assert refusal(registry, one) == [
        ("V-REG-REFERENCE-UNRESOLVED", "Association(Op)/targetObject", "UnresolvedReferenceException")]


@pytest.mark.parametrize("kind", ["urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus",
                                  "urn:ihe:iti:2010:AssociationType:SubmitAssociation"])
def test_operations_are_no_links(registry: Registry, kind: str) -> None:
    one, two = two_documents(registry)
    added = link(kind, one, two)
    assert set(codes(registry, added, linked(added))) == {"XDSMetadataUpdateError"}
