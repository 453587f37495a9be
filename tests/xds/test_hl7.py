"""HL7 v2 types: canonical texts come back, wrong ones are refused in one sentence."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds import hl7
from xds.hl7 import CX, DTM, FN, HD, PID, XAD, XCN, XON, XPN, XTN, CXi

OID = "1.2.250.1.213.1.4.10"
PATIENT = f"279035121518989^^^&{OID}&ISO"

words = st.text(max_size=12)
oids = st.lists(st.integers(0, 99999), min_size=1, max_size=6).map(lambda arcs: "1." + ".".join(map(str, arcs)))
authorities = st.one_of(st.builds(HD, words), st.builds(HD, words, oids, st.just("ISO")),
                        st.builds(HD, words, words.filter(bool), st.sampled_from(["DNS", "GUID"])))
some = st.text(min_size=1, max_size=12)
families = st.builds(FN, some, words, words)
values = st.one_of(
    st.builds(CX, some, words, words, authorities, words, authorities),
    st.builds(CXi, id=some, authority=authorities, type_code=some, home=authorities),
    st.builds(XCN, some, families, words, words, words, words, words, words, authorities, words, words, words, words),
    st.builds(XPN, families, words, words, words, words, words, words),
    st.builds(XON, some, words, id=oids, authority=authorities),
    st.builds(XTN, use=words, equipment=words, email=some, country_code=words, unformatted=words),
    st.builds(XAD, city=words, postal_code=words, country=words),
)


@given(values)
def test_a_value_written_is_the_value_read(value):
    assert type(value).parse(str(value)) == value


@given(values)
def test_a_canonical_text_comes_back(value):
    text = str(value)
    assert str(type(value).parse(text)) == text


@given(st.text())
def test_escapes_are_undone(text):
    assert hl7.decode(hl7.encode(text)) == text
    assert not set(hl7.encode(text).replace("\\F\\", "").replace("\\S\\", "").replace("\\T\\", "")) & set("|^&~")


@given(st.text(alphabet="^&~|\\FSTRE1.ISOPID-3", max_size=40))
@pytest.mark.parametrize("kind", [CX, CXi, XCN, XPN, XON, XTN, XAD, HD, DTM, PID])
def test_any_text_is_read_or_refused(kind, text):
    try:
        value = kind.parse(text)
    except ValueError:
        return
    assert kind.parse(str(value)) == value


@pytest.mark.parametrize(("kind", "text"), [
    (CX, PATIENT), (CX, PATIENT + "^NH"),
    (XCN, "801234567890^ESSAI^Anne^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"),
    (XCN, "^Essai^Paul^^^Dr"), (XCN, "810000000017"), (XCN, "1^van Essai&van&Essai^Anne"),
    (XON, "Cabinet Essai^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1234567890"),
    (XON, "Clinique Essai^^^^^^^^^1.2.3.4.5"), (XON, "Clinique Essai"), (XON, "Essai \\T\\ fils"),
    (XTN, "^^Internet^anne@essai.example"), (XTN, "^PRN^PH^^33^^123456789"), (XTN, "^WPN^PH^^^^^^^^^+33123456789"),
    (XTN, "0123456789"), (XAD, "1 rue de l'Essai&rue de l'Essai&1^^Lyon^^69000^FR"),
    (CXi, "1.2.3^^^^urn:ihe:iti:xds:2013:uniqueId"),
    (CXi, f"77^^^&{OID}&ISO^urn:ihe:iti:xds:2013:accession^&1.2.3&ISO"),
    (HD, "ESSAI&1.2.3&ISO"), (DTM, "2024"), (DTM, "20240229235959"),
    (PID, f"PID-3|{PATIENT}~12^^^&1.2.3&ISO"), (PID, "PID-5|ESSAI^Anne^^^Mme^^D"), (PID, "PID-7|19790312"),
    (PID, "PID-8|F"), (PID, "PID-11|^^Lyon^^69000"), (PID, "PID-13|anything ^^ \\here"), (PID, "PID-8|"),
])
def test_right_texts_come_back(kind, text):
    assert str(kind.parse(text)) == text


@pytest.mark.parametrize(("kind", "text", "part"), [
    (CX, "", "CX.1"), (CX, f"^^^&{OID}&ISO", "CX.1"), (CX, "1^^^&1.02&ISO", "no OID"),
    (CX, f"1^^^&{OID}", "or neither"), (CX, "1^^^&&ISO", "or neither"),
    (CX, "1" + "^" * 10 + "x", "11 components, 10 at most"), (CX, "a&b", "\\T\\"),
    (CX, "1^^^a&b&c&d", "4 components, 3 at most"), (CX, "a\\b", "backslash"), (CX, "a\\T", "backslash"),
    (CX, "a\\Z\\", "backslash"),
    (CX, "x" * 20_000, "20000 characters"),
    (CXi, "1^^^^", "CXi.5"), (CXi, "^^^^t", "CXi.1"), (CXi, "1^2^^^t", "CXi.2"),
    (XCN, "", "neither"), (XCN, "^^Anne", "neither"), (XCN, f"^Essai^Anne^^^^^^&{OID}&ISO", "without an identifier"),
    (XON, "^^^^^^^^^1.2.3", "XON.1"), (XON, "Essai^^^^^^^^^123", "XON.10"), (XON, "Essai & fils", "\\T\\"),
    (XTN, "^PRN^PH", "neither"), (XTN, "^^Internet^^33^^1234", "XTN.4"),
    (HD, "a^b", "\\S\\"),
    (DTM, "", "YYYY"), (DTM, "202", "YYYY"), (DTM, "20241", "YYYY"), (DTM, "20240230", "calendar"),
    (DTM, "202413", "calendar"), (DTM, "0000", "calendar"), (DTM, "2024010124", "calendar"),
    (DTM, "20240101+0100", "YYYY"), (DTM, "2024010100000099", "YYYY"), (DTM, "٢٠٢٤", "YYYY"), (DTM, "2024\n", "YYYY"),
    (PID, "PID-2|x", "does not belong"), (PID, "PID-19|x", "does not belong"), (PID, "PID-40|x", "1 to 39"),
    (PID, "PID-03|x", "1 to 39"), (PID, "PID-3", "1 to 39"), (PID, "x", "1 to 39"), (PID, "PID-8|W", "F, M"),
    (PID, "PID-7|19790230", "PID-7"), (PID, "PID-5|A|B", "\\F\\"), (PID, "PID-3|1~", "PID-3"),
    (PID, "PID-3|" + "x" * 20_000, "1 to 39"),
])
def test_wrong_texts_are_refused_with_a_reason(kind, text, part):
    with pytest.raises(ValueError, match=r"\w") as caught:
        kind.parse(text)
    assert part in str(caught.value)


def test_a_composite_names_its_components():
    person = XCN.parse("801234567890^ESSAI^Anne^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS")
    assert (person.id, person.family, person.given) == ("801234567890", "ESSAI", "Anne")
    assert (person.authority.universal_id, person.name_type, person.type_code) == ("1.2.250.1.71.4.2.1", "D", "IDNPS")
    assert XPN.parse("ESSAI^Anne").family == "ESSAI"


@pytest.mark.parametrize(("text", "low", "high"), [
    ("2024", "20240101000000", "20241231235959"), ("202402", "20240201000000", "20240229235959"),
    ("202302", "20230201000000", "20230228235959"), ("20240607", "20240607000000", "20240607235959"),
    ("2024060708", "20240607080000", "20240607085959"), ("202406070809", "20240607080900", "20240607080959"),
    ("20240607080910", "20240607080910", "20240607080910"),
])
def test_bounds_of_a_time(text, low, high):
    assert (DTM.parse(text).lower_bound, DTM.parse(text).upper_bound) == (low, high)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
       st.sampled_from([4, 6, 8, 10, 12, 14]))
def test_a_time_lies_between_its_bounds(moment, precision):
    full = str(DTM.of(moment))
    value = DTM.parse(full[:precision])
    assert value.lower_bound <= full <= value.upper_bound
    assert DTM.parse(value.upper_bound).text == value.upper_bound
    assert value.moment() <= moment


@given(st.integers(1, 9999), st.integers(0, 99), st.integers(0, 99))
def test_dates_are_those_of_the_calendar(year, month, day):
    text = f"{year:04d}{month:02d}{day:02d}"
    real = 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
    try:
        DTM.parse(text)
    except ValueError:
        assert not real
    else:
        assert real


def test_a_moment_is_written_in_utc():
    paris = timezone(timedelta(hours=2))
    assert str(DTM.of(datetime(2024, 6, 1, 1, 30, tzinfo=paris))) == "20240531233000"
    with pytest.raises(ValueError, match="zone"):
        DTM.of(datetime(2024, 6, 1))


@pytest.mark.parametrize(("text", "right"), [
    ("1.2.3", True), ("2.25.329800735698586629295641978511506172918", True), ("0.0", True), ("1.42.20240101", True),
    ("1." + "1" * 62, True), ("1." + "1" * 63, False), ("1", False), ("3.1", False), ("1.02", False), ("1..2", False),
    ("1.2.", False), (".1.2", False), ("1.2 ", False), ("1.2\n", False), ("1.٢", False), ("", False), ("1.a", False),
    ("1." * 50_000, False),
])
def test_oids(text, right):
    assert hl7.is_oid(text) is right


@pytest.mark.parametrize(("text", "right"), [
    ("urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1", True), ("URN:UUID:7EDCA82F-054D-47F2-A032-9B2A5B5186C1", True),
    ("7edca82f-054d-47f2-a032-9b2a5b5186c1", False), ("urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c", False),
    ("urn:uuid:7edca82f054d47f2a0329b2a5b5186c1", False), ("urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1\n", False),
])
def test_uuids(text, right):
    assert hl7.is_uuid(text) is right


@pytest.mark.parametrize(("other", "same"), [
    (PATIENT, True), (PATIENT + "^NH", True), (PATIENT + "^PI", True), (PATIENT.replace("^&", "^INS&"), True),
    (PATIENT.replace("279", "278"), False), (PATIENT.replace(".10&", ".8&"), False),
    (PATIENT.replace("ISO", "DNS"), False), ("279035121518989", False),
    (" " + PATIENT, False), ("", False), ("not&a&cx", False),
])
def test_same_patient(other, same):
    assert hl7.same_patient(PATIENT, other) is same
    assert hl7.same_patient(other, PATIENT) is same


def test_a_text_that_is_no_cx_is_nobodys():
    assert not hl7.same_patient("a&b", "a&b")


def test_local_namespaces_count_where_there_is_no_other():
    assert hl7.same_patient("1^^^ESSAI", "1^^^ESSAI^PI")
    assert not hl7.same_patient("1^^^ESSAI", "1^^^AUTRE")
