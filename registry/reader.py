"""Reading objects for one caller: rows by condition or identifier, without what the caller's gate hides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, or_, select

from registry import claims
from registry.claims import Claim
from registry.codes import CodeBook
from registry.life import MOVED, NEWEST
from registry.patients import Kin
from registry.requirements import RULES
from registry.tables import association, document, folder, submission_set
from security.access import DocumentFacts, Gate
from xds.findings import Refused, Where
from xds.vocabulary import APPROVED

TOO_MANY = RULES["V-QUERY-TOO-MANY"]

Row = Mapping[Any, Any]
Key = tuple[int, int]  # patient, object
_AT_ONCE = 400  # patients of one statement


@dataclass(slots=True)
class Found:
    """Objects of an answer by (patient, id), each once, in the order found."""

    sets: dict[Key, Row] = field(default_factory=dict)
    documents: dict[Key, Row] = field(default_factory=dict)
    folders: dict[Key, Row] = field(default_factory=dict)
    associations: dict[Key, Row] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sets) + len(self.documents) + len(self.folders) + len(self.associations)

    def patients(self) -> set[int]:
        """Internal ids of all patients in the answer."""
        return {patient for kind in (self.sets, self.documents, self.folders, self.associations)
                for patient, _ in kind}

    def uuids(self) -> set[str]:
        """The entryUUIDs of the sets, documents and folders."""
        return {row["uuid"] for kind in (self.sets, self.documents, self.folders) for row in kind.values()}


class Reader:
    """One transaction's view of the registry through one gate; a patient and those merged into them are one (`kin`)."""

    def __init__(self, connection: Connection, book: CodeBook, gate: Gate) -> None:
        """Keep what every look-up needs. Level 1 sees what plain XDS knows, 2 everything (`$MetadataLevel`)."""
        self.connection, self.book, self.gate = connection, book, gate
        self.kin = Kin(connection)
        self.level = 1
        self.finds_moved = False  # level 1 meets documents that a link change moved away, in their old version
        self.limit: int | None = None  # rows of one look-up; more are refused
        self.link_statuses: list[int] | None = None  # None: all, as the registry's own look-ups need

    def documents(self, *conditions: ColumnElement[bool]) -> dict[Key, Row]:
        """Documents that match and that the caller may see."""
        rows = self._rows(document, conditions)
        sees = self.gate.sees
        return rows if sees is None else {key: row for key, row in rows.items() if sees(self.facts(row))}

    def sets(self, *conditions: ColumnElement[bool]) -> dict[Key, Row]:
        """Submission sets that match."""
        return self._rows(submission_set, conditions)

    def folders(self, *conditions: ColumnElement[bool]) -> dict[Key, Row]:
        """Folders that match."""
        return self._rows(folder, conditions)

    def associations(self, *conditions: ColumnElement[bool]) -> dict[Key, Row]:
        """Associations that match, without those that would tell of a document the caller may not see."""
        statuses = [] if self.link_statuses is None else [association.c.status.in_(self.link_statuses)]
        rows = self._rows(association, [*conditions, *statuses])
        if self.gate.sees is None:
            return rows
        hidden = self._hidden({end for row in rows.values() for end in (row["source"], row["target"])})
        return {key: row for key, row in rows.items() if row["source"] not in hidden and row["target"] not in hidden}

    def by_identifiers(self, kind: str, identifiers: Iterable[str]) -> dict[Key, Row]:
        """Objects of a kind by entryUUID or uniqueId."""
        held = [claim for holders in claims.find(self.connection, map(_lower_uuid, identifiers)).values()
                for claim in holders if claim.kind == kind]
        read = {claims.DOCUMENT: self.documents, claims.SET: self.sets, claims.FOLDER: self.folders,
                claims.ASSOCIATION: self.associations}[kind]
        found: dict[Key, Row] = {}
        for condition in _any_of(_TABLES[kind], held):
            found |= read(condition)
        return found

    def by_logical_id(self, kind: str, lids: Iterable[str]) -> dict[Key, Row]:
        """All versions of logical objects, whoever's patient they now belong to."""
        wanted = [lid.lower() for lid in lids]
        held = claims.find(self.connection, [name for lid in wanted for name in (lid, claims.of_lid(lid))])
        owners = {claim.patient_id for holders in held.values() for claim in holders}
        table, read = _TABLES[kind], {claims.DOCUMENT: self.documents, claims.FOLDER: self.folders}[kind]
        return read(table.c.patient_id.in_(self.kin.ids(owners)), table.c.lid.in_(wanted))

    def links_of(self, uuids: Iterable[str], patients: Iterable[int]) -> dict[Key, Row]:
        """Associations with one of the objects at either end."""
        ends = list(uuids)
        if not ends:
            return {}
        table, owners = association.c, self.kin.ids(patients)
        return self.associations(table.patient_id.in_(owners), or_(table.source.in_(ends), table.target.in_(ends)))

    def patients_of(self, identifiers: Iterable[str]) -> dict[str, list[Claim]]:
        """Claims of identifiers, of those patients whom the gate lets through."""
        found = claims.find(self.connection, map(_lower_uuid, identifiers))
        only = self.gate.only_patient
        if only is None:
            return found
        own = self.kin.ids([only])
        return {name: kept for name, holders in found.items()
                if (kept := [claim for claim in holders if claim.patient_id in own])}

    def lets_through(self, claim: Claim, row: Row) -> bool:
        """Whether the gate shows an object at all: what belongs to others does not exist for the caller."""
        gate = self.gate
        if gate.only_patient is not None and claim.patient_id not in self.kin.ids([gate.only_patient]):
            return False
        return claim.kind != claims.DOCUMENT or gate.sees is None or gate.sees(self.facts(row))

    def facts(self, row: Row) -> DocumentFacts:
        """What the gate decides by."""
        text = self.book.text_of
        return DocumentFacts(
            type_code=text(self.connection, row["type_code"]), class_code=text(self.connection, row["class_code"]),
            confidentiality=frozenset(row["confidentiality"].split()), status=text(self.connection, row["status"]),
            authors=frozenset(row["authors"].split()), object_type=text(self.connection, row["object_type"]))

    def _hidden(self, uuids: set[str]) -> set[str]:
        held = {identifier: holders for identifier, holders in claims.find(self.connection, uuids).items()
                if holders[0].kind == claims.DOCUMENT}
        seen = {row["uuid"] for condition in _any_of(document, [one for holders in held.values() for one in holders])
                for row in self.documents(condition).values()}
        return set(held) - seen

    def _rows(self, table: Table, conditions: Sequence[ColumnElement[bool]]) -> dict[Key, Row]:
        statement = select(table).where(*conditions).order_by(table.c.patient_id, table.c.id)
        if self.level == 1:
            statement = statement.where(*self._of_level_1(table))
        if self.gate.only_patient is not None:
            statement = statement.where(table.c.patient_id.in_(self.kin.ids([self.gate.only_patient])))
        if self.limit is not None:
            statement = statement.limit(self.limit + 1)
        rows = self.connection.execute(statement).mappings().all()
        if self.limit is not None and len(rows) > self.limit:
            raise Refused(TOO_MANY.at(Where("query"), expected=self.limit, received=f"> {self.limit}"))
        return {(row["patient_id"], row["id"]): row for row in rows}

    def _of_level_1(self, table: Table) -> list[ColumnElement[bool]]:
        """Newest versions, and neither documents taken offline nor folders out of force (§3.18.4.1.2.3.5.1.1)."""
        if table is document:
            shown = (NEWEST, MOVED) if self.finds_moved else (NEWEST,)
            return [document.c.current.in_(shown), document.c.offline == 0]
        return [folder.c.current == NEWEST, folder.c.status == self.book.id_of(APPROVED)] if table is folder else []


_TABLES = {claims.DOCUMENT: document, claims.SET: submission_set, claims.FOLDER: folder,
           claims.ASSOCIATION: association}


def _any_of(table: Table, held: Sequence[Claim]) -> Iterator[ColumnElement[bool]]:
    """Rows of these claims, patient by patient so that the key is used; not more at once than SQLite can nest."""
    by_patient: dict[int, list[int]] = {}
    for claim in held:
        by_patient.setdefault(claim.patient_id, []).append(claim.object_id)
    owners = list(by_patient)
    for start in range(0, len(owners), _AT_ONCE):
        yield or_(*(and_(table.c.patient_id == patient, table.c.id.in_(by_patient[patient]))
                    for patient in owners[start:start + _AT_ONCE]))


def _lower_uuid(identifier: str) -> str:
    return identifier.lower() if identifier[:9].lower() == "urn:uuid:" else identifier
