"""Retrieve and Remove: byte for byte what was provided, to whoever may read it; an error for each that is not there."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal.exchanges import Exchange
from registry.register import Registry, register
from repository.provide import Repository
from repository.remove import iti86
from repository.retrieve import iti43
from repository.spool import IN_MEMORY
from repository.store import FolderStore
from security.access import Gate
from security.identity import Caller
from tests.registry.samples import DOMAIN, OTHER, PATIENT, code, find, get, link, status_of, submission
from tests.registry.samples import document as registered_only
from tests.registry.test_query_safety import patient_id
from tests.registry.test_transactions import FINDING, Watched
from tests.repository.samples import VSM, asked, entry, kept, provide, put, retrieve
from xds import messages
from xds.findings import Refused
from xds.messages import DocumentRequest
from xds.vocabulary import FAILURE, PARTIAL_SUCCESS, RPLC, SUCCESS
from xds.xml import parse

LARGE = bytes(range(256)) * (IN_MEMORY // 256) + b"!"
AWKWARD = [b"", b"\0", b"\r\n", b"--\r\n--boundary--\r\n", b"\r\n--", "é<&>]]>".encode(), b"\xff\xfe\x00",
           bytes(range(256)), bytes(256 * 1024 - 1), bytes(256 * 1024), bytes(256 * 1024 + 1), LARGE]


def told(response: messages.RetrieveResponse) -> tuple[str, list[str]]:
    return response.status, [error.code for error in response.errors]


# --- bytes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", AWKWARD, ids=len)
@pytest.mark.parametrize("mtom", [True, False])
def test_byte_for_byte(repository: Repository, content: bytes, mtom: bool) -> None:
    one = entry()
    provide(repository, submission(one), {"Document01": content}, mtom)
    response, documents = retrieve(repository, asked(one.unique_id))
    assert told(response) == (SUCCESS, [])
    assert documents == [content]


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(repository: Repository, contents: list[bytes]) -> None:
    entries = [entry(f"Document{number}") for number, _ in enumerate(contents)]
    provide(repository, submission(*entries), {one.id: data for one, data in zip(entries, contents, strict=True)})
    response, documents = retrieve(repository, asked(*(one.unique_id for one in entries)))
    assert documents == contents
    assert [one.unique_id for one in response.documents] == [one.unique_id for one in entries]


@pytest.mark.parametrize("mime_type", ["text/xml", "text/plain", "application/pdf", "application/x-odd+type.1"])
def test_the_media_type_is_the_registered_one(repository: Repository, mime_type: str) -> None:
    """Plan 12360."""
    response, _ = retrieve(repository, asked(put(repository, mime_type=mime_type)))
    assert [one.mime_type for one in response.documents] == [mime_type]


def test_a_document_after_its_replacement(repository: Repository, registry: Registry) -> None:
    old = put(repository)
    (known,) = find(registry).documents
    new = entry()
    provide(repository, submission(new, link(RPLC, "Document01", known.id)), {"Document01": LARGE})
    assert status_of(registry, known.id) == "Deprecated"
    assert retrieve(repository, asked(old, new.unique_id))[1] == [VSM, LARGE]


def test_a_unique_id_with_its_extension(repository: Repository) -> None:
    put(repository, unique_id="1.2.3")
    put(repository, LARGE, unique_id="1.2.3^A.1")
    assert retrieve(repository, asked("1.2.3^A.1", "1.2.3"))[1] == [LARGE, VSM]


def test_a_document_that_is_there_twice(repository: Repository) -> None:
    one = entry()
    for _ in range(2):
        provide(repository, submission(one), {"Document01": VSM})
    assert retrieve(repository, asked(one.unique_id))[1] == [VSM]


# --- the answer ----------------------------------------------------------------------------------------------------


def test_the_shape_of_an_answer(repository: Repository) -> None:
    unique_id = put(repository)
    response, _ = retrieve(repository, [*asked(unique_id), *asked(unique_id, home="urn:oid:1.2.3")])
    assert [(one.repository, one.unique_id, one.home) for one in response.documents] == [
        (DOMAIN.repository_unique_id, unique_id, ""), (DOMAIN.repository_unique_id, unique_id, "urn:oid:1.2.3")]
    assert len({one.content_id for one in response.documents}) == 2


def test_what_is_asked_for_twice_is_answered_twice(repository: Repository) -> None:
    unique_id = put(repository)
    assert retrieve(repository, asked(unique_id, unique_id))[1] == [VSM, VSM]


@pytest.mark.parametrize(("unknown", "code_"), [
    (asked("1.2.3.4"), "XDSDocumentUniqueIdError"), (asked("x", repository="1.2.3.4"), "XDSUnknownRepositoryId")])
def test_one_of_two(repository: Repository, unknown: list[DocumentRequest], code_: str) -> None:
    """An error for each that is not there, the others all the same, in the order asked for."""
    one, other = put(repository), put(repository, LARGE)
    response, documents = retrieve(repository, [*asked(one), *unknown, *asked(other), *unknown])
    assert told(response) == (PARTIAL_SUCCESS, [code_, code_])
    assert documents == [VSM, LARGE]


@pytest.mark.parametrize("requests", [asked("1.2.3.4"), asked("1.2.3.4", "1.2.3.5"), asked("1", repository="1.9")])
def test_none(repository: Repository, requests: list[DocumentRequest]) -> None:
    put(repository)
    response, documents = retrieve(repository, requests)
    assert (response.status, len(response.errors), documents) == (FAILURE, len(requests), [])


def test_a_document_of_another_repository(repository: Repository) -> None:
    """The right document, the wrong place: not this repository's to answer."""
    response, documents = retrieve(repository, asked(put(repository), repository="1.2.3"))
    assert (told(response), documents) == ((FAILURE, ["XDSUnknownRepositoryId"]), [])


@pytest.mark.parametrize("text", ["' OR '1'='1", "%", "../../etc/passwd", "\u202e1.2", "1.2.3\\^x", "x" * 5000])
def test_odd_identifiers(repository: Repository, text: str) -> None:
    put(repository)
    assert told(retrieve(repository, asked(text))[0]) == (FAILURE, ["XDSDocumentUniqueIdError"])


def test_an_entry_uuid_is_no_unique_id(repository: Repository, registry: Registry) -> None:
    put(repository)
    (known,) = find(registry).documents
    assert told(retrieve(repository, asked(known.id))[0]) == (FAILURE, ["XDSDocumentUniqueIdError"])


def test_what_was_registered_without_bytes(repository: Repository, registry: Registry) -> None:
    """ITI-42 from another repository: known here, kept there."""
    elsewhere = registered_only(repository_unique_id="1.2.3")
    register(registry, submission(elsewhere))
    assert told(retrieve(repository, asked(elsewhere.unique_id))[0]) == (FAILURE, ["XDSDocumentUniqueIdError"])


def test_a_file_that_was_lost(repository: Repository, registry: Registry) -> None:
    """The others come all the same."""
    lost = put(repository)
    store = repository.store
    assert isinstance(store, FolderStore)
    (key,) = store.keys()
    store.delete(key)
    safe = put(repository, LARGE)
    response, documents = retrieve(repository, asked(lost, safe))
    assert told(response) == (PARTIAL_SUCCESS, ["XDSDocumentUniqueIdError"])
    assert documents == [LARGE]


def test_an_answer_of_many_documents_holds_no_files(repository: Repository) -> None:
    unique_ids = [put(repository) for _ in range(30)]
    body = parse(messages.write_retrieve(asked(*unique_ids)).encode())
    before = len(os.listdir("/proc/self/fd"))
    answer = iti43(body, Caller(), Exchange(), repository)
    pieces = [iter(content) for _, content, _ in answer.parts]
    assert len(os.listdir("/proc/self/fd")) <= before
    assert [b"".join(content) for content in pieces] == [VSM] * 30  # type: ignore[arg-type]
    assert len(os.listdir("/proc/self/fd")) <= before


# --- who may read --------------------------------------------------------------------------------------------------


def test_what_the_gate_hides_is_not_there(repository: Repository, profile: Watched) -> None:
    """The same answer as for what does not exist, to the letter but for the identifier."""
    hidden, seen = put(repository, type_code=code("HIDDEN")), put(repository, LARGE)
    profile.gate = Gate(sees=lambda facts: facts.type_code != "HIDDEN")
    response, documents = retrieve(repository, asked(hidden, "1.2.3.4", seen))
    assert documents == [LARGE]
    contexts = [error.context.replace(hidden, "?").replace("1.2.3.4", "?") for error in response.errors]
    assert [error.code for error in response.errors] == ["XDSDocumentUniqueIdError"] * 2
    assert contexts[0] == contexts[1]


def test_what_belongs_to_another_patient_is_not_there(repository: Repository, registry: Registry,
                                                      profile: Watched) -> None:
    theirs = put(repository, patient_id=OTHER)
    profile.gate = Gate(only_patient=patient_id(registry, PATIENT))
    assert told(retrieve(repository, asked(theirs))[0]) == (FAILURE, ["XDSDocumentUniqueIdError"])
    profile.gate = Gate(only_patient=patient_id(registry, OTHER))
    assert retrieve(repository, asked(theirs))[1] == [VSM]


def test_one_entry_of_two_may_be_read(repository: Repository, profile: Watched) -> None:
    """The same document masked in one submission and open in another."""
    one = entry(confidentiality=(code("N"), code("MASQUE_PS")))
    provide(repository, submission(one), {"Document01": VSM})
    profile.gate = Gate(sees=lambda facts: "MASQUE_PS" not in facts.confidentiality)
    assert told(retrieve(repository, asked(one.unique_id))[0])[0] == FAILURE
    provide(repository, submission(entry(unique_id=one.unique_id)), {"Document01": VSM})
    assert retrieve(repository, asked(one.unique_id))[1] == [VSM]


def test_who_is_refused_learns_nothing(repository: Repository, profile: Watched) -> None:
    unique_id = put(repository)
    profile.refusing = (FINDING,)
    profile.asked.clear()
    with pytest.raises(Refused) as caught:
        retrieve(repository, asked(unique_id))
    assert caught.value.findings == (FINDING,)
    assert profile.asked == [("retrieve", "")]


def test_the_exchange_tells_the_story(repository: Repository) -> None:
    unique_id, exchange = put(repository), Exchange()
    body = parse(messages.write_retrieve(asked(unique_id, "1.2.3.4")).encode())
    iti43(body, Caller(patient=PATIENT), exchange, repository)
    assert exchange.patient == PATIENT
    assert exchange.documents == [{"unique_id": unique_id, "size": len(VSM)}]
    assert [finding.code for finding in exchange.findings] == ["V-REP-DOCUMENT-UNKNOWN"]


# --- removing (ITI-86) ---------------------------------------------------------------------------------------------


def remove(repository: Repository, requests: list[DocumentRequest]) -> list[str]:
    """Error codes of the answer, [] for success."""
    body = parse(messages.write_remove_documents(requests).encode())
    try:
        answer = iti86(body, Caller(), Exchange(), repository)
    except Refused as refused:
        return [finding.xds for finding in refused.findings]
    assert messages.read_registry_response(parse(answer.body.encode())).status == SUCCESS
    return []


def test_removed_documents_are_gone_and_their_metadata_stay(repository: Repository, registry: Registry) -> None:
    """Plans 50000 and 50001."""
    one, other, third = put(repository), put(repository, LARGE), put(repository, b"third")
    assert remove(repository, asked(one, other)) == []
    assert kept(repository) == [b"third"]
    assert told(retrieve(repository, asked(one, other))[0]) == (FAILURE, ["XDSDocumentUniqueIdError"] * 2)
    assert retrieve(repository, asked(third))[1] == [b"third"]
    assert len(find(registry).documents) == 3
    assert remove(repository, asked(one)) == ["XDSDocumentUniqueIdError", "XDSRemoveDocumentsError"]


@pytest.mark.parametrize(("wrong", "code_"), [(asked("1.2.3.4"), "XDSDocumentUniqueIdError"),
                                              (asked("x", repository="1.2.3"), "XDSUnknownRepositoryId")])
def test_all_are_removed_or_none(repository: Repository, wrong: list[DocumentRequest], code_: str) -> None:
    """Plans 50002 and 50003."""
    unique_id = put(repository)
    assert remove(repository, [*asked(unique_id), *wrong]) == [code_, "XDSRemoveDocumentsError"]
    assert retrieve(repository, asked(unique_id))[1] == [VSM]
    assert remove(repository, asked(unique_id, repository="1.2.3"))[0] == "XDSUnknownRepositoryId"
    assert kept(repository) == [VSM]


def test_both_entries_of_one_document_lose_it(repository: Repository, registry: Registry) -> None:
    one = entry()
    for _ in range(2):
        provide(repository, submission(one), {"Document01": VSM})
    assert remove(repository, asked(one.unique_id)) == []
    assert kept(repository) == []
    assert len(get(registry, *(known.id for known in find(registry).documents)).documents) == 2


def test_a_refusal_removes_nothing(repository: Repository, profile: Watched) -> None:
    unique_id = put(repository)
    profile.refusing = (FINDING,)
    assert remove(repository, asked(unique_id)) == [FINDING.xds]
    assert kept(repository) == [VSM]


def test_a_store_that_does_not_obey_leaves_no_entry_with_a_lost_document(repository: Repository,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry says so first: bytes that stay are unreferenced, never the other way round."""
    unique_id = put(repository)

    def fail(_key: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(repository.store, "delete", fail)
    with pytest.raises(OSError, match="Input/output"):
        remove(repository, asked(unique_id))
    assert told(retrieve(repository, asked(unique_id))[0]) == (FAILURE, ["XDSDocumentUniqueIdError"])
    assert kept(repository) == [VSM]
