"""ebRIM 3.0 objects as values, lossless: elements -> objects -> text.

The layer below `xds.model`: it keeps every slot, classification and identifier, also those that no attribute of XDS
names or that stand there once too often, so that rules can count and answers can repeat what was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from xds.vocabulary import (
    ASSOCIATION,
    ASSOCIATION_DOCUMENTATION,
    CLASSIFICATION,
    EXTERNAL_IDENTIFIER,
    REGISTRY_PACKAGE,
    RIM,
)
from xds.xml import Element, escape, local_name, value_of


@dataclass(frozen=True, slots=True)
class Slot:
    """A named list of values; their order counts (sourcePatientInfo, URI)."""

    name: str
    values: tuple[str, ...] = ()
    slot_type: str = ""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Localized:
    """One LocalizedString of a Name or Description."""

    value: str
    lang: str = ""
    charset: str = ""


Text = tuple[Localized, ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """A code of a scheme, or membership in a node; authors are classifications with slots."""

    scheme: str = ""
    node: str = ""
    node_representation: str = ""
    classified_object: str = ""
    id: str = ""
    name: Text = ()
    description: Text = ()
    slots: tuple[Slot, ...] = ()
    line: int = field(default=0, compare=False)

    def slot(self, name: str) -> tuple[str, ...]:
        """Values of the slot of that name, () when absent."""
        return next((slot.values for slot in self.slots if slot.name == name), ())


@dataclass(frozen=True, slots=True)
class ExternalIdentifier:
    """An identifier of the object in a scheme (patientId, uniqueId, sourceId)."""

    scheme: str
    value: str
    registry_object: str = ""
    id: str = ""
    name: Text = ()
    description: Text = ()
    slots: tuple[Slot, ...] = ()
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RegistryObject:
    """An ExtrinsicObject, RegistryPackage or Association. `line` is where it started in the request."""

    kind: str
    id: str = ""
    lid: str = ""
    home: str = ""
    status: str = ""
    object_type: str = ""
    mime_type: str = ""
    association_type: str = ""
    source: str = ""
    target: str = ""
    name: Text = ()
    description: Text = ()
    version: str = ""
    slots: tuple[Slot, ...] = ()
    classifications: tuple[Classification, ...] = ()
    external_identifiers: tuple[ExternalIdentifier, ...] = ()
    line: int = field(default=0, compare=False)

    def slot(self, name: str) -> tuple[str, ...]:
        """Values of the first slot of that name, () when absent."""
        return next((slot.values for slot in self.slots if slot.name == name), ())

    def in_scheme(self, scheme: str) -> list[Classification]:
        """Classifications of that scheme, in order."""
        return [item for item in self.classifications if item.scheme == scheme]

    def identifiers(self, scheme: str) -> list[ExternalIdentifier]:
        """External identifiers of that scheme, in order."""
        return [item for item in self.external_identifiers if item.scheme == scheme]

    def is_node(self, node: str) -> bool:
        """Whether a classification puts the object in that node (submission set, folder)."""
        return any(item.node == node for item in self.classifications)


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A reference to an object held elsewhere."""

    id: str
    home: str = ""


# --- reading -------------------------------------------------------------------------------------------------------

_NS = "{" + RIM + "}"
_KINDS: dict[object, str] = {_NS + kind: kind for kind in ("ExtrinsicObject", "RegistryPackage", "Association")}


def read_list(container: Element) -> tuple[list[RegistryObject], list[ObjectRef], list[Element]]:
    """Objects, references and unknown children of a RegistryObjectList (ebRIM 3.0 §2; ITI TF-3 §4.2.1).

    Stand-alone classifications are nested into the object they classify: both forms are legal on the wire.
    """
    objects: list[RegistryObject] = []
    references: list[ObjectRef] = []
    loose: list[Classification] = []
    unknown: list[Element] = []
    for child in container:
        if child.tag in _KINDS:
            objects.append(read_object(child))
        elif child.tag == _NS + "ObjectRef":
            references.append(ObjectRef(child.get("id", ""), child.get("home", "")))
        elif child.tag == _NS + "Classification":
            loose.append(_read_classification(child))
        elif isinstance(child.tag, str):
            unknown.append(child)
    return _nest(objects, loose), references, unknown


def read_object(element: Element) -> RegistryObject:
    """One registry object with everything in it."""
    parts = _read_children(element)
    get = element.get
    return RegistryObject(
        kind=_KINDS[element.tag], id=get("id", ""), lid=get("lid", ""), home=get("home", ""),
        status=get("status", ""), object_type=get("objectType", ""), mime_type=get("mimeType", ""),
        association_type=get("associationType", ""), source=get("sourceObject", ""), target=get("targetObject", ""),
        name=parts.name, description=parts.description, version=parts.version, slots=tuple(parts.slots),
        classifications=tuple(parts.classifications), external_identifiers=tuple(parts.identifiers),
        line=element.sourceline or 0)


@dataclass(slots=True)
class _Children:
    slots: list[Slot] = field(default_factory=list)
    classifications: list[Classification] = field(default_factory=list)
    identifiers: list[ExternalIdentifier] = field(default_factory=list)
    name: Text = ()
    description: Text = ()
    version: str = ""


def _read_children(element: Element) -> _Children:
    parts = _Children()
    for child in element:
        reader = _CHILD_READERS.get(child.tag)
        if reader is not None:
            reader(parts, child)
    return parts


def read_slot(element: Element) -> Slot:
    """A Slot with its values; surrounding white space of a value is layout, not content."""
    values = tuple(value_of(value) for holder in element if holder.tag == _NS + "ValueList"
                   for value in holder if value.tag == _NS + "Value")
    return Slot(element.get("name", ""), values, element.get("slotType", ""), element.sourceline or 0)


def _read_text(element: Element) -> Text:
    lang = "{http://www.w3.org/XML/1998/namespace}lang"
    return tuple(Localized(item.get("value", ""), item.get(lang, ""), item.get("charset", ""))
                 for item in element if item.tag == _NS + "LocalizedString")


def _read_classification(element: Element) -> Classification:
    parts, get = _read_children(element), element.get
    return Classification(
        scheme=get("classificationScheme", ""), node=get("classificationNode", ""),
        node_representation=get("nodeRepresentation", ""), classified_object=get("classifiedObject", ""),
        id=get("id", ""), name=parts.name, description=parts.description, slots=tuple(parts.slots),
        line=element.sourceline or 0)


def _read_identifier(element: Element) -> ExternalIdentifier:
    parts, get = _read_children(element), element.get
    return ExternalIdentifier(
        scheme=get("identificationScheme", ""), value=get("value", ""), registry_object=get("registryObject", ""),
        id=get("id", ""), name=parts.name, description=parts.description, slots=tuple(parts.slots),
        line=element.sourceline or 0)


def _set_name(parts: _Children, element: Element) -> None:
    parts.name = _read_text(element)


def _set_description(parts: _Children, element: Element) -> None:
    parts.description = _read_text(element)


def _set_version(parts: _Children, element: Element) -> None:
    parts.version = element.get("versionName", "")


_CHILD_READERS: dict[object, Callable[[_Children, Element], None]] = {
    _NS + "Slot": lambda parts, element: parts.slots.append(read_slot(element)),
    _NS + "Name": _set_name,
    _NS + "Description": _set_description,
    _NS + "VersionInfo": _set_version,
    _NS + "Classification": lambda parts, element: parts.classifications.append(_read_classification(element)),
    _NS + "ExternalIdentifier": lambda parts, element: parts.identifiers.append(_read_identifier(element)),
}


def _nest(objects: list[RegistryObject], loose: list[Classification]) -> list[RegistryObject]:
    if not loose:
        return objects
    by_object: dict[str, list[Classification]] = {}
    for item in loose:
        by_object.setdefault(item.classified_object, []).append(item)
    return [replace(thing, classifications=thing.classifications + tuple(by_object.get(thing.id, ())))
            for thing in objects]


# --- writing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fragments:
    """An object's content as text, in the order of the ebRIM schema; VersionInfo stands between the two."""

    before: str
    after: str


def write(thing: RegistryObject) -> str:
    """The object as `rim:` text; the prefix is declared by whoever embeds it."""
    return write_with(thing, fragments(thing))


def write_with(thing: RegistryObject, content: Fragments) -> str:
    """The object's own attributes around content written before: what is stored and what the registry owns."""
    version = f'<rim:VersionInfo versionName="{escape(thing.version)}"/>' if thing.version else ""
    return (f"<rim:{thing.kind}{_attributes(thing)}>{content.before}{version}{content.after}</rim:{thing.kind}>")


def fragments(thing: RegistryObject) -> Fragments:
    """Slots, name, description before VersionInfo; classifications and identifiers after (ebRIM 3.0 rim.xsd)."""
    before = "".join(map(_write_slot, thing.slots)) + _write_text("Name", thing.name)
    before += _write_text("Description", thing.description)
    after = "".join(map(_write_classification, thing.classifications))
    return Fragments(before, after + "".join(map(_write_identifier, thing.external_identifiers)))


def write_refs(references: Iterable[ObjectRef]) -> str:
    """ObjectRef elements."""
    return "".join(f'<rim:ObjectRef id="{escape(ref.id)}"{_attribute("home", ref.home)}/>' for ref in references)


def write_slot(name: str, *values: str) -> str:
    """One slot as text."""
    return _write_slot(Slot(name, values))


def _attributes(thing: RegistryObject) -> str:
    pairs = (("id", thing.id), ("lid", thing.lid), ("home", thing.home), ("objectType", thing.object_type),
             ("status", thing.status), ("mimeType", thing.mime_type), ("associationType", thing.association_type),
             ("sourceObject", thing.source), ("targetObject", thing.target))
    return "".join(_attribute(name, value) for name, value in pairs)


def _attribute(name: str, value: str) -> str:
    return f' {name}="{escape(value)}"' if value else ""


def _write_slot(slot: Slot) -> str:
    values = "".join(f"<rim:Value>{escape(value)}</rim:Value>" for value in slot.values)
    return (f'<rim:Slot name="{escape(slot.name)}"{_attribute("slotType", slot.slot_type)}>'
            f"<rim:ValueList>{values}</rim:ValueList></rim:Slot>")


def _write_text(tag: str, text: Text) -> str:
    if not text:
        return ""
    items = "".join(f'<rim:LocalizedString{_attribute("xml:lang", item.lang)}{_attribute("charset", item.charset)}'
                    f' value="{escape(item.value)}"/>' for item in text)
    return f"<rim:{tag}>{items}</rim:{tag}>"


def _write_classification(item: Classification) -> str:
    # nodeRepresentation stands, empty, on authors too: ITI TF-3 §4.2.3.2.1
    representation = f' nodeRepresentation="{escape(item.node_representation)}"' if item.scheme else ""
    return (f'<rim:Classification{_attribute("id", item.id)} objectType="{CLASSIFICATION}"'
            f"{_attribute('classificationScheme', item.scheme)}{_attribute('classificationNode', item.node)}"
            f"{_attribute('classifiedObject', item.classified_object)}{representation}>"
            f"{''.join(map(_write_slot, item.slots))}{_write_text('Name', item.name)}"
            f"{_write_text('Description', item.description)}</rim:Classification>")


def _write_identifier(item: ExternalIdentifier) -> str:
    return (f'<rim:ExternalIdentifier{_attribute("id", item.id)} objectType="{EXTERNAL_IDENTIFIER}"'
            f"{_attribute('identificationScheme', item.scheme)}{_attribute('registryObject', item.registry_object)}"
            f' value="{escape(item.value)}">{"".join(map(_write_slot, item.slots))}{_write_text("Name", item.name)}'
            f"{_write_text('Description', item.description)}</rim:ExternalIdentifier>")


# --- identifiers ---------------------------------------------------------------------------------------------------


def is_uuid_urn(text: str) -> bool:
    """Whether an id is a real one (`urn:uuid:…`) and not a symbol for the time of a request (ITI TF-3 §4.1.12.3)."""
    return text[:9].lower() == "urn:uuid:"


def resolve(objects: Iterable[RegistryObject],
            new_id: Callable[[], str]) -> tuple[list[RegistryObject], dict[str, str]]:
    """Give every object, classification and identifier its real id; the same symbol becomes the same UUID everywhere.

    Real UUIDs are kept in lower case (ITI TF-3 §4.1.12.3). Returns the objects and symbol -> id of the objects.
    """
    things = list(objects)
    known = {thing.id: thing.id.lower() if is_uuid_urn(thing.id) else new_id() for thing in things if thing.id}

    def of(reference: str) -> str:
        return known.get(reference) or (reference.lower() if is_uuid_urn(reference) else reference)

    def own(nested: str) -> str:
        return nested.lower() if is_uuid_urn(nested) else new_id()

    return [_resolved(thing, of, own) for thing in things], known


def _resolved(thing: RegistryObject, of: Callable[[str], str], own: Callable[[str], str]) -> RegistryObject:
    identity = of(thing.id) or own("")  # an association may come without an id
    return replace(
        thing, id=identity, lid=of(thing.lid) if thing.lid else "", source=of(thing.source), target=of(thing.target),
        # Spelled out: `replace` takes five times as long, twenty times a submission.
        classifications=tuple(
            Classification(item.scheme, item.node, item.node_representation, identity, own(item.id), item.name,
                           item.description, item.slots, item.line) for item in thing.classifications),
        external_identifiers=tuple(
            ExternalIdentifier(item.scheme, item.value, identity, own(item.id), item.name, item.description,
                               item.slots, item.line) for item in thing.external_identifiers))


def all_ids(thing: RegistryObject) -> Iterator[str]:
    """Ids of the object and of everything nested in it."""
    yield thing.id
    yield from (item.id for item in thing.classifications)
    yield from (item.id for item in thing.external_identifiers)


def first(text: Text) -> str:
    """What a person reads of a Name or Description: its first string."""
    return text[0].value if text else ""


def localized(value: str, lang: str = "") -> Text:
    """A Name or Description of one string; () for an empty one."""
    return (Localized(value, lang),) if value else ()


__all__ = ["ASSOCIATION", "ASSOCIATION_DOCUMENTATION", "REGISTRY_PACKAGE", "Classification", "ExternalIdentifier",
           "Fragments", "Localized", "ObjectRef", "RegistryObject", "Slot", "Text", "all_ids", "first", "fragments",
           "is_uuid_urn", "local_name", "localized", "read_list", "read_object", "read_slot", "resolve", "write",
           "write_refs", "write_slot", "write_with"]
