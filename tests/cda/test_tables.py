"""Tables of types and formats: complete, and loud when broken."""

import csv
from pathlib import Path

import pytest
from lxml import etree

from cda.tables import document_types, formats, read_formats, read_types

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def test_every_type_has_a_class_of_the_record() -> None:
    types = document_types()
    assert len(types) == 109
    assert sum(1 for kind in types.values() if not kind.corresponds) == 7
    assert {kind.class_code.scheme for kind in types.values()} == {"1.2.250.1.213.1.1.4.1"}
    assert types["SYNTH"].class_code.display == "Synthèse"
    assert types["SYNTH"].type_code.scheme == "1.2.250.1.213.1.1.4.12"
    assert types["11502-2"].type_code.scheme == "2.16.840.1.113883.6.1"


@pytest.mark.skipif(not SHARED.exists(), reason="published matrix not at hand")
def test_same_classes_as_the_published_matrix() -> None:
    with (SHARED / "dmp" / "document-matrix-2024-09.csv").open(encoding="utf-8") as file:
        published = {row["typeCode"]: row["classCode"] for row in csv.DictReader(file) if row["classCode"]}
    ours = {code: kind.class_code.code for code, kind in document_types().items()}
    assert {code: ours.get(code) for code in published} == published
    assert set(ours) - set(published) == {"11526-1"}  # withdrawn type, in the correspondence only


@pytest.mark.skipif(not SHARED.exists(), reason="published value sets not at hand")
def test_labels_and_systems_of_the_published_value_set() -> None:
    value_set = etree.parse(SHARED / "jdv" / "JDV_J07_XdsTypeCode_CISIS.xml")
    published = {node.get("code"): node.get("codeSystem") for node in value_set.iter("{urn:ihe:iti:svs:2008}Concept")}
    for code, kind in document_types().items():
        assert published.get(code, kind.type_code.scheme) == kind.type_code.scheme, code


def test_formats() -> None:
    table = formats()
    assert len(table.templates) == 76
    vsm, lab = "1.2.250.1.213.1.1.1.13", "1.2.250.1.213.1.1.1.55"
    assert table.of([vsm]).code == table.of([f"{vsm}^201310"]).code == "urn:asip:ci-sis:vsm:2012"
    assert table.of(["1.3.6.1.4.1.19376.1.3.3", lab]).scheme == "1.3.6.1.4.1.19376.1.2.3"
    assert table.of([]) == table.of(["1.2.3"]) == table.of([vsm], "image/png") == table.unknown
    assert table.of([vsm], "application/pdf").code == "urn:ihe:iti:xds-sd:pdf:2008"


def test_the_last_known_template_is_the_most_particular() -> None:
    generic, breast = "1.3.6.1.4.1.19376.1.8.1.1.1", "1.3.6.1.4.1.19376.1.8.1.1.2.1"
    assert formats().of([generic, breast]).code == "urn:ihe:pat:apsr:breast:2010"


def test_a_version_may_have_a_format_of_its_own() -> None:
    table = read_formats(_formats(), "here.toml")
    assert [table.of([name]).code for name in ("1.2^1", "1.2^2", "1.2")] == ["one", "any", "any"]


@pytest.mark.parametrize(("key", "value", "message"), [
    ("class", "77", r"here.toml \[types.X\]: no '77'"),
    ("system", "snomed", r"here.toml \[types.X\]: no 'snomed'"),
    ("list", "other", r"here.toml \[types.X\]: list is 'other'"),
    ("label", None, r"here.toml \[types.X\]: no 'label'"),
])
def test_a_broken_table_of_types_is_told_with_file_and_key(key: str, value: str | None, message: str) -> None:
    table = _types()
    table["types"]["X"][key] = value
    if value is None:
        del table["types"]["X"][key]
    with pytest.raises(ValueError, match=message):
        read_types(table, "here.toml")


def test_a_broken_table_of_formats_is_told_with_file_and_key() -> None:
    table = _formats()
    del table["templates"]["1.2"]["code"]
    with pytest.raises(ValueError, match=r"here.toml \[templates.1.2\]: no 'code'"):
        read_formats(table, "here.toml")
    del table["templates"]
    with pytest.raises(ValueError, match=r"here.toml: no 'templates'"):
        read_formats(table, "here.toml")


def _types() -> dict:
    return {"class_system": "1.1", "systems": {"loinc": "1.2"}, "classes": {"10": "Compte rendu"},
            "types": {"X": {"class": "10", "system": "loinc", "label": "x"}}}


def _formats() -> dict:
    def row(code: str) -> dict[str, str]:
        return {"code": code, "system": "fr", "label": code}

    return {"systems": {"fr": "1.3"}, "unknown": row("none"), "media_types": {},
            "templates": {"1.2": row("any"), "1.2^1": row("one")}}
