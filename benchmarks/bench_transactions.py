"""ITI-41, ITI-18 and ITI-43 through the server's own door, without HTTP and TLS: time, share of each stage, floors.

Every check is on: VIHF and chains uncached (each request carries a fresh one), signature of the submission set, CDA
header, rights, journal. The ratio says how many times the floor of the same run a stage costs.
"""

from __future__ import annotations

import io
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks import floors
from security.cards import load_chain
from volet import initial, soap
from volet.assembly import Server, build
from volet.client.card import Access, Card, load_card, vihf_header
from volet.client.exchange import Call
from volet.client.submission import make_lot, read_document
from volet.client.transactions import provide_call
from volet.settings import Settings
from xds import messages
from xds.messages import TRANSACTIONS, AdhocQuery, DocumentRequest
from xds.mtom import write_related
from xds.rim import Slot
from xds.soap import new_message_id, write_request
from xds.vocabulary import APPROVED

ROUNDS = 60
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"


@dataclass(frozen=True, slots=True)
class Message:
    """One request ready to be answered."""

    service: str
    content_type: str
    body: bytes
    certificate: bytes


class Bench:
    """A fresh test server and two cards."""

    def __init__(self, folder: Path) -> None:
        """Make and open it."""
        settings = Settings(data=folder, log_level="error")
        initial.init(settings)
        self.folder, self.server = folder, build(settings)
        self.author = load_card(folder / "cards" / "medecin-traitant")
        self.reader = load_card(folder / "cards" / "cardiologue")

    def feed(self) -> tuple[Message, str, str]:
        """An ITI-41 of the sample VSM under a new identifier; with it the uniqueId and the patient."""
        text = initial.sample("vsm.xml").read_text("utf-8")
        unique_id = f"2.25.{uuid4().int}"
        text = re.sub(r'(?<=\n)(\s*)<id root="[^"]+"[^>]*/>', rf'\g<1><id root="{unique_id}"/>', text, count=1)
        path = self.folder / "document.xml"
        path.write_text(text, "utf-8")
        lot = make_lot([read_document(path)], self.author, datetime.now(UTC))
        patient = lot.submission.submission_set.patient_id
        return self.message(self.author, provide_call(lot)), lot.submission.documents[0].unique_id, patient

    def find(self, patient: str) -> Message:
        """An ITI-18 FindDocuments, LeafClass."""
        query = AdhocQuery(FIND_DOCUMENTS, slots=(Slot("$XDSDocumentEntryPatientId", (f"'{patient}'",)),
                                                  Slot("$XDSDocumentEntryStatus", (f"('{APPROVED}')",))))
        return self.message(self.reader, Call("ITI-18", patient, messages.write_query(query)))

    def retrieve(self, unique_id: str, patient: str) -> Message:
        """An ITI-43 of one document."""
        own = self.server.profile.domain.repository_unique_id
        return self.message(self.reader, Call("ITI-43", patient, messages.write_retrieve(
            [DocumentRequest("", own, unique_id)])))

    def message(self, card: Card, call: Call) -> Message:
        """Envelope, VIHF and package of a call."""
        transaction = TRANSACTIONS[call.transaction]
        header = vihf_header(card, call.patient, Access(), datetime.now(UTC))
        envelope = write_request(call.body, transaction.action, "https://localhost/", new_message_id(), header)
        leaf = load_chain((card.folder / "auth.pem").read_bytes())[0].public_bytes(Encoding.DER)
        if not transaction.mtom:
            return Message("registry", f'application/soap+xml; action="{transaction.action}"', envelope, leaf)
        content_type, pieces, _ = write_related(envelope, call.parts, transaction.action)
        return Message("repository", content_type, b"".join(pieces), leaf)


def run(server: Server, message: Message) -> bytes:
    """Answer one request as the web application would."""
    stream = io.BytesIO(message.body)
    chunks = iter(lambda: stream.read(65536), b"")
    response = soap.handle(soap.Request(message.content_type, chunks, "https", message.certificate), message.service,
                           server)
    body = b"".join(response.body)
    if response.status != 200 or b"StatusType:Failure" in body:
        raise RuntimeError(body.decode("utf-8", "replace")[:2000])
    return body


def report() -> Iterator[str]:
    """Lines of the report."""
    with tempfile.TemporaryDirectory(prefix="volet-bench-") as name:
        bench = Bench(Path(name))
        feeds = [bench.feed() for _ in range(ROUNDS)]
        yield from measure(bench, "ITI-41", "one VSM of 43 KB and its signature", [feed[0] for feed in feeds])
        patient = feeds[0][2]
        finds = [bench.find(patient) for _ in range(ROUNDS)]
        yield from measure(bench, "ITI-18", f"FindDocuments, LeafClass, {ROUNDS} entries found", finds)
        retrieves = [bench.retrieve(feed[1], patient) for feed in feeds]
        yield from measure(bench, "ITI-43", "one VSM of 43 KB", retrieves)
        yield from attachment(bench, feeds[0][0])
        bench.server.close()


def measure(bench: Bench, name: str, title: str, batch: Sequence[Message]) -> Iterator[str]:
    """Run a batch; the time of a call, the share of each stage by the journal's own clock, floors."""
    times, size = [], 0
    for message in batch:
        begun = time.perf_counter_ns()
        size = len(run(bench.server, message))
        times.append((time.perf_counter_ns() - begun) / 1000)
    exchanges = bench.server.journal.recent(len(batch), name=name)
    stages = stages_of(exchanges)
    elsewhere = statistics.median(spent - sum(own for _, own in exchange["steps"])
                                  for spent, exchange in zip(times, exchanges, strict=True))
    total = statistics.median(times)
    yield (f"\n{name}: {title}; request {len(batch[0].body):,} bytes, answer {size:,} bytes\n"
           f"  {total:,.0f} µs a call (median of {len(batch)}), p95 {sorted(times)[int(len(times) * .95)]:,.0f} µs")
    measured = floors_of(bench, batch[0], name, size)
    for stage, spent in stages.items():
        floor, what = measured.get(stage, (0.0, ""))
        ratio = f"{spent / floor:6.1f} × {floor:6.0f} µs {what}" if floor else ""
        yield f"  {stage:<12}{spent:>9,.0f} µs {spent / total:>5.0%}   {ratio}"
    yield f"  {'journal':<12}{elsewhere:>9,.0f} µs {elsewhere / total:>5.0%}   writing the exchange down, dispatch"


def stages_of(exchanges: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Median self time of each stage, in the order of the story."""
    times: dict[str, list[int]] = defaultdict(list)
    for exchange in exchanges:
        for stage, microseconds in exchange["steps"]:
            times[stage].append(microseconds)
    return {stage: statistics.median(values) for stage, values in times.items()}


def floors_of(bench: Bench, message: Message, name: str, answer: int) -> dict[str, tuple[float, str]]:
    """What each stage cannot go below here and now."""
    start = message.body.find(b"<soap:Envelope")
    envelope = message.body[start:message.body.find(b"</soap:Envelope>", start) + len(b"</soap:Envelope>")]
    document = initial.sample("vsm.xml").read_bytes()
    token = envelope[envelope.find(b"<saml2:Assertion"):envelope.find(b"</saml2:Assertion>") + 18]
    found = {
        "xds.soap": (floors.parse(envelope), "parsing the envelope"),
        "security": (2 * floors.verify(token), "2 × (RSA-2048 verification + canonical XML)"),
        "answer": (floors.answer(answer), "joining and encoding"),
    }
    if name == "ITI-41":
        found |= {
            "xds.mtom": (floors.digest(document), "SHA-1 and SHA-256 of the document"),
            "rules": (floors.parse(document) + floors.verify(document), "parsing, canonical XML, RSA of the document"),
            "repository": (floors.durable_file(document, bench.folder), "a durable file"),
            "registry": (floors.durable_rows(20, 400, bench.folder), "20 durable rows, raw driver"),
        }
    return found


def attachment(bench: Bench, message: Message, megabytes: int = 100) -> Iterator[str]:
    """Reading a large message: bytes a second against hashing alone; memory does not grow with it."""
    piece = bytes(1024 * 1024)
    head = message.body[:message.body.rfind(b"\r\n--")]
    boundary = message.body[:message.body.find(b"\r\n")]
    mime = b"\r\n" + boundary + b"\r\nContent-ID: <large@volet>\r\nContent-Transfer-Encoding: binary\r\n\r\n"

    def chunks() -> Iterator[bytes]:
        yield head + mime
        yield from (piece for _ in range(megabytes))
        yield b"\r\n" + boundary + b"--\r\n"

    store, limits = bench.server.repository.store, bench.server.limits
    begun = time.perf_counter()
    with soap.receive(message.content_type, chunks(), store.incoming, limits):
        spent = time.perf_counter() - begun
    floor = floors.digest(piece) * megabytes / 1e6
    yield (f"\nReceiving {megabytes} MiB by MTOM: {megabytes / spent:,.0f} MiB/s, {spent / floor:.1f} × hashing alone "
           f"({megabytes / floor:,.0f} MiB/s)")

