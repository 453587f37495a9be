"""A test PKI shaped like the IGC-Santé's, in a folder, and the cards it issues.

    FOLDER/pki/      ca.pem (trust anchors), crl.pem, server.pem, server.key; private/ has the authorities' own keys
    FOLDER/cards/    one folder per card: auth.pem, auth.key, sign.pem, sign.key, card.p12, card.json

    load_specs       the cards of `cards.toml`
    create           everything, once
    issue, revoke    one more card, one fewer

The keys protect nothing: `volet` refuses these anchors in production.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from security import cards, minting
from security.identity import CardType
from security.minting import CardSpec, Code, Defect, Issuer, Structure

PASSWORD = "volet"  # noqa: S105  of card.p12; card.json says it too: a test card protects nothing

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_KEY_BITS, _AUTHORITY_BITS = 2048, 3072
_COMPROMISED = x509.ReasonFlags.key_compromise


@dataclass(frozen=True, slots=True)
class _Authority:
    """File name in private/, common name, who signs it ("" a root), base name of its revocation list."""

    slug: str
    common_name: str
    parent: str
    point: str
    trusted: bool = True


_AUTHORITIES = {authority.slug: authority for authority in (
    _Authority("racine-fort", "TEST AC RACINE IGC-SANTE FORT", "", "ACR-FO-TEST"),
    _Authority("fort-personnes", "TEST AC IGC-SANTE FORT PERSONNES", "racine-fort", "ACI-FO-PP-TEST"),
    _Authority("racine-elementaire", "TEST AC RACINE IGC-SANTE ELEMENTAIRE", "", "ACR-EL-TEST"),
    _Authority("elementaire-personnes", "TEST AC IGC-SANTE ELEMENTAIRE PERSONNES", "racine-elementaire",
               "ACI-EL-PP-TEST"),
    _Authority("elementaire-organisations", "TEST AC IGC-SANTE ELEMENTAIRE ORGANISATIONS", "racine-elementaire",
               "ACI-EL-ORG-TEST"),
    _Authority("autre-personnes", "TEST AC AUTRE FORT PERSONNES", "", "ACI-AUTRE-TEST", trusted=False),
)}


# --- the list of cards -----------------------------------------------------------------------------------------------


def load_specs(text: str = "") -> tuple[CardSpec, ...]:
    """Cards of a TOML text (default: the room's `cards.toml`), in order; ValueError names the card at fault."""
    text = text or resources.files("security").joinpath("cards.toml").read_text("utf-8")
    return tuple(_spec(name, entry) for name, entry in tomllib.loads(text).items())


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "card_type": CardType,
    "defect": Defect,
    "structure": lambda value: Structure(**value),
    "profession": lambda value: Code(**value),
    "future_profession": lambda value: Code(**value),
    "role": lambda value: Code(**value),
    "specialities": lambda values: tuple(Code(**value) for value in values),
}


def _spec(name: str, entry: dict[str, Any]) -> CardSpec:
    try:
        if not _NAME.fullmatch(name):
            raise ValueError("a card's name has small letters, digits and hyphens")
        return CardSpec(name=name, **{key: _MAKERS[key](value) if key in _MAKERS else value
                                      for key, value in entry.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"cards.toml [{name}]: {error}") from error


# --- the folder ------------------------------------------------------------------------------------------------------


def create(folder: Path, specs: Sequence[CardSpec], now: datetime, *, names: Sequence[str] = (),
           overwrite: bool = False) -> None:
    """Make `folder/pki` and `folder/cards`. `names` are further DNS names or addresses of the TLS server.

    FileExistsError when a PKI is there, unless `overwrite`; its cards are then removed with it.
    """
    pki = folder / "pki"
    if (pki / "ca.pem").exists():
        if not overwrite:
            raise FileExistsError(f"{pki}: a test PKI is there already; with another, its cards would be strangers")
        _clear(folder)
    keys = iter(_keys([_AUTHORITY_BITS] * len(_AUTHORITIES) + [_KEY_BITS] * (2 * len(specs) + 1)))
    issuers = _make_issuers(keys, now)
    _write_issuers(_folder(pki / "private", 0o700), issuers)
    _write_server(pki, issuers["elementaire-organisations"], next(keys), names, now)
    revoked: list[x509.Certificate] = []
    for spec in specs:
        leaves = _write_card(folder, issuers, spec, (next(keys), next(keys)), now)
        revoked += leaves if spec.defect is Defect.REVOKED else ()
    trusted = [issuer for slug, issuer in issuers.items() if _AUTHORITIES[slug].trusted]
    _write_lists(pki, trusted, now, revoked)
    # Last, because it is what says that a PKI is there.
    _write(pki / "ca.pem", _pem(*(issuer.certificate for issuer in trusted)))


def issue(folder: Path, spec: CardSpec, now: datetime) -> Path:
    """Add a card to an existing PKI; its folder. FileExistsError when a card has that name."""
    home = folder / "cards" / spec.name
    if home.exists():
        raise FileExistsError(f"{home}: a card of that name is there already")
    slug = _issuer_of(spec)
    issuers = {slug: _load_issuer(folder / "pki", slug)} if slug else {}
    authentication, signature = _keys([_KEY_BITS] * 2)
    leaves = _write_card(folder, issuers, spec, (authentication, signature), now)
    if spec.defect is Defect.REVOKED:
        _write_lists(folder / "pki", list(issuers.values()), now, leaves)
    return home


def revoke(folder: Path, name: str, now: datetime, reason: x509.ReasonFlags = _COMPROMISED) -> None:
    """Put both certificates of a card on its issuer's revocation list and sign the list again in `pki/crl.pem`.

    ValueError when the card is not of an authority of `pki/ca.pem`.
    """
    pki, home = folder / "pki", folder / "cards" / name
    leaves = [cards.load_chain((home / file).read_bytes())[0] for file in ("auth.pem", "sign.pem")]
    for slug, authority in _AUTHORITIES.items():
        if authority.trusted and _load_certificate(pki, slug).subject == leaves[0].issuer:
            _write_lists(pki, [_load_issuer(pki, slug)], now, leaves, reason)
            return
    raise ValueError(f"{home}: only the issuer of a card can revoke it, and this one was not issued here")


def _clear(folder: Path) -> None:
    shutil.rmtree(folder / "pki")
    for description in (folder / "cards").glob("*/card.json"):  # what else stands there is not ours
        shutil.rmtree(description.parent)


# --- authorities -----------------------------------------------------------------------------------------------------


def _make_issuers(keys: Iterator[RSAPrivateKey], now: datetime) -> dict[str, Issuer]:
    issuers: dict[str, Issuer] = {}
    for slug, authority in _AUTHORITIES.items():
        parent = issuers.get(authority.parent)
        issuers[slug] = minting.authority(authority.common_name, authority.point, next(keys), parent, now)
    return issuers


def _write_issuers(private: Path, issuers: Mapping[str, Issuer]) -> None:
    for slug, issuer in issuers.items():
        _write(private / f"{slug}.pem", _pem(issuer.certificate))
        _write(private / f"{slug}.key", _key_pem(issuer.key), 0o600)


def _load_issuer(pki: Path, slug: str) -> Issuer:
    """One authority with its key: each takes a tenth of a second, because the key's numbers are checked."""
    authority, path = _AUTHORITIES[slug], pki / "private" / f"{slug}.key"
    certificate, key = _load_certificate(pki, slug), load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError(f"{path}: an RSA key was expected")
    return Issuer(certificate, key, authority.point, (certificate,) if authority.parent else ())


def _load_certificate(pki: Path, slug: str) -> x509.Certificate:
    return cards.load_certificate((pki / "private" / f"{slug}.pem").read_bytes())


def _write_lists(pki: Path, issuers: Iterable[Issuer], now: datetime, added: Sequence[x509.Certificate],
                 reason: x509.ReasonFlags = _COMPROMISED) -> None:
    """Sign the lists of these authorities anew, with those added that they issued; the other lists stay."""
    path = pki / "crl.pem"
    lists = {crl.issuer: crl for crl in _load_lists(path)}
    for issuer in issuers:
        name = issuer.certificate.subject
        fallen = [leaf for leaf in added if leaf.issuer == name]
        lists[name] = minting.revocation_list(issuer, lists.get(name), now, fallen, reason)
    _write(path, b"".join(crl.public_bytes(Encoding.PEM) for crl in lists.values()))


def _load_lists(path: Path) -> list[x509.CertificateRevocationList]:
    end = b"-----END X509 CRL-----"
    blocks = path.read_bytes().split(end)[:-1] if path.exists() else []
    return [x509.load_pem_x509_crl(block + end) for block in blocks]


# --- cards and the server --------------------------------------------------------------------------------------------


def _write_server(pki: Path, issuer: Issuer, key: RSAPrivateKey, names: Sequence[str], now: datetime) -> None:
    hosts = list(dict.fromkeys(["localhost", "127.0.0.1", "::1", *names]))
    _write(pki / "server.pem", _pem(minting.certify_server(hosts, key, issuer, now), *issuer.chain))
    _write(pki / "server.key", _key_pem(key), 0o600)


def _write_card(folder: Path, issuers: Mapping[str, Issuer], spec: CardSpec,
                keys: tuple[RSAPrivateKey, RSAPrivateKey], now: datetime) -> list[x509.Certificate]:
    """One card's folder; its two certificates, for authentication and for signature."""
    home = _folder(folder / "cards" / spec.name)
    issuer = issuers.get(_issuer_of(spec))
    chain = issuer.chain if issuer else ()
    signature = minting.ORGANISATION_SIGNATURE if spec.card_type is CardType.ES else minting.PERSON_SIGNATURE
    usages = {"auth": minting.AUTHENTICATION, "sign": signature}
    leaves = [minting.certify(spec, key, usage, issuer, now)
              for key, usage in zip(keys, usages.values(), strict=True)]
    for stem, key, leaf in zip(usages, keys, leaves, strict=True):
        _write(home / f"{stem}.pem", _pem(leaf, *chain))
        _write(home / f"{stem}.key", _key_pem(key), 0o600)
    if spec.defect is Defect.OTHER_CA and issuer:
        _write(home / "ca.pem", _pem(issuer.certificate))
    _write(home / "card.p12", pkcs12.serialize_key_and_certificates(
        spec.name.encode(), keys[0], leaves[0], chain, BestAvailableEncryption(PASSWORD.encode())), 0o600)
    _write(home / "card.json", (json.dumps(_described(spec, leaves), ensure_ascii=False, indent=2) + "\n").encode())
    return leaves


def _issuer_of(spec: CardSpec) -> str:
    """Slug of the authority; "" for a card that signs itself."""
    if spec.defect is Defect.SELF_SIGNED:
        return ""
    if spec.defect is Defect.OTHER_CA:
        return "autre-personnes"
    if spec.card_type is CardType.ES:
        return "elementaire-organisations"
    return "elementaire-personnes" if spec.software else "fort-personnes"


def _described(spec: CardSpec, leaves: Sequence[x509.Certificate]) -> dict[str, Any]:
    """`card.json`: what a client needs to act as the holder, and what a person wants to know of the card."""
    return {
        "card": spec.name,
        "description": {"fr": spec.fr, "en": spec.en},
        "identifier": spec.national_id,
        "name": f"{spec.family} {spec.given}".strip() or spec.structure.name,
        "family": spec.family,
        "given": spec.given,
        "card_type": spec.card_type,
        "card_number": spec.card_number,
        "profession": spec.profession.code if spec.profession else "",
        "future_profession": spec.future_profession.code if spec.future_profession else "",
        "speciality": spec.specialities[0].code if spec.specialities else "",
        "role": spec.role.code if spec.role else "",
        "activity_genre": spec.genre,
        "roles": [{"code": role.code, "system": role.system, "label": role.label} for role in spec.roles],
        "structure": {"id": spec.structure.id, "name": spec.structure.name},
        "sector": spec.sector,
        "serials": {stem: f"{leaf.serial_number:X}" for stem, leaf in zip(("auth", "sign"), leaves, strict=True)},
        "valid_until": leaves[0].not_valid_after_utc.isoformat(),
        "password": PASSWORD,
        "defect": spec.defect or "",
    }


# --- keys and files --------------------------------------------------------------------------------------------------


def _keys(sizes: Sequence[int]) -> list[RSAPrivateKey]:
    """RSA keys of these sizes in bits; they are made outside Python's lock, so that every core takes part."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda bits: generate_private_key(65537, bits), sizes))


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _key_pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _folder(path: Path, mode: int = 0o755) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    return path


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace the file in one step: who reads it meanwhile sees the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    temporary.replace(path)
