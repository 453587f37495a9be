"""A disk that forgets: system calls as strace saw them, and what is left of a folder when the power goes.

Nothing counts as kept but what was synced: bytes of a file by a sync of the file, its name by a sync of its folder.
What was not may be there or not, write by write and name by name, in any mixture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

CALLS = ("openat", "creat", "write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "sync_file_range", "rename",
         "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "ftruncate", "truncate", "fallocate")
#: What the model understands; a recording with others of `CALLS` is refused rather than misread
_UNDERSTOOD = {"openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate"}
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*?)(?:( <unfinished \.\.\.>)|\) += (-?\d+)(.*))")
_HEX = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class Call:
    """One system call, or the beginning of one (`begun`) that others came between before it ended."""

    name: str
    path: str
    begun: bool = False
    other: str = ""  # of a rename
    data: bytes = b""
    number: int = -1  # offset, or length of a truncation
    fresh: bool = False  # an open that truncated

    @property
    def is_sync(self) -> bool:
        """Whether it makes something last."""
        return self.name in {"fsync", "fdatasync"}


def command(trace: Path) -> list[str]:
    """The strace command line to put before a program."""
    return ["strace", "-f", "-y", "-xx", "-s", "2000000", "-o", str(trace), "-e", f"trace={','.join(CALLS)}"]


def read(trace: Path) -> Iterator[Call]:
    """The calls that succeeded and changed something, in the order in which they ended; syncs also where they began."""
    begun: dict[str, str] = {}
    for line in trace.read_text("ascii").splitlines():
        found = _LINE.fullmatch(line)
        if found is None:  # a signal, an exit
            continue
        pid, resumed, name, text, unfinished, result, rest = found.groups()
        if unfinished:
            begun[pid] = text
            if name in {"fsync", "fdatasync"}:
                yield Call(name, _path_of(text), begun=True)
            continue
        text = begun.pop(pid) + text if resumed else text
        if int(result) >= 0 and not ((resumed or name) == "openat" and "O_CREAT" not in text):
            yield _call(resumed or name, text, rest)


def _call(name: str, text: str, rest: str) -> Call:
    strings = [_decoded(found) for found in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', text)]
    if name in {"rename", "unlink"}:
        return Call(name, strings[0].decode(), other=strings[-1].decode())
    if name == "openat":
        return Call(name, _path_of(rest), fresh="O_TRUNC" in text)
    if name == "pwrite64":
        return Call(name, _path_of(text), data=strings[0], number=int(text.rpartition(", ")[2]))
    if name == "write":
        return Call(name, _path_of(text), data=strings[0])
    if name == "ftruncate":
        return Call(name, _path_of(text), number=int(text.rpartition(", ")[2]))
    return Call(name, _path_of(text))


def _path_of(text: str) -> str:
    """The path that `-y` puts behind a file descriptor, as it is at the time of the call."""
    found = re.search(r"<((?:\\x[0-9a-f]{2})+)>", text)
    return _decoded(found[1]).decode() if found else ""


def _decoded(text: str) -> bytes:
    return bytes.fromhex(_HEX.sub(r"\1", text))


# --- the disk --------------------------------------------------------------------------------------------------------

Change = tuple[int, bytes | None]  # offset and bytes, or a new length and None
Naming = tuple[str, "File | None"]
#: What of a number of changes that were not synced is there all the same
Choice = Callable[[int], Sequence[bool]]


@dataclass(eq=False)
class File:
    """A file: bytes that last, changes that may, and how many of those each sync under way has seen."""

    kept: bytes = b""
    changes: list[Change] = field(default_factory=list)
    size: int = 0
    seen: list[int] = field(default_factory=list)

    def change(self, offset: int, data: bytes | None) -> None:
        """Write, or truncate."""
        self.changes.append((offset, data))
        self.size = offset if data is None else max(self.size, offset + len(data))

    def sync_begins(self) -> None:
        self.seen.append(len(self.changes))

    def sync_ends(self) -> None:
        """What the sync saw when it began lasts now."""
        number = self.seen.pop(0) if self.seen else len(self.changes)
        self.kept, self.changes = applied(self.kept, self.changes[:number]), self.changes[number:]
        self.seen = [max(0, seen - number) for seen in self.seen]

    def after(self, choice: Choice) -> bytes:
        """Its bytes after a crash."""
        chosen = choice(len(self.changes))
        return applied(self.kept, [change for change, there in zip(self.changes, chosen, strict=True) if there])


def applied(content: bytes, changes: Iterable[Change]) -> bytes:
    """Bytes after changes."""
    data = bytearray(content)
    for offset, piece in changes:
        if piece is None:
            data = data[:offset].ljust(offset, b"\0")
            continue
        data.extend(bytes(max(0, offset - len(data))))
        data[offset:offset + len(piece)] = piece
    return bytes(data)


class Disk:
    """A folder on a disk that forgets, begun with what is in it."""

    def __init__(self, root: Path, before: Path, ignored: Callable[[str], bool]) -> None:
        """`root`: the folder as the recording names it; `before`: a copy of it from the time before."""
        self._root, self._ignored = str(root), ignored
        self.names: dict[str, File] = {}
        for path in before.rglob("*"):
            if path.is_file() and not ignored(str(path.relative_to(before))):
                content = path.read_bytes()
                self.names[str(path.relative_to(before))] = File(content, size=len(content))
        self.kept_names = dict(self.names)
        self.namings: dict[str, list[Naming]] = {}

    def local(self, path: str) -> str:
        """A path within the folder, "" for others."""
        inside = path.removeprefix(self._root + "/")
        return "" if inside == path or self._ignored(inside) else inside

    def happen(self, call: Call) -> None:
        """Do what a call did."""
        path = self.local(call.path)
        assert not path or call.name in _UNDERSTOOD, f"{call.name} is not understood"
        if call.is_sync:
            self._sync(call)
        elif path and path in self.names:
            self._change(call, path)
        elif path and call.name == "openat":
            self._name(path, File())

    def _change(self, call: Call, path: str) -> None:
        file = self.names[path]
        if call.name == "rename":
            self._name(self.local(call.other), file)
        if call.name in {"rename", "unlink"}:
            del self.names[path]
            self._later(path, None)
        elif call.name == "ftruncate" or call.fresh:
            file.change(max(call.number, 0), None)
        elif call.name in {"write", "pwrite64"}:
            file.change(file.size if call.number < 0 else call.number, call.data)

    def _name(self, path: str, file: File) -> None:
        self.names[path] = file
        self._later(path, file)

    def _later(self, path: str, file: File | None) -> None:
        self.namings.setdefault(str(PurePosixPath(path).parent), []).append((path, file))

    def _sync(self, call: Call) -> None:
        path = self.local(call.path)
        if path in self.names:
            file = self.names[path]
            file.sync_begins() if call.begun else file.sync_ends()
        elif not call.begun:
            folder = "." if call.path == self._root else path
            for name, file_or_none in self.namings.pop(folder, []):
                _set(self.kept_names, name, file_or_none)

    def after_a_crash(self, choice: Choice) -> dict[str, bytes]:
        """What is in the folder when the power comes back."""
        names = dict(self.kept_names)
        for namings in self.namings.values():
            for (name, file), there in zip(namings, choice(len(namings)), strict=True):
                if there:
                    _set(names, name, file)
        return {name: file.after(choice) for name, file in names.items()}


def _set(names: dict[str, File], name: str, file: File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file
