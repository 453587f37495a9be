"""Bodies of the XDS.b transactions: elements -> values -> text (ITI TF-2 §3.18, 41-44, 51, 57, 61, 62, 86, 92).

Readers raise `Refused` for what is against the schemas; what the metadata say is for the rules.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from xds import rim, xcpd
from xds.encodings import decode_base64
from xds.findings import Catalogue, Finding, Refused, Severity, Where, shorten
from xds.hl7v3 import ACKNOWLEDGEMENT, ADD, MERGE, REVISE, V3
from xds.hl7v3_queries import CANDIDATES, FIND_CANDIDATES, GET_IDENTIFIERS, IDENTIFIERS
from xds.mtom import include, include_href
from xds.rim import ObjectRef, RegistryObject, Slot
from xds.vocabulary import LCM, QUERY, RIM, RS, SEVERITY_ERROR, SEVERITY_WARNING, XDSB, XOP
from xds.xml import Element, clean, escape, text_of, value_of, where

RULES = Catalogue("xds")
ACTION_UNKNOWN = RULES["V-SOAP-ACTION-UNKNOWN"]
MESSAGE = RULES["V-SOAP-MESSAGE"]
CONTENT = RULES["V-SOAP-MESSAGE-CONTENT"]
DOCUMENT_TWICE = RULES["V-SOAP-DOCUMENT-TWICE"]
BASE64 = RULES["V-SOAP-BASE64"]
RETURN_TYPE = RULES["V-SOAP-RETURN-TYPE"]
PART_ABSENT = RULES["V-MTOM-PART-ABSENT"]
PART_UNUSED = RULES["V-MTOM-PART-UNUSED"]
PART_TWICE = RULES["V-MTOM-PART-TWICE"]

RMD = "urn:ihe:iti:rmd:2017"
WSNT, WSN = "http://docs.oasis-open.org/wsn/b-2", "http://docs.oasis-open.org/wsn/bw-2"
LEAF_CLASS, OBJECT_REF = "LeafClass", "ObjectRef"

_BODY = "envelope"
_LCM, _QUERY, _RIM, _RS, _XDSB = (f"{{{name}}}" for name in (LCM, QUERY, RIM, RS, XDSB))
T = TypeVar("T")


# --- transactions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction on the wire: actions, body elements, whether both ways are MTOM packages."""

    name: str
    action: str
    answer: str
    body: str
    response: str
    mtom: bool = False
    other_answers: tuple[str, ...] = ()  # actions of answers that peers send too
    more: tuple[tuple[str, str], ...] = ()  # further requests of the same transaction: action, body element
    faults: bool = False  # no answer of it says failure: every refusal is a SOAP fault

    def requests(self) -> tuple[tuple[str, str], ...]:
        """(action, body element) of every request."""
        return (self.action, self.body), *self.more


def _transaction(name: str, action: str, body: str, response: str, mtom: bool = False) -> Transaction:
    return Transaction(name, f"urn:ihe:iti:{action}", f"urn:ihe:iti:{action}Response", body, response, mtom)


def _v3(name: str, request: str, response: str, *more: str) -> Transaction:
    return Transaction(name, f"{V3}:{request}", f"{V3}:{response}", f"{{{V3}}}{request}", f"{{{V3}}}{response}",
                       more=tuple((f"{V3}:{other}", f"{{{V3}}}{other}") for other in more))


_SUBMIT, _REMOVE = _LCM + "SubmitObjectsRequest", _LCM + "RemoveObjectsRequest"
_PROVIDE = _XDSB + "ProvideAndRegisterDocumentSetRequest"
_RETRIEVE, _RETRIEVED = _XDSB + "RetrieveDocumentSetRequest", _XDSB + "RetrieveDocumentSetResponse"
_ASK, _ANSWERED, _DONE = _QUERY + "AdhocQueryRequest", _QUERY + "AdhocQueryResponse", _RS + "RegistryResponse"

#: The transactions by name (ITI TF-2, WSDL of each)
TRANSACTIONS: Mapping[str, Transaction] = {row.name: row for row in (
    _transaction("ITI-18", "2007:RegistryStoredQuery", _ASK, _ANSWERED),
    _transaction("ITI-38", "2007:CrossGatewayQuery", _ASK, _ANSWERED),
    _transaction("ITI-39", "2007:CrossGatewayRetrieve", _RETRIEVE, _RETRIEVED, mtom=True),
    _transaction("ITI-41", "2007:ProvideAndRegisterDocumentSet-b", _PROVIDE, _DONE, mtom=True),
    _transaction("ITI-42", "2007:RegisterDocumentSet-b", _SUBMIT, _DONE),
    _transaction("ITI-43", "2007:RetrieveDocumentSet", _RETRIEVE, _RETRIEVED, mtom=True),
    # A notification has the action of the revision of a feed, and is read as one: the later row keeps the action.
    _v3("ITI-46", REVISE, ACKNOWLEDGEMENT),
    _v3("ITI-44", ADD, ACKNOWLEDGEMENT, REVISE, MERGE),
    _v3("ITI-45", GET_IDENTIFIERS, IDENTIFIERS),
    _v3("ITI-47", FIND_CANDIDATES, CANDIDATES),
    _transaction("ITI-51", "2009:MultiPatientStoredQuery", _ASK, _ANSWERED),
    # Actions are those of WS-BaseNotification, and each of the two requests has an answer of its own.
    *(Transaction(name, f"{WSN}/{actor}/{kind}Request", f"{WSN}/{actor}/{kind}Response", f"{{{WSNT}}}{kind}",
                  f"{{{WSNT}}}{kind}Response", faults=True)
      for name, actor, kind in (("ITI-52", "NotificationProducer", "Subscribe"),
                                ("ITI-52-Unsubscribe", "SubscriptionManager", "Unsubscribe"))),
    Transaction("ITI-55", f"{V3}:{xcpd.QUERY}:{xcpd.DISCOVERY}", f"{V3}:{xcpd.ANSWER}:{xcpd.DISCOVERY}",
                f"{{{V3}}}{xcpd.QUERY}", f"{{{V3}}}{xcpd.ANSWER}"),
    _transaction("ITI-57", "2010:UpdateDocumentSet", _SUBMIT, _DONE),
    # IHE's toolkit expects an answer without "Entry"; IPF sends and expects the one with it.
    Transaction("ITI-61", "urn:ihe:iti:2010:RegisterOnDemandDocumentEntry",
                "urn:ihe:iti:2010:RegisterOnDemandDocumentResponse", _SUBMIT, _DONE,
                other_answers=("urn:ihe:iti:2010:RegisterOnDemandDocumentEntryResponse",)),
    _transaction("ITI-62", "2010:DeleteDocumentSet", _REMOVE, _DONE),
    _transaction("ITI-80", "2015:CrossGatewayDocumentProvide", _PROVIDE, _DONE, mtom=True),
    _transaction("ITI-86", "2017:RemoveDocuments", f"{{{RMD}}}RemoveDocumentsRequest", _DONE),
    _transaction("ITI-92", "2018:RestrictedUpdateDocumentSet", _SUBMIT, _DONE),
)}
_BY_ACTION = {action: (row, body) for row in TRANSACTIONS.values() for action, body in row.requests()}


def transaction_of(action: str, body: Element, offered: Container[str] = TRANSACTIONS) -> Transaction:
    """The transaction of an action among the names offered here; `Refused` when unknown or the body is another's."""
    row, expected = _BY_ACTION.get(action, (None, ""))
    if row is None or row.name not in offered:
        known = " | ".join(name for name, (other, _) in _BY_ACTION.items() if other.name in offered)
        raise Refused(ACTION_UNKNOWN.at(where(body, _BODY), expected=known, received=action))
    _expect(body, expected)
    return row


# --- values --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """A RegistryObjectList: objects, references, and top-level elements that are neither."""

    objects: tuple[RegistryObject, ...]
    references: tuple[ObjectRef, ...] = ()
    unknown: tuple[Element, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """Where the bytes of a document are: in the part of that Content-ID, or here."""

    kind: Literal["include", "inline"]
    content_id: str = ""
    data: bytes = b""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class ProvideRequest(SubmitRequest):
    """Metadata and documents of ITI-41, the documents by Document/@id."""

    documents: Mapping[str, DocumentSource] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """One document asked for (ITI-43) or to remove (ITI-86)."""

    home: str
    repository_unique_id: str
    document_unique_id: str


@dataclass(frozen=True, slots=True)
class DocumentResponse:
    """One document handed out: in the part `content_id`, or inline as `data` when that is empty."""

    home: str
    repository: str
    unique_id: str
    mime_type: str
    content_id: str = ""
    new_repository: str = ""
    new_unique_id: str = ""
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class AdhocQuery:
    """A stored query: id, home, LeafClass or ObjectRef, parameters as slots."""

    id: str
    home: str = ""
    return_type: str = LEAF_CLASS
    slots: tuple[Slot, ...] = ()
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RegistryError:
    """One error or warning of an answer; `severity` is the whole URN."""

    code: str
    context: str
    severity: str = SEVERITY_ERROR
    location: str = ""


@dataclass(frozen=True, slots=True)
class RegistryResponse:
    """Status (whole URN) and errors of an answer."""

    status: str
    errors: tuple[RegistryError, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryResponse(RegistryResponse):
    """Answer to a stored query."""

    objects: tuple[RegistryObject, ...] = ()
    references: tuple[ObjectRef, ...] = ()


@dataclass(frozen=True, slots=True)
class RetrieveResponse(RegistryResponse):
    """Answer to ITI-43."""

    documents: tuple[DocumentResponse, ...] = ()


# --- reading requests ----------------------------------------------------------------------------------------------


def read_submit_objects(body: Element) -> SubmitRequest:
    """Content of an lcm:SubmitObjectsRequest (ITI-42, 57, 61, 92)."""
    _expect(body, _SUBMIT)
    objects, references, unknown = rim.read_list(_one(body, _RIM + "RegistryObjectList"))
    return SubmitRequest(tuple(objects), tuple(references), tuple(unknown))


def read_provide(body: Element) -> ProvideRequest:
    """Content of an xdsb:ProvideAndRegisterDocumentSetRequest (ITI-41)."""
    _expect(body, _PROVIDE)
    submitted = read_submit_objects(_one(body, _SUBMIT))
    documents: dict[str, DocumentSource] = {}
    for element in body.iterchildren(_XDSB + "Document"):
        identity = element.get("id", "")
        if not identity:
            raise Refused(CONTENT.at(where(element, _BODY), expected="Document/@id", received=""))
        if identity in documents:
            raise Refused(DOCUMENT_TWICE.at(where(element, _BODY), received=identity))
        documents[identity] = _read_source(element)
    return ProvideRequest(submitted.objects, submitted.references, submitted.unknown, documents)


def read_retrieve(body: Element) -> tuple[DocumentRequest, ...]:
    """Documents that an xdsb:RetrieveDocumentSetRequest asks for (ITI-43)."""
    _expect(body, _RETRIEVE)
    return _read_document_requests(body)


def read_remove_documents(body: Element) -> tuple[DocumentRequest, ...]:
    """Documents that an rmd:RemoveDocumentsRequest names (ITI-86)."""
    _expect(body, TRANSACTIONS["ITI-86"].body)
    return _read_document_requests(body)


def read_remove_objects(body: Element) -> tuple[ObjectRef, ...]:
    """References of an lcm:RemoveObjectsRequest (ITI-62)."""
    _expect(body, _REMOVE)
    return tuple(rim.read_list(_one(body, _RIM + "ObjectRefList"))[1])


def read_query(body: Element) -> AdhocQuery:
    """The stored query of a query:AdhocQueryRequest (ITI-18, 51)."""
    _expect(body, _ASK)
    query = _one(body, _RIM + "AdhocQuery")
    options = list(body.iterchildren(_QUERY + "ResponseOption"))
    return_type = options[0].get("returnType", "") if len(options) == 1 else ""
    if return_type not in {LEAF_CLASS, OBJECT_REF}:
        raise Refused(RETURN_TYPE.at(where(body, _BODY), expected=f"{LEAF_CLASS} | {OBJECT_REF}", received=return_type))
    slots = tuple(rim.read_slot(child) for child in query.iterchildren(_RIM + "Slot"))
    return AdhocQuery(query.get("id", ""), query.get("home", ""), return_type, slots, query.sourceline or 0)


def attach(documents: Mapping[str, DocumentSource], parts: Mapping[str, T]) -> dict[str, T | bytes]:
    """Content of each document, by document id; parts are what came by Content-ID, bytes or where they were kept.

    `Refused` when a part is missing, named twice, or named by nothing.
    """
    named = Counter(source.content_id for source in documents.values() if source.kind == "include")
    findings = [PART_ABSENT.at(Where(_BODY, source.line), expected=", ".join(sorted(parts)), received=source.content_id)
                for source in documents.values() if source.kind == "include" and source.content_id not in parts]
    findings += [PART_TWICE.at(Where(_BODY), received=name) for name, times in named.items() if times > 1]
    findings += [PART_UNUSED.at(Where("multipart"), received=name) for name in parts if name not in named]
    if findings:
        raise Refused(findings)
    return {identity: parts[source.content_id] if source.kind == "include" else source.data
            for identity, source in documents.items()}


def _read_document_requests(body: Element) -> tuple[DocumentRequest, ...]:
    # The namespace of RMD's own children changed between drafts; both are read.
    items = [child for child in body if child.tag in (_XDSB + "DocumentRequest", f"{{{RMD}}}DocumentRequest")]
    if not items:
        raise Refused(CONTENT.at(where(body, _BODY), expected="DocumentRequest (1..*)", received=0))
    return tuple(DocumentRequest(_value(item, "HomeCommunityId", required=False), _value(item, "RepositoryUniqueId"),
                                 _value(item, "DocumentUniqueId")) for item in items)


def _read_source(element: Element) -> DocumentSource:
    """An xop:Include or base64, line breaks allowed, the empty document included (ITI TF-2 §3.41.4.1.2)."""
    line = element.sourceline or 0
    children = [child for child in element if isinstance(child.tag, str)]
    if children and children[0].tag == f"{{{XOP}}}Include":
        return DocumentSource("include", include_href(children[0]), line=line)
    if children:
        raise Refused(CONTENT.at(where(element, _BODY), expected="xop:Include | base64", received=children[0].tag))
    try:
        return DocumentSource("inline", data=decode_base64(text_of(element)), line=line)
    except ValueError as error:
        raise Refused(BASE64.at(where(element, _BODY), expected="xs:base64Binary", received=error)) from error


def _expect(body: Element, tag: str) -> None:
    if body.tag != tag:
        raise Refused(MESSAGE.at(where(body, _BODY), expected=tag, received=body.tag))


def _one(parent: Element, tag: str) -> Element:
    found = list(parent.iterchildren(tag))
    if len(found) != 1:
        raise Refused(CONTENT.at(where(parent, _BODY), expected=f"1 × {tag}", received=len(found)))
    return found[0]


def _value(item: Element, name: str, required: bool = True) -> str:
    """Text of the child of that name, in the namespace of its parent or of XDS.b; it stands at most once."""
    own = str(item.tag).rpartition("}")[0] + "}" + name
    texts = [value_of(child) for child in item if child.tag in (own, _XDSB + name)]
    if len(texts) > 1 or (required and not any(texts)):
        raise Refused(CONTENT.at(where(item, _BODY), expected=f"{name} ({'1' if required else '0..1'})",
                                 received=len(texts)))
    return texts[0] if texts else ""


# --- reading answers -----------------------------------------------------------------------------------------------


def read_registry_response(body: Element) -> RegistryResponse:
    """Status and errors of an rs:RegistryResponse."""
    _expect(body, _DONE)
    return RegistryResponse(body.get("status", ""), _read_errors(body))


def read_query_response(body: Element) -> QueryResponse:
    """Status, errors and objects of a query:AdhocQueryResponse."""
    _expect(body, _ANSWERED)
    objects, references, _ = rim.read_list(_one(body, _RIM + "RegistryObjectList"))
    return QueryResponse(body.get("status", ""), _read_errors(body), tuple(objects), tuple(references))


def read_retrieve_response(body: Element) -> RetrieveResponse:
    """Status, errors and documents of an xdsb:RetrieveDocumentSetResponse."""
    _expect(body, _RETRIEVED)
    response = _one(body, _DONE)
    documents = tuple(map(_read_document_response, body.iterchildren(_XDSB + "DocumentResponse")))
    return RetrieveResponse(response.get("status", ""), _read_errors(response), documents)


def _read_document_response(item: Element) -> DocumentResponse:
    source = _read_source(_one(item, _XDSB + "Document"))
    optional = {name: _value(item, name, required=False)
                for name in ("HomeCommunityId", "NewRepositoryUniqueId", "NewDocumentUniqueId", "mimeType")}
    return DocumentResponse(
        optional["HomeCommunityId"], _value(item, "RepositoryUniqueId"), _value(item, "DocumentUniqueId"),
        optional["mimeType"], source.content_id, optional["NewRepositoryUniqueId"], optional["NewDocumentUniqueId"],
        source.data)


def _read_errors(response: Element) -> tuple[RegistryError, ...]:
    return tuple(RegistryError(item.get("errorCode", ""), item.get("codeContext", ""), item.get("severity", ""),
                               item.get("location", ""))
                 for errors in response.iterchildren(_RS + "RegistryErrorList")
                 for item in errors.iterchildren(_RS + "RegistryError"))


# --- findings -> errors --------------------------------------------------------------------------------------------


def registry_error(finding: Finding, home: str = "") -> RegistryError:
    """A finding in a RegistryErrorList, in French and in English; `home` is where gateways found it (TF-2 §3.38)."""
    place, shown, path = finding.where, finding.as_dict(), shorten(finding.where.path)
    facts = (shown["code"], shorten(place.part), f"line {place.line}" if place.line else "", path if home else "",
             f"expected {shown['expected']}" if shown["expected"] else "",
             f"received {shown['received']}" if shown["received"] else "", shown["clause"])
    context = f"{shown['fr']} {shown['hint']} — {shown['en']} {shown['hint_en']} [{', '.join(filter(None, facts))}]"
    severity = SEVERITY_ERROR if finding.severity is Severity.ERROR else SEVERITY_WARNING
    return RegistryError(finding.xds or "XDSRegistryError", " ".join(context.split()), severity, home or path)


def registry_errors(findings: Iterable[Finding], home: str = "") -> list[RegistryError]:
    """Errors and warnings of an answer; informations are left out, for ebRS has no such severity."""
    return [registry_error(finding, home) for finding in findings if finding.severity is not Severity.INFO]


# --- writing answers -----------------------------------------------------------------------------------------------


def write_registry_response(status: str, errors: Sequence[RegistryError] = ()) -> str:
    """An rs:RegistryResponse."""
    return (f'<rs:RegistryResponse xmlns:rs="{RS}" status="{escape(status)}">{_write_errors(errors)}'
            "</rs:RegistryResponse>")


def write_query_response(status: str, errors: Sequence[RegistryError] = (), objects_xml: Iterable[str] = ()) -> str:
    """A query:AdhocQueryResponse; the objects are `rim:` texts, and their list stands even when empty."""
    return (f'<query:AdhocQueryResponse xmlns:query="{QUERY}" xmlns:rs="{RS}" xmlns:rim="{RIM}" '
            f'status="{escape(status)}">{_write_errors(errors)}'
            f"<rim:RegistryObjectList>{''.join(objects_xml)}</rim:RegistryObjectList></query:AdhocQueryResponse>")


def write_retrieve_response(status: str, errors: Sequence[RegistryError] = (),
                            documents: Sequence[DocumentResponse] = ()) -> str:
    """An xdsb:RetrieveDocumentSetResponse; order of elements as in ITI TF-2 §3.43.5."""
    return (f'<xdsb:RetrieveDocumentSetResponse xmlns:xdsb="{XDSB}">{write_registry_response(status, errors)}'
            f"{''.join(map(_write_document_response, documents))}</xdsb:RetrieveDocumentSetResponse>")


def _write_document_response(document: DocumentResponse) -> str:
    content = _write_source(document.content_id, document.data)
    return ("<xdsb:DocumentResponse>" + _element("HomeCommunityId", document.home)
            + _element("RepositoryUniqueId", document.repository) + _element("DocumentUniqueId", document.unique_id)
            + _element("NewRepositoryUniqueId", document.new_repository)
            + _element("NewDocumentUniqueId", document.new_unique_id) + _element("mimeType", document.mime_type)
            + f"<xdsb:Document>{content}</xdsb:Document></xdsb:DocumentResponse>")


def _write_errors(errors: Sequence[RegistryError]) -> str:
    if not errors:
        return ""
    highest = SEVERITY_ERROR if any(error.severity == SEVERITY_ERROR for error in errors) else SEVERITY_WARNING
    items = "".join(map(_write_error, errors))
    return f'<rs:RegistryErrorList highestSeverity="{highest}">{items}</rs:RegistryErrorList>'


def _write_error(error: RegistryError) -> str:
    location = f' location="{clean(error.location)}"' if error.location else ""
    return (f'<rs:RegistryError codeContext="{clean(error.context)}" errorCode="{clean(error.code)}" '
            f'severity="{clean(error.severity)}"{location}/>')


# --- writing requests ----------------------------------------------------------------------------------------------


def write_submit_objects(objects: Iterable[RegistryObject], references: Iterable[ObjectRef] = ()) -> str:
    """An lcm:SubmitObjectsRequest (ITI-42, 57, 61, 92)."""
    return (f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}"><rim:RegistryObjectList>'
            f"{rim.write_refs(references)}{''.join(map(rim.write, objects))}"
            "</rim:RegistryObjectList></lcm:SubmitObjectsRequest>")


def write_provide(objects: Iterable[RegistryObject], documents: Mapping[str, DocumentSource],
                  references: Iterable[ObjectRef] = ()) -> str:
    """An xdsb:ProvideAndRegisterDocumentSetRequest (ITI-41); documents by the id of their entry."""
    items = "".join(f'<xdsb:Document id="{escape(identity)}">{_write_source(source.content_id, source.data)}'
                    "</xdsb:Document>" for identity, source in documents.items())
    return (f'<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="{XDSB}">'
            f"{write_submit_objects(objects, references)}{items}</xdsb:ProvideAndRegisterDocumentSetRequest>")


def write_query(query: AdhocQuery) -> str:
    """A query:AdhocQueryRequest (ITI-18, 51)."""
    home = f' home="{escape(query.home)}"' if query.home else ""
    slots = "".join(rim.write_slot(slot.name, *slot.values) for slot in query.slots)
    return (f'<query:AdhocQueryRequest xmlns:query="{QUERY}" xmlns:rim="{RIM}"><query:ResponseOption '
            f'returnComposedObjects="true" returnType="{escape(query.return_type)}"/>'
            f'<rim:AdhocQuery id="{escape(query.id)}"{home}>{slots}</rim:AdhocQuery></query:AdhocQueryRequest>')


def write_retrieve(requests: Iterable[DocumentRequest]) -> str:
    """An xdsb:RetrieveDocumentSetRequest (ITI-43)."""
    return (f'<xdsb:RetrieveDocumentSetRequest xmlns:xdsb="{XDSB}">{_write_document_requests(requests)}'
            "</xdsb:RetrieveDocumentSetRequest>")


def write_remove_documents(requests: Iterable[DocumentRequest]) -> str:
    """An rmd:RemoveDocumentsRequest (ITI-86)."""
    return (f'<rmd:RemoveDocumentsRequest xmlns:rmd="{RMD}" xmlns:xdsb="{XDSB}">{_write_document_requests(requests)}'
            "</rmd:RemoveDocumentsRequest>")


def write_remove_objects(references: Iterable[ObjectRef]) -> str:
    """An lcm:RemoveObjectsRequest (ITI-62)."""
    return (f'<lcm:RemoveObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}"><rim:ObjectRefList>'
            f"{rim.write_refs(references)}</rim:ObjectRefList></lcm:RemoveObjectsRequest>")


def _write_document_requests(requests: Iterable[DocumentRequest]) -> str:
    return "".join(f"<xdsb:DocumentRequest>{_element('HomeCommunityId', item.home)}"
                   f"{_element('RepositoryUniqueId', item.repository_unique_id)}"
                   f"{_element('DocumentUniqueId', item.document_unique_id)}"
                   "</xdsb:DocumentRequest>" for item in requests)


def _element(name: str, text: str) -> str:
    return f"<xdsb:{name}>{escape(text)}</xdsb:{name}>" if text else ""


def _write_source(content_id: str, data: bytes) -> str:
    return include(content_id) if content_id else b64encode(data).decode("ascii")
