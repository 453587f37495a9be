"""What is acknowledged is on the medium: the order of system calls, and what a crash at any of them leaves behind."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unittest.mock import patch

import pytest
from sqlalchemy.exc import OperationalError

from journal import database
from repository import provide
from tests.stories import disk
from tests.stories.disk import Call, Choice, Disk
from tests.stories.ihe import ASSIGNER, new_patient, plain_lot
from tests.stories.process import ROOT, prepare
from tests.stories.wholeness import Sent, faults, unreferenced
from volet import soap as door
from volet.assembly import Server as Assembled
from volet.assembly import build, migrate
from volet.initial import init
from volet.settings import ProfileName, Settings
from xds import soap
from xds.messages import TRANSACTIONS
from xds.mtom import write_related

ACTION = TRANSACTIONS["ITI-41"].action


def package(lot: object) -> tuple[str, bytes]:
    """An ITI-41 request."""
    envelope = soap.write_request(lot.body(), ACTION, "http://localhost/", soap.new_message_id())  # type: ignore[attr-defined]
    content_type, pieces, _ = write_related(envelope, lot.parts(), ACTION)  # type: ignore[attr-defined]
    return content_type, b"".join(pieces)


# --- recording -------------------------------------------------------------------------------------------------------


@dataclass
class Recording:
    """What a server did while it answered: its data folder, a copy from before, the calls, what each request was."""

    data: Path
    before: Path
    answers: Path
    calls: list[Call]
    sent: list[Sent]


def record(folder: Path, pki: Path, lots: int) -> Recording:
    """Let a server of its own answer so many submissions under strace."""
    data, requests, trace = folder / "data", folder / "requests", folder / "trace"
    server = prepare(data, pki)
    init(server.settings)
    patient, chance, sent = new_patient(server, "durable"), random.Random(lots), []
    build(Settings(data=data, profile=ProfileName.IHE)).close()
    requests.mkdir()
    for number in range(lots):
        sizes = [chance.choice((20, 3000, 30_000)) for _ in range(chance.randint(1, 3))]
        lot = plain_lot(patient, *map(chance.randbytes, sizes))
        content_type, body = package(lot)
        (requests / f"{number:03}.type").write_text(content_type)
        (requests / f"{number:03}.body").write_bytes(body)
        sent.append(Sent.of(lot))
    shutil.copytree(data, folder / "before")
    command = [*disk.command(trace), sys.executable, "-m", "tests.stories.recorded", str(data), str(requests),
               str(folder / "answers")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    if "PTRACE" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    return Recording(data, folder / "before", folder / "answers", list(disk.read(trace)), sent)


@pytest.fixture(scope="module")
def recording(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder = tmp_path_factory.mktemp("recording")
    made = record(folder, pki, 10)
    yield made
    shutil.rmtree(folder, ignore_errors=True)


# --- the order -------------------------------------------------------------------------------------------------------


def test_write_sync_rename_sync_commit_answer(recording: Recording) -> None:
    """Each document: bytes, sync, name, sync of the folder; then the transaction and its sync; only then the answer."""
    calls, data = recording.calls, str(recording.data)
    wal = f"{data}/volet.db-wal"
    answers = [at for at, call in enumerate(calls) if call.path == str(recording.answers) and call.name == "write"]
    assert len(answers) == len(recording.sent)
    begin = 0
    for answer, sent in zip(answers, recording.sent, strict=True):
        span = calls[begin:answer]
        renames = [at for at, call in enumerate(span) if call.name == "rename" and "/documents/" in call.other]
        assert len(renames) == len(sent.documents)
        written, kept = [], []
        for at in renames:
            name, target = span[at].path, span[at].other
            written.append(_last(span, lambda call, name=name: call.name == "write" and call.path == name, before=at))
            synced = _last(span, lambda call, name=name: call.is_sync and call.path == name, before=at)
            folder = str(PurePosixPath(target).parent)
            kept.append(_first(span, lambda call, folder=folder: call.is_sync and not call.begun
                               and call.path == folder, after=at))
            assert written[-1] < synced < at < kept[-1]
        log = [at for at, call in enumerate(span) if call.path == wal and call.name == "pwrite64"]
        commits = [at for at in log if at > max(kept)]
        assert commits, "the transaction is written after the documents are on the medium"
        assert _first(span, lambda call: call.is_sync and call.path == wal, after=commits[-1])
        begin = answer


def _last(calls: list[Call], wanted: Callable[[Call], bool], before: int) -> int:
    return next(at for at in range(before - 1, -1, -1) if wanted(calls[at]))


def _first(calls: list[Call], wanted: Callable[[Call], bool], after: int) -> int:
    return next(at for at in range(after + 1, len(calls)) if wanted(calls[at]))


# --- crashes ---------------------------------------------------------------------------------------------------------


def nothing(number: int) -> list[bool]:
    """Of what was not synced, nothing is there."""
    return [False] * number


def some(chance: random.Random) -> Choice:
    """Of what was not synced, this and that is there."""
    return lambda number: [chance.random() < 0.5 for _ in range(number)]


def beginning(chance: random.Random) -> Choice:
    """Of what was not synced, the earlier part is there."""
    def choose(number: int) -> list[bool]:
        length = chance.randint(0, number)
        return [True] * length + [False] * (number - length)

    return choose


def is_unimportant(path: str) -> bool:
    """What no submission depends on: the journal, locks, memory shared by connections, keys and cards."""
    return path.endswith(("-shm", ".lock")) or path.startswith(("journal.db", "pki", "cards"))


def crashes(recording: Recording, folder: Path, choices: list[Choice], every: int,
            forgotten: Callable[[Call], bool] = lambda _: False) -> Iterator[tuple[int, list[str], int]]:
    """Crash after each call that matters, and after some of the others: where, what is wrong then, files left over."""
    model = Disk(recording.data, recording.before, is_unimportant)
    acknowledged = 0
    for at, call in enumerate(recording.calls):
        if not (call.is_sync and forgotten(call)):
            model.happen(call)
        is_answer = call.path == str(recording.answers) and call.name == "write"
        acknowledged += is_answer
        matters = is_answer or call.is_sync or call.name in {"rename", "unlink", "ftruncate"}
        inside = str(recording.data) in call.path or is_answer
        if inside and (matters or at % every == 0):
            for choice in choices:
                lay_out(model.after_a_crash(choice), folder)
                sent = recording.sent
                yield at, faults(folder, sent[:acknowledged], sent[acknowledged:]), len(unreferenced(folder))


def lay_out(content: dict[str, bytes], folder: Path) -> None:
    """Make a folder of what was left."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_a_crash_at_any_call_leaves_everything_acknowledged_and_nothing_by_half(
        recording: Recording, tmp_path: Path) -> None:
    chance = random.Random(7)
    outcomes = list(crashes(recording, tmp_path / "disk", [nothing, some(chance)], every=60))
    assert [(at, wrong) for at, wrong, _ in outcomes if wrong] == []
    assert len(outcomes) > 20 * len(recording.sent)
    # What is left over is at most what one submission brought: the next start or `volet verify` sees to it.
    assert max(left for _, _, left in outcomes) <= max(len(sent.documents) for sent in recording.sent)


def test_the_registry_opens_what_a_crash_left_and_goes_on(recording: Recording, tmp_path: Path) -> None:
    model, folder = Disk(recording.data, recording.before, is_unimportant), tmp_path / "data"
    answers = [at for at, call in enumerate(recording.calls) if call.path == str(recording.answers)
               and call.name == "write"]
    middle = answers[len(answers) // 2] + 8  # some calls into the next one
    for call in recording.calls[:middle]:
        model.happen(call)
    lay_out(model.after_a_crash(nothing), folder)
    settings = Settings(data=folder, profile=ProfileName.IHE)
    migrate(settings)
    server = build(settings)
    with server.services.registry.database.read() as connection:
        (cx,) = connection.exec_driver_sql(
            "SELECT value FROM patient_identifier WHERE value = 'durable'").scalars().all()
    lot = plain_lot(f"{cx}^^^&{ASSIGNER}&ISO", b"after the crash")
    assert answered(server, lot) == b"Success"
    server.close()
    assert faults(folder, [*recording.sent[:len(answers) // 2 + 1], Sent.of(lot)], recording.sent) == []


@pytest.mark.parametrize(("forgotten", "sign"), [
    (lambda call: "/incoming/" in call.path, "its file is"),
    (lambda call: "/documents/" in call.path and "/incoming/" not in call.path, "its file is not there"),
    (lambda call: call.path.endswith("-wal"), "acknowledged, and not there"),
], ids=["the sync of documents", "the sync of their folders", "the sync of the log"])
def test_without_one_of_the_syncs_this_would_be_seen(
        recording: Recording, tmp_path: Path, forgotten: Callable[[Call], bool], sign: str) -> None:
    """The model can tell: each sync left out is found out."""
    outcomes = crashes(recording, tmp_path / "disk", [nothing], every=10**9, forgotten=forgotten)
    assert any(sign in text for _, wrong, _ in outcomes for text in wrong)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_crashes(pki: Path, tmp_path: Path, seed: int) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    made, chance = record(tmp_path, pki, 20 + seed), random.Random(seed)
    choices = [nothing, some(chance), some(chance), beginning(chance)]
    outcomes = list(crashes(made, tmp_path / "disk", choices, every=10))
    assert [(at, wrong) for at, wrong, _ in outcomes if wrong] == []


# --- errors instead of crashes ---------------------------------------------------------------------------------------


@pytest.fixture
def assembled(pki: Path, tmp_path: Path) -> Iterator[Assembled]:
    """A server's parts in this process."""
    made = prepare(tmp_path / "data", pki)
    init(made.settings)
    new_patient(made, "in-process")
    with closing(build(Settings(data=made.data, profile=ProfileName.IHE))) as server:
        yield server
    made.clear()


def answered(server: Assembled, lot: object) -> bytes:
    """Status of the answer to a submission; "fault" for a fault."""
    content_type, body = package(lot)
    response = door.handle(door.Request(content_type, [body], "http"), "repository", server)
    content = b"".join(response.body)
    return content.partition(b"ResponseStatusType:")[2].partition(b'"')[0] or b"fault"


def in_process_lot(*contents: bytes) -> object:
    return plain_lot(f"in-process^^^&{ASSIGNER}&ISO", *contents)


def test_an_error_after_the_commit_takes_no_document_away(assembled: Assembled) -> None:
    """The answer is lost, the submission is not: what is in the registry is in the store."""
    lot = in_process_lot(b"kept all the same")
    register = provide.register

    def then_fail(*arguments: object, **named: object) -> object:
        register(*arguments, **named)  # type: ignore[arg-type]
        raise OperationalError("COMMIT", {}, Exception("the connection was lost"))

    with patch.object(provide, "register", then_fail):
        assert answered(assembled, lot) == b"Failure"
    data = assembled.settings.data
    assert faults(data, [Sent.of(lot)]) == []  # type: ignore[arg-type]
    assert answered(assembled, in_process_lot(b"and on it goes")) == b"Success"
    assert unreferenced(data) == set()


def test_a_log_that_cannot_be_folded_is_no_failure(assembled: Assembled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long look at the registry keeps its log from being folded; submissions go on, and do not wait for it."""
    monkeypatch.setattr(database, "_WAL_LIMIT", 0)
    with closing(sqlite3.connect(assembled.settings.data / "volet.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM document").fetchone()
        begun = time.monotonic()
        assert [answered(assembled, in_process_lot(text)) for text in (b"a", b"b", b"c")] == [b"Success"] * 3
        assert time.monotonic() - begun < 3
    assert answered(assembled, in_process_lot(b"d")) == b"Success"
    assert (assembled.settings.data / "volet.db-wal").stat().st_size == 0
    assert faults(assembled.settings.data, []) == []


def test_a_full_disk_refuses_and_leaves_nothing(assembled: Assembled) -> None:
    kept = list(assembled.repository.store.incoming.iterdir())
    with patch.object(os, "fsync", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        assert answered(assembled, in_process_lot(b"x" * 100, b"y" * 2_000_000)) == b"Failure"
    assert list(assembled.repository.store.incoming.iterdir()) == kept == []
    assert unreferenced(assembled.settings.data) == set()
    assert answered(assembled, in_process_lot(b"x")) == b"Success"


def test_what_a_crash_left_half_received_is_swept_when_it_is_old(assembled: Assembled) -> None:
    incoming = assembled.repository.store.incoming
    old, new = incoming / "part-old", incoming / "part-new"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (0, 0))
    assert assembled.repository.store.sweep() == 1
    assert list(incoming.iterdir()) == [new]
