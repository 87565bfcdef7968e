"""What the database runs itself: one call, one round trip for each commit or apply.

The functions are written from the declaration of the tables, and put into the database by
``migrate()``. A plain SQL statement could not do their work: it looks at the database as
it was when the statement began, so it would not see what it waited for. Each statement
inside of a PL/pgSQL function takes a look of its own.

Locks, in this order (all end with the transaction, so they are safe behind a pooler):

1. *The store's lock.* Commits and applies share it; a change of role, and a commit of very
   many keys, hold it alone.
2. *A lock for each key*, shared by those who only check it. It is what makes absent keys
   part of the order: two transactions that each read what the other writes meet here, and
   the second one sees that it lost. Locks are taken in one order, so nobody waits in a
   circle.

Sequence numbers are transaction ids (plus an offset, see ``pend_horizon``) with room for
many commits in each: ``(offset + id) * COMMITS + n``. A transaction gets its id after its
locks, so versions grow along each key; and the server itself knows below which id nothing
is open any more, so no reader of the change log can overtake a commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores.postgres.tables import constraint_name, quoted
from pend_storage.stores.postgres.writes import (
    apply_block,
    check_block,
    delete_block,
    put_block,
    single_put,
)

__all__ = [
    "COMMITS",
    "MANY_KEYS",
    "OFFSET_META",
    "PRUNED_META",
    "STORE_LOCK",
    "definitions",
    "digest",
    "put_function",
]

STORE_LOCK: Final = 0x70656E64_73746F72
"""Number of the store's advisory lock: the ASCII of ``pendstor``."""
OFFSET_META: Final = "postgres.offset"
"""Name of the meta entry that is added to transaction ids; absent: 0."""
COMMITS: Final = 1024
"""Sequence numbers of one transaction: more than the most commits that are merged."""
PRUNED_META: Final = "postgres.pruned"
"""Name of the meta entry that tells up to where the change log is gone; absent: 0."""
MANY_KEYS: Final = 256
"""From so many keys on, a commit holds the store's lock alone instead of one lock for
each key: PostgreSQL has room for 64 times ``max_connections`` locks altogether."""

_ENTER: Final = f"""
  if {{alone}} then
    perform pg_advisory_xact_lock({STORE_LOCK});
  else
    perform pg_advisory_xact_lock_shared({STORE_LOCK});
  end if;
  select (select value from store_meta where name = 'role'),
         (select (value #>> '{{{{}}}}')::bigint from store_meta where name = '{OFFSET_META}')
    into _state, _offset;
  _role := coalesce(_state ->> 'role', 'primary');
  _at := coalesce((_state ->> 'epoch')::bigint, 0);
  if {{refused}} then
    return format('stale %s %s', _role, _at);
  end if;"""

_REFUSE_COMMIT: Final = "_role <> 'primary' or _epoch <> _at"
_REFUSE_APPLY: Final = (
    "(_role <> 'secondary' or _epoch <> _at) "
    "and not (_state is null and _epoch is null)"
)

_KEY_LOCKS: Final = """
  if not _many then
    perform case when alone then pg_advisory_xact_lock(h)
                 else pg_advisory_xact_lock_shared(h) end
      from (select hashtextextended(c || chr(1) || k, 0) as h, bool_or(w) as alone
              from unnest({places}) as u (c, k, w)
             group by 1 order by 1) as z;
  end if;"""

_SEQUENCE: Final = f"""
  _sequence := (coalesce(_offset, 0) + pg_current_xact_id()::text::bigint) * {COMMITS};"""

_LEAVE_OUT: Final = """
    if cardinality(_failed) > 0 then
      select array_agg(z.a), string_agg(' ' || z.n || ':' || z.v, '') into _out, _conflicts
        from (select distinct on (_check_a[u.n]) _check_a[u.n] as a, u.n, u.v
                from unnest(_failed, _actual) as u (n, v) order by 1, 2) as z;
      select coalesce(array_agg(case when u.a <> all(_out) then u.later end order by n),
                      '{}') into _later
        from unnest(_a, _later) with ordinality as u (a, later, n);
    end if;"""
"""Tell the first failed check of each batch, and take its operations out."""

_REPLACED: Final = """
  if _most > 0 then
    for _n, _v in
      select u.n, _versions[w.n] - u.later
        from unnest(_c, _k, _later) with ordinality as u (c, k, later, n)
        join unnest(_c, _k, _later) with ordinality as w (c, k, later, n)
          on w.c = u.c and w.k = u.k and w.later = 0
       where u.later > 0
    loop
      _versions[_n] := _v;
    end loop;
  end if;"""
"""Versions of what was replaced at once: they end just below that of the last put."""

_ENTER_ALL: Final = """
  insert into changes (sequence, epoch, at, records)
  select _sequence + u.a, _at, clock_timestamp(),
         json_agg(json_build_array(u.c, u.k, u.v, u.b) order by u.n)
    from unnest(_a, _c, _k, _versions, _b) with ordinality as u (a, c, k, v, b, n)
   where u.v > 0
   group by u.a;"""
"""An entry in the change log for each batch that wrote something."""

_VARIABLES: Final = """
  _state jsonb; _role text; _at bigint; _offset bigint; _sequence bigint;"""


def _enter(refused: str, alone: str) -> str:
    return _ENTER.format(refused=refused, alone=alone)


def put_function(collection: str) -> str:
    """Name of the function that puts one record of a collection."""
    return constraint_name("pend_put", collection)


def definitions(schema: Schema) -> Iterator[str]:
    """The statements that create or replace every function."""
    yield _guard()
    yield _kept()
    yield _horizon()
    for spec in schema:
        yield _put(spec)
    yield _commit(schema)
    yield _apply(schema)
    yield _apply_enter()


def digest(schema: Schema) -> str:
    """Changes with any function; 16 hex digits."""
    text = "\n".join(definitions(schema))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _guard() -> str:
    """True where the store is primary at an epoch; an error where it is not.

    Stable, so that it looks at the same instant as the statement that asks; with no column
    in it, so that the planner asks once, before anything else.
    """
    return """
create or replace function pend_guard(_epoch bigint)
returns boolean language plpgsql stable as $pend$
declare _state jsonb; _role text; _at bigint;
begin
  select value into _state from store_meta where name = 'role';
  _role := coalesce(_state ->> 'role', 'primary');
  _at := coalesce((_state ->> 'epoch')::bigint, 0);
  if _role <> 'primary' or _epoch <> _at then
    raise exception using errcode = 'PEND1', message = format('stale %s %s', _role, _at);
  end if;
  return true;
end $pend$"""


def _kept() -> str:
    """True where the change log still has everything after a number; else an error."""
    return f"""
create or replace function pend_kept(_after bigint)
returns boolean language plpgsql stable as $pend$
declare _oldest bigint;
begin
  select (value #>> '{{}}')::bigint into _oldest
    from store_meta where name = '{PRUNED_META}';
  if _after < _oldest then
    raise exception using errcode = 'PEND2', message = format('expired %s %s', _after, _oldest);
  end if;
  return true;
end $pend$"""


def _horizon() -> str:
    """The highest sequence number below which nothing can appear any more.

    Below the oldest open transaction of the whole server, nothing can. Where somebody
    else's long transaction holds that back, the store's lock tells as well: whoever has it
    alone knows that no commit is under way. It is taken at once if it is free, and waited
    for only where the end must be known (a fenced store) or was hidden for a second.

    A database that was dumped and restored elsewhere may hold sequence numbers that this
    server's transaction ids have not reached; the offset is then raised above them.
    """
    return f"""
create or replace function pend_horizon()
returns bigint language plpgsql as $pend$
declare _last bigint; _since timestamptz; _safe bigint; _next bigint; _offset bigint;
        _primary boolean;
begin
  select coalesce((value #>> '{{}}')::bigint, 0) into _offset
    from store_meta where name = '{OFFSET_META}';
  _offset := coalesce(_offset, 0);
  _safe := (_offset + pg_snapshot_xmin(pg_current_snapshot())::text::bigint)
    * {COMMITS} - 1;
  select at into _since from changes where sequence > _safe order by sequence limit 1;
  if not found then
    return _safe;
  end if;
  if not pg_try_advisory_xact_lock({STORE_LOCK}) then
    select coalesce(value ->> 'role', 'primary') = 'primary' into _primary
      from store_meta where name = 'role';
    if coalesce(_primary, true) and _since > clock_timestamp() - interval '1 s' then
      return _safe;
    end if;
    perform pg_advisory_xact_lock({STORE_LOCK});
  end if;
  select max(sequence) into _last from changes;
  _next := _offset + pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
  if _last >= _next * {COMMITS} then
    insert into store_meta (name, value)
    values ('{OFFSET_META}', to_jsonb(_last / {COMMITS} - (_next - _offset) + 1))
    on conflict (name) do update set value = excluded.value;
  end if;
  return _last;
end $pend$"""


def _put(spec: CollectionSpec) -> str:
    """One record, which most commits are: in as few steps as there can be.

    The locks are taken by an expression, which costs less than a statement. What follows
    is a statement of its own, so it looks at the database after the locks.
    """
    return f"""
create or replace function {quoted(put_function(spec.name))}(
  _epoch bigint, _key text, _body json, _expected bigint
) returns text language plpgsql as $pend$
declare _held boolean; _state jsonb; _at bigint; _offset bigint; _sequence bigint;
        _grave bigint; _version bigint;
begin
  _held := pg_advisory_xact_lock_shared({STORE_LOCK}) is not null
    and pg_advisory_xact_lock(
      hashtextextended('{spec.name}' || chr(1) || _key, 0)) is not null;
  select (select value from store_meta where name = 'role'),
         (select (value #>> '{{}}')::bigint from store_meta where name = '{OFFSET_META}'),
         (select version from tombstones
           where collection = '{spec.name}' and key = _key)
    into _state, _offset, _grave;
  _at := coalesce((_state ->> 'epoch')::bigint, 0);
  if coalesce(_state ->> 'role', 'primary') <> 'primary' or _epoch <> _at then
    return format('stale %s %s', coalesce(_state ->> 'role', 'primary'), _at);
  end if;
{single_put(spec, _SEQUENCE)}
  insert into changes (sequence, epoch, at, records)
  values (_sequence, _at, clock_timestamp(), json_build_array(
    json_build_array('{spec.name}', _key, _version, _body)));
  return _version::text;
end $pend$"""


def _commit(schema: Schema) -> str:
    """Batches that have nothing to do with each other: checks, then writes.

    Of each check and each operation it is told of which batch it is, by number. A batch
    whose checks do not hold is left out, and the others go on. ``_later`` tells how many
    batches put the same key again: what is replaced at once is not written to the table,
    but it gets a version and stays in the change log. Bodies are null for deletes, of
    which there are some in the collections ``_gone``; a check without a version only locks.

    Gives ``{versions}`` and then, for each batch left out, ``place:version`` of its first
    check that does not hold; or ``stale ...``. Raises ``PEND3`` where the batches turn out
    to have something to do with each other.
    """
    checks = "".join(check_block(spec) for spec in schema)
    # Deletes first: what they free may be used by the puts.
    deletes = "".join(delete_block(spec) for spec in schema)
    puts = "".join(put_block(spec) for spec in schema)
    places = "_c || _check_c, _k || _check_k, array_fill(true, array[cardinality(_k)])"
    places += " || array_fill(false, array[cardinality(_check_k)])"
    return f"""
create or replace function pend_commit(
  _epoch bigint,
  _check_a bigint[], _check_c text[], _check_k text[], _check_v bigint[],
  _a bigint[], _c text[], _k text[], _b json[], _later bigint[], _gone text[]
) returns text language plpgsql as $pend$
declare {_VARIABLES}
  _many boolean := cardinality(_k) + cardinality(_check_k) > {MANY_KEYS};
  _merged boolean := _a[1] < _a[cardinality(_a)];
  _versions bigint[] := array_fill(0::bigint, array[cardinality(_k)]);
  _failed bigint[] := '{{}}'; _actual bigint[] := '{{}}'; _conflicts text := '';
  _put jsonb; _out bigint[]; _most bigint := 0; _n bigint; _v bigint;
begin {_enter(_REFUSE_COMMIT, "_many")}{_KEY_LOCKS.format(places=places)}
  if cardinality(_check_k) > 0 then{checks}{_LEAVE_OUT}
  end if;
  if cardinality(array_remove(_later, null)) = 0 then
    return _versions::text || _conflicts;
  end if;
  if _merged then
    select max(u) into _most from unnest(_later) as u;
  end if;
{_SEQUENCE}
{deletes}{puts}{_REPLACED}{_ENTER_ALL}
  return _versions::text || _conflicts;
end $pend$"""


def _apply(schema: Schema) -> str:
    """Another store's changes: whatever is newer than what is here."""
    blocks = "".join(apply_block(spec) for spec in schema)
    places = "_c, _k, array_fill(true, array[cardinality(_k)])"
    return f"""
create or replace function pend_apply(
  _epoch bigint, _c text[], _k text[], _v bigint[], _b json[],
  _mark text, _mark_value jsonb
) returns text language plpgsql as $pend$
declare {_VARIABLES}
  _many boolean := cardinality(_k) > {MANY_KEYS};
  _written bigint := 0; _n bigint;
begin {_enter(_REFUSE_APPLY, "_many")}
{_KEY_LOCKS.format(places=places)}
  set constraints all deferred;
{blocks}
  if _mark is not null and _mark_value is null then
    delete from store_meta where name = _mark;
  elsif _mark is not null then
    insert into store_meta (name, value) values (_mark, _mark_value)
    on conflict (name) do update set value = excluded.value;
  end if;
  return _written::text;
end $pend$"""


def _apply_enter() -> str:
    """Begin an apply in several statements: the store's lock, alone, and the role."""
    return f"""
create or replace function pend_apply_enter(_epoch bigint)
returns text language plpgsql as $pend$
declare {_VARIABLES}
begin {_enter(_REFUSE_APPLY, "true")}
  set constraints all deferred;
  return '';
end $pend$"""
