"""Receivers of pushed messages: real HTTP servers that take, fail, wait, send elsewhere or talk without end."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.volet.fake import Server
from xds.soap import Envelope, read_envelope, read_message

#: Answers a request that has been read
Behaviour = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    content_type: str
    body: bytes

    @property
    def envelope(self) -> Envelope:
        """The SOAP message it is."""
        return read_envelope(read_message(self.content_type, self.body).root)


@dataclass
class Receiver:
    """Where it listens, and all that came."""

    url: str
    requests: list[Received] = field(default_factory=list)

    def wait(self, number: int, seconds: float = 20.0) -> list[Received]:
        """The requests, once there are so many."""
        limit = time.monotonic() + seconds
        while len(self.requests) < number:
            assert time.monotonic() < limit, f"{len(self.requests)} of {number} messages in {seconds} s"
            time.sleep(0.01)
        return self.requests

    @property
    def message_ids(self) -> list[str]:
        return [request.envelope.message_id for request in self.requests]


def status(code: int, **headers: str) -> Behaviour:
    """Answer with a status and nothing else."""
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


TAKE = status(202)


def silent(seconds: float) -> Behaviour:
    """Say nothing for a while, then nothing at all."""
    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Reset the connection."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Take it, and talk on for ever."""
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"a" * 65536)


@contextmanager
def receiving(*behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver whose requests are answered one way after the other, the last for ever."""
    waiting = list(behaviours or (TAKE,))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append(Received(self.path, self.headers["Content-Type"], body))
            (waiting.pop(0) if len(waiting) > 1 else waiting[0])(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver = Receiver(f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
