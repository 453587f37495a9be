"""What a VIHF must be: its claims against the clock, the settings and the certificates; all findings at once.

One function a subject, each yields; `RULES_IN_ORDER` is the list. A mismatch names what stands in the certificate
(expected) and what stands in the token (received).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from security import vihf_names as names
from security.distinguished import Pairs, read_name
from security.identity import AccessMode, Authentication, Identity, Kind
from security.vihf_token import Token
from security.xmldsig import read_instant
from xds.findings import Catalogue, Finding, Rule, Severity, Where

RULES = Catalogue("security")
SAML_VERSION = RULES["V-SEC-VIHF-SAML-VERSION"]
INSTANT = RULES["V-SEC-VIHF-INSTANT"]
FUTURE = RULES["V-SEC-VIHF-FUTURE"]
EXPIRED = RULES["V-SEC-VIHF-EXPIRED"]
NOT_YET = RULES["V-SEC-VIHF-NOT-YET-VALID"]
OVER = RULES["V-SEC-VIHF-OVER"]
AUDIENCE = RULES["V-SEC-VIHF-AUDIENCE"]
ONE_TIME = RULES["V-SEC-VIHF-ONE-TIME"]
CONTEXT = RULES["V-SEC-VIHF-CONTEXT"]
CONTEXT_MODE = RULES["V-SEC-VIHF-CONTEXT-MODE"]
DECLARATION = RULES["V-SEC-VIHF-CONTEXT-DECLARATION"]
VERSION = RULES["V-SEC-VIHF-VERSION"]
RESOURCE_URN = RULES["V-SEC-VIHF-RESOURCE-URN"]
NAME_MISSING = RULES["V-SEC-VIHF-NAME-MISSING"]
CONFIDENTIALITY = RULES["V-SEC-VIHF-CONFIDENTIALITY"]
PURPOSE = RULES["V-SEC-VIHF-PURPOSE"]
REASON_MISSING = RULES["V-SEC-VIHF-REASON-MISSING"]
REASON_UNUSED = RULES["V-SEC-VIHF-REASON-UNUSED"]
PROFESSIONS = RULES["V-SEC-VIHF-PROFESSIONS"]
SPECIALITY_MISSING = RULES["V-SEC-VIHF-SPECIALITY-MISSING"]
ISSUER = RULES["V-SEC-VIHF-ISSUER"]
MODE_PERSON = RULES["V-SEC-VIHF-MODE-PERSON"]
MODE_STRUCTURE = RULES["V-SEC-VIHF-MODE-STRUCTURE"]
NAME_ID = RULES["V-SEC-VIHF-NAME-ID-DIFFERS"]
PROFESSION = RULES["V-SEC-VIHF-PROFESSION-DIFFERS"]
SPECIALITY = RULES["V-SEC-VIHF-SPECIALITY-DIFFERS"]
STRUCTURE = RULES["V-SEC-VIHF-STRUCTURE-DIFFERS"]
HOLDER_UNCHECKED = RULES["V-SEC-VIHF-HOLDER-UNCHECKED"]
HOLDER_KIND = RULES["V-SEC-VIHF-HOLDER-KIND"]
HOLDER = RULES["V-SEC-VIHF-HOLDER-DIFFERS"]

DOCTOR, PHARMACIST = "10", "21"
_NONE = "–"


@dataclass(frozen=True, slots=True)
class VihfPolicy:
    """Settings. The DMP's own validity is not public: five minutes are our decision.

    `one_time` asks the server to take each assertion once only; without TLS it must in any case (`single_use`).
    """

    max_age: timedelta = timedelta(seconds=300)
    clock_skew: timedelta = timedelta(seconds=60)
    tls_required: bool = True
    one_time: bool = False
    allow_sha1: bool = False
    issuer_must_match: bool = False
    versions: frozenset[str] = frozenset({"2.0", "3.0", "4.0"})
    purpose_systems: frozenset[str] = frozenset({names.ACCESS_MODES})
    resource_urns: frozenset[str] = frozenset({"urn:dmp"})
    audiences: frozenset[str] = frozenset({"urn:dmp"})


@dataclass(frozen=True, slots=True)
class Evidence:
    """A token with what was proved of it: who signed, under which name, who holds the TLS key (None: no TLS)."""

    token: Token
    signer: Identity
    signer_name: Pairs
    holder: Identity | None
    at: datetime
    policy: VihfPolicy


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Everything that reading and the rules have to say."""
    return (*evidence.token.findings, *(found for rule in RULES_IN_ORDER for found in rule(evidence)))


# --- time ----------------------------------------------------------------------------------------------------------


def check_version(evidence: Evidence) -> Iterator[Finding]:
    """SAML 2.0 core §2.3.3: Version is 2.0."""
    if evidence.token.saml_version != "2.0":
        yield SAML_VERSION.at(_at("/@Version"), expected="2.0", received=evidence.token.saml_version)


def check_age(evidence: Evidence) -> Iterator[Finding]:
    """IssueInstant: with zone, not after now (but for the skew), not older than the policy allows."""
    policy, text = evidence.policy, evidence.token.issue_instant
    issued, place = read_instant(text), _at("/@IssueInstant")
    if issued is None or issued.tzinfo is None:
        yield INSTANT.at(place, expected="2026-01-31T09:00:00.000Z", received=text, name="IssueInstant")
    elif issued > evidence.at + policy.clock_skew:
        yield FUTURE.at(place, expected=f"≤ {evidence.at:%Y-%m-%dT%H:%M:%S%z} + {policy.clock_skew}", received=text)
    elif evidence.at - issued > policy.max_age:
        yield EXPIRED.at(place, expected=f"≤ {policy.max_age}", received=evidence.at - issued, issued=text)


def check_conditions(evidence: Evidence) -> Iterator[Finding]:
    """Conditions are optional; those present hold (SAML 2.0 core §2.5.1)."""
    said, at, skew = evidence.token.conditions, evidence.at, evidence.policy.clock_skew
    yield from _bound("NotBefore", said.not_before, NOT_YET, at, lambda bound: bound <= at + skew)
    yield from _bound("NotOnOrAfter", said.not_on_or_after, OVER, at, lambda bound: at - skew < bound)
    if said.audiences is not None and not evidence.policy.audiences.intersection(said.audiences):
        yield AUDIENCE.at(_at("/Conditions/AudienceRestriction"), expected=_shown(evidence.policy.audiences),
                          received=_shown(said.audiences))
    if said.one_time:
        yield ONE_TIME.at(_at("/Conditions/OneTimeUse"))


def _bound(name: str, text: str, rule: Rule, at: datetime, holds: Callable[[datetime], bool]) -> Iterator[Finding]:
    """One optional bound: readable, with a zone, and holding."""
    bound, place = read_instant(text), _at(f"/Conditions/@{name}")
    if text and (bound is None or bound.tzinfo is None):
        yield INSTANT.at(place, expected="2026-01-31T09:00:00.000Z", received=text, name=name)
    elif bound and not holds(bound):
        yield rule.at(place, expected=text, received=at.isoformat())


# --- settings ------------------------------------------------------------------------------------------------------


def check_context(evidence: Evidence) -> Iterator[Finding]:
    """How the user was authenticated fits the mode claimed."""
    token, mode = evidence.token, _mode(evidence.token)
    place = _at("/AuthnStatement/AuthnContext")
    if not token.context.startswith(names.CONTEXTS) or not token.context.isascii():
        yield CONTEXT.at(place, expected=f"{names.CONTEXTS}…", received=token.context)
    elif mode is Authentication.DIRECTE and token.context != names.SMARTCARD:
        yield CONTEXT_MODE.at(place, expected=names.SMARTCARD, received=token.context, other=mode)
    if mode is Authentication.INDIRECTE_RENFORCEE and token.context_declaration not in names.DECLARATIONS:
        yield DECLARATION.at(place, expected=_shown(names.DECLARATIONS), received=token.context_declaration or _NONE)


def check_attributes(evidence: Evidence) -> Iterator[Finding]:
    """Version, resource, user's name and secret connection are ones that this server knows."""
    token, policy = evidence.token, evidence.policy
    version, urn = token.text("vihf_version"), token.text("resource_urn")
    if version and version not in policy.versions:
        yield VERSION.at(_of(names.VERSION), expected=_shown(policy.versions), received=version)
    if urn and urn not in policy.resource_urns:
        yield RESOURCE_URN.at(_of(names.RESOURCE_URN), expected=_shown(policy.resource_urns), received=urn)
    if _mode(token) in _INDIRECT and not token.text("name").strip():
        yield NAME_MISSING.at(_of(names.SUBJECT_ID), expected=names.SUBJECT_ID, received=_NONE)
    if token.confidentiality not in ("", "N", names.SECRET):
        yield CONFIDENTIALITY.at(_of(names.CONFIDENTIALITY), expected=names.SECRET, received=token.confidentiality)


def check_purpose(evidence: Evidence) -> Iterator[Finding]:
    """Mode of access: known, of the known list, with a reason when the glass is broken."""
    token, code, reason = evidence.token, evidence.token.purpose, evidence.token.text("reason").strip()
    if code is None:
        return
    systems = evidence.policy.purpose_systems
    if code.code not in list(AccessMode) or code.scheme not in systems:
        yield PURPOSE.at(_of(names.PURPOSE), received=code,
                         expected=f"{_shown(AccessMode)} ^^ {_shown(systems)}")
    if code.code == AccessMode.BRIS_DE_GLACE and not reason:
        yield REASON_MISSING.at(_of(names.REASON), expected=names.REASON, received=_NONE)
    if code.code == AccessMode.NORMAL and reason:
        yield REASON_UNUSED.at(_of(names.REASON), expected=_NONE, received=token.text("reason"))


def check_roles(evidence: Evidence) -> Iterator[Finding]:
    """One profession at most; doctors and pharmacists say their speciality."""
    token = evidence.token
    professions = claimed(token, names.PROFESSION)
    if len(professions) > 1:
        yield PROFESSIONS.at(_of(names.ROLE), expected=1, received=_shown(professions))
    qualified = claimed(token, names.SPECIALITY) or (professions == (PHARMACIST,) and token.roles[1:])
    if professions and professions[0] in (DOCTOR, PHARMACIST) and not qualified:
        yield SPECIALITY_MISSING.at(_of(names.ROLE), expected=f"SM26^{names.SPECIALITY}", received=_shown(token.roles))


def check_issuer(evidence: Evidence) -> Iterator[Finding]:
    """Issuer is the subject of the signing certificate, compared as a name and not as a text."""
    token = evidence.token
    if token.issuer_format != names.X509_SUBJECT or read_name(token.issuer) != evidence.signer_name:
        found = ISSUER.at(_at("/Issuer"), expected=evidence.signer.subject, received=token.issuer,
                          format=token.issuer_format or _NONE)
        yield replace(found, severity_override=Severity.ERROR) if evidence.policy.issuer_must_match else found


# --- certificates --------------------------------------------------------------------------------------------------


def check_mode(evidence: Evidence) -> Iterator[Finding]:
    """A card is DIRECTE, a structure's certificate one of the indirect modes."""
    mode, signer = _mode(evidence.token), evidence.signer
    if mode in _INDIRECT and signer.kind is Kind.PERSON:
        yield MODE_PERSON.at(_of(names.AUTHENTICATION), expected=Authentication.DIRECTE, received=mode,
                             subject=signer.subject)
    if mode is Authentication.DIRECTE and signer.kind is Kind.ORGANISATION:
        yield MODE_STRUCTURE.at(_of(names.AUTHENTICATION), expected=_shown(_INDIRECT), received=mode,
                                subject=signer.subject)


def check_signer(evidence: Evidence) -> Iterator[Finding]:
    """The claims are those of the signing certificate: a person's identity and titles, a structure's identifier."""
    signer, token = evidence.signer, evidence.token
    structure = token.text("structure_id")
    # a card's own structure: an employee's identifier names it, a professional's does not
    if signer.structure_id and structure and structure != signer.structure_id:
        yield STRUCTURE.at(_of(names.STRUCTURE), expected=signer.structure_id, received=structure)
    if signer.kind is not Kind.PERSON:
        return
    if token.name_id and token.name_id != signer.national_id:
        yield NAME_ID.at(_at("/Subject/NameID"), expected=signer.national_id, received=token.name_id)
    yield from _check_titles(signer, token)


def _check_titles(signer: Identity, token: Token) -> Iterator[Finding]:
    for system, proved in ((names.PROFESSION, signer.profession), (names.FUTURE_PROFESSION, signer.future_profession)):
        said = claimed(token, system)
        if said != ((proved,) if proved else ()):
            yield PROFESSION.at(_of(names.ROLE), expected=proved or _NONE, received=_shown(said), system=system,
                                other=_shown(token.roles))
    if foreign := [code for code in claimed(token, names.SPECIALITY) if code not in signer.specialities]:
        yield SPECIALITY.at(_of(names.ROLE), expected=_shown(signer.specialities), received=_shown(foreign))


def check_holder(evidence: Evidence) -> Iterator[Finding]:
    """The TLS certificate is the signer's own: same person, or same structure; only this binds body and token."""
    holder, signer = evidence.holder, evidence.signer
    if holder is None:
        yield HOLDER_UNCHECKED.at(Where("TLS"), expected=signer.national_id, received=_NONE)
    elif holder.kind is not signer.kind:
        yield HOLDER_KIND.at(Where("TLS"), expected=f"{signer.kind}: {signer.subject}",
                             received=f"{holder.kind}: {holder.subject}")
    elif holder.national_id != signer.national_id:
        yield HOLDER.at(Where("TLS"), expected=signer.national_id, received=holder.national_id,
                        other=evidence.token.name_id or _NONE)


RULES_IN_ORDER: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    check_version, check_age, check_conditions, check_context, check_attributes, check_purpose, check_roles,
    check_issuer, check_mode, check_signer, check_holder)


# --- small things --------------------------------------------------------------------------------------------------

_INDIRECT = (Authentication.INDIRECTE, Authentication.INDIRECTE_RENFORCEE)


def claimed(token: Token, system: str) -> tuple[str, ...]:
    """Codes of the roles of one code system, in order."""
    return tuple(role.code for role in token.roles if role.scheme == system)


def _mode(token: Token) -> Authentication | None:
    text = token.text("authentication")
    return Authentication(text) if text else None


def _shown(values: Iterable[object]) -> str:
    texts = map(str, values)
    return ", ".join(sorted(texts) if isinstance(values, frozenset) else texts) or _NONE


def _at(path: str) -> Where:
    return Where("VIHF", path=f"/Assertion{path}")


def _of(name: str) -> Where:
    return _at(f"/AttributeStatement/Attribute[@Name='{name}']")
