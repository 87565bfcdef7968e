"""Sequence numbers: numbering of commits, and the horizon of the change log.

A number is made of the transaction's id (plus an offset), with room for many commits in
each: ``(offset + id) * NUMBERS_PER_TRANSACTION + n``. A transaction gets its id after
its locks, so numbers and versions grow along each key; and the server itself knows
which ids are still open, so no reader of the change log can overtake a commit.

Transaction ids belong to a server, the numbers to a database. One that is restored,
replicated or moved to another server may hold numbers that the ids there have not
reached. So each commit compares its number with the end of the log where the number is
assigned, and answers ``renumber`` instead of writing below it; ``pend_renumber`` raises
the offset.
"""

from __future__ import annotations

from typing import Final

from pend_storage._model.meta_names import NUMBERS_PER_TRANSACTION, OFFSET_META
from pend_storage.schema import Schema
from pend_storage.stores.postgres._connection.own_names import (
    EQ,
    GE,
    MEMBER_TEXT,
    OWN,
    SEARCH_PATH,
    TIMES,
)
from pend_storage.stores.postgres._schema.tables import STORE_LOCK, own_table

__all__ = [
    "HEAD_TEXT",
    "LOG_END",
    "NUMBERS_PER_TRANSACTION",
    "OFFSET",
    "OFFSET_META",
    "PINNED",
    "PRUNED",
    "PRUNED_META",
    "RAISE_OFFSET",
    "SEQUENCE",
    "horizon",
    "renumber",
]

PINNED: Final = f"set search_path = {SEARCH_PATH}"
"""Setting of every function: names in its text have no other meaning than here."""
PRUNED_META: Final = "postgres.pruned"
"""Meta entry with the sequence up to which the log is pruned; absent: 0."""
_LOCK_TIMEOUT: Final = "500ms"
"""How long ``pend_renumber`` may hold up commits while it waits for those under way."""

OFFSET: Final = (
    f"(select (m$.value {MEMBER_TEXT} '{{}}'::text[])::bigint from {OWN}store_meta as m$ "
    f"where m$.name {EQ} '{OFFSET_META}'::text)"
)
PRUNED: Final = (
    f"(select (m$.value {MEMBER_TEXT} '{{}}'::text[])::bigint from {OWN}store_meta as m$ "
    f"where m$.name {EQ} '{PRUNED_META}'::text)"
)
LOG_END: Final = (
    f"(select e$.sequence from {OWN}changes as e$ order by e$.sequence desc limit 1)"
)
"""SQL expression: highest number in the log. Entries left in a log lie above what was
pruned.
"""

SEQUENCE: Final = f"""
  _sequence$ := (coalesce(_offset$, 0) + pg_current_xact_id()::text::bigint) * {NUMBERS_PER_TRANSACTION};
  if _end$ is null then  -- apart, because it is rare
    _end$ := {PRUNED};
  end if;
  if _sequence$ <= _end$ then
    return 'renumber';
  end if;"""
"""SQL statements that assign the number of this transaction.

``_end$`` was read before the transaction had an id, so no concurrent commit can have
got a higher number by then: below the end means that the ids of this server are behind.
"""

_SET_OFFSET: Final = f"""
    insert into {OWN}store_meta as m$ (name, value)
    values ('{OFFSET_META}', to_jsonb({{offset}}))
    on conflict (name) do update set value = excluded.value
      where (m$.value #>> '{{{{}}}}')::bigint < (excluded.value #>> '{{{{}}}}')::bigint;"""

RAISE_OFFSET: Final = f"""
  if _top$ >= (coalesce(_offset$, 0)
               + pg_snapshot_xmin(pg_current_snapshot())::text::bigint) * {NUMBERS_PER_TRANSACTION}
     and _top$ >= (coalesce(_offset$, 0) + pg_current_xact_id()::text::bigint + 1) * {NUMBERS_PER_TRANSACTION}
  then{_SET_OFFSET.format(offset=f"_top$ / {NUMBERS_PER_TRANSACTION} - pg_current_xact_id()::text::bigint")}
  end if;"""
"""SQL statements that raise a follower's offset above the versions it applies.

Later commits of its own must lie above them. The ids of later transactions are higher
than that of this one.
"""

_PLUS: Final = "operator(pg_catalog.+)"
_MINUS: Final = "operator(pg_catalog.-)"
_XMIN: Final = (
    "pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint"
)
_XMAX: Final = (
    "pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint"
)

HEAD_TEXT: Final = f"""
select greatest(
    (s$.low$ {_PLUS} s$.offset$) {TIMES} {NUMBERS_PER_TRANSACTION}::bigint {_MINUS} 1::bigint,
    case when s$.end$ {GE} ((s$.high$ {_PLUS} s$.offset$)
                            {TIMES} {NUMBERS_PER_TRANSACTION}::bigint) then s$.end$ end)
  from (select {_XMIN} as low$, {_XMAX} as high$, coalesce({OFFSET}, 0::bigint) as offset$,
               coalesce({LOG_END}, {PRUNED}) as end$) as s$"""
"""SQL query of the log's head: a number below every later commit.

Commits under way lie above the oldest open transaction. Where the log ends above the
ids of this server, the next commit is numbered above the log's end.
"""


def horizon() -> str:
    """Function that returns the highest number below which the log is complete.

    No entry can appear below the oldest open transaction of the whole server. Where
    another program's long transaction holds that back, only commits under way count:
    sessions that hold the store lock and have an id. They are read from the server's
    own views, after the next id was noted: a session that is not listed has ended, or
    will get a higher id. Nothing is locked, so no session is ever held up by it.

    A store that is not primary has no commit under way: the change of role waited for
    it.
    """
    return f"""
create or replace function {OWN}pend_horizon()
returns bigint language plpgsql {PINNED} as $pend$
declare _offset$ bigint; _role$ text; _low$ bigint; _high$ bigint; _end$ bigint;
        _safe$ bigint; _oldest$ bigint;
begin
  select coalesce({OFFSET}, 0),
         (select m$.value ->> 'role' from {OWN}store_meta as m$ where m$.name = 'role'),
         {_XMIN}, {_XMAX}, (select max(c$.sequence) from {OWN}changes as c$)
    into _offset$, _role$, _low$, _high$, _end$;
  _safe$ := (_offset$ + _low$) * {NUMBERS_PER_TRANSACTION} - 1;
  if _end$ is null or _end$ <= _safe$ then
    return _safe$;
  end if;
  if _role$ <> 'primary' then
    return _end$;
  end if;
  -- Of open ids there are 32 bits; none is 2^31 away from the next one.
  select min(_high$ + ((a$.backend_xid::text::bigint - _high$ + 2147483648)
                       & 4294967295) - 2147483648)
    into _oldest$
    from pg_locks as l$ join pg_stat_activity as a$ on a$.pid = l$.pid
   where l$.locktype = 'relation' and l$.granted
     and l$.relation = '{OWN}{STORE_LOCK}'::regclass
     and l$.mode in ('RowShareLock', 'ExclusiveLock')
     and l$.database = (select b$.oid from pg_database as b$
                         where b$.datname = current_database())
     and a$.backend_xid is not null;
  if _oldest$ is null and _end$ >= (_offset$ + _high$) * {NUMBERS_PER_TRANSACTION} then
    return _end$;  -- numbers of another server: later commits are put above them
  end if;
  return (_offset$ + least(_high$, _oldest$)) * {NUMBERS_PER_TRANSACTION} - 1;
end $pend$"""


def renumber(schema: Schema) -> str:
    """Function that raises the offset where the next number would repeat an old one.

    Reads the log, what was pruned, the versions of all rows and tombstones and the
    positions in ``store_meta``. The rows are read before commits are held up; what is
    written meanwhile is covered by two transactions' worth of numbers.
    """
    tables = [f"{OWN}tombstones", *(own_table(spec.name) for spec in schema)]
    versions = ",\n".join(
        f"    (select max(t$.version) from {table} as t$)" for table in tables
    )
    ends = f"""(select max(c$.sequence) from {OWN}changes as c$),
      {PRUNED}"""
    return f"""
create or replace function {OWN}pend_renumber()
returns bigint language plpgsql {PINNED} set lock_timeout = '{_LOCK_TIMEOUT}' as $pend$
declare _top$ bigint; _next$ bigint; _offset$ bigint;
begin
  select greatest(0,
{versions},
    (select max((m$.value ->> n$.n$)::numeric)::bigint
       from {OWN}store_meta as m$, unnest(array['after', 'base', 'head']) as n$ (n$)
      where jsonb_typeof(m$.value) = 'object'
        and jsonb_typeof(m$.value -> n$.n$) = 'number'
        and (m$.value ->> n$.n$)::numeric < 4611686018427387904),
      {ends})
    into _top$;
  select coalesce({OFFSET}, 0), {_XMAX} into _offset$, _next$;
  if _top$ < (_offset$ + _next$) * {NUMBERS_PER_TRANSACTION} then
    return _offset$;
  end if;
  lock table {OWN}{STORE_LOCK} in exclusive mode;
  _top$ := greatest(_top$ + 2 * {NUMBERS_PER_TRANSACTION}, {ends});
  select coalesce({OFFSET}, 0), {_XMAX} into _offset$, _next$;
  if _top$ >= (_offset$ + _next$) * {NUMBERS_PER_TRANSACTION} then
    _offset$ := _top$ / {NUMBERS_PER_TRANSACTION} - _next$ + 1;{_SET_OFFSET.format(offset="_offset$")}
  end if;
  return _offset$;
end $pend$"""
