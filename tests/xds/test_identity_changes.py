"""Merges and link changes as messages: A40 and A43 in HL7 v2, duplicates resolved in v3; one change, one finding."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds import hl7v2, hl7v3
from xds.feed import MOST_IDS, Feed, LinkChange, Merge
from xds.findings import Catalogue, Finding, Refused, Severity
from xds.hl7v2 import read_feed, read_header, write_ack
from xds.hl7v3 import ADD, II, MERGE, V3, Header
from xds.messages import TRANSACTIONS, transaction_of
from xds.xml import Element, parse

RULES = Catalogue("xds")
AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
NEW, OLD = "299999999999945^^^&1.2.250.1.213.1.4.10&ISO", "199999999999995^^^&1.2.250.1.213.1.4.10&ISO"
LOCAL, SUBSUMED = "P-42^^^&1.2.3.4&ISO", "P-41^^^&1.2.3.4&ISO"
A40 = (f"MSH|^~\\&|SOURCE|ETAB|VOLET|REGISTRE|20260301083000||ADT^A40^ADT_A39|M-1|T|2.3.1\rEVN|A40|20260301083000\r"
       f"PID|||{NEW}||ESSAI^CAMILLE\rMRG|{OLD}\rPV1||O\r")
A43 = (f"MSH|^~\\&|GESTION^1.2.3.77^ISO|ETAB|VOLET|REGISTRE|20260301083000||ADT^A43^ADT_A43|M-2|T|2.5\r"
       f"EVN||20260301083000\rPID|||{NEW}~{LOCAL}||ESSAI^CAMILLE\rMRG|{OLD}~{SUBSUMED}\r")
HEADER = Header(MERGE, II("1.2.3.9", "message-1"), II("1.2.3.5"), II("1.2.3.6"), "T")
V3_MERGE = hl7v3.write_merge(Feed((NEW,), (), "ESSAI", "CAMILLE", "19580517", "F"), OLD, HEADER, AT)


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def codes(read: object, of: object) -> list[str]:
    assert callable(read)
    with pytest.raises(Refused) as caught:
        read(of)
    return [finding.code for finding in caught.value.findings]


# --- HL7 v2 --------------------------------------------------------------------------------------------------------


def test_messages_are_read():
    assert hl7v2.read_merge(A40.encode()) == Merge((NEW,), (OLD,))
    assert hl7v2.read_link_change(A43.encode()) == LinkChange(NEW, OLD, LOCAL, SUBSUMED, "1.2.3.77")
    moved = A43.replace(f"~{SUBSUMED}", "").replace("GESTION^1.2.3.77^ISO", "GESTION")
    assert hl7v2.read_link_change(moved.encode()) == LinkChange(NEW, OLD, LOCAL)
    same = A43.replace(SUBSUMED, LOCAL)  # nothing was merged into it
    assert hl7v2.read_link_change(same.encode()) == LinkChange(NEW, OLD, LOCAL, "", "1.2.3.77")
    alone = A43.replace("GESTION^1.2.3.77^ISO", "1.2.3.78")
    assert hl7v2.read_link_change(alone.encode()).sender == "1.2.3.78"


def test_each_event_has_its_own_reader():
    readers = {"A01": read_feed, "A40": hl7v2.read_merge, "A43": hl7v2.read_link_change}
    for event, text in (("A40", A40), ("A43", A43), ("A01", A40.replace("A40", "A01"))):
        for name, read in readers.items():
            if name == event:
                read(text.encode())
            else:
                assert codes(read, text.encode()) == ["V-V2-EVENT"]
    assert {"A40", "A43", *hl7v2.EVENTS} == set(hl7v2.SERVED)


@pytest.mark.parametrize(("old", "new", "code"), [
    (f"MRG|{OLD}\r", "", "V-V2-SEGMENT"), ("PV1||O", f"MRG|{OLD}", "V-V2-SEGMENT"),
    ("PV1||O", "PID|||7^^^&1.2&ISO", "V-V2-SEGMENT"), (f"MRG|{OLD}", "MRG|", "V-FEED-IDENTIFIER-ABSENT"),
    (f"MRG|{OLD}", "MRG", "V-V2-SEGMENT"), (f"MRG|{OLD}", "MRG|7^^^HOPITAL", "V-FEED-AUTHORITY"),
    (f"PID|||{NEW}", 'PID|||""', "V-FEED-IDENTIFIER-ABSENT"),
    (f"PID|||{NEW}", "PID|||^^^&1.2&ISO", "V-FEED-IDENTIFIER"),
    (f"MRG|{OLD}", f"MRG|{'7^^^&1.2&ISO~' * MOST_IDS}{OLD}", "V-V2-SEGMENT"), ("M-1", "", "V-V2-FIELD"),
    ("ADT^A40", "ORM^A40", "V-V2-EVENT"), (f"MRG|{OLD}", "MRG|7\\Q\\^^^&1.2&ISO", "V-V2-ESCAPE"),
])
def test_one_change_of_a_merge_one_refusal(old, new, code):
    assert codes(hl7v2.read_merge, changed(A40, old, new).encode()) == [code]


def test_an_identifier_that_cannot_be_used_does_not_spoil_a_merge():
    told = hl7v2.read_merge(changed(A40, f"MRG|{OLD}", f"MRG|7^^^HOPITAL~{OLD}").encode())
    assert (told.subsumed, [(one.code, one.severity) for one in told.warnings]) == (
        (OLD,), [("V-FEED-AUTHORITY", Severity.WARNING)])


@pytest.mark.parametrize(("old", "new", "code"), [
    (f"~{LOCAL}", "", "V-V2-SEGMENT"), (f"~{LOCAL}", f"~{LOCAL}~8^^^&1.2&ISO", "V-V2-SEGMENT"),
    (f"MRG|{OLD}~{SUBSUMED}", "MRG|", "V-V2-SEGMENT"), (f"~{SUBSUMED}", f"~{SUBSUMED}~8^^^&1.2&ISO", "V-V2-SEGMENT"),
    (f"~{LOCAL}", "~P-42^^^HOPITAL", "V-FEED-AUTHORITY"), (f"~{SUBSUMED}", "~^^^&1.2&ISO", "V-FEED-IDENTIFIER"),
    (f"MRG|{OLD}~{SUBSUMED}\r", "", "V-V2-SEGMENT"),
])
def test_one_change_of_a_link_change_one_refusal(old, new, code):
    """By their order the identifiers are told apart, so that one that cannot be used spoils all."""
    assert codes(hl7v2.read_link_change, changed(A43, old, new).encode()) == [code]


@given(st.sampled_from([A40, A43]), st.integers(0, len(A43)), st.binary(max_size=20))
def test_no_bytes_do_more_than_be_refused(text, at, inserted):
    for data in (text.encode()[:at] + inserted + text.encode()[at:], text.encode()[:at] + inserted):
        for read in (hl7v2.read_merge, hl7v2.read_link_change):
            with suppress(Refused):
                read(data)


@pytest.mark.parametrize(("rule", "condition"), [
    ("V-REG-PATIENT-UNKNOWN", "204^Unknown key identifier"), ("V-REG-MERGE-SAME", "205^Duplicate key identifier"),
    ("V-REG-IDENTITY-RETIRED", "204^Unknown key identifier")])
def test_an_answer_has_the_condition_of_hl7(rule, condition):
    finding: Finding = Catalogue("registry")[rule].at(received=OLD)
    for text in (A40, A43):
        version = read_header(text.encode()).version
        answer = write_ack(read_header(text.encode()), [finding], AT, "A-1").decode()
        assert hl7.parse(answer).segment("MSA")[1][0] == "AE"
        assert (f"|{condition}^HL70357|E|" if version == "2.5" else f"{condition.partition('^')[0]}&") in answer


# --- HL7 v3 --------------------------------------------------------------------------------------------------------


def body(text: str) -> Element:
    return parse(text.encode())


def test_a_duplicate_that_is_resolved_is_read():
    assert hl7v3.read_merge(body(V3_MERGE)) == Merge((NEW,), (OLD,))
    assert hl7v3.read_header(body(V3_MERGE)) == HEADER
    assert transaction_of(f"{V3}:{MERGE}", body(V3_MERGE)) is TRANSACTIONS["ITI-44"]


values = st.text("0123456789ABCé-", min_size=1, max_size=20)
oids = st.lists(st.integers(0, 10**6), min_size=1, max_size=6).map(lambda arcs: ".".join(map(str, [1, *arcs])))
cxs = st.builds("{}^^^&{}&ISO".format, values, oids)


@given(st.lists(cxs, min_size=1, max_size=3, unique=True), cxs)
def test_what_is_written_is_read(survivors, subsumed):
    text = hl7v3.write_merge(Feed(tuple(survivors), family="ESSAI"), subsumed, replace(HEADER, interaction=ADD), AT)
    assert hl7v3.read_merge(body(text)) == Merge(tuple(survivors), (subsumed,))


@pytest.mark.parametrize("name", ["replacementOf", "priorRegistration", "priorRegisteredRole", "registrationEvent",
                                  "patient", "controlActProcess"])
def test_what_is_missing_on_the_way_has_a_name(name):
    text = V3_MERGE.replace(f"<{name} ", f"<x{name} ").replace(f"</{name}>", f"</x{name}>")
    with pytest.raises(Refused) as caught:
        hl7v3.read_merge(body(text))
    (finding,) = caught.value.findings
    assert (finding.code, finding.values["path"]) == ("V-V3-CONTENT", name)


@pytest.mark.parametrize(("old", "new", "code"), [
    (f' xmlns="{V3}"', ' xmlns="urn:other"', "V-V3-MESSAGE"), ('extension="199999999999995"', "", "V-FEED-IDENTIFIER"),
    ('<id root="1.2.250.1.213.1.4.10" extension="199999999999995"/>', '<id nullFlavor="NI"/>',
     "V-FEED-IDENTIFIER-ABSENT"),
    ('<id root="1.2.250.1.213.1.4.10" extension="199999999999995"/>', "", "V-FEED-IDENTIFIER-ABSENT"),
    ('root="1.2.250.1.213.1.4.10" extension="299999999999945"', 'root="INS" extension="1"', "V-FEED-AUTHORITY"),
    ('<id root="1.2.3.9" extension="message-1"/>', "", "V-V3-CONTENT"),
    ("</replacementOf>", "</replacementOf><replacementOf/>", "V-V3-CONTENT"),
])
def test_one_change_one_refusal(old, new, code):
    assert codes(hl7v3.read_merge, body(changed(V3_MERGE, old, new))) == [code]


def test_a_feed_is_no_merge():
    text = hl7v3.write_feed(Feed((NEW,)), replace(HEADER, interaction=ADD), AT)
    assert codes(hl7v3.read_merge, body(text)) == ["V-V3-MESSAGE"]


def test_another_interaction_is_a_warning():
    told = hl7v3.read_merge(body(changed(V3_MERGE, f'extension="{MERGE}"', f'extension="{ADD}"')))
    assert [one.code for one in told.warnings] == ["V-V3-INTERACTION"]


elements = st.sampled_from(["id", "replacementOf", "priorRegistration", "subject1", "priorRegisteredRole", "patient"])


@given(st.integers(0, len(V3_MERGE)), st.text(max_size=20), elements)
def test_no_message_does_more_than_be_refused(at, text, name):
    for data in (V3_MERGE[:at] + text + V3_MERGE[at:], V3_MERGE[:at] + f"<{name}/>" + V3_MERGE[at:],
                 V3_MERGE.replace(name, "x")):
        with suppress(Refused):
            hl7v3.read_merge(parse(data.encode("utf-8", "replace")))
