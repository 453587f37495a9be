"""Distinguished names as texts (RFC 4514) and as sets of pairs, the only form in which they may be compared.

The same subject is written in many ways: the parts of a multi-valued RDN have no order, tools disagree on the
direction, on names of attributes, on hexadecimal values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cryptography import x509
from cryptography.x509.oid import NameOID

Pairs = frozenset[tuple[str, str]]

MAX_LENGTH = 1000

#: CI-SIS wants GN and ST; the rest is RFC 4514 §3
_WRITTEN = {NameOID.GIVEN_NAME: "GN", NameOID.SURNAME: "SN", NameOID.TITLE: "title",
            NameOID.SERIAL_NUMBER: "serialNumber"}
_OIDS = {
    "CN": "2.5.4.3", "SN": "2.5.4.4", "SURNAME": "2.5.4.4", "SERIALNUMBER": "2.5.4.5", "C": "2.5.4.6", "L": "2.5.4.7",
    "ST": "2.5.4.8", "S": "2.5.4.8", "STREET": "2.5.4.9", "O": "2.5.4.10", "OU": "2.5.4.11", "T": "2.5.4.12",
    "TITLE": "2.5.4.12", "GN": "2.5.4.42", "G": "2.5.4.42", "GIVENNAME": "2.5.4.42", "DC": "0.9.2342.19200300.100.1.25",
    "UID": "0.9.2342.19200300.100.1.1", "E": "1.2.840.113549.1.9.1", "EMAILADDRESS": "1.2.840.113549.1.9.1",
}
_CHARSETS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
_PART = re.compile(r'''((?:[^\\,;+"]|\\.|"[^"]*")*)([,;+]|\Z)''', re.DOTALL)
_ESCAPED = re.compile(r"((?:\\[0-9A-Fa-f]{2})+)|\\(.)", re.DOTALL)


def write_name(name: x509.Name) -> str:
    """The name as RFC 4514 text, with the attribute names of the CI-SIS."""
    return name.rfc4514_string(_WRITTEN)


def pairs_of(name: x509.Name) -> Pairs:
    """(OID, folded value) of every attribute of a certificate's name."""
    return frozenset((attribute.oid.dotted_string, _fold(_text(attribute.value))) for attribute in name)


def read_name(text: str) -> Pairs | None:
    """The same of a text; None when it is no distinguished name."""
    if not text.strip() or len(text) > MAX_LENGTH:
        return None
    pairs = set()
    for part in _parts(text):
        key, equals, value = part.partition("=")
        if not equals:
            return None
        key = key.strip().upper().removeprefix("OID.")
        pairs.add((_OIDS.get(key, key), _fold(_value(value))))
    return frozenset(pairs)


def _parts(text: str) -> Iterator[str]:
    """Pieces between unescaped separators; a lone backslash or quote ends them."""
    position, separator = 0, ","
    while separator:
        match = _PART.match(text, position)
        piece, separator = match.groups() if match else (text[position:], "")
        yield piece
        position += len(piece) + 1


def _value(text: str) -> str:
    bare = text.strip()
    if bare.startswith("#"):
        return _hexadecimal(bare[1:])
    if len(bare) > 1 and bare[0] == bare[-1] == '"':  # RFC 1779 quotes, as .NET writes them
        return bare[1:-1]
    return _ESCAPED.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    if match.group(1):
        return bytes.fromhex(match.group(1).replace("\\", "")).decode("utf-8", "replace")
    return match.group(2)


def _hexadecimal(digits: str) -> str:
    """RFC 4514 §2.4: the DER of the value; short strings only."""
    try:
        der = bytes.fromhex(digits)
        return der[2:].decode(_CHARSETS[der[0]]) if len(der) == der[1] + 2 else digits
    except (ValueError, KeyError, IndexError):
        return digits


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _fold(value: str) -> str:
    """X.520 caseIgnoreMatch: case and runs of blanks do not count."""
    return " ".join(value.split()).casefold()
