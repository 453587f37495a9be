"""Queries over several patients (ITI-51): IHE's plan 12364, what must be given, how much is told, and to whom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dmp import record
from dmp.profile import DmpProfile
from dmp.record import Authorisation, Record
from journal.exchanges import Exchange
from registry import identity, multi_patient, patients
from registry.affinity import AffinityDomain
from registry.multi_patient import BY_ID
from registry.profile import PlainProfile
from registry.register import Registry
from registry.transactions import Services, iti18
from security.access import DocumentFacts, Gate
from security.identity import AccessMode, Caller, CardType, Identity, Kind
from tests.registry.samples import (
    BOTH,
    DOMAIN,
    OTHER,
    PATIENT,
    STRANGER,
    Told,
    code,
    document,
    folder,
    holds,
    listed,
    put,
    query,
    read_answer,
    the_set,
)
from xds import messages
from xds.feed import Merge
from xds.findings import Refused
from xds.messages import AdhocQuery
from xds.rim import Slot
from xds.vocabulary import APPROVED
from xds.xml import Element, parse

NAME = "FindDocumentsForMultiplePatients"
FOLDERS = "FindFoldersForMultiplePatients"


def asked(name: str = NAME, returns: str = "ObjectRef", **parameters: str | list[str]) -> AdhocQuery:
    """A query; the prefix of documents and folders is left out, status is APPROVED unless told."""
    (identity_,) = (known.id for known in BY_ID.values() if known.name == name)
    prefix = "$XDSDocumentEntry" if name == NAME else "$XDSFolder"
    slots = [Slot(prefix + key, (text,)) for key, value in {"Status": listed(APPROVED), **parameters}.items()
             for text in ([value] if isinstance(value, str) else value) if text]
    return AdhocQuery(identity_, return_type=returns, slots=tuple(slots))


def ask(registry: Registry, name: str = NAME, returns: str = "ObjectRef", gate: Gate | None = None,
        **parameters: str | list[str]) -> Told:
    answer = multi_patient.run(registry, asked(name, returns, **parameters), lambda _reader: gate or Gate())
    told = read_answer("".join(answer.objects))
    assert answer.count == len(told.refs) + len(told.objects)
    return told


def refusal(registry: Registry, *args: Any, **parameters: Any) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as caught:
        ask(registry, *args, **parameters)
    return [(finding.code, finding.xds) for finding in caught.value.findings]


def body(request: AdhocQuery) -> Element:
    return parse(messages.write_query(request).encode())


def put_for(registry: Registry, patient: str, *parts: Any) -> dict[str, str]:
    whole = [replace(part, patient_id=patient) if hasattr(part, "patient_id") else part for part in parts]
    return dict(put(registry, *whole, the_set(patient_id=patient)).ids)


# --- plan 12364 ----------------------------------------------------------------------------------------------------


@pytest.fixture
def plan(registry: Registry) -> Registry:
    """Documents of two patients that the steps of the plan count as it says."""
    for patient, cls, event, facility in (
            (PATIENT, "C1", "E1", "H1"), (PATIENT, "C1", "E2", "H2"), (OTHER, "C1", "E3", "H2"),
            (OTHER, "C2", "E1", "H1"), (OTHER, "C2", "E3", "H2")):
        put_for(registry, patient, document("D", class_code=code(cls), event_codes=(code(event),),
                                            facility_type=code(facility)))
    return registry


def code_list(*values: str) -> str:
    return listed(*(f"{value}^^1.2.3" for value in values))


@pytest.mark.parametrize(("parameters", "count"), [
    ({"ClassCode": code_list("C1")}, 3), ({"EventCodeList": code_list("E1")}, 2),
    ({"HealthcareFacilityTypeCode": code_list("H1")}, 2),
    ({"ClassCode": code_list("C1"), "EventCodeList": code_list("E1")}, 1),
    ({"HealthcareFacilityTypeCode": code_list("H1"), "EventCodeList": code_list("E1")}, 2),
    ({"PatientId": listed(PATIENT), "EventCodeList": code_list("E1")}, 1),
    ({"PatientId": listed(PATIENT, OTHER), "EventCodeList": code_list("E1")}, 2),
], ids=["classcode", "eventcode", "hcftc", "classcode_eventcode", "eventcode_hcft", "one_pid", "multi_pid"])
def test_the_plan(plan, parameters, count):
    assert len(ask(plan, **parameters).refs) == count


def test_the_plan_asks_for_something(plan):
    assert refusal(plan) == [("V-QUERY-PARAMETER-MISSING", "XDSStoredQueryMissingParam")]
    assert refusal(plan, TypeCode=code_list("60591-5")) == [("V-QUERY-PARAMETER-MISSING", "XDSStoredQueryMissingParam")]
    assert refusal(plan, FOLDERS) == [("V-QUERY-PARAMETER-MISSING", "XDSStoredQueryMissingParam")]
    assert refusal(plan, ClassCode=code_list("C1"), Status="")[0][1] == "XDSStoredQueryMissingParam"


# --- what is found -------------------------------------------------------------------------------------------------


def test_full_objects_of_several_patients_are_allowed(plan):
    told = ask(plan, returns="LeafClass", ClassCode=code_list("C1"))
    assert sorted({entry.patient_id for entry in told.documents}) == sorted((PATIENT, OTHER))
    assert len(told.documents) == 3


def test_an_unknown_patient_finds_nothing_and_does_no_harm_beside_a_known_one(plan):
    assert ask(plan, PatientId=listed(STRANGER)).refs == []
    assert len(ask(plan, PatientId=listed(PATIENT, STRANGER)).refs) == 2


def test_event_codes_may_be_asked_for_together(registry):
    put_for(registry, PATIENT, document("D", event_codes=(code("E1"), code("E2"))))
    put_for(registry, OTHER, document("D", event_codes=(code("E1"),)))
    assert len(ask(registry, EventCodeList=code_list("E1", "E2")).refs) == 2
    assert len(ask(registry, EventCodeList=[code_list("E1"), code_list("E2")]).refs) == 1


@pytest.mark.parametrize(("parameters", "count"), [
    ({"CodeList": code_list("SUIVI")}, 2), ({"PatientId": listed(OTHER)}, 1), ({"CodeList": code_list("AUTRE")}, 0),
    ({"CodeList": code_list("SUIVI"), "PatientId": listed(PATIENT, OTHER), "Status": BOTH}, 2),
    ({"CodeList": code_list("SUIVI"), "LastUpdateTimeTo": "'2000'"}, 0),
])
def test_folders(registry, parameters, count):
    for patient in (PATIENT, OTHER):
        put_for(registry, patient, folder("F"), document("D"), holds("F", "D"))
    assert len(ask(registry, FOLDERS, **parameters).refs) == count
    assert len(ask(registry, FOLDERS, "LeafClass", **parameters).folders) == count


def test_a_merged_patient_is_the_survivor(plan):
    identity.merge(Services(plan, PlainProfile(plan.domain)), Merge((PATIENT,), (OTHER,)))
    assert len(ask(plan, PatientId=listed(PATIENT)).refs) == 5
    assert ask(plan, PatientId=listed(OTHER)).refs == []
    told = ask(plan, returns="LeafClass", ClassCode=code_list("C1", "C2"))
    assert {entry.patient_id for entry in told.documents} == {PATIENT}
    assert len(told.documents) == 5


# --- how much, and to whom -----------------------------------------------------------------------------------------


def limited(registry: Registry, most: int) -> Registry:
    return replace(registry, domain=replace(registry.domain, max_results=most))


@pytest.mark.parametrize("returns", ["ObjectRef", "LeafClass"])
def test_what_is_told_is_bounded_either_way(plan, returns):
    told = ask(limited(plan, 3), returns=returns, ClassCode=code_list("C1"))
    assert len(told.refs) + len(told.documents) == 3
    assert refusal(limited(plan, 2), returns=returns, ClassCode=code_list("C1")) == [
        ("V-QUERY-TOO-MANY", "XDSTooManyResults")]


def test_a_gate_holds_for_all(plan):
    with plan.database.read() as connection:
        known = patients.find(connection, OTHER)
    assert known is not None
    assert len(ask(plan, gate=Gate(only_patient=known.id), ClassCode=code_list("C1")).refs) == 1

    def in_hospital(facts: DocumentFacts) -> bool:
        return facts.class_code == "C2"

    assert len(ask(plan, gate=Gate(sees=in_hospital), ClassCode=code_list("C1", "C2")).refs) == 2


# --- the transaction -----------------------------------------------------------------------------------------------


def services(registry: Registry) -> Services:
    return Services(registry, PlainProfile(registry.domain))


def test_the_message_is_answered(plan):
    exchange = Exchange()
    answer = multi_patient.iti51(body(asked(ClassCode=code_list("C1"))), Caller(), exchange, services(plan))
    response = messages.read_query_response(parse(answer.body.encode()))
    assert (response.status.rpartition(":")[2], len(response.references)) == ("Success", 3)
    assert {name for name, *_ in exchange.steps} == {"xds.ebxml", "profile", "registry"}


def test_each_transaction_has_its_own_queries(plan):
    """ITI-18 knows none of these, ITI-51 none of the others."""
    for story, request in ((multi_patient.iti51, query("FindDocuments", {
            "XDSDocumentEntryPatientId": f"'{PATIENT}'", "XDSDocumentEntryStatus": listed(APPROVED)})),
                           (iti18, asked(ClassCode=code_list("C1")))):
        with pytest.raises(Refused) as caught:
            story(body(request), Caller(), Exchange(), services(plan))
        assert [finding.xds for finding in caught.value.findings] == ["XDSUnknownStoredQuery"]


@pytest.mark.parametrize("mode", list(AccessMode))
def test_the_french_record_answers_nobody(plan, mode):
    """Not even a doctor whom the patient authorised, whatever the mode."""
    doctor = Caller(Identity(Kind.PERSON, CardType.CPS, "899999000013", "ESSAI ANNE", profession="10"), "899999000013",
                    "ESSAI ANNE", profession="10", patient=PATIENT, mode=mode)
    with plan.database.write() as connection:
        known = patients.find(connection, PATIENT)
        assert known is not None
        record.write(connection, Record(known.id))
        record.grant(connection, known.id, doctor.national_id, Authorisation(record.VALID, treating=True))

    def nothing(*_: object) -> Any:
        raise AssertionError("neither matrix nor trust is asked for")

    profile: DmpProfile[AffinityDomain, Any] = DmpProfile(DOMAIN, nothing, nothing)
    request = body(asked(PatientId=listed(PATIENT)))
    with pytest.raises(Refused) as caught:
        multi_patient.iti51(request, doctor, Exchange(), Services(plan, profile))
    assert [finding.code for finding in caught.value.findings] == ["V-DMP-NOT-ENTITLED"]
