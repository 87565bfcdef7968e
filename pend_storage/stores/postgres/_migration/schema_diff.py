"""Schema diff: adds what a database lacks of the declared tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from alembic.autogenerate import produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations, ops
from sqlalchemy import (
    CheckConstraint,
    Connection,
    MetaData,
    Table,
    inspect,
    text,
)
from sqlalchemy.types import BigInteger, Integer, Numeric, SmallInteger, String

from pend_storage.errors import ConfigError, SchemaOutOfDate
from pend_storage.schema import Schema
from pend_storage.stores.postgres._connection.own_names import OWN, OWN_SCHEMA
from pend_storage.stores.postgres._schema.tables import DIALECT

__all__ = ["add_missing", "run_text", "trigram_operators"]

_EXTENSION: Final = "pg_trgm"
_OPERATORS: Final = "gin_trgm_ops"
_OWN_PREFIXES: Final = ("uq_", "fk_")
_INTEGER_WIDTHS: Final = (SmallInteger, Integer, BigInteger, Numeric)


def run_text(connection: Connection, statement: str) -> None:
    """Run SQL text verbatim; the driver would take percent signs for parameters."""
    connection.exec_driver_sql(statement.replace("%", "%%"))


def add_missing(
    connection: Connection,
    declared: MetaData,
    store: str,
    *,
    verified: Collection[str] = (),
) -> list[str]:
    """Add what is missing; returns a description of each change.

    Args:
        connection: in a transaction.
        declared: the tables of the schema.
        store: name of the store in error messages.
        verified: tables whose records were checked, so that types may be narrowed.

    Raises:
        SchemaOutOfDate: data would be lost.
    """
    present = set(inspect(connection).get_table_names(schema=declared.schema))
    missing = [t for t in declared.sorted_tables if t.name not in present]
    declared.create_all(connection, tables=missing)
    done = [f"table {table.name} made" for table in missing]
    diff = _SchemaDiff(connection, declared, store, verified)
    return done + diff.run(present)


def trigram_operators(connection: Connection, schema: Schema, store: str) -> str:
    """Operator class for text search; its extension is created where it is needed.

    Raises:
        ConfigError: text search needs an extension that is not available.
    """
    if not any(spec.search for spec in schema):
        return _OPERATORS
    name = {"name": _EXTENSION}
    made = text(
        "select quote_ident(n.nspname) from pg_extension as e "
        "join pg_namespace as n on n.oid = e.extnamespace where e.extname = :name"
    )
    place = connection.scalar(made, name)
    if place is not None:
        return f"{place}.{_OPERATORS}"
    there = "select exists (select from pg_available_extensions where name = :name)"
    if not connection.scalar(text(there), name):
        raise ConfigError(
            f"{store}: the server does not have the extension {_EXTENSION}, which "
            "searching in text needs. Install it (package postgresql-contrib), or "
            "declare no search fields; nothing was changed."
        )
    run_text(
        connection, f"create extension if not exists {_EXTENSION} schema {OWN_SCHEMA}"
    )
    return f"{connection.scalar(made, name)}.{_OPERATORS}"


class _SchemaDiff:
    """Difference between existing tables and their declaration."""

    def __init__(
        self,
        connection: Connection,
        declared: MetaData,
        store: str,
        verified: Collection[str],
    ) -> None:
        self._connection = connection
        self._declared = declared
        self._store = store
        self._verified = verified
        self._present: list[Table] = []
        options = {
            "compare_type": True,
            "compare_server_default": _compare_default,
            "include_object": self._is_ours,
            "include_schemas": True,
            "include_name": self._is_own_schema,
        }
        self._context = MigrationContext.configure(connection, opts=options)
        self._operations = Operations(self._context)

    def _is_ours(
        self,
        _object: Any,
        name: str | None,
        kind: str,
        reflected: Any,
        _other: Any,
    ) -> bool:
        names = {table.name for table in self._declared.tables.values()}
        return kind != "table" or not reflected or name in names

    def _is_own_schema(self, name: str | None, kind: str, _parents: Any) -> bool:
        return kind != "schema" or name == self._declared.schema

    def run(self, present: set[str]) -> list[str]:
        """Add what is missing to the tables that were present."""
        self._present = [
            table for table in self._declared.sorted_tables if table.name in present
        ]
        done = [*self._drop_checks()]
        script = produce_migrations(self._context, self._declared)
        found = [*_flatten(script.upgrade_ops)]
        made = {op.index_name for op in found if isinstance(op, ops.CreateIndexOp)}
        for operation in found:
            if isinstance(operation, ops.DropIndexOp):
                if operation.index_name not in made:
                    continue  # an operator's own index does no harm
            elif not self._is_allowed(operation):
                continue
            self._operations.invoke(operation)
            done.append(_describe(operation))
        return [*done, *self._add_checks()]

    def _is_allowed(self, operation: ops.MigrateOperation) -> bool:
        """Return whether an operation is run; False for one that is skipped.

        Raises:
            SchemaOutOfDate: it would lose data.
        """
        match operation:
            case ops.CreateIndexOp() | ops.AddConstraintOp() | ops.AddColumnOp():
                return True
            case ops.DropConstraintOp():
                return str(operation.constraint_name).startswith(_OWN_PREFIXES)
            case ops.AlterColumnOp():
                return self._is_wider(operation)
            case _:
                raise self._refusal(_describe(operation))

    def _is_wider(self, operation: ops.AlterColumnOp) -> bool:
        old, new = operation.existing_type, operation.modify_type
        if new is None:
            changes = (operation.modify_nullable, operation.modify_server_default)
            return changes != (None, False)
        if isinstance(old, String) and isinstance(new, String):
            wider = new.length is None or (old.length or new.length + 1) <= new.length
        else:
            wider = _rank(new) > _rank(old) >= 0
        if not wider and operation.table_name not in self._verified:
            raise self._refusal(_describe(operation))
        return True

    def _refusal(self, what: str) -> SchemaOutOfDate:
        return SchemaOutOfDate(
            f"{self._store}: the declared schema would {what}, and what is there might "
            "be lost; nothing was changed. If a newer program has migrated the "
            "database, update this one. If an older version of this library has, run "
            "migrate() once with the schema of before, so that it is noted what there "
            "is. Else make that change by hand, and migrate again."
        )

    def _drop_checks(self) -> Iterator[str]:
        """Drop changed checks; their names contain a digest of the condition."""
        for table in self._present:
            for name in sorted(self._check_names(table) - _checks(table).keys()):
                if name.startswith("ck_"):
                    self._operations.drop_constraint(
                        name, table.name, schema=table.schema
                    )
                    yield f"check {name} dropped"

    def _add_checks(self) -> Iterator[str]:
        for table in self._present:
            wanted = _checks(table)
            for name in sorted(wanted.keys() - self._check_names(table)):
                condition = wanted[name].sqltext
                self._operations.create_check_constraint(
                    name, table.name, condition, schema=table.schema
                )
                yield f"check {name} made"

    def _check_names(self, table: Table) -> set[str]:
        names = text(
            "select conname from pg_constraint where contype = 'c' "
            f"and conrelid = to_regclass('{OWN}' || quote_ident(:table))"
        )
        return set(self._connection.scalars(names, {"table": table.name}))


def _compare_default(
    _context: Any, inspected: Any, declared: Any, *_defaults: Any
) -> bool | None:
    """Compare defaults; None leaves it to Alembic.

    Of different types, Alembic's comparison would make the server fail.
    """
    same = inspected.type.python_type is declared.type.python_type
    return None if same else False


def _checks(table: Table) -> dict[str, CheckConstraint]:
    found = (c for c in table.constraints if isinstance(c, CheckConstraint))
    return {str(check.name): check for check in found}


def _flatten(container: ops.OpContainer | None) -> Iterator[ops.MigrateOperation]:
    for operation in () if container is None else container.ops:
        if isinstance(operation, ops.OpContainer):
            yield from _flatten(operation)
        else:
            yield operation


def _rank(kind: Any) -> int:
    """Width rank of an integer type; -1 for other types."""
    ranks = [
        place for place, known in enumerate(_INTEGER_WIDTHS) if isinstance(kind, known)
    ]
    return max(ranks, default=-1)


def _describe(operation: ops.MigrateOperation) -> str:
    """Describe an operation: action, target, and the new type."""
    if isinstance(operation, ops.AlterColumnOp):
        place = f"{operation.table_name}.{operation.column_name}"
        old, new = operation.existing_type, operation.modify_type
        if old is not None and new is not None:
            return f"change {place} from {_type_name(old)} to {_type_name(new)}"
        if operation.modify_nullable is not None:
            may = "may" if operation.modify_nullable else "must not"
            return f"change {place}, which {may} be null"
        return f"change the default of {place}"
    diff: Any = operation.to_diff_tuple()
    while isinstance(diff, list):
        diff = diff[0]
    names = [str(getattr(part, "name", part)) for part in diff[1:] if part is not None]
    return f"{diff[0].replace('_', ' ')} {' '.join(names[:3])}"


def _type_name(kind: Any) -> str:
    """Name of a type in SQL."""
    return str(kind.compile(dialect=DIALECT))
