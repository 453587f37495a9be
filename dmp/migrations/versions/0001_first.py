"""First tables of the dmp."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _make_authorisation()
    _make_record()


def downgrade() -> None:
    """Drop the tables, and their indexes with them."""
    op.drop_table("record")
    op.drop_table("authorisation")


def _make_authorisation() -> None:
    op.create_table(
        "authorisation",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("professional", sa.String(length=80), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("treating", sa.Boolean(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "professional"),
        sqlite_with_rowid=False,
    )


def _make_record() -> None:
    op.create_table(
        "record",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("opposition_bris_de_glace", sa.Boolean(), nullable=False),
        sa.Column("opposition_centre_15", sa.Boolean(), nullable=False),
        sa.Column("consent_masked_in_emergency", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id"),
        sqlite_with_rowid=False,
    )
