"""Strategies and builders of XDS.b values for the tests of this folder; people are fictitious."""

from __future__ import annotations

from hypothesis import strategies as st

from xds.model import Association, Author, Code, DocumentEntry, Folder, SubmissionSet
from xds.rim import Classification, ExternalIdentifier, Localized, ObjectRef, RegistryObject, Slot

#: What may stand in XML, surrounding white space apart, which is layout in a slot
signs = (st.characters(exclude_characters="\ufffe\uffff", exclude_categories=("Cs", "Cc"))
         | st.sampled_from("\n\t\r&<>\"'"))
texts = st.text(signs, max_size=12)
values = texts.map(lambda text: text.strip(" \t\r\n"))
some = values.filter(bool)
value_lists = st.lists(values, min_size=1, max_size=3).map(tuple)
localized = st.builds(Localized, texts, some, texts)
names = st.lists(localized, max_size=2).map(tuple)
slots = st.builds(Slot, some.map("urn:extra:".__add__), value_lists, texts)
extra_slots = st.lists(slots, max_size=2, unique_by=lambda slot: slot.name).map(tuple)
codes = st.builds(Code, texts, values, names, extra_slots)
code_lists = st.lists(codes, max_size=2).map(tuple)
authors = st.builds(Author, *[st.just(()) | value_lists] * 5, extra_slots)
author_lists = st.lists(authors, max_size=2).map(tuple)
foreign = st.builds(Classification, scheme=some.map("urn:scheme:".__add__), node_representation=texts, id=texts,
                    classified_object=texts, name=names, slots=extra_slots)
nodes = st.builds(Classification, node=some.map("urn:node:".__add__), id=texts, classified_object=texts)
classifications = st.lists(foreign | nodes, max_size=2).map(tuple)
identifiers = st.lists(st.builds(ExternalIdentifier, some.map("urn:scheme:".__add__), texts, texts, texts, names, names,
                                 extra_slots), max_size=2).map(tuple)
optional_code = st.none() | codes
optional_values = st.just(()) | value_lists

headings = dict.fromkeys(("id", "lid", "status", "version", "home"), texts)
extras = {"extra_slots": extra_slots, "extra_classifications": classifications}
described = headings | extras | {"unique_id": texts, "patient_id": texts, "title": names, "comments": names,
                                 "extra_identifiers": identifiers}
documents = st.builds(
    DocumentEntry, mime_type=texts, object_type=texts, authors=author_lists, class_code=optional_code,
    type_code=optional_code, format_code=optional_code, facility_type=optional_code, practice_setting=optional_code,
    confidentiality=code_lists, event_codes=code_lists, creation_time=values, service_start=values, service_stop=values,
    language=values, legal_authenticator=values, hash=values, size=values, repository_unique_id=values,
    source_patient_id=values, source_patient_info=optional_values, reference_ids=optional_values, uri=optional_values,
    availability=values, **described)
sets = st.builds(SubmissionSet, source_id=texts, submission_time=values, authors=author_lists,
                 content_type=optional_code, intended_recipients=optional_values, **described)
folders = st.builds(Folder, codes=code_lists, last_update_time=values, **described)
associations = st.builds(
    Association, type=texts, source=texts, target=texts, submission_set_status=values, previous_version=values,
    documentation=code_lists, **headings, **extras)

registry_objects = st.builds(
    RegistryObject, st.sampled_from(["ExtrinsicObject", "RegistryPackage", "Association"]), *[texts] * 9, names, names,
    texts, extra_slots, classifications, identifiers)
references = st.lists(st.builds(ObjectRef, texts, texts), max_size=3)
