"""Formats of metadata attributes by name: each check takes a value and returns what was expected, "" when it is right.

The names are those of the `format` column of `requirements.csv`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from xds import hl7, rim
from xds.rim import Classification, Localized
from xds.vocabulary import ASSOCIATION_TYPES, OFFLINE, ON_DEMAND, ONLINE, STABLE

_MIME = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}")
_SHA1 = re.compile(r"[0-9A-Fa-f]{40}")
_SIZE = re.compile(r"[0-9]{1,18}")
MAX_MIME = 100  # characters: the column
MAX_NAME = 256  # characters of a code: rim.xsd LongName
MAX_PATTERN = 256  # characters of a LIKE pattern
_HOME = re.compile(r"urn:oid:(.{1,64})")
_AUTHOR_SLOTS: dict[str, type[hl7.XCN] | type[hl7.XON] | type[hl7.XTN]] = {
    "authorPerson": hl7.XCN, "authorInstitution": hl7.XON, "authorTelecommunication": hl7.XTN}
_RECIPIENT: tuple[type[hl7.XON] | type[hl7.XCN] | type[hl7.XTN], ...] = (hl7.XON, hl7.XCN, hl7.XTN)


def check(name: str, value: object) -> str:
    """What the format of that name expected of the value; "" when it is right."""
    return CHECKS[name](value)


def _pattern(pattern: re.Pattern[str], expected: str) -> Callable[[str], str]:
    return lambda value: "" if pattern.fullmatch(value) else expected


def _one_of(allowed: frozenset[str]) -> Callable[[str], str]:
    return lambda value: "" if value in allowed else " | ".join(sorted(allowed))


def _type(parse: Callable[[str], object], expected: str) -> Callable[[str], str]:
    def checked(value: str) -> str:
        try:
            parse(value)
        except ValueError as error:
            return f"{expected} ({error})"
        return ""

    return checked


def _patient_id(value: str) -> str:
    """A CX with id and authority OID; a fifth component (type) is profile data and let through."""
    try:
        parsed = hl7.CX.parse(value)
    except ValueError as error:
        return f"id^^^&OID&ISO ({error})"
    right = parsed.id and parsed.authority.universal_id_type == "ISO" and hl7.is_oid(parsed.authority.universal_id)
    return "" if right else "id^^^&OID&ISO"


def _unique_id(value: str) -> str:
    """OID of at most 64 characters, or OID^extension with an extension of at most 16 (ITI TF-3 §4.2.3.2.31)."""
    oid, separator, extension = value.partition("^")
    right = hl7.is_oid(oid) and len(extension) <= 16 and "^" not in extension and bool(extension) == bool(separator)
    return "" if right else "OID (≤ 64) | OID^extension (≤ 16)"


def _identity(value: str) -> str:
    if rim.is_uuid_urn(value):
        return "" if hl7.is_uuid(value) else "urn:uuid:xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
    return "" if 0 < len(value) <= 256 else "UUID (urn:uuid:…) | symbolic id"


def _mime(value: str) -> str:
    return "" if len(value) <= MAX_MIME and _MIME.fullmatch(value) else f"type/subtype (≤ {MAX_MIME})"


def _home(value: str) -> str:
    match = _HOME.fullmatch(value)
    return "" if match and hl7.is_oid(match.group(1)) else "urn:oid:…"


def _code(item: Classification) -> str:
    """A code needs nodeRepresentation, one codingScheme and a display name (ITI TF-3 §4.2.3.1.2)."""
    schemes = item.slot("codingScheme")
    if not 0 < len(item.node_representation) <= MAX_NAME:
        return f"nodeRepresentation = code (≤ {MAX_NAME})"
    if len(schemes) != 1 or not schemes[0]:
        return "Slot codingScheme = 1 value"
    return "" if item.name and item.name[0].value else "Name = display name"


def _author(item: Classification) -> str:
    """At least one of person, institution, telecommunication; one person at most; each in its HL7 form."""
    if not any(item.slot(name) for name in _AUTHOR_SLOTS):
        return "authorPerson | authorInstitution | authorTelecommunication"
    if len(item.slot("authorPerson")) > 1:
        return "authorPerson = 0..1"
    for name, kind in _AUTHOR_SLOTS.items():
        for value in item.slot(name):
            expected = _type(kind.parse, f"{name}: {kind.__name__}")(value)
            if expected:
                return expected
    return ""


def _pid(value: str) -> str:
    """`PID-n|…`; PID-2, 4, 12 and 19 are forbidden (ITI TF-3 §4.2.3.2.22)."""
    match = re.fullmatch(r"PID-([0-9]{1,2})\|(.{0,2000})", value, re.DOTALL)
    return "" if match and match.group(1) not in {"2", "4", "12", "19"} else "PID-3|… PID-5|… PID-7|… PID-8|… PID-11|…"


def _recipient(value: str) -> str:
    """XON|XCN|XTN, at least one of them (ITI TF-3 §4.2.3.3.7)."""
    parts = value.split("|")
    if len(parts) > len(_RECIPIENT) or not any(parts):
        return "XON|XCN|XTN"
    wrong = (_type(kind.parse, f"{kind.__name__} in XON|XCN|XTN")(part)
             for kind, part in zip(_RECIPIENT, parts, strict=False) if part)
    return next(filter(None, wrong), "")


def _title(item: Localized) -> str:
    return "" if len(item.value) <= 255 else "≤ 255"


CHECKS: dict[str, Callable[..., str]] = {
    "any": lambda _value: "",
    "text": lambda _value: "",
    "title": _title,
    "id": _identity,
    "home": _home,
    "mime": _mime,
    "language": _pattern(_LANGUAGE, "RFC 5646 (fr-FR)"),
    "sha1": _pattern(_SHA1, "SHA-1: 40 × [0-9a-f]"),
    "size": _pattern(_SIZE, "[0-9]+"),
    "oid": lambda value: "" if hl7.is_oid(value) else "OID (≤ 64)",
    "dtm": _type(hl7.DTM.parse, "YYYY[MM[DD[hh[mm[ss]]]]]"),
    "cx": _patient_id,
    "cxi": _type(hl7.CXi.parse, "id^^^&OID&ISO^type"),
    "xcn": _type(hl7.XCN.parse, "XCN"),
    "pid": _pid,
    "recipient": _recipient,
    "unique_id": _unique_id,
    "code": _code,
    "author": _author,
    "object_type": _one_of(frozenset({STABLE, ON_DEMAND})),
    "association_type": _one_of(ASSOCIATION_TYPES),
    "availability": _one_of(frozenset({ONLINE, OFFLINE})),
    "membership": _one_of(frozenset({"Original", "Reference"})),
}
