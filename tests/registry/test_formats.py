"""Each format of the matrix: what it takes, what it refuses, and that no text can keep it busy."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import formats, requirements
from tests.registry.samples import AUTHOR, PATIENT, code, document, of_kind, submission
from xds.rim import Classification, Localized, RegistryObject, Slot, localized
from xds.vocabulary import ASSOCIATION_TYPES, DOCUMENT, OFFLINE, ON_DEMAND, ONLINE, STABLE

OID64 = "1." + "2" * 62

RIGHT: dict[str, list[str]] = {
    "id": ["Document01", "urn:uuid:6c1b0c5e-0001-4000-8000-00000000000a",
           "URN:UUID:6C1B0C5E-0001-4000-8000-00000000000A", "é" * 256],
    "home": ["urn:oid:1.2.3", f"urn:oid:{OID64}"],
    "mime": ["text/xml", "application/xslt+xml", "application/vnd.oasis.opendocument.text", "x-a/y_b"],
    "language": ["fr", "fr-FR", "art", "zh-Hant-TW", "sl-rozaj-biske"],
    "sha1": ["0" * 40, "ABCDEFabcdef0123456789abcdef0123456789ab"],
    "size": ["0", "12", "9" * 18],
    "oid": ["1.2", "2.25.138716590826173408251735186201", OID64],
    "dtm": ["2025", "202501", "20250131", "2025013123", "202501312359", "20250131235959", "20240229"],
    "cx": ["1^^^&1.2.3&ISO", PATIENT, r"a\T\b^^^&1.2&ISO", "1^^^NS&1.2.3&ISO^PI"],
    "cxi": ["1^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:order", "1^^^^urn:ihe:iti:xds:2013:uniqueId"],
    "xcn": ["1", "^NOM", "1^NOM^Prénom^^^^^^&1.2.3&ISO^D^^^IDNPS"],
    "pid": ["PID-3|1^^^&1.2.3&ISO", "PID-5|NOM^PRENOM^^^^^L", "PID-8|F", "PID-11|^^VILLE"],
    "recipient": ["CABINET", "|1^NOM", "||^^Internet^a@b.example", "CABINET|1^NOM"],
    "unique_id": ["1.2.3", OID64, f"{OID64}^{'x' * 16}", "1.2.3^A.1"],
    "object_type": [STABLE, ON_DEMAND],
    "association_type": sorted(ASSOCIATION_TYPES),
    "availability": [ONLINE, OFFLINE],
    "membership": ["Original", "Reference"],
}
WRONG: dict[str, list[str]] = {
    "id": ["", "urn:uuid:", "urn:uuid:6c1b0c5e", "urn:uuid:6c1b0c5e-0001-4000-8000-00000000000g",
           "urn:uuid:6c1b0c5e-0001-4000-8000-00000000000a ", "x" * 257],
    "home": ["", "1.2.3", "urn:oid:", "urn:oid:1.02", f"urn:oid:{OID64}1", "urn:oid:1.2.3\n"],
    "mime": ["", "text", "text/", "/xml", "text/xml; charset=utf-8", "text/xml\n", "texte é/x", f"{'a' * 65}/xml",
             f"{'a' * 60}/{'b' * 60}"],
    "language": ["", "f", "français", "fr_FR", "fr-", "fr-FR\n", "x" * 9],
    "sha1": ["", "0" * 39, "0" * 41, "g" * 40, "0" * 40 + "\n", "٣" * 40],
    "size": ["", "-1", "+1", "1.0", "1e3", "9" * 19, "٣", "1\n"],
    "oid": ["", "1", "1.", "3.1", "1.02", "a.b", f"{OID64}1", "urn:oid:1.2", "1.2\n"],
    "dtm": ["", "25", "202", "2025-01-01", "20250101T00", "20251301", "20250230", "20230229", "2025010124",
            "202501012360", "20250101000060", "20250101000000.0", "20250101000000+0100", "٢٠٢٥", "2025\n"],
    "cx": ["", "1", "1^^^1.2.3", "1^^^&1.2.3", "1^^^&1.2.3&DNS", "^^^&1.2.3&ISO", "1^^^&1.02&ISO", "1^^^&abc&ISO",
           r"1\x\^^^&1.2.3&ISO"],
    "cxi": ["", "1", "1^^^&1.2.3&ISO", "^^^&1.2.3&ISO^t"],
    "xcn": ["", "^^Prénom", "^NOM^^^^^^^&1.2.3&ISO"],
    "pid": ["", "PID-2|x", "PID-4|x", "PID-12|x", "PID-19|x", "PID|x", "PID-5", "5|NOM", "PID-x|y"],
    "recipient": ["", "|", "||", "a|1|^^Internet^a@b.example|d", "^^^^^^^^^1.2.3", "CABINET|^^Camille", "||^PRN^PH"],
    "unique_id": ["", "abc", "1.2.3^", "^x", "1.2.3^a^b", f"1.2.3^{'x' * 17}", f"{OID64}1", "urn:oid:1.2.3",
                  "urn:uuid:6c1b0c5e-0001-4000-8000-00000000000a"],
    "object_type": ["", "urn:uuid:7EDCA82F", "stable", STABLE + " "],
    "association_type": ["", "RPLC", "HasMember", "urn:ihe:iti:2007:AssociationType:rplc"],
    "availability": ["", "Online"],
    "membership": ["", "original", "Other"],
}
#: Formats of elements rather than of texts, tried further down
ELEMENTS = {"code", "author", "title"}


def pairs(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, values in table.items() for value in values]


def test_every_format_is_tried() -> None:
    assert set(RIGHT) == set(WRONG) == set(formats.CHECKS) - {"any", "text"} - ELEMENTS


@pytest.mark.parametrize(("name", "value"), pairs(RIGHT))
def test_right(name: str, value: str) -> None:
    assert formats.check(name, value) == ""


@pytest.mark.parametrize(("name", "value"), pairs(WRONG))
def test_wrong(name: str, value: str) -> None:
    assert formats.check(name, value) != ""


@given(st.sampled_from(sorted(set(formats.CHECKS) - ELEMENTS)), st.text(max_size=40))
def test_any_text_is_answered(name: str, value: str) -> None:
    assert isinstance(formats.check(name, value), str)


@pytest.mark.parametrize("name", sorted(set(formats.CHECKS) - ELEMENTS - {"any", "text"}))
def test_no_text_takes_long(name: str) -> None:
    began = time.perf_counter()
    for piece in ("1", "1.", "^", "&", "a/", "-a", "\\", "|", "PID-5|"):
        assert formats.check(name, piece * 200_000) != ""
    assert time.perf_counter() - began < 2


# --- elements ------------------------------------------------------------------------------------------------------


def coded(**changes: object) -> Classification:
    given_by = {"node_representation": "11", "slots": (Slot("codingScheme", ("1.2.3",)),), "name": localized("Lettre")}
    return Classification(DOCUMENT.class_code, **(given_by | changes))  # type: ignore[arg-type]


def test_a_code() -> None:
    assert formats.check("code", coded()) == ""
    assert formats.check("code", coded(node_representation="x" * 256)) == ""


@pytest.mark.parametrize("changes", [
    {"node_representation": ""}, {"slots": ()}, {"slots": (Slot("codingScheme", ()),)},
    {"slots": (Slot("codingScheme", ("",)),)}, {"slots": (Slot("codingScheme", ("1.2", "1.3")),)}, {"name": ()},
    {"name": localized("")}, {"name": (Localized(""),)}, {"node_representation": "x" * 257}])
def test_a_code_that_lacks_something(changes: dict[str, object]) -> None:
    assert formats.check("code", coded(**changes)) != ""


def author(**slots: tuple[str, ...]) -> Classification:
    return Classification(DOCUMENT.author, slots=tuple(Slot(name, values) for name, values in slots.items()))


@pytest.mark.parametrize("slots", [
    {"authorPerson": AUTHOR.persons}, {"authorInstitution": ("CABINET",)},
    {"authorInstitution": ("A", "B^^^^^&1.2.3&ISO^^^^9", "C^^^^^^^^^1.2.3")},
    {"authorTelecommunication": ("^PRN^PH^^^^0100000000", "^^Internet^a@b.example")},
    {"authorPerson": ("^NOM",), "authorRole": ("x", "y"), "authorSpecialty": ("G15_10/SM26^Médecin^1.2.3",)}])
def test_an_author(slots: dict[str, tuple[str, ...]]) -> None:
    assert formats.check("author", author(**slots)) == ""


@pytest.mark.parametrize("slots", [
    {}, {"authorRole": ("x",)}, {"authorPerson": ("^NOM", "^AUTRE")}, {"authorPerson": ("^^Camille",)},
    {"authorInstitution": ("^^^^^^^^^1.2.3",)}, {"authorInstitution": ("CABINET^^^^^^^^^123",)},
    {"authorTelecommunication": ("^PRN^PH",)}, {"authorTelecommunication": ("^^Internet",)}])
def test_an_author_that_lacks_something(slots: dict[str, tuple[str, ...]]) -> None:
    assert formats.check("author", author(**slots)) != ""


def test_a_title_has_an_end() -> None:
    assert formats.check("title", Localized("x" * 255)) == ""
    assert formats.check("title", Localized("x" * 256)) != ""


def test_what_is_shown_of_a_code_names_it() -> None:
    thing: RegistryObject = of_kind(submission(document(class_code=code("11", "bad\x7fscheme"), language="")),
                                    "DocumentEntry")
    wrong = [item if item.scheme != DOCUMENT.class_code else Classification(
        item.scheme, "", "77", thing.id, "c", (), (), item.slots) for item in thing.classifications]
    found = list(requirements.check(replace(thing, classifications=tuple(wrong)),
                                    requirements.load("ITI-42", "registry")))
    assert "77" in found[0].received
    assert "\x7f" not in found[0].received
