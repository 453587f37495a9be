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
    _make_document()
    _make_folder()
    _make_identifier_claim()
    _make_object_code()
    _make_object_text()
    _make_outbox()
    _make_patient()
    _make_patient_identifier()
    _make_submission_set()


def downgrade() -> None:
    """Drop the tables, and their indexes with them."""
    op.drop_table("submission_set")
    op.drop_table("patient_identifier")
    op.drop_table("patient")
    op.drop_table("outbox")
    op.drop_table("object_text")
    op.drop_table("object_code")
    op.drop_table("identifier_claim")
    op.drop_table("folder")
    op.drop_table("document")
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
        sa.PrimaryKeyConstraint("patient_id", "id"),
    )


def _make_patient() -> None:
    op.create_table(
        "patient",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("merged_into", sa.BigInteger(), nullable=True),
        sa.Column("family", sa.String(length=200), nullable=False),
        sa.Column("given", sa.String(length=200), nullable=False),
        sa.Column("birth_date", sa.String(length=14), nullable=False),
        sa.Column("sex", sa.String(length=2), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


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
