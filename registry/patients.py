"""Patient identities: known by identifier and assigning authority, added and revised by feeds, merged by alias."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, select, update

from journal.ids import bucket, new_id
from registry.affinity import AffinityDomain
from registry.requirements import RULES
from registry.tables import patient as table
from registry.tables import patient_identifier
from xds import hl7
from xds.findings import Finding, Refused, Where

UNKNOWN = RULES["V-REG-PATIENT-UNKNOWN"]
AUTHORITY = RULES["V-REG-PATIENT-AUTHORITY"]


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient as the registry knows one. `cx` is the identifier asked for, as asked for."""

    id: int
    cx: str
    family: str = ""
    given: str = ""
    birth_date: str = ""
    sex: str = ""


@dataclass(frozen=True, slots=True)
class Traits:
    """Identity traits of a feed: names, birth date (DTM), administrative sex (M, F, U)."""

    family: str = ""
    given: str = ""
    birth_date: str = ""
    sex: str = ""


def key_of(cx: str) -> tuple[str, str] | None:
    """(authority, id) by which a patient is compared; None for what is no CX with an authority."""
    try:
        parsed = hl7.CX.parse(cx)
    except ValueError:
        return None
    authority = parsed.authority.universal_id
    return (authority, parsed.id) if authority and parsed.id else None


def find(connection: Connection, cx: str) -> Patient | None:
    """The patient of an identifier, or whoever that one was merged into."""
    key = key_of(cx)
    if key is None:
        return None
    return _read(connection, cx, and_(patient_identifier.c.authority == key[0], patient_identifier.c.value == key[1]))


def require(connection: Connection, cx: str, domain: AffinityDomain) -> Patient:
    """The patient of an identifier; made on the spot where the domain accepts unknown ones; else Refused."""
    key = key_of(cx)
    if key is not None and domain.patient_authorities and key[0] not in domain.patient_authorities:
        raise Refused(AUTHORITY.at(Where("metadata", path="patientId"), received=key[0],
                                   expected=", ".join(sorted(domain.patient_authorities))))
    found = find(connection, cx)
    if found is None and key is not None and domain.unknown_patients == "accept":
        found = feed(connection, [cx], Traits())
    if found is None:
        raise Refused(unknown(cx))
    return found


def unknown(cx: str) -> Finding:
    """The finding on a patient who is not known."""
    return UNKNOWN.at(Where("metadata", path="patientId"), received=cx)


def feed(connection: Connection, identifiers: Sequence[str], traits: Traits) -> Patient:
    """Add a patient, or revise the one whom an identifier already names (ITI-8 A01/A04/A05/A08, ITI-44).

    Identifiers that are no CX with an authority raise ValueError; so do identifiers of two different patients, which
    only a merge may join.
    """
    keys = [key_of(cx) for cx in identifiers]
    if not keys or None in keys:
        raise ValueError("each patient identifier must be id^^^&OID&ISO")
    known = {found.id: found for cx in identifiers if (found := find(connection, cx))}
    if len(known) > 1:
        raise ValueError("the identifiers belong to different patients")
    patient_id = next(iter(known)) if known else _add(connection, traits)
    if known:
        _revise(connection, patient_id, traits)
    for authority, value in {key for key in keys if key}:
        _claim(connection, authority, value, patient_id)
    return Patient(patient_id, identifiers[0], traits.family, traits.given, traits.birth_date, traits.sex)


def _add(connection: Connection, traits: Traits) -> int:
    patient_id = new_id()
    connection.execute(table.insert(), {
        "id": patient_id, "bucket": bucket(patient_id), "merged_into": None, "family": traits.family,
        "given": traits.given, "birth_date": traits.birth_date, "sex": traits.sex,
        "created": time.time_ns() // 1_000_000})
    return patient_id


def _revise(connection: Connection, patient_id: int, traits: Traits) -> None:
    new = {name: value for name in ("family", "given", "birth_date", "sex") if (value := getattr(traits, name))}
    if new:
        connection.execute(update(table).where(table.c.id == patient_id).values(**new))


def _claim(connection: Connection, authority: str, value: str, patient_id: int) -> None:
    there = select(patient_identifier.c.patient_id).where(
        patient_identifier.c.authority == authority, patient_identifier.c.value == value)
    if connection.execute(there).first() is None:
        connection.execute(patient_identifier.insert(),
                           {"authority": authority, "value": value, "patient_id": patient_id})


def _read(connection: Connection, cx: str, condition: object) -> Patient | None:
    joined = table.join(patient_identifier, table.c.id == patient_identifier.c.patient_id)
    row = connection.execute(select(table).select_from(joined).where(condition)).first()  # type: ignore[arg-type]
    seen: set[int] = set()
    while row is not None and row.merged_into is not None and row.id not in seen:
        seen.add(row.id)
        row = connection.execute(select(table).where(table.c.id == row.merged_into)).first()
    if row is None:
        return None
    return Patient(row.id, cx, row.family, row.given, row.birth_date, row.sex)
