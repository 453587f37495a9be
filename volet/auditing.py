"""Audit records on their way: into the trail first, then to whoever else must hear (ITI-20: syslog over TLS).

    Auditor       one call for each exchange; raises when the trail cannot be written
    FileSink      one syslog message a line
    SyslogSink    store and forward: a spool on disk, a thread that sends (RFC 5425), again after every failure

Syslog has no answers, and TCP does not tell what the receiver has read. A message is forgotten when the other side has
acknowledged its bytes and the connection has stayed open for a while after that (a receiver that refuses our
certificate, or falls over, closes); else it is sent again. A receiver may see a message twice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import socket
import ssl
import termios
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog

from journal.audit import Trail, load_key
from journal.batches import Batches
from journal.database import Database
from security import syslog
from security.audit import Event, Outcome, to_dicom
from security.syslog import MessageId
from volet.settings import address
from volet.spool import Spool, write_whole

log = structlog.get_logger("volet.audit")

CONNECT_SECONDS = 10.0
ACKNOWLEDGE_SECONDS = 30.0
CONFIRM_SECONDS = 5.0
POLL_SECONDS = 1.0  # other processes write into the spool as well
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0


# --- in ------------------------------------------------------------------------------------------------------------


class Sink(Protocol):
    """Whoever hears of events besides the trail."""

    @property
    def problem(self) -> str:
        """Why the last events did not get through, "" when all is well."""

    def put(self, events: Sequence[Event]) -> None:
        """Take events over; OSError when that cannot be done."""

    def start(self) -> None:
        """Begin to send, in this process."""

    def close(self) -> None:
        """Let go of files and connections; what is spooled stays."""


class Auditor:
    """The audit of one server."""

    def __init__(self, trail: Trail, sinks: Sequence[Sink] = ()) -> None:
        """Nothing is sent before `start`."""
        self.trail, self.sinks = trail, tuple(sinks)

    @property
    def problem(self) -> str:
        """What is wrong with the trail or a sink, "" when all is well."""
        return next(filter(None, (self.trail.problem, *(sink.problem for sink in self.sinks))), "")

    def record(self, *events: Event) -> None:
        """Write events down; `Refused` when the trail cannot: no audit, no access.

        A sink that fails is logged and seen in `problem`, but refuses nobody: the trail has everything.
        """
        self.trail.append(events)
        for sink in self.sinks:
            try:
                sink.put(events)
            except OSError as error:
                log.error("audit sink", sink=type(sink).__name__, error=str(error))

    def start(self) -> None:
        """Begin to send; once in every process that serves, after it was forked."""
        for sink in self.sinks:
            sink.start()

    def close(self) -> None:
        """Let go of everything."""
        for sink in self.sinks:
            sink.close()


@dataclass(frozen=True, slots=True)
class Wrapping:
    """How an event becomes a syslog message: host of the header, MSGID."""

    host: str = field(default_factory=socket.gethostname)
    message_id: MessageId = "IHE+RFC-3881"

    def wrap(self, event: Event) -> bytes:
        """The message, on one line."""
        severity = syslog.NOTICE if event.outcome is Outcome.SUCCESS else syslog.WARNING
        return syslog.write(to_dicom(event), event.at, self.host, str(os.getpid()), self.message_id, severity)


@dataclass(frozen=True, slots=True)
class Receiver:
    """An audit record repository. `ca`: its authorities (default: the system's); certificate and key are ours.

    `name` is what its certificate must say, the host when "".
    """

    address: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    name: str = ""

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or 1.3, the receiver's certificate and name verified, our own shown when we have one."""
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


def open_auditor(data: Path, database: Database, receiver: Receiver | None = None, file: Path | None = None,
                 wrapping: Wrapping | None = None, key: Path | None = None, anchors: Path | None = None) -> Auditor:
    """Trail, key (`audit.key`), anchors (`audit.anchors`) and spool (`audit/`) in the data folder, unless named.

    `database` is migrated and durable. OSError, ValueError (ssl.SSLError is one) say what cannot be used.
    """
    trail = Trail(database, load_key(key or data / "audit.key"), anchors or data / "audit.anchors")
    how = wrapping or Wrapping()
    sinks: list[Sink] = [] if file is None else [FileSink(file, how)]
    if receiver is not None:
        sinks.append(SyslogSink(Spool(data / "audit"), receiver, how))
    return Auditor(trail, sinks)


class FileSink:
    """One syslog message a line, synced; what a collector of files picks up."""

    def __init__(self, path: Path, wrapping: Wrapping) -> None:
        """Append to the file; it may be moved away at any time."""
        self._path, self._wrapping = path, wrapping
        self._batches: Batches[bytes] = Batches(self._write)
        self.problem = ""

    def put(self, events: Sequence[Event]) -> None:
        """Write the events' messages."""
        try:
            self._batches.put([self._wrapping.wrap(event) + b"\n" for event in events])
        except OSError as error:
            self.problem = f"{self._path}: {error.strerror}"
            raise
        self.problem = ""

    def start(self) -> None:
        """Nothing to begin."""

    def close(self) -> None:
        """Nothing is held open."""

    def _write(self, lines: list[bytes]) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            write_whole(descriptor, b"".join(lines))
        finally:
            os.close(descriptor)


# --- out -----------------------------------------------------------------------------------------------------------


class SyslogSink:
    """Spools events and sends them, in the background, to an audit record repository."""

    def __init__(self, spool: Spool, receiver: Receiver, wrapping: Wrapping) -> None:
        """Read certificates now (OSError, ssl.SSLError); connect when there is something to send."""
        self.spool, self._receiver, self._wrapping = spool, receiver, wrapping
        self._context = receiver.context()
        self._connection: ssl.SSLSocket | None = None
        self._flying: deque[tuple[int, float]] = deque()  # (position after it, when it was sent), not confirmed
        self._thread: threading.Thread | None = None
        self._wake, self._closing = threading.Event(), threading.Event()
        self.problem = ""

    def put(self, events: Sequence[Event]) -> None:
        """Keep the events' messages; returns when they are on disk."""
        try:
            self.spool.append([self._wrapping.wrap(event) for event in events])
        except OSError as error:
            self.problem = f"{self.spool.folder}: {error.strerror}"
            raise
        self._wake.set()

    def start(self) -> None:
        """Begin to send."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="audit-syslog", daemon=True)
            self._thread.start()

    def close(self, grace: float = 5.0) -> None:
        """Send what can be sent at once, for at most `grace` seconds; the rest stays in the spool."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(grace)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._closing.is_set():
            try:
                with self.spool.leading() as mine:
                    if mine:
                        pause = self._lead(pause)
                        self._leave()
            except Exception as error:
                self._drop()
                self.problem = repr(error)
                log.exception("audit syslog", receiver=self._receiver.address)
            self._closing.wait(POLL_SECONDS)

    def _lead(self, pause: float) -> float:
        """Send until the server stops; after a failure wait, each time longer, and begin again."""
        while True:
            try:
                while self._send_some():
                    pass
                if self._confirm(CONFIRM_SECONDS):
                    pause, self.problem = FIRST_PAUSE, ""
                if self._closing.is_set():
                    return pause
                self._wake.wait(POLL_SECONDS)
                self._wake.clear()
            except OSError as error:  # ssl.SSLError and time-outs are some
                self._drop()
                self.problem = f"{self._receiver.address}: {error.strerror or error}"
                log.warning("audit syslog", receiver=self._receiver.address, error=str(error), pause=round(pause, 1))
                if self._closing.wait(pause * random.uniform(0.5, 1.0)):  # noqa: S311 spreads reconnections
                    return pause
                pause = min(2 * pause, LONGEST_PAUSE)

    def _send_some(self) -> bool:
        """Send the first messages that are not on their way yet; False when there are none."""
        position = self._flying[-1][0] if self._flying else self.spool.position()
        messages, end = self.spool.read(position)
        if not messages:
            return False
        connection = self._connected()
        connection.sendall(b"".join(map(syslog.frame, messages)))
        await_acknowledgement(connection, ACKNOWLEDGE_SECONDS)
        self._flying.append((end, time.monotonic()))
        return True

    def _confirm(self, age: float) -> bool:
        """Forget what was sent so long ago, over a connection that is still open; whether anything was."""
        if self._connection is not None:
            check_open(self._connection)
        arrived = 0
        while self._flying and time.monotonic() - self._flying[0][1] >= age:
            arrived, _ = self._flying.popleft()
        if arrived:
            moved = self.spool.advance(arrived)
            self._flying = deque((end - moved, at) for end, at in self._flying)
        return bool(arrived)

    def _leave(self) -> None:
        """End the connection. What flies is not confirmed by it and comes again next time: twice is better than never.

        An answered close_notify would say that everything was read (RFC 5425 §4.4), but not every Python of the 3.11
        line tells an answer from a connection that was just cut.
        """
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        with contextlib.suppress(OSError, ValueError):  # the peer may be gone, or not answer
            connection.settimeout(1.0)
            connection.unwrap()
        connection.close()

    def _connected(self) -> ssl.SSLSocket:
        if self._connection is not None:
            check_open(self._connection)
            return self._connection
        host, _ = where = address(self._receiver.address)
        raw = socket.create_connection(where, timeout=CONNECT_SECONDS)
        try:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._connection = self._context.wrap_socket(raw, server_hostname=self._receiver.name or host)
        except BaseException:
            raw.close()
            raise
        return self._connection

    def _drop(self) -> None:
        """Give the connection up; what was on its way is on its way no more."""
        self._flying.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def await_acknowledgement(connection: ssl.SSLSocket, seconds: float) -> None:
    """Return once the peer's kernel has acknowledged every byte and the connection is open; OSError otherwise."""
    until, pause = time.monotonic() + seconds, 0.001
    while _unacknowledged(connection):
        check_open(connection)  # what was sent into a connection reset since counts as unacknowledged for ever
        if time.monotonic() > until:
            raise TimeoutError(errno.ETIMEDOUT, "not acknowledged in time")
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    check_open(connection)


def check_open(connection: ssl.SSLSocket) -> None:
    """OSError when the peer has closed or reset; what a receiver says otherwise is read and means nothing."""
    timeout = connection.gettimeout()
    connection.settimeout(0.0)
    try:
        while connection.recv(4096):
            pass
        raise ConnectionAbortedError(errno.ECONNABORTED, "closed by the receiver")
    except (ssl.SSLWantReadError, BlockingIOError):
        return
    finally:
        connection.settimeout(timeout)


def _unacknowledged(connection: ssl.SSLSocket) -> int:
    """Bytes sent but not acknowledged (Linux SIOCOUTQ)."""
    count = bytearray(4)
    fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, count)
    return int.from_bytes(count, "little")
