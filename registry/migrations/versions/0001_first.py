"""First tables of the registry."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _make_association()
    _make_code()
    _make_delivery()
    _make_delivery_part()
    _make_document()
    _make_folder()
    _make_identifier_claim()
    _make_object_code()
    _make_object_text()
    _make_outbox()
    _make_outbox_cursor()
    _make_patient()
    _make_patient_identifier()
    _make_submission_set()
    _make_subscription()


def downgrade() -> None:
    """Drop the tables, and their indexes with them."""
    op.drop_table("subscription")
    op.drop_table("submission_set")
    op.drop_table("patient_identifier")
    op.drop_table("patient")
    op.drop_table("outbox_cursor")
    op.drop_table("outbox")
    op.drop_table("object_text")
    op.drop_table("object_code")
    op.drop_table("identifier_claim")
    op.drop_table("folder")
    op.drop_table("document")
    op.drop_table("delivery_part")
    op.drop_table("delivery")
    op.drop_table("code")
    op.drop_table("association")


def _make_association() -> None:
    op.create_table(
        "association",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("uuid", sa.String(length=64), nullable=False),
        sa.Column("lid", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("current", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("home", sa.String(length=100), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("xml", sa.LargeBinary(), nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("association_source", "association", ["patient_id", "source"], unique=False)
    op.create_index("association_target", "association", ["patient_id", "target"], unique=False)


def _make_code() -> None:
    op.create_table(
        "code",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=256), nullable=False),
        sa.Column("scheme", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("code", "scheme"),
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


def _make_document() -> None:
    op.create_table(
        "document",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("uuid", sa.String(length=64), nullable=False),
        sa.Column("lid", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("current", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("home", sa.String(length=100), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("xml", sa.LargeBinary(), nullable=False),
        sa.Column("unique_id", sa.String(length=256), nullable=False),
        sa.Column("submission_set_id", sa.BigInteger(), nullable=False),
        sa.Column("object_type", sa.Integer(), nullable=False),
        sa.Column("mime_type", sa.String(length=100), nullable=False),
        sa.Column("class_code", sa.Integer(), nullable=False),
        sa.Column("type_code", sa.Integer(), nullable=False),
        sa.Column("format_code", sa.Integer(), nullable=False),
        sa.Column("facility_type", sa.Integer(), nullable=False),
        sa.Column("practice_setting", sa.Integer(), nullable=False),
        sa.Column("confidentiality", sa.String(length=400), nullable=False),
        sa.Column("authors", sa.Text(), nullable=False),
        sa.Column("creation_time", sa.String(length=14), nullable=False),
        sa.Column("service_start", sa.String(length=14), nullable=False),
        sa.Column("service_stop", sa.String(length=14), nullable=False),
        sa.Column("repository_unique_id", sa.String(length=100), nullable=False),
        sa.Column("hash", sa.String(length=40), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("storage_key", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=True),
        sa.Column("registered", sa.BigInteger(), nullable=False),
        sa.Column("offline", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("document_found", "document", ["patient_id", "status", "creation_time"], unique=False)


def _make_folder() -> None:
    op.create_table(
        "folder",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("uuid", sa.String(length=64), nullable=False),
        sa.Column("lid", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("current", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("home", sa.String(length=100), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("xml", sa.LargeBinary(), nullable=False),
        sa.Column("unique_id", sa.String(length=256), nullable=False),
        sa.Column("last_update_time", sa.String(length=14), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "id"),
        sqlite_with_rowid=False,
    )


def _make_identifier_claim() -> None:
    op.create_table(
        "identifier_claim",
        sa.Column("key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=1), nullable=False),
        sa.Column("patient_id", sa.BigInteger(), nullable=False),
        sa.Column("object_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "slot"),
        sqlite_with_rowid=False,
    )


def _make_object_code() -> None:
    op.create_table(
        "object_code",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("object_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=1), nullable=False),
        sa.Column("code", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "object_id", "kind", "code"),
        sqlite_with_rowid=False,
    )


def _make_object_text() -> None:
    op.create_table(
        "object_text",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("object_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=1), nullable=False),
        sa.Column("position", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "object_id", "kind", "position"),
        sqlite_with_rowid=False,
    )


def _make_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("patient_id", "id"),
    )
    op.create_index("outbox_position", "outbox", ["position", "id"], unique=False)


def _make_outbox_cursor() -> None:
    op.create_table(
        "outbox_cursor",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=80), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _make_patient() -> None:
    op.create_table(
        "patient",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("merged_into", sa.BigInteger(), nullable=True),
        sa.Column("shown", sa.String(length=300), nullable=False),
        sa.Column("family", sa.String(length=200), nullable=False),
        sa.Column("given", sa.String(length=200), nullable=False),
        sa.Column(
            "family_key",
            sa.String(length=400).with_variant(sa.String(length=400, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column(
            "given_key",
            sa.String(length=400).with_variant(sa.String(length=400, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("birth_date", sa.String(length=14), nullable=False),
        sa.Column("sex", sa.String(length=2), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("patient_birth", "patient", ["birth_date"], unique=False)
    op.create_index(
        "patient_merged",
        "patient",
        ["merged_into"],
        unique=False,
        sqlite_where=sa.text("merged_into IS NOT NULL"),
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )
    op.create_index("patient_name", "patient", ["family_key", "birth_date"], unique=False)


def _make_patient_identifier() -> None:
    op.create_table(
        "patient_identifier",
        sa.Column("authority", sa.String(length=128), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.Column("patient_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("authority", "value"),
    )
    op.create_index(op.f("ix_patient_identifier_patient_id"), "patient_identifier", ["patient_id"], unique=False)


def _make_submission_set() -> None:
    op.create_table(
        "submission_set",
        sa.Column("patient_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("uuid", sa.String(length=64), nullable=False),
        sa.Column("lid", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("current", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("home", sa.String(length=100), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("xml", sa.LargeBinary(), nullable=False),
        sa.Column("unique_id", sa.String(length=256), nullable=False),
        sa.Column("source_id", sa.String(length=100), nullable=False),
        sa.Column("submission_time", sa.String(length=14), nullable=False),
        sa.Column("content_type", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("submission_set_found", "submission_set", ["patient_id", "submission_time"], unique=False)


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
