"""What a submission does to what was there: replacement, its consequences, folders (ITI TF-3 §4.2.2.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from journal.ids import bucket, new_id, new_uuid
from registry import claims, stored
from registry.claims import Claim
from registry.codes import CodeBook
from registry.patients import Patient
from registry.requirements import RULES
from registry.rows import Prepared, stamp
from registry.tables import association, document, folder, identifier_claim
from xds.findings import Refused, Where
from xds.rim import RegistryObject
from xds.vocabulary import APND, APPROVED, ASSOCIATION, DEPRECATED, HAS_MEMBER, REPLACEMENTS, XFRM

DEPRECATED_TARGET = RULES["V-REG-TARGET-DEPRECATED"]


@dataclass(frozen=True, slots=True)
class Touched:
    """entryUUIDs that changed beside what was submitted."""

    deprecated: frozenset[str]
    folders: frozenset[str]


def apply(connection: Connection, prepared: Prepared, patient: Patient, book: CodeBook) -> Touched:
    """Deprecate what was replaced, let new versions take its place in folders, move the folders' times."""
    links = prepared.submission.associations
    replaced = dict.fromkeys((link.target, link.source) for link in links if link.type in REPLACEMENTS)
    deprecated = _with_dependents(connection, patient, {old for old, _ in replaced}, book)
    _replace(connection, patient, {old for old, _ in replaced}, book)
    _deprecate(connection, patient, deprecated, book)
    followed = [place for old, new in replaced for place in _follow(connection, prepared, patient, old, new, book)]
    grown = {link.source for link in links if link.type == HAS_MEMBER and link.source not in prepared.objects}
    touched = grown | set(followed)
    touch(connection, patient, touched, prepared.now)
    return Touched(frozenset(deprecated), frozenset(touched))


def touch(connection: Connection, patient: Patient, folders: Iterable[str], now: datetime) -> None:
    """The content of folders is another now (lastUpdateTime, ITI TF-3 §4.2.3.4.6)."""
    uuids = set(folders)
    if uuids:
        connection.execute(update(folder).where(folder.c.patient_id.in_(patient.ids), folder.c.uuid.in_(uuids))
                           .values(last_update_time=stamp(now)))


def _with_dependents(connection: Connection, patient: Patient, replaced: Iterable[str], book: CodeBook) -> set[str]:
    """The replaced documents and, transitively, their transformations and addenda (ITI TF-3 §4.2.2.2.3)."""
    dependent = [book.id_of(XFRM), book.id_of(APND)]
    found: set[str] = set()
    waiting = set(replaced)
    while waiting:
        found |= waiting
        sources = connection.execute(select(association.c.source).where(
            association.c.patient_id.in_(patient.ids), association.c.target.in_(waiting),
            association.c.type.in_(dependent), association.c.status == book.id_of(APPROVED))).scalars()
        waiting = set(sources) - found
    return found


def _replace(connection: Connection, patient: Patient, uuids: set[str], book: CodeBook) -> None:
    """Deprecate what is in force; Refused where several may write at once and another one was first."""
    for uuid in sorted(uuids):
        changed = connection.execute(update(document).where(
            document.c.patient_id.in_(patient.ids), document.c.uuid == uuid, document.c.status == book.id_of(APPROVED))
            .values(status=book.id_of(DEPRECATED))).rowcount
        if not changed:
            raise Refused(DEPRECATED_TARGET.at(Where("metadata", path="targetObject"), received=uuid))


def _deprecate(connection: Connection, patient: Patient, uuids: set[str], book: CodeBook) -> None:
    if uuids:
        connection.execute(update(document).where(document.c.patient_id.in_(patient.ids), document.c.uuid.in_(uuids))
                           .values(status=book.id_of(DEPRECATED)))


def _follow(connection: Connection, prepared: Prepared, patient: Patient, old: str, new: str,
            book: CodeBook) -> list[str]:
    """The new document joins each folder in force that holds the one it replaces (ITI TF-3 §4.2.2.2.3)."""
    holders = connection.execute(
        select(folder.c.uuid).join(association, association.c.source == folder.c.uuid)
        .where(folder.c.patient_id.in_(patient.ids), folder.c.status == book.id_of(APPROVED),
               association.c.patient_id.in_(patient.ids), association.c.target == old,
               association.c.type == book.id_of(HAS_MEMBER), association.c.status == book.id_of(APPROVED)).distinct()
    ).scalars().all()
    submitted = {(link.source, link.target) for link in prepared.submission.associations if link.type == HAS_MEMBER}
    holders = [holder for holder in holders if (holder, new) not in submitted]
    the_set = prepared.submission.submission_set.id
    for holder in holders:
        membership = _link(connection, patient, holder, new, book)
        _link(connection, patient, the_set, membership, book)
    return list(holders)


def _link(connection: Connection, patient: Patient, source: str, target: str, book: CodeBook) -> str:
    """A HasMember that the registry makes itself; returns its entryUUID."""
    identity, internal = new_uuid(), new_id()
    thing = RegistryObject("Association", identity, object_type=ASSOCIATION, association_type=HAS_MEMBER,
                           source=source, target=target)
    codec, xml = stored.pack(thing)
    row: dict[str, Any] = {
        "patient_id": patient.id, "id": internal, "bucket": bucket(patient.id), "uuid": identity, "lid": identity,
        "version": 1, "current": 1, "status": book.id_of(APPROVED), "home": "", "codec": codec, "xml": xml,
        "type": book.id_of(HAS_MEMBER), "source": source, "target": target}
    connection.execute(association.insert(), row)
    connection.execute(identifier_claim.insert(),
                       claims.row(identity, Claim(claims.ASSOCIATION, patient.id, internal)))
    return identity


