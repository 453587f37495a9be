"""Readers of an outbox: nothing lost, nothing passed over, one at a time; on SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, Connection, MetaData, String, Table, insert, select

from journal import consumer as module
from journal import ids, outbox
from journal.consumer import Consumer, Event, LeaseLost, clock, last_position
from journal.database import Database
from journal.tables import cursors as make_cursors
from journal.tables import outbox as make_outbox
from tests.journal.postgres import cluster

metadata = MetaData()
OUTBOX = make_outbox(metadata)
CURSORS = make_cursors(metadata)
SEEN = Table("seen", metadata, Column("reader", String(40), primary_key=True),
             Column("position", BigInteger, primary_key=True, autoincrement=False), Column("event", BigInteger))


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = (f"sqlite:///{tmp_path / 'test.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres"))
    opened = Database(url, durable=False)
    with opened.write() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    yield opened
    opened.close()


def reader(database: Database, name: str = "reader", seconds: float = 30.0) -> Consumer:
    return Consumer(database, OUTBOX, CURSORS, name, seconds)


def tell(database: Database, *numbers: int) -> list[int]:
    """An event a number, each in a transaction of its own; their ids."""
    made = []
    for number in numbers:
        with database.write() as connection:
            made.append(outbox.append(connection, OUTBOX, number, "x", {"number": number}))
    return made


def all_of(consumer: Consumer, limit: int = 100) -> list[Event]:
    """Everything there is now, read and left behind."""
    found: list[Event] = []
    while consumer.take(lambda _, events: found.extend(events), limit):
        continue
    return found


def numbers(events: Sequence[Event]) -> list[int]:
    return [event.payload["number"] for event in events]


# --- reading -------------------------------------------------------------------------------------------------------


def test_events_come_once_and_in_order(database: Database) -> None:
    made = tell(database, 1, 2, 3)
    consumer = reader(database)
    found = all_of(consumer)
    assert [(event.position, event.id, event.patient_id, event.kind, event.payload) for event in found] == [
        (place, identity, place, "x", {"number": place}) for place, identity in enumerate(made, 1)]
    assert all(abs(event.at - time.time() * 1000) < 60_000 for event in found)
    assert all_of(consumer) == []
    tell(database, 4)
    assert numbers(all_of(consumer)) == [4]


def test_what_was_rolled_back_never_comes(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            outbox.append(connection, OUTBOX, 1, "x", {"number": 1})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    tell(database, 2)
    assert numbers(all_of(reader(database))) == [2]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_batches_are_no_longer_than_asked_for(database: Database, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NUMBERED", 3)
    tell(database, *range(1, 11))
    lengths: list[int] = []
    found: list[Event] = []
    consumer = reader(database)
    while consumer.take(lambda _, events: (lengths.append(len(events)), found.extend(events)), limit):
        continue
    assert numbers(found) == list(range(1, 11))
    assert max(lengths) <= limit


def test_each_reader_has_a_cursor_of_its_own(database: Database) -> None:
    tell(database, 1, 2)
    one, other = reader(database, "one"), reader(database, "other")
    assert numbers(all_of(one)) == [1, 2]
    tell(database, 3)
    assert [event.position for event in all_of(one)] == [3]
    assert [(event.position, event.payload["number"]) for event in all_of(other)] == [(1, 1), (2, 2), (3, 3)]


def test_the_last_position_is_known(database: Database) -> None:
    """What commits after one has looked gets a higher one: a subscription starts there."""
    consumer = reader(database)
    tell(database, 1, 2)
    all_of(consumer)
    with database.read() as connection:
        assert last_position(connection, CURSORS) == 2
    tell(database, 3)
    assert [event.position for event in all_of(consumer)] == [3]


def test_nobody_has_read_yet(database: Database) -> None:
    with database.read() as connection:
        assert last_position(connection, CURSORS) == 0


def test_the_clock_is_everybodys(database: Database) -> None:
    with database.read() as connection:
        assert abs(clock(connection) - time.time() * 1000) < 60_000


# --- out of order --------------------------------------------------------------------------------------------------


def by_highest_id(database: Database, after: int) -> list[int]:
    """A reader who remembers the highest id: what this module must not be."""
    with database.read() as connection:
        return list(connection.execute(select(OUTBOX.c.id).where(OUTBOX.c.id > after).order_by(OUTBOX.c.id)).scalars())


def test_a_lower_id_that_commits_later_is_not_passed_over(postgres: str) -> None:
    """Two transactions on PostgreSQL: the first to make its id is the last to commit."""
    database = Database(postgres)
    with database.write() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    consumer = reader(database)
    slow = database.engine.connect()
    slow.begin()
    first = outbox.append(slow, OUTBOX, 1, "x", {"number": 1})
    (second,) = tell(database, 2)
    assert first < second
    assert numbers(all_of(consumer)) == [2]
    slow.commit()
    slow.close()
    assert by_highest_id(database, second) == []  # gone for ever
    assert numbers(all_of(consumer)) == [1]
    database.close()


def test_ids_of_a_clock_that_is_behind_are_not_passed_over(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine, or another process in the same millisecond: its ids are lower, its commits later."""
    consumer = reader(database)
    (ahead,) = tell(database, 1)
    assert numbers(all_of(consumer)) == [1]
    monkeypatch.setattr(outbox, "new_id", lambda: ahead - 1000)
    (behind,) = tell(database, 2)
    assert behind < ahead
    assert by_highest_id(database, ahead) == []
    assert numbers(all_of(consumer)) == [2]


def test_numbering_waits_for_nobody(postgres: str) -> None:
    """A transaction that stays open keeps no other event from being read."""
    database = Database(postgres)
    with database.write() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    consumer = reader(database)
    with database.engine.connect() as slow, slow.begin():
        outbox.append(slow, OUTBOX, 1, "x", {"number": 1})
        tell(database, 2, 3)
        assert numbers(all_of(consumer)) == [2, 3]
    assert numbers(all_of(consumer)) == [1]
    database.close()


# --- at least once, and exactly once -------------------------------------------------------------------------------


def remember(name: str) -> Callable[[Connection, Sequence[Event]], None]:
    def handle(connection: Connection, events: Sequence[Event]) -> None:
        connection.execute(insert(SEEN), [{"reader": name, "position": event.position, "event": event.id}
                                          for event in events])

    return handle


def seen(database: Database, name: str = "reader") -> list[int]:
    with database.read() as connection:
        return list(connection.execute(select(SEEN.c.event).where(SEEN.c.reader == name)
                                       .order_by(SEEN.c.position)).scalars())


def test_what_failed_comes_again(database: Database) -> None:
    made = tell(database, 1, 2)
    consumer = reader(database)

    def fail(connection: Connection, events: Sequence[Event]) -> None:
        remember("reader")(connection, events)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        consumer.take(fail)
    assert seen(database) == []
    assert consumer.take(remember("reader")) == 2
    assert seen(database) == made


def test_effects_elsewhere_come_before_the_cursor(database: Database) -> None:
    tell(database, 1, 2)
    consumer, told = reader(database), []
    told += consumer.events()
    assert numbers(reader(database, "reader").events()) == []  # the lease is the first one's
    told += consumer.events()  # not moved: once more
    with database.write() as connection:
        consumer.move(connection, told[-2:])
    assert numbers(told) == [1, 2, 1, 2]
    assert consumer.events() == []


# --- one at a time -------------------------------------------------------------------------------------------------


def test_one_reads_until_it_lets_go(database: Database) -> None:
    tell(database, 1, 2)
    one, other = reader(database), reader(database)
    assert one.take(remember("reader"), 1) == 1
    assert not other.acquire()
    assert other.take(remember("reader")) == 0
    one.release()
    assert other.take(remember("reader")) == 1
    assert not one.acquire()
    assert len(seen(database)) == 2


def test_one_that_is_gone_is_replaced(database: Database) -> None:
    tell(database, 1)
    one, other = reader(database, seconds=0.3), reader(database, seconds=0.3)
    assert one.acquire()
    assert not other.acquire()
    time.sleep(0.35)
    assert other.acquire()
    assert not one.acquire()


def test_a_lease_is_renewed_while_one_reads(database: Database) -> None:
    one, other = reader(database, seconds=0.4), reader(database, seconds=0.4)
    for _ in range(12):
        assert one.acquire()
        assert not other.acquire()
        time.sleep(0.05)


def test_one_that_comes_back_too_late_undoes_what_it_did(database: Database) -> None:
    made = tell(database, 1, 2)
    one, other = reader(database, seconds=0.2), reader(database, seconds=30)
    late = one.events()
    time.sleep(0.25)
    assert other.take(remember("reader")) == 2

    def too_late() -> None:
        with database.write() as connection:
            connection.execute(insert(SEEN), {"reader": "late", "position": 1, "event": 1})
            one.move(connection, late)

    with pytest.raises(LeaseLost):
        too_late()
    assert seen(database, "late") == []
    assert seen(database) == made
    assert one.take(remember("late")) == 0


def test_a_take_that_lost_its_lease_leaves_nothing(database: Database) -> None:
    tell(database, 1)
    one, other = reader(database, seconds=0.2), reader(database, seconds=30)
    one.events()
    time.sleep(0.25)
    assert other.acquire()
    one._renew = time.monotonic() + 60  # it believes that it still reads
    assert one.take(remember("late")) == 0
    assert seen(database, "late") == []


# --- many at once --------------------------------------------------------------------------------------------------


def test_many_write_and_several_read(database: Database) -> None:
    """Transactions that commit in any order, readers that take over from each other: each event once, in one order."""
    stop, writers, each = threading.Event(), 6, 20

    def write(number: int) -> list[int]:
        chance, made = random.Random(number), []
        for _ in range(each):
            with database.write() as connection:
                made.append(outbox.append(connection, OUTBOX, number, "x", {"number": number}))
                time.sleep(chance.random() * 0.004)
        return made

    def read(number: int) -> None:
        consumer, chance = reader(database, seconds=0.05), random.Random(number)
        while not stop.is_set():
            consumer.take(remember("reader"), chance.randint(1, 7))
            if chance.random() < 0.2:
                consumer.release()
                time.sleep(0.002)

    with ThreadPoolExecutor(10) as pool:
        reading = [pool.submit(read, number) for number in range(3)]
        made = [identity for some in pool.map(write, range(1, writers + 1)) for identity in some]
        limit = time.monotonic() + 20
        while len(seen(database)) < len(made) and time.monotonic() < limit:
            time.sleep(0.01)
        stop.set()
        for one in reading:
            one.result()
    assert sorted(seen(database)) == sorted(made)
    with database.read() as connection:
        places = connection.execute(select(OUTBOX.c.position).order_by(OUTBOX.c.position)).scalars().all()
    assert places == list(range(1, writers * each + 1))


def _die(path: str) -> None:
    database = Database(path, durable=False)

    def handle(connection: Connection, events: Sequence[Event]) -> None:
        remember("reader")(connection, events)
        os._exit(7)

    reader(database, seconds=0.3).take(handle)


def test_a_process_that_dies_in_the_middle_loses_nothing(database: Database) -> None:
    made = tell(database, 1, 2, 3)
    url = database.url.render_as_string(hide_password=False)
    process = multiprocessing.get_context("fork").Process(target=_die, args=(url,))
    process.start()
    process.join(30)
    assert process.exitcode == 7
    assert seen(database) == []
    consumer = reader(database)
    limit = time.monotonic() + 5
    while not consumer.take(remember("reader")):
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert seen(database) == made


def _write(path: str, number: int, times: int) -> None:
    database = Database(path, durable=False)
    for _ in range(times):
        tell(database, number)
    database.close()


def test_processes_write_while_one_reads(database: Database) -> None:
    """On SQLite too ids of two processes do not come in the order of their commits."""
    url = database.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(url, number, 50)) for number in (1, 2)]
    for process in processes:
        process.start()
    consumer, found = reader(database), []
    while any(process.is_alive() for process in processes):
        consumer.take(lambda _, events: found.extend(events), 10)
    found += all_of(consumer)
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(numbers(found)) == [1] * 50 + [2] * 50
    assert len({event.id for event in found}) == 100
    assert [event.position for event in found] == list(range(1, 101))


def test_ids_are_not_what_a_cursor_can_rely_on() -> None:
    """Where the trouble comes from: within a millisecond the order of ids is chance."""
    assert ids.new_id() < ids.new_id()  # in one process they grow
    assert ids._RANDOM_BITS > 0
