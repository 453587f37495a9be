"""A server of a few lines that answers what a test tells it to, and keeps what it was sent."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from repository.spool import Message, receive
from xds import ebxml, rim
from xds.findings import Finding
from xds.messages import (
    TRANSACTIONS,
    DocumentResponse,
    RegistryError,
    write_query_response,
    write_registry_response,
    write_retrieve_response,
)
from xds.model import DocumentEntry
from xds.mtom import write_related
from xds.rim import ObjectRef
from xds.soap import Envelope, http_status_of, read_envelope, write_envelope, write_fault
from xds.vocabulary import FAILURE, SUCCESS

Reply = tuple[int, str, bytes]


@dataclass(frozen=True)
class Request:
    """What came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    def message(self, folder: Path) -> Message:
        return receive(self.headers.get("Content-Type", ""), [self.body], folder)

    def envelope(self, folder: Path) -> Envelope:
        message = self.message(folder)
        return read_envelope(message.root, content_action=message.action)


@dataclass
class Fake:
    """Address, what it answers next (the last for ever), what it was sent."""

    url: str
    replies: list[Reply | Callable[[Request], Reply]]
    requests: list[Request] = field(default_factory=list)

    def next(self, request: Request) -> Reply:
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply(request) if callable(reply) else reply


@contextmanager
def serving(*replies: Reply | Callable[[Request], Reply], tls: ssl.SSLContext | None = None) -> Iterator[Fake]:
    """A server on a free port of this machine while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(fake.next(Request(self.path, dict(self.headers), body)))

        def do_GET(self) -> None:
            self.answer(fake.next(Request(self.path, dict(self.headers), b"")))

        def answer(self, reply: Reply) -> None:
            status, content_type, body = reply
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    fake = Fake(f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}", list(replies))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Server(ThreadingHTTPServer):
    """Threads that do not hold up the end; a peer that leaves is no news."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


def tls_of(folder: Path, client_anchors: Path | None = None) -> ssl.SSLContext:
    """The server of a test PKI; with `client_anchors` only their cards get in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pki" / "server.pem", folder / "pki" / "server.key")
    if client_anchors:
        context.load_verify_locations(client_anchors)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# --- replies -------------------------------------------------------------------------------------------------------


def soap(body: str, transaction: str, parts: list[tuple[str, bytes, int]] | None = None) -> Reply:
    """A SOAP answer of a transaction, with documents beside it."""
    row = TRANSACTIONS[transaction]
    envelope = write_envelope(body, row.answer, "urn:uuid:11111111-1111-4111-8111-111111111111")
    if not row.mtom:
        return 200, "application/soap+xml; charset=UTF-8", envelope
    content_type, pieces, _ = write_related(envelope, parts or [], row.answer)
    return 200, content_type, b"".join(pieces)


def registered(*errors: RegistryError, status: str = SUCCESS) -> Reply:
    return soap(write_registry_response(status, errors), "ITI-41")


def failed(*errors: RegistryError) -> Reply:
    return registered(*errors, status=FAILURE)


def fault(*findings: Finding) -> Reply:
    return http_status_of(findings), "application/soap+xml", write_fault(findings, "")


def found(*entries: DocumentEntry) -> Reply:
    objects = [rim.write(ebxml.from_document(entry)) for entry in entries]
    return soap(write_query_response(SUCCESS, objects_xml=objects), "ITI-18")


def references(*uuids: str) -> Reply:
    listed = rim.write_refs(ObjectRef(uuid, "") for uuid in uuids)
    return soap(write_query_response(SUCCESS, objects_xml=[listed]), "ITI-18")


def retrieved(documents: Mapping[str, bytes], status: str = SUCCESS, *errors: RegistryError) -> Reply:
    """Documents by uniqueId."""
    parts = [(f"d{number}@fake", data, len(data)) for number, data in enumerate(documents.values())]
    responses = [DocumentResponse("", "1.2.3", unique_id, "text/xml", content_id)
                 for unique_id, (content_id, _, _) in zip(documents, parts, strict=True)]
    return soap(write_retrieve_response(status, errors, responses), "ITI-43", parts)
