"""Commits of one unique value wait for each other in turn: there is no deadlock."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

import psycopg
import pytest

from pend_storage.errors import UniqueViolation
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.domain import SCHEMA, a_log, a_ship

from .activity import UNDER_TEST, wait_until, waiting


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


def put_one(store: PostgresStore, key: str) -> None:
    store.collection("ships").put(a_ship(key, call_sign="S1"))


def put_in_transaction(store: PostgresStore, key: str) -> None:
    with store.transaction() as tx:
        tx.collection("ships").put(a_ship(key, call_sign="S1"))
        tx.collection("logs").put(a_log(key))


def deadlocks(url: str) -> int:
    """Deadlocks that the server has found in this database; counted at a connection's end."""
    with psycopg.connect(url) as connection:
        ask = (
            "select deadlocks from pg_stat_database where datname = current_database()"
        )
        found = connection.execute(ask).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("second", [put_one, put_in_transaction])
@pytest.mark.parametrize("first", [put_one, put_in_transaction])
def test_two_who_waited_for_one_unique_value_do_not_wait_for_each_other(
    url: str,
    first: Callable[[PostgresStore, str], None],
    second: Callable[[PostgresStore, str], None],
) -> None:
    before = deadlocks(url)
    refused: list[int] = []
    stores = [PostgresStore(SCHEMA, url, application_name=UNDER_TEST) for _ in range(2)]
    stores[0].collection("ships").put(a_ship("other", call_sign="S0"))

    def claim(me: int) -> None:
        try:
            (first, second)[me](stores[me], f"{me}")
        except UniqueViolation:
            refused.append(me)

    workers = [Thread(target=claim, args=(me,)) for me in range(2)]
    with psycopg.connect(url) as third:
        third.execute("update ships set call_sign = 'S1' where id = 'other'")
        for worker in workers:
            worker.start()
        wait_until(lambda: len(waiting(url)) == len(workers), "the wait for a lock")
        third.rollback()
    for worker in workers:
        worker.join()
    for store in stores:
        store.close()

    assert len(refused) == 1
    assert deadlocks(url) == before
