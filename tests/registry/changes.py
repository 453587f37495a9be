"""Requests that change what is registered: their pieces, and how they are sent, refused and looked at afterwards."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from sqlalchemy import select

from journal.exchanges import Exchange
from registry import tables
from registry.affinity import AffinityDomain
from registry.profile import PlainProfile
from registry.register import Registry, register
from registry.remove import remove
from registry.transactions import STORIES, Services
from registry.update import update
from security.access import Gate
from security.identity import Caller
from tests.registry.samples import (
    DOMAIN,
    Told,
    ask,
    check,
    document,
    folder,
    holds,
    link,
    listed,
    put,
    shown,
    submission,
    the_set,
)
from xds import ebxml, messages
from xds.findings import Finding, Refused
from xds.model import Association, DocumentEntry, Folder, Submission, SubmissionSet
from xds.rim import ObjectRef, Slot
from xds.vocabulary import APND, APPROVED, DEPRECATED, HAS_MEMBER, SUBMIT_ASSOCIATION, SUCCESS, UPDATE_AVAILABILITY
from xds.xml import parse

Part = DocumentEntry | Folder | Association | SubmissionSet
Entry = TypeVar("Entry", DocumentEntry, Folder)

SET = "Set01"
OTHERWISE = {APPROVED: DEPRECATED, DEPRECATED: APPROVED}
_numbers = itertools.count(1)


# --- pieces of a request -------------------------------------------------------------------------------------------


def again(entry: Entry, identity: str = "", **changes: Any) -> Entry:
    """A further version of what was registered, under an id of its own."""
    return replace(entry, **{"id": identity or f"Again{next(_numbers)}", "lid": entry.lid, "status": "", "version": "",
                             **changes})


def instead(entry: DocumentEntry | Folder, previous: str = "1", source: str = SET, **slots: str) -> Association:
    """The HasMember by which an entry takes the place of a version; slots as `AssociationPropagation="no"`."""
    return Association(f"Instead{next(_numbers)}", HAS_MEMBER, source, entry.id, submission_set_status="Original",
                       previous_version=previous, extra_slots=_slots(slots))


def restated(target: str, now: str, wanted: str = "", source: str = SET, **slots: str) -> Association:
    """The operation that gives an object another status; `now` is what it has."""
    given = {"OriginalStatus": now, "NewStatus": wanted or OTHERWISE[now], **slots}
    return Association(f"Restated{next(_numbers)}", UPDATE_AVAILABILITY, source, target, extra_slots=_slots(given))


def linked(link: Association, source: str = SET) -> Association:
    """The operation that submits a link between older objects."""
    return Association(f"Linked{next(_numbers)}", SUBMIT_ASSOCIATION, source, link.id)


def _slots(values: Mapping[str, str]) -> tuple[Slot, ...]:
    """"" leaves a slot out, `a|b` are two values."""
    return tuple(Slot(name, tuple(value.split("|"))) for name, value in values.items() if value)


def request(*parts: Part, **of_set: Any) -> Submission:
    """Exactly these parts, and a set unless there is one; nothing is linked that they do not link."""
    sets = tuple(part for part in parts if isinstance(part, SubmissionSet)) or (the_set(SET, **of_set),)
    return ebxml.to_submission(ebxml.from_submission(Submission(
        sets, tuple(part for part in parts if isinstance(part, DocumentEntry)),
        tuple(part for part in parts if isinstance(part, Folder)),
        tuple(part for part in parts if isinstance(part, Association)))))


# --- sending -------------------------------------------------------------------------------------------------------


def send(registry: Registry, *parts: Part, transaction: str = "ITI-57", gate: Gate | None = None,
         **of_set: Any) -> Mapping[str, str]:
    """Carry out a request that no rule objects to; submitted id -> entryUUID."""
    whole = request(*parts, **of_set)
    assert shown(check(whole, transaction)) == []
    return update(registry, whole, transaction == "ITI-92", gate)


def version(registry: Registry, entry: Entry, previous: str = "1", transaction: str = "ITI-57",
            slots: Mapping[str, str] | None = None, **changes: Any) -> Entry:
    """Send one further version of an entry; the entry as it is then read back."""
    new = again(entry, **changes)
    owner = {"patient_id": new.patient_id}
    uuid = send(registry, new, instead(new, previous, **(slots or {})), transaction=transaction, **owner)[new.id]
    return the(registry, uuid, type(entry))


def restate(registry: Registry, uuid: str, now: str = APPROVED, **of_set: Any) -> None:
    send(registry, restated(uuid, now), **of_set)


def message(registry: Registry, transaction: str, body: str, domain: AffinityDomain = DOMAIN) -> str:
    """Status of the answer to a message; Refused as the story raises it."""
    services = Services(registry, PlainProfile(domain))
    answer = STORIES[transaction](parse(body.encode()), Caller(), Exchange(), services)
    response = messages.read_registry_response(parse(answer.body.encode()))
    assert response.errors == ()
    return response.status


def refusal(registry: Registry, *parts: Part, transaction: str = "ITI-57", **of_set: Any) -> list[tuple[str, str, str]]:
    """(code, path, XDS code) of each finding on a message that changed nothing."""
    return shown(findings(registry, *parts, transaction=transaction, **of_set))


def codes(registry: Registry, *parts: Part, transaction: str = "ITI-57", **of_set: Any) -> list[str]:
    """XDS codes of a refused message that changed nothing."""
    return [finding.xds for finding in findings(registry, *parts, transaction=transaction, **of_set)]


def findings(registry: Registry, *parts: Part, transaction: str = "ITI-57", **of_set: Any) -> list[Finding]:
    body = messages.write_submit_objects(request(*parts, **of_set).objects)
    before = snapshot(registry)
    with pytest.raises(Refused) as caught:
        message(registry, transaction, body)
    assert snapshot(registry) == before
    for finding in caught.value.findings:
        told = finding.as_dict()
        assert finding.where.path or not finding.code.startswith("V-UPD"), "says where"
        assert "{" not in "".join(told[name] for name in ("fr", "en", "hint", "hint_en")), "all braces are filled"
    return list(caught.value.findings)


def accepted(registry: Registry, *parts: Part, transaction: str = "ITI-57", **of_set: Any) -> None:
    """Send a message; it is a success."""
    body = messages.write_submit_objects(request(*parts, **of_set).objects)
    assert message(registry, transaction, body) == SUCCESS


def removed(registry: Registry, *uuids: str, gate: Gate | None = None) -> None:
    remove(registry, [ObjectRef(uuid) for uuid in uuids], gate)


def not_removed(registry: Registry, *uuids: str) -> list[tuple[str, str]]:
    """(XDS code, path) of each finding on an ITI-62 that removed nothing."""
    before = snapshot(registry)
    with pytest.raises(Refused) as caught:
        message(registry, "ITI-62", messages.write_remove_objects([ObjectRef(uuid) for uuid in uuids]))
    assert snapshot(registry) == before
    return [(finding.xds, finding.where.path) for finding in caught.value.findings]


# --- what there is already -----------------------------------------------------------------------------------------


def one_entry(registry: Registry) -> DocumentEntry:
    """A document that is registered."""
    return doc(registry, put(registry).ids["Document01"])


def one_filed(registry: Registry) -> dict[str, str]:
    """A document in a folder, with an addendum that is not."""
    ids = put_with(registry, document(), folder(), holds("Folder01", "Document01", "In"))
    more = put_with(registry, document("Addendum"), link(APND, "Addendum", ids["Document01"], "To"))
    return {"D": ids["Document01"], "F": ids["Folder01"], "In": ids["In"], "A": more["Addendum"], "To": more["To"],
            "Set": ids["Set01"]}


# --- looking -------------------------------------------------------------------------------------------------------


def put_with(registry: Registry, *parts: Part, **of_set: Any) -> Mapping[str, str]:
    """Register parts; submitted id -> entryUUID, the links that were made for them too ("Document01-member")."""
    whole = submission(*parts, **of_set)
    assert shown(check(whole)) == []
    return register(registry, whole).ids


def the(registry: Registry, uuid: str, kind: type[Entry]) -> Entry:
    """One version of a document or folder, whichever it is."""
    name = "XDSDocumentEntryEntryUUID" if kind is DocumentEntry else "XDSFolderEntryUUID"
    told = ask(registry, "GetDocuments" if kind is DocumentEntry else "GetFolders", MetadataLevel="2",
               **{name: listed(uuid)})
    (one,) = told.documents if kind is DocumentEntry else told.folders
    assert isinstance(one, kind)
    return one


def doc(registry: Registry, uuid: str) -> DocumentEntry:
    return the(registry, uuid, DocumentEntry)


def fold(registry: Registry, uuid: str) -> Folder:
    return the(registry, uuid, Folder)


def versions(registry: Registry, lid: str) -> list[tuple[str, str, str]]:
    """(number, entryUUID, status) of all versions of a document, oldest first."""
    told = ask(registry, "GetDocuments", XDSDocumentEntryLogicalID=listed(lid), MetadataLevel="2")
    return sorted((one.version, one.id, one.status.rpartition(":")[2]) for one in told.documents)


def links(registry: Registry, uuid: str, statuses: tuple[str, ...] = (APPROVED,)) -> Told:
    """Associations of an object, at level 2."""
    return ask(registry, "GetAssociations", uuid=listed(uuid), MetadataLevel="2",
               XDSAssociationStatus=listed(*statuses))


def ends(registry: Registry, uuid: str, kind: str) -> set[tuple[str, str]]:
    """(source, target) of an object's links of a type, in force."""
    return {(one.source, one.target) for one in links(registry, uuid).associations if one.type == kind}


def snapshot(registry: Registry) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but the code book, which only grows and tells nothing."""
    with registry.database.read() as connection:
        return {name: sorted(map(tuple, connection.execute(select(table)).all()), key=repr)
                for name, table in tables.metadata.tables.items() if name != "code"}


def events(registry: Registry, kind: str) -> list[tuple[int, dict[str, Any]]]:
    """(patient, payload) of the outbox events of a kind, in their order."""
    table = tables.outbox.c
    with registry.database.read() as connection:
        return [(row.patient_id, json.loads(row.payload)) for row in connection.execute(
            select(table.patient_id, table.payload).where(table.kind == kind).order_by(table.id))]
