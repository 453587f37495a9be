"""A record and what its holder granted: written, read back, changed, expired; each of one patient only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dmp import record
from dmp.record import Authorisation, Record
from dmp.tables import authorisation
from dmp.tables import record as table
from journal.database import Database

DOCTOR, NURSE = "899999000013", "899999000062"
NOW_MS = 1_790_000_000_000  # milliseconds since 1970
SAME = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path_factory.mktemp('record') / 'volet.db'}", durable=False)
    opened.migrate("dmp")
    yield opened
    opened.close()


records = st.builds(Record, st.integers(1, 5), st.sampled_from([record.OPEN, record.CLOSED]), *[st.booleans()] * 3)


@given(st.lists(records, min_size=1, max_size=6))
@SAME
def test_records_come_back(database: Database, written: list[Record]) -> None:
    """The last word counts, for each patient apart."""
    for one in written:
        with database.write() as connection:
            record.write(connection, one)
    with database.read() as connection:
        for one in {one.patient_id: one for one in written}.values():
            assert record.read(connection, one.patient_id) == one


def test_no_record(database: Database) -> None:
    with database.read() as connection:
        assert record.read(connection, 99) is None
        assert record.standing(connection, 99, DOCTOR) == Authorisation(record.NONE)


states = st.sampled_from([record.VALID, record.FORBIDDEN, record.NONE])


@given(st.lists(st.tuples(st.integers(10, 12), st.sampled_from([DOCTOR, NURSE]), states, st.booleans()), min_size=1,
                max_size=8))
@SAME
def test_authorisations_come_back(database: Database, granted: list[tuple[int, str, str, bool]]) -> None:
    for patient, professional, state, treating in granted:
        with database.write() as connection:
            record.grant(connection, patient, professional, Authorisation(state, treating))
    with database.read() as connection:
        for (patient, professional), (state, treating) in {row[:2]: row[2:] for row in granted}.items():
            # Who is blocked, or was withdrawn, is not the médecin traitant
            assert record.standing(connection, patient, professional) == Authorisation(
                state, treating and state == record.VALID)


@pytest.mark.parametrize(("until", "expected"), [(None, record.VALID), (NOW_MS + 1, record.VALID),
                                                 (NOW_MS, record.EXPIRED), (NOW_MS - 1, record.EXPIRED)])
def test_an_authorisation_ends(database: Database, until: int | None, expected: str) -> None:
    with database.write() as connection:
        record.grant(connection, 20, DOCTOR, Authorisation(record.VALID), until)
    with time_machine.travel(NOW_MS / 1000, tick=False), database.read() as connection:
        assert time.time_ns() // 1_000_000 == NOW_MS
        assert record.standing(connection, 20, DOCTOR).state == expected
        assert record.standing(connection, 21, DOCTOR).state == record.NONE
        assert record.standing(connection, 20, NURSE).state == record.NONE


def test_a_blocking_does_not_expire(database: Database) -> None:
    with database.write() as connection:
        record.grant(connection, 30, DOCTOR, Authorisation(record.FORBIDDEN), NOW_MS - 1)
    with database.read() as connection:
        assert record.standing(connection, 30, DOCTOR).state == record.FORBIDDEN


def test_a_rollback_leaves_the_record_as_it_was(database: Database) -> None:
    with database.write() as connection:
        record.write(connection, Record(40))

    def close_and_fail() -> None:
        with database.write() as connection:
            record.write(connection, Record(40, record.CLOSED))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        close_and_fail()
    with database.read() as connection:
        assert record.read(connection, 40) == Record(40)


def test_states_fit_their_columns() -> None:
    for column, values in ((table.c.state, (record.OPEN, record.CLOSED)),
                           (authorisation.c.state, (record.VALID, record.EXPIRED, record.FORBIDDEN))):
        assert all(len(value) <= column.type.length for value in values)


def test_the_file_is_not_shared(tmp_path: Path) -> None:
    """Tables of the record alone: the room stands without the registry's."""
    opened = Database(f"sqlite:///{tmp_path / 'alone.db'}")
    opened.migrate("dmp")
    with opened.write() as connection:
        record.write(connection, Record(1))
        assert record.read(connection, 1) == Record(1)
    opened.close()
