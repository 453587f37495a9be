"""Subscriptions, positions in the outbox and cursors on it, messages to be pushed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; what stands in the outbox has no position yet."""
    op.add_column("outbox", sa.Column("position", sa.BigInteger(), nullable=True))
    op.create_index("outbox_position", "outbox", ["position", "id"], unique=False)
    merged = sa.text("merged_into IS NOT NULL")
    op.create_index("patient_merged", "patient", ["merged_into"], unique=False, sqlite_where=merged,
                    postgresql_where=merged)
    _make_outbox_cursor()
    _make_delivery()
    _make_delivery_part()
    _make_subscription()


def downgrade() -> None:
    """Drop the tables, and their indexes with them."""
    op.drop_table("subscription")
    op.drop_table("delivery_part")
    op.drop_table("delivery")
    op.drop_table("outbox_cursor")
    op.drop_index("patient_merged", "patient")
    op.drop_index("outbox_position", "outbox")
    op.drop_column("outbox", "position")


def _make_outbox_cursor() -> None:
    op.create_table(
        "outbox_cursor",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=80), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _make_delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("subject", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.String(length=300), nullable=False),
        sa.Column("address", sa.String(length=2048), nullable=False),
        sa.Column("content_type", sa.String(length=1024), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("delivery_due", "delivery", ["state", "origin", "due"], unique=False)
    op.create_index("delivery_subject", "delivery", ["subject"], unique=False)


def _make_delivery_part() -> None:
    op.create_table(
        "delivery_part",
        sa.Column("delivery_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", "number"),
    )


def _make_subscription() -> None:
    op.create_table(
        "subscription",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uuid", sa.String(length=64), nullable=False),
        sa.Column("authority", sa.String(length=128), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.Column("topic", sa.String(length=40), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("blocks", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("profile", sa.String(length=20), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("uuid"),
    )
    op.create_index("subscription_patient", "subscription", ["authority", "value", "state"], unique=False)
