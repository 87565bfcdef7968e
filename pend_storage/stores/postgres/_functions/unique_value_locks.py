"""Locks on unique values, so that two commits of one value never deadlock.

A unique constraint is deferrable, because two records may swap their values in one
commit. PostgreSQL lets two transactions insert the same value of such a constraint, and
then has each of them wait for the other one: a deadlock, which it takes
``deadlock_timeout`` (one second) to detect. So a commit holds an advisory lock on each
value that it writes, as it does on each key. The second commit of a value waits for the
first, and finds its record.

The locks are taken after those of the keys, sorted by collection, constraint and hash:
a holder of one of them waits for no key, and for none that is sorted before it. Where
two texts spell one value (``1.0`` and ``1.00``), the deadlock remains, and is retried.
"""

from __future__ import annotations

from pend_storage.schema import CollectionSpec
from pend_storage.stores.postgres._functions.advisory_locks import take

__all__ = ["lock_many", "lock_single"]


def lock_single(spec: CollectionSpec) -> str:
    """PL/pgSQL that locks the unique values of ``_body$``."""
    return "".join(
        f"""
  _value$ := {_hash(spec, f"'{number}'", _value(group, "_body$"))};
  _held$ := _held$ and (_value$ is null or {take("_value$")});"""
        for number, group in enumerate(spec.unique)
    )


def lock_many(spec: CollectionSpec) -> str:
    """PL/pgSQL that locks the unique values of a collection in ``_b$``, unless many."""
    if not spec.unique:
        return ""
    values = ", ".join(
        f"('{number}', {_value(group, 'u$.b$')})"
        for number, group in enumerate(spec.unique)
    )
    return f"""
  if not _alone$ and '{spec.name}' = any(_c$) then
    select _held$ and coalesce(bool_and({take("z$.h$")}), true) into _held$
      from (select distinct g$.g$, {_hash(spec, "g$.g$", "g$.v$")} as h$
              from unnest(_c$, _b$) as u$ (c$, b$)
              cross join lateral (values {values}) as g$ (g$, v$)
             where u$.c$ = '{spec.name}' and g$.v$ is not null
             order by 1, 2) as z$;
  end if;"""


def _value(group: tuple[str, ...], body: str) -> str:
    """SQL text of a unique value in a record's JSON; null where a part is null."""
    return "(" + " || chr(1) || ".join(f"({body} ->> '{name}')" for name in group) + ")"


def _hash(spec: CollectionSpec, number: str, value: str) -> str:
    prefix = f"'{spec.name}' || chr(2) || {number} || chr(1)"
    return f"hashtextextended({prefix} || {value}, 0::bigint)"
