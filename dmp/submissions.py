"""French rules on a submission, on top of IHE's: the documents, their patient, visibility, and who signed the lot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from cda.derive import derive
from dmp.rights import MASKED, RULES, SIGNATURE_CLASS
from security.dsig import ReceivedDocument, SignaturePolicy, verify_submission
from security.identity import Caller
from security.trust import Trust
from xds import hl7
from xds.findings import Finding, Refused, Where, errors
from xds.model import DocumentEntry, Submission
from xds.vocabulary import SIGNS

NOT_CDA = RULES["V-DMP-NOT-CDA"]
DOCUMENT_PATIENT = RULES["V-DMP-DOCUMENT-PATIENT"]
DOCUMENT_ID = RULES["V-DMP-DOCUMENT-ID"]
PATIENT_INFO = RULES["V-DMP-PATIENT-INFO"]
SIGNATURE_MISSING = RULES["V-DMP-SIGNATURE-MISSING"]
SIGNATURE_NUMBER = RULES["V-DMP-SIGNATURE-NUMBER"]
SIGNATURE_LINK = RULES["V-DMP-SIGNATURE-LINK"]
SIGNER = RULES["V-DMP-SIGNER"]
MASKING = RULES["V-DMP-MASKING-COMBINED"]

INVISIBLE_PATIENT = "INVISIBLE_PATIENT"
CDA_TYPES = frozenset({"text/xml", "application/xslt+xml"})

#: Reads a submitted document by its symbolic id
Contents = Mapping[str, Callable[[], bytes]]


def is_signature(entry: DocumentEntry) -> bool:
    """Whether an entry is the signature of its submission set (class Digital Signature)."""
    return entry.class_code is not None and entry.class_code.code == SIGNATURE_CLASS


def check_entries(submission: Submission) -> Iterator[Finding]:
    """Rules on metadata alone; the signature document is exempt from them."""
    for entry in submission.documents:
        if is_signature(entry):
            continue
        if not entry.source_patient_info:
            yield PATIENT_INFO.at(_where(entry, "sourcePatientInfo"), expected="PID-5|NOM^PRENOM, PID-7|…, PID-8|…")
        if {MASKED, INVISIBLE_PATIENT} <= {code.code for code in entry.confidentiality}:
            yield MASKING.at(_where(entry, "confidentialityCode"))


def check_documents(submission: Submission, contents: Contents) -> Iterator[Finding]:
    """Each document is a CDA of the patient and the identifier that its metadata say."""
    for entry in submission.documents:
        if is_signature(entry) or entry.mime_type not in CDA_TYPES or entry.id not in contents:
            continue
        try:
            derived = derive(contents[entry.id](), entry_id=entry.id)
        except Refused as refused:
            problem = refused.findings[0]
            where = Where(f"document {entry.unique_id}", problem.where.line, problem.where.column, problem.where.path)
            yield NOT_CDA.at(where, received=problem.fr, document=entry.id)
            continue
        yield from _compare(entry, derived)


def _compare(entry: DocumentEntry, derived: DocumentEntry) -> Iterator[Finding]:
    where = Where(f"document {entry.unique_id}", path="/ClinicalDocument/recordTarget/patientRole/id")
    if derived.patient_id and not hl7.same_patient(derived.patient_id, entry.patient_id):
        yield DOCUMENT_PATIENT.at(where, expected=entry.patient_id, received=derived.patient_id, document=entry.id)
    if derived.unique_id and derived.unique_id != entry.unique_id:
        yield DOCUMENT_ID.at(Where(where.part, path="/ClinicalDocument/id"), expected=entry.unique_id,
                             received=derived.unique_id, document=entry.id)


def check_signature(submission: Submission, contents: Contents, caller: Caller, trust: Trust, at: datetime,
                    required: bool) -> Iterator[Finding]:
    """The lot carries one signature document, linked by `signs`, over exactly its documents, by the caller's key."""
    signatures = [entry for entry in submission.documents if is_signature(entry)]
    if not signatures:
        if required:
            yield SIGNATURE_MISSING.at(Where("metadata", path=f"SubmissionSet({submission.submission_set.id})"))
        return
    if len(signatures) > 1:
        yield SIGNATURE_NUMBER.at(_where(signatures[1]), expected=1, received=len(signatures))
        return
    entry = signatures[0]
    if not any(link.type == SIGNS and link.source == entry.id and link.target == submission.submission_set.id
               for link in submission.associations):
        yield SIGNATURE_LINK.at(_where(entry))
    if entry.id in contents:
        yield from _verify(entry, submission, contents, caller, trust, at)


def _verify(entry: DocumentEntry, submission: Submission, contents: Contents, caller: Caller, trust: Trust,
            at: datetime) -> Iterator[Finding]:
    documents: Sequence[ReceivedDocument] = [
        ReceivedDocument(other.unique_id, other.mime_type, contents[other.id]())
        for other in submission.documents if other.id != entry.id and other.id in contents]
    report = verify_submission(contents[entry.id](), submission.submission_set.unique_id, documents, trust, at,
                               SignaturePolicy())
    yield from report.findings
    if errors(report.findings) or report.signer is None or caller.identity is None:
        return
    if report.signer.national_id != caller.identity.national_id:
        yield SIGNER.at(Where(f"document {entry.unique_id}", path="/Signature/KeyInfo"),
                        expected=caller.identity.national_id, received=report.signer.national_id)


def _where(entry: DocumentEntry, attribute: str = "") -> Where:
    path = f"DocumentEntry({entry.id})"
    return Where("metadata", path=f"{path}/{attribute}" if attribute else path)
