"""Questions about identities (ITI-45, ITI-47) and what others hear of them (ITI-46): found, not found, refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from dmp.profile import DmpProfile
from journal.consumer import Consumer, Event
from journal.exchanges import Exchange
from journal.ids import new_id
from registry import identity, identity_events, identity_queries, link_change, patients
from registry.affinity import AffinityDomain
from registry.names import fold
from registry.patients import Traits
from registry.profile import PlainProfile
from registry.register import Registry
from registry.tables import outbox, outbox_cursor
from registry.transactions import Services
from security.identity import AccessMode, Caller, CardType, Identity, Kind
from tests.registry.samples import DOMAIN, INS, OTHER, PATIENT, STRANGER, put
from xds import hl7v3, hl7v3_queries
from xds.feed import Feed, LinkChange, Merge
from xds.findings import Refused
from xds.hl7v3 import II, REVISE, Header
from xds.hl7v3_queries import CANDIDATES, IDENTIFIERS, Domain, IdentifierQuery, Name, PersonQuery, QueryAnswer
from xds.messages import TRANSACTIONS
from xds.xml import Element, parse

AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
HEADER = Header("", II("1.2.3.9", "m-1"), II("1.2.3.5"), II("1.2.3.6"), "T")
HOSPITAL, CLINIC, NOWHERE = "1.2.250.1.999.1", "1.2.250.1.999.2", "1.2.250.1.999.9"


def cx(value: str, root: str = INS) -> str:
    return f"{value}^^^&{root}&ISO"


@pytest.fixture
def services(registry: Registry) -> Services:
    """PATIENT, of two further domains; OTHER, known to one of them."""
    identity.feed(registry, Feed((PATIENT, cx("H1", HOSPITAL), cx("C1", CLINIC)), family="ESSAI"))
    identity.feed(registry, Feed((OTHER, cx("H2", HOSPITAL)), family="ESSAI"))
    return Services(registry, PlainProfile(registry.domain))


def of_domain(services: Services, **changes: Any) -> Services:
    domain = replace(services.registry.domain, **changes)
    return Services(replace(services.registry, domain=domain), PlainProfile(domain))


def told(story: Callable[..., Any], services: Services, body: Element, name: str,
         caller: Caller | None = None) -> tuple[QueryAnswer, Exchange]:
    exchange = Exchange()
    answer = story(body, caller or Caller(), exchange, services)
    return hl7v3_queries.read_answer(parse(answer.body.encode()), name), exchange


def pix(services: Services, identifier: str, *domains: str) -> tuple[QueryAnswer, Exchange]:
    asked = IdentifierQuery(identifier, domains=tuple(map(Domain, domains)))
    body = parse(hl7v3_queries.write_identifier_query(asked, HEADER, II("1.2.3.8", "q"), AT).encode())
    return told(identity_queries.iti45, services, body, IDENTIFIERS)


def pdq(services: Services, caller: Caller | None = None, **asked: Any) -> tuple[QueryAnswer, Exchange]:
    body = parse(hl7v3_queries.write_person_query(PersonQuery(**asked), HEADER, II("1.2.3.8", "q"), AT).encode())
    return told(identity_queries.iti47, services, body, CANDIDATES, caller)


def outcome(answer: QueryAnswer) -> tuple[str, str]:
    return answer.acknowledgement.type, answer.response


def errors(answer: QueryAnswer) -> list[tuple[str, tuple[str, ...]]]:
    """(code of HL7, places) of the errors."""
    return [(detail.code, detail.locations) for detail in answer.acknowledgement.details if detail.type == "E"]


def found(answer: QueryAnswer) -> list[str]:
    """The given names, in the order of the answer."""
    return [one.patient.given for one in answer.candidates]


# --- PIX -----------------------------------------------------------------------------------------------------------

PIX_LIST = f"/{hl7v3_queries.GET_IDENTIFIERS}/controlActProcess/queryByParameter/parameterList"


@pytest.mark.parametrize(("domains", "expected"), [
    ((), {cx("H1", HOSPITAL), cx("C1", CLINIC)}), ((CLINIC,), {cx("C1", CLINIC)}),
    ((CLINIC, HOSPITAL), {cx("H1", HOSPITAL), cx("C1", CLINIC)})])
def test_case_1_the_other_identifiers(services, domains, expected):
    answer, exchange = pix(services, cx("299999999999945"), *domains)
    assert outcome(answer) == ("AA", "OK")
    (one,) = answer.candidates
    assert set(one.patient.identifiers) == expected
    assert (one.patient.family, one.patient.given) == ("ESSAI", "CAMILLE")
    assert (exchange.patient, exchange.findings) == (cx("299999999999945"), [])


def test_case_2_none_in_the_domain_asked_for(services):
    answer, _ = pix(services, OTHER, CLINIC)
    assert (*outcome(answer), answer.candidates) == ("AA", "NF", ())


def test_case_3_a_domain_of_ones_own_is_no_other(services):
    """What was asked with is not told back, also where its domain is asked for."""
    answer, _ = pix(services, cx("H2", HOSPITAL), HOSPITAL)
    assert outcome(answer) == ("AA", "NF")


def test_case_4_an_unknown_identifier(services):
    answer, _ = pix(services, cx("H9", HOSPITAL), CLINIC)
    assert outcome(answer) == ("AE", "AE")
    assert errors(answer) == [("204", (f"{PIX_LIST}/patientIdentifier/value",))]


def test_case_5_an_unknown_domain_is_named_by_its_number(services):
    answer, exchange = pix(services, PATIENT, HOSPITAL, NOWHERE)
    assert outcome(answer) == ("AE", "AE")
    assert errors(answer) == [("204", (f"{PIX_LIST}/dataSource[2]/value",))]
    assert [finding.code for finding in exchange.findings] == ["V-REG-SEARCH-DOMAIN"]


def test_case_6_both_unknown(services):
    answer, _ = pix(services, STRANGER, NOWHERE)
    assert [places for _, places in errors(answer)] == [
        (f"{PIX_LIST}/patientIdentifier/value",), (f"{PIX_LIST}/dataSource/value",)]


def test_a_domain_of_the_community_is_known_before_anybody_is(services):
    answer, _ = pix(of_domain(services, patient_authorities=frozenset({INS, NOWHERE})), PATIENT, NOWHERE)
    assert outcome(answer) == ("AA", "NF")


def test_after_a_merge_the_survivor_has_the_identifiers_and_the_old_one_is_unknown(services):
    identity.merge(services, Merge((PATIENT,), (OTHER,)))
    answer, _ = pix(services, PATIENT, HOSPITAL)
    assert set(answer.candidates[0].patient.identifiers) == {cx("H1", HOSPITAL), cx("H2", HOSPITAL)}
    assert errors(pix(services, OTHER)[0])[0][0] == "204"


# --- PDQ -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def people(registry: Registry) -> Services:
    """Further people, each of one domain."""
    with registry.database.write() as connection:
        for number, traits in enumerate((
                Traits("D'Œuvre-Été", "Jean-Noël", "19600101", "M"), Traits("d oeuvre ete", "JEANNE", "1960", "F"),
                Traits("ESSAIS", "CAMILLE", "19580517", "M"), Traits("", "SANSNOM", "", "")), 1):
            patients.feed(connection, [cx(f"H{number}", HOSPITAL)], traits)
    return Services(registry, PlainProfile(registry.domain))


@pytest.mark.parametrize(("family", "given", "expected"), [
    ("ESSAI", "", ["CAMILLE", "DOMINIQUE"]), ("essai", "camille", ["CAMILLE"]), ("Éssai", "", ["CAMILLE", "DOMINIQUE"]),
    ("D’OEUVRE ÉTÉ", "", ["Jean-Noël", "JEANNE"]), ("d'oeuvre-ete", "jean noel", ["Jean-Noël"]),
    ("", "Camille", ["CAMILLE", "CAMILLE"]), ("ESSA", "", []), ("%", "", []), ("ESSAI", "AUTRE", []),
])
def test_names_are_told_apart_by_letters_only(people, family, given, expected):
    answer, _ = pdq(people, names=(Name(family, given),))
    assert outcome(answer) == (("AA", "OK") if expected else (("AE", "AE") if family == "%" else ("AA", "NF")))
    assert found(answer) == expected


@pytest.mark.parametrize(("family", "given", "expected", "match"), [
    ("ESS", "", ["CAMILLE", "DOMINIQUE", "CAMILLE"], [60, 60, 50]), ("ess", "cam", ["CAMILLE", "CAMILLE"], [42, 42]),
    ("ESSAIS", "C", ["CAMILLE"], [14]), ("SSAI", "", [], []), ("D OEU", "", ["Jean-Noël", "JEANNE"], [41, 41]),
])
def test_beginnings_of_names(people, family, given, expected, match):
    answer, _ = pdq(people, names=(Name(family, given, is_partial=True),))
    assert (found(answer), [one.match for one in answer.candidates]) == (expected, match)


def test_of_several_names_one_is_enough(people):
    answer, _ = pdq(people, names=(Name("ESSAI", "CAMILLE"), Name("", "JEANNE"), Name("", "PERSONNE")))
    assert found(answer) == ["JEANNE", "CAMILLE"]
    assert {one.match for one in answer.candidates} == {100}


def test_a_least_match(people):
    name = Name("ESS", is_partial=True)
    assert found(pdq(people, names=(name,), minimum=60)[0]) == ["CAMILLE", "DOMINIQUE"]
    answer, _ = pdq(people, names=(name,), minimum=61)
    assert (*outcome(answer), answer.total) == ("AA", "NF", 0)


@pytest.mark.parametrize(("birth", "expected"), [
    (("19580517", "19580517"), ["CAMILLE", "CAMILLE"]), (("1958", "1958"), ["CAMILLE", "CAMILLE"]),
    (("195805", "195805"), ["CAMILLE", "CAMILLE"]), (("19580518", "19591231"), []),
    (("1958", ""), ["Jean-Noël", "JEANNE", "CAMILLE", "CAMILLE"]), (("", "1940"), ["DOMINIQUE"]),
    (("19340511", "19580517"), ["CAMILLE", "DOMINIQUE", "CAMILLE"]), (("1960", "1960"), ["Jean-Noël", "JEANNE"]),
])
def test_birth(people, birth, expected):
    """Days, months, years, ranges; who has no date is not found by one."""
    assert found(pdq(people, birth=birth)[0]) == expected


def test_sex_narrows_and_does_not_do_alone(people):
    assert found(pdq(people, names=(Name("", "CAMILLE"),), sex="M")[0]) == ["CAMILLE"]
    answer, exchange = pdq(people, sex="F")
    assert outcome(answer) == ("AE", "AE")
    assert [finding.code for finding in exchange.findings] == ["V-REG-SEARCH-CRITERIA"]
    assert errors(answer)[0][0] == "101"


@pytest.mark.parametrize(("identifiers", "expected"), [
    ((PATIENT,), ["CAMILLE"]), ((PATIENT, cx("H1", HOSPITAL)), []), ((cx("H2", HOSPITAL),), ["JEANNE"]),
    ((STRANGER,), []), ((PATIENT, STRANGER), [])])
def test_all_identifiers_must_be_the_patients(people, identifiers, expected):
    assert found(pdq(people, identifiers=identifiers)[0]) == expected


def test_everything_told_of_a_patient_comes_back(services):
    (one,) = pdq(services, identifiers=(PATIENT,))[0].candidates
    assert set(one.patient.identifiers) == {cx("299999999999945"), cx("H1", HOSPITAL), cx("C1", CLINIC)}
    assert (one.patient.family, one.patient.given, one.patient.birth_date, one.patient.sex) == (
        "ESSAI", "CAMILLE", "19580517", "F")


def test_identifiers_of_the_domains_asked_for_and_which_have_none(services):
    """A domain without an identifier of the patient is told as such (table 3.47.4.2.2-8, OtherIDs)."""
    answer, _ = pdq(services, names=(Name("ESSAI"),), domains=(Domain(CLINIC),))
    first, second = answer.candidates
    assert (first.patient.identifiers, first.missing) == ((cx("C1", CLINIC),), ())
    assert (set(second.patient.identifiers), second.missing) == (
        {cx("199999999999995"), cx("H2", HOSPITAL)}, (CLINIC,))


def test_an_unknown_domain_is_an_error(services):
    answer, _ = pdq(services, names=(Name("ESSAI"),), domains=(Domain(CLINIC), Domain(NOWHERE)))
    assert (outcome(answer), answer.candidates) == (("AE", "AE"), ())
    assert errors(answer) == [("204", (
        f"/{hl7v3_queries.FIND_CANDIDATES}/controlActProcess/queryByParameter/parameterList"
        "/otherIDsScopingOrganization[2]/value",))]


def test_a_search_that_is_too_wide_tells_nobody(people):
    narrow = of_domain(people, max_patients=2)
    answer, exchange = pdq(narrow, names=(Name("ESS", is_partial=True),))
    assert (outcome(answer), answer.candidates, answer.total) == (("AE", "AE"), (), 3)
    assert [finding.code for finding in exchange.findings] == ["V-REG-SEARCH-TOO-MANY"]
    assert len(pdq(narrow, names=(Name("ESSAI"),))[0].candidates) == 2


def test_an_asker_takes_no_more_than_asked_for(people):
    answer, _ = pdq(people, names=(Name("ESS", is_partial=True),), most=2)
    assert (outcome(answer), found(answer), answer.total) == (("AE", "AE"), ["CAMILLE", "DOMINIQUE"], 3)
    assert outcome(pdq(people, names=(Name("ESS", is_partial=True),), most=3)[0]) == ("AA", "OK")


def test_a_criterion_that_is_not_kept_is_a_warning(people):
    asked = PersonQuery((Name("ESSAI", "CAMILLE"),))
    written = hl7v3_queries.write_person_query(asked, HEADER, II("1.2.3.8", "q"), AT).replace(
        "</parameterList>", "<patientAddress><value><city>X</city></value></patientAddress></parameterList>")
    answer, _ = told(identity_queries.iti47, people, parse(written.encode()), CANDIDATES)
    assert (outcome(answer), found(answer)) == (("AA", "OK"), ["CAMILLE"])
    assert [detail.type for detail in answer.acknowledgement.details] == ["W"]


def test_who_was_merged_away_is_found_as_the_survivor_only(services):
    identity.merge(services, Merge((PATIENT,), (OTHER,)))
    assert found(pdq(services, names=(Name("ESSAI"),))[0]) == ["CAMILLE"]
    assert found(pdq(services, identifiers=(OTHER,))[0]) == []
    assert found(pdq(services, identifiers=(cx("H2", HOSPITAL),))[0]) == ["CAMILLE"]


def test_a_revised_name_is_found_by_the_new_one(services):
    identity.feed(services.registry, Feed((PATIENT,), family="Nouvèau"))
    assert found(pdq(services, names=(Name("NOUVEAU"),))[0]) == ["CAMILLE"]
    assert found(pdq(services, names=(Name("ESSAI"),))[0]) == ["DOMINIQUE"]


def test_searches_go_by_indexes(people):
    with people.registry.database.read() as connection:
        for condition in ("family_key = 'ESSAI'", "family_key >= 'ES' AND family_key < 'ESz'",
                          "birth_date >= '1958' AND birth_date <= '19589999999999'"):
            plan = connection.execute(text(
                f"EXPLAIN QUERY PLAN SELECT * FROM patient WHERE merged_into IS NULL AND {condition}")).all()
            assert any(row.detail.startswith("SEARCH patient USING INDEX patient_") for row in plan), condition
            assert not any("patient_merged" in row.detail for row in plan), condition


letters = st.text(st.characters(codec="utf-8", categories=("Lu", "Ll")), min_size=1, max_size=12)


@given(letters, letters)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_is_fed_is_found_in_any_case(registry, family, given_name):
    services = Services(registry, PlainProfile(registry.domain))
    identifier = cx(str(new_id()), HOSPITAL)
    identity.feed(registry, Feed((identifier,), family=family, given=given_name))
    for name in (Name(family, given_name), Name(family.upper(), given_name.lower()),
                 Name(fold(family), fold(given_name)[:1], is_partial=True)):
        answer, _ = pdq(services, names=(name,), identifiers=(identifier,))
        assert [one.patient.identifiers for one in answer.candidates] == [(identifier,)], name


def test_names_as_they_are_compared():
    assert fold("Jean-Noël d’Œuvre  ÉTÉ") == "JEAN NOEL D OEUVRE ETE"
    assert fold("Straße") == "STRASSE"
    assert fold("'-") == ""
    assert len(fold("ß" * 300)) == 400


# --- the French record ---------------------------------------------------------------------------------------------


def doctor(mode: AccessMode, kind: CardType = CardType.CPS, patient: str = "") -> Caller:
    """A doctor, or a structure, without a patient: one is looked for."""
    nature = Kind.ORGANISATION if kind is CardType.ES else Kind.PERSON
    return Caller(Identity(nature, kind, "899999000013", "ESSAI ANNE", profession="10"), "899999000013",
                  "ESSAI ANNE", profession="10", patient=patient, mode=mode)


def french(services: Services) -> Services:
    def nothing(*_: object) -> Any:
        raise AssertionError("neither matrix nor trust is asked for")

    profile: DmpProfile[AffinityDomain, Any] = DmpProfile(DOMAIN, nothing, nothing)
    return Services(services.registry, profile)


@pytest.mark.parametrize("kind", [CardType.CPS, CardType.ES])
def test_the_centre_15_looks_for_patients(services, kind):
    answer, _ = pdq(french(services), doctor(AccessMode.CENTRE_15, kind), names=(Name("ESSAI", "CAMILLE"),))
    assert found(answer) == ["CAMILLE"]


@pytest.mark.parametrize("caller", [
    doctor(AccessMode.NORMAL), doctor(AccessMode.BRIS_DE_GLACE), doctor(AccessMode.CENTRE_15, CardType.CPE),
    doctor(AccessMode.NORMAL, patient=PATIENT), Caller(mode=AccessMode.CENTRE_15)])
def test_nobody_else_does(services, caller):
    with pytest.raises(Refused) as caught:
        pdq(french(services), caller, names=(Name("ESSAI", "CAMILLE"),))
    assert [finding.code for finding in caught.value.findings] == ["V-DMP-NOT-ENTITLED"]


# --- who hears of identities ---------------------------------------------------------------------------------------


def heard(services: Services) -> list[Event]:
    """Events about identities, oldest first, by a reader who has not read any."""
    database = services.registry.database
    events = Consumer(database, outbox, outbox_cursor, f"test-{new_id()}", seconds=0).events(1000)
    return [event for event in events if event.kind == identity_events.KIND]


def test_a_change_of_identifiers_is_told_and_nothing_else(services):
    before = len(heard(services))
    identity.feed(services.registry, Feed((PATIENT,), family="NOUVEAU"))
    identity.feed(services.registry, Feed((PATIENT, cx("H1", HOSPITAL)), given="SACHA"))
    put(services.registry)
    assert len(heard(services)) == before
    identity.feed(services.registry, Feed((PATIENT, cx("C7", CLINIC))))
    (event,) = heard(services)[before:]
    assert set(event.payload["identifiers"]) == {
        cx("299999999999945"), cx("H1", HOSPITAL), cx("C1", CLINIC), cx("C7", CLINIC)}


def test_a_merge_is_told_of_the_survivor(services):
    before = len(heard(services))
    identity.merge(services, Merge((PATIENT,), (OTHER,)))
    (event,) = heard(services)[before:]
    assert set(event.payload["identifiers"]) == {
        cx("299999999999945"), cx("H1", HOSPITAL), cx("C1", CLINIC), cx("H2", HOSPITAL)}


def test_a_link_change_is_told_of_both(services):
    before = len(heard(services))
    link_change.change_link(services.registry, LinkChange(OTHER, PATIENT, cx("C1", CLINIC), "", "1.2"))
    assert [set(event.payload["identifiers"]) for event in sorted(
        heard(services)[before:], key=lambda event: len(event.payload["identifiers"]), reverse=True)] == [
        {cx("199999999999995"), cx("H2", HOSPITAL), cx("C1", CLINIC)}, {cx("299999999999945"), cx("H1", HOSPITAL)}]


def test_a_notification_is_read_by_who_reads_feeds(services):
    event = heard(services)[-1]
    notification = identity_events.notification_of(event, "1.2.3.5", "1.2.3.6")
    assert notification is not None
    body, action = notification
    read = hl7v3.read_feed(parse(body.encode()))
    assert (set(read.identifiers), read.family, read.given, read.warnings) == (
        {cx("199999999999995"), cx("H2", HOSPITAL)}, "ESSAI", "DOMINIQUE", ())
    header = hl7v3.read_header(parse(body.encode()))
    assert (header.interaction, header.sender, header.receiver) == (REVISE, II("1.2.3.5"), II("1.2.3.6"))
    assert action == TRANSACTIONS["ITI-46"].action
    again = identity_events.notification_of(event, "1.2.3.5", "1.2.3.6")
    assert again == notification  # one that is sent twice is known by its id


def test_a_consumer_hears_of_the_domains_that_it_asked_for(services):
    event = heard(services)[-1]
    notification = identity_events.notification_of(event, "1.2.3.5", authorities={HOSPITAL})
    assert notification is not None
    assert hl7v3.read_feed(parse(notification[0].encode())).identifiers == (cx("H2", HOSPITAL),)
    assert identity_events.notification_of(event, "1.2.3.5", authorities={CLINIC}) is None
    assert identity_events.notification_of(replace(event, kind="update"), "1.2.3.5") is None
