"""Receiving a message: bytes as they come, the envelope in memory, large parts on disk, digests on the way."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from xds.findings import Catalogue, Finding, Refused, Where
from xds.media import parse_content_type
from xds.mtom import DEFAULT_LIMITS, Limits, PartData, PartEnd, PartStart, Reader
from xds.soap import read_message
from xds.xml import LIMIT, MAX_BYTES, TOO_LARGE

NOT_GZIP = Catalogue("repository")["V-REP-NOT-GZIP"]
IN_MEMORY = 1024 * 1024  # bytes; a part that grows beyond goes to a temporary file
#: Tags, and attributes, of one envelope: as a tree each costs a hundred bytes and more, whatever it cost its sender
MAX_MARKUP = 300_000
_CHUNK = 64 * 1024


class Received:
    """One document as received. In memory (`data`) or in a temporary file (`path`), never both."""

    __slots__ = ("data", "path", "sha1", "sha256", "size")

    def __init__(self, data: bytes | None, path: Path | None, size: int, sha1: str, sha256: bytes) -> None:
        """Use `of` for bytes at hand."""
        self.data, self.path, self.size, self.sha1, self.sha256 = data, path, size, sha1, sha256

    @classmethod
    def of(cls, data: bytes) -> Received:
        """A document in memory."""
        return cls(data, None, len(data), hashlib.sha1(data, usedforsecurity=False).hexdigest(),
                   hashlib.sha256(data).digest())

    def read(self) -> bytes:
        """All of it, for whoever parses it; `Refused` when it is more than the XML reader takes."""
        if self.data is not None:
            return self.data
        if self.size > MAX_BYTES:
            raise Refused(TOO_LARGE.at(Where("document"), expected=f"≤ {MAX_BYTES}", received=self.size))
        return self._path().read_bytes()

    def open(self) -> BinaryIO:
        """The temporary file, from its start."""
        return self._path().open("rb")

    def discard(self) -> None:
        """Remove what was not kept."""
        if self.path is not None:
            with suppress(FileNotFoundError):
                self.path.unlink()

    def _path(self) -> Path:
        assert self.path is not None
        return self.path


@dataclass(slots=True)
class Message:
    """A SOAP message taken apart. Leaving the `with` block removes temporary files that nobody kept."""

    root: bytes
    parts: dict[str, Received] = field(default_factory=dict)
    charset: str = ""
    action: str = ""
    is_multipart: bool = False
    warnings: tuple[Finding, ...] = ()

    def __enter__(self) -> Message:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self.parts.values():
            part.discard()


def receive(content_type: str, chunks: Iterable[bytes], folder: Path, limits: Limits = DEFAULT_LIMITS,
            in_memory: int = IN_MEMORY) -> Message:
    """Read a whole message. Memory stays bounded by the envelope and `in_memory` a part; `folder` takes the rest."""
    if parse_content_type(content_type).media_type != "multipart/related":
        parts = read_message(content_type, _bounded(chunks))
        _check_markup(parts.root)
        return Message(parts.root, {}, parts.charset, parts.action, False, parts.warnings)
    reader = Reader(content_type, limits)
    message = Message(b"", is_multipart=True)
    try:
        _collect(reader, chunks, message, partial(_Sink, folder=folder, in_memory=in_memory))
        _check_markup(message.root)
    except BaseException:
        message.__exit__()
        raise
    message.charset, message.action, message.warnings = reader.charset, reader.action, tuple(reader.warnings)
    return message


def chunks_of(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """A request body piece by piece, by its `read`."""
    while chunk := read(_CHUNK):
        yield chunk


def inflated(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """A gzip-encoded body unpacked, never beyond `limit` bytes: CXF and .NET send such requests."""
    engine, size = zlib.decompressobj(31), 0
    for chunk in chunks:
        waiting = chunk
        while waiting:
            try:
                piece = engine.decompress(waiting, _CHUNK)
            except zlib.error as error:
                raise Refused(NOT_GZIP.at(Where("body"), received=error)) from error
            size += len(piece)
            if size > limit:
                raise Refused(TOO_LARGE.at(Where("body"), expected=f"≤ {limit}", received=f"> {limit}"))
            yield piece
            waiting = engine.unconsumed_tail
    if not engine.eof:
        raise Refused(NOT_GZIP.at(Where("body"), received="…"))


def _collect(reader: Reader, chunks: Iterable[bytes], message: Message, sink_of: Callable[[str, bool], _Sink]) -> None:
    sink = sink_of("", True)
    try:
        for chunk in chunks:
            for event in reader.feed(chunk):
                if isinstance(event, PartData):
                    sink.write(event.data)
                elif isinstance(event, PartStart):
                    sink = sink_of(event.content_id, event.is_root)
                elif isinstance(event, PartEnd):
                    _finish(sink, message)
        reader.close()
    except BaseException:
        sink.abandon()
        raise


def _finish(sink: _Sink, message: Message) -> None:
    received = sink.finish()
    if sink.is_root:
        message.root = received.read()
        received.discard()
    else:
        message.parts[sink.content_id] = received


class _Sink:
    """Takes the bytes of one part; the root's are never hashed nor written to disk (its size is limited)."""

    def __init__(self, content_id: str, is_root: bool, folder: Path, in_memory: int) -> None:
        self.content_id, self.is_root, self.folder, self.in_memory = content_id, is_root, folder, in_memory
        self.pieces: list[bytes] = []
        self.size = 0
        self.sha1, self.sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
        self.file: BinaryIO | None = None
        self.path: Path | None = None

    def write(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        if self.is_root:
            self.pieces.append(bytes(data))
            return
        self.sha1.update(data)
        self.sha256.update(data)
        if self.file is None and self.size > self.in_memory:
            self._spill()
        if self.file is not None:
            self.file.write(data)
        else:
            self.pieces.append(bytes(data))

    def finish(self) -> Received:
        data: bytes | None = None
        if self.file is None:
            data = b"".join(self.pieces)
        else:
            self.file.close()
        return Received(data, self.path, self.size, self.sha1.hexdigest(), self.sha256.digest())

    def abandon(self) -> None:
        if self.file is not None:
            self.file.close()
        if self.path is not None:
            with suppress(FileNotFoundError):
                self.path.unlink()

    def _spill(self) -> None:
        handle, name = tempfile.mkstemp(prefix="part-", dir=self.folder)
        self.path, self.file = Path(name), os.fdopen(handle, "wb", buffering=256 * 1024)
        for piece in self.pieces:
            self.file.write(piece)
        self.pieces = []


def _bounded(chunks: Iterable[bytes]) -> bytes:
    pieces, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_BYTES:
            raise Refused(TOO_LARGE.at(Where("body"), expected=f"≤ {MAX_BYTES}", received=f"> {MAX_BYTES}"))
        pieces.append(chunk)
    return b"".join(pieces)


def _check_markup(envelope: bytes) -> None:
    """Refuse an envelope whose tree would be thirty times its size, before it is one: nobody knows its sender yet."""
    for sign in (b"<", b"="):
        if (number := envelope.count(sign)) > MAX_MARKUP:
            raise Refused(LIMIT.at(Where("envelope"), expected=f"≤ {MAX_MARKUP} × {sign.decode()}", received=number))
