"""What a VIHF says: signed bytes -> `Token`, values only, with the findings of reading.

Identifiers are ASCII, by full match of a linear pattern after a cap on length: no homoglyph, no digit of another
script, no blank, no comment inside. Nothing is believed here; `security.vihf_rules` compares it with certificates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from security import vihf_names as names
from security.xmldsig import children, leaf_text
from xds.findings import Catalogue, Finding, Refused, Where
from xds.model import Code
from xds.rim import localized
from xds.xml import Element, local_name, parse

RULES = Catalogue("security")
SCHEMA = RULES["V-SEC-VIHF-SCHEMA"]
MISSING_ATTRIBUTE = RULES["V-SEC-VIHF-ATTRIBUTE-MISSING"]
REPEATED_ATTRIBUTE = RULES["V-SEC-VIHF-ATTRIBUTE-REPEATED"]
VALUE = RULES["V-SEC-VIHF-VALUE"]
CODED = RULES["V-SEC-VIHF-CODED-VALUE"]
CONDITION = RULES["V-SEC-VIHF-CONDITION"]
CONFIRMATION = RULES["V-SEC-VIHF-SUBJECT-CONFIRMATION"]

_S = f"{{{names.SAML}}}"
_OID = r"[0-2](?:\.(?:0|[1-9][0-9]{0,19})){1,30}"
_STATEMENTS = frozenset({_S + "Conditions", _S + "AuthnStatement", _S + "AttributeStatement"})
_MAX_ROLES = 8
_PATH = "/Assertion"


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute of the table: where it goes, how it is called, what it must look like."""

    field: str
    name: str
    required: bool
    pattern: re.Pattern[str]
    length: int
    shown: str


def _row(field: str, name: str, required: bool, pattern: str, length: int, shown: str) -> Row:
    return Row(field, name, required, re.compile(pattern, re.ASCII), length, shown)


# CI-SIS, volet transport synchrone, table of the attributes. A sign of any script may stand in what people read.
_PEOPLE = r"[^\x00-\x1f\x7f]*"
TEXTS = (
    _row("vihf_version", names.VERSION, True, r"[0-9]{1,2}\.[0-9]{1,2}", 5, "3.0"),
    _row("structure_id", names.STRUCTURE, True, r"[0-4][0-9A-Z]{5,20}", 21, "1 + FINESS, 3 + SIRET, 4 + RPPS + 001"),
    _row("sector", names.SECTOR, True, r"SA[0-9]{2}\^1\.2\.250\.1\.71\.4\.2\.4", 24, f"SA07^{names.SECTORS}"),
    _row("name", names.SUBJECT_ID, False, _PEOPLE, 300, "≤ 300"),
    _row("authentication", names.AUTHENTICATION, True, r"DIRECTE|INDIRECTE|INDIRECTE_RENFORCEE", 20,
         "DIRECTE, INDIRECTE, INDIRECTE_RENFORCEE"),
    _row("patient", names.RESOURCE_ID, False, rf"[0-9A-Za-z._-]{{1,64}}\^\^\^&{_OID}&ISO(\^[A-Z]{{2,5}})?", 200,
         "<INS>^^^&1.2.250.1.213.1.4.8&ISO^NH"),
    _row("resource_urn", names.RESOURCE_URN, True, r"urn:[0-9A-Za-z:._-]{1,60}", 64, "urn:dmp"),
    _row("reason", names.REASON, False, _PEOPLE, 1000, "≤ 1000"),
    _row("lps_id", names.LPS_ID, False, _PEOPLE, 100, "≤ 100"),
    _row("lps_name", names.LPS_NAME, True, _PEOPLE, 100, "≤ 100"),
    _row("lps_version", names.LPS_VERSION, False, _PEOPLE, 100, "≤ 100"),
    _row("lps_homologation", names.LPS_HOMOLOGATION, True, _PEOPLE, 100, "≤ 100"),
)
NAME_ID = _row("name_id", "NameID", True, r"[0134568][0-9A-Z]{5,20}(/[0-9A-Za-z._-]{1,40})?", 62,
               "8 + RPPS, 0 + ADELI, 3 + FINESS/…")
_CODE = re.compile(r"[0-9A-Za-z_./-]{1,40}")
_SYSTEM = re.compile(_OID)


@dataclass(frozen=True, slots=True)
class Conditions:
    """When and for whom an assertion holds, as written; audiences None: no restriction."""

    not_before: str = ""
    not_on_or_after: str = ""
    audiences: tuple[str, ...] | None = None
    one_time: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """The claims of one assertion, as signed; "" where absent. `findings` is what reading had to say."""

    id: str
    saml_version: str
    issue_instant: str
    issuer: str
    issuer_format: str
    name_id: str
    context: str = ""
    context_declaration: str = ""
    conditions: Conditions = Conditions()
    texts: Mapping[str, str] = field(default_factory=dict)  # by field of `TEXTS`
    roles: tuple[Code, ...] = ()
    purpose: Code | None = None
    confidentiality: str = ""
    findings: tuple[Finding, ...] = ()

    def text(self, name: str) -> str:
        """The attribute that `TEXTS` calls so."""
        return self.texts.get(name, "")


def read_token(signed: bytes) -> Token:
    """Claims of the bytes that were signed; `Refused` when they are no assertion of the SAML schema."""
    root = parse(signed, "VIHF")
    issuer, subject, *rest = _ordered(root)
    found: list[Finding] = []
    statements = {local_name(child): child for child in rest}
    attributes = _attributes(statements["AttributeStatement"], found)
    context, declaration = _context(statements["AuthnStatement"])
    return Token(
        id=root.get("ID", ""), saml_version=root.get("Version", ""), issue_instant=root.get("IssueInstant", ""),
        issuer=leaf_text(issuer) or "", issuer_format=issuer.get("Format", ""), name_id=_name_id(subject, found),
        context=context, context_declaration=declaration, conditions=_conditions(statements.get("Conditions"), found),
        texts=_texts(attributes, found), roles=tuple(_roles(attributes, found)),
        purpose=_purpose(attributes, found), confidentiality=_confidentiality(attributes, found),
        findings=tuple(found))


def _ordered(root: Element) -> list[Element]:
    """Children of the assertion in the schema's order, those of a VIHF only: no Advice, no second statement."""
    parts = children(root)
    tags = [part.tag for part in parts]
    statements = tags[2:]
    required = {_S + "AuthnStatement", _S + "AttributeStatement"}
    if (tags[:2] != [_S + "Issuer", _S + "Subject"] or not required <= set(statements) <= _STATEMENTS
            or len(set(statements)) < len(statements)):
        raise Refused(SCHEMA.at(Where("VIHF", path=_PATH), received=", ".join(map(local_name, parts)),
                                expected="Issuer, Signature, Subject, Conditions?, AuthnStatement, AttributeStatement"))
    return parts


# --- subject, conditions, context ----------------------------------------------------------------------------------


def _name_id(subject: Element, found: list[Finding]) -> str:
    parts = children(subject)
    place = Where("VIHF", path=f"{_PATH}/Subject/NameID")
    if [part.tag for part in parts[:1]] != [_S + "NameID"] or any(
            part.tag != _S + "SubjectConfirmation" for part in parts[1:]):
        found.append(VALUE.at(place, expected=NAME_ID.shown, received=", ".join(map(local_name, parts)), name="NameID"))
        return ""
    if parts[1:]:
        found.append(CONFIRMATION.at(place))
    return _checked(NAME_ID, leaf_text(parts[0]), place, found)


def _conditions(element: Element | None, found: list[Finding]) -> Conditions:
    """Bounds, audiences and single use; a condition that we do not know cannot be met (SAML 2.0 core §2.5.1.1)."""
    if element is None:
        return Conditions()
    parts = children(element)
    known = {_S + "AudienceRestriction", _S + "OneTimeUse"}
    if unknown := [local_name(part) for part in parts if part.tag not in known]:
        found.append(CONDITION.at(Where("VIHF", path=f"{_PATH}/Conditions"), expected="AudienceRestriction, OneTimeUse",
                                  received=", ".join(unknown)))
    restrictions = [part for part in parts if part.tag == _S + "AudienceRestriction"]
    audiences = tuple((leaf_text(audience) or "").strip() for part in restrictions for audience in children(part))
    return Conditions(element.get("NotBefore", ""), element.get("NotOnOrAfter", ""),
                      audiences if restrictions else None, any(part.tag == _S + "OneTimeUse" for part in parts))


def _context(statement: Element) -> tuple[str, str]:
    """Class and declaration of the authentication context."""
    said = {child.tag: (leaf_text(child) or "").strip()
            for context in statement.iterchildren(_S + "AuthnContext") for child in children(context)}
    return said.get(_S + "AuthnContextClassRef", ""), said.get(_S + "AuthnContextDecl", "")


# --- attributes ----------------------------------------------------------------------------------------------------

Attributes = Mapping[str, list[Element]]


def _attributes(statement: Element, found: list[Finding]) -> Attributes:
    """Values by name; a name may stand once."""
    values: dict[str, list[Element]] = {}
    for attribute in children(statement):
        name = attribute.get("Name", "")
        name = names.AUTHENTICATION if name == names.AUTHENTICATION_ALIAS else name
        if attribute.tag != _S + "Attribute" or name in values:
            found.append(REPEATED_ATTRIBUTE.at(_at(name), expected=1, received=local_name(attribute), name=name))
        values[name] = [child for child in children(attribute) if child.tag == _S + "AttributeValue"]
    return values


def _texts(attributes: Attributes, found: list[Finding]) -> dict[str, str]:
    return {row.field: _text(row, attributes.get(row.name, []), found) for row in TEXTS}


def _text(row: Row, values: list[Element], found: list[Finding]) -> str:
    if len(values) > 1:
        found.append(REPEATED_ATTRIBUTE.at(_at(row.name), expected=1, received=len(values), name=row.name))
    text = leaf_text(values[0]) if values else ""
    if text is not None and not text.strip():
        if row.required:
            found.append(MISSING_ATTRIBUTE.at(_at(row.name), expected=row.shown, received="–", name=row.name))
        return ""
    return _checked(row, text, _at(row.name), found)


def _checked(row: Row, text: str | None, place: Where, found: list[Finding]) -> str:
    """The text when it is of the row's form, "" otherwise; None stands for an element that holds more than text."""
    if text is None or len(text) > row.length or not row.pattern.fullmatch(text):
        found.append(VALUE.at(place, expected=row.shown, received="<…>" if text is None else text, name=row.name))
        return ""
    return text


def _roles(attributes: Attributes, found: list[Finding]) -> Iterator[Code]:
    values = attributes.get(names.ROLE, [])
    if not values:
        found.append(MISSING_ATTRIBUTE.at(_at(names.ROLE), expected=f"code^{names.PROFESSION}", received="–",
                                          name=names.ROLE))
    if len(values) > _MAX_ROLES:
        found.append(REPEATED_ATTRIBUTE.at(_at(names.ROLE), expected=f"≤ {_MAX_ROLES}", received=len(values),
                                           name=names.ROLE))
    for value in values[:_MAX_ROLES]:
        code = _coded(value, "Role", names.ROLE, found)
        if code is not None:
            yield code


def _purpose(attributes: Attributes, found: list[Finding]) -> Code | None:
    values = attributes.get(names.PURPOSE, [])
    if not values:
        found.append(MISSING_ATTRIBUTE.at(_at(names.PURPOSE), expected=f"normal^{names.ACCESS_MODES}", received="–",
                                          name=names.PURPOSE))
        return None
    if len(values) > 1:
        found.append(REPEATED_ATTRIBUTE.at(_at(names.PURPOSE), expected=1, received=len(values), name=names.PURPOSE))
    return _coded(values[0], "PurposeOfUse", names.PURPOSE, found)


def _confidentiality(attributes: Attributes, found: list[Finding]) -> str:
    """Code of the confidentiality attribute, written as text `CODE[^OID]` or as an HL7 coded value; "" when absent."""
    values = attributes.get(names.CONFIDENTIALITY, [])
    if not values:
        return ""
    coded = children(values[0])
    code = coded[0].get("code", "") if coded else (leaf_text(values[0]) or "").strip().partition("^")[0]
    if len(values) > 1 or len(coded) > 1 or not (code == "" or _CODE.fullmatch(code)):
        found.append(CODED.at(_at(names.CONFIDENTIALITY), expected=names.SECRET, received=code,
                              name=names.CONFIDENTIALITY))
    return code


def _coded(value: Element, tag: str, name: str, found: list[Finding]) -> Code | None:
    """The CE of HL7 V3 that alone stands in an AttributeValue."""
    parts = children(value)
    alone = len(parts) == 1 and parts[0].tag == f"{{{names.V3}}}{tag}"
    code, system = (parts[0].get("code", ""), parts[0].get("codeSystem", "")) if alone else ("", "")
    if not (_CODE.fullmatch(code) and len(system) <= 100 and _SYSTEM.fullmatch(system)):
        found.append(CODED.at(_at(name), expected=f'<{tag} xmlns="{names.V3}" code="…" codeSystem="…"/>',
                              received=f"{', '.join(map(local_name, parts)) or '–'} {code}^{system}", name=name))
        return None
    return Code(code, system, localized(parts[0].get("displayName", "")))


def _at(name: str) -> Where:
    return Where("VIHF", path=f"{_PATH}/AttributeStatement/Attribute[@Name='{name[:100]}']")
