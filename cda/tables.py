"""Tables a regulator changes: document types with their class, models with their format. Loaded once, loud on error."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from xds.model import Code
from xds.rim import localized


@dataclass(frozen=True, slots=True)
class DocumentType:
    """A document type of the French record and its class. `corresponds` tells those of the DMP's own correspondence."""

    type_code: Code
    class_code: Code
    corresponds: bool


@dataclass(frozen=True, slots=True)
class Formats:
    """Format by templateId (`root` or `root^extension`) and by media type of a level-1 body."""

    unknown: Code
    templates: Mapping[str, Code]
    media_types: Mapping[str, Code]

    def of(self, templates: Iterable[str], media_type: str = "") -> Code:
        """The formatCode of a document with these templateIds (`root` or `root^extension`) and level-1 media type."""
        if media_type:
            return self.media_types.get(media_type, self.unknown)
        known = (self.templates.get(name) or self.templates.get(name.partition("^")[0]) for name in templates)
        return next(reversed([code for code in known if code]), self.unknown)


@cache
def document_types() -> Mapping[str, DocumentType]:
    """Every type by its code, from `types.toml`."""
    return read_types(_load("types.toml"), "cda/types.toml")


@cache
def formats() -> Formats:
    """Every format, from `formats.toml`."""
    return read_formats(_load("formats.toml"), "cda/formats.toml")


def read_types(table: Mapping[str, Any], file: str) -> Mapping[str, DocumentType]:
    """Types of a table in the shape of `types.toml`; ValueError with file and key when something is amiss."""
    return MappingProxyType({code: _type(table, file, code) for code in _need(table, file, "types")})


def read_formats(table: Mapping[str, Any], file: str) -> Formats:
    """Formats of a table in the shape of `formats.toml`; ValueError with file and key when something is amiss."""
    systems = _need(table, file, "systems")
    return Formats(
        _format(systems, _need(table, file, "unknown"), f"{file} [unknown]"),
        _formats(systems, table, file, "templates"), _formats(systems, table, file, "media_types"))


def _type(table: Mapping[str, Any], file: str, code: str) -> DocumentType:
    place, row = f"{file} [types.{code}]", table["types"][code]
    label, group, listed = _need(row, place, "label"), _need(row, place, "class"), row.get("list", "correspondence")
    if listed not in ("correspondence", "matrix"):
        raise ValueError(f"{place}: list is {listed!r}, not correspondence or matrix")
    type_code = Code(code, _need(_need(table, file, "systems"), place, _need(row, place, "system")), localized(label))
    class_name = _need(_need(table, file, "classes"), place, group)
    return DocumentType(type_code, Code(group, _need(table, file, "class_system"), localized(class_name)),
                        listed == "correspondence")


def _formats(systems: Mapping[str, str], table: Mapping[str, Any], file: str, section: str) -> Mapping[str, Code]:
    return MappingProxyType({name: _format(systems, row, f"{file} [{section}.{name}]")
                             for name, row in _need(table, file, section).items()})


def _format(systems: Mapping[str, str], row: Mapping[str, str], place: str) -> Code:
    return Code(_need(row, place, "code"), _need(systems, place, _need(row, place, "system")),
                localized(_need(row, place, "label")))


def _need(table: Mapping[str, Any], place: str, key: str) -> Any:
    if key not in table:
        raise ValueError(f"{place}: no {key!r}")
    return table[key]


def _load(name: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(resources.files("cda").joinpath(name).read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"cda/{name}: {error}") from error
