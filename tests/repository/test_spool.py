"""Receiving: the same message however it is cut, memory bounded whatever its size, nothing left when it goes wrong."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repository import spool
from repository.spool import IN_MEMORY, MAX_MARKUP, Message, chunks_of, inflated, receive
from xds.findings import Refused
from xds.mtom import DEFAULT_LIMITS, write_related
from xds.xml import MAX_BYTES

ROOT = b"<Envelope/>"
SOAP = "application/soap+xml; charset=UTF-8"
LARGE = bytes(range(256)) * (IN_MEMORY // 256) + b"!"  # one byte more than stays in memory


def package(*parts: bytes, root: bytes = ROOT) -> tuple[str, bytes]:
    content_type, pieces, _ = write_related(root, [(f"part{number}@x", part, len(part))
                                                   for number, part in enumerate(parts, 1)], "")
    return content_type, b"".join(pieces)


def cut(data: bytes, size: int = 65_536) -> Iterator[bytes]:
    return (data[start:start + size] for start in range(0, len(data), size))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is received ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"x", LARGE[:-1], LARGE, LARGE * 2], ids=len)
def test_a_part_is_received(tmp_path: Path, content: bytes) -> None:
    content_type, body = package(content)
    with receive(content_type, cut(body), tmp_path) as message:
        (part,) = message.parts.values()
        assert list(message.parts) == ["part1@x"]
        assert (message.root, message.is_multipart) == (ROOT, True)
        assert part.read() == content
        assert part.size == len(content)
        assert part.sha1 == hashlib.sha1(content, usedforsecurity=False).hexdigest()
        assert part.sha256 == hashlib.sha256(content).digest()
        assert (part.path is not None) is (len(content) > IN_MEMORY)
        assert len(files(tmp_path)) == (1 if len(content) > IN_MEMORY else 0)
    assert files(tmp_path) == []


def test_what_was_kept_is_not_discarded(tmp_path: Path) -> None:
    content_type, body = package(LARGE, LARGE)
    with receive(content_type, cut(body), tmp_path) as message:
        kept, _ = message.parts.values()
        elsewhere = tmp_path / "kept"
        assert kept.path is not None
        kept.path.rename(elsewhere)
        kept.path = None
    assert files(tmp_path) == ["kept"]


@given(st.lists(st.binary(max_size=300), max_size=4), st.lists(st.integers(1, 200), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_it_is_cut(tmp_path: Path, contents: list[bytes], sizes: list[int]) -> None:
    """Also where a large part begins to go to disk."""
    content_type, body = package(*contents)

    def pieces() -> Iterator[bytes]:
        start, turn = 0, 0
        while start < len(body):
            size = sizes[turn % len(sizes)]
            yield body[start:start + size]
            start, turn = start + size, turn + 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "IN_MEMORY", 100)
        with receive(content_type, pieces(), tmp_path) as message:
            assert [part.read() for part in message.parts.values()] == contents
            assert [part.sha256 for part in message.parts.values()] == [hashlib.sha256(c).digest() for c in contents]
    assert files(tmp_path) == []


def test_an_envelope_alone(tmp_path: Path) -> None:
    message = receive(f'{SOAP}; action="urn:x"', cut(ROOT, 3), tmp_path)
    assert (message.root, message.parts, message.action, message.is_multipart) == (ROOT, {}, "urn:x", False)
    assert files(tmp_path) == []


def test_chunks_of() -> None:
    data = bytearray(LARGE)

    def read(size: int) -> bytes:
        piece = bytes(data[:size])
        del data[:size]
        return piece

    pieces = list(chunks_of(read))
    assert b"".join(pieces) == LARGE
    assert max(map(len, pieces)) <= 65_536


# --- memory --------------------------------------------------------------------------------------------------------

MEBIBYTE = 1024 * 1024


def stream(size: int) -> tuple[str, Iterator[bytes], int]:
    """A package with one part of so many bytes that nobody ever holds whole."""
    block = bytes(range(256)) * 256
    return write_related(ROOT, [("part1@x", (block for _ in range(size // len(block))), size)], "")


def received(size: int, folder: Path) -> tuple[Message, int]:
    """The message, and how much memory it took at most."""
    content_type, chunks, _ = stream(size)
    tracemalloc.start()
    message = receive(content_type, chunks, folder, replace(DEFAULT_LIMITS, part=2 * size, total=2 * size))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return message, peak


def test_a_hundred_mebibytes_take_no_more_memory_than_ten(tmp_path: Path) -> None:
    for size in (10 * MEBIBYTE, 100 * MEBIBYTE):
        message, peak = received(size, tmp_path)
        with message:
            (part,) = message.parts.values()
            assert (part.size, part.data) == (size, None)
            assert part.path is not None
            assert part.path.stat().st_size == size
        assert peak < 4 * MEBIBYTE
        assert files(tmp_path) == []


def test_a_document_too_large_to_parse_is_not_read_into_memory(tmp_path: Path) -> None:
    message, _ = received(MAX_BYTES + 65_536, tmp_path)
    with message, pytest.raises(Refused) as caught:
        message.parts["part1@x"].read()
    assert [finding.code for finding in caught.value.findings] == ["V-XML-TOO-LARGE"]


# --- what goes wrong -----------------------------------------------------------------------------------------------


def refused(content_type: str, chunks: Iterable[bytes], folder: Path, **options: Any) -> list[str]:
    with pytest.raises(Refused) as caught:
        receive(content_type, chunks, folder, **options)
    assert files(folder) == []
    return [finding.code for finding in caught.value.findings]


@pytest.mark.parametrize("where", [0.01, 0.3, 0.5, 0.7, 0.99])
def test_a_package_that_is_cut_leaves_nothing(tmp_path: Path, where: float) -> None:
    content_type, body = package(LARGE, LARGE, b"small")
    assert refused(content_type, cut(body[:int(len(body) * where)]), tmp_path)


def test_a_package_without_its_last_line_leaves_nothing(tmp_path: Path) -> None:
    content_type, body = package(LARGE)
    assert refused(content_type, cut(body[:body.rindex(b"--")]), tmp_path) == ["V-MTOM-TRUNCATED"]


@pytest.mark.parametrize("error", [ConnectionResetError, RuntimeError, KeyboardInterrupt])
def test_a_sender_who_goes_away_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    content_type, body = package(LARGE, LARGE)

    def pieces() -> Iterator[bytes]:
        yield from cut(body[:len(body) * 3 // 4])
        raise error

    with pytest.raises(error):
        receive(content_type, pieces(), tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize(("changes", "parts", "code"), [
    ({"part": IN_MEMORY}, (LARGE,), "V-MTOM-PART-TOO-LARGE"), ({"total": IN_MEMORY}, (LARGE,), "V-MTOM-TOO-LARGE"),
    ({"parts": 2}, (LARGE, b"x"), "V-MTOM-TOO-MANY-PARTS"), ({"root": 5}, (LARGE,), "V-MTOM-PART-TOO-LARGE")])
def test_limits(tmp_path: Path, changes: dict[str, int], parts: tuple[bytes, ...], code: str) -> None:
    content_type, body = package(*parts)
    assert refused(content_type, cut(body), tmp_path, limits=replace(DEFAULT_LIMITS, **changes)) == [code]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content_type, body = package(LARGE, LARGE)
    written = []

    class Full:
        def __init__(self, handle: int) -> None:
            self.handle = handle

        def write(self, data: bytes) -> int:
            written.append(len(data))
            if sum(written) > IN_MEMORY:
                raise OSError(28, "No space left on device")
            return len(data)

        def close(self) -> None:
            spool.os.close(self.handle)

    monkeypatch.setattr(spool.os, "fdopen", lambda handle, *_rest, **_options: Full(handle))
    with pytest.raises(OSError, match="No space left"):
        receive(content_type, cut(body), tmp_path)
    assert files(tmp_path) == []


def test_an_envelope_too_large(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 65_536

    assert refused(SOAP, endless(), tmp_path) == ["V-XML-TOO-LARGE"]


@pytest.mark.parametrize("sign", ["<a/>", "<a b='' "])
@pytest.mark.parametrize("multipart", [True, False])
def test_an_envelope_of_too_many_tags(tmp_path: Path, sign: str, multipart: bool) -> None:
    """A tree of it would take a thousand times its bytes."""
    root = (sign * (MAX_MARKUP + 1)).encode()
    content_type, body = package(LARGE, root=root) if multipart else (SOAP, root)
    assert refused(content_type, cut(body), tmp_path) == ["V-XML-LIMIT"]


@pytest.mark.parametrize("content_type", ["", "text", "multipart/related", "multipart/mixed; boundary=x", "image/png",
                                          "multipart/related; boundary=", "multipart/related; boundary=a\x00b"])
def test_content_types_of_something_else(tmp_path: Path, content_type: str) -> None:
    assert refused(content_type, cut(ROOT), tmp_path)


@given(st.binary(max_size=200))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_or_received(tmp_path: Path, body: bytes) -> None:
    content_type, good = package(b"x")
    at = good.index(b"x")
    for data in (body, good[:at] + body, body + good):
        try:
            receive(content_type, cut(data, 7), tmp_path).__exit__()
        except Refused as refusal:
            assert refusal.findings  # noqa: PT017
    assert files(tmp_path) == []


# --- gzip ----------------------------------------------------------------------------------------------------------


def test_a_compressed_body() -> None:
    for size in (1, 7, 65_536):
        assert b"".join(inflated(cut(gzip.compress(LARGE, mtime=0), size), 10**7)) == LARGE
    assert b"".join(inflated(cut(gzip.compress(b"", mtime=0)), 0)) == b""


@pytest.mark.parametrize("data", [b"", b"plain", gzip.compress(LARGE, mtime=0)[:-1], gzip.compress(LARGE, mtime=0)[:50],
                                  zlib.compress(b"x"), gzip.compress(b"x", mtime=0)[:-4] + b"\0\0\0\0"])
def test_what_is_not_compressed(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        list(inflated(cut(data), 10**7))
    assert [finding.code for finding in caught.value.findings] == ["V-REP-NOT-GZIP"]


def test_a_bomb_is_stopped_where_the_limit_is() -> None:
    """A hundred mebibytes in a hundred kilobytes: no more than a chunk beyond the limit is ever made."""
    bomb = gzip.compress(bytes(100 * MEBIBYTE), 1, mtime=0)
    sizes = map(len, inflated([bomb], MEBIBYTE))
    made: list[int] = []
    tracemalloc.start()
    with pytest.raises(Refused) as caught:
        made.extend(sizes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [finding.code for finding in caught.value.findings] == ["V-XML-TOO-LARGE"]
    assert sum(made) <= MEBIBYTE
    assert peak < 2 * MEBIBYTE
