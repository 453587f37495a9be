"""Documents taken offline are hidden from queries of level 1: a column says which."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; nothing was offline so far."""
    op.add_column("document", sa.Column("offline", sa.SmallInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("document", "offline")
