"""The signature of a submission set: written, read back, judged by another program, spoiled."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from security import dsig_build
from security.dsig import (
    ReceivedDocument,
    SignaturePolicy,
    SignatureReport,
    SignedDocument,
    sign_submission,
    signature_entry_metadata,
    verify_submission,
)
from security.xmldsig import (
    C14N,
    C14N_COMMENTS,
    DS,
    EXC,
    EXC_COMMENTS,
    RSA_SHA1,
    RSA_SHA256,
    SHA1,
    SHA256,
    PrivateKey,
    canonical,
)
from tests.security.signing import (
    INS,
    NOW,
    Card,
    FakeTrust,
    codes,
    doctor,
    ec_key,
    nursing_home,
    other_doctor,
    person,
    rsa_key,
    signed_by_xmlsec1,
    verified_by_xmlsec1,
)
from xds.ebxml import from_document, to_document
from xds.findings import Severity
from xds.model import Author, Code, DocumentEntry, SubmissionSet
from xds.vocabulary import HAS_MEMBER, SIGNS

LOT = "1.2.250.1.999.1.1"
CDA = ('<?xml version="1.0" encoding="UTF-8"?>\n<?xml-stylesheet type="text/xsl" href="x.xsl"?>\n<!-- essai -->'
       '<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="urn:x" b="2" a="1"><title>Synthèse</title><id/>'
       "</ClinicalDocument>\n<!-- fin -->").encode()
PDF = b"%PDF-1.7 not really"
DOCUMENTS = (SignedDocument("1.2.250.1.999.2.1", CDA), SignedDocument("1.2.250.1.999.2.2", PDF, is_xml=False))
RECEIVED = (ReceivedDocument("1.2.250.1.999.2.1", "text/xml", CDA),
            ReceivedDocument("1.2.250.1.999.2.2", "application/pdf", PDF))


def signature_of(card: Card, documents: Sequence[SignedDocument] = DOCUMENTS, lot: str = LOT) -> bytes:
    return sign_submission(lot, documents, card.key, [card.signature, other_doctor().signature], NOW)


GOOD = signature_of(doctor())
TEXT = GOOD.decode()


def report(signature: bytes | str, documents: Sequence[ReceivedDocument] = RECEIVED, lot: str = LOT,
           card: Card | None = None, **policy: object) -> SignatureReport:
    raw = signature.encode() if isinstance(signature, str) else signature
    return verify_submission(raw, lot, documents, FakeTrust([card or doctor()]), NOW,
                             SignaturePolicy(**policy))  # type: ignore[arg-type]


def found(*arguments: object, **options: object) -> list[str]:
    return codes(lambda: report(*arguments, **options))  # type: ignore[arg-type]


# --- what is signed is verified ------------------------------------------------------------------------------------


def test_a_signed_lot() -> None:
    outcome = report(GOOD)
    assert outcome == SignatureReport((), doctor().identity, NOW, "1.2.840.10065.1.12.1.14")
    assert outcome.valid


@pytest.mark.parametrize("card", [nursing_home(), person("899999000013", key=ec_key()),
                                  person("899999000013", key=ec_key("secp521r1"))])
def test_structures_and_curves_sign(card: Card) -> None:
    assert report(signature_of(card), card=card).valid


def test_streams_are_read_as_bytes_are() -> None:
    opened = [replace(document, content=lambda content=document.content: io.BytesIO(content)) for document in RECEIVED]
    assert report(GOOD, opened).valid


CONTENTS = st.lists(st.tuples(st.booleans(), st.binary(max_size=50), st.text(st.characters(codec="utf-8",
                    exclude_categories=("C",)), max_size=50)), max_size=4)


@settings(max_examples=40, deadline=None)
@given(CONTENTS)
def test_round_trip(contents: list[tuple[bool, bytes, str]]) -> None:
    from xds.xml import escape

    bodies = [(f"1.2.3.{number}", is_xml, f"<a>{escape(text)}</a>".encode() if is_xml else raw)
              for number, (is_xml, raw, text) in enumerate(contents)]
    signature = signature_of(doctor(), [SignedDocument(uid, body, is_xml) for uid, is_xml, body in bodies])
    received = [ReceivedDocument(uid, "text/xml" if is_xml else "application/pdf", body)
                for uid, is_xml, body in bodies]
    assert report(signature, received).valid
    for number, document in enumerate(received):
        changed = replace(document, content=document.content[:-1] + b" >"  # type: ignore[index]
                          if document.mime_type == "text/xml" else document.content + b"x")  # type: ignore[operator]
        spoiled = [*received[:number], changed, *received[number + 1:]]
        # a blank before the last ">" is layout that canonical XML drops; a changed byte of other files is not
        assert report(signature, spoiled).valid is (document.mime_type == "text/xml")


@pytest.mark.parametrize("card", [doctor(), person("899999000013", key=ec_key())], ids=["rsa", "ecdsa"])
def test_another_program_verifies_what_we_sign(card: Card, tmp_path: Path) -> None:
    assert verified_by_xmlsec1(tmp_path, signature_of(card), card.signature, "--ignore-manifests", *IDS)


def test_the_digest_of_a_document_is_that_of_another_program(tmp_path: Path) -> None:
    """The whole document: instructions and comments beside the root belong to it."""
    (tmp_path / "cda.xml").write_bytes(CDA)
    template = (f'<Signature xmlns="{DS}"><SignedInfo><CanonicalizationMethod Algorithm="{C14N}"/>'
                f'<SignatureMethod Algorithm="{RSA_SHA256}"/><Reference URI="{(tmp_path / "cda.xml").as_uri()}">'
                f'<Transforms><Transform Algorithm="{C14N_COMMENTS}"/></Transforms><DigestMethod Algorithm="{SHA256}"/>'
                "<DigestValue/></Reference></SignedInfo><SignatureValue/><KeyInfo><X509Data/></KeyInfo></Signature>")
    theirs = re.findall("<DigestValue>(.*)</DigestValue>", signed_by_xmlsec1(tmp_path, template, doctor()))
    assert theirs == re.findall("<DigestValue>(.*?)</DigestValue>", TEXT)[3:4]


# --- the published shape -------------------------------------------------------------------------------------------

IDS = ("--id-attr:Id", f"{DS}:Manifest", "--id-attr:Id", "http://uri.etsi.org/01903/v1.1.1#:SignedProperties",
       "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties")


def sha1(octets: bytes) -> str:
    return base64.b64encode(hashlib.sha1(octets).digest()).decode()


def published(card: Card, prefix: str = "", xades_prefix: str = "", purpose: str = ' xmlns=""',
              attributes: str = "", xades: str = "http://uri.etsi.org/01903/v1.1.1#") -> str:
    """A template in the shape of the example messages: SHA-1, XAdES 1.1.1, default or prefixed namespaces.

    Our own text after the facts: digests of documents filled in, those of SignedInfo left to whoever signs.
    """
    canonical_cda = etree.tostring(etree.fromstring(CDA).getroottree(), method="c14n", with_comments=True)
    p, x = (f"{prefix}:" if prefix else ""), (f"{xades_prefix}:" if xades_prefix else "")
    transform = f'<{p}Transforms><{p}Transform Algorithm="{C14N_COMMENTS}"/></{p}Transforms>'
    method = f'<{p}DigestMethod Algorithm="{SHA1}"/>'
    xd = f'<{x}DigestMethod Algorithm="{SHA1}"/>'
    declared = f'xmlns:{prefix}="{DS}"' if prefix else f'xmlns="{DS}"'
    xades_declared = f'xmlns:{xades_prefix}="{xades}"' if xades_prefix else f'xmlns="{xades}"'
    return f"""<{p}Signature {declared} Id="S0"{attributes}>
 <{p}SignedInfo>
  <{p}CanonicalizationMethod Algorithm="{C14N_COMMENTS}"/><!-- kept -->
  <{p}SignatureMethod Algorithm="{RSA_SHA1}"/>
  <{p}Reference URI="#IHEManifest" Type="{DS}Manifest">{method}<{p}DigestValue/></{p}Reference>
  <{p}Reference URI="#S0-SignedProperties" Type="{xades}SignedProperties">{transform}{method}<{p}DigestValue/>
  </{p}Reference>
 </{p}SignedInfo>
 <{p}SignatureValue/>
 <{p}KeyInfo><{p}X509Data><{p}X509Certificate/></{p}X509Data></{p}KeyInfo>
 <{p}Object><{p}Manifest Id="IHEManifest"><!-- dropped: a same-document reference -->
  <{p}Reference URI="urn:oid:{LOT}">{method}<{p}DigestValue>AA==</{p}DigestValue></{p}Reference>
  <{p}Reference URI="urn:oid:1.2.250.1.999.2.1">{transform}{method}
   <{p}DigestValue>{sha1(canonical_cda)}</{p}DigestValue></{p}Reference>
  <{p}Reference URI="urn:oid:1.2.250.1.999.2.2">{method}<{p}DigestValue>{sha1(PDF)}</{p}DigestValue></{p}Reference>
 </{p}Manifest></{p}Object>
 <{p}Object><{p}SignatureProperties>
  <SignatureProperty{purpose or ""} Id="purposeOfSignature" Target="#S0">1.2.840.10065.1.12.1.14</SignatureProperty>
 </{p}SignatureProperties></{p}Object>
 <{p}Object><{x}QualifyingProperties {xades_declared} Target="#S0"><{x}SignedProperties Id="S0-SignedProperties">
  <{x}SignedSignatureProperties><{x}SigningTime>2026-11-22T09:00:00Z</{x}SigningTime>
  <{x}SigningCertificate><{x}Cert><{x}CertDigest>{xd}<{x}DigestValue>{sha1(card.signature.public_bytes(Encoding.DER))
  }</{x}DigestValue></{x}CertDigest></{x}Cert></{x}SigningCertificate>
  <{x}SignaturePolicyIdentifier><{x}SignaturePolicyImplied/></{x}SignaturePolicyIdentifier></{x}SignedSignatureProperties>
  <{x}SignedDataObjectProperties/></{x}SignedProperties></{x}QualifyingProperties></{p}Object>
</{p}Signature>"""


SHAPES = {
    "default namespaces": {},
    "prefixed namespaces": {"prefix": "ds", "xades_prefix": "xad"},
    "mixed": {"prefix": "ds"},
    "mixed otherwise": {"xades_prefix": "xad"},
    "purpose in ds": {"purpose": f' xmlns="{DS}"'},
    "unused prefixes and xml:lang above": {
        "attributes": ' xmlns:z="urn:z" xmlns:y="urn:y" xml:lang="fr" xml:space="default"'},
    "XAdES 1.2.2": {"xades": "http://uri.etsi.org/01903/v1.2.2#"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_we_verify_what_another_program_signs(shape: str, tmp_path: Path) -> None:
    """Inclusive C14N of parts of a document, in whatever namespaces stand around them."""
    signed = signed_by_xmlsec1(tmp_path, published(doctor(), **SHAPES[shape]), doctor(), "--ignore-manifests",
                               *IDS, "--id-attr:Id", "http://uri.etsi.org/01903/v1.2.2#:SignedProperties")
    outcome = report(signed, allow_sha1=True)
    assert outcome == SignatureReport((), doctor().identity, NOW, "1.2.840.10065.1.12.1.14")


def by_hand(template: str, key: PrivateKey) -> str:
    """The published shape signed without another program: the digests by the C14N of whole small documents."""
    text = template.replace("<X509Certificate/>", "<X509Certificate>" + base64.b64encode(
        doctor().signature.public_bytes(Encoding.DER)).decode() + "</X509Certificate>")
    root = etree.fromstring(text)
    values = list(root[0].iter(f"{{{DS}}}DigestValue"))
    for value, name in zip(values, ("Manifest", "SignedProperties"), strict=True):
        (target,) = root.xpath("//*[local-name()=$name]", name=name)
        value.text = sha1(alone(target, with_comments=False))
    signature = key.sign(alone(root[0]), padding.PKCS1v15(), hashes.SHA1())  # type: ignore[call-arg, arg-type, union-attr]
    root[1].text = base64.b64encode(signature).decode()
    return etree.tostring(root, encoding="unicode")


def alone(element: etree._Element, with_comments: bool = True) -> bytes:
    return etree.tostring(etree.fromstring(etree.tostring(element, with_tail=False)), method="c14n",
                          with_comments=with_comments)


PUBLISHED = by_hand(published(doctor()), rsa_key())


def test_the_published_shape_with_sha1_by_setting_only() -> None:
    assert found(PUBLISHED) == ["ALGORITHM"]
    assert report(PUBLISHED, allow_sha1=True).valid


def test_naive_inclusive_c14n_would_refuse_the_published_shape() -> None:
    """The trap this is about: lxml declares xmlns="" for a child of a default namespace; our bytes do not."""
    (manifest,) = etree.fromstring(PUBLISHED).iter(f"{{{DS}}}Manifest")
    assert b' xmlns=""' not in canonical(manifest, C14N)
    assert canonical(manifest, C14N) == alone(manifest, with_comments=False)


@pytest.mark.parametrize(("inner", "expected"), [
    ("<b/>", b'<b xmlns="urn:d" xmlns:p="urn:p" xml:lang="fr"></b>'),
    ('<b xml:lang="en"/>', b'<b xmlns="urn:d" xmlns:p="urn:p" xml:lang="en"></b>'),
    ('<b xmlns=""/>', b'<b xmlns:p="urn:p" xml:lang="fr"></b>'),
    ('<p:b xmlns:p="urn:q"/>', b'<p:b xmlns="urn:d" xmlns:p="urn:q" xml:lang="fr"></p:b>'),
    ('<b xmlns=""><c xmlns="urn:d"/></b>', b'<b xmlns:p="urn:p" xml:lang="fr"><c xmlns="urn:d"></c></b>'),
])
def test_inclusive_c14n_of_a_part(inner: str, expected: bytes) -> None:
    """Canonical XML 1.0 §2.4: the namespaces and the xml: attributes in scope come along."""
    root = etree.fromstring(f'<a xmlns="urn:d" xmlns:p="urn:p" xml:lang="fr">{inner}tail</a>')
    assert canonical(root[0], C14N) == expected


def test_exclusive_c14n_of_a_part() -> None:
    root = etree.fromstring('<a xmlns="urn:d" xmlns:p="urn:p" xml:lang="fr"><b><!--x--></b></a>')
    assert canonical(root[0], EXC) == b'<b xmlns="urn:d"></b>'
    assert canonical(root[0], EXC_COMMENTS) == b'<b xmlns="urn:d"><!--x--></b>'
    assert canonical(root[0], EXC, ["p"]) == b'<b xmlns="urn:d" xmlns:p="urn:p"></b>'


# --- lots ----------------------------------------------------------------------------------------------------------

OTHER = ReceivedDocument("1.2.250.1.999.2.3", "text/xml", CDA)
LOTS: dict[str, tuple[Sequence[ReceivedDocument], str, list[str]]] = {
    "a document more than signed": ((*RECEIVED, OTHER), LOT, ["DOCUMENT-ABSENT"]),
    "a document fewer": (RECEIVED[:1], LOT, ["DOCUMENT-FOREIGN"]),
    "a document exchanged": ((RECEIVED[0], OTHER), LOT, ["DOCUMENT-FOREIGN", "DOCUMENT-ABSENT"]),
    "another lot": (RECEIVED, "1.2.250.1.999.1.2", ["DOCUMENT-FOREIGN", "NOT-THE-SET"]),
    "another XML content": ((replace(RECEIVED[0], content=CDA.replace(b"Synth", b"synth")), RECEIVED[1]), LOT,
                            ["DOCUMENT-DIGEST"]),
    "another stylesheet": ((replace(RECEIVED[0], content=CDA.replace(b"x.xsl", b"y.xsl")), RECEIVED[1]), LOT,
                           ["DOCUMENT-DIGEST"]),
    "another comment": ((replace(RECEIVED[0], content=CDA.replace(b"essai", b"Essai")), RECEIVED[1]), LOT,
                        ["DOCUMENT-DIGEST"]),
    "the same XML written otherwise": (
        (replace(RECEIVED[0], content=CDA.replace(b'b="2" a="1"', b"a = '1' b='&#50;'")), RECEIVED[1]), LOT, []),
    "the same XML in another encoding": (
        (replace(RECEIVED[0], content=CDA.decode().replace("UTF-8", "ISO-8859-1").encode("latin-1")), RECEIVED[1]),
        LOT, []),
    "another binary content": ((RECEIVED[0], replace(RECEIVED[1], content=PDF + b"\n")), LOT, ["DOCUMENT-DIGEST"]),
    "an unreadable document": ((replace(RECEIVED[0], content=b"<a>"), RECEIVED[1]), LOT, ["V-XML-NOT-WELL-FORMED"]),
    "a document with DTD": ((replace(RECEIVED[0], content=b"<!DOCTYPE a><a/>"), RECEIVED[1]), LOT, ["V-XML-DOCTYPE"]),
    "two documents of one identifier": ((*RECEIVED, replace(RECEIVED[0], content=CDA.replace(b"Synth", b"synth"))), LOT,
                                        ["DOCUMENT-DIGEST"]),
    "canonical XML of what is no XML": ((replace(RECEIVED[0], mime_type="application/pdf"), RECEIVED[1]), LOT,
                                        ["TRANSFORM"]),
}


@pytest.mark.parametrize("lot", LOTS)
def test_lots(lot: str) -> None:
    documents, identifier, expected = LOTS[lot]
    outcome = report(GOOD, documents, identifier)
    assert [finding.code.removeprefix("V-SEC-DSIG-") for finding in outcome.findings] == expected
    assert outcome.valid is (not expected)


def test_a_lot_by_uuid() -> None:
    lot = "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"
    assert report(signature_of(doctor(), lot=lot), lot=lot).valid


def signed_over(part: str, change: Callable[[str], str]) -> bytes:
    """A good signature over a part (`_manifest`, `_properties`, `_signed_info`) changed before it is signed."""
    original = getattr(dsig_build, part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dsig_build, part, lambda *given: change(original(*given)))
        return signature_of(doctor())


def manifested(*references: str) -> bytes:
    return signed_over("_manifest", lambda _: f'<Manifest Id="IHEManifest">{"".join(references)}</Manifest>')


REFERENCES = re.findall("<Reference URI=\"urn.*?</Reference>", TEXT)
LISTS: dict[str, tuple[list[str], list[str]]] = {
    "as it should be": (REFERENCES, []),
    "in another order": (REFERENCES[::-1], []),
    "one twice": ([*REFERENCES, REFERENCES[1]], ["DOCUMENT-TWICE"]),
    "the lot twice": ([REFERENCES[0], *REFERENCES], ["DOCUMENT-TWICE"]),
    "twice, the good one last": ([REFERENCES[0], re.sub("<DigestValue>.*?<", "<DigestValue>AAAA<", REFERENCES[2]),
                                  *REFERENCES[1:]], ["DOCUMENT-TWICE", "DOCUMENT-DIGEST"]),
    "a document more": ([*REFERENCES, REFERENCES[1].replace("2.1", "2.9")], ["DOCUMENT-FOREIGN"]),
    "the dummy for a document": ([*REFERENCES[:2], REFERENCES[0].replace(LOT, "1.2.250.1.999.2.2")],
                                 ["DOCUMENT-DIGEST"]),
    "no lot": (REFERENCES[1:], ["NOT-THE-SET"]),
    "no document": (REFERENCES[:1], ["DOCUMENT-ABSENT", "DOCUMENT-ABSENT"]),
    "nothing": ([], ["NOT-THE-SET", "DOCUMENT-ABSENT", "DOCUMENT-ABSENT"]),
    "another dummy": ([REFERENCES[0].replace("AA==", "AAA="), *REFERENCES[1:]], ["SET-DIGEST"]),
    "something else": ([*REFERENCES, "<x/>"], ["SHAPE"]),
    "too many": ([*REFERENCES, REFERENCES[0] * 5000], ["SHAPE"]),
    "no DigestMethod": ([*REFERENCES[:2], re.sub("<DigestMethod.*?/>", "", REFERENCES[2])], ["SHAPE"]),
    "two DigestMethods": ([*REFERENCES[:2], re.sub("(<DigestMethod.*?/>)", r"\1\1", REFERENCES[2])], ["SHAPE"]),
    "md5": ([*REFERENCES[:2], REFERENCES[2].replace(SHA256, "http://www.w3.org/2001/04/xmldsig-more#md5")],
            ["ALGORITHM"]),
    "other C14N": ([REFERENCES[0], REFERENCES[1].replace(C14N_COMMENTS, C14N), REFERENCES[2]], ["DOCUMENT-DIGEST"]),
    "C14N 1.1": ([REFERENCES[0], REFERENCES[1].replace(C14N_COMMENTS, "http://www.w3.org/2006/12/xml-c14n11"),
                  REFERENCES[2]], ["TRANSFORM"]),
    "XSLT": ([REFERENCES[0], REFERENCES[1].replace(C14N_COMMENTS, "http://www.w3.org/TR/1999/REC-xslt-19991116"),
              REFERENCES[2]], ["TRANSFORM"]),
    "two transforms": ([REFERENCES[0], re.sub("(<Transform .*?/>)", r"\1\1", REFERENCES[1]), REFERENCES[2]],
                       ["TRANSFORM"]),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists(kind: str) -> None:
    references, expected = LISTS[kind]
    assert found(manifested(*references)) == expected


# --- signature and signer ------------------------------------------------------------------------------------------

PROPERTIES = re.search("<Object><xades.*?</Object>", TEXT)[0]  # type: ignore[index]
MANIFEST = re.search("<Object><Manifest.*?</Object>", TEXT)[0]  # type: ignore[index]
SIGNED = re.findall("<Reference URI=\"#.*?</Reference>", TEXT)
VALUE = re.search("<SignatureValue>.*?</SignatureValue>", TEXT)[0]  # type: ignore[index]
CERTIFICATE = re.search("<X509Certificate>.*?</X509Certificate>", TEXT)[0]  # type: ignore[index]

SPOILED: dict[str, tuple[str, str, list[str]]] = {
    "another root": (f'<Signature xmlns="{DS}" Id="S0">', "<x>", ["V-XML-NOT-WELL-FORMED"]),
    "a root in no namespace": (f'<Signature xmlns="{DS}"', "<Signature", ["ROOT"]),
    "a DTD": (f'<Signature xmlns="{DS}"', f'<!DOCTYPE x><Signature xmlns="{DS}"', ["V-XML-DOCTYPE"]),
    "the same Id twice": ("<SignedInfo>", '<SignedInfo Id="IHEManifest">', ["REPEATED-ID"]),
    "no value": (VALUE, "", ["SHAPE"]),
    "empty value": (VALUE, "<SignatureValue/>", ["SIGNATURE"]),
    "another value": (VALUE, "<SignatureValue>AAAA</SignatureValue>", ["SIGNATURE"]),
    "no KeyInfo": ("<KeyInfo>", "<x/><KeyInfo>", ["SHAPE"]),
    "two certificates": (CERTIFICATE, CERTIFICATE * 2, ["KEY-INFO"]),
    "no certificate": (CERTIFICATE, "", ["KEY-INFO"]),
    "an address": ("<X509Data>", '<RetrievalMethod URI="http://example.invalid/"/><X509Data>', ["KEY-INFO"]),
    "three references": (SIGNED[0], SIGNED[0] + SIGNED[0], ["SHAPE"]),
    "one reference": (SIGNED[0], "", ["SHAPE"]),
    "an external reference": ('URI="#IHEManifest"', 'URI="http://example.invalid/"', ["SIGNATURE"]),
    "another algorithm": (RSA_SHA256, f"{DS}hmac-sha1", ["ALGORITHM"]),
    "another C14N": (f'CanonicalizationMethod Algorithm="{C14N_COMMENTS}"',
                     'CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11"', ["TRANSFORM"]),
    "a parameter of C14N": (f'<CanonicalizationMethod Algorithm="{C14N_COMMENTS}"/>',
                            f'<CanonicalizationMethod Algorithm="{C14N_COMMENTS}"><x/></CanonicalizationMethod>',
                            ["TRANSFORM"]),
    "a parameter of RSA": (f'<SignatureMethod Algorithm="{RSA_SHA256}"/>',
                           f'<SignatureMethod Algorithm="{RSA_SHA256}"><x/></SignatureMethod>', ["ALGORITHM"]),
    "Manifest changed": ("urn:oid:1.2.250.1.999.2.2", "urn:oid:1.2.250.1.999.2.3", ["SIGNED-DIGEST"]),
    "time changed": ("09:00:00Z", "09:00:01Z", ["SIGNED-DIGEST"]),
    "Manifest elsewhere": (MANIFEST, MANIFEST.replace("<Object>", "<Object><x>").replace("</Object>", "</x></Object>"),
                           ["REFERENCES"]),
    "no Manifest": (MANIFEST, "", ["REFERENCES"]),
    "properties elsewhere": ("</KeyInfo>", f"</KeyInfo><Object>{PROPERTIES}</Object>", ["REPEATED-ID"]),
    "properties moved": (PROPERTIES, f"<Object>{PROPERTIES}</Object>", ["REFERENCES"]),
    "a purpose of its own": (">1.2.840.10065.1.12.1.14<", ">1.2.840.10065.1.12.1.1<", ["PURPOSE"]),
    "no purpose": ("purposeOfSignature", "purpose", ["PURPOSE"]),
    "a further Object": ("</Signature>", "<Object>x</Object></Signature>", []),
    "something that is no Object": ("</Signature>", "<x/></Signature>", ["SHAPE"]),
    "a comment in SignedInfo": ("<SignedInfo>", "<SignedInfo><!-- -->", ["SIGNATURE"]),
    "a comment in the Manifest": (REFERENCES[0], "<!-- -->" + REFERENCES[0], []),
    "an instruction in the Manifest": (REFERENCES[0], "<?x?>" + REFERENCES[0], ["SIGNED-DIGEST"]),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_spoiled(kind: str) -> None:
    old, new, expected = SPOILED[kind]
    assert old in TEXT
    outcome = report(TEXT.replace(old, new))
    assert [finding.code.removeprefix("V-SEC-DSIG-") for finding in outcome.findings] == expected
    assert outcome.valid is (not any(finding.severity is Severity.ERROR for finding in outcome.findings))
    assert outcome.valid is (expected in ([], ["PURPOSE"]))


MANIFEST_REFERENCE = f'URI="#IHEManifest" Type="{DS}Manifest"'


@pytest.mark.parametrize(("old", "new", "expected"), [
    (MANIFEST_REFERENCE, 'URI="#IHEManifest"', []),
    ("#IHEManifest", "http://example.invalid/", ["REFERENCES"]),
    ("#IHEManifest", "", ["REFERENCES"]),
    ("#IHEManifest", "#xpointer(id('IHEManifest'))", ["REFERENCES"]),
    ("#IHEManifest", "#S0", ["REFERENCES"]),
    ("#IHEManifest", "#S0-SignedProperties", ["SIGNED-DIGEST"]),
    (C14N_COMMENTS + '"/></Transforms>', 'http://www.w3.org/TR/1999/REC-xpath-19991116"/></Transforms>', ["TRANSFORM"]),
    (f'<Transforms><Transform Algorithm="{C14N_COMMENTS}"/></Transforms>', "", []),
    (C14N_COMMENTS + '"/></Transforms>', EXC + '"/></Transforms>', ["SIGNED-DIGEST"]),
    (SHA256, SHA1, ["ALGORITHM"]),
    ("<DigestMethod", "<x/><DigestMethod", []),
    ("<DigestValue>", "<DigestValue/><DigestValue>", ["SHAPE"]),
])
def test_what_signed_info_says(old: str, new: str, expected: list[str]) -> None:
    assert found(signed_over("_signed_info", lambda text: text.replace(old, new))) == expected


def test_manifest_twice_and_no_properties() -> None:
    assert found(signed_over("_signed_info", lambda text: text.replace(SIGNED[1], SIGNED[0]))) == ["REFERENCES"]


@pytest.mark.parametrize(("old", "new", "expected"), [
    ("09:00:00Z", "10:00:00+01:00", []),
    ("09:00:00Z", "09:00:00", ["TIME-ZONE"]),
    ("09:00:00Z", "09:01:01Z", ["TIME"]),
    ("2026-11-22T09:00:00Z", "2019-01-01T00:00:00Z", ["TIME-DATES"]),
    ("2026-11-22T09:00:00Z", "2029-01-01T00:00:00Z", ["TIME", "TIME-DATES"]),
    ("2026-11-22T09:00:00Z", "", ["TIME"]),
    ("2026-11-22T09:00:00Z", "yesterday", ["TIME"]),
    ("xades:SigningTime", "xades:SignedTime", ["TIME"]),
    ("xades:SigningCertificate>", "xades:SigningCertificateV2>", []),
    ("xades:SigningCertificate>", "xades:Certificate>", ["SIGNING-CERTIFICATE"]),
    ("xades:CertDigest", "xades:Digest", ["SIGNING-CERTIFICATE"]),
    (SHA256, SHA1, ["ALGORITHM"]),
])
def test_properties(old: str, new: str, expected: list[str]) -> None:
    assert found(signed_over("_properties", lambda text: text.replace(old, new))) == expected


def test_the_certificate_named_must_be_the_one_that_signed() -> None:
    signature = sign_submission(LOT, DOCUMENTS, doctor().key, [doctor().signature], NOW)
    other = signature.decode().replace(CERTIFICATE, "<X509Certificate>" + base64.b64encode(
        other_doctor().signature.public_bytes(Encoding.DER)).decode() + "</X509Certificate>")
    assert found(other, card=other_doctor()) == ["SIGNATURE"]
    same_key = person("899999000013")  # same key and name, another certificate
    other = signature.decode().replace(CERTIFICATE, "<X509Certificate>" + base64.b64encode(
        same_key.signature.public_bytes(Encoding.DER)).decode() + "</X509Certificate>")
    assert found(other, card=same_key) == ["SIGNING-CERTIFICATE"]


@pytest.mark.parametrize("value", ["AAAA", base64.b64encode(bytes(64)).decode(), base64.b64encode(bytes(63)).decode()])
def test_elliptic_values_of_any_length_refuse(value: str) -> None:
    card = person("899999000013", key=ec_key())
    text = re.sub("<SignatureValue>.*?<", f"<SignatureValue>{value}<", signature_of(card).decode())
    assert found(text, card=card) == ["SIGNATURE"]


def test_the_method_must_be_one_of_the_key() -> None:
    card = person("899999000013", key=ec_key())
    assert found(signature_of(card).decode().replace("ecdsa-sha256", "rsa-sha256"), card=card) == ["SIGNATURE"]
    assert found(TEXT.replace("rsa-sha256", "ecdsa-sha256")) == ["SIGNATURE"]


def test_an_unknown_signer() -> None:
    outcome = report(GOOD, card=other_doctor())
    assert ([finding.code for finding in outcome.findings], outcome.signer, outcome.valid) == (
        ["V-SEC-CHAIN-UNKNOWN-ISSUER"], None, False)


@pytest.mark.parametrize(("signers", "expected"), [
    (None, []), (frozenset({"899999000013"}), []), (frozenset({"899999000013", "x"}), []),
    (frozenset({"899999000021"}), ["SIGNER"]), (frozenset(), ["SIGNER"]), (frozenset({""}), ["SIGNER"])])
def test_who_may_sign(signers: frozenset[str] | None, expected: list[str]) -> None:
    assert found(GOOD, signers=signers) == expected


def test_a_structure_signs_for_its_own() -> None:
    home = nursing_home()
    assert found(signature_of(home), card=home, signers=frozenset({"1990000017"})) == []


def test_the_skew_is_a_setting() -> None:
    early = verify_submission(GOOD, LOT, RECEIVED, FakeTrust([doctor()]), NOW - timedelta(seconds=61))
    assert codes(lambda: early) == ["TIME"]
    assert verify_submission(GOOD, LOT, RECEIVED, FakeTrust([doctor()]), NOW - timedelta(seconds=60)).valid


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.integers(0, 3), st.text(st.characters(codec="utf-8"), max_size=3))
def test_no_change_of_the_text_signs_something_else(position: int, length: int, new: str) -> None:
    outcome = report((TEXT[:position] + new + TEXT[position + length:]).encode())
    assert not outcome.valid or (outcome.signer, outcome.signing_time) == (doctor().identity, NOW)


@pytest.mark.parametrize("signature", [b"", b"\x00", b"<", b"PK\x03\x04", b"<a/>", b"\xff\xfe<\x00", GOOD[:-1],
                                       GOOD * 2, b"<a>" * 300, b" " * (4 * 1024 * 1024 + 1)])
def test_bytes_that_are_no_signature(signature: bytes) -> None:
    outcome = report(signature)
    assert not outcome.valid
    assert outcome.findings


# --- metadata ------------------------------------------------------------------------------------------------------

AUTHOR = Author(persons=("899999000013^ESSAI^ANNE^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",),
                institutions=("CABINET^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^499999000013001",))
ENTRY = DocumentEntry(
    "Document01", unique_id="1.2.250.1.999.2.1", patient_id=INS, source_patient_id="1^^^&1.2.3&ISO^PI",
    source_patient_info=("PID-5|ESSAI",), facility_type=Code("SA07", "1.2.250.1.71.4.2.4"), language="fr-FR",
    practice_setting=Code("AMBULATOIRE", "1.2.250.1.213.1.1.4.9"), legal_authenticator=AUTHOR.person,
    service_start="20261122080000", creation_time="20261122083000", mime_type="text/xml")
SET = SubmissionSet("SubmissionSet01", unique_id=LOT, patient_id=INS, authors=(AUTHOR,))


def test_the_metadata_of_the_signature() -> None:
    made = signature_entry_metadata(GOOD, "1.2.250.1.999.2.99", ENTRY, SET, NOW)
    entry = made.entry
    assert (entry.mime_type, entry.language, entry.hash) == ("text/xml", "art", hashlib.sha1(GOOD).hexdigest())
    assert (entry.size, entry.creation_time) == (str(len(GOOD)), "20261122090000")
    assert entry.unique_id == "1.2.250.1.999.2.99"
    assert [str(code) for code in (entry.class_code, entry.type_code, entry.format_code)] == [
        "urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1^^URN", "E1762^^ASTM", "http://www.w3.org/2000/09/xmldsig#^^URN"]
    assert [str(code) for code in entry.event_codes] == ["1.2.840.10065.1.12.1.14^^1.2.840.10065.1.12"]
    assert [code.code for code in entry.confidentiality] == ["N", "MASQUE_PS", "INVISIBLE_PATIENT"]
    assert (entry.authors, entry.patient_id, entry.source_patient_id) == ((AUTHOR,), INS, "1^^^&1.2.3&ISO^PI")
    assert (entry.facility_type, entry.practice_setting) == (ENTRY.facility_type, ENTRY.practice_setting)
    assert (entry.legal_authenticator, entry.service_start) == (AUTHOR.person, "20261122080000")
    assert entry.source_patient_info == ()


def test_the_associations_of_the_signature() -> None:
    made = signature_entry_metadata(GOOD, "1.2.250.1.999.2.99", ENTRY, SET, NOW, "Signature07")
    assert (made.signs.type, made.signs.source, made.signs.target) == (SIGNS, "Signature07", "SubmissionSet01")
    assert (made.has_member.type, made.has_member.source, made.has_member.target) == (
        HAS_MEMBER, "SubmissionSet01", "Signature07")
    assert {made.signs.submission_set_status, made.has_member.submission_set_status} == {"Original"}
    assert made.signs.id != made.has_member.id


def test_the_metadata_travel() -> None:
    entry = signature_entry_metadata(GOOD, "1.2.250.1.999.2.99", ENTRY, SET, NOW).entry
    assert to_document(from_document(entry)) == entry
