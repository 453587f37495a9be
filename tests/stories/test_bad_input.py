"""Whatever is sent, there is an answer, in time; nothing of it is kept; and what was acknowledged stays."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stories.client import Card, Client, Lot, find_documents, make_lot
from tests.stories.process import Server, wait_until
from tests.stories.raw import HANG, Answer, chunked, connect, head, hear, speak
from tests.stories.samples import CAMILLE, document
from xds.messages import DocumentRequest, DocumentSource, write_retrieve
from xds.model import Association
from xds.vocabulary import HAS_MEMBER

As = Callable[..., Client]
SOAP = "application/soap+xml; charset=UTF-8"
MTOM = 'multipart/related; type="application/xop+xml"; start-info="application/soap+xml"; boundary="essai"'
DOORS = ("https", "http")


@pytest.fixture(scope="module", autouse=True)
def _acknowledged(server: Server, as_card: As) -> Iterator[None]:
    """After everything that this module does, the server works, and what was in the record before is there still."""
    feeder, content = as_card("medecin-traitant"), document()
    lot, reply = feeder.feed(content)
    assert reply.status == "Success"
    kept = server.kept()
    yield
    assert server.kept() == kept
    for door in DOORS:
        client = as_card("cardiologue", door=door)
        (entry,) = (found for found in client.find(CAMILLE).documents
                    if found.unique_id == lot.documents[0].unique_id)
        assert client.retrieve(CAMILLE, entry).contents == {entry.unique_id: content}
    assert feeder.feed(document())[1].status == "Success"
    assert requests.get(server.url("/readyz", "http"), timeout=HANG).json()["ready"] is True


@pytest.fixture(autouse=True)
def _nothing_kept(server: Server) -> Iterator[None]:
    """No test here adds a row, nor leaves a temporary file."""
    before = server.rows()
    yield
    wait_until(lambda: server.rows() == before and not server.incoming(), HANG, "everything to go")


def speak_to(server: Server, door: str, *pieces: bytes, card: Card | None = None, finish: bool = False) -> Answer:
    """One exchange on a connection of its own, answered decently and in time."""
    with contextlib.closing(connect(server, door, card)) as connection:
        answer = speak(connection, pieces, finish)
    assert answer.is_decent, (answer.status, answer.body[:500])
    return answer


# --- HTTP ------------------------------------------------------------------------------------------------------------

BODY = b"<unknown/>"
CHUNKED = "Transfer-Encoding: chunked"


def journalled(server: Server) -> list[str]:
    """Codes of the findings of the last exchange."""
    return [finding["code"] for finding in server.last_exchange()["findings"]]


def post(*lines: str, length: int | None = None, content_type: str = SOAP) -> bytes:
    return head(length, content_type, "registry", *lines)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("pieces", "status", "finding"), [
    pytest.param([post(length=len(BODY) - 3), BODY], 400, "V-XML-NOT-WELL-FORMED", id="Content-Length too small"),
    pytest.param([post(length=len(BODY) + 3), BODY], 400, "V-VOLET-BODY-CUT", id="Content-Length too large"),
    pytest.param([post(length=10**15), BODY], 400, "V-XML-TOO-LARGE", id="Content-Length beyond all bounds"),
    pytest.param([post("Content-Length: -5"), BODY], 400, "", id="Content-Length negative"),
    pytest.param([post("Content-Length: 1_6"), BODY], 400, "", id="Content-Length not a number"),
    pytest.param([post("Content-Length: 5", length=len(BODY)), BODY], 400, "", id="Content-Length twice"),
    pytest.param([post(CHUNKED, length=len(BODY)), *chunked([BODY])], 400, "", id="Content-Length and chunked"),
    pytest.param([post(), BODY], 400, "V-XML-NOT-WELL-FORMED", id="no Content-Length"),
    pytest.param([post(CHUNKED), *chunked([BODY])], 400, "V-SOAP-STRUCTURE", id="well chunked, for comparison"),
    pytest.param([post(CHUNKED), b"zz\r\nabc\r\n"], 400, "V-VOLET-BODY-FRAMING", id="chunk size no number"),
    pytest.param([post(CHUNKED), b"-5\r\nabc\r\n"], 400, "V-VOLET-BODY-FRAMING", id="chunk size negative"),
    pytest.param([post(CHUNKED), b"3\r\nabcX\r\n0\r\n\r\n"], 400, "V-VOLET-BODY-FRAMING", id="chunk too long"),
    pytest.param([post(CHUNKED), b"5\r\nabc"], 400, "V-VOLET-BODY-CUT", id="chunk cut short"),
    pytest.param([post(CHUNKED), b"5\r\nabcde\r\n"], 400, "V-VOLET-BODY-CUT", id="last chunk missing"),
    pytest.param([post(CHUNKED), b"f" * 40 + b"\r\nabc"], 400, "V-VOLET-BODY-CUT", id="chunk size beyond all bounds"),
    pytest.param([post(CHUNKED), b"f" * 40_000], 400, "V-VOLET-BODY-FRAMING", id="chunk size without end"),
    pytest.param([post(CHUNKED), b"3;\r\r\nabc\r\n0\r\n\r\n"], 400, "V-VOLET-BODY-FRAMING", id="chunk extension bad"),
    pytest.param([post(CHUNKED), b"3\r\nabc\r\n0\r\nno trailer\r\n\r\n"], 400, "V-VOLET-BODY-FRAMING",
                 id="trailer bad"),
    pytest.param([post("Content-Encoding: br", length=3), b"abc"], 400, "V-VOLET-CONTENT-ENCODING", id="brotli"),
    pytest.param([post("Content-Encoding: gzip", length=len(BODY)), BODY], 400, "V-REP-NOT-GZIP", id="gzip, but none"),
    pytest.param([post("Content-Encoding: gzip", length=20), gzip.compress(BODY, mtime=0)[:20]], 400, "V-REP-NOT-GZIP",
                 id="gzip cut short"),
    pytest.param([post("Expect: the-worst", length=len(BODY)), BODY], 417, "", id="Expect"),
    pytest.param([post(*(f"X-{number}: 1" for number in range(500)), length=3), b"abc"], 431, "", id="500 headers"),
    pytest.param([post("X: " + "x" * 20_000, length=3), b"abc"], 431, "", id="a long header"),
    pytest.param([b"POST / HTTP/1.1\r\nX: ", b"x" * 640_000], 431, "", id="a header without end"),
    pytest.param([b"POST /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n"], 414, "", id="a long address"),
    pytest.param([b"POST / HTTP/9.9\r\n\r\n"], 400, "", id="HTTP 9.9"),
    pytest.param([b"POST / HTTP/1.1\nHost: x\n\n"], 400, "", id="bare line feeds"),
    pytest.param([b"\r\n\r\n\r\n\r\n"], 400, "", id="nothing but line ends"),
    pytest.param([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400, "", id="HTTP/2"),
    pytest.param([b"PUT /xds/registry HTTP/1.1\r\nHost: x\r\n\r\n"], 405, "", id="PUT"),
    pytest.param([b"GET /xds/registry HTTP/1.1\r\nHost: x\r\n\r\n"], 405, "", id="GET"),
    pytest.param([b"POST /../../etc/passwd HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"], 404, "",
                 id="an address outside"),
    pytest.param([b"POST /xds/registry HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"], 400,
                 "V-MTOM-CONTENT-TYPE", id="no Content-Type"),
])
def test_bad_http(server: Server, door: str, pieces: list[bytes], status: int, finding: str) -> None:
    answer = speak_to(server, door, *pieces, finish=True)
    if finding == "V-VOLET-BODY-CUT" and door == "https":
        # TLS has no half of a connection: who cuts it there hears nothing, and the journal tells.
        assert answer.status == 0
        wait_until(lambda: journalled(server) == [finding], HANG, "the journal")
        return
    assert answer.status == status
    assert (answer.reply.findings if "xml" in answer.headers["content-type"] else []) == ([finding] if finding else [])


def test_an_unknown_transfer_coding_is_not_implemented(server: Server) -> None:
    """RFC 9112 §6.1 asks for 501: the one server error here that is no SOAP fault."""
    with contextlib.closing(connect(server)) as connection:
        assert speak(connection, [post("Transfer-Encoding: secret"), BODY]).status == 501


def test_http_on_the_tls_port_is_told_so_and_the_reverse_is_closed(server: Server) -> None:
    host, _, port = server.https.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=HANG) as connection:
        assert speak(connection, [post(length=len(BODY)), BODY]).status == 403
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))
    assert speak_to(server, "http", hello, finish=True).status in {0, 400}


# --- Content-Type, SOAP, XML -----------------------------------------------------------------------------------------


def refused(client: Client, name: str, content_type: str, data: bytes, **headers: str) -> list[str]:
    """Findings of a request that is answered by a fault of the sender's, within the time."""
    begun = time.monotonic()
    reply = client.post(name, content_type, data, **headers)
    assert time.monotonic() - begun < HANG
    assert (reply.http, reply.status.split("/")[0]) in {(400, "Sender"), (400, "VersionMismatch")}, str(reply.fault)
    return reply.findings


@pytest.mark.parametrize(("content_type", "finding"), [
    ("", "V-MTOM-CONTENT-TYPE"),
    ("garbage", "V-MTOM-CONTENT-TYPE"),
    ("text/plain", "V-MTOM-MEDIA-TYPE"),
    ("multipart/form-data; boundary=essai", "V-MTOM-MEDIA-TYPE"),
    ("multipart/related", "V-MTOM-BOUNDARY"),
    ('multipart/related; boundary=""', "V-MTOM-BOUNDARY"),
    (f'multipart/related; boundary="{"x" * 71}"', "V-MTOM-BOUNDARY"),
    ("multipart/related; boundary=a; boundary=b", "V-MTOM-CONTENT-TYPE"),
    ("multipart/related; boundary=nowhere", "V-MTOM-BOUNDARY-NOT-FOUND"),
    ("application/soap+xml; charset=UTF-7", "V-XML-ENCODING"),
    ("application/soap+xml; charset=UTF-16", "V-XML-NOT-WELL-FORMED"),
    ("application/soap+xml; " + "; ".join(f"a{number}=1" for number in range(800)), "V-MTOM-CONTENT-TYPE"),
])
def test_wrong_content_types(as_card: As, content_type: str, finding: str) -> None:
    client = as_card("medecin")
    _, data = client.package("ITI-41", make_lot(client.card, document()).body(), "")  # type: ignore[arg-type]
    for name in ("ITI-18", "ITI-41"):
        assert refused(client, name, content_type, data)[0] in {finding, "V-XML-NOT-WELL-FORMED"} \
            if content_type.startswith("application") else refused(client, name, content_type, data) == [finding]


def envelope_with(client: Client, inside: str = "", before: str = "", around: str = "{}") -> bytes:
    """A query whose envelope has something more in its Body, or before its root."""
    data = client.envelope("ITI-18", "<volet:x xmlns:volet='urn:essai'>" + inside + "</volet:x>", "").decode()
    declaration, _, rest = data.partition("?>")
    return (f"{declaration}?>{before}" + around.format(rest)).encode()


def bombs() -> Iterator[tuple[str, str, str, str]]:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    yield "billion laughs", f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>', "&l9;", "V-XML-"
    yield "quadratic", f'<!DOCTYPE x [<!ENTITY a "{"a" * 100_000}">]>', "&a;" * 10_000, "V-XML-"
    yield "doctype", "<!DOCTYPE x>", "", "V-XML-DOCTYPE"
    yield "parameter entity", '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;]>', "", "V-XML-DOCTYPE"
    yield "deep", "", "<a>" * 100_000 + "</a>" * 100_000, "V-XML-LIMIT"
    yield "unclosed and deep", "", "<a>" * 200_000, "V-XML-"
    yield "many attributes", "", "<a " + " ".join(f'a{n}=""' for n in range(200_000)) + "/>", "V-"
    yield "many namespaces", "", "<a " + " ".join(f'xmlns:a{n}="urn:{n}"' for n in range(50_000)) + "/>", "V-"
    yield "a long attribute", "", f'<a b="{"x" * 12_000_000}"/>', "V-"
    yield "a long text", "", f"<a>{'x' * 12_000_000}</a>", "V-"
    yield "a long name", "", f"<{'a' * 100_000}/>", "V-"
    yield "many elements", "", "<a/>" * 1_000_000, "V-"
    yield "a long comment", "", f"<!--{'x' * 12_000_000}-->", "V-"
    yield "an unknown entity", "", "&nothing;", "V-XML-NOT-WELL-FORMED"
    yield "a NUL", "", "&#0;", "V-XML-NOT-WELL-FORMED"


@pytest.mark.parametrize(("before", "inside", "finding"), [pytest.param(*rest, id=name) for name, *rest in bombs()])
def test_xml_that_means_harm(server: Server, as_card: As, before: str, inside: str, finding: str) -> None:
    client, memory = as_card("medecin", door="http"), server.memory()
    findings = refused(client, "ITI-18", SOAP, envelope_with(client, inside, before))
    assert findings
    assert findings[0].startswith(finding)
    assert server.memory() - memory < 400 * 1024 * 1024


class Canary:
    """A listener that nobody may call."""

    def __init__(self) -> None:
        self.called = False
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.accept()
            self.called = True

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("where", ["envelope", "document"])
def test_no_entity_is_fetched_from_anywhere(where: str, server: Server, as_card: As, tmp_path: Path) -> None:
    client, canary, secret = as_card("medecin-traitant", door="http"), Canary(), tmp_path / "secret.txt"
    secret.write_text("canari-jaune")
    for address in (secret.as_uri(), f"http://127.0.0.1:{canary.port}/canary", f"ftp://127.0.0.1:{canary.port}/x"):
        doctype = f'<!DOCTYPE x SYSTEM "{address}" [<!ENTITY c SYSTEM "{address}">]>'
        if where == "envelope":
            reply = client.post("ITI-18", SOAP, envelope_with(client, "&c;", doctype))
            assert reply.findings == ["V-XML-DOCTYPE"]
        else:
            clean = document()
            content = clean.replace(b"?>", b"?>" + doctype.encode(), 1).replace(b"FICTIF", b"&c;", 1)
            lot = make_lot(client.card, clean, sign=False)  # type: ignore[arg-type]
            lot = replace(lot, contents={lot.documents[0].id: content}).having(
                lambda entry, content=content: replace(  # type: ignore[misc]
                    entry, size=str(len(content)), hash=hashlib.sha1(content, usedforsecurity=False).hexdigest()))
            reply = client.send(lot)
            assert "V-DMP-NOT-CDA" in reply.findings
        assert b"canari-jaune" not in reply.raw
    time.sleep(0.1)
    assert not canary.called
    assert "canari-jaune" not in str(server.journal())
    canary.close()


def test_soap_11_is_another_version(as_card: As) -> None:
    client = as_card("medecin", door="http")
    old = client.envelope("ITI-18", "<x/>", "").replace(b"http://www.w3.org/2003/05/soap-envelope",
                                                       b"http://schemas.xmlsoap.org/soap/envelope/")
    for content_type in ("text/xml; charset=UTF-8", SOAP):
        reply = client.post("ITI-18", content_type, old, SOAPAction='"urn:ihe:iti:2007:RegistryStoredQuery"')
        assert (reply.http, reply.status, reply.findings) == (400, "VersionMismatch", ["V-SOAP-VERSION"])


@pytest.mark.parametrize(("old", "new", "finding"), [
    (b"urn:ihe:iti:2007:RegistryStoredQuery", b"urn:ihe:iti:2007:NoSuchThing", "V-SOAP-ACTION-UNKNOWN"),
    (b"urn:ihe:iti:2007:RegistryStoredQuery", b"urn:ihe:iti:2007:RetrieveDocumentSet", "V-SOAP-ACTION-UNKNOWN"),
    (b"urn:ihe:iti:2007:RegistryStoredQuery", b"urn:ihe:iti:2007:RegisterDocumentSet-b", "V-SOAP-MESSAGE"),
    (b"<soap:Body>", b"<soap:Body><x/>", "V-SOAP-BODY"),
    (b"soap:Body", b"soap:Torso", "V-SOAP-STRUCTURE"),
    (b"<soap:Header>", b"<soap:Header><x soap:mustUnderstand='maybe'/>", "V-SOAP-MUST-UNDERSTAND"),
])
def test_soap_that_is_for_somebody_else(as_card: As, old: bytes, new: bytes, finding: str) -> None:
    client = as_card("medecin", door="http")
    data = client.envelope("ITI-18", find_documents(CAMILLE), client.vihf(CAMILLE))
    assert refused(client, "ITI-18", SOAP, data.replace(old, new)) == [finding]


def test_a_header_that_must_be_understood_and_is_not(as_card: As) -> None:
    client = as_card("medecin", door="http")
    data = client.envelope("ITI-18", "<x/>", '<y:x xmlns:y="urn:essai" soap:mustUnderstand="1"/>')
    reply = client.post("ITI-18", SOAP, data)
    assert (reply.http, reply.status, reply.findings) == (500, "MustUnderstand", ["V-SOAP-NOT-UNDERSTOOD"])


# --- packages --------------------------------------------------------------------------------------------------------


@pytest.fixture
def lot(as_card: As) -> Lot:
    """A lot that would be accepted."""
    card = as_card("medecin-traitant").card
    assert card is not None
    return make_lot(card, document())


def test_a_package_cut_anywhere_is_refused(server: Server, as_card: As, lot: Lot) -> None:
    client = as_card("medecin-traitant")
    content_type, whole = client.package("ITI-41", lot.body(), client.vihf(lot.patient), lot.parts())
    boundary = b"\r\n--volet-"
    edges = [at + shift for at in _all(whole, boundary) for shift in (0, 1, 3, 20, 50, 200)]
    steps = [*range(0, len(whole), len(whole) // 40), len(whole) - 4, len(whole) - 5, *edges]
    for length in sorted({at for at in steps if at < len(whole) - 3}):
        assert refused(client, "ITI-41", content_type, whole[:length])[0].startswith("V-MTOM-"), length
    # Announced as a whole and cut on the way, over both doors; without its last line end it is whole.
    for door, length in itertools.product(DOORS, (0, 500, len(whole) // 2, len(whole) - 1)):
        answer = speak_to(server, door, head(len(whole), content_type, "repository"), whole[:length], finish=True,
                          card=client.card)
        assert answer.status == (400 if door == "http" else 0)
        wait_until(lambda: journalled(server) == ["V-VOLET-BODY-CUT"], HANG, "the journal")


def _all(data: bytes, sign: bytes) -> Iterator[int]:
    at = data.find(sign)
    while at >= 0:
        yield at
        at = data.find(sign, at + 1)


def send_parts(client: Client, lot: Lot, parts: list[tuple[str, bytes, int]], body: str = "") -> list[str]:
    reply = client.call("ITI-41", body or lot.body(), lot.patient, parts)
    assert reply.status != "Success"
    return reply.findings


def test_parts_that_do_not_fit_the_message(as_card: As, lot: Lot) -> None:
    client, parts = as_card("medecin-traitant"), lot.parts()
    first = parts[0]
    assert send_parts(client, lot, parts[1:]) == ["V-MTOM-PART-ABSENT"]
    assert send_parts(client, lot, [*parts, ("more@essai", b"x", 1)]) == ["V-MTOM-PART-UNUSED"]
    twice = lot.body({identity: DocumentSource("include", first[0]) for identity in lot.contents})
    assert "V-MTOM-PART-TWICE" in send_parts(client, lot, [first], twice)
    # Two parts of one Content-ID: the house's writer would not make such a package.
    content_type, data = client.package("ITI-41", lot.body(), client.vihf(lot.patient), parts)
    assert refused(client, "ITI-41", content_type, data.replace(parts[1][0].encode(), first[0].encode())) == \
        ["V-MTOM-CONTENT-ID-TWICE"]
    for name in ("Content-Id: <>", "Content-ID: <a b>", "Content-ID: <../../../etc/passwd>"):
        changed = data.replace(f"Content-ID: <{first[0]}>".encode(), name.encode())
        assert refused(client, "ITI-41", content_type, changed)[0].startswith("V-MTOM-")


def test_documents_and_entries_that_do_not_match(as_card: As) -> None:
    client = as_card("medecin-traitant")
    lot = make_lot(client.card, document(), document("ordonnance.xml"), sign=False)  # type: ignore[arg-type]
    first, second = lot.documents
    sources = {identity: DocumentSource("include", f"{identity}@essai") for identity in lot.contents}
    reply = client.call("ITI-41", lot.body({first.id: sources[first.id]}), lot.patient, lot.parts()[:1])
    assert "XDSMissingDocument" in reply.errors
    extra = {**sources, "Nobody": DocumentSource("inline", data=b"<x/>")}
    reply = client.call("ITI-41", lot.body(extra), lot.patient, lot.parts())
    assert "XDSMissingDocumentMetadata" in reply.errors
    # Each has the other's bytes: hash and size, and the documents' own identifiers, all disagree.
    swapped = {first.id: sources[second.id], second.id: sources[first.id]}
    reply = client.call("ITI-41", lot.body(swapped), lot.patient, lot.parts())
    assert {"V-REP-HASH-DIFFERS", "V-REP-SIZE-DIFFERS", "V-DMP-DOCUMENT-ID"} <= set(reply.findings)


@pytest.mark.parametrize("change", [
    {"hash": "0" * 40},
    {"size": "1"},
    {"hash": "no hash"},
    {"size": "-1"},
    {"size": "9" * 30},
    {"creation_time": "yesterday"},
    {"unique_id": "1" * 300},
    {"unique_id": ""},
    {"mime_type": "no/such/type"},
    {"type_code": None},
    {"language": ""},
    {"object_type": "urn:uuid:00000000-0000-0000-0000-000000000000"},
    {"source_patient_info": ()},
])
def test_metadata_that_are_wrong(as_card: As, change: dict[str, object]) -> None:
    client = as_card("medecin-traitant")
    lot = make_lot(client.card, document(), sign=False)  # type: ignore[arg-type]
    reply = client.send(lot.having(lambda entry: replace(entry, **change)))  # type: ignore[arg-type]
    assert reply.status == "Failure"
    assert "XDSRepositoryMetadataError" in reply.errors


def test_a_link_to_nothing_and_a_link_to_itself(as_card: As, lot: Lot) -> None:
    client = as_card("medecin-traitant")
    for link in (Association("more", HAS_MEMBER, lot.submission.submission_set.id,
                             "urn:uuid:00000000-0000-4000-8000-000000000000", submission_set_status="Reference"),
                 Association("more", HAS_MEMBER, "more", "more")):
        other = replace(lot, submission=replace(lot.submission, associations=(*lot.submission.associations, link)))
        reply = client.send(other)
        assert reply.status == "Failure"
        assert reply.errors


# --- too much --------------------------------------------------------------------------------------------------------


def test_a_small_message_that_unpacks_to_a_large_one(server: Server, as_card: As) -> None:
    client, memory = as_card("medecin", door="http"), server.memory()
    bomb = gzip.compress(b"<x>" + b" " * (48 * 1024 * 1024), 1, mtime=0)
    assert len(bomb) < 300_000
    headers = {"Content-Encoding": "gzip"}
    assert refused(client, "ITI-18", SOAP, bomb, **headers) == ["V-XML-TOO-LARGE"]
    assert refused(client, "ITI-41", MTOM, bomb, **headers) == ["V-MTOM-BOUNDARY-NOT-FOUND"]
    assert server.memory() - memory < 80 * 1024 * 1024


def test_a_package_of_very_many_parts(as_card: As) -> None:
    client = as_card("medecin", door="http")
    parts = b"".join(b"\r\n--essai\r\nContent-ID: <%d>\r\n\r\nx" % number for number in range(20_000))
    assert refused(client, "ITI-41", MTOM, parts + b"\r\n--essai--\r\n") == ["V-MTOM-TOO-MANY-PARTS"]


def test_a_list_of_very_many_requests_and_values(as_card: As) -> None:
    client = as_card("cardiologue")
    own = client.find(CAMILLE).documents[0].repository_unique_id
    body = write_retrieve(DocumentRequest("", own, f"2.25.{number}") for number in range(5000))
    reply = client.call("ITI-43", body, CAMILLE)
    assert reply.status == "Failure"
    assert set(reply.errors) == {"XDSDocumentUniqueIdError"}


def test_one_document_asked_for_a_thousand_times(server: Server, as_card: As) -> None:
    client = as_card("cardiologue")
    entry = client.find(CAMILLE).documents[0]
    body = write_retrieve(DocumentRequest("", entry.repository_unique_id, entry.unique_id) for _ in range(1200))
    content_type, data = client.package("ITI-43", body, client.vihf(CAMILLE))
    with client.session.post(client.address("ITI-43"), data=data, headers={"Content-Type": content_type}, stream=True,
                             timeout=HANG) as answer:
        assert answer.status_code == 200
        assert max(open_files(pid) for pid in server.children) < 100
        assert len(answer.content) == int(answer.headers["Content-Length"]) > 1200 * int(entry.size)


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


# --- slow and gone ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def idlers(server: Server, number: int) -> Iterator[list[socket.socket]]:
    """Connections to both doors which say nothing, a little, half a head, or everything and then stay."""
    words = (b"", b"\x16\x03\x01", b"POST /xds/reg", b"GET /healthz HTTP/1.0\r\n\r\n")
    with contextlib.ExitStack() as stack:
        found = []
        for door, word, _ in itertools.product(DOORS, words, range(number)):
            host, _, port = (server.https if door == "https" else server.http).rpartition(":")
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=HANG))
            connection.sendall(word)
            found.append(connection)
        time.sleep(0.1)
        yield found


def test_whoever_says_nothing_keeps_nobody_waiting(server: Server, as_card: As) -> None:
    with idlers(server, 20):
        for door in DOORS:
            begun = time.monotonic()
            assert as_card("cardiologue", door=door).find(CAMILLE).status == "Success"
            assert time.monotonic() - begun < HANG / 2


def test_slow_bodies_keep_nobody_waiting_as_long_as_a_thread_is_left(server: Server, as_card: As) -> None:
    client = as_card("medecin-traitant")
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(server, door, client.card)) for door in DOORS for _ in range(7)]
        for connection in slow:
            connection.sendall(head(10_000, SOAP) + b"<soap:Envelope")
        for door in DOORS:
            begun = time.monotonic()
            assert as_card("cardiologue", door=door).find(CAMILLE).status == "Success"
            assert time.monotonic() - begun < HANG / 2
        for connection in slow:
            connection.sendall(b" " * (10_000 - len(b"<soap:Envelope")))
            assert hear(connection).reply.findings == ["V-XML-NOT-WELL-FORMED"]


def test_a_request_byte_by_byte_is_as_good_as_any(server: Server, as_card: As) -> None:
    client = as_card("cardiologue")
    data = client.envelope("ITI-18", find_documents(CAMILLE), client.vihf(CAMILLE))
    request = head(len(data), SOAP) + data
    for door in DOORS:
        with contextlib.closing(connect(server, door, client.card)) as connection:
            answer = speak(connection, (request[at:at + 7] for at in range(0, len(request), 7)))
        assert answer.reply.status == "Success"


def test_two_requests_at_once_on_one_connection_are_answered_in_order(server: Server, as_card: As) -> None:
    for door in DOORS:
        client = as_card("cardiologue", door=door)
        envelopes = [client.envelope("ITI-18", find_documents(CAMILLE), client.vihf(CAMILLE)) for _ in range(2)]
        with contextlib.closing(connect(server, door, client.card)) as connection:
            connection.sendall(b"".join(head(len(data), SOAP) + data for data in envelopes))
            rest = bytearray()
            answers = [hear(connection, rest=rest).reply for _ in envelopes]
        assert [answer.status for answer in answers] == ["Success"] * 2
        assert all(answer.relates_to.encode() in data for answer, data in zip(answers, envelopes, strict=True))


def test_a_client_that_leaves_in_the_middle_leaves_nothing(server: Server, as_card: As) -> None:
    client = as_card("medecin-traitant")
    content = document(insertion=random.Random(1).randbytes(3 * 1024 * 1024).hex().encode())
    lot = make_lot(client.card, content)  # type: ignore[arg-type]
    content_type, data = client.package("ITI-41", lot.body(), client.vihf(lot.patient), lot.parts())
    for door in DOORS:
        for reset in (False, True):
            with contextlib.closing(connect(server, door, client.card)) as connection:
                connection.sendall(head(len(data), content_type, "repository") + data[:-len(data) // 4])
                wait_until(server.incoming, HANG, "the part to grow on disk")
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            wait_until(lambda: not server.incoming(), HANG, "the part to go")


def test_a_client_that_does_not_wait_for_its_answer(server: Server, as_card: As) -> None:
    client = as_card("cardiologue")
    entries = client.find(CAMILLE).documents
    body = write_retrieve(DocumentRequest("", entry.repository_unique_id, entry.unique_id) for entry in entries)
    content_type, data = client.package("ITI-43", body, client.vihf(CAMILLE))
    for door in DOORS:
        with contextlib.closing(connect(server, door, client.card)) as connection:
            connection.sendall(head(len(data), content_type, "repository") + data)


# --- bytes of any kind -----------------------------------------------------------------------------------------------

ANY = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
WORDS = (b"\r\n", b"\r\n\r\n", b"POST ", b"GET /healthz HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Length: ",
         b"Transfer-Encoding: chunked\r\n", b"Content-Type: multipart/related; boundary=essai\r\n", b"--essai\r\n",
         b"<?xml version='1.0'?>", b"<a>", b"0\r\n\r\n", b"7\r\n", b"Expect: 100-continue\r\n",
         b"Connection: Upgrade\r\nUpgrade: h2c\r\n")
SEVERAL = st.lists(st.binary(max_size=300) | st.sampled_from(WORDS), max_size=12)
HELLOS = (b"", b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", b"\x80\x2e\x01")


@pytest.mark.parametrize("door", DOORS)
def test_any_bytes_to_a_door(server: Server, door: str) -> None:
    @ANY
    @given(SEVERAL)
    def check(pieces: list[bytes]) -> None:
        with contextlib.closing(connect(server, door)) as connection:
            answer = speak(connection, pieces, finish=True)
        assert answer.is_decent or answer.status == 501, (answer.status, answer.body[:500])

    check()


def test_any_bytes_to_the_tls_port_itself(server: Server) -> None:
    host, _, port = server.https.rpartition(":")

    @ANY
    @given(st.sampled_from(HELLOS), st.binary(max_size=400))
    def check(beginning: bytes, rest: bytes) -> None:
        with socket.create_connection((host, int(port)), timeout=HANG) as connection, \
                contextlib.suppress(ConnectionError):
            connection.sendall(beginning + rest)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass

    check()


@pytest.mark.parametrize("door", DOORS)
def test_any_body(server: Server, door: str) -> None:
    kinds = st.sampled_from((SOAP, MTOM, "text/xml", "application/xop+xml", "application/soap+xml; charset=UTF-16"))

    @ANY
    @given(kinds, st.sampled_from(("registry", "repository")), SEVERAL.map(b"".join))
    def check(content_type: str, service: str, data: bytes) -> None:
        answer = speak_to(server, door, head(len(data), content_type, service), data)
        assert answer.status == 400
        assert answer.reply.fault is not None

    check()


@pytest.mark.parametrize("name", ["ITI-18", "ITI-41"])
def test_a_good_message_with_a_few_bytes_changed(server: Server, as_card: As, lot: Lot, name: str) -> None:
    """A fault, a failure, or, for a query, an answer all the same: where the change did not matter."""
    client = as_card("cardiologue" if name == "ITI-18" else "medecin-traitant")
    may_succeed = ["Success"] if name == "ITI-18" else []
    if name == "ITI-18":
        content_type, data = client.package(name, find_documents(CAMILLE), client.vihf(CAMILLE))
    else:
        unsigned = make_lot(client.card, document(), sign=False)  # type: ignore[arg-type]
        content_type, data = client.package(name, unsigned.body(), client.vihf(CAMILLE), unsigned.parts())
    changes = st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 3), st.binary(min_size=1, max_size=3)),
                       min_size=1, max_size=4)

    @ANY
    @given(changes)
    def check(changed: list[tuple[int, int, bytes]]) -> None:
        mutant = data
        for at, removed, added in changed:
            mutant = mutant[:at] + added + mutant[at + removed:]
        reply = client.post(name, content_type, mutant)
        assert reply.http in {200, 400} or (reply.http, reply.status) == (500, "MustUnderstand"), str(reply.fault)
        assert reply.status.split("/")[0] in {"Sender", "VersionMismatch", "MustUnderstand", "Failure", *may_succeed}

    check()
