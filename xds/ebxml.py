"""ebRIM <-> XDS.b model, by one table an object (ITI TF-3 §4.2.3, §4.2.5): adding an attribute is adding a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from xds.model import Association, Author, Code, DocumentEntry, Folder, Submission, SubmissionSet
from xds.rim import Classification, ExternalIdentifier, ObjectRef, RegistryObject, Slot, localized
from xds.vocabulary import (
    ASSOCIATION,
    ASSOCIATION_DOCUMENTATION,
    DOCUMENT,
    FOLDER,
    FOLDER_NODE,
    REFERENCE_ID_SLOT,
    REGISTRY_PACKAGE,
    SUBMISSION_SET,
    SUBMISSION_SET_NODE,
)

ONE, MANY = "one", "many"


@dataclass(frozen=True, slots=True)
class Shape:
    """Which slots, classifications and identifiers carry which attribute of an object."""

    slots: tuple[tuple[str, str, str], ...]  # slot name, attribute, one value or many
    codes: tuple[tuple[str, str, str, str], ...]  # scheme, attribute, one or many, name in the standard
    identifiers: tuple[tuple[str, str, str], ...]  # scheme, attribute, name in the standard
    author: str = ""  # scheme of authors
    node: str = ""  # classification node that says what a package is


DOCUMENT_SHAPE = Shape(
    slots=(
        ("creationTime", "creation_time", ONE),
        ("languageCode", "language", ONE),
        ("serviceStartTime", "service_start", ONE),
        ("serviceStopTime", "service_stop", ONE),
        ("sourcePatientId", "source_patient_id", ONE),
        ("sourcePatientInfo", "source_patient_info", MANY),
        ("legalAuthenticator", "legal_authenticator", ONE),
        ("hash", "hash", ONE),
        ("size", "size", ONE),
        ("repositoryUniqueId", "repository_unique_id", ONE),
        ("URI", "uri", MANY),
        ("documentAvailability", "availability", ONE),
        (REFERENCE_ID_SLOT, "reference_ids", MANY),
    ),
    codes=(
        (DOCUMENT.class_code, "class_code", ONE, "classCode"),
        (DOCUMENT.type_code, "type_code", ONE, "typeCode"),
        (DOCUMENT.format_code, "format_code", ONE, "formatCode"),
        (DOCUMENT.facility_type, "facility_type", ONE, "healthcareFacilityTypeCode"),
        (DOCUMENT.practice_setting, "practice_setting", ONE, "practiceSettingCode"),
        (DOCUMENT.confidentiality, "confidentiality", MANY, "confidentialityCode"),
        (DOCUMENT.event_code, "event_codes", MANY, "eventCodeList"),
    ),
    identifiers=(
        (DOCUMENT.patient_id, "patient_id", "XDSDocumentEntry.patientId"),
        (DOCUMENT.unique_id, "unique_id", "XDSDocumentEntry.uniqueId"),
    ),
    author=DOCUMENT.author,
)
SET_SHAPE = Shape(
    slots=(("submissionTime", "submission_time", ONE), ("intendedRecipient", "intended_recipients", MANY)),
    codes=((SUBMISSION_SET.content_type, "content_type", ONE, "contentTypeCode"),),
    identifiers=(
        (SUBMISSION_SET.patient_id, "patient_id", "XDSSubmissionSet.patientId"),
        (SUBMISSION_SET.source_id, "source_id", "XDSSubmissionSet.sourceId"),
        (SUBMISSION_SET.unique_id, "unique_id", "XDSSubmissionSet.uniqueId"),
    ),
    author=SUBMISSION_SET.author,
    node=SUBMISSION_SET_NODE,
)
FOLDER_SHAPE = Shape(
    slots=(("lastUpdateTime", "last_update_time", ONE),),
    codes=((FOLDER.codes, "codes", MANY, "codeList"),),
    identifiers=(
        (FOLDER.patient_id, "patient_id", "XDSFolder.patientId"),
        (FOLDER.unique_id, "unique_id", "XDSFolder.uniqueId"),
    ),
    node=FOLDER_NODE,
)
ASSOCIATION_SHAPE = Shape(
    slots=(("SubmissionSetStatus", "submission_set_status", ONE), ("PreviousVersion", "previous_version", ONE)),
    codes=((ASSOCIATION_DOCUMENTATION, "documentation", MANY, "associationDocumentation"),),
    identifiers=(),
)
AUTHOR_SLOTS = (
    ("authorPerson", "persons"),
    ("authorInstitution", "institutions"),
    ("authorRole", "roles"),
    ("authorSpecialty", "specialties"),
    ("authorTelecommunication", "telecommunications"),
)


# --- ebRIM -> model ------------------------------------------------------------------------------------------------


def to_submission(objects: Iterable[RegistryObject], references: Iterable[ObjectRef] = ()) -> Submission:
    """Sort the objects of a request by what they are; a package that is neither set nor folder is left to the rules."""
    things = tuple(objects)
    packages = [thing for thing in things if thing.kind == "RegistryPackage"]
    return Submission(
        sets=tuple(to_set(thing) for thing in packages if thing.is_node(SUBMISSION_SET_NODE)),
        documents=tuple(to_document(thing) for thing in things if thing.kind == "ExtrinsicObject"),
        folders=tuple(to_folder(thing) for thing in packages if thing.is_node(FOLDER_NODE)),
        associations=tuple(to_association(thing) for thing in things if thing.kind == "Association"),
        references=tuple(references), objects=things)


def to_document(thing: RegistryObject) -> DocumentEntry:
    """A DocumentEntry of an ExtrinsicObject; where too many values stand for one attribute the first counts."""
    return DocumentEntry(**_common(thing), **_attributes(thing, DOCUMENT_SHAPE), mime_type=thing.mime_type,
                         object_type=thing.object_type, title=thing.name, comments=thing.description,
                         authors=_authors(thing, DOCUMENT_SHAPE), **_extras(thing, DOCUMENT_SHAPE))


def to_set(thing: RegistryObject) -> SubmissionSet:
    """A SubmissionSet of a RegistryPackage."""
    return SubmissionSet(**_common(thing), **_attributes(thing, SET_SHAPE), title=thing.name,
                         comments=thing.description, authors=_authors(thing, SET_SHAPE), **_extras(thing, SET_SHAPE))


def to_folder(thing: RegistryObject) -> Folder:
    """A Folder of a RegistryPackage."""
    return Folder(**_common(thing), **_attributes(thing, FOLDER_SHAPE), title=thing.name,
                  comments=thing.description, **_extras(thing, FOLDER_SHAPE))


def to_association(thing: RegistryObject) -> Association:
    """An Association of an Association."""
    extras = _extras(thing, ASSOCIATION_SHAPE)
    del extras["extra_identifiers"]
    return Association(**_common(thing), **_attributes(thing, ASSOCIATION_SHAPE), type=thing.association_type,
                       source=thing.source, target=thing.target, **extras)


def _common(thing: RegistryObject) -> dict[str, Any]:
    return {"id": thing.id, "lid": thing.lid, "status": thing.status, "version": thing.version, "home": thing.home}


def _attributes(thing: RegistryObject, shape: Shape) -> dict[str, Any]:
    """Every attribute of the shape that the object carries."""
    found: dict[str, Any] = {}
    slots = {slot.name: slot.values for slot in reversed(thing.slots)}
    for name, attribute, number in shape.slots:
        values = slots.get(name)
        if values:
            found[attribute] = values if number is MANY else values[0]
    codes: dict[str, list[Code]] = {}
    for item in thing.classifications:
        codes.setdefault(item.scheme, []).append(_code(item))
    for scheme, attribute, number, _name in shape.codes:
        if scheme in codes:
            found[attribute] = tuple(codes[scheme]) if number is MANY else codes[scheme][0]
    identifiers = {item.scheme: item.value for item in reversed(thing.external_identifiers)}
    for scheme, attribute, _name in shape.identifiers:
        found[attribute] = identifiers.get(scheme, "")
    return found


def _code(item: Classification) -> Code:
    scheme = item.slot("codingScheme")
    extra = tuple(slot for slot in item.slots if slot.name != "codingScheme")
    return Code(item.node_representation, scheme[0] if scheme else "", item.name, extra)


def _authors(thing: RegistryObject, shape: Shape) -> tuple[Author, ...]:
    return tuple(_author(item) for item in thing.classifications if item.scheme == shape.author)


def _author(item: Classification) -> Author:
    slots = {slot.name: slot.values for slot in item.slots}
    known = {attribute: slots[name] for name, attribute in AUTHOR_SLOTS if name in slots}
    names = {name for name, _ in AUTHOR_SLOTS}
    return Author(**known, extra_slots=tuple(slot for slot in item.slots if slot.name not in names))


def _extras(thing: RegistryObject, shape: Shape) -> dict[str, Any]:
    slot_names = {name for name, _, _ in shape.slots}
    schemes = {scheme for scheme, _, _, _ in shape.codes} | ({shape.author} if shape.author else set())
    identifiers = {scheme for scheme, _, _ in shape.identifiers}
    return {
        "extra_slots": tuple(slot for slot in thing.slots if slot.name not in slot_names),
        "extra_classifications": tuple(item for item in thing.classifications
                                       if item.scheme not in schemes and item.node != (shape.node or None)),
        "extra_identifiers": tuple(item for item in thing.external_identifiers if item.scheme not in identifiers),
    }


# --- model -> ebRIM ------------------------------------------------------------------------------------------------


def from_submission(submission: Submission) -> list[RegistryObject]:
    """All objects of a submission as ebRIM, documents first."""
    return [*map(from_document, submission.documents), *map(from_set, submission.sets),
            *map(from_folder, submission.folders), *map(from_association, submission.associations)]


def from_document(entry: DocumentEntry) -> RegistryObject:
    """An ExtrinsicObject of a DocumentEntry."""
    return RegistryObject("ExtrinsicObject", **_heading(entry), object_type=entry.object_type,
                          mime_type=entry.mime_type, name=entry.title, description=entry.comments,
                          **_content(entry, DOCUMENT_SHAPE, entry.authors))


def from_set(entry: SubmissionSet) -> RegistryObject:
    """A RegistryPackage of a SubmissionSet."""
    return RegistryObject("RegistryPackage", **_heading(entry), object_type=REGISTRY_PACKAGE, name=entry.title,
                          description=entry.comments, **_content(entry, SET_SHAPE, entry.authors))


def from_folder(entry: Folder) -> RegistryObject:
    """A RegistryPackage of a Folder."""
    return RegistryObject("RegistryPackage", **_heading(entry), object_type=REGISTRY_PACKAGE, name=entry.title,
                          description=entry.comments, **_content(entry, FOLDER_SHAPE, ()))


def from_association(entry: Association) -> RegistryObject:
    """An Association of an Association."""
    return RegistryObject("Association", **_heading(entry), object_type=ASSOCIATION, association_type=entry.type,
                          source=entry.source, target=entry.target, **_content(entry, ASSOCIATION_SHAPE, ()))


def _heading(entry: Any) -> dict[str, Any]:
    return {"id": entry.id, "lid": entry.lid, "status": entry.status, "version": entry.version, "home": entry.home}


def _content(entry: Any, shape: Shape, authors: Sequence[Author]) -> dict[str, Any]:
    number = _counter(entry.id)
    slots = [Slot(name, _values(getattr(entry, attribute)))
             for name, attribute, _ in shape.slots if getattr(entry, attribute)]
    classifications = [_from_author(author, shape.author, entry.id, number()) for author in authors]
    for scheme, attribute, _, _ in shape.codes:
        classifications += [_from_code(code, scheme, entry.id, number())
                            for code in _codes(getattr(entry, attribute))]
    if shape.node:
        classifications.append(Classification(node=shape.node, classified_object=entry.id, id=number()))
    identifiers = [ExternalIdentifier(scheme, getattr(entry, attribute), entry.id, number(), localized(name))
                   for scheme, attribute, name in shape.identifiers if getattr(entry, attribute)]
    return {
        "slots": (*slots, *entry.extra_slots),
        "classifications": (*classifications, *entry.extra_classifications),
        "external_identifiers": (*identifiers, *getattr(entry, "extra_identifiers", ())),
    }


def _values(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _codes(value: Code | tuple[Code, ...] | None) -> tuple[Code, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, Code) else value


def _from_code(code: Code, scheme: str, parent: str, identity: str) -> Classification:
    return Classification(scheme, "", code.code, parent, identity, code.name, (),
                          (Slot("codingScheme", (code.scheme,)), *code.extra_slots))


def _from_author(author: Author, scheme: str, parent: str, identity: str) -> Classification:
    slots = [Slot(name, getattr(author, attribute)) for name, attribute in AUTHOR_SLOTS if getattr(author, attribute)]
    return Classification(scheme, "", "", parent, identity, (), (), (*slots, *author.extra_slots))


def _counter(parent: str) -> Callable[[], str]:
    """Symbolic ids for nested elements, unique in a request because the parent's is."""
    stem = parent.rpartition(":")[2]
    number = 0

    def following() -> str:
        nonlocal number
        number += 1
        return f"{stem}-{number}"

    return following
