"""The VIHF as a client makes it: claims -> signed SAML 2.0 assertion (CI-SIS, volet transport synchrone).

claims_from_card    card.json of a test card -> claims
build               claims, signature key and certificate -> text
unsigned, sign      the same in two steps, for whoever wants to spoil something between them
security_header     the header around it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from security import vihf_names as names
from security.distinguished import write_name
from security.identity import AccessMode, Authentication, CardType
from security.xmldsig import DS, PrivateKey, method_for
from xds.model import Code
from xds.rim import localized
from xds.xml import escape, parse

_MODE_NAMES = {
    AccessMode.NORMAL: "Accès normal",
    AccessMode.BRIS_DE_GLACE: "Accès en bris de glace",
    AccessMode.CENTRE_15: "Accès par un centre de régulation médicale",
}


@dataclass(frozen=True, slots=True)
class VihfClaims:
    """What the token says. "" leaves an attribute out.

    `name_id` is the national identifier of the user, `roles` the profession, then the speciality (`xds.model.Code`),
    `patient` the resource-id as a CX, `context` an AuthnContextClassRef (the mode's own when ""). `valid_for` adds
    Conditions, which no French sample carries. `assertion_id` is drawn when "".
    """

    name_id: str
    structure_id: str
    roles: tuple[Code, ...] = ()
    sector: str = f"SA07^{names.SECTORS}"
    authentication: Authentication = Authentication.DIRECTE
    subject_name: str = ""
    patient: str = ""
    mode: AccessMode = AccessMode.NORMAL
    reason: str = ""
    secret_connection: bool = False
    version: str = "3.0"
    resource_urn: str = "urn:dmp"
    lps_id: str = ""
    lps_name: str = ""
    lps_version: str = ""
    lps_homologation: str = ""
    context: str = ""
    context_declaration: str = ""
    authenticated: datetime | None = None
    valid_for: timedelta | None = None
    assertion_id: str = ""


def claims_from_card(card: Mapping[str, Any], **changes: Any) -> VihfClaims:
    """Claims that hold for a card described by its `card.json` (security.pki); `changes` replace or add fields.

    A structure speaks in INDIRECTE mode, under its own name and identifier unless `changes` name its user.
    """
    structure = card["card_type"] == CardType.ES
    claims = VihfClaims(
        name_id=card["identifier"], structure_id=card["structure"]["id"], sector=f"{card['sector']}^{names.SECTORS}",
        roles=tuple(Code(role["code"], role["system"], localized(role["label"])) for role in card["roles"]),
        authentication=Authentication.INDIRECTE if structure else Authentication.DIRECTE, subject_name=card["name"])
    return replace(claims, **changes)


def build(claims: VihfClaims, key: PrivateKey, certificate: x509.Certificate | str, now: datetime) -> str:
    """The signed assertion as XML text; `certificate` (PEM or object) is the *signature* one, `now` aware."""
    leaf = x509.load_pem_x509_certificate(certificate.encode()) if isinstance(certificate, str) else certificate
    return sign(unsigned(claims, write_name(leaf.subject), now), key, leaf)


def sign(assertion: str, key: PrivateKey, certificate: x509.Certificate) -> str:
    """An assertion whose `ds:Signature` is empty and has the Id "placeholder", signed where that stands."""
    method = method_for(key)
    signer = XMLSigner(signature_algorithm=SignatureMethod(method.uri), digest_algorithm=DigestAlgorithm(method.digest),
                       c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0)
    # the leaf alone: the other side knows the authorities, and a chain in KeyInfo is one more thing to be confused by
    signed = signer.sign(parse(assertion.encode()), key=key, cert=[certificate.public_bytes(Encoding.PEM).decode()])
    return etree.tostring(signed, encoding="unicode")


def security_header(assertion: str) -> str:
    """The `wsse:Security` header around an assertion, for a SOAP Header."""
    return f'<wsse:Security xmlns:wsse="{names.WSSE}">{assertion}</wsse:Security>'


def unsigned(claims: VihfClaims, issuer: str, now: datetime) -> str:
    """The assertion of these claims, ready for `sign`."""
    identity = claims.assertion_id or f"_{uuid4().hex}"
    return (
        f'<saml2:Assertion xmlns:saml2="{names.SAML}" xmlns:xsi="{names.XSI}" ID="{escape(identity)}"'
        f' IssueInstant="{_instant(now)}" Version="2.0">'
        f'<saml2:Issuer Format="{names.X509_SUBJECT}">{escape(issuer)}</saml2:Issuer>'
        f'<ds:Signature xmlns:ds="{DS}" Id="placeholder"></ds:Signature>'
        f"<saml2:Subject><saml2:NameID>{escape(claims.name_id)}</saml2:NameID></saml2:Subject>"
        f"{_conditions(claims, now)}{_authentication(claims, now)}"
        f"<saml2:AttributeStatement>{''.join(_attributes(claims))}</saml2:AttributeStatement></saml2:Assertion>")


def _conditions(claims: VihfClaims, now: datetime) -> str:
    if claims.valid_for is None:
        return ""
    return f'<saml2:Conditions NotBefore="{_instant(now)}" NotOnOrAfter="{_instant(now + claims.valid_for)}"/>'


def _authentication(claims: VihfClaims, now: datetime) -> str:
    reinforced = claims.authentication is Authentication.INDIRECTE_RENFORCEE
    declaration = claims.context_declaration or (names.DECLARATIONS[0] if reinforced else "")
    context = claims.context or names.CONTEXT_OF[claims.authentication]
    return (
        f'<saml2:AuthnStatement AuthnInstant="{_instant(claims.authenticated or now)}"><saml2:AuthnContext>'
        f"<saml2:AuthnContextClassRef>{escape(context)}</saml2:AuthnContextClassRef>"
        + (f"<saml2:AuthnContextDecl>{escape(declaration)}</saml2:AuthnContextDecl>" if declaration else "")
        + "</saml2:AuthnContext></saml2:AuthnStatement>")


def _attributes(claims: VihfClaims) -> Iterator[str]:
    """The attributes in the order of the CI-SIS table."""
    yield _text(names.VERSION, claims.version)
    yield _text(names.STRUCTURE, claims.structure_id)
    yield _text(names.SECTOR, claims.sector)
    if claims.roles:
        yield _attribute(names.ROLE, "".join(_value(_coded("Role", role)) for role in claims.roles))
    yield _text(names.SUBJECT_ID, claims.subject_name)
    yield _text(names.AUTHENTICATION, claims.authentication)
    yield _text(names.RESOURCE_ID, claims.patient)
    yield _text(names.RESOURCE_URN, claims.resource_urn)
    purpose = Code(claims.mode, names.ACCESS_MODES)
    yield _attribute(names.PURPOSE, _value(_coded("PurposeOfUse", purpose, _MODE_NAMES[claims.mode])))
    yield _text(names.REASON, claims.reason)
    yield _text(names.CONFIDENTIALITY, names.SECRET if claims.secret_connection else "")
    yield _text(names.LPS_ID, claims.lps_id)
    yield _text(names.LPS_NAME, claims.lps_name)
    yield _text(names.LPS_VERSION, claims.lps_version)
    yield _text(names.LPS_HOMOLOGATION, claims.lps_homologation)


def _text(name: str, value: str) -> str:
    typed = f'<saml2:AttributeValue xmlns:xs="{names.XS}" xsi:type="xs:string">{escape(value)}</saml2:AttributeValue>'
    return _attribute(name, typed) if value else ""


def _attribute(name: str, values: str) -> str:
    return f'<saml2:Attribute Name="{escape(name)}">{values}</saml2:Attribute>'


def _value(content: str) -> str:
    return f"<saml2:AttributeValue>{content}</saml2:AttributeValue>"


def _coded(tag: str, code: Code, display: str = "") -> str:
    """A CE of HL7 V3."""
    return (f'<{tag} xmlns="{names.V3}" xsi:type="CE" code="{escape(code.code)}" codeSystem="{escape(code.scheme)}"'
            f' codeSystemName="{escape(names.SYSTEM_NAMES.get(code.scheme, ""))}"'
            f' displayName="{escape(display or code.display)}"/>')


def _instant(moment: datetime) -> str:
    """UTC with milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
