"""SOAP envelopes: what is read, what is refused and with which fault, and faults that others can read."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
import zeep.exceptions
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from zeep.wsdl.bindings.soap import Soap12Binding

from xds import soap
from xds.findings import Catalogue, Finding, Provenance, Refused, Rule, Severity, Where
from xds.soap import SOAP11, SOAP12, WSA, WSSE, read_envelope, write_envelope, write_fault, write_request
from xds.xml import escape, parse

ACTION, ID = "urn:ihe:iti:2007:RegistryStoredQuery", "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
HEADER = (f'<wsa:Action soap:mustUnderstand="1">{ACTION}</wsa:Action><wsa:MessageID>{ID}</wsa:MessageID>'
          f"<wsa:To>https://essai.example/registry</wsa:To>"
          f"<wsa:ReplyTo><wsa:Address>{soap.ANONYMOUS}</wsa:Address></wsa:ReplyTo>")
BODY = '<q xmlns="urn:essai"/>'
RULES = Catalogue("xds")
BAD_XML = RULES["V-XML-NOT-WELL-FORMED"]


def envelope(header: str = HEADER, body: str = BODY, extra: str = "") -> bytes:
    return (f'<soap:Envelope xmlns:soap="{SOAP12}" xmlns:wsa="{WSA}" xmlns:wsse="{WSSE}"><soap:Header>{header}'
            f"</soap:Header><soap:Body>{body}</soap:Body>{extra}</soap:Envelope>").encode()


def refused(data: bytes, **arguments: str) -> Finding:
    with pytest.raises(Refused) as caught:
        read_envelope(data, **arguments)
    return caught.value.findings[0]


# --- reading -----------------------------------------------------------------------------------------------------


def test_a_request_is_read():
    read = read_envelope(envelope(), content_action=ACTION)
    assert (read.action, read.message_id, read.to) == (ACTION, ID, "https://essai.example/registry")
    assert (read.reply_to, read.relates_to, read.is_anonymous) == (soap.ANONYMOUS, "", True)
    assert read.body.tag == "{urn:essai}q"
    assert read.header is not None
    assert len(read.header) == 4
    assert read.warnings == ()


addresses = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() and " " not in text)


@given(addresses, addresses, addresses)
def test_a_request_written_is_the_request_read(action, to, message_id):
    security = f'<wsse:Security xmlns:wsse="{WSSE}" soap:mustUnderstand="true"><a/></wsse:Security>'
    read = read_envelope(write_request(BODY, action, to, message_id, security))
    assert (read.action, read.to, read.message_id, read.reply_to) == (action, to, message_id, soap.ANONYMOUS)
    assert read.warnings == ()
    assert read.header is not None
    assert read.header.find(f"{{{WSSE}}}Security") is not None


@given(addresses, addresses)
def test_an_answer_written_is_the_answer_read(action, relates_to):
    read = read_envelope(write_envelope(BODY, action, relates_to))
    assert (read.action, read.relates_to, read.to, read.warnings) == (action, relates_to, soap.ANONYMOUS, ())
    assert read.message_id.startswith("urn:uuid:")
    assert read_envelope(write_envelope(BODY, action, "", "urn:a")).message_id == "urn:a"


def test_message_ids_are_never_the_same():
    assert len({soap.new_message_id() for _ in range(100)}) == 100


@pytest.mark.parametrize(("change", "by", "code"), [
    ("</soap:Envelope>", "", "V-XML-NOT-WELL-FORMED"),
    (SOAP12, SOAP11, "V-SOAP-VERSION"),
    (SOAP12, "urn:other", "V-SOAP-VERSION"),
    ("soap:Envelope", "soap:Message", "V-SOAP-STRUCTURE"),
    ("soap:Header", "soap:Head", "V-SOAP-STRUCTURE"),
    ("soap:Body", "soap:Corps", "V-SOAP-STRUCTURE"),
    ("</soap:Header>", "</soap:Header><soap:Header/>", "V-SOAP-STRUCTURE"),
    ("</soap:Body>", "</soap:Body><soap:Body/>", "V-SOAP-STRUCTURE"),
    ("</soap:Body>", "</soap:Body><wsa:To/>", "V-SOAP-STRUCTURE"),
    (BODY, "", "V-SOAP-BODY"),
    (BODY, BODY * 2, "V-SOAP-BODY"),
    (BODY, "text<!-- no element -->", "V-SOAP-BODY"),
    ("<wsa:To>", '<wsa:To soap:mustUnderstand="yes">', "V-SOAP-MUST-UNDERSTAND"),
    ("wsa:Action", "wsa:Acte", "V-SOAP-ACTION-ABSENT"),
    ("<wsa:To>", "<wsa:Action>urn:b</wsa:Action><wsa:To>", "V-SOAP-ADDRESSING-TWICE"),
    ("<wsa:To>", "<wsa:MessageID>urn:b</wsa:MessageID><wsa:To>", "V-SOAP-ADDRESSING-TWICE"),
    ("<wsa:To>", "<wsa:To>urn:b</wsa:To><wsa:To>", "V-SOAP-ADDRESSING-TWICE"),
    (ACTION, "", "V-SOAP-ADDRESSING-VALUE"),
    (ID, "a b", "V-SOAP-ADDRESSING-VALUE"),
    (ID, "x" * 3000, "V-SOAP-ADDRESSING-VALUE"),
    ("wsa:Address>", "wsa:Adresse>", "V-SOAP-ADDRESSING-VALUE"),
    ("<wsa:Address>", "<wsa:Address>urn:b</wsa:Address><wsa:Address>", "V-SOAP-ADDRESSING-VALUE"),
])
def test_one_change_one_refusal(change, by, code):
    data = envelope().decode()
    assert change in data
    assert refused(data.replace(change, by).encode()).code == code


def test_soap_11_is_told_what_to_send():
    finding = refused(envelope().replace(SOAP12.encode(), SOAP11.encode()))
    assert finding.rule.fault == "VersionMismatch"
    assert "application/soap+xml" in finding.expected
    assert SOAP12 in finding.expected
    assert SOAP11 in finding.received
    assert finding.where.line == 1


@pytest.mark.parametrize(("change", "by", "codes"), [
    ('soap:mustUnderstand="1"', 'soap:mustUnderstand="true"', []),
    ('soap:mustUnderstand="1"', "", ["V-SOAP-ACTION-UNMARKED"]),
    ('soap:mustUnderstand="1"', 'soap:mustUnderstand="0"', ["V-SOAP-ACTION-UNMARKED"]),
    (f"<wsa:MessageID>{ID}</wsa:MessageID>", "", ["V-SOAP-ADDRESSING-ABSENT"]),
    ("wsa:To>", "wsa:Vers>", ["V-SOAP-ADDRESSING-ABSENT"]),
    ("wsa:ReplyTo>", "wsa:Retour>", ["V-SOAP-REPLY-TO-ABSENT"]),
    ("<wsa:To>", "<!-- nothing --><wsa:To>", []),
    ("<wsa:To>", "<wsa:RelatesTo>urn:a</wsa:RelatesTo><wsa:RelatesTo>urn:b</wsa:RelatesTo><wsa:To>", []),
    ("<wsa:To>", f'<wsa:Action soap:role="{SOAP12}/role/none">urn:b</wsa:Action><wsa:To>', []),
    ("<wsa:To>", "<other xmlns='urn:x'/><wsa:To>", []),
    ("<wsa:To>", "<wsse:Security soap:mustUnderstand='1'/><wsa:To soap:mustUnderstand='1'>", []),
])
def test_what_is_odd_is_read_with_warnings(change, by, codes):
    data = envelope().decode()
    assert change in data
    read = read_envelope(data.replace(change, by).encode())
    assert [warning.code for warning in read.warnings] == codes
    assert read.action == ACTION


def test_no_header_at_all():
    bare = f'<s:Envelope xmlns:s="{SOAP12}"><s:Body>{BODY}</s:Body></s:Envelope>'.encode()
    assert refused(bare).rule.fault == "wsa:MessageAddressingHeaderRequired"
    read = read_envelope(bare, content_action=ACTION)
    assert (read.header, read.action, read.message_id, read.is_anonymous) == (None, ACTION, "", True)
    assert read.warnings[0].code == "V-SOAP-ACTION-OUTSIDE"


def test_the_header_outweighs_the_content_type():
    read = read_envelope(envelope(), content_action="urn:other")
    assert read.action == ACTION
    assert [warning.code for warning in read.warnings] == ["V-SOAP-ACTION-DIFFERS"]
    assert (read.warnings[0].expected, read.warnings[0].received) == (ACTION, "urn:other")


@pytest.mark.parametrize(("role", "ours"), [
    ("", True), (f"{SOAP12}/role/ultimateReceiver", True), (f"{SOAP12}/role/next", True),
    (f"{SOAP12}/role/none", False), ("urn:somebody", False),
])
def test_blocks_for_others_need_not_be_understood(role, ours):
    data = envelope(HEADER + f'<x:y xmlns:x="urn:x" soap:mustUnderstand="1" soap:role="{role}"/>')
    assert soap.is_for_us(parse(data)[0][-1]) is ours
    if ours:
        assert refused(data).code == "V-SOAP-NOT-UNDERSTOOD"
    else:
        assert read_envelope(data).action == ACTION


def test_all_blocks_not_understood_are_named():
    with pytest.raises(Refused) as caught:
        read_envelope(envelope(HEADER + '<x:y xmlns:x="urn:x" soap:mustUnderstand="true"/>'
                                        '<wsse:Other soap:mustUnderstand="1"/><z soap:mustUnderstand="1"/>'))
    assert [finding.received for finding in caught.value.findings] == ["{urn:x}y", f"{{{WSSE}}}Other", "z"]
    assert soap.http_status_of(caught.value.findings) == 500
    header = parse(write_fault(caught.value.findings, ID))[0]
    blocks = header.findall(f"{{{SOAP12}}}NotUnderstood")
    names = [block.get("qname").rpartition(":") for block in blocks]
    assert [(block.nsmap.get(prefix), name) for block, (prefix, _, name) in zip(blocks, names, strict=True)] == [
        ("urn:x", "y"), (WSSE, "Other"), (None, "z")]


@pytest.mark.parametrize("block", [f'<{"x" * 400} xmlns="urn:x"', f'<x xmlns="urn:{"x" * 400}"',
                                   '<x xmlns="urn:\u200b"'])
def test_a_name_that_cannot_be_shown_is_not_shown(block):
    finding = refused(envelope(f'{HEADER}{block} soap:mustUnderstand="1"/>'))
    fault = write_fault([finding], "")
    assert b"NotUnderstood " not in fault
    assert read_envelope(fault).body.tag == f"{{{SOAP12}}}Fault"


def test_a_non_anonymous_reply_is_known():
    read = read_envelope(envelope().replace(soap.ANONYMOUS.encode(), b"https://essai.example/retour"))
    assert (read.reply_to, read.is_anonymous) == ("https://essai.example/retour", False)


def test_charsets():
    text = envelope(body="<q>\xe9</q>").decode()
    assert read_envelope(text.encode("latin-1"), charset="ISO-8859-1").body.text == "\xe9"
    assert read_envelope(text.encode("utf-16"), charset="utf-16").body.text == "\xe9"
    assert refused(text.encode(), charset="utf-7").code == "V-XML-ENCODING"
    assert refused(text.encode("latin-1")).code == "V-XML-NOT-WELL-FORMED"


@pytest.mark.parametrize(("data", "found"), [
    (envelope(), ID), (envelope(""), ""), (b"<a", ""), (envelope(HEADER + f"<wsa:MessageID>{ID}</wsa:MessageID>"), ""),
    (envelope("<wsa:MessageID>a b</wsa:MessageID>"), ""),
    (envelope(HEADER.replace("wsa:Action", "wsa:Acte")), ID),
])
def test_the_message_id_of_what_was_refused(data, found):
    assert soap.message_id_of(data) == found


@given(st.binary(max_size=200), st.integers(0, 900))
def test_no_bytes_do_more_than_be_refused(data, at):
    whole = envelope()
    for changed in (data, whole[:at] + data, whole[:at] + data + whole[at + len(data):]):
        with suppress(Refused):
            read_envelope(changed)
        assert isinstance(soap.message_id_of(changed), str)


@pytest.mark.parametrize("data", [
    envelope(HEADER + '<x:y xmlns:x="urn:x" soap:mustUnderstand="1"/>' + "<wsa:RelatesTo>a</wsa:RelatesTo>" * 50_000),
    envelope(body="<a/>" * 200_000),
    envelope(extra="<a/>" * 200_000),
])
def test_floods_are_refused_in_time(data):
    began = time.process_time()
    finding = refused(data)
    assert time.process_time() - began < 1
    assert len(finding.received) < 400


# --- faults ------------------------------------------------------------------------------------------------------

#: SOAP 1.2 Part 1 §5.4 in RELAX NG, written from its text
FAULT = etree.RelaxNG(etree.fromstring(f"""
<grammar ns="{SOAP12}" xmlns="http://relaxng.org/ns/structure/1.0"
         datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
  <start><element name="Fault">
    <element name="Code"><ref name="value"/></element>
    <element name="Reason"><oneOrMore>
      <element name="Text"><attribute name="xml:lang"/><text/></element></oneOrMore></element>
    <optional><element name="Node"><data type="anyURI"/></element></optional>
    <optional><element name="Role"><data type="anyURI"/></element></optional>
    <optional><element name="Detail"><zeroOrMore><ref name="any"/></zeroOrMore></element></optional>
  </element></start>
  <define name="value">
    <element name="Value"><data type="QName"/></element>
    <optional><element name="Subcode"><ref name="value"/></element></optional></define>
  <define name="any"><element><anyName/><zeroOrMore><choice>
    <attribute><anyName/></attribute><text/><ref name="any"/></choice></zeroOrMore></element></define>
</grammar>"""))


def fault_of(*findings: Finding, relates_to: str = ID) -> etree._Element:
    read = read_envelope(write_fault(findings, relates_to))
    FAULT.assertValid(etree.fromstring(etree.tostring(read.body)))
    return read.body


def rule(fault: str, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(Rule("V-ESSAI", severity, "fr", "en", "§1", Provenance.DECISION, fault=fault))


@pytest.mark.parametrize(("fault", "code", "subcodes", "status"), [
    ("", "Sender", (), 400), ("Sender", "Sender", (), 400), ("Receiver", "Receiver", (), 500),
    ("MustUnderstand", "MustUnderstand", (), 500), ("VersionMismatch", "VersionMismatch", (), 400),
    ("DMPInvalidCertificate", "Sender", ("DMPInvalidCertificate",), 400),
    ("Receiver/DMPClosed", "Receiver", ("DMPClosed",), 500),
    ("wsse:FailedAuthentication", "Sender", ("wsse:FailedAuthentication",), 400),
    ("wsa:ActionNotSupported", "Sender", ("wsa:ActionNotSupported",), 400),
    ("wsa:InvalidAddressingHeader/wsa:InvalidCardinality", "Sender",
     ("wsa:InvalidAddressingHeader", "wsa:InvalidCardinality"), 400),
    ("other:Thing", "Sender", ("other:Thing",), 400),
])
def test_codes_of_faults(fault, code, subcodes, status):
    finding = rule(fault)
    assert soap.fault_code_of([finding]) == (code, subcodes)
    assert soap.http_status_of([finding]) == status
    body = fault_of(finding)
    read = soap.read_fault(body)
    assert read is not None
    assert (read.code, read.subcodes) == (code, tuple(name.rpartition(":")[2] for name in subcodes))
    for value in body.find(f"{{{SOAP12}}}Code").iter(f"{{{SOAP12}}}Value"):
        prefix = value.text.rpartition(":")[0]
        known = {"soap": SOAP12, "wsse": WSSE, "wsa": WSA}
        assert not prefix or value.nsmap[prefix] == known[prefix]


def test_the_first_error_gives_the_code():
    findings = [rule("Receiver", Severity.WARNING), rule("DMPInvalidCertificate"), rule("Receiver")]
    assert soap.fault_code_of(findings) == ("Sender", ("DMPInvalidCertificate",))
    assert soap.fault_code_of([]) == ("Sender", ())


def test_a_certificate_fault_is_written_as_the_dmp_does():
    text = write_fault([rule("DMPInvalidCertificate")], ID).decode()
    assert ("<soap:Code><soap:Value>soap:Sender</soap:Value><soap:Subcode>"
            "<soap:Value>DMPInvalidCertificate</soap:Value></soap:Subcode></soap:Code>") in text


def test_addressing_faults_have_their_own_action():
    assert read_envelope(write_fault([rule("wsa:ActionNotSupported")], ID)).action == f"{WSA}/fault"
    assert read_envelope(write_fault([rule("Sender")], ID)).action == f"{WSA}/soap/fault"
    assert read_envelope(write_fault([rule("Sender")], ID)).relates_to == ID
    assert read_envelope(write_fault([rule("Sender")], "")).relates_to == ""


def test_other_versions_are_told_ours():
    header = parse(write_fault([rule("VersionMismatch")], ""))[0]
    supported = header.find(f"{{{SOAP12}}}Upgrade/{{{SOAP12}}}SupportedEnvelope")
    assert supported.get("qname") == "soap:Envelope"
    assert supported.nsmap["soap"] == SOAP12


def test_all_findings_are_told_in_two_languages():
    first = BAD_XML.at(Where("envelope", 3, 7, "/a/b"), received="<x> & \x00 « y »")
    second = RULES["V-SOAP-BODY"].at(expected=1, received=2)
    read = soap.read_fault(fault_of(first, second))
    assert read is not None
    assert read.reasons["fr"].startswith("1. Le XML n'est pas bien formé : <x> &")
    assert "2. Le Body contient 2 éléments ; attendu 1. Envoyer un seul message" in read.reasons["fr"]
    assert "2. The Body holds 2 elements; expected 1. Send one message" in read.reasons["en"]
    assert "[V-SOAP-BODY]" in read.reasons["en"]
    assert str(read).startswith("Sender: 1. Le XML")
    shown = {name: value for name, value in first.as_dict().items() if name != "xds"}
    assert read.findings[0] == shown
    assert [finding["code"] for finding in read.findings] == ["V-XML-NOT-WELL-FORMED", "V-SOAP-BODY"]


def test_one_finding_is_not_numbered():
    read = soap.read_fault(fault_of(RULES["V-SOAP-BODY"].at(expected=1, received=0)))
    assert read is not None
    assert read.reasons["fr"].startswith("Le Body contient 0 éléments")


@given(st.text(max_size=60), st.text(max_size=30), st.text(max_size=30))
def test_whatever_was_received_a_fault_is_xml(received, part, relates_to):
    with suppress(ValueError):  # an address that cannot stand in XML never came from XML
        escape(relates_to)
        finding = BAD_XML.at(Where(part, path=part), expected=received, received=received, name=received)
        parse(write_fault([finding, finding], relates_to))
        return
    assert not relates_to.isprintable()


def test_zeep_reads_our_faults():
    envelope_ = etree.fromstring(write_fault([rule("wsse:FailedAuthentication"), rule("Receiver")], ID))
    with pytest.raises(zeep.exceptions.Fault) as caught:
        Soap12Binding.process_error(object.__new__(Soap12Binding), envelope_, None)
    assert caught.value.code == "soap:Sender"
    assert caught.value.message.startswith("1. fr")
    assert [name.localname for name in caught.value.subcodes] == ["FailedAuthentication"]
    assert caught.value.subcodes[0].namespace == WSSE
    assert len(caught.value.detail) == 2


def test_a_fault_of_another_server_is_read():
    body = etree.fromstring(
        f'<e:Fault xmlns:e="{SOAP12}"><e:Code><e:Value>e:Receiver</e:Value></e:Code><e:Reason><e:Text xml:lang="en">'
        " down </e:Text></e:Reason><e:Detail><Value>x</Value></e:Detail></e:Fault>")
    assert soap.read_fault(body) == soap.Fault("Receiver", (), {"en": "down"}, ())
    assert soap.read_fault(etree.fromstring(f'<e:Fault xmlns:e="{SOAP12}"/>')) == soap.Fault("")
    assert soap.read_fault(etree.fromstring("<x/>")) is None
