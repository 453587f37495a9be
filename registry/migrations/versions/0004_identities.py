"""Merged patients show the identifier that survived; names are kept as they are compared."""

import sqlalchemy as sa
from alembic import op

from registry.names import fold

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_AT_ONCE = 1000


def upgrade() -> None:
    """Add columns, fill the keys of names, index them."""
    keys = sa.String(400).with_variant(sa.String(400, collation="C"), "postgresql")
    op.add_column("patient", sa.Column("shown", sa.String(300), nullable=False, server_default=""))
    for name in ("family_key", "given_key"):
        op.add_column("patient", sa.Column(name, keys, nullable=False, server_default=""))
    _fill()
    op.create_index("patient_name", "patient", ["family_key", "birth_date"])
    op.create_index("patient_birth", "patient", ["birth_date"])


def downgrade() -> None:
    """Take them away again; merges stay, and show what was submitted."""
    for name in ("patient_birth", "patient_name"):
        op.drop_index(name, "patient")
    for name in ("given_key", "family_key", "shown"):
        op.drop_column("patient", name)


def _fill() -> None:
    table = sa.table("patient", sa.column("id"), sa.column("family"), sa.column("given"), sa.column("family_key"),
                     sa.column("given_key"))
    connection, last = op.get_bind(), -1
    while True:
        rows = connection.execute(sa.select(table.c.id, table.c.family, table.c.given).where(table.c.id > last)
                                  .order_by(table.c.id).limit(_AT_ONCE)).all()
        if not rows:
            return
        connection.execute(
            sa.update(table).where(table.c.id == sa.bindparam("of")).values(
                family_key=sa.bindparam("family"), given_key=sa.bindparam("given")),
            [{"of": row.id, "family": fold(row.family), "given": fold(row.given)} for row in rows])
        last = rows[-1].id
