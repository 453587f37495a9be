"""The operator's files: revocation lists and anchors, those that can be used and those that stop the loading."""

from datetime import timedelta

import pytest
from asn1crypto import crl as crl_syntax
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from security import minting
from security import pki as pkis
from security.anchors import TrustError
from security.minting import Issuer
from security.trust import Purpose, Trust
from tests.security.forging import NOW, YEAR, card, code, forge, issuer, key, refusal

AUTH, SIGN = Purpose.AUTHENTICATION, Purpose.SIGNATURE


@pytest.fixture(scope="module")
def trust(pki):
    return Trust.load(pki / "pki")


@pytest.fixture
def now(pki):
    """A moment at which the shared cards are in force."""
    return card(pki, "medecin").not_valid_before_utc + timedelta(days=2)


def pem(*certificates):
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


# --- revocation lists ------------------------------------------------------------------------------------------------


def lists(pki):
    return pkis._load_lists(pki / "pki" / "crl.pem")


def anchors(pki):
    return {"ca.pem": (pki / "pki/ca.pem").read_bytes()}


@pytest.mark.parametrize("left_out", ["TEST AC IGC-SANTE FORT PERSONNES", "TEST AC RACINE IGC-SANTE FORT"])
def test_a_missing_list_refuses_unless_lenient(pki, now, left_out):
    some = b"".join(crl.public_bytes(Encoding.PEM) for crl in lists(pki) if left_out not in crl.issuer.rfc4514_string())
    strict = Trust.of(anchors(pki), {"crl.pem": some})
    finding = refusal(strict.verify, card(pki, "medecin"), AUTH, now)
    assert (finding.code, finding.received) == ("V-SEC-CRL-MISSING", left_out)
    lenient = Trust.of(anchors(pki), {"crl.pem": some}, crl_policy="lenient")
    assert lenient.verify(card(pki, "medecin"), AUTH, now).family == "ESSAI"


def test_an_outdated_list_refuses_unless_lenient(pki, trust):
    certificate, later = forge(issuer(pki), until=NOW + 6 * YEAR), NOW + 4 * YEAR
    assert trust.verify(certificate, AUTH, NOW)
    finding = refusal(trust.verify, certificate, AUTH, later)  # remembered, yet the list is looked at each time
    assert (finding.code, finding.received) == ("V-SEC-CRL-STALE", "TEST AC IGC-SANTE FORT PERSONNES")
    lenient = Trust.load(pki / "pki", crl_policy="lenient")
    assert lenient.verify(certificate, AUTH, later).family == "ESSAI"


def test_lenient_does_not_forgive_what_a_list_names(pki):
    lenient = Trust.load(pki / "pki", crl_policy="lenient")
    late = card(pki, "revoked").not_valid_after_utc
    assert code(lenient.verify, card(pki, "revoked"), AUTH, late) == "V-SEC-CRL-REVOKED"


def test_a_revoked_authority_takes_its_cards_with_it(pki, now):
    root = issuer(pki, "racine-fort")
    added = [issuer(pki).certificate]
    crl = minting.revocation_list(root, None, NOW + timedelta(hours=1), added, x509.ReasonFlags.ca_compromise)
    trust = Trust.of(anchors(pki), {"crl.pem": (pki / "pki/crl.pem").read_bytes(),
                                    "new.crl": crl.public_bytes(Encoding.DER)})
    finding = refusal(trust.verify, card(pki, "medecin"), AUTH, now)
    assert finding.code == "V-SEC-CRL-REVOKED"
    assert (finding.values["reason"], finding.values["issuer"]) == ("cACompromise", "TEST AC RACINE IGC-SANTE FORT")


def test_a_card_revoked_after_its_signature_is_refused_for_that_signature_too(pki, trust):
    earlier = card(pki, "revoked").not_valid_before_utc + timedelta(minutes=1)
    assert code(trust.verify, card(pki, "revoked", "sign"), SIGN, earlier) == "V-SEC-CRL-REVOKED"


def test_the_newest_list_of_an_authority_counts(pki, now):
    signer = issuer(pki)
    newer = minting.revocation_list(signer, None, NOW + timedelta(days=1), [card(pki, "infirmier")],
                                    x509.ReasonFlags.superseded)
    files = {"a.crl": newer.public_bytes(Encoding.DER), "crl.pem": (pki / "pki/crl.pem").read_bytes()}
    for order in (files, dict(reversed(files.items()))):
        trust = Trust.of(anchors(pki), order)
        assert code(trust.verify, card(pki, "infirmier"), AUTH, now) == "V-SEC-CRL-REVOKED"


def endless_list(signer):
    """A list without nextUpdate: legal in RFC 5280's syntax, never in its profile, and not made by the builder."""
    spelled = crl_syntax.CertificateList.load(pem_body(signed_list(signer)))
    content = spelled["tbs_cert_list"]
    del content["next_update"]
    spelled["signature"] = signer.key.sign(content.dump(force=True), padding.PKCS1v15(), SHA256())
    return spelled.dump(force=True)


def pem_body(data):
    return x509.load_pem_x509_crl(data).public_bytes(Encoding.DER)


def signed_list(signer, *extensions, next_update=NOW + YEAR):
    builder = x509.CertificateRevocationListBuilder(signer.certificate.subject, NOW, next_update)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(signer.key, SHA256()).public_bytes(Encoding.PEM)


def partial(**flags):
    all_false = dict.fromkeys(("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl",
                               "only_contains_attribute_certs"), False)
    return x509.IssuingDistributionPoint(None, None, only_some_reasons=None, **{**all_false, **flags})


@pytest.mark.parametrize(("data", "said"), [
    (lambda pki: b"rubbish", "crl.pem, list 1"),
    (lambda pki: (pki / "pki/crl.pem").read_bytes() + b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----",
     "crl.pem, list 6"),
    (lambda pki: signed_list(Issuer(issuer(pki).certificate, key(), "")), "signature is not that of TEST AC"),
    (lambda pki: signed_list(issuer(pki, "autre-personnes")), "TEST AC AUTRE FORT PERSONNES, is not among"),
    (lambda pki: signed_list(issuer(pki), (x509.DeltaCRLIndicator(1), True)), "a delta"),
    (lambda pki: signed_list(issuer(pki), (partial(only_contains_ca_certs=True), True)), "a partial list"),
    (lambda pki: signed_list(issuer(pki), (x509.UnrecognizedExtension(
        x509.ObjectIdentifier("2.999.8"), b"\x05\x00"), True)), "2.999.8 is not understood"),
    (lambda pki: endless_list(issuer(pki)), "nextUpdate"),
])
def test_a_list_that_cannot_be_used_stops_the_loading(pki, data, said):
    with pytest.raises(TrustError, match=r"crl\.pem, list") as caught:
        Trust.of(anchors(pki), {"crl.pem": data(pki)})
    assert said in str(caught.value)


def test_twenty_thousand_entries_are_looked_up_at_once(pki, now):
    signer = issuer(pki)
    entries = [x509.RevokedCertificateBuilder(serial, now).build() for serial in range(1 << 100, (1 << 100) + 20000)]
    crl = x509.CertificateRevocationListBuilder(signer.certificate.subject, NOW, NOW + YEAR,
                                                revoked_certificates=entries).sign(signer.key, SHA256())
    trust = Trust.of(anchors(pki), {"big.crl": crl.public_bytes(Encoding.DER)}, crl_policy="lenient")
    (listed,) = trust.lists.values()
    assert len(listed.entries) == 20000
    assert listed.entry((1 << 100) + 19999) == (now.replace(microsecond=0), "unspecified")
    for serial in range(10000):
        assert listed.entry(serial) is None
        assert listed.entry(serial + (1 << 100) + 10000)


def test_problems_tell_what_refuses_and_what_would(pki, trust, now):
    assert trust.problems(now) == []
    bare = Trust.of(anchors(pki), {})
    assert [(finding.code, str(finding.severity)) for finding in bare.problems(now)] == [
        ("V-SEC-CRL-MISSING", "error")] * 5
    assert {str(finding.severity) for finding in
            Trust.load(pki / "pki", crl_policy="lenient").problems(now + 5 * YEAR)} == {"warning"}


def powerless(pki):
    """Says that it is no authority, and may sign neither."""
    builder = minting._builder(minting._name(("CN", "TEST AC SANS POUVOIR")), issuer(pki).certificate.subject,
                               key().public_key(), NOW - YEAR, NOW + YEAR)
    builder = builder.add_extension(x509.BasicConstraints(False, None), True)
    return builder.add_extension(minting._key_usage({"digital_signature"}), True).sign(issuer(pki).key, SHA256())


# --- anchors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "said"), [
    (lambda pki: b"", "ca.pem: no certificate in PEM"),
    (lambda pki: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "ca.pem, certificate 1"),
    (lambda pki: (pki / "cards/medecin/auth.pem").read_bytes(), "ca.pem, certificate 1"),
    (lambda pki: pem(powerless(pki)), "certificate 1: TEST AC SANS POUVOIR is not an authority"),
    (lambda pki: pem(issuer(pki, "fort-personnes").certificate), "not the authority that signed it, TEST AC RACINE"),
])
def test_anchors_that_cannot_be_used_stop_the_loading(pki, tmp_path, data, said):
    (tmp_path / "ca.pem").write_bytes(data(pki))
    with pytest.raises(TrustError) as caught:
        Trust.load(tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_without_anchors_nothing_is_loaded(tmp_path):
    with pytest.raises(TrustError, match=r"ca\.pem"):
        Trust.load(tmp_path)


def test_the_epoch_names_anchors_lists_and_settings(pki):
    first = Trust.load(pki / "pki")
    assert first.epoch == Trust.load(pki / "pki").epoch
    others = [Trust.load(pki / "pki", crl_policy="lenient"), Trust.of(anchors(pki), {}),
              Trust.of({"ca.pem": pem(issuer(pki, "racine-fort").certificate)}, {})]
    assert len({first.epoch, *(other.epoch for other in others)}) == 4
