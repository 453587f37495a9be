"""What a profile decides: which transactions exist, who may do what, which rules stand on top of IHE's.

The registry knows this shape only; `dmp.profile` fills it with the French rules, `PlainProfile` below with none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection

from registry import requirements
from registry.affinity import AffinityDomain
from registry.requirements import Requirements
from security.access import FindPatient, Gate
from security.identity import Caller
from xds.findings import Finding
from xds.model import Submission

#: Reads a submitted document, by its symbolic id
Contents = Mapping[str, Callable[[], bytes]]


class Profile(Protocol):
    """The questions a transaction asks; refusals are raised as Refused."""

    @property
    def name(self) -> str:
        """Name of the profile: "ihe", "dmp"."""

    @property
    def domain(self) -> AffinityDomain:
        """Codes, patient authorities and repository of the community."""

    @property
    def accept_repeat(self) -> bool:
        """Whether a submission set that comes again with the same content is answered with its first success."""

    def requirements(self, transaction: str) -> Requirements:
        """The requirement matrix of a transaction."""

    def admit(self, connection: Connection, caller: Caller, action: str, patient: str, find: FindPatient) -> Gate:
        """May this caller do `action` ("feed", "search", "retrieve", …) on the patient named ("" none named)?"""

    def check(self, submission: Submission, contents: Contents, caller: Caller) -> Iterable[Finding]:
        """Rules on top of IHE's, on metadata and documents together."""

    def merged(self, connection: Connection, survivor: int, subsumed: int) -> None:
        """A patient was merged into another, by internal ids: what the profile keeps of the one is the other's now."""


@dataclass(frozen=True, slots=True)
class PlainProfile:
    """Plain IHE: no VIHF asked for, everybody who reaches the door may do everything."""

    domain: AffinityDomain
    name: str = "ihe"
    accept_repeat: bool = False
    _matrix: dict[str, Requirements] = field(default_factory=dict)

    def requirements(self, transaction: str) -> Requirements:
        """IHE's own matrix."""
        if transaction not in self._matrix:
            self._matrix[transaction] = requirements.load(transaction, "registry")
        return self._matrix[transaction]

    def admit(self, connection: Connection, caller: Caller, action: str, patient: str,  # noqa: ARG002
              find: FindPatient) -> Gate:  # noqa: ARG002
        """Everybody."""
        return Gate()

    def check(self, submission: Submission, contents: Contents, caller: Caller) -> Iterable[Finding]:  # noqa: ARG002
        """Nothing on top."""
        return ()

    def merged(self, connection: Connection, survivor: int, subsumed: int) -> None:
        """Nothing is kept beside the registry."""
