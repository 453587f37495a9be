"""Alembic environment of the French record's tables (same database as the registry)."""

from alembic import context

from dmp.tables import metadata
from journal.database import run_migrations

run_migrations(context, metadata, "alembic_version_dmp")
