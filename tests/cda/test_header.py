"""The header reader: what it finds, what it leaves empty, what it refuses."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cda.header import Coded, Device, Header, Identifier, Telecom, read_header
from xds.findings import Refused

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "cda"
OFFICIAL = sorted(SHARED.glob("*.xml"))
VSM = (ROOT / "samples" / "vsm.xml").read_bytes()
DLU = (ROOT / "samples" / "dlu.xml").read_bytes()

needs_examples = pytest.mark.skipif(not OFFICIAL, reason="official examples not at hand")


def small(content: str) -> bytes:
    return f'<ClinicalDocument xmlns="urn:hl7-org:v3">{content}</ClinicalDocument>'.encode()


# --- what is read --------------------------------------------------------------------------------------------------


def test_identity_of_the_document() -> None:
    header = read_header(VSM)
    assert header.id.root.startswith("2.25.")
    assert header.templates == (
        "2.16.840.1.113883.2.8.2.1", "1.2.250.1.213.1.1.1.1", "1.2.250.1.213.1.1.1.13^201310")
    assert header.code == Coded("SYNTH", "1.2.250.1.213.1.1.4.12", "Synthèse")
    assert (header.title, header.language) == ("Synthèse médicale", "fr-FR")
    assert header.effective_time == "20260914103000+0200"
    assert header.confidentiality == Coded("N", "2.16.840.1.113883.5.25", "Normal")
    assert (header.version, header.media_type, header.self_displaying) == ("1", "", False)
    assert header.set_id is not None
    assert header.set_id.root != header.id.root


def test_patient() -> None:
    patient = read_header(VSM).patient
    assert patient.ids[0] == Identifier("1.2.250.1.213.1.4.10", "258059999900193")
    assert patient.name is not None
    assert (patient.name.family("BR"), patient.name.given("BR")) == ("ESSAI-VOLET", "CAMILLE")
    assert patient.name.given() == "CAMILLE MARIE"
    assert (patient.gender, patient.birth_time, patient.birthplace) == ("F", "19580517", "99999")
    assert patient.addresses[0].lines == ("1", "rue de l'Essai")
    assert (patient.addresses[0].postal_code, patient.addresses[0].use) == ("99000", "H")
    assert patient.telecoms == (Telecom("tel:0199000010", "H"),)


def test_who_answers_for_it() -> None:
    header = read_header(VSM)
    (author,) = header.authors
    assert author.function == Coded("PCP", "2.16.840.1.113883.5.88", "Médecin traitant")
    assert author.time == "20260914103000+0200"
    assert author.entity.name is not None
    assert (author.entity.name.prefix, author.entity.name.suffix) == ("M", "DR")
    assert author.entity.organization is not None
    assert author.entity.organization.setting == Coded("AMBULATOIRE", "1.2.250.1.213.1.1.4.9", "Ambulatoire")
    assert header.legal_authenticator is not None
    assert header.legal_authenticator.entity.ids == author.entity.ids
    assert header.custodian is not None
    assert header.custodian.ids == author.entity.organization.ids


def test_acts_participants_and_encounter() -> None:
    header = read_header(DLU)
    (participant,) = header.participants
    assert (participant.type_code, participant.time) == ("INF", "20261008150000+0200")
    assert participant.function is not None
    assert participant.function.code == "PCP"
    assert header.main_service.code == Coded("34117-2", "2.16.840.1.113883.6.1", "Historique et clinique")
    assert (header.main_service.low, header.main_service.high) == ("20261008150000+0200", "20261008152000+0200")
    assert header.encounter.facility is not None
    assert header.encounter.facility.code == "SA17"
    assert header.replaces is None


def test_a_document_that_replaces_another() -> None:
    header = read_header(small(
        '<relatedDocument typeCode="APND"><parentDocument><id root="1.1"/></parentDocument></relatedDocument>'
        '<relatedDocument typeCode="RPLC"><parentDocument><id root="1.2" extension="7"/></parentDocument>'
        "</relatedDocument>"))
    assert header.replaces == Identifier("1.2", "7")


def test_a_level_1_body_has_a_media_type() -> None:
    body = "<component><nonXMLBody><text{}>QQ==</text></nonXMLBody></component>"
    assert read_header(small(body.format(' mediaType="Application/PDF"'))).media_type == "application/pdf"
    assert read_header(small(body.format(""))).media_type == "text/plain"
    assert read_header((ROOT / "samples" / "ordonnance.xml").read_bytes()).media_type == "application/pdf"


def test_a_device_may_be_the_author() -> None:
    (author,) = read_header(small(
        "<author><assignedAuthor><assignedAuthoringDevice><manufacturerModelName>M</manufacturerModelName>"
        "<softwareName>S 1</softwareName></assignedAuthoringDevice></assignedAuthor></author>")).authors
    assert author.entity.device == Device("M", "S 1")


def test_orders_and_accession_numbers() -> None:
    (order,) = read_header(small(
        '<inFulfillmentOf><order><id root="1.2" extension="A"/>'
        '<n:accessionNumber xmlns:n="urn:dicom-org:ps3-20" root="1.3" extension="B"/>'
        '<n:accessionNumber xmlns:n="urn:dicom-org:ps3-20" nullFlavor="NA"/></order></inFulfillmentOf>')).orders
    assert (order.ids, order.accessions) == ((Identifier("1.2", "A"),), (Identifier("1.3", "B"),))


def test_an_act_with_one_time_only() -> None:
    service = read_header(small('<documentationOf><serviceEvent><effectiveTime value="2020"/></serviceEvent>'
                                "</documentationOf>")).main_service
    assert (service.low, service.high) == ("2020", "")


def test_comments_and_line_ends_are_no_content() -> None:
    header = read_header(small("<!-- a --><title>\n  Compte <!-- b -->rendu\n</title><?p q?>"))
    assert header.title == "Compte rendu"


# --- what is missing stays empty -----------------------------------------------------------------------------------


def test_an_empty_document_is_an_empty_header() -> None:
    header = read_header(small(""))
    assert header == Header()
    assert (header.id, header.main_service.low, header.replaces) == (Identifier(), "", None)


def test_null_flavors_say_nothing() -> None:
    header = read_header(small(
        '<id nullFlavor="NI"/><code nullFlavor="UNK"/><effectiveTime nullFlavor="UNK"/><title nullFlavor="NI"/>'
        '<recordTarget><patientRole><id nullFlavor="UNK"/><telecom nullFlavor="NAV"/><patient><name nullFlavor="UNK"/>'
        "</patient></patientRole></recordTarget>"))
    assert header == Header()


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "code"), [
    (b"", "V-XML-NOT-WELL-FORMED"),
    (b"%PDF-1.4", "V-XML-NOT-WELL-FORMED"),
    (b"<ClinicalDocument/>", "V-CDA-NOT-A-DOCUMENT"),
    (b'<ClinicalDocument xmlns="urn:other"/>', "V-CDA-NOT-A-DOCUMENT"),
    (b'<html><ClinicalDocument xmlns="urn:hl7-org:v3"/></html>', "V-CDA-NOT-A-DOCUMENT"),
    (b'<stylesheet xmlns="http://www.w3.org/1999/XSL/Transform"/>', "V-CDA-NOT-A-DOCUMENT"),
    (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><ClinicalDocument xmlns="urn:hl7-org:v3"/>', "V-XML-DOCTYPE"),
    (b'<s:transform xmlns:s="http://www.w3.org/1999/XSL/Transform" xmlns="urn:hl7-org:v3"><ClinicalDocument/>'
     b"<ClinicalDocument/></s:transform>", "V-CDA-SEVERAL-DOCUMENTS"),
])
def test_what_is_no_document_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(Refused) as caught:
        read_header(data, "document 1")
    (finding,) = caught.value.findings
    assert (finding.code, finding.where.part) == (code, "document 1")


def test_a_refusal_tells_what_was_expected_and_what_came() -> None:
    with pytest.raises(Refused) as caught:
        read_header(b"<html/>")
    (finding,) = caught.value.findings
    assert (finding.expected, finding.received) == ("{urn:hl7-org:v3}ClinicalDocument", "html")
    assert "html" in finding.fr
    assert "html" in finding.en


def test_a_self_displaying_document_is_taken_out_of_its_stylesheet() -> None:
    document = VSM[VSM.index(b"<ClinicalDocument"):]
    sheet = (b'<s:stylesheet version="1.0" xmlns:s="http://www.w3.org/1999/XSL/Transform"><s:template match="/"/>'
             b"<data>" + document + b"</data></s:stylesheet>")
    inside, plain = read_header(sheet), read_header(VSM)
    assert inside.self_displaying
    assert (inside.id, inside.patient, inside.authors) == (plain.id, plain.patient, plain.authors)


# --- hostile bytes and official examples ---------------------------------------------------------------------------


def only_refused(data: bytes) -> Header | None:
    try:
        return read_header(data)
    except Refused:
        return None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(VSM)))
def test_a_cut_document_is_refused(length: int) -> None:
    header = only_refused(VSM[:length])
    assert (header is None) == (length < VSM.rindex(b">") + 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 15_000), st.binary(min_size=1, max_size=4))
def test_damaged_bytes_are_read_or_refused(position: int, noise: bytes) -> None:
    only_refused(VSM[:position] + noise + VSM[position + len(noise):])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert only_refused(data) is None


def test_deep_and_wide_headers_cost_little() -> None:
    deep = "<code code='x'>" + "<translation code='y'>" * 200 + "</translation>" * 200 + "</code>"
    assert read_header(small(deep)).code == Coded("x", translations=(Coded("y"),))
    assert only_refused(small("<a>" * 100_000)) is None
    assert len(read_header(small("<author/>" * 20_000)).authors) == 20_000


@needs_examples
def test_every_official_example_is_read() -> None:
    assert len(OFFICIAL) == 65
    for path in OFFICIAL:
        header = read_header(path.read_bytes())
        assert header.id.root, path.name
        assert header.code, path.name
        assert header.patient.name, path.name
        assert header.authors, path.name
        assert header.legal_authenticator, path.name
        assert header.main_service.low, path.name
        assert header.encounter.facility, path.name


@needs_examples
def test_the_official_self_displaying_example() -> None:
    header = read_header((SHARED / "BIO-CR-BIO_2021.01_Auto-Presentable_avec-image.xml").read_bytes())
    assert header.self_displaying
    assert str(header.id) == "1.2.250.1.213.1.1.1.55.2021.2.1"


@needs_examples
def test_official_replacement() -> None:
    replaced = [read_header(path.read_bytes()).replaces for path in OFFICIAL]
    assert sum(1 for identifier in replaced if identifier) == 8
