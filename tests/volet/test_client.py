"""The client: what it sends is read by the readers of the server and stands before its rules."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from cda.derive import derive
from dmp.submissions import check_documents, check_entries
from registry import affinity, query_values, requirements, rules
from registry.rules import Context
from security import vihf
from security.cards import load_chain
from security.dsig import ReceivedDocument, SignaturePolicy, verify_submission
from security.identity import AccessMode, Authentication
from security.pki import load_specs
from security.trust import Trust
from security.vihf_rules import VihfPolicy
from tests.volet.fake import Fake, failed, fault, found, references, registered, retrieved, serving, tls_of
from volet.client import answers, exchange, journal, submission, transactions
from volet.client.answers import Rejected
from volet.client.card import Access, Card, CardError, find_folder, load_card, vihf_header
from volet.client.exchange import Call, Endpoint
from volet.client.submission import Lot, author_of, by_patient, content_type, make_lot, read_document
from xds import ebxml, hl7, messages
from xds.findings import Catalogue, Refused, Rule, Where
from xds.messages import RegistryError, registry_error
from xds.model import Submission
from xds.soap import read_envelope, read_fault, write_fault, write_request
from xds.vocabulary import APPROVED, FAILURE, HAS_MEMBER, RPLC, SIGNS

SAMPLES = Path(__file__).parents[2] / "samples"
VSM, DLU, ORDONNANCE = (SAMPLES / name for name in ("vsm.xml", "dlu.xml", "ordonnance.xml"))
INS = "258059999900193^^^&1.2.250.1.213.1.4.10&ISO^NH"
OTHER = "134119999900256^^^&1.2.250.1.213.1.4.10&ISO^NH"
GOOD = [spec.name for spec in load_specs() if not spec.defect]
ROOMS = ("xds", "cda", "security", "registry", "dmp", "repository", "volet")


@pytest.fixture
def card(pki: Path) -> Callable[[str], Card]:
    return lambda name: load_card(pki / "cards" / name)


@pytest.fixture(scope="module")
def trust(pki: Path) -> Trust:
    return Trust.load(pki / "pki")


@pytest.fixture
def lot(card: Callable[[str], Card]) -> Lot:
    return make_lot([read_document(VSM)], card("medecin-traitant"), datetime.now(UTC))


def codes(refused: pytest.ExceptionInfo[Refused]) -> list[str]:
    return [finding.code for finding in refused.value.findings]


# --- cards and VIHF ------------------------------------------------------------------------------------------------


def test_a_bare_name_is_a_card_of_the_data_folder(tmp_path: Path) -> None:
    assert find_folder("medecin", tmp_path) == tmp_path / "cards" / "medecin"
    assert find_folder("some/medecin", tmp_path) == Path("some/medecin")
    assert find_folder(str(tmp_path), tmp_path) == tmp_path


def test_a_folder_in_the_way_is_meant_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "medecin").mkdir()
    assert find_folder("medecin", tmp_path / "var") == Path("medecin")


@pytest.mark.parametrize(("name", "content"), [
    ("card.json", None), ("sign.key", None), ("auth.pem", None), ("card.json", "{"), ("card.json", "[]"),
    ("card.json", "{}"), ("sign.key", "no key"), ("sign.pem", "no certificate")])
def test_a_folder_that_is_no_card(pki: Path, tmp_path: Path, name: str, content: str | None) -> None:
    for file in (pki / "cards" / "medecin").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(CardError, match=str(tmp_path)):
        load_card(tmp_path)


@pytest.mark.parametrize("name", GOOD)
def test_the_vihf_of_every_card_verifies(name: str, card: Callable[[str], Card], trust: Trust) -> None:
    held, now = card(name), datetime.now(UTC)
    request = write_request("<a/>", "urn:a", "urn:b", "urn:c", vihf_header(held, INS, Access(), now))
    tls = load_chain((held.folder / "auth.pem").read_bytes())[0]
    caller = vihf.verify(read_envelope(request).header, tls, trust, now, VihfPolicy())
    assert caller.findings == ()
    assert (caller.national_id, caller.structure_id) == (held.said["identifier"], held.said["structure"]["id"])
    assert (caller.patient, caller.mode, caller.software.split()[0]) == (INS, AccessMode.NORMAL, "Volet")
    expected = Authentication.INDIRECTE if held.is_structure else Authentication.DIRECTE
    assert caller.authentication is expected


def test_the_mode_of_access_and_its_reason_travel(card: Callable[[str], Card], trust: Trust) -> None:
    now, access = datetime.now(UTC), Access(AccessMode.BRIS_DE_GLACE, "Patient inconscient")
    text = write_request("<a/>", "urn:a", "urn:b", "urn:c", vihf_header(card("medecin"), INS, access, now))
    caller = vihf.verify(read_envelope(text).header, None, trust, now, VihfPolicy(tls_required=False))
    assert (caller.mode, caller.reason) == (AccessMode.BRIS_DE_GLACE, "Patient inconscient")


# --- documents and lots --------------------------------------------------------------------------------------------


def test_metadata_come_from_the_document() -> None:
    document = read_document(VSM)
    assert replace(document.entry, id="") == replace(derive(VSM.read_bytes()), id="")
    assert document.entry.id.startswith("urn:uuid:")
    assert document.warnings == ()


def test_what_the_header_does_not_tell_is_said(tmp_path: Path) -> None:
    path = tmp_path / "untitled.xml"
    path.write_text(VSM.read_text("utf-8").replace("<title>Synthèse médicale</title>", ""), "utf-8")
    (warning,) = read_document(path).warnings
    assert (warning.code, warning.where.part) == ("V-CDA-NOT-DERIVED", "untitled.xml")


def test_a_document_of_another_patient() -> None:
    with pytest.raises(Refused) as refused:
        read_document(VSM, OTHER)
    assert codes(refused) == ["V-VOLET-CLIENT-PATIENT-OTHER"]


def test_the_type_of_the_identifier_does_not_make_another_patient() -> None:
    assert read_document(VSM, INS.removesuffix("^NH")).entry.patient_id == INS


@pytest.fixture
def without_ins(tmp_path: Path) -> Path:
    path = tmp_path / "local.xml"
    path.write_text(VSM.read_text("utf-8").replace('<id root="1.2.250.1.213.1.4.10" extension="258059999900193"/>', ""),
                    "utf-8")
    return path


def test_a_document_without_ins_asks_for_the_patient(without_ins: Path) -> None:
    with pytest.raises(Refused) as refused:
        read_document(without_ins)
    assert codes(refused) == ["V-VOLET-CLIENT-PATIENT-ABSENT"]


def test_a_document_without_ins_takes_the_patient_given(without_ins: Path) -> None:
    entry = read_document(without_ins, INS).entry
    assert entry.patient_id == INS
    assert entry.source_patient_id.startswith("VOLET-0001^")


def test_what_is_no_document(tmp_path: Path) -> None:
    path = tmp_path / "letter.xml"
    path.write_text("<letter/>")
    with pytest.raises(Refused) as refused:
        read_document(path)
    assert [(finding.code, finding.where.part) for finding in refused.value.findings] == [
        ("V-CDA-NOT-A-DOCUMENT", "letter.xml")]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: reading it would take a terabyte of memory
    with pytest.raises(Refused) as refused:
        read_document(path)
    assert codes(refused) == ["V-XML-TOO-LARGE"]


def test_masks_stand_beside_the_document_s_own_code() -> None:
    entry = read_document(VSM, masks=["ps", "legal", "ps"]).entry
    assert [str(code) for code in entry.confidentiality] == [
        "N^^2.16.840.1.113883.5.25", "MASQUE_PS^^1.2.250.1.213.1.1.4.13",
        "INVISIBLE_REPRESENTANTS_LEGAUX^^1.2.250.1.213.1.1.4.13"]


def test_documents_by_patient() -> None:
    groups = by_patient(read_document(path) for path in (VSM, DLU, ORDONNANCE))
    assert [[document.path for document in group] for group in groups] == [[VSM, ORDONNANCE], [DLU]]


@pytest.mark.parametrize(("name", "person", "specialty"), [
    ("medecin", "899999000013^ESSAI^Anne^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
     "G15_10/SM26^Médecin - Qualifié en médecine générale (SM)^1.2.250.1.213.1.1.4.5"),
    ("infirmier", "899999000062^ESSAI^François^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
     "G15_60^Infirmier^1.2.250.1.213.1.1.4.5"),
    ("interne", "899999000138^EXEMPLE^Malik^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
     "G16_10^Médecin en formation^1.2.250.1.213.1.1.4.5"),
    ("coordination", "899999000146^MODELE^Olivier^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
     "330^Coordonnateur de parcours^1.2.250.1.213.1.6.1.107"),
    ("cpe-anonyme", "3990000069/CPET0002^CENTRE DE SANTE FICTIF^^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS",
     "SECRETARIAT_MEDICAL^Secrétariat médical^1.2.250.1.213.1.1.4.6"),
])
def test_the_author_of_a_lot_is_the_holder(name: str, person: str, specialty: str, card: Callable[[str], Card]) -> None:
    author = author_of(card(name))
    assert (author.person, author.specialties) == (person, (specialty,))


def test_the_author_of_a_structure_s_lot_is_its_software(card: Callable[[str], Card]) -> None:
    author = author_of(card("ehpad"))
    person = hl7.XCN.parse(author.person)
    assert (person.family, person.name_type, person.type_code) == ("Volet", "U", "RI")
    assert author.institutions == ("EHPAD LES EXEMPLES^^^^^&1.2.250.1.71.4.2.2&ISO^IDNST^^^1990000028",)
    assert author.specialties == ("AUTOMATE^Automate^1.2.250.1.213.1.1.4.6",)


@pytest.mark.parametrize(("sector", "code"), [("SA01", "03"), ("SA07", "07"), ("SA17", "97"), ("", "97")])
def test_the_kind_of_activity_is_the_sector_s(sector: str, code: str) -> None:
    found_code = content_type(sector)
    assert (found_code.code, found_code.scheme) == (code, "1.2.250.1.213.2.2")
    assert found_code.display


def test_identifiers_of_a_lot(card: Callable[[str], Card]) -> None:
    held, documents = card("ehpad"), [read_document(DLU)]
    one, other = (make_lot(documents, held, datetime.now(UTC)).submission.submission_set for _ in range(2))
    assert one.source_id == other.source_id != make_lot(
        documents, card("hopital"), datetime.now(UTC)).submission.submission_set.source_id
    assert one.unique_id != other.unique_id
    assert all(hl7.is_oid(text) for text in (one.source_id, one.unique_id, other.unique_id))


def test_links_of_a_lot(card: Callable[[str], Card]) -> None:
    documents = [read_document(VSM), read_document(ORDONNANCE)]
    made = make_lot(documents, card("cardiologue"), datetime.now(UTC), "urn:uuid:0ld").submission
    links = [(link.type, link.source, link.target) for link in made.associations]
    the_set, signature = made.submission_set.id, made.documents[-1].id
    assert sorted(links) == sorted([
        *((HAS_MEMBER, the_set, entry.id) for entry in made.documents), (SIGNS, signature, the_set),
        (RPLC, documents[0].entry.id, "urn:uuid:0ld")])
    assert {link.submission_set_status for link in made.associations if link.type == HAS_MEMBER} == {"Original"}


@pytest.mark.parametrize("name", ["medecin-traitant", "ehpad", "cpe-anonyme"])
def test_the_signature_verifies(name: str, card: Callable[[str], Card], trust: Trust) -> None:
    made = make_lot([read_document(VSM), read_document(ORDONNANCE)], card(name), datetime.now(UTC))
    received = [ReceivedDocument(document.entry.unique_id, document.entry.mime_type, document.path.read_bytes())
                for document in made.documents]
    report = verify_submission(made.signature, made.submission.submission_set.unique_id, received, trust,
                               datetime.now(UTC), SignaturePolicy())
    assert report.findings == ()
    assert report.signer is not None
    assert report.signer.national_id == card(name).said["identifier"]


# --- what is sent --------------------------------------------------------------------------------------------------


def endpoint(fake: Fake, held: Card, ca: Path | None = None) -> Endpoint:
    return Endpoint(fake.url, held, ca)


def submitted(fake: Fake, folder: Path) -> tuple[Submission, dict[str, bytes]]:
    """What the server's readers make of the request: submission, documents by the id of their entry."""
    with fake.requests[-1].message(folder) as message:
        envelope = read_envelope(message.root, content_action=message.action)
        assert messages.transaction_of(envelope.action, envelope.body).name == "ITI-41"
        asked = messages.read_provide(envelope.body)
        parts = {name: part.read() for name, part in message.parts.items()}
    return ebxml.to_submission(asked.objects, asked.references), messages.attach(asked.documents, parts)


@pytest.mark.parametrize(("path", "name"), [(VSM, "medecin-traitant"), (DLU, "ehpad"), (ORDONNANCE, "cardiologue")])
def test_the_server_s_rules_have_nothing_to_say(path: Path, name: str, card: Callable[[str], Card],
                                                tmp_path: Path) -> None:
    made = make_lot([read_document(path, masks=["patient"])], card(name), datetime.now(UTC))
    with serving(registered()) as fake:
        assert transactions.provide(endpoint(fake, card(name)), made).warnings == ()
    read, documents = submitted(fake, tmp_path)
    context = Context("ITI-41", requirements.load("ITI-41", "registry", "dmp"), affinity.load("affinity.toml", "dmp"))
    assert rules.check(read, context) == []
    contents = {identity: (lambda data=data: data) for identity, data in documents.items()}
    assert [*check_entries(read), *check_documents(read, contents)] == []
    assert replace(read, objects=()) == replace(made.submission, objects=())
    assert list(documents.values()) == [path.read_bytes(), made.signature]


def test_the_request_announces_its_length_and_goes_to_the_dmp_s_path(lot: Lot, card: Callable[[str], Card]) -> None:
    with serving(registered()) as fake:
        transactions.provide(endpoint(fake, card("medecin-traitant")), lot)
    (request,) = fake.requests
    assert request.path == "/si-dmp-server/v2/services/repository"
    assert int(request.headers["Content-Length"]) == len(request.body)
    assert "Transfer-Encoding" not in request.headers


def test_documents_are_read_while_they_are_sent(card: Callable[[str], Card], tmp_path: Path) -> None:
    path = tmp_path / "vsm.xml"
    path.write_bytes(VSM.read_bytes())
    call = transactions.provide_call(make_lot([read_document(path)], card("medecin"), datetime.now(UTC)))
    path.write_bytes(b"<changed/>")
    _, content, size = call.parts[0]
    assert not isinstance(content, bytes)
    assert (b"".join(content), size) == (b"<changed/>", VSM.stat().st_size)


@pytest.mark.parametrize(("base", "address"), [
    ("https://127.0.0.1:8443", "https://127.0.0.1:8443/si-dmp-server/v2/services/registry"),
    ("https://127.0.0.1:8443/", "https://127.0.0.1:8443/si-dmp-server/v2/services/registry"),
    ("http://h:1/xds/", "http://h:1/xds/registry"),
])
def test_the_address_of_a_service(base: str, address: str, card: Callable[[str], Card]) -> None:
    assert Endpoint(base, card("medecin")).address("ITI-18") == address


def query_of(fake: Fake, folder: Path) -> tuple[str, query_values.Values, str]:
    asked = messages.read_query(fake.requests[-1].envelope(folder).body)
    definition, values = query_values.parse(asked.id, asked.slots)
    return definition.name, values, asked.return_type


def test_a_search_is_read_by_the_registry(card: Callable[[str], Card], tmp_path: Path) -> None:
    types = ["SYNTH^^1.2.250.1.213.1.1.4.12", "74207-2^^2.16.840.1.113883.6.1"]
    with serving(found()) as fake:
        transactions.find_documents(endpoint(fake, card("medecin")), INS, types, "20260101", ["approved", "archived"])
    values = {
        "$XDSDocumentEntryPatientId": ((INS,),),
        "$XDSDocumentEntryStatus": ((APPROVED, "urn:asip:ci-sis:2010:StatusType:Archived"),),
        "$XDSDocumentEntryTypeCode": (tuple(types),), "$XDSDocumentEntryCreationTimeFrom": (("20260101",),)}
    assert query_of(fake, tmp_path) == ("FindDocuments", values, "LeafClass")


def test_a_search_by_identifier_is_read_by_the_registry(card: Callable[[str], Card], tmp_path: Path) -> None:
    with serving(references("urn:uuid:1", "urn:uuid:2")) as fake:
        answer = transactions.get_documents(endpoint(fake, card("ehpad")), INS, ["1.2", "1.3^a"], messages.OBJECT_REF)
    assert query_of(fake, tmp_path) == ("GetDocuments", {"$XDSDocumentEntryUniqueId": (("1.2", "1.3^a"),)}, "ObjectRef")
    assert answer.uuids == ("urn:uuid:1", "urn:uuid:2")


SIGNS_OF_TEXT = st.characters(categories=["L", "N", "P", "S"])


@given(st.lists(st.text(SIGNS_OF_TEXT, min_size=1, max_size=40), min_size=1, max_size=4))
def test_every_value_of_a_parameter_comes_through(values: list[str]) -> None:
    slot = transactions._slot("UniqueId", values)
    _, read = query_values.parse(transactions.GET_DOCUMENTS, (slot,))
    assert read["$XDSDocumentEntryUniqueId"] == (tuple(values),)


def test_large_documents_come_through_the_disk(card: Callable[[str], Card]) -> None:
    large = bytes(range(256)) * 8192
    entry = replace(read_document(VSM).entry, unique_id="1.2.3", repository_unique_id="1.2.3")
    with serving(retrieved({"1.2.3": large})) as fake, transactions.retrieve(
            endpoint(fake, card("medecin")), INS, [entry]) as answer:
        received = answer.documents["1.2.3"]
        assert received.path is not None
        assert received.read() == large
        assert received.sha1 == hashlib.sha1(large).hexdigest()
    assert not received.path.exists()


# --- refusals ------------------------------------------------------------------------------------------------------

RULES = [rule for room in ROOMS for rule in Catalogue(room).values()]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_finding_comes_back_from_a_registry_error(rule: Rule) -> None:
    finding = rule.at(Where("metadata", 7, 0, "/Slot[2]"), expected="ceci, ou cela", received="autre — chose [1]")
    told, whole = answers.of_errors([registry_error(finding)])[0], finding.as_dict()
    same = ("code", "fr", "en", "hint", "hint_en", "clause", "provenance", "where", "expected", "received")
    assert {key: told[key] for key in same} == {key: _folded(whole[key]) for key in same}
    assert told["severity"] in {whole["severity"], "warning"}


def _folded(value: object) -> object:
    return " ".join(value.split()) if isinstance(value, str) else value


@pytest.mark.parametrize("rule", RULES[::20], ids=lambda rule: rule.code)
def test_a_finding_comes_back_from_a_fault(rule: Rule) -> None:
    finding = rule.at(Where("VIHF", 7, 3, "/@ID"), expected="a", received="b")
    read = read_fault(read_envelope(write_fault([finding], "")).body)
    assert read is not None
    (told,) = answers.of_fault(read)
    assert told == {key: value for key, value in finding.as_dict().items() if key != "xds"}


def test_a_fault_of_another_server() -> None:
    body = ('<soap:Fault xmlns:soap="http://www.w3.org/2003/05/soap-envelope"><soap:Code><soap:Value>soap:Sender'
            "</soap:Value><soap:Subcode><soap:Value>DMPInvalidCertificate</soap:Value></soap:Subcode></soap:Code>"
            '<soap:Reason><soap:Text xml:lang="en">Not a valid signature certificate</soap:Text></soap:Reason>'
            "</soap:Fault>")
    read = read_fault(read_envelope(write_request(body, "urn:a", "urn:b", "urn:c")).body)
    assert read is not None
    (told,) = answers.of_fault(read)
    assert (told["code"], told["fr"]) == ("Sender/DMPInvalidCertificate", "Not a valid signature certificate")


@pytest.mark.parametrize("context", ["Structure introuvable", "x [V-UNKNOWN-CODE, y]", "[V-REG-SET-EMPTY", ""])
def test_an_error_of_another_server_is_told_as_it_is(context: str) -> None:
    (told,) = answers.of_errors([RegistryError("XDSRegistryError", context, location="/a")])
    assert (told["code"], told["fr"], told["en"]) == ("XDSRegistryError", context, context)
    assert (told["severity"], told["where"]["path"]) == ("error", "/a")


@given(st.text(max_size=300))
def test_no_context_breaks_the_reader(noise: str) -> None:
    context = f"a — b [V-REG-SET-EMPTY, {noise}]"
    (told,) = answers.of_errors([RegistryError("XDSRegistryError", context)])
    assert told["severity"] == "error"


def test_a_failure_without_reason_has_one() -> None:
    assert [told["code"] for told in answers.of_failure(FAILURE, [])] == ["V-VOLET-CLIENT-NO-REASON"]


def test_a_refused_lot(lot: Lot, card: Callable[[str], Card]) -> None:
    error = RegistryError("XDSPatientIdDoesNotMatch", "Un autre patient")
    with serving(failed(error)) as fake, pytest.raises(Rejected) as rejected:
        transactions.provide(endpoint(fake, card("medecin")), lot)
    assert [told["code"] for told in rejected.value.findings] == ["XDSPatientIdDoesNotMatch"]
    assert rejected.value.message_id.startswith("urn:uuid:")


def test_a_fault_for_a_search(card: Callable[[str], Card]) -> None:
    finding = Catalogue("xds")["V-SOAP-ACTION-ABSENT"].at(expected="a")
    with serving(fault(finding)) as fake, pytest.raises(Rejected) as rejected:
        transactions.find_documents(endpoint(fake, card("medecin")), INS)
    assert [told["code"] for told in rejected.value.findings] == ["V-SOAP-ACTION-ABSENT"]


# --- the way -------------------------------------------------------------------------------------------------------


def ask(base: str, held: Card, ca: Path | None = None) -> list[str]:
    """Codes of the findings of a request that does not get through."""
    with pytest.raises(Refused) as refused, exchange.exchange(
            Endpoint(base, held, ca), Call("ITI-18", INS, messages.write_query(messages.AdhocQuery("urn:uuid:1")))):
        pytest.fail("nobody was meant to answer")
    return codes(refused)


def test_the_card_opens_the_tls_connection(pki: Path, card: Callable[[str], Card]) -> None:
    with serving(found(), tls=tls_of(pki, pki / "pki" / "ca.pem")) as fake:
        answer = transactions.find_documents(endpoint(fake, card("medecin"), pki / "pki" / "ca.pem"), INS)
    assert answer.entries == ()


def test_nobody_listens(card: Callable[[str], Card]) -> None:
    with serving(found()) as fake:
        pass
    assert ask(fake.url, card("medecin")) == ["V-VOLET-CLIENT-UNREACHABLE"]


def test_the_server_s_certificate_is_of_another_authority(pki: Path, card: Callable[[str], Card]) -> None:
    with serving(found(), tls=tls_of(pki)) as fake:
        assert ask(fake.url, card("medecin"), pki / "cards" / "other-ca" / "ca.pem") == [
            "V-VOLET-CLIENT-SERVER-CERTIFICATE"]


def test_the_server_s_certificate_is_for_another_address(pki: Path, card: Callable[[str], Card]) -> None:
    with serving(found(), tls=tls_of(pki)) as fake:
        elsewhere = fake.url.replace("127.0.0.1", "127.1")
        assert ask(elsewhere, card("medecin"), pki / "pki" / "ca.pem") == ["V-VOLET-CLIENT-SERVER-CERTIFICATE"]


def test_the_port_speaks_no_tls(pki: Path, card: Callable[[str], Card]) -> None:
    with serving(found()) as fake:
        assert ask(fake.url.replace("http:", "https:"), card("medecin"), pki / "pki" / "ca.pem") == [
            "V-VOLET-CLIENT-NO-TLS"]


def test_the_server_refuses_the_card_in_the_handshake(pki: Path, card: Callable[[str], Card]) -> None:
    with serving(found(), tls=tls_of(pki, pki / "pki" / "ca.pem")) as fake:
        (code,) = ask(fake.url, card("other-ca"), pki / "pki" / "ca.pem")
    # its alert, unless it hung up on the request before the alert was read
    assert code in {"V-VOLET-CLIENT-CARD-REFUSED", "V-VOLET-CLIENT-CUT"}


@pytest.mark.parametrize(("text", "rule"), [
    ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca", exchange.CARD_REFUSED),
    ("[SSL: KEY_VALUES_MISMATCH] key values mismatch", exchange.CARD_REFUSED),
    ("EOF occurred in violation of protocol", exchange.CUT),
    ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", exchange.SERVER_CERTIFICATE),
    ("[SSL] record layer failure", exchange.SERVER_CERTIFICATE)])
def test_what_the_tls_library_says(text: str, rule: Rule) -> None:
    error = requests.exceptions.SSLError(ssl.SSLError(1, text))
    assert exchange._diagnose(error, "https://h/x", "ca.pem").rule is rule


def listening(answer: bytes, stay: threading.Event) -> tuple[str, threading.Thread]:
    """A server that takes one connection, says this much, and hangs up once `stay` is set."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener, listener.accept()[0] as peer:
            peer.recv(65536)
            peer.sendall(answer)
            stay.wait(10)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", thread


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 9\r\n\r\n<a/>"])
def test_the_connection_is_cut(answer: bytes, card: Callable[[str], Card]) -> None:
    gone = threading.Event()
    gone.set()
    base, thread = listening(answer, gone)
    assert ask(base, card("medecin")) == ["V-VOLET-CLIENT-CUT"]
    thread.join()


def test_the_server_is_silent(card: Callable[[str], Card], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_TIMES", (5.0, 0.1))
    done = threading.Event()
    base, thread = listening(b"", done)
    assert ask(base, card("medecin")) == ["V-VOLET-CLIENT-SILENT"]
    done.set()
    thread.join()


@pytest.mark.parametrize("reply", [(404, "text/html", b"<h1>Not here</h1>"), (200, "", b""), (302, "text/plain", b"")])
def test_what_answers_is_no_soap_service(reply: tuple[int, str, bytes], card: Callable[[str], Card]) -> None:
    with serving(reply) as fake:
        assert ask(fake.url, card("medecin")) == ["V-VOLET-CLIENT-NOT-SOAP"]


@pytest.mark.parametrize(("reply", "code"), [
    ((200, "text/xml", b"<a"), "V-XML-NOT-WELL-FORMED"),
    ((200, "multipart/related; boundary=x", b"--y"), "V-MTOM-BOUNDARY-NOT-FOUND"),
    ((200, "application/soap+xml", b"<a/>"), "V-SOAP-STRUCTURE")])
def test_an_answer_that_cannot_be_read(reply: tuple[int, str, bytes], code: str, card: Callable[[str], Card]) -> None:
    with serving(reply) as fake:
        assert ask(fake.url, card("medecin")) == [code]


def test_proxies_are_for_other_machines() -> None:
    assert not exchange.connect("https://127.0.0.1:8443/x").trust_env
    assert exchange.connect("https://dmp.example/x").trust_env


# --- the journal ---------------------------------------------------------------------------------------------------


def test_the_journal_is_asked_from_a_cursor() -> None:
    rows = [{"transaction": "7", "name": "ITI-41"}]
    with serving((200, "application/json", json.dumps(rows).encode())) as fake:
        assert journal.fetch(fake.url, 5, "6", "refused") == rows
    assert fake.requests[0].path == "/api/journal?limit=5&since=6&verdict=refused"


@pytest.mark.parametrize("reply", [
    (404, "text/plain", b"no"), (200, "text/html", b"[]"), (200, "application/json", b"{}"),
    (200, "application/json", b"[1]"), (500, "application/json", b"[]")])
def test_what_answers_is_no_journal(reply: tuple[int, str, bytes]) -> None:
    with serving(reply) as fake, pytest.raises(Refused) as refused:
        journal.fetch(fake.url, 5)
    assert codes(refused) == ["V-VOLET-CLIENT-NOT-A-JOURNAL"]


def test_a_journal_that_is_no_json_was_cut() -> None:
    with serving((200, "application/json", b"[{")) as fake, pytest.raises(Refused) as refused:
        journal.fetch(fake.url, 5)
    assert codes(refused) == ["V-VOLET-CLIENT-CUT"]


def test_every_certificate_of_the_chain_is_in_the_signature(lot: Lot, card: Callable[[str], Card]) -> None:
    chain = [certificate.public_bytes(Encoding.DER) for certificate in card("medecin-traitant").chain]
    assert len(chain) == 2
    assert lot.signature.count(b"<xades:Cert>") == len(chain)
    assert isinstance(card("medecin-traitant").chain[0], x509.Certificate)


def test_content_types_have_labels() -> None:
    table = submission._content_types()
    assert {*table["sectors"].values(), table["default"]} == set(table["labels"])
