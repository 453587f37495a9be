"""Tables of the journal and its audit trail (own file on SQLite), and of the outbox (in the registry's database,
written with its data).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table, Text

metadata = MetaData()

#: One exchange received and answered. Times are milliseconds since 1970, UTC; bodies zlib-compressed, cut by quota.
exchange = Table(
    "exchange", metadata,
    Column("id", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("name", String(40), nullable=False),
    Column("action", String(200), nullable=False),
    Column("door", String(10), nullable=False),
    Column("caller", String(200), nullable=False),
    Column("caller_id", String(80), nullable=False),
    Column("structure_id", String(80), nullable=False),
    Column("mode", String(20), nullable=False),
    Column("patient", String(256), nullable=False),
    Column("message_id", String(256), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("microseconds", Integer, nullable=False),
    Column("steps", Text, nullable=False),
    Column("findings", Text, nullable=False),
    Column("documents", Text, nullable=False),
    Column("request", LargeBinary),
    Column("response", LargeBinary),
)
Index("exchange_at", exchange.c.at)

#: Assertions already used where each counts once (plain HTTP door); forgotten after `until`.
assertion_seen = Table(
    "assertion_seen", metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("until", BigInteger, nullable=False),
)
Index("assertion_seen_until", assertion_seen.c.until)

#: The audit trail: append-only, each record bound to the one before by a MAC (journal.audit). `patient` is a keyed
#: digest, to find the accesses to one record; the rest stands in the payload, canonical JSON.
audit = Table(
    "audit", metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("patient", String(32), nullable=False),
    Column("prev", LargeBinary(32), nullable=False),
    Column("mac", LargeBinary(32), nullable=False),
    Column("payload", Text, nullable=False),
)
Index("audit_at", audit.c.at)
Index("audit_patient", audit.c.patient, audit.c.seq)


def outbox(of: MetaData) -> Table:
    """The outbox as a table of another room's database; read by `journal.consumer`, which gives the positions."""
    table = Table(
        "outbox", of,
        Column("patient_id", BigInteger, primary_key=True, autoincrement=False),
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("bucket", SmallInteger, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("kind", String(40), nullable=False),
        Column("payload", Text, nullable=False),
        Column("position", BigInteger),
    )
    Index("outbox_position", table.c.position, table.c.id)
    return table


def cursors(of: MetaData) -> Table:
    """How far each consumer of the outbox has come, and which process reads for it until when (milliseconds)."""
    return Table(
        "outbox_cursor", of,
        Column("name", String(40), primary_key=True),
        Column("position", BigInteger, nullable=False),
        Column("holder", String(80), nullable=False),
        Column("until", BigInteger, nullable=False),
    )


def deliveries(of: MetaData) -> tuple[Table, Table]:
    """Messages to be pushed and their bodies in pieces (journal.deliveries): where outbox and subscriptions are."""
    delivery = Table(
        "delivery", of,
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("message_id", String(64), nullable=False),
        Column("kind", String(20), nullable=False),
        Column("subject", BigInteger, nullable=False),
        Column("origin", String(300), nullable=False),
        Column("address", String(2048), nullable=False),
        Column("content_type", String(1024), nullable=False),
        Column("length", BigInteger, nullable=False),
        Column("state", String(10), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("due", BigInteger, nullable=False),
        Column("until", BigInteger, nullable=False),
        Column("ended", BigInteger, nullable=False),
        Column("error", String(300), nullable=False),
    )
    Index("delivery_due", delivery.c.state, delivery.c.origin, delivery.c.due)
    Index("delivery_subject", delivery.c.subject)
    part = Table(
        "delivery_part", of,
        Column("delivery_id", BigInteger, primary_key=True, autoincrement=False),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("data", LargeBinary, nullable=False),
    )
    return delivery, part
