"""Comparing every record of a JSON directory with its row in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.contenders import our_verbs
from benchmarks.measure import Slice, rate_once
from benchmarks.record import SCHEMA, accounts, as_document, documents
from benchmarks.workbench import Workbench
from pend_storage.backfill import backfill
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.validation import validate

__all__ = ["streams", "validates"]


@contextmanager
def validates(bench: Workbench, records: int) -> Iterator[Slice]:
    """Our ``validate``: both directions, by value and type, nothing kept from before."""
    with (
        bench.database() as url,
        PostgresStore(SCHEMA, url) as target,
        JsonStore(SCHEMA, bench.directory("validated")) as source,
    ):
        target.migrate()
        our_verbs.fill(source, records)
        backfill(source, target)

        def work() -> int:
            report = validate(source, target)
            assert report.ok, report.divergences[:3]
            return report.checked

        @contextmanager
        def prepared() -> Iterator[Callable[[], int]]:
            yield work

        yield rate_once(prepared)


@contextmanager
def streams(bench: Workbench, records: int) -> Iterator[Slice]:
    """By hand: stream ``jsonb`` rows, ``json.loads``, ``==`` with dicts in memory."""
    kept = documents(records)
    with (
        bench.database() as url,
        psycopg.connect(url) as connection,
    ):
        connection.execute(
            'create table document (id text collate "C" primary key, body jsonb)'
        )
        with connection.cursor().copy("copy document from stdin") as copy:
            for account in accounts(records):
                copy.write_row((account.id, json.dumps(as_document(account))))
        connection.commit()

        def work() -> int:
            checked = 0
            with connection.cursor(name="stream") as cursor:
                cursor.itersize = 2_000
                cursor.execute("select id, body::text from document order by id")
                for key, text in cursor:
                    assert json.loads(text) == kept[key]
                    checked += 1
            return checked

        @contextmanager
        def prepared() -> Iterator[Callable[[], int]]:
            yield work
            connection.rollback()

        yield rate_once(prepared)
