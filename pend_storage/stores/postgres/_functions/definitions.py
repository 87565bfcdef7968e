"""Function definitions: one call, one round trip for each commit or apply.

The functions are generated from the declaration of the tables, and installed by
``migrate()``. A plain SQL statement could not do their work: its snapshot is of the
time when the statement began, so it would not see what it waited for. Each statement
inside of a PL/pgSQL function takes a snapshot of its own.

Locks, in this order (all end with the transaction, so they are safe behind a pooler):

1. *A lock for each key*, shared where the key is only checked. It makes absent keys
   part of the order: two transactions that each read what the other writes meet here,
   and the second one finds its check failed. Locks are taken in one order, so there is
   no deadlock. A commit that is retried under its token waits here for the first
   attempt. Any role may take such a lock: see
   :mod:`~pend_storage.stores.postgres._functions.advisory_locks`.
2. *The store lock.* Commits and applies share it; a change of role, and a commit of
   very many keys, hold it exclusively, and take no lock of a key. An exclusive request
   waits for a short time only (:data:`EXCLUSIVE_LOCK_TIMEOUT`) and is retried later,
   because all other requests queue behind it. It is a lock on a table, which needs a
   grant.

Every variable and alias ends with a ``$``: see
:mod:`~pend_storage.stores.postgres._functions.row_writes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores.postgres._connection.own_names import OWN
from pend_storage.stores.postgres._functions import (
    advisory_locks,
    audit_guard,
    read_functions,
    sequence_numbers,
    unique_value_locks,
)
from pend_storage.stores.postgres._functions.advisory_locks import take
from pend_storage.stores.postgres._functions.row_writes import (
    apply_block,
    check_block,
    delete_block,
    has_all_members,
    put_block,
    single_put,
)
from pend_storage.stores.postgres._functions.sequence_numbers import (
    LOG_END,
    OFFSET,
    PINNED,
    RAISE_OFFSET,
    SEQUENCE,
)
from pend_storage.stores.postgres._schema.tables import (
    STORE_LOCK,
    constraint_name,
    quoted,
)

__all__ = [
    "EXCLUSIVE_LOCK_TIMEOUT",
    "MANY_KEYS",
    "definitions",
    "digest",
    "put_function",
]

MANY_KEYS: Final = 256
"""Keys of a commit above which it holds the store lock exclusively instead of one lock
for each key: PostgreSQL has room for 64 times ``max_connections`` locks altogether.
"""
EXCLUSIVE_LOCK_TIMEOUT: Final = "200ms"
"""``lock_timeout`` of a transaction that holds the store lock exclusively, or waits for
it: for so long a single locked row may stop the writers of all others.
"""

_SET_LOCK_TIMEOUT: Final = """
  if _patience$ is not null then
    perform set_config('lock_timeout', _patience$, true);
  end if;"""

_ENTER: Final = f"""
  if {{alone}} then
    perform set_config('lock_timeout', '{EXCLUSIVE_LOCK_TIMEOUT}', true);
    lock table {OWN}{STORE_LOCK} in exclusive mode;
  else
    lock table {OWN}{STORE_LOCK} in row share mode;
  end if;
  select (select m$.value from {OWN}store_meta as m$ where m$.name = 'role'),
         {OFFSET.replace("{}", "{{}}")}, {LOG_END.replace("{}", "{{}}")}
    into _state$, _offset$, _end$;
  _role$ := coalesce(_state$ ->> 'role', 'primary');
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if {{refused}} then
    return {{answer}};
  end if;"""

_REFUSE_COMMIT: Final = "_role$ <> 'primary' or _epoch$ <> _at$"
_REFUSE_APPLY: Final = (
    "(_role$ <> 'secondary' or _epoch$ <> _at$) "
    "and not (_state$ is null and _epoch$ is null)"
)
_STALE: Final = "format('stale %s %s', _role$, _at$)"

_KEY_LOCKS: Final = f"""
  if not _alone$ then
    select coalesce(bool_and({take("z$.h$", "not z$.alone$")}), true) into _held$
      from (select hashtextextended(u$.c$ || chr(1) || u$.k$, 0::bigint) as h$,
                   bool_or(u$.w$) as alone$
              from unnest({{places}}) as u$ (c$, k$, w$)
             group by 1 order by 1) as z$;
  end if;"""

_IF_STRANGER: Final = """
  if not _held$ then
    return 'alone';
  end if;"""
"""Answer where a stranger holds a lock: the call is repeated with ``_alone$``."""

_DONE: Final = f"""
  if _again$ or cardinality(_failed$) > 0 then
    _done$ := {OWN}pend_found(_tokens$);
    if _done$ is not null then
      return _done$;
    end if;
  end if;"""
"""Answer with the commits that are in the log: nothing is written, and the caller takes
them out of the call.
"""

_LEAVE_OUT: Final = """
  if cardinality(_failed$) > 0 then
    select array_agg(z$.a$), string_agg(' ' || z$.n$ || ':' || z$.v$, '')
      into _out$, _conflicts$
      from (select distinct on (_check_a$[u$.n$]) _check_a$[u$.n$] as a$, u$.n$, u$.v$
              from unnest(_failed$, _actual$) as u$ (n$, v$) order by 1, 2) as z$;
    select coalesce(
             array_agg(case when u$.a$ <> all(_out$) then u$.later$ end order by u$.n$),
             '{}') into _later$
      from unnest(_a$, _later$) with ordinality as u$ (a$, later$, n$);
  end if;"""
"""Report the first failed check of each batch, and exclude its operations."""

_REPLACED: Final = """
  if _most$ > 0 then
    for _n$, _v$ in
      select u$.n$, _versions$[w$.n$] - u$.later$
        from unnest(_c$, _k$, _later$) with ordinality as u$ (c$, k$, later$, n$)
        join unnest(_c$, _k$, _later$) with ordinality as w$ (c$, k$, later$, n$)
          on w$.c$ = u$.c$ and w$.k$ = u$.k$ and w$.later$ = 0
       where u$.later$ > 0
    loop
      _versions$[_n$] := _v$;
    end loop;
  end if;"""
"""Versions of puts that a later batch replaces: just below that of the last put."""

_ENTER_ALL: Final = f"""
  insert into {OWN}changes (sequence, epoch, at, records, token, "by", reason)
  select _sequence$ + u$.a$, _at$, clock_timestamp(),
         json_agg(json_build_array(u$.c$, u$.k$, u$.v$, u$.b$) order by u$.n$),
         _tokens$[u$.a$ + 1], _bys$[u$.a$ + 1], _reasons$[u$.a$ + 1]
    from unnest(_a$, _c$, _k$, _versions$, _b$)
      with ordinality as u$ (a$, c$, k$, v$, b$, n$)
   where u$.v$ > 0
   group by u$.a$;"""
"""Insert a change log entry for each batch that wrote something."""

_VARIABLES: Final = """
  _state$ jsonb; _role$ text; _at$ bigint; _offset$ bigint; _end$ bigint;"""


def _enter(refused: str, alone: str, answer: str = _STALE) -> str:
    return _ENTER.format(refused=refused, alone=alone, answer=answer)


def put_function(collection: str) -> str:
    """Name of the function that puts one record of a collection."""
    return constraint_name("pend_put", collection)


def definitions(schema: Schema) -> Iterator[str]:
    """Statements that create or replace every function."""
    yield advisory_locks.is_member()
    yield advisory_locks.is_taken_by_stranger()
    yield advisory_locks.await_lock()
    yield advisory_locks.lock_name()
    yield read_functions.guard()
    yield read_functions.kept()
    yield read_functions.changes()
    yield read_functions.found()
    yield read_functions.whole()
    yield sequence_numbers.horizon()
    yield sequence_numbers.renumber(schema)
    yield audit_guard.guard()
    yield audit_guard.forget(schema)
    for spec in schema:
        yield _put(spec)
    yield _commit(schema)
    yield _apply(schema)
    yield _apply_enter()


def digest(schema: Schema) -> str:
    """Digest of all function texts; 16 hex digits."""
    text = "\n".join(definitions(schema))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _put(spec: CollectionSpec) -> str:
    """Function for a single put, which most commits are: in as few steps as possible.

    The locks are taken by an expression, which costs less than a statement. What
    follows is a statement of its own, so its snapshot is taken after the locks.

    Answers the version; ``conflict 1 <version>``; ``stale ...``; ``done`` where the
    token is in the log, which is looked up only where the call is retried or refused;
    or ``renumber``.
    """
    done = f"case when {read_functions.FOUND} then 'done' else {{}} end"
    stale = done.format(
        "format('stale %s %s', coalesce(_state$ ->> 'role', 'primary'), _at$)"
    )
    values = unique_value_locks.lock_single(spec)
    return f"""
create or replace function {OWN}{quoted(put_function(spec.name))}(
  _epoch$ bigint, _key$ text, _body$ json, _expected$ bigint,
  _token$ uuid, _by$ text, _reason$ text, _again$ boolean, _patience$ text, _alone$ boolean
) returns text language plpgsql {PINNED} as $pend$
declare _held$ boolean := true; _state$ jsonb; _at$ bigint; _offset$ bigint; _end$ bigint;
        _sequence$ bigint; _grave$ bigint; _version$ bigint; _value$ bigint;
        _fits$ boolean;
begin{_SET_LOCK_TIMEOUT}
  if _alone$ then
    perform set_config('lock_timeout', '{EXCLUSIVE_LOCK_TIMEOUT}', true);
    lock table {OWN}{STORE_LOCK} in exclusive mode;
  else
    _value$ := hashtextextended('{spec.name}' || chr(1) || _key$, 0::bigint);
    _held$ := {take("_value$")};{values}{_IF_STRANGER}
    lock table {OWN}{STORE_LOCK} in row share mode;
  end if;
  select (select m$.value from {OWN}store_meta as m$ where m$.name = 'role'),
         {OFFSET}, {LOG_END},
         (select d$.version from {OWN}tombstones as d$
           where d$.collection = '{spec.name}' and d$.key = _key$),
         {has_all_members(spec, "_body$")}
    into _state$, _offset$, _end$, _grave$, _fits$;
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if coalesce(_state$ ->> 'role', 'primary') <> 'primary' or _epoch$ <> _at$ then
    return {stale};
  end if;
  if _again$ then  -- apart: an expression with a query in it is never cheap
    if {read_functions.FOUND} then
      return 'done';
    end if;
  end if;
{single_put(spec, SEQUENCE, done)}
  insert into {OWN}changes (sequence, epoch, at, records, token, "by", reason)
  values (_sequence$, _at$, clock_timestamp(), json_build_array(
    json_build_array('{spec.name}', _key$, _version$, _body$)), _token$, _by$, _reason$);
  return _version$::text;
end $pend$"""


def _commit(schema: Schema) -> str:
    """Function for independent batches: checks, then writes.

    Each check and each operation carries the number of its batch. A batch whose checks
    fail is left out, and the others go on. ``_later$`` counts the batches that put the
    same key again: what is replaced at once is not written to the table, but it gets a
    version and an entry in the change log. Bodies are null for deletes, and ``_gone$``
    lists the collections with deletes; a check without a version only locks. Tokens,
    authors and reasons are those of each batch.

    Answers ``{versions}`` and then, for each batch left out, ``place:version`` of its
    first failed check; ``done`` and the numbers of the batches that are in the log, in
    which case nothing was written; ``stale ...``; or ``renumber``. Raises ``PEND3``
    where the batches turn out to depend on each other.
    """
    checks = "".join(check_block(spec) for spec in schema)
    # Deletes first: what they free may be used by the puts.
    deletes = "".join(delete_block(spec) for spec in schema)
    puts = "".join(put_block(spec) for spec in schema)
    places = (
        "_c$ || _check_c$, _k$ || _check_k$, array_fill(true, array[cardinality(_k$)])"
    )
    places += " || array_fill(false, array[cardinality(_check_k$)])"
    by_name = sorted(schema, key=lambda spec: spec.name)
    values = "".join(map(unique_value_locks.lock_many, by_name))
    stale = f"coalesce({OWN}pend_found(_tokens$), {_STALE})"
    return f"""
create or replace function {OWN}pend_commit(
  _epoch$ bigint,
  _check_a$ bigint[], _check_c$ text[], _check_k$ text[], _check_v$ bigint[],
  _a$ bigint[], _c$ text[], _k$ text[], _b$ json[], _later$ bigint[], _gone$ text[],
  _tokens$ uuid[], _bys$ text[], _reasons$ text[], _again$ boolean, _patience$ text, _alone$ boolean
) returns text language plpgsql {PINNED} as $pend$
declare {_VARIABLES}
  _held$ boolean := true;
  _merged$ boolean := _a$[1] < _a$[cardinality(_a$)];
  _versions$ bigint[] := array_fill(0::bigint, array[cardinality(_k$)]);
  _failed$ bigint[] := '{{}}'; _actual$ bigint[] := '{{}}'; _conflicts$ text := '';
  _put$ jsonb; _whole$ json; _out$ bigint[]; _done$ text; _most$ bigint := 0; _n$ bigint; _v$ bigint;
  _sequence$ bigint;
begin {_SET_LOCK_TIMEOUT}
  _alone$ := _alone$ or cardinality(_k$) + cardinality(_check_k$) > {MANY_KEYS};
{_KEY_LOCKS.format(places=places)}{values}{_IF_STRANGER}
{_enter(_REFUSE_COMMIT, "_alone$", stale)}
  if cardinality(_check_k$) > 0 then{checks}
  end if;{_DONE}{_LEAVE_OUT}
  if cardinality(array_remove(_later$, null)) = 0 then
    return _versions$::text || _conflicts$;
  end if;
  if _merged$ then
    select max(u$.u$) into _most$ from unnest(_later$) as u$ (u$);
  end if;
{SEQUENCE}
{deletes}{puts}{_REPLACED}{_ENTER_ALL}
  return _versions$::text || _conflicts$;
end $pend$"""


def _apply(schema: Schema) -> str:
    """Function that applies another store's changes where they are newer.

    ``_top$`` is the highest version of the whole apply, of which this may be a part.
    Answers the number of rows written; ``stale ...``; or ``position`` where the
    position is not ``_mark_expected$``. The position moves before anything is written,
    because a second transaction that moves the same one waits for its row.
    """
    blocks = "".join(apply_block(spec) for spec in schema)
    places = "_c$, _k$, array_fill(true, array[cardinality(_k$)])"
    return f"""
create or replace function {OWN}pend_apply(
  _epoch$ bigint, _c$ text[], _k$ text[], _v$ bigint[], _b$ json[], _top$ bigint,
  _mark$ text, _mark_expected$ jsonb, _mark_value$ jsonb, _alone$ boolean
) returns text language plpgsql {PINNED} as $pend$
declare {_VARIABLES}
  _held$ boolean := true;
  _written$ bigint := 0; _n$ bigint := 1;
begin
  _alone$ := _alone$ or cardinality(_k$) > {MANY_KEYS};
{_KEY_LOCKS.format(places=places)}{_IF_STRANGER}
{_enter(_REFUSE_APPLY, "_alone$")}
  set constraints all deferred;
{_MOVE}{RAISE_OFFSET}
{blocks}
  return _written$::text;
end $pend$"""


_MOVE: Final = f"""
  if _mark$ is not null and _mark_expected$ is null then
    if _mark_value$ is null then
      select count(*) into _n$
        where not exists (select from {OWN}store_meta as m$ where m$.name = _mark$);
    else
      insert into {OWN}store_meta as m$ (name, value) values (_mark$, _mark_value$)
      on conflict (name) do nothing;
      get diagnostics _n$ = row_count;
    end if;
  elsif _mark$ is not null and _mark_value$ is null then
    delete from {OWN}store_meta as m$ where m$.name = _mark$ and m$.value = _mark_expected$;
    get diagnostics _n$ = row_count;
  elsif _mark$ is not null then
    update {OWN}store_meta as m$ set value = _mark_value$
     where m$.name = _mark$ and m$.value = _mark_expected$;
    get diagnostics _n$ = row_count;
  end if;
  if _n$ = 0 then
    return 'position';
  end if;"""


def _apply_enter() -> str:
    """Function that begins an apply of several statements: lock, role and position.

    It takes the store lock exclusively. The position is moved by the last statement,
    which compares it as well.
    """
    return f"""
create or replace function {OWN}pend_apply_enter(
  _epoch$ bigint, _mark$ text, _mark_expected$ jsonb
) returns text language plpgsql {PINNED} as $pend$
declare {_VARIABLES}
begin {_enter(_REFUSE_APPLY, "true")}
  if _mark$ is not null and _mark_expected$ is distinct from
     (select m$.value from {OWN}store_meta as m$ where m$.name = _mark$) then
    return 'position';
  end if;
  set constraints all deferred;
  return '';
end $pend$"""
