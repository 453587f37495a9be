"""A client as a vendor would write one, on the house's writers: any card, any mode, both doors, well or badly."""

from __future__ import annotations

import functools
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cda.derive import derive
from dmp.rights import SIGNATURE_CLASS
from security.cards import load_chain
from security.dsig_build import SignedDocument, sign_submission, signature_entry_metadata
from security.identity import AccessMode
from security.vihf_build import build, claims_from_card, security_header
from tests.stories.process import Server
from xds import ebxml, messages, soap
from xds.hl7 import FN, HD, XCN, XON
from xds.messages import TRANSACTIONS, AdhocQuery, DocumentRequest, DocumentSource
from xds.model import Association, Author, Code, DocumentEntry, Submission, SubmissionSet
from xds.mtom import Limits, write_related
from xds.rim import Slot, localized
from xds.vocabulary import APPROVED, DEPRECATED, HAS_MEMBER, RPLC
from xds.xml import Element

DMP_PATH = "/si-dmp-server/v2/services/"
SERVICE = {"ITI-18": "registry", "ITI-42": "registry", "ITI-41": "repository", "ITI-43": "repository"}
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
TIMEOUT = 30
OWN = "own"  # the TLS connection is the caller's own card's
SOURCE_ID = "1.2.250.1.999.1.9"
CONTENT_TYPE = Code("07", "1.2.250.1.213.2.2", localized("Consultation"))
_CODE = re.compile(r"\bV-[A-Z0-9]+(?:-[A-Z0-9]+)+\b")


def new_oid() -> str:
    """An OID nobody has."""
    return f"2.25.{uuid.uuid4().int}"


def now() -> datetime:
    """The present moment, aware."""
    return datetime.now(UTC)


# --- cards -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """A folder of `cards/`: both key pairs and what `card.json` says."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """`card.json`."""
        return dict(json.loads((self.folder / "card.json").read_text("utf-8")))

    @functools.cached_property
    def keys(self) -> dict[str, Any]:
        """Private keys, "auth" and "sign"."""
        return {use: load_pem_private_key((self.folder / f"{use}.key").read_bytes(), None) for use in ("auth", "sign")}

    @functools.cached_property
    def chains(self) -> dict[str, Any]:
        """Certificates, leaf first, "auth" and "sign"."""
        return {use: load_chain((self.folder / f"{use}.pem").read_bytes()) for use in ("auth", "sign")}

    @property
    def tls(self) -> tuple[str, str]:
        """Certificate and key for TLS, as `requests` takes them."""
        return str(self.folder / "auth.pem"), str(self.folder / "auth.key")

    def vihf(self, patient: str, at: datetime | None = None, use: str = "sign", **changes: Any) -> str:
        """A security header for a patient; `changes` replace claims, `use` is the key pair that signs."""
        claims = claims_from_card(self.facts, **{"patient": patient, "lps_name": "Essai", "lps_version": "1",
                                                 "lps_homologation": "ESSAI-0", **changes})
        return security_header(build(claims, self.keys[use], self.chains[use][0], at or now()))

    @property
    def author(self) -> Author:
        """The holder as author of a submission set."""
        facts = self.facts
        person = XCN(facts["identifier"], FN(facts["family"]), facts["given"], authority=HD(
            universal_id="1.2.250.1.71.4.2.1", universal_id_type="ISO"), name_type="D", type_code="IDNPS")
        place = XON(facts["structure"]["name"], authority=HD(
            universal_id="1.2.250.1.71.4.2.2", universal_id_type="ISO"), type_code="IDNST", id=facts["structure"]["id"])
        return Author(persons=(str(person),), institutions=(str(place),))


# --- submission sets -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lot:
    """A submission set with the bytes of its documents, ready to be sent."""

    submission: Submission
    contents: Mapping[str, bytes]

    @property
    def patient(self) -> str:
        """The patient of the set."""
        return self.submission.submission_set.patient_id

    @property
    def documents(self) -> list[DocumentEntry]:
        """Its entries but for the signature."""
        return [entry for entry in self.submission.documents
                if entry.class_code is None or entry.class_code.code != SIGNATURE_CLASS]

    def body(self, sources: Mapping[str, DocumentSource] | None = None) -> str:
        """The ITI-41 request; documents by xop:Include unless `sources` say otherwise."""
        return messages.write_provide(ebxml.from_submission(self.submission), sources or {
            identity: DocumentSource("include", f"{identity}@essai") for identity in self.contents})

    def parts(self) -> list[tuple[str, bytes, int]]:
        """The parts that go with `body()`."""
        return [(f"{identity}@essai", content, len(content)) for identity, content in self.contents.items()]

    def having(self, change: Callable[[DocumentEntry], DocumentEntry]) -> Lot:
        """The same with its first entry changed."""
        first, *others = self.submission.documents
        return replace(self, submission=replace(self.submission, documents=(change(first), *others)))


def make_lot(card: Card, *contents: bytes, sign: bool = True, replaces: str = "", patient: str = "") -> Lot:
    """A French lot: entries derived from the CDA headers, signed by the card; the first `replaces` an entryUUID."""
    moment = now()
    entries = [derive(content, entry_id=f"Document{number:02}") for number, content in enumerate(contents, 1)]
    entries = [replace(entry, patient_id=patient) for entry in entries] if patient else entries
    the_set = SubmissionSet(
        id="SubmissionSet01", unique_id=new_oid(), source_id=SOURCE_ID, patient_id=entries[0].patient_id,
        submission_time=f"{moment:%Y%m%d%H%M%S}", authors=(card.author,), content_type=CONTENT_TYPE)
    links = [Association(f"As{number:02}", HAS_MEMBER, the_set.id, entry.id, submission_set_status="Original")
             for number, entry in enumerate(entries, 1)]
    if replaces:
        links.append(Association("Replacement", RPLC, entries[0].id, replaces))
    lot = Lot(Submission((the_set,), tuple(entries), (), tuple(links)),
              {entry.id: content for entry, content in zip(entries, contents, strict=True)})
    return signed(lot, card, moment) if sign else lot


def signed(lot: Lot, card: Card, moment: datetime | None = None) -> Lot:
    """The lot with its signature document."""
    the_set, moment = lot.submission.submission_set, moment or now()
    documents = [SignedDocument(entry.unique_id, lot.contents[entry.id]) for entry in lot.submission.documents]
    signature = sign_submission(the_set.unique_id, documents, card.keys["sign"], card.chains["sign"], moment)
    made = signature_entry_metadata(signature, new_oid(), lot.submission.documents[0], the_set, moment)
    submission = replace(lot.submission, documents=(*lot.submission.documents, made.entry),
                         associations=(*lot.submission.associations, made.has_member, made.signs))
    return Lot(submission, {**lot.contents, made.entry.id: signature})


def fresh(content: bytes, insertion: bytes = b"") -> bytes:
    """A CDA document as another one: its own identifier, and bytes that only it has (a comment at its end)."""
    renamed, number = re.subn(rb'<id root="[0-9.]+"/>', b'<id root="' + new_oid().encode() + b'"/>', content, count=1)
    assert number == 1, "the document has no plain <id root=…/>"
    return renamed + (b"<!--" + insertion + b"-->" if insertion else b"")


# --- answers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """An answer taken apart."""

    http: int
    content_type: str
    body: Element
    attachments: Mapping[str, bytes]
    action: str
    relates_to: str
    raw: bytes = field(repr=False, default=b"")

    @classmethod
    def of(cls, http: int, content_type: str, raw: bytes) -> Reply:
        """Read by the house's own reader; `Refused` when it is no SOAP message."""
        parts = soap.read_message(content_type, raw, Limits(parts=10_000))
        envelope = soap.read_envelope(parts.root)
        return cls(http, content_type, envelope.body, parts.attachments, envelope.action, envelope.relates_to, raw)

    @property
    def fault(self) -> soap.Fault | None:
        """The fault it is, if any."""
        return soap.read_fault(self.body)

    @property
    def response(self) -> messages.RegistryResponse | messages.QueryResponse | messages.RetrieveResponse:
        """The response it is."""
        assert self.fault is None, str(self.fault)
        name = str(self.body.tag).rpartition("}")[2]
        return {"AdhocQueryResponse": messages.read_query_response, "RegistryResponse": messages.read_registry_response,
                "RetrieveDocumentSetResponse": messages.read_retrieve_response}[name](self.body)

    @property
    def status(self) -> str:
        """Success, Failure, PartialSuccess; for a fault its code and subcodes."""
        if self.fault is not None:
            return "/".join((self.fault.code, *self.fault.subcodes))
        return self.response.status.rpartition(":")[2]

    @property
    def errors(self) -> list[str]:
        """errorCodes of severity Error."""
        return [error.code for error in self.response.errors if error.severity.endswith("Error")]

    @property
    def findings(self) -> list[str]:
        """Codes of the findings that a fault or an error list tells of."""
        if self.fault is not None:
            return [finding["code"] for finding in self.fault.findings]
        return [_CODE.findall(error.context)[-1] for error in self.response.errors]

    @property
    def documents(self) -> list[DocumentEntry]:
        """Entries of a query's answer."""
        assert isinstance(self.response, messages.QueryResponse)
        return list(ebxml.to_submission(self.response.objects).documents)

    @property
    def found(self) -> Submission:
        """Objects of a query's answer."""
        assert isinstance(self.response, messages.QueryResponse)
        return ebxml.to_submission(self.response.objects)

    @property
    def references(self) -> list[str]:
        """ObjectRefs of a query's answer."""
        assert isinstance(self.response, messages.QueryResponse)
        return [reference.id for reference in self.response.references]

    @property
    def contents(self) -> dict[str, bytes]:
        """Documents of a retrieval, by uniqueId."""
        assert isinstance(self.response, messages.RetrieveResponse)
        return {document.unique_id: self.attachments[document.content_id] if document.content_id else document.data
                for document in self.response.documents}


# --- the client ------------------------------------------------------------------------------------------------------


@dataclass
class Client:
    """Somebody who calls a server: a card for the VIHF, and one in the TLS connection, the same unless told."""

    server: Server
    card: Card | None = None
    door: str = "https"
    mode: AccessMode = AccessMode.NORMAL
    reason: str = ""
    path: str = DMP_PATH
    holder: Card | str | None = OWN
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.verify = str(self.server.data / "pki" / "ca.pem")
        self.session.trust_env = False
        holder = self.card if self.holder == OWN else self.holder
        if isinstance(holder, Card) and self.door == "https":
            self.session.cert = holder.tls

    def address(self, name: str) -> str:
        """Where a transaction is sent."""
        return self.server.url(self.path + SERVICE[name], self.door)

    def vihf(self, patient: str, **changes: Any) -> str:
        """The security header of this caller for a patient, "" without a card."""
        if self.card is None:
            return ""
        return self.card.vihf(patient, **{"mode": self.mode, "reason": self.reason, **changes})

    def envelope(self, name: str, body: str, header: str) -> bytes:
        """The SOAP request of a transaction."""
        return soap.write_request(body, TRANSACTIONS[name].action, self.address(name), soap.new_message_id(), header)

    def package(self, name: str, body: str, header: str, parts: Sequence[tuple[str, bytes, int]] | None = None
                ) -> tuple[str, bytes]:
        """Content-Type and bytes of a request, an MTOM package where the transaction is one."""
        envelope, action = self.envelope(name, body, header), TRANSACTIONS[name].action
        if parts is None and not TRANSACTIONS[name].mtom:
            return f'application/soap+xml; charset=UTF-8; action="{action}"', envelope
        content_type, pieces, _ = write_related(envelope, parts or (), action)
        return content_type, b"".join(pieces)

    def post(self, name: str, content_type: str, data: bytes | Iterable[bytes], **headers: str) -> Reply:
        """Send bytes to where a transaction goes."""
        answer = self.session.post(self.address(name), data=data, headers={"Content-Type": content_type, **headers},
                                   timeout=TIMEOUT)
        return Reply.of(answer.status_code, answer.headers.get("Content-Type", ""), answer.content)

    def call(self, name: str, body: str, patient: str = "", parts: Sequence[tuple[str, bytes, int]] | None = None,
             header: str | None = None) -> Reply:
        """One transaction; `header` instead of this caller's own VIHF."""
        content_type, data = self.package(name, body, self.vihf(patient) if header is None else header, parts)
        return self.post(name, content_type, data)

    # The three transactions of every day

    def send(self, lot: Lot, header: str | None = None) -> Reply:
        """Feed a lot (ITI-41)."""
        return self.call("ITI-41", lot.body(), lot.patient, lot.parts(), header)

    def feed(self, *contents: bytes, sign: bool = True) -> tuple[Lot, Reply]:
        """Feed documents as one lot."""
        assert self.card is not None
        lot = make_lot(self.card, *contents, sign=sign)
        return lot, self.send(lot)

    def find(self, patient: str, header: str | None = None, status: Sequence[str] = (APPROVED,)) -> Reply:
        """FindDocuments (ITI-18)."""
        return self.call("ITI-18", find_documents(patient, status), patient, header=header)

    def retrieve(self, patient: str, *entries: DocumentEntry, header: str | None = None) -> Reply:
        """Retrieve documents (ITI-43)."""
        body = messages.write_retrieve(DocumentRequest("", entry.repository_unique_id, entry.unique_id)
                                       for entry in entries)
        return self.call("ITI-43", body, patient, header=header)


def find_documents(patient: str, status: Sequence[str] = (APPROVED, DEPRECATED), return_type: str = "LeafClass",
                   **filters: Sequence[str]) -> str:
    """A FindDocuments request; `filters`: values of `$XDSDocumentEntry…` parameters, as they are written."""
    slots = [Slot("$XDSDocumentEntryPatientId", (f"'{patient}'",)),
             Slot("$XDSDocumentEntryStatus", (f"({','.join(repr(one) for one in status)})",)),
             *(Slot(f"$XDSDocumentEntry{name}", tuple(values)) for name, values in filters.items())]
    return messages.write_query(AdhocQuery(FIND_DOCUMENTS, return_type=return_type, slots=tuple(slots)))
