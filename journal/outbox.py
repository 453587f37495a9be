"""What others must hear of, written in the transaction that made it happen: it is told if and only if it is true."""

from __future__ import annotations

import json
import time
from typing import Any

from sqlalchemy import Connection, Table

from journal.ids import bucket, new_id


def append(connection: Connection, table: Table, patient_id: int, kind: str, payload: dict[str, Any]) -> int:
    """Add an event of a patient inside the caller's transaction; returns its id.

    Who reads the outbox goes by positions, not by ids (`journal.consumer`).
    """
    event_id = new_id()
    connection.execute(table.insert(), {
        "patient_id": patient_id, "id": event_id, "bucket": bucket(patient_id), "at": time.time_ns() // 1_000_000,
        "kind": kind, "payload": json.dumps(payload, ensure_ascii=False, separators=(",", ":"))})
    return event_id
