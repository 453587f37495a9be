"""Callers of every kind, records and documents for the tests of rights; people and structures are fictitious."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dmp import record, rights
from dmp.record import Authorisation, Record
from dmp.rights import Standing
from security.access import DocumentFacts
from security.identity import AccessMode, Caller, CardType, Identity, Kind
from xds.vocabulary import APPROVED, STABLE

PATIENT = "299999999999945^^^&1.2.250.1.213.1.4.10&ISO^NH"
OTHER = "199999999999995^^^&1.2.250.1.213.1.4.10&ISO^NH"
STRANGER = "177777777777752^^^&1.2.250.1.213.1.4.10&ISO^NH"
STRUCTURE = "1990000010"
MODES = {"n": AccessMode.NORMAL, "r": AccessMode.CENTRE_15, "b": AccessMode.BRIS_DE_GLACE}
VALID = Authorisation(record.VALID)
TREATING = Authorisation(record.VALID, treating=True)


def card(kind: CardType = CardType.CPS, identifier: str = "899999000013", **changes: Any) -> Identity:
    nature = Kind.ORGANISATION if kind is CardType.ES else Kind.PERSON
    return replace(Identity(nature, kind, identifier, "ESSAI ANNE", family="ESSAI", given="ANNE"), **changes)


def caller(profession: str = "10", mode: str = "n", card_type: CardType | None = CardType.CPS,
           **changes: Any) -> Caller:
    """A professional with a card; `card_type` None: nobody proved anything."""
    identity = card(card_type, profession=profession) if card_type else None
    known = Caller(identity, "899999000013", "ESSAI ANNE", STRUCTURE, profession=profession, mode=MODES[mode],
                   specialities=("SM26",) if profession == "10" else (), patient=PATIENT)
    return replace(known, **changes)


#: One caller for each column of the functional matrix
ACTORS: dict[str, Caller] = {
    "PS": caller("60"),
    "MED": caller("10"),
    "TRAV": caller("10", specialities=("SM25",)),
    "MT": caller("10"),
    "CPE": caller("", card_type=CardType.CPE, national_id="3990000010/E0001"),
    "ES": caller("", card_type=CardType.ES, national_id=""),
}


def standing(who: Caller, authorisation: Authorisation = VALID, **of_record: Any) -> Standing:
    """The caller before an open record without oppositions."""
    return Standing(who, replace(Record(1), **of_record), authorisation, rights.actor_of(who, authorisation))


def actor(name: str, mode: str = "n", **of_record: Any) -> Standing:
    """An authorised actor in a mode."""
    return standing(replace(ACTORS[name], mode=MODES[mode]), TREATING if name == "MT" else VALID, **of_record)


def facts(type_code: str = "60591-5", *confidentiality: str, **changes: Any) -> DocumentFacts:
    """A document that someone else made, of a type that all the large groups read."""
    known = DocumentFacts(type_code, "11", frozenset(confidentiality or ("N",)), APPROVED, frozenset({"8111"}), STABLE)
    return replace(known, **changes)
