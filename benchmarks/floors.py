"""The floors of this machine, measured in the same run: what a stage cannot go below with the libraries at hand."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from lxml import etree

ROUNDS = 40


def median(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of single calls in microseconds, after one to warm up."""
    call()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - begun) / 1000)
    return statistics.median(times)


def parse(data: bytes) -> float:
    """Parsing the envelope once with lxml."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return median(lambda: etree.fromstring(data, parser))


def verify(signed: bytes) -> float:
    """One RSA-2048 verification and one exclusive canonicalisation of a token of this size."""
    key = rsa.generate_private_key(65537, 2048)
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    public, tree = key.public_key(), etree.fromstring(signed)

    def once() -> None:
        etree.tostring(tree, method="c14n", exclusive=True)
        public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())

    return median(once)


def digest(data: bytes) -> float:
    """SHA-1 and SHA-256 of a document."""
    return median(lambda: (hashlib.sha1(data, usedforsecurity=False).digest(), hashlib.sha256(data).digest()))


def durable_file(data: bytes, folder: Path) -> float:
    """A new file, synced, in a synced folder."""
    handle = os.open(folder, os.O_RDONLY)

    def once() -> None:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, folder / "kept")
        os.fsync(handle)

    try:
        return median(once)
    finally:
        os.close(handle)


def durable_rows(rows: int, size: int, folder: Path) -> float:
    """Rows of this size in one SQLite transaction (WAL, synchronous FULL) by the raw driver."""
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (a INTEGER, b BLOB)")
    blob = os.urandom(size)

    def once() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, blob) for n in range(rows)])
        connection.execute("COMMIT")

    return median(once)


def answer(size: int) -> float:
    """Joining and encoding an answer of this size."""
    text = ["x" * 1000] * max(size // 1000, 1)
    return median(lambda: "".join(text).encode())
