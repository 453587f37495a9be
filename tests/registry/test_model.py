"""Random lives of a registry against a short model in memory: the same documents, in the same state, to every query."""

from __future__ import annotations

import functools
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from registry.register import register
from tests.registry.conftest import make_migrated, open_registry
from tests.registry.samples import (
    OTHER,
    PATIENT,
    ask,
    code,
    document,
    find,
    folder,
    get,
    holds,
    link,
    listed,
    quoted,
    submission,
    the_set,
)
from xds.findings import Refused
from xds.vocabulary import APND, APPROVED, DEPRECATED, RPLC, SIGNS, XFRM, XFRM_RPLC

patients = st.sampled_from([PATIENT, OTHER])
classes = st.sampled_from("AB")
hashes = st.sampled_from(["0" * 40, "1" * 40])


@functools.cache
def template() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """A migrated file, in a folder that goes away with the process."""
    home = tempfile.TemporaryDirectory(prefix="volet-model-")
    return make_migrated(Path(home.name) / "volet.db"), home


@dataclass
class Entry:
    """What the model knows of a document."""

    patient: str
    unique_id: str
    kind: str
    hash: str
    status: str = APPROVED
    folders: set[str] = field(default_factory=set)
    added: set[str] = field(default_factory=set)  # its addenda and transformations


class Life(RuleBasedStateMachine):
    """One registry and the model beside it. Each rule predicts the outcome before it looks."""

    entries: Bundle[str] = Bundle("entries")
    places: Bundle[str] = Bundle("places")

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="volet-model-"))
        shutil.copyfile(template()[0], self.home / "volet.db")
        self.registry = open_registry(self.home / "volet.db")
        self.model: dict[str, Entry] = {}
        self.folders: dict[str, str] = {}

    def teardown(self) -> None:
        self.registry.database.close()
        shutil.rmtree(self.home)

    def submit(self, patient: str, *parts: Any, refused: str = "") -> dict[str, str]:
        """Register; the expected refusal, by its code, and nothing else."""
        try:
            ids = register(self.registry, submission(*parts, patient_id=patient)).ids
        except Refused as error:
            assert [finding.xds for finding in error.findings] == [refused]  # noqa: PT017
            return {}
        assert not refused
        return dict(ids)

    @initialize(target=entries, patient=patients, kind=classes)
    def begin(self, patient: str, kind: str) -> str:
        return self.add(patient, kind)

    def add(self, patient: str, kind: str) -> str:
        entry = document(patient_id=patient, class_code=code(kind), hash="0" * 40)
        uuid = self.submit(patient, entry)["Document01"]
        self.model[uuid] = Entry(patient, entry.unique_id, kind, entry.hash)
        return uuid

    @rule(target=entries, patient=patients, kind=classes)
    def one_document(self, patient: str, kind: str) -> str:
        return self.add(patient, kind)

    @rule(target=places, patient=patients)
    def one_folder(self, patient: str) -> str:
        uuid = self.submit(patient, folder(patient_id=patient))["Folder01"]
        self.folders[uuid] = patient
        return uuid

    @rule(target=entries, old=entries, patient=patients, relation=st.sampled_from([RPLC, XFRM_RPLC, APND, XFRM, SIGNS]))
    def related(self, old: str, patient: str, relation: str) -> Any:
        known = self.model[old]
        refused = "XDSPatientIdDoesNotMatch" if patient != known.patient else (
            "" if known.status == APPROVED else "XDSRegistryDeprecatedDocumentError")
        entry = document(patient_id=patient, class_code=code("A"), hash="0" * 40)
        ids = self.submit(patient, entry, link(relation, "Document01", old), refused=refused)
        if refused:
            return multiple()
        new = self.model[ids["Document01"]] = Entry(patient, entry.unique_id, "A", entry.hash)
        if relation in (APND, XFRM):
            known.added.add(ids["Document01"])
        if relation in (RPLC, XFRM_RPLC):
            self.deprecate(old)
            new.folders |= known.folders
        return ids["Document01"]

    def deprecate(self, uuid: str) -> None:
        waiting = [uuid]
        while waiting:
            entry = self.model[waiting.pop()]
            entry.status = DEPRECATED
            waiting += [one for one in entry.added if self.model[one].status == APPROVED]

    @rule(target=entries, old=entries, content=hashes)
    def again(self, old: str, content: str) -> Any:
        """The same uniqueId once more: with the same content a second entry, else refused."""
        known = self.model[old]
        refused = "" if content == known.hash else "XDSNonIdenticalHash"
        entry = document(patient_id=known.patient, unique_id=known.unique_id, hash=content, class_code=code("B"))
        ids = self.submit(known.patient, entry, refused=refused)
        if refused:
            return multiple()
        self.model[ids["Document01"]] = replace(known, kind="B", status=APPROVED, folders=set(), added=set())
        return ids["Document01"]

    @rule(place=places, member=entries)
    def put_into(self, place: str, member: str) -> None:
        known, patient = self.model[member], self.folders[place]
        refused = "XDSPatientIdDoesNotMatch" if known.patient != patient else (
            "" if known.status == APPROVED else "XDSRegistryDeprecatedDocumentError")
        self.submit(patient, the_set(patient_id=patient), holds(place, member), refused=refused)
        if not refused:
            known.folders.add(place)

    @invariant()
    def the_same_documents_are_found(self) -> None:
        for patient in (PATIENT, OTHER):
            for status in (APPROVED, DEPRECATED):
                for kind in "AB":
                    told = find(self.registry, "ObjectRef", patient, listed(status),
                                ClassCode=listed(f"{kind}^^1.2.3"))
                    assert set(told.refs) == {uuid for uuid, entry in self.model.items() if (
                        entry.patient, entry.status, entry.kind) == (patient, status, kind)}

    @invariant()
    def the_same_documents_are_got(self) -> None:
        for patient in (PATIENT, OTHER):
            mine = {uuid: entry for uuid, entry in self.model.items() if entry.patient == patient}
            if mine:
                told = get(self.registry, *mine).documents
                assert {one.id: (one.unique_id, one.status, one.hash) for one in told} == {
                    uuid: (entry.unique_id, entry.status, entry.hash) for uuid, entry in mine.items()}

    @invariant()
    def the_same_documents_are_by_their_unique_ids(self) -> None:
        for unique_id in {entry.unique_id for entry in self.model.values()}:
            told = ask(self.registry, "GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId=listed(unique_id))
            assert set(told.refs) == {uuid for uuid, entry in self.model.items() if entry.unique_id == unique_id}

    @invariant()
    def folders_hold_the_same(self) -> None:
        for place in self.folders:
            told = ask(self.registry, "GetFolderAndContents", XDSFolderEntryUUID=quoted(place))
            assert {one.id for one in told.documents} == {
                uuid for uuid, entry in self.model.items() if place in entry.folders}


TestLife = pytest.mark.filterwarnings("error")(Life.TestCase)
TestLife.settings = settings(max_examples=12, stateful_step_count=12, deadline=None,
                             suppress_health_check=[HealthCheck.too_slow])


class LongLife(Life):
    """The same, many times and longer."""


TestLongLife = pytest.mark.slow(LongLife.TestCase)
TestLongLife.settings = settings(TestLife.settings, max_examples=40, stateful_step_count=30)
