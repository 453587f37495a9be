"""The VIHF: what is built is read back; every rule met once; certificates and claims against each other."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security import vihf_names as names
from security.distinguished import write_name
from security.identity import AccessMode, Authentication, CardType
from security.trust import Purpose
from security.vihf import Cache, VihfPolicy, replay_key, single_use, verify
from security.vihf_build import build, security_header, unsigned
from security.xmldsig import DS, ENVELOPED, EXC, SHA256, PrivateKey, method_for
from tests.security.signing import (
    CARDIOLOGY,
    DOCTOR,
    GP,
    INS,
    NOW,
    NURSE,
    PHARMACIST,
    SECRETARY,
    Card,
    FakeTrust,
    call,
    claims_of,
    codes,
    doctor,
    ec_key,
    envelope,
    header_of,
    nursing_home,
    other_doctor,
    other_home,
    person,
    rsa_key,
    signed_by_xmlsec1,
    spoiled,
    token,
    verified_by_xmlsec1,
)
from xds.findings import Refused, Severity
from xds.model import Code

ID_OF_ASSERTION = ("--id-attr:ID", f"{names.SAML}:Assertion")
INDIRECT = (Authentication.INDIRECTE, Authentication.INDIRECTE_RENFORCEE)


# --- what is built is read back ------------------------------------------------------------------------------------


def test_a_direct_call() -> None:
    caller = call(token(doctor(), assertion_id="_essai"))
    assert caller.identity == doctor().identity
    assert (caller.national_id, caller.name, caller.structure_id) == ("899999000013", "ESSAI ANNE", "499999000013001")
    assert (caller.profession, caller.specialities, caller.roles) == ("10", ("SM26",), ())
    assert (caller.authentication, caller.mode, caller.reason) == (Authentication.DIRECTE, AccessMode.NORMAL, "")
    assert (caller.sector, caller.patient) == ("SA07^1.2.250.1.71.4.2.4", INS)
    assert (caller.secret_connection, caller.software) == (False, "Logiciel d'essai 1.2")
    assert (caller.assertion_id, caller.findings) == ("_essai", ())


@pytest.mark.parametrize("mode", INDIRECT)
def test_a_structure_speaks_for_its_user(mode: Authentication) -> None:
    caller = call(token(nursing_home(), authentication=mode), nursing_home())
    assert caller.identity == nursing_home().identity
    assert (caller.national_id, caller.name, caller.structure_id) == ("899999000039", "DUPONT CAMILLE", "1990000017")
    assert (caller.authentication, caller.profession, caller.findings) == (mode, "10", ())


def test_a_secretary_acts_for_the_structure_of_her_card() -> None:
    card = person("3990000017/CPET0001", title="", card_type=CardType.CPE, profession="", specialities=(),
                  structure_id="1990000017")
    caller = call(token(card), card)
    assert (caller.profession, caller.roles) == ("", ("SECRETARIAT_MEDICAL^1.2.250.1.213.1.1.4.6",))
    assert (caller.structure_id, caller.national_id) == ("1990000017", "3990000017/CPET0001")


def test_a_professional_in_training() -> None:
    card = person("899999000047", card_type=CardType.CPF, profession="", specialities=(), future_profession="10")
    assert call(token(card), card).roles == (f"10^{names.FUTURE_PROFESSION}",)


@pytest.mark.parametrize("curve", ["secp256r1", "secp384r1", "secp521r1"])
def test_elliptic_curves(curve: str) -> None:
    card = person("899999000013", key=ec_key(curve))
    text = token(card)
    assert f"ecdsa-sha{ {'secp256r1': 256, 'secp384r1': 384, 'secp521r1': 512}[curve] }" in text
    assert call(text, card).findings == ()


NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=30)
CODES = st.from_regex(r"[A-Z0-9]{1,10}", fullmatch=True)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Card, dict[str, object]]:
    """A card or structure, and claims that hold for it."""
    mode = draw(st.sampled_from(AccessMode))
    changes: dict[str, object] = {
        "version": draw(st.sampled_from(["2.0", "3.0", "4.0"])), "mode": mode,
        "reason": draw(NAMES) if mode is not AccessMode.NORMAL else "",
        "secret_connection": draw(st.booleans()), "subject_name": draw(NAMES),
        "patient": draw(st.sampled_from(["", INS, "123^^^&1.2.3&ISO^PI", "1A2B.3-4^^^&1.2.250.1.213.1.4.8&ISO"])),
        "lps_name": draw(NAMES), "lps_version": draw(st.just("") | NAMES), "lps_id": draw(st.just("") | NAMES),
        "valid_for": draw(st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=1))),
    }
    if draw(st.booleans()):
        return doctor(), changes
    return nursing_home(), changes | {
        "authentication": draw(st.sampled_from(INDIRECT)),
        "name_id": draw(st.sampled_from(["899999000021", "0991234567"])),
        "roles": (NURSE, *(Code(code, "1.2.3") for code in draw(st.lists(CODES, max_size=3))))}


@settings(max_examples=40, deadline=None)
@given(situations())
def test_round_trip(situation: tuple[Card, dict[str, object]]) -> None:
    card, changes = situation
    claims = claims_of(card, **changes)
    caller = call(build(claims, card.key, card.signature, NOW), card)
    assert caller.findings == ()
    assert (caller.national_id, caller.structure_id) == (claims.name_id, claims.structure_id)
    assert (caller.name, caller.software) == (claims.subject_name, f"{claims.lps_name} {claims.lps_version}".strip())
    assert (caller.authentication, caller.mode, caller.reason) == (claims.authentication, claims.mode, claims.reason)
    assert (caller.patient, caller.secret_connection) == (claims.patient, claims.secret_connection)
    assert caller.profession == claims.roles[0].code
    assert [*caller.specialities, *caller.roles] == [
        role.code if role.scheme == names.SPECIALITY else f"{role.code}^{role.scheme}" for role in claims.roles[1:]]


@pytest.mark.parametrize("key", [rsa_key(), ec_key()], ids=["rsa", "ecdsa"])
def test_another_program_verifies_what_we_sign(key: PrivateKey, tmp_path: Path) -> None:
    card = person("899999000013", key=key)
    assert verified_by_xmlsec1(tmp_path, token(card).encode(), card.signature, *ID_OF_ASSERTION)


def test_both_spellings_of_the_mode() -> None:
    text = spoiled(doctor(), lambda text: text.replace(names.AUTHENTICATION, names.AUTHENTICATION_ALIAS))
    assert call(text).authentication is Authentication.DIRECTE


PREFIXES = '<ec:InclusiveNamespaces xmlns:ec="http://www.w3.org/2001/10/xml-exc-c14n#" PrefixList="xs xsi #default"/>'


@pytest.mark.parametrize("prefixes", ["", PREFIXES])
@pytest.mark.parametrize("key", [rsa_key(), ec_key()], ids=["rsa", "ecdsa"])
def test_we_verify_what_another_program_signs(key: PrivateKey, prefixes: str, tmp_path: Path) -> None:
    """With the prefixes that some libraries (OpenSAML) put into the transform, too."""
    card = person("899999000013", key=key)
    text = unsigned(claims_of(card, assertion_id="_a"), write_name(card.signature.subject), NOW)
    template = re.sub("<ds:Signature.*</ds:Signature>", template_of("_a", key, prefixes), text)
    signed = signed_by_xmlsec1(tmp_path, template, card, *ID_OF_ASSERTION)
    assert call(signed.partition("?>")[2], card).findings == ()


def template_of(identity: str, key: PrivateKey, prefixes: str) -> str:
    """An empty enveloped signature in the form of the VIHF."""
    return (f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{EXC}"/>'
            f'<ds:SignatureMethod Algorithm="{method_for(key).uri}"/><ds:Reference URI="#{identity}"><ds:Transforms>'
            f'<ds:Transform Algorithm="{ENVELOPED}"/><ds:Transform Algorithm="{EXC}">{prefixes}</ds:Transform>'
            f'</ds:Transforms><ds:DigestMethod Algorithm="{SHA256}"/><ds:DigestValue/></ds:Reference></ds:SignedInfo>'
            "<ds:SignatureValue/><ds:KeyInfo><ds:X509Data><ds:X509Certificate/></ds:X509Data></ds:KeyInfo>"
            "</ds:Signature>")


# --- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "expected"), [
    (-61, ["FUTURE"]), (-60, []), (0, []), (300, []), (301, ["EXPIRED"]), (86400, ["EXPIRED"])])
def test_age(seconds: int, expected: list[str]) -> None:
    assert codes(lambda: call(token(doctor()), at=NOW + timedelta(seconds=seconds))) == expected


def test_age_is_a_setting() -> None:
    later = NOW + timedelta(hours=7)
    assert codes(lambda: call(token(doctor()), at=later, max_age=timedelta(hours=8))) == []
    assert codes(lambda: call(token(doctor()), at=NOW - timedelta(minutes=5), clock_skew=timedelta(minutes=6))) == []


def test_any_zone_of_ours() -> None:
    assert codes(lambda: call(token(doctor()), at=NOW.astimezone(timezone(timedelta(hours=2))))) == []


@pytest.mark.parametrize(("written", "expected"), [
    ("2026-11-22T10:00:00+01:00", []),
    ("2026-11-22T09:00:00Z", []),
    ("2026-11-22T09:00:00.123456789Z", []),
    ("2026-11-22T09:00:00", ["INSTANT"]),
    ("2026-11-22T09:00:00 Z", ["INSTANT"]),
    ("2026-11-22 09:00:00Z", ["INSTANT"]),
    ("2026-11-22T09:00Z", ["INSTANT"]),
    ("2026-11-31T09:00:00Z", ["INSTANT"]),
    ("2026-11-22T24:00:00Z", ["INSTANT"]),
    ("", ["INSTANT"]),
    ("٢٠٢٦-11-22T09:00:00Z", ["INSTANT"]),
    ("9999-12-31T23:59:59-12:00", ["INSTANT"]),
    ("9999-12-31T23:59:59Z", ["FUTURE"]),
    ("0001-01-01T00:00:00+14:00", ["INSTANT"]),
    ("2026-11-22T11:00:00Z", ["FUTURE"]),
    ("2026-11-22T10:00:00Z" + "0" * 100_000, ["TOO-LARGE"]),
])
def test_issue_instant(written: str, expected: list[str]) -> None:
    text = spoiled(doctor(), lambda text: text.replace('IssueInstant="2026-11-22T09:00:00.000Z"',
                                                       f'IssueInstant="{written}"'))
    assert codes(lambda: call(text)) == expected


CONDITIONS: list[tuple[str, list[str]]] = [
    ("<saml2:Conditions/>", []),
    ('<saml2:Conditions NotBefore="2026-11-22T09:00:59Z" NotOnOrAfter="2026-11-22T09:05:00Z"/>', []),
    ('<saml2:Conditions NotBefore="2026-11-22T09:01:00Z"/>', []),
    ('<saml2:Conditions NotBefore="2026-11-22T09:01:01Z"/>', ["NOT-YET-VALID"]),
    ('<saml2:Conditions NotOnOrAfter="2026-11-22T08:59:00Z"/>', ["OVER"]),
    ('<saml2:Conditions NotOnOrAfter="2026-11-22T08:59:01Z"/>', []),
    ('<saml2:Conditions NotBefore="2026-11-22T09:00:00" NotOnOrAfter="tomorrow"/>', ["INSTANT", "INSTANT"]),
    ("<saml2:Conditions><saml2:AudienceRestriction><saml2:Audience>urn:ror</saml2:Audience>"
     "</saml2:AudienceRestriction></saml2:Conditions>", ["AUDIENCE"]),
    ("<saml2:Conditions><saml2:AudienceRestriction><saml2:Audience>urn:dmp</saml2:Audience>"
     "</saml2:AudienceRestriction></saml2:Conditions>", []),
    ("<saml2:Conditions><saml2:OneTimeUse/></saml2:Conditions>", ["ONE-TIME"]),
    ("<saml2:Conditions><saml2:ProxyRestriction/></saml2:Conditions>", ["CONDITION"]),
]


@pytest.mark.parametrize(("written", "expected"), CONDITIONS)
def test_conditions(written: str, expected: list[str]) -> None:
    text = spoiled(doctor(), lambda text: text.replace("</saml2:Subject>", f"</saml2:Subject>{written}"))
    assert codes(lambda: call(text)) == expected


# --- claims --------------------------------------------------------------------------------------------------------

CLAIMS: list[tuple[dict[str, object], list[str]]] = [
    ({"version": "1.0"}, ["VERSION"]),
    ({"version": "3"}, ["VALUE"]),
    ({"version": ""}, ["ATTRIBUTE-MISSING"]),
    ({"structure_id": ""}, ["ATTRIBUTE-MISSING"]),
    ({"structure_id": "999999000013001"}, ["VALUE"]),
    ({"structure_id": "49999900001300١"}, ["VALUE"]),
    ({"sector": "SA07"}, ["VALUE"]),
    ({"sector": "SA07^1.2.250.1.71.4.2.5"}, ["VALUE"]),
    ({"resource_urn": "urn:ROR"}, ["RESOURCE-URN"]),
    ({"resource_urn": ""}, ["ATTRIBUTE-MISSING"]),
    ({"patient": ""}, []),
    ({"patient": "268029999900140"}, ["VALUE"]),
    ({"patient": INS.replace("&ISO", "")}, ["VALUE"]),
    ({"patient": INS + "~" + INS}, ["VALUE"]),
    ({"patient": INS.replace("1.2.250", "1.02.250")}, ["VALUE"]),
    ({"patient": " " + INS}, ["VALUE"]),
    ({"lps_name": ""}, ["ATTRIBUTE-MISSING"]),
    ({"lps_homologation": ""}, ["ATTRIBUTE-MISSING"]),
    ({"lps_id": "", "lps_version": ""}, []),
    ({"lps_name": "x" * 101}, ["VALUE"]),
    ({"lps_name": "x" * 100}, []),
    ({"mode": AccessMode.CENTRE_15}, []),
    ({"mode": AccessMode.BRIS_DE_GLACE}, ["REASON-MISSING"]),
    ({"mode": AccessMode.BRIS_DE_GLACE, "reason": "  "}, ["REASON-MISSING"]),
    ({"mode": AccessMode.BRIS_DE_GLACE, "reason": "patient inconscient"}, []),
    ({"reason": "patient inconscient"}, ["REASON-UNUSED"]),
    ({"context": "Password"}, ["CONTEXT"]),
    ({"context": names.TLS_CLIENT}, ["CONTEXT-MODE"]),
    ({"roles": (DOCTOR,)}, ["SPECIALITY-MISSING"]),
    ({"roles": (DOCTOR, NURSE, GP)}, ["PROFESSIONS", "PROFESSION-DIFFERS"]),
    ({"roles": ()}, ["ATTRIBUTE-MISSING", "PROFESSION-DIFFERS"]),
    ({"roles": (DOCTOR, GP, Code("1 2", names.SPECIALITY))}, ["CODED-VALUE"]),
    ({"roles": (DOCTOR, GP, Code("12", "not an OID"))}, ["CODED-VALUE"]),
    ({"roles": (DOCTOR,) + (GP,) * 8}, ["ATTRIBUTE-REPEATED"]),
    ({"roles": (DOCTOR,) + (GP,) * 7}, []),
    ({"roles": (DOCTOR, GP, Code("A", "1." + "2" * 99))}, ["CODED-VALUE"]),
    ({"name_id": "899999000021"}, ["NAME-ID-DIFFERS"]),
    ({"name_id": "99999000013"}, ["VALUE"]),
    ({"name_id": "8999990000１3"}, ["VALUE"]),
    ({"name_id": "899999000013 "}, ["VALUE"]),
    ({"name_id": "8" * 100}, ["VALUE"]),
    ({"roles": (NURSE,)}, ["PROFESSION-DIFFERS"]),
    ({"roles": (DOCTOR, CARDIOLOGY)}, ["SPECIALITY-DIFFERS"]),
    ({"roles": (DOCTOR, GP, CARDIOLOGY)}, ["SPECIALITY-DIFFERS"]),
    ({"roles": (DOCTOR, GP, Code("10", names.FUTURE_PROFESSION))}, ["PROFESSION-DIFFERS"]),
    ({"roles": (GP,)}, ["PROFESSION-DIFFERS"]),
    ({"roles": (DOCTOR, GP, SECRETARY)}, []),
    ({"authentication": Authentication.INDIRECTE}, ["NAME-MISSING", "MODE-PERSON"]),
    ({"authentication": Authentication.INDIRECTE_RENFORCEE, "subject_name": "X"}, ["MODE-PERSON"]),
    ({"authentication": Authentication.INDIRECTE_RENFORCEE, "subject_name": "X", "context_declaration": "x"},
     ["CONTEXT-DECLARATION", "MODE-PERSON"]),
]


@pytest.mark.parametrize(("changes", "expected"), CLAIMS)
def test_claims_of_a_card(changes: dict[str, object], expected: list[str]) -> None:
    assert codes(lambda: call(token(doctor(), **changes))) == expected


@pytest.mark.parametrize(("changes", "expected"), [
    ({"subject_name": ""}, ["NAME-MISSING"]),
    ({"authentication": Authentication.DIRECTE}, ["CONTEXT-MODE", "MODE-STRUCTURE"]),
    ({"structure_id": "1990000025"}, ["STRUCTURE-DIFFERS"]),
    ({"structure_id": ""}, ["ATTRIBUTE-MISSING"]),
    ({"roles": (DOCTOR, SECRETARY)}, ["SPECIALITY-MISSING"]),
    ({"name_id": "899999000021"}, []),
    ({"roles": (NURSE,)}, []),
    ({"roles": (PHARMACIST,)}, ["SPECIALITY-MISSING"]),
    ({"roles": (PHARMACIST, Code("A", "1.2.250.1.71.1.2.99"))}, []),
])
def test_claims_of_a_structure(changes: dict[str, object], expected: list[str]) -> None:
    found = codes(lambda: call(token(nursing_home(), **{"context": names.TLS_CLIENT} | changes), nursing_home()))
    assert found == expected


@pytest.mark.parametrize(("changes", "expected"), [
    ({"structure_id": "1990000025"}, ["STRUCTURE-DIFFERS"]),
    ({"roles": (DOCTOR, GP)}, ["PROFESSION-DIFFERS", "SPECIALITY-DIFFERS"]),
    ({"roles": (NURSE,)}, ["PROFESSION-DIFFERS"]),
    ({"roles": (Code("10", names.FUTURE_PROFESSION),)}, ["PROFESSION-DIFFERS"]),
    ({"name_id": "3990000017/CPET0002"}, ["NAME-ID-DIFFERS"]),
])
def test_claims_of_an_employee(changes: dict[str, object], expected: list[str]) -> None:
    card = person("3990000017/CPET0001", card_type=CardType.CPE, profession="", specialities=(),
                  structure_id="1990000017")
    assert codes(lambda: call(token(card, **changes), card)) == expected


SPOILED: list[tuple[str, str, list[str]]] = [
    ('Version="2.0"', 'Version="1.1"', ["SAML-VERSION"]),
    ("code=\"normal\"", "code=\"urgence\"", ["PURPOSE"]),
    ("code=\"normal\"", "code=\"brisDeGlace\"", ["PURPOSE"]),
    (names.ACCESS_MODES, names.ACCESS_MODES_ALIAS, ["PURPOSE"]),
    ("<PurposeOfUse xmlns=\"urn:hl7-org:v3\"", "<PurposeOfUse xmlns=\"urn:hl7-org:v2\"", ["CODED-VALUE"]),
    (f'Name="{names.PURPOSE}"', 'Name="x"', ["ATTRIBUTE-MISSING"]),
    (f'Name="{names.PURPOSE}">', f'Name="{names.PURPOSE}"><saml2:AttributeValue/>',
     ["ATTRIBUTE-REPEATED", "CODED-VALUE"]),
    (f'Name="{names.LPS_ID}"', f'Name="{names.LPS_NAME}"', ["ATTRIBUTE-REPEATED"]),
    (f'Name="{names.LPS_ID}"', f'Name="{names.AUTHENTICATION_ALIAS}"', ["ATTRIBUTE-REPEATED", "VALUE"]),
    (f'Name="{names.LPS_ID}"', 'Name="Profil_Utilisateur"', []),
    ("DIRECTE<", "INDIRECT<", ["VALUE"]),
    ("DIRECTE<", "directe<", ["VALUE"]),
    (">0001</saml2:AttributeValue>", ">0001</saml2:AttributeValue><saml2:AttributeValue>0002</saml2:AttributeValue>",
     ["ATTRIBUTE-REPEATED"]),
    (f"<saml2:NameID>{doctor().identity.national_id}</saml2:NameID>", "<saml2:EncryptedID/>", ["VALUE"]),
    ("saml2:NameID>", "saml2:EncryptedID>", ["VALUE"]),
    ("<saml2:Subject>", "<saml2:Issuer>x</saml2:Issuer><saml2:Subject>", ["SCHEMA"]),
    ("saml2:Issuer", "saml2:Subject", ["SCHEMA"]),
    (f'<saml2:Attribute Name="{names.LPS_ID}"', f'<saml2:EncryptedAttribute Name="{names.LPS_ID}"',
     ["ATTRIBUTE-REPEATED"]),
    ("</saml2:NameID>", '</saml2:NameID><saml2:SubjectConfirmation Method="x"/>', ["SUBJECT-CONFIRMATION"]),
    ("</saml2:NameID>", "</saml2:NameID><saml2:NameID>899999000021</saml2:NameID>", ["VALUE"]),
    ("<saml2:Subject>", "<saml2:Advice/><saml2:Subject>", ["SCHEMA"]),
    ("</saml2:AttributeStatement>", "</saml2:AttributeStatement><saml2:AttributeStatement/>", ["SCHEMA"]),
    ("</saml2:AttributeStatement>", "</saml2:AttributeStatement><saml2:Advice/>", ["SCHEMA"]),
    ("</saml2:AttributeStatement>", "</saml2:AttributeStatement><saml2:Subject/>", ["SCHEMA"]),
    ("SmartcardPKI", "SmartcardPKİ", ["CONTEXT"]),
    ("X509SubjectName", "entity", ["ISSUER"]),
    ("CN=899999000013", "CN=899999000021", ["ISSUER"]),
    ("title=Médecin", "title=M?decin", ["ISSUER"]),
    ("title=Médecin", "title=médecin", []),
]


def replaced(text: str, old: str, new: str) -> str:
    """The text with a start tag, and its end tag with it, or whatever else replaced."""
    if new.startswith("<saml2:EncryptedAttribute"):
        start, end = text.split(old)
        return start + new + end.replace("</saml2:Attribute>", "</saml2:EncryptedAttribute>", 1)
    return text.replace(old, new)


@pytest.mark.parametrize(("old", "new", "expected"), SPOILED)
def test_other_content(old: str, new: str, expected: list[str]) -> None:
    assert codes(lambda: call(spoiled(doctor(), lambda text: replaced(text, old, new)))) == expected


@pytest.mark.parametrize(("written", "secret", "expected"), [
    (f"{names.SECRET}^1.2.250.1.213.1.1.4.13", True, []),
    (f'<c xmlns="urn:hl7-org:v3" code="{names.SECRET}"/>', True, []),
    ("N", False, []),
    ("MASQUE_PS", None, ["CONFIDENTIALITY"]),
    ("<a/><b/>", None, ["CODED-VALUE"]),
    ("a b", None, ["CODED-VALUE", "CONFIDENTIALITY"]),
    ("N</saml2:AttributeValue><saml2:AttributeValue>N", None, ["CODED-VALUE"]),
])
def test_secret_connection(written: str, secret: bool | None, expected: list[str]) -> None:
    text = spoiled(doctor(), lambda text: text.replace(f">{names.SECRET}<", f">{written}<"), secret_connection=True)
    assert codes(lambda: call(text)) == expected
    assert secret is None or call(text).secret_connection is secret


def test_everything_is_reported_at_once_with_both_sides() -> None:
    text = token(doctor(), name_id="899999000021", roles=(NURSE, CARDIOLOGY), structure_id="x", version="9.9")
    with pytest.raises(Refused) as refused:
        call(text, at=NOW + timedelta(hours=1))
    found = {finding.code: (finding.expected, finding.received) for finding in refused.value.findings}
    assert found.keys() == {"V-SEC-VIHF-VALUE", "V-SEC-VIHF-EXPIRED", "V-SEC-VIHF-VERSION",
                            "V-SEC-VIHF-NAME-ID-DIFFERS", "V-SEC-VIHF-PROFESSION-DIFFERS",
                            "V-SEC-VIHF-SPECIALITY-DIFFERS"}
    assert found["V-SEC-VIHF-NAME-ID-DIFFERS"] == ("899999000013", "899999000021")
    assert found["V-SEC-VIHF-PROFESSION-DIFFERS"] == ("10", "60")
    assert found["V-SEC-VIHF-SPECIALITY-DIFFERS"] == ("SM26", "SM04")


def test_settings_widen_and_narrow() -> None:
    alias = spoiled(doctor(), lambda text: text.replace(names.ACCESS_MODES, names.ACCESS_MODES_ALIAS))
    both = frozenset({names.ACCESS_MODES, names.ACCESS_MODES_ALIAS})
    assert codes(lambda: call(alias, purpose_systems=both)) == []
    assert codes(lambda: call(token(doctor()), versions=frozenset({"4.0"}))) == ["VERSION"]
    assert codes(lambda: call(token(doctor(), resource_urn="urn:ROR"), resource_urns=frozenset({"urn:ROR"}))) == []


def test_a_wrong_issuer_warns_or_refuses() -> None:
    text = spoiled(doctor(), lambda text: text.replace("GN=ANNE", "GN=ANNA"))
    (finding,) = call(text).findings
    assert (finding.severity, "GN=ANNE" in finding.expected, "GN=ANNA" in finding.received) == (
        Severity.WARNING, True, True)
    with pytest.raises(Refused):
        call(text, issuer_must_match=True)
    assert call(token(doctor()), issuer_must_match=True).findings == ()


# --- who holds the connection --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signer", "holder", "expected"), [
    (doctor, other_doctor, ["HOLDER-DIFFERS"]),
    (doctor, nursing_home, ["HOLDER-KIND"]),
    (nursing_home, doctor, ["HOLDER-KIND"]),
    (nursing_home, other_home, ["HOLDER-DIFFERS"]),
])
def test_the_holder_of_the_connection_signs(signer: Callable[[], Card], holder: Callable[[], Card],
                                            expected: list[str]) -> None:
    trust = FakeTrust([signer(), holder()])
    assert codes(lambda: call(token(signer()), trust=trust, tls=holder().authentication)) == expected


def test_certificates_are_asked_for_their_purpose() -> None:
    trust = FakeTrust([doctor()])
    call(token(doctor()), trust=trust)
    assert trust.asked == [Purpose.AUTHENTICATION, Purpose.SIGNATURE]
    assert codes(lambda: call(token(doctor()), tls=doctor().signature)) == ["CHAIN-UNKNOWN-ISSUER"]
    swapped = replace(doctor(), key=rsa_key(1), signature=doctor().authentication)
    assert codes(lambda: call(token(swapped), doctor())) == ["CHAIN-UNKNOWN-ISSUER"]


def test_without_certificate_the_https_door_is_closed() -> None:
    trust = FakeTrust([doctor()])
    with pytest.raises(Refused) as refused:
        verify(header_of(token(doctor())), None, trust, NOW, VihfPolicy())
    assert [finding.code for finding in refused.value.findings] == ["V-SEC-VIHF-TLS-MISSING"]
    assert trust.asked == []


def test_plain_http_warns_and_counts_once() -> None:
    policy = VihfPolicy(tls_required=False)
    caller = verify(header_of(token(doctor())), None, FakeTrust([doctor()]), NOW, policy)
    assert [finding.code for finding in caller.findings] == ["V-SEC-VIHF-HOLDER-UNCHECKED"]
    assert single_use(caller, policy)
    assert not single_use(call(token(doctor())), policy)
    assert single_use(call(token(doctor())), VihfPolicy(one_time=True))
    once = spoiled(doctor(), lambda text: text.replace("</saml2:Subject>", "</saml2:Subject><saml2:Conditions>"
                                                       "<saml2:OneTimeUse/></saml2:Conditions>"))
    assert single_use(call(once), policy)


def test_replay_key_tells_issuer_and_assertion_apart() -> None:
    first, again = (call(token(doctor(), assertion_id="_a")) for _ in range(2))
    other_id = call(token(doctor(), assertion_id="_b"))
    other_issuer = call(token(other_doctor(), assertion_id="_a"), other_doctor())
    assert replay_key(first) == replay_key(again)
    assert len({replay_key(first), replay_key(other_id), replay_key(other_issuer)}) == 3


def test_no_header_no_security_no_assertion() -> None:
    trust, policy = FakeTrust([doctor()]), VihfPolicy()
    for header in (None, envelope("")[0], envelope("<x/>")[0], header_of("")):
        with pytest.raises(Refused) as refused:
            verify(header, doctor().authentication, trust, NOW, policy)
        assert [finding.code for finding in refused.value.findings] == ["V-SEC-VIHF-MISSING"]
        assert refused.value.findings[0].rule.fault == "wsse:InvalidSecurity"


# --- cache ---------------------------------------------------------------------------------------------------------


def test_the_cache_saves_the_signature_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    import security.vihf as module

    real, times = module.verify_signature, []
    monkeypatch.setattr(module, "verify_signature", lambda *given: times.append(1) or real(*given))
    cache, trust, text = Cache(), FakeTrust([doctor()]), token(doctor())
    assert call(text, cache=cache, trust=trust) == call(text, cache=cache, trust=trust)
    assert (len(times), len(cache), len(trust.asked)) == (1, 1, 4)
    assert codes(lambda: call(text, cache=cache, trust=trust, at=NOW + timedelta(hours=1))) == ["EXPIRED"]
    assert codes(lambda: call(text, cache=cache, trust=trust, versions=frozenset())) == ["VERSION"]
    assert len(times) == 1
    call(text, cache=cache, trust=trust, allow_sha1=True)
    trust.epoch = "2"
    call(text, cache=cache, trust=trust)
    assert (len(times), len(cache)) == (3, 3)
    trust.cards = [replace(doctor(), signature=other_doctor().signature)]  # revoked meanwhile, same epoch
    assert codes(lambda: call(text, cache=cache, trust=trust)) == ["CHAIN-UNKNOWN-ISSUER"]


def test_the_cache_is_bounded_and_keeps_only_what_held() -> None:
    cache = Cache(size=3)
    for number in range(5):
        call(token(doctor(), assertion_id=f"_{number}"), cache=cache)
    assert len(cache) == 3
    bad = token(doctor()).replace("Logiciel", "Logicial")
    assert codes(lambda: call(bad, cache=cache)) == ["SIGNATURE"]
    assert len(cache) == 3


def test_another_certificate_is_another_entry() -> None:
    cache, trust, text = Cache(), FakeTrust([doctor(), other_doctor()]), token(doctor())
    call(text, cache=cache, trust=trust)
    assert codes(lambda: call(text, cache=cache, trust=trust, tls=other_doctor().authentication)) == ["HOLDER-DIFFERS"]
    assert len(cache) == 2


def test_times_are_utc_whatever_the_zone_of_the_builder() -> None:
    local = datetime(2026, 11, 22, 10, 0, tzinfo=timezone(timedelta(hours=1)))
    text = build(claims_of(doctor()), doctor().key, doctor().signature, local)
    assert 'IssueInstant="2026-11-22T09:00:00.000Z"' in text
    assert datetime.fromisoformat("2026-11-22T09:00:00.000Z") == NOW == local.astimezone(UTC)


def test_the_header_around_an_assertion() -> None:
    root = envelope(security_header(token(doctor())))
    assert [child.tag for child in root[0][0]] == [f"{{{names.SAML}}}Assertion"]
