"""XDM media: what is written is read back, by us and by others; a medium with one thing wrong has one finding."""

from __future__ import annotations

import hashlib
import io
import random
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from tests.xds.samples import associations, documents, folders, references, sets
from xds import ebxml, xdm
from xds.findings import Refused, Severity
from xds.messages import write_submit_objects
from xds.model import Association, Author, Code, DocumentEntry, Submission, SubmissionSet
from xds.rim import localized
from xds.unzip import Limits
from xds.vocabulary import HAS_MEMBER
from xds.xdm import Content, join_uri, read, write, write_to
from xds.xdm_pages import Origin

RIM = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}"
NOW = datetime(2026, 1, 31, 12, 30, 58, tzinfo=UTC)
ORIGIN = Origin("Cabinet d'essai, 1 rue Fictive, tél. 0199000000", "Essai 1.0", "Essai & Fils")
PATIENT, OTHER = (f"{ins}^^^&1.2.250.1.213.1.4.10&ISO^NH" for ins in ("258059999900193", "134119999900256"))
MIB = 1024 * 1024


def submission(*entries: DocumentEntry, patient: str = PATIENT, moment: str = "20260131123000") -> Submission:
    the_set = SubmissionSet("set", unique_id="1.2.3", source_id="1.2.4", patient_id=patient, submission_time=moment,
                            authors=(Author(("899999000021^FICTIF^Bernard",), ("CABINET D'ESSAI",)),))
    links = tuple(Association(f"link-{entry.id}", HAS_MEMBER, "set", entry.id, submission_set_status="Original")
                  for entry in entries)
    return Submission((the_set,), entries, (), links)


def entry(name: str, mime_type: str = "text/xml", **values: object) -> DocumentEntry:
    info = ("PID-5|ESSAI-VOLET^CAMILLE^^^^^L", "PID-7|19580517", "PID-8|F")
    return DocumentEntry(name, unique_id=f"1.2.{len(name)}", patient_id=PATIENT, mime_type=mime_type,
                         title=localized(f"Titre <{name}>"), type_code=Code("SYNTH", "1.2", localized("Synthèse")),
                         creation_time="20260130", source_patient_info=info, **values)


XML, PDF = b"<ClinicalDocument/>" * 50, b"%PDF-1.4 essai"
VALID = write([Content(submission(entry("one"), entry("two!", "application/pdf")), {"one": XML, "two!": PDF})],
              NOW, ORIGIN)


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def zipped(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


FILES = unzipped(VALID)
FOLDER = "IHE_XDM/SUBSET01/"
METADATA = FOLDER + "METADATA.XML"


# --- what is written -------------------------------------------------------------------------------------------------


def test_a_medium_has_the_files_that_it_must_have():
    assert list(FILES) == ["README.TXT", "INDEX.HTM", METADATA, FOLDER + "DOC00001.XML", FOLDER + "DOC00002.PDF"]
    assert (FILES[FOLDER + "DOC00001.XML"], FILES[FOLDER + "DOC00002.PDF"]) == (XML, PDF)


def test_the_standard_library_sees_dos_entries_of_that_moment():
    with zipfile.ZipFile(io.BytesIO(VALID)) as archive:
        for info in archive.infolist():
            assert (info.create_system, info.flag_bits, info.date_time) == (0, 0, (2026, 1, 31, 12, 30, 58))
            assert info.external_attr == (0x10 if info.is_dir() else 0x20)
            assert info.filename == info.filename.upper()


def test_metadata_as_lxml_reads_them():
    root = etree.fromstring(FILES[METADATA])
    assert root.tag == "{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}SubmitObjectsRequest"
    told = [{slot.get("name"): [value.text for value in slot.iter(RIM + "Value")] for slot in thing.iter(RIM + "Slot")}
            for thing in root.iter(RIM + "ExtrinsicObject")]
    for slots, name, content in zip(told, ("DOC00001.XML", "DOC00002.PDF"), (XML, PDF), strict=True):
        assert slots["URI"] == [name]
        assert slots["size"] == [str(len(content))]
        assert slots["hash"] == [hashlib.sha1(content).hexdigest()]


def test_readme_says_who_with_what_and_how_in_two_languages():
    text = FILES["README.TXT"].decode("utf-8")
    assert text.count("\n") == text.count("\r\n") > 20
    for words in (ORIGIN.institution, ORIGIN.application, ORIGIN.vendor, "2026-01-31 12:30 UTC"):
        assert text.count(words) == 2
    assert "documents de santé" in text
    assert "health documents" in text


def test_index_is_xhtml_with_a_link_to_each_file():
    tree = etree.fromstring(FILES["INDEX.HTM"], etree.XMLParser(load_dtd=False, no_network=True))
    namespace = "{http://www.w3.org/1999/xhtml}"
    assert tree.tag == namespace + "html"
    links = {link.get("href"): link.text for link in tree.iter(namespace + "a")}
    assert links == {"README.TXT": "README.TXT", FOLDER + "DOC00001.XML": "Titre <one>",
                     FOLDER + "DOC00002.PDF": "Titre <two!>"}
    text = "".join(tree.itertext())
    for words in ("ESSAI-VOLET CAMILLE, né(e) le 1958-05-17, 258059999900193", "FICTIF Bernard, CABINET D'ESSAI",
                  "2026-01-31 12:30 UTC", "Synthèse", "Cabinet d'essai"):
        assert words in text


def test_the_same_input_gives_the_same_bytes_in_any_time_zone():
    content = [Content(submission(entry("one")), {"one": XML})]
    assert write(content, NOW, ORIGIN) == write(content, NOW.astimezone(timezone(timedelta(hours=2))), ORIGIN)


def test_documents_are_streamed_and_described_to_the_caller():
    pieces = [b"<a>", b"1" * 70_000, b"</a>"]
    file = io.BytesIO()
    (written,) = write_to(file, [Content(submission(entry("one")), {"one": lambda: iter(pieces)})], NOW, ORIGIN)
    whole = b"".join(pieces)
    assert (written.documents[0].uri, written.documents[0].size) == (("DOC00001.XML",), str(len(whole)))
    assert read(file).subsets[0].documents["one"].read() == whole


def test_what_readers_would_take_for_a_bomb_is_stored():
    data = write([Content(submission(entry("one")), {"one": bytes(MIB)})], NOW, ORIGIN)
    assert read(data).all_findings() == []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.getinfo(FOLDER + "DOC00001.XML").compress_type == zipfile.ZIP_STORED


@pytest.mark.parametrize(("contents", "reason"), [
    ([], "1 to 99"),
    ([Content(submission(), {})] * 100, "1 to 99"),
    ([Content(submission(entry("one")), {})], "one document"),
    ([Content(submission(), {"one": b""})], "one document"),
    ([Content(submission(entry("one"), entry("one")), {"one": b""})], "one document"),
    ([Content(submission(entry("one", hash="00")), {"one": b""})], "hash"),
    ([Content(submission(entry("one", size="1")), {"one": b""})], "size"),
])
def test_what_cannot_be_written(contents: list[Content], reason: str):
    with pytest.raises(ValueError, match=reason):
        write(contents, NOW, ORIGIN)


# --- and read back ---------------------------------------------------------------------------------------------------


def numbered(things, prefix: str):
    """The same objects with ids of their own."""
    return tuple(replace(thing, id=f"{prefix}{number}") for number, thing in enumerate(things))


@st.composite
def media(draw) -> list[Content]:
    """One to three submissions, each with documents of its own."""
    contents = []
    for number in range(draw(st.integers(1, 3))):
        entries = [replace(entry, hash="", size="", uri=(), mime_type=draw(st.sampled_from(["text/xml", "x/y", ""])))
                   for entry in draw(st.lists(documents, max_size=2))]
        of_it = Submission(
            (replace(draw(sets), id="set", submission_time=f"2026013112300{number}", patient_id=PATIENT),),
            numbered(entries, "document"), numbered(draw(st.lists(folders, max_size=1)), "folder"),
            numbered(draw(st.lists(associations, max_size=1)), "link"), tuple(draw(references)))
        contents.append(Content(of_it, {entry.id: draw(st.binary(max_size=50)) for entry in of_it.documents}))
    return contents


@given(media())
@settings(max_examples=40, deadline=None)
def test_round_trip(contents: list[Content]):
    found = read(write(contents, NOW, ORIGIN))
    assert found.all_findings() == []
    assert [subset.name for subset in found.subsets] == [f"SUBSET{number:02}" for number in range(1, len(contents) + 1)]
    for subset, content in zip(found.subsets, contents, strict=True):
        assert {name: document.read() for name, document in subset.documents.items()} == content.documents
        plain = [replace(entry, uri=(), hash="", size="") for entry in subset.submission.documents]
        assert replace(subset.submission, documents=tuple(plain)) == content.submission
        for described in subset.submission.documents:
            document = content.documents[described.id]
            assert (described.hash, described.size) == (hashlib.sha1(document).hexdigest(), str(len(document)))


def test_findings_have_the_place_of_the_entry():
    (subset,) = read(zipped({**FILES, METADATA: FILES[METADATA].replace(b"DOC00002.PDF", b"DOC00003.PDF")})).subsets
    (absent, loose) = subset.findings
    assert (absent.where.part, absent.where.line, absent.where.path) == (METADATA, 2, "DocumentEntry(two!)")
    assert "IHE_XDM/SUBSET01/DOC00003.PDF" in absent.fr
    assert (loose.code, loose.where.part) == ("V-XDM-UNREFERENCED", FOLDER + "DOC00002.PDF")
    assert list(subset.documents) == ["one"]


# --- one change, one finding -----------------------------------------------------------------------------------------

FIRST = f"<rim:Value>{hashlib.sha1(XML).hexdigest()}</rim:Value>".encode()


def changed(old: bytes, new: bytes) -> bytes:
    """The valid medium with one thing in its METADATA.XML changed."""
    assert old in FILES[METADATA]
    return zipped({**FILES, METADATA: FILES[METADATA].replace(old, new, 1)})


def with_uri(*values: str) -> bytes:
    """The first document's URI in other words."""
    return changed(b"<rim:Value>DOC00001.XML</rim:Value>",
                   "".join(f"<rim:Value>{value}</rim:Value>" for value in values).encode())


def without(name: str) -> bytes:
    """The valid medium without one file."""
    return zipped({other: content for other, content in FILES.items() if other != name})


def objects(**changes: object) -> bytes:
    """The valid medium with another submission."""
    found = replace(read(VALID).subsets[0].submission, **changes)
    text = write_submit_objects(ebxml.from_submission(found))
    return zipped({**FILES, METADATA: text.encode()})


def damaged() -> bytes:
    """The last byte of the second document's data changed."""
    at = VALID.index(b"PK\x01\x02") - 3
    return VALID[:at] + bytes([VALID[at] ^ 1]) + VALID[at + 1:]


SETS = read(VALID).subsets[0].submission.sets
ENTRIES = read(VALID).subsets[0].submission.documents
#: Changes that refuse (part of) a medium: (medium, code)
WRONG: dict[str, tuple[bytes, str]] = {
    "no METADATA.XML": (without(METADATA), "V-XDM-NO-METADATA"),
    "METADATA.XML that is no XML": (zipped({**FILES, METADATA: b"{}"}), "V-XML-NOT-WELL-FORMED"),
    "METADATA.XML with a DOCTYPE": (changed(b"<lcm:Sub", b"<!DOCTYPE x><lcm:Sub"), "V-XML-DOCTYPE"),
    "METADATA.XML in UTF-7": (changed(b"UTF-8", b"UTF-7"), "V-XML-ENCODING"),
    "METADATA.XML of something else": (zipped({**FILES, METADATA: b"<html/>"}), "V-XDM-METADATA-ROOT"),
    "METADATA.XML without a list": (
        zipped({**FILES, METADATA: b'<SubmitObjectsRequest xmlns="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"/>'}),
        "V-SOAP-MESSAGE-CONTENT"),
    "no submission set": (objects(sets=()), "V-XDM-SUBMISSION-SET"),
    "two submission sets": (objects(sets=(*SETS, replace(SETS[0], id="b", submission_time="2025"))),
                            "V-XDM-SUBMISSION-SET"),
    "two entries of one id": (objects(documents=(ENTRIES[0], ENTRIES[0], ENTRIES[1])), "V-XDM-ENTRY-TWICE"),
    "entry without id": (objects(documents=(replace(ENTRIES[0], id=""), ENTRIES[1])), "V-XDM-ENTRY-TWICE"),
    "no URI": (objects(documents=(replace(ENTRIES[0], uri=()), ENTRIES[1])), "V-XDM-URI-ABSENT"),
    "URI to nothing": (with_uri("DOC00009.XML"), "V-XDM-URI-NOWHERE"),
    "URI to a folder": (with_uri("."), "V-XDM-URI-NOWHERE"),
    "URI out of the archive": (with_uri("../../../DOC00001.XML"), "V-XDM-URI-ILLEGAL"),
    "URI out of the archive, encoded": (with_uri("%2e%2e/%2e%2e/..%2f../etc/passwd"), "V-XDM-URI-ILLEGAL"),
    "absolute URI": (with_uri("/IHE_XDM/SUBSET01/DOC00001.XML"), "V-XDM-URI-ILLEGAL"),
    "URI to a host": (with_uri("http://127.0.0.1/DOC00001.XML"), "V-XDM-URI-ILLEGAL"),
    "URI to a local file": (with_uri("file:DOC00001.XML"), "V-XDM-URI-ILLEGAL"),
    "URI with a backslash": (with_uri("..\\SUBSET01\\DOC00001.XML"), "V-XDM-URI-ILLEGAL"),
    "URI with NUL": (with_uri("DOC00001.XML%00.PDF"), "V-XDM-URI-ILLEGAL"),
    "URI of 60 000 signs": (with_uri("A/" * 30_000 + "DOC00001.XML"), "V-XDM-URI-ILLEGAL"),
    "URI with a part missing": (with_uri("1|DOC", "3|00001.XML"), "V-XDM-URI-ILLEGAL"),
    "URI with a part twice": (with_uri("1|DOC", "1|DOC"), "V-XDM-URI-ILLEGAL"),
    "URI with a part of no number": (with_uri("1|DOC", "00001.XML"), "V-XDM-URI-ILLEGAL"),
    "several parts": (changed(b'mimeType="text/xml"', b'mimeType="multipart/related"'), "V-XDM-MULTIPART"),
    "another hash": (changed(FIRST, b"<rim:Value>00</rim:Value>"), "V-XDM-HASH-DIFFERS"),
    "another size": (changed(b"<rim:Value>950<", b"<rim:Value>951<"), "V-XDM-SIZE-DIFFERS"),
    "a size that is no number": (changed(b"<rim:Value>950<", b"<rim:Value>950 octets<"), "V-XDM-SIZE-DIFFERS"),
    "other content": (zipped({**FILES, FOLDER + "DOC00002.PDF": PDF[::-1]}), "V-XDM-HASH-DIFFERS"),
    "a document with another CRC": (damaged(), "V-XDM-CONTENT"),
}
#: Changes that only warn
ODD: dict[str, tuple[bytes, str]] = {
    "no README.TXT": (without("README.TXT"), "V-XDM-ROOT-FILE"),
    "no INDEX.HTM": (without("INDEX.HTM"), "V-XDM-ROOT-FILE"),
    "autorun": (zipped({**FILES, "AUTORUN.INF": b"[autorun]"}), "V-XDM-AUTORUN"),
    "long name": (zipped({**FILES, "IHE_PDI/LONGEST_NAME.XML": b""}), "V-XDM-NAME-DOS"),
    "long name of a folder": (zipped({**FILES, "LONGEST_NAME/A.XML": b""}), "V-XDM-NAME-DOS"),
    "accents": (zipped({**FILES, "É.XML": b""}), "V-XDM-NAME-DOS"),
    "nine levels": (zipped({**FILES, "A/B/C/D/E/F/G/H/I": b""}), "V-XDM-NAME-DOS"),
    "file in lower case": (zipped({name.replace("README", "readme"): content for name, content in FILES.items()}),
                           "V-XDM-NAME-DOS"),
    "URI in another case": (with_uri("doc00001.xml"), "V-XDM-URI-CASE"),
    "no hash": (objects(documents=(replace(ENTRIES[0], hash=""), ENTRIES[1])), "V-XDM-UNVERIFIED"),
    "no size": (objects(documents=(ENTRIES[0], replace(ENTRIES[1], size=""))), "V-XDM-UNVERIFIED"),
    "a file that no entry describes": (zipped({**FILES, FOLDER + "DOC00003.PDF": PDF}), "V-XDM-UNREFERENCED"),
    "an archive that no entry describes": (zipped({**FILES, FOLDER + "INNER.ZIP": VALID}), "V-XDM-UNREFERENCED"),
}
#: And what is as it may be
LAWFUL: dict[str, bytes] = {
    "hash in capitals": changed(FIRST, FIRST.upper().replace(b"RIM:VALUE", b"rim:Value")),
    "size with zeros": changed(b"<rim:Value>950<", b"<rim:Value>00950<"),
    "URI in parts": with_uri("2|001.XML", "1|DOC00"),
    "URI in one part": with_uri("1|DOC00001.XML"),
    "URI with percent signs": with_uri("DOC%300001%2EXML"),
    "URI with dots": with_uri("./X/../DOC00001.XML"),
    "URI by the parent": with_uri("../SUBSET01/DOC00001.XML"),
    "files of other profiles": zipped({**FILES, "DICOMDIR": b"", "IHE_PDI/INDEX.HTM": b""}),
    "document in a folder": zipped({
        **{name: content for name, content in FILES.items() if name != FOLDER + "DOC00001.XML"},
        FOLDER + "DOC00001/DOC00001.XML": XML,
        METADATA: FILES[METADATA].replace(b">DOC00001.XML<", b">DOC00001/DOC00001.XML<")}),
    "document in a folder of its own beside": zipped({
        **{name: content for name, content in FILES.items() if name != FOLDER + "DOC00001.XML"},
        "IHE_XDM/SHARED/DOC00001.XML": XML,
        METADATA: FILES[METADATA].replace(b">DOC00001.XML<", b">../SHARED/DOC00001.XML<")}),
}


@pytest.mark.parametrize(("data", "code"), WRONG.values(), ids=WRONG.keys())
def test_wrong(data: bytes, code: str):
    begin = time.process_time()
    found = [finding for finding in read(data).all_findings() if finding.code != "V-XDM-UNREFERENCED"]
    assert [(finding.code, finding.severity) for finding in found] == [(code, Severity.ERROR)]
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(("data", "code"), ODD.values(), ids=ODD.keys())
def test_odd(data: bytes, code: str):
    media = read(data)
    assert [(finding.code, finding.severity) for finding in media.all_findings()] == [(code, Severity.WARNING)]
    assert {name: document.read() for name, document in media.subsets[0].documents.items()} == {"one": XML, "two!": PDF}


@pytest.mark.parametrize("data", LAWFUL.values(), ids=LAWFUL.keys())
def test_lawful(data: bytes):
    media = read(data)
    assert media.all_findings() == []
    assert [subset.name for subset in media.subsets] == ["SUBSET01"]
    assert {name: document.read() for name, document in media.subsets[0].documents.items()} == {"one": XML, "two!": PDF}


def refusal(data: bytes, limits: Limits | None = None) -> list[str]:
    with pytest.raises(Refused) as caught:
        read(data, *([limits] if limits else []))
    return [finding.code for finding in caught.value.findings]


@pytest.mark.parametrize("data", [
    zipped({}), zipped({"README.TXT": b""}), zipped({"IHE_XDM.ZIP": VALID}), zipped({"IHE_XDM/METADATA.XML": b""}),
    zipped({f"EXPORT/{name}": content for name, content in FILES.items()})])
def test_what_is_no_medium(data: bytes):
    assert refusal(data) == ["V-XDM-NO-SUBSET"]


def test_an_unsafe_archive_is_refused_as_a_whole():
    assert refusal(zipped({**FILES, "../AUTOEXEC.BAT": b""})) == ["V-XDM-PATH"]


def test_everything_in_lower_case_is_read_with_warnings():
    media = read(zipped({name.lower(): content for name, content in FILES.items()}))
    assert {finding.code for finding in media.all_findings()} == {"V-XDM-NAME-DOS", "V-XDM-URI-CASE"}
    assert media.subsets[0].documents["one"].read() == XML


def test_parts_of_a_multipart_document_are_no_leftovers():
    files = {**FILES, METADATA: FILES[METADATA].replace(b'"text/xml"', b'"multipart/related"', 1).replace(
        b">DOC00001.XML<", b">PARTS/DOC00001.XML<"), FOLDER + "PARTS/DOC00001.XML": XML, FOLDER + "PARTS/A.JPG": b""}
    del files[FOLDER + "DOC00001.XML"]
    assert [finding.code for finding in read(zipped(files)).all_findings()] == ["V-XDM-MULTIPART"]


@pytest.mark.parametrize(("values", "uri"), [
    (["A"], "A"), (["1|A"], "A"), (["2|B", "1|A"], "AB"), (["10|J", *(f"{n}|{n}" for n in range(1, 10))], "123456789J"),
    (["1|"], ""), (["1|A|2"], "A|2"), (["0|A"], "0|A")])
def test_uri_of_a_slot(values: list[str], uri: str):
    assert join_uri(values) == uri


@given(st.lists(st.text(max_size=5), min_size=1, max_size=12), st.randoms())
def test_uri_in_parts_in_any_order(parts: list[str], shuffler):
    values = [f"{number}|{part}" for number, part in enumerate(parts, 1)]
    shuffler.shuffle(values)
    assert join_uri(values) == "".join(parts)


# --- several submissions ---------------------------------------------------------------------------------------------


def two(**changes: object) -> list[str]:
    """Codes of a medium with two submissions, the second one changed."""
    values = {"moment": "20260131123001", "patient": PATIENT, **changes}
    data = write([Content(submission(entry("one")), {"one": XML}),
                  Content(submission(entry("two!"), **values), {"two!": XML})], NOW, ORIGIN)
    return [finding.code for finding in read(data).all_findings()]


def test_two_submissions():
    assert two() == []
    assert two(patient=PATIENT.removesuffix("^NH")) == []
    assert two(moment="20260131123000") == ["V-XDM-TIME-TWICE"]
    assert two(patient=OTHER) == ["V-XDM-PATIENTS"]


def test_one_bad_subset_leaves_the_others():
    second = {name.replace("SUBSET01", "SUBSET02"): content for name, content in FILES.items() if FOLDER in name}
    media = read(zipped({**FILES, **second, METADATA: b"<"}))
    assert [[finding.code for finding in subset.findings] for subset in media.subsets] == [
        ["V-XML-NOT-WELL-FORMED"], []]
    assert media.subsets[1].documents["one"].read() == XML


# --- bounds ----------------------------------------------------------------------------------------------------------


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_large_documents_are_written_and_read_in_bounded_memory(tmp_path):
    block = random.Random(1).randbytes(MIB)
    content = Content(submission(entry("one", "application/pdf")), {"one": lambda: (block for _ in range(40))})
    path = tmp_path / "IHE_XDM.ZIP"

    def write_and_read():
        with path.open("wb") as file:
            write_to(file, [content], NOW, ORIGIN)
        with path.open("rb") as file:
            (subset,) = read(file).subsets
            assert sum(map(len, subset.documents["one"].chunks())) == 40 * MIB

    assert peak(write_and_read) < 4 * MIB


def test_many_entries_to_one_file_unpack_it_once(monkeypatch):
    many = tuple(replace(ENTRIES[1], id=f"entry{number}") for number in range(500))
    data = objects(documents=(ENTRIES[0], *many))
    unpacked, unpack = [], xdm.unpack
    monkeypatch.setattr(xdm, "unpack", lambda archive, entry: unpacked.append(entry.name) or unpack(archive, entry))
    assert len(read(data).subsets[0].documents) == 501
    assert sorted(unpacked) == [FOLDER + "DOC00001.XML", FOLDER + "DOC00002.PDF", METADATA]
    unpacked.clear()
    assert [finding.code for finding in read(broken_crc(data)).all_findings()] == ["V-XDM-CONTENT"] * 500
    assert len(unpacked) == 3


def broken_crc(data: bytes) -> bytes:
    """The archive with another CRC for its PDF, in both headers."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        crc = archive.getinfo(FOLDER + "DOC00002.PDF").CRC.to_bytes(4, "little")
    assert data.count(crc) == 2
    return data.replace(crc, bytes(4))


def test_metadata_of_all_subsets_together_are_bounded():
    padded = FILES[METADATA] + b"<!--" + random.Random(1).randbytes(40_000).hex().encode() + b"-->"
    files = {name.replace("01/", f"{number:02}/"): padded if name == METADATA else content
             for number in range(1, 4) for name, content in FILES.items()}
    assert refusal(zipped(files), Limits(metadata=200_000)) == ["V-XDM-TOO-LARGE"]
    assert len(read(zipped(files), Limits(metadata=300_000)).subsets) == 3


changes = st.lists(st.tuples(st.integers(0, len(FILES[METADATA]) - 1), st.integers(0, 255)), min_size=1, max_size=5)


@given(changes)
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_metadata_is_read_or_found_wrong(changes):
    out = bytearray(FILES[METADATA])
    for at, value in changes:
        out[at] = value
    (subset,) = read(zipped({**FILES, METADATA: bytes(out)})).subsets
    for document in subset.documents.values():
        assert document.read() in (XML, PDF, bytes(out))
