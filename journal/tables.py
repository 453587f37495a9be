"""Tables of the journal (own file on SQLite) and of the outbox (in the registry's database, written with its data)."""

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


def outbox(of: MetaData) -> Table:
    """The outbox as a table of another room's database; consumers are at-least-once, idempotent by id."""
    return Table(
        "outbox", of,
        Column("patient_id", BigInteger, primary_key=True, autoincrement=False),
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("bucket", SmallInteger, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("kind", String(40), nullable=False),
        Column("payload", Text, nullable=False),
    )
