"""Certificates and revocation lists as the IGC-Santé encodes them, for tests: values and keys -> signed objects.

Nothing here may be trusted outside tests: O=VOLET TEST, addresses under .invalid, every card of the test range.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from security import cards
from security.identity import CardType

BASE = "http://igc.volet.invalid"
POLICY = x509.ObjectIdentifier("2.999.1.1")  # X.660: the arc for examples

YEAR = timedelta(days=365)
LIFE = 3 * YEAR  # IGC-Santé: three years
DAY = timedelta(days=1)

_AGENCY = (("C", "FR"), ("O", "VOLET TEST"), ("OU", "0002 000000000"), ("OU", "IGC-SANTE TEST"))


class Defect(StrEnum):
    """What is wrong with a card made to be refused."""

    EXPIRED = "expired"
    REVOKED = "revoked"
    OTHER_CA = "other-ca"
    SELF_SIGNED = "self-signed"


@dataclass(frozen=True, slots=True)
class Code:
    """A code, its label and the OID of its table."""

    code: str
    label: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class Structure:
    """Struct_IdNat and name of the place of work."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CardSpec:
    """One card to be made; the keys are those of `cards.toml`. `software`: a person's certificate without a card."""

    name: str
    card_type: CardType
    national_id: str
    structure: Structure
    sector: str = ""
    family: str = ""
    given: str = ""
    card_number: str = ""
    profession: Code | None = None
    future_profession: Code | None = None
    specialities: tuple[Code, ...] = ()
    role: Code | None = None
    genre: str = ""
    software: bool = False
    defect: Defect | None = None
    fr: str = ""
    en: str = ""

    @property
    def title(self) -> str:
        """Title in the subject: the label of the profession."""
        held = self.profession or self.future_profession
        return held.label if held else ""

    @property
    def roles(self) -> list[Code]:
        """Roles that a VIHF of this card claims, in order, each with its table: profession, specialities, other."""
        held = [(self.profession, cards.PROFESSION), (self.future_profession, cards.FUTURE_PROFESSION),
                *((speciality, cards.SPECIALITY) for speciality in self.specialities), (self.role, "")]
        return [Code(code.code, code.label, code.system or system) for code, system in held if code]


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certification authority at work. `point` is the base name of its list, `chain` what follows a leaf."""

    certificate: x509.Certificate
    key: RSAPrivateKey
    point: str
    chain: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Key usage flags (as `x509.KeyUsage` names them) and extended key usage of a certificate."""

    flags: frozenset[str]
    extended: x509.ObjectIdentifier


# IGC-Santé, profile of certificates: the signature key of a person is for non-repudiation and nothing else.
AUTHENTICATION = Usage(frozenset({"digital_signature"}), ExtendedKeyUsageOID.CLIENT_AUTH)
PERSON_SIGNATURE = Usage(frozenset({"content_commitment"}), ExtendedKeyUsageOID.EMAIL_PROTECTION)
ORGANISATION_SIGNATURE = Usage(frozenset({"digital_signature", "content_commitment"}),
                               ExtendedKeyUsageOID.EMAIL_PROTECTION)
SERVER = Usage(frozenset({"digital_signature", "key_encipherment"}), ExtendedKeyUsageOID.SERVER_AUTH)


# --- leaves ----------------------------------------------------------------------------------------------------------


def certify(spec: CardSpec, key: RSAPrivateKey, usage: Usage, issuer: Issuer | None, now: datetime
            ) -> x509.Certificate:
    """A certificate of the card for that key and usage; signed by itself when there is no issuer."""
    since = now.replace(microsecond=0) - DAY - (LIFE if spec.defect is Defect.EXPIRED else timedelta())
    subject = subject_of(spec)
    builder = _builder(subject, issuer.certificate.subject if issuer else subject, key.public_key(), since,
                       since + LIFE)
    if spec.software or spec.card_type is CardType.ES:  # IGC-Santé: seen in software certificates
        builder = builder.add_extension(x509.PrivateKeyUsagePeriod(since, since + LIFE), False)
    return sign_leaf(builder, usage, issuer, key, private_extensions(spec))


def certify_server(names: Sequence[str], key: RSAPrivateKey, issuer: Issuer, now: datetime) -> x509.Certificate:
    """TLS certificate (ORG AUTH_SRV) of a server with these DNS names or addresses."""
    subject = _name(("C", "FR"), ("ST", "Exemple (99)"), ("O", "VOLET TEST"), ("OU", "1990000093"), ("CN", names[0]))
    since = now - DAY
    # Two years: browsers and systems refuse longer ones, even from anchors of one's own.
    builder = _builder(subject, issuer.certificate.subject, key.public_key(), since, since + 2 * YEAR)
    builder = builder.add_extension(x509.SubjectAlternativeName([_host(name) for name in names]), False)
    return sign_leaf(builder, SERVER, issuer, key, {cards.PRODUCT_CATEGORY: _category(cards.SOFTWARE)})


def sign_leaf(builder: x509.CertificateBuilder, usage: Usage, issuer: Issuer | None, key: RSAPrivateKey,
              private: Mapping[str, bytes]) -> x509.Certificate:
    """Add key usages, private extensions (DER by OID) and the issuer's addresses, and sign."""
    signer = issuer.key if issuer else key
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    builder = builder.add_extension(_key_usage(usage.flags), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage.extended]), False)
    if issuer:
        builder = _with_addresses(builder, issuer.point)
    for oid, value in private.items():
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False)
    return builder.sign(signer, SHA256())


def subject_of(spec: CardSpec) -> x509.Name:
    """Subject of a card: one multi-valued RDN holds name and identifier; without name, `O` and `CN` (PDT-INF-617)."""
    if spec.card_type is CardType.ES:
        return _name(("C", "FR"), ("ST", "Exemple (99)"), ("O", spec.structure.name), ("OU", spec.national_id),
                     ("CN", spec.structure.name))
    employer = [("O", spec.structure.name)] if spec.card_type in (CardType.CPE, CardType.CPA) else []
    title = [("title", spec.title)] if spec.title else []
    names = [("GN", spec.given), ("SN", spec.family)] if spec.family else []
    holder = [_attribute(key, value) for key, value in (*names, ("CN", spec.national_id))]
    return x509.Name([*_name(("C", "FR"), *employer, *title).rdns, x509.RelativeDistinguishedName(holder)])


def private_extensions(spec: CardSpec) -> dict[str, bytes]:
    """The private extensions of a card in DER, by OID; an organisation's certificate has the category only."""
    if spec.card_type is CardType.ES:
        return {cards.PRODUCT_CATEGORY: _category(cards.SOFTWARE)}
    said = {cards.PRODUCT_CATEGORY: _category(cards.SOFTWARE if spec.software else cards.CPX)}
    if not spec.software:
        said[cards.CARD_TYPE] = core.Integer(cards.CARD_TYPES.index(spec.card_type)).dump()
        said[cards.CARD_IDENTITY] = core.PrintableString(spec.card_number).dump()
    if spec.profession:
        said[cards.PROFESSION] = core.Integer(int(spec.profession.code)).dump()
    if spec.future_profession:
        said[cards.FUTURE_PROFESSION] = core.Integer(int(spec.future_profession.code)).dump()
    if spec.specialities:
        said[cards.SPECIALITY] = cards.Specialities([speciality.code for speciality in spec.specialities]).dump()
    return said


def _category(support: int) -> bytes:
    encoded: bytes = core.OctetString(bytes([support | cards.TEST])).dump()
    return encoded


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.encode("idna").decode())


# --- authorities and their lists -------------------------------------------------------------------------------------


def authority(common_name: str, point: str, key: RSAPrivateKey, parent: Issuer | None, now: datetime) -> Issuer:
    """A certification authority: a root when it has no parent. Valid from four years ago, for ten years to come."""
    subject = _name(*_AGENCY, ("CN", common_name))
    signer = parent.key if parent else key
    builder = _builder(subject, parent.certificate.subject if parent else subject, key.public_key(),
                       now - 4 * YEAR, now + 10 * YEAR)
    builder = (builder.add_extension(x509.BasicConstraints(True, 0 if parent else 1), True)
               .add_extension(_key_usage({"key_cert_sign", "crl_sign"}), True)
               .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False))
    if parent:
        builder = _with_addresses(builder, parent.point)
    certificate = builder.sign(signer, SHA256())
    return Issuer(certificate, key, point, (certificate,) if parent else ())


def revocation_list(issuer: Issuer, before: x509.CertificateRevocationList | None, now: datetime,
                    added: Iterable[x509.Certificate], reason: x509.ReasonFlags) -> x509.CertificateRevocationList:
    """The next list of an authority: what stood on the one before, and those added with reason and date `now`."""
    entries = {entry.serial_number: entry for entry in before or ()}
    for leaf in added:
        entry = x509.RevokedCertificateBuilder().serial_number(leaf.serial_number).revocation_date(now)
        entries.setdefault(leaf.serial_number, entry.add_extension(x509.CRLReason(reason), False).build())
    number = 1 if before is None else before.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
    # A real list lives for days; these live as long as the cards, so that a developer's server needs no care.
    builder = x509.CertificateRevocationListBuilder(
        issuer.certificate.subject, now, now + LIFE, revoked_certificates=list(entries.values()))
    return (builder.add_extension(x509.CRLNumber(number), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False)
            .sign(issuer.key, SHA256()))


# --- pieces ----------------------------------------------------------------------------------------------------------

_OIDS = {"C": NameOID.COUNTRY_NAME, "ST": NameOID.STATE_OR_PROVINCE_NAME, "O": NameOID.ORGANIZATION_NAME,
         "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME, "title": NameOID.TITLE,
         "SN": NameOID.SURNAME, "GN": NameOID.GIVEN_NAME}
_FLAGS = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
          "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


def _with_addresses(builder: x509.CertificateBuilder, point: str) -> x509.CertificateBuilder:
    """Policy, revocation list, OCSP and issuer addresses, none of which exists."""
    policy = x509.PolicyInformation(POLICY, [f"{BASE}/PC%20TEST"])
    crl = x509.DistributionPoint([_uri(f"{BASE}/CRL/{point}.crl")], None, None, None)
    access = [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, _uri("http://ocsp.volet.invalid")),
              x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, _uri(f"{BASE}/AC%20TEST/{point}.cer"))]
    return (builder.add_extension(x509.CertificatePolicies([policy]), False)
            .add_extension(x509.CRLDistributionPoints([crl]), False)
            .add_extension(x509.AuthorityInformationAccess(access), False))


def _uri(address: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(address)


def _builder(subject: x509.Name, issuer: x509.Name, key: RSAPublicKey, since: datetime, until: datetime
             ) -> x509.CertificateBuilder:
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(since).not_valid_after(until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False))


def _key_usage(flags: Iterable[str]) -> x509.KeyUsage:
    wanted = set(flags)
    return x509.KeyUsage(*(flag in wanted for flag in _FLAGS))


def _name(*pairs: tuple[str, str]) -> x509.Name:
    return x509.Name([_attribute(key, value) for key, value in pairs])


def _attribute(key: str, value: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(_OIDS[key], value)
