"""Asking for identities: the other identifiers of a patient (PIX, ITI-45), patients by what is known (PDQ, ITI-47)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from journal.exchanges import Exchange
from registry import patients
from registry.affinity import AffinityDomain
from registry.names import fold
from registry.requirements import RULES
from registry.tables import patient as table
from registry.tables import patient_identifier
from registry.transactions import Services, admit
from security.identity import Caller
from xds import hl7v3, hl7v3_queries
from xds.answers import Answer
from xds.feed import Feed
from xds.findings import Finding, Where
from xds.hl7v3_queries import Candidate, Domain, IdentifierQuery, Name, PersonQuery
from xds.xml import Element

IDENTIFIER = RULES["V-REG-SEARCH-IDENTIFIER"]
DOMAIN = RULES["V-REG-SEARCH-DOMAIN"]
CRITERIA = RULES["V-REG-SEARCH-CRITERIA"]
TOO_MANY = RULES["V-REG-SEARCH-TOO-MANY"]

_BODY = "envelope"
_PARAMETERS = Where(_BODY, path=f"/{hl7v3_queries.FIND_CANDIDATES}/controlActProcess/queryByParameter/parameterList")
_LAST = "\U0010ffff"  # behind every continuation of a prefix


# --- PIX -----------------------------------------------------------------------------------------------------------


def iti45(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """PIX V3 Query (ITI TF-2 §3.45): what is not known is an answer too, with its place in the query."""
    with exchange.step("xds.hl7v3"):
        asked = hl7v3_queries.read_identifier_query(body)
    exchange.patient = asked.identifier
    with exchange.step("profile"):
        admit(services, caller, "identity-query", asked.identifier)
    with exchange.step("registry"), services.registry.database.read() as connection:
        patient, findings = identifiers_of(connection, asked, services.registry.domain)
    exchange.note(findings)
    return Answer(hl7v3_queries.write_identifiers(
        hl7v3.read_header(body), hl7v3_queries.copy_of(body), patient, findings, datetime.now(UTC)))


def identifiers_of(connection: Connection, asked: IdentifierQuery,
                   domain: AffinityDomain) -> tuple[Feed | None, list[Finding]]:
    """The patient with the other identifiers, None without any (§3.45.4.2.3, cases 1 to 6)."""
    findings = list(_unknown_domains(connection, asked.domains, domain))
    found = patients.find(connection, asked.identifier)
    if found is None:
        findings.insert(0, IDENTIFIER.at(Where(_BODY, path=asked.path), received=asked.identifier))
    if found is None or findings:
        return None, findings
    others = [cx for cx in patients.identifiers_of(connection, found.id)
              if patients.key_of(cx) != patients.key_of(asked.identifier) and _is_in(cx, asked.domains)]
    return (Feed(tuple(others), family=found.family, given=found.given) if others else None), []


def _is_in(cx: str, domains: Sequence[Domain]) -> bool:
    key = patients.key_of(cx)
    return key is not None and (not domains or key[0] in {domain.root for domain in domains})


def _unknown_domains(connection: Connection, asked: Iterable[Domain], domain: AffinityDomain) -> Iterable[Finding]:
    """Domains that are neither the community's nor those of any identifier here."""
    columns = patient_identifier.c
    expected = ", ".join(sorted(domain.patient_authorities)) or "—"
    for one in asked:
        held = select(columns.authority).where(columns.authority == one.root).limit(1)
        if one.root not in domain.patient_authorities and connection.execute(held).first() is None:
            yield DOMAIN.at(Where(_BODY, path=one.path), expected=expected, received=one.root)


# --- PDQ -----------------------------------------------------------------------------------------------------------


def iti47(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Patient Demographics Query HL7 V3 (ITI TF-2 §3.47), all in one answer: the Continuation Option is not served."""
    with exchange.step("xds.hl7v3"):
        asked = hl7v3_queries.read_person_query(body)
    exchange.patient = next(iter(asked.identifiers), "")
    with exchange.step("profile"):
        admit(services, caller, "find-patients", exchange.patient)
    with exchange.step("registry"), services.registry.database.read() as connection:
        candidates, total, findings = candidates_of(connection, asked, services.registry.domain)
    exchange.note(findings)
    return Answer(hl7v3_queries.write_candidates(
        hl7v3.read_header(body), hl7v3_queries.copy_of(body), candidates, total, findings, datetime.now(UTC)))


def candidates_of(connection: Connection, asked: PersonQuery,
                  domain: AffinityDomain) -> tuple[list[Candidate], int, list[Finding]]:
    """Who fits, how many they are in all, and findings: an error for more than are admitted (§3.47.4.2.3)."""
    findings = [*asked.warnings, *_unknown_domains(connection, asked.domains, domain)]
    conditions = _conditions(connection, asked)
    if conditions is None:
        return [], 0, [*findings, CRITERIA.at(_PARAMETERS, expected="livingSubjectName | livingSubjectBirthTime | "
                                                                    "livingSubjectId")]
    if len(findings) > len(asked.warnings):
        return [], 0, findings
    rows = connection.execute(select(table).where(*conditions).order_by(
        table.c.family_key, table.c.given_key, table.c.birth_date, table.c.id).limit(domain.max_patients + 1)).all()
    if len(rows) > domain.max_patients:  # a search that is too wide tells nothing
        total = connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()
        return [], total, [*findings, TOO_MANY.at(_PARAMETERS, expected=domain.max_patients, received=total)]
    fitting = [(row, match) for row in rows if (match := _match(row, asked.names)) >= asked.minimum]
    most = len(fitting) if asked.most is None else asked.most
    if len(fitting) > most:  # what was asked for, and an error, for there is no way to continue (case 1)
        findings.append(TOO_MANY.at(_PARAMETERS, expected=most, received=len(fitting)))
    shown = [_candidate(connection, row, match, asked.domains) for row, match in fitting[:most]]
    return shown, len(fitting), findings


def _conditions(connection: Connection, asked: PersonQuery) -> list[ColumnElement[bool]] | None:
    """What patients must fulfil; None when it does not say whom."""
    names = [condition for name in asked.names if (condition := _named(name)) is not None]
    if not (names or asked.birth or asked.identifiers):
        return None
    c = table.c
    conditions: list[ColumnElement[bool]] = [c.merged_into.is_(None)]
    conditions += [or_(*names)] if names else []
    conditions += [c.sex == asked.sex] if asked.sex else []
    if asked.birth:
        low, high = asked.birth
        conditions += [c.birth_date != ""]
        conditions += [c.birth_date >= low] if low else []
        conditions += [c.birth_date <= high.ljust(14, "9")] if high else []
    for cx in asked.identifiers:
        found = patients.find(connection, cx)
        conditions.append(c.id == (found.id if found else -1))
    return conditions


def _named(name: Name) -> ColumnElement[bool] | None:
    """A name by its keys: equal, or beginnings where only those are told."""
    parts = [(column, fold(text)) for column, text in ((table.c.family_key, name.family),
                                                       (table.c.given_key, name.given))]
    told = [(column, key) for column, key in parts if key]
    if not told:
        return None
    if name.is_partial:
        return and_(*(and_(column >= key, column < key + _LAST) for column, key in told))
    return and_(*(column == key for column, key in told))


def _match(row: Row[Any], names: Sequence[Name]) -> int:
    """How much of the name was told, in percent: of the name that fits best."""
    return max((_match_of(row, name) for name in names), default=100)


def _match_of(row: Row[Any], name: Name) -> int:
    shares = []
    for known, told in ((row.family_key, fold(name.family)), (row.given_key, fold(name.given))):
        if told and not known.startswith(told):
            return 0
        if told:
            shares.append(100 * len(told) // len(known))
    return min(shares, default=0)


def _candidate(connection: Connection, row: Row[Any], match: int, domains: Sequence[Domain]) -> Candidate:
    """The patient, with the identifiers of the domains asked for, or with all; and the domains that have none."""
    held = patients.identifiers_of(connection, row.id)
    asked = [cx for cx in held if _is_in(cx, domains)]
    have = {key[0] for cx in asked if (key := patients.key_of(cx)) is not None}
    missing = tuple(domain.root for domain in domains if domain.root not in have)
    told = Feed(tuple(asked or held), (), row.family, row.given, row.birth_date, row.sex)
    return Candidate(told, match, missing)


#: The queries by name
STORIES: Mapping[str, Callable[[Element, Caller, Exchange, Services], Answer]] = {"ITI-45": iti45, "ITI-47": iti47}
