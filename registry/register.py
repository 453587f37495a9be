"""Registering a submission: one database transaction, all or nothing (ITI TF-2 §3.42, ITI TF-3 §4.1.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from journal import outbox
from journal.database import Database, take_turns
from journal.ids import new_uuid
from registry import claims, effects, patients, rows, state
from registry.affinity import AffinityDomain
from registry.codes import CodeBook
from registry.patients import Patient
from registry.requirements import RULES
from registry.rows import StoredDocument
from registry.rules import unique_ids
from registry.tables import document, submission_set
from registry.tables import outbox as outbox_table
from xds import ebxml, rim
from xds.findings import Finding, Refused, Where, errors
from xds.model import Submission

REPEATED = RULES["V-REG-SUBMISSION-REPEATED"]


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry of one affinity domain."""

    database: Database
    book: CodeBook
    domain: AffinityDomain


@dataclass(frozen=True, slots=True)
class Registered:
    """Outcome: submitted id -> entryUUID. `repeated`: the same set was there already and nothing was added."""

    ids: Mapping[str, str]
    patient: Patient
    repeated: bool = False
    findings: tuple[Finding, ...] = field(default=())


def register(registry: Registry, submission: Submission, stored: Mapping[str, StoredDocument] | None = None,
             accept_repeat: bool = False) -> Registered:
    """Check a submission against the registry and commit it; Refused with every finding, and nothing kept.

    `stored` maps submitted document ids to what the repository kept. `accept_repeat`: a submission set that comes
    again with the same content is answered with its first success (a retry whose answer was lost).
    """
    documents = stored or {}
    prepared = rows.prepare(submission, documents, datetime.now(UTC), new_uuid)
    registry.book.ensure(prepared.codes)
    with registry.database.write() as connection:
        take_turns(connection, contended(submission))
        patient = patients.require(connection, submission.submission_set.patient_id, registry.domain)
        fingerprint = fingerprint_of(submission, documents)
        earlier = _earlier(connection, submission, patient, fingerprint) if accept_repeat else None
        if earlier is not None:
            return earlier
        known = state.look_up(connection, submission)
        refuse(state.check(connection, submission, patient, known, registry.book))
        rows.insert(connection, prepared, patient, registry.book, fingerprint)
        touched = effects.apply(connection, prepared, patient, registry.book)
        outbox.append(connection, outbox_table, patient.id, "submission", {
            "set": prepared.ids[submission.submission_set.id], "deprecated": sorted(touched.deprecated),
            "documents": [prepared.ids[entry.id] for entry in submission.documents],
            "folders": sorted({prepared.ids[entry.id] for entry in submission.folders} | touched.folders)})
    return Registered(prepared.ids, patient)


def contended(submission: Submission) -> set[str]:
    """Identifiers that another submission may bring at the same moment: patient, uniqueIds, entryUUIDs."""
    return {submission.submission_set.patient_id, *(unique_id for _, unique_id in unique_ids(submission)),
            *(thing.id.lower() for thing in submission.objects if rim.is_uuid_urn(thing.id))}


def refuse(findings: Iterable[Finding]) -> None:
    """Raise what forbids going on, with the warnings beside it."""
    found = list(findings)
    if errors(found):
        raise Refused(found)


def fingerprint_of(submission: Submission, stored: Mapping[str, StoredDocument]) -> bytes:
    """What makes two submissions the same: their objects as sent, apart from what differs by nature, and documents."""
    digest = hashlib.sha256()
    for thing in submission.objects:
        digest.update(rim.write(replace(thing, line=0)).encode())
    for identity in sorted(stored):
        digest.update(stored[identity].sha256)
    return digest.digest()


def _earlier(connection: Connection, submission: Submission, patient: Patient, fingerprint: bytes) -> Registered | None:
    """The outcome of the same submission received before; None when its uniqueId is new or its content differs."""
    the_set = submission.submission_set
    holders = claims.find(connection, [the_set.unique_id]).get(the_set.unique_id, [])
    if not holders or holders[0].kind != claims.SET or holders[0].patient_id not in patient.ids:
        return None
    found = connection.execute(select(submission_set).where(
        submission_set.c.patient_id == holders[0].patient_id, submission_set.c.id == holders[0].object_id)).one()
    if found.fingerprint != fingerprint:
        return None
    ids = {the_set.id: found.uuid, **_ids_of(connection, submission, patient, found.id)}
    where = Where("metadata", path=f"SubmissionSet({the_set.id})/uniqueId")
    return Registered(ids, patient, True, (REPEATED.at(where, received=the_set.unique_id),))


def _ids_of(connection: Connection, submission: Submission, patient: Patient, set_id: int) -> dict[str, str]:
    """Entries of that very set: others may have the same uniqueId."""
    known = connection.execute(select(document.c.unique_id, document.c.uuid).where(
        document.c.patient_id.in_(patient.ids), document.c.submission_set_id == set_id)).all()
    uuids = {row.unique_id: row.uuid for row in known}
    return {entry.id: uuids[entry.unique_id] for entry in submission.documents if entry.unique_id in uuids}


def with_documents(submission: Submission, stored: Mapping[str, StoredDocument],
                   repository_unique_id: str) -> Submission:
    """The submission with hash, size and repositoryUniqueId as the repository knows them (ITI TF-2 §3.41.4.1.3)."""
    objects: list[rim.RegistryObject] = []
    for thing in submission.objects:
        kept = stored.get(thing.id) if thing.kind == "ExtrinsicObject" else None
        objects.append(_with_slots(thing, {
            "hash": kept.sha1, "size": str(kept.size), "repositoryUniqueId": repository_unique_id}) if kept else thing)
    return ebxml.to_submission(objects, submission.references)


def _with_slots(thing: rim.RegistryObject, values: Mapping[str, str]) -> rim.RegistryObject:
    kept: Sequence[rim.Slot] = [slot for slot in thing.slots if slot.name not in values]
    return replace(thing, slots=(*kept, *(rim.Slot(name, (value,)) for name, value in values.items())))
