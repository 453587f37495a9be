"""Stored queries at their edges: syntax of parameters, what is missing or too many, times, patterns, limits."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import patients, queries
from registry.patients import Traits
from registry.query_values import BY_ID, MAX_PATTERNS, MAX_VALUES, parse
from registry.register import Registry
from security.access import Gate
from tests.registry.samples import (
    BOTH,
    DOMAIN,
    OTHER,
    PATIENT,
    STRANGER,
    Told,
    ask,
    code,
    document,
    find,
    folder,
    get,
    holds,
    listed,
    person,
    put,
    query,
    quoted,
    replacing,
)
from tests.registry.test_plans import refusal
from xds.findings import Finding, Refused
from xds.messages import AdhocQuery
from xds.model import Author
from xds.rim import Slot
from xds.vocabulary import APPROVED, DEPRECATED, ON_DEMAND, RPLC

UUID = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"
PREFIX = "XDSDocumentEntry"
MISSING, NUMBER, SYNTAX = "XDSStoredQueryMissingParam", "XDSStoredQueryParamNumber", "XDSRegistryError"


# --- the table of parameters against the framework's ---------------------------------------------------------------

CODED = "ClassCode TypeCode PracticeSettingCode HealthcareFacilityTypeCode FormatCode"
TIMES = "CreationTimeFrom CreationTimeTo ServiceStartTimeFrom ServiceStartTimeTo ServiceStopTimeFrom ServiceStopTimeTo"
#: name: id, and parameters as ITI TF-2 §3.18.4.1.2.3.7 lists them: R required, M several values, A and.
FRAMEWORK: dict[str, tuple[str, dict[str, str]]] = {
    "FindDocuments": ("14d4debf-8f97-4251-9a74-a90016b0af0d", {
        "XDSDocumentEntryPatientId": "R", "XDSDocumentEntryStatus": "RM",
        **{f"{PREFIX}{name}": "M" for name in CODED.split()}, **{f"{PREFIX}{name}": "" for name in TIMES.split()},
        "XDSDocumentEntryEventCodeList": "MA", "XDSDocumentEntryConfidentialityCode": "MA",
        "XDSDocumentEntryAuthorPerson": "M", "XDSDocumentEntryType": "M"}),
    "FindSubmissionSets": ("f26abbcb-ac74-4422-8a30-edb644bbc1a9", {
        "XDSSubmissionSetPatientId": "R", "XDSSubmissionSetStatus": "RM", "XDSSubmissionSetSourceId": "M",
        "XDSSubmissionSetSubmissionTimeFrom": "", "XDSSubmissionSetSubmissionTimeTo": "",
        "XDSSubmissionSetAuthorPerson": "", "XDSSubmissionSetContentType": "M"}),
    "FindFolders": ("958f3006-baad-4929-a4de-ff1114824431", {
        "XDSFolderPatientId": "R", "XDSFolderStatus": "RM", "XDSFolderLastUpdateTimeFrom": "",
        "XDSFolderLastUpdateTimeTo": "", "XDSFolderCodeList": "MA"}),
    "GetAll": ("10b545ea-725c-446d-9b95-8aeb444eddf3", {
        "patientId": "R", "XDSDocumentEntryStatus": "RM", "XDSSubmissionSetStatus": "RM", "XDSFolderStatus": "RM",
        "XDSDocumentEntryFormatCode": "M", "XDSDocumentEntryConfidentialityCode": "MA", "XDSDocumentEntryType": "M"}),
    "GetDocuments": ("5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4", {
        "XDSDocumentEntryEntryUUID": "M", "XDSDocumentEntryUniqueId": "M"}),
    "GetFolders": ("5737b14c-8a1a-4539-b659-e03a34a5e1e4", {"XDSFolderEntryUUID": "M", "XDSFolderUniqueId": "M"}),
    "GetAssociations": ("a7ae438b-4bc2-4642-93e9-be891f7bb155", {"uuid": "RM"}),
    "GetDocumentsAndAssociations": ("bab9529a-4a10-40b3-a01f-f68a615d247a", {
        "XDSDocumentEntryEntryUUID": "M", "XDSDocumentEntryUniqueId": "M"}),
    "GetSubmissionSets": ("51224314-5390-4169-9b91-b1980040715a", {"uuid": "RM"}),
    "GetSubmissionSetAndContents": ("e8e3cb2c-e39c-46b9-99e4-c12f57260b83", {
        "XDSSubmissionSetEntryUUID": "", "XDSSubmissionSetUniqueId": "", "XDSDocumentEntryFormatCode": "M",
        "XDSDocumentEntryConfidentialityCode": "MA", "XDSDocumentEntryType": "M"}),
    "GetFolderAndContents": ("b909a503-523d-4517-8acf-8e5834dfc4c7", {
        "XDSFolderEntryUUID": "", "XDSFolderUniqueId": "", "XDSDocumentEntryFormatCode": "M",
        "XDSDocumentEntryConfidentialityCode": "MA", "XDSDocumentEntryType": "M"}),
    "GetFoldersForDocument": ("10cae35a-c7f9-4cf5-b61e-fc3278ffb578", {
        "XDSDocumentEntryEntryUUID": "", "XDSDocumentEntryUniqueId": ""}),
    "GetRelatedDocuments": ("d90e5407-b356-4d91-a89f-873917b4b0e6", {
        "XDSDocumentEntryEntryUUID": "", "XDSDocumentEntryUniqueId": "", "AssociationTypes": "RM",
        "XDSDocumentEntryType": "M"}),
}
FRAMEWORK["FindDocumentsByReferenceId"] = ("12941a89-e02e-4be5-967c-ce4bfc8fe492", {
    **FRAMEWORK["FindDocuments"][1], "XDSDocumentEntryReferenceIdList": "RMA"})


#: What the metadata update option adds
UPDATE_OPTION = re.compile("MetadataLevel|LogicalID|AssociationStatus")


@pytest.mark.parametrize("name", FRAMEWORK)
def test_a_query_takes_what_the_framework_says(name: str) -> None:
    identity, expected = FRAMEWORK[name]
    definition = BY_ID[f"urn:uuid:{identity}"]
    ours = {key[1:]: "R" * one.required + "M" * one.many + "A" * one.conjunctive
            for key, one in definition.parameters.items() if not UPDATE_OPTION.search(key)}
    assert (definition.name, ours) == (name, expected)
    assert {choice[1:] for choice in definition.either if not UPDATE_OPTION.search(choice)} == {
        key for key in expected if key.endswith(("EntryUUID", "UniqueId"))}


def test_every_query_has_a_function() -> None:
    assert set(queries.QUERIES) >= set(FRAMEWORK)
    assert {definition.name for definition in BY_ID.values()} == set(queries.QUERIES)


# --- syntax of values ----------------------------------------------------------------------------------------------


def values_of(name: str, *texts: str, more: tuple[Slot, ...] = ()) -> tuple[tuple[str, ...], ...]:
    """What a parameter of FindDocuments is read as; the required ones stand beside it."""
    required = {"XDSDocumentEntryPatientId": quoted(PATIENT), "XDSDocumentEntryStatus": listed(APPROVED)}
    slots = tuple(Slot(f"${key}", (value,)) for key, value in required.items() if key != name)
    _, values = parse(FIND, (*slots, Slot(f"${name}", texts), *more))
    return values.get(f"${name}", ())


FIND = f"urn:uuid:{FRAMEWORK['FindDocuments'][0]}"


def faults(*slots: Slot, query_id: str = FIND) -> list[Finding]:
    with pytest.raises(Refused) as caught:
        parse(query_id, slots)
    return list(caught.value.findings)


@pytest.mark.parametrize(("name", "texts", "expected"), [
    ("XDSDocumentEntryClassCode", ("('a^^b')",), ("a^^b",)),
    ("XDSDocumentEntryClassCode", ("('a^^b','c^^d')",), ("a^^b", "c^^d")),
    ("XDSDocumentEntryClassCode", ("('a^^b')", "('c^^d')"), ("a^^b", "c^^d")),  # several Values are one OR
    ("XDSDocumentEntryClassCode", (" ( 'a^^b' ,\n 'c^^d' ) ",), ("a^^b", "c^^d")),
    ("XDSDocumentEntryClassCode", ("('a''b^^c')",), ("a'b^^c",)),
    ("XDSDocumentEntryClassCode", ("('''^^c')",), ("'^^c",)),
    ("XDSDocumentEntryClassCode", ("('a,b^^c')", "('(d)^^e')"), ("a,b^^c", "(d)^^e")),
    ("XDSDocumentEntryClassCode", ("('é ^^c')",), ("é ^^c",)),
    ("XDSDocumentEntryAuthorPerson", ("('%NOM%','_%')",), ("%NOM%", "_%")),
    ("XDSDocumentEntryCreationTimeFrom", ("20250101",), ("20250101",)),
    ("XDSDocumentEntryCreationTimeFrom", ("'20250101'",), ("20250101",)),  # quoted times are seen in the field
    ("XDSDocumentEntryPatientId", (f" {quoted(PATIENT)} ",), (PATIENT,)),
    ("MetadataLevel", ("2",), ("2",)),
    ("MetadataLevel", ("'1'",), ("1",)),
])
def test_legal_values(name: str, texts: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert values_of(name, *texts) == (expected,)


@pytest.mark.parametrize(("name", "texts", "xds"), [
    ("XDSDocumentEntryClassCode", ("'a^^b'",), SYNTAX),  # a list needs its parentheses
    ("XDSDocumentEntryClassCode", ("a^^b",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("(a^^b)",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('a^^b'",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("'a^^b')",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('a^^b)",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('a'^^b')",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('a^^b',)",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("(,'a^^b')",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('a^^b' 'c^^d')",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('a^^b';'c^^d')",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('a^^b')('c^^d')",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("(('a^^b'))",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("()",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('')",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('a')",), SYNTAX),
    ("XDSDocumentEntryClassCode", ("('^^b')",), SYNTAX),
    ("XDSDocumentEntryClassCode", ('("a^^b")',), SYNTAX),
    ("XDSDocumentEntryStatus", ("('Approved')",), SYNTAX),
    ("XDSDocumentEntryStatus", (f"'{APPROVED}'",), SYNTAX),
    ("XDSDocumentEntryType", ("('stable')",), SYNTAX),
    ("XDSDocumentEntryCreationTimeFrom", ("('20250101')",), SYNTAX),
    ("XDSDocumentEntryCreationTimeFrom", ("(20250101)",), SYNTAX),
    ("XDSDocumentEntryCreationTimeFrom", ("2025-01-01",), SYNTAX),
    ("XDSDocumentEntryCreationTimeFrom", ("'20250230'",), SYNTAX),
    ("XDSDocumentEntryCreationTimeFrom", ("20250101,20250102",), NUMBER),
    ("XDSDocumentEntryCreationTimeFrom", ("20250101", "20250102"), NUMBER),
    ("XDSDocumentEntryPatientId", (f"({quoted(PATIENT)})",), SYNTAX),
    ("XDSDocumentEntryPatientId", ("'1'",), SYNTAX),
    ("XDSDocumentEntryPatientId", (PATIENT,), SYNTAX),
    ("XDSDocumentEntryPatientId", (quoted(PATIENT), quoted(OTHER)), NUMBER),
    ("XDSDocumentEntryAuthorPerson", ("('')",), SYNTAX),
    ("MetadataLevel", ("3",), SYNTAX),
    ("MetadataLevel", ("'x'",), SYNTAX),
    ("XDSDocumentEntryAuthorPerson", (f"('{'x' * 257}')",), SYNTAX),
])
def test_illegal_values(name: str, texts: tuple[str, ...], xds: str) -> None:
    """Told once, with the parameter; not as missing too."""
    with pytest.raises(Refused) as caught:
        values_of(name, *texts)
    assert [(found.xds, found.where.path) for found in caught.value.findings] in (
        [(xds, f"${name}")], [(xds, f"FindDocuments/${name}")])


@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20), min_size=1,
                max_size=4))
def test_what_is_quoted_is_read_back(texts: list[str]) -> None:
    texts = [text.replace("^", "") or "x" for text in texts]
    codes = [f"{text}^^1.2" for text in texts]
    assert values_of("XDSDocumentEntryClassCode", listed(*codes)) == (tuple(codes),)
    assert values_of("XDSDocumentEntryClassCode", *map(listed, codes)) == (tuple(codes),)


@given(st.text(max_size=60) | st.text("()',^% 0", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        (read,) = values_of("XDSDocumentEntryAuthorPerson", text)
    except Refused as refused:
        read = tuple(found.xds for found in refused.findings)
        assert set(read) == {SYNTAX}
    assert read


@pytest.mark.parametrize("text", ["(" * 500_000, "'" * 500_001, "('" + "''" * 250_000, "('a'" + ",'a'" * 100_000 + ",)",
                                  " " * 500_000, "(" + "1," * 200_000 + ")", "('" + "x" * 500_000])
def test_no_text_takes_long(text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(Refused):
        values_of("XDSDocumentEntryClassCode", text)
    assert time.perf_counter() - began < 2


# --- missing, too many, unknown ------------------------------------------------------------------------------------

GIVEN = {"patient": quoted(PATIENT), "status": BOTH, "code": "('a^^b')", "time": "2025", "like": "('%A%')",
         "uuid": f"('{UUID}')", "uid": "('1.2.3')", "plain": "('1.2')", "objecttype": f"('{ON_DEMAND}')",
         "assoctype": f"('{RPLC}')"}


def valid(name: str) -> dict[str, str]:
    """A query that is complete: its required parameters, and one of those of which one is needed."""
    definition = BY_ID[f"urn:uuid:{FRAMEWORK[name][0]}"]
    wanted = [key for key, one in definition.parameters.items() if one.required or key in definition.either[:1]]
    texts = {key: GIVEN[definition.parameters[key].type] for key in wanted}
    return {key[1:]: text if definition.parameters[key].many else text.strip("()") for key, text in texts.items()}


@pytest.mark.parametrize("name", FRAMEWORK)
def test_a_complete_query_is_answered(registry: Registry, name: str) -> None:
    assert ask(registry, name, **valid(name)).counts == (0, 0, 0, 0)
    assert ask(registry, name, "ObjectRef", **valid(name)).refs == []


@pytest.mark.parametrize(("name", "parameter"), [(name, key) for name in FRAMEWORK for key in valid(name)])
def test_a_parameter_missing(registry: Registry, name: str, parameter: str) -> None:
    rest = {key: value for key, value in valid(name).items() if key != parameter}
    assert refusal(registry, name, **rest) == [MISSING]


@pytest.mark.parametrize(("name", "parameter"), [(name, key) for name in FRAMEWORK for key in valid(name)])
@pytest.mark.parametrize("values", [(), ("",)])
def test_a_parameter_without_a_value(registry: Registry, name: str, parameter: str, values: tuple[str, ...]) -> None:
    """An empty ValueList is no value; an empty Value is a badly written one. Neither is everything."""
    request = query(name, valid(name))
    slots = tuple(replace(slot, values=values) if slot.name == f"${parameter}" else slot for slot in request.slots)
    with pytest.raises(Refused) as caught:
        queries.run(registry, replace(request, slots=slots), lambda _reader, _patient: Gate())
    assert [found.xds for found in caught.value.findings] == [SYNTAX if values else MISSING]


@pytest.mark.parametrize("name", [name for name in FRAMEWORK if len(valid(name)) > 1])
def test_all_that_is_missing_is_told(registry: Registry, name: str) -> None:
    assert refusal(registry, name) == [MISSING] * len(valid(name))


@pytest.mark.parametrize(("name", "parameter"), [
    (name, key) for name, (_, parameters) in FRAMEWORK.items()
    for key, flags in parameters.items() if "A" not in flags])
def test_a_parameter_twice(registry: Registry, name: str, parameter: str) -> None:
    definition = BY_ID[f"urn:uuid:{FRAMEWORK[name][0]}"]
    one = definition.parameters[f"${parameter}"]
    text = GIVEN[one.type] if one.many else GIVEN[one.type].strip("()")
    others = {key: value for key, value in valid(name).items()
              if key != parameter and not (f"${parameter}" in definition.either and f"${key}" in definition.either)}
    assert refusal(registry, name, **others, **{parameter: [text, text]}) == [NUMBER]


@pytest.mark.parametrize("name", [name for name in FRAMEWORK if BY_ID[f"urn:uuid:{FRAMEWORK[name][0]}"].either])
def test_both_of_a_choice(registry: Registry, name: str) -> None:
    definition = BY_ID[f"urn:uuid:{FRAMEWORK[name][0]}"]
    second = definition.parameters[definition.either[1]]
    text = GIVEN["uid"] if second.many else GIVEN["uid"].strip("()")
    assert refusal(registry, name, **valid(name), **{second.name[1:]: text}) == [NUMBER]


def test_an_unknown_query(registry: Registry) -> None:
    (found,) = faults(query_id="urn:uuid:00000000-0000-4000-8000-000000000000")
    assert found.xds == "XDSUnknownStoredQuery"
    assert "FindDocuments" in found.expected


def test_an_id_in_upper_case(registry: Registry) -> None:
    upper = FIND.upper().replace("URN:UUID", "urn:uuid")
    slots = query("FindDocuments", valid("FindDocuments")).slots
    assert queries.run(registry, AdhocQuery(upper, slots=slots), lambda _reader, _patient: Gate()).count == 0


def test_an_unknown_parameter_is_passed_over(registry: Registry) -> None:
    put(registry)
    assert len(find(registry, Title="('x')").documents) == 1


@pytest.mark.parametrize("name", [f"{one}Scheme" for one in (*CODED.split(), "EventCodeList", "ConfidentialityCode")])
def test_a_scheme_parameter_is_refused(registry: Registry, name: str) -> None:
    assert refusal(registry, "FindDocuments", **valid("FindDocuments"), **{f"{PREFIX}{name}": "('1.2.3')"}) == [SYNTAX]


def test_all_faults_of_a_query_at_once(registry: Registry) -> None:
    assert refusal(registry, "FindDocuments", XDSDocumentEntryStatus=BOTH, XDSDocumentEntryClassCode="x",
                   XDSDocumentEntryCreationTimeFrom=["2025", "2025"], XDSDocumentEntryTypeCodeScheme="('x')") == [
        SYNTAX, SYNTAX, MISSING, NUMBER]


@pytest.mark.parametrize("returns", ["", "leafclass", "LeafClassWithRepositoryItem", "RegistryObject"])
def test_a_return_type(registry: Registry, returns: str) -> None:
    assert refusal(registry, "FindDocuments", returns, **valid("FindDocuments")) == ["XDSRegistryError"]


# --- what is found -------------------------------------------------------------------------------------------------


def test_an_unknown_patient_has_nothing(registry: Registry) -> None:
    put(registry)
    assert find(registry, patient=STRANGER).documents == []
    assert find(registry, patient=OTHER).documents == []
    assert find(registry, patient=PATIENT.replace("^NH", "^PI")).documents


def test_unknown_statuses_are_passed_over(registry: Registry) -> None:
    put(registry)
    assert len(find(registry, status=listed(APPROVED, "urn:x:Status:Lost")).documents) == 1
    assert refusal(registry, "FindDocuments", XDSDocumentEntryPatientId=quoted(PATIENT),
                   XDSDocumentEntryStatus="('urn:x:Status:Lost')") == [MISSING]


def test_statuses(registry: Registry) -> None:
    old = put(registry).ids["Document01"]
    new = put(registry, *replacing(old)).ids["Document01"]
    assert find(registry, status=listed(APPROVED)).uuids == {new}
    assert find(registry, status=listed(DEPRECATED)).uuids == {old}
    assert find(registry).uuids == {old, new}


@pytest.mark.parametrize("column", ["creation_time", "service_start", "service_stop"])
@pytest.mark.parametrize(("value", "start", "end", "expected"), [
    ("20250601", "20250601", "20250602", True), ("20250601", "20250531", "20250601", False),
    ("20250601", "20250601000000", "20250601000001", True), ("20250601", "20250601000001", "20260101", False),
    ("2025", "20250101", "2026", True), ("2025", "20250102", "2026", False), ("2025", "2025", "2025", False),
    ("20250601120000", "2025060112", "2025060113", True), ("20250601120000", "20250601", "2025060112", False),
    ("20250601120000", "202506", "202507", True), ("20250601", "2026", "2025", False),
])
def test_times(registry: Registry, column: str, value: str, start: str, end: str, expected: bool) -> None:
    """From ≤ value < To; what is less precise counts from its first moment."""
    put(registry, document(**{"service_start": "", "service_stop": "", column: value}))
    name = {"creation_time": "CreationTime", "service_start": "ServiceStartTime",
            "service_stop": "ServiceStopTime"}[column]
    assert bool(find(registry, **{f"{name}From": start, f"{name}To": end}).documents) is expected


def test_what_has_no_such_time_is_not_filtered_out(registry: Registry) -> None:
    put(registry, document(service_start="", service_stop=""))
    assert find(registry, ServiceStartTimeFrom="2030", ServiceStopTimeTo="1990").documents
    assert not find(registry, ServiceStartTimeFrom="2030", CreationTimeFrom="2030").documents


PERSON = person("O'BRIEN_DUPONT")


@pytest.mark.parametrize(("pattern", "expected"), [
    (PERSON, True), ("%BRIEN%", True), ("%O'BRIEN%", True), ("%BRIEN_DUPONT%", True), ("%BRIENxDUPONT%", False),
    ("BRIEN%", False), ("8012%", True), ("%IDNPS", True), ("%idnps", True), ("_01234567897^%", True),
    ("__01234567897^%", False), ("%", True), ("%%", True), ("_", False), (r"%\_%", False), ("%^Camille^%", True),
    ("%*%", False), ("%[O]%", False), ("x", False),
])
def test_patterns(registry: Registry, pattern: str, expected: bool) -> None:
    put(registry, document(authors=(Author((PERSON,)), Author((), ("CABINET",)))))
    assert bool(find(registry, AuthorPerson=listed(pattern)).documents) is expected


def test_several_patterns_are_an_or(registry: Registry) -> None:
    put(registry, document(authors=(Author((person("UN"),)), Author((person("DEUX"),)))))
    assert find(registry, AuthorPerson="('%RIEN%','%DEUX%')").documents
    assert not find(registry, AuthorPerson="('%RIEN%','%TROIS%')").documents


def test_a_pattern_crosses_no_author(registry: Registry) -> None:
    put(registry, document(authors=(Author((person("UN"),)), Author((person("DEUX"),)))))
    assert not find(registry, AuthorPerson="('%UN%DEUX%')").documents


def by_reference(registry: Registry, *texts: str) -> Told:
    return ask(registry, "FindDocumentsByReferenceId", XDSDocumentEntryPatientId=quoted(PATIENT),
               XDSDocumentEntryStatus=BOTH, XDSDocumentEntryReferenceIdList=list(texts))


def test_reference_ids(registry: Registry) -> None:
    put(registry, document(reference_ids=("A1^^^&1.2.3.4&ISO^urn:ihe:iti:xds:2013:order",
                                          "B2^^^&1.2.3.4&ISO^urn:ihe:iti:xds:2013:referral")))
    assert by_reference(registry, "('A1^%')").documents
    assert by_reference(registry, "('%order')", "('%referral')").documents
    assert not by_reference(registry, "('A1^%referral')").documents
    assert not by_reference(registry, "('A1^%')", "('C3%')").documents
    assert by_reference(registry, "('C3%','B2%')").documents


def test_filters_together_are_an_and(registry: Registry) -> None:
    put(registry, document(class_code=code("A"), type_code=code("X")))
    put(registry, document(class_code=code("A"), type_code=code("Y")))
    assert len(find(registry, ClassCode="('A^^1.2.3')", TypeCode="('X^^1.2.3')").documents) == 1
    assert not find(registry, ClassCode="('B^^1.2.3')", TypeCode="('X^^1.2.3')").documents


def test_a_code_is_code_and_scheme(registry: Registry) -> None:
    put(registry, document(event_codes=(code("A", "1.1"), code("B", "1.2"))))
    assert find(registry, EventCodeList="('A^^1.1')").documents
    assert not find(registry, EventCodeList="('A^^1.2')").documents
    assert not find(registry, EventCodeList=["('A^^1.1')", "('B^^1.1')"]).documents


def test_a_folder_of_a_document_in_two(registry: Registry) -> None:
    ids = put(registry, document(), folder(), folder("Folder02"), holds("Folder01", "Document01"),
              holds("Folder02", "Document01")).ids
    told = ask(registry, "GetFoldersForDocument", XDSDocumentEntryEntryUUID=quoted(ids["Document01"]))
    assert told.uuids == {ids["Folder01"], ids["Folder02"]}


def test_an_identifier_of_another_kind_finds_nothing(registry: Registry) -> None:
    ids = put(registry, document(), folder(), holds("Folder01", "Document01")).ids
    assert ask(registry, "GetDocuments", XDSDocumentEntryEntryUUID=listed(ids["Folder01"], ids["Set01"])).uuids == set()
    assert ask(registry, "GetFolders", XDSFolderEntryUUID=listed(ids["Document01"])).uuids == set()
    assert ask(registry, "GetSubmissionSetAndContents",
               XDSSubmissionSetEntryUUID=quoted(ids["Folder01"])).uuids == set()
    assert ask(registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(ids["Set01"])).uuids == set()


def test_an_identifier_is_not_a_uuid_by_its_look(registry: Registry) -> None:
    """entryUUIDs are not uniqueIds, and the other way round."""
    put(registry, document(unique_id="1.2.3"))
    assert refusal(registry, "GetDocuments", XDSDocumentEntryEntryUUID="('1.2.3')") == [SYNTAX]
    assert ask(registry, "GetDocuments", XDSDocumentEntryUniqueId=f"('{UUID}','1.2.3^1')").uuids == set()


def test_an_object_stands_once_in_an_answer(registry: Registry) -> None:
    ids = put(registry, document(unique_id="1.2.3")).ids
    uuid = ids["Document01"]
    assert ask(registry, "GetDocuments", "ObjectRef", XDSDocumentEntryEntryUUID=listed(uuid, uuid)).refs == [uuid]
    assert find(registry, "ObjectRef", ClassCode="('11^^1.2.3','11^^1.2.3')").refs == [uuid]


# --- limits --------------------------------------------------------------------------------------------------------


def limited(registry: Registry, number: int) -> Registry:
    return replace(registry, domain=replace(DOMAIN, max_results=number))


def test_too_many_results(registry: Registry) -> None:
    for _ in range(3):
        put(registry)
    request = {"XDSDocumentEntryPatientId": quoted(PATIENT), "XDSDocumentEntryStatus": BOTH}
    assert refusal(limited(registry, 2), "FindDocuments", **request) == ["XDSTooManyResults"]
    assert len(ask(limited(registry, 3), "FindDocuments", **request).documents) == 3
    assert len(ask(limited(registry, 2), "FindDocuments", "ObjectRef", **request).refs) == 3


MANY = 3000  # more than SQLite's limit of the depth of an expression


@pytest.mark.parametrize(("name", "parameters"), [
    ("FindDocuments", {**valid("FindDocuments"), "XDSDocumentEntryClassCode": listed(
        "11^^1.2.3", *(f"c{n}^^1.2.3" for n in range(MANY)))}),
    ("FindDocuments", {**valid("FindDocuments"), "XDSDocumentEntryAuthorPerson": listed(
        *(f"%{n}%" for n in range(MAX_PATTERNS - 1)), "%EXEMPLE%")}),
    ("FindDocuments", {**valid("FindDocuments"), "XDSDocumentEntryStatus": listed(
        *(f"urn:x:{n}" for n in range(MANY)), APPROVED)}),
    ("GetDocuments", {"XDSDocumentEntryUniqueId": listed("1.2.3", *(f"1.2.3.{n}" for n in range(MANY)))}),
], ids=["codes", "patterns", "statuses", "identifiers"])
def test_long_lists_are_answered(registry: Registry, name: str, parameters: dict[str, str]) -> None:
    put(registry, document(unique_id="1.2.3"))
    assert ask(registry, name, **parameters).counts == (0, 1, 0, 0)


@pytest.mark.parametrize("name", ["EventCodeList", "ConfidentialityCode"])
def test_a_long_and_is_refused(registry: Registry, name: str) -> None:
    """Nobody needs it, and each list is a look-up of its own."""
    texts = [f"('c{n}^^1.2.3')" for n in range(MANY)]
    assert refusal(registry, "FindDocuments", **valid("FindDocuments"), **{f"{PREFIX}{name}": texts}) == [NUMBER]


def test_a_list_has_an_end(registry: Registry) -> None:
    texts = listed(*(f"1.2.{n}" for n in range(MAX_VALUES + 1)))
    assert refusal(registry, "GetDocuments", XDSDocumentEntryUniqueId=texts) == [NUMBER]
    patterns = listed(*(f"%{n}%" for n in range(MAX_PATTERNS + 1)))
    assert refusal(registry, "FindDocuments", **valid("FindDocuments"), XDSDocumentEntryAuthorPerson=patterns) == [
        NUMBER]


@pytest.mark.slow
def test_documents_of_more_patients_than_a_statement_takes(registry: Registry) -> None:
    uuids = []
    for number in range(1100):
        cx = f"P{number}^^^&1.2.3.4&ISO"
        with registry.database.write() as connection:
            patients.feed(connection, [cx], Traits())
        uuids.append(put(registry, document(patient_id=cx), patient_id=cx).ids["Document01"])
    assert set(get(registry, *uuids, returns="ObjectRef").refs) == set(uuids)
    hidden = Gate(sees=lambda _facts: False)
    assert ask(registry, "GetDocuments", "ObjectRef", hidden, XDSDocumentEntryEntryUUID=listed(*uuids)).refs == []
    assert len(ask(registry, "GetAssociations", "ObjectRef", uuid=listed(*uuids)).refs) == len(uuids)
    assert ask(registry, "GetAssociations", "ObjectRef", hidden, uuid=listed(*uuids)).refs == []


def test_a_document_with_thousands_of_codes(registry: Registry) -> None:
    put(registry, document(event_codes=tuple(code(f"E{n}") for n in range(MANY))))
    assert find(registry, EventCodeList=[f"('E{MANY - 1}^^1.2.3')", "('E0^^1.2.3')"]).documents


def test_a_pattern_of_many_wildcards_takes_no_time(registry: Registry) -> None:
    put(registry, document(authors=(Author(("^" + "a" * 200,)),)))
    began = time.perf_counter()
    assert not find(registry, AuthorPerson="('" + "%a" * 120 + "%b')").documents
    assert time.perf_counter() - began < 1
