"""What an assertion of XUA says: signed bytes -> `Assertion`, values only, with the findings of reading.

Nothing is believed here: `security.xua` compares it with the clock, the settings and the TLS certificate. Attributes
that XUA does not name may stand there and are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from security import vihf_names as names
from security.xmldsig import DS, children, leaf_text
from xds.findings import Catalogue, Finding, Refused, Where
from xds.model import Code
from xds.rim import localized
from xds.xml import Element, local_name, parse

RULES = Catalogue("security")
SCHEMA = RULES["V-SEC-XUA-SCHEMA"]
VALUE = RULES["V-SEC-XUA-VALUE"]
REPEATED = RULES["V-SEC-XUA-REPEATED"]

# Names of attributes (ITI TF-2 §3.40.4.1.2); the earlier ones that real issuers still write
ORGANISATION = "urn:oasis:names:tc:xspa:1.0:subject:organization"
ORGANISATION_ID = "urn:oasis:names:tc:xspa:1.0:subject:organization-id"
COMMUNITY = "urn:ihe:iti:xca:2010:homeCommunityId"
CONSENT_DOCUMENT = "urn:ihe:iti:bppc:2007:docid"
CONSENT_POLICY = "urn:ihe:iti:xua:2012:acp"
_ALIASES = {
    "urn:oasis:names:tc:xacml:1.0:subject:subject-id": names.SUBJECT_ID,
    "urn:oasis:names:tc:xacml:1.0:resource:resource-id": names.RESOURCE_ID,
    "urn:nhin:names:saml:homeCommunityId": COMMUNITY,
}

BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
HOLDER_OF_KEY = "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"

PART = "XUA"
_S = f"{{{names.SAML}}}"
_PATH = "/Assertion"
_STATEMENTS = (_S + "AuthnStatement", _S + "AttributeStatement")
_MOST = 16  # values of one attribute


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute of text: where it goes, how it is called, what it must look like, how it is shown."""

    field: str
    name: str
    pattern: re.Pattern[str]
    length: int
    shown: str


def _row(field: str, name: str, pattern: str, length: int, shown: str) -> Row:
    return Row(field, name, re.compile(pattern, re.ASCII), length, shown)


_PEOPLE = r"[^\x00-\x1f\x7f]*"
_OID = r"[0-2](?:\.(?:0|[1-9][0-9]{0,39})){1,30}"
_URI = r"[!-~]*"
TEXTS = (
    _row("name", names.SUBJECT_ID, _PEOPLE, 300, "≤ 300"),
    _row("organisation", ORGANISATION, _PEOPLE, 300, "≤ 300"),
    _row("organisation_id", ORGANISATION_ID, _URI, 255, "urn:oid:…"),
    _row("community", COMMUNITY, rf"(urn:oid:)?{_OID}", 255, "urn:oid:…"),
    _row("patient", names.RESOURCE_ID, rf"[0-9A-Za-z._-]{{1,64}}\^\^\^&{_OID}&ISO(\^[A-Z]{{2,5}})?", 255,
         "id^^^&OID&ISO"),
)
CONSENTS = (_row("consents", CONSENT_DOCUMENT, _URI, 255, "urn:oid:…"),
            _row("consents", CONSENT_POLICY, _URI, 255, "urn:oid:…"))
# A person is never known by letters that look alike: ASCII only; <, > and line ends would forge an audit record.
NAME_ID = _row("name_id", "NameID", r"[!-;=?-~](?:[ -;=?-~]*[!-;=?-~])?", 255, "ASCII, ≤ 255")
_CODE = re.compile(r"[!-\]_-~]{1,64}", re.ASCII)
_SYSTEM = re.compile(rf"(?:urn:oid:)?({_OID})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """NotBefore and NotOnOrAfter as written, "" where absent."""

    not_before: str = ""
    not_on_or_after: str = ""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How the subject is confirmed: method, its own period, the KeyInfo elements of the key to be held."""

    method: str
    period: Period = Period()
    keys: tuple[Element, ...] = ()


@dataclass(frozen=True, slots=True)
class Assertion:
    """The claims of one assertion, as signed; "" or () where absent. `findings` is what reading had to say.

    `audiences` has one entry for each AudienceRestriction: all of them must hold, each by one of its audiences.
    """

    id: str
    saml_version: str
    issue_instant: str
    issuer: str
    name_id: str
    alias: str = ""
    confirmations: tuple[Confirmation, ...] = ()
    period: Period | None = None
    audiences: tuple[tuple[str, ...], ...] = ()
    unknown_conditions: tuple[str, ...] = ()
    one_time: bool = False
    contexts: tuple[str, ...] = ()
    session_end: str = ""
    statements: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)  # by field of `TEXTS`
    consents: tuple[str, ...] = ()
    roles: tuple[Code, ...] = ()
    purposes: tuple[Code, ...] = ()
    findings: tuple[Finding, ...] = ()


def issuer_of(root: Element) -> str:
    """Issuer of an assertion, "" when there is none; before its signature is verified it is a claim, no more."""
    parts = children(root)
    return _text(parts[0]) if parts and parts[0].tag == _S + "Issuer" else ""


def read_assertion(signed: bytes) -> Assertion:
    """Claims of the bytes that were signed; `Refused` when they are no assertion of the SAML schema."""
    root = parse(signed, PART)
    subject, conditions, statements = _ordered(root)
    found: list[Finding] = []
    name_id, alias, confirmations = _subject(subject, found)
    authentications = [part for part in statements if part.tag == _STATEMENTS[0]]
    attributes = _attributes([part for part in statements if part.tag == _STATEMENTS[1]], found)
    restrictions = () if conditions is None else tuple(conditions.iterchildren(_S + "AudienceRestriction"))
    return Assertion(
        id=root.get("ID", ""), saml_version=root.get("Version", ""), issue_instant=root.get("IssueInstant", ""),
        issuer=issuer_of(root), name_id=name_id, alias=alias, confirmations=confirmations,
        period=None if conditions is None else _period(conditions),
        audiences=tuple(tuple(map(_text, restriction.iterchildren(_S + "Audience"))) for restriction in restrictions),
        unknown_conditions=_unknown(conditions),
        one_time=conditions is not None and conditions.find(_S + "OneTimeUse") is not None,
        contexts=tuple(_contexts(authentications)), statements=len(authentications),
        session_end=authentications[0].get("SessionNotOnOrAfter", "") if authentications else "",
        texts={row.field: text for row in TEXTS for text in _texts(row, attributes, found, 1)},
        consents=tuple(text for row in CONSENTS for text in _texts(row, attributes, found, _MOST)),
        roles=tuple(_coded("Role", names.ROLE, attributes, found)),
        purposes=tuple(_coded("PurposeOfUse", names.PURPOSE, attributes, found)), findings=tuple(found))


def _ordered(root: Element) -> tuple[Element, Element | None, list[Element]]:
    """Subject, Conditions if any, statements, in the schema's order (SAML 2.0 core §2.3.3); no Advice."""
    parts = children(root)
    tags = [part.tag for part in parts]
    has_conditions = tags[2:3] == [_S + "Conditions"]
    statements = parts[3 if has_conditions else 2:]
    if tags[:2] != [_S + "Issuer", _S + "Subject"] or any(part.tag not in _STATEMENTS for part in statements):
        raise Refused(SCHEMA.at(
            Where(PART, path=_PATH), received=", ".join(map(local_name, parts)),
            expected="Issuer, Signature, Subject, Conditions, AuthnStatement, AttributeStatement"))
    return parts[1], parts[2] if has_conditions else None, statements


# --- subject, conditions, context ----------------------------------------------------------------------------------


def _subject(subject: Element, found: list[Finding]) -> tuple[str, str, tuple[Confirmation, ...]]:
    """NameID, SPProvidedID, confirmations."""
    place = Where(PART, path=f"{_PATH}/Subject/NameID")
    parts = children(subject)
    confirmations = tuple(map(_confirmation, subject.iterchildren(_S + "SubjectConfirmation")))
    if [part.tag for part in parts[:1]] != [_S + "NameID"]:
        found.append(VALUE.at(place, expected="NameID", received=", ".join(map(local_name, parts)) or "–",
                              name="Subject"))
        return "", "", confirmations
    alias = parts[0].get("SPProvidedID", "")
    return (_checked(NAME_ID, _text(parts[0]), place, found), _checked(NAME_ID, alias, place, found) if alias else "",
            confirmations)


def _confirmation(element: Element) -> Confirmation:
    data = element.find(_S + "SubjectConfirmationData")
    if data is None:
        return Confirmation(element.get("Method", ""))
    return Confirmation(element.get("Method", ""), _period(data), tuple(data.iterchildren(f"{{{DS}}}KeyInfo")))


def _period(element: Element) -> Period:
    return Period(element.get("NotBefore", ""), element.get("NotOnOrAfter", ""))


def _unknown(conditions: Element | None) -> tuple[str, ...]:
    """Conditions that we cannot say to be met; ProxyRestriction binds whoever issues anew (§2.5.1.6), not us."""
    known = {_S + "AudienceRestriction", _S + "OneTimeUse", _S + "ProxyRestriction"}
    return () if conditions is None else tuple(local_name(part) for part in children(conditions)
                                               if part.tag not in known)


def _contexts(statements: list[Element]) -> Iterator[str]:
    """Authentication contexts by reference, of all statements."""
    for statement in statements:
        for context in statement.iterchildren(_S + "AuthnContext"):
            yield from (_text(part) for part in children(context)
                        if part.tag in (_S + "AuthnContextClassRef", _S + "AuthnContextDeclRef"))


# --- attributes ----------------------------------------------------------------------------------------------------

Attributes = Mapping[str, list[Element]]


def _attributes(statements: list[Element], found: list[Finding]) -> Attributes:
    """Values by name; a name may stand once, under whichever of its names."""
    values: dict[str, list[Element]] = {}
    for attribute in (attribute for statement in statements for attribute in children(statement)):
        name = attribute.get("Name", "")
        name = _ALIASES.get(name, name)
        if attribute.tag != _S + "Attribute" or name in values:
            found.append(REPEATED.at(_at(name), expected=1, received=2, name=name or local_name(attribute)))
        values[name] = list(attribute.iterchildren(_S + "AttributeValue"))
    return values


def _texts(row: Row, attributes: Attributes, found: list[Finding], most: int) -> Iterator[str]:
    """Texts of an attribute that are of the row's form; empty ones are absent."""
    values = [text for text in map(_text, attributes.get(row.name, [])) if text]
    if len(values) > most:
        found.append(REPEATED.at(_at(row.name), expected=f"≤ {most}", received=len(values), name=row.name))
    for text in values[:most]:
        checked = _checked(row, text, _at(row.name), found)
        if checked:
            yield checked


def _checked(row: Row, text: str, place: Where, found: list[Finding]) -> str:
    """The text when it is of the row's form, "" otherwise."""
    if not text or len(text) > row.length or not row.pattern.fullmatch(text):
        found.append(VALUE.at(place, expected=row.shown, received=text or "–", name=row.name))
        return ""
    return text


def _coded(tag: str, name: str, attributes: Attributes, found: list[Finding]) -> Iterator[Code]:
    """The CE of HL7 V3 that alone stands in each AttributeValue (ITI TF-2 §3.40.4.1.2.1, §3.40.4.1.2.3)."""
    for value in attributes.get(name, [])[:_MOST]:
        parts = children(value)
        alone = len(parts) == 1 and parts[0].tag == f"{{{names.V3}}}{tag}"
        code, said = (parts[0].get("code", ""), parts[0].get("codeSystem", "")) if alone else ("", "")
        system = _SYSTEM.fullmatch(said) if len(said) <= 255 else None
        if not (_CODE.fullmatch(code) and system):
            found.append(VALUE.at(_at(name), expected=f'<{tag} xmlns="{names.V3}" code="…" codeSystem="OID"/>',
                                  received=f"{', '.join(map(local_name, parts)) or '–'} {code}^^{said}", name=name))
            continue
        yield Code(code, system[1], localized(parts[0].get("displayName", "")))


def _text(element: Element) -> str:
    """Text without the white space of layout around it, "" when anything else stands there."""
    return (leaf_text(element) or "").strip(" \t\r\n")


def _at(name: str) -> Where:
    return Where(PART, path=f"{_PATH}/AttributeStatement/Attribute[@Name='{name[:100]}']")
