"""Identity feeds in HL7 v2: ADT read, one change makes one finding, ACKs that the library `hl7` reads again."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds import hl7v2
from xds.feed import MOST_IDS, Feed
from xds.findings import Catalogue, Finding, Refused, Severity, Where
from xds.hl7v2 import Header, read_feed, read_header, write_ack

RULES = Catalogue("xds")
AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
INS = "299999999999945^^^&1.2.250.1.213.1.4.10&ISO"
MESSAGE = (
    "MSH|^~\\&|SOURCE|ETAB|VOLET|REGISTRE|20260301083000||ADT^A01^ADT_A01|M-0001|T|2.3.1\r"
    "EVN|A01|20260301083000\r"
    "PID|1||299999999999945^^^INS&1.2.250.1.213.1.4.10&ISO^INS||ESSAI^CAMILLE^^^^^L||19580517|F\r"
    "PV1||O\r")


def message(old: str = "MSH", new: str = "MSH", text: str = MESSAGE) -> bytes:
    assert old in text
    return text.replace(old, new, 1).encode()


def refused(data: bytes) -> list[Finding]:
    with pytest.raises(Refused) as caught:
        read_feed(data)
    assert all(finding.where.part == "HL7 v2" for finding in caught.value.findings)
    return list(caught.value.findings)


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_message_is_read():
    assert read_feed(message()) == Feed((INS,), (), "ESSAI", "CAMILLE", "19580517", "F")
    assert read_header(message()) == Header("SOURCE", "ETAB", "VOLET", "REGISTRE", "ADT", "A01", "M-0001", "T", "2.3.1",
                                            "", "|^~\\&", is_read=True)


@pytest.mark.parametrize("event", ["A01", "A04", "A05", "A08"])
@pytest.mark.parametrize("version", ["2.3.1", "2.4", "2.5", "2.5.1", "2.6^FRA", "2.8.2"])
def test_events_and_versions_served(event, version):
    assert read_feed(message("ADT^A01^ADT_A01|M-0001|T|2.3.1", f"ADT^{event}|M-0001|T|{version}")).identifiers == (INS,)


@pytest.mark.parametrize(("old", "new"), [
    ("\r", "\n"), ("\r", "\r\n"), ("MSH", "\r\nMSH"), ("PV1||O\r", "PV1||O"), ("EVN|A01|20260301083000\r", ""),
    ("|^~\\&|", "|^~\\&#|"),
])
def test_line_ends_and_what_is_left_out(old, new):
    assert read_feed(MESSAGE.replace(old, new).encode()).identifiers == (INS,)


def test_separators_are_the_messages_own():
    own = MESSAGE.translate(str.maketrans("|^~\\&", "!@#$%")).replace("ESSAI", "ES$F$$S$$R$$E$$T$").encode()
    assert read_feed(own) == Feed((INS,), (), "ES!@#$%", "CAMILLE", "19580517", "F")
    answer = write_ack(read_header(own), [SEX], AT, "A-1").decode()
    assert answer.startswith("MSH!@#$%!VOLET!REGISTRE!SOURCE!ETAB!")
    assert hl7.parse(answer).segment("MSA")[1][0] == "AA"


@pytest.mark.parametrize(("old", "new", "code"), [
    ("MSH", "BHS", "V-V2-MESSAGE"),
    ("|^~\\&|", "|^~\\|", "V-V2-MESSAGE"),
    ("|^~\\&|", "|^^\\&|", "V-V2-MESSAGE"),
    ("|^~\\&|", "|ABCD|", "V-V2-MESSAGE"),
    ("SOURCE", "S" * 5000, "V-V2-MESSAGE"),
    ("M-0001", "", "V-V2-FIELD"),
    ("M-0001", "  ", "V-V2-FIELD"),
    ("2.3.1", "", "V-V2-VERSION"),
    ("2.3.1", "3.0", "V-V2-VERSION"),
    ("ADT^A01^ADT_A01", "ADT^A40^ADT_A39", "V-V2-EVENT"),
    ("ADT^A01^ADT_A01", "ORU^R01", "V-V2-EVENT"),
    ("ADT^A01^ADT_A01", "ADT", "V-V2-EVENT"),
    ("ADT^A01^ADT_A01", "", "V-V2-EVENT"),
    ("2.3.1\r", "2.3.1||||||UNICODE\r", "V-V2-CHARSET"),
    ("PID|", "ZID|", "V-V2-SEGMENT"),
    ("PV1||O", "PID|2||X", "V-V2-SEGMENT"),
    ("CAMILLE", "C" * 20_000, "V-V2-SEGMENT"),
    ("299999999999945", "1~" * MOST_IDS + "299999999999945", "V-V2-SEGMENT"),
    ("CAMILLE", "CAM\\ILLE", "V-V2-ESCAPE"),
    ("CAMILLE", "CAM\\Q\\ILLE", "V-V2-ESCAPE"),
    ("CAMILLE", "CAM\\.sp999999999\\ILLE", "V-V2-ESCAPE"),
    ("CAMILLE", "C" * 201, "V-FEED-NAME"),
    ("CAMILLE", "CAM\\X07\\ILLE", "V-FEED-NAME"),
    ("299999999999945^^^INS&1.2.250.1.213.1.4.10&ISO^INS", "", "V-FEED-IDENTIFIER-ABSENT"),
    ("299999999999945^^^INS&1.2.250.1.213.1.4.10&ISO^INS", '""', "V-FEED-IDENTIFIER-ABSENT"),
    ("||299999999999945^^^INS&1.2.250.1.213.1.4.10&ISO^INS||ESSAI^CAMILLE^^^^^L||19580517|F", "",
     "V-FEED-IDENTIFIER-ABSENT"),
    ("INS&1.2.250.1.213.1.4.10&ISO", "INS", "V-FEED-AUTHORITY"),
    ("INS&1.2.250.1.213.1.4.10&ISO", "", "V-FEED-AUTHORITY"),
    ("1.2.250.1.213.1.4.10&ISO", "1.2.250.1.213.1.4.10&DNS", "V-FEED-AUTHORITY"),
    ("1.2.250.1.213.1.4.10&ISO", "essai.example&ISO", "V-FEED-AUTHORITY"),
    ("299999999999945^", "^", "V-FEED-IDENTIFIER"),
    ("299999999999945^", "9" * 129 + "^", "V-FEED-IDENTIFIER"),
    ("299999999999945^", "9\u200b9^", "V-FEED-IDENTIFIER"),
])
def test_one_change_one_refusal(old, new, code):
    assert [finding.code for finding in refused(message(old, new))] == [code]


def test_everything_wrong_with_a_header_is_told_at_once():
    found = refused(message("ADT^A01^ADT_A01|M-0001|T|2.3.1", "ADT^A40||T|9"))
    assert [finding.where.path for finding in found] == ["MSH-10", "MSH-12", "MSH-9"]


def test_a_local_name_of_an_authority_is_shown():
    (finding,) = refused(message("INS&1.2.250.1.213.1.4.10&ISO", "HOPITAL"))
    assert (finding.received, finding.values["identifier"]) == ("HOPITAL", "299999999999945")
    assert "id^^^&OID&ISO" in finding.as_dict()["hint"]


def test_an_identifier_that_cannot_be_used_does_not_spoil_the_others():
    told = read_feed(message("299999999999945", "42^^^HOPITAL^PI~^^^~7^^^&1.2.3&ISO~299999999999945"))
    assert told.identifiers == ("7^^^&1.2.3&ISO", INS)
    assert [(finding.code, finding.severity) for finding in told.warnings] == [("V-FEED-AUTHORITY", Severity.WARNING)]


@pytest.mark.parametrize(("old", "new", "code"), [
    ("19580517", "19581332", "V-FEED-BIRTH-DATE"), ("19580517", "1", "V-FEED-BIRTH-DATE"),
    ("|F\r", "|X\r", "V-FEED-SEX"),
])
def test_what_is_odd_is_read_with_a_warning(old, new, code):
    told = read_feed(message(old, new))
    assert [(finding.code, finding.severity) for finding in told.warnings] == [(code, Severity.WARNING)]


@pytest.mark.parametrize(("old", "new", "traits"), [
    ("ESSAI^CAMILLE^^^^^L", "USAGE^CAM^^^^^D~ESSAI^CAMILLE^^^^^L", ("ESSAI", "CAMILLE", "19580517", "F")),
    ("ESSAI^CAMILLE^^^^^L", "ESSAI^CAMILLE~AUTRE^NOM", ("ESSAI", "CAMILLE", "19580517", "F")),
    ("ESSAI^CAMILLE", "DE ESSAI&DE&ESSAI^CAMILLE", ("DE ESSAI", "CAMILLE", "19580517", "F")),
    ("ESSAI^CAMILLE^^^^^L", '""', ("", "", "19580517", "F")),
    ("ESSAI^CAMILLE^^^^^L||19580517|F", "", ("", "", "", "")),
    ("ESSAI", "D\\T\\E \\H\\S\\N\\\\.br\\A", ("D&E S A", "CAMILLE", "19580517", "F")),
    ("ESSAI", "NO\\XC38B\\L", ("NOËL", "CAMILLE", "19580517", "F")),
    ("19580517", "195805171430+0100", ("ESSAI", "CAMILLE", "19580517", "F")),
    ("19580517", "1958", ("ESSAI", "CAMILLE", "1958", "F")),
    ("|F\r", "|O\r", ("ESSAI", "CAMILLE", "19580517", "U")),
    ("|F\r", "|\r", ("ESSAI", "CAMILLE", "19580517", "")),
])
def test_traits(old, new, traits):
    told = read_feed(message(old, new))
    assert (told.family, told.given, told.birth_date, told.sex) == traits
    assert told.warnings == ()


@pytest.mark.parametrize(("declared", "codec"), [
    ("8859/1", "iso-8859-1"), ("8859/15", "iso-8859-15"), ("UNICODE UTF-8", "utf-8"), ("utf-8~8859/1", "utf-8"),
    ("", "utf-8"), ("", "iso-8859-1"),
])
def test_charsets(declared, codec):
    data = MESSAGE.replace("2.3.1\r", f"2.3.1||||||{declared}\r").replace("ESSAI", "NOËL").encode(codec)
    assert read_feed(data).family == "NOËL"


def test_content_against_its_charset_is_refused():
    for declared in ("ASCII", "UNICODE UTF-8"):
        data = MESSAGE.replace("2.3.1\r", f"2.3.1||||||{declared}\r").replace("ESSAI", "NOËL").encode("latin-1")
        (finding,) = refused(data)
        assert finding.code == "V-V2-CHARSET"
        assert declared in finding.received


def test_size_is_bounded():
    big = message("PV1||O", "PV1||" + "O" * (hl7v2.MAX_BYTES - len(MESSAGE) + 1))
    assert len(big) == hl7v2.MAX_BYTES
    assert read_feed(big).identifiers == (INS,)
    assert refused(big + b"O")[0].code == "V-V2-TOO-LARGE"


@pytest.mark.parametrize("flood", [
    b"|" * hl7v2.MAX_BYTES, b"\r" * hl7v2.MAX_BYTES, message() + b"PID\r" * 200_000, message() + b"PID|\r" * 200_000,
    message("CAMILLE", "~" * 15_000), message("CAMILLE", "&" * 15_000), message("CAMILLE", "\\E\\" * 5_000),
    message("CAMILLE", "CAMILLE" + "|a^b&c~d" * 1_500), b"MSH|^~\\&|" + b"a^b&c~" * 170_000,
])
def test_floods_end_in_time(flood):
    began = time.perf_counter()
    with suppress(Refused):
        read_feed(flood)
    assert time.perf_counter() - began < 1.5


@given(st.binary(max_size=300), st.integers(0, len(MESSAGE)))
def test_no_bytes_do_more_than_be_refused(data, at):
    whole = MESSAGE.encode()
    for changed in (data, whole[:at] + data + whole[at:], whole[:at] + data, whole[:at] + data + whole[at + len(data):],
                    b"MSH|^~\\&|" + data, MESSAGE.split("PID")[0].encode() + b"PID|" + data):
        header = read_header(changed)
        with suppress(Refused):
            read_feed(changed)
        answer = write_ack(header, [EVENT], AT, "A-1")
        assert answer.count(b"\r") == 3
        assert not set(b"\x0b\x1c\x00\n") & set(answer)


pieces = st.lists(st.sampled_from(["|", "^", "~", "\\", "&", "\\F\\", "\\X", "1.2.3", "ISO", "PI", '""', "é", "\t"]),
                  max_size=40).map("".join)


@given(pieces)
def test_no_segment_does_more_than_be_refused(text):
    data = (MESSAGE.split("PID")[0] + "PID|1||" + text).encode()
    with suppress(Refused):
        told = read_feed(data)
        assert told.identifiers
        assert all(cx.isprintable() for cx in told.identifiers)


# --- answers -------------------------------------------------------------------------------------------------------

SEX = RULES["V-FEED-SEX"].at(Where("HL7 v2", path="PID-8"), expected="M | F", received="X|^~\\&\r\n\x0b")
EVENT = RULES["V-V2-EVENT"].at(Where("HL7 v2", path="MSH-9"), expected="ADT^A01", received="ADT^A40")
ELSEWHERE = RULES["V-V2-TOO-LARGE"].at(expected=1, received=2)


def acknowledged(findings: list[Finding], data: bytes = message()) -> hl7.Message:
    """The ACK, read by the library."""
    return hl7.parse(write_ack(read_header(data), findings, AT, "A-1").decode())


def test_an_acceptance():
    ack = acknowledged([])
    assert [str(segment[0]) for segment in ack] == ["MSH", "MSA"]
    msh, msa = ack.segment("MSH"), ack.segment("MSA")
    assert [str(msh[number]) for number in range(3, 13)] == [
        "VOLET", "REGISTRE", "SOURCE", "ETAB", "20260301083000", "", "ACK^A01", "A-1", "T", "2.3.1"]
    assert (str(msa[1]), str(msa[2])) == ("AA", "M-0001")


def test_a_refusal_before_version_2_5():
    ack = acknowledged([EVENT, ELSEWHERE])
    msa = ack.segment("MSA")
    assert (str(msa[1]), str(msa[2])) == ("AE", "M-0001")
    text = ack.unescape(str(msa[3]))
    assert text == f"[V-V2-EVENT] {EVENT.fr} — {EVENT.en}"
    first, second = ack.segments("ERR")
    assert [str(part) for part in first[1][0][:3]] == ["MSH", "1", "9"]
    assert str(first[1][0][3][0]) == "201"
    assert EVENT.fr in ack.unescape(str(first[1][0][3][1]))
    assert str(second[1][0][0]) == ""


def test_a_refusal_since_version_2_5():
    ack = acknowledged([EVENT, SEX, ELSEWHERE], message("2.3.1", "2.5.1"))
    assert str(ack.segment("MSH")[9]) == "ACK^A01^ACK"
    event, sex, elsewhere = ack.segments("ERR")
    assert [str(event[number]) for number in range(1, 6)] == [
        "", "MSH^1^9", "201^Unsupported event code^HL70357", "E", "V-V2-EVENT^^Volet"]
    assert EVENT.en in ack.unescape(str(event[7]))
    assert EVENT.fr in ack.unescape(str(event[8]))
    assert EVENT.as_dict()["hint"] in ack.unescape(str(event[8]))
    assert [str(sex[number]) for number in (2, 3, 4)] == ["PID^1^8", "103^Table value not found^HL70357", "W"]
    assert "X|^~\\&" in ack.unescape(str(sex[8]))
    assert [str(elsewhere[number]) for number in (2, 3)] == ["", "207^Application internal error^HL70357"]


def test_warnings_stand_in_an_acceptance_where_there_is_room():
    rich, poor = acknowledged([SEX], message("2.3.1", "2.5")), acknowledged([SEX])
    assert (str(rich.segment("MSA")[1]), len(rich.segments("ERR"))) == ("AA", 1)
    assert [str(segment[0]) for segment in poor] == ["MSH", "MSA"]


@pytest.mark.parametrize(("declared", "codec", "answered"), [
    ("8859/1", "latin-1", "8859/1"), ("UNICODE UTF-8", "utf-8", "UNICODE UTF-8"), ("", "utf-8", "UNICODE UTF-8"),
    ("KLINGON", "utf-8", "UNICODE UTF-8"),
])
def test_an_answer_is_in_the_character_set_of_the_message(declared, codec, answered):
    answer = write_ack(read_header(message("2.3.1\r", f"2.3.1||||||{declared}\r")), [EVENT], AT, "A-1").decode(codec)
    assert hl7.parse(answer).segment("MSH")[18][0] == answered
    assert "n'est pas servi ici" in answer
    assert "attendu" in answer


def test_what_cannot_be_read_is_answered_all_the_same():
    ack = acknowledged([RULES["V-V2-MESSAGE"].at(expected="MSH", received="GET")], b"GET / HTTP/1.1\r\n\r\n")
    assert (str(ack.segment("MSA")[1]), str(ack.segment("MSA")[2])) == ("AE", "")
    assert str(ack.segment("MSH")[12]) == "2.5"
