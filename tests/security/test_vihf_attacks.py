"""Attacks on the VIHF: wrapping, two of everything, signatures of other forms, keys of others, odd text."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.signer import XMLSigner
from signxml.verifier import VerifyResult

from security import vihf_names as names
from security.distinguished import write_name
from security.vihf import VihfPolicy, verify
from security.vihf_build import security_header, sign, unsigned
from security.xmldsig import DS, ENVELOPED, EXC, EXC_COMMENTS, RSA_SHA1, RSA_SHA256, SHA1, SHA256
from tests.security.signing import (
    NOW,
    FakeTrust,
    call,
    claims_of,
    codes,
    doctor,
    envelope,
    header_of,
    other_doctor,
    person,
    rsa_key,
    spoiled,
    token,
)
from xds.findings import Refused

GOOD = token(doctor(), assertion_id="_good")
SIGNATURE = re.search("<ds:Signature.*</ds:Signature>", GOOD, re.DOTALL)[0]  # type: ignore[index]
BARE = GOOD.replace(SIGNATURE, "")
EVIL = BARE.replace("_good", "_evil").replace("899999000013", "899999000021")
TWIN = EVIL.replace("_evil", "_good")  # the same with the ID of the good one
CERTIFICATE = re.search("<ds:X509Certificate>.*</ds:X509Certificate>", GOOD, re.DOTALL)[0]  # type: ignore[index]
BASE64 = CERTIFICATE[len("<ds:X509Certificate>"):-len("</ds:X509Certificate>")]


def refused(root: etree._Element) -> list[str]:
    """Codes that refuse an envelope; whoever it might pass for is known and holds the connection."""
    trust = FakeTrust([doctor(), other_doctor()])
    found = []
    for card in (doctor(), other_doctor()):
        with pytest.raises(Refused) as error:
            verify(root[0], card.authentication, trust, NOW, VihfPolicy())
        found = [finding.code.removeprefix("V-SEC-VIHF-") for finding in error.value.findings]
    return found


def signed_by(signature: str, evil: str = EVIL) -> str:
    """The signature put where the schema wants it."""
    return evil.replace("</saml2:Issuer>", f"</saml2:Issuer>{signature}")


def holding(content: str, evil: str = EVIL) -> str:
    return evil.replace("<saml2:AttributeStatement>", f"<saml2:AttributeStatement>{content}")


def advised(content: str, evil: str = EVIL) -> str:
    return evil.replace("</saml2:Subject>", f"</saml2:Subject><saml2:Advice>{content}</saml2:Advice>")


def with_object(content: str) -> str:
    return SIGNATURE.replace("</ds:Signature>", f"<ds:Object>{content}</ds:Object></ds:Signature>")


def test_the_pieces_are_good() -> None:
    assert call(GOOD).national_id == "899999000013"
    assert signed_by(SIGNATURE, BARE) == GOOD


# --- wrapping ------------------------------------------------------------------------------------------------------

WRAPPED: dict[str, tuple[str, str, str]] = {  # header, body, code
    "XSW1 the good header after an evil one": (
        security_header(signed_by(SIGNATURE)) + security_header(GOOD), "", "SECURITY-HEADERS"),
    "XSW1 before it": (security_header(GOOD) + security_header(signed_by(SIGNATURE)), "", "SECURITY-HEADERS"),
    "XSW1 in the body": (security_header(signed_by(SIGNATURE)), security_header(GOOD), "SECURITY-HEADERS"),
    "XSW2 signature beside, good one in the body": (security_header(EVIL + SIGNATURE), BARE, "ASSERTIONS"),
    "XSW2 signature beside": (security_header(SIGNATURE + EVIL), "", "UNSIGNED"),
    "XSW3 evil before good": (security_header(EVIL + GOOD), "", "ASSERTIONS"),
    "XSW3 good before evil": (security_header(GOOD + EVIL), "", "ASSERTIONS"),
    "XSW3 same ID": (security_header(TWIN + GOOD), "", "ASSERTIONS"),
    "XSW4 good child of evil": (security_header(holding(GOOD)), "", "ASSERTIONS"),
    "XSW4 last child": (security_header(EVIL.replace("</saml2:Assertion>", GOOD + "</saml2:Assertion>")), "",
                        "ASSERTIONS"),
    "XSW4 good one in the body": (security_header(EVIL), GOOD, "ASSERTIONS"),
    "XSW5 signature in the evil copy, original beside": (security_header(signed_by(SIGNATURE) + BARE), "",
                                                         "ASSERTIONS"),
    "XSW5 original in the body": (security_header(signed_by(SIGNATURE)), BARE, "ASSERTIONS"),
    "XSW6 original inside the signature": (
        security_header(signed_by(SIGNATURE.replace("</ds:Signature>", BARE + "</ds:Signature>"))), "", "ASSERTIONS"),
    "XSW7 original in Advice": (security_header(advised(GOOD)), "", "ASSERTIONS"),
    "XSW7 original in Advice, signature outside": (security_header(signed_by(SIGNATURE, advised(BARE))), "",
                                                   "ASSERTIONS"),
    "XSW7 original in Extensions": (security_header(holding(f"<saml2:Extensions>{GOOD}</saml2:Extensions>")), "",
                                    "ASSERTIONS"),
    "XSW8 original in ds:Object": (security_header(signed_by(with_object(BARE))), "", "ASSERTIONS"),
    "XSW8 same ID": (security_header(signed_by(with_object(BARE), TWIN)), "", "ASSERTIONS"),
    "two Security headers, one empty": (security_header(GOOD) + security_header(""), "", "SECURITY-HEADERS"),
    "Security only in the body": ("<x/>", security_header(GOOD), "SECURITY-HEADERS"),
    "Security inside another header": (f"<x>{security_header(GOOD)}</x>", "", "SECURITY-HEADERS"),
    "assertion without Security": (GOOD, "", "MISSING"),
    "assertion in the body": (security_header(""), GOOD, "ASSERTIONS"),
    "assertion beside Security": (security_header("") + GOOD, "", "ASSERTIONS"),
    "assertion deeper in Security": (security_header(f"<x>{GOOD}</x>"), "", "ASSERTIONS"),
}


@pytest.mark.parametrize("shape", WRAPPED)
def test_wrapping(shape: str) -> None:
    header, body, expected = WRAPPED[shape]
    assert refused(envelope(header, body)) == [expected]


INSIDE: dict[str, tuple[str, str]] = {  # the lone assertion, code
    "evil content under the good signature": (signed_by(SIGNATURE), "REFERENCE"),
    "with the good ID": (signed_by(SIGNATURE, TWIN), "SIGNATURE"),
    "signature one level down": (holding(SIGNATURE), "SIGNATURE-POSITION"),
    "signature last": (BARE.replace("</saml2:Assertion>", SIGNATURE + "</saml2:Assertion>"), "SIGNATURE-POSITION"),
    "signature first": (BARE.replace("<saml2:Issuer", SIGNATURE + "<saml2:Issuer"), "SIGNATURE-POSITION"),
    "two signatures": (signed_by(SIGNATURE * 2, BARE), "SIGNATURE-POSITION"),
    "a second one deeper": (holding(SIGNATURE, GOOD), "SIGNATURE-POSITION"),
    "a signature in another namespace": (
        signed_by(SIGNATURE.replace(DS, "urn:x"), BARE), "UNSIGNED"),
    "the same ID twice": (GOOD.replace("<saml2:Subject>", '<saml2:Subject ID="_good">'), "REPEATED-ID"),
    "the same ID as xml:id": (GOOD.replace("<saml2:Subject>", '<saml2:Subject xml:id="_good">'), "REPEATED-ID"),
    "the same ID as Id": (GOOD.replace("<saml2:Subject>", '<saml2:Subject Id="_good">'), "REPEATED-ID"),
    "no ID": (GOOD.replace(' ID="_good"', ""), "ID"),
    "an ID of other letters": (GOOD.replace(' ID="_good"', ' ID="_gооd"'), "ID"),
    "ds:Object": (signed_by(with_object(""), BARE), "SIGNATURE-SHAPE"),
}


@pytest.mark.parametrize("shape", INSIDE)
def test_inside_the_assertion(shape: str) -> None:
    text, expected = INSIDE[shape]
    assert refused(envelope(security_header(text))) == [expected]


@pytest.mark.parametrize("attribute", [f'xmlns:s="{names.SOAP12}" s:role="urn:someone"',
                                       f'xmlns:o="{names.SOAP11}" o:actor="urn:someone"'])
def test_a_header_for_somebody_else(attribute: str) -> None:
    header = security_header(GOOD).replace("<wsse:Security", f"<wsse:Security {attribute}")
    assert refused(envelope(header)) == ["ACTOR"]


@pytest.mark.parametrize("role", ["next", "ultimateReceiver"])
def test_a_header_for_us(role: str) -> None:
    attribute = f'xmlns:s="{names.SOAP12}" s:mustUnderstand="true" s:role="{names.SOAP12}/role/{role}"'
    root = envelope(security_header(GOOD).replace("<wsse:Security", f"<wsse:Security {attribute}"))
    assert verify(root[0], doctor().authentication, FakeTrust([doctor()]), NOW, VihfPolicy()).findings == ()


def test_what_is_handed_in_must_be_the_header_of_the_envelope() -> None:
    lone = etree.fromstring(security_header(GOOD))
    with pytest.raises(Refused):
        verify(lone, doctor().authentication, FakeTrust([doctor()]), NOW, VihfPolicy())


# --- forms of the signature ----------------------------------------------------------------------------------------

URI = 'URI="#_good"'
SECOND = f'<ds:Transform Algorithm="{EXC}"/>'
REFERENCE = re.search("<ds:Reference.*</ds:Reference>", GOOD, re.DOTALL)[0]  # type: ignore[index]
VALUE = re.search("<ds:SignatureValue>.*</ds:SignatureValue>", GOOD, re.DOTALL)[0]  # type: ignore[index]
DIGEST = re.search("<ds:DigestValue>.*</ds:DigestValue>", GOOD)[0]  # type: ignore[index]
XPATH = ('<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><ds:XPath>not(ancestor-or-self::x)'
         "</ds:XPath></ds:Transform>")
XSLT = '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"><x/></ds:Transform>'
METHOD = f'<ds:SignatureMethod Algorithm="{RSA_SHA256}"/>'

FORMS: dict[str, tuple[str, str, str]] = {  # what, by what, code
    "stripped": (SIGNATURE, "", "UNSIGNED"),
    "empty": (SIGNATURE, f'<ds:Signature xmlns:ds="{DS}"/>', "SIGNATURE-SHAPE"),
    "empty value": (VALUE, "<ds:SignatureValue/>", "SIGNATURE-SHAPE"),
    "no value": (VALUE, "", "SIGNATURE-SHAPE"),
    "value that is no base64": (VALUE, "<ds:SignatureValue>é==</ds:SignatureValue>", "SIGNATURE-SHAPE"),
    "value broken by a comment": ("<ds:SignatureValue>", "<ds:SignatureValue>AAAA<!-- -->", "SIGNATURE-SHAPE"),
    "value of zeros": (VALUE, "<ds:SignatureValue>AAAA</ds:SignatureValue>", "SIGNATURE"),
    "whole document": (URI, 'URI=""', "REFERENCE"),
    "no URI": (URI, "", "REFERENCE"),
    "external": (URI, 'URI="http://example.invalid/x"', "REFERENCE"),
    "file": (URI, 'URI="file:///etc/hostname"', "REFERENCE"),
    "xpointer": (URI, "URI=\"#xpointer(id('_good'))\"", "REFERENCE"),
    "two number signs": (URI, 'URI="##_good"', "REFERENCE"),
    "another ID": (URI, 'URI="#_evil"', "REFERENCE"),
    "two references": (REFERENCE, REFERENCE * 2, "SIGNATURE-SHAPE"),
    "no reference": (REFERENCE, "", "SIGNATURE-SHAPE"),
    "XPath": (SECOND, XPATH + SECOND, "TRANSFORM"),
    "XPath first": (f'<ds:Transform Algorithm="{ENVELOPED}"/>', XPATH, "TRANSFORM"),
    "base64 first": (ENVELOPED, f"{DS}base64", "TRANSFORM"),
    "XPath instead": (SECOND, XPATH, "TRANSFORM"),
    "XSLT": (SECOND, SECOND + XSLT, "TRANSFORM"),
    "base64": (SECOND, f'<ds:Transform Algorithm="{DS}base64"/>', "TRANSFORM"),
    "only enveloped": (SECOND, "", "TRANSFORM"),
    "only c14n": (f'<ds:Transform Algorithm="{ENVELOPED}"/>', "", "TRANSFORM"),
    "other order": (f'<ds:Transform Algorithm="{ENVELOPED}"/>{SECOND}',
                    f'{SECOND}<ds:Transform Algorithm="{ENVELOPED}"/>', "TRANSFORM"),
    "no transforms": (f'<ds:Transforms><ds:Transform Algorithm="{ENVELOPED}"/>{SECOND}</ds:Transforms>', "",
                      "SIGNATURE-SHAPE"),
    "a parameter of enveloped": (f'<ds:Transform Algorithm="{ENVELOPED}"/>',
                                 f'<ds:Transform Algorithm="{ENVELOPED}"><x/></ds:Transform>', "TRANSFORM"),
    "an odd parameter of c14n": (SECOND, f'<ds:Transform Algorithm="{EXC}"><x/></ds:Transform>', "TRANSFORM"),
    "comments kept": (SECOND, f'<ds:Transform Algorithm="{EXC_COMMENTS}"/>', "TRANSFORM"),
    "inclusive c14n": (f'CanonicalizationMethod Algorithm="{EXC}"',
                       'CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"',
                       "TRANSFORM"),
    "sha1 signature": (RSA_SHA256, RSA_SHA1, "ALGORITHM"),
    "sha1 digest": (SHA256, SHA1, "ALGORITHM"),
    "md5 signature": (RSA_SHA256, "http://www.w3.org/2001/04/xmldsig-more#rsa-md5", "ALGORITHM"),
    "md5 digest": (SHA256, "http://www.w3.org/2001/04/xmldsig-more#md5", "ALGORITHM"),
    "HMAC": (RSA_SHA256, "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", "ALGORITHM"),
    "HMAC cut short": (METHOD, f'<ds:SignatureMethod Algorithm="{DS}hmac-sha1"><ds:HMACOutputLength>1'
                               "</ds:HMACOutputLength></ds:SignatureMethod>", "ALGORITHM"),
    "a parameter of RSA": (METHOD, METHOD.replace("/>", "><ds:HMACOutputLength>1</ds:HMACOutputLength>"
                                                        "</ds:SignatureMethod>"), "ALGORITHM"),
    "none": (RSA_SHA256, "none", "ALGORITHM"),
    "no algorithm": (f' Algorithm="{RSA_SHA256}"', "", "ALGORITHM"),
    "ECDSA over an RSA key": (RSA_SHA256, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256", "SIGNATURE"),
    "DSA": (RSA_SHA256, "http://www.w3.org/2009/xmldsig11#dsa-sha256", "ALGORITHM"),
    "sha512 over sha256": (RSA_SHA256, "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", "SIGNATURE"),
    "another digest": (DIGEST, "<ds:DigestValue>AAAA</ds:DigestValue>", "SIGNATURE"),
    "content changed": ("Logiciel", "Logicial", "SIGNATURE"),
    "attribute added": (' Version="2.0"', ' Version="2.0" x="y"', "SIGNATURE"),
    "instruction added": ("899999000013</saml2:NameID>", "8999<?x?>99000013</saml2:NameID>", "SIGNATURE"),
    "blank added": ("<saml2:NameID>", "<saml2:NameID> ", "SIGNATURE"),
    # keys
    "no KeyInfo": (re.search("<ds:KeyInfo>.*</ds:KeyInfo>", GOOD, re.DOTALL)[0], "",  # type: ignore[index]
                   "SIGNATURE-SHAPE"),
    "two certificates": (CERTIFICATE, CERTIFICATE * 2, "KEY-INFO"),
    "two X509Data": ("<ds:X509Data>", f"<ds:X509Data>{CERTIFICATE}</ds:X509Data><ds:X509Data>", "KEY-INFO"),
    "KeyValue beside": ("<ds:X509Data>", "<ds:KeyValue/><ds:X509Data>", "KEY-INFO"),
    "KeyValue alone": (re.search("<ds:X509Data>.*</ds:X509Data>", GOOD, re.DOTALL)[0],  # type: ignore[index]
                       "<ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AQAB</ds:Modulus><ds:Exponent>AQAB</ds:Exponent>"
                       "</ds:RSAKeyValue></ds:KeyValue>", "KEY-INFO"),
    "an address": ("<ds:X509Data>", '<ds:RetrievalMethod URI="http://example.invalid/key"/><ds:X509Data>', "KEY-INFO"),
    "a name": ("<ds:X509Data>", "<ds:KeyName>x</ds:KeyName><ds:X509Data>", "KEY-INFO"),
    "a revocation list": (CERTIFICATE, CERTIFICATE + "<ds:X509CRL/>", "KEY-INFO"),
    "a certificate in another house": ("ds:X509Data>", "ds:SPKIData>", "KEY-INFO"),
    "no certificate": (CERTIFICATE, "<ds:X509SubjectName>CN=x</ds:X509SubjectName>", "KEY-INFO"),
    "empty certificate": (CERTIFICATE, "<ds:X509Certificate/>", "KEY-INFO"),
    "certificate that is no base64": (BASE64, "!" + BASE64, "KEY-INFO"),
    "huge certificate": (BASE64, "A" * 30_000, "KEY-INFO"),
    "comment in the certificate": (BASE64, BASE64[:40] + "<!-- -->" + BASE64[40:], "KEY-INFO"),
    "certificate of another format": (BASE64, "AAAA", "V-SEC-CARD-UNREADABLE"),
    "certificate cut short": (BASE64, "".join(BASE64.split())[:400], "V-SEC-CARD-UNREADABLE"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    old, new, expected = FORMS[form]
    assert old in GOOD
    assert refused(envelope(security_header(GOOD.replace(old, new)))) == [expected]


def certificate_text(card_certificate: object) -> str:
    return "".join(card_certificate.public_bytes(Encoding.PEM).decode().splitlines()[1:-1])  # type: ignore[attr-defined]


def test_the_certificate_of_somebody_else() -> None:
    """A good chain, but not of the key that signed."""
    text = GOOD.replace(BASE64, certificate_text(other_doctor().signature))
    assert refused(envelope(security_header(text))) == ["SIGNATURE"]


def test_a_certificate_of_ones_own() -> None:
    """Same names, own key, nobody's chain: the signature holds, the chain does not."""
    forger = person("899999000013", key=rsa_key(3))
    assert refused(envelope(security_header(token(forger)))) == ["V-SEC-CHAIN-UNKNOWN-ISSUER"]


def test_the_chain_is_asked_before_the_signature() -> None:
    trust = FakeTrust([])
    with pytest.raises(Refused) as error:
        verify(envelope(security_header(GOOD.replace("Logiciel", "x")))[0], None, trust, NOW,
               VihfPolicy(tls_required=False))
    assert [finding.code for finding in error.value.findings] == ["V-SEC-CHAIN-UNKNOWN-ISSUER"]


@pytest.mark.parametrize(("prefixes", "expected"), [
    ('<i:InclusiveNamespaces PrefixList="xs"/>', "SIGNATURE"),  # of the right form, but not what was signed
    ('<i:InclusiveNamespaces PrefixList="xs #default"/>', "SIGNATURE"),
    ('<i:InclusiveNamespaces PrefixList="' + "x " * 19 + 'x"/>', "SIGNATURE"),
    ('<i:InclusiveNamespaces PrefixList="' + "x " * 20 + 'x"/>', "TRANSFORM"),
    ('<i:InclusiveNamespaces PrefixList="x:y"/>', "TRANSFORM"),
    ('<i:InclusiveNamespaces PrefixList=""/>', "TRANSFORM"),
    ("<i:InclusiveNamespaces/>", "TRANSFORM"),
    ('<i:InclusiveNamespaces PrefixList="x">x<y/></i:InclusiveNamespaces>', "TRANSFORM"),
    ('<i:InclusiveNamespaces PrefixList="x"/><i:InclusiveNamespaces PrefixList="x"/>', "TRANSFORM"),
    ('<i:Other PrefixList="x"/>', "TRANSFORM"),
])
def test_prefixes_of_exclusive_c14n(prefixes: str, expected: str) -> None:
    changed = GOOD.replace(SECOND, f'<ds:Transform xmlns:i="{EXC}" Algorithm="{EXC}">{prefixes}</ds:Transform>')
    assert refused(envelope(security_header(changed))) == [expected]


def test_a_header_that_is_not_the_envelope_s() -> None:
    root = etree.fromstring(f'<s:Envelope xmlns:s="{names.SOAP12}"><s:Body><s:Header>{security_header(GOOD)}</s:Header>'
                            "</s:Body></s:Envelope>")
    assert refused(root[0]) == ["SECURITY-HEADERS"]


class OldSigner(XMLSigner):
    """Signs with SHA-1 as the tokens of 2019 did."""

    def check_deprecated_methods(self) -> None:
        """Let it pass."""


def test_sha1_only_by_setting() -> None:
    card = doctor()
    signer = OldSigner(signature_algorithm=SignatureMethod.RSA_SHA1, digest_algorithm=DigestAlgorithm.SHA1,
                       c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0)
    text = unsigned(claims_of(card), write_name(card.signature.subject), NOW)
    signed = etree.tostring(signer.sign(etree.fromstring(text), key=card.key,
                                        cert=[card.signature.public_bytes(Encoding.PEM).decode()]), encoding="unicode")
    assert codes(lambda: call(signed)) == ["ALGORITHM"]
    assert codes(lambda: call(signed, allow_sha1=True)) == []


# --- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["8999<!-- -->99000013", "<![CDATA[899999000013]]>", "&#56;99999000013",
                                     "<!--899999000021-->899999000013", "899999<![CDATA[0000]]>13"])
def test_what_canonical_text_drops_changes_nothing(written: str) -> None:
    """Added after signing: the signature holds, and the identity is the one that was signed, not a part of it."""
    assert call(GOOD.replace("899999000013</saml2:NameID>", f"{written}</saml2:NameID>")) == call(GOOD)


def test_comments_everywhere_change_nothing() -> None:
    assert call(re.sub(r"(?<=[\w^])(?=</saml2:AttributeValue>)", "<!-- x -->", GOOD)) == call(GOOD)


@pytest.mark.parametrize("written", ["8999<?x?>99000013", "8999<x/>99000013", "８99999000013", "899999000013&#160;",
                                     "&#9;899999000013", "899999000013&#8203;", "Ȣ99999000013", "0899999000013\n"])
def test_odd_identities_even_signed(written: str) -> None:
    text = spoiled(doctor(), lambda text: text.replace("899999000013</saml2:NameID>", f"{written}</saml2:NameID>"))
    assert codes(lambda: call(text)) == ["VALUE"]


# --- any change, any size ------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 3), st.text(st.characters(codec="utf-8"), max_size=3))
def test_no_change_of_the_text_changes_the_caller(position: int, length: int, new: str) -> None:
    changed = GOOD[:position] + new + GOOD[position + length:]
    try:
        header = header_of(changed)
    except etree.XMLSyntaxError:
        return
    try:
        caller = verify(header, doctor().authentication, FakeTrust([doctor(), other_doctor()]), NOW, VihfPolicy())
    except Refused:
        return
    assert caller == call(GOOD)


UNSIGNED = unsigned(claims_of(doctor(), assertion_id="_a"), write_name(doctor().signature.subject), NOW)
ELEMENTS = len(list(etree.fromstring(UNSIGNED).iter()))
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=20)
MUTATIONS: list[Callable[[etree._Element, str], object]] = [
    lambda element, text: element.getparent().remove(element),
    lambda element, text: element.getparent().append(etree.fromstring(etree.tostring(element, with_tail=False))),
    lambda element, text: setattr(element, "text", text),
    lambda element, text: element.attrib.update(dict.fromkeys(element.attrib, text)),
    lambda element, text: element.attrib.clear(),
    lambda element, text: element.append(etree.Comment("x")),
    lambda element, text: element.append(etree.PI("x", "y")),
    lambda element, text: setattr(element, "tag", "{urn:x}y"),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, ELEMENTS - 1), st.sampled_from(MUTATIONS), TEXTS), min_size=1, max_size=3))
def test_whatever_is_signed_the_answer_is_a_caller_or_a_refusal(
        changes: list[tuple[int, Callable[[etree._Element, str], object], str]]) -> None:
    root = etree.fromstring(UNSIGNED)
    elements = [element for element in root.iter() if element.tag != f"{{{DS}}}Signature"]
    for number, mutate, text in changes:
        element = elements[number % len(elements)]
        if element.getparent() is not None:
            mutate(element, text)
    signed = sign(etree.tostring(root, encoding="unicode"), doctor().key, doctor().signature)
    try:
        outcome: object = call(signed)
    except Refused as refusal:
        outcome = refusal.findings
    assert outcome


HUGE = {
    "attributes": holding("<saml2:Attribute/>" * 50_000, GOOD),
    "text": GOOD.replace("Logiciel", "x" * 5_000_000),
    "comments": GOOD.replace("Logiciel", "<!---->" * 200_000),
    "namespaces": GOOD.replace("<saml2:Subject>", "<saml2:Subject " + " ".join(
        f'xmlns:n{number}="urn:{number}"' for number in range(5_000)) + ">"),
}


@pytest.mark.parametrize("kind", HUGE)
def test_huge_assertions_are_refused_soon(kind: str) -> None:
    root = envelope(security_header(HUGE[kind]))
    start = time.perf_counter()
    assert refused(root) == ["TOO-LARGE"]
    assert time.perf_counter() - start < 2  # two refusals on a shared machine; 0.02 s as a rule


def test_deep_assertions_are_refused_soon() -> None:
    text = GOOD.replace("<saml2:Subject>", "<saml2:Subject>" + "<x>" * 200 + "</x>" * 200)
    assert refused(envelope(security_header(text))) == ["SIGNATURE"]


@pytest.mark.parametrize("signed", [None, "<x/>", EVIL])
def test_only_the_assertion_asked_for_counts_as_signed(signed: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the library ever find another element signed than the one that was handed to it."""
    import security.vihf_signature as module

    result = VerifyResult(b"", None if signed is None else etree.fromstring(signed), etree.Element("x"), b"")
    for answer in (result, [result]):
        monkeypatch.setattr(module.XMLVerifier, "verify", lambda *_, answer=answer, **__: answer)
        assert codes(lambda: call(GOOD)) == ["SIGNATURE"]


def test_the_library_s_own_failures_are_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    import security.vihf_signature as module

    def fail(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module.XMLVerifier, "verify", fail)
    assert codes(lambda: call(GOOD)) == ["SIGNATURE"]


def test_weak_certificates_are_not_even_asked_for() -> None:
    from cryptography import x509

    weak = (x509.CertificateBuilder().subject_name(doctor().signature.subject).issuer_name(doctor().signature.subject)
            .public_key(rsa_key().public_key()).serial_number(1).not_valid_before(NOW).not_valid_after(NOW)
            .sign(rsa_key(), hashes.SHA224()))
    trust = FakeTrust([doctor()])
    text = GOOD.replace(BASE64, certificate_text(weak))
    assert codes(lambda: call(text, trust=trust)) == ["CARD-WEAK-SIGNATURE"]
    assert len(trust.asked) == 1  # the TLS certificate
