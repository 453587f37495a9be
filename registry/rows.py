"""A submission as rows: everything that needs no look into the database is made before the transaction begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import insert as sql_insert

from journal.ids import bucket, new_id
from registry import claims, stored
from registry.claims import Claim
from registry.codes import NAMES, CodeBook, Key
from registry.patients import Patient
from registry.tables import (
    association,
    document,
    folder,
    identifier_claim,
    object_code,
    object_text,
    submission_set,
)
from xds import ebxml, hl7, rim
from xds.model import Association, Author, Code, DocumentEntry, Folder, Submission, SubmissionSet
from xds.rim import RegistryObject
from xds.vocabulary import APPROVED, ASSOCIATION_TYPES, DEPRECATED, OFFLINE, ON_DEMAND, STABLE

#: Names that every registry needs from the first day
BASIC_NAMES: tuple[Key, ...] = tuple((name, NAMES) for name in sorted(
    ASSOCIATION_TYPES | {APPROVED, DEPRECATED, STABLE, ON_DEMAND}))


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """What the repository kept of a document: opaque key, size in bytes, both digests (SHA-1 in hex)."""

    key: str
    size: int
    sha1: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """Resolved objects with their internal ids, and every code they use."""

    submission: Submission
    objects: Mapping[str, RegistryObject]
    internal: Mapping[str, int]
    ids: Mapping[str, str]
    stored: Mapping[str, StoredDocument]
    codes: frozenset[Key]
    now: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """What a new version of a logical object takes over: lid, number, status."""

    lid: str
    number: int
    status: str


def prepare(submission: Submission, documents: Mapping[str, StoredDocument], now: datetime,
            new_uuid: Callable[[], str], versions: Mapping[str, Version] | None = None) -> Prepared:
    """Give real ids (ITI TF-3 §4.1.12.3), status, lid and version to everything submitted.

    What `versions` names by submitted id is a further version; everything else is the first of its own.
    """
    resolved, ids = rim.resolve(submission.objects, new_uuid)
    further = {ids[symbol]: version for symbol, version in (versions or {}).items()}
    objects = {thing.id: _versioned(thing, further.get(thing.id)) for thing in resolved}
    typed = ebxml.to_submission(objects.values())
    kept = {ids[symbol]: document for symbol, document in documents.items()}
    return Prepared(typed, objects, {identity: new_id() for identity in objects}, ids, kept,
                    frozenset(_codes(typed)), now)


def _versioned(thing: RegistryObject, version: Version | None) -> RegistryObject:
    if version is None:
        return replace(thing, lid=thing.id, status=APPROVED, version="1")
    return replace(thing, lid=version.lid, status=version.status, version=str(version.number))


def insert(connection: Connection, prepared: Prepared, patient: Patient, book: CodeBook, fingerprint: bytes) -> None:
    """Write all rows of a prepared submission."""
    make = _Maker(prepared, patient, book)
    the_set = prepared.submission.submission_set
    _insert_all(connection, submission_set, [make.set_row(the_set, fingerprint)])
    _insert_all(connection, document, [make.document_row(entry) for entry in prepared.submission.documents])
    _insert_all(connection, folder, [make.folder_row(entry) for entry in prepared.submission.folders])
    _insert_all(connection, association, [make.association_row(link) for link in prepared.submission.associations])
    _insert_all(connection, object_code, list(make.code_rows()))
    _insert_all(connection, object_text, list(make.text_rows()))
    _insert_all(connection, identifier_claim, list(make.claim_rows()))


def _insert_all(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sql_insert(table), rows)


class _Maker:
    """Rows of one prepared submission for one patient."""

    def __init__(self, prepared: Prepared, patient: Patient, book: CodeBook) -> None:
        self.prepared, self.patient, self.book = prepared, patient, book
        self.bucket = bucket(patient.id)

    def common(self, identity: str) -> dict[str, Any]:
        thing = self.prepared.objects[identity]
        codec, xml = stored.pack(thing)
        return {"patient_id": self.patient.id, "id": self.prepared.internal[identity], "bucket": self.bucket,
                "uuid": identity, "lid": thing.lid, "version": int(thing.version), "current": 1,
                "status": self.book.id_of(thing.status), "home": thing.home, "codec": codec, "xml": xml}

    def set_row(self, entry: SubmissionSet, fingerprint: bytes) -> dict[str, Any]:
        return {**self.common(entry.id), "unique_id": entry.unique_id, "source_id": entry.source_id,
                "submission_time": hl7.DTM.parse(entry.submission_time).lower_bound,
                "content_type": self.code(entry.content_type), "fingerprint": fingerprint}

    def document_row(self, entry: DocumentEntry) -> dict[str, Any]:
        kept = self.prepared.stored.get(entry.id)
        return {
            **self.common(entry.id), "unique_id": entry.unique_id,
            "submission_set_id": self.prepared.internal[self.prepared.submission.submission_set.id],
            "object_type": self.book.id_of(entry.object_type), "mime_type": entry.mime_type,
            **{name: self.code(getattr(entry, name)) for name in SINGLE_CODES},
            "confidentiality": " ".join(code.code for code in entry.confidentiality),
            "authors": " ".join(sorted(_author_ids(entry.authors))),
            **{name: _time(getattr(entry, name)) for name in ("creation_time", "service_start", "service_stop")},
            "repository_unique_id": entry.repository_unique_id, "hash": entry.hash.lower(),
            "size": int(entry.size or 0), "storage_key": kept.key if kept else "",
            "sha256": kept.sha256 if kept else None,
            "registered": int(self.prepared.now.timestamp() * 1000), "offline": int(entry.availability == OFFLINE)}

    def folder_row(self, entry: Folder) -> dict[str, Any]:
        return {**self.common(entry.id), "unique_id": entry.unique_id, "last_update_time": stamp(self.prepared.now)}

    def association_row(self, link: Association) -> dict[str, Any]:
        return {**self.common(link.id), "type": self.book.id_of(link.type), "source": link.source,
                "target": link.target}

    def code_rows(self) -> Iterable[dict[str, Any]]:
        submission = self.prepared.submission
        several = [(entry.id, "e", entry.event_codes) for entry in submission.documents]
        several += [(entry.id, "c", entry.confidentiality) for entry in submission.documents]
        several += [(entry.id, "f", entry.codes) for entry in submission.folders]
        for identity, kind, codes in several:
            for code in {self.code(code) for code in codes}:
                yield {"patient_id": self.patient.id, "object_id": self.prepared.internal[identity], "kind": kind,
                       "code": code, "bucket": self.bucket}

    def text_rows(self) -> Iterable[dict[str, Any]]:
        submission = self.prepared.submission
        several = [(entry.id, "a", _persons(entry.authors)) for entry in submission.documents]
        several += [(entry.id, "a", _persons(entry.authors)) for entry in submission.sets]
        several += [(entry.id, "r", list(entry.reference_ids)) for entry in submission.documents]
        for identity, kind, values in several:
            for position, value in enumerate(values):
                yield {"patient_id": self.patient.id, "object_id": self.prepared.internal[identity], "kind": kind,
                       "position": position, "value": value, "bucket": self.bucket}

    def claim_rows(self) -> Iterable[dict[str, Any]]:
        submission = self.prepared.submission
        kinds = ((claims.SET, submission.sets), (claims.DOCUMENT, submission.documents),
                 (claims.FOLDER, submission.folders), (claims.ASSOCIATION, submission.associations))
        for kind, things in kinds:
            for thing in things:
                claim = Claim(kind, self.patient.id, self.prepared.internal[thing.id])
                yield claims.row(thing.id, claim)
                unique_id = getattr(thing, "unique_id", "")
                if unique_id:  # versions of one object share it
                    yield claims.row(unique_id, claim, exclusive=kind != claims.DOCUMENT and thing.version == "1")

    def code(self, code: Code | None) -> int:
        return self.book.id_of(code.code, code.scheme) if code else 0


SINGLE_CODES = ("class_code", "type_code", "format_code", "facility_type", "practice_setting")


def _codes(submission: Submission) -> Iterable[Key]:
    yield from BASIC_NAMES
    yield from ((link.type, NAMES) for link in submission.associations)
    for entry in submission.documents:
        singles = [getattr(entry, name) for name in SINGLE_CODES]
        for code in (*singles, *entry.event_codes, *entry.confidentiality):
            if code:
                yield code.code, code.scheme
    yield from ((entry.content_type.code, entry.content_type.scheme) for entry in submission.sets
                if entry.content_type)
    yield from ((code.code, code.scheme) for entry in submission.folders for code in entry.codes)


def _time(value: str) -> str:
    return hl7.DTM.parse(value).lower_bound if value else ""


def stamp(moment: datetime) -> str:
    """A moment as a DTM of 14 digits."""
    return moment.strftime("%Y%m%d%H%M%S")


def _persons(authors: Iterable[Author]) -> list[str]:
    return [person for author in authors for person in author.persons]


def _author_ids(authors: Iterable[Author]) -> set[str]:
    """Identifiers of the persons and structures who made a document: the author keeps access to it."""
    found: set[str] = set()
    for author in authors:
        found |= {person.partition("^")[0] for person in author.persons}
        found |= {institution.split("^")[9] for institution in author.institutions if institution.count("^") >= 9}
    return {identifier for identifier in found if identifier and " " not in identifier}
