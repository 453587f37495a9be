"""Queries for identities in HL7 v3: what is written is read, one change is one finding, answers say what came of it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.answers import failure
from xds.feed import Feed
from xds.findings import Catalogue, Finding, Refused, Where
from xds.hl7v3 import CONDITIONS, II, INTERACTIONS, V3, Header, read_header
from xds.hl7v3_queries import (
    CANDIDATES,
    FIND_CANDIDATES,
    GET_IDENTIFIERS,
    IDENTIFIERS,
    MOST,
    Candidate,
    Copy,
    Domain,
    IdentifierQuery,
    Name,
    PersonQuery,
    copy_of,
    read_answer,
    read_identifier_query,
    read_person_query,
    write_candidates,
    write_failure,
    write_identifier_query,
    write_identifiers,
    write_person_query,
)
from xds.messages import TRANSACTIONS, transaction_of
from xds.xml import Element, parse

RULES = Catalogue("xds")
AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
INS, LOCAL = "299999999999945^^^&1.2.250.1.213.1.4.10&ISO", "P-42^^^&1.2.3.4&ISO"
HEADER = Header("", II("1.2.3.9", "message-1"), II("1.2.3.5"), II("1.2.3.6"), "T")
QUERY_ID = II("1.2.3.8", "query-1")
LIST = f"/{FIND_CANDIDATES}/controlActProcess/queryByParameter/parameterList"
PIX_LIST = LIST.replace(FIND_CANDIDATES, GET_IDENTIFIERS)
PIX = IdentifierQuery(INS, f"{PIX_LIST}/patientIdentifier/value", (
    Domain("1.2.3.4", f"{PIX_LIST}/dataSource[1]/value"), Domain("1.2.3.7", f"{PIX_LIST}/dataSource[2]/value")))
PDQ = PersonQuery((Name("ESSAI", "CAM", is_partial=True),), ("19580101", "1958"), "F", (INS,),
                  (Domain("1.2.3.4", f"{LIST}/otherIDsScopingOrganization/value"),), 5, 70)
PIX_TEXT = write_identifier_query(PIX, HEADER, QUERY_ID, AT)
PDQ_TEXT = write_person_query(PDQ, HEADER, QUERY_ID, AT)


def body(text: str) -> Element:
    return parse(text.encode())


def value(of: Element, path: str) -> list[str]:
    return list(of.xpath(path, namespaces={"v": V3}))


def changed(text: str, old: str, new: str) -> Element:
    assert text.count(old) == 1, old
    return body(text.replace(old, new))


def refused(read: object, of: Element) -> list[Finding]:
    assert callable(read)
    with pytest.raises(Refused) as caught:
        read(of)
    return list(caught.value.findings)


# --- queries -------------------------------------------------------------------------------------------------------


def test_queries_are_read():
    assert read_identifier_query(body(PIX_TEXT)) == PIX
    assert read_person_query(body(PDQ_TEXT)) == PDQ
    for text in (PIX_TEXT, PDQ_TEXT):
        assert replace(read_header(body(text)), interaction="") == HEADER
        assert copy_of(body(text)).id == QUERY_ID


def test_queries_are_in_the_order_of_the_standard():
    """Parameters are in the order of their names (tables 3.45.4.1.2.2-1, 3.47.4.1.2.2-1), query elements likewise."""
    told = body(PDQ_TEXT)
    query = told.xpath("//v:queryByParameter", namespaces={"v": V3})[0]
    assert [child.tag.rpartition("}")[2] for child in query] == [
        "queryId", "statusCode", "responseModalityCode", "responsePriorityCode", "initialQuantity",
        "matchCriterionList", "parameterList"]
    assert [child.tag.rpartition("}")[2] for child in query[-1]] == [
        "livingSubjectAdministrativeGender", "livingSubjectBirthTime", "livingSubjectId", "livingSubjectName",
        "otherIDsScopingOrganization"]
    assert value(told, "v:interactionId/@*") == [INTERACTIONS, FIND_CANDIDATES]
    assert value(told, "v:controlActProcess/v:code/@code") == ["PRPA_TE201305UV02"]
    assert value(body(PIX_TEXT), "//v:parameterList/*/v:semanticsText/text()") == [
        "DataSource.id", "DataSource.id", "Patient.id"]


printable = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
oids = st.lists(st.integers(0, 10**6), min_size=1, max_size=6).map(lambda arcs: ".".join(map(str, [1, *arcs])))
values = st.text("0123456789ABCé-", min_size=1, max_size=20)
cxs = st.builds("{}^^^&{}&ISO".format, values, oids)
days = st.dates().map(lambda day: f"{day:%Y%m%d}".rjust(8, "0"))
births = days | days.map(lambda day: day[:6]) | days.map(lambda day: day[:4])
domains = st.lists(oids, max_size=3, unique=True)


def placed(path: str, roots: list[str]) -> tuple[Domain, ...]:
    return tuple(Domain(root, f"{path}[{number}]/value" if len(roots) > 1 else f"{path}/value")
                 for number, root in enumerate(roots, 1))


@given(cxs, domains)
def test_an_identifier_query_that_is_written_is_read(identifier, roots):
    asked = IdentifierQuery(identifier, f"{PIX_LIST}/patientIdentifier/value", placed(f"{PIX_LIST}/dataSource", roots))
    assert read_identifier_query(body(write_identifier_query(asked, HEADER, QUERY_ID, AT))) == asked


@given(st.lists(st.builds(Name, printable, printable | st.just(""), st.booleans()), max_size=3),
       st.none() | births.map(lambda day: (day, day)) | st.tuples(births, births | st.just("")),
       st.sampled_from(["", "M", "F", "U"]), st.lists(cxs, max_size=3), domains,
       st.none() | st.integers(0, 999_999_999), st.integers(0, 100))
def test_a_person_query_that_is_written_is_read(names, birth, sex, identifiers, roots, most, minimum):
    asked = PersonQuery(tuple(names), birth, sex, tuple(identifiers),
                        placed(f"{LIST}/otherIDsScopingOrganization", roots), most, minimum)
    assert read_person_query(body(write_person_query(asked, HEADER, QUERY_ID, AT))) == asked


NAMED = '<livingSubjectName><value use="SRCH">'
BIRTH = '<value><low value="19580101"/><high value="1958"/></value>'


@pytest.mark.parametrize(("old", "new", "code"), [
    (f' xmlns="{V3}"', ' xmlns="urn:other"', "V-V3-MESSAGE"),
    ('<queryId root="1.2.3.8" extension="query-1"/>', "", "V-V3-QUERY"),
    ('<queryId root="1.2.3.8" extension="query-1"/>', '<queryId nullFlavor="NI"/>', "V-V3-QUERY"),
    ("<queryByParameter>", "<queryByParameter/><queryByParameter>", "V-V3-CONTENT"),
    ("<parameterList>", "<parameterList/><parameterList>", "V-V3-CONTENT"),
    ('root="1.2.250.1.213.1.4.10" extension', 'root="INS" extension', "V-FEED-AUTHORITY"),
    ('extension="299999999999945"', "", "V-FEED-IDENTIFIER"),
    (BIRTH, BIRTH + BIRTH, "V-V3-QUERY"),
    (BIRTH, "", "V-V3-QUERY"),
    (BIRTH, "<value/>", "V-V3-QUERY"),
    (BIRTH, '<value value="1958-05-17"/>', "V-V3-QUERY"),
    (BIRTH, f'{BIRTH}</livingSubjectBirthTime><livingSubjectBirthTime><value value="1958"/>', "V-V3-QUERY"),
    ('<value code="F"/>', '<value code="X"/>', "V-V3-QUERY"),
    ('<initialQuantity value="5"/>', '<initialQuantity value="-5"/>', "V-V3-QUERY"),
    ('<initialQuantity value="5"/>', '<initialQuantity value="٥"/>', "V-V3-QUERY"),
    ('<initialQuantity value="5"/>', f'<initialQuantity value="{"9" * 20}"/>', "V-V3-QUERY"),
    ('type="INT" value="70"', 'type="INT" value="70 %"', "V-V3-QUERY"),
    ('<value root="1.2.3.4"/>', '<value root="1.2.3.4" extension="1"/>', "V-V3-QUERY"),
    ('<value root="1.2.3.4"/>', '<value root="HOPITAL"/>', "V-V3-QUERY"),
    (NAMED, "<livingSubjectName><value/></livingSubjectName>" * MOST + NAMED, "V-V3-QUERY"),
])
def test_one_change_of_a_person_query_one_refusal(old, new, code):
    (finding,) = refused(read_person_query, changed(PDQ_TEXT, old, new))
    assert finding.code == code


@pytest.mark.parametrize(("old", "new", "code"), [
    (GET_IDENTIFIERS, "PRPA_IN201305UV02", "V-V3-MESSAGE"),
    ("patientIdentifier>", "personIdentifier>", "V-V3-QUERY"),
    ('<value root="1.2.250.1.213.1.4.10" extension="299999999999945"/>', '<value nullFlavor="UNK"/>', "V-V3-QUERY"),
    ('<value root="1.2.3.7"/>', '<value root="1..2"/>', "V-V3-QUERY"),
    ('<value root="1.2.3.7"/>', "", "V-V3-QUERY"),
    ("controlActProcess ", "controlAct ", "V-V3-CONTENT"),
])
def test_one_change_of_an_identifier_query_one_refusal(old, new, code):
    text = PIX_TEXT.replace(old, new)
    if old == "controlActProcess ":
        text = text.replace("</controlActProcess>", "</controlAct>")
    assert text != PIX_TEXT
    (finding,) = refused(read_identifier_query, body(text))
    assert finding.code == code


@pytest.mark.parametrize(("old", "new", "field", "expected"), [
    ('<value use="SRCH">', "<value>", "names", (Name("ESSAI", "CAM"),)),
    ('<value use="SRCH">', '<value use="L SRCH">', "names", (Name("ESSAI", "CAM", is_partial=True),)),
    ('<value use="SRCH">', '<value nullFlavor="UNK">', "names", ()),
    ("<family>ESSAI", '<family>USAGE</family><family qualifier="BR">ESSAI', "names",
     (Name("ESSAI", "CAM", is_partial=True),)),
    ("<family>ESSAI</family>", "", "names", (Name("", "CAM", is_partial=True),)),
    (BIRTH, '<value value="195805170930+0100"/>', "birth", ("19580517", "19580517")),
    (BIRTH, '<value><low value="1958"/></value>', "birth", ("1958", "")),
    (BIRTH, '<value nullFlavor="UNK"/>', "birth", None),
    ('<value code="F"/>', '<value code="UN"/>', "sex", "U"),
    ('<initialQuantity value="5"/>', "", "most", None),
    ('<value xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="INT" value="70"/>', "", "minimum", 0),
])
def test_what_a_parameter_says(old, new, field, expected):
    assert getattr(read_person_query(changed(PDQ_TEXT, old, new)), field) == expected


def test_what_nothing_is_kept_of_is_a_warning():
    extra = ("<mothersMaidenName><value><family>X</family></value></mothersMaidenName><patientAddress><value><city>Y"
             "</city></value></patientAddress>")
    told = read_person_query(changed(PDQ_TEXT, "</parameterList>", f"{extra}</parameterList>"))
    assert [(finding.code, finding.received) for finding in told.warnings] == [
        ("V-V3-QUERY-NOT-KEPT", "mothersMaidenName"), ("V-V3-QUERY-NOT-KEPT", "patientAddress")]
    assert replace(told, warnings=()) == PDQ


def test_a_place_names_the_repetition():
    """So that a consumer knows which of several domains is meant (§3.45.4.2.3, case 5)."""
    found = body(PIX_TEXT)
    for domain in PIX.domains:
        path = domain.path.replace("/", "/v:")
        assert value(found.getroottree(), f"{path}/@root") == [domain.root]


def test_floods_are_refused_in_time():
    began = time.perf_counter()
    domain = '<dataSource><value root="1.2.3"/></dataSource>' * 100_000
    flooded = body(PIX_TEXT.replace("<parameterList>", f"<parameterList>{domain}"))
    assert refused(read_identifier_query, flooded)[0].code == "V-V3-QUERY"
    assert copy_of(flooded).text == ""
    criteria = body(PDQ_TEXT.replace("<parameterList>", "<parameterList>" + "<livingSubjectHeight/>" * 100_000))
    assert len(read_person_query(criteria).warnings) == MOST
    assert time.perf_counter() - began < 6


elements = st.sampled_from(["parameterList", "value", "livingSubjectName", "queryByParameter", "queryId", "dataSource"])


@given(st.sampled_from([PIX_TEXT, PDQ_TEXT]), st.integers(0, 3000), st.text(max_size=20), elements)
def test_no_query_does_more_than_be_refused(text, at, inserted, name):
    for data in (text[:at] + inserted + text[at:], text[:at] + f"<{name}/>" + text[at:], text.replace(name, "x"),
                 f'<{name} xmlns="{V3}"><![CDATA[{inserted}]]></{name}>'):
        with suppress(Refused):
            told = parse(data.encode("utf-8", "replace"))
            answer = write_failure(CANDIDATES, read_header(told), copy_of(told), [], AT)
            assert read_answer(body(answer), CANDIDATES).response == "NF"
            for read in (read_identifier_query, read_person_query):
                with suppress(Refused):
                    read(told)


# --- answers -------------------------------------------------------------------------------------------------------

UNKNOWN = RULES["V-FEED-AUTHORITY"].at(Where("envelope", path="/a/b[2]/value"), received="x")
WRONG = RULES["V-V3-QUERY"].at(Where("envelope"), expected=1, received=0, path="queryId")
KEPT_OUT = RULES["V-V3-QUERY-NOT-KEPT"].at(Where("envelope"), received="patientAddress")


def test_an_answer_to_an_identifier_query():
    patient = Feed((LOCAL, "7^^^&1.2.3.7&ISO"), family="ESSAI", given="CAMILLE")
    told = body(write_identifiers(HEADER, copy_of(body(PIX_TEXT)), patient, [], AT))
    answer = read_answer(told, IDENTIFIERS)
    assert (answer.acknowledgement.type, answer.acknowledgement.target, answer.response) == ("AA", HEADER.id, "OK")
    assert [one.patient for one in answer.candidates] == [patient]
    assert answer.total == 1
    assert (read_header(told).sender, read_header(told).receiver) == (HEADER.receiver, HEADER.sender)
    assert value(told, "//v:queryAck/v:queryId/@extension") == ["query-1"]


def test_a_name_that_is_not_known_is_said_not_to_apply():
    """What IHE's validators take for an answer without a name (table 3.45.4.2.2-1)."""
    told = body(write_identifiers(HEADER, Copy(), Feed((LOCAL,)), [], AT))
    assert value(told, "//v:patientPerson/v:name/@nullFlavor") == ["NA"]


def test_nothing_found():
    answer = read_answer(body(write_identifiers(HEADER, Copy(QUERY_ID), None, [], AT)), IDENTIFIERS)
    assert (answer.acknowledgement.type, answer.response, answer.candidates) == ("AA", "NF", ())


def test_candidates_with_their_match_and_the_domains_without_any():
    known = [Candidate(Feed((INS, LOCAL), family="ESSAI", given="CAMILLE", birth_date="19580517", sex="F"), 80,
                       ("1.2.3.7",)), Candidate(Feed((LOCAL,), family="ESSAI"))]
    told = body(write_candidates(HEADER, copy_of(body(PDQ_TEXT)), known, 9, [KEPT_OUT], AT))
    answer = read_answer(told, CANDIDATES)
    assert [(replace(one.patient, others=(), warnings=()), one.match, one.missing) for one in answer.candidates] == [
        (one.patient, one.match, one.missing) for one in known]
    assert (answer.acknowledgement.type, answer.response, answer.total) == ("AA", "OK", 9)
    assert [detail.type for detail in answer.acknowledgement.details] == ["W"]
    for name, number in (("Total", "9"), ("Current", "2"), ("Remaining", "7")):
        assert value(told, f"//v:result{name}Quantity/@value") == [number]


@pytest.mark.parametrize(("findings", "response"), [([UNKNOWN], "AE"), ([WRONG], "QE"), ([KEPT_OUT, UNKNOWN], "AE")])
def test_a_failure_says_whether_the_query_itself_is_wrong(findings, response):
    answer = read_answer(body(write_failure(IDENTIFIERS, HEADER, Copy(), findings, None)), IDENTIFIERS)
    assert (answer.acknowledgement.type, answer.response) == ("AE", response)
    assert len(answer.acknowledgement.details) == len(findings)
    assert UNKNOWN not in findings or answer.acknowledgement.details[-1].locations == ("/a/b[2]/value",)


def test_a_code_of_hl7_is_told_where_there_is_one():
    rule = Catalogue("registry")["V-REG-SEARCH-IDENTIFIER"]
    told = body(write_identifiers(HEADER, Copy(), None, [rule.at(received="x"), UNKNOWN], AT))
    assert value(told, "//v:acknowledgementDetail/v:code/@code") == ["204", "V-FEED-AUTHORITY"]
    assert value(told, "//v:acknowledgementDetail/v:code/@codeSystem") == [CONDITIONS]
    assert "V-REG-SEARCH-IDENTIFIER" in value(told, "//v:acknowledgementDetail/v:text/text()")[0]


@pytest.mark.parametrize("text", [PIX_TEXT, PDQ_TEXT])
def test_the_answer_repeats_the_query_as_it_came(text):
    """The standard asks for an exact copy (table 3.45.4.2.2-2), comments and foreign elements included."""
    own = text.replace("<parameterList>", '<!-- à moi --><parameterList><x:y xmlns:x="urn:x">é &lt;</x:y>')
    answer = body(write_failure(CANDIDATES, HEADER, copy_of(body(own)), [], AT))
    before, after = (of.xpath("//v:queryByParameter", namespaces={"v": V3})[0] for of in (body(own), answer))

    def shape(element: Element) -> list[tuple[object, dict[str, str], str | None]]:
        return [(item.tag, dict(item.attrib), item.text) for item in element.iter()]

    assert shape(after) == shape(before)
    assert after.getparent().tag == f"{{{V3}}}controlActProcess"


@pytest.mark.parametrize("read", [read_identifier_query, read_person_query])
def test_an_answer_is_no_query(read):
    answer = body(write_failure(CANDIDATES, HEADER, Copy(), [], AT))
    assert [finding.code for finding in refused(read, answer)] == ["V-V3-MESSAGE"]
    assert [finding.code for finding in refused(lambda of: read_answer(of, IDENTIFIERS), answer)] == ["V-V3-MESSAGE"]


# --- the transactions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text", "answer"), [
    ("ITI-45", PIX_TEXT, IDENTIFIERS), ("ITI-47", PDQ_TEXT, CANDIDATES)])
def test_a_refused_transaction_is_answered_in_its_own_form(name, text, answer):
    row = transaction_of(TRANSACTIONS[name].action, body(text))
    assert (row.name, row.answer, row.response) == (name, f"{V3}:{answer}", f"{{{V3}}}{answer}")
    told = read_answer(body(failure(row, [UNKNOWN], body(text), AT).body), answer)
    assert (told.acknowledgement.type, told.acknowledgement.target, told.response) == ("AE", HEADER.id, "AE")
    assert failure(row, [UNKNOWN], None, AT).body.startswith(f"<{answer} ")


def test_a_notification_is_read_as_a_revision():
    """Both have one action; what comes in is a feed (ITI TF-2 §3.46.4.1, §3.44.4.1)."""
    action = TRANSACTIONS["ITI-46"].action
    assert transaction_of(action, body(f'<PRPA_IN201302UV02 xmlns="{V3}"/>')).name == "ITI-44"
    assert TRANSACTIONS["ITI-46"].answer == TRANSACTIONS["ITI-44"].answer
