"""Remove Documents (ITI TF-2 §3.86): all bytes asked for are forgotten or none; metadata stay until ITI-62."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, update

from journal import outbox
from journal.exchanges import Exchange
from registry import claims
from registry.reader import Reader, Row
from registry.register import refuse
from registry.tables import document
from registry.tables import outbox as outbox_table
from registry.transactions import admit
from repository.provide import RULES, Repository
from repository.retrieve import DOCUMENT_UNKNOWN, UNKNOWN_REPOSITORY
from security.identity import Caller
from xds import messages
from xds.answers import Answer, success
from xds.findings import Finding, Where
from xds.messages import DocumentRequest
from xds.xml import Element

NOT_REMOVED = RULES["V-REP-NOTHING-REMOVED"]


def iti86(body: Element, caller: Caller, exchange: Exchange, repository: Repository) -> Answer:
    """Forget documents; the registry says so first, the bytes go when that is durable."""
    services = repository.services
    with exchange.step("xds.ebxml"):
        requests = dict.fromkeys(messages.read_remove_documents(body))
    exchange.patient = caller.patient
    with exchange.step("profile"):
        gate = admit(services, caller, "remove", "")
    with exchange.step("registry"), services.registry.database.write() as connection:
        reader = Reader(connection, services.registry.book, gate)
        reader.level = 2
        found = {request: _entries(reader, request) for request in requests}
        _refuse(_check(found, services.profile.domain.repository_unique_id))
        rows = [row for entries in found.values() for row in entries]
        _forget(connection, rows)
    exchange.documents += [{"unique_id": request.document_unique_id} for request in requests]
    with exchange.step("repository"):
        for key in sorted({row["storage_key"] for row in rows}):
            repository.store.delete(key)
    return success()


def _entries(reader: Reader, request: DocumentRequest) -> list[Row]:
    """Entries, and all their versions, of a document that is kept here; an entryUUID is no uniqueId."""
    return [row for row in reader.by_identifiers(claims.DOCUMENT, [request.document_unique_id]).values()
            if row["storage_key"] and row["unique_id"] == request.document_unique_id]


def _check(found: dict[DocumentRequest, list[Row]], own: str) -> Iterator[Finding]:
    for request, entries in found.items():
        where = Where("envelope", path=f"DocumentRequest({request.document_unique_id})")
        if request.repository_unique_id != own:
            yield UNKNOWN_REPOSITORY.at(where, expected=own, received=request.repository_unique_id)
        elif not entries:
            yield DOCUMENT_UNKNOWN.at(where, received=request.document_unique_id)


def _refuse(findings: Iterable[Finding]) -> None:
    """With what is wrong, and that nothing was removed."""
    found = list(findings)
    refuse([*found, NOT_REMOVED.at(Where("repository"))] if found else [])


def _forget(connection: Connection, rows: Iterable[Row]) -> None:
    """No entry leads to the bytes any more; each patient's event says which documents went."""
    gone: dict[int, set[str]] = {}
    for row in rows:
        connection.execute(update(document).where(
            document.c.patient_id == row["patient_id"], document.c.id == row["id"]).values(storage_key=""))
        gone.setdefault(row["patient_id"], set()).add(row["unique_id"])
    for owner, unique_ids in gone.items():
        outbox.append(connection, outbox_table, owner, "document removal", {"unique_ids": sorted(unique_ids)})
