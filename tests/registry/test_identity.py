"""Identity feeds as stories: what a source tells is known afterwards, what is refused changes nothing, all is noted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import hl7
import pytest

from dmp import record
from dmp.profile import DmpProfile
from journal.exchanges import Exchange, verdict_of
from registry import identity, patients
from registry.affinity import AffinityDomain
from registry.patients import Patient
from registry.profile import PlainProfile
from registry.register import Registry
from registry.transactions import Services, find_in
from security.access import Gate
from security.identity import Caller, CardType, Identity, Kind
from tests.registry.samples import DOMAIN, INS, OTHER, PATIENT, STRANGER
from xds import hl7v3
from xds.feed import Feed
from xds.findings import Finding, Refused
from xds.hl7v3 import ADD, II, REVISE, Header
from xds.messages import TRANSACTIONS
from xds.xml import Element, parse

LOCAL = "1.2.250.1.999.1"
HEADER = Header(ADD, II("1.2.3.9", "m-1"), II("1.2.3.5"), II("1.2.3.6"), "T")


def cx(value: str, root: str = INS) -> str:
    return f"{value}^^^&{root}&ISO"


NEW = Feed((cx("177777777777752"),), (), "NOUVEAU", "SACHA", "19991231", "M")


@dataclass(frozen=True, slots=True)
class Refusing:
    """A profile that admits nobody, and remembers who asked for what."""

    domain: AffinityDomain = DOMAIN
    name: str = "refusing"
    accept_repeat: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    def requirements(self, transaction: str) -> Mapping[str, Any]:
        return {}

    def check(self, *_: object) -> tuple[Finding, ...]:
        return ()

    def admit(self, connection: object, caller: Caller, action: str, patient: str, find: Callable[[str], Any]) -> Gate:
        self.asked.append((action, patient))
        raise Refused(patients.unknown(patient))


@pytest.fixture
def services(registry: Registry) -> Services:
    return Services(registry, PlainProfile(registry.domain))


def with_authorities(services: Services, *authorities: str) -> Services:
    domain = replace(services.registry.domain, patient_authorities=frozenset(authorities))
    return Services(replace(services.registry, domain=domain), PlainProfile(domain))


def find(services: Services, identifier: str) -> Patient | None:
    with services.registry.database.read() as connection:
        return patients.find(connection, identifier)


def count(services: Services) -> int:
    with services.registry.database.read() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM patient").scalar_one()


def traits(patient: Patient | None) -> tuple[str, str, str, str]:
    assert patient is not None
    return patient.family, patient.given, patient.birth_date, patient.sex


# --- feeding -------------------------------------------------------------------------------------------------------


def test_a_new_patient_is_known_afterwards(services):
    assert find(services, STRANGER) is None
    patient, warnings = identity.feed(services.registry, NEW)
    assert warnings == []
    found = find(services, STRANGER)
    assert found is not None
    assert found.id == patient.id
    assert traits(found) == ("NOUVEAU", "SACHA", "19991231", "M")


def test_a_known_patient_is_revised_and_keeps_what_is_not_told(services):
    before = find(services, PATIENT)
    told = Feed((PATIENT, cx("42", LOCAL)), family="NOUVEAU")
    patient, _ = identity.feed(services.registry, told)
    assert before is not None
    assert patient.id == before.id
    assert traits(find(services, PATIENT)) == ("NOUVEAU", "CAMILLE", "19580517", "F")
    assert traits(find(services, cx("42", LOCAL)))[0] == "NOUVEAU"


def test_feeding_twice_changes_nothing(services):
    first, _ = identity.feed(services.registry, NEW)
    number = count(services)
    again, _ = identity.feed(services.registry, NEW)
    assert (again.id, count(services)) == (first.id, number)


def test_identifiers_of_two_patients_are_refused(services):
    with pytest.raises(Refused) as caught:
        identity.feed(services.registry, Feed((PATIENT, OTHER), family="NOUVEAU"))
    assert [finding.code for finding in caught.value.findings] == ["V-REG-IDENTITY-CONFLICT"]
    assert traits(find(services, PATIENT))[0] == "ESSAI"


@pytest.mark.parametrize(("identifiers", "others", "taken", "kept_out"), [
    ((cx("1"), cx("2", LOCAL)), (), [cx("1")], [cx("2", LOCAL)]),
    ((cx("2", LOCAL),), (cx("1"), cx("3", "1.2.9")), [cx("1")], [cx("2", LOCAL)]),
    ((cx("1"),), (cx("3", "1.2.9"),), [cx("1")], []),
    ((cx("1"),), (cx("1"),), [cx("1")], []),
])
def test_which_identifiers_a_community_takes(services, identifiers, others, taken, kept_out):
    domain = with_authorities(services, INS).registry.domain
    found, warnings = identity.choose(Feed(identifiers, others), domain)
    assert found == taken
    assert [(finding.code, finding.received) for finding in warnings] == [
        ("V-REG-IDENTITY-KEPT-OUT", item) for item in kept_out]


def test_an_open_community_takes_all_of_the_patients_own(services):
    told = Feed((cx("1"), cx("2", LOCAL)), (cx("3", "1.2.9"),))
    assert identity.choose(told, services.registry.domain) == ([cx("1"), cx("2", LOCAL)], [])


def test_none_left_is_refused(services):
    with pytest.raises(Refused) as caught:
        identity.feed(with_authorities(services, INS).registry, Feed((cx("2", LOCAL),)))
    (finding,) = caught.value.findings
    assert (finding.code, finding.expected, finding.received) == ("V-REG-IDENTITY-NONE", INS, cx("2", LOCAL))
    assert find(services, cx("2", LOCAL)) is None


def _nothing(*_: object) -> Any:
    raise AssertionError("neither matrix nor trust is asked for")


# --- ITI-44 --------------------------------------------------------------------------------------------------------


def body_of(told: Feed = NEW, interaction: str = ADD) -> Element:
    return parse(hl7v3.write_feed(told, replace(HEADER, interaction=interaction), datetime.now(UTC)).encode())


@pytest.mark.parametrize("interaction", [ADD, REVISE])
def test_iti44(services, interaction):
    exchange = Exchange()
    answer = identity.iti44(body_of(interaction=interaction), Caller(), exchange, services)
    body = parse(answer.body.encode())
    assert body.tag == TRANSACTIONS["ITI-44"].response
    assert hl7v3.read_acknowledgement(body) == hl7v3.Acknowledgement("CA", HEADER.id)
    assert hl7v3.read_header(body).receiver == HEADER.sender
    assert traits(find(services, STRANGER)) == ("NOUVEAU", "SACHA", "19991231", "M")
    assert exchange.patient == NEW.identifiers[0]
    assert [name for name, _ in exchange.steps] == ["xds.hl7v3", "profile", "registry"]
    assert verdict_of(exchange.findings) == "accepted"


def test_iti44_with_warnings(services):
    exchange = Exchange()
    told = replace(NEW, identifiers=(cx("2", LOCAL), *NEW.identifiers))
    answer = identity.iti44(body_of(told), Caller(), exchange, with_authorities(services, INS))
    read = hl7v3.read_acknowledgement(parse(answer.body.encode()))
    assert (read.type, [(detail.type, detail.code) for detail in read.details]) == (
        "CA", [("W", "V-REG-IDENTITY-KEPT-OUT")])
    assert verdict_of(exchange.findings) == "warned"
    assert find(services, cx("2", LOCAL)) is None


def test_iti44_asks_the_profile_before_anything_is_done(services):
    profile = Refusing()
    number = count(services)
    with pytest.raises(Refused):
        identity.iti44(body_of(), Caller(), Exchange(), Services(services.registry, profile))
    assert profile.asked == [("identity", NEW.identifiers[0])]
    assert count(services) == number


@pytest.mark.parametrize(("caller", "patient", "code"), [
    (Caller(), PATIENT, "V-DMP-PATIENT-MISSING"),
    (Caller(patient=OTHER), PATIENT, "V-DMP-PATIENT-OF-TOKEN"),
    (Caller(patient=STRANGER), STRANGER, "V-DMP-NO-RECORD"),
    (Caller(patient=PATIENT), PATIENT, "V-DMP-NO-RECORD"),
])
def test_iti44_is_not_for_callers_of_the_dmp(services, caller, patient, code):
    profile: DmpProfile[AffinityDomain, Any] = DmpProfile(DOMAIN, _nothing, _nothing)
    with pytest.raises(Refused) as caught:
        identity.iti44(body_of(replace(NEW, identifiers=(patient,))), caller, Exchange(),
                       Services(services.registry, profile))
    assert [finding.code for finding in caught.value.findings] == [code]


def test_iti44_is_not_for_those_who_may_read_a_record_either(services):
    doctor = Caller(Identity(Kind.PERSON, CardType.CPS, "801234567897", "ESSAI"), "801234567897", profession="10",
                    patient=PATIENT)
    patient = find(services, PATIENT)
    assert patient is not None
    with services.registry.database.write() as connection:
        record.write(connection, record.Record(patient.id))
        record.grant(connection, patient.id, "801234567897", record.Authorisation(record.VALID, treating=True))
    profile: DmpProfile[AffinityDomain, Any] = DmpProfile(DOMAIN, _nothing, _nothing)
    with services.registry.database.read() as connection:
        assert profile.admit(connection, doctor, "search", PATIENT, find_in(connection)).only_patient == patient.id
    with pytest.raises(Refused) as caught:
        identity.iti44(body_of(replace(NEW, identifiers=(PATIENT,))), doctor, Exchange(),
                       Services(services.registry, profile))
    assert [finding.code for finding in caught.value.findings] == ["V-DMP-NOT-ENTITLED"]


def test_iti44_refused_does_not_become_a_fault():
    for name in ("V-REG-IDENTITY-NONE", "V-REG-IDENTITY-CONFLICT", "V-REG-IDENTITY-KEPT-OUT"):
        assert identity.RULES[name].fault == ""


# --- ITI-8 ---------------------------------------------------------------------------------------------------------


def adt(identifiers: str = f"177777777777752^^^INS&{INS}&ISO^INS", event: str = "A01", version: str = "2.5") -> bytes:
    return (f"MSH|^~\\&|SOURCE|ETAB|VOLET|REGISTRE|20260301083000||ADT^{event}|M-7|T|{version}\rEVN|{event}\r"
            f"PID|1||{identifiers}||NOUVEAU^SACHA^^^^^L||19991231|M\rPV1||O\r").encode()


def sent(services: Services, message: bytes) -> tuple[str, str, list[str], Exchange]:
    """Acknowledgement code, MSA-2, codes in ERR, and the exchange."""
    exchange = Exchange()
    answer = identity.iti8(message, services, exchange)
    assert exchange.response == answer
    ack = hl7.parse(answer.decode())
    errors = [str(segment[5][0][0]) for segment in ack if str(segment[0]) == "ERR"]
    return str(ack.segment("MSA")[1]), str(ack.segment("MSA")[2]), errors, exchange


@pytest.mark.parametrize("event", ["A01", "A04", "A05", "A08"])
def test_iti8(services, event):
    code, control_id, errors, exchange = sent(services, adt(event=event))
    assert (code, control_id, errors) == ("AA", "M-7", [])
    assert traits(find(services, STRANGER)) == ("NOUVEAU", "SACHA", "19991231", "M")
    assert (exchange.name, exchange.action, exchange.message_id) == ("ITI-8", f"ADT^{event}", "M-7")
    assert (exchange.patient, exchange.request) == (NEW.identifiers[0], adt(event=event))
    assert [name for name, _ in exchange.steps] == ["xds.hl7v2", "registry", "answer"]


@pytest.mark.parametrize(("message", "codes"), [
    (adt("42^^^HOPITAL"), ["V-FEED-AUTHORITY"]),
    (adt(""), ["V-FEED-IDENTIFIER-ABSENT"]),
    (adt(event="A03"), ["V-V2-EVENT"]),
    (adt(event="A40"), ["V-V2-SEGMENT"]),
    (adt(f"{PATIENT}~{OTHER}"), ["V-REG-IDENTITY-CONFLICT"]),
    (adt(cx("2", LOCAL)), ["V-REG-IDENTITY-NONE"]),
    (adt(f"42^^^HOPITAL~{cx('2', LOCAL)}"), ["V-FEED-AUTHORITY", "V-REG-IDENTITY-NONE"]),
])
def test_iti8_refused(services, message, codes):
    number = count(services)
    code, control_id, errors, exchange = sent(with_authorities(services, INS), message)
    assert (code, control_id, errors) == ("AE", "M-7", codes)
    assert verdict_of(exchange.findings) == "refused"
    assert count(services) == number


def test_iti8_with_warnings(services):
    message = adt(f"{cx('2', LOCAL)}~42^^^HOPITAL~{cx('177777777777752')}")
    code, _, errors, exchange = sent(with_authorities(services, INS), message)
    assert (code, errors) == ("AA", ["V-FEED-AUTHORITY", "V-REG-IDENTITY-KEPT-OUT"])
    assert verdict_of(exchange.findings) == "warned"
    assert find(services, STRANGER) is not None


def test_iti8_answers_what_is_no_message(services):
    exchange = Exchange()
    answer = identity.iti8(b"GET / HTTP/1.1\r\n\r\n", services, exchange)
    assert b"MSA|AE|" in answer
    assert (exchange.name, [finding.code for finding in exchange.findings]) == ("ITI-8", ["V-V2-MESSAGE"])
