"""What other communities ask of this one: the registry's side of a responding gateway (ITI TF-2 §3.38, §3.55).

A cross gateway query is a stored query whose answer says on every object where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from journal.exchanges import Exchange
from registry import patients, queries
from registry.affinity import AffinityDomain
from registry.patients import Patient
from registry.query_values import BY_ID
from registry.reader import Reader
from registry.requirements import RULES
from registry.tables import patient as table
from registry.tables import patient_identifier
from registry.transactions import REFERENCES_ONLY, Services, admit, find_in
from security.access import Gate
from security.identity import Caller
from xds import messages, xcpd
from xds.answers import Answer
from xds.findings import Finding, Refused, Where
from xds.messages import AdhocQuery
from xds.vocabulary import SUCCESS
from xds.xcpd import Match, Sought
from xds.xml import Element

NO_HOME = RULES["V-XCA-NO-HOME"]
HOME_MISSING = RULES["V-XCA-HOME-MISSING"]
COMMUNITY_UNKNOWN = RULES["V-XCA-COMMUNITY-UNKNOWN"]
TOO_MANY = RULES["V-XCPD-TOO-MANY"]

MAX_MATCHES = 10


def home_of(domain: AffinityDomain) -> str:
    """The homeCommunityId of this community, `urn:oid:…`; Refused, as a fault, where the operator set none."""
    if not domain.home:
        raise Refused(NO_HOME.at(Where("affinity", path="home_community_id"), expected="urn:oid:…"))
    return domain.home


def iti38(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Cross Gateway Query (ITI TF-2 §3.38)."""
    home = home_of(services.profile.domain)
    with exchange.step("xds.ebxml"):
        query = messages.read_query(body)
        check_home(query, (home,))
    found = search(query, "gateway-search", caller, exchange, services)
    return Answer(messages.write_query_response(SUCCESS, (), found))


def check_home(query: AdhocQuery, known: Collection[str]) -> None:
    """A query by identifiers must name a community, whoever does must name one of `known` (§3.38.4.1.2)."""
    place = Where("query", line=query.line, path="AdhocQuery/@home")
    if query.home:
        if query.home not in known:
            raise Refused(unknown_community(query.home, known, place))
    elif _by_identifiers(query):
        raise Refused(HOME_MISSING.at(place, expected=" | ".join(known)))


def unknown_community(home: str, known: Collection[str], place: Where) -> Finding:
    """The finding on a community that is not served here."""
    return COMMUNITY_UNKNOWN.at(place, expected=" | ".join(known), received=home)


def _by_identifiers(query: AdhocQuery) -> bool:
    definition = BY_ID.get(query.id.lower())
    return definition is not None and all(taken.type != "patient" for taken in definition.parameters.values())


def search(query: AdhocQuery, action: str, caller: Caller, exchange: Exchange, services: Services) -> tuple[str, ...]:
    """What this community answers to a query, as `rim:` text with its home on every object.

    `action`: what the profile is asked to admit.
    """
    def gate_of(reader: Reader, patient: str) -> Gate:
        exchange.patient = patient or caller.patient
        with exchange.step("profile"):
            gate = services.profile.admit(reader.connection, caller, action, patient, find_in(reader.connection))
        if gate.references_only and query.return_type != messages.OBJECT_REF:
            raise Refused(REFERENCES_ONLY.at(Where("query"), expected=messages.OBJECT_REF, received=query.return_type))
        return gate

    with exchange.step("registry"):
        return queries.run(services.registry, query, gate_of, home_of(services.profile.domain)).objects


# --- patient discovery ---------------------------------------------------------------------------------------------


def iti55(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Cross Gateway Patient Discovery (ITI TF-2 §3.55)."""
    home = home_of(services.profile.domain)
    with exchange.step("xds.hl7v3"):
        sought = xcpd.read_query(body)
    exchange.patient = next(iter(sought.identifiers), "")
    with exchange.step("profile"):
        admit(services, caller, "gateway-patient", exchange.patient)
    with exchange.step("registry"), services.registry.database.read() as connection:
        matches = discover(connection, sought, services.profile.domain)
    return Answer(xcpd.write_answer(body, matches, home, datetime.now(UTC)))


def discover(connection: Connection, sought: Sought, domain: AffinityDomain) -> list[Match]:
    """Patients who are the one sought, each with the identifier to ask by; Refused when they are too many.

    Whom an identifier names is found by it, unless the traits told contradict; else all traits must be equal.
    """
    named = {found.id: found for cx in sought.identifiers if (found := patients.find(connection, cx))}
    same = [patient for patient in named.values() if _agrees(patient, sought)]
    if not named:
        same = list(_by_traits(connection, sought))
    if len(same) > MAX_MATCHES:
        raise Refused(TOO_MANY.at(Where("envelope", path="parameterList"), expected=f"≤ {MAX_MATCHES}",
                                  received=len(same)))
    return [Match(cx, xcpd.Name(patient.family, patient.given), patient.birth_date, patient.sex)
            for patient in same if (cx := _shared_identifier(connection, patient.id, domain))]


def _by_traits(connection: Connection, sought: Sought) -> Iterator[Patient]:
    """Those with exactly this name and day of birth, and this sex where both are told."""
    if not sought.birth_date:
        return
    rows = connection.execute(select(table).where(table.c.birth_date == sought.birth_date,
                                                  table.c.merged_into.is_(None)).order_by(table.c.id))
    for row in rows:
        patient = Patient(row.id, "", row.family, row.given, row.birth_date, row.sex)
        if patient.family and patient.given and all(name.given for name in sought.names) and _agrees(patient, sought):
            yield patient


def _agrees(patient: Patient, sought: Sought) -> bool:
    """Whether nothing told contradicts what is known; letters are compared whatever their case."""
    return (_same(patient.birth_date, sought.birth_date)
            and (patient.sex not in {"M", "F"} or _same(patient.sex, sought.sex))
            and (not sought.names or any(_same(patient.family, name.family) and _same(patient.given, name.given)
                                         for name in sought.names)))


def _same(known: str, told: str) -> bool:
    return not (known and told) or known.casefold() == told.casefold()


def _shared_identifier(connection: Connection, patient_id: int, domain: AffinityDomain) -> str:
    """The patient's identifier under the community's own authorities, "" without one."""
    columns = patient_identifier.c
    rows = connection.execute(select(columns.authority, columns.value).where(columns.patient_id == patient_id)
                              .order_by(columns.authority, columns.value))
    return next((f"{value}^^^&{authority}&ISO" for authority, value in rows
                 if not domain.patient_authorities or authority in domain.patient_authorities), "")


#: The stories of a responding gateway that the registry tells, by name
STORIES: Mapping[str, Callable[[Element, Caller, Exchange, Services], Answer]] = {"ITI-38": iti38, "ITI-55": iti55}
