"""Audit on its way out: a spool that loses nothing, and a real receiver of syslog over TLS on the other side."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from journal.audit import Trail, verify
from journal.database import Database
from security.audit import Action, AuditSource, Coded, Event, Outcome, Participant
from volet import auditing, spool
from volet.auditing import Auditor, FileSink, Receiver, SyslogSink, Wrapping, open_auditor
from volet.spool import Spool
from xds.findings import Refused

AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
WRAPPING = Wrapping("volet.invalid")


def event(number: int = 0, outcome: Outcome = Outcome.SUCCESS) -> Event:
    return Event(Coded("110112", "DCM", "Query"), Action.EXECUTE, outcome, AT, (Participant(f"essai-{number}", True),),
                 AuditSource("volet.essai"))


def number_of(message: bytes) -> int:
    """The event's number, read as a receiver would: header, BOM, XML."""
    header, mark, xml = message.partition(b" - \xef\xbb\xbf")
    assert header.startswith(b"<85>1 2026-11-22T09:00:00.000Z volet.invalid volet ")
    assert mark
    participant = etree.fromstring(xml).find("ActiveParticipant")
    assert participant is not None
    return int(participant.get("UserID", "").removeprefix("essai-"))


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of tests: short."""
    monkeypatch.setattr(auditing, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(auditing, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(auditing, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(auditing, "CONFIRM_SECONDS", 0.2)


# --- a receiver ----------------------------------------------------------------------------------------------------


class Pem:
    """A key and a certificate on disk, of an authority of its own unless another signs."""

    def __init__(self, folder: Path, name: str, issuer: Pem | None = None) -> None:
        self.path, self.key_path = folder / f"{name}.pem", folder / f"{name}.key"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (x509.CertificateBuilder().subject_name(self.name).issuer_name((issuer or self).name)
                   .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
                   .add_extension(x509.BasicConstraints(issuer is None, None), True)
                   .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False))
        certificate = builder.sign((issuer or self).key, SHA256())
        self.path.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.key_path.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Repository:
    """An audit record repository: takes octet-counted frames over TLS (RFC 5425) and keeps the messages."""

    def __init__(self, server: Pem, client_ca: Path | None = None, port: int = 0) -> None:
        self.messages: list[bytes] = []
        self.clients: list[str] = []
        self.is_polite = False  # answers a close_notify
        self.drops = 0  # so many connections are dropped after three messages, whatever more has come
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(server.path, server.key_path)
        if client_ca is not None:
            self._context.load_verify_locations(client_ca)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port = self._listening.getsockname()[1]
        self._closing = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _accept(self) -> None:
        while not self._closing:
            try:
                raw, _ = self._listening.accept()
                with self._context.wrap_socket(raw, server_side=True) as connection:
                    self._receive(connection)
            except OSError:
                continue

    def _receive(self, connection: ssl.SSLSocket) -> None:
        subject = dict(part[0] for part in (connection.getpeercert() or {}).get("subject", ()))  # type: ignore[misc]
        self.clients.append(str(subject.get("commonName", "")))
        connection.settimeout(0.05)
        buffer, taken = b"", 0
        while not self._closing:
            try:
                data = connection.recv(65536)
            except TimeoutError:
                continue
            if not data:
                if self.is_polite:
                    connection.unwrap()
                return
            buffer += data
            while (frame := self._frame(buffer)) is not None:
                message, buffer = frame
                self.messages.append(message)
                taken += 1
                if taken == 3 and self.drops:
                    self.drops -= 1
                    return

    @staticmethod
    def _frame(buffer: bytes) -> tuple[bytes, bytes] | None:
        length, blank, rest = buffer.partition(b" ")
        if not blank or len(rest) < int(length):
            return None
        return rest[:int(length)], rest[int(length):]

    def numbers(self) -> list[int]:
        return list(map(number_of, list(self.messages)))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pem:
    return Pem(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture
def repository(authority: Pem, tmp_path: Path) -> Iterator[Repository]:
    made = Repository(Pem(tmp_path, "server", authority))
    yield made
    made.close()


@contextlib.contextmanager
def sending(spool: Spool, port: int, authority: Pem, own: Pem | None = None, name: str = "localhost"
            ) -> Iterator[SyslogSink]:
    sink = SyslogSink(spool, Receiver(f"127.0.0.1:{port}", authority.path, own and own.path, own and own.key_path,
                                      name), WRAPPING)
    sink.start()
    yield sink
    sink.close()


# --- sending -------------------------------------------------------------------------------------------------------


def test_events_arrive_in_order(repository: Repository, authority: Pem, tmp_path: Path) -> None:
    with sending(Spool(tmp_path / "audit"), repository.port, authority) as sink:
        sink.put([event(number) for number in range(100)])
        sink.put([event(100)])
        eventually(lambda: len(repository.messages) == 101)
        eventually(sink.spool.is_empty)
    assert repository.numbers() == list(range(101))
    assert (sink.problem, repository.clients) == ("", [""])
    assert (tmp_path / "audit" / "spool").stat().st_size == 0


def test_what_was_spooled_is_sent_after_a_restart(repository: Repository, authority: Pem, tmp_path: Path) -> None:
    before = SyslogSink(Spool(tmp_path / "audit"), Receiver("127.0.0.1:9", authority.path), WRAPPING)
    before.put([event(1), event(2)])  # never started: the server was killed
    with sending(Spool(tmp_path / "audit"), repository.port, authority) as sink:
        eventually(lambda: repository.numbers() == [1, 2])
        sink.put([event(3)])
        eventually(lambda: repository.numbers() == [1, 2, 3])


def test_a_receiver_that_comes_late(authority: Pem, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with sending(Spool(tmp_path / "audit"), port, authority) as sink:
        sink.put([event(1)])
        eventually(lambda: "refused" in sink.problem)
        late = Repository(Pem(tmp_path, "server", authority), port=port)
        eventually(lambda: late.numbers() == [1])
        eventually(lambda: sink.problem == "")
    late.close()


def test_a_receiver_that_drops_connections_lacks_nothing(repository: Repository, authority: Pem, tmp_path: Path
                                                          ) -> None:
    repository.drops = 3
    with sending(Spool(tmp_path / "audit"), repository.port, authority) as sink:
        for number in range(12):
            sink.put([event(number)])
            time.sleep(0.005)
        eventually(lambda: set(repository.numbers()) == set(range(12)))
        eventually(sink.spool.is_empty)
    assert (len(repository.clients), repository.drops) == (4, 0)


def test_a_receiver_restarted_while_nothing_happened(authority: Pem, tmp_path: Path) -> None:
    server = Pem(tmp_path, "server", authority)
    first = Repository(server)
    with sending(Spool(tmp_path / "audit"), first.port, authority) as sink:
        sink.put([event(1)])
        eventually(lambda: first.numbers() == [1] and sink.spool.is_empty())
        first.close()
        second = Repository(server, port=first.port)
        sink.put([event(2)])
        eventually(lambda: second.numbers() == [2])
    second.close()


@pytest.mark.parametrize("is_polite", [True, False])
def test_a_goodbye_confirms_nothing(
        is_polite: bool, repository: Repository, authority: Pem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    monkeypatch.setattr(auditing, "CONFIRM_SECONDS", 60.0)
    repository.is_polite = is_polite
    with sending(Spool(tmp_path / "audit"), repository.port, authority) as sink:
        sink.put([event(1)])
        eventually(lambda: repository.numbers() == [1])
        assert not sink.spool.is_empty()
    assert not sink.spool.is_empty()


def test_a_client_certificate(authority: Pem, tmp_path: Path) -> None:
    demanding = Repository(Pem(tmp_path, "server", authority), client_ca=authority.path)
    with sending(Spool(tmp_path / "audit"), demanding.port, authority, Pem(tmp_path, "volet", authority)) as sink:
        sink.put([event(1)])
        eventually(lambda: demanding.numbers() == [1])
    assert demanding.clients == ["volet"]
    with sending(Spool(tmp_path / "other"), demanding.port, authority) as sink:
        sink.put([event(2)])
        eventually(lambda: sink.problem != "")
        assert not sink.spool.is_empty()
    assert demanding.numbers() == [1]
    demanding.close()


@pytest.mark.parametrize("name", ["localhost", "elsewhere.invalid"])
def test_a_receiver_that_is_not_the_one_is_told_nothing(name: str, authority: Pem, tmp_path: Path) -> None:
    trusted = authority if name != "localhost" else Pem(tmp_path, "other-ca")
    impostor = Repository(Pem(tmp_path, "server", authority))
    with sending(Spool(tmp_path / "audit"), impostor.port, trusted, name=name) as sink:
        sink.put([event(1)])
        eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in sink.problem or "certificate" in sink.problem.lower())
    assert impostor.messages == []
    assert not sink.spool.is_empty()
    impostor.close()


def test_a_receiver_that_never_answers_stops_nobody(authority: Pem, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, sending(
            Spool(tmp_path / "audit"), silent.getsockname()[1], authority) as sink:
        begun = time.monotonic()
        sink.put([event(1)])
        assert time.monotonic() - begun < 0.2
        eventually(lambda: "timed out" in sink.problem)


def test_bytes_that_are_not_acknowledged_in_time(repository: Repository, authority: Pem, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "_unacknowledged", lambda _: 7)
    monkeypatch.setattr(auditing, "ACKNOWLEDGE_SECONDS", 0.05)
    with sending(Spool(tmp_path / "audit"), repository.port, authority) as sink:
        sink.put([event(1)])
        eventually(lambda: "not acknowledged" in sink.problem)
        assert not sink.spool.is_empty()


def test_one_of_two_senders_sends(repository: Repository, authority: Pem, tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    with sending(Spool(folder), repository.port, authority) as one:
        with sending(Spool(folder), repository.port, authority) as other:
            one.put([event(1)])
            other.put([event(2)])
            eventually(lambda: sorted(repository.numbers()) == [1, 2])
            assert repository.clients == [""]
        one.put([event(3)])
        eventually(lambda: sorted(repository.numbers()) == [1, 2, 3])


def test_the_other_goes_on_when_one_stops(repository: Repository, authority: Pem, tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    with sending(Spool(folder), repository.port, authority) as one:
        one.put([event(1)])
        eventually(lambda: repository.numbers() == [1] and one.spool.is_empty())
        with sending(Spool(folder), repository.port, authority) as other:
            one.close()
            other.put([event(2)])
            eventually(lambda: repository.numbers() == [1, 2])


def test_a_sender_survives_its_own_faults(repository: Repository, authority: Pem, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    with sending(Spool(tmp_path / "audit"), repository.port, authority) as sink:
        with monkeypatch.context() as broken:
            broken.setattr(Spool, "read", lambda *_: 1 / 0)
            sink.put([event(1)])
            eventually(lambda: "ZeroDivisionError" in sink.problem)
        eventually(lambda: repository.numbers() == [1])


# --- the spool -----------------------------------------------------------------------------------------------------


def everything(kept: Spool) -> list[bytes]:
    found: list[bytes] = []
    while (batch := kept.read(kept.position(), 3))[0]:
        found += batch[0]
        kept.advance(batch[1])
    return found


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=50), max_size=4), max_size=6))
def test_what_goes_in_comes_out(tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]]) -> None:
    kept = Spool(tmp_path_factory.mktemp("spool"))
    for batch in batches:
        kept.append(batch)
    assert everything(kept) == [message for batch in batches for message in batch]
    assert kept.is_empty()


def test_what_was_not_advanced_comes_again(tmp_path: Path) -> None:
    kept = Spool(tmp_path)
    kept.append([b"1", b"2", b"3"])
    messages, end = kept.read(0, 2)
    assert messages == [b"1", b"2"]
    assert Spool(tmp_path).read(Spool(tmp_path).position(), 2) == (messages, end)
    assert kept.advance(end) == 0
    assert Spool(tmp_path).read(Spool(tmp_path).position()) == ([b"3"], 27)


def test_what_was_sent_is_cut_off_at_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "COMPACT_AT", 20)
    kept = Spool(tmp_path)
    kept.append([b"1", b"2", b"3", b"4", b"5"])
    assert kept.advance(18) == 0  # not enough yet
    assert kept.advance(27) == 27
    assert (kept.position(), everything(kept)) == (0, [b"4", b"5"])
    kept.append([b"x" * 200] * 2)
    assert kept.advance(24) == 0  # too much would have to be copied


@pytest.mark.parametrize("kept", range(1, 18))
def test_a_record_half_written_at_power_loss_is_set_aside(tmp_path: Path, kept: int) -> None:
    Spool(tmp_path).append([b"whole", b"half-read"])
    whole = 8 + len(b"whole")
    os.truncate(tmp_path / "spool", whole + min(kept, 16))
    kept = Spool(tmp_path)
    kept.append([b"next"])
    assert everything(kept) == [b"whole", b"next"]
    assert len(list(tmp_path.glob("broken-*"))) == 1


def test_a_record_that_rots_while_the_server_runs_is_set_aside(tmp_path: Path) -> None:
    kept = Spool(tmp_path)
    kept.append([b"first", b"second"])
    data = bytearray((tmp_path / "spool").read_bytes())
    data[-1] ^= 1
    (tmp_path / "spool").write_bytes(data)
    assert everything(kept) == [b"first"]
    kept.append([b"third"])
    assert everything(kept) == [b"third"]
    assert len(list(tmp_path.glob("broken-*"))) == 1


def test_a_length_that_nothing_has_is_no_length(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"\xff" * 100)
    assert everything(Spool(tmp_path)) == []


def test_a_position_beyond_the_end_is_the_beginning(tmp_path: Path) -> None:
    Spool(tmp_path).append([b"1"])
    (tmp_path / "position").write_text("1000")
    assert everything(Spool(tmp_path)) == [b"1"]
    (tmp_path / "position").write_text("x")
    assert Spool(tmp_path).position() == 0


def test_stopped_between_position_and_truncation_sends_twice_rather_than_never(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Spool(tmp_path)
    kept.append([b"1"])

    def stopped(*_: object) -> None:
        raise OSError(5, "stopped")

    monkeypatch.setattr(Path, "replace", lambda old, new: stopped() if new.name == "spool" else os.replace(old, new))
    with pytest.raises(OSError, match="stopped"):
        kept.advance(9)
    monkeypatch.undo()
    Spool(tmp_path).append([b"2"])
    assert everything(Spool(tmp_path)) == [b"1", b"2"]


def test_a_full_spool_takes_nothing_and_keeps_what_it_has(tmp_path: Path) -> None:
    kept = Spool(tmp_path, limit=20)
    kept.append([b"1234"])
    with pytest.raises(OSError, match="full"):
        kept.append([b"12345678"])
    assert everything(kept) == [b"1234"]


def test_a_medium_that_takes_a_part_only_keeps_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Spool(tmp_path)
    kept.append([b"1"])
    write = os.write
    monkeypatch.setattr(spool.os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(OSError, match="in part"):
        kept.append([b"2"])
    monkeypatch.undo()
    kept.append([b"3"])
    assert everything(kept) == [b"1", b"3"]


def _fill(folder: Path, mark: int) -> None:
    kept = Spool(folder)
    for number in range(20):
        kept.append([b"%d-%d" % (mark, number)])


def test_processes_share_a_spool(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(tmp_path, mark)) for mark in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = everything(Spool(tmp_path))
    assert sorted(found) == sorted(b"%d-%d" % (mark, number) for mark in range(3) for number in range(20))
    assert [one for one in found if one.startswith(b"1-")] == [b"1-%d" % number for number in range(20)]


# --- files, and all together ---------------------------------------------------------------------------------------


def test_a_file_has_one_message_a_line(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "audit.log", WRAPPING)
    sink.start()
    sink.put([event(1), event(2)])
    (tmp_path / "audit.log").rename(tmp_path / "audit.log.1")
    sink.put([event(3)])
    sink.close()
    assert [number_of(line) for line in (tmp_path / "audit.log.1").read_bytes().splitlines()] == [1, 2]
    assert [number_of(line) for line in (tmp_path / "audit.log").read_bytes().splitlines()] == [3]


def test_failures_are_warnings() -> None:
    assert Wrapping("h", "DICOM+RFC3881").wrap(event(outcome=Outcome.SERIOUS)).startswith(b"<84>1 ")
    assert b" DICOM+RFC3881 - " in Wrapping("h", "DICOM+RFC3881").wrap(event())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'journal.db'}")
    made.migrate("journal")
    yield made
    made.close()


def test_all_together(repository: Repository, authority: Pem, database: Database, tmp_path: Path) -> None:
    auditor = open_auditor(tmp_path, database, Receiver(f"localhost:{repository.port}", authority.path),
                           tmp_path / "audit.log", WRAPPING)
    auditor.start()
    auditor.record(event(1), event(2))
    eventually(lambda: repository.numbers() == [1, 2])
    assert len((tmp_path / "audit.log").read_bytes().splitlines()) == 2
    assert auditor.problem == ""
    auditor.close()
    key = bytes.fromhex((tmp_path / "audit.key").read_text())
    assert verify(database, key, tmp_path / "audit.anchors").records == 2


def test_no_trail_no_record_anywhere(database: Database, tmp_path: Path) -> None:
    auditor = Auditor(Trail(Database(f"sqlite:///{tmp_path / 'empty.db'}"), bytes(32)),
                      [FileSink(tmp_path / "audit.log", WRAPPING)])
    with pytest.raises(Refused):
        auditor.record(event())
    assert not (tmp_path / "audit.log").exists()
    assert auditor.problem == "OperationalError"


def test_a_sink_that_fails_refuses_nobody(database: Database, tmp_path: Path) -> None:
    sinks = [FileSink(tmp_path / "none" / "audit.log", WRAPPING),
             SyslogSink(Spool(tmp_path / "audit", limit=1), Receiver("127.0.0.1:9"), WRAPPING)]
    auditor = Auditor(Trail(database, bytes(32)), sinks)
    auditor.record(event())
    assert verify(database, bytes(32)).records == 1
    assert "No such file" in sinks[0].problem
    assert "full" in sinks[1].problem
    assert auditor.problem == sinks[0].problem


def test_a_certificate_that_cannot_be_read_stops_the_start(database: Database, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        open_auditor(tmp_path, database, Receiver("127.0.0.1:9", tmp_path / "none.pem"))
