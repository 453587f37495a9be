"""Content-Type headers: text -> value (RFC 2045 §5.1, RFC 7231 §3.1.1.1), lenient where real clients are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from xds.findings import Catalogue, Refused, Where

RULES = Catalogue("xds")
CONTENT_TYPE = RULES["V-MTOM-CONTENT-TYPE"]
BOUNDARY = RULES["V-MTOM-BOUNDARY"]

SOAP_XML = "application/soap+xml"
XOP_XML = "application/xop+xml"

_LONGEST = 8 * 1024
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105
_MEDIA_TYPE = re.compile(rf"[ \t]*({_TOKEN}/{_TOKEN})[ \t]*")
# An unquoted value ends at white space or a semicolon: `type=application/xop+xml` and `start=<root>` are common.
_PARAMETER = re.compile(rf''';[ \t]*(?:({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*)))?[ \t]*''')
_ESCAPED = re.compile(r"\\(.)")
# RFC 2046 §5.1.1 allows fewer signs; what is printable and cannot end a line does no harm.
_LAWFUL_BOUNDARY = re.compile(r"[ -~]{0,69}[!-~]")


@dataclass(frozen=True, slots=True)
class ContentType:
    """Media type and parameter names in lower case, values as written."""

    media_type: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def action(self) -> str:
        """The `action` parameter of SOAP 1.2, also where CXF puts it (inside start-info or type); "" when absent."""
        if "action" in self.parameters:
            return self.parameters["action"]
        for name in ("start-info", "type"):
            inner = self.parameters.get(name, "")
            if ";" in inner:
                return parse_content_type(inner).parameters.get("action", "")
        return ""

    def boundary(self) -> bytes:
        """The boundary; `Refused` when it is missing or against RFC 2046 §5.1.1 (1 to 70 printable signs)."""
        text = self.parameters.get("boundary", "")
        if not _LAWFUL_BOUNDARY.fullmatch(text):
            raise Refused(BOUNDARY.at(Where("Content-Type"), expected="boundary=\"…\" (1–70)", received=text))
        return text.encode("ascii")


def parse_content_type(text: str) -> ContentType:
    """Media type and parameters in any order, quoted or not; `Refused` when unreadable or when one stands twice."""
    start = _MEDIA_TYPE.match(text)
    if start is None or len(text) > _LONGEST or not text.replace("\t", " ").isprintable():
        raise _refused(text)
    parameters: dict[str, str] = {}
    at = start.end()
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None:
            raise _refused(text)
        name, quoted, plain = (match[1] or "").lower(), match[2], match[3]
        if name in parameters:
            raise _refused(text)
        if name:
            parameters[name] = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
        at = match.end()
    return ContentType(start[1].lower(), parameters)


def _refused(text: str) -> Refused:
    return Refused(CONTENT_TYPE.at(Where("Content-Type"), expected='type/subtype; name="value"', received=text))
