"""Filters of subscriptions: written like stored queries, applied to objects as they are registered.

ITI TF-2 §3.52.5.2: an object matches when the stored query with the same parameters would find it. Here the object is
at hand, so that parameters are compared with its attributes; a test compares the outcome with the query's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from registry.query_values import Definition, Values, load, parse
from registry.requirements import RULES
from xds.dsub import FOLDER, FULL, MINIMAL, SUBMISSION_SET
from xds.findings import Finding, Refused, Where
from xds.messages import AdhocQuery
from xds.model import Author, Code, DocumentEntry, Folder, SubmissionSet
from xds.rim import Slot
from xds.vocabulary import STABLE

UNUSABLE = RULES["V-SUB-FILTER"]
PARAMETER = RULES["V-SUB-PARAMETER"]
TOPIC = RULES["V-SUB-TOPIC"]

FILTERS = load("subscription_filters.toml")
#: Topics that go with each filter (ITI TF-2 table 3.52.5.3-1)
TOPICS: Mapping[str, tuple[str, ...]] = {
    "DocumentEntry": (FULL, MINIMAL), "AnyDocumentEntry": (FULL, MINIMAL), "SubmissionSet": (SUBMISSION_SET,),
    "AnySubmissionSet": (SUBMISSION_SET,), "Folder": (FOLDER,)}

#: Name of a parameter -> values of an object that it is compared with
Facts = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter read."""

    definition: Definition
    values: Values

    @property
    def patient(self) -> str:
        """The patient it is about (CX), "" for any."""
        return next((lists[0][0] for name, lists in self.values.items()
                     if self.definition.parameters[name].type == "patient"), "")

    def admits(self, facts: Facts) -> bool:
        """Whether an object matches in all parameters but the patient: one value of each list at least (§3.52.5.3)."""
        asked = {**_UNASKED.get(self.definition.name, {}), **self.values}
        return all(any(self._same(name, wanted, fact) for wanted in one for fact in facts[name])
                   for name, lists in asked.items() if name in facts for one in lists)

    def _same(self, name: str, wanted: str, fact: str) -> bool:
        if self.definition.parameters[name].type == "like":
            return _pattern(wanted).fullmatch(fact) is not None
        return wanted == fact


#: What holds where a parameter is not given: stable documents only, as in ITI-18
_UNASKED: Mapping[str, Values] = {name: {"$XDSDocumentEntryType": ((STABLE,),)}
                                  for name in ("DocumentEntry", "AnyDocumentEntry")}


def read(query: AdhocQuery, topic: str) -> Filter:
    """The filter of a subscription; Refused with everything that is wrong with it, or with the topic beside it."""
    try:
        definition, values = parse(query.id, query.slots, FILTERS)
        problems = [*_unknown(definition, query.slots), *_topic(definition, topic)]
    except Refused as refused:
        problems = list(refused.findings)
    if problems:
        raise Refused([UNUSABLE.at(Where("query", query.line), received=query.id), *problems])
    return Filter(definition, values)


def _unknown(definition: Definition, slots: Iterable[Slot]) -> Iterator[Finding]:
    """Parameters that would be passed over in a query: here that would promise something else."""
    for slot in slots:
        if slot.name not in definition.parameters:
            yield PARAMETER.at(Where("query", slot.line, path=slot.name), received=slot.name,
                               expected=", ".join(definition.parameters))


def _topic(definition: Definition, topic: str) -> Iterator[Finding]:
    if topic not in TOPICS[definition.name]:
        yield TOPIC.at(Where("query", path="TopicExpression"), received=f"ihe:{topic}",
                       expected=" | ".join(f"ihe:{name}" for name in TOPICS[definition.name]))


@lru_cache(4096)
def _pattern(text: str) -> re.Pattern[str]:
    """A pattern of SQL LIKE: `%` any text, `_` any sign, no regard to case (§3.18.4.1.2.3.5).

    Each stretch between two `%` is looked for once, from the left: no pattern makes a search explode.
    """
    first, *others = ("".join("." if sign == "_" else re.escape(sign) for sign in part) for part in text.split("%"))
    if not others:
        return re.compile(first, re.IGNORECASE | re.DOTALL)
    inner = "".join(f"(?>.*?{part})" for part in others[:-1])
    return re.compile(f"{first}{inner}.*{others[-1]}", re.IGNORECASE | re.DOTALL)


# --- what objects are compared by ----------------------------------------------------------------------------------


def document_facts(entry: DocumentEntry) -> Facts:
    """Of a document."""
    prefix = "$XDSDocumentEntry"
    return {
        prefix + "Status": (entry.status,), prefix + "Type": (entry.object_type,),
        prefix + "ClassCode": _codes(entry.class_code), prefix + "TypeCode": _codes(entry.type_code),
        prefix + "PracticeSettingCode": _codes(entry.practice_setting),
        prefix + "HealthcareFacilityTypeCode": _codes(entry.facility_type),
        prefix + "FormatCode": _codes(entry.format_code), prefix + "EventCodeList": _codes(*entry.event_codes),
        prefix + "ConfidentialityCode": _codes(*entry.confidentiality),
        prefix + "AuthorPerson": _persons(entry.authors), prefix + "ReferenceIdList": entry.reference_ids}


def set_facts(entry: SubmissionSet) -> Facts:
    """Of a submission set."""
    prefix, persons = "$XDSSubmissionSet", _persons(entry.authors)
    return {prefix + "Status": (entry.status,), prefix + "SourceId": (entry.source_id,),
            prefix + "AuthorPerson": persons, prefix + "Author": persons,
            prefix + "IntendedRecipient": entry.intended_recipients}


def folder_facts(entry: Folder) -> Facts:
    """Of a folder."""
    prefix = "$XDSFolder"
    return {prefix + "Status": (entry.status,), prefix + "UniqueId": (entry.unique_id,),
            prefix + "CodeList": _codes(*entry.codes)}


def _codes(*codes: Code | None) -> tuple[str, ...]:
    return tuple(str(code) for code in codes if code is not None)


def _persons(authors: Iterable[Author]) -> tuple[str, ...]:
    return tuple(person for author in authors for person in author.persons)


#: Facts of an object by its kind in the registry's answers
FACTS: Mapping[type, Callable[..., Facts]] = {
    DocumentEntry: document_facts, SubmissionSet: set_facts, Folder: folder_facts}
