"""A server of the `ihe` profile in this process, and those who subscribe, register and ask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from registry import patients
from registry.patients import Traits
from tests.registry.samples import PATIENT, document, quoted, submission
from volet.app import create_app
from volet.assembly import Server, build, migrate
from volet.settings import Settings
from xds import dsub, ebxml, messages
from xds.addressing import Endpoint, write_endpoint
from xds.dsub import FULL, Subscribe
from xds.messages import TRANSACTIONS, AdhocQuery, DocumentSource
from xds.rim import Slot
from xds.soap import SOAP12, WSA, Envelope, new_message_id, read_envelope, read_fault, read_message

FILTER = "urn:uuid:aa2332d0-f8fe-11e0-be50-0800200c9a66"
REPOSITORY = "2.25.138716590826173408251735186201"
SERVICE = {"ITI-18": "registry", "ITI-42": "registry", "ITI-41": "repository", "ITI-43": "repository",
           "ITI-52": "subscriptions", "ITI-52-Unsubscribe": "subscriptions", "ITI-44": "identity"}


def make_settings(folder: Path, *allowed: str, **changes: Any) -> Settings:
    """Settings of a server over a new folder, with a patient in it."""
    settings = Settings(profile="ihe", data=folder, push_addresses=list(allowed), **changes)
    migrate(settings)
    server = build(settings)
    with server.services.registry.database.write() as connection:
        patients.feed(connection, [PATIENT], Traits("ESSAI", "CAMILLE", "19580517", "F"))
    server.close()
    return settings


def envelope_of(body: str, action: str, message_id: str = "", blocks: str = "") -> bytes:
    """A request with addressing of its own."""
    identity = f"<wsa:MessageID>{message_id}</wsa:MessageID>" if message_id else ""
    return (f'<soap:Envelope xmlns:soap="{SOAP12}" xmlns:wsa="{WSA}"><soap:Header><wsa:Action soap:mustUnderstand="1">'
            f"{action}</wsa:Action>{identity}{blocks}</soap:Header><soap:Body>{body}</soap:Body></soap:Envelope>").encode()


def endpoint(name: str, address: str) -> str:
    """A header block ReplyTo or FaultTo."""
    return f"<wsa:{name}>{write_endpoint(address)}</wsa:{name}>" if address else ""


@dataclass
class Toolkit:
    """Somebody at the doors of a server."""

    server: Server
    http: FlaskClient

    def post(self, path: str, content: bytes) -> TestResponse:
        return self.http.post(path, data=content, content_type="application/soap+xml; charset=UTF-8")

    def call(self, transaction: str, body: str, reply_to: str = "", fault_to: str = "", path: str = "",
             message_id: str | None = None) -> TestResponse:
        """A request of a transaction; where its answer and its faults shall go."""
        blocks = endpoint("ReplyTo", reply_to) + endpoint("FaultTo", fault_to)
        content = envelope_of(body, TRANSACTIONS[transaction].action,
                              new_message_id() if message_id is None else message_id, blocks)
        return self.post(path or f"/xds/{SERVICE[transaction]}", content)

    def subscribe(self, consumer: str, topic: str = FULL, termination: str = "") -> str:
        """A subscription to the patient's documents; its address."""
        query = AdhocQuery(FILTER, slots=(Slot("$XDSDocumentEntryPatientId", (quoted(PATIENT),)),))
        written = dsub.write_subscribe(Subscribe(Endpoint(consumer), topic, query, termination))
        return dsub.read_subscribed(answer(self.call("ITI-52", written)).body).reference

    def register(self, **routes: str) -> tuple[str, TestResponse]:
        """A document registered (ITI-42); its uniqueId."""
        entry = document(repository_unique_id=REPOSITORY)
        written = messages.write_submit_objects(ebxml.from_submission(submission(entry)))
        return entry.unique_id, self.call("ITI-42", written, **routes)

    def provide(self, content: bytes, **routes: str) -> tuple[str, TestResponse]:
        """A document provided (ITI-41); its uniqueId."""
        sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        entry = document(hash=sha1, size=str(len(content)), repository_unique_id="")
        written = messages.write_provide(ebxml.from_submission(submission(entry)),
                                         {"Document01": DocumentSource("inline", data=content)})
        return entry.unique_id, self.call("ITI-41", written, **routes)


@contextmanager
def toolkit(settings: Settings) -> Iterator[Toolkit]:
    """A server assembled, and somebody at its doors."""
    server = build(settings)
    yield Toolkit(server, create_app(server).test_client())
    server.close()


def answer(response: TestResponse) -> Envelope:
    """The answer on the connection."""
    return read_envelope(read_message(response.content_type, response.data).root)


def codes(response: TestResponse) -> list[str]:
    """Codes of the findings of a fault on the connection."""
    fault = read_fault(answer(response).body)
    assert fault is not None
    return [finding["code"] for finding in fault.findings if finding["severity"] == "error"]


