"""Tables of the registry. The patient leads every key and index (it is the shard key); ids come from the application.

One wide row an object: columns answer queries, `xml` is the answer. Coded values are small integers of `code`, a
dictionary that only grows. What several values may have (event codes, confidentiality, authors, reference ids) stands
in `object_code` and `object_text`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from journal.tables import cursors as make_cursors
from journal.tables import deliveries as make_deliveries
from journal.tables import outbox as make_outbox

metadata = MetaData()

#: SQLite keeps such a table in the order of its key: what belongs to a patient lies together on disk.
_CLUSTERED: dict[str, Any] = {"sqlite_with_rowid": False}

_BY_BYTES = String(400).with_variant(String(400, collation="C"), "postgresql")


def _patient_key() -> list[Column[Any]]:
    return [Column("patient_id", BigInteger, primary_key=True, autoincrement=False),
            Column("id", BigInteger, primary_key=True, autoincrement=False),
            Column("bucket", SmallInteger, nullable=False)]


def _object() -> list[Column[Any]]:
    """What every object of the registry has: identity, life, and its stored form (see `registry.stored`)."""
    return [
        Column("uuid", String(64), nullable=False),
        Column("lid", String(64), nullable=False),
        Column("version", Integer, nullable=False),
        Column("current", SmallInteger, nullable=False),  # registry.life: OLDER, NEWEST, MOVED
        Column("status", Integer, nullable=False),
        Column("home", String(100), nullable=False),
        Column("codec", SmallInteger, nullable=False),
        Column("xml", LargeBinary, nullable=False),
    ]


#: `merged_into`: the survivor of whom this patient is an alias, and `shown` the identifier that survived. The keys are
#: the names as they are compared (registry.names); their bytes are ordered, so that a prefix is a range.
patient = Table(
    "patient", metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("bucket", SmallInteger, nullable=False),
    Column("merged_into", BigInteger),
    Column("shown", String(300), nullable=False, default=""),
    Column("family", String(200), nullable=False),
    Column("given", String(200), nullable=False),
    Column("family_key", _BY_BYTES, nullable=False, default=""),
    Column("given_key", _BY_BYTES, nullable=False, default=""),
    Column("birth_date", String(14), nullable=False),
    Column("sex", String(2), nullable=False),
    Column("created", BigInteger, nullable=False),
)
_merged = patient.c.merged_into.is_not(None)
Index("patient_merged", patient.c.merged_into, sqlite_where=_merged, postgresql_where=_merged)
Index("patient_name", patient.c.family_key, patient.c.birth_date)
Index("patient_birth", patient.c.birth_date)

patient_identifier = Table(
    "patient_identifier", metadata,
    Column("authority", String(128), primary_key=True),
    Column("value", String(128), primary_key=True),
    Column("patient_id", BigInteger, nullable=False, index=True),
)

code = Table(
    "code", metadata,
    Column("id", Integer, primary_key=True),
    Column("code", String(256), nullable=False),
    Column("scheme", String(256), nullable=False),
    UniqueConstraint("code", "scheme"),
)

#: Who has which entryUUID or uniqueId. `slot` 0 is exclusive (UUIDs, sets, folders); documents, whose uniqueId may
#: come again with the same content, use their own id. Also the routing table of everything that names no patient.
identifier_claim = Table(
    "identifier_claim", metadata,
    Column("key", LargeBinary(16), primary_key=True),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(1), nullable=False),
    Column("patient_id", BigInteger, nullable=False),
    Column("object_id", BigInteger, nullable=False),
    **_CLUSTERED,
)

document = Table(
    "document", metadata, *_patient_key(), *_object(),
    Column("unique_id", String(256), nullable=False),
    Column("submission_set_id", BigInteger, nullable=False),
    Column("object_type", Integer, nullable=False),
    Column("mime_type", String(100), nullable=False),
    Column("class_code", Integer, nullable=False),
    Column("type_code", Integer, nullable=False),
    Column("format_code", Integer, nullable=False),
    Column("facility_type", Integer, nullable=False),
    Column("practice_setting", Integer, nullable=False),
    Column("confidentiality", String(400), nullable=False),
    Column("authors", Text, nullable=False),
    Column("creation_time", String(14), nullable=False),
    Column("service_start", String(14), nullable=False),
    Column("service_stop", String(14), nullable=False),
    Column("repository_unique_id", String(100), nullable=False),
    Column("hash", String(40), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("storage_key", String(64), nullable=False),
    Column("sha256", LargeBinary(32)),
    Column("registered", BigInteger, nullable=False),
    Column("offline", SmallInteger, nullable=False, default=0),  # 1: documentAvailability says so
    **_CLUSTERED,
)
Index("document_found", document.c.patient_id, document.c.status, document.c.creation_time)

submission_set = Table(
    "submission_set", metadata, *_patient_key(), *_object(),
    Column("unique_id", String(256), nullable=False),
    Column("source_id", String(100), nullable=False),
    Column("submission_time", String(14), nullable=False),
    Column("content_type", Integer, nullable=False),
    Column("fingerprint", LargeBinary(32), nullable=False),
    **_CLUSTERED,
)
Index("submission_set_found", submission_set.c.patient_id, submission_set.c.submission_time)

folder = Table(
    "folder", metadata, *_patient_key(), *_object(),
    Column("unique_id", String(256), nullable=False),
    Column("last_update_time", String(14), nullable=False),
    **_CLUSTERED,
)

association = Table(
    "association", metadata, *_patient_key(), *_object(),
    Column("type", Integer, nullable=False),
    Column("source", String(64), nullable=False),
    Column("target", String(64), nullable=False),
    **_CLUSTERED,
)
Index("association_source", association.c.patient_id, association.c.source)
Index("association_target", association.c.patient_id, association.c.target)

#: Codes of which an object has several: kind "event", "confidentiality", "folder".
object_code = Table(
    "object_code", metadata,
    Column("patient_id", BigInteger, primary_key=True, autoincrement=False),
    Column("object_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(1), primary_key=True),
    Column("code", Integer, primary_key=True, autoincrement=False),
    Column("bucket", SmallInteger, nullable=False),
    **_CLUSTERED,
)

#: Texts searched by pattern: kind "a" authorPerson, "r" referenceIdList.
object_text = Table(
    "object_text", metadata,
    Column("patient_id", BigInteger, primary_key=True, autoincrement=False),
    Column("object_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(1), primary_key=True),
    Column("position", SmallInteger, primary_key=True, autoincrement=False),
    Column("value", Text, nullable=False),
    Column("bucket", SmallInteger, nullable=False),
    **_CLUSTERED,
)

outbox = make_outbox(metadata)
outbox_cursor = make_cursors(metadata)
deliveries = make_deliveries(metadata)

#: Who wants to hear of what (ITI-52). `authority` and `value` are the patient's identifier, "" for any patient: as a
#: routing table of what the outbox tells, this one is not led by the patient. Times are milliseconds since 1970.
subscription = Table(
    "subscription", metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("uuid", String(64), nullable=False),
    Column("authority", String(128), nullable=False),
    Column("value", String(128), nullable=False),
    Column("topic", String(40), nullable=False),
    Column("filter", Text, nullable=False),
    Column("consumer", Text, nullable=False),
    Column("blocks", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("owner", String(80), nullable=False),
    Column("profile", String(20), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("state", String(10), nullable=False),
    UniqueConstraint("uuid"),
)
Index("subscription_patient", subscription.c.authority, subscription.c.value, subscription.c.state)
