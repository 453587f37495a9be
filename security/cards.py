"""What a professional card's certificate says: bytes -> Certificate -> Identity, read strictly.

Nothing read here is proof: a certificate that reads well may be forged. `security.trust` says whether it is genuine.

    load_certificate    one certificate, DER or PEM; `Refused` when broken, too large or weak
    load_chain          the certificates of a PEM file, leaf first
    read_identity       holder, card and professional extensions; `Refused` when one of them is odd
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from asn1crypto import core, parser
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from security.identity import CardType, Identity, Kind
from xds.findings import Catalogue, Refused, Rule, Where

RULES = Catalogue("security")
UNREADABLE = RULES["V-SEC-CARD-UNREADABLE"]
TOO_LARGE = RULES["V-SEC-CARD-TOO-LARGE"]
WEAK_KEY = RULES["V-SEC-CARD-WEAK-KEY"]
WEAK_SIGNATURE = RULES["V-SEC-CARD-WEAK-SIGNATURE"]
SUBJECT = RULES["V-SEC-CARD-SUBJECT"]
CHARACTERS = RULES["V-SEC-CARD-NAME-CHARACTERS"]
NAME_MISSING = RULES["V-SEC-CARD-NAME-MISSING"]
IDENTIFIER = RULES["V-SEC-CARD-IDENTIFIER"]
STRUCTURE = RULES["V-SEC-CARD-STRUCTURE"]
TWICE = RULES["V-SEC-CARD-EXTENSION-TWICE"]
ENCODING = RULES["V-SEC-CARD-EXTENSION-ENCODING"]
VALUE = RULES["V-SEC-CARD-EXTENSION-VALUE"]
CATEGORY_MISSING = RULES["V-SEC-CARD-CATEGORY-MISSING"]
CATEGORY_UNKNOWN = RULES["V-SEC-CARD-CATEGORY-UNKNOWN"]
TYPE_MISSING = RULES["V-SEC-CARD-TYPE-MISSING"]
TYPE_UNKNOWN = RULES["V-SEC-CARD-TYPE-UNKNOWN"]
PROFESSION_MISSING = RULES["V-SEC-CARD-PROFESSION-MISSING"]

CERTIFICATE = Where("certificate")
MAX_BYTES = 16 * 1024
MAX_CHAIN = 8

# Private extensions of the IGC-Santé (arc 1.2.250.1.71): each OID is that of the code table of its value.
PRODUCT_CATEGORY = "1.2.250.1.71.1.2.5"
CARD_TYPE = "1.2.250.1.71.1.2.2"
CARD_IDENTITY = "1.2.250.1.71.1.2.3"
PROFESSION = "1.2.250.1.71.1.2.7"
FUTURE_PROFESSION = "1.2.250.1.71.1.2.8"
SPECIALITY = "1.2.250.1.71.4.2.5"

CPX, MODULE, SOFTWARE, TEST = 0x00, 0x02, 0x03, 0x80  # NOS TRE_G01; TEST is a bit on top of the others
CARD_TYPES = (CardType.CPS, CardType.CPF, CardType.CPE, CardType.CPA)  # NOS TRE_G02, by value

_HASHES = (SHA256, SHA384, SHA512)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_RSA_BITS = range(2048, 8192 + 1)
_RSA_EXPONENT = 65537  # RGS B1 asks for more than 2^16: small exponents have a history of forgeries


class Specialities(core.SequenceOf):  # type: ignore[misc]
    """ASN.1 type of the speciality extension."""

    _child_spec = core.UTF8String


# OID: (name shown in findings, ASN.1 type, its name)
_EXTENSIONS: dict[str, tuple[str, type[Any], str]] = {
    PRODUCT_CATEGORY: ("productCategory", core.OctetString, "OCTET STRING"),
    CARD_TYPE: ("gipCardType", core.Integer, "INTEGER"),
    CARD_IDENTITY: ("cardIdentity", core.PrintableString, "PrintableString"),
    PROFESSION: ("profession", core.Integer, "INTEGER"),
    FUTURE_PROFESSION: ("futureProfession", core.Integer, "INTEGER"),
    SPECIALITY: ("speciality", Specialities, "SEQUENCE OF UTF8String"),
}

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")
_CARD_NUMBER = re.compile(r"[0-9]{1,20}/[0-9]{1,20}")
_SPECIALITY = re.compile(r"[A-Z]{1,4}[0-9]{0,3}")
# NOS TRE_G08, first digit: 0 ADELI, 8 RPPS; the others are a structure, a solidus and its own number for the employee.
_PS_IDNAT = re.compile(r"8[0-9]{11}|0[0-9A-Z]{9}"
                       r"|(?:1[0-9A-Z]{1,14}|3[0-9A-Z]{9}|4[0-9]{9}|5[0-9]{14}|6[0-9]{11,14})/[0-9A-Za-z._-]{1,40}")
# NOS TRE_G07, first digit: 0 practice by ADELI, 1 FINESS, 2 SIREN, 3 SIRET, 4 practice by RPPS and rank.
_STRUCT_IDNAT = re.compile(r"0[0-9A-Z]{1,14}|1[0-9A-Z]{9}|2[0-9]{9}|3[0-9]{14}|4[0-9]{11,14}")
_STRUCTURE_OF_EMPLOYEE = {"1": "0", "3": "1", "4": "2", "5": "3", "6": "4"}  # TRE_G08 -> TRE_G07

_GN, _SN, _TITLE = NameOID.GIVEN_NAME, NameOID.SURNAME, NameOID.TITLE
_CN, _O, _OU = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME
_SINGLE = {_CN: "CN", _SN: "SN", _GN: "GN", _TITLE: "title", _O: "O", _OU: "OU", NameOID.COUNTRY_NAME: "C"}
_SHORT_NAMES = {_SN: "SN", _GN: "GN", _TITLE: "title"}  # RFC 4514 has no keyword for them, the CI-SIS wants these


# --- bytes -> certificate --------------------------------------------------------------------------------------------


def load_certificate(data: bytes) -> x509.Certificate:
    """The one certificate in the bytes (DER, or PEM and nothing else); `Refused` when broken, too large or weak."""
    if len(data) > MAX_BYTES:
        raise Refused(TOO_LARGE.at(CERTIFICATE, expected=f"≤ {MAX_BYTES}", received=len(data)))
    with refusing():
        certificate = x509.load_der_x509_certificate(_alone(_without_armour(data)))
        check_strength(certificate)
    return certificate


def load_chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file, in order (a card's own first), each read as `load_certificate` does."""
    blocks = _PEM.findall(pem[: MAX_CHAIN * 2 * MAX_BYTES])
    if not 1 <= len(blocks) <= MAX_CHAIN:
        raise Refused(UNREADABLE.at(CERTIFICATE, expected=f"PEM × 1–{MAX_CHAIN}", received=f"PEM × {len(blocks)}"))
    return tuple(load_certificate(b"-----BEGIN CERTIFICATE-----" + block + b"-----END CERTIFICATE-----")
                 for block in blocks)


def check_strength(certificate: x509.Certificate) -> None:
    """Refuse broken parts, short or odd keys and SHA-1 or MD5 signatures.

    cryptography parses lazily: every part is touched here, so that later reads cannot raise.
    """
    with refusing():
        said = describe(certificate)
        _check_signature_bits(certificate)
        if not isinstance(certificate.signature_hash_algorithm, _HASHES):
            raise Refused(WEAK_SIGNATURE.at(CERTIFICATE, expected="SHA-256, SHA-384, SHA-512",
                                            received=_signature_name(certificate), **said))
        key = certificate.public_key()
        if not _strong(key):
            raise Refused(WEAK_KEY.at(CERTIFICATE, expected="RSA 2048–8192 (e ≥ 65537), P-256, P-384, P-521",
                                      received=_key_name(key), **said))


def describe(certificate: x509.Certificate) -> dict[str, str]:
    """What a refusal tells of a certificate: subject, card number, serial, issuer, dates (ISO, UTC)."""
    number = _raw_extensions(certificate).get(CARD_IDENTITY, b"")[2:].decode("ascii", "replace")
    issuer = certificate.issuer.get_attributes_for_oid(_CN)
    return {
        "subject": _text(certificate.subject) or "–",
        "card": number or "–",
        "serial": _serial(certificate),
        "issuer": str(issuer[0].value) if issuer else _text(certificate.issuer) or "–",
        "since": f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M}",
        "until": f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M}",
    }


@contextmanager
def refusing() -> Iterator[None]:
    """Turn whatever a parser raises for hostile bytes into a finding."""
    try:
        yield
    except Refused:
        raise
    except x509.DuplicateExtension as error:
        raise Refused(TWICE.at(CERTIFICATE, received=_extension_name(error.oid.dotted_string))) from error
    except Exception as error:  # the lazy parsers document no closed list of what they raise
        raise Refused(UNREADABLE.at(CERTIFICATE, expected="X.509 DER", received=str(error) or type(error).__name__)
                      ) from error


def _without_armour(data: bytes) -> bytes:
    stripped = data.strip()
    if not stripped.startswith(b"-----"):
        return data
    armour = _PEM.fullmatch(stripped)
    if armour is None:
        raise ValueError("PEM: exactly one CERTIFICATE block was expected")
    return base64.b64decode(b"".join(armour.group(1).split()), validate=True)


def _alone(der: bytes) -> bytes:
    length = parser.peek(der)
    if length != len(der):
        raise ValueError(f"{len(der) - length} bytes follow the end of the certificate")
    return der


def _check_signature_bits(certificate: x509.Certificate) -> None:
    """A signature is whole bytes (X.690 §8.6).

    The verifier passes over the count of unused bits, which the signature does not cover: without this check a card
    could be written in several ways. OpenSSL refuses the others too.
    """
    unused = certificate.public_bytes(Encoding.DER)[-len(certificate.signature) - 1]
    if unused:
        raise ValueError(f"{unused} unused bits in the signature")


def _strong(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size in _RSA_BITS and key.public_numbers().e >= _RSA_EXPONENT
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES


def _key_name(key: object) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size} (e = {key.public_numbers().e})"
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def _signature_name(certificate: x509.Certificate) -> str:
    algorithm = certificate.signature_hash_algorithm
    return algorithm.name.upper() if algorithm else _algorithm_names.get(
        certificate.signature_algorithm_oid, certificate.signature_algorithm_oid.dotted_string)


_algorithm_names = {SignatureAlgorithmOID.ED25519: "Ed25519", SignatureAlgorithmOID.ED448: "Ed448"}


def _text(name: x509.Name) -> str:
    return name.rfc4514_string(_SHORT_NAMES)


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:X}"


# --- certificate -> identity -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Said:
    """The private extensions of one certificate; None or empty when absent."""

    category: int
    card_type: int | None = None
    number: str = ""
    profession: str = ""
    future: str = ""
    specialities: tuple[str, ...] = ()

    @property
    def support(self) -> int:
        """Product category without its test bit."""
        return self.category & ~TEST

    @property
    def personal(self) -> bool:
        """Whether anything is said that only a person's certificate says."""
        return self.card_type is not None or bool(self.number or self.profession or self.future or self.specialities)


def read_identity(certificate: x509.Certificate) -> Identity:
    """Who the certificate names, and as what; `Refused` on the first thing that is odd.

    Subject (PDT-INF-617): a person is `C, title, {GN + SN + CN}`, a CPE without name `O` and `CN=structure/employee`,
    an organisation `C, ST, O, OU=Struct_IdNat, CN`. Anything said that only a person's certificate says makes it a
    person's; the verified issuer must agree (`security.trust`).
    """
    with refusing():
        names, said = _names(certificate), _private(certificate)
        organisation = _OU in names and not (said.personal or _SN in names or _GN in names)
        read = _organisation if organisation else _person
        return read(certificate, names, said)


_Names = dict[x509.ObjectIdentifier, str]


def _person(certificate: x509.Certificate, names: _Names, said: _Said) -> Identity:
    card_type = _card_type(certificate, said)
    _check_profession(certificate, card_type, said)
    _check_names(certificate, card_type, names)
    number = names.get(_CN, "")
    if not _PS_IDNAT.fullmatch(number):
        raise _refused(IDENTIFIER, certificate, "8 + RPPS, 0 + ADELI, 3 + FINESS/…", number)
    return Identity(
        kind=Kind.PERSON, card_type=card_type, national_id=number, common_name=number,
        family=names.get(_SN, ""), given=names.get(_GN, ""), title=names.get(_TITLE, ""),
        structure_id=_employer(number), structure_name=names.get(_O, ""),
        card_number=said.number, profession=said.profession, future_profession=said.future,
        specialities=said.specialities, product_category=said.category, **_envelope(certificate))


def _organisation(certificate: x509.Certificate, names: _Names, said: _Said) -> Identity:
    if said.support == CPX:  # a card that does not say which card it is
        raise _refused(TYPE_MISSING, certificate, _types_shown(), "–")
    if not _STRUCT_IDNAT.fullmatch(names[_OU]) or not names.get(_O):
        raise _refused(STRUCTURE, certificate, "OU = 1 + FINESS, 2 + SIREN, 3 + SIRET, 4 + RPPS…; O",
                       f"OU={names[_OU]}, O={names.get(_O, '')}")
    return Identity(
        kind=Kind.ORGANISATION, card_type=CardType.ES, national_id=names[_OU], common_name=names.get(_CN, ""),
        structure_id=names[_OU], structure_name=names[_O], product_category=said.category, **_envelope(certificate))


def _envelope(certificate: x509.Certificate) -> dict[str, Any]:
    return {"subject": _text(certificate.subject), "issuer": _text(certificate.issuer), "serial": _serial(certificate),
            "not_before": certificate.not_valid_before_utc, "not_after": certificate.not_valid_after_utc,
            "fingerprint": certificate.fingerprint(SHA256()).hex()}


def _names(certificate: x509.Certificate) -> _Names:
    """Subject attributes by OID; those read here at most once each, none with control or format characters."""
    names: _Names = {}
    for attribute in certificate.subject:
        value = attribute.value
        if not isinstance(value, str) or any(unicodedata.category(sign)[0] == "C" for sign in value):
            raise _refused(CHARACTERS, certificate, "", repr(value))
        if attribute.oid in names and attribute.oid in _SINGLE:
            raise _refused(SUBJECT, certificate, f"{_SINGLE[attribute.oid]} × 1",
                           f"{_SINGLE[attribute.oid]}={names[attribute.oid]}, {_SINGLE[attribute.oid]}={value}")
        names[attribute.oid] = value
    return names


def _card_type(certificate: x509.Certificate, said: _Said) -> CardType:
    """CPS, CPF, CPE or CPA. A person's software certificate carries no type: the profession tells CPS from CPF."""
    if said.support not in (CPX, SOFTWARE):
        raise _refused(CATEGORY_UNKNOWN, certificate, "00, 03, 80, 83", f"{said.category:02X}")
    if said.card_type is not None:
        if not 0 <= said.card_type < len(CARD_TYPES):
            raise _refused(TYPE_UNKNOWN, certificate, _types_shown(), hex(said.card_type))
        return CARD_TYPES[said.card_type]
    if said.support == SOFTWARE and (said.profession or said.future):
        return CardType.CPS if said.profession else CardType.CPF
    raise _refused(TYPE_MISSING, certificate, _types_shown(), "–")


def _check_profession(certificate: x509.Certificate, card_type: CardType, said: _Said) -> None:
    enough = {CardType.CPS: said.profession, CardType.CPF: said.profession or said.future}.get(card_type, "-")
    if not enough:
        raise _refused(PROFESSION_MISSING, certificate, PROFESSION if card_type is CardType.CPS else FUTURE_PROFESSION,
                       card_type)


def _check_names(certificate: x509.Certificate, card_type: CardType, names: _Names) -> None:
    """A name in full; or, on the card of an employee only, none and then the structure's name (PDT-INF-617)."""
    given = [oid for oid in (_SN, _GN) if names.get(oid, "").strip()]
    anonymous = card_type in (CardType.CPE, CardType.CPA) and not given and names.get(_O) and "/" in names.get(_CN, "")
    if len(given) != 2 and not anonymous:
        raise _refused(NAME_MISSING, certificate, "SN, GN", _text(certificate.subject))


def _employer(number: str) -> str:
    """Struct_IdNat of the structure in an employee's identifier (`3<FINESS>/…` -> `1<FINESS>`), "" for others."""
    structure, solidus, _employee = number.partition("/")
    return _STRUCTURE_OF_EMPLOYEE[structure[0]] + structure[1:] if solidus else ""


def _private(certificate: x509.Certificate) -> _Said:
    """The private extensions, each in strict DER and of its one type."""
    found = {oid: _decode(certificate, oid, raw) for oid, raw in _raw_extensions(certificate).items()}
    if PRODUCT_CATEGORY not in found:
        raise _refused(CATEGORY_MISSING, certificate, PRODUCT_CATEGORY, "–")
    category = found[PRODUCT_CATEGORY]
    if len(category) != 1 or category[0] & ~TEST not in (CPX, MODULE, SOFTWARE):
        raise _refused(CATEGORY_UNKNOWN, certificate, "00, 02, 03, 80, 82, 83", category.hex().upper())
    return _Said(
        category[0], found.get(CARD_TYPE), _number(certificate, found.get(CARD_IDENTITY)),
        _profession(certificate, PROFESSION, found.get(PROFESSION)),
        _profession(certificate, FUTURE_PROFESSION, found.get(FUTURE_PROFESSION)),
        _specialities(certificate, found.get(SPECIALITY)))


def _raw_extensions(certificate: x509.Certificate) -> dict[str, bytes]:
    return {extension.oid.dotted_string: extension.value.value for extension in certificate.extensions
            if isinstance(extension.value, x509.UnrecognizedExtension) and extension.oid.dotted_string in _EXTENSIONS}


def _decode(certificate: x509.Certificate, oid: str, raw: bytes) -> Any:
    """Native value; anything that does not encode back to these very bytes is not DER."""
    _name, kind, shown = _EXTENSIONS[oid]
    try:
        value = kind.load(raw, strict=True)
        native, canonical = value.native, value.dump(force=True)
    except Exception as error:  # as `refusing`: asn1crypto promises no closed list either
        raise _refused(ENCODING, certificate, shown, raw.hex(), oid) from error
    if canonical != raw:
        raise _refused(ENCODING, certificate, shown, raw.hex(), oid)
    return native


def _number(certificate: x509.Certificate, value: str | None) -> str:
    if value is not None and not _CARD_NUMBER.fullmatch(value):
        raise _refused(VALUE, certificate, "8025000000/2600000000", value, CARD_IDENTITY)
    return value or ""


def _profession(certificate: x509.Certificate, oid: str, value: int | None) -> str:
    if value is not None and not 1 <= value <= 999:
        raise _refused(VALUE, certificate, "1–999 (NOS TRE_G15, TRE_G16)", hex(value), oid)
    return "" if value is None else str(value)


def _specialities(certificate: x509.Certificate, values: list[str] | None) -> tuple[str, ...]:
    for value in values or ():
        if not _SPECIALITY.fullmatch(value):
            raise _refused(VALUE, certificate, "SM26, SCH35… (NOS TRE_R01)", value, SPECIALITY)
    return tuple(values or ())


def _types_shown() -> str:
    return ", ".join(f"{value} {card_type}" for value, card_type in enumerate(CARD_TYPES))


def _extension_name(oid: str) -> str:
    return f"{_EXTENSIONS[oid][0]} ({oid})" if oid in _EXTENSIONS else oid


def _refused(rule: Rule, certificate: x509.Certificate, expected: object, received: object, oid: str = "") -> Refused:
    return Refused(rule.at(CERTIFICATE, expected=expected, received=received, extension=_extension_name(oid),
                           **describe(certificate)))
