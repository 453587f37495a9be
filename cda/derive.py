"""The CDA header as XDS metadata (CI-SIS Partage de documents de santé, mapping of the CDA header to a DocumentEntry).

`derive` never fails on a document that can be read: what the header does not tell stays empty, and
`derive_findings` says so with the element that should have told it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from uuid import UUID

from cda.header import (
    HL7,
    RULES,
    Coded,
    Entity,
    Header,
    Identifier,
    Organization,
    Participation,
    Patient,
    clinical_document,
    header_of,
    read_header,
)
from cda.tables import document_types, formats
from cda.times import date_of, lacks_zone, to_utc
from xds.findings import Finding, Where
from xds.hl7 import CX, FN, HD, XCN, XON, XPN, encode
from xds.model import Author, Code, DocumentEntry
from xds.rim import localized
from xds.xml import Element, path_of

NOT_DERIVED = RULES["V-CDA-NOT-DERIVED"]
NO_INS = RULES["V-CDA-NO-INS"]
TYPE_UNKNOWN = RULES["V-CDA-TYPE-UNKNOWN"]
FORMAT_UNKNOWN = RULES["V-CDA-FORMAT-UNKNOWN"]
BAD_TIME = RULES["V-CDA-TIME"]
NO_ZONE = RULES["V-CDA-TIME-ZONE"]
ID_UUID = RULES["V-CDA-ID-UUID"]

#: Roots of the INS: NIR, NIA, test NIR, demonstration NIR (référentiel INS; CI-SIS)
INS_ROOTS = tuple(f"1.2.250.1.213.1.4.{arc}" for arc in (8, 9, 10, 11))
PROFESSIONALS = "1.2.250.1.71.4.2.1"
STRUCTURES = "1.2.250.1.71.4.2.2"

_NATIONAL_PATIENTS = "1.2.250.1.213.1.4."  # the INS and its historic forms: none is a local identifier
_IMAGING_TEMPLATES = "1.2.840.10008.9."  # PS3.20: serviceEvent/id is the Study Instance UID
_REFERENCE = "urn:ihe:iti:xds:2013:"
_STUDY = "urn:ihe:iti:xds:2016:studyInstanceUID"
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def derive(data: bytes, header: Header | None = None, entry_id: str = "document01") -> DocumentEntry:
    """The DocumentEntry that these bytes call for; `Refused` when they are no CDA document.

    `entry_id` is the symbolic id of the entry in its submission. Status, lid and repository are for others to set.
    """
    header = read_header(data) if header is None else header
    kind = document_types().get(header.code.code) if header.code else None
    service, main = header.main_service, header.main_service.performer or Entity()
    return DocumentEntry(
        id=entry_id,
        unique_id=unique_id(header.id),
        patient_id=patient_id(header.patient),
        # a self-displaying document is a stylesheet (CI-SIS)
        mime_type="application/xslt+xml" if header.self_displaying else "text/xml",
        title=localized(header.title),
        authors=tuple(_author(author) for author in header.authors),
        class_code=kind.class_code if kind else None,
        type_code=_code(header.code),
        format_code=formats().of(header.templates, header.media_type),
        facility_type=_code(header.encounter.facility),
        practice_setting=_code(main.organization.setting) if main.organization else None,
        confidentiality=_codes([header.confidentiality]),
        event_codes=_codes(_acts(header)),
        creation_time=to_utc(header.effective_time),
        service_start=to_utc(service.low),
        service_stop=to_utc(service.high),
        language=header.language,
        legal_authenticator=_person(header.legal_authenticator.entity) if header.legal_authenticator else "",
        hash=hashlib.sha1(data, usedforsecurity=False).hexdigest(),  # ITI TF-3 §4.2.3.2.10
        size=str(len(data)),
        source_patient_id=source_patient_id(header.patient),
        source_patient_info=tuple(_patient_info(header.patient)),
        reference_ids=tuple(dict.fromkeys(_references(header))),
    )


def unique_id(identifier: Identifier) -> str:
    """The uniqueId of a document identifier: OID or OID^extension; a UUID in its OID form 2.25… (ITU-T X.667 §6.3)."""
    root = f"2.25.{UUID(identifier.root).int}" if _UUID.fullmatch(identifier.root) else identifier.root
    return str(Identifier(root, identifier.extension))


def ins_of(patient: Patient) -> Identifier | None:
    """The patient's INS: the first identifier under a root of the INS that has a value."""
    return next((item for item in patient.ids if item.root in INS_ROOTS and item.extension), None)


def patient_id(patient: Patient) -> str:
    """The patientId as the DMP wants it, `INS^^^&root&ISO^NH`; "" without an INS."""
    ins = ins_of(patient)
    return _cx(ins, "NH") if ins else ""


def source_patient_id(patient: Patient) -> str:
    """The local identifier (`^PI`) when there is one, else the INS (`^NH`)."""
    local = (item for item in patient.ids if item.extension and not item.root.startswith(_NATIONAL_PATIENTS))
    found = next(local, None)
    return _cx(found, "PI") if found else patient_id(patient)


def _patient_info(patient: Patient) -> Iterator[str]:
    """PID-5 (birth name), PID-7, PID-8 (ITI TF-3 §4.2.3.2.23; values as in the DMP)."""
    name = patient.name
    if name and (name.families or name.givens):
        yield f"PID-5|{XPN(FN(name.family('BR')), name.given('BR'), name_type='L')}"
    born = date_of(patient.birth_time)
    if born:
        yield f"PID-7|{born}"
    if patient.gender:
        yield f"PID-8|{patient.gender if patient.gender in ('M', 'F') else 'U'}"


# --- who -----------------------------------------------------------------------------------------------------------


def _author(author: Participation) -> Author:
    entity, role = author.entity, author.function
    return Author(
        persons=_some(_person(entity)),
        institutions=_some(_institution(entity.organization)),
        roles=_some(encode(role.display or role.code)) if role else (),
        specialties=_some(_specialty(entity.code)) if entity.code else ())


def _specialty(code: Coded) -> str:
    return "^".join(map(encode, (code.code, code.display, code.system)))


def _person(entity: Entity) -> str:
    """XCN of a professional, a patient or a device (CI-SIS: types D, L, U; identifiers IDNPS, NH, EI, RI)."""
    identifier, name, device = _preferred(entity.ids, PROFESSIONALS), entity.name, entity.device
    if device and not name:
        return _xcn(identifier, device.software, device.model, "U", "RI")
    family, given = (name.family(), name.given()) if name else ("", "")
    if identifier is None and not (family or given):
        return ""
    kind = "L" if identifier and identifier.root in INS_ROOTS else "D"
    return _xcn(identifier, family, given, kind, _person_id_type(identifier))


def _person_id_type(identifier: Identifier | None) -> str:
    if identifier is None:
        return ""
    return "IDNPS" if identifier.root == PROFESSIONALS else "NH" if identifier.root in INS_ROOTS else "EI"


def _institution(organization: Organization | None) -> str:
    """XON of a structure; without identifier the name alone (ITI TF-3 §4.2.3.1.7)."""
    if organization is None or not organization.name:
        return ""
    identifier = _preferred(organization.ids, STRUCTURES)
    if identifier is None or not identifier.extension:
        return str(XON(organization.name))
    kind = "IDNST" if identifier.root == STRUCTURES else "XX"
    return str(XON(organization.name, authority=_authority(identifier), type_code=kind, id=identifier.extension))


def _preferred(identifiers: Iterable[Identifier], root: str) -> Identifier | None:
    ranked = sorted(identifiers, key=lambda item: (item.root != root, not item.extension))
    return ranked[0] if ranked else None


# --- what ----------------------------------------------------------------------------------------------------------


def _acts(header: Header) -> Iterator[Coded | None]:
    """The documented acts, each with its translations (imaging: CCAM, modality, region)."""
    for service in header.services:
        if service.code:
            yield service.code
            yield from service.code.translations


def _references(header: Header) -> Iterator[str]:
    """CXi of orders, accession numbers and imaging studies: the types of the DMP's JDV_J231."""
    for order in header.orders:
        yield from (_cx(identifier, _REFERENCE + "order") for identifier in order.ids)
        yield from (_cx(identifier, _REFERENCE + "accession") for identifier in order.accessions)
    if any(name.startswith(_IMAGING_TEMPLATES) for name in header.templates):
        studies = (identifier for service in header.services for identifier in service.ids)
        yield from (_cx(identifier, _STUDY) for identifier in studies if not identifier.extension)


def _code(coded: Coded | None) -> Code | None:
    return Code(coded.code, coded.system, localized(coded.display)) if coded else None


def _codes(coded: Iterable[Coded | None]) -> tuple[Code, ...]:
    return tuple(dict.fromkeys(code for code in map(_code, coded) if code))


def _authority(identifier: Identifier) -> HD:
    return HD("", identifier.root, "UUID" if _UUID.fullmatch(identifier.root) else "ISO")


def _cx(identifier: Identifier, kind: str) -> str:
    if not identifier.extension:  # the root is then the whole identifier, unique by itself
        return str(CX(identifier.root, type_code=kind))
    return str(CX(identifier.extension, authority=_authority(identifier), type_code=kind))


def _xcn(identifier: Identifier | None, family: str, given: str, name_type: str, id_type: str) -> str:
    identifier = identifier or Identifier()
    authority = _authority(identifier) if identifier.extension else HD()
    return str(XCN(identifier.extension or identifier.root, FN(family), given, authority=authority,
                   name_type=name_type, type_code=id_type))


def _some(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


# --- what is missing -----------------------------------------------------------------------------------------------

#: Attribute required by the DMP -> element of the header that tells it (CI-SIS; DMP cardinalities of a DocumentEntry)
SOURCES = (
    ("uniqueId", "unique_id", "id"),
    ("typeCode", "type_code", "code"),
    ("title", "title", "title"),
    ("creationTime", "creation_time", "effectiveTime"),
    ("confidentialityCode", "confidentiality", "confidentialityCode"),
    ("languageCode", "language", "languageCode"),
    ("sourcePatientId", "source_patient_id", "recordTarget/patientRole/id"),
    ("author", "authors", "author"),
    ("legalAuthenticator", "legal_authenticator", "legalAuthenticator/assignedEntity"),
    ("serviceStartTime", "service_start", "documentationOf/serviceEvent/effectiveTime/low"),
    ("practiceSettingCode", "practice_setting", "documentationOf/serviceEvent/performer/assignedEntity"
                                                "/representedOrganization/standardIndustryClassCode"),
    ("healthcareFacilityTypeCode", "facility_type",
     "componentOf/encompassingEncounter/location/healthCareFacility/code"),
)


def derive_findings(data: bytes, header: Header | None = None, part: str = "") -> list[Finding]:
    """Everything that `derive` could not derive, or only with a guess, at the element that should have told it.

    `Refused` when the bytes are no CDA document.
    """
    document = clinical_document(data, part)
    header = header_of(document) if header is None else header
    entry = derive(data, header)
    at = _Places(document, part)
    times = list(_time_findings(header, at))
    untold = {finding.values["attribute"] for finding in times if finding.rule is BAD_TIME}
    return [*times, *(missing for missing in _missing(entry, at) if missing.values["attribute"] not in untold),
            *_patient_findings(header, at, untold), *_author_findings(header, at), *_table_findings(header, entry, at)]


class _Places:
    """Where elements of one document are, or where the nearest one above stands when they are absent."""

    def __init__(self, document: Element, part: str) -> None:
        self.document, self.part, self.root = document, part, path_of(document)

    def __call__(self, path: str) -> Where:
        node = self.document
        for step in path.split("/"):
            child = node.find(f"{{{HL7}}}{step}")
            if child is None:
                break
            node = child
        return Where(self.part, line=node.sourceline or 0, path=f"{self.root}/{path}")


def _missing(entry: DocumentEntry, at: _Places) -> Iterator[Finding]:
    for attribute, name, path in SOURCES:
        if not getattr(entry, name):
            yield NOT_DERIVED.at(at(path), expected=path, attribute=attribute)


def _time_findings(header: Header, at: _Places) -> Iterator[Finding]:
    act, service = "documentationOf/serviceEvent/effectiveTime/", header.main_service
    for attribute, path, time in (
        ("creationTime", "effectiveTime", header.effective_time),
        ("serviceStartTime", act + "low", service.low),
        ("serviceStopTime", act + "high", service.high),
        ("sourcePatientInfo PID-7", "recordTarget/patientRole/patient/birthTime", header.patient.birth_time),
    ):
        if time and not to_utc(time):
            yield BAD_TIME.at(at(path), received=time, attribute=attribute)
        elif attribute in _TIMES_OF_DAY and lacks_zone(time):
            yield NO_ZONE.at(at(path), received=time, attribute=attribute)


_TIMES_OF_DAY = frozenset({"creationTime", "serviceStartTime", "serviceStopTime"})


def _patient_findings(header: Header, at: _Places, untold: set[str]) -> Iterator[Finding]:
    role, patient = "recordTarget/patientRole/", header.patient
    if ins_of(patient) is None:
        yield NO_INS.at(at(role + "id"), expected=f"root {', '.join(INS_ROOTS)}",
                        received=", ".join(map(str, patient.ids[:5])))
    told = {info.partition("|")[0] for info in _patient_info(patient)}
    for field, path in (("PID-5", "name"), ("PID-7", "birthTime"), ("PID-8", "administrativeGenderCode")):
        attribute = f"sourcePatientInfo {field}"
        if field not in told and attribute not in untold:
            yield NOT_DERIVED.at(at(f"{role}patient/{path}"), expected=f"{role}patient/{path}", attribute=attribute)


def _author_findings(header: Header, at: _Places) -> Iterator[Finding]:
    for position, author in enumerate(header.authors, 1):
        stem = f"author[{position}]/assignedAuthor"
        for attribute, told, path in (
            ("authorPerson", _person(author.entity), f"{stem}/assignedPerson/name"),
            ("authorInstitution", _institution(author.entity.organization), f"{stem}/representedOrganization/name"),
        ):
            if not told:
                yield NOT_DERIVED.at(at(path), expected=path, attribute=attribute)


def _table_findings(header: Header, entry: DocumentEntry, at: _Places) -> Iterator[Finding]:
    if header.code and entry.class_code is None:
        yield TYPE_UNKNOWN.at(at("code"), received=header.code.code)
    if entry.format_code == formats().unknown:
        received = ", ".join(header.templates[:10]) + (f" ; {header.media_type}" if header.media_type else "")
        yield FORMAT_UNKNOWN.at(at("templateId"), expected=formats().unknown.code, received=received)
    if _UUID.fullmatch(header.id.root):
        yield ID_UUID.at(at("id"), expected=unique_id(header.id), received=header.id.root)
