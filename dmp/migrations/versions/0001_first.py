"""First tables of the dmp."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
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


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("record")
    op.drop_table("authorisation")
