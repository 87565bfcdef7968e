from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import run_machine
from pend_storage.testing.bridge import BridgedStore
from pend_storage.testing.crowd import CrowdedStore
from pend_storage.testing.databases import Databases

pytestmark = pytest.mark.timeout(900)

# Real commits are slower than those in memory.
A_QUARTER = settings(max_examples=max(1, settings().max_examples // 4))

STORES_OF_ONE_EXAMPLE = 2


def alone(store: Store) -> Store:
    return store


COMPANY: list[Callable[[Store], Store]] = [alone, BridgedStore, CrowdedStore]


@pytest.mark.parametrize("company", COMPANY)
def test_every_answer_and_every_error_is_that_of_the_memory_store(
    company: Callable[[Store], Store],
    databases: Databases,
) -> None:
    lent: list[str] = []
    urls: dict[int, str] = {}

    def make_store(schema: Schema) -> Store:
        if len(lent) == STORES_OF_ONE_EXAMPLE:
            while lent:
                databases.give_back(lent.pop())
        lent.append(databases.lend(schema))
        return open_store(schema, lent[-1])

    def open_store(schema: Schema, url: str) -> Store:
        store = company(PostgresStore(schema, url))
        urls[id(store)] = url
        return store

    def reopen(store: Store) -> Store:
        store.close()
        return open_store(store.schema, urls[id(store)])

    run_machine(make_store, reopen=reopen, settings=A_QUARTER)
