"""Queries for identities in HL7 v3, both ways: PIX (ITI TF-2 §3.45) and PDQ (§3.47) as values, and their answers.

What a query asks and what cannot be read of it stand in values of their own; an answer repeats the query as it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from uuid import uuid4

from lxml import etree

from xds import feed
from xds.feed import Feed
from xds.findings import Catalogue, Finding, Refused, Where, errors
from xds.hl7 import DTM, is_oid
from xds.hl7v3 import (
    II,
    MESSAGE,
    V3,
    Acknowledgement,
    Header,
    acknowledgement_of,
    attribute,
    family_of,
    first,
    identifier,
    of_cx,
    only,
    read_patient,
    write_detail,
    write_event,
    write_ii,
    write_patient,
    write_trigger,
    write_wrapper,
)
from xds.xml import Element, clean, local_name, value_of, where

RULES = Catalogue("xds")
QUERY = RULES["V-V3-QUERY"]
NOT_KEPT = RULES["V-V3-QUERY-NOT-KEPT"]

GET_IDENTIFIERS, IDENTIFIERS = "PRPA_IN201309UV02", "PRPA_IN201310UV02"
FIND_CANDIDATES, CANDIDATES = "PRPA_IN201305UV02", "PRPA_IN201306UV02"
ANSWERS = frozenset({IDENTIFIERS, CANDIDATES})

MOST = 20  # parameters of one kind
_LONGEST_COPY = 64 * 1024  # characters of a query that its answer repeats
_DATE = len("YYYYMMDD")
_BODY = "envelope"
_V3 = "{" + V3 + "}"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"


@dataclass(frozen=True, slots=True)
class Copy:
    """A query as an answer repeats it: its id, and its text as it came ("" where there is none to repeat)."""

    id: II = field(default_factory=II)
    text: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of identifiers that is asked for, by OID, and where it is asked for (an XPath)."""

    root: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class IdentifierQuery:
    """Whose other identifiers are asked for: a CX and where it stands; `domains` empty: all."""

    identifier: str
    path: str = ""
    domains: tuple[Domain, ...] = ()


@dataclass(frozen=True, slots=True)
class Name:
    """A name sought; `is_partial`: its parts are beginnings (use SRCH)."""

    family: str = ""
    given: str = ""
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class PersonQuery:
    """Traits sought: one of the names, birth between two dates (YYYY[MM[DD]], both included), sex, all identifiers.

    `most`: how many answers the asker takes, None without a limit; `minimum`: the least degree of match.
    """

    names: tuple[Name, ...] = ()
    birth: tuple[str, str] | None = None
    sex: str = ""
    identifiers: tuple[str, ...] = ()
    domains: tuple[Domain, ...] = ()
    most: int | None = None
    minimum: int = 0
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One patient who fits, how well (percent), and the domains asked for that have no identifier for them."""

    patient: Feed
    match: int = 100
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """An answer read: acknowledgement, OK, NF, AE or QE, patients with their match, and how many there are in all."""

    acknowledgement: Acknowledgement
    response: str
    candidates: tuple[Candidate, ...]
    total: int | None = None


# --- reading -------------------------------------------------------------------------------------------------------


def copy_of(body: Element) -> Copy:
    """What an answer repeats of a query, however broken it is."""
    process = first(body, "controlActProcess")
    query = None if process is None else first(process, "queryByParameter")
    if query is None:
        return Copy()
    text = etree.tostring(query, encoding="unicode", with_tail=False)
    return Copy(identifier(first(query, "queryId")), text if len(text) <= _LONGEST_COPY else "")


def read_identifier_query(body: Element) -> IdentifierQuery:
    """PRPA_IN201309UV02: one patient identifier, any number of domains (table 3.45.4.1.2.2-1)."""
    _, parameters = _parameters(body, GET_IDENTIFIERS)
    (sought,) = _identifiers(parameters, "patientIdentifier", (1,))
    return IdentifierQuery(*sought, _domains(parameters, "dataSource"))


def read_person_query(body: Element) -> PersonQuery:
    """PRPA_IN201305UV02 (table 3.47.4.1.2.2-1); parameters that nothing is kept of come back as warnings."""
    query, parameters = _parameters(body, FIND_CANDIDATES)
    criteria = first(query, "matchCriterionList")
    minimum = None if criteria is None else first(criteria, "minimumDegreeMatch")
    others = [child for child in parameters if isinstance(child.tag, str) and local_name(child) not in _SOUGHT]
    return PersonQuery(
        tuple(map(_name, _values(parameters, "livingSubjectName"))),
        next(map(_birth, _values(parameters, "livingSubjectBirthTime", 1)), None),
        next(map(_sex, _values(parameters, "livingSubjectAdministrativeGender", 1)), ""),
        tuple(cx for cx, _ in _identifiers(parameters, "livingSubjectId", range(MOST + 1))),
        _domains(parameters, "otherIDsScopingOrganization"), _number(first(query, "initialQuantity")),
        (_number(None if minimum is None else first(minimum, "value")) or 0),
        tuple(NOT_KEPT.at(where(child, _BODY), received=local_name(child)) for child in others[:MOST]))


_SOUGHT = frozenset({"livingSubjectName", "livingSubjectBirthTime", "livingSubjectAdministrativeGender",
                     "livingSubjectId", "otherIDsScopingOrganization"})


def _parameters(body: Element, name: str) -> tuple[Element, Element]:
    """The queryByParameter and parameterList of a query of that name."""
    if body.tag != _V3 + name:
        raise Refused(MESSAGE.at(where(body, _BODY), expected=f"{name} ({V3})", received=body.tag))
    query = only(only(body, "controlActProcess"), "queryByParameter")
    if not identifier(first(query, "queryId")).root:
        raise Refused(_wrong(query, "queryId", "@root", 0))
    return query, only(query, "parameterList")


def _values(parameters: Element, name: str, most: int = MOST) -> list[Element]:
    """The value of each parameter of a name that is told (no nullFlavor)."""
    found = list(parameters.iterchildren(_V3 + name))
    if len(found) > most:
        raise Refused(_wrong(parameters, name, f"≤ {most}", len(found)))
    values = []
    for parameter in found:
        held = list(parameter.iterchildren(_V3 + "value"))
        if len(held) != 1:
            raise Refused(_wrong(parameter, f"{name}/value", 1, len(held)))
        values += [value for value in held if value.get("nullFlavor") is None]
    return values


def _identifiers(parameters: Element, name: str, number: Sequence[int]) -> list[tuple[str, str]]:
    """CX and path of each identifier among the parameters."""
    values = _values(parameters, name, max(number))
    if len(values) not in number:
        raise Refused(_wrong(parameters, name, max(number), len(values)))
    found = []
    for value in values:
        place = Where(_BODY, value.sourceline or 0, path=_path(value))
        read = feed.identifier(value.get("extension", "").strip(), value.get("root", "").strip(), place)
        if isinstance(read, Finding):
            raise Refused(read)
        found.append((read, place.path))
    return found


def _domains(parameters: Element, name: str) -> tuple[Domain, ...]:
    """OIDs of domains; an extension has no place there."""
    found = []
    for value in _values(parameters, name):
        root = value.get("root", "").strip()
        if not is_oid(root) or value.get("extension"):
            raise Refused(_wrong(value, f"{name}/value", "@root (OID)", root or "—"))
        found.append(Domain(root, _path(value)))
    return tuple(found)


def _name(value: Element) -> Name:
    parts = [value_of(part)[:feed.LONGEST_NAME] if part is not None else ""
             for part in (family_of(value), first(value, "given"))]
    return Name(parts[0], parts[1], "SRCH" in value.get("use", "").split())


def _birth(value: Element) -> tuple[str, str]:
    """A day, month or year, or a range of them (IVL); an open end is ""."""
    ends = [attribute(part, "value")[:_DATE] for part in (first(value, "low"), first(value, "high"))]
    if told := value.get("value", "").strip()[:_DATE]:
        ends = [told, told]
    try:
        read = [DTM.parse(end).text if end else "" for end in ends]
    except ValueError as error:
        raise Refused(_wrong(value, "livingSubjectBirthTime/value", "YYYY[MM[DD]]", " ".join(ends))) from error
    if not any(read):
        raise Refused(_wrong(value, "livingSubjectBirthTime/value", "@value | low, high", "—"))
    return read[0], read[1]


def _sex(value: Element) -> str:
    code = value.get("code", "").strip()
    if code not in feed.SEXES:
        raise Refused(_wrong(value, "livingSubjectAdministrativeGender/value", " | ".join(feed.SEXES), code))
    return feed.SEXES[code]


def _number(element: Element | None) -> int | None:
    told = attribute(element, "value")
    if not told:
        return None
    if element is not None and not (told.isascii() and told.isdecimal() and len(told) < 10):
        raise Refused(_wrong(element, local_name(element), "0 … 999999999", told))
    return int(told)


def _wrong(element: Element, path: str, expected: object, received: object) -> Finding:
    return QUERY.at(where(element, _BODY), expected=expected, received=received, path=path)


def _path(value: Element) -> str:
    """XPath of a parameter's value, with the number of its repetition (ITI TF-2 §3.45.4.2.3, cases 4 and 5)."""
    parameter, parameters, _, _, message = islice(value.iterancestors(), 5)
    name = local_name(parameter)
    twins = list(parameters.iterchildren(_V3 + name))
    number = f"[{twins.index(parameter) + 1}]" if len(twins) > 1 else ""
    return f"/{local_name(message)}/controlActProcess/queryByParameter/parameterList/{name}{number}/value"


def read_answer(body: Element, name: str) -> QueryAnswer:
    """An answer to a query, ours or another server's; Refused when it is none of that name."""
    if body.tag != _V3 + name:
        raise Refused(MESSAGE.at(where(body, _BODY), expected=f"{name} ({V3})", received=body.tag))
    process = only(body, "controlActProcess")
    ack = only(process, "queryAck")
    patients = [only(only(only(subject, "registrationEvent"), "subject1"), "patient")
                for subject in process.iterchildren(_V3 + "subject")]
    return QueryAnswer(acknowledgement_of(body), attribute(first(ack, "queryResponseCode"), "code"),
                       tuple(Candidate(read_patient(patient), _match(patient), _missing(patient))
                             for patient in patients), _number(first(ack, "resultTotalQuantity")))


def _match(patient: Element) -> int:
    subject = first(patient, "subjectOf1")
    observation = None if subject is None else first(subject, "queryMatchObservation")
    return (_number(None if observation is None else first(observation, "value"))) or 0


def _missing(patient: Element) -> tuple[str, ...]:
    """Domains whose identifier is told to be none."""
    person = only(patient, "patientPerson")
    none = [other for other in person.iterchildren(_V3 + "asOtherIDs")
            if (identity := first(other, "id")) is not None and identity.get("nullFlavor") is not None]
    scopes = [first(other, "scopingOrganization") for other in none]
    return tuple(identifier(first(scope, "id")).root for scope in scopes if scope is not None)


# --- writing -------------------------------------------------------------------------------------------------------


def write_identifiers(header: Header, copy: Copy, patient: Feed | None, findings: Sequence[Finding],
                      at: datetime) -> str:
    """The answer to a PIX query: one patient with the identifiers asked for, or none (ITI TF-2 §3.45.4.2)."""
    events = [write_event(write_patient(patient), header.receiver)] if patient else []
    return _write_answer(IDENTIFIERS, header, copy, events, len(events), findings, at)


def write_candidates(header: Header, copy: Copy, candidates: Sequence[Candidate], total: int,
                     findings: Sequence[Finding], at: datetime) -> str:
    """The answer to a PDQ: a registration event for each patient of `total` that is shown (ITI TF-2 §3.47.4.2)."""
    events = [write_event(write_patient(one.patient, _write_match(one.match), one.missing), header.receiver)
              for one in candidates]
    return _write_answer(CANDIDATES, header, copy, events, total, findings, at)


def write_failure(name: str, header: Header, copy: Copy, findings: Sequence[Finding], at: datetime | None) -> str:
    """The answer to a query that was refused."""
    return _write_answer(name, header, copy, [], 0, findings, at)


def _write_answer(name: str, header: Header, copy: Copy, events: Sequence[str], total: int,
                  findings: Sequence[Finding], at: datetime | None) -> str:
    """Application acknowledgement, found events, what became of the query, and the query itself (appendix O.1.3)."""
    wrong = errors(findings)
    # HL7 QueryResponse: QE, the query itself is wrong; AE, it cannot be answered; NF and OK otherwise
    code = ("QE" if any(finding.rule == QUERY for finding in wrong) else "AE") if wrong else "OK" if events else "NF"
    wrapper = write_wrapper(name, header.receiver, header.sender, header.processing, "NE", II(str(uuid4())), at)
    counts = "".join(f'<{tag} value="{number}"/>' for tag, number in (
        ("resultTotalQuantity", total), ("resultCurrentQuantity", len(events)),
        ("resultRemainingQuantity", max(total - len(events), 0))))
    query_id = write_ii(copy.id, "queryId")
    return (f'<{name} xmlns="{V3}" ITSVersion="XML_1.0">{wrapper}<acknowledgement>'
            f'<typeCode code="{"AE" if wrong else "AA"}"/><targetMessage>{write_ii(header.id)}</targetMessage>'
            f"{''.join(map(write_detail, findings))}</acknowledgement>"
            f'<controlActProcess classCode="CACT" moodCode="EVN">{write_trigger(name)}{"".join(events)}<queryAck>'
            f'{query_id}<statusCode code="deliveredResponse"/><queryResponseCode code="{code}"/>{counts}</queryAck>'
            f"{copy.text}</controlActProcess></{name}>")


def _write_match(percent: int) -> str:
    return ('<subjectOf1 typeCode="SBJ"><queryMatchObservation classCode="OBS" moodCode="EVN">'
            '<code code="IHE_PDQ"/>'
            f'<value xmlns:xsi="{_XSI}" xsi:type="INT" value="{percent}"/></queryMatchObservation></subjectOf1>')


def write_identifier_query(asked: IdentifierQuery, header: Header, query: II, at: datetime) -> str:
    """A PIX query as a consumer sends it (ITI TF-2 §3.45.4.1.2)."""
    parameters = _write_parameters("dataSource", "DataSource.id", (f'<value root="{clean(domain.root)}"/>'
                                                                   for domain in asked.domains))
    parameters += _write_parameters("patientIdentifier", "Patient.id", [_write_value(asked.identifier)])
    return _write_query(GET_IDENTIFIERS, header, query, "", f"<parameterList>{parameters}</parameterList>", at)


def write_person_query(asked: PersonQuery, header: Header, query: II, at: datetime) -> str:
    """A PDQ as a consumer sends it (ITI TF-2 §3.47.4.1.2)."""
    quantity = "" if asked.most is None else f'<initialQuantity value="{asked.most}"/>'
    minimum = ('<matchCriterionList><minimumDegreeMatch>'
               f'<value xmlns:xsi="{_XSI}" xsi:type="INT" value="{asked.minimum}"/>'
               "<semanticsText>MinimumDegreeMatch</semanticsText></minimumDegreeMatch></matchCriterionList>")
    sex = [f'<value code="{_CODES[asked.sex]}"/>'] if asked.sex else []
    parameters = "".join((
        _write_parameters("livingSubjectAdministrativeGender", "LivingSubject.administrativeGender", sex),
        _write_parameters("livingSubjectBirthTime", "LivingSubject.birthTime", map(
            _write_birth, (asked.birth,) if asked.birth else ())),
        _write_parameters("livingSubjectId", "LivingSubject.id", map(_write_value, asked.identifiers)),
        _write_parameters("livingSubjectName", "LivingSubject.name", map(_write_name, asked.names)),
        _write_parameters("otherIDsScopingOrganization", "OtherIDs.scopingOrganization.id", (
            f'<value root="{clean(domain.root)}"/>' for domain in asked.domains))))
    return _write_query(FIND_CANDIDATES, header, query, '<responseModalityCode code="R"/>',
                        f"{quantity}{minimum if asked.minimum else ''}<parameterList>{parameters}</parameterList>", at)


_CODES = {"M": "M", "F": "F", "U": "UN"}


def _write_parameters(name: str, meaning: str, values: Iterable[str]) -> str:
    return "".join(f"<{name}>{value}<semanticsText>{meaning}</semanticsText></{name}>" for value in values)


def _write_value(cx: str) -> str:
    return write_ii(of_cx(cx), "value")


def _write_birth(birth: tuple[str, str]) -> str:
    low, high = birth
    if low == high:
        return f'<value value="{clean(low)}"/>'
    ends = "".join(f'<{tag} value="{clean(end)}"/>' for tag, end in (("low", low), ("high", high)) if end)
    return f"<value>{ends}</value>"


def _write_name(name: Name) -> str:
    use = ' use="SRCH"' if name.is_partial else ""
    parts = "".join(f"<{tag}>{clean(text)}</{tag}>" for tag, text in (("given", name.given), ("family", name.family))
                    if text)
    return f"<value{use}>{parts}</value>"


def _write_query(name: str, header: Header, query: II, modality: str, content: str, at: datetime) -> str:
    wrapper = write_wrapper(name, header.sender, header.receiver, header.processing, "AL", header.id, at)
    query_id = write_ii(query, "queryId")
    return (f'<{name} xmlns="{V3}" ITSVersion="XML_1.0">{wrapper}'
            f'<controlActProcess classCode="CACT" moodCode="EVN">{write_trigger(name)}'
            f'<authorOrPerformer typeCode="AUT"><assignedDevice classCode="ASSIGNED">{write_ii(header.sender)}'
            f'</assignedDevice></authorOrPerformer><queryByParameter>{query_id}<statusCode code="new"/>{modality}'
            f'<responsePriorityCode code="I"/>{content}</queryByParameter></controlActProcess></{name}>')
