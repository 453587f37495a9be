"""Patient identities: known by identifier and assigning authority, added and revised by feeds, merged by alias.

A merge moves no row (ITI TF-2 §3.8.4.2.4): a subsumed patient keeps the internal id that leads the keys of what was
registered for them, and becomes an alias of the survivor (`merged_into`). What comes later is kept under the survivor's
own id, relationships to older objects included. Whoever reads or writes for a patient does it for all ids that are this
patient: `Kin` knows them by one indexed look-up. An alias always leads to the survivor itself, never to another alias.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from journal.ids import bucket, new_id
from registry.affinity import AffinityDomain
from registry.names import fold
from registry.requirements import RULES
from registry.tables import patient as table
from registry.tables import patient_identifier
from xds import hl7
from xds.findings import Finding, Refused, Where

UNKNOWN = RULES["V-REG-PATIENT-UNKNOWN"]
AUTHORITY = RULES["V-REG-PATIENT-AUTHORITY"]

_AT_ONCE = 400  # patients of one statement


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient as the registry knows one. `cx` is the identifier asked for, as asked for.

    `ids`: the internal ids whose objects are this patient's, where they were asked for (`require`, `with_kin`).
    """

    id: int
    cx: str
    family: str = ""
    given: str = ""
    birth_date: str = ""
    sex: str = ""
    ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Traits:
    """Identity traits of a feed: names, birth date (DTM), administrative sex (M, F, U)."""

    family: str = ""
    given: str = ""
    birth_date: str = ""
    sex: str = ""


# --- finding -------------------------------------------------------------------------------------------------------


def key_of(cx: str) -> tuple[str, str] | None:
    """(authority, id) by which a patient is compared; None for what is no CX with an authority."""
    try:
        parsed = hl7.CX.parse(cx)
    except ValueError:
        return None
    authority = parsed.authority.universal_id
    return (authority, parsed.id) if authority and parsed.id else None


def row_of(connection: Connection, cx: str) -> Row[Any] | None:
    """The row of whom an identifier names, be it an alias by now."""
    key = key_of(cx)
    if key is None:
        return None
    joined = table.join(patient_identifier, table.c.id == patient_identifier.c.patient_id)
    return connection.execute(select(table).select_from(joined).where(
        patient_identifier.c.authority == key[0], patient_identifier.c.value == key[1])).first()


def find(connection: Connection, cx: str) -> Patient | None:
    """The patient of an identifier in use; one that was subsumed by another names nobody any more (§3.8.4.2.4)."""
    row = row_of(connection, cx)
    if row is None or row.merged_into is not None:
        return None
    return Patient(row.id, cx, row.family, row.given, row.birth_date, row.sex)


def with_kin(connection: Connection, patient: Patient) -> Patient:
    """The patient with every internal id that is theirs."""
    return replace(patient, ids=frozenset(Kin(connection).ids([patient.id])))


def require(connection: Connection, cx: str, domain: AffinityDomain) -> Patient:
    """The patient of an identifier, with all their ids; made on the spot where the domain accepts unknown ones.

    Refused for another authority, for who is unknown, and for an identifier whose use has ended.
    """
    key = key_of(cx)
    if key is not None and domain.patient_authorities and key[0] not in domain.patient_authorities:
        raise Refused(AUTHORITY.at(Where("metadata", path="patientId"), received=key[0],
                                   expected=", ".join(sorted(domain.patient_authorities))))
    found = find(connection, cx)
    if found is None and key is not None and domain.unknown_patients == "accept" and not is_kept(connection, cx):
        found = feed(connection, [cx], Traits())
    if found is None:
        raise Refused(unknown(cx))
    return with_kin(connection, found)


def is_kept(connection: Connection, cx: str) -> bool:
    """Whether an identifier is known, in use or subsumed."""
    return row_of(connection, cx) is not None


def unknown(cx: str) -> Finding:
    """The finding on a patient who is not known."""
    return UNKNOWN.at(Where("metadata", path="patientId"), received=cx)


def identifiers_of(connection: Connection, patient_id: int) -> list[str]:
    """Every identifier in use of a patient, as CX texts, in a steady order."""
    columns = patient_identifier.c
    rows = connection.execute(select(columns.authority, columns.value).where(columns.patient_id == patient_id)
                              .order_by(columns.authority, columns.value))
    return [str(hl7.CX(row.value, authority=hl7.HD("", row.authority, "ISO"))) for row in rows]


_asked, _other = table.alias("asked"), table.alias("other")
#: All aliases of the patients asked for, or of those into whom they were merged
_ALIASES = select(_other.c.id, _other.c.merged_into, _other.c.shown).select_from(_asked.join(
    _other, _other.c.merged_into == func.coalesce(_asked.c.merged_into, _asked.c.id))).where(
    _asked.c.id.in_(bindparam("asked", expanding=True)))


class Kin:
    """Which internal ids are one patient, as one transaction sees it; whoever was asked for once is remembered."""

    def __init__(self, connection: Connection) -> None:
        """Nobody is looked up yet."""
        self._connection = connection
        self._known: set[int] = set()
        self._aliases: dict[int, tuple[int, str]] = {}  # alias: survivor, and the identifier that survived

    def ids(self, patients: Iterable[int]) -> set[int]:
        """The patients, with everybody who was merged with them."""
        asked = set(patients)
        self._look_up(asked)
        survivors = {self.survivor(patient) for patient in asked}
        return survivors | {alias for alias, (survivor, _) in self._aliases.items() if survivor in survivors}

    def survivor(self, patient: int) -> int:
        """Whose objects these are now."""
        self._look_up({patient})
        return self._aliases[patient][0] if patient in self._aliases else patient

    def shown(self, patient: int) -> str:
        """The identifier to show in place of the one submitted, "" where that is still in use (§3.18.4.1.2.3.9)."""
        self._look_up({patient})
        return self._aliases[patient][1] if patient in self._aliases else ""

    def _look_up(self, patients: set[int]) -> None:
        missing = list(patients - self._known)
        for start in range(0, len(missing), _AT_ONCE):
            for row in self._connection.execute(_ALIASES, {"asked": missing[start:start + _AT_ONCE]}):
                self._aliases[row.id] = (row.merged_into, row.shown)
                self._known |= {row.id, row.merged_into}
        self._known |= patients


# --- feeding -------------------------------------------------------------------------------------------------------


def feed(connection: Connection, identifiers: Sequence[str], traits: Traits) -> Patient:
    """Add a patient, or revise the one whom an identifier already names (ITI-8 A01/A04/A05/A08, ITI-44).

    Identifiers that are no CX with an authority raise ValueError; so do identifiers of two different patients, which
    only a merge may join, and those that are all of the past.
    """
    keys = [key_of(cx) for cx in identifiers]
    if not keys or None in keys:
        raise ValueError("each patient identifier must be id^^^&OID&ISO")
    rows = [row for cx in identifiers if (row := row_of(connection, cx)) is not None]
    known = {row.id if row.merged_into is None else row.merged_into for row in rows}
    if len(known) > 1:
        raise ValueError("the identifiers belong to different patients")
    if len(rows) == len(keys) and all(row.merged_into is not None for row in rows):
        raise ValueError("the identifiers were subsumed by others")
    patient_id = next(iter(known)) if known else _add(connection, traits)
    if known:
        _revise(connection, patient_id, traits)
    for authority, value in {key for key in keys if key}:
        _claim(connection, authority, value, patient_id)
    return Patient(patient_id, identifiers[0], traits.family, traits.given, traits.birth_date, traits.sex)


def _add(connection: Connection, traits: Traits) -> int:
    patient_id = new_id()
    connection.execute(table.insert(), {
        "id": patient_id, "bucket": bucket(patient_id), "merged_into": None, "shown": "",
        "family": traits.family, "given": traits.given, "family_key": fold(traits.family),
        "given_key": fold(traits.given), "birth_date": traits.birth_date, "sex": traits.sex,
        "created": time.time_ns() // 1_000_000})
    return patient_id


def _revise(connection: Connection, patient_id: int, traits: Traits) -> None:
    new = {name: value for name in ("family", "given", "birth_date", "sex") if (value := getattr(traits, name))}
    new |= {f"{name}_key": fold(new[name]) for name in ("family", "given") if name in new}
    if new:
        connection.execute(update(table).where(table.c.id == patient_id).values(**new))


def _claim(connection: Connection, authority: str, value: str, patient_id: int) -> None:
    there = select(patient_identifier.c.patient_id).where(
        patient_identifier.c.authority == authority, patient_identifier.c.value == value)
    if connection.execute(there).first() is None:
        connection.execute(patient_identifier.insert(),
                           {"authority": authority, "value": value, "patient_id": patient_id})


# --- merging -------------------------------------------------------------------------------------------------------


def lock(connection: Connection, patients: Iterable[int]) -> None:
    """Keep others from merging these patients at the same time, where the database has several writers."""
    connection.execute(select(table.c.id).where(table.c.id.in_(sorted(patients))).order_by(table.c.id)
                       .with_for_update()).all()


def merge(connection: Connection, survivor: Patient, subsumed: Row[Any], cx: str) -> int:
    """End the use of an identifier (`cx`, of the patient `subsumed`) in favour of the survivor's; the id of the alias.

    The other identifiers of the subsumed patient name the survivor from now on.
    """
    if subsumed.id == survivor.id:
        return retire(connection, survivor, cx)
    connection.execute(update(patient_identifier).where(patient_identifier.c.patient_id == subsumed.id)
                       .values(patient_id=survivor.id))
    connection.execute(update(table).where((table.c.id == subsumed.id) | (table.c.merged_into == subsumed.id))
                       .values(merged_into=survivor.id, shown=survivor.cx))
    point(connection, cx, subsumed.id)
    return int(subsumed.id)


def retire(connection: Connection, survivor: Patient, cx: str) -> int:
    """End the use of one of a patient's own identifiers: an alias that holds nothing takes it. Returns its id."""
    alias = _add(connection, Traits(survivor.family, survivor.given, survivor.birth_date, survivor.sex))
    connection.execute(update(table).where(table.c.id == alias).values(merged_into=survivor.id, shown=survivor.cx))
    point(connection, cx, alias)
    return alias


def point(connection: Connection, cx: str, patient_id: int) -> bool:
    """Let a known identifier name that patient; whether it named another before."""
    authority, value = key_of(cx) or ("", "")
    columns = patient_identifier.c
    return connection.execute(update(patient_identifier).where(
        columns.authority == authority, columns.value == value, columns.patient_id != patient_id)
        .values(patient_id=patient_id)).rowcount > 0
