"""Decisions on access as values, shared by whoever decides (a profile) and whoever applies (registry, repository)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xds.findings import Finding


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """What a decision on one document may look at; all of it stands in the document's own row."""

    type_code: str
    class_code: str
    confidentiality: frozenset[str]
    status: str
    authors: frozenset[str]
    object_type: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """What an admitted caller sees. Default: everything of everybody (plain IHE).

    `only_patient`: internal id; what belongs to others does not exist for this caller. `sees`: None sees all.
    `references_only`: ObjectRef answers, so that a structure can find what it fed. `findings`: warnings to journal.
    """

    only_patient: int | None = None
    sees: Callable[[DocumentFacts], bool] | None = None
    references_only: bool = False
    findings: tuple[Finding, ...] = ()


#: cx -> internal patient id, None for a patient who is not known
FindPatient = Callable[[str], int | None]
