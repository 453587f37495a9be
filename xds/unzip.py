"""A hostile ZIP archive read safely: bytes or a seekable file in, entries and their pieces out; nothing is written.

The directory is compared with every local header before anything is unpacked, so that no two readers see two archives;
numbers, sizes and ratios are bounded by what it declares, and unpacking stops where a declaration proves false
(ISO/IEC 21320-1; APPNOTE.TXT 6.3 where that one is wider: ZIP64, data descriptors, names in CP437).
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from xds.findings import Catalogue, Finding, Refused, Where, errors, shorten

RULES = Catalogue("xds")
NOT_ZIP = RULES["V-XDM-NOT-ZIP"]
TRUNCATED = RULES["V-XDM-TRUNCATED"]
STRUCTURE = RULES["V-XDM-STRUCTURE"]
TOO_MANY = RULES["V-XDM-TOO-MANY-ENTRIES"]
TOO_LARGE = RULES["V-XDM-TOO-LARGE"]
RATIO = RULES["V-XDM-RATIO"]
ENCRYPTED = RULES["V-XDM-ENCRYPTED"]
METHOD = RULES["V-XDM-METHOD"]
NOT_A_FILE = RULES["V-XDM-NOT-A-FILE"]
NAME = RULES["V-XDM-NAME"]
PATH = RULES["V-XDM-PATH"]
NAME_TWICE = RULES["V-XDM-NAME-TWICE"]
BACKSLASH = RULES["V-XDM-BACKSLASH"]
CONTENT = RULES["V-XDM-CONTENT"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Most of what an archive may be: entries, bytes of its directory, of one entry and of all, unpacked to packed."""

    entries: int = 2000
    directory: int = _MIB
    entry: int = 256 * _MIB
    total: int = 1024 * _MIB
    ratio: int = 100
    metadata: int = 4 * _MIB  # of a METADATA.XML


DEFAULT_LIMITS = Limits()
FREE_RATIO = 64 * 1024  # bytes; what is no larger may be packed as well as it can

STORED, DEFLATED = 0, 8
_CHUNK = 64 * 1024
_LONGEST_NAME = 255
_MOST_FINDINGS = 50
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTION = 1 << 0 | 1 << 6 | 1 << 13  # traditional, strong, masked headers (APPNOTE §4.4.4)
_DESCRIPTOR, _PATCH, _UTF8 = 1 << 3, 1 << 5, 1 << 11
_FOLDER, _REPARSE_POINT = 0x10, 0x400  # of the DOS and Windows attributes
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its name with `/` between steps, unpacked and packed size, where its data begin in the archive."""

    name: str
    size: int
    packed: int
    crc: int
    method: int
    start: int
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that may be unpacked: entries in the order of its directory. `file` must stay open."""

    file: BinaryIO
    entries: tuple[Entry, ...]
    warnings: tuple[Finding, ...] = ()

    def files(self) -> Mapping[str, Entry]:
        """Files by name, in whatever case: no two of an archive differ by case only."""
        return {entry.name.casefold(): entry for entry in self.entries if not entry.is_folder}


def open_archive(source: BinaryIO | bytes, limits: Limits = DEFAULT_LIMITS) -> Archive:
    """The entries of an archive; `Refused` for one that is damaged, ambiguous, too large or could lead out of itself.

    Nothing is unpacked. Memory stays within the directory's size.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    end = _read_end(file)
    _check_end(end, limits)
    records = list(_read_directory(_read_at(file, end.offset, end.size), end))
    named = [_name(record) for record in records]
    findings = [finding for record, (_, found) in zip(records, named, strict=True)
                for finding in (*found, *_check_record(record, limits))]
    findings += _check_all(records, [name for name, _ in named], limits)
    if errors(findings):
        raise Refused(findings[:_MOST_FINDINGS])
    starts = _place(file, records, end)
    entries = tuple(Entry(name, record.size, record.packed, record.crc, record.method, start, record.is_folder)
                    for record, (name, _), start in zip(records, named, starts, strict=True))
    return Archive(file, entries, tuple(findings))


def unpack(archive: Archive, entry: Entry) -> Iterator[bytes]:
    """The content in pieces of at most 64 KiB; `Refused` as soon as it is not what the directory says of it."""
    size, crc, place = 0, 0, Where(entry.name)
    try:
        for piece in _pieces(archive.file, entry):
            size += len(piece)
            if size > entry.size:
                raise Refused(CONTENT.at(place, expected=entry.size, received=f"> {entry.size}"))
            crc = zlib.crc32(piece, crc)
            yield piece
    except zlib.error as error:
        raise Refused(CONTENT.at(place, expected="deflate (RFC 1951)", received=error)) from error
    if size != entry.size:
        raise Refused(CONTENT.at(place, expected=entry.size, received=size))
    if crc != entry.crc:
        raise Refused(CONTENT.at(place, expected=f"CRC-32 {entry.crc:08x}", received=f"{crc:08x}"))


def _pieces(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    raw = (_read_at(file, at, min(_CHUNK, entry.start + entry.packed - at))
           for at in range(entry.start, entry.start + entry.packed, _CHUNK))
    yield from raw if entry.method == STORED else _inflated(raw)


def _inflated(raw: Iterable[bytes]) -> Iterator[bytes]:
    engine, chunk = zlib.decompressobj(-zlib.MAX_WBITS), b""
    for chunk in raw:
        if engine.eof:
            break
        waiting = chunk
        while waiting and not engine.eof:
            yield engine.decompress(waiting, _CHUNK)
            waiting = engine.unconsumed_tail
    else:
        if chunk:  # an entry of no bytes at all is empty
            yield engine.flush()
            if not engine.eof:
                raise zlib.error("the compressed data stop in their middle")
        if not engine.unused_data:
            return
    raise zlib.error("something follows the end of the compressed data")


# --- the end of the archive ----------------------------------------------------------------------------------------

_END = struct.Struct("<4s4H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_RECORD = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ARCHIVE = Where("archive")


class _End(NamedTuple):
    """What the archive says of its directory, and where that must stop."""

    entries: int
    size: int
    offset: int
    at: int


def _read_end(file: BinaryIO) -> _End:
    """The one end record, which must end with the archive (APPNOTE §4.3.16); ZIP64's when there is one (§4.3.14)."""
    whole = file.seek(0, os.SEEK_END)
    base = max(0, whole - _END.size - _MAX16)
    tail = _read_at(file, base, whole - base)
    found = [at for at in _occurrences(tail, b"PK\x05\x06")
             if at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[7] == len(tail)]
    if not found:
        rule = TRUNCATED if _read_at(file, 0, 4) == b"PK\x03\x04" else NOT_ZIP
        raise Refused(rule.at(_ARCHIVE, expected="PK\\x05\\x06 … EOF", received=whole))
    if len(found) > 1:
        raise _contradiction("1 end record", f"{len(found)}")
    _, disk, first_disk, here, entries, size, offset, _ = _END.unpack_from(tail, found[0])
    end = _End(entries, size, offset, base + found[0])
    locator = _read_at(file, end.at - _LOCATOR64.size, _LOCATOR64.size) if end.at >= _LOCATOR64.size else b""
    if locator.startswith(b"PK\x06\x07"):
        return _read_end64(file, end, locator)
    if disk or first_disk or here != entries:
        raise _contradiction("1 volume", f"volume {disk}, {here}/{entries} entries")
    return end


def _read_end64(file: BinaryIO, narrow: _End, locator: bytes) -> _End:
    """The wide end record, just before its locator; it and the narrow one must agree where that has room."""
    at = narrow.at - _LOCATOR64.size
    _, disk, begin, disks = _LOCATOR64.unpack(locator)
    alone = disk == 0 and disks <= 1
    data = _read_at(file, begin, _END64.size) if alone and begin + _END64.size <= at else b""
    if not data.startswith(b"PK\x06\x06"):
        raise _contradiction("ZIP64 end record", data[:4].hex() or "–")
    _, length, _, _, disk, first_disk, here, entries, size, offset = _END64.unpack(data)
    if begin + 12 + length != at or disk or first_disk or here != entries:
        raise _contradiction("1 volume, ZIP64", f"{here}/{entries} entries")
    wide, limits = (entries, size, offset), (_MAX16, _MAX32, _MAX32)
    if any(small not in (large, limit) for small, large, limit in zip(narrow[:3], wide, limits, strict=True)):
        raise _contradiction(f"{narrow[:3]}", f"ZIP64 {wide}")
    return _End(entries, size, offset, begin)


def _check_end(end: _End, limits: Limits) -> None:
    if end.entries > limits.entries:
        raise Refused(TOO_MANY.at(_ARCHIVE, expected=f"≤ {limits.entries}", received=end.entries))
    if end.size > limits.directory:
        raise Refused(TOO_LARGE.at(Where("archive", path="directory"), expected=f"≤ {limits.directory}",
                                   received=end.size))
    if end.offset + end.size != end.at:
        # Something stands before the archive (a program, a page) or its directory is not where it says.
        raise _contradiction(f"directory {end.at - end.size}–{end.at}", f"{end.offset}–{end.offset + end.size}")


def _occurrences(data: bytes, sign: bytes) -> Iterator[int]:
    at = data.find(sign)
    while at >= 0:
        yield at
        at = data.find(sign, at + 1)


# --- its directory -------------------------------------------------------------------------------------------------


class _Raw(NamedTuple):
    """One record of the directory, sizes and offset already wide."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    attributes: int
    offset: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith((b"/", b"\\")) or bool(self.attributes & _FOLDER)


def _read_directory(data: bytes, end: _End) -> Iterator[_Raw]:
    at = 0
    for number in range(1, end.entries + 1):
        if at + _RECORD.size > len(data) or not data.startswith(b"PK\x01\x02", at):
            raise _contradiction(f"{end.entries} entries", f"{number - 1}")
        (_, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length, disk, _,
         attributes, offset) = _RECORD.unpack_from(data, at)
        name_at = at + _RECORD.size
        extra_at = name_at + name_length
        at = extra_at + extra_length + comment_length
        if at > len(data) or disk not in (0, _MAX16):
            raise _contradiction("directory in 1 volume", f"entry {number}")
        wide = _wide((size, packed, offset), data[extra_at:extra_at + extra_length])
        yield _Raw(data[name_at:extra_at], flags, method, crc, wide[1], wide[0], attributes, wide[2])
    if at != len(data):
        raise _contradiction(f"{end.entries} entries", f"+ {len(data) - at} bytes")


def _wide(narrow: Sequence[int], extra: bytes) -> Sequence[int]:
    """Numbers that fill their 32 bits stand in the ZIP64 field, in the same order (APPNOTE §4.5.3)."""
    field = _extra_fields(extra).get(1, b"")
    wide = iter([number for (number,) in struct.iter_unpack("<Q", field[:len(field) // 8 * 8])])
    try:
        return [next(wide) if number == _MAX32 else number for number in narrow]
    except StopIteration:
        raise _contradiction("ZIP64 field", field.hex() or "–") from None


def _extra_fields(extra: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4 + length
        if at > len(extra) or (kind == 1 and kind in fields):
            raise _contradiction("extra fields", extra[:40].hex())
        fields[kind] = extra[at - length:at]
    return fields


# --- names ---------------------------------------------------------------------------------------------------------


def _name(record: _Raw) -> tuple[str, list[Finding]]:
    """The entry's name as steps joined by `/`, and what is wrong with it."""
    try:
        name = record.name.decode("utf-8" if record.flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        return "", [NAME.at(_ARCHIVE, expected="UTF-8", received=error)]
    path, place = name.replace("\\", "/"), Where(shorten(name))
    steps = [step for step in path.split("/") if step not in ("", ".")]
    if not name.isprintable() or len(name) > _LONGEST_NAME or not steps:
        return "", [NAME.at(place, expected=f"1–{_LONGEST_NAME}", received=name)]
    # A step of dots and blanks only is `..` to some file systems.
    if path.startswith("/") or _DRIVE.match(path) or any(not step.strip(". ") for step in steps):
        return "", [PATH.at(place, expected="IHE_XDM/SUBSET01/…", received=name)]
    return "/".join(steps), [BACKSLASH.at(place, expected=path, received=name)] if path != name else []


# --- what is declared ----------------------------------------------------------------------------------------------


def _check_record(record: _Raw, limits: Limits) -> Iterator[Finding]:
    place = Where(shorten(record.name.decode("utf-8", "replace")))
    if record.flags & _ENCRYPTION:
        yield ENCRYPTED.at(place, received=f"flags {record.flags:#06x}")
    if record.method not in (STORED, DEFLATED) or record.flags & _PATCH:
        yield METHOD.at(place, expected="0 (stored) | 8 (deflate)",
                        received="patch" if record.flags & _PATCH else record.method)
    kind = stat.S_IFMT(record.attributes >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or record.attributes & _REPARSE_POINT:
        yield NOT_A_FILE.at(place, expected="regular file", received=f"attributes {record.attributes:#010x}")
    if record.size > limits.entry:
        yield TOO_LARGE.at(place, expected=f"≤ {limits.entry}", received=record.size)
    elif record.size > max(FREE_RATIO, limits.ratio * record.packed):
        yield RATIO.at(place, expected=f"≤ {limits.ratio}", received=f"{record.size} / {record.packed}")
    if record.is_folder and record.size:
        yield STRUCTURE.at(place, expected="folder: 0", received=record.size)
    if record.method == STORED and record.packed != record.size:
        yield STRUCTURE.at(place, expected=record.size, received=record.packed)


def _check_all(records: Sequence[_Raw], names: Sequence[str], limits: Limits) -> Iterator[Finding]:
    total = sum(record.size for record in records if record.size <= limits.entry)
    if total > limits.total:
        yield TOO_LARGE.at(_ARCHIVE, expected=f"≤ {limits.total}", received=total)
    counted = Counter(name.casefold() for record, name in zip(records, names, strict=True)
                      if name and not record.is_folder)
    for name, times in counted.items():
        if times > 1:
            yield NAME_TWICE.at(Where(name), expected=1, received=times)


def _place(file: BinaryIO, records: Sequence[_Raw], end: _End) -> list[int]:
    """Where the data of each record begin; its local header says the same as the directory, nothing overlaps."""
    starts: dict[int, int] = {}
    stop = 0
    for number in sorted(range(len(records)), key=lambda number: records[number].offset):
        record = records[number]
        if record.offset < stop or (stop == 0 and record.offset):
            raise _contradiction(f"data at {stop}", f"{record.offset}", record)
        starts[number] = _check_local(file, record)
        stop = starts[number] + record.packed
        if stop > end.offset:
            raise _contradiction(f"data until {end.offset}", f"{stop}", record)
    return [starts[number] for number in range(len(records))]


def _check_local(file: BinaryIO, record: _Raw) -> int:
    """Where the data begin. Sizes and CRC may stand behind them, in a data descriptor (APPNOTE §4.3.9)."""
    header = _read_at(file, record.offset, _LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise _contradiction("PK\\x03\\x04", header[:4].hex(), record)
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
    name = _read_at(file, record.offset + _LOCAL.size, name_length)
    meant = _ENCRYPTION | _UTF8
    if (name, method, flags & meant) != (record.name, record.method, record.flags & meant):
        raise _contradiction(f"{record.name!r}, method {record.method}", f"{name!r}, method {method}", record)
    allowed = {_MAX32, 0} if flags & _DESCRIPTOR else {_MAX32}
    if any(local not in {listed, *allowed} for local, listed in ((packed, record.packed), (size, record.size))) or (
            crc != record.crc and not flags & _DESCRIPTOR):
        raise _contradiction(f"{record.packed}, {record.size}, {record.crc:08x}", f"{packed}, {size}, {crc:08x}",
                             record)
    return record.offset + _LOCAL.size + int(name_length) + int(extra_length)


def _contradiction(expected: str, received: str, record: _Raw | None = None) -> Refused:
    place = Where(shorten(record.name.decode("utf-8", "replace"))) if record else _ARCHIVE
    return Refused(STRUCTURE.at(place, expected=expected, received=received))


def _read_at(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    return file.read(length)


