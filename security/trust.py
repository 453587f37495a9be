"""Whether a certificate is genuine, in force and presented for what it is made for.

Signatures and constraints of the chain are the library's work (RFC 5280 §6); what a card is for, whose authority may
say what, which range is at home here and revocation are checked here.

    Trust         one state of anchors and revocation lists, never changed; `verify` gives the Identity or `Refused`
    TrustStore    a folder of them, read again when a file changes
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from security.anchors import (
    Authority,
    RevocationList,
    TrustError,
    authority_of,
    common_name,
    read_authorities,
    read_lists,
)
from security.cards import CERTIFICATE, check_strength, describe, read_identity
from security.identity import Identity, Kind
from xds.findings import Catalogue, Finding, Refused, Rule, Severity

RULES = Catalogue("security")
SELF_SIGNED = RULES["V-SEC-CHAIN-SELF-SIGNED"]
UNKNOWN_ISSUER = RULES["V-SEC-CHAIN-UNKNOWN-ISSUER"]
FORGED = RULES["V-SEC-CHAIN-FORGED"]
EXPIRED = RULES["V-SEC-CHAIN-EXPIRED"]
NOT_YET_VALID = RULES["V-SEC-CHAIN-NOT-YET-VALID"]
AUTHORITY_DATES = RULES["V-SEC-CHAIN-AUTHORITY-DATES"]
INVALID = RULES["V-SEC-CHAIN-INVALID"]
WRONG_AUTHORITY = RULES["V-SEC-CHAIN-WRONG-AUTHORITY"]
REVOKED = RULES["V-SEC-CRL-REVOKED"]
CRL_MISSING = RULES["V-SEC-CRL-MISSING"]
CRL_STALE = RULES["V-SEC-CRL-STALE"]
TEST_CARD = RULES["V-SEC-CARD-TEST"]
PRODUCTION_CARD = RULES["V-SEC-CARD-PRODUCTION"]
SIGNATURE_FOR_AUTHENTICATION = RULES["V-SEC-CARD-SIGNATURE-FOR-AUTHENTICATION"]
AUTHENTICATION_FOR_SIGNATURE = RULES["V-SEC-CARD-AUTHENTICATION-FOR-SIGNATURE"]
NOT_FOR_AUTHENTICATION = RULES["V-SEC-CARD-NOT-FOR-AUTHENTICATION"]
NOT_FOR_SIGNATURE = RULES["V-SEC-CARD-NOT-FOR-SIGNATURE"]

CrlPolicy = Literal["strict", "lenient"]


# --- what a certificate is for ---------------------------------------------------------------------------------------


class Purpose(StrEnum):
    """What a certificate is presented for: the TLS connection, or the signature of a VIHF or submission set."""

    AUTHENTICATION = "authentication"
    SIGNATURE = "signature"


@dataclass(frozen=True, slots=True)
class _Usage:
    """Key usages a purpose needs and may have besides, and the extended one it needs."""

    needed: frozenset[str]
    allowed: frozenset[str]
    extended: str

    def fits(self, usages: Collection[str], extended: Collection[str]) -> bool:
        return self.needed <= set(usages) <= self.needed | self.allowed and self.extended in extended


# IGC-Santé: a person's signature key is for non-repudiation and nothing else; cards may have keyEncipherment added.
_AUTHENTICATION = _Usage(frozenset({"digitalSignature"}), frozenset({"keyEncipherment"}), "clientAuth")
_USAGES: dict[tuple[Kind, Purpose], _Usage] = {
    (Kind.PERSON, Purpose.AUTHENTICATION): _AUTHENTICATION,
    (Kind.ORGANISATION, Purpose.AUTHENTICATION): _AUTHENTICATION,
    (Kind.PERSON, Purpose.SIGNATURE): _Usage(frozenset({"nonRepudiation"}), frozenset(), "emailProtection"),
    (Kind.ORGANISATION, Purpose.SIGNATURE): _Usage(
        frozenset({"nonRepudiation"}), frozenset({"digitalSignature"}), "emailProtection"),
}
_OTHER = {Purpose.AUTHENTICATION: Purpose.SIGNATURE, Purpose.SIGNATURE: Purpose.AUTHENTICATION}
# (purpose, whether the certificate is made for the other one) -> rule
_MISUSES: dict[tuple[Purpose, bool], Rule] = {
    (Purpose.AUTHENTICATION, True): SIGNATURE_FOR_AUTHENTICATION,
    (Purpose.AUTHENTICATION, False): NOT_FOR_AUTHENTICATION,
    (Purpose.SIGNATURE, True): AUTHENTICATION_FOR_SIGNATURE,
    (Purpose.SIGNATURE, False): NOT_FOR_SIGNATURE,
}
_KEY_USAGES = {  # RFC 5280 §4.2.1.3, in its order: attribute of cryptography's class -> name
    "digital_signature": "digitalSignature", "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment", "data_encipherment": "dataEncipherment", "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign", "crl_sign": "cRLSign"}
_EXTENDED = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth", ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "emailProtection", ExtendedKeyUsageOID.SMARTCARD_LOGON: "smartcardLogon"}


def _check_usage(certificate: x509.Certificate, kind: Kind, purpose: Purpose) -> None:
    usages, extended = _usages(certificate)
    wanted = _USAGES[kind, purpose]
    if wanted.fits(usages, extended):
        return
    rule = _MISUSES[purpose, _USAGES[kind, _OTHER[purpose]].fits(usages, extended)]
    raise _refused(rule, certificate, ", ".join([*wanted.needed, wanted.extended]),
                   ", ".join([*usages, *extended]) or "–")


def _usages(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """Key usages (none unless the extension is critical, RFC 5280 §4.2.1.3) and extended key usages, by name."""
    usages: list[str] = []
    extended: list[str] = []
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage) and extension.critical:
            usages = [name for attribute, name in _KEY_USAGES.items() if getattr(value, attribute)]
        elif isinstance(value, x509.ExtendedKeyUsage):
            extended = [_EXTENDED.get(oid, oid.dotted_string) for oid in value]
    return usages, extended


# --- one state of trust ----------------------------------------------------------------------------------------------

_AUTHORITY_OF = {Kind.PERSON: " PERSONNES", Kind.ORGANISATION: " ORGANISATIONS"}  # how the issuer's name ends

# The verifier's default policy is that of the web and refuses every card, for want of a subjectAltName. Leaves may
# therefore hold anything here; what a card must hold is checked by `_check_usage` and `read_identity`.
_LEAF_POLICY, _AUTHORITY_POLICY = ExtensionPolicy.permit_all(), ExtensionPolicy.webpki_defaults_ca()
_INTERMEDIATES = 1  # leaf, PERSONNES or ORGANISATIONS, root
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class _Verified:
    """What stays true of a certificate as long as the anchors do: its holder, the period of its whole chain, and each
    certificate of it with its issuer.
    """

    identity: Identity
    since: datetime
    until: datetime
    links: tuple[tuple[x509.Certificate, Authority], ...]

    def holds(self, at: datetime) -> bool:
        return self.since <= at <= self.until


class _Memory:
    """The certificates verified last, a bounded number; shared by threads."""

    def __init__(self, size: int = _REMEMBERED) -> None:
        self._size, self._lock = size, threading.Lock()
        self._known: OrderedDict[tuple[bytes, Purpose], _Verified] = OrderedDict()

    def get(self, key: tuple[bytes, Purpose]) -> _Verified | None:
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
            return found

    def put(self, key: tuple[bytes, Purpose], value: _Verified) -> None:
        with self._lock:
            self._known[key] = value
            if len(self._known) > self._size:
                self._known.popitem(last=False)


@dataclass(frozen=True, slots=True, eq=False)
class Trust:
    """Anchors and revocation lists at one moment. `epoch` names this state: what was cached under another is void.

    `accept_test` says which range of cards is at home here (the other is refused, both ways); `crl_policy` whether a
    missing or outdated list refuses ("strict") or lets pass what no list names ("lenient").
    """

    authorities: tuple[Authority, ...]
    lists: Mapping[str, RevocationList]
    accept_test: bool
    crl_policy: CrlPolicy
    epoch: str
    _store: Store = field(repr=False)
    _memory: _Memory = field(default_factory=_Memory, repr=False)

    @classmethod
    def load(cls, folder: Path, *, accept_test: bool = True, crl_policy: CrlPolicy = "strict") -> Trust:
        """`ca.pem`, `crl.pem` and `*.crl` (PEM or DER) of a folder; TrustError names the file at fault."""
        try:
            anchors, *lists = [(path.name, path.read_bytes()) for path in _files(folder)]
            return cls.of(dict([anchors]), dict(lists), accept_test=accept_test, crl_policy=crl_policy)
        except (OSError, TrustError) as error:
            raise TrustError(f"{folder}: {error}") from error

    @classmethod
    def of(cls, anchors: Mapping[str, bytes], lists: Mapping[str, bytes], *, accept_test: bool = True,
           crl_policy: CrlPolicy = "strict") -> Trust:
        """From bytes by file name: certificates (PEM) of roots and intermediates; revocation lists (PEM or DER)."""
        authorities = read_authorities(anchors, accept_test)
        known = read_lists(lists, authorities)
        roots = [authority.certificate for authority in authorities if authority.is_root]
        parts = sorted([authority.certificate.fingerprint(SHA256()) for authority in authorities]
                       + [listed.fingerprint for listed in known.values()])
        epoch = hashlib.sha256(b"".join(parts) + f"{accept_test} {crl_policy}".encode()).hexdigest()
        return cls(authorities, known, accept_test, crl_policy, epoch, Store(roots))

    def verify(self, certificate: x509.Certificate, purpose: Purpose, at: datetime) -> Identity:
        """Whom the certificate proves, for that purpose and (aware) moment; `Refused` with the reason otherwise.

        A chain verified once under these anchors is not verified again; dates and revocation are, each time.
        """
        key = (certificate.fingerprint(SHA256()), purpose)
        known = self._memory.get(key)
        if known is None or not known.holds(at):
            known = self._examine(certificate, purpose, at)
            self._memory.put(key, known)
        for link, issuer in known.links:
            self._check_revocation(link, issuer, at)
        return known.identity

    def problems(self, at: datetime) -> list[Finding]:
        """Missing and outdated revocation lists (warnings under the lenient policy), for whoever looks after them."""
        severity = None if self.crl_policy == "strict" else Severity.WARNING
        found = [self._gap(authority.certificate, authority, at) for authority in self.authorities]
        return [replace(finding, severity_override=severity) for finding in found if finding]

    def _examine(self, certificate: x509.Certificate, purpose: Purpose, at: datetime) -> _Verified:
        check_strength(certificate)
        self._check_issuer(certificate)
        _check_dates(certificate, at)
        chain = self._chain(certificate, at)
        identity = read_identity(certificate)
        _check_authority(certificate, identity, common_name(chain[1].subject))
        _check_usage(certificate, identity.kind, purpose)
        self._check_range(certificate, identity)
        return _Verified(identity, max(link.not_valid_before_utc for link in chain),
                         min(link.not_valid_after_utc for link in chain),
                         tuple((link, authority_of(issuer)) for link, issuer in pairwise(chain)))

    def _check_issuer(self, certificate: x509.Certificate) -> None:
        if any(authority.certificate.subject == certificate.issuer for authority in self.authorities):
            return
        known = " · ".join(authority.name for authority in self.authorities if not authority.is_root)
        if certificate.issuer == certificate.subject:
            raise _refused(SELF_SIGNED, certificate, known, common_name(certificate.issuer))
        # A card of the other range comes from authorities unknown here: say which card it is rather than that.
        self._check_range(certificate, read_identity(certificate))
        raise _refused(UNKNOWN_ISSUER, certificate, known, common_name(certificate.issuer))

    def _chain(self, certificate: x509.Certificate, at: datetime) -> list[x509.Certificate]:
        """Leaf, intermediate, root: signatures, constraints and dates of the authorities (RFC 5280 §6.1)."""
        verifier = (PolicyBuilder().store(self._store).time(at.astimezone(UTC)).max_chain_depth(_INTERMEDIATES)
                    .extension_policies(ca_policy=_AUTHORITY_POLICY, ee_policy=_LEAF_POLICY).build_client_verifier())
        try:
            return verifier.verify(certificate, [authority.certificate for authority in self.authorities]).chain
        except (VerificationError, ValueError) as error:
            raise Refused(self._diagnose(certificate, at, error)) from error

    def _diagnose(self, certificate: x509.Certificate, at: datetime, error: Exception) -> Finding:
        """Which link failed: the verifier only says that no chain holds."""
        signers = [authority for authority in self.authorities if authority.signed(certificate)]
        if not signers:
            return _finding(FORGED, certificate, "", common_name(certificate.issuer))
        above = [root for root in self.authorities if any(root.signed(signer.certificate) for signer in signers)]
        for authority in (*signers, *above):
            if not authority.certificate.not_valid_before_utc <= at <= authority.certificate.not_valid_after_utc:
                return _finding(AUTHORITY_DATES, certificate, _moment(at), authority.name)
        return _finding(INVALID, certificate, "", error)

    def _check_range(self, certificate: x509.Certificate, identity: Identity) -> None:
        if identity.is_test != self.accept_test:
            rule, expected = (PRODUCTION_CARD, "80, 83") if self.accept_test else (TEST_CARD, "00, 03")
            raise _refused(rule, certificate, expected, f"{identity.product_category:02X}")

    def _check_revocation(self, certificate: x509.Certificate, issuer: Authority, at: datetime) -> None:
        """There must be a current list of the issuer, and the certificate not on it (RFC 5280 §6.3)."""
        listed = self.lists.get(issuer.id)
        entry = listed.entry(certificate.serial_number) if listed else None
        if entry:
            # Whatever `at` says: the time in a signature is claimed by the very key that is no longer trusted.
            raise _refused(REVOKED, certificate, "", _moment(entry[0]), reason=entry[1])
        gap = self._gap(certificate, issuer, at) if self.crl_policy == "strict" else None
        if gap:
            raise Refused(gap)

    def _gap(self, certificate: x509.Certificate, issuer: Authority, at: datetime) -> Finding | None:
        listed = self.lists.get(issuer.id)
        if listed is None:
            return _finding(CRL_MISSING, certificate, "", issuer.name)
        if at > listed.next_update:
            return _finding(CRL_STALE, certificate, _moment(listed.next_update), issuer.name)
        return None


def _check_dates(certificate: x509.Certificate, at: datetime) -> None:
    if at < certificate.not_valid_before_utc:
        raise _refused(NOT_YET_VALID, certificate, _moment(certificate.not_valid_before_utc), _moment(at))
    if at > certificate.not_valid_after_utc:
        raise _refused(EXPIRED, certificate, _moment(certificate.not_valid_after_utc), _moment(at))


def _check_authority(certificate: x509.Certificate, identity: Identity, issuer: str) -> None:
    """Persons are known from `… PERSONNES` authorities only, organisations from `… ORGANISATIONS` only."""
    ending = _AUTHORITY_OF[identity.kind]
    if not issuer.endswith(ending):
        raise _refused(WRONG_AUTHORITY, certificate, f"…{ending}", issuer)


def _finding(rule: Rule, certificate: x509.Certificate, expected: object, received: object, **values: object
             ) -> Finding:
    return rule.at(CERTIFICATE, expected=expected, received=received, **describe(certificate), **values)


def _refused(rule: Rule, certificate: x509.Certificate, expected: object, received: object, **values: object
             ) -> Refused:
    return Refused(_finding(rule, certificate, expected, received, **values))


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


# --- a folder that changes -------------------------------------------------------------------------------------------


class TrustStore:
    """The Trust of a folder, read again when one of its files changes; shared by threads.

    The first reading raises TrustError. A later one that fails keeps the state before it and says why in `problem`:
    a list half-written must not stop the server, and an outdated one soon refuses by itself.
    """

    def __init__(self, folder: Path, *, accept_test: bool = True, crl_policy: CrlPolicy = "strict",
                 every: float = 1.0) -> None:
        """Read the folder; look again at most once in `every` seconds."""
        self.folder, self.problem = folder, ""
        self._accept_test, self._crl_policy, self._every = accept_test, crl_policy, every
        self._lock = threading.Lock()
        self._next = time.monotonic() + every
        self._seen: Stamp | None = _stamp(folder)
        self._trust = self._load()

    def current(self) -> Trust:
        """The Trust of the files as they are, or were a moment ago."""
        if time.monotonic() >= self._next and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._trust

    def verify(self, certificate: x509.Certificate, purpose: Purpose, at: datetime) -> Identity:
        """As `Trust.verify`, with the files as they are."""
        return self.current().verify(certificate, purpose, at)

    def _look(self) -> None:
        self._next, stamp = time.monotonic() + self._every, _stamp(self.folder)
        if stamp == self._seen:
            return
        # Two changes within one tick of the clock may look like none: what is that fresh is read once more.
        self._seen = stamp if _is_settled(stamp) else None
        try:
            loaded, self.problem = self._load(), ""
            if loaded.epoch != self._trust.epoch:
                self._trust = loaded
        except TrustError as error:
            self.problem = str(error)

    def _load(self) -> Trust:
        return Trust.load(self.folder, accept_test=self._accept_test, crl_policy=self._crl_policy)


def _files(folder: Path) -> list[Path]:
    """`ca.pem`, then the revocation lists that are there."""
    return [folder / "ca.pem", *folder.glob("crl.pem"), *sorted(folder.glob("*.crl"))]


Stamp = tuple[tuple[str, int, int, int], ...]
_SETTLING = 1_000_000_000  # nanoseconds


def _is_settled(stamp: Stamp) -> bool:
    """Whether no file changed so lately that another change could have the same stamp."""
    return all(changed < time.time_ns() - _SETTLING for _, changed, _, _ in stamp)


def _stamp(folder: Path) -> Stamp:
    """Name, time, size and inode of each file: changes with any of them."""
    stamps = []
    for path in _files(folder):
        try:
            state = path.stat()
        except OSError:  # not there, or gone since the listing: that it comes back is a change as well
            stamps.append((path.name, 0, 0, 0))
        else:
            stamps.append((path.name, state.st_mtime_ns, state.st_size, state.st_ino))
    return tuple(stamps)
