"""Alembic environment of the registry's database."""

from alembic import context

from journal.database import run_migrations
from registry.tables import metadata

run_migrations(context, metadata, "alembic_version_registry")
