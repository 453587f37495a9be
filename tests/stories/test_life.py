"""A server's life: how it starts, what it survives, and that it goes wholly and leaves what is under way its answer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stories.client import Card, Client, make_lot
from tests.stories.process import Server, alive, descendants, listens, prepare, wait_until
from tests.stories.raw import connect, head, hear
from tests.stories.samples import CAMILLE, MANY, document

SOAP = "application/soap+xml; charset=UTF-8"


@pytest.fixture
def own(pki: Path, tmp_path: Path) -> Iterator[Server]:
    """A server to do things to; whatever happens, nothing of it is left."""
    server = prepare(tmp_path / "own", pki, "--init")
    yield server.start()
    family = [server.process.pid, *server.children] if server.process else []
    if alive(family):
        server.kill()
    assert alive(family) == []
    server.clear()


def client_of(server: Server, card: str = "medecin-traitant", **more: object) -> Client:
    return Client(server, Card(server.data / "cards" / card), **more)  # type: ignore[arg-type]


def works(server: Server) -> None:
    assert client_of(server, "cardiologue").find(CAMILLE).status == "Success"


def does_not_start(server: Server, why: str) -> None:
    """It ends by itself, with a status that says so; if it starts all the same, nothing of it is left."""
    try:
        with pytest.raises(AssertionError, match=why):
            server.start()
        assert server.process is not None
        assert server.process.returncode != 0
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
        server.clear()


def test_stopping_leaves_a_request_its_answer_and_does_not_wait_for_the_idle(own: Server) -> None:
    client = client_of(own, door="http")
    lot = make_lot(client.card, document())  # type: ignore[arg-type]
    content_type, data = client.package("ITI-41", lot.body(), client.vihf(lot.patient), lot.parts())
    with contextlib.ExitStack() as stack:
        under_way, half, silent = (stack.enter_context(connect(own)) for _ in range(3))
        under_way.sendall(head(len(data), content_type, "repository") + data[:-10])
        half.sendall(b"POST /xds/reg")
        silent.sendall(b"")
        time.sleep(0.3)
        stopped = threading.Thread(target=own.stop)
        begun = time.monotonic()
        stopped.start()
        time.sleep(0.5)
        under_way.sendall(data[-10:])
        assert hear(under_way).reply.status == "Success"
        stopped.join()
    assert time.monotonic() - begun < 10
    assert own.process is not None
    assert own.process.returncode == 0
    assert own.errors_logged() == []
    own.start()
    assert lot.documents[0].unique_id in [entry.unique_id for entry in client_of(own).find(CAMILLE).documents]


def test_ctrl_c_stops_it(own: Server) -> None:
    assert own.process is not None
    os.killpg(own.process.pid, signal.SIGINT)
    assert own.process.wait(20) == 0
    assert b"Traceback" not in own.log.read_bytes()


def test_a_worker_that_dies_is_replaced(own: Server) -> None:
    listeners = [pid for pid in own.children if Path(f"/proc/{pid}/stat").read_text().split()[3] == str(
        own.process.pid if own.process else 0)]
    workers = [pid for pid in own.children if pid not in listeners]
    assert len(listeners) == len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(descendants(own.process.pid if own.process else 0)) - set(workers)) == 4, 10,
               "new workers")
    works(own)
    works_over_http = client_of(own, "cardiologue", door="http").find(CAMILLE)
    assert works_over_http.status == "Success"


def test_a_listener_that_dies_takes_all_with_it(own: Server) -> None:
    """Half a server would be taken for a whole one."""
    assert own.process is not None
    listener = next(pid for pid in own.children if Path(f"/proc/{pid}/stat").read_text().split()[3] == str(
        own.process.pid))
    os.kill(listener, signal.SIGKILL)
    assert own.process.wait(40) != 0
    wait_until(lambda: not alive(own.children), 10, "the others to end")
    assert not listens(own.https)
    assert not listens(own.http)


def test_a_parent_that_dies_leaves_no_orphans(own: Server) -> None:
    assert own.process is not None
    own.process.kill()
    own.process.wait()
    wait_until(lambda: not alive(own.children), 40, "the listeners to end")
    assert not listens(own.https)


def test_a_port_that_is_taken_stops_the_start(own: Server, pki: Path, tmp_path: Path) -> None:
    other = replace(prepare(tmp_path / "other", pki, "--init"), https=own.https)
    does_not_start(other, "did not start")
    assert own.https.encode() in other.log.read_bytes()
    assert b"Traceback" not in other.log.read_bytes()
    works(own)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:8080"])
def test_plain_http_is_for_this_machine_only(pki: Path, tmp_path: Path, address: str) -> None:
    does_not_start(replace(prepare(tmp_path / "open", pki, "--init"), http=address), "loopback")


def test_the_same_lot_from_all_sides_at_once_is_kept_once(server: Server, as_card: Callable[..., Client]) -> None:
    card = as_card("medecin-traitant").card
    assert card is not None
    lots = [make_lot(card, document(patient=MANY)) for _ in range(3)]
    before = server.kept()
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda lot: Client(server, card).send(lot), lots * 8))
    assert {reply.status for reply in replies} == {"Success"}
    assert sum(not reply.findings for reply in replies) == len(lots)
    files, rows = server.kept()
    assert len(files) - len(before[0]) == 2 * len(lots)  # each document and its signature
    assert rows[0] - before[1][0] == len(lots)


def test_one_document_is_replaced_once(server: Server, as_card: Callable[..., Client]) -> None:
    client = as_card("medecin-traitant")
    assert client.card is not None
    card = client.card
    lot, reply = client.feed(document(patient=MANY))
    assert reply.status == "Success"
    (old,) = (entry for entry in client.find(MANY).documents if entry.unique_id == lot.documents[0].unique_id)
    rivals = [make_lot(card, document(patient=MANY), replaces=old.id) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda rival: Client(server, card).send(rival), rivals))
    assert sorted(reply.status for reply in replies) == ["Failure"] * 7 + ["Success"]
    assert {code for reply in replies for code in reply.findings} == {"V-REG-TARGET-DEPRECATED"}


def test_a_socket_that_is_reset_in_every_state_disturbs_nobody(server: Server, as_card: Callable[..., Client]) -> None:
    client = as_card("cardiologue")
    states = (b"", b"\x16\x03\x01\x02", b"POST /xds/registry HTTP/1.1\r\n", head(100, SOAP), head(100, SOAP) + b"x")
    for door in ("https", "http"):
        for words in states:
            host, _, port = (server.https if door == "https" else server.http).rpartition(":")
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.sendall(words)
                time.sleep(0.02)
    assert client.find(CAMILLE).status == "Success"
