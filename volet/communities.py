"""Other communities, and the initiating gateway that asks them for local consumers (ITI TF-2 §3.38, §3.39).

A consumer asks ITI-18 and ITI-43 of it as of a registry and a repository. Every community is asked at once, each has
its own time, and what one of them cannot answer never costs the answers of the others. Addresses come from the
operator's file alone. Documents come and go through files, which are removed when nobody refers to them any more.
"""

from __future__ import annotations

import threading
import time
import tomllib
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests
import structlog

from journal.exchanges import Exchange
from registry import queries, query_values
from registry.gateway import check_home, home_of, search
from registry.transactions import admit
from repository.gateway import sort
from repository.provide import Repository
from repository.retrieve import Delivery, answer, described, look_up
from repository.spool import Message, Received, receive
from repository.store import pieces
from security.identity import Caller
from volet.client.exchange import NOT_SOAP, SOAP_TYPES, connect, describe, reaching
from xds import messages, rim
from xds.answers import Answer, is_fault
from xds.findings import Catalogue, Finding, Refused, Where
from xds.messages import TRANSACTIONS, AdhocQuery, DocumentRequest, DocumentResponse, RegistryError, Transaction
from xds.mtom import Limits, write_related
from xds.soap import new_message_id, read_envelope, read_fault, write_request
from xds.vocabulary import FAILURE, PARTIAL_SUCCESS, SEVERITY_ERROR, SEVERITY_WARNING, SUCCESS
from xds.xcpd import OID
from xds.xml import Element

RULES = Catalogue("volet")
UNAVAILABLE = RULES["V-XCA-UNAVAILABLE"]
INCOMPLETE = RULES["V-XCA-ANSWER-INCOMPLETE"]

MOST = 32  # communities; each is a thread of every question
_CONNECT_SECONDS = 10.0
_GRACE = 2.0  # seconds after its time in which a community's thread should have ended by itself
_CHUNK = 64 * 1024

log = structlog.get_logger("volet.communities")


# --- the operator's file -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Community:
    """Another community: where its responding gateway takes ITI-38 and ITI-39, and how long it may take to answer.

    `ca`: trust anchors (PEM) of its server, the system's when None; `certificate` and `key` (PEM): who we are to it.
    """

    home: str
    query: str
    retrieve: str
    name: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    seconds: float = 20.0
    retrieve_seconds: float = 300.0


#: Communities by homeCommunityId
Communities = Mapping[str, Community]


def load(path: Path | None, own: str = "") -> Communities:
    """The communities of a file (`[[community]]` tables); ValueError names the file and what is wrong with it.

    Relative paths in it start at its folder; `own` is the homeCommunityId that none of them may have.
    """
    found: list[Community] = []
    try:
        if path is not None:
            found = [_community(table, path.parent) for table in tomllib.loads(path.read_text("utf-8"))["community"]]
            _check(found, own)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"communities {path}: {error}") from error
    return {community.home: community for community in found}


def _community(table: dict[str, Any], folder: Path) -> Community:
    files = {name: folder / table.pop(name) for name in ("ca", "certificate", "key") if name in table}
    return Community(**table, **files)


def _check(found: Sequence[Community], own: str) -> None:
    for community in found:
        if not community.home.startswith(OID):
            raise ValueError(f"home {community.home!r} is not {OID}…")
        if not all(url.startswith(("http://", "https://")) for url in (community.query, community.retrieve)):
            raise ValueError(f"{community.home}: query and retrieve are http:// or https:// addresses")
        if not (0 < community.seconds <= 3600 and 0 < community.retrieve_seconds <= 3600):
            raise ValueError(f"{community.home}: seconds and retrieve_seconds are between 0 and 3600")
        missing = [str(file) for file in (community.ca, community.certificate, community.key)
                   if file is not None and not file.is_file()]
        if missing or (community.key is not None and community.certificate is None):
            raise ValueError(f"{community.home}: no such file: {', '.join(missing) or 'certificate'}")
    homes = [own, *(community.home for community in found)]
    if len(set(homes)) < len(homes) or len(found) > MOST:
        raise ValueError(f"each home once, none our own ({own or '—'}), and at most {MOST} of them")


# --- ITI-18 --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the initiating gateway works with. `limits`: bytes of one community's answer."""

    repository: Repository
    communities: Communities
    limits: Limits


@dataclass(frozen=True, slots=True)
class Share:
    """What one community contributes to an answer."""

    status: str
    objects: Sequence[str] = ()
    deliveries: Sequence[Delivery] = ()
    errors: Sequence[RegistryError] = ()
    findings: Sequence[Finding] = ()


def iti18(body: Element, caller: Caller, exchange: Exchange, gateway: Gateway) -> Answer:
    """Registry Stored Query, answered by this community and all others, or by the one that the query names."""
    services = gateway.repository.services
    own = home_of(services.profile.domain)
    with exchange.step("xds.ebxml"):
        query = messages.read_query(body)
        check_home(query, (own, *gateway.communities))
        patient = queries.patient_of(*query_values.parse(query.id, query.slots))
    exchange.patient = patient or caller.patient
    with exchange.step("profile"):
        admit(services, caller, "initiating-search", patient)
    parts = [_search_here(query, caller, exchange, gateway)] if query.home in {"", own} else []
    asked = [community for community in gateway.communities.values() if query.home in {"", community.home}]
    with exchange.step("communities"):
        parts += ask(asked, lambda community: _search_there(community, query, gateway),
                     lambda community: community.seconds)
    exchange.note([finding for part in parts for finding in part.findings])
    return Answer(messages.write_query_response(
        merged([part.status for part in parts]), [error for part in parts for error in part.errors],
        [text for part in parts for text in part.objects]))


def merged(statuses: Collection[str]) -> str:
    """The status of an answer made of several (ITI TF-2 §3.38.4.1.3)."""
    kinds = set(statuses)
    return kinds.pop() if len(kinds) == 1 else PARTIAL_SUCCESS


def _search_here(query: AdhocQuery, caller: Caller, exchange: Exchange, gateway: Gateway) -> Share:
    services = gateway.repository.services
    try:
        return Share(SUCCESS, search(query, "initiating-search", caller, exchange, services))
    except Refused as refused:
        if is_fault(refused.findings):
            raise
        return _failed(services.profile.domain.home, refused.findings)


def _search_there(community: Community, query: AdhocQuery, gateway: Gateway) -> Share:
    body = messages.write_query(replace(query, home=community.home))
    with _call(community, TRANSACTIONS["ITI-38"], body, gateway) as message:
        response = messages.read_query_response(_body(message, community))
    home = community.home
    objects = [rim.write_refs(replace(reference, home=home) for reference in response.references),
               *(rim.write(replace(thing, home=home)) for thing in response.objects)]
    errors = _located(response.errors, community)
    if response.status in {SUCCESS, PARTIAL_SUCCESS}:
        return Share(response.status, objects, errors=errors)
    if any(error.severity == SEVERITY_ERROR for error in errors):
        return Share(FAILURE, errors=errors)
    return _failed(home, [unavailable(community, response.status)])


def _failed(home: str, findings: Sequence[Finding]) -> Share:
    return Share(FAILURE, errors=messages.registry_errors(findings, home), findings=findings)


def _located(errors: Iterable[RegistryError], community: Community) -> list[RegistryError]:
    """A community's errors, said to be its own; a severity that is none is an error's."""
    return [replace(error, location=community.home,
                    severity=error.severity if error.severity == SEVERITY_WARNING else SEVERITY_ERROR)
            for error in errors]


# --- ITI-43 --------------------------------------------------------------------------------------------------------


def iti43(body: Element, caller: Caller, exchange: Exchange, gateway: Gateway) -> Answer:
    """Retrieve Document Set: each document from the community that its request names."""
    own = home_of(gateway.repository.services.profile.domain)
    with exchange.step("xds.ebxml"):
        requests, strays = sort(messages.read_retrieve(body), (own, *gateway.communities))
    found, findings = look_up([request for request in requests if request.home == own], "initiating-retrieve", caller,
                              exchange, gateway.repository)
    wanted = {community.home: [request for request in requests if request.home == community.home]
              for community in gateway.communities.values()}
    asked = [gateway.communities[home] for home, some in wanted.items() if some]
    with exchange.step("communities"):
        parts = ask(asked, lambda community: _retrieve_there(community, wanted[community.home], gateway),
                    lambda community: community.retrieve_seconds)
    theirs = [delivery for part in parts for delivery in part.deliveries]
    exchange.documents += map(described, theirs)
    exchange.note([*strays, *(finding for part in parts for finding in part.findings)])
    errors = [*messages.registry_errors([*strays, *findings], own), *(error for part in parts for error in part.errors)]
    return answer([*found, *theirs], errors)


def _retrieve_there(community: Community, requests: Sequence[DocumentRequest], gateway: Gateway) -> Share:
    message = _call(community, TRANSACTIONS["ITI-39"], messages.write_retrieve(requests), gateway, len(requests))
    held = {content_id: Held(part) for content_id, part in message.parts.items()}
    response = messages.read_retrieve_response(_body(message, community))
    waiting = Counter((request.repository_unique_id, request.document_unique_id) for request in requests)
    deliveries = []
    for document in response.documents:
        content = held.get(document.content_id) if document.content_id else Held(Received.of(document.data))
        key = document.repository, document.unique_id
        if content is not None and waiting[key] > 0:  # what nobody asked for is not handed on
            waiting[key] -= 1
            deliveries.append(_deliver(document, content, community))
    errors = _located(response.errors, community)
    findings = [] if any(error.severity == SEVERITY_ERROR for error in errors) else [
        INCOMPLETE.at(Where("community", path=community.home), received=unique_id)
        for _, unique_id in waiting.elements()]
    errors += messages.registry_errors(findings, community.home)
    return Share(response.status, deliveries=deliveries, errors=errors, findings=findings)


def _deliver(document: DocumentResponse, content: Held, community: Community) -> Delivery:
    response = replace(document, home=community.home, content_id="", data=b"")
    return Delivery(response, content.pieces(), content.received.size)


class Held:
    """A document on its way through, removed with the last reference to it: also when nobody came to read it."""

    __slots__ = ("__weakref__", "received")

    def __init__(self, received: Received) -> None:
        """Take the document over."""
        self.received = received
        weakref.finalize(self, received.discard)

    def pieces(self) -> Iterator[bytes]:
        """Its bytes; the file is open while they are read."""
        if self.received.data is not None:
            yield self.received.data
            return
        yield from pieces(self.received.open())


# --- asking --------------------------------------------------------------------------------------------------------


def ask(communities: Sequence[Community], question: Callable[[Community], Share],
        seconds_of: Callable[[Community], float]) -> list[Share]:
    """The answers of several communities, asked at once; one that gives none in its time is unavailable."""
    began = time.monotonic()
    running = [(community, _start(question, community)) for community in communities]
    return [_outcome(community, future, seconds_of(community), began) for community, future in running]


def _start(question: Callable[[Community], Share], community: Community) -> Future[Share]:
    """Ask in a thread of its own; one that hangs is left behind, and does not hold up the end of the process."""
    future: Future[Share] = Future()

    def run() -> None:
        try:
            future.set_result(question(community))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=f"community {community.home}", daemon=True).start()
    return future


def _outcome(community: Community, future: Future[Share], seconds: float, began: float) -> Share:
    try:
        return future.result(max(0.0, began + seconds + _GRACE - time.monotonic()))
    except Refused as refused:
        finding = refused.findings[0]
        findings = [finding if finding.rule is UNAVAILABLE else unavailable(community, finding.en)]
    except TimeoutError:
        findings = [unavailable(community, f"> {seconds:g} s")]
    except Exception as error:
        # Contained: whatever one community sends, the others' answers are still good.
        log.exception("community", home=community.home)
        findings = [unavailable(community, type(error).__name__)]
    return _failed(community.home, findings)


def unavailable(community: Community, received: str) -> Finding:
    """The finding on a community that gave no answer, or none that can be used."""
    return UNAVAILABLE.at(Where("community", path=community.home), received=received,
                          community=community.name or community.home)


def _call(community: Community, transaction: Transaction, body: str, gateway: Gateway, documents: int = 0) -> Message:
    """Send a request and take its whole answer, documents in files; TimeoutError after the community's time."""
    limits = replace(gateway.limits, parts=max(gateway.limits.parts, documents + 1))
    retrieves = transaction.mtom
    url = community.retrieve if retrieves else community.query
    seconds = community.retrieve_seconds if retrieves else community.seconds
    until = time.monotonic() + seconds
    content_type, data = _package(write_request(body, transaction.action, url, new_message_id()), transaction)
    certificate = str(community.certificate or "")
    with reaching(url, str(community.ca or "")), connect(url) as session, session.post(
            url, data=data, headers={"Content-Type": content_type, "Accept-Encoding": "identity"}, stream=True,
            timeout=(min(seconds, _CONNECT_SECONDS), seconds), allow_redirects=False,
            cert=(certificate, str(community.key)) if community.key else certificate or None,
            verify=str(community.ca) if community.ca else True) as response:
        answered = response.headers.get("Content-Type", "")
        if answered.partition(";")[0].strip().lower() not in SOAP_TYPES:
            raise Refused(NOT_SOAP.at(Where("HTTP", path=url), expected="SOAP 1.2", received=describe(response)))
        return receive(answered, _in_time(response, until),
                       gateway.repository.store.incoming, limits, in_memory=0)


def _package(envelope: bytes, transaction: Transaction) -> tuple[str, bytes]:
    """Content-Type and body of a request."""
    if not transaction.mtom:
        return f'application/soap+xml; charset=UTF-8; action="{transaction.action}"', envelope
    content_type, parts, _ = write_related(envelope, (), transaction.action)
    return content_type, b"".join(parts)


def _in_time(response: requests.Response, until: float) -> Iterator[bytes]:
    """An answer as it arrives: one that trickles in, which `iter_content` would wait for, is stopped all the same."""
    while chunk := _arrived(response):
        if time.monotonic() > until:
            raise TimeoutError
        yield chunk


def _arrived(response: requests.Response) -> bytes:
    """What is there; whatever the library below raises, which requests does not turn into its own, is a cut line."""
    try:
        return bytes(response.raw.read1(_CHUNK, decode_content=True))
    except Exception as error:
        raise requests.ConnectionError(error) from error


def _body(message: Message, community: Community) -> Element:
    """The body of an answer; Refused when it is a fault."""
    body = read_envelope(message.root, content_action=message.action, charset=message.charset).body
    fault = read_fault(body)
    if fault is not None:
        raise Refused(unavailable(community, str(fault)))
    return body
