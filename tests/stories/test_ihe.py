"""The plans of IHE's toolkit for a registry and a repository, sent over the wire; numbers are those of the plans.

Each test sends what its plan says and asserts what its plan asserts: status, code, and what is found afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.stories.client import Lot, Reply, new_oid
from tests.stories.ihe import SCHEME, STATUSES, Toolkit, code, entry, folder, member, new_patient, plain_lot, submission
from tests.stories.process import Server
from xds.messages import AdhocQuery, DocumentSource, write_query
from xds.model import Association, Author, Submission
from xds.rim import Slot
from xds.vocabulary import APND, APPROVED, DEPRECATED, RPLC, SIGNS, XFRM, XFRM_RPLC

FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
FIND_BY_REFERENCE = "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_FOLDERS = "urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
GET_SETS = "urn:uuid:51224314-5390-4169-9b91-b1980040715a"
GET_SET_AND_CONTENTS = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"
GET_FOLDER_AND_CONTENTS = "urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7"


@pytest.fixture(scope="module")
def toolkit(ihe: Server) -> Toolkit:
    return Toolkit(ihe)


@pytest.fixture
def patient(ihe: Server) -> str:
    """A patient of each test's own."""
    return new_patient(ihe, new_oid()[-12:])


def succeeds(reply: Reply) -> Reply:
    assert (reply.status, reply.errors) == ("Success", [])
    return reply


def fails(reply: Reply, error: str = "") -> None:
    assert reply.http == 200
    assert reply.status == "Failure"
    assert error in reply.errors or not error


def contents(reply: Reply) -> tuple[int, int, int, int]:
    """Numbers of sets, documents, folders and associations of an answer."""
    found = succeeds(reply).found
    return len(found.sets), len(found.documents), len(found.folders), len(found.associations)


def of_set(toolkit: Toolkit, sent: Submission) -> Reply:
    return toolkit.query(GET_SET_AND_CONTENTS, XDSSubmissionSetUniqueId=f"'{sent.submission_set.unique_id}'")


def of_folder(toolkit: Toolkit, sent: Submission) -> Reply:
    return toolkit.query(GET_FOLDER_AND_CONTENTS, XDSFolderUniqueId=f"'{sent.folders[0].unique_id}'")


def by_unique_id(toolkit: Toolkit, *unique_ids: str, return_type: str = "LeafClass") -> Reply:
    return toolkit.query(GET_DOCUMENTS, return_type,
                         XDSDocumentEntryUniqueId="(" + ",".join(f"'{one}'" for one in unique_ids) + ")")


def statuses(toolkit: Toolkit, sent: Submission) -> list[str]:
    return [found.status for found in succeeds(of_set(toolkit, sent)).documents]


def uuid_of(toolkit: Toolkit, sent: Submission, number: int = 0) -> str:
    """entryUUID that a document was given."""
    return succeeds(by_unique_id(toolkit, sent.documents[number].unique_id)).documents[0].id


def folder_uuid_of(toolkit: Toolkit, sent: Submission) -> str:
    return succeeds(of_folder(toolkit, sent)).found.folders[0].id


def registered(toolkit: Toolkit, sent: Submission) -> Submission:
    succeeds(toolkit.register(sent))
    return sent


def related(patient: str, kind: str, target: str, **changes: Any) -> Submission:
    """A new document in a relationship to an older one."""
    return submission(patient, entry(patient, **changes), Association("Related", kind, "Document01", target))


# --- registering (R.b) -----------------------------------------------------------------------------------------------


def test_11990_one_document(toolkit: Toolkit, patient: str) -> None:
    sent = registered(toolkit, submission(patient, entry(patient)))
    assert contents(of_set(toolkit, sent)) == (1, 1, 0, 1)
    assert statuses(toolkit, sent) == [APPROVED]


def test_11991_two_documents(toolkit: Toolkit, patient: str) -> None:
    sent = registered(toolkit, submission(patient, entry(patient), entry(patient, "Document02")))
    assert contents(of_set(toolkit, sent)) == (1, 2, 0, 2)


def test_11992_replace(toolkit: Toolkit, patient: str) -> None:
    first = registered(toolkit, submission(patient, entry(patient)))
    second = registered(toolkit, related(patient, RPLC, uuid_of(toolkit, first)))
    assert statuses(toolkit, first) == [DEPRECATED]
    assert statuses(toolkit, second) == [APPROVED]
    assert contents(of_set(toolkit, second))[:2] == (1, 1)


@pytest.mark.parametrize("kind", [APND, XFRM], ids=["11993 addendum", "11994 transformation"])
def test_what_follows_a_document_that_was_replaced(toolkit: Toolkit, patient: str, kind: str) -> None:
    first, second = (registered(toolkit, submission(patient, entry(patient))) for _ in range(2))
    registered(toolkit, related(patient, RPLC, uuid_of(toolkit, first)))
    to_present = registered(toolkit, related(patient, kind, uuid_of(toolkit, second)))
    to_replaced = related(patient, kind, uuid_of(toolkit, first))
    fails(toolkit.register(to_replaced), "XDSRegistryDeprecatedDocumentError")
    assert statuses(toolkit, second) == [APPROVED]
    assert statuses(toolkit, to_present) == [APPROVED]
    assert contents(of_set(toolkit, to_replaced)) == (0, 0, 0, 0)


def test_11995_replace_by_transformation(toolkit: Toolkit, patient: str) -> None:
    first = registered(toolkit, submission(patient, entry(patient)))
    old = uuid_of(toolkit, first)
    second = registered(toolkit, related(patient, XFRM_RPLC, old))
    assert statuses(toolkit, first) == [DEPRECATED]
    links = succeeds(toolkit.query(GET_ASSOCIATIONS, uuid=f"('{old}')")).found.associations
    assert XFRM_RPLC in [link.type for link in links]
    assert statuses(toolkit, second) == [APPROVED]


def test_11996_unknown_patient(toolkit: Toolkit) -> None:
    unknown = "nobody^^^&1.3.6.1.4.1.21367.13.20.1000&ISO"
    fails(toolkit.register(submission(unknown, entry(unknown))), "XDSUnknownPatientId")


def test_11997_patients_of_set_and_document_differ(toolkit: Toolkit, patient: str) -> None:
    """Compared before anybody asks whether the patients are known."""
    sent = submission(patient, entry("other^^^&1.3.6.1.4.1.21367.13.20.1000&ISO"))
    fails(toolkit.register(sent), "XDSPatientIdDoesNotMatch")
    assert succeeds(by_unique_id(toolkit, sent.documents[0].unique_id, return_type="ObjectRef")).references == []


def test_11998_replacement_of_another_patients_document(toolkit: Toolkit, ihe: Server, patient: str) -> None:
    first = registered(toolkit, submission(patient, entry(patient)))
    other = new_patient(ihe, new_oid()[-12:])
    fails(toolkit.register(related(other, RPLC, uuid_of(toolkit, first))), "XDSPatientIdDoesNotMatch")
    assert statuses(toolkit, first) == [APPROVED]


@pytest.mark.parametrize("missing", [
    {"class_code": None}, {"confidentiality": ()}, {"creation_time": ""}, {"format_code": None},
    {"facility_type": None}, {"language": ""}, {"practice_setting": None}, {"source_patient_id": ""},
    {"type_code": None}], ids=lambda missing: next(iter(missing)))
def test_11998a_a_missing_attribute(toolkit: Toolkit, patient: str, missing: Mapping[str, Any]) -> None:
    sent = submission(patient, entry(patient, **missing))
    fails(toolkit.register(sent), "XDSRegistryMetadataError")
    assert contents(of_set(toolkit, sent)) == (0, 0, 0, 0)


def test_12004_the_same_document_again(toolkit: Toolkit, patient: str) -> None:
    made = entry(patient)
    for _ in range(2):
        registered(toolkit, submission(patient, made))
    fails(toolkit.register(submission(patient, replace(made, hash="b" * 40))), "XDSNonIdenticalHash")
    fails(toolkit.register(submission(patient, replace(made, size="12"))), "XDSNonIdenticalSize")
    assert len(succeeds(by_unique_id(toolkit, made.unique_id, return_type="ObjectRef")).references) == 2


def test_12022_what_depends_on_a_replaced_document_goes_with_it(toolkit: Toolkit, patient: str) -> None:
    made = folder(patient)
    first = registered(toolkit, submission(patient, entry(patient), entry(patient, "Document02"), made,
                                           member(made.id, "Document01", "")))
    target = uuid_of(toolkit, first)
    both = registered(toolkit, submission(
        patient, entry(patient), entry(patient, "Document02"),
        Association("T", XFRM, "Document01", target), Association("A", APND, "Document02", target)))
    further = registered(toolkit, related(patient, APND, uuid_of(toolkit, both)))
    last = registered(toolkit, related(patient, RPLC, target))
    assert sorted(statuses(toolkit, first)) == [APPROVED, DEPRECATED]
    assert statuses(toolkit, both) == [DEPRECATED, DEPRECATED]
    assert statuses(toolkit, further) == [DEPRECATED]
    assert statuses(toolkit, last) == [APPROVED]


def test_12084_all_or_nothing(toolkit: Toolkit, ihe: Server, patient: str) -> None:
    sent = submission(patient, entry(patient), entry(patient, "Document02", class_code=None))
    kept = ihe.kept()
    fails(toolkit.register(sent))
    assert contents(of_set(toolkit, sent)) == (0, 0, 0, 0)
    assert ihe.kept() == kept


def test_12370_a_documented_relationship(toolkit: Toolkit, patient: str) -> None:
    first = registered(toolkit, submission(patient, entry(patient)))
    target = uuid_of(toolkit, first)

    def documented(value: str) -> Submission:
        link = Association("Related", RPLC, "Document01", target, documentation=(code(value),))
        return submission(patient, entry(patient), link)

    fails(toolkit.register(documented("nobody-configured-this")), "XDSRegistryMetadataError")
    registered(toolkit, documented("transformed"))
    (link,) = (link for link in succeeds(toolkit.query(GET_ASSOCIATIONS, uuid=f"('{target}')")).found.associations
               if link.type == RPLC)
    assert [found.code for found in link.documentation] == ["transformed"]


def test_12379_extra_metadata_come_back(toolkit: Toolkit, patient: str) -> None:
    extra = (Slot("urn:essai:extra", ("one", "two")),)
    sent = submission(patient, entry(patient, extra_slots=extra), set_changes={"extra_slots": extra})
    sent = replace(sent, associations=tuple(replace(link, extra_slots=extra) for link in sent.associations))
    assert registered(toolkit, sent)
    found = of_set(toolkit, sent).found
    assert [thing.extra_slots for thing in (*found.documents, *found.sets, *found.associations)] == [extra] * 3


def test_signatures_are_linked_to_their_set_or_their_documents(toolkit: Toolkit, patient: str) -> None:
    sent = submission(patient, entry(patient), entry(patient, "Signature", mime_type="text/xml"),
                      Association("S1", SIGNS, "Signature", "Document01"))
    registered(toolkit, sent)
    assert statuses(toolkit, sent) == [APPROVED, APPROVED]


# --- folders (reg_catfolder) -----------------------------------------------------------------------------------------


def test_11999_a_folder(toolkit: Toolkit, patient: str) -> None:
    sent = registered(toolkit, submission(patient, folder(patient)))
    assert contents(of_set(toolkit, sent)) == (1, 0, 1, 1)
    assert of_set(toolkit, sent).found.sets[0].status == APPROVED


def with_document(patient: str) -> Submission:
    made = folder(patient)
    return submission(patient, entry(patient), made, member(made.id, "Document01", ""))


def test_12000_a_folder_with_a_document(toolkit: Toolkit, patient: str) -> None:
    sent = registered(toolkit, with_document(patient))
    assert contents(of_set(toolkit, sent)) == (1, 1, 1, 4)
    assert contents(of_folder(toolkit, sent)) == (0, 1, 1, 1)
    # 12000.1a: an identifier of something else finds no document
    found = of_set(toolkit, sent).found
    for other in (found.sets[0].id, found.folders[0].id):
        assert contents(toolkit.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{other}')")) == (0, 0, 0, 0)
    document = found.documents[0].id
    assert contents(toolkit.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{document}')")) == (0, 1, 0, 0)


def test_12001_a_new_document_into_a_folder_that_is_there(toolkit: Toolkit, patient: str) -> None:
    first = registered(toolkit, submission(patient, folder(patient)))
    target = folder_uuid_of(toolkit, first)
    registered(toolkit, submission(patient, entry(patient), member(target, "Document01", "")))
    assert contents(of_folder(toolkit, first)) == (0, 1, 1, 1)


def test_12002_another_patients_document_into_a_folder(toolkit: Toolkit, ihe: Server, patient: str) -> None:
    first = registered(toolkit, submission(patient, folder(patient)))
    other = new_patient(ihe, new_oid()[-12:])
    target = folder_uuid_of(toolkit, first)
    fails(toolkit.register(submission(other, entry(other), member(target, "Document01", ""))),
          "XDSPatientIdDoesNotMatch")
    assert contents(of_folder(toolkit, first)) == (0, 0, 1, 0)


def test_12326_a_document_that_is_there_into_a_folder_that_is_there(toolkit: Toolkit, patient: str) -> None:
    first = registered(toolkit, submission(patient, folder(patient)))
    second = registered(toolkit, submission(patient, entry(patient)))
    target, document = folder_uuid_of(toolkit, first), uuid_of(toolkit, second)
    link = member(target, document, "", identity="FolderLink")
    registered(toolkit, submission(patient, link, member("SubmissionSet01", document, "Reference")))
    assert contents(of_folder(toolkit, first)) == (0, 1, 1, 1)


def test_12327_a_replacement_joins_the_folders_of_what_it_replaces(toolkit: Toolkit, patient: str) -> None:
    first = registered(toolkit, with_document(patient))
    assert contents(of_set(toolkit, first)) == (1, 1, 1, 4)
    second = registered(toolkit, related(patient, RPLC, uuid_of(toolkit, first)))
    assert contents(of_folder(toolkit, first)) == (0, 2, 1, 2)
    assert statuses(toolkit, second) == [APPROVED]


def last_update(toolkit: Toolkit, sent: Submission) -> str:
    return of_folder(toolkit, sent).found.folders[0].last_update_time


def test_12323_the_folders_time_moves_with_every_member(toolkit: Toolkit, patient: str) -> None:
    without = registered(toolkit, submission(patient, folder(patient)))
    with_time = registered(toolkit, submission(patient, folder(patient, last_update_time="20010101000000")))
    today = time.strftime("%Y%m%d", time.gmtime())
    first = last_update(toolkit, without)
    assert len(first) == 14
    assert first.startswith(today)
    assert last_update(toolkit, with_time).startswith(today)  # the registry's own, not the source's
    time.sleep(1.1)
    added = registered(toolkit, submission(patient, entry(patient),
                                           member(folder_uuid_of(toolkit, without), "Document01", "")))
    second = last_update(toolkit, without)
    assert second > first
    time.sleep(1.1)
    registered(toolkit, related(patient, RPLC, uuid_of(toolkit, added)))
    assert last_update(toolkit, without) > second


# --- providing (PR.b) ------------------------------------------------------------------------------------------------

TEXTS = (b"This is my document.\n", b"This is another one.\r\n")


def test_11966_one_document(toolkit: Toolkit, patient: str) -> None:
    lot = plain_lot(patient, TEXTS[0])
    succeeds(toolkit.provide(lot))
    assert contents(of_set(toolkit, lot.submission)) == (1, 1, 0, 1)
    assert statuses(toolkit, lot.submission) == [APPROVED]


def test_11979_two_documents(toolkit: Toolkit, patient: str) -> None:
    lot = plain_lot(patient, *TEXTS)
    succeeds(toolkit.provide(lot))
    assert contents(of_set(toolkit, lot.submission)) == (1, 2, 0, 2)


def test_11981_size_and_hash(toolkit: Toolkit, patient: str) -> None:
    succeeds(toolkit.provide(plain_lot(patient, TEXTS[0])))
    succeeds(toolkit.provide(plain_lot(patient, TEXTS[0]).having(
        lambda made: replace(made, hash=made.hash.upper()))))
    without = plain_lot(patient, TEXTS[0], hash="", size="")
    succeeds(toolkit.provide(without))
    (found,) = by_unique_id(toolkit, without.documents[0].unique_id).documents
    assert found.size == str(len(TEXTS[0]))


@pytest.mark.parametrize("wrong", [{"hash": "0" * 40}, {"size": "1"}], ids=["hash", "size"])
def test_12369_wrong_size_or_hash(toolkit: Toolkit, ihe: Server, patient: str, wrong: Mapping[str, str]) -> None:
    """And 11981."""
    kept = ihe.kept()
    fails(toolkit.provide(plain_lot(patient, TEXTS[0]).having(lambda made: replace(made, **wrong))),
          "XDSRepositoryMetadataError")
    assert ihe.kept() == kept


def test_11983_metadata_and_documents_that_do_not_match(toolkit: Toolkit, patient: str) -> None:
    lot = plain_lot(patient, *TEXTS)
    first = Lot(lot.submission, {"Document01": TEXTS[0]})
    fails(toolkit.provide(first), "XDSMissingDocument")
    body = plain_lot(patient, TEXTS[0])
    sources = {"Document01": DocumentSource("inline", data=TEXTS[0]), "Nobody": DocumentSource("inline", data=b"x")}
    reply = toolkit.client.call("ITI-41", body.body(sources), parts=[])
    fails(reply, "XDSMissingDocumentMetadata")
    for sent in (lot.submission, body.submission):
        assert contents(of_set(toolkit, sent)) == (0, 0, 0, 0)
        assert succeeds(toolkit.query(GET_SETS, "ObjectRef", uuid=f"('urn:uuid:{'0' * 8}-0000-4000-8000-{'0' * 12}')"
                                      )).references == []


def test_11986_the_registrys_own_errors_are_passed_on(toolkit: Toolkit, ihe: Server, patient: str) -> None:
    kept = ihe.kept()
    lot = plain_lot(patient, TEXTS[0]).having(
        lambda made: replace(made, patient_id="other^^^&1.3.6.1.4.1.21367.13.20.1000&ISO"))
    fails(toolkit.provide(lot), "XDSPatientIdDoesNotMatch")
    assert ihe.kept() == kept


# --- retrieving (Ret.b) ----------------------------------------------------------------------------------------------


def kept_as(toolkit: Toolkit, lot: Lot) -> list[tuple[str, str]]:
    """(repositoryUniqueId, uniqueId) of the documents of a lot."""
    found = by_unique_id(toolkit, *(made.unique_id for made in lot.documents)).documents
    assert len(found) == len(lot.documents)
    return [(made.repository_unique_id, made.unique_id) for made in found]


@pytest.mark.parametrize(("texts", "door"), [(TEXTS, "http"), (TEXTS[:1], "http"), (TEXTS[:1], "https")],
                         ids=["12021 two documents", "12029 one document", "12028 over TLS"])
def test_what_was_provided_is_retrieved(ihe: Server, patient: str, texts: tuple[bytes, ...], door: str) -> None:
    toolkit = Toolkit(ihe, door=door)
    lot = plain_lot(patient, *texts)
    succeeds(toolkit.provide(lot))
    reply = toolkit.retrieve(*kept_as(toolkit, lot))
    assert succeeds(reply).contents == {made.unique_id: lot.contents[made.id] for made in lot.documents}


@pytest.mark.parametrize("mime_type", ["text/plain", "text/xml", "application/pdf", "application/dicom",
                                       "multipart/related", "application/x-unheard-of+xml"])
def test_12360_the_mime_type_is_kept(toolkit: Toolkit, patient: str, mime_type: str) -> None:
    lot = plain_lot(patient, TEXTS[0], mime_type=mime_type)
    succeeds(toolkit.provide(lot))
    reply = toolkit.retrieve(*kept_as(toolkit, lot))
    assert [found.mime_type for found in reply.response.documents] == [mime_type]  # type: ignore[union-attr]


def test_what_is_not_here_is_an_error_of_its_own(toolkit: Toolkit, patient: str) -> None:
    lot = plain_lot(patient, TEXTS[0])
    succeeds(toolkit.provide(lot))
    ((repository, unique_id),) = kept_as(toolkit, lot)
    reply = toolkit.retrieve((repository, unique_id), (repository, new_oid()), (new_oid(), unique_id))
    assert reply.status == "PartialSuccess"
    assert sorted(reply.errors) == ["XDSDocumentUniqueIdError", "XDSUnknownRepositoryId"]
    assert reply.contents == {unique_id: TEXTS[0]}
    assert toolkit.retrieve((repository, new_oid())).status == "Failure"


# --- FindDocuments (11897) -------------------------------------------------------------------------------------------

OTHER_SCHEME = "1.3.6.1.4.1.21367.100.2"
NOBODYS = {"creation_time": "20060101120000", "service_start": "20060101", "service_stop": "20060102",
           "confidentiality": (code("k2"),)}


def with_codes(*codes: tuple[str, str], **more: Any) -> dict[str, Any]:
    """classCode, practiceSettingCode, facility, format and type, in this order; the rest as nobody asks for it."""
    names = ("class_code", "practice_setting", "facility_type", "format_code", "type_code")
    return {**NOBODYS, **{name: code(*value) for name, value in zip(names, codes, strict=True)}, **more}


A, B = SCHEME, OTHER_SCHEME
AUTHOR = Author(persons=("D-1^Dupont^Marie^^^^^^&1.3.6.1.4.1.21367.13.20.1000&ISO",))
REFERENCE = "ORD-1^^^&1.3.6.1.4.1.21367.2005.3.7&ISO^urn:ihe:iti:xds:2013:order"
STORED: tuple[dict[str, Any], ...] = (
    with_codes(("c1", A), ("p1", A), ("h1", A), ("f1", A), ("t1", A), creation_time="20050101", authors=(AUTHOR,),
               service_start="20050101", service_stop="20050102", confidentiality=(code("k1"),),
               event_codes=(code("e1"), code("e2")), reference_ids=(REFERENCE,)),
    with_codes(("c2", A), ("p1", A), ("h1", A), ("f1", A), ("t1", A), service_start="", service_stop="",
               confidentiality=(code("k1"), code("k2")), event_codes=(code("e2"), code("e3"))),
    with_codes(("c2", A), ("p1", B), ("h1", A), ("f1", A), ("t1", A)),
    with_codes(("c2", B), ("p1", A), ("h1", B), ("f1", A), ("t1", A)),
    with_codes(("c2", B), ("p1", B), ("h1", B), ("f2", A), ("t1", A)),
    with_codes(("c3", A), ("p2", A), ("h2", A), ("f2", A), ("t2", A), creation_time="20071231"),
)


@pytest.fixture(scope="module")
def stored(ihe: Server, toolkit: Toolkit) -> SimpleNamespace:
    """Six documents in five sets; the last one replaces the fifth."""
    patient = new_patient(ihe, "stored-queries")
    made = [entry(patient, f"Document{number:02}", **more) for number, more in enumerate(STORED, 1)]
    for together in ((made[0],), (made[1],), made[2:4], (made[4],)):
        last = registered(toolkit, submission(patient, *together))
    replacement = Association("Related", RPLC, made[5].id, uuid_of(toolkit, last))
    registered(toolkit, submission(patient, made[5], replacement))
    return SimpleNamespace(patient=patient)


def coded(*values: tuple[str, str]) -> str:
    return "(" + ",".join(f"'{value}^^{scheme}'" for value, scheme in values) + ")"


@pytest.mark.parametrize(("number", "parameters"), [
    pytest.param(1, {"ClassCode": coded(("c1", A))}, id="classcode_one"),
    pytest.param(3, {"ClassCode": coded(("c1", A), ("c2", A))}, id="classcode_two"),
    pytest.param(3, {"ClassCode": (coded(("c1", A)), coded(("c2", A)))}, id="classcode_two, in two values"),
    pytest.param(2, {"ClassCode": coded(("c2", B))}, id="classcode_scheme_2"),
    pytest.param(None, {"ClassCode": "('c1^^')"}, id="classcode_scheme_mismatch"),
    pytest.param(3, {"PracticeSettingCode": coded(("p1", A))}, id="practicesetting"),
    pytest.param(2, {"PracticeSettingCode": coded(("p1", B))}, id="practicesetting_scheme"),
    pytest.param(1, {"PracticeSettingCode": coded(("p1", A)), "ClassCode": coded(("c1", A))},
                 id="classcode_practicesetting"),
    pytest.param(1, {"CreationTimeFrom": "20041231", "CreationTimeTo": "20050102"}, id="creationtime_between"),
    pytest.param(1, {"CreationTimeFrom": "20041231235959", "CreationTimeTo": "20050101000001"},
                 id="creationtime_between_long"),
    pytest.param(1, {"CreationTimeFrom": "20050101", "CreationTimeTo": "20050102"}, id="creationtime_left_edge"),
    pytest.param(0, {"CreationTimeFrom": "20041231", "CreationTimeTo": "20050101"}, id="creationtime_right_edge"),
    pytest.param(1, {"CreationTimeFrom": "2007", "CreationTimeTo": "2009", "PracticeSettingCode": coded(("p2", A))},
                 id="creationtime_practicesetting"),
    pytest.param(2, {"ServiceStartTimeFrom": "2005", "ServiceStartTimeTo": "2006"}, id="servicestarttime"),
    pytest.param(2, {"ServiceStopTimeFrom": "2005", "ServiceStopTimeTo": "2006"}, id="servicestoptime"),
    pytest.param(3, {"HealthcareFacilityTypeCode": coded(("h1", A))}, id="hcftc"),
    pytest.param(2, {"HealthcareFacilityTypeCode": coded(("h1", B))}, id="hcftc_scheme"),
    pytest.param(1, {"EventCodeList": coded(("e1", A))}, id="eventcode"),
    pytest.param(2, {"EventCodeList": coded(("e1", A), ("e2", A))}, id="eventcode, one of two"),
    pytest.param(2, {"ConfidentialityCode": coded(("k1", A))}, id="confcode"),
    pytest.param(4, {"FormatCode": coded(("f1", A))}, id="formatcode"),
    pytest.param(5, {"TypeCode": coded(("t1", A))}, id="typecode"),
    pytest.param(1, {"AuthorPerson": "('%Dupont%')"}, id="author"),
    pytest.param(None, {"PracticeSettingCode": "('p1')", "PracticeSettingCodeScheme": f"('{A}')"}, id="old_scheme"),
    pytest.param(6, {}, id="objectref"),
])
def test_11897_find_documents(
        toolkit: Toolkit, stored: SimpleNamespace, number: int | None, parameters: Mapping[str, Any]) -> None:
    named = {f"XDSDocumentEntry{name}": value for name, value in parameters.items()}
    reply = toolkit.query(FIND_DOCUMENTS, "ObjectRef", XDSDocumentEntryPatientId=f"'{stored.patient}'",
                          XDSDocumentEntryStatus=STATUSES, **named)
    if number is None:
        fails(reply)
        assert reply.references == []
    else:
        assert len(succeeds(reply).references) == number


@pytest.mark.parametrize(("number", "status"), [(5, f"('{APPROVED}')"), (1, f"('{DEPRECATED}')"), (6, STATUSES[0])],
                         ids=["approved", "deprecated", "leafclass"])
def test_11897_find_documents_by_status(toolkit: Toolkit, stored: SimpleNamespace, number: int, status: str) -> None:
    reply = toolkit.query(FIND_DOCUMENTS, XDSDocumentEntryPatientId=f"'{stored.patient}'",
                          XDSDocumentEntryStatus=status)
    assert contents(reply) == (0, number, 0, 0)


def test_11897_event_codes_of_two_slots_are_both_meant(toolkit: Toolkit, stored: SimpleNamespace) -> None:
    """eventcode_multi_select, and."""
    slots = (Slot("$XDSDocumentEntryPatientId", (f"'{stored.patient}'",)), Slot("$XDSDocumentEntryStatus", STATUSES),
             Slot("$XDSDocumentEntryEventCodeList", (coded(("e1", A), ("e3", A)),)),
             Slot("$XDSDocumentEntryEventCodeList", (coded(("e2", A)),)))
    both = toolkit.client.call("ITI-18", write_query(AdhocQuery(FIND_DOCUMENTS, "", "ObjectRef", slots)))
    assert len(succeeds(both).references) == 2
    slots = (*slots[:2], Slot("$XDSDocumentEntryEventCodeList", (coded(("e1", A)),)), slots[3])
    one = toolkit.client.call("ITI-18", write_query(AdhocQuery(FIND_DOCUMENTS, "", "ObjectRef", slots)))
    assert len(succeeds(one).references) == 1
    # Elsewhere a slot that stands twice is an error.
    slots = (*slots[:2], *(Slot("$XDSDocumentEntryClassCode", (coded(("c1", A)),)) for _ in range(2)))
    fails(toolkit.client.call("ITI-18", write_query(AdhocQuery(FIND_DOCUMENTS, "", "ObjectRef", slots))),
          "XDSStoredQueryParamNumber")


def test_11897_find_documents_by_reference_id(toolkit: Toolkit, stored: SimpleNamespace) -> None:
    reply = toolkit.query(FIND_BY_REFERENCE, "ObjectRef", XDSDocumentEntryPatientId=f"'{stored.patient}'",
                          XDSDocumentEntryStatus=STATUSES, XDSDocumentEntryReferenceIdList=f"('{REFERENCE}')")
    assert len(succeeds(reply).references) == 1


def test_find_documents_of_nobody_finds_nothing(toolkit: Toolkit) -> None:
    reply = toolkit.query(FIND_DOCUMENTS, XDSDocumentEntryPatientId="'nobody^^^&1.2.3&ISO'",
                          XDSDocumentEntryStatus=STATUSES)
    assert contents(reply) == (0, 0, 0, 0)


@pytest.mark.parametrize(("identity", "parameters", "error"), [
    ("urn:uuid:00000000-0000-4000-8000-000000000000", {}, "XDSUnknownStoredQuery"),
    (FIND_DOCUMENTS, {"XDSDocumentEntryStatus": STATUSES}, "XDSStoredQueryMissingParam"),
    (GET_DOCUMENTS, {}, "XDSStoredQueryMissingParam"),
    (GET_DOCUMENTS, {"XDSDocumentEntryUniqueId": "('1.2')", "XDSDocumentEntryEntryUUID": "('urn:uuid:1')"},
     "XDSStoredQueryParamNumber"),
    # A list must stand in parentheses; no code of its own is foreseen for bad syntax.
    (FIND_DOCUMENTS, {"XDSDocumentEntryPatientId": "'a^^^&1.2&ISO'", "XDSDocumentEntryStatus": f"'{APPROVED}'"},
     "XDSRegistryError"),
])
def test_queries_that_are_wrong(toolkit: Toolkit, identity: str, parameters: Mapping[str, Any], error: str) -> None:
    """What no plan asserts: the codes of ITI TF-3 table 4.2.4.1-2."""
    reply = toolkit.query(identity, **parameters)
    fails(reply)
    assert reply.errors == [error]
