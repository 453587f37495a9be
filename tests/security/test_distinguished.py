"""Distinguished names: the same name in the many ways in which tools write it."""

from __future__ import annotations

import time

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from security.distinguished import pairs_of, read_name, write_name
from tests.security.signing import doctor, nursing_home, subject_of

SUBJECT = doctor().signature.subject
SAME = [
    "GN=ANNE+SN=ESSAI+CN=899999000013,title=Médecin,C=FR",
    "CN=899999000013+GN=ANNE+SN=ESSAI, T=Médecin, C=FR",
    "C=FR;title=MÉDECIN;CN=899999000013+SN=ESSAI+GN=ANNE",
    "2.5.4.42=ANNE+OID.2.5.4.4=ESSAI+2.5.4.3=899999000013,2.5.4.12=#0c084dc3a96465636 96e,C=FR".replace(" ", ""),
    "2.5.4.42=#0c04414e4e45+SN=ESSAI+CN=899999000013,title=M\\C3\\A9decin,C=FR",
    'givenName="ANNE" + surname=ESSAI + cn=899999000013 , Title=  médecin , c=fr',
    "2.5.4.42=#1404414e4e45+SN=ESSAI+CN=899999000013,title=Médecin,C=#13024652",
]
OTHER = [
    "GN=ANNE+SN=ESSAI+CN=899999000021,title=Médecin,C=FR",
    "GN=ANNE+SN=ESSAI+CN=899999000013,title=M?decin,C=FR",
    "SN=ESSAI+CN=899999000013,title=Médecin,C=FR",
    "GN=ANNE+SN=ESSAI+CN=899999000013,title=Médecin,C=FR,O=X",
    "GN=ANNE+SN=ESSAI+CN=899999000013,title=Médecin,C=#1302465200",
    "SN=ANNE+GN=ESSAI+CN=899999000013,title=Médecin,C=FR",
]


@pytest.mark.parametrize("text", SAME)
def test_the_same_name(text: str) -> None:
    assert read_name(text) == pairs_of(SUBJECT)


@pytest.mark.parametrize("text", OTHER)
def test_another_name(text: str) -> None:
    assert read_name(text) not in (None, pairs_of(SUBJECT))


@pytest.mark.parametrize("text", ["", "  ", "ANNE", "C=FR,", "C=FR,,O=X", "C=FR,O", "x" * 1001])
def test_no_name(text: str) -> None:
    assert read_name(text) is None


@pytest.mark.parametrize("text", ["C=\\", 'C="FR', "C=#", "C=#zz", "C=#0c", "C=#9901ff", '="', "=", "+=,;=",
                                  "C=\\FF\\FE"])
def test_odd_names_are_read_without_error(text: str) -> None:
    assert read_name(text) != pairs_of(SUBJECT)


@given(st.text(max_size=40))
def test_any_text_is_read_without_error(text: str) -> None:
    assert read_name(text) != pairs_of(SUBJECT)


SIGNS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
VALUES = st.text(SIGNS, min_size=1, max_size=20).filter(str.strip)


@given(VALUES, VALUES)
def test_what_is_written_is_read(name: str, unit: str) -> None:
    subject = subject_of({NameOID.ORGANIZATION_NAME: name}, {NameOID.ORGANIZATIONAL_UNIT_NAME: unit})
    assert read_name(write_name(subject)) == pairs_of(subject)


def test_names_of_the_ci_sis() -> None:
    assert write_name(SUBJECT) == "GN=ANNE+SN=ESSAI+CN=899999000013,title=Médecin,C=FR"
    assert write_name(nursing_home().signature.subject) == (
        "CN=essai,OU=1990000017,O=EHPAD DES ESSAIS,ST=Rhône (69),C=FR")


@pytest.mark.parametrize("text", ["\\" * 999, '"' * 999, "a=" + "+" * 900, "a=" + "\\0" * 499, ("a=" + '"' * 9) * 90])
def test_hostile_names_take_no_time(text: str) -> None:
    start = time.perf_counter()
    read_name(text)
    assert time.perf_counter() - start < 0.2


def test_bytes_in_a_certificate() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\x01\xe9", x509.name._ASN1Type.BitString)])
    assert pairs_of(name) == {("2.5.4.45", "\x01é")}
