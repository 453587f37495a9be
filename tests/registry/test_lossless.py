"""What is submitted comes back: any document, set, folder or association, through storage and its own XML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import stored
from registry.register import Registry, register
from tests.registry.conftest import open_registry
from tests.registry.samples import (
    BOTH,
    PATIENT,
    ask,
    code,
    document,
    folder,
    fresh_oid,
    holds,
    listed,
    quoted,
    read_answer,
    submission,
    the_set,
)
from tests.xds import samples as any_of
from xds import ebxml, rim
from xds.findings import Refused
from xds.hl7 import DTM
from xds.rim import RegistryObject
from xds.vocabulary import APPROVED, DOCUMENT, FOLDER, STABLE, SUBMISSION_SET

pytestmark = pytest.mark.filterwarnings("error")
SOME = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(SOME, max_examples=500)


@pytest.fixture(scope="module")
def registry(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    path = tmp_path_factory.mktemp("lossless") / "volet.db"
    path.write_bytes(migrated.read_bytes())
    opened = open_registry(path)
    yield opened
    opened.database.close()


moments = st.datetimes().map(lambda moment: f"{moment.year:04d}" + moment.strftime("%m%d%H%M%S"))
times = st.builds(lambda text, width: DTM.parse(text[:width]).text, moments, st.sampled_from([4, 6, 8, 10, 12, 14]))
sizes = st.integers(0, 2**62).map(str)
described = {"title": any_of.names, "comments": any_of.names, "extra_slots": any_of.extra_slots,
             "extra_classifications": any_of.classifications, "extra_identifiers": any_of.identifiers,
             "home": any_of.texts}
documents = st.fixed_dictionaries({}, optional={
    **described, "mime_type": any_of.texts, "authors": any_of.author_lists, "class_code": any_of.optional_code,
    "type_code": any_of.optional_code, "format_code": any_of.optional_code, "facility_type": any_of.optional_code,
    "practice_setting": any_of.optional_code, "confidentiality": any_of.code_lists, "event_codes": any_of.code_lists,
    "creation_time": times, "service_start": times, "service_stop": times, "language": any_of.values,
    "legal_authenticator": any_of.values, "hash": any_of.values, "size": sizes, "source_patient_id": any_of.values,
    "repository_unique_id": any_of.values, "source_patient_info": any_of.optional_values,
    "reference_ids": any_of.optional_values, "uri": any_of.optional_values, "availability": any_of.values})
sets = st.fixed_dictionaries({}, optional={
    **described, "source_id": any_of.texts, "submission_time": times, "authors": any_of.author_lists,
    "content_type": any_of.optional_code, "intended_recipients": any_of.optional_values})
folders = st.fixed_dictionaries({}, optional={**described, "codes": any_of.code_lists})
links = st.fixed_dictionaries({}, optional={
    "home": any_of.texts, "documentation": any_of.code_lists, "previous_version": any_of.values,
    "submission_set_status": any_of.values, "extra_slots": any_of.extra_slots,
    "extra_classifications": any_of.classifications})


def unnamed(entry: Any) -> Any:
    """An object without the ids that the registry gives: its own and those of what is nested in it."""
    without = {"id": "", "lid": "", "status": "", "version": "", "extra_classifications": tuple(
        replace(item, id="", classified_object="") for item in entry.extra_classifications)}
    if hasattr(entry, "extra_identifiers"):
        without["extra_identifiers"] = tuple(replace(item, id="", registry_object="")
                                             for item in entry.extra_identifiers)
    if hasattr(entry, "last_update_time"):
        without["last_update_time"] = ""
    return replace(entry, **without)


def comes_back(registry: Registry, parts: tuple[dict[str, Any], ...]) -> None:
    of_document, of_set, of_folder, of_link = parts
    whole = submission(document(**{**of_document, "unique_id": fresh_oid()}), the_set(**of_set), folder(**of_folder),
                       holds("Folder01", "Document01", "Inner", **of_link))
    ids = register(registry, whole).ids
    told = ask(registry, "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=quoted(ids["Set01"]))
    for submitted, found in ((whole.documents, told.documents), (whole.sets, told.sets), (whole.folders, told.folders)):
        assert [unnamed(one) for one in found] == [unnamed(one) for one in submitted]
    inner = next(one for one in told.associations if one.id == ids["Inner"])
    sent = next(one for one in whole.associations if one.id == "Inner")
    assert unnamed(inner) == replace(unnamed(sent), source=ids["Folder01"], target=ids["Document01"])
    for thing in told.objects:
        assert (thing.lid, thing.version, thing.status) == (thing.id, "1", APPROVED)
        assert all(rim.is_uuid_urn(identity) for identity in rim.all_ids(thing))


@given(st.tuples(documents, sets, folders, links))
@SOME
def test_anything_comes_back(registry: Registry, parts: tuple[dict[str, Any], ...]) -> None:
    comes_back(registry, parts)


@pytest.mark.slow
@given(st.tuples(documents, sets, folders, links))
@MANY
def test_anything_comes_back_often(registry: Registry, parts: tuple[dict[str, Any], ...]) -> None:
    comes_back(registry, parts)


def test_the_order_of_values_and_objects(registry: Registry) -> None:
    """sourcePatientInfo, URI, authors and codes stand in an order that means something."""
    entry = document(source_patient_info=("PID-8|F", "PID-5|B", "PID-5|A"), uri=("2|b", "1|a"),
                     confidentiality=tuple(map(code, "VNR")), event_codes=tuple(map(code, "ZA")))
    ids = register(registry, submission(entry)).ids
    told = ask(registry, "GetDocuments", XDSDocumentEntryEntryUUID=listed(ids["Document01"])).documents[0]
    assert unnamed(told) == unnamed(entry)


# --- the stored form -----------------------------------------------------------------------------------------------

SCHEMES = {"document": DOCUMENT.patient_id, "set": SUBMISSION_SET.patient_id, "folder": FOLDER.patient_id}


def row_of(thing: RegistryObject, **more: Any) -> dict[str, Any]:
    codec, xml = stored.pack(thing)
    return {"uuid": thing.id, "lid": thing.lid, "version": thing.version, "home": thing.home, "codec": codec,
            "xml": xml, "mime_type": thing.mime_type, "object_type_name": thing.object_type,
            "last_update_time": "20260101000000", **more}


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=40))
@settings(max_examples=50)
def test_the_patient_is_a_hole(patient: str) -> None:
    """After a merge the survivor is shown, and nothing else of the object changes, whatever it holds."""
    entry = document(patient_id=PATIENT, source_patient_id=PATIENT, title=rim.localized(f' value="{PATIENT}"'),
                     extra_slots=(rim.Slot("urn:x", (PATIENT,)),))
    thing = ebxml.from_document(entry)
    told = read_answer(stored.render("document", row_of(thing), APPROVED, patient)).documents[0]
    assert told.patient_id == (patient or PATIENT)
    assert unnamed(replace(told, patient_id=PATIENT)) == unnamed(entry)


def test_a_merged_patient_in_sets_and_folders() -> None:
    for kind, thing, read in (("set", ebxml.from_set(the_set()), "sets"),
                              ("folder", ebxml.from_folder(folder()), "folders")):
        told = getattr(read_answer(stored.render(kind, row_of(thing), APPROVED, "1^^^&1.2&ISO")), read)
        assert [one.patient_id for one in told] == ["1^^^&1.2&ISO"]


def test_an_object_without_a_patient_has_no_hole() -> None:
    thing = ebxml.from_document(document(patient_id=""))
    assert read_answer(stored.render("document", row_of(thing), APPROVED, "1^^^&1.2&ISO")).documents[0].patient_id == ""


def test_rows_of_any_codec_are_read() -> None:
    thing = ebxml.from_document(document())
    row = row_of(thing)
    plain = {**row, "codec": 0, "xml": stored._unpack(row["codec"], row["xml"]).encode()}
    assert stored.render("document", plain, APPROVED) == stored.render("document", row, APPROVED)
    assert len(row["xml"]) < len(plain["xml"]) / 3


def test_the_columns_own_what_the_registry_owns() -> None:
    thing = replace(ebxml.from_document(document()), lid="L", version="1", status="old", home="h")
    told = read_answer(stored.render("document", {**row_of(thing), "uuid": "urn:uuid:u", "lid": "urn:uuid:l",
                                                  "version": 7, "home": "urn:oid:1.2"}, "urn:x:Status")).objects[0]
    assert (told.id, told.lid, told.version, told.home, told.status, told.object_type) == (
        "urn:uuid:u", "urn:uuid:l", "7", "urn:oid:1.2", "urn:x:Status", STABLE)


def test_nothing_is_registered_without_its_times(registry: Registry) -> None:
    """Rules come before; a time that is none never becomes a row."""
    with pytest.raises((ValueError, Refused)):
        register(registry, submission(document(creation_time="hier")))
    assert ask(registry, "FindDocuments", XDSDocumentEntryPatientId=quoted(PATIENT), XDSDocumentEntryStatus=BOTH,
               XDSDocumentEntryCreationTimeFrom="0001", XDSDocumentEntryClassCode="('none^^none')").documents == []
