"""The three transactions of the command line: values in, values out (ITI TF-2 §3.41, §3.18, §3.43)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from repository.spool import Received, chunks_of
from volet.client.answers import Rejected, Told, of_errors, of_failure
from volet.client.exchange import Call, Endpoint, exchange
from volet.client.submission import Lot
from xds import ebxml, messages
from xds.messages import AdhocQuery, DocumentRequest, DocumentSource
from xds.model import DocumentEntry
from xds.mtom import Part
from xds.rim import Slot
from xds.vocabulary import APPROVED, DEPRECATED, PARTIAL_SUCCESS, SUCCESS

# ITI TF-2 §3.18.4.1.2.3.7
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"

#: Status by the word a user types (availabilityStatus; archived: NOS JDV_J52)
STATUSES: Mapping[str, str] = {
    "approved": APPROVED, "deprecated": DEPRECATED, "archived": "urn:asip:ci-sis:2010:StatusType:Archived"}


# --- ITI-41 --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """A submission that was accepted: MessageID of the request, warnings of the server."""

    message_id: str
    warnings: tuple[Told, ...] = ()


def provide(endpoint: Endpoint, lot: Lot) -> Sent:
    """Send a lot; `Rejected` unless it was registered."""
    with exchange(endpoint, provide_call(lot)) as answer:
        response = messages.read_registry_response(answer.body)
    if response.status != SUCCESS:
        raise Rejected(of_failure(response.status, response.errors), answer.message_id)
    return Sent(answer.message_id, of_errors(response.errors))


def provide_call(lot: Lot) -> Call:
    """The request of a lot; its documents are read while they are sent, never before."""
    contents: list[tuple[DocumentEntry, bytes | Iterator[bytes]]] = [
        (document.entry, _content(document.path)) for document in lot.documents]
    contents.append((lot.submission.documents[-1], lot.signature))
    parts: list[Part] = []
    sources: dict[str, DocumentSource] = {}
    for number, (entry, content) in enumerate(contents, 1):
        content_id = f"document{number}@volet"
        parts.append((content_id, content, int(entry.size)))
        sources[entry.id] = DocumentSource("include", content_id)
    body = messages.write_provide(ebxml.from_submission(lot.submission), sources)
    return Call("ITI-41", lot.submission.submission_set.patient_id, body, tuple(parts))


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from chunks_of(stream.read)


# --- ITI-18 --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Entries, or their entryUUIDs alone, and warnings of the server."""

    entries: tuple[DocumentEntry, ...] = ()
    uuids: tuple[str, ...] = ()
    warnings: tuple[Told, ...] = ()


def find_documents(endpoint: Endpoint, patient: str, types: Iterable[str] = (), since: str = "",
                   statuses: Iterable[str] = ("approved",)) -> Found:
    """Documents of a patient (CX). `types` are `code^^scheme`, `since` a DTM that creationTime is compared with."""
    slots = [_slot("PatientId", [patient], listed=False), _slot("Status", [STATUSES[word] for word in statuses])]
    slots += [_slot("TypeCode", kinds)] if (kinds := list(types)) else []
    slots += [_slot("CreationTimeFrom", [since], listed=False)] if since else []
    return query(endpoint, patient, AdhocQuery(FIND_DOCUMENTS, slots=tuple(slots)))


def get_documents(endpoint: Endpoint, patient: str, unique_ids: Sequence[str],
                  return_type: str = messages.LEAF_CLASS) -> Found:
    """Documents by uniqueId. ObjectRef asks for entryUUIDs only, which those who may only feed get as well (TD3.1b)."""
    return query(endpoint, patient, AdhocQuery(GET_DOCUMENTS, return_type=return_type,
                                               slots=(_slot("UniqueId", unique_ids),)))


def query(endpoint: Endpoint, patient: str, asked: AdhocQuery) -> Found:
    """Answer to a stored query; `Rejected` when it is a failure."""
    with exchange(endpoint, Call("ITI-18", patient, messages.write_query(asked))) as answer:
        response = messages.read_query_response(answer.body)
    if response.status not in {SUCCESS, PARTIAL_SUCCESS}:
        raise Rejected(of_failure(response.status, response.errors), answer.message_id)
    entries = [ebxml.to_document(thing) for thing in response.objects if thing.kind == "ExtrinsicObject"]
    return Found(tuple(entries), tuple(reference.id for reference in response.references), of_errors(response.errors))


def _slot(name: str, values: Iterable[str], listed: bool = True) -> Slot:
    """A parameter: quotes doubled; each value of a list in a Value of its own, for those have 256 characters."""
    quoted = [f"'{value.replace(chr(39), chr(39) * 2)}'" for value in values]
    return Slot(f"$XDSDocumentEntry{name}", tuple(f"({text})" if listed else text for text in quoted))


# --- ITI-43 --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Documents by uniqueId as long as the block lasts, and what was said of those that did not come."""

    documents: Mapping[str, Received]
    findings: tuple[Told, ...] = ()


@contextmanager
def retrieve(endpoint: Endpoint, patient: str, entries: Iterable[DocumentEntry]) -> Iterator[Retrieved]:
    """The documents of these entries; `Rejected` when none comes."""
    asked = [DocumentRequest(entry.home, entry.repository_unique_id, entry.unique_id) for entry in entries]
    with exchange(endpoint, Call("ITI-43", patient, messages.write_retrieve(asked))) as answer:
        response = messages.read_retrieve_response(answer.body)
        if response.status not in {SUCCESS, PARTIAL_SUCCESS}:
            raise Rejected(of_failure(response.status, response.errors), answer.message_id)
        documents = {item.unique_id: answer.parts[item.content_id] if item.content_id else Received.of(item.data)
                     for item in response.documents if not item.content_id or item.content_id in answer.parts}
        yield Retrieved(documents, of_errors(response.errors))
