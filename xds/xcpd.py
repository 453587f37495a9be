"""Cross Gateway Patient Discovery: PRPA_IN201305UV02 -> values -> PRPA_IN201306UV02 (ITI TF-2 §3.55).

Of a query, only what the registry can compare is read: identifiers, name, date of birth, sex. The rest may stand there
and is repeated in the answer with the whole `queryByParameter`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from uuid import uuid4

from lxml import etree

from xds import feed
from xds.findings import Catalogue, Finding, Refused, errors
from xds.hl7 import CX, DTM
from xds.hl7v3 import (
    II,
    INTERACTIONS,
    V3,
    attribute,
    first,
    identifier,
    read_header,
    write_detail,
    write_ii,
    write_wrapper,
)
from xds.xml import Element, clean, value_of, where

RULES = Catalogue("xds")
CONTENT = RULES["V-XCPD-CONTENT"]

QUERY, ANSWER = "PRPA_IN201305UV02", "PRPA_IN201306UV02"
DISCOVERY = "CrossGatewayPatientDiscovery"
OID = "urn:oid:"

_V3 = "{" + V3 + "}"
_BODY = "envelope"
_MOST = 20  # names, and values of a parameter, that are looked at
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
#: How a community says that it keeps no list of where else a patient is known (§3.55.4.2.2.3)
_NO_LOCATOR = ("NotHealthDataLocator", "1.3.6.1.4.1.19376.1.2.27.2")


@dataclass(frozen=True, slots=True)
class Name:
    """Family and given name as told."""

    family: str = ""
    given: str = ""


@dataclass(frozen=True, slots=True)
class Sought:
    """By what a patient is sought: CX texts, names of which one is the patient's, YYYY[MM[DD]], M or F; "" untold."""

    identifiers: tuple[str, ...] = ()
    names: tuple[Name, ...] = ()
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """A patient found: the identifier to ask this community by, and what is known of the person."""

    cx: str
    name: Name = Name()
    birth_date: str = ""
    sex: str = ""


# --- reading -------------------------------------------------------------------------------------------------------


def read_query(body: Element) -> Sought:
    """What a query asks for; Refused when it is none, or tells neither an identifier nor name and date of birth."""
    parameters = _parameters(body)
    sought = Sought(tuple(_identifiers(parameters)), tuple(_names(parameters)), _birth_date(parameters),
                    _sex(parameters))
    if not sought.identifiers and not (sought.names and sought.birth_date):
        raise Refused(CONTENT.at(where(parameters, _BODY), received="—", path="parameterList",
                                 expected="livingSubjectName + livingSubjectBirthTime | livingSubjectId"))
    return sought


def _parameters(body: Element) -> Element:
    """The parameterList, step by step so that what is missing has a name."""
    if not read_header(body).id.root:
        raise Refused(CONTENT.at(where(body, _BODY), expected="id/@root", received="0", path="id"))
    element = body
    for name in ("controlActProcess", "queryByParameter", "parameterList"):
        found = list(element.iterchildren(_V3 + name))
        if len(found) != 1:
            raise Refused(CONTENT.at(where(element, _BODY), expected=f"{name} (1)", received=len(found), path=name))
        element = found[0]
    return element


def _values(parameters: Element, name: str) -> Iterator[Element]:
    """The values of a parameter; one that says by nullFlavor that it is none is passed over."""
    for parameter in islice(parameters.iterchildren(_V3 + name), _MOST):
        for value in islice(parameter.iterchildren(_V3 + "value"), _MOST):
            if value.get("nullFlavor") is None:
                yield value


def _identifiers(parameters: Element) -> Iterator[str]:
    """CX texts. An identifier that cannot be one of a patient here leads to nobody, which is no fault of the query."""
    for value in _values(parameters, "livingSubjectId"):
        told = feed.identifier(attribute(value, "extension"), attribute(value, "root"), where(value, _BODY))
        if isinstance(told, str):
            yield told


def _names(parameters: Element) -> Iterator[Name]:
    for value in _values(parameters, "livingSubjectName"):
        name = Name(_text(first(value, "family")), _text(first(value, "given")))
        if name.family:
            yield name


def _text(element: Element | None) -> str:
    return "" if element is None else " ".join(value_of(element).split())


def _birth_date(parameters: Element) -> str:
    """The day; the hour, which some gateways send, is left out."""
    value = next(_values(parameters, "livingSubjectBirthTime"), None)
    text = attribute(value, "value")
    try:
        return DTM.parse(text[:8]).text if text else ""
    except ValueError as error:
        raise Refused(CONTENT.at(where(parameters if value is None else value, _BODY), expected="YYYY[MM[DD]]",
                                 received=text, path="livingSubjectBirthTime/value/@value")) from error


def _sex(parameters: Element) -> str:
    """M or F; other codes are not compared."""
    code = attribute(next(_values(parameters, "livingSubjectAdministrativeGender"), None), "code")
    return code if code in {"M", "F"} else ""


# --- writing -------------------------------------------------------------------------------------------------------


def write_answer(request: Element, matches: Sequence[Match], home: str, at: datetime,
                 warnings: Sequence[Finding] = ()) -> str:
    """The answer of a community, `home` as `urn:oid:…`: its matches (OK), or that there is none (NF)."""
    subjects = "".join(_write_match(match, home.removeprefix(OID)) for match in matches)
    return _write(request, "OK" if matches else "NF", subjects, warnings, at)


def write_failure(request: Element | None, findings: Sequence[Finding], at: datetime | None = None) -> str:
    """The answer to a query that was refused (AE), each finding a detail of the acknowledgement."""
    return _write(etree.Element(_V3 + QUERY) if request is None else request, "AE", "", findings, at)


def _write(request: Element, code: str, subjects: str, findings: Sequence[Finding], at: datetime | None) -> str:
    header = read_header(request)
    wrapper = write_wrapper(ANSWER, header.receiver, header.sender, header.processing, "NE", II(str(uuid4())), at)
    asked = _first_below(request, ("controlActProcess", "queryByParameter"))
    acknowledged = "AE" if code == "AE" or errors(findings) else "AA"
    return (f'<{ANSWER} xmlns="{V3}" xmlns:xsi="{_XSI}" ITSVersion="XML_1.0">{wrapper}'
            f'<acknowledgement><typeCode code="{acknowledged}"/><targetMessage>{write_ii(header.id)}</targetMessage>'
            f"{''.join(map(write_detail, findings))}</acknowledgement>"
            '<controlActProcess classCode="CACT" moodCode="EVN">'
            f'<code code="PRPA_TE201306UV02" codeSystem="{INTERACTIONS}"/>{subjects}{_write_ack(asked, code)}'
            f"{_repeated(asked)}</controlActProcess></{ANSWER}>")


def _write_ack(asked: Element | None, code: str) -> str:
    identity = II() if asked is None else identifier(first(asked, "queryId"))
    named = write_ii(identity).replace("<id ", "<queryId ", 1)
    status = "aborted" if code == "AE" else "deliveredResponse"
    return f'<queryAck>{named}<statusCode code="{status}"/><queryResponseCode code="{code}"/></queryAck>'


def _repeated(asked: Element | None) -> str:
    """The query as it came (§3.55.4.2.2.2)."""
    return "" if asked is None else etree.tostring(asked, encoding="unicode", with_tail=False)


def _first_below(element: Element, path: Sequence[str]) -> Element | None:
    found: Element | None = element
    for name in path:
        found = None if found is None else first(found, name)
    return found


def _write_match(match: Match, home: str) -> str:
    """One registrationEvent; its custodian is the community (§3.55.4.2.2.3)."""
    cx = CX.parse(match.cx)
    authority = II(cx.authority.universal_id)
    code, system = _NO_LOCATOR
    return ('<subject typeCode="SUBJ" contextConductionInd="false"><registrationEvent classCode="REG" moodCode="EVN">'
            '<id nullFlavor="NA"/><statusCode code="active"/><subject1 typeCode="SBJ"><patient classCode="PAT">'
            f'{write_ii(II(authority.root, cx.id))}<statusCode code="active"/>{_write_person(match)}'
            f'<providerOrganization classCode="ORG" determinerCode="INSTANCE">{write_ii(authority)}'
            '<contactParty classCode="CON"/></providerOrganization><subjectOf1><queryMatchObservation classCode="COND" '
            'moodCode="EVN"><code code="IHE_PDQ"/><value xsi:type="INT" value="100"/></queryMatchObservation>'
            '</subjectOf1></patient></subject1><custodian typeCode="CST"><assignedEntity classCode="ASSIGNED">'
            f'{write_ii(II(home))}<code code="{code}" codeSystem="{system}"/></assignedEntity></custodian>'
            "</registrationEvent></subject>")


def _write_person(match: Match) -> str:
    name = "".join(f"<{tag}>{clean(text)}</{tag}>"
                   for tag, text in (("given", match.name.given), ("family", match.name.family)) if text)
    gender = f'<administrativeGenderCode code="{_GENDERS[match.sex]}"/>' if match.sex in _GENDERS else ""
    birth = f'<birthTime value="{clean(match.birth_date)}"/>' if match.birth_date else ""
    return (f'<patientPerson classCode="PSN" determinerCode="INSTANCE"><name>{name}</name>{gender}{birth}'
            "</patientPerson>")


_GENDERS = {"M": "M", "F": "F", "U": "UN"}
