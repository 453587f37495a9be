"""The one assertion of a message, and proof of who signed it: Header element -> signed bytes, signer.

    lone_assertion     of the whole envelope, serialised alone
    verify_signature   a VIHF: the certificate in its KeyInfo, chain first
    examine, content   the two halves of the same, for whoever knows the signer's key otherwise (security.xua)

What blocks signature wrapping: exactly one Security header and one Assertion in the whole envelope; the assertion is
serialised alone and nothing of the original tree is looked at again; the signature is its direct child where the SAML
schema puts it; one Reference, to the assertion's own ID, with two transforms known in advance; every algorithm by
allow-list; the chain validated before the key is used; afterwards only the canonical bytes that were signed are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from cryptography import x509
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.verifier import SignatureConfiguration, XMLVerifier

from security.identity import Identity
from security.trust import Purpose
from security.vihf_names import SAML, SOAP11, SOAP12, WSSE
from security.xmldsig import (
    DS,
    ENVELOPED,
    EXC,
    EXC_COMMENTS,
    Verifier,
    children,
    decode,
    digest_methods,
    key_info_certificate,
    leaf_text,
    prefix_list,
    repeated_ids,
    signature_methods,
)
from xds.findings import Catalogue, Refused, Rule, Where
from xds.xml import Element, local_name, parse, where

RULES = Catalogue("security")
MISSING = RULES["V-SEC-VIHF-MISSING"]
HEADERS = RULES["V-SEC-VIHF-SECURITY-HEADERS"]
ACTOR = RULES["V-SEC-VIHF-ACTOR"]
ASSERTIONS = RULES["V-SEC-VIHF-ASSERTIONS"]
TOO_LARGE = RULES["V-SEC-VIHF-TOO-LARGE"]
ID = RULES["V-SEC-VIHF-ID"]
REPEATED_ID = RULES["V-SEC-VIHF-REPEATED-ID"]
UNSIGNED = RULES["V-SEC-VIHF-UNSIGNED"]
POSITION = RULES["V-SEC-VIHF-SIGNATURE-POSITION"]
SHAPE = RULES["V-SEC-VIHF-SIGNATURE-SHAPE"]
REFERENCE = RULES["V-SEC-VIHF-REFERENCE"]
TRANSFORM = RULES["V-SEC-VIHF-TRANSFORM"]
ALGORITHM = RULES["V-SEC-VIHF-ALGORITHM"]
KEY_INFO = RULES["V-SEC-VIHF-KEY-INFO"]
SIGNATURE = RULES["V-SEC-VIHF-SIGNATURE"]

MAX_ASSERTION = 64 * 1024  # bytes; a real one has 5 000
_ASSERTION = f"{{{SAML}}}Assertion"
_SECURITY = f"{{{WSSE}}}Security"
_SIGNATURE = f"{{{DS}}}Signature"
_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_FOR_US = frozenset({"", f"{SOAP12}/role/next", f"{SOAP12}/role/ultimateReceiver", f"{SOAP11}actor/next"})


@dataclass(frozen=True, slots=True)
class Signed:
    """What a good signature proved: these canonical bytes, by the holder of this certificate."""

    content: bytes
    certificate: x509.Certificate
    signer: Identity


@dataclass(frozen=True, slots=True)
class Form:
    """What a signature may look like besides. `open_key`: any KeyInfo or none, for the key is not taken from it, and
    comments kept in SignedInfo, whose every element is checked.
    """

    allow_sha1: bool = False
    open_key: bool = False


@dataclass(frozen=True, slots=True)
class Examined:
    """An assertion of the right form, nothing proved yet: its tree, its ID, the one certificate of its KeyInfo."""

    raw: bytes
    root: Element
    identity: str
    certificate: x509.Certificate | None


def lone_assertion(header: Element | None) -> bytes:
    """The assertion of a message, serialised alone; `header` is the Header element in its envelope."""
    if header is None:
        raise Refused(MISSING.at(Where("header")))
    envelope = header.getroottree().getroot()
    headers = list(envelope.iter(_SECURITY))
    assertions = list(envelope.iter(_ASSERTION))
    if not headers or not assertions:
        raise Refused(MISSING.at(where(header, "header")))
    if len(headers) > 1 or headers[0].getparent() is not header or header.getparent() is not envelope:
        raise Refused(HEADERS.at(where(headers[-1], "envelope"), expected=1, received=len(headers)))
    _check_actor(headers[0])
    if len(assertions) > 1 or assertions[0].getparent() is not headers[0]:
        raise Refused(ASSERTIONS.at(where(assertions[-1], "envelope"), expected=1, received=len(assertions)))
    return _serialise(assertions[0])


def verify_signature(raw: bytes, trust: Verifier, at: datetime, allow_sha1: bool = False) -> Signed:
    """Check the signature of a lone assertion, chain first; `Refused` unless everything holds."""
    examined = examine(raw, Form(allow_sha1))
    certificate = examined.certificate
    assert certificate is not None
    signer = trust.verify(certificate, Purpose.SIGNATURE, at)
    return Signed(content(examined, certificate, at, allow_sha1), certificate, signer)


def examine(raw: bytes, form: Form) -> Examined:
    """The form of a lone assertion and of its signature; `Refused` unless every part is one that we know."""
    root = parse(raw, "VIHF", MAX_ASSERTION)
    identity = _check_ids(root)
    return Examined(raw, root, identity, _check_form(_signature_of(root), identity, form))


def content(examined: Examined, certificate: x509.Certificate, at: datetime, allow_sha1: bool = False) -> bytes:
    """Canonical bytes that the certificate's key signed; `Refused` when it did not. The certificate is trusted."""
    try:
        result = XMLVerifier().verify(examined.raw, x509_cert=certificate, id_attribute="ID",
                                      expect_config=_configuration(at, allow_sha1))
    except Exception as error:  # whatever the library trips over, nothing was proved
        raise Refused(SIGNATURE.at(Where("VIHF"), received=str(error) or type(error).__name__)) from error
    signed = None if isinstance(result, list) else result.signed_xml
    if (isinstance(result, list) or signed is None or signed.tag != _ASSERTION
            or signed.get("ID") != examined.identity):
        raise Refused(SIGNATURE.at(Where("VIHF"), received="–"))
    return result.signed_data


def _check_actor(security: Element) -> None:
    """A header for another node is not for us to use (SOAP 1.2 Part 1 §2.2)."""
    for name in (f"{{{SOAP12}}}role", f"{{{SOAP11}}}actor"):
        if security.get(name, "") not in _FOR_US:
            raise Refused(ACTOR.at(where(security, "envelope"), expected="–", received=security.get(name)))


def _serialise(assertion: Element) -> bytes:
    raw = etree.tostring(assertion, with_tail=False)
    if len(raw) > MAX_ASSERTION:
        raise Refused(TOO_LARGE.at(where(assertion, "envelope"), expected=MAX_ASSERTION, received=len(raw)))
    return raw


def _check_ids(root: Element) -> str:
    """The assertion's ID, an ASCII name that no other element shares."""
    identity = root.get("ID", "")
    if not _ID.fullmatch(identity):
        raise Refused(ID.at(where(root, "VIHF"), expected="xs:ID", received=identity))
    if repeated := repeated_ids(root):
        raise Refused(REPEATED_ID.at(where(root, "VIHF"), expected=1, received=", ".join(repeated)))
    return identity


def _signature_of(root: Element) -> Element:
    """The only signature anywhere in the assertion, its second child (SAML 2.0 core §2.3.3)."""
    signatures = list(root.iter(_SIGNATURE))
    if not signatures:
        raise Refused(UNSIGNED.at(where(root, "VIHF")))
    if children(root)[1:2] != signatures:
        raise Refused(POSITION.at(where(signatures[-1], "VIHF"), expected=1, received=len(signatures)))
    return signatures[0]


def _check_form(signature: Element, identity: str, form: Form) -> x509.Certificate | None:
    """The signer's certificate, once every part of the signature is one that we know; None only with an open key."""
    names = ["SignedInfo", "SignatureValue", "KeyInfo"]
    held = _exactly(signature, *names[:2 if form.open_key and len(children(signature)) < len(names) else 3])
    method, digest_method, digest_value = _check_signed_info(held[0], identity, form)
    for element in (held[1], digest_value):
        if decode(leaf_text(element)) is None:
            raise Refused(SHAPE.at(where(element, "VIHF"), expected="base64", received=element.text or "–"))
    _allow(method, signature_methods(form.allow_sha1))
    _allow(digest_method, digest_methods(form.allow_sha1))
    certificate = key_info_certificate(held[2]) if len(held) == len(names) else None
    if certificate is None and not form.open_key:
        raise Refused(KEY_INFO.at(where(held[2], "VIHF"), expected="X509Data/X509Certificate",
                                  received=_held(held[2])))
    return certificate


def _check_signed_info(signed_info: Element, identity: str, form: Form) -> tuple[Element, Element, Element]:
    """SignatureMethod, DigestMethod and DigestValue of a SignedInfo of the one form accepted."""
    c14n, method, reference = _exactly(signed_info, "CanonicalizationMethod", "SignatureMethod", "Reference")
    _exclusive(c14n, (EXC, EXC_COMMENTS) if form.open_key else (EXC,))
    if reference.get("URI") != f"#{identity}":
        raise Refused(REFERENCE.at(where(reference, "VIHF"), expected=f"#{identity}", received=reference.get("URI")))
    transforms, digest_method, digest_value = _exactly(reference, "Transforms", "DigestMethod", "DigestValue")
    enveloped, exclusive = _exactly(transforms, "Transform", "Transform", rule=TRANSFORM)
    if enveloped.get("Algorithm") != ENVELOPED or len(enveloped):
        raise Refused(TRANSFORM.at(where(enveloped, "VIHF"), expected=ENVELOPED, received=enveloped.get("Algorithm")))
    _exclusive(exclusive, (EXC,))
    return method, digest_method, digest_value


def _exactly(element: Element, *expected: str, rule: Rule = SHAPE) -> list[Element]:
    """The child elements, when they are these ones of XML Signature and no other."""
    found = children(element)
    if [child.tag for child in found] != [f"{{{DS}}}{name}" for name in expected]:
        raise Refused(rule.at(where(element, "VIHF"), expected=", ".join(expected), received=_held(element)))
    return found


def _exclusive(element: Element, accepted: tuple[str, ...]) -> None:
    if element.get("Algorithm") not in accepted or prefix_list(element) is None:
        raise Refused(TRANSFORM.at(where(element, "VIHF"), expected=EXC, received=element.get("Algorithm")))


def _allow(element: Element, accepted: frozenset[str]) -> None:
    """The algorithm is on the list and takes no parameter (HMACOutputLength)."""
    uri = element.get("Algorithm", "")
    if uri not in accepted or len(element):
        raise Refused(ALGORITHM.at(where(element, "VIHF"), expected=", ".join(sorted(accepted)), received=uri))


def _held(element: Element) -> str:
    return ", ".join(map(local_name, children(element))) or "–"


def _configuration(at: datetime, allow_sha1: bool) -> SignatureConfiguration:
    methods, digests = _allowed(allow_sha1)
    return SignatureConfiguration(location="./", expect_references=1, verification_time=at,
                                  signature_methods=methods, digest_algorithms=digests)


@cache
def _allowed(allow_sha1: bool) -> tuple[frozenset[SignatureMethod], frozenset[DigestAlgorithm]]:
    return (frozenset(map(SignatureMethod, signature_methods(allow_sha1))),
            frozenset(map(DigestAlgorithm, digest_methods(allow_sha1))))
