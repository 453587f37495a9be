"""The signature of a submission set, as the DMP profiles IHE DSG: verification.

A lot is signed by one more document of the lot: a ds:Signature whose Manifest lists the set's uniqueId and every
document with its digest, and whose XAdES properties name signer and time. The published form is kept to the letter,
its departures from the schemas included (text in SignatureProperty, sometimes in no namespace).

    verify_submission           bytes, set, documents -> SignatureReport
    sign_submission             the same written                          security.dsig_build
    signature_entry_metadata    its DocumentEntry and associations        security.dsig_build

Only bytes that a digest or the signature covers are believed: SignedInfo, Manifest and SignedProperties are read again
from their canonical form. The purpose is the one thing shown that the DMP's form leaves unsigned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from security.dsig_build import (
    PURPOSE,
    SET_DIGEST,
    SignatureMetadata,
    SignedDocument,
    sign_submission,
    signature_entry_metadata,
    uri_of,
)
from security.identity import Identity
from security.trust import Purpose
from security.xmldsig import (
    C14N,
    C14N_COMMENTS,
    DS,
    EXC,
    EXC_COMMENTS,
    Verifier,
    canonical,
    canonical_document,
    children,
    decode,
    digest,
    digest_methods,
    key_info_certificate,
    leaf_text,
    read_instant,
    repeated_ids,
    signature_methods,
    verify_value,
    without_comments,
)
from xds.findings import Catalogue, Finding, Refused, Rule, Where, errors
from xds.xml import MAX_BYTES, Element, local_name, parse, text_of, where

RULES = Catalogue("security")
ROOT = RULES["V-SEC-DSIG-ROOT"]
SHAPE = RULES["V-SEC-DSIG-SHAPE"]
REPEATED_ID = RULES["V-SEC-DSIG-REPEATED-ID"]
REFERENCES = RULES["V-SEC-DSIG-REFERENCES"]
ALGORITHM = RULES["V-SEC-DSIG-ALGORITHM"]
TRANSFORM = RULES["V-SEC-DSIG-TRANSFORM"]
KEY_INFO = RULES["V-SEC-DSIG-KEY-INFO"]
SIGNED_DIGEST = RULES["V-SEC-DSIG-SIGNED-DIGEST"]
SIGNATURE = RULES["V-SEC-DSIG-SIGNATURE"]
CERTIFICATE = RULES["V-SEC-DSIG-SIGNING-CERTIFICATE"]
TIME = RULES["V-SEC-DSIG-TIME"]
TIME_ZONE = RULES["V-SEC-DSIG-TIME-ZONE"]
TIME_DATES = RULES["V-SEC-DSIG-TIME-DATES"]
NOT_THE_SET = RULES["V-SEC-DSIG-NOT-THE-SET"]
SET_VALUE = RULES["V-SEC-DSIG-SET-DIGEST"]
ABSENT = RULES["V-SEC-DSIG-DOCUMENT-ABSENT"]
FOREIGN = RULES["V-SEC-DSIG-DOCUMENT-FOREIGN"]
TWICE = RULES["V-SEC-DSIG-DOCUMENT-TWICE"]
DIGEST = RULES["V-SEC-DSIG-DOCUMENT-DIGEST"]
SIGNER = RULES["V-SEC-DSIG-SIGNER"]
NO_PURPOSE = RULES["V-SEC-DSIG-PURPOSE"]

MAX_SIGNATURE = 4 * 1024 * 1024  # bytes; a lot of a thousand documents has half a megabyte
MAX_REFERENCES = 5000
PART = "signature"

_D = f"{{{DS}}}"
#: XAdES namespaces: the published examples' and the one in force; types of the reference to SignedProperties follow
XADES = ("http://uri.etsi.org/01903/v1.1.1#", "http://uri.etsi.org/01903/v1.2.2#", "http://uri.etsi.org/01903/v1.3.2#")
_C14NS = frozenset({C14N, C14N_COMMENTS, EXC, EXC_COMMENTS})
_CHUNK = 1 << 20

Content = bytes | Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class ReceivedDocument:
    """A document of the lot as received: identifier, type, bytes or how to open them."""

    unique_id: str
    mime_type: str
    content: Content

    def read(self, limit: int) -> bytes:
        """The bytes, at most `limit` of a stream."""
        if isinstance(self.content, bytes):
            return self.content
        with self.content() as stream:
            return stream.read(limit)

    def pieces(self) -> Iterator[bytes]:
        """The bytes, a chunk at a time."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content() as stream:
            while piece := stream.read(_CHUNK):
                yield piece


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """Settings. `signers`: identifiers of whom the lot may be signed by (author, VIHF NameID, structure); None: any."""

    allow_sha1: bool = False
    clock_skew: timedelta = timedelta(seconds=60)
    signers: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """Outcome: `signer` is None unless the signature itself holds; the lot is signed when `valid`."""

    findings: tuple[Finding, ...] = ()
    signer: Identity | None = None
    signing_time: datetime | None = None
    purpose: str = ""

    @property
    def valid(self) -> bool:
        """Whether nothing refuses."""
        return self.signer is not None and not errors(self.findings)


def verify_submission(signature: bytes, submission_set_uid: str, documents: Sequence[ReceivedDocument],
                      trust: Verifier, at: datetime, policy: SignaturePolicy = SignaturePolicy()) -> SignatureReport:
    """Whether these bytes sign this set with exactly these documents; never raises for what was received.

    `documents` are those of the lot but the signature itself; `at` (aware) is when the lot came: chain and revocation
    are judged at that time, the signing time is only recorded and must lie within the certificate's dates.
    """
    try:
        form = _read(signature, policy)
        signer = trust.verify(form.certificate, Purpose.SIGNATURE, at)
        manifest, properties = _covered(form, policy)
    except Refused as refused:
        return SignatureReport(refused.findings)
    time, purpose = _signing_time(properties), _purpose(form.root)
    found = [*check_certificate(properties, form.certificate, policy),
             *check_time(properties, signer, at, policy),
             *check_manifest(manifest, submission_set_uid, documents, policy),
             *check_signer(signer, policy), *check_purpose(purpose)]
    return SignatureReport(tuple(found), signer, time, purpose)


# --- the signature itself ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """A signature of the one shape: its tree, SignedInfo as signed, the certificate it names."""

    root: Element
    signed_info: Element
    certificate: x509.Certificate


def _read(signature: bytes, policy: SignaturePolicy) -> _Form:
    """Shape, algorithms, certificate, and the signature over SignedInfo by that certificate's key."""
    root = parse(signature, PART, MAX_SIGNATURE)
    if root.tag != _D + "Signature":
        raise Refused(ROOT.at(where(root, PART), expected=f"{{{DS}}}Signature", received=root.tag))
    if repeated := repeated_ids(root):
        raise Refused(REPEATED_ID.at(where(root, PART), expected=1, received=", ".join(repeated)))
    parts = children(root)
    tags = [part.tag for part in parts]
    if tags != [_D + "SignedInfo", _D + "SignatureValue", _D + "KeyInfo"] + [_D + "Object"] * (len(tags) - 3):
        raise _shape(root, "SignedInfo, SignatureValue, KeyInfo, Object…")
    certificate = key_info_certificate(parts[2])
    if certificate is None:
        raise Refused(KEY_INFO.at(where(parts[2], PART), expected="X509Data/X509Certificate", received=_held(parts[2])))
    return _Form(root, _signed_info(parts[0], parts[1], certificate, policy), certificate)


def _signed_info(signed_info: Element, value: Element, certificate: x509.Certificate,
                 policy: SignaturePolicy) -> Element:
    """SignedInfo read again from the bytes that the signature covers."""
    parts = children(signed_info)
    tags = [part.tag for part in parts]
    if tags != [_D + "CanonicalizationMethod", _D + "SignatureMethod"] + [_D + "Reference"] * 2:
        raise _shape(signed_info, "CanonicalizationMethod, SignatureMethod, Reference, Reference")
    c14n = _algorithm(parts[0], _C14NS, TRANSFORM)
    method = _algorithm(parts[1], signature_methods(policy.allow_sha1), ALGORITHM)
    covered = canonical(signed_info, c14n)
    octets = decode(leaf_text(value))
    if octets is None or not verify_value(certificate, method, octets, covered):
        raise Refused(SIGNATURE.at(where(value, PART)))
    return parse(covered)


def _covered(form: _Form, policy: SignaturePolicy) -> tuple[Element, Element]:
    """Manifest and SignedProperties, read again from the bytes that SignedInfo covers."""
    found: dict[str, Element] = {}
    for reference in children(form.signed_info)[2:]:
        target = _target(form.root, reference)
        covered = canonical(target, without_comments(_transform(reference) or C14N))
        if not _digest_holds(reference, (covered,), policy):
            raise Refused(SIGNED_DIGEST.at(where(target, PART), received=reference.get("URI")))
        found[local_name(target)] = parse(covered)
    if len(found) != 2:
        raise Refused(REFERENCES.at(where(form.root, PART), expected="Manifest, SignedProperties",
                                    received=", ".join(found)))
    return found["Manifest"], found["SignedProperties"]


def _target(root: Element, reference: Element) -> Element:
    """The element of this document that a reference names: the Manifest or the SignedProperties where they belong."""
    uri = reference.get("URI", "")
    named = [element for element in root.iter(f"{_D}Manifest", *(f"{{{xades}}}SignedProperties" for xades in XADES))
             if uri == f"#{element.get('Id')}"]
    if len(named) != 1 or _ancestors(named[0]) not in _PLACES:
        raise Refused(REFERENCES.at(where(root, PART), expected="#Manifest, #SignedProperties", received=uri))
    return named[0]


def _ancestors(element: Element) -> tuple[str, ...]:
    return tuple(map(local_name, (element, *element.iterancestors())))


_PLACES = (("Manifest", "Object", "Signature"),
           ("SignedProperties", "QualifyingProperties", "Object", "Signature"))


def _transform(reference: Element) -> str:
    """The canonicalisation a reference asks for, "" for none; nothing else may transform."""
    holders = [child for child in children(reference) if child.tag == _D + "Transforms"]
    transforms = [child for holder in holders for child in children(holder)]
    if not transforms:
        return ""
    if len(transforms) > 1:
        raise Refused(TRANSFORM.at(where(transforms[1], PART), expected="≤ 1", received=len(transforms)))
    return _algorithm(transforms[0], _C14NS, TRANSFORM)


def _algorithm(element: Element, accepted: Collection[str], rule: Rule) -> str:
    """The Algorithm of an element when it is on the list and takes no parameter."""
    uri = element.get("Algorithm", "")
    if uri not in accepted or len(element):
        raise Refused(rule.at(where(element, PART), expected=", ".join(sorted(accepted)), received=uri or "–"))
    return uri


def _digest_holds(reference: Element, pieces: Iterable[bytes], policy: SignaturePolicy) -> bool:
    """Whether the pieces have the digest that a reference (or CertDigest) states."""
    method, value = _named(reference, "DigestMethod"), _named(reference, "DigestValue")
    if method is None or value is None:
        raise _shape(reference, "DigestMethod, DigestValue")
    return decode(leaf_text(value)) == digest(_algorithm(method, digest_methods(policy.allow_sha1), ALGORITHM), pieces)


# --- what is signed ------------------------------------------------------------------------------------------------


def check_manifest(manifest: Element, submission_set_uid: str, documents: Sequence[ReceivedDocument],
                   policy: SignaturePolicy) -> Iterator[Finding]:
    """The Manifest lists the set and exactly its documents, once each, with their digests (IHE DSG; TD2.1)."""
    references = [child for child in children(manifest) if child.tag == _D + "Reference"]
    if len(references) != len(children(manifest)) or len(references) > MAX_REFERENCES:
        yield SHAPE.at(_MANIFEST, expected=f"Reference × ≤ {MAX_REFERENCES}", received=len(references))
        return
    by_uri = {reference.get("URI", ""): reference for reference in reversed(references)}
    the_set, wanted = uri_of(submission_set_uid), {uri_of(document.unique_id) for document in documents}
    foreign = [uri for uri in by_uri if uri != the_set and uri not in wanted][:_SHOWN]
    repeated = Counter(reference.get("URI", "") for reference in references).most_common(_SHOWN)
    yield from (TWICE.at(_MANIFEST, expected=1, received=count, other=uri)
                for uri, count in repeated if count > 1)
    yield from (FOREIGN.at(_MANIFEST, expected=", ".join(sorted(wanted)), received=uri) for uri in foreign)
    if the_set not in by_uri:
        yield NOT_THE_SET.at(_MANIFEST, expected=the_set, received=", ".join(by_uri) or "–")
    elif decode(leaf_text_of(by_uri[the_set], "DigestValue")) != decode(SET_DIGEST):
        yield SET_VALUE.at(_MANIFEST, expected=SET_DIGEST, received=leaf_text_of(by_uri[the_set], "DigestValue"))
    for document in documents:
        yield from _check_document(by_uri.get(uri_of(document.unique_id)), document, policy)


def _check_document(reference: Element | None, document: ReceivedDocument,
                    policy: SignaturePolicy) -> Iterator[Finding]:
    if reference is None:
        yield ABSENT.at(_MANIFEST, expected=uri_of(document.unique_id), received="–")
        return
    try:
        if not _digest_holds(reference, _digested(document, _transform(reference)), policy):
            yield DIGEST.at(_MANIFEST, received=leaf_text_of(reference, "DigestValue") or "–",
                            expected=uri_of(document.unique_id), other=_transform(reference) or "–")
    except Refused as refused:
        yield from refused.findings


def _digested(document: ReceivedDocument, c14n: str) -> Iterable[bytes]:
    """What the digest of a document is over: its bytes, or the canonical form of the XML they are."""
    if not c14n:
        return document.pieces()
    if "xml" not in document.mime_type:
        raise Refused(TRANSFORM.at(_MANIFEST, expected="–", received=c14n))
    return (canonical_document(parse(document.read(MAX_BYTES + 1), document.unique_id), c14n),)


# --- who signed, when ----------------------------------------------------------------------------------------------


def check_certificate(properties: Element, certificate: x509.Certificate, policy: SignaturePolicy) -> Iterator[Finding]:
    """SigningCertificate names the certificate of KeyInfo (XAdES §7.2.2); chain certificates may stand beside it."""
    der = certificate.public_bytes(Encoding.DER)
    holders = [child for child in _signed_properties(properties) if local_name(child).startswith("SigningCertificate")]
    digests = [part for holder in holders for cert in children(holder) for part in children(cert)
               if local_name(part) == "CertDigest"]
    try:
        if not any(_digest_holds(stated, (der,), policy) for stated in digests[:_MAX_CHAIN]):
            yield CERTIFICATE.at(_PROPERTIES, expected=certificate.fingerprint(hashes.SHA256()).hex(),
                                 received=f"{len(digests)} CertDigest")
    except Refused as refused:
        yield from refused.findings


def check_time(properties: Element, signer: Identity, at: datetime, policy: SignaturePolicy) -> Iterator[Finding]:
    """SigningTime: readable, not after now, within the certificate's dates."""
    text = _time_text(properties)
    read = read_instant(text)
    if read is None:
        yield TIME.at(_PROPERTIES, expected="2026-01-31T09:00:00Z", received=text or "–")
        return
    if read.tzinfo is None:
        yield TIME_ZONE.at(_PROPERTIES, expected=f"{text}Z", received=text)
    time = read.replace(tzinfo=UTC)
    if time > at + policy.clock_skew:
        yield TIME.at(_PROPERTIES, expected=f"≤ {at.isoformat()}", received=text)
    if (signer.not_before and time < signer.not_before) or (signer.not_after and time > signer.not_after):
        yield TIME_DATES.at(_PROPERTIES, expected=f"{signer.not_before} – {signer.not_after}", received=text)


def check_signer(signer: Identity, policy: SignaturePolicy) -> Iterator[Finding]:
    """The lot is signed by its author, by whom the VIHF names, or by their structure."""
    if policy.signers is not None and not policy.signers.intersection({signer.national_id, signer.structure_id} - {""}):
        yield SIGNER.at(Where(PART), expected=", ".join(sorted(policy.signers)), received=signer.national_id,
                        subject=signer.subject)


def check_purpose(purpose: str) -> Iterator[Finding]:
    """The purpose is "Source" (ASTM E1762); it stands outside what is signed."""
    if purpose != PURPOSE.code:
        yield NO_PURPOSE.at(Where(PART, path="/Signature/Object/SignatureProperties"), expected=PURPOSE.code,
                            received=purpose or "–")


# --- small things --------------------------------------------------------------------------------------------------

_MANIFEST = Where(PART, path="/Signature/Object/Manifest")
_PROPERTIES = Where(PART, path="/Signature/Object/QualifyingProperties/SignedProperties")
_MAX_CHAIN = 8
_SHOWN = 20  # findings of one rule; the first already refuses


def _signed_properties(properties: Element) -> list[Element]:
    """Children of every SignedSignatureProperties (the schema has one)."""
    return [child for holder in children(properties) if local_name(holder) == "SignedSignatureProperties"
            for child in children(holder)]


def _time_text(properties: Element) -> str:
    texts = [leaf_text(child) for child in _signed_properties(properties) if local_name(child) == "SigningTime"]
    return (texts[0] or "").strip() if len(texts) == 1 else ""


def _signing_time(properties: Element) -> datetime | None:
    """Time claimed by the signer; without zone it counts as UTC."""
    time = read_instant(_time_text(properties))  # UTC, or naive
    return time.replace(tzinfo=UTC) if time else None


def _purpose(root: Element) -> str:
    """Text of the SignatureProperty of that Id: in the namespace of XML Signature, or in none as published."""
    return next((text_of(element).strip() for element in root.iter(f"{_D}SignatureProperty", "SignatureProperty")
                 if element.get("Id") == "purposeOfSignature"), "")


def _named(element: Element, name: str) -> Element | None:
    """The only child of that local name: XAdES 1.1.1 has digests in its own namespace, later ones in ds."""
    found = [child for child in children(element) if local_name(child) == name]
    return found[0] if len(found) == 1 else None


def leaf_text_of(element: Element, name: str) -> str:
    """Text of the only child of that name, "" when there is none."""
    child = _named(element, name)
    return "" if child is None else leaf_text(child) or ""


def _shape(element: Element, expected: str) -> Refused:
    return Refused(SHAPE.at(where(element, PART), expected=expected, received=_held(element)))


def _held(element: Element) -> str:
    return ", ".join(map(local_name, children(element))) or "–"


__all__ = ["ReceivedDocument", "SignatureMetadata", "SignaturePolicy", "SignatureReport", "SignedDocument",
           "sign_submission", "signature_entry_metadata", "verify_submission"]
