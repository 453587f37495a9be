"""The audit trail: every change of it is found; many writers, one chain; no audit, no access; events of exchanges."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lxml import etree
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from journal import audit
from journal.audit import Scene, Trail, Verdict, from_exchange, load_key, outcome_of, read_anchors, verify
from journal.batches import Batches
from journal.database import Database
from journal.exchanges import Exchange
from security.audit import Action, AuditSource, Coded, Event, Outcome, Participant, Role, patient
from security.identity import AccessMode, Authentication, Caller
from xds.findings import Catalogue, Refused
from xds.soap import ANONYMOUS
from xds.vocabulary import QUERY, RIM

KEY = bytes(range(32))
AT = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
CX = "268029999900140^^^&1.2.250.1.213.1.4.10&ISO^NH"
OTHER = "258059999900193^^^&1.2.250.1.213.1.4.10&ISO^NH"
REPORTER = AuditSource("volet.essai")


def event(number: int = 0, who: str = CX) -> Event:
    return Event(Coded("110112", "DCM", "Query"), Action.EXECUTE, Outcome.SUCCESS, AT + timedelta(seconds=number),
                 (Participant("essai", True),), REPORTER, objects=(patient(who),), context={"number": str(number)})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'journal.db'}")
    made.migrate("journal")
    yield made
    made.close()


@pytest.fixture
def trail(database: Database) -> Trail:
    """A trail with five records."""
    made = Trail(database, KEY)
    made.append([event(number) for number in range(5)])
    return made


def tamper(database: Database, *statements: str) -> None:
    """What somebody with the database file, but not the key, may do."""
    with sqlite3.connect(str(database.url.database)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS audit_no_update")
        connection.execute("DROP TRIGGER IF EXISTS audit_no_delete")
        for statement in statements:
            connection.execute(statement)


# --- the chain -----------------------------------------------------------------------------------------------------


def test_what_is_written_holds(database: Database, trail: Trail) -> None:
    assert verify(database, KEY) == Verdict(5)
    assert verify(database, KEY).is_good
    trail.append([event(5)])
    assert verify(database, KEY) == Verdict(6)


def test_an_empty_trail_holds(database: Database) -> None:
    assert verify(database, KEY) == Verdict(0)
    Trail(database, KEY).append([])
    assert verify(database, KEY) == Verdict(0)


def test_it_goes_on_after_a_restart(database: Database, trail: Trail) -> None:
    again = Trail(Database(str(database.url)), KEY)
    again.append([event(5)])
    again.database.close()
    assert verify(database, KEY) == Verdict(6)


TAMPERED = {  # statements, first bad record, word of the reason
    "changed": (["UPDATE audit SET payload = replace(payload, 'essai', 'autre') WHERE seq = 3"], 3, "changed"),
    "patient changed": (["UPDATE audit SET patient = '' WHERE seq = 3"], 3, "columns"),
    "time changed": (["UPDATE audit SET at = at + 1 WHERE seq = 4"], 4, "columns"),
    "mac changed": (["UPDATE audit SET mac = zeroblob(32) WHERE seq = 2"], 2, "changed"),
    "first one removed": (["DELETE FROM audit WHERE seq = 1"], 1, "missing"),
    "one in between removed": (["DELETE FROM audit WHERE seq = 3"], 3, "missing"),
    "removed and closed up": (["DELETE FROM audit WHERE seq = 3", "UPDATE audit SET seq = seq - 1 WHERE seq > 3"], 3,
                              "not bound"),
    "two exchanged": (["UPDATE audit SET seq = 9 WHERE seq = 2", "UPDATE audit SET seq = 2 WHERE seq = 3",
                       "UPDATE audit SET seq = 3 WHERE seq = 9"], 2, "not bound"),
    "one repeated": (["INSERT INTO audit SELECT 6, at, patient, prev, mac, payload FROM audit WHERE seq = 5"], 6,
                     "not bound"),
    "one repeated and bound": (["INSERT INTO audit SELECT 6, at, patient, mac, mac, payload FROM audit WHERE seq = 5"],
                               6, "changed"),
    "one put before": (["INSERT INTO audit SELECT 0, at, patient, prev, mac, payload FROM audit WHERE seq = 5"], 1,
                       "missing"),
    "payload of another, MAC with it": (
        ["UPDATE audit SET payload = (SELECT payload FROM audit WHERE seq = 1), mac = (SELECT mac FROM audit WHERE"
         " seq = 1) WHERE seq = 2"], 2, "changed"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_the_first_bad_record_is_named(how: str, database: Database, trail: Trail) -> None:
    statements, first_bad, word = TAMPERED[how]
    tamper(database, *statements)
    verdict = verify(database, KEY)
    assert (verdict.records, verdict.first_bad, verdict.is_good) == (first_bad - 1, first_bad, False)
    assert word in verdict.reason


def test_every_byte_of_a_record_counts(database: Database, trail: Trail) -> None:
    with database.read() as connection:
        payload = connection.execute(text("SELECT payload FROM audit WHERE seq = 2")).scalar_one()
    for place in range(0, len(payload), 7):
        spoiled = payload[:place] + ("x" if payload[place] != "x" else "y") + payload[place + 1:]
        tamper(database, f"UPDATE audit SET payload = '{spoiled}' WHERE seq = 2")
        assert verify(database, KEY).first_bad == 2
    tamper(database, f"UPDATE audit SET payload = '{payload}' WHERE seq = 2")
    assert verify(database, KEY).is_good


def test_another_key_vouches_for_nothing(database: Database, trail: Trail) -> None:
    assert verify(database, bytes(32)).first_bad == 1


def test_long_trails_are_read_in_pieces(database: Database, trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_ROWS", 2)
    assert verify(database, KEY) == Verdict(5)


@pytest.mark.parametrize("statement", ["UPDATE audit SET payload = '{}'", "DELETE FROM audit"])
def test_the_table_takes_nothing_but_new_records(statement: str, database: Database, trail: Trail) -> None:
    with pytest.raises(DBAPIError, match="append-only"), database.write() as connection:
        connection.execute(text(statement))
    assert verify(database, KEY) == Verdict(5)


# --- anchors -------------------------------------------------------------------------------------------------------


def test_a_missing_tail_is_found_by_the_anchor(database: Database, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors"
    trail = Trail(database, KEY, anchors, every=0)
    trail.append([event(0)])
    trail.append([event(1), event(2)])
    assert sorted(read_anchors(anchors)) == [1, 3]
    assert verify(database, KEY, anchors) == Verdict(3)
    tamper(database, "DELETE FROM audit WHERE seq = 3")
    assert verify(database, KEY).is_good
    assert verify(database, KEY, anchors) == Verdict(2, 3, "cut off: anchored up to 3")
    tamper(database, "DELETE FROM audit")
    assert verify(database, KEY, anchors).first_bad == 1


def test_a_trail_written_anew_is_not_the_one_that_was_anchored(database: Database, tmp_path: Path) -> None:
    """Whoever has the key can write another past, but not take back what was anchored elsewhere."""
    anchors = tmp_path / "anchors"
    Trail(database, KEY, anchors, every=0).append([event(0), event(1)])
    tamper(database, "DELETE FROM audit")
    Trail(database, KEY).append([event(7), event(8)])
    assert verify(database, KEY).is_good
    assert verify(database, KEY, anchors) == Verdict(1, 2, "not the record that was anchored")


def test_not_every_write_is_anchored(database: Database, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors"
    trail = Trail(database, KEY, anchors, every=3600)
    for number in range(3):
        trail.append([event(number)])
    assert sorted(read_anchors(anchors)) == [1]
    assert trail.anchor().startswith("3 ")
    assert sorted(read_anchors(anchors)) == [1, 3]
    assert os.stat(anchors).st_mode & 0o077 == 0


def test_nothing_to_anchor(database: Database, tmp_path: Path) -> None:
    assert Trail(database, KEY, tmp_path / "anchors").anchor() == ""
    assert verify(database, KEY, tmp_path / "anchors") == Verdict(0)


def test_anchors_that_cannot_be_written_are_a_problem_and_no_refusal(database: Database, tmp_path: Path) -> None:
    trail = Trail(database, KEY, tmp_path / "none" / "anchors", every=0)
    trail.append([event()])
    assert trail.problem == "anchors: No such file or directory"
    (tmp_path / "none").mkdir()
    trail.append([event()])
    assert trail.problem == ""


@pytest.mark.parametrize("line", ["x", "1 abc", f"-1 {'0' * 64}", f"1 {'0' * 64}\n1 {'1' * 64}"])
def test_bad_anchors_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "anchors").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"anchors:[12]: "):
        read_anchors(tmp_path / "anchors")


# --- no audit, no access -------------------------------------------------------------------------------------------


def test_what_cannot_be_written_refuses(database: Database, trail: Trail) -> None:
    tamper(database, "ALTER TABLE audit RENAME TO away")
    with pytest.raises(Refused) as refused:
        trail.append([event()])
    (finding,) = refused.value.findings
    assert (finding.code, finding.rule.fault) == ("V-JRN-AUDIT-UNAVAILABLE", "Receiver")
    assert trail.problem == "OperationalError"
    tamper(database, "ALTER TABLE away RENAME TO audit")
    trail.append([event()])
    assert trail.problem == ""
    assert verify(database, KEY) == Verdict(6)


def test_a_full_disk_refuses(database: Database, trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit, "insert", full)
    with pytest.raises(Refused):
        trail.append([event()])


# --- many writers --------------------------------------------------------------------------------------------------


def test_threads_and_processes_write_one_chain(database: Database, tmp_path: Path) -> None:
    trails = [Trail(Database(str(database.url)), KEY, tmp_path / "anchors", every=0) for _ in range(2)]
    threads = [threading.Thread(target=lambda t=trail: [t.append([event(n)]) for n in range(10)])  # type: ignore[misc]
               for trail in trails for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for trail in trails:
        trail.database.close()
    assert verify(database, KEY, tmp_path / "anchors") == Verdict(80)


def test_those_who_wait_are_written_together() -> None:
    written: list[list[int]] = []
    entered, go = threading.Event(), threading.Event()

    def write(items: list[int]) -> None:
        written.append(items)
        entered.set()
        go.wait(5)

    batches: Batches[int] = Batches(write)
    first = threading.Thread(target=batches.put, args=([0],))
    first.start()
    assert entered.wait(5)
    others = [threading.Thread(target=batches.put, args=([number],)) for number in (1, 2, 3)]
    for thread in others:
        thread.start()
    while len(batches._waiting) < 3:
        time.sleep(0.001)
    go.set()
    for thread in (first, *others):
        thread.join()
    assert written[0] == [0]
    assert sorted(written[1]) == [1, 2, 3]


def test_each_of_a_batch_learns_that_it_failed() -> None:
    batches: Batches[int] = Batches(lambda items: items.index(99) and None)
    with pytest.raises(ValueError, match="99"):
        batches.put([1])
    batches.put([99])


def test_an_interrupted_write_passes_for_none() -> None:
    def interrupted(_: list[int]) -> None:
        raise KeyboardInterrupt

    batches: Batches[int] = Batches(interrupted)
    with pytest.raises(KeyboardInterrupt):
        batches.put([1])
    assert batches._waiting == []


# --- the key -------------------------------------------------------------------------------------------------------


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    key = load_key(path)
    assert len(key) == 32
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert load_key(path) == key
    assert load_key(tmp_path / "other.key") != key


def test_a_key_for_everybody_is_refused(tmp_path: Path) -> None:
    load_key(tmp_path / "audit.key")
    (tmp_path / "audit.key").chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        load_key(tmp_path / "audit.key")


@pytest.mark.parametrize("content", ["", "abc", "zz" * 32, "00" * 31])
def test_a_broken_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "audit.key"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        load_key(path)


# --- who had access ------------------------------------------------------------------------------------------------


def test_the_accesses_to_one_record(database: Database, trail: Trail) -> None:
    trail.append([event(7, OTHER), event(8)])
    assert [record["context"]["number"] for record in trail.of(CX)] == ["8", "4", "3", "2", "1", "0"]
    assert [record["seq"] for record in trail.of(CX, limit=2)] == [7, 5]
    assert [record["patient"] for record in trail.of(OTHER.removesuffix("^NH"))] == [OTHER]
    assert trail.of("") == []
    with database.read() as connection:
        index = connection.execute(text("SELECT patient FROM audit")).scalars().all()
    assert not any("268029999900140" in one for one in index)


# --- events of exchanges -------------------------------------------------------------------------------------------

SCENE = Scene(REPORTER, "https://volet.invalid/xds/registry", "volet.invalid", "192.0.2.1")
RULES = Catalogue("security")
CALLER = Caller(national_id="899999000013", name="ESSAI ANNE", structure_id="499999000013001", software="Essai 1",
                authentication=Authentication.DIRECTE, mode=AccessMode.CENTRE_15, issuer="CN=x")
ASK = etree.fromstring(f'<q:AdhocQueryRequest xmlns:q="{QUERY}" xmlns:r="{RIM}"><r:AdhocQuery id="urn:uuid:1"/>'
                       "</q:AdhocQueryRequest>")


def test_a_query() -> None:
    exchange = Exchange(door="https", name="ITI-18", message_id="urn:uuid:m", patient=CX, caller=CALLER)
    made = from_exchange(exchange, SCENE, ASK)
    assert (made.event.code, made.types[0].code, made.action, made.outcome) == ("110112", "ITI-18", "E", 0)
    assert abs(made.at.timestamp() * 1000 - exchange.at) < 1
    source, human, destination = made.participants
    assert (source.user_id, source.is_requestor, source.roles[0].code, source.address) == (
        ANONYMOUS, True, "110153", "192.0.2.1")
    assert (human.user_id, human.name, human.alternative_id) == ("899999000013", "<899999000013@CN=x>", "ESSAI ANNE")
    assert (destination.user_id, destination.is_requestor, destination.roles[0].code, destination.address) == (
        "https://volet.invalid/xds/registry", False, "110152", "volet.invalid")
    assert destination.alternative_id == str(os.getpid())
    assert [(one.role, one.id) for one in made.objects] == [(Role.PATIENT, CX), (Role.QUERY, "urn:uuid:1")]
    assert [purpose.code for purpose in made.purposes] == ["centre_15"]
    assert {"mode": "centre_15", "structure": "499999000013001", "software": "Essai 1", "door": "https",
            "exchange": str(exchange.id)}.items() <= made.context.items()


def test_a_retrieve_goes_the_other_way() -> None:
    source, destination = from_exchange(Exchange(name="ITI-43"), SCENE).participants
    assert (source.user_id, source.is_requestor, source.roles[0].code) == (SCENE.endpoint, False, "110153")
    assert (destination.user_id, destination.is_requestor, destination.roles[0].code) == (ANONYMOUS, True, "110152")


def test_a_reply_address_names_the_other_side() -> None:
    made = from_exchange(Exchange(name="ITI-41"), Scene(REPORTER, reply_to="https://client.invalid/"))
    assert made.participants[0].user_id == "https://client.invalid/"
    assert made.participants[1].user_id == "volet.essai"


@pytest.mark.parametrize(("trigger", "action"), [("A01", Action.CREATE), ("A08", Action.UPDATE)])
def test_a_feed_in_hl7_v2(trigger: str, action: Action) -> None:
    message = (f"MSH|^~\\&|LOGICIEL|CABINET|VOLET|RESEAU|20261122||ADT^{trigger}|4711|P|2.3.1\r").encode()
    exchange = Exchange(door="mllp", name="ITI-8", action=f"ADT^{trigger}", message_id="4711", patient=CX,
                        request=message)
    made = from_exchange(exchange, SCENE)
    assert made.action is action
    assert [one.user_id for one in made.participants] == ["CABINET|LOGICIEL", "RESEAU|VOLET"]
    assert made.objects[0].details == (("MSH-10", "4711"),)


def test_a_feed_in_hl7_v3() -> None:
    v3 = "urn:hl7-org:v3"
    body = etree.fromstring(f'<PRPA_IN201301UV02 xmlns="{v3}"><id root="2.999" extension="7"/></PRPA_IN201301UV02>')
    made = from_exchange(Exchange(name="ITI-44", action=f"{v3}:PRPA_IN201301UV02", patient=CX), SCENE, body)
    assert (made.action, made.objects[0].details) == (Action.CREATE, (("II", "2.999^7"),))


def test_a_refusal_is_audited_with_what_was_asked() -> None:
    exchange = Exchange(name="ITI-18")
    exchange.note([RULES["V-SEC-XUA-MISSING"].at(), RULES["V-SEC-XUA-ONE-TIME"].at()])
    made = from_exchange(exchange, SCENE, ASK)
    assert made.outcome is Outcome.SERIOUS
    assert made.description.startswith("V-SEC-XUA-MISSING The message carries no XUA assertion")
    assert "ONE-TIME" not in made.description
    assert made.objects[0].id == "urn:uuid:1"


def test_a_message_that_came_to_no_transaction_is_an_alert() -> None:
    exchange = Exchange(door="https")
    exchange.note([Catalogue("xds")["V-XML-NOT-WELL-FORMED"].at(received="x")])
    made = from_exchange(exchange, SCENE)
    assert (made.event.code, made.types[0].code, made.outcome) == ("110113", "V-XML-NOT-WELL-FORMED", 8)
    assert made.objects == ()
    assert from_exchange(Exchange(name="TD0.0"), SCENE).types[0].code == "TD0.0"


@pytest.mark.parametrize(("codes", "has_documents", "outcome"), [
    ((), False, Outcome.SUCCESS),
    (("V-REP-DOCUMENT-UNKNOWN",), False, Outcome.SERIOUS),
    (("V-REP-DOCUMENT-UNKNOWN",), True, Outcome.MINOR),
    (("V-SEC-XUA-MISSING",), True, Outcome.SERIOUS),
    (("V-VOLET-INTERNAL", "V-REP-DOCUMENT-UNKNOWN"), True, Outcome.MAJOR),
])
def test_an_outcome(codes: tuple[str, ...], has_documents: bool, outcome: Outcome) -> None:
    rules = {**Catalogue("repository"), **RULES, **Catalogue("volet")}
    assert outcome_of([rules[code].at() for code in codes], has_documents) is outcome


def test_an_event_of_an_exchange_can_be_kept(database: Database) -> None:
    exchange = Exchange(name="ITI-18", patient="\ud800\0" + CX, caller=Caller(name="\ud800\0é"))
    Trail(database, KEY).append([from_exchange(exchange, SCENE, ASK)])
    assert verify(database, KEY) == Verdict(1)
    with database.read() as connection:
        payload = connection.execute(text("SELECT payload FROM audit")).scalar_one()
    assert json.loads(payload)["participants"][1]["user"] == "\ud800\0é"
