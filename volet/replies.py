"""Asynchronous web services: answers that go to an address of their own (ITI TF-2 appendix V.5, WS-Addressing 1.0).

The request is carried out as ever and its answer kept durably; then, and only then, the sender is told 202. From there
on it is `volet.notifier` that sends it, until it is there. What says who is calling is answered on the connection, so
that nobody who is not known makes this server call anybody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from journal.deliveries import Message, Queue
from registry import tables
from registry.transactions import Services
from security.addresses import AllowList, origin_of
from volet.settings import Settings
from xds.addressing import HERE, Endpoint, endpoint_of
from xds.findings import Catalogue, Finding, Refused, Where
from xds.soap import Envelope, new_message_id

RULES = Catalogue("volet")
ADDRESS = RULES["V-VOLET-REPLY-ADDRESS"]
NO_MESSAGE_ID = RULES["V-VOLET-REPLY-NO-MESSAGE-ID"]
TOO_LARGE = RULES["V-VOLET-REPLY-TOO-LARGE"]
NOT_KEPT = RULES["V-VOLET-REPLY-NOT-KEPT"]
DEFERRED = RULES["V-VOLET-REPLY-DEFERRED"]


@dataclass(frozen=True, slots=True)
class Route:
    """Where the answer of a request goes, and where a fault."""

    reply: Endpoint = HERE
    fault: Endpoint = HERE


def allow_list(settings: Settings) -> AllowList:
    """Whom the operator lets us call."""
    return _allow_list(tuple(settings.push_addresses))


@cache
def _allow_list(prefixes: tuple[str, ...]) -> AllowList:
    return AllowList.of(prefixes)


def route_of(envelope: Envelope, settings: Settings) -> Route:
    """The route that a request asks for; `Refused` before anything is done where it cannot be gone.

    Faults go to FaultTo, else where answers go (WS-Addressing 1.0 Core §3.4).
    """
    asked = {name: endpoint for name in ("ReplyTo", "FaultTo")
             if (endpoint := endpoint_of(envelope.header, name)) is not None}
    far = {name: endpoint for name, endpoint in asked.items() if not endpoint.is_here and not endpoint.is_nowhere}
    allowed = allow_list(settings)
    findings = [ADDRESS.at(Where("envelope", path=f"{name}/Address"), received=endpoint.address)
                for name, endpoint in far.items() if not allowed.allows(endpoint.address)]
    if far and not envelope.message_id:
        findings.append(NO_MESSAGE_ID.at(Where("envelope", path="Header"), expected="wsa:MessageID"))
    if findings:
        raise Refused(findings)
    reply = asked.get("ReplyTo", HERE)
    return Route(reply, asked.get("FaultTo", reply))


def keep(services: Services, settings: Settings, to: Endpoint, name: str, content_type: str, body: Iterable[bytes],
         length: int) -> Finding:
    """Keep an answer until it is sent; durable when this returns, with the note for the journal."""
    if length > settings.max_request_bytes:
        raise Refused(TOO_LARGE.at(Where("answer"), expected=f"≤ {settings.max_request_bytes}", received=length))
    queue = Queue(services.registry.database, tables.deliveries)
    queue.keep(Message(new_message_id(), f"{name} reply"[:20], origin_of(to.address), to.address, content_type), body,
               length)
    return DEFERRED.at(Where("envelope", path="ReplyTo/Address"), received=to.address)
