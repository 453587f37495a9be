"""Provide X-User Assertion (ITI-40), receiving side: Header of the envelope, TLS certificate -> `Caller`.

    lone_assertion      the only assertion, serialised alone            security.vihf_signature
    examine, content    the signature's form; signed by a trusted key   security.vihf_signature
    read_assertion      signed bytes -> claims                          security.xua_token
    findings            claims against clock, settings, TLS             security.xua_rules

Whom we trust is a list of issuers with their certificates, as SAML metadata would have it: no chain, no authority;
an issuer can vouch under its own name only. `Refused` carries everything found, warnings included.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from security import vihf_signature as signature
from security.anchors import TrustError
from security.cards import load_chain
from security.identity import Caller
from security.vihf_names import SAML
from security.vihf_signature import Examined, Form, examine, lone_assertion
from security.xua_rules import ONE_TIME, RULES, Evidence, XuaPolicy, findings
from security.xua_token import PART, Assertion, issuer_of, read_assertion
from xds.findings import Finding, Refused, Rule, Where, errors
from xds.xml import Element

ISSUER = RULES["V-SEC-XUA-ISSUER"]
KEY = RULES["V-SEC-XUA-KEY"]
_PLACEMENT = RULES["V-SEC-XUA-PLACEMENT"]
_ID = RULES["V-SEC-XUA-ID"]
_FORM = RULES["V-SEC-XUA-SIGNATURE-FORM"]

#: What the recipe shared with the VIHF finds, under the names of this profile
_OWN: Mapping[Rule, Rule] = {
    signature.MISSING: RULES["V-SEC-XUA-MISSING"], signature.HEADERS: _PLACEMENT, signature.ACTOR: _PLACEMENT,
    signature.ASSERTIONS: _PLACEMENT, signature.TOO_LARGE: RULES["V-SEC-XUA-TOO-LARGE"], signature.ID: _ID,
    signature.REPEATED_ID: _ID, signature.UNSIGNED: RULES["V-SEC-XUA-UNSIGNED"], signature.POSITION: _FORM,
    signature.SHAPE: _FORM, signature.REFERENCE: _FORM, signature.TRANSFORM: _FORM, signature.ALGORITHM: _FORM,
    signature.KEY_INFO: _FORM, signature.SIGNATURE: RULES["V-SEC-XUA-SIGNATURE"],
}

LIST = "issuers.toml"
TEST_ORGANISATION = "VOLET TEST"


# --- issuers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Issuers:
    """Certificates of the trusted issuers, by the exact text of their Issuer."""

    certificates: Mapping[str, tuple[x509.Certificate, ...]]

    @classmethod
    def load(cls, folder: Path, accept_test: bool = True) -> Issuers:
        """`issuers.toml` of a folder (Issuer = file of certificates beside it); TrustError names what is wrong.

        Certificates that `volet` itself made are refused unless `accept_test`.
        """
        try:
            listed = tomllib.loads((folder / LIST).read_text("utf-8"))
            return cls({issuer: _certificates(folder, file, accept_test) for issuer, file in listed.items()})
        except (OSError, ValueError) as error:
            raise TrustError(f"{folder / LIST}: {error}") from error


def _certificates(folder: Path, file: object, accept_test: bool) -> tuple[x509.Certificate, ...]:
    """One or several, for an issuer's keys overlap when they change."""
    if not isinstance(file, str) or Path(file).name != file:
        raise TrustError(f"a file name is expected, not {file!r}")
    try:
        certificates = load_chain((folder / file).read_bytes())
    except Refused as error:
        raise TrustError(f"{file}: {error}") from error
    if not accept_test and any(map(_is_test, certificates)):
        raise TrustError(f"{file}: a test issuer has no place in production")
    return certificates


def _is_test(certificate: x509.Certificate) -> bool:
    return any(name.value == TEST_ORGANISATION
               for name in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))


# --- the caller ----------------------------------------------------------------------------------------------------


def is_presented(header: Element | None) -> bool:
    """Whether a message carries anything of SAML in its Header: what is presented must then be good."""
    return header is not None and next(header.iter(f"{{{SAML}}}*"), None) is not None


def verify(header: Element | None, tls_certificate: x509.Certificate | None, issuers: Issuers, at: datetime,
           policy: XuaPolicy) -> Caller:
    """The caller of a message; `Refused` unless signature, issuer, times, audience, context and holder all agree.

    `header` is the SOAP Header in its envelope, None without one; `at` is aware.
    """
    with _own_findings():
        examined = examine(lone_assertion(header), Form(policy.allow_sha1, open_key=True))
        content = _signed_content(examined, issuers, at, policy)
    assertion = read_assertion(content)
    found = findings(Evidence(assertion, tls_certificate, at, policy))
    if errors(found):
        raise Refused(found)
    return replace(_caller(assertion), findings=found)


def single_use(caller: Caller) -> bool:
    """Whether a second message with this assertion must be refused, by its own wish (OneTimeUse)."""
    return any(finding.rule == ONE_TIME for finding in caller.findings)


def replay_key(caller: Caller) -> bytes:
    """What a replay store keeps for `max_lifetime + clock_skew`: 32 bytes for each (issuer, assertion ID)."""
    return hashlib.sha256(f"{caller.issuer}\n{caller.assertion_id}".encode()).digest()


def _signed_content(examined: Examined, issuers: Issuers, at: datetime, policy: XuaPolicy) -> bytes:
    """Bytes signed by the issuer that the assertion names, with the key named or one of that issuer's."""
    issuer = issuer_of(examined.root)
    known = issuers.certificates.get(issuer, ())
    if not known:
        raise Refused(ISSUER.at(Where(PART, path="/Assertion/Issuer"), received=issuer or "–",
                                expected=", ".join(sorted(issuers.certificates)) or "–"))
    candidates = [one for one in known if examined.certificate in (None, one)]
    if not candidates:
        assert examined.certificate is not None
        raise Refused(KEY.at(Where(PART, path="/Assertion/Signature/KeyInfo"), issuer=issuer,
                             expected=", ".join(map(_fingerprint, known)),
                             received=_fingerprint(examined.certificate)))
    return _first_that_signed(examined, candidates, at, policy)


def _first_that_signed(examined: Examined, candidates: list[x509.Certificate], at: datetime, policy: XuaPolicy
                       ) -> bytes:
    for certificate in candidates[:-1]:
        try:
            return signature.content(examined, certificate, at, policy.allow_sha1)
        except Refused:
            continue
    return signature.content(examined, candidates[-1], at, policy.allow_sha1)


@contextmanager
def _own_findings() -> Iterator[None]:
    """Findings of the shared recipe come out under the names of this profile."""
    try:
        yield
    except Refused as refused:
        raise Refused(map(_own, refused.findings)) from refused


def _own(finding: Finding) -> Finding:
    rule = _OWN.get(finding.rule)
    part = PART if finding.where.part == "VIHF" else finding.where.part
    return replace(finding, rule=rule or finding.rule, where=replace(finding.where, part=part))


def _fingerprint(certificate: x509.Certificate) -> str:
    return f"SHA-256 {certificate.fingerprint(SHA256()).hex()[:16]}…"


def _caller(assertion: Assertion) -> Caller:
    """The claims, once every rule let them pass; `roles` as code^scheme."""
    texts = assertion.texts
    return Caller(
        national_id=assertion.name_id, name=texts.get("name") or assertion.name_id,
        structure_id=texts.get("organisation_id", ""), organisation=texts.get("organisation", ""),
        community=texts.get("community", ""), roles=tuple(f"{role.code}^{role.scheme}" for role in assertion.roles),
        purpose="".join(map(str, assertion.purposes)), patient=texts.get("patient", ""),
        consents=assertion.consents, assertion_id=assertion.id, issuer=assertion.issuer, alias=assertion.alias)


__all__ = ["Caller", "Issuers", "XuaPolicy", "is_presented", "replay_key", "single_use", "verify"]
