"""Retrieve Document Set (ITI TF-2 §3.43): what the caller may read, byte for byte, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
from xds.messages import DocumentRequest, DocumentResponse
from xds.mtom import Part
from xds.vocabulary import FAILURE, PARTIAL_SUCCESS, SUCCESS
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


def iti43(body: Element, caller: Caller, exchange: Exchange, repository: Repository) -> Answer:
    """Admit the caller, find each document asked for, answer with those found and an error for each other."""
    services = repository.services
    with exchange.step("xds.ebxml"):
        requests = messages.read_retrieve(body)
    exchange.patient = caller.patient
    with services.registry.database.read() as connection:
        with exchange.step("profile"):
            gate = services.profile.admit(connection, caller, "retrieve", "", find_in(connection))
        with exchange.step("registry"):
            outcomes = [_look_up(request, connection, gate, repository) for request in requests]
    outcomes = [_at_hand(outcome, repository.store) if isinstance(outcome, Found) else outcome for outcome in outcomes]
    found = [outcome for outcome in outcomes if isinstance(outcome, Found)]
    findings = [outcome for outcome in outcomes if isinstance(outcome, Finding)]
    exchange.documents += [{"unique_id": document.request.document_unique_id, "size": document.size}
                           for document in found]
    exchange.note(findings)
    with exchange.step("repository"):
        return _answer(found, findings, repository)


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


def _answer(found: list[Found], findings: list[Finding], repository: Repository) -> Answer:
    parts: list[Part] = []
    responses: list[DocumentResponse] = []
    for number, document in enumerate(found, start=1):
        content_id = f"document{number}@volet"
        parts.append((content_id, _content(document.key, repository.store), document.size))
        request = document.request
        responses.append(DocumentResponse(request.home, request.repository_unique_id, request.document_unique_id,
                                          document.mime_type, content_id))
    status = (PARTIAL_SUCCESS if found else FAILURE) if findings else SUCCESS
    return Answer(messages.write_retrieve_response(status, messages.registry_errors(findings), responses), parts)


def _content(key: str, store: Store) -> Iterator[bytes]:
    """A document piece by piece, opened when its turn comes: an answer of a thousand documents holds one file."""
    yield from pieces(store.open(key))
