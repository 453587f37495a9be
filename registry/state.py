"""Checks of a submission against what the registry holds (ITI TF-3 §4.1, table 4.2.4.1-2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from registry import claims
from registry.claims import Claim
from registry.codes import CodeBook
from registry.patients import Patient
from registry.requirements import RULES, place
from registry.rules import unique_ids
from registry.tables import association, document, folder, submission_set
from xds import rim
from xds.findings import Finding, Where
from xds.model import Association, Submission
from xds.vocabulary import APPROVED, HAS_MEMBER, IS_SNAPSHOT_OF, ON_DEMAND, RELATIONSHIPS, SIGNS

UNIQUE_ID_USED = RULES["V-REG-UNIQUE-ID-USED"]
HASH_DIFFERS = RULES["V-REG-HASH-DIFFERS"]
SIZE_DIFFERS = RULES["V-REG-SIZE-DIFFERS"]
UUID_USED = RULES["V-REG-UUID-USED"]
UNRESOLVED = RULES["V-REG-REFERENCE-UNRESOLVED"]
OTHER_PATIENT = RULES["V-REG-PATIENT-OF-LINK"]
DEPRECATED_TARGET = RULES["V-REG-TARGET-DEPRECATED"]
SOURCE = RULES["V-REG-ASSOCIATION-SOURCE"]
TARGET = RULES["V-REG-ASSOCIATION-TARGET"]

TABLES = {claims.DOCUMENT: document, claims.SET: submission_set, claims.FOLDER: folder,
          claims.ASSOCIATION: association}
NAMES = {claims.DOCUMENT: "DocumentEntry", claims.SET: "SubmissionSet", claims.FOLDER: "Folder"}
IN_FORCE = frozenset({claims.DOCUMENT, claims.FOLDER})  # what is linked to must be Approved; a set always is
#: Kinds of older objects at each end of a link, by type of association; "set": the target of the submission set's own
#: HasMember. What is not here is not for ITI-42 to judge (ITI TF-3 §4.2.2).
KINDS = {
    (HAS_MEMBER, "sourceObject"): claims.FOLDER,
    (HAS_MEMBER, "targetObject"): claims.DOCUMENT,
    (HAS_MEMBER, "set"): claims.DOCUMENT + claims.FOLDER,
    (SIGNS, "targetObject"): claims.DOCUMENT + claims.SET,
    **{(name, "targetObject"): claims.DOCUMENT for name in RELATIONSHIPS - {SIGNS}},
}


@dataclass(frozen=True, slots=True)
class Known:
    """What the registry holds of the identifiers that a submission names."""

    claims: dict[str, list[Claim]]
    rows: dict[str, tuple[Claim, Row[Any]]]


def look_up(connection: Connection, submission: Submission) -> Known:
    """One pass over the directory and the rows behind it, for everything the checks and effects need."""
    named = {thing.id.lower() for thing in submission.objects if rim.is_uuid_urn(thing.id)}
    named |= {end.lower() for link in submission.associations for end in (link.source, link.target)
              if rim.is_uuid_urn(end)}
    named |= {unique_id for _, unique_id in unique_ids(submission)}
    found = claims.find(connection, named - {""})
    rows: dict[str, tuple[Claim, Row[Any]]] = {}
    for identifier, holders in found.items():
        row = read(connection, holders[0])
        if row is not None:
            rows[identifier] = (holders[0], row)
    return Known(found, rows)


def read(connection: Connection, claim: Claim) -> Row[Any] | None:
    """The row a claim leads to."""
    table = TABLES[claim.kind]
    return connection.execute(select(table).where(
        table.c.patient_id == claim.patient_id, table.c.id == claim.object_id)).first()


def check(connection: Connection, submission: Submission, patient: Patient, known: Known,
          book: CodeBook) -> Iterator[Finding]:
    """Everything in a submission that what is already there forbids."""
    yield from check_unique_ids(submission, known)
    yield from check_uuids(submission, known)
    for link in submission.associations:
        yield from check_link(connection, submission, link, patient, known, book)


def check_unique_ids(submission: Submission, known: Known) -> Iterator[Finding]:
    """Sets and folders need fresh uniqueIds; a document may come again with the same content (§4.1.4, §4.2.3.2.31)."""
    documents = {entry.id for entry in submission.documents}
    for identity, unique_id in unique_ids(submission):
        if identity not in documents and unique_id in known.claims:
            yield UNIQUE_ID_USED.at(_where(submission, identity, "uniqueId"), received=unique_id)
    for entry in submission.documents:
        if entry.unique_id not in known.rows:
            continue
        claim, row = known.rows[entry.unique_id]
        where = _where(submission, entry.id, "uniqueId")
        if claim.kind != claims.DOCUMENT:
            yield UNIQUE_ID_USED.at(where, received=entry.unique_id)
        elif entry.hash.lower() != row.hash:
            yield HASH_DIFFERS.at(where, expected=row.hash, received=entry.hash, unique_id=entry.unique_id)
        elif entry.size and int(entry.size) != row.size:
            yield SIZE_DIFFERS.at(where, expected=row.size, received=entry.size, unique_id=entry.unique_id)


def check_uuids(submission: Submission, known: Known) -> Iterator[Finding]:
    """A real UUID given by the source is not there yet."""
    for thing in submission.objects:
        # A symbol may be any text, even somebody's uniqueId.
        if rim.is_uuid_urn(thing.id) and thing.id.lower() in known.claims:
            yield UUID_USED.at(place(thing, "entryUUID"), received=thing.id)


def check_link(connection: Connection, submission: Submission, link: Association, patient: Patient, known: Known,
               book: CodeBook) -> Iterator[Finding]:
    """Both ends exist, are of this patient, are what the type of link joins, and are in force where that counts."""
    submitted = {thing.id for thing in submission.objects}
    for attribute, end in (("sourceObject", link.source), ("targetObject", link.target)):
        if end in submitted or not end:
            continue
        where = _where(submission, link.id, attribute)
        if not rim.is_uuid_urn(end) or end.lower() not in known.rows:
            yield UNRESOLVED.at(where, received=end)
            continue
        claim, row = known.rows[end.lower()]
        by_set = link.source == submission.submission_set.id
        expected = KINDS.get((link.type, "set" if by_set else attribute), "")
        if claim.patient_id not in patient.ids:
            yield OTHER_PATIENT.at(where, received=end)
        elif expected and claim.kind not in expected:
            rule = SOURCE if attribute == "sourceObject" else TARGET
            yield rule.at(where, expected=" | ".join(NAMES[kind] for kind in expected), received=end,
                          type=link.type.rpartition(":")[2])
        elif link.type == IS_SNAPSHOT_OF and book.text_of(connection, row.object_type) != ON_DEMAND:
            yield TARGET.at(where, expected="DocumentEntry (on demand)", received=end, type="IsSnapshotOf")
        elif expected and claim.kind in IN_FORCE and book.text_of(connection, row.status) != APPROVED:
            yield DEPRECATED_TARGET.at(where, expected="Approved", received=end)


def _where(submission: Submission, identity: str, attribute: str) -> Where:
    thing = next((thing for thing in submission.objects if thing.id == identity), None)
    return place(thing, attribute) if thing else Where("metadata", path=f"{identity}/{attribute}")
