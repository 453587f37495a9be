"""Addresses that others give us to call: only such as the operator allows, by scheme, host, port and path.

Strict rather than clever: what two readers of URLs might read differently (user names, backslashes, dots in segments,
escaped slashes, fragments) is no address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

_URL = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?"
                  r"(/[a-z0-9._~!$&'()*+,;=:@/%-]*)?(\?[a-z0-9._~!$&'()*+,;=:@/?%-]*)?", re.IGNORECASE)
_ESCAPES = re.compile(r"%(?![0-9a-f]{2})|%(?:2f|5c|0[0-9a-f]|1[0-9a-f]|7f)", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
MAX_LENGTH = 2048  # characters


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart; `origin` is scheme, host and port as one text."""

    origin: str
    path: str
    has_query: bool


def parse(text: str) -> Address | None:
    """An http or https URL without anything doubtful in it; None for any other text."""
    match = _URL.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        return None
    scheme, host, port, path, query = match.groups()
    number = int(port or _PORTS[scheme.lower()])
    dots = any(unquote(segment) in {".", ".."} for segment in (path or "").split("/"))
    if not 0 < number < 65536 or dots or ".." in host or _ESCAPES.search(path or ""):
        return None
    return Address(f"{scheme.lower()}://{host.lower()}:{number}", path or "/", query is not None)


@dataclass(frozen=True, slots=True)
class AllowList:
    """What the operator allows: each prefix is an origin and a path, whole segments of which must be the same."""

    prefixes: tuple[Address, ...] = ()

    @classmethod
    def of(cls, prefixes: Iterable[str]) -> AllowList:
        """Of URL prefixes; ValueError for what is none."""
        return cls(tuple(map(_prefix, prefixes)))

    def allows(self, text: str) -> bool:
        """Whether an address may be called."""
        address = parse(text)
        return address is not None and any(
            address.origin == prefix.origin and _is_below(address.path, prefix.path) for prefix in self.prefixes)


def origin_of(text: str) -> str:
    """Scheme, host and port of an address that was allowed."""
    address = parse(text)
    return address.origin if address else ""


def _prefix(text: str) -> Address:
    address = parse(text)
    if address is None or address.has_query:
        raise ValueError(f"{text}: http(s)://HOST[:PORT][/PATH] is expected")
    return address


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")
