"""ITI-42 and ITI-18 as messages: body in, answer out, with everything on the way noted in the exchange."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import Connection

from journal.exchanges import Exchange
from registry.profile import PlainProfile
from registry.register import Registry
from registry.transactions import Services, check_submission, iti18, iti42, patient_of, read_submission
from security.access import FindPatient, Gate
from security.identity import Caller
from tests.registry.samples import (
    BOTH,
    DOMAIN,
    OTHER,
    PATIENT,
    STRANGER,
    code,
    document,
    find,
    folder,
    fresh_oid,
    link,
    listed,
    put,
    query,
    quoted,
    submission,
    the_set,
)
from tests.registry.test_state import counts
from xds import messages, rim
from xds.answers import Answer
from xds.findings import Catalogue, Finding, Refused, Where
from xds.model import Submission
from xds.rim import ExternalIdentifier, RegistryObject, Slot
from xds.vocabulary import HAS_MEMBER, RIM, RPLC, SUCCESS
from xds.xml import Element, parse

UPPER = "urn:uuid:6C1B0C5E-0001-4000-8000-00000000000A"


@dataclass
class Watched:
    """A profile that writes down what it is asked, refuses as told, and hides as told."""

    domain: Any = DOMAIN
    name: str = "watched"
    accept_repeat: bool = False
    refusing: tuple[Finding, ...] = ()
    finding: tuple[Finding, ...] = ()
    gate: Gate = field(default_factory=Gate)
    asked: list[tuple[str, str]] = field(default_factory=list)
    checked: list[Submission] = field(default_factory=list)

    def requirements(self, transaction: str) -> Any:
        return PlainProfile(DOMAIN).requirements(transaction)

    def admit(self, connection: Connection, caller: Caller, action: str, patient: str, find_: FindPatient) -> Gate:
        self.asked.append((action, patient))
        if self.refusing:
            raise Refused(self.refusing)
        return self.gate

    def check(self, whole: Submission, contents: Any, caller: Caller) -> Any:
        self.checked.append(whole)
        return self.finding


RULE = Catalogue("registry")["V-REG-BUSY"]
FINDING = RULE.at(Where("test"))


def body(whole: Submission) -> Element:
    return parse(messages.write_submit_objects(whole.objects).encode())


def register_by_message(registry: Registry, whole: Submission, profile: Any = None) -> tuple[str, list[str]]:
    """Status and error codes of the answer to ITI-42."""
    services = Services(registry, profile or Watched())
    answer = iti42(body(whole), Caller(), Exchange(), services)
    response = messages.read_registry_response(parse(answer.body.encode()))
    return response.status, [error.code for error in response.errors]


def ask_by_message(registry: Registry, name: str, profile: Any = None, returns: str = "LeafClass",
                   **parameters: Any) -> messages.QueryResponse:
    request = parse(messages.write_query(query(name, parameters, returns)).encode())
    answer: Answer = iti18(request, Caller(), Exchange(), Services(registry, profile or Watched()))
    return messages.read_query_response(parse(answer.body.encode()))


# --- ITI-42 --------------------------------------------------------------------------------------------------------


def test_register_and_find(registry: Registry) -> None:
    entry = document()
    assert register_by_message(registry, submission(entry)) == (SUCCESS, [])
    told = ask_by_message(registry, "FindDocuments", XDSDocumentEntryPatientId=quoted(PATIENT),
                          XDSDocumentEntryStatus=BOTH)
    assert told.status == SUCCESS
    (one,) = told.objects
    assert rim.is_uuid_urn(one.id)
    assert one.lid == one.id
    assert one.version == "1"
    assert find(registry).documents[0].unique_id == entry.unique_id


def refused(registry: Registry, whole: Submission, profile: Any = None) -> list[str]:
    before = counts(registry)
    with pytest.raises(Refused) as caught:
        register_by_message(registry, whole, profile)
    assert counts(registry) == before
    return [finding.xds for finding in caught.value.findings]


def test_patients_are_compared_before_anyone_asks_who_they_are(registry: Registry) -> None:
    """Plan 11986: ids that were never fed, and differ."""
    whole = submission(document(patient_id=STRANGER), patient_id=STRANGER.replace("1777", "1778"))
    assert refused(registry, whole) == ["XDSPatientIdDoesNotMatch"]
    assert refused(registry, submission(document(patient_id=STRANGER), patient_id=STRANGER)) == ["XDSUnknownPatientId"]


@pytest.mark.parametrize("attribute", ["class_code", "confidentiality", "creation_time", "format_code", "type_code",
                                       "facility_type", "language", "practice_setting", "source_patient_id"])
def test_an_attribute_missing(registry: Registry, attribute: str) -> None:
    """Plan 11998a."""
    nothing: dict[str, Any] = {"confidentiality": (), "creation_time": "", "language": "", "source_patient_id": ""}
    assert refused(registry, submission(document(**{attribute: nothing.get(attribute)}))) == [
        "XDSRegistryMetadataError"]


def test_the_profile_is_asked_first(registry: Registry) -> None:
    """Who may not do this does not learn what else was wrong."""
    profile = Watched(refusing=(FINDING,))
    assert refused(registry, submission(document(language="")), profile) == [FINDING.xds]
    assert profile.asked == [("register", PATIENT)]
    assert profile.checked == []


def test_findings_of_the_profile_stand_beside_ours(registry: Registry) -> None:
    profile = Watched(finding=(FINDING,))
    assert refused(registry, submission(document(language="")), profile) == ["XDSRegistryMetadataError", FINDING.xds]


def test_warnings_do_not_refuse(registry: Registry) -> None:
    warning = Catalogue("registry")["V-REG-SUBMISSION-REPEATED"].at()
    profile = Watched(finding=(warning,), accept_repeat=True)
    whole = submission()
    assert register_by_message(registry, whole, profile) == (SUCCESS, [warning.xds])
    assert register_by_message(registry, whole, profile) == (SUCCESS, [warning.xds] * 2)
    assert len(find(registry).documents) == 1


def test_an_unknown_object(registry: Registry) -> None:
    text = messages.write_submit_objects(submission().objects)
    text = text.replace("</rim:RegistryObjectList>", "<rim:Federation id='x'/></rim:RegistryObjectList>")
    with pytest.raises(Refused) as caught:
        iti42(parse(text.encode()), Caller(), Exchange(), Services(registry, Watched()))
    (found,) = caught.value.findings
    assert (found.code, found.received, found.xds) == ("V-REG-UNKNOWN-OBJECT", "Federation", "XDSRegistryMetadataError")


def test_a_loose_classification_makes_a_set(registry: Registry) -> None:
    """Both forms are on the wire: nested, and standing alone with classifiedObject."""
    def bare(thing: RegistryObject) -> RegistryObject:
        return replace(thing, classifications=tuple(item for item in thing.classifications if not item.node))

    whole = submission()
    text = messages.write_submit_objects([bare(thing) for thing in whole.objects])
    loose = ("<rim:Classification id='c1' classifiedObject='Set01' "
             "classificationNode='urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd'/></rim:RegistryObjectList>")
    request = parse(text.replace("</rim:RegistryObjectList>", loose).encode())
    assert iti42(request, Caller(), Exchange(), Services(registry, Watched()))
    assert len(find(registry).documents) == 1


def test_the_exchange_tells_the_story(registry: Registry) -> None:
    exchange = Exchange()
    iti42(body(submission()), Caller(), exchange, Services(registry, Watched()))
    assert exchange.patient == PATIENT
    assert [name for name, _ in exchange.steps] == ["xds.ebxml", "profile", "rules", "registry"]


def test_the_patient_a_submission_is_about() -> None:
    assert patient_of(submission(document(patient_id=OTHER))) == PATIENT
    assert patient_of(submission(document(patient_id=OTHER), patient_id="")) == OTHER
    assert patient_of(Submission()) == ""


@pytest.mark.parametrize(("transaction", "expected"), [("ITI-41", "XDSRepositoryMetadataError"),
                                                       ("ITI-42", "XDSRegistryMetadataError")])
def test_who_found_bad_metadata(registry: Registry, transaction: str, expected: str) -> None:
    twice = submission(document(language="", unique_id="1.2.3"), document("Document02", unique_id="1.2.3"))
    with pytest.raises(Refused) as caught:
        check_submission(twice, Services(registry, Watched()), Caller(), transaction, {})
    assert [finding.xds for finding in caught.value.findings] == [
        expected, expected.replace("MetadataError", "DuplicateUniqueIdInMessage")]


# --- UUIDs of either case ------------------------------------------------------------------------------------------


def read_back(whole: Submission) -> Submission:
    return read_submission(messages.read_submit_objects(body(whole)))


def test_a_uuid_in_upper_case_is_the_same(registry: Registry) -> None:
    """The entry's id in one case, everything that names it in another."""
    whole = submission(document(UPPER), link(HAS_MEMBER, "Set01", UPPER.lower(), submission_set_status="Original"))
    objects = [thing for thing in whole.objects if thing.id != f"Member-{UPPER}"]
    mixed = [replace(thing, external_identifiers=tuple(
        replace(item, registry_object=UPPER.lower()) for item in thing.external_identifiers))
        if thing.id == UPPER else thing for thing in objects]
    assert register_by_message(registry, Submission(objects=tuple(mixed))) == (SUCCESS, [])
    assert find(registry).documents[0].id == UPPER.lower()


def test_only_what_names_the_object_is_in_upper_case(registry: Registry) -> None:
    whole = submission(document(UPPER.lower()))
    shouted = [replace(thing, classifications=tuple(
        replace(item, classified_object=UPPER) for item in thing.classifications))
        if thing.id == UPPER.lower() else thing for thing in whole.objects]
    assert register_by_message(registry, Submission(objects=tuple(shouted))) == (SUCCESS, [])


def test_two_ids_that_differ_in_case_only_are_one(registry: Registry) -> None:
    """Else one of the two documents would be lost without a word."""
    whole = submission(document(UPPER), document(UPPER.lower()))
    assert "XDSRegistryMetadataError" in refused(registry, whole)
    assert "V-REG-DUPLICATE-ID" in {finding.code for finding in problems(registry, whole)}


def problems(registry: Registry, whole: Submission) -> tuple[Finding, ...]:
    with pytest.raises(Refused) as caught:
        register_by_message(registry, whole)
    return caught.value.findings


def test_symbols_keep_their_case() -> None:
    whole = submission(document("Doc"), document("doc"))
    assert read_back(whole) == whole


# --- ITI-18 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters", "returns", "expected"), [
    ("FindDocuments", {"XDSDocumentEntryPatientId": quoted(PATIENT), "XDSDocumentEntryStatus": BOTH}, "LeafClass",
     ("search", PATIENT)),
    ("FindDocuments", {"XDSDocumentEntryPatientId": quoted(PATIENT), "XDSDocumentEntryStatus": BOTH}, "ObjectRef",
     ("search", PATIENT)),
    ("GetDocuments", {"XDSDocumentEntryUniqueId": "('1.2.3')"}, "LeafClass", ("search", "")),
    ("GetDocuments", {"XDSDocumentEntryUniqueId": "('1.2.3')"}, "ObjectRef", ("reference", "")),
])
def test_a_query_is_admitted_before_it_is_answered(registry: Registry, name: str, parameters: Any, returns: str,
                                                   expected: tuple[str, str]) -> None:
    put(registry, document(unique_id="1.2.3"))
    profile = Watched()
    told = ask_by_message(registry, name, profile, returns, **parameters)
    assert profile.asked == [expected]
    assert len(told.objects) + len(told.references) == 1
    with pytest.raises(Refused) as caught:
        ask_by_message(registry, name, Watched(refusing=(FINDING,)), returns, **parameters)
    assert caught.value.findings == (FINDING,)


def test_references_only(registry: Registry) -> None:
    put(registry, document(unique_id="1.2.3"))
    profile = Watched(gate=Gate(references_only=True))
    assert ask_by_message(registry, "GetDocuments", profile, "ObjectRef",
                          XDSDocumentEntryUniqueId="('1.2.3')").references
    with pytest.raises(Refused) as caught:
        ask_by_message(registry, "GetDocuments", profile, XDSDocumentEntryUniqueId="('1.2.3')")
    assert [found.code for found in caught.value.findings] == ["V-REG-REFERENCES-ONLY"]


def test_an_empty_answer_has_its_empty_list(registry: Registry) -> None:
    told = ask_by_message(registry, "FindDocuments", XDSDocumentEntryPatientId=quoted(STRANGER),
                          XDSDocumentEntryStatus=BOTH)
    assert (told.status, told.errors, told.objects, told.references) == (SUCCESS, (), (), ())


def test_a_refused_query_carries_the_codes_of_queries(registry: Registry) -> None:
    """Never a metadata error: those are for submissions (IPF#306)."""
    with pytest.raises(Refused) as caught:
        ask_by_message(registry, "FindDocuments", XDSDocumentEntryClassCode="x", XDSDocumentEntryTypeCodeScheme="y")
    assert caught.value.findings
    assert not [found for found in caught.value.findings if "Metadata" in found.xds]


# --- what comes back -----------------------------------------------------------------------------------------------


def test_extra_metadata_comes_back(registry: Registry) -> None:
    """Plan 12379: extra slots on entry, set, folder and association, with their order and types."""
    extra = (Slot("urn:example:extra", ("b", "a", "b"), "urn:type"), Slot("urn:example:other", ("<&>\"'",)))
    whole = submission(document(extra_slots=extra), folder(extra_slots=extra), the_set(extra_slots=extra),
                       link(HAS_MEMBER, "Folder01", "Document01", extra_slots=extra))
    assert register_by_message(registry, whole) == (SUCCESS, [])
    told = ask_by_message(registry, "GetAll", patientId=quoted(PATIENT), XDSDocumentEntryStatus=BOTH,
                          XDSSubmissionSetStatus=BOTH, XDSFolderStatus=BOTH)
    found = [thing for thing in told.objects if thing.slot("urn:example:extra") == ("b", "a", "b")]
    assert sorted(thing.kind for thing in found) == [
        "Association", "ExtrinsicObject", "RegistryPackage", "RegistryPackage"]
    for thing in found:
        assert [slot for slot in thing.slots if slot.name.startswith("urn:example")] == list(extra)


def test_an_extra_slot_named_like_one_of_ours_comes_back(registry: Registry) -> None:
    """lastUpdateTime is the registry's on folders only."""
    slot = Slot("lastUpdateTime", ("hier",))
    put(registry, document(extra_slots=(slot,)), the_set(extra_slots=(slot,)))
    assert find(registry).documents[0].extra_slots == (slot,)


def test_associations_come_back(registry: Registry) -> None:
    """Plan 12370: documentation; types, ends, PreviousVersion."""
    old = put(registry).ids["Document01"]
    relation = link(RPLC, "Document01", old, documentation=(code("MOTIF"),))
    ids = put(registry, document(), relation).ids
    told = ask_by_message(registry, "GetAssociations", uuid=listed(ids["Document01"]))
    assert {thing.object_type for thing in told.objects} == {rim.ASSOCIATION}
    (found,) = [thing for thing in told.objects if thing.association_type == RPLC]
    (documentation,) = found.in_scheme(rim.ASSOCIATION_DOCUMENTATION)
    assert (documentation.node_representation, documentation.classified_object) == ("MOTIF", found.id)
    (member,) = [thing for thing in told.objects if thing.association_type == HAS_MEMBER]
    assert member.slot("SubmissionSetStatus") == ("Original",)


def test_an_identifier_beside_the_patient_comes_back(registry: Registry) -> None:
    whole = submission(document(extra_identifiers=(ExternalIdentifier(
        "urn:uuid:00000000-0000-4000-8000-00000000000f", PATIENT, "Document01", "x"),)))
    assert register_by_message(registry, whole) == (SUCCESS, [])
    (entry,) = find(registry).documents
    assert [item.value for item in entry.extra_identifiers] == [PATIENT]
    assert entry.patient_id == PATIENT


def test_a_patient_identifier_comes_back_as_it_was_sent(registry: Registry) -> None:
    """Its fifth component is data of the profile."""
    for given in (PATIENT, PATIENT.removesuffix("^NH"), PATIENT.replace("^NH", "^PI")):
        put(registry, document(patient_id=given, unique_id=fresh_oid()), patient_id=given)
    assert {entry.patient_id for entry in find(registry).documents} == {
        PATIENT, PATIENT.removesuffix("^NH"), PATIENT.replace("^NH", "^PI")}


def test_the_namespace_of_an_answer_is_declared_once(registry: Registry) -> None:
    put(registry)
    request = parse(messages.write_query(query("FindDocuments", {
        "XDSDocumentEntryPatientId": quoted(PATIENT), "XDSDocumentEntryStatus": BOTH}, "LeafClass")).encode())
    answer = iti18(request, Caller(), Exchange(), Services(registry, Watched()))
    assert answer.body.count(RIM) == 1
