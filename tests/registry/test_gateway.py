"""The registry as other communities ask it: ITI-38 with homes on everything, ITI-55 with whoever is meant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dmp import record
from dmp.profile import DmpProfile
from journal.exchanges import Exchange
from registry import gateway, patients
from registry.affinity import AffinityDomain
from registry.gateway import MAX_MATCHES, discover, iti38, iti55
from registry.patients import Traits
from registry.register import Registry
from registry.transactions import Services, iti18
from security.access import Gate
from security.identity import Caller, CardType, Identity, Kind
from tests.registry.samples import (
    BOTH,
    DOMAIN,
    INS,
    OTHER,
    PATIENT,
    STRANGER,
    document,
    folder,
    listed,
    put,
    query,
    quoted,
)
from tests.registry.test_transactions import Watched
from tests.xds.test_xcpd import BIRTH, GENDER, IDENTITY, NAME, code_of, element, of
from xds import messages
from xds.findings import Refused
from xds.vocabulary import SUCCESS
from xds.xcpd import Name, Sought
from xds.xml import parse

HOME = "urn:oid:1.2.3.4.5.8"
AT_HOME = replace(DOMAIN, home_community_id=HOME)
OF_PATIENT = {"XDSDocumentEntryPatientId": quoted(PATIENT), "XDSDocumentEntryStatus": BOTH}
EVERYTHING = {"patientId": quoted(PATIENT),
              **{f"XDS{kind}Status": BOTH for kind in ("DocumentEntry", "SubmissionSet", "Folder")}}


@pytest.fixture
def profile() -> Watched:
    return Watched(domain=AT_HOME)


@pytest.fixture
def services(registry: Registry, profile: Watched) -> Services:
    return Services(registry, profile)


def ask(services: Services, name: str, parameters: dict[str, str], returns: str = "LeafClass", home: str = "",
        story: Any = iti38, exchange: Exchange | None = None) -> messages.QueryResponse:
    asked = replace(query(name, parameters, returns), home=home)
    answer = story(parse(messages.write_query(asked).encode()), Caller(), exchange or Exchange(), services)
    return messages.read_query_response(parse(answer.body.encode()))


def refusal(services: Services, *arguments: Any, **more: Any) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as caught:
        ask(services, *arguments, **more)
    return [(finding.code, finding.xds) for finding in caught.value.findings]


# --- ITI-38 --------------------------------------------------------------------------------------------------------


def test_object_refs_have_their_home(services: Services) -> None:
    """Plan 12309."""
    registered = put(services.registry, document("Document01"), document("Document02"))
    told = ask(services, "FindDocuments", OF_PATIENT, messages.OBJECT_REF)
    assert told.status == SUCCESS
    assert registered is not None
    assert [reference.home for reference in told.references] == [HOME, HOME]


def test_every_kind_of_object_has_its_home(services: Services) -> None:
    """Plan 12310."""
    put(services.registry, document(), folder())
    told = ask(services, "GetAll", EVERYTHING)
    assert {thing.kind for thing in told.objects} == {"ExtrinsicObject", "RegistryPackage", "Association"}
    assert {thing.home for thing in told.objects} == {HOME}


def test_a_plain_registry_says_no_home(services: Services) -> None:
    put(services.registry)
    assert {thing.home for thing in ask(services, "GetAll", EVERYTHING, story=iti18).objects} == {""}


def test_documents_by_identifier_with_their_home(services: Services) -> None:
    """Plan 12311."""
    put(services.registry, document())
    (found,) = ask(services, "FindDocuments", OF_PATIENT).objects
    told = ask(services, "GetDocuments", {"XDSDocumentEntryEntryUUID": listed(found.id)}, home=HOME)
    assert [(thing.id, thing.home) for thing in told.objects] == [(found.id, HOME)]


@pytest.mark.parametrize(("name", "parameters"), [
    ("GetDocuments", {"XDSDocumentEntryUniqueId": listed("1.2.3")}),
    ("GetFolders", {"XDSFolderUniqueId": listed("1.2.3")}),
    ("GetAssociations", {"uuid": listed("urn:uuid:1")}),
    ("GetDocumentsAndAssociations", {"XDSDocumentEntryUniqueId": listed("1.2.3")}),
    ("GetSubmissionSets", {"uuid": listed("urn:uuid:1")}),
    ("GetSubmissionSetAndContents", {"XDSSubmissionSetUniqueId": quoted("1.2.3")}),
    ("GetFolderAndContents", {"XDSFolderUniqueId": quoted("1.2.3")}),
    ("GetFoldersForDocument", {"XDSDocumentEntryUniqueId": quoted("1.2.3")}),
    ("GetRelatedDocuments", {"XDSDocumentEntryUniqueId": quoted("1.2.3"), "AssociationTypes": listed("urn:x")}),
])
def test_a_query_by_identifiers_names_its_community(services: Services, name: str, parameters: dict[str, str]) -> None:
    assert refusal(services, name, parameters) == [("V-XCA-HOME-MISSING", "XDSMissingHomeCommunityId")]
    assert refusal(services, name, parameters, home="urn:oid:1.9") == [
        ("V-XCA-COMMUNITY-UNKNOWN", "XDSUnknownCommunity")]
    assert ask(services, name, parameters, home=HOME).status == SUCCESS


def test_a_query_by_patient_need_not_but_may(services: Services) -> None:
    assert ask(services, "FindDocuments", OF_PATIENT, home=HOME).status == SUCCESS
    assert refusal(services, "FindDocuments", OF_PATIENT, home="urn:oid:1.9") == [
        ("V-XCA-COMMUNITY-UNKNOWN", "XDSUnknownCommunity")]


def test_what_is_wrong_with_a_query_is_said_as_in_iti18(services: Services) -> None:
    assert refusal(services, "FindDocuments", {}) == [("V-QUERY-PARAMETER-MISSING", "XDSStoredQueryMissingParam")] * 2


def test_the_profile_is_asked_for_a_gateway(services: Services, profile: Watched) -> None:
    exchange = Exchange()
    ask(services, "FindDocuments", OF_PATIENT, exchange=exchange)
    assert profile.asked == [("gateway-search", PATIENT)]
    assert exchange.patient == PATIENT


def test_whoever_gets_references_only_gets_no_more_by_a_gateway(services: Services, profile: Watched) -> None:
    profile.gate = Gate(references_only=True)
    assert refusal(services, "FindDocuments", OF_PATIENT)[0][0] == "V-REG-REFERENCES-ONLY"
    assert ask(services, "FindDocuments", OF_PATIENT, messages.OBJECT_REF).status == SUCCESS


@pytest.mark.parametrize("story", [iti38, iti55])
def test_without_a_home_there_is_no_gateway(services: Services, profile: Watched, story: Any) -> None:
    profile.domain = DOMAIN
    body = element(NAME, BIRTH) if story is iti55 else parse(
        messages.write_query(query("FindDocuments", OF_PATIENT)).encode())
    with pytest.raises(Refused) as caught:
        story(body, Caller(), Exchange(), services)
    (finding,) = caught.value.findings
    assert finding.rule is gateway.NO_HOME
    assert finding.rule.fault == "Receiver"
    assert "home_community_id" in finding.fr
    assert "home_community_id" in finding.en


@pytest.mark.parametrize("text", ["1.2.3.4.5.8", HOME])
def test_the_home_is_written_in_one_way(text: str) -> None:
    assert replace(DOMAIN, home_community_id=text).home == HOME
    assert DOMAIN.home == ""


# --- ITI-55 --------------------------------------------------------------------------------------------------------


def discovered(services: Services, *parameters: str) -> tuple[tuple[str, str], list[str]]:
    """Codes of the answer, and identifiers of the patients in it."""
    answer = iti55(element(*parameters), Caller(), Exchange(), services).body
    found = of(answer, "controlActProcess/subject/registrationEvent/subject1/patient/id")
    assert {home.get("root") for home in of(answer, "controlActProcess/subject/registrationEvent/custodian"
                                            "/assignedEntity/id")} <= {HOME.removeprefix("urn:oid:")}
    return code_of(answer), [f"{one.get('extension')}^^^&{one.get('root')}&ISO" for one in found]


MATCHED = (("AA", "OK"), [PATIENT.removesuffix("^NH")])
NOBODY: tuple[tuple[str, str], list[str]] = (("AA", "NF"), [])


@pytest.mark.parametrize("parameters", [
    (IDENTITY,), (NAME, BIRTH), (NAME, BIRTH, GENDER, IDENTITY), (NAME.replace("CAMILLE", "camille"), BIRTH),
    (IDENTITY.replace(INS, "1.2.999"), NAME, BIRTH),  # their own identifier means nothing here
    (IDENTITY, NAME.replace("<given>CAMILLE</given>", "")),
])
def test_a_patient_is_found(services: Services, parameters: tuple[str, ...]) -> None:
    assert discovered(services, *parameters) == MATCHED


@pytest.mark.parametrize("parameters", [
    (NAME.replace("ESSAI", "EXEMPLE"), BIRTH), (NAME, BIRTH.replace("0517", "0518")),
    (NAME.replace("<given>CAMILLE</given>", ""), BIRTH), (NAME, BIRTH, GENDER.replace('"F"', '"M"')),
    (IDENTITY, NAME.replace("ESSAI", "EXEMPLE")), (IDENTITY, BIRTH.replace("1958", "1959")),
    (IDENTITY, GENDER.replace('"F"', '"M"')), (IDENTITY.replace("299999999999945", "0"),),
])
def test_somebody_else_is_not(services: Services, parameters: tuple[str, ...]) -> None:
    assert discovered(services, *parameters) == NOBODY


def test_the_profile_is_asked_before_anybody_is_looked_for(services: Services, profile: Watched) -> None:
    assert discovered(services, IDENTITY) == MATCHED
    assert profile.asked == [("gateway-patient", PATIENT.removesuffix("^NH"))]


SAME = Sought(names=(Name("ESSAI", "ALEX"),), birth_date="20000101")


def test_several_patients_may_be_the_one(registry: Registry) -> None:
    found = twins(registry, MAX_MATCHES)
    with registry.database.read() as connection:
        assert [match.cx for match in discover(connection, SAME, AT_HOME)] == found


def test_too_many_are_nobody(registry: Registry) -> None:
    twins(registry, MAX_MATCHES + 1)
    with registry.database.read() as connection, pytest.raises(Refused) as caught:
        discover(connection, SAME, AT_HOME)
    assert [finding.rule for finding in caught.value.findings] == [gateway.TOO_MANY]


def twins(registry: Registry, number: int) -> list[str]:
    identifiers = [f"{count:03}^^^&1.2.3&ISO" for count in range(number)]
    with registry.database.write() as connection:
        for identifier in identifiers:
            patients.feed(connection, [identifier], Traits("ESSAI", "ALEX", "20000101", "M"))
    return identifiers


def test_the_identifier_is_one_that_the_community_shares(registry: Registry) -> None:
    with registry.database.write() as connection:
        patients.feed(connection, ["A1^^^&1.2.1&ISO", "B2^^^&1.2.2&ISO"], Traits("ESSAI", "ALEX", "20000101"))
    with registry.database.read() as connection:
        shared = [[match.cx for match in discover(connection, SAME, replace(
            AT_HOME, patient_authorities=frozenset(authorities)))] for authorities in ((), ("1.2.2",), ("1.2.9",))]
    assert shared == [["A1^^^&1.2.1&ISO"], ["B2^^^&1.2.2&ISO"], []]


# --- under the rules of the DMP ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patient", "code"), [
    ("", "V-DMP-PATIENT-MISSING"), (OTHER, "V-DMP-PATIENT-OF-TOKEN"), (STRANGER, "V-DMP-PATIENT-OF-TOKEN"),
    (PATIENT, "V-DMP-NOT-ENTITLED")])
@pytest.mark.parametrize("story", [iti38, iti55])
def test_the_dmp_is_no_gateway_even_for_those_who_may_read(registry: Registry, patient: str, code: str,
                                                           story: Any) -> None:
    doctor = Caller(Identity(Kind.PERSON, CardType.CPS, "801234567897", "ESSAI"), "801234567897", profession="10",
                    patient=patient)
    with registry.database.write() as connection:
        owner = patients.find(connection, PATIENT)
        assert owner is not None
        record.write(connection, record.Record(owner.id))
        record.grant(connection, owner.id, "801234567897", record.Authorisation(record.VALID, treating=True))
    profile: DmpProfile[AffinityDomain, Any] = DmpProfile(AT_HOME, _never, _never)
    body = element(IDENTITY) if story is iti55 else parse(
        messages.write_query(query("FindDocuments", OF_PATIENT)).encode())
    with pytest.raises(Refused) as caught:
        story(body, doctor, Exchange(), Services(registry, profile))
    assert [finding.code for finding in caught.value.findings] == [code]


def _never(*_: object) -> Any:
    raise AssertionError("nobody asks for this")
