"""Who is calling: Header of the envelope, certificate of the TLS connection -> `Caller`.

    lone_assertion      the only assertion, serialised alone            security.vihf_signature
    verify_signature    chain, then signature -> signed bytes           security.vihf_signature
    read_token          signed bytes -> claims                          security.vihf_token
    findings            claims against clock, settings, certificates    security.vihf_rules

`Refused` carries everything found, warnings included.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from security import vihf_names as names
from security.distinguished import Pairs, pairs_of
from security.identity import AccessMode, Authentication, Caller, Identity
from security.trust import Purpose
from security.vihf_rules import HOLDER_UNCHECKED, ONE_TIME, RULES, Evidence, VihfPolicy, claimed, findings
from security.vihf_signature import lone_assertion, verify_signature
from security.vihf_token import Token, read_token
from security.xmldsig import Verifier
from xds.findings import Refused, Where, errors
from xds.xml import Element

TLS_MISSING = RULES["V-SEC-VIHF-TLS-MISSING"]

_PROFESSIONAL = frozenset({names.PROFESSION, names.SPECIALITY})


def verify(header: Element | None, tls_certificate: x509.Certificate | None, trust: Verifier, at: datetime,
           policy: VihfPolicy, cache: Cache | None = None) -> Caller:
    """The caller of a message; `Refused` unless signature, chains, times and holder all agree.

    `header` is the SOAP Header in its envelope, None without one; `at` is aware. A `cache` saves the signature of an
    assertion seen before over the same TLS certificate; chains, dates, revocation and every rule run each time.
    """
    if tls_certificate is None and policy.tls_required:
        raise Refused(TLS_MISSING.at(Where("TLS")))
    holder = None if tls_certificate is None else trust.verify(tls_certificate, Purpose.AUTHENTICATION, at)
    proof = _proof(lone_assertion(header), tls_certificate, trust, at, policy, cache)
    found = findings(Evidence(proof.token, proof.signer, proof.signer_name, holder, at, policy))
    if errors(found):
        raise Refused(found)
    return replace(_caller(proof.token, proof.signer), findings=found)


def single_use(caller: Caller, policy: VihfPolicy) -> bool:
    """Whether a second message with this assertion must be refused: by setting, without TLS, or by its own wish."""
    return policy.one_time or any(finding.rule in (HOLDER_UNCHECKED, ONE_TIME) for finding in caller.findings)


def replay_key(caller: Caller) -> str:
    """What a replay store keeps for `max_age + clock_skew`: one text for each (issuer, assertion ID)."""
    issuer = caller.identity.subject if caller.identity else ""
    return hashlib.sha256(f"{issuer}\n{caller.assertion_id}".encode()).hexdigest()


# --- proof and its cache -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """What cryptography proved of an assertion: its claims, who signed them, with which certificate."""

    token: Token
    signer: Identity
    certificate: x509.Certificate
    signer_name: Pairs


class Cache:
    """Proofs by assertion, TLS certificate and trust epoch; bounded, least recently used out; for many threads."""

    def __init__(self, size: int = 1024) -> None:
        """Keep at most `size` proofs."""
        self._size = size
        self._proofs: OrderedDict[bytes, Proof] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._proofs)

    def get(self, key: bytes) -> Proof | None:
        """The proof of that key, None when unknown."""
        with self._lock:
            if key in self._proofs:
                self._proofs.move_to_end(key)
            return self._proofs.get(key)

    def put(self, key: bytes, proof: Proof) -> None:
        """Keep a proof; only good ones are ever kept."""
        with self._lock:
            self._proofs[key] = proof
            self._proofs.move_to_end(key)
            while len(self._proofs) > self._size:
                self._proofs.popitem(last=False)


def _proof(raw: bytes, tls_certificate: x509.Certificate | None, trust: Verifier, at: datetime, policy: VihfPolicy,
           cache: Cache | None) -> Proof:
    """The proof of an assertion, from the cache when it is there; the signer's chain is verified in any case."""
    key = _cache_key(raw, tls_certificate, trust, policy)
    known = cache.get(key) if cache is not None else None
    if known is not None:
        return replace(known, signer=trust.verify(known.certificate, Purpose.SIGNATURE, at))
    signed = verify_signature(raw, trust, at, policy.allow_sha1)
    proof = Proof(read_token(signed.content), signed.signer, signed.certificate, pairs_of(signed.certificate.subject))
    if cache is not None:
        cache.put(key, proof)
    return proof


def _cache_key(raw: bytes, certificate: x509.Certificate | None, trust: Verifier, policy: VihfPolicy) -> bytes:
    fingerprint = certificate.fingerprint(SHA256()) if certificate is not None else bytes(32)
    epoch = f"{policy.allow_sha1} {trust.epoch}".encode()
    return hashlib.sha256(hashlib.sha256(raw).digest() + fingerprint + epoch).digest()


# --- outcome -------------------------------------------------------------------------------------------------------


def _caller(token: Token, signer: Identity) -> Caller:
    """The claims, once every rule let them pass; `roles` are those that are neither profession nor speciality."""
    return Caller(
        identity=signer, national_id=token.name_id, name=token.text("name").strip() or signer.name,
        structure_id=token.text("structure_id"), sector=token.text("sector"),
        profession="".join(claimed(token, names.PROFESSION)), specialities=claimed(token, names.SPECIALITY),
        roles=tuple(f"{role.code}^{role.scheme}" for role in token.roles if role.scheme not in _PROFESSIONAL),
        authentication=Authentication(token.text("authentication")),
        mode=AccessMode(token.purpose.code) if token.purpose else AccessMode.NORMAL,
        reason=token.text("reason").strip(), patient=token.text("patient"),
        secret_connection=token.confidentiality == names.SECRET,
        software=f"{token.text('lps_name')} {token.text('lps_version')}".strip(), assertion_id=token.id)


__all__ = ["Cache", "Caller", "Proof", "VihfPolicy", "replay_key", "single_use", "verify"]
