"""Messages kept on disk until they are sent: append-only, crash-safe, shared by the processes of a server."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from journal.batches import Batches

log = structlog.get_logger("volet.spool")

LIMIT = 1024 * 1024 * 1024  # bytes: some weeks without a receiver
COMPACT_AT = 16 * 1024 * 1024  # bytes sent and confirmed that a spool may begin with
_HEADER = struct.Struct(">II")  # length and CRC-32 of what follows
_LONGEST = 16 * 1024 * 1024  # bytes of a message; what claims to be longer is no header


class Spool:
    """Messages kept until they are sent: `spool` (records one after the other), `position` (of the first not sent).

    Any number of processes append; one at a time reads and advances.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        """Open, or make; a record half-written when the machine stopped is set aside."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self._limit = folder, limit
        self._spool, self._position = folder / "spool", folder / "position"
        self._batches: Batches[bytes] = Batches(self._append)
        with self._locked():
            self._spool.touch(0o600)
            _sync_folder(folder)
            self._mend()

    def append(self, messages: Sequence[bytes]) -> None:
        """Keep messages, durably, together with those of other threads; OSError when they were not kept."""
        self._batches.put(messages)

    def read(self, position: int, most: int = 64) -> tuple[list[bytes], int]:
        """Messages from a position, and the position after them."""
        messages, end, is_whole = self._read(position, most)
        if not messages and not is_whole:
            with self._locked():  # nobody is writing now: what is still broken will never be whole
                self._mend()
        return messages, end

    def advance(self, position: int) -> int:
        """Forget what stands before a position; returns by how many bytes all positions have become smaller."""
        self._set_position(position)
        if position < min(self._size(), COMPACT_AT):
            return 0
        with self._locked():
            size = self._size()
            if 2 * position < size:  # much is still to come: not worth copying yet
                return 0
            new = self._spool.with_suffix(".new")
            with self._spool.open("rb") as old, new.open("wb") as file:
                old.seek(position)
                shutil.copyfileobj(old, file)
                file.flush()
                os.fsync(file.fileno())
            # in this order: stopped in between, everything is sent twice rather than something never
            self._set_position(0)
            new.replace(self._spool)
            _sync_folder(self.folder)  # what is appended from now on must not be lost with the name
        return position

    def position(self) -> int:
        """Where the first message not sent begins."""
        try:
            return int(self._position.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return 0

    def is_empty(self) -> bool:
        """Whether everything was sent."""
        return self.position() >= self._size()

    @contextlib.contextmanager
    def leading(self) -> Iterator[bool]:
        """Whether this thread may read and advance: one of all processes may, as long as it stays in here."""
        with lock(self.folder / "sender.lock", wait=False) as mine:
            yield mine

    def _append(self, messages: list[bytes]) -> None:
        data = b"".join(_HEADER.pack(len(message), zlib.crc32(message)) + message for message in messages)
        with self._locked():
            size = self._size()
            if size + len(data) > self._limit:
                raise OSError(errno.ENOSPC, "the spool is full", str(self._spool))
            descriptor = os.open(self._spool, os.O_WRONLY | os.O_APPEND)
            try:
                write_whole(descriptor, data)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            finally:
                os.close(descriptor)

    def _read(self, position: int, most: int) -> tuple[list[bytes], int, bool]:
        """Messages from a position, the position after them, whether nothing broken follows."""
        messages: list[bytes] = []
        with self._spool.open("rb") as file:
            file.seek(position)
            while len(messages) < most:
                header = file.read(_HEADER.size)
                if not header:
                    return messages, position, True
                message = _message(header, file.read)
                if message is None:
                    return messages, position, False
                messages.append(message)
                position += len(header) + len(message)
        return messages, position, True

    def _mend(self) -> None:
        """Set aside what cannot be read, from the first broken record on; the lock is held."""
        position, is_whole, size = self.position(), True, self._size()
        if position > size:
            self._set_position(position := 0)
        while is_whole and position < size:
            _, position, is_whole = self._read(position, 1000)
        if is_whole:
            return
        with self._spool.open("rb") as file:
            file.seek(position)
            (self.folder / f"broken-{time.time_ns()}").write_bytes(file.read())
        os.truncate(self._spool, position)
        log.error("spool broken", at=position, size=size)

    def _set_position(self, position: int) -> None:
        temporary = self._position.with_suffix(".new")
        temporary.write_text(str(position), "ascii")
        temporary.replace(self._position)

    def _size(self) -> int:
        return self._spool.stat().st_size

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with lock(self.folder / "spool.lock", wait=True):
            yield


def _message(header: bytes, read: Callable[[int], bytes]) -> bytes | None:
    """The message after a header, None when either is not whole."""
    if len(header) < _HEADER.size:
        return None
    length, check = _HEADER.unpack(header)
    message = read(length) if length <= _LONGEST else b""
    return message if len(message) == length and zlib.crc32(message) == check else None


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all the bytes and wait for the medium."""
    if os.write(descriptor, data) != len(data):
        raise OSError(errno.ENOSPC, "written in part only")
    os.fdatasync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Names of files, too, must be waited for."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def lock(path: Path, wait: bool) -> Iterator[bool]:
    """Exclusive over threads and processes; gives False when it is held elsewhere and is not waited for."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
