"""Messages that wait to be pushed: durable, one for each origin, tried later and later, forgotten when they are in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, func, select

from journal import deliveries as module
from journal.database import Database
from journal.deliveries import (
    FAILED,
    FIRST_PAUSE,
    LIFETIME,
    LONGEST_PAUSE,
    PIECE,
    WAITING,
    Delivery,
    Message,
    Queue,
    pause,
)
from journal.tables import deliveries as make_deliveries
from tests.journal.postgres import cluster

metadata = MetaData()
TABLES = make_deliveries(metadata)
HERE, THERE = "https://here.example:443", "https://there.example:443"


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queue]:
    url = f"sqlite:///{tmp_path / 'test.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres")
    database = Database(url, durable=False)
    with database.write() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    yield Queue(database, TABLES)
    database.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time, to be moved."""
    moment = [module.now()]
    monkeypatch.setattr(module, "now", lambda: moment[0])
    return moment


def message(name: str = "1", origin: str = HERE, subject: int = 0) -> Message:
    return Message(f"urn:uuid:{name}", "notification", origin, f"{origin}/{name}", "text/xml", subject)


def put(queue: Queue, *messages: Message, body: bytes = b"<a/>") -> None:
    for one in messages:
        with queue.database.write() as connection:
            queue.put(connection, one, body)


def names(found: list[Delivery]) -> list[str]:
    return [one.message.message_id.removeprefix("urn:uuid:") for one in found]


def counts(queue: Queue) -> tuple[int, int]:
    """Messages and pieces of bodies."""
    with queue.database.read() as connection:
        return tuple(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in TABLES)


def test_a_message_comes_back_as_it_was_put(queue: Queue) -> None:
    put(queue, message(subject=7), body=b"<b/>")
    (found,) = queue.due(10)
    assert (found.message, found.length, found.attempts) == (message(subject=7), 4, 0)
    assert b"".join(queue.body(found)) == b"<b/>"


@given(st.lists(st.integers(0, 2 * PIECE), max_size=4), st.sampled_from([1, 1000, PIECE - 1, PIECE, PIECE + 1]))
def test_bodies_are_kept_whole_however_they_come(lengths, size):
    pieces = [bytes([number + 1]) * length for number, length in enumerate(lengths)]
    whole = b"".join(pieces)
    cut = list(module._pieces([whole[start:start + size * 300] for start in range(0, len(whole), size * 300)]))
    assert b"".join(cut) == whole
    assert [len(piece) for piece in cut[:-1]] == [PIECE] * (len(cut) - 1)
    assert all(0 < len(piece) <= PIECE for piece in cut)


def test_a_large_body_is_streamed_in_and_out(queue: Queue) -> None:
    pieces = [b"a" * 700_000, b"b" * 700_000, b"c"]
    queue.keep(message(), iter(pieces), 1_400_001)
    (found,) = queue.due(10)
    read = list(queue.body(found))
    assert b"".join(read) == b"".join(pieces)
    assert max(map(len, read)) <= PIECE
    assert counts(queue) == (1, 3)


def test_an_empty_body(queue: Queue) -> None:
    queue.keep(message(), iter([]), 0)
    put(queue, message("2", THERE), body=b"")
    assert [b"".join(queue.body(found)) for found in queue.due(10)] == [b"", b""]


def test_nothing_is_due_before_all_of_it_is_there(queue: Queue) -> None:
    arrived = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"a" * PIECE
        assert queue.due(10) == []
        arrived.set()
        yield b"b"

    queue.keep(message(), body(), PIECE + 1)
    assert arrived.is_set()
    assert names(queue.due(10)) == ["1"]


def test_what_was_rolled_back_is_not_sent(queue: Queue) -> None:
    def fail() -> None:
        with queue.database.write() as connection:
            queue.put(connection, message(), b"<a/>")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert counts(queue) == (0, 0)


def test_one_for_each_origin_that_is_not_busy(queue: Queue) -> None:
    put(queue, message("1"), message("2"), message("3", THERE), message("4", THERE), message("5", "http://x:80"))
    assert names(queue.due(10)) == ["5", "1", "3"]
    assert names(queue.due(10, {HERE})) == ["5", "3"]
    assert names(queue.due(2)) == ["5", "1"]
    assert queue.due(10, {HERE, THERE, "http://x:80"}) == []


def test_what_is_there_is_forgotten(queue: Queue) -> None:
    put(queue, message("1"), message("2"))
    (first,) = queue.due(1)
    queue.delivered(first)
    assert names(queue.due(10)) == ["2"]
    assert counts(queue) == (1, 1)


def test_what_failed_comes_later_and_others_before_it(queue: Queue, clock: list[int]) -> None:
    put(queue, message("1"), message("2"))
    (first,) = queue.due(1)
    assert queue.failed(first, "HTTP 500") == WAITING
    assert names(queue.due(10)) == ["2"]
    clock[0] += FIRST_PAUSE
    (second,) = queue.due(1)
    assert names([second]) == ["2"]
    queue.delivered(second)
    (again,) = queue.due(1)
    assert (names([again]), again.attempts) == (["1"], 1)


def test_pauses_are_doubled_up_to_a_limit() -> None:
    pauses = [pause(attempts) for attempts in range(100)]
    assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


def test_a_message_that_never_gets_there_is_given_up(queue: Queue, clock: list[int]) -> None:
    begun = clock[0]
    put(queue, message())
    attempts = 0
    while (found := queue.due(1)) or clock[0] - begun < 2 * LIFETIME:
        if found:
            attempts += 1
            state = queue.failed(found[0], f"attempt {attempts}")
        clock[0] += 60_000
    assert state == FAILED
    assert 20 < attempts < 60
    assert counts(queue) == (1, 0)  # its content is gone, that it failed is known
    with queue.database.read() as connection:
        row = connection.execute(select(TABLES[0])).one()
    assert (row.state, row.error, row.attempts) == (FAILED, f"attempt {attempts}", attempts)
    assert row.ended - begun < LIFETIME


def test_what_failed_long_ago_is_forgotten(queue: Queue, clock: list[int]) -> None:
    put(queue, message("1"), message("2"))
    clock[0] += LIFETIME
    queue.failed(queue.due(1)[0], "gone")
    queue.sweep()
    assert counts(queue) == (2, 1)
    clock[0] += module.KEPT + 1
    queue.sweep()
    assert counts(queue) == (1, 1)
    assert names(queue.due(10)) == ["2"]


def test_a_body_that_never_arrived_is_forgotten(queue: Queue, clock: list[int]) -> None:
    def cut() -> Iterator[bytes]:
        yield b"a" * PIECE
        raise ConnectionError

    with pytest.raises(ConnectionError):
        queue.keep(message(), cut(), 2 * PIECE)
    assert queue.due(10) == []
    queue.sweep()
    assert counts(queue) == (1, 1)
    clock[0] += module.STRANDED + 1
    queue.sweep()
    assert counts(queue) == (0, 0)


def test_what_is_cancelled_is_not_sent(queue: Queue) -> None:
    put(queue, message("1", subject=7), message("2", subject=8), message("3", subject=7))
    (first,) = queue.due(1)
    with queue.database.write() as connection:
        queue.cancel(connection, 7)
    assert names(queue.due(10)) == ["2"]
    assert counts(queue) == (1, 1)
    assert queue.failed(first, "was on its way") == WAITING  # and is not brought back
    assert b"".join(queue.body(first)) == b""
    assert counts(queue) == (1, 1)
