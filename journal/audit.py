"""The audit trail: an append-only table in which each record carries a MAC over itself and the one before.

    Trail.append     events -> durable records; raises when it cannot, for there is no access without audit
    Trail.of         who had access to one patient's record
    verify           the first record that is not as it was written; missing tails by the anchors
    from_exchange    one exchange of the journal -> Event

mac = HMAC-SHA256(key, prev || payload); the payload is canonical JSON and holds number and time. Who can write the
database but has not the key cannot change, insert, move or remove a record unseen; who cuts the newest ones off is
found out by the anchors, lines `number mac` in another place.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from journal.batches import Batches
from journal.database import Database
from journal.exchanges import Exchange
from journal.tables import audit as table
from security import audit, audited
from security.audit import AuditSource, Coded, Event, Object, Outcome, Participant, Transaction
from security.identity import Caller
from xds import hl7v2
from xds.findings import Catalogue, Finding, Refused, errors
from xds.soap import ANONYMOUS
from xds.xml import Element

RULES = Catalogue("journal")
UNAVAILABLE = RULES["V-JRN-AUDIT-UNAVAILABLE"]

ORIGIN = bytes(32)  # `prev` of the first record
_KEY = 32  # bytes
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS = 1000


# --- writing -------------------------------------------------------------------------------------------------------


class Trail:
    """The trail of one server; shared by threads, and with other processes through the database."""

    def __init__(self, database: Database, key: bytes, anchors: Path | None = None, every: float = 60.0) -> None:
        """Use a migrated, *durable* database. The head is anchored at most once in `every` seconds, on writing."""
        self.database, self._key = database, key
        self._anchors, self._every, self._next_anchor = anchors, every, 0.0
        self._batches: Batches[Event] = Batches(self._write)
        self._unwritten = self._unanchored = ""

    @property
    def problem(self) -> str:
        """Why the last record could not be written or the head not be anchored, "" when all is well."""
        return self._unwritten or self._unanchored

    def append(self, events: Sequence[Event]) -> None:
        """Write events down, durably, together with those of other threads; `Refused` when that cannot be done."""
        try:
            self._batches.put(events)
        except (OSError, SQLAlchemyError, ValueError) as error:
            self._unwritten = type(error).__name__
            raise Refused(UNAVAILABLE.at(received=self._unwritten)) from error
        self._unwritten = ""

    def of(self, patient: str, limit: int = 1000) -> list[dict[str, Any]]:
        """Records about one patient (CX), newest first: who, when, what, in what mode, with what outcome."""
        statement = select(table.c.payload).where(table.c.patient == _pseudonym(self._key, patient))
        with self.database.read() as connection:
            rows = connection.execute(statement.order_by(table.c.seq.desc()).limit(limit)).scalars().all()
        return [json.loads(row) for row in rows]

    def anchor(self) -> str:
        """Write number and MAC of the newest record into the anchors and return the line; "" when there is none."""
        with self.database.read() as connection:
            seq, mac = _head(connection)
        return self._anchor(seq, mac) if seq else ""

    def _write(self, events: list[Event]) -> None:
        with self.database.write() as connection:
            if not self.database.is_sqlite:  # SQLite's writers take turns already
                connection.execute(text("LOCK TABLE audit IN EXCLUSIVE MODE"))
            rows = list(chained(events, _head(connection), self._key))
            if rows:
                connection.execute(insert(table), rows)
        if rows and time.monotonic() >= self._next_anchor:
            self._next_anchor = time.monotonic() + self._every
            self._try_to_anchor(rows[-1]["seq"], rows[-1]["mac"])

    def _try_to_anchor(self, seq: int, mac: bytes) -> None:
        """The record is written whatever becomes of its anchor; that one is missing must be seen, not refuse."""
        try:
            self._anchor(seq, mac)
            self._unanchored = ""
        except OSError as error:
            self._unanchored = f"anchors: {error.strerror}"

    def _anchor(self, seq: int, mac: bytes) -> str:
        line = f"{seq} {mac.hex()}"
        if self._anchors is not None:
            _add_line(self._anchors, line)
        return line


def chained(events: Iterable[Event], head: tuple[int, bytes], key: bytes) -> Iterator[dict[str, Any]]:
    """Rows of the events, each bound to the one before; `head` is number and MAC of the last record there is."""
    seq, prev = head
    for event in events:
        seq += 1
        payload = canonical({"seq": seq, **audit.to_record(event)})
        mac = mac_of(key, prev, payload)
        yield {"seq": seq, "at": _milliseconds(event.at), "patient": _pseudonym(key, event.patient), "prev": prev,
               "mac": mac, "payload": payload}
        prev = mac


def canonical(value: object) -> str:
    """JSON with sorted keys and no blanks: one text for each value (RFC 8785 in spirit)."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def mac_of(key: bytes, prev: bytes, payload: str) -> bytes:
    """HMAC-SHA256 over the MAC before and the payload."""
    return hmac.digest(key, prev + payload.encode(), "sha256")


def _head(connection: Connection) -> tuple[int, bytes]:
    row = connection.execute(select(table.c.seq, table.c.mac).order_by(table.c.seq.desc()).limit(1)).first()
    return (row.seq, row.mac) if row else (0, ORIGIN)


def _pseudonym(key: bytes, patient: str) -> str:
    """Keyed digest of a patient's identifier, id and authority only: `^NH` after it is no other patient."""
    if not patient:
        return ""
    identity = "^".join(patient.split("^")[:4]).encode("utf-8", "replace")
    return hmac.digest(key, b"patient\0" + identity, "sha256").hex()[:32]


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _add_line(path: Path, line: str) -> None:
    """Append a line, durably."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- the key -------------------------------------------------------------------------------------------------------


def load_key(path: Path) -> bytes:
    """The key of the trail, made (mode 0600) when the file is not there; ValueError when it can be read by others.

    It belongs beside the database, not into it nor into its backup: who has both can forge the past.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(_KEY) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValueError(f"{path}: the key of the audit trail can be read by others (chmod 600)")
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _KEY:
        raise ValueError(f"{path}: {2 * _KEY} hexadecimal digits are expected")
    return key


# --- verifying -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """Records that hold, and the first that does not (0: all hold) with the reason."""

    records: int
    first_bad: int = 0
    reason: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing was changed, inserted, moved or removed."""
        return not self.first_bad


def verify(database: Database, key: bytes, anchors: Path | None = None) -> Verdict:
    """Read the whole trail and compare it with its MACs and with the anchors; memory does not grow with it."""
    expected = read_anchors(anchors) if anchors is not None and anchors.exists() else {}
    seq, prev = 0, ORIGIN
    for row in _rows(database):
        reason = _fault(row, seq + 1, prev, key, expected.pop(seq + 1, None))
        if reason:
            return Verdict(seq, seq + 1, reason)
        seq, prev = seq + 1, row.mac
    if expected:
        return Verdict(seq, seq + 1, f"cut off: anchored up to {max(expected)}")
    return Verdict(seq)


def read_anchors(path: Path) -> dict[int, str]:
    """MAC by number, of every line; ValueError names a bad one."""
    found: dict[int, str] = {}
    for number, line in enumerate(path.read_text("ascii").splitlines(), 1):
        seq, _, mac = line.partition(" ")
        if not seq.isdecimal() or len(mac) != 2 * len(ORIGIN) or found.get(int(seq), mac) != mac:
            raise ValueError(f"{path}:{number}: not an anchor, or one that contradicts another")
        found[int(seq)] = mac
    return found


def _rows(database: Database) -> Iterator[Any]:
    """All records by number, in pieces."""
    last = -1
    while True:
        with database.read() as connection:
            rows = connection.execute(select(table).where(table.c.seq > last).order_by(table.c.seq).limit(_ROWS)).all()
        if not rows:
            return
        yield from rows
        last = rows[-1].seq


def _fault(row: Any, seq: int, prev: bytes, key: bytes, anchored: str | None) -> str:
    """What is wrong with a record, "" when it is the one that was written."""
    if row.seq != seq:
        return f"missing: {row.seq} comes next"
    if row.prev != prev:
        return "not bound to the record before"
    if not hmac.compare_digest(row.mac, mac_of(key, prev, row.payload)):
        return "changed: the MAC does not hold"
    if anchored is not None and anchored != row.mac.hex():
        return "not the record that was anchored"
    said = json.loads(row.payload)
    if (said["seq"] != seq or row.patient != _pseudonym(key, said["patient"])
            or row.at != _milliseconds(datetime.fromisoformat(said["at"]))):
        return "columns differ from the payload"
    return ""


# --- from the journal ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an exchange took place: who reports, the address called, both ends, wsa:ReplyTo of the request."""

    reporter: AuditSource
    endpoint: str = ""
    host: str = ""
    peer: str = ""
    reply_to: str = ""


def from_exchange(exchange: Exchange, scene: Scene, body: Element | None = None) -> Event:
    """The audit record of one exchange; `body` is the body element of the SOAP request as far as it was read.

    An exchange that never came to a transaction is a security alert: somebody knocked.
    """
    row = audit.transactions().get(exchange.name)
    found = errors(exchange.findings)
    base = Event(
        audit.event_code("110113"), audit.Action.EXECUTE, outcome_of(found, bool(exchange.documents)),
        datetime.fromtimestamp(exchange.at / 1000, UTC), _participants(exchange, scene, row), scene.reporter,
        (_alert(exchange, found),), purposes=audit.purposes(exchange.caller), description=_described(found),
        objects=_patients(exchange, row, body), context=_context(exchange))
    if row is None:
        return base
    named = () if body is None else audited.objects_of(row, body)
    return replace(base, event=row.event, types=(row.code,), action=row.action_of(exchange.action),
                   objects=(*base.objects, *named))


def outcome_of(found: Sequence[Finding], has_documents: bool = False) -> Outcome:
    """Of the errors found: ours are major, refusals serious, those of an answer that gave something out minor."""
    if not found:
        return Outcome.SUCCESS
    if any(finding.rule.fault.startswith("Receiver") for finding in found):
        return Outcome.MAJOR
    faults = any(finding.rule.fault for finding in found)
    return Outcome.MINOR if has_documents and not faults else Outcome.SERIOUS


def _participants(exchange: Exchange, scene: Scene, row: Transaction | None) -> tuple[Participant, ...]:
    """Source, human requestors, destination (ITI TF-2, the tables of each transaction)."""
    here, there = _ids(exchange, scene)
    us_source = row is not None and row.is_source
    source, destination = audit.role_code("110153"), audit.role_code("110152")
    other = Participant(there, True, (destination if us_source else source,), address=scene.peer)
    us = Participant(here, False, (source if us_source else destination,), alternative_id=str(os.getpid()),
                     address=scene.host)
    first, last = (us, other) if us_source else (other, us)
    return (first, *audit.human(exchange.caller), last)


def _ids(exchange: Exchange, scene: Scene) -> tuple[str, str]:
    """UserID of us and of the other: addresses of SOAP; facility|application of HL7 v2 (ITI TF-2 §3.8.5.1)."""
    if exchange.door == "mllp":
        header = hl7v2.read_header(exchange.request)
        return (f"{header.receiving_facility}|{header.receiving_application}",
                f"{header.sending_facility}|{header.sending_application}")
    return scene.endpoint or scene.reporter.id, scene.reply_to or ANONYMOUS


def _patients(exchange: Exchange, row: Transaction | None, body: Element | None) -> tuple[Object, ...]:
    """The patient of the exchange, with the identifier of an HL7 message that fed it."""
    detail = row.detail if row is not None else ""
    if not exchange.patient:
        return ()
    identifier = audited.message_id_of(body) if body is not None and detail == "II" else exchange.message_id
    return (audit.patient(exchange.patient, ((detail, identifier),) if detail else ()),)


def _alert(exchange: Exchange, found: Sequence[Finding]) -> Coded:
    """What an exchange without transaction amounts to: the first thing found wrong with it."""
    code = found[0].code if found else exchange.name or "–"
    return Coded(code, "Volet", found[0].rule.en[:200] if found else code)


def _described(found: Sequence[Finding]) -> str:
    """Codes and sentences of the first errors."""
    return " ; ".join(f"{finding.code} {finding.en}" for finding in found[:5])


def _context(exchange: Exchange) -> dict[str, str]:
    """What the access trace of the record tells besides: as whom, with which card, from where, how long."""
    caller: Caller = exchange.caller
    identity = caller.identity
    texts = {
        "exchange": str(exchange.id), "transaction": exchange.name, "door": exchange.door,
        "message": exchange.message_id, "mode": str(caller.mode), "reason": caller.reason,
        "authentication": str(caller.authentication or ""), "structure": caller.structure_id,
        "organisation": caller.organisation, "community": caller.community, "sector": caller.sector,
        "software": caller.software, "assertion": caller.assertion_id, "consents": " ".join(caller.consents),
        "card": identity.card_number if identity else "", "serial": identity.serial if identity else "",
        "issuer": identity.issuer if identity else "", "microseconds": str(exchange.microseconds)}
    return {name: value for name, value in texts.items() if value}
