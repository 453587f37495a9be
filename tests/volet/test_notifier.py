"""The process that pushes: real receivers of every kind, processes that die and take over, nothing lost."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from dmp import record
from dmp.record import Record
from journal import deliveries
from journal.deliveries import Delivery, Message
from registry import patients, tables
from registry.patients import Traits
from tests.registry.samples import PATIENT
from tests.stories.process import alive
from tests.volet.broker import FILTER, Toolkit, answer, codes, make_settings, toolkit
from tests.volet.fake import tls_of
from tests.volet.receivers import Receiver, endless, hang_up, receiving, silent, status
from volet import notifier, push, soap
from volet.assembly import build, migrate
from volet.client.card import Access, load_card, vihf_header
from volet.notifier import Notifier
from volet.push import Outcome, Way, send
from volet.settings import Settings
from xds import dsub, ebxml
from xds.messages import TRANSACTIONS
from xds.rim import Slot
from xds.soap import new_message_id, read_envelope, read_fault, write_request

Start = Callable[..., Toolkit]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything sooner; the same otherwise."""
    monkeypatch.setattr(deliveries, "FIRST_PAUSE", 40)
    monkeypatch.setattr(notifier, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(notifier, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(push, "SILENT_SECONDS", 0.4)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A server that may call the receivers named."""
    opened = []

    def make(*allowed: Receiver | str, **changes: object) -> Toolkit:
        urls = [one if isinstance(one, str) else one.url for one in allowed]
        made = toolkit(make_settings(tmp_path / f"data{len(opened)}", *urls, **changes))
        opened.append(made)
        return made.__enter__()

    yield make
    for one in opened:
        one.__exit__(None, None, None)


@contextmanager
def working(kit: Toolkit) -> Iterator[Notifier]:
    """A notifier in a thread of this process while the block lasts."""
    made, enough = Notifier(kit.server), threading.Event()
    thread = threading.Thread(target=made.run, args=(enough,))
    thread.start()
    try:
        yield made
    finally:
        enough.set()
        thread.join(20)
        assert not thread.is_alive()


def ids(receiver: Receiver) -> list[str]:
    """uniqueIds of the documents that a receiver was told of."""
    told = [dsub.read_notify(request.envelope.body) for request in receiver.requests]
    return [ebxml.to_document(thing).unique_id for one in told for thing in one.content.objects]


def pushed(kit: Toolkit) -> list[tuple[str, str]]:
    """What the journal says of what was pushed: (name, verdict), oldest first."""
    return [(row["name"], row["verdict"]) for row in kit.server.journal.recent(100) if row["door"] == "push"]


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


# --- notifications -------------------------------------------------------------------------------------------------


def test_a_document_registered_is_told_to_whoever_asked(start: Start) -> None:
    with receiving() as receiver:
        kit = start(receiver)
        reference = kit.subscribe(receiver.url + "/notify?box=1")
        with working(kit):
            unique_id, response = kit.register()
            assert response.status_code == 200
            (request,) = receiver.wait(1)
            wait_for(lambda: pushed(kit))
        assert ids(receiver) == [unique_id]
        assert request.path == "/notify?box=1"
        assert request.envelope.to == receiver.url + "/notify?box=1"
        assert request.envelope.action == dsub.NOTIFY_ACTION
        assert f'action="{dsub.NOTIFY_ACTION}"' in request.content_type
        assert dsub.read_notify(request.envelope.body).reference == reference
        assert pushed(kit) == [("ITI-53", "accepted")]
        (row,) = [row for row in kit.server.journal.recent() if row["door"] == "push"]
        assert kit.server.journal.content(int(row["transaction"]))[0] == request.body


def test_no_longer_after_cancelling(start: Start) -> None:
    with receiving() as receiver:
        kit = start(receiver)
        one, other = kit.subscribe(receiver.url + "/1"), kit.subscribe(receiver.url + "/2")
        path = one.removeprefix("http://localhost")
        response = kit.call("ITI-52-Unsubscribe", dsub.write_unsubscribe(), path=path)
        assert answer(response).body.tag.endswith("UnsubscribeResponse")
        with working(kit):
            kit.register()
            receiver.wait(1)
            time.sleep(0.2)
        assert [request.path for request in receiver.requests] == ["/2"]
        again = kit.call("ITI-52-Unsubscribe", dsub.write_unsubscribe(), path=path)
        assert (again.status_code, codes(again)) == (400, ["V-SUB-UNKNOWN"])
        assert b"ResourceUnknownFault" in again.data
        assert other != one


def test_nobody_else_may_be_called(start: Start) -> None:
    kit = start("https://good.example/")
    with receiving() as receiver:
        written = dsub.write_subscribe(dsub.Subscribe(dsub.Endpoint(receiver.url), dsub.FULL,
                                                      dsub.AdhocQuery(FILTER, slots=_patient())))
        response = kit.call("ITI-52", written)
        assert (response.status_code, codes(response)) == (400, ["V-SUB-ADDRESS"])
        assert b"push_addresses" in response.data
        assert b"SubscribeCreationFailedFault" in response.data


def _patient() -> tuple[Slot, ...]:
    return (Slot("$XDSDocumentEntryPatientId", (f"'{PATIENT}'",)),)


@pytest.mark.parametrize("card", ["medecin", "medecin-traitant", "ehpad", "regulateur-samu"])
def test_the_dmp_opens_subscriptions_to_nobody(pki: Path, tmp_path: Path, card: str) -> None:
    """Not an action of the functional matrix: refused by the profile, whoever calls."""
    settings = Settings(data=tmp_path / "dmp", push_addresses=["https://good.example/"])
    shutil.copytree(pki / "pki", settings.data / "pki", symlinks=True)
    migrate(settings)
    server = build(settings)
    with server.services.registry.database.write() as connection:
        patient = patients.feed(connection, [PATIENT], Traits("ESSAI", "CAMILLE", "19580517", "F"))
        record.write(connection, Record(patient.id))
    wanted = dsub.Subscribe(dsub.Endpoint("https://good.example/"), dsub.FULL,
                            dsub.AdhocQuery(FILTER, slots=_patient()))
    bodies = {"ITI-52": dsub.write_subscribe(wanted), "ITI-52-Unsubscribe": dsub.write_unsubscribe()}
    for transaction, body in bodies.items():
        security = vihf_header(load_card(pki / "cards" / card), PATIENT, Access(), datetime.now(UTC))
        content = write_request(body, TRANSACTIONS[transaction].action, "https://x/", new_message_id(), security)
        asked = soap.Request("application/soap+xml", [content], "http", address="http://x/xds/subscriptions")
        response = soap.handle(asked, "subscriptions", server)
        fault = read_fault(read_envelope(b"".join(response.body)).body)
        assert fault is not None
        assert [found["code"] for found in fault.findings if found["severity"] == "error"] == ["V-DMP-NOT-ENTITLED"]
    server.close()


# --- receivers of every kind ---------------------------------------------------------------------------------------


def test_one_that_fails_is_told_again_the_same_message(start: Start) -> None:
    with receiving(status(500), status(503), status(404), status(202)) as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with working(kit):
            unique_id, _ = kit.register()
            receiver.wait(4)
            wait_for(lambda: len(pushed(kit)) == 4)
            time.sleep(0.2)
        assert len(receiver.requests) == 4
        assert len(set(receiver.message_ids)) == 1
        assert len({request.body for request in receiver.requests}) == 1
        assert ids(receiver) == [unique_id] * 4
        assert [verdict for _, verdict in pushed(kit)] == ["warned", "warned", "warned", "accepted"]


@pytest.mark.parametrize("behaviour", [silent(1.0), hang_up], ids=["silent", "hangs up"])
def test_one_that_says_nothing_is_told_again(start: Start, behaviour: object) -> None:
    with receiving(behaviour, status(202)) as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with working(kit):
            kit.register()
            receiver.wait(2)
            wait_for(lambda: len(pushed(kit)) == 2)
        assert len(set(receiver.message_ids)) == 1
        assert [verdict for _, verdict in pushed(kit)] == ["warned", "accepted"]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_nobody_is_sent_elsewhere(start: Start, code: int) -> None:
    """Neither to a place that is not allowed, nor to one that is."""
    with receiving() as other, receiving(status(code, Location=other.url + "/stolen"), status(202)) as receiver:
        kit = start(receiver, other)
        kit.subscribe(receiver.url)
        with working(kit):
            kit.register()
            receiver.wait(2)
            wait_for(lambda: len(pushed(kit)) == 2)
        assert other.requests == []
        findings = [row["findings"] for row in kit.server.journal.recent() if row["verdict"] == "warned"]
        assert f"HTTP {code}" in findings[-1][0]["received"]


def test_one_that_talks_without_end_is_not_listened_to(start: Start) -> None:
    with receiving(endless) as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with working(kit):
            kit.register()
            wait_for(lambda: pushed(kit))
            time.sleep(0.1)
        assert len(receiver.requests) == 1
        assert pushed(kit) == [("ITI-53", "accepted")]


def test_one_that_is_away_is_told_when_it_is_back(start: Start, tmp_path: Path) -> None:
    with receiving() as gone:
        pass
    kit = start(gone)
    kit.subscribe(gone.url)
    with working(kit):
        kit.register()
        wait_for(lambda: ("ITI-53", "warned") in pushed(kit))
        waiting = Notifier(kit.server).queue
        with kit.server.services.registry.database.read() as connection:
            (row,) = connection.execute(select(tables.deliveries[0])).all()
    assert row.state == "waiting"
    assert "Connection refused" in row.error
    assert waiting.due(1) or row.due > 0


def test_a_bad_receiver_keeps_nobody_else_from_being_told(start: Start) -> None:
    with receiving(silent(1.0)) as slow, receiving(status(500)) as failing, receiving() as good:
        kit = start(slow, failing, good)
        for receiver in (slow, failing, good):
            kit.subscribe(receiver.url)
        with working(kit):
            begun = time.monotonic()
            for _ in range(5):
                kit.register()
            good.wait(5)
        assert time.monotonic() - begun < 15
        assert len(set(good.message_ids)) == 5


def test_a_message_that_is_never_taken_does_not_stand_before_others(start: Start) -> None:
    """The receiver lives, and refuses one message only."""
    with receiving(status(500), status(202)) as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        kit.register()
        kit.register()
        with working(kit):
            receiver.wait(3)
            wait_for(lambda: len(pushed(kit)) == 3)
        first, second, third = receiver.message_ids
        assert first == third != second


def test_whoever_takes_it_drop_by_drop_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(push, "SILENT_SECONDS", 3.0)
    with receiving(silent(2.0), status(202)) as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with working(kit):
            kit.register()
            receiver.wait(2)
        assert len(set(receiver.message_ids)) == 1


def test_a_message_is_given_up_after_a_day(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "LIFETIME", 100)
    with receiving(status(500)) as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with working(kit):
            kit.register()
            wait_for(lambda: ("ITI-53", "refused") in pushed(kit))
            time.sleep(0.3)
        findings = [row["findings"] for row in kit.server.journal.recent() if row["verdict"] == "refused"]
        assert findings[0][-1]["code"] == "V-VOLET-PUSH-GIVEN-UP"
        number = len(receiver.requests)
        time.sleep(0.2)
        assert len(receiver.requests) == number


# --- TLS -----------------------------------------------------------------------------------------------------------


def one_file(pki: Path, folder: Path) -> Path:
    """Certificate and key of a card in one file."""
    made = folder / "client.pem"
    card = pki / "cards" / "medecin"
    made.write_bytes((card / "auth.pem").read_bytes() + (card / "auth.key").read_bytes())
    return made


def test_over_tls_with_a_certificate_on_both_sides(start: Start, pki: Path, tmp_path: Path) -> None:
    with receiving(tls=tls_of(pki, pki / "pki" / "ca.pem")) as receiver:
        kit = start(receiver, push_ca=pki / "pki" / "ca.pem", push_certificate=one_file(pki, tmp_path))
        kit.subscribe(receiver.url)
        with working(kit):
            kit.register()
            receiver.wait(1)


@pytest.mark.parametrize("mutual", [False, True], ids=["unknown server", "no certificate of ours"])
def test_nobody_is_told_who_is_not_known(start: Start, pki: Path, mutual: bool) -> None:
    context: ssl.SSLContext = tls_of(pki, pki / "pki" / "ca.pem" if mutual else None)
    with receiving(tls=context) as receiver:
        kit = start(receiver, push_ca=pki / "pki" / "ca.pem" if mutual else None)
        kit.subscribe(receiver.url)
        with working(kit):
            kit.register()
            wait_for(lambda: ("ITI-53", "warned") in pushed(kit))
        assert receiver.requests == []


def test_proxies_of_the_environment_are_not_asked(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with working(kit):
            kit.register()
            receiver.wait(1)
        assert proxy.requests == []


@pytest.mark.parametrize("way", [Way(ca=Path("nowhere.pem")), Way(certificate=Path("nowhere.pem"))])
def test_a_wrong_way_is_an_outcome(way: Way) -> None:
    message = Message("urn:uuid:1", "ITI-53", "https://127.0.0.1:1", "https://127.0.0.1:1/", "text/xml")
    assert send(Delivery(1, message, 4, 0, 0), iter([b"<a/>"]), way).error


# --- trouble at home -----------------------------------------------------------------------------------------------


def test_trouble_with_the_database_passes(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "TROUBLE_SECONDS", 0.02)
    with receiving() as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        troubles = [OperationalError("x", {}, Exception()), RuntimeError("x")]
        real = notifier.notifications.of_events

        def fail(*arguments: object) -> object:
            if troubles:
                raise troubles.pop()
            return real(*arguments)

        monkeypatch.setattr(notifier.notifications, "of_events", fail)
        with working(kit):
            unique_id, _ = kit.register()
            receiver.wait(1)
        assert ids(receiver) == [unique_id]
        assert troubles == []


def test_a_journal_that_cannot_be_written_holds_up_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with working(kit) as made:
            kit.register()
            monkeypatch.setattr(type(made.server.journal), "record", lambda *_: 1 / 0)
            receiver.wait(1)
            wait_for(lambda: not made.queue.due(10))
            time.sleep(0.1)
        assert len(receiver.requests) == 1


def test_what_breaks_in_sending_is_tried_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[object] = [RuntimeError("x")]
    real = push.send

    def fail(*arguments: object) -> Outcome:
        if outcomes:
            raise outcomes.pop()
        return real(*arguments)

    monkeypatch.setattr(push, "send", fail)
    with receiving() as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with working(kit):
            kit.register()
            receiver.wait(1)


def test_what_has_ended_is_swept_away(start: Start) -> None:
    kit = start("https://good.example/")
    kit.subscribe("https://good.example/", termination="PT1S")
    time.sleep(1.1)
    Notifier(kit.server).turn()
    with kit.server.services.registry.database.read() as connection:
        assert connection.execute(select(tables.subscription.c.state)).scalars().all() == ["expired"]


@pytest.mark.parametrize("prefix", ["good.example", "ftp://good.example", "https://good.example/?a", "https://"])
def test_a_wrong_list_stops_the_start(prefix: str) -> None:
    with pytest.raises(ValidationError, match="is expected"):
        Settings(push_addresses=[prefix])


# --- processes -----------------------------------------------------------------------------------------------------


@contextmanager
def processes(settings: Settings, number: int) -> Iterator[list[multiprocessing.Process]]:
    """So many notifiers as processes, as `volet serve` starts them."""
    made = [multiprocessing.get_context("fork").Process(target=notifier.run, args=(settings,)) for _ in range(number)]
    for one in made:
        one.start()
    try:
        yield made
    finally:
        for one in made:
            if one.is_alive():
                os.kill(one.pid or 0, signal.SIGTERM)
        for one in made:
            one.join(20)
            assert not one.is_alive()


def holder(kit: Toolkit) -> int:
    """Process that holds the lease, 0 when none does."""
    with kit.server.services.registry.database.read() as connection:
        found = connection.execute(select(tables.outbox_cursor.c.holder).where(
            tables.outbox_cursor.c.name == notifier.NAME)).scalar()
    return int(found.split(":")[1]) if found else 0


def test_a_process_works_and_stops(start: Start) -> None:
    with receiving() as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with processes(kit.server.settings, 1) as (one,):
            unique_id, _ = kit.register()
            receiver.wait(1)
            wait_for(lambda: holder(kit) == one.pid)
        assert one.exitcode == 0
        assert holder(kit) == 0
        assert ids(receiver) == [unique_id]


def test_of_several_processes_one_works_and_another_takes_over(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that works is killed; what was registered before and after arrives, each at least once."""
    monkeypatch.setattr(Notifier.__init__, "__defaults__", (1.0,))
    with receiving() as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with processes(kit.server.settings, 3) as several:
            wait_for(lambda: holder(kit))
            sent = [kit.register()[0] for _ in range(5)]
            receiver.wait(5)
            worker = holder(kit)
            assert worker in {one.pid for one in several}
            os.kill(worker, signal.SIGKILL)
            sent += [kit.register()[0] for _ in range(5)]
            wait_for(lambda: set(ids(receiver)) == set(sent))
            wait_for(lambda: holder(kit) not in (0, worker))
        assert len(set(receiver.message_ids)) == 10


def test_a_process_killed_while_sending_loses_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "SILENT_SECONDS", 30.0)
    monkeypatch.setattr(Notifier.__init__, "__defaults__", (0.5,))
    with receiving(silent(3.0), status(202)) as receiver:
        kit = start(receiver)
        kit.subscribe(receiver.url)
        with processes(kit.server.settings, 1) as (one,):
            kit.register()
            receiver.wait(1)
            os.kill(one.pid or 0, signal.SIGKILL)
            one.join(10)
        with processes(kit.server.settings, 1):
            receiver.wait(2)
        assert len(set(receiver.message_ids)) == 1


def test_a_process_whose_parent_is_gone_stops(start: Start) -> None:
    kit = start("https://good.example/")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        grandchild = multiprocessing.get_context("fork").Process(target=notifier.run, args=(kit.server.settings,))
        grandchild.start()
        os.write(writing, str(grandchild.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    pid = int(os.read(reading, 20))
    try:
        wait_for(lambda: not alive([pid]))
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
