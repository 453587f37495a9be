"""The model and ebRIM say the same: model -> ebRIM -> bytes -> ebRIM -> model, for every attribute."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xds.samples import associations, documents, folders, sets
from tests.xds.test_rim import reread
from xds import ebxml, rim
from xds.model import Association, Author, Code, DocumentEntry, Folder, Submission, SubmissionSet
from xds.rim import Classification, ExternalIdentifier, Localized, Slot
from xds.vocabulary import DOCUMENT, FOLDER_NODE, SUBMISSION_SET_NODE


@given(documents)
@settings(max_examples=40)
def test_documents_come_back(entry):
    (thing,) = reread([ebxml.from_document(entry)])
    assert ebxml.to_document(thing) == entry


@given(sets)
@settings(max_examples=40)
def test_sets_come_back(entry):
    (thing,) = reread([ebxml.from_set(entry)])
    assert thing.is_node(SUBMISSION_SET_NODE)
    assert ebxml.to_set(thing) == entry


@given(folders)
@settings(max_examples=40)
def test_folders_come_back(entry):
    (thing,) = reread([ebxml.from_folder(entry)])
    assert thing.is_node(FOLDER_NODE)
    assert ebxml.to_folder(thing) == entry


@given(associations)
@settings(max_examples=40)
def test_associations_come_back(entry):
    (thing,) = reread([ebxml.from_association(entry)])
    assert ebxml.to_association(thing) == entry


@given(st.builds(Submission, *[st.lists(kind, max_size=2).map(tuple)
                               for kind in (sets, documents, folders, associations)]))
@settings(max_examples=20)
def test_submissions_come_back(submission):
    assert ebxml.to_submission(reread(ebxml.from_submission(submission))) == submission


FULL = DocumentEntry(
    id="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1", unique_id="1.2.3^4", patient_id="1^^^&1.2.3&ISO",
    mime_type="text/xml", object_type="o", lid="l", status="s", version="1", home="urn:oid:1.2",
    title=(Localized("t", "fr"),), comments=(Localized("c"),), authors=(Author(("p",), ("i", "j"), ("r",),
    ("s",), ("t",), (Slot("x", ("y",)),)),),
    class_code=Code("1", "a"), type_code=Code("2", "b"), format_code=Code("3", "c"), facility_type=Code("4", "d"),
    practice_setting=Code("5", "e"), confidentiality=(Code("6", "f"), Code("7", "g")), event_codes=(Code("8", "h"),),
    creation_time="2024", service_start="2025", service_stop="2026", language="fr-FR", legal_authenticator="la",
    hash="ha", size="0", repository_unique_id="1.2", source_patient_id="2^^^&1.2.3&ISO",
    source_patient_info=("PID-3|2", "PID-5|E"), reference_ids=("1^^^^t", "2^^^^t"), uri=("1|a", "2|b"),
    availability="av", extra_slots=(Slot("urn:x", ("1", "2")),),
    extra_classifications=(Classification("urn:scheme:x", "", "n", "d", "i"),),
    extra_identifiers=(ExternalIdentifier("urn:scheme:y", "v"),))
OTHERS = (
    SubmissionSet("id", "u", "s", "p", "2024", "l", "st", "v", "h", (Localized("t"),), (Localized("c"),),
                  (Author(("p",)),), Code("1", "a"), ("|x", "y|"), (Slot("urn:x", ("1",)),),
                  (Classification("urn:s", id="i"),),
                  (ExternalIdentifier("urn:y", "v"),)),
    Folder("id", "u", "p", "l", "st", "v", "h", (Localized("t"),), (Localized("c"),), (Code("1", "a"), Code("2", "a")),
           "20240101000000", (Slot("urn:x", ("1",)),), (Classification(node="urn:n", id="i"),),
           (ExternalIdentifier("urn:y", "v"),)),
    Association("id", "ty", "so", "ta", "l", "st", "v", "h", "Original", "1", (Code("1", "a"),),
                (Slot("urn:x", ("1",)),), (Classification(node="urn:n", id="i"),)),
)
WRITERS = {DocumentEntry: ebxml.from_document, SubmissionSet: ebxml.from_set, Folder: ebxml.from_folder,
           Association: ebxml.from_association}
READERS = {DocumentEntry: ebxml.to_document, SubmissionSet: ebxml.to_set, Folder: ebxml.to_folder,
           Association: ebxml.to_association}


@pytest.mark.parametrize(("entry", "attribute"), [
    (entry, item.name) for entry in (FULL, *OTHERS) for item in fields(entry)])
def test_every_attribute_is_carried_by_the_wire(entry, attribute):
    """A sample with each attribute set, so that a row missing in the table shows."""
    value = getattr(entry, attribute)
    assert value, attribute
    (thing,) = reread([WRITERS[type(entry)](entry)])
    assert getattr(READERS[type(entry)](thing), attribute) == value


def test_ids_of_nested_elements_are_unique_and_name_their_parent():
    thing = ebxml.from_document(FULL)
    own = [item.id for item in chain(thing.classifications, thing.external_identifiers) if item.id not in {"i", ""}]
    assert len(set(own)) == len(own) == 11
    assert {item.classified_object for item in thing.classifications if item.id != "i"} == {FULL.id}
    assert {item.registry_object for item in thing.external_identifiers if item.id} == {FULL.id}


def test_an_author_has_an_empty_node_representation():
    text = rim.write(ebxml.from_document(FULL))
    author = text[text.index(DOCUMENT.author):]
    assert 'nodeRepresentation=""' in author[:author.index(">")]


def test_where_too_many_stand_the_first_counts():
    thing = ebxml.from_document(FULL)
    doubled = replace(
        thing, slots=(*thing.slots, Slot("hash", ("other",)), Slot("languageCode", ("en", "de"))),
        classifications=(*thing.classifications, Classification(DOCUMENT.class_code, node_representation="other")),
        external_identifiers=(*thing.external_identifiers, ExternalIdentifier(DOCUMENT.unique_id, "other")))
    assert ebxml.to_document(doubled) == FULL


def test_empty_value_lists_are_absent_attributes():
    thing = replace(ebxml.from_document(DocumentEntry("d")), slots=(Slot("hash"), Slot("sourcePatientInfo")))
    assert ebxml.to_document(thing) == DocumentEntry("d")


def test_a_package_that_is_neither_set_nor_folder_is_left_to_the_rules():
    thing = rim.RegistryObject("RegistryPackage", "p")
    submission = ebxml.to_submission([thing])
    assert (submission.sets, submission.folders, submission.objects) == ((), (), (thing,))


def test_a_submission_knows_its_set_and_patients():
    submission = Submission((OTHERS[0],), (FULL,), (OTHERS[1],))
    assert submission.submission_set is OTHERS[0]
    assert list(submission.patient_ids()) == ["p", FULL.patient_id, "p"]


def test_a_code_reads_as_text():
    assert str(Code("1", "a")) == "1^^a"
    assert Code("1", "a", (Localized("un"),)).display == "un"
    assert Author().person == ""
