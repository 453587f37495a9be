"""A plain IHE client in the style of toolkits, for servers of profile `ihe`: no VIHF, metadata of its own making."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from registry import patients
from registry.patients import Traits
from tests.stories.client import Client, Lot, Reply, new_oid, now
from tests.stories.process import Server
from xds import ebxml, messages
from xds.messages import AdhocQuery, DocumentRequest
from xds.model import Association, Code, DocumentEntry, Folder, Submission, SubmissionSet
from xds.rim import Localized, Slot, localized
from xds.vocabulary import APPROVED, DEPRECATED, HAS_MEMBER

ASSIGNER = "1.3.6.1.4.1.21367.13.20.1000"
SCHEME = "1.3.6.1.4.1.21367.100.1"
STATUSES = (f"('{APPROVED}','{DEPRECATED}')",)
_TITLE = (Localized("Essai", "fr-FR"),)


def code(value: str, scheme: str = SCHEME) -> Code:
    """A code of an open list."""
    return Code(value, scheme, localized(f"Code {value}"))


def new_patient(server: Server, name: str) -> str:
    """A patient fed into the registry."""
    cx = f"{name}^^^&{ASSIGNER}&ISO"
    with server.database() as database, database.write() as connection:
        patients.feed(connection, [cx], Traits("ESSAI", name))
    return cx


def entry(patient: str, identity: str = "Document01", content: bytes | None = None, **changes: Any) -> DocumentEntry:
    """A DocumentEntry that is complete for ITI-42; hash and size are the content's, when there is one."""
    made = DocumentEntry(
        id=identity, unique_id=new_oid(), patient_id=patient, mime_type="text/plain", title=_TITLE,
        class_code=code("class"), type_code=code("type"), format_code=code("format"), facility_type=code("facility"),
        practice_setting=code("practice"), confidentiality=(code("N"),), creation_time="20260101120000",
        language="fr-FR", source_patient_id=patient, hash="a" * 40, size="11",
        repository_unique_id="1.3.6.1.4.1.21367.13.40.1")
    if content is not None:
        made = replace(made, hash=hashlib.sha1(content, usedforsecurity=False).hexdigest(), size=str(len(content)))
    return replace(made, **changes)


def folder(patient: str, identity: str = "Folder01", **changes: Any) -> Folder:
    """A folder."""
    return replace(Folder(id=identity, unique_id=new_oid(), patient_id=patient, title=_TITLE, codes=(code("folder"),)),
                   **changes)


def member(source: str, target: str, status: str = "Original", identity: str = "") -> Association:
    """A HasMember; `status` "" for one of a folder."""
    return Association(identity or f"Has-{source}-{target}", HAS_MEMBER, source, target, submission_set_status=status)


def submission(patient: str, *things: DocumentEntry | Folder | Association, set_changes: Mapping[str, Any] | None = None
               ) -> Submission:
    """A submission set with documents and folders, each its member, and further associations.

    A folder's members among these associations are members of the set as well, as the framework wants.
    """
    the_set = replace(SubmissionSet(
        id="SubmissionSet01", unique_id=new_oid(), source_id="1.3.6.1.4.1.21367.4", patient_id=patient,
        submission_time=f"{now():%Y%m%d%H%M%S}", content_type=code("content"), title=_TITLE), **(set_changes or {}))
    documents = [thing for thing in things if isinstance(thing, DocumentEntry)]
    folders = [thing for thing in things if isinstance(thing, Folder)]
    links = [thing for thing in things if isinstance(thing, Association)]
    own = [member(the_set.id, thing.id) for thing in documents]
    own += [member(the_set.id, thing.id, "") for thing in folders]
    own += [member(the_set.id, link.id, "") for link in links if link.type == HAS_MEMBER and link.source != the_set.id]
    return Submission((the_set,), tuple(documents), tuple(folders), (*own, *links))


def plain_lot(patient: str, *contents: bytes, **changes: Any) -> Lot:
    """Documents of any bytes for ITI-41."""
    made = [entry(patient, f"Document{number:02}", content, **changes) for number, content in enumerate(contents, 1)]
    return Lot(submission(patient, *made), {one.id: content for one, content in zip(made, contents, strict=True)})


@dataclass
class Toolkit:
    """Somebody who tests a registry and a repository over plain HTTP or TLS."""

    server: Server
    client: Client = field(init=False)
    door: str = "http"

    def __post_init__(self) -> None:
        self.client = Client(self.server, None, self.door, path="/xds/")

    def register(self, sent: Submission) -> Reply:
        """ITI-42."""
        return self.client.call("ITI-42", messages.write_submit_objects(ebxml.from_submission(sent)))

    def provide(self, lot: Lot) -> Reply:
        """ITI-41."""
        return self.client.send(lot, "")

    def query(self, identity: str, return_type: str = "LeafClass", **parameters: Sequence[str] | str) -> Reply:
        """ITI-18; parameter names without their dollar sign, values as they are written."""
        slots = tuple(Slot(f"${name}", (values,) if isinstance(values, str) else tuple(values))
                      for name, values in parameters.items())
        return self.client.call("ITI-18", messages.write_query(AdhocQuery(identity, "", return_type, slots)))

    def retrieve(self, *wanted: tuple[str, str]) -> Reply:
        """ITI-43 of (repositoryUniqueId, uniqueId)."""
        return self.client.call("ITI-43", messages.write_retrieve(DocumentRequest("", *one) for one in wanted))


def strings(values: Iterable[str]) -> str:
    """A list of strings as a stored query has it."""
    return "(" + ",".join(f"'{value}'" for value in values) + ")"
