"""The signature of a submission set as a client makes it: the document itself and its metadata (TD2.1, IHE DSG)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from security.distinguished import write_name
from security.xmldsig import (
    C14N,
    C14N_COMMENTS,
    DS,
    SHA256,
    PrivateKey,
    canonical,
    canonical_document,
    digest,
    method_for,
    sign_value,
)
from xds.model import Association, Code, DocumentEntry, SubmissionSet
from xds.rim import localized
from xds.vocabulary import HAS_MEMBER, SIGNS
from xds.xml import escape, parse

XADES = "http://uri.etsi.org/01903/v1.3.2#"
MANIFEST_ID = "IHEManifest"
SIGNATURE_ID = "S0"
SET_DIGEST = "AA=="  # stands for the set: metadata has no bytes to digest

PURPOSE = Code("1.2.840.10065.1.12.1.14", "1.2.840.10065.1.12", localized("Source"))  # ASTM E1762
CLASS = Code("urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1", "URN", localized("Digital Signature"))
TYPE = Code("E1762", "ASTM", localized("Full Document"))
FORMAT = Code("http://www.w3.org/2000/09/xmldsig#", "URN", localized("Default Signature Style"))
#: Never listed to a user: neither to professionals nor to the patient (NOS JDV_J08)
CONFIDENTIALITY = (
    Code("N", "2.16.840.1.113883.5.25", localized("Normal")),
    Code("MASQUE_PS", "1.2.250.1.213.1.1.4.13", localized("Masqué aux professionnels de santé")),
    Code("INVISIBLE_PATIENT", "1.2.250.1.213.1.1.4.13", localized("Non visible par le patient")),
)


# --- the document --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A document to sign: uniqueId, bytes, and whether its digest is over its canonical XML rather than its bytes."""

    unique_id: str
    content: bytes
    is_xml: bool = True


def sign_submission(submission_set_uid: str, documents: Sequence[SignedDocument], key: PrivateKey,
                    certificates: Sequence[x509.Certificate], now: datetime) -> bytes:
    """The signature document: the DMP's shape, with SHA-256 and XAdES 1.3.2. `certificates`: leaf first, `now` aware.

    `Refused` when a document said to be XML cannot be read.
    """
    manifest = _manifest(submission_set_uid, documents)
    properties = _properties(certificates, now)
    objects = _object(manifest) + _object(_purpose()) + _object(
        f'<xades:QualifyingProperties xmlns:xades="{XADES}" Target="#{SIGNATURE_ID}">{properties}'
        "</xades:QualifyingProperties>")
    signed_info = _signed_info(method_for(key).uri, objects)
    value = sign_value(key, canonical(parse(_document(signed_info).encode())[0], C14N_COMMENTS))
    return _document(f"{signed_info}<SignatureValue>{_base64(value)}</SignatureValue>{_key_info(certificates[0])}"
                     f"{objects}").encode()


def uri_of(unique_id: str) -> str:
    """How a Manifest names an object: `urn:oid:` and its uniqueId."""
    return unique_id if unique_id.startswith("urn:") else f"urn:oid:{unique_id}"


def _document(content: str) -> str:
    return f'<Signature xmlns="{DS}" Id="{SIGNATURE_ID}">{content}</Signature>'


def _object(content: str) -> str:
    return f"<Object>{content}</Object>"


def _signed_info(method: str, objects: str) -> str:
    """SignedInfo with the digests of Manifest and SignedProperties as they will stand in the document."""
    manifest, _purpose_holder, qualifying = parse(_document(objects).encode())
    references = (
        _reference(f"#{MANIFEST_ID}", digest(SHA256, (canonical(manifest[0], C14N),)), C14N_COMMENTS,
                   f"{DS}Manifest")
        + _reference(f"#{SIGNATURE_ID}-SignedProperties", digest(SHA256, (canonical(qualifying[0][0], C14N),)),
                     C14N_COMMENTS, "http://uri.etsi.org/01903#SignedProperties"))
    return (f'<SignedInfo><CanonicalizationMethod Algorithm="{C14N_COMMENTS}"/>'
            f'<SignatureMethod Algorithm="{method}"/>{references}</SignedInfo>')


def _manifest(submission_set_uid: str, documents: Iterable[SignedDocument]) -> str:
    """The set, with its dummy digest, then every document."""
    references = "".join(_document_reference(document) for document in documents)
    return (f'<Manifest Id="{MANIFEST_ID}"><Reference URI="{escape(uri_of(submission_set_uid))}">'
            f'<DigestMethod Algorithm="{SHA256}"/><DigestValue>{SET_DIGEST}</DigestValue></Reference>'
            f"{references}</Manifest>")


def _document_reference(document: SignedDocument) -> str:
    if not document.is_xml:
        return _reference(uri_of(document.unique_id), digest(SHA256, (document.content,)))
    octets = canonical_document(parse(document.content, document.unique_id), C14N_COMMENTS)
    return _reference(uri_of(document.unique_id), digest(SHA256, (octets,)), C14N_COMMENTS)


def _reference(uri: str, octets: bytes, c14n: str = "", kind: str = "") -> str:
    transforms = f'<Transforms><Transform Algorithm="{c14n}"/></Transforms>' if c14n else ""
    return (f'<Reference URI="{escape(uri)}"' + (f' Type="{kind}"' if kind else "") + f">{transforms}"
            f'<DigestMethod Algorithm="{SHA256}"/><DigestValue>{_base64(octets)}</DigestValue></Reference>')


def _purpose() -> str:
    """The DMP has the code as text of the property, against the schema, which wants an element."""
    return (f'<SignatureProperties><SignatureProperty Id="purposeOfSignature" Target="#{SIGNATURE_ID}">{PURPOSE.code}'
            "</SignatureProperty></SignatureProperties>")


def _properties(certificates: Iterable[x509.Certificate], now: datetime) -> str:
    certs = "".join(map(_cert, certificates))
    return (f'<xades:SignedProperties Id="{SIGNATURE_ID}-SignedProperties"><xades:SignedSignatureProperties>'
            f"<xades:SigningTime>{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}</xades:SigningTime>"
            f"<xades:SigningCertificate>{certs}</xades:SigningCertificate>"
            "<xades:SignaturePolicyIdentifier><xades:SignaturePolicyImplied/></xades:SignaturePolicyIdentifier>"
            "</xades:SignedSignatureProperties><xades:SignedDataObjectProperties/></xades:SignedProperties>")


def _cert(certificate: x509.Certificate) -> str:
    octets = digest(SHA256, (certificate.public_bytes(Encoding.DER),))
    return (f'<xades:Cert><xades:CertDigest><DigestMethod Algorithm="{SHA256}"/>'
            f"<DigestValue>{_base64(octets)}</DigestValue></xades:CertDigest><xades:IssuerSerial>"
            f"<X509IssuerName>{escape(write_name(certificate.issuer))}</X509IssuerName>"
            f"<X509SerialNumber>{certificate.serial_number}</X509SerialNumber></xades:IssuerSerial></xades:Cert>")


def _key_info(certificate: x509.Certificate) -> str:
    return ("<KeyInfo><X509Data><X509Certificate>"
            f"{_base64(certificate.public_bytes(Encoding.DER))}</X509Certificate></X509Data></KeyInfo>")


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


# --- its metadata --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignatureMetadata:
    """What a submission says of its signature: the entry, its membership, what it signs."""

    entry: DocumentEntry
    has_member: Association
    signs: Association


def signature_entry_metadata(signature: bytes, unique_id: str, signed: DocumentEntry, submission_set: SubmissionSet,
                             now: datetime, entry_id: str = "Signature01") -> SignatureMetadata:
    """Metadata of the signature document (TD2.1): what it has in common with a document that it signs is `signed`'s.

    The author is the set's. No sourcePatientInfo; `signs` goes from the signature to the submission set.
    """
    entry = DocumentEntry(
        id=entry_id, unique_id=unique_id, mime_type="text/xml", title=localized("Signature"), language="art",
        class_code=CLASS, type_code=TYPE, format_code=FORMAT, event_codes=(PURPOSE,), confidentiality=CONFIDENTIALITY,
        creation_time=f"{now.astimezone(UTC):%Y%m%d%H%M%S}",
        hash=hashlib.sha1(signature, usedforsecurity=False).hexdigest(), size=str(len(signature)),
        authors=submission_set.authors, legal_authenticator=signed.legal_authenticator,
        patient_id=submission_set.patient_id, source_patient_id=signed.source_patient_id,
        facility_type=signed.facility_type, practice_setting=signed.practice_setting,
        service_start=signed.service_start, service_stop=signed.service_stop)
    return SignatureMetadata(entry, _association(HAS_MEMBER, submission_set.id, entry_id),
                             _association(SIGNS, entry_id, submission_set.id))


def _association(kind: str, source: str, target: str) -> Association:
    # TD2.1 has SubmissionSetStatus on both
    return Association(id=f"Association-{uuid4().hex}", type=kind, source=source, target=target,
                       submission_set_status="Original")
