"""ITI-41 and ITI-43 as messages through a repository, and what stands in store and registry afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from journal.exchanges import Exchange
from repository.provide import Repository, iti41
from repository.retrieve import iti43
from repository.spool import Message, receive
from repository.store import FolderStore
from security.identity import Caller
from tests.registry.samples import DOMAIN, document, submission
from xds import messages
from xds.answers import Answer
from xds.findings import Refused
from xds.messages import DocumentRequest, DocumentSource
from xds.model import DocumentEntry, Submission
from xds.mtom import read_whole, write_related
from xds.xml import parse

VSM = b"<ClinicalDocument>essai</ClinicalDocument>"


def entry(identity: str = "Document01", **changes: Any) -> DocumentEntry:
    """A valid entry for ITI-41: hash, size and repository are for the repository to tell."""
    return document(identity, **{"hash": "", "size": "", "repository_unique_id": "", **changes})


def message_of(repository: Repository, whole: Submission, documents: Mapping[str, bytes],
               mtom: bool = True) -> Message:
    """The message as it is received: each document in a part of its own, or inline."""
    store = repository.store
    if not mtom:
        sources = {identity: DocumentSource("inline", data=data) for identity, data in documents.items()}
        root = messages.write_provide(whole.objects, sources).encode()
        return receive("application/soap+xml", [root], store.incoming)
    sources = {identity: DocumentSource("include", f"part{number}@x") for number, identity in enumerate(documents)}
    root = messages.write_provide(whole.objects, sources).encode()
    parts = [(f"part{number}@x", data, len(data)) for number, data in enumerate(documents.values())]
    content_type, pieces, _ = write_related(root, parts, "")
    return receive(content_type, pieces, store.incoming)


def provide(repository: Repository, whole: Submission, documents: Mapping[str, bytes], mtom: bool = True,
            exchange: Exchange | None = None) -> messages.RegistryResponse:
    """The answer to ITI-41."""
    with message_of(repository, whole, documents, mtom) as message:
        answer = iti41(parse(message.root), message, Caller(), exchange or Exchange(), repository)
    return messages.read_registry_response(parse(answer.body.encode()))


def refusal(repository: Repository, whole: Submission, documents: Mapping[str, bytes],
            mtom: bool = True) -> list[str]:
    """XDS codes of a refused ITI-41."""
    with pytest.raises(Refused) as caught:
        provide(repository, whole, documents, mtom)
    return [finding.xds for finding in caught.value.findings]


def put(repository: Repository, data: bytes = VSM, **changes: Any) -> str:
    """Provide one document; its uniqueId."""
    one = entry(**changes)
    provide(repository, submission(one, patient_id=one.patient_id), {one.id: data})
    return one.unique_id


def asked(*unique_ids: str, repository: str = DOMAIN.repository_unique_id, home: str = "") -> list[DocumentRequest]:
    return [DocumentRequest(home, repository, unique_id) for unique_id in unique_ids]


def retrieve(repository: Repository, requests: list[DocumentRequest],
             caller: Caller | None = None) -> tuple[messages.RetrieveResponse, list[bytes]]:
    """The answer to ITI-43 and the bytes of its documents, read back from a whole MTOM package."""
    body = parse(messages.write_retrieve(requests).encode())
    answer: Answer = iti43(body, caller or Caller(), Exchange(), repository)
    content_type, pieces, length = write_related(answer.body.encode(), list(answer.parts), "")
    package = b"".join(pieces)
    assert len(package) == length
    parts = read_whole(content_type, package)
    response = messages.read_retrieve_response(parse(parts.root))
    return response, [parts.attachments[one.content_id] for one in response.documents]


def kept(repository: Repository) -> list[bytes]:
    """Everything in the store, by content."""
    store = repository.store
    assert isinstance(store, FolderStore)
    assert list(store.incoming.iterdir()) == []
    return sorted(store.open(key).read() for key in list(store.keys()))
