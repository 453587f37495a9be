"""Restricted Update Document Set (ITI-92): what may change, what may not, and that it is about documents only."""

from __future__ import annotations

from typing import Any

import pytest

from registry.register import Registry
from tests.registry.changes import (
    SET,
    again,
    doc,
    ends,
    events,
    findings,
    fold,
    instead,
    linked,
    one_entry,
    one_filed,
    refusal,
    restate,
    restated,
    send,
    version,
    versions,
)
from tests.registry.samples import OTHER, PATIENT, code, document, find, link, put, replacing
from xds.model import DocumentEntry
from xds.rim import localized
from xds.vocabulary import APND, APPROVED, DEPRECATED, HAS_MEMBER, OFFLINE, ON_DEMAND, ONLINE, RPLC

RESTRICTED = "ITI-92"
#: What makes an entry one on demand, for the rules of its kind
LIVING = {"object_type": ON_DEMAND, "creation_time": "", "hash": "", "size": "", "legal_authenticator": ""}


@pytest.fixture
def entry(registry: Registry) -> DocumentEntry:
    return one_entry(registry)


def test_a_new_version(registry: Registry, entry: DocumentEntry) -> None:
    new = version(registry, entry, transaction=RESTRICTED, confidentiality=(code("R"),))
    assert (new.lid, new.version, new.status, new.confidentiality) == (entry.lid, "2", APPROVED, (code("R"),))
    assert doc(registry, entry.id).status == DEPRECATED
    assert [one.id for one in find(registry).documents] == [new.id]


def test_both_ways_continue_one_history(registry: Registry, entry: DocumentEntry) -> None:
    for number, transaction in enumerate((RESTRICTED, "ITI-57", RESTRICTED), start=1):
        version(registry, entry, str(number), transaction=transaction)
    assert [number for number, _, _ in versions(registry, entry.lid)] == ["1", "2", "3", "4"]


def test_what_is_deprecated_stays_so(registry: Registry, entry: DocumentEntry) -> None:
    """Plan 12319, and once more; by hand as by replacement. Only the newest version is brought back into force."""
    restate(registry, entry.id)
    for number in "12":
        version(registry, entry, number, transaction=RESTRICTED, title=localized(f"Version {number}"))
    told = versions(registry, entry.lid)
    assert [status for _, _, status in told] == ["Deprecated"] * 3
    restate(registry, told[-1][1], DEPRECATED)
    assert [status for _, _, status in versions(registry, entry.lid)] == ["Deprecated", "Deprecated", "Approved"]


def test_what_was_replaced_keeps_its_replacement(registry: Registry, entry: DocumentEntry) -> None:
    newer = put(registry, *replacing(entry.id)).ids["Document01"]
    new = version(registry, entry, transaction=RESTRICTED)
    assert new.status == DEPRECATED
    assert ends(registry, new.id, RPLC) == {(newer, new.id)}


@pytest.mark.parametrize(("changes", "name", "code_", "xds"), [
    ({"source_patient_id": "X^^^&1.2&ISO"}, "sourcePatientId", "V-UPD-UNMODIFIABLE", "UnmodifiableMetadataError"),
    ({"repository_unique_id": "1.2.3"}, "repositoryUniqueId", "V-UPD-UNMODIFIABLE", "UnmodifiableMetadataError"),
    ({"availability": OFFLINE}, "documentAvailability", "V-UPD-UNMODIFIABLE", "UnmodifiableMetadataError"),
    ({"unique_id": "1.2.3.4.99"}, "uniqueId", "V-UPD-IDENTITY", "XDSMetadataIdentifierError"),
    (LIVING, "objectType", "V-UPD-IDENTITY", "UnmodifiableMetadataError"),
    ({"patient_id": OTHER}, "patientId", "V-UPD-UNMODIFIABLE", "XDSPatientIDReconciliationError")])
def test_what_may_not_change(registry: Registry, entry: DocumentEntry, changes: dict[str, Any], name: str, code_: str,
                             xds: str) -> None:
    new = again(entry, **changes)
    told = refusal(registry, new, instead(new), transaction=RESTRICTED, patient_id=new.patient_id)
    assert told == [(code_, f"DocumentEntry({new.id})/{name}", xds)]


def test_what_it_was_and_what_it_would_be(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry, repository_unique_id="1.2.3", patient_id=OTHER)
    told = findings(registry, new, instead(new), transaction=RESTRICTED, patient_id=OTHER)
    assert {(one.expected, one.received) for one in told} == {(entry.repository_unique_id, "1.2.3"), (PATIENT, OTHER)}


def test_online_is_what_it_is_without_saying(registry: Registry, entry: DocumentEntry) -> None:
    said = version(registry, entry, transaction=RESTRICTED, availability=ONLINE)
    assert said.availability == ONLINE
    assert version(registry, entry, "2", transaction=RESTRICTED).availability == ""


def test_the_same_patient_otherwise_written(registry: Registry, entry: DocumentEntry) -> None:
    assert version(registry, entry, transaction=RESTRICTED, patient_id=PATIENT.removesuffix("^NH")).version == "2"


@pytest.mark.parametrize(("lid", "previous", "expected"), [
    ("", "1", [("V-UPD-FIRST-VERSION", "XDSInvalidRequestException")]),
    ("same", "1", [("V-UPD-FIRST-VERSION", "XDSInvalidRequestException")]),
    ("right", "", [("V-UPD-PREVIOUS-MISSING", "XDSMetadataAnnotationError")]),
    ("right", "2", [("V-UPD-VERSION-STALE", "XDSMetadataVersionError")]),
    ("", "", [("V-UPD-FIRST-VERSION", "XDSInvalidRequestException"),
              ("V-UPD-PREVIOUS-MISSING", "XDSMetadataAnnotationError")])])
def test_what_makes_it_an_update(registry: Registry, entry: DocumentEntry, lid: str, previous: str,
                                 expected: list[tuple[str, str]]) -> None:
    lids = {"": "", "same": "Document01", "right": entry.lid}
    new = again(entry, "Document01", lid=lids[lid])
    told = refusal(registry, new, instead(new, previous), transaction=RESTRICTED)
    assert [finding[::2] for finding in told] == expected


def test_one_update_an_object_and_a_request(registry: Registry, entry: DocumentEntry) -> None:
    """Plan 40007."""
    one, two = again(entry), again(entry)
    assert refusal(registry, one, two, instead(one), instead(two), transaction=RESTRICTED) == [
        ("V-UPD-TWICE", f"DocumentEntry({two.id})/lid", "XDSMetadataUpdateError")]


def test_documents_only(registry: Registry, entry: DocumentEntry) -> None:
    """Each part of another operation is named; the update beside it does not happen either."""
    filed = one_filed(registry)
    new, place, added = again(entry), again(fold(registry, filed["F"])), link(APND, entry.id, filed["D"], "Added")
    of_folder, operation, status = instead(place), linked(added), restated(filed["D"], APPROVED)
    told = refusal(registry, new, instead(new), place, of_folder, added, operation, status, document("Stray"),
                   transaction=RESTRICTED)
    assert {(code_, xds) for code_, _, xds in told} == {("V-UPD-RESTRICTED-CONTENT", "XDSMetadataAnnotationError")}
    assert {path for _, path, _ in told} == {
        f"Folder({place.id})", f"Association({of_folder.id})", "Association(Added)", f"Association({operation.id})",
        f"Association({status.id})", "DocumentEntry(Stray)"}


def test_relationships_go_over_unless_told_otherwise(registry: Registry) -> None:
    filed = one_filed(registry)
    for number, (said, there) in enumerate((("", True), ("yes", True), ("no", False)), start=1):
        new = version(registry, doc(registry, filed["D"]), str(number), transaction=RESTRICTED,
                      slots={"AssociationPropagation": said}).id
        assert (ends(registry, new, APND) == {(filed["A"], new)}) is there
        assert ((filed["F"], new) in ends(registry, new, HAS_MEMBER)) is there


def test_several_documents(registry: Registry, entry: DocumentEntry) -> None:
    other = one_entry(registry)
    parts = [again(entry), again(other)]
    made = send(registry, *parts, *map(instead, parts), transaction=RESTRICTED)
    assert [doc(registry, made[part.id]).lid for part in parts] == [entry.lid, other.lid]
    (_, payload), = events(registry, "update")
    assert (payload["set"], payload["superseded"]) == (made[SET], [entry.id, other.id])


def test_all_findings_at_once(registry: Registry, entry: DocumentEntry) -> None:
    new = again(entry, unique_id="1.2.3.4.99", source_patient_id="X^^^&1.2&ISO", availability=OFFLINE)
    told = refusal(registry, new, instead(new, "3", AssociationPropagation="maybe"), transaction=RESTRICTED)
    assert [(code_, path.rpartition("/")[2]) for code_, path, _ in told] == [
        ("V-UPD-VERSION-STALE", "PreviousVersion"), ("V-UPD-PROPAGATION", "AssociationPropagation"),
        ("V-UPD-IDENTITY", "uniqueId"), ("V-UPD-UNMODIFIABLE", "sourcePatientId"),
        ("V-UPD-UNMODIFIABLE", "documentAvailability")]
