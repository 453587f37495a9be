"""Patient identity feed in HL7 v3: PRPA_IN201301, 201302, 201304UV02 -> values -> MCCI_IN000002UV01 (ITI TF-2 §3.44).

Messages are deep; only what a registry needs is looked at, and everything else may stand there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from uuid import uuid4

from xds import feed
from xds.feed import Feed, Merge, Told
from xds.findings import Catalogue, Finding, Refused, Severity, Where, errors
from xds.hl7 import CX, DTM
from xds.xml import Element, clean, local_name, value_of, where

RULES = Catalogue("xds")
MESSAGE = RULES["V-V3-MESSAGE"]
CONTENT = RULES["V-V3-CONTENT"]
INTERACTION = RULES["V-V3-INTERACTION"]

V3 = "urn:hl7-org:v3"
ADD, REVISE, MERGE = "PRPA_IN201301UV02", "PRPA_IN201302UV02", "PRPA_IN201304UV02"
ACKNOWLEDGEMENT = "MCCI_IN000002UV01"
CONDITIONS = "2.16.840.1.113883.12.357"  # HL7's own OID of table 0357, message error condition codes
INTERACTIONS = "2.16.840.1.113883.1.6"  # HL7's own OID of interaction and trigger identifiers

#: Accept acknowledgements of appendix O.1.2; some peers (IPF) send the application's AA and AE, which are read as well.
ACCEPTED, REFUSED = "CA", "CE"

_V3 = "{" + V3 + "}"
_BODY = "envelope"
_LONGEST = 256  # characters of an identifier that an answer repeats
_TO_EVENT = ("controlActProcess", "subject", "registrationEvent")
_TO_PRIOR = ("replacementOf", "priorRegistration", "subject1", "priorRegisteredRole")


@dataclass(frozen=True, slots=True)
class II:
    """An instance identifier: an OID or UUID, and what it was extended by."""

    root: str = ""
    extension: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """Transmission wrapper (appendix O.1.1): what an answer repeats of a message, "" where it does not say."""

    interaction: str = ""
    id: II = II()
    sender: II = II()
    receiver: II = II()
    processing: str = ""


@dataclass(frozen=True, slots=True)
class Detail:
    """One acknowledgementDetail: E, W or I, code, text, places."""

    type: str
    code: str
    text: str
    locations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An answer read: AA or AE (CA, CE of others), the id of the message answered, what was found."""

    type: str
    target: II
    details: tuple[Detail, ...] = ()


# --- reading -------------------------------------------------------------------------------------------------------


def read_header(body: Element) -> Header:
    """The wrapper of a message, however broken the rest is."""
    return Header(local_name(body)[:_LONGEST], identifier(first(body, "id")), _device(body, "sender"),
                  _device(body, "receiver"), attribute(first(body, "processingCode"), "code"))


def read_feed(body: Element) -> Feed:
    """What an add or revise message tells of its patient; Refused for another message or one without identifiers."""
    told = read_patient(only(only(_event(body, ADD, REVISE), "subject1"), "patient"))
    return replace(told, warnings=(*told.warnings, *_interaction(body)))


def read_patient(patient: Element) -> Feed:
    """Identifiers and traits of a Patient; Refused without an identifier that can be used."""
    person = only(patient, "patientPerson")
    family, given = _name(person)
    return feed.make(
        _identifiers(patient.iterchildren(_V3 + "id"), "patient/id"), family, given,
        _told(first(person, "birthTime"), "value"), _told(first(person, "administrativeGenderCode"), "code"),
        _identifiers((identity for other in person.iterchildren(_V3 + "asOtherIDs")
                      for identity in other.iterchildren(_V3 + "id")), "asOtherIDs/id"), where(patient, _BODY))


def read_merge(body: Element) -> Merge:
    """The identifiers of a merge: Patient.id survives, PriorRegisteredRole.id is subsumed (ITI TF-2 §3.44.4.2.4)."""
    event = _event(body, MERGE)
    patient, prior = only(only(event, "subject1"), "patient"), _at(event, _TO_PRIOR)
    told = feed.make_merge(_identifiers(patient.iterchildren(_V3 + "id"), "patient/id"),
                           _identifiers(prior.iterchildren(_V3 + "id"), "priorRegisteredRole/id"),
                           (where(patient, _BODY), where(prior, _BODY)))
    return replace(told, warnings=(*told.warnings, *_interaction(body)))


def _event(body: Element, *names: str) -> Element:
    """The registrationEvent of a message of one of those names."""
    if body.tag not in {_V3 + name for name in names}:
        raise Refused(MESSAGE.at(where(body, _BODY), expected=f"{' | '.join(names)} ({V3})", received=body.tag))
    if not read_header(body).id.root:
        raise Refused(CONTENT.at(where(body, _BODY), expected="id/@root", received="0", path="id"))
    return _at(body, _TO_EVENT)


def _at(element: Element, path: Sequence[str]) -> Element:
    """Step by step, so that what is missing has a name."""
    for name in path:
        element = only(element, name)
    return element


def only(parent: Element, name: str) -> Element:
    """The one child of that name; Refused when there are none or several."""
    found = list(parent.iterchildren(_V3 + name))
    if len(found) != 1:
        raise Refused(CONTENT.at(where(parent, _BODY), expected=f"{name} (1)", received=len(found), path=name))
    return found[0]


def _interaction(body: Element) -> list[Finding]:
    """Whether interactionId repeats the name of the message (table 3.44.4.1.2-2)."""
    element = first(body, "interactionId")
    said = attribute(element, "extension")
    if said == local_name(body):
        return []
    return [INTERACTION.at(where(body if element is None else element, _BODY), expected=local_name(body),
                           received=said)]


def _identifiers(elements: Iterable[Element], path: str) -> list[str | Finding]:
    """CX texts of identifiers; one that says by nullFlavor that it is none is passed over."""
    found = list(islice((item for item in elements if item.get("nullFlavor") is None), feed.MOST_IDS + 1))
    if len(found) > feed.MOST_IDS:
        raise Refused(CONTENT.at(Where(_BODY, path=path), expected=f"≤ {feed.MOST_IDS}", received=f"> {feed.MOST_IDS}",
                                 path=path))
    return [feed.identifier(item.get("extension", "").strip(), item.get("root", "").strip(),
                            Where(_BODY, item.sourceline or 0, path=path)) for item in found]


def _name(person: Element) -> tuple[Told, Told]:
    """Family and given of the legal name, else of the first one."""
    names = [item for item in person.iterchildren(_V3 + "name") if item.get("nullFlavor") is None]
    chosen = next((item for item in names if "L" in item.get("use", "").split()), names[0] if names else None)
    if chosen is None:
        return Told(), Told()
    return _told(family_of(chosen)), _told(first(chosen, "given"))


def family_of(name: Element) -> Element | None:
    """The family name of birth (qualifier BR), else the first."""
    births = (item for item in name.iterchildren(_V3 + "family") if "BR" in item.get("qualifier", "").split())
    return next(births, first(name, "family"))


def _told(element: Element | None, name: str = "") -> Told:
    if element is None or element.get("nullFlavor") is not None:
        return Told()
    return Told(element.get(name, "") if name else value_of(element), where(element, _BODY))


def _device(body: Element, role: str) -> II:
    function = first(body, role)
    device = first(function, "device") if function is not None else None
    return identifier(first(device, "id")) if device is not None else II()


def identifier(element: Element | None) -> II:
    """An instance identifier as far as it is told."""
    return II(attribute(element, "root"), attribute(element, "extension"))


def attribute(element: Element | None, name: str) -> str:
    """An attribute, "" where it or its element is absent; cut to what an answer repeats."""
    return "" if element is None else element.get(name, "").strip()[:_LONGEST]


def first(parent: Element, name: str) -> Element | None:
    """The first child of that name."""
    return next(parent.iterchildren(_V3 + name), None)


def read_acknowledgement(body: Element) -> Acknowledgement:
    """An answer, ours or another server's; Refused when it is none."""
    if body.tag != _V3 + ACKNOWLEDGEMENT:
        raise Refused(MESSAGE.at(where(body, _BODY), expected=f"{ACKNOWLEDGEMENT} ({V3})", received=body.tag))
    return acknowledgement_of(body)


def acknowledgement_of(body: Element) -> Acknowledgement:
    """The acknowledgement in an answer of any name."""
    element = only(body, "acknowledgement")
    target = first(element, "targetMessage")
    return Acknowledgement(
        attribute(first(element, "typeCode"), "code") or attribute(element, "typeCode"),
        identifier(first(target, "id")) if target is not None else II(),
        tuple(map(_detail, element.iterchildren(_V3 + "acknowledgementDetail"))))


def _detail(element: Element) -> Detail:
    text = first(element, "text")
    return Detail(attribute(element, "typeCode"), attribute(first(element, "code"), "code"),
                  "" if text is None else value_of(text),
                  tuple(value_of(item) for item in element.iterchildren(_V3 + "location")))


# --- writing -------------------------------------------------------------------------------------------------------

_TYPES = {Severity.ERROR: "E", Severity.WARNING: "W", Severity.INFO: "I"}


def write_acknowledgement(header: Header, findings: Sequence[Finding], at: datetime | None = None) -> str:
    """The answer to a message: AA, or AE with an error among the findings; each finding a detail (appendix O.1.2).

    `at` is when it was answered (with its zone), None where nobody knows. What the message did not say of itself is
    said to be unknown (nullFlavor).
    """
    code = REFUSED if errors(findings) else ACCEPTED
    wrapper = write_wrapper(ACKNOWLEDGEMENT, header.receiver, header.sender, header.processing, "NE",
                            II(str(uuid4())), at)
    return (f'<{ACKNOWLEDGEMENT} xmlns="{V3}" ITSVersion="XML_1.0">{wrapper}'
            f'<acknowledgement><typeCode code="{code}"/><targetMessage>{write_ii(header.id)}</targetMessage>'
            f"{''.join(map(write_detail, findings))}</acknowledgement></{ACKNOWLEDGEMENT}>")


def write_feed(told: Feed, header: Header, at: datetime) -> str:
    """An add or revise message (`header.interaction`), as a source sends it (ITI TF-2 §3.44.4.1.2)."""
    return _write_message(header, at, write_event(write_patient(told), header.sender))


def write_merge(survivor: Feed, subsumed: str, header: Header, at: datetime) -> str:
    """A duplicates-resolved message, as a source sends it (ITI TF-2 §3.44.4.2.2)."""
    prior = ('<replacementOf typeCode="RPLC"><priorRegistration classCode="REG" moodCode="EVN">'
             '<statusCode code="obsolete"/><subject1 typeCode="SBJ"><priorRegisteredRole classCode="PAT">'
             f"{write_ii(of_cx(subsumed))}</priorRegisteredRole></subject1></priorRegistration></replacementOf>")
    return _write_message(replace(header, interaction=MERGE), at,
                          write_event(write_patient(survivor), header.sender, prior))


def _write_message(header: Header, at: datetime, event: str) -> str:
    name = header.interaction
    wrapper = write_wrapper(name, header.sender, header.receiver, header.processing, "AL", header.id, at)
    return (f'<{name} xmlns="{V3}" ITSVersion="XML_1.0">{wrapper}<controlActProcess classCode="CACT" moodCode="EVN">'
            f"{write_trigger(name)}{event}</controlActProcess></{name}>")


def write_trigger(interaction: str) -> str:
    """The trigger event code of an interaction (PRPA_IN201301UV02: PRPA_TE201301UV02)."""
    return f'<code code="{interaction.replace("_IN", "_TE")}" codeSystem="{INTERACTIONS}"/>'


def write_event(patient: str, custodian: II, prior: str = "") -> str:
    """A registration event of one patient, kept by the custodian; `prior`: what it takes the place of."""
    return ('<subject typeCode="SUBJ"><registrationEvent classCode="REG" moodCode="EVN"><id nullFlavor="NA"/>'
            f'<statusCode code="active"/><subject1 typeCode="SBJ">{patient}</subject1>'
            f'<custodian typeCode="CST"><assignedEntity classCode="ASSIGNED">{write_ii(custodian)}</assignedEntity>'
            f"</custodian>{prior}</registrationEvent></subject>")


def write_wrapper(interaction: str, sender: II, receiver: II, processing: str, accept: str, identity: II,
                  at: datetime | None) -> str:
    """Transmission wrapper of a message (appendix O.1.1, O.1.2); receiver before sender, as the schemas have it."""
    time = f'value="{DTM.of(at)}"' if at else 'nullFlavor="NI"'
    return (f'{write_ii(identity)}<creationTime {time}/><interactionId root="{INTERACTIONS}" '
            f'extension="{clean(interaction)}"/><processingCode code="{clean(processing or "P")}"/>'
            f'<processingModeCode code="T"/><acceptAckCode code="{accept}"/>'
            f"{_write_device('receiver', 'RCV', receiver)}{_write_device('sender', 'SND', sender)}")


def _write_device(role: str, code: str, identity: II) -> str:
    return (f'<{role} typeCode="{code}"><device classCode="DEV" determinerCode="INSTANCE">{write_ii(identity)}'
            f"</device></{role}>")


def write_ii(identity: II, tag: str = "id") -> str:
    """An instance identifier as an element."""
    if not identity.root:
        return f'<{tag} nullFlavor="NI"/>'
    extension = f' extension="{clean(identity.extension)}"' if identity.extension else ""
    return f'<{tag} root="{clean(identity.root)}"{extension}/>'


def write_detail(finding: Finding) -> str:
    """One finding as an acknowledgementDetail; its code is that of HL7 where there is one (table 0357), else ours."""
    shown = finding.as_dict()
    text = f"{shown['fr']} {shown['hint']} — {shown['en']} {shown['hint_en']} [{shown['code']}, {shown['clause']}]"
    location = f"<location>{clean(finding.where.path)}</location>" if finding.where.path else ""
    code = (f'<code code="{finding.rule.hl7}" codeSystem="{CONDITIONS}"/>' if finding.rule.hl7 else
            f'<code code="{clean(finding.code)}" codeSystemName="Volet"/>')
    return (f'<acknowledgementDetail typeCode="{_TYPES[finding.severity]}">{code}'
            f"<text>{clean(' '.join(text.split()))}</text>{location}</acknowledgementDetail>")


def write_patient(told: Feed, more: str = "", missing: Iterable[str] = ()) -> str:
    """A Patient with its identifiers, traits and provider organization.

    `more`: what else is said of the patient; `missing`: OIDs of domains that have no identifier for them.
    """
    identifiers = "".join(write_ii(of_cx(item)) for item in told.identifiers)
    provider = of_cx(told.identifiers[0]).root
    parts = "".join(f"<{tag}>{clean(text)}</{tag}>" for tag, text in (("given", told.given), ("family", told.family))
                    if text)
    name = f'<name use="L">{parts}</name>' if parts else '<name nullFlavor="NA"/>'
    gender = f'<administrativeGenderCode code="{_GENDERS[told.sex]}"/>' if told.sex else ""
    birth = f'<birthTime value="{clean(told.birth_date)}"/>' if told.birth_date else ""
    others = "".join((*map(_write_other, map(of_cx, told.others)), *(_write_other(II(root)) for root in missing)))
    return (f'<patient classCode="PAT">{identifiers}<statusCode code="active"/>'
            f'<patientPerson classCode="PSN" determinerCode="INSTANCE">{name}{gender}{birth}{others}</patientPerson>'
            f'<providerOrganization classCode="ORG" determinerCode="INSTANCE"><id root="{clean(provider)}"/>'
            f'<contactParty classCode="CON"/></providerOrganization>{more}</patient>')


_GENDERS = {"M": "M", "F": "F", "U": "UN"}


def _write_other(identity: II) -> str:
    told = write_ii(identity) if identity.extension else '<id nullFlavor="NA"/>'
    return (f'<asOtherIDs classCode="PAT">{told}<scopingOrganization classCode="ORG" '
            f'determinerCode="INSTANCE"><id root="{clean(identity.root)}"/></scopingOrganization></asOtherIDs>')


def of_cx(cx: str) -> II:
    """The instance identifier of a CX."""
    parsed = CX.parse(cx)
    return II(parsed.authority.universal_id, parsed.id)
