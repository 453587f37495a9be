"""The `dmp` profile at a registry's service: whose record, who is admitted, what the gate shows, who learns what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dmp import record
from dmp.profile import DmpProfile, Signature
from dmp.record import Authorisation, Record
from journal.database import Database
from security.access import Gate
from security.identity import Caller, CardType
from tests.dmp.samples import ACTORS, OTHER, PATIENT, STRANGER, STRUCTURE, caller, facts
from xds.findings import Refused
from xds.hl7 import same_patient

OPEN, ELSEWHERE = 1, 2
PEOPLE = {PATIENT: OPEN, OTHER: ELSEWHERE}


def find(cx: str) -> int | None:
    return next((number for known, number in PEOPLE.items() if same_patient(known, cx)), None)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """One open record whose holder authorised a doctor; a known patient without any record."""
    opened = Database(f"sqlite:///{tmp_path / 'volet.db'}", durable=False)
    opened.migrate("dmp")
    with opened.write() as connection:
        record.write(connection, Record(OPEN))
        record.grant(connection, OPEN, caller().national_id, Authorisation(record.VALID))
    yield opened
    opened.close()


def profile(**changes: Any) -> DmpProfile[Any, Any]:
    return DmpProfile("domain", lambda transaction: ("matrix", transaction), lambda: None,  # type: ignore[arg-type]
                      **changes)


def admit(database: Database, who: Caller, action: str, patient: str = "") -> Gate:
    with database.read() as connection:
        return profile().admit(connection, who, action, patient, find)


def refusal(database: Database, who: Caller, action: str, patient: str = "") -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        admit(database, who, action, patient)
    (finding,) = caught.value.findings
    return finding.code.removeprefix("V-DMP-"), finding.xds


def test_an_authorised_doctor(database: Database) -> None:
    gate = admit(database, caller(), "search", PATIENT)
    assert (gate.only_patient, gate.references_only) == (OPEN, False)
    assert gate.sees is not None
    assert gate.sees(facts())
    assert not gate.sees(facts("60591-5", "N", "MASQUE_PS"))


@pytest.mark.parametrize("action", ["feed", "search", "reference", "retrieve"])
def test_the_gate_is_always_of_the_patient_of_the_vihf(database: Database, action: str) -> None:
    for patient in ("", PATIENT, PATIENT.removesuffix("^NH"), PATIENT.replace("^NH", "^PI")):
        assert admit(database, caller(), action, patient).only_patient == OPEN


@pytest.mark.parametrize("action", ["feed", "search", "retrieve"])
def test_the_message_and_the_vihf_name_one_patient(database: Database, action: str) -> None:
    for patient in (OTHER, STRANGER, "123", PATIENT.replace(".10&", ".11&")):
        assert refusal(database, caller(), action, patient) == ("PATIENT-OF-TOKEN", "XDSPatientIdDoesNotMatch")


def test_a_vihf_names_a_patient(database: Database) -> None:
    assert refusal(database, caller(patient=""), "search", PATIENT) == (
        "PATIENT-MISSING", "XDSPatientIdDoesNotMatch")


def test_an_unknown_patient_and_one_without_a_record_are_told_alike(database: Database) -> None:
    """Nobody learns from the answer who is in the register of patients."""
    told = []
    for patient in (STRANGER, OTHER):
        with pytest.raises(Refused) as caught:
            admit(database, caller(patient=patient), "search", patient)
        told.append([finding.as_dict() for finding in caught.value.findings])
    assert told[0] == told[1]
    assert told[0][0]["xds"] == "XDSUnknownPatientId"


def test_a_refusal_tells_nothing_of_the_record(database: Database) -> None:
    """Neither its holder's name nor its content, whatever the reason."""
    for who in (caller("60", national_id="899999000062"), caller(card_type=CardType.CPA)):
        with pytest.raises(Refused) as caught:
            admit(database, who, "retrieve")
        text = repr([finding.as_dict() for finding in caught.value.findings])
        assert PATIENT.partition("^")[0] not in text


def test_states_of_the_record_and_of_the_authorisation(database: Database) -> None:
    who = caller()
    nurse = caller("60", national_id="899999000062")
    assert refusal(database, nurse, "search") == ("NOT-AUTHORISED", "DMPAccessDeniedByRightsService")
    assert admit(database, nurse, "feed").only_patient == OPEN
    changes = [(Authorisation(record.FORBIDDEN), None, "BLOCKED"), (Authorisation(record.VALID), 1, "NOT-AUTHORISED"),
               (Authorisation(record.NONE), None, "NOT-AUTHORISED")]
    for given, until, expected in changes:
        with database.write() as connection:
            record.grant(connection, OPEN, who.national_id, given, until)
        assert refusal(database, who, "search")[0] == expected
    with database.write() as connection:
        record.write(connection, Record(OPEN, record.CLOSED))
    assert refusal(database, who, "feed") == ("RECORD-CLOSED", "DMPClosed")


def test_an_authorisation_is_of_one_patient_and_one_professional(database: Database) -> None:
    with database.write() as connection:
        record.write(connection, Record(ELSEWHERE))
    assert refusal(database, caller(patient=OTHER), "search", OTHER)[0] == "NOT-AUTHORISED"
    assert refusal(database, caller(national_id="899999000021"), "search")[0] == "NOT-AUTHORISED"


def test_emergencies(database: Database) -> None:
    """Each mode with its opposition; masked documents by the third consent."""
    hidden = facts("60591-5", "N", "MASQUE_PS")
    for mode, opposed in (("b", {"opposition_bris_de_glace": True}), ("r", {"opposition_centre_15": True})):
        who = caller("60", mode, national_id="899999000062")
        for consent in (False, True):
            with database.write() as connection:
                record.write(connection, Record(OPEN, consent_masked_in_emergency=consent))
            gate = admit(database, who, "retrieve")
            assert gate.sees is not None
            assert gate.sees(hidden) is consent
        with database.write() as connection:
            record.write(connection, Record(OPEN, **opposed))
        assert refusal(database, who, "retrieve")[0] == "OPPOSED"
        other_mode = replace(who, mode=caller(mode="r" if mode == "b" else "b").mode)
        assert admit(database, other_mode, "retrieve").only_patient == OPEN


def test_the_declared_doctor(database: Database) -> None:
    with database.write() as connection:
        record.grant(connection, OPEN, caller().national_id, Authorisation(record.VALID, treating=True))
    gate = admit(database, caller(), "retrieve")
    assert gate.sees is not None
    assert gate.sees(facts("60591-5", "N", "MASQUE_PS"))


@pytest.mark.parametrize("name", ["CPE", "ES"])
def test_structures(database: Database, name: str) -> None:
    who = ACTORS[name]
    gate = admit(database, who, "reference")
    assert gate.references_only
    assert gate.sees is not None
    assert gate.sees(facts(authors=frozenset({STRUCTURE})))
    assert not gate.sees(facts())
    for action in ("search", "retrieve"):
        assert refusal(database, who, action)[0] == "NOT-ENTITLED"
    assert not admit(database, caller(), "reference").references_only


@pytest.mark.parametrize("action", ["register", "update", "remove", ""])
def test_transactions_that_the_dmp_does_not_offer(database: Database, action: str) -> None:
    assert refusal(database, caller(), action) == ("NOT-ENTITLED", "DMPAccessDeniedByRightsService")


def test_what_a_profile_is_made_of() -> None:
    made = profile()
    assert (made.name, made.accept_repeat, made.signature, made.domain) == ("dmp", True, Signature.REQUIRED, "domain")
    assert made.requirements("ITI-41") == ("matrix", "ITI-41")
