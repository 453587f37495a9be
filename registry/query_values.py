"""Stored-query parameters: the slots of an AdhocQuery by its definition, every fault at once (ITI TF-2 §3.18.4.1.2.3).

A value is a quoted string `'…'` (`''` stands for a quote), a number, or a list of them in parentheses. Several values
and several parentheses of one slot are one OR list; a slot that comes twice is an AND where the query allows it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from registry import formats
from registry.requirements import RULES
from xds import hl7
from xds.findings import Finding, Refused, Where
from xds.rim import Slot

UNKNOWN = RULES["V-QUERY-UNKNOWN"]
MISSING = RULES["V-QUERY-PARAMETER-MISSING"]
NUMBER = RULES["V-QUERY-PARAMETER-NUMBER"]
SYNTAX = RULES["V-QUERY-PARAMETER-SYNTAX"]
OBSOLETE = RULES["V-QUERY-PARAMETER-OBSOLETE"]

MAX_VALUES = 10_000  # values of one list
MAX_PATTERNS = 100  # the same of patterns, each of which reads every text
MAX_LISTS = 20  # lists of which all must match
_TOKEN = re.compile(r"\s*(?:'((?:[^']|'')*)'|([0-9]{1,20}))\s*")
_STATUSES = re.compile(r"urn:[A-Za-z0-9:._-]{1,200}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one parameter of a query takes."""

    name: str
    type: str
    required: bool
    many: bool
    conjunctive: bool


@dataclass(frozen=True, slots=True)
class Definition:
    """One stored query."""

    name: str
    id: str
    parameters: Mapping[str, Parameter]
    either: tuple[str, ...] = ()
    some: tuple[str, ...] = ()


#: Parameter name -> one OR list a slot; more than one only where the query allows an AND.
Values = Mapping[str, tuple[tuple[str, ...], ...]]


def parse(query_id: str, slots: tuple[Slot, ...],
          offered: Mapping[str, Definition] | None = None) -> tuple[Definition, Values]:
    """Definition and values of a query; Refused with all that is wrong with it. Unknown names are passed over.

    `offered`: definitions by id, the stored queries of ITI-18 unless told otherwise.
    """
    known = BY_ID if offered is None else offered
    definition = known.get(query_id.lower())
    if definition is None:
        raise Refused(UNKNOWN.at(Where("query", path="AdhocQuery/@id"), received=query_id,
                                 expected=", ".join(sorted(query.name for query in known.values()))))
    values: dict[str, tuple[tuple[str, ...], ...]] = {}
    findings: list[Finding] = []
    wrong: set[str] = set()
    for slot in slots:
        parameter = definition.parameters.get(slot.name)
        if parameter is None:
            findings += _obsolete(slot, definition)
            continue
        read, problems = _read(slot, parameter)
        findings += problems
        wrong |= {slot.name for _ in problems}
        values[slot.name] = (*values.get(slot.name, ()), read)
    findings += _check_numbers(definition, values, wrong)
    if findings:
        raise Refused(findings)
    return definition, {name: lists for name, lists in values.items() if any(lists)}


def _read(slot: Slot, parameter: Parameter) -> tuple[tuple[str, ...], list[Finding]]:
    try:
        read = tuple(value for text in slot.values for value in _split(text, parameter))
    except ValueError as error:
        return (), [SYNTAX.at(_where(slot), expected=str(error), received="|".join(slot.values), parameter=slot.name)]
    problems = [SYNTAX.at(_where(slot), expected=expected, received=value, parameter=slot.name)
                for value in read if (expected := _TYPES[parameter.type](value))]
    most = (MAX_PATTERNS if parameter.type == "like" else MAX_VALUES) if parameter.many else 1
    if len(read) > most:
        problems.append(NUMBER.at(_where(slot), expected=f"≤ {most}", received=len(read), parameter=slot.name))
    return read, problems


def _split(text: str, parameter: Parameter) -> Iterator[str]:
    """Values of one `<Value>`; ValueError says what was expected."""
    inner = text.strip()
    in_list = inner.startswith("(") and inner.endswith(")")
    if parameter.many and not in_list:
        raise ValueError("('…', '…')")
    if in_list and not parameter.many:
        raise ValueError("'…'")
    if in_list:
        inner = inner[1:-1]
    position = 0
    while True:
        match = _TOKEN.match(inner, position)
        if match is None:
            raise ValueError("('…', '…')" if parameter.many else "'…'")
        quoted, number = match.groups()
        yield number if quoted is None else quoted.replace("''", "'")
        position = match.end()
        if position == len(inner):
            return
        if inner[position] != ",":
            raise ValueError("('…', '…')" if parameter.many else "'…'")
        position += 1


def _check_numbers(definition: Definition, values: Values, wrong: Container[str]) -> Iterator[Finding]:
    """What is missing or there too often; what is badly written is not missing too."""
    for parameter in definition.parameters.values():
        lists = values.get(parameter.name, ())
        where = Where("query", path=f"{definition.name}/{parameter.name}")
        if parameter.required and not any(lists) and parameter.name not in wrong:
            yield MISSING.at(where, expected=parameter.type, parameter=parameter.name)
        most = MAX_LISTS if parameter.conjunctive else 1
        if len(lists) > most:
            yield NUMBER.at(where, expected=f"≤ {most} Slot", received=len(lists), parameter=parameter.name)
    given = [name for name in definition.either if any(values.get(name, ())) or name in wrong]
    where, names = Where("query", path=definition.name), " | ".join(definition.either)
    if definition.either and not given:
        yield MISSING.at(where, expected=names, parameter=names)
    elif len(given) > 1:
        yield NUMBER.at(where, expected=names, received=", ".join(given), parameter=given[1])
    if definition.some and not any(any(values.get(name, ())) or name in wrong for name in definition.some):
        yield MISSING.at(where, expected=" | ".join(definition.some), parameter=" | ".join(definition.some))


def _obsolete(slot: Slot, definition: Definition) -> list[Finding]:
    """XDS.a gave the scheme of a code in a parameter of its own; silently passing over it would widen the search."""
    if slot.name.endswith("Scheme") and slot.name[: -len("Scheme")] in definition.parameters:
        return [OBSOLETE.at(_where(slot), parameter=slot.name, received="|".join(slot.values))]
    return []


def _where(slot: Slot) -> Where:
    return Where("query", line=slot.line, path=slot.name)


def _code(value: str) -> str:
    code, _, scheme = value.partition("^^")
    return "" if code and scheme and "^" not in scheme else "'code^^scheme'"


def _time(value: str) -> str:
    try:
        hl7.DTM.parse(value)
    except ValueError as error:
        return f"YYYY[MM[DD[hh[mm[ss]]]]] ({error})"
    return ""


def _like(value: str) -> str:
    """Wildcards only are no harm: each such query names its patient."""
    return "" if 0 < len(value) <= formats.MAX_PATTERN else f"%NAME% (≤ {formats.MAX_PATTERN})"


_TYPES: dict[str, Callable[[str], str]] = {
    "patient": lambda value: formats.check("cx", value),
    "status": lambda value: "" if _STATUSES.fullmatch(value) else "urn:oasis:names:tc:ebxml-regrep:StatusType:…",
    "code": _code,
    "time": _time,
    "like": _like,
    "uuid": lambda value: "" if value.lower().startswith("urn:uuid:") else "'urn:uuid:…'",
    "uid": lambda value: "" if 0 < len(value) <= 256 else "OID[^extension]",
    "plain": lambda value: "" if 0 < len(value) <= 256 else "'…'",
    "objecttype": lambda value: formats.check("object_type", value),
    "level": lambda value: "" if value in {"1", "2"} else "1 | 2",
    "assoctype": lambda value: "" if value.startswith("urn:") else "urn:…:AssociationType:…",
}


def load(file: str) -> dict[str, Definition]:
    """Definitions of a file of this room, by id."""
    data = tomllib.loads(resources.files("registry").joinpath(file).read_text("utf-8"))
    found: dict[str, Definition] = {}
    for name, entry in data.items():
        texts = {**(data[entry["extends"]]["parameters"] if "extends" in entry else {}), **entry["parameters"]}
        parameters = {key: _parameter(f"{file}, {name}", key, text) for key, text in texts.items()}
        found[entry["id"]] = Definition(name, entry["id"], parameters, tuple(entry.get("either", ())),
                                        tuple(entry.get("some", ())))
    return found


def _parameter(query: str, name: str, text: str) -> Parameter:
    kind, *flags = text.split()
    if kind not in _TYPES or not {"required", "many", "and"}.issuperset(flags):
        raise ValueError(f"{query}.{name}: {text!r}")
    return Parameter(name, kind, "required" in flags, "many" in flags, "and" in flags)


BY_ID = load("stored_queries.toml")
