"""Cards, structures and messages for the tests of VIHF and signatures, with a verifier that knows them."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from lxml import etree

from security import vihf_names as names
from security.distinguished import write_name
from security.identity import Authentication, Caller, CardType, Identity, Kind
from security.trust import Purpose
from security.vihf import Cache, VihfPolicy, verify
from security.vihf_build import VihfClaims, build, security_header, sign, unsigned
from security.xmldsig import PrivateKey
from xds.findings import Catalogue, Refused
from xds.model import Code
from xds.rim import localized

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
INS = "268029999900140^^^&1.2.250.1.213.1.4.10&ISO^NH"
UNKNOWN = Catalogue("security")["V-SEC-CHAIN-UNKNOWN-ISSUER"]

DOCTOR = Code("10", names.PROFESSION, localized("Médecin"))
NURSE = Code("60", names.PROFESSION, localized("Infirmier"))
PHARMACIST = Code("21", names.PROFESSION, localized("Pharmacien"))
GP = Code("SM26", names.SPECIALITY, localized("Médecine générale"))
CARDIOLOGY = Code("SM04", names.SPECIALITY, localized("Cardiologie"))
SECRETARY = Code("SECRETARIAT_MEDICAL", "1.2.250.1.213.1.1.4.6")


@dataclass(frozen=True)
class Card:
    """Both key pairs of a card or a structure, and who they prove."""

    identity: Identity
    key: PrivateKey
    signature: x509.Certificate
    authentication: x509.Certificate


@dataclass
class FakeTrust:
    """Knows the certificates it was told of, each for one purpose; counts what it was asked."""

    cards: Collection[Card]
    epoch: str = "1"
    asked: list[Purpose] = field(default_factory=list)

    def verify(self, certificate: x509.Certificate, purpose: Purpose, at: datetime) -> Identity:
        self.asked.append(purpose)
        for card in self.cards:
            known = card.signature if purpose is Purpose.SIGNATURE else card.authentication
            if certificate == known and certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
                return card.identity
        raise Refused(UNKNOWN.at(received=certificate.subject.rfc4514_string(), subject="", card="", serial="",
                                 issuer="", since="", until=""))


@functools.cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """One key a number, made once."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def ec_key(curve: str = "secp256r1") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key({"secp256r1": ec.SECP256R1, "secp384r1": ec.SECP384R1,
                                    "secp521r1": ec.SECP521R1}[curve]())


def certificate(key: PrivateKey, subject: x509.Name, days: int = 365) -> x509.Certificate:
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(x509.Name([])).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=days)).sign(key, hashes.SHA256()))


def subject_of(*rdns: dict[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.RelativeDistinguishedName([x509.NameAttribute(oid, value) for oid, value in rdn.items()])
                      for rdn in rdns])


def card_of(identity: Identity, key: PrivateKey, subject: x509.Name) -> Card:
    signature = certificate(key, subject)
    return Card(replace(identity, subject=write_name(subject), not_before=signature.not_valid_before_utc,
                        not_after=signature.not_valid_after_utc),
                key, signature, certificate(rsa_key(1), subject))


def person(number: str, family: str = "ESSAI", given: str = "ANNE", title: str = "Médecin", *,
           card_type: CardType = CardType.CPS, profession: str = "10", specialities: tuple[str, ...] = ("SM26",),
           key: PrivateKey | None = None, future_profession: str = "", structure_id: str = "") -> Card:
    """A card with its holder's names in one multi-valued RDN, as the IGC-Santé has them."""
    identity = Identity(Kind.PERSON, card_type, number, number, family, given, title, profession=profession,
                        specialities=specialities, future_profession=future_profession, structure_id=structure_id)
    return card_of(identity, key or rsa_key(), subject_of(
        {NameOID.COUNTRY_NAME: "FR"}, {NameOID.TITLE: title},
        {NameOID.GIVEN_NAME: given, NameOID.SURNAME: family, NameOID.COMMON_NAME: number}))


def structure(number: str = "1990000017", name: str = "EHPAD DES ESSAIS", key: PrivateKey | None = None) -> Card:
    """The certificates of an organisation."""
    identity = Identity(Kind.ORGANISATION, CardType.ES, number, "essai", structure_id=number, structure_name=name)
    return card_of(identity, key or rsa_key(), subject_of(
        {NameOID.COUNTRY_NAME: "FR"}, {NameOID.STATE_OR_PROVINCE_NAME: "Rhône (69)"}, {NameOID.ORGANIZATION_NAME: name},
        {NameOID.ORGANIZATIONAL_UNIT_NAME: number}, {NameOID.COMMON_NAME: "essai"}))


@functools.cache
def doctor() -> Card:
    return person("899999000013")


@functools.cache
def other_doctor() -> Card:
    return person("899999000021", "FICTIF", "BERNARD", key=rsa_key(2))


@functools.cache
def nursing_home() -> Card:
    return structure()


@functools.cache
def other_home() -> Card:
    return structure("1990000025", "EHPAD DES AUTRES", rsa_key(2))


def claims_of(card: Card, **changes: object) -> VihfClaims:
    """Claims that hold for the card; `changes` spoil them."""
    identity = card.identity
    roles = tuple(Code(code, system) for code, system in (
        (identity.profession, names.PROFESSION), (identity.future_profession, names.FUTURE_PROFESSION),
        *((code, names.SPECIALITY) for code in identity.specialities)) if code)
    of_structure = identity.kind is Kind.ORGANISATION
    claims = VihfClaims(
        name_id="899999000039" if of_structure else identity.national_id,
        structure_id=identity.structure_id or "499999000013001",
        roles=(DOCTOR, GP) if of_structure else roles or (SECRETARY,),
        authentication=Authentication.INDIRECTE if of_structure else Authentication.DIRECTE,
        subject_name="DUPONT CAMILLE" if of_structure else "", patient=INS,
        lps_id="0001", lps_name="Logiciel d'essai", lps_version="1.2", lps_homologation="ESSAI-0000")
    return replace(claims, **changes)  # type: ignore[arg-type]


def token(card: Card, **changes: object) -> str:
    return build(claims_of(card, **changes), card.key, card.signature, NOW)


def spoiled(card: Card, change: Callable[[str], str], **changes: object) -> str:
    """A token changed before it is signed: its signature holds."""
    text = unsigned(claims_of(card, **changes), write_name(card.signature.subject), NOW)
    changed = change(text)
    assert changed != text
    return sign(changed, card.key, card.signature)


def envelope(header: str, body: str = "") -> etree._Element:
    return etree.fromstring(f'<s:Envelope xmlns:s="{names.SOAP12}"><s:Header>{header}</s:Header>'
                            f"<s:Body>{body}</s:Body></s:Envelope>")


def header_of(assertion: str) -> etree._Element:
    """The Header element of an envelope with this assertion in its Security header."""
    return envelope(security_header(assertion))[0]


def call(assertion: str, card: Card | None = None, at: datetime = NOW, cache: Cache | None = None,
         trust: FakeTrust | None = None, tls: x509.Certificate | None = None, **policy: object) -> Caller:
    """Verify over the card's own TLS certificate."""
    card = card or doctor()
    trust = trust or FakeTrust([card])
    return verify(header_of(assertion), tls or card.authentication, trust, at,
                  VihfPolicy(**policy), cache)  # type: ignore[arg-type]


def codes(run: Callable[[], object]) -> list[str]:
    """Codes of what a call refuses, or of the warnings of the caller it returns, without their common prefix."""
    try:
        result = run()
    except Refused as refused:
        found = refused.findings
        assert all(finding.fr and "{" not in finding.fr + finding.en for finding in found)
    else:
        found = result.findings  # type: ignore[attr-defined]
    return [finding.code.removeprefix("V-SEC-").removeprefix("VIHF-").removeprefix("DSIG-") for finding in found]


def xmlsec1(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program xmlsec1; skips without it."""
    program = shutil.which("xmlsec1")
    if program is None:
        pytest.skip("the program xmlsec1, the independent judge here, is not installed")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


def verified_by_xmlsec1(folder: Path, document: bytes, certificate: x509.Certificate, *options: str) -> bool:
    """Whether xmlsec1 verifies a document with the certificate's key."""
    (folder / "document.xml").write_bytes(document)
    (folder / "key.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    result = xmlsec1("--verify", "--pubkey-cert-pem", folder / "key.pem", *options, folder / "document.xml")
    return result.returncode == 0


def signed_by_xmlsec1(folder: Path, template: str, card: Card, *options: str) -> str:
    """A template with empty DigestValue, SignatureValue and X509Certificate, filled by xmlsec1."""
    pem = card.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "template.xml").write_text(template)
    (folder / "private.pem").write_bytes(pem)
    (folder / "signer.pem").write_bytes(card.signature.public_bytes(Encoding.PEM))
    result = xmlsec1("--sign", "--privkey-pem", f"{folder / 'private.pem'},{folder / 'signer.pem'}", *options,
                     folder / "template.xml")
    assert result.returncode == 0, result.stderr
    return result.stdout
