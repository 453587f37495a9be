"""Answers that go to an address of their own: 202 once they are kept, never before; and they arrive."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from journal import deliveries
from journal.deliveries import Queue
from registry import tables
from repository.spool import receive
from tests.registry.samples import PATIENT, quoted
from tests.volet.broker import REPOSITORY, Toolkit, answer, codes, endpoint, envelope_of, make_settings, toolkit
from tests.volet.receivers import Receiver, receiving, status
from volet import notifier
from volet.app import create_app
from volet.assembly import build, migrate
from volet.notifier import Notifier
from volet.settings import Settings
from xds import messages
from xds.addressing import NONE
from xds.messages import TRANSACTIONS, AdhocQuery, DocumentRequest
from xds.rim import Slot
from xds.soap import ANONYMOUS, WSA, new_message_id, read_envelope, read_fault
from xds.vocabulary import FAILURE, SUCCESS

QUERY = messages.write_query(AdhocQuery("urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d", slots=(
    Slot("$XDSDocumentEntryPatientId", (quoted(PATIENT),)),
    Slot("$XDSDocumentEntryStatus", ("('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')",)))))
WRONG = messages.write_query(AdhocQuery("urn:uuid:00000000-0000-4000-8000-000000000000"))
NO_BODY = '<x:Nothing xmlns:x="urn:x"/>'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "FIRST_PAUSE", 40)
    monkeypatch.setattr(notifier, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(notifier, "IDLE_SECONDS", 0.02)


@pytest.fixture
def client() -> Iterator[Receiver]:
    """Where the sender of requests listens."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def kit(tmp_path: Path, client: Receiver) -> Iterator[Toolkit]:
    with toolkit(make_settings(tmp_path / "data", client.url + "/answers", max_request_bytes=4 * 1024 * 1024)) as made:
        yield made


@contextmanager
def working(kit: Toolkit) -> Iterator[None]:
    made, enough = Notifier(kit.server), threading.Event()
    thread = threading.Thread(target=made.run, args=(enough,))
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join(20)


def kept(kit: Toolkit) -> int:
    """Answers that wait to be sent."""
    with kit.server.services.registry.database.read() as connection:
        return len(connection.execute(select(tables.deliveries[0].c.id)).all())


def arrived(kit: Toolkit, client: Receiver, number: int = 1) -> list[Receiver]:
    """What the client got, once there is so much of it."""
    with working(kit):
        client.wait(number)
    return client.requests


def test_a_query_is_answered_elsewhere(kit: Toolkit, client: Receiver) -> None:
    asked = new_message_id()
    response = kit.call("ITI-18", QUERY, reply_to=client.url + "/answers/1", message_id=asked)
    assert (response.status_code, response.data, response.content_length) == (202, b"", 0)
    assert "Content-Type" not in response.headers
    assert kept(kit) == 1
    (one,) = arrived(kit, client)
    envelope = one.envelope
    assert one.path == "/answers/1"
    assert (envelope.action, envelope.relates_to) == (TRANSACTIONS["ITI-18"].answer, asked)
    assert envelope.to == client.url + "/answers/1"
    assert envelope.message_id not in ("", asked)
    assert messages.read_query_response(envelope.body).status == SUCCESS
    assert kept(kit) == 0


def test_the_same_as_on_the_connection(kit: Toolkit, client: Receiver) -> None:
    kit.register()
    here = messages.read_query_response(answer(kit.call("ITI-18", QUERY, reply_to=ANONYMOUS)).body)
    kit.call("ITI-18", QUERY, reply_to=client.url + "/answers")
    (one,) = arrived(kit, client)
    there = messages.read_query_response(one.envelope.body)
    assert len(here.objects) == 1
    assert there == here


def test_a_document_is_registered(kit: Toolkit, client: Receiver) -> None:
    _, response = kit.register(reply_to=client.url + "/answers")
    assert response.status_code == 202
    (one,) = arrived(kit, client)
    assert one.envelope.action == TRANSACTIONS["ITI-42"].answer
    assert messages.read_registry_response(one.envelope.body).status == SUCCESS


def test_a_document_is_provided_and_retrieved(kit: Toolkit, client: Receiver, tmp_path: Path) -> None:
    """Multipart both ways; what comes back is what went in, in pieces of the queue and across them."""
    content = bytes(range(256)) * 5000
    unique_id, response = kit.provide(content, reply_to=client.url + "/answers")
    assert (response.status_code, response.data) == (202, b"")
    retrieve = messages.write_retrieve([DocumentRequest("", REPOSITORY, unique_id)])
    assert kit.call("ITI-43", retrieve, reply_to=client.url + "/answers").status_code == 202
    provided, retrieved = arrived(kit, client, 2)
    assert all(one.content_type.startswith("multipart/related") for one in (provided, retrieved))
    with receive(provided.content_type, [provided.body], tmp_path) as message:
        assert messages.read_registry_response(read_envelope(message.root).body).status == SUCCESS
    with receive(retrieved.content_type, [retrieved.body], tmp_path) as message:
        told = messages.read_retrieve_response(read_envelope(message.root).body)
        (document,) = told.documents
        assert told.status == SUCCESS
        assert message.parts[document.content_id].read() == content


def test_a_failure_is_an_answer(kit: Toolkit, client: Receiver) -> None:
    kit.call("ITI-18", WRONG, reply_to=client.url + "/answers/a", fault_to=client.url + "/answers/f")
    (one,) = arrived(kit, client)
    assert one.path == "/answers/a"
    assert messages.read_query_response(one.envelope.body).status == FAILURE


# --- faults --------------------------------------------------------------------------------------------------------


def broken(kit: Toolkit, **routes: str) -> object:
    """A request that can only end in a fault, once its sender is known: a subscription to nothing."""
    return kit.call("ITI-52", '<wsnt:Subscribe xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2"/>', **routes)


def test_a_fault_goes_where_answers_go(kit: Toolkit, client: Receiver) -> None:
    asked = new_message_id()
    response = broken(kit, reply_to=client.url + "/answers", message_id=asked)
    assert (response.status_code, response.data) == (202, b"")
    (one,) = arrived(kit, client)
    fault = read_fault(one.envelope.body)
    assert fault is not None
    assert (fault.code, fault.subcodes) == ("Sender", ("SubscribeCreationFailedFault",))
    assert one.envelope.relates_to == asked
    assert one.envelope.to == client.url + "/answers"


def test_or_where_faults_go(kit: Toolkit, client: Receiver) -> None:
    broken(kit, reply_to=client.url + "/answers/a", fault_to=client.url + "/answers/f")
    kit.call("ITI-18", QUERY, reply_to=client.url + "/answers/a", fault_to=client.url + "/answers/f")
    arrived(kit, client, 2)
    assert [(one.path, read_fault(one.envelope.body) is not None) for one in client.requests] == [
        ("/answers/f", True), ("/answers/a", False)]


def test_a_fault_on_the_connection_and_the_answer_elsewhere(kit: Toolkit, client: Receiver) -> None:
    response = broken(kit, reply_to=client.url + "/answers", fault_to=ANONYMOUS)
    assert response.status_code == 400
    assert codes(response) == ["V-DSUB-CONSUMER"]
    assert kit.call("ITI-18", QUERY, reply_to=client.url + "/answers", fault_to=ANONYMOUS).status_code == 202


def test_the_answer_on_the_connection_and_a_fault_elsewhere(kit: Toolkit, client: Receiver) -> None:
    for reply_to in (ANONYMOUS, ""):
        response = kit.call("ITI-18", QUERY, reply_to=reply_to, fault_to=client.url + "/answers")
        assert response.status_code == 200
        assert broken(kit, reply_to=reply_to, fault_to=client.url + "/answers").status_code == 202
    arrived(kit, client, 2)
    assert all(read_fault(one.envelope.body) for one in client.requests)


def test_whoever_wants_no_answer_gets_none(kit: Toolkit, client: Receiver) -> None:
    unique_id, response = kit.register(reply_to=NONE)
    assert (response.status_code, response.data) == (202, b"")
    assert kept(kit) == 0
    found = messages.read_query_response(answer(kit.call("ITI-18", QUERY)).body)
    assert len(found.objects) == 1
    assert unique_id


# --- refusals, on the connection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["ReplyTo", "FaultTo"])
@pytest.mark.parametrize("address", ["http://evil.example/", "{client}/other", "{client}/answers/../x", "urn:x:y",
                                     "file:///etc/passwd"])
def test_nobody_else_is_called_and_nothing_is_done(kit: Toolkit, client: Receiver, block: str, address: str) -> None:
    where = {"ReplyTo": {"reply_to": address.format(client=client.url)},
             "FaultTo": {"reply_to": ANONYMOUS, "fault_to": address.format(client=client.url)}}[block]
    _, response = kit.register(**where)
    assert (response.status_code, codes(response)) == (400, ["V-VOLET-REPLY-ADDRESS"])
    assert b"push_addresses" in response.data
    assert answer(response).action == f"{WSA}/fault"
    fault = read_fault(answer(response).body)
    assert fault is not None
    assert fault.subcodes == ("InvalidAddressingHeader", "OnlyAnonymousAddressSupported")
    assert messages.read_query_response(answer(kit.call("ITI-18", QUERY)).body).objects == ()
    assert kept(kit) == 0


def test_an_answer_must_relate_to_something(kit: Toolkit, client: Receiver) -> None:
    response = kit.call("ITI-18", QUERY, reply_to=client.url + "/answers", message_id="")
    assert codes(response) == ["V-VOLET-REPLY-NO-MESSAGE-ID"]


def test_what_cannot_be_read_is_answered_on_the_connection(kit: Toolkit, client: Receiver) -> None:
    content = envelope_of(NO_BODY, "urn:unknown", new_message_id(), endpoint("ReplyTo", client.url + "/answers"))
    response = kit.post("/xds/registry", content)
    assert (response.status_code, codes(response)) == (400, ["V-SOAP-ACTION-UNKNOWN"])


def test_whoever_is_not_known_makes_us_call_nobody(pki: Path, tmp_path: Path, client: Receiver) -> None:
    """Under `dmp` the fault that says who is calling comes back on the connection."""
    settings = Settings(data=tmp_path / "dmp", push_addresses=[client.url])
    shutil.copytree(pki / "pki", settings.data / "pki", symlinks=True)
    migrate(settings)
    server = build(settings)
    somebody = Toolkit(server, create_app(server).test_client())
    for response in (somebody.call("ITI-18", QUERY, reply_to=client.url),
                     somebody.call("ITI-52", "<wsnt:Subscribe xmlns:wsnt='http://docs.oasis-open.org/wsn/b-2'/>",
                                   fault_to=client.url)):
        assert response.status_code in (400, 500)
        assert read_fault(answer(response).body) is not None
    assert kept(somebody) == 0
    server.close()


# --- once 202 is said, nothing is lost -----------------------------------------------------------------------------


def test_an_answer_that_cannot_be_kept_is_no_202(kit: Toolkit, client: Receiver,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queue, "keep", lambda *_: 1 / 0)
    response = kit.call("ITI-18", QUERY, reply_to=client.url + "/answers")
    assert (response.status_code, codes(response)) == (500, ["V-VOLET-REPLY-NOT-KEPT"])


def test_one_that_is_too_large_is_no_202(kit: Toolkit, client: Receiver) -> None:
    content = b"a" * (1024 * 1024)
    wanted = [DocumentRequest("", REPOSITORY, kit.provide(content)[0]) for _ in range(5)]
    response = kit.call("ITI-43", messages.write_retrieve(wanted), reply_to=client.url + "/answers")
    assert (response.status_code, codes(response)) == (400, ["V-VOLET-REPLY-TOO-LARGE"])
    assert response.content_type.startswith("multipart/related")
    assert kept(kit) == 0


def test_it_is_sent_though_the_server_was_stopped_meanwhile(tmp_path: Path) -> None:
    with receiving(status(503), status(202)) as client:
        settings = make_settings(tmp_path / "data", client.url)
        with toolkit(settings) as before:
            assert before.call("ITI-18", QUERY, reply_to=client.url).status_code == 202
        with toolkit(settings) as after:
            arrived(after, client, 2)
        assert len(set(client.message_ids)) == 1


def test_the_journal_tells_of_it(kit: Toolkit, client: Receiver) -> None:
    kit.call("ITI-18", QUERY, reply_to=client.url + "/answers")
    with working(kit):
        client.wait(1)
        limit = time.monotonic() + 10
        while len(rows := kit.server.journal.recent()) < 2:
            assert time.monotonic() < limit
            time.sleep(0.01)
    asked, sent = rows
    assert (asked["name"], asked["verdict"]) == ("ITI-18", "warned")  # of a header that it lacks
    assert "V-VOLET-REPLY-DEFERRED" in [finding["code"] for finding in asked["findings"]]
    assert (sent["door"], sent["name"], sent["verdict"]) == ("push", "ITI-18 reply", "accepted")


def test_reference_parameters_come_back(kit: Toolkit, client: Receiver) -> None:
    """WS-Addressing 1.0 Core §3.4: what the reply endpoint holds travels as header blocks."""
    blocks = (f"<wsa:ReplyTo><wsa:Address>{client.url}/answers</wsa:Address><wsa:ReferenceParameters>"
              '<x:Call xmlns:x="urn:x">7</x:Call></wsa:ReferenceParameters></wsa:ReplyTo>')
    content = envelope_of(QUERY, TRANSACTIONS["ITI-18"].action, new_message_id(), blocks)
    assert kit.post("/xds/registry", content).status_code == 202
    (one,) = arrived(kit, client)
    header = one.envelope.header
    assert header is not None
    (call,) = header.findall("{urn:x}Call")
    assert (call.text, call.get(f"{{{WSA}}}IsReferenceParameter")) == ("7", "true")
