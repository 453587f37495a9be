"""`volet media`: archives made, looked into, and fed to a server, which is once the real one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import typer
from lxml import etree
from typer.testing import CliRunner, Result
from werkzeug.serving import make_server

from tests.volet.fake import failed, registered, serving
from volet.app import create_app
from volet.assembly import build
from volet.cli import media
from volet.client.card import load_card
from volet.client.exchange import Endpoint
from volet.client.media import contents_of, origin_of, subject_of, taken
from volet.client.submission import make_lot, read_document
from volet.client.transactions import get_documents
from volet.initial import init
from volet.settings import Settings
from xds import ebxml, messages, xdm
from xds.findings import Refused, Severity
from xds.messages import RegistryError
from xds.model import Association, Code, DocumentEntry, Folder, Submission
from xds.rim import Classification, localized
from xds.vocabulary import DOCUMENT, HAS_MEMBER, RPLC
from xds.xdm import Content, Subset

ROOT = Path(__file__).parents[2]
VSM, DLU, ORDER = (ROOT / "samples" / name for name in ("vsm.xml", "dlu.xml", "ordonnance.xml"))
INS = "258059999900193"
UID = "2.25.272952060304886944021713701316558716181"
FOLDER = "IHE_XDM/SUBSET01/"
NAMES = ["README.TXT", "INDEX.HTM", "IHE_XDM/", FOLDER, FOLDER + "METADATA.XML", FOLDER + "DOC00001.XML"]

app = typer.Typer(pretty_exceptions_enable=False)
app.callback()(lambda: None)
media.register(app)


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, pki: Path, tmp_path: Path) -> None:
    """Cards by their names; nothing of the environment in the way; files are written to a folder of the test."""
    for name in list(os.environ):
        if name.startswith("VOLET_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("VOLET_DATA", str(pki))
    monkeypatch.chdir(tmp_path)


def volet(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["media", *map(str, arguments)])


def data(result: Result) -> Any:
    return json.loads(result.stdout)


def codes(result: Result) -> list[str]:
    return [finding["code"] for finding in data(result)["findings"]]


def exported(*files: Path, card: str = "medecin-traitant") -> Path:
    """An archive of these documents, IHE_XDM.ZIP here."""
    assert volet("export", *files, "--card", card, "--force").exit_code == 0
    return Path("IHE_XDM.ZIP")


def changed(archive: Path, old: bytes, new: bytes, name: str = FOLDER + "METADATA.XML") -> Path:
    """The archive with one thing in one file changed."""
    with zipfile.ZipFile(archive) as source:
        files = {entry: source.read(entry) for entry in source.namelist()}
    assert old in files[name]
    files[name] = files[name].replace(old, new)
    return packed(files)


def packed(files: Mapping[str, bytes]) -> Path:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for entry, content in files.items():
            target.writestr(entry, content)
    Path("CHANGED.ZIP").write_bytes(out.getvalue())
    return Path("CHANGED.ZIP")


# --- usage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["export", "show", "import"])
def test_help_comes_with_an_example(command: str) -> None:
    result = volet(command, "--help")
    assert result.exit_code == 0
    assert f"Example: volet media {command}" in " ".join(result.stdout.split())


@pytest.mark.parametrize("arguments", [
    ["export", VSM], ["export", "absent.xml", "--card", "medecin"], ["export", VSM, "--card", "nobody"],
    ["export", VSM, "--card", "medecin", "--patient", "12"], ["export", VSM, "--card", "medecin", "-o", "."],
    ["show"], ["show", "absent.zip"], ["import", VSM], ["import", "absent.zip", "--card", "medecin"],
    ["import", VSM, "--card", "medecin", "--mode", "bris_de_glace"], ["unknown"]])
def test_wrong_usage(arguments: list[object]) -> None:
    assert volet(*arguments).exit_code == 2


# --- export --------------------------------------------------------------------------------------------------------


def test_an_archive_is_written_and_told() -> None:
    result = volet("export", VSM, "--card", "medecin-traitant", "--json")
    assert result.exit_code == 0
    told = data(result)
    assert (told["archive"], told["size"]) == ("IHE_XDM.ZIP", Path("IHE_XDM.ZIP").stat().st_size)
    assert told["sha1"] == hashlib.sha1(Path("IHE_XDM.ZIP").read_bytes()).hexdigest()
    assert told["subject"] == "XDM/1.0/DDM+Synthèse médicale ESSAI-VOLET CAMILLE 17/05/1958"
    (subset,) = told["subsets"]
    assert (subset["name"], subset["patient"]) == ("SUBSET01", f"{INS}^^^&1.2.250.1.213.1.4.10&ISO^NH")
    (document,) = subset["documents"]
    assert document["unique_id"] == UID
    assert (document["file"], document["size"]) == (FOLDER + "DOC00001.XML", VSM.stat().st_size)
    assert document["intact"] is True


def test_the_archive_holds_the_document_byte_for_byte_and_its_metadata(pki: Path) -> None:
    with zipfile.ZipFile(exported(VSM)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == NAMES
        assert archive.read(FOLDER + "DOC00001.XML") == VSM.read_bytes()
        request = messages.read_submit_objects(etree.fromstring(archive.read(FOLDER + "METADATA.XML")))
        readme = archive.read("README.TXT").decode()
    submission = ebxml.to_submission(request.objects)
    derived = read_document(VSM).entry
    (entry,) = submission.documents
    assert replace(entry, id="", uri=()) == replace(derived, id="")
    lot = make_lot([read_document(VSM)], load_card(pki / "cards" / "medecin-traitant"), datetime.now(UTC))
    the_set, as_pushed = submission.submission_set, lot.submission.submission_set
    assert (the_set.authors, the_set.source_id, the_set.content_type) == (
        as_pushed.authors, as_pushed.source_id, as_pushed.content_type)
    assert [(link.type, link.source, link.target, link.submission_set_status) for link in submission.associations] == [
        (HAS_MEMBER, the_set.id, entry.id, "Original")]
    assert "Volet" in readme
    assert re.search(r"Émetteur +: \S+", readme)


def test_what_is_shown() -> None:
    result = volet("export", VSM, "--card", "medecin-traitant", "-o", "X.ZIP")
    assert result.exit_code == 0
    assert result.stdout.startswith("Archive écrite : X.ZIP (")
    assert f"    {FOLDER}DOC00001.XML : Synthèse médicale · Synthèse · 2026-09-14 10:30\n" in result.stdout
    assert "identique à ses métadonnées" in result.stdout
    assert "Objet du courriel : XDM/1.0/DDM+Synthèse médicale ESSAI-VOLET CAMILLE 17/05/1958" in result.stdout


def test_documents_of_two_patients_are_two_subsets_and_a_warning() -> None:
    result = volet("export", VSM, DLU, ORDER, "--card", "medecin-traitant", "--json")
    assert result.exit_code == 0
    assert [(subset["name"], len(subset["documents"])) for subset in data(result)["subsets"]] == [
        ("SUBSET01", 2), ("SUBSET02", 1)]
    assert codes(result) == ["V-XDM-PATIENTS"]


def test_a_mask_goes_into_the_metadata() -> None:
    assert volet("export", VSM, "--card", "medecin", "--mask", "ps").exit_code == 0
    with open("IHE_XDM.ZIP", "rb") as file:
        (entry,) = xdm.read(file).subsets[0].submission.documents
    assert [code.code for code in entry.confidentiality] == ["N", "MASQUE_PS"]


def test_an_archive_that_is_there_is_left_alone() -> None:
    Path("IHE_XDM.ZIP").write_bytes(b"mine")
    result = volet("export", VSM, "--card", "medecin", "--json")
    assert (result.exit_code, codes(result)) == (1, ["V-VOLET-MEDIA-EXISTS"])
    assert Path("IHE_XDM.ZIP").read_bytes() == b"mine"
    assert volet("export", VSM, "--card", "medecin", "--force").exit_code == 0


def test_nothing_is_left_of_an_archive_that_could_not_be_written() -> None:
    Path("a.xml").write_bytes(b"<a/>")
    result = volet("export", VSM, "a.xml", "a.xml", "--card", "medecin", "--json")
    assert result.exit_code == 1
    assert [code[:5] for code in codes(result)] == ["V-CDA", "V-CDA"]
    result = volet("export", VSM, "--card", "medecin", "-o", "absent/X.ZIP", "--json")
    assert (result.exit_code, codes(result)) == (1, ["V-VOLET-CLIENT-FILE"])
    assert [path.name for path in Path().iterdir()] == ["a.xml"]


def test_a_hundred_patients_are_too_many_for_one_archive() -> None:
    files = []
    for number in range(100):
        content = VSM.read_bytes().replace(INS.encode(), f"{number:015}".encode())
        files.append(Path(f"{number}.xml"))
        files[-1].write_bytes(content)
    result = volet("export", *files, "--card", "medecin")
    assert result.exit_code == 2
    assert "99" in result.stderr


@pytest.mark.parametrize(("info", "subject"), [
    (("PID-5|ESSAI^LÉA\\T\\A", "PID-7|2026"), "XDM/1.0/DDM+Titre du document ESSAI LÉA&A 2026"),
    ((), "XDM/1.0/DDM+Titre du document"), (("PID-5|", "no PID"), "XDM/1.0/DDM+Titre du document")])
def test_subject_of_a_mail_is_one_line(info: tuple[str, ...], subject: str) -> None:
    entry = DocumentEntry("one", title=localized("Titre\r\ndu  document"), source_patient_info=info)
    assert subject_of(Submission((), (entry,))) == subject


# --- show ----------------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_an_archive_is_shown_with_the_rest() -> None:
    archive = changed(exported(VSM), b"Synth", b"Xynth", FOLDER + "DOC00001.XML")
    result = volet("show", archive)
    assert result.exit_code == 1
    assert result.stdout.startswith("SUBSET01, lot 2.25.")
    assert "DIFFÉRENT" in result.stdout
    assert "V-XDM-HASH-DIFFERS" in result.stderr
    told = data(volet("show", archive, "--json"))
    assert told["subsets"][0]["documents"][0]["intact"] is False
    assert [finding["code"] for finding in told["subsets"][0]["findings"]] == ["V-XDM-HASH-DIFFERS"]


def test_an_archive_of_ours_is_shown_without_a_finding() -> None:
    result = volet("show", exported(VSM, ORDER), "--lang", "en")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("the same as its metadata say") == 2


def test_metadata_that_tell_little_are_shown() -> None:
    lean = Submission((), (DocumentEntry("one"), DocumentEntry("two", uri=("A.XML",), title=localized("A\x85\u202e"))))
    text = messages.write_submit_objects(ebxml.from_submission(lean))
    result = volet("show", packed({FOLDER + "METADATA.XML": text.encode(), FOLDER + "A.XML": b"1"}))
    assert result.exit_code == 1
    assert "    – : \n" in result.stdout
    assert f"    {FOLDER}A.XML : A  \n" in result.stdout
    assert "sans SHA-1" in result.stdout


@pytest.mark.parametrize(("content", "code"), [
    (b"", "V-XDM-NOT-ZIP"), (b"PK\x03\x04", "V-XDM-TRUNCATED")])
def test_what_is_no_archive(content: bytes, code: str) -> None:
    Path("X.ZIP").write_bytes(content)
    result = volet("show", "X.ZIP", "--json")
    assert (result.exit_code, codes(result), data(result)["subsets"]) == (1, [code], [])
    assert code in volet("show", "X.ZIP").stderr


# --- import --------------------------------------------------------------------------------------------------------


def sent(body: Any, folder: Path) -> tuple[Submission, dict[str, bytes]]:
    """What an ITI-41 submitted: metadata and documents by uniqueId."""
    message = body.message(folder)
    with message:
        request = messages.read_provide(body.envelope(folder).body)
        documents = messages.attach(request.documents, message.parts)
        submission = ebxml.to_submission(request.objects)
        return submission, {entry.unique_id: documents[entry.id].read() for entry in submission.documents}


def test_an_archive_becomes_a_new_signed_submission(tmp_path: Path) -> None:
    archive = exported(VSM, ORDER)
    with archive.open("rb") as file:
        theirs = xdm.read(file).subsets[0].submission
    with serving(registered()) as fake:
        result = volet("import", archive, "--card", "cardiologue", "--url", fake.url, "--json")
    told = data(result)
    assert (result.exit_code, told["status"], told["findings"]) == (0, "Success", [])
    submission, documents = sent(fake.requests[0], tmp_path)
    assert [documents[entry.unique_id] for entry in theirs.documents] == [VSM.read_bytes(), ORDER.read_bytes()]
    assert len(submission.documents) == 3  # and the signature
    for entry, their in zip(submission.documents, theirs.documents, strict=False):
        assert entry.id != their.id
        assert replace(entry, id="") == replace(their, id="", uri=())
    assert told["submission_set"] == submission.submission_set.unique_id != theirs.submission_set.unique_id
    assert [row["unique_id"] for row in told["documents"]] == [entry.unique_id for entry in theirs.documents]
    assert told["submissions"][0]["subset"] == "SUBSET01"
    assert submission.submission_set.authors != theirs.submission_set.authors


def test_subsets_go_one_by_one() -> None:
    archive = exported(VSM, DLU)
    refusal = RegistryError("XDSRegistryMetadataError", "non")
    with serving(failed(refusal), registered()) as fake:
        result = volet("import", archive, "--card", "medecin", "--url", fake.url, "--json")
    told = data(result)
    assert (result.exit_code, told["status"]) == (1, "Failure")
    assert [(row["subset"], row["status"]) for row in told["submissions"]] == [
        ("SUBSET01", "Failure"), ("SUBSET02", "Success")]
    assert codes(result) == ["V-XDM-PATIENTS", "XDSRegistryMetadataError"]


def test_what_is_shown_of_an_import() -> None:
    archive = exported(VSM)
    with serving(registered()) as fake:
        result = volet("import", archive, "--card", "medecin", "--url", fake.url)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Déposé : Synthèse médicale (SUBSET01)\n    {UID}\n")
    with serving(failed(RegistryError("XDSRegistryBusy", "trop de monde"))) as fake:
        result = volet("import", archive, "--card", "medecin", "--url", fake.url)
    assert result.exit_code == 1
    assert "Refusé : Synthèse médicale" in result.stderr
    result = volet("import", changed(archive, UID.encode(), b"1.2.3"), "--card", "medecin", "--url", fake.url)
    assert "Refusé : SUBSET01" in result.stderr


WRONG: dict[str, tuple[bytes, bytes, str, str]] = {
    "another document": (UID.encode(), b"1.2.3", "METADATA.XML", "V-VOLET-MEDIA-IDENTITY"),
    "another patient": (INS.encode(), b"134119999900256", "METADATA.XML", "V-VOLET-MEDIA-IDENTITY"),
    "damaged": (b"Synth", b"Xynth", "DOC00001.XML", "V-XDM-HASH-DIFFERS"),
    "signature only": (b'nodeRepresentation="11"', b'nodeRepresentation="urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1"',
                       "METADATA.XML", "V-VOLET-MEDIA-EMPTY"),
}


@pytest.mark.parametrize(("old", "new", "file", "code"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_relied_on_is_not_sent(old: bytes, new: bytes, file: str, code: str) -> None:
    archive = changed(exported(VSM), old, new, FOLDER + file)
    with serving(registered()) as fake:
        result = volet("import", archive, "--card", "medecin", "--url", fake.url, "--json")
    assert (result.exit_code, codes(result), data(result)["status"]) == (1, [code], "Failure")
    assert fake.requests == []


def test_an_unsafe_archive_is_not_imported() -> None:
    result = volet("import", packed({"../A": b""}), "--card", "medecin", "--json")
    assert (result.exit_code, codes(result), data(result)["submissions"]) == (1, ["V-XDM-PATH"], [])


# --- metadata and headers ------------------------------------------------------------------------------------------


@pytest.fixture
def content(pki: Path) -> Content:
    """One summary, ready to be written."""
    card = load_card(pki / "cards" / "medecin-traitant")
    return contents_of([read_document(VSM)], card, datetime.now(UTC))[0]


def subset_of(content: Content, pki: Path, **changes: object) -> Subset:
    """The subset read back, its document's metadata changed before it was written."""
    (entry,) = content.submission.documents
    submission = replace(content.submission, documents=(replace(entry, **changes),))
    origin = origin_of(load_card(pki / "cards" / "medecin-traitant"))
    return xdm.read(xdm.write([Content(submission, content.documents)], datetime.now(UTC), origin)).subsets[0]


LIMITED = Classification(node=DOCUMENT.limited_metadata, classified_object="x", id="limited")
CODE = Code("X", "1.2.3", localized("X"))


def test_limited_metadata_are_completed_from_the_header(content: Content, pki: Path, tmp_path: Path) -> None:
    subset = subset_of(content, pki, class_code=None, type_code=None, format_code=None, facility_type=None,
                       practice_setting=None, confidentiality=(), creation_time="", language="", patient_id="",
                       source_patient_id="", source_patient_info=(), extra_classifications=(LIMITED,),
                       repository_unique_id="1.2.3", status="urn:x", availability="urn:y", lid="urn:z", home="urn:w")
    found = taken(subset, tmp_path)
    assert found.findings == ()
    (document,) = found.documents
    assert document.warnings == ()
    assert replace(document.entry, id="") == replace(read_document(VSM).entry, id="")
    assert document.path.read_bytes() == VSM.read_bytes()


@pytest.mark.parametrize(("attribute", "value", "name"), [
    ("class_code", CODE, "classCode"), ("type_code", CODE, "typeCode"), ("format_code", CODE, "formatCode"),
    ("facility_type", CODE, "healthcareFacilityTypeCode"), ("practice_setting", CODE, "practiceSettingCode"),
    ("title", localized("Autre"), "title"), ("language", "en", "languageCode"),
    ("legal_authenticator", "1^A", "legalAuthenticator"), ("creation_time", "20250101", "creationTime"),
    ("service_start", "20250101", "serviceStartTime"), ("confidentiality", (CODE,), "confidentialityCode")])
def test_metadata_that_say_something_else_are_followed_with_a_warning(
        attribute: str, value: Any, name: str, content: Content, pki: Path, tmp_path: Path) -> None:
    (document,) = taken(subset_of(content, pki, **{attribute: value}), tmp_path).documents
    assert [(found.code, found.severity, found.values["attribute"]) for found in document.warnings] == [
        ("V-VOLET-MEDIA-HEADER", Severity.WARNING, name)]
    assert getattr(document.entry, attribute) == value


@pytest.mark.parametrize("changes", [
    {"creation_time": "20260914"}, {"creation_time": "202609140830"},
    {"patient_id": f"{INS}^^^&1.2.250.1.213.1.4.10&ISO"},
    {"confidentiality": (Code("N", "2.16.840.1.113883.5.25"), CODE)}])
def test_metadata_may_say_it_otherwise(changes: dict[str, Any], content: Content, pki: Path, tmp_path: Path) -> None:
    (document,) = taken(subset_of(content, pki, **changes), tmp_path).documents
    assert document.warnings == ()


def test_what_does_not_travel_on_is_told(content: Content, pki: Path, tmp_path: Path) -> None:
    card = load_card(pki / "cards" / "medecin")
    lot = make_lot([read_document(VSM)], card, datetime.now(UTC), replaced="urn:uuid:old")
    folder = Folder("folder", unique_id="1.2.9", patient_id="x", title=localized("Suivi"))
    loose = Association("link", HAS_MEMBER, lot.submission.submission_set.id, "urn:uuid:older")
    submission = replace(lot.submission, folders=(folder,), associations=(*lot.submission.associations, loose))
    (document,) = lot.documents
    sources = {document.entry.id: VSM.read_bytes(), lot.submission.documents[-1].id: lot.signature}
    data = xdm.write([Content(submission, sources)], datetime.now(UTC), origin_of(card))
    found = taken(xdm.read(data).subsets[0], tmp_path)
    assert [(finding.code, finding.received) for finding in found.findings] == [
        ("V-VOLET-MEDIA-SIGNATURE", lot.submission.documents[-1].unique_id),
        ("V-VOLET-MEDIA-LEFT-OUT", "Folder Suivi"), ("V-VOLET-MEDIA-LEFT-OUT", "RPLC urn:uuid:old"),
        ("V-VOLET-MEDIA-LEFT-OUT", "HasMember urn:uuid:older")]
    assert RPLC in {link.type for link in submission.associations}
    assert len(found.documents) == 1


def refusal(subset: Subset, folder: Path) -> list[str]:
    with pytest.raises(Refused) as caught:
        taken(subset, folder)
    return [finding.code for finding in caught.value.findings]


def test_a_document_that_is_no_cda(content: Content, pki: Path, tmp_path: Path) -> None:
    (entry,) = content.submission.documents
    bare = replace(entry, hash="", size="")
    origin = origin_of(load_card(pki / "cards" / "medecin-traitant"))
    data = xdm.write([Content(replace(content.submission, documents=(bare,)), {entry.id: b"%PDF-1.4"})],
                     datetime.now(UTC), origin)
    assert refusal(xdm.read(data).subsets[0], tmp_path) == ["V-XML-NOT-WELL-FORMED"]


def test_a_document_of_nobody(content: Content, pki: Path, tmp_path: Path) -> None:
    nobody = VSM.read_bytes().replace(b'<id root="1.2.250.1.213.1.4.10" extension="258059999900193"/>', b"")
    (entry,) = content.submission.documents
    bare = replace(entry, hash="", size="", patient_id="")
    origin = origin_of(load_card(pki / "cards" / "medecin-traitant"))
    data = xdm.write([Content(replace(content.submission, documents=(bare,)), {entry.id: nobody})],
                     datetime.now(UTC), origin)
    assert refusal(xdm.read(data).subsets[0], tmp_path) == ["V-VOLET-CLIENT-PATIENT-ABSENT"]


# --- the real server -------------------------------------------------------------------------------------------------


@contextmanager
def real_server(folder: Path) -> Iterator[str]:
    """The house itself on plain HTTP while the block lasts; its cards are in the folder."""
    settings = Settings(data=folder)
    init(settings)
    server = build(settings)
    http = make_server("127.0.0.1", 0, create_app(server), threaded=True)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
        server.close()


def test_an_archive_reaches_the_record(tmp_path: Path, pki: Path) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    for name in ("pki", "cards"):
        (folder / name).symlink_to(pki / name)
    archive = exported(VSM, DLU)
    with real_server(folder) as url:
        result = volet("import", archive, "--card", folder / "cards" / "medecin-traitant", "--url", url, "--json")
        told = data(result)
        endpoint = Endpoint(url, load_card(folder / "cards" / "cardiologue"))
        found = get_documents(endpoint, f"{INS}^^^&1.2.250.1.213.1.4.10&ISO^NH", [UID])
    assert [(row["subset"], row["status"]) for row in told["submissions"]] == [
        ("SUBSET01", "Success"), ("SUBSET02", "Success")]
    assert codes(result) == ["V-XDM-PATIENTS"]
    (entry,) = found.entries
    assert (entry.id, entry.unique_id, entry.size) == (
        told["documents"][0]["entry_uuid"], UID, str(VSM.stat().st_size))
