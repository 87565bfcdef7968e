"""Row writes: the parts of the functions with the columns of one collection.

A user's column, table or collection may have any name. So every name that is invented
here (variables, aliases, columns of aliases, parts of a ``with``) ends with a ``$``,
which no Python identifier contains, and every column of a table is qualified.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pend_storage._model.fields import FieldSpec, Kind
from pend_storage.schema import AUDIT, CollectionSpec
from pend_storage.stores.postgres._connection.own_names import OWN
from pend_storage.stores.postgres._functions.audit_guard import (
    FORGET,
    MAY_FORGET,
)
from pend_storage.stores.postgres._schema.column_types import type_text
from pend_storage.stores.postgres._schema.literals import default_text, quoted_text
from pend_storage.stores.postgres._schema.record_json import record_json
from pend_storage.stores.postgres._schema.tables import (
    column_name,
    key_column,
    own_table,
    quoted,
)

__all__ = [
    "apply_block",
    "check_block",
    "column_from_json",
    "delete_block",
    "has_all_members",
    "put_block",
    "record_types",
    "single_put",
]

_BATCH: Final = '"batch#"'
_KEY: Final = '"key#"'
"""Columns beside those of a record; ``#`` occurs in no field's name."""


class _CollectionSql:
    """SQL fragments of one collection: names, columns, values, updates."""

    def __init__(self, spec: CollectionSpec) -> None:
        fields = list(spec.fields.values())
        self.collection = f"'{spec.name}'"
        self.table = own_table(spec.name)
        self.key = quoted(key_column(spec))
        self.columns = ", ".join(quoted(column_name(f.name)) for f in fields)
        self.values = ", ".join(map(_from_json, fields))
        self.record = record_types(fields)
        self.updates = ", ".join(
            f"{name} = excluded.{name}"
            for f in fields
            if f.name != spec.key
            for name in (quoted(column_name(f.name)),)
        )
        self.updates += ", " if self.updates else ""
        names = ", ".join(quoted_text(f.name) for f in fields)
        self.known = f"array[{names}]::text[]"
        self.stored = f"({record_json(spec, 't$')})::json"
        self.stored_or_null = f"case when t$.version is not null then {self.stored} end"
        self.count = len(fields)
        self.is_append_only = spec.name == AUDIT
        """Rows are only added: writes need no privilege to update or to delete."""
        # An older entry that is still there is one that this role may not let go.
        self.unless_older = "" if self.is_append_only else " and t$.version >= u$.v$"

    def over(self, version: str) -> str:
        """Clause of an insert that replaces the row of the key, with a version."""
        if self.is_append_only:
            return ""  # a row that is there violates the primary key
        return (
            f"on conflict ({self.key}) do update set {self.updates}version = {version}"
        )

    def has_all_members(self, body: str) -> str:
        """SQL condition: a record has exactly the members that the table has."""
        return (
            f"(select count(*) = {self.count} and bool_and(m$.k$ = any({self.known}))"
            f" from json_object_keys({body}) as m$ (k$))"
        )


def record_types(fields: Iterable[FieldSpec]) -> str:
    """Column definition list of ``json_to_record`` for some fields."""
    return ", ".join(f"{_member(f)} {_json_type(f)}" for f in fields)


def column_from_json(field: FieldSpec, row: str) -> str:
    """SQL expression: a column's value from a row of ``json_to_record``."""
    return _from_json(field, row)


def _member(field: FieldSpec) -> str:
    """Member of the record's JSON: always named like the field."""
    return '"' + field.name + '"'


def _json_type(field: FieldSpec) -> str:
    return "text" if field.kind is Kind.BYTES else type_text(field)


def _from_json(field: FieldSpec, row: str = "x$") -> str:
    """SQL expression: a column's value from a row of ``json_to_record``."""
    name = f"{row}.{_member(field)}"
    if field.kind is Kind.BYTES:
        name = f"decode({name}, 'base64')"
    if field.optional:
        return name
    if field.kind is Kind.JSON:
        return f"coalesce({name}, 'null'::jsonb)"  # a null that is a value
    # A program that does not know the field yet leaves it out.
    default = default_text(field)
    return name if default is None else f"coalesce({name}, {default})"


def has_all_members(spec: CollectionSpec, body: str) -> str:
    """SQL condition: a record has exactly the members that the table has."""
    return _CollectionSql(spec).has_all_members(body)


def single_put(spec: CollectionSpec, sequence: str, done: str) -> str:
    """PL/pgSQL that puts ``_body$`` under ``_key$`` and sets ``_version$``.

    ``_grave$`` is the version of its tombstone, if it has one.

    Args:
        spec: the collection.
        sequence: statements that assign the sequence number, after the check.
        done: wraps the answer of a failed check.
    """
    n = _CollectionSql(spec)
    conflict = done.format("format('conflict 1 %s', coalesce(_version$, 0))")
    return f"""
  if _expected$ is not null then
    select t$.version into _version$ from {n.table} as t$ where t$.{n.key} = _key$;
    if coalesce(_version$, 0) <> _expected$ then
      return {conflict};
    end if;
  end if;{sequence}
  if not _fits$ then
    select {OWN}pend_whole((select {n.stored} from {n.table} as t$ where t$.{n.key} = _key$),
                      _body$, {n.known}) into _body$;
  end if;
  if _grave$ is not null then
    delete from {OWN}tombstones as d$
     where d$.collection = {n.collection} and d$.key = _key$;
  end if;
  insert into {n.table} as t$ ({n.columns}, version)
  select {n.values}, greatest(_sequence$, _grave$ + 1)
    from json_to_record(_body$) as x$ ({n.record})
  {n.over("greatest(t$.version + 1, excluded.version)")}
  returning t$.version into _version$;"""


def check_block(spec: CollectionSpec) -> str:
    """PL/pgSQL that collects failed checks: their places, and the versions found."""
    n = _CollectionSql(spec)
    return f"""
    if {n.collection} = any(_check_c$) then
      select _failed$ || array_agg(u$.n$), _actual$ || array_agg(coalesce(t$.version, 0))
        into _failed$, _actual$
        from unnest(_check_c$, _check_k$, _check_v$)
          with ordinality as u$ (c$, k$, v$, n$)
        left join {n.table} as t$ on t$.{n.key} = u$.k$
       where u$.c$ = {n.collection} and coalesce(t$.version, 0) <> u$.v$;
    end if;"""


def delete_block(spec: CollectionSpec) -> str:
    """PL/pgSQL that turns rows into {OWN}tombstones."""
    n = _CollectionSql(spec)
    return f"""
  if {n.collection} = any(_gone$) then
    for _n$, _v$ in
      with gone$ as ({_gone(n)}
      ), grave$ as (
        insert into {OWN}tombstones as d$ (collection, key, version)
        select {n.collection}, gone$.k$, gone$.v$ from gone$
        on conflict (collection, key) do update
          set version = greatest(d$.version, excluded.version)
      )
      select gone$.n$, gone$.v$ from gone$
    loop
      _versions$[_n$] := _v$;
    end loop;
  end if;"""


def _gone(n: _CollectionSql) -> str:
    """Statement that deletes rows, and answers place, key and version of each."""
    if n.is_append_only:
        return f"""
        select u$.n$, u$.k$, greatest(t$.version$ + 1, _sequence$ + u$.a$) as v$
          from unnest(_a$, _c$, _k$, _b$, _later$)
            with ordinality as u$ (a$, c$, k$, b$, later$, n$)
          join {FORGET}(array(
                 select w$.k$ from unnest(_c$, _k$, _b$) as w$ (c$, k$, b$)
                  where w$.c$ = {n.collection} and w$.b$ is null)) as t$
            on t$.id$ = u$.k$
         where u$.c$ = {n.collection} and u$.b$ is null and u$.later$ = 0"""
    return f"""
        delete from {n.table} as t$
         using unnest(_a$, _c$, _k$, _b$, _later$)
           with ordinality as u$ (a$, c$, k$, b$, later$, n$)
         where u$.c$ = {n.collection} and u$.b$ is null and u$.later$ = 0
           and t$.{n.key} = u$.k$
        returning u$.n$, u$.k$, greatest(t$.version + 1, _sequence$ + u$.a$) as v$"""


def put_block(spec: CollectionSpec) -> str:
    """PL/pgSQL that inserts or replaces rows, and removes their tombstones.

    ``_most$`` leaves room for the versions of what other batches put there before.

    New versions are looked up by key in an object: a join would be planned for the one
    row that the planner expects of an array, and compare every row with every other
    one.
    """
    n = _CollectionSql(spec)
    return f"""
  if {n.collection} = any(_c$) then
    for _n$, _whole$ in
      select u$.n$, {OWN}pend_whole({n.stored_or_null}, u$.b$, {n.known})
        from unnest(_c$, _k$, _b$) with ordinality as u$ (c$, k$, b$, n$)
        left join {n.table} as t$ on t$.{n.key} = u$.k$
       where u$.c$ = {n.collection} and u$.b$ is not null and not {n.has_all_members("u$.b$")}
    loop
      _b$[_n$] := _whole$;
    end loop;
    with fresh$ as materialized (
      select u$.a$ as {_BATCH}, u$.k$ as {_KEY}, x$.*
        from unnest(_a$, _c$, _k$, _b$, _later$) as u$ (a$, c$, k$, b$, later$)
       cross join lateral json_to_record(u$.b$) as x$ ({n.record})
       where u$.c$ = {n.collection} and u$.b$ is not null and u$.later$ = 0
    ), dead$ as (
      delete from {OWN}tombstones as d$ using fresh$
       where d$.collection = {n.collection} and d$.key = fresh$.{_KEY}
      returning d$.key, d$.version
    ), put$ as (
      insert into {n.table} as t$ ({n.columns}, version)
      select {n.values}, greatest(_sequence$ + x$.{_BATCH}, dead$.version + 1 + _most$)
        from fresh$ as x$ left join dead$ on dead$.key = x$.{_KEY}
      {n.over("greatest(t$.version + 1 + _most$, excluded.version)")}
        {_unless_entangled(spec)}
      returning t$.{n.key} as k$, t$.version as v$
    )
    select jsonb_object_agg(put$.k$, put$.v$) into _put$ from put$;
    for _n$, _v$ in
      select u$.n$, (_put$ ->> u$.k$)::bigint
        from unnest(_c$, _k$, _b$, _later$)
          with ordinality as u$ (c$, k$, b$, later$, n$)
       where u$.c$ = {n.collection} and u$.b$ is not null and u$.later$ = 0
    loop
      if _v$ is null then
        raise exception using errcode = 'PEND3', message = 'split';
      end if;
      _versions$[_n$] := _v$;
    end loop;
  end if;"""


def _unless_entangled(spec: CollectionSpec) -> str:
    """Condition that skips a row whose unique value another row takes over.

    Only in calls of many batches: executed one after the other, the outcome would
    depend on their order. That such a row has no new version undoes the whole call.
    """
    if not spec.unique:
        return ""
    given_up = "\n          or ".join(_given_up(spec, group) for group in spec.unique)
    return f"where not (_merged$ and ({given_up}))"


def _given_up(spec: CollectionSpec, group: tuple[str, ...]) -> str:
    fields = [spec.fields[name] for name in group]
    old = [f"t$.{quoted(column_name(field))}" for field in group]
    new = [f"excluded.{quoted(column_name(field))}" for field in group]
    theirs = [_from_json(field, "other$") for field in fields]
    changed = " or ".join(
        f"{o} is distinct from {v}" for o, v in zip(old, new, strict=True)
    )
    taken = " and ".join(f"{v} = {o}" for o, v in zip(old, theirs, strict=True))
    others = (
        f"select from fresh$ as other$ where other$.{_KEY} <> "
        f"t$.{quoted(key_column(spec))} and {taken}"
    )
    return f"(({changed}) and exists ({others}))"


def apply_block(spec: CollectionSpec) -> str:
    """PL/pgSQL that applies rows and tombstones newer than the stored ones."""
    n = _CollectionSql(spec)
    return f"""
  if {n.collection} = any(_c$) then
    if exists (select from unnest(_c$, _b$) as u$ (c$, b$)
                where u$.c$ = {n.collection} and u$.b$ is not null
                  and not {n.has_all_members("u$.b$")}) then
      raise exception using errcode = 'PEND4', message = 'a record is not whole';
    end if;{_forget_older(n)}
    with fresh$ as materialized (
      select u$.k$, u$.v$, u$.b$
        from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = {n.collection} and u$.b$ is not null and not exists (
         select from {OWN}tombstones as d$ where d$.collection = {n.collection}
            and d$.key = u$.k$ and d$.version >= u$.v$)
         and not exists (  -- most are there already: the relay comes last
         select from {n.table} as t$ where t$.{n.key} = u$.k$ and t$.version >= u$.v$)
    ), dead$ as (
      delete from {OWN}tombstones as d$ using fresh$
       where d$.collection = {n.collection} and d$.key = fresh$.k$
    ), put$ as (
      insert into {n.table} as t$ ({n.columns}, version)
      select {n.values}, fresh$.v$
        from fresh$ cross join lateral json_to_record(fresh$.b$) as x$ ({n.record})
      {_if_newer(n)}
      returning 1
    )
    select count(*) into _n$ from put$;
    _written$ := _written$ + _n$;
    with late$ as materialized (
      select u$.k$, u$.v$ from unnest(_c$, _k$, _v$, _b$) as u$ (c$, k$, v$, b$)
       where u$.c$ = {n.collection} and u$.b$ is null and not exists (
         select from {n.table} as t$ where t$.{n.key} = u$.k${n.unless_older})
    ), gone$ as ({_gone_late(n)}
    ), grave$ as (
      insert into {OWN}tombstones as d$ (collection, key, version)
      select {n.collection}, late$.k$, late$.v$ from late$
      on conflict (collection, key) do update set version = excluded.version
        where d$.version < excluded.version
      returning 1
    )
    select count(*) into _n$ from grave$;
    _written$ := _written$ + _n$;
  end if;"""


def _if_newer(n: _CollectionSql) -> str:
    if n.is_append_only:
        return f"on conflict ({n.key}) do nothing"
    return (
        f"on conflict ({n.key}) do update set {n.updates}version = excluded.version\n"
        "        where t$.version < excluded.version"
    )


def _forget_older(n: _CollectionSql) -> str:
    """Statement that lets entries of the audit go that the primary let go, or repairs."""
    if not n.is_append_only:
        return ""
    return f"""
    if {MAY_FORGET} then
      perform from {FORGET}(array(
        select u$.k$ from unnest(_c$, _k$, _v$) as u$ (c$, k$, v$)
          join {n.table} as t$ on t$.{n.key} = u$.k$
         where u$.c$ = {n.collection} and t$.version < u$.v$));
    end if;"""


def _gone_late(n: _CollectionSql) -> str:
    if n.is_append_only:
        return "select from late$"
    return f"""
      delete from {n.table} as t$ using late$ where t$.{n.key} = late$.k$"""
