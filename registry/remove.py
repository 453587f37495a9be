"""Removing metadata for good (ITI-62): all objects of the list or none, and nothing left that points nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, delete, or_, select

from journal import outbox
from registry import claims
from registry.claims import Claim
from registry.register import Registry, refuse
from registry.requirements import RULES
from registry.state import TABLES, read
from registry.tables import association, identifier_claim, object_code, object_text
from registry.tables import outbox as outbox_table
from xds.findings import Finding, Where
from xds.rim import ObjectRef

UNKNOWN = RULES["V-RMV-UNKNOWN"]
REFERENCED = RULES["V-RMV-REFERENCED"]
UNREFERENCED = RULES["V-RMV-UNREFERENCED"]

Held = dict[str, tuple[Claim, Any]]


def remove(registry: Registry, references: Sequence[ObjectRef]) -> None:
    """Remove objects by entryUUID (ITI TF-2 §3.62); Refused with every finding, and nothing removed.

    Documents stay in the repository until ITI-86 removes them.
    """
    wanted = list(dict.fromkeys(reference.id.lower() for reference in references))
    with registry.database.write() as connection:
        held = _look_up(connection, wanted)
        refuse([*_unknown(wanted, held), *_links_left(connection, held)])
        for claim, _ in held.values():
            _delete(connection, claim)
        for patient_id in {claim.patient_id for claim, _ in held.values()}:
            outbox.append(connection, outbox_table, patient_id, "removal", {
                "objects": [uuid for uuid, (claim, _) in held.items() if claim.patient_id == patient_id]})


def _look_up(connection: Connection, uuids: Sequence[str]) -> Held:
    found: Held = {}
    for uuid, holders in claims.find(connection, uuids).items():
        row = read(connection, holders[0])
        if row is not None:
            found[uuid] = (holders[0], row)
    return found


def _unknown(wanted: Sequence[str], held: Held) -> Iterator[Finding]:
    for uuid in wanted:
        if uuid not in held:
            yield UNKNOWN.at(Where("envelope", path=f"ObjectRef({uuid})"), received=uuid)


def _links_left(connection: Connection, held: Held) -> Iterator[Finding]:
    """No association stays behind without its ends, no object without any association (§3.62.4.1.3)."""
    for uuid, (claim, row) in held.items():
        where = Where("envelope", path=f"ObjectRef({uuid})")
        for link in _links(connection, claim.patient_id, uuid):
            if link not in held:
                yield REFERENCED.at(where, expected=link, received=uuid)
        if claim.kind == claims.ASSOCIATION:
            for end in (row.source, row.target):
                if end not in held and not set(_links(connection, claim.patient_id, end)) - set(held):
                    yield UNREFERENCED.at(where, received=end)


def _links(connection: Connection, patient_id: int, uuid: str) -> Sequence[str]:
    table = association.c
    return connection.execute(select(table.uuid).where(
        table.patient_id == patient_id, or_(table.source == uuid, table.target == uuid))).scalars().all()


def _delete(connection: Connection, claim: Claim) -> None:
    table = TABLES[claim.kind]
    connection.execute(delete(table).where(table.c.patient_id == claim.patient_id, table.c.id == claim.object_id))
    for several in (object_code, object_text):
        connection.execute(delete(several).where(several.c.patient_id == claim.patient_id,
                                                 several.c.object_id == claim.object_id))
    connection.execute(delete(identifier_claim).where(
        identifier_claim.c.patient_id == claim.patient_id, identifier_claim.c.object_id == claim.object_id))
