"""The samples: sound by the header rules, coded from the value sets, complete as metadata, in step with the cards."""

import base64
import re
import tomllib
from collections import Counter
from datetime import date
from functools import cache
from pathlib import Path

import pytest
from lxml import etree

from cda.derive import derive, derive_findings, ins_of
from cda.header import read_header

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
SHARED = ROOT.parent / "shared" / "data"
NAMES = ("vsm", "dlu", "ordonnance")
NS = {"h": "urn:hl7-org:v3"}

needs_value_sets = pytest.mark.skipif(not (SHARED / "jdv").exists(), reason="published value sets not at hand")
needs_examples = pytest.mark.skipif(not (SHARED / "cda").exists(), reason="official examples not at hand")


@cache
def sample(name: str) -> etree._Element:
    return etree.parse(SAMPLES / f"{name}.xml").getroot()


def nodes(name: str, path: str) -> list:
    return sample(name).xpath(path, namespaces=NS)


@cache
def toml(name: str) -> dict:
    return tomllib.loads((ROOT / name).read_text("utf-8"))


# --- header rules of the CI-SIS (structuration minimale) ------------------------------------------------------------

ORG = "h:id[@root='1.2.250.1.71.4.2.2' and @extension]"
CARDINALITIES = (
    # path, least, most
    ("h:realmCode[@code='FR']", 1, 1),
    ("h:typeId[@root='2.16.840.1.113883.1.3'][@extension='POCD_HD000040']", 1, 1),
    ("h:templateId[@root]", 3, 3),
    ("h:templateId[@root='2.16.840.1.113883.2.8.2.1']", 1, 1),
    ("h:templateId[@root='1.2.250.1.213.1.1.1.1']", 1, 1),
    ("h:id[@root][not(@nullFlavor)]", 1, 1),
    ("h:code[@code][@codeSystem][@displayName]", 1, 1),
    ("h:title[text()]", 1, 1),
    ("h:effectiveTime[@value]", 1, 1),
    ("h:confidentialityCode[@code='N'][@codeSystem][@displayName]", 1, 1),
    ("h:languageCode[@code='fr-FR']", 1, 1),
    ("h:setId[@root]", 1, 1),
    ("h:versionNumber[@value]", 1, 1),
    ("h:recordTarget/h:patientRole", 1, 1),
    ("h:recordTarget/h:patientRole/h:id[@root][@extension]", 1, 9),
    ("h:recordTarget//h:patient/h:name/h:family[@qualifier='BR']", 1, 1),
    ("h:recordTarget//h:patient/h:name/h:given[@qualifier='BR']", 1, 1),
    ("h:recordTarget//h:patient/h:name/h:given[not(@qualifier)]", 1, 1),
    ("h:recordTarget//h:patient/h:name/h:family[not(@qualifier='BR' or @qualifier='CL')]", 0, 0),
    ("h:recordTarget//h:patient/h:administrativeGenderCode[@code]", 1, 1),
    ("h:recordTarget//h:patient/h:birthTime[@value]", 1, 1),
    ("h:recordTarget//h:patient/h:birthplace/h:place/h:addr/h:county", 1, 1),
    ("h:author/h:time[@value]", 1, 1),
    ("h:author/h:assignedAuthor/h:id[@root][@extension]", 1, 1),
    ("h:author/h:assignedAuthor/h:assignedPerson/h:name/h:family", 1, 1),
    (f"h:author/h:assignedAuthor/h:representedOrganization/{ORG}", 1, 1),
    (f"h:custodian/h:assignedCustodian/h:representedCustodianOrganization/{ORG}", 1, 1),
    ("h:legalAuthenticator/h:time[@value]", 1, 1),
    ("h:legalAuthenticator/h:signatureCode[@code='S']", 1, 1),
    ("h:legalAuthenticator/h:assignedEntity/h:id[@root][@extension]", 1, 1),
    ("h:legalAuthenticator/h:assignedEntity/h:assignedPerson/h:name/h:family", 1, 1),
    ("h:documentationOf/h:serviceEvent/h:performer[@typeCode='PRF']", 1, 1),
    ("h:documentationOf/h:serviceEvent/h:effectiveTime/h:low[@value]", 1, 1),
    (f"h:documentationOf/h:serviceEvent/h:performer/h:assignedEntity/h:representedOrganization/{ORG}", 1, 1),
    ("h:documentationOf//h:performer//h:standardIndustryClassCode[@code]", 1, 1),
    ("h:componentOf/h:encompassingEncounter/h:effectiveTime", 1, 1),
    ("h:componentOf/h:encompassingEncounter/h:location/h:healthCareFacility/h:code[@code]", 1, 1),
    ("h:component/h:structuredBody | h:component/h:nonXMLBody", 1, 1),
)
#: what the models ask for on top
MODELS = {
    "vsm": (
        ("h:templateId[@root='1.2.250.1.213.1.1.1.13'][@extension='201310']", 1, 1),
        ("h:code[@code='SYNTH'][@codeSystem='1.2.250.1.213.1.1.4.12'][@displayName='Synthèse']", 1, 1),
        ("h:participant[@typeCode='INF']/h:functionCode[@code='PCP'][@displayName='Médecin Traitant']", 1, 1),
        ("h:documentationOf/h:serviceEvent/h:code[@code='34117-2'][@displayName='Historique et clinique']"
         "[@codeSystemName='LOINC']", 1, 1),
    ),
    "dlu": (
        ("h:templateId[@root='1.2.250.1.213.1.1.1.22'][@extension='2022.01']", 1, 1),
        ("h:code[@code='74207-2']", 1, 1),
        ("h:participant[@typeCode='INF']", 1, 9),
        ("h:participant/h:functionCode[@code='PCP']", 1, 9),
        ("h:documentationOf/h:serviceEvent/h:code[@code='34117-2']", 1, 1),
    ),
    "ordonnance": (
        ("h:templateId[@root='1.3.6.1.4.1.19376.1.2.20']", 1, 1),
        ("h:component/h:nonXMLBody/h:text[@mediaType='application/pdf'][@representation='B64']", 1, 1),
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_header_cardinalities(name: str) -> None:
    counts = {path: (len(nodes(name, path)), least, most) for path, least, most in CARDINALITIES + MODELS[name]}
    assert {path: found for path, found in counts.items() if not found[1] <= found[0] <= found[2]} == {}


@pytest.mark.parametrize("name", NAMES)
def test_times_are_whole_and_in_order(name: str) -> None:
    times = nodes(name, "h:effectiveTime/@value | h:author/h:time/@value | h:documentationOf//h:effectiveTime/*/@value")
    assert all(re.fullmatch(r"\d{14}[+-]\d{4}", time) for time in times)
    for interval in nodes(name, "//h:effectiveTime[h:low/@value and h:high/@value]"):
        low, high = (interval.find(f"h:{bound}", NS).get("value") for bound in ("low", "high"))
        assert low <= high


# --- sections and entries of the models ------------------------------------------------------------------------------

SECTIONS = {
    "vsm": {"46612-8", "34117-2", "11450-4", "11348-0", "47519-4", "48765-2", "57207-3", "29762-2", "10161-8",
            "10157-6", "30954-2", "18776-5", "10160-0"},
    "dlu": {"11302-7", "11450-4", "11348-0", "48765-2", "10160-0", "18776-5", "42348-3", "42545-4", "30954-2",
            "11369-6", "55107-7", "55112-7"},
}
#: templateId of an entry -> where it must stand, and what it must hold
ENTRIES = (
    ("1.3.6.1.4.1.19376.1.5.3.1.4.5.2", "h:entryRelationship/*[h:templateId/@root='1.2.250.1.213.1.1.3.37']"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.5.3", "h:entryRelationship/*[h:templateId/@root='1.2.250.1.213.1.1.3.41']"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.5", "h:value/h:originalText/h:reference"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.5", "h:statusCode[@code='completed']"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.19", "h:text/h:reference"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.7", "h:consumable//h:manufacturedMaterial/h:code/h:originalText/h:reference"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.7", "h:effectiveTime[@operator='A']/h:period"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.12", "self::*[@negationInd]"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.15", "h:subject/h:relatedSubject/h:code"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.13.4", "h:effectiveTime"),
    ("1.3.6.1.4.1.19376.1.5.3.1.4.13.7", "h:value[@value]"),
    ("1.2.250.1.213.1.1.3.18", "h:component/h:observation/h:code[@code='69764-9']"),
    ("1.2.250.1.213.1.1.3.18", "h:component/h:observationMedia/h:value"),
)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_of_the_model_is_there(name: str) -> None:
    assert set(nodes(name, "//h:section/h:code/@code")) == SECTIONS[name]
    assert not nodes(name, "//h:section[not(h:title)]")
    assert not nodes(name, "//h:section[not(h:text) and not(h:component)]")


@pytest.mark.parametrize(("root", "demand"), ENTRIES)
def test_entries_hold_what_their_model_asks(root: str, demand: str) -> None:
    entries = [node for name in SECTIONS for node in nodes(name, f"//*[h:templateId/@root='{root}']")]
    assert entries
    assert [node.sourceline for node in entries if not node.xpath(demand, namespaces=NS)] == []


@pytest.mark.parametrize("name", SECTIONS)
def test_a_concern_is_over_when_it_has_an_end(name: str) -> None:
    for act in nodes(name, "//h:act[h:templateId/@root='1.3.6.1.4.1.19376.1.5.3.1.4.5.1']"):
        over = act.find("h:statusCode", NS).get("code") in ("completed", "aborted")
        assert over == (act.find("h:effectiveTime/h:high", NS) is not None)


@pytest.mark.parametrize("name", SECTIONS)
def test_references_lead_somewhere_and_identifiers_stand_once(name: str) -> None:
    anchors = nodes(name, "//@ID")
    assert sorted(set(anchors)) == sorted(anchors)
    assert set(nodes(name, "//h:reference/@value")) <= {f"#{anchor}" for anchor in anchors}
    assert set(nodes(name, "//@referencedObject")) <= set(anchors)
    internal = nodes(name, "//h:act[h:templateId/@root='1.2.250.1.213.1.1.3.36']/h:id/@root")
    ids = Counter(node.get("root") for node in nodes(name, "//h:structuredBody//h:id[not(@extension)]"))
    assert {root for root, count in ids.items() if count > 1} <= set(internal)


@pytest.mark.parametrize("name", ["dlu", "ordonnance"])
def test_files_inside_are_pdf(name: str) -> None:
    for node in nodes(name, "//*[@representation='B64']"):
        assert base64.b64decode("".join(node.text.split()), validate=True).startswith(b"%PDF-1.4")


# --- value sets ------------------------------------------------------------------------------------------------------

#: value set -> elements whose (code, codeSystem) must be in it
VALUE_SETS = {
    "JDV_J01_XdsAuthorSpecialty_CISIS":
        "//h:assignedAuthor/h:code | //h:assignedEntity/h:code | //h:associatedEntity/h:code",
    "JDV_J02_XdsHealthcareFacilityTypeCode_CISIS": "//h:healthCareFacility/h:code",
    "JDV_J04_XdsPracticeSettingCode_CISIS": "//h:standardIndustryClassCode",
    "JDV_J07_XdsTypeCode_CISIS": "/*/h:code",
    "JDV_J08_XdsConfidentialityCode_CISIS": "/*/h:confidentialityCode",
    "JDV_J11_RelationPatient_CISIS": "//h:relatedEntity/h:code",
    "JDV_J142_TypeRencontre_CISIS": "//h:encompassingEncounter/h:code",
    "JDV_J143_AdministrativeGender_CISIS": "//h:administrativeGenderCode",
    "JDV_J47_FunctionCode_CISIS": "//h:functionCode",
    "JDV_ProblemCodes_CISIS": "//h:observation[h:templateId/@root='1.2.250.1.213.1.1.3.37']/h:code",
    "JDV_SocialHistoryCodes_CISIS": "//h:observation[h:templateId/@root='1.2.250.1.213.1.1.3.52']/h:code",
    "JDV_TypeEvenementIndesirablePrevisible_CISIS":
        "//h:observation[h:templateId/@root='1.2.250.1.213.1.1.3.41']/h:code",
    "JDV_HL7_allergyintolerance_clinical_CISIS":
        "//h:observation[h:templateId/@root='1.2.250.1.213.1.1.3.30']/h:value",
    "JDV_HL7_PersonalRelationshipRoleType_CISIS": "//h:relatedSubject/h:code",
    "JDV_TypeDirectiveAnticipee_CISIS": "//h:observation[h:templateId/@root='1.2.250.1.213.1.1.3.54']/h:code",
    "JDV_ObservationEtatPatient_CISIS": "//h:section[h:code/@code='42545-4']//h:observation/h:code",
    "JDV_ChecklistDLU_CISIS": "//h:observation[h:templateId/@root='1.2.250.1.213.1.1.3.48.18']/h:value",
    "JDV_RouteofAdministration_CISIS":
        "//h:substanceAdministration[h:templateId/@root='1.2.250.1.213.1.1.3.42']/h:routeCode",
    "JDV_ImmunizationRouteCodes_CISIS":
        "//h:substanceAdministration[h:templateId/@root='1.2.250.1.213.1.1.3.45']/h:routeCode",
    "JDV_ImmunizationApproachSiteCode_CISIS": "//h:approachSiteCode",
    "JDV_HL7_ActSubstanceAdministrationImmunizationCode_CISIS":
        "//h:substanceAdministration[h:templateId/@root='1.2.250.1.213.1.1.3.45']/h:code",
}


@needs_value_sets
@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_codes_are_in_their_value_set(value_set: str) -> None:
    published = etree.parse(SHARED / "jdv" / f"{value_set}.xml").iter("{urn:ihe:iti:svs:2008}Concept")
    known = {(concept.get("code"), concept.get("codeSystem")) for concept in published}
    used = [node for name in NAMES for node in nodes(name, VALUE_SETS[value_set])]
    assert used
    assert {(node.get("code"), node.get("codeSystem")) for node in used} <= known


# --- order, children and attributes as in documents that are valid by the official schema ---------------------------


def kind(node: etree._Element) -> tuple[str, str]:
    parent = node.getparent()
    return ("" if parent is None else etree.QName(parent).localname, etree.QName(node).localname)


def children(node: etree._Element) -> list[str]:
    return [etree.QName(child).localname for child in node.iterchildren(etree.Element)]


@cache
def official_usage() -> tuple[dict, dict, dict]:
    """What stands in what, before what, with which attributes, in the official examples."""
    inside: dict = {}
    before: dict = {}
    attributes: dict = {}
    for path in (SHARED / "cda").glob("*.xml"):
        for node in etree.parse(path).getroot().iter("{urn:hl7-org:v3}*"):
            names = children(node)
            inside.setdefault(kind(node), set()).update(names)
            attributes.setdefault(kind(node), set()).update(node.attrib)
            pairs = {(one, other) for n, other in enumerate(names) for one in set(names[:n]) if one != other}
            before.setdefault(kind(node), set()).update(pairs)
    return inside, before, attributes


@needs_examples
@pytest.mark.parametrize("name", NAMES)
def test_structure_is_that_of_official_documents(name: str) -> None:
    inside, before, attributes = official_usage()
    allowed_beyond = {("observationMedia", "value"): {"nullFlavor"}}  # legal, and asked for where a file is not joined
    for node in sample(name).iter("{urn:hl7-org:v3}*"):
        names = children(node)
        assert set(names) <= inside[kind(node)], node.sourceline
        assert set(node.attrib) <= attributes[kind(node)] | allowed_beyond.get(kind(node), set()), node.sourceline
        pairs = {(one, other) for n, other in enumerate(names) for one in names[:n] if one != other}
        known = before[kind(node)]
        assert not [pair for pair in pairs if pair not in known and pair[::-1] in known], node.sourceline


# --- metadata ------------------------------------------------------------------------------------------------------

#: attributes that the DMP requires of an entry and that come from the document
REQUIRED = ("unique_id", "patient_id", "mime_type", "title", "authors", "class_code", "type_code", "format_code",
            "facility_type", "practice_setting", "confidentiality", "creation_time", "service_start", "language",
            "legal_authenticator", "hash", "size", "source_patient_id")


@pytest.mark.parametrize("name", NAMES)
def test_derived_metadata_are_complete(name: str) -> None:
    data = (SAMPLES / f"{name}.xml").read_bytes()
    entry = derive(data)
    assert [attribute for attribute in REQUIRED if not getattr(entry, attribute)] == []
    assert [info[:5] for info in entry.source_patient_info] == ["PID-5", "PID-7", "PID-8"]
    (author,) = entry.authors
    assert author.persons
    assert author.institutions
    assert author.specialties
    assert derive_findings(data) == []


def test_identifiers_differ_between_samples() -> None:
    headers = [read_header((SAMPLES / f"{name}.xml").read_bytes()) for name in NAMES]
    assert len({header.id for header in headers} | {header.set_id for header in headers}) == 2 * len(NAMES)


# --- people: cards and seed patients -------------------------------------------------------------------------------

#: sample -> card of its author, card of the structure it belongs to, position of its patient among the seeds
PEOPLE = {
    "vsm": ("medecin-traitant", "medecin-traitant", "CAMILLE"),
    "dlu": ("medecin-traitant", "ehpad", "MARCEL"),
    "ordonnance": ("cardiologue", "cardiologue", "CAMILLE"),
}


@pytest.mark.parametrize("name", NAMES)
def test_authors_are_the_holders_of_test_cards(name: str) -> None:
    cards, header = toml("security/cards.toml"), read_header((SAMPLES / f"{name}.xml").read_bytes())
    card, structure = cards[PEOPLE[name][0]], cards[PEOPLE[name][1]]["structure"]
    author = header.authors[0].entity
    assert author.ids[0].extension == card["national_id"]
    assert (author.name.family(), author.name.given()) == (card["family"], card["given"])
    assert author.code.code == f"G15_{card['profession']['code']}/{card['specialities'][0]['code']}"
    assert (author.organization.ids[0].extension, author.organization.name) == (structure["id"], structure["name"])
    assert header.encounter.facility.code == cards[PEOPLE[name][1]]["sector"]
    for participant in header.participants:
        assert participant.entity.ids[0].extension == cards["medecin-traitant"]["national_id"]


def test_the_establishment_of_preference_is_the_hospital_of_the_cards() -> None:
    (identifier,) = nodes("dlu", "//h:participantRole[@classCode='ROL']/h:id/@extension")
    assert identifier == toml("security/cards.toml")["hopital"]["national_id"]


@pytest.mark.parametrize("name", NAMES)
def test_patients_of_the_samples_are_seed_patients(name: str) -> None:
    patient = read_header((SAMPLES / f"{name}.xml").read_bytes()).patient
    (seed,) = [seed for seed in toml("samples/patients.toml")["patient"] if seed["given"] == PEOPLE[name][2]]
    assert ins_of(patient).extension == seed["ins"]
    assert ins_of(patient).root == toml("samples/patients.toml")["ins_root"]
    assert (patient.name.family("BR"), patient.gender) == (seed["family"], seed["sex"])
    assert (patient.birth_time, patient.birthplace) == (seed["birth"].replace("-", ""), seed["birthplace"])


def test_seed_patients_have_a_right_ins() -> None:
    seeds = toml("samples/patients.toml")["patient"]
    for seed in seeds:
        number, key = int(seed["ins"][:13]), int(seed["ins"][13:])
        assert len(seed["ins"]) == 15
        assert key == 97 - number % 97
        assert seed["ins"][0] == {"M": "1", "F": "2"}[seed["sex"]]
        assert seed["ins"][1:5] == seed["birth"][2:4] + seed["birth"][5:7]
        assert seed["ins"][5:10] == seed["birthplace"]
        assert date.fromisoformat(seed["birth"])
    assert len({seed["ins"] for seed in seeds}) == len(seeds)


def test_seed_patients_name_cards_that_exist() -> None:
    cards = toml("security/cards.toml")
    for seed in toml("samples/patients.toml")["patient"]:
        assert {*seed["treating"], *seed["authorised"], *seed["blocked"]} <= set(cards)
        assert seed["state"] in ("open", "closed")
        assert seed["label"]["fr"]
        assert seed["label"]["en"]


def test_seed_patients_stand_for_each_case() -> None:
    seeds = toml("samples/patients.toml")["patient"]
    assert [seed for seed in seeds if seed["state"] == "closed"]
    assert [seed for seed in seeds if seed["opposition_emergency"] and seed["opposition_regulation"]]
    assert [seed for seed in seeds if set(seed["blocked"]) & set(seed["authorised"])]
    assert [seed for seed in seeds if seed["masked_consent"]]
    assert [seed for seed in seeds if seed["birth"] > "2012"]
    assert [seed for seed in seeds if not seed["authorised"]]
