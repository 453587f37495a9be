"""README.TXT and INDEX.HTM of an XDM medium (ITI TF-2 §3.32.4.1.2.2): what a person without software can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from xds.hl7 import PID, XCN, XON, XPN
from xds.model import Author, DocumentEntry, Submission
from xds.rim import first
from xds.xml import clean


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made the medium (name and how to be reached), with which software and version, and whose that is."""

    institution: str
    application: str
    vendor: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A submission and the folder it stands in."""

    folder: str
    submission: Submission


# --- README.TXT ----------------------------------------------------------------------------------------------------

_README = """\
ARCHIVE IHE XDM

Émetteur          : {institution}
Logiciel          : {application}
Éditeur           : {vendor}
Date              : {date}

Cette archive contient des documents de santé : ils sont confidentiels.

  README.TXT                       ce fichier
  INDEX.HTM                        liste des documents, pour un navigateur
  IHE_XDM/SUBSET01/METADATA.XML    description des documents d'un lot
  IHE_XDM/SUBSET01/DOC00001.XML    un document du lot

Ouvrir l'archive avec un logiciel de professionnel de santé, qui importe les
documents et vérifie leur intégrité. Elle ne contient aucun programme ni
visualiseur.


IHE XDM ARCHIVE

Sender            : {institution}
Software          : {application}
Vendor            : {vendor}
Date              : {date}

This archive holds health documents: they are confidential.

  README.TXT                       this file
  INDEX.HTM                        list of the documents, for a browser
  IHE_XDM/SUBSET01/METADATA.XML    description of the documents of a submission
  IHE_XDM/SUBSET01/DOC00001.XML    a document of the submission

Open the archive with software for health professionals, which imports the
documents and verifies their integrity. It holds no program and no viewer.
"""


def readme(origin: Origin, created: datetime) -> bytes:
    """README.TXT in French and English: UTF-8, lines as on DOS."""
    text = _README.format(institution=_line(origin.institution), application=_line(origin.application),
                          vendor=_line(origin.vendor), date=_date(created))
    return text.replace("\n", "\r\n").encode("utf-8", "replace")


# --- INDEX.HTM -----------------------------------------------------------------------------------------------------

_INDEX = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML Basic 1.1//EN" "http://www.w3.org/TR/xhtml-basic/xhtml-basic11.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="fr">
<head><title>Documents de santé</title></head>
<body>
<h1>Documents de santé</h1>
<p>Émetteur : {institution}<br/>Date : {date}</p>
<p>Ces documents sont confidentiels. Voir <a href="README.TXT">README.TXT</a>.</p>
{subsets}
</body>
</html>
"""
_SUBSET = """\
<h2>{patient}</h2>
<p>Auteur du lot : {author}<br/>Soumis le : {time}</p>
<table>
<tr><th>Document</th><th>Type</th><th>Créé le</th><th>Auteur</th></tr>
{documents}
</table>"""
_DOCUMENT = '<tr><td><a href="{address}">{title}</a></td><td>{type}</td><td>{time}</td><td>{author}</td></tr>'


def index(subsets: Sequence[Listed], origin: Origin, created: datetime) -> bytes:
    """INDEX.HTM in French, XHTML Basic: patients, authors, documents with links to their files."""
    return _INDEX.format(institution=clean(_line(origin.institution)), date=_date(created),
                         subsets="\n".join(map(_subset, subsets))).encode()


def _subset(listed: Listed) -> str:
    the_set = next(iter(listed.submission.sets), None)
    documents = listed.submission.documents
    return _SUBSET.format(
        patient=clean(_patient(documents, the_set.patient_id if the_set else "")),
        author=clean(_authors(the_set.authors if the_set else ())),
        time=clean(_time(the_set.submission_time if the_set else "")),
        documents="\n".join(_document(entry, listed.folder) for entry in documents))


def _document(entry: DocumentEntry, folder: str) -> str:
    kind = entry.type_code
    return _DOCUMENT.format(
        address=clean(f"{folder}/{''.join(entry.uri)}"), title=clean(first(entry.title) or "".join(entry.uri)),
        type=clean(kind.display or kind.code) if kind else "", time=clean(_time(entry.creation_time)),
        author=clean(_authors(entry.authors)))


def _patient(documents: Iterable[DocumentEntry], identifier: str) -> str:
    """Name, date of birth and identifier, as far as the metadata tell them."""
    told = {pid.number: pid for entry in documents for pid in _pids(entry.source_patient_info)}
    name = told.get(5)
    person = name.values[0] if name and name.values else None
    born = str(told[7].values[0]) if 7 in told and told[7].values else ""
    known = (f"{person.family} {person.given}".strip() if isinstance(person, XPN) else "",
             f"né(e) le {_time(born)}" if born else "", identifier.partition("^")[0])
    return ", ".join(filter(None, known))


def _pids(values: Iterable[str]) -> Iterator[PID]:
    for value in values:
        try:
            yield PID.parse(value)
        except ValueError:
            continue


def _authors(authors: Iterable[Author]) -> str:
    names = (part for author in authors for part in (_person(author.person), *map(_institution, author.institutions)))
    return ", ".join(dict.fromkeys(filter(None, names)))


def _person(text: str) -> str:
    try:
        name = XCN.parse(text)
    except ValueError:
        return text
    return f"{name.family} {name.given}".strip() or name.id


def _institution(text: str) -> str:
    try:
        return XON.parse(text).name
    except ValueError:
        return text


# --- texts ---------------------------------------------------------------------------------------------------------


def _line(text: str) -> str:
    return " ".join(text.split())


def _date(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _time(dtm: str) -> str:
    """A DTM as people read it, at its own precision."""
    day = "-".join(filter(None, (dtm[:4], dtm[4:6], dtm[6:8])))
    return f"{day} {dtm[8:10]}:{dtm[10:12] or '00'} UTC" if dtm[8:] else day
