"""Updating what is registered: new versions, statuses, links (ITI-57), and the restricted way (ITI-92).

What may be asked for is `registry.operations`; here it is carried out, in one database transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

from journal import outbox
from journal.database import take_turns
from journal.ids import new_uuid
from registry import claims, effects, operations, patients, propagation, rows, versions
from registry.claims import Claim
from registry.operations import Asked, Plan
from registry.reader import Reader
from registry.register import Registry, contended, fingerprint_of, refuse
from registry.requirements import RULES
from registry.rows import StoredDocument, Version
from registry.rules import UPDATES
from registry.tables import outbox as outbox_table
from registry.versions import Held
from security.access import Gate
from xds import ebxml
from xds.findings import Refused
from xds.model import DocumentEntry, Submission
from xds.vocabulary import HAS_MEMBER

OVERTAKEN = RULES["V-UPD-OVERTAKEN"]


def update(registry: Registry, submission: Submission, restricted: bool = False,
           gate: Gate | None = None) -> Mapping[str, str]:
    """Carry out a request; submitted id -> entryUUID. Refused with every finding, and nothing changed.

    `gate`: what it hides from the caller does not exist here either.
    """
    kept = without_operations(submission)
    registry.book.ensure(rows.prepare(kept, {}, datetime.now(UTC), new_uuid).codes)
    with registry.database.write() as connection:
        take_turns(connection, contended(submission))
        patient = patients.require(connection, submission.submission_set.patient_id, registry.domain)
        asked = Asked(Reader(connection, registry.book, gate or Gate()), submission, patient, restricted)
        plan = operations.plan(asked)
        refuse(plan.findings)
        return _apply(asked, kept, plan)


def without_operations(submission: Submission) -> Submission:
    """The submission without the associations that only say what to do: they are not registered (§3.57.4.1.3.3)."""
    objects = [thing for thing in submission.objects
               if thing.kind != "Association" or thing.association_type not in UPDATES]
    return ebxml.to_submission(objects, submission.references)


def _apply(asked: Asked, kept: Submission, plan: Plan) -> Mapping[str, str]:
    connection, patient, book = asked.connection, asked.patient, asked.reader.book
    prepared = rows.prepare(kept, _documents(plan), datetime.now(UTC), new_uuid, {
        one.entry.id: Version(one.old.row.lid, one.old.row.version + 1, one.status) for one in plan.new_versions})
    rows.insert(connection, prepared, patient, book, fingerprint_of(kept, {}))
    for one in plan.new_versions:
        uuid = prepared.ids[one.entry.id]
        new = Claim(one.old.claim.kind, patient.id, prepared.internal[uuid])
        _check(asked, one.old, versions.supersede(connection, one.old, book.id_of(one.old_status), new))
    for change in plan.status_changes:
        _check(asked, change.target, versions.set_status(connection, change.target, book.id_of(change.status)))
    propagation.insert_all(connection, plan.copies, prepared.ids, patient, book)
    touched = effects.apply(connection, prepared, patient, book)
    folders = set(_folders(asked, plan))
    effects.touch(connection, patient, folders, prepared.now)
    _tell(asked, plan, prepared, touched.deprecated, folders | touched.folders)
    return prepared.ids


def _documents(plan: Plan) -> dict[str, StoredDocument]:
    """What the repository keeps goes over to the new version of its metadata."""
    return {one.entry.id: StoredDocument(one.old.row.storage_key, one.old.row.size, one.old.row.hash,
                                         one.old.row.sha256)
            for one in plan.new_versions if isinstance(one.entry, DocumentEntry) and one.old.row.storage_key}


def _check(asked: Asked, held: Held, changed: bool) -> None:
    """Where several may write at once, the first one wins."""
    if not changed:
        raise Refused(OVERTAKEN.at(asked.where(asked.submission.submission_set.id), received=held.uuid))


def _folders(asked: Asked, plan: Plan) -> Iterator[str]:
    """Folders whose content is another now: by copies, and by memberships that got another status."""
    yield from propagation.folders(asked.connection, plan.copies, asked.reader.book)
    for change in plan.status_changes:
        if change.target.claim.kind == claims.ASSOCIATION \
                and asked.reader.book.text_of(asked.connection, change.target.row.type) == HAS_MEMBER:
            yield change.target.row.source


def _tell(asked: Asked, plan: Plan, prepared: rows.Prepared, deprecated: Collection[str],
          folders: Collection[str]) -> None:
    """One event for the patient, and one for each patient who lost an object to this one."""
    lost: dict[int, list[str]] = {}
    for one in plan.new_versions:
        lost.setdefault(asked.patient.id if asked.owns(one.old.claim.patient_id) else one.old.claim.patient_id,
                        []).append(one.old.uuid)
    outbox.append(asked.connection, outbox_table, asked.patient.id, "update", {
        "set": prepared.ids[asked.submission.submission_set.id],
        "versions": [prepared.ids[one.entry.id] for one in plan.new_versions],
        "superseded": lost.pop(asked.patient.id, []),
        "statuses": [change.target.uuid for change in plan.status_changes],
        "deprecated": sorted(deprecated), "folders": sorted(folders)})
    for owner, uuids in lost.items():
        outbox.append(asked.connection, outbox_table, owner, "update", {"superseded": uuids})
