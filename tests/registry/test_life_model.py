"""Random lives of documents and folders, with versions, against a short model in memory: every query agrees with it.

The model knows objects and the links between them, but for those of submission sets; each rule says what will happen,
refusals by all their codes, before it looks.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from registry import versions
from registry.register import register
from registry.remove import remove
from registry.update import update
from tests.registry.changes import OTHERWISE, again, doc, fold, instead, linked, request, restated
from tests.registry.conftest import open_registry
from tests.registry.samples import (
    BOTH,
    OTHER,
    PATIENT,
    ask,
    document,
    folder,
    holds,
    link,
    listed,
    quoted,
    replacing,
    submission,
)
from tests.registry.test_model import template
from xds.findings import Refused
from xds.model import Association
from xds.rim import ObjectRef
from xds.vocabulary import APND, APPROVED, DEPRECATED, HAS_MEMBER, RPLC

T = TypeVar("T")
DOCUMENT, FOLDER = "d", "f"
STATE, VERSION, JOINED = "XDSMetadataUpdateError", "XDSMetadataVersionError", "XDSPatientIDReconciliationError"
indexes = st.integers(0, 40)


@dataclass
class Thing:
    """One version of a document or folder."""

    kind: str
    uuid: str
    lid: str
    patient: str
    version: int = 1
    status: str = APPROVED


@dataclass
class Link:
    """A relationship, known by what it joins."""

    kind: str
    source: str
    target: str
    status: str = APPROVED

    def touches(self, uuid: str) -> bool:
        return uuid in {self.source, self.target}


class Life(RuleBasedStateMachine):
    """One registry and the model beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="volet-life-"))
        shutil.copyfile(template()[0], self.home / "volet.db")
        self.registry = open_registry(self.home / "volet.db")
        self.things: list[Thing] = []
        self.links: list[Link] = []

    def teardown(self) -> None:
        self.registry.database.close()
        shutil.rmtree(self.home)

    # --- the model -------------------------------------------------------------------------------------------------

    def of_kind(self, kind: str) -> list[Thing]:
        return [thing for thing in self.things if thing.kind == kind]

    def newest(self, thing: Thing) -> bool:
        return thing.version == max(other.version for other in self.things if other.lid == thing.lid)

    def in_force(self, uuid: str) -> list[Link]:
        return [one for one in self.links if one.touches(uuid) and one.status == APPROVED]

    def expect(self, codes: Iterable[str], attempt: Any) -> Any:
        """The outcome of an attempt, which is refused with exactly these codes, if any."""
        expected = Counter(codes)
        try:
            outcome = attempt()
        except Refused as refused:
            assert Counter(finding.xds for finding in refused.findings) == expected  # noqa: PT017
            return None
        assert not expected
        return outcome

    def send(self, patient: str, *parts: Any, restricted: bool = False) -> Any:
        return update(self.registry, request(*parts, patient_id=patient), restricted)

    # --- what is new -----------------------------------------------------------------------------------------------

    @initialize(patient=st.sampled_from([PATIENT, OTHER]))
    def begin(self, patient: str) -> None:
        for owner in (PATIENT, patient):
            self.one_document(owner)
            self.one_folder(owner)

    @rule(patient=st.sampled_from([PATIENT, OTHER]))
    def one_document(self, patient: str) -> None:
        self.add(DOCUMENT, patient, document(patient_id=patient))

    @rule(patient=st.sampled_from([PATIENT, OTHER]))
    def one_folder(self, patient: str) -> None:
        self.add(FOLDER, patient, folder(patient_id=patient))

    def add(self, kind: str, patient: str, *parts: Any, refused: Sequence[str] = ()) -> str:
        ids = self.expect(refused, lambda: register(self.registry, submission(*parts, patient_id=patient)).ids)
        if ids is None:
            return ""
        uuid = ids["Document01" if kind == DOCUMENT else "Folder01"]
        self.things.append(Thing(kind, uuid, uuid, patient))
        return uuid

    @precondition(lambda self: self.of_kind(DOCUMENT))
    @rule(index=indexes, kind=st.sampled_from([APND, RPLC]))
    def related(self, index: int, kind: str) -> None:
        """An addendum or a replacement, of any version: only the newest can be in force."""
        old = pick(self.of_kind(DOCUMENT), index)
        refused = [] if old.status == APPROVED else ["XDSRegistryDeprecatedDocumentError"]
        new = self.add(DOCUMENT, old.patient, *replacing(old.uuid, kind=kind, patient_id=old.patient), refused=refused)
        if not new:
            return
        if kind == RPLC:
            self.replaced(old, new)
        self.links.append(Link(kind, new, old.uuid))

    def replaced(self, old: Thing, new: str) -> None:
        places = {one.uuid for one in self.of_kind(FOLDER) if one.status == APPROVED}
        followed = {one.source for one in self.in_force(old.uuid) if one.kind == HAS_MEMBER and one.source in places}
        waiting = {old.uuid}
        while waiting:
            uuid = waiting.pop()
            (thing,) = (one for one in self.things if one.uuid == uuid)
            if thing.status == APPROVED or uuid == old.uuid:
                waiting |= {one.source for one in self.in_force(uuid) if one.kind == APND and one.target == uuid}
            thing.status = DEPRECATED
        self.links += [Link(HAS_MEMBER, place, new) for place in sorted(followed)]

    # --- what changes ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.things)
    @rule(index=indexes, stale=st.booleans(), propagates=st.booleans(), moves=st.booleans(), restricted=st.booleans())
    def a_version(self, index: int, stale: bool, propagates: bool, moves: bool, restricted: bool) -> None:
        named = pick(self.things, index)
        (old,) = (one for one in self.things if one.lid == named.lid and self.newest(one))
        if restricted and old.kind == FOLDER:
            return
        moves = moves and not restricted
        patient = old.patient if not moves else OTHER if old.patient == PATIENT else PATIENT
        held = self.in_force(old.uuid) if propagates else []
        refused = [VERSION] * stale + [STATE] * (old.status != APPROVED and not restricted) + [JOINED] * (
            len(held) if moves else 0)
        read = doc if old.kind == DOCUMENT else fold
        new = again(read(self.registry, old.uuid), patient_id=patient)
        previous = str(old.version + 1 if stale else old.version)
        operation = instead(new, previous, AssociationPropagation="" if propagates else "no")
        ids = self.expect(refused, lambda: self.send(patient, new, operation, restricted=restricted))
        if ids is None:
            return
        uuid = ids[new.id]
        self.things.append(Thing(old.kind, uuid, old.lid, patient, old.version + 1, old.status))
        old.status = DEPRECATED
        self.links += [replace(one, source=uuid if one.source == old.uuid else one.source,
                               target=uuid if one.target == old.uuid else one.target) for one in held]

    @precondition(lambda self: self.things)
    @rule(index=indexes)
    def a_status(self, index: int) -> None:
        thing = pick(self.things, index)
        refused = [] if self.newest(thing) else [STATE]
        if self.expect(refused, lambda: self.send(thing.patient, restated(thing.uuid, thing.status))) is not None:
            thing.status = OTHERWISE[thing.status]

    @precondition(lambda self: self.links)
    @rule(index=indexes)
    def a_status_of_a_link(self, index: int) -> None:
        one = pick(self.links, index)
        found = next(known for known in self.known_links(one.source) if shape(known) == shape(one))
        (patient,) = (thing.patient for thing in self.things if thing.uuid == one.source)
        self.send(patient, restated(found.id, one.status))
        one.status = OTHERWISE[one.status]

    @precondition(lambda self: self.of_kind(DOCUMENT) and self.of_kind(FOLDER))
    @rule(place=indexes, member=indexes, kind=st.sampled_from([HAS_MEMBER, APND]))
    def a_link(self, place: int, member: int, kind: str) -> None:
        """Submitted for the patient of its source; each end that will not do is told, and a twin."""
        source = pick(self.of_kind(FOLDER if kind == HAS_MEMBER else DOCUMENT), place)
        target = pick(self.of_kind(DOCUMENT), member)
        made = holds(source.uuid, target.uuid) if kind == HAS_MEMBER else link(kind, source.uuid, target.uuid)
        refused = [STATE for end in (source, target) if end.status != APPROVED]
        refused += [JOINED] * (source.patient != target.patient)
        refused += [STATE] * (Link(kind, source.uuid, target.uuid) in self.links)
        ids = self.expect(refused, lambda: self.send(source.patient, made, linked(made)))
        if ids is not None:
            self.links.append(Link(kind, source.uuid, target.uuid))

    # --- what goes -------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.things) > 1)
    @rule(index=indexes)
    def a_removal(self, index: int) -> None:
        """One version, whichever, with the sets that hold it and every link that names any of these."""
        gone = pick(self.things, index)
        names = [gone.uuid]
        for uuid in names:
            names += [name for one in self.all_links(uuid) for name in (one.id, *self.sets_among(one, gone))
                      if name not in names]
        self.expect([], lambda: remove(self.registry, [ObjectRef(uuid) for uuid in dict.fromkeys(names)]))
        self.things.remove(gone)
        self.links = [one for one in self.links if not one.touches(gone.uuid)]

    def sets_among(self, one: Association, gone: Thing) -> tuple[str, ...]:
        """The set of which the object itself is a member."""
        known = {thing.uuid for thing in self.things}
        return (one.source,) if one.target == gone.uuid and one.source not in known else ()

    def all_links(self, uuid: str) -> list[Association]:
        return ask(self.registry, "GetAssociations", uuid=listed(uuid), MetadataLevel="2",
                   XDSAssociationStatus=BOTH).associations

    def known_links(self, uuid: str) -> list[Association]:
        """Those that the model knows of too."""
        known = {thing.uuid for thing in self.things}
        return [one for one in self.all_links(uuid) if {one.source, one.target} <= known]

    # --- what is found ---------------------------------------------------------------------------------------------

    @invariant()
    def documents_are_found(self) -> None:
        for patient in (PATIENT, OTHER):
            for status in (APPROVED, DEPRECATED):
                for level in "12":
                    told = ask(self.registry, "FindDocuments", "ObjectRef", MetadataLevel=level,
                               XDSDocumentEntryPatientId=quoted(patient), XDSDocumentEntryStatus=listed(status))
                    assert sorted(told.refs) == sorted(
                        one.uuid for one in self.of_kind(DOCUMENT)
                        if (one.patient, one.status) == (patient, status) and (level == "2" or self.newest(one)))

    @invariant()
    def folders_are_found_with_their_documents(self) -> None:
        shown = {one.uuid for one in self.of_kind(DOCUMENT) if self.newest(one)}
        for place in self.of_kind(FOLDER):
            told = ask(self.registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(place.uuid))
            there = self.newest(place) and place.status == APPROVED
            members = {one.target for one in self.in_force(place.uuid) if one.kind == HAS_MEMBER and there}
            assert ([one.id for one in told.folders], {one.id for one in told.documents}) == (
                [place.uuid] if there else [], members & shown)

    @invariant()
    def histories_are_whole(self) -> None:
        for lid in {one.lid for one in self.things}:
            mine = sorted((one for one in self.things if one.lid == lid), key=lambda one: one.version)
            name, parameter, read = (("GetDocuments", "XDSDocumentEntryLogicalID", doc) if mine[0].kind == DOCUMENT
                                     else ("GetFolders", "XDSFolderLogicalID", fold))
            told = ask(self.registry, name, "ObjectRef", MetadataLevel="2", **{parameter: listed(lid)})
            assert sorted(told.refs) == sorted(one.uuid for one in mine)
            for one in mine:
                known = read(self.registry, one.uuid)
                assert (known.lid, known.version, known.status, known.patient_id) == (
                    lid, str(one.version), one.status, one.patient)
            with self.registry.database.read() as connection:
                held = versions.newest(connection, lid)
            assert held is not None
            assert held.uuid == mine[-1].uuid

    @invariant()
    def links_are_found(self) -> None:
        for thing in self.things:
            assert Counter(map(shape, self.known_links(thing.uuid))) == Counter(
                shape(one) for one in self.links if one.touches(thing.uuid))


def pick(things: Sequence[T], index: int) -> T:
    return things[index % len(things)]


def shape(one: Association | Link) -> tuple[str, str, str, str]:
    kind = one.type if isinstance(one, Association) else one.kind
    return kind, one.source, one.target, one.status


TestLife = pytest.mark.filterwarnings("error")(Life.TestCase)
TestLife.settings = settings(max_examples=10, stateful_step_count=12, deadline=None,
                             suppress_health_check=[HealthCheck.too_slow])


class LongLife(Life):
    """The same, many times and longer."""


TestLongLife = pytest.mark.slow(LongLife.TestCase)
TestLongLife.settings = settings(TestLife.settings, max_examples=60, stateful_step_count=40)
