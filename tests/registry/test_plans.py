"""The stored queries by IHE's own test plans: their data set (six documents, five sets, two folders) and their counts.

Numbers in docstrings and ids are those of the plans of the NIST toolkit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from registry import queries
from registry.register import Registry, register
from security.access import Gate
from tests.registry.conftest import open_registry
from tests.registry.samples import (
    BOTH,
    OTHER,
    PATIENT,
    SOURCE,
    Told,
    ask,
    code,
    document,
    find,
    folder,
    holds,
    link,
    listed,
    person,
    put,
    query,
    quoted,
    submission,
)
from xds.findings import Refused
from xds.model import Author
from xds.vocabulary import APND, APPROVED, DEPRECATED, HAS_MEMBER, IS_SNAPSHOT_OF, ON_DEMAND, RPLC, STABLE

S1, S2 = "1.2.3", "1.2.4"
COMMON = {"class_code": code("C"), "type_code": code("T"), "format_code": code("F"), "practice_setting": code("Q"),
          "facility_type": code("H"), "confidentiality": (code("N"),), "event_codes": (), "creation_time": "2020",
          "service_start": "2020", "service_stop": "2021"}


def fill(registry: Registry) -> SimpleNamespace:
    """D1 alone; D2 and D3 in F1; D4, replaced by D5; D6 in F2. entryUUIDs by name, uniqueIds by name in `oid`."""
    d1 = document("D1", **{**COMMON, "class_code": code("A"), "practice_setting": code("P"), "facility_type": code("X"),
                           "event_codes": (code("E1"),), "creation_time": "20240115", "service_start": "20240110",
                           "service_stop": "20240111"})
    d2 = document("D2", **{**COMMON, "class_code": code("B"), "practice_setting": code("P"),
                           "confidentiality": (code("R"), code("V")), "event_codes": (code("E2"), code("E3")),
                           "service_start": "20240120", "service_stop": "20240121"})
    d3 = document("D3", **{**COMMON, "class_code": code("B"), "practice_setting": code("P"), "format_code": code("G"),
                           "event_codes": (code("E2"),), "authors": (Author((person("DUPONT"),)),)})
    d4 = document("D4", **{**COMMON, "practice_setting": code("P", S2)})
    d5 = document("D5", **{**COMMON, "class_code": code("C", S2), "practice_setting": code("P", S2),
                           "facility_type": code("H", S2), "reference_ids": (
                               "A1^^^&1.2.3.4&ISO^urn:ihe:iti:xds:2013:accession",)})
    d6 = document("D6", **{**COMMON, "class_code": code("C", S2), "type_code": code("U"), "format_code": code("G"),
                           "facility_type": code("H", S2), "confidentiality": (code("R"),)})
    f1, f2 = folder("F1"), folder("F2")
    uuids = {**{f"S{n}": "" for n in range(1, 6)}}
    for number, parts in enumerate(((d1,), (d2, d3, f1, holds("F1", "D2"), holds("F1", "D3")), (d4,)), 1):
        ids = put(registry, *parts, content_type=code("04")).ids
        uuids |= {**ids, f"S{number}": ids["Set01"]}
    ids = put(registry, d5, link(RPLC, "D5", uuids["D4"])).ids
    uuids |= {**ids, "S4": ids["Set01"]}
    ids = put(registry, d6, f2, holds("F2", "D6")).ids
    uuids |= {**ids, "S5": ids["Set01"]}
    oids = {entry.id: entry.unique_id for entry in (d1, d2, d3, d4, d5, d6, f1, f2)}
    return SimpleNamespace(**uuids, oid=SimpleNamespace(**oids))


@pytest.fixture(scope="module")
def filled(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, SimpleNamespace]]:
    """Read only: filled once for all tests of this module."""
    path = tmp_path_factory.mktemp("plans") / "volet.db"
    path.write_bytes(migrated.read_bytes())
    registry = open_registry(path)
    yield registry, fill(registry)
    registry.database.close()


@pytest.fixture
def registry(filled: tuple[Registry, SimpleNamespace]) -> Registry:
    return filled[0]


@pytest.fixture
def ids(filled: tuple[Registry, SimpleNamespace]) -> SimpleNamespace:
    return filled[1]


def refusal(registry: Registry, name: str, returns: str = "LeafClass", **parameters: str | list[str]) -> list[str]:
    """XDS codes of a refused query."""
    with pytest.raises(Refused) as caught:
        queries.run(registry, query(name, parameters, returns), lambda _reader, _patient: Gate())
    return [finding.xds for finding in caught.value.findings]


# --- 11897 FindDocuments -------------------------------------------------------------------------------------------

FIND_DOCUMENTS = [
    ("approved", {"status": listed(APPROVED)}, "D1 D2 D3 D5 D6"),
    ("leafclass", {}, "D1 D2 D3 D4 D5 D6"),
    ("deprecated", {"status": listed(DEPRECATED)}, "D4"),
    ("classcode_one", {"ClassCode": "('A^^1.2.3')"}, "D1"),
    ("classcode_two", {"ClassCode": "('A^^1.2.3','B^^1.2.3')"}, "D1 D2 D3"),
    ("classcode_scheme_2", {"ClassCode": "('C^^1.2.4')"}, "D5 D6"),
    ("practicesetting", {"PracticeSettingCode": "('P^^1.2.3')"}, "D1 D2 D3"),
    ("practicesetting_scheme", {"PracticeSettingCode": "('P^^1.2.4')"}, "D4 D5"),
    ("classcode_practicesetting", {"PracticeSettingCode": "('P^^1.2.3')", "ClassCode": "('A^^1.2.3')"}, "D1"),
    ("creationtime_between", {"CreationTimeFrom": "20240101", "CreationTimeTo": "20240201"}, "D1"),
    ("creationtime_between_long", {"CreationTimeFrom": "20240101000000", "CreationTimeTo": "20240201000000"}, "D1"),
    ("creationtime_left_edge", {"CreationTimeFrom": "20240115", "CreationTimeTo": "20240201"}, "D1"),
    ("creationtime_right_edge", {"CreationTimeFrom": "20240101", "CreationTimeTo": "20240115"}, ""),
    ("creationtime_practicesetting", {"CreationTimeFrom": "20240101", "CreationTimeTo": "20240201",
                                      "PracticeSettingCode": "('P^^1.2.3')"}, "D1"),
    ("servicestarttime", {"ServiceStartTimeFrom": "2024", "ServiceStartTimeTo": "2025"}, "D1 D2"),
    ("servicestoptime", {"ServiceStopTimeFrom": "2024", "ServiceStopTimeTo": "2025"}, "D1 D2"),
    ("hcftc", {"HealthcareFacilityTypeCode": "('H^^1.2.3')"}, "D2 D3 D4"),
    ("hcftc_scheme", {"HealthcareFacilityTypeCode": "('H^^1.2.4')"}, "D5 D6"),
    ("eventcode", {"EventCodeList": "('E1^^1.2.3')"}, "D1"),
    ("eventcode_multi_select", {"EventCodeList": ["('E1^^1.2.3','E2^^1.2.3')", "('E3^^1.2.3')"]}, "D2"),
    ("and", {"EventCodeList": ["('E2^^1.2.3')", "('E3^^1.2.3')"]}, "D2"),
    ("confcode", {"ConfidentialityCode": "('R^^1.2.3')"}, "D2 D6"),
    ("formatcode", {"FormatCode": "('F^^1.2.3')"}, "D1 D2 D4 D5"),
    ("typecode", {"TypeCode": "('T^^1.2.3')"}, "D1 D2 D3 D4 D5"),
    ("author", {"AuthorPerson": "('%DUPONT%')"}, "D3"),
]


@pytest.mark.parametrize("returns", ["ObjectRef", "LeafClass"])
@pytest.mark.parametrize(("filters", "expected"), [row[1:] for row in FIND_DOCUMENTS],
                         ids=[row[0] for row in FIND_DOCUMENTS])
def test_11897(registry: Registry, ids: SimpleNamespace, returns: str, filters: dict[str, str], expected: str) -> None:
    told = find(registry, returns, **filters)
    assert set(told.refs) | told.uuids == {getattr(ids, name) for name in expected.split()}
    assert (len(told.refs), len(told.objects)) == ((len(expected.split()), 0)[::1 if returns == "ObjectRef" else -1])


def test_11897_refid(registry: Registry, ids: SimpleNamespace) -> None:
    told = ask(registry, "FindDocumentsByReferenceId", "ObjectRef", XDSDocumentEntryPatientId=quoted(PATIENT),
               XDSDocumentEntryStatus=BOTH, XDSDocumentEntryReferenceIdList="('A1^^^&1.2.3.4&ISO^%')")
    assert told.refs == [ids.D5]


@pytest.mark.parametrize("text", ["('A^^')", "('A')", "('A^^1.2.3^')"])
def test_11897_classcode_scheme_mismatch(registry: Registry, text: str) -> None:
    assert refusal(registry, "FindDocuments", XDSDocumentEntryPatientId=quoted(PATIENT), XDSDocumentEntryStatus=BOTH,
                   XDSDocumentEntryClassCode=text) == ["XDSRegistryError"]


def test_11897_old_scheme(registry: Registry) -> None:
    assert refusal(registry, "FindDocuments", XDSDocumentEntryPatientId=quoted(PATIENT), XDSDocumentEntryStatus=BOTH,
                   XDSDocumentEntryPracticeSettingCode="('P^^1.2.3')",
                   XDSDocumentEntryPracticeSettingCodeScheme="('1.2.3')") == ["XDSRegistryError"]


# --- 11898 FindSubmissionSets, 11899 FindFolders -------------------------------------------------------------------

FIND_SETS = [
    ("simple", {}, 5), ("sourceid", {"SourceId": listed(SOURCE)}, 5), ("other_sourceid", {"SourceId": "('1.9')"}, 0),
    ("submissiontime_in", {"SubmissionTimeFrom": "20250101", "SubmissionTimeTo": "2026"}, 5),
    ("submissiontime_out", {"SubmissionTimeFrom": "2026", "SubmissionTimeTo": "2027"}, 0),
    ("submissiontime_no_start", {"SubmissionTimeTo": "2026"}, 5),
    ("submissiontime_no_end", {"SubmissionTimeFrom": "2025"}, 5),
    ("author_all", {"AuthorPerson": "'%EXEMPLE%'"}, 5), ("author_none", {"AuthorPerson": "'%ABSENT%'"}, 0),
    ("contenttype_all", {"ContentType": "('04^^1.2.3')"}, 5), ("contenttype_none", {"ContentType": "('05^^1.2.3')"}, 0),
]


@pytest.mark.parametrize(("filters", "expected"), [row[1:] for row in FIND_SETS], ids=[row[0] for row in FIND_SETS])
def test_11898(registry: Registry, filters: dict[str, str], expected: int) -> None:
    told = ask(registry, "FindSubmissionSets", XDSSubmissionSetPatientId=quoted(PATIENT),
               XDSSubmissionSetStatus=listed(APPROVED), **{f"XDSSubmissionSet{k}": v for k, v in filters.items()})
    assert told.counts == (expected, 0, 0, 0)


@pytest.mark.parametrize(("filters", "expected"), [
    ({}, 2), ({"LastUpdateTimeFrom": "2020", "LastUpdateTimeTo": "2100"}, 2),
    ({"LastUpdateTimeFrom": "2010", "LastUpdateTimeTo": "2020"}, 0), ({"CodeList": "('SUIVI^^1.2.3')"}, 2),
    ({"CodeList": ["('SUIVI^^1.2.3')", "('AUTRE^^1.2.3')"]}, 0), ({"CodeList": "('SUIVI^^1.2.3','AUTRE^^1.2.3')"}, 2),
], ids=["basic", "in_updatetime", "out_updatetime", "codelist", "codelist and", "codelist or"])
def test_11899(registry: Registry, filters: dict[str, str], expected: int) -> None:
    told = ask(registry, "FindFolders", XDSFolderPatientId=quoted(PATIENT), XDSFolderStatus=listed(APPROVED),
               **{f"XDSFolder{name}": value for name, value in filters.items()})
    assert told.counts == (0, 0, expected, 0)


# --- 11901 to 11904: by identifier ---------------------------------------------------------------------------------


def by_uuid(registry: Registry, name: str, *uuids: str, prefix: str = "XDSDocumentEntry") -> Told:
    return ask(registry, name, **{f"{prefix}EntryUUID": listed(*uuids)})


def by_unique_id(registry: Registry, name: str, *oids: str, prefix: str = "XDSDocumentEntry") -> Told:
    return ask(registry, name, **{f"{prefix}UniqueId": listed(*oids)})


def test_11901(registry: Registry, ids: SimpleNamespace) -> None:
    assert by_unique_id(registry, "GetDocuments", ids.oid.D1).uuids == {ids.D1}
    assert by_unique_id(registry, "GetDocuments", ids.oid.D1, ids.oid.D4).uuids == {ids.D1, ids.D4}
    assert by_uuid(registry, "GetDocuments", ids.D1).counts == (0, 1, 0, 0)
    assert by_uuid(registry, "GetDocuments", ids.D1, ids.D2).uuids == {ids.D1, ids.D2}


def test_11902(registry: Registry, ids: SimpleNamespace) -> None:
    told = by_uuid(registry, "GetFolders", ids.F1, ids.F2, prefix="XDSFolder")
    assert told.counts == (0, 0, 2, 0)
    assert {one.status for one in told.folders} == {APPROVED}
    assert by_unique_id(registry, "GetFolders", ids.oid.F1, ids.oid.F2, prefix="XDSFolder").uuids == told.uuids


@pytest.mark.parametrize(("names", "expected"), [("D1", 1), ("D2", 2), ("S5", 3), ("D2 D3", 4)],
                         ids=["single_from_doc", "multiple_assoc_from_doc", "multiple_assoc_from_ss", "multiple_doc"])
def test_11903(registry: Registry, ids: SimpleNamespace, names: str, expected: int) -> None:
    told = ask(registry, "GetAssociations", uuid=listed(*(getattr(ids, name) for name in names.split())))
    assert told.counts == (0, 0, 0, expected)


@pytest.mark.parametrize(("names", "documents", "associations"), [("D1", 1, 1), ("D1 D2", 2, 3)])
def test_11904(registry: Registry, ids: SimpleNamespace, names: str, documents: int, associations: int) -> None:
    uuids, oids = ([getattr(of, name) for name in names.split()] for of in (ids, ids.oid))
    told = by_uuid(registry, "GetDocumentsAndAssociations", *uuids)
    assert told.counts == (0, documents, 0, associations)
    assert by_unique_id(registry, "GetDocumentsAndAssociations", *oids).uuids == told.uuids


# --- 11905 to 11909: sets, folders, relations ----------------------------------------------------------------------


@pytest.mark.parametrize(("names", "sets", "associations"), [
    ("D1", "S1", 1), ("D1 D4", "S1 S3", 2), ("D2 D3", "S2", 2), ("F1", "S2", 1), ("S1", "", 0)])
def test_11905(registry: Registry, ids: SimpleNamespace, names: str, sets: str, associations: int) -> None:
    uuids = [getattr(ids, name) for name in names.split()]
    told = ask(registry, "GetSubmissionSets", uuid=listed(*uuids))
    assert {one.id for one in told.sets} == {getattr(ids, name) for name in sets.split()}
    assert len(told.associations) == associations
    assert {one.target for one in told.associations} <= set(uuids)
    assert {one.type for one in told.associations} <= {HAS_MEMBER}


def set_and_contents(registry: Registry, uuid: str, returns: str = "LeafClass", **filters: str) -> Told:
    return ask(registry, "GetSubmissionSetAndContents", returns, XDSSubmissionSetEntryUUID=quoted(uuid), **filters)


def test_11906(registry: Registry, ids: SimpleNamespace) -> None:
    assert set_and_contents(registry, ids.S1).counts == (1, 1, 0, 1)
    assert set_and_contents(registry, ids.S2).counts == (1, 2, 1, 7)
    assert len(set_and_contents(registry, ids.S1, "ObjectRef").refs) == 3
    (one_set,) = set_and_contents(registry, ids.S1).sets
    told = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetUniqueId=quoted(one_set.unique_id))
    assert told.uuids == set_and_contents(registry, ids.S1).uuids


@pytest.mark.parametrize("filters", [{"XDSDocumentEntryFormatCode": "('F^^1.2.3')"},
                                     {"XDSDocumentEntryConfidentialityCode": "('R^^1.2.3')"},
                                     {"XDSDocumentEntryConfidentialityCode": ["('R^^1.2.3')", "('V^^1.2.3')"]}])
def test_11906_filters(registry: Registry, ids: SimpleNamespace, filters: dict[str, str]) -> None:
    """SSwithOneDocOneFol: the other document goes, and with it every association that leads to it."""
    told = set_and_contents(registry, ids.S2, **filters)
    assert told.counts == (1, 1, 1, 4)
    assert {one.id for one in told.documents} == {ids.D2}
    assert {end for one in told.associations for end in (one.source, one.target)} <= told.uuids


def folder_and_contents(registry: Registry, uuid: str, **filters: str) -> Told:
    return ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(uuid), **filters)


def test_11907(registry: Registry, ids: SimpleNamespace) -> None:
    assert folder_and_contents(registry, ids.F2).counts == (0, 1, 1, 1)
    told = ask(registry, "GetFolderAndContents", XDSFolderUniqueId=quoted(ids.oid.F2))
    assert told.uuids == folder_and_contents(registry, ids.F2).uuids
    both = "('R^^1.2.3','N^^1.2.3')"
    assert folder_and_contents(registry, ids.F1).counts == (0, 2, 1, 2)
    assert folder_and_contents(registry, ids.F1, XDSDocumentEntryConfidentialityCode=both).counts == (0, 2, 1, 2)
    for filters in ({"XDSDocumentEntryConfidentialityCode": "('R^^1.2.3')"},
                    {"XDSDocumentEntryFormatCode": "('F^^1.2.3')"}):
        assert folder_and_contents(registry, ids.F1, **filters).counts == (0, 1, 1, 1)


def test_11908(registry: Registry, ids: SimpleNamespace) -> None:
    told = ask(registry, "GetFoldersForDocument", XDSDocumentEntryEntryUUID=quoted(ids.D2))
    assert (told.counts, told.uuids) == ((0, 0, 1, 0), {ids.F1})
    assert ask(registry, "GetFoldersForDocument", XDSDocumentEntryUniqueId=quoted(ids.oid.D2)).uuids == {ids.F1}
    assert ask(registry, "GetFoldersForDocument", XDSDocumentEntryEntryUUID=quoted(ids.D1)).counts == (0, 0, 0, 0)


NOWHERE = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"


def related(registry: Registry, uuid: str, *kinds: str, **more: str) -> Told:
    return ask(registry, "GetRelatedDocuments", XDSDocumentEntryEntryUUID=quoted(uuid), AssociationTypes=listed(*kinds),
               **more)


def test_11909(registry: Registry, ids: SimpleNamespace) -> None:
    assert related(registry, NOWHERE, RPLC).counts == (0, 0, 0, 0)  # no_initial_doc
    assert related(registry, ids.D1, RPLC).counts == (0, 0, 0, 0)  # uuid_no_related
    assert related(registry, ids.D5, APND).counts == (0, 0, 0, 0)  # related, but not by that type
    assert related(registry, ids.D2, HAS_MEMBER).counts == (0, 0, 0, 0)  # near_folder
    for uuid in (ids.D4, ids.D5):
        told = related(registry, uuid, RPLC, APND)
        assert (told.counts, {one.id for one in told.documents}) == ((0, 2, 0, 1), {ids.D4, ids.D5})
    told = ask(registry, "GetRelatedDocuments", XDSDocumentEntryUniqueId=quoted(ids.oid.D5),
               AssociationTypes=listed(RPLC))
    assert told.counts == (0, 2, 0, 1)


# --- 15803 GetAll, 15805 on-demand, 12368 --------------------------------------------------------------------------


def everything(registry: Registry, **more: str) -> Told:
    return ask(registry, "GetAll", patientId=quoted(PATIENT), XDSDocumentEntryStatus=BOTH, XDSSubmissionSetStatus=BOTH,
               XDSFolderStatus=BOTH, **more)


def test_15803(registry: Registry) -> None:
    assert everything(registry).counts == (5, 6, 2, 15)
    assert everything(registry, XDSDocumentEntryType=listed(STABLE)).counts == (5, 6, 2, 15)


def test_15803_filters(registry: Registry, ids: SimpleNamespace) -> None:
    """Documents that a filter drops take their associations along: D3's four, D6's three of its four."""
    told = everything(registry, XDSDocumentEntryFormatCode="('F^^1.2.3')")
    assert {one.id for one in told.documents} == {ids.D1, ids.D2, ids.D4, ids.D5}
    assert told.counts == (5, 4, 2, 15 - 3 - 3)
    assert {end for one in told.associations for end in (one.source, one.target)} <= told.uuids
    told = ask(registry, "GetAll", patientId=quoted(PATIENT), XDSDocumentEntryStatus=listed(DEPRECATED),
               XDSSubmissionSetStatus=BOTH, XDSFolderStatus=BOTH)
    assert told.counts == (5, 1, 2, 1 + 2)


def test_15805(database_file: Path) -> None:
    """Stable entries unless others are asked for; a snapshot is related to its source."""
    registry = open_registry(database_file)
    living = register(registry, submission(document(object_type=ON_DEMAND, creation_time="", hash="", size="",
                                                    legal_authenticator=""))).ids
    snapshot = put(registry, document(), link(IS_SNAPSHOT_OF, "Document01", living["Document01"])).ids["Document01"]
    for types, expected in (({}, {snapshot}), ({"Type": listed(STABLE)}, {snapshot}),
                            ({"Type": listed(ON_DEMAND)}, {living["Document01"]}),
                            ({"Type": listed(ON_DEMAND, STABLE)}, {snapshot, living["Document01"]})):
        assert find(registry, CreationTimeFrom="2025", **types).uuids == expected, "creationTime is not asked of them"
        asked = {f"XDSDocumentEntry{name}": value for name, value in types.items()}
        assert {one.id for one in everything(registry, **asked).documents} == expected
        in_set = set_and_contents(registry, living["Set01"], **asked)
        assert {one.id for one in in_set.documents} == expected - {snapshot}
    both = listed(STABLE, ON_DEMAND)
    assert related(registry, snapshot, IS_SNAPSHOT_OF, XDSDocumentEntryType=both).counts == (0, 2, 0, 1)
    assert related(registry, snapshot, IS_SNAPSHOT_OF).counts == (0, 0, 0, 0)
    assert by_uuid(registry, "GetDocuments", living["Document01"]).documents[0].object_type == ON_DEMAND
    registry.database.close()


def test_12368(database_file: Path) -> None:
    registry = open_registry(database_file)
    mine = put(registry, document(), folder()).ids
    theirs = put(registry, document(patient_id=OTHER), folder(patient_id=OTHER), patient_id=OTHER).ids
    documents, folders = (listed(mine[name], theirs[name]) for name in ("Document01", "Folder01"))
    for name, parameters, count in (
            ("GetDocuments", {"XDSDocumentEntryEntryUUID": documents}, 2),
            ("GetSubmissionSets", {"uuid": documents}, 4),
            ("GetFolders", {"XDSFolderEntryUUID": folders}, 2),
            ("GetDocumentsAndAssociations", {"XDSDocumentEntryEntryUUID": documents}, 4),
            ("GetAssociations", {"uuid": documents}, 2)):
        assert refusal(registry, name, **parameters) == ["XDSResultNotSinglePatient"]
        assert len(ask(registry, name, "ObjectRef", **parameters).refs) == count
    registry.database.close()
