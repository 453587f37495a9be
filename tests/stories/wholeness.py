"""What must hold of a data folder whatever happened to it: all that was acknowledged is there, and nothing by half."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import claims
from tests.stories.client import Lot
from xds.vocabulary import HAS_MEMBER

#: Ends of an association that every submission brings itself: kind of claim -> table
_TABLES = {claims.DOCUMENT: "document", claims.SET: "submission_set", claims.FOLDER: "folder",
           claims.ASSOCIATION: "association"}


@dataclass(frozen=True)
class Sent:
    """What a lot should have become: the set's uniqueId, digests of the documents by uniqueId, links of the set."""

    set_id: str
    documents: Mapping[str, bytes]
    links: int

    @classmethod
    def of(cls, lot: Lot) -> Sent:
        """Remember a lot without its bytes."""
        documents = {entry.unique_id: hashlib.sha256(lot.contents[entry.id]).digest()
                     for entry in lot.submission.documents}
        the_set = lot.submission.submission_set
        return cls(the_set.unique_id, documents,
                   sum(link.source == the_set.id for link in lot.submission.associations))


def faults(data: Path, acknowledged: Collection[Sent], others: Iterable[Sent] = ()) -> list[str]:
    """What is wrong in a data folder; `others` were sent and never answered: they may be there, but not by half."""
    connection = sqlite3.connect(data / "volet.db")
    connection.row_factory = sqlite3.Row
    with contextlib.closing(connection):
        known = {sent.set_id for sent in acknowledged}
        found = [*_wrong_rows(connection, data / "documents")]
        for sent in (*acknowledged, *others):
            found += _wrong_lot(connection, sent, must_be_there=sent.set_id in known)
        check = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return found if check == "ok" else [*found, f"integrity_check: {check}"]


def _wrong_rows(connection: sqlite3.Connection, documents: Path) -> Iterator[str]:
    """Rows that speak of what is not there: files, ends of associations, objects of identifiers."""
    for row in connection.execute("SELECT unique_id, storage_key, size, sha256 FROM document WHERE storage_key <> ''"):
        path = documents / row["storage_key"][-3:] / row["storage_key"]
        if not path.is_file():
            yield f"document {row['unique_id']}: its file is not there"
        elif (path.stat().st_size, hashlib.sha256(path.read_bytes()).digest()) != (row["size"], row["sha256"]):
            yield f"document {row['unique_id']}: its file is another one"
    uuids = {row[0] for table in _TABLES.values() for row in connection.execute(f"SELECT uuid FROM {table}")}
    for row in connection.execute("SELECT uuid, source, target FROM association"):
        if not {row["source"], row["target"]} <= uuids:
            yield f"association {row['uuid']}: one of its ends is not there"
    for row in connection.execute("SELECT kind, patient_id, object_id FROM identifier_claim"):
        if _one(connection, f"SELECT count(*) FROM {_TABLES[row['kind']]} WHERE patient_id = ? AND id = ?",
                row["patient_id"], row["object_id"]) != 1:
            yield f"identifier of {row['kind']} {row['object_id']}: what it names is not there"


def _wrong_lot(connection: sqlite3.Connection, sent: Sent, must_be_there: bool) -> Iterator[str]:
    row = connection.execute("SELECT id, uuid, patient_id FROM submission_set WHERE unique_id = ?",
                             (sent.set_id,)).fetchone()
    there = {found["unique_id"]: found["sha256"] for found in connection.execute(
        f"SELECT unique_id, sha256 FROM document WHERE unique_id IN ({','.join('?' * len(sent.documents))})",
        tuple(sent.documents))}
    if row is None:
        if must_be_there:
            yield f"set {sent.set_id}: acknowledged, and not there"
        if there:
            yield f"set {sent.set_id}: not there, but documents of it are"
        return
    if there != dict(sent.documents):
        yield f"set {sent.set_id}: {len(there)} of {len(sent.documents)} documents, or with other content"
    links = _one(connection, "SELECT count(*) FROM association JOIN code ON code.id = association.type"
                 " WHERE patient_id = ? AND source = ? AND code.code = ?", row["patient_id"], row["uuid"], HAS_MEMBER)
    if links != sent.links:
        yield f"set {sent.set_id}: {links} of {sent.links} links"
    if not _one(connection, "SELECT count(*) FROM outbox WHERE payload LIKE ?", f"%{row['uuid']}%"):
        yield f"set {sent.set_id}: nothing in the outbox"


def unreferenced(data: Path) -> set[str]:
    """Keys of document files that no row names; allowed after a crash."""
    connection = sqlite3.connect(data / "volet.db")
    with contextlib.closing(connection):
        named = {row[0] for row in connection.execute("SELECT storage_key FROM document")}
    return {path.name for path in (data / "documents").glob("[0-9a-f][0-9a-f][0-9a-f]/*")} - named


def _one(connection: sqlite3.Connection, statement: str, *values: Any) -> Any:
    return connection.execute(statement, values).fetchone()[0]
