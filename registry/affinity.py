"""The affinity domain: what a community agreed on. One TOML file a profile; a wrong file fails at start, by name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from xds.model import Code
from xds.rim import localized


@dataclass(frozen=True, slots=True)
class CodeList:
    """Codes allowed for one attribute. `complete` lists refuse what they do not hold, others only warn."""

    complete: bool
    codes: frozenset[tuple[str, str]]
    source: str = ""


#: contentTypeCode of the sets that the registry makes itself (ITI TF-2 table 3.64.4.1.3.1.1-1)
LINK_CHANGE = Code("LINK-CHANGE", "2.25.203964021877193105884532912750347516172",
                   localized("Changement de rattachement d'un identifiant local", "fr"))


@dataclass(frozen=True, slots=True)
class AffinityDomain:
    """`patient_authorities`, `mime_types` empty: any. `unknown_patients`: "refuse" or "accept" (made on first use).

    `max_results`: objects of an answer to a query; `max_patients`: of one to a search for patients.
    """

    name: str
    repository_unique_id: str
    home_community_id: str = ""
    unknown_patients: str = "refuse"
    patient_authorities: frozenset[str] = frozenset()
    mime_types: frozenset[str] = frozenset()
    max_results: int = 1000
    max_patients: int = 100
    link_change: Code = LINK_CHANGE
    codes: Mapping[str, CodeList] = field(default_factory=dict)

    @property
    def home(self) -> str:
        """The homeCommunityId as messages have it, `urn:oid:…`; "" where the operator set none."""
        return self.home_community_id and "urn:oid:" + self.home_community_id.removeprefix("urn:oid:")


def load(source: Path | str, package: str = "") -> AffinityDomain:
    """Read a file of the operator (path) or one that comes with a room (name and package)."""
    text = (resources.files(package).joinpath(str(source)).read_text("utf-8") if package
            else Path(source).read_text("utf-8"))
    try:
        return _domain(tomllib.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"affinity domain {source}: {error}") from error


def _domain(data: dict[str, Any]) -> AffinityDomain:
    codes = {attribute: CodeList(entry["complete"], frozenset((code, entry["scheme"]) for code in entry["codes"]),
                                 entry.get("source", ""))
             for attribute, entry in data.pop("codes", {}).items()}
    if data.get("unknown_patients", "refuse") not in {"refuse", "accept"}:
        raise ValueError("unknown_patients is neither \"refuse\" nor \"accept\"")
    if "link_change" in data:
        told = data["link_change"]
        data["link_change"] = Code(told["code"], told["scheme"], localized(told.get("name", told["code"])))
    for name in ("patient_authorities", "mime_types"):
        data[name] = frozenset(data.get(name, ()))
    return AffinityDomain(codes=codes, **data)
