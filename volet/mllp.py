"""MLLP: HL7 v2 messages over TCP, framed `0x0B … 0x1C 0x0D`, each answered in turn (ITI TF-2 appendix C.2).

Everything a peer can do is bounded: bytes of a message, connections, time between messages and time of one message.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import IntegrityError, OperationalError

from journal.exchanges import Exchange, Journal
from registry.identity import answer, iti8
from registry.requirements import RULES as REGISTRY_RULES
from registry.transactions import Services
from xds import hl7v2
from xds.findings import Catalogue, Finding, Where

RULES = Catalogue("volet")
INTERNAL = RULES["V-VOLET-INTERNAL"]
BUSY = REGISTRY_RULES["V-REG-BUSY"]

START, END = b"\x0b", b"\x1c\x0d"

log = structlog.get_logger("volet.mllp")

Handler = Callable[[bytes], bytes]


# --- what is answered ----------------------------------------------------------------------------------------------


def feed_handler(services: Services, journal: Journal) -> Handler:
    """ITI-8 at the door: every message has an answer and an entry in the journal, whatever goes wrong."""

    def handle(message: bytes) -> bytes:
        exchange = Exchange(door="mllp", name="ITI-8")
        try:
            response = iti8(message, services, exchange)
        except (OperationalError, IntegrityError) as error:
            # IntegrityError: the same patient came by two doors at once; told again it is known
            log.warning("database", exchange=exchange.id, error=type(error.orig).__name__)
            response = _failed(message, BUSY.at(), exchange)
        except Exception:
            log.exception("internal", exchange=exchange.id)
            response = _failed(message, INTERNAL.at(Where("server"), received=exchange.id), exchange)
        _record(exchange, journal)
        return response

    return handle


def _failed(message: bytes, finding: Finding, exchange: Exchange) -> bytes:
    return answer(hl7v2.read_header(message), [finding], exchange)


def _record(exchange: Exchange, journal: Journal) -> None:
    """A journal that cannot be written is logged; the answer is true all the same."""
    try:
        journal.record(exchange)
    except Exception:
        log.exception("journal", exchange=exchange.id)


# --- frames --------------------------------------------------------------------------------------------------------


class Frames:
    """Bytes in, messages out.

    A message longer than the limit comes out cut at one byte too many, so that whoever reads it can say so; the
    frames are then broken, as they are by anything but line ends outside a frame.
    """

    def __init__(self, limit: int) -> None:
        """Messages of at most `limit` bytes."""
        self._limit, self._buffer, self._seen = limit, bytearray(), 0
        self.is_inside, self.is_broken = False, False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Messages that are whole with this data."""
        self._buffer += data
        while not self.is_broken:
            if not self.is_inside and not self._enter():
                return
            end = self._buffer.find(END, max(self._seen - 1, 0))
            self._seen = len(self._buffer)
            if (end if end >= 0 else self._seen) > self._limit:
                self.is_broken = True
                yield bytes(self._buffer[:self._limit + 1])
                return
            if end < 0:
                return
            message = bytes(self._buffer[:end])
            del self._buffer[:end + len(END)]
            self.is_inside, self._seen = False, 0
            yield message

    def _enter(self) -> bool:
        """Pass over line ends up to the next frame; False when there is none yet."""
        between, start, rest = self._buffer.partition(START)
        if between.strip(b"\r\n"):
            self.is_broken = True
        self._buffer, self._seen, self.is_inside = rest, 0, bool(start)
        return self.is_inside and not self.is_broken


# --- connections ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of a message, connections at once, seconds between messages, seconds for a message or an answer."""

    message: int = hl7v2.MAX_BYTES
    connections: int = 64
    idle: float = 300.0
    transfer: float = 30.0


class Listener:
    """A port that is listened on until `close`."""

    def __init__(self, listening: socket.socket, handler: Handler, limits: Limits) -> None:
        """Start accepting; the handler is called by one thread a connection."""
        self._socket, self._handler, self._limits = listening, handler, limits
        self._closing, self._lock = threading.Event(), threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self.port: int = listening.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"mllp-{self.port}", daemon=True)
        self._acceptor.start()

    def close(self, grace: float = 30.0) -> None:
        """Accept nothing more, let answers in progress go out for at most `grace` seconds, then close everything."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the acceptor at once where the system allows it
        self._acceptor.join()
        self._socket.close()
        with self._lock:
            open_ones = dict(self._connections)
        for connection in open_ones:
            _shut(connection, socket.SHUT_RD)  # whoever waits for a message stops waiting
        until = time.monotonic() + grace
        for connection, thread in open_ones.items():
            thread.join(max(until - time.monotonic(), 0))
            _shut(connection, socket.SHUT_RDWR)

    def _accept(self) -> None:
        self._socket.settimeout(0.5)
        while not self._closing.is_set():
            try:
                connection, peer = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._closing.wait(0.1):  # too many open files: others will be closed
                    log.warning("mllp accept", error=error.strerror)
                continue
            self._start(connection, peer[0])

    def _start(self, connection: socket.socket, peer: str) -> None:
        """One thread for the connection, unless there are enough; a peer sent away may come again."""
        thread = threading.Thread(target=self._talk, args=(connection, peer), name=f"mllp-{peer}", daemon=True)
        with self._lock:
            has_room = len(self._connections) < self._limits.connections
            if has_room:
                self._connections[connection] = thread
        if has_room:
            thread.start()
        else:
            log.warning("mllp full", peer=peer, connections=self._limits.connections)
            connection.close()

    def _talk(self, connection: socket.socket, peer: str) -> None:
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for message in self._messages(connection):
                response = self._handler(message)
                connection.settimeout(self._limits.transfer)
                connection.sendall(START + response + END)
            self._take_leave(connection)
        except OSError as error:
            log.info("mllp closed", peer=peer, error=str(error))
        except Exception:
            log.exception("mllp handler", peer=peer)
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()

    def _take_leave(self, connection: socket.socket) -> None:
        """What still comes is thrown away for a moment: closing over it would reset the answer away."""
        until = time.monotonic() + min(self._limits.transfer, 2.0)
        connection.shutdown(socket.SHUT_WR)
        while not self._closing.is_set() and (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(65536):
                return

    def _messages(self, connection: socket.socket) -> Iterator[bytes]:
        """Messages of a connection until it ends, breaks the framing, or is too slow (TimeoutError)."""
        frames, until = Frames(self._limits.message), 0.0
        while not frames.is_broken:
            if not frames.is_inside:
                until = time.monotonic() + self._limits.idle
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("a message that does not end")
            connection.settimeout(left)
            data = connection.recv(65536)
            if not data:
                return
            if not frames.is_inside:
                until = time.monotonic() + self._limits.transfer
            for message in frames.feed(data):
                yield message
                if self._closing.is_set():
                    return
                until = time.monotonic() + self._limits.transfer


def serve(host: str, port: int, handler: Handler, limits: Limits | None = None) -> Listener:
    """Listen at an address (port 0: any free one, told by `.port`); OSError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Listener(socket.create_server((host, port), family=family, backlog=128), handler, limits or Limits())


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(how)
