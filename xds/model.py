"""XDS.b metadata as values (ITI TF-3 §4.2): what every door of the house speaks.

Times are DTM texts as on the wire (`YYYY[MM[DD[hh[mm[ss]]]]]`, UTC), identifiers HL7 v2 texts (`xds.hl7` reads them),
an absent attribute is "" or (). What no attribute names is kept in `extra_…` and travels on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from xds.rim import Classification, ExternalIdentifier, ObjectRef, RegistryObject, Slot, Text, first
from xds.vocabulary import STABLE


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: code, coding scheme (OID or name), display name."""

    code: str
    scheme: str
    name: Text = ()
    extra_slots: tuple[Slot, ...] = ()

    @property
    def display(self) -> str:
        """Display name, "" when absent."""
        return first(self.name)

    def __str__(self) -> str:
        return f"{self.code}^^{self.scheme}"


@dataclass(frozen=True, slots=True)
class Author:
    """Who made it (ITI TF-3 §4.2.3.2.1). `persons` holds at most one XCN in a valid object."""

    persons: tuple[str, ...] = ()
    institutions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    specialties: tuple[str, ...] = ()
    telecommunications: tuple[str, ...] = ()
    extra_slots: tuple[Slot, ...] = ()

    @property
    def person(self) -> str:
        """The authorPerson, "" when absent."""
        return self.persons[0] if self.persons else ""


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """Metadata of one document."""

    id: str
    unique_id: str = ""
    patient_id: str = ""
    mime_type: str = ""
    object_type: str = STABLE
    lid: str = ""
    status: str = ""
    version: str = ""
    home: str = ""
    title: Text = ()
    comments: Text = ()
    authors: tuple[Author, ...] = ()
    class_code: Code | None = None
    type_code: Code | None = None
    format_code: Code | None = None
    facility_type: Code | None = None
    practice_setting: Code | None = None
    confidentiality: tuple[Code, ...] = ()
    event_codes: tuple[Code, ...] = ()
    creation_time: str = ""
    service_start: str = ""
    service_stop: str = ""
    language: str = ""
    legal_authenticator: str = ""
    hash: str = ""
    size: str = ""
    repository_unique_id: str = ""
    source_patient_id: str = ""
    source_patient_info: tuple[str, ...] = ()
    reference_ids: tuple[str, ...] = ()
    uri: tuple[str, ...] = ()
    availability: str = ""
    extra_slots: tuple[Slot, ...] = ()
    extra_classifications: tuple[Classification, ...] = ()
    extra_identifiers: tuple[ExternalIdentifier, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmissionSet:
    """Metadata of one act of submission."""

    id: str
    unique_id: str = ""
    source_id: str = ""
    patient_id: str = ""
    submission_time: str = ""
    lid: str = ""
    status: str = ""
    version: str = ""
    home: str = ""
    title: Text = ()
    comments: Text = ()
    authors: tuple[Author, ...] = ()
    content_type: Code | None = None
    intended_recipients: tuple[str, ...] = ()
    extra_slots: tuple[Slot, ...] = ()
    extra_classifications: tuple[Classification, ...] = ()
    extra_identifiers: tuple[ExternalIdentifier, ...] = ()


@dataclass(frozen=True, slots=True)
class Folder:
    """Metadata of one folder."""

    id: str
    unique_id: str = ""
    patient_id: str = ""
    lid: str = ""
    status: str = ""
    version: str = ""
    home: str = ""
    title: Text = ()
    comments: Text = ()
    codes: tuple[Code, ...] = ()
    last_update_time: str = ""
    extra_slots: tuple[Slot, ...] = ()
    extra_classifications: tuple[Classification, ...] = ()
    extra_identifiers: tuple[ExternalIdentifier, ...] = ()


@dataclass(frozen=True, slots=True)
class Association:
    """A link between two objects; `submission_set_status` is Original or Reference on HasMember of a set."""

    id: str
    type: str
    source: str
    target: str
    lid: str = ""
    status: str = ""
    version: str = ""
    home: str = ""
    submission_set_status: str = ""
    previous_version: str = ""
    documentation: tuple[Code, ...] = ()
    extra_slots: tuple[Slot, ...] = ()
    extra_classifications: tuple[Classification, ...] = ()


@dataclass(frozen=True, slots=True)
class Submission:
    """Everything of one request (ITI-41, 42, 57, 61, 92). `objects` is the same as it stood in ebRIM."""

    sets: tuple[SubmissionSet, ...] = ()
    documents: tuple[DocumentEntry, ...] = ()
    folders: tuple[Folder, ...] = ()
    associations: tuple[Association, ...] = ()
    references: tuple[ObjectRef, ...] = ()
    objects: tuple[RegistryObject, ...] = field(default=(), compare=False)

    @property
    def submission_set(self) -> SubmissionSet:
        """The submission set; only where rules made sure that there is exactly one."""
        return self.sets[0]

    def patient_ids(self) -> Iterator[str]:
        """Patient identifiers of set, documents and folders, as submitted."""
        yield from (thing.patient_id for thing in self.sets)
        yield from (thing.patient_id for thing in self.documents)
        yield from (thing.patient_id for thing in self.folders)


Metadata = DocumentEntry | SubmissionSet | Folder | Association
