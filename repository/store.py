"""Where documents are kept: an interface, and the folder store.

A document is named by an opaque key, never by its uniqueId, patient or content. `keep` returns when the bytes are on
the medium: temporary name, fsync, rename, fsync of the folder. Only then may the registry speak of it; a crash in
between leaves a file that nothing refers to, never an entry without its document.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from journal.ids import new_id
from registry.rows import StoredDocument
from repository.spool import Received

_CHUNK = 256 * 1024
_DEAD_SECONDS = 3600  # nobody pauses so long in the middle of a document


class Store(Protocol):
    """What keeps documents."""

    @property
    def incoming(self) -> Path:
        """A local folder for what is being received."""

    def keep(self, received: Received) -> StoredDocument:
        """Make a document durable; OSError when it cannot."""

    def open(self, key: str) -> BinaryIO:
        """A document's bytes; FileNotFoundError when it is not there."""

    def delete(self, key: str) -> None:
        """Forget a document; nothing happens when it is not there."""

    def sweep(self) -> int:
        """Remove what a crash left half received; returns how many files."""


class FolderStore:
    """Documents as files in 4,096 folders, by the last three digits of the key (the first ones are the time).

    The folders are made once, when the store is: a new one would cost two more syncs than the document it takes.
    """

    def __init__(self, root: Path) -> None:
        """Make the folders when they are not there."""
        self.root = root
        self.incoming = root / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (root / "fff").is_dir():  # the last one, made when the others are on the medium
            for number in range(0xFFF):
                (root / f"{number:03x}").mkdir(exist_ok=True, mode=0o700)
            _sync_folder(root)
            (root / "fff").mkdir(exist_ok=True, mode=0o700)
            _sync_folder(root)
            _sync_folder(root.parent)

    def keep(self, received: Received) -> StoredDocument:
        """Write, fsync, rename, fsync the folder."""
        # Ids of two processes differ by chance alone, and a document that took another's place would be found too late.
        key = f"{new_id():016x}{secrets.token_hex(4)}"
        target = self._path(key)
        temporary = self._in_store(received)
        try:
            os.replace(temporary, target)
        except OSError:  # what was received goes with its message; our copy of it goes here
            if temporary != received.path:
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
        if received.path == temporary:
            received.path = None  # moved: nothing left to discard
        return StoredDocument(key, received.size, received.sha1, received.sha256)

    def open(self, key: str) -> BinaryIO:
        """The file."""
        return self._path(key).open("rb")

    def delete(self, key: str) -> None:
        """Unlink the file."""
        self._path(key).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what a crash left in `incoming`; returns how many files. What still grows is not touched."""
        limit, found = time.time() - _DEAD_SECONDS, 0
        for path in self.incoming.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < limit:
                    path.unlink()
                    found += 1
        return found

    def keys(self) -> Iterator[str]:
        """Keys of everything kept, in no order."""
        yield from (path.name for path in self.root.glob("[0-9a-f][0-9a-f][0-9a-f]/*"))

    def _path(self, key: str) -> Path:
        return self.root / key[-3:] / key

    def _in_store(self, received: Received) -> Path:
        """A synced file of this file system with the bytes."""
        if received.path is not None and received.path.parent == self.incoming:
            with received.path.open("rb") as file:
                os.fsync(file.fileno())
            return received.path
        handle, name = tempfile.mkstemp(prefix="keep-", dir=self.incoming)
        try:
            with os.fdopen(handle, "wb") as file:
                _copy(received, file)
                file.flush()
                os.fsync(file.fileno())
        except OSError:  # a full disk must not be filled further by what did not fit
            os.unlink(name)
            raise
        return Path(name)


def _copy(received: Received, file: BinaryIO) -> None:
    if received.data is not None:
        file.write(received.data)
    else:
        with received.open() as source:
            shutil.copyfileobj(source, file, _CHUNK)


def pieces(stream: BinaryIO) -> Iterator[bytes]:
    """A document piece by piece; closes it at the end."""
    with stream:
        while piece := stream.read(_CHUNK):
            yield piece


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
