"""Merged patients: one of the two identifiers ends, both patients' objects are one record, and no row was moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from dmp import record
from dmp.profile import DmpProfile
from journal.exchanges import Exchange, verdict_of
from registry import claims, identity, patients
from registry.affinity import AffinityDomain
from registry.patients import Kin, Traits
from registry.profile import PlainProfile
from registry.reader import Reader
from registry.register import Registry, register
from registry.remove import remove
from registry.tables import document as document_table
from registry.transactions import Services, find_in
from registry.update import update
from security.access import Gate
from security.identity import Caller
from tests.registry.samples import (
    BOTH,
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
    replacing,
    shown,
    status_of,
    submission,
    the_set,
)
from xds import ebxml, hl7v3
from xds.feed import Feed, Merge
from xds.findings import Refused
from xds.hl7v3 import II, Header
from xds.rim import ObjectRef
from xds.vocabulary import APND, APPROVED, HAS_MEMBER, RPLC
from xds.xml import parse

HEADER = Header("", II("1.2.3.9", "m-1"), II("1.2.3.5"), II("1.2.3.6"), "T")
LOCAL = "1.2.250.1.999.1"
OLD, NEW = OTHER, PATIENT  # OLD is merged into NEW


def cx(value: str, root: str = INS) -> str:
    return f"{value}^^^&{root}&ISO"


@pytest.fixture
def services(registry: Registry) -> Services:
    return Services(registry, PlainProfile(registry.domain))


def merge(services: Services, survivor: str, subsumed: str) -> list[str]:
    """Codes of the warnings of a merge."""
    _, findings = identity.merge(services, Merge((survivor,), (subsumed,)))
    return [finding.code for finding in findings]


def refusal(act: Callable[[], Any]) -> list[str]:
    with pytest.raises(Refused) as caught:
        act()
    return [finding.code for finding in caught.value.findings]


def feed(services: Services, *identifiers: str) -> None:
    identity.feed(services.registry, Feed(identifiers, family="ESSAI"))


def of(patient: str, *parts: Any, **of_set: Any) -> list[Any]:
    """The parts, all for one patient, in a set of theirs."""
    return [replace(part, patient_id=patient) if hasattr(part, "patient_id") else part
            for part in (*(parts or (document(),)), the_set(**of_set))]


def put_for(registry: Registry, patient: str, *parts: Any) -> dict[str, str]:
    return dict(put(registry, *of(patient, *parts)).ids)


def all_of(registry: Registry, patient: str) -> Told:
    return ask(registry, "GetAll", patientId=quoted(patient), XDSDocumentEntryStatus=BOTH, XDSSubmissionSetStatus=BOTH,
               XDSFolderStatus=BOTH)


# --- queries -------------------------------------------------------------------------------------------------------


def test_the_survivor_has_both_patients_objects_and_the_old_identifier_none(services, registry):
    old = put_for(registry, OLD, document("D1"), folder("F1"), holds("F1", "D1"))
    new = put_for(registry, NEW, document("D2"))
    assert merge(services, NEW, OLD) == []
    assert {entry.id for entry in find(registry, patient=NEW).documents} == {old["D1"], new["D2"]}
    assert find(registry, patient=OLD).uuids == set()
    assert all_of(registry, OLD).counts == (0, 0, 0, 0)
    assert all_of(registry, NEW).counts == (2, 2, 1, 5)
    folders = ask(registry, "FindFolders", XDSFolderPatientId=quoted(NEW), XDSFolderStatus=listed(APPROVED)).folders
    assert [entry.id for entry in folders] == [old["F1"]]
    sets = ask(registry, "FindSubmissionSets", XDSSubmissionSetPatientId=quoted(NEW),
               XDSSubmissionSetStatus=listed(APPROVED)).sets
    assert len(sets) == 2


def test_the_surviving_identifier_is_shown_and_nothing_else_changes(services, registry):
    entry = replace(document("D1"), patient_id=OLD)
    uuid = put_for(registry, OLD, entry, folder("F1"), holds("F1", "D1"))["D1"]
    (before,) = get(registry, uuid).documents
    merge(services, cx("299999999999945"), cx("199999999999995"))
    (after,) = get(registry, uuid).documents
    # The fifth component is the profile's and stays as it was submitted.
    assert (before.patient_id, after.patient_id) == (OLD, "299999999999945^^^&1.2.250.1.213.1.4.10&ISO^NH")
    assert replace(after, patient_id=OLD) == before
    assert after.source_patient_info == before.source_patient_info
    told = all_of(registry, NEW)
    assert {thing.patient_id for thing in (*told.documents, *told.folders, *told.sets)} == {NEW}


GET = [
    ("GetDocuments", {"XDSDocumentEntryEntryUUID": "{D1},{D2}"}, (0, 2, 0, 0)),
    ("GetDocumentsAndAssociations", {"XDSDocumentEntryEntryUUID": "{D1},{D2}"}, (0, 2, 0, 3)),
    ("GetSubmissionSets", {"uuid": "{D1},{D2}"}, (2, 0, 0, 2)),
    ("GetAssociations", {"uuid": "{D1},{D2}"}, (0, 0, 0, 3)),
    ("GetRelatedDocuments", {"XDSDocumentEntryEntryUUID": "{D1}", "AssociationTypes": APND}, (0, 2, 0, 1)),
]


@pytest.mark.parametrize(("name", "parameters", "counts"), GET, ids=[row[0] for row in GET])
def test_merged_patients_are_a_single_patient(services, registry, name, parameters, counts):
    """D2, of the survivor, appends D1, of the subsumed one."""
    ids = put_for(registry, OLD, document("D1"))
    merge(services, NEW, OLD)
    ids |= put_for(registry, NEW, document("D2"), link(APND, "D2", ids["D1"]))
    asked = {key: f"'{value.format(**ids)}'" if name == "GetRelatedDocuments" and "," not in value
             and key != "AssociationTypes" else listed(*value.format(**ids).split(","))
             for key, value in parameters.items()}
    assert ask(registry, name, **asked).counts == counts


def test_two_patients_who_are_not_merged_are_not_a_single_patient(services, registry):
    uuids = [put_for(registry, patient, document())["Document01"] for patient in (OLD, NEW)]
    assert refusal(lambda: get(registry, *uuids)) == ["V-QUERY-NOT-SINGLE-PATIENT"]
    merge(services, NEW, OLD)
    assert len(get(registry, *uuids).documents) == 2


def test_a_gate_for_the_survivor_lets_the_subsumed_through(services, registry):
    uuid = put_for(registry, OLD, document())["Document01"]
    with registry.database.read() as connection:
        survivor = patients.find(connection, NEW)
    assert survivor is not None
    gate = Gate(only_patient=survivor.id)
    for name, parameters in (
            ("GetDocuments", {"XDSDocumentEntryEntryUUID": listed(uuid)}), ("GetAssociations", {"uuid": listed(uuid)}),
            ("GetSubmissionSets", {"uuid": listed(uuid)})):
        assert ask(registry, name, gate=gate, **parameters).uuids == set()
    merge(services, NEW, OLD)
    for name, parameters in (
            ("GetDocuments", {"XDSDocumentEntryEntryUUID": listed(uuid)}), ("GetAssociations", {"uuid": listed(uuid)}),
            ("GetSubmissionSets", {"uuid": listed(uuid)})):
        assert ask(registry, name, gate=gate, **parameters).uuids
    with registry.database.read() as connection:
        reader = Reader(connection, registry.book, gate)
        (claim,) = claims.find(connection, [uuid])[uuid]
        assert reader.lets_through(claim, next(iter(reader.by_identifiers(claims.DOCUMENT, [uuid]).values())))


# --- submissions ---------------------------------------------------------------------------------------------------


def test_the_old_identifier_takes_no_submissions(services, registry):
    merge(services, NEW, OLD)
    with pytest.raises(Refused) as caught:
        register(registry, submission(*of(OLD)))
    assert shown(caught.value.findings) == [("V-REG-PATIENT-UNKNOWN", "patientId", "XDSUnknownPatientId")]


def test_the_old_identifier_is_not_made_anew_where_unknown_patients_are_accepted(services, registry):
    merge(services, NEW, OLD)
    accepting = replace(registry, domain=replace(registry.domain, unknown_patients="accept"))
    with pytest.raises(Refused) as caught:
        register(accepting, submission(*of(OLD)))
    assert [finding.xds for finding in caught.value.findings] == ["XDSUnknownPatientId"]


def test_a_document_of_the_subsumed_patient_is_replaced_with_what_depends_on_it_and_in_its_folder(services, registry):
    ids = put_for(registry, OLD, document("D1"), folder("F1"), holds("F1", "D1"))
    addendum = put_for(registry, OLD, *replacing(ids["D1"], "D2", APND))["D2"]
    merge(services, NEW, OLD)
    new = put_for(registry, NEW, *replacing(ids["D1"], "D3", RPLC))["D3"]
    assert [status_of(registry, uuid) for uuid in (ids["D1"], addendum, new)] == [
        "Deprecated", "Deprecated", "Approved"]
    held = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(ids["F1"]))
    assert {entry.id for entry in held.documents} == {ids["D1"], new}
    related = ask(registry, "GetRelatedDocuments", XDSDocumentEntryEntryUUID=quoted(ids["D1"]),
                  AssociationTypes=listed(RPLC, APND))
    assert {entry.id for entry in related.documents} == {ids["D1"], addendum, new}


def test_a_folder_of_the_subsumed_patient_takes_documents_of_the_survivor(services, registry):
    ids = put_for(registry, OLD, document("D1"), folder("F1"), holds("F1", "D1"))
    merge(services, NEW, OLD)
    new = put_for(registry, NEW, document("D2"), holds(ids["F1"], "D2"))
    held = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(ids["F1"]))
    assert {entry.id for entry in held.documents} == {ids["D1"], new["D2"]}
    mine = ask(registry, "GetFoldersForDocument", XDSDocumentEntryEntryUUID=quoted(new["D2"])).folders
    assert [entry.id for entry in mine] == [ids["F1"]]


def test_before_the_merge_all_that_is_refused(services, registry):
    ids = put_for(registry, OLD, document("D1"), folder("F1"), holds("F1", "D1"))
    for parts in (replacing(ids["D1"], "D2"), (document("D2"), holds(ids["F1"], "D2"))):
        assert refusal(lambda parts=parts: register(registry, submission(*of(NEW, *parts)))) == [
            "V-REG-PATIENT-OF-LINK"]


def test_a_submission_sent_again_after_the_merge_is_unknown_under_the_old_identifier_only(services, registry):
    whole = submission(*of(OLD))
    register(registry, whole)
    merge(services, NEW, OLD)
    assert refusal(lambda: register(registry, whole, accept_repeat=True)) == ["V-REG-PATIENT-UNKNOWN"]


def test_new_rows_are_the_survivors_and_old_ones_stay(services, registry):
    put_for(registry, OLD, document("D1"))
    merge(services, NEW, OLD)
    put_for(registry, NEW, document("D2"))
    with registry.database.read() as connection:
        rows = connection.execute(document_table.select().order_by(document_table.c.registered)).all()
        old, new = (patients.row_of(connection, one).id for one in (OLD, NEW))
    assert [row.patient_id for row in rows] == [old, new]


# --- updates and removal -------------------------------------------------------------------------------------------


def new_version(registry: Registry, uuid: str, patient: str, **changes: Any) -> Any:
    (old,) = get(registry, uuid).documents
    entry = replace(old, id="New", lid=old.lid, patient_id=patient, status="", version="", **changes)
    owner = the_set(patient_id=patient)
    parts = (owner, replace(entry, extra_classifications=()),
             link(HAS_MEMBER, owner.id, "New", submission_set_status="Original", previous_version=old.version))
    return ebxml.to_submission([ebxml.from_set(owner), ebxml.from_document(parts[1]),
                                ebxml.from_association(parts[2])])


def test_a_document_of_the_subsumed_patient_gets_new_versions_and_keeps_its_relationships(services, registry):
    ids = put_for(registry, OLD, document("D1"), folder("F1"), holds("F1", "D1"))
    merge(services, NEW, OLD)
    uuid = update(registry, new_version(registry, ids["D1"], NEW, language="en-GB"))["New"]
    told = ask(registry, "GetDocuments", XDSDocumentEntryLogicalID=listed(ids["D1"]), MetadataLevel="2").documents
    assert {(entry.id, entry.version, entry.patient_id) for entry in told} == {
        (ids["D1"], "1", NEW), (uuid, "2", NEW)}
    mine = ask(registry, "GetFoldersForDocument", XDSDocumentEntryEntryUUID=quoted(uuid)).folders
    assert [entry.id for entry in mine] == [ids["F1"]]


def test_a_restricted_update_keeps_the_patient_although_the_identifier_is_another(services, registry):
    uuid = put_for(registry, OLD, document("D1"))["D1"]
    merge(services, NEW, OLD)
    assert update(registry, new_version(registry, uuid, NEW, language="en-GB"), restricted=True)["New"]


def test_relationships_of_the_survivor_keep_an_object_of_the_subsumed_from_being_removed(services, registry):
    ids = put_for(registry, OLD, document("D1"))
    merge(services, NEW, OLD)
    put_for(registry, NEW, document("D2"), link(APND, "D2", ids["D1"]))
    held = ask(registry, "GetSubmissionSets", uuid=listed(ids["D1"]))
    removed = [ids["D1"], *(thing.id for thing in held.objects)]
    codes = refusal(lambda: remove(registry, [ObjectRef(uuid) for uuid in removed]))
    assert codes == ["V-RMV-REFERENCED"]


# --- what is a merge and what is not -------------------------------------------------------------------------------


@pytest.mark.parametrize(("survivor", "subsumed", "code"), [
    (STRANGER, OLD, "V-REG-PATIENT-UNKNOWN"),
    (NEW, STRANGER, "V-REG-PATIENT-UNKNOWN"),
    (NEW, NEW, "V-REG-MERGE-SAME"),
])
def test_no_merge_changes_nothing(services, survivor, subsumed, code):
    before = dump(services.registry)
    assert refusal(lambda: merge(services, survivor, subsumed)) == [code]
    assert dump(services.registry) == before


def dump(registry: Registry) -> list[Any]:
    with registry.database.read() as connection:
        return [connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2")).all()
                for table in ("patient", "patient_identifier", "outbox")]


def test_an_identifier_ends_once(services):
    feed(services, STRANGER)
    assert merge(services, NEW, OLD) == []
    before = dump(services.registry)
    assert merge(services, NEW, OLD) == ["V-REG-MERGE-REPEATED"]
    assert refusal(lambda: merge(services, STRANGER, OLD)) == ["V-REG-IDENTITY-RETIRED"]
    assert refusal(lambda: merge(services, OLD, STRANGER)) == ["V-REG-IDENTITY-RETIRED"]
    assert refusal(lambda: merge(services, OLD, NEW)) == ["V-REG-IDENTITY-RETIRED"]
    assert refusal(lambda: feed(services, OLD)) == ["V-REG-IDENTITY-RETIRED"]
    assert dump(services.registry) == before


def test_a_chain_leads_to_its_end(services, registry):
    feed(services, STRANGER)
    uuids = [put_for(registry, patient, document())["Document01"] for patient in (OLD, NEW, STRANGER)]
    merge(services, NEW, OLD)
    merge(services, STRANGER, NEW)
    found = find(registry, patient=STRANGER)
    assert {entry.id for entry in found.documents} == set(uuids)
    assert {entry.patient_id for entry in found.documents} == {STRANGER}
    assert [find(registry, patient=patient).uuids for patient in (OLD, NEW)] == [set(), set()]
    assert merge(services, STRANGER, OLD) == ["V-REG-MERGE-REPEATED"]


def test_other_identifiers_of_the_subsumed_patient_name_the_survivor(services, registry):
    feed(services, OLD, cx("L1", LOCAL))
    put_for(registry, OLD, document("D1"))
    merge(services, NEW, OLD)
    assert len(find(registry, patient=cx("L1", LOCAL)).documents) == 1
    with registry.database.read() as connection:
        survivor = patients.find(connection, NEW)
        assert survivor is not None
        assert patients.identifiers_of(connection, survivor.id) == [cx("299999999999945"), cx("L1", LOCAL)]


def test_of_two_identifiers_of_one_patient_one_ends(services, registry):
    feed(services, NEW, cx("second"))
    put_for(registry, cx("second"), document("D1"))
    assert merge(services, NEW, cx("second")) == []
    assert find(registry, patient=cx("second")).uuids == set()
    (entry,) = find(registry, patient=NEW).documents
    assert refusal(lambda: put_for(registry, cx("second"), document("D2"))) == ["V-REG-PATIENT-UNKNOWN"]
    assert merge(services, NEW, cx("second")) == ["V-REG-MERGE-REPEATED"]
    # Submitted with an identifier that has ended, under the patient's own id: it stays as it was submitted.
    assert entry.patient_id == cx("second")


def test_a_feed_that_names_the_survivor_beside_the_past_is_about_the_survivor(services, registry):
    merge(services, NEW, OLD)
    identity.feed(registry, Feed((OLD, NEW), family="NOUVEAU"))
    with registry.database.read() as connection:
        found = patients.find(connection, NEW)
        assert found is not None
        assert found.family == "NOUVEAU"
        assert patients.find(connection, OLD) is None


def test_only_identifiers_of_the_community_count(services, registry):
    domain = replace(registry.domain, patient_authorities=frozenset({INS}))
    narrow = Services(replace(registry, domain=domain), PlainProfile(domain))
    _, findings = identity.merge(narrow, Merge((cx("L1", LOCAL), NEW), (OLD, cx("L2", LOCAL))))
    assert [finding.code for finding in findings] == ["V-REG-IDENTITY-KEPT-OUT"] * 2
    assert refusal(lambda: merge(narrow, cx("L1", LOCAL), OLD)) == ["V-REG-IDENTITY-NONE"]


def test_an_unknown_identifier_beside_a_known_one_is_a_warning(services):
    _, findings = identity.merge(services, Merge((NEW,), (OLD, STRANGER)))
    assert [(finding.code, finding.severity) for finding in findings] == [("V-REG-PATIENT-UNKNOWN", "warning")]


def test_survivors_of_two_patients_are_refused(services):
    feed(services, STRANGER)
    assert refusal(lambda: identity.merge(services, Merge((NEW, STRANGER), (OLD,)))) == ["V-REG-IDENTITY-CONFLICT"]


def test_where_unknown_patients_are_accepted_both_may_be_new(services, registry):
    domain = replace(registry.domain, unknown_patients="accept")
    accepting = Services(replace(registry, domain=domain), PlainProfile(domain))
    merge(accepting, cx("a"), cx("b"))
    assert refusal(lambda: put_for(accepting.registry, cx("b"), document())) == ["V-REG-PATIENT-UNKNOWN"]
    assert put_for(accepting.registry, cx("a"), document())


def test_the_profile_and_the_outbox_hear_of_it_in_the_same_transaction(services, registry):
    class Failing(PlainProfile):
        def merged(self, *_: object) -> None:
            raise ArithmeticError

    before = dump(registry)
    with pytest.raises(ArithmeticError):
        merge(Services(registry, Failing(registry.domain)), NEW, OLD)
    assert dump(registry) == before
    merge(services, NEW, OLD)
    assert len(dump(registry)[2]) == len(before[2]) + 1


# --- the doors -----------------------------------------------------------------------------------------------------


def a40(survivor: str, subsumed: str) -> bytes:
    return (f"MSH|^~\\&|SOURCE|ETAB|VOLET|REGISTRE|20260301083000||ADT^A40^ADT_A39|M-7|T|2.5\rEVN|A40\r"
            f"PID|||{survivor}||ESSAI^CAMILLE\rMRG|{subsumed}\r").encode()


@pytest.mark.parametrize(("survivor", "subsumed", "code", "wrong"), [
    (NEW, OLD, b"MSA|AA|M-7", b""), (NEW, STRANGER, b"MSA|AE|M-7", b"|204^Unknown key identifier^HL70357|E|"),
    (NEW, NEW, b"MSA|AE|M-7", b"|205^Duplicate key identifier^HL70357|E|V-REG-MERGE-SAME"),
    (NEW, "42^^^HOPITAL", b"MSA|AE|M-7", b"|E|V-FEED-AUTHORITY"),
])
def test_iti8_a40(services, survivor, subsumed, code, wrong):
    exchange = Exchange()
    answer = identity.iti8(a40(survivor, subsumed), services, exchange)
    assert code in answer
    assert wrong in answer
    assert (exchange.name, exchange.action) == ("ITI-8", "ADT^A40")
    assert verdict_of(exchange.findings) == ("refused" if wrong else "accepted")


@pytest.mark.parametrize(("subsumed", "code", "details"), [
    (OLD, "CA", []), (STRANGER, None, ["V-REG-PATIENT-UNKNOWN"])])
def test_iti44_merge(services, subsumed, code, details):
    body = parse(hl7v3.write_merge(Feed((NEW,), family="ESSAI"), subsumed, HEADER, datetime.now(UTC)).encode())
    exchange = Exchange()
    if code is None:
        assert refusal(lambda: identity.iti44(body, Caller(), exchange, services)) == details
    else:
        answer = identity.iti44(body, Caller(), exchange, services)
        assert hl7v3.read_acknowledgement(parse(answer.body.encode())).type == code
        assert find(services.registry, patient=subsumed).uuids == set()
    assert exchange.patient == cx("299999999999945")


# --- the French record ---------------------------------------------------------------------------------------------


def dmp(registry: Registry) -> Services:
    def nothing(*_: object) -> Any:
        raise AssertionError("neither matrix nor trust is asked for")

    profile: DmpProfile[AffinityDomain, Any] = DmpProfile(registry.domain, nothing, nothing)
    return Services(registry, profile)


def test_the_record_goes_over_with_what_was_granted(registry):
    """NIA by NIR: who was authorised still is, and sees what was submitted under both."""
    french = dmp(registry)
    doctor, blocked = "801234567897", "801234567898"
    with registry.database.write() as connection:
        old, new = (patients.find(connection, one) for one in (OLD, NEW))
        assert old is not None
        assert new is not None
        record.write(connection, record.Record(old.id, opposition_centre_15=True))
        record.grant(connection, old.id, doctor, record.Authorisation(record.VALID, treating=True))
        record.grant(connection, old.id, blocked, record.Authorisation(record.FORBIDDEN))
        record.grant(connection, new.id, blocked, record.Authorisation(record.VALID))
    merge(french, NEW, OLD)
    with registry.database.read() as connection:
        assert record.read(connection, old.id) is None
        assert record.read(connection, new.id) == record.Record(new.id, opposition_centre_15=True)
        assert record.standing(connection, new.id, doctor) == record.Authorisation(record.VALID, treating=True)
        assert record.standing(connection, new.id, blocked).state == record.FORBIDDEN
        assert record.standing(connection, old.id, doctor) == record.Authorisation()
        assert find_in(connection)(NEW) == new.id
        assert find_in(connection)(OLD) is None


def test_of_two_records_the_strictest_of_each_choice_counts(registry):
    with registry.database.write() as connection:
        old, new = (patients.find(connection, one) for one in (OLD, NEW))
        assert old is not None
        assert new is not None
        record.write(connection, record.Record(old.id, record.CLOSED, opposition_bris_de_glace=True,
                                               consent_masked_in_emergency=True))
        record.write(connection, record.Record(new.id))
    merge(dmp(registry), NEW, OLD)
    with registry.database.read() as connection:
        assert record.read(connection, new.id) == record.Record(new.id, opposition_bris_de_glace=True)


# --- kin -----------------------------------------------------------------------------------------------------------


def test_who_was_never_merged_costs_one_look_up(registry):
    uuid = put_for(registry, NEW, document("D1"))["D1"]
    statements: list[str] = []
    event.listen(registry.database.engine, "before_cursor_execute",
                 lambda _c, _cursor, statement, *_: statements.append(statement))
    for act in (lambda: find(registry, patient=NEW), lambda: get(registry, uuid),
                lambda: find(registry, patient=NEW, ClassCode="('11^^1.2.3')")):
        statements.clear()
        act()
        assert sum("merged_into" in one and "asked" in one for one in statements) == 1
    statements.clear()
    put_for(registry, NEW, document("D2"))
    assert sum("merged_into" in one and "asked" in one for one in statements) == 1


def test_the_look_up_goes_by_the_index(registry):
    with registry.database.read() as connection:
        plan = connection.execute(text(
            "EXPLAIN QUERY PLAN SELECT other.id FROM patient AS asked JOIN patient AS other"
            " ON other.merged_into = coalesce(asked.merged_into, asked.id) WHERE asked.id IN (1)")).all()
    assert any("patient_merged" in row.detail for row in plan)
    assert not any(row.detail.startswith("SCAN") for row in plan)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_merges_are_those_of_a_model_in_memory(registry, pairs):
    """Survivors by name, and the set of those who are each; what the model refuses is refused."""
    services = Services(registry, PlainProfile(registry.domain))
    prefix = f"{id(pairs)}-{len(pairs)}-"
    names = [cx(f"{prefix}{number}") for number in range(6)]
    with registry.database.write() as connection:
        ids = {number: patients.feed(connection, [name], Traits()).id for number, name in enumerate(names)}
    groups = {number: {number} for number in range(6)}
    for survivor, subsumed in pairs:
        into = next((number for number, group in groups.items() if subsumed in group), None)
        if survivor not in groups or survivor == subsumed or (subsumed not in groups and into != survivor):
            with pytest.raises(Refused):
                merge(services, names[survivor], names[subsumed])
        else:
            merge(services, names[survivor], names[subsumed])
            groups[survivor] |= groups.pop(subsumed, set())
    with registry.database.read() as connection:
        for number, name in enumerate(names):
            found = patients.find(connection, name)
            assert (found is not None) == (number in groups)
            survivor = next(of for of, group in groups.items() if number in group)
            kin = Kin(connection)
            assert kin.ids([ids[number]]) == {ids[one] for one in groups[survivor]}
            assert kin.survivor(ids[number]) == ids[survivor]
            assert kin.shown(ids[number]) == ("" if survivor == number else names[survivor])
