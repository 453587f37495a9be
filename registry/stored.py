"""How an object is kept and given back: its own XML, except for what the registry owns.

Stored is what stands inside the element, cut: before VersionInfo, after it, the patientId identifier with a hole for
its value, and that value as submitted. Status, lid, version, patient and times of folders come from columns, so an
answer is written without parsing or building anything.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

import zstandard

from xds import rim
from xds.rim import RegistryObject
from xds.vocabulary import DOCUMENT, FOLDER, FOLDER_NODE, SUBMISSION_SET
from xds.xml import escape

_CUT, _HOLE = "\x00", "\x01"  # neither can stand in XML
_PATIENT_SCHEMES = frozenset({DOCUMENT.patient_id, SUBMISSION_SET.patient_id, FOLDER.patient_id})

#: Slots that a column owns, by kind of package; elsewhere the same name is somebody's extra slot
_OWNED_SLOTS = {FOLDER_NODE: frozenset({"lastUpdateTime"})}

#: Codec of each row: 0 plain, n compressed with dictionary n. Dictionaries are kept for ever.
NEWEST = 1
_local = threading.local()


def pack(thing: RegistryObject) -> tuple[int, bytes]:
    """Codec and stored form of a resolved object."""
    patient = [item for item in thing.external_identifiers if item.scheme in _PATIENT_SCHEMES]
    others = tuple(item for item in thing.external_identifiers if item.scheme not in _PATIENT_SCHEMES)
    owned = {name for node, names in _OWNED_SLOTS.items() if thing.is_node(node) for name in names}
    slots = tuple(slot for slot in thing.slots if slot.name not in owned)
    main = rim.fragments(replace(thing, slots=slots, external_identifiers=others))
    hole = rim.fragments(RegistryObject(thing.kind, external_identifiers=tuple(patient))).after
    submitted = patient[0].value if patient else ""
    hole = hole.replace(f' value="{escape(submitted)}"', f' value="{_HOLE}"', 1) if patient else ""
    text = _CUT.join((main.before, main.after, hole, submitted))
    return NEWEST, _compressor(NEWEST).compress(text.encode())


def render(kind: str, row: Mapping[str, Any], status: str, patient_id: str = "") -> str:
    """The whole element as `rim:` text. `row` has uuid, lid, version, home, codec, xml and the kind's own columns.

    `patient_id`: the surviving identifier after a merge; "" shows the one that was submitted.
    """
    before, after, hole, submitted = _unpack(row["codec"], row["xml"]).split(_CUT)
    if kind == "folder":
        before = rim.write_slot("lastUpdateTime", row["last_update_time"]) + before
    shell = RegistryObject(_ELEMENTS[kind], row["uuid"], row["lid"], row["home"], status,
                           version=str(row["version"]), **_own_attributes(kind, row))
    return rim.write_with(shell, rim.Fragments(before, after + hole.replace(_HOLE, escape(patient_id or submitted))))


def surviving(row: Mapping[str, Any], patient_id: str) -> str:
    """What `render` shows of a merged patient; "" for an identifier that is still in use."""
    if not patient_id:
        return ""
    return succeeding(_unpack(row["codec"], row["xml"]).split(_CUT)[3], patient_id)


def succeeding(submitted: str, patient_id: str) -> str:
    """The identifier in place of a submitted one, whose fifth component (`^NH`) stays: it is the profile's."""
    return "^".join((*patient_id.split("^", 4)[:4], *submitted.split("^", 4)[4:]))


_ELEMENTS = {"document": "ExtrinsicObject", "set": "RegistryPackage", "folder": "RegistryPackage",
             "association": "Association"}


def _own_attributes(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "document":
        return {"object_type": row["object_type_name"], "mime_type": row["mime_type"]}
    if kind == "association":
        return {"object_type": rim.ASSOCIATION, "association_type": row["type_name"],
                "source": row["source"], "target": row["target"]}
    return {"object_type": rim.REGISTRY_PACKAGE}


def _unpack(codec: int, data: bytes) -> str:
    return (data if codec == 0 else _decompressor(codec).decompress(data)).decode()


def _dictionary(codec: int) -> zstandard.ZstdCompressionDict:
    data = resources.files("registry").joinpath(f"dictionary-{codec}.xml").read_bytes()
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _compressor(codec: int) -> zstandard.ZstdCompressor:
    # zstandard objects may be reused but not shared between threads.
    made: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    if codec not in made:
        made[codec] = zstandard.ZstdCompressor(level=3, dict_data=_dictionary(codec), write_content_size=True)
    return made[codec]


def _decompressor(codec: int) -> zstandard.ZstdDecompressor:
    made: dict[int, zstandard.ZstdDecompressor] = _local.__dict__.setdefault("decompressors", {})
    if codec not in made:
        made[codec] = zstandard.ZstdDecompressor(dict_data=_dictionary(codec))
    return made[codec]
