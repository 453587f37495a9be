"""A local identifier moves to another patient and takes its documents along, as new versions (ITI-64, IHE's plans)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from dmp.profile import DmpProfile
from journal.exchanges import Exchange, verdict_of
from registry import identity, link_change, patients
from registry.affinity import AffinityDomain
from registry.profile import PlainProfile
from registry.register import Registry
from registry.tables import outbox
from registry.transactions import Services
from tests.registry.samples import (
    BOTH,
    DOMAIN,
    INS,
    OTHER,
    PATIENT,
    STRANGER,
    Told,
    ask,
    document,
    find,
    folder,
    get,
    holds,
    link,
    listed,
    put,
    quoted,
    shown,
    status_of,
    the_set,
)
from xds.feed import Feed, LinkChange, Merge
from xds.findings import Finding, Refused
from xds.model import DocumentEntry
from xds.vocabulary import APND, APPROVED, DEPRECATED, RPLC, SIGNS, XFRM

SENDER = "1.2.3.77"
LOCAL, SUBSUMED, ELSEWHERE = (f"{value}^^^&1.2.3.4&ISO" for value in ("IPP1", "IPP2", "IPP3"))
WAS, NOW = OTHER, PATIENT  # the patient whom the local identifier named, and the one whom it names from now on
MOVE = LinkChange(NOW, WAS, LOCAL, "", SENDER)
MERGE = LinkChange(NOW, WAS, LOCAL, SUBSUMED, SENDER)
WITHIN = LinkChange(WAS, WAS, LOCAL, SUBSUMED, SENDER)


def cx(value: str, root: str = INS) -> str:
    return f"{value}^^^&{root}&ISO"


@pytest.fixture
def services(registry: Registry) -> Services:
    return Services(registry, PlainProfile(registry.domain))


def a43(told: LinkChange) -> bytes:
    """The message, each identifier where §3.64.4.1.2.3 and 4 want it."""
    ended = "~".join(filter(None, (told.previous, told.subsumed)))
    return (f"MSH|^~\\&|GESTION^{told.sender}^ISO|ETAB|VOLET|REGISTRE|20260301083000||ADT^A43^ADT_A43|M-9|T|2.5\r"
            f"EVN||20260301083000\rPID|||{told.new}~{told.local}||ESSAI^CAMILLE\rMRG|{ended}\r").encode()


def tell(services: Services, told: LinkChange) -> tuple[bytes, list[Finding]]:
    """The message by its door; the ACK, and findings."""
    exchange = Exchange()
    answer = identity.iti8(a43(told), services, exchange)
    assert (exchange.name, exchange.action, patients.key_of(exchange.patient)) == (
        "ITI-64", "ADT^A43", patients.key_of(told.new))
    return answer, list(exchange.findings)


def move(services: Services, told: LinkChange) -> list[str]:
    """Codes of the warnings of a message that is carried out."""
    answer, findings = tell(services, told)
    assert b"MSA|AA|M-9" in answer, answer
    return [finding.code for finding in findings]


def codes(told: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in told]


def local(identity: str = "D1", source: str = LOCAL, **changes: Any) -> DocumentEntry:
    return document(identity, patient_id=WAS, source_patient_id=source, **changes)


def put_for(registry: Registry, patient: str, *parts: Any) -> dict[str, str]:
    """The parts in a set of that patient: uuids by symbol."""
    whole = [replace(part, patient_id=patient) if hasattr(part, "patient_id") else part for part in parts]
    return dict(put(registry, *whole, the_set(patient_id=patient)).ids)


def append(registry: Registry, to: str, identity: str = "D2", **changes: Any) -> dict[str, str]:
    """A second document that appends the first; the ids, and "link" for the association."""
    return put_for(registry, WAS, local(identity, **changes), link(APND, identity, to, "link"))


def found(registry: Registry, patient: str, status: str = BOTH, level: str = "1") -> list[DocumentEntry]:
    return ask(registry, "FindDocuments", XDSDocumentEntryPatientId=quoted(patient), XDSDocumentEntryStatus=status,
               MetadataLevel=level).documents


def folders_of(registry: Registry, patient: str, status: str = BOTH, level: str = "1") -> list[Any]:
    return ask(registry, "FindFolders", XDSFolderPatientId=quoted(patient), XDSFolderStatus=status,
               MetadataLevel=level).folders


def everything(registry: Registry, patient: str) -> Told:
    return ask(registry, "GetAll", patientId=quoted(patient), XDSDocumentEntryStatus=BOTH, XDSFolderStatus=BOTH,
               XDSSubmissionSetStatus=BOTH, MetadataLevel="2")


def version_1(registry: Registry, uuid: str) -> DocumentEntry:
    (entry,) = ask(registry, "GetDocuments", XDSDocumentEntryEntryUUID=listed(uuid), MetadataLevel="2").documents
    return entry


# --- the plans of IHE's toolkit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("told", "source"), [(MOVE, LOCAL), (MERGE, SUBSUMED)], ids=["16101", "16102"])
def test_a_single_document(services, registry, told, source):
    put_for(registry, WAS, local(source=source))
    assert move(services, told) == []
    assert len(found(registry, WAS, listed(APPROVED))) == 0
    assert len(found(registry, NOW, listed(APPROVED))) == 1


@pytest.mark.parametrize(("told", "source"), [(MOVE, LOCAL), (MERGE, SUBSUMED)], ids=["16101b", "16102b"])
@pytest.mark.parametrize("level", ["1", "2"])
def test_two_related_documents(services, registry, told, source, level):
    first = put_for(registry, WAS, local(source=source))["D1"]
    append(registry, first, source=source)
    assert move(services, told) == []
    assert [entry.status for entry in found(registry, WAS, level=level)] == [DEPRECATED] * 2
    created = found(registry, NOW, level=level)
    assert [(entry.status, entry.version) for entry in created] == [(APPROVED, "2")] * 2
    assert all(entry.id != entry.lid for entry in created)


def test_two_documents_and_their_folder_16102c(services, registry):
    """But for the level: 2 is what §3.18.4.1.2.3.5.1.1 shows an old version of a folder at."""
    put_for(registry, WAS, local("D1", SUBSUMED), local("D2", SUBSUMED), folder("F1"), holds("F1", "D1"),
            holds("F1", "D2"))
    assert move(services, MERGE) == []
    for patient, status in ((WAS, DEPRECATED), (NOW, APPROVED)):
        assert [entry.status for entry in found(registry, patient)] == [status] * 2
        assert [entry.status for entry in folders_of(registry, patient, level="2")] == [status]


def test_within_one_patient_a_single_document_16103(services, registry):
    put_for(registry, WAS, local(source=SUBSUMED))
    assert len(found(registry, WAS, listed(APPROVED))) == 1
    assert move(services, WITHIN) == []
    (entry,) = found(registry, WAS, listed(APPROVED))
    assert (entry.version, entry.source_patient_id) == ("2", LOCAL)


def test_within_one_patient_two_related_documents_16103b(services, registry):
    append(registry, put_for(registry, WAS, local(source=SUBSUMED))["D1"], source=SUBSUMED)
    assert move(services, WITHIN) == []
    assert sorted(entry.version for entry in found(registry, WAS)) == ["1", "1", "2", "2"]


def test_within_one_patient_a_folder_stays_16103c(services, registry):
    """Of the two documents one has the identifier that is replaced; the folder holds both, and the new version."""
    ids = put_for(registry, WAS, local("D1", SUBSUMED), local("D2", ELSEWHERE), folder("F1"), holds("F1", "D1"),
                  holds("F1", "D2"))
    before = folders_of(registry, WAS)[0].last_update_time
    assert move(services, WITHIN) == []
    assert len(found(registry, WAS)) == 3
    (entry,) = folders_of(registry, WAS)
    assert (entry.id, entry.status, entry.version) == (ids["F1"], APPROVED, "1")
    assert entry.last_update_time >= before
    held = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(ids["F1"]), MetadataLevel="2").documents
    assert len(held) == 3


# --- what moves ----------------------------------------------------------------------------------------------------


def test_a_new_version_differs_in_its_patient_and_nothing_else(services, registry):
    uuid = put_for(registry, WAS, local())["D1"]
    move(services, MOVE)
    old, new = version_1(registry, uuid), found(registry, NOW)[0]
    assert new.patient_id == "299999999999945^^^&1.2.250.1.213.1.4.10&ISO^NH"
    assert new.lid == old.lid == uuid
    changed = {"id": old.id, "patient_id": old.patient_id, "version": old.version, "status": old.status}
    assert replace(new, **changed) == old
    both = ask(registry, "GetDocuments", XDSDocumentEntryLogicalID=listed(uuid), MetadataLevel="2", returns="ObjectRef")
    assert set(both.refs) == {old.id, new.id}
    assert get(registry, uuid).uuids == set()  # level 1 has older versions in finds only


def test_the_subsumed_local_identifier_gives_way_in_the_new_version(services, registry):
    uuid = put_for(registry, WAS, local(source=SUBSUMED))["D1"]
    move(services, MERGE)
    assert version_1(registry, uuid).source_patient_id == SUBSUMED
    assert found(registry, NOW)[0].source_patient_id == LOCAL


def test_only_what_is_in_force_under_the_local_identifier_of_that_patient_moves(services, registry):
    replaced = put_for(registry, WAS, local("D1"))["D1"]
    kept = put_for(registry, WAS, local("D2"), link(RPLC, "D2", replaced))["D2"]
    put_for(registry, WAS, local("D3", ELSEWHERE))
    theirs = put_for(registry, NOW, local("D4"))["D4"]
    assert move(services, MOVE) == []  # the lost replacement is told nowhere
    assert {(entry.lid, entry.status) for entry in found(registry, NOW)} == {(kept, APPROVED), (theirs, APPROVED)}
    assert get(registry, theirs).documents[0].status == APPROVED
    assert len(found(registry, WAS, listed(APPROVED))) == 1
    assert [entry.type for entry in everything(registry, NOW).associations if entry.type == RPLC] == []


def test_both_local_identifiers_go_along(services, registry):
    put_for(registry, WAS, local("D1"), local("D2", SUBSUMED))
    assert move(services, MERGE) == []
    assert [(entry.version, entry.source_patient_id) for entry in found(registry, NOW)] == [("2", LOCAL)] * 2


@pytest.mark.parametrize("kind", [APND, XFRM, SIGNS])
def test_a_relationship_between_what_moves_goes_along(services, registry, kind):
    first = put_for(registry, WAS, local("D1"))["D1"]
    ids = put_for(registry, WAS, local("D2"), link(kind, "D2", first, "link"))
    move(services, MOVE)
    new = {entry.lid: entry.id for entry in found(registry, NOW)}
    (kept,) = (entry for entry in everything(registry, NOW).associations if entry.type == kind)
    assert (kept.source, kept.target) == (new[ids["D2"]], new[first])
    related = ask(registry, "GetRelatedDocuments", XDSDocumentEntryEntryUUID=quoted(new[first]),
                  AssociationTypes=listed(kind)).documents
    assert {entry.id for entry in related} == set(new.values())


def test_a_relationship_to_what_stays_is_dropped_and_told(services, registry):
    first = put_for(registry, WAS, local("D1", ELSEWHERE))["D1"]
    append(registry, first)
    assert move(services, MOVE) == ["V-REG-LINK-DROPPED"]
    assert [entry.type for entry in everything(registry, NOW).associations if entry.type == APND] == []
    old = ask(registry, "GetRelatedDocuments", XDSDocumentEntryEntryUUID=quoted(first), AssociationTypes=listed(APND),
              MetadataLevel="2")
    assert len(old.documents) == 2


def test_a_folder_of_others_too_stays_and_is_told(services, registry):
    ids = put_for(registry, WAS, local("D1"), local("D2", ELSEWHERE), folder("F1"), holds("F1", "D1"),
                  holds("F1", "D2"))
    assert move(services, MOVE) == ["V-REG-LINK-DROPPED"]
    assert folders_of(registry, NOW) == []
    held = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(ids["F1"])).documents
    assert {entry.id for entry in held} >= {ids["D2"]}


def test_a_folder_that_moves_holds_the_new_versions(services, registry):
    ids = put_for(registry, WAS, local("D1"), folder("F1"), holds("F1", "D1"))
    assert move(services, MOVE) == []
    (entry,) = folders_of(registry, NOW)
    assert (entry.lid, entry.version, entry.status) == (ids["F1"], "2", APPROVED)
    held = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(entry.id)).documents
    assert [one.id for one in held] == [one.id for one in found(registry, NOW)]
    assert folders_of(registry, WAS) == []


def test_the_set_is_the_registrys_own(services, registry):
    uuid = put_for(registry, WAS, local("D1"))["D1"]
    move(services, MOVE)
    told = everything(registry, NOW)
    (one,) = told.sets
    assert (one.source_id, one.patient_id, one.content_type) == (
        SENDER, cx("299999999999945"), DOMAIN.link_change)
    assert one.unique_id.startswith("2.25.")
    (member,) = told.associations
    assert (member.source, member.target, member.submission_set_status, member.previous_version) == (
        one.id, found(registry, NOW)[0].id, "Original", "1")
    held = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(one.id))
    assert [entry.lid for entry in held.documents] == [uuid]


def test_a_sender_without_oid_is_a_warning_and_the_registry_stands_for_it(services, registry):
    put_for(registry, WAS, local("D1"))
    assert move(services, replace(MOVE, sender="")) == ["V-REG-LINK-SENDER"]
    assert everything(registry, NOW).sets[0].source_id == DOMAIN.repository_unique_id


def test_a_set_that_refers_to_a_document_refers_to_its_new_version(services, registry):
    uuid = put_for(registry, WAS, local("D1"))["D1"]
    reference = holds("Set01", uuid, submission_set_status="Reference")
    refers = put_for(registry, WAS, local("D2", ELSEWHERE), reference)
    move(services, MOVE)
    (new,) = (entry.id for entry in found(registry, NOW))
    links = ask(registry, "GetAssociations", uuid=listed(refers["Set01"]), MetadataLevel="2").associations
    assert [(entry.target, entry.submission_set_status) for entry in links if entry.target in {uuid, new}] == [
        (new, "Reference")]


def test_a_document_replaced_after_the_move_is_the_new_patients(services, registry):
    put_for(registry, WAS, local("D1"))
    move(services, MOVE)
    (moved,) = found(registry, NOW)
    put_for(registry, NOW, local("D2"), link(RPLC, "D2", moved.id))
    assert status_of(registry, moved.id) == "Deprecated"
    assert len(found(registry, NOW, listed(APPROVED))) == 1


def test_there_and_back_again(services, registry):
    uuid = put_for(registry, WAS, local("D1"))["D1"]
    move(services, MOVE)
    move(services, replace(MOVE, new=WAS, previous=NOW))
    assert {(entry.version, entry.status) for entry in found(registry, WAS)} == {("1", DEPRECATED), ("3", APPROVED)}
    assert {(entry.version, entry.status) for entry in found(registry, NOW)} == {("2", DEPRECATED)}
    told = ask(registry, "GetDocuments", XDSDocumentEntryLogicalID=listed(uuid), MetadataLevel="2", returns="ObjectRef")
    assert len(told.refs) == 3


def test_documents_of_patients_merged_into_the_previous_one_move_too(services, registry):
    third = cx("42", "1.2.250.1.999.2")
    with registry.database.write() as connection:
        patients.feed(connection, [third], patients.Traits())
    put_for(registry, third, local("D1"))
    identity.merge(services, Merge((WAS,), (third,)))
    assert move(services, MOVE) == []
    assert len(found(registry, NOW)) == 1
    assert found(registry, WAS, listed(APPROVED)) == []


# --- refused, repeated, without effect -----------------------------------------------------------------------------


def test_the_same_message_again_moves_nothing_more(services, registry):
    put_for(registry, WAS, local("D1"))
    move(services, MOVE)
    before = everything(registry, NOW).uuids | everything(registry, WAS).uuids
    assert move(services, MOVE) == ["V-REG-LINK-NOTHING"]
    assert everything(registry, NOW).uuids | everything(registry, WAS).uuids == before


@pytest.mark.parametrize("told", [replace(MOVE, new=STRANGER), replace(MOVE, previous=STRANGER)])
def test_patients_who_are_not_known_are_refused(services, registry, told):
    uuid = put_for(registry, WAS, local("D1"))["D1"]
    answer, findings = tell(services, told)
    assert b"MSA|AE|M-9" in answer
    assert b"|204^Unknown key identifier^HL70357|E|" in answer
    assert codes(findings) == ["V-REG-PATIENT-UNKNOWN"]
    assert verdict_of(findings) == "refused"
    assert status_of(registry, uuid) == "Approved"


def test_a_patient_who_was_merged_away_is_refused(services, registry):
    put_for(registry, WAS, local("D1"))
    identity.merge(services, Merge((NOW,), (WAS,)))
    answer, findings = tell(services, MOVE)
    assert b"MSA|AE" in answer
    assert codes(findings) == ["V-REG-PATIENT-UNKNOWN"]


def test_a_failure_on_the_way_changes_nothing(services, registry, monkeypatch):
    uuid = put_for(registry, WAS, local("D1"))["D1"]
    monkeypatch.setattr(link_change.versions, "supersede", lambda *_: False)
    with pytest.raises(Refused) as caught:
        link_change.change_link(registry, MOVE)
    assert shown(caught.value.findings)[0][0] == "V-UPD-OVERTAKEN"
    monkeypatch.undo()
    assert found(registry, NOW) == []
    assert status_of(registry, uuid) == "Approved"


def test_the_french_record_lets_no_feed_move_documents(registry):
    def nothing(*_: object) -> Any:
        raise AssertionError("neither matrix nor trust is asked for")

    uuid = put_for(registry, WAS, local("D1"))["D1"]
    profile: DmpProfile[AffinityDomain, Any] = DmpProfile(registry.domain, nothing, nothing)
    answer, findings = tell(Services(registry, profile), MOVE)
    assert b"MSA|AE" in answer
    assert len(findings) == 1
    assert status_of(registry, uuid) == "Approved"


# --- who hears of it -----------------------------------------------------------------------------------------------


def events(registry: Registry) -> list[tuple[str, int, dict[str, Any]]]:
    with registry.database.read() as connection:
        rows = connection.execute(select(outbox).order_by(outbox.c.id)).all()
    return [(row.kind, row.patient_id, json.loads(row.payload)) for row in rows]


def id_of(registry: Registry, patient: str) -> int:
    with registry.database.read() as connection:
        known = patients.find(connection, patient)
    assert known is not None
    return known.id


def test_both_patients_listeners_hear_of_a_move(services, registry):
    uuid = put_for(registry, WAS, local("D1"))["D1"]
    seen = len(events(registry))
    move(services, MOVE)
    (one, owner, arrival), (other, left, departure) = events(registry)[seen:]
    assert (one, other) == ("update", "update")
    assert (owner, left) == (id_of(registry, NOW), id_of(registry, WAS))
    assert arrival["versions"] == [entry.id for entry in found(registry, NOW)]
    assert (arrival["superseded"], departure["superseded"]) == ([], [uuid])


def test_local_identifiers_that_are_known_name_the_new_patient(services, registry):
    identity.feed(registry, Feed((WAS, LOCAL, SUBSUMED)))
    put_for(registry, WAS, local("D1", SUBSUMED))
    seen = len(events(registry))
    assert move(services, MERGE) == []
    with registry.database.read() as connection:
        new = patients.find(connection, NOW)
        assert new is not None
        assert set(patients.identifiers_of(connection, new.id)) == {LOCAL, cx("299999999999945")}
        assert patients.find(connection, SUBSUMED) is None
        local_patient = patients.find(connection, LOCAL)
        assert local_patient is not None
        assert local_patient.id == new.id
    told = {(owner, tuple(sorted(payload["identifiers"]))) for kind, owner, payload in events(registry)[seen:]
            if kind == "identity"}
    assert told == {(id_of(registry, NOW), tuple(sorted((cx("299999999999945"), LOCAL)))),
                    (id_of(registry, WAS), (cx("199999999999995"),))}


def test_identifiers_move_without_documents_too(services, registry):
    identity.feed(registry, Feed((WAS, LOCAL)))
    assert move(services, MOVE) == ["V-REG-LINK-NOTHING"]
    assert len(find(registry, patient=LOCAL).documents) == 0
    assert id_of(registry, LOCAL) == id_of(registry, NOW)
