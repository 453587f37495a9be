"""A repository on its own folder, beside a registry on its own file; plain IHE unless a test says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.register import Registry
from registry.transactions import Services
from repository.provide import Repository
from repository.store import FolderStore
from tests.registry.conftest import database_file as database_file
from tests.registry.conftest import migrated as migrated
from tests.registry.conftest import registry as registry
from tests.registry.test_transactions import Watched


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a store, made once."""
    root = tmp_path_factory.mktemp("folders")
    FolderStore(root)
    return root


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """A store with two of its 4,096 folders: the others are made as they are needed, which no test counts."""
    return small_store(tmp_path / "documents")


def small_store(root: Path) -> FolderStore:
    (root / "fff").mkdir(parents=True)
    return LazyStore(root)


class LazyStore(FolderStore):
    """Makes a folder when a document comes to it."""

    def _path(self, key: str) -> Path:
        path = super()._path(key)
        path.parent.mkdir(exist_ok=True)
        return path


@pytest.fixture
def profile() -> Watched:
    return Watched()


@pytest.fixture
def repository(store: FolderStore, registry: Registry, profile: Watched) -> Repository:
    return Repository(store, Services(registry, profile))
