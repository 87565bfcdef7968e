"""Passive PostgreSQL store: looks at a database, and cannot change it.

Every transaction is a read-only one, so the server itself refuses a write. No function of
the library is called and no lock is requested: a role that may only read the tables is
enough. Beside that, what is asked often is asked in one statement for all.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from psycopg.pq.abc import PGresult
from typing_extensions import override

from pend_storage._fork import on_fork
from pend_storage._model.records import JSON
from pend_storage.codec import load_json
from pend_storage.errors import ChangesExpired, ConfigError
from pend_storage.stores._read_only import ReadOnlyStore
from pend_storage.stores.postgres._change_log import ChangeLog
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._connection.own_names import EQ, GT, LE, OWN
from pend_storage.stores.postgres._functions.sequence_numbers import (
    HEAD_TEXT,
    LOG_END,
    PRUNED,
)
from pend_storage.stores.postgres._queries.rows import CHANGE_COLUMNS
from pend_storage.stores.postgres._schema.tables import own_table
from pend_storage.stores.postgres._store import PostgresStore

__all__ = ["PassivePostgresStore"]

_PAGE: Final = 200
"""Entries of the change log in memory at a time; one more would be the end of a page."""
_CORE: Final = ("store_meta", "changes", "tombstones")
"""Tables beside those of the collections that a reader needs."""
_ALL_META: Final = Statement.make(f"select m.name, m.value from {OWN}store_meta as m")
_ROLE: Final = (
    f"(select m.value operator(pg_catalog.->>) 'role'::text from {OWN}store_meta as m "
    f"where m.name {EQ} 'role'::text)"
)
_HORIZON: Final = Statement.make(
    f"select case when {_ROLE} operator(pg_catalog.<>) 'primary'::text "
    f"then greatest(h.head, {LOG_END}) else h.head end "
    f"from (select ({HEAD_TEXT}) as head) as h"
)
"""The number up to which the log is complete, as far as that is seen without a function:
a transaction that stays open, of any program, holds it back."""
_CHANGES: Final = Statement.make(
    f"select {CHANGE_COLUMNS} from {OWN}changes as c "
    f"where c.sequence {GT} $1::bigint and c.sequence {LE} $2::bigint "
    f"order by c.sequence limit {_PAGE}::bigint"
)
_PRUNED: Final = Statement.make(f"select {PRUNED}")


class _ReadOnlyChangeLog(ChangeLog):
    """Change log, read from its table."""

    @override
    def _horizon(self) -> bytes | None:
        return self._client.fetch(_HORIZON).get_value(0, 0)

    @override
    def _page(self, after: int, horizon: bytes | None) -> PGresult:
        result = self._client.fetch(_CHANGES, (b"%d" % after, horizon))
        # Read after the page: what was pruned meanwhile may be missing from it.
        pruned = self._client.fetch(_PRUNED).get_value(0, 0)
        if pruned is not None and after < int(pruned):
            name = self._client.name
            raise ChangesExpired(store=name, after=after, oldest=int(pruned))
        return result


class PassivePostgresStore(ReadOnlyStore, PostgresStore):
    """Look at a database as :class:`PostgresStore` does, and change nothing in it.

    Named values and the incarnation are read together, and kept until :meth:`refresh`: what
    a reader compares is of one instant, and a look costs one statement for all of them.
    """

    _is_read_only: ClassVar[bool] = True

    def __init__(self, *args: Any, **options: Any) -> None:
        """Configure the store; arguments and errors as for :class:`PostgresStore`."""
        super().__init__(*args, **options)
        self._forget()
        on_fork(self._forget)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    def _forget(self) -> None:
        self._reading = threading.Lock()
        self._values: Mapping[str, bytes] | None = None
        self._incarnation: str | None = None

    @override
    def _assemble(self, pool_size: int) -> None:
        super()._assemble(pool_size)
        self._change_log = _ReadOnlyChangeLog(self.schema, self._client, self._hook)

    def refresh(self) -> None:
        """Forget what was read: the next values are those of then."""
        with self._reading:
            self._values = self._incarnation = None

    def require_readable(self) -> None:
        """Connect, and require that every table may be read.

        Raises:
            ConfigError: the user lacks a privilege.
            SchemaOutOfDate: the database must be migrated first.
            StoreUnavailable: it cannot be reached.
        """
        places = {name: f"{OWN}{name}" for name in _CORE}
        places |= {spec.name: own_table(spec.name) for spec in self.schema}
        values = ", ".join(
            f"('{name}'::text, '{place}'::text)" for name, place in places.items()
        )
        found = self._client.fetch(
            Statement(
                "select pg_catalog.string_agg(t.name, ', '::text) "
                f"from (values {values}) as t (name, place) where not "
                "pg_catalog.has_table_privilege(t.place, 'select'::text)".encode()
            )
        ).get_value(0, 0)
        if found is not None:
            raise ConfigError(
                f"{self.name}: this user may not read the tables {found.decode()}, so the "
                "store cannot be looked at. Grant SELECT on them; the role `reader` of `pend-storage db "
                "grants` has all that looking needs."
            )

    @override
    def meta(self, name: str) -> JSON:
        with self._reading:
            values = self._values
            if values is None:
                result = self._client.fetch(_ALL_META)
                values = self._values = {
                    (result.get_value(row, 0) or b"").decode(): (
                        result.get_value(row, 1) or b"null"
                    )
                    for row in range(result.ntuples)
                }
        found = values.get(name)
        return None if found is None else load_json(found)

    @override
    def incarnation(self) -> str:
        with self._reading:
            if self._incarnation is None:
                self._incarnation = super().incarnation()
            return self._incarnation
