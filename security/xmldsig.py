"""What the VIHF and the signed submission set share of XML Signature: allow-lists, canonical bytes, raw values.

Nothing here trusts anything: a certificate found in a KeyInfo is validated by a `Verifier` before its key is used.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from lxml import etree

from security.cards import load_certificate
from security.identity import Identity
from security.trust import Purpose
from xds.xml import Element, parse

DS = "http://www.w3.org/2000/09/xmldsig#"
EXC = "http://www.w3.org/2001/10/xml-exc-c14n#"
XML = "{http://www.w3.org/XML/1998/namespace}"
ENVELOPED = DS + "enveloped-signature"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
COMMENTS = "#WithComments"
C14N_COMMENTS = C14N + COMMENTS
EXC_COMMENTS = EXC + "WithComments"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_ENC = "http://www.w3.org/2001/04/xmlenc#"

SHA1, SHA256, SHA384, SHA512 = DS + "sha1", _ENC + "sha256", _MORE + "sha384", _ENC + "sha512"
RSA_SHA1, RSA_SHA256 = DS + "rsa-sha1", _MORE + "rsa-sha256"

MAX_CERTIFICATE = 24 * 1024  # characters of one X509Certificate

_DIGESTS: Mapping[str, type[hashes.HashAlgorithm]] = {
    SHA256: hashes.SHA256, SHA384: hashes.SHA384, SHA512: hashes.SHA512, SHA1: hashes.SHA1}
_RSA: Mapping[str, type[hashes.HashAlgorithm]] = {
    RSA_SHA256: hashes.SHA256, _MORE + "rsa-sha384": hashes.SHA384, _MORE + "rsa-sha512": hashes.SHA512,
    RSA_SHA1: hashes.SHA1}
_ECDSA: Mapping[str, type[hashes.HashAlgorithm]] = {
    _MORE + "ecdsa-sha256": hashes.SHA256, _MORE + "ecdsa-sha384": hashes.SHA384,
    _MORE + "ecdsa-sha512": hashes.SHA512}
_WEAK = frozenset({SHA1, RSA_SHA1})

_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?")
_PREFIX = re.compile(r"#default|[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_CERTIFICATE = f"{{{DS}}}X509Certificate"
_X509_DATA = frozenset({_CERTIFICATE, f"{{{DS}}}X509SubjectName", f"{{{DS}}}X509IssuerSerial"})
_IDS = frozenset({"Id", "ID", "id", XML + "id"})

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Verifier(Protocol):
    """What validates chains: `security.trust.Trust`, or a fake of a test. `epoch` changes with anchors and CRL."""

    @property
    def epoch(self) -> str:
        """Name of the present state of anchors and revocation lists."""

    def verify(self, certificate: x509.Certificate, purpose: Purpose, at: datetime) -> Identity:
        """Identity of the holder; `Refused` when chain, purpose or revocation forbid."""


# --- algorithms ---------------------------------------------------------------------------------------------------


def signature_methods(allow_sha1: bool = False) -> frozenset[str]:
    """URIs of the signature methods accepted (RFC 9231; SHA-1 only to replay old fixtures)."""
    accepted = frozenset(_RSA) | frozenset(_ECDSA)
    return accepted if allow_sha1 else accepted - _WEAK


def digest_methods(allow_sha1: bool = False) -> frozenset[str]:
    """URIs of the digest methods accepted."""
    return frozenset(_DIGESTS) if allow_sha1 else frozenset(_DIGESTS) - _WEAK


def without_comments(algorithm: str) -> str:
    """The same canonicalisation, comments left out: what a same-document reference means (XML Signature §4.4.3.3)."""
    return {C14N_COMMENTS: C14N, EXC_COMMENTS: EXC}.get(algorithm, algorithm)


# --- reading -------------------------------------------------------------------------------------------------------


def children(element: Element) -> list[Element]:
    """Child elements; comments and processing instructions left out."""
    return [child for child in element if isinstance(child.tag, str)]


def leaf_text(element: Element) -> str | None:
    """Text of an element that holds nothing but text; None when anything else stands in it."""
    return None if len(element) else element.text or ""


def repeated_ids(root: Element) -> list[str]:
    """Values that two attributes of the kind Id, ID, id, xml:id share anywhere in the tree."""
    seen = Counter(value for element in root.iter(etree.Element) for name, value in element.attrib.items()
                   if name in _IDS)
    return [value for value, count in seen.items() if count > 1]


def decode(text: str | None) -> bytes | None:
    """Bytes of strict base64, white space apart; None when there are none or it is not."""
    packed = re.sub(r"[ \t\r\n]", "", text or "")
    try:
        return base64.b64decode(packed, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def read_instant(text: str) -> datetime | None:
    """An xs:dateTime of ASCII digits; naive when it names no zone, None when it is none or cannot be UTC."""
    if len(text) > 40 or not _INSTANT.fullmatch(text):
        return None
    try:
        instant = datetime.fromisoformat(text)
        return instant.astimezone(UTC) if instant.tzinfo else instant
    except (ValueError, OverflowError):
        return None


def key_info_certificate(key_info: Element) -> x509.Certificate | None:
    """The certificate of `KeyInfo/X509Data/X509Certificate`; None unless exactly one stands there.

    Its subject or issuer may be named beside it; other keys, other certificates, addresses may not. `Refused` when
    the certificate itself is broken or weak.
    """
    parts = children(key_info)
    if len(parts) != 1 or parts[0].tag != f"{{{DS}}}X509Data":
        return None
    held = [part.tag for part in children(parts[0])]
    if held.count(_CERTIFICATE) != 1 or not _X509_DATA.issuperset(held):
        return None
    text = leaf_text(children(parts[0])[held.index(_CERTIFICATE)])
    der = decode(text) if text and len(text) <= MAX_CERTIFICATE else None
    return load_certificate(der) if der else None


# --- canonical bytes and digests -----------------------------------------------------------------------------------


def canonical(element: Element, algorithm: str, prefixes: Collection[str] = ()) -> bytes:
    """Canonical bytes of an element as a document subset (C14N 1.0 §2.4, exclusive C14N 1.0 §3).

    The element is re-parsed alone, in its namespace context: lxml's inclusive C14N of a child under a default
    namespace writes an `xmlns=""` that stands nowhere. Inclusive C14N takes xml:* attributes of ancestors along.
    """
    alone = parse(etree.tostring(element, with_tail=False))
    if not algorithm.startswith(EXC):
        for name, value in _inherited(element).items():
            if name not in alone.attrib:
                alone.set(name, value)
    return write_canonical(alone, algorithm, prefixes)


def canonical_document(root: Element, algorithm: str) -> bytes:
    """Canonical bytes of a whole document: comments and instructions beside the root belong to it."""
    return write_canonical(root.getroottree(), algorithm)


def write_canonical(node: Element | etree._ElementTree[Element], algorithm: str,
                    prefixes: Collection[str] = ()) -> bytes:
    """Canonical bytes of a tree that stands alone."""
    exclusive = algorithm.startswith(EXC)
    return etree.tostring(node, method="c14n", exclusive=exclusive, with_comments=algorithm.endswith("WithComments"),
                          inclusive_ns_prefixes=list(prefixes) if exclusive and prefixes else None)


def digest(algorithm: str, pieces: Iterable[bytes]) -> bytes:
    """Digest of the pieces one after the other."""
    hashing = hashes.Hash(_DIGESTS[algorithm]())
    for piece in pieces:
        hashing.update(piece)
    return hashing.finalize()


def _inherited(element: Element) -> dict[str, str]:
    found: dict[str, str] = {}
    for ancestor in element.iterancestors():
        for name, value in ancestor.attrib.items():
            if str(name).startswith(XML):
                found.setdefault(str(name), str(value))
    return found


# --- raw signatures ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Method:
    """A signature method and the digest that goes with it."""

    uri: str
    digest: str


def method_for(key: PrivateKey) -> Method:
    """What we sign with: SHA-256, or the digest of an elliptic curve's own strength."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        bits = 256 if key.curve.key_size <= 256 else 384 if key.curve.key_size <= 384 else 512
        return Method(f"{_MORE}ecdsa-sha{bits}", {256: SHA256, 384: SHA384, 512: SHA512}[bits])
    return Method(RSA_SHA256, SHA256)


def sign_value(key: PrivateKey, data: bytes) -> bytes:
    """SignatureValue over data by `method_for(key)`; ECDSA as r then s (XML Signature 1.1 §6.4.3)."""
    method = method_for(key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(_ECDSA[method.uri]())))
        size = (key.curve.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return key.sign(data, padding.PKCS1v15(), _RSA[method.uri]())


def verify_value(certificate: x509.Certificate, method: str, value: bytes, data: bytes) -> bool:
    """Whether value is the certificate's signature over data by that method."""
    try:
        key = certificate.public_key()
        if method in _RSA and isinstance(key, rsa.RSAPublicKey):
            key.verify(value, data, padding.PKCS1v15(), _RSA[method]())
            return True
        if method in _ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(_dss(value, key.curve.key_size), data, ec.ECDSA(_ECDSA[method]()))
            return True
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return False


def _dss(value: bytes, bits: int) -> bytes:
    size = (bits + 7) // 8
    if len(value) != 2 * size:
        raise InvalidSignature
    return utils.encode_dss_signature(int.from_bytes(value[:size], "big"), int.from_bytes(value[size:], "big"))


def prefix_list(element: Element) -> tuple[str, ...] | None:
    """Prefixes of the `InclusiveNamespaces` alone in a transform, () without one, None when something else is there."""
    parts = children(element)
    if not parts:
        return ()
    if len(parts) > 1 or parts[0].tag != f"{{{EXC}}}InclusiveNamespaces" or len(parts[0]):
        return None
    prefixes = tuple(parts[0].get("PrefixList", "").split(" "))
    return prefixes if len(prefixes) <= 20 and all(map(_PREFIX.fullmatch, prefixes)) else None


