"""The journal of exchanges: written as they were, found again by cursor, within its quotas; assertions used once."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal.database import Database
from journal.exchanges import Exchange, Journal, Keeping, verdict_of
from security.identity import AccessMode, Caller
from xds.findings import Catalogue, Severity, Where

RULE = Catalogue("xds")["V-XML-DOCTYPE"]
ERROR = RULE.at(Where("envelope", 3, 7, "/Envelope"), expected="é <&>", received="reçu")
WARNING = replace(ERROR, severity_override=Severity.WARNING)
INFO = replace(ERROR, severity_override=Severity.INFO)


def opened(path: Path) -> Journal:
    return Journal(Database(f"sqlite:///{path}", durable=False), Keeping())


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = opened(tmp_path / "journal.db")
    made.database.migrate("journal")
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    made = opened(tmp_path_factory.mktemp("journal") / "journal.db")
    made.database.migrate("journal")
    yield made
    made.database.close()


def kept(journal: Journal, exchange: Exchange) -> dict[str, Any]:
    journal.record(exchange)
    (found,) = [row for row in journal.recent(1000) if row["transaction"] == str(exchange.id)]
    return found


# --- round trip ----------------------------------------------------------------------------------------------------


def test_an_exchange_comes_back(journal: Journal) -> None:
    who = Caller(national_id="899999000013", name="ESSAI ANNE", structure_id="1990000010",
                 mode=AccessMode.BRIS_DE_GLACE)
    exchange = Exchange("https", "ITI-41", "urn:ihe:iti:x", "urn:uuid:m", "1^^^&1.2&ISO", who, at=1_790_000_000_123)
    exchange.documents.append({"unique_id": "1.2.3", "size": 7})
    exchange.note([ERROR, WARNING])
    with exchange.step("rules"):
        pass
    found = kept(journal, exchange)
    assert found == {
        "transaction": str(exchange.id), "time": "2026-09-21T14:13:20.123Z", "name": "ITI-41", "caller": "ESSAI ANNE",
        "caller_id": "899999000013", "structure": "1990000010", "mode": "bris_de_glace", "door": "https",
        "patient": "1^^^&1.2&ISO", "verdict": "refused", "findings": [ERROR.as_dict(), WARNING.as_dict()],
        "documents": [{"unique_id": "1.2.3", "size": 7}], "milliseconds": found["milliseconds"],
        "steps": [[name, spent] for name, spent in exchange.steps], "action": "urn:ihe:iti:x",
        "message_id": "urn:uuid:m"}
    assert 0 < found["milliseconds"] < 60_000
    assert json.loads(json.dumps(found)) == found


text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=300)


@given(text, text, text, text, text, st.binary(max_size=400), st.binary(max_size=400))
@settings(max_examples=40, deadline=None)
def test_anything_is_written_down(shared: Journal, name: str, action: str, message: str, patient: str, who: str,
                                  request: bytes, response: bytes) -> None:
    """Cut to the columns, never refused: what came from outside must not stop the journal."""
    exchange = Exchange("http", name, action, message, patient, Caller(name=who, national_id=who, structure_id=who),
                        request=request, response=response)
    found = kept(shared, exchange)
    assert (found["name"], found["action"], found["message_id"], found["patient"]) == (
        name[:40], action[:200], message[:256], patient[:256])
    assert (found["caller"], found["caller_id"]) == (who[:200], who[:80])
    assert shared.content(exchange.id) == (request, response)


@pytest.mark.parametrize(("findings", "expected"), [
    ([], "accepted"), ([INFO], "accepted"), ([WARNING, INFO], "warned"), ([WARNING, ERROR], "refused"),
    ([replace(ERROR, severity_override=Severity.WARNING)], "warned")])
def test_verdicts(journal: Journal, findings: list[Any], expected: str) -> None:
    assert verdict_of(findings) == expected
    exchange = Exchange(findings=findings)
    assert kept(journal, exchange)["verdict"] == expected
    assert kept(journal, Exchange(verdict="error", findings=findings))["verdict"] == "error"


def test_steps_are_timed_also_when_they_refuse() -> None:
    exchange = Exchange()

    def refuse() -> None:
        with exchange.step("outer"):
            with exchange.step("inner"):
                time.sleep(0.02)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        refuse()
    (inner, inner_time), (outer, outer_time) = exchange.steps
    assert (inner, outer) == ("inner", "outer")
    assert inner_time >= 20_000
    assert outer_time < 20_000  # what the inner one took is its own
    assert exchange.microseconds >= inner_time


# --- content -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "expected"), [(0, b""), (10, b"x" * 10), (1000, b"x" * 500)])
def test_content_up_to_the_quota(journal: Journal, limit: int, expected: bytes) -> None:
    """0, as in production: nothing of a message is kept."""
    sparing = Journal(journal.database, Keeping(content=limit))
    exchange = Exchange(request=b"x" * 500, response=b"x" * 500)
    sparing.record(exchange)
    assert sparing.content(exchange.id) == (expected, expected)


def test_content_of_nothing(journal: Journal) -> None:
    exchange = Exchange()
    journal.record(exchange)
    assert journal.content(exchange.id) == journal.content(1) == (b"", b"")


# --- cursor and quota ----------------------------------------------------------------------------------------------


def filled(journal: Journal, number: int) -> list[int]:
    exchanges = [Exchange(name="ITI-18" if n % 2 else "ITI-41", findings=[WARNING] if n % 3 else []) for n in
                 range(number)]
    for exchange in exchanges:
        journal.record(exchange)
    return [exchange.id for exchange in exchanges]


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [int(row["transaction"]) for row in rows]


def test_the_newest_in_order(journal: Journal) -> None:
    made = filled(journal, 12)
    assert ids(journal.recent()) == made
    assert ids(journal.recent(5)) == made[-5:]
    assert journal.count() == 12


def test_a_cursor_gives_what_came_after(journal: Journal) -> None:
    made = filled(journal, 5)
    cursor = made[-1]
    assert journal.recent(since=cursor) == []
    more = filled(journal, 4)
    assert ids(journal.recent(since=cursor)) == more
    assert ids(journal.recent(2, since=cursor)) == more[-2:]
    assert ids(journal.recent(since=0)) == made + more


def test_filters(journal: Journal) -> None:
    made = filled(journal, 12)
    assert ids(journal.recent(name="ITI-18")) == made[1::2]
    assert ids(journal.recent(verdict="accepted")) == made[::3]
    assert ids(journal.recent(verdict="accepted", name="ITI-18")) == made[3::6]
    assert journal.recent(name="' OR 1=1 --") == []


def test_room_is_made_by_the_quota(journal: Journal) -> None:
    """Every thousandth exchange sweeps; never the newest."""
    small = Journal(journal.database, Keeping(exchanges=10))
    made = filled(small, 30)
    thousandth = (made[-1] // 1000 + 1) * 1000
    small.record(Exchange(id=thousandth))
    assert small.count() == 10
    assert ids(small.recent()) == [*made[-9:], thousandth]
    small.record(Exchange(id=thousandth + 1000))
    assert small.count() == 10
    small.record(Exchange(id=thousandth + 1001))
    assert small.count() == 11


def test_a_journal_within_its_quota_loses_nothing(journal: Journal) -> None:
    made = filled(journal, 3)
    journal.record(Exchange(id=(made[-1] // 1000 + 1) * 1000))
    assert journal.count() == 4


# --- assertions once -----------------------------------------------------------------------------------------------

NOW = 1_790_000_000  # seconds since 1970
KEY, OTHER = b"k" * 32, b"o" * 32


def test_an_assertion_counts_once(journal: Journal) -> None:
    with time_machine.travel(NOW, tick=False):
        until = (NOW + 300) * 1000
        assert journal.first_use(KEY, until)
        assert not journal.first_use(KEY, until)
        assert journal.first_use(OTHER, until)
        assert not journal.first_use(OTHER, until)


def test_an_assertion_is_remembered_until_its_end(journal: Journal) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        assert journal.first_use(KEY, (NOW + 300) * 1000)
        clock.shift(300)
        assert not journal.first_use(KEY, (NOW + 300) * 1000)  # at its very end it is still remembered
        clock.shift(1)
        assert journal.first_use(KEY, (NOW + 600) * 1000)


def test_a_longer_life_is_not_forgotten(journal: Journal) -> None:
    """The same assertion with a later end: remembered until then."""
    with time_machine.travel(NOW, tick=False) as clock:
        assert journal.first_use(KEY, (NOW + 10) * 1000)
        assert not journal.first_use(KEY, (NOW + 100) * 1000)
        clock.shift(50)
        assert not journal.first_use(KEY, (NOW + 100) * 1000)


def test_threads_use_it_once(journal: Journal) -> None:
    until = (time.time_ns() // 1_000_000) + 300_000
    with ThreadPoolExecutor(6) as pool:
        uses = list(pool.map(lambda _: journal.first_use(KEY, until), range(24)))
    assert sum(uses) == 1


def use(path: Path, until: int) -> int:
    own = opened(path)
    uses = sum(own.first_use(KEY, until) for _ in range(5))
    own.database.close()
    return uses


def test_processes_use_it_once(journal: Journal, tmp_path: Path) -> None:
    journal.database.close()
    until = (time.time_ns() // 1_000_000) + 300_000
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
        assert sum(job.result(timeout=60) for job in [pool.submit(use, tmp_path / "journal.db", until)
                                                      for _ in range(3)]) == 1


# --- many at once --------------------------------------------------------------------------------------------------


def test_threads_record_side_by_side(journal: Journal) -> None:
    with ThreadPoolExecutor(6) as pool:
        shares = list(pool.map(lambda _: filled(journal, 5), range(6)))
    assert sorted(ids(journal.recent(100))) == sorted(one for share in shares for one in share)


@given(st.lists(st.sampled_from([ERROR, WARNING, INFO]), max_size=3))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_findings_come_back(shared: Journal, findings: list[Any]) -> None:
    exchange = Exchange()
    exchange.note(findings)
    assert kept(shared, exchange)["findings"] == [finding.as_dict() for finding in findings]
