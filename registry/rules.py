"""Metadata rules that need no database: a submission in, all its findings out (ITI TF-3 §4.1.4, §4.2).

Each rule is one small generator; `check` runs them all, because a vendor wants every fault at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from registry import formats
from registry.affinity import AffinityDomain
from registry.requirements import RULES, Requirements, kind_of, place
from registry.requirements import check as check_requirements
from xds import hl7, rim
from xds.ebxml import ASSOCIATION_SHAPE, DOCUMENT_SHAPE, FOLDER_SHAPE, SET_SHAPE, Shape
from xds.findings import Finding, Severity, Where
from xds.model import Submission
from xds.rim import RegistryObject
from xds.vocabulary import (
    APND,
    ASSOCIATION_DOCUMENTATION,
    HAS_MEMBER,
    IS_SNAPSHOT_OF,
    ON_DEMAND,
    RELATIONSHIPS,
    RPLC,
    SIGNS,
    STABLE,
    SUBMIT_ASSOCIATION,
    UPDATE_AVAILABILITY,
    XFRM,
    XFRM_RPLC,
)

PACKAGE_UNKNOWN = RULES["V-REG-PACKAGE-UNKNOWN"]
SET_NUMBER = RULES["V-REG-SET-NUMBER"]
SET_EMPTY = RULES["V-REG-SET-EMPTY"]
NOT_IN_SET = RULES["V-REG-NOT-IN-SET"]
SOURCE = RULES["V-REG-ASSOCIATION-SOURCE"]
TARGET = RULES["V-REG-ASSOCIATION-TARGET"]
SET_STATUS = RULES["V-REG-SET-STATUS"]
DOCUMENTATION = RULES["V-REG-DOCUMENTATION-MISPLACED"]
WRONG_TRANSACTION = RULES["V-REG-WRONG-TRANSACTION"]
OBJECT_TYPE = RULES["V-REG-OBJECT-TYPE"]
LOGICAL_ID = RULES["V-REG-LOGICAL-ID"]
PATIENTS_DIFFER = RULES["V-REG-PATIENTS-DIFFER"]
UNIQUE_ID_TWICE = RULES["V-REG-UNIQUE-ID-TWICE"]
DUPLICATE_ID = RULES["V-REG-DUPLICATE-ID"]
DUPLICATE_SLOT = RULES["V-REG-DUPLICATE-SLOT"]
EMPTY_SLOT = RULES["V-REG-EMPTY-SLOT"]
TOO_LONG = RULES["V-REG-VALUE-TOO-LONG"]
CLASSIFIED = RULES["V-REG-CLASSIFIED-OBJECT"]
CODE_UNKNOWN = RULES["V-REG-CODE-UNKNOWN"]
MIME_UNKNOWN = RULES["V-REG-MIME-UNKNOWN"]
TIMES = RULES["V-REG-TIMES-REVERSED"]

MAX_VALUE = 256  # characters of a slot value: rim.xsd LongName
DOCUMENTED = frozenset({RPLC, XFRM, XFRM_RPLC, APND})
ON_OLDER = frozenset({RPLC, XFRM_RPLC, IS_SNAPSHOT_OF})  # their target is in the registry already
UPDATES = frozenset({UPDATE_AVAILABILITY, SUBMIT_ASSOCIATION})
#: Transactions that register first versions, and the type of entry each takes
FIRST_VERSIONS = {"ITI-41": STABLE, "ITI-42": STABLE, "ITI-61": ON_DEMAND}
_SHAPES = {"DocumentEntry": DOCUMENT_SHAPE, "SubmissionSet": SET_SHAPE, "Folder": FOLDER_SHAPE,
           "Association": ASSOCIATION_SHAPE}


@dataclass(frozen=True, slots=True)
class Context:
    """What the rules of one transaction under one profile are made of."""

    transaction: str
    requirements: Requirements
    domain: AffinityDomain
    on_demand: Requirements | None = None  # where stable and on-demand entries may come: what the latter carry

    def requirements_of(self, thing: RegistryObject) -> Requirements:
        """What an object of the submission carries."""
        return self.on_demand if self.on_demand is not None and thing.object_type == ON_DEMAND else self.requirements


def check(submission: Submission, context: Context) -> list[Finding]:
    """All findings of a submission on its own, object by object and then as a whole."""
    findings: list[Finding] = []
    for thing in submission.objects:
        findings += check_requirements(thing, context.requirements_of(thing))
        findings += check_slots(thing)
        findings += check_parents(thing)
        findings += check_codes(thing, context.domain)
    findings += [finding for rule in RULES_OF_ALL for finding in rule(submission)]
    if context.transaction in FIRST_VERSIONS:
        findings += [*check_membership(submission), *check_associations(submission), *check_unique_ids(submission)]
    findings += check_mime_types(submission, context.domain)
    findings += check_transaction(submission, context.transaction)
    return findings


# --- one object ----------------------------------------------------------------------------------------------------


def check_slots(thing: RegistryObject) -> Iterator[Finding]:
    """Slot names are unique, none is empty, no value longer than rim.xsd allows."""
    for name, number in Counter(slot.name for slot in thing.slots).items():
        if number > 1:
            yield DUPLICATE_SLOT.at(place(thing, name), expected=1, received=name)
    for slot in thing.slots:
        if not any(slot.values):
            yield EMPTY_SLOT.at(place(thing, slot.name, slot.line), attribute=slot.name)
        longest = max(map(len, slot.values), default=0)
        if longest > MAX_VALUE:
            yield TOO_LONG.at(place(thing, slot.name, slot.line), expected=MAX_VALUE, received=longest,
                              attribute=slot.name)


def check_parents(thing: RegistryObject) -> Iterator[Finding]:
    """What is nested in an object names that object."""
    parents = [(item.classified_object, item.line) for item in thing.classifications]
    parents += [(item.registry_object, item.line) for item in thing.external_identifiers]
    for parent, line in parents:
        if parent and parent != thing.id:
            yield CLASSIFIED.at(place(thing, line=line), expected=thing.id, received=parent)


def check_codes(thing: RegistryObject, domain: AffinityDomain) -> Iterator[Finding]:
    """Codes against the lists of the affinity domain: complete lists refuse, others warn."""
    for scheme, _attribute, _number, name in _shape(thing).codes:
        known = domain.codes.get(name)
        if known is None:
            continue
        for item in thing.in_scheme(scheme):
            key = (item.node_representation, "".join(item.slot("codingScheme")[:1]))
            if key not in known.codes:
                finding = CODE_UNKNOWN.at(
                    place(thing, name, item.line), expected=", ".join(sorted(code for code, _ in known.codes)),
                    received="^^".join(key), attribute=name, domain=domain.name)
                yield finding if known.complete else _as_warning(finding)


def _shape(thing: RegistryObject) -> Shape:
    return _SHAPES.get(kind_of(thing), Shape((), (), ()))


def _as_warning(finding: Finding) -> Finding:
    return Finding(finding.rule, finding.where, finding.expected, finding.received, finding.values, Severity.WARNING)


# --- the whole submission ------------------------------------------------------------------------------------------


def check_ids(submission: Submission) -> Iterator[Finding]:
    """Ids of objects and of everything nested in them name one thing each."""
    counted = Counter(identity for thing in submission.objects for identity in rim.all_ids(thing) if identity)
    twice = {identity for identity, number in counted.items() if number > 1}
    for thing in submission.objects:
        for identity in twice.intersection(rim.all_ids(thing)):
            yield DUPLICATE_ID.at(place(thing), received=identity)
            twice.discard(identity)


def check_packages(submission: Submission) -> Iterator[Finding]:
    """Every RegistryPackage is a submission set or a folder."""
    for thing in submission.objects:
        if not kind_of(thing):
            yield PACKAGE_UNKNOWN.at(place(thing), received=thing.id)


def check_set(submission: Submission) -> Iterator[Finding]:
    """Exactly one submission set, with something in it (ITI TF-3 §4.1.4)."""
    if len(submission.sets) != 1:
        yield SET_NUMBER.at(expected=1, received=len(submission.sets))
    elif not (submission.documents or submission.folders or submission.associations):
        yield SET_EMPTY.at(_place(submission, submission.submission_set.id))


def check_membership(submission: Submission) -> Iterator[Finding]:
    """Documents, folders and folder-document links are the target of one HasMember from the set (§4.1.4.1)."""
    if len(submission.sets) != 1:
        return
    the_set = submission.submission_set.id
    members = Counter(link.target for link in submission.associations
                      if link.type == HAS_MEMBER and link.source == the_set)
    folder_links = [link.id for link in submission.associations if link.type == HAS_MEMBER and link.source != the_set]
    objects = [thing.id for thing in submission.documents] + [thing.id for thing in submission.folders]
    for identity in (*objects, *folder_links):
        if members[identity] != 1:
            yield NOT_IN_SET.at(_place(submission, identity), expected=1, received=identity, number=members[identity])


def check_associations(submission: Submission) -> Iterator[Finding]:
    """Where each type of association may start and lead to, as far as the request itself tells (ITI TF-3 §4.2.2)."""
    kinds = {thing.id: kind_of(thing) for thing in submission.objects}
    for link in submission.associations:
        short, source, target = link.type.rpartition(":")[2], kinds.get(link.source, ""), kinds.get(link.target, "")
        if expected := _other_source(link.type, source):
            yield SOURCE.at(_place(submission, link.id, "sourceObject"), expected=expected, received=link.source,
                            type=short)
        if expected := _other_target(link.type, source, target):
            yield TARGET.at(_place(submission, link.id, "targetObject"), expected=expected, received=link.target,
                            type=short)


def _other_source(association: str, kind: str) -> str:
    """What the source should have been; "" when it is right, or older and for `state` to look up."""
    if association in RELATIONSHIPS and kind != "DocumentEntry":
        # The new document is in this very request; only its target may be an older one.
        return "DocumentEntry (in the request)"
    return "SubmissionSet | Folder" if association == HAS_MEMBER and kind in {"DocumentEntry", "Association"} else ""


def _other_target(association: str, source: str, kind: str) -> str:
    """What the target should have been; "" when it is right, or older and for `state` to look up."""
    if kind == "SubmissionSet":
        return "" if association == SIGNS else "not the SubmissionSet"
    if kind == "DocumentEntry":
        return "DocumentEntry (in the registry)" if association in ON_OLDER else ""
    to_document = association in RELATIONSHIPS or (association == HAS_MEMBER and source in {"Folder", ""})
    return "DocumentEntry" if kind and to_document else ""


def check_set_status(submission: Submission) -> Iterator[Finding]:
    """SubmissionSetStatus stands on links from the set to documents, and says whether the target is new (§4.2.2.1)."""
    sets = {thing.id for thing in submission.sets}
    submitted = {thing.id for thing in submission.objects}
    documents = {thing.id for thing in submission.documents}
    for link in submission.associations:
        if link.type != HAS_MEMBER:
            continue
        where, given = _place(submission, link.id, "SubmissionSetStatus"), link.submission_set_status
        if link.source not in sets and given:
            yield SET_STATUS.at(where, expected="—", received=given)
        elif link.source in sets and link.target in documents and given != "Original":
            yield SET_STATUS.at(where, expected="Original", received=given)
        elif link.source in sets and link.target not in submitted and given != "Reference":
            yield SET_STATUS.at(where, expected="Reference", received=given)


def check_documentation(submission: Submission) -> Iterator[Finding]:
    """Documentation stands only on the four relationships of documents (ITI TF-3 §4.2.2.2.1)."""
    for thing in submission.objects:
        if thing.kind == "Association" and thing.association_type not in DOCUMENTED \
                and thing.in_scheme(ASSOCIATION_DOCUMENTATION):
            yield DOCUMENTATION.at(place(thing), type=thing.association_type.rpartition(":")[2])


def check_patients(submission: Submission) -> Iterator[Finding]:
    """One patient in one submission; compared before anyone asks whether that patient is known."""
    # What is no CX has its own finding, and is nobody's.
    given = [patient for patient in submission.patient_ids() if not formats.check("cx", patient)]
    for other in given[1:]:
        if not hl7.same_patient(given[0], other):
            yield PATIENTS_DIFFER.at(expected=given[0], received=other)


def check_unique_ids(submission: Submission) -> Iterator[Finding]:
    """No uniqueId twice in a request."""
    seen: set[str] = set()
    for identity, unique_id in unique_ids(submission):
        if unique_id and unique_id in seen:
            yield UNIQUE_ID_TWICE.at(_place(submission, identity, "uniqueId"), received=unique_id)
        seen.add(unique_id)


def unique_ids(submission: Submission) -> list[tuple[str, str]]:
    """(id, uniqueId) of set, documents and folders."""
    return [*((thing.id, thing.unique_id) for thing in submission.sets),
            *((thing.id, thing.unique_id) for thing in submission.documents),
            *((thing.id, thing.unique_id) for thing in submission.folders)]


def check_times(submission: Submission) -> Iterator[Finding]:
    """A service does not stop before it starts."""
    for entry in submission.documents:
        start, stop = entry.service_start, entry.service_stop
        if start.isdigit() and stop.isdigit() and start[:len(stop)] > stop[:len(start)]:
            yield TIMES.at(_place(submission, entry.id, "serviceStartTime"), expected=start, received=stop)


def check_mime_types(submission: Submission, domain: AffinityDomain) -> Iterator[Finding]:
    """Media types that the domain admits."""
    for entry in submission.documents:
        if domain.mime_types and entry.mime_type and entry.mime_type not in domain.mime_types:
            yield MIME_UNKNOWN.at(_place(submission, entry.id, "mimeType"),
                                  expected=", ".join(sorted(domain.mime_types)), received=entry.mime_type)


def check_transaction(submission: Submission, transaction: str) -> Iterator[Finding]:
    """Updates belong to ITI-57 (ITI TF-2 §3.57), on-demand entries to ITI-61, stable ones to ITI-41 and ITI-42."""
    if transaction not in FIRST_VERSIONS:
        return
    for link in submission.associations:
        if link.type in UPDATES:
            yield WRONG_TRANSACTION.at(_place(submission, link.id), received=link.type,
                                       type=link.type.rpartition(":")[2])
    for thing in submission.objects:
        if thing.lid and thing.lid != thing.id:
            yield LOGICAL_ID.at(place(thing, "logicalID"), expected=thing.id, received=thing.lid)
    registered = FIRST_VERSIONS[transaction]
    for entry in submission.documents:
        if entry.object_type in {STABLE, ON_DEMAND} - {registered}:
            yield OBJECT_TYPE.at(_place(submission, entry.id, "objectType"), expected=registered,
                                 received=entry.object_type)


#: Rules of every transaction that submits; what an update may link, and its uniqueIds, is for `registry.operations`
RULES_OF_ALL = (check_ids, check_packages, check_set, check_set_status, check_documentation, check_patients,
                check_times)


def _place(submission: Submission, identity: str, attribute: str = "") -> Where:
    thing = next((thing for thing in submission.objects if thing.id == identity), None)
    return place(thing, attribute) if thing else Where("metadata", path=identity)

