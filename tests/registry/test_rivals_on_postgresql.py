"""Several at once where the database lets several write: each outcome as if in turn."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from journal.database import Database, take_turns
from registry import patients
from registry.codes import CodeBook
from registry.patients import Traits
from registry.register import Registry
from registry.rows import BASIC_NAMES
from tests.journal.postgres import cluster
from tests.registry.rivals import Outcome, attempt, in_threads
from tests.registry.samples import (
    DOMAIN,
    PATIENT,
    document,
    find,
    folder,
    fresh_oid,
    holds,
    put,
    replacing,
    status_of,
    submission,
)
from xds.model import Submission
from xds.vocabulary import RPLC, XFRM_RPLC

RIVALS = 5  # as many connections as a pool of SQLAlchemy has at rest


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with cluster() as url:
        database = Database(url)
        for room in ("registry", "dmp"):
            database.migrate(room)
        with database.write() as connection:
            patients.feed(connection, [PATIENT], Traits("ESSAI", "CAMILLE", "19580517", "F"))
        book = CodeBook(database)
        book.ensure(BASIC_NAMES)
        yield Registry(database, book, DOMAIN)
        database.close()


def contest(registry: Registry, wholes: list[Submission], accept_repeat: bool = False) -> list[Outcome]:
    """All at once: none begins before each has its thread."""
    start = threading.Barrier(len(wholes))

    def run(whole: Submission) -> Outcome:
        start.wait(30)
        return attempt(registry, whole, accept_repeat)

    return in_threads([lambda whole=whole: run(whole) for whole in wholes])


def held(registry: Registry, unique_id: str) -> int:
    return sum(entry.unique_id == unique_id for entry in find(registry).documents)


@pytest.mark.parametrize("round_", range(5))
def test_the_same_submission(registry: Registry, round_: int) -> None:
    unique_id = fresh_oid()
    whole = submission(document(unique_id=unique_id), unique_id=fresh_oid())
    outcomes = contest(registry, [whole] * RIVALS)
    assert Counter(outcome for _, outcome in outcomes) == {"": 1, "XDSDuplicateUniqueIdInRegistry": RIVALS - 1}
    assert held(registry, unique_id) == 1


@pytest.mark.parametrize("round_", range(5))
def test_the_same_submission_with_retries(registry: Registry, round_: int) -> None:
    unique_id = fresh_oid()
    whole = submission(document(unique_id=unique_id), unique_id=fresh_oid())
    outcomes = contest(registry, [whole] * RIVALS, accept_repeat=True)
    assert Counter(outcome for _, outcome in outcomes) == {"": 1, "repeated": RIVALS - 1}
    assert len({uuid for uuid, _ in outcomes}) == 1
    assert held(registry, unique_id) == 1


@pytest.mark.parametrize("round_", range(5))
def test_the_same_document_with_different_content(registry: Registry, round_: int) -> None:
    unique_id = fresh_oid()
    wholes = [submission(document(unique_id=unique_id, hash=f"{n:040x}")) for n in range(RIVALS)]
    outcomes = contest(registry, wholes)
    assert Counter(outcome for _, outcome in outcomes) == {"": 1, "XDSNonIdenticalHash": RIVALS - 1}
    assert held(registry, unique_id) == 1


@pytest.mark.parametrize("round_", range(5))
def test_the_same_folder(registry: Registry, round_: int) -> None:
    unique_id = fresh_oid()
    wholes = [submission(document(), folder(unique_id=unique_id), holds("Folder01", "Document01"))
              for _ in range(RIVALS)]
    outcomes = contest(registry, wholes)
    assert Counter(outcome for _, outcome in outcomes) == {"": 1, "XDSDuplicateUniqueIdInRegistry": RIVALS - 1}


@pytest.mark.parametrize("round_", range(5))
def test_one_replacement_wins(registry: Registry, round_: int) -> None:
    old = put(registry).ids["Document01"]
    wholes = [submission(*replacing(old, kind=(RPLC, XFRM_RPLC)[n % 2])) for n in range(RIVALS)]
    outcomes = contest(registry, wholes)
    assert Counter(outcome for _, outcome in outcomes) == {"": 1, "XDSRegistryDeprecatedDocumentError": RIVALS - 1}
    assert status_of(registry, old) == "Deprecated"


def test_turns_are_taken_by_name_until_the_end_of_the_transaction(registry: Registry) -> None:
    """The one that names the same waits, the one that names something else does not."""
    waits = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted = :granted")

    def count(granted: bool) -> int:
        with registry.database.read() as connection:
            return connection.execute(waits, {"granted": granted}).scalar_one()

    def second() -> None:
        with registry.database.write() as connection:
            take_turns(connection, ["a", "b"])

    thread = threading.Thread(target=second)
    with registry.database.write() as first:
        take_turns(first, ["b"])
        thread.start()
        while not count(False):
            assert thread.is_alive()
        with registry.database.write() as other:
            take_turns(other, ["c"])
    thread.join(30)
    assert not thread.is_alive()
    assert count(True) == count(False) == 0
