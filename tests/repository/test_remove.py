"""Documents whose metadata changed (ITI-57, ITI-62) or that were removed (ITI-86): which bytes are there, for whom.

Numbers in docstrings are those of the plans of the NIST toolkit.
"""

from __future__ import annotations

from typing import Any

import pytest

from journal.exchanges import Exchange
from registry.register import Registry
from repository.provide import Repository
from repository.remove import iti86
from security.access import Gate
from security.identity import Caller
from tests.registry.changes import (
    again,
    codes,
    doc,
    events,
    instead,
    links,
    removed,
    restate,
    snapshot,
    version,
)
from tests.registry.rivals import in_threads
from tests.registry.samples import OTHER, PATIENT, find, replacing, submission
from tests.registry.samples import put as put_metadata
from tests.registry.test_query_safety import patient_id
from tests.registry.test_transactions import FINDING, Watched
from tests.repository.samples import VSM, asked, entry, kept, put, refusal, retrieve
from xds import messages
from xds.findings import Refused
from xds.messages import DocumentRequest
from xds.model import DocumentEntry
from xds.vocabulary import FAILURE, OFFLINE, ONLINE, PARTIAL_SUCCESS, SUCCESS
from xds.xml import parse

MOVED_ON = b"<ClinicalDocument>suite</ClinicalDocument>"


def registered(registry: Registry, unique_id: str, patient: str = PATIENT) -> DocumentEntry:
    (one,) = (one for one in find(registry, patient=patient).documents if one.unique_id == unique_id)
    return doc(registry, one.id)


def remove(repository: Repository, *requests: DocumentRequest, exchange: Exchange | None = None,
           caller: Caller | None = None) -> str:
    """Status of the answer to ITI-86."""
    body = parse(messages.write_remove_documents(requests).encode())
    answer = iti86(body, caller or Caller(), exchange or Exchange(), repository)
    return messages.read_registry_response(parse(answer.body.encode())).status


def not_removed(repository: Repository, *requests: DocumentRequest) -> list[tuple[str, str]]:
    """(XDS code, path) of each finding on an ITI-86 that removed nothing."""
    before = kept(repository), snapshot(repository.services.registry)
    with pytest.raises(Refused) as caught:
        remove(repository, *requests)
    assert (kept(repository), snapshot(repository.services.registry)) == before
    return [(finding.xds, finding.where.path) for finding in caught.value.findings]


def got(repository: Repository, *unique_ids: str) -> tuple[str, list[bytes]]:
    response, documents = retrieve(repository, asked(*unique_ids))
    return response.status, documents


# --- after an update -----------------------------------------------------------------------------------------------


def test_bytes_are_there_after_an_update(repository: Repository, registry: Registry) -> None:
    unique_id = put(repository)
    version(registry, registered(registry, unique_id), language="en")
    assert got(repository, unique_id) == (SUCCESS, [VSM])
    assert kept(repository) == [VSM], "once"


def test_the_media_type_is_that_of_the_newest_version(repository: Repository, registry: Registry) -> None:
    unique_id = put(repository)
    first = registered(registry, unique_id)
    version(registry, first, mime_type="application/hl7-cda+xml")
    version(registry, first, "2", transaction="ITI-92", mime_type="text/plain")
    response, _ = retrieve(repository, asked(unique_id))
    assert [one.mime_type for one in response.documents] == ["text/plain"]


def test_bytes_do_not_change_by_their_metadata(repository: Repository, registry: Registry) -> None:
    one = registered(registry, put(repository))
    new = again(one, hash="ab" * 20, size="1")
    assert codes(registry, new, instead(new)) == ["XDSMetadataUpdateError"] * 2
    assert got(repository, one.unique_id) == (SUCCESS, [VSM])


def test_a_document_goes_with_its_patient(repository: Repository, registry: Registry, profile: Watched) -> None:
    one = registered(registry, put(repository))
    version(registry, one, patient_id=OTHER)
    for patient, expected in ((OTHER, SUCCESS), (PATIENT, FAILURE)):
        profile.gate = Gate(only_patient=patient_id(registry, patient))
        assert got(repository, one.unique_id)[0] == expected


def test_a_deprecated_document_is_read(repository: Repository, registry: Registry) -> None:
    one = registered(registry, put(repository))
    restate(registry, one.id)
    assert got(repository, one.unique_id) == (SUCCESS, [VSM])


def test_a_document_that_was_taken_offline(repository: Repository, registry: Registry) -> None:
    """Not available for retrieval, until it is online again (ITI TF-3 §4.2.3.2.34)."""
    one = registered(registry, put(repository))
    version(registry, one, availability=OFFLINE)
    assert got(repository, one.unique_id) == (FAILURE, [])
    version(registry, one, "2", availability=ONLINE)
    assert got(repository, one.unique_id) == (SUCCESS, [VSM])


def test_a_document_whose_newest_metadata_went(repository: Repository, registry: Registry) -> None:
    one = registered(registry, put(repository))
    new = version(registry, one, mime_type="text/plain")
    told = links(registry, new.id).associations
    removed(registry, new.id, *(link.id for link in told), *(link.source for link in told))
    response, documents = retrieve(repository, asked(one.unique_id))
    assert (documents, [entry.mime_type for entry in response.documents]) == ([VSM], [one.mime_type])


def test_a_document_without_metadata(repository: Repository, registry: Registry) -> None:
    """Nobody reads it any more; the outbox says which bytes those are."""
    one = registered(registry, put(repository))
    told = links(registry, one.id).associations
    removed(registry, one.id, *(link.id for link in told), *(link.source for link in told))
    assert got(repository, one.unique_id) == (FAILURE, [])
    ((_, payload),) = events(registry, "removal")
    (key,) = payload["storage_keys"]
    assert repository.store.open(key).read() == VSM


# --- removing documents --------------------------------------------------------------------------------------------


def test_50000(repository: Repository, registry: Registry) -> None:
    """The bytes go, the metadata stay."""
    unique_id, other = put(repository), put(repository, MOVED_ON)
    assert remove(repository, *asked(unique_id)) == SUCCESS
    assert got(repository, unique_id) == (FAILURE, [])
    assert got(repository, other) == (SUCCESS, [MOVED_ON])
    assert kept(repository) == [MOVED_ON]
    assert registered(registry, unique_id).size == str(len(VSM))


def test_50001(repository: Repository) -> None:
    both = put(repository), put(repository, MOVED_ON)
    assert remove(repository, *asked(*both)) == SUCCESS
    assert [got(repository, one) for one in both] == [(FAILURE, [])] * 2
    assert kept(repository) == []


def test_50002_another_repository(repository: Repository) -> None:
    unique_id = put(repository)
    assert not_removed(repository, *asked(unique_id, repository="1.2.3")) == [
        ("XDSUnknownRepositoryId", f"DocumentRequest({unique_id})"), ("XDSRemoveDocumentsError", "")]
    assert got(repository, unique_id) == (SUCCESS, [VSM])


def test_50003_another_document(repository: Repository) -> None:
    unique_id = put(repository)
    assert not_removed(repository, *asked("1.2.3")) == [
        ("XDSDocumentUniqueIdError", "DocumentRequest(1.2.3)"), ("XDSRemoveDocumentsError", "")]
    assert got(repository, unique_id) == (SUCCESS, [VSM])


def test_all_or_none(repository: Repository, registry: Registry) -> None:
    """Each that is wrong is told, and none of the others goes."""
    here, elsewhere = put(repository), registered(registry, put(repository))
    metadata = put_metadata(registry).ids["Document01"]
    requests = [*asked(here, "1.2.3"), *asked(here, repository="1.9"), *asked(elsewhere.id),
                *asked(doc(registry, metadata).unique_id)]
    assert not_removed(repository, *requests) == [
        ("XDSDocumentUniqueIdError", "DocumentRequest(1.2.3)"), ("XDSUnknownRepositoryId", f"DocumentRequest({here})"),
        ("XDSDocumentUniqueIdError", f"DocumentRequest({elsewhere.id})"),
        ("XDSDocumentUniqueIdError", f"DocumentRequest({doc(registry, metadata).unique_id})"),
        ("XDSRemoveDocumentsError", "")]


def test_twice(repository: Repository) -> None:
    """In one request it is one; in the next there is nothing any more."""
    unique_id = put(repository)
    assert remove(repository, *asked(unique_id, unique_id)) == SUCCESS
    assert [code for code, _ in not_removed(repository, *asked(unique_id))] == [
        "XDSDocumentUniqueIdError", "XDSRemoveDocumentsError"]


def test_a_document_of_several_versions(repository: Repository, registry: Registry) -> None:
    """No version leads to the bytes any more, whoever's it is; the history of the metadata stays."""
    one = registered(registry, put(repository))
    version(registry, one)
    moved = version(registry, one, "2", patient_id=OTHER)
    assert remove(repository, *asked(one.unique_id)) == SUCCESS
    assert kept(repository) == []
    assert got(repository, one.unique_id) == (FAILURE, [])
    later = version(registry, moved, "3", patient_id=OTHER, language="en")
    assert (later.version, got(repository, one.unique_id)) == ("4", (FAILURE, []))
    told = events(registry, "document removal")
    assert len(told) == 2, "both patients"
    assert {tuple(payload["unique_ids"]) for _, payload in told} == {(one.unique_id,)}


def test_two_entries_of_one_document(repository: Repository) -> None:
    """The same uniqueId with the same content was kept twice; the document is one to whoever asks."""
    unique_id = put(repository)
    put(repository, unique_id=unique_id)
    assert kept(repository) == [VSM, VSM]
    assert remove(repository, *asked(unique_id)) == SUCCESS
    assert kept(repository) == []


def test_a_document_comes_again(repository: Repository) -> None:
    """With the same content; its metadata remember what that was."""
    unique_id = put(repository)
    remove(repository, *asked(unique_id))
    put(repository, unique_id=unique_id)
    assert got(repository, unique_id) == (SUCCESS, [VSM])
    other = entry(unique_id=unique_id)
    assert refusal(repository, submission(other), {"Document01": MOVED_ON}) == ["XDSNonIdenticalHash"]


def test_some_of_several(repository: Repository) -> None:
    gone, stays = put(repository), put(repository, MOVED_ON)
    remove(repository, *asked(gone))
    response, documents = retrieve(repository, asked(gone, stays))
    assert (response.status, documents) == (PARTIAL_SUCCESS, [MOVED_ON])


def test_a_replaced_document_goes_alone(repository: Repository, registry: Registry) -> None:
    unique_id = put(repository)
    put_metadata(registry, *replacing(registered(registry, unique_id).id))
    assert remove(repository, *asked(unique_id)) == SUCCESS
    assert kept(repository) == []


# --- who may, and what is noted ------------------------------------------------------------------------------------


def test_the_profile_is_asked_first(repository: Repository, profile: Watched) -> None:
    unique_id = put(repository)
    profile.asked.clear()
    profile.refusing = (FINDING,)
    assert not_removed(repository, *asked(unique_id, "1.2.3")) == [(FINDING.xds, "")]
    assert profile.asked == [("remove", "")]


def test_what_a_gate_hides_is_not_there(repository: Repository, registry: Registry, profile: Watched) -> None:
    unique_id = put(repository)
    for gate in (Gate(only_patient=patient_id(registry, OTHER)), Gate(sees=lambda _: False)):
        profile.gate = gate
        assert [code for code, _ in not_removed(repository, *asked(unique_id))] == [
            "XDSDocumentUniqueIdError", "XDSRemoveDocumentsError"]
    profile.gate = Gate(only_patient=patient_id(registry, PATIENT))
    assert remove(repository, *asked(unique_id)) == SUCCESS


def test_what_the_journal_notes(repository: Repository) -> None:
    unique_id, exchange = put(repository), Exchange()
    remove(repository, *asked(unique_id), exchange=exchange, caller=Caller(patient=PATIENT))
    assert (exchange.documents, exchange.patient) == ([{"unique_id": unique_id}], PATIENT)
    assert [name for name, _ in exchange.steps] == ["xds.ebxml", "profile", "registry", "repository"]


def test_a_refusal_leaves_the_writer_free(repository: Repository, profile: Watched) -> None:
    """Whoever may not remove anything does not hold up those who write."""
    unique_id = put(repository)
    entered: list[Any] = []

    def admit(connection: Any, *_: Any) -> Gate:
        with repository.services.registry.database.write():
            entered.append(connection)
        raise Refused(FINDING)

    profile.admit = admit  # type: ignore[method-assign]
    assert not_removed(repository, *asked(unique_id)) == [(FINDING.xds, "")]
    assert len(entered) == 1


def test_two_remove_at_once(repository: Repository) -> None:
    unique_id = put(repository)

    def attempt() -> str:
        try:
            return remove(repository, *asked(unique_id))
        except Refused as refused:
            return refused.findings[0].xds

    assert sorted(in_threads([attempt] * 4)) == sorted([SUCCESS, *["XDSDocumentUniqueIdError"] * 3])


def test_the_order_of_what_is_durable(repository: Repository, registry: Registry,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between the two leaves bytes that nothing names, never an entry that leads nowhere."""
    unique_id = put(repository)

    def crash(_key: str) -> None:
        raise OSError("power")

    monkeypatch.setattr(repository.store, "delete", crash)
    with pytest.raises(OSError, match="power"):
        remove(repository, *asked(unique_id))
    monkeypatch.undo()
    assert got(repository, unique_id) == (FAILURE, [])
    assert kept(repository) == [VSM]
