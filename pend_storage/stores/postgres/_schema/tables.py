"""Table declarations: one for each collection, and the core tables.

SQLAlchemy declares them, Alembic compares the declaration with a database, and
everything else (statements, functions) is generated from the declaration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    literal_column,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSON, JSONB, TIMESTAMP
from sqlalchemy.sql import quoted_name

from pend_storage.errors import ConfigError
from pend_storage.schema import CollectionSpec, Schema
from pend_storage.stores.postgres._connection.own_names import OWN
from pend_storage.stores.postgres._schema.column_types import check_text, column_type
from pend_storage.stores.postgres._schema.literals import default_text

__all__ = [
    "CORE_TABLES",
    "DIALECT",
    "REVISION_TABLE",
    "STORE_LOCK",
    "TOKEN_CONSTRAINT",
    "column_name",
    "constraint_name",
    "core_metadata",
    "declare",
    "key_column",
    "own_table",
    "quoted",
    "table_name",
]

DIALECT: Final = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
"""Renders SQL with libpq's placeholders: ``$1``, ``$2``."""
REVISION_TABLE: Final = "pend_storage_revision"
"""Table of Alembic's revision: not its default, which an application may use."""
STORE_LOCK: Final = "pend_store_lock"
"""Table that is never filled. Its lock is the store lock: commits and applies hold it in
``row share`` mode, a change of role in ``exclusive`` mode. Either needs the privilege to
update it, so a role without grants cannot hold it.
"""
CORE_TABLES: Final = ("changes", "store_meta", "tombstones", STORE_LOCK)
TOKEN_CONSTRAINT: Final = "changes_token_key"  # noqa: S105 - no password
"""Unique constraint that refuses a second change log entry of one commit."""

_TABLE_WORDS: Final = frozenset({*CORE_TABLES, REVISION_TABLE})
# The row's version, and PostgreSQL's own system columns.
_COLUMN_WORDS: Final = frozenset(
    {"version", "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}
)
_PLPGSQL_RESERVED: Final = frozenset(
    {"begin", "by", "declare", "execute", "foreach", "if", "loop", "strict", "while"}
)
"""Words that end a statement within a function (``pl_reserved_kwlist.h``), not in SQL."""
_MORE_RESERVED: Final = _PLPGSQL_RESERVED | {
    "collation",
    "concurrently",
    "lateral",
    "system_user",
    "tablesample",
}
"""Words that PostgreSQL reserves and SQLAlchemy does not quote by itself."""
_MAX_NAME: Final = 63  # bytes; PostgreSQL's NAMEDATALEN - 1
_DIGEST: Final = 8
_BETWEEN: Final = "__"  # one would make (a_b, c) and (a, b_c) the same


def _free(name: str, taken: frozenset[str]) -> str:
    """Escape a reserved name; different names stay different."""
    if name in _MORE_RESERVED:
        return quoted_name(name, quote=True)
    return f"{name}_" if name.rstrip("_") in taken else name


def table_name(collection: str) -> str:
    """Table of a collection: the same name, unless a core table has it."""
    return _free(collection, _TABLE_WORDS)


def column_name(field: str) -> str:
    """Column of a field: the same name, unless the database reserves it."""
    return _free(field, _COLUMN_WORDS)


def key_column(spec: CollectionSpec) -> str:
    """Column of a collection's key."""
    return column_name(spec.key)


def quoted(name: str) -> str:
    """Quote an identifier for SQL text."""
    return str(DIALECT.identifier_preparer.quote(name))


def own_table(collection: str) -> str:
    """Table of a collection in SQL text, with the mark of an own name."""
    return OWN + quoted(table_name(collection))


def constraint_name(kind: str, *parts: str, content: str = "") -> str:
    """Name of a constraint or an index: readable, unique, within 63 bytes.

    Args:
        kind: two letters for the kind of constraint.
        parts: table and columns.
        content: hashed into the name; for constraints that cannot be compared with the
            database in any other way.
    """
    name = f"{kind}_{_BETWEEN.join(parts)}"
    is_clear = not any(_BETWEEN in f"_{part}_" for part in parts)
    if is_clear and not content and len(name.encode()) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(repr((kind, parts, content)).encode()).hexdigest()
    head = name.encode()[: _MAX_NAME - _DIGEST - 1].decode(errors="ignore")
    return f"{head}_{digest[:_DIGEST]}"


def core_metadata(namespace: str | None = None) -> MetaData:
    """Declare the tables that do not depend on a schema.

    Args:
        namespace: schema of the database that they are in; None: the default one.
    """
    metadata = MetaData(schema=namespace)
    Table(
        "changes",
        metadata,
        Column("sequence", BigInteger, autoincrement=False),
        Column("epoch", BigInteger, nullable=False),
        Column("at", TIMESTAMP(timezone=True), nullable=False),
        # json, not jsonb: it keeps the text of the records as it is.
        Column("records", JSON, nullable=False),
        Column("token", Uuid),
        Column("by", Text),
        Column("reason", Text),
        PrimaryKeyConstraint("sequence", name="changes_pkey"),
        UniqueConstraint("token", name=TOKEN_CONSTRAINT),
    )
    Table(
        "store_meta",
        metadata,
        Column("name", Text(collation="C")),
        Column("value", JSONB, nullable=False),
        PrimaryKeyConstraint("name", name="store_meta_pkey"),
    )
    Table(
        "tombstones",
        metadata,
        Column("collection", Text(collation="C")),
        Column("key", Text(collation="C")),
        Column("version", BigInteger, nullable=False),
        PrimaryKeyConstraint("collection", "key", name="tombstones_pkey"),
    )
    Table(
        STORE_LOCK,
        metadata,
        Column("never", Boolean),
        CheckConstraint("false", name=f"{STORE_LOCK}_is_empty"),
    )
    return metadata


def declare(
    schema: Schema, namespace: str | None = None, *, trigrams: str = "gin_trgm_ops"
) -> MetaData:
    """Declare every table of a schema's database.

    Args:
        schema: the collections.
        namespace: schema of the database with the tables; None: the default one.
        trigrams: operator class of the indexes for text search.

    Raises:
        ConfigError: a field's name is too long for PostgreSQL.
    """
    metadata = core_metadata(namespace)
    for spec in schema:
        _declare_collection(spec, metadata, trigrams)
    for spec in schema:
        table = _table(metadata, spec.name)
        for field, target in spec.references.items():
            _add_reference(table, column_name(field), schema[target], metadata)
    return metadata


def _table(metadata: MetaData, collection: str) -> Table:
    name = table_name(collection)
    return metadata.tables[f"{metadata.schema}.{name}" if metadata.schema else name]


def _declare_collection(
    spec: CollectionSpec, metadata: MetaData, trigrams: str
) -> None:
    name = table_name(spec.name)
    key = key_column(spec)
    table = Table(
        name,
        metadata,
        *_columns(spec),
        Column("version", BigInteger, nullable=False),
        PrimaryKeyConstraint(key, name=constraint_name("pk", name)),
    )
    for group in spec.unique:
        columns = [column_name(field) for field in group]
        constraint = UniqueConstraint(
            *columns,
            name=constraint_name("uq", name, *columns),
            deferrable=True,
            initially="IMMEDIATE",
        )
        table.append_constraint(constraint)
    for index in _indexes(spec, table, trigrams):
        assert index.table is table  # noqa: S101 - an Index joins its columns' table


def _columns(spec: CollectionSpec) -> Iterator[Any]:
    for field in spec.fields.values():
        name = column_name(field.name)
        if len(name.encode()) > _MAX_NAME:
            raise ConfigError(
                f"{spec.name}.{field.name}: PostgreSQL takes names of at most "
                f"{_MAX_NAME} bytes. Use a shorter name."
            )
        default = None if field.optional else default_text(field)
        yield Column(
            name,
            column_type(field),
            nullable=field.optional,
            # For programs that do not know the field yet.
            server_default=None if default is None else literal_column(default),
        )
        text = check_text(field, quoted(name))
        if text is not None:
            # Alembic does not compare checks, so the name shows whether it changed.
            label = constraint_name("ck", table_name(spec.name), name, content=text)
            yield CheckConstraint(literal_column(text), name=label)


def _indexes(spec: CollectionSpec, table: Table, trigrams: str) -> Iterator[Index]:
    """Declared indexes, those that references need, and those for text search."""
    leading: set[str] = {group[0] for group in spec.unique} | {spec.key}
    for index in spec.indexes:
        leading.add(index.columns[0][0])
        yield _ordered_index(spec, table, index.columns)
    for field in spec.references:
        if field not in leading:  # or else a delete of the target reads every row
            yield _ordered_index(spec, table, ((field, False),))
    for field in spec.search:
        column = table.c[column_name(field)]
        yield Index(
            constraint_name("tg", table.name, column.name),
            func.lower(column).label("folded"),
            postgresql_using="gin",
            postgresql_ops={"folded": trigrams},
        )


def _ordered_index(
    spec: CollectionSpec, table: Table, columns: tuple[tuple[str, bool], ...]
) -> Index:
    """Index for a sort by these columns: ties by key, nulls last."""
    if spec.key not in {field for field, _ in columns}:
        columns = (*columns, (spec.key, False))
    terms: list[Any] = []
    for field, descending in columns:
        term: Any = table.c[column_name(field)]
        if descending:
            term = term.desc()
            if spec.fields[field].optional:
                term = term.nulls_last()
        terms.append(term)
    parts = [("desc_" if down else "") + column_name(field) for field, down in columns]
    return Index(constraint_name("ix", table.name, *parts), *terms)


def _add_reference(
    table: Table, column: str, target: CollectionSpec, metadata: MetaData
) -> None:
    table.append_constraint(
        ForeignKeyConstraint(
            [column],
            [_table(metadata, target.name).c[key_column(target)]],
            name=constraint_name("fk", table.name, column),
            deferrable=True,
            initially="DEFERRED",
        )
    )
