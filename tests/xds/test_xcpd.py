"""Patient discovery between communities: questions read, one change is one finding, answers that say who and where."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds import xcpd
from xds.answers import failure
from xds.findings import Catalogue, Finding, Refused, Where
from xds.hl7v3 import INTERACTIONS, V3
from xds.messages import TRANSACTIONS, transaction_of
from xds.xcpd import Match, Name, Sought, read_query
from xds.xml import Element, parse

AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
HOME = "urn:oid:1.2.3.4.5.8"
OID, VALUE = "1.2.250.1.213.1.4.10", "299999999999945"
INS = f"{VALUE}^^^&{OID}&ISO"
GENDER = '<livingSubjectAdministrativeGender><value code="F"/></livingSubjectAdministrativeGender>'
BIRTH = '<livingSubjectBirthTime><value value="19580517"/></livingSubjectBirthTime>'
IDENTITY = f'<livingSubjectId><value root="{OID}" extension="{VALUE}"/></livingSubjectId>'
NAME = "<livingSubjectName><value><given>CAMILLE</given><family>ESSAI</family></value></livingSubjectName>"
RULE = Catalogue("xds")["V-XCPD-CONTENT"]
PATH = "{" + V3 + "}"


def query(*parameters: str) -> str:
    """A PRPA_IN201305UV02 as a gateway sends it."""
    return (f'<PRPA_IN201305UV02 xmlns="{V3}" ITSVersion="XML_1.0"><id root="1.2.3.9" extension="question-1"/>'
            f'<creationTime value="20260301083000"/><interactionId root="{INTERACTIONS}" '
            'extension="PRPA_IN201305UV02"/><processingCode code="T"/><processingModeCode code="T"/>'
            '<acceptAckCode code="AL"/><receiver typeCode="RCV"><device classCode="DEV" determinerCode="INSTANCE">'
            '<id root="1.2.3.6"/></device></receiver><sender typeCode="SND"><device classCode="DEV" '
            'determinerCode="INSTANCE"><id root="1.2.3.5"/></device></sender><controlActProcess classCode="CACT" '
            f'moodCode="EVN"><code code="PRPA_TE201305UV02" codeSystem="{INTERACTIONS}"/><queryByParameter>'
            '<queryId root="1.2.3.9" extension="query-1"/><statusCode code="new"/><responsePriorityCode code="I"/>'
            f'<parameterList>{"".join(parameters)}</parameterList></queryByParameter></controlActProcess>'
            "</PRPA_IN201305UV02>")


def element(*parameters: str) -> Element:
    return parse(query(*parameters).encode())


def of(answer: str, path: str) -> list[Element]:
    """Elements of an answer by a path of local names."""
    return parse(answer.encode()).findall("/".join(PATH + name for name in path.split("/")))


def refused(text: str) -> list[Finding]:
    with pytest.raises(Refused) as caught:
        read_query(parse(text.encode()))
    return list(caught.value.findings)


# --- reading -------------------------------------------------------------------------------------------------------


def test_a_query_is_read():
    asked = element(GENDER, BIRTH, IDENTITY, NAME)
    assert read_query(asked) == Sought((INS,), (Name("ESSAI", "CAMILLE"),), "19580517", "F")
    action = f"{V3}:PRPA_IN201305UV02:CrossGatewayPatientDiscovery"
    assert transaction_of(action, asked, ("ITI-55",)) is TRANSACTIONS["ITI-55"]


def test_several_values_are_alternatives():
    second = NAME.replace("ESSAI", "AUTRE").replace("CAMILLE", "")
    asked = element(BIRTH.replace("0517", "0517083000"), NAME, second, IDENTITY, IDENTITY.replace(OID, "1.2.3"))
    assert read_query(asked) == Sought((INS, f"{VALUE}^^^&1.2.3&ISO"), (Name("ESSAI", "CAMILLE"), Name("AUTRE")),
                                       "19580517")


def test_what_says_that_it_is_nothing_is_nothing():
    none = "<livingSubjectId><value nullFlavor=\"NI\"/></livingSubjectId>"
    assert read_query(element(none, IDENTITY.replace(OID, "no-oid"), BIRTH, NAME, GENDER.replace('"F"', '"UN"'))) == (
        Sought((), (Name("ESSAI", "CAMILLE"),), "19580517"))


@pytest.mark.parametrize("parameters", [(), (NAME,), (BIRTH,), (GENDER,), (IDENTITY.replace(OID, "?"),),
                                        (BIRTH, NAME.replace("ESSAI", ""))])
def test_too_little_to_find_anybody(parameters):
    (finding,) = refused(query(*parameters))
    assert (finding.rule, finding.values["path"]) == (RULE, "parameterList")


@pytest.mark.parametrize(("old", "new", "path"), [
    ('<id root="1.2.3.9" extension="question-1"/>', "", "id"),
    ("controlActProcess", "controlAct", "controlActProcess"),
    ("queryByParameter>", "query>", "queryByParameter"),
    ("parameterList>", "parameters>", "parameterList"),
    ("19580517", "17.05.1958", "livingSubjectBirthTime/value/@value"),
])
def test_one_change_is_one_finding(old, new, path):
    text = query(NAME, BIRTH)
    assert old in text
    (finding,) = refused(text.replace(old, new))
    assert (finding.rule, finding.values["path"]) == (RULE, path)


def test_floods_are_passed_over_in_time():
    began = time.perf_counter()
    assert len(read_query(element(*[IDENTITY] * 50_000, NAME, BIRTH)).identifiers) == 20
    assert time.perf_counter() - began < 10


# --- writing -------------------------------------------------------------------------------------------------------


def test_a_match_says_who_and_where():
    answer = xcpd.write_answer(element(NAME, BIRTH), [Match(INS, Name("ESSAI", "CAMILLE"), "19580517", "F")], HOME, AT)
    event = "controlActProcess/subject/registrationEvent"
    (identity,) = of(answer, f"{event}/subject1/patient/id")
    assert (identity.get("root"), identity.get("extension")) == (OID, VALUE)
    (home,) = of(answer, f"{event}/custodian/assignedEntity/id")
    assert home.get("root") == HOME.removeprefix("urn:oid:")
    person = f"{event}/subject1/patient/patientPerson"
    assert [of(answer, f"{person}/name/{part}")[0].text for part in ("family", "given")] == ["ESSAI", "CAMILLE"]
    assert of(answer, f"{person}/birthTime")[0].get("value") == "19580517"
    assert code_of(answer) == ("AA", "OK")


def test_an_answer_belongs_to_its_question():
    answer = xcpd.write_answer(element(NAME, BIRTH), [], HOME, AT)
    assert code_of(answer) == ("AA", "NF")
    assert of(answer, "controlActProcess/subject") == []
    assert of(answer, "acknowledgement/targetMessage/id")[0].get("extension") == "question-1"
    assert of(answer, "controlActProcess/queryAck/queryId")[0].get("extension") == "query-1"
    assert of(answer, "sender/device/id")[0].get("root") == "1.2.3.6"
    assert len(of(answer, "controlActProcess/queryByParameter/parameterList/livingSubjectName")) == 1


def code_of(answer: str) -> tuple[str, str]:
    """Of the acknowledgement and of the query."""
    return (of(answer, "acknowledgement/typeCode")[0].get("code", ""),
            of(answer, "controlActProcess/queryAck/queryResponseCode")[0].get("code", ""))


@pytest.mark.parametrize("asked", [None, element(NAME), parse(f'<PRPA_IN201305UV02 xmlns="{V3}"/>'.encode())])
def test_a_refusal_is_an_answer_too(asked):
    answer = failure(TRANSACTIONS["ITI-55"], [RULE.at(Where(path="x<y"), expected="1", received="0")], asked, AT).body
    assert code_of(answer) == ("AE", "AE")
    (code,) = of(answer, "acknowledgement/acknowledgementDetail/code")
    assert code.get("code") == RULE.code


texts = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=20)


@given(texts, texts, st.sampled_from(["", "M", "F", "U", "?"]))
def test_any_name_is_written(family, given_name, sex):
    answer = xcpd.write_answer(element(NAME), [Match(INS, Name(family, given_name), "1958", sex)], HOME, AT)
    assert code_of(answer) == ("AA", "OK")
