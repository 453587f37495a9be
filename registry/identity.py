"""Patient identity feeds as stories: ITI-44 (HL7 v3, by SOAP) and ITI-8 (HL7 v2, by MLLP) end in the same function."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from journal.exchanges import Exchange
from registry import patients
from registry.affinity import AffinityDomain
from registry.patients import Patient, Traits
from registry.register import Registry
from registry.requirements import RULES
from registry.transactions import Services, admit
from security.identity import Caller
from xds import hl7v2, hl7v3
from xds.answers import Answer
from xds.feed import Feed
from xds.findings import Finding, Refused, Where
from xds.xml import Element

KEPT_OUT = RULES["V-REG-IDENTITY-KEPT-OUT"]
NONE_LEFT = RULES["V-REG-IDENTITY-NONE"]
CONFLICT = RULES["V-REG-IDENTITY-CONFLICT"]

_WHERE = Where("identity", path="patientId")


def iti44(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Patient Identity Feed HL7 V3 (ITI TF-2 §3.44): read, admit, add or revise, acknowledge."""
    with exchange.step("xds.hl7v3"):
        told = hl7v3.read_feed(body)
    exchange.patient = told.identifiers[0]
    with exchange.step("profile"):
        admit(services, caller, "identity", exchange.patient)
    with exchange.step("registry"):
        _, warnings = feed(services.registry, told)
    exchange.note(warnings)
    return Answer(hl7v3.write_acknowledgement(hl7v3.read_header(body), warnings, datetime.now(UTC)))


def iti8(message: bytes, services: Services, exchange: Exchange) -> bytes:
    """Patient Identity Feed (ITI TF-2 §3.8): every message is answered, AA or AE with what is wrong.

    MLLP names no caller: whoever reaches the port is the source, which is why it is off unless an operator opens it.
    """
    header = hl7v2.read_header(message)
    exchange.name, exchange.action, exchange.message_id = "ITI-8", header.name, header.control_id
    exchange.request = message
    try:
        with exchange.step("xds.hl7v2"):
            told = hl7v2.read_feed(message)
        exchange.patient = told.identifiers[0]
        with exchange.step("registry"):
            _, findings = feed(services.registry, told)
    except Refused as refused:
        findings = list(refused.findings)
    return answer(header, findings, exchange)


def answer(header: hl7v2.Header, findings: list[Finding], exchange: Exchange) -> bytes:
    """The ACK to a message, noted in its exchange."""
    exchange.note(findings)
    with exchange.step("answer"):
        exchange.response = hl7v2.write_ack(header, findings, datetime.now(UTC), uuid.uuid4().hex[:20])
    return exchange.response


def feed(registry: Registry, told: Feed) -> tuple[Patient, list[Finding]]:
    """Add or revise one patient in one database transaction; the patient, and warnings. Refused changes nothing."""
    taken, kept_out = choose(told, registry.domain)
    traits = Traits(told.family, told.given, told.birth_date, told.sex)
    with registry.database.write() as connection:
        try:
            patient = patients.feed(connection, taken, traits)
        except ValueError as error:
            raise Refused(CONFLICT.at(_WHERE, received=", ".join(taken))) from error
    return patient, [*told.warnings, *kept_out]


def choose(told: Feed, domain: AffinityDomain) -> tuple[list[str], list[Finding]]:
    """Identifiers of the community's authorities, and warnings on the patient's others (ITI TF-2 §3.8.4.1.4).

    Where the community names no authority all of the patient's own are taken. What somebody else assigned
    (asOtherIDs) is taken only by a named authority.
    """
    if not domain.patient_authorities:
        return list(told.identifiers), []
    expected = ", ".join(sorted(domain.patient_authorities))
    taken = [cx for cx in dict.fromkeys((*told.identifiers, *told.others)) if _is_ours(cx, domain)]
    if not taken:
        raise Refused([*told.warnings, NONE_LEFT.at(_WHERE, expected=expected, received=", ".join(told.identifiers))])
    return taken, [KEPT_OUT.at(_WHERE, expected=expected, received=cx) for cx in told.identifiers
                   if not _is_ours(cx, domain)]


def _is_ours(cx: str, domain: AffinityDomain) -> bool:
    key = patients.key_of(cx)
    return key is not None and key[0] in domain.patient_authorities
