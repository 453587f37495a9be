"""A card's folder as a client uses it (`security.pki` writes them): holder, TLS files, signature key, VIHF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from security.cards import load_chain
from security.identity import AccessMode, CardType
from security.vihf_build import build, claims_from_card, security_header
from security.xmldsig import PrivateKey
from volet import __version__
from xds.findings import Refused

SOFTWARE = "Volet"
#: LPS_ID_HOMOLOGATION_DMP is required and a homologation number is secret; this client has none and says so
HOMOLOGATION = "VOLET-SANS-HOMOLOGATION"

FILES = ("card.json", "auth.pem", "auth.key", "sign.pem", "sign.key")


class CardError(ValueError):
    """A folder that is no card one can use; the message names the file at fault."""


@dataclass(frozen=True, slots=True)
class Access:
    """Mode of access that the VIHF claims, and the reason that goes with breaking the glass."""

    mode: AccessMode = AccessMode.NORMAL
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One card: its folder, what `card.json` says, signature key and certificates (leaf first)."""

    folder: Path
    said: Mapping[str, Any]
    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = field(repr=False)

    @property
    def is_structure(self) -> bool:
        """Whether these are a structure's software certificates (indirect authentication)."""
        return bool(self.said["card_type"] == CardType.ES)

    @property
    def tls_files(self) -> tuple[str, str]:
        """Certificate and key of the TLS connection."""
        return str(self.folder / "auth.pem"), str(self.folder / "auth.key")


def find_folder(name: str, data: Path) -> Path:
    """The folder a user means: a path, or the bare name of a card under `data/cards`."""
    path = Path(name)
    return data / "cards" / name if path.name == name and not path.is_dir() else path


def load_card(folder: Path) -> Card:
    """The card of a folder; CardError when a file is missing or unusable."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise CardError(f"{folder} is no card folder: {', '.join(missing)} missing (`volet card list` shows the cards)")
    said = read_description(folder / "card.json")
    try:
        claims_from_card(said)
        key = load_pem_private_key((folder / "sign.key").read_bytes(), None)
        chain = load_chain((folder / "sign.pem").read_bytes())
    except (KeyError, TypeError, ValueError, OSError, Refused) as error:
        raise CardError(f"{folder}: {type(error).__name__}: {error}") from error
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise CardError(f"{folder / 'sign.key'}: an RSA or elliptic curve key is expected")
    return Card(folder, said, key, chain)


def read_description(path: Path) -> dict[str, Any]:
    """What a `card.json` says; CardError when it is none."""
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CardError(f"{path}: {error}") from error
    if not isinstance(said, dict):
        raise CardError(f"{path}: a JSON object is expected")
    return said


def vihf_header(card: Card, patient: str, access: Access, now: datetime) -> str:
    """The `wsse:Security` header of one request about a patient (CX), signed by the card."""
    claims = claims_from_card(
        card.said, patient=patient, mode=access.mode, reason=access.reason, lps_name=SOFTWARE, lps_version=__version__,
        lps_homologation=HOMOLOGATION)
    return security_header(build(claims, card.key, card.chain[0], now))
