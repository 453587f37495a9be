"""TLS at the door: versions, resumption, renegotiation, and who refuses a bad card."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests

from security.pki import revoke
from tests.stories.client import Card, Client, find_documents, now
from tests.stories.process import Server, wait_until
from tests.stories.raw import HANG, head, hear
from tests.stories.samples import CAMILLE
from volet import tls

As = Callable[..., Client]
SOAP = "application/soap+xml; charset=UTF-8"


def address(server: Server) -> tuple[str, int]:
    host, _, port = server.https.rpartition(":")
    return host, int(port)


def context_of(server: Server, card: Card | None = None) -> ssl.SSLContext:
    """A client's context; old versions and weak suites are allowed as far as this OpenSSL can speak them."""
    context = ssl.create_default_context(cafile=str(server.data / "pki" / "ca.pem"))
    if card is not None:
        context.load_cert_chain(*card.tls)
    return context


@contextlib.contextmanager
def connected(server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None = None
              ) -> Iterator[ssl.SSLSocket]:
    with socket.create_connection(address(server), timeout=HANG) as plain, \
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection:
        yield connection


def ask(client: Client, connection: ssl.SSLSocket) -> list[str]:
    """What a client's query is answered on a connection: the findings, none for a success."""
    data = client.envelope("ITI-18", find_documents(CAMILLE), client.vihf(CAMILLE))
    connection.sendall(head(len(data), SOAP) + data)
    reply = hear(connection).reply
    assert (reply.status == "Success") == (reply.findings == [])
    return reply.findings


# --- versions and suites ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_present_versions_are_spoken(server: Server, as_card: As, version: ssl.TLSVersion) -> None:
    client = as_card("cardiologue")
    context = context_of(server, client.card)
    context.minimum_version = context.maximum_version = version
    with connected(server, context) as connection:
        assert connection.version() == version.name.replace("_", ".")
        assert ask(client, connection) == []


def hello(version: bytes, suites: bytes, extensions: bytes = b"") -> bytes:
    """A ClientHello written by hand: the library of today would not speak what is old."""
    body = version + bytes(32) + b"\0" + len(suites).to_bytes(2) + suites + b"\x01\0"
    body += len(extensions).to_bytes(2) + extensions if extensions else b""
    handshake = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(handshake).to_bytes(2) + handshake


GCM = bytes.fromhex("c02fc030c02bc02cc013c014002f0035")
GROUPS = bytes.fromhex("000a00040002001d" "000d00080006040108040401" "000b00020100")


@pytest.mark.parametrize(("version", "name"), [(b"\x03\x00", "SSL 3.0"), (b"\x03\x01", "TLS 1.0"),
                                               (b"\x03\x02", "TLS 1.1")])
def test_old_versions_are_refused(server: Server, version: bytes, name: str) -> None:
    """An alert, protocol_version (70), or at the least no ServerHello."""
    answer = first_record(server, hello(version, GCM, GROUPS))
    assert answer[:1] == b"\x15", name
    assert answer[-1] == 70


def test_the_same_hello_of_a_present_version_is_answered(server: Server) -> None:
    """For comparison: what was refused above was refused for its version."""
    assert first_record(server, hello(b"\x03\x03", GCM, GROUPS))[:1] == b"\x16"


@pytest.mark.parametrize("suites", ["c013c014", "002f0035", "009c009d", "000a0005", "c012", "003b0001"])
def test_suites_without_forward_secrecy_or_authenticated_encryption_are_refused(server: Server, suites: str) -> None:
    """handshake_failure (40): CBC, RSA key exchange, 3DES, RC4, NULL."""
    answer = first_record(server, hello(b"\x03\x03", bytes.fromhex(suites), GROUPS))
    assert (answer[:1], answer[-1]) == (b"\x15", 40)


def test_a_client_that_was_made_to_fall_back_is_told_so(server: Server) -> None:
    """inappropriate_fallback (86), RFC 7507: somebody in the middle wants less than both ends can."""
    answer = first_record(server, hello(b"\x03\x03", GCM + b"\x56\x00", GROUPS))
    assert (answer[:1], answer[-1]) == (b"\x15", 86)


def first_record(server: Server, data: bytes) -> bytes:
    with socket.create_connection(address(server), timeout=HANG) as connection:
        connection.sendall(data)
        record = connection.recv(4096)
        length = int.from_bytes(record[3:5]) if len(record) >= 5 else 0
        return record[:5 + length]


# --- who is at the other end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_of_two_cards_never_mix(server: Server, as_card: As, version: ssl.TLSVersion) -> None:
    """Whatever is resumed, the certificate seen is the one whose key was proved when the session began."""
    first, second = as_card("cardiologue"), as_card("medecin")
    context = context_of(server, first.card)
    context.minimum_version = context.maximum_version = version
    with connected(server, context) as connection:
        assert ask(first, connection) == []
        session = connection.session
    with connected(server, context, session) as connection:
        assert connection.session_reused
        assert ask(first, connection) == []
        assert ask(second, connection) == ["V-SEC-VIHF-HOLDER-DIFFERS"]
    # The same session with another card loaded is still the first card's; without the session it is the second's.
    context.load_cert_chain(*second.card.tls)  # type: ignore[union-attr]
    with connected(server, context, session) as connection:
        assert connection.session_reused
        assert ask(second, connection) == ["V-SEC-VIHF-HOLDER-DIFFERS"]
    with connected(server, context) as connection:
        assert not connection.session_reused
        assert ask(second, connection) == []
        assert ask(first, connection) == ["V-SEC-VIHF-HOLDER-DIFFERS"]


def test_a_session_outlives_no_revocation(make_server: Callable[..., Server]) -> None:
    server = make_server("resuming")
    client = Client(server, Card(server.data / "cards" / "cardiologue"))
    context = context_of(server, client.card)
    with connected(server, context) as connection:
        assert ask(client, connection) == []
        session = connection.session
    revoke(server.data, "cardiologue", now())
    time.sleep(1.5)  # the list is looked at once a second
    with connected(server, context, session) as connection:
        assert ask(client, connection) == ["V-SEC-CRL-REVOKED"]


def test_a_session_without_a_card_does_not_become_one_with_a_card(server: Server, as_card: As) -> None:
    client, context = as_card("cardiologue"), context_of(server)
    with connected(server, context) as connection:
        assert ask(client, connection) == ["V-SEC-VIHF-TLS-MISSING"]
        session = connection.session
    context.load_cert_chain(*client.card.tls)  # type: ignore[union-attr]
    with connected(server, context, session) as connection:
        assert ask(client, connection) == (["V-SEC-VIHF-TLS-MISSING"] if connection.session_reused else [])


def test_the_server_proves_who_it_is(server: Server) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(server.url("/healthz"), timeout=HANG, verify=True)
    with connected(server, context_of(server)) as connection:
        names = dict(connection.getpeercert()["subjectAltName"])  # type: ignore[index, arg-type]
    assert names == {"DNS": "localhost", "IP Address": "127.0.0.1"} or "localhost" in names.values()


def test_clients_are_told_which_authorities_are_trusted(server: Server) -> None:
    """So that a reader with several cards in it offers the right one."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    said = s_client(server, "-tls1_2", "-CAfile", str(server.data / "pki" / "ca.pem"))
    offered = said.partition("Acceptable client certificate CA names")[2].partition("Requested Signature")[0]
    assert "FORT PERSONNES" in offered
    assert "ELEMENTAIRE ORGANISATIONS" in offered
    assert "AUTRE" not in offered


# --- renegotiation and idle handshakes -------------------------------------------------------------------------------


def s_client(server: Server, *arguments: str, typed: str = "") -> str:
    """What `openssl s_client` says; `typed` is what its user types, R for a renegotiation."""
    command = ["openssl", "s_client", "-connect", server.https, *arguments]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=20)
    return done.stdout + done.stderr


def test_renegotiation_is_refused(server: Server) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    said = s_client(server, "-tls1_2", "-CAfile", str(server.data / "pki" / "ca.pem"), typed="R\n")
    assert "RENEGOTIATING" in said
    assert re.search("no renegotiation|handshake failure|unexpected message|alert", said), said


def test_compression_is_not_spoken(server: Server) -> None:
    with connected(server, context_of(server)) as connection:
        assert connection.compression() is None


def test_idle_handshakes_keep_nobody_waiting(server: Server, as_card: As) -> None:
    whole = hello(b"\x03\x03", GCM, GROUPS)
    with contextlib.ExitStack() as stack:
        for length in (0, 1, 5, 40, len(whole) - 1, len(whole)):
            for _ in range(5):
                idle = stack.enter_context(socket.create_connection(address(server), timeout=HANG))
                idle.sendall(whole[:length])
        begun = time.monotonic()
        assert as_card("cardiologue").find(CAMILLE).status == "Success"
        assert time.monotonic() - begun < HANG / 2


def test_a_byte_now_and_then_does_not_hold_a_thread_for_ever(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some patience a peer must have kept a pace, however well it avoids being silent."""
    monkeypatch.setattr(tls, "PATIENCE_SECONDS", 0.3)
    pki = server.data / "pki"
    ours, theirs = socket.socketpair()
    wrapped = tls.TlsContext(pki / "server.pem", pki / "server.key", pki / "ca.pem", False).wrap_socket(ours)

    def drip() -> None:
        with contextlib.suppress(OSError), context_of(server).wrap_socket(theirs, server_hostname="localhost") as peer:
            while True:
                peer.sendall(b"x")
                time.sleep(0.02)

    client = threading.Thread(target=drip)
    client.start()
    wait_until(wrapped.is_open, HANG, "the handshake")
    wrapped.setblocking(True)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        all(iter(lambda: wrapped.recv(1), b""))
    assert time.monotonic() - begun < 2
    wrapped.close()
    client.join()


# --- production ------------------------------------------------------------------------------------------------------

BAD = ("expired", "other-ca", "self-signed")


@pytest.fixture(scope="module")
def strict(make_server: Callable[..., Server]) -> Server:
    """A server that lets TLS refuse, as in production."""
    return make_server("strict", client_certificate="handshake")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_in_production_a_bad_card_is_refused_in_the_handshake(
        strict: Server, name: str, version: ssl.TLSVersion) -> None:
    context = context_of(strict, Card(strict.data / "cards" / name))
    context.minimum_version = context.maximum_version = version
    before = len(strict.journal())
    with pytest.raises((ssl.SSLError, ConnectionError)) as caught:
        greet(strict, context)
    assert re.search("alert|certificate|closed", str(caught.value))
    assert len(strict.journal()) == before
    assert strict.errors_logged() == []


def greet(server: Server, context: ssl.SSLContext) -> None:
    """Ask how it is; in TLS 1.3 a refusal comes after the client thinks that the handshake is done."""
    with connected(server, context) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        if not connection.recv(4096):
            raise ConnectionError("closed without a word")


def test_in_production_a_good_card_goes_on_and_a_revoked_one_is_refused_in_words(strict: Server) -> None:
    good = Client(strict, Card(strict.data / "cards" / "cardiologue"))
    assert good.find(CAMILLE).status == "Success"
    # OpenSSL was not given the list of revocations; the application, which reads it again when it changes, was.
    revoked = Client(strict, Card(strict.data / "cards" / "revoked"))
    assert revoked.find(CAMILLE).findings == ["V-SEC-CRL-REVOKED"]
    assert Client(strict, good.card, holder=None).find(CAMILLE).findings == ["V-SEC-VIHF-TLS-MISSING"]


def test_production_refuses_demonstration_anchors(make_server: Callable[..., Server]) -> None:
    """The test PKI protects nothing: a production server does not start with it."""
    with pytest.raises(AssertionError, match="did not start"):
        make_server("production", "--mode", "production")
