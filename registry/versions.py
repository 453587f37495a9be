"""Versions of logical objects: which one is the newest, and how a new one takes its place (ITI TF-3 §4.1.12)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from journal.ids import bucket, new_id, new_uuid
from registry import claims, stored
from registry.claims import Claim
from registry.codes import CodeBook
from registry.state import TABLES, read
from registry.tables import association, identifier_claim
from xds import ebxml, rim
from xds.model import DocumentEntry
from xds.vocabulary import APPROVED, RIM
from xds.xml import parse


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest version of a logical object: kind, patient and row."""

    claim: Claim
    row: Row[Any]

    @property
    def uuid(self) -> str:
        """Its entryUUID."""
        return str(self.row.uuid)


def find(connection: Connection, lid: str) -> Newest | None:
    """The newest version of what a lid names; without a claim of its own that is the first, whose UUID it is."""
    held = claims.find(connection, (claims.of_lid(lid), lid.lower()))
    holders = held.get(claims.of_lid(lid)) or held.get(lid.lower()) or []
    row = read(connection, holders[0]) if holders else None
    return Newest(holders[0], row) if row is not None else None


def by_uuid(connection: Connection, uuid: str) -> Newest | None:
    """The object of an entryUUID, whether or not it is the newest version."""
    holders = claims.find(connection, [uuid.lower()]).get(uuid.lower(), [])
    row = read(connection, holders[0]) if holders else None
    return Newest(holders[0], row) if row is not None else None


def supersede(connection: Connection, old: Newest, old_status: int, new: Claim) -> None:
    """The old version is no longer current; the lid leads to the new one."""
    set_status(connection, old, old_status, current=0)
    key = claims.key(claims.of_lid(old.row.lid))
    connection.execute(delete(identifier_claim).where(identifier_claim.c.key == key))
    connection.execute(insert(identifier_claim), claims.row(claims.of_lid(old.row.lid), new))


def set_status(connection: Connection, thing: Newest, status: int, current: int | None = None) -> None:
    """Change the status of one version."""
    table = TABLES[thing.claim.kind]
    values = {"status": status} if current is None else {"status": status, "current": current}
    connection.execute(update(table).where(table.c.patient_id == thing.claim.patient_id,
                                           table.c.id == thing.claim.object_id).values(**values))


def propagate(connection: Connection, old: Newest, new_uuid_of_object: str, sets: Iterable[str],
              book: CodeBook) -> None:
    """Copy the relationships in force of the old version to the new one, but for those of submission sets."""
    table, owner = association.c, old.claim.patient_id
    rows = connection.execute(select(association).where(
        table.patient_id == owner, table.status == book.id_of(APPROVED),
        or_(table.source == old.uuid, table.target == old.uuid))).mappings().all()
    of_sets = set(sets)
    for row in rows:
        if row["source"] not in of_sets:
            _copy(connection, dict(row), old.uuid, new_uuid_of_object)


def _copy(connection: Connection, row: dict[str, Any], old: str, new: str) -> None:
    identity, internal = new_uuid(), new_id()
    codec, xml = stored.renamed(row["codec"], row["xml"], row["uuid"], identity)
    row |= {"id": internal, "uuid": identity, "lid": identity, "version": 1, "current": 1, "codec": codec, "xml": xml,
            "bucket": bucket(row["patient_id"]), "source": new if row["source"] == old else row["source"],
            "target": new if row["target"] == old else row["target"]}
    connection.execute(insert(association), row)
    connection.execute(insert(identifier_claim),
                       claims.row(identity, Claim(claims.ASSOCIATION, row["patient_id"], internal)))


def entry_of(connection: Connection, thing: Newest, book: CodeBook) -> DocumentEntry:
    """The metadata of a document version, read back from its stored form."""
    row = {**thing.row._mapping, "object_type_name": book.text_of(connection, thing.row.object_type)}
    text = stored.render("document", row, book.text_of(connection, thing.row.status))
    root = parse(f'<rim:RegistryObjectList xmlns:rim="{RIM}">{text}</rim:RegistryObjectList>'.encode())
    return ebxml.to_document(rim.read_object(root[0]))
