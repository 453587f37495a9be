"""A base of many documents, made by copying the rows of one real submission: thousands of patients, ids of their own.

Only for load: the copies have metadata and claims like real entries, but share one stored form and have no bytes.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.sql.schema import Table

from journal.ids import bucket, new_id
from registry import claims
from registry.claims import Claim
from registry.tables import (
    association,
    document,
    identifier_claim,
    object_code,
    object_text,
    patient,
    patient_identifier,
    submission_set,
)

AUTHORITY = "1.2.250.1.213.1.4.10"
_BATCH = 2000  # documents of one transaction
_START = datetime(2020, 1, 1)


def grow(connection_of: Any, documents: int, per_patient: int = 20, first: int = 0, seed: int = 7) -> float:
    """Add copies of the newest submission, numbered from `first`, until so many were added; seconds it took.

    `connection_of` gives a writing connection (`Database.write`). Each patient has as many documents as the others.
    """
    chance, begun = random.Random(seed + first), time.perf_counter()
    with connection_of() as connection:
        model = _model(connection)
    for start in range(first, first + documents, _BATCH):
        rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in _TABLES}
        for number in range(start, min(start + _BATCH, first + documents)):
            _copy(model, number, per_patient, chance, rows)
        with connection_of() as connection:
            for table, several in rows.items():
                if several:
                    connection.execute(insert(table), several)
    return time.perf_counter() - begun


_TABLES = (patient, patient_identifier, submission_set, document, association, object_code, object_text,
           identifier_claim)


def _model(connection: Connection) -> dict[Table, list[dict[str, Any]]]:
    """Rows of the newest submission set and its first document."""
    the_set = connection.execute(select(submission_set).order_by(submission_set.c.id.desc()).limit(1)).mappings().one()
    owner = the_set["patient_id"]
    entry = connection.execute(select(document).where(
        document.c.patient_id == owner, document.c.submission_set_id == the_set["id"]).limit(1)).mappings().one()
    link = connection.execute(select(association).where(
        association.c.patient_id == owner, association.c.target == entry["uuid"]).limit(1)).mappings().one()

    def several(table: Table) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(select(table).where(
            table.c.patient_id == owner, table.c.object_id == entry["id"])).mappings()]

    return {submission_set: [dict(the_set)], document: [dict(entry)], association: [dict(link)],
            object_code: several(object_code), object_text: several(object_text)}


def _copy(model: dict[Table, list[dict[str, Any]]], number: int, per_patient: int, chance: random.Random,
          rows: dict[Table, list[dict[str, Any]]]) -> None:
    owner = 1_000_000_000 + number // per_patient
    if number % per_patient == 0:
        rows[patient].append({"id": owner, "bucket": bucket(owner), "merged_into": None, "family": "CHARGE",
                              "given": f"N{owner}", "birth_date": "19500101", "sex": "F", "created": 0})
        rows[patient_identifier].append({"authority": AUTHORITY, "value": ins_of(number // per_patient),
                                         "patient_id": owner})
    common = {"patient_id": owner, "bucket": bucket(owner)}
    ids = {table: new_id() for table in (submission_set, document, association)}
    names = {table: _uuid(chance) for table in ids}
    moment = (_START + timedelta(minutes=chance.randrange(3_000_000))).strftime("%Y%m%d%H%M%S")
    shared = {table: {**model[table][0], **common, "id": ids[table], "uuid": names[table], "lid": names[table]}
              for table in ids}
    rows[submission_set].append({**shared[submission_set], "unique_id": f"2.25.1{number}"})
    rows[document].append({**shared[document], "unique_id": f"2.25.2{number}", "creation_time": moment,
                           "submission_set_id": ids[submission_set], "storage_key": ""})
    rows[association].append({**shared[association], "source": names[submission_set], "target": names[document]})
    for table in (object_code, object_text):
        rows[table] += [{**row, **common, "object_id": ids[document]} for row in model[table]]
    rows[identifier_claim] += list(_claims(owner, ids, names, number))


def _claims(owner: int, ids: dict[Table, int], names: dict[Table, str], number: int) -> Iterator[dict[str, Any]]:
    kinds = {submission_set: claims.SET, document: claims.DOCUMENT, association: claims.ASSOCIATION}
    for table, kind in kinds.items():
        yield claims.row(names[table], Claim(kind, owner, ids[table]))
    yield claims.row(f"2.25.1{number}", Claim(claims.SET, owner, ids[submission_set]))
    yield claims.row(f"2.25.2{number}", Claim(claims.DOCUMENT, owner, ids[document]), exclusive=False)


def ins_of(number: int) -> str:
    """A made-up test INS with a right key, of the n-th patient (department 99 does not exist)."""
    digits = f"29999{99000000 + number:08d}"[:13]
    return f"{digits}{97 - int(digits) % 97:02d}"


def _uuid(chance: random.Random) -> str:
    text = hashlib.md5(chance.randbytes(16), usedforsecurity=False).hexdigest()
    return f"urn:uuid:{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"
