"""The requirement matrix: what each object must, may and must not carry, a transaction and a profile.

It stays a table (`requirements.csv`); this module reads it, fails loudly on a bad cell, and walks objects by it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import SimpleNamespace
from typing import Any

from registry import formats
from xds.findings import Catalogue, Finding, Where
from xds.rim import RegistryObject
from xds.vocabulary import ASSOCIATION_DOCUMENTATION, DOCUMENT, FOLDER, FOLDER_NODE, SUBMISSION_SET, SUBMISSION_SET_NODE

RULES = Catalogue("registry")
MISSING = RULES["V-REG-ATTRIBUTE-MISSING"]
TOO_MANY = RULES["V-REG-ATTRIBUTE-TOO-MANY"]
FORBIDDEN = RULES["V-REG-ATTRIBUTE-FORBIDDEN"]
MALFORMED = RULES["V-REG-ATTRIBUTE-MALFORMED"]

_CARDINALITY = re.compile(r"(0|[1-9][0-9]*)(?:\.\.(\*|[1-9][0-9]*))?")
_SCHEMES = {"DocumentEntry": DOCUMENT, "SubmissionSet": SUBMISSION_SET, "Folder": FOLDER,
            "Association": SimpleNamespace(documentation=ASSOCIATION_DOCUMENTATION)}
#: Carriers whose values ebRIM counts as elements of their own; a slot's values are counted inside it.
_UNBOUNDED = 1_000_000


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row for one transaction: between `least` and `most` values of `format` in `carrier`/`key`."""

    object: str
    attribute: str
    carrier: str
    key: str
    format: str
    least: int
    most: int
    clause: str


Requirements = Mapping[str, Sequence[Requirement]]

#: An update carries a whole valid entry, as its first registration did (ITI TF-2 §3.57.4.1.2)
SAME_AS = {"ITI-57": "ITI-42", "ITI-92": "ITI-42"}


def load(transaction: str, *packages: str) -> Requirements:
    """Rows of `requirements.csv` of the packages for a transaction, later packages overriding cells of earlier ones."""
    column = SAME_AS.get(transaction, transaction)
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for package in packages:
        for row in _rows(package):
            cells.setdefault((row["object"], row["attribute"]), {}).update(
                {name: cell for name, cell in row.items() if cell})
    found: dict[str, list[Requirement]] = {}
    for cell in cells.values():
        found.setdefault(cell["object"], []).append(_requirement(cell, column))
    return found


def check(thing: RegistryObject, requirements: Requirements) -> Iterator[Finding]:
    """Every attribute of an object against its rows: number first, then the format of each value."""
    kind = kind_of(thing)
    for row in requirements.get(kind, ()):
        values = _values(thing, row)
        yield from _check_number(thing, row, values)
        for value, line in values:
            expected = formats.check(row.format, value)
            if expected:
                yield MALFORMED.at(place(thing, row.attribute, line), expected=expected, received=_shown(value),
                                   attribute=row.attribute, object=kind, clause=row.clause)


def kind_of(thing: RegistryObject) -> str:
    """Name of the object in the framework; "" for a package that is neither set nor folder."""
    if thing.kind == "ExtrinsicObject":
        return "DocumentEntry"
    if thing.kind == "Association":
        return "Association"
    if thing.is_node(SUBMISSION_SET_NODE):
        return "SubmissionSet"
    return "Folder" if thing.is_node(FOLDER_NODE) else ""


def place(thing: RegistryObject, attribute: str = "", line: int = 0) -> Where:
    """Where a finding on an attribute points to: `DocumentEntry(Document01)/typeCode` and its line."""
    path = f"{kind_of(thing) or thing.kind}({thing.id})"
    return Where("metadata", line=line or thing.line, path=f"{path}/{attribute}" if attribute else path)


def _check_number(thing: RegistryObject, row: Requirement, values: Sequence[tuple[Any, int]]) -> Iterator[Finding]:
    number, where = len(values), place(thing, row.attribute, values[-1][1] if values else 0)
    context = {"attribute": row.attribute, "object": row.object, "clause": row.clause}
    if number < row.least:
        yield MISSING.at(where, expected=_range(row), received=number, **context)
    elif number > row.most == 0:
        yield FORBIDDEN.at(where, expected=0, received=number, **context)
    elif number > row.most:
        yield TOO_MANY.at(where, expected=_range(row), received=number, **context)


def _range(row: Requirement) -> str:
    most = "*" if row.most == _UNBOUNDED else str(row.most)
    return str(row.least) if str(row.least) == most else f"{row.least}..{most}"


def _values(thing: RegistryObject, row: Requirement) -> list[tuple[Any, int]]:
    """(value, line) of everything the object carries for a row."""
    if row.carrier == "slot":
        # A slot that stands there twice counts twice (ebRIM: slot names are unique in an object).
        return [(value, slot.line) for slot in thing.slots if slot.name == row.key for value in slot.values]
    if row.carrier == "identifier":
        return [(item.value, item.line) for item in thing.identifiers(row.key)]
    if row.carrier == "classification":
        return [(item, item.line) for item in thing.classifications
                if item.scheme == row.key or item.node == row.key]
    if row.carrier == "name":
        return [(thing.name[0], thing.line)] if thing.name and thing.name[0].value else []
    if row.carrier == "description":
        return [(thing.description[0], thing.line)] if thing.description and thing.description[0].value else []
    value = getattr(thing, row.key)
    return [(value, thing.line)] if value else []


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if hasattr(value, "node_representation"):
        slots = ", ".join(f"{slot.name}={'|'.join(slot.values)}" for slot in value.slots)
        return f"nodeRepresentation={value.node_representation}, {slots}"
    return str(getattr(value, "value", value))


def _rows(package: str) -> Iterator[dict[str, str]]:
    text = resources.files(package).joinpath("requirements.csv").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for number, row in enumerate(csv.DictReader(lines), start=2):
        if None in row or None in row.values():
            raise ValueError(f"{package}/requirements.csv, row {number}: wrong number of cells")
        yield row


def _requirement(cell: dict[str, str], transaction: str) -> Requirement:
    name = f"requirements.csv, {cell['object']}.{cell['attribute']}"
    match = _CARDINALITY.fullmatch(cell[transaction])
    if match is None or cell["format"] not in formats.CHECKS:
        raise ValueError(f"{name}: bad cardinality {cell[transaction]!r} or format {cell['format']!r}")
    least = int(match.group(1))
    most = _UNBOUNDED if match.group(2) == "*" else int(match.group(2) or least)
    key = cell["key"]
    if cell["carrier"] in {"classification", "identifier"}:
        key = getattr(_SCHEMES[cell["object"]], key)
    return Requirement(cell["object"], cell["attribute"], cell["carrier"], key, cell["format"], least, most,
                       cell["clause"])
