"""What a request was about, for its audit record: body of the SOAP message -> objects.

Read from the request and not from what a handler made of it: what was refused is audited as well. Lenient, and
bounded: anything may stand in a body, and an audit record must be written all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from lxml import etree

from security.audit import RFC3881, Coded, Object, Role, Transaction
from xds import hl7v3
from xds.messages import RMD
from xds.vocabulary import RIM, SUBMISSION_SET, SUBMISSION_SET_NODE, XDSB
from xds.xml import Element, value_of

MOST = 100  # objects of one record
LONGEST_QUERY = 16 * 1024  # bytes; syslog receivers need not take much more (RFC 5425 §4.3.1)

_METADATA = "IHE XDS Metadata"
SET = Coded(SUBMISSION_SET_NODE, _METADATA, "submission set classificationNode")
REFERENCE = Coded("urn:ihe:iti:2017:ObjectRef", _METADATA, "registry object reference")
DOCUMENT = Coded("9", RFC3881, "Report Number")
_ERASED = "15"  # ParticipantObjectDataLifeCycle: permanent erasure


def objects_of(transaction: Transaction, body: Element) -> tuple[Object, ...]:
    """What the request names, as the transaction's table wants it; () when it names nothing."""
    reader = _READERS.get(transaction.objects)
    found = [] if reader is None else list(islice(reader(transaction, body), MOST + 1))
    if len(found) <= MOST:
        return tuple(found)
    return (*found[:MOST - 1], Object(f"> {MOST - 1}", found[-1].id_type, found[-1].role))


def message_id_of(body: Element) -> str:
    """Identifier of an HL7 v3 message, `root` or `root^extension`, "" when it has none."""
    header = hl7v3.read_header(body)
    return f"{header.id.root}^{header.id.extension}" if header.id.extension else header.id.root


def _query(transaction: Transaction, body: Element) -> Iterator[Object]:
    """ITI TF-2 §3.18.5.1.2: the query's UUID, the request in base64, its encoding, the community asked.

    Of an HL7 v3 query the parameters alone, under the message's identifier (§3.47.5.1.2, §3.55.5.1.2).
    """
    query = next(body.iter(f"{{{RIM}}}AdhocQuery"), None)
    asked = next(body.iter(f"{{{hl7v3.V3}}}queryByParameter"), body)
    text = etree.tostring(asked, encoding="UTF-8", xml_declaration=False, with_tail=False)
    details = [("QueryEncoding", "UTF-8")]
    if query is not None and query.get("home"):
        details.append(("urn:ihe:iti:xca:2010:homeCommunityId", query.get("home", "")))
    if len(text) > LONGEST_QUERY:
        details.append(("QueryCut", f"{LONGEST_QUERY} / {len(text)}"))
    name = message_id_of(body) if query is None else query.get("id", "")
    yield Object(name or "–", transaction.code, Role.QUERY, query=text[:LONGEST_QUERY], details=tuple(details))


def _submission_set(_: Transaction, body: Element) -> Iterator[Object]:
    """The uniqueId of each submission set; its own id where it has none."""
    for package in body.iter(f"{{{RIM}}}RegistryPackage"):
        identifiers = {one.get("identificationScheme", ""): one.get("value", "")
                       for one in package.iterchildren(f"{{{RIM}}}ExternalIdentifier")}
        if SUBMISSION_SET.unique_id in identifiers:
            yield Object(identifiers[SUBMISSION_SET.unique_id] or package.get("id", "") or "–", SET, Role.JOB)


def _documents(transaction: Transaction, body: Element) -> Iterator[Object]:
    """The documents asked for or to remove, each with its repository and community (ITI TF-2 §3.43.5, §3.86.5)."""
    life_cycle = _ERASED if transaction.action == "D" else ""
    for request in body.iter(f"{{{XDSB}}}DocumentRequest", f"{{{RMD}}}DocumentRequest"):
        texts = {str(part.tag).rpartition("}")[2]: value_of(part) for part in request.iterchildren(etree.Element)}
        details = [(name, texts[key]) for name, key in (("Repository Unique Id", "RepositoryUniqueId"),
                                                        ("ihe:homeCommunityID", "HomeCommunityId")) if texts.get(key)]
        yield Object(texts.get("DocumentUniqueId") or "–", DOCUMENT, Role.REPORT, details=tuple(details),
                     life_cycle=life_cycle)


def _references(_: Transaction, body: Element) -> Iterator[Object]:
    """The registry objects to remove (ITI TF-2 §3.62.5)."""
    for reference in body.iter(f"{{{RIM}}}ObjectRef"):
        yield Object(reference.get("id") or "–", REFERENCE, Role.REPORT, life_cycle=_ERASED)


_READERS: Mapping[str, Callable[[Transaction, Element], Iterator[Object]]] = {
    "query": _query, "submission-set": _submission_set, "documents": _documents, "references": _references}


