"""Bulk copy: COPY of many rows into an empty key range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Final

import psycopg

from pend_storage._model import sizes
from pend_storage._model.fields import FieldSpec
from pend_storage._model.records import ChangedRecord
from pend_storage.codec import dump_json
from pend_storage.schema import CollectionSpec
from pend_storage.stores.postgres._connection.connection import LibpqConnection
from pend_storage.stores.postgres._connection.server_errors import (
    ConnectionLost,
    ServerRefusal,
)
from pend_storage.stores.postgres._schema.column_types import type_text
from pend_storage.stores.postgres._schema.tables import column_name, own_table, quoted
from pend_storage.stores.postgres._writes.commit_batches import MOST_BYTES

__all__ = ["BulkCopier"]

_JSONB: Final = b"\x01"  # the version that a jsonb in binary begins with


class BulkCopier:
    """Copies records of one collection in binary format."""

    def __init__(self, spec: CollectionSpec) -> None:
        fields = list(spec.fields.values())
        columns = [quoted(column_name(field.name)) for field in fields]
        self._statement = (
            f"copy {own_table(spec.name)} "
            f"({', '.join([*columns, 'version'])}) from stdin (format binary)"
        )
        self._types = [*map(_copied_type, fields), "bigint"]
        self._values: Callable[[Any], Any] = attrgetter(*[f.name for f in fields])
        self._is_single = len(fields) == 1
        self._codec = spec.codec
        self._adapters = [
            (place, adapt)
            for place, field in enumerate(fields)
            if (adapt := _adapter(field)) is not None
        ]

    def copy(
        self, connection: LibpqConnection, records: Sequence[ChangedRecord]
    ) -> None:
        """Copy records; their keys must not be in the table.

        Many bytes are split over several statements, each with its own timeout.

        Args:
            connection: in a transaction.
            records: without tombstones.

        Raises:
            InvalidRecord: a record is too large for PostgreSQL.
            ServerRefusal: the server refuses them.
            ConnectionLost: the connection broke.
        """
        items = iter(records)
        is_more = True
        while is_more:
            with self._copying(connection) as copy:
                is_more = self._fill(copy, items)

    def copy_page(
        self, connection: LibpqConnection, records: Sequence[ChangedRecord]
    ) -> None:
        """Copy records in one statement; as :meth:`copy`, without a look at their sizes.

        Args:
            connection: in a transaction.
            records: not more than fit into one statement, as another store held them.

        Raises:
            ServerRefusal: the server refuses them.
            ConnectionLost: the connection broke.
        """
        make = self._row
        with self._copying(connection) as copy:
            write = copy.write_row
            for item in records:
                write(make(item))

    @contextmanager
    def _copying(self, connection: LibpqConnection) -> Iterator[psycopg.Copy]:
        """COPY of one statement, with the errors of the library."""
        try:
            with connection.driver_connection.cursor().copy(
                connection.with_names(self._statement)
            ) as copy:
                copy.set_types(self._types)
                yield copy
        except psycopg.OperationalError as error:
            raise ConnectionLost(str(error).strip(), sent=True) from error
        except psycopg.Error as error:
            constraint = error.diag.constraint_name or ""
            code, message = error.sqlstate or "XX000", str(error).splitlines()[0]
            raise ServerRefusal(code, message, constraint) from error

    def _row(self, item: ChangedRecord) -> list[Any]:
        found = self._values(item.record)
        row = [found] if self._is_single else [*found]
        for place, adapt in self._adapters:
            value = row[place]
            row[place] = adapt(value)
        row.append(item.version)
        return row

    def _fill(self, copy: psycopg.Copy, items: Iterator[ChangedRecord]) -> bool:
        """Write rows up to the size of one statement; whether there may be more."""
        size = 0
        for item in items:
            row = self._row(item)
            before = size
            size += sum(len(value) for value in row if isinstance(value, str | bytes))
            if size - before > sizes.CLOSER_LOOK:  # the server would name no record
                body = self._codec.encode(item.record)
                self._codec.check_size(item.record, item.key, body)
            copy.write_row(row)
            if size >= MOST_BYTES:
                return True
        return False


def _adapter(field: FieldSpec) -> Callable[[Any], Any] | None:
    """Conversion of a value before the driver writes it; None if it needs none."""
    if field.enum is not None:
        return lambda value: None if value is None else value.value
    if field.kind.is_json and field.optional:
        return lambda value: None if value is None else _JSONB + dump_json(value)
    if field.kind.is_json:
        return lambda value: _JSONB + dump_json(value)
    return None


def _copied_type(field: FieldSpec) -> str:
    """Type by which the driver writes a value; JSON is serialised already."""
    return "bytea" if field.kind.is_json else type_text(field)
