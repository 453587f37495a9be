"""A local identifier moves to another patient, and what was submitted under it moves along (ITI-64, ITI TF-2 §3.64).

Every document in force with that sourcePatientId gets a new version under the new patient, as metadata update would
have made it: the lid stays, the version goes up, the old one is deprecated. Folders go along when all that they hold
does; where only the local identifier changes, within one patient, they stay and hold the new versions as well.

Relationships between what moves are made anew between the new versions. One that would join two patients is dropped for
the new version and told as a warning (the first strategy of §3.64.4.1.3.2); the old version keeps it. Replacements
(RPLC) stay with the old versions without a word: what was replaced is deprecated and never moves (§3.64.4.1.3.1.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, or_, update

from journal import outbox
from journal.ids import new_uuid
from registry import claims, effects, identity_events, patients, propagation, rows, stored, versions
from registry.claims import Claim
from registry.life import MOVED, NEWEST
from registry.patients import Patient, key_of
from registry.propagation import Copy
from registry.reader import Reader, Row
from registry.register import Registry, fingerprint_of
from registry.requirements import RULES
from registry.rows import StoredDocument, Version
from registry.state import TABLES
from registry.tables import association, document, folder
from registry.tables import outbox as outbox_table
from security.access import Gate
from xds import ebxml, rim
from xds.feed import LinkChange
from xds.findings import Finding, Refused, Where
from xds.model import Association, Code, SubmissionSet
from xds.rim import RegistryObject, Slot
from xds.vocabulary import APPROVED, DEPRECATED, DOCUMENT, FOLDER, HAS_MEMBER, RELATIONSHIPS, REPLACEMENTS, RIM
from xds.xml import parse

NOTHING = RULES["V-REG-LINK-NOTHING"]
DROPPED = RULES["V-REG-LINK-DROPPED"]
SENDER = RULES["V-REG-LINK-SENDER"]
OVERTAKEN = RULES["V-UPD-OVERTAKEN"]

_SET = "Set"
_PATIENT_SCHEMES = frozenset({DOCUMENT.patient_id, FOLDER.patient_id})
_WHERE = Where("identity", path="PID-3")


@dataclass(frozen=True, slots=True)
class Moving:
    """One object that gets a new version: its row, what it is, and the symbol of the new version."""

    kind: str
    row: Row
    thing: RegistryObject
    symbol: str

    @property
    def claim(self) -> Claim:
        """Where the old version is."""
        return Claim(self.kind, self.row["patient_id"], self.row["id"])


@dataclass(slots=True)
class Change:
    """Everything that one message changes, by entryUUID of the old versions."""

    told: LinkChange
    new: Patient
    previous: Patient
    documents: dict[str, Moving] = field(default_factory=dict)
    folders: dict[str, Moving] = field(default_factory=dict)
    links: list[Association] = field(default_factory=list)
    grown: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    @property
    def within(self) -> bool:
        """Whether only the local identifier changes."""
        return self.new.id == self.previous.id


def change_link(registry: Registry, told: LinkChange) -> list[Finding]:
    """Carry out a message in one database transaction; warnings. Refused changes nothing."""
    content_type = registry.domain.link_change
    registry.book.ensure([*rows.BASIC_NAMES, (content_type.code, content_type.scheme)])
    with registry.database.write() as connection:
        known = [patients.require(connection, cx, registry.domain) for cx in (told.new, told.previous)]
        patients.lock(connection, frozenset[int]().union(*(patient.ids for patient in known)))
        new, previous = (patients.require(connection, cx, registry.domain) for cx in (told.new, told.previous))
        reader = Reader(connection, registry.book, Gate())
        reader.level = 2
        change = Change(told, new, previous)
        _gather_documents(reader, change)
        if change.documents:
            _gather_folders(reader, change)
            _gather_relationships(reader, change)
            _carry_out(registry, reader, change, content_type)
        else:
            change.findings.append(NOTHING.at(_WHERE, received=told.subsumed or told.local, expected=told.previous))
        _move_identifiers(connection, change)
    return change.findings


# --- what moves ----------------------------------------------------------------------------------------------------


def _gather_documents(reader: Reader, change: Change) -> None:
    """Documents in force under the local identifier or the one merged into it (§3.64.4.1.3)."""
    told, table = change.told, document.c
    owners = change.previous.ids | (change.new.ids if told.subsumed else frozenset())
    subsumed = key_of(told.subsumed) if told.subsumed else None
    for row in reader.documents(table.patient_id.in_(owners), table.status == reader.book.id_of(APPROVED),
                                table.current == NEWEST).values():
        thing = _read_back(reader, "document", row)
        source = _source_of(thing)
        renamed = source is not None and source == subsumed
        if renamed or (source == key_of(told.local) and row["patient_id"] not in change.new.ids):
            symbol = f"Document{len(change.documents) + 1}"
            moved = _renamed(thing, symbol, told.new, told.local if renamed else "")
            change.documents[row["uuid"]] = Moving(claims.DOCUMENT, row, moved, symbol)


def _source_of(thing: RegistryObject) -> tuple[str, str] | None:
    return key_of(next(iter(thing.slot("sourcePatientId")), ""))


def _renamed(thing: RegistryObject, symbol: str, patient: str, source: str = "") -> RegistryObject:
    """The object under a symbol and for a patient, and its nested elements without ids; `source`: "" leaves it."""
    slots = tuple(Slot(slot.name, (source,), slot.slot_type) if source and slot.name == "sourcePatientId" else slot
                  for slot in thing.slots)
    return replace(
        thing, id=symbol, slots=slots, classifications=tuple(replace(item, id="") for item in thing.classifications),
        external_identifiers=tuple(
            replace(item, id="", value=stored.succeeding(item.value, patient)
                    if item.scheme in _PATIENT_SCHEMES else item.value)
            for item in thing.external_identifiers))


def _gather_folders(reader: Reader, change: Change) -> None:
    """Folders in force that hold what moves, and the memberships of the new versions (§3.64.4.1.3.1.6)."""
    table = folder.c
    holders = {row["source"] for row in _memberships(reader, change, association.c.target.in_(change.documents))}
    found = {row["uuid"]: row for row in reader.folders(
        table.patient_id.in_(change.previous.ids), table.uuid.in_(holders),
        table.status == reader.book.id_of(APPROVED), table.current == NEWEST).values()}
    held: dict[str, set[str]] = {uuid: set() for uuid in found}
    for row in _memberships(reader, change, association.c.source.in_(found)):
        held[row["source"]].add(row["target"])
    for uuid, members in held.items():
        _gather_folder(reader, change, found[uuid], members)


def _gather_folder(reader: Reader, change: Change, row: Row, members: set[str]) -> None:
    symbol: str = row["uuid"]
    moving = [change.documents[uuid].symbol for uuid in sorted(members) if uuid in change.documents]
    if change.within:
        change.grown.add(symbol)
    elif _are_all_local(reader, change, members):
        symbol = f"Folder{len(change.folders) + 1}"
        thing = _renamed(_read_back(reader, "folder", row), symbol, change.told.new)
        change.folders[row["uuid"]] = Moving(claims.FOLDER, row, thing, symbol)
    else:
        change.findings.append(DROPPED.at(_WHERE, expected=change.told.new, received=row["uuid"]))
        return
    for number, target in enumerate(moving, 1):
        inner = f"{symbol.rpartition(':')[2]}-{number}"
        change.links += [Association(inner, HAS_MEMBER, symbol, target),
                         Association(f"Set-{inner}", HAS_MEMBER, _SET, inner)]


def _are_all_local(reader: Reader, change: Change, members: set[str]) -> bool:
    """Whether all that a folder holds, old versions too, has the local identifier."""
    ours = {key_of(change.told.local), key_of(change.told.subsumed) if change.told.subsumed else None} - {None}
    held = reader.by_identifiers(claims.DOCUMENT, members - set(change.documents))
    return all(_source_of(_read_back(reader, "document", row)) in ours for row in held.values())


def _memberships(reader: Reader, change: Change, condition: Any) -> Sequence[Row]:
    table, book = association.c, reader.book
    return list(reader.associations(table.patient_id.in_(change.previous.ids | change.new.ids), condition,
                                    table.type == book.id_of(HAS_MEMBER),
                                    table.status == book.id_of(APPROVED)).values())


def _gather_relationships(reader: Reader, change: Change) -> None:
    """Relationships in force of what moves: one new link each, or none (§3.64.4.1.3.1.5)."""
    table, book = association.c, reader.book
    types = book.find(reader.connection, ((name, "") for name in RELATIONSHIPS))
    links = reader.associations(
        table.patient_id.in_(change.previous.ids | change.new.ids), table.type.in_(types),
        table.status == book.id_of(APPROVED),
        or_(table.source.in_(change.documents), table.target.in_(change.documents)))
    for row in links.values():
        ends = [change.documents[end].symbol if end in change.documents else end
                for end in (row["source"], row["target"])]
        stays = [end for end in (row["source"], row["target"]) if end not in change.documents]
        owners = {claim.patient_id for holders in reader.patients_of(stays).values() for claim in holders}
        if owners <= change.new.ids:
            thing = _read_back(reader, "association", row)
            symbol = f"Link{len(change.links) + 1}"
            change.links.append(ebxml.to_association(replace(
                _renamed(thing, symbol, ""), source=ends[0], target=ends[1])))
        elif book.text_of(reader.connection, row["type"]) not in REPLACEMENTS:
            change.findings.append(DROPPED.at(_WHERE, expected=change.told.new, received=row["uuid"]))


def _read_back(reader: Reader, kind: str, row: Row) -> RegistryObject:
    """The object of a row, from its stored form."""
    names = {f"{column}_name": reader.book.text_of(reader.connection, row[column])
             for column in ("object_type", "type") if column in row}
    text = stored.render(kind, {**row, **names}, "")
    return rim.read_object(parse(f'<list xmlns:rim="{RIM}">{text}</list>'.encode())[0])


# --- carrying out --------------------------------------------------------------------------------------------------


def _carry_out(registry: Registry, reader: Reader, change: Change, content_type: Code) -> None:
    now, connection = datetime.now(UTC), reader.connection
    moving = [*change.documents.values(), *change.folders.values()]
    submission = ebxml.to_submission([
        ebxml.from_set(_set_of(registry, change, content_type, now)), *(one.thing for one in moving),
        *map(ebxml.from_association, (*_members(moving), *change.links))])
    prepared = rows.prepare(submission, {one.symbol: _stored(one.row) for one in change.documents.values()
                                         if one.row["storage_key"]}, now, new_uuid,
                            {one.symbol: Version(one.row["lid"], one.row["version"] + 1, APPROVED) for one in moving})
    registry.book.find(connection, prepared.codes)  # another process may have met them first
    rows.insert(connection, prepared, change.new, registry.book, fingerprint_of(submission, {}))
    for one in moving:
        uuid = prepared.ids[one.symbol]
        _supersede(registry, connection, one, Claim(one.kind, change.new.id, prepared.internal[uuid]))
    _refer_anew(reader, change, prepared.ids)
    effects.touch(connection, change.new, change.grown, now)
    _tell(connection, change, prepared.ids)


def _set_of(registry: Registry, change: Change, content_type: Code, now: datetime) -> SubmissionSet:
    """The set that the registry makes for the change (table 3.64.4.1.3.1.1-1)."""
    source = change.told.sender
    if not source:
        source = registry.domain.repository_unique_id
        change.findings.append(SENDER.at(Where("identity", path="MSH-3"), expected=source, received="—"))
    return SubmissionSet(_SET, f"2.25.{uuid4().int}", source, change.told.new, rows.stamp(now),
                         content_type=content_type)


def _members(moving: Sequence[Moving]) -> Iterator[Association]:
    for one in moving:
        status = "Original" if one.kind == claims.DOCUMENT else ""
        yield Association(f"Set-{one.symbol}", HAS_MEMBER, _SET, one.symbol, submission_set_status=status,
                          previous_version=str(one.row["version"]))


def _stored(row: Row) -> StoredDocument:
    return StoredDocument(row["storage_key"], row["size"], row["hash"], row["sha256"])


def _supersede(registry: Registry, connection: Connection, one: Moving, new: Claim) -> None:
    """The old version is deprecated, the lid leads to the new one; a find of level 1 still meets the old one.

    IHE's plans ask for that (16101b, 16102b, 16103b), against the letter of §3.18.4.1.2.3.5.1.1.
    """
    table, held = TABLES[one.kind], versions.by_uuid(connection, one.row["uuid"])
    if held is None or not versions.supersede(connection, held, registry.book.id_of(DEPRECATED), new):
        raise Refused(OVERTAKEN.at(_WHERE, received=one.row["uuid"]))
    connection.execute(update(table).where(
        table.c.patient_id == one.claim.patient_id, table.c.id == one.claim.object_id).values(current=MOVED))


def _refer_anew(reader: Reader, change: Change, ids: Mapping[str, str]) -> None:
    """Sets that refer to an old version refer to the new one, whosever they are (§3.64.4.1.3.1.4, item 5)."""
    connection, book = reader.connection, reader.book
    for row in _memberships(reader, change, association.c.target.in_(change.documents)):
        if _read_back(reader, "association", row).slot("SubmissionSetStatus") != ("Reference",):
            continue
        connection.execute(update(association).where(
            association.c.patient_id == row["patient_id"], association.c.id == row["id"])
            .values(status=book.id_of(DEPRECATED)))
        copy = Copy(row, row["source"], change.documents[row["target"]].symbol)
        propagation.insert_all(connection, [copy], ids, Patient(row["patient_id"], ""), book)


def _tell(connection: Connection, change: Change, ids: Mapping[str, str]) -> None:
    """The new patient has further versions, the previous one documents out of force."""
    moving = [*change.documents.values(), *change.folders.values()]
    superseded = [one.row["uuid"] for one in moving]
    outbox.append(connection, outbox_table, change.new.id, "update", {
        "set": ids[_SET], "versions": [ids[one.symbol] for one in moving],
        "superseded": superseded if change.within else [], "statuses": [], "deprecated": [],
        "folders": sorted(change.grown)})
    if not change.within:
        outbox.append(connection, outbox_table, change.previous.id, "update", {"superseded": superseded})


def _move_identifiers(connection: Connection, change: Change) -> None:
    """Local identifiers that the registry knows: one is the new patient's now, the subsumed one is of the past."""
    told, community = change.told, {key_of(change.told.new), key_of(change.told.previous)}
    is_changed = False
    for cx in filter(None, (told.local, told.subsumed)):
        row = patients.row_of(connection, cx)
        if row is None or row.id not in {change.new.id, change.previous.id} or key_of(cx) in community:
            continue
        if cx == told.local:
            is_changed |= patients.point(connection, cx, change.new.id)
        else:
            is_changed = patients.retire(connection, replace(change.new, cx=told.local), cx) > 0
    for patient in sorted({change.new.id, change.previous.id}) if is_changed else ():
        identity_events.tell(connection, patient)
