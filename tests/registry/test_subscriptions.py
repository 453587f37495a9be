"""Subscriptions: who may, of what, until when; and what is told of what was registered, to whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from journal.consumer import Consumer
from journal.deliveries import Queue
from journal.exchanges import Exchange
from registry import notifications, patients, subscription_filters, subscriptions, tables
from registry.patients import Traits
from registry.profile import PlainProfile
from registry.register import Registry
from registry.remove import remove
from registry.subscription_filters import FACTS, FILTERS
from registry.subscriptions import Broker
from registry.transactions import Services
from registry.update import update as update_set
from security.access import Gate
from security.addresses import AllowList
from security.identity import Caller
from tests.registry.conftest import make_migrated, open_registry
from tests.registry.samples import (
    DOMAIN,
    OTHER,
    PATIENT,
    SOURCE,
    STRANGER,
    Told,
    ask,
    code,
    document,
    find,
    folder,
    holds,
    link,
    listed,
    person,
    put,
    quoted,
    replacing,
    submission,
    the_set,
)
from xds import dsub, ebxml
from xds.addressing import Endpoint
from xds.dsub import FOLDER, FULL, MINIMAL, SUBMISSION_SET, Subscribe
from xds.findings import Refused
from xds.messages import AdhocQuery
from xds.model import Submission
from xds.rim import ObjectRef, Slot
from xds.soap import WSA, read_envelope
from xds.vocabulary import (
    APPROVED,
    DEPRECATED,
    HAS_MEMBER,
    ON_DEMAND,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY,
)
from xds.xml import parse

ROOT = "https://volet.example/xds/subscriptions"
CONSUMER = "https://notify.example/here"
ALLOWED = AllowList.of(["https://notify.example/"])
CALLER = Caller()


@pytest.fixture
def services(registry: Registry) -> Services:
    return Services(registry, PlainProfile(DOMAIN))


def slots(**parameters: str | list[str]) -> tuple[Slot, ...]:
    return tuple(Slot(f"$XDS{name}", (value,)) for name, values in parameters.items()
                 for value in ([values] if isinstance(values, str) else values))


def asking(name: str = "DocumentEntry", topic: str = FULL, termination: str = "", consumer: str = CONSUMER,
           blocks: str = "", **parameters: str | list[str]) -> Subscribe:
    """A subscription; the prefix `$XDS` of parameters is left out."""
    (identity,) = (known.id for known in FILTERS.values() if known.name == name)
    return Subscribe(Endpoint(consumer, blocks), topic, AdhocQuery(identity, slots=slots(**parameters)), termination)


def of_patient(topic: str = FULL, patient: str = PATIENT, **more: Any) -> Subscribe:
    """A subscription for the documents of a patient."""
    return asking(topic=topic, DocumentEntryPatientId=quoted(patient), **more)


def subscribe(services: Services, asked: Subscribe | None = None, caller: Caller = CALLER) -> dsub.Subscribed:
    body = parse(dsub.write_subscribe(asked or of_patient()).encode())
    answer = subscriptions.subscribe(body, caller, Exchange(), services, Broker(ALLOWED.allows, ROOT))
    return dsub.read_subscribed(parse(answer.body.encode()))


def unsubscribe(services: Services, reference: str, caller: Caller = CALLER) -> str:
    return subscriptions.unsubscribe(caller, Exchange(), services, Broker(ALLOWED.allows, reference)).body


def refused(services: Services, asked: Subscribe, caller: Caller = CALLER) -> list[str]:
    with pytest.raises(Refused) as caught:
        subscribe(services, asked, caller)
    return [finding.code for finding in caught.value.findings]


def kept(services: Services) -> list[Any]:
    with services.registry.database.read() as connection:
        return list(connection.execute(select(tables.subscription).order_by(tables.subscription.c.id)).all())


# --- what is told --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """A message that waits for a consumer."""

    consumer: str
    message_id: str
    notification: dsub.Notification

    @property
    def ids(self) -> list[str]:
        content = self.notification.content
        return [thing.id for thing in content.objects] + [reference.id for reference in content.references]


def fan_out(services: Services, profile: str = "ihe") -> None:
    """What the notifier does with new events."""
    registry = services.registry
    consumer = Consumer(registry.database, tables.outbox, tables.outbox_cursor, "notifications")
    while events := consumer.events():
        messages = notifications.of_events(registry, profile, events)
        with registry.database.write() as connection:
            consumer.move(connection, events)
            notifications.queue(connection, registry, messages)
    consumer.release()


def heard(services: Services, profile: str = "ihe") -> list[Heard]:
    """Everything that waits to be sent, taken out."""
    fan_out(services, profile)
    queue = Queue(services.registry.database, tables.deliveries)
    found = []
    while due := queue.due(1):
        envelope = read_envelope(b"".join(queue.body(due[0])))
        assert (envelope.action, envelope.to) == (dsub.NOTIFY_ACTION, due[0].message.address)
        assert envelope.message_id == due[0].message.message_id
        found.append(Heard(due[0].message.address, envelope.message_id, dsub.read_notify(envelope.body)))
        queue.delivered(due[0])
    return found


def test_a_new_document_is_told_in_full(services: Services) -> None:
    made = subscribe(services)
    uuid = put(services.registry).ids["Document01"]
    (one,) = heard(services)
    assert (one.consumer, one.ids) == (CONSUMER, [uuid])
    assert (one.notification.topic, one.notification.reference) == (FULL, made.reference)
    (entry,) = find(services.registry).documents
    assert ebxml.to_document(one.notification.content.objects[0]) == entry
    assert heard(services) == []


def test_or_by_reference_only(services: Services) -> None:
    subscribe(services, of_patient(MINIMAL))
    uuid = put(services.registry).ids["Document01"]
    (one,) = heard(services)
    assert one.ids == [uuid]
    assert one.notification.content.objects == ()
    assert one.notification.topic == MINIMAL


def test_the_documents_of_one_submission_come_together(services: Services) -> None:
    subscribe(services)
    ids = put(services.registry, document(), document("Document02")).ids
    (one,) = heard(services)
    assert sorted(one.ids) == sorted([ids["Document01"], ids["Document02"]])


def test_a_large_submission_comes_in_pieces(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "AT_ONCE", 2)
    subscribe(services)
    put(services.registry, *(document(f"Document{number}") for number in range(5)))
    found = heard(services)
    assert [len(one.ids) for one in found] == [2, 2, 1]
    assert len({one.message_id for one in found}) == 3


def test_another_patients_documents_are_not(services: Services) -> None:
    subscribe(services)
    put(services.registry, document(patient_id=OTHER), patient_id=OTHER)
    assert heard(services) == []


def test_what_was_there_before_is_not(services: Services) -> None:
    put(services.registry)
    fan_out(services)
    subscribe(services)
    assert heard(services) == []


def test_what_was_written_long_before_is_not_even_if_it_is_numbered_afterwards(services: Services) -> None:
    """The first reader ever finds everything without a position."""
    with time_machine.travel(datetime.now(UTC) - timedelta(days=3)):
        put(services.registry)
    subscribe(services)
    uuid = put(services.registry).ids["Document01"]
    assert [one.ids for one in heard(services)] == [[uuid]]


def test_each_subscription_is_told_for_itself(services: Services) -> None:
    references = {subscribe(services).reference, subscribe(services).reference}
    put(services.registry)
    assert {one.notification.reference for one in heard(services)} == references


def test_reference_parameters_come_back(services: Services) -> None:
    """WS-Addressing: what the consumer's endpoint reference holds travels as header blocks."""
    asked = dsub.write_subscribe(of_patient()).replace(
        "</wsa:Address>", '</wsa:Address><wsa:ReferenceParameters xmlns:wsa="' + WSA
        + '"><x:Box xmlns:x="urn:x">7</x:Box></wsa:ReferenceParameters>')
    subscriptions.subscribe(parse(asked.encode()), CALLER, Exchange(), services, Broker(ALLOWED.allows, ROOT))
    put(services.registry)
    fan_out(services)
    queue = Queue(services.registry.database, tables.deliveries)
    header = read_envelope(b"".join(queue.body(queue.due(1)[0]))).header
    assert header is not None
    (box,) = header.findall("{urn:x}Box")
    assert (box.text, box.get(f"{{{WSA}}}IsReferenceParameter")) == ("7", "true")


def test_a_replaced_document_is_told_by_the_new_one(services: Services) -> None:
    old = put(services.registry).ids["Document01"]
    fan_out(services)
    subscribe(services)
    new = put(services.registry, *replacing(old)).ids["Document01"]
    assert [one.ids for one in heard(services)] == [[new]]


def test_what_has_been_removed_meanwhile_is_not_told(services: Services) -> None:
    subscribe(services)
    ids = put(services.registry).ids
    remove(services.registry, [ObjectRef(identity) for identity in ids.values()])
    assert heard(services) == []


def test_a_subscription_for_a_patient_yet_unknown(services: Services) -> None:
    subscribe(services, of_patient(patient=STRANGER))
    with services.registry.database.write() as connection:
        patients.feed(connection, [STRANGER], Traits("ESSAI", "ALEX"))
    uuid = put(services.registry, document(patient_id=STRANGER), patient_id=STRANGER).ids["Document01"]
    assert [one.ids for one in heard(services)] == [[uuid]]


def test_a_subscription_outlives_a_merge(services: Services) -> None:
    """Whoever was merged away, through however many: the documents of the survivor are meant."""
    subscribe(services)
    with services.registry.database.write() as connection:
        patients.feed(connection, [STRANGER], Traits("ESSAI", "ALEX"))
        for subsumed, survivor in ((PATIENT, STRANGER), (STRANGER, OTHER)):
            row, into = patients.row_of(connection, subsumed), patients.find(connection, survivor)
            assert row is not None
            assert into is not None
            patients.merge(connection, into, row, subsumed)
    uuid = put(services.registry, document(patient_id=OTHER), patient_id=OTHER).ids["Document01"]
    assert [one.ids for one in heard(services)] == [[uuid]]


def test_what_was_registered_before_a_merge_is_told_to_the_survivors_too(services: Services) -> None:
    """Read after it, the event is of the patient whom both are now."""
    subscribe(services, of_patient(patient=OTHER))
    uuid = put(services.registry).ids["Document01"]
    with services.registry.database.write() as connection:
        row, into = patients.row_of(connection, PATIENT), patients.find(connection, OTHER)
        assert row is not None
        assert into is not None
        patients.merge(connection, into, row, PATIENT)
    (one,) = heard(services)
    assert one.ids == [uuid]
    assert ebxml.to_document(one.notification.content.objects[0]).patient_id == OTHER


def test_any_patient(services: Services) -> None:
    subscribe(services, asking("AnyDocumentEntry", DocumentEntryTypeCode=listed("60591-5^^1.2.3")))
    ids = [put(services.registry, document(patient_id=patient, type_code=code(kind)), patient_id=patient)
           .ids["Document01"] for patient, kind in ((PATIENT, "60591-5"), (OTHER, "60591-5"), (OTHER, "11488-4"))]
    assert [one.ids for one in heard(services)] == [[ids[0]], [ids[1]]]


def test_a_submission_set(services: Services) -> None:
    subscribe(services, asking("SubmissionSet", SUBMISSION_SET, SubmissionSetPatientId=quoted(PATIENT),
                               SubmissionSetIntendedRecipient=listed("Some Hospital%", "|2%Welby%")))
    to = {"yes": ("|2^Welby^Marcus^^^^^^&1.2.3&ISO",), "no": ("|3^Autre^Marcus^^^^^^&1.2.3&ISO",), "none": ()}
    ids = {name: put(services.registry, document(), the_set(intended_recipients=values)).ids["Set01"]
           for name, values in to.items()}
    (one,) = heard(services)
    assert (one.ids, one.notification.topic) == ([ids["yes"]], SUBMISSION_SET)


def test_a_folder_that_is_made_and_one_that_grows(services: Services) -> None:
    subscribe(services, asking("Folder", FOLDER, FolderPatientId=quoted(PATIENT),
                               FolderCodeList=listed("SUIVI^^1.2.3")))
    made = put(services.registry, folder(), folder("Folder02", codes=(code("AUTRE"),)), document()).ids
    (one,) = heard(services)
    assert (one.ids, one.notification.topic) == ([made["Folder01"]], FOLDER)
    put(services.registry, document("Document02"), holds(made["Folder01"], "Document02"))
    assert [one.ids for one in heard(services)] == [[made["Folder01"]]]
    put(services.registry, document("Document03"), holds(made["Folder02"], "Document03"))
    assert heard(services) == []


def test_a_folder_in_which_a_document_is_replaced(services: Services) -> None:
    made = put(services.registry, folder(), document(), holds("Folder01", "Document01")).ids
    fan_out(services)
    subscribe(services, asking("Folder", FOLDER, FolderPatientId=quoted(PATIENT)))
    put(services.registry, *replacing(made["Document01"], "Document02"))
    assert [one.ids for one in heard(services)] == [[made["Folder01"]]]


# --- what updates bring --------------------------------------------------------------------------------------------


def operation(*things: Any) -> Submission:
    """An ITI-57 of the pieces, as they are."""
    by_kind = ebxml.from_submission(Submission(
        (the_set(),), tuple(thing for thing in things if hasattr(thing, "unique_id") and hasattr(thing, "mime_type")),
        tuple(thing for thing in things if hasattr(thing, "codes")),
        tuple(thing for thing in things if hasattr(thing, "source"))))
    return ebxml.to_submission(by_kind)


def test_a_new_version_is_told(services: Services) -> None:
    """Corrected metadata that now match were not heard of before."""
    subscribe(services, of_patient(DocumentEntryTypeCode=listed("60591-5^^1.2.3")))
    first = document(type_code=code("11488-4"))
    old = put(services.registry, first).ids["Document01"]
    assert heard(services) == []
    new = replace(first, lid=old, type_code=code("60591-5"))
    ids = update_set(services.registry, operation(new, link(HAS_MEMBER, "Set01", "Document01", previous_version="1",
                                                            submission_set_status="Original")))
    assert [one.ids for one in heard(services)] == [[ids["Document01"]]]


def test_another_status_is_not(services: Services) -> None:
    subscribe(services)
    uuid = put(services.registry).ids["Document01"]
    heard(services)
    update_set(services.registry, operation(link(UPDATE_AVAILABILITY, "Set01", uuid, extra_slots=(
        Slot("OriginalStatus", (APPROVED,)), Slot("NewStatus", (DEPRECATED,))))))
    assert heard(services) == []


def test_a_document_put_into_a_folder_by_an_update(services: Services) -> None:
    made = put(services.registry, folder(), document()).ids
    fan_out(services)
    subscribe(services, asking("Folder", FOLDER, FolderPatientId=quoted(PATIENT)))
    update_set(services.registry, operation(
        holds(made["Folder01"], made["Document01"], "New"), link(SUBMIT_ASSOCIATION, "Set01", "New")))
    assert [one.ids for one in heard(services)] == [[made["Folder01"]]]


def test_a_folder_goes_over_to_the_next_version(services: Services) -> None:
    first = document()
    made = put(services.registry, folder(), first, holds("Folder01", "Document01")).ids
    fan_out(services)
    subscribe(services, asking("Folder", FOLDER, FolderPatientId=quoted(PATIENT)))
    update_set(services.registry, operation(
        replace(first, lid=made["Document01"]),
        link(HAS_MEMBER, "Set01", "Document01", previous_version="1", submission_set_status="Original")))
    assert [one.ids for one in heard(services)] == [[made["Folder01"]]]


# --- what can go wrong on the way ----------------------------------------------------------------------------------


def test_an_event_that_cannot_be_read_keeps_no_other_from_being_told(services: Services) -> None:
    subscribe(services)
    bad = put(services.registry).ids["Document01"]
    uuid = put(services.registry).ids["Document01"]
    with services.registry.database.write() as connection:
        connection.execute(update(tables.document).where(tables.document.c.uuid == bad).values(xml=b"\0", codec=0))
    assert [one.ids for one in heard(services)] == [[uuid]]


def test_messages_and_cursor_are_one(services: Services) -> None:
    """Read twice, told once: who lost the lease puts nothing into the queue."""
    subscribe(services)
    put(services.registry)
    registry = services.registry
    one, other = (Consumer(registry.database, tables.outbox, tables.outbox_cursor, "notifications", seconds)
                  for seconds in (0.0, 30.0))
    late = one.events()
    messages = notifications.of_events(registry, "ihe", late)
    assert len(messages) == 1
    fan = other.events()
    with registry.database.write() as connection:
        other.move(connection, fan)
        notifications.queue(connection, registry, notifications.of_events(registry, "ihe", fan))

    def too_late() -> None:
        with registry.database.write() as connection:
            notifications.queue(connection, registry, messages)
            one.move(connection, late)

    with pytest.raises(Exception, match="notifications"):
        too_late()
    other.release()
    assert len(heard(services)) == 1


def test_subscriptions_of_another_profile_are_silent(services: Services) -> None:
    """Made when everybody could; not told now that somebody else's rules hold."""
    subscribe(services)
    put(services.registry)
    assert heard(services, profile="dmp") == []


# --- ending --------------------------------------------------------------------------------------------------------


def test_nothing_is_told_after_the_end(services: Services) -> None:
    subscribe(services, of_patient(termination="PT1H"))
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=2)):
        put(services.registry)
        assert heard(services) == []


def test_what_happened_before_the_end_is_told_after_it(services: Services) -> None:
    subscribe(services, of_patient(termination="PT1H"))
    uuid = put(services.registry).ids["Document01"]
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=2)):
        with services.registry.database.write() as connection:
            subscriptions.sweep(connection)
        assert [row.state for row in kept(services)] == ["expired"]
        assert [one.ids for one in heard(services)] == [[uuid]]


def test_a_subscription_that_ended_long_ago_is_forgotten(services: Services) -> None:
    subscribe(services, of_patient(termination="PT1H"))
    unsubscribe(services, subscribe(services).reference)
    subscribe(services)
    for days, states in ((1, ["expired", "cancelled", "active"]), (31, ["expired"])):
        with (time_machine.travel(datetime.now(UTC) + timedelta(days=days)),
              services.registry.database.write() as connection):
            subscriptions.sweep(connection)
        assert [row.state for row in kept(services)] == states


@pytest.mark.parametrize(("text", "seconds"), [("", 30 * 86400), ("PT1H", 3600), ("P1D", 86400)])
def test_the_answer_says_until_when(services: Services, text: str, seconds: int) -> None:
    made = subscribe(services, of_patient(termination=text))
    assert made.termination is not None
    assert abs((made.termination - datetime.now(UTC)).total_seconds() - seconds) < 60


@pytest.mark.parametrize("text", ["demain", "2001-01-01T00:00:00Z", "P2Y", "PT0S", "9999-12-31T23:59:59Z"])
def test_an_end_that_is_not_possible(services: Services, text: str) -> None:
    assert refused(services, of_patient(termination=text)) == ["V-SUB-TERMINATION"]


def test_cancelling(services: Services) -> None:
    one, other = subscribe(services), subscribe(services)
    put(services.registry)
    fan_out(services)
    assert "UnsubscribeResponse" in unsubscribe(services, one.reference)
    assert {told.notification.reference for told in heard(services)} == {other.reference}
    put(services.registry)
    assert {told.notification.reference for told in heard(services)} == {other.reference}


def test_cancelled_between_reading_and_queueing(services: Services) -> None:
    made = subscribe(services)
    put(services.registry)
    consumer = Consumer(services.registry.database, tables.outbox, tables.outbox_cursor, "notifications")
    messages = notifications.of_events(services.registry, "ihe", consumer.events())
    consumer.release()
    assert len(messages) == 1
    unsubscribe(services, made.reference)
    with services.registry.database.write() as connection:
        notifications.queue(connection, services.registry, messages)
    assert heard(services) == []


@pytest.mark.parametrize("address", [ROOT, ROOT + "/", ROOT + "/00000000-0000-4000-8000-000000000000", "x", ""])
def test_nothing_to_cancel(services: Services, address: str) -> None:
    subscribe(services)
    with pytest.raises(Refused) as caught:
        unsubscribe(services, address)
    assert [finding.code for finding in caught.value.findings] == ["V-SUB-UNKNOWN"]


def test_cancelling_twice(services: Services) -> None:
    made = subscribe(services)
    unsubscribe(services, made.reference)
    with pytest.raises(Refused):
        unsubscribe(services, made.reference)


def test_somebody_elses(services: Services) -> None:
    """Who has an identity cancels what is theirs; that it is somebody else's is not told."""
    made = subscribe(services, caller=Caller(national_id="8001"))
    for caller in (CALLER, Caller(national_id="8002")):
        with pytest.raises(Refused) as caught:
            unsubscribe(services, made.reference, caller)
        assert [finding.code for finding in caught.value.findings] == ["V-SUB-UNKNOWN"]
    unsubscribe(services, made.reference, Caller(national_id="8001"))


# --- refusals ------------------------------------------------------------------------------------------------------


def test_the_address_of_a_subscription_is_its_own(services: Services) -> None:
    one, other = subscribe(services), subscribe(services)
    assert one.reference != other.reference
    assert re.fullmatch(ROOT + "/[0-9a-f-]{36}", one.reference)
    assert Broker(ALLOWED.allows, one.reference).root == ROOT


@pytest.mark.parametrize("address", [
    "https://other.example/", "http://notify.example/here", "https://notify.example.evil.example/", "file:///etc/passwd",
    "https://notify.example@evil.example/", "urn:uuid:1", "http://www.w3.org/2005/08/addressing/anonymous"])
def test_nobody_else_is_called(services: Services, address: str) -> None:
    assert refused(services, of_patient(consumer=address)) == ["V-SUB-ADDRESS"]
    assert kept(services) == []


@pytest.mark.parametrize(("asked", "codes"), [
    (of_patient(SUBMISSION_SET), ["V-SUB-TOPIC"]), (of_patient(FOLDER), ["V-SUB-TOPIC"]),
    (asking("Folder", FULL, FolderPatientId=quoted(PATIENT)), ["V-SUB-TOPIC"]),
    (of_patient(DocumentEntryCreationTimeFrom="'2025'"), ["V-SUB-PARAMETER"]),
    (of_patient(FolderCodeList="('a^^b')"), ["V-SUB-PARAMETER"]),
    (asking(), ["V-QUERY-PARAMETER-MISSING"]),
    (asking("AnyDocumentEntry"), ["V-QUERY-PARAMETER-MISSING"]),
    (asking("AnyDocumentEntry", DocumentEntryFormatCode="('a^^b')"), ["V-QUERY-PARAMETER-MISSING"]),
    (asking("AnySubmissionSet", SUBMISSION_SET), ["V-QUERY-PARAMETER-MISSING"]),
    (asking("AnyDocumentEntry", DocumentEntryTypeCode="('a^^b')", DocumentEntryPatientId=quoted(PATIENT)),
     ["V-SUB-PARAMETER"]),
    (of_patient(DocumentEntryTypeCode="'a^^b'"), ["V-QUERY-PARAMETER-SYNTAX"]),
    (of_patient(DocumentEntryTypeCode="('a')"), ["V-QUERY-PARAMETER-SYNTAX"]),
    (of_patient(DocumentEntryTypeCode=["('a^^b')", "('c^^d')"]), ["V-QUERY-PARAMETER-NUMBER"]),
    (of_patient(patient="no CX"), ["V-QUERY-PARAMETER-SYNTAX"]),
    (Subscribe(Endpoint(CONSUMER), FULL, AdhocQuery("urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d")),
     ["V-QUERY-UNKNOWN"]),
])
def test_filters_that_cannot_be_applied(services: Services, asked: Subscribe, codes: list[str]) -> None:
    """Each refusal is the fault of WS-BaseNotification, with the reasons behind it."""
    assert refused(services, asked) == ["V-SUB-FILTER", *codes]


def test_too_many(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_SUBSCRIPTIONS", 2)
    subscribe(services)
    gone = subscribe(services)
    assert refused(services, of_patient()) == ["V-SUB-TOO-MANY"]
    unsubscribe(services, gone.reference)
    subscribe(services)


class Strict(PlainProfile):
    """A profile that lets nobody subscribe, or shows each what is theirs."""

    gate: Gate | None = None

    def admit(self, connection: Any, caller: Caller, action: str, patient: str, find: Any) -> Gate:
        assert action == "subscribe"
        if self.gate is None:
            raise Refused(subscriptions.UNKNOWN.at(received=patient))
        return self.gate


@pytest.mark.parametrize("gate", [Gate(sees=lambda _: True), Gate(only_patient=7), Gate(references_only=True)])
def test_a_gate_that_decides_later_cannot_be_kept(registry: Registry, gate: Gate) -> None:
    profile = Strict(DOMAIN)
    object.__setattr__(profile, "gate", gate)
    assert refused(Services(registry, profile), of_patient()) == ["V-SUB-RESTRICTED"]


def test_the_profile_is_asked_first(registry: Registry) -> None:
    services = Services(registry, Strict(DOMAIN))
    assert refused(services, of_patient(consumer="https://evil.example", termination="demain")) == ["V-SUB-UNKNOWN"]
    assert kept(services) == []


# --- filters, compared with the queries themselves -----------------------------------------------------------------

TYPES, CLASSES, EVENTS, FORMATS = (("60591-5", "11488-4"), ("11", "10"), ("EXAMEN", "RADIO", "SOIN"), ("f1", "f2"))
PERSONS = (person("EXEMPLE"), person("ESSAI", "801234567889"), person("exemple_b", "801234567871"))
REFERENCES = ("ACC1^^^&1.2.3.4&ISO^urn:ihe:iti:xds:2013:accession", "REF2^^^&1.2.3.4&ISO^urn:ihe:iti:xds:2013:order")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Told]]:
    """A registry with documents of many kinds, and all that is in it."""
    opened = open_registry(make_migrated(tmp_path_factory.mktemp("filled") / "volet.db"))
    for number in range(24):
        author = replace(document().authors[0], persons=(PERSONS[number % 3],))
        changes = {
            "type_code": code(TYPES[number % 2]), "class_code": code(CLASSES[number // 2 % 2]),
            "format_code": code(FORMATS[number % 2], "1.2.3" if number % 4 < 2 else "1.2.4"),
            "event_codes": tuple(map(code, EVENTS[: number % 4])), "authors": (author,) if number % 5 else (),
            "confidentiality": tuple(map(code, ("N", "R")[: 1 + number % 2])),
            "reference_ids": REFERENCES[: number % 3], "object_type": ON_DEMAND if number % 7 == 3 else
            document().object_type}
        if number % 7 == 3:
            changes |= {"hash": "", "size": "", "creation_time": ""}
        the_folder = folder(codes=tuple(map(code, EVENTS[: 1 + number % 3])))
        whole = submission(document(**changes), the_folder,
                           the_set(source_id=f"{SOURCE}.{number % 3}", authors=(author,)))
        from registry.register import register
        register(opened, whole)
    yield opened, ask(opened, "GetAll", patientId=quoted(PATIENT), XDSDocumentEntryStatus=BOTH,
                      XDSSubmissionSetStatus=BOTH, XDSFolderStatus=BOTH,
                      XDSDocumentEntryType=listed(document().object_type, ON_DEMAND))
    opened.database.close()


BOTH = f"('{APPROVED}','{DEPRECATED}')"


def some(*values: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(lambda chosen: listed(*chosen))


def codes_of(*values: str) -> st.SearchStrategy[str]:
    return some(*(f"{value}^^{scheme}" for value in values for scheme in ("1.2.3", "1.2.4")))


PATTERNS = some("%EXEMPLE%", "80123456788_^%", "%^exemple^%", "%", "%e_e%ple^Camille%", "801234567897^EXEMPLE^Camille%",
                "%EXEMPLE", "EXEMPLE%", "%exemple__%", "%%.%%", "%+%")
FILTER = st.fixed_dictionaries({}, optional={
    "TypeCode": codes_of(*TYPES), "ClassCode": codes_of(*CLASSES), "FormatCode": codes_of(*FORMATS),
    "EventCodeList": st.lists(codes_of(*EVENTS), min_size=1, max_size=2),
    "ConfidentialityCode": st.lists(codes_of("N", "R"), min_size=1, max_size=2), "AuthorPerson": PATTERNS,
    "PracticeSettingCode": codes_of("AMBULATOIRE", "X"), "HealthcareFacilityTypeCode": codes_of("SA07"),
    "Type": some(document().object_type, ON_DEMAND), "Status": some(APPROVED, DEPRECATED)})


def admitted(name: str, told: Told, kind: str, **parameters: str | list[str]) -> set[str]:
    """Which objects a filter admits."""
    asked = asking(name, **parameters)
    chosen = subscription_filters.read(asked.query, subscription_filters.TOPICS[name][0])
    return {entry.id for entry in getattr(told, kind) if chosen.admits(FACTS[type(entry)](entry))}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILTER)
def test_a_filter_admits_what_the_query_finds(filled: tuple[Registry, Told], parameters: dict[str, Any]) -> None:
    """ITI TF-2 §3.52.5.2, word for word."""
    registry, everything = filled
    given = {"Status": BOTH, **parameters}
    found = find(registry, status=given.pop("Status"), **given)
    assert admitted("DocumentEntry", everything, "documents", DocumentEntryPatientId=quoted(PATIENT),
                    **{f"DocumentEntry{name}": value for name, value in parameters.items()}) == found.uuids


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(some("ACC1%", "%accession", "%order", "REF2^^^&1.2.3.4&ISO^%", "acc_^%"), min_size=1, max_size=2))
def test_a_filter_by_reference_admits_what_the_query_finds(filled: tuple[Registry, Told], lists: list[str]) -> None:
    registry, everything = filled
    found = ask(registry, "FindDocumentsByReferenceId", XDSDocumentEntryPatientId=quoted(PATIENT),
                XDSDocumentEntryStatus=BOTH, XDSDocumentEntryReferenceIdList=lists)
    assert admitted("DocumentEntry", everything, "documents", DocumentEntryPatientId=quoted(PATIENT),
                    DocumentEntryReferenceIdList=lists) == found.uuids


@pytest.mark.parametrize("parameters", [
    {}, {"SourceId": listed(SOURCE + ".1")}, {"SourceId": listed(SOURCE + ".1", SOURCE + ".2")},
    {"SourceId": listed("1.2")}, {"AuthorPerson": "%essai%"}, {"AuthorPerson": "8_________7^EX%"}])
def test_a_filter_of_sets_admits_what_the_query_finds(filled: tuple[Registry, Told],
                                                      parameters: dict[str, str]) -> None:
    """A query takes one author, a filter several."""
    registry, everything = filled
    found = ask(registry, "FindSubmissionSets", XDSSubmissionSetPatientId=quoted(PATIENT), XDSSubmissionSetStatus=BOTH,
                **{f"XDSSubmissionSet{name}": quoted(value) if name == "AuthorPerson" else value
                   for name, value in parameters.items()})
    assert admitted("SubmissionSet", everything, "sets", SubmissionSetPatientId=quoted(PATIENT), **{
        f"SubmissionSet{name}": listed(value) if name == "AuthorPerson" else value
        for name, value in parameters.items()}) == found.uuids


@pytest.mark.parametrize("lists", [[], ["('SOIN^^1.2.3')"], ["('SOIN^^1.2.3')", "('RADIO^^1.2.3','X^^1')"],
                                   ["('X^^1.2.3')"]])
def test_a_filter_of_folders_admits_what_the_query_finds(filled: tuple[Registry, Told], lists: list[str]) -> None:
    registry, everything = filled
    more = {"CodeList": lists} if lists else {}
    found = ask(registry, "FindFolders", XDSFolderPatientId=quoted(PATIENT), XDSFolderStatus=BOTH,
                **{f"XDSFolder{name}": value for name, value in more.items()})
    assert admitted("Folder", everything, "folders", FolderPatientId=quoted(PATIENT),
                    **{f"Folder{name}": value for name, value in more.items()}) == found.uuids


def test_folders_by_their_unique_id(filled: tuple[Registry, Told]) -> None:
    _, everything = filled
    wanted = everything.folders[3]
    assert admitted("Folder", everything, "folders", FolderPatientId=quoted(PATIENT),
                    FolderUniqueId=listed(wanted.unique_id)) == {wanted.id}


@given(st.text("aAbé%_.\n", max_size=12), st.text("aAbé.\n", max_size=12))
def test_patterns_are_those_of_sql(pattern: str, text: str) -> None:
    """Against the definition itself, tried every way."""
    def like(wanted: str, given: str) -> bool:
        if not wanted:
            return not given
        if wanted[0] == "%":
            return any(like(wanted[1:], given[start:]) for start in range(len(given) + 1))
        same = bool(given) and (wanted[0] == "_" or wanted[0].lower() == given[0].lower())
        return same and like(wanted[1:], given[1:])

    assert (subscription_filters._pattern(pattern).fullmatch(text) is not None) == like(pattern, text)


def test_no_pattern_takes_for_ever() -> None:
    hostile = subscription_filters._pattern("%a" * 100 + "%b")
    assert hostile.fullmatch("a" * 5000 + "c") is None


# --- how much it takes ---------------------------------------------------------------------------------------------


def test_nothing_is_read_for_nobody(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    put(services.registry)
    monkeypatch.setattr(notifications, "_things", lambda *_: pytest.fail("read"))
    assert heard(services) == []


def test_rows_are_few(services: Services) -> None:
    subscribe(services)
    put(services.registry)
    heard(services)
    with services.registry.database.read() as connection:
        assert [connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (*tables.deliveries, tables.subscription)] == [0, 0, 1]


def test_the_catalogue_of_filters_has_topics() -> None:
    assert {known.name for known in FILTERS.values()} == set(subscription_filters.TOPICS)
    assert Path(subscription_filters.__file__).with_name("subscription_filters.toml").is_file()
