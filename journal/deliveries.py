"""Messages to be pushed to somebody: kept durably until they are there, or until it makes no sense any more.

    put         a message, in the transaction that made it necessary
    keep        a large one, piece by piece; what it returns is durable
    due         messages whose turn has come, not more than one for each origin
    delivered   it is there
    failed      it will be tried again, later and later, until its time is over

Whoever sends holds the lease of a `journal.consumer.Consumer`; should two send at once all the same, or a process die
between sending and `delivered`, the same message goes out again, with the same message id.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from journal.database import Database
from journal.ids import new_id

ARRIVING, WAITING, FAILED = "arriving", "waiting", "failed"
PIECE = 512 * 1024  # bytes of a body that one row holds
LIFETIME = 24 * 3600 * 1000  # milliseconds that a message is tried for
#: Milliseconds before the next attempt: after the first, doubled each time, and never more
FIRST_PAUSE, LONGEST_PAUSE = 5_000, 3600 * 1000
KEPT = 30 * 24 * 3600 * 1000  # milliseconds that it is remembered that a message failed
STRANDED = 24 * 3600 * 1000  # a body that is arriving for longer than this never will
_AT_ONCE = 400  # messages that one sweep forgets of each sort


@dataclass(frozen=True, slots=True)
class Message:
    """Something to be pushed: `subject` is what it is about (a subscription's id), 0 nothing that can be cancelled."""

    message_id: str
    kind: str
    origin: str
    address: str
    content_type: str
    subject: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way; `attempts` were made before."""

    id: int
    message: Message
    length: int
    attempts: int
    until: int


class Queue:
    """The messages of one database: the tables that `journal.tables.deliveries` made."""

    def __init__(self, database: Database, tables: tuple[Table, Table]) -> None:
        """Use migrated tables."""
        self.database, (self.table, self.parts) = database, tables

    def put(self, connection: Connection, message: Message, body: bytes) -> int:
        """Add a message inside the caller's transaction; returns its id."""
        identity = new_id()
        connection.execute(insert(self.table), _row(identity, message, len(body), WAITING))
        pieces = [{"delivery_id": identity, "number": number, "data": piece}
                  for number, piece in enumerate(_pieces([body]))]
        if pieces:
            connection.execute(insert(self.parts), pieces)
        return identity

    def keep(self, message: Message, body: Iterable[bytes], length: int) -> int:
        """Add a message of any size, a transaction a piece: nobody is kept from writing for long. Durable on return."""
        identity = new_id()
        with self.database.write() as connection:
            connection.execute(insert(self.table), _row(identity, message, length, ARRIVING))
        for number, piece in enumerate(_pieces(body)):
            with self.database.write() as connection:
                connection.execute(insert(self.parts), {"delivery_id": identity, "number": number, "data": piece})
        with self.database.write() as connection:
            connection.execute(update(self.table).where(self.table.c.id == identity).values(state=WAITING))
        return identity

    def due(self, limit: int, busy: Collection[str] = ()) -> list[Delivery]:
        """Messages to be sent now, one for each origin that is not `busy`, at most `limit`."""
        table, found, origin = self.table.c, list[Delivery](), ""
        with self.database.read() as connection:
            while len(found) < limit:
                # From origin to origin by the index: however much waits for one, the others are found at once.
                following = connection.execute(select(table.origin).where(
                    table.state == WAITING, table.origin > origin).order_by(table.origin).limit(1)).scalar()
                if following is None:
                    break
                origin = following
                if origin not in busy:
                    found += map(_delivery, connection.execute(select(self.table).where(
                        table.state == WAITING, table.origin == origin, table.due <= now())
                        .order_by(table.due).limit(1)).mappings())
        return found

    def body(self, delivery: Delivery) -> Iterator[bytes]:
        """The body's pieces; a message cancelled meanwhile has none left."""
        parts = self.parts.c
        for number in range(-(-delivery.length // PIECE)):
            with self.database.read() as connection:
                piece = connection.execute(select(parts.data).where(
                    parts.delivery_id == delivery.id, parts.number == number)).scalar()
            yield bytes(piece or b"")

    def delivered(self, delivery: Delivery) -> None:
        """It is there, and is forgotten."""
        with self.database.write() as connection:
            self._forget(connection, [delivery.id])

    def failed(self, delivery: Delivery, error: str) -> str:
        """It is not there; returns its state: "waiting" for the next attempt, or "failed" for good."""
        due = now() + pause(delivery.attempts)
        state = WAITING if due < delivery.until else FAILED
        table = self.table.c
        with self.database.write() as connection:
            connection.execute(update(self.table).where(table.id == delivery.id, table.state == WAITING).values(
                state=state, due=due, attempts=delivery.attempts + 1, error=error[:300], ended=now()))
            if state == FAILED:
                connection.execute(delete(self.parts).where(self.parts.c.delivery_id == delivery.id))
        return state

    def cancel(self, connection: Connection, subject: int) -> None:
        """Forget what is still to be sent about a subject, inside the caller's transaction."""
        table = self.table.c
        ids = select(table.id).where(table.subject == subject)
        connection.execute(delete(self.parts).where(self.parts.c.delivery_id.in_(ids)))
        connection.execute(delete(self.table).where(table.subject == subject))

    def sweep(self) -> None:
        """Forget what failed long ago, and bodies that never arrived as a whole."""
        table = self.table.c
        with self.database.read() as connection:
            ids = [identity for state, column, age in ((FAILED, table.ended, KEPT), (ARRIVING, table.at, STRANDED))
                   for identity in connection.execute(select(table.id).where(
                       table.state == state, column < now() - age).limit(_AT_ONCE)).scalars()]
        if ids:
            with self.database.write() as connection:
                self._forget(connection, ids)

    def _forget(self, connection: Connection, ids: Sequence[int]) -> None:
        connection.execute(delete(self.parts).where(self.parts.c.delivery_id.in_(ids)))
        connection.execute(delete(self.table).where(self.table.c.id.in_(ids)))


def pause(attempts: int) -> int:
    """Milliseconds until the next attempt after `attempts` + 1 that failed."""
    return min(FIRST_PAUSE << min(attempts, 20), LONGEST_PAUSE)


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _pieces(body: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `PIECE`, the last one shorter."""
    buffer = bytearray()
    for piece in body:
        buffer += piece
        while len(buffer) >= PIECE:
            yield bytes(buffer[:PIECE])
            del buffer[:PIECE]
    if buffer:
        yield bytes(buffer)


def _row(identity: int, message: Message, length: int, state: str) -> dict[str, Any]:
    moment = now()
    return {"id": identity, "message_id": message.message_id, "kind": message.kind, "subject": message.subject,
            "origin": message.origin, "address": message.address, "content_type": message.content_type,
            "length": length, "state": state, "attempts": 0, "at": moment, "due": moment, "until": moment + LIFETIME,
            "ended": 0, "error": ""}


def _delivery(row: Any) -> Delivery:
    message = Message(row["message_id"], row["kind"], row["origin"], row["address"], row["content_type"],
                      row["subject"])
    return Delivery(row["id"], message, row["length"], row["attempts"], row["until"])


