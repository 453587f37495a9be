"""From what was registered to who hears of it: events of the outbox -> Notify messages (ITI TF-2 §3.52.5.2, §3.53).

An event is matched when it is read, with what the registry then holds. A document counts as registered when it is
submitted and when a new version of it is; a folder when it is submitted and when a document comes into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import structlog
from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import SQLAlchemyError

from journal.consumer import Event
from journal.deliveries import Message, Queue
from registry import claims, queries, subscription_filters, tables
from registry.reader import Found, Key, Reader
from registry.reader import Row as Stored
from registry.register import Registry
from registry.subscription_filters import FACTS, Facts, Filter
from registry.subscriptions import CANCELLED, query_of
from registry.tables import patient_identifier, subscription
from security.access import Gate
from security.addresses import origin_of
from xds import dsub, ebxml, rim
from xds.rim import ObjectRef
from xds.soap import new_message_id, write_envelope
from xds.vocabulary import HAS_MEMBER, RIM
from xds.xml import parse

KINDS = frozenset({"submission", "update"})
AT_ONCE = 100  # documents of one message
#: What was written so long before a subscription was made is not told to it, even if it was only numbered afterwards
GRACE = 3600 * 1000
_CONTENT_TYPE = f'application/soap+xml; charset=UTF-8; action="{dsub.NOTIFY_ACTION}"'

log = structlog.get_logger("registry.notifications")


@dataclass(frozen=True, slots=True)
class Notification:
    """A message for one subscription."""

    subscription: int
    message: Message
    body: bytes


@dataclass(frozen=True, slots=True)
class _Thing:
    """An object registered: reference, whole text, what filters compare."""

    reference: ObjectRef
    text: str
    facts: Facts


@dataclass(frozen=True, slots=True)
class _Things:
    """What one event is about."""

    documents: Sequence[_Thing]
    sets: Sequence[_Thing]
    folders: Sequence[_Thing]


def of_events(registry: Registry, profile: str, events: Iterable[Event]) -> list[Notification]:
    """All messages that events call for, by the subscriptions made under this profile; nothing is written."""
    found: list[Notification] = []
    with registry.database.read() as connection:
        reader = Reader(connection, registry.book, Gate())
        reader.level = 2  # a version that another one has replaced meanwhile was registered all the same
        anybodys = _in_force(reader, profile, None)
        for event in events:
            if event.kind in KINDS:
                there = [*anybodys, *_in_force(reader, profile, event.patient_id)]
                listening = [one for one in there if _listens(one, event)]
                found += _of_event(reader, event, listening) if listening else ()
    return found


def queue(connection: Connection, registry: Registry, notifications: Iterable[Notification]) -> None:
    """Put messages where they are sent from, but for subscriptions that were cancelled meanwhile."""
    waiting = Queue(registry.database, tables.deliveries)
    messages = list(notifications)
    wanted = {one.subscription for one in messages}
    alive = set(connection.execute(select(subscription.c.id).where(
        subscription.c.id.in_(wanted), subscription.c.state != CANCELLED)).scalars()) if wanted else set()
    for one in messages:
        if one.subscription in alive:
            waiting.put(connection, one.message, one.body)


# --- who listens ---------------------------------------------------------------------------------------------------


def _listens(one: Row[Any], event: Event) -> bool:
    """Whether the subscription was in force when the event was written."""
    return bool(one.since < event.position and one.created - GRACE <= event.at < one.until)


def _in_force(reader: Reader, profile: str, patient_id: int | None) -> Sequence[Row[Any]]:
    """Subscriptions for any patient (None), or for one and whoever was merged with that one; some may have ended."""
    column, execute = subscription.c, reader.connection.execute
    statement = select(subscription).where(column.state != CANCELLED, column.profile == profile)
    if patient_id is None:
        return execute(statement.where(column.authority == "", column.value == "")).all()
    names = select(patient_identifier.c.authority, patient_identifier.c.value).where(
        patient_identifier.c.patient_id.in_(reader.kin.ids([patient_id]))).subquery()
    return execute(statement.join(names, (names.c.authority == column.authority)
                                  & (names.c.value == column.value))).all()


@lru_cache(1024)
def _filter(text: str, topic: str) -> Filter:
    return subscription_filters.read(query_of(text), topic)


# --- what happened -------------------------------------------------------------------------------------------------


def _of_event(reader: Reader, event: Event, listening: Iterable[Row[Any]]) -> list[Notification]:
    try:
        things = _things(reader, event)
        return [notification for one in listening for notification in _told(one, things)]
    except SQLAlchemyError:
        raise  # the database's trouble: the event comes again
    except Exception:
        # Whatever is wrong with one event must not keep all that follow from being told.
        log.exception("notification", id=event.id, position=event.position)
        return []


def _told(one: Row[Any], things: _Things) -> Iterator[Notification]:
    """The messages that one subscription gets about an event."""
    chosen = _filter(one.filter, one.topic)
    if one.topic in (dsub.FULL, dsub.MINIMAL):
        matched = [thing for thing in things.documents if chosen.admits(thing.facts)]
        for start in range(0, len(matched), AT_ONCE):
            yield _notification(one, matched[start:start + AT_ONCE])
    else:
        # A message about a submission set or a folder holds one (§3.53.4.1.2).
        for thing in things.sets if one.topic == dsub.SUBMISSION_SET else things.folders:
            if chosen.admits(thing.facts):
                yield _notification(one, [thing])


def _notification(one: Row[Any], things: Sequence[_Thing]) -> Notification:
    texts = ([rim.write_refs(thing.reference for thing in things)] if one.topic == dsub.MINIMAL
             else [thing.text for thing in things])
    identity = new_message_id()
    body = dsub.write_notify(one.reference, one.reference.rpartition("/")[0], one.topic, texts)
    envelope = write_envelope(body, dsub.NOTIFY_ACTION, "", identity, one.consumer, one.blocks)
    return Notification(one.id, Message(identity, "ITI-53", origin_of(one.consumer), one.consumer, _CONTENT_TYPE,
                                        one.id), envelope)


def _things(reader: Reader, event: Event) -> _Things:
    """Objects that an event brought: those that have been removed since are no more."""
    told = event.payload
    documents = reader.by_identifiers(claims.DOCUMENT, [*told.get("documents", ()), *told.get("versions", ())])
    folders = reader.by_identifiers(claims.FOLDER, [*told.get("folders", ()), *_holders(reader, event)])
    sets = reader.by_identifiers(claims.SET, [told["set"]])
    return _Things(list(_read(reader, "documents", documents)), list(_read(reader, "sets", sets)),
                   list(_read(reader, "folders", folders)))


def _holders(reader: Reader, event: Event) -> list[str]:
    """UUIDs of what holds the new versions of documents: a folder goes over from one version to the next."""
    versions = event.payload.get("versions", ())
    links = reader.links_of(versions, [event.patient_id])
    return [row["source"] for row in links.values() if row["target"] in versions
            and reader.book.text_of(reader.connection, row["type"]) == HAS_MEMBER]


def _read(reader: Reader, kind: str, stored: dict[Key, Stored]) -> Iterator[_Thing]:
    texts = queries.render(reader, Found(**{kind: stored}))
    for row, text in zip(stored.values(), texts, strict=True):
        root = parse(f'<rim:RegistryObjectList xmlns:rim="{RIM}">{text}</rim:RegistryObjectList>'.encode())
        entry = _READERS[kind](rim.read_object(root[0]))
        yield _Thing(ObjectRef(row["uuid"], row["home"]), text, FACTS[type(entry)](entry))


_READERS: dict[str, Any] = {"documents": ebxml.to_document, "sets": ebxml.to_set, "folders": ebxml.to_folder}
