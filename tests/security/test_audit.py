"""Audit records: every transaction against a schema of our own and its table; who, about what; syslog messages."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from security import audit, audited, syslog
from security.audit import (
    Action,
    AuditSource,
    Coded,
    Event,
    Object,
    Outcome,
    Participant,
    Role,
    human,
    purposes,
    to_dicom,
    to_record,
    transactions,
)
from security.identity import AccessMode, Authentication, Caller, CardType, Identity, Kind
from xds.messages import RMD
from xds.vocabulary import LCM, QUERY, RIM, SUBMISSION_SET, SUBMISSION_SET_NODE, XDSB

AT = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
SOURCE = AuditSource("volet.essai", "site d'essai")
SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_message.rng")))
CX = "268029999900140^^^&1.2.250.1.213.1.4.10&ISO^NH"

HUMAN = Participant("899999000013", True, (Coded("10", "1.2.250.1.71.1.2.7", "10"),), "ESSAI ANNE",
                    "<899999000013@CN=899999000013>")


def event_of(name: str, *objects: Object) -> Event:
    row = transactions()[name]
    return Event(row.event, row.action, Outcome.SUCCESS, AT, (
        Participant("http://www.w3.org/2005/08/addressing/anonymous", True, (audit.role_code("110153"),),
                    address="192.0.2.1"), HUMAN,
        Participant("https://volet.invalid/xds/registry", False, (audit.role_code("110152"),), "4711",
                    address="volet.invalid")), SOURCE, (row.code,), objects)


def written(event: Event) -> etree._Element:
    """The message, which the schema accepts."""
    root = etree.fromstring(to_dicom(event))
    SCHEMA.assertValid(root)
    return root


def coded(element: etree._Element | None) -> tuple[str, ...]:
    assert element is not None
    return tuple(element.get(name, "") for name in ("csd-code", "codeSystemName", "originalText"))


# --- the tables ----------------------------------------------------------------------------------------------------

TABLES = [  # ITI TF-2, the receiving side's table of each transaction
    ("ITI-8", "110110", "Patient Record", "U", "Patient Identity Feed"),
    ("ITI-18", "110112", "Query", "E", "Registry Stored Query"),
    ("ITI-38", "110112", "Query", "E", "Cross Gateway Query"),
    ("ITI-39", "110106", "Export", "R", "Cross Gateway Retrieve"),
    ("ITI-41", "110107", "Import", "C", "Provide and Register Document Set-b"),
    ("ITI-42", "110107", "Import", "C", "Register Document Set-b"),
    ("ITI-43", "110106", "Export", "R", "Retrieve Document Set"),
    ("ITI-44", "110110", "Patient Record", "U", "Patient Identity Feed"),
    ("ITI-45", "110112", "Query", "E", "PIX Query"),
    ("ITI-47", "110112", "Query", "E", "Patient Demographics Query"),
    ("ITI-51", "110112", "Query", "E", "Multi-Patient Stored Query"),
    ("ITI-55", "110112", "Query", "E", "Cross Gateway Patient Discovery"),
    ("ITI-57", "110107", "Import", "U", "Update Document Set"),
    ("ITI-61", "110107", "Import", "C", "Register On-Demand Document Entry"),
    ("ITI-62", "110110", "Patient Record", "D", "Remove Metadata"),
    ("ITI-80", "110107", "Import", "C", "CrossGatewayDocumentProvide"),
    ("ITI-86", "110110", "Patient Record", "D", "Remove Documents"),
    ("ITI-92", "110107", "Import", "U", "Restricted Update Document Set"),
]


@pytest.mark.parametrize(("name", "code", "text", "action", "title"), TABLES)
def test_a_transaction(name: str, code: str, text: str, action: str, title: str) -> None:
    event = written(event_of(name, audit.patient(CX))).find("EventIdentification")
    assert event is not None
    assert dict(event.attrib) == {"EventActionCode": action, "EventDateTime": "2026-11-22T09:00:00.123Z",
                                  "EventOutcomeIndicator": "0"}
    assert coded(event.find("EventID")) == (code, "DCM", text)
    assert coded(event.find("EventTypeCode")) == (name, "IHE Transactions", title)


@pytest.mark.parametrize(("old", "new"), [
    ("EventOutcomeIndicator=", "Outcome="), ("<EventID ", "<EventName "),
    ('EventActionCode="E"', 'EventActionCode="X"'), ("originalText=", "text="),
    (' UserIsRequestor="true"', ""), ("<AuditSourceIdentification ", "<AuditSource "),
    ("<ParticipantObjectName>", "<ParticipantObjectQuery>"), (' ParticipantObjectID="', ' id="'), ("09:00:00", "9:00"),
])
def test_the_schema_refuses_others(old: str, new: str) -> None:
    text = to_dicom(event_of("ITI-18", audit.patient(CX))).decode()
    assert old in text
    tag = old.strip("<> ") if old.startswith("<") else "/"
    changed = text.replace(old, new).replace(f"</{tag}>", f"</{new.strip('<> ')}>")
    assert not SCHEMA.validate(etree.fromstring(changed))


def test_there_is_no_other_row() -> None:
    assert sorted(transactions()) == sorted(row[0] for row in TABLES)


@pytest.mark.parametrize(("name", "message", "action"), [
    ("ITI-8", "ADT^A01", "C"), ("ITI-8", "ADT^A04", "C"), ("ITI-8", "ADT^A05", "C"), ("ITI-8", "ADT^A08", "U"),
    ("ITI-44", "urn:hl7-org:v3:PRPA_IN201301UV02", "C"), ("ITI-44", "urn:hl7-org:v3:PRPA_IN201302UV02", "U"),
])
def test_what_a_feed_does(name: str, message: str, action: str) -> None:
    assert transactions()[name].action_of(message) == Action(action)


@pytest.mark.parametrize("change", ['event = "110112"\nevent2 = "x"', 'event = "1"', 'serves = "nobody"',
                                    'objects = "x"'])
def test_a_bad_row_is_named(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib
    text = resources.files("security").joinpath("audit.toml").read_text("utf-8")
    head, row = text.split("[transactions.ITI-18]")
    row = re.sub(f"^{change.split(' ')[0]} .*\n", "", row, count=1, flags=re.MULTILINE)
    data = tomllib.loads(f"{head}[transactions.ITI-18]\n{change}\n{row}")
    monkeypatch.setattr(audit, "_tables", lambda: data)
    with pytest.raises(ValueError, match=r"audit\.toml \[transactions\.ITI-18\]"):
        transactions.__wrapped__()


# --- who -----------------------------------------------------------------------------------------------------------


def test_participants() -> None:
    source, user, destination = written(event_of("ITI-18")).findall("ActiveParticipant")
    assert dict(source.attrib) == {
        "UserID": "http://www.w3.org/2005/08/addressing/anonymous", "UserIsRequestor": "true",
        "NetworkAccessPointID": "192.0.2.1", "NetworkAccessPointTypeCode": "2"}
    assert coded(source.find("RoleIDCode")) == ("110153", "DCM", "Source Role ID")
    assert dict(user.attrib) == {
        "UserID": "899999000013", "UserIsRequestor": "true", "AlternativeUserID": "ESSAI ANNE",
        "UserName": "<899999000013@CN=899999000013>"}
    assert coded(user.find("RoleIDCode")) == ("10", "1.2.250.1.71.1.2.7", "10")
    assert dict(destination.attrib) == {
        "UserID": "https://volet.invalid/xds/registry", "UserIsRequestor": "false", "AlternativeUserID": "4711",
        "NetworkAccessPointID": "volet.invalid", "NetworkAccessPointTypeCode": "1"}
    assert coded(destination.find("RoleIDCode")) == ("110152", "DCM", "Destination Role ID")


def test_the_audit_source() -> None:
    source = written(event_of("ITI-18")).find("AuditSourceIdentification")
    assert source is not None
    assert dict(source.attrib) == {"AuditSourceID": "volet.essai", "AuditEnterpriseSiteID": "site d'essai"}
    assert [dict(kind.attrib) for kind in source] == [{"csd-code": "4"}]


def test_the_user_of_an_xua_assertion() -> None:
    caller = Caller(national_id="camille", name="ESSAI Camille", issuer="urn:volet:essai:sts", alias="cessai",
                    roles=("112247003^2.16.840.1.113883.6.96", "x"), purpose="TREATMENT^^2.16.840.1.113883.3.18.7.1")
    assert human(caller) == (Participant(
        "camille", True, (Coded("112247003", "2.16.840.1.113883.6.96", "112247003"), Coded("x", "–", "x")),
        "ESSAI Camille", "cessai<camille@urn:volet:essai:sts>"),)
    assert purposes(caller) == (Coded("TREATMENT", "2.16.840.1.113883.3.18.7.1", "TREATMENT"),)


def test_the_user_of_a_vihf() -> None:
    card = Identity(Kind.PERSON, CardType.CPS, "899999000013", "899999000013", subject="CN=899999000013,C=FR")
    caller = Caller(card, "899999000013", "ESSAI ANNE", profession="10", specialities=("SM26",),
                    authentication=Authentication.DIRECTE, mode=AccessMode.BRIS_DE_GLACE)
    (participant,) = human(caller)
    assert participant.name == "<899999000013@CN=899999000013,C=FR>"
    assert [role.code for role in participant.roles] == ["10", "SM26"]
    assert [purpose.code for purpose in purposes(caller)] == ["bris_de_glace"]


def test_nobody() -> None:
    assert human(Caller()) == ()
    assert purposes(Caller()) == ()
    assert [one.name for one in human(Caller(name="? CN=x"))] == ["? CN=x"]


# --- about what ----------------------------------------------------------------------------------------------------


def body(text: str) -> etree._Element:
    return etree.fromstring(text)


def read(name: str, text: str) -> tuple[Object, ...]:
    objects = audited.objects_of(transactions()[name], body(text))
    written(event_of(name, *objects))
    return objects


ASK = (f'<q:AdhocQueryRequest xmlns:q="{QUERY}" xmlns:r="{RIM}"><q:ResponseOption/><r:AdhocQuery id="urn:uuid:14d4debf"'
       '{}><r:Slot name="$XDSDocumentEntryPatientId"/></r:AdhocQuery></q:AdhocQueryRequest>')


def test_a_query() -> None:
    text = ASK.format(' home="urn:oid:2.999"')
    (query,) = read("ITI-18", text)
    assert (query.id, query.role, query.id_type.code) == ("urn:uuid:14d4debf", Role.QUERY, "ITI-18")
    assert query.details == (("QueryEncoding", "UTF-8"), ("urn:ihe:iti:xca:2010:homeCommunityId", "urn:oid:2.999"))
    element = written(event_of("ITI-18", query)).find("ParticipantObjectIdentification")
    assert element is not None
    assert b64decode(element.findtext("ParticipantObjectQuery", "")) == text.encode()
    assert [(detail.get("type"), b64decode(detail.get("value", ""))) for detail in element.iter(
        "ParticipantObjectDetail")] == [("QueryEncoding", b"UTF-8"),
                                        ("urn:ihe:iti:xca:2010:homeCommunityId", b"urn:oid:2.999")]
    assert (element.get("ParticipantObjectTypeCode"), element.get("ParticipantObjectTypeCodeRole")) == ("2", "24")


def test_a_long_query_is_cut_and_says_so() -> None:
    (query,) = read("ITI-18", ASK.format(f' x="{"é" * 20_000}"'))
    assert len(query.query) == audited.LONGEST_QUERY
    assert re.fullmatch("16384 / 40[0-9]{3}", dict(query.details)["QueryCut"])


def test_a_query_without_query() -> None:
    (query,) = read("ITI-18", "<x/>")
    assert (query.id, query.query) == ("–", b"<x/>")


@pytest.mark.parametrize("name", ["ITI-45", "ITI-47", "ITI-55"])
def test_a_query_in_hl7_v3(name: str) -> None:
    parameters = '<queryByParameter xmlns="urn:hl7-org:v3"><queryId root="2.999"/></queryByParameter>'
    (query,) = read(name, f'<m xmlns="urn:hl7-org:v3"><id root="2.999.1"/><p>{parameters}</p><secret/></m>')
    assert (query.id, query.query, query.id_type.code) == ("2.999.1", parameters.encode(), name)


def package(identifier: str, scheme: str = SUBMISSION_SET.unique_id) -> str:
    return (f'<r:RegistryPackage id="set"><r:ExternalIdentifier identificationScheme="{scheme}" value="{identifier}"/>'
            "</r:RegistryPackage>")


@pytest.mark.parametrize("name", ["ITI-41", "ITI-42", "ITI-57", "ITI-61", "ITI-92"])
def test_a_submission_set(name: str) -> None:
    text = (f'<l:SubmitObjectsRequest xmlns:l="{LCM}" xmlns:r="{RIM}"><r:RegistryObjectList>{package("1.2.3")}'
            f'{package("9.9", "urn:uuid:folder")}{package("")}</r:RegistryObjectList></l:SubmitObjectsRequest>')
    first, second = read(name, text)
    assert (first.id, first.role, first.id_type) == (
        "1.2.3", Role.JOB, Coded(SUBMISSION_SET_NODE, "IHE XDS Metadata", "submission set classificationNode"))
    assert second.id == "set"


@pytest.mark.parametrize(("name", "namespace", "life_cycle"), [("ITI-43", XDSB, ""), ("ITI-86", RMD, "15")])
def test_documents(name: str, namespace: str, life_cycle: str) -> None:
    text = (f'<x xmlns:d="{XDSB}"><y:DocumentRequest xmlns:y="{namespace}"><d:HomeCommunityId>urn:oid:2.999'
            "</d:HomeCommunityId><d:RepositoryUniqueId>1.9</d:RepositoryUniqueId><d:DocumentUniqueId>1.2.3"
            f'</d:DocumentUniqueId></y:DocumentRequest><y:DocumentRequest xmlns:y="{namespace}"/></x>')
    first, second = read(name, text)
    assert first == Object("1.2.3", Coded("9", "RFC-3881", "Report Number"), Role.REPORT,
                           details=(("Repository Unique Id", "1.9"), ("ihe:homeCommunityID", "urn:oid:2.999")),
                           life_cycle=life_cycle)
    assert (second.id, second.details) == ("–", ())


def test_references() -> None:
    text = (f'<l:RemoveObjectsRequest xmlns:l="{LCM}" xmlns:r="{RIM}"><r:ObjectRefList><r:ObjectRef id="urn:uuid:1"/>'
            "<r:ObjectRef/></r:ObjectRefList></l:RemoveObjectsRequest>")
    first, second = read("ITI-62", text)
    assert (first.id, first.id_type.code, first.life_cycle) == ("urn:uuid:1", "urn:ihe:iti:2017:ObjectRef", "15")
    assert second.id == "–"


def test_no_record_grows_without_end() -> None:
    many = "".join(f'<r:ObjectRef id="{number}"/>' for number in range(5000))
    objects = read("ITI-62", f'<x xmlns:r="{RIM}">{many}</x>')
    assert (len(objects), objects[-2].id, objects[-1].id) == (100, "98", "> 99")
    assert len(to_dicom(event_of("ITI-18", audit.patient("x" * 1_000_000)))) < 12_000


def test_feeds_name_no_object_but_the_patient() -> None:
    assert read("ITI-44", "<x/>") == ()


def test_a_patient() -> None:
    element = written(event_of("ITI-8", audit.patient(CX, [("MSH-10", "4711")]))).find(
        "ParticipantObjectIdentification")
    assert element is not None
    assert dict(element.attrib) == {"ParticipantObjectID": CX, "ParticipantObjectTypeCode": "1",
                                    "ParticipantObjectTypeCodeRole": "1"}
    assert coded(element.find("ParticipantObjectIDTypeCode")) == ("2", "RFC-3881", "Patient Number")
    detail = element.find("ParticipantObjectDetail")
    assert detail is not None
    assert (detail.get("type"), b64decode(detail.get("value", ""))) == ("MSH-10", b"4711")


def test_the_identifier_of_an_hl7_v3_message() -> None:
    v3 = "urn:hl7-org:v3"
    assert audited.message_id_of(body(f'<m xmlns="{v3}"><id root="2.999.1" extension="7"/></m>')) == "2.999.1^7"
    assert audited.message_id_of(body(f'<m xmlns="{v3}"><id root="2.999.1"/></m>')) == "2.999.1"
    assert audited.message_id_of(body("<m/>")) == ""


# --- outcomes and other events -------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome(outcome: Outcome) -> None:
    event = written(replace(event_of("ITI-18"), outcome=outcome, description="V-X <refused>",
                            purposes=(Coded("normal", "1.2", "normal"),))).find("EventIdentification")
    assert event is not None
    assert event.get("EventOutcomeIndicator") == str(int(outcome))
    assert event.findtext("EventOutcomeDescription") == "V-X <refused>"
    assert coded(event.find("PurposeOfUse")) == ("normal", "1.2", "normal")


@pytest.mark.parametrize(("is_start", "code", "text"), [
    (True, "110120", "Application Start"), (False, "110121", "Application Stop")])
def test_the_server_starts_and_stops(is_start: bool, code: str, text: str) -> None:
    root = written(audit.application(is_start, AT, SOURCE, "4711", "root"))
    assert coded(root.find("EventIdentification/EventID")) == ("110100", "DCM", "Application Activity")
    assert coded(root.find("EventIdentification/EventTypeCode")) == (code, "DCM", text)
    assert [coded(role)[0] for role in root.iter("RoleIDCode")] == ["110150", "110151"]


any_text = st.text(st.characters(), max_size=60)


@settings(max_examples=100)
@given(any_text, any_text, any_text, st.binary(max_size=40))
def test_whatever_stands_in_it_the_message_is_one_line_of_xml(name: str, identifier: str, detail: str, query: bytes
                                                              ) -> None:
    one = Object(identifier, Coded("1", "2", detail or "x"), Role.QUERY, name, query, ((detail or "x", detail),))
    event = replace(event_of("ITI-18", one), description=name, participants=(Participant(name, True, name=detail),))
    data = to_dicom(event)
    assert b"\n" not in data
    assert b"\r" not in data
    root = etree.fromstring(data)
    assert len(root.findall("ParticipantObjectIdentification")) == 1
    assert b64decode(root.findtext(".//ParticipantObjectQuery", "")) == query


# --- records -------------------------------------------------------------------------------------------------------


def test_a_record_of_our_own() -> None:
    event = replace(event_of("ITI-18", audit.patient(CX), *read("ITI-18", ASK.format(""))), context={"mode": "normal"})
    record = to_record(event)
    assert (record["at"], record["patient"], record["outcome"], record["action"]) == (
        "2026-11-22T09:00:00.123Z", CX, 0, "E")
    assert record["types"] == [["ITI-18", "IHE Transactions", "Registry Stored Query"]]
    assert record["participants"][1]["name"] == "<899999000013@CN=899999000013>"
    assert b64decode(record["objects"][1]["query"]) == ASK.format("").encode()
    assert record["context"] == {"mode": "normal"}


# --- syslog --------------------------------------------------------------------------------------------------------


def test_a_syslog_message() -> None:
    data = syslog.write("<é/>".encode(), AT, "volet.invalid", "4711")
    assert data == (b"<85>1 2026-11-22T09:00:00.123Z volet.invalid volet 4711 IHE+RFC-3881 - "
                    + b"\xef\xbb\xbf<\xc3\xa9/>")
    assert syslog.write(b"", AT, "h", "1", "DICOM+RFC3881", syslog.WARNING).startswith(b"<84>1 ")
    assert b" DICOM+RFC3881 - " in syslog.write(b"", AT, "h", "1", "DICOM+RFC3881")


@pytest.mark.parametrize(("host", "process"), [("", ""), ("é è", "\n"), ("x" * 300, "y" * 300)])
def test_a_header_has_its_fields_whatever_the_names(host: str, process: str) -> None:
    header = syslog.write(b"", AT, host, process).decode("ascii", "ignore").split(" ")
    assert len(header) == 8
    assert all(header[:7])
    assert len(header[2]) <= 255
    assert len(header[4]) <= 128


def test_a_frame_counts_octets() -> None:
    assert syslog.frame("é".encode()) == b"2 \xc3\xa9"
    assert AT.astimezone(UTC).hour == 9
