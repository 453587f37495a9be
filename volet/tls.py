"""Server side TLS which asks for a client certificate and lets the application say what is wrong with it.

The standard library refuses a bad certificate in the handshake: the vendor then reads "unknown ca" and nobody can
tell why. OpenSSL can do better (nginx calls it `optional_no_ca`); pyOpenSSL reaches that switch. The client still
proves that it holds the key; chain, dates, usage and revocation are checked by `security.trust` for every request.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

#: PDT-INF-579 v4 without its CBC suite; TLS 1.3 brings its own
CIPHERS = b"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"
#: A peer that sends or takes nothing for so long is dropped
IDLE_SECONDS = 60.0
#: And one that is slower than so many bytes a second, after some patience: a byte a minute would hold a thread for ever
PATIENCE_SECONDS, SLOWEST = 120.0, 8 * 1024
_CHUNK = 64 * 1024
T = TypeVar("T")


class TlsContext:
    """What gunicorn takes for an `ssl.SSLContext`: it wraps accepted sockets."""

    def __init__(self, certificate: Path, key: Path, anchors: Path, refuse_in_handshake: bool) -> None:
        """Load the server's certificate and the anchors named to clients, so that they offer the right card."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_cipher_list(CIPHERS)
        context.use_certificate_chain_file(str(certificate))
        context.use_privatekey_file(str(key))
        context.load_verify_locations(str(anchors))
        context.set_client_ca_list([cert.get_subject() for cert in _certificates(anchors)])
        context.set_session_id(b"volet")
        context.set_verify(SSL.VERIFY_PEER, _strict if refuse_in_handshake else _lenient)
        self._context = context

    def wrap_socket(self, sock: socket.socket, server_side: bool = True, **_: object) -> TlsSocket:
        """The server's side of a connection whose handshake is still to come."""
        assert server_side
        return TlsSocket(SSL.Connection(self._context, sock), sock)


class TlsSocket:
    """What gunicorn takes for an `ssl.SSLSocket`. The raw socket never blocks; waiting is done here, with limits."""

    def __init__(self, connection: SSL.Connection, raw: socket.socket) -> None:
        """Take over an accepted socket."""
        self._connection, self._raw = connection, raw
        self._timeout: float | None = None
        self._began, self._moved = time.monotonic(), 0
        raw.setblocking(False)
        connection.set_accept_state()

    def is_open(self) -> bool:
        """Whether the handshake is done; goes on with it as far as it gets without waiting."""
        try:
            self._patiently(self._connection.do_handshake, 0.0)
        except TimeoutError:
            return False
        return True

    def getpeercert(self, binary_form: bool = False) -> bytes | None:
        """DER of the client's certificate, None when it offered none."""
        assert binary_form
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        return certificate.public_bytes(Encoding.DER) if certificate is not None else None

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end; many clients close without saying so, and HTTP knows its lengths."""
        try:
            data = self._patiently(lambda: self._connection.recv(size), self._timeout)
        except (SSL.ZeroReturnError, ConnectionResetError):
            return b""
        self._moved += len(data)
        return data

    def sendall(self, data: bytes) -> None:
        """All the bytes."""
        view = memoryview(data)
        while view:
            view = view[self.send(view):]

    def send(self, data: bytes | memoryview) -> int:
        """Some of the bytes."""
        sent = self._patiently(lambda: self._connection.send(data[:_CHUNK]), self._timeout)
        self._moved += sent
        return sent

    def shutdown(self, how: int) -> None:
        """Say goodbye (close_notify), then shut the socket down."""
        with contextlib.suppress(SSL.Error):  # the peer may be gone already
            self._connection.shutdown()
        self._raw.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._raw.close()

    def fileno(self) -> int:
        """Of the raw socket: what selectors wait for."""
        return self._raw.fileno()

    def setblocking(self, flag: bool) -> None:
        """Without a time limit, or not waiting at all; the pace is measured from here on."""
        self._timeout = None if flag else 0.0
        self._began, self._moved = time.monotonic(), 0

    def settimeout(self, seconds: float | None) -> None:
        """Time limit of each operation."""
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """Time limit of each operation."""
        return self._timeout

    def _patiently(self, operation: Callable[[], T], seconds: float | None) -> T:
        """Repeat an operation while OpenSSL waits for the peer; errors become those of the standard library."""
        limit = min(time.monotonic() + (IDLE_SECONDS if seconds is None else seconds),
                    self._began + PATIENCE_SECONDS + self._moved / SLOWEST)
        while True:
            try:
                return operation()
            except SSL.WantReadError:
                self._wait(select.POLLIN, limit)
            except SSL.WantWriteError:
                self._wait(select.POLLOUT, limit)
            except SSL.ZeroReturnError:
                raise
            except SSL.SysCallError as error:
                # A peer that leaves without goodbye comes as -1, which is nobody's errno.
                raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
            except SSL.Error as error:
                if error.args in ((), ([],)):  # nothing went wrong but that the peer left
                    raise ConnectionResetError(errno.ECONNRESET, "the peer left") from error
                raise ssl.SSLError(1, str(error)) from error

    def _wait(self, event: int, limit: float) -> None:
        remaining = limit - time.monotonic()
        poll = select.poll()
        poll.register(self._raw.fileno(), event)
        if remaining <= 0 or not poll.poll(remaining * 1000):
            raise TimeoutError("the peer is silent")


def _lenient(_connection: SSL.Connection, _certificate: crypto.X509, _error: int, _depth: int, _ok: int) -> bool:
    return True  # the application verifies, request by request, and says what is wrong


def _strict(_connection: SSL.Connection, _certificate: crypto.X509, _error: int, _depth: int, ok: int) -> bool:
    return bool(ok)


def _certificates(path: Path) -> list[crypto.X509]:
    blocks = path.read_bytes().split(b"-----END CERTIFICATE-----")
    return [crypto.load_certificate(crypto.FILETYPE_PEM, block + b"-----END CERTIFICATE-----\n")
            for block in blocks if b"BEGIN CERTIFICATE" in block]
