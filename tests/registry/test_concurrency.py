"""Several at once: threads of one process, several processes, readers beside writers; each outcome as if in turn."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from registry.codes import CodeBook
from registry.register import Registry
from registry.tables import outbox
from tests.registry.conftest import open_registry
from tests.registry.rivals import Outcome, attempt, in_processes, in_threads
from tests.registry.samples import (
    ask,
    code,
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

THREADS, PROCESSES = 6, 3


@pytest.fixture(params=["threads", "processes"])
def contest(request: pytest.FixtureRequest, database_file: Path, registry: Registry):
    """Submits each of the submissions given in a thread or process of its own, all at once."""
    def compete(wholes: list[Submission], accept_repeat: bool = False) -> list[Outcome]:
        if request.param == "threads":
            return in_threads([lambda whole=whole: attempt(registry, whole, accept_repeat) for whole in wholes])
        registry.database.close()  # a connection must not be carried over a fork
        return in_processes(database_file, [wholes[n::PROCESSES] for n in range(PROCESSES)], accept_repeat)

    return compete


def test_different_submissions_all_succeed(contest, registry: Registry) -> None:
    """New codes in each, the same new code in all: the code book gives one number to each."""
    wholes = [submission(document(class_code=code("NEW"), event_codes=(code(f"E{n}"),)), folder(),
                         holds("Folder01", "Document01")) for n in range(THREADS)]
    outcomes = contest(wholes)
    assert {outcome for _, outcome in outcomes} == {""}
    assert len(find(registry).documents) == THREADS
    assert len(find(registry, ClassCode="('NEW^^1.2.3')").documents) == THREADS
    assert all(len(find(registry, EventCodeList=f"('E{n}^^1.2.3')").documents) == 1 for n in range(THREADS))
    for uuid, _ in outcomes:
        told = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=f"'{uuid}'")
        assert told.counts == (1, 1, 1, 4)
    with registry.database.read() as connection:
        events = connection.execute(select(outbox.c.id)).scalars().all()
    assert len(set(events)) == THREADS


def test_the_same_submission_with_retries(contest, registry: Registry) -> None:
    outcomes = contest([submission(unique_id=fresh_oid())] * THREADS, accept_repeat=True)
    assert Counter(outcome for _, outcome in outcomes) == {"": 1, "repeated": THREADS - 1}
    assert len({uuid for uuid, _ in outcomes}) == 1
    assert len(find(registry).documents) == 1


def test_the_same_submission_without(contest, registry: Registry) -> None:
    outcomes = contest([submission(unique_id=fresh_oid())] * THREADS)
    assert Counter(outcome for _, outcome in outcomes) == {"": 1, "XDSDuplicateUniqueIdInRegistry": THREADS - 1}
    assert len(find(registry).documents) == 1


def test_one_replacement_wins(contest, registry: Registry) -> None:
    old = put(registry).ids["Document01"]
    wholes = [submission(*replacing(old, kind=(RPLC, XFRM_RPLC)[n % 2])) for n in range(THREADS)]
    outcomes = contest(wholes)
    assert Counter(outcome for _, outcome in outcomes) == {"": 1, "XDSRegistryDeprecatedDocumentError": THREADS - 1}
    assert status_of(registry, old) == "Deprecated"
    assert sorted(entry.status.rpartition(":")[2] for entry in find(registry).documents) == ["Approved", "Deprecated"]


def test_the_same_document_with_different_content(contest, registry: Registry) -> None:
    wholes = [submission(document(unique_id="1.2.3", hash=f"{n:040x}")) for n in range(THREADS)]
    assert Counter(outcome for _, outcome in contest(wholes)) == {"": 1, "XDSNonIdenticalHash": THREADS - 1}


def test_readers_see_whole_submissions_only(registry: Registry) -> None:
    """Set, document, folder and links come together, while five writers are at work."""
    wholes = [submission(document(), folder(), holds("Folder01", "Document01")) for _ in range(20)]
    done, seen = threading.Event(), set()

    def read() -> None:
        while not done.is_set():
            told = ask(registry, "GetAll", patientId=f"'{wholes[0].submission_set.patient_id}'",
                       **{f"XDS{kind}Status": "('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')"
                          for kind in ("DocumentEntry", "SubmissionSet", "Folder")})
            seen.add(told.counts)

    reader = threading.Thread(target=read)
    reader.start()
    in_threads([lambda part=wholes[n::5]: [attempt(registry, whole) for whole in part] for n in range(5)])
    done.set()
    reader.join(30)
    assert seen
    assert {(sets, 1, 1, 4) for sets, *_ in seen if sets} <= {(n, 1, 1, 4) for n in range(1, 21)}
    assert all((documents, folders, links) == (sets, sets, 4 * sets) for sets, documents, folders, links in seen)
    assert len(find(registry).documents) == 20


def test_a_code_that_another_process_made(database_file: Path, registry: Registry) -> None:
    """A book opened before learns of it when first met, and gives it no second number."""
    other = open_registry(database_file)
    put(other, document(class_code=code("LATER")))
    (entry,) = find(registry, ClassCode="('LATER^^1.2.3')").documents
    assert entry.class_code == code("LATER")
    put(registry, document(class_code=code("LATER")))
    assert len(find(other, ClassCode="('LATER^^1.2.3')").documents) == 2
    assert registry.book.id_of("LATER", "1.2.3") == other.book.id_of("LATER", "1.2.3")
    assert CodeBook(registry.database).id_of("LATER", "1.2.3") == registry.book.id_of("LATER", "1.2.3")
    other.database.close()


def test_a_refusal_does_not_unmake_a_code(registry: Registry) -> None:
    """Numbers are given before the transaction: what was rolled back left none that means nothing."""
    whole = submission(document(class_code=code("NEW")), *replacing("urn:uuid:6c1b0c5e-0001-4000-8000-000000000001",
                                                                     "Document02"))
    assert attempt(registry, whole) == ("", "UnresolvedReferenceException")
    put(registry, document(class_code=code("NEW")))
    fresh = CodeBook(registry.database)
    assert fresh.id_of("NEW", "1.2.3") == registry.book.id_of("NEW", "1.2.3")
    assert len(find(registry, ClassCode="('NEW^^1.2.3')").documents) == 1


def test_what_was_acknowledged_survives(database_file: Path) -> None:
    """A process that dies after the answer, without closing anything: another one finds the submission."""
    registry = open_registry(database_file, durable=True)
    child = os.fork()
    if child == 0:
        own = open_registry(database_file, durable=True)
        put(own, document(unique_id="1.2.3"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [entry.unique_id for entry in find(registry).documents] == ["1.2.3"]
    registry.database.close()
    assert sqlite3.connect(database_file).execute("PRAGMA integrity_check").fetchone() == ("ok",)
