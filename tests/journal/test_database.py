"""Databases: whole transactions, readers who do not wait, writers who take turns over threads and processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from journal import database as module
from journal.database import Database, is_alive


def opened(path: Path, durable: bool = True) -> Database:
    return Database(f"sqlite:///{path}", durable)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = opened(tmp_path / "test.db", durable=False)
    with made.write() as connection:
        connection.execute(text("CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO counter VALUES ('n', 0)"))
    yield made
    made.close()


def value(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT value FROM counter")).scalar_one())


def increment(database: Database, times: int = 1, pause: float = 0) -> None:
    """Read, then write: lost updates show at once."""
    for _ in range(times):
        with database.write() as connection:
            known = connection.execute(text("SELECT value FROM counter")).scalar_one()
            time.sleep(pause)
            connection.execute(text("UPDATE counter SET value = :value"), {"value": known + 1})


# --- transactions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_undoes_everything(database: Database, error: type[BaseException]) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(text("UPDATE counter SET value = 7"))
            connection.execute(text("CREATE TABLE other (x INTEGER)"))
            raise error

    with pytest.raises(error):
        fail()
    assert value(database) == 0
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM sqlite_master WHERE name = 'other'")).scalar_one() == 0
    increment(database)
    assert value(database) == 1


def test_a_read_changes_nothing_by_itself(database: Database) -> None:
    assert [value(database) for _ in range(3)] == [0, 0, 0]


def test_a_reader_keeps_one_view(database: Database) -> None:
    """What is committed meanwhile does not show, neither whole nor half."""
    with database.read() as connection:
        before = connection.execute(text("SELECT value FROM counter")).scalar_one()
        increment(database, 3)
        assert connection.execute(text("SELECT value FROM counter")).scalar_one() == before == 0
    assert value(database) == 3


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE counter SET value = 7"))
        began = time.perf_counter()
        assert value(database) == 0
        assert time.perf_counter() - began < 1
    assert value(database) == 7


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
def test_what_was_acknowledged_is_on_the_medium(tmp_path: Path, durable: bool, synchronous: int) -> None:
    """FULL for records (SQLite's 2), NORMAL for the journal; a log beside the file in both."""
    made = opened(tmp_path / "x.db", durable)
    with made.read() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == synchronous
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    made.close()


def test_folders_are_made(tmp_path: Path) -> None:
    made = opened(tmp_path / "a" / "b" / "x.db")
    assert is_alive(made)
    made.close()


def test_whether_it_answers(database: Database, tmp_path: Path) -> None:
    assert is_alive(database)
    (tmp_path / "folder.db").mkdir()
    assert not is_alive(opened(tmp_path / "folder.db"))
    (tmp_path / "broken.db").write_bytes(b"no database at all, but longer than a header of one would be" * 20)
    assert not is_alive(opened(tmp_path / "broken.db"))


# --- turns ---------------------------------------------------------------------------------------------------------


def test_threads_take_turns(database: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        for job in [pool.submit(increment, database, 5, 0.001) for _ in range(6)]:
            job.result(timeout=60)
    assert value(database) == 30


def in_a_process(path: Path, times: int) -> None:
    own = opened(path, durable=False)
    increment(own, times, 0.001)
    own.close()


def test_processes_take_turns(database: Database, tmp_path: Path) -> None:
    database.close()
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
        for job in [pool.submit(in_a_process, tmp_path / "test.db", 20) for _ in range(3)]:
            job.result(timeout=60)
    assert value(database) == 60


def test_a_child_does_not_share_its_parents_turn(database: Database, tmp_path: Path) -> None:
    """An open lock file would be one lock for both, and exclude nobody."""
    increment(database)
    with database.write() as connection:
        child = os.fork()
        if child == 0:
            # the parent is inside its turn: the child must wait for it, and gives up
            lock = database._lock
            assert lock is not None
            lock._thread = threading.Lock()
            waiting = threading.Thread(target=lock.__enter__, daemon=True)
            waiting.start()
            waiting.join(0.3)
            os._exit(0 if waiting.is_alive() else 1)
        assert os.waitpid(child, 0)[1] == 0
        connection.execute(text("UPDATE counter SET value = 5"))
    assert value(database) == 5


def test_a_turn_ends_with_the_process(database: Database, tmp_path: Path) -> None:
    """A writer that dies in the middle holds nobody up, and has written nothing."""
    database.close()
    child = os.fork()
    if child == 0:
        own = opened(tmp_path / "test.db")
        with own.write() as connection:
            connection.execute(text("UPDATE counter SET value = 7"))
            os._exit(9)
    os.waitpid(child, 0)
    began = time.perf_counter()
    increment(database)
    assert time.perf_counter() - began < 5
    assert value(database) == 1


def test_a_turn_that_fails_is_passed_on(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong at its beginning: the next writer gets in."""
    def fail(*_arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module.fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"):
        increment(database)
    monkeypatch.undo()
    increment(database)
    assert value(database) == 1


# --- the log -------------------------------------------------------------------------------------------------------


def grow(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS filler (x BLOB)"))
        connection.execute(text("INSERT INTO filler VALUES (zeroblob(300000))"))


def log_size(path: Path) -> int:
    return os.path.getsize(f"{path}-wal")


def test_a_long_log_is_folded_back(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(database)
    assert log_size(tmp_path / "test.db") > 200_000
    monkeypatch.setattr(module, "_WAL_LIMIT", 200_000)
    grow(database)
    assert log_size(tmp_path / "test.db") == 0
    assert value(database) == 0


def test_a_reader_does_not_hold_the_writers_up(database: Database, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """The log stays long until the reader has gone; what is committed is committed."""
    monkeypatch.setattr(module, "_WAL_LIMIT", 200_000)
    with database.read() as connection:
        connection.execute(text("SELECT value FROM counter")).scalar_one()
        began = time.perf_counter()
        grow(database)
        increment(database)
        assert time.perf_counter() - began < 5
    assert value(database) == 1
    grow(database)
    assert log_size(tmp_path / "test.db") == 0


def test_a_log_that_cannot_be_folded_undoes_nothing(database: Database, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """After the commit nothing may look like a failure: whoever asked would take back what is true."""
    monkeypatch.setattr(module, "_WAL_LIMIT", 1)
    original = module.os.path.getsize
    calls: list[str] = []

    def gone(path: str) -> int:
        calls.append(path)
        if len(calls) == 1:
            raise FileNotFoundError(path)
        return original(path)

    monkeypatch.setattr(module.os.path, "getsize", gone)
    increment(database)
    increment(database)
    assert value(database) == 2
    assert len(calls) >= 2
