"""First tables of the journal."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _make_assertion_seen()
    _make_exchange()


def downgrade() -> None:
    """Drop the tables, and their indexes with them."""
    op.drop_table("exchange")
    op.drop_table("assertion_seen")


def _make_assertion_seen() -> None:
    op.create_table(
        "assertion_seen",
        sa.Column("key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("assertion_seen_until", "assertion_seen", ["until"], unique=False)


def _make_exchange() -> None:
    op.create_table(
        "exchange",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("action", sa.String(length=200), nullable=False),
        sa.Column("door", sa.String(length=10), nullable=False),
        sa.Column("caller", sa.String(length=200), nullable=False),
        sa.Column("caller_id", sa.String(length=80), nullable=False),
        sa.Column("structure_id", sa.String(length=80), nullable=False),
        sa.Column("mode", sa.String(length=20), nullable=False),
        sa.Column("patient", sa.String(length=256), nullable=False),
        sa.Column("message_id", sa.String(length=256), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("microseconds", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("documents", sa.Text(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("exchange_at", "exchange", ["at"], unique=False)
