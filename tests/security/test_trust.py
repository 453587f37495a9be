"""Trust in certificates: each bad card with its finding, revocation, anchors, and what is remembered."""

import os
import threading
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from security import cards, minting
from security import pki as pkis
from security.anchors import TrustError
from security.identity import CardType, Kind
from security.minting import AUTHENTICATION, Issuer, Usage
from security.trust import Purpose, Trust, TrustStore, _Memory
from tests.security.forging import NOW, SPECS, YEAR, card, code, forge, issuer, key, mutations, refusal
from xds.findings import Refused

AUTH, SIGN = Purpose.AUTHENTICATION, Purpose.SIGNATURE
GOOD = [spec.name for spec in SPECS.values() if not spec.defect]
STEMS = {AUTH: "auth", SIGN: "sign"}


@pytest.fixture(scope="module")
def trust(pki):
    return Trust.load(pki / "pki")


@pytest.fixture
def now(pki):
    """A moment at which the shared cards are in force."""
    return card(pki, "medecin").not_valid_before_utc + timedelta(days=2)


def pem(*certificates):
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


# --- cards of the list -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", GOOD)
@pytest.mark.parametrize("purpose", Purpose)
def test_good_cards_prove_their_holder(pki, trust, now, holder, purpose):
    identity = trust.verify(card(pki, holder, STEMS[purpose]), purpose, now)
    assert identity.national_id == SPECS[holder].national_id
    assert identity == cards.read_identity(card(pki, holder, STEMS[purpose]))


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize(("holder", "rule"), [
    ("expired", "V-SEC-CHAIN-EXPIRED"), ("revoked", "V-SEC-CRL-REVOKED"),
    ("other-ca", "V-SEC-CHAIN-UNKNOWN-ISSUER"), ("self-signed", "V-SEC-CHAIN-SELF-SIGNED")])
def test_each_bad_card_has_its_finding(pki, trust, now, holder, rule, purpose):
    certificate = card(pki, holder, STEMS[purpose])
    finding = refusal(trust.verify, certificate, purpose, now)
    assert finding.code == rule
    for told in (SPECS[holder].national_id, SPECS[holder].card_number, f"{certificate.serial_number:X}"):
        assert told in finding.fr
        assert told in finding.en


def test_an_unknown_issuer_is_told_who_is_known(pki, trust, now):
    finding = refusal(trust.verify, card(pki, "other-ca"), AUTH, now)
    assert finding.received == "TEST AC AUTRE FORT PERSONNES"
    assert "TEST AC IGC-SANTE FORT PERSONNES" in finding.expected


def test_a_revocation_tells_its_date_and_reason(pki, trust, now):
    finding = refusal(trust.verify, card(pki, "revoked"), AUTH, now)
    revoked_at = card(pki, "revoked").not_valid_before_utc + timedelta(days=1)  # when the PKI was made
    assert finding.received == f"{revoked_at:%Y-%m-%dT%H:%M:%SZ}"
    assert finding.values["reason"] == "keyCompromise"


def test_before_and_after_its_period_a_card_is_refused(pki, trust):
    certificate = card(pki, "medecin")
    since, until, second = certificate.not_valid_before_utc, certificate.not_valid_after_utc, timedelta(seconds=1)
    assert trust.verify(certificate, AUTH, since)
    assert trust.verify(certificate, AUTH, until)
    assert code(trust.verify, certificate, AUTH, since - second) == "V-SEC-CHAIN-NOT-YET-VALID"
    assert code(trust.verify, certificate, AUTH, until + second) == "V-SEC-CHAIN-EXPIRED"


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", ["medecin", "cpe-anonyme", "ehpad"])
def test_the_two_certificates_of_a_card_are_not_interchangeable(pki, trust, now, holder):
    assert code(trust.verify, card(pki, holder, "sign"), AUTH, now) == "V-SEC-CARD-SIGNATURE-FOR-AUTHENTICATION"
    finding = refusal(trust.verify, card(pki, holder, "auth"), SIGN, now)
    assert finding.code == "V-SEC-CARD-AUTHENTICATION-FOR-SIGNATURE"
    assert finding.rule.fault == "DMPInvalidCertificate"
    assert finding.received == "digitalSignature, clientAuth"


CLIENT, MAIL, WEB = (oid for oid in (
    x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.EMAIL_PROTECTION,
    x509.ExtendedKeyUsageOID.SERVER_AUTH))
NOT_AUTH, NOT_SIGN = "V-SEC-CARD-NOT-FOR-AUTHENTICATION", "V-SEC-CARD-NOT-FOR-SIGNATURE"
USAGES = [  # holder, purpose, key usages, extended one, finding ("" accepted)
    ("medecin", AUTH, "digital_signature", CLIENT, ""),
    ("medecin", AUTH, "digital_signature key_encipherment", CLIENT, ""),
    ("medecin", AUTH, "digital_signature content_commitment", CLIENT, NOT_AUTH),
    ("medecin", AUTH, "digital_signature key_cert_sign", CLIENT, NOT_AUTH),
    ("medecin", AUTH, "digital_signature", WEB, NOT_AUTH),
    ("medecin", AUTH, "digital_signature", MAIL, NOT_AUTH),
    ("medecin", AUTH, "key_encipherment", CLIENT, NOT_AUTH),
    ("medecin", SIGN, "content_commitment", MAIL, ""),
    ("medecin", SIGN, "content_commitment digital_signature", MAIL, NOT_SIGN),
    ("medecin", SIGN, "content_commitment", CLIENT, NOT_SIGN),
    ("medecin", SIGN, "digital_signature", MAIL, NOT_SIGN),
    ("ehpad", AUTH, "digital_signature", CLIENT, ""),
    ("ehpad", AUTH, "digital_signature", WEB, NOT_AUTH),
    ("ehpad", AUTH, "digital_signature content_commitment", CLIENT, NOT_AUTH),
    ("ehpad", SIGN, "content_commitment digital_signature", MAIL, ""),
    ("ehpad", SIGN, "content_commitment", MAIL, ""),
    ("ehpad", SIGN, "digital_signature", MAIL, NOT_SIGN),
    ("ehpad", SIGN, "content_commitment key_encipherment", MAIL, NOT_SIGN),
]


@pytest.mark.parametrize(("holder", "purpose", "flags", "extended", "rule"), USAGES)
def test_key_usages_decide_what_a_certificate_may_do(pki, trust, holder, purpose, flags, extended, rule):
    signer = issuer(pki, "elementaire-organisations" if holder == "ehpad" else "fort-personnes")
    certificate = forge(signer, holder, usage=Usage(frozenset(flags.split()), extended))
    if rule:
        finding = refusal(trust.verify, certificate, purpose, NOW)
        assert finding.code == rule
        assert finding.rule.fault == ("DMPInvalidCertificate" if purpose is SIGN else "Sender")
    else:
        assert trust.verify(certificate, purpose, NOW).national_id == SPECS[holder].national_id


def test_a_server_certificate_is_no_client(pki, trust, now):
    server = cards.load_chain((pki / "pki/server.pem").read_bytes())[0]
    assert code(trust.verify, server, AUTH, now) == NOT_AUTH


@pytest.mark.parametrize("missing", [x509.KeyUsage, x509.ExtendedKeyUsage])
def test_a_certificate_without_usages_is_refused(pki, trust, missing):
    signer, whole = issuer(pki), forge(issuer(pki))
    builder = minting._builder(whole.subject, whole.issuer, key().public_key(), NOW - YEAR, NOW + YEAR)
    for extension in whole.extensions:
        if not isinstance(extension.value, missing | x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    assert code(trust.verify, builder.sign(signer.key, SHA256()), AUTH, NOW) == NOT_AUTH


# --- chains ----------------------------------------------------------------------------------------------------------


def test_persons_and_organisations_come_from_their_own_authorities(pki, trust):
    person = forge(issuer(pki, "elementaire-organisations"), "medecin")
    assert code(trust.verify, person, AUTH, NOW) == "V-SEC-CHAIN-WRONG-AUTHORITY"
    structure = forge(issuer(pki, "fort-personnes"), "ehpad")
    assert code(trust.verify, structure, AUTH, NOW) == "V-SEC-CHAIN-WRONG-AUTHORITY"
    software = forge(issuer(pki, "elementaire-personnes"), "medecin", software=True)
    assert trust.verify(software, AUTH, NOW).kind is Kind.PERSON


def test_a_root_issues_no_cards(pki, trust):
    finding = refusal(trust.verify, forge(issuer(pki, "racine-fort")), AUTH, NOW)
    assert finding.code == "V-SEC-CHAIN-WRONG-AUTHORITY"


def test_the_name_of_an_authority_without_its_key_is_forgery(pki, trust):
    real = issuer(pki)
    forged = forge(Issuer(real.certificate, key(), real.point))
    assert code(trust.verify, forged, AUTH, NOW) == "V-SEC-CHAIN-FORGED"


def test_a_card_is_no_authority(pki, trust):
    doctor = card(pki, "medecin")
    assert code(trust.verify, forge(Issuer(doctor, key(), "x"), "infirmier"), AUTH, NOW) == "V-SEC-CHAIN-UNKNOWN-ISSUER"


def test_an_authority_is_no_card(pki, trust):
    with pytest.raises(Refused):
        trust.verify(issuer(pki).certificate, AUTH, NOW)


def test_a_copy_of_a_card_signed_by_itself_is_self_signed(pki, trust):
    doctor = card(pki, "medecin")
    copy = minting.certify(SPECS["medecin"], key(), AUTHENTICATION, None, NOW)
    assert copy.subject == doctor.subject
    assert code(trust.verify, copy, AUTH, NOW) == "V-SEC-CHAIN-SELF-SIGNED"


def test_an_unknown_critical_extension_makes_the_chain_invalid(pki, trust):
    finding = refusal(trust.verify, forge(issuer(pki), critical="2.999.7"), AUTH, NOW)
    assert finding.code == "V-SEC-CHAIN-INVALID"


def test_an_outdated_authority_is_named(pki, trust):
    certificate = forge(issuer(pki), until=NOW + 14 * YEAR)
    finding = refusal(trust.verify, certificate, AUTH, NOW + 12 * YEAR)
    assert (finding.code, finding.received) == ("V-SEC-CHAIN-AUTHORITY-DATES", "TEST AC IGC-SANTE FORT PERSONNES")


def test_an_intermediate_too_deep_is_refused(pki, now):
    # The PERSONNES authority has pathLen 0: another one below it must not issue.
    above = issuer(pki)
    below = minting.authority("TEST AC SOUS PERSONNES", "x", key(), above, now)
    anchors = (pki / "pki/ca.pem").read_bytes() + pem(below.certificate)
    trust = Trust.of({"ca.pem": anchors}, {}, crl_policy="lenient")
    assert code(trust.verify, forge(below), AUTH, NOW) == "V-SEC-CHAIN-INVALID"


def test_weak_certificates_are_refused_whatever_their_chain(pki, trust):
    weak = minting._builder(minting.subject_of(SPECS["medecin"]), issuer(pki).certificate.subject,
                            key(1024).public_key(), NOW - YEAR, NOW + YEAR).sign(issuer(pki).key, SHA256())
    assert code(trust.verify, weak, AUTH, NOW) == "V-SEC-CARD-WEAK-KEY"


@pytest.mark.parametrize("holder", ["medecin", "ehpad"])
def test_no_mutated_certificate_is_trusted(pki, trust, now, holder):
    whole, examined = cards.load_chain((pki / "cards" / holder / "auth.pem").read_bytes())[0], 0
    for data in mutations(whole.public_bytes(Encoding.DER), 500, seed="trust " + holder):
        if data == whole.public_bytes(Encoding.DER):
            continue
        with suppress(Refused):
            certificate = cards.load_certificate(data)
            examined += 1
            with pytest.raises(Refused):
                trust.verify(certificate, AUTH, now)
    assert examined > 50  # those still well-formed reached the chain


# --- test and production ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    """A PKI whose authorities do not bear the word TEST; its cards are of the test range unless forged."""
    folder = tmp_path_factory.mktemp("production")
    patch = pytest.MonkeyPatch()
    with patch.context() as changed:
        changed.setattr(minting, "_AGENCY", (("C", "FR"), ("O", "VOLET FICTION"), ("OU", "IGC-SANTE")))
        changed.setattr(pkis, "_AUTHORITY_BITS", 2048)
        changed.setattr(pkis, "_AUTHORITIES", {
            slug: pkis._Authority(slug, authority.common_name.removeprefix("TEST "), authority.parent, authority.point)
            for slug, authority in pkis._AUTHORITIES.items() if slug in ("racine-fort", "fort-personnes",
                                                                         "racine-elementaire",
                                                                         "elementaire-organisations")})
        pkis.create(folder, [SPECS["medecin"]], NOW)
    return folder


REAL = {cards.PRODUCT_CATEGORY: bytes.fromhex("040100")}


def test_a_test_card_is_refused_in_production(pki, production):
    trust = Trust.load(production / "pki", accept_test=False)
    assert code(trust.verify, card(production, "medecin"), AUTH, NOW) == "V-SEC-CARD-TEST"
    assert code(trust.verify, card(pki, "medecin"), AUTH, NOW) == "V-SEC-CARD-TEST"  # from authorities unknown there
    real = forge(issuer(production), private=REAL)
    assert trust.verify(real, AUTH, NOW).product_category == 0


def test_a_real_card_is_refused_in_test(pki, production, trust):
    assert code(trust.verify, forge(issuer(pki), private=REAL), AUTH, NOW) == "V-SEC-CARD-PRODUCTION"
    assert code(trust.verify, forge(issuer(production), private=REAL), AUTH, NOW) == "V-SEC-CARD-PRODUCTION"


def test_anchors_of_one_range_only(pki, production):
    with pytest.raises(TrustError, match=r"ca\.pem: TEST AC RACINE .* is an authority of test"):
        Trust.load(pki / "pki", accept_test=False)
    with pytest.raises(TrustError, match="is an authority of production"):
        Trust.load(production / "pki")
    both = (pki / "pki/ca.pem").read_bytes() + (production / "pki/ca.pem").read_bytes()
    for accept_test in (True, False):
        with pytest.raises(TrustError, match="only those of"):
            Trust.of({"both.pem": both}, {}, accept_test=accept_test)


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_a_verified_chain_is_remembered_for_its_purpose_and_period(pki, now):
    trust = Trust.load(pki / "pki")
    certificate = card(pki, "medecin")
    first = trust.verify(certificate, AUTH, now)
    assert trust.verify(card(pki, "medecin"), AUTH, now) is first
    assert code(trust.verify, certificate, SIGN, now) == "V-SEC-CARD-AUTHENTICATION-FOR-SIGNATURE"
    assert code(trust.verify, certificate, AUTH, now + 5 * YEAR) == "V-SEC-CHAIN-EXPIRED"
    assert code(trust.verify, certificate, AUTH, now - YEAR) == "V-SEC-CHAIN-NOT-YET-VALID"


def test_the_memory_is_bounded_and_forgets_the_oldest(pki, now):
    memory, verified = _Memory(size=2), object()
    for number in (b"1", b"2"):
        memory.put((number, AUTH), verified)
    assert memory.get((b"1", AUTH)) is verified  # used again, so 2 is the oldest
    memory.put((b"3", AUTH), verified)
    assert [memory.get((number, AUTH)) for number in (b"1", b"2", b"3")] == [verified, None, verified]


# --- a folder that changes -------------------------------------------------------------------------------------------


@pytest.fixture
def own(pki, tmp_path):
    """A copy of the shared PKI that a test may change."""
    for part in ("pki", "pki/private", "cards/medecin", "cards/infirmier"):
        (tmp_path / part).mkdir(parents=True, exist_ok=True)
        for path in (pki / part).iterdir():
            if path.is_file():
                (tmp_path / part / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_card_revoked_meanwhile_is_refused_at_the_next_look(own, now):
    store = TrustStore(own / "pki", every=0)
    assert store.verify(card(own, "medecin"), AUTH, now).family == "ESSAI"
    before = store.current()
    pkis.revoke(own, "medecin", now)
    assert code(store.verify, card(own, "medecin"), AUTH, now) == "V-SEC-CRL-REVOKED"
    assert store.verify(card(own, "infirmier"), AUTH, now).given == "François"
    assert store.current().epoch != before.epoch
    assert store.current() is store.current()  # nothing changed: not read again


def test_files_are_looked_at_once_in_a_while(own, now):
    store = TrustStore(own / "pki", every=3600)
    pkis.revoke(own, "medecin", now)
    assert store.verify(card(own, "medecin"), AUTH, now).family == "ESSAI"
    store._next = 0.0
    assert code(store.verify, card(own, "medecin"), AUTH, now) == "V-SEC-CRL-REVOKED"


def test_a_broken_file_keeps_the_state_before_and_says_so(own, now):
    store = TrustStore(own / "pki", every=0)
    before = store.current()
    (own / "pki/new.crl").write_bytes(b"half a li")
    assert store.current() is before
    assert "new.crl, list 1" in store.problem
    (own / "pki/new.crl").unlink()
    assert store.current().epoch == before.epoch
    assert store.problem == ""
    (own / "pki/ca.pem").unlink()
    assert store.verify(card(own, "medecin"), AUTH, now)
    assert "ca.pem" in store.problem


def test_a_file_of_the_same_size_and_time_but_another_inode_is_read_again(own, now):
    store, path = TrustStore(own / "pki", every=0), own / "pki" / "crl.pem"
    stamp = path.stat()
    pkis.revoke(own, "medecin", now)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert code(store.verify, card(own, "medecin"), AUTH, now) == "V-SEC-CRL-REVOKED"


def test_a_store_needs_a_folder_that_can_be_read(tmp_path):
    with pytest.raises(TrustError):
        TrustStore(tmp_path)


def test_threads_share_a_store_while_it_changes(own, now):
    store, certificate, seen, stop = TrustStore(own / "pki", every=0), card(own, "infirmier"), set(), threading.Event()
    failures: list[BaseException] = []

    def ask():
        try:
            while not stop.is_set():
                seen.add(store.current().epoch)
                assert store.verify(certificate, AUTH, now).given == "François"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    signer = issuer(own)
    for serial in range(1, 4):
        at = now + timedelta(seconds=serial)  # newer than the list that came with the PKI, or it would not count
        crl = minting.revocation_list(signer, None, at, [], x509.ReasonFlags.unspecified)
        pkis._write(own / "pki/new.crl", crl.public_bytes(Encoding.PEM))
        deadline = time.monotonic() + 300  # against hanging only: a busy machine may take its time
        while store.current().epoch not in seen or len(seen) < serial:
            assert not failures
            assert time.monotonic() < deadline
            time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(seen) >= 3


def test_type_of_every_good_card_is_proved(pki, trust, now):
    proved = {holder: trust.verify(card(pki, holder), AUTH, now).card_type for holder in GOOD}
    assert set(proved.values()) == {CardType.CPS, CardType.CPF, CardType.CPE, CardType.ES}
