"""Audited stores of the tests, and changes of their entries by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

import pend_storage as ps
from pend_storage._model.audit import AUDIT, AuditEntry
from pend_storage.dualwrite import CODES
from pend_storage.factory import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.records import Row
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores._inmemory.state import ChangedRow
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore


@dataclass(frozen=True)
class Note:
    id: str
    text: str = ""


SCHEMA = Schema([ps.collection("notes", Note, audit="full")])
KEYS = Schema([ps.collection("notes", Note, audit="keys")])

Hand = Callable[[Store, Row, AuditEntry | None], None]
"""Puts another entry in the place of a row, or none, past everything that keeps it."""


def entry_rows(store: Store, action: str | None = None) -> list[Row]:
    """Rows of entries, by id; of one action."""
    return [r for r in store.scan(AUDIT) if action in {None, r.record.action}]


def edited(row: Row) -> AuditEntry:
    """The entry of a row with another author."""
    found: AuditEntry = replace(row.record, by="eve")
    return found


def in_memory(store: Store, row: Row, entry: AuditEntry | None) -> None:
    assert isinstance(store, MemoryStore)
    codec = store.schema[AUDIT].codec
    body = None if entry is None else codec.encode(entry)
    store._state.any_table(AUDIT).set(row.key, row.version, body)


def in_directory(store: Store, row: Row, entry: AuditEntry | None) -> None:
    assert isinstance(store, JsonStore)
    codec = store.schema[AUDIT].codec
    body = None if entry is None else codec.encode(entry)
    change = ChangedRow(AUDIT, row.key, row.version, body)
    store._opened().submit(lambda plan: plan.rewrite([change], ()))


def in_database(url: str) -> Hand:
    def change(store: Store, row: Row, entry: AuditEntry | None) -> None:
        with psycopg.connect(url) as connection:
            connection.execute("alter table audit disable trigger all")
            if entry is None:
                connection.execute("delete from audit where id = %s", [row.key])
            else:
                there = connection.execute(
                    'update audit set "by" = %s, content = %s where id = %s',
                    [entry.by, entry.content, row.key],
                )
                if not there.rowcount:
                    connection.execute(
                        'insert into audit (id, at, action, "by", collection, "key", '
                        "content, salt, commitment, version) "
                        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                        [
                            entry.id, entry.at, entry.action, entry.by,
                            entry.collection, entry.key, entry.content, entry.salt,
                            entry.commitment, row.version,
                        ],
                    )  # fmt: skip
            connection.execute("alter table audit enable trigger all")

    return change


def pair_of(
    schema: Schema, directory: Path, url: str, phase: Phase, **options: Any
) -> DualWriteStore:
    """A pair in a phase."""
    database = PostgresStore(schema, url)
    database.migrate()
    pair = DualWriteStore(
        json=JsonStore(schema, directory), postgres=database, **options
    )
    if phase is not Phase.JSON_ONLY:
        pair.switch(Phase.PARALLEL)
        pair.backfill()
    if phase not in {Phase.JSON_ONLY, Phase.PARALLEL}:
        pair.switch(phase, accept=CODES)
    return pair
