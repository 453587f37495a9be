"""Making a test server from nothing: tables, PKI, cards, seed patients and what they granted."""

from __future__ import annotations

import json
import sysconfig
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from dmp import record
from dmp.record import Authorisation, Record
from journal.database import Database
from registry import patients
from registry.patients import Traits
from security import pki
from volet.assembly import migrate
from volet.settings import Settings

SEEDS = "patients.toml"


@dataclass(frozen=True, slots=True)
class Made:
    """What `init` did."""

    pki: bool
    cards: int
    patients: int


def init(settings: Settings, now: datetime | None = None) -> Made:
    """Make what is missing; what is there stays."""
    moment = now or datetime.now(UTC)
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    made_pki = False
    if not (settings.data / "pki" / "ca.pem").exists():
        pki.create(settings.data, pki.load_specs(), moment, names=settings.server_names)
        made_pki = True
    migrate(settings)
    cards = identifiers_of(settings.data / "cards")
    database = Database(settings.database_url)
    with database.write() as connection:
        made = sum(_seed(connection, entry, cards) for entry in load_seeds())
    database.close()
    return Made(made_pki, len(cards), made)


def load_seeds() -> list[dict[str, Any]]:
    """Entries of `samples/patients.toml`, from the source tree or from where the wheel put it."""
    data = tomllib.loads(sample(SEEDS).read_text("utf-8"))
    return [{"root": data["ins_root"], **entry} for entry in data["patient"]]


def sample(name: str) -> Path:
    """A file of `samples/`: of the source tree, else of the installation."""
    tree = Path(__file__).parent.parent / "samples" / name
    return tree if tree.exists() else Path(sysconfig.get_path("data")) / "share" / "volet" / "samples" / name


def identifiers_of(cards: Path) -> dict[str, str]:
    """Card name -> national identifier, of every card in the folder."""
    return {path.parent.name: json.loads(path.read_text("utf-8"))["identifier"]
            for path in sorted(cards.glob("*/card.json"))}


def _seed(connection: Connection, entry: dict[str, Any], cards: dict[str, str]) -> int:
    """Add one patient with record and authorisations; 0 when already there."""
    cx = f"{entry['ins']}^^^&{entry['root']}&ISO^NH"
    if patients.is_kept(connection, cx):
        return 0
    traits = Traits(entry["family"], entry["given"], entry["birth"].replace("-", ""), entry["sex"])
    patient = patients.feed(connection, [cx], traits)
    if entry["state"] != "none":
        record.write(connection, Record(
            patient.id, entry["state"], entry["opposition_emergency"], entry["opposition_regulation"],
            entry["masked_consent"]))
    for name in (*entry["authorised"], *entry["treating"]):
        record.grant(connection, patient.id, cards[name], Authorisation(record.VALID, name in entry["treating"]))
    for name in entry["blocked"]:
        record.grant(connection, patient.id, cards[name], Authorisation(record.FORBIDDEN))
    return 1
