"""Group commit: many threads hand in items and wait; whoever comes first writes for all who wait.

One write to a medium that must be waited for (a commit, an fsync) then serves everybody who came meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Handed(Generic[T]):
    """Items of one caller; `error` is what their write ended with."""

    items: Sequence[T]
    is_done: bool = False
    error: Exception | None = None


class Batches(Generic[T]):
    """Calls `write` with the items of all who wait, one batch at a time, in the order in which they came."""

    def __init__(self, write: Callable[[list[T]], None]) -> None:
        """`write` raises when the batch was not written; all of its callers then get that error."""
        self._write = write
        self._waiting: list[_Handed[T]] = []
        self._handing, self._writing = threading.Lock(), threading.Lock()

    def put(self, items: Sequence[T]) -> None:
        """Return when the items are written; raise what their write raised."""
        handed = _Handed(items)
        with self._handing:
            self._waiting.append(handed)
        with self._writing:
            if not handed.is_done:  # else whoever wrote before took these along
                self._write_all()
        if handed.error is not None:
            raise handed.error

    def _write_all(self) -> None:
        with self._handing:
            batch, self._waiting = self._waiting, []
        error: Exception | None = RuntimeError("interrupted")
        try:
            self._write([item for handed in batch for item in handed.items])
            error = None
        except Exception as raised:  # handed on to each of them, below
            error = raised
        finally:
            for handed in batch:
                handed.is_done, handed.error = True, error
