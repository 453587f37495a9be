"""Migrations of every room: from nothing they make exactly the tables that the code uses, twice does no harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text

import dmp.tables
import journal.tables
import registry.tables
from journal.database import Database

ROOMS: dict[str, MetaData] = {"registry": registry.tables.metadata, "dmp": dmp.tables.metadata,
                              "journal": journal.tables.metadata}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'test.db'}", durable=False)
    yield opened
    opened.close()


def differences(connection: Connection, room: str) -> list[object]:
    """What alembic would still change for this room's tables to be those of its code."""
    known = set(ROOMS[room].tables)

    def of_this_room(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or name in known

    context = MigrationContext.configure(connection, opts={
        "compare_type": True, "compare_server_default": True, "include_name": of_this_room,
        "version_table": f"alembic_version_{room}"})
    return list(compare_metadata(context, ROOMS[room]))


def shape(connection: Connection, table: str) -> tuple[object, ...]:
    """Columns, keys, indices and layout as SQLite tells them: what autogenerate does not look at too."""
    columns = [row[1:] for row in connection.execute(text(f"PRAGMA table_info('{table}')"))]
    indices = sorted((row.unique, row.origin, tuple(item.name for item in connection.execute(
        text(f"PRAGMA index_info('{row.name}')"))), row.name if row.origin == "c" else "")
        for row in connection.execute(text(f"PRAGMA index_list('{table}')")))
    sql = connection.execute(text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": table}).scalar_one()
    return columns, indices, "WITHOUT ROWID" in sql


def tables(connection: Connection) -> set[str]:
    names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars()
    return {name for name in names if not name.startswith("sqlite_")}


@pytest.mark.parametrize("room", ROOMS)
def test_from_nothing_to_what_the_code_uses(database: Database, room: str) -> None:
    database.migrate(room)
    with database.read() as connection:
        assert tables(connection) == {*ROOMS[room].tables, f"alembic_version_{room}"}
        assert differences(connection, room) == []


@pytest.mark.parametrize("room", ROOMS)
def test_the_same_as_the_code_would_make(database: Database, tmp_path: Path, room: str) -> None:
    database.migrate(room)
    other = Database(f"sqlite:///{tmp_path / 'other.db'}", durable=False)
    with other.write() as connection:
        ROOMS[room].create_all(connection)
    with database.read() as migrated, other.read() as made:
        for table in ROOMS[room].tables:
            assert shape(migrated, table) == shape(made, table), table
    other.close()


def test_a_difference_is_seen(database: Database) -> None:
    """So that the comparison cannot be green by seeing nothing."""
    database.migrate("registry")
    with database.write() as connection:
        connection.execute(text("ALTER TABLE patient ADD COLUMN more TEXT"))
        connection.execute(text("DROP INDEX document_found"))
    with database.read() as connection:
        assert len(differences(connection, "registry")) == 2


def test_rooms_share_a_database(database: Database) -> None:
    for room in ("registry", "dmp"):
        database.migrate(room)
    with database.read() as connection:
        assert tables(connection) == {*ROOMS["registry"].tables, *ROOMS["dmp"].tables, "alembic_version_registry",
                                      "alembic_version_dmp"}
        assert differences(connection, "registry") == differences(connection, "dmp") == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_second_time_changes_nothing(database: Database, room: str) -> None:
    database.migrate(room)
    with database.read() as connection:
        before = connection.execute(text("SELECT name, sql FROM sqlite_master ORDER BY name")).all()
    database.migrate(room)
    with database.read() as connection:
        assert connection.execute(text("SELECT name, sql FROM sqlite_master ORDER BY name")).all() == before


@pytest.mark.parametrize("room", ROOMS)
def test_one_line_of_versions(room: str) -> None:
    """No branches, and each says what it does."""
    script = ScriptDirectory(str(Path(room) / "migrations"))
    versions = list(script.walk_revisions())
    assert len(script.get_heads()) == 1
    assert [one.revision for one in reversed(versions)] == [f"{number:04d}" for number in range(1, len(versions) + 1)]
    assert all(one.doc for one in versions)


@pytest.mark.parametrize("room", ROOMS)
def test_back_to_nothing(database: Database, room: str) -> None:
    database.migrate(room)
    with database.write() as connection:
        config = Config()
        config.set_main_option("script_location", f"{room}:migrations")
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with database.read() as connection:
        assert tables(connection) == {f"alembic_version_{room}"}
    database.migrate(room)
    with database.read() as connection:
        assert differences(connection, room) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_migration_that_fails_leaves_the_database_as_it_was(database: Database, room: str) -> None:
    """DDL is part of the transaction: half a version never stays."""
    last = sorted(ROOMS[room].tables)[-1]
    with database.write() as connection:
        connection.execute(text(f"CREATE TABLE {last} (x INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        database.migrate(room)
    with database.read() as connection:
        assert tables(connection) - {f"alembic_version_{room}"} == {last}
    with database.write() as connection:
        connection.execute(text(f"DROP TABLE {last}"))
    database.migrate(room)
