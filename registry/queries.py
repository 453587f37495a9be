"""The stored queries of ITI-18, each a function of its name (ITI TF-2 §3.18.4.1.2.3.7): values in, objects out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Select, Table, exists, or_, select

from registry import claims, patients, stored
from registry.codes import NAMES
from registry.query_values import MISSING, Definition, Values, parse
from registry.reader import TOO_MANY, Found, Key, Reader, Row
from registry.register import Registry
from registry.requirements import RULES
from registry.tables import association, document, folder, object_code, object_text, submission_set
from security.access import Gate
from xds import hl7
from xds.findings import Refused, Where
from xds.messages import AdhocQuery
from xds.rim import ObjectRef, write_refs
from xds.vocabulary import APPROVED, DEPRECATED, HAS_MEMBER, STABLE

RETURN_TYPE = RULES["V-QUERY-RETURN-TYPE"]
NOT_SINGLE = RULES["V-QUERY-NOT-SINGLE-PATIENT"]

#: Internal ids of those whose objects a query is about; None where it names nobody (ITI-51)
Owners = frozenset[int] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The RegistryObjectList of an answer as `rim:` text, and how many objects stand in it."""

    objects: tuple[str, ...]
    count: int


def run(registry: Registry, request: AdhocQuery, gate_of: Callable[[Reader, str], Gate], home: str = "") -> Answer:
    """Answer an AdhocQuery. `gate_of` admits the caller for the patient the query names ("" by identifier).

    `home`: the community that a gateway writes on every object.
    """
    if request.return_type not in {"LeafClass", "ObjectRef"}:
        raise Refused(RETURN_TYPE.at(Where("query", path="ResponseOption/@returnType"),
                                     expected="LeafClass | ObjectRef", received=request.return_type))
    definition, values = parse(request.id, request.slots)
    with registry.database.read() as connection:
        reader = Reader(connection, registry.book, Gate())
        reader.gate = gate_of(reader, patient_of(definition, values))
        found = at_home(find(reader, definition, values), home)
        return answer(reader, found, request.return_type, registry.domain.max_results)


def find(reader: Reader, definition: Definition, values: Values,
         by_name: Mapping[str, Callable[[Reader, Values], Found]] | None = None) -> Found:
    """Objects of one query, at the level that it asks for; associations out of force only at level 2 and by name."""
    reader.level = int("".join(_only(values, "$MetadataLevel")) or "1")
    asked = _only(values, "$XDSAssociationStatus") if reader.level > 1 else ()
    statuses = asked or (APPROVED,)
    reader.link_statuses = reader.book.find(reader.connection, ((status, NAMES) for status in statuses))
    return (QUERIES if by_name is None else by_name)[definition.name](reader, values)


def at_home(found: Found, home: str) -> Found:
    """The same objects, said to be of that community; "" leaves them as they are."""
    if not home:
        return found
    kinds: list[dict[Key, Row]] = [{key: {**row, "home": home} for key, row in kind.items()}
                                   for kind in (found.sets, found.documents, found.folders, found.associations)]
    return Found(*kinds)


def answer(reader: Reader, found: Found, return_type: str, max_results: int) -> Answer:
    """Write what was found; ObjectRefs are short and never refused for number or for several patients."""
    if return_type == "ObjectRef":
        return refs(found)
    if len(found) > max_results:
        raise Refused(TOO_MANY.at(Where("query"), expected=max_results, received=len(found)))
    reader.kin.ids(found.patients())  # all of them by one look-up
    patients = {reader.kin.survivor(patient) for patient in found.patients()}
    if len(patients) > 1:
        raise Refused(NOT_SINGLE.at(Where("query"), expected=1, received=len(patients)))
    return Answer(tuple(render(reader, found)), len(found))


def refs(found: Found) -> Answer:
    """References to what was found."""
    rows = [row for kind in (found.sets, found.documents, found.folders, found.associations) for row in kind.values()]
    return Answer((write_refs(ObjectRef(row["uuid"], row["home"]) for row in rows),), len(rows))


def render(reader: Reader, found: Found) -> Iterator[str]:
    """Full objects, from their stored text; those of a merged patient with the identifier that survived."""
    def name(identity: int) -> str:
        return reader.book.text_of(reader.connection, identity)

    def shown(row: Row) -> str:
        return stored.surviving(row, reader.kin.shown(row["patient_id"]))

    for row in found.sets.values():
        yield stored.render("set", row, name(row["status"]), shown(row))
    for row in found.documents.values():
        yield stored.render("document", {**row, "object_type_name": name(row["object_type"])}, name(row["status"]),
                            shown(row))
    for row in found.folders.values():
        yield stored.render("folder", row, name(row["status"]), shown(row))
    for row in found.associations.values():
        yield stored.render("association", {**row, "type_name": name(row["type"])}, name(row["status"]))


# --- Find… ---------------------------------------------------------------------------------------------------------


def find_documents(reader: Reader, values: Values) -> Found:
    """FindDocuments and FindDocumentsByReferenceId: patients, status, any of the filters (§3.18.4.1.2.3.7.1)."""
    owners = _patients(reader, values, "$XDSDocumentEntryPatientId")
    if owners == frozenset():
        return Found()
    reader.finds_moved = True
    prefix, c = "$XDSDocumentEntry", document.c
    conditions = [*_owned(owners, c.patient_id), _status(reader, values, prefix + "Status", c.status),
                  *_document_filters(reader, values)]
    for name, column in _SINGLE_CODES.items():
        conditions += _codes(reader, values, prefix + name, column)
    conditions += _several(reader, values, prefix + "EventCodeList", "e", document)
    conditions += _patterns(values, prefix + "AuthorPerson", "a", document)
    conditions += _patterns(values, prefix + "ReferenceIdList", "r", document)
    for name, column in (("CreationTime", c.creation_time), ("ServiceStartTime", c.service_start),
                         ("ServiceStopTime", c.service_stop)):
        # What has no such time is not filtered out by it: §3.18.4.1.2.3.7.1
        conditions += [or_(column == "", limit) for limit in _between(values, prefix + name, column)]
    return Found(documents=reader.documents(*conditions))


def find_submission_sets(reader: Reader, values: Values) -> Found:
    """FindSubmissionSets (§3.18.4.1.2.3.7.2)."""
    owners = _patients(reader, values, "$XDSSubmissionSetPatientId")
    if owners == frozenset():
        return Found()
    prefix, c = "$XDSSubmissionSet", submission_set.c
    conditions = [*_owned(owners, c.patient_id), _status(reader, values, prefix + "Status", c.status),
                  *_between(values, prefix + "SubmissionTime", c.submission_time),
                  *_codes(reader, values, prefix + "ContentType", c.content_type),
                  *_patterns(values, prefix + "AuthorPerson", "a", submission_set)]
    if sources := _only(values, prefix + "SourceId"):
        conditions.append(c.source_id.in_(sources))
    return Found(sets=reader.sets(*conditions))


def find_folders(reader: Reader, values: Values) -> Found:
    """FindFolders (§3.18.4.1.2.3.7.3)."""
    owners = _patients(reader, values, "$XDSFolderPatientId")
    if owners == frozenset():
        return Found()
    prefix, c = "$XDSFolder", folder.c
    return Found(folders=reader.folders(
        *_owned(owners, c.patient_id), _status(reader, values, prefix + "Status", c.status),
        *_between(values, prefix + "LastUpdateTime", c.last_update_time),
        *_several(reader, values, prefix + "CodeList", "f", folder)))


def get_all(reader: Reader, values: Values) -> Found:
    """GetAll: everything of a patient and the associations among it (§3.18.4.1.2.3.7.4)."""
    owners = _patients(reader, values, "$patientId")
    if owners == frozenset():
        return Found()
    tables: tuple[tuple[Table, str], ...] = ((submission_set, "$XDSSubmissionSetStatus"), (folder, "$XDSFolderStatus"))
    sets, folders = (
        read(*_owned(owners, table.c.patient_id), _status(reader, values, name, table.c.status))
        for read, (table, name) in zip((reader.sets, reader.folders), tables, strict=True))
    documents = reader.documents(
        *_owned(owners, document.c.patient_id), _status(reader, values, "$XDSDocumentEntryStatus", document.c.status),
        *_document_filters(reader, values))
    found = Found(sets, documents, folders)
    links = reader.associations(*_owned(owners, association.c.patient_id))
    return replace(found, associations=_among(links, found))


# --- Get… ----------------------------------------------------------------------------------------------------------


def get_documents(reader: Reader, values: Values) -> Found:
    """GetDocuments (§3.18.4.1.2.3.7.5)."""
    lids = _only(values, "$XDSDocumentEntryLogicalID")
    return Found(documents=reader.by_logical_id(claims.DOCUMENT, lids) if lids else
                 reader.by_identifiers(claims.DOCUMENT, _identifiers(values, "$XDSDocumentEntry")))


def get_folders(reader: Reader, values: Values) -> Found:
    """GetFolders (§3.18.4.1.2.3.7.6)."""
    lids = _only(values, "$XDSFolderLogicalID")
    return Found(folders=reader.by_logical_id(claims.FOLDER, lids) if lids else
                 reader.by_identifiers(claims.FOLDER, _identifiers(values, "$XDSFolder")))


def get_associations(reader: Reader, values: Values) -> Found:
    """GetAssociations: all that start at or lead to the objects (§3.18.4.1.2.3.7.7)."""
    uuids = [uuid.lower() for uuid in _only(values, "$uuid")]
    return Found(associations=reader.links_of(uuids, _owners(reader, uuids)))


def get_documents_and_associations(reader: Reader, values: Values) -> Found:
    """GetDocumentsAndAssociations (§3.18.4.1.2.3.7.8)."""
    found = get_documents(reader, values)
    return replace(found, associations=reader.links_of(found.uuids(), found.patients()))


def get_submission_sets(reader: Reader, values: Values) -> Found:
    """GetSubmissionSets: the sets that hold the objects, and the HasMember links to those (§3.18.4.1.2.3.7.9)."""
    uuids = {uuid.lower() for uuid in _only(values, "$uuid")}
    links = _members(reader, reader.links_of(uuids, _owners(reader, uuids)), "target", uuids)
    sets = reader.by_identifiers(claims.SET, {row["source"] for row in links.values()})
    known = {row["uuid"] for row in sets.values()}
    return Found(sets=sets, associations={key: row for key, row in links.items() if row["source"] in known})


def get_submission_set_and_contents(reader: Reader, values: Values) -> Found:
    """GetSubmissionSetAndContents (§3.18.4.1.2.3.7.10)."""
    sets = reader.by_identifiers(claims.SET, _identifiers(values, "$XDSSubmissionSet"))
    found = _with_contents(reader, Found(sets=sets), values)
    # Links of the set to links of a folder, and those links when both their ends are here.
    inner = reader.by_identifiers(claims.ASSOCIATION, {row["target"] for row in found.associations.values()})
    uuids = found.uuids()
    kept = {key: row for key, row in inner.items() if row["source"] in uuids and row["target"] in uuids}
    known = uuids | {row["uuid"] for row in kept.values()}
    links = {key: row for key, row in found.associations.items() if row["target"] in known}
    return replace(found, associations=links | kept)


def get_folder_and_contents(reader: Reader, values: Values) -> Found:
    """GetFolderAndContents (§3.18.4.1.2.3.7.11)."""
    folders = reader.by_identifiers(claims.FOLDER, _identifiers(values, "$XDSFolder"))
    found = _with_contents(reader, Found(folders=folders), values)
    uuids = found.uuids()
    return replace(found, associations={key: row for key, row in found.associations.items()
                                        if row["target"] in uuids})


def get_folders_for_document(reader: Reader, values: Values) -> Found:
    """GetFoldersForDocument (§3.18.4.1.2.3.7.12)."""
    uuids = get_documents(reader, values).uuids()
    links = _members(reader, reader.links_of(uuids, _owners(reader, uuids)), "target", uuids)
    return Found(folders=reader.by_identifiers(claims.FOLDER, {row["source"] for row in links.values()}))


def get_related_documents(reader: Reader, values: Values) -> Found:
    """GetRelatedDocuments: nothing at all when nothing is related (§3.18.4.1.2.3.7.13)."""
    first = get_documents(reader, values)
    asked = set(reader.book.find(reader.connection, ((name, NAMES) for name in _only(values, "$AssociationTypes"))))
    links = {key: row for key, row in reader.links_of(first.uuids(), first.patients()).items() if row["type"] in asked}
    ends = {end for row in links.values() for end in (row["source"], row["target"])}
    documents = first.documents | _filtered(reader, reader.by_identifiers(claims.DOCUMENT, ends), values)
    known = {row["uuid"] for row in documents.values()}
    links = {key: row for key, row in links.items() if row["source"] in known and row["target"] in known}
    return Found(documents=documents, associations=links) if links else Found()


QUERIES: Mapping[str, Callable[[Reader, Values], Found]] = {
    "FindDocuments": find_documents,
    "FindDocumentsByReferenceId": find_documents,
    "FindSubmissionSets": find_submission_sets,
    "FindFolders": find_folders,
    "GetAll": get_all,
    "GetDocuments": get_documents,
    "GetFolders": get_folders,
    "GetAssociations": get_associations,
    "GetDocumentsAndAssociations": get_documents_and_associations,
    "GetSubmissionSets": get_submission_sets,
    "GetSubmissionSetAndContents": get_submission_set_and_contents,
    "GetFolderAndContents": get_folder_and_contents,
    "GetFoldersForDocument": get_folders_for_document,
    "GetRelatedDocuments": get_related_documents,
}

_SINGLE_CODES = {
    "ClassCode": document.c.class_code, "TypeCode": document.c.type_code, "FormatCode": document.c.format_code,
    "PracticeSettingCode": document.c.practice_setting, "HealthcareFacilityTypeCode": document.c.facility_type}


# --- conditions ----------------------------------------------------------------------------------------------------


def _only(values: Values, name: str) -> tuple[str, ...]:
    """The one list of a parameter that may stand once."""
    lists = values.get(name, ((),))
    return lists[0]


def patient_of(definition: Definition, values: Values) -> str:
    """The patient identifier that a query names, "" for a query by identifiers."""
    name = next((name for name, taken in definition.parameters.items() if taken.type == "patient"), "")
    return "".join(_only(values, name)[:1])


def _patients(reader: Reader, values: Values, name: str) -> Owners:
    """Internal ids of the patients named; unknown ones have no objects, which is a Success (ITI TF-2 §3.18.4.1.3)."""
    named = _only(values, name)
    found = {patient.id for cx in named if (patient := patients.find(reader.connection, cx)) is not None}
    return frozenset(reader.kin.ids(found)) if named else None


def _owned(owners: Owners, column: ColumnElement[int]) -> list[ColumnElement[bool]]:
    return [] if owners is None else [column.in_(owners)]


def _status(reader: Reader, values: Values, name: str, column: ColumnElement[int]) -> ColumnElement[bool]:
    """Unknown statuses of a list are passed over; with no known one the parameter counts as missing."""
    known = reader.book.find(reader.connection, ((status, NAMES) for status in _only(values, name)))
    if not known:
        raise Refused(MISSING.at(Where("query", path=name), expected=f"{APPROVED} | {DEPRECATED}", parameter=name))
    return column.in_(known)


def _document_filters(reader: Reader, values: Values) -> list[ColumnElement[bool]]:
    """Filters that every query with documents takes: format, confidentiality, type of entry (default: stable)."""
    types = _only(values, "$XDSDocumentEntryType") or (STABLE,)
    known = reader.book.find(reader.connection, ((name, NAMES) for name in types))
    return [document.c.object_type.in_(known),
            *_codes(reader, values, "$XDSDocumentEntryFormatCode", document.c.format_code),
            *_several(reader, values, "$XDSDocumentEntryConfidentialityCode", "c", document)]


def _codes(reader: Reader, values: Values, name: str, column: ColumnElement[int]) -> list[ColumnElement[bool]]:
    """One of the codes; both code and scheme must match."""
    return [column.in_(_ids(reader, wanted)) for wanted in values.get(name, ())]


def _several(reader: Reader, values: Values, name: str, kind: str, table: Table) -> list[ColumnElement[bool]]:
    """At least one of the codes of each list, among the several that an object has."""
    return [exists(_of(object_code, kind, table).where(object_code.c.code.in_(_ids(reader, wanted))))
            for wanted in values.get(name, ())]


def _patterns(values: Values, name: str, kind: str, table: Table) -> list[ColumnElement[bool]]:
    """At least one of the patterns of each list: `%` and `_` as in SQL LIKE, no escape sign (§3.18.4.1.2.3.5)."""
    value = object_text.c.value
    return [exists(_of(object_text, kind, table).where(or_(*(value.ilike(one, escape="\x1f") for one in wanted))))
            for wanted in values.get(name, ())]


def _of(several: Table, kind: str, table: Table) -> Select[tuple[int]]:
    return select(several.c.object_id).where(
        several.c.patient_id == table.c.patient_id, several.c.object_id == table.c.id, several.c.kind == kind)


def _between(values: Values, name: str, column: ColumnElement[str]) -> list[ColumnElement[bool]]:
    """From ≤ value < To, times of less precision filled up (ITI TF-2 §3.18.4.1.2.3.7.1)."""
    limits = [column >= hl7.DTM.parse(start).lower_bound for start in _only(values, name + "From")]
    return limits + [column < hl7.DTM.parse(end).lower_bound for end in _only(values, name + "To")]


def _ids(reader: Reader, wanted: Iterable[str]) -> list[int]:
    pairs = (text.partition("^^") for text in wanted)
    return reader.book.find(reader.connection, ((code, scheme) for code, _, scheme in pairs))


def _identifiers(values: Values, prefix: str) -> tuple[str, ...]:
    return _only(values, prefix + "EntryUUID") or _only(values, prefix + "UniqueId")


def _owners(reader: Reader, uuids: Iterable[str]) -> set[int]:
    return {claim.patient_id for holders in reader.patients_of(uuids).values() for claim in holders}


# --- links ---------------------------------------------------------------------------------------------------------

Links = dict[tuple[int, int], Row]


def _members(reader: Reader, links: Links, end: str, uuids: Iterable[str]) -> Links:
    """HasMember links of which the given end is among the objects."""
    known = set(uuids)
    return {key: row for key, row in links.items()
            if row[end] in known and reader.book.text_of(reader.connection, row["type"]) == HAS_MEMBER}


def _among(links: Links, found: Found) -> Links:
    """Links with both ends in the answer; a link of a set to a link of a folder counts when that one does."""
    objects = found.uuids()
    inner = {key: row for key, row in links.items() if row["source"] in objects and row["target"] in objects}
    known = objects | {row["uuid"] for row in inner.values()}
    return {key: row for key, row in links.items() if row["source"] in known and row["target"] in known}


def _with_contents(reader: Reader, found: Found, values: Values) -> Found:
    """A set or folder with the documents and folders it holds, filtered, and all its HasMember links."""
    holders = found.uuids()
    links = _members(reader, reader.links_of(holders, found.patients()), "source", holders)
    targets = {row["target"] for row in links.values()}
    documents = _filtered(reader, reader.by_identifiers(claims.DOCUMENT, targets), values)
    return replace(found, documents=documents, associations=links,
                   folders=found.folders | reader.by_identifiers(claims.FOLDER, targets))


def _filtered(reader: Reader, documents: dict[tuple[int, int], Row], values: Values) -> dict[tuple[int, int], Row]:
    """Those of the documents that the filters of the query keep."""
    if not documents:
        return {}
    kept = reader.documents(document.c.patient_id.in_({patient for patient, _ in documents}),
                            document.c.uuid.in_({row["uuid"] for row in documents.values()}),
                            *_document_filters(reader, values))
    return {key: row for key, row in documents.items() if key in kept}
