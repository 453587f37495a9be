"""Identifiers made by the application: no sequence, no round trip, the same on SQLite, PostgreSQL and shards."""

from __future__ import annotations

import secrets
import threading
import time
import uuid

_EPOCH_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
_RANDOM_BITS = 22
_STEP_BITS = 16  # a clock that went back leaves every process of one parent at the same number: steps tell them apart
_lock = threading.Lock()
_last = 0


def new_id() -> int:
    """A 63-bit number, growing in this process: 41 bits of milliseconds, 22 random bits (then up in random steps)."""
    global _last
    with _lock:
        milliseconds = time.time_ns() // 1_000_000 - _EPOCH_MS
        _last = max(_last + 1 + secrets.randbits(_STEP_BITS),
                    milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))
        return _last


def new_uuid() -> str:
    """A fresh `urn:uuid:`."""
    return f"urn:uuid:{uuid.uuid4()}"


def bucket(patient_id: int) -> int:
    """Shard bucket (0 to 4095) of a patient, kept in every row (a multiplicative hash of the internal id)."""
    return (patient_id * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 52
