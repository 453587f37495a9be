"""Patient identities as stories: ITI-44 (HL7 v3, by SOAP), ITI-8 and 64 (HL7 v2, by MLLP) end in the same functions."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from journal.exchanges import Exchange
from registry import identity_events, identity_queries, link_change, patients
from registry.affinity import AffinityDomain
from registry.patients import Patient, Traits
from registry.register import Registry
from registry.requirements import RULES
from registry.transactions import Services, admit
from security.identity import Caller
from xds import hl7v2, hl7v3
from xds.answers import Answer
from xds.feed import Feed, Merge
from xds.findings import Finding, Refused, Severity, Where
from xds.xml import Element, local_name

KEPT_OUT = RULES["V-REG-IDENTITY-KEPT-OUT"]
NONE_LEFT = RULES["V-REG-IDENTITY-NONE"]
CONFLICT = RULES["V-REG-IDENTITY-CONFLICT"]
RETIRED = RULES["V-REG-IDENTITY-RETIRED"]
SAME = RULES["V-REG-MERGE-SAME"]
REPEATED = RULES["V-REG-MERGE-REPEATED"]

_WHERE = Where("identity", path="patientId")


# --- by SOAP -------------------------------------------------------------------------------------------------------


def iti44(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Patient Identity Feed HL7 V3 (ITI TF-2 §3.44): read, admit, add, revise or merge, acknowledge."""
    is_merge = local_name(body) == hl7v3.MERGE
    with exchange.step("xds.hl7v3"):
        told = hl7v3.read_merge(body) if is_merge else hl7v3.read_feed(body)
    exchange.patient = (told.survivors if isinstance(told, Merge) else told.identifiers)[0]
    with exchange.step("profile"):
        admit(services, caller, "identity", exchange.patient)
    with exchange.step("registry"):
        _, warnings = merge(services, told) if isinstance(told, Merge) else feed(services.registry, told)
    exchange.note(warnings)
    return Answer(hl7v3.write_acknowledgement(hl7v3.read_header(body), warnings, datetime.now(UTC)))


# --- by MLLP -------------------------------------------------------------------------------------------------------


def iti8(message: bytes, services: Services, exchange: Exchange) -> bytes:
    """Patient Identity Feed (ITI TF-2 §3.8) and link changes (§3.64): every message is answered, AA or AE and why.

    MLLP names no caller: whoever reaches the port is the source, which is why it is off unless an operator opens it.
    """
    header = hl7v2.read_header(message)
    exchange.name = "ITI-64" if header.event == hl7v2.MOVE else "ITI-8"
    exchange.action, exchange.message_id, exchange.request = header.name, header.control_id, message
    hear = {hl7v2.MERGE: _hear_merge, hl7v2.MOVE: _hear_move}.get(header.event, _hear_feed)
    try:
        findings = hear(message, services, exchange)
    except Refused as refused:
        findings = list(refused.findings)
    return answer(header, findings, exchange)


def _hear_feed(message: bytes, services: Services, exchange: Exchange) -> list[Finding]:
    with exchange.step("xds.hl7v2"):
        told = hl7v2.read_feed(message)
    exchange.patient = told.identifiers[0]
    with exchange.step("registry"):
        return feed(services.registry, told)[1]


def _hear_merge(message: bytes, services: Services, exchange: Exchange) -> list[Finding]:
    with exchange.step("xds.hl7v2"):
        told = hl7v2.read_merge(message)
    exchange.patient = told.survivors[0]
    with exchange.step("registry"):
        return merge(services, told)[1]


def _hear_move(message: bytes, services: Services, exchange: Exchange) -> list[Finding]:
    """A link change moves documents from record to record, which not every profile lets a feed do."""
    with exchange.step("xds.hl7v2"):
        told = hl7v2.read_link_change(message)
    exchange.patient = told.new
    with exchange.step("profile"):
        admit(services, Caller(), "link-change", told.new)
    with exchange.step("registry"):
        return link_change.change_link(services.registry, told)


def answer(header: hl7v2.Header, findings: list[Finding], exchange: Exchange) -> bytes:
    """The ACK to a message, noted in its exchange."""
    exchange.note(findings)
    with exchange.step("answer"):
        exchange.response = hl7v2.write_ack(header, findings, datetime.now(UTC), uuid.uuid4().hex[:20])
    return exchange.response


# --- feeding -------------------------------------------------------------------------------------------------------


def feed(registry: Registry, told: Feed) -> tuple[Patient, list[Finding]]:
    """Add or revise one patient in one database transaction; the patient, and warnings. Refused changes nothing."""
    taken, kept_out = choose(told, registry.domain)
    traits = Traits(told.family, told.given, told.birth_date, told.sex)
    with registry.database.write() as connection:
        found = [patients.row_of(connection, cx) for cx in taken]
        if all(row is not None and row.merged_into is not None for row in found):
            raise Refused(RETIRED.at(_WHERE, received=", ".join(taken)))
        try:
            patient = patients.feed(connection, taken, traits)
        except ValueError as error:
            raise Refused(CONFLICT.at(_WHERE, received=", ".join(taken))) from error
        if None in found:  # an identifier that nobody had
            identity_events.tell(connection, patient.id)
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


# --- merging -------------------------------------------------------------------------------------------------------


def merge(services: Services, told: Merge) -> tuple[Patient, list[Finding]]:
    """End the use of identifiers in favour of a survivor's, in one database transaction; the survivor, and warnings.

    Refused changes nothing (ITI TF-2 §3.8.4.2.4): for an identifier that is unknown, was subsumed before, or is on both
    sides. The very merge that was made before is answered with a warning, for its first answer may have been lost.
    """
    registry = services.registry
    survivors, warnings = choose(Feed(told.survivors), registry.domain)
    subsumed, more = choose(Feed(told.subsumed), registry.domain)
    findings = [*told.warnings, *warnings, *more]
    with registry.database.write() as connection:
        named = [row.id for cx in (*survivors, *subsumed) if (row := patients.row_of(connection, cx)) is not None]
        patients.lock(connection, named)
        survivor = _survivor(connection, survivors, registry.domain)
        ended, found = _to_end(connection, subsumed, survivor, registry.domain)
        for cx in ended:
            row = patients.row_of(connection, cx)
            assert row is not None
            services.profile.merged(connection, survivor.id, patients.merge(connection, survivor, row, cx))
        if ended:
            identity_events.tell(connection, survivor.id)
    return survivor, [*findings, *found]


def _survivor(connection: Connection, identifiers: Sequence[str], domain: AffinityDomain) -> Patient:
    """The one patient whom the surviving identifiers name, by the first of them that is known."""
    found = [patient for cx in identifiers if (patient := patients.find(connection, cx)) is not None]
    if not found and any(patients.is_kept(connection, cx) for cx in identifiers):
        raise Refused(RETIRED.at(_WHERE, received=", ".join(identifiers)))
    if len({patient.id for patient in found}) > 1:
        raise Refused(CONFLICT.at(_WHERE, received=", ".join(identifiers)))
    return found[0] if found else patients.require(connection, identifiers[0], domain)


def _to_end(connection: Connection, identifiers: Sequence[str], survivor: Patient,
            domain: AffinityDomain) -> tuple[list[str], list[Finding]]:
    """Which identifiers are to be ended, and warnings; one that is unknown does no harm beside one that is known."""
    ended, findings, unknown = list[str](), list[Finding](), list[Finding]()
    for cx in identifiers:
        row = patients.row_of(connection, cx)
        if patients.key_of(cx) == patients.key_of(survivor.cx):
            raise Refused(SAME.at(_WHERE, received=cx))
        if row is None and domain.unknown_patients != "accept":
            unknown.append(patients.unknown(cx))
        elif row is not None and row.merged_into is not None:
            if row.merged_into != survivor.id:
                raise Refused(RETIRED.at(_WHERE, received=cx))
            findings.append(REPEATED.at(_WHERE, expected=row.shown, received=cx))
        else:
            if row is None:
                patients.feed(connection, [cx], Traits())
            ended.append(cx)
    if unknown and not ended and not findings:
        raise Refused(unknown)
    return ended, [*findings, *(replace(finding, severity_override=Severity.WARNING) for finding in unknown)]


#: The stories told by SOAP, by name
STORIES: Mapping[str, Callable[[Element, Caller, Exchange, Services], Answer]] = {
    "ITI-44": iti44, **identity_queries.STORIES}
