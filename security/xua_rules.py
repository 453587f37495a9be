"""What an assertion of XUA must be here: its claims against the clock, the settings and the TLS certificate.

One function a subject, each yields; `RULES_IN_ORDER` is the list. What is granted by default stands in `xua.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib import resources

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from security import vihf_names as names
from security.xmldsig import DS, children, decode, key_info_certificate, leaf_text, read_instant
from security.xua_token import BEARER, HOLDER_OF_KEY, PART, Assertion, Period
from xds.findings import Catalogue, Finding, Rule, Where
from xds.model import Code
from xds.xml import Element

RULES = Catalogue("security")
SAML_VERSION = RULES["V-SEC-XUA-SAML-VERSION"]
INSTANT = RULES["V-SEC-XUA-INSTANT"]
EXPIRED = RULES["V-SEC-XUA-EXPIRED"]
NOT_YET = RULES["V-SEC-XUA-NOT-YET-VALID"]
LIFETIME = RULES["V-SEC-XUA-LIFETIME"]
CONDITIONS = RULES["V-SEC-XUA-CONDITIONS"]
AUDIENCE = RULES["V-SEC-XUA-AUDIENCE"]
ONE_TIME = RULES["V-SEC-XUA-ONE-TIME"]
STATEMENTS = RULES["V-SEC-XUA-AUTHN-STATEMENTS"]
CONTEXT_UNKNOWN = RULES["V-SEC-XUA-CONTEXT-UNKNOWN"]
CONTEXT = RULES["V-SEC-XUA-CONTEXT-REFUSED"]
CONFIRMATION = RULES["V-SEC-XUA-CONFIRMATION"]
HOLDER = RULES["V-SEC-XUA-HOLDER-DIFFERS"]
HOLDER_UNCHECKED = RULES["V-SEC-XUA-HOLDER-UNCHECKED"]
SEVERAL = RULES["V-SEC-XUA-SEVERAL"]
GRANTED = RULES["V-SEC-XUA-NOT-GRANTED"]
ABSENT = RULES["V-SEC-XUA-ATTRIBUTE-ABSENT"]

_NONE = "–"


@cache
def _table(name: str, key: str) -> frozenset[str]:
    data = tomllib.loads(resources.files("security").joinpath("xua.toml").read_text("utf-8"))
    return frozenset(data[name][key])


def _contexts() -> frozenset[str]:
    return frozenset(names.CONTEXTS + name for name in _table("contexts", "accepted"))


@dataclass(frozen=True, slots=True)
class XuaPolicy:
    """Settings. `audiences` are the names under which issuers know this server, at least one.

    `roles` and `purposes` hold what is granted as `code^^system` (`*` for every code), None anything. `tls_required`:
    whether a key to be held must be seen in TLS (not on the plain test door). `max_lifetime` is our decision.
    """

    audiences: frozenset[str]
    clock_skew: timedelta = timedelta(seconds=60)
    max_lifetime: timedelta = timedelta(hours=24)
    contexts: frozenset[str] = field(default_factory=_contexts)
    roles: frozenset[str] | None = field(default_factory=lambda: _table("roles", "accepted"))
    purposes: frozenset[str] | None = field(default_factory=lambda: _table("purposes", "accepted"))
    tls_required: bool = True
    allow_sha1: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """An assertion whose signature holds, the certificate of the TLS client (None: none), the time, the settings."""

    assertion: Assertion
    certificate: x509.Certificate | None
    at: datetime
    policy: XuaPolicy


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Everything that reading and the rules have to say."""
    return (*evidence.assertion.findings, *(found for rule in RULES_IN_ORDER for found in rule(evidence)))


# --- time and place ------------------------------------------------------------------------------------------------


def check_version(evidence: Evidence) -> Iterator[Finding]:
    """SAML 2.0 core §2.3.3: Version is 2.0."""
    if evidence.assertion.saml_version != "2.0":
        yield SAML_VERSION.at(_at("/@Version"), expected="2.0", received=evidence.assertion.saml_version)


def check_issued(evidence: Evidence) -> Iterator[Finding]:
    """IssueInstant is a time with a zone, not after now."""
    yield from _bounds("", "IssueInstant", evidence.assertion.issue_instant, evidence, NOT_YET)


def check_conditions(evidence: Evidence) -> Iterator[Finding]:
    """ITI TF-2 §3.40.4.1.2: NotBefore, NotOnOrAfter and AudienceRestriction are there and hold."""
    assertion, policy = evidence.assertion, evidence.policy
    period = assertion.period or Period()
    absent = [name for name, there in (("@NotBefore", period.not_before), ("@NotOnOrAfter", period.not_on_or_after),
                                       ("AudienceRestriction", assertion.audiences)) if not there]
    if absent or assertion.unknown_conditions:
        yield CONDITIONS.at(_at("/Conditions"), expected="@NotBefore, @NotOnOrAfter, AudienceRestriction",
                            received=_shown([f"– {name}" for name in absent] + list(assertion.unknown_conditions)))
    yield from _period("/Conditions", period, evidence)
    for audiences in assertion.audiences:
        if not policy.audiences.intersection(audiences):
            yield AUDIENCE.at(_at("/Conditions/AudienceRestriction"), expected=_shown(sorted(policy.audiences)),
                              received=_shown(audiences))
    if assertion.one_time:
        yield ONE_TIME.at(_at("/Conditions/OneTimeUse"))


def check_lifetime(evidence: Evidence) -> Iterator[Finding]:
    """An assertion good for years is a password."""
    period = evidence.assertion.period or Period()
    first, last = _moment(period.not_before), _moment(period.not_on_or_after)
    if first and last and last - first > evidence.policy.max_lifetime:
        yield LIFETIME.at(_at("/Conditions"), expected=f"≤ {evidence.policy.max_lifetime}", received=last - first)


def check_context(evidence: Evidence) -> Iterator[Finding]:
    """One AuthnStatement with one context, of the list of SAML and of ours, its session not over."""
    assertion, place = evidence.assertion, _at("/AuthnStatement")
    if assertion.statements != 1 or len(assertion.contexts) != 1:
        yield STATEMENTS.at(place, expected="1 AuthnStatement, 1 AuthnContextClassRef",
                            received=f"{assertion.statements}, {len(assertion.contexts)}")
    known = {names.CONTEXTS + name for name in _table("contexts", "known")} | evidence.policy.contexts
    for context in assertion.contexts:
        if context not in known:
            yield CONTEXT_UNKNOWN.at(place, expected=f"{names.CONTEXTS}…", received=context)
        elif context not in evidence.policy.contexts:
            yield CONTEXT.at(place, expected=_shown(_last(sorted(evidence.policy.contexts))), received=context)
    yield from _bounds("/AuthnStatement", "SessionNotOnOrAfter", assertion.session_end, evidence, EXPIRED, True)


def _period(path: str, period: Period, evidence: Evidence) -> Iterator[Finding]:
    yield from _bounds(path, "NotBefore", period.not_before, evidence, NOT_YET, True)
    yield from _bounds(path, "NotOnOrAfter", period.not_on_or_after, evidence, EXPIRED, True)


def _bounds(path: str, name: str, text: str, evidence: Evidence, rule: Rule, may_be_absent: bool = False
            ) -> Iterator[Finding]:
    """A time that is readable, has a zone and lies on the right side of now: behind for NOT_YET, ahead for EXPIRED."""
    bound, place = _moment(text), _at(f"{path}/@{name}")
    at, skew = evidence.at, evidence.policy.clock_skew
    if bound is None:
        if text or not may_be_absent:
            yield INSTANT.at(place, expected="2026-01-31T09:00:00.000Z", received=text or _NONE, name=name)
    elif (bound > at + skew) if rule is NOT_YET else (at - skew >= bound):
        yield rule.at(place, expected=text, received=at.isoformat(), name=name)


# --- who -----------------------------------------------------------------------------------------------------------


def check_confirmation(evidence: Evidence) -> Iterator[Finding]:
    """ITI TF-2 §3.40.4.1.2: bearer, or holder of the key that TLS saw (SAML V2.0 Holder-of-Key §2)."""
    confirmations, place = evidence.assertion.confirmations, _at("/Subject/SubjectConfirmation")
    if len(confirmations) != 1 or confirmations[0].method not in (BEARER, HOLDER_OF_KEY):
        yield CONFIRMATION.at(place, expected=f"{BEARER} | {HOLDER_OF_KEY}",
                              received=_shown(one.method for one in confirmations))
        return
    yield from _period("/Subject/SubjectConfirmation/SubjectConfirmationData", confirmations[0].period, evidence)
    if confirmations[0].method != HOLDER_OF_KEY:
        return
    if evidence.certificate is not None:
        if not holds(evidence.certificate, confirmations[0].keys):
            yield HOLDER.at(place, expected="ds:KeyInfo = TLS", received=evidence.certificate.subject.rfc4514_string())
    elif evidence.policy.tls_required:
        yield HOLDER.at(place, expected="TLS", received=_NONE)
    else:
        yield HOLDER_UNCHECKED.at(place, expected="TLS", received=_NONE)


def holds(certificate: x509.Certificate, keys: Iterable[Element]) -> bool:
    """Whether one of the KeyInfo elements names the certificate's public key, by certificate or by RSA key value."""
    public = certificate.public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for key_info in keys:
        named = key_info_certificate(key_info)
        if named is not None:
            if named.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == spki:
                return True
        elif isinstance(public, rsa.RSAPublicKey) and _rsa_numbers(key_info) == public.public_numbers():
            return True
    return False


def _rsa_numbers(key_info: Element) -> rsa.RSAPublicNumbers | None:
    """Of `KeyValue/RSAKeyValue`, the only child of each."""
    element = key_info
    for name in ("KeyValue", "RSAKeyValue"):
        inner = children(element)
        if len(inner) != 1 or inner[0].tag != f"{{{DS}}}{name}":
            return None
        element = inner[0]
    numbers = [decode(leaf_text(part)) for part in children(element)]
    if [part.tag for part in children(element)] != [f"{{{DS}}}Modulus", f"{{{DS}}}Exponent"] or None in numbers:
        return None
    modulus, exponent = (int.from_bytes(number or b"") for number in numbers)
    return rsa.RSAPublicNumbers(exponent, modulus)


def check_role(evidence: Evidence) -> Iterator[Finding]:
    """At most one role, and a granted one (ITI TF-2 §3.40.4.1.2.1)."""
    yield from _one_granted(names.ROLE, evidence.assertion.roles, evidence.policy.roles)


def check_purpose(evidence: Evidence) -> Iterator[Finding]:
    """At most one purpose of use, and a granted one (ITI TF-2 §3.40.4.1.2.3)."""
    yield from _one_granted(names.PURPOSE, evidence.assertion.purposes, evidence.policy.purposes)


def _one_granted(name: str, codes: Collection[Code], granted: frozenset[str] | None) -> Iterator[Finding]:
    place = _at(f"/AttributeStatement/Attribute[@Name='{name}']")
    if not codes:
        yield ABSENT.at(place, expected=name, received=_NONE)
    if len(codes) > 1:
        yield SEVERAL.at(place, expected=1, received=_shown(codes), name=name)
    for code in codes:
        if granted is not None and granted.isdisjoint((str(code), f"*^^{code.scheme}")):
            yield GRANTED.at(place, expected=_shown(sorted(granted)), received=f"{code} {code.display}".strip(),
                             name=name)


RULES_IN_ORDER: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    check_version, check_issued, check_conditions, check_lifetime, check_context, check_confirmation, check_role,
    check_purpose)


# --- small things --------------------------------------------------------------------------------------------------


def _moment(text: str) -> datetime | None:
    """A time with a zone, None for anything else."""
    instant = read_instant(text)
    return instant if instant and instant.tzinfo else None


def _last(contexts: Iterable[str]) -> Iterator[str]:
    return (context.rpartition(":")[2] for context in contexts)


def _shown(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or _NONE


def _at(path: str) -> Where:
    return Where(PART, path=f"/Assertion{path}")
