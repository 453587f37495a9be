"""The one XML reader of the house: hardened, reused, with places.

No entity, no DTD, no network, bounded depth and text (libxml2's own limits); encodings by allow-list.
One parser per thread: a parser may be reused, not shared.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import TypeAlias
from xml.parsers import expat

from lxml import etree

from xds.findings import Catalogue, Finding, Refused, Where

RULES = Catalogue("xds")
NOT_XML = RULES["V-XML-NOT-WELL-FORMED"]
DOCTYPE = RULES["V-XML-DOCTYPE"]
ENCODING = RULES["V-XML-ENCODING"]
TOO_LARGE = RULES["V-XML-TOO-LARGE"]
LIMIT = RULES["V-XML-LIMIT"]

Element: TypeAlias = etree._Element

MAX_BYTES = 32 * 1024 * 1024
ENCODINGS = frozenset({"UTF-8", "UTF8", "UTF-16", "UTF-16LE", "UTF-16BE", "US-ASCII", "ASCII",
                       "ISO-8859-1", "ISO-8859-15", "WINDOWS-1252"})

_DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_LIMITS = ("XML_PARSE_HUGE", "amplification", "depth")  # how libxml2 says that a limit of its own was met
_local = threading.local()


def parse(data: bytes, part: str = "", max_bytes: int = MAX_BYTES, charset: str = "") -> Element:
    """Root element of the bytes; `Refused` when not well-formed, too large, with a DOCTYPE or an odd encoding.

    `part` names the piece of the message in findings ("envelope", "document …"); `charset` is that of the Content-Type,
    which outweighs the XML declaration and yields to a byte order mark (RFC 7303 §3).
    """
    if len(data) > max_bytes:
        raise Refused(TOO_LARGE.at(Where(part), expected=f"≤ {max_bytes}", received=len(data)))
    _check_encoding(data, part, charset)
    try:
        root = etree.fromstring(data, _parser("" if data.startswith(_MARKS) else charset.upper()))
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise Refused(_not_well_formed(error, part)) from error
    _check_name(root.getroottree().docinfo.encoding or "UTF-8", part)  # what libxml2 made of it
    if root.getroottree().docinfo.doctype:
        # An entity could stand for anything; no message or document of this field needs one.
        raise Refused(DOCTYPE.at(Where(part, line=1, column=1), received=root.getroottree().docinfo.doctype))
    return root


def local_name(element: Element) -> str:
    """Name without namespace; empty for comments and processing instructions."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def text_of(element: Element) -> str:
    """The element's text with comments and processing instructions passed over, as canonical XML has it."""
    if len(element) == 0:
        return element.text or ""
    return (element.text or "") + "".join(child.tail or "" for child in element)


def value_of(element: Element) -> str:
    """The element's text without the white space of layout around it; a no-break space is content."""
    return text_of(element).strip(" \t\r\n")


def path_of(element: Element) -> str:
    """Readable path: `/Envelope/Body/…/Slot[3]`, positions among same-named siblings, prefixes left out."""
    steps: list[str] = []
    node: Element | None = element
    while node is not None and isinstance(node.tag, str):
        parent: Element | None = node.getparent()
        twins = [] if parent is None else [sibling for sibling in parent if sibling.tag == node.tag]
        position = f"[{twins.index(node) + 1}]" if len(twins) > 1 else ""
        steps.append(local_name(node) + position)
        node = parent
    return "/" + "/".join(reversed(steps))


def where(element: Element, part: str = "", path: str = "") -> Where:
    """Place of an element: line as libxml2 counted it, and a path."""
    return Where(part, line=element.sourceline or 0, path=path or path_of(element))


def columns(data: bytes, elements: Iterable[Element]) -> dict[Element, tuple[int, int]]:
    """Exact (line, column), from 1, of elements parsed from these very bytes.

    libxml2 keeps no column: the n-th start tag in document order is looked up with expat. Only worth its time
    when there is something to report.
    """
    wanted = set(elements)
    if not wanted:
        return {}
    root = next(iter(wanted)).getroottree().getroot()
    ordinals = {n: node for n, node in enumerate(root.iter(etree.Element)) if node in wanted}
    found: dict[Element, tuple[int, int]] = {}
    reader, count = expat.ParserCreate(), -1

    def start(_name: str, _attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count in ordinals:
            found[ordinals[count]] = (reader.CurrentLineNumber, reader.CurrentColumnNumber + 1)

    reader.StartElementHandler = start
    reader.Parse(data, True)
    return found


def escape(text: str) -> str:
    """Text ready for element content or a double-quoted attribute (line ends kept by character references)."""
    if not _SPECIAL.search(text):
        return text
    return _SPECIAL.sub(lambda match: _ENTITIES[match.group()], text)


def clean(text: str) -> str:
    """Text of any origin escaped; what cannot stand in XML becomes a blank."""
    return escape(_UNLAWFUL.sub(" ", text))


_UNLAWFUL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_SPECIAL = re.compile("[&<>\"\r\n\t]|[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


class _Entities(dict[str, str]):
    def __missing__(self, key: str) -> str:
        raise ValueError(f"character U+{ord(key):04X} cannot stand in XML")


_ENTITIES = _Entities({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;",
                       "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})


def _parser(charset: str) -> etree.XMLParser:
    known: dict[str, etree.XMLParser] | None = getattr(_local, "parsers", None)
    if known is None:
        known = _local.parsers = {}
    if charset not in known:
        known[charset] = etree.XMLParser(
            encoding=charset or None, resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False,
            attribute_defaults=False, huge_tree=False, recover=False, remove_blank_text=False)
    return known[charset]


def _check_encoding(data: bytes, part: str, charset: str) -> None:
    """The charset of the Content-Type and the declaration, both before the parser meets them."""
    if charset:
        _check_name(charset, part)
    declared = _DECLARED.match(data[:200].removeprefix(b"\xef\xbb\xbf"))
    if declared:
        _check_name(declared.group(1).decode("ascii"), part)


def _check_name(encoding: str, part: str) -> None:
    if encoding.upper() not in ENCODINGS:
        raise Refused(ENCODING.at(Where(part, line=1, column=1), expected="UTF-8", received=encoding))


def _not_well_formed(error: Exception, part: str) -> Finding:
    line, column = getattr(error, "position", (0, 0)) or (0, 0)
    text = getattr(error, "msg", "") or str(error)
    rule = LIMIT if any(sign in text for sign in _LIMITS) else NOT_XML
    return rule.at(Where(part, line=line or 0, column=column or 0), received=text)
