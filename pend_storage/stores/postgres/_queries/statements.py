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
from pend_storage.stores.postgres._connection.own_names import (
    EQ,
    GE,
    GT,
    LE,
    LT,
    MEMBER_TEXT,
    OWN,
)
from pend_storage.stores.postgres._functions.definitions import (
    EXCLUSIVE_LOCK_TIMEOUT,
    put_function,
)
from pend_storage.stores.postgres._functions.sequence_numbers import (
    HEAD_TEXT,
    PRUNED,
    PRUNED_META,
)
from pend_storage.stores.postgres._queries.rows import CHANGE_COLUMNS, MICROSECONDS
from pend_storage.stores.postgres._schema.record_json import record_json
from pend_storage.stores.postgres._schema.tables import (
    STORE_LOCK,
    key_column,
    own_table,
    quoted,
)

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
    "LOCK_NAME",
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

GUARD: Final = Statement.make(f"select {OWN}pend_guard($1::bigint)")
HORIZON: Final = Statement.make(f"select {OWN}pend_horizon()")
RENUMBER: Final = Statement.make(f"select {OWN}pend_renumber()")
"""Raise the offset so that the next number is the highest; else change nothing."""
HEAD: Final = Statement.make(HEAD_TEXT)
CHANGES: Final = Statement.make(
    f"select {CHANGE_COLUMNS} from {OWN}pend_changes("
    "$1::bigint, $2::bigint, $3::bigint, $4::bigint) "
    'as c (sequence, epoch, at, records, token, "by", reason)'
)
FIND: Final = Statement.make(
    f"select {CHANGE_COLUMNS} from {OWN}changes as c where c.token {EQ} $1::uuid"
)
MOST_COUNTED: Final = 100_000
"""Maximum number of change log entries that one statement counts."""
PENDING: Final = Statement.make(
    f"select (select pg_catalog.count(*) from {OWN}changes as c "
    f"where c.sequence {GT} $2::bigint and c.sequence {LE} $1::bigint), "
    f"s.count, s.final, s.last, l.at, o.at, ({PRUNED}), "
    f"exists (select from {OWN}changes as c where c.sequence {EQ} $3::bigint "
    f"and {MICROSECONDS} {EQ} $4::bigint) "
    "from (select pg_catalog.count(*) as count, "
    f"pg_catalog.count(*) filter (where c.sequence {LE} h.head) as final, "
    f"pg_catalog.max(c.sequence) filter (where c.sequence {LE} h.head) as last "
    f"from (select ({HEAD_TEXT}) as head) as h cross join lateral (select c.sequence "
    f"from {OWN}changes as c where c.sequence {GT} $3::bigint "
    f"order by c.sequence limit {MOST_COUNTED}::bigint) as c) as s "
    f"left join lateral (select {MICROSECONDS} as at from {OWN}changes as c "
    f"where c.sequence {EQ} s.last) as l on true "
    f"left join lateral (select {MICROSECONDS} as at from {OWN}changes as c "
    f"where c.sequence {GT} $1::bigint order by c.sequence limit 1::bigint) as o on true"
)
"""Count of the entries after a number, on top of a known count; it calls no function of the
library, so that a role which may only read the tables can execute it."""
_NUMBER: Final = f"{MEMBER_TEXT} '{{}}'::text[])::bigint"
PRUNE: Final = Statement.make(
    f"with gone as (delete from {OWN}changes as c where c.sequence {LE} $1::bigint) "
    f"insert into {OWN}store_meta as m (name, value) "
    f"values ('{PRUNED_META}', pg_catalog.to_jsonb($1::bigint)) "
    "on conflict (name) do update set value = excluded.value "
    f"where (m.value {_NUMBER} {LT} (excluded.value {_NUMBER}"
)
LIMIT_LOCK_WAIT: Final = Statement.make(
    "select pg_catalog.set_config('lock_timeout'::text, "
    f"'{EXCLUSIVE_LOCK_TIMEOUT}'::text, true)"
)
"""Limit ``lock_timeout`` for the rest of a transaction that takes the store lock
exclusively.
"""
LOCK_STORE_EXCLUSIVE: Final = Statement(
    f"lock table {OWN}{STORE_LOCK} in exclusive mode".encode()
)
META: Final = Statement.make(
    f"select m.value from {OWN}store_meta as m where m.name {EQ} $1::text"
)
META_FOR_SHARE: Final = Statement.make(
    f"select m.value from {OWN}store_meta as m where m.name {EQ} $1::text for share"
)
META_INSERT: Final = Statement.make(
    f"insert into {OWN}store_meta (name, value) values ($1::text, $2::jsonb) "
    "on conflict (name) do nothing"
)
META_UPDATE: Final = Statement.make(
    f"update {OWN}store_meta as m set value = $2::jsonb "
    f"where m.name {EQ} $1::text and m.value {EQ} $3::jsonb"
)
META_DELETE: Final = Statement.make(
    f"delete from {OWN}store_meta as m "
    f"where m.name {EQ} $1::text and m.value {EQ} $2::jsonb"
)


def _call(function: str, *types: str) -> str:
    """Call of a function with exact types: no other function can fit it better."""
    values = ", ".join(f"${n}::{kind}" for n, kind in enumerate(types, 1))
    return f"select {OWN}{function}({values})"


COMMIT: Final = Statement.make(
    _call(
        "pend_commit",
        *("bigint", "bigint[]", "text[]", "text[]", "bigint[]"),
        *("bigint[]", "text[]", "text[]", "json[]", "bigint[]", "text[]"),
        *("uuid[]", "text[]", "text[]", "boolean", "text", "boolean"),
    ),
    (0, *[_BINARY] * 13, 0, 0, 0),
)
APPLY: Final = Statement.make(
    _call(
        "pend_apply",
        *("bigint", "text[]", "text[]", "bigint[]", "json[]", "bigint"),
        *("text", "jsonb", "jsonb", "boolean"),
    ),
    (0, *[_BINARY] * 4, 0, 0, 0, 0, 0),
)
APPLY_ENTER: Final = Statement.make(
    _call("pend_apply_enter", "bigint", "text", "jsonb")
)
LOCK_NAME: Final = Statement(
    _call("pend_lock_name", "bigint", "integer", "integer", "boolean").encode()
)


class CollectionStatements:
    """Statements on the table of one collection."""

    def __init__(self, spec: CollectionSpec, *, guards: bool = True) -> None:
        """Write the statements.

        Args:
            spec: of the collection.
            guards: compare an epoch that is given with the role, by a function of the
                library; False: for a role that may only read the tables.
        """
        self.spec = spec
        self.table = own_table(spec.name)
        self.key = f"t.{quoted(key_column(spec))}"
        self.select = f"select t.version, {record_json(spec, 't')}"
        self.source = f"from {self.table} as t"
        one = f"{self.select} {self.source} where {self.key} {EQ} $1::text"
        many = f"{self.select} {self.source} where {self.key} {EQ} any ($1::text[])"
        guard = f" and {OWN}pend_guard($2::bigint)"
        maybe_guard = " and $2::bigint is null"
        if guards:
            maybe_guard = f" and ($2::bigint is null or {OWN}pend_guard($2::bigint))"
        self.read_one = Statement.make(one)
        self.read_one_guarded = Statement.make(one + guard)
        self.read_many = Statement.make(many, (_BINARY,))
        self.read_many_guarded = Statement.make(many + guard, (_BINARY, 0))
        self.read_deleted = Statement.make(
            self._with_tombstones(f"{EQ} any ($1::text[])", maybe_guard), (_BINARY, 0)
        )
        self.page = Statement.make(
            f"{self.select}, {self.key} {self.source} where {self.key} {GT} $1::text"
            f"{maybe_guard} order by {self.key} limit $3::bigint"
        )
        self.page_deleted = Statement.make(
            "select * from ("
            + self._with_tombstones(f"{GT} $1::text", maybe_guard, paged=True)
            + ") as p (version, record, key) order by key limit $3::bigint"
        )
        self.put = Statement.make(
            _call(
                quoted(put_function(spec.name)),
                *("bigint", "text", "json", "bigint", "uuid", "text", "text"),
                *("boolean", "text", "boolean"),
            )
        )
        within = f"{GE} $1::text and {{key}} {LE} $2::text"
        self.is_range_empty = Statement.make(
            f"select not exists (select {self.source} where {self.key} "
            f"{within.format(key=self.key)}) and not exists (select from "
            f"{OWN}tombstones as d where d.collection {EQ} '{spec.name}'::text "
            f"and d.key {within.format(key='d.key')})"
        )

    def _with_tombstones(self, wanted: str, guard: str, *, paged: bool = False) -> str:
        """Rows and tombstones with these keys: version, record, key."""
        tail = " order by {key} limit $3::bigint" if paged else ""
        rows = (
            f"{self.select}, {self.key} {self.source} "
            f"where {self.key} {wanted}{guard}{tail.format(key=self.key)}"
        )
        graves = (
            f"select d.version, null::json, d.key from {OWN}tombstones as d "
            f"where d.collection {EQ} '{self.spec.name}'::text and d.key {wanted}{guard}"
            f"{tail.format(key='d.key')}"
        )
        return f"({rows}) union all ({graves})"
