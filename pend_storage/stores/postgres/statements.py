"""The statements of a store that never change, written once and prepared by each link.

They are plain SQL over the declared tables: with records built by the server, guards and
arrays in it, an expression language would only hide what the database is asked. Filters
and orders of queries are in :mod:`~pend_storage.stores.postgres.conditions`; what writes
is in :mod:`~pend_storage.stores.postgres.functions`.
"""

from __future__ import annotations

from typing import Final

from pend_storage.schema import CollectionSpec
from pend_storage.stores.postgres.functions import (
    COMMITS,
    OFFSET_META,
    PRUNED_META,
    STORE_LOCK,
    put_function,
)
from pend_storage.stores.postgres.link import Statement
from pend_storage.stores.postgres.rows import record_json
from pend_storage.stores.postgres.tables import key_column, quoted, table_name

__all__ = [
    "APPLY",
    "APPLY_ENTER",
    "CHANGES",
    "COMMIT",
    "GUARD",
    "HEAD",
    "HORIZON",
    "META",
    "META_DELETE",
    "META_HELD",
    "META_INSERT",
    "META_UPDATE",
    "PRUNE",
    "STORE_ALONE",
    "CollectionStatements",
]

_BINARY: Final = 1

GUARD: Final = Statement.make("select pend_guard($1::bigint)")
HORIZON: Final = Statement.make("select pend_horizon()")
HEAD: Final = Statement.make(
    "select (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + coalesce("
    "(select (value #>> '{}')::bigint from store_meta "
    f"where name = '{OFFSET_META}'), 0)) * {COMMITS} - 1"
)
CHANGES: Final = Statement.make(
    "select sequence, epoch, (extract(epoch from at) * 1000000)::bigint, records "
    "from changes where sequence > $1::bigint and sequence <= $2::bigint "
    "and pend_kept($1) order by sequence limit $3::bigint"
)
PRUNE: Final = Statement.make(
    "with gone as (delete from changes where sequence <= $1::bigint) "
    f"insert into store_meta as m (name, value) values ('{PRUNED_META}', to_jsonb($1)) "
    "on conflict (name) do update set value = excluded.value "
    "where (m.value #>> '{}')::bigint < (excluded.value #>> '{}')::bigint"
)
STORE_ALONE: Final = Statement.make(f"select pg_advisory_xact_lock({STORE_LOCK})")
META: Final = Statement.make("select value from store_meta where name = $1")
META_HELD: Final = Statement.make(
    "select value from store_meta where name = $1 for share"
)
META_INSERT: Final = Statement.make(
    "insert into store_meta (name, value) values ($1, $2::jsonb) "
    "on conflict (name) do nothing"
)
META_UPDATE: Final = Statement.make(
    "update store_meta set value = $2::jsonb where name = $1 and value = $3::jsonb"
)
META_DELETE: Final = Statement.make(
    "delete from store_meta where name = $1 and value = $2::jsonb"
)
COMMIT: Final = Statement.make(
    "select pend_commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    (0, *[_BINARY] * 10),
)
APPLY: Final = Statement.make(
    "select pend_apply($1, $2, $3, $4, $5, $6, $7::jsonb)", (0, *[_BINARY] * 4, 0, 0)
)
APPLY_ENTER: Final = Statement.make("select pend_apply_enter($1)")


class CollectionStatements:
    """Statements on the table of one collection."""

    def __init__(self, spec: CollectionSpec) -> None:
        self.spec = spec
        self.table = quoted(table_name(spec.name))
        self.key = f"t.{quoted(key_column(spec))}"
        self.select = f"select t.version, {record_json(spec, 't')}"
        self.source = f"from {self.table} as t"
        one = f"{self.select} {self.source} where {self.key} = $1"
        many = f"{self.select} {self.source} where {self.key} = any($1::text[])"
        guard = " and pend_guard($2::bigint)"
        maybe_guard = " and ($2::bigint is null or pend_guard($2))"
        self.read_one = Statement.make(one)
        self.read_one_guarded = Statement.make(one + guard)
        self.read_many = Statement.make(many, (_BINARY,))
        self.read_many_guarded = Statement.make(many + guard, (_BINARY, 0))
        self.read_deleted = Statement.make(
            self._with_graves("= any($1::text[])", maybe_guard), (_BINARY, 0)
        )
        self.page = Statement.make(
            f"{self.select}, {self.key} {self.source} where {self.key} > $1"
            f"{maybe_guard} order by {self.key} limit $3::bigint"
        )
        self.page_deleted = Statement.make(
            "select * from ("
            + self._with_graves("> $1", maybe_guard, paged=True)
            + ") as p (version, record, key) order by key limit $3::bigint"
        )
        self.put = Statement.make(
            f"select {quoted(put_function(spec.name))}($1, $2, $3, $4)"
        )
        self.is_free = Statement.make(
            f"select not exists (select {self.source} where {self.key} >= $1 "
            f"and {self.key} <= $2) and not exists (select from tombstones "
            f"where collection = '{spec.name}' and key >= $1 and key <= $2)"
        )

    def _with_graves(self, wanted: str, guard: str, *, paged: bool = False) -> str:
        """Rows and tombstones whose keys are wanted: version, record, key."""
        tail = " order by {key} limit $3::bigint" if paged else ""
        rows = (
            f"{self.select}, {self.key} {self.source} "
            f"where {self.key} {wanted}{guard}{tail.format(key=self.key)}"
        )
        graves = (
            "select d.version, null::json, d.key from tombstones as d "
            f"where d.collection = '{self.spec.name}' and d.key {wanted}{guard}"
            f"{tail.format(key='d.key')}"
        )
        return f"({rows}) union all ({graves})"
