"""The header of a CDA R2 document as a value (HL7 CDA R2 §4.2; CI-SIS structuration minimale des documents de santé).

Reading is tolerant: what is missing stays empty, what is there is kept as written. Judging it is the validator's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from lxml import etree

from xds.findings import Catalogue, Refused
from xds.xml import Element, parse, where

RULES = Catalogue("cda")
NOT_CDA = RULES["V-CDA-NOT-A-DOCUMENT"]
SEVERAL = RULES["V-CDA-SEVERAL-DOCUMENTS"]

HL7 = "urn:hl7-org:v3"
_NS = "{" + HL7 + "}"
_STYLESHEETS = frozenset("{http://www.w3.org/1999/XSL/Transform}" + name for name in ("stylesheet", "transform"))
_ACCESSION = "{urn:dicom-org:ps3-20}accessionNumber"

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Identifier:
    """An instance identifier (II): root OID or UUID, and extension."""

    root: str = ""
    extension: str = ""

    def __str__(self) -> str:
        return f"{self.root}^{self.extension}" if self.extension else self.root


@dataclass(frozen=True, slots=True)
class Coded:
    """A coded value (CD, CE) with its translations, which have none of their own."""

    code: str
    system: str = ""
    display: str = ""
    translations: tuple[Coded, ...] = ()


@dataclass(frozen=True, slots=True)
class Name:
    """A person's name. Parts are (text, qualifier): BR birth, CL usual, "" unqualified."""

    families: tuple[tuple[str, str], ...] = ()
    givens: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    suffix: str = ""

    def family(self, *qualifiers: str) -> str:
        """First family name of the first qualifier that has one, else the first of all."""
        return _pick(self.families, qualifiers)

    def given(self, *qualifiers: str) -> str:
        """First given name of the first qualifier that has one, else the first of all."""
        return _pick(self.givens, qualifiers)


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address; `lines` are street lines and structured parts of the street in document order."""

    use: str = ""
    lines: tuple[str, ...] = ()
    postal_code: str = ""
    city: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True)
class Telecom:
    """A telecommunication address as a URI."""

    value: str
    use: str = ""


@dataclass(frozen=True, slots=True)
class Organization:
    """A structure; `setting` is its standardIndustryClassCode."""

    ids: tuple[Identifier, ...] = ()
    name: str = ""
    setting: Coded | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """An authoring device."""

    model: str = ""
    software: str = ""


@dataclass(frozen=True, slots=True)
class Entity:
    """assignedAuthor, assignedEntity or associatedEntity: who, as what, for which structure."""

    ids: tuple[Identifier, ...] = ()
    code: Coded | None = None
    name: Name | None = None
    device: Device | None = None
    organization: Organization | None = None
    telecoms: tuple[Telecom, ...] = ()


@dataclass(frozen=True, slots=True)
class Participation:
    """author, legalAuthenticator or participant. `time` is a TS as written."""

    type_code: str = ""
    function: Coded | None = None
    time: str = ""
    entity: Entity = Entity()


@dataclass(frozen=True, slots=True)
class Patient:
    """recordTarget/patientRole with its patient. `birthplace` is the COG code of the place of birth."""

    ids: tuple[Identifier, ...] = ()
    name: Name | None = None
    gender: str = ""
    birth_time: str = ""
    birthplace: str = ""
    addresses: tuple[Address, ...] = ()
    telecoms: tuple[Telecom, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """documentationOf/serviceEvent: the documented act. Times are TS as written."""

    ids: tuple[Identifier, ...] = ()
    code: Coded | None = None
    low: str = ""
    high: str = ""
    performer: Entity | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """inFulfillmentOf/order with the accession numbers of PS3.20."""

    ids: tuple[Identifier, ...] = ()
    accessions: tuple[Identifier, ...] = ()


@dataclass(frozen=True, slots=True)
class Related:
    """relatedDocument: RPLC replaces, APND completes, XFRM transforms."""

    type_code: str = ""
    ids: tuple[Identifier, ...] = ()


@dataclass(frozen=True, slots=True)
class Encounter:
    """componentOf/encompassingEncounter."""

    ids: tuple[Identifier, ...] = ()
    code: Coded | None = None
    facility: Coded | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """Everything of the header that metadata, rights and search need.

    `templates` are `root` or `root^extension` in document order. `media_type` is the one of a level-1 body, "" when
    the body is structured. `self_displaying` documents came inside an XSLT stylesheet.
    """

    ids: tuple[Identifier, ...] = ()
    templates: tuple[str, ...] = ()
    code: Coded | None = None
    title: str = ""
    effective_time: str = ""
    confidentiality: Coded | None = None
    language: str = ""
    set_id: Identifier | None = None
    version: str = ""
    patient: Patient = Patient()
    authors: tuple[Participation, ...] = ()
    custodian: Organization | None = None
    legal_authenticator: Participation | None = None
    participants: tuple[Participation, ...] = ()
    orders: tuple[Order, ...] = ()
    services: tuple[Service, ...] = ()
    related: tuple[Related, ...] = ()
    encounter: Encounter = Encounter()
    media_type: str = ""
    self_displaying: bool = False

    @property
    def id(self) -> Identifier:
        """The document's identifier, empty when there is none."""
        return self.ids[0] if self.ids else Identifier()

    @property
    def main_service(self) -> Service:
        """The main act: the first documentationOf (CI-SIS), empty when there is none."""
        return self.services[0] if self.services else Service()

    @property
    def replaces(self) -> Identifier | None:
        """Identifier of the document that this one replaces."""
        return next((thing.ids[0] for thing in self.related if thing.type_code == "RPLC" and thing.ids), None)


def read_header(data: bytes, part: str = "") -> Header:
    """Header of the document in these bytes; `Refused` when they hold no ClinicalDocument."""
    return header_of(clinical_document(data, part))


def clinical_document(data: bytes, part: str = "") -> Element:
    """The ClinicalDocument element of the bytes; `Refused` when there is none, or more than one.

    Self-displaying documents (CI-SIS documents auto-présentables) are stylesheets that hold the document: it is taken
    out, nothing of the stylesheet is ever run.
    """
    root = parse(data, part)
    if root.tag == _NS + "ClinicalDocument":
        return root
    held = list(root.iter(_NS + "ClinicalDocument")) if root.tag in _STYLESHEETS else []
    if len(held) == 1:
        return held[0]
    rule, received = (SEVERAL, str(len(held))) if held else (NOT_CDA, root.tag)
    raise Refused(rule.at(where(root, part), expected=f"{{{HL7}}}ClinicalDocument", received=received))


def header_of(document: Element) -> Header:
    """Header of a ClinicalDocument element."""
    body = _find(document, "component/nonXMLBody/text")
    return Header(
        ids=_identifiers(document, "id"),
        templates=tuple(str(_identifier(child)) for child in _all(document, "templateId")),
        code=_coded(_find(document, "code")),
        title=_text(_find(document, "title")),
        effective_time=_value(document, "effectiveTime"),
        confidentiality=_coded(_find(document, "confidentialityCode")),
        language=_attribute(_find(document, "languageCode"), "code"),
        set_id=next(iter(_identifiers(document, "setId")), None),
        version=_value(document, "versionNumber"),
        patient=_patient(_find(document, "recordTarget/patientRole")),
        authors=_each(document, "author", _participation),
        custodian=_organization(_find(document, "custodian/assignedCustodian/representedCustodianOrganization")),
        legal_authenticator=next(iter(_each(document, "legalAuthenticator", _participation)), None),
        participants=_each(document, "participant", _participation),
        orders=_each(document, "inFulfillmentOf/order", _order),
        services=_each(document, "documentationOf/serviceEvent", _service),
        related=_each(document, "relatedDocument", _related),
        encounter=_encounter(_find(document, "componentOf/encompassingEncounter")),
        # HL7 V3 data types R1 §2.4.1: an ED without mediaType is text/plain
        media_type="" if body is None else body.get("mediaType", "text/plain").strip().lower(),
        self_displaying=document.getparent() is not None)


# --- parts ---------------------------------------------------------------------------------------------------------


def _identifier(element: Element) -> Identifier:
    return Identifier(_attribute(element, "root"), _attribute(element, "extension"))


def _identifiers(element: Element, path: str) -> tuple[Identifier, ...]:
    """Identifiers at the path; one with a nullFlavor says nothing and is left out."""
    return tuple(found for found in _each(element, path, _identifier) if found != Identifier())


def _coded(element: Element | None) -> Coded | None:
    if element is None or not _attribute(element, "code"):
        return None
    translations = (_plain(child) for child in _all(element, "translation"))
    return replace(_plain(element), translations=tuple(code for code in translations if code.code))


def _plain(element: Element) -> Coded:
    return Coded(_attribute(element, "code"), _attribute(element, "codeSystem"), _attribute(element, "displayName"))


def _patient(role: Element | None) -> Patient:
    if role is None:
        return Patient()
    return Patient(
        ids=_identifiers(role, "id"),
        name=_name(_find(role, "patient/name")),
        gender=_attribute(_find(role, "patient/administrativeGenderCode"), "code"),
        birth_time=_value(role, "patient/birthTime"),
        birthplace=_text(_find(role, "patient/birthplace/place/addr/county")),
        addresses=_each(role, "addr", _address),
        telecoms=_telecoms(role))


def _name(element: Element | None) -> Name | None:
    if element is None or len(element) == 0:
        return None
    return Name(_parts(element, "family"), _parts(element, "given"),
                _text(_find(element, "prefix")), _text(_find(element, "suffix")))


def _parts(name: Element, kind: str) -> tuple[tuple[str, str], ...]:
    parts = ((_text(child), _attribute(child, "qualifier")) for child in _all(name, kind))
    return tuple(part for part in parts if part[0])


def _address(element: Element) -> Address:
    elsewhere = {_NS + name for name in ("postalCode", "city", "country", "county", "state")}
    lines = (_text(child) for child in element.iterchildren(etree.Element) if child.tag not in elsewhere)
    return Address(_attribute(element, "use"), tuple(line for line in lines if line),
                   *(_text(_find(element, name)) for name in ("postalCode", "city", "country")))


def _telecoms(element: Element) -> tuple[Telecom, ...]:
    found = _each(element, "telecom", lambda child: Telecom(_attribute(child, "value"), _attribute(child, "use")))
    return tuple(telecom for telecom in found if telecom.value)


def _participation(element: Element) -> Participation:
    time = _value(element, "time") or _value(element, "time/low")
    entity = next((child for child in map(element.find, _ENTITIES) if child is not None), None)
    return Participation(_attribute(element, "typeCode"), _coded(_find(element, "functionCode")), time,
                         _entity(entity) or Entity())


def _entity(element: Element | None) -> Entity | None:
    if element is None:
        return None
    device = _find(element, "assignedAuthoringDevice")
    return Entity(
        ids=_identifiers(element, "id"),
        code=_coded(_find(element, "code")),
        name=_name(_first(element, "assignedPerson/name", "associatedPerson/name")),
        device=None if device is None else Device(_text(_find(device, "manufacturerModelName")),
                                                  _text(_find(device, "softwareName"))),
        organization=_organization(_first(element, "representedOrganization", "scopingOrganization")),
        telecoms=_telecoms(element))


def _organization(element: Element | None) -> Organization | None:
    if element is None:
        return None
    return Organization(_identifiers(element, "id"), _text(_find(element, "name")),
                        _coded(_find(element, "standardIndustryClassCode")))


def _order(element: Element) -> Order:
    accessions = tuple(map(_identifier, element.findall(_ACCESSION)))
    return Order(_identifiers(element, "id"), tuple(number for number in accessions if number.extension))


def _service(element: Element) -> Service:
    return Service(
        ids=_identifiers(element, "id"),
        code=_coded(_find(element, "code")),
        low=_value(element, "effectiveTime/low") or _value(element, "effectiveTime"),
        high=_value(element, "effectiveTime/high"),
        performer=_entity(_find(element, "performer/assignedEntity")))


def _related(element: Element) -> Related:
    return Related(_attribute(element, "typeCode"), _identifiers(element, "parentDocument/id"))


def _encounter(element: Element | None) -> Encounter:
    if element is None:
        return Encounter()
    return Encounter(_identifiers(element, "id"), _coded(_find(element, "code")),
                     _coded(_find(element, "location/healthCareFacility/code")))


# --- walking -------------------------------------------------------------------------------------------------------

_ENTITIES = tuple(_NS + name for name in ("assignedAuthor", "assignedEntity", "associatedEntity"))


@cache
def _path(path: str) -> str:
    return "/".join(_NS + step for step in path.split("/"))


def _find(element: Element, path: str) -> Element | None:
    return element.find(_path(path))


def _first(element: Element, *paths: str) -> Element | None:
    return next((found for found in (_find(element, path) for path in paths) if found is not None), None)


def _all(element: Element, path: str) -> list[Element]:
    return element.findall(_path(path))


def _each(element: Element, path: str, read: Callable[[Element], _Value]) -> tuple[_Value, ...]:
    return tuple(map(read, _all(element, path)))


def _attribute(element: Element | None, name: str) -> str:
    return "" if element is None else element.get(name, "").strip()


def _value(element: Element, path: str) -> str:
    return _attribute(_find(element, path), "value")


def _text(element: Element | None) -> str:
    """Text of an element and what is in it, white space made single."""
    return "" if element is None else " ".join("".join(element.itertext()).split())


def _pick(parts: tuple[tuple[str, str], ...], qualifiers: tuple[str, ...]) -> str:
    for wanted in qualifiers:
        found = next((text for text, qualifier in parts if wanted in qualifier.split()), "")
        if found:
            return found
    return parts[0][0] if parts else ""
