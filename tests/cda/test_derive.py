"""Metadata derived from the header: one valid sample, one change, one expected difference or finding."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cda.derive import derive, derive_findings, ins_of, unique_id
from cda.header import Identifier, read_header
from cda.tables import document_types
from xds.ebxml import from_document, to_document
from xds.findings import Finding, Refused, Severity
from xds.hl7 import CX, DTM, PID, XCN, XON, CXi
from xds.model import Code, DocumentEntry

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "cda"
OFFICIAL = sorted(SHARED.glob("*.xml"))
VSM = (ROOT / "samples" / "vsm.xml").read_bytes()

needs_examples = pytest.mark.skipif(not OFFICIAL, reason="official examples not at hand")


def changed(old: str, new: str, data: bytes = VSM) -> bytes:
    assert old.encode() in data
    return data.replace(old.encode(), new.encode())


def codes(code: Code | None) -> tuple[str, str]:
    return (code.code, code.scheme) if code else ("", "")


# --- exact values of four official examples, worked out by hand from their headers ---------------------------------

LOINC = "2.16.840.1.113883.6.1"
N = (("N", "2.16.840.1.113883.5.25"),)
PATIENT = {
    "patient_id": "279035121518989^^^&1.2.250.1.213.1.4.10&ISO^NH",
    "source_patient_id": "1234567890121^^^&1.2.3.4.567.8.9.10&ISO^PI",
    "source_patient_info": ("PID-5|PAT-TROIS^DOMINIQUE^^^^^L", "PID-7|19790328", "PID-8|F"),
    "language": "fr-FR",
    "confidentiality": N,
}
MEDIONI = "801234567897^MEDIONI^Stéphane^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
BOILEAU = "801234567897^BOILEAU^Charles^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS"
GP = "G15_10/SM26^Médecin - Qualifié en Médecine Générale (SM)^1.2.250.1.213.1.1.4.5"

EXPECTED = {
    "VSM_1.4_2022.01.xml": {
        **PATIENT,
        "unique_id": "1.2.250.1.213.1.1.1.13.2022.1.1",
        "type_code": ("SYNTH", "1.2.250.1.213.1.1.4.12"),
        "class_code": ("11", "1.2.250.1.213.1.1.4.1"),
        "format_code": ("urn:asip:ci-sis:vsm:2012", "1.2.250.1.213.1.1.4.2.282"),
        "practice_setting": ("ETABLISSEMENT", "1.2.250.1.213.1.1.4.9"),
        "facility_type": ("SA04", "1.2.250.1.71.4.2.4"),
        "event_codes": (("34117-2", LOINC),),
        "creation_time": "20200312101700", "service_start": "20200312101700", "service_stop": "",
        "legal_authenticator": MEDIONI,
        "author": (MEDIONI, "Centre de soins le Belvédère^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^2801234567",
                   "Médecin traitant", GP),
        "mime_type": "text/xml", "reference_ids": (),
    },
    "DLU-EHPAD-DLU_2022.01.xml": {
        **PATIENT,
        "unique_id": "1.2.250.1.213.1.1.1.22.2022.1.1",
        "type_code": ("74207-2", LOINC),
        "class_code": ("11", "1.2.250.1.213.1.1.4.1"),
        "format_code": ("urn:asip:ci-sis:dlu:2015", "1.2.250.1.213.1.1.4.2.282"),
        "practice_setting": ("ETABLISSEMENT", "1.2.250.1.213.1.1.4.9"),
        "facility_type": ("SA17", "1.2.250.1.71.4.2.4"),
        "event_codes": (("34117-2", LOINC),),
        "creation_time": "20200327143500", "service_start": "20200327143500", "service_stop": "20200327145500",
        "legal_authenticator": BOILEAU,
        "author": (BOILEAU, "EHPAD DE BOULOGNE-BILLANCOURT^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1750803447", "", GP),
        "mime_type": "text/xml", "reference_ids": (),
    },
    "CNAM-HR_2021.01_sans-info.xml": {
        **PATIENT,
        "unique_id": "1.2.250.1.213.1.1.1.36.2021.2.1",
        "type_code": ("REMB", "1.2.250.1.213.1.1.4.12"),
        "class_code": ("60", "1.2.250.1.213.1.1.4.1"),
        "format_code": ("urn:asip:ci-sis:hr:2019", "1.2.250.1.213.1.1.4.2.282"),
        "practice_setting": ("AMO", "1.2.250.1.213.1.1.4.9"),
        "facility_type": ("SA24", "1.2.250.1.71.4.2.4"),
        "event_codes": (),
        "creation_time": "20190701154900", "service_start": "20190101144500", "service_stop": "20190701144500",
        "legal_authenticator":
            "518003502400041/1.2.250.1.215.1.2^Assurance Maladie^.^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
        "author": ("518003502400041/1.2.250.1.215.1.2^Assurance Maladie^.^^^^^^&1.2.250.1.71.4.2.1&ISO^U^^^RI",
                   "Assurance Maladie^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^318003502400041", "",
                   "ALIM_AM^Alimentation auto à partir du SI de l'Ass Maladie^1.2.250.1.213.1.1.4.6"),
        "mime_type": "text/xml", "reference_ids": (),
    },
    "BIO-CR-BIO_2021.01_Auto-Presentable_avec-image.xml": {
        **PATIENT,
        "unique_id": "1.2.250.1.213.1.1.1.55.2021.2.1",
        "type_code": ("11502-2", LOINC),
        "class_code": ("10", "1.2.250.1.213.1.1.4.1"),
        "format_code": ("urn:ihe:lab:xd-lab:2008", "1.3.6.1.4.1.19376.1.2.3"),
        "practice_setting": ("AMBULATOIRE", "1.2.250.1.213.1.1.4.9"),
        "facility_type": ("SA25", "1.2.250.1.71.4.2.4"),
        "event_codes": (("18719-5", LOINC), ("18727-8", LOINC), ("18718-7", LOINC)),
        "creation_time": "20210401151000", "service_start": "20210104082200", "service_stop": "20210104150500",
        "legal_authenticator": "801234534765^CAMPARINI^Marcel^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
        "author": ("801234534765^CAMPARINI^Marcel^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
                   "Laboratoire des charmes^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1120459876", "",
                   "G15_10/SM03^Médecin - Biologie médicale (SM)^1.2.250.1.213.1.1.4.5"),
        "mime_type": "application/xslt+xml",
        "reference_ids": ("2014123456789^^^&1.2.250.1.213.1.1.9&ISO^urn:ihe:iti:xds:2013:order",),
    },
}


def seen(entry: DocumentEntry) -> dict[str, object]:
    (author,) = entry.authors
    names = EXPECTED["VSM_1.4_2022.01.xml"].keys() - {"author"}
    flat: dict[str, object] = {name: getattr(entry, name) for name in names}
    for name in ("type_code", "class_code", "format_code", "practice_setting", "facility_type"):
        flat[name] = codes(getattr(entry, name))
    for name in ("event_codes", "confidentiality"):
        flat[name] = tuple(map(codes, getattr(entry, name)))
    flat["author"] = tuple(values[0] if values else ""
                           for values in (author.persons, author.institutions, author.roles, author.specialties))
    return flat


@needs_examples
@pytest.mark.parametrize("name", EXPECTED)
def test_official_examples_worked_out_by_hand(name: str) -> None:
    data = (SHARED / name).read_bytes()
    entry = derive(data, entry_id="d7")
    assert seen(entry) == EXPECTED[name]
    assert (entry.id, entry.size, entry.hash) == ("d7", str(len(data)), hashlib.sha1(data).hexdigest())
    assert derive_findings(data) == []


@needs_examples
def test_imaging_report_tells_orders_accessions_and_studies() -> None:
    entry = derive((SHARED / "IMG_CR_IMG_2024.01.xml").read_bytes())
    assert entry.reference_ids[:2] == (
        "984375862^^^&1.2.250.1.748.12345678.12&ISO^urn:ihe:iti:xds:2013:order",
        "105234751^^^&1.2.250.1.925.994044785528.27&ISO^urn:ihe:iti:xds:2013:accession")
    assert "1.2.250.1.925.994044.27.123.1876360^^^^urn:ihe:iti:xds:2016:studyInstanceUID" in entry.reference_ids
    assert ("CT", "1.2.840.10008.2.16.4") in map(codes, entry.event_codes)
    assert len(set(entry.event_codes)) == len(entry.event_codes)


@needs_examples
def test_every_official_example_gives_texts_of_the_right_types() -> None:
    for path in OFFICIAL:
        data = path.read_bytes()
        entry = derive(data)
        for parse, texts in texts_of(entry):
            for text in filter(None, texts):
                assert str(parse(text)) == text, path.name
        assert to_document(from_document(entry)) == entry, path.name


@needs_examples
def test_every_official_type_is_known_or_told() -> None:
    told = []
    for path in OFFICIAL:
        data = path.read_bytes()
        assert derive(data).type_code.code in document_types(), path.name
        told += [finding.values["attribute"] for finding in derive_findings(data)]
    # four headers have no structure of the author, two have one without a name
    assert told == ["authorInstitution"] * 6


def texts_of(entry: DocumentEntry) -> list[tuple[Callable[[str], object], tuple[str, ...]]]:
    authors = entry.authors
    return [
        (CX.parse, (entry.patient_id, entry.source_patient_id)),
        (XCN.parse, (entry.legal_authenticator, *(text for author in authors for text in author.persons))),
        (XON.parse, tuple(text for author in authors for text in author.institutions)),
        (PID.parse, entry.source_patient_info),
        (CXi.parse, entry.reference_ids),
        (DTM.parse, (entry.creation_time, entry.service_start, entry.service_stop)),
    ]


# --- one change, one difference ------------------------------------------------------------------------------------


def test_local_identifier_absent_gives_the_ins_twice() -> None:
    data = changed('extension="VOLET-0001"', 'nullFlavor="NI"')
    entry = derive(data)
    assert entry.source_patient_id == entry.patient_id == "258059999900193^^^&1.2.250.1.213.1.4.10&ISO^NH"


def test_another_national_identifier_is_not_local() -> None:
    root = str(read_header(VSM).patient.ids[1].root)
    assert derive(changed(root, "1.2.250.1.213.1.4.2")).source_patient_id.endswith("^NH")


@pytest.mark.parametrize(("root", "known"), [("8", True), ("9", True), ("10", True), ("11", True), ("2", False)])
def test_roots_of_the_ins(root: str, known: bool) -> None:
    header = read_header(changed('"1.2.250.1.213.1.4.10"', f'"1.2.250.1.213.1.4.{root}"'))
    assert bool(ins_of(header.patient)) is known


@pytest.mark.parametrize(("code", "told"), [("F", "F"), ("M", "M"), ("UN", "U"), ("X", "U")])
def test_sex(code: str, told: str) -> None:
    assert f"PID-8|{told}" in derive(changed('GenderCode code="F"', f'GenderCode code="{code}"')).source_patient_info


def test_the_birth_name_is_told_and_not_the_usual_one() -> None:
    data = changed('"CL">ESSAI-VOLET', '"BR">NAISSANCE', changed('"BR">ESSAI-VOLET', '"CL">USUEL'))
    assert derive(data).source_patient_info[0] == "PID-5|NAISSANCE^CAMILLE^^^^^L"


def test_names_are_escaped() -> None:
    entry = derive(changed(">FICTIF<", ">L|O^U&amp;P~\\<"))
    assert entry.legal_authenticator.split("^")[1] == "L\\F\\O\\S\\U\\T\\P\\R\\\\E\\"


def test_an_identifier_with_an_extension() -> None:
    assert unique_id(Identifier("1.2.3", "4.5")) == "1.2.3^4.5"


def test_a_uuid_becomes_an_oid() -> None:
    # the example that ITU-T X.667 works out
    identifier = Identifier("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6")
    assert unique_id(identifier) == "2.25.329800735698586629295641978511506172918"


def test_an_employee_without_national_identifier() -> None:
    data = changed('root="1.2.250.1.71.4.2.1" extension="899999000021"', 'root="1.2.3" extension="E1"')
    assert derive(data).legal_authenticator == "E1^FICTIF^Bernard^^^^^^&1.2.3&ISO^D^^^EI"


def test_a_patient_as_author() -> None:
    data = changed('root="1.2.250.1.71.4.2.1" extension="899999000021"',
                   'root="1.2.250.1.213.1.4.10" extension="258059999900193"')
    assert derive(data).authors[0].person.endswith("&1.2.250.1.213.1.4.10&ISO^L^^^NH")


def test_a_structure_without_national_identifier() -> None:
    data = changed('root="1.2.250.1.71.4.2.2" extension="499999000021001"', 'root="1.2.9" extension="S1"')
    assert derive(data).authors[0].institutions == ("CABINET DU DOCTEUR FICTIF^^^^^&1.2.9&ISO^XX^^^S1",)


def test_a_structure_without_identifier_is_its_name() -> None:
    data = changed('<id root="1.2.250.1.71.4.2.2" extension="499999000021001"/>', "")
    assert derive(data).authors[0].institutions == ("CABINET DU DOCTEUR FICTIF",)


def test_a_role_without_display_name_is_its_code() -> None:
    data = changed(' displayName="Médecin traitant"', "")
    assert derive(data).authors[0].roles == ("PCP",)


def test_level_1_format_follows_the_media_type() -> None:
    data = (ROOT / "samples" / "ordonnance.xml").read_bytes()
    assert derive(data).format_code.code == "urn:ihe:iti:xds-sd:pdf:2008"
    as_rtf = derive(changed('"application/pdf"', '"text/rtf"', data))
    assert as_rtf.format_code.code == "urn:ihe:iti-fr:xds-sd:rtf:2010"


def test_date_precision_is_kept() -> None:
    data = changed('<effectiveTime value="20260914103000+0200"/>', '<effectiveTime value="202609"/>')
    assert derive(data).creation_time == "202609"


# --- one change, one finding ---------------------------------------------------------------------------------------


def the_finding(data: bytes) -> Finding:
    (finding,) = derive_findings(data, part="doc")
    assert finding.severity is not Severity.ERROR
    assert finding.where.part == "doc"
    return finding


def line_of(data: bytes, text: str) -> int:
    return data[:data.index(text.encode())].count(b"\n") + 1


def test_a_whole_document_has_no_finding() -> None:
    assert derive_findings(VSM) == []


@pytest.mark.parametrize(("old", "new", "attribute", "path"), [
    ('<title>Synthèse médicale</title>\n', "\n", "title", "title"),
    ('<languageCode code="fr-FR"/>', "", "languageCode", "languageCode"),
    ('<confidentialityCode code="N"', '<confidentialityCode nullFlavor="NI"', "confidentialityCode",
     "confidentialityCode"),
    ('<effectiveTime value="20260914103000+0200"/>', "", "creationTime", "effectiveTime"),
    ('<id root="2.25.272952060304886944021713701316558716181"/>', "", "uniqueId", "id"),
    ('<birthTime value="19580517"/>', "", "sourcePatientInfo PID-7", "recordTarget/patientRole/patient/birthTime"),
    ('<administrativeGenderCode code="F"', '<administrativeGenderCode nullFlavor="UNK"', "sourcePatientInfo PID-8",
     "recordTarget/patientRole/patient/administrativeGenderCode"),
    ('<code code="SA07"', '<code nullFlavor="UNK"', "healthcareFacilityTypeCode",
     "componentOf/encompassingEncounter/location/healthCareFacility/code"),
    ('<standardIndustryClassCode code="AMBULATOIRE"', '<standardIndustryClassCode nullFlavor="UNK"',
     "practiceSettingCode", "documentationOf/serviceEvent/performer/assignedEntity/representedOrganization"
                            "/standardIndustryClassCode"),
    ("legalAuthenticator>", "authenticator>", "legalAuthenticator", "legalAuthenticator/assignedEntity"),
    ("author>", "dataEnterer>", "author", "author"),
])
def test_what_is_missing_is_told(old: str, new: str, attribute: str, path: str) -> None:
    finding = the_finding(changed(old, new))
    assert (finding.code, finding.values["attribute"]) == ("V-CDA-NOT-DERIVED", attribute)
    assert (finding.where.path, finding.expected) == (f"/ClinicalDocument/{path}", path)
    assert attribute in finding.fr
    assert attribute in finding.en


def test_the_line_is_that_of_the_element_or_of_the_nearest_above() -> None:
    emptied = changed('<code code="SA07"', '<code nullFlavor="UNK"')
    assert the_finding(emptied).where.line == line_of(emptied, '<code nullFlavor="UNK"')
    removed = changed('<birthTime value="19580517"/>', "")
    assert the_finding(removed).where.line == line_of(removed, '<patient classCode="PSN">')


def test_the_second_author_is_told_by_its_number() -> None:
    second = "<author><assignedAuthor><id root='1.2' extension='3'/></assignedAuthor></author>"
    finding = the_finding(changed("<custodian>", second + "<custodian>"))
    assert finding.values["attribute"] == "authorInstitution"
    assert finding.where.path == "/ClinicalDocument/author[2]/assignedAuthor/representedOrganization/name"


def test_a_patient_without_ins_is_told() -> None:
    finding = the_finding(changed('"1.2.250.1.213.1.4.10"', '"1.2.3"'))
    assert finding.code == "V-CDA-NO-INS"
    assert "1.2.3^258059999900193" in finding.received


def test_a_type_of_no_class_is_told() -> None:
    data = changed('<code code="SYNTH"', '<code code="51851-4"')
    finding = the_finding(data)
    assert (finding.code, finding.received) == ("V-CDA-TYPE-UNKNOWN", "51851-4")
    assert finding.where.line == line_of(data, '<code code="51851-4"')
    assert derive(data).class_code is None


def test_a_model_without_format_is_told() -> None:
    data = changed("1.2.250.1.213.1.1.1.13", "1.2.250.1.213.1.1.1.999")
    assert the_finding(data).code == "V-CDA-FORMAT-UNKNOWN"
    assert derive(data).format_code.code == "urn:asipSante:modelesHorsProfils:2011"


@pytest.mark.parametrize(("old", "attribute"), [
    ('<effectiveTime value="20260914103000+0200"/>', "creationTime"),
    ('<birthTime value="19580517"/>', "sourcePatientInfo PID-7"),
])
def test_a_time_that_is_none_is_told_once(old: str, attribute: str) -> None:
    before, _, after = old.partition('value="')
    finding = the_finding(changed(old, f'{before}value="20261399{after[after.index(chr(34)):]}'))
    assert (finding.code, finding.values["attribute"], finding.received) == ("V-CDA-TIME", attribute, "20261399")


def test_a_time_without_zone_is_told() -> None:
    data = changed('<effectiveTime value="20260914103000+0200"/>', '<effectiveTime value="20260914103000"/>')
    assert the_finding(data).code == "V-CDA-TIME-ZONE"
    assert derive(data).creation_time == "20260914103000"


def test_a_uuid_is_told() -> None:
    data = changed("2.25.272952060304886944021713701316558716181", "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6")
    assert the_finding(data).code == "V-CDA-ID-UUID"


def test_paths_of_a_self_displaying_document_start_at_its_stylesheet() -> None:
    document = changed('<languageCode code="fr-FR"/>', "")
    sheet = b'<s:stylesheet version="1.0" xmlns:s="http://www.w3.org/1999/XSL/Transform">' \
        + document[document.index(b"<ClinicalDocument"):] + b"</s:stylesheet>"
    assert the_finding(sheet).where.path == "/stylesheet/ClinicalDocument/languageCode"


def test_an_empty_document_gives_an_empty_entry_and_every_finding() -> None:
    data = b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>'
    entry = derive(data)
    assert (entry.unique_id, entry.patient_id, entry.authors, entry.type_code) == ("", "", (), None)
    told = {finding.values.get("attribute", finding.code) for finding in derive_findings(data)}
    assert told == {
        "uniqueId", "typeCode", "title", "creationTime", "confidentialityCode", "languageCode", "sourcePatientId",
        "author", "legalAuthenticator", "serviceStartTime", "practiceSettingCode", "healthcareFacilityTypeCode",
        "sourcePatientInfo PID-5", "sourcePatientInfo PID-7", "sourcePatientInfo PID-8",
        "V-CDA-NO-INS", "V-CDA-FORMAT-UNKNOWN"}


# --- hostile bytes -------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 15_000), st.binary(min_size=1, max_size=6))
def test_damaged_bytes_are_derived_or_refused(position: int, noise: bytes) -> None:
    data = VSM[:position] + noise + VSM[position + len(noise):]
    try:
        entry = derive(data)
    except Refused:
        with pytest.raises(Refused):
            derive_findings(data)
    else:
        assert entry.size == str(len(data))
        assert all(finding.fr and finding.en for finding in derive_findings(data))
