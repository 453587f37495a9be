"""Subscriptions and notifications: one valid message, one change, one finding; schemas and zeep as judges."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import isodate
import pytest
import zeep
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from zeep.transports import Transport

from xds import contracts, dsub, ebxml, rim
from xds.addressing import ANONYMOUS, HERE, MAX_PARAMETERS, NONE, Endpoint, endpoint_of, read_endpoint, write_endpoint
from xds.dsub import FULL, SIMPLE, TOPICS, Subscribe, termination_of
from xds.findings import Catalogue, Refused
from xds.messages import TRANSACTIONS, WSNT, AdhocQuery, transaction_of
from xds.model import DocumentEntry
from xds.rim import ObjectRef, Slot
from xds.soap import SOAP12, WSA, WSSE, read_envelope, read_fault, write_envelope, write_fault
from xds.xml import parse

RULES = Catalogue("xds")
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
CONSUMER = "https://notify.example/recipient?a=1&b=2"
QUERY = AdhocQuery("urn:uuid:aa2332d0-f8fe-11e0-be50-0800200c9a66", slots=(
    Slot("$XDSDocumentEntryPatientId", ("'1^^^&1.2.3&ISO'",)),
    Slot("$XDSDocumentEntryTypeCode", ("('a^^b')", "('c^^d')"))))
SUBSCRIBE = Subscribe(Endpoint(CONSUMER), FULL, QUERY, "2026-05-31T00:00:00.00000Z")
WRITTEN = dsub.write_subscribe(SUBSCRIBE)
TOPIC = f'<wsnt:TopicExpression Dialect="{SIMPLE}">ihe:FullDocumentEntry</wsnt:TopicExpression>'


def codes(text: str) -> list[str]:
    """What reading a Subscribe refuses."""
    with pytest.raises(Refused) as caught:
        dsub.read_subscribe(parse(text.encode()))
    return [finding.code for finding in caught.value.findings]


# --- subscribing ---------------------------------------------------------------------------------------------------


def test_a_subscription_is_read_as_it_was_written():
    assert dsub.read_subscribe(parse(WRITTEN.encode())) == SUBSCRIBE


signs = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
texts = st.text(signs, min_size=1, max_size=40).map(str.strip).filter(bool)


@given(st.sampled_from(TOPICS), texts, texts, st.lists(texts, max_size=3))
def test_any_subscription_is_read_as_it_was_written(topic, address, identity, values):
    whole = Subscribe(Endpoint(address), topic, AdhocQuery(identity, slots=(Slot("$p", tuple(values)),)))
    assert dsub.read_subscribe(parse(dsub.write_subscribe(whole).encode())) == whole


@pytest.mark.parametrize(("old", "new", "code"), [
    ("wsnt:ConsumerReference", "wsnt:Consumer", "V-DSUB-CONSUMER"),
    ("wsnt:Filter", "wsnt:Filters", "V-DSUB-FILTER"),
    ("wsnt:TopicExpression", "wsnt:Topic", "V-DSUB-FILTER"),
    (TOPIC, TOPIC * 2, "V-DSUB-FILTER"),
    (TOPIC, TOPIC + "<wsnt:MessageContent/>", "V-DSUB-FILTER"),
    ("rim:AdhocQuery", "rim:Query", "V-DSUB-FILTER"),
    (SIMPLE, SIMPLE.replace("Simple", "Full"), "V-DSUB-DIALECT"),
    (f' Dialect="{SIMPLE}"', "", "V-DSUB-DIALECT"),
    ("ihe:FullDocumentEntry", "ihe:*", "V-DSUB-TOPIC-SYNTAX"),
    ("ihe:FullDocumentEntry", "", "V-DSUB-TOPIC-SYNTAX"),
    ("ihe:FullDocumentEntry", "ihe:ExtendedFullDocumentEntry", "V-DSUB-TOPIC"),
    ("ihe:FullDocumentEntry", "ihe:ExtendedFolder/Delete", "V-DSUB-TOPIC"),
    ("</wsnt:Filter>", "</wsnt:Filter><wsnt:SubscriptionPolicy><wsnt:UseRaw/></wsnt:SubscriptionPolicy>",
     "V-DSUB-POLICY"),
    ("wsa:Address", "wsa:Adress", "V-SOAP-ENDPOINT"),
])
def test_one_change_one_finding(old, new, code):
    assert old in WRITTEN
    assert codes(WRITTEN.replace(old, new)) == [code]


@pytest.mark.parametrize(("old", "new"), [
    ("ihe:FullDocumentEntry", " FullDocumentEntry\n"), (SIMPLE, SIMPLE.replace("t-1", "t1")),
    ("</wsnt:Filter>", "</wsnt:Filter><wsnt:SubscriptionPolicy/>"),
])
def test_what_clients_write_otherwise_is_read_the_same(old, new):
    assert dsub.read_subscribe(parse(WRITTEN.replace(old, new).encode())) == SUBSCRIBE


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    for read in (dsub.read_subscribe, dsub.read_subscribed, dsub.read_notify):
        for text in (data, WRITTEN.encode().replace(b"ihe:", data)):
            with suppress(Refused):
                read(parse(text))


def test_the_actions_are_those_of_the_standard():
    for name, written in (("ITI-52", WRITTEN), ("ITI-52-Unsubscribe", dsub.write_unsubscribe())):
        transaction = TRANSACTIONS[name]
        assert transaction_of(transaction.action, parse(written.encode())) is transaction
        assert transaction.action.startswith("http://docs.oasis-open.org/wsn/bw-2/")
        assert transaction.answer == transaction.action.replace("Request", "Response")


# --- termination ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), [
    ("2026-05-31T00:00:00Z", "2026-05-31T00:00:00+00:00"), ("2026-05-31T00:00:00", "2026-05-31T00:00:00+00:00"),
    ("2026-05-31T02:00:00+02:00", "2026-05-31T00:00:00+00:00"), ("PT1H", "2026-01-31T13:00:00+00:00"),
    ("2010-05-31T00:00:00.00000Z", "2010-05-31T00:00:00+00:00"), ("P1M", "2026-02-28T12:00:00+00:00"),
    ("P1Y2M3DT4H5M6S", "2027-04-03T16:05:06+00:00"), ("PT0.5S", "2026-01-31T12:00:00+00:00"),
])
def test_the_end_of_a_subscription(text, expected):
    assert termination_of(text, NOW).isoformat() == expected


@pytest.mark.parametrize("text", [
    "", "P", "PT", "P1", "1Y", "-P1D", "P1DT", "2026-13-01T00:00:00Z", "2026-01-01", "20260101T000000Z", "demain",
    "2026-01-01T25:00:00Z", "0001-01-01T00:00:00+14:00", "P9999Y", "P7000Y999999D",
    "2026-01-01T00:00:00+99:99"])
def test_what_is_no_end(text):
    with pytest.raises(ValueError, match=r"."):
        termination_of(text, NOW)


@given(st.integers(0, 50), st.integers(0, 40), st.integers(0, 400), st.integers(0, 99), st.integers(0, 99),
       st.integers(0, 99))
def test_durations_are_those_of_another_library(years, months, days, hours, minutes, seconds):
    text = f"P{years}Y{months}M{days}DT{hours}H{minutes}M{seconds}S"
    assert termination_of(text, NOW) == NOW + isodate.parse_duration(text)


# --- answers and notifications -------------------------------------------------------------------------------------


def test_the_answer_names_the_subscription_and_its_end():
    text = dsub.write_subscribed("https://broker.example/s/1?a&b", NOW, NOW + timedelta(days=1))
    read = dsub.read_subscribed(parse(text.encode()))
    assert read == dsub.Subscribed("https://broker.example/s/1?a&b", NOW + timedelta(days=1))


ENTRY = ebxml.from_document(DocumentEntry("urn:uuid:1", patient_id="1^^^&1.2.3&ISO"))
FULL_NOTIFY = dsub.write_notify("https://b.example/1", "https://b.example", FULL, [rim.write(ENTRY)])
MINIMAL_NOTIFY = dsub.write_notify("https://b.example/1", "https://b.example", "MinimalDocumentEntry",
                                   [rim.write_refs([ObjectRef("urn:uuid:1"), ObjectRef("urn:uuid:2")])])


def test_a_full_notification_holds_the_metadata():
    read = dsub.read_notify(parse(FULL_NOTIFY.encode()))
    assert (read.reference, read.topic) == ("https://b.example/1", FULL)
    assert [thing.id for thing in read.content.objects] == ["urn:uuid:1"]


def test_a_minimal_notification_holds_references():
    read = dsub.read_notify(parse(MINIMAL_NOTIFY.encode()))
    assert read.content.objects == ()
    assert [reference.id for reference in read.content.references] == ["urn:uuid:1", "urn:uuid:2"]


@pytest.mark.parametrize(("old", "new"), [
    ("wsnt:NotificationMessage", "wsnt:Message"), ("wsnt:SubscriptionReference", "wsnt:Reference"),
    ("wsnt:Topic", "wsnt:Subject"), ("lcm:SubmitObjectsRequest", "lcm:Other")])
def test_an_incomplete_notification(old, new):
    with pytest.raises(Refused) as caught:
        dsub.read_notify(parse(FULL_NOTIFY.replace(old, new).encode()))
    assert [finding.code for finding in caught.value.findings] == ["V-DSUB-NOTIFY"]


# --- faults --------------------------------------------------------------------------------------------------------

FAULTS = [rule for rule in RULES.values() if rule.fault.startswith("wsnt:")]


@pytest.mark.parametrize("rule", FAULTS, ids=lambda rule: rule.code)
def test_faults_are_those_of_ws_base_notification(rule):
    finding = rule.at(expected="a & b", received="<c>")
    envelope = read_envelope(write_fault([finding], "urn:uuid:1", detail_xml=dsub.write_fault_detail([finding], NOW)))
    assert envelope.action == "http://docs.oasis-open.org/wsn/fault"
    name = rule.fault.partition(":")[2]
    detail = envelope.body.find(f"{{{SOAP12}}}Detail/{{{WSNT}}}{name}")
    assert detail is not None
    base = "{http://docs.oasis-open.org/wsrf/bf-2}"
    assert [child.tag for child in detail][:3] == [base + "Timestamp", base + "Description", base + "Description"]
    fault = read_fault(envelope.body)
    assert fault.subcodes == (name,)
    assert [found["code"] for found in fault.findings] == [rule.code]


def test_two_faults_have_what_their_schema_requires():
    end = replace(dsub.FILTER, fault="wsnt:UnacceptableInitialTerminationTimeFault")
    filters, ends = (dsub.write_fault_detail([rule.at()], NOW) for rule in (dsub.FILTER, end))
    assert "<wsnt:UnknownFilter" in filters
    assert "<wsnt:MinimumTime>2026-01-31T12:00:00Z</wsnt:MinimumTime>" in ends


def test_other_faults_have_no_such_detail():
    assert dsub.write_fault_detail([RULES["V-SOAP-BODY"].at()], NOW) == ""


# --- endpoints -----------------------------------------------------------------------------------------------------

PARAMETERS = '<x:Id xmlns:x="urn:x">a&amp;b<!-- c --></x:Id><y:Other xmlns:y="urn:y" y:z="1"><y:in/></y:Other>'


def endpoint(inner: str) -> etree._Element:
    return parse(f'<wsa:ReplyTo xmlns:wsa="{WSA}">{inner}</wsa:ReplyTo>'.encode())


def with_parameters(parameters: str) -> etree._Element:
    return endpoint(f"<wsa:Address>https://a.example</wsa:Address>"
                    f"<wsa:ReferenceParameters>{parameters}</wsa:ReferenceParameters>")


def test_reference_parameters_become_header_blocks():
    """WS-Addressing 1.0 SOAP Binding §2.3: each of them, marked as one."""
    read = read_endpoint(with_parameters(PARAMETERS))
    message = parse(write_envelope("<a/>", "urn:b", "", to=read.address, blocks_xml=read.blocks))
    blocks = message[0][-2:]
    assert [block.tag for block in blocks] == ["{urn:x}Id", "{urn:y}Other"]
    assert [block.get(f"{{{WSA}}}IsReferenceParameter") for block in blocks] == ["true", "true"]
    assert etree.tostring(blocks[0], method="text", with_tail=False) == b"a&b"
    assert message.findtext(f".//{{{WSA}}}To") == "https://a.example"


@pytest.mark.parametrize("parameters", [
    f'<wsa:To xmlns:wsa="{WSA}">urn:x</wsa:To>', f'<s:Security xmlns:s="{WSSE}"/>', "<plain/>",
    f'<soap:Body xmlns:soap="{SOAP12}"/>', f'<x:a xmlns:x="urn:x">{"a" * MAX_PARAMETERS}</x:a>'])
def test_nobody_puts_words_into_our_mouth(parameters):
    with pytest.raises(Refused) as caught:
        read_endpoint(with_parameters(parameters))
    assert [finding.code for finding in caught.value.findings] == ["V-SOAP-REFERENCE-PARAMETER"]


@pytest.mark.parametrize("inner", [
    "", "<wsa:Address/>", "<wsa:Address>a</wsa:Address><wsa:Address>b</wsa:Address>",
    f"<wsa:Address>{'a' * 3000}</wsa:Address>"])
def test_an_endpoint_without_an_address(inner):
    with pytest.raises(Refused) as caught:
        read_endpoint(endpoint(inner))
    assert [finding.code for finding in caught.value.findings] == ["V-SOAP-ENDPOINT"]


def test_the_two_addresses_that_are_none():
    assert (HERE.is_here, HERE.is_nowhere) == (True, False)
    assert (Endpoint(NONE).is_here, Endpoint(NONE).is_nowhere) == (False, True)


def test_an_endpoint_is_found_in_the_header():
    header = parse(f'<soap:Header xmlns:soap="{SOAP12}" xmlns:wsa="{WSA}"><wsa:ReplyTo soap:role="urn:other">'
                   f"{write_endpoint('urn:not-ours')}</wsa:ReplyTo><wsa:ReplyTo>{write_endpoint(ANONYMOUS)}</wsa:ReplyTo>"
                   "</soap:Header>".encode())
    assert endpoint_of(header, "ReplyTo") == HERE
    assert endpoint_of(header, "FaultTo") is None
    assert endpoint_of(None, "ReplyTo") is None


# --- others as judges ----------------------------------------------------------------------------------------------

ADDRESS = "https://essai.example/xds/subscriptions"


class Wire(Transport):  # type: ignore[misc]
    """The contract by its address; what is sent is kept."""

    def __init__(self) -> None:
        super().__init__(cache=None)
        self.sent = b""

    def load(self, url: str) -> bytes:
        address, _, query = url.partition("?")
        text = (contracts.wsdl("subscriptions", address, f"{address}?xsd=") if query == "wsdl"
                else contracts.schema(query.removeprefix("xsd="), f"{address}?xsd="))
        return text.encode()

    def post(self, address: str, message: bytes, headers: dict[str, str]) -> object:
        self.sent = message
        raise ConnectionError


def test_a_client_made_of_the_wsdl_subscribes():
    wire = Wire()
    client = zeep.Client(f"{ADDRESS}?wsdl", transport=wire)
    slots = [{"name": slot.name, "ValueList": {"Value": list(slot.values)}} for slot in QUERY.slots]
    with pytest.raises(ConnectionError):
        client.service.DocumentMetadataNotificationBroker_SubscribeRequest(
            ConsumerReference={"Address": CONSUMER},
            Filter={"TopicExpression": {"_value_1": "ihe:FullDocumentEntry", "Dialect": SIMPLE},
                    "AdhocQuery": {"id": QUERY.id, "Slot": slots}},
            InitialTerminationTime=SUBSCRIBE.termination)
    envelope = read_envelope(wire.sent)
    assert envelope.action == TRANSACTIONS["ITI-52"].action
    assert dsub.read_subscribe(envelope.body) == SUBSCRIBE


class Schemas(etree.Resolver):
    """Schemas by the names they import one another by."""

    def resolve(self, system_url: str, public_id: str | None, context: object) -> object:
        return self.resolve_string(contracts.schema(system_url.rpartition("=")[2]), context, base_url=system_url)


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    parser = etree.XMLParser()
    parser.resolvers.add(Schemas())
    return etree.XMLSchema(etree.fromstring(contracts.schema("wsnt").encode(), parser))


OURS = [WRITTEN, dsub.write_subscribed("urn:a", NOW, NOW), dsub.write_unsubscribe(), dsub.write_unsubscribed(),
        FULL_NOTIFY, MINIMAL_NOTIFY]


@pytest.mark.parametrize("text", OURS, ids=["Subscribe", "SubscribeResponse", "Unsubscribe", "UnsubscribeResponse",
                                            "full", "minimal"])
def test_our_own_messages_are_valid(schema, text):
    schema.assertValid(parse(text.encode()))


@pytest.mark.parametrize(("text", "old", "new"), [
    (WRITTEN, "2026-05-31T00:00:00.00000Z", "demain"), (WRITTEN, f' Dialect="{SIMPLE}"', ""),
    (WRITTEN, "wsa:Address", "wsa:Adress"), (FULL_NOTIFY, "<wsnt:Message>", "<wsnt:Message/><wsnt:Message>")])
def test_a_planted_error_is_not_valid(schema, text, old, new):
    assert old in text
    assert not schema.validate(parse(text.replace(old, new).encode()))
