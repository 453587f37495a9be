"""SOAP 1.2 envelopes with WS-Addressing 1.0: bytes -> values -> bytes (ITI TF-2 appendix V.3; spec of each in place).

Reading returns the parsed header for `security` and the one body element; writing is text, for it stands on hot paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from xds.findings import Catalogue, Finding, Refused, Where, errors
from xds.media import SOAP_XML, XOP_XML, parse_content_type
from xds.mtom import DEFAULT_LIMITS, MEDIA_TYPE, Limits, Parts, read_whole
from xds.xml import Element, clean, escape, local_name, parse, text_of, value_of, where

RULES = Catalogue("xds")
SOAP_MEDIA_TYPE = RULES["V-SOAP-MEDIA-TYPE"]
VERSION = RULES["V-SOAP-VERSION"]
STRUCTURE = RULES["V-SOAP-STRUCTURE"]
BODY = RULES["V-SOAP-BODY"]
NOT_UNDERSTOOD = RULES["V-SOAP-NOT-UNDERSTOOD"]
MUST_UNDERSTAND = RULES["V-SOAP-MUST-UNDERSTAND"]
ACTION_ABSENT = RULES["V-SOAP-ACTION-ABSENT"]
ACTION_DIFFERS = RULES["V-SOAP-ACTION-DIFFERS"]
ACTION_OUTSIDE = RULES["V-SOAP-ACTION-OUTSIDE"]
ACTION_UNMARKED = RULES["V-SOAP-ACTION-UNMARKED"]
ADDRESSING_TWICE = RULES["V-SOAP-ADDRESSING-TWICE"]
ADDRESSING_VALUE = RULES["V-SOAP-ADDRESSING-VALUE"]
ADDRESSING_ABSENT = RULES["V-SOAP-ADDRESSING-ABSENT"]
REPLY_TO_ABSENT = RULES["V-SOAP-REPLY-TO-ABSENT"]

SOAP12 = "http://www.w3.org/2003/05/soap-envelope"
SOAP11 = "http://schemas.xmlsoap.org/soap/envelope/"
WSA = "http://www.w3.org/2005/08/addressing"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
FINDINGS = "urn:volet:findings"
ANONYMOUS = WSA + "/anonymous"

_SOAP, _WSA = "{" + SOAP12 + "}", "{" + WSA + "}"
_ULTIMATE = SOAP12 + "/role/ultimateReceiver"
_NEXT = SOAP12 + "/role/next"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_SINGLE = ("Action", "MessageID", "To", "ReplyTo", "FaultTo", "From")
_REFERENCES = frozenset({"ReplyTo", "FaultTo", "From"})
_LONGEST = 2048  # characters of an address; what is longer is no address


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message read: addressing, the raw Header (None when absent), the one element of the Body."""

    action: str
    body: Element
    header: Element | None = None
    message_id: str = ""
    to: str = ""
    reply_to: str = ""
    relates_to: str = ""
    warnings: tuple[Finding, ...] = ()

    @property
    def is_anonymous(self) -> bool:
        """Whether the answer goes back on the same connection (WS-Addressing 1.0 Core §3.2.1)."""
        return self.reply_to in {"", ANONYMOUS}


# --- reading -------------------------------------------------------------------------------------------------------


def read_message(content_type: str, body: bytes, limits: Limits = DEFAULT_LIMITS) -> Parts:
    """The parts of a message, whether MTOM or a bare envelope; the root is the envelope."""
    outer = parse_content_type(content_type)
    if outer.media_type == "multipart/related":
        return read_whole(content_type, body, limits)
    if outer.media_type not in {SOAP_XML, XOP_XML, "text/xml", "application/xml"}:
        raise Refused(MEDIA_TYPE.at(Where("Content-Type"), expected=f"{SOAP_XML} | multipart/related",
                                    received=outer.media_type))
    odd = () if outer.media_type == SOAP_XML else (
        SOAP_MEDIA_TYPE.at(Where("Content-Type"), expected=SOAP_XML, received=outer.media_type),)
    return Parts(body, {}, outer.parameters.get("charset", ""), outer.action, odd)


def read_envelope(data: bytes, part: str = "envelope", content_action: str = "", charset: str = "") -> Envelope:
    """The envelope of the bytes; `Refused` with what becomes a SOAP fault.

    `content_action` and `charset` are what the Content-Type said: the action only counts where the header has none.
    """
    header, body = _sections(parse(data, part, charset=charset), part)
    blocks = [] if header is None else [block for block in header if isinstance(block.tag, str) and is_for_us(block)]
    _check_understood(blocks, part)
    addressing = _read_addressing(blocks, part)
    action = addressing.get("Action", "") or content_action
    if not action:
        raise Refused(ACTION_ABSENT.at(where(body, part), expected=f"wsa:Action ({WSA})"))
    warnings = [*_action_warnings(blocks, addressing, content_action, part), *_absences(addressing, part)]
    return Envelope(action, body, header, addressing.get("MessageID", ""), addressing.get("To", ""),
                    addressing.get("ReplyTo", ""), addressing.get("RelatesTo", ""), tuple(warnings))


def is_for_us(block: Element) -> bool:
    """Whether a header block is targeted at the ultimate receiver, who we are (SOAP 1.2 Part 1 §2.2)."""
    return block.get(_SOAP + "role", "").strip() in {"", _ULTIMATE, _NEXT}


def message_id_of(data: bytes, charset: str = "") -> str:
    """MessageID of an envelope that was refused, for the fault to relate to; "" where none can be read."""
    try:
        root = parse(data, charset=charset)
    except Refused:
        return ""
    found = [value_of(block) for block in root.findall(f"{_SOAP}Header/{_WSA}MessageID")]
    return found[0] if len(found) == 1 and _is_address(found[0]) else ""


def _sections(root: Element, part: str) -> tuple[Element | None, Element]:
    """Header, if any, and the one element of the Body (SOAP 1.2 Part 1 §5)."""
    if root.tag != _SOAP + "Envelope":
        rule = VERSION if local_name(root) == "Envelope" else STRUCTURE
        raise Refused(rule.at(where(root, part), expected=f"{SOAP_XML} ; Envelope ({SOAP12})", received=root.tag))
    sections = [child for child in root if isinstance(child.tag, str)]
    if [section.tag for section in sections] not in ([_SOAP + "Header", _SOAP + "Body"], [_SOAP + "Body"]):
        received = ", ".join(str(section.tag) for section in sections[:4])
        raise Refused(STRUCTURE.at(where(root, part), expected="Header (0..1), Body (1)", received=received))
    content = [child for child in sections[-1] if isinstance(child.tag, str)]
    if len(content) != 1:
        raise Refused(BODY.at(where(sections[-1], part), expected=1, received=len(content)))
    return (sections[0] if len(sections) == 2 else None), content[0]


def _check_understood(blocks: Sequence[Element], part: str) -> None:
    """Refuse blocks that must be understood and are not (SOAP 1.2 Part 1 §2.4, §5.4.8)."""
    findings = []
    for block in blocks:
        namespace, _, name = str(block.tag).rpartition("}")
        if _must_understand(block, part) and namespace[1:] != WSA and block.tag != f"{{{WSSE}}}Security":
            findings.append(NOT_UNDERSTOOD.at(where(block, part), expected="wsa:*, wsse:Security", received=block.tag,
                                              namespace=namespace[1:], name=name))
    if findings:
        raise Refused(findings)


def _must_understand(block: Element, part: str) -> bool:
    text = block.get(_SOAP + "mustUnderstand", "0").strip()
    if text not in {"0", "1", "true", "false"}:
        raise Refused(MUST_UNDERSTAND.at(where(block, part), expected="0 | 1 | true | false", received=text))
    return text in {"1", "true"}


def _read_addressing(blocks: Sequence[Element], part: str) -> dict[str, str]:
    """Message addressing properties by name (WS-Addressing 1.0 Core §3.2); each but RelatesTo once."""
    found: dict[str, str] = {}
    for block in blocks:
        namespace, _, name = str(block.tag).rpartition("}")
        if namespace[1:] != WSA or name not in (*_SINGLE, "RelatesTo"):
            continue
        if name in found and name in _SINGLE:
            raise Refused(ADDRESSING_TWICE.at(where(block, part), expected="0..1", received=f"wsa:{name}", name=name))
        found.setdefault(name, _address(block, name, part))
    return found


def _address(block: Element, name: str, part: str) -> str:
    """The address a block holds, in `Address` when it is an endpoint reference."""
    holders = [child for child in block if child.tag == _WSA + "Address"] if name in _REFERENCES else [block]
    text = value_of(holders[0]) if len(holders) == 1 else ""
    if not _is_address(text):
        expected = f"URI (1–{_LONGEST})" if holders == [block] else "wsa:Address (1)"
        raise Refused(ADDRESSING_VALUE.at(where(block, part), expected=expected, received=text, name=name))
    return text


def _is_address(text: str) -> bool:
    return 0 < len(text) <= _LONGEST and text.isprintable() and " " not in text


def _action_warnings(blocks: Sequence[Element], addressing: Mapping[str, str], content_action: str,
                     part: str) -> Iterable[Finding]:
    """The header counts, the Content-Type only fills in for it (SOAP 1.2 Part 2 appendix A.3)."""
    action = addressing.get("Action", "")
    if not action:
        yield ACTION_OUTSIDE.at(Where(part), expected="wsa:Action", received=content_action)
    elif content_action and content_action != action:
        yield ACTION_DIFFERS.at(Where(part), expected=action, received=content_action)
    for block in blocks:
        # ITI TF-2 appendix V.3.2.2: wsa:Action carries mustUnderstand
        if block.tag == _WSA + "Action" and not _must_understand(block, part):
            yield ACTION_UNMARKED.at(where(block, part), expected='soap:mustUnderstand="1"')


def _absences(addressing: Mapping[str, str], part: str) -> Iterable[Finding]:
    """What a request has and an answer does not need (ITI TF-2 appendix V.3.2.2)."""
    if "RelatesTo" in addressing:
        return
    for name in ("MessageID", "To"):
        if name not in addressing:
            yield ADDRESSING_ABSENT.at(Where(part), expected=f"wsa:{name}", name=name)
    if "ReplyTo" not in addressing:
        yield REPLY_TO_ABSENT.at(Where(part), expected=f"wsa:ReplyTo/wsa:Address = {ANONYMOUS}")


# --- writing -------------------------------------------------------------------------------------------------------


def new_message_id() -> str:
    """A fresh `urn:uuid:…`."""
    return uuid4().urn


def write_envelope(body_xml: str, action: str, relates_to: str, message_id: str | None = None, to: str = ANONYMOUS,
                   blocks_xml: str = "") -> bytes:
    """An answer, or a message of our own accord: the body text, which declares its own prefixes, in an envelope.

    `to` is the caller on the same connection unless told otherwise; `blocks_xml` are further header blocks.
    """
    relation = f"<wsa:RelatesTo>{escape(relates_to)}</wsa:RelatesTo>" if relates_to else ""
    return _envelope(
        f'<wsa:Action soap:mustUnderstand="1">{escape(action)}</wsa:Action>'
        f"<wsa:MessageID>{escape(message_id or new_message_id())}</wsa:MessageID>"
        f"{relation}<wsa:To>{escape(to)}</wsa:To>{blocks_xml}", body_xml)


def write_request(body_xml: str, action: str, to: str, message_id: str, security_header_xml: str = "") -> bytes:
    """A request of a client; the security header is text that declares its own prefixes."""
    return _envelope(
        f'<wsa:Action soap:mustUnderstand="1">{escape(action)}</wsa:Action>'
        f"<wsa:MessageID>{escape(message_id)}</wsa:MessageID>"
        f"<wsa:ReplyTo><wsa:Address>{ANONYMOUS}</wsa:Address></wsa:ReplyTo>"
        f'<wsa:To soap:mustUnderstand="1">{escape(to)}</wsa:To>{security_header_xml}', body_xml)


def _envelope(header_xml: str, body_xml: str) -> bytes:
    return (f'<?xml version="1.0" encoding="UTF-8"?><soap:Envelope xmlns:soap="{SOAP12}" xmlns:wsa="{WSA}">'
            f"<soap:Header>{header_xml}</soap:Header><soap:Body>{body_xml}</soap:Body></soap:Envelope>").encode()


# --- faults --------------------------------------------------------------------------------------------------------

#: HTTP status of each fault code (SOAP 1.2 Part 2 §7.5.2.2; 400 for other versions, which are the sender's mistake too)
_STATUS = {"Sender": 400, "VersionMismatch": 400, "Receiver": 500, "MustUnderstand": 500, "DataEncodingUnknown": 500}
_PREFIXES = {"wsa": WSA, "wsse": WSSE, "wsnt": "http://docs.oasis-open.org/wsn/b-2",
             "wsrf-rw": "http://docs.oasis-open.org/wsrf/rw-2"}
#: Standards whose faults have an action of their own, by prefix (WS-Addressing 1.0 SOAP Binding §6; WS-BaseNotification
#: 1.3 §5; WS-ResourceFramework)
_FAULT_ACTIONS = {"wsa": f"{WSA}/fault", "wsnt": "http://docs.oasis-open.org/wsn/fault",
                  "wsrf-rw": "http://docs.oasis-open.org/wsrf/fault"}
#: Errors of the registry that are no fault of the sender, where only a SOAP fault can tell them
_OURS = frozenset({"XDSRegistryBusy", "XDSRegistryNotAvailable", "XDSRegistryOutOfResources"})
_UPGRADE = '<soap:Upgrade><soap:SupportedEnvelope qname="soap:Envelope"/></soap:Upgrade>'


def fault_code_of(findings: Iterable[Finding]) -> tuple[str, tuple[str, ...]]:
    """Code and subcodes of the fault that findings amount to: those of the first error.

    A rule names a code (`Receiver`), a subcode of Sender (`wsa:ActionNotSupported`, `DMPInvalidCertificate`) or a
    path (`wsa:InvalidAddressingHeader/wsa:InvalidCardinality`).
    """
    named = [finding.rule.fault or ("Receiver" if finding.xds in _OURS else "Sender") for finding in errors(findings)]
    path = (named[0] if named else "Sender").split("/")
    return (path[0], tuple(path[1:])) if path[0] in _STATUS else ("Sender", tuple(path))


def http_status_of(findings: Iterable[Finding]) -> int:
    """HTTP status that goes with the fault of the findings."""
    return _STATUS[fault_code_of(findings)[0]]


def write_fault(findings: Sequence[Finding], relates_to: str, message_id: str | None = None, to: str = ANONYMOUS,
                blocks_xml: str = "", detail_xml: str = "") -> bytes:
    """A SOAP 1.2 fault (Part 1 §5.4): code and subcode of the first error, all findings as reason and as detail.

    `to` and `blocks_xml` as of an envelope; `detail_xml` is what another standard wants in the detail, first.
    """
    code, subcodes = fault_code_of(findings)
    action = _FAULT_ACTIONS.get("".join(subcodes[:1]).partition(":")[0], f"{WSA}/soap/fault")
    extra = _UPGRADE if code == "VersionMismatch" else "".join(map(_not_understood, findings))
    body = (f"<soap:Fault><soap:Code><soap:Value>soap:{code}</soap:Value>{_subcode(subcodes)}</soap:Code><soap:Reason>"
            f"{_reason(findings, 'fr')}{_reason(findings, 'en')}</soap:Reason><soap:Detail "
            f'xmlns:volet="{FINDINGS}">{detail_xml}{"".join(map(_detail, findings))}</soap:Detail></soap:Fault>')
    return write_envelope(body, action, relates_to, message_id, to, blocks_xml + extra)


def _subcode(path: Sequence[str]) -> str:
    """Nested subcodes. The DMP writes its own without a prefix; those of the standards are qualified."""
    if not path:
        return ""
    prefix, _, name = path[0].rpartition(":")
    declared = f' xmlns:{prefix}="{_PREFIXES[prefix]}"' if prefix in _PREFIXES else ""
    value = escape(path[0] if declared else name)
    return f"<soap:Subcode><soap:Value{declared}>{value}</soap:Value>{_subcode(path[1:])}</soap:Subcode>"


def _reason(findings: Sequence[Finding], lang: str) -> str:
    hint = "hint" if lang == "fr" else "hint_en"
    texts = [f"{shown[lang]} {shown[hint]} [{shown['code']}]" for shown in map(Finding.as_dict, findings)]
    if len(texts) > 1:
        texts = [f"{number}. {text}" for number, text in enumerate(texts, 1)]
    return f'<soap:Text xml:lang="{lang}">{clean(" ".join(texts))}</soap:Text>'


def _not_understood(finding: Finding) -> str:
    """The NotUnderstood block of a header (SOAP 1.2 Part 1 §5.4.8); a name changed for showing is no name."""
    namespace, name = finding.values.get("namespace", ""), finding.values.get("name", "")
    if finding.rule.fault != "MustUnderstand" or re.search("[ …]", namespace + name):
        return ""
    prefix, declared = ("n:", f' xmlns:n="{escape(namespace)}"') if namespace else ("", "")
    return f'<soap:NotUnderstood qname="{prefix}{escape(name)}"{declared}/>'


_DETAIL_TEXTS = (("text", "fr", "fr"), ("text", "en", "en"), ("hint", "fr", "hint"), ("hint", "en", "hint_en"))


def _detail(finding: Finding) -> str:
    shown = finding.as_dict()
    facts = {name: shown[name] for name in ("code", "severity", "clause", "provenance", "expected", "received")}
    attributes = "".join(f' {name}="{clean(str(value))}"' for name, value in (facts | shown["where"]).items())
    texts = "".join(f'<volet:{tag} xml:lang="{lang}">{clean(shown[key])}</volet:{tag}>'
                    for tag, lang, key in _DETAIL_TEXTS if shown[key])
    return f"<volet:finding{attributes}>{texts}</volet:finding>"


# --- reading faults ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault received: code and subcodes without prefixes, reasons by language, findings as in JSON answers."""

    code: str
    subcodes: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        reason = self.reasons.get("fr") or next(iter(self.reasons.values()), "")
        return "/".join((self.code, *self.subcodes)) + f": {reason}"


def read_fault(body: Element) -> Fault | None:
    """The fault a body is; None when it is none. Lenient: servers of others send it."""
    if body.tag != _SOAP + "Fault":
        return None
    codes = [value for holder in body.findall(_SOAP + "Code") for value in holder.iter(_SOAP + "Value")]
    code, *subcodes = [value_of(value).rpartition(":")[2] for value in codes] or [""]
    reasons = {item.get(_LANG, ""): value_of(item) for item in body.findall(f"{_SOAP}Reason/{_SOAP}Text")}
    return Fault(code, tuple(subcodes), reasons, tuple(map(_read_detail, body.iter(f"{{{FINDINGS}}}finding"))))


def _read_detail(element: Element) -> dict[str, Any]:
    facts: dict[str, Any] = {str(name): str(value) for name, value in element.attrib.items()}
    place = {name: facts.pop(name, "") for name in ("part", "line", "column", "path")}
    texts = {(local_name(child), child.get(_LANG, "")): text_of(child) for child in element}
    facts |= {key: texts.get((tag, lang), "") for tag, lang, key in _DETAIL_TEXTS}
    return facts | {"where": place | {name: int(place[name]) if place[name].isdecimal() else 0
                                      for name in ("line", "column")}}
