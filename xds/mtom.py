"""MTOM packages without I/O: bytes in, parts out, and back (RFC 2046 §5.1, RFC 2387, XOP 1.0, ITI TF-2 appendix V.8).

    reader = Reader(content_type)
    for chunk in body:
        for event in reader.feed(chunk): ...    # PartStart, PartData…, PartEnd, PartStart, …
    reader.close()

Whatever is illegal, or could be read in two ways, raises `Refused`; what is merely odd is in `reader.warnings`.
Memory is bounded by the chunk fed, whatever the size of a part: data events are views of the chunk.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NoReturn, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from xds.encodings import DECODERS, Decoder
from xds.findings import Catalogue, Finding, Refused, Where
from xds.media import SOAP_XML, XOP_XML, ContentType, parse_content_type
from xds.vocabulary import XOP
from xds.xml import MAX_BYTES, Element, text_of, where

__all__ = ["DEFAULT_LIMITS", "ContentType", "Event", "Limits", "PartData", "PartEnd", "PartStart", "Parts", "Reader",
           "include", "include_href", "parse_content_type", "read_whole", "write_related"]

RULES = Catalogue("xds")
MEDIA_TYPE = RULES["V-MTOM-MEDIA-TYPE"]
TYPE = RULES["V-MTOM-TYPE"]
START_INFO = RULES["V-MTOM-START-INFO"]
NOT_FOUND = RULES["V-MTOM-BOUNDARY-NOT-FOUND"]
DELIMITER = RULES["V-MTOM-DELIMITER"]
LINE_ENDS = RULES["V-MTOM-LINE-ENDS"]
LF_ONLY = RULES["V-MTOM-LINE-ENDS-LF"]
TRUNCATED = RULES["V-MTOM-TRUNCATED"]
HEADER = RULES["V-MTOM-HEADER"]
HEADER_TOO_LARGE = RULES["V-MTOM-HEADER-TOO-LARGE"]
TOO_MANY_PARTS = RULES["V-MTOM-TOO-MANY-PARTS"]
PART_TOO_LARGE = RULES["V-MTOM-PART-TOO-LARGE"]
TOO_LARGE = RULES["V-MTOM-TOO-LARGE"]
CONTENT_ID_TWICE = RULES["V-MTOM-CONTENT-ID-TWICE"]
CONTENT_ID_ABSENT = RULES["V-MTOM-CONTENT-ID-ABSENT"]
TRANSFER_ENCODING = RULES["V-MTOM-TRANSFER-ENCODING"]
CONTENT = RULES["V-MTOM-CONTENT"]
ROOT_ABSENT = RULES["V-MTOM-ROOT-ABSENT"]
ROOT_TYPE = RULES["V-MTOM-ROOT-TYPE"]
INCLUDE = RULES["V-MTOM-INCLUDE"]

_PADDING = 1024  # bytes of white space after a boundary that are waited for
_BLANK = b" \t"
_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:([^\x00-\x08\x0a-\x1f\x7f]*)")
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one package, in bytes but for `parts`. `root` is the envelope, `part` any other part."""

    parts: int = 50
    header: int = 8 * 1024
    root: int = MAX_BYTES
    part: int = 100 * 1024 * 1024
    total: int = 256 * 1024 * 1024


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part begins. Header names are in lower case; `content_id` stands without its angle brackets, "" when absent."""

    headers: tuple[tuple[str, str], ...]
    content_id: str
    transfer_encoding: str
    is_root: bool


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the part, its Content-Transfer-Encoding undone."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is complete."""


Event: TypeAlias = PartStart | PartData | PartEnd


class State(Enum):
    """Where in the package the reader stands."""

    START = auto()
    PREAMBLE = auto()
    DELIMITER = auto()
    HEADERS = auto()
    BODY = auto()
    EPILOGUE = auto()
    CLOSED = auto()


class Reader:
    """Incremental reader of one multipart/related body."""

    def __init__(self, content_type: str, limits: Limits = DEFAULT_LIMITS) -> None:
        """Take the outer Content-Type; `Refused` when it announces no multipart/related with a lawful boundary."""
        outer = parse_content_type(content_type)
        if outer.media_type != "multipart/related":
            raise Refused(MEDIA_TYPE.at(_PACKAGE, expected="multipart/related", received=outer.media_type))
        self.warnings: list[Finding] = list(_outer_warnings(outer))
        self.charset = ""  # of the root, known once it has started
        self.action = outer.action
        self._limits = limits
        self._start_id = _bare(outer.parameters.get("start", ""))
        self._delimiter = b"--" + outer.boundary()
        self._needle = b"\n" + self._delimiter
        self._state = State.START
        self._data, self._at, self._skip = b"", 0, 0
        self._eol = b""  # line end of this package, set by its first delimiter
        self._total = self._size = self._number = 0
        self._ids: set[str] = set()
        self._root_seen = self._in_root = False
        self._decoder: Decoder | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Events that these bytes complete."""
        if self._state is State.CLOSED:
            raise RuntimeError("this package was closed or refused")
        self._total += len(data)
        if self._total > self._limits.total:
            raise Refused(TOO_LARGE.at(_PACKAGE, expected=f"≤ {self._limits.total}", received=self._total))
        self._data, self._at = (self._data + data if self._data else bytes(data)), 0
        events: list[Event] = []
        try:
            while _STEPS[self._state](self, events):
                pass
        except Refused:
            self._state = State.CLOSED
            raise
        self._data = self._data[self._at:]
        return events

    def close(self) -> list[Event]:
        """Say that no byte follows; `Refused` when the package is not complete."""
        state, self._state = self._state, State.CLOSED
        # RFC 2046 §5.1.1: the line end after the closing delimiter belongs to the epilogue, which may be absent
        ended = state is State.DELIMITER and self._data.rstrip(b" \t\r") == b"--"
        if state is not State.EPILOGUE and not ended:
            rule = NOT_FOUND if state in (State.START, State.PREAMBLE) else TRUNCATED
            raise Refused(rule.at(self._where(), expected=_shown(self._delimiter + b"--"), received=self._total))
        if not self._root_seen:
            raise Refused(ROOT_ABSENT.at(_PACKAGE, expected=f"Content-ID: <{self._start_id}>",
                                         received=", ".join(sorted(self._ids))))
        return []

    # One method a state; each says whether the state after it has something to read.

    def _read_start(self, _events: list[Event]) -> bool:
        head = self._data[:len(self._delimiter)]
        if len(head) < len(self._delimiter):
            return False
        if head == self._delimiter:
            self._at, self._state = len(head), State.DELIMITER
        else:
            self._state = State.PREAMBLE
        return True

    def _read_preamble(self, _events: list[Event]) -> bool:
        hit = self._data.find(self._needle, self._at)
        if hit < 0:
            self._at = max(self._at, len(self._data) - len(self._needle))
            return False
        self._at, self._state = hit + len(self._needle), State.DELIMITER
        return True

    def _read_delimiter(self, _events: list[Event]) -> bool:
        end = self._data.find(b"\n", self._at, self._at + _PADDING)
        if end < 0:
            if len(self._data) - self._at >= _PADDING:
                self._refuse_delimiter(self._data[self._at:self._at + 40])
            return False
        rest, eol = self._data[self._at:end], b"\n"
        if rest.endswith(b"\r"):
            rest, eol = rest[:-1], b"\r\n"
        self._at = end + 1
        if not rest.strip(_BLANK):
            self._next_part(eol)
        elif rest.rstrip(_BLANK) == b"--":
            self._state = State.EPILOGUE
        else:
            # RFC 2046 lets it pass for a delimiter, most readers do not: nobody knows what the sender meant
            self._refuse_delimiter(rest)
        return True

    def _read_headers(self, events: list[Event]) -> bool:
        eol, begin, limit = self._eol, self._at, self._limits.header
        end = begin if self._data.startswith(eol, begin) else self._data.find(eol * 2, begin, begin + limit + 4)
        if end < 0:
            if len(self._data) - begin >= limit + 4:
                raise Refused(HEADER_TOO_LARGE.at(self._where(), expected=f"≤ {limit}", received=f"> {limit}"))
            return False
        events.append(self._start_part(self._data[begin:end]))
        # The blank line stays in view: an empty body shares its line end with the delimiter that follows.
        self._at, self._skip = (end if end == begin else end + len(eol)), len(eol)
        self._state = State.BODY
        return True

    def _read_body(self, events: list[Event]) -> bool:
        begin, hit = self._at + self._skip, self._data.find(self._needle, self._at)
        if hit < 0:
            end = len(self._data) - len(self._needle)
            if end > begin:
                self._emit(begin, end, events)
                self._at, self._skip = end, 0
            return False
        end = self._content_end(hit)
        if end > begin:
            self._emit(begin, end, events)
        self._end_part(events)
        self._at, self._state = hit + len(self._needle), State.DELIMITER
        return True

    def _read_epilogue(self, _events: list[Event]) -> bool:
        self._at = len(self._data)
        return False

    # What happens to a part

    def _next_part(self, eol: bytes) -> None:
        self._number += 1
        if self._number > self._limits.parts:
            raise Refused(TOO_MANY_PARTS.at(_PACKAGE, expected=f"≤ {self._limits.parts}", received=self._number))
        if not self._eol:
            self._eol = eol
            if eol == b"\n":
                self.warnings.append(LF_ONLY.at(_PACKAGE, expected="CR LF", received="LF"))
        elif self._eol != eol:
            self._refuse_line_ends(eol)
        self._state = State.HEADERS

    def _start_part(self, block: bytes) -> PartStart:
        place = self._where()
        headers = _read_headers(block, self._eol, place)
        content_id = _bare(_single(headers, "content-id", place))
        is_root = content_id == self._start_id if self._start_id else self._number == 1
        self._check_content_id(content_id, is_root, place)
        encoding = _single(headers, "content-transfer-encoding", place).strip().lower() or "binary"
        if encoding not in DECODERS:
            raise Refused(TRANSFER_ENCODING.at(place, expected=" | ".join(DECODERS), received=encoding))
        if is_root:
            self._start_root(_single(headers, "content-type", place), place)
        self._decoder, self._size, self._in_root = DECODERS[encoding](), 0, is_root
        return PartStart(headers, content_id, encoding, is_root)

    def _check_content_id(self, content_id: str, is_root: bool, place: Where) -> None:
        if content_id in self._ids:
            raise Refused(CONTENT_ID_TWICE.at(place, received=content_id))
        if not content_id and not is_root:
            raise Refused(CONTENT_ID_ABSENT.at(place, expected="Content-ID: <…>"))
        self._ids.add(content_id)

    def _start_root(self, text: str, place: Where) -> None:
        self._root_seen = True
        inner = parse_content_type(text) if text else ContentType("")
        self.charset = inner.parameters.get("charset", "")
        self.action = self.action or inner.action
        if inner.media_type != XOP_XML:
            self.warnings.append(ROOT_TYPE.at(place, expected=XOP_XML, received=inner.media_type))

    def _emit(self, begin: int, end: int, events: list[Event]) -> None:
        self._size += end - begin
        limit = self._limits.root if self._in_root else self._limits.part
        if self._size > limit:
            raise Refused(PART_TOO_LARGE.at(self._where(), expected=f"≤ {limit}", received=f"> {limit}"))
        view = memoryview(self._data)[begin:end]
        if self._decoder is None:
            events.append(PartData(view))
        elif decoded := self._decoded(self._decoder.feed, view):
            events.append(PartData(decoded))

    def _end_part(self, events: list[Event]) -> None:
        if self._decoder is not None and (last := self._decoded(self._decoder.end)):
            events.append(PartData(last))
        events.append(PartEnd())

    def _decoded(self, decode: Callable[..., bytes], *data: memoryview) -> bytes:
        try:
            return decode(*data)
        except ValueError as error:
            raise Refused(CONTENT.at(self._where(), received=error)) from error

    def _content_end(self, hit: int) -> int:
        """Where the body ends before the delimiter at `hit`: its line end is not content (RFC 2046 §5.1.1)."""
        after_cr = hit > 0 and self._data[hit - 1] == 13
        if self._eol == b"\r\n":
            if not after_cr:
                self._refuse_line_ends(b"\n")
            return hit - 1
        if after_cr:
            self._refuse_line_ends(b"\r\n")
        return hit

    # Refusals

    def _where(self) -> Where:
        return Where("multipart", path=f"part[{self._number}]") if self._number else _PACKAGE

    def _refuse_delimiter(self, rest: bytes) -> NoReturn:
        expected = _shown(self._delimiter)
        raise Refused(DELIMITER.at(self._where(), expected=expected, received=expected + _shown(rest[:100])))

    def _refuse_line_ends(self, eol: bytes) -> NoReturn:
        raise Refused(LINE_ENDS.at(self._where(), expected=_EOL_NAMES[self._eol], received=_EOL_NAMES[eol]))


_PACKAGE = Where("multipart")
_EOL_NAMES = {b"\r\n": "CR LF", b"\n": "LF"}
_STEPS: Mapping[State, Callable[[Reader, list[Event]], bool]] = {
    State.START: Reader._read_start,
    State.PREAMBLE: Reader._read_preamble,
    State.DELIMITER: Reader._read_delimiter,
    State.HEADERS: Reader._read_headers,
    State.BODY: Reader._read_body,
    State.EPILOGUE: Reader._read_epilogue,
}


def _outer_warnings(outer: ContentType) -> Iterator[Finding]:
    """What the toolkit of IHE refuses and real clients send: read leniently (ITI TF-2 appendix V.8.1)."""
    declared = outer.parameters.get("type", "")
    if declared.lower() != XOP_XML:
        yield TYPE.at(_PACKAGE, expected=f'type="{XOP_XML}"', received=declared)
    info = outer.parameters.get("start-info", "")
    if info.partition(";")[0].strip().lower() != SOAP_XML:
        yield START_INFO.at(_PACKAGE, expected=f'start-info="{SOAP_XML}"', received=info)


def _read_headers(block: bytes, eol: bytes, place: Where) -> tuple[tuple[str, str], ...]:
    """Names in lower case and values of a header block; folded lines are joined (RFC 2045 §3, RFC 5322 §2.2.3)."""
    if not block:
        return ()
    headers = []
    for line in block.replace(eol + b" ", b" ").replace(eol + b"\t", b" ").split(eol):
        match = _HEADER_LINE.fullmatch(line)
        if match is None:
            raise Refused(HEADER.at(place, expected="Name: value", received=_shown(line[:100])))
        headers.append((match[1].decode("ascii").lower(), _shown(match[2].strip(_BLANK))))
    return tuple(headers)


def _single(headers: tuple[tuple[str, str], ...], name: str, place: Where) -> str:
    """The value of a header, "" when absent; two of them would be read differently by different readers."""
    values = [value for known, value in headers if known == name]
    if len(values) > 1:
        raise Refused(HEADER.at(place, expected=f"{name}: 0..1", received=" ; ".join(values)))
    return values[0] if values else ""


def _shown(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _bare(content_id: str) -> str:
    """A Content-ID without its angle brackets; some senders leave them out in `start`."""
    text = content_id.strip()
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


# --- whole packages --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """A message taken apart: envelope, attachments by Content-ID, charset and action announced outside the envelope."""

    root: bytes
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    charset: str = ""
    action: str = ""
    warnings: tuple[Finding, ...] = ()


def read_whole(content_type: str, body: bytes, limits: Limits = DEFAULT_LIMITS) -> Parts:
    """The parts of a package that is in memory; `Refused` for an illegal one."""
    reader = Reader(content_type, limits)
    root, attachments = b"", {}
    current, pieces = PartStart((), "", "", False), list[bytes | memoryview]()
    for event in (*reader.feed(body), *reader.close()):
        if isinstance(event, PartData):
            pieces.append(event.data)
        elif isinstance(event, PartStart):
            current, pieces = event, []
        elif current.is_root:
            root = b"".join(pieces)
        else:
            attachments[current.content_id] = b"".join(pieces)
    return Parts(root, attachments, reader.charset, reader.action, tuple(reader.warnings))


# --- xop:Include -----------------------------------------------------------------------------------------------------


def include(content_id: str) -> str:
    """An xop:Include of the part as text."""
    return f'<xop:Include xmlns:xop="{XOP}" href="cid:{quote(content_id, safe=_PLAIN)}"/>'


def include_href(element: Element) -> str:
    """Content-ID that an xop:Include names, URL-decoded (RFC 2392); an opaque key, never a file name.

    `Refused` unless it is a `cid:` and the only content of its parent (W3C XOP 1.0 §2.1).
    """
    href, parent = element.get("href", ""), element.getparent()
    scheme, _, address = href.partition(":")
    try:
        content_id = unquote_to_bytes(address).decode("utf-8")
    except UnicodeDecodeError:
        content_id = ""
    if scheme.lower() != "cid" or not content_id.isprintable() or not content_id:
        raise Refused(INCLUDE.at(where(element), expected="href=\"cid:…\"", received=href))
    if parent is None or text_of(parent).strip() or sum(isinstance(child.tag, str) for child in parent) != 1:
        raise Refused(INCLUDE.at(where(element), expected="<Document><xop:Include/></Document>", received="…"))
    return content_id


_PLAIN = "@!$()*+,;=:"


# --- writing ---------------------------------------------------------------------------------------------------------

Part: TypeAlias = tuple[str, bytes | Iterable[bytes], int]


def write_related(root_xml: bytes, parts: Sequence[Part], action: str) -> tuple[str, Iterator[bytes], int]:
    """Content-Type, body in pieces and its length, of a package of the envelope and (Content-ID, content, size) parts.

    The iterator raises ValueError when a content is not of the size announced: the answer must then be cut, not ended.
    """
    boundary = _new_boundary([root_xml, *(content for _, content, _ in parts if isinstance(content, bytes))])
    root_id = f"root.{boundary}@volet"
    _check_ids([content_id for content_id, _, _ in parts], action)
    whole: list[Part] = [(root_id, root_xml, len(root_xml)), *parts]
    heads = [_head(boundary, number, content_id) for number, (content_id, _, _) in enumerate(whole)]
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")
    length = sum(map(len, heads)) + sum(size for _, _, size in whole) + len(tail)
    outer = (f'multipart/related; type="{XOP_XML}"; start="<{root_id}>"; start-info="{SOAP_XML}"; '
             f'boundary="{boundary}"' + (f'; action="{action}"' if action else ""))
    return outer, _body(heads, whole, tail), length


def _body(heads: list[bytes], parts: list[Part], tail: bytes) -> Iterator[bytes]:
    for head, (content_id, content, size) in zip(heads, parts, strict=True):
        yield head
        given = 0
        for piece in (content,) if isinstance(content, bytes) else content:
            given += len(piece)
            yield piece
        if given != size:
            raise ValueError(f"part <{content_id}>: {size} bytes announced, {given} given")
    yield tail


def _head(boundary: str, number: int, content_id: str) -> bytes:
    kind = "application/octet-stream" if number else f'{XOP_XML}; charset=UTF-8; type="{SOAP_XML}"'
    before = "\r\n" if number else ""
    return (f"{before}--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: <{content_id}>\r\n\r\n").encode("ascii")


def _check_ids(content_ids: list[str], action: str) -> None:
    for text in (*content_ids, *([action] if action else [])):
        if not _CONTENT_ID.fullmatch(text) or '"' in text or "\\" in text:
            raise ValueError(f"{text!r} cannot stand in a MIME header")
    if len(set(content_ids)) != len(content_ids):
        raise ValueError("two parts of one Content-ID")


def _new_boundary(contents: list[bytes]) -> str:
    """128 random bits, drawn again in the case that never comes: they occur in a content at hand."""
    while True:
        boundary = "volet-" + secrets.token_hex(16)
        if not any(boundary.encode("ascii") in content for content in contents):
            return boundary
