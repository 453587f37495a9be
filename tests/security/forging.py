"""Certificates no authority would issue, but signed by the test authorities: what a check must catch by itself."""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from security import minting, pki
from security.cards import load_chain
from security.minting import AUTHENTICATION, CardSpec, Issuer, Usage
from xds.findings import Finding, Refused

SPECS = {spec.name: spec for spec in pki.load_specs()}
NOW = datetime.now(UTC).replace(microsecond=0)
YEAR = timedelta(days=365)


def card(folder: Path, name: str, stem: str = "auth") -> x509.Certificate:
    """A card's certificate."""
    return load_chain((folder / "cards" / name / f"{stem}.pem").read_bytes())[0]


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@cache
def issuer(folder: Path, slug: str = "fort-personnes") -> Issuer:
    return pki._load_issuer(folder / "pki", slug)


@cache
def key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """One key for every forged certificate."""
    return rsa.generate_private_key(exponent, bits)


def forge(signer: Issuer, spec: CardSpec | str = "medecin", *, usage: Usage = AUTHENTICATION,
          private: Mapping[str, bytes | None] | None = None, subject: x509.Name | None = None,
          until: datetime = NOW + YEAR, critical: str = "", **changes: object) -> x509.Certificate:
    """A card's certificate with changed fields of its spec, private extensions (None: left out), subject or end."""
    spec = replace(SPECS[spec] if isinstance(spec, str) else spec, **changes)
    said = {**minting.private_extensions(spec), **(private or {})}
    builder = minting._builder(subject or minting.subject_of(spec), signer.certificate.subject, key().public_key(),
                               NOW - YEAR, until)
    if critical:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(critical), b"\x05\x00"), True)
    return minting.sign_leaf(builder, usage, signer, key(),
                             {oid: value for oid, value in said.items() if value is not None})


def respell(certificate: x509.Certificate, signer: Issuer, change: Callable[[asn1.TbsCertificate], None]
            ) -> x509.Certificate:
    """The certificate with its content changed as the builders do not allow, signed again."""
    spelled = asn1.Certificate.load(der(certificate))
    change(spelled["tbs_certificate"])
    content = spelled["tbs_certificate"].dump(force=True)
    spelled["signature_value"] = signer.key.sign(content, padding.PKCS1v15(), SHA256())
    return x509.load_der_x509_certificate(spelled.dump(force=True))


def name(*pairs: tuple[str, str]) -> x509.Name:
    """A subject of single-valued RDNs."""
    return minting._name(*pairs)


# --- refusals --------------------------------------------------------------------------------------------------------


def refusal(call: Callable[..., object], *arguments: object) -> Finding:
    """The finding of a refusal; its texts must be complete in both languages."""
    with pytest.raises(Refused) as caught:
        call(*arguments)
    (finding,) = caught.value.findings
    for text in (finding.fr, finding.en, finding.as_dict()["hint"], finding.as_dict()["hint_en"]):
        assert text
        assert not re.search(r"\{[a-z_]+\}", text), f"{finding.code} leaves a brace open: {text}"
    return finding


def code(call: Callable[..., object], *arguments: object) -> str:
    """The code of its finding."""
    return refusal(call, *arguments).code


def mutations(data: bytes, count: int, seed: str) -> Iterator[bytes]:
    """Copies of the bytes with flipped bits, cuts, insertions, doubled and swapped slices; the same for each seed."""
    dice = random.Random(seed)
    for _ in range(count):
        copy, at, size = bytearray(data), dice.randrange(len(data)), dice.randrange(1, 12)
        match dice.randrange(5):
            case 0:
                copy[at] ^= 1 << dice.randrange(8)
            case 1:
                del copy[at:at + size]
            case 2:
                copy[at:at] = dice.randbytes(size)
            case 3:
                copy[at:at + size] = dice.randbytes(size)
            case 4:
                del copy[at:]
        yield bytes(copy)
