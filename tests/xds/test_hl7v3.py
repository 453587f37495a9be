"""Identity feeds in HL7 v3: what is written is read, one change is one finding, answers are those of appendix O."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from xds import hl7v3
from xds.answers import failure
from xds.feed import LONGEST_ID, MOST_IDS, Feed
from xds.findings import Catalogue, Finding, Refused, Severity, Where
from xds.hl7 import CX, HD
from xds.hl7v3 import ADD, II, MERGE, REVISE, V3, Header, read_feed, read_header, write_acknowledgement, write_feed
from xds.messages import TRANSACTIONS, transaction_of
from xds.xml import Element, parse

RULES = Catalogue("xds")
AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
INS, LOCAL = "299999999999945^^^&1.2.250.1.213.1.4.10&ISO", "P-42^^^&1.2.3.4&ISO"
HEADER = Header(ADD, II("1.2.3.9", "message-1"), II("1.2.3.5"), II("1.2.3.6"), "T")
FEED = Feed((INS,), (LOCAL,), "ESSAI", "CAMILLE", "19580517", "F")
MESSAGE = write_feed(FEED, HEADER, AT)


def feed_of(text: str) -> Feed:
    return read_feed(parse(text.encode()))


def refused(text: str) -> list[Finding]:
    with pytest.raises(Refused) as caught:
        feed_of(text)
    return list(caught.value.findings)


def changed(old: str, new: str) -> str:
    assert MESSAGE.count(old) == 1
    return MESSAGE.replace(old, new)


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_message_is_read():
    assert feed_of(MESSAGE) == FEED
    assert read_header(parse(MESSAGE.encode())) == HEADER


printable = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
oids = st.lists(st.integers(0, 10**6), min_size=1, max_size=6).map(lambda arcs: ".".join(map(str, [1, *arcs])))
cxs = st.builds(lambda identity, oid: str(CX(identity, authority=HD("", oid, "ISO"))), printable, oids)
names = st.lists(printable, max_size=3).map(" ".join)
feeds = st.builds(Feed, st.lists(cxs, min_size=1, max_size=3, unique=True).map(tuple),
                  st.lists(cxs, max_size=2, unique=True).map(tuple), names, names,
                  st.sampled_from(["", "1958", "195805", "19580517"]), st.sampled_from(["", "M", "F", "U"]))


@given(feeds, st.sampled_from([ADD, REVISE]), printable, oids)
def test_what_is_written_is_read(told, interaction, extension, oid):
    header = Header(interaction, II(oid, extension), II("1.2"), II(""), "P")
    body = parse(write_feed(told, header, AT).encode())
    assert read_feed(body) == told
    assert read_header(body) == header


def test_the_message_is_in_the_order_of_the_standard():
    """IHE's own schematron and schemas ask for these (ITI TF-2 table 3.44.4.1.2-2, appendix O.1.1)."""
    body = parse(MESSAGE.encode())
    assert [child.tag.rpartition("}")[2] for child in body] == [
        "id", "creationTime", "interactionId", "processingCode", "processingModeCode", "acceptAckCode", "receiver",
        "sender", "controlActProcess"]

    def value(path: str) -> list[str]:
        return body.xpath(path, namespaces={"v": V3})

    assert value("v:creationTime/@value") == ["20260301083000"]
    assert value("v:interactionId/@*") == [hl7v3.INTERACTIONS, ADD]
    assert value("v:controlActProcess/v:code/@code") == ["PRPA_TE201301UV02"]
    assert value("v:acceptAckCode/@code") == ["AL"]
    assert value("v:sender/v:device/v:id/@root") == ["1.2.3.5"]
    assert value("//v:patientPerson/v:asOtherIDs/v:scopingOrganization/v:id/@root") == ["1.2.3.4"]


PATH = "controlActProcess/subject/registrationEvent/subject1/patient"


@pytest.mark.parametrize(("old", "new", "code"), [
    (f' xmlns="{V3}"', ' xmlns="urn:other"', "V-V3-MESSAGE"),
    ('<id root="1.2.3.9" extension="message-1"/>', "", "V-V3-CONTENT"),
    ('<id root="1.2.3.9" extension="message-1"/>', '<id nullFlavor="NI"/>', "V-V3-CONTENT"),
    ('root="1.2.250.1.213.1.4.10" extension', 'root="INS" extension', "V-FEED-AUTHORITY"),
    ('root="1.2.250.1.213.1.4.10" extension', 'assigningAuthorityName="INS" extension', "V-FEED-AUTHORITY"),
    ('extension="299999999999945"', 'extension=""', "V-FEED-IDENTIFIER"),
    ('extension="299999999999945"', 'extension="1&#x9;2"', "V-FEED-IDENTIFIER"),
    ('extension="299999999999945"', f'extension="{"1" * (LONGEST_ID + 1)}"', "V-FEED-IDENTIFIER"),
    ('root="1.2.250.1.213.1.4.10" extension="299999999999945"', 'nullFlavor="NA"', "V-FEED-IDENTIFIER-ABSENT"),
    ("ESSAI", "E" * 201, "V-FEED-NAME"),
    ("CAMILLE", "CAM\u200bILLE", "V-FEED-NAME"),
    ("</subject1>", "</subject1><subject1/>", "V-V3-CONTENT"),
])
def test_one_change_one_refusal(old, new, code):
    assert [finding.code for finding in refused(changed(old, new))] == [code]


@pytest.mark.parametrize("name", [*PATH.split("/"), "patientPerson"])
def test_what_is_missing_on_the_way_to_the_patient_has_a_name(name):
    text = MESSAGE.replace(f"<{name} ", f"<x{name} ").replace(f"</{name}>", f"</x{name}>")
    (finding,) = refused(text)
    assert finding.code == "V-V3-CONTENT"
    assert finding.values["path"] == name
    assert name in finding.fr
    assert name in finding.en


@pytest.mark.parametrize(("old", "new", "code"), [
    (f'extension="{ADD}"', f'extension="{REVISE}"', "V-V3-INTERACTION"),
    ('value="19580517"', 'value="19581350"', "V-FEED-BIRTH-DATE"),
    ('value="19580517"', 'value="hier"', "V-FEED-BIRTH-DATE"),
    ('<administrativeGenderCode code="F"/>', '<administrativeGenderCode code="Z"/>', "V-FEED-SEX"),
    ('<patient classCode="PAT">', '<patient classCode="PAT"><id root="LOCAL" extension="1"/>', "V-FEED-AUTHORITY"),
])
def test_what_is_odd_is_read_with_a_warning(old, new, code):
    told = feed_of(changed(old, new))
    assert [finding.code for finding in told.warnings] == [code]
    assert told.warnings[0].severity is Severity.WARNING
    assert told.identifiers == (INS,)


@pytest.mark.parametrize(("old", "new", "names"), [
    ('<name use="L">', "<name>", ("ESSAI", "CAMILLE")),
    ('<name use="L">', '<name><family>USAGE</family></name><name use="C L">', ("ESSAI", "CAMILLE")),
    ("<family>ESSAI", '<family qualifier="SP">USAGE</family><family qualifier="BR">ESSAI', ("ESSAI", "CAMILLE")),
    ("<given>CAMILLE", "<given> CAMILLE\n  MARIE </given><given>AUTRE", ("ESSAI", "CAMILLE MARIE")),
    ('<name use="L">', '<name nullFlavor="UNK">', ("", "")),
    ("<family>ESSAI", '<family nullFlavor="UNK">ESSAI', ("", "CAMILLE")),
    ("<family>ESSAI", "<family><!-- x -->ESSAI", ("ESSAI", "CAMILLE")),
])
def test_which_name_is_taken(old, new, names):
    told = feed_of(changed(old, new))
    assert (told.family, told.given) == names


@pytest.mark.parametrize(("old", "new", "birth", "sex"), [
    ("19580517", "195805171430+0100", "19580517", "F"),
    ("19580517", "1958", "1958", "F"),
    ('value="19580517"', 'nullFlavor="UNK"', "", "F"),
    ('<administrativeGenderCode code="F"/>', '<administrativeGenderCode code="UN"/>', "19580517", "U"),
    ('<administrativeGenderCode code="F"/>', '<administrativeGenderCode nullFlavor="UNK"/>', "19580517", ""),
    ('<administrativeGenderCode code="F"/>', "", "19580517", ""),
])
def test_birth_and_sex(old, new, birth, sex):
    told = feed_of(changed(old, new))
    assert (told.birth_date, told.sex, told.warnings) == (birth, sex, ())


def test_an_identifier_sent_twice_is_one():
    told = feed_of(changed('<patient classCode="PAT">', '<patient classCode="PAT"><id root="1.2.250.1.213.1.4.10" '
                                                        'extension="299999999999945"/>'))
    assert told.identifiers == (INS,)


def test_a_merge_is_no_feed():
    (finding,) = refused(MESSAGE.replace(ADD, MERGE))
    assert finding.code == "V-V3-MESSAGE"
    assert ADD in finding.expected


def test_floods_are_refused_in_time():
    flood = '<id root="1.2.3" extension="1"/>' * 200_000
    began = time.perf_counter()
    (finding,) = refused(changed('<patient classCode="PAT">', f'<patient classCode="PAT">{flood}'))
    assert finding.code == "V-V3-CONTENT"
    assert finding.expected == f"≤ {MOST_IDS}"
    others = "".join(f'<asOtherIDs><id root="1.2.3" extension="{number}"/></asOtherIDs>' for number in range(100_000))
    assert refused(changed("</patientPerson>", f"{others}</patientPerson>"))[0].code == "V-V3-CONTENT"
    assert feed_of(changed("</patientPerson>", "<name/>" * 100_000 + "</patientPerson>")) == FEED
    assert time.perf_counter() - began < 3


elements = st.sampled_from(["id", "name", "family", "patient", "patientPerson", "birthTime", *PATH.split("/")])


@given(st.integers(0, len(MESSAGE)), st.text(max_size=20), elements)
def test_no_message_does_more_than_be_refused(at, text, name):
    for data in (MESSAGE[:at] + text + MESSAGE[at:], MESSAGE[:at] + f"<{name}/>" + MESSAGE[at:],
                 f'<{name} xmlns="{V3}"><![CDATA[{text}]]></{name}>'):
        with suppress(Refused):
            body = parse(data.encode("utf-8", "replace"))
            parse(write_acknowledgement(read_header(body), [], AT).encode())
            read_feed(body)


# --- answers -------------------------------------------------------------------------------------------------------

#: Accept acknowledgement in RELAX NG, written from ITI TF-2 appendix O.1.2
ANSWER = etree.RelaxNG(etree.fromstring(f"""
<grammar ns="{V3}" xmlns="http://relaxng.org/ns/structure/1.0"
         datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes"><start>
<element name="MCCI_IN000002UV01"><attribute name="ITSVersion" ns=""><value>XML_1.0</value></attribute>
  <ref name="id"/><element name="creationTime"><choice><attribute name="value" ns=""><data type="string"><param
    name="pattern">[0-9]{{14}}</param></data></attribute><ref name="null"/></choice></element>
  <element name="interactionId"><attribute name="root" ns=""><value>2.16.840.1.113883.1.6</value></attribute>
    <attribute name="extension" ns=""><value>MCCI_IN000002UV01</value></attribute></element>
  <element name="processingCode"><attribute name="code" ns=""><choice><value>P</value><value>T</value><value>D</value>
    </choice></attribute></element>
  <element name="processingModeCode"><attribute name="code" ns=""><value>T</value></attribute></element>
  <element name="acceptAckCode"><attribute name="code" ns=""><value>NE</value></attribute></element>
  <element name="receiver"><attribute name="typeCode" ns=""><value>RCV</value></attribute><ref name="device"/></element>
  <element name="sender"><attribute name="typeCode" ns=""><value>SND</value></attribute><ref name="device"/></element>
  <element name="acknowledgement"><element name="typeCode"><attribute name="code" ns=""/></element>
    <element name="targetMessage"><ref name="id"/></element>
    <zeroOrMore><element name="acknowledgementDetail"><attribute name="typeCode" ns=""><choice><value>E</value>
      <value>W</value><value>I</value></choice></attribute>
      <element name="code"><attribute name="code" ns=""/><attribute name="codeSystemName" ns=""/></element>
      <element name="text"><text/></element><zeroOrMore><element name="location"><text/></element></zeroOrMore>
    </element></zeroOrMore></element></element></start>
<define name="null"><attribute name="nullFlavor" ns=""/></define>
<define name="id"><element name="id"><choice><ref name="null"/><group><attribute name="root" ns=""/><optional>
  <attribute name="extension" ns=""/></optional></group></choice></element></define>
<define name="device"><element name="device"><attribute name="classCode" ns=""><value>DEV</value></attribute>
  <attribute name="determinerCode" ns=""><value>INSTANCE</value></attribute><ref name="id"/></element></define>
</grammar>"""))

ABSENT = RULES["V-FEED-IDENTIFIER-ABSENT"].at(Where("envelope", 3, path="/a[1]/<b>"), expected="1..*", received=0)
SEX = RULES["V-FEED-SEX"].at(expected="M | F", received="<&>\x00")


def written(findings: list[Finding], header: Header = HEADER, at: datetime | None = AT) -> Element:
    body = parse(write_acknowledgement(header, findings, at).encode())
    ANSWER.assertValid(body)
    return body


def test_an_acceptance():
    body = written([])
    read = hl7v3.read_acknowledgement(body)
    assert read == hl7v3.Acknowledgement("CA", HEADER.id)
    answer = read_header(body)
    assert (answer.sender, answer.receiver, answer.processing) == (HEADER.receiver, HEADER.sender, "T")
    assert answer.id.root != HEADER.id.root
    assert read_header(written([])).id != answer.id


def test_a_refusal_says_what_is_wrong_in_both_languages():
    read = hl7v3.read_acknowledgement(written([ABSENT, SEX]))
    assert (read.type, read.target) == ("CE", HEADER.id)
    assert [(detail.type, detail.code) for detail in read.details] == [
        ("E", "V-FEED-IDENTIFIER-ABSENT"), ("W", "V-FEED-SEX")]
    assert ABSENT.fr in read.details[0].text
    assert ABSENT.en in read.details[0].text
    assert read.details[0].locations == ("/a[1]/<b>",)
    assert read.details[1].locations == ()


def test_a_warning_does_not_refuse():
    assert hl7v3.read_acknowledgement(written([SEX])).type == "CA"


def test_what_the_message_did_not_say_is_said_to_be_unknown():
    body = written([ABSENT], Header(), None)
    assert body.xpath("count(//*[@nullFlavor='NI'])") == 4  # time, both devices, the message answered
    assert hl7v3.read_acknowledgement(body).type == "CE"


@given(printable, printable, st.text(max_size=10))
def test_whatever_is_repeated_stays_well_formed(root, extension, processing):
    header = Header("x", II(root, extension), II(extension, root), II(root), processing)
    assert parse(write_acknowledgement(header, [], AT).encode()).tag == f"{{{V3}}}{hl7v3.ACKNOWLEDGEMENT}"


def test_answers_of_others_are_read():
    text = (f'<MCCI_IN000002UV01 xmlns="{V3}"><acknowledgement typeCode="CE"><acknowledgementDetail><code code="X"/>'
            "</acknowledgementDetail></acknowledgement></MCCI_IN000002UV01>")
    read = hl7v3.read_acknowledgement(parse(text.encode()))
    assert read == hl7v3.Acknowledgement("CE", II(), (hl7v3.Detail("", "X", ""),))


@pytest.mark.parametrize(("text", "code"), [
    ("<a/>", "V-V3-MESSAGE"), (f'<MCCI_IN000002UV01 xmlns="{V3}"/>', "V-V3-CONTENT")])
def test_what_is_no_answer(text, code):
    with pytest.raises(Refused) as caught:
        hl7v3.read_acknowledgement(parse(text.encode()))
    assert caught.value.findings[0].code == code


# --- the transaction -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ADD, REVISE, MERGE])
def test_each_message_is_of_the_transaction(name):
    body = parse(f'<{name} xmlns="{V3}"/>'.encode())
    assert transaction_of(f"urn:hl7-org:v3:{name}", body, ("ITI-44",)) is TRANSACTIONS["ITI-44"]


def test_an_action_with_the_body_of_another_is_refused():
    with pytest.raises(Refused) as caught:
        transaction_of(f"urn:hl7-org:v3:{REVISE}", parse(MESSAGE.encode()), ("ITI-44",))
    assert caught.value.findings[0].code == "V-SOAP-MESSAGE"


def test_an_unknown_action_is_told_all_those_offered():
    with pytest.raises(Refused) as caught:
        transaction_of("urn:other", parse(MESSAGE.encode()), ("ITI-44",))
    assert all(name in caught.value.findings[0].expected for name in (ADD, REVISE))


def test_a_failure_of_the_transaction_is_an_acknowledgement():
    transaction = TRANSACTIONS["ITI-44"]
    assert transaction.answer == "urn:hl7-org:v3:MCCI_IN000002UV01"
    body = parse(failure(transaction, [ABSENT], parse(MESSAGE.encode()), AT).body.encode())
    ANSWER.assertValid(body)
    assert body.tag == transaction.response
    assert hl7v3.read_acknowledgement(body).target == HEADER.id
    unknown = parse(failure(transaction, [ABSENT]).body.encode())
    assert hl7v3.read_acknowledgement(unknown) == hl7v3.Acknowledgement(
        "CE", II(), hl7v3.read_acknowledgement(body).details)
