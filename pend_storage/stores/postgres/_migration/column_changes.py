"""Column changes: columns renamed, converted, narrowed or dropped.

Every record of the collections concerned is checked before anything is changed, by the
same rules as a JSON directory (:mod:`pend_storage.stores._schema_rewriting`). Converted values
wait in a temporary table while their columns are rebuilt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Connection, CursorResult

from pend_storage._model.fields import FieldSpec
from pend_storage._schema_changes import ChangeNeed, SchemaChange, unmet
from pend_storage._schema_note import CollectionShape, Description
from pend_storage._shown import shown
from pend_storage.codec import dump_json, load_json
from pend_storage.errors import SchemaOutOfDate
from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores._schema_rewriting import Misfits, Rewriting, check_unique
from pend_storage.stores.postgres._connection.own_names import OWN, OWN_SCHEMA
from pend_storage.stores.postgres._functions.row_writes import (
    column_from_json,
    record_types,
)
from pend_storage.stores.postgres._schema.column_types import column_type
from pend_storage.stores.postgres._schema.record_json import fields_json
from pend_storage.stores.postgres._schema.tables import (
    DIALECT,
    column_name,
    constraint_name,
    own_table,
    quoted,
    table_name,
)

__all__ = ["CONVERTED_TABLE", "ColumnChanges", "drop_tables", "run_with"]

_PAGE: Final = 1_000
CONVERTED_TABLE: Final = "pend_converted"
"""Prefix of the temporary tables with converted values."""
_NEEDS_CHECK: Final = frozenset({ChangeNeed.DATA, ChangeNeed.CONVERSION})
_PARAMETER: Final = re.compile(r"@(\w+)@")


class ColumnChanges:
    """Changes the tables of one database from the former schema to the declared one."""

    def __init__(
        self,
        connection: Connection,
        schema: Schema,
        former: Description,
        changes: Iterable[SchemaChange],
        store: str,
    ) -> None:
        """Prepare the changes; nothing is run yet.

        Args:
            connection: in the transaction of the migration.
            schema: as declared.
            former: the schema that the tables have.
            changes: the differences between the two.
            store: name of the store in error messages.
        """
        self._connection = connection
        self._schema = schema
        self._former = former
        self._changes = tuple(changes)
        self._store = store
        self.records: dict[str, int] = {}
        """Number of records changed or deleted, by collection."""
        self.verified: set[str] = set()
        """Tables whose records were checked against the declared schema."""

    def _run(self, statement: str, values: Any = None) -> CursorResult[Any]:
        """Run SQL text with values at ``@name@``."""
        return run_with(self._connection, statement, values)

    def run(self, *, drop: bool) -> list[str]:
        """Run the changes; returns a description of each.

        Args:
            drop: whether collections and fields that the schema lacks may be deleted.

        Raises:
            SchemaOutOfDate: data would be lost, or records do not fit.
        """
        breaking = [
            c for c in self._changes if c.need is not ChangeNeed.NOTHING or c.is_index
        ]
        if not breaking:
            return []
        names = {change.collection for change in breaking}
        for name in sorted(names):
            self._run(f"lock table {self._table(name)} in access exclusive mode")
        filled = {name for name in names if self._has_rows(name)}
        if obstacles := unmet(breaking, drop=drop, filled=filled):
            raise SchemaOutOfDate(
                f"{self._store}: {'. '.join(obstacles)}. Nothing was changed."
            )
        misfits = Misfits()
        known = [spec for spec in self._schema if spec.name in names]
        to_check = {
            c.collection for c in breaking if c.need in _NEEDS_CHECK or c.is_index
        }
        for spec in known:
            if spec.name in to_check:
                self._check_records(spec, misfits)
        if misfits:
            raise misfits.refusal(self._store)
        done = [words for spec in known for words in self._columns(spec)]
        gone = sorted(names - set(self._schema.names))
        return done + self._drop(gone)

    def _table(self, collection: str) -> str:
        return own_table(collection)

    def _has_rows(self, collection: str) -> bool:
        found = f"select exists (select from {self._table(collection)})"
        return bool(self._run(found).scalar())

    def _converted_fields(self, collection: str) -> list[str]:
        """Fields whose values are made by a conversion function."""
        return [
            str(change.field)
            for change in self._changes
            if change.collection == collection and change.need is ChangeNeed.CONVERSION
        ]

    # -- checking -------------------------------------------------------------------------

    def _check_records(self, spec: CollectionSpec, misfits: Misfits) -> None:
        """Check that every record fits, and store the converted values."""
        shape = self._former.collections[spec.name]
        rewriting = Rewriting(spec, shape, CollectionShape.of(spec))
        fields = self._converted_fields(spec.name)
        if fields:
            self._run(
                f'create temporary table {_converted_table(spec)} (key text collate "C" primary key,'
                " record json) on commit drop"
            )
        # Everything is checked before the first change, so that one report has all misfits,
        # and not only the first one that a constraint would refuse.
        checked: dict[str, Any] = {}
        for page in self._pages(spec, shape):
            made = []
            for key, body in page:
                place = f"{spec.name}[{shown(key)}]"
                try:
                    record, new = rewriting.rewritten(body)
                except ValueError as error:
                    misfits.add(place, str(error))
                    continue
                if spec.unique or spec.references:
                    checked[key] = record
                if fields:
                    members: Any = load_json(new)
                    kept = {name: members[name] for name in fields}
                    made.append({"key": key, "record": dump_json(kept).decode()})
            if made:
                self._run(
                    f"insert into {_converted_table(spec)} values (@key@, @record@)",
                    made,
                )
        check_unique(spec, checked.items(), misfits)
        self._check_references(spec, checked, misfits)
        self.verified.add(table_name(spec.name))

    def _pages(
        self, spec: CollectionSpec, shape: CollectionShape
    ) -> Iterator[list[tuple[str, bytes]]]:
        """Page through keys and stored records, in key order."""
        fields = [field.spec(name) for name, field in shape.fields.items()]
        key = f"t.{quoted(column_name(shape.key))}"
        sql = (
            f"select {key}, ({fields_json(fields, 't')})::text from "
            f"{self._table(spec.name)} as t where {key} > @after@ order by 1 limit {_PAGE}"
        )
        after = ""
        while True:
            rows: list[Any] = list(self._run(sql, {"after": after}))
            page = [(key, body.encode()) for key, body in rows]
            if page:
                yield page
                after = page[-1][0]
            if len(page) < _PAGE:
                return

    def _check_references(
        self, spec: CollectionSpec, records: dict[str, Any], misfits: Misfits
    ) -> None:
        for field, target in spec.references.items():
            wanted = {key: getattr(record, field) for key, record in records.items()}
            values = sorted({value for value in wanted.values() if value is not None})
            present: set[str] = set()
            former = self._former.collections.get(target)
            is_there = f"select to_regclass('{OWN}' || quote_ident(@table@))"
            table = {"table": table_name(target)}
            if values and self._run(is_there, table).scalar() is not None:
                name = self._schema[target].key if former is None else former.key
                key = quoted(column_name(name))
                sql = (
                    f"select {key} from {self._table(target)} where {key} = any(@keys@)"
                )
                present = {*self._run(sql, {"keys": values}).scalars()}
            for key, value in wanted.items():
                if value is not None and value not in present:
                    misfits.add(
                        f"{spec.name}[{shown(key)}]",
                        f"{field} refers to {target}[{shown(value)}]: missing",
                    )

    # -- changing -------------------------------------------------------------------------

    def _columns(self, spec: CollectionSpec) -> Iterator[str]:
        former = self._former.collections.get(spec.name)
        if former is None:
            return
        table = self._table(spec.name)
        converted = self._converted_fields(spec.name)
        mine = [c for c in self._changes if c.collection == spec.name and c.field]
        for change in mine:
            if change.was is not None and change.field not in converted:
                self._drop_dependents(spec.name, former, change.was)
                old, new = map(column_name, (change.was, str(change.field)))
                self._run(
                    f"alter table {table} rename column {quoted(old)} to {quoted(new)}"
                )
                yield f"column {table}.{old} is called {new}"
        for field in converted:
            was = {c.was for c in mine if c.field == field and c.was}
            source = next(iter(was), field if field in former.fields else None)
            if source is not None:
                self._drop_dependents(spec.name, former, source)
                self._run(
                    f"alter table {table} drop column {quoted(column_name(source))}"
                )
            self._rebuild_column(spec, spec.fields[field])
            yield f"column {table}.{column_name(field)} was made by a function"
        for change in mine:
            if change.need is ChangeNeed.CONSENT:
                column = column_name(str(change.field))
                self._run(f"alter table {table} drop column {quoted(column)}")
                yield f"column {table}.{column} dropped"

    def _rebuild_column(self, spec: CollectionSpec, field: FieldSpec) -> None:
        """Add a column anew, and fill it with the converted values."""
        table, column = self._table(spec.name), quoted(column_name(field.name))
        kind = column_type(field).compile(dialect=DIALECT)
        self._run(f"alter table {table} add column {column} {kind}")
        # Values are joined by key from the temporary table: a statement for each record
        # would cost a round trip each.
        result = self._run(
            f"update {table} as t set {column} = {column_from_json(field, 'x')} "
            f"from {_converted_table(spec)} as m "
            f"cross join lateral json_to_record(m.record) as x ({record_types([field])}) "
            f"where m.key = t.{quoted(column_name(spec.key))}"
        )
        self.records[spec.name] = max(self.records.get(spec.name, 0), result.rowcount)
        if not field.optional:
            self._run(f"alter table {table} alter column {column} set not null")

    def _drop_dependents(self, name: str, former: CollectionShape, field: str) -> None:
        """Drop constraints and indexes named after a column.

        They are created again under the column's new name.
        """
        table = table_name(name)
        constraints = [
            constraint_name("uq", table, *map(column_name, group))
            for group in former.unique
            if field in group
        ]
        if field in former.references:
            constraints.append(constraint_name("fk", table, column_name(field)))
        for constraint in constraints:
            self._run(
                f"alter table {OWN}{quoted(table)} drop constraint if exists "
                f"{quoted(constraint)}"
            )
        sql = (
            "select i.relname from pg_index as x join pg_class as i on i.oid = x.indexrelid"
            " join pg_attribute as a on a.attrelid = x.indrelid"
            " and a.attnum = any(x.indkey) "
            f"where x.indrelid = to_regclass('{OWN}' || quote_ident(@t@))"
            " and a.attname = @c@ and not x.indisprimary"
            " and (i.relname like 'ix\\_%' or i.relname like 'tg\\_%')"
        )
        place = {"t": table, "c": column_name(field)}
        for index in self._run(sql, place).scalars().all():
            self._run(f"drop index {OWN}{quoted(index)}")

    def _drop(self, collections: list[str]) -> list[str]:
        """Drop collections with their records, tombstones and functions."""
        if not collections:
            return []
        for name in collections:
            found = self._run(f"select count(*) from {self._table(name)}").scalar()
            self.records[name] = int(found or 0)
        drop_tables(self._connection, collections)
        return [f"table {table_name(name)} dropped" for name in collections]


def run_with(
    connection: Connection, statement: str, values: Any = None
) -> CursorResult[Any]:
    """Run SQL text with values at ``@name@``."""
    sql = _PARAMETER.sub(r"%(\1)s", statement.replace("%", "%%"))
    return connection.exec_driver_sql(sql, values)


def drop_tables(connection: Connection, collections: Iterable[str]) -> None:
    """Drop the tables of collections, their tombstones and their functions."""
    for name in collections:
        run_with(connection, f"drop table {own_table(name)} cascade")
        run_with(
            connection,
            f"delete from {OWN}tombstones where collection = @n@",
            {"n": name},
        )
        sql = (
            "select oid::regprocedure::text from pg_proc where proname = @n@ "
            f"and pronamespace = to_regnamespace('{OWN_SCHEMA}')"
            " and pg_has_role(proowner, 'usage')"
        )
        put = {"n": constraint_name("pend_put", name)}
        for signature in run_with(connection, sql, put).scalars().all():
            run_with(connection, f"drop function {signature}")


def _converted_table(spec: CollectionSpec) -> str:
    return "pg_temp." + quoted(constraint_name(CONVERTED_TABLE, spec.name))
