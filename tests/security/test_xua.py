"""Assertions of XUA: what is built is read back; the nine variants of IHE's toolkit; every rule once; attacks."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner

from security import vihf_names as names
from security import xua, xua_build
from security.anchors import TrustError
from security.identity import AccessMode, Caller
from security.vihf_build import security_header, sign
from security.xmldsig import DS, EXC, EXC_COMMENTS, RSA_SHA1, RSA_SHA256, PrivateKey, signature_methods
from security.xua import Issuers, XuaPolicy
from security.xua_build import DOCTOR, ISSUER, TREATMENT, XuaClaims, build, unsigned
from security.xua_rules import holds
from security.xua_token import BEARER
from tests.security.signing import (
    certificate,
    doctor,
    ec_key,
    envelope,
    header_of,
    other_doctor,
    rsa_key,
    subject_of,
    verified_by_xmlsec1,
)
from xds.findings import Refused, Severity
from xds.model import Code
from xds.rim import localized

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
HERE = "http://volet.invalid/xua"
POLICY = XuaPolicy(frozenset({HERE}))
CLASSES = names.CONTEXTS
SOCIAL_WORKER = Code("106328005", "2.16.840.1.113883.6.96", localized("Social Worker"))
RESEARCH = Code("99-104", "1.3.6.1.4.1.21367.3000.4.1", localized("RESEARCH"))
CLAIMS = XuaClaims(
    "camille.essai@volet.invalid", HERE, alias="cessai", subject_name="ESSAI Camille", organisation="Cabinet fictif",
    organisation_id="urn:oid:2.999.1.2", community="urn:oid:2.999.1.3", assertion_id="_essai")


@functools.cache
def issuer_certificate(number: int = 10) -> x509.Certificate:
    return certificate(rsa_key(number), subject_of({NameOID.ORGANIZATION_NAME: f"STS {number}"}))


def issuers(**more: x509.Certificate) -> Issuers:
    return Issuers({ISSUER: (issuer_certificate(),), **{name: (one,) for name, one in more.items()}})


def assertion(claims: XuaClaims = CLAIMS, **changes: object) -> str:
    return build(replace(claims, **changes), rsa_key(10), issuer_certificate(), NOW)  # type: ignore[arg-type]


def spoiled(old: str, new: str, **changes: object) -> str:
    """An assertion changed before it is signed: its signature holds."""
    text = unsigned(replace(CLAIMS, **changes), NOW)  # type: ignore[arg-type]
    assert old in text
    return sign(text.replace(old, new), rsa_key(10), issuer_certificate())


def call(text: str, tls: x509.Certificate | None = None, at: datetime = NOW, policy: XuaPolicy = POLICY,
         trusted: Issuers | None = None) -> Caller:
    return xua.verify(header_of(text), tls, trusted or issuers(), at, policy)


def codes(run: Callable[[], Caller]) -> list[str]:
    """Codes of what a call refuses, or of the findings of the caller it returns, without their common prefix."""
    try:
        found = run().findings
    except Refused as refused:
        found = refused.findings
        assert any(finding.severity is Severity.ERROR for finding in found)
    assert all("{" not in finding.fr + finding.en for finding in found)
    return [finding.code.removeprefix("V-SEC-XUA-") for finding in found]


# --- what is built is read back ------------------------------------------------------------------------------------


def test_a_caller() -> None:
    caller = call(assertion(patient="268029999900140^^^&1.2.250.1.213.1.4.10&ISO", consents=("urn:oid:2.999.7",),
                            policies=("urn:oid:2.999.8", "urn:oid:2.999.9")))
    assert caller == Caller(
        national_id="camille.essai@volet.invalid", name="ESSAI Camille", structure_id="urn:oid:2.999.1.2",
        organisation="Cabinet fictif", community="urn:oid:2.999.1.3", roles=("112247003^2.16.840.1.113883.6.96",),
        purpose="TREATMENT^^2.16.840.1.113883.3.18.7.1", patient="268029999900140^^^&1.2.250.1.213.1.4.10&ISO",
        consents=("urn:oid:2.999.7", "urn:oid:2.999.8", "urn:oid:2.999.9"), assertion_id="_essai", issuer=ISSUER,
        alias="cessai", mode=AccessMode.NORMAL)


def test_a_caller_of_few_words() -> None:
    caller = call(assertion(XuaClaims("valid", HERE, roles=(), purposes=())))
    assert (caller.national_id, caller.name, caller.roles, caller.purpose) == ("valid", "valid", (), "")
    assert codes(lambda: caller) == ["ATTRIBUTE-ABSENT", "ATTRIBUTE-ABSENT"]


def test_the_signature_is_one_for_xmlsec1(tmp_path: Path) -> None:
    assert verified_by_xmlsec1(tmp_path, assertion().encode(), issuer_certificate(),
                               "--id-attr:ID", f"{names.SAML}:Assertion")


names_of_people = st.text(st.characters(codec="utf-8", categories=["L", "N", "Zs", "P"]), min_size=1, max_size=40)


@settings(max_examples=20, deadline=None)
@given(names_of_people, st.from_regex(r"[!-;=?-~]{1,40}", fullmatch=True))
def test_names_come_back(name: str, user: str) -> None:
    caller = call(assertion(subject_name=name, name_id=user))
    assert (caller.name, caller.national_id) == (name.strip(" ") or user, user)


# --- the nine variants of IHE's toolkit ----------------------------------------------------------------------------

VARIANTS: dict[str, tuple[dict[str, object], str]] = {
    "expired": ({"valid_from": timedelta(hours=-2)}, "EXPIRED"),
    "notyetvalid": ({"valid_from": timedelta(hours=2)}, "NOT-YET-VALID"),
    "unknownaudience": ({"audience": "http://ihe.unknown.xua/X-ServiceProvider-IHE-Unknown"}, "AUDIENCE"),
    "invalidauthnstatement": ({"contexts": (CLASSES + "Invalid",)}, "CONTEXT-UNKNOWN"),
    "secondauthncontext": ({"contexts": (CLASSES + "InternetProtocol",)}, "CONTEXT-REFUSED"),
    "secondauthncontext, two": ({"contexts": (CLASSES + "Password", CLASSES + "X509")}, "AUTHN-STATEMENTS"),
    "secondpurposeofuse": ({"purposes": (RESEARCH,)}, "NOT-GRANTED"),
    "secondpurposeofuse, two": ({"purposes": (TREATMENT, Code("EMERGENCY", TREATMENT.scheme))}, "SEVERAL"),
    "secondrole": ({"roles": (SOCIAL_WORKER,)}, "NOT-GRANTED"),
    "secondrole, two": ({"roles": (DOCTOR, Code("46255001", DOCTOR.scheme))}, "SEVERAL"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bad_variant_is_a_fault(variant: str) -> None:
    changes, expected = VARIANTS[variant]
    with pytest.raises(Refused) as refused:
        call(assertion(**changes))
    assert [finding.code.removeprefix("V-SEC-XUA-") for finding in refused.value.findings] == [expected]
    assert refused.value.findings[0].rule.fault.startswith("wsse:")


def test_unsigned_is_a_fault() -> None:
    text = re.sub("<ds:Signature.*</ds:Signature>", "", assertion(), flags=re.DOTALL)
    assert codes(lambda: call(text)) == ["UNSIGNED"]


def test_withauthzconsent_is_accepted() -> None:
    text = assertion(consents=("urn:oid:1.3.6.1.4.1.12559.11.1.11.1",),
                     patient="543797436^^^&1.2.840.113619.6.197&ISO",
                     purposes=(Code("99-101", "1.3.6.1.4.1.21367.3000.4.1"),))
    assert codes(lambda: call(text)) == []


# --- settings ------------------------------------------------------------------------------------------------------


def test_an_assertion_is_presented() -> None:
    assert xua.is_presented(header_of(assertion()))
    assert not xua.is_presented(None)
    assert not xua.is_presented(envelope(security_header("<x/>"))[0])


@pytest.mark.parametrize("header", [None, envelope("")[0], envelope(security_header(""))[0]])
def test_no_assertion(header: etree._Element | None) -> None:
    assert codes(lambda: xua.verify(header, None, issuers(), NOW, POLICY)) == ["MISSING"]


@pytest.mark.parametrize(("field", "change", "granted"), [
    ("roles", {"roles": (SOCIAL_WORKER,)}, {str(SOCIAL_WORKER)}),
    ("roles", {"roles": (SOCIAL_WORKER,)}, {f"*^^{SOCIAL_WORKER.scheme}"}),
    ("purposes", {"purposes": (RESEARCH,)}, {str(RESEARCH)}),
    ("purposes", {"purposes": (RESEARCH,)}, None),
    ("contexts", {"contexts": (CLASSES + "InternetProtocol",)}, {CLASSES + "InternetProtocol"}),
    ("contexts", {"contexts": ("urn:volet:essai",)}, {"urn:volet:essai"}),
])
def test_what_a_setting_grants(field: str, change: dict[str, object], granted: set[str] | None) -> None:
    policy = replace(POLICY, **{field: granted and frozenset(granted)})  # type: ignore[arg-type]
    assert codes(lambda: call(assertion(**change), policy=policy)) == []


def test_a_code_of_another_system_is_not_granted() -> None:
    assert codes(lambda: call(assertion(roles=(Code("112247003", "2.999"),)))) == ["NOT-GRANTED"]


@pytest.mark.parametrize(("minutes", "expected"), [
    (-1, []), (-2, ["NOT-YET-VALID"] * 2), (30, []), (31, ["EXPIRED"])])
def test_clocks_may_differ_by_the_skew(minutes: int, expected: list[str]) -> None:
    at = NOW + timedelta(minutes=minutes)
    assert codes(lambda: call(assertion(), at=at)) == expected


# --- rules ---------------------------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[str, str, list[str]]] = {
    "SAML 1.1": ('Version="2.0"', 'Version="1.1"', ["SAML-VERSION"]),
    "issued without zone": ('IssueInstant="2026-11-22T09:00:00.000Z"', 'IssueInstant="2026-11-22T09:00:00"',
                            ["INSTANT"]),
    "issued when it will be": ('IssueInstant="2026', 'IssueInstant="2027', ["NOT-YET-VALID"]),
    "NotBefore absent": (' NotBefore="2026-11-22T09:00:00.000Z"', "", ["CONDITIONS"]),
    "NotOnOrAfter absent": (' NotOnOrAfter="2026-11-22T09:30:00.000Z"', "", ["CONDITIONS"]),
    "NotOnOrAfter that is no time": ('NotOnOrAfter="2026-11-22T09:30:00.000Z"', 'NotOnOrAfter="soon"', ["INSTANT"]),
    "good for years": ('NotOnOrAfter="2026', 'NotOnOrAfter="2030', ["LIFETIME"]),
    "no audience": (f"<saml2:AudienceRestriction><saml2:Audience>{HERE}</saml2:Audience></saml2:AudienceRestriction>",
                    "", ["CONDITIONS"]),
    "one audience of two": (f"<saml2:Audience>{HERE}", f"<saml2:Audience>urn:x</saml2:Audience><saml2:Audience>{HERE}",
                            []),
    "two restrictions, one for others": (
        "<saml2:AudienceRestriction>",
        "<saml2:AudienceRestriction><saml2:Audience>urn:x</saml2:Audience></saml2:AudienceRestriction>"
        "<saml2:AudienceRestriction>", ["AUDIENCE"]),
    "audience of other case": (f"<saml2:Audience>{HERE}", f"<saml2:Audience>{HERE.upper()}", ["AUDIENCE"]),
    "unknown condition": ("</saml2:Conditions>", "<saml2:Condition/></saml2:Conditions>", ["CONDITIONS"]),
    "proxy restriction": ("</saml2:Conditions>", "<saml2:ProxyRestriction/></saml2:Conditions>", []),
    "once only": ("</saml2:Conditions>", "<saml2:OneTimeUse/></saml2:Conditions>", ["ONE-TIME"]),
    "no conditions": ("saml2:Conditions", "saml2:Advice", ["SCHEMA"]),
    "session over": ("<saml2:AuthnStatement ", '<saml2:AuthnStatement SessionNotOnOrAfter="2026-11-22T08:00:00Z" ',
                     ["EXPIRED"]),
    "no context": (f"<saml2:AuthnContextClassRef>{CLASSES}Password</saml2:AuthnContextClassRef>", "",
                   ["AUTHN-STATEMENTS"]),
    "context by declaration": ("AuthnContextClassRef>", "AuthnContextDeclRef>", []),
    "two contexts in one statement": ("<saml2:AuthnContextClassRef>", "<saml2:AuthnContextDeclRef>urn:x"
                                      "</saml2:AuthnContextDeclRef><saml2:AuthnContextClassRef>",
                                      ["AUTHN-STATEMENTS", "CONTEXT-UNKNOWN"]),
    "sender vouches": (BEARER, "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches", ["CONFIRMATION"]),
    "no confirmation": (f'<saml2:SubjectConfirmation Method="{BEARER}"/>', "", ["CONFIRMATION"]),
    "two confirmations": (f'<saml2:SubjectConfirmation Method="{BEARER}"/>',
                          f'<saml2:SubjectConfirmation Method="{BEARER}"/>' * 2, ["CONFIRMATION"]),
    "confirmation over": (f'Method="{BEARER}"/>', f'Method="{BEARER}"><saml2:SubjectConfirmationData'
                          ' NotOnOrAfter="2026-11-22T08:00:00Z"/></saml2:SubjectConfirmation>', ["EXPIRED"]),
    "confirmation to come": (f'Method="{BEARER}"/>', f'Method="{BEARER}"><saml2:SubjectConfirmationData'
                             ' NotBefore="2026-11-22T10:00:00Z"/></saml2:SubjectConfirmation>', ["NOT-YET-VALID"]),
    "no NameID": ('<saml2:NameID SPProvidedID="cessai">camille.essai@volet.invalid</saml2:NameID>', "", ["VALUE"]),
    "encrypted NameID": ("saml2:NameID", "saml2:EncryptedID", ["VALUE"]),
    "empty NameID": (">camille.essai@volet.invalid<", "><", ["VALUE"]),
    "instruction in NameID": ("camille.", "camille<?x?>.", ["VALUE"]),
    "NameID of look-alikes": ("camille", "саmille", ["VALUE"]),
    "NameID that forges a name in the audit": ("camille", "x&lt;y@z&gt;", ["VALUE"]),
    "alias that does": ('"cessai"', '"x&lt;y"', ["VALUE"]),
    "blank line around NameID": (">camille.essai@volet.invalid<", ">\n camille.essai@volet.invalid\n<", []),
    "an attribute twice": ('<saml2:Attribute Name="urn:oasis:names:tc:xspa:1.0:subject:organization" ',
                           '<saml2:Attribute Name="urn:oasis:names:tc:xspa:1.0:subject:subject-id" ', ["REPEATED"]),
    "the same under its earlier name": (
        'Name="urn:oasis:names:tc:xspa:1.0:subject:organization" ',
        'Name="urn:oasis:names:tc:xacml:1.0:subject:subject-id" ', ["REPEATED"]),
    "a value too many": ("<saml2:AttributeValue xmlns:xs", "<saml2:AttributeValue>x</saml2:AttributeValue>"
                         "<saml2:AttributeValue xmlns:xs", ["REPEATED"] * 4 + ["VALUE"]),
    "not an attribute": ("<saml2:AttributeStatement>", "<saml2:AttributeStatement><saml2:EncryptedAttribute/>",
                         ["REPEATED"]),
    "an attribute that XUA does not name": (
        "<saml2:AttributeStatement>", '<saml2:AttributeStatement><saml2:Attribute Name="urn:x"><saml2:AttributeValue>'
        "<y/></saml2:AttributeValue></saml2:Attribute>", []),
    "a second attribute statement": (
        "</saml2:Assertion>", '<saml2:AttributeStatement><saml2:Attribute Name="urn:x"/></saml2:AttributeStatement>'
        "</saml2:Assertion>", []),
    "a decision": ("</saml2:Assertion>", "<saml2:AuthzDecisionStatement/></saml2:Assertion>", ["SCHEMA"]),
    "no subject": ("saml2:Subject>", "saml2:Object>", ["SCHEMA"]),
    "community that is no OID": ("urn:oid:2.999.1.3", "community", ["VALUE"]),
    "role as text": (re.search("<Role .*?/>", unsigned(CLAIMS, NOW))[0], "doctor",  # type: ignore[index]
                     ["VALUE", "ATTRIBUTE-ABSENT"]),
    "role without system": (f' codeSystem="{DOCTOR.scheme}"', "", ["VALUE", "ATTRIBUTE-ABSENT"]),
    "role's system as a URN": (f'codeSystem="{DOCTOR.scheme}"', f'codeSystem="urn:oid:{DOCTOR.scheme}"', []),
    "role of another namespace": ('<Role xmlns="urn:hl7-org:v3"', '<Role xmlns="urn:x"', ["VALUE", "ATTRIBUTE-ABSENT"]),
    "another issuer": (f"<saml2:Issuer>{ISSUER}", "<saml2:Issuer>urn:autre", ["ISSUER"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_change(change: str) -> None:
    old, new, expected = CHANGES[change]
    assert codes(lambda: call(spoiled(old, new))) == expected


@pytest.mark.parametrize("patient", ["268029999900140", "a^^^&x&ISO", "a^^^&1.2&ISO' or 1=1", "٣^^^&1.2&ISO"])
def test_a_patient_that_is_no_cx(patient: str) -> None:
    assert codes(lambda: call(assertion(patient=patient))) == ["VALUE"]


def test_once_only() -> None:
    caller = call(spoiled("</saml2:Conditions>", "<saml2:OneTimeUse/></saml2:Conditions>"))
    assert xua.single_use(caller)
    assert not xua.single_use(call(assertion()))
    assert xua.replay_key(caller) == xua.replay_key(call(assertion()))
    assert xua.replay_key(caller) != xua.replay_key(call(assertion(assertion_id="_other")))


def test_everything_is_said_at_once() -> None:
    text = assertion(audience="urn:x", contexts=(CLASSES + "Invalid",), roles=(SOCIAL_WORKER,))
    assert codes(lambda: call(text)) == ["AUDIENCE", "CONTEXT-UNKNOWN", "NOT-GRANTED"]


# --- holder of key -------------------------------------------------------------------------------------------------


def test_the_holder_of_the_key() -> None:
    mine = doctor().authentication
    text = assertion(holder=mine)
    assert codes(lambda: call(text, mine)) == []
    assert codes(lambda: call(text)) == ["HOLDER-DIFFERS"]
    assert codes(lambda: call(text, policy=replace(POLICY, tls_required=False))) == ["HOLDER-UNCHECKED"]
    assert codes(lambda: call(text, other_doctor().signature)) == ["HOLDER-DIFFERS"]


def test_a_renewed_certificate_of_the_same_key_holds() -> None:
    renewed = certificate(rsa_key(1), subject_of({NameOID.COMMON_NAME: "renewed"}), 10)
    assert codes(lambda: call(assertion(holder=doctor().authentication), renewed)) == []


def key_value(key: PrivateKey, modulus: str = "") -> str:
    numbers = key.public_key().public_numbers()
    assert not isinstance(numbers, ec.EllipticCurvePublicNumbers)
    return (f"<ds:KeyValue><ds:RSAKeyValue><ds:Modulus>{modulus or base64(numbers.n)}</ds:Modulus>"
            f"<ds:Exponent>{base64(numbers.e)}</ds:Exponent></ds:RSAKeyValue></ds:KeyValue>")


def base64(number: int) -> str:
    from base64 import b64encode
    return b64encode(number.to_bytes((number.bit_length() + 7) // 8)).decode()


@pytest.mark.parametrize(("content", "expected"), [
    (key_value(rsa_key(1)), True), (key_value(rsa_key(2)), False), ("", False), ("<ds:KeyName>x</ds:KeyName>", False),
    (key_value(rsa_key(1)) * 2, False), (key_value(rsa_key(1), "!"), False), ("<ds:KeyValue/>", False),
    ("<ds:KeyValue><ds:ECKeyValue/></ds:KeyValue>", False),
    ("<ds:KeyValue><ds:RSAKeyValue><ds:Exponent>AQAB</ds:Exponent></ds:RSAKeyValue></ds:KeyValue>", False),
])
def test_a_key_by_its_value(content: str, expected: bool) -> None:
    key_info = etree.fromstring(f'<ds:KeyInfo xmlns:ds="{DS}">{content}</ds:KeyInfo>')
    assert holds(doctor().authentication, [key_info]) is expected


def test_an_elliptic_key_is_held_by_certificate_only() -> None:
    mine = certificate(ec_key(), subject_of({NameOID.COMMON_NAME: "x"}))
    key_info = etree.fromstring(f'<ds:KeyInfo xmlns:ds="{DS}">{key_value(rsa_key(1))}</ds:KeyInfo>')
    assert not holds(mine, [key_info])
    assert codes(lambda: call(assertion(holder=mine), mine)) == []


# --- issuers and their keys ----------------------------------------------------------------------------------------

KEY_INFO = re.compile("<ds:KeyInfo>.*?</ds:KeyInfo>", re.DOTALL)


@pytest.mark.parametrize("key_info", [
    "", f"<ds:KeyInfo>{key_value(rsa_key(10))}</ds:KeyInfo>", "<ds:KeyInfo><ds:KeyName>sts</ds:KeyName></ds:KeyInfo>"])
def test_a_signature_without_certificate_is_tried_with_those_known(key_info: str) -> None:
    text = KEY_INFO.sub(key_info, assertion())
    assert codes(lambda: call(text)) == []
    both = Issuers({ISSUER: (issuer_certificate(11), issuer_certificate())})
    assert codes(lambda: call(text, trusted=both)) == []
    assert codes(lambda: call(text, trusted=Issuers({ISSUER: (issuer_certificate(11), issuer_certificate(12))}))) == [
        "SIGNATURE"]


def test_a_certificate_nobody_registered() -> None:
    text = build(CLAIMS, rsa_key(11), issuer_certificate(11), NOW)
    assert codes(lambda: call(text)) == ["KEY"]


def test_an_issuer_vouches_under_its_own_name_only() -> None:
    text = build(replace(CLAIMS, issuer="urn:autre"), rsa_key(10), issuer_certificate(), NOW)
    assert codes(lambda: call(text, trusted=issuers(**{"urn:autre": issuer_certificate(11)}))) == ["KEY"]
    bare = KEY_INFO.sub("", text)
    assert codes(lambda: call(bare, trusted=issuers(**{"urn:autre": issuer_certificate(11)}))) == ["SIGNATURE"]


def test_a_certificate_out_of_date() -> None:
    text, at = assertion(valid_from=timedelta(days=400)), NOW + timedelta(days=400, minutes=5)
    assert codes(lambda: call(text, at=at)) == ["SIGNATURE"]


def resigned(c14n: CanonicalizationMethod) -> str:
    signer = XMLSigner(signature_algorithm=SignatureMethod.RSA_SHA256, digest_algorithm=DigestAlgorithm.SHA256,
                       c14n_algorithm=c14n)
    pem = issuer_certificate().public_bytes(Encoding.PEM).decode()
    signed = signer.sign(etree.fromstring(unsigned(CLAIMS, NOW)), key=rsa_key(10), cert=[pem])
    return etree.tostring(signed, encoding="unicode")


def test_comments_may_be_kept_in_signed_info_as_picketlink_does() -> None:
    text = assertion()
    method = f'<ds:CanonicalizationMethod Algorithm="{EXC}"/>'
    assert method in text
    # whoever signs so signs other bytes; the form alone passes
    assert codes(lambda: call(text.replace(method, method.replace(EXC, EXC_COMMENTS)))) == ["SIGNATURE"]
    everywhere = resigned(CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0_WITH_COMMENTS)
    # never in the transform: what is read is what is hashed
    assert codes(lambda: call(everywhere)) == ["SIGNATURE-FORM"]


def test_sha1_by_setting_only() -> None:
    changed = assertion().replace(RSA_SHA256, RSA_SHA1)
    assert codes(lambda: call(changed)) == ["SIGNATURE-FORM"]
    assert codes(lambda: call(changed, policy=replace(POLICY, allow_sha1=True))) == ["SIGNATURE"]
    assert RSA_SHA1 not in signature_methods()


# --- attacks -------------------------------------------------------------------------------------------------------

GOOD = assertion()
SIGNATURE = re.search("<ds:Signature.*</ds:Signature>", GOOD, re.DOTALL)[0]  # type: ignore[index]
BARE = GOOD.replace(SIGNATURE, "")
EVIL = BARE.replace("_essai", "_evil").replace("camille", "mallory")


def signed_by(signature: str, text: str = EVIL) -> str:
    return text.replace("</saml2:Issuer>", f"</saml2:Issuer>{signature}")


WRAPPED: dict[str, tuple[str, str, str]] = {  # header, body, code
    "two headers": (security_header(signed_by(SIGNATURE)) + security_header(GOOD), "", "PLACEMENT"),
    "good one in the body": (security_header(EVIL), GOOD, "PLACEMENT"),
    "evil before good": (security_header(EVIL + GOOD), "", "PLACEMENT"),
    "good inside evil": (security_header(EVIL.replace("</saml2:Assertion>", GOOD + "</saml2:Assertion>")), "",
                         "PLACEMENT"),
    "original in Advice": (
        security_header(EVIL.replace("</saml2:Subject>", f"</saml2:Subject><saml2:Advice>{GOOD}</saml2:Advice>")), "",
        "PLACEMENT"),
    "original in ds:Object": (security_header(signed_by(SIGNATURE.replace(
        "</ds:Signature>", f"<ds:Object>{BARE}</ds:Object></ds:Signature>"))), "", "PLACEMENT"),
    "evil content, good signature": (security_header(signed_by(SIGNATURE)), "", "SIGNATURE-FORM"),
    "evil content, good ID": (security_header(signed_by(SIGNATURE, EVIL.replace("_evil", "_essai"))), "", "SIGNATURE"),
    "signature deeper": (security_header(EVIL.replace("<saml2:AttributeStatement>",
                                                      f"<saml2:AttributeStatement>{SIGNATURE}")), "",
                         "SIGNATURE-FORM"),
    "signature empty": (security_header(signed_by(f'<ds:Signature xmlns:ds="{DS}"/>')), "", "SIGNATURE-FORM"),
    "no ID": (security_header(GOOD.replace(' ID="_essai"', "")), "", "ID"),
    "an ID twice": (security_header(GOOD.replace("<saml2:Subject>", '<saml2:Subject Id="_essai">')), "", "ID"),
    "for somebody else": (security_header(GOOD).replace(
        "<wsse:Security", f'<wsse:Security xmlns:s="{names.SOAP12}" s:role="urn:x"'), "", "PLACEMENT"),
    "64 kB": (security_header(GOOD.replace("ESSAI Camille", "x" * 70_000)), "", "TOO-LARGE"),
    "HMAC": (security_header(GOOD.replace(RSA_SHA256, "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256")), "",
             "SIGNATURE-FORM"),
    "all references": (security_header(GOOD.replace('URI="#_essai"', 'URI=""')), "", "SIGNATURE-FORM"),
}


@pytest.mark.parametrize("attack", WRAPPED)
def test_attacks(attack: str) -> None:
    header, body, expected = WRAPPED[attack]
    root = envelope(header, body)
    assert codes(lambda: xua.verify(root[0], None, issuers(), NOW, POLICY)) == [expected]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.characters(codec="utf-8"))
def test_any_other_sign_anywhere_is_refused_or_means_the_same(place: int, sign_put: str) -> None:
    text = GOOD[:place] + sign_put + GOOD[place + 1:]
    try:
        header = header_of(text)
    except (etree.XMLSyntaxError, ValueError):
        return
    try:
        caller = xua.verify(header, None, issuers(), NOW, POLICY)
    except Refused:
        return
    assert replace(caller, findings=()) == call(GOOD)


# --- the issuer of our own -----------------------------------------------------------------------------------------


def load_key(folder: Path) -> PrivateKey:
    return load_pem_private_key((folder / "issuer.key").read_bytes(), None)  # type: ignore[return-value]


def test_an_issuer_made_for_tests(tmp_path: Path) -> None:
    folder, now = tmp_path / "pki" / "xua", datetime.now(UTC)
    xua_build.create(folder, now)
    trusted = Issuers.load(folder)
    assert list(trusted.certificates) == [ISSUER]
    assert os.stat(folder / "issuer.key").st_mode & 0o077 == 0
    text = build(CLAIMS, load_key(folder), trusted.certificates[ISSUER][0], now)
    assert call(text, at=now, trusted=trusted).issuer == ISSUER
    before = (folder / "issuer.pem").read_bytes()
    xua_build.create(folder, now)
    assert (folder / "issuer.pem").read_bytes() == before


def test_production_refuses_it(tmp_path: Path) -> None:
    xua_build.create(tmp_path, datetime.now(UTC))
    with pytest.raises(TrustError, match=r"issuer\.pem: a test issuer"):
        Issuers.load(tmp_path, accept_test=False)


@pytest.mark.parametrize(("content", "said"), [
    (None, "No such file"), ("x", "issuers.toml"), ('"urn:x" = 1', "a file name"),
    ('"urn:x" = "../ca.pem"', "a file name"), ('"urn:x" = "none.pem"', "No such file"),
    ('"urn:x" = "empty.pem"', r"empty\.pem"),
    ('"urn:x" = "nine.pem"', r"nine\.pem"),
])
def test_a_list_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    pem = issuer_certificate().public_bytes(Encoding.PEM)
    (tmp_path / "empty.pem").write_bytes(b"x")
    (tmp_path / "nine.pem").write_bytes(pem * 9)
    if content is not None:
        (tmp_path / "issuers.toml").write_text(content)
    with pytest.raises(TrustError, match=said):
        Issuers.load(tmp_path)


def test_several_keys_of_an_issuer(tmp_path: Path) -> None:
    (tmp_path / "sts.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in (
        issuer_certificate(11), issuer_certificate())))
    (tmp_path / "issuers.toml").write_text(f'"{ISSUER}" = "sts.pem"\n')
    assert codes(lambda: call(assertion(), trusted=Issuers.load(tmp_path, accept_test=False))) == []
