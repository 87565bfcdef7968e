"""Read functions: role guard, pages of the change log, tokens, whole records.

Each is named like its function in the database, without ``pend_``.
"""

from __future__ import annotations

from typing import Final

from pend_storage.stores.postgres._connection.own_names import OWN
from pend_storage.stores.postgres._functions.sequence_numbers import PINNED, PRUNED_META

__all__ = ["FOUND", "changes", "found", "guard", "kept", "whole"]

FOUND: Final = f"exists (select from {OWN}changes as f$ where f$.token = _token$)"
"""SQL condition: the commit of a single put is in the log."""


def guard() -> str:
    """Function that raises unless the store is primary at an epoch.

    Stable, so that it reads the same snapshot as the statement that calls it; with no
    column in it, so that the planner evaluates it once, before anything else.
    """
    return f"""
create or replace function {OWN}pend_guard(_epoch$ bigint)
returns boolean language plpgsql stable {PINNED} as $pend$
declare _state$ jsonb; _role$ text; _at$ bigint;
begin
  select m$.value into _state$ from {OWN}store_meta as m$ where m$.name = 'role';
  _role$ := coalesce(_state$ ->> 'role', 'primary');
  _at$ := coalesce((_state$ ->> 'epoch')::bigint, 0);
  if _role$ <> 'primary' or _epoch$ <> _at$ then
    raise exception using errcode = 'PEND1', message = format('stale %s %s', _role$, _at$);
  end if;
  return true;
end $pend$"""


def kept() -> str:
    """Function that raises unless the change log still reaches back to a number."""
    return f"""
create or replace function {OWN}pend_kept(_after$ bigint)
returns boolean language plpgsql stable {PINNED} as $pend$
declare _oldest$ bigint;
begin
  select (m$.value #>> '{{}}')::bigint into _oldest$
    from {OWN}store_meta as m$ where m$.name = '{PRUNED_META}';
  if _after$ < _oldest$ then
    raise exception using errcode = 'PEND2',
      message = format('expired %s %s', _after$, _oldest$);
  end if;
  return true;
end $pend$"""


def changes() -> str:
    """Function that returns a page of the change log, bounded in entries and bytes.

    At least one entry, whatever its size. The loop exits early, because the length of
    an entry is only known once it is detoasted.
    """
    return f"""
create or replace function {OWN}pend_changes(
  _after$ bigint, _upto$ bigint, _most$ bigint, _bytes$ bigint
) returns table (sequence$ bigint, epoch$ bigint, at$ timestamptz, records$ json,
                 token$ uuid, by$ text, reason$ text)
language plpgsql stable {PINNED} as $pend$
begin
  perform {OWN}pend_kept(_after$);
  for sequence$, epoch$, at$, records$, token$, by$, reason$ in
    select c$.sequence, c$.epoch, c$.at, c$.records, c$.token, c$."by", c$.reason
      from {OWN}changes as c$
     where c$.sequence > _after$ and c$.sequence <= _upto$
     order by c$.sequence limit _most$
  loop
    return next;
    _bytes$ := _bytes$ - octet_length(records$::text);
    exit when _bytes$ <= 0;
  end loop;
end $pend$"""


def whole() -> str:
    """Function that completes a record with the stored members its program lacks.

    Programs with an older schema omit what was added since. A member without a column
    was renamed or removed since: its value would be lost, so it is refused.
    """
    return f"""
create or replace function {OWN}pend_whole(_old$ json, _new$ json, _known$ text[])
returns json language plpgsql immutable {PINNED} as $pend$
declare _name$ text;
begin
  select m$.k$ into _name$ from json_object_keys(_new$) as m$ (k$)
   where m$.k$ <> all(_known$) limit 1;
  if _name$ is not null then
    raise exception using errcode = 'PEND4', message = format('no column %s', _name$);
  end if;
  if _old$ is null then
    return _new$;
  end if;
  return (
    select json_object_agg(o$.key, coalesce(n$.value, o$.value))
      from json_each(_old$) as o$ left join json_each(_new$) as n$ on n$.key = o$.key);
end $pend$"""


def found() -> str:
    """Function that returns which tokens are in the change log; null: none."""
    return f"""
create or replace function {OWN}pend_found(_tokens$ uuid[])
returns text language plpgsql stable {PINNED} as $pend$
begin
  return (
    select 'done' || string_agg(' ' || (u$.n$ - 1), '')
      from unnest(_tokens$) with ordinality as u$ (t$, n$)
      join {OWN}changes as c$ on c$.token = u$.t$);
end $pend$"""
