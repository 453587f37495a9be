"""Remove Documents (ITI TF-2 §3.86): all bytes asked for are forgotten or none; metadata stay until ITI-62."""

from __future__ import annotations

from sqlalchemy import update

from journal.exchanges import Exchange
from registry import claims
from registry.reader import Reader
from registry.register import refuse
from registry.tables import document
from registry.transactions import find_in
from repository.provide import RULES, Repository
from repository.retrieve import DOCUMENT_UNKNOWN, UNKNOWN_REPOSITORY
from security.access import Gate
from security.identity import Caller
from xds import messages
from xds.answers import Answer, success
from xds.findings import Finding, Where
from xds.xml import Element

NOT_REMOVED = RULES["V-REP-NOTHING-REMOVED"]


def iti86(body: Element, caller: Caller, exchange: Exchange, repository: Repository) -> Answer:
    """Forget documents; the registry says so first, the bytes go when that is durable."""
    services = repository.services
    with exchange.step("xds.ebxml"):
        requests = messages.read_remove_documents(body)
    with services.registry.database.write() as connection:
        with exchange.step("profile"):
            services.profile.admit(connection, caller, "remove", "", find_in(connection))
        with exchange.step("registry"):
            reader = Reader(connection, services.registry.book, Gate())
            reader.level = 2
            findings: list[Finding] = []
            keys: set[str] = set()
            for request in requests:
                where = Where("envelope", path=f"DocumentRequest({request.document_unique_id})")
                rows = [row for row in reader.by_identifiers(claims.DOCUMENT, [request.document_unique_id]).values()
                        if row["storage_key"]]
                own = services.profile.domain.repository_unique_id
                if request.repository_unique_id != own:
                    findings.append(UNKNOWN_REPOSITORY.at(where, expected=own, received=request.repository_unique_id))
                elif not rows:
                    findings.append(DOCUMENT_UNKNOWN.at(where, received=request.document_unique_id))
                keys |= {row["storage_key"] for row in rows}
            if findings:
                refuse([*findings, NOT_REMOVED.at(Where("repository"))])
            connection.execute(update(document).where(document.c.storage_key.in_(keys)).values(storage_key=""))
    with exchange.step("repository"):
        for key in keys:
            repository.store.delete(key)
    return success()
