"""Provide and Register: bytes and metadata match, are kept together or not at all; the registry's word passes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from journal.exchanges import Exchange
from registry import effects, register
from registry.register import Registry
from repository import provide as module
from repository.provide import Repository
from repository.spool import IN_MEMORY, Received
from repository.store import FolderStore
from security.identity import Caller
from tests.registry.samples import DOMAIN, OTHER, PATIENT, STRANGER, find, folder, fresh_oid, holds, link, submission
from tests.registry.test_state import counts
from tests.registry.test_transactions import FINDING, Watched
from tests.repository.samples import VSM, entry, kept, message_of, provide, put, refusal
from xds.findings import Finding, Refused
from xds.model import Submission
from xds.vocabulary import EMPTY_SHA1, HAS_MEMBER, RPLC, SEVERITY_WARNING, SUCCESS
from xds.xml import parse

OTHER_BYTES = b"<ClinicalDocument>autre</ClinicalDocument>"
LARGE = bytes(range(256)) * (IN_MEMORY // 256) + b"!"
SHA1 = hashlib.sha1(VSM, usedforsecurity=False).hexdigest()


def empty(repository: Repository, registry: Registry) -> bool:
    """Neither a document nor a row of anything."""
    rows = counts(registry)
    return kept(repository) == [] and {rows[name] for name in ("document", "submission_set", "outbox")} == {0}


# --- what is accepted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [VSM, b"", LARGE], ids=len)
def test_one_document(repository: Repository, registry: Registry, content: bytes) -> None:
    """Plan 11966; hash, size and repositoryUniqueId are the repository's."""
    answer = provide(repository, submission(entry()), {"Document01": content})
    assert (answer.status, answer.errors) == (SUCCESS, ())
    (found,) = find(registry).documents
    assert found.hash == hashlib.sha1(content, usedforsecurity=False).hexdigest()
    assert (found.size, found.repository_unique_id) == (str(len(content)), DOMAIN.repository_unique_id)
    assert kept(repository) == [content]


def test_an_empty_document(repository: Repository, registry: Registry) -> None:
    provide(repository, submission(entry(hash=EMPTY_SHA1, size="0")), {"Document01": b""})
    assert find(registry).documents[0].hash == EMPTY_SHA1


def test_two_documents_in_a_folder(repository: Repository, registry: Registry) -> None:
    """Plan 11979, ReposAcceptanceTest-1113; each entry has its own bytes."""
    whole = submission(entry(), entry("Document02"), folder(), holds("Folder01", "Document01"))
    provide(repository, whole, {"Document02": OTHER_BYTES, "Document01": VSM})
    assert {(one.unique_id, one.hash) for one in find(registry).documents} == {
        (one.unique_id, hashlib.sha1(data, usedforsecurity=False).hexdigest())
        for one, data in zip(whole.documents, (VSM, OTHER_BYTES), strict=True)}
    assert kept(repository) == sorted([VSM, OTHER_BYTES])


def test_a_replacement(repository: Repository, registry: Registry) -> None:
    """ReposAcceptanceTest-1111."""
    put(repository)
    (old,) = find(registry).documents
    whole = submission(entry(), link(RPLC, "Document01", old.id))
    assert provide(repository, whole, {"Document01": OTHER_BYTES}).status == SUCCESS
    assert len(kept(repository)) == 2


@pytest.mark.parametrize(("declared", "size"), [(SHA1, str(len(VSM))), (SHA1.upper(), ""), ("", str(len(VSM)))])
def test_declared_hash_and_size(repository: Repository, registry: Registry, declared: str, size: str) -> None:
    """Plan 11981: also in upper case."""
    provide(repository, submission(entry(hash=declared, size=size)), {"Document01": VSM})
    assert (find(registry).documents[0].hash, find(registry).documents[0].size) == (SHA1, str(len(VSM)))


def test_a_repository_named_by_the_source_is_not_believed(repository: Repository, registry: Registry) -> None:
    provide(repository, submission(entry(repository_unique_id="1.2.3")), {"Document01": VSM})
    assert find(registry).documents[0].repository_unique_id == DOMAIN.repository_unique_id


@pytest.mark.parametrize("content", [VSM, b"", LARGE], ids=len)
def test_documents_inline(repository: Repository, registry: Registry, content: bytes) -> None:
    """Without MTOM: accepted, with a warning."""
    answer = provide(repository, submission(entry()), {"Document01": content}, mtom=False)
    assert (answer.status, [error.severity for error in answer.errors]) == (SUCCESS, [SEVERITY_WARNING])
    assert find(registry).documents[0].size == str(len(content))
    assert kept(repository) == [content]


def test_ids_of_either_case(repository: Repository, registry: Registry) -> None:
    """ExtrinsicObject/@id in upper case, Document/@id in lower."""
    upper = "urn:uuid:6C1B0C5E-0001-4000-8000-00000000000A"
    whole = submission(entry(upper), link(HAS_MEMBER, "Set01", upper.lower(), submission_set_status="Original"))
    whole = Submission(objects=tuple(thing for thing in whole.objects if thing.id != f"Member-{upper}"))
    assert provide(repository, whole, {upper.lower(): VSM}).status == SUCCESS
    assert find(registry).documents[0].hash == SHA1


def test_the_same_document_again(repository: Repository, registry: Registry) -> None:
    one = entry()
    for _ in range(2):
        provide(repository, submission(one), {"Document01": VSM})
    assert len(find(registry).documents) == 2
    assert refusal(repository, submission(one), {"Document01": OTHER_BYTES}) == ["XDSNonIdenticalHash"]
    assert kept(repository) == [VSM, VSM]


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"hash": "0" * 40}, {"size": "1"}, {"size": f"0{len(VSM)}"}])
def test_another_hash_or_size(repository: Repository, registry: Registry, changes: dict[str, str]) -> None:
    """Plans 11981, 12369."""
    assert refusal(repository, submission(entry(**changes)), {"Document01": VSM}) == ["XDSRepositoryMetadataError"]
    assert empty(repository, registry)


def test_both_hash_and_size(repository: Repository, registry: Registry) -> None:
    assert refusal(repository, submission(entry(hash="0" * 40, size="1")), {"Document01": VSM}) == [
        "XDSRepositoryMetadataError"] * 2


@pytest.mark.parametrize("mtom", [True, False])
def test_an_entry_without_its_document(repository: Repository, registry: Registry, mtom: bool) -> None:
    """Plan 11983."""
    whole = submission(entry(), entry("Document02"))
    assert refusal(repository, whole, {"Document01": VSM}, mtom)[0] == "XDSMissingDocument"
    assert refusal(repository, submission(entry()), {}, mtom)[0] == "XDSMissingDocument"
    assert empty(repository, registry)


@pytest.mark.parametrize("mtom", [True, False])
def test_a_document_without_its_entry(repository: Repository, registry: Registry, mtom: bool) -> None:
    """Plan 11983."""
    codes = refusal(repository, submission(entry()), {"Document01": VSM, "Document99": VSM}, mtom)
    assert codes[0] == "XDSMissingDocumentMetadata"
    assert empty(repository, registry)


def test_a_document_of_a_folder_or_a_set(repository: Repository, registry: Registry) -> None:
    for identity in ("Set01", "Folder01"):
        codes = refusal(repository, submission(entry(), folder()), {"Document01": VSM, identity: VSM})
        assert codes == ["XDSMissingDocumentMetadata"]


def test_bad_metadata_is_found_by_the_repository(repository: Repository, registry: Registry) -> None:
    twice = submission(entry(language="", unique_id="1.2.3"), entry("Document02", unique_id="1.2.3"))
    assert refusal(repository, twice, {"Document01": VSM, "Document02": VSM}) == [
        "XDSRepositoryMetadataError", "XDSRepositoryDuplicateUniqueIdInMessage"]
    assert empty(repository, registry)


def test_everything_wrong_is_told_at_once(repository: Repository, registry: Registry) -> None:
    whole = submission(entry(language="", hash="0" * 40), entry("Document02"))
    assert sorted(refusal(repository, whole, {"Document01": VSM, "Document99": VSM})) == [
        "XDSMissingDocument", "XDSMissingDocumentMetadata", "XDSRepositoryMetadataError", "XDSRepositoryMetadataError"]


USED = "urn:uuid:6c1b0c5e-0001-4000-8000-00000000000b"
REFUSED_BY_THE_REGISTRY: dict[str, tuple[Callable[[], Submission], str]] = {
    "unknown patient": (lambda: submission(entry(patient_id=STRANGER), patient_id=STRANGER), "XDSUnknownPatientId"),
    "unresolved": (lambda: submission(entry(), link(RPLC, "Document01", USED.replace("b", "a"))),
                   "UnresolvedReferenceException"),
    "used": (lambda: submission(entry(), unique_id="1.2.3.99"), "XDSDuplicateUniqueIdInRegistry"),
    "uuid": (lambda: submission(entry(USED)), "XDSRegistryMetadataError"),
}


@pytest.mark.parametrize("reason", REFUSED_BY_THE_REGISTRY)
def test_what_the_registry_refuses_is_not_kept(repository: Repository, registry: Registry, reason: str) -> None:
    """Plan 11986: the registry's own code in the answer."""
    first = submission(entry(USED), unique_id="1.2.3.99")
    provide(repository, first, {first.documents[0].id: VSM})
    before = counts(registry)
    whole, code = REFUSED_BY_THE_REGISTRY[reason][0](), REFUSED_BY_THE_REGISTRY[reason][1]
    assert refusal(repository, whole, {whole.documents[0].id: LARGE}) == [code]
    assert counts(registry) == before
    assert kept(repository) == [VSM]


def test_patients_that_differ(repository: Repository, registry: Registry) -> None:
    """Plan 11986, as sent: nobody asks who they are."""
    whole = submission(entry(patient_id=OTHER), patient_id=PATIENT)
    assert refusal(repository, whole, {"Document01": VSM}) == ["XDSPatientIdDoesNotMatch"]
    assert empty(repository, registry)


def test_the_profile_is_asked_first(repository: Repository, registry: Registry, profile: Watched) -> None:
    profile.refusing = (FINDING,)
    assert refusal(repository, submission(entry(language="")), {"Document99": VSM}) == [FINDING.xds]
    assert profile.asked == [("feed", PATIENT)]
    assert empty(repository, registry)


def test_the_profile_reads_the_documents(repository: Repository, registry: Registry, profile: Watched) -> None:
    read: dict[str, bytes] = {}

    def look(_whole: Submission, contents: Any, _caller: object) -> list[Finding]:
        read.update({identity: content() for identity, content in contents.items()})
        return [FINDING]

    profile.check = look  # type: ignore[method-assign]
    whole = submission(entry(), entry("Document02"))
    assert refusal(repository, whole, {"Document01": VSM, "Document02": LARGE}) == [FINDING.xds]
    assert read == {"Document01": VSM, "Document02": LARGE}
    assert empty(repository, registry)


# --- repeats -------------------------------------------------------------------------------------------------------


def test_a_repeat_is_kept_once(repository: Repository, registry: Registry, profile: Watched) -> None:
    """A retry whose first answer was lost: success, with a warning, and no second copy."""
    profile.accept_repeat = True
    whole = submission(entry(), entry("Document02"))
    documents = {"Document01": VSM, "Document02": LARGE}
    assert provide(repository, whole, documents).errors == ()
    before = counts(registry)
    again = provide(repository, whole, documents)
    assert (again.status, [error.severity for error in again.errors]) == (SUCCESS, [SEVERITY_WARNING])
    assert counts(registry) == before
    assert kept(repository) == sorted([VSM, LARGE])


def test_a_repeat_with_other_bytes(repository: Repository, registry: Registry, profile: Watched) -> None:
    profile.accept_repeat = True
    whole = submission(entry())
    provide(repository, whole, {"Document01": VSM})
    assert "XDSDuplicateUniqueIdInRegistry" in refusal(repository, whole, {"Document01": OTHER_BYTES})
    assert kept(repository) == [VSM]


# --- when the medium or the database fails -------------------------------------------------------------------------


def test_no_room(repository: Repository, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three documents does not fit: none is kept."""
    store = repository.store
    original = store.keep

    def keep(received: Received) -> Any:
        if received.size == len(OTHER_BYTES):
            raise OSError(28, "No space left on device")
        return original(received)

    monkeypatch.setattr(store, "keep", keep)
    whole = submission(entry(), entry("Document02"), entry("Document03"))
    documents = {"Document01": VSM, "Document02": OTHER_BYTES, "Document03": LARGE}
    assert refusal(repository, whole, documents) == ["XDSRepositoryOutOfResources"]
    assert empty(repository, registry)


def test_a_store_that_breaks_is_our_fault_and_not_the_senders(repository: Repository, registry: Registry,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Not told as a lack of room; what had been kept beside it is not."""
    original = repository.store.keep

    def keep(received: Received) -> Any:
        if received.size == len(OTHER_BYTES):
            raise ValueError("broken")
        return original(received)

    monkeypatch.setattr(repository.store, "keep", keep)
    with pytest.raises(ValueError, match="broken"):
        provide(repository, submission(entry(), entry("Document02")), {"Document01": VSM, "Document02": OTHER_BYTES})
    assert empty(repository, registry)


def test_nothing_is_taken_back_when_nobody_knows(repository: Repository, registry: Registry,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction took place and its outcome was lost: an entry must not stand without its document."""
    original = register.register

    def lose_the_answer(*arguments: Any, **options: Any) -> None:
        original(*arguments, **options)
        raise RuntimeError("killed")

    monkeypatch.setattr(module, "register", lose_the_answer)
    with pytest.raises(RuntimeError, match="killed"):
        provide(repository, submission(entry()), {"Document01": VSM})
    assert len(find(registry).documents) == 1
    assert kept(repository) == [VSM]


def test_documents_are_durable_before_the_transaction(repository: Repository, registry: Registry,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Design, step 7 before step 8: when the registry begins, all bytes have their names already."""
    seen = []
    original = effects.apply

    def look(*arguments: Any) -> Any:
        seen.append(kept(repository))
        return original(*arguments)

    monkeypatch.setattr(effects, "apply", look)
    provide(repository, submission(entry(), entry("Document02")), {"Document01": VSM, "Document02": LARGE})
    assert seen == [sorted([VSM, LARGE])]


def test_a_message_that_is_not_kept_leaves_nothing(repository: Repository) -> None:
    with message_of(repository, submission(entry()), {"Document01": LARGE}):
        store = repository.store
        assert isinstance(store, FolderStore)
        assert len(list(store.incoming.iterdir())) == 1
    assert kept(repository) == []


# --- the journal ---------------------------------------------------------------------------------------------------


def test_the_exchange_tells_the_story(repository: Repository) -> None:
    exchange = Exchange()
    whole = submission(entry(), entry("Document02"))
    provide(repository, whole, {"Document01": VSM, "Document02": LARGE}, exchange=exchange)
    assert exchange.patient == PATIENT
    assert [name for name, _ in exchange.steps] == ["xds.ebxml", "profile", "rules", "repository", "registry"]
    assert [(one["unique_id"], one["type"], one["size"]) for one in exchange.documents] == [
        (whole.documents[0].unique_id, "60591-5", len(VSM)), (whole.documents[1].unique_id, "60591-5", len(LARGE))]
    assert exchange.documents[0]["sha1"] == SHA1


def test_a_refused_exchange_tells_what_was_there(repository: Repository) -> None:
    exchange = Exchange()
    with pytest.raises(Refused):
        provide(repository, submission(entry(unique_id=fresh_oid())), {}, exchange=exchange)
    assert [(one["size"], one["sha1"]) for one in exchange.documents] == [(0, "")]


def test_nobody_reads_a_part_twice(repository: Repository) -> None:
    """One part named by two documents: which of the two it is, nobody knows."""
    whole = submission(entry(), entry("Document02"))
    with message_of(repository, whole, {"Document01": VSM, "Document02": VSM}) as message:
        twice = message.root.replace(b"cid:part1@x", b"cid:part0@x")
        assert twice != message.root
        with pytest.raises(Refused) as caught:
            module.iti41(parse(twice), message, Caller(), Exchange(), repository)
    assert {finding.code for finding in caught.value.findings} == {"V-MTOM-PART-TWICE", "V-MTOM-PART-UNUSED"}
