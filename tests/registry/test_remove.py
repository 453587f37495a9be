"""Remove Metadata (ITI-62): versions, several patients, hostile lists; what is left, and what is told of it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from registry import patients, versions
from registry.register import Registry, register
from registry.rows import StoredDocument
from registry.tables import folder as folder_table
from security.access import Gate
from tests.registry.changes import (
    SET,
    again,
    codes,
    doc,
    events,
    fold,
    instead,
    links,
    not_removed,
    one_entry,
    one_filed,
    put_with,
    removed,
    restate,
    send,
    snapshot,
    version,
)
from tests.registry.changes import versions as versions_of
from tests.registry.rivals import in_threads
from tests.registry.samples import (
    OTHER,
    PATIENT,
    ask,
    document,
    find,
    folder,
    holds,
    listed,
    put,
    quoted,
    replacing,
    submission,
)
from xds.findings import Refused
from xds.model import DocumentEntry
from xds.rim import localized
from xds.vocabulary import APPROVED, DEPRECATED

NOWHERE = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"
REFERENCED, UNREFERENCED, UNRESOLVED = (
    "ReferencesExistException", "XDSUnreferencedObjectException", "UnresolvedReferenceException")


@pytest.fixture
def entry(registry: Registry) -> DocumentEntry:
    return one_entry(registry)


def around(registry: Registry, *uuids: str) -> list[str]:
    """Objects with the sets that hold them, and all their links."""
    told = [one for uuid in uuids for one in links(registry, uuid, (APPROVED, DEPRECATED)).associations]
    return list(dict.fromkeys([*uuids, *(one.id for one in told), *(one.source for one in told)]))


# --- the list ------------------------------------------------------------------------------------------------------


def test_a_list_of_nothing(registry: Registry) -> None:
    assert not_removed(registry) == [("XDSRegistryError", "ObjectRefList")]


def test_other_identifiers_remove_nothing(registry: Registry, entry: DocumentEntry) -> None:
    """uniqueIds and symbols are no entryUUIDs, though a uniqueId leads to the document everywhere else."""
    for identifier in (entry.unique_id, "Document01", "", "lid " + entry.lid, NOWHERE):
        assert not_removed(registry, identifier) == [(UNRESOLVED, f"ObjectRef({identifier.lower()})")]
    assert doc(registry, entry.id) == entry


def test_all_findings_at_once(registry: Registry) -> None:
    """What is unknown, what is still named, and what would be left bare, each by its own."""
    filed = one_filed(registry)
    (of_set,) = (one.id for one in links(registry, filed["A"]).associations if one.target == filed["A"])
    told = not_removed(registry, NOWHERE, filed["D"], filed["To"], of_set)
    assert set(told) == {(UNRESOLVED, f"ObjectRef({NOWHERE})"), (REFERENCED, f"ObjectRef({filed['D']})"),
                         (UNREFERENCED, f"ObjectRef({of_set})"), (UNREFERENCED, f"ObjectRef({filed['To']})")}
    assert sum(code == REFERENCED for code, _ in told) == 2, "the folder's and the set's membership"
    assert sum(code == UNREFERENCED for code, _ in told) == 2, "the addendum and its set, each once"


def test_many_links_are_not_all_told(registry: Registry) -> None:
    """An answer does not grow with what is there."""
    members = [document(f"Document{number:02}") for number in range(30)]
    ids = put_with(registry, folder(), *members, *(holds("Folder01", one.id) for one in members))
    told = not_removed(registry, ids["Folder01"])
    assert (len(told), set(told)) == (20, {(REFERENCED, f"ObjectRef({ids['Folder01']})")})


def test_many_objects(registry: Registry) -> None:
    """More than one statement takes."""
    members = [document(f"Document{number:03}") for number in range(250)]
    ids = put_with(registry, *members)
    removed(registry, *ids.values())
    assert find(registry).counts == (0, 0, 0, 0)


# --- versions ------------------------------------------------------------------------------------------------------


def three_versions(registry: Registry, entry: DocumentEntry) -> list[str]:
    version(registry, entry, title=localized("Deux"))
    version(registry, entry, "2", title=localized("Trois"))
    return [uuid for _, uuid, _ in versions_of(registry, entry.lid)]


def test_the_newest_version_goes(registry: Registry, entry: DocumentEntry) -> None:
    """The one before is the newest again, in the status it has: a removal brings nothing back into force."""
    first, second, third = three_versions(registry, entry)
    removed(registry, *around(registry, third))
    assert versions_of(registry, entry.lid) == [("1", first, "Deprecated"), ("2", second, "Deprecated")]
    assert [one.id for one in find(registry).documents] == [second], "at level 1"
    restate(registry, second, DEPRECATED)
    new = version(registry, entry, "2", title=localized("Encore trois"))
    assert (new.version, new.lid) == ("3", entry.lid)


def test_the_newest_of_many_goes(registry: Registry, entry: DocumentEntry) -> None:
    """The lid leads to the one before, not to any other."""
    three_versions(registry, entry)
    fourth = version(registry, entry, "3").id
    removed(registry, *around(registry, fourth))
    new = again(entry)
    assert codes(registry, new, instead(new, "2")) == ["XDSMetadataVersionError", "XDSMetadataUpdateError"][::-1]
    assert versions_of(registry, entry.lid)[-1][0] == "3"
    restate(registry, versions_of(registry, entry.lid)[-1][1], DEPRECATED)
    assert version(registry, entry, "3").version == "4"


def test_all_but_the_first_go(registry: Registry, entry: DocumentEntry) -> None:
    first, second, third = three_versions(registry, entry)
    removed(registry, *around(registry, second), *around(registry, third))
    assert versions_of(registry, entry.lid) == [("1", first, "Deprecated")]
    restate(registry, first, DEPRECATED)
    assert version(registry, entry).version == "2"


def test_an_older_version_goes(registry: Registry, entry: DocumentEntry) -> None:
    """The newest stays what it is; the lid stays its name though nobody has that entryUUID any more."""
    first, second, third = three_versions(registry, entry)
    removed(registry, *around(registry, first))
    assert versions_of(registry, entry.lid) == [("2", second, "Deprecated"), ("3", third, "Approved")]
    removed(registry, *around(registry, second))
    assert [one.id for one in find(registry).documents] == [third]
    assert version(registry, entry, "3").version == "4"
    new = again(entry)
    assert codes(registry, new, instead(new, "1")) == ["XDSMetadataVersionError"]


def test_every_version_goes(registry: Registry, entry: DocumentEntry) -> None:
    empty = {name: rows for name, rows in snapshot(registry).items() if name != "outbox"}
    removed(registry, *around(registry, entry.id))
    assert {name: rows for name, rows in snapshot(registry).items() if name in {"document", "identifier_claim"}} == {
        "document": [], "identifier_claim": []}
    second = one_entry(registry)
    uuids = three_versions(registry, second)
    removed(registry, *{one for uuid in uuids for one in around(registry, uuid)})
    after = {name: rows for name, rows in snapshot(registry).items() if name != "outbox"}
    assert after == {**empty, "document": [], "submission_set": [], "association": [], "object_code": [],
                     "object_text": [], "identifier_claim": []}
    new = again(entry)
    assert codes(registry, new, instead(new)) == ["XDSMetadataVersionError"]


def test_versions_of_a_folder(registry: Registry) -> None:
    ids = put_with(registry, document(), folder(), holds("Folder01", "Document01"))
    old = fold(registry, ids["Folder01"])
    new = version(registry, old, title=localized("Autre")).id
    removed(registry, *(one for one in around(registry, new) if one != ids["Document01"]))
    with registry.database.read() as connection:
        rows = connection.execute(select(folder_table.c.uuid, folder_table.c.current)).all()
    assert rows == [(old.id, 1)]
    restate(registry, old.id, DEPRECATED)
    assert version(registry, old).version == "2"
    with pytest.raises(Refused) as caught:
        register(registry, submission(folder(unique_id=old.unique_id)))
    assert [finding.xds for finding in caught.value.findings] == ["XDSDuplicateUniqueIdInRegistry"]


def test_a_version_that_moved_to_another_patient(registry: Registry, entry: DocumentEntry) -> None:
    """The version before is of the first patient still, and the newest again."""
    moved = version(registry, entry, patient_id=OTHER)
    removed(registry, *around(registry, moved.id))
    assert find(registry, patient=OTHER).documents == []
    assert [one.id for one in find(registry).documents] == [entry.id]
    restate(registry, entry.id, DEPRECATED)
    assert version(registry, entry, patient_id=OTHER).version == "2"


def test_a_copied_link_goes_alone(registry: Registry) -> None:
    """The old version keeps its own."""
    filed = one_filed(registry)
    new = version(registry, doc(registry, filed["D"])).id
    (copy,) = (one.id for one in links(registry, new).associations if one.source == filed["A"])
    removed(registry, copy)
    told = {(one.source, one.target) for one in links(registry, filed["A"]).associations}
    assert (filed["A"], filed["D"]) in told
    assert (filed["A"], new) not in told


# --- patients and callers ------------------------------------------------------------------------------------------


def test_objects_of_two_patients(registry: Registry) -> None:
    mine = put(registry).ids
    theirs = put(registry, document(patient_id=OTHER), patient_id=OTHER).ids
    removed(registry, *mine.values(), *theirs.values())
    assert find(registry).documents == find(registry, patient=OTHER).documents == []
    told = events(registry, "removal")
    assert len({owner for owner, _ in told}) == 2
    assert {frozenset(payload["objects"]) for _, payload in told} == {
        frozenset(mine.values()), frozenset(theirs.values())}


def test_what_a_gate_hides_is_not_there(registry: Registry) -> None:
    ids = put(registry).ids
    with registry.database.read() as connection:
        mine, theirs = (patients.find(connection, cx) for cx in (PATIENT, OTHER))
    assert mine is not None
    assert theirs is not None
    for gate in (Gate(only_patient=theirs.id), Gate(sees=lambda _: False)):
        before = snapshot(registry)
        with pytest.raises(Refused) as caught:
            removed(registry, *ids.values(), gate=gate)
        assert UNRESOLVED in {finding.xds for finding in caught.value.findings}
        assert snapshot(registry) == before
    removed(registry, *ids.values(), gate=Gate(only_patient=mine.id))
    assert find(registry).documents == []


# --- others --------------------------------------------------------------------------------------------------------


def test_documents_that_no_entry_names_any_more(registry: Registry) -> None:
    """Told when the last version goes, not before: the bytes are for the repository's operator to forget."""
    data = StoredDocument("key-of-the-document", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709", b"\x01" * 32)
    entry = doc(registry, register(registry, submission(document()), {"Document01": data}).ids["Document01"])
    new = version(registry, entry)
    removed(registry, *around(registry, new.id))
    removed(registry, *around(registry, entry.id))
    assert [payload["storage_keys"] for _, payload in events(registry, "removal")] == [[], ["key-of-the-document"]]


def test_an_update_and_a_removal_race(registry: Registry, entry: DocumentEntry) -> None:
    """Either the new version holds the old one's history, or there is nothing to update any more."""
    uuids = around(registry, entry.id)

    def outcome(task: str) -> str:
        new = again(entry)
        try:
            if task == "update":
                send(registry, new, instead(new))
            else:
                removed(registry, *uuids)
        except Refused as refused:
            return ", ".join(sorted({finding.xds for finding in refused.findings}))
        return ""

    told = in_threads([lambda task=task: outcome(task) for task in ("update", "remove", "update")])
    left = [number for number, _, _ in versions_of(registry, entry.lid)]
    assert told[1] == "", "the set of the first version holds nothing else"
    assert (sorted({told[0], told[2]}), left) in (
        (["XDSMetadataVersionError"], []), (["", "XDSMetadataVersionError"], ["2"]))


def test_a_document_that_was_replaced(registry: Registry, entry: DocumentEntry) -> None:
    """Its replacement goes with the link; the document stays deprecated until somebody says otherwise."""
    newer = put(registry, *replacing(entry.id)).ids
    removed(registry, *newer.values())
    assert doc(registry, entry.id).status == DEPRECATED
    restate(registry, entry.id, DEPRECATED)
    assert doc(registry, entry.id).status == APPROVED


def test_nobody_is_left_without_a_name(registry: Registry, entry: DocumentEntry) -> None:
    """After any removal each version of a logical object is found by its lid, and one is the newest."""
    uuids = three_versions(registry, entry)
    for gone in (uuids[1], uuids[2]):
        removed(registry, *around(registry, gone))
        with registry.database.read() as connection:
            newest = versions.newest(connection, entry.lid)
        assert newest is not None
        left = versions_of(registry, entry.lid)
        assert (str(newest.row.version), newest.uuid) == left[-1][:2]
        assert ask(registry, "GetDocuments", XDSDocumentEntryLogicalID=listed(entry.lid)).uuids == {left[-1][1]}


def test_the_set_of_an_update_goes_with_what_it_holds(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry)
    made = send(registry, new, instead(new))
    assert {code for code, _ in not_removed(registry, made[SET])} == {REFERENCED}
    removed(registry, *around(registry, made[new.id]))
    assert ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(made[SET])).counts == (
        0, 0, 0, 0)
