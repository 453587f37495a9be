"""The VIHF and the signed lot with the cards of the test PKI: real chains, real extensions, real lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from security.cards import load_chain
from security.dsig import ReceivedDocument, SignaturePolicy, SignedDocument, sign_submission, verify_submission
from security.identity import Authentication, Caller
from security.pki import load_specs
from security.trust import Trust
from security.vihf import Cache, VihfPolicy, verify
from security.vihf_build import build, claims_from_card
from tests.security.signing import INS, codes, header_of

GOOD = [spec.name for spec in load_specs() if not spec.defect]
LPS = {"lps_name": "Logiciel d'essai", "lps_homologation": "ESSAI-0000", "patient": INS}


@dataclass(frozen=True)
class Folder:
    """One card's folder."""

    path: Path

    def chain(self, stem: str) -> tuple[x509.Certificate, ...]:
        return load_chain((self.path / f"{stem}.pem").read_bytes())

    def key(self, stem: str) -> Any:
        return load_pem_private_key((self.path / f"{stem}.key").read_bytes(), None)

    def described(self) -> dict[str, Any]:
        return json.loads((self.path / "card.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def trust(pki: Path) -> Trust:
    return Trust.load(pki / "pki")


@pytest.fixture
def card(pki: Path) -> Callable[[str], Folder]:
    return lambda name: Folder(pki / "cards" / name)


def call(card: Folder, trust: Trust, holder: Folder | None = None, stem: str = "sign", cache: Cache | None = None,
         **changes: Any) -> Caller:
    """A call with the card's VIHF, over the connection of the holder (the card itself as a rule)."""
    now = datetime.now(UTC)
    text = build(claims_from_card(card.described(), **LPS, **changes), card.key(stem), card.chain(stem)[0], now)
    return verify(header_of(text), (holder or card).chain("auth")[0], trust, now, VihfPolicy(), cache)


@pytest.mark.parametrize("name", GOOD)
def test_every_card_calls(name: str, card: Callable[[str], Folder], trust: Trust) -> None:
    caller, said = call(card(name), trust), card(name).described()
    assert caller.findings == ()
    assert (caller.national_id, caller.name) == (said["identifier"], said["name"])
    assert (caller.structure_id, caller.sector.partition("^")[0]) == (said["structure"]["id"], said["sector"])
    assert [caller.profession, *caller.specialities][:1] == [said["profession"]]
    assert caller.identity is not None
    assert caller.identity.is_test


def test_air_by_the_certificates_of_a_structure(card: Callable[[str], Folder], trust: Trust) -> None:
    roles = claims_from_card(card("medecin").described()).roles
    caller = call(card("hopital"), trust, authentication=Authentication.INDIRECTE_RENFORCEE, name_id="899999000013",
                  roles=roles, subject_name="ESSAI Anne")
    assert (caller.national_id, caller.profession, caller.specialities) == ("899999000013", "10", ("SM26",))
    assert (caller.structure_id, caller.findings) == ("1990000010", ())


@pytest.mark.parametrize(("name", "expected"), [
    ("expired", ["CHAIN-EXPIRED"]), ("revoked", ["CRL-REVOKED"]), ("other-ca", ["CHAIN-UNKNOWN-ISSUER"]),
    ("self-signed", ["CHAIN-SELF-SIGNED"])])
def test_bad_cards_sign_nothing(name: str, expected: list[str], card: Callable[[str], Folder], trust: Trust) -> None:
    assert codes(lambda: call(card(name), trust)) == expected
    assert codes(lambda: call(card(name), trust, holder=card("medecin"))) == expected


@pytest.mark.parametrize("name", ["medecin", "ehpad"])
def test_the_authentication_key_does_not_sign(name: str, card: Callable[[str], Folder], trust: Trust) -> None:
    """What the DMP answers DMPInvalidCertificate to."""
    from xds.findings import Refused

    with pytest.raises(Refused) as error:
        call(card(name), trust, stem="auth")
    assert [(finding.code, finding.rule.fault) for finding in error.value.findings] == [
        ("V-SEC-CARD-AUTHENTICATION-FOR-SIGNATURE", "DMPInvalidCertificate")]


@pytest.mark.parametrize(("name", "changes", "expected"), [
    ("infirmier", {"roles": "medecin"}, ["PROFESSION-DIFFERS", "SPECIALITY-DIFFERS"]),
    ("cardiologue", {"roles": "medecin"}, ["SPECIALITY-DIFFERS"]),
    ("secretaire-cpe", {"roles": "medecin"}, ["PROFESSION-DIFFERS", "SPECIALITY-DIFFERS"]),
    ("secretaire-cpe", {"structure_id": "1990000010"}, ["STRUCTURE-DIFFERS"]),
    ("interne", {"roles": "medecin"}, ["PROFESSION-DIFFERS", "PROFESSION-DIFFERS", "SPECIALITY-DIFFERS"]),
    ("ehpad", {"structure_id": "1990000010"}, ["STRUCTURE-DIFFERS"]),
    ("medecin", {"name_id": "899999000021"}, ["NAME-ID-DIFFERS"]),
])
def test_claims_of_others(name: str, changes: dict[str, Any], expected: list[str], card: Callable[[str], Folder],
                          trust: Trust) -> None:
    if "roles" in changes:
        changes = changes | {"roles": claims_from_card(card(changes["roles"]).described()).roles}
    assert codes(lambda: call(card(name), trust, **changes)) == expected


@pytest.mark.parametrize(("name", "holder", "expected"), [
    ("medecin", "cardiologue", ["HOLDER-DIFFERS"]), ("medecin", "hopital", ["HOLDER-KIND"]),
    ("ehpad", "hopital", ["HOLDER-DIFFERS"]), ("ehpad", "medecin", ["HOLDER-KIND"])])
def test_the_connection_of_others(name: str, holder: str, expected: list[str], card: Callable[[str], Folder],
                                  trust: Trust) -> None:
    assert codes(lambda: call(card(name), trust, holder=card(holder))) == expected


def test_a_second_call_by_the_cache(card: Callable[[str], Folder], trust: Trust) -> None:
    cache = Cache()
    assert call(card("medecin"), trust, cache=cache, assertion_id="_a") is not None
    assert len(cache) == 1


@pytest.mark.parametrize("name", ["medecin", "secretaire-cpe", "ehpad"])
def test_a_signed_lot(name: str, card: Callable[[str], Folder], trust: Trust) -> None:
    now, uid = datetime.now(UTC), "1.2.250.1.999.1"
    signature = sign_submission(uid, [SignedDocument("1.2.3", b"<a/>")], card(name).key("sign"),
                                card(name).chain("sign"), now)
    said = card(name).described()
    outcome = verify_submission(signature, uid, [ReceivedDocument("1.2.3", "text/xml", b"<a/>")], trust,
                                now + timedelta(seconds=1), SignaturePolicy(signers=frozenset({said["identifier"]})))
    assert outcome.valid
    assert outcome.signer is not None
    assert outcome.signer.national_id == said["identifier"]


def test_a_lot_signed_by_the_authentication_key_or_a_bad_card(card: Callable[[str], Folder], trust: Trust) -> None:
    now, uid = datetime.now(UTC), "1.2.250.1.999.1"

    def judged(name: str, stem: str) -> list[str]:
        signature = sign_submission(uid, [], card(name).key(stem), card(name).chain(stem), now)
        return [finding.code for finding in verify_submission(signature, uid, [], trust, now).findings]

    assert judged("medecin", "auth") == ["V-SEC-CARD-AUTHENTICATION-FOR-SIGNATURE"]
    assert judged("revoked", "sign") == ["V-SEC-CRL-REVOKED"]
    assert judged("self-signed", "sign") == ["V-SEC-CHAIN-SELF-SIGNED"]
    assert judged("medecin", "sign") == []
