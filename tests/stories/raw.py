"""Below HTTP libraries: bytes to a door as somebody careless or hostile would send them, and whatever comes back."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.stories.client import DMP_PATH, Card, Reply
from tests.stories.process import Server

HANG = 5.0  # seconds within which everybody who has said all they have to say is answered


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `status` 0: the connection was closed without one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def reply(self) -> Reply:
        """The SOAP message it is."""
        return Reply.of(self.status, self.headers.get("content-type", ""), self.body)

    @property
    def is_decent(self) -> bool:
        """Closed, or an HTTP answer whose only server error is a SOAP fault that says Receiver or MustUnderstand."""
        if self.status < 500:
            return self.status == 0 or self.status >= 200
        fault = self.reply.fault
        return fault is not None and fault.code in {"Receiver", "MustUnderstand"}


def connect(server: Server, door: str = "http", card: Card | None = None) -> socket.socket:
    """A connection to a door, with a card's certificate over TLS."""
    host, _, port = (server.https if door == "https" else server.http).rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=HANG)
    if door == "http":
        return plain
    context = ssl.create_default_context(cafile=str(server.data / "pki" / "ca.pem"))
    if card is not None:
        context.load_cert_chain(*card.tls)
    return context.wrap_socket(plain, server_hostname=host)


def head(length: int | None, content_type: str, service: str = "registry", *lines: str) -> bytes:
    """The head of a POST; no Content-Length with None."""
    known = ["Host: localhost", f"Content-Type: {content_type}", *lines]
    known += [f"Content-Length: {length}"] if length is not None else []
    return "\r\n".join([f"POST {DMP_PATH}{service} HTTP/1.1", *known, "", ""]).encode("utf-8")


def speak(connection: socket.socket, pieces: Iterable[bytes], finish: bool = False) -> Answer:
    """Send the pieces, say goodbye if asked to, and hear the answer; TimeoutError when none comes in time."""
    with contextlib.suppress(OSError):  # an early refusal may cut us short: it is still read
        for piece in pieces:
            connection.sendall(piece)
        if finish:
            socket.socket.shutdown(connection, socket.SHUT_WR)  # of TCP: TLS could hear nothing after its own
    return hear(connection)


def hear(connection: socket.socket, seconds: float = HANG, rest: bytearray | None = None) -> Answer:
    """One whole HTTP answer; TimeoutError when it is not there within the time. `rest` keeps what came after it."""
    limit, data = time.monotonic() + seconds, bytearray() if rest is None else rest
    while (found := _parsed(data)) is None:
        connection.settimeout(max(0.001, limit - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except (ConnectionError, ssl.SSLError) as error:
            if "timed out" in str(error):
                raise TimeoutError(str(error)) from error
            piece = b""
        if not piece:
            assert not data, f"an answer cut short: {bytes(data[:200])!r}"
            return Answer()
        data += piece
    answer, length = found
    del data[:length]
    return answer


def _parsed(data: bytes | bytearray) -> tuple[Answer, int] | None:
    """The answer that these bytes begin with and its length, None while it is not complete."""
    top, separator, body = bytes(data).partition(b"\r\n\r\n")
    if not separator:
        return None
    first, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status, begun = int(first.split()[1]), len(top) + len(separator)
    if status < 200:  # 100 Continue, or another one that the last word is still to follow
        after = _parsed(body)
        return (after[0], after[1] + begun) if after else None
    length = int(headers["content-length"])
    return (Answer(status, headers, body[:length]), begun + length) if len(body) >= length else None


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as HTTP chunks, the last one included."""
    for piece in pieces:
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"
