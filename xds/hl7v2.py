"""Patient identities in HL7 v2: ADT bytes -> values -> ACK bytes (ITI TF-2 §3.8, §3.64, appendix C; v2.3.1 and later).

Of a message only MSH, PID and MRG are looked at; the library `hl7` takes a segment apart, once it is known to be small.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import hl7

from xds import feed
from xds.feed import Feed, LinkChange, Merge, Told
from xds.findings import Catalogue, Finding, Refused, Rule, Severity, Where, errors
from xds.hl7 import DTM, is_oid

RULES = Catalogue("xds")
TOO_LARGE = RULES["V-V2-TOO-LARGE"]
MESSAGE = RULES["V-V2-MESSAGE"]
CHARSET = RULES["V-V2-CHARSET"]
FIELD = RULES["V-V2-FIELD"]
VERSION = RULES["V-V2-VERSION"]
EVENT = RULES["V-V2-EVENT"]
SEGMENT = RULES["V-V2-SEGMENT"]
ESCAPE = RULES["V-V2-ESCAPE"]

MAX_BYTES = 1024 * 1024
EVENTS = ("A01", "A04", "A05", "A08")  # admit, register, pre-admit, update: ITI TF-2 §3.8.4.1.1
MERGE, MOVE = "A40", "A43"  # ITI TF-2 §3.8.4.2.1, §3.64.4.1.2
SERVED = (*EVENTS, MERGE, MOVE)
SIGNS = "|^~\\&"

_LONGEST_HEADER, _LONGEST_SEGMENT = 4096, 16 * 1024  # bytes, characters
_PART = "HL7 v2"
_VERSION = re.compile(r"2\.(?:3|3\.1|4|5|5\.1|6|7|7\.1|8|8\.1|8\.2|9)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_PLACE = re.compile("([A-Z][A-Z0-9]{2})(?:-([0-9]{1,2}))?")
_SIGNS = re.compile(r"[!-/:-@\[-`{-~]{5}")  # ASCII punctuation

#: Table 0211, and how it is misspelt in the field, -> Python's name; "" is not told
_CHARSETS = {"": "", "ASCII": "ascii", "8859/1": "iso-8859-1", "8859/15": "iso-8859-15", "UNICODE UTF-8": "utf-8",
             "ISO-8859-1": "iso-8859-1", "ISO-8859-15": "iso-8859-15", "UTF-8": "utf-8", "UTF8": "utf-8"}


@dataclass(frozen=True, slots=True)
class Header:
    """MSH as far as it could be read, raw texts of its fields; `signs` are the message's own separators."""

    sending_application: str = ""
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    type: str = ""
    event: str = ""
    control_id: str = ""
    processing: str = ""
    version: str = ""
    charset: str = ""
    signs: str = SIGNS
    is_read: bool = False

    @property
    def name(self) -> str:
        """Type and event, "ADT^A01"."""
        return f"{self.type}^{self.event}" if self.type else ""


# --- reading -------------------------------------------------------------------------------------------------------


def read_header(data: bytes) -> Header:
    """What an answer repeats of a message, however broken the rest is; an empty Header where there is no MSH."""
    line, *rest = re.split(rb"[\r\n]", data[:_LONGEST_HEADER].lstrip(b"\r\n "), maxsplit=1)
    return _read_msh(line.decode("latin-1")) if rest or len(data) < _LONGEST_HEADER else Header()


def _read_msh(line: str) -> Header:
    end = line.find(line[3], 4) if line.startswith("MSH") and len(line) > 4 else -1
    signs = line[3:8]
    # v2.7 adds a sign for what is cut off; it is left alone
    if end not in (8, 9) or not _SIGNS.fullmatch(signs) or len(set(signs)) < len(signs):
        return Header()
    fields = _recode(line[end + 1:], signs).split(signs[0])
    at = dict(enumerate((_CONTROL.sub(" ", field) for field in fields), 3))
    kind, event, *_ = (*at.get(9, "").split(signs[1]), "", "")
    return Header(at.get(3, ""), at.get(4, ""), at.get(5, ""), at.get(6, ""), kind, event,
                  at.get(10, ""), at.get(11, ""), at.get(12, "").split(signs[1])[0],
                  _charset_of(at, signs), signs, is_read=True)


def _recode(line: str, signs: str) -> str:
    """The line in its own character set, as far as that is known; separators are ASCII in each of them."""
    told = _charset_of(dict(enumerate(line.split(signs[0]), 3)), signs)
    return line.encode("latin-1").decode(_CHARSETS.get(told) or "utf-8", "replace")


def _charset_of(fields: dict[int, str], signs: str) -> str:
    return fields.get(18, "").split(signs[2])[0].strip().upper()


def read_feed(data: bytes) -> Feed:
    """What an ADT^A01, A04, A05 or A08 tells of its patient; Refused for anything else."""
    (pid,) = _segments(data, EVENTS, "PID")
    return _read_pid(pid)


def read_merge(data: bytes) -> Merge:
    """The identifiers of an ADT^A40: PID-3 survives, MRG-1 is subsumed (ITI TF-2 §3.8.4.2.2.4)."""
    pid, mrg = _segments(data, (MERGE,), "PID", "MRG")
    return feed.make_merge(_identifiers(pid, 3), _identifiers(mrg, 1), (_where("PID-3"), _where("MRG-1")))


def read_link_change(data: bytes) -> LinkChange:
    """The identifiers of an ADT^A43, by their order (ITI TF-2 §3.64.4.1.2.3, §3.64.4.1.2.4)."""
    pid, mrg = _segments(data, (MOVE,), "PID", "MRG")
    told, ended = _identifiers(pid, 3), _identifiers(mrg, 1)
    wrong = [item for item in (*told, *ended) if isinstance(item, Finding)]
    for field, found, most in (("PID-3", told, (2,)), ("MRG-1", ended, (1, 2))):
        if not wrong and len(found) not in most:
            wrong.append(SEGMENT.at(_where(field), expected=" | ".join(map(str, most)), received=len(found),
                                    segment=field))
    if wrong:
        raise Refused(wrong)
    header = read_header(data)
    sender = next((part for part in header.sending_application.split(header.signs[1]) if is_oid(part)), "")
    new, local, previous, subsumed, *_ = (*map(str, (*told, *ended)), "")
    return LinkChange(new, previous, local, "" if subsumed == local else subsumed, sender)


def _segments(data: bytes, events: Sequence[str], *names: str) -> list[_Segment]:
    """Those segments of a message of one of the events, each there once; Refused for any other message."""
    if len(data) > MAX_BYTES:
        raise Refused(TOO_LARGE.at(Where(_PART), expected=f"≤ {MAX_BYTES}", received=len(data)))
    header = read_header(data)
    _check_header(header, data, events)
    text, start = _decode(data, header), f"MSH{header.signs}{header.signs[0]}\r"
    lines = [_line(text, header.signs[0], name) for name in names]
    return [_Segment(name, hl7.parse(start + line)[1], header.signs, _codec(header))
            for name, line in zip(names, lines, strict=True)]


def _check_header(header: Header, data: bytes, events: Sequence[str]) -> None:
    """Every reason in the header why the message is not served here."""
    if not header.is_read:
        raise Refused(MESSAGE.at(Where(_PART, line=1), expected=f"MSH{SIGNS}|", received=data[:20].decode("latin-1")))
    findings = []
    if not header.control_id.strip():
        findings.append(FIELD.at(_where("MSH-10"), expected="1–199", received=header.control_id, field="MSH-10"))
    if not _VERSION.fullmatch(header.version):
        findings.append(VERSION.at(_where("MSH-12"), expected="2.3.1 … 2.9", received=header.version))
    if header.type != "ADT" or header.event not in events:
        findings.append(EVENT.at(_where("MSH-9"), expected=" | ".join(f"ADT^{event}" for event in SERVED),
                                 received=header.name or "—"))
    if findings:
        raise Refused(findings)


def _decode(data: bytes, header: Header) -> str:
    """Text of the message by MSH-18; where that is empty, UTF-8 if it is UTF-8, else ISO 8859-1."""
    if header.charset not in _CHARSETS:
        raise Refused(CHARSET.at(_where("MSH-18"), expected="8859/1 | 8859/15 | UNICODE UTF-8",
                                 received=header.charset))
    try:
        return data.decode(_codec(header))
    except UnicodeDecodeError as error:
        if not header.charset:
            return data.decode("latin-1")
        raise Refused(CHARSET.at(_where("MSH-18"), expected=header.charset, received=f"{header.charset} ({error})")
                      ) from error


def _codec(header: Header) -> str:
    return _CHARSETS.get(header.charset) or "utf-8"


def _line(text: str, separator: str, name: str) -> str:
    found = [line for line in re.split("[\r\n]", text) if line.startswith(f"{name}{separator}")]
    if len(found) != 1:
        raise Refused(SEGMENT.at(_where(name), expected=1, received=len(found), segment=name))
    if len(found[0]) > _LONGEST_SEGMENT:
        raise Refused(SEGMENT.at(_where(name), expected=f"≤ {_LONGEST_SEGMENT}", received=len(found[0]), segment=name))
    return found[0]


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment taken apart, and what its texts are made of."""

    name: str
    segment: Any
    signs: str
    codec: str

    def repetitions(self, number: int) -> list[Any]:
        """Those of a field; [] when it is absent."""
        return list(self.segment[number]) if number < len(self.segment) else []

    def text(self, number: int, repetition: Any, component: int, subcomponent: int = 1) -> str:
        """A subcomponent, escapes resolved; "" when it is absent or told to be none ('""')."""
        parts = _parts(_nth(_parts(repetition), component))
        text = self._unescape(_nth(parts, subcomponent), number).strip()
        return "" if text == '""' else text

    def _unescape(self, text: str, number: int) -> str:
        pieces, known = text.split(self.signs[3]), dict(zip("FSRET", self.signs, strict=True))
        for index in range(1, len(pieces), 2):
            resolved = known.get(pieces[index])
            if resolved is None:
                resolved = self._special(pieces[index])
            if resolved is None or index == len(pieces) - 1:
                place = f"{self.name}-{number}"
                raise Refused(ESCAPE.at(_where(place), expected="F S T R E Xhh .br H N",
                                        received=text, field=place))
            pieces[index] = resolved
        return "".join(pieces)

    def _special(self, sequence: str) -> str | None:
        """Line breaks and highlighting, which a name has no use for, and bytes in hexadecimal; None for others."""
        if sequence in {"H", "N", ".br"}:
            return " " if sequence == ".br" else ""
        if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", sequence):
            return bytes.fromhex(sequence[1:]).decode(self.codec, "replace")
        return None


def _parts(holder: Any) -> list[Any]:
    """What a container of the library holds; a text without separators stands for itself."""
    return list(holder) if isinstance(holder, hl7.Container) else [holder]


def _nth(items: Sequence[Any], number: int) -> Any:
    return items[number - 1] if number <= len(items) else ""


def _read_pid(pid: _Segment) -> Feed:
    """PID-3 identifiers, PID-5 name, PID-7 birth, PID-8 sex (ITI TF-2 table 3.8-2)."""
    identifiers = _identifiers(pid, 3)
    names = pid.repetitions(5)
    # the legal name (XPN.7 = L), else the first
    name = next((item for item in names if pid.text(5, item, 7) == "L"), _nth(names, 1))
    return feed.make(
        identifiers, Told(pid.text(5, name, 1), _where("PID-5")), Told(pid.text(5, name, 2), _where("PID-5")),
        Told(pid.text(7, _nth(pid.repetitions(7), 1), 1), _where("PID-7")),
        Told(pid.text(8, _nth(pid.repetitions(8), 1), 1), _where("PID-8")), where=_where("PID-3"))


def _identifiers(segment: _Segment, number: int) -> list[str | Finding]:
    """CX of each repetition of a field that is not empty, or what is wrong with it."""
    found, place = segment.repetitions(number), f"{segment.name}-{number}"
    if len(found) > feed.MOST_IDS:
        raise Refused(SEGMENT.at(_where(place), expected=f"≤ {feed.MOST_IDS}", received=len(found), segment=place))
    return [read for item in found if (read := _identifier(segment, number, item)) is not None]


def _identifier(segment: _Segment, number: int, repetition: Any) -> str | Finding | None:
    value, namespace = segment.text(number, repetition, 1), segment.text(number, repetition, 4, 1)
    root, kind = segment.text(number, repetition, 4, 2), segment.text(number, repetition, 4, 3)
    if not (value or namespace or root):
        return None
    if kind != "ISO":  # what is found then shows the whole authority
        root = "&".join((namespace, root, kind)).rstrip("&")
    return feed.identifier(value, root, _where(f"{segment.name}-{number}"))


def _where(path: str) -> Where:
    return Where(_PART, path=path)


# --- writing -------------------------------------------------------------------------------------------------------

#: HL7 table 0357; what is not here is 207
_CONDITIONS: dict[Rule, tuple[str, str]] = {
    SEGMENT: ("100", "Segment sequence error"), FIELD: ("101", "Required field missing"),
    feed.IDENTIFIER_ABSENT: ("101", "Required field missing"), feed.IDENTIFIER: ("102", "Data type error"),
    feed.NAME: ("102", "Data type error"), feed.BIRTH_DATE: ("102", "Data type error"),
    feed.SEX: ("103", "Table value not found"), ESCAPE: ("102", "Data type error"),
    CHARSET: ("103", "Table value not found"), EVENT: ("201", "Unsupported event code"),
    VERSION: ("203", "Unsupported version id"), feed.AUTHORITY: ("204", "Unknown key identifier")}
_NAMES = {**dict(_CONDITIONS.values()), "205": "Duplicate key identifier", "207": "Application internal error"}
_SEVERITIES = {Severity.ERROR: "E", Severity.WARNING: "W", Severity.INFO: "I"}


def write_ack(header: Header, findings: Sequence[Finding], at: datetime, control_id: str) -> bytes:
    """The answer: AA, or AE with an error among the findings, each told in ERR (ITI TF-2 appendix C.2.3).

    Separators, version and character set are the message's own; `at` has its zone. Before v2.5 ERR has no room for
    warnings, so that an AA of those versions has none.
    """
    refused = bool(errors(findings))
    answer = _Answer(header.signs, header.version if _VERSION.fullmatch(header.version) else "2.5")
    charset = header.charset if _CHARSETS.get(header.charset) else "UNICODE UTF-8"
    segments = [answer.msh(header, DTM.of(at).text, control_id, charset),
                answer.join("MSA", "AE" if refused else "AA", header.control_id,
                            answer.text(_summary(errors(findings))) if refused else "")]
    if refused or answer.is_rich:
        segments += map(answer.err, findings)
    return "".join(segment + "\r" for segment in segments).encode(_CHARSETS[charset], "replace")


def _summary(findings: Sequence[Finding]) -> str:
    first = findings[0]
    return f"[{first.code}] {first.fr} — {first.en}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """How segments are put together."""

    signs: str
    version: str

    @property
    def is_rich(self) -> bool:
        """Whether ERR has its fields 2 to 8."""
        return self.version >= "2.5"

    def join(self, *fields: str) -> str:
        """A segment; trailing empty fields are left out."""
        return self.signs[0].join(fields).rstrip(self.signs[0])

    def components(self, *texts: str, sub: bool = False) -> str:
        """Components, or subcomponents, of a field."""
        return self.signs[4 if sub else 1].join(texts)

    def text(self, text: str) -> str:
        """Free text: separators escaped, whatever else controls something made a blank."""
        escape = self.signs[3]
        table = {sign: f"{escape}{letter}{escape}" for sign, letter in zip(self.signs, "FSRET", strict=True)}
        return "".join(table.get(sign, sign) for sign in " ".join(_CONTROL.sub(" ", text).split()))

    def msh(self, header: Header, time: str, control_id: str, charset: str) -> str:
        """Sender and receiver change places; MSH-9 has a structure since v2.4."""
        structure = () if self.version.startswith("2.3") else ("ACK",)
        kind = self.components("ACK", header.event, *structure) if header.event else "ACK"
        fields = (header.receiving_application, header.receiving_facility, header.sending_application,
                  header.sending_facility, time, "", kind, self.text(control_id), header.processing or "P",
                  self.text(self.version), "", "", "", "", "", self.text(charset))
        return f"MSH{self.signs}{self.signs[0]}{self.join(*fields)}"

    def err(self, finding: Finding) -> str:
        """One finding: its place, its condition of table 0357, its severity, its code, and its sentences."""
        code, _ = _CONDITIONS.get(finding.rule, (finding.rule.hl7 or "207", ""))
        name = _NAMES[code]
        place = _PLACE.fullmatch(finding.where.path)
        location = (place[1], "1", place[2] or "") if place else ("", "", "")
        shown = finding.as_dict()
        french, english = f"{shown['fr']} {shown['hint']}", f"{shown['en']} {shown['hint_en']}"
        if not self.is_rich:
            # ERR-1, the only field before v2.5: segment, sequence, field, code and text
            condition = self.components(code, self.text(f"[{finding.code}] {french} — {english}"), sub=True)
            return self.join("ERR", self.components(*location, condition))
        return self.join(
            "ERR", "", self.components(*location) if place else "", self.components(code, name, "HL70357"),
            _SEVERITIES[finding.severity], self.components(self.text(finding.code), "", "Volet"), "",
            self.text(f"{english} ({shown['clause']})"), self.text(french))
