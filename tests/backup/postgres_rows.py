"""What a PostgreSQL store holds, in the terms of backups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from pend_storage._model.records import Change
from pend_storage._model.snapshots import (
    SnapshotReader,
    StoredChange,
    StoredRecord,
    StoredRow,
)
from pend_storage.store import Store
from pend_storage.testing.domain import (
    SCHEMA,
    a_berth,
    a_cargo,
    a_ship,
    a_tally,
)

__all__ = [
    "catalogue",
    "content",
    "fill",
    "loaded_from",
    "rows_in",
    "stored",
]


def fill(store: Store, most: int = 20) -> None:
    """Rows of every collection with constraints, some deleted again."""
    for number in range(most):
        store.collection(type(a_berth())).put(
            a_berth(f"b{number:03}", number=number, neighbour_id=f"b{number:03}")
        )
        ship = a_ship(
            f"s{number:03}",
            berth_id=f"b{number:03}",
            call_sign=f"CALL{number}",
            speed=1e23 if number % 2 else 0.1,
            extra={'a \\ " \t é': [number, 1e23, None]},
            seal=bytes(range(number)),
            remark='"\\N" \t\n ü',
        )
        store.collection(type(ship)).put(ship)
        store.collection(type(a_cargo())).put(
            a_cargo(f"c{number:03}", ship_id=f"s{number:03}", tonnes=number)
        )
        store.collection(type(a_tally())).put(a_tally(f"t{number:03}", number))
    for number in range(0, most, 3):
        store.collection(type(a_tally())).delete(f"t{number:03}")


def content(store: Store) -> dict[tuple[str, str], tuple[int, Any]]:
    """All rows and tombstones of a store."""
    return {
        (spec.name, row.key): (row.version, row.record)
        for spec in store.schema
        for row in store.scan(spec.name, deleted=True)
    }


def rows_in(snapshot: SnapshotReader, store: Store) -> list[tuple[str, StoredRow]]:
    """All rows of a snapshot, grouped by collection."""
    return [
        (spec.name, row) for spec in store.schema for row in snapshot.rows(spec.name)
    ]


def loaded_from(rows: Iterable[tuple[str, StoredRow]]) -> dict[Any, Any]:
    """Rows of a snapshot as :func:`content` gives them."""
    return {
        (name, row.key): (
            row.version,
            None if row.body is None else SCHEMA[name].codec.decode(row.body),
        )
        for name, row in rows
    }


def stored(changes: Iterable[Change]) -> Iterator[StoredChange]:
    """Entries of a change log with encoded records."""
    for change in changes:
        yield StoredChange(
            sequence=change.sequence,
            epoch=change.epoch,
            at=change.at,
            token=change.token,
            records=tuple(
                StoredRecord(
                    item.collection,
                    item.key,
                    item.version,
                    None
                    if item.record is None
                    else SCHEMA[item.collection].codec.encode(item.record),
                )
                for item in change.records
            ),
        )


def catalogue(url: str) -> list[Any]:
    """All indexes and constraints of a database, with their definitions."""
    with psycopg.connect(url) as connection:
        return [
            *connection.execute(
                "select indexrelid::regclass::text, pg_get_indexdef(indexrelid), "
                "indisvalid from pg_index join pg_class on oid = indrelid "
                "where relnamespace = 'public'::regnamespace order by 1"
            ),
            *connection.execute(
                "select conrelid::regclass::text, conname, pg_get_constraintdef(oid), "
                "convalidated from pg_constraint "
                "where connamespace = 'public'::regnamespace order by 1, 2"
            ),
        ]
