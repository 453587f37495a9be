"""MLLP over real sockets: framing, several messages a connection, every bound, stopping; and ITI-8 at the door."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import hl7
import pytest
from hl7.client import MLLPClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError, OperationalError

from journal.database import Database
from journal.exchanges import Journal, Keeping
from registry import patients
from registry.affinity import AffinityDomain
from registry.codes import CodeBook
from registry.profile import PlainProfile
from registry.register import Registry
from registry.transactions import Services
from volet import mllp
from volet.mllp import END, START, Frames, Limits, Listener, feed_handler, serve

Serve = Callable[..., Listener]


def framed(*messages: bytes) -> bytes:
    return b"".join(START + message + END for message in messages)


@pytest.fixture
def serving() -> Iterator[Serve]:
    """Listeners that are closed whatever happens."""
    listeners: list[Listener] = []

    def start(handler: Callable[[bytes], bytes] = bytes.upper, **limits: Any) -> Listener:
        listeners.append(serve("127.0.0.1", 0, handler, Limits(**limits)))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close(2)


def connected(listener: Listener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), timeout=5)


def read_until_closed(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection; a reset is an end too."""
    found = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            found += data
    return found


def read_answers(connection: socket.socket, number: int) -> list[bytes]:
    data = b""
    while data.count(END) < number:
        more = connection.recv(65536)
        assert more, data
        data += more
    assert data.endswith(END)
    return [part.removeprefix(START) for part in data.split(END)[:-1]]


def is_closed(listener: Listener) -> bool:
    try:
        connected(listener).close()
    except ConnectionError:  # refused, or reset when the port went away meanwhile
        return True
    return False


# --- frames --------------------------------------------------------------------------------------------------------

contents = st.lists(st.binary(max_size=40).filter(lambda data: END not in data and data[-1:] != END[:1]), max_size=5)


@given(contents, st.lists(st.integers(1, 20), max_size=60))
def test_messages_are_the_same_however_the_bytes_are_cut(messages, cuts):
    data, frames, found = b"\r\n" + b"\r\n".join(START + message + END for message in messages), Frames(40), []
    for cut in cuts:
        found += frames.feed(data[:cut])
        data = data[cut:]
    found += frames.feed(data)
    assert found == messages
    assert (frames.is_broken, frames.is_inside) == (False, False)


@given(st.binary(max_size=60), st.integers(1, 20))
def test_no_bytes_do_more_than_break_the_framing(data, limit):
    whole, split = Frames(limit), Frames(limit)
    found = list(whole.feed(data))
    again = [message for sign in data for message in split.feed(bytes([sign]))]
    assert found == again
    assert whole.is_broken == split.is_broken
    assert all(len(message) <= limit for message in found[:-1])
    assert all(len(message) <= limit + 1 for message in found)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"x" + START, framed(b"a") + b"b", END])
def test_what_stands_outside_a_frame_breaks_it(data):
    frames = Frames(100)
    found = list(frames.feed(data))
    assert found == ([b"a"] if data.startswith(START) else [])
    assert frames.is_broken
    assert list(frames.feed(framed(b"c"))) == []


def test_a_message_too_long_comes_cut():
    frames = Frames(4)
    assert list(frames.feed(framed(b"1234") + START + b"12345678")) == [b"1234", b"12345"]
    assert frames.is_broken


# --- connections ---------------------------------------------------------------------------------------------------


def test_an_independent_client_gets_its_answers(serving):
    listener = serving()
    with MLLPClient("127.0.0.1", listener.port) as client:
        for message in (b"msh|one\r", b"msh|two\r"):
            assert client.send_message(message) == framed(message.upper())


def test_messages_sent_together_are_answered_in_turn(serving):
    with closing(connected(serving())) as connection:
        connection.sendall(framed(b"a", b"b") + b"\r\n" + framed(b"c")[:2])
        assert read_answers(connection, 2) == [b"A", b"B"]
        connection.sendall(framed(b"c")[2:])
        assert read_answers(connection, 1) == [b"C"]


def test_a_message_in_single_bytes(serving):
    with closing(connected(serving())) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sign in framed(b"abc"):
            connection.sendall(bytes([sign]))
        assert read_answers(connection, 1) == [b"ABC"]


def test_connections_do_not_wait_for_each_other(serving):
    gate = threading.Event()

    def handler(message: bytes) -> bytes:
        assert message != b"slow" or gate.wait(5)
        return message.upper()

    listener = serving(handler)
    with closing(connected(listener)) as slow, closing(connected(listener)) as quick:
        slow.sendall(framed(b"slow"))
        quick.sendall(framed(b"quick"))
        assert read_answers(quick, 1) == [b"QUICK"]
        gate.set()
        assert read_answers(slow, 1) == [b"SLOW"]


def test_a_message_too_long_is_answered_once_and_the_connection_closed(serving):
    received: list[int] = []

    def handler(message: bytes) -> bytes:
        received.append(len(message))
        return b"too long"

    with closing(connected(serving(handler, message=1000))) as connection:
        connection.sendall(framed(b"x" * 1000))
        assert read_answers(connection, 1) == [b"too long"]
        connection.sendall(START + b"x" * 1001)
        assert read_until_closed(connection) == framed(b"too long")
    assert received == [1000, 1001]


def test_what_is_no_mllp_is_closed(serving):
    with closing(connected(serving())) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_until_closed(connection) == b""


def test_connections_are_bounded(serving):
    listener = serving(connections=2)
    with closing(connected(listener)) as first, closing(connected(listener)) as second:
        for connection in (first, second):
            connection.sendall(framed(b"a"))
            assert read_answers(connection, 1) == [b"A"]
        with closing(connected(listener)) as third:
            assert read_until_closed(third) == b""
        first.close()
        assert wait_for(lambda: answers(listener))
        second.sendall(framed(b"b"))
        assert read_answers(second, 1) == [b"B"]


def answers(listener: Listener) -> bool:
    with closing(connected(listener)) as connection, suppress(OSError):
        connection.sendall(framed(b"a"))
        return connection.recv(100) == framed(b"A")
    return False


def wait_for(condition: Callable[[], bool], seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_silent_connection_is_closed(serving):
    with closing(connected(serving(idle=0.2))) as connection:
        connection.sendall(framed(b"a"))
        assert read_answers(connection, 1) == [b"A"]
        began = time.monotonic()
        assert read_until_closed(connection) == b""
        assert 0.1 < time.monotonic() - began < 3


def test_a_message_that_does_not_end_is_closed_though_bytes_come(serving):
    with closing(connected(serving(transfer=0.3))) as connection:
        began = time.monotonic()
        connection.settimeout(0.02)
        connection.sendall(START)
        with suppress(OSError):
            while time.monotonic() - began < 5:
                connection.sendall(b"x")
                with suppress(TimeoutError):
                    if not connection.recv(1):
                        break
        assert 0.2 < time.monotonic() - began < 3


def test_an_answer_that_nobody_takes_does_not_hold_a_thread(serving):
    listener = serving(lambda _: b"x" * 50_000_000, transfer=0.2, connections=1)
    with closing(connected(listener)) as connection:
        connection.sendall(framed(b"a"))
        assert wait_for(lambda: not listener._connections)


def test_a_handler_that_fails_closes_its_connection_only(serving):
    def handler(message: bytes) -> bytes:
        if message == b"bad":
            raise ValueError("bad")
        return message.upper()

    listener = serving(handler)
    with closing(connected(listener)) as connection, closing(connected(listener)) as other:
        connection.sendall(framed(b"bad"))
        assert read_until_closed(connection) == b""
        other.sendall(framed(b"a"))
        assert read_answers(other, 1) == [b"A"]


def test_closing_lets_an_answer_out_and_nothing_more_in(serving):
    begun, gate, received = threading.Event(), threading.Event(), []

    def handler(message: bytes) -> bytes:
        received.append(message)
        begun.set()
        assert gate.wait(5)
        return message.upper()

    listener = serving(handler)
    with closing(connected(listener)) as busy, closing(connected(listener)) as idle:
        busy.sendall(framed(b"a", b"b"))
        assert begun.wait(5)
        stopper = threading.Thread(target=listener.close)
        stopper.start()
        assert wait_for(lambda: is_closed(listener))
        assert read_until_closed(idle) == b""
        assert stopper.is_alive()
        gate.set()
        assert read_until_closed(busy) == framed(b"A")
        stopper.join(5)
        assert not stopper.is_alive()
    assert received == [b"a"]


def test_closing_does_not_wait_for_ever(serving):
    gate = threading.Event()

    def handler(message: bytes) -> bytes:
        gate.wait(5)
        return message

    listener = serving(handler)
    with closing(connected(listener)) as connection:
        connection.sendall(framed(b"a"))
        assert wait_for(lambda: bool(listener._connections))
        began = time.monotonic()
        listener.close(0.2)
        assert time.monotonic() - began < 2
        assert read_until_closed(connection) == b""
        gate.set()


def test_closing_twice_and_opening_the_same_port_again(serving):
    listener = serving()
    listener.close()
    listener.close()
    again = serve("127.0.0.1", listener.port, bytes.upper)
    try:
        assert answers(again)
    finally:
        again.close()


def test_a_port_in_use_is_told(serving):
    with pytest.raises(OSError, match="in use"):
        serve("127.0.0.1", serving().port, bytes.upper)


# --- ITI-8 at the door ---------------------------------------------------------------------------------------------

CX = "177777777777752^^^&1.2.250.1.213.1.4.10&ISO"


def adt(identifier: str = CX, control_id: str = "M-1") -> bytes:
    return (f"MSH|^~\\&|SOURCE|ETAB|VOLET|REGISTRE|20260301083000||ADT^A01|{control_id}|T|2.5\rEVN|A01\r"
            f"PID|1||{identifier}||NOUVEAU^SACHA||19991231|M\r").encode()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    database = Database(f"sqlite:///{tmp_path / 'volet.db'}", durable=False)
    database.migrate("registry")
    domain = AffinityDomain("test", "1.2.3")
    yield Services(Registry(database, CodeBook(database), domain), PlainProfile(domain))
    database.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    database = Database(f"sqlite:///{tmp_path / 'journal.db'}", durable=False)
    database.migrate("journal")
    yield Journal(database, Keeping())
    database.close()


def sent(listener: Listener, message: bytes) -> hl7.Message:
    with MLLPClient("127.0.0.1", listener.port) as client:
        answer = client.send_message(message)
    assert (answer[:1], answer[-2:]) == (START, END)
    return hl7.parse(answer[1:-2].decode())


def test_a_feed_is_registered_and_journalled(serving, services, journal):
    listener = serving(feed_handler(services, journal))
    ack = sent(listener, adt())
    assert (str(ack.segment("MSA")[1]), str(ack.segment("MSA")[2])) == ("AA", "M-1")
    with services.registry.database.read() as connection:
        assert patients.find(connection, CX) is not None
    (entry,) = journal.recent()
    assert (entry["name"], entry["door"], entry["verdict"]) == ("ITI-8", "mllp", "accepted")
    assert (entry["patient"], entry["message_id"], entry["action"]) == (CX, "M-1", "ADT^A01")
    request, response = journal.content(int(entry["transaction"]))
    assert request == adt()
    assert response.startswith(b"MSH|")


@pytest.mark.parametrize(("message", "code"), [
    (adt("42^^^HOPITAL"), "V-FEED-AUTHORITY"), (b"garbage", "V-V2-MESSAGE"), (b"", "V-V2-MESSAGE"),
    (adt() + b"x" * mllp.hl7v2.MAX_BYTES, "V-V2-TOO-LARGE"),
])
def test_what_is_refused_is_answered_and_journalled(serving, services, journal, message, code):
    listener = serving(feed_handler(services, journal))
    with closing(connected(listener)) as connection:
        connection.sendall(framed(message))
        (answer,) = read_answers(connection, 1)
    assert b"MSA|AE|" in answer
    assert code.encode() in answer
    assert wait_for(lambda: journal.count() == 1)
    (entry,) = journal.recent()
    assert (entry["name"], entry["verdict"]) == ("ITI-8", "refused")
    assert [finding["code"] for finding in entry["findings"]] == [code]


@pytest.mark.parametrize(("error", "code"), [
    (OperationalError("", {}, Exception("locked")), "V-REG-BUSY"),
    (IntegrityError("", {}, Exception("unique")), "V-REG-BUSY"),
    (RuntimeError("secret"), "V-VOLET-INTERNAL"),
])
def test_our_own_failures_are_answered_and_journalled(serving, services, journal, monkeypatch, error, code):
    def fail(*_: object) -> None:
        raise error

    listener = serving(feed_handler(services, journal))
    monkeypatch.setattr(patients, "feed", fail)
    ack = sent(listener, adt())
    assert (str(ack.segment("MSA")[1]), str(ack.segment("MSA")[2])) == ("AE", "M-1")
    assert str(ack.segment("ERR")[5][0][0]) == code
    assert "secret" not in str(ack)
    (entry,) = journal.recent()
    assert (entry["verdict"], [finding["code"] for finding in entry["findings"]]) == ("refused", [code])


def test_a_journal_that_cannot_be_written_does_not_spoil_the_answer(serving, services, journal, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(journal, "record", fail)
    assert str(sent(serving(feed_handler(services, journal)), adt()).segment("MSA")[1]) == "AA"


def test_many_sources_at_once(serving, services, journal):
    listener = serving(feed_handler(services, journal))
    codes: list[str] = []

    def source(number: int) -> None:
        with MLLPClient("127.0.0.1", listener.port) as client:
            for turn in range(5):
                message = adt(f"{number}-{turn}^^^&1.2.3&ISO~same^^^&1.2.{number}&ISO", f"{number}-{turn}")
                answer = hl7.parse(client.send_message(message)[1:-2].decode())
                codes.append(f"{answer.segment('MSA')[1]} {answer.segment('MSA')[2]}")

    threads = [threading.Thread(target=source, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(codes) == sorted(f"AA {number}-{turn}" for number in range(6) for turn in range(5))
    assert journal.count() == 30
