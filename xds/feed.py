"""What is told of patient identities as values, whichever HL7 it was written in (ITI-8 and 64: v2, ITI-44: v3).

The readers of both hand what they found to `identifier` and `make…`, so that the same rules hold for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from xds.findings import NOWHERE, Catalogue, Finding, Refused, Severity, Where
from xds.hl7 import CX, DTM, HD, is_oid

RULES = Catalogue("xds")
IDENTIFIER_ABSENT = RULES["V-FEED-IDENTIFIER-ABSENT"]
IDENTIFIER = RULES["V-FEED-IDENTIFIER"]
AUTHORITY = RULES["V-FEED-AUTHORITY"]
NAME = RULES["V-FEED-NAME"]
BIRTH_DATE = RULES["V-FEED-BIRTH-DATE"]
SEX = RULES["V-FEED-SEX"]

LONGEST_NAME, LONGEST_ID = 200, 128  # characters
MOST_IDS = 100  # identifiers of one patient in one message
_DATE = len("YYYYMMDD")

#: Administrative sex of both standards (v2 table 0001, v3 AdministrativeGender) -> what is kept
SEXES = {"M": "M", "F": "F", "U": "U", "O": "U", "A": "U", "N": "U", "UN": "U", "UNK": "U"}


@dataclass(frozen=True, slots=True)
class Feed:
    """What a source tells of one patient.

    `identifiers`: CX texts `id^^^&OID&ISO`, at least one; `others`: those that somebody else gave the patient (v3
    asOtherIDs). Traits are "" where not told: names, date of birth (YYYY[MM[DD]]), sex (M, F, U).
    """

    identifiers: tuple[str, ...]
    others: tuple[str, ...] = ()
    family: str = ""
    given: str = ""
    birth_date: str = ""
    sex: str = ""
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Merge:
    """Two identities turned out to be one (ITI TF-2 §3.8.4.2): identifiers that survive, and those whose use ends."""

    survivors: tuple[str, ...]
    subsumed: tuple[str, ...]
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkChange:
    """The local identifier belongs to another patient of the community than was thought (ITI TF-2 §3.64.4.1.2).

    CX texts; `subsumed`: a local identifier that was merged into `local`, "" for none; `sender`: OID of the sending
    application, "" where it gives none.
    """

    new: str
    previous: str
    local: str
    subsumed: str = ""
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A text of a message and where it stood."""

    text: str = ""
    where: Where = NOWHERE


def identifier(value: str, root: str, where: Where) -> str | Finding:
    """The CX of an identifier under an OID, or what is wrong with it."""
    if not is_oid(root):
        return AUTHORITY.at(where, expected="id^^^&OID&ISO", received=root or "—", identifier=value)
    if not (0 < len(value) <= LONGEST_ID and value.isprintable()):
        return IDENTIFIER.at(where, expected=f"1–{LONGEST_ID}", received=value)
    return str(CX(value, authority=HD("", root, "ISO")))


def make(identifiers: Iterable[str | Finding], family: Told, given: Told, birth: Told, sex: Told,
         others: Iterable[str | Finding] = (), where: Where = NOWHERE) -> Feed:
    """The feed of what was read; Refused when no identifier can be used or a name cannot be kept."""
    usable, warnings = _usable(identifiers, where)
    born, gender = _birth_date(birth), _sex(sex)
    warnings += [item for item in (born, gender) if isinstance(item, Finding)]
    return Feed(usable, _sort(others)[0], _name(family), _name(given), born if isinstance(born, str) else "",
                gender if isinstance(gender, str) else "", tuple(warnings))


def make_merge(survivors: Iterable[str | Finding], subsumed: Iterable[str | Finding],
               places: tuple[Where, Where]) -> Merge:
    """The merge of what was read at two places; Refused when either has no identifier that can be used."""
    kept, warnings = _usable(survivors, places[0])
    ended, more = _usable(subsumed, places[1])
    return Merge(kept, ended, (*warnings, *more))


def _usable(identifiers: Iterable[str | Finding], where: Where) -> tuple[tuple[str, ...], list[Finding]]:
    """One identifier that can be used makes the others' faults worth a warning only; without one, Refused."""
    usable, wrong = _sort(identifiers)
    if not usable:
        raise Refused(wrong or [IDENTIFIER_ABSENT.at(where, expected="1..*", received=0)])
    return usable, [replace(finding, severity_override=Severity.WARNING) for finding in wrong]


def _sort(found: Iterable[str | Finding]) -> tuple[tuple[str, ...], list[Finding]]:
    """Identifiers, each once, and what was found wrong."""
    items = list(found)
    texts = dict.fromkeys(item for item in items if isinstance(item, str))
    return tuple(texts), [item for item in items if isinstance(item, Finding)]


def _name(told: Told) -> str:
    text = " ".join(told.text.split())
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise Refused(NAME.at(told.where, expected=f"≤ {LONGEST_NAME}", received=text))
    return text


def _birth_date(told: Told) -> str | Finding:
    """The day; the hour, which some sources send, is left out with its zone."""
    text = told.text.strip()
    try:
        return DTM.parse(text[:_DATE]).text if text else ""
    except ValueError:
        return BIRTH_DATE.at(told.where, expected="YYYY[MM[DD]]", received=text)


def _sex(told: Told) -> str | Finding:
    text = told.text.strip()
    if text and text not in SEXES:
        return SEX.at(told.where, expected=" | ".join(SEXES), received=text)
    return SEXES.get(text, "")
