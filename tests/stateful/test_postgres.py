from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import run_machine
from pend_storage.testing.domain import SCHEMA

pytestmark = pytest.mark.timeout(600)

_EMPTY = (
    "truncate berths, ships, cargo, tallies, logs, quarantine, legacy_files, "
    "changes, tombstones; "
    "delete from store_meta where name not in ('postgres.schema', 'postgres.base')"
)


def test_every_answer_and_every_error_is_that_of_the_memory_store(
    new_migrated_database: Callable[[Schema], str],
) -> None:
    url = new_migrated_database(SCHEMA)

    def make_store(schema: Schema) -> Store:
        with psycopg.connect(url) as connection:
            connection.execute(_EMPTY)
        return PostgresStore(schema, url)

    def reopen(store: Store) -> Store:
        store.close()
        return PostgresStore(SCHEMA, url)

    run_machine(make_store, reopen=reopen)
