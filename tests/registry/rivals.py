"""Several at once: what threads and processes run in the tests of concurrency."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from registry.register import Registry, register
from tests.registry.conftest import open_registry
from xds.findings import Refused
from xds.model import Submission

T = TypeVar("T")

#: What became of a submission: entryUUID of the set and "" or "repeated", or the XDS code of the refusal
Outcome = tuple[str, str]


def attempt(registry: Registry, whole: Submission, accept_repeat: bool = False) -> Outcome:
    try:
        registered = register(registry, whole, accept_repeat=accept_repeat)
    except Refused as refused:
        return "", refused.findings[0].xds
    return registered.ids[whole.submission_set.id], "repeated" if registered.repeated else ""


def work(path: Path, start: float, wholes: Sequence[Submission], accept_repeat: bool) -> list[Outcome]:
    """What a process does: open the database, wait for the others, submit one after the other."""
    registry = open_registry(path, durable=True)
    time.sleep(max(0.0, start - time.time()))
    try:
        return [attempt(registry, whole, accept_repeat) for whole in wholes]
    finally:
        registry.database.close()


def in_processes(path: Path, shares: Sequence[Sequence[Submission]], accept_repeat: bool = False) -> list[Outcome]:
    """Outcomes of all shares, each submitted by a process of its own, all starting together."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(len(shares), mp_context=context) as pool:
        start = time.time() + 0.3
        jobs = [pool.submit(work, path, start, share, accept_repeat) for share in shares]
        return [outcome for job in jobs for outcome in job.result(timeout=60)]


def in_threads(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Results of all tasks, each in a thread of its own."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [job.result(timeout=60) for job in [pool.submit(task) for task in tasks]]
