"""What other implementations send, byte by byte as they send it: none of the house's writers is used here."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import uuid
from collections.abc import Iterable

import pytest
import requests
from lxml import etree

from tests.stories.client import Reply, new_oid
from tests.stories.ihe import ASSIGNER, Toolkit, new_patient
from tests.stories.process import Server
from tests.stories.raw import HANG
from xds.vocabulary import RIM

RIM_NAME = f"{{{RIM}}}"
UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DOCUMENT = b"This is my document.\r\n\r\nIt is plain text with an empty last line.\r\n"
CODES = {"classCode": "41a5887f-8865-4c09-adf7-e362475b143a", "formatCode": "a09d5840-386c-46f2-b5ad-9c3699a4309d",
         "confidentialityCode": "f4f85eac-e6cb-4883-b524-f2705394840f",
         "healthcareFacilityTypeCode": "f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1",
         "practiceSettingCode": "cccf5598-8b07-4b77-a05e-ae952c785ead",
         "typeCode": "f0306f51-975f-434e-a61c-c59651d33983"}


@pytest.fixture(scope="module")
def mllp(ihe: Server) -> str:
    return ihe.environment["VOLET_MLLP"]


@pytest.fixture(scope="module")
def patient(ihe: Server) -> str:
    return new_patient(ihe, "wire")


# --- messages in the style of NIST's toolkit -------------------------------------------------------------------------


def slot(name: str, *values: str) -> str:
    listed = "".join(f"<rim:Value>{value}</rim:Value>" for value in values)
    return f'<rim:Slot name="{name}"><rim:ValueList>{listed}</rim:ValueList></rim:Slot>'


def metadata(patient: str, unique_id: str, mime_type: str = "text/plain", document_id: str = "Document01") -> str:
    """Symbolic ids, no lid, no VersionInfo, no objectType of associations, the set's node in an element of its own."""
    cx = patient.replace("&", "&amp;")
    number = iter(range(1, 100))
    classifications = "".join(
        f'<rim:Classification classificationScheme="urn:uuid:{scheme}" classifiedObject="{document_id}" '
        f'nodeRepresentation="{name}-1" id="cl{next(number)}" '
        'objectType="urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Classification">'
        f'{slot("codingScheme", "Connect-a-thon codes")}<rim:Name><rim:LocalizedString value="{name} one"/></rim:Name>'
        "</rim:Classification>" for name, scheme in CODES.items())
    identifiers = "".join(
        f'<rim:ExternalIdentifier identificationScheme="urn:uuid:{scheme}" registryObject="{owner}" value="{value}" '
        f'id="ei{next(number)}" '
        'objectType="urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:ExternalIdentifier">'
        f'<rim:Name><rim:LocalizedString value="{name}"/></rim:Name></rim:ExternalIdentifier>'
        for owner, scheme, name, value in (
            (document_id, "58a6f841-87b3-4a3e-92fd-a8ffeff98427", "XDSDocumentEntry.patientId", cx),
            (document_id, "2e82c1f6-a085-4c72-9da3-8640a32e42ab", "XDSDocumentEntry.uniqueId", unique_id)))
    of_set = "".join(
        f'<rim:ExternalIdentifier identificationScheme="urn:uuid:{scheme}" registryObject="SubmissionSet01" '
        f'value="{value}" id="ei{next(number)}"><rim:Name><rim:LocalizedString value="{name}"/></rim:Name>'
        "</rim:ExternalIdentifier>" for scheme, name, value in (
            ("96fdda7c-d067-4183-912e-bf5ee74998a8", "XDSSubmissionSet.uniqueId", new_oid()),
            ("554ac39e-e3fe-47fe-b233-965d2a147832", "XDSSubmissionSet.sourceId", "1.3.6.1.4.1.21367.4"),
            ("6b5aea1a-874d-4603-a4bc-96a0a7b38446", "XDSSubmissionSet.patientId", cx)))
    return f"""<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
  xmlns:rim="{RIM}"><rim:RegistryObjectList>
  <rim:Association id="as01" associationType="urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
    sourceObject="SubmissionSet01" targetObject="{document_id}">{slot("SubmissionSetStatus", "Original")}
  </rim:Association>
  <rim:Classification id="node" classifiedObject="SubmissionSet01"
    classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/>
  <rim:ExtrinsicObject id="{document_id}" mimeType="{mime_type}"
    objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1">{slot("creationTime", "20251224")}
    {slot("languageCode", "en-us")}{slot("sourcePatientId", cx)}
    {slot("sourcePatientInfo", f"PID-3|{cx}", "PID-5|Essai^Camille^^^", "PID-7|19560527", "PID-8|M")}
    <rim:Name><rim:LocalizedString value="Physical"/></rim:Name><rim:Description/>
    {classifications}{identifiers}</rim:ExtrinsicObject>
  <rim:RegistryPackage id="SubmissionSet01">{slot("submissionTime", "20251225235050")}
    <rim:Name><rim:LocalizedString value="Physical"/></rim:Name>
    <rim:Description><rim:LocalizedString value="Annual physical"/></rim:Description>
    <rim:Classification classificationScheme="urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
      classifiedObject="SubmissionSet01" nodeRepresentation="content-1" id="cl90">
      {slot("codingScheme", "Connect-a-thon codes")}<rim:Name><rim:LocalizedString value="content"/></rim:Name>
    </rim:Classification>{of_set}</rim:RegistryPackage>
</rim:RegistryObjectList></lcm:SubmitObjectsRequest>"""


def provide(patient: str, unique_id: str, content: str, **more: str) -> str:
    return (f'<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="urn:ihe:iti:xds-b:2007">'
            f"{metadata(patient, unique_id, **more)}"
            f'<xdsb:Document id="{more.get("document_id", "Document01")}">{content}</xdsb:Document>'
            "</xdsb:ProvideAndRegisterDocumentSetRequest>")


def envelope(body: str, action: str = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b") -> str:
    return f"""<?xml version='1.0' encoding='UTF-8'?>
<soapenv:Envelope xmlns:soapenv="http://www.w3.org/2003/05/soap-envelope" xmlns:wsa="http://www.w3.org/2005/08/addressing">
<soapenv:Header><wsa:To soapenv:mustUnderstand="true">http://localhost/xds/repository</wsa:To>
<wsa:MessageID soapenv:mustUnderstand="true">urn:uuid:{uuid.uuid4()}</wsa:MessageID>
<wsa:Action soapenv:mustUnderstand="true">{action}</wsa:Action></soapenv:Header>
<soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"""


def include(href: str) -> str:
    return f'<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="{href}"/>'


def part(head: Iterable[str], content: bytes) -> bytes:
    return "\r\n".join([*head, "", ""]).encode() + content


def post(server: Server, content_type: str, body: bytes, service: str = "repository", **headers: str) -> Reply:
    answer = requests.post(server.url(f"/xds/{service}", "http"), data=body, timeout=HANG,
                           headers={"Content-Type": content_type, **headers})
    return Reply.of(answer.status_code, answer.headers["Content-Type"], answer.content)


def is_whole(server: Server, unique_id: str, content: bytes = DOCUMENT, mime_type: str = "text/plain") -> None:
    """The document is found, its entry complete in the eyes of a toolkit, and it comes back as it went in."""
    toolkit = Toolkit(server)
    reply = toolkit.query("urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4", XDSDocumentEntryUniqueId=f"('{unique_id}')")
    (entry,) = reply.documents
    assert (entry.mime_type, entry.size) == (mime_type, str(len(content)))
    assert entry.hash == hashlib.sha1(content, usedforsecurity=False).hexdigest()
    is_complete(reply.body)
    answer = toolkit.retrieve((entry.repository_unique_id, unique_id))
    assert answer.contents == {unique_id: content}
    assert answer.body.findtext(".//{urn:ihe:iti:xds-b:2007}mimeType") == mime_type


def is_complete(body: etree._Element) -> None:
    """What NIST's toolkit fails every LeafClass answer for: lid, VersionInfo, status, UUIDs on everything nested."""
    for thing in body.iter(RIM_NAME + "ExtrinsicObject", RIM_NAME + "RegistryPackage", RIM_NAME + "Association"):
        assert UUID.fullmatch(thing.get("id", ""))
        assert thing.get("lid") == thing.get("id")
        assert thing.get("status", "").endswith(":Approved")
        assert [info.get("versionName") for info in thing.findall(RIM_NAME + "VersionInfo")] == ["1"]
        for nested in thing.iter(RIM_NAME + "Classification", RIM_NAME + "ExternalIdentifier"):
            assert UUID.fullmatch(nested.get("id", ""))
            assert (nested.get("classifiedObject") or nested.get("registryObject")) == thing.get("id")


# --- packages (PnrXop) -----------------------------------------------------------------------------------------------

ROOT_HEAD = ('Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"',
             "Content-Transfer-Encoding: binary", "Content-ID: <0.urn:uuid:A1@ws.apache.org>")


def package(boundary: str, *parts: bytes, before: bytes = b"") -> bytes:
    line = b"\r\n--" + boundary.encode()
    return before + line[2:] + b"".join(b"\r\n" + one + line for one in parts) + b"--\r\n"


def axis(boundary: str = "MIMEBoundaryurn_uuid_DCD262C64C22DB97351256303951323") -> str:
    return (f"multipart/related; boundary={boundary}; type=\"application/xop+xml\"; "
            'start="<0.urn:uuid:A1@ws.apache.org>"; start-info="application/soap+xml"; '
            'action="urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"')


@pytest.mark.parametrize(("href", "content_id"), [
    ("cid:1.urn:uuid:B2@ws.apache.org", "<1.urn:uuid:B2@ws.apache.org>"),
    ("cid:1.urn%3Auuid%3AB2%40ws.apache.org", "<1.urn:uuid:B2@ws.apache.org>"),
    ("cid:doc%20one%2B2%25.txt@x", "<doc one+2%.txt@x>"),
    ("CID:a@b", "<a@b>"),
], ids=["plain", "percent-encoded", "odd signs", "scheme in capitals"])
def test_xop(ihe: Server, patient: str, href: str, content_id: str) -> None:
    """PnrXop/Xop and encodedURL."""
    unique_id, boundary = new_oid(), "MIMEBoundaryurn_uuid_DCD262C64C22DB97351256303951323"
    body = package(boundary, part(ROOT_HEAD, envelope(provide(patient, unique_id, include(href))).encode()),
                   part(["Content-Type: text/plain", "Content-Transfer-Encoding: binary", f"Content-ID: {content_id}"],
                        DOCUMENT))
    reply = post(ihe, axis(), body)
    assert (reply.http, reply.status, reply.findings) == (200, "Success", [])
    assert reply.content_type.startswith("multipart/related")
    is_whole(ihe, unique_id)


@pytest.mark.parametrize("line", [0, 76, 64], ids=["one line", "lines of MIME", "lines of PEM"])
def test_no_xop(ihe: Server, patient: str, line: int) -> None:
    """PnrXop/NoXop: base64 in the envelope of a package of one part."""
    unique_id, text = new_oid(), base64.b64encode(DOCUMENT).decode()
    text = "\n".join(text[at:at + line] for at in range(0, len(text), line)) if line else text
    reply = post(ihe, axis("x"), package("x", part(ROOT_HEAD, envelope(provide(patient, unique_id, text)).encode())))
    assert (reply.status, reply.findings) == ("Success", [])
    is_whole(ihe, unique_id)


def test_of_dot_net(ihe: Server, patient: str) -> None:
    """PnrXop/dicom: an empty line before the first boundary, a boundary with signs that must be quoted, start last."""
    boundary, unique_id = "uuid:bf7ea6b2-2a47-4b22-a4f3-7d9f2cde1d32+id=17", new_oid()
    content = bytes(128) + b"DICM" + bytes(range(256)) * 8 + b"\r\n--uuid:bf7ea6b2"
    body = package(
        boundary,
        part(["Content-ID: <http://tempuri.org/0>", "Content-Transfer-Encoding: 8bit",
              'Content-Type: application/xop+xml;charset=utf-8;type="application/soap+xml"'],
             envelope(provide(patient, unique_id, include("cid:http%3A%2F%2Ftempuri.org%2F1%2F634%2F"),
                              mime_type="application/dicom")).encode()),
        part(["Content-ID: <http://tempuri.org/1/634/>", "Content-Transfer-Encoding: binary",
              "Content-Type: application/octet-stream"], content), before=b"\r\n")
    reply = post(ihe, f'multipart/related; type="application/xop+xml";boundary="{boundary}";'
                      'start-info="application/soap+xml";start="<http://tempuri.org/0>"', body, Expect="100-continue")
    assert (reply.status, reply.findings) == ("Success", [])
    is_whole(ihe, unique_id, content, "application/dicom")


def test_of_cxf(ihe: Server, patient: str) -> None:
    """The document first, the root named by `start`; base64 as transfer encoding; start-info with an action inside."""
    unique_id = new_oid()
    body = package(
        "uuid:5d0e",
        part(["Content-Type: text/plain", "Content-Transfer-Encoding: base64", "Content-ID: <doc@cxf.apache.org>"],
             base64.encodebytes(DOCUMENT).replace(b"\n", b"\r\n")),
        part(['Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml; '
              'action=\\"urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b\\""', "Content-Transfer-Encoding: binary",
              "Content-ID: <root.message@cxf.apache.org>"],
             envelope(provide(patient, unique_id, include("cid:doc@cxf.apache.org"))).encode()))
    reply = post(ihe, 'multipart/related; type="application/xop+xml"; boundary="uuid:5d0e"; '
                      'start="<root.message@cxf.apache.org>"; start-info="application/soap+xml; '
                      'action=\\"urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b\\""', body)
    assert (reply.status, reply.findings) == ("Success", [])
    is_whole(ihe, unique_id)


def test_without_a_package(ihe: Server, patient: str) -> None:
    """A bare envelope is accepted with a warning, and answered by a package all the same."""
    unique_id = new_oid()
    sent = envelope(provide(patient, unique_id, base64.b64encode(DOCUMENT).decode()))
    reply = post(ihe, "application/soap+xml; charset=UTF-8", sent.encode())
    assert (reply.status, reply.findings, reply.errors) == ("Success", ["V-REP-NOT-MULTIPART"], [])
    assert reply.content_type.startswith("multipart/related")
    is_whole(ihe, unique_id)


@pytest.mark.parametrize("encoding", ["UTF-16", "ISO-8859-1"])
def test_other_encodings(ihe: Server, patient: str, encoding: str) -> None:
    unique_id = new_oid()
    sent = envelope(provide(patient, unique_id, base64.b64encode(DOCUMENT).decode())).replace("UTF-8", encoding, 1)
    sent = sent.replace("Annual physical", "Visite de l'été")
    reply = post(ihe, f"application/soap+xml; charset={encoding}", sent.encode(encoding))
    assert reply.status == "Success"
    found = Toolkit(ihe).query("urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4",
                               XDSDocumentEntryUniqueId=f"('{unique_id}')").documents
    assert len(found) == 1


def test_an_empty_document(ihe: Server, patient: str) -> None:
    unique_id = new_oid()
    body = package("x", part(ROOT_HEAD, envelope(provide(patient, unique_id, include("cid:a@b"))).encode()),
                   part(["Content-ID: <a@b>"], b""))
    assert post(ihe, axis("x"), body).status == "Success"
    is_whole(ihe, unique_id, b"")


def test_upper_case_uuids_become_lower_case(ihe: Server, patient: str) -> None:
    unique_id, identity = new_oid(), f"urn:uuid:{str(uuid.uuid4()).upper()}"
    sent = envelope(provide(patient, unique_id, base64.b64encode(DOCUMENT).decode(), document_id=identity))
    assert post(ihe, "application/soap+xml", sent.encode()).status == "Success"
    is_whole(ihe, unique_id)
    reply = Toolkit(ihe).query("urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4",
                               XDSDocumentEntryEntryUUID=f"('{identity}')")
    assert [entry.id for entry in reply.documents] == [identity.lower()]


def test_registering_alone_in_the_same_style(ihe: Server, patient: str) -> None:
    """ITI-42: one simple envelope there and back."""
    unique_id = new_oid()
    language = slot("languageCode", "en-us")
    complete = metadata(patient, unique_id).replace(
        language, language + slot("hash", "da39a3ee5e6b4b0d3255bfef95601890afd80709") + slot("size", "0")
        + slot("repositoryUniqueId", "1.3.6.1.4.1.21367.13.40.1"))
    reply = post(ihe, 'application/soap+xml; charset=UTF-8; action="urn:ihe:iti:2007:RegisterDocumentSet-b"',
                 envelope(complete, "urn:ihe:iti:2007:RegisterDocumentSet-b").encode(), "registry")
    assert (reply.status, reply.findings) == ("Success", [])
    assert reply.content_type.startswith("application/soap+xml")
    assert reply.action == "urn:ihe:iti:2007:RegisterDocumentSet-bResponse"


# --- patients by feed ------------------------------------------------------------------------------------------------


def adt(event: str, name: str, *more: str) -> bytes:
    """An ADT message as the toolkit sends it: HL7 2.3.1, PID-3 with the assigner's OID."""
    cx, control_id = f"{name}^^^&{ASSIGNER}&ISO", uuid.uuid4().hex[:20]
    return "\r".join((
        f"MSH|^~\\&|TOOLKIT|NIST|VOLET|TEST|20260101120000||ADT^{event}^ADT_A01|{control_id}|P|2.3.1",
        f"EVN|{event}|20260101120000", f"PID|||{cx}||ESSAI^{name}^^^||19560527|M", *more, "")).encode()


def feed(address: str, message: bytes) -> str:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=HANG) as connection:
        connection.sendall(b"\x0b" + message + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            piece = connection.recv(4096)
            assert piece, answer
            answer += piece
    return next(line for line in answer.decode().split("\r") if line.startswith("MSA")).split("|")[1]


@pytest.mark.parametrize("event", ["A01", "A04", "A05", "A08"])
def test_a_patient_of_a_feed_is_known_at_once(ihe: Server, mllp: str, event: str) -> None:
    """ITI-8 over MLLP, then a submission; before the feed it is refused."""
    name = f"FED{event}"
    patient, unique_id = f"{name}^^^&{ASSIGNER}&ISO", new_oid()
    sent = envelope(provide(patient, unique_id, base64.b64encode(DOCUMENT).decode())).encode()
    reply = post(ihe, "application/soap+xml", sent)
    assert (reply.status, reply.errors) == ("Failure", ["XDSUnknownPatientId"])
    assert feed(mllp, adt(event, name)) == "AA"
    assert post(ihe, "application/soap+xml", sent).status == "Success"
    is_whole(ihe, unique_id)


def test_a_feed_that_names_no_authority_is_refused(mllp: str) -> None:
    assert feed(mllp, adt("A01", "NOBODY").replace(f"&{ASSIGNER}&ISO".encode(), b"NIST2010")) in {"AE", "AR"}
    assert feed(mllp, b"MSH|nonsense") in {"AE", "AR"}
