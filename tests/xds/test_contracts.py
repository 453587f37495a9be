"""Served WSDLs and schemas, tried by others: zeep makes clients of them, libxml2 validates by them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
import zeep
from lxml import etree
from zeep.exceptions import ValidationError, XMLParseError
from zeep.transports import Transport

from xds import contracts, ebxml, hl7v3, hl7v3_queries, messages, mtom, rim, soap
from xds.contracts import SERVICES
from xds.feed import Feed, Merge
from xds.findings import Catalogue, Where
from xds.hl7v3_queries import Candidate, Copy, Domain, IdentifierQuery, Name, PersonQuery
from xds.messages import (
    OBJECT_REF,
    TRANSACTIONS,
    AdhocQuery,
    DocumentRequest,
    DocumentResponse,
    DocumentSource,
    RegistryError,
)
from xds.model import Association, Author, Code, DocumentEntry, Folder, SubmissionSet
from xds.rim import ObjectRef, RegistryObject, Slot, localized
from xds.soap import Envelope
from xds.vocabulary import APPROVED, FAILURE, HAS_MEMBER, LCM, PARTIAL_SUCCESS, RIM, SUCCESS, XDSB
from xds.xml import Element, parse

RULES = Catalogue("xds")
HOST = "https://essai.example/xds/"
INS = "299999999999945^^^&1.2.250.1.213.1.4.10&ISO^NH"
CODE = Code("11", "1.2.3", localized("Libellé & <autre>", "fr"))
AUTHOR = Author(("801234567897^ESSAI^CAMILLE^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",), ("CABINET",), ("Auteur",))
DOCUMENT = DocumentEntry(
    id="Document01", unique_id="1.2.3.4", patient_id=INS, mime_type="text/xml", title=localized("Lettre", "fr-FR"),
    comments=localized("Sans objet"), authors=(AUTHOR,), class_code=CODE, type_code=CODE, format_code=CODE,
    facility_type=CODE, practice_setting=CODE, confidentiality=(CODE, CODE), creation_time="20260301", language="fr-FR",
    source_patient_info=("PID-5|ESSAI^CAMILLE", "PID-8|F"), lid="urn:uuid:1", status=APPROVED, version="1",
    extra_slots=(Slot("urn:extra", ("a", "b"), "urn:type"),))
OBJECTS = (ebxml.from_document(DOCUMENT),
           ebxml.from_set(SubmissionSet(id="Set01", unique_id="1.2.3.5", source_id="1.2.3", patient_id=INS,
                                        submission_time="20260301", authors=(AUTHOR,), content_type=CODE)),
           ebxml.from_folder(Folder(id="Folder01", unique_id="1.2.3.6", patient_id=INS, codes=(CODE,))),
           ebxml.from_association(Association("Link01", HAS_MEMBER, "Set01", "Document01", documentation=(CODE,),
                                              submission_set_status="Original")))
WRITTEN = "".join(map(rim.write, OBJECTS))
WSAW_ACTION = "{http://www.w3.org/2006/05/addressing/wsdl}Action"
ERRORS = (RegistryError("XDSRegistryError", "contexte, « accents »", location="ici"),)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
V3_HEADER = hl7v3.Header(hl7v3.ADD, hl7v3.II("1.2.9", "m"), hl7v3.II("1.2.5"), hl7v3.II("1.2.6"), "T")
WHO = Feed(("42^^^&1.2.3&ISO",), (), "ESSAI", "CAMILLE", "19580517", "F")
PIX = hl7v3_queries.write_identifier_query(
    IdentifierQuery(WHO.identifiers[0], domains=(Domain("1.2.4"),)), V3_HEADER, hl7v3.II("1.2.8", "q"), NOW)
PDQ = hl7v3_queries.write_person_query(
    PersonQuery((Name("ESSAI", "CAM", is_partial=True),), ("1958", "1960"), "F", WHO.identifiers, (Domain("1.2.4"),), 5,
                80), V3_HEADER, hl7v3.II("1.2.8", "q"), NOW)
PIX_ANSWER = hl7v3_queries.write_identifiers(V3_HEADER, hl7v3_queries.copy_of(parse(PIX.encode())), WHO, [], NOW)
PDQ_ANSWER = hl7v3_queries.write_candidates(
    V3_HEADER, hl7v3_queries.copy_of(parse(PDQ.encode())), [Candidate(WHO, 80, ("1.2.4",)), Candidate(WHO)], 3,
    [RULES["V-V3-QUERY-NOT-KEPT"].at(received="x")], NOW)


# --- schemas -------------------------------------------------------------------------------------------------------


class Served(etree.Resolver):
    """Schemas as clients get them, by their addresses."""

    def resolve(self, system_url: str, public_id: str | None, context: Any) -> Any:
        return self.resolve_string(served(system_url), context, base_url=system_url)


def served(url: str) -> bytes:
    """What a server answers at an address."""
    address, _, query = url.partition("?")
    if query == "wsdl":
        return contracts.wsdl(address.rpartition("/")[2], address, f"{address}?xsd=").encode()
    text = contracts.schema(query.removeprefix("xsd="), f"{address}?xsd=")
    assert text is not None, url
    return text.encode()


def namespace(name: str) -> str:
    return etree.fromstring(served(f"{HOST}registry?xsd={name}")).get("targetNamespace", "")


@pytest.fixture(scope="module")
def schemas() -> etree.XMLSchema:
    """All of them at once, through the addresses."""
    imports = "".join(f'<xs:import namespace="{namespace(name)}" schemaLocation="{HOST}registry?xsd={name}"/>'
                      for name in ("xdsb", "query", "rmd", "hl7v3"))
    parser = etree.XMLParser()
    parser.resolvers.add(Served())
    root = etree.fromstring(f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{imports}</xs:schema>', parser)
    return etree.XMLSchema(root)


def test_schemas_stand_alone_in_their_folder():
    folder = Path(contracts.__file__).with_name("wsdl")
    names = sorted(path.stem for path in folder.glob("*.xsd"))
    assert names == ["hl7v3", "lcm", "query", "rim", "rmd", "rs", "wsa", "wsnt", "xdsb", "xml"]
    for name in names:
        etree.XMLSchema(file=str(folder / f"{name}.xsd"))
        relative, whole = contracts.schema(name), contracts.schema(name, "https://essai.example/a?b&xsd=")
        assert relative
        assert whole == relative.replace('="?xsd=', '="https://essai.example/a?b&amp;xsd=')
        assert re.sub(r'schemaLocation="\?xsd=[a-z]+"', "", relative).count("schemaLocation") == 0


@pytest.mark.parametrize("name", ["", "rim.xsd", "../findings", "../wsdl/rim", "RIM", "/etc/passwd"])
def test_nothing_else_is_served(name):
    assert contracts.schema(name) is None


GOOD = {
    "submit": messages.write_submit_objects(OBJECTS, [ObjectRef("urn:uuid:7", "urn:oid:1.2")]),
    "provide": messages.write_provide(OBJECTS, {"Document01": DocumentSource("inline", data=b"<a/>"),
                                                "Document02": DocumentSource("inline")}),
    "query": messages.write_query(AdhocQuery("urn:uuid:8", "urn:oid:1.2", slots=(Slot("$p", ("'a'", "('b')")),))),
    "retrieve": messages.write_retrieve([DocumentRequest("urn:oid:1.2", "1.2", "1.3"), DocumentRequest("", "1", "2")]),
    "remove": messages.write_remove_objects([ObjectRef("urn:uuid:7")]),
    "remove documents": messages.write_remove_documents([DocumentRequest("urn:oid:1.2", "1.2", "1.3")]),
    "success": messages.write_registry_response(SUCCESS),
    "failure": messages.write_registry_response(FAILURE, ERRORS),
    "found": messages.write_query_response(SUCCESS, ERRORS, [WRITTEN, rim.write_refs([ObjectRef("urn:uuid:7")])]),
    "nothing found": messages.write_query_response(SUCCESS),
    "retrieved": messages.write_retrieve_response(PARTIAL_SUCCESS, ERRORS, [
        DocumentResponse("urn:oid:1.2", "1.2", "1.3", "text/xml", new_repository="1.4", new_unique_id="1.5", data=b"a"),
        DocumentResponse("", "1.2", "1.3", "text/xml", data=b"")]),
    "nothing retrieved": messages.write_retrieve_response(FAILURE, ERRORS),
    "feed": hl7v3.write_feed(Feed((INS,), (), "ESSAI"), hl7v3.Header(hl7v3.ADD), datetime.now(UTC)),
    "merge": hl7v3.write_merge(Feed((INS,), (), "ESSAI"), "7^^^&1.2&ISO", hl7v3.Header(), datetime.now(UTC)),
    "identifier query": PIX, "person query": PDQ, "identifiers": PIX_ANSWER, "candidates": PDQ_ANSWER,
    "failed query": hl7v3_queries.write_failure(hl7v3_queries.CANDIDATES, hl7v3.Header(), Copy(), [
        RULES["V-V3-QUERY"].at(Where(path="x"), path="y")], None),
    "nested": f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}"><rim:RegistryObjectList>'
              f'<rim:RegistryPackage id="a"><rim:RegistryObjectList>{WRITTEN}<rim:ObjectRef id="urn:uuid:7"/>'
              f'<rim:Association id="b" associationType="c" sourceObject="d" targetObject="e" xmlns:rim="{RIM}"/>'
              "</rim:RegistryObjectList></rim:RegistryPackage></rim:RegistryObjectList></lcm:SubmitObjectsRequest>",
    "acknowledgement": hl7v3.write_acknowledgement(hl7v3.Header(), [RULES["V-FEED-SEX"].at(Where(path="x"))]),
}


@pytest.mark.parametrize("name", GOOD)
def test_our_own_messages_are_valid(schemas, name):
    schemas.assertValid(parse(GOOD[name].encode()))


NAME, SLOT = "<rim:Name>", '<rim:Slot name="creationTime"><rim:ValueList><rim:Value>20260301</rim:Value>'


@pytest.mark.parametrize(("name", "old", "new"), [
    ("submit", SLOT, f'<rim:Name/>{SLOT}'),  # a name before the slots
    ("submit", NAME, f"<rim:Description/>{NAME}"),
    ("submit", '<rim:VersionInfo versionName="1"/>', '<rim:VersionInfo versionName="1"/><rim:Description/>'),
    ("submit", "rim:VersionInfo", "rim:Version"),
    ("submit", "</rim:ExternalIdentifier></rim:ExtrinsicObject>",
     '</rim:ExternalIdentifier><rim:Classification id="c" classifiedObject="d"/></rim:ExtrinsicObject>'),
    ("submit", ' id="Document01"', ""),
    ("submit", ' classifiedObject="Document01"', ""),
    ("submit", ' registryObject="Document01"', ""),
    ("submit", ' associationType="', ' kind="'),
    ("submit", "rim:Association", "rim:Organization"),
    ("submit", "rim:RegistryObjectList", "rim:ObjectRefList"),
    ("submit", "rim:ValueList", "rim:Values"),
    ("submit", "<rim:Value>20260301", f"<rim:Value>{'2' * 257}"),
    ("submit", 'value="Lettre"', f'value="{"L" * 1025}"'),
    ("submit", 'xml:lang="fr-FR"', 'xml:lang="?"'),
    ("provide", ' id="Document02"', ""),
    ("provide", f'<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="{XDSB}">',
     f'<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="{XDSB}"><xdsb:Document id="d"/>'),
    ("provide", '<xdsb:Document id="Document02">', '<xdsb:Document id="Document02">P'),
    ("query", 'returnType="LeafClass"', 'returnType="RegistryObject"'),
    ("query", 'returnType="LeafClass"', ""),
    ("query", ' id="urn:uuid:8"', ""),
    ("retrieve", "<xdsb:RepositoryUniqueId>1.2</xdsb:RepositoryUniqueId>", ""),
    ("retrieve", "<xdsb:HomeCommunityId>urn:oid:1.2</xdsb:HomeCommunityId>", "<xdsb:Home/>"),
    ("remove", "<rim:ObjectRef id", "<rim:ObjectRef ident"),
    ("remove documents", "xdsb:DocumentRequest", "xdsb:Request"),
    ("failure", ' errorCode="XDSRegistryError"', ""),
    ("failure", "rs:RegistryErrorList", "rs:Errors"),
    ("failure", ' status="', ' state="'),
    ("found", "rim:RegistryObjectList", "rim:List"),
    ("nothing found", "<rim:RegistryObjectList></rim:RegistryObjectList>", ""),
    ("retrieved", "<xdsb:mimeType>text/xml</xdsb:mimeType>", ""),
    ("retrieved", "rs:RegistryResponse", "rs:Response"),
    ("feed", ' ITSVersion="XML_1.0"', ""),
    ("feed", "<creationTime", '<creationTime xmlns="urn:other"'),
    ("candidates", ' ITSVersion="XML_1.0"', ""),
    ("nested", "rim:ObjectRef", "rim:Slot"),
    ("nested", '<rim:ObjectRef id="urn:uuid:7"/>', "<rim:ObjectRef/>"),
    ("nested", f' xmlns:rim="{RIM}"/>', ' xmlns:rim="urn:other"/>'),
])
def test_a_planted_error_is_not_valid(schemas, name, old, new):
    text = GOOD[name]
    assert old in text
    assert not schemas.validate(etree.fromstring(text.replace(old, new)))


# --- clients made of the WSDLs -------------------------------------------------------------------------------------


class Wire(Transport):  # type: ignore[misc]
    """What zeep reads comes from the contracts, what it sends is kept, and what it gets is `answer`."""

    def __init__(self) -> None:
        super().__init__(cache=None)
        self.sent: tuple[str, bytes] = ("", b"")
        self.answer: tuple[str, bytes] = ("", b"")

    def load(self, url: str) -> bytes:
        return served(url)

    def post(self, address: str, message: bytes, headers: dict[str, str]) -> requests.Response:
        self.sent = (headers["Content-Type"], message)
        response = requests.Response()
        response.status_code, response._content = 200, self.answer[1]
        response.headers["Content-Type"] = self.answer[0]
        return response


def client(service: str) -> zeep.Client:
    return zeep.Client(f"{HOST}{service}?wsdl", transport=Wire(), settings=zeep.Settings(strict=True))


@pytest.fixture(scope="module")
def registry() -> zeep.Client:
    return client("registry")


@pytest.fixture(scope="module")
def repository() -> zeep.Client:
    return client("repository")


@pytest.fixture(scope="module")
def identity() -> zeep.Client:
    return client("identity")


def call(made: zeep.Client, operation: str, name: str, body: str, *values: Any, parts: dict[str, bytes] | None = None,
         **arguments: Any) -> Any:
    """Answer `body` to an operation of the transaction; multipart where that is."""
    row = TRANSACTIONS[name]
    root = soap.write_envelope(body, row.answer, "urn:x")
    if row.mtom:
        packed = [(identity, data, len(data)) for identity, data in (parts or {}).items()]
        content_type, pieces, _ = mtom.write_related(root, packed, row.answer)
        made.transport.answer = content_type, b"".join(pieces)
    else:
        made.transport.answer = "application/soap+xml; charset=UTF-8", root
    return made.service[operation](*values, **arguments)


def sent(made: zeep.Client, name: str) -> Envelope:
    """What zeep sent, read as the server reads it."""
    content_type, data = made.transport.sent
    parts = soap.read_message(content_type, data)
    envelope = soap.read_envelope(parts.root, content_action=parts.action)
    assert messages.transaction_of(envelope.action, envelope.body, (name,)).name == name
    assert envelope.message_id
    assert {warning.code for warning in envelope.warnings} == {"V-SOAP-ACTION-UNMARKED", "V-SOAP-REPLY-TO-ABSENT"}
    return envelope


def text(value: rim.Text) -> dict[str, Any] | None:
    return {"LocalizedString": [{"value": item.value, "lang": item.lang or None} for item in value]} if value else None


def slots(values: tuple[Slot, ...]) -> list[dict[str, Any]]:
    return [{"name": slot.name, "slotType": slot.slot_type or None, "ValueList": {"Value": list(slot.values)}}
            for slot in values]


def classification(item: rim.Classification) -> dict[str, Any]:
    return {"id": item.id, "Slot": slots(item.slots), "Name": text(item.name),
            "classifiedObject": item.classified_object, "classificationScheme": item.scheme or None,
            "classificationNode": item.node or None,
            "nodeRepresentation": item.node_representation if item.scheme else None}


def identifier(item: rim.ExternalIdentifier) -> dict[str, Any]:
    return {"id": item.id, "Name": text(item.name), "registryObject": item.registry_object, "value": item.value,
            "identificationScheme": item.scheme}


def described(thing: RegistryObject) -> dict[str, Any]:
    """An object as zeep wants it told."""
    values: dict[str, Any] = {
        "id": thing.id, "lid": thing.lid or None, "status": thing.status or None, "objectType": thing.object_type,
        "Slot": slots(thing.slots), "Name": text(thing.name), "Description": text(thing.description),
        "VersionInfo": {"versionName": thing.version} if thing.version else None,
        "Classification": list(map(classification, thing.classifications)),
        "ExternalIdentifier": list(map(identifier, thing.external_identifiers))}
    if thing.kind == "Association":
        values |= {"associationType": thing.association_type, "sourceObject": thing.source,
                   "targetObject": thing.target}
    if thing.mime_type:
        values["mimeType"] = thing.mime_type
    return {thing.kind: values}


TOLD = {"_value_1": [{"ObjectRef": {"id": "urn:uuid:7"}}, *map(described, OBJECTS)]}


@pytest.mark.parametrize("service", SERVICES)
def test_a_client_finds_every_operation_at_its_address(service):
    made = client(service)
    (port,) = next(iter(made.wsdl.services.values())).ports.values()
    assert port.binding_options["address"] == HOST + service
    offered = {operation.abstract.wsa_action for operation in port.binding.all().values()}
    expected = {action: TRANSACTIONS[name].answer for name in SERVICES[service]
                for action, _ in TRANSACTIONS[name].requests()}
    assert offered == set(expected)
    assert {operation.soapaction for operation in port.binding.all().values()} == offered
    found = etree.fromstring(served(f"{HOST}{service}?wsdl")).xpath("//*[local-name()='portType']/*")
    assert {way[0].get(WSAW_ACTION): way[1].get(WSAW_ACTION) for way in found} == expected


def test_a_wsdl_by_relative_addresses_is_well_formed():
    root = etree.fromstring(contracts.wsdl("repository", 'https://essai.example/a?b=1&c="2"').encode())
    assert root.get("name") == "DocumentRepository"
    locations = root.xpath("//*[local-name()='import']/@schemaLocation")
    assert locations == ["?xsd=xdsb", "?xsd=rs", "?xsd=rmd"]
    assert root.xpath("//*[local-name()='address']/@location") == ['https://essai.example/a?b=1&c="2"']
    with pytest.raises(KeyError):
        contracts.wsdl("other", HOST)


def test_iti42(registry):
    answer = call(registry, "DocumentRegistry_RegisterDocumentSet-b", "ITI-42",
                  messages.write_registry_response(FAILURE, ERRORS), RegistryObjectList=TOLD)
    read = messages.read_submit_objects(sent(registry, "ITI-42").body)
    assert read.objects == OBJECTS
    assert read.references == (ObjectRef("urn:uuid:7"),)
    assert answer.status == FAILURE
    (error,) = answer.RegistryErrorList.RegistryError
    assert (error.errorCode, error.codeContext, error.location) == ("XDSRegistryError", ERRORS[0].context, "ici")


def test_iti18(registry):
    query = AdhocQuery("urn:uuid:8", return_type=OBJECT_REF, slots=(Slot("$a", ("('b','c')", "('d')")),))
    answer = call(registry, "DocumentRegistry_RegistryStoredQuery", "ITI-18", GOOD["found"],
                  ResponseOption={"returnType": query.return_type, "returnComposedObjects": True},
                  AdhocQuery={"id": query.id, "Slot": slots(query.slots)})
    assert messages.read_query(sent(registry, "ITI-18").body) == query
    assert answer.status == SUCCESS
    document, the_set, folder, link, reference = answer.RegistryObjectList._value_1
    assert document["ExtrinsicObject"].id == "Document01"
    assert document["ExtrinsicObject"].Name.LocalizedString[0].lang == "fr-FR"
    assert len(document["ExtrinsicObject"].Classification) == len(OBJECTS[0].classifications)
    assert [item.id for item in document["ExtrinsicObject"].ExternalIdentifier] == [
        item.id for item in OBJECTS[0].external_identifiers]
    assert (the_set["RegistryPackage"].id, folder["RegistryPackage"].id) == ("Set01", "Folder01")
    assert link["Association"].targetObject == "Document01"
    assert reference["ObjectRef"].id == "urn:uuid:7"


def test_iti18_without_anything_found(registry):
    answer = call(registry, "DocumentRegistry_RegistryStoredQuery", "ITI-18", GOOD["nothing found"],
                  ResponseOption={"returnType": "LeafClass"}, AdhocQuery={"id": "urn:uuid:8"})
    assert (answer.status, answer.RegistryErrorList) == (SUCCESS, None)
    assert not (answer.RegistryObjectList and answer.RegistryObjectList._value_1)


@pytest.mark.parametrize("name", ["ITI-57", "ITI-61", "ITI-92"])
def test_submissions_by_other_names(registry, name):
    operation = f"DocumentRegistry_{TRANSACTIONS[name].action.rpartition(':')[2]}"
    answer = call(registry, operation, name, GOOD["success"], RegistryObjectList=TOLD)
    assert messages.read_submit_objects(sent(registry, name).body).objects == OBJECTS
    assert answer.status == SUCCESS


def test_iti62(registry):
    call(registry, "DocumentRegistry_DeleteDocumentSet", "ITI-62", GOOD["success"],
         ObjectRefList={"ObjectRef": [{"id": "urn:uuid:7"}]})
    assert messages.read_remove_objects(sent(registry, "ITI-62").body) == (ObjectRef("urn:uuid:7"),)


def test_iti86(repository):
    call(repository, "DocumentRepository_RemoveDocuments", "ITI-86", GOOD["success"],
         DocumentRequest=[{"RepositoryUniqueId": "1.2", "DocumentUniqueId": "1.3"}])
    assert messages.read_remove_documents(sent(repository, "ITI-86").body) == (DocumentRequest("", "1.2", "1.3"),)


def test_iti41(repository):
    answer = call(repository, "DocumentRepository_ProvideAndRegisterDocumentSet-b", "ITI-41", GOOD["success"],
                  SubmitObjectsRequest={"RegistryObjectList": TOLD},
                  Document=[{"_value_1": b"<a>\xc3\xa9</a>", "id": "Document01"}])
    read = messages.read_provide(sent(repository, "ITI-41").body)
    assert read.objects == OBJECTS
    assert read.documents == {"Document01": DocumentSource("inline", data=b"<a>\xc3\xa9</a>")}
    assert answer.status == SUCCESS


def test_iti43(repository):
    body = messages.write_retrieve_response(SUCCESS, (), [
        DocumentResponse("", "1.2", "1.3", "text/xml", "doc1@essai"), DocumentResponse("", "1.2", "1.4", "text/xml",
                                                                                       data=b"inline")])
    answer = call(repository, "DocumentRepository_RetrieveDocumentSet", "ITI-43", body,
                  DocumentRequest=[{"RepositoryUniqueId": "1.2", "DocumentUniqueId": "1.3"},
                                   {"HomeCommunityId": "urn:oid:1", "RepositoryUniqueId": "1.2",
                                    "DocumentUniqueId": "1.4"}],
                  parts={"doc1@essai": b"<a>\r\n\x00</a>"})
    assert messages.read_retrieve(sent(repository, "ITI-43").body) == (
        DocumentRequest("", "1.2", "1.3"), DocumentRequest("urn:oid:1", "1.2", "1.4"))
    # one answer with MTOM parts comes as a pack: the envelope's values, attachments beside them
    found = answer.root.DocumentResponse if hasattr(answer, "root") else answer.DocumentResponse
    assert [item.Document for item in found] == [b"<a>\r\n\x00</a>", b"inline"]


@pytest.mark.parametrize("name", [hl7v3.ADD, hl7v3.REVISE, hl7v3.MERGE])
def test_iti44(identity, name):
    header = replace(V3_HEADER, interaction=name)
    message = parse((hl7v3.write_merge(WHO, "7^^^&1.2&ISO", header, NOW) if name == hl7v3.MERGE
                     else hl7v3.write_feed(WHO, header, NOW)).encode())
    answer = call(identity, f"DocumentRegistry_{name}", "ITI-44", hl7v3.write_acknowledgement(header, [], None),
                  _value_1=list(message), ITSVersion="XML_1.0")
    body = sent(identity, "ITI-44").body
    assert hl7v3.read_header(body) == header
    if name == hl7v3.MERGE:
        assert hl7v3.read_merge(body) == Merge(WHO.identifiers, ("7^^^&1.2&ISO",))
    else:
        assert hl7v3.read_feed(body) == WHO
    assert answer.ITSVersion == "XML_1.0"
    names = [_local(item) for item in answer._value_1]
    assert names[0] == "id"
    assert names[-1] == "acknowledgement"


@pytest.mark.parametrize(("name", "query", "told"), [("ITI-45", PIX, PIX_ANSWER), ("ITI-47", PDQ, PDQ_ANSWER)])
def test_iti45_and_47(identity, name, query, told):
    message, read = parse(query.encode()), {"ITI-45": hl7v3_queries.read_identifier_query,
                                            "ITI-47": hl7v3_queries.read_person_query}[name]
    answer = call(identity, f"DocumentRegistry_{_local(message)}", name, told, _value_1=list(message),
                  ITSVersion="XML_1.0")
    assert read(sent(identity, name).body) == read(parse(query.encode()))  # zeep took the elements themselves
    assert [_local(item) for item in answer._value_1][-2:] == ["acknowledgement", "controlActProcess"]


def _local(item: Element) -> str:
    return str(item.tag).rpartition("}")[2]


def test_zeep_is_strict(registry):
    """So that the tests above mean something: what is against the schemas is refused by zeep too."""
    wrong = GOOD["found"].replace("rim:RegistryObjectList>", "rim:Liste>")
    arguments = {"ResponseOption": {"returnType": "LeafClass"}, "AdhocQuery": {"id": "urn:uuid:8"}}
    with pytest.raises((XMLParseError, ValidationError)):
        call(registry, "DocumentRegistry_RegistryStoredQuery", "ITI-18", wrong, **arguments)
    with pytest.raises(ValidationError):
        call(registry, "DocumentRegistry_RegistryStoredQuery", "ITI-18", GOOD["found"],
             ResponseOption={"returnType": "LeafClass"})
    with pytest.raises(TypeError):
        call(registry, "DocumentRegistry_RegistryStoredQuery", "ITI-18", GOOD["found"], Query={}, **arguments)


def test_the_namespace_of_ebrim_is_that_of_the_schemas():
    assert namespace("rim") == RIM
