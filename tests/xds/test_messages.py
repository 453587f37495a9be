"""Bodies of the transactions: what is written is read, what is against the schemas is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xds.samples import references, registry_objects, some, texts, value_lists, values
from xds import messages, mtom, soap
from xds.findings import Catalogue, Refused, Severity, Where
from xds.messages import (
    TRANSACTIONS,
    AdhocQuery,
    DocumentRequest,
    DocumentResponse,
    DocumentSource,
    RegistryError,
    registry_error,
    registry_errors,
)
from xds.rim import ObjectRef, RegistryObject, Slot
from xds.vocabulary import (
    FAILURE,
    LCM,
    PARTIAL_SUCCESS,
    QUERY,
    RIM,
    RS,
    SEVERITY_ERROR,
    SEVERITY_WARNING,
    SUCCESS,
    XDSB,
    XOP,
)
from xds.xml import Element, parse

RULES = Catalogue("xds")
XMLNS = (f'xmlns:lcm="{LCM}" xmlns:rim="{RIM}" xmlns:rs="{RS}" xmlns:query="{QUERY}" xmlns:xdsb="{XDSB}" '
         f'xmlns:xop="{XOP}" xmlns:rmd="{messages.RMD}"')


def element(text: str) -> Element:
    """A body, with all prefixes declared."""
    name = text[1:].split(">")[0].split(" ")[0].split("/")[0]
    return parse(text.replace(f"<{name}", f"<{name} {XMLNS}", 1).encode())


def code(reader, text: str) -> str:
    with pytest.raises(Refused) as caught:
        reader(element(text))
    assert caught.value.findings[0].where.part in {"envelope", ""}
    return caught.value.findings[0].code


objects = st.lists(registry_objects, max_size=2)
content_ids = some.filter(str.isprintable)
sources = st.builds(DocumentSource, st.just("include"), content_ids) | st.builds(
    DocumentSource, st.just("inline"), st.just(""), st.binary(max_size=100))
requests = st.lists(st.builds(DocumentRequest, values, some, some), min_size=1, max_size=3)
errors = st.lists(st.builds(RegistryError, texts, texts, st.sampled_from([SEVERITY_ERROR, SEVERITY_WARNING]), texts),
                  max_size=3)
statuses = st.sampled_from([SUCCESS, FAILURE, PARTIAL_SUCCESS])
responses = st.lists(st.builds(DocumentResponse, values, some, some, values, content_ids, values, values)
                     | st.builds(DocumentResponse, values, some, some, values, data=st.binary(max_size=50)), max_size=2)


# --- what is written is read -------------------------------------------------------------------------------------


@given(objects, references)
@settings(max_examples=40)
def test_submit_objects(things, refs):
    read = messages.read_submit_objects(parse(messages.write_submit_objects(things, refs).encode()))
    assert (read.objects, read.references, read.unknown) == (tuple(things), tuple(refs), ())


@given(objects, st.dictionaries(some, sources, max_size=3), references)
@settings(max_examples=40)
def test_provide(things, documents, refs):
    read = messages.read_provide(parse(messages.write_provide(things, documents, refs).encode()))
    assert (read.objects, read.references, read.unknown, read.documents) == (tuple(things), tuple(refs), (), documents)


@given(st.builds(AdhocQuery, texts, texts, st.sampled_from(["LeafClass", "ObjectRef"]),
                 st.lists(st.builds(Slot, some, value_lists), max_size=3).map(tuple)))
def test_query(query):
    assert messages.read_query(parse(messages.write_query(query).encode())) == query


@given(requests)
def test_retrieve_and_remove_documents(items):
    assert messages.read_retrieve(parse(messages.write_retrieve(items).encode())) == tuple(items)
    assert messages.read_remove_documents(parse(messages.write_remove_documents(items).encode())) == tuple(items)


@given(references)
def test_remove_objects(refs):
    assert messages.read_remove_objects(parse(messages.write_remove_objects(refs).encode())) == tuple(refs)


@given(statuses, errors)
def test_registry_response(status, found):
    read = messages.read_registry_response(parse(messages.write_registry_response(status, found).encode()))
    assert (read.status, read.errors) == (status, tuple(found))


@given(statuses, errors, objects)
@settings(max_examples=40)
def test_query_response(status, found, things):
    text = messages.write_query_response(status, found, map(messages.rim.write, things))
    body = parse(text.encode())
    read = messages.read_query_response(body)
    assert (read.status, read.errors, read.objects) == (status, tuple(found), tuple(things))
    # ITI TF-2 §3.18: errors first, the list of objects always
    names = [child.tag.rpartition("}")[2] for child in body]
    assert names == ["RegistryErrorList"] * bool(found) + ["RegistryObjectList"]


@given(statuses, errors, responses)
def test_retrieve_response(status, found, documents):
    read = messages.read_retrieve_response(parse(messages.write_retrieve_response(status, found, documents).encode()))
    assert (read.status, read.errors, read.documents) == (status, tuple(found), tuple(documents))


def test_order_of_a_document_response():
    document = DocumentResponse("h", "r", "u", "text/xml", "c", "nr", "nu")
    body = parse(messages.write_retrieve_response(SUCCESS, (), [document]).encode())
    assert [child.tag.rpartition("}")[2] for child in body] == ["RegistryResponse", "DocumentResponse"]
    assert [child.tag.rpartition("}")[2] for child in body[1]] == [
        "HomeCommunityId", "RepositoryUniqueId", "DocumentUniqueId", "NewRepositoryUniqueId", "NewDocumentUniqueId",
        "mimeType", "Document"]
    assert mtom.include_href(body[1][-1][0]) == "c"


def test_the_highest_severity():
    warning, error = RegistryError("a", "b", SEVERITY_WARNING), RegistryError("a", "b")
    for found, highest in (([warning], SEVERITY_WARNING), ([warning, error], SEVERITY_ERROR)):
        body = parse(messages.write_registry_response(SUCCESS, found).encode())
        assert body[0].get("highestSeverity") == highest


def test_a_whole_message_there_and_back():
    thing, pdf = RegistryObject("ExtrinsicObject", "d1"), bytes(range(256))
    body_xml = messages.write_provide([thing], {"d1": DocumentSource("include", "pdf@essai")})
    row = TRANSACTIONS["ITI-41"]
    root = soap.write_request(body_xml, row.action, "https://essai.example/repository", soap.new_message_id())
    content_type, pieces, _ = mtom.write_related(root, [("pdf@essai", pdf, len(pdf))], row.action)
    parts = soap.read_message(content_type, b"".join(pieces))
    envelope = soap.read_envelope(parts.root, content_action=parts.action, charset=parts.charset)
    assert messages.transaction_of(envelope.action, envelope.body) == row
    request = messages.read_provide(envelope.body)
    assert messages.attach(request.documents, parts.attachments) == {"d1": pdf}
    assert (request.objects, parts.warnings, envelope.warnings) == ((thing,), (), ())


# --- what is refused ---------------------------------------------------------------------------------------------

SUBMIT = "<lcm:SubmitObjectsRequest><rim:RegistryObjectList/></lcm:SubmitObjectsRequest>"


def provide(*documents: str) -> str:
    return (f"<xdsb:ProvideAndRegisterDocumentSetRequest>{SUBMIT}{''.join(documents)}"
            "</xdsb:ProvideAndRegisterDocumentSetRequest>")


def retrieve(item: str, name: str = "xdsb:RetrieveDocumentSetRequest") -> str:
    return f"<{name}>{item}</{name}>"


ITEM = ("<xdsb:DocumentRequest><xdsb:RepositoryUniqueId>1.2</xdsb:RepositoryUniqueId>"
        "<xdsb:DocumentUniqueId>1.3</xdsb:DocumentUniqueId></xdsb:DocumentRequest>")


LEAF = '<query:ResponseOption returnType="LeafClass"/>'


def query(option: str = LEAF, adhoc: str = '<rim:AdhocQuery id="q"/>') -> str:
    return f"<query:AdhocQueryRequest>{option}{adhoc}</query:AdhocQueryRequest>"


@pytest.mark.parametrize(("reader", "text", "expected"), [
    (messages.read_submit_objects, "<lcm:RemoveObjectsRequest/>", "V-SOAP-MESSAGE"),
    (messages.read_submit_objects, "<SubmitObjectsRequest/>", "V-SOAP-MESSAGE"),
    (messages.read_submit_objects, "<lcm:SubmitObjectsRequest/>", "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_submit_objects, SUBMIT.replace("List/>", "List/><rim:RegistryObjectList/>"),
     "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_provide, SUBMIT, "V-SOAP-MESSAGE"),
    (messages.read_provide, provide(SUBMIT), "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_provide, provide("<xdsb:Document/>"), "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_provide, provide('<xdsb:Document id=""/>'), "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_provide, provide('<xdsb:Document id="a"/>' * 2), "V-SOAP-DOCUMENT-TWICE"),
    (messages.read_provide, provide('<xdsb:Document id="a"><b/></xdsb:Document>'), "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_provide, provide('<xdsb:Document id="a">Zm9vYg=</xdsb:Document>'), "V-SOAP-BASE64"),
    (messages.read_provide, provide('<xdsb:Document id="a">Zm9v*</xdsb:Document>'), "V-SOAP-BASE64"),
    (messages.read_provide, provide('<xdsb:Document id="a">Zm9vé</xdsb:Document>'), "V-SOAP-BASE64"),
    (messages.read_provide, provide('<xdsb:Document id="a">Zg==Zg==</xdsb:Document>'), "V-SOAP-BASE64"),
    (messages.read_provide, provide('<xdsb:Document id="a"><xop:Include href="http://x"/></xdsb:Document>'),
     "V-MTOM-INCLUDE"),
    (messages.read_provide, provide('<xdsb:Document id="a">Zg==<xop:Include href="cid:x"/></xdsb:Document>'),
     "V-MTOM-INCLUDE"),
    (messages.read_retrieve, SUBMIT, "V-SOAP-MESSAGE"),
    (messages.read_retrieve, retrieve(""), "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_retrieve, retrieve(ITEM.replace("1.2", " ")), "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_retrieve, retrieve(ITEM.replace("DocumentUniqueId", "Id")), "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_retrieve, retrieve(ITEM.replace(
        "</xdsb:DocumentR", "<xdsb:DocumentUniqueId>2</xdsb:DocumentUniqueId></xdsb:DocumentR")),
     "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_remove_documents, retrieve(ITEM), "V-SOAP-MESSAGE"),
    (messages.read_remove_objects, SUBMIT, "V-SOAP-MESSAGE"),
    (messages.read_remove_objects, "<lcm:RemoveObjectsRequest/>", "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_query, SUBMIT, "V-SOAP-MESSAGE"),
    (messages.read_query, query(adhoc=""), "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_query, query(adhoc="<rim:AdhocQuery/>" * 2), "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_query, query(option=""), "V-SOAP-RETURN-TYPE"),
    (messages.read_query, query(option="<query:ResponseOption/>"), "V-SOAP-RETURN-TYPE"),
    (messages.read_query, query(option='<query:ResponseOption returnType="RegistryObject"/>'), "V-SOAP-RETURN-TYPE"),
    (messages.read_query, query(option=LEAF * 2), "V-SOAP-RETURN-TYPE"),
    (messages.read_registry_response, SUBMIT, "V-SOAP-MESSAGE"),
    (messages.read_query_response, "<query:AdhocQueryResponse/>", "V-SOAP-MESSAGE-CONTENT"),
    (messages.read_retrieve_response, "<xdsb:RetrieveDocumentSetResponse/>", "V-SOAP-MESSAGE-CONTENT"),
])
def test_what_is_against_the_schemas(reader, text, expected):
    assert code(reader, text) == expected


@pytest.mark.parametrize(("content", "data"), [
    ("", b""), ("Zm9v", b"foo"), ("\n  Zm\r\n9v \t", b"foo"), ("<!-- no -->Zm9v", b"foo"), ("Zg==", b"f"),
])
def test_inline_documents(content, data):
    read = messages.read_provide(element(provide(f'<xdsb:Document id="a">{content}</xdsb:Document>')))
    assert read.documents == {"a": DocumentSource("inline", data=data)}


def test_both_namespaces_of_rmd_are_read():
    for item in (ITEM, ITEM.replace("xdsb:", "rmd:")):
        body = element(retrieve(item, "rmd:RemoveDocumentsRequest"))
        assert messages.read_remove_documents(body) == (DocumentRequest("", "1.2", "1.3"),)


def test_slots_and_home_of_a_query():
    read = messages.read_query(element(query(adhoc=(
        '<rim:AdhocQuery id="urn:uuid:q" home="urn:oid:1.2"><rim:Name/><rim:Slot name="$a"><rim:ValueList>'
        "<rim:Value>('b')</rim:Value></rim:ValueList></rim:Slot></rim:AdhocQuery>"))))
    assert read == AdhocQuery("urn:uuid:q", "urn:oid:1.2", "LeafClass", (Slot("$a", ("('b')",)),))
    assert read.line == 1


TAGS = [f"{prefix}:{name}" for prefix, names in {
    "lcm": "SubmitObjectsRequest RemoveObjectsRequest",
    "rim": "RegistryObjectList ObjectRefList ExtrinsicObject Classification ExternalIdentifier AdhocQuery "
           "Slot ValueList Value",
    "query": "AdhocQueryRequest AdhocQueryResponse ResponseOption",
    "rs": "RegistryResponse RegistryErrorList RegistryError",
    "xdsb": "ProvideAndRegisterDocumentSetRequest Document RetrieveDocumentSetRequest DocumentRequest DocumentResponse "
            "RetrieveDocumentSetResponse RepositoryUniqueId",
    "xop": "Include", "rmd": "RemoveDocumentsRequest",
}.items() for name in names.split()]
trees = st.recursive(st.just(""), lambda inner: st.builds(
    lambda tag, children: f"<{tag} id='a'>{''.join(children)}</{tag}>", st.sampled_from(TAGS),
    st.lists(inner, max_size=3)), max_leaves=12)
READERS = [getattr(messages, name) for name in dir(messages) if name.startswith("read_")]


@given(st.sampled_from(TAGS), trees)
@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=40)
def test_no_element_does_more_than_be_refused(reader, root, inner):
    with suppress(Refused):
        reader(element(f"<{root} >{inner}</{root}>"))


# --- parts -------------------------------------------------------------------------------------------------------

ONE = {"d1": DocumentSource("include", "a"), "d2": DocumentSource("inline", data=b"2")}


def test_documents_meet_their_parts():
    kept = object()
    assert messages.attach(ONE, {"a": kept}) == {"d1": kept, "d2": b"2"}


@pytest.mark.parametrize(("documents", "parts", "codes"), [
    (ONE, {}, ["V-MTOM-PART-ABSENT"]),
    (ONE, {"a": b"", "b": b""}, ["V-MTOM-PART-UNUSED"]),
    (ONE, {"A": b""}, ["V-MTOM-PART-ABSENT", "V-MTOM-PART-UNUSED"]),
    (ONE | {"d3": DocumentSource("include", "a")}, {"a": b""}, ["V-MTOM-PART-TWICE"]),
    ({}, {"../../etc/x": b""}, ["V-MTOM-PART-UNUSED"]),
])
def test_documents_and_parts_that_do_not_meet(documents, parts, codes):
    with pytest.raises(Refused) as caught:
        messages.attach(documents, parts)
    assert [finding.code for finding in caught.value.findings] == codes


# --- transactions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "action", "mtom_"), [
    ("ITI-18", "urn:ihe:iti:2007:RegistryStoredQuery", False),
    ("ITI-41", "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b", True),
    ("ITI-42", "urn:ihe:iti:2007:RegisterDocumentSet-b", False),
    ("ITI-43", "urn:ihe:iti:2007:RetrieveDocumentSet", True),
    ("ITI-51", "urn:ihe:iti:2009:MultiPatientStoredQuery", False),
    ("ITI-57", "urn:ihe:iti:2010:UpdateDocumentSet", False),
    ("ITI-61", "urn:ihe:iti:2010:RegisterOnDemandDocumentEntry", False),
    ("ITI-62", "urn:ihe:iti:2010:DeleteDocumentSet", False),
    ("ITI-86", "urn:ihe:iti:2017:RemoveDocuments", False),
    ("ITI-92", "urn:ihe:iti:2018:RestrictedUpdateDocumentSet", False),
])
def test_actions(name, action, mtom_):
    row = TRANSACTIONS[name]
    assert (row.action, row.mtom) == (action, mtom_)
    assert name == "ITI-61" or row.answer == action + "Response"
    namespace, _, name = row.body[1:].partition("}")
    assert messages.transaction_of(action, parse(f'<a:{name} xmlns:a="{namespace}"/>'.encode())) is row


def test_the_answer_that_is_not_the_request_and_response():
    row = TRANSACTIONS["ITI-61"]
    assert row.answer == "urn:ihe:iti:2010:RegisterOnDemandDocumentResponse"
    assert row.other_answers == (row.action + "Response",)


def test_actions_not_offered_and_bodies_of_others():
    for action, offered in (("urn:other", TRANSACTIONS), (TRANSACTIONS["ITI-42"].action, {"ITI-18"})):
        with pytest.raises(Refused) as caught:
            messages.transaction_of(action, element(SUBMIT), offered)
        assert caught.value.findings[0].rule.fault == "wsa:ActionNotSupported"
        assert TRANSACTIONS["ITI-18"].action in caught.value.findings[0].expected
    with pytest.raises(Refused) as caught:
        messages.transaction_of(TRANSACTIONS["ITI-18"].action, element(SUBMIT))
    assert caught.value.findings[0].code == "V-SOAP-MESSAGE"


# --- findings ----------------------------------------------------------------------------------------------------


def test_a_finding_as_an_error():
    finding = RULES["V-SOAP-RETURN-TYPE"].at(Where("envelope", 7, 2, "/a/b"), expected="LeafClass", received="<x>")
    error = registry_error(finding)
    assert (error.code, error.severity, error.location) == ("XDSRegistryError", SEVERITY_ERROR, "/a/b")
    assert error.context.startswith("Attribut returnType « <x> » ; attendu LeafClass.")
    assert '— Attribute returnType "<x>"; expected LeafClass.' in error.context
    assert error.context.endswith("[V-SOAP-RETURN-TYPE, envelope, line 7, expected LeafClass, received <x>, "
                                  "ITI TF-2 §3.18.4.1.2.2]")


def test_codes_and_severities_of_errors():
    rule = RULES["V-SOAP-BODY"]
    assert registry_error(rule.at()).code == "XDSRegistryError"
    assert registry_error(messages.Finding(rule, xds_override="XDSTooManyResults")).code == "XDSTooManyResults"
    lowered = messages.Finding(rule, severity_override=Severity.WARNING)
    assert registry_error(lowered).severity == SEVERITY_WARNING
    told = messages.Finding(rule, severity_override=Severity.INFO)
    severities = [error.severity for error in registry_errors([told, lowered, rule.at()])]
    assert severities == [SEVERITY_WARNING, SEVERITY_ERROR]


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_was_received_an_error_is_xml(received, place):
    finding = RULES["V-XML-NOT-WELL-FORMED"].at(Where(place, path=place), received=received, expected=received)
    text = messages.write_registry_response(FAILURE, [registry_error(finding)])
    assert len(messages.read_registry_response(parse(text.encode())).errors) == 1


def test_references_come_with_their_home():
    text = messages.write_query_response(SUCCESS, (), [messages.rim.write_refs([ObjectRef("a", "urn:oid:1.2")])])
    assert messages.read_query_response(parse(text.encode())).references == (ObjectRef("a", "urn:oid:1.2"),)


