"""The two habilitation matrices as data: who may do what (functional), who may read which type (documents)."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

CELLS = frozenset({"yes", "no", "own", "structure", "consent"})


@dataclass(frozen=True, slots=True)
class FunctionalMatrix:
    """(action, column) -> cell; a column is actor and mode ("MED-n")."""

    cells: Mapping[tuple[str, str], str]
    transactions: Mapping[str, str]

    def cell(self, action: str, actor: str, mode: str) -> str:
        """What an actor may do in a mode; "no" for everything that the matrix does not name."""
        return self.cells.get((action, f"{actor}-{mode}"), "no")

    def title(self, action: str) -> str:
        """How the DMP calls an action (TD2.1); what it does not offer keeps our own name."""
        return f"TD{self.transactions[action]}" if action in self.transactions else action


@dataclass(frozen=True, slots=True)
class DocumentMatrix:
    """typeCode -> groups that read it; card code -> group."""

    version: str
    readers: Mapping[str, frozenset[str]]
    groups: Mapping[str, str]

    def may_read(self, group: str, type_code: str) -> bool:
        """Whether a group reads a type; a type that is not listed is read by nobody."""
        return group in self.readers.get(type_code, frozenset())


@cache
def functional() -> FunctionalMatrix:
    """`functional_matrix.csv`; ValueError names the bad cell."""
    text = resources.files("dmp").joinpath("functional_matrix.csv").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    cells: dict[tuple[str, str], str] = {}
    transactions: dict[str, str] = {}
    for row in csv.DictReader(lines):
        action = row.pop("action")
        transactions[action] = row.pop("td")
        for column, cell in row.items():
            if cell not in CELLS:
                raise ValueError(f"functional_matrix.csv, {action}/{column}: {cell!r}")
            cells[(action, column)] = cell
    return FunctionalMatrix(cells, transactions)


@cache
def documents() -> DocumentMatrix:
    """`document_matrix.toml`; ValueError names the bad entry."""
    data = tomllib.loads(resources.files("dmp").joinpath("document_matrix.toml").read_text("utf-8"))
    groups = {code: group for group, codes in data["groups"].items() for code in codes}
    readers = {type_code: frozenset(text.split()) for type_code, text in data["readers"].items()}
    for type_code, names in readers.items():
        if unknown := names - set(data["groups"]):
            raise ValueError(f"document_matrix.toml, {type_code}: unknown groups {sorted(unknown)}")
    return DocumentMatrix(data["version"], readers, groups)
