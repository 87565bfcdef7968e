"""The parts of the functions that know the columns of one collection."""

from __future__ import annotations

from pend_storage.fields import FieldSpec, Kind
from pend_storage.schema import CollectionSpec
from pend_storage.stores.postgres.columns import type_text
from pend_storage.stores.postgres.tables import (
    column_name,
    key_column,
    quoted,
    table_name,
)
from pend_storage.stores.postgres.values import default_text

__all__ = ["apply_block", "check_block", "delete_block", "put_block", "single_put"]


class _Names:
    """How the SQL text of one collection calls things."""

    def __init__(self, spec: CollectionSpec) -> None:
        fields = list(spec.fields.values())
        self.collection = f"'{spec.name}'"
        self.table = quoted(table_name(spec.name))
        self.key = quoted(key_column(spec))
        self.columns = ", ".join(quoted(column_name(f.name)) for f in fields)
        self.values = ", ".join(map(_from_json, fields))
        self.record = ", ".join(f"{_member(f)} {_json_type(f)}" for f in fields)
        self.updates = ", ".join(
            f"{name} = excluded.{name}"
            for f in fields
            if f.name != spec.key
            for name in (quoted(column_name(f.name)),)
        )
        self.updates += ", " if self.updates else ""


def _member(field: FieldSpec) -> str:
    """A member of the record's JSON: always called like the field."""
    return '"' + field.name + '"'


def _json_type(field: FieldSpec) -> str:
    return "text" if field.kind is Kind.BYTES else type_text(field)


def _from_json(field: FieldSpec) -> str:
    """A column's value from the record's JSON, ``x``."""
    name = f"x.{_member(field)}"
    if field.kind is Kind.BYTES:
        name = f"decode({name}, 'base64')"
    if field.optional:
        return name
    if field.kind is Kind.JSON:
        return f"coalesce({name}, 'null'::jsonb)"  # a null that is a value
    # A program that does not know the field yet leaves it out.
    default = default_text(field)
    return name if default is None else f"coalesce({name}, {default})"


def single_put(spec: CollectionSpec) -> str:
    """Put ``_body`` under ``_key``; the new version is in ``_version``.

    ``_grave`` is the version of its tombstone, if it has one.
    """
    n = _Names(spec)
    return f"""
  if _expected is not null then
    select version into _version from {n.table} where {n.key} = _key;
    if coalesce(_version, 0) <> _expected then
      return format('conflict 1 %s', coalesce(_version, 0));
    end if;
  end if;
  _sequence := coalesce(_base, 0) + pg_current_xact_id()::text::bigint;
  if _grave is not null then
    delete from tombstones where collection = {n.collection} and key = _key;
  end if;
  insert into {n.table} as t ({n.columns}, version)
  select {n.values}, greatest(_sequence, _grave + 1)
    from json_to_record(_body) as x ({n.record})
  on conflict ({n.key}) do update
    set {n.updates}version = greatest(t.version + 1, excluded.version)
  returning t.version into _version;"""


def check_block(spec: CollectionSpec) -> str:
    """The first check that does not hold: its place, and the version found."""
    n = _Names(spec)
    return f"""
    if {n.collection} = any(_check_c) then
      select u.n, coalesce(t.version, 0) into _n, _v
        from unnest(_check_c, _check_k, _check_v) with ordinality as u (c, k, v, n)
        left join {n.table} as t on t.{n.key} = u.k
       where u.c = {n.collection} and coalesce(t.version, 0) <> u.v
       order by u.n limit 1;
      if _n < _first or _first is null then
        _first := _n; _actual := _v;
      end if;
    end if;"""


def delete_block(spec: CollectionSpec) -> str:
    """Rows become tombstones."""
    n = _Names(spec)
    return f"""
  if {n.collection} = any(_c) then
    for _n, _v in
      with gone as (
        delete from {n.table} as t
         using unnest(_c, _k, _b) with ordinality as u (c, k, b, n)
         where u.c = {n.collection} and u.b is null and t.{n.key} = u.k
        returning u.n, u.k, greatest(t.version + 1, _sequence) as version
      ), grave as (
        insert into tombstones (collection, key, version)
        select {n.collection}, k, version from gone
        on conflict (collection, key) do update
          set version = greatest(tombstones.version, excluded.version)
      )
      select n, version from gone
    loop
      _versions[_n] := _v;
    end loop;
  end if;"""


def put_block(spec: CollectionSpec) -> str:
    """Rows are inserted or replaced; tombstones of theirs go."""
    n = _Names(spec)
    return f"""
  if {n.collection} = any(_c) then
    for _n, _v in
      with fresh as materialized (
        select u.k, u.b, u.n from unnest(_c, _k, _b) with ordinality as u (c, k, b, n)
         where u.c = {n.collection} and u.b is not null
      ), dead as (
        delete from tombstones as d using fresh
         where d.collection = {n.collection} and d.key = fresh.k
        returning d.key, d.version
      ), put as (
        insert into {n.table} as t ({n.columns}, version)
        select {n.values}, greatest(_sequence, dead.version + 1)
          from fresh left join dead on dead.key = fresh.k
         cross join lateral json_to_record(fresh.b) as x ({n.record})
        on conflict ({n.key}) do update
          set {n.updates}version = greatest(t.version + 1, excluded.version)
        returning t.{n.key} as k, t.version
      )
      select fresh.n, put.version from put join fresh on fresh.k = put.k
    loop
      _versions[_n] := _v;
    end loop;
  end if;"""


def apply_block(spec: CollectionSpec) -> str:
    """Rows and tombstones that are newer than the row or tombstone here."""
    n = _Names(spec)
    return f"""
  if {n.collection} = any(_c) then
    with fresh as materialized (
      select u.k, u.v, u.b from unnest(_c, _k, _v, _b) as u (c, k, v, b)
       where u.c = {n.collection} and u.b is not null and not exists (
         select from tombstones as d where d.collection = {n.collection}
            and d.key = u.k and d.version >= u.v)
    ), dead as (
      delete from tombstones as d using fresh
       where d.collection = {n.collection} and d.key = fresh.k
    ), put as (
      insert into {n.table} as t ({n.columns}, version)
      select {n.values}, fresh.v
        from fresh cross join lateral json_to_record(fresh.b) as x ({n.record})
      on conflict ({n.key}) do update set {n.updates}version = excluded.version
        where t.version < excluded.version
      returning 1
    )
    select count(*) into _n from put;
    _written := _written + _n;
    with late as materialized (
      select u.k, u.v from unnest(_c, _k, _v, _b) as u (c, k, v, b)
       where u.c = {n.collection} and u.b is null and not exists (
         select from {n.table} as t where t.{n.key} = u.k and t.version >= u.v)
    ), gone as (
      delete from {n.table} as t using late where t.{n.key} = late.k
    ), grave as (
      insert into tombstones as d (collection, key, version)
      select {n.collection}, k, v from late
      on conflict (collection, key) do update set version = excluded.version
        where d.version < excluded.version
      returning 1
    )
    select count(*) into _n from grave;
    _written := _written + _n;
  end if;"""
