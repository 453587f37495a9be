"""What happened: each exchange received and answered, with who, about whom, every finding and the time of each step."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from journal.database import Database
from journal.ids import new_id
from journal.tables import assertion_seen as seen_table
from journal.tables import exchange as table
from security.identity import Caller
from xds.findings import Finding, Severity


@dataclass(slots=True)
class Exchange:
    """One exchange while it happens: opened before the first byte is read, recorded when the answer is known.

    `address`: the URL at which it came in, as the client wrote it.
    """

    door: str = ""
    name: str = ""
    action: str = ""
    message_id: str = ""
    patient: str = ""
    caller: Caller = field(default_factory=Caller)
    id: int = field(default_factory=new_id)
    at: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    steps: list[tuple[str, int]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    verdict: str = ""
    address: str = ""
    request: bytes = b""
    response: bytes = b""
    _started: int = field(default_factory=time.perf_counter_ns)
    _within: list[int] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, also when it refuses; what a step inside it took is not counted twice."""
        begun = time.perf_counter_ns()
        self._within.append(0)
        try:
            yield
        finally:
            spent = time.perf_counter_ns() - begun
            self.steps.append((name, (spent - self._within.pop()) // 1000))
            if self._within:
                self._within[-1] += spent

    def note(self, findings: Sequence[Finding]) -> None:
        """Keep findings for the journal."""
        self.findings += findings

    @property
    def microseconds(self) -> int:
        """Time since the exchange was opened."""
        return (time.perf_counter_ns() - self._started) // 1000


@dataclass(frozen=True, slots=True)
class Keeping:
    """What the journal keeps: exchanges, and of each at most so many bytes of request and response (0: no content)."""

    exchanges: int = 20_000
    content: int = 256 * 1024


class Journal:
    """The journal of one server."""

    def __init__(self, database: Database, keeping: Keeping) -> None:
        """Use a database whose tables are migrated."""
        self.database, self.keeping = database, keeping

    def record(self, exchange: Exchange) -> None:
        """Write an exchange down; every thousandth makes room by the quota."""
        with self.database.write() as connection:
            connection.execute(insert(table), _row(exchange, self.keeping.content))
            if exchange.id % 1000 == 0:
                oldest = connection.execute(select(table.c.id).order_by(table.c.id.desc())
                                            .offset(self.keeping.exchanges).limit(1)).scalar()
                if oldest is not None:
                    connection.execute(delete(table).where(table.c.id <= oldest))

    def recent(self, limit: int = 50, since: int = 0, verdict: str = "", name: str = "") -> list[dict[str, Any]]:
        """Exchanges after a cursor (id), oldest first, the newest `limit` of them, in the shape of `journal --json`."""
        statement = select(table).where(table.c.id > since).order_by(table.c.id.desc()).limit(limit)
        if verdict:
            statement = statement.where(table.c.verdict == verdict)
        if name:
            statement = statement.where(table.c.name == name)
        with self.database.read() as connection:
            rows = connection.execute(statement).mappings().all()
        return [_shown(row) for row in reversed(rows)]

    def content(self, exchange_id: int) -> tuple[bytes, bytes]:
        """Request and response of an exchange as far as they were kept; both empty when there is none."""
        with self.database.read() as connection:
            row = connection.execute(select(table.c.request, table.c.response)
                                     .where(table.c.id == exchange_id)).first()
        return (_inflate(row.request), _inflate(row.response)) if row else (b"", b"")

    def count(self) -> int:
        """How many exchanges are kept."""
        with self.database.read() as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()

    def first_use(self, key: bytes, until: int) -> bool:
        """Whether an assertion comes for the first time; remembered until its end (milliseconds since 1970)."""
        with self.database.write() as connection:
            connection.execute(delete(seen_table).where(seen_table.c.until < time.time_ns() // 1_000_000))
            known = connection.execute(update(seen_table).where(seen_table.c.key == key)
                                       .values(until=until)).rowcount
            if not known:
                connection.execute(insert(seen_table), {"key": key, "until": until})
        return not known


def verdict_of(findings: Sequence[Finding]) -> str:
    """"refused" with an error, "warned" with a warning, else "accepted"."""
    severities = {finding.severity for finding in findings}
    if Severity.ERROR in severities:
        return "refused"
    return "warned" if Severity.WARNING in severities else "accepted"


def _row(exchange: Exchange, content: int) -> dict[str, Any]:
    caller = exchange.caller
    return {
        "id": exchange.id, "at": exchange.at, "name": exchange.name[:40], "action": exchange.action[:200],
        "door": exchange.door, "caller": caller.name[:200], "caller_id": caller.national_id[:80],
        "structure_id": caller.structure_id[:80], "mode": str(caller.mode), "patient": exchange.patient[:256],
        "message_id": exchange.message_id[:256], "verdict": exchange.verdict or verdict_of(exchange.findings),
        "microseconds": min(exchange.microseconds, 2**31 - 1), "steps": _json(exchange.steps),
        "findings": _json([finding.as_dict() for finding in exchange.findings]),
        "documents": _json(exchange.documents), "request": _deflate(exchange.request, content),
        "response": _deflate(exchange.response, content)}


def _shown(row: Any) -> dict[str, Any]:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(row["at"] / 1000)) + f".{row['at'] % 1000:03d}Z"
    return {
        "transaction": str(row["id"]), "time": moment, "name": row["name"], "caller": row["caller"],
        "caller_id": row["caller_id"], "structure": row["structure_id"], "mode": row["mode"], "door": row["door"],
        "patient": row["patient"], "verdict": row["verdict"], "findings": json.loads(row["findings"]),
        "documents": json.loads(row["documents"]), "milliseconds": row["microseconds"] / 1000,
        "steps": json.loads(row["steps"]), "action": row["action"], "message_id": row["message_id"]}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _deflate(data: bytes, limit: int) -> bytes | None:
    return zlib.compress(data[:limit], 1) if data and limit else None


def _inflate(data: bytes | None) -> bytes:
    return zlib.decompress(data) if data else b""
