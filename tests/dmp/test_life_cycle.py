"""What the life-cycle transactions of plain IHE are to callers of the DMP: refused by name, to whoever they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dmp import matrices, record
from dmp.profile import DmpProfile
from dmp.record import Authorisation, Record
from journal.exchanges import Exchange
from registry import requirements
from registry.register import Registry
from registry.transactions import Services, iti57, iti62, iti92
from repository.provide import Repository
from repository.remove import iti86
from repository.store import FolderStore
from security.identity import Caller
from tests.dmp.samples import ACTORS, MODES, OTHER, PATIENT, caller
from tests.registry.changes import again, doc, instead, request, restated, snapshot
from tests.registry.conftest import database_file as database_file
from tests.registry.conftest import migrated as migrated
from tests.registry.conftest import registry as registry
from tests.registry.samples import DOMAIN, put
from tests.registry.test_query_safety import patient_id
from tests.repository.conftest import store as store
from tests.repository.samples import asked
from xds import messages
from xds.findings import Finding, Refused
from xds.rim import ObjectRef
from xds.vocabulary import APPROVED
from xds.xml import Element, parse

Story = Callable[[Element, Caller, Exchange, Any], Any]
ACTIONS = {"ITI-57": "update", "ITI-92": "update", "ITI-62": "remove", "ITI-86": "remove"}


@pytest.fixture
def repository(registry: Registry, store: FolderStore) -> Repository:
    """A record that is open, whose holder authorised everybody of these tests; a document in it."""
    owner = patient_id(registry, PATIENT)
    with registry.database.write() as connection:
        record.write(connection, Record(owner))
        for who in ACTORS.values():
            record.grant(connection, owner, who.national_id, Authorisation(record.VALID))
    profile: DmpProfile[Any, Any] = DmpProfile(
        DOMAIN, lambda transaction: requirements.load(transaction, "registry", "dmp"), lambda: None)  # type: ignore[arg-type,return-value]
    return Repository(store, Services(registry, profile))


def refused(repository: Repository, transaction: str, who: Caller, patient: str = PATIENT) -> list[Finding]:
    registry = repository.services.registry
    ids = put(registry).ids
    new = again(doc(registry, ids["Document01"]), patient_id=patient)
    update = messages.write_submit_objects(request(
        new, instead(new), restated(ids["Document01"], APPROVED), patient_id=patient).objects)
    bodies = {"ITI-57": update, "ITI-92": update,
              "ITI-62": messages.write_remove_objects(ObjectRef(uuid) for uuid in ids.values()),
              "ITI-86": messages.write_remove_documents(asked(new.unique_id))}
    stories: dict[str, Story] = {"ITI-57": iti57, "ITI-92": iti92, "ITI-62": iti62, "ITI-86": iti86}
    before = snapshot(registry)
    with pytest.raises(Refused) as caught:
        stories[transaction](parse(bodies[transaction].encode()), who, Exchange(),
                             repository if transaction == "ITI-86" else repository.services)
    assert snapshot(registry) == before
    return list(caught.value.findings)


def test_the_matrix_knows_none_of_them() -> None:
    """Whoever adds one there says for whom."""
    assert not {action for action, _ in matrices.functional().cells} & set(ACTIONS.values())


@pytest.mark.parametrize("transaction", ACTIONS)
@pytest.mark.parametrize("name", ACTORS)
def test_nobody_is_entitled(repository: Repository, transaction: str, name: str) -> None:
    for mode in MODES.values():
        (finding,) = refused(repository, transaction, replace(ACTORS[name], mode=mode))
        assert (finding.code, finding.xds) == ("V-DMP-NOT-ENTITLED", "DMPAccessDeniedByRightsService")
        assert ACTIONS[transaction] in finding.fr
        assert ACTIONS[transaction] in finding.en


@pytest.mark.parametrize("transaction", ["ITI-57", "ITI-92"])
def test_the_patient_is_the_vihfs(repository: Repository, transaction: str) -> None:
    """Which is said first: a caller learns nothing of somebody else's record."""
    (finding,) = refused(repository, transaction, caller(), OTHER)
    assert (finding.code, finding.xds) == ("V-DMP-PATIENT-OF-TOKEN", "XDSPatientIdDoesNotMatch")


@pytest.mark.parametrize("transaction", ["ITI-62", "ITI-86"])
def test_a_removal_is_of_the_vihfs_patient_too(repository: Repository, transaction: str) -> None:
    (finding,) = refused(repository, transaction, caller(patient=""))
    assert finding.code == "V-DMP-PATIENT-MISSING"
