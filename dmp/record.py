"""The state of one DMP and what its holder granted: read, opened, changed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

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


def inherit(connection: Connection, heir: int, former: int) -> None:
    """The record of a patient who was merged into another becomes the other's, or is taken up into theirs.

    Where both have one, the heir's state counts and of all else what the holder closed: an opposition to either, a
    consent to both, a professional who is forbidden by either. A standing that only one of them has is kept.
    """
    old, own = read(connection, former), read(connection, heir)
    if old is not None:
        write(connection, replace(old, patient_id=heir) if own is None else _strictest(own, old))
        connection.execute(delete(record_table).where(record_table.c.patient_id == former))
    table = authorisation_table.c
    given = connection.execute(select(authorisation_table).where(table.patient_id == former)).all()
    for row in given:
        held = standing(connection, heir, row.professional)
        if held.state == NONE or row.state == FORBIDDEN:
            grant(connection, heir, row.professional, Authorisation(row.state, bool(row.treating)), row.until)
    connection.execute(delete(authorisation_table).where(table.patient_id == former))


def _strictest(own: Record, old: Record) -> Record:
    return replace(
        own, opposition_bris_de_glace=own.opposition_bris_de_glace or old.opposition_bris_de_glace,
        opposition_centre_15=own.opposition_centre_15 or old.opposition_centre_15,
        consent_masked_in_emergency=own.consent_masked_in_emergency and old.consent_masked_in_emergency)


def _now() -> int:
    return time.time_ns() // 1_000_000
