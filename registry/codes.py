"""The dictionary of coded values: (code, scheme) <-> small integer, insert-only, remembered by each process."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from sqlalchemy import Connection, and_, or_, select
from sqlalchemy.exc import IntegrityError

from journal.database import Database
from registry.tables import code as table

#: Scheme of values that are names in themselves (status, association and object types).
NAMES = ""

Key = tuple[str, str]
_AT_ONCE = 400  # SQLite takes no expression deeper than 1000


class CodeBook:
    """Codes of one database. Ids are made before the transaction that uses them, so a rollback cannot unmake one."""

    def __init__(self, database: Database) -> None:
        """Read what is there; what comes later is read when first met."""
        self._database = database
        self._lock = threading.Lock()
        self._ids: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}
        with database.read() as connection:
            self._remember(connection.execute(select(table)).all())

    def ensure(self, keys: Iterable[Key]) -> None:
        """Make sure that each (code, scheme) has an id; one short write when something is new."""
        missing = {key for key in keys if key not in self._ids}
        if not missing:
            return
        try:
            with self._database.write() as connection:
                self._read(connection, missing)
                new = [{"code": code, "scheme": scheme} for code, scheme in missing if (code, scheme) not in self._ids]
                if new:
                    connection.execute(table.insert(), new)
        except IntegrityError:
            pass  # another process was first with one of them; all are read below, what is still missing comes next
        with self._database.read() as connection:
            self._read(connection, missing)
        self.ensure(missing)

    def id_of(self, code: str, scheme: str = NAMES) -> int:
        """Id of a code that `ensure` or `find` has met."""
        return self._ids[(code, scheme)]

    def find(self, connection: Connection, keys: Iterable[Key]) -> list[int]:
        """Ids of those codes that exist; the others can match nothing."""
        wanted = list(keys)
        self._read(connection, {key for key in wanted if key not in self._ids})
        return [self._ids[key] for key in wanted if key in self._ids]

    def text_of(self, connection: Connection, identity: int) -> str:
        """Code of an id."""
        if identity not in self._keys:
            self._remember(connection.execute(select(table).where(table.c.id == identity)).all())
        return self._keys[identity][0]

    def _read(self, connection: Connection, keys: set[Key]) -> None:
        wanted = list(keys)
        for start in range(0, len(wanted), _AT_ONCE):
            matches = [and_(table.c.code == code, table.c.scheme == scheme)
                       for code, scheme in wanted[start:start + _AT_ONCE]]
            self._remember(connection.execute(select(table).where(or_(*matches))).all())

    def _remember(self, rows: Iterable[tuple[int, str, str]]) -> None:
        with self._lock:
            for identity, code, scheme in rows:
                self._ids[(code, scheme)] = identity
                self._keys[identity] = (code, scheme)
