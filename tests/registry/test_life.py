"""The table of transitions: every cell does what it says, on every kind of object; what is not in it is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry import life
from registry.life import APPROVE, DEPRECATE, REPLACE, RESTRICTED, STATUS_EVENTS, TRANSITIONS, UPDATE
from registry.register import Registry, register
from tests.registry.changes import (
    OTHERWISE,
    again,
    doc,
    findings,
    fold,
    instead,
    links,
    put_with,
    restate,
    restated,
    snapshot,
    version,
)
from tests.registry.samples import document, folder, holds, link, put, replacing, shown, submission
from xds.findings import Refused
from xds.vocabulary import APND, APPROVED, DEPRECATED, RPLC, XFRM_RPLC

STATES = (APPROVED, DEPRECATED)
EVENTS = (REPLACE, UPDATE, RESTRICTED, DEPRECATE, APPROVE)
#: Errors of what is not in the table
REFUSALS = {REPLACE: "XDSRegistryDeprecatedDocumentError", UPDATE: "XDSMetadataUpdateError",
            RESTRICTED: "XDSMetadataUpdateError", DEPRECATE: "XDSMetadataUpdateError",
            APPROVE: "XDSMetadataUpdateError"}


def test_the_table_has_no_other_names() -> None:
    assert {state for state, _ in TRANSITIONS} <= set(STATES)
    assert {event for _, event in TRANSITIONS} == set(EVENTS)
    assert {state for pair in TRANSITIONS.values() for state in pair} <= {*STATES, ""}
    assert set(STATUS_EVENTS) == set(STATES)
    assert set(STATUS_EVENTS.values()) == {APPROVE, DEPRECATE}
    assert not set(EVENTS) - {value for name, value in vars(life).items() if name.isupper() and isinstance(value, str)}


def in_state(registry: Registry, state: str) -> str:
    """A document in that state."""
    uuid = put(registry).ids["Document01"]
    if state != APPROVED:
        restate(registry, uuid)
    assert doc(registry, uuid).status == state
    return uuid


def wanted_of(event: str) -> str:
    return next(status for status, name in STATUS_EVENTS.items() if name == event)


def happen(registry: Registry, uuid: str, state: str, event: str) -> str:
    """The event; entryUUID of the version that it makes, "" for none."""
    if event == REPLACE:
        put(registry, *replacing(uuid))
    elif event in {UPDATE, RESTRICTED}:
        return version(registry, doc(registry, uuid), transaction=TRANSACTIONS[event]).id
    else:
        restate(registry, uuid, OTHERWISE[wanted_of(event)])
    return ""


TRANSACTIONS = {UPDATE: "ITI-57", RESTRICTED: "ITI-92"}


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_a_cell(registry: Registry, state: str, event: str) -> None:
    old, new = TRANSITIONS[state, event]
    uuid = in_state(registry, state)
    made = happen(registry, uuid, state, event)
    assert (doc(registry, uuid).status, doc(registry, made).status if made else "") == (old, new)


@pytest.mark.parametrize(("state", "event"), sorted({(state, event) for state in STATES for event in EVENTS}
                                                    - set(TRANSITIONS)))
def test_an_absent_cell(registry: Registry, state: str, event: str) -> None:
    uuid = in_state(registry, state)
    assert refused(registry, uuid, state, event) == [REFUSALS[event]]


def refused(registry: Registry, uuid: str, state: str, event: str) -> list[str]:
    """Codes of an event that is refused and changes nothing."""
    if event == REPLACE:
        before = snapshot(registry)
        with pytest.raises(Refused) as caught:
            register(registry, submission(*replacing(uuid)))
        assert snapshot(registry) == before
        return [finding.xds for finding in caught.value.findings]
    if event in TRANSACTIONS:
        new = again(doc(registry, uuid))
        told = findings(registry, new, instead(new), transaction=TRANSACTIONS[event])
    else:
        told = findings(registry, restated(uuid, state, wanted_of(event)))
    assert [finding.code for finding in told] == ["V-UPD-STATE"]
    assert {"Approved", "Deprecated"} & set(told[0].en.replace(":", "").split()), "says in which state it is"
    return [finding.xds for finding in told]


@pytest.mark.parametrize("kind", [RPLC, XFRM_RPLC])
def test_both_kinds_of_replacement(registry: Registry, kind: str) -> None:
    uuid = in_state(registry, APPROVED)
    put(registry, *replacing(uuid, kind=kind))
    assert doc(registry, uuid).status == DEPRECATED


# --- other kinds of objects ----------------------------------------------------------------------------------------

Made = tuple[str, Callable[[], str]]  # entryUUID, and how its status is read


def a_folder(registry: Registry) -> Made:
    uuid = put(registry, folder()).ids["Folder01"]
    return uuid, lambda: fold(registry, uuid).status


def a_membership(registry: Registry) -> Made:
    ids = put_with(registry, document(), folder(), holds("Folder01", "Document01", "In"))
    return ids["In"], lambda: status_of_link(registry, ids["Folder01"], ids["In"])


def an_addendum(registry: Registry) -> Made:
    old = put(registry).ids["Document01"]
    ids = put_with(registry, document(), link(APND, "Document01", old, "To"))
    return ids["To"], lambda: status_of_link(registry, ids["Document01"], ids["To"])


def status_of_link(registry: Registry, source: str, uuid: str) -> str:
    (one,) = (one for one in links(registry, source, STATES).associations if one.id == uuid)
    return one.status


@pytest.mark.parametrize("make", [a_folder, a_membership, an_addendum])
def test_statuses_of_folders_and_links(registry: Registry, make: Callable[[Registry], Made]) -> None:
    """Down and up again; twice the same way is refused."""
    uuid, status = make(registry)
    for now in (APPROVED, DEPRECATED, APPROVED):
        assert status() == now
        assert shown(findings(registry, restated(uuid, now, now)))[0][::2] == ("V-UPD-STATE", "XDSMetadataUpdateError")
        restate(registry, uuid, now)
    assert status() == DEPRECATED


def test_a_folder_out_of_force_gets_no_new_version(registry: Registry) -> None:
    uuid = put(registry, folder()).ids["Folder01"]
    old = fold(registry, uuid)
    restate(registry, uuid)
    new = again(old)
    assert [finding.code for finding in findings(registry, new, instead(new))] == ["V-UPD-STATE"]
    restate(registry, uuid, DEPRECATED)
    assert version(registry, old).version == "2"
