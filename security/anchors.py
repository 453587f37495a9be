"""The operator's files: certification authorities and their revocation lists, bytes -> values.

Everything that makes one unusable is a TrustError which names the file and the certificate or list in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from security.cards import check_strength
from xds.findings import Refused


class TrustError(ValueError):
    """An anchor or revocation list that cannot be used; the message names the file and the certificate or list."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certification authority. `id` names its subject and key: one renewed with its key keeps its list."""

    certificate: x509.Certificate
    name: str
    id: str

    def signed(self, certificate: x509.Certificate) -> bool:
        """Whether this authority is the issuer named in the certificate, and its key made the signature."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except Exception:  # bad signature, other name, key of another kind: all the same answer
            return False
        return True

    @property
    def is_root(self) -> bool:
        """Whether it vouches for itself."""
        return self.certificate.subject == self.certificate.issuer and self.signed(self.certificate)

    @property
    def is_test(self) -> bool:
        """Whether it is of a test chain: IGC-Santé puts the word TEST into its names."""
        return "TEST" in re.split(r"\W+", " ".join(str(part.value) for part in self.certificate.subject))


@dataclass(frozen=True, slots=True)
class RevocationList:
    """An authority's list; `entry` answers in constant time, however long the list."""

    authority: str
    this_update: datetime
    next_update: datetime
    fingerprint: bytes
    entries: Mapping[int, x509.RevokedCertificate] = field(repr=False)

    def entry(self, serial: int) -> tuple[datetime, str] | None:
        """Date and reason of that serial's revocation; None when it is not on the list."""
        found = self.entries.get(serial)
        return (found.revocation_date_utc, _reason(found)) if found else None


def authority_of(certificate: x509.Certificate) -> Authority:
    """The certificate as an authority, whatever it is allowed to do."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Authority(certificate, common_name(certificate.subject),
                     hashlib.sha256(certificate.subject.public_bytes() + key).hexdigest())


def common_name(name: x509.Name) -> str:
    """CN of a name, or the whole name when it has none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[-1].value) if found else name.rfc4514_string()


# --- authorities -----------------------------------------------------------------------------------------------------

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def read_authorities(files: Mapping[str, bytes], accept_test: bool) -> tuple[Authority, ...]:
    """The authorities of PEM files by name: all of the range wanted, every chain complete up to a root."""
    authorities = tuple(found for name, data in files.items() for found in _authorities(name, data))
    strangers = [authority.name for authority in authorities if authority.is_test != accept_test]
    if strangers:
        wanted, came = ("test", "production") if accept_test else ("production", "test")
        raise TrustError(f"{', '.join(files)}: {strangers[0]} is an authority of {came}; only those of {wanted} "
                         "may stand here")
    for authority in authorities:
        if not any(above.signed(authority.certificate) for above in authorities):
            raise TrustError(f"{', '.join(files)}: {authority.name} is there, but not the authority that signed it, "
                             f"{common_name(authority.certificate.issuer)}")
    return authorities


def _authorities(name: str, data: bytes) -> Iterator[Authority]:
    blocks = _CERTIFICATE.findall(data)
    if not blocks:
        raise TrustError(f"{name}: no certificate in PEM")
    for number, block in enumerate(blocks, 1):
        try:
            certificate = x509.load_pem_x509_certificate(block)
            check_strength(certificate)
            may_sign = _may_sign(certificate)
        except (ValueError, x509.ExtensionNotFound, Refused) as error:
            raise TrustError(f"{name}, certificate {number}: {error}") from error
        if not may_sign:
            raise TrustError(f"{name}, certificate {number}: {common_name(certificate.subject)} is not an authority")
        yield authority_of(certificate)


def _may_sign(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    return (extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign)


# --- revocation lists ------------------------------------------------------------------------------------------------


def read_lists(files: Mapping[str, bytes], authorities: Sequence[Authority]) -> dict[str, RevocationList]:
    """The newest list of each authority, by the authority's id; PEM (one or more) or DER, each signature verified."""
    found = [listed for name, data in files.items() for listed in _lists(name, data, authorities)]
    return {listed.authority: listed for listed in sorted(found, key=lambda listed: listed.this_update)}


def _lists(name: str, data: bytes, authorities: Sequence[Authority]) -> Iterator[RevocationList]:
    for number, block in enumerate(_CRL.findall(data) or [data], 1):
        try:
            crl = x509.load_pem_x509_crl(block) if block.startswith(b"-----") else x509.load_der_x509_crl(block)
            _check_complete(crl)
            yield _revocation_list(crl, _signer_of(crl, authorities))
        except Exception as error:  # parsing is lazy and may raise anything; the operator is told which list it was
            raise TrustError(f"{name}, list {number}: {error}") from error


def _revocation_list(crl: x509.CertificateRevocationList, authority: str) -> RevocationList:
    if crl.next_update_utc is None:
        raise TrustError("it does not say when the next one comes (nextUpdate)")
    return RevocationList(authority, crl.last_update_utc, crl.next_update_utc, crl.fingerprint(SHA256()),
                          {entry.serial_number: entry for entry in crl})


def _signer_of(crl: x509.CertificateRevocationList, authorities: Iterable[Authority]) -> str:
    named = [authority for authority in authorities if authority.certificate.subject == crl.issuer]
    if not named:
        raise TrustError(f"its issuer, {common_name(crl.issuer)}, is not among the authorities")
    for authority in named:
        key = authority.certificate.public_key()
        if isinstance(key, RSAPublicKey | EllipticCurvePublicKey) and crl.is_signature_valid(key):
            return authority.id
    raise TrustError(f"its signature is not that of {named[0].name}")


def _check_complete(crl: x509.CertificateRevocationList) -> None:
    """RFC 5280 §5.2: deltas and partial lists would leave revoked cards unnamed, unknown rules could do anything."""
    for extension in crl.extensions:
        if isinstance(extension.value, x509.DeltaCRLIndicator):
            raise TrustError("a delta; the complete list is needed")
        if isinstance(extension.value, x509.IssuingDistributionPoint) and _is_partial(extension.value):
            raise TrustError("a partial list; the complete one is needed")
        if extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            raise TrustError(f"its critical extension {extension.oid.dotted_string} is not understood")


def _is_partial(point: x509.IssuingDistributionPoint) -> bool:
    return bool(point.only_contains_user_certs or point.only_contains_ca_certs or point.indirect_crl
                or point.only_contains_attribute_certs or point.only_some_reasons)


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except (ValueError, x509.ExtensionNotFound):
        return "unspecified"
