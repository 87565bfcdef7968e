"""Index rebuild: drops indexes and constraints of tables, and makes them again as they were.

Filling a table through its indexes takes three times as long. The definitions are those
that the server gives, so what an operator has added comes back as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg.pq.abc import PGresult

from pend_storage.stores.postgres._connection.connection import (
    LibpqConnection,
    Statement,
)
from pend_storage.stores.postgres._connection.own_names import EQ, SEARCH_PATH
from pend_storage.stores.postgres._schema.literals import quoted_text

__all__ = ["Dropped", "drop_indexes", "rebuild_indexes"]

_FOREIGN: Final = b"f"
_PIN: Final = f"set local search_path = {SEARCH_PATH}"
"""So the server's definitions name the schema of each table."""
_MEMORY: Final = Statement(
    b"select pg_catalog.set_config('maintenance_work_mem'::text, '256MB'::text, true) "
    b"where pg_catalog.pg_size_bytes(pg_catalog.current_setting("
    b"'maintenance_work_mem'::text)) operator(pg_catalog.<) 268435456::bigint"
)
_FOUND: Final = f"""
with own (t) as (
  select pg_catalog.unnest(array[{{tables}}]::pg_catalog.regclass[])
), needed (oid) as (  -- by foreign keys of tables that are not ours
  select f.conindid from pg_catalog.pg_constraint as f
   where f.contype {EQ} 'f' and f.confrelid {EQ} any (select t from own)
     and not f.conrelid {EQ} any (select t from own)
)
select c.contype, c.conrelid::pg_catalog.regclass::text,
       pg_catalog.quote_ident(c.conname::text), pg_catalog.pg_get_constraintdef(c.oid)
  from pg_catalog.pg_constraint as c
 where c.conrelid {EQ} any (select t from own)
   and c.contype {EQ} any (array['p', 'u', 'x', 'f']::"char"[])
   and (c.contype {EQ} 'f' or not c.conindid {EQ} any (select oid from needed))
union all
select 'i'::"char", i.indrelid::pg_catalog.regclass::text,
       i.indexrelid::pg_catalog.regclass::text,
       pg_catalog.pg_get_indexdef(i.indexrelid)
  from pg_catalog.pg_index as i
 where i.indrelid {EQ} any (select t from own)
   and not exists (select from pg_catalog.pg_constraint as c
                    where c.conindid {EQ} i.indexrelid and c.contype {EQ}
                          any (array['p', 'u', 'x']::"char"[]))
   and not i.indexrelid {EQ} any (select oid from needed)"""
_ORDER: Final = b"puxif"
"""Primary keys first, and foreign keys last: they need the others."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Constraint or index that was dropped."""

    kind: bytes
    """As in ``pg_constraint.contype``; ``i`` for an index."""
    table: str
    name: str
    definition: str

    @property
    def drop(self) -> str:
        """Statement that drops it."""
        if self.kind == b"i":
            return f"drop index {self.name}"
        return f"alter table {self.table} drop constraint {self.name}"

    @property
    def make(self) -> str:
        """Statement that makes it."""
        if self.kind == b"i":
            return self.definition
        return f"alter table {self.table} add constraint {self.name} {self.definition}"


def drop_indexes(connection: LibpqConnection, tables: Sequence[str]) -> list[Dropped]:
    """Drop the indexes, keys and references of tables.

    Checks remain, and are made for each row. Keys that foreign keys of other tables
    refer to remain as well.

    Args:
        connection: in a transaction, which holds the tables alone.
        tables: SQL names, with the mark of own names.

    Raises:
        ServerRefusal: the user does not own them.
    """
    connection.execute_text(_PIN)
    names = ", ".join(quoted_text(table) for table in tables)
    found = connection.execute(Statement(_FOUND.format(tables=names).encode()))
    dropped = [_dropped(found, row) for row in range(found.ntuples)]
    dropped.sort(key=lambda item: (_ORDER.index(item.kind), item.table, item.name))
    for item in reversed(dropped):
        connection.execute_text(item.drop)
    return dropped


def rebuild_indexes(
    connection: LibpqConnection, tables: Sequence[str], dropped: Sequence[Dropped]
) -> None:
    """Make the indexes, keys and references again, valid, and analyze the tables.

    Args:
        connection: in the transaction that dropped them.
        tables: as they were dropped for.
        dropped: by :func:`drop_indexes`.

    Raises:
        ServerRefusal: rows break a rule.
    """
    connection.execute(_MEMORY)
    for item in dropped:
        if item.kind != _FOREIGN:
            connection.execute_text(item.make)
    # Before the references: without statistics they are checked by a poor plan.
    connection.execute_text(f"analyze {', '.join(tables)}")
    for item in dropped:
        if item.kind == _FOREIGN:
            connection.execute_text(item.make)


def _dropped(result: PGresult, row: int) -> Dropped:
    kind, table, name, definition = (result.get_value(row, n) or b"" for n in range(4))
    return Dropped(kind, table.decode(), name.decode(), definition.decode())
