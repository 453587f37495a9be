"""The state of one DMP and what its holder granted: read, opened, changed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from dmp.tables import authorisation as authorisation_table
from dmp.tables import record as record_table
from journal.ids import bucket

OPEN, CLOSED = "open", "closed"
VALID, EXPIRED, FORBIDDEN, NONE = "VALIDE", "EXPIRE", "INTERDIT", "NON_EXISTE"


@dataclass(frozen=True, slots=True)
class Record:
    """One DMP: its state and the holder's three emergency choices."""

    patient_id: int
    state: str = OPEN
    opposition_bris_de_glace: bool = False
    opposition_centre_15: bool = False
    consent_masked_in_emergency: bool = False


@dataclass(frozen=True, slots=True)
class Authorisation:
    """A professional's standing with a record (TD0.2 value set); `treating`: declared médecin traitant."""

    state: str = NONE
    treating: bool = False


def read(connection: Connection, patient_id: int) -> Record | None:
    """The record of a patient, None when there is none."""
    row = connection.execute(select(record_table).where(record_table.c.patient_id == patient_id)).first()
    if row is None:
        return None
    return Record(row.patient_id, row.state, row.opposition_bris_de_glace, row.opposition_centre_15,
                  row.consent_masked_in_emergency)


def write(connection: Connection, record: Record) -> None:
    """Open a record or change it."""
    connection.execute(delete(record_table).where(record_table.c.patient_id == record.patient_id))
    connection.execute(record_table.insert(), {
        "patient_id": record.patient_id, "bucket": bucket(record.patient_id), "state": record.state,
        "changed": _now(), "opposition_bris_de_glace": record.opposition_bris_de_glace,
        "opposition_centre_15": record.opposition_centre_15,
        "consent_masked_in_emergency": record.consent_masked_in_emergency})


def standing(connection: Connection, patient_id: int, professional: str) -> Authorisation:
    """What the holder granted a professional (PS_IdNat); an authorisation past its end is EXPIRE."""
    table = authorisation_table.c
    row = connection.execute(select(authorisation_table).where(
        table.patient_id == patient_id, table.professional == professional)).first()
    if row is None:
        return Authorisation()
    expired = row.state == VALID and row.until is not None and row.until <= _now()
    return Authorisation(EXPIRED if expired else row.state, row.treating and row.state == VALID)


def grant(connection: Connection, patient_id: int, professional: str, given: Authorisation,
          until: int | None = None) -> None:
    """Set a professional's standing. `until`: milliseconds since 1970, None without end."""
    table = authorisation_table.c
    connection.execute(delete(authorisation_table).where(
        table.patient_id == patient_id, table.professional == professional))
    if given.state != NONE:
        connection.execute(authorisation_table.insert(), {
            "patient_id": patient_id, "professional": professional, "bucket": bucket(patient_id),
            "state": given.state, "treating": given.treating, "until": until, "changed": _now()})


def _now() -> int:
    return time.time_ns() // 1_000_000
