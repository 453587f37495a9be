"""Reading of certificates: one valid card, one change, one finding."""

import subprocess
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from security import cards, minting
from security.cards import load_certificate, load_chain, read_identity
from security.identity import CardType, Identity, Kind
from security.minting import Code
from tests.security.forging import (
    NOW,
    SPECS,
    YEAR,
    card,
    code,
    der,
    forge,
    issuer,
    key,
    mutations,
    name,
    refusal,
    respell,
)
from xds.findings import Refused

HOLDER = [("C", "FR"), ("title", "Médecin"), ("GN", "Anne"), ("SN", "ESSAI"), ("CN", "899999000013")]


# --- what every card says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("stem", ["auth", "sign"])
def test_a_card_says_what_its_spec_says(pki, spec, stem):
    identity = read_identity(card(pki, spec.name, stem))
    assert identity.kind is (Kind.ORGANISATION if spec.card_type is CardType.ES else Kind.PERSON)
    assert (identity.card_type, identity.national_id) == (spec.card_type, spec.national_id)
    assert (identity.family, identity.given, identity.card_number) == (spec.family, spec.given, spec.card_number)
    assert identity.profession == (spec.profession.code if spec.profession else "")
    assert identity.future_profession == (spec.future_profession.code if spec.future_profession else "")
    assert identity.specialities == tuple(speciality.code for speciality in spec.specialities)
    assert identity.is_test


def test_a_doctor_reads_in_full(pki):
    certificate = card(pki, "medecin")
    identity = read_identity(certificate)
    assert identity.common_name == "899999000013"
    assert identity.title == "Médecin"
    assert identity.name == "ESSAI Anne"
    assert identity.structure_id == ""  # the practice is claimed by the VIHF, the card does not say it
    assert identity.subject == "GN=Anne+SN=ESSAI+CN=899999000013,title=Médecin,C=FR"
    assert identity.issuer.startswith("CN=TEST AC IGC-SANTE FORT PERSONNES,")
    assert identity.serial == f"{certificate.serial_number:X}"
    assert (identity.not_before, identity.not_after) == (
        certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    assert identity.fingerprint == certificate.fingerprint(SHA256()).hex()
    assert identity.product_category == 0x80


def test_an_employee_without_name_is_known_by_structure_and_number(pki):
    identity = read_identity(card(pki, "cpe-anonyme"))
    assert (identity.family, identity.given) == ("", "")
    assert (identity.structure_id, identity.structure_name) == ("1990000069", "CENTRE DE SANTE FICTIF")
    assert identity.name == "CENTRE DE SANTE FICTIF"


def test_an_organisation_is_its_struct_idnat(pki):
    identity = read_identity(card(pki, "ehpad"))
    assert identity.national_id == identity.structure_id == "1990000028"
    assert identity.name == "EHPAD LES EXEMPLES"
    assert identity.product_category == 0x83


@pytest.mark.parametrize(("number", "structure"), [
    ("1AB123/7", "0AB123"), ("3990000069/X", "1990000069"), ("4999990013/X", "2999990013"),
    ("599999001300016/X", "399999001300016"), ("699999000013001/X", "499999000013001"), ("099999000", "")])
def test_the_structure_of_an_employee_is_in_its_number(pki, number, structure):
    number = number if "/" in number else "0990000013"
    assert read_identity(forge(issuer(pki), "secretaire-cpe", national_id=number)).structure_id == structure


def test_a_software_certificate_of_a_person_has_no_card(pki):
    identity = read_identity(forge(issuer(pki), software=True))
    assert (identity.card_type, identity.card_number, identity.product_category) == (CardType.CPS, "", 0x83)
    future = {"profession": None, "future_profession": Code("10", "Médecin en formation")}
    assert read_identity(forge(issuer(pki), software=True, **future)).card_type is CardType.CPF


def test_a_cpa_and_a_card_without_number_are_read(pki):
    assert read_identity(forge(issuer(pki), "cpe-anonyme", card_type=CardType.CPA)).card_type is CardType.CPA
    assert read_identity(forge(issuer(pki), private={cards.CARD_IDENTITY: None})).card_number == ""


def test_a_name_in_separate_rdns_reads_the_same(pki):
    identity = read_identity(forge(issuer(pki), subject=name(*HOLDER)))
    assert (identity.family, identity.given, identity.national_id) == ("ESSAI", "Anne", "899999000013")


# --- bytes that are no certificate -----------------------------------------------------------------------------------


def test_der_and_pem_read_the_same(pki):
    certificate = card(pki, "medecin")
    assert load_certificate(der(certificate)) == load_certificate(certificate.public_bytes(Encoding.PEM)) == certificate


@pytest.mark.parametrize("data", [
    b"", b"\x30", b"\x30\x80", b"0" * 100, b"\x30\x03\x02\x01\x01", "é".encode(), b"-----BEGIN CERTIFICATE-----",
    b"-----BEGIN CERTIFICATE-----\n=A=\n-----END CERTIFICATE-----",
    b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_refused(data):
    assert code(load_certificate, data) == "V-SEC-CARD-UNREADABLE"


def test_a_byte_after_the_end_is_refused(pki):
    finding = refusal(load_certificate, der(card(pki, "medecin")) + b"\0")
    assert finding.code == "V-SEC-CARD-UNREADABLE"
    assert finding.received == "1 bytes follow the end of the certificate"


@pytest.mark.parametrize("unused", [1, 7, 255])
def test_unused_bits_in_the_signature_are_refused(pki, unused):
    # Not covered by the signature, so a second spelling of a genuine card; found by mutation, refused by OpenSSL too.
    certificate = card(pki, "medecin")
    data = bytearray(der(certificate))
    data[-len(certificate.signature) - 1] = unused
    data[-1] &= 0x80  # the bits said to be unused must be zero, or the parser refuses first
    assert code(load_certificate, bytes(data)) == "V-SEC-CARD-UNREADABLE"


def test_two_certificates_in_pem_are_one_too_many_for_one_and_a_chain_for_another(pki):
    pem = (pki / "cards" / "medecin" / "auth.pem").read_bytes()
    assert code(load_certificate, pem) == "V-SEC-CARD-UNREADABLE"
    assert [cards.describe(link)["issuer"] for link in load_chain(pem)] == [
        "TEST AC IGC-SANTE FORT PERSONNES", "TEST AC RACINE IGC-SANTE FORT"]


@pytest.mark.parametrize("pem", [b"", b"text", b"-----BEGIN CERTIFICATE-----AAAA-----END CERTIFICATE-----" * 9])
def test_a_chain_has_one_to_eight_certificates(pem):
    assert code(load_chain, pem) == "V-SEC-CARD-UNREADABLE"


def test_too_large_is_refused_unread():
    assert code(load_certificate, b"\x30" * 16385) == "V-SEC-CARD-TOO-LARGE"


def test_private_keys_are_no_certificates(pki):
    assert code(load_certificate, (pki / "cards/medecin/auth.key").read_bytes()) == "V-SEC-CARD-UNREADABLE"


# --- weak cryptography -----------------------------------------------------------------------------------------------


def openssl_made(tmp_path, *options):
    """A self-signed certificate that our own tools would not make."""
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-subj", "/CN=899999000013", "-keyout", tmp_path / "key",
                    "-out", tmp_path / "pem", *options], check=True, capture_output=True)
    return (tmp_path / "pem").read_bytes()


@pytest.mark.parametrize(("digest", "rule"), [("-sha1", "V-SEC-CARD-WEAK-SIGNATURE"),
                                               ("-md5", "V-SEC-CARD-WEAK-SIGNATURE")])
def test_sha1_and_md5_signatures_are_refused(tmp_path, digest, rule):
    finding = refusal(load_certificate, openssl_made(tmp_path, "-newkey", "rsa:2048", digest))
    assert (finding.code, finding.received) == (rule, digest[1:].upper())


@pytest.mark.parametrize(("bits", "exponent"), [(1024, 65537), (2048, 3)])
def test_short_keys_and_small_exponents_are_refused(pki, bits, exponent):
    weak = key(bits, exponent).public_key()
    builder = minting._builder(name(*HOLDER), name(("CN", "x")), weak, NOW - YEAR, NOW)
    finding = refusal(load_certificate, der(builder.sign(key(), SHA256())))
    assert (finding.code, finding.received) == ("V-SEC-CARD-WEAK-KEY", f"RSA {bits} (e = {exponent})")


@pytest.mark.parametrize("make", [ed25519.Ed25519PrivateKey.generate,
                                  lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
                                  lambda: ec.generate_private_key(ec.SECP224R1())], ids=["ed25519", "brainpool", "224"])
def test_other_kinds_of_keys_are_refused(make):
    builder = minting._builder(name(*HOLDER), name(("CN", "x")), make().public_key(), NOW - YEAR, NOW)
    assert code(load_certificate, der(builder.sign(key(), SHA256()))) == "V-SEC-CARD-WEAK-KEY"


def test_an_ed25519_signature_is_refused(tmp_path):
    finding = refusal(load_certificate, openssl_made(tmp_path, "-newkey", "ed25519"))
    assert (finding.code, finding.received) == ("V-SEC-CARD-WEAK-SIGNATURE", "Ed25519")


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_the_usual_curves_are_read(curve):
    public = ec.generate_private_key(curve).public_key()
    builder = minting._builder(name(*HOLDER), name(("CN", "x")), public, NOW - YEAR, NOW)
    assert load_certificate(der(builder.sign(key(), SHA256()))).public_key() == public


# --- private extensions ----------------------------------------------------------------------------------------------

ENCODING, VALUE = "V-SEC-CARD-EXTENSION-ENCODING", "V-SEC-CARD-EXTENSION-VALUE"
BAD_EXTENSIONS = [
    (cards.PRODUCT_CATEGORY, None, "V-SEC-CARD-CATEGORY-MISSING"),
    (cards.PRODUCT_CATEGORY, "0400", "V-SEC-CARD-CATEGORY-UNKNOWN"),
    (cards.PRODUCT_CATEGORY, "040181", "V-SEC-CARD-CATEGORY-UNKNOWN"),
    (cards.PRODUCT_CATEGORY, "0401ff", "V-SEC-CARD-CATEGORY-UNKNOWN"),
    (cards.PRODUCT_CATEGORY, "040182", "V-SEC-CARD-CATEGORY-UNKNOWN"),  # a security module is nobody
    (cards.PRODUCT_CATEGORY, "04028000", "V-SEC-CARD-CATEGORY-UNKNOWN"),
    (cards.PRODUCT_CATEGORY, "020180", ENCODING),  # INTEGER
    (cards.PRODUCT_CATEGORY, "04018000", ENCODING),  # a byte after
    (cards.PRODUCT_CATEGORY, "04810180", ENCODING),  # long length for a short value
    (cards.PRODUCT_CATEGORY, "2403040180", ENCODING),  # constructed
    (cards.PRODUCT_CATEGORY, "24800401800000", ENCODING),  # indefinite length
    (cards.PRODUCT_CATEGORY, "0404", ENCODING),  # cut
    (cards.PRODUCT_CATEGORY, "", ENCODING),
    (cards.CARD_TYPE, None, "V-SEC-CARD-TYPE-MISSING"),
    (cards.CARD_TYPE, "020104", "V-SEC-CARD-TYPE-UNKNOWN"),
    (cards.CARD_TYPE, "020107", "V-SEC-CARD-TYPE-UNKNOWN"),
    (cards.CARD_TYPE, "0201ff", "V-SEC-CARD-TYPE-UNKNOWN"),  # -1 must not be the last of the list
    (cards.CARD_TYPE, "0202" + "7fff", "V-SEC-CARD-TYPE-UNKNOWN"),
    (cards.CARD_TYPE, "02820bb8" + "7f" * 3000, "V-SEC-CARD-TYPE-UNKNOWN"),
    (cards.CARD_TYPE, "02020000", ENCODING),  # not the shortest
    (cards.CARD_TYPE, "0200", ENCODING),
    (cards.CARD_TYPE, "010100", ENCODING),  # BOOLEAN
    (cards.CARD_TYPE, "0a0100", ENCODING),  # ENUMERATED
    (cards.CARD_TYPE, "02010000", ENCODING),
    (cards.CARD_TYPE, "0281010a", ENCODING),
    (cards.CARD_TYPE, "040100", ENCODING),
    (cards.CARD_IDENTITY, "0c03312f32", ENCODING),  # UTF8String
    (cards.CARD_IDENTITY, "1300", VALUE),
    (cards.CARD_IDENTITY, "1303612f62", VALUE),
    (cards.CARD_IDENTITY, "1304312f320a", VALUE),  # a line feed at the end
    (cards.CARD_IDENTITY, "1303312f3200", ENCODING),
    (cards.PROFESSION, None, "V-SEC-CARD-PROFESSION-MISSING"),
    (cards.PROFESSION, "020100", VALUE),
    (cards.PROFESSION, "0201f6", VALUE),  # -10
    (cards.PROFESSION, "020203e8", VALUE),  # 1000
    (cards.PROFESSION, "02820bb8" + "7f" * 3000, VALUE),
    (cards.PROFESSION, "0c023130", ENCODING),
    (cards.FUTURE_PROFESSION, "020100", VALUE),
    (cards.FUTURE_PROFESSION, "05", ENCODING),
    (cards.SPECIALITY, "0c04534d3236", ENCODING),  # without its SEQUENCE
    (cards.SPECIALITY, "3006" + "1604534d3236", ENCODING),  # IA5String inside
    (cards.SPECIALITY, "3080" + "0c04534d3236" + "0000", ENCODING),
    (cards.SPECIALITY, "3006" + "0c04534dffff", ENCODING),  # not UTF-8
    (cards.SPECIALITY, "3007" + "0c04534d3236", ENCODING),
    (cards.SPECIALITY, "3006" + "0c04736d3236", VALUE),  # small letters
    (cards.SPECIALITY, "3006" + "0c04534d3220", VALUE),
    (cards.SPECIALITY, "3002" + "0c00", VALUE),
    (cards.SPECIALITY, "3007" + "0c05534dd9a236", VALUE),  # a digit, but not an ASCII one
]


@pytest.mark.parametrize(("oid", "value", "rule"), BAD_EXTENSIONS)
def test_a_bad_extension_has_its_finding(pki, oid, value, rule):
    certificate = forge(issuer(pki), private={oid: None if value is None else bytes.fromhex(value)})
    assert code(read_identity, load_certificate(der(certificate))) == rule


def test_an_extension_finding_names_it_and_shows_the_bytes(pki):
    finding = refusal(read_identity, forge(issuer(pki), private={cards.CARD_TYPE: bytes.fromhex("02020000")}))
    assert (finding.expected, finding.received) == ("INTEGER", "02020000")
    assert "gipCardType (1.2.250.1.71.1.2.2)" in finding.en


@pytest.mark.parametrize("oid", [cards.CARD_TYPE, cards.PROFESSION, cards.PRODUCT_CATEGORY])
def test_an_extension_given_twice_is_refused(pki, oid):
    def again(tbs):
        extensions = tbs["extensions"]
        extensions.append(next(item for item in extensions if item["extn_id"].dotted == oid).copy())

    twice = respell(forge(issuer(pki)), issuer(pki), again)
    assert code(load_certificate, der(twice)) == "V-SEC-CARD-EXTENSION-TWICE"
    finding = refusal(read_identity, twice)
    assert finding.code == "V-SEC-CARD-EXTENSION-TWICE"
    assert oid in finding.received


def test_a_card_in_training_needs_its_future_profession(pki):
    assert code(read_identity, forge(issuer(pki), "interne", private={cards.FUTURE_PROFESSION: None})
                ) == "V-SEC-CARD-PROFESSION-MISSING"


def test_a_software_certificate_without_profession_has_no_right(pki):
    assert code(read_identity, forge(issuer(pki), software=True, profession=None, specialities=())
                ) == "V-SEC-CARD-TYPE-MISSING"


def test_an_organisation_with_a_card_category_is_refused(pki):
    assert code(read_identity, forge(issuer(pki), "ehpad", private={cards.PRODUCT_CATEGORY: bytes.fromhex("040180")})
                ) == "V-SEC-CARD-TYPE-MISSING"


def test_an_organisation_that_says_a_profession_is_read_as_a_person(pki):
    # ... and then lacks what a person has: no way from a structure's certificate to a doctor's rights.
    assert code(read_identity, forge(issuer(pki), "ehpad", private={cards.PROFESSION: bytes.fromhex("02010a")})
                ) == "V-SEC-CARD-NAME-MISSING"


# --- names -----------------------------------------------------------------------------------------------------------


def subject(**changes):
    """The doctor's subject with attributes replaced; None leaves one out, a list repeats it."""
    pairs = []
    for attribute, value in {**dict(HOLDER), **changes}.items():
        values = value if isinstance(value, list) else [value]
        pairs += [(attribute, item) for item in values if item is not None]
    return name(*pairs)


@pytest.mark.parametrize(("changes", "rule"), [
    ({"CN": "899999000013\0"}, "V-SEC-CARD-NAME-CHARACTERS"),
    ({"CN": "899999000013\n"}, "V-SEC-CARD-NAME-CHARACTERS"),
    ({"SN": "ES\x1b[31mSAI"}, "V-SEC-CARD-NAME-CHARACTERS"),
    ({"SN": "ES\u202eSAI"}, "V-SEC-CARD-NAME-CHARACTERS"),
    ({"GN": "An\u200bne"}, "V-SEC-CARD-NAME-CHARACTERS"),
    ({"title": "M\x7fdecin"}, "V-SEC-CARD-NAME-CHARACTERS"),
    ({"ST": "a\0b"}, "V-SEC-CARD-NAME-CHARACTERS"),
    ({"CN": ["899999000013", "899999000021"]}, "V-SEC-CARD-SUBJECT"),
    ({"SN": ["ESSAI", "ESSAI"]}, "V-SEC-CARD-SUBJECT"),
    ({"title": ["Médecin", "Pharmacien"]}, "V-SEC-CARD-SUBJECT"),
    ({"OU": ["1990000010", "1990000028"]}, "V-SEC-CARD-SUBJECT"),
    ({"SN": None}, "V-SEC-CARD-NAME-MISSING"),
    ({"GN": None}, "V-SEC-CARD-NAME-MISSING"),
    ({"SN": None, "GN": None, "O": "CABINET"}, "V-SEC-CARD-NAME-MISSING"),  # a CPS is never anonymous
    ({"SN": "  "}, "V-SEC-CARD-NAME-MISSING"),
    ({"CN": None}, "V-SEC-CARD-IDENTIFIER"),
    ({"CN": "99999000013"}, "V-SEC-CARD-IDENTIFIER"),  # RPPS without its 8
    ({"CN": "8999990000137"}, "V-SEC-CARD-IDENTIFIER"),
    ({"CN": " 899999000013"}, "V-SEC-CARD-IDENTIFIER"),
    ({"CN": "89999900001٣"}, "V-SEC-CARD-IDENTIFIER"),  # a digit, but not an ASCII one
    ({"CN": "8９9999000013"}, "V-SEC-CARD-IDENTIFIER"),
    ({"CN": "3990000069"}, "V-SEC-CARD-IDENTIFIER"),  # a structure without its employee
    ({"CN": "3990000069/"}, "V-SEC-CARD-IDENTIFIER"),
    ({"CN": "3990000069/../x"}, "V-SEC-CARD-IDENTIFIER"),
    ({"CN": "ESSAI Anne"}, "V-SEC-CARD-IDENTIFIER"),
])
def test_a_bad_subject_has_its_finding(pki, changes, rule):
    assert code(read_identity, forge(issuer(pki), subject=subject(**changes))) == rule


@pytest.mark.parametrize("changes", [{"O": None}, {"GN": "Nadia"}, {"SN": "SPECIMEN"}])
def test_an_anonymous_employee_has_a_structure_and_no_half_name(pki, changes):
    parts = {"C": "FR", "O": "CENTRE", "CN": "3990000069/CPET0002", **changes}
    bad = name(*((attribute, value) for attribute, value in parts.items() if value))
    assert code(read_identity, forge(issuer(pki), "cpe-anonyme", subject=bad)) == "V-SEC-CARD-NAME-MISSING"


@pytest.mark.parametrize(("unit", "company"), [
    ("EHPAD", "X"), ("199000002", "X"), ("1990000028 ", "X"), ("5990000028", "X"), ("39999900130001", "X"),
    ("1990000028", ""), ("199000002٨", "X")])
def test_an_organisation_needs_struct_idnat_and_name(pki, unit, company):
    pairs = [("C", "FR"), ("OU", unit), ("CN", "x")] + ([("O", company)] if company else [])
    assert code(read_identity, forge(issuer(pki), "ehpad", subject=name(*pairs))) == "V-SEC-CARD-STRUCTURE"


def test_a_value_that_is_no_text_is_refused(pki):
    odd = x509.Name([*name(*HOLDER).rdns, x509.RelativeDistinguishedName([x509.NameAttribute(
        NameOID.X500_UNIQUE_IDENTIFIER, b"\x00\x01", _type=x509.name._ASN1Type.BitString)])])
    assert code(read_identity, forge(issuer(pki), subject=odd)) == "V-SEC-CARD-NAME-CHARACTERS"


def test_a_refusal_tells_which_card_it_was(pki):
    certificate = forge(issuer(pki), private={cards.CARD_TYPE: bytes.fromhex("020107")})
    finding = refusal(read_identity, certificate)
    for text in (finding.fr, finding.en):
        for told in ("GN=Anne+SN=ESSAI+CN=899999000013", "8025000000/2600000001", f"{certificate.serial_number:X}",
                     "TEST AC IGC-SANTE FORT PERSONNES", f"{NOW - YEAR:%Y-%m-%d %H:%M}",
                     f"{NOW + YEAR:%Y-%m-%d %H:%M}"):
            assert told in text


# --- mutations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", ["medecin", "cpe-anonyme", "ehpad"])
def test_mutated_bytes_are_read_or_refused_and_nothing_else(pki, holder):
    read = 0
    for data in mutations(der(card(pki, holder)), 600, seed=holder):
        with suppress(Refused):
            read_identity(load_certificate(data))
            read += 1
    assert read  # a flipped bit of the signature does not hinder reading: the loop reaches the reader


@pytest.mark.parametrize("oid", [cards.PRODUCT_CATEGORY, cards.CARD_TYPE, cards.CARD_IDENTITY, cards.PROFESSION,
                                 cards.SPECIALITY])
def test_mutated_extensions_are_read_or_refused_and_nothing_else(pki, oid):
    signer, value = issuer(pki), minting.private_extensions(SPECS["medecin"])[oid]
    for data in mutations(value, 60, seed=oid):
        with suppress(Refused):
            assert isinstance(read_identity(forge(signer, private={oid: data})), Identity)


def test_the_reader_takes_what_der_writers_write(pki):
    # asn1crypto wrote the cards; the octets are those decoded from real test cards.
    written = minting.private_extensions(SPECS["medecin"])
    assert written == {
        cards.PRODUCT_CATEGORY: bytes.fromhex("040180"), cards.CARD_TYPE: bytes.fromhex("020100"),
        cards.CARD_IDENTITY: b"\x13\x15" + b"8025000000/2600000001", cards.PROFESSION: bytes.fromhex("02010a"),
        cards.SPECIALITY: bytes.fromhex("3006") + b"\x0c\x04SM26"}
