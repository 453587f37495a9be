"""Who holds which entryUUID and uniqueId: the directory over all patients."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from registry.tables import identifier_claim as table

#: Kinds of objects by the letter kept in a claim.
DOCUMENT, SET, FOLDER, ASSOCIATION = "d", "s", "f", "a"
EXCLUSIVE = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """An identifier leads to this object of this patient."""

    kind: str
    patient_id: int
    object_id: int


def key(identifier: str) -> bytes:
    """16 bytes for an entryUUID or uniqueId, whatever its length."""
    return hashlib.blake2b(identifier.encode(), digest_size=16).digest()


def of_lid(lid: str) -> str:
    """Under which name the newest version of a logical object is held, once there are several."""
    return f"lid {lid.lower()}"


def find(connection: Connection, identifiers: Iterable[str]) -> dict[str, list[Claim]]:
    """Claims by identifier; identifiers that nobody holds are absent."""
    keys = {key(identifier): identifier for identifier in identifiers}
    found: dict[str, list[Claim]] = {}
    for chunk in _chunks(list(keys)):
        for row in connection.execute(select(table).where(table.c.key.in_(chunk)).order_by(table.c.slot)):
            found.setdefault(keys[row.key], []).append(Claim(row.kind, row.patient_id, row.object_id))
    return found


def row(identifier: str, claim: Claim, exclusive: bool = True) -> dict[str, object]:
    """The row to insert; a second exclusive claim of one identifier fails by primary key."""
    return {"key": key(identifier), "slot": EXCLUSIVE if exclusive else claim.object_id, "kind": claim.kind,
            "patient_id": claim.patient_id, "object_id": claim.object_id}


def _chunks(items: list[bytes], size: int = 500) -> Iterable[list[bytes]]:
    return (items[start:start + size] for start in range(0, len(items), size))
