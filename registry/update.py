"""Updating what is registered: new versions, statuses, links (ITI-57), and the restricted way (ITI-92).

One request may hold several operations; all succeed or none (ITI TF-2 §3.57.4.1.3). What an operation may do in
which state is `registry.life`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from journal import outbox
from journal.ids import new_uuid
from registry import claims, life, patients, rows, state, versions
from registry.claims import Claim
from registry.patients import Patient
from registry.register import Registry, fingerprint_of, refuse
from registry.requirements import RULES, place
from registry.rows import StoredDocument, Version
from registry.rules import UPDATES
from registry.tables import association
from registry.tables import outbox as outbox_table
from registry.versions import Newest
from xds import ebxml, hl7
from xds.findings import Finding, Where
from xds.model import Association, DocumentEntry, Folder, Submission
from xds.vocabulary import (
    APPROVED,
    HAS_MEMBER,
    RELATIONSHIPS,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY,
)

NO_OPERATION = RULES["V-UPD-NO-OPERATION"]
FIRST_VERSION = RULES["V-UPD-FIRST-VERSION"]
VERSION_UNKNOWN = RULES["V-UPD-VERSION-UNKNOWN"]
VERSION_STALE = RULES["V-UPD-VERSION-STALE"]
STATE = RULES["V-UPD-STATE"]
IDENTITY = RULES["V-UPD-IDENTITY"]
TWICE = RULES["V-UPD-TWICE"]
PROPAGATION = RULES["V-UPD-PROPAGATION"]
STATUS_TARGET = RULES["V-UPD-STATUS-TARGET"]
STATUS_VALUES = RULES["V-UPD-STATUS-VALUES"]
PATIENTS_JOINED = RULES["V-UPD-PATIENTS-JOINED"]
LINK = RULES["V-UPD-LINK"]
STOWAWAY = RULES["V-UPD-STOWAWAY"]
UNMODIFIABLE = RULES["V-UPD-UNMODIFIABLE"]
RESTRICTED_CONTENT = RULES["V-UPD-RESTRICTED-CONTENT"]

#: What a restricted update keeps as it is (ITI TF-2 §3.92): attribute -> name in the standard
FIXED = {"source_patient_id": "sourcePatientId", "hash": "hash", "size": "size", "object_type": "objectType",
         "repository_unique_id": "repositoryUniqueId", "availability": "documentAvailability"}


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A new version of a document's or a folder's metadata."""

    entry: DocumentEntry | Folder
    link: Association
    old: Newest
    status: str
    old_status: str

    @property
    def propagates(self) -> bool:
        """Whether relationships go over to the new version (slot AssociationPropagation, default yes)."""
        return _slot(self.link, "AssociationPropagation") != "no"


@dataclass(frozen=True, slots=True)
class StatusChange:
    """Another status for the newest version of an object."""

    target: Newest
    status: str


@dataclass(slots=True)
class Plan:
    """Everything a request asks for, and everything that is wrong with it."""

    new_versions: list[NewVersion] = field(default_factory=list)
    status_changes: list[StatusChange] = field(default_factory=list)
    links: list[Association] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def update(registry: Registry, submission: Submission, restricted: bool = False) -> Mapping[str, str]:
    """Carry out a request; submitted id -> entryUUID. Refused with every finding, and nothing changed."""
    kept = without_operations(submission)
    with registry.database.read() as connection:
        registry.book.ensure(rows.prepare(kept, {}, datetime.now(UTC), new_uuid).codes)
        patients.require(connection, submission.submission_set.patient_id, registry.domain)
    with registry.database.write() as connection:
        patient = patients.require(connection, submission.submission_set.patient_id, registry.domain)
        plan = plan_of(connection, registry, submission, patient, restricted)
        refuse(plan.findings)
        return _apply(connection, registry, kept, plan, patient)


def without_operations(submission: Submission) -> Submission:
    """The submission without the associations that only say what to do: they are not registered (§3.57.4.1.3.3)."""
    objects = [thing for thing in submission.objects
               if thing.kind != "Association" or thing.association_type not in UPDATES]
    return ebxml.to_submission(objects, submission.references)


# --- planning ------------------------------------------------------------------------------------------------------


def plan_of(connection: Connection, registry: Registry, submission: Submission, patient: Patient,
            restricted: bool) -> Plan:
    """Operations of a request, each against the state of what it names."""
    plan = Plan()
    the_set = submission.submission_set.id
    plan.findings += _unique_set(connection, submission)
    for link in submission.associations:
        if link.source == the_set and link.type == HAS_MEMBER:
            _plan_version(connection, registry, submission, link, plan, restricted)
        elif link.source == the_set and link.type == UPDATE_AVAILABILITY:
            _plan_status(connection, registry, submission, link, plan, patient)
        elif link.source == the_set and link.type == SUBMIT_ASSOCIATION:
            _plan_link(connection, registry, submission, link, plan, patient)
    if restricted:
        plan.findings += _only_documents(submission, plan)
    if not (plan.new_versions or plan.status_changes or plan.links or plan.findings):
        plan.findings.append(NO_OPERATION.at(_where(submission, the_set), expected=(
            "HasMember + PreviousVersion | UpdateAvailabilityStatus | SubmitAssociation")))
        return plan
    plan.findings += _stowaways(submission, plan)
    plan.findings += state.check_uuids(submission, state.look_up(connection, submission))
    return plan


def _stowaways(submission: Submission, plan: Plan) -> Iterator[Finding]:
    """What no operation names would be registered without anyone having looked at it."""
    the_set = submission.submission_set.id
    objects = {entry.id for entry in submission.documents} | {entry.id for entry in submission.folders}
    submitted = {link.id for link in plan.links}
    members = {link.id: link.target for link in submission.associations if link.source == the_set
               and link.type == HAS_MEMBER and link.target in objects | submitted}
    for identity in sorted(objects - set(members.values())):
        yield FIRST_VERSION.at(_where(submission, identity, "lid"), received=identity)
    for link in submission.associations:
        operation = link.source == the_set and link.type in UPDATES
        if not operation and link.id not in submitted and link.id not in members:
            yield STOWAWAY.at(_where(submission, link.id), received=link.id, type=link.type.rpartition(":")[2])


def _unique_set(connection: Connection, submission: Submission) -> Iterator[Finding]:
    the_set = submission.submission_set
    if the_set.unique_id in claims.find(connection, [the_set.unique_id]):
        yield state.UNIQUE_ID_USED.at(_where(submission, the_set.id, "uniqueId"), received=the_set.unique_id)


def _plan_version(connection: Connection, registry: Registry, submission: Submission, link: Association, plan: Plan,
                  restricted: bool) -> None:
    entries: list[DocumentEntry | Folder] = [*submission.documents, *submission.folders]
    entry = next((thing for thing in entries if thing.id == link.target), None)
    if entry is None:
        return
    where = _where(submission, entry.id, "lid")
    if not entry.lid or entry.lid == entry.id or not link.previous_version:
        plan.findings.append(_coded(FIRST_VERSION.at(where, received=entry.id),
                                    "XDSMetadataAnnotationError" if restricted else ""))
        return
    old = versions.find(connection, entry.lid)
    if old is None or old.claim.kind != (claims.DOCUMENT if isinstance(entry, DocumentEntry) else claims.FOLDER):
        plan.findings.append(VERSION_UNKNOWN.at(where, received=entry.lid))
        return
    if any(other.old.row.lid == old.row.lid for other in plan.new_versions):
        plan.findings.append(TWICE.at(where, received=entry.lid))
    status = registry.book.text_of(connection, old.row.status)
    event = life.RESTRICTED if restricted else life.UPDATE
    after, new = life.TRANSITIONS.get((status, event), ("", ""))
    plan.findings += _check_version(submission, entry, link, old, restricted)
    if not new:
        plan.findings.append(STATE.at(where, received=old.uuid, status=status.rpartition(":")[2], event=event))
    if isinstance(entry, DocumentEntry):
        check = _check_restricted if restricted else _check_type
        plan.findings += check(submission, entry, versions.entry_of(connection, old, registry.book))
    plan.new_versions.append(NewVersion(entry, link, old, new or status, after or status))


def _check_version(submission: Submission, entry: DocumentEntry | Folder, link: Association, old: Newest,
                   restricted: bool) -> Iterator[Finding]:
    """PreviousVersion is the newest, and what identifies the object is the same (§3.57.4.1.3.3.1)."""
    if link.previous_version != str(old.row.version):
        yield VERSION_STALE.at(_where(submission, link.id, "PreviousVersion"), expected=old.row.version,
                               received=link.previous_version)
    if entry.unique_id != old.row.unique_id:
        yield _coded(IDENTITY.at(_where(submission, entry.id, "uniqueId"), expected=old.row.unique_id,
                                 received=entry.unique_id, attribute="uniqueId"),
                     "XDSMetadataIdentifierError" if restricted else "")
    propagation = _slot(link, "AssociationPropagation")
    if propagation not in {"", "yes", "no"}:
        yield PROPAGATION.at(_where(submission, link.id, "AssociationPropagation"), expected="yes | no",
                             received=propagation)


def _check_type(submission: Submission, entry: DocumentEntry, old: DocumentEntry) -> Iterator[Finding]:
    """A stable document stays one, and an entry on demand too."""
    if entry.object_type != old.object_type:
        yield IDENTITY.at(_where(submission, entry.id, "objectType"), expected=old.object_type,
                          received=entry.object_type, attribute="objectType")


def _check_restricted(submission: Submission, entry: DocumentEntry, old: DocumentEntry) -> Iterator[Finding]:
    """A restricted update leaves identity and content alone (ITI TF-2 §3.92.4.1.3)."""
    for attribute, name in FIXED.items():
        before, now = getattr(old, attribute), getattr(entry, attribute)
        if before.lower() != now.lower():
            yield UNMODIFIABLE.at(_where(submission, entry.id, name), expected=before, received=now, attribute=name)
    if not hl7.same_patient(old.patient_id, entry.patient_id):
        yield _coded(IDENTITY.at(_where(submission, entry.id, "patientId"), expected=old.patient_id,
                                 received=entry.patient_id, attribute="patientId"), "XDSPatientIDReconciliationError")


def _only_documents(submission: Submission, plan: Plan) -> Iterator[Finding]:
    others = [*(thing.id for thing in submission.folders), *(link.id for link in plan.links),
              *(link.id for link in submission.associations if link.type in UPDATES)]
    for identity in others:
        yield RESTRICTED_CONTENT.at(_where(submission, identity), received=identity)


def _plan_status(connection: Connection, registry: Registry, submission: Submission, link: Association,
                 plan: Plan, patient: Patient) -> None:
    where = _where(submission, link.id, "targetObject")
    target = versions.by_uuid(connection, link.target)
    if target is None or target.claim.kind == claims.SET or _of_a_set(connection, target):
        plan.findings.append(STATUS_TARGET.at(where, expected="DocumentEntry | Folder | Association",
                                              received=link.target))
        return
    if target.claim.patient_id != patient.id:
        plan.findings.append(PATIENTS_JOINED.at(where, expected=patient.cx, received=link.target))
        return
    status = registry.book.text_of(connection, target.row.status)
    original, wanted = _slot(link, "OriginalStatus"), _slot(link, "NewStatus")
    event = life.STATUS_EVENTS.get(wanted, "")
    after, _ = life.TRANSITIONS.get((status, event), ("", ""))
    if original != status or not event:
        plan.findings.append(STATUS_VALUES.at(_where(submission, link.id, "OriginalStatus"), expected=status,
                                              received=original, allowed=" | ".join(life.STATUS_EVENTS)))
    elif not after or not target.row.current:
        plan.findings.append(STATE.at(where, received=link.target, status=status.rpartition(":")[2], event=event))
    else:
        plan.status_changes.append(StatusChange(target, after))


def _of_a_set(connection: Connection, target: Newest) -> bool:
    """Whether an association starts at a submission set: those never change."""
    if target.claim.kind != claims.ASSOCIATION:
        return False
    source = versions.by_uuid(connection, target.row.source)
    return source is not None and source.claim.kind == claims.SET


def _plan_link(connection: Connection, registry: Registry, submission: Submission, operation: Association,
               plan: Plan, patient: Patient) -> None:
    link = next((link for link in submission.associations if link.id == operation.target), None)
    if link is None:
        plan.findings.append(state.UNRESOLVED.at(_where(submission, operation.id, "targetObject"),
                                                 received=operation.target))
        return
    ends = [versions.by_uuid(connection, end) for end in (link.source, link.target)]
    plan.findings += _check_link(connection, registry, submission, link, ends, patient)
    plan.links.append(link)


def _check_link(connection: Connection, registry: Registry, submission: Submission, link: Association,
                ends: list[Newest | None], patient: Patient) -> Iterator[Finding]:
    """Both ends registered, newest, in force, of one patient and of the right kind; no twin (§3.57.4.1.3.3.4)."""
    where = _where(submission, link.id)
    kinds = "d,d" if link.type in RELATIONSHIPS else "f,d" if link.type == HAS_MEMBER else ""
    found = [end for end in ends if end is not None]
    given = ",".join(end.claim.kind for end in found)
    sound = len(found) == 2 and given == kinds and all(
        end.row.current and registry.book.text_of(connection, end.row.status) == APPROVED for end in found)
    if len({end.claim.patient_id for end in found} | {patient.id}) > 1:
        yield PATIENTS_JOINED.at(where, expected=patient.cx, received=link.id)
    elif not sound or link.lid not in {"", link.id} or _twin(connection, registry, link, patient):
        yield LINK.at(where, expected={"d,d": "DocumentEntry, DocumentEntry", "f,d": "Folder, DocumentEntry"}.get(
            kinds, "—"), type=link.type.rpartition(":")[2], source=link.source, target=link.target)


def _twin(connection: Connection, registry: Registry, link: Association, patient: Patient) -> bool:
    table = association.c
    kinds = registry.book.find(connection, [(link.type, "")])
    return connection.execute(select(table.id).where(
        table.patient_id == patient.id, table.source == link.source.lower(), table.target == link.target.lower(),
        table.type.in_(kinds), table.status == registry.book.id_of(APPROVED))).first() is not None


# --- carrying out --------------------------------------------------------------------------------------------------


def _apply(connection: Connection, registry: Registry, kept: Submission, plan: Plan,
           patient: Patient) -> Mapping[str, str]:
    further = {one.entry.id: Version(one.old.row.lid, one.old.row.version + 1, one.status)
               for one in plan.new_versions}
    documents = {one.entry.id: StoredDocument(one.old.row.storage_key, one.old.row.size, one.old.row.hash,
                                              one.old.row.sha256)
                 for one in plan.new_versions if isinstance(one.entry, DocumentEntry) and one.old.row.storage_key}
    prepared = rows.prepare(kept, documents, datetime.now(UTC), new_uuid, further)
    rows.insert(connection, prepared, patient, registry.book, fingerprint_of(kept, {}))
    for one in plan.new_versions:
        _replace(connection, registry, one, prepared, patient)
    for change in plan.status_changes:
        versions.set_status(connection, change.target, registry.book.id_of(change.status))
    outbox.append(connection, outbox_table, patient.id, "update", {
        "set": prepared.ids[kept.submission_set.id],
        "versions": [prepared.ids[one.entry.id] for one in plan.new_versions],
        "statuses": [change.target.uuid for change in plan.status_changes],
        "folders": sorted({link.source for link in plan.links if link.type == HAS_MEMBER})})
    return prepared.ids


def _replace(connection: Connection, registry: Registry, one: NewVersion, prepared: rows.Prepared,
             patient: Patient) -> None:
    uuid = prepared.ids[one.entry.id]
    new = Claim(one.old.claim.kind, patient.id, prepared.internal[uuid])
    versions.supersede(connection, one.old, registry.book.id_of(one.old_status), new)
    if one.propagates and one.old.claim.patient_id == patient.id:
        versions.propagate(connection, one.old, uuid, _sets_of(connection, one.old), registry.book)


def _sets_of(connection: Connection, old: Newest) -> Iterable[str]:
    """UUIDs of the submission sets that hold the old version: their links are history and stay."""
    table = association.c
    sources = connection.execute(select(table.source).where(
        table.patient_id == old.claim.patient_id, table.target == old.uuid)).scalars().all()
    held = claims.find(connection, sources)
    return [source for source, holders in held.items() if holders[0].kind == claims.SET]


# --- small things --------------------------------------------------------------------------------------------------


def _slot(link: Association, name: str) -> str:
    return next((slot.values[0] for slot in link.extra_slots if slot.name == name and slot.values), "")


def _coded(finding: Finding, code: str) -> Finding:
    return replace(finding, xds_override=code) if code else finding


def _where(submission: Submission, identity: str, attribute: str = "") -> Where:
    thing = next((thing for thing in submission.objects if thing.id == identity), None)
    return place(thing, attribute) if thing else Where("metadata", path=identity)
