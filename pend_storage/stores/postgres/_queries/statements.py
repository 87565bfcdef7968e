"""Fixed statements, written once and prepared once on each connection.

They are plain SQL over the declared tables: with records built by the server, guards
and arrays in it, an expression language would only hide what the database executes.
Filters and orders of queries are in
:mod:`~pend_storage.stores.postgres._queries.conditions`; writes are functions of the
database (:mod:`~pend_storage.stores.postgres._functions.definitions`).
"""

from __future__ import annotations

from typing import Final

from pend_storage.schema import CollectionSpec
from pend_storage.stores.postgres._connection.connection import Statement
from pend_storage.stores.postgres._functions.definitions import (
    EXCLUSIVE_LOCK_TIMEOUT,
    put_function,
)
from pend_storage.stores.postgres._functions.sequence_numbers import (
    HEAD_TEXT,
    PRUNED,
    PRUNED_META,
    STORE_LOCK,
)
from pend_storage.stores.postgres._queries.rows import CHANGE_COLUMNS
from pend_storage.stores.postgres._schema.record_json import record_json
from pend_storage.stores.postgres._schema.tables import key_column, quoted, table_name

__all__ = [
    "APPLY",
    "APPLY_ENTER",
    "CHANGES",
    "COMMIT",
    "FIND",
    "GUARD",
    "HEAD",
    "HORIZON",
    "LIMIT_LOCK_WAIT",
    "LOCK_STORE_EXCLUSIVE",
    "META",
    "META_DELETE",
    "META_FOR_SHARE",
    "META_INSERT",
    "META_UPDATE",
    "MOST_COUNTED",
    "PENDING",
    "PRUNE",
    "RENUMBER",
    "CollectionStatements",
]

_BINARY: Final = 1

GUARD: Final = Statement.make("select pend_guard($1::bigint)")
HORIZON: Final = Statement.make("select pend_horizon()")
RENUMBER: Final = Statement.make("select pend_renumber()")
"""Raise the offset so that the next number is the highest; else change nothing."""
HEAD: Final = Statement.make(HEAD_TEXT)
CHANGES: Final = Statement.make(
    f"select {CHANGE_COLUMNS} from pend_changes($1, $2, $3, $4) "
    'as c (sequence, epoch, at, records, token, "by", reason)'
)
FIND: Final = Statement.make(
    f"select {CHANGE_COLUMNS} from changes as c where c.token = $1::uuid"
)
MOST_COUNTED: Final = 100_000
"""Maximum number of change log entries that one statement counts."""
PENDING: Final = Statement.make(
    f"select (select count(*) from changes as c where c.sequence > $2::bigint "
    "and c.sequence <= $1::bigint), s.count, s.final, s.last, l.at, o.at, "
    f"({PRUNED}), exists (select from changes as c where c.sequence = $3::bigint "
    "and (extract(epoch from c.at) * 1000000)::bigint = $4::bigint) "
    "from (select count(*) as count, count(*) filter (where c.sequence <= h.head) as "
    "final, max(c.sequence) filter (where c.sequence <= h.head) as last "
    f"from (select ({HEAD_TEXT}) as head) as h cross join lateral (select c.sequence "
    f"from changes as c where c.sequence > $3 order by c.sequence limit {MOST_COUNTED}"
    ") as c) as s "
    "left join lateral (select (extract(epoch from c.at) * 1000000)::bigint as at "
    "from changes as c where c.sequence = s.last) as l on true "
    "left join lateral (select (extract(epoch from c.at) * 1000000)::bigint as at "
    "from changes as c where c.sequence > $1 order by c.sequence limit 1) as o on true "
    "where pend_kept($1)"
)
"""Count of the entries after a number, on top of a known count."""
PRUNE: Final = Statement.make(
    "with gone as (delete from changes where sequence <= $1::bigint) "
    f"insert into store_meta as m (name, value) values ('{PRUNED_META}', to_jsonb($1)) "
    "on conflict (name) do update set value = excluded.value "
    "where (m.value #>> '{}')::bigint < (excluded.value #>> '{}')::bigint"
)
LIMIT_LOCK_WAIT: Final = Statement.make(
    f"select set_config('lock_timeout', '{EXCLUSIVE_LOCK_TIMEOUT}', true)"
)
"""Limit ``lock_timeout`` for the rest of a transaction that takes the store lock
exclusively.
"""
LOCK_STORE_EXCLUSIVE: Final = Statement.make(
    f"select pg_advisory_xact_lock({STORE_LOCK})"
)
META: Final = Statement.make("select value from store_meta where name = $1")
META_FOR_SHARE: Final = Statement.make(
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
    f"select pend_commit({', '.join(f'${n}' for n in range(1, 17))})",
    (0, *[_BINARY] * 13, 0, 0),
)
APPLY: Final = Statement.make(
    "select pend_apply($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9::jsonb)",
    (0, *[_BINARY] * 4, 0, 0, 0, 0),
)
APPLY_ENTER: Final = Statement.make("select pend_apply_enter($1, $2, $3::jsonb)")


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
            self._with_tombstones("= any($1::text[])", maybe_guard), (_BINARY, 0)
        )
        self.page = Statement.make(
            f"{self.select}, {self.key} {self.source} where {self.key} > $1"
            f"{maybe_guard} order by {self.key} limit $3::bigint"
        )
        self.page_deleted = Statement.make(
            "select * from ("
            + self._with_tombstones("> $1", maybe_guard, paged=True)
            + ") as p (version, record, key) order by key limit $3::bigint"
        )
        self.put = Statement.make(
            f"select {quoted(put_function(spec.name))}"
            "($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        )
        self.is_range_empty = Statement.make(
            f"select not exists (select {self.source} where {self.key} >= $1 "
            f"and {self.key} <= $2) and not exists (select from tombstones "
            f"where collection = '{spec.name}' and key >= $1 and key <= $2)"
        )

    def _with_tombstones(self, wanted: str, guard: str, *, paged: bool = False) -> str:
        """Rows and tombstones with these keys: version, record, key."""
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
