"""Findings: catalogues of all rooms load and speak both languages; a finding says what it was given, no more."""

from __future__ import annotations

from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds import findings
from xds.findings import NOWHERE, Catalogue, Finding, Provenance, Refused, Rule, Severity, Where, errors, shorten

ROOT = Path(__file__).parents[2]
CATALOGUES = {path.parent.name: Catalogue(path.parent.name) for path in sorted(ROOT.glob("*/findings.toml"))}
RULES = [(room, rule) for room, catalogue in CATALOGUES.items() for rule in catalogue.values()]
SOAP_CODES = {"", "Sender", "Receiver", "MustUnderstand", "VersionMismatch"}


def braces(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_there_are_catalogues():
    assert "xds" in CATALOGUES
    assert all(len(catalogue) > 0 for catalogue in CATALOGUES.values())


def test_codes_are_unique_over_all_rooms():
    codes = [rule.code for _, rule in RULES]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.code) for _, rule in RULES])
def test_a_rule_is_complete(rule):
    assert rule.fr
    assert rule.en
    assert rule.fr != rule.en
    assert rule.clause
    assert bool(rule.hint_fr) == bool(rule.hint_en)
    french, english, *hints = map(braces, (rule.fr, rule.en, rule.hint_fr, rule.hint_en))
    assert french == english
    assert all(name.isidentifier() for name in french.union(*hints))
    shown = rule.at(Where("envelope"), expected="A", received="B").as_dict()
    assert all(isinstance(shown[key], str) for key in ("fr", "en", "hint", "hint_en"))


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.code) for _, rule in RULES])
def test_a_fault_is_one_that_soap_can_say(rule):
    code = rule.fault.split("/")[0]
    assert code in SOAP_CODES or code.startswith(("wsa:", "wsse:", "wsnt:", "wsrf-rw:", "DMP")), rule.fault


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.code) for room, rule in RULES if room == "xds"])
def test_rules_of_this_room_are_used(rule):
    """A rule that no module names was forgotten."""
    sources = "".join(path.read_text("utf-8") for path in ROOT.glob("xds/*.py"))
    assert f'"{rule.code}"' in sources


RULE = Rule("V-ESSAI", Severity.ERROR, "attendu {expected}, reçu {received}, {other}", "expected {expected}, {path}",
            "§1", Provenance.OFFICIAL, "corriger {other}", "mend {missing}", "XDSRegistryError", "Sender")


def test_a_finding_fills_its_texts():
    finding = RULE.at(Where("p", 1, 2, "/a"), expected=1, received="{expected}", other=[3])
    assert finding.fr == "attendu 1, reçu {expected}, [3]"
    assert finding.en == "expected 1, /a"
    assert finding.as_dict() == {
        "code": "V-ESSAI", "severity": "error", "fr": finding.fr, "en": finding.en, "clause": "§1",
        "provenance": "official", "hint": "corriger [3]", "hint_en": "mend {missing}",
        "where": {"part": "p", "line": 1, "column": 2, "path": "/a"},
        "expected": "1", "received": "{expected}", "xds": "XDSRegistryError"}


def test_what_context_overrides():
    finding = Finding(RULE, severity_override=Severity.WARNING, xds_override="XDSTooManyResults")
    assert (finding.code, finding.where) == ("V-ESSAI", NOWHERE)
    assert (finding.severity, finding.xds) == ("warning", "XDSTooManyResults")
    assert errors([finding, RULE.at()]) == [RULE.at()]


def test_refused_carries_its_findings():
    one, two = RULE.at(received="1"), RULE.at(received="2")
    assert Refused(one).findings == (one,)
    assert Refused(iter([one, two])).findings == (one, two)
    assert "expected" in str(Refused(one))


@given(st.text(max_size=1000))
def test_what_is_shown_is_short_and_harmless(text):
    shown = shorten(text)
    assert len(shown) <= 301
    assert shown.isprintable()
    if text.isprintable() and len(text) <= 300:
        assert shown == text


def test_shortening_is_seen():
    assert shorten("x" * 301) == "x" * 300 + "…"
    assert shorten("\x1b[31m\r\nñ") == " [31m  ñ"


@pytest.mark.parametrize("entry", [
    {}, {"severity": "fatal", "provenance": "official"}, {"severity": "error", "provenance": "official", "fr": "a"},
    {"severity": "error", "provenance": "official", "fr": "", "en": "", "clause": "", "typo": ""},
])
def test_a_bad_entry_fails_with_file_and_code(entry):
    with pytest.raises(ValueError, match=r"xds/findings\.toml \[V-X\]"):
        findings._rule("xds", "V-X", entry)
