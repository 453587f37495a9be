"""Opening databases: SQLite embedded, PostgreSQL for many machines; reads that do not wait, writes that take turns.

SQLite: WAL, synchronous FULL (what was acknowledged survives power loss), one writer at a time over all processes by
a file lock: without it the tail of waiting writers explodes while the throughput stays the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url

_WAL_LIMIT = 64 * 1024 * 1024  # bytes; a longer log is folded back under the writer's lock
_WRITE = {"volet_write": True}
_BUSY = "busy_timeout=30000"


class Database:
    """One database: `read()` and `write()` give a connection inside one transaction."""

    def __init__(self, url: str, durable: bool = True) -> None:
        """Open by SQLAlchemy URL. `durable=False` trades the last commits at power loss for speed (journal only)."""
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = self._sqlite(durable) if self.is_sqlite else create_engine(url, pool_pre_ping=True)
        self._lock = _WriterLock(Path(f"{self.url.database}.lock")) if self.is_sqlite else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; never waits for writers."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end, rolled back on any exception. Durable when it returns."""
        if self._lock is None:
            with self.engine.begin() as connection:
                yield connection
            return
        with self._lock, self.engine.connect() as connection:
            writer = connection.execution_options(**_WRITE)
            with writer.begin():
                yield writer
            self._fold_log(writer)

    def migrate(self, package: str) -> None:
        """Bring the tables of a room to the newest version of its `migrations/`."""
        with self.write() as connection:
            config = Config()
            config.set_main_option("script_location", f"{package}:migrations")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _sqlite(self, durable: bool) -> Engine:
        path = Path(self.url.database or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self.url, connect_args={"timeout": 30, "check_same_thread": False})

        @event.listens_for(engine, "connect")
        def _connected(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # transactions begin where we say so, below
            for pragma in _pragmas(durable):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            writing = connection.get_execution_options().get("volet_write")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

        return engine

    def _fold_log(self, connection: Connection) -> None:
        try:
            if os.path.getsize(f"{self.url.database}-wal") < _WAL_LIMIT:
                return
        except FileNotFoundError:
            return
        raw = connection.connection.dbapi_connection
        if raw is not None:
            with suppress(sqlite3.Error):  # the transaction is committed; a log that stays long does not undo it
                # Readers of an old state keep the log as it is: every writer would wait for them here, each in turn.
                raw.execute("PRAGMA busy_timeout=100")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raw.execute(f"PRAGMA {_BUSY}")


class _WriterLock:
    """Writers of one SQLite file take turns, over threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = threading.Lock()
        self._file: int | None = None
        self._pid = 0

    def __enter__(self) -> None:
        self._thread.acquire()
        try:
            if self._file is None or self._pid != os.getpid():
                # A lock file opened before a fork would be shared with the parent and exclude nobody.
                self._file, self._pid = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), os.getpid()
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._thread.release()
            raise

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._thread.release()


def _pragmas(durable: bool) -> tuple[str, ...]:
    return ("journal_mode=WAL", f"synchronous={'FULL' if durable else 'NORMAL'}", "foreign_keys=ON",
            _BUSY, f"journal_size_limit={_WAL_LIMIT}", "temp_store=MEMORY", "cache_size=-32000")


def take_turns(connection: Connection, names: Iterable[str]) -> None:
    """Of the transactions that name the same, one goes on after the other, until they end; different ones do not wait.

    PostgreSQL only: SQLite has one writer anyway. Of two that check before they write, the second sees the first.
    """
    if connection.dialect.name != "postgresql":
        return
    keys = {int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
            for name in names}
    # In one order for everybody, so that no two wait for each other.
    connection.execute(text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key"),
                       {"keys": sorted(keys)}).all()


def run_migrations(context: Any, metadata: Any, version_table: str) -> None:
    """What each room's `migrations/env.py` does: upgrade on the connection it was handed."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, version_table=version_table,
                      transactional_ddl=True, transaction_per_migration=False)
    context.run_migrations()


def is_alive(database: Database) -> bool:
    """Whether the database answers."""
    try:
        with database.read() as connection:
            return connection.execute(text("SELECT 1")).scalar() == 1
    except Exception:  # whatever the driver says, it does not answer
        return False
