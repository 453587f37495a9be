"""The folder store: bytes on the medium before anyone speaks of them, names that tell nothing, nothing half done."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repository import store as module
from repository.spool import Received
from repository.store import FolderStore, pieces
from tests.repository.conftest import small_store

SMALL, LARGE = b"<ClinicalDocument/>", bytes(range(256)) * 8192


def spooled(folder: Path, content: bytes = LARGE) -> Received:
    """A part as the spool leaves it: in a file."""
    path = folder / f"part-{len(list(folder.iterdir()))}"
    path.write_bytes(content)
    whole = Received.of(content)
    return Received(None, path, whole.size, whole.sha1, whole.sha256)


def all_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


# --- keeping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=len)
@pytest.mark.parametrize("how", ["memory", "incoming", "elsewhere"])
def test_what_is_kept_comes_back(store: FolderStore, tmp_path: Path, content: bytes, how: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    received = Received.of(content) if how == "memory" else spooled(
        store.incoming if how == "incoming" else tmp_path / "elsewhere", content)
    kept = store.keep(received)
    assert b"".join(pieces(store.open(kept.key))) == content
    assert (kept.size, kept.sha1, kept.sha256) == (received.size, received.sha1, received.sha256)
    assert list(store.keys()) == [kept.key]
    assert list(store.incoming.iterdir()) == []
    assert (received.path is None) is (how != "elsewhere")


def test_names_tell_nothing_and_are_never_the_same(store: FolderStore) -> None:
    keys = {store.keep(Received.of(SMALL)).key for _ in range(60)}
    assert len(keys) == 60
    assert all(len(key) <= 64 and set(key) <= set("0123456789abcdef") for key in keys)
    assert len({key[-3:] for key in keys}) > 50  # spread over the folders, though made in one moment
    assert set(store.keys()) == keys


def test_nobody_else_reads_the_files(tmp_path: Path) -> None:
    root = tmp_path / "documents"
    made = small_store(root)
    kept = made.keep(Received.of(SMALL))
    assert stat.S_IMODE(made.incoming.stat().st_mode) == 0o700
    assert stat.S_IMODE(made._path(kept.key).stat().st_mode) == 0o600
    large = made.keep(spooled(made.incoming))
    assert made._path(large.key).stat().st_mode


def test_delete_and_open(store: FolderStore) -> None:
    kept = store.keep(Received.of(SMALL))
    store.delete(kept.key)
    store.delete(kept.key)
    with pytest.raises(FileNotFoundError):
        store.open(kept.key)
    assert list(store.keys()) == []


def test_pieces_close_what_they_read(store: FolderStore) -> None:
    opened = store.open(store.keep(Received.of(LARGE)).key)
    assert max(map(len, pieces(opened))) <= 256 * 1024
    assert opened.closed
    opened = store.open(store.keep(Received.of(LARGE)).key)
    half_read = pieces(opened)
    next(half_read)
    half_read.close()  # type: ignore[attr-defined]
    assert opened.closed


def test_side_by_side(store: FolderStore) -> None:
    kept: list[str] = []
    threads = [threading.Thread(target=lambda n=n: kept.append(store.keep(Received.of(SMALL + bytes([n]))).key))
               for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(b"".join(pieces(store.open(key)))[-1] for key in kept) == list(range(8))


# --- the order of things -------------------------------------------------------------------------------------------


class Recorder:
    """Writes down every fsync and rename, by the name of what it is done to; may fail at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, failing: str = "") -> None:
        self.steps: list[str] = []
        self.root, self.failing = root, failing
        self.fsync, self.replace = os.fsync, os.replace
        monkeypatch.setattr(module.os, "fsync", self.do_fsync)
        monkeypatch.setattr(module.os, "replace", self.do_replace)

    def named(self, path: Path) -> str:
        relative = path.relative_to(self.root)
        return "folder" if path.is_dir() else "temporary" if relative.parts[0] == "incoming" else "document"

    def note(self, step: str) -> None:
        self.steps.append(step)
        if step == self.failing:
            raise OSError(5, "Input/output error")

    def do_fsync(self, handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        step = f"fsync {self.named(path)}"
        if path.is_file():
            assert path.stat().st_size, "synced before it was written"
        self.note(step)
        self.fsync(handle)

    def do_replace(self, source: Path, target: Path) -> None:
        self.note("rename")
        self.replace(source, target)


STEPS = ["fsync temporary", "rename", "fsync folder"]


@pytest.mark.parametrize("from_file", [False, True])
def test_bytes_first_then_the_name_then_the_folder(store: FolderStore, monkeypatch: pytest.MonkeyPatch,
                                                   from_file: bool) -> None:
    received = spooled(store.incoming) if from_file else Received.of(SMALL)
    recorder = Recorder(monkeypatch, store.root)
    store.keep(received)
    assert recorder.steps == STEPS


@pytest.mark.parametrize("failing", STEPS)
@pytest.mark.parametrize("from_file", [False, True])
def test_a_failure_is_told_and_nothing_half_written_has_a_name(store: FolderStore, monkeypatch: pytest.MonkeyPatch,
                                                               failing: str, from_file: bool) -> None:
    """At most a whole document that nobody speaks of; what was received goes with its message."""
    received = spooled(store.incoming) if from_file else Received.of(SMALL)
    content = received.read()
    Recorder(monkeypatch, store.root, failing)
    with pytest.raises(OSError, match="Input/output"):
        store.keep(received)
    received.discard()
    assert [path.read_bytes() for path in all_files(store.root)] in ([], [content])
    assert list(store.incoming.iterdir()) == []


def test_a_full_disk(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_received: Received, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(OSError, match="No space"):
        store.keep(Received.of(SMALL))
    assert all_files(store.root) == []


# --- the folders ---------------------------------------------------------------------------------------------------


def test_a_store_is_made_once_and_opened_again(folders: Path) -> None:
    """4,096 folders, the last of which says that the others are there."""
    assert len(list(folders.glob("[0-9a-f][0-9a-f][0-9a-f]"))) == 4096
    before = folders.stat().st_mtime_ns
    again = FolderStore(folders)
    assert folders.stat().st_mtime_ns == before
    kept = again.keep(Received.of(SMALL))
    assert b"".join(pieces(FolderStore(folders).open(kept.key))) == SMALL
    again.delete(kept.key)


def test_a_crash_while_it_was_made_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, original, made = tmp_path / "documents", Path.mkdir, []

    def stop(path: Path, *arguments: Any, **options: Any) -> None:
        made.append(path)
        if len(made) == 100:
            raise SystemExit
        original(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", stop)
    with pytest.raises(SystemExit):
        FolderStore(root)
    monkeypatch.undo()
    FolderStore(root)
    assert len(list(root.glob("[0-9a-f][0-9a-f][0-9a-f]"))) == 4096


def test_sweeping_takes_what_a_crash_left_and_not_what_still_grows(store: FolderStore) -> None:
    old, new = store.incoming / "part-old", store.incoming / "part-new"
    for path, age in ((old, 7200), (new, 60)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    kept = store.keep(Received.of(SMALL))
    os.utime(store._path(kept.key), (0, 0))
    assert store.sweep() == 1
    assert [path.name for path in store.incoming.iterdir()] == ["part-new"]
    assert list(store.keys()) == [kept.key]


# --- a crash at the worst moment -----------------------------------------------------------------------------------


def dies(work: Callable[[], None]) -> None:
    """Run in a process that ends without any clean-up."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(9)
    os.waitpid(child, 0)


@pytest.mark.parametrize("failing", STEPS)
def test_a_process_that_dies_leaves_whole_documents_or_none(store: FolderStore, monkeypatch: pytest.MonkeyPatch,
                                                            failing: str) -> None:
    def work() -> None:
        recorder = Recorder(monkeypatch, store.root)
        recorder.note = lambda step: os._exit(9) if step == failing else None  # type: ignore[method-assign]
        store.keep(Received.of(LARGE))

    dies(work)
    assert [path.read_bytes() for path in all_files(store.root) if path.parent != store.incoming] == (
        [LARGE] if failing == "fsync folder" else [])
    for path in store.incoming.iterdir():
        os.utime(path, (0, 0))
    store.sweep()
    assert list(store.incoming.iterdir()) == []
