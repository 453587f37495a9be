"""Communities: two real servers, one gateway to the other, as IHE's plans ask them; then others that behave badly."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.serving import WSGIRequestHandler, make_server

from journal.exchanges import Exchange
from registry.register import Registry
from repository.provide import Repository
from repository.spool import receive
from repository.store import FolderStore
from security.identity import Caller
from tests.registry.conftest import database_file as database_file
from tests.registry.conftest import migrated as migrated
from tests.registry.conftest import registry as registry
from tests.registry.samples import BOTH, DOMAIN, PATIENT, document, listed, query, quoted, submission
from tests.registry.samples import put as register_one
from tests.registry.test_transactions import FINDING, Watched
from tests.repository.conftest import folders as folders
from tests.repository.conftest import repository as repository
from tests.repository.conftest import store as store
from tests.repository.samples import entry
from tests.stories.client import Reply
from tests.volet.fake import Fake, fault, found, references, retrieved, serving, soap, tls_of
from tests.xds.test_xcpd import BIRTH, NAME
from tests.xds.test_xcpd import query as discovery
from volet import communities
from volet.app import create_app
from volet.assembly import build, migrate
from volet.communities import Community, Gateway, Held, load, merged
from volet.settings import Settings
from xds import ebxml, messages
from xds.findings import Refused
from xds.messages import TRANSACTIONS, AdhocQuery, DocumentRequest, DocumentSource, RegistryError
from xds.model import DocumentEntry
from xds.mtom import DEFAULT_LIMITS, write_related
from xds.rim import ObjectRef
from xds.soap import new_message_id, write_request
from xds.vocabulary import FAILURE, PARTIAL_SUCCESS, SEVERITY_ERROR, SEVERITY_WARNING, SUCCESS
from xds.xml import parse

HERE, THERE, NOWHERE = "urn:oid:1.2.3.4.1", "urn:oid:1.2.3.4.2", "urn:oid:1.2.3.4.3"
OF_PATIENT = {"XDSDocumentEntryPatientId": quoted(PATIENT), "XDSDocumentEntryStatus": BOTH}
LARGE = bytes(range(256)) * 12 * 1024  # 3 MiB


# --- two real servers ----------------------------------------------------------------------------------------------


class Quiet(WSGIRequestHandler):
    """Says nothing."""

    def log(self, *_: Any) -> None:
        """Leave it."""


@dataclass
class Town:
    """A server of one community and where it listens."""

    url: str
    home: str
    data: Path

    @property
    def repository_id(self) -> str:
        return self.home.removeprefix("urn:oid:") + ".9"

    @property
    def incoming(self) -> list[Path]:
        return list((self.data / "documents" / "incoming").iterdir())

    def call(self, service: str, transaction: str, body: str,
             parts: list[tuple[str, bytes, int]] | None = None) -> Reply:
        row, url = TRANSACTIONS[transaction], f"{self.url}/xds/{service}"
        envelope = write_request(body, row.action, url, new_message_id())
        content_type, data = f'application/soap+xml; charset=UTF-8; action="{row.action}"', envelope
        if row.mtom:
            content_type, pieces, _ = write_related(envelope, parts or [], row.action)
            data = b"".join(pieces)
        answer = requests.post(url, data=data, headers={"Content-Type": content_type}, timeout=30)
        return Reply.of(answer.status_code, answer.headers["Content-Type"], answer.content)

    def provide(self, content: bytes) -> DocumentEntry:
        one = entry()
        body = messages.write_provide(submission(one).objects, {one.id: DocumentSource("include", "a@x")})
        assert self.call("repository", "ITI-41", body, [("a@x", content, len(content))]).status == "Success"
        return one

    def ask(self, service: str, transaction: str, name: str, parameters: Mapping[str, str], returns: str = "LeafClass",
            home: str = "") -> Reply:
        asked = replace(query(name, parameters, returns), home=home)
        return self.call(service, transaction, messages.write_query(asked))

    def find(self, returns: str = "LeafClass", home: str = "") -> Reply:
        """FindDocuments of the initiating gateway."""
        return self.ask("initiating", "ITI-18", "FindDocuments", OF_PATIENT, returns, home)

    def retrieve(self, *wanted: tuple[str, str, str]) -> Reply:
        """ITI-43 of the initiating gateway: (home, repositoryUniqueId, uniqueId)."""
        body = messages.write_retrieve(DocumentRequest(*one) for one in wanted)
        return self.call("initiating", "ITI-43", body)


@contextmanager
def town(folder: Path, home: str, *others: tuple[str, str], **settings: Any) -> Iterator[Town]:
    """A server of profile `ihe` on a port of its own; `others`: home and base address of other communities."""
    folder.mkdir()
    (folder / "affinity.toml").write_text(
        f'name = "essai"\nrepository_unique_id = "{home.removeprefix("urn:oid:") or "1.2.3.4.0"}.9"\n'
        f'home_community_id = "{home}"\nunknown_patients = "accept"\n', "utf-8")
    (folder / "communities.toml").write_text("\n".join(
        f'[[community]]\nhome = "{other}"\nname = "Voisine"\nquery = "{url}/xds/gateway"\n'
        f'retrieve = "{url}/xds/gateway"\nseconds = 10\n' for other, url in others) or "community = []\n", "utf-8")
    made = Settings(profile="ihe", data=folder, affinity=folder / "affinity.toml",
                    communities=folder / "communities.toml", **settings)
    migrate(made)
    server = build(made)
    listening = make_server("127.0.0.1", 0, create_app(server), threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Town(f"http://127.0.0.1:{listening.server_port}", home, folder)
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
        server.close()


@dataclass
class Country:
    """Two communities and what each holds."""

    here: Town
    there: Town
    ours: DocumentEntry
    theirs: DocumentEntry


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Country]:
    folder = tmp_path_factory.mktemp("country")
    with town(folder / "there", THERE) as there, town(folder / "here", HERE, (THERE, there.url)) as here:
        yield Country(here, there, here.provide(b"<ici/>"), there.provide(LARGE))


def homes(reply: Reply) -> dict[str, str]:
    """Home of each document by uniqueId."""
    return {one.unique_id: one.home for one in reply.documents}


def located(reply: Reply) -> list[tuple[str, str]]:
    return [(error.code, error.location) for error in reply.response.errors]


def test_one_question_is_answered_by_all(country: Country) -> None:
    """Plans 12300, 12306."""
    reply = country.here.find()
    assert (reply.status, reply.errors) == ("Success", [])
    assert homes(reply) == {country.ours.unique_id: HERE, country.theirs.unique_id: THERE}
    assert {thing.home for thing in reply.response.objects} == {HERE, THERE}  # type: ignore[union-attr]


def test_object_refs_of_all(country: Country) -> None:
    """Plan 12307."""
    reply = country.here.find(messages.OBJECT_REF)
    assert reply.status == "Success"
    assert sorted(one.home for one in reply.response.references) == [HERE, THERE]  # type: ignore[union-attr]


@pytest.mark.parametrize("home", [HERE, THERE])
def test_one_community_by_name(country: Country, home: str) -> None:
    assert set(homes(country.here.find(home=home)).values()) == {home}


def test_by_identifier_where_the_document_is(country: Country) -> None:
    (theirs,) = [one for one in country.here.find().documents if one.home == THERE]
    parameters = {"XDSDocumentEntryEntryUUID": listed(theirs.id)}
    reply = country.here.ask("initiating", "ITI-18", "GetDocuments", parameters, home=THERE)
    assert homes(reply) == {country.theirs.unique_id: THERE}
    assert homes(country.here.ask("initiating", "ITI-18", "GetDocuments", parameters, home=HERE)) == {}


@pytest.mark.parametrize(("home", "code"), [("", "XDSMissingHomeCommunityId"), (NOWHERE, "XDSUnknownCommunity")])
def test_by_identifier_nowhere(country: Country, home: str, code: str) -> None:
    reply = country.here.ask("initiating", "ITI-18", "GetDocuments", {"XDSDocumentEntryUniqueId": listed("1.2")},
                             home=home)
    assert (reply.status, located(reply)) == ("Failure", [(code, HERE)])


def test_documents_come_from_where_they_are(country: Country) -> None:
    """Plan 12308: one of each community in one request, byte for byte, and nothing left lying about."""
    here, there = country.here, country.there
    reply = here.retrieve((THERE, there.repository_id, country.theirs.unique_id),
                          (HERE, here.repository_id, country.ours.unique_id))
    assert (reply.status, reply.errors) == ("Success", [])
    assert reply.contents == {country.ours.unique_id: b"<ici/>", country.theirs.unique_id: LARGE}
    assert {one.unique_id: one.home for one in reply.response.documents} == {  # type: ignore[union-attr]
        country.ours.unique_id: HERE, country.theirs.unique_id: THERE}
    wait_until(lambda: here.incoming == there.incoming == [])


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_documents_that_are_nowhere(country: Country) -> None:
    here, there = country.here, country.there
    good = (THERE, there.repository_id, country.theirs.unique_id)
    reply = here.retrieve(good, ("", there.repository_id, "1.2"), (NOWHERE, there.repository_id, "1.2"),
                          (THERE, there.repository_id, "1.2"), (HERE, here.repository_id, "1.3"))
    assert reply.status == "PartialSuccess"
    assert located(reply) == [
        ("XDSMissingHomeCommunityId", HERE), ("XDSUnknownCommunity", HERE), ("XDSDocumentUniqueIdError", HERE),
        ("XDSDocumentUniqueIdError", THERE)]
    assert set(reply.contents) == {country.theirs.unique_id}
    assert here.retrieve((NOWHERE, "1.2", "1.2")).status == "Failure"


def test_the_responding_gateway_alone(country: Country) -> None:
    """Plans 12309 to 12313 over the network."""
    there = country.there
    for returns in (messages.OBJECT_REF, messages.LEAF_CLASS):
        assert there.ask("gateway", "ITI-38", "FindDocuments", OF_PATIENT, returns).status == "Success"
    missing = there.ask("gateway", "ITI-38", "GetDocuments", {"XDSDocumentEntryUniqueId": listed("1.2")})
    assert (missing.status, located(missing)) == ("Failure", [("XDSMissingHomeCommunityId", THERE)])
    wrong = there.ask("gateway", "ITI-38", "FindDocuments", {})
    assert set(located(wrong)) == {("XDSStoredQueryMissingParam", THERE)}
    body = messages.write_retrieve([DocumentRequest(THERE, there.repository_id, country.theirs.unique_id)])
    reply = there.call("gateway", "ITI-39", body)
    assert (reply.status, reply.contents) == ("Success", {country.theirs.unique_id: LARGE})
    assert reply.action == "urn:ihe:iti:2007:CrossGatewayRetrieveResponse"


def test_patient_discovery_over_the_network(country: Country) -> None:
    reply = country.there.call("gateway", "ITI-55", discovery(NAME, BIRTH))
    assert reply.action == "urn:hl7-org:v3:PRPA_IN201306UV02:CrossGatewayPatientDiscovery"
    assert str(reply.body.tag) == TRANSACTIONS["ITI-55"].response


@pytest.mark.parametrize(("service", "transaction"), [("gateway", "ITI-18"), ("gateway", "ITI-43"),
                                                      ("initiating", "ITI-38"), ("registry", "ITI-38")])
def test_each_gateway_has_its_own_transactions(country: Country, service: str, transaction: str) -> None:
    body = messages.write_retrieve([DocumentRequest(THERE, "1.2", "1.2")]) if transaction == "ITI-43" else (
        messages.write_query(query("FindDocuments", OF_PATIENT)))
    reply = country.here.call(service, transaction, body)
    assert reply.fault is not None
    assert reply.findings == ["V-SOAP-ACTION-UNKNOWN"]


def test_without_a_home_there_is_no_gateway(tmp_path: Path) -> None:
    with town(tmp_path / "alone", "") as alone:
        for reply in (alone.find(), alone.ask("gateway", "ITI-38", "FindDocuments", OF_PATIENT),
                      alone.call("gateway", "ITI-55", discovery(NAME, BIRTH)),
                      alone.retrieve((THERE, "1.2", "1.2"))):
            assert (reply.status, reply.findings) == ("Receiver", ["V-XCA-NO-HOME"])


# --- others that behave badly --------------------------------------------------------------------------------------


@pytest.fixture
def profile() -> Watched:
    return Watched(domain=replace(DOMAIN, home_community_id=HERE))


@pytest.fixture
def ours(registry: Registry) -> str:
    """A document of this community."""
    one = document()
    register_one(registry, one)
    return one.unique_id


@dataclass
class Asker:
    """The initiating gateway in this process."""

    repository: Repository

    def communities(self, *others: tuple[str, str], **more: Any) -> Gateway:
        found = {home: Community(home, url, url, "Voisine", **more) for home, url in others}
        return Gateway(self.repository, found, DEFAULT_LIMITS)

    def find(self, gateway: Gateway, returns: str = "LeafClass", asked: AdhocQuery | None = None,
             exchange: Exchange | None = None) -> messages.QueryResponse:
        body = parse(messages.write_query(asked or query("FindDocuments", OF_PATIENT, returns)).encode())
        answer = communities.iti18(body, Caller(), exchange or Exchange(), gateway)
        return messages.read_query_response(parse(answer.body.encode()))

    def retrieve(self, gateway: Gateway, *unique_ids: str, home: str = THERE
                 ) -> tuple[messages.RetrieveResponse, list[bytes]]:
        requested = [DocumentRequest(home, "1.2.3", unique_id) for unique_id in unique_ids]
        answer = communities.iti43(parse(messages.write_retrieve(requested).encode()), Caller(), Exchange(), gateway)
        contents = [part[1] if isinstance(part[1], bytes) else b"".join(part[1]) for part in answer.parts]
        return messages.read_retrieve_response(parse(answer.body.encode())), contents


@pytest.fixture
def asker(repository: Repository) -> Asker:
    return Asker(repository)


def codes(response: messages.QueryResponse | messages.RetrieveResponse) -> list[tuple[str, str]]:
    return [(error.code, error.location) for error in response.errors]


def dead_url() -> str:
    """An address where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}/"


UNAVAILABLE = [("XDSUnavailableCommunity", THERE)]


def test_who_does_not_answer_costs_no_other_answer(asker: Asker, ours: str) -> None:
    exchange = Exchange()
    with serving(references("urn:uuid:1")) as fake:
        gateway = asker.communities((THERE, dead_url()), (NOWHERE, fake.url))
        response = asker.find(gateway, messages.OBJECT_REF, exchange=exchange)
    assert response.status == PARTIAL_SUCCESS
    assert codes(response) == UNAVAILABLE
    assert sorted(reference.home for reference in response.references) == [HERE, NOWHERE]
    assert [finding.code for finding in exchange.findings] == ["V-XCA-UNAVAILABLE"]


def test_the_only_one_asked_does_not_answer(asker: Asker, ours: str) -> None:
    gateway = asker.communities((THERE, dead_url()))
    response = asker.find(gateway, asked=replace(query("FindDocuments", OF_PATIENT), home=THERE))
    assert (response.status, codes(response), response.objects) == (FAILURE, UNAVAILABLE, ())
    retrieve, contents = asker.retrieve(gateway, "1.2", "1.3")
    assert (retrieve.status, codes(retrieve), contents) == (FAILURE, UNAVAILABLE, [])


@pytest.mark.parametrize("reply", [
    (200, "text/html", b"<h1>Bienvenue</h1>"), (500, "text/plain", b""), (200, "application/soap+xml", b"<a"),
    (302, "text/plain", b""), (200, "application/soap+xml", b"<a/>"), fault(FINDING),
    (200, 'multipart/related; type="application/xop+xml"; boundary="x"', b"--x\r\n\r\n"),
    soap(messages.write_registry_response(SUCCESS), "ITI-42"), soap("<a/>", "ITI-18"),
    soap(messages.write_query_response(FAILURE), "ITI-38"), soap(messages.write_query_response("?"), "ITI-38"),
])
def test_an_answer_that_cannot_be_used(asker: Asker, ours: str, reply: Any) -> None:
    with serving(reply) as fake:
        response = asker.find(asker.communities((THERE, fake.url)))
    assert (response.status, codes(response)) == (PARTIAL_SUCCESS, UNAVAILABLE)
    assert [thing.home for thing in response.objects] == [HERE]


def test_what_others_say_of_themselves_does_not_count(asker: Asker) -> None:
    """Homes and locations are those of who was asked: nobody answers for somebody else."""
    liar = RegistryError("XDSRegistryError", "contexte", SEVERITY_WARNING, HERE)
    body = messages.write_query_response(PARTIAL_SUCCESS, [liar, replace(liar, severity="?")], [
        messages.rim.write(replace(messages.rim.RegistryObject("Association", "urn:uuid:1"), home=HERE)),
        messages.rim.write_refs([ObjectRef("urn:uuid:2", HERE)])])
    with serving(soap(body, "ITI-38")) as fake:
        response = asker.find(asker.communities((THERE, fake.url)))
    assert response.status == PARTIAL_SUCCESS
    assert [thing.home for thing in (*response.objects, *response.references)] == [THERE, THERE]
    assert [(error.location, error.severity) for error in response.errors] == [
        (THERE, SEVERITY_WARNING), (THERE, SEVERITY_ERROR)]


def test_objects_of_others_are_handed_on_whole(asker: Asker) -> None:
    sent = document(lid="urn:uuid:7", version="3", extra_slots=(messages.Slot("urn:essai", ("a", "b & c")),))
    with serving(found(sent)) as fake:
        (thing,) = asker.find(asker.communities((THERE, fake.url))).objects
    assert thing == replace(ebxml.from_document(sent), home=THERE)
    assert thing.slot("urn:essai") == ("a", "b & c")


def test_others_are_asked_by_their_own_name(asker: Asker, tmp_path: Path) -> None:
    with serving(references()) as fake:
        asker.find(asker.communities((THERE, fake.url)))
    envelope = fake.requests[0].envelope(tmp_path)
    assert envelope.action == "urn:ihe:iti:2007:CrossGatewayQuery"
    asked = messages.read_query(envelope.body)
    assert asked == replace(query("FindDocuments", OF_PATIENT), home=THERE)


def trickle(content_type: str) -> Callable[[socket.socket], None]:
    """An answer of a byte every twentieth of a second, for ever."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode())
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)

    return answer


@contextmanager
def rude(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server below HTTP; its address."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            try:
                answer(connection)
            except OSError:
                return  # whoever asked has left

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        thread.join(5)
        assert not thread.is_alive()


SOAP_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\n"


@pytest.mark.parametrize("answer", [
    trickle("application/soap+xml"), trickle('multipart/related; type="application/xop+xml"; boundary="x"'),
    lambda connection: time.sleep(1), lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nX: "),
    lambda connection: connection.sendall(b"\x00" * 100_000),
    lambda connection: connection.sendall(SOAP_HEAD + b"Content-Length: 99\r\n\r\n<a"),
    lambda connection: connection.sendall(SOAP_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    lambda connection: connection.sendall(SOAP_HEAD + b"Content-Encoding: gzip\r\n\r\nno gzip"),
])
def test_who_takes_too_long_is_not_waited_for(asker: Asker, ours: str, answer: Any) -> None:
    began = time.monotonic()
    with rude(answer) as url:
        response = asker.find(asker.communities((THERE, url), seconds=0.3))
        assert time.monotonic() - began < 3
    assert (response.status, codes(response)) == (PARTIAL_SUCCESS, UNAVAILABLE)


# --- documents of others -------------------------------------------------------------------------------------------


def test_documents_pass_through_files(asker: Asker, store: FolderStore) -> None:
    """Held in files until they are read, however small, and removed then."""
    with serving(retrieved({"1.2": b"essai", "1.3": LARGE})) as fake:
        gateway = asker.communities((THERE, fake.url))
        body = parse(messages.write_retrieve([DocumentRequest(THERE, "1.2.3", "1.2"),
                                              DocumentRequest(THERE, "1.2.3", "1.3")]).encode())
        answer = communities.iti43(body, Caller(), Exchange(), gateway)
    assert len(list(store.incoming.iterdir())) == 2
    parts = [content for _, content, _ in answer.parts]
    assert [b"".join(part) for part in parts if not isinstance(part, bytes)] == [b"essai", LARGE]
    del answer, parts
    gc.collect()
    assert list(store.incoming.iterdir()) == []


def test_documents_that_nobody_reads_are_removed_too(tmp_path: Path) -> None:
    content_type, pieces, _ = write_related(b"<a/>", [("1@x", b"essai", 5)], "")
    message = receive(content_type, pieces, tmp_path, in_memory=0)
    held = Held(message.parts["1@x"])
    begun = held.pieces()
    assert next(begun) == b"essai"
    del held
    assert len(list(tmp_path.iterdir())) == 1
    del begun
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_only_what_was_asked_for_is_handed_on(asker: Asker, store: FolderStore) -> None:
    with serving(retrieved({"1.2": b"essai", "1.9": b"autre"})) as fake:
        response, contents = asker.retrieve(asker.communities((THERE, fake.url)), "1.2")
    assert (response.status, contents) == (SUCCESS, [b"essai"])
    assert [(one.home, one.unique_id) for one in response.documents] == [(THERE, "1.2")]
    gc.collect()
    assert list(store.incoming.iterdir()) == []


def test_a_document_that_is_silently_absent(asker: Asker) -> None:
    with serving(retrieved({"1.2": b"essai"})) as fake:
        response, contents = asker.retrieve(asker.communities((THERE, fake.url)), "1.2", "1.3")
    assert (response.status, contents) == (PARTIAL_SUCCESS, [b"essai"])
    assert codes(response) == [("XDSDocumentUniqueIdError", THERE)]


def test_a_document_without_mtom(asker: Asker) -> None:
    body = messages.write_retrieve_response(SUCCESS, (), [
        messages.DocumentResponse("", "1.2.3", "1.2", "text/xml", data=b"essai")])
    with serving(soap(body, "ITI-39")) as fake:
        response, contents = asker.retrieve(asker.communities((THERE, fake.url)), "1.2")
    assert (response.status, contents) == (SUCCESS, [b"essai"])


def test_errors_of_others_are_handed_on(asker: Asker) -> None:
    error = RegistryError("XDSDocumentUniqueIdError", "inconnu")
    with serving(retrieved({"1.2": b"essai"}, PARTIAL_SUCCESS, error)) as fake:
        response, contents = asker.retrieve(asker.communities((THERE, fake.url)), "1.2", "1.3")
    assert (response.status, contents) == (PARTIAL_SUCCESS, [b"essai"])
    assert response.errors == (replace(error, location=THERE),)


def test_more_documents_than_a_message_usually_holds(asker: Asker) -> None:
    several = {f"1.2.{number}": b"%d" % number for number in range(120)}
    with serving(retrieved(several)) as fake:
        response, contents = asker.retrieve(asker.communities((THERE, fake.url)), *several)
    assert (response.status, contents) == (SUCCESS, list(several.values()))


# --- who may ask ---------------------------------------------------------------------------------------------------


def test_the_profile_is_asked_before_anybody_else(asker: Asker, profile: Watched) -> None:
    profile.refusing = (FINDING,)
    with serving(references()) as fake:
        gateway = asker.communities((THERE, fake.url))
        for call in (lambda: asker.find(gateway), lambda: asker.retrieve(gateway, "1.2")):
            with pytest.raises(Refused) as caught:
                call()
            assert caught.value.findings == (FINDING,)
        assert fake.requests == []
    assert profile.asked == [("initiating-search", PATIENT), ("initiating-retrieve", "")]


def test_a_wrong_query_is_not_passed_on(asker: Asker) -> None:
    with serving(references()) as fake:
        gateway = asker.communities((THERE, fake.url))
        for wrong in (query("FindDocuments", {}), AdhocQuery("urn:uuid:1")):
            with pytest.raises(Refused):
                asker.find(gateway, asked=wrong)
        assert fake.requests == []


def test_our_own_failure_costs_no_other_answer(asker: Asker, registry: Registry) -> None:
    """Too many objects here; the others' are shown."""
    small = replace(asker.repository.services.registry, domain=replace(DOMAIN, max_results=0))
    limited = replace(asker.repository, services=replace(asker.repository.services, registry=small))
    register_one(registry)
    with serving(found(document())) as fake:
        response = Asker(limited).find(Asker(limited).communities((THERE, fake.url)))
    assert (response.status, codes(response)) == (PARTIAL_SUCCESS, [("XDSTooManyResults", HERE)])
    assert [thing.home for thing in response.objects] == [THERE]


@pytest.mark.parametrize(("statuses", "status"), [
    ([SUCCESS], SUCCESS), ([SUCCESS, SUCCESS], SUCCESS), ([FAILURE], FAILURE), ([FAILURE, FAILURE], FAILURE),
    ([SUCCESS, FAILURE], PARTIAL_SUCCESS), ([PARTIAL_SUCCESS, SUCCESS], PARTIAL_SUCCESS),
    ([PARTIAL_SUCCESS, FAILURE], PARTIAL_SUCCESS), ([PARTIAL_SUCCESS], PARTIAL_SUCCESS)])
def test_the_status_of_several(statuses: list[str], status: str) -> None:
    assert merged(statuses) == status


# --- TLS -----------------------------------------------------------------------------------------------------------


def over_tls(asker: Asker, fake: Fake, **more: Any) -> messages.QueryResponse:
    return asker.find(asker.communities((THERE, fake.url), **more))


def test_over_tls_with_our_own_certificate(asker: Asker, pki: Path) -> None:
    card, ca = pki / "cards" / "hopital", pki / "pki" / "ca.pem"
    shown = {"certificate": card / "auth.pem", "key": card / "auth.key"}
    with serving(references("urn:uuid:1"), tls=tls_of(pki, ca)) as fake:
        assert over_tls(asker, fake, ca=ca, **shown).status == SUCCESS
        for wrong in ({"ca": ca}, shown, {"ca": ca, "certificate": pki / "absent.pem"}):
            assert codes(over_tls(asker, fake, **wrong)) == UNAVAILABLE
        assert len(fake.requests) == 1


# --- the operator's file -------------------------------------------------------------------------------------------

GOOD = f'''[[community]]
home = "{THERE}"
name = "Voisine"
query = "https://voisine.example/xca/query"
retrieve = "https://voisine.example/xca/retrieve"
ca = "ca.pem"
certificate = "own.pem"
key = "own.key"
seconds = 5
'''


def loaded(folder: Path, text: str, own: str = HERE) -> communities.Communities:
    for name in ("ca.pem", "own.pem", "own.key"):
        (folder / name).write_text("", "utf-8")
    (folder / "communities.toml").write_text(text, "utf-8")
    return load(folder / "communities.toml", own)


def test_a_file_is_read(tmp_path: Path) -> None:
    assert loaded(tmp_path, GOOD) == {THERE: Community(
        THERE, "https://voisine.example/xca/query", "https://voisine.example/xca/retrieve", "Voisine",
        tmp_path / "ca.pem", tmp_path / "own.pem", tmp_path / "own.key", 5)}
    assert load(None, HERE) == {}


@pytest.mark.parametrize(("old", "new", "said"), [
    ("urn:oid:", "", "urn:oid:"), ('home = "', 'domicile = "', "domicile"), ("https://voisine.example/xca/query",
                                                                            "file:///etc/passwd", "https://"),
    ("seconds = 5", "seconds = 0", "seconds"), ("seconds = 5", "seconds = 5\nsecondes = 6", "secondes"),
    ("ca.pem", "absente.pem", "absente.pem"), ('certificate = "own.pem"\n', "", "certificate"),
    (THERE, HERE, HERE), ("[[community]]", "[community]", ""), ("[[community]]", "[[communities]]", "community"),
    ('home = "', "home = 1 #", ""), ("[[", "[", ""), ("seconds = 5", GOOD, "once"),
])
def test_a_wrong_file_stops_the_start_by_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=r"communities .*communities\.toml: ") as caught:
        loaded(tmp_path, GOOD.replace(old, new))
    assert said in str(caught.value)


def test_no_more_communities_than_threads(tmp_path: Path) -> None:
    def several(number: int) -> str:
        return "".join(GOOD.replace(THERE, f"{THERE}.{count}") for count in range(number))

    assert len(loaded(tmp_path, several(communities.MOST))) == communities.MOST
    with pytest.raises(ValueError, match="at most"):
        loaded(tmp_path, several(communities.MOST + 1))
    with pytest.raises(ValueError, match="No such file"):
        load(tmp_path / "absent.toml")
