"""The process that pushes: notifications of what was registered (ITI-53) and answers that go elsewhere.

One process works, whoever holds the lease; others wait to take over. Every turn: new events become messages, messages
whose turn has come are sent side by side, one at a time to each origin, and what has ended is swept away.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from itertools import chain
from types import FrameType

import structlog
from sqlalchemy.exc import SQLAlchemyError

from journal.consumer import Consumer, LeaseLost
from journal.deliveries import FAILED, Delivery, Queue
from journal.exchanges import Exchange
from registry import notifications, subscriptions, tables
from volet import push
from volet.assembly import Server, build
from volet.push import Outcome, Way
from volet.settings import Settings
from xds.findings import Catalogue, Where

RULES = Catalogue("volet")
AGAIN = RULES["V-VOLET-PUSH-FAILED"]
GIVEN_UP = RULES["V-VOLET-PUSH-GIVEN-UP"]

NAME = "notifications"  # of the cursor in the outbox
EVENTS = 50  # events of one turn
AT_ONCE = 8  # messages on their way at once
IDLE_SECONDS = 0.5  # between two turns that found nothing
TROUBLE_SECONDS = 2.0  # after a turn that failed
PAUSE_SECONDS = 15.0  # nobody answers there: that origin is left alone for so long
SWEEP_SECONDS = 600.0
SLOW_SECONDS = 300.0  # a message on its way for so long is taken for lost; another is tried
GRACE_SECONDS = 10.0  # what is on its way when the process stops

log = structlog.get_logger("volet.notifier")


@dataclass(frozen=True, slots=True)
class _Flight:
    """A message on its way."""

    delivery: Delivery
    since: float


class Notifier:
    """The work of one process."""

    def __init__(self, server: Server, seconds: float = 15.0) -> None:
        """Work with an assembled server; `seconds`: the lease."""
        registry = server.services.registry
        self.server, self.registry = server, registry
        self.consumer = Consumer(registry.database, tables.outbox, tables.outbox_cursor, NAME, seconds)
        self.queue = Queue(registry.database, tables.deliveries)
        self.way = Way(server.settings.push_ca, server.settings.push_certificate)
        self._flights: dict[str, _Flight] = {}  # by origin
        self._paused: dict[str, float] = {}
        self._lock = threading.Lock()
        self._next_sweep = 0.0

    def run(self, enough: threading.Event) -> None:
        """Turn after turn until it is enough; trouble is logged and tried again."""
        while not enough.is_set():
            try:
                waiting = 0.0 if self.turn() else IDLE_SECONDS
            except SQLAlchemyError as error:
                log.warning("database", error=type(error).__name__)
                waiting = TROUBLE_SECONDS
            except Exception:
                log.exception("notifier")
                waiting = TROUBLE_SECONDS
            enough.wait(waiting)
        self._finish()

    def turn(self) -> bool:
        """One turn; whether something was done. Nothing is while another process holds the lease."""
        if not self.consumer.acquire():
            return False
        if time.monotonic() >= self._next_sweep:
            self._sweep()
        return self.fan_out() | self.dispatch()

    def fan_out(self) -> bool:
        """New events -> messages, in one transaction with the cursor: each event once."""
        events = self.consumer.events(EVENTS)
        if not events:
            return False
        messages = notifications.of_events(self.registry, self.server.profile.name, events)
        try:
            with self.registry.database.write() as connection:
                self.consumer.move(connection, events)
                notifications.queue(connection, self.registry, messages)
        except LeaseLost:
            return False
        return True

    def dispatch(self) -> bool:
        """Send what is due, each message by a thread of its own."""
        self._give_up_the_slow()
        with self._lock:
            now = time.monotonic()
            self._paused = {origin: until for origin, until in self._paused.items() if until > now}
            busy = {*self._flights, *self._paused}
            free = AT_ONCE - len(self._flights)
        found = self.queue.due(free, busy) if free > 0 else []
        for delivery in found:
            flight = _Flight(delivery, time.monotonic())
            with self._lock:
                self._flights[delivery.message.origin] = flight
            threading.Thread(target=self._fly, args=(flight,), daemon=True, name=delivery.message.origin).start()
        return bool(found)

    def _give_up_the_slow(self) -> None:
        """Whoever takes a message drop by drop keeps a thread, but nobody from being told."""
        with self._lock:
            slow = {origin: flight for origin, flight in self._flights.items()
                    if time.monotonic() - flight.since > SLOW_SECONDS}
            for origin in slow:
                del self._flights[origin]
                self._paused[origin] = time.monotonic() + PAUSE_SECONDS
        for flight in slow.values():
            self.queue.failed(flight.delivery, f"> {SLOW_SECONDS:.0f} s")

    def _fly(self, flight: _Flight) -> None:
        origin = flight.delivery.message.origin
        try:
            outcome = self._send(flight.delivery)
            if not outcome.reached:
                with self._lock:
                    self._paused[origin] = time.monotonic() + PAUSE_SECONDS
        except Exception:
            log.exception("push", delivery=flight.delivery.id)
            with self._lock:
                self._paused[origin] = time.monotonic() + PAUSE_SECONDS
        finally:
            with self._lock:
                if self._flights.get(origin) is flight:
                    del self._flights[origin]

    def _send(self, delivery: Delivery) -> Outcome:
        """Send a message and note what came of it."""
        message = delivery.message
        exchange = Exchange(door="push", name=message.kind, message_id=message.message_id)
        with exchange.step("push"):
            body = self.queue.body(delivery)
            exchange.request = next(body, b"")
            outcome = push.send(delivery, chain((exchange.request,), body), self.way)
        exchange.response = outcome.answer
        if not outcome.error:
            self.queue.delivered(delivery)
        else:
            rule = GIVEN_UP if self.queue.failed(delivery, outcome.error) == FAILED else AGAIN
            exchange.note([rule.at(Where("HTTP", path=message.address), received=outcome.error,
                                   attempts=delivery.attempts + 1)])
            log.info("push", address=message.address, error=outcome.error, attempts=delivery.attempts + 1)
        self._record(exchange)
        return outcome

    def _record(self, exchange: Exchange) -> None:
        try:
            self.server.journal.record(exchange)
        except Exception:
            log.exception("journal", exchange=exchange.id)

    def _sweep(self) -> None:
        self._next_sweep = time.monotonic() + SWEEP_SECONDS
        self.queue.sweep()
        with self.registry.database.write() as connection:
            subscriptions.sweep(connection)

    def _finish(self) -> None:
        """Let what is on its way arrive, then let others work."""
        limit = time.monotonic() + GRACE_SECONDS
        while self._flights and time.monotonic() < limit:
            time.sleep(0.02)
        try:
            self.consumer.release()
        except SQLAlchemyError as error:
            log.warning("database", error=type(error).__name__)


def run(settings: Settings) -> None:
    """The work of the process, until its parent says that it is enough or is no more."""
    enough = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        enough.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops its children in order
    parent = multiprocessing.parent_process()  # known from before the fork: it may be gone already
    threading.Thread(target=_watch, args=(parent.pid if parent else os.getppid(), enough), daemon=True).start()
    server = build(settings)
    Notifier(server).run(enough)
    server.close()


def _watch(parent: int | None, enough: threading.Event) -> None:
    """A parent killed outright must not leave a process behind that calls others in its name."""
    while not enough.wait(1.0):
        if os.getppid() != parent:
            enough.set()
