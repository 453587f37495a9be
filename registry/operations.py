"""What an update asks for: operations, each against the state of what it names, and everything wrong with them.

One request may hold several operations; all succeed or none (ITI TF-2 §3.57.4.1.3). What an operation may do in
which state is `registry.life`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, select

from registry import claims, life, propagation, state, versions
from registry.codes import NAMES
from registry.patients import Patient
from registry.propagation import Copy
from registry.reader import Reader
from registry.requirements import RULES, place
from registry.tables import association
from registry.versions import Held
from xds import rim
from xds.findings import Finding, Rule, Where
from xds.model import Association, DocumentEntry, Folder, Submission
from xds.vocabulary import (
    APPROVED,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    ONLINE,
    RELATIONSHIPS,
    STABLE,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY,
)

NO_OPERATION = RULES["V-UPD-NO-OPERATION"]
NOT_OPERATION = RULES["V-UPD-NOT-AN-OPERATION"]
FIRST_VERSION = RULES["V-UPD-FIRST-VERSION"]
PREVIOUS_MISSING = RULES["V-UPD-PREVIOUS-MISSING"]
VERSION_UNKNOWN = RULES["V-UPD-VERSION-UNKNOWN"]
VERSION_STALE = RULES["V-UPD-VERSION-STALE"]
STATE = RULES["V-UPD-STATE"]
IDENTITY = RULES["V-UPD-IDENTITY"]
CONTENT = RULES["V-UPD-CONTENT"]
TWICE = RULES["V-UPD-TWICE"]
CONFLICT = RULES["V-UPD-CONFLICT"]
SLOT = RULES["V-UPD-SLOT"]
PROPAGATION = RULES["V-UPD-PROPAGATION"]
STATUS_TARGET = RULES["V-UPD-STATUS-TARGET"]
STATUS_VALUES = RULES["V-UPD-STATUS-VALUES"]
PATIENTS_JOINED = RULES["V-UPD-PATIENTS-JOINED"]
LINK = RULES["V-UPD-LINK"]
LINK_VERSION = RULES["V-UPD-LINK-VERSION"]
LINK_TWICE = RULES["V-UPD-LINK-TWICE"]
UNMODIFIABLE = RULES["V-UPD-UNMODIFIABLE"]
RESTRICTED_CONTENT = RULES["V-UPD-RESTRICTED-CONTENT"]

#: What a restricted update keeps as it is (ITI TF-2 §3.92): attribute -> name in the standard. Hash and size are not
#: among them in IHE's own tests (40001); those of bytes that are kept here are what they are (`CONTENT`).
FIXED = {"source_patient_id": "sourcePatientId", "repository_unique_id": "repositoryUniqueId",
         "availability": "documentAvailability"}
DEFAULTS = {"availability": ONLINE}
#: Errors that have another code in ITI-92 (ITI TF-2 §3.92.4.1.3; tests 40000c, 40001b): by rule, and by attribute
RESTRICTED_CODES = {
    FIRST_VERSION.code: "XDSInvalidRequestException", PREVIOUS_MISSING.code: "XDSMetadataAnnotationError",
    "uniqueId": "XDSMetadataIdentifierError", "objectType": "UnmodifiableMetadataError",
    "patientId": "XDSPatientIDReconciliationError",
    CONTENT.code: "UnmodifiableMetadataError"}
#: Slots by which an operation is told, and the type of association that each stands on
SLOTS = {"PreviousVersion": HAS_MEMBER, "AssociationPropagation": HAS_MEMBER,
         "OriginalStatus": UPDATE_AVAILABILITY, "NewStatus": UPDATE_AVAILABILITY}
#: Kinds of objects that a submitted association joins: source and target
ENDS = {HAS_MEMBER: claims.FOLDER + claims.DOCUMENT, **dict.fromkeys(RELATIONSHIPS, claims.DOCUMENT * 2)}
KINDS = {claims.DOCUMENT: "DocumentEntry", claims.FOLDER: "Folder", claims.ASSOCIATION: "Association"}
SNAPSHOT = {"sourceObject": STABLE, "targetObject": ON_DEMAND}


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A new version of a document's or a folder's metadata, the old one, and the status each will have."""

    entry: DocumentEntry | Folder
    link: Association
    old: Held
    status: str
    old_status: str


@dataclass(frozen=True, slots=True)
class StatusChange:
    """Another status for the newest version of an object."""

    target: Held
    status: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and what it is held against."""

    reader: Reader
    submission: Submission
    patient: Patient
    restricted: bool = False

    @property
    def connection(self) -> Connection:
        """The transaction in which the request is looked at and carried out."""
        return self.reader.connection

    def owns(self, patient_id: int) -> bool:
        """Whether objects kept under an internal id are the patient's of whom the request is."""
        return patient_id in self.patient.ids

    def status_of(self, held: Held) -> str:
        """Status of an object as the standard writes it."""
        return self.reader.book.text_of(self.connection, held.row.status)

    def newest(self, lid: str) -> Held | None:
        """The newest version of a logical object that the caller may know of."""
        return self._seen(versions.newest(self.connection, lid))

    def by_uuid(self, uuid: str) -> Held | None:
        """The object of an entryUUID that the caller may know of."""
        return self._seen(versions.by_uuid(self.connection, uuid))

    def _seen(self, held: Held | None) -> Held | None:
        return held if held is not None and self.reader.lets_through(held.claim, held.row._mapping) else None

    def where(self, identity: str, attribute: str = "") -> Where:
        """Where a submitted object stands in the request."""
        thing = next((thing for thing in self.submission.objects if thing.id == identity), None)
        return place(thing, attribute) if thing else Where("metadata", path=identity)

    def slot(self, link: Association, name: str) -> str:
        """Value of a slot, "" when absent; several are one that no rule admits."""
        return next(("|".join(thing.slot(name)) for thing in self.submission.objects if thing.id == link.id), "")

    def find(self, rule: Rule, where: Where, received: object, expected: object = "", **values: object) -> Finding:
        """A finding with the code that this transaction gives it."""
        finding = rule.at(where, received=received, expected=expected, **values)
        code = RESTRICTED_CODES.get(rule.code) or RESTRICTED_CODES.get(str(values.get("attribute", "")))
        return replace(finding, xds_override=code) if self.restricted and code else finding


@dataclass(slots=True)
class Plan:
    """Everything a request asks for, and everything that is wrong with it. `used`: submitted ids that say something."""

    new_versions: list[NewVersion] = field(default_factory=list)
    status_changes: list[StatusChange] = field(default_factory=list)
    links: list[Association] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    restated: set[str] = field(default_factory=set)  # entryUUIDs of which a status was asked for

    def touched(self) -> set[str]:
        """Objects, by entryUUID, that will be another version or have another status."""
        return {one.old.uuid for one in self.new_versions} | {one.target.uuid for one in self.status_changes}


def plan(asked: Asked) -> Plan:
    """All operations of a request: versions first, for a status may be asked for the new one (§3.57.4.1.3.1)."""
    made = Plan()
    the_set = asked.submission.submission_set.id
    made.findings += _check_identifiers(asked)
    made.used.add(the_set)
    for kind, read in (RESTRICTED_OPERATIONS if asked.restricted else OPERATIONS).items():
        for link in asked.submission.associations:
            if link.source == the_set and link.type == kind:
                made.findings += read(asked, link, made)
    made.findings += _check_rest(asked, made)
    made.findings += _plan_copies(asked, made)
    return made


def _check_identifiers(asked: Asked) -> Iterator[Finding]:
    """The set's uniqueId is new, and so is every entryUUID given (§3.57.4.1.3.1)."""
    the_set = asked.submission.submission_set
    if the_set.unique_id in claims.find(asked.connection, [the_set.unique_id]):
        yield asked.find(state.UNIQUE_ID_USED, asked.where(the_set.id, "uniqueId"), the_set.unique_id)
    given = {thing.id: thing.id.lower() for thing in asked.submission.objects if rim.is_uuid_urn(thing.id)}
    known = claims.find(asked.connection, given.values())
    for identity, uuid in given.items():
        if uuid in known:
            yield asked.find(state.UUID_USED, asked.where(identity, "entryUUID"), identity)


def _check_rest(asked: Asked, made: Plan) -> Iterator[Finding]:
    """Nothing in the request is left that no operation is about; a submitted link may also be held by the set."""
    the_set, added = asked.submission.submission_set.id, {link.id for link in made.links}
    made.used |= {link.id for link in asked.submission.associations
                  if link.source == the_set and link.type == HAS_MEMBER and link.target in added}
    rest = [thing.id for thing in asked.submission.objects if thing.id not in made.used]
    rule = RESTRICTED_CONTENT if asked.restricted else NOT_OPERATION
    for identity in rest:
        yield asked.find(rule, asked.where(identity), identity)
    if len(made.used) == 1 and not rest:
        yield asked.find(NO_OPERATION, asked.where(asked.submission.submission_set.id), "", OPERATIONS_SHOWN)


# --- a new version -------------------------------------------------------------------------------------------------


def _plan_version(asked: Asked, link: Association, made: Plan) -> Iterator[Finding]:
    """HasMember from the set to an entry of the request (§3.57.4.1.3.3.1, §3.57.4.1.3.3.2; §3.92.4.1.3)."""
    entries: list[DocumentEntry | Folder] = [*asked.submission.documents]
    entries += () if asked.restricted else asked.submission.folders
    entry = next((thing for thing in entries if thing.id == link.target), None)
    if entry is None:
        return
    made.used |= {link.id, entry.id}
    yield from _check_slots(asked, link)
    if first := list(_check_first(asked, entry, link)):
        yield from first
        return
    old = asked.newest(entry.lid)
    if old is None or old.claim.kind != (claims.DOCUMENT if isinstance(entry, DocumentEntry) else claims.FOLDER):
        yield asked.find(VERSION_UNKNOWN, asked.where(entry.id, "lid"), entry.lid)
        return
    if any(other.old.uuid == old.uuid for other in made.new_versions):
        yield asked.find(TWICE, asked.where(entry.id, "lid"), entry.lid)
    status, event = asked.status_of(old), life.RESTRICTED if asked.restricted else life.UPDATE
    after, new = life.TRANSITIONS.get((status, event), ("", ""))
    if not new:
        yield _state(asked, entry.id, "lid", old, status, event)
    yield from _check_version(asked, entry, link, old)
    if asked.restricted and isinstance(entry, DocumentEntry):
        yield from _check_restricted(asked, entry, old)
    made.new_versions.append(NewVersion(entry, link, old, new or status, after or status))


def _check_slots(asked: Asked, link: Association) -> Iterator[Finding]:
    """Slots of other operations say nothing here (test 20002b)."""
    for name, kind in SLOTS.items():
        if link.type != kind and asked.slot(link, name):
            yield asked.find(SLOT, asked.where(link.id, name), asked.slot(link, name), attribute=name,
                             type=link.type.rpartition(":")[2])


def _check_first(asked: Asked, entry: DocumentEntry | Folder, link: Association) -> Iterator[Finding]:
    """What makes it an update: a lid other than the id, and the number of the version it is about."""
    if not entry.lid or entry.lid.lower() == entry.id.lower():
        yield asked.find(FIRST_VERSION, asked.where(entry.id, "lid"), entry.id)
    if not asked.slot(link, "PreviousVersion"):
        yield asked.find(PREVIOUS_MISSING, asked.where(link.id, "PreviousVersion"), "")


def _check_version(asked: Asked, entry: DocumentEntry | Folder, link: Association, old: Held) -> Iterator[Finding]:
    """PreviousVersion is the newest, and what identifies the object is the same (§3.57.4.1.3.3.1.3)."""
    previous, propagation_ = (asked.slot(link, name) for name in ("PreviousVersion", "AssociationPropagation"))
    if previous != str(old.row.version):
        yield asked.find(VERSION_STALE, asked.where(link.id, "PreviousVersion"), previous, old.row.version)
    if propagation_ not in {"", "yes", "no"}:
        yield asked.find(PROPAGATION, asked.where(link.id, "AssociationPropagation"), propagation_, "yes | no")
    if entry.unique_id != old.row.unique_id:
        yield asked.find(IDENTITY, asked.where(entry.id, "uniqueId"), entry.unique_id, old.row.unique_id,
                         attribute="uniqueId")
    if isinstance(entry, DocumentEntry):
        yield from _check_content(asked, entry, old)


def _check_content(asked: Asked, entry: DocumentEntry, old: Held) -> Iterator[Finding]:
    """Stable stays stable; hash and size are those of the document where this repository keeps it."""
    kept = asked.reader.book.text_of(asked.connection, old.row.object_type)
    if entry.object_type != kept:
        yield asked.find(IDENTITY, asked.where(entry.id, "objectType"), entry.object_type, kept,
                         attribute="objectType")
    if old.row.storage_key:
        for name, given, expected in (("hash", entry.hash.lower(), old.row.hash),
                                      ("size", entry.size.lstrip("0") or "0", str(old.row.size))):
            if given != expected:
                yield asked.find(CONTENT, asked.where(entry.id, name), given, expected, attribute=name)


def _check_restricted(asked: Asked, entry: DocumentEntry, old: Held) -> Iterator[Finding]:
    """A restricted update leaves the patient and where the document is alone (ITI TF-2 §3.92.4.1.3)."""
    before = versions.entry_of(asked.connection, old, asked.reader.book)
    for attribute, name in FIXED.items():
        was, now = (getattr(one, attribute) or DEFAULTS.get(attribute, "") for one in (before, entry))
        if was != now:
            yield asked.find(UNMODIFIABLE, asked.where(entry.id, name), now, was, attribute=name)
    if not asked.owns(old.claim.patient_id):
        yield asked.find(UNMODIFIABLE, asked.where(entry.id, "patientId"), entry.patient_id, before.patient_id,
                         attribute="patientId")


def _state(asked: Asked, identity: str, attribute: str, held: Held, status: str, event: str) -> Finding:
    return asked.find(STATE, asked.where(identity, attribute), held.uuid, status=status.rpartition(":")[2], event=event)


def _plan_copies(asked: Asked, made: Plan) -> Iterator[Finding]:
    """Relationships go over to new versions unless the request says no; none may then join two patients."""
    moving = {one.old.uuid: one for one in made.new_versions if asked.slot(one.link, "AssociationPropagation") != "no"}
    owners = asked.reader.kin.ids({one.old.claim.patient_id for one in moving.values()})
    ended = {one.target.uuid for one in made.status_changes}
    copies = propagation.plan(asked.connection, {uuid: one.entry.id for uuid, one in moving.items()}, owners,
                              asked.reader.book) if moving else []
    made.copies = [copy for copy in copies if copy.row["uuid"] not in ended]
    for copy in made.copies:
        if copy.stays and not asked.owns(copy.row["patient_id"]):
            one = moving.get(copy.row["source"]) or moving[copy.row["target"]]
            yield asked.find(PATIENTS_JOINED, asked.where(one.link.id, "AssociationPropagation"), copy.stays,
                             asked.patient.cx)


# --- another status ------------------------------------------------------------------------------------------------


def _plan_status(asked: Asked, link: Association, made: Plan) -> Iterator[Finding]:
    """UpdateAvailabilityStatus from the set to the newest version of an object, be it one of this very request."""
    made.used.add(link.id)
    yield from _check_slots(asked, link)
    version = next((one for one in made.new_versions
                    if link.target == one.entry.id or link.target.lower() == one.old.uuid), None)
    held = version.old if version else asked.by_uuid(link.target)
    if held is None or held.claim.kind == claims.SET or _is_of_set(asked, held):
        yield asked.find(STATUS_TARGET, asked.where(link.id, "targetObject"), link.target, " | ".join(KINDS.values()))
        return
    if version is None and not asked.owns(held.claim.patient_id):
        yield asked.find(PATIENTS_JOINED, asked.where(link.id, "targetObject"), link.target, asked.patient.cx)
    if held.uuid in made.restated:
        yield asked.find(TWICE, asked.where(link.id, "targetObject"), link.target)
    made.restated.add(held.uuid)
    status = version.status if version else asked.status_of(held)
    event = life.STATUS_EVENTS.get(asked.slot(link, "NewStatus"), "")
    after, _ = life.TRANSITIONS.get((status, event), ("", ""))
    if found := list(_check_statuses(asked, link, status, event)):
        yield from found
    elif not after or held.row.current != life.NEWEST:
        yield _state(asked, link.id, "targetObject", held, status, event)
    elif version is not None:
        made.new_versions[made.new_versions.index(version)] = replace(version, status=after)
    else:
        made.status_changes.append(StatusChange(held, after))


def _check_statuses(asked: Asked, link: Association, status: str, event: str) -> Iterator[Finding]:
    """OriginalStatus is the status registered, NewStatus one there is."""
    original, wanted = asked.slot(link, "OriginalStatus"), asked.slot(link, "NewStatus")
    if original != status:
        yield asked.find(STATUS_VALUES, asked.where(link.id, "OriginalStatus"), original, status,
                         attribute="OriginalStatus")
    if not event:
        yield asked.find(STATUS_VALUES, asked.where(link.id, "NewStatus"), wanted, " | ".join(life.STATUS_EVENTS),
                         attribute="NewStatus")


def _is_of_set(asked: Asked, held: Held) -> bool:
    """Whether an association starts at a submission set: those never change."""
    if held.claim.kind != claims.ASSOCIATION:
        return False
    source = versions.by_uuid(asked.connection, held.row.source)
    return source is not None and source.claim.kind == claims.SET


# --- a new relationship --------------------------------------------------------------------------------------------


def _plan_link(asked: Asked, operation: Association, made: Plan) -> Iterator[Finding]:
    """SubmitAssociation from the set to an association of the request between older objects (§3.57.4.1.3.3.7)."""
    made.used.add(operation.id)
    yield from _check_slots(asked, operation)
    link = next((link for link in asked.submission.associations if link.id == operation.target), None)
    if link is None:
        yield asked.find(state.UNRESOLVED, asked.where(operation.id, "targetObject"), operation.target)
        return
    made.used.add(link.id)
    if link.lid.lower() not in {"", link.id.lower()}:
        yield asked.find(LINK_VERSION, asked.where(link.id, "lid"), link.lid)
    for attribute, end, kind in (("sourceObject", link.source, ENDS.get(link.type, "")[:1]),
                                 ("targetObject", link.target, ENDS.get(link.type, "")[1:])):
        yield from _check_end(asked, link, attribute, end, kind, made)
    if _is_there(asked, link) or any(_same(link, other) for other in made.links):
        yield asked.find(LINK_TWICE, asked.where(link.id), link.id, type=link.type.rpartition(":")[2])
    made.links.append(link)


def _check_end(asked: Asked, link: Association, attribute: str, end: str, kind: str, made: Plan) -> Iterator[Finding]:
    """An end is registered, of the right kind, the newest version, in force, and this patient's."""
    held, where = asked.by_uuid(end), asked.where(link.id, attribute)
    text = asked.reader.book.text_of
    sound = (held is not None and held.claim.kind == kind and held.row.current == life.NEWEST
             and asked.status_of(held) == APPROVED and (link.type != IS_SNAPSHOT_OF
                  or text(asked.connection, held.row.object_type) == SNAPSHOT[attribute]))
    if not sound:
        yield asked.find(LINK, where, end, f"{KINDS.get(kind, '—')}, Approved", attribute=attribute,
                         type=link.type.rpartition(":")[2])
    if held is not None and not asked.owns(held.claim.patient_id):
        yield asked.find(PATIENTS_JOINED, where, end, asked.patient.cx)
    if held is not None and held.uuid in made.touched():
        yield asked.find(CONFLICT, where, end)


def _same(link: Association, other: Association) -> bool:
    return (link.type, link.source.lower(), link.target.lower()) == (
        other.type, other.source.lower(), other.target.lower())


def _is_there(asked: Asked, link: Association) -> bool:
    """Whether the same relationship is in force already (test 20008)."""
    table, book = association.c, asked.reader.book
    kinds = book.find(asked.connection, [(link.type, NAMES)])
    return asked.connection.execute(select(table.id).where(
        table.patient_id.in_(asked.patient.ids), table.source == link.source.lower(),
        table.target == link.target.lower(), table.type.in_(kinds),
        table.status == book.id_of(APPROVED))).first() is not None


Read = Callable[[Asked, Association, Plan], Iterator[Finding]]

#: Type of an association that starts at the submission set -> how the operation it stands for is read
OPERATIONS: Mapping[str, Read] = {
    HAS_MEMBER: _plan_version, UPDATE_AVAILABILITY: _plan_status, SUBMIT_ASSOCIATION: _plan_link}
RESTRICTED_OPERATIONS: Mapping[str, Read] = {HAS_MEMBER: _plan_version}
OPERATIONS_SHOWN = "HasMember + PreviousVersion | UpdateAvailabilityStatus | SubmitAssociation"
