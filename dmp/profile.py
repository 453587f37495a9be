"""The `dmp` profile: French rules and rights, in the shape that the registry asks a profile for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, TypeVar

from sqlalchemy import Connection

from dmp import record, rights, submissions
from dmp.rights import NO_RECORD, RULES, Standing
from dmp.submissions import Contents
from security.access import FindPatient, Gate
from security.identity import Caller
from security.trust import Trust
from xds import hl7
from xds.findings import Finding, Refused, Where
from xds.model import Submission

PATIENT_MISSING = RULES["V-DMP-PATIENT-MISSING"]
PATIENT_OF_TOKEN = RULES["V-DMP-PATIENT-OF-TOKEN"]

FIND_PATIENTS = "find-patients"

Domain = TypeVar("Domain")
Matrix = TypeVar("Matrix")


class Signature(StrEnum):
    """What is done with the signature of a submission set."""

    REQUIRED = "required"
    ACCEPTED = "accepted"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class DmpProfile(Generic[Domain, Matrix]):
    """French rules. `matrix` gives the requirement matrix of a transaction; `trust` the anchors in force."""

    domain: Domain
    matrix: Callable[[str], Matrix]
    trust: Callable[[], Trust]
    signature: Signature = Signature.REQUIRED
    name: str = "dmp"
    accept_repeat: bool = True

    def requirements(self, transaction: str) -> Matrix:
        """IHE's matrix with the DMP's cells over it."""
        return self.matrix(transaction)

    def admit(self, connection: Connection, caller: Caller, action: str, patient: str, find: FindPatient) -> Gate:
        """Refused with the rule that decided, or what the caller sees.

        The patient is always the VIHF's, but where one is looked for (TD0.5): then there is none yet.
        """
        if action == FIND_PATIENTS:
            _refuse(rights.refusals_without_record(caller, action))
            return Gate()
        if not caller.patient:
            raise Refused(PATIENT_MISSING.at(Where("VIHF", path="resource-id")))
        if patient and not hl7.same_patient(patient, caller.patient):
            raise Refused(PATIENT_OF_TOKEN.at(Where("VIHF", path="resource-id"), expected=caller.patient,
                                              received=patient))
        patient_id = find(caller.patient)
        if patient_id is None:
            # The same answer for a patient who is not known and for one without a record.
            raise Refused(NO_RECORD.at(Where("caller", path=caller.national_id)))
        standing = _standing(connection, caller, patient_id)
        _refuse(rights.refusals(standing, action))
        return Gate(patient_id, rights.sees(standing, action),
                    references_only=action == "reference" and standing.actor in {"CPE", "ES"})

    def check(self, submission: Submission, contents: Contents, caller: Caller) -> Iterator[Finding]:
        """French rules on metadata, documents and signature, all findings."""
        yield from submissions.check_entries(submission)
        yield from submissions.check_documents(submission, contents)
        if self.signature is not Signature.IGNORED:
            yield from submissions.check_signature(submission, contents, caller, self.trust(), datetime.now(UTC),
                                                   self.signature is Signature.REQUIRED)

    def merged(self, connection: Connection, survivor: int, subsumed: int) -> None:
        """An identity took another's place (NIA by NIR): so does the record, with all that was granted."""
        record.inherit(connection, survivor, subsumed)


def _refuse(findings: list[Finding]) -> None:
    if findings:
        raise Refused(findings)


def _standing(connection: Connection, caller: Caller, patient_id: int) -> Standing:
    authorisation = record.standing(connection, patient_id, caller.national_id)
    return Standing(caller, record.read(connection, patient_id), authorisation,
                    rights.actor_of(caller, authorisation))
