"""The command line against a server that answers what it is told: what is shown, written and returned."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from security.cards import load_chain
from security.pki import load_specs
from tests.volet.fake import (
    Fake,
    Reply,
    Request,
    failed,
    fault,
    found,
    references,
    registered,
    retrieved,
    serving,
    tls_of,
)
from volet import __version__
from volet.cli import app, show
from volet.cli import journal as journal_command
from volet.client.submission import read_document
from xds import ebxml, messages
from xds.findings import Catalogue, Where
from xds.messages import RegistryError, registry_error
from xds.model import DocumentEntry, Submission
from xds.vocabulary import APPROVED, DEPRECATED, PARTIAL_SUCCESS, RPLC, SEVERITY_WARNING

ROOT = Path(__file__).parents[2]
VSM, DLU = (ROOT / "samples" / name for name in ("vsm.xml", "dlu.xml"))
INS = "258059999900193"
CX = f"{INS}^^^&1.2.250.1.213.1.4.10&ISO^NH"
UID = "2.25.272952060304886944021713701316558716181"
NOT_AUTHORISED = Catalogue("dmp")["V-DMP-NOT-AUTHORISED"].at(Where("caller", 0, 0, "899999000013"), expected="VALIDE",
                                                          received="NON_EXISTE")
EXPIRED = Catalogue("security")["V-SEC-VIHF-EXPIRED"].at(Where("VIHF", 3), expected="0:05:00", received="1:00:00",
                                                         issued="2026-01-31T09:00:00Z")


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, pki: Path) -> None:
    """Cards by their names; nothing of the environment in the way."""
    for name in list(os.environ):
        if name.startswith("VOLET_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VOLET_DATA", str(pki))
    monkeypatch.setattr(journal_command, "_EVERY", 0.0)


def volet(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def asked(fake: Fake, command: str, *arguments: object, card: str = "medecin") -> Result:
    return volet(command, *arguments, "--card", card, "--url", fake.url)


def data(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.fixture
def entry() -> DocumentEntry:
    return replace(read_document(VSM).entry, status=APPROVED, lid="urn:uuid:11d", repository_unique_id="1.2.3")


# --- usage ---------------------------------------------------------------------------------------------------------


def test_the_version() -> None:
    assert volet("--version").stdout == f"volet {__version__}\n"


@pytest.mark.parametrize("command", [["push"], ["find"], ["get"], ["journal"], ["card", "show"], ["card", "list"]])
def test_help_comes_with_an_example(command: list[str]) -> None:
    result = volet(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: volet {' '.join(command)}" in " ".join(result.stdout.split())


P = ("--patient", INS)


@pytest.mark.parametrize("arguments", [
    ["push", VSM], ["push", "absent.xml", "--card", "medecin"], ["push", VSM, "--card", "nobody"],
    ["push", VSM, DLU, "--card", "medecin", "--replace", "1.2"], ["push", VSM, "--card", "medecin", "--mask", "all"],
    ["push", VSM, "--card", "medecin", "--url", "ftp://x"], ["push", VSM, "--card", "medecin", "--url", "http://x:0x"],
    ["push", VSM, "--card", "medecin", "--ca", "absent.pem"], ["push", VSM, "--card", "medecin", "--patient", "12"],
    ["find", "--card", "medecin"], ["find", "--card", "medecin", *P, "--type", "NO-TYPE"],
    ["find", "--card", "medecin", *P, "--since", "hier"], ["find", "--card", "medecin", *P, "--status", "deleted"],
    ["find", "--card", "medecin", *P, "--mode", "bris_de_glace"],
    ["find", "--card", "medecin", *P, "--mode", "bris_de_glace", "--reason", " "],
    ["find", "--card", "medecin", *P, "--reason", "curiosité"],
    ["find", "--card", "medecin", "--patient", f"{INS}^^^A"],
    ["get", "1.2", "--card", "medecin", *P], ["get", "--card", "medecin", *P, "-o", "x"],
    ["card", "show", "nobody"], ["card", "list", "--data", "nowhere"], ["journal", "--url", "here"],
    ["journal", "--verdict", "bad"], ["unknown"]])
def test_wrong_usage(arguments: list[object]) -> None:
    result = volet(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.stderr


# --- push ----------------------------------------------------------------------------------------------------------


def test_a_document_is_submitted() -> None:
    with serving(registered()) as fake:
        result = asked(fake, "push", VSM)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Déposé : Synthèse médicale ({VSM})\n    {UID}\n    urn:uuid:")


def sent(request: Request, folder: Path) -> Submission:
    envelope = request.envelope(folder)
    read = messages.read_provide(envelope.body)
    return ebxml.to_submission(read.objects)


def test_the_answer_for_programs_names_what_was_registered(tmp_path: Path) -> None:
    with serving(registered()) as fake:
        result = asked(fake, "push", VSM, "--json", "--mask", "ps")
    submission, answer = sent(fake.requests[0], tmp_path), data(result)
    assert answer["status"] == "Success"
    assert answer["submission_set"] == submission.submission_set.unique_id
    assert answer["documents"] == [{"unique_id": UID, "entry_uuid": submission.documents[0].id, "file": str(VSM)}]
    assert answer["transaction"] == fake.requests[0].envelope(tmp_path).message_id
    assert answer["findings"] == []
    assert "MASQUE_PS" in {code.code for code in submission.documents[0].confidentiality}


def test_several_patients_are_several_submissions(tmp_path: Path) -> None:
    with serving(registered(), failed(registry_error(NOT_AUTHORISED))) as fake:
        result = asked(fake, "push", VSM, DLU, "--json")
    answer = data(result)
    assert result.exit_code == 1
    assert [sent(request, tmp_path).submission_set.patient_id for request in fake.requests] == [
        CX, "134119999900256^^^&1.2.250.1.213.1.4.10&ISO^NH"]
    assert answer["status"] == "Failure"
    assert [one["status"] for one in answer["submissions"]] == ["Success", "Failure"]
    assert [document["file"] for document in answer["documents"]] == [str(VSM)]  # what was registered
    assert answer["submissions"][1]["files"] == [str(DLU)]


def test_a_warning_does_not_make_a_failure() -> None:
    warning = replace(registry_error(NOT_AUTHORISED), severity=SEVERITY_WARNING)
    with serving(registered(warning)) as fake:
        result = asked(fake, "push", VSM)
    assert result.exit_code == 0
    assert "ATTENTION V-DMP-NOT-AUTHORISED" in result.stderr


@pytest.mark.parametrize("reply", [failed(registry_error(NOT_AUTHORISED)), fault(NOT_AUTHORISED)])
@pytest.mark.parametrize("lang", ["fr", "en"])
def test_a_refusal_says_everything(reply: Reply, lang: str) -> None:
    with serving(reply) as fake:
        result = asked(fake, "push", VSM, "--lang", lang)
    shown = NOT_AUTHORISED.as_dict()
    assert result.exit_code == 1
    assert result.stdout == ""
    text = " ".join(result.stderr.split())
    for part in ("V-DMP-NOT-AUTHORISED", shown[lang], shown["hint" if lang == "fr" else "hint_en"], "899999000013",
                 "VALIDE", "NON_EXISTE"):
        assert " ".join(part.split()) in text
    assert ("attendu" in text) == (lang == "fr")


def test_a_fault_shows_the_line() -> None:
    with serving(fault(EXPIRED)) as fake:
        result = asked(fake, "push", VSM)
    assert "VIHF, ligne 3" in result.stderr


def test_the_language_is_a_setting_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLET_LANG", "en")
    with serving(fault(EXPIRED)) as fake:
        assert "VIHF, line 3" in asked(fake, "push", VSM).stderr


def test_a_refusal_for_programs() -> None:
    with serving(fault(EXPIRED)) as fake:
        result = asked(fake, "push", VSM, "--json")
    answer = data(result)
    assert (result.exit_code, answer["status"]) == (1, "Failure")
    (finding,) = answer["findings"]
    assert (finding["code"], finding["where"]["line"], finding["expected"]) == ("V-SEC-VIHF-EXPIRED", 3, "0:05:00")


def test_an_error_of_another_server() -> None:
    with serving(failed(RegistryError("XDSRepositoryError", "disque plein"))) as fake:
        result = asked(fake, "push", VSM)
    assert "ERREUR XDSRepositoryError  disque plein" in result.stderr


def test_nothing_is_sent_when_a_file_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<a/>")
    (tmp_path / "b.xml").write_text("no XML")
    with serving(registered()) as fake:
        result = asked(fake, "push", VSM, tmp_path / "a.xml", tmp_path / "b.xml", "--json")
    assert result.exit_code == 1
    assert [(item["code"], item["where"]["part"]) for item in data(result)["findings"]] == [
        ("V-CDA-NOT-A-DOCUMENT", "a.xml"), ("V-XML-NOT-WELL-FORMED", "b.xml")]
    assert fake.requests == []


def test_a_replacement_names_the_entry(tmp_path: Path) -> None:
    with serving(references("urn:uuid:0ld"), registered()) as fake:
        result = asked(fake, "push", VSM, "--replace", "1.2.3")
    assert result.exit_code == 0
    assert messages.read_query(fake.requests[0].envelope(tmp_path).body).return_type == "ObjectRef"
    submission = sent(fake.requests[1], tmp_path)
    (link,) = [link for link in submission.associations if link.type == RPLC]
    assert (link.source, link.target) == (submission.documents[0].id, "urn:uuid:0ld")


def test_of_several_entries_the_one_in_force_is_replaced(entry: DocumentEntry, tmp_path: Path) -> None:
    versions = found(replace(entry, id="urn:uuid:1", status=DEPRECATED), replace(entry, id="urn:uuid:2"))
    with serving(references("urn:uuid:1", "urn:uuid:2"), versions, registered()) as fake:
        asked(fake, "push", VSM, "--replace", UID)
    links = sent(fake.requests[2], tmp_path).associations
    assert [link.target for link in links if link.type == RPLC] == ["urn:uuid:2"]


def test_what_is_not_there_is_not_replaced() -> None:
    with serving(references()) as fake:
        result = asked(fake, "push", VSM, "--replace", "1.2.3")
    assert result.exit_code == 1
    assert "V-VOLET-CLIENT-NOT-FOUND" in result.stderr
    assert len(fake.requests) == 1


# --- the way -------------------------------------------------------------------------------------------------------


def test_no_server() -> None:
    with serving(registered()) as fake:
        pass
    result = asked(fake, "push", VSM)
    assert result.exit_code == 1
    assert "V-VOLET-CLIENT-UNREACHABLE" in result.stderr
    assert "make run" in result.stderr
    assert "Traceback" not in result.output


def test_the_anchors_beside_the_cards_are_the_default(pki: Path) -> None:
    with serving(found(), tls=tls_of(pki, pki / "pki" / "ca.pem")) as fake:
        assert asked(fake, "find", *P).exit_code == 0


def test_other_anchors_do_not_do(pki: Path) -> None:
    with serving(found(), tls=tls_of(pki)) as fake:
        result = asked(fake, "find", *P, "--ca", pki / "cards" / "other-ca" / "ca.pem")
    assert result.exit_code == 1
    assert "V-VOLET-CLIENT-SERVER-CERTIFICATE" in result.stderr


def test_a_failure_on_the_way_for_programs() -> None:
    with serving(found()) as fake:
        pass
    answer = data(asked(fake, "find", *P, "--json"))
    assert answer["documents"] == []
    assert answer["findings"][0]["code"] == "V-VOLET-CLIENT-UNREACHABLE"


# --- find ----------------------------------------------------------------------------------------------------------


def test_documents_are_listed_newest_first(entry: DocumentEntry) -> None:
    with serving(found(replace(entry, unique_id="1.1", creation_time="2025"), replace(entry, id="urn:uuid:2"))) as fake:
        result = asked(fake, "find", *P)
    assert result.exit_code == 0
    rows = [line.split("   ") for line in result.stdout.splitlines() if "Synthèse médicale" in line]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["Synthèse médicale", "Synthèse", when, "FICTIF Bernard, CABINET DU DOCTEUR FICTIF", "en vigueur", uid]
        for when, uid in (("2026-09-14 10:30", UID), ("2025", "1.1"))]


def test_documents_for_programs(entry: DocumentEntry) -> None:
    with serving(found(replace(entry, status=DEPRECATED))) as fake:
        answer = data(asked(fake, "find", *P, "--json"))
    (document,) = answer["documents"]
    shape = {"entry_uuid": entry.id, "lid": entry.lid, "unique_id": UID, "type": "SYNTH", "title": "Synthèse médicale",
             "created": "2026-09-14T08:30:00Z", "status": "deprecated", "confidentiality": ["N"],
             "author": "FICTIF Bernard, CABINET DU DOCTEUR FICTIF"}
    assert {key: document[key] for key in shape} == shape
    assert answer["findings"] == []


def test_identifiers_stay_whole_on_a_narrow_terminal(entry: DocumentEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "_UNBOUNDED", 80)
    with serving(found(entry)) as fake:
        lines = asked(fake, "find", *P).stdout.splitlines()
    assert lines == ["Synthèse médicale (en vigueur)",
                     "    Synthèse · 2026-09-14 10:30 · FICTIF Bernard, CABINET DU DOCTEUR FICTIF", f"    {UID}"]


def test_a_record_without_documents() -> None:
    with serving(found()) as fake:
        assert asked(fake, "find", *P).stdout == "Aucun document.\n"


def test_criteria_of_a_search(tmp_path: Path) -> None:
    with serving(found()) as fake:
        asked(fake, "find", *P, "--type", "SYNTH", "--type", "X^^9.9", "--since", "2026-01-31", "--status", "archived",
              "--status", "approved")
    slots = {slot.name.removeprefix("$XDSDocumentEntry"): slot.values
             for slot in messages.read_query(fake.requests[0].envelope(tmp_path).body).slots}
    assert slots == {
        "PatientId": (f"'{CX}'",), "TypeCode": ("('SYNTH^^1.2.250.1.213.1.1.4.12')", "('X^^9.9')"),
        "CreationTimeFrom": ("'20260130230000'",),
        "Status": ("('urn:asip:ci-sis:2010:StatusType:Archived')", f"('{APPROVED}')")}


@pytest.mark.parametrize(("patient", "cx"), [
    (INS, CX), (CX, CX), ("258052A99900193", None),
    ("123^^^&1.2.250.1.213.1.4.8&ISO^NH", "123^^^&1.2.250.1.213.1.4.8&ISO^NH")])
def test_patients_as_people_write_them(patient: str, cx: str | None, tmp_path: Path) -> None:
    with serving(found()) as fake:
        asked(fake, "find", "--patient", patient)
    slots = messages.read_query(fake.requests[0].envelope(tmp_path).body).slots
    assert slots[0].values == (f"'{cx or patient + '^^^&1.2.250.1.213.1.4.10&ISO^NH'}'",)


# --- get -----------------------------------------------------------------------------------------------------------


def getting(fake: Fake, folder: Path, *arguments: object) -> Result:
    return asked(fake, "get", UID, *P, "-o", folder / "new", *arguments)


def test_a_document_is_written_byte_for_byte(entry: DocumentEntry, tmp_path: Path) -> None:
    with serving(found(entry), retrieved({UID: VSM.read_bytes()})) as fake:
        result = getting(fake, tmp_path)
    path = tmp_path / "new" / f"{UID}.xml"
    assert result.stdout == f"{path}  identique à ses métadonnées (SHA-1)\n"
    assert path.read_bytes() == VSM.read_bytes()
    assert list(path.parent.iterdir()) == [path]
    (request,) = messages.read_retrieve(fake.requests[1].envelope(tmp_path).body)
    assert (request.repository_unique_id, request.document_unique_id) == ("1.2.3", UID)


def test_a_large_document_comes_through_the_disk(entry: DocumentEntry, tmp_path: Path) -> None:
    large = os.urandom(3 << 20)
    digest = hashlib.sha1(large).hexdigest()
    with serving(found(replace(entry, hash=digest.upper())), retrieved({UID: large})) as fake:
        result = getting(fake, tmp_path, "--json")
    (document,) = data(result)["documents"]
    assert (document["intact"], document["sha1"], document["size"]) == (True, digest, len(large))
    assert Path(document["file"]).read_bytes() == large


def test_an_altered_document_is_told(entry: DocumentEntry, tmp_path: Path) -> None:
    with serving(found(entry), retrieved({UID: b"<other/>"})) as fake:
        result = getting(fake, tmp_path)
    assert result.exit_code == 1
    assert "DIFFÉRENT" in result.stdout
    assert "V-VOLET-CLIENT-HASH" in result.stderr
    assert (tmp_path / "new" / f"{UID}.xml").read_bytes() == b"<other/>"


def test_files_are_not_overwritten(entry: DocumentEntry, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"{UID}.xml"
    path.parent.mkdir()
    path.write_text("mine")
    with serving(found(entry)) as fake:
        result = getting(fake, tmp_path)
    assert result.exit_code == 1
    assert "V-VOLET-CLIENT-FILE-EXISTS" in result.stderr
    assert path.read_text() == "mine"
    assert len(fake.requests) == 1


def test_files_are_overwritten_when_told(entry: DocumentEntry, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"{UID}.xml"
    path.parent.mkdir()
    path.write_text("mine")
    with serving(found(entry), retrieved({UID: VSM.read_bytes()})) as fake:
        assert getting(fake, tmp_path, "--force").exit_code == 0
    assert path.read_bytes() == VSM.read_bytes()


def test_a_document_that_is_not_there(tmp_path: Path) -> None:
    with serving(found()) as fake:
        result = getting(fake, tmp_path)
    assert result.exit_code == 1
    assert "V-VOLET-CLIENT-NOT-FOUND" in result.stderr
    assert not (tmp_path / "new").exists()


def test_one_of_two_is_there(entry: DocumentEntry, tmp_path: Path) -> None:
    with serving(found(entry), retrieved({UID: VSM.read_bytes()})) as fake:
        result = asked(fake, "get", "1.9", UID, *P, "-o", tmp_path / "new", "--json")
    answer = data(result)
    assert result.exit_code == 1
    assert [item["unique_id"] for item in answer["documents"]] == [UID]
    assert [item["received"] for item in answer["findings"]] == ["1.9"]


def test_a_document_that_was_not_handed_out(entry: DocumentEntry, tmp_path: Path) -> None:
    unknown = RegistryError("XDSDocumentUniqueIdError", "inconnu")
    other = replace(entry, unique_id="1.9", id="urn:uuid:9")
    replies = (found(entry, other), retrieved({"1.9": b"<a/>"}, PARTIAL_SUCCESS, unknown))
    with serving(*replies) as fake:
        result = asked(fake, "get", "1.9", UID, *P, "-o", tmp_path / "new", "--json", "--force")
    assert [item["code"] for item in data(result)["findings"]] == [
        "XDSDocumentUniqueIdError", "V-VOLET-CLIENT-NOT-SENT", "V-VOLET-CLIENT-HASH"]


def test_a_name_does_not_lead_out_of_the_folder(entry: DocumentEntry, tmp_path: Path) -> None:
    name = "../../etc^x/y"
    with serving(found(replace(entry, unique_id=name)), retrieved({name: VSM.read_bytes()})) as fake:
        asked(fake, "get", name, *P, "-o", tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["..%2F..%2Fetc%5Ex%2Fy.xml"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_that_cannot_be_written(entry: DocumentEntry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with serving(found(entry), retrieved({UID: VSM.read_bytes()})) as fake:
        result = asked(fake, "get", UID, *P, "-o", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "V-VOLET-CLIENT-FILE" in result.stderr


# --- cards ---------------------------------------------------------------------------------------------------------

DEFECTS = {"expired": "V-SEC-CHAIN-EXPIRED", "revoked": "V-SEC-CRL-REVOKED", "other-ca": "V-SEC-CHAIN-UNKNOWN-ISSUER",
           "self-signed": "V-SEC-CHAIN-SELF-SIGNED"}


@pytest.mark.parametrize("name", [spec.name for spec in load_specs()])
def test_every_card_is_explained(name: str) -> None:
    result, said = volet("card", "show", name, "--json"), {spec.name: spec for spec in load_specs()}[name]
    answer = data(result)
    shown = answer["certificates"]
    assert [one["purposes"] for one in shown] == [["authentication"], ["signature"]]
    for one in shown:
        assert (one["identifier"], one["card_type"], one["range"]) == (said.national_id, said.card_type, "test")
        assert one["verdict"] == ("refused" if name in DEFECTS else "accepted")
    assert {item["code"] for item in answer["findings"]} == ({DEFECTS[name]} if name in DEFECTS else set())
    assert result.exit_code == (1 if name in DEFECTS else 0)


@pytest.mark.parametrize(("lang", "lines"), [
    ("fr", ["Titulaire ESSAI Anne", "Identifiant 899999000013 (RPPS)", "Profession Médecin (10)",
            "Savoir-faire Qualifié en médecine générale (SM26)", "Gamme test",
            "Usage signature : signer le VIHF et les lots"]),
    ("en", ["Holder ESSAI Anne", "Profession Doctor (10)", "Speciality Qualified in general practice (SM26)",
            "Good for signature: to sign the VIHF and submission sets"])])
def test_a_certificate_in_words(lang: str, lines: list[str], pki: Path) -> None:
    result = volet("card", "show", pki / "cards" / "medecin" / "sign.pem", "--lang", lang)
    assert result.exit_code == 0
    assert set(lines) <= {" ".join(line.split()) for line in result.stdout.splitlines()}


def test_a_certificate_without_anchors_is_not_checked(pki: Path, tmp_path: Path) -> None:
    path = tmp_path / "card.der"
    path.write_bytes(load_chain((pki / "cards" / "medecin" / "auth.pem").read_bytes())[0].public_bytes(Encoding.DER))
    assert data(volet("card", "show", path, "--json"))["certificates"][0]["verdict"] == "unchecked"
    anchored = data(volet("card", "show", path, "--json", "--ca", pki / "pki" / "ca.pem"))
    assert anchored["certificates"][0]["verdict"] == "accepted"


@pytest.mark.parametrize(("name", "purposes"), [("ca.pem", ["authority"]), ("server.pem", ["server"])])
def test_other_certificates(name: str, purposes: list[str], pki: Path) -> None:
    (one,) = data(volet("card", "show", pki / "pki" / name, "--json"))["certificates"]
    assert one["purposes"] == purposes


def test_an_authority_is_trusted_when_it_is_an_anchor(pki: Path) -> None:
    anchors = pki / "pki" / "ca.pem"
    assert volet("card", "show", anchors, "--ca", pki / "pki").exit_code == 0
    assert volet("card", "show", pki / "cards" / "other-ca" / "ca.pem", "--ca", pki / "pki").exit_code == 1


@pytest.mark.parametrize(("content", "code"), [(b"no certificate", "V-SEC-CARD-UNREADABLE"),
                                               (bytes(1 << 20), "V-SEC-CARD-TOO-LARGE")])
def test_what_is_no_certificate(content: bytes, code: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    result = volet("card", "show", tmp_path / "file")
    assert (result.exit_code, code in result.stderr) == (1, True)


def test_anchors_that_are_none(pki: Path) -> None:
    result = volet("card", "show", "medecin", "--ca", pki / "cards" / "medecin" / "auth.pem")
    assert (result.exit_code, "V-VOLET-CLIENT-ANCHORS" in result.stderr) == (1, True)


def test_the_list_of_cards(pki: Path) -> None:
    result = volet("card", "list")
    assert result.exit_code == 0
    assert all(re.search(rf"^ *{spec.name} ", result.stdout, re.MULTILINE) for spec in load_specs())
    cards = json.loads(volet("card", "list", "--json").stdout)
    assert {card["card"] for card in cards} == {spec.name for spec in load_specs()}
    assert not any("password" in card for card in cards)


# --- journal -------------------------------------------------------------------------------------------------------

ROW = {"transaction": "41", "time": "2026-11-22T09:00:01.250Z", "name": "ITI-41", "caller": "ESSAI Anne",
       "patient": CX, "verdict": "accepted", "findings": [], "milliseconds": 12.6}
REFUSED = ROW | {"transaction": "42", "verdict": "refused", "findings": [NOT_AUTHORISED.as_dict()]}


def rows(*items: object) -> Reply:
    return 200, "application/json", json.dumps(items).encode()


def test_the_journal() -> None:
    with serving(rows(ROW, REFUSED)) as fake:
        result = volet("journal", "--url", fake.url, "--verdict", "refused", "--limit", "2")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1] == ["2026-11-22", "10:00:01", "ITI-41", "accepté", "13", "ESSAI", "Anne", ">", INS]
    assert lines[3][:2] == ["ERREUR", "V-DMP-NOT-AUTHORISED"]
    assert fake.requests[0].path == "/api/journal?limit=2&verdict=refused"


def test_the_journal_for_programs() -> None:
    with serving(rows(ROW)) as fake:
        assert json.loads(volet("journal", "--url", fake.url, "--json").stdout) == [ROW]


def test_an_empty_journal() -> None:
    with serving(rows()) as fake:
        assert "Le journal est vide." in volet("journal", "--url", fake.url).stdout


def stopping(after: int) -> Callable[[float], None]:
    """A sleep that ends, as Ctrl-C does, the so-many-th time."""
    calls = iter(range(after))

    def sleep(_seconds: float) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    return sleep


def test_the_journal_is_followed_from_the_last_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volet.cli.journal.time.sleep", stopping(after=3))
    with serving(rows(ROW), rows(), rows(REFUSED), rows()) as fake:
        result = volet("journal", "--url", fake.url, "--follow", "--json")
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [ROW, REFUSED]
    cursors = [re.search(r"since=(\d+)", request.path) for request in fake.requests]
    assert [found and found[1] for found in cursors] == [None, "41", "41", "42"]


def test_a_journal_in_odd_shape_is_shown_without_harm() -> None:
    odd = {"transaction": None, "time": 5, "verdict": "refused", "findings": ["x", {"severity": "?", "where": "?"}],
           "caller": "\x1b[31mred\x1b[0m", "milliseconds": None}
    with serving(rows(odd)) as fake:
        result = volet("journal", "--url", fake.url)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_no_journal() -> None:
    with serving((404, "text/plain", b"no")) as fake:
        result = volet("journal", "--url", fake.url, "--json")
    assert result.exit_code == 1
    assert data(result)["findings"][0]["code"] == "V-VOLET-CLIENT-NOT-A-JOURNAL"


# --- words ---------------------------------------------------------------------------------------------------------


def test_every_word_is_there_in_both_languages() -> None:
    for table in show.labels().values():
        assert all(set(entry) == {"fr", "en"} and all(entry.values()) for entry in table.values())


def test_every_word_that_is_used_is_known() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "volet" / "cli").glob("*.py"))
    used = set(re.findall(r"""\bword\(["']([a-z_]+)["']\)""", source))
    assert len(used) > 10
    assert used <= set(show.labels()["words"])


@pytest.mark.parametrize(("dtm", "iso", "local"), [
    ("2026", "2026", "2026"), ("202609", "2026-09", "2026-09"), ("20260914", "2026-09-14", "2026-09-14"),
    ("202609140830", "2026-09-14T08:30:00Z", "2026-09-14 10:30"), ("?", "?", "?"), ("", "", "")])
def test_times(dtm: str, iso: str, local: str) -> None:
    assert (show.iso_time(dtm), show.local_time(dtm)) == (iso, local)
