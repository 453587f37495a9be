"""Registering: all or nothing, identifiers, replacement and what follows from it, folders, repeats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import time_machine
from sqlalchemy import select

from registry import effects, rows
from registry.register import Registry, register, with_documents
from registry.rows import StoredDocument
from registry.tables import document as document_table
from registry.tables import outbox
from tests.registry.samples import (
    OTHER,
    PATIENT,
    SHA1,
    ask,
    changed,
    code,
    document,
    find,
    folder,
    fresh_oid,
    get,
    holds,
    link,
    put,
    replacing,
    shown,
    status_of,
    submission,
    the_set,
)
from tests.registry.test_state import counts
from xds import ebxml, rim
from xds.findings import Refused, Severity
from xds.model import Submission
from xds.vocabulary import APND, APPROVED, HAS_MEMBER, RPLC, SIGNS, XFRM, XFRM_RPLC

# --- identifiers ---------------------------------------------------------------------------------------------------


def test_symbols_become_uuids_everywhere(registry: Registry) -> None:
    whole = submission(document(), document("Document02"), folder(), holds("Folder01", "Document01", "Inner"),
                       link(APND, "Document02", "Document01", "Relation"))
    ids = put_whole(registry, whole)
    assert set(ids) == {thing.id for thing in whole.objects}
    assert len(set(ids.values())) == len(ids)
    told = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=f"'{ids['Set01']}'")
    assert told.uuids == set(ids.values()) - {ids["Relation"]}
    assert {(one.type, one.source, one.target) for one in told.associations} == {
        (HAS_MEMBER, ids[one.source], ids[one.target]) for one in whole.associations if one.type == HAS_MEMBER}
    relation = ask(registry, "GetRelatedDocuments", XDSDocumentEntryEntryUUID=f"'{ids['Document01']}'",
                   AssociationTypes=f"('{APND}')").associations[0]
    assert (relation.id, relation.source, relation.target) == (
        ids["Relation"], ids["Document02"], ids["Document01"])


def put_whole(registry: Registry, whole: Submission) -> dict[str, str]:
    return dict(register(registry, whole).ids)


def test_ids_of_nested_elements(registry: Registry) -> None:
    whole = submission(document(), folder(), link(HAS_MEMBER, "Folder01", "Document01"))
    ids = put_whole(registry, whole)
    told = ask(registry, "GetAll", patientId=f"'{PATIENT}'", XDSDocumentEntryStatus=f"('{APPROVED}')",
               XDSSubmissionSetStatus=f"('{APPROVED}')", XDSFolderStatus=f"('{APPROVED}')")
    assert told.uuids == set(ids.values())
    nested = [identity for thing in told.objects for identity in rim.all_ids(thing)]
    assert len(nested) == len(set(nested)) > 20
    assert all(rim.is_uuid_urn(identity) and identity == identity.lower() for identity in nested)
    for thing in told.objects:
        assert {item.classified_object for item in thing.classifications} <= {thing.id}
        assert {item.registry_object for item in thing.external_identifiers} <= {thing.id}


def test_uuids_of_the_source_are_kept_in_lower_case(registry: Registry) -> None:
    given = "urn:uuid:6C1B0C5E-0001-4000-8000-00000000000A"
    ids = put_whole(registry, submission(document(given)))
    assert ids[given] == given.lower()
    (entry,) = get(registry, given).documents
    assert (entry.id, entry.lid, entry.version, entry.status) == (given.lower(), given.lower(), "1", APPROVED)


def test_what_the_registry_owns_is_not_taken_from_the_source(registry: Registry) -> None:
    whole = changed(submission(document(), folder(last_update_time="19990101")),
                    lambda thing: replace(thing, status="urn:x:Deleted", version="7"))
    ids = put_whole(registry, whole)
    for told in (get(registry, ids["Document01"]).objects,
                 ask(registry, "GetFolders", XDSFolderEntryUUID=f"('{ids['Folder01']}')").objects):
        assert [(thing.status, thing.version, thing.lid == thing.id) for thing in told] == [(APPROVED, "1", True)]
        assert all(slot.values != ("19990101",) for slot in told[0].slots)


def test_an_association_without_an_id_gets_one(registry: Registry) -> None:
    whole = changed(submission(), lambda thing: replace(thing, id="") if thing.source else thing)
    ids = put_whole(registry, whole)
    (one,) = ask(registry, "GetAssociations", uuid=f"('{ids['Document01']}')").associations
    assert rim.is_uuid_urn(one.id)


# --- all or nothing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["insert", "apply"])
def test_a_failure_in_the_middle_leaves_nothing(registry: Registry, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    before = counts(registry)
    target = rows if at == "insert" else effects
    original = getattr(target, at)

    def fail(*arguments: Any) -> None:
        original(*arguments)
        raise RuntimeError("power cut")

    monkeypatch.setattr(target, at, fail)
    whole = submission(document(), folder(), holds("Folder01", "Document01"))
    with pytest.raises(RuntimeError, match="power cut"):
        register(registry, whole)
    assert counts(registry) == before
    monkeypatch.undo()
    assert register(registry, whole).ids


def test_nothing_is_seen_before_the_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader beside the open transaction finds nothing of it, by any way."""
    old = put(registry).ids["Document01"]
    before, seen = counts(registry), []
    original = effects.apply

    def look(*arguments: Any) -> Any:
        touched = original(*arguments)
        seen.append((counts(registry), status_of(registry, old), len(find(registry).documents)))
        return touched

    monkeypatch.setattr(effects, "apply", look)
    put(registry, *replacing(old))
    assert seen == [(before, "Approved", 1)]
    assert status_of(registry, old) == "Deprecated"


def test_one_wrong_object_keeps_all_others_out(registry: Registry) -> None:
    """Plan 12084."""
    put(registry, document(unique_id="1.2.3"))
    before = counts(registry)
    with pytest.raises(Refused):
        register(registry, submission(document(), document("Document02", unique_id="1.2.3", hash="0" * 40)))
    assert counts(registry) == before


# --- replacement ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RPLC, XFRM_RPLC])
def test_a_replacement_deprecates(registry: Registry, kind: str) -> None:
    """Plans 11992 and 11995."""
    old = put(registry).ids["Document01"]
    new = put(registry, *replacing(old, kind=kind)).ids["Document01"]
    assert (status_of(registry, old), status_of(registry, new)) == ("Deprecated", "Approved")
    (relation,) = ask(registry, "GetRelatedDocuments", XDSDocumentEntryEntryUUID=f"'{old}'",
                      AssociationTypes=f"('{kind}')").associations
    assert (relation.source, relation.target, relation.status) == (new, old, APPROVED)


@pytest.mark.parametrize("kind", [APND, XFRM, SIGNS])
def test_other_relationships_do_not(registry: Registry, kind: str) -> None:
    old = put(registry).ids["Document01"]
    put(registry, *replacing(old, kind=kind))
    assert status_of(registry, old) == "Approved"


def test_what_was_added_to_a_document_goes_with_it(registry: Registry) -> None:
    """Plan 12022, and further down the chain: addenda and transformations of each other; a signature stays."""
    first = put(registry).ids["Document01"]
    chain = [first]
    for kind in (XFRM, APND, XFRM):
        chain.append(put(registry, *replacing(chain[-1], kind=kind)).ids["Document01"])
    beside = put(registry, *replacing(first, kind=APND)).ids["Document01"]
    signature = put(registry, *replacing(first, kind=SIGNS)).ids["Document01"]
    unrelated = put(registry).ids["Document01"]
    new = put(registry, *replacing(first)).ids["Document01"]
    assert {status_of(registry, one) for one in (*chain, beside)} == {"Deprecated"}
    assert {status_of(registry, one) for one in (signature, unrelated, new)} == {"Approved"}


def test_what_a_document_was_added_to_stays(registry: Registry) -> None:
    """Replacing an addendum leaves the document it belongs to."""
    first = put(registry).ids["Document01"]
    addendum = put(registry, *replacing(first, kind=APND)).ids["Document01"]
    put(registry, *replacing(addendum))
    assert (status_of(registry, first), status_of(registry, addendum)) == ("Approved", "Deprecated")


def test_an_earlier_version_is_not_deprecated_again(registry: Registry) -> None:
    """RPLC is no dependency: the chain of versions does not bring down what replaced."""
    uuids = [put(registry).ids["Document01"]]
    for _ in range(3):
        uuids.append(put(registry, *replacing(uuids[-1])).ids["Document01"])
    assert [status_of(registry, one) for one in uuids] == ["Deprecated"] * 3 + ["Approved"]


def test_transformations_in_a_circle_come_to_an_end(registry: Registry) -> None:
    whole = submission(document(), document("Document02"), link(XFRM, "Document01", "Document02"),
                       link(XFRM, "Document02", "Document01"))
    ids = put_whole(registry, whole)
    put(registry, *replacing(ids["Document01"]))
    assert {status_of(registry, ids[name]) for name in ("Document01", "Document02")} == {"Deprecated"}


def test_another_patient_is_not_touched(registry: Registry) -> None:
    """The same uniqueIds elsewhere stay what they are."""
    entry = document(unique_id="1.2.3")
    elsewhere = put(registry, replace(entry, patient_id=OTHER), patient_id=OTHER).ids["Document01"]
    put(registry, *replacing(put(registry, entry).ids["Document01"]))
    assert status_of(registry, elsewhere) == "Approved"


# --- folders -------------------------------------------------------------------------------------------------------

NOON, LATER = "2026-03-01T12:00:00Z", "2026-03-01T12:00:07Z"


def filled(registry: Registry) -> dict[str, str]:
    return dict(put(registry, document(), folder(), holds("Folder01", "Document01")).ids)


def contents(registry: Registry, uuid: str) -> set[str]:
    return {one.id for one in ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=f"'{uuid}'").documents}


def updated(registry: Registry, uuid: str) -> str:
    (one,) = ask(registry, "GetFolders", XDSFolderEntryUUID=f"('{uuid}')").folders
    return one.last_update_time


def test_a_folder_follows_a_replacement(registry: Registry) -> None:
    """Plan 12327: the new document joins, by a HasMember that the new set holds."""
    there = filled(registry)
    ids = put(registry, *replacing(there["Document01"])).ids
    assert contents(registry, there["Folder01"]) == {there["Document01"], ids["Document01"]}
    first = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=f"'{there['Set01']}'")
    assert first.counts == (1, 1, 1, 4)
    told = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=f"'{there['Folder01']}'")
    assert told.counts == (0, 2, 1, 2)
    joined = next(one for one in told.associations if one.target == ids["Document01"])
    assert (joined.status, joined.version, joined.lid) == (APPROVED, "1", joined.id)
    (held,) = [one for one in ask(registry, "GetAssociations", uuid=f"('{ids['Set01']}')").associations
               if one.target == joined.id]
    assert (held.type, held.source, held.submission_set_status) == (HAS_MEMBER, ids["Set01"], "")


def test_every_folder_follows(registry: Registry) -> None:
    there = put(registry, document(), folder(), folder("Folder02"), folder("Folder03"),
                holds("Folder01", "Document01"), holds("Folder02", "Document01")).ids
    new = put(registry, *replacing(there["Document01"])).ids["Document01"]
    assert [new in contents(registry, there[name]) for name in ("Folder01", "Folder02", "Folder03")] == [
        True, True, False]


def test_a_folder_named_in_the_submission_gets_the_document_once(registry: Registry) -> None:
    there = filled(registry)
    new = put(registry, *replacing(there["Document01"]), holds(there["Folder01"], "Document01")).ids["Document01"]
    told = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=f"'{there['Folder01']}'")
    assert [one.target for one in told.associations].count(new) == 1


def test_a_document_twice_in_a_folder_is_followed_once(registry: Registry) -> None:
    there = filled(registry)
    put(registry, the_set(), holds(there["Folder01"], there["Document01"]))
    new = put(registry, *replacing(there["Document01"])).ids["Document01"]
    told = ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=f"'{there['Folder01']}'")
    assert [one.target for one in told.associations].count(new) == 1


def test_both_of_two_replacements_in_one_set_follow(registry: Registry) -> None:
    there = filled(registry)
    old = there["Document01"]
    ids = put(registry, document(), document("Document02"), link(RPLC, "Document01", old),
              link(RPLC, "Document02", old)).ids
    assert contents(registry, there["Folder01"]) == {old, ids["Document01"], ids["Document02"]}


def test_an_addendum_does_not_join(registry: Registry) -> None:
    there = filled(registry)
    put(registry, *replacing(there["Document01"], kind=APND))
    assert contents(registry, there["Folder01"]) == {there["Document01"]}


def test_last_update_time_of_a_new_folder(registry: Registry) -> None:
    """Plan 12323: whatever the source says; in UTC."""
    with time_machine.travel(NOON, tick=False):
        ids = put(registry, folder(), folder("Folder02", last_update_time="20990101")).ids
    assert [updated(registry, ids[name]) for name in ("Folder01", "Folder02")] == ["20260301120000"] * 2


@pytest.mark.parametrize("how", ["a new document", "an older document", "a replacement"])
def test_last_update_time_moves(registry: Registry, how: str) -> None:
    with time_machine.travel(NOON, tick=False):
        there, other = filled(registry), put(registry, folder()).ids["Folder01"]
    loose = put(registry).ids["Document01"]
    with time_machine.travel(LATER, tick=False):
        if how == "a new document":
            put(registry, document(), holds(there["Folder01"], "Document01"))
        elif how == "an older document":
            put(registry, the_set(), holds(there["Folder01"], loose))
        else:
            put(registry, *replacing(there["Document01"]))
    assert (updated(registry, there["Folder01"]), updated(registry, other)) == ("20260301120007", "20260301120000")


def test_an_addendum_does_not_move_the_time(registry: Registry) -> None:
    with time_machine.travel(NOON, tick=False):
        there = filled(registry)
    put(registry, *replacing(there["Document01"], kind=APND))
    assert updated(registry, there["Folder01"]) == "20260301120000"


def test_an_existing_document_into_an_existing_folder(registry: Registry) -> None:
    """Plan 12326."""
    loose, place = put(registry).ids["Document01"], put(registry, folder()).ids["Folder01"]
    put(registry, the_set(), holds(place, loose))
    assert contents(registry, place) == {loose}


# --- repeats -------------------------------------------------------------------------------------------------------


def test_a_repeat_is_answered_with_the_first_success(registry: Registry) -> None:
    whole = submission(document(), document("Document02"), folder(), holds("Folder01", "Document01"))
    first = register(registry, whole, accept_repeat=True)
    before = counts(registry)
    again = register(registry, whole, accept_repeat=True)
    assert (first.repeated, again.repeated) == (False, True)
    names = ("Set01", "Document01", "Document02")
    assert [again.ids[name] for name in names] == [first.ids[name] for name in names]
    assert counts(registry) == before
    (warning,) = again.findings
    assert (warning.code, warning.severity) == ("V-REG-SUBMISSION-REPEATED", Severity.WARNING)


def test_a_repeat_after_a_replacement(registry: Registry) -> None:
    """The document was replaced since; the late retry changes nothing back."""
    whole = submission()
    first = register(registry, whole, accept_repeat=True)
    put(registry, *replacing(first.ids["Document01"]))
    again = register(registry, whole, accept_repeat=True)
    assert again.ids["Document01"] == first.ids["Document01"]
    assert status_of(registry, first.ids["Document01"]) == "Deprecated"


def test_a_repeat_of_a_replacement(registry: Registry) -> None:
    """Not refused because its target is deprecated: by itself."""
    old = put(registry).ids["Document01"]
    whole = submission(*replacing(old))
    first = register(registry, whole, accept_repeat=True)
    again = register(registry, whole, accept_repeat=True)
    assert again.repeated
    assert again.ids["Document01"] == first.ids["Document01"]


def test_a_repeat_of_a_document_that_is_there_twice(registry: Registry) -> None:
    """The entry of this very set, not the other of the same uniqueId."""
    entry = document()
    put(registry, entry)
    whole = submission(entry)
    first = register(registry, whole, accept_repeat=True)
    again = register(registry, whole, accept_repeat=True)
    assert again.repeated
    assert again.ids["Document01"] == first.ids["Document01"]


CHANGES = {
    "a title": lambda entry: replace(entry, title=rim.localized("Autre", "fr")),
    "a language of a title": lambda entry: replace(entry, title=rim.localized("Lettre", "en")),
    "a code": lambda entry: replace(entry, class_code=code("12")),
    "an author": lambda entry: replace(entry, authors=()),
    "a new document": lambda entry: replace(entry, unique_id=fresh_oid()),
    "a time": lambda entry: replace(entry, creation_time="20250102030406"),
    "an extra slot": lambda entry: replace(entry, extra_slots=(rim.Slot("urn:x", ("1",)),)),
    "confidentiality": lambda entry: replace(entry, confidentiality=(code("R"),)),
}


def test_the_same_content_built_anew_is_a_repeat(registry: Registry) -> None:
    """The changes below are what makes the difference."""
    entry, one_set = document(), the_set()
    register(registry, submission(entry, one_set), accept_repeat=True)
    assert register(registry, submission(entry, one_set), accept_repeat=True).repeated


@pytest.mark.parametrize("change", CHANGES)
def test_a_repeat_with_other_content_is_refused(registry: Registry, change: str) -> None:
    entry, one_set = document(), the_set()
    register(registry, submission(entry, one_set), accept_repeat=True)
    before = counts(registry)
    with pytest.raises(Refused) as caught:
        register(registry, submission(CHANGES[change](entry), one_set), accept_repeat=True)
    assert shown(caught.value.findings) == [
        ("V-REG-UNIQUE-ID-USED", "SubmissionSet(Set01)/uniqueId", "XDSDuplicateUniqueIdInRegistry")]
    assert counts(registry) == before


def test_a_repeat_with_other_bytes_is_refused(registry: Registry) -> None:
    """Same metadata (a hash that nobody declared is the repository's), other documents."""
    entry, one_set = document(), the_set()
    one, other = (StoredDocument("k", 0, SHA1, bytes([number]) * 32) for number in (1, 2))
    register(registry, submission(entry, one_set), {"Document01": one}, accept_repeat=True)
    with pytest.raises(Refused):
        register(registry, submission(entry, one_set), {"Document01": other}, accept_repeat=True)
    assert register(registry, submission(entry, one_set), {"Document01": one}, accept_repeat=True).repeated


def test_a_repeat_for_another_patient_is_refused(registry: Registry) -> None:
    whole = submission(unique_id="1.2.3")
    register(registry, whole, accept_repeat=True)
    with pytest.raises(Refused):
        register(registry, submission(document(patient_id=OTHER), unique_id="1.2.3", patient_id=OTHER),
                 accept_repeat=True)


def test_plain_ihe_takes_no_repeat(registry: Registry) -> None:
    whole = submission()
    register(registry, whole)
    with pytest.raises(Refused) as caught:
        register(registry, whole)
    assert [finding.xds for finding in caught.value.findings] == ["XDSDuplicateUniqueIdInRegistry"]


# --- outbox --------------------------------------------------------------------------------------------------------


def told(registry: Registry) -> Iterator[dict[str, Any]]:
    with registry.database.read() as connection:
        for row in connection.execute(select(outbox).order_by(outbox.c.id)):
            yield {"kind": row.kind, **json.loads(row.payload)}


def test_the_outbox_tells_what_happened(registry: Registry) -> None:
    first = put(registry).ids
    addendum = put(registry, *replacing(first["Document01"], kind=APND)).ids
    second = put(registry, *replacing(first["Document01"])).ids
    events = list(told(registry))
    assert events[0] == {"kind": "submission", "set": first["Set01"], "deprecated": [],
                         "documents": [first["Document01"]], "folders": []}
    assert events[-1] == {
        "kind": "submission", "set": second["Set01"], "documents": [second["Document01"]], "folders": [],
        "deprecated": sorted([first["Document01"], addendum["Document01"]])}


# --- what the repository adds --------------------------------------------------------------------------------------


def test_with_documents() -> None:
    kept = StoredDocument("key", 7, "ab" * 20, b"\0" * 32)
    whole = submission(document(hash="", size="9", repository_unique_id="1.1"), document("Document02"))
    complete = with_documents(whole, {"Document01": kept}, "1.2.9")
    one, other = complete.documents
    assert (one.hash, one.size, one.repository_unique_id) == ("ab" * 20, "7", "1.2.9")
    assert other == whole.documents[1]
    assert replace(one, hash="", size="9", repository_unique_id="1.1") == whole.documents[0]
    assert complete.associations == whole.associations
    assert ebxml.to_submission(complete.objects) == complete


def test_what_was_kept_stands_in_the_row(registry: Registry) -> None:
    kept = StoredDocument("0123456789abcdef", 7, "ab" * 20, b"\1" * 32)
    complete = with_documents(submission(), {"Document01": kept}, "1.2.9")
    register(registry, complete, {"Document01": kept})
    with registry.database.read() as connection:
        row = connection.execute(select(document_table)).one()
    assert (row.storage_key, row.size, row.hash, row.sha256) == (kept.key, 7, kept.sha1, kept.sha256)
    assert row.repository_unique_id == "1.2.9"
    assert row.registered > 1_700_000_000_000
