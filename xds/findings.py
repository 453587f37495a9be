"""What is wrong with something received, said so that its sender can mend it.

A *rule* is an entry of a catalogue (`findings.toml` of each room): code, severity, French, English, clause of the
standard, provenance (how sure the rule is) and hint. A *finding* is a rule met at a place, with what was expected and
what came. Checks yield findings; one place at the edge turns them into a SOAP fault, a RegistryErrorList or an
OperationOutcome.

    Refused                 raised where going on makes no sense; carries the findings
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from string import Formatter
from types import MappingProxyType
from typing import Any

_SHOWN = 300  # characters of a received value that a finding repeats; longer ones are cut


class Severity(StrEnum):
    """How bad a finding is; only an error refuses."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Provenance(StrEnum):
    """How sure the rule is: written officially, seen of the real system, or decided here where nothing is known."""

    OFFICIAL = "official"
    OBSERVED = "observed"
    DECISION = "decision"


@dataclass(frozen=True, slots=True)
class Where:
    """The place of a finding: part of the message, line and column (from 1, 0 unknown), readable path."""

    part: str = ""
    line: int = 0
    column: int = 0
    path: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The shape of `where` in every JSON answer."""
        return {"part": self.part, "line": self.line, "column": self.column, "path": self.path}


NOWHERE = Where()


@dataclass(frozen=True, slots=True)
class Rule:
    """One catalogue entry.

    `xds` is the errorCode of a RegistryError, `fault` the code of a SOAP fault, `hl7` that of an acknowledgement (HL7
    table 0357).
    """

    code: str
    severity: Severity
    fr: str
    en: str
    clause: str
    provenance: Provenance
    hint_fr: str = ""
    hint_en: str = ""
    xds: str = ""
    fault: str = ""
    hl7: str = ""

    def at(self, where: Where = NOWHERE, expected: object = "", received: object = "", **values: object) -> Finding:
        """A finding of this rule at a place; `values` fill the braces of its texts."""
        shown = {name: shorten(value) for name, value in values.items()}
        return Finding(self, where, shorten(expected), shorten(received), MappingProxyType(shown))


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule met at a place. `xds` overrides the rule's errorCode where the transaction decides it."""

    rule: Rule
    where: Where = NOWHERE
    expected: str = ""
    received: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    severity_override: Severity | None = None
    xds_override: str = ""

    @property
    def code(self) -> str:
        """Code of the rule."""
        return self.rule.code

    @property
    def severity(self) -> Severity:
        """Severity in this context (a setting may have lowered it)."""
        return self.severity_override or self.rule.severity

    @property
    def xds(self) -> str:
        """The errorCode a RegistryError carries for this finding; empty where none fits."""
        return self.xds_override or self.rule.xds

    @property
    def fr(self) -> str:
        """French sentence."""
        return _fill(self.rule.fr, self)

    @property
    def en(self) -> str:
        """English sentence."""
        return _fill(self.rule.en, self)

    def as_dict(self) -> dict[str, Any]:
        """The shape of `finding` in every JSON answer."""
        return {
            "code": self.code,
            "severity": str(self.severity),
            "fr": self.fr,
            "en": self.en,
            "clause": self.rule.clause,
            "provenance": str(self.rule.provenance),
            "hint": _fill(self.rule.hint_fr, self),
            "hint_en": _fill(self.rule.hint_en, self),
            "where": self.where.as_dict(),
            "expected": self.expected,
            "received": self.received,
            "xds": self.xds,
        }


class Refused(Exception):
    """Going on makes no sense. Carries at least one finding of severity error."""

    def __init__(self, findings: Finding | Iterable[Finding]) -> None:
        """Keep the findings, in the order in which they were made."""
        self.findings = (findings,) if isinstance(findings, Finding) else tuple(findings)
        super().__init__("; ".join(finding.en for finding in self.findings))


class Catalogue(Mapping[str, Rule]):
    """The rules of one room by code, from its `findings.toml`. Fails loudly, with the file, on a bad entry."""

    def __init__(self, package: str) -> None:
        """Load `findings.toml` of the package."""
        self.package = package
        text = resources.files(package).joinpath("findings.toml").read_text("utf-8")
        self._rules = {code: _rule(package, code, entry) for code, entry in tomllib.loads(text).items()}

    def __getitem__(self, code: str) -> Rule:
        return self._rules[code]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that refuse."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def shorten(value: object) -> str:
    """Text of a value, without control characters, cut to what a reader needs."""
    text = value if isinstance(value, str) else str(value)
    text = "".join(sign if sign.isprintable() else " " for sign in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _rule(package: str, code: str, entry: dict[str, str]) -> Rule:
    try:
        severity, provenance = Severity(entry.pop("severity")), Provenance(entry.pop("provenance"))
        return Rule(code=code, severity=severity, provenance=provenance, **entry)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{package}/findings.toml [{code}]: {error}") from error


def _fill(template: str, finding: Finding) -> str:
    known = {"expected": finding.expected, "received": finding.received, "path": finding.where.path, **finding.values}
    return Formatter().vformat(template, (), _Lenient(known))


class _Lenient(dict[str, str]):
    """A value that a check forgot shows as its own name rather than failing the answer."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"
