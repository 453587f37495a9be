"""Relationships that go over to new versions: each is copied, the old one stays with the old version.

What a submission set holds is history and is not copied (ITI TF-2 §3.57.4.1.3.3.1.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert, or_, select

from journal.ids import bucket, new_id, new_uuid
from registry import claims, stored, versions
from registry.claims import Claim
from registry.codes import CodeBook
from registry.patients import Patient
from registry.tables import association, identifier_claim
from xds.vocabulary import APPROVED, HAS_MEMBER


@dataclass(frozen=True, slots=True)
class Copy:
    """A relationship in force and the ends it will have: new versions by the id they were submitted with."""

    row: Mapping[Any, Any]
    source: str
    target: str

    @property
    def stays(self) -> str:
        """The end that has no new version here, "" when both have one."""
        return next((end for end in (self.source, self.target) if end in {self.row["source"], self.row["target"]}), "")


def plan(connection: Connection, moved: Mapping[str, str], owners: Iterable[int], book: CodeBook) -> list[Copy]:
    """Copies for objects that get a new version: entryUUID -> submitted id of the new one; owners are theirs.

    A relationship between two of them is copied once, between the new ones.
    """
    table = association.c
    rows = connection.execute(select(association).where(
        table.patient_id.in_(set(owners)), table.status == book.id_of(APPROVED),
        or_(table.source.in_(list(moved)), table.target.in_(list(moved))))).mappings().all()
    sets = {source for source, holders in claims.find(connection, {row["source"] for row in rows}).items()
            if holders[0].kind == claims.SET}
    return [Copy(row, moved.get(row["source"], row["source"]), moved.get(row["target"], row["target"]))
            for row in rows if row["source"] not in sets]


def insert_all(connection: Connection, copies: Sequence[Copy], ids: Mapping[str, str], patient: Patient,
               book: CodeBook) -> None:
    """Write the copies for a patient; `ids` gives the entryUUIDs of what was submitted."""
    rows = [_row(connection, copy, ids, patient, book) for copy in copies]
    if rows:
        connection.execute(insert(association), rows)
        connection.execute(insert(identifier_claim), [
            claims.row(row["uuid"], Claim(claims.ASSOCIATION, patient.id, row["id"])) for row in rows])


def _row(connection: Connection, copy: Copy, ids: Mapping[str, str], patient: Patient,
         book: CodeBook) -> dict[str, Any]:
    identity = new_uuid()
    codec, xml = _form(connection, copy.row, identity, book)
    return {**copy.row, "patient_id": patient.id, "id": new_id(), "bucket": bucket(patient.id), "uuid": identity,
            "lid": identity, "version": 1, "current": 1, "codec": codec, "xml": xml,
            "source": ids.get(copy.source, copy.source), "target": ids.get(copy.target, copy.target)}


def _form(connection: Connection, row: Mapping[Any, Any], identity: str, book: CodeBook) -> tuple[int, bytes]:
    """The stored form of a copy: what is nested in it has ids of its own, and names it."""
    thing = versions.link_of(connection, row, book)
    if not thing.classifications:
        return row["codec"], row["xml"]
    return stored.pack(replace(thing, id=identity, classifications=tuple(
        replace(item, id=new_uuid(), classified_object=identity) for item in thing.classifications)))


def folders(connection: Connection, copies: Iterable[Copy], book: CodeBook) -> Iterator[str]:
    """Folders, by entryUUID, that get a new member by the copies."""
    return (copy.row["source"] for copy in copies if copy.source == copy.row["source"]
            and book.text_of(connection, copy.row["type"]) == HAS_MEMBER)
