"""Reading an outbox: every event once it is committed, in one order for all readers, by one process at a time.

    Consumer.take     events -> the caller's function, and the cursor behind them, in one transaction
    Consumer.events   the same step by step, for effects outside the database: at least once
    Consumer.move

An event's id says nothing about when it becomes visible: ids are made before the commit, by several processes and
clocks, so that a reader who remembered the highest id seen would pass over what commits later with a lower one. Hence
*positions*: whoever reads numbers what is committed and has no number yet, one transaction at a time (the writers'
turn on SQLite, the lock on the counter's row on PostgreSQL), always upwards. A reader who has come to a position has
then seen all that will ever be at or below it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, extract, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from journal.database import Database

_COUNTER = ""  # name of the cursor that holds the last position given
_NUMBERED = 500  # events that one transaction numbers


class LeaseLost(Exception):
    """Somebody else reads by now: undo what stands in the transaction; what happened outside will happen again."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an outbox; idempotent by id. `at`: milliseconds since 1970 when it was written."""

    position: int
    id: int
    patient_id: int
    at: int
    kind: str
    payload: dict[str, Any]


class Consumer:
    """One reader of an outbox by name, in this process; of all processes one holds the lease and reads."""

    def __init__(self, database: Database, outbox: Table, cursors: Table, name: str, seconds: float = 30.0) -> None:
        """Read with the cursor `name`, made at the first event when new. `seconds`: the lease, renewed by halves."""
        self.database, self.outbox, self.cursors, self.name, self.seconds = database, outbox, cursors, name, seconds
        self.holder = f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._renew, self._position = 0.0, 0
        for cursor in (_COUNTER, name):
            self._make(cursor)

    def take(self, handle: Callable[[Connection, Sequence[Event]], None], limit: int = 100) -> int:
        """Hand the next events over; how many they were, 0 when there are none or somebody else reads.

        What `handle` writes by its connection is committed together with the cursor, which moves first: exactly once.
        """
        events = self.events(limit)
        if not events:
            return 0
        try:
            with self.database.write() as connection:
                self.move(connection, events)
                handle(connection, events)
        except LeaseLost:
            return 0
        return len(events)

    def acquire(self) -> bool:
        """Whether this process may read now: it holds the lease, or has just got it."""
        started = time.monotonic()
        if started < self._renew:
            return True
        cursor = self.cursors.c
        with self.database.read() as connection:
            row = connection.execute(select(cursor.holder, cursor.until).where(cursor.name == self.name)).one()
            if row.holder != self.holder and row.until > clock(connection):
                return False
        with self.database.write() as connection:
            now = clock(connection)
            free = or_(cursor.holder == self.holder, cursor.until <= now)
            got = connection.execute(update(self.cursors).where(cursor.name == self.name, free).values(
                holder=self.holder, until=now + int(1000 * self.seconds))).rowcount == 1
        self._renew = started + self.seconds / 2 if got else 0.0
        return got

    def release(self) -> None:
        """Let others read at once."""
        self._renew = 0.0
        cursor = self.cursors.c
        with self.database.write() as connection:
            connection.execute(update(self.cursors).where(cursor.name == self.name, cursor.holder == self.holder)
                               .values(holder="", until=0))

    def events(self, limit: int = 100) -> list[Event]:
        """The next events behind the cursor, at most `limit`; [] when there are none or somebody else reads."""
        if not self.acquire():
            return []
        self._number()
        box, cursor = self.outbox.c, self.cursors.c
        with self.database.read() as connection:
            self._position = connection.execute(select(cursor.position).where(cursor.name == self.name)).scalar_one()
            rows = connection.execute(select(self.outbox).where(box.position > self._position)
                                      .order_by(box.position).limit(limit)).all()
        return [Event(row.position, row.id, row.patient_id, row.at, row.kind, json.loads(row.payload)) for row in rows]

    def move(self, connection: Connection, events: Sequence[Event]) -> None:
        """Put the cursor behind events that `events` gave; `LeaseLost` when another process has read meanwhile."""
        cursor = self.cursors.c
        moved = connection.execute(update(self.cursors).where(
            cursor.name == self.name, cursor.holder == self.holder, cursor.position == self._position)
            .values(position=events[-1].position)).rowcount
        if not moved:
            self._renew = 0.0
            raise LeaseLost(self.name)
        self._position = events[-1].position

    def _number(self) -> None:
        """Give positions to what is committed and has none; only one transaction does so at a time."""
        box, cursor = self.outbox.c, self.cursors.c
        fresh = box.position.is_(None)
        with self.database.read() as connection:
            if connection.execute(select(box.id).where(fresh).limit(1)).first() is None:
                return
        with self.database.write() as connection:
            last = connection.execute(select(cursor.position).where(cursor.name == _COUNTER)
                                      .with_for_update()).scalar_one()
            rows = connection.execute(select(box.patient_id, box.id).where(fresh).order_by(box.id)
                                      .limit(_NUMBERED)).all()
            numbered = [{"owner": row.patient_id, "event": row.id, "place": last + number}
                        for number, row in enumerate(rows, 1)]
            if numbered:
                connection.execute(update(self.outbox).where(
                    box.patient_id == bindparam("owner"), box.id == bindparam("event"))
                    .values(position=bindparam("place")), numbered)
                connection.execute(update(self.cursors).where(cursor.name == _COUNTER)
                                   .values(position=last + len(numbered)))

    def _make(self, name: str) -> None:
        there = select(self.cursors.c.name).where(self.cursors.c.name == name)
        with self.database.read() as connection:
            if connection.execute(there).first() is not None:
                return
        try:
            with self.database.write() as connection:
                connection.execute(insert(self.cursors), {"name": name, "position": 0, "holder": "", "until": 0})
        except IntegrityError:
            pass  # another process was first


def last_position(connection: Connection, cursors: Table) -> int:
    """The last position given; what commits from now on gets a higher one."""
    found = connection.execute(select(cursors.c.position).where(cursors.c.name == _COUNTER)).scalar()
    return found or 0


def clock(connection: Connection) -> int:
    """Milliseconds since 1970 by the one clock that all processes share: the database server's, if there is one."""
    if connection.dialect.name == "sqlite":
        return time.time_ns() // 1_000_000
    seconds = connection.execute(select(extract("epoch", func.clock_timestamp()))).scalar_one()
    return int(seconds * 1000)
