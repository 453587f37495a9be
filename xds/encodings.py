"""Content-Transfer-Encodings undone piece by piece (RFC 2045 §6); ValueError says what is wrong with the content."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from typing import Protocol

_WHITE = b" \t\r\n"
_LONGEST_LINE = 4096  # bytes; RFC 2045 §6.7 allows 76
_QUOTED = re.compile(rb"(?:[\t -<>-~]|=[0-9A-Fa-f]{2})*")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")


class Decoder(Protocol):
    """Takes a part's bytes as they come."""

    def feed(self, data: bytes | memoryview) -> bytes:
        """What the bytes so far decode to and was not given out yet."""

    def end(self) -> bytes:
        """The rest; ValueError when the content stops in its middle."""


class Base64:
    """Strict alphabet and padding; white space is layout."""

    def __init__(self) -> None:
        """Start at a group of four."""
        self._rest = b""
        self._padded = False

    def feed(self, data: bytes | memoryview) -> bytes:
        """Decode the whole groups of four."""
        text = self._rest + bytes(data).translate(None, _WHITE)
        if self._padded and text:
            raise ValueError("base64 goes on after its padding")
        cut = len(text) - len(text) % 4
        self._rest = text[cut:]
        self._padded = text.endswith(b"=", 0, cut)
        return binascii.a2b_base64(text[:cut], strict_mode=True) if cut else b""

    def end(self) -> bytes:
        """Nothing; ValueError when a group is incomplete."""
        if self._rest:
            raise ValueError("base64 stops in the middle of a group of four")
        return b""


class QuotedPrintable:
    """Line by line: white space at the end of a line is layout, `=` there joins it to the next."""

    def __init__(self) -> None:
        """Start at a line."""
        self._rest = b""

    def feed(self, data: bytes | memoryview) -> bytes:
        """Decode the whole lines."""
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise ValueError(f"a quoted-printable line of more than {_LONGEST_LINE} bytes (76 allowed)")
        return b"".join(_line(line, b"\n") for line in lines)

    def end(self) -> bytes:
        """Decode the last line."""
        return _line(self._rest, b"")


def _line(line: bytes, eol: bytes) -> bytes:
    if line.endswith(b"\r"):
        line, eol = line[:-1], b"\r" + eol
    line = line.rstrip(b" \t")
    if line.endswith(b"="):
        line, eol = line[:-1], b""
    if len(line) > _LONGEST_LINE or not _QUOTED.fullmatch(line):
        raise ValueError("quoted-printable with a sign that is none, or a line too long")
    return _HEX.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), line) + eol


def decode_base64(text: str) -> bytes:
    """Bytes of a whole xs:base64Binary, line breaks allowed; ValueError for anything else."""
    decoder = Base64()
    return decoder.feed(text.encode("ascii")) + decoder.end()


#: Decoder of each Content-Transfer-Encoding; the first three leave the bytes alone
DECODERS: Mapping[str, Callable[[], Decoder | None]] = {
    "7bit": lambda: None, "8bit": lambda: None, "binary": lambda: None,
    "base64": Base64, "quoted-printable": QuotedPrintable,
}
