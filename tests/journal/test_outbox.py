"""The outbox: what happened is told if and only if it happened, in the order in which it did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import MetaData, select

from journal import ids, outbox
from journal.database import Database
from journal.ids import bucket
from journal.tables import outbox as make_outbox

metadata = MetaData()
TABLE = make_outbox(metadata)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'test.db'}", durable=False)
    with opened.write() as connection:
        metadata.create_all(connection)
    yield opened
    opened.close()


def events(database: Database) -> list[tuple[int, int, str, object]]:
    with database.read() as connection:
        return [(row.patient_id, row.id, row.kind, json.loads(row.payload))
                for row in connection.execute(select(TABLE).order_by(TABLE.c.id))]


def test_an_event_comes_back(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 0)
    payload = {"set": "urn:uuid:x", "names": ["é", "<&>", "\U0001f600"], "nothing": None}
    with database.write() as connection:
        identity = outbox.append(connection, TABLE, 7, "submission", payload)
    assert events(database) == [(7, identity, "submission", payload)]
    with database.read() as connection:
        row = connection.execute(select(TABLE)).one()
    assert row.bucket == bucket(7)
    assert abs(row.at - row.id // 2**22 - 1_735_689_600_000) < 10_000  # the same clock


def test_what_did_not_happen_is_not_told(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            outbox.append(connection, TABLE, 7, "submission", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert events(database) == []


def test_nobody_hears_of_it_before(database: Database) -> None:
    with database.write() as connection:
        outbox.append(connection, TABLE, 7, "submission", {})
        assert events(database) == []
    assert len(events(database)) == 1


def test_numbers_grow_with_the_turns(database: Database) -> None:
    """Of the writers of one process; over several, readers go by positions (`journal.consumer`)."""
    seen: list[int] = []

    def write(patient: int) -> int:
        with database.write() as connection:
            made = outbox.append(connection, TABLE, patient, "x", {})
            seen.append(made)
            return made

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(write, range(1, 31)))
    assert [identity for _, identity, _, _ in events(database)] == sorted(made) == seen
