"""The registry's transactions as stories: body in, answer out (ITI-18, 42, 57, 61, 62, 92)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from journal.exchanges import Exchange
from registry import patients, queries
from registry.profile import Contents, Profile
from registry.reader import Reader
from registry.register import Registry, refuse, register
from registry.remove import remove
from registry.requirements import RULES, SAME_AS
from registry.rules import Context, check
from registry.update import update
from security.access import FindPatient, Gate
from security.identity import Caller
from xds import ebxml, messages
from xds.answers import Answer, success
from xds.findings import Finding, Refused, Where
from xds.messages import AdhocQuery, SubmitRequest
from xds.model import Submission
from xds.rim import RegistryObject, is_uuid_urn
from xds.vocabulary import ON_DEMAND, SUCCESS
from xds.xml import Element, local_name, where

UNKNOWN_OBJECT = RULES["V-REG-UNKNOWN-OBJECT"]
REFERENCES_ONLY = RULES["V-REG-REFERENCES-ONLY"]


@dataclass(frozen=True, slots=True)
class Services:
    """What the registry's transactions work with."""

    registry: Registry
    profile: Profile


def iti42(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Register Document Set-b (ITI TF-2 §3.42)."""
    return _register(body, caller, exchange, services, "ITI-42")


def _register(body: Element, caller: Caller, exchange: Exchange, services: Services, transaction: str) -> Answer:
    with exchange.step("xds.ebxml"):
        request = messages.read_submit_objects(body)
        submission = read_submission(request)
    patient = patient_of(submission)
    exchange.patient = patient
    with exchange.step("profile"):
        admit(services, caller, "register", patient)
    with exchange.step("rules"):
        findings = check_submission(submission, services, caller, transaction, {}, unknown_objects(request))
    with exchange.step("registry"):
        registered = register(services.registry, submission, accept_repeat=services.profile.accept_repeat)
    warnings = [*findings, *registered.findings]
    exchange.note(warnings)
    return success(warnings)


def iti18(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Registry Stored Query (ITI TF-2 §3.18): admitted before anything is looked for, filtered document by document."""
    with exchange.step("xds.ebxml"):
        query = messages.read_query(body)

    def gate_of(reader: Reader, patient: str) -> Gate:
        exchange.patient = patient or caller.patient
        with exchange.step("profile"):
            return _gate(reader.connection, query, caller, patient, services)

    with exchange.step("registry"):
        answer = queries.run(services.registry, query, gate_of)
    return Answer(messages.write_query_response(SUCCESS, (), answer.objects))


def _gate(connection: Connection, query: AdhocQuery, caller: Caller, patient: str, services: Services) -> Gate:
    """ObjectRefs by identifier are "reference" (TD3.1b); everything else is "search" (TD3.1)."""
    by_reference = query.return_type == messages.OBJECT_REF and not patient
    gate = services.profile.admit(connection, caller, "reference" if by_reference else "search", patient,
                                  find_in(connection))
    if gate.references_only and query.return_type != messages.OBJECT_REF:
        raise Refused(REFERENCES_ONLY.at(Where("query"), expected=messages.OBJECT_REF, received=query.return_type))
    return gate


def iti57(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Update Document Set (ITI TF-2 §3.57)."""
    return _update(body, caller, exchange, services, "ITI-57")


def iti92(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Restricted Update Document Set (ITI TF-2 §3.92)."""
    return _update(body, caller, exchange, services, "ITI-92")


def _update(body: Element, caller: Caller, exchange: Exchange, services: Services, transaction: str) -> Answer:
    with exchange.step("xds.ebxml"):
        request = messages.read_submit_objects(body)
        submission = read_submission(request)
    exchange.patient = patient_of(submission)
    with exchange.step("profile"):
        gate = admit(services, caller, "update", exchange.patient)
    with exchange.step("rules"):
        warnings = check_submission(submission, services, caller, transaction, {}, unknown_objects(request))
    with exchange.step("registry"):
        update(services.registry, submission, transaction == "ITI-92", gate)
    exchange.note(warnings)
    return success(warnings)


def iti61(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Register On-Demand Document Entry (ITI TF-2 §3.61)."""
    return _register(body, caller, exchange, services, "ITI-61")


def iti62(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Remove Metadata (ITI TF-2 §3.62)."""
    with exchange.step("xds.ebxml"):
        references = messages.read_remove_objects(body)
    exchange.patient = caller.patient
    with exchange.step("profile"):
        gate = admit(services, caller, "remove", "")
    with exchange.step("registry"):
        remove(services.registry, references, gate)
    return success()


# --- what ITI-41 and ITI-42 share ----------------------------------------------------------------------------------


def read_submission(request: SubmitRequest | messages.ProvideRequest) -> Submission:
    """The objects of a request by what they are, their UUIDs in lower case as all compare them (§4.1.12.3)."""
    return ebxml.to_submission(map(_in_lower_case, request.objects), request.references)


def lower_uuid(identity: str) -> str:
    """An id as it is compared: a real UUID in lower case, a symbol as it stands."""
    return identity.lower() if is_uuid_urn(identity) else identity


def _in_lower_case(thing: RegistryObject) -> RegistryObject:
    ids = (thing.id, thing.lid, thing.source, thing.target)
    lowered = tuple(map(lower_uuid, ids))
    parents = {item.classified_object for item in thing.classifications}
    parents |= {item.registry_object for item in thing.external_identifiers}
    if lowered == ids and all(parent == lower_uuid(parent) for parent in parents):
        return thing
    identity, lid, source, target = lowered
    return replace(
        thing, id=identity, lid=lid, source=source, target=target,
        classifications=tuple(replace(item, classified_object=lower_uuid(item.classified_object))
                              for item in thing.classifications),
        external_identifiers=tuple(replace(item, registry_object=lower_uuid(item.registry_object))
                                   for item in thing.external_identifiers))


def unknown_objects(request: SubmitRequest | messages.ProvideRequest) -> list[Finding]:
    """Findings on top-level objects that XDS does not know."""
    return [UNKNOWN_OBJECT.at(where(element, "metadata"), received=local_name(element)) for element in request.unknown]


def patient_of(submission: Submission) -> str:
    """The patient a submission says it is about: the set's, else the first one named, "" when there is none."""
    return next((patient for patient in submission.patient_ids() if patient), "")


def admit(services: Services, caller: Caller, action: str, patient: str) -> Gate:
    """The profile's decision; Refused goes out before anything of the record is told."""
    with services.registry.database.read() as connection:
        return services.profile.admit(connection, caller, action, patient, find_in(connection))


def find_in(connection: Connection) -> FindPatient:
    """How a profile finds a patient without knowing the registry."""

    def find(cx: str) -> int | None:
        found = patients.find(connection, cx)
        return found.id if found else None

    return find


def check_submission(submission: Submission, services: Services, caller: Caller, transaction: str,
                     contents: Contents, so_far: Iterable[Finding] = ()) -> list[Finding]:
    """All metadata rules, IHE's and the profile's; Refused with every finding, else the warnings."""
    profile = services.profile
    on_demand = any(entry.object_type == ON_DEMAND for entry in submission.documents) and transaction in SAME_AS
    context = Context(transaction, profile.requirements(transaction), profile.domain,
                      profile.requirements("ITI-61") if on_demand else None)
    findings = [*so_far, *check(submission, context)]
    if submission.sets:
        findings += profile.check(submission, contents, caller)
    refuse(_coded(finding, transaction) for finding in findings)
    return findings


def _coded(finding: Finding, transaction: str) -> Finding:
    """The finding with the errorCode that it has in this transaction (ITI TF-3 table 4.2.4.1-2)."""
    other = _CODES.get(transaction, {}).get(finding.xds)
    return replace(finding, xds_override=other) if other else finding


#: In ITI-41 it is the repository that finds bad metadata; in an update, patients are reconciled.
_CODES: Mapping[str, Mapping[str, str]] = {
    "ITI-41": {"XDSRegistryMetadataError": "XDSRepositoryMetadataError",
               "XDSRegistryDuplicateUniqueIdInMessage": "XDSRepositoryDuplicateUniqueIdInMessage"},
    "ITI-57": {"XDSPatientIdDoesNotMatch": "XDSPatientIDReconciliationError"},
    "ITI-92": {"XDSPatientIdDoesNotMatch": "XDSPatientIDReconciliationError"}}

#: The registry's transactions by name
STORIES: Mapping[str, Callable[[Element, Caller, Exchange, Services], Answer]] = {
    "ITI-18": iti18, "ITI-42": iti42, "ITI-57": iti57, "ITI-61": iti61, "ITI-62": iti62, "ITI-92": iti92}
