"""Tables of the French record: its state, and who is authorised to it. The patient leads every key."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, MetaData, SmallInteger, String, Table

metadata = MetaData()

#: One DMP. A patient without a row has none. Times are milliseconds since 1970, UTC.
record = Table(
    "record", metadata,
    Column("patient_id", BigInteger, primary_key=True, autoincrement=False),
    Column("bucket", SmallInteger, nullable=False),
    Column("state", String(12), nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("opposition_bris_de_glace", Boolean, nullable=False),
    Column("opposition_centre_15", Boolean, nullable=False),
    Column("consent_masked_in_emergency", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

#: What a patient granted or forbade one professional (PS_IdNat): state VALIDE, EXPIRE or INTERDIT (TD0.2 value set).
authorisation = Table(
    "authorisation", metadata,
    Column("patient_id", BigInteger, primary_key=True, autoincrement=False),
    Column("professional", String(80), primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("state", String(12), nullable=False),
    Column("treating", Boolean, nullable=False),
    Column("until", BigInteger),
    Column("changed", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
