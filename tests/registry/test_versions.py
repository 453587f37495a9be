"""New versions of documents and folders (ITI-57): what is checked, what stays the same, what goes over to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from registry.register import Registry, register
from registry.rows import StoredDocument
from registry.tables import document as document_table
from registry.tables import folder as folder_table
from tests.registry.changes import (
    SET,
    accepted,
    again,
    codes,
    doc,
    ends,
    findings,
    fold,
    instead,
    linked,
    links,
    one_entry,
    one_filed,
    refusal,
    restate,
    restated,
    send,
    version,
    versions,
)
from tests.registry.samples import (
    BOTH,
    PATIENT,
    ask,
    code,
    document,
    find,
    folder,
    fresh_oid,
    holds,
    link,
    listed,
    put,
    quoted,
    submission,
)
from xds.findings import Refused
from xds.model import DocumentEntry
from xds.rim import Slot, localized
from xds.vocabulary import (
    APND,
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    ON_DEMAND,
)

NOWHERE = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"
GIVEN = "urn:uuid:6c1b0c5e-0002-4000-8000-00000000000a"


@pytest.fixture
def entry(registry: Registry) -> DocumentEntry:
    return one_entry(registry)


@pytest.fixture
def filed(registry: Registry) -> dict[str, str]:
    return one_filed(registry)


# --- a new version of a document -----------------------------------------------------------------------------------


def test_a_new_version(registry: Registry, entry: DocumentEntry) -> None:
    new = version(registry, entry, title=localized("Corrigée"), class_code=code("12"))
    assert (new.lid, new.version, new.status, new.unique_id) == (entry.lid, "2", APPROVED, entry.unique_id)
    assert new.id not in {entry.id, entry.lid}
    assert (new.title, new.class_code) == (localized("Corrigée"), code("12"))
    old = doc(registry, entry.id)
    assert old == replace(entry, status=DEPRECATED)


def test_versions_follow_one_another(registry: Registry, entry: DocumentEntry) -> None:
    for number in range(1, 6):
        version(registry, entry, str(number), title=localized(f"Version {number + 1}"))
    told = versions(registry, entry.lid)
    assert [(number, status) for number, _, status in told] == [
        *((str(number), "Deprecated") for number in range(1, 6)), ("6", "Approved")]
    assert len({uuid for _, uuid, _ in told}) == 6
    (current,) = find(registry).documents
    assert (current.version, current.title) == ("6", localized("Version 6"))


def test_what_was_searched_by_is_searched_by_as_it_is_now(registry: Registry, entry: DocumentEntry) -> None:
    version(registry, entry, class_code=code("NEW"), event_codes=(code("AUTRE"),),
            reference_ids=("42^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:order",), creation_time="2030")
    assert find(registry, ClassCode="('11^^1.2.3')").documents == []
    assert find(registry, EventCodeList="('EXAMEN^^1.2.3')").documents == []
    assert find(registry, CreationTimeTo="2026").documents == []
    assert len(find(registry, ClassCode="('NEW^^1.2.3')", EventCodeList="('AUTRE^^1.2.3')").documents) == 1
    both = ask(registry, "FindDocuments", XDSDocumentEntryPatientId=quoted(PATIENT), XDSDocumentEntryStatus=BOTH,
               MetadataLevel="2")
    assert sorted(one.version for one in both.documents) == ["1", "2"]


def test_the_set_of_an_update_is_registered_with_what_it_said(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry)
    ids = send(registry, new, instead(new, AssociationPropagation="no"))
    told = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(ids[SET]))
    assert told.counts == (1, 1, 0, 1)
    (one,) = told.associations
    assert (one.type, one.submission_set_status, one.previous_version) == (HAS_MEMBER, "Original", "1")
    assert Slot("AssociationPropagation", ("no",)) in one.extra_slots


def test_operations_are_not_registered(registry: Registry, entry: DocumentEntry) -> None:
    """UpdateAvailabilityStatus and SubmitAssociation say what to do; only the set and the links remain."""
    other = put(registry).ids["Document01"]
    added = link(APND, entry.id, other, "New")
    ids = send(registry, added, linked(added), restated(put(registry).ids["Document01"], APPROVED))
    told = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(ids[SET]))
    assert told.counts == (1, 0, 0, 0)
    assert set(ids) == {SET, "New"}


def test_an_id_of_its_own(registry: Registry, entry: DocumentEntry) -> None:
    """A UUID that the source gives is kept, and every lid is compared in lower case."""
    new = again(entry, GIVEN.upper().replace("URN:UUID", "urn:uuid"),
                lid=entry.lid.upper().replace("URN:UUID", "urn:uuid"))
    accepted(registry, new, instead(new))
    assert (doc(registry, GIVEN).lid, doc(registry, GIVEN).version) == (entry.lid, "2")


def test_a_lid_in_upper_case_without_the_door(registry: Registry, entry: DocumentEntry) -> None:
    """Who calls the function directly (another door) need not fold it."""
    new = again(entry, lid=entry.lid.upper())
    assert doc(registry, send(registry, new, instead(new))[new.id]).lid == entry.lid


def test_several_entries_at_once(registry: Registry) -> None:
    ids = put(registry, document(), document("Document02"), folder()).ids
    one, two = doc(registry, ids["Document01"]), doc(registry, ids["Document02"])
    place = fold(registry, ids["Folder01"])
    parts = [again(one), again(two, class_code=code("12")), again(place, title=localized("Autre"))]
    made = send(registry, *parts, *(instead(part) for part in parts))
    assert [doc(registry, made[part.id]).version for part in parts[:2]] == ["2", "2"]
    assert fold(registry, made[parts[2].id]).title == localized("Autre")
    assert ask(registry, "GetSubmissionSetAndContents",
               XDSSubmissionSetEntryUUID=quoted(made[SET])).counts == (1, 2, 1, 3)


def test_two_entries_of_one_unique_id(registry: Registry) -> None:
    """The same document registered twice (plan 12004) is two logical objects; both may change in one request."""
    one = document()
    ids = [put(registry, replace(one, id=name)).ids[name] for name in ("Document01", "Document02")]
    parts = [again(doc(registry, uuid)) for uuid in ids]
    made = send(registry, *parts, *(instead(part) for part in parts))
    assert [doc(registry, made[part.id]).lid for part in parts] == ids


def test_an_on_demand_entry(registry: Registry) -> None:
    """It carries what ITI-61 asks for, not what a stable one does."""
    living = document(object_type=ON_DEMAND, creation_time="", hash="", size="", legal_authenticator="")
    uuid = register(registry, submission(living)).ids["Document01"]
    new = again(doc(registry, uuid), title=localized("À la demande"))
    accepted(registry, new, instead(new))
    assert [(number, status) for number, _, status in versions(registry, uuid)] == [
        ("1", "Deprecated"), ("2", "Approved")]
    assert refusal(registry, again(new, lid=uuid, hash="0" * 40), transaction="ITI-57")[0][0] == \
        "V-REG-ATTRIBUTE-FORBIDDEN"


# --- which version -------------------------------------------------------------------------------------------------


def test_an_older_version_is_not_replaced_again(registry: Registry, entry: DocumentEntry) -> None:
    version(registry, entry)
    new = again(entry)
    (told,) = findings(registry, new, instead(new, "1"))
    assert (told.code, told.xds, told.expected, told.received) == (
        "V-UPD-VERSION-STALE", "XDSMetadataVersionError", "2", "1")
    assert told.where.path.endswith("/PreviousVersion")


@pytest.mark.parametrize("previous", ["0", "2", "01", "1.0", "un", "1|1", "1|2"])
def test_previous_version_is_the_number_of_the_newest(registry: Registry, entry: DocumentEntry, previous: str) -> None:
    new = again(entry)
    one = instead(new, "") if "|" in previous else instead(new, previous)
    if "|" in previous:
        one = replace(one, extra_slots=(Slot("PreviousVersion", tuple(previous.split("|"))),))
    assert codes(registry, new, one) == ["XDSMetadataVersionError"]


def test_a_lid_that_nobody_has(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry, lid=NOWHERE)
    assert refusal(registry, new, instead(new)) == [
        ("V-UPD-VERSION-UNKNOWN", f"DocumentEntry({new.id})/lid", "XDSMetadataVersionError")]


def test_other_identifiers_are_no_lid(registry: Registry, entry: DocumentEntry) -> None:
    """uniqueIds and entryUUIDs of later versions lead to the object too, and would fork its history."""
    second = version(registry, entry)
    version(registry, entry, "2")
    for lid, previous in ((second.id, "2"), (entry.unique_id, "3"), (second.id, "3")):
        for transaction in ("ITI-57", "ITI-92"):
            new = again(entry, lid=lid)
            assert codes(registry, new, instead(new, previous), transaction=transaction) == ["XDSMetadataVersionError"]


def test_a_document_is_no_version_of_a_folder(registry: Registry, filed: dict[str, str]) -> None:
    entry, place = doc(registry, filed["D"]), fold(registry, filed["F"])
    for new in (again(entry, lid=filed["F"]), again(place, lid=filed["D"]), again(entry, lid=filed["In"]),
                again(entry, lid=filed["Set"])):
        assert codes(registry, new, instead(new)) == ["XDSMetadataVersionError"]


def test_an_entry_uuid_that_is_taken(registry: Registry, entry: DocumentEntry) -> None:
    second = version(registry, entry)
    for uuid in (second.id, entry.id):
        new = again(entry, uuid)
        assert "V-REG-UUID-USED" in {code for code, _, _ in refusal(registry, new, instead(new, "2"))}


def test_a_set_that_is_there_already(registry: Registry, entry: DocumentEntry) -> None:
    """Its uniqueId is that of an older set, or of the very document."""
    first = put(registry, unique_id="1.2.3.4.5.6").ids
    assert first
    for unique_id in ("1.2.3.4.5.6", entry.unique_id):
        new = again(entry)
        assert refusal(registry, new, instead(new), unique_id=unique_id) == [
            ("V-REG-UNIQUE-ID-USED", f"SubmissionSet({SET})/uniqueId", "XDSDuplicateUniqueIdInRegistry")]


@pytest.mark.parametrize(("lid", "previous", "expected"), [
    ("", "1", ["V-UPD-FIRST-VERSION"]), ("same", "1", ["V-UPD-FIRST-VERSION"]),
    ("right", "", ["V-UPD-PREVIOUS-MISSING"]), ("", "", ["V-UPD-FIRST-VERSION", "V-UPD-PREVIOUS-MISSING"])])
def test_what_makes_it_an_update(registry: Registry, entry: DocumentEntry, lid: str, previous: str,
                                 expected: list[str]) -> None:
    lids = {"": "", "same": "Document01", "right": entry.lid}
    new = again(entry, "Document01", lid=lids[lid])
    told = refusal(registry, new, instead(new, previous))
    assert [finding[0] for finding in told] == expected
    assert {finding[2] for finding in told} == {"XDSMetadataUpdateError"}


def test_one_update_an_object_and_a_request(registry: Registry, entry: DocumentEntry) -> None:
    one, two = again(entry), again(entry)
    assert refusal(registry, one, two, instead(one), instead(two)) == [
        ("V-UPD-TWICE", f"DocumentEntry({two.id})/lid", "XDSMetadataUpdateError")]


# --- what stays the same -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attribute", "value", "name"), [
    ("unique_id", "1.2.3.4.99", "uniqueId"), ("object_type", ON_DEMAND, "objectType")])
def test_what_identifies_it(registry: Registry, entry: DocumentEntry, attribute: str, value: str, name: str) -> None:
    changes: dict[str, Any] = {attribute: value}
    if value == ON_DEMAND:
        changes |= {"creation_time": "", "hash": "", "size": "", "legal_authenticator": ""}
    new = again(entry, **changes)
    assert refusal(registry, new, instead(new)) == [
        ("V-UPD-IDENTITY", f"DocumentEntry({new.id})/{name}", "XDSMetadataUpdateError")]


def test_the_unique_id_of_a_folder(registry: Registry) -> None:
    new = again(fold(registry, put(registry, folder()).ids["Folder01"]), unique_id=fresh_oid())
    assert refusal(registry, new, instead(new)) == [
        ("V-UPD-IDENTITY", f"Folder({new.id})/uniqueId", "XDSMetadataUpdateError")]


def test_all_findings_at_once(registry: Registry, entry: DocumentEntry) -> None:
    """State, version, identity, propagation and the set, each with its place."""
    restate(registry, entry.id)
    new = again(entry, unique_id="1.2.3.4.99")
    one = instead(new, "7", AssociationPropagation="maybe", OriginalStatus=APPROVED)
    stray = document("Stray")
    told = {(code, path.rpartition("/")[2]) for code, path, _ in refusal(
        registry, new, one, stray, restated(NOWHERE, APPROVED), unique_id=entry.unique_id)}
    assert told == {
        ("V-REG-UNIQUE-ID-USED", "uniqueId"), ("V-UPD-SLOT", "OriginalStatus"), ("V-UPD-STATE", "lid"),
        ("V-UPD-VERSION-STALE", "PreviousVersion"), ("V-UPD-PROPAGATION", "AssociationPropagation"),
        ("V-UPD-IDENTITY", "uniqueId"), ("V-UPD-STATUS-TARGET", "targetObject"),
        ("V-UPD-NOT-AN-OPERATION", "DocumentEntry(Stray)")}


def test_metadata_rules_come_first(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry, class_code=None, language="")
    assert codes(registry, new, instead(new)) == ["XDSRegistryMetadataError"] * 2


# --- a document that is kept here ----------------------------------------------------------------------------------


def kept_document(registry: Registry) -> DocumentEntry:
    """A document whose bytes the repository keeps."""
    data = StoredDocument("key-of-the-document", 12, "ab" * 20, b"\x01" * 32)
    entry = document(hash=data.sha1, size="12")
    uuid = register(registry, submission(entry), {"Document01": data}).ids["Document01"]
    return doc(registry, uuid)


def storage(registry: Registry) -> set[tuple[str, int, str, bytes]]:
    c = document_table.c
    with registry.database.read() as connection:
        return {tuple(row) for row in connection.execute(select(c.storage_key, c.size, c.hash, c.sha256))}


def test_bytes_go_over_to_the_new_version(registry: Registry) -> None:
    version(registry, kept_document(registry), mime_type="application/pdf")
    assert storage(registry) == {("key-of-the-document", 12, "ab" * 20, b"\x01" * 32)}


@pytest.mark.parametrize(("attribute", "value"), [("hash", "cd" * 20), ("size", "13"), ("size", "0")])
@pytest.mark.parametrize(("transaction", "xds"), [("ITI-57", "XDSMetadataUpdateError"),
                                                  ("ITI-92", "UnmodifiableMetadataError")])
def test_hash_and_size_are_those_of_the_bytes(registry: Registry, attribute: str, value: str, transaction: str,
                                              xds: str) -> None:
    new = again(kept_document(registry), **{attribute: value})
    assert refusal(registry, new, instead(new), transaction=transaction) == [
        ("V-UPD-CONTENT", f"DocumentEntry({new.id})/{attribute}", xds)]


def test_the_same_hash_and_size_otherwise_written(registry: Registry) -> None:
    entry = kept_document(registry)
    assert version(registry, entry, hash="AB" * 20, size="0012").version == "2"


def test_hash_and_size_of_what_is_kept_elsewhere(registry: Registry, entry: DocumentEntry) -> None:
    """Another repository may have told them wrong (plans 15801, 40001)."""
    new = version(registry, entry, hash="cd" * 20, size="13")
    assert (new.hash, new.size) == ("cd" * 20, "13")
    again_ = version(registry, entry, "2", transaction="ITI-92", hash="ef" * 20)
    assert again_.hash == "ef" * 20


# --- relationships go over -----------------------------------------------------------------------------------------


def test_relationships_are_copied(registry: Registry, filed: dict[str, str]) -> None:
    """Folder and addendum know the new version; the old links stay with the old one; the set's does not go over."""
    new = version(registry, doc(registry, filed["D"])).id
    assert ends(registry, new, APND) == {(filed["A"], new)}
    assert (filed["F"], new) in ends(registry, new, HAS_MEMBER)
    assert ends(registry, filed["F"], HAS_MEMBER) >= {(filed["F"], filed["D"]), (filed["F"], new)}
    assert ends(registry, filed["D"], APND) == {(filed["A"], filed["D"])}
    assert len(ends(registry, new, HAS_MEMBER)) == 2, "the folder's, and that of the update's own set"
    told = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(filed["F"]))
    assert [one.id for one in told.documents] == [new]


def test_relationships_stay_when_told_so(registry: Registry, filed: dict[str, str]) -> None:
    new = version(registry, doc(registry, filed["D"]), slots={"AssociationPropagation": "no"}).id
    assert ends(registry, new, APND) == set()
    assert len(ends(registry, new, HAS_MEMBER)) == 1
    assert ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(filed["F"])).documents == []


def test_yes_is_yes(registry: Registry, filed: dict[str, str]) -> None:
    new = version(registry, doc(registry, filed["D"]), slots={"AssociationPropagation": "yes"}).id
    assert ends(registry, new, APND) == {(filed["A"], new)}


@pytest.mark.parametrize("value", ["YES", "true", "no|no", "yes|no", "0"])
def test_propagation_is_yes_or_no(registry: Registry, entry: DocumentEntry, value: str) -> None:
    new = again(entry)
    one = instead(new, AssociationPropagation=value)
    assert refusal(registry, new, one) == [
        ("V-UPD-PROPAGATION", f"Association({one.id})/AssociationPropagation", "XDSMetadataUpdateError")]


def test_relationships_at_either_end(registry: Registry, filed: dict[str, str]) -> None:
    new = version(registry, doc(registry, filed["A"])).id
    assert ends(registry, new, APND) == {(new, filed["D"])}
    place = version(registry, fold(registry, filed["F"])).id
    assert ends(registry, place, HAS_MEMBER) >= {(place, filed["D"])}


def test_relationships_out_of_force_stay(registry: Registry, filed: dict[str, str]) -> None:
    restate(registry, filed["To"])
    new = version(registry, doc(registry, filed["D"])).id
    assert [one.type for one in links(registry, new, (APPROVED, DEPRECATED)).associations] == [HAS_MEMBER] * 2
    assert (filed["F"], new) in ends(registry, new, HAS_MEMBER)


def test_a_relationship_between_two_that_change_is_copied_once(registry: Registry, filed: dict[str, str]) -> None:
    parts = [again(doc(registry, filed["D"])), again(doc(registry, filed["A"])), again(fold(registry, filed["F"]))]
    made = send(registry, *parts, *(instead(part) for part in parts))
    document_, addendum, place = (made[part.id] for part in parts)
    assert ends(registry, document_, APND) == {(addendum, document_)}
    assert ends(registry, place, HAS_MEMBER) == {(made[SET], place), (place, document_)}
    assert ends(registry, filed["F"], HAS_MEMBER) == {(filed["Set"], filed["F"]), (filed["F"], filed["D"])}


def test_a_relationship_ended_by_the_same_request_does_not_go_over(registry: Registry,
                                                                   filed: dict[str, str]) -> None:
    new = again(doc(registry, filed["D"]))
    made = send(registry, new, instead(new), restated(filed["In"], APPROVED))
    assert ends(registry, made[new.id], HAS_MEMBER) == {(made[SET], made[new.id])}
    assert ends(registry, made[new.id], APND) == {(filed["A"], made[new.id])}


def test_a_copy_is_an_object_of_its_own(registry: Registry, entry: DocumentEntry) -> None:
    """Its code of documentation has an id of its own, and names the copy; everything else is as it was."""
    put(registry, document("Document02"), link(APND, "Document02", entry.id, documentation=(code("POURQUOI"),),
                                               extra_slots=(Slot("urn:example:note", ("oui",)),)))
    new = version(registry, entry).id
    told = [links(registry, uuid).objects for uuid in (entry.id, new)]
    (old,), (copy,) = ([one for one in things if one.association_type == APND] for things in told)
    assert (copy.lid, copy.version, copy.status) == (copy.id, "1", APPROVED)
    assert copy.slots == old.slots
    (before,), (after,) = old.classifications, copy.classifications
    assert {before.id, after.id, old.id, copy.id} == {*(before.id, after.id), *(old.id, copy.id)}
    assert before.id != after.id
    assert after.classified_object == copy.id
    assert (after.node_representation, after.slots, after.name) == (before.node_representation, before.slots,
                                                                    before.name)


def test_folders_tell_when_their_content_changed(registry: Registry, filed: dict[str, str]) -> None:
    """lastUpdateTime moves with a new member, by copy or by link, and with a membership's status."""
    other = put(registry).ids["Document01"]
    added = holds(filed["F"], other, "Added")
    for change in (lambda: version(registry, doc(registry, filed["D"])),
                   lambda: send(registry, added, linked(added)), lambda: restate(registry, filed["In"])):
        stale(registry)
        change()
        assert fold(registry, filed["F"]).last_update_time > "2001"
    stale(registry)
    restate(registry, filed["To"])
    assert fold(registry, filed["F"]).last_update_time == "20000101000000", "an addendum is no member"


def stale(registry: Registry) -> None:
    """All folders, as if nothing had happened to them since 2000."""
    with registry.database.write() as connection:
        connection.execute(update(folder_table).values(last_update_time="20000101000000"))


# --- a new version of a folder -------------------------------------------------------------------------------------


def test_a_new_version_of_a_folder(registry: Registry, filed: dict[str, str]) -> None:
    old = fold(registry, filed["F"])
    new = version(registry, old, title=localized("Autre"), codes=(code("BILAN"),))
    assert (new.lid, new.version, new.status, new.unique_id) == (old.lid, "2", APPROVED, old.unique_id)
    assert fold(registry, old.id).status == DEPRECATED
    told = ask(registry, "GetFolders", XDSFolderUniqueId=listed(old.unique_id))
    assert [one.id for one in told.folders] == [new.id]
    found = ask(registry, "FindFolders", XDSFolderPatientId=quoted(PATIENT), XDSFolderStatus=BOTH,
                XDSFolderCodeList="('BILAN^^1.2.3')")
    assert [one.id for one in found.folders] == [new.id]


def test_a_new_folder_does_not_take_the_unique_id_of_one_with_versions(registry: Registry) -> None:
    old = fold(registry, put(registry, folder()).ids["Folder01"])
    version(registry, old)
    with pytest.raises(Refused) as caught:
        register(registry, submission(folder(unique_id=old.unique_id)))
    assert [finding.xds for finding in caught.value.findings] == ["XDSDuplicateUniqueIdInRegistry"]
