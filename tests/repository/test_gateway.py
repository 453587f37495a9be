"""Documents as other communities ask for them (ITI-39): what ITI-43 answers, for those who name this community."""

from __future__ import annotations

from dataclasses import replace

import pytest

from journal.exchanges import Exchange
from repository.gateway import iti39
from repository.provide import Repository
from repository.spool import receive
from security.identity import Caller
from tests.registry.samples import DOMAIN
from tests.registry.test_transactions import FINDING, Watched
from tests.repository.conftest import small_store
from tests.repository.samples import VSM, asked, put
from xds import messages
from xds.findings import Refused
from xds.messages import DocumentRequest
from xds.mtom import read_whole, write_related
from xds.vocabulary import FAILURE, PARTIAL_SUCCESS, SUCCESS
from xds.xml import parse

HOME = "urn:oid:1.2.3.4.5.8"


@pytest.fixture
def profile() -> Watched:
    return Watched(domain=replace(DOMAIN, home_community_id=HOME))


def retrieve(repository: Repository, *requests: DocumentRequest,
             exchange: Exchange | None = None) -> tuple[messages.RetrieveResponse, list[bytes]]:
    body = parse(messages.write_retrieve(requests).encode())
    answer = iti39(body, Caller(), exchange or Exchange(), repository)
    content_type, pieces, _ = write_related(answer.body.encode(), list(answer.parts), "")
    parts = read_whole(content_type, b"".join(pieces))
    response = messages.read_retrieve_response(parse(parts.root))
    return response, [parts.attachments[document.content_id] for document in response.documents]


def test_one_document(repository: Repository, profile: Watched) -> None:
    """Plan 12312."""
    unique_id, exchange = put(repository), Exchange()
    response, contents = retrieve(repository, *asked(unique_id, home=HOME), exchange=exchange)
    assert (response.status, response.errors, contents) == (SUCCESS, (), [VSM])
    (document,) = response.documents
    assert (document.home, document.repository, document.unique_id, document.mime_type) == (
        HOME, DOMAIN.repository_unique_id, unique_id, "text/xml")
    assert profile.asked[-1] == ("gateway-retrieve", "")
    assert exchange.documents == [{"unique_id": unique_id, "size": len(VSM)}]


def test_many_documents(repository: Repository) -> None:
    """Plan 12313."""
    ids = [put(repository, f"essai {number}".encode()) for number in range(3)]
    response, contents = retrieve(repository, *asked(*ids, home=HOME))
    assert response.status == SUCCESS
    assert contents == [b"essai 0", b"essai 1", b"essai 2"]


@pytest.mark.parametrize(("home", "code"), [("", "XDSMissingHomeCommunityId"), ("urn:oid:1.9", "XDSUnknownCommunity"),
                                            (HOME.removeprefix("urn:oid:"), "XDSUnknownCommunity")])
def test_each_document_names_this_community(repository: Repository, home: str, code: str) -> None:
    unique_id = put(repository)
    good, bad = asked(unique_id, home=HOME)[0], asked(unique_id, home=home)[0]
    response, contents = retrieve(repository, bad)
    assert (response.status, contents) == (FAILURE, [])
    assert [(error.code, error.location) for error in response.errors] == [(code, HOME)]
    exchange = Exchange()
    response, contents = retrieve(repository, bad, good, bad, exchange=exchange)
    assert (response.status, contents) == (PARTIAL_SUCCESS, [VSM])
    assert [error.code for error in response.errors] == [code] * 2
    assert [finding.xds for finding in exchange.findings] == [code] * 2


def test_errors_on_documents_are_located(repository: Repository) -> None:
    response, _ = retrieve(repository, *asked("1.2.3", home=HOME), *asked("1.2.3", repository="1.9", home=HOME))
    assert [(error.code, error.location) for error in response.errors] == [
        ("XDSDocumentUniqueIdError", HOME), ("XDSUnknownRepositoryId", HOME)]
    assert "DocumentRequest/DocumentUniqueId" in response.errors[0].context


def test_the_profile_is_asked_even_when_no_request_is_for_here(repository: Repository, profile: Watched) -> None:
    profile.refusing = (FINDING,)
    with pytest.raises(Refused) as caught:
        retrieve(repository, *asked("1.2.3", home="urn:oid:1.9"))
    assert caught.value.findings == (FINDING,)


def test_without_a_home_there_is_no_gateway(repository: Repository, profile: Watched) -> None:
    profile.domain = DOMAIN
    with pytest.raises(Refused) as caught:
        retrieve(repository, *asked("1.2.3", home=HOME))
    assert [finding.code for finding in caught.value.findings] == ["V-XCA-NO-HOME"]


def test_a_message_that_passes_through_is_kept_in_files(tmp_path) -> None:
    """What a gateway receives for others takes no memory, however small each of its documents is."""
    store = small_store(tmp_path)
    content_type, pieces, _ = write_related(b"<a/>", [("1@x", b"essai", 5), ("2@x", b"", 0)], "")
    with receive(content_type, pieces, store.incoming, in_memory=0) as message:
        assert {name: (part.data, part.size) for name, part in message.parts.items()} == {
            "1@x": (None, 5), "2@x": (b"", 0)}
        assert message.root == b"<a/>"
        assert len(list(store.incoming.iterdir())) == 1
    assert list(store.incoming.iterdir()) == []
