"""Who may do what with a record, and sees which documents: each rule of the policy, from the regulator's text."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from dmp import matrices, record, rights
from dmp.record import Authorisation
from dmp.rights import SIGNATURE_CLASS, Standing
from security.access import DocumentFacts
from security.identity import Caller, CardType
from tests.dmp.samples import (
    ACTORS,
    MODES,
    STRUCTURE,
    TREATING,
    VALID,
    actor,
    caller,
    card,
    facts,
    standing,
)
from tests.dmp.test_matrices import GROUPS, sheet
from xds.vocabulary import APPROVED, DEPRECATED

ARCHIVED = "urn:asip:ci-sis:2010:StatusType:Archived"
DELETED = "urn:asip:ci-sis:2010:StatusType:Deleted"
ACTIONS = ("feed", "search", "reference", "retrieve")
READING = ("search", "reference", "retrieve")
NOTHING = Authorisation()


def codes(who: Standing, action: str) -> list[str]:
    return [finding.code.removeprefix("V-DMP-") for finding in rights.refusals(who, action)]


def sees(who: Standing, action: str, document: DocumentFacts) -> bool:
    return rights.sees(who, action)(document)


# --- actors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTORS)
def test_actors_of_the_samples(name: str) -> None:
    assert actor(name).actor == name


@pytest.mark.parametrize(("who", "authorisation", "expected"), [
    (caller("60"), TREATING, "PS"),  # only doctors are médecin traitant
    (caller("21"), VALID, "PS"),
    (caller("", card_type=CardType.CPF), VALID, "PS"),
    (caller("10", card_type=CardType.CPF), VALID, "MED"),
    (caller("10"), NOTHING, "MED"),
    (caller("10"), TREATING, "MT"),
    (caller("10", "b"), TREATING, "MT"),
    (caller("10", "r"), TREATING, "MED"),  # régulation is nobody's own patient
    (caller("10"), Authorisation(record.EXPIRED, True), "MT"),
    (caller("10", specialities=("SM25",)), TREATING, "TRAV"),
    (caller("10", specialities=("SCH35",)), VALID, "TRAV"),
    (caller("10", specialities=("SM04", "SM25")), VALID, "TRAV"),
    (caller("60", specialities=("SM25",)), VALID, "PS"),
    (caller("10", card_type=CardType.CPE), VALID, "CPE"),
    (caller("10", card_type=CardType.ES), VALID, "ES"),
    (caller("10", card_type=CardType.CPA), VALID, ""),
    (caller("10", card_type=None), VALID, ""),
    (Caller(), VALID, ""),
])
def test_actor_of(who: Caller, authorisation: Authorisation, expected: str) -> None:
    assert rights.actor_of(who, authorisation) == expected


# --- the functional matrix, every cell -----------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "name", "mode", "cell"), [row for row in sheet() if row[0] != "retrieve-masked"])
def test_every_cell_decides(action: str, name: str, mode: str, cell: str) -> None:
    """An authorised caller before an open record: refused where the sheet says no, and only there."""
    if name == "MT" and mode == "r":
        cell = "yes"  # counts as any doctor
    assert codes(actor(name, mode), action) == (["NOT-ENTITLED"] if cell == "no" else [])


@pytest.mark.parametrize("name", ACTORS)
@pytest.mark.parametrize("mode", "nrb")
@pytest.mark.parametrize("document", ["60591-5", "REMB"])
def test_masked_documents(name: str, mode: str, document: str) -> None:
    """Line "3.2 masked": others' documents, with and without the third consent; the matrix of types still holds."""
    if codes(actor(name, mode), "retrieve"):
        return
    expected = {"PS-n": (False, False), "PS-r": (False, True), "PS-b": (False, True), "MED-n": (False, False),
                "MED-r": (False, True), "MED-b": (False, True), "MT-n": (True, True), "MT-r": (False, True),
                "MT-b": (False, True)}[f"{name}-{mode}"]
    outcomes = tuple(sees(actor(name, mode, consent_masked_in_emergency=consent), "retrieve", facts(document, "N",
                                                                                                  "MASQUE_PS"))
                     for consent in (False, True))
    assert outcomes == expected
    assert sees(actor(name, mode), "retrieve", facts(document))


@pytest.mark.parametrize(("action", "who"), list(itertools.product(
    ["register", "update", "remove", "", "admin", "td"], [*(actor(name) for name in ACTORS), standing(Caller())])))
def test_what_the_matrix_does_not_name_is_refused(action: str, who: Standing) -> None:
    (finding,) = rights.refusals(who, action)
    assert (finding.code, finding.xds) == ("V-DMP-NOT-ENTITLED", "DMPAccessDeniedByRightsService")
    assert finding.fr
    assert finding.en


@pytest.mark.parametrize("who", [caller(card_type=CardType.CPA), caller(card_type=None), Caller()])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_caller_without_a_column_is_refused(who: Caller, action: str) -> None:
    assert codes(standing(who), action) == ["NOT-ENTITLED"]


# --- record, blocking, oppositions, authorisation ------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTORS)
@pytest.mark.parametrize("action", ACTIONS)
def test_no_record(name: str, action: str) -> None:
    (finding,) = rights.refusals(replace(actor(name), record=None), action)
    assert (finding.code, finding.xds) == ("V-DMP-NO-RECORD", "XDSUnknownPatientId")


@pytest.mark.parametrize("mode", "nrb")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_closed_record(action: str, mode: str) -> None:
    (finding,) = rights.refusals(actor("MED", mode, state=record.CLOSED), action)
    assert (finding.code, finding.xds) == ("V-DMP-RECORD-CLOSED", "DMPClosed")


@pytest.mark.parametrize("mode", "nrb")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_blocked_professional(action: str, mode: str) -> None:
    """Blocked beats all modes, and feeding too: the professional stays out."""
    who = standing(caller("60", mode), Authorisation(record.FORBIDDEN))
    (finding,) = rights.refusals(who, action)
    assert (finding.code, finding.xds) == ("V-DMP-BLOCKED", "DMPAccessDeniedByRightsService")


@pytest.mark.parametrize("authorisation", [NOTHING, Authorisation(record.EXPIRED), Authorisation(record.EXPIRED, True)])
@pytest.mark.parametrize("name", ["PS", "MED"])
def test_reading_asks_for_an_authorisation(name: str, authorisation: Authorisation) -> None:
    who = standing(ACTORS[name], authorisation)
    for action in READING:
        assert codes(who, action) == ["NOT-AUTHORISED"]
    assert codes(who, "feed") == []


@pytest.mark.parametrize("action", READING)
@pytest.mark.parametrize(("mode", "opposed", "expected"), [
    ("b", (True, False), ["OPPOSED"]), ("b", (False, True), []), ("r", (False, True), ["OPPOSED"]),
    ("r", (True, False), []), ("n", (True, True), [])])
def test_oppositions_to_emergency_access(action: str, mode: str, opposed: tuple[bool, bool],
                                         expected: list[str]) -> None:
    """Two of them, apart from one another; normal access has its own consent."""
    bris_de_glace, centre_15 = opposed
    who = actor("MED", mode, opposition_bris_de_glace=bris_de_glace, opposition_centre_15=centre_15)
    assert codes(who, action) == expected


@pytest.mark.parametrize("mode", "rb")
@pytest.mark.parametrize("authorisation", [NOTHING, Authorisation(record.EXPIRED)])
def test_an_emergency_needs_no_authorisation(mode: str, authorisation: Authorisation) -> None:
    for action in READING:
        assert codes(standing(caller("60", mode), authorisation), action) == []


@pytest.mark.parametrize("mode", "rb")
def test_an_opposition_does_not_stop_feeding(mode: str) -> None:
    """CSP R.1111-47: the holder cannot refuse what is fed."""
    who = actor("MED", mode, opposition_bris_de_glace=True, opposition_centre_15=True)
    assert codes(who, "feed") == []


def test_the_first_reason_hides_the_others() -> None:
    who = standing(caller("10", card_type=CardType.CPA), Authorisation(record.FORBIDDEN), state=record.CLOSED)
    assert codes(who, "search") == ["RECORD-CLOSED"]
    assert codes(replace(who, record=None), "search") == ["NO-RECORD"]
    assert codes(standing(caller("10", card_type=CardType.CPA), Authorisation(record.FORBIDDEN)), "search") == [
        "BLOCKED"]


# --- the matrix of documents ---------------------------------------------------------------------------------------

#: Callers of each group, by everything that leads to it
MEMBERS = {
    "MED": [caller("10"), caller("10", specialities=("SM04",)), caller("10", specialities=())],
    "PHB": [caller("21", specialities=("G",))],
    "PHA": [caller("21", specialities=("A",)), caller("21"), caller("38"), caller("39"),
            caller("99", roles=("316^1.2.250.1.213.1.6.1.107",)), caller("99", roles=("317^1.2.250.1.213.1.6.1.107",)),
            caller("99", roles=("300^1.2.250.1.213.1.6.1.107", "317^1.2.250.1.213.1.6.1.107"))],
    "DEN": [caller("40")], "SF": [caller("50")], "INF": [caller("60"), caller("69")], "MK": [caller("70")],
    "PED": [caller("80")], "ORP": [caller("91")], "REH": [caller(code) for code in ("92", "94", "95", "96")],
    "AUD": [caller(code) for code in ("26", "81", "82", "83", "84", "85")], "OPT": [caller("28")],
    "MER": [caller("98")], "COO": [caller("99", roles=("GENR08^1.2.3",)), caller("99", roles=("GENR08",))],
    "ASS": [caller("41")], "ADM": [caller("99", roles=("GENR09^1.2.3",))],
    "AVS": [caller("99", roles=("GENR10^1.2.3",))], "SOI": [caller("99", roles=("GENR11^1.2.3",))],
    "ENC": [caller("99", roles=("GENR12^1.2.3",))],
}


@pytest.mark.parametrize(("group", "who"), [(group, who) for group, some in MEMBERS.items() for who in some])
def test_a_group_reads_its_column(group: str, who: Caller) -> None:
    assert rights.group_of(who) == group
    decide, matrix = rights.sees(standing(who), "retrieve"), matrices.documents()
    read = {type_code for type_code in matrix.readers if decide(facts(type_code))}
    assert read == {type_code for type_code, readers in matrix.readers.items() if group in readers}


def test_every_group_has_members() -> None:
    assert set(MEMBERS) == set(GROUPS)


@pytest.mark.parametrize(("future", "group"), [("10", "MED"), ("21", "PHA"), ("40", "DEN"), ("50", ""), ("60", "")])
def test_interns_read_what_their_profession_reads(future: str, group: str) -> None:
    who = caller("", identity=card(CardType.CPF, future_profession=future))
    assert rights.group_of(who) == group


def test_a_profession_counts_before_one_in_training() -> None:
    assert rights.group_of(caller("60", identity=card(profession="60", future_profession="10"))) == "INF"


STRANGERS = [caller(code) for code in ("31", "32", "35", "36", "37", "71", "72", "73", "86", "93", "97", "42", "53",
                                       "99", "", "0", "1", "10 ", "21/G", "99/GENR08")]
STRANGERS += [caller("99", roles=(role,)) for role in ("GENR01^1.2", "GENR13^1.2", "GENR99^1.2", "330^1.2", "10^1.2")]
STRANGERS += [caller("", roles=("317^1.2.250.1.213.1.6.1.107",)), caller("60x", specialities=("G",))]


@pytest.mark.parametrize("who", STRANGERS)
def test_who_has_no_column_reads_nothing(who: Caller) -> None:
    decide = rights.sees(standing(who), "retrieve")
    assert not [type_code for type_code in matrices.documents().readers if decide(facts(type_code))]


@pytest.mark.parametrize("type_code", ["E1762", "11526-1", "", "99999-9"])
def test_a_type_without_a_row_is_read_by_its_author_only(type_code: str) -> None:
    assert not sees(actor("MT"), "retrieve", facts(type_code))
    assert sees(actor("MED"), "retrieve", facts(type_code, authors=frozenset({"899999000013"})))


# --- authors, visibility, states -----------------------------------------------------------------------------------

MINE = frozenset({"899999000013", "8111"})


@pytest.mark.parametrize("mode", "nrb")
@pytest.mark.parametrize("who", ["PS", "MED", "MT"])
def test_an_author_keeps_access(who: str, mode: str) -> None:
    """Masked, of a type the profession does not read, whatever the patient consented."""
    for document in (facts("60591-5", "N", "MASQUE_PS", authors=MINE), facts("89601-9", authors=MINE),
                     facts("89601-9", "N", "MASQUE_PS", authors=MINE)):
        for action in READING:
            assert sees(actor(who, mode), action, document)


def test_a_colleague_of_the_author_is_not_the_author() -> None:
    """The structure's identifier among the authors opens nothing to a card."""
    document = facts("60591-5", "N", "MASQUE_PS", authors=frozenset({"8111", STRUCTURE}))
    assert not sees(actor("MED"), "retrieve", document)
    assert not sees(standing(caller("99", structure_id=STRUCTURE)), "retrieve", document)


@pytest.mark.parametrize("codes_", [("N", "INVISIBLE_PATIENT"), ("R", "INVISIBLE_REPRESENTANTS_LEGAUX"), ("V",),
                                    ("N", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX")])
@pytest.mark.parametrize("action", READING)
def test_what_is_invisible_to_others_is_visible_to_professionals(codes_: tuple[str, ...], action: str) -> None:
    for name, mode in itertools.product(("PS", "MED", "MT"), "nrb"):
        assert sees(actor(name, mode), action, facts("60591-5", *codes_))


@pytest.mark.parametrize(("status", "search", "others"), [
    (APPROVED, True, True), (DEPRECATED, True, True), (ARCHIVED, True, True), (DELETED, False, True)])
def test_states(status: str, search: bool, others: bool) -> None:
    """Archived and obsolete ones are found when asked for; deleted ones by reference only."""
    document = facts(status=status)
    assert sees(actor("MED"), "search", document) is search
    assert sees(actor("MED"), "search", replace(document, authors=MINE)) is search
    for action in ("reference", "retrieve"):
        assert sees(actor("MED"), action, document) is others


@pytest.mark.parametrize("name", ["PS", "MED", "MT", "TRAV"])
def test_signatures_are_never_listed(name: str) -> None:
    """Not even to who signed; nor read by anyone else."""
    signature = facts("E1762", "N", "MASQUE_PS", "INVISIBLE_PATIENT", class_code=SIGNATURE_CLASS, authors=MINE)
    assert not sees(actor(name), "search", signature)
    assert not sees(actor("MED"), "retrieve", replace(signature, authors=frozenset({"8111"})))


def test_an_occupational_physician_lists_and_does_not_open() -> None:
    assert sees(actor("TRAV"), "search", facts())
    assert not sees(actor("TRAV"), "search", facts("60591-5", "N", "MASQUE_PS"))
    assert codes(actor("TRAV"), "retrieve") == ["NOT-ENTITLED"]


# --- structures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CPE", "ES"])
@pytest.mark.parametrize("authorisation", [NOTHING, VALID, Authorisation(record.EXPIRED)])
def test_a_structure_finds_references_without_authorisation(name: str, authorisation: Authorisation) -> None:
    """To delete what it fed by mistake (note 5)."""
    who = standing(ACTORS[name], authorisation)
    assert codes(who, "reference") == []
    assert codes(who, "search") == codes(who, "retrieve") == ["NOT-ENTITLED"]


@pytest.mark.parametrize("name", ["CPE", "ES"])
@pytest.mark.parametrize(("document", "expected"), [
    (facts(authors=frozenset({STRUCTURE})), True), (facts(authors=frozenset({"8111", STRUCTURE})), True),
    (facts("89601-9", "N", "MASQUE_PS", authors=frozenset({STRUCTURE})), True),
    (facts(authors=frozenset({STRUCTURE}), status=DELETED), True),
    (facts(), False), (facts(authors=frozenset()), False), (facts(authors=frozenset({"1990000011"})), False)])
def test_a_structure_finds_its_own_only(name: str, document: DocumentFacts, expected: bool) -> None:
    assert sees(actor(name), "reference", document) is expected


@pytest.mark.parametrize("card_type", [CardType.CPE, CardType.ES])
def test_a_structure_without_an_identifier_finds_nothing(card_type: CardType) -> None:
    who = standing(caller("", card_type=card_type, national_id="3990000010/E0001", structure_id=""))
    assert not sees(who, "reference", facts(authors=frozenset({"", STRUCTURE})))


def test_nobody_without_an_identifier_sees_anything() -> None:
    who = standing(caller("10", national_id="", structure_id=""))
    assert not sees(who, "retrieve", facts(authors=frozenset({""})))
    assert not sees(who, "retrieve", facts())


def test_modes_are_those_of_the_vihf() -> None:
    assert {mode: standing(caller(mode=mode)).mode for mode in MODES} == {"n": "n", "r": "r", "b": "b"}


def test_a_refusal_tells_who_is_entitled() -> None:
    (finding,) = rights.refusals(actor("ES"), "search")
    assert finding.received == "ES, normal"
    assert finding.expected == "PS-n, PS-r, PS-b, MED-n, MED-r, MED-b, TRAV-n, MT-n, MT-b"
    (finding,) = rights.refusals(standing(caller(card_type=CardType.CPA)), "remove")
    assert (finding.received, finding.expected) == ("—, normal", "—")
