"""Who may do what with a record: one policy for every door, default deny, each refusal with the rule that decided.

Order of decision (spec of the functional matrix and the arrêté of 26 October 2023): record, blocking, functional
matrix by actor and mode, oppositions, authorisation; then, document by document, the document matrix and visibility.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dmp import matrices, record
from dmp.record import Authorisation, Record
from security.access import DocumentFacts
from security.identity import AccessMode, Caller, CardType
from xds.findings import Catalogue, Finding, Where

RULES = Catalogue("dmp")
NO_RECORD = RULES["V-DMP-NO-RECORD"]
RECORD_CLOSED = RULES["V-DMP-RECORD-CLOSED"]
BLOCKED = RULES["V-DMP-BLOCKED"]
NOT_ENTITLED = RULES["V-DMP-NOT-ENTITLED"]
OPPOSED = RULES["V-DMP-OPPOSED"]
NOT_AUTHORISED = RULES["V-DMP-NOT-AUTHORISED"]

MASKED = "MASQUE_PS"
OCCUPATIONAL = frozenset({"SM25", "SCH35"})  # speciality "Médecine du travail": dmp.md §3.4
DELETED = "urn:asip:ci-sis:2010:StatusType:Deleted"  # logically: dmp.md §4, found by no search, read by reference
IN_TRAINING = frozenset({"10", "21", "40"})  # interns read what their profession reads: arrêté of 26 October 2023
#: Digital Signature: never listed to users (security facts §3.2)
SIGNATURE_CLASS = "urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1"
_MODES = {AccessMode.NORMAL: "n", AccessMode.CENTRE_15: "r", AccessMode.BRIS_DE_GLACE: "b"}


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything about caller and record that the policy looks at."""

    caller: Caller
    record: Record | None
    authorisation: Authorisation
    actor: str

    @property
    def mode(self) -> str:
        """Mode of access as the matrix spells it."""
        return _MODES[self.caller.mode]


def actor_of(caller: Caller, authorisation: Authorisation) -> str:
    """Column of the functional matrix, "" for whoever has none (CPA, unknown cards)."""
    card = caller.identity.card_type if caller.identity else None
    if card is CardType.ES:
        return "ES"
    if card is CardType.CPE:
        return "CPE"
    if card not in {CardType.CPS, CardType.CPF}:
        return ""
    if caller.profession != "10":
        return "PS"
    if OCCUPATIONAL & set(caller.specialities):
        return "TRAV"
    treating = authorisation.treating and caller.mode is not AccessMode.CENTRE_15
    return "MT" if treating else "MED"


def refusals(standing: Standing, action: str) -> list[Finding]:
    """Why this caller may not do this on this record; [] when allowed. Only the first reason: it hides the others."""
    where = Where("caller", path=standing.caller.national_id)
    if standing.record is None:
        return [NO_RECORD.at(where)]
    if standing.record.state != record.OPEN:
        return [RECORD_CLOSED.at(where)]
    if standing.authorisation.state == record.FORBIDDEN:
        return [BLOCKED.at(where, received=standing.caller.name)]
    if refused := _not_entitled(standing, action):
        return refused
    return [] if action == "feed" else _consent(standing, action, where)


def refusals_without_record(caller: Caller, action: str) -> list[Finding]:
    """The same for an action that looks for a patient and is about no record yet: only the matrix decides."""
    nothing = Authorisation()
    return _not_entitled(Standing(caller, None, nothing, actor_of(caller, nothing)), action)


def _not_entitled(standing: Standing, action: str) -> list[Finding]:
    matrix = matrices.functional()
    if matrix.cell(action, standing.actor, standing.mode) != "no":
        return []
    return [NOT_ENTITLED.at(Where("caller", path=standing.caller.national_id), expected=_entitled(matrix, action),
                            received=f"{standing.actor or '—'}, {standing.caller.mode}", action=matrix.title(action))]


def _entitled(matrix: matrices.FunctionalMatrix, action: str) -> str:
    return ", ".join(column for (name, column), cell in matrix.cells.items() if name == action and cell != "no") or "—"


def _consent(standing: Standing, action: str, where: Where) -> list[Finding]:
    """Reading asks for the patient's leave: authorisation, or no opposition to the emergency mode."""
    assert standing.record is not None
    opposed = {AccessMode.BRIS_DE_GLACE: standing.record.opposition_bris_de_glace,
               AccessMode.CENTRE_15: standing.record.opposition_centre_15}
    if standing.caller.mode in opposed:
        return [OPPOSED.at(where, received=standing.caller.mode)] if opposed[standing.caller.mode] else []
    if action == "reference" and standing.actor in {"CPE", "ES"}:
        return []  # to delete what they fed by mistake: dmp.md §1.3 note 5
    if standing.authorisation.state != record.VALID:
        return [NOT_AUTHORISED.at(where, expected=record.VALID, received=standing.authorisation.state)]
    return []


def sees(standing: Standing, action: str) -> Callable[[DocumentFacts], bool]:
    """Which documents of the record the caller may see by this action."""
    group = group_of(standing.caller)
    masked = matrices.functional().cell("retrieve-masked", standing.actor, standing.mode)
    own = {standing.caller.national_id, standing.caller.structure_id} - {""}
    by_structure = {standing.caller.structure_id} - {""}
    matrix = matrices.documents()

    def decide(facts: DocumentFacts) -> bool:
        if action == "reference" and standing.actor in {"CPE", "ES"}:
            return bool(by_structure & facts.authors)
        is_author = standing.caller.national_id in facts.authors
        if action == "search" and (facts.class_code == SIGNATURE_CLASS or facts.status == DELETED):
            return False
        if is_author:
            return True
        if MASKED in facts.confidentiality and not _masked_allowed(masked, standing):
            return False
        return matrix.may_read(group, facts.type_code)

    return decide if own else lambda _facts: False


def _masked_allowed(cell: str, standing: Standing) -> bool:
    if cell == "yes":
        return True
    return cell == "consent" and standing.record is not None and standing.record.consent_masked_in_emergency


def group_of(caller: Caller) -> str:
    """Column of the document matrix: profession, pharmacist's section, or role of a "99"; "" reads nothing."""
    groups = matrices.documents().groups
    future = caller.identity.future_profession if caller.identity else ""
    profession = caller.profession or (future if future in IN_TRAINING else "")
    details = (*caller.specialities, *(role.partition("^")[0] for role in caller.roles))
    for detail in details:
        if (key := f"{profession}/{detail}") in groups:
            return groups[key]
    return "" if "/" in profession else groups.get(profession, "")
