"""Gunicorn's threaded worker for clients that take their time: a thread is given to requests, not to connections.

As it comes, a thread waits for whoever connects and says nothing, or half of it, and the main loop itself lingers over
each connection that it closes: a handful of idle clients, and nobody else is answered. Here handshake and head are
taken as they arrive, connections are closed from the poller, and each step has its limit.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import ssl
import time
from collections import deque
from functools import partial
from typing import Any

from gunicorn.http import get_parser
from gunicorn.sock import ssl_wrap_socket
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

from volet.tls import IDLE_SECONDS, TlsSocket

#: A connection that has begun to speak, or is new, has so long for its handshake and the head of its request
HEAD_SECONDS = 20.0
HEAD_BYTES = 600 * 1024  # beyond what gunicorn's own limits let pass: it says which of them was broken
#: What a client still sends after our last word is read away for so long, or it would lose that word (RFC 9112 §9.6)
LINGER_SECONDS, LINGER_BYTES = 2.0, 64 * 1024
_PIECE = 16 * 1024
_NOT_YET = (BlockingIOError, TimeoutError)
_ENDS = (b"\r\n\r\n", b"\n\n")  # the second is refused by the parser, with its reason


class Connection(TConn):  # type: ignore[misc]
    """A connection whose handshake and request head are read without waiting."""

    initialized: bool
    sock: Any

    def __init__(self, worker: Worker, sock: socket.socket, client: Any, listener: socket.socket) -> None:
        """Take over an accepted socket."""
        super().__init__(worker.cfg, sock, client, listener.getsockname())
        self.worker, self.raw, self.lingered = worker, sock, 0
        self._head, self.deadline = bytearray(), time.monotonic() + HEAD_SECONDS

    def init(self) -> None:
        """Wrap the socket and make the parser; the handshake is done in `has_head`."""
        if not self.initialized:
            self.initialized = self.data_ready = True
            if self.cfg.is_ssl:
                self.sock = ssl_wrap_socket(self.sock, self.cfg)
            self.parser = get_parser(self.cfg, self.sock, self.client)

    def has_head(self) -> bool:
        """Whether the parser has a whole head to read; OSError when there will be none."""
        self.init()
        self.sock.setblocking(False)
        if isinstance(self.sock, TlsSocket) and not self.sock.is_open():
            return False
        self._head += self.parser.unreader.take_buffered()
        while not any(end in self._head for end in _ENDS) and len(self._head) < HEAD_BYTES:
            try:
                piece = self.sock.recv(_PIECE)
            except _NOT_YET:
                return False
            if not piece:
                break  # the parser says what is missing, or that nothing came at all
            self._head += piece
        self.parser.unreader.unread(bytes(self._head))
        self._head.clear()
        return True

    def close(self, graceful: bool = False) -> None:
        """Close at once, or say goodbye and let the worker's poller see to the rest."""
        if graceful:
            with contextlib.suppress(OSError):
                self.sock.setblocking(False)
                self.sock.shutdown(socket.SHUT_WR)
                self.worker.linger(self)
                return
        super().close()


class Worker(ThreadWorker):  # type: ignore[misc]
    """Threads for requests whose head is there; everybody else waits in the poller."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As any worker of gunicorn."""
        super().__init__(*arguments, **named)
        self.lingering: deque[Connection] = deque()

    def accept(self, listener: socket.socket) -> None:
        """Take a new connection."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        self.enqueue_req(Connection(self, sock, client, listener))

    def handle(self, conn: Connection) -> Any:
        """Answer a request (in a thread), or send the connection back to wait for the rest of its head."""
        try:
            if not conn.has_head():
                return _DEFER
        except ssl.SSLError as error:
            self.handle_error(None, conn.raw, conn.client, error)
            return False
        except OSError as error:
            self.log.debug("Closing connection: %s", error)
            return False
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """Answer a request; no single read or write of it waits for ever."""
        conn.sock.settimeout(IDLE_SECONDS)
        try:
            return super().handle_request(req, conn)
        except TimeoutError as error:  # a peer that has gone away, to gunicorn: not worth a traceback
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
        finally:
            conn.deadline = time.monotonic() + self.cfg.keepalive + HEAD_SECONDS

    def murder_pending(self) -> None:
        """Close connections whose head, or whose last words, did not come in time."""
        now = time.monotonic()
        for conn in [conn for conn in self.pending_conns if conn.deadline < now]:
            self.pending_conns.remove(conn)
            self._forget(conn, conn.sock)
            self.nr_conns -= 1
        while self.lingering and self.lingering[0].deadline < now:
            self._forget(self.lingering.popleft())

    def linger(self, conn: Connection) -> None:
        """Read away what still comes on a connection that we have said goodbye on."""
        conn.deadline = time.monotonic() + LINGER_SECONDS
        self.lingering.append(conn)
        self.poller.register(conn.raw, selectors.EVENT_READ, partial(self._read_away, conn))

    def _read_away(self, conn: Connection, _socket: object) -> None:
        try:
            size = len(conn.raw.recv(_PIECE))
        except _NOT_YET:
            return
        except OSError:
            size = 0
        conn.lingered += size
        if not size or conn.lingered > LINGER_BYTES:
            self.lingering.remove(conn)
            self._forget(conn)

    def _forget(self, conn: Connection, registered: Any = None) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(registered or conn.raw)
        conn.close()

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.deadline = min(conn.deadline, deadline)
