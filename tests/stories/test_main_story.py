"""The story of the README, by messages: fed from one card, found and read by others, refused to whoever may not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from dmp import record
from dmp.record import Authorisation
from registry import patients
from security.identity import AccessMode
from security.pki import revoke
from tests.stories.client import Card, Client, make_lot, now, signed
from tests.stories.process import Server
from tests.stories.samples import BLOCKING, CAMILLE, CLOSED, MANY, MARCEL, MASKING, NEW, OPPOSED, document, sample
from xds.model import Code
from xds.rim import localized
from xds.vocabulary import APPROVED, DEPRECATED

As = Callable[..., Client]
BRIS_DE_GLACE = {"mode": AccessMode.BRIS_DE_GLACE, "reason": "Patiente inconsciente"}
CENTRE_15 = {"mode": AccessMode.CENTRE_15}


def journalled(server: Server) -> list[str]:
    """Codes of the findings of the last exchange."""
    return [finding["code"] for finding in server.last_exchange()["findings"]]


# --- what the README tells -------------------------------------------------------------------------------------------


def test_a_vsm_is_fed_by_the_treating_doctor_and_read_by_the_cardiologist_byte_for_byte(as_card: As) -> None:
    vsm = document()
    lot, reply = as_card("medecin-traitant").feed(vsm)
    assert (reply.http, reply.status, reply.findings) == (200, "Success", [])
    cardiologist = as_card("cardiologue")
    (entry,) = (found for found in cardiologist.find(CAMILLE).documents
                if found.unique_id == lot.documents[0].unique_id)
    assert (entry.type_code and entry.type_code.code, entry.status, entry.size) == ("SYNTH", APPROVED, str(len(vsm)))
    reply = cardiologist.retrieve(CAMILLE, entry)
    assert reply.status == "Success"
    assert reply.contents == {entry.unique_id: vsm}


def test_the_samples_themselves_are_accepted_and_come_back_as_they_are(as_card: As, server: Server) -> None:
    for name, feeder, reader, mode in (
            ("vsm.xml", "medecin-traitant", "cardiologue", {}), ("ordonnance.xml", "medecin-traitant", "medecin", {}),
            ("dlu.xml", "ehpad", "regulateur-samu", CENTRE_15)):
        lot, reply = as_card(feeder).feed(sample(name))
        assert (reply.status, reply.findings) == ("Success", [])
        client, unique_id = as_card(reader, **mode), lot.documents[0].unique_id
        (entry,) = (found for found in client.find(lot.patient).documents if found.unique_id == unique_id)
        assert client.retrieve(lot.patient, entry).contents == {unique_id: sample(name)}


def test_a_dlu_is_fed_by_the_care_home_and_read_by_the_samu(as_card: As, server: Server) -> None:
    dlu = document("dlu.xml")
    lot, reply = as_card("ehpad").feed(dlu)
    assert (reply.status, reply.findings) == ("Success", [])
    samu, unique_id = as_card("regulateur-samu", **CENTRE_15), lot.documents[0].unique_id
    (entry,) = (found for found in samu.find(MARCEL).documents if found.unique_id == unique_id)
    assert samu.retrieve(MARCEL, entry).contents == {unique_id: dlu}
    exchange = server.last_exchange()
    assert (exchange["name"], exchange["caller_id"], exchange["mode"], exchange["patient"], exchange["verdict"]) == \
        ("ITI-43", samu.card.facts["identifier"], "centre_15", MARCEL, "accepted")  # type: ignore[union-attr]
    assert exchange["documents"] == [{"unique_id": unique_id, "size": len(dlu)}]
    # Without regulation mode the same doctor is a stranger to this patient; the care home feeds and never reads.
    assert as_card("regulateur-samu").find(MARCEL).findings == ["V-DMP-NOT-AUTHORISED"]
    assert as_card("ehpad").find(MARCEL).findings == ["V-DMP-NOT-ENTITLED"]


@pytest.fixture(scope="module")
def vsm_of_camille(as_card: As) -> str:
    """uniqueId of a document that is in the record for sure."""
    lot, reply = as_card("medecin-traitant").feed(document())
    assert reply.status == "Success"
    return lot.documents[0].unique_id


@pytest.mark.parametrize(("name", "finding"), [
    ("ehpad", "V-DMP-NOT-ENTITLED"),
    ("hopital", "V-DMP-NOT-ENTITLED"),
    ("secretaire-cpe", "V-DMP-NOT-ENTITLED"),
    ("cpe-anonyme", "V-DMP-NOT-ENTITLED"),
    ("infirmier", "V-DMP-NOT-AUTHORISED"),
    ("opticien", "V-DMP-NOT-AUTHORISED"),
    ("interne", "V-DMP-NOT-AUTHORISED"),
    ("medecin-travail", "V-DMP-NOT-AUTHORISED"),
    ("regulateur-samu", "V-DMP-NOT-AUTHORISED"),
])
def test_who_may_not_read_is_told_why_and_nothing_else(
        name: str, finding: str, as_card: As, server: Server, vsm_of_camille: str) -> None:
    client = as_card(name)
    (entry,) = (found for found in as_card("cardiologue").find(CAMILLE).documents if found.unique_id == vsm_of_camille)
    # Whoever may not read at all is told so; occupational doctors may search, but never read.
    reading = "V-DMP-NOT-ENTITLED" if name == "medecin-travail" else finding
    for call, expected in ((lambda: client.find(CAMILLE), finding), (lambda: client.retrieve(CAMILLE, entry), reading)):
        reply = call()
        assert (reply.http, reply.status, reply.errors) == (200, "Failure", ["DMPAccessDeniedByRightsService"])
        assert reply.findings == journalled(server) == [expected]
        assert server.last_exchange()["verdict"] == "refused"
        assert not reply.attachments
        assert entry.id.encode() not in reply.raw


# --- rights, document by document ------------------------------------------------------------------------------------


def authorise(server: Server, card: Card, patient: str) -> None:
    """What TD0.3 does: the patient lets a professional read."""
    with server.database() as database, database.write() as connection:
        found = patients.find(connection, patient)
        assert found is not None
        record.grant(connection, found.id, card.facts["identifier"], Authorisation(record.VALID))


def test_an_authorised_professional_sees_the_types_of_the_profession_only(
        as_card: As, cards: Callable[[str], Card], server: Server) -> None:
    vsm, dlu = document("vsm.xml", MANY), document("dlu.xml", MANY)
    lot, reply = as_card("medecin-traitant").feed(vsm, dlu)
    assert (reply.status, reply.findings) == ("Success", [])
    authorise(server, cards("opticien"), MANY)
    both = [entry.unique_id for entry in lot.documents]
    # SYNTH is for nurses and dentists, 74207-2 not for dentists; an optician reads neither.
    for name, seen in (("infirmier", both), ("chirurgien-dentiste", both[:1]), ("opticien", [])):
        client = as_card(name)
        found = [entry for entry in client.find(MANY).documents if entry.unique_id in both]
        assert [entry.unique_id for entry in found] == seen
        entries = as_card("medecin").find(MANY).documents
        reply = client.retrieve(MANY, *(entry for entry in entries if entry.unique_id in both))
        assert list(reply.contents) == seen
        assert reply.errors == ["XDSDocumentUniqueIdError"] * (2 - len(seen))
        assert reply.status == {0: "Failure", 1: "PartialSuccess", 2: "Success"}[len(seen)]


MASKED = Code("MASQUE_PS", "1.2.250.1.213.1.1.4.13", localized("Masqué aux professionnels de santé"))


def test_a_masked_document_is_for_its_author_the_treating_doctor_and_consented_emergencies(as_card: As) -> None:
    author = as_card("cardiologue")
    assert author.card is not None
    lot = make_lot(author.card, document("vsm.xml", MASKING), sign=False).having(
        lambda entry: replace(entry, confidentiality=(*entry.confidentiality, MASKED), authors=(author.card.author,)))
    reply = author.send(signed(lot, author.card))
    assert (reply.status, reply.findings) == ("Success", [])
    unique_id = lot.documents[0].unique_id

    def sees(client: Client) -> bool:
        reply = client.find(MASKING)
        assert reply.status == "Success"
        return unique_id in [entry.unique_id for entry in reply.documents]

    assert sees(author)
    assert sees(as_card("medecin-traitant"))
    assert not sees(as_card("medecin"))
    assert not sees(as_card("pharmacien"))
    assert sees(as_card("medecin", **BRIS_DE_GLACE))
    assert sees(as_card("regulateur-samu", **CENTRE_15))


def test_a_new_version_takes_the_place_of_the_old_one(as_card: As) -> None:
    client = as_card("medecin-traitant")
    assert client.card is not None
    lot, _ = client.feed(document("ordonnance.xml"))
    (old,) = (entry for entry in client.find(CAMILLE).documents if entry.unique_id == lot.documents[0].unique_id)
    other = make_lot(client.card, document("ordonnance.xml"), replaces=old.id)
    assert client.send(other).status == "Success"
    statuses = {entry.unique_id: entry.status
                for entry in client.find(CAMILLE, status=(APPROVED, DEPRECATED)).documents}
    assert statuses[old.unique_id] == DEPRECATED
    assert statuses[other.documents[0].unique_id] == APPROVED
    assert old.unique_id not in [entry.unique_id for entry in client.find(CAMILLE).documents]


def test_a_lot_sent_again_is_answered_as_before_and_kept_once(as_card: As, server: Server) -> None:
    client = as_card("medecin-traitant")
    lot, reply = client.feed(document())
    assert reply.status == "Success"
    kept = server.kept()
    again = client.send(lot)
    assert (again.status, again.errors, again.findings) == ("Success", [], ["V-REG-SUBMISSION-REPEATED"])
    assert server.kept() == kept
    # The same set identifier with something else in it is no repetition.
    other = make_lot(client.card, document(), sign=False)  # type: ignore[arg-type]
    the_set = replace(other.submission.submission_set, unique_id=lot.submission.submission_set.unique_id)
    other = replace(other, submission=replace(other.submission, sets=(the_set,)))
    reply = client.send(signed(other, client.card))  # type: ignore[arg-type]
    assert (reply.status, reply.errors) == ("Failure", ["XDSDuplicateUniqueIdInRegistry"])
    assert server.kept() == kept


# --- the patient's choices -------------------------------------------------------------------------------------------


def test_a_closed_record_is_neither_fed_nor_read(as_card: As, server: Server) -> None:
    kept = server.kept()
    _, reply = as_card("medecin-traitant").feed(document("vsm.xml", CLOSED))
    for answer in (reply, as_card("medecin").find(CLOSED), as_card("regulateur-samu", **CENTRE_15).find(CLOSED)):
        assert (answer.status, answer.errors, answer.findings) == ("Failure", ["DMPClosed"], ["V-DMP-RECORD-CLOSED"])
    assert server.kept() == kept


def test_a_patient_without_a_record_is_answered_like_one_who_is_not_known(as_card: As, server: Server) -> None:
    unknown = CAMILLE.replace("258059999900193", "258059999900290")
    kept = server.kept()
    _, reply = as_card("medecin-traitant").feed(document("vsm.xml", unknown))
    for answer in (reply, as_card("medecin").find(unknown)):
        assert (answer.errors, answer.findings) == (["XDSUnknownPatientId"], ["V-DMP-NO-RECORD"])
    assert server.kept() == kept


def test_blocking_outweighs_authorisation_in_every_mode(as_card: As, server: Server) -> None:
    kept = server.kept()
    for more in ({}, BRIS_DE_GLACE, CENTRE_15):
        assert as_card("cardiologue", **more).find(BLOCKING).findings == ["V-DMP-BLOCKED"]
    _, reply = as_card("cardiologue").feed(document("vsm.xml", BLOCKING))
    assert (reply.errors, reply.findings) == (["DMPAccessDeniedByRightsService"], ["V-DMP-BLOCKED"])
    assert server.kept() == kept
    assert as_card("medecin").find(BLOCKING).status == "Success"


def test_an_opposition_closes_the_emergency_doors_only(as_card: As) -> None:
    for more in (BRIS_DE_GLACE, CENTRE_15):
        assert as_card("regulateur-samu", **more).find(OPPOSED).findings == ["V-DMP-OPPOSED"]
        assert as_card("regulateur-samu", **more).find(CAMILLE).status == "Success"
    assert as_card("medecin").find(OPPOSED).status == "Success"


def test_the_glass_is_not_broken_without_a_reason(as_card: As) -> None:
    reply = as_card("regulateur-samu", mode=AccessMode.BRIS_DE_GLACE).find(CAMILLE)
    assert (reply.http, reply.status) == (400, "Sender/FailedAuthentication")
    assert "V-SEC-VIHF-REASON-MISSING" in reply.findings


def test_a_record_that_nobody_may_read_yet_can_be_fed(as_card: As) -> None:
    lot, reply = as_card("medecin").feed(document("vsm.xml", NEW))
    assert reply.status == "Success"
    assert as_card("medecin").find(NEW).findings == ["V-DMP-NOT-AUTHORISED"]
    reply = as_card("medecin", **BRIS_DE_GLACE).find(NEW)
    assert lot.documents[0].unique_id in [entry.unique_id for entry in reply.documents]


# --- who is calling --------------------------------------------------------------------------------------------------


def refuse_all_three(client: Client, server: Server, header: str | None = None) -> list[tuple[int, str, list[str]]]:
    """Feed, find and retrieve, all refused by a fault that the journal explains, and nothing kept."""
    assert client.card is not None
    lot = make_lot(client.card, document())
    kept = server.kept()
    outcomes = []
    for call in (lambda: client.send(lot, header), lambda: client.find(CAMILLE, header),
                 lambda: client.retrieve(CAMILLE, lot.documents[0], header=header)):
        reply = call()
        assert reply.fault is not None
        assert all(reply.fault.reasons[language] for language in ("fr", "en"))
        assert reply.findings == journalled(server)
        assert server.last_exchange()["verdict"] == "refused"
        outcomes.append((reply.http, reply.status, reply.findings))
    assert server.kept() == kept
    return outcomes


@pytest.mark.parametrize("door", ["https", "http"])
@pytest.mark.parametrize(("name", "finding"), [
    ("expired", "V-SEC-CHAIN-EXPIRED"),
    ("revoked", "V-SEC-CRL-REVOKED"),
    ("other-ca", "V-SEC-CHAIN-UNKNOWN-ISSUER"),
    ("self-signed", "V-SEC-CHAIN-SELF-SIGNED"),
])
def test_a_bad_card_is_refused_by_name(name: str, finding: str, door: str, as_card: As, server: Server) -> None:
    outcomes = refuse_all_three(as_card(name, door=door), server)
    assert outcomes == [(400, "Sender", [finding])] * 3
    if door == "https":
        assert as_card(name).card.facts["family"] in server.last_exchange()["caller"]  # type: ignore[union-attr]


def test_a_card_revoked_while_the_server_runs_is_refused_soon(as_card: As, make_server: Callable[..., Server]) -> None:
    server = make_server("revoking")
    client = Client(server, Card(server.data / "cards" / "cardiologue"))
    assert client.find(CAMILLE).status == "Success"
    revoke(server.data, "cardiologue", now())
    limit = now() + timedelta(seconds=5)
    while (reply := client.find(CAMILLE)).status == "Success":
        assert now() < limit
    assert reply.findings == ["V-SEC-CRL-REVOKED"]


def test_an_expired_or_a_future_assertion_is_refused(as_card: As, server: Server) -> None:
    client = as_card("medecin")
    for minutes, finding in ((-6, "V-SEC-VIHF-EXPIRED"), (6, "V-SEC-VIHF-FUTURE")):
        header = client.vihf(CAMILLE, at=now() + timedelta(minutes=minutes))
        assert refuse_all_three(client, server, header) == [(400, "Sender/MessageExpired", [finding])] * 3


def test_an_assertion_signed_with_the_authentication_key_is_an_invalid_certificate(as_card: As, server: Server) -> None:
    client = as_card("medecin")
    header = client.vihf(CAMILLE, use="auth")
    assert refuse_all_three(client, server, header) == \
        [(400, "Sender/DMPInvalidCertificate", ["V-SEC-CARD-AUTHENTICATION-FOR-SIGNATURE"])] * 3


def test_no_assertion_no_answer(as_card: As, server: Server) -> None:
    assert refuse_all_three(as_card("medecin"), server, "") == \
        [(400, "Sender/InvalidSecurity", ["V-SEC-VIHF-MISSING"])] * 3


def test_no_certificate_no_answer(as_card: As, server: Server) -> None:
    assert refuse_all_three(as_card("medecin", holder=None), server) == \
        [(400, "Sender/FailedAuthentication", ["V-SEC-VIHF-TLS-MISSING"])] * 3


@pytest.mark.parametrize(("holder", "finding"), [
    ("cardiologue", "V-SEC-VIHF-HOLDER-DIFFERS"), ("hopital", "V-SEC-VIHF-HOLDER-KIND"),
    ("revoked", "V-SEC-CRL-REVOKED"), ("self-signed", "V-SEC-CHAIN-SELF-SIGNED")])
def test_another_cards_assertion_is_worth_nothing(
        holder: str, finding: str, as_card: As, cards: Callable[[str], Card], server: Server) -> None:
    outcomes = refuse_all_three(as_card("medecin", holder=cards(holder)), server)
    assert [findings for _, _, findings in outcomes] == [[finding]] * 3


def test_a_changed_assertion_is_refused(as_card: As, server: Server) -> None:
    client = as_card("medecin")
    header = client.vihf(MARCEL).replace(MARCEL.split("^")[0], CAMILLE.split("^")[0])
    assert refuse_all_three(client, server, header) == \
        [(400, "Sender/FailedCheck", ["V-SEC-VIHF-SIGNATURE"])] * 3


def test_an_assertion_is_good_for_its_patient_only(as_card: As, server: Server) -> None:
    client = as_card("medecin-traitant")
    assert client.card is not None
    kept = server.kept()
    lot = make_lot(client.card, document())
    for reply in (client.send(lot, client.vihf(MARCEL)), client.find(CAMILLE, client.vihf(MARCEL))):
        assert (reply.http, reply.errors, reply.findings) == \
            (200, ["XDSPatientIdDoesNotMatch"], ["V-DMP-PATIENT-OF-TOKEN"])
    assert server.kept() == kept
    # A retrieval names no patient: what belongs to another one does not exist.
    assert client.send(lot).status == "Success"
    (entry,) = (found for found in client.find(CAMILLE).documents if found.unique_id == lot.documents[0].unique_id)
    reply = client.retrieve(MARCEL, entry)
    assert (reply.status, reply.errors) == ("Failure", ["XDSDocumentUniqueIdError"])


def test_over_tls_an_assertion_serves_as_long_as_it_is_valid(as_card: As) -> None:
    client = as_card("cardiologue")
    header = client.vihf(CAMILLE)
    assert [client.find(CAMILLE, header).status for _ in range(3)] == ["Success"] * 3


def test_without_tls_an_assertion_serves_once(as_card: As, server: Server) -> None:
    client = as_card("cardiologue", door="http")
    header = client.vihf(CAMILLE)
    assert client.find(CAMILLE, header).status == "Success"
    assert journalled(server) == ["V-SEC-VIHF-HOLDER-UNCHECKED"]
    for _ in range(2):
        reply = client.find(CAMILLE, header)
        assert (reply.http, reply.status, reply.findings) == \
            (400, "Sender/FailedCheck", ["V-VOLET-ASSERTION-REPLAYED"])
    assert client.find(CAMILLE).status == "Success"
    # Used without TLS it is spent there, and still only good over TLS for whoever holds the card.
    assert as_card("medecin", door="http").find(CAMILLE, header).findings == ["V-VOLET-ASSERTION-REPLAYED"]
    assert as_card("cardiologue").find(CAMILLE, header).status == "Success"


def test_the_whole_story_without_tls(as_card: As) -> None:
    vsm = document()
    lot, reply = as_card("medecin-traitant", door="http").feed(vsm)
    assert reply.status == "Success"
    client = as_card("cardiologue", door="http")
    (entry,) = (found for found in client.find(CAMILLE).documents if found.unique_id == lot.documents[0].unique_id)
    assert client.retrieve(CAMILLE, entry).contents == {entry.unique_id: vsm}


# --- documents and signature -----------------------------------------------------------------------------------------


def test_a_lot_without_a_signature_is_refused(as_card: As, server: Server) -> None:
    kept = server.kept()
    _, reply = as_card("medecin-traitant").feed(document(), sign=False)
    assert (reply.status, reply.findings) == ("Failure", ["V-DMP-SIGNATURE-MISSING"])
    assert server.kept() == kept


def test_a_lot_signed_by_another_card_is_refused(as_card: As, cards: Callable[[str], Card], server: Server) -> None:
    client, kept = as_card("medecin-traitant"), server.kept()
    lot = make_lot(cards("medecin"), document())
    reply = client.send(lot)
    assert (reply.status, reply.findings) == ("Failure", ["V-DMP-SIGNER"])
    assert server.kept() == kept


def test_a_document_changed_after_the_signature_is_refused(as_card: As, server: Server) -> None:
    client, kept = as_card("medecin-traitant"), server.kept()
    assert client.card is not None
    lot = make_lot(client.card, document())
    identity = lot.documents[0].id
    changed = lot.contents[identity].replace(b"FICTIF", b"FICTIE", 1)
    reply = client.send(replace(lot, contents={**lot.contents, identity: changed}))
    assert set(reply.findings) == {"V-REP-HASH-DIFFERS", "V-SEC-DSIG-DOCUMENT-DIGEST"}
    assert (reply.http, reply.status) == (200, "Failure")  # of the registry, not of SOAP
    assert set(reply.errors) == {"XDSRepositoryMetadataError", "XDSRepositoryError"}
    assert server.kept() == kept
    # Even when the sender's metadata say the new hash.
    sha1 = hashlib.sha1(changed, usedforsecurity=False).hexdigest()
    reply = client.send(replace(lot.having(lambda entry: replace(entry, hash=sha1)),
                                contents={**lot.contents, identity: changed}))
    assert (reply.status, reply.findings) == ("Failure", ["V-SEC-DSIG-DOCUMENT-DIGEST"])
    assert server.kept() == kept


def test_a_document_of_another_patient_is_refused(as_card: As, server: Server) -> None:
    client, kept = as_card("medecin-traitant"), server.kept()
    assert client.card is not None
    reply = client.send(make_lot(client.card, document("vsm.xml", MARCEL), patient=CAMILLE))
    assert (reply.errors, reply.findings) == (["XDSPatientIdDoesNotMatch"], ["V-DMP-DOCUMENT-PATIENT"])
    assert server.kept() == kept
