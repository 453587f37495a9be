"""A valid submission and its pieces, the ways to change them, and how to ask a registry; people are fictitious."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from registry import queries, requirements, rules
from registry.affinity import AffinityDomain
from registry.query_values import BY_ID
from registry.register import Registered, Registry, register
from security.access import Gate
from xds import ebxml, rim
from xds.findings import Finding
from xds.messages import AdhocQuery
from xds.model import Association, Author, Code, DocumentEntry, Folder, Submission, SubmissionSet
from xds.rim import RegistryObject, Slot, localized
from xds.vocabulary import APPROVED, DEPRECATED, HAS_MEMBER, RIM, RPLC
from xds.xml import parse

INS = "1.2.250.1.213.1.4.10"
PATIENT = f"299999999999945^^^&{INS}&ISO^NH"
OTHER = f"199999999999995^^^&{INS}&ISO^NH"
STRANGER = f"177777777777752^^^&{INS}&ISO^NH"  # never fed
DOMAIN = AffinityDomain("test", "1.2.3.4.5.9")
SOURCE = "1.2.3.4.5"
BOTH = f"('{APPROVED}','{DEPRECATED}')"
SHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"

_numbers = itertools.count(1)


def fresh_oid() -> str:
    """A uniqueId that no other object of this test run has."""
    return f"{SOURCE}.{next(_numbers)}"


def code(value: str, scheme: str = "1.2.3") -> Code:
    return Code(value, scheme, localized(f"Libellé de {value}"))


def person(name: str, identifier: str = "801234567897") -> str:
    return f"{identifier}^{name}^Camille^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"


AUTHOR = Author(persons=(person("EXEMPLE"),),
                institutions=("CABINET EXEMPLE^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1750000000",),
                roles=("Médecin",), specialties=("G15_10/SM54^Médecine générale^1.2.250.1.71.4.2.5",))


def document(identity: str = "Document01", **changes: Any) -> DocumentEntry:
    """A valid entry with every attribute that ITI-42 asks for, and some more."""
    entry = DocumentEntry(
        id=identity, unique_id=fresh_oid(), patient_id=PATIENT, mime_type="text/xml", title=localized("Lettre", "fr"),
        comments=localized("Sans objet"), authors=(AUTHOR,), class_code=code("11"), type_code=code("60591-5"),
        format_code=code("urn:example:vsm"), facility_type=code("SA07"), practice_setting=code("AMBULATOIRE"),
        confidentiality=(code("N"),), event_codes=(code("EXAMEN"),), creation_time="20250102030405", language="fr-FR",
        service_start="20250102", service_stop="20250103", legal_authenticator=person("VALIDEUR", "801234567889"),
        hash=SHA1, size="0", repository_unique_id=DOMAIN.repository_unique_id,
        source_patient_id="IPP1^^^&1.2.3.4&ISO^PI",
        source_patient_info=("PID-5|ESSAI^Camille^^^^^L", "PID-7|19580517", "PID-8|F"))
    return replace(entry, **changes)


def the_set(identity: str = "Set01", **changes: Any) -> SubmissionSet:
    entry = SubmissionSet(
        id=identity, unique_id=fresh_oid(), source_id=SOURCE, patient_id=PATIENT, submission_time="20250102030405",
        title=localized("Lot"), authors=(AUTHOR,), content_type=code("04"))
    return replace(entry, **changes)


def folder(identity: str = "Folder01", **changes: Any) -> Folder:
    entry = Folder(id=identity, unique_id=fresh_oid(), patient_id=PATIENT, title=localized("Classeur"),
                   codes=(code("SUIVI"),))
    return replace(entry, **changes)


def link(kind: str, source: str, target: str, identity: str = "", **changes: Any) -> Association:
    entry = Association(identity or f"Link{next(_numbers)}", kind, source, target)
    return replace(entry, **changes)


def holds(source: str, target: str, identity: str = "", **changes: Any) -> Association:
    """A HasMember of a folder (or of a set without SubmissionSetStatus)."""
    return link(HAS_MEMBER, source, target, identity, **changes)


def submission(*parts: DocumentEntry | Folder | Association | SubmissionSet, **of_set: Any) -> Submission:
    """The parts in a set: each document, folder and folder's HasMember gets its HasMember from the set.

    A part that is a HasMember of the set already stays the only one. Without parts: one document.
    """
    things = parts or (document(),)
    sets = [part for part in things if isinstance(part, SubmissionSet)] or [the_set(**of_set)]
    documents = tuple(part for part in things if isinstance(part, DocumentEntry))
    folders = tuple(part for part in things if isinstance(part, Folder))
    links = [part for part in things if isinstance(part, Association)]
    owner = sets[0].id
    held = {part.target for part in links if part.type == HAS_MEMBER and part.source == owner}
    inner = [part.id for part in links if part.type == HAS_MEMBER and part.source != owner]
    members = [holds(owner, entry.id, f"Member-{entry.id}", submission_set_status="Original") for entry in documents
               if entry.id not in held]
    members += [holds(owner, identity, f"Member-{identity}") for identity in (*(entry.id for entry in folders), *inner)
                if identity not in held]
    whole = Submission(tuple(sets), documents, folders, (*members, *links))
    return ebxml.to_submission(ebxml.from_submission(whole))


def changed(whole: Submission, change: Callable[[RegistryObject], RegistryObject | None]) -> Submission:
    """The submission with each ebRIM object changed; None takes it out."""
    things = [found for thing in whole.objects if (found := change(thing)) is not None]
    return ebxml.to_submission(things, whole.references)


def of_kind(whole: Submission, kind: str) -> RegistryObject:
    """The first object of that name in the framework ("DocumentEntry", …)."""
    return next(thing for thing in whole.objects if requirements.kind_of(thing) == kind)


def check(whole: Submission, transaction: str = "ITI-42", domain: AffinityDomain = DOMAIN) -> list[Finding]:
    """All metadata rules on a submission."""
    return rules.check(whole, rules.Context(transaction, requirements.load(transaction, "registry"), domain))


def shown(findings: list[Finding] | tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    """(code, path, XDS error code) of findings: what a test compares."""
    return [(finding.code, finding.where.path, finding.xds) for finding in findings]


# --- a registry and its answers ------------------------------------------------------------------------------------


def put(registry: Registry, *parts: DocumentEntry | Folder | Association | SubmissionSet, **of_set: Any) -> Registered:
    """Register the parts in a set, valid ones."""
    whole = submission(*parts, **of_set)
    assert shown(check(whole)) == []
    return register(registry, whole)


def replacing(old: str, identity: str = "Document01", kind: str = RPLC, **changes: Any) -> tuple[Any, ...]:
    """A new document and its relationship to an older one."""
    return document(identity, **changes), link(kind, identity, old)


@dataclass(frozen=True, slots=True)
class Told:
    """An answer read back from its own XML."""

    documents: list[DocumentEntry]
    sets: list[SubmissionSet]
    folders: list[Folder]
    associations: list[Association]
    refs: list[str]
    objects: list[RegistryObject]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Sets, documents, folders, associations."""
        return len(self.sets), len(self.documents), len(self.folders), len(self.associations)

    @property
    def uuids(self) -> set[str]:
        return {thing.id for thing in self.objects}


def read_answer(objects: str) -> Told:
    root = parse(f'<list xmlns:rim="{RIM}">{objects}</list>'.encode())
    things, references, unknown = rim.read_list(root)
    assert unknown == []
    whole = ebxml.to_submission(things)
    return Told(list(whole.documents), list(whole.sets), list(whole.folders), list(whole.associations),
                [reference.id for reference in references], things)


def query(name: str, parameters: Mapping[str, str | list[str]], returns: str = "LeafClass") -> AdhocQuery:
    """A stored query; the `$` of parameter names is left out, a list makes several slots of one name."""
    (identity,) = (known.id for known in BY_ID.values() if known.name == name)
    slots = [Slot(f"${parameter}", (text,)) for parameter, value in parameters.items()
             for text in ([value] if isinstance(value, str) else value)]
    return AdhocQuery(identity, return_type=returns, slots=tuple(slots))


def ask(registry: Registry, name: str, returns: str = "LeafClass", gate: Gate | None = None,
        **parameters: str | list[str]) -> Told:
    """The answer to a stored query, from its own text; counts agree with what was announced."""
    answer = queries.run(registry, query(name, parameters, returns), lambda _reader, _patient: gate or Gate())
    told = read_answer("".join(answer.objects))
    assert answer.count == len(told.refs) + len(told.objects)
    return told


def find(registry: Registry, returns: str = "LeafClass", patient: str = PATIENT, status: str = BOTH,
         **filters: str | list[str]) -> Told:
    """FindDocuments; the prefix `$XDSDocumentEntry` of filters is left out."""
    named = {f"XDSDocumentEntry{name}": value for name, value in filters.items()}
    return ask(registry, "FindDocuments", returns, XDSDocumentEntryPatientId=quoted(patient),
               XDSDocumentEntryStatus=status, **named)


def quoted(*values: str) -> str:
    """One value as `'…'`."""
    (value,) = values
    return "'" + value.replace("'", "''") + "'"


def listed(*values: str) -> str:
    """Values as `('…','…')`."""
    return "(" + ",".join(map(quoted, values)) + ")"


def get(registry: Registry, *uuids: str, returns: str = "LeafClass") -> Told:
    """GetDocuments by entryUUID."""
    return ask(registry, "GetDocuments", returns, XDSDocumentEntryEntryUUID=listed(*uuids))


def status_of(registry: Registry, uuid: str) -> str:
    """"Approved" or "Deprecated"."""
    (entry,) = get(registry, uuid).documents
    return entry.status.rpartition(":")[2]
