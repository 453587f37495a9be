"""Removing metadata for good (ITI-62): all objects of the list or none, and nothing left that points nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy import Connection, delete, or_, select

from journal import outbox
from registry import claims, versions
from registry.patients import Kin
from registry.reader import Reader
from registry.register import Registry, refuse
from registry.requirements import RULES
from registry.state import TABLES, read
from registry.tables import association, identifier_claim, object_code, object_text
from registry.tables import outbox as outbox_table
from registry.versions import Held
from security.access import Gate
from xds.findings import Finding, Where
from xds.rim import ObjectRef

NOTHING = RULES["V-RMV-NOTHING"]
UNKNOWN = RULES["V-RMV-UNKNOWN"]
REFERENCED = RULES["V-RMV-REFERENCED"]
UNREFERENCED = RULES["V-RMV-UNREFERENCED"]

_SHOWN = 20  # associations that are named of one object
_AT_ONCE = 400  # identifiers of one statement


def remove(registry: Registry, references: Sequence[ObjectRef], gate: Gate | None = None) -> None:
    """Remove objects by entryUUID (ITI TF-2 §3.62); Refused with every finding, and nothing removed.

    Documents are another matter: what no entry names any more is told in the outbox. `gate`: what it hides from the
    caller does not exist.
    """
    wanted = list(dict.fromkeys(reference.id.lower() for reference in references))
    with registry.database.write() as connection:
        held = _look_up(Reader(connection, registry.book, gate or Gate()), wanted)
        refuse([*_check_known(wanted, held), *_check_links(Kin(connection), connection, held)])
        for one in held.values():
            _delete(connection, one)
        left = {one.row.lid: versions.settle(connection, one.row.lid) for one in held.values() if _has_versions(one)}
        _tell(connection, held, left)


def _look_up(reader: Reader, uuids: Sequence[str]) -> dict[str, Held]:
    """What the list names, in its order."""
    known, found = claims.find(reader.connection, uuids), dict[str, Held]()
    for uuid in uuids:
        holder = known[uuid][0] if uuid in known else None
        row = read(reader.connection, holder) if holder else None
        # A uniqueId is known too, and is no entryUUID.
        if holder and row is not None and row.uuid == uuid and reader.lets_through(holder, row._mapping):
            found[uuid] = Held(holder, row)
    return found


def _has_versions(one: Held) -> bool:
    return one.claim.kind in {claims.DOCUMENT, claims.FOLDER}


# --- checks --------------------------------------------------------------------------------------------------------


def _check_known(wanted: Sequence[str], held: Mapping[str, Held]) -> Iterator[Finding]:
    if not wanted:
        yield NOTHING.at(Where("envelope", path="ObjectRefList"), expected="ObjectRef (1..*)", received=0)
    for uuid in wanted:
        if uuid not in held:
            yield UNKNOWN.at(_where(uuid), received=uuid)


def _check_links(kin: Kin, connection: Connection, held: Mapping[str, Held]) -> Iterator[Finding]:
    """No association stays behind without its ends, no object without any association (§3.62.4.1.3)."""
    ends = {uuid: (one.row.source, one.row.target) for uuid, one in held.items()
            if one.claim.kind == claims.ASSOCIATION}
    owners = kin.ids(one.claim.patient_id for one in held.values())
    links = _links(connection, owners, {*held, *(end for pair in ends.values() for end in pair)})
    for uuid in held:
        for link in sorted(links[uuid] - held.keys())[:_SHOWN]:
            yield REFERENCED.at(_where(uuid), expected=link, received=uuid)
    told: set[str] = set()
    for uuid, pair in ends.items():
        for end in pair:
            if end not in held and end not in told and links[end] <= held.keys():
                told.add(end)
                yield UNREFERENCED.at(_where(uuid), received=end)


def _links(connection: Connection, owners: set[int], uuids: Iterable[str]) -> dict[str, set[str]]:
    """Associations that start at or lead to each of the objects, by entryUUID."""
    table = association.c
    found: dict[str, set[str]] = {uuid: set() for uuid in uuids}
    names = list(found)
    for start in range(0, len(names), _AT_ONCE):
        chunk = names[start:start + _AT_ONCE]
        for row in connection.execute(select(table.uuid, table.source, table.target).where(
                table.patient_id.in_(owners), or_(table.source.in_(chunk), table.target.in_(chunk)))):
            for end in {row.source, row.target} & found.keys():
                found[end].add(row.uuid)
    return found


def _where(uuid: str) -> Where:
    return Where("envelope", path=f"ObjectRef({uuid})")


# --- carrying out --------------------------------------------------------------------------------------------------


def _delete(connection: Connection, one: Held) -> None:
    table, claim = TABLES[one.claim.kind], one.claim
    connection.execute(delete(table).where(table.c.patient_id == claim.patient_id, table.c.id == claim.object_id))
    for several in (object_code, object_text):
        connection.execute(delete(several).where(several.c.patient_id == claim.patient_id,
                                                 several.c.object_id == claim.object_id))
    names = (one.uuid, claims.of_lid(one.row.lid), one.row._mapping.get("unique_id", ""))
    columns = identifier_claim.c
    connection.execute(delete(identifier_claim).where(
        columns.key.in_(map(claims.key, names)), columns.patient_id == claim.patient_id,
        columns.object_id == claim.object_id))


def _tell(connection: Connection, held: Mapping[str, Held], left: Mapping[str, bool]) -> None:
    """An event for each patient: what was removed, and which documents no entry names any more."""
    for owner in sorted({one.claim.patient_id for one in held.values()}):
        mine = [one for one in held.values() if one.claim.patient_id == owner]
        keys = {one.row.storage_key for one in mine if one.claim.kind == claims.DOCUMENT and not left[one.row.lid]}
        outbox.append(connection, outbox_table, owner, "removal", {
            "objects": [one.uuid for one in mine], "storage_keys": sorted(keys - {""})})
