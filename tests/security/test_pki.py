"""The test PKI: what is on disk, and what openssl and a TLS handshake think of it."""

import json
import shutil
import ssl
import stat
import subprocess
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)

from security import cards
from security import pki as pkis
from security.identity import CardType
from security.minting import CardSpec
from security.trust import Purpose, Trust
from tests.security.forging import NOW, SPECS, card, code
from xds.findings import Refused

STEMS = {"auth": Purpose.AUTHENTICATION, "sign": Purpose.SIGNATURE}
NAMES = ["medecin", "medecin-traitant", "cardiologue", "pharmacien", "biologiste", "infirmier", "chirurgien-dentiste",
         "sage-femme", "masseur-kine", "opticien", "regulateur-samu", "medecin-travail", "interne", "secretaire-cpe",
         "cpe-anonyme", "coordination", "ehpad", "hopital", "laboratoire", "expired", "revoked", "other-ca",
         "self-signed"]
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    pkis.create(folder, [SPECS["medecin"], SPECS["self-signed"]], NOW)
    return folder


@pytest.fixture
def small(template, tmp_path, monkeypatch):
    """A PKI of two cards that a test may change."""
    monkeypatch.setattr(pkis, "_AUTHORITY_BITS", 2048)
    return shutil.copytree(template, tmp_path / "var")


# --- the list of cards -----------------------------------------------------------------------------------------------


def luhn(digits):
    doubled = [int(digit) * (2 - position % 2) for position, digit in enumerate(reversed(digits), 1)]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def test_the_luhn_of_these_tests_knows_a_right_key_from_a_wrong_one():
    assert luhn("79927398713")
    assert not luhn("79927398710")


def test_the_cards_are_those_users_know():
    assert list(SPECS) == NAMES


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_number_has_a_right_key(spec):
    numbers = {"8": 11, "1": 9, "2": 9, "3": 14 if spec.card_type is CardType.ES else 9, "4": 11}
    for identifier in (spec.national_id, spec.structure.id):
        kind, digits = identifier[0], identifier[1:].partition("/")[0]
        length = 14 if identifier == spec.structure.id and kind == "3" else numbers[kind]
        assert luhn(digits[:length]), identifier
        assert "99" in digits[:5]  # of ranges that nobody holds


def test_numbers_and_cards_are_nobody_elses():
    own = [spec for spec in SPECS.values() if spec.card_type is not CardType.ES]
    assert len({spec.national_id for spec in own}) == len(own)
    assert len({spec.card_number for spec in own}) == len(own)


@pytest.mark.parametrize(("text", "said"), [
    ("[Bad_Name]\n", r"\[Bad_Name\]"), ("[x]\ncard_type = 'CPS'\n", r"\[x\]"), ("[x]\ncolour = 1\n", r"\[x\]"),
    ("[x]\ncard_type = 'CPZ'\n", r"\[x\].*CPZ"), ("[x]\nprofession = {}\n", r"\[x\]"),
    ("[x]\ndefect = 'torn'\n", r"\[x\].*torn")])
def test_a_bad_entry_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        pkis.load_specs(text)


# --- what is on disk -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", NAMES)
def test_a_card_is_a_folder_of_matching_files(pki, holder):
    home = pki / "cards" / holder
    bundle = pkcs12.load_pkcs12((home / "card.p12").read_bytes(), b"volet")
    assert bundle.cert is not None
    assert bundle.cert.certificate == card(pki, holder)
    for stem in STEMS:
        key = load_pem_private_key((home / f"{stem}.key").read_bytes(), None)
        spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert key.public_key().public_bytes(*spki) == card(pki, holder, stem).public_key().public_bytes(*spki)
        chain = cards.load_chain((home / f"{stem}.pem").read_bytes())
        assert len(chain) == (1 if holder in ("other-ca", "self-signed") else 2)
    assert (home / "ca.pem").exists() == (holder == "other-ca")


def test_keys_are_for_their_owner_only(pki):
    keys = [*pki.rglob("*.key"), *pki.rglob("*.p12")]
    assert len(keys) == 3 * len(NAMES) + 1 + 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert stat.S_IMODE((pki / "pki/private").stat().st_mode) == 0o700
    assert not list(pki.rglob(".*"))  # no temporary file stays


def test_card_json_tells_a_client_who_it_is(pki):
    told = json.loads((pki / "cards/cardiologue/card.json").read_text("utf-8"))
    assert {key: told[key] for key in ("identifier", "name", "card_type", "card_number", "profession", "speciality",
                                       "structure", "sector", "password")} == {
        "identifier": "899999000039", "name": "EXEMPLE Claire", "card_type": "CPS",
        "card_number": "8025000000/2600000003", "profession": "10", "speciality": "SM04",
        "structure": {"id": "1990000010", "name": "HOPITAL FICTIF"}, "sector": "SA01", "password": "volet"}
    assert [(role["code"], role["system"]) for role in told["roles"]] == [
        ("10", "1.2.250.1.71.1.2.7"), ("SM04", "1.2.250.1.71.4.2.5")]


@pytest.mark.parametrize(("holder", "roles", "genre"), [
    ("interne", [("10", "1.2.250.1.71.1.2.8")], ""),
    ("secretaire-cpe", [("SECRETARIAT_MEDICAL", "1.2.250.1.213.1.1.4.6")], ""),
    ("coordination", [("99", "1.2.250.1.71.1.2.7"), ("330", "1.2.250.1.213.1.6.1.107")], "GENR08")])
def test_roles_are_given_with_their_tables(pki, holder, roles, genre):
    told = json.loads((pki / "cards" / holder / "card.json").read_text("utf-8"))
    assert [(role["code"], role["system"]) for role in told["roles"]] == roles
    assert told["activity_genre"] == genre


@pytest.mark.parametrize("holder", NAMES)
def test_card_json_agrees_with_the_certificate(pki, holder):
    told = json.loads((pki / "cards" / holder / "card.json").read_text("utf-8"))
    identity = cards.read_identity(card(pki, holder))
    assert (told["identifier"], told["card_type"], told["card_number"], told["profession"], told["name"]) == (
        identity.national_id, identity.card_type, identity.card_number, identity.profession, identity.name)
    assert told["serials"]["auth"] == identity.serial
    assert told["description"]["fr"]
    assert told["description"]["en"]


def test_nothing_points_to_a_real_address(pki):
    for path in pki.rglob("*.pem"):
        if path.name != "crl.pem":
            for certificate in cards.load_chain(path.read_bytes()):
                text = certificate.public_bytes(Encoding.DER)
                assert text.count(b"http://") == text.count(b".volet.invalid")


# --- again, one more, one fewer --------------------------------------------------------------------------------------


def test_a_pki_is_not_overwritten_unless_told(small):
    before = (small / "pki/ca.pem").read_bytes()
    with pytest.raises(FileExistsError, match="is there already"):
        pkis.create(small, [SPECS["medecin"]], NOW)
    assert (small / "pki/ca.pem").read_bytes() == before
    (small / "cards/mine").mkdir()
    pkis.create(small, [SPECS["infirmier"]], NOW, overwrite=True)
    assert (small / "pki/ca.pem").read_bytes() != before
    assert sorted(path.name for path in (small / "cards").iterdir()) == ["infirmier", "mine"]
    assert Trust.load(small / "pki").verify(card(small, "infirmier"), Purpose.AUTHENTICATION, NOW)


def test_a_creation_cut_short_can_be_done_again(small):
    (small / "pki/ca.pem").unlink()  # it is written last
    pkis.create(small, [SPECS["medecin"]], NOW)
    assert Trust.load(small / "pki").verify(card(small, "medecin"), Purpose.AUTHENTICATION, NOW)


@pytest.mark.parametrize("spec", [
    replace(SPECS["infirmier"], name="new"), replace(SPECS["ehpad"], name="new"),
    replace(SPECS["medecin"], name="new", software=True)], ids=["person", "organisation", "software"])
def test_one_more_card_is_as_good_as_the_first(small, spec: CardSpec):
    assert pkis.issue(small, spec, NOW) == small / "cards/new"
    trust = Trust.load(small / "pki")
    for stem, purpose in STEMS.items():
        assert trust.verify(card(small, "new", stem), purpose, NOW).national_id == spec.national_id
    with pytest.raises(FileExistsError, match="of that name"):
        pkis.issue(small, spec, NOW)


@pytest.mark.parametrize(("defect", "rule"), [
    ("expired", "V-SEC-CHAIN-EXPIRED"), ("revoked", "V-SEC-CRL-REVOKED"), ("other-ca", "V-SEC-CHAIN-UNKNOWN-ISSUER"),
    ("self-signed", "V-SEC-CHAIN-SELF-SIGNED")])
def test_bad_cards_can_be_added_too(small, defect, rule):
    pkis.issue(small, replace(SPECS[defect], name="bad"), NOW)
    trust = Trust.load(small / "pki")
    assert code(trust.verify, card(small, "bad"), Purpose.AUTHENTICATION, NOW) == rule
    assert trust.verify(card(small, "medecin"), Purpose.AUTHENTICATION, NOW)


def test_revoking_signs_a_list_with_the_next_number_and_keeps_the_others(small):
    def lists():
        return {crl.issuer.rfc4514_string(): crl for crl in pkis._load_lists(small / "pki/crl.pem")}

    before, later = lists(), NOW + timedelta(hours=1)
    pkis.revoke(small, "medecin", later, x509.ReasonFlags.superseded)
    pkis.revoke(small, "medecin", later + timedelta(hours=1))  # again: date and reason stay
    after = lists()
    changed = [name for name in before if before[name] != after[name]]
    assert [name.split(",")[0] for name in changed] == ["CN=TEST AC IGC-SANTE FORT PERSONNES"]
    assert after[changed[0]].extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 3
    assert {(entry.serial_number, entry.revocation_date_utc) for entry in after[changed[0]]} == {
        (card(small, "medecin", stem).serial_number, later) for stem in STEMS}
    trust = Trust.load(small / "pki")
    for stem, purpose in STEMS.items():
        with pytest.raises(Refused, match="superseded"):
            trust.verify(card(small, "medecin", stem), purpose, later)


def test_an_authority_key_of_another_kind_is_named(small):
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (small / "pki/private/fort-personnes.key").write_bytes(other)
    with pytest.raises(ValueError, match=r"fort-personnes\.key: an RSA key"):
        pkis.revoke(small, "medecin", NOW)


def test_only_its_issuer_revokes_a_card(small):
    with pytest.raises(ValueError, match="only the issuer of a card can revoke it"):
        pkis.revoke(small, "self-signed", NOW)
    with pytest.raises(FileNotFoundError):
        pkis.revoke(small, "nobody", NOW)


# --- what others think -----------------------------------------------------------------------------------------------


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)


@needs_openssl
@pytest.mark.parametrize("holder", NAMES)
@pytest.mark.parametrize("stem", STEMS)
def test_openssl_and_trust_agree(pki, holder, stem):
    path = pki / "cards" / holder / f"{stem}.pem"
    purpose = ["-purpose", "sslclient"] if stem == "auth" else ["-purpose", "any"]
    answer = openssl("verify", "-CAfile", pki / "pki/ca.pem", "-CRLfile", pki / "pki/crl.pem", "-crl_check_all",
                     "-x509_strict", *purpose, path)
    trust, at = Trust.load(pki / "pki"), card(pki, "medecin").not_valid_before_utc + timedelta(days=2)
    try:
        trusted = trust.verify(card(pki, holder, stem), STEMS[stem], at)
    except Refused:
        trusted = None
    assert (answer.returncode == 0) == (trusted is not None), answer.stdout + answer.stderr
    why = {"expired": "certificate has expired", "revoked": "certificate revoked",
           "other-ca": "unable to get local issuer certificate", "self-signed": "self-signed certificate"}
    assert why.get(holder, "OK") in answer.stdout + answer.stderr


@needs_openssl
def test_openssl_accepts_the_unrevoked_revoked_card(pki):
    # Without its list the card is good: so the list is what refuses it.
    assert openssl("verify", "-CAfile", pki / "pki/ca.pem", pki / "cards/revoked/auth.pem").returncode == 0


@needs_openssl
def test_openssl_knows_other_ca_by_its_own_authority(pki):
    home = pki / "cards/other-ca"
    assert openssl("verify", "-CAfile", home / "ca.pem", home / "auth.pem").returncode == 0


@needs_openssl
def test_openssl_prints_the_names_as_the_igc_sante_orders_them(pki):
    def printed(holder, what):
        return openssl("x509", "-in", pki / "cards" / holder / "auth.pem", "-noout", what, "-nameopt",
                       "utf8,sep_comma_plus_space,dump_nostr,sname").stdout.strip().partition("=")[2]

    assert printed("medecin", "-subject") == "C=FR, title=Médecin, GN=Anne + SN=ESSAI + CN=899999000013"
    assert printed("medecin", "-issuer") == (
        "C=FR, O=VOLET TEST, OU=0002 000000000, OU=IGC-SANTE TEST, CN=TEST AC IGC-SANTE FORT PERSONNES")
    assert printed("cpe-anonyme", "-subject") == "C=FR, O=CENTRE DE SANTE FICTIF, CN=3990000069/CPET0002"
    assert printed("ehpad", "-subject") == (
        "C=FR, ST=Exemple (99), O=EHPAD LES EXEMPLES, OU=1990000028, CN=EHPAD LES EXEMPLES")


@needs_openssl
@pytest.mark.parametrize("host", [
    ("-verify_hostname", "localhost"), ("-verify_ip", "127.0.0.1"), ("-verify_ip", "::1")])
def test_openssl_accepts_the_server(pki, host):
    answer = openssl("verify", "-CAfile", pki / "pki/ca.pem", "-purpose", "sslserver", *host, pki / "pki/server.pem")
    assert answer.returncode == 0, answer.stderr


def test_the_server_has_the_further_names_once(tmp_path, monkeypatch):
    monkeypatch.setattr(pkis, "_AUTHORITY_BITS", 2048)
    pkis.create(tmp_path, [], NOW, names=["volet.example", "192.0.2.7", "localhost"])
    server = cards.load_chain((tmp_path / "pki/server.pem").read_bytes())[0]
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["localhost", "127.0.0.1", "::1", "volet.example", "192.0.2.7"]


def handshake(pki, holder, stem="auth"):
    """TLS in memory between the server of the PKI and a card, with revocation lists; the card the server then sees."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki / "pki/server.pem", pki / "pki/server.key")
    server.load_verify_locations(pki / "pki/ca.pem")
    server.load_verify_locations(pki / "pki/crl.pem")
    server.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(pki / "pki/ca.pem"))
    client.load_cert_chain(pki / "cards" / holder / f"{stem}.pem", pki / "cards" / holder / f"{stem}.key")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(there, back, server_side=True), client.wrap_bio(back, there, server_hostname="localhost")]
    waiting = list(ends)
    while waiting:
        end = waiting.pop()
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            waiting.insert(0, end)
    return ends[0].getpeercert(binary_form=True)


@pytest.mark.parametrize("holder", ["medecin", "cpe-anonyme", "ehpad"])
def test_a_card_opens_tls_and_the_server_sees_it(pki, holder):
    assert cards.load_certificate(handshake(pki, holder)) == card(pki, holder)


@pytest.mark.parametrize(("holder", "stem", "said"), [
    ("medecin", "sign", "unsuitable certificate purpose"), ("revoked", "auth", "certificate revoked"),
    ("expired", "auth", "certificate has expired"), ("other-ca", "auth", "unable to get local issuer"),
    ("self-signed", "auth", "self-signed certificate")])
def test_tls_refuses_the_bad_cards_by_itself(pki, holder, stem, said):
    with pytest.raises(ssl.SSLError, match=said):
        handshake(pki, holder, stem)
