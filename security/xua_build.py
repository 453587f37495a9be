"""An assertion issuer of our own, for tests and for whoever tries the `ihe` profile: claims -> signed SAML assertion.

create          issuer.key, issuer.pem and issuers.toml in a folder
build           claims, key and certificate -> text; `unsigned` and `security.vihf_build.sign` are its two steps

The issuer protects nothing: production refuses its certificate (O=VOLET TEST).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from security import vihf_names as names
from security.vihf_build import sign
from security.xmldsig import DS, PrivateKey
from security.xua import LIST, TEST_ORGANISATION
from security.xua_token import (
    BEARER,
    COMMUNITY,
    CONSENT_DOCUMENT,
    CONSENT_POLICY,
    HOLDER_OF_KEY,
    ORGANISATION,
    ORGANISATION_ID,
)
from xds.model import Code
from xds.rim import localized
from xds.xml import escape

ISSUER = "urn:volet:essai:sts"
DOCTOR = Code("112247003", "2.16.840.1.113883.6.96", localized("Medical Doctor"))
TREATMENT = Code("TREATMENT", "2.16.840.1.113883.3.18.7.1", localized("Treatment"))

_URI = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"
_LIFE = timedelta(days=730)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class XuaClaims:
    """What the assertion says. "" or () leaves an attribute out.

    `roles`, `purposes` and `contexts` hold one each in a good assertion. `holder` makes it holder-of-key for that TLS
    certificate, None bearer. `consents` are identifiers of acknowledgement documents, `policies` of policies.
    """

    name_id: str
    audience: str
    issuer: str = ISSUER
    alias: str = ""
    subject_name: str = ""
    organisation: str = ""
    organisation_id: str = ""
    community: str = ""
    roles: tuple[Code, ...] = (DOCTOR,)
    purposes: tuple[Code, ...] = (TREATMENT,)
    patient: str = ""
    consents: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    contexts: tuple[str, ...] = (names.CONTEXTS + "Password",)
    holder: x509.Certificate | None = None
    valid_from: timedelta = timedelta()
    valid_for: timedelta = timedelta(minutes=30)
    assertion_id: str = ""


def create(folder: Path, now: datetime, issuer: str = ISSUER) -> None:
    """Make our own issuer in a folder (`var/pki/xua`): key (0600), certificate, and the list that trusts it.

    A folder that has a list is left as it is: the operator's issuers stay.
    """
    if (folder / LIST).exists():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "FR"),
                      x509.NameAttribute(NameOID.ORGANIZATION_NAME, TEST_ORGANISATION),
                      x509.NameAttribute(NameOID.COMMON_NAME, "XUA STS")])
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - _DAY)
                   .not_valid_after(now + _LIFE).add_extension(x509.BasicConstraints(False, None), True)
                   .sign(key, SHA256()))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(folder / "issuer.key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(private)
    (folder / "issuer.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    # last: a list half-made would be taken for the operator's. A JSON string is a TOML one.
    (folder / LIST).write_text(f'# Issuer = file of certificates, those of its signing keys\n'
                               f'{json.dumps(issuer)} = "issuer.pem"\n', "utf-8")


def build(claims: XuaClaims, key: PrivateKey, certificate: x509.Certificate, now: datetime) -> str:
    """The signed assertion as XML text; `now` aware."""
    return sign(unsigned(claims, now), key, certificate)


def unsigned(claims: XuaClaims, now: datetime) -> str:
    """The assertion of these claims, ready for `sign`."""
    identity = claims.assertion_id or f"_{uuid4().hex}"
    alias = f' SPProvidedID="{escape(claims.alias)}"' if claims.alias else ""
    return (
        f'<saml2:Assertion xmlns:saml2="{names.SAML}" xmlns:xsi="{names.XSI}" ID="{escape(identity)}"'
        f' IssueInstant="{_instant(now)}" Version="2.0"><saml2:Issuer>{escape(claims.issuer)}</saml2:Issuer>'
        f'<ds:Signature xmlns:ds="{DS}" Id="placeholder"></ds:Signature>'
        f"<saml2:Subject><saml2:NameID{alias}>{escape(claims.name_id)}</saml2:NameID>{_confirmation(claims.holder)}"
        f"</saml2:Subject>{_conditions(claims, now)}{_authentication(claims.contexts, now)}"
        f"<saml2:AttributeStatement>{''.join(_attributes(claims))}</saml2:AttributeStatement></saml2:Assertion>")


def _confirmation(holder: x509.Certificate | None) -> str:
    """Bearer, or the holder of the key in this certificate (SAML V2.0 Holder-of-Key §2.4)."""
    if holder is None:
        return f'<saml2:SubjectConfirmation Method="{BEARER}"/>'
    text = "".join(holder.public_bytes(Encoding.PEM).decode().splitlines()[1:-1])
    return (f'<saml2:SubjectConfirmation Method="{HOLDER_OF_KEY}"><saml2:SubjectConfirmationData'
            f' xsi:type="saml2:KeyInfoConfirmationDataType"><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data>'
            f"<ds:X509Certificate>{text}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
            "</saml2:SubjectConfirmationData></saml2:SubjectConfirmation>")


def _conditions(claims: XuaClaims, now: datetime) -> str:
    first = now + claims.valid_from
    return (f'<saml2:Conditions NotBefore="{_instant(first)}" NotOnOrAfter="{_instant(first + claims.valid_for)}">'
            f"<saml2:AudienceRestriction><saml2:Audience>{escape(claims.audience)}</saml2:Audience>"
            "</saml2:AudienceRestriction></saml2:Conditions>")


def _authentication(contexts: Iterable[str], now: datetime) -> str:
    return "".join(
        f'<saml2:AuthnStatement AuthnInstant="{_instant(now)}"><saml2:AuthnContext><saml2:AuthnContextClassRef>'
        f"{escape(context)}</saml2:AuthnContextClassRef></saml2:AuthnContext></saml2:AuthnStatement>"
        for context in contexts)


def _attributes(claims: XuaClaims) -> Iterator[str]:
    """The attributes in the order of ITI TF-2 §3.40.4.1.2."""
    yield _texts(names.SUBJECT_ID, claims.subject_name)
    yield _texts(ORGANISATION, claims.organisation)
    yield _texts(ORGANISATION_ID, claims.organisation_id)
    yield _texts(COMMUNITY, claims.community)
    yield _codes(names.ROLE, "Role", claims.roles)
    yield _codes(names.PURPOSE, "PurposeOfUse", claims.purposes)
    yield _texts(names.RESOURCE_ID, claims.patient)
    yield _texts(CONSENT_DOCUMENT, *claims.consents)
    yield _texts(CONSENT_POLICY, *claims.policies)


def _texts(name: str, *texts: str) -> str:
    return _attribute(name, [f'<saml2:AttributeValue xmlns:xs="{names.XS}" xsi:type="xs:string">{escape(text)}'
                             "</saml2:AttributeValue>" for text in texts if text])


def _codes(name: str, tag: str, codes: Iterable[Code]) -> str:
    return _attribute(name, [
        f'<saml2:AttributeValue><{tag} xmlns="{names.V3}" xsi:type="CE" code="{escape(code.code)}"'
        f' codeSystem="{escape(code.scheme)}" displayName="{escape(code.display)}"/></saml2:AttributeValue>'
        for code in codes])


def _attribute(name: str, values: list[str]) -> str:
    if not values:
        return ""
    return f'<saml2:Attribute Name="{name}" NameFormat="{_URI}">{"".join(values)}</saml2:Attribute>'


def _instant(moment: datetime) -> str:
    """UTC with milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
