"""A registry on its own SQLite file, migrated, with two patients fed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal.database import Database
from registry import patients
from registry.codes import CodeBook
from registry.patients import Traits
from registry.register import Registry
from registry.rows import BASIC_NAMES
from tests.registry.samples import DOMAIN, OTHER, PATIENT


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file as `migrate` leaves it, with the two patients: copied by each test that wants one."""
    return make_migrated(tmp_path_factory.mktemp("migrated") / "volet.db")


def make_migrated(path: Path) -> Path:
    database = Database(f"sqlite:///{path}")
    for room in ("registry", "dmp"):
        database.migrate(room)
    with database.write() as connection:
        patients.feed(connection, [PATIENT], Traits("ESSAI", "CAMILLE", "19580517", "F"))
        patients.feed(connection, [OTHER], Traits("ESSAI", "DOMINIQUE", "19340511", "M"))
    database.close()
    return path


def open_registry(path: Path, durable: bool = False) -> Registry:
    """A registry on a migrated file; not synced to disk unless asked, which tests of rules do not need."""
    database = Database(f"sqlite:///{path}", durable)
    book = CodeBook(database)
    book.ensure(BASIC_NAMES)
    return Registry(database, book, DOMAIN)


@pytest.fixture
def database_file(migrated: Path, tmp_path: Path) -> Path:
    path = tmp_path / "volet.db"
    shutil.copyfile(migrated, path)
    return path


@pytest.fixture
def registry(database_file: Path) -> Iterator[Registry]:
    opened = open_registry(database_file)
    yield opened
    opened.database.close()
