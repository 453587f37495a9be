"""SOAP at the door: bytes in, bytes out. Steps 1 to 3 of every transaction, its story, and the answer.

Here, and only here, findings become a SOAP fault or a RegistryErrorList.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog
from cryptography.x509 import Certificate
from sqlalchemy.exc import OperationalError

from journal.exchanges import Exchange
from registry import gateway, identity, multi_patient, subscriptions, transactions
from registry.requirements import RULES as REGISTRY_RULES
from registry.subscriptions import Broker
from registry.transactions import Services
from repository.gateway import iti39
from repository.provide import iti41
from repository.remove import iti86
from repository.retrieve import iti43
from repository.spool import Message, receive
from security import vihf
from security.cards import describe, load_certificate
from security.identity import Caller
from security.trust import Purpose
from volet import communities, replies
from volet.assembly import Server
from volet.replies import Route
from volet.settings import ProfileName
from xds import soap
from xds.addressing import HERE, Endpoint
from xds.answers import Answer, failure, is_fault
from xds.contracts import SERVICES
from xds.dsub import write_fault_detail
from xds.findings import Catalogue, Finding, Refused, Where
from xds.messages import Transaction, transaction_of
from xds.mtom import write_related
from xds.soap import Envelope
from xds.xml import Element

RULES = Catalogue("volet")
INTERNAL = RULES["V-VOLET-INTERNAL"]
NO_CERTIFICATE = RULES["V-VOLET-NO-CERTIFICATE"]
REPLAYED = RULES["V-VOLET-ASSERTION-REPLAYED"]
BUSY = REGISTRY_RULES["V-REG-BUSY"]

log = structlog.get_logger("volet.soap")

Handler = Callable[[Envelope, Message, Exchange, Server], Answer]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, apart from HTTP. `certificate`: DER of the TLS client; `door`: "https" or "http".

    `address`: the URL, as the client wrote it.
    """

    content_type: str
    chunks: Iterable[bytes]
    door: str
    certificate: bytes | None = None
    address: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back, or elsewhere: `length` bytes in pieces."""

    status: int
    content_type: str
    body: Iterable[bytes]
    length: int
    to: Endpoint = HERE


def _registry(story: Callable[[Element, Caller, Exchange, Services], Answer]) -> Handler:
    """A story of the registry as a handler."""
    return lambda envelope, _, exchange, server: story(envelope.body, exchange.caller, exchange, server.services)


def _broker(exchange: Exchange, server: Server) -> Broker:
    return Broker(replies.allow_list(server.settings).allows, exchange.address)


HANDLERS: Mapping[str, Handler] = {
    **{name: _registry(story) for name, story in {**transactions.STORIES, **gateway.STORIES}.items()},
    **{name: _registry(story) for name, story in {**identity.STORIES, **multi_patient.STORIES}.items()},
    "ITI-39": lambda envelope, _, exchange, server: iti39(envelope.body, exchange.caller, exchange,
                                                          server.repository),
    "ITI-41": lambda envelope, message, exchange, server: iti41(envelope.body, message, exchange.caller, exchange,
                                                                server.repository),
    "ITI-43": lambda envelope, _, exchange, server: iti43(envelope.body, exchange.caller, exchange,
                                                          server.repository),
    "ITI-86": lambda envelope, _, exchange, server: iti86(envelope.body, exchange.caller, exchange,
                                                          server.repository),
    "ITI-52": lambda envelope, _, exchange, server: subscriptions.subscribe(
        envelope.body, exchange.caller, exchange, server.services, _broker(exchange, server)),
    "ITI-52-Unsubscribe": lambda _envelope, _, exchange, server: subscriptions.unsubscribe(
        exchange.caller, exchange, server.services, _broker(exchange, server)),
}


def _initiating(story: Callable[[Element, Caller, Exchange, communities.Gateway], Answer]) -> Handler:
    """A story of the initiating gateway as a handler."""
    return lambda envelope, _, exchange, server: story(
        envelope.body, exchange.caller, exchange,
        communities.Gateway(server.repository, server.communities, server.limits))


#: What the same transactions mean at the initiating gateway
INITIATING: Mapping[str, Handler] = {"ITI-18": _initiating(communities.iti18), "ITI-43": _initiating(communities.iti43)}
_GATEWAYS = frozenset({"gateway", "initiating"})


@dataclass(slots=True)
class _Outcome:
    """What is known of the answer so far, whatever goes wrong."""

    multipart: bool
    home: str = ""  # the community that a gateway names in its errors
    transaction: Transaction | None = None
    relates_to: str = ""
    route: Route = field(default_factory=Route)
    body: Element | None = None
    answer: Answer | None = None
    findings: list[Finding] = field(default_factory=list)


def handle(request: Request, service: str, server: Server) -> Response:
    """Answer a SOAP request; every outcome is an answer, and every exchange is in the journal."""
    exchange = Exchange(door=request.door, address=request.address)
    outcome = _Outcome(multipart=service == "repository")
    if service in _GATEWAYS:
        outcome.home = server.profile.domain.home
    try:
        _story(request, service, server, exchange, outcome)
    except Refused as refused:
        outcome.findings = list(refused.findings)
    except OperationalError as error:
        log.warning("database", exchange=exchange.id, error=str(error.orig)[:300])
        outcome.findings = [BUSY.at()]
    except Exception:
        # Contained: the sender learns that it is our fault and how to name it, nothing else.
        log.exception("internal", exchange=exchange.id, transaction=exchange.name)
        outcome.findings = [INTERNAL.at(Where("server"), received=exchange.id)]
    exchange.note(outcome.findings)
    with exchange.step("answer"):
        response = _response(outcome, exchange, server.settings.sender_fault_status)
    if not response.to.is_here:
        with exchange.step("reply"):
            response = _deferred(response, outcome, exchange, server)
    _record(exchange, server)
    return response


def _story(request: Request, service: str, server: Server, exchange: Exchange, outcome: _Outcome) -> None:
    with exchange.step("xds.mtom"):
        message = receive(request.content_type, request.chunks, server.repository.store.incoming, server.limits)
    with message:
        exchange.request = message.root
        with exchange.step("xds.soap"):
            envelope = _read_envelope(message, outcome)
            exchange.action, exchange.message_id = envelope.action, envelope.message_id
            outcome.transaction = transaction_of(envelope.action, envelope.body, SERVICES[service])
        exchange.name, outcome.body = outcome.transaction.name, envelope.body
        outcome.multipart = outcome.transaction.mtom
        with exchange.step("security"):
            certificate = load_certificate(request.certificate) if request.certificate else None
            exchange.caller = _identify(envelope, request.door, certificate, exchange, server)
            outcome.route = replies.route_of(envelope, server.settings)
        exchange.note([*message.warnings, *envelope.warnings, *exchange.caller.findings])
        handlers = INITIATING if service == "initiating" else HANDLERS
        outcome.answer = handlers[exchange.name](envelope, message, exchange, server)


def _read_envelope(message: Message, outcome: _Outcome) -> Envelope:
    try:
        envelope = soap.read_envelope(message.root, content_action=message.action, charset=message.charset)
    except Refused:
        outcome.relates_to = soap.message_id_of(message.root, message.charset)
        raise
    outcome.relates_to = envelope.message_id
    return envelope


def _identify(envelope: Envelope, door: str, certificate: Certificate | None, exchange: Exchange,
              server: Server) -> Caller:
    try:
        return identify(envelope, door, certificate, server)
    except Refused:
        if certificate is not None:  # not verified, and said so: a vendor looks for the refusal of their own card
            exchange.caller = Caller(name=f"? {describe(certificate)['subject']}")
        raise


def identify(envelope: Envelope, door: str, certificate: Certificate | None, server: Server) -> Caller:
    """Who is calling. The DMP asks for a VIHF and, over TLS, for the card that holds it; plain IHE for less."""
    if server.settings.profile is ProfileName.IHE or server.trust is None:
        return _identify_plainly(certificate, server)
    over_tls = door == "https"
    trust, now = server.trust.current(), datetime.now(UTC)
    policy = server.policy(over_tls)
    caller = vihf.verify(envelope.header, certificate, trust, now, policy, server.cache)
    if vihf.single_use(caller, policy):
        _check_first_use(caller, server)
    return caller


def _identify_plainly(certificate: Certificate | None, server: Server) -> Caller:
    """Plain IHE: anybody in test mode, so that any toolkit can talk to it; in production the holder of a good card."""
    if not server.settings.refuses_in_handshake:
        return Caller()
    if certificate is None or server.trust is None:
        raise Refused(NO_CERTIFICATE.at(Where("TLS")))
    identity = server.trust.verify(certificate, Purpose.AUTHENTICATION, datetime.now(UTC))
    return Caller(identity, identity.national_id, identity.name, identity.structure_id)


def _check_first_use(caller: Caller, server: Server) -> None:
    """Without TLS nothing ties a VIHF to whoever sends it, so each counts once; by setting, always."""
    settings = server.settings
    until = (time.time_ns() // 1_000_000) + 1000 * (settings.vihf_max_age + 2 * settings.clock_skew)
    if not server.journal.first_use(bytes.fromhex(vihf.replay_key(caller)), until):
        raise Refused(REPLAYED.at(Where("VIHF", path="Assertion/@ID"), received=caller.assertion_id))


def _response(outcome: _Outcome, exchange: Exchange, sender_status: int) -> Response:
    """The one place that decides: fault, failure of the transaction, or its answer.

    A Sender fault is HTTP 400 (SOAP 1.2 Part 2 §7.5.2.2); stacks that throw its body away (CXF) want 500, by setting.
    """
    if outcome.answer is not None:
        return _envelope(outcome, outcome.answer, exchange)
    if outcome.transaction is None or outcome.transaction.faults or is_fault(outcome.findings):
        to = outcome.route.fault
        fault = soap.write_fault(outcome.findings, outcome.relates_to, None, to.address, to.blocks,
                                 write_fault_detail(outcome.findings, datetime.now(UTC)))
        status = max(soap.http_status_of(outcome.findings), sender_status)
        exchange.response = fault
        return replace(_package(fault, (), "", outcome.multipart, status), to=to)
    refusal = failure(outcome.transaction, outcome.findings, outcome.body, datetime.now(UTC), outcome.home)
    return _envelope(outcome, refusal, exchange)


def _envelope(outcome: _Outcome, answer: Answer, exchange: Exchange) -> Response:
    assert outcome.transaction is not None
    action, to = outcome.transaction.answer, outcome.route.reply
    root = soap.write_envelope(answer.body, action, outcome.relates_to, None, to.address, to.blocks)
    exchange.response = root
    return replace(_package(root, answer.parts, action, outcome.multipart, 200), to=to)


def _deferred(response: Response, outcome: _Outcome, exchange: Exchange, server: Server) -> Response:
    """An answer that goes elsewhere: kept until it is sent, then 202; a fault on this connection when it cannot be."""
    try:
        if not response.to.is_nowhere:
            exchange.note([replies.keep(server.services, server.settings, response.to, exchange.name,
                                        response.content_type, response.body, response.length)])
        return Response(202, "", (), 0)
    except Refused as refused:
        outcome.findings = list(refused.findings)
    except Exception:
        log.exception("reply", exchange=exchange.id)
        outcome.findings = [replies.NOT_KEPT.at(Where("server"), received=exchange.id)]
    exchange.note(outcome.findings)
    outcome.answer, outcome.route = None, Route()
    return _response(outcome, exchange, server.settings.sender_fault_status)


def _package(root: bytes, parts: Sequence[tuple[str, bytes | Iterable[bytes], int]], action: str, multipart: bool,
             status: int) -> Response:
    """Answers of the repository are multipart, faults included (ITI TF-2 §3.41.4.2; observed of the DMP)."""
    if multipart:
        content_type, body, length = write_related(root, list(parts), action)
        return Response(status, content_type, body, length)
    suffix = f'; action="{action}"' if action else ""
    return Response(status, f"application/soap+xml; charset=UTF-8{suffix}", (root,), len(root))


def _record(exchange: Exchange, server: Server) -> None:
    """A journal that cannot be written is logged; the answer is true all the same."""
    try:
        server.journal.record(exchange)
    except Exception:
        log.exception("journal", exchange=exchange.id)


def body_of(response: Response) -> Iterator[bytes]:
    """The body's pieces."""
    yield from response.body
