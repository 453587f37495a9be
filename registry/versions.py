"""Versions of logical objects: which one is the newest, and how a new one takes its place (ITI TF-3 §4.1.12).

All versions share a lid, the entryUUID of the first. Further versions each hold a claim on the lid; the exclusive one
leads to the newest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, update

from registry import claims, stored
from registry.claims import Claim
from registry.codes import CodeBook
from registry.life import NEWEST, OLDER
from registry.state import TABLES, read
from registry.tables import identifier_claim
from xds import ebxml, rim
from xds.model import DocumentEntry
from xds.rim import RegistryObject
from xds.vocabulary import RIM
from xds.xml import parse


@dataclass(frozen=True, slots=True)
class Held:
    """An object that the registry holds: kind, patient and row."""

    claim: Claim
    row: Row[Any]

    @property
    def uuid(self) -> str:
        """Its entryUUID."""
        return str(self.row.uuid)


def newest(connection: Connection, lid: str) -> Held | None:
    """The newest version of what a lid names; None for every other identifier, entryUUIDs of later versions too."""
    held = _newest(connection, lid.lower())
    # Where several write at once, another one may have come between the two look-ups: the lid leads elsewhere now.
    return held if held is None or held.row.current == NEWEST else _newest(connection, lid.lower())


def _newest(connection: Connection, lid: str) -> Held | None:
    found = claims.find(connection, (claims.of_lid(lid), lid))
    held = _read(connection, found.get(claims.of_lid(lid)) or found.get(lid) or [])
    return held if held is not None and held.row.lid == lid else None


def by_uuid(connection: Connection, uuid: str) -> Held | None:
    """The object of an entryUUID, whether or not it is the newest version; None for every other identifier."""
    held = _read(connection, claims.find(connection, [uuid.lower()]).get(uuid.lower(), []))
    return held if held is not None and held.uuid == uuid.lower() else None


def _read(connection: Connection, holders: list[Claim]) -> Held | None:
    row = read(connection, holders[0]) if holders else None
    return Held(holders[0], row) if row is not None else None


def supersede(connection: Connection, old: Held, status: int, new: Claim) -> bool:
    """The old version gets a status and is no longer current, the lid leads to the new one; False as `set_status`."""
    if not set_status(connection, old, status, OLDER):
        return False
    _point(connection, old.row.lid, new)
    connection.execute(insert(identifier_claim), claims.row(claims.of_lid(old.row.lid), new, exclusive=False))
    return True


def set_status(connection: Connection, held: Held, status: int, current: int = NEWEST) -> bool:
    """Change the status of a newest version; False when another writer changed it after it was read."""
    table = TABLES[held.claim.kind]
    return connection.execute(update(table).where(
        table.c.patient_id == held.claim.patient_id, table.c.id == held.claim.object_id, table.c.current == NEWEST,
        table.c.status == held.row.status).values(status=status, current=current)).rowcount == 1


def settle(connection: Connection, lid: str) -> bool:
    """After a removal: the highest version left is the newest; whether there is one.

    It keeps its status: a removal brings nothing back into force.
    """
    left = sorted(_all(connection, lid), key=lambda one: int(one.row.version))
    if left:
        table, claim = TABLES[left[-1].claim.kind], left[-1].claim
        connection.execute(update(table).where(table.c.patient_id == claim.patient_id, table.c.id == claim.object_id)
                           .values(current=NEWEST))
    _point(connection, lid, left[-1].claim if left and left[-1].row.version > 1 else None)
    return bool(left)


def _all(connection: Connection, lid: str) -> list[Held]:
    found = claims.find(connection, (claims.of_lid(lid), lid))
    held = (_read(connection, [claim]) for claim in {claim for holders in found.values() for claim in holders})
    return [one for one in held if one is not None and one.row.lid == lid]


def _point(connection: Connection, lid: str, to: Claim | None) -> None:
    """Where the lid leads; None: to the first version, whose entryUUID it is."""
    connection.execute(delete(identifier_claim).where(identifier_claim.c.key == claims.key(claims.of_lid(lid)),
                                                      identifier_claim.c.slot == claims.EXCLUSIVE))
    if to is not None:
        connection.execute(insert(identifier_claim), claims.row(claims.of_lid(lid), to))


# --- reading back --------------------------------------------------------------------------------------------------


def entry_of(connection: Connection, held: Held, book: CodeBook) -> DocumentEntry:
    """The metadata of a document version, from its stored form."""
    row = {**held.row._mapping, "object_type_name": book.text_of(connection, held.row.object_type)}
    return ebxml.to_document(_read_back(stored.render("document", row, "")))


def link_of(connection: Connection, row: Any, book: CodeBook) -> RegistryObject:
    """An association, from its stored form."""
    return _read_back(stored.render("association", {**row, "type_name": book.text_of(connection, row["type"])}, ""))


def _read_back(text: str) -> RegistryObject:
    root = parse(f'<rim:RegistryObjectList xmlns:rim="{RIM}">{text}</rim:RegistryObjectList>'.encode())
    return rim.read_object(root[0])
