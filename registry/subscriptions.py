"""Subscriptions as stories: somebody wants to hear of what is registered, and no longer (ITI TF-2 §3.52).

What they then hear, and when, is told in `registry.notifications`.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, delete, func, insert, select, update

from journal.consumer import last_position
from journal.deliveries import Queue
from journal.exchanges import Exchange
from journal.ids import new_id
from registry import patients, subscription_filters, tables
from registry.requirements import RULES
from registry.subscription_filters import Filter
from registry.transactions import Services, admit
from security.access import Gate
from security.identity import Caller
from xds import dsub
from xds.answers import Answer
from xds.dsub import Subscribe
from xds.findings import Refused, Where
from xds.messages import AdhocQuery
from xds.rim import Slot
from xds.xml import Element

TERMINATION = RULES["V-SUB-TERMINATION"]
ADDRESS = RULES["V-SUB-ADDRESS"]
TOO_MANY = RULES["V-SUB-TOO-MANY"]
RESTRICTED = RULES["V-SUB-RESTRICTED"]
UNKNOWN = RULES["V-SUB-UNKNOWN"]

ACTIVE, CANCELLED, EXPIRED = "active", "cancelled", "expired"
LONGEST, USUAL = timedelta(days=366), timedelta(days=30)
MAX_SUBSCRIPTIONS = 10_000
KEPT = timedelta(days=30)  # how long it is remembered that a subscription has ended

_table = tables.subscription
_IDENTITY = re.compile(r"/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/?$")


@dataclass(frozen=True, slots=True)
class Broker:
    """What a request needs to know beside itself: whom we may call, and the address at which it came in."""

    allows: Callable[[str], bool]
    address: str

    @property
    def root(self) -> str:
        """Address of the service."""
        return _IDENTITY.sub("", self.address).rstrip("/")

    @property
    def subscription(self) -> str:
        """UUID of the subscription that the address is of, "" when it is of none."""
        found = _IDENTITY.search(self.address)
        return found[1] if found else ""


def subscribe(body: Element, caller: Caller, exchange: Exchange, services: Services, broker: Broker) -> Answer:
    """Subscribe Request of ITI-52: read, admit, keep; what is kept is told of from then on."""
    with exchange.step("xds.dsub"):
        asked = dsub.read_subscribe(body)
        chosen = subscription_filters.read(asked.query, asked.topic)
    exchange.patient = chosen.patient
    with exchange.step("profile"):
        _admit(services, caller, chosen.patient)
    now = datetime.now(UTC)
    end = _end_of(asked.termination, now)
    if not broker.allows(asked.consumer.address):
        raise Refused(ADDRESS.at(Where("envelope", path="ConsumerReference/Address"),
                                 received=asked.consumer.address))
    with exchange.step("registry"):
        reference = _keep(asked, chosen, caller, services, broker.root, now, end)
    return Answer(dsub.write_subscribed(reference, now, end))


def unsubscribe(caller: Caller, exchange: Exchange, services: Services, broker: Broker) -> Answer:
    """Unsubscribe Request of ITI-52, sent to the address of the subscription; nothing more is sent because of it."""
    with exchange.step("profile"):
        _admit(services, caller, "")
    database, column = services.registry.database, _table.c
    with exchange.step("registry"), database.write() as connection:
        found = connection.execute(select(column.id).where(
            column.uuid == broker.subscription, column.owner == caller.national_id, column.state == ACTIVE,
            column.until > _milliseconds(datetime.now(UTC)))).scalar()
        if found is None:
            raise Refused(UNKNOWN.at(Where("envelope", path="To"), received=broker.address))
        connection.execute(update(_table).where(column.id == found).values(
            state=CANCELLED, until=_milliseconds(datetime.now(UTC))))
        Queue(database, tables.deliveries).cancel(connection, found)
    return Answer(dsub.write_unsubscribed())


def sweep(connection: Connection) -> None:
    """Note which subscriptions have ended, and forget those that ended long ago."""
    column, now = _table.c, datetime.now(UTC)
    connection.execute(update(_table).where(column.state == ACTIVE, column.until <= _milliseconds(now))
                       .values(state=EXPIRED))
    connection.execute(delete(_table).where(column.state != ACTIVE, column.until < _milliseconds(now - KEPT)))


def query_of(text: str) -> AdhocQuery:
    """The query that a subscription keeps as its filter."""
    data = json.loads(text)
    return AdhocQuery(data["id"], slots=tuple(Slot(slot["name"], tuple(slot["values"])) for slot in data["slots"]))


def _admit(services: Services, caller: Caller, patient: str) -> None:
    """May this caller subscribe? A gate that decides document by document cannot be kept until there are any."""
    gate = admit(services, caller, "subscribe", patient)
    if gate != Gate(findings=gate.findings):
        raise Refused(RESTRICTED.at(Where("caller", path=caller.national_id)))


def _end_of(text: str, now: datetime) -> datetime:
    if not text:
        return now + USUAL
    limits = f"xs:dateTime | xs:duration, > {now:%Y-%m-%dT%H:%M:%SZ}, ≤ {LONGEST.days} d"
    where = Where("envelope", path="InitialTerminationTime")
    try:
        end = dsub.termination_of(text, now)
    except ValueError as error:
        raise Refused(TERMINATION.at(where, expected=limits, received=text)) from error
    if not now < end <= now + LONGEST:
        raise Refused(TERMINATION.at(where, expected=limits, received=text))
    return end


def _keep(asked: Subscribe, chosen: Filter, caller: Caller, services: Services, root: str, now: datetime,
          end: datetime) -> str:
    """Write the subscription down; its address, by which it is cancelled and which nobody can guess."""
    identity = str(uuid.uuid4())
    reference = f"{root}/{identity}"
    authority, value = patients.key_of(chosen.patient) or ("", "")
    query = {"id": asked.query.id, "slots": [{"name": slot.name, "values": slot.values} for slot in asked.query.slots]}
    with services.registry.database.write() as connection:
        number = connection.execute(select(func.count()).where(
            _table.c.state == ACTIVE, _table.c.until > _milliseconds(now))).scalar_one()
        if number >= MAX_SUBSCRIPTIONS:
            raise Refused(TOO_MANY.at(Where("registry"), expected=MAX_SUBSCRIPTIONS, received=number))
        connection.execute(insert(_table), {
            "id": new_id(), "uuid": identity, "authority": authority, "value": value, "topic": asked.topic,
            "filter": json.dumps(query), "consumer": asked.consumer.address, "blocks": asked.consumer.blocks,
            "reference": reference, "owner": caller.national_id, "profile": services.profile.name,
            "since": last_position(connection, tables.outbox_cursor), "created": _milliseconds(now),
            "until": _milliseconds(end), "state": ACTIVE})
    return reference


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
