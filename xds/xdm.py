"""IHE XDM media as a ZIP archive, attached to a mail as IHE_XDM.ZIP (ITI TF-2 §3.32): archive <-> submissions.

    README.TXT, INDEX.HTM                  for people
    IHE_XDM/SUBSETnn/METADATA.XML          one submission: lcm:SubmitObjectsRequest
    IHE_XDM/SUBSETnn/DOC00001.XML …        its documents, where the URI of each entry says, relative to METADATA.XML

What makes the archive itself unsafe refuses it as a whole (`xds.unzip`); what is wrong within a subset is a finding of
that subset, so that a reader can be shown the rest. An archive inside the archive is a document like any other.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import BinaryIO, TypeAlias
from urllib.parse import unquote

from xds.ebxml import from_submission, to_submission
from xds.findings import Catalogue, Finding, Refused, Where
from xds.messages import read_submit_objects, write_submit_objects
from xds.model import DocumentEntry, Submission
from xds.unzip import DEFAULT_LIMITS, FREE_RATIO, TOO_LARGE, Archive, Entry, Limits, open_archive, unpack
from xds.vocabulary import LCM
from xds.xdm_pages import Listed, Origin, index, readme
from xds.xml import parse, where

RULES = Catalogue("xds")
NO_SUBSET = RULES["V-XDM-NO-SUBSET"]
ROOT_FILE = RULES["V-XDM-ROOT-FILE"]
AUTORUN = RULES["V-XDM-AUTORUN"]
NAME_DOS = RULES["V-XDM-NAME-DOS"]
NO_METADATA = RULES["V-XDM-NO-METADATA"]
METADATA_ROOT = RULES["V-XDM-METADATA-ROOT"]
SUBMISSION_SET = RULES["V-XDM-SUBMISSION-SET"]
ENTRY_TWICE = RULES["V-XDM-ENTRY-TWICE"]
URI_ABSENT = RULES["V-XDM-URI-ABSENT"]
URI_ILLEGAL = RULES["V-XDM-URI-ILLEGAL"]
URI_NOWHERE = RULES["V-XDM-URI-NOWHERE"]
URI_CASE = RULES["V-XDM-URI-CASE"]
MULTIPART = RULES["V-XDM-MULTIPART"]
UNVERIFIED = RULES["V-XDM-UNVERIFIED"]
SIZE_DIFFERS = RULES["V-XDM-SIZE-DIFFERS"]
HASH_DIFFERS = RULES["V-XDM-HASH-DIFFERS"]
UNREFERENCED = RULES["V-XDM-UNREFERENCED"]
TIME_TWICE = RULES["V-XDM-TIME-TWICE"]
PATIENTS = RULES["V-XDM-PATIENTS"]

ROOT, METADATA, README, INDEX = "IHE_XDM", "METADATA.XML", "README.TXT", "INDEX.HTM"
MULTIPART_TYPE = "multipart/related"
_AUTORUN = "autorun.inf"
_LONGEST_URI = 1024
_DEEPEST = 8  # levels of ISO 9660
_DOS_FILE = re.compile(r"[A-Z0-9_]{1,8}(?:\.[A-Z0-9_]{1,3})?")
_DOS_FOLDER = re.compile(r"[A-Z0-9_]{1,8}")
_PART = re.compile(r"([1-9][0-9]{0,3})\|(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Document:
    """A file that an entry describes, with its size and SHA-1 as found. It is unpacked anew each time it is read."""

    name: str
    size: int
    sha1: str
    archive: Archive = field(repr=False)
    entry: Entry = field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces of at most 64 KiB, as long as the archive's file is open."""
        return unpack(self.archive, self.entry)

    def read(self) -> bytes:
        """The content; its size was bounded when the archive was opened."""
        return b"".join(self.chunks())


@dataclass(frozen=True, slots=True)
class Subset:
    """One folder of IHE_XDM: its submission, the documents found, by entry id, and what is wrong with them."""

    name: str
    submission: Submission = field(default_factory=Submission)
    documents: Mapping[str, Document] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Media:
    """All subsets in the order of their names, and findings on the medium as a whole."""

    subsets: tuple[Subset, ...]
    findings: tuple[Finding, ...] = ()

    def all_findings(self) -> list[Finding]:
        """Those of the medium, then those of each subset."""
        return [*self.findings, *(finding for subset in self.subsets for finding in subset.findings)]


# --- reading -------------------------------------------------------------------------------------------------------


def read(archive: BinaryIO | bytes, limits: Limits = DEFAULT_LIMITS) -> Media:
    """The submissions of a medium and where their documents are, each unpacked once to compare size and SHA-1.

    `Refused` when the archive is unsafe or no XDM medium. A file object must be seekable, and stay open for whoever
    reads the documents.
    """
    opened = open_archive(archive, limits)
    medium = _Medium(opened, opened.files())
    folders = _folders(medium)
    _check_metadata_size(folders, medium, limits)
    read_first = [_read_subset(folder, medium) for folder in folders.values()]
    subsets = tuple(subset for folder, found in zip(folders.values(), read_first, strict=True)
                    if (subset := _with_leftovers(found, folder, medium)) is not None)
    return Media(subsets, (*opened.warnings, *_check_root(medium), *_check_together(subsets)))


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of IHE_XDM: its path, and the names of the files in it, at any depth, in lower case."""

    path: str
    files: list[str] = field(default_factory=list)

    @property
    def metadata(self) -> str:
        """Where its METADATA.XML is, or should be, in lower case."""
        return f"{self.path}/{METADATA}".casefold()


@dataclass(frozen=True, slots=True)
class _Medium:
    """An opened archive, its files by name in lower case, and what was found out about them so far."""

    archive: Archive
    files: Mapping[str, Entry]
    known: dict[str, Document | Refused] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # files, and folders of multipart documents, in lower case

    def document(self, entry: Entry) -> Document:
        """The file as a document; unpacked the first time only, however many entries point to it."""
        if entry.name not in self.known:
            try:
                self.known[entry.name] = _digest(self.archive, entry)
            except Refused as refused:
                self.known[entry.name] = refused
        known = self.known[entry.name]
        if isinstance(known, Refused):
            raise known
        return known

    def is_used(self, name: str) -> bool:
        """Whether an entry of some subset points to that file, or to a multipart document that it is a part of."""
        steps = name.split("/")
        return any("/".join(steps[:depth]) in self.used for depth in range(1, len(steps) + 1))


def _digest(archive: Archive, entry: Entry) -> Document:
    sha1, size = hashlib.sha1(usedforsecurity=False), 0
    for piece in unpack(archive, entry):
        sha1.update(piece)
        size += len(piece)
    return Document(entry.name, size, sha1.hexdigest(), archive, entry)


def _folders(medium: _Medium) -> dict[str, _Folder]:
    """Folders of IHE_XDM by path in lower case, in that order; `Refused` when there is none."""
    found: dict[str, _Folder] = {}
    for name, entry in sorted(medium.files.items()):
        steps = entry.name.split("/")
        if len(steps) > 2 and steps[0].casefold() == ROOT.casefold():
            path = "/".join(steps[:2])
            found.setdefault(path.casefold(), _Folder(path)).files.append(name)
    if not found:
        names = ", ".join(entry.name for entry in list(medium.files.values())[:5])
        raise Refused(NO_SUBSET.at(Where("archive"), expected=f"{ROOT}/SUBSET01/{METADATA}", received=names))
    return found


def _check_metadata_size(folders: Mapping[str, _Folder], medium: _Medium, limits: Limits) -> None:
    """XML takes many times its size once it is read: all METADATA.XML together are bounded, before any is read."""
    size = sum(medium.files[folder.metadata].size for folder in folders.values() if folder.metadata in medium.files)
    if size > limits.metadata:
        raise Refused(TOO_LARGE.at(Where(METADATA), expected=f"≤ {limits.metadata}", received=size))


def _read_subset(folder: _Folder, medium: _Medium) -> Subset:
    name = folder.path.partition("/")[2]
    file = medium.files.get(folder.metadata)
    if file is None:
        return Subset(name)
    try:
        submission, lines = _read_metadata(file, medium)
    except Refused as refused:
        medium.used.update(folder.files)  # nobody knows what they are
        return Subset(name, findings=tuple(_at(finding, file.name) for finding in refused.findings))
    medium.used.add(folder.metadata)
    findings = list(_check_submission(submission, file.name))
    documents: dict[str, Document] = {}
    for entry in submission.documents:
        place = Where(file.name, line=lines.get(entry.id, 0), path=f"DocumentEntry({entry.id})")
        document, found = _find_document(entry, folder.path, place, medium)
        findings += found
        if document is not None:
            documents[entry.id] = document
    return Subset(name, submission, documents, tuple(findings))


def _read_metadata(file: Entry, medium: _Medium) -> tuple[Submission, dict[str, int]]:
    """The submission of a METADATA.XML, and the line of each object by id."""
    root = parse(b"".join(unpack(medium.archive, file)), file.name)
    if root.tag != f"{{{LCM}}}SubmitObjectsRequest":
        raise Refused(METADATA_ROOT.at(where(root), expected=f"{{{LCM}}}SubmitObjectsRequest", received=root.tag))
    request = read_submit_objects(root)
    return to_submission(request.objects, request.references), {thing.id: thing.line for thing in request.objects}


def _find_document(entry: DocumentEntry, folder: str, place: Where, medium: _Medium
                   ) -> tuple[Document | None, list[Finding]]:
    """The file that an entry points to, and how it differs from what the entry says."""
    try:
        file, warnings = _follow(entry, folder, place, medium)
        medium.used.add(file.name.casefold())
        if entry.mime_type.lower().partition(";")[0].strip() == MULTIPART_TYPE:
            if file.name.count("/") > 2:  # its parts stand beside it, in a folder of their own
                medium.used.add(file.name.casefold().rpartition("/")[0])
            raise Refused(MULTIPART.at(place, received=file.name))
        document = medium.document(file)
    except Refused as refused:
        return None, list(refused.findings)
    return document, [*warnings, *_verify(entry, document, place)]


def _follow(entry: DocumentEntry, folder: str, place: Where, medium: _Medium) -> tuple[Entry, list[Finding]]:
    """The file of an entry's URI, as written or with its percent signs decoded; its case is as on FAT, indifferent."""
    if not entry.uri:
        raise Refused(URI_ABSENT.at(place, expected="Slot URI", received=""))
    try:
        uri = join_uri(entry.uri)
        paths = [_resolve(text, folder) for text in dict.fromkeys((uri, unquote(uri, errors="replace")))]
    except ValueError as error:
        raise Refused(URI_ILLEGAL.at(place, expected="DOC00001.XML", received=" ".join(entry.uri), reason=error)
                      ) from error
    found = next((medium.files[path.casefold()] for path in paths if path.casefold() in medium.files), None)
    if found is None:
        raise Refused(URI_NOWHERE.at(place, expected=paths[0], received=uri))
    if found.name in paths:
        return found, []
    return found, [URI_CASE.at(place, expected=found.name, received=paths[0])]


def join_uri(values: Sequence[str]) -> str:
    """The URI of a slot's values: one as it is, or `1|part`, `2|part`, … in any order; ValueError otherwise."""
    matches = [_PART.fullmatch(value) for value in values]
    parts = {int(match[1]): match[2] for match in matches if match}
    if len(values) == 1 and not parts:
        return values[0]
    if sorted(parts) != list(range(1, len(values) + 1)):
        raise ValueError("1|…, 2|…, 3|… each once")
    return "".join(parts[number] for number in sorted(parts))


def _resolve(uri: str, folder: str) -> str:
    """Path of a relative URI from a folder of the archive; ValueError when it is another one or leads out."""
    if not uri or len(uri) > _LONGEST_URI or not uri.isprintable() or "\\" in uri:
        raise ValueError(f"1–{_LONGEST_URI}, /")
    if uri.startswith("/") or ":" in uri.partition("/")[0]:
        raise ValueError("RFC 3986 §4.2: relative-path")
    steps = folder.split("/")
    for step in uri.split("/"):
        if step == "..":
            if not steps:
                raise ValueError("../")
            steps.pop()
        elif step not in ("", "."):
            steps.append(step)
    return "/".join(steps)


# --- checking ------------------------------------------------------------------------------------------------------


def _verify(entry: DocumentEntry, document: Document, place: Where) -> Iterator[Finding]:
    """An importer compares size and hash (§3.32.4.1.4); they are required on media (ITI TF-3 table 4.3.1-3)."""
    absent = [name for name, value in (("hash", entry.hash), ("size", entry.size)) if not value]
    if absent:
        yield UNVERIFIED.at(place, expected="hash, size", received=document.name, attribute=", ".join(absent))
    if entry.hash and entry.hash.lower() != document.sha1:
        yield HASH_DIFFERS.at(place, expected=entry.hash, received=document.sha1, document=document.name)
    if entry.size and entry.size.lstrip("0") != str(document.size).lstrip("0"):
        yield SIZE_DIFFERS.at(place, expected=entry.size, received=document.size, document=document.name)


def _check_submission(submission: Submission, name: str) -> Iterator[Finding]:
    if len(submission.sets) != 1:
        yield SUBMISSION_SET.at(Where(name), expected=1, received=len(submission.sets))
    for identity, times in Counter(entry.id for entry in submission.documents).items():
        if times > 1 or not identity:
            yield ENTRY_TWICE.at(Where(name), expected=1, received=identity or times)


def _with_leftovers(subset: Subset, folder: _Folder, medium: _Medium) -> Subset | None:
    """The subset with findings on files that no entry points to; None for a folder that serves other subsets only."""
    unused = [medium.files[name].name for name in folder.files if not medium.is_used(name)]
    if folder.metadata in medium.files:
        loose = [UNREFERENCED.at(Where(name), received=name) for name in unused]
    elif unused:
        loose = [NO_METADATA.at(Where(folder.path), expected=f"{folder.path}/{METADATA}",
                                received=", ".join(unused[:5]))]
    else:
        return None
    return replace(subset, findings=(*subset.findings, *loose))


def _check_root(medium: _Medium) -> Iterator[Finding]:
    """What stands, or must not, at the root (§3.32.4.1.2.2), and names as on ISO 9660 level 1 (§3.32.4.1.2.1)."""
    for name in (README, INDEX):
        if name.casefold() not in medium.files:
            yield ROOT_FILE.at(Where(name), expected=name)
    if _AUTORUN in medium.files:
        yield AUTORUN.at(Where(medium.files[_AUTORUN].name))
    foreign = [entry.name for entry in medium.files.values() if not _is_dos(entry.name)]
    if foreign:
        yield NAME_DOS.at(Where(foreign[0]), expected="IHE_XDM/SUBSET01/DOC00001.XML",
                          received=", ".join(foreign[:5]), number=len(foreign))


def _is_dos(name: str) -> bool:
    *folders, file = name.split("/")
    return (len(folders) < _DEEPEST and _DOS_FILE.fullmatch(file) is not None
            and all(_DOS_FOLDER.fullmatch(folder) for folder in folders))


def _check_together(subsets: Iterable[Subset]) -> Iterator[Finding]:
    """What subsets must not, or should not, have in common (§3.32.4.1.2.2; MSSanté, one patient a message)."""
    sets = [the_set for subset in subsets for the_set in subset.submission.sets]
    for time, times in Counter(the_set.submission_time for the_set in sets).items():
        if times > 1:
            yield TIME_TWICE.at(Where("archive"), expected=f"{times} submissionTime", received=time)
    patients = {tuple(the_set.patient_id.split("^")[:4]) for the_set in sets if the_set.patient_id}
    if len(patients) > 1:
        yield PATIENTS.at(Where("archive"), expected=1, received=len(patients))


def _at(finding: Finding, name: str) -> Finding:
    """A finding of the shared readers, which speak of an envelope, at the file that was read."""
    return replace(finding, where=replace(finding.where, part=name))


# --- writing -------------------------------------------------------------------------------------------------------

#: A document's bytes, or what gives its pieces, the same at each call
Source: TypeAlias = bytes | Callable[[], Iterable[bytes]]

_SUFFIXES = {"text/xml": "XML", "application/xml": "XML", "application/xslt+xml": "XSL", "application/pdf": "PDF",
             "text/plain": "TXT", "text/rtf": "RTF", "application/rtf": "RTF", "image/jpeg": "JPG", "image/tiff": "TIF",
             "image/png": "PNG", "application/dicom": "DCM"}
MOST_SUBSETS, MOST_DOCUMENTS = 99, 99_999  # that names of 8 signs have numbers for


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into one subset: a submission, and each of its documents by entry id."""

    submission: Submission
    documents: Mapping[str, Source]


def write(contents: Sequence[Content], created: datetime, origin: Origin) -> bytes:
    """The archive of these submissions, each in a subset of its own; see `write_to`."""
    file = io.BytesIO()
    write_to(file, contents, created, origin)
    return file.getvalue()


def write_to(file: BinaryIO, contents: Sequence[Content], created: datetime, origin: Origin) -> list[Submission]:
    """Write the archive, documents piece by piece, and return its submissions: URI, hash and size set.

    `created` is aware. The same input gives the same bytes. ValueError when documents and entries do not belong
    together, when hash or size contradict a document, or when an archive has no names for so many.
    """
    if not 0 < len(contents) <= MOST_SUBSETS:
        raise ValueError(f"1 to {MOST_SUBSETS} submissions make a medium, not {len(contents)}")
    packed = [_pack(content, f"{ROOT}/SUBSET{number:02}") for number, content in enumerate(contents, 1)]
    pages = [Listed(one.folder, one.submission) for one in packed]
    with zipfile.ZipFile(file, "w") as archive:
        _put(archive, _File(README, readme(origin, created)), created)
        _put(archive, _File(INDEX, index(pages, origin, created)), created)
        for name in (ROOT, *(one.folder for one in packed)):
            _put(archive, _File(name + "/", b""), created)
        for one in packed:
            for part in one.files:
                _put(archive, part, created)
    return [one.submission for one in packed]


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    content: Source
    size: int = 0
    deflate: bool = True


@dataclass(frozen=True, slots=True)
class _Packed:
    folder: str
    submission: Submission
    files: tuple[_File, ...]


def _pack(content: Content, folder: str) -> _Packed:
    """The files of a subset, METADATA.XML first; each document is read once to describe it."""
    entries, files = list[DocumentEntry](), list[_File]()
    if {entry.id for entry in content.submission.documents} != set(content.documents) or (
            len(content.documents) != len(content.submission.documents) <= MOST_DOCUMENTS):
        raise ValueError("every entry has one document and every document one entry")
    for number, entry in enumerate(content.submission.documents, 1):
        suffix = _SUFFIXES.get(entry.mime_type.partition(";")[0].strip().lower(), "BIN")
        described, file = _describe(entry, content.documents[entry.id], f"DOC{number:05}.{suffix}", folder)
        entries.append(described)
        files.append(file)
    submission = replace(content.submission, documents=tuple(entries), objects=())
    metadata = write_submit_objects(from_submission(submission), submission.references)
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{metadata}\n'.encode()
    return _Packed(folder, submission, (_File(f"{folder}/{METADATA}", text), *files))


def _describe(entry: DocumentEntry, source: Source, name: str, folder: str) -> tuple[DocumentEntry, _File]:
    """The entry with URI, hash and size, and its file; what packs so well that readers refuse it is stored as it is."""
    sha1, size, packer, packed = hashlib.sha1(usedforsecurity=False), 0, zlib.compressobj(), 0
    for piece in _chunks(source):
        sha1.update(piece)
        size += len(piece)
        packed += len(packer.compress(piece))
    packed += len(packer.flush())
    digest = sha1.hexdigest()
    if entry.hash.lower() not in ("", digest) or entry.size not in ("", str(size)):
        raise ValueError(f"{entry.id}: hash {entry.hash!r}, size {entry.size!r}; found {digest}, {size}")
    deflate = size <= max(FREE_RATIO, packed * DEFAULT_LIMITS.ratio // 2)
    return (replace(entry, uri=(name,), hash=digest, size=str(size)),
            _File(f"{folder}/{name}", source, size, deflate))


def _put(archive: zipfile.ZipFile, file: _File, created: datetime) -> None:
    info = zipfile.ZipInfo(file.name, created.astimezone(UTC).timetuple()[:6])
    info.create_system = 0  # MS-DOS: names and attributes of FAT
    info.external_attr = 0x10 if file.name.endswith("/") else 0x20
    info.compress_type = zipfile.ZIP_DEFLATED if file.deflate and info.external_attr == 0x20 else zipfile.ZIP_STORED
    info.file_size = file.size  # tells whether ZIP64 will be needed
    with archive.open(info, "w") as sink:
        for piece in _chunks(file.content):
            sink.write(piece)


def _chunks(source: Source) -> Iterable[bytes]:
    return (source,) if isinstance(source, bytes) else source()
