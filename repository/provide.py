"""Provide and Register Document Set-b, straight through (ITI TF-2 §3.41): the story that everything else serves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import structlog

from journal.exchanges import Exchange
from registry.register import Registered, register, with_documents
from registry.rows import StoredDocument
from registry.transactions import (
    Services,
    admit,
    check_submission,
    lower_uuid,
    patient_of,
    read_submission,
    unknown_objects,
)
from repository.spool import Message, Received
from repository.store import Store
from security.identity import Caller
from xds import messages
from xds.answers import Answer, success
from xds.findings import Catalogue, Finding, Refused, Where
from xds.model import DocumentEntry, Submission
from xds.xml import Element

_syncing = ThreadPoolExecutor(16, thread_name_prefix="keep")

log = structlog.get_logger("repository")

RULES = Catalogue("repository")
DOCUMENT_MISSING = RULES["V-REP-DOCUMENT-MISSING"]
METADATA_MISSING = RULES["V-REP-METADATA-MISSING"]
HASH_DIFFERS = RULES["V-REP-HASH-DIFFERS"]
SIZE_DIFFERS = RULES["V-REP-SIZE-DIFFERS"]
NOT_MULTIPART = RULES["V-REP-NOT-MULTIPART"]
STORAGE = RULES["V-REP-STORAGE"]


@dataclass(frozen=True, slots=True)
class Repository:
    """What the repository's transactions work with."""

    store: Store
    services: Services


def iti41(body: Element, message: Message, caller: Caller, exchange: Exchange, repository: Repository) -> Answer:
    """Read, admit, check, keep, register, answer; whatever is refused leaves nothing behind."""
    services = repository.services
    with exchange.step("xds.ebxml"):
        request = messages.read_provide(body)
        submission = read_submission(request)
        documents = attach(request, message)
    exchange.patient = patient_of(submission)
    exchange.documents += [_described(entry, documents) for entry in submission.documents]
    with exchange.step("profile"):
        admit(services, caller, "feed", exchange.patient)
    with exchange.step("rules"):
        so_far = [*unknown_objects(request), *check_documents(submission, documents), *check_package(message)]
        contents = {identity: document.read for identity, document in documents.items()}
        warnings = check_submission(submission, services, caller, "ITI-41", contents, so_far)
    registered = keep_and_register(submission, documents, exchange, repository)
    warnings += registered.findings
    exchange.note(warnings)
    return success(warnings)


def keep_and_register(submission: Submission, documents: Mapping[str, Received], exchange: Exchange,
                      repository: Repository) -> Registered:
    """Documents first, durably, then one database transaction; what a refusal or a repeat left is removed again.

    After any other error nobody knows whether the transaction took place: the documents stay, for an entry without its
    document would be worse than a document without its entry.
    """
    services = repository.services
    with exchange.step("repository"):
        stored = keep(documents, repository.store)
    try:
        with exchange.step("registry"):
            complete = with_documents(submission, stored, services.profile.domain.repository_unique_id)
            registered = register(services.registry, complete, stored, services.profile.accept_repeat)
    except Refused:
        _forget(stored.values(), repository.store)
        raise
    if registered.repeated:
        _forget(stored.values(), repository.store)
    return registered


def attach(request: messages.ProvideRequest, message: Message) -> dict[str, Received]:
    """Contents by document id, whether they came as parts or inline."""
    found: dict[str, Received] = {}
    for identity, content in messages.attach(request.documents, message.parts).items():
        known = lower_uuid(identity)  # as `read_submission` writes the ids of entries; a twin stays without entry
        found[identity if known in found else known] = Received.of(content) if isinstance(content, bytes) else content
    return found


def check_documents(submission: Submission, documents: Mapping[str, Received]) -> Iterator[Finding]:
    """Every entry has its bytes and every document its entry; declared hash and size are those received."""
    entries = {entry.id for entry in submission.documents}
    for identity in documents:
        if identity not in entries:
            yield METADATA_MISSING.at(Where("envelope", path=f"Document({identity})"), received=identity)
    for entry in submission.documents:
        received = documents.get(entry.id)
        if received is None:
            yield DOCUMENT_MISSING.at(_where(entry), received=entry.id)
            continue
        if entry.hash and entry.hash.lower() != received.sha1:
            yield HASH_DIFFERS.at(_where(entry, "hash"), expected=entry.hash, received=received.sha1,
                                  document=entry.id)
        if entry.size and entry.size != str(received.size):
            yield SIZE_DIFFERS.at(_where(entry, "size"), expected=entry.size, received=received.size,
                                  document=entry.id)


def check_package(message: Message) -> Iterator[Finding]:
    """ITI-41 is MTOM; a bare envelope is accepted because real clients send it (TF-2 §3.41.4.1)."""
    if not message.is_multipart:
        yield NOT_MULTIPART.at(Where("Content-Type"), expected="multipart/related", received="application/soap+xml")


def keep(documents: Mapping[str, Received], store: Store) -> dict[str, StoredDocument]:
    """Make all documents durable, or none; side by side, so that they wait for the medium together."""
    running = {identity: _syncing.submit(store.keep, received) for identity, received in documents.items()}
    wait(running.values())
    stored = {identity: future.result() for identity, future in running.items() if future.exception() is None}
    failures = [error for future in running.values() if (error := future.exception()) is not None]
    if not failures:
        return stored
    _forget(stored.values(), store)
    if all(isinstance(error, OSError) for error in failures):
        log.error("storage", error=repr(failures[0]))
        raise Refused(STORAGE.at(Where("repository"))) from failures[0]
    raise failures[0]


def _forget(stored: Iterable[StoredDocument], store: Store) -> None:
    for document in stored:
        store.delete(document.key)


def _described(entry: DocumentEntry, documents: Mapping[str, Received]) -> dict[str, object]:
    received = documents.get(entry.id)
    return {"unique_id": entry.unique_id, "type": entry.type_code.code if entry.type_code else "",
            "size": received.size if received else 0, "sha1": received.sha1 if received else ""}


def _where(entry: DocumentEntry, attribute: str = "") -> Where:
    path = f"DocumentEntry({entry.id})"
    return Where("metadata", path=f"{path}/{attribute}" if attribute else path)
