"""Every row of the requirement matrix: taken away, doubled, malformed, forbidden; one change, one finding."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources

import pytest

from registry import requirements
from registry.requirements import Requirement
from tests.registry.samples import (
    check,
    code,
    document,
    folder,
    holds,
    link,
    of_kind,
    person,
    shown,
    submission,
    the_set,
)
from xds import ebxml
from xds.model import Submission
from xds.rim import Classification, ExternalIdentifier, RegistryObject, Slot, localized
from xds.vocabulary import DOCUMENT, FOLDER, HAS_MEMBER, ON_DEMAND, ONLINE, RPLC, SUBMISSION_SET

TRANSACTIONS = ("ITI-41", "ITI-42", "ITI-61")
OLD = "urn:uuid:6c1b0c5e-0001-4000-8000-000000000001"
ERROR = "XDSRegistryMetadataError"

# --- the matrix against the framework's text -----------------------------------------------------------------------

#: Cardinalities as ITI TF-3 tables 4.2.3.1-1 to -3 give them, written down apart from `requirements.csv`:
#: attributes of one object that share a line of the table. R required, O optional, X forbidden; * several.
FRAMEWORK = """
DocumentEntry  R R R   entryUUID mimeType objectType classCode typeCode formatCode healthcareFacilityTypeCode
DocumentEntry  R R R   practiceSettingCode languageCode sourcePatientId patientId uniqueId
DocumentEntry  R* R* R*  confidentialityCode
DocumentEntry  O O O   title comments homeCommunityId serviceStartTime serviceStopTime documentAvailability
DocumentEntry  O* O* O*  author eventCodeList sourcePatientInfo referenceIdList URI
DocumentEntry  R R X   creationTime
DocumentEntry  O R X   hash size
DocumentEntry  O R R   repositoryUniqueId
DocumentEntry  O O X   legalAuthenticator
DocumentEntry  X X X   limitedMetadata
SubmissionSet  R R R   entryUUID contentTypeCode submissionTime patientId sourceId uniqueId
SubmissionSet  O O O   title comments
SubmissionSet  O* O* O*  author intendedRecipient
SubmissionSet  X X X   limitedMetadata
Folder         R R X   entryUUID title patientId uniqueId
Folder         R* R* X   codeList
Folder         O O X   comments lastUpdateTime
Folder         X X X   limitedMetadata
Association    R R R   entryUUID associationType sourceObject targetObject
Association    O O O   SubmissionSetStatus
Association    O* O* O*  associationDocumentation
"""
SIGNS = {"R": "1", "O": "0..1", "X": "0", "R*": "1..*", "O*": "0..*"}


def framework() -> dict[tuple[str, str], list[str]]:
    lines = [line.split() for line in FRAMEWORK.strip().splitlines()]
    return {(cells[0], attribute): [SIGNS[cell] for cell in cells[1:4]] for cells in lines for attribute in cells[4:]}


def rows() -> list[dict[str, str]]:
    text = resources.files("registry").joinpath("requirements.csv").read_text("utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def test_the_matrix_is_that_of_the_framework() -> None:
    ours = {(row["object"], row["attribute"]): [row[name] for name in TRANSACTIONS] for row in rows()}
    assert ours == framework()


def test_every_row_tells_its_clause() -> None:
    assert [row["attribute"] for row in rows() if not row["clause"].startswith("ITI TF-3")] == []


# --- a submission that carries everything --------------------------------------------------------------------------


def full(transaction: str) -> Submission:
    """Each attribute that the transaction allows, once at least."""
    entry = document(home="urn:oid:1.2.3.4", availability=ONLINE, uri=("lettre.xml",),
                     reference_ids=("A1^^^&1.2.3.4&ISO^urn:ihe:iti:xds:2013:accession",))
    old = link(RPLC, "Document01", OLD, "Relation", documentation=(code("MOTIF"),))
    a_set = the_set(comments=localized("Rien"), intended_recipients=("CABINET|" + person("LECTEUR"),))
    if transaction == "ITI-61":
        entry = replace(entry, object_type=ON_DEMAND, creation_time="", hash="", size="", legal_authenticator="")
        return submission(entry, a_set, old)
    return submission(entry, a_set, old, holds("Folder01", "Document01", "Inner"),
                      folder(comments=localized("Rien"), last_update_time="20250101"))


def subject(whole: Submission, row: Requirement) -> RegistryObject:
    """The object that carries the attribute of the row."""
    if row.attribute == "associationDocumentation":
        return next(thing for thing in whole.objects if thing.association_type == RPLC)
    if row.attribute == "SubmissionSetStatus":
        return next(thing for thing in whole.objects if thing.association_type == HAS_MEMBER)
    return of_kind(whole, row.object)


def cells(*carriers: str) -> Iterator[tuple[str, Requirement]]:
    for transaction in TRANSACTIONS:
        for kind, found in requirements.load(transaction, "registry").items():
            if (kind, transaction) != ("Folder", "ITI-61"):
                yield from ((transaction, row) for row in found if row.carrier in carriers)


def named(value: object) -> str:
    return f"{value.object}.{value.attribute}" if isinstance(value, Requirement) else str(value)


EVERY = list(cells("slot", "identifier", "classification", "attribute", "name", "description"))
COUNTED = list(cells("slot", "identifier", "classification"))


def found_in(thing: RegistryObject, transaction: str) -> list[tuple[str, str, str]]:
    return shown(list(requirements.check(thing, requirements.load(transaction, "registry"))))


def finding(rule: str, thing: RegistryObject, row: Requirement) -> tuple[str, str, str]:
    """What is expected: the rule, at this attribute of this object."""
    return f"V-REG-ATTRIBUTE-{rule}", f"{row.object}({thing.id})/{row.attribute}", ERROR


@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_a_full_submission_has_no_finding(transaction: str) -> None:
    assert shown(check(full(transaction), transaction)) == []


def test_a_full_submission_carries_every_attribute() -> None:
    """Else taking one away would prove nothing."""
    empty = [named(row) for transaction, row in EVERY if row.most and not taken(transaction, row)]
    assert empty == []


def taken(transaction: str, row: Requirement) -> bool:
    """Whether the sample changes when the attribute is taken away."""
    thing = subject(full(transaction), row)
    return without(thing, row) != thing


# --- changes -------------------------------------------------------------------------------------------------------


def without(thing: RegistryObject, row: Requirement) -> RegistryObject:
    match row.carrier:
        case "slot":
            return replace(thing, slots=tuple(slot for slot in thing.slots if slot.name != row.key))
        case "identifier":
            return replace(thing, external_identifiers=tuple(
                item for item in thing.external_identifiers if item.scheme != row.key))
        case "classification":
            return replace(thing, classifications=tuple(
                item for item in thing.classifications if item.scheme != row.key))
        case "name":
            return replace(thing, name=())
        case "description":
            return replace(thing, description=())
    return replace(thing, **{row.key: ""})


def twice(thing: RegistryObject, row: Requirement) -> RegistryObject:
    """One value more of what is there (two, where nothing was)."""
    match row.carrier:
        case "slot":
            return replace(thing, slots=tuple(replace(slot, values=slot.values * 2) if slot.name == row.key else slot
                                              for slot in thing.slots))
        case "identifier":
            more = [replace(item, id="Again") for item in thing.identifiers(row.key)]
            return replace(thing, external_identifiers=(*thing.external_identifiers, *more))
    more_codes = [replace(item, id="Again") for item in thing.in_scheme(row.key)[:1]]
    return replace(thing, classifications=(*thing.classifications, *more_codes))


def with_one(thing: RegistryObject, row: Requirement, value: str) -> RegistryObject:
    """The attribute with one value, whatever stood there."""
    bare = without(thing, row)
    match row.carrier:
        case "slot":
            return replace(bare, slots=(*bare.slots, Slot(row.key, (value,))))
        case "identifier":
            return replace(bare, external_identifiers=(*bare.external_identifiers,
                                                       ExternalIdentifier(row.key, value, thing.id, "New")))
        case "classification":
            return replace(bare, classifications=(*bare.classifications, Classification(
                row.key, node_representation=value, classified_object=thing.id, id="New")))
        case "name":
            return replace(bare, name=localized(value))
    return replace(bare, **{row.key: value})


@pytest.mark.parametrize(("transaction", "row"), EVERY, ids=named)
def test_taken_away(transaction: str, row: Requirement) -> None:
    thing = without(subject(full(transaction), row), row)
    assert found_in(thing, transaction) == ([finding("MISSING", thing, row)] if row.least else [])


@pytest.mark.parametrize(("transaction", "row"), [cell for cell in COUNTED if cell[1].most], ids=named)
def test_doubled(transaction: str, row: Requirement) -> None:
    thing = twice(subject(full(transaction), row), row)
    assert found_in(thing, transaction) == ([finding("TOO-MANY", thing, row)] if row.most == 1 else [])


@pytest.mark.parametrize(("transaction", "row"), [cell for cell in EVERY if not cell[1].most], ids=named)
def test_forbidden(transaction: str, row: Requirement) -> None:
    good = {"creationTime": "2025", "hash": "0" * 40, "size": "1", "legalAuthenticator": "1^NOM"}
    thing = with_one(subject(full(transaction), row), row, good.get(row.attribute, "limited"))
    assert found_in(thing, transaction) == [finding("FORBIDDEN", thing, row)]


#: A wrong value for each format; `any` and `text` take everything.
WRONG = {
    "id": "urn:uuid:123", "mime": "text", "object_type": "urn:uuid:7edca82f", "home": "1.2.3", "title": "x" * 256,
    "author": "x", "code": "", "dtm": "2025-01-02", "language": "français", "xcn": "^^Camille", "cx": "123",
    "pid": "PID-4|x", "sha1": "abc", "size": "-1", "oid": "1.02", "cxi": "A1", "availability": "Online",
    "unique_id": "abc", "recipient": "|", "association_type": "RPLC", "membership": "original"}


@pytest.mark.parametrize(("transaction", "row"), [
    cell for cell in EVERY if cell[1].most and cell[1].format not in ("any", "text")], ids=named)
def test_malformed(transaction: str, row: Requirement) -> None:
    thing = with_one(subject(full(transaction), row), row, WRONG[row.format])
    assert found_in(thing, transaction) == [finding("MALFORMED", thing, row)]


# --- the same through the door: all rules together -----------------------------------------------------------------

#: Attributes by which objects find one another: without them other rules speak too, and rightly.
TIES = {"entryUUID", "sourceObject", "targetObject", "associationType", "SubmissionSetStatus", "patientId"}


@pytest.mark.parametrize("row", [row for transaction, row in EVERY if transaction == "ITI-42"], ids=named)
def test_a_submission_without_it(row: Requirement) -> None:
    whole = full("ITI-42")
    thing = subject(whole, row)
    poor = ebxml.to_submission([without(item, row) if item is thing else item for item in whole.objects])
    found = shown(check(poor))
    expected = [finding("MISSING", without(thing, row), row)] if row.least else []
    assert set(expected) <= set(found)
    assert found == expected or row.attribute in TIES


#: A sample of what is expected, object by object, written by hand so that the matrix is not its own judge.
BY_HAND = [
    (DOCUMENT.class_code, "DocumentEntry", "classCode"), (DOCUMENT.type_code, "DocumentEntry", "typeCode"),
    (DOCUMENT.format_code, "DocumentEntry", "formatCode"),
    (DOCUMENT.facility_type, "DocumentEntry", "healthcareFacilityTypeCode"),
    (DOCUMENT.practice_setting, "DocumentEntry", "practiceSettingCode"),
    (DOCUMENT.confidentiality, "DocumentEntry", "confidentialityCode"),
    (DOCUMENT.unique_id, "DocumentEntry", "uniqueId"),
    ("creationTime", "DocumentEntry", "creationTime"), ("languageCode", "DocumentEntry", "languageCode"),
    ("sourcePatientId", "DocumentEntry", "sourcePatientId"), ("hash", "DocumentEntry", "hash"),
    ("size", "DocumentEntry", "size"), ("repositoryUniqueId", "DocumentEntry", "repositoryUniqueId"),
    (SUBMISSION_SET.content_type, "SubmissionSet", "contentTypeCode"),
    (SUBMISSION_SET.source_id, "SubmissionSet", "sourceId"), (SUBMISSION_SET.unique_id, "SubmissionSet", "uniqueId"),
    ("submissionTime", "SubmissionSet", "submissionTime"), (FOLDER.codes, "Folder", "codeList"),
    (FOLDER.unique_id, "Folder", "uniqueId"),
]


def stripped(thing: RegistryObject, key: str) -> RegistryObject:
    return replace(
        thing, slots=tuple(slot for slot in thing.slots if slot.name != key),
        classifications=tuple(item for item in thing.classifications if item.scheme != key),
        external_identifiers=tuple(item for item in thing.external_identifiers if item.scheme != key))


@pytest.mark.parametrize(("key", "kind", "attribute"), BY_HAND)
def test_by_hand(key: str, kind: str, attribute: str) -> None:
    whole = full("ITI-42")
    found = check(ebxml.to_submission([stripped(thing, key) for thing in whole.objects]))
    identity = of_kind(whole, kind).id
    assert shown(found) == [("V-REG-ATTRIBUTE-MISSING", f"{kind}({identity})/{attribute}", ERROR)]
    assert found[0].received == "0"
    assert found[0].expected in {"1", "1..*"}
    assert f"{kind}.{attribute}" in found[0].fr
    assert f"{kind}.{attribute}" in found[0].en


def test_every_fault_is_told_at_once() -> None:
    bare = submission(document(class_code=None, hash="", language="x" * 9), content_type=None)
    assert [path for _, path, _ in shown(check(bare))] == [
        "DocumentEntry(Document01)/classCode", "DocumentEntry(Document01)/languageCode",
        "DocumentEntry(Document01)/hash", "SubmissionSet(Set01)/contentTypeCode"]


def test_a_finding_tells_the_line() -> None:
    thing = of_kind(submission(), "DocumentEntry")
    slots = tuple(replace(slot, values=("x",), line=77) if slot.name == "size" else slot for slot in thing.slots)
    (found,) = requirements.check(replace(thing, slots=slots), requirements.load("ITI-42", "registry"))
    assert (found.where.line, found.where.part) == (77, "metadata")
    (found,) = requirements.check(replace(stripped(thing, "size"), line=12), requirements.load("ITI-42", "registry"))
    assert found.where.line == 12


# --- the file ------------------------------------------------------------------------------------------------------


def test_a_profile_overrides_cell_by_cell() -> None:
    plain, french = (requirements.load("ITI-42", *rooms) for rooms in (("registry",), ("registry", "dmp")))
    title = {kind: next(row for row in matrix["DocumentEntry"] if row.attribute == "title")
             for kind, matrix in (("ihe", plain), ("dmp", french))}
    assert (title["ihe"].least, title["dmp"].least) == (0, 1)
    assert replace(title["dmp"], least=0, clause=title["ihe"].clause) == title["ihe"]
    confidentiality = next(row for row in french["DocumentEntry"] if row.attribute == "confidentialityCode")
    assert (confidentiality.least, confidentiality.most) == (1, 4)


def test_the_dmp_asks_for_more() -> None:
    poor = document(authors=(), legal_authenticator="", title=(), service_start="", service_stop="")
    context_rows = requirements.load("ITI-42", "registry", "dmp")
    whole = submission(poor, authors=())
    missing = {f"{requirements.kind_of(thing)}.{finding.where.path.rpartition('/')[2]}" for thing in whole.objects
               for finding in requirements.check(thing, context_rows)}
    assert missing == {"DocumentEntry.author", "DocumentEntry.legalAuthenticator", "DocumentEntry.title",
                       "DocumentEntry.serviceStartTime", "SubmissionSet.author"}
    assert shown(check(whole)) == []


BAD_CELL = "object,attribute,carrier,key,format,ITI-41,ITI-42,ITI-61,clause\nDocumentEntry,x,slot,x,{},1,{},1,c\n"


@pytest.mark.parametrize(("format_name", "cardinality"), [("nothing", "1"), ("text", "many"), ("text", "1..0x")])
def test_a_bad_cell_fails_by_name(tmp_path, monkeypatch, format_name: str, cardinality: str) -> None:
    (tmp_path / "requirements.csv").write_text(BAD_CELL.format(format_name, cardinality))
    monkeypatch.setattr(requirements.resources, "files", lambda _package: tmp_path)
    with pytest.raises(ValueError, match=r"DocumentEntry\.x"):
        requirements.load("ITI-42", "registry")


def test_a_row_with_a_cell_too_few_fails_by_number(tmp_path, monkeypatch) -> None:
    (tmp_path / "requirements.csv").write_text(BAD_CELL.replace(",1,c", ""))
    monkeypatch.setattr(requirements.resources, "files", lambda _package: tmp_path)
    with pytest.raises(ValueError, match="row 2"):
        requirements.load("ITI-42", "registry")
