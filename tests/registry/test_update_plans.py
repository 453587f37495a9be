"""Metadata update by IHE's plans (ITI-57, ITI-92): versions, statuses, links; and everything that must not pass.

Numbers in docstrings are those of the plans of the NIST toolkit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from journal.exchanges import Exchange
from registry.register import Registry
from registry.transactions import Services, iti42, iti57, iti92
from security.identity import Caller
from tests.registry.samples import (
    AUTHOR,
    BOTH,
    OTHER,
    PATIENT,
    Told,
    ask,
    code,
    document,
    find,
    folder,
    holds,
    link,
    listed,
    person,
    put,
    quoted,
    submission,
    the_set,
)
from tests.registry.test_state import counts
from tests.registry.test_transactions import Watched, body
from xds import messages
from xds.findings import Refused
from xds.model import Association, DocumentEntry, Folder, Submission
from xds.rim import Slot, localized
from xds.vocabulary import (
    APND,
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    OFFLINE,
    ON_DEMAND,
    ONLINE,
    RPLC,
    SUBMIT_ASSOCIATION,
    SUCCESS,
    UPDATE_AVAILABILITY,
)
from xds.xml import parse

NOWHERE = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"
META = "XDSRegistryMetadataError"


def send(registry: Registry, whole: Submission, story: Callable[..., Any] = iti57) -> list[str]:
    """XDS codes of the refusal, [] for success; a refusal changes nothing."""
    before, documents = counts(registry), find(registry).objects
    try:
        answer = story(body(whole), Caller(), Exchange(), Services(registry, Watched()))
    except Refused as refused:
        assert counts(registry) == before
        assert find(registry).objects == documents
        return [finding.xds for finding in refused.findings]
    assert messages.read_registry_response(parse(answer.body.encode())).status == SUCCESS
    return []


def member(target: str, previous: str = "1", identity: str = "", *slots: Slot) -> Association:
    return link(HAS_MEMBER, "Set01", target, identity, submission_set_status="Original", previous_version=previous,
                extra_slots=slots)


def known(registry: Registry, uuid: str) -> DocumentEntry:
    (entry,) = ask(registry, "GetDocuments", XDSDocumentEntryEntryUUID=listed(uuid), MetadataLevel="2").documents
    return entry


def version_of(old: DocumentEntry | Folder, identity: str = "New01", **changes: Any) -> Any:
    """The next version as a source sends it: whole, under the old one's lid."""
    return replace(old, id=identity, status="", version="", **changes)


def update(old: DocumentEntry | Folder, previous: str = "1", **changes: Any) -> Submission:
    new = version_of(old, **changes)
    return submission(new, member("New01", previous), the_set(patient_id=new.patient_id))


def versions(registry: Registry, unique_id: str) -> list[DocumentEntry]:
    """All versions of a document, the oldest first."""
    told = ask(registry, "GetDocuments", XDSDocumentEntryUniqueId=listed(unique_id), MetadataLevel="2").documents
    return sorted(told, key=lambda entry: int(entry.version))


def registered(registry: Registry, **changes: Any) -> DocumentEntry:
    return known(registry, put(registry, document(**changes)).ids["Document01"])


# --- new versions of documents -------------------------------------------------------------------------------------


def test_15800(registry: Registry) -> None:
    old = registered(registry)
    assert send(registry, update(old, title=localized("Autre titre"))) == []
    first, second = versions(registry, old.unique_id)
    assert (first.lid, first.id == first.lid, second.lid, second.id == second.lid) == (old.id, True, old.id, False)
    assert (first.version, first.status, second.version, second.status) == ("1", DEPRECATED, "2", APPROVED)
    assert (first.title, second.title) == (old.title, localized("Autre titre"))
    assert replace(second, id=old.id, version="1", title=old.title) == old


def test_only_the_newest_version_is_seen(registry: Registry) -> None:
    """Unless $MetadataLevel 2 is asked for, by search as by identifier."""
    old = registered(registry)
    send(registry, update(old, class_code=code("NEW")))
    first, second = versions(registry, old.unique_id)
    assert find(registry).uuids == {second.id}
    assert find(registry, ClassCode="('11^^1.2.3')").uuids == set()
    assert ask(registry, "GetDocuments", XDSDocumentEntryUniqueId=listed(old.unique_id)).uuids == {second.id}
    assert ask(registry, "GetDocuments", XDSDocumentEntryLogicalID=listed(old.id), MetadataLevel="2").uuids == {
        first.id, second.id}
    level = ask(registry, "FindDocuments", XDSDocumentEntryPatientId=quoted(PATIENT), XDSDocumentEntryStatus=BOTH,
                MetadataLevel="2")
    assert level.uuids == {first.id, second.id}


def test_versions_go_on(registry: Registry) -> None:
    old = registered(registry)
    for number in range(1, 4):
        assert send(registry, update(old, str(number), title=localized(f"Titre {number}"))) == []
    assert [(one.version, one.status) for one in versions(registry, old.unique_id)] == [
        ("1", DEPRECATED), ("2", DEPRECATED), ("3", DEPRECATED), ("4", APPROVED)]


ATTRIBUTES: dict[str, Any] = {
    "authors": (replace(AUTHOR, persons=(person("NOUVELLE"),)),), "class_code": code("x"), "comments": localized("x"),
    "confidentiality": (code("R"), code("V")), "creation_time": "2020", "title": localized("x"),
    "event_codes": (code("x"),), "format_code": code("x"), "hash": "0" * 40, "facility_type": code("x"),
    "language": "en", "legal_authenticator": person("AUTRE"), "mime_type": "text/plain", "practice_setting": code("x"),
    "service_start": "2019", "service_stop": "2026", "size": "7", "source_patient_info": ("PID-8|M",),
    "type_code": code("x"), "uri": ("x.xml",), "reference_ids": ("B^^^&1.2&ISO^urn:ihe:iti:xds:2013:order",),
    "extra_slots": (Slot("urn:example:x", ("1",)),), "availability": ONLINE}


@pytest.mark.parametrize("attribute", ATTRIBUTES)
@pytest.mark.parametrize("story", [iti57, iti92])
def test_15801_and_40001(registry: Registry, attribute: str, story: Callable[..., Any]) -> None:
    """Each attribute, hash and size of a document that is kept elsewhere too; Online is what it is without saying."""
    old = registered(registry)
    changed = update(old, **{attribute: ATTRIBUTES[attribute]})
    assert send(registry, changed, story) == []
    (_, new) = versions(registry, old.unique_id)
    assert replace(new, id=old.id, version="1") == replace(old, **{attribute: ATTRIBUTES[attribute]})


def test_15800b_no_original(registry: Registry) -> None:
    lost = replace(document(), lid=NOWHERE)
    for story in (iti57, iti92):
        assert send(registry, update(lost), story) == ["XDSMetadataVersionError"]


@pytest.mark.parametrize("story", [iti57, iti92])
def test_15800c_a_first_version_goes_elsewhere(registry: Registry, story: Callable[..., Any]) -> None:
    assert send(registry, submission(), story)
    assert send(registry, submission(document(), folder()), story)


@pytest.mark.parametrize("story", [iti57, iti92])
def test_15800d_an_incomplete_update(registry: Registry, story: Callable[..., Any]) -> None:
    assert send(registry, update(registered(registry), class_code=None), story) == [META]


@pytest.mark.parametrize("previous", ["2", "0", "", "x", "01"])
def test_15800e_an_update_of_another_version(registry: Registry, previous: str) -> None:
    old = registered(registry)
    assert send(registry, update(old, previous))
    send(registry, update(old))
    for story in (iti57, iti92):
        assert send(registry, update(old, "1"), story) == ["XDSMetadataVersionError"]


ON_DEMAND_ENTRY = {"object_type": ON_DEMAND, "creation_time": "", "hash": "", "size": "", "legal_authenticator": ""}


@pytest.mark.parametrize("changes", [{"unique_id": "1.2.3"}, ON_DEMAND_ENTRY])
def test_what_identifies_a_document_stays(registry: Registry, changes: dict[str, str]) -> None:
    assert send(registry, update(registered(registry), **changes)) == ["XDSMetadataUpdateError"]


def test_40001b(registry: Registry) -> None:
    old = registered(registry)
    for changes, expected in (({"repository_unique_id": "1.2"}, "UnmodifiableMetadataError"),
                              ({"source_patient_id": "X^^^&1.2&ISO"}, "UnmodifiableMetadataError"),
                              ({"availability": OFFLINE}, "UnmodifiableMetadataError"),
                              ({"patient_id": OTHER}, "XDSPatientIDReconciliationError"),
                              ({"unique_id": "1.2.3"}, "XDSMetadataIdentifierError")):
        assert send(registry, update(old, **changes), iti92) == [expected], changes
    assert send(registry, update(old, **ON_DEMAND_ENTRY), iti92) == ["UnmodifiableMetadataError"]
    assert send(registry, update(old, patient_id=PATIENT.removesuffix("^NH")), iti92) == []


def test_20007_two_updates_of_one_document(registry: Registry) -> None:
    old = registered(registry)
    twice = submission(version_of(old, "New01", unique_id="1.2.3.4"), version_of(old, "New02"), member("New01"),
                       member("New02"))
    for story in (iti57, iti92):
        assert "XDSMetadataUpdateError" in send(registry, twice, story)


@pytest.mark.parametrize("story", [iti57, iti92])
def test_two_documents_at_once_or_none(registry: Registry, story: Callable[..., Any]) -> None:
    one, other = registered(registry), registered(registry)
    def both(version: str) -> Submission:
        return submission(version_of(one, "New01"), version_of(other, "New02"), member("New01"),
                          member("New02", version))
    assert send(registry, both("7"), story) == ["XDSMetadataVersionError"]
    assert send(registry, both("1"), story) == []
    assert [len(versions(registry, entry.unique_id)) for entry in (one, other)] == [2, 2]


def test_12319_a_deprecated_entry(registry: Registry) -> None:
    """May be updated in the restricted way, and stays deprecated; not in the other."""
    old = registered(registry)
    assert send(registry, status_change(old.id, APPROVED, DEPRECATED)) == []
    old = known(registry, old.id)
    assert send(registry, update(old, confidentiality=(code("R"),)), iti92) == []
    (_, new) = versions(registry, old.unique_id)
    assert (new.status, new.version, new.confidentiality) == (DEPRECATED, "2", (code("R"),))
    assert send(registry, update(old, "2", type_code=code("x"))) == ["XDSMetadataUpdateError"]


def test_21002_another_patient(registry: Registry) -> None:
    """Old and new version belong to two patients from then on."""
    old = registered(registry)
    assert send(registry, update(old, patient_id=OTHER)) == []
    logical = {"XDSDocumentEntryLogicalID": listed(old.id), "MetadataLevel": "2"}
    assert len(ask(registry, "GetDocuments", "ObjectRef", **logical).refs) == 2
    with pytest.raises(Refused) as caught:
        ask(registry, "GetDocuments", **logical)
    assert [finding.xds for finding in caught.value.findings] == ["XDSResultNotSinglePatient"]
    assert find(registry).documents == []
    (new,) = find(registry, patient=OTHER).documents
    assert (new.lid, new.version, new.status, new.patient_id) == (old.id, "2", APPROVED, OTHER)
    assert known(registry, old.id).status == DEPRECATED


def test_21003_a_folder_of_another_patient(registry: Registry) -> None:
    old, _ = folder_of(registry)
    assert send(registry, update(old, patient_id=OTHER)) == []
    logical = {"XDSFolderLogicalID": listed(old.id), "MetadataLevel": "2"}
    refs = ask(registry, "GetFolders", "ObjectRef", **logical).refs
    assert len(refs) == 2
    with pytest.raises(Refused) as caught:
        ask(registry, "GetFolders", **logical)
    assert [finding.xds for finding in caught.value.findings] == ["XDSResultNotSinglePatient"]
    told = [ask(registry, "GetFolders", XDSFolderEntryUUID=listed(uuid), MetadataLevel="2").folders for uuid in refs]
    assert sorted((one.version, one.lid, one.status, one.patient_id) for (one,) in told) == [
        ("1", old.id, DEPRECATED, PATIENT), ("2", old.id, APPROVED, OTHER)]


# --- status --------------------------------------------------------------------------------------------------------


def status_change(target: str, original: str, wanted: str, **of_set: Any) -> Submission:
    slots = (Slot("OriginalStatus", (original,)), Slot("NewStatus", (wanted,)))
    return submission(the_set(**of_set), link(UPDATE_AVAILABILITY, "Set01", target, "Change", extra_slots=slots))


def test_15802(registry: Registry) -> None:
    old = registered(registry)
    assert send(registry, status_change(old.id, APPROVED, DEPRECATED)) == []
    assert known(registry, old.id).status == DEPRECATED
    assert send(registry, status_change(old.id, DEPRECATED, APPROVED)) == []
    assert replace(known(registry, old.id), version="1") == old
    assert [one.version for one in versions(registry, old.unique_id)] == ["1"]


def test_15802b_an_older_version(registry: Registry) -> None:
    old = registered(registry)
    send(registry, update(old))
    assert send(registry, status_change(old.id, DEPRECATED, APPROVED)) == ["XDSMetadataUpdateError"]
    assert known(registry, old.id).status == DEPRECATED


@pytest.mark.parametrize(("original", "wanted"), [
    (DEPRECATED, APPROVED), (DEPRECATED, DEPRECATED), (APPROVED, APPROVED), (APPROVED, "urn:x:Lost"), ("", DEPRECATED),
    (APPROVED, "")])
def test_statuses_that_do_not_fit(registry: Registry, original: str, wanted: str) -> None:
    old = registered(registry)
    assert send(registry, status_change(old.id, original or "urn:x", wanted or "urn:x")) == ["XDSMetadataUpdateError"]


def test_21001_a_set_is_never_deprecated(registry: Registry) -> None:
    ids = put(registry).ids
    assert send(registry, status_change(ids["Set01"], APPROVED, DEPRECATED)) == ["XDSMetadataUpdateError"]
    (of_set,) = ask(registry, "GetAssociations", uuid=listed(ids["Document01"])).associations
    assert send(registry, status_change(of_set.id, APPROVED, DEPRECATED)) == ["XDSMetadataUpdateError"]


def test_an_object_that_is_nowhere(registry: Registry) -> None:
    assert send(registry, status_change(NOWHERE, APPROVED, DEPRECATED)) == ["XDSMetadataUpdateError"]


def test_a_folder_and_its_link(registry: Registry) -> None:
    ids = put(registry, document(), folder(), holds("Folder01", "Document01", "Inner")).ids
    for target in ("Folder01", "Inner"):
        assert send(registry, status_change(ids[target], APPROVED, DEPRECATED)) == []
    asked = {"XDSFolderEntryUUID": quoted(ids["Folder01"])}
    assert ask(registry, "GetFolderAndContents", **asked).counts == (0, 0, 0, 0)
    told = ask(registry, "GetFolderAndContents", MetadataLevel="2", **asked)
    assert (told.counts, told.folders[0].status) == ((0, 0, 1, 0), DEPRECATED)
    told = ask(registry, "GetFolderAndContents", MetadataLevel="2", XDSAssociationStatus=BOTH, **asked)
    assert (told.counts, told.associations[0].status) == ((0, 1, 1, 1), DEPRECATED)


def test_a_status_of_another_patients_object(registry: Registry) -> None:
    theirs = put(registry, document(patient_id=OTHER), patient_id=OTHER).ids["Document01"]
    assert send(registry, status_change(theirs, APPROVED, DEPRECATED)) == ["XDSPatientIDReconciliationError"]
    assert find(registry, patient=OTHER).documents[0].status == APPROVED


# --- links ---------------------------------------------------------------------------------------------------------


def submit(kind: str, source: str, target: str, **of_set: Any) -> Submission:
    return submission(the_set(**of_set), link(kind, source, target, "Added"),
                      link(SUBMIT_ASSOCIATION, "Set01", "Added", "Operation"))


def related(registry: Registry, uuid: str, **more: str) -> Told:
    return ask(registry, "GetRelatedDocuments", XDSDocumentEntryEntryUUID=quoted(uuid), AssociationTypes=listed(APND),
               **more)


def test_20001(registry: Registry) -> None:
    one, other = registered(registry), registered(registry)
    assert send(registry, submit(APND, NOWHERE, other.id))
    assert send(registry, submit(APND, one.id, other.id)) == []
    told = related(registry, one.id)
    (added,) = told.associations
    assert (told.counts, added.type, added.source, added.target, added.status) == (
        (0, 2, 0, 1), APND, one.id, other.id, APPROVED)
    assert send(registry, status_change(added.id, APPROVED, DEPRECATED)) == []
    assert related(registry, one.id).counts == (0, 0, 0, 0)
    both = {"XDSAssociationStatus": BOTH, "MetadataLevel": "2"}
    assert related(registry, one.id, **both).counts == (0, 2, 0, 1)
    assert send(registry, status_change(added.id, DEPRECATED, APPROVED)) == []
    assert related(registry, one.id).counts == (0, 2, 0, 1)
    assert send(registry, submit(APND, one.id, other.id)) == ["XDSMetadataUpdateError"]  # a twin


def test_20001_of_an_unknown_type(registry: Registry) -> None:
    """submit_invalid_assoc: APND_TXFM."""
    one, other = registered(registry), registered(registry)
    assert META in send(registry, submit("urn:ihe:iti:2007:AssociationType:APND_TXFM", one.id, other.id))


def test_20100a_and_b(registry: Registry) -> None:
    mine = put(registry, document(), folder()).ids
    theirs = put(registry, document(patient_id=OTHER), patient_id=OTHER).ids["Document01"]
    assert send(registry, submit(APND, mine["Document01"], theirs)) == ["XDSPatientIDReconciliationError"]
    assert send(registry, submit(HAS_MEMBER, mine["Folder01"], theirs)) == ["XDSPatientIDReconciliationError"]


def test_21004_deprecated_ends(registry: Registry) -> None:
    one, other = registered(registry), registered(registry)
    for deprecated in (one, other):
        send(registry, status_change(deprecated.id, APPROVED, DEPRECATED))
        assert send(registry, submit(APND, one.id, other.id)) == ["XDSMetadataUpdateError"]
        send(registry, status_change(deprecated.id, DEPRECATED, APPROVED))
    assert send(registry, submit(APND, one.id, other.id)) == []


def test_ends_of_the_wrong_kind(registry: Registry) -> None:
    ids = put(registry, document(), folder()).ids
    for kind, source, target in ((RPLC, "Document01", "Folder01"), (HAS_MEMBER, "Document01", "Document01"),
                                 (APND, "Set01", "Document01"), (HAS_MEMBER, "Set01", "Document01")):
        assert set(send(registry, submit(kind, ids[source], ids[target]))) == {"XDSMetadataUpdateError"}


def test_a_document_into_a_folder(registry: Registry) -> None:
    ids = put(registry, document(), folder()).ids
    assert send(registry, submit(HAS_MEMBER, ids["Folder01"], ids["Document01"])) == []
    told = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(ids["Folder01"]))
    assert told.counts == (0, 1, 1, 1)


def test_20008_a_version_of_an_association(registry: Registry) -> None:
    ids = put(registry, document(), folder()).ids
    versioned = replace(link(HAS_MEMBER, ids["Folder01"], ids["Document01"], "Added"), lid=NOWHERE)
    assert send(registry, submission(the_set(), versioned, link(SUBMIT_ASSOCIATION, "Set01", "Added", "Operation")))


# --- folders -------------------------------------------------------------------------------------------------------


def folder_of(registry: Registry, *parts: Any) -> tuple[Folder, dict[str, str]]:
    ids = dict(put(registry, folder(), *parts).ids)
    (known_folder,) = ask(registry, "GetFolders", XDSFolderEntryUUID=listed(ids["Folder01"])).folders
    return known_folder, ids


def test_20000(registry: Registry) -> None:
    old, _ = folder_of(registry)
    assert send(registry, update(old, title=localized("Autre"))) == []
    told = ask(registry, "GetFolders", XDSFolderUniqueId=listed(old.unique_id), MetadataLevel="2").folders
    first, second = sorted(told, key=lambda one: one.version)
    assert (first.id, first.lid, first.version, first.status) == (old.id, old.id, "1", DEPRECATED)
    assert (second.lid, second.version, second.status, second.title) == (old.id, "2", APPROVED, localized("Autre"))
    assert ask(registry, "GetFolders", XDSFolderUniqueId=listed(old.unique_id)).uuids == {second.id}


def test_20000b_c_and_f(registry: Registry) -> None:
    old, _ = folder_of(registry)
    for first in (folder(), replace(old, lid="Folder01", id="Folder01")):
        assert set(send(registry, submission(first))) == {"XDSMetadataUpdateError"}
    assert send(registry, update(old, "2")) == ["XDSMetadataVersionError"]
    assert send(registry, update(old, title=())) == [META]
    assert send(registry, update(old, unique_id="1.2.3")) == ["XDSMetadataUpdateError"]


def two_in_a_folder(registry: Registry) -> Folder:
    return folder_of(registry, document(), document("Document02"), holds("Folder01", "Document01"),
                     holds("Folder01", "Document02"))[0]


def history(registry: Registry, unique_id: str) -> Told:
    """Folder and contents as 20000d and e ask for them: every version, every link."""
    return ask(registry, "GetFolderAndContents", XDSFolderUniqueId=quoted(unique_id), MetadataLevel="2",
               XDSAssociationStatus=BOTH)


@pytest.mark.parametrize("slots", [(), (Slot("AssociationPropagation", ("yes",)),)])
def test_20000d_what_the_folder_held_goes_over(registry: Registry, slots: tuple[Slot, ...]) -> None:
    old = two_in_a_folder(registry)
    the_update = the_set()
    assert send(registry, submission(version_of(old), the_update, member("New01", "1", "", *slots))) == []
    told = history(registry, old.unique_id)
    assert told.counts == (0, 2, 2, 4)
    first, second = sorted(told.folders, key=lambda one: one.version)
    assert (first.id, first.lid, first.version, first.status) == (old.id, old.id, "1", DEPRECATED)
    assert (second.lid, second.version, second.status, second.unique_id) == (old.id, "2", APPROVED, old.unique_id)
    assert sorted(one.source for one in told.associations) == sorted([first.id, second.id] * 2)
    now = ask(registry, "GetFolderAndContents", XDSFolderUniqueId=quoted(old.unique_id))
    assert (now.counts, {one.source for one in now.associations}) == ((0, 2, 1, 2), {second.id})
    # query_for_ss_assoc: the set of the update holds the new version, and nothing else
    (sets,) = ask(registry, "GetSubmissionSets", uuid=listed(second.id)).sets
    (one,) = ask(registry, "GetAssociations", uuid=listed(sets.id), MetadataLevel="2").associations
    assert (one.source, one.target, one.status, one.previous_version) == (sets.id, second.id, APPROVED, "1")


def test_20000e_what_the_folder_held_stays(registry: Registry) -> None:
    old = two_in_a_folder(registry)
    slot = Slot("AssociationPropagation", ("no",))
    assert send(registry, submission(version_of(old), the_set(), member("New01", "1", "", slot))) == []
    told = history(registry, old.unique_id)
    assert told.counts == (0, 2, 2, 2)
    assert {(one.source, one.status) for one in told.associations} == {(old.id, APPROVED)}
    now = ask(registry, "GetFolderAndContents", XDSFolderUniqueId=quoted(old.unique_id))
    assert (now.counts, [(one.version, one.status) for one in now.folders]) == ((0, 0, 1, 0), [("2", APPROVED)])


def test_20002b_syntax(registry: Registry) -> None:
    """Slots of another operation, missing, or with values that there are not."""
    old = registered(registry)
    right = member("New01")
    for wrong in (replace(right, extra_slots=(Slot("OriginalStatus", (APPROVED,)),)),
                  replace(right, previous_version=""), replace(right, previous_version="7"),
                  replace(right, submission_set_status="Reference"), replace(right, submission_set_status="Maybe"),
                  replace(right, submission_set_status=""),
                  replace(right, extra_slots=(Slot("AssociationPropagation", ("MAYBE",)),))):
        assert send(registry, submission(version_of(old), wrong)), wrong
    assert send(registry, submission(version_of(old), right)) == []


def test_propagation_is_yes_or_no(registry: Registry) -> None:
    old = registered(registry)
    whole = submission(version_of(old), member("New01", "1", "", Slot("AssociationPropagation", ("perhaps",))))
    assert send(registry, whole) == ["XDSMetadataUpdateError"]


def test_relationships_go_over_to_the_new_version(registry: Registry) -> None:
    old = registered(registry)
    addendum = put(registry, document(), link(APND, "Document01", old.id)).ids["Document01"]
    assert send(registry, update(old)) == []
    (_, new) = versions(registry, old.unique_id)
    told = related(registry, addendum)
    assert {one.id for one in told.documents} == {addendum, new.id}


# --- what must not slip in -----------------------------------------------------------------------------------------


def test_21000_an_update_by_the_wrong_door(registry: Registry) -> None:
    old = registered(registry)
    for whole in (status_change(old.id, APPROVED, DEPRECATED), submit(APND, old.id, old.id), update(old)):
        assert META in send(registry, whole, iti42)


def test_a_request_without_an_operation(registry: Registry) -> None:
    old = registered(registry)
    whole = submission(the_set(), link(HAS_MEMBER, "Set01", old.id, submission_set_status="Reference"))
    assert send(registry, whole) == ["XDSMetadataUpdateOperationError"]


def stowaway(registry: Registry, *parts: Any) -> Submission:
    """A rightful update with something else in the same request."""
    old = registered(registry)
    return submission(version_of(old), member("New01"), *parts)


def test_a_first_version_beside_an_update(registry: Registry) -> None:
    """Neither with a HasMember of the set nor without: it would be registered unseen."""
    assert send(registry, stowaway(registry, document()))
    whole = stowaway(registry, document())
    hidden = Submission(objects=tuple(thing for thing in whole.objects if thing.id != "Member-Document01"))
    assert send(registry, hidden)


def test_a_folder_beside_an_update(registry: Registry) -> None:
    whole = stowaway(registry, folder())
    hidden = Submission(objects=tuple(thing for thing in whole.objects if thing.id != "Member-Folder01"))
    assert send(registry, whole)
    assert send(registry, hidden)


@pytest.mark.parametrize("kind", [APND, RPLC])
def test_a_relationship_beside_an_update(registry: Registry, kind: str) -> None:
    """Without SubmitAssociation nobody has looked at it: to another patient's document, say."""
    theirs = put(registry, document(patient_id=OTHER), patient_id=OTHER).ids["Document01"]
    assert send(registry, stowaway(registry, link(kind, "New01", theirs)))
    assert send(registry, stowaway(registry, link(kind, theirs, NOWHERE)))


def test_a_member_beside_an_update(registry: Registry) -> None:
    theirs = put(registry, document(patient_id=OTHER), folder(patient_id=OTHER), patient_id=OTHER).ids
    for extra in (link(HAS_MEMBER, "Set01", theirs["Document01"], submission_set_status="Reference"),
                  link(HAS_MEMBER, "Set01", NOWHERE, submission_set_status="Reference"),
                  holds(theirs["Folder01"], "New01")):
        assert send(registry, stowaway(registry, extra)), extra


def test_a_new_version_under_a_uuid_that_is_there(registry: Registry) -> None:
    old, other = registered(registry), registered(registry)
    new = version_of(old, other.id)
    assert send(registry, submission(new, member(other.id))) == [META]


def test_a_set_that_is_there(registry: Registry) -> None:
    put(registry, unique_id="1.2.3.4")
    old = registered(registry)
    assert send(registry, submission(version_of(old), member("New01"), unique_id="1.2.3.4")) == [
        "XDSDuplicateUniqueIdInRegistry"]


def test_operations_are_not_kept(registry: Registry) -> None:
    """UpdateAvailabilityStatus and SubmitAssociation say what to do; no query finds them."""
    old = registered(registry)
    send(registry, status_change(old.id, APPROVED, DEPRECATED))
    told = ask(registry, "GetAssociations", uuid=listed(old.id), XDSAssociationStatus=BOTH, MetadataLevel="2")
    assert {one.type for one in told.associations} == {HAS_MEMBER}


def test_restricted_means_documents_only(registry: Registry) -> None:
    old, _ = folder_of(registry)
    entry, other = registered(registry), registered(registry)
    for whole in (update(old), status_change(entry.id, APPROVED, DEPRECATED), submit(APND, entry.id, other.id)):
        assert send(registry, whole, iti92)
