"""Retrieve Document Set (ITI TF-2 §3.43): what the caller may read, byte for byte, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import Connection

from journal.exchanges import Exchange
from registry import claims
from registry.reader import Reader
from registry.transactions import find_in
from repository.provide import RULES, Repository
from repository.store import Store, pieces
from security.access import Gate
from security.identity import Caller
from xds import messages
from xds.answers import Answer
from xds.findings import Finding, Where
from xds.messages import DocumentRequest, DocumentResponse, RegistryError
from xds.mtom import Part
from xds.vocabulary import FAILURE, PARTIAL_SUCCESS, SEVERITY_ERROR, SUCCESS
from xds.xml import Element

UNKNOWN_REPOSITORY = RULES["V-REP-UNKNOWN-REPOSITORY"]
DOCUMENT_UNKNOWN = RULES["V-REP-DOCUMENT-UNKNOWN"]

log = structlog.get_logger("repository")


@dataclass(frozen=True, slots=True)
class Found:
    """One document that goes out."""

    request: DocumentRequest
    mime_type: str
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One document on its way out: what is said of it, and its bytes."""

    response: DocumentResponse
    content: Iterable[bytes]
    size: int


def iti43(body: Element, caller: Caller, exchange: Exchange, repository: Repository) -> Answer:
    """Admit the caller, find each document asked for, answer with those found and an error for each other."""
    with exchange.step("xds.ebxml"):
        requests = messages.read_retrieve(body)
    found, findings = look_up(requests, "retrieve", caller, exchange, repository)
    return answer(found, messages.registry_errors(findings))


def look_up(requests: Iterable[DocumentRequest], action: str, caller: Caller, exchange: Exchange,
            repository: Repository) -> tuple[list[Delivery], list[Finding]]:
    """Documents that the caller may have, and why not the others. `action`: what the profile is asked to admit."""
    services, store = repository.services, repository.store
    exchange.patient = caller.patient
    with services.registry.database.read() as connection:
        with exchange.step("profile"):
            gate = services.profile.admit(connection, caller, action, "", find_in(connection))
        with exchange.step("registry"):
            outcomes = [_look_up(request, connection, gate, repository) for request in requests]
    with exchange.step("repository"):
        outcomes = [_at_hand(outcome, store) if isinstance(outcome, Found) else outcome for outcome in outcomes]
    found = [_deliver(outcome, store) for outcome in outcomes if isinstance(outcome, Found)]
    findings = [outcome for outcome in outcomes if isinstance(outcome, Finding)]
    exchange.documents += map(described, found)
    exchange.note(findings)
    return found, findings


def described(delivery: Delivery) -> dict[str, Any]:
    """A document as the journal names it."""
    return {"unique_id": delivery.response.unique_id, "size": delivery.size}


def _look_up(request: DocumentRequest, connection: Connection, gate: Gate,
             repository: Repository) -> Found | Finding:
    """The document, or why not; what may not be read is answered like what does not exist."""
    services, unique_id = repository.services, request.document_unique_id
    own = services.profile.domain.repository_unique_id
    if request.repository_unique_id != own:
        return UNKNOWN_REPOSITORY.at(Where("envelope", path="DocumentRequest/RepositoryUniqueId"), expected=own,
                                     received=request.repository_unique_id)
    reader = Reader(connection, services.registry.book, gate)
    rows: list[Any] = [row for row in reader.by_identifiers(claims.DOCUMENT, [unique_id]).values()
                       if row["storage_key"] and row["unique_id"] == unique_id]
    if not rows:
        return DOCUMENT_UNKNOWN.at(Where("envelope", path="DocumentRequest/DocumentUniqueId"), received=unique_id)
    return Found(request, rows[0]["mime_type"], rows[0]["storage_key"], rows[0]["size"])


def _at_hand(document: Found, store: Store) -> Found | Finding:
    """What the registry knows and the store has lost is not there for the caller, and an alarm for the operator."""
    try:
        store.open(document.key).close()
    except FileNotFoundError:
        unique_id = document.request.document_unique_id
        log.error("document lost", key=document.key)
        return DOCUMENT_UNKNOWN.at(Where("envelope", path="DocumentRequest/DocumentUniqueId"), received=unique_id)
    return document


def _deliver(document: Found, store: Store) -> Delivery:
    request = document.request
    response = DocumentResponse(request.home, request.repository_unique_id, request.document_unique_id,
                                document.mime_type)
    return Delivery(response, _content(document.key, store), document.size)


def answer(deliveries: Sequence[Delivery], errors: Sequence[RegistryError]) -> Answer:
    """The response with its documents beside it; its status says whether all, some or none are there."""
    parts: list[Part] = []
    responses: list[DocumentResponse] = []
    for number, delivery in enumerate(deliveries, start=1):
        content_id = f"document{number}@volet"
        parts.append((content_id, delivery.content, delivery.size))
        responses.append(replace(delivery.response, content_id=content_id))
    failed = any(error.severity == SEVERITY_ERROR for error in errors)
    status = (PARTIAL_SUCCESS if responses else FAILURE) if failed else SUCCESS
    return Answer(messages.write_retrieve_response(status, errors, responses), parts)


def _content(key: str, store: Store) -> Iterator[bytes]:
    """A document piece by piece, opened when its turn comes: an answer of a thousand documents holds one file."""
    yield from pieces(store.open(key))
