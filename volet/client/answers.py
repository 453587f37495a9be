"""What a server says of a refusal -> findings in the shape of every JSON answer, whoever wrote the server.

Our own server tells everything in a fault's detail, and in the codeContext of a RegistryError
(`xds.messages.registry_error`); others tell a code and a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from string import Formatter
from typing import Any, TypeAlias

from xds.findings import Catalogue, Finding, Rule, Severity, Where
from xds.messages import RegistryError
from xds.soap import Fault

RULES = Catalogue("volet")
NO_REASON = RULES["V-VOLET-CLIENT-NO-REASON"]

#: A finding as in JSON answers (`Finding.as_dict`)
Told: TypeAlias = Mapping[str, Any]

_LONGEST = 8_000  # characters of a codeContext that are read; ours are seldom longer than 2000
_ROOMS = ("xds", "cda", "security", "registry", "dmp", "repository", "volet")
_CODE = re.compile(r" \[((?:V-|DMP)[A-Za-z0-9-]{1,80})(?:, (?=\S)|(?=\]$))")
_FACTS = re.compile(
    r"(?:(?P<part>(?!line \d|expected |received ).+?)(?:, (?=line \d|expected |received )|$))?"
    r"(?:line (?P<line>\d{1,9})(?:, |$))?"
    r"(?:expected (?P<expected>.*?)(?:, (?=received )|$))?(?:received (?P<received>.*))?", re.DOTALL)


class Rejected(Exception):
    """The server refused; at least one finding says why. `message_id` is that of the request."""

    def __init__(self, findings: Sequence[Told], message_id: str = "") -> None:
        """Keep the findings, in the server's order."""
        self.findings, self.message_id = tuple(findings), message_id
        super().__init__("; ".join(str(finding["en"]) for finding in findings))


def of_findings(findings: Iterable[Finding]) -> tuple[Told, ...]:
    """Our own findings in that shape."""
    return tuple(finding.as_dict() for finding in findings)


def of_fault(fault: Fault) -> tuple[Told, ...]:
    """Findings of a fault: those of its detail, else one of its code and reason."""
    if fault.findings:
        return tuple(_whole(finding) for finding in fault.findings)
    french = fault.reasons.get("fr") or next(iter(fault.reasons.values()), "")
    english = fault.reasons.get("en") or french
    return (_foreign("/".join((fault.code, *fault.subcodes)), french, english, Severity.ERROR),)


def of_errors(errors: Iterable[RegistryError]) -> tuple[Told, ...]:
    """Findings of a RegistryErrorList, in its order."""
    return tuple(map(_of_error, errors))


def of_failure(status: str, errors: Iterable[RegistryError]) -> tuple[Told, ...]:
    """Findings of an answer that is no success; never none."""
    return of_errors(errors) or of_findings([NO_REASON.at(Where("envelope"), received=status)])


# --- registry errors -----------------------------------------------------------------------------------------------


def _of_error(error: RegistryError) -> Told:
    severity = Severity.WARNING if error.severity.endswith("Warning") else Severity.ERROR
    context = error.context[:_LONGEST]
    found = list(_CODE.finditer(context))
    rule = _rules().get(found[-1][1]) if found else None
    if rule is None or not context.endswith("]"):
        return _foreign(error.code, context, context, severity) | {
            "where": Where(path=error.location).as_dict(), "xds": error.code}
    texts, facts = context[:found[-1].start()], context[found[-1].end():-1]
    return _texts(texts, rule) | _facts(facts, rule, error.location) | {
        "code": rule.code, "severity": str(severity), "clause": rule.clause, "provenance": str(rule.provenance),
        "xds": error.code}


def _texts(texts: str, rule: Rule) -> dict[str, Any]:
    """`French hint — English hint` taken apart by what the catalogue says that they look like."""
    whole_fr, whole_en = (f"{text} {hint}".strip() for text, hint in ((rule.fr, rule.hint_fr), (rule.en, rule.hint_en)))
    french, english = _divide(texts, " — ", whole_fr, whole_en) or (texts, texts)
    fr, hint = _divide(french, " ", rule.fr, rule.hint_fr) or (french, "")
    en, hint_en = _divide(english, " ", rule.en, rule.hint_en) or (english, "")
    return {"fr": fr.strip(), "en": en.strip(), "hint": hint, "hint_en": hint_en}


def _divide(text: str, separator: str, before: str, after: str) -> tuple[str, str] | None:
    """The two sides of the first separator where each fits its template; None where none does."""
    at = text.find(separator) if after else -1
    while at >= 0:
        sides = text[:at], text[at + len(separator):]
        if _fits(sides[0], before) and _fits(sides[1], after):
            return sides
        at = text.find(separator, at + 1)
    return None


def _fits(text: str, template: str) -> bool:
    """Whether the template's literal parts stand in the text in their order, the outer ones at its ends."""
    first, *others = (literal for literal, *_ in Formatter().parse(template + "{}"))
    last = template.rpartition("}")[2]
    if not text.startswith(first) or not text.strip().endswith(last.strip()):
        return False
    at = len(first)
    for literal in others:
        at = text.find(literal, at) + len(literal)
        if at < len(literal):
            return False
    return True


def _facts(facts: str, rule: Rule, path: str) -> dict[str, Any]:
    """`part, line n, expected …, received …, clause`, each but the clause optional."""
    clause = " ".join(rule.clause.split())
    found = _FACTS.fullmatch(facts.removesuffix(clause).removesuffix(", "))
    told = found.groupdict(default="") if found else {"part": "", "line": "", "expected": "", "received": ""}
    return {"where": Where(told["part"], int(told["line"] or 0), 0, path).as_dict(),
            "expected": told["expected"], "received": told["received"]}


def _foreign(code: str, french: str, english: str, severity: Severity) -> dict[str, Any]:
    return {"code": code, "severity": str(severity), "fr": french, "en": english, "clause": "", "provenance": "",
            "hint": "", "hint_en": "", "where": Where().as_dict(), "expected": "", "received": ""}


def _whole(finding: Mapping[str, Any]) -> Told:
    """A finding of a detail with every field, whatever its writer left out."""
    return _foreign("", "", "", Severity.ERROR) | dict(finding)


@cache
def _rules() -> Mapping[str, Rule]:
    return {code: rule for room in _ROOMS for code, rule in Catalogue(room).items()}
