"""Identifiers: growing in one process, different in all, whatever the clock does; buckets spread and never move."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from journal import ids
from journal.ids import bucket, new_id, new_uuid
from xds.hl7 import is_uuid


def some(number: int) -> list[int]:
    return [new_id() for _ in range(number)]


def test_they_grow() -> None:
    made = some(5000)
    assert made == sorted(set(made))
    assert 0 < made[0] < made[-1] < 2**63


def test_they_are_numbers_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upper bits are milliseconds: an id made later than another by a millisecond is larger, in any process."""
    monkeypatch.setattr(ids, "_last", 0)
    before = time.time_ns() // 1_000_000
    made = new_id()
    assert before <= (made >> 22) + 1_735_689_600_000 <= time.time_ns() // 1_000_000 + 1


def test_threads_never_make_one_twice() -> None:
    with ThreadPoolExecutor(6) as pool:
        shares = list(pool.map(some, [2000] * 6))
    assert len({one for share in shares for one in share}) == 12_000
    assert all(share == sorted(share) for share in shares)


@pytest.mark.parametrize("ahead", [0, 10**6])
def test_processes_do_not_either(monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    """They inherit what their parent remembers; also one that is ahead of a clock which was set back."""
    monkeypatch.setattr(ids, "_last", new_id() + (ahead << 22))
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
        shares = list(pool.map(some, [500] * 3))
    assert len({one for share in shares for one in share}) == 1500


@pytest.mark.parametrize("shift", [0, -3_600_000, -10**12])
def test_a_clock_that_goes_back_or_stands_still(monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    last = new_id()
    moment = ids.time.time_ns() + shift * 1_000_000
    monkeypatch.setattr(ids.time, "time_ns", lambda: moment)
    made = some(100)
    assert [last, *made] == sorted({last, *made})


def test_uuids() -> None:
    made = {new_uuid() for _ in range(1000)}
    assert len(made) == 1000
    assert all(is_uuid(one) and one == one.lower() for one in made)


def test_buckets_are_for_ever() -> None:
    """Rows carry them: another function would lose the shards."""
    assert [bucket(number) for number in (0, 1, 2, 3, 4_611_686_018_427_387_904)] == [0, 2531, 966, 3498, 1024]


def test_buckets_are_spread() -> None:
    counted = Counter(bucket(one) for one in some(40_960))
    assert set(counted) <= set(range(4096))
    assert len(counted) > 3900
    assert max(counted.values()) < 60
