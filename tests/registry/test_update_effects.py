"""What an update (ITI-57) means to others: patients, callers, replacements, queries, other writers, the outbox."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from journal.exchanges import Exchange
from journal.ids import bucket
from registry import operations, patients
from registry import versions as registry_versions
from registry.profile import PlainProfile
from registry.register import Registry, register
from registry.tables import association, identifier_claim
from registry.tables import document as document_table
from registry.transactions import Services, iti57
from registry.update import update as update_document_set
from security.access import Gate
from security.identity import Caller
from tests.registry.changes import (
    SET,
    again,
    codes,
    doc,
    ends,
    events,
    findings,
    fold,
    instead,
    linked,
    links,
    one_entry,
    one_filed,
    refusal,
    removed,
    request,
    restate,
    restated,
    send,
    version,
    versions,
)
from tests.registry.rivals import in_threads
from tests.registry.samples import (
    BOTH,
    OTHER,
    PATIENT,
    STRANGER,
    ask,
    document,
    find,
    folder,
    get,
    link,
    listed,
    put,
    quoted,
    replacing,
    submission,
    the_set,
)
from xds import messages
from xds.findings import Refused
from xds.model import DocumentEntry
from xds.rim import localized
from xds.vocabulary import (
    APND,
    APPROVED,
    DEPRECATED,
    OFFLINE,
    ONLINE,
)
from xds.xml import parse

NOWHERE = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"
GIVEN = "urn:uuid:6c1b0c5e-0002-4000-8000-00000000000a"


@pytest.fixture
def entry(registry: Registry) -> DocumentEntry:
    return one_entry(registry)


@pytest.fixture
def filed(registry: Registry) -> dict[str, str]:
    return one_filed(registry)


# --- patients ------------------------------------------------------------------------------------------------------


def test_a_document_moves_to_another_patient(registry: Registry, entry: DocumentEntry) -> None:
    new = version(registry, entry, patient_id=OTHER)
    assert (new.lid, new.version, new.patient_id) == (entry.lid, "2", OTHER)
    assert find(registry).documents == []
    assert [one.id for one in find(registry, patient=OTHER).documents] == [new.id]
    (mine, told), (theirs, lost) = sorted(events(registry, "update"), key=lambda event: "set" not in event[1])
    assert mine != theirs
    assert told["versions"] == [new.id]
    assert told["superseded"] == []
    assert lost == {"superseded": [entry.id]}


def test_every_version_is_found_whoever_had_it(registry: Registry, entry: DocumentEntry) -> None:
    """There and back again: the version in the middle is of another patient than the first and the last."""
    version(registry, entry, patient_id=OTHER)
    last = version(registry, entry, "2", patient_id=PATIENT)
    told = ask(registry, "GetDocuments", "ObjectRef", XDSDocumentEntryLogicalID=listed(entry.lid), MetadataLevel="2")
    assert len(told.refs) == 3
    assert [one.id for one in ask(registry, "GetDocuments", XDSDocumentEntryLogicalID=listed(entry.lid)).documents] == [
        last.id]


def test_relationships_do_not_join_patients(registry: Registry, filed: dict[str, str]) -> None:
    """A document in a folder moves alone only when it leaves the folder, which must be said."""
    entry = doc(registry, filed["D"])
    new = again(entry, patient_id=OTHER)
    one = instead(new)
    told = findings(registry, new, one, patient_id=OTHER)
    assert {finding.xds for finding in told} == {"XDSPatientIDReconciliationError"}
    assert {(finding.where.path, finding.received) for finding in told} == {
        (f"Association({one.id})/AssociationPropagation", filed[name]) for name in "FA"}
    version(registry, entry, patient_id=OTHER, slots={"AssociationPropagation": "no"})
    assert find(registry, patient=OTHER).counts == (0, 1, 0, 0)


def test_related_objects_move_together(registry: Registry, filed: dict[str, str]) -> None:
    parts = [again(doc(registry, filed["D"]), patient_id=OTHER), again(doc(registry, filed["A"]), patient_id=OTHER),
             again(fold(registry, filed["F"]), patient_id=OTHER)]
    made = send(registry, *parts, *(instead(part) for part in parts), patient_id=OTHER)
    told = ask(registry, "GetAll", patientId=quoted(OTHER), XDSDocumentEntryStatus=BOTH, XDSSubmissionSetStatus=BOTH,
               XDSFolderStatus=BOTH)
    assert told.counts == (1, 2, 1, 5)
    assert ends(registry, made[parts[0].id], APND) == {(made[parts[1].id], made[parts[0].id])}
    with registry.database.read() as connection:
        rows = connection.execute(select(association.c.patient_id, association.c.bucket)).all()
    assert {(row.patient_id, row.bucket) for row in rows} == {(row.patient_id, bucket(row.patient_id)) for row in rows}


def test_a_status_of_another_patients_object(registry: Registry, entry: DocumentEntry) -> None:
    one = restated(entry.id, APPROVED)
    assert refusal(registry, one, patient_id=OTHER) == [
        ("V-UPD-PATIENTS-JOINED", f"Association({one.id})/targetObject", "XDSPatientIDReconciliationError")]


def test_a_patient_who_is_not_known(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry, patient_id=STRANGER)
    assert codes(registry, new, instead(new), patient_id=STRANGER) == ["XDSUnknownPatientId"]
    assert codes(registry, new, instead(new)) == ["XDSPatientIDReconciliationError"]


def test_a_patient_who_is_made_on_first_use(registry: Registry, entry: DocumentEntry) -> None:
    """Where the domain says so, as for a first registration."""
    registry = replace(registry, domain=replace(registry.domain, unknown_patients="accept"))
    assert version(registry, entry, patient_id=STRANGER).patient_id == STRANGER
    assert len(find(registry, patient=STRANGER).documents) == 1


# --- what a gate hides ---------------------------------------------------------------------------------------------


def gate_of(registry: Registry, patient: str) -> Gate:
    with registry.database.read() as connection:
        found = patients.find(connection, patient)
    assert found is not None
    return Gate(only_patient=found.id)


def test_what_belongs_to_others_does_not_exist(registry: Registry, filed: dict[str, str]) -> None:
    """A caller admitted to one record takes nothing out of another, and learns nothing of it."""
    gate, entry = gate_of(registry, OTHER), doc(registry, filed["D"])
    theirs = put(registry, document(patient_id=OTHER), patient_id=OTHER).ids["Document01"]
    new, added = again(entry, patient_id=OTHER), link(APND, theirs, filed["D"])
    for parts, code_ in (((new, instead(new)), "V-UPD-VERSION-UNKNOWN"),
                         ((restated(filed["D"], APPROVED),), "V-UPD-STATUS-TARGET"),
                         ((added, linked(added)), "V-UPD-LINK")):
        with pytest.raises(Refused) as caught:
            update_document_set(registry, request(*parts, patient_id=OTHER), gate=gate)
        assert [finding.code for finding in caught.value.findings] == [code_]
    assert send(registry, restated(theirs, APPROVED), gate=gate, patient_id=OTHER)


def test_a_document_that_the_caller_may_not_see(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry)
    with pytest.raises(Refused) as caught:
        update_document_set(registry, request(new, instead(new)),
                            gate=Gate(sees=lambda facts: facts.type_code != "60591-5"))
    assert [finding.code for finding in caught.value.findings] == ["V-UPD-VERSION-UNKNOWN"]
    assert send(registry, new, instead(new), gate=Gate(sees=lambda _: True))


def test_the_profile_is_asked_and_its_gate_holds(registry: Registry, entry: DocumentEntry) -> None:
    class Narrow(PlainProfile):
        def admit(self, connection: Any, caller: Any, action: str, patient: str, find: Any) -> Gate:
            assert (action, patient) == ("update", PATIENT)
            return Gate(only_patient=-1)

    new, exchange = again(entry), Exchange()
    body = parse(messages.write_submit_objects(request(new, instead(new)).objects).encode())
    with pytest.raises(Refused) as caught:
        iti57(body, Caller(), exchange, Services(registry, Narrow(registry.domain)))
    assert [finding.code for finding in caught.value.findings] == ["V-UPD-VERSION-UNKNOWN"]
    assert exchange.patient == PATIENT


# --- replacing what has versions -----------------------------------------------------------------------------------


def test_a_replacement_is_of_the_newest_version(registry: Registry, entry: DocumentEntry) -> None:
    new = version(registry, entry)
    with pytest.raises(Refused) as caught:
        register(registry, submission(*replacing(entry.id)))
    assert [finding.xds for finding in caught.value.findings] == ["XDSRegistryDeprecatedDocumentError"]
    put(registry, *replacing(new.id))
    assert [status for _, _, status in versions(registry, entry.lid)] == ["Deprecated", "Deprecated"]


def test_a_replacement_stands_in_the_folders_of_the_newest(registry: Registry, filed: dict[str, str]) -> None:
    new = version(registry, doc(registry, filed["D"])).id
    last = put(registry, *replacing(new)).ids["Document01"]
    told = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(filed["F"]))
    assert {one.id for one in told.documents} == {new, last}
    assert doc(registry, filed["A"]).status == DEPRECATED, "the addendum went over to the new version"


def test_an_addendum_that_is_none_any_more(registry: Registry, filed: dict[str, str]) -> None:
    """Its link is out of force: it is not deprecated with the document it was added to."""
    restate(registry, filed["To"])
    put(registry, *replacing(filed["D"]))
    assert (doc(registry, filed["D"]).status, doc(registry, filed["A"]).status) == (DEPRECATED, APPROVED)


# --- levels of queries ---------------------------------------------------------------------------------------------


def test_level_1_knows_one_version(registry: Registry, filed: dict[str, str]) -> None:
    entry = doc(registry, filed["D"])
    new = version(registry, entry).id
    assert get(registry, entry.id).documents == []
    assert [one.id for one in ask(registry, "GetDocuments", XDSDocumentEntryUniqueId=listed(entry.unique_id)).documents
            ] == [new]
    assert len(ask(registry, "GetDocuments", XDSDocumentEntryUniqueId=listed(entry.unique_id),
                   MetadataLevel="2").documents) == 2
    in_set = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(filed["Set"]))
    assert [one.id for one in in_set.documents] == []
    with_history = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(filed["Set"]),
                       MetadataLevel="2")
    assert [one.id for one in with_history.documents] == [entry.id]


def test_level_1_knows_no_document_that_was_taken_offline(registry: Registry, entry: DocumentEntry) -> None:
    """§3.18.4.1.2.3.5.1.1: hidden until it is online again, and there all the while at level 2."""
    gone = version(registry, entry, availability=OFFLINE)
    assert find(registry).documents == []
    assert get(registry, gone.id).documents == []
    assert doc(registry, gone.id).availability == OFFLINE
    back = version(registry, entry, "2", availability=ONLINE)
    assert [one.id for one in find(registry).documents] == [back.id]


def test_level_1_knows_no_folder_out_of_force(registry: Registry) -> None:
    uuid = put(registry, folder()).ids["Folder01"]
    restate(registry, uuid)
    for level, expected in (("1", []), ("2", [uuid])):
        told = ask(registry, "FindFolders", XDSFolderPatientId=quoted(PATIENT), XDSFolderStatus=BOTH,
                   MetadataLevel=level)
        assert [one.id for one in told.folders] == expected
        told = ask(registry, "GetFolders", XDSFolderEntryUUID=listed(uuid), MetadataLevel=level)
        assert [one.id for one in told.folders] == expected


def test_links_out_of_force_are_shown_at_level_2_and_by_name(registry: Registry, filed: dict[str, str]) -> None:
    restate(registry, filed["To"])
    for level, statuses, expected in (("1", None, 0), ("1", BOTH, 0), ("2", None, 0), ("2", BOTH, 1),
                                      ("2", listed(DEPRECATED), 1), ("2", listed(APPROVED), 0)):
        asked = {} if statuses is None else {"XDSAssociationStatus": statuses}
        told = ask(registry, "GetAssociations", uuid=listed(filed["A"]), MetadataLevel=level, **asked)
        assert sum(one.type == APND for one in told.associations) == expected
        everything = ask(registry, "GetAll", patientId=quoted(PATIENT), XDSDocumentEntryStatus=BOTH,
                         XDSSubmissionSetStatus=BOTH, XDSFolderStatus=BOTH, MetadataLevel=level, **asked)
        assert sum(one.type == APND for one in everything.associations) == expected


# --- several at once, and what is told -----------------------------------------------------------------------------


def test_two_writers_one_wins(registry: Registry, entry: DocumentEntry) -> None:
    """Each read version 1; whoever comes second learns that it is not the newest any more."""
    def attempt(number: int) -> str:
        new = again(entry, title=localized(f"Écrivain {number}"))
        try:
            update_document_set(registry, request(new, instead(new)))
        except Refused as refused:
            return ", ".join(finding.xds for finding in refused.findings)
        return ""

    outcomes = in_threads([lambda number=number: attempt(number) for number in range(6)])
    assert sorted(outcomes) == ["", *["XDSMetadataVersionError"] * 5]
    assert [number for number, _, _ in versions(registry, entry.lid)] == ["1", "2"]


def test_a_replacement_and_an_update_race(registry: Registry, entry: DocumentEntry) -> None:
    def update_() -> str:
        new = again(entry)
        try:
            update_document_set(registry, request(new, instead(new)))
        except Refused as refused:
            return refused.findings[0].xds
        return ""

    def replace_() -> str:
        try:
            register(registry, submission(*replacing(entry.id)))
        except Refused as refused:
            return refused.findings[0].xds
        return ""

    updated, replaced = in_threads([update_, replace_])
    assert (updated, replaced) == ("", "XDSRegistryDeprecatedDocumentError") or (
        updated in {"XDSMetadataUpdateError", "XDSMetadataVersionError"} and replaced == "")
    assert [status for _, _, status in versions(registry, entry.lid)] == ["Deprecated"] + ["Approved"] * (not updated)


def test_who_was_overtaken_changes_nothing(registry: Registry, entry: DocumentEntry,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database lets several write at once: what was read is compared again when it is written."""
    newest = registry_versions.newest

    def meanwhile(connection: Any, lid: str) -> Any:
        held = newest(connection, lid)
        connection.execute(update(document_table).values(status=registry.book.id_of(DEPRECATED)))
        return held

    monkeypatch.setattr(registry_versions, "newest", meanwhile)
    new = again(entry)
    with pytest.raises(Refused) as caught:
        update_document_set(registry, request(new, instead(new)))
    assert [finding.xds for finding in caught.value.findings] == ["XDSMetadataVersionError"]
    monkeypatch.undo()
    assert versions(registry, entry.lid) == [("1", entry.id, "Approved")]


def test_the_outbox_tells_what_happened(registry: Registry, filed: dict[str, str]) -> None:
    new = again(doc(registry, filed["D"]))
    made = send(registry, new, instead(new), restated(filed["A"], APPROVED))
    ((_, payload),) = events(registry, "update")
    assert payload == {"set": made[SET], "versions": [made[new.id]], "superseded": [filed["D"]],
                       "statuses": [filed["A"]], "deprecated": [], "folders": [filed["F"]]}


def test_identifiers_of_every_version_lead_to_it(registry: Registry, entry: DocumentEntry) -> None:
    """The lid to the newest; each entryUUID to its own; nothing is left behind when all are removed."""
    second = version(registry, entry)
    third = version(registry, entry, "2")
    with registry.database.read() as connection:
        before = len(connection.execute(select(identifier_claim)).all())
    uuids = [entry.id, second.id, third.id]
    sets = [one for uuid in uuids for one in links(registry, uuid).associations]
    removed(registry, *uuids, *(one.id for one in sets), *(one.source for one in sets))
    with registry.database.read() as connection:
        left = connection.execute(select(identifier_claim)).all()
    assert before == 3 * (1 + 1 + 2 + 1) + 2 + 1, "entries, their uniqueId, sets, memberships; lids"
    assert left == []


def test_every_rule_has_its_error_code() -> None:
    rules = [value for name, value in vars(operations).items() if name.isupper() and hasattr(value, "xds")]
    assert len(rules) == 21
    assert all(rule.xds for rule in rules)


def test_a_set_of_another_id(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry)
    made = send(registry, the_set("Lot", title=localized("Correction")), new, instead(new, source="Lot"))
    told = ask(registry, "GetSubmissionSets", uuid=listed(made[new.id]))
    assert [one.title for one in told.sets] == [localized("Correction")]
