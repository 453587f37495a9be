"""A document of 100 MiB goes in and comes out, and nobody holds it as a whole."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from repository.spool import chunks_of
from tests.stories.client import Client, Lot, Reply, make_lot, signed
from tests.stories.ihe import Toolkit, entry, new_patient, submission
from tests.stories.process import Server, descendants, resident
from tests.stories.samples import document
from xds.messages import TRANSACTIONS, DocumentRequest, write_retrieve
from xds.mtom import Limits, PartData, PartStart, Reader, write_related

MIB = 1024 * 1024
LARGE, ALLOWED = 100 * MIB, 40 * MIB
_BLOCK = bytes(range(256)) * 256

pytestmark = pytest.mark.slow


class Source:
    """A document that is nowhere as a whole, made anew each time it is read."""

    def __init__(self, size: int, start: bytes = b"", end: bytes = b"", block: bytes = _BLOCK) -> None:
        self.size, self.start, self.end, self.block = size, start, end, block

    def __iter__(self) -> Iterator[bytes]:
        yield self.start
        left = self.size - len(self.start) - len(self.end)
        while left:
            piece = self.block[:min(left, len(self.block))]
            left -= len(piece)
            yield piece
        yield self.end

    def sha1(self) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for piece in self:
            digest.update(piece)
        return digest.hexdigest()


class Body:
    """A request body with its length, so that it is not sent in chunks."""

    def __init__(self, pieces: Iterator[bytes], length: int) -> None:
        self._pieces, self._length = pieces, length

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def __len__(self) -> int:
        return self._length


class Watch:
    """How much the processes of a server grew at most, each by itself."""

    def __init__(self, server: Server) -> None:
        assert server.process is not None
        self.before = {pid: resident(pid) for pid in descendants(server.process.pid)}
        self.growth = 0
        self._stop = threading.Event()

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set():
            self.growth = max(self.growth, *(resident(pid) - size for pid, size in self.before.items()))
            time.sleep(0.005)


def send(client: Client, lot: Lot, source: Source, counted: bool) -> Reply:
    """ITI-41 with the first document streamed from its source."""
    parts: list[Any] = lot.parts()
    parts[0] = (parts[0][0], source, source.size)
    header = client.vihf(lot.patient)
    content_type, pieces, length = write_related(client.envelope("ITI-41", lot.body(), header), parts,
                                                 TRANSACTIONS["ITI-41"].action)
    return client.post("ITI-41", content_type, Body(pieces, length) if counted else pieces)


def fetch(client: Client, repository: str, unique_id: str) -> tuple[int, str]:
    """Size and hash of a document retrieved (ITI-43), read as it comes."""
    body = write_retrieve([DocumentRequest("", repository, unique_id)])
    content_type, data = client.package("ITI-43", body, "")
    with requests.post(client.address("ITI-43"), data=data, headers={"Content-Type": content_type}, stream=True,
                       verify=client.session.verify, timeout=60) as answer:
        reader = Reader(answer.headers["Content-Type"], Limits())
        digest, size, root = hashlib.sha1(usedforsecurity=False), 0, True
        for piece in chunks_of(answer.raw.read):
            for event in reader.feed(piece):
                if isinstance(event, PartStart):
                    root = event.is_root
                elif isinstance(event, PartData) and not root:
                    digest.update(event.data)
                    size += len(event.data)
        reader.close()
    return size, digest.hexdigest()


@pytest.mark.parametrize("door", ["https", "http"])
@pytest.mark.parametrize("counted", [True, False], ids=["Content-Length", "chunked"])
def test_a_large_document_in_and_out(ihe: Server, door: str, counted: bool) -> None:
    toolkit, source = Toolkit(ihe, door=door), Source(LARGE)
    patient = new_patient(ihe, f"large-{door}-{counted}")
    made = entry(patient, mime_type="application/octet-stream", size=str(LARGE), hash=source.sha1())
    lot = Lot(submission(patient, made), {made.id: b""})
    with Watch(ihe) as watch:
        assert send(toolkit.client, lot, source, counted).status == "Success"
    assert watch.growth < ALLOWED, watch.growth // MIB
    own = toolkit.query("urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4",
                        XDSDocumentEntryUniqueId=f"('{made.unique_id}')").documents[0].repository_unique_id
    with Watch(ihe) as watch:
        assert fetch(toolkit.client, own, made.unique_id) == (LARGE, source.sha1())
    assert watch.growth < ALLOWED, watch.growth // MIB
    assert ihe.incoming() == []
    assert ihe.errors_logged() == []


def test_a_document_beyond_the_limit_is_refused_while_it_comes(ihe: Server) -> None:
    toolkit, source = Toolkit(ihe), Source(130 * MIB)
    patient = new_patient(ihe, "too-large")
    made = entry(patient, mime_type="application/octet-stream", size=str(source.size))
    kept = ihe.kept()
    reply = send(toolkit.client, Lot(submission(patient, made), {made.id: b""}), source, counted=False)
    assert (reply.http, reply.findings) == (400, ["V-MTOM-PART-TOO-LARGE"])
    assert ihe.kept() == kept


def test_a_cda_document_that_no_reader_could_hold_is_refused_and_not_held(
        server: Server, as_card: Callable[..., Client]) -> None:
    client, small = as_card("medecin-traitant"), document()
    assert client.card is not None
    source = Source(LARGE, small + b"<!--", b"-->", b"x" * 65536)
    lot = make_lot(client.card, small, sign=False).having(
        lambda entry: replace(entry, size=str(LARGE), hash=source.sha1()))
    kept = server.kept()
    with Watch(server) as watch:
        reply = send(client, signed(lot, client.card), source, counted=True)
    assert "V-XML-TOO-LARGE" in reply.findings
    assert watch.growth < ALLOWED, watch.growth // MIB
    assert server.kept() == kept
