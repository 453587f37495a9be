"""Removing metadata by IHE's plans (ITI-62): all of a list or none, and nothing left that points nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select

from journal.exchanges import Exchange
from registry.register import Registry
from registry.tables import identifier_claim, object_code, object_text, outbox
from registry.transactions import Services, iti62
from security.identity import Caller
from tests.registry.samples import (
    BOTH,
    Told,
    ask,
    document,
    find,
    folder,
    holds,
    link,
    listed,
    put,
    quoted,
    replacing,
    status_of,
)
from tests.registry.test_state import counts
from tests.registry.test_transactions import FINDING, Watched
from xds import messages
from xds.findings import Refused
from xds.rim import ObjectRef
from xds.vocabulary import APND, RPLC, SUCCESS, XFRM_RPLC
from xds.xml import parse

REFERENCED, UNREFERENCED = "ReferencesExistException", "XDSUnreferencedObjectException"
NOWHERE = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"


def remove(registry: Registry, *uuids: str, profile: Any = None) -> set[str]:
    """XDS codes of the refusal, none for success; a refusal removes nothing."""
    before = counts(registry)
    body = parse(messages.write_remove_objects(ObjectRef(uuid) for uuid in uuids).encode())
    try:
        answer = iti62(body, Caller(), Exchange(), Services(registry, profile or Watched()))
    except Refused as refused:
        assert counts(registry) == before
        return {finding.xds for finding in refused.findings}
    assert messages.read_registry_response(parse(answer.body.encode())).status == SUCCESS
    return set()


def contents(registry: Registry, uuid: str) -> Told:
    return ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(uuid))


def test_30000(registry: Registry) -> None:
    there = put(registry).ids
    assert remove(registry, NOWHERE) == {"UnresolvedReferenceException"}
    assert "UnresolvedReferenceException" in remove(registry, *there.values(), NOWHERE)
    assert contents(registry, there["Set01"]).counts == (1, 1, 0, 1)


@pytest.mark.parametrize(("symbol", "part"), [("Document01", document()), ("Folder01", folder())])
def test_30001_and_30002(registry: Registry, symbol: str, part: Any) -> None:
    there = put(registry, part).ids
    of_set = there[f"Member-{symbol}"]
    assert remove(registry, there[symbol]) == {REFERENCED}
    assert remove(registry, there["Set01"]) == {REFERENCED}
    assert remove(registry, there["Set01"], there[symbol]) == {REFERENCED}
    assert remove(registry, of_set) == {UNREFERENCED}
    assert remove(registry, there[symbol], of_set) == {UNREFERENCED}
    assert remove(registry, there["Set01"], there[symbol], of_set) == set()
    assert contents(registry, there["Set01"]).counts == (0, 0, 0, 0)


def test_30003_a_document_out_of_its_folder(registry: Registry) -> None:
    there = put(registry, document(), folder(), holds("Folder01", "Document01", "Inner")).ids
    assert remove(registry, there["Inner"]) == {REFERENCED}
    assert remove(registry, there["Inner"], there["Member-Inner"]) == set()
    assert contents(registry, there["Set01"]).counts == (1, 1, 1, 2)
    told = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(there["Folder01"]))
    assert told.counts == (0, 0, 1, 0)


def whole(ids: Any) -> list[str]:
    """Everything of one submission."""
    return list(ids.values())


def test_30004_an_addendum(registry: Registry) -> None:
    first = put(registry).ids
    second = put(registry, document(), link(APND, "Document01", first["Document01"], "Relation")).ids
    assert remove(registry, *whole(first)) == {REFERENCED}
    assert remove(registry, second["Set01"], second["Document01"], second["Member-Document01"]) == {REFERENCED}
    assert remove(registry, *whole(second)) == set()
    assert contents(registry, first["Set01"]).counts == (1, 1, 0, 1)


@pytest.mark.parametrize("kind", [RPLC, XFRM_RPLC])
def test_30005_a_replacement(registry: Registry, kind: str) -> None:
    first = put(registry).ids
    second = put(registry, document(), link(kind, "Document01", first["Document01"], "Relation")).ids
    assert remove(registry, *whole(first)) == {REFERENCED}
    assert remove(registry, second["Relation"]) == set()  # the document is still held by its set
    assert remove(registry, *(uuid for symbol, uuid in second.items() if symbol != "Relation")) == set()
    assert find(registry).uuids == {first["Document01"]}
    assert status_of(registry, first["Document01"]) == "Deprecated"


def test_30006_one_after_the_other(registry: Registry) -> None:
    first = put(registry).ids
    second = put(registry, document(), link(XFRM_RPLC, "Document01", first["Document01"], "Relation")).ids
    third = put(registry, document(), link(APND, "Document01", second["Document01"], "Relation")).ids
    assert remove(registry, *whole(first)) == remove(registry, *whole(second)) == {REFERENCED}
    for ids in (third, second, first):
        assert remove(registry, *whole(ids)) == set()
    assert find(registry).uuids == set()


def test_30008_an_addendum_and_a_transformation(registry: Registry) -> None:
    """What is left of it stays deprecated."""
    first = put(registry).ids
    second = put(registry, document(), link(APND, "Document01", first["Document01"], "Relation")).ids
    third = put(registry, document(), link(XFRM_RPLC, "Document01", first["Document01"], "Relation")).ids
    every = listed(*(ids["Document01"] for ids in (first, second, third)))

    def told() -> Told:
        return ask(registry, "GetDocumentsAndAssociations", XDSDocumentEntryEntryUUID=every, MetadataLevel="2",
                   XDSAssociationStatus=BOTH)

    assert told().counts == (0, 3, 0, 5)
    assert remove(registry, *whole(first)) == {REFERENCED}
    assert remove(registry, *(uuid for symbol, uuid in second.items() if symbol != "Relation")) == {REFERENCED}
    assert remove(registry, second["Relation"]) == set()
    assert remove(registry, *whole(first), third["Relation"]) == set()
    assert remove(registry, *(uuid for symbol, uuid in third.items() if symbol != "Relation")) == set()
    assert (told().counts, told().documents[0].id) == ((0, 1, 0, 1), second["Document01"])
    assert status_of(registry, second["Document01"]) == "Deprecated"


def test_30007_all_at_once(registry: Registry) -> None:
    first = put(registry).ids
    second = put(registry, document(), link(XFRM_RPLC, "Document01", first["Document01"], "Relation")).ids
    third = put(registry, document(), link(APND, "Document01", second["Document01"], "Relation")).ids
    assert remove(registry, *whole(third), *whole(first), *whole(second)) == set()
    assert find(registry).uuids == set()


def test_nothing_of_a_removed_object_is_left(registry: Registry) -> None:
    """Its rows, its codes, its identifiers: the uniqueId is free again."""
    empty = counts(registry)
    there = put(registry, document(unique_id="1.2.3"), folder(unique_id="1.2.4"), holds("Folder01", "Document01"),
                unique_id="1.2.5").ids
    assert remove(registry, *whole(there)) == set()
    assert {name: number for name, number in counts(registry).items() if name != "outbox"} == {
        name: number for name, number in empty.items() if name != "outbox"}
    with registry.database.read() as connection:
        for table in (identifier_claim, object_code, object_text):
            assert connection.execute(select(table)).all() == []
    again = put(registry, document(unique_id="1.2.3", hash="1" * 40), unique_id="1.2.5").ids
    assert find(registry).uuids == {again["Document01"]}


def test_one_of_two_entries_of_a_document(registry: Registry) -> None:
    first = put(registry, document(unique_id="1.2.3")).ids
    second = put(registry, document(unique_id="1.2.3")).ids
    assert remove(registry, *whole(first)) == set()
    told = ask(registry, "GetDocuments", XDSDocumentEntryUniqueId="('1.2.3')")
    assert told.uuids == {second["Document01"]}


def test_uuids_of_either_case_and_twice(registry: Registry) -> None:
    there = put(registry).ids
    shouted = [uuid[:9] + uuid[9:].upper() for uuid in there.values()]
    assert remove(registry, *shouted, *there.values()) == set()
    assert find(registry).uuids == set()


def test_what_followed_a_replacement_goes_too(registry: Registry) -> None:
    """The registry's own links hold the folder and the new set: they are part of what must go."""
    first = put(registry, document(), folder(), holds("Folder01", "Document01")).ids
    second = put(registry, *replacing(first["Document01"])).ids
    assert remove(registry, *whole(second)) == {REFERENCED}
    links = ask(registry, "GetAssociations", uuid=listed(second["Document01"], second["Set01"])).associations
    assert remove(registry, *(one.id for one in links), second["Document01"], second["Set01"]) == set()
    told = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(first["Folder01"]))
    assert {one.id for one in told.documents} == {first["Document01"]}


def test_the_profile_is_asked_first(registry: Registry) -> None:
    there = put(registry).ids
    profile = Watched(refusing=(FINDING,))
    assert remove(registry, *whole(there), profile=profile) == {FINDING.xds}
    assert profile.asked == [("remove", "")]


def test_the_outbox_tells_it(registry: Registry) -> None:
    there = put(registry).ids
    remove(registry, *whole(there))
    with registry.database.read() as connection:
        last = connection.execute(select(outbox).order_by(outbox.c.id.desc())).first()
    assert last is not None
    assert (last.kind, set(json.loads(last.payload)["objects"])) == ("removal", set(there.values()))

