"""Answers of transactions: what a handler gives back, and the one place where findings become a failure of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from xds import hl7v3, hl7v3_queries, xcpd
from xds.findings import Finding
from xds.messages import (
    Transaction,
    registry_errors,
    write_query_response,
    write_registry_response,
    write_retrieve_response,
)
from xds.mtom import Part
from xds.vocabulary import FAILURE, SUCCESS
from xds.xml import Element


@dataclass(frozen=True, slots=True)
class Answer:
    """Body of an answer as XML text, and the documents that go beside it (Content-ID, content, size)."""

    body: str
    parts: Sequence[Part] = ()


def success(warnings: Iterable[Finding] = ()) -> Answer:
    """A RegistryResponse of status Success; warnings never change it (ebRS 3.0 §2.1.3)."""
    return Answer(write_registry_response(SUCCESS, registry_errors(warnings)))


def is_fault(findings: Iterable[Finding]) -> bool:
    """Whether the refusal is one of SOAP itself: of what has an error code of XDS too, the registry's answer tells."""
    return any(finding.rule.fault and not finding.rule.xds for finding in findings)


def failure(transaction: Transaction, findings: Sequence[Finding], request: Element | None = None,
            at: datetime | None = None, home: str = "") -> Answer:
    """The transaction's own response with status Failure and every finding (ITI TF-3 §4.2.4).

    `home`: the community where a gateway found them. An HL7 v3 answer also names the message answered and the time:
    `request`, the body of it, and `at`.
    """
    kind = transaction.response.rpartition("}")[2]
    if kind == hl7v3.ACKNOWLEDGEMENT:
        header = hl7v3.Header() if request is None else hl7v3.read_header(request)
        return Answer(hl7v3.write_acknowledgement(header, findings, at))
    if transaction.name == "ITI-55":
        return Answer(xcpd.write_failure(request, findings, at))
    if kind in hl7v3_queries.ANSWERS:
        header, copy = (hl7v3.Header(), hl7v3_queries.Copy()) if request is None else (
            hl7v3.read_header(request), hl7v3_queries.copy_of(request))
        return Answer(hl7v3_queries.write_failure(kind, header, copy, findings, at))
    errors = registry_errors(findings, home)
    if kind == "AdhocQueryResponse":
        return Answer(write_query_response(FAILURE, errors))
    if kind == "RetrieveDocumentSetResponse":
        return Answer(write_retrieve_response(FAILURE, errors))
    return Answer(write_registry_response(FAILURE, errors))
