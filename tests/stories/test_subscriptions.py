"""Whoever subscribes is told, and answers go where they are asked for, by a server as an operator starts it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.stories.client import new_oid
from tests.stories.ihe import Toolkit, new_patient, plain_lot
from tests.stories.process import STOP_SECONDS, Server, alive, descendants, wait_until
from tests.volet.broker import FILTER, endpoint, envelope_of
from tests.volet.receivers import Receiver, receiving
from xds import dsub, ebxml, messages
from xds.addressing import Endpoint
from xds.messages import TRANSACTIONS, AdhocQuery
from xds.rim import Slot
from xds.soap import new_message_id, read_envelope, read_message

FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture(scope="module")
def pusher(make_server: Callable[..., Server], receiver: Receiver) -> Server:
    """A server that may call the receiver."""
    return make_server("pusher", "--profile", "ihe", push_addresses=json.dumps([receiver.url]))


def post(server: Server, path: str, transaction: str, body: str, blocks: str = "") -> requests.Response:
    content = envelope_of(body, TRANSACTIONS[transaction].action, new_message_id(), blocks)
    return requests.post(server.url(path, "http"), data=content, timeout=30,
                         headers={"Content-Type": "application/soap+xml; charset=UTF-8"})


def test_a_document_is_told_to_whoever_subscribed(pusher: Server, receiver: Receiver) -> None:
    patient, seen = new_patient(pusher, new_oid()[-12:]), len(receiver.requests)
    wanted = dsub.Subscribe(Endpoint(f"{receiver.url}/told"), dsub.FULL, AdhocQuery(FILTER, slots=(
        Slot("$XDSDocumentEntryPatientId", (f"'{patient}'",)),)))
    response = post(pusher, "/xds/subscriptions", "ITI-52", dsub.write_subscribe(wanted))
    answer = read_envelope(read_message(response.headers["Content-Type"], response.content).root)
    made = dsub.read_subscribed(answer.body)
    lot = plain_lot(patient, b"Essai")
    assert Toolkit(pusher).provide(lot).status == "Success"
    (request,) = receiver.wait(seen + 1)[seen:]
    told = dsub.read_notify(request.envelope.body)
    assert (request.path, told.reference) == ("/told", made.reference)
    assert [ebxml.to_document(thing).unique_id for thing in told.content.objects] == [lot.documents[0].unique_id]


def test_an_answer_goes_where_it_is_asked_for(pusher: Server, receiver: Receiver) -> None:
    patient, seen = new_patient(pusher, new_oid()[-12:]), len(receiver.requests)
    query = messages.write_query(AdhocQuery(FIND_DOCUMENTS, slots=(
        Slot("$XDSDocumentEntryPatientId", (f"'{patient}'",)),
        Slot("$XDSDocumentEntryStatus", ("('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')",)))))
    response = post(pusher, "/xds/registry", "ITI-18", query, endpoint("ReplyTo", f"{receiver.url}/answers"))
    assert (response.status_code, response.content) == (202, b"")
    (request,) = receiver.wait(seen + 1)[seen:]
    assert request.path == "/answers"
    assert messages.read_query_response(request.envelope.body).status.endswith(":Success")


def test_a_server_that_lost_who_pushes_stops(make_server: Callable[..., Server], receiver: Receiver) -> None:
    """Rather than keep notifications that nobody will send."""
    server = make_server("bereft", "--profile", "ihe", push_addresses=json.dumps([receiver.url]))
    process = server.process
    assert process is not None
    family = descendants(process.pid)
    (who_pushes,) = [pid for pid in family if parent_of(pid) == process.pid and not descendants(pid)]
    os.kill(who_pushes, signal.SIGKILL)
    assert process.wait(STOP_SECONDS) != 0
    wait_until(lambda: not alive(family), 5, "the server's processes to end")


def parent_of(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    return int(stat.rpartition(")")[2].split()[1])
