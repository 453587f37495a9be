"""Alembic environment of the journal's own database."""

from alembic import context

from journal.database import run_migrations
from journal.tables import metadata

run_migrations(context, metadata, "alembic_version_journal")
