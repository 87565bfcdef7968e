from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from pend_storage._transaction import Transaction
from pend_storage.errors import Conflict, InvalidQuery, StoreUnavailable
from pend_storage.query import field
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing import FaultyStore
from pend_storage.testing.domain import (
    SCHEMA,
    Log,
    Ship,
    Tally,
    a_log,
    a_ship,
    a_tally,
)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore(SCHEMA))


def test_nothing_is_asked_of_the_store_for_what_was_written_inside(
    store: FaultyStore,
) -> None:
    with store.transaction() as tx:
        tx.collection(Log).put(a_log("a"))
        assert tx.collection(Log).get("a") == a_log("a")

    assert store.calls == {"commit": 1}


def test_a_transaction_that_did_nothing_does_not_commit(store: FaultyStore) -> None:
    with store.transaction() as tx:
        tx.collection(Log).get_many([])

    assert store.calls == {}


def test_one_that_only_read_is_checked(store: FaultyStore) -> None:
    with store.transaction() as tx:
        tx.collection(Log).get("a")

    assert store.calls == {"read": 1, "commit": 1}


def test_one_that_is_committed_twice_writes_once(store: FaultyStore) -> None:
    with store.transaction() as tx:
        tx.collection(Log).put(a_log("a"))
        tx.commit()
        versions = tx.versions

    assert store.calls == {"commit": 1}
    assert tx.versions == versions != {}


def test_one_whose_commit_failed_may_be_committed_again(store: FaultyStore) -> None:
    store.fail("commit")
    tx = store.transaction()
    tx.collection(Log).put(a_log("a"))
    with pytest.raises(StoreUnavailable):
        tx.commit()

    tx.commit()

    assert store.collection(Log).get("a") == a_log("a")


def test_a_version_that_is_known_to_be_another_conflicts_at_once(
    store: FaultyStore,
) -> None:
    version = store.collection(Log).put(a_log("a"))
    tx = store.transaction()
    tx.collection(Log).get("a")

    with pytest.raises(Conflict) as caught:
        tx.collection(Log).put(a_log("a"), if_version=version + 7)

    assert (caught.value.expected, caught.value.actual) == (version + 7, version)


def test_two_demands_that_differ_conflict_at_once(store: FaultyStore) -> None:
    tx = store.transaction()
    tx.collection(Log).put(a_log("a"), if_version=3)

    with pytest.raises(Conflict):
        tx.collection(Log).delete("a", if_version=4)


@pytest.mark.parametrize("version", [0, 5])
def test_what_was_put_blindly_has_no_version_to_demand(
    store: FaultyStore, version: int
) -> None:
    tx = store.transaction()
    tx.collection(Log).put(a_log("a"))

    with pytest.raises(Conflict):
        tx.collection(Log).put(a_log("a", "again"), if_version=version)


def test_after_a_delete_only_version_zero_fits(store: FaultyStore) -> None:
    version = store.collection(Log).put(a_log("a"))
    tx = store.transaction()
    tx.collection(Log).delete("a", if_version=version)

    with pytest.raises(Conflict) as caught:
        tx.collection(Log).put(a_log("a"), if_version=version)
    tx.collection(Log).put(a_log("a", "new"), if_version=0)
    tx.commit()

    assert (caught.value.expected, caught.value.actual) == (version, 0)
    assert store.collection(Log).get("a") == a_log("a", "new")


def test_find_asks_for_as_many_more_as_its_own_writes_may_hide(
    store: FaultyStore,
) -> None:
    store.collection(Log).put_many(a_log(key) for key in "abcdef")
    tx = store.transaction()
    for key in "abc":
        tx.collection(Log).delete(key)

    page = tx.collection(Log).find(limit=2)

    assert [log.id for log in page.items] == ["d", "e"]
    assert page.next is not None
    rest = tx.collection(Log).find(limit=2, after=page.next)
    assert [log.id for log in rest.items] == ["f"]
    assert rest.next is None


def test_get_by_needs_a_unique_field_or_the_key(store: FaultyStore) -> None:
    tx = store.transaction()
    tx.collection(Ship).put(a_ship("s1", call_sign="AB"))

    assert tx.collection(Ship).get_by("call_sign", "AB") is not None
    assert tx.collection(Ship).get_by("id", "s1") is not None
    with pytest.raises(InvalidQuery, match="not declared unique"):
        tx.collection(Ship).get_by("flag", "blue")


def test_what_find_returns_is_checked_and_what_it_did_not_is_not(
    store: FaultyStore,
) -> None:
    store.collection(Tally).put_many([a_tally("x", 1), a_tally("y", 2)])
    tx = store.transaction()
    tx.collection(Tally).find(field("value") == 1)
    tx.collection(Log).put(a_log("a"))

    store.collection(Tally).put(a_tally("y", 3))
    tx.commit()

    assert store.collection(Log).count() == 1


def increment(tx: Transaction) -> int:
    tallies = tx.collection(Tally)
    tally = tallies.get("t") or a_tally("t")
    tallies.put(replace(tally, value=tally.value + 1))
    return tally.value


def conflict() -> Conflict:
    return Conflict(collection="tallies", key="t", expected=1, actual=2)


def test_run_repeats_conflicts_only(store: FaultyStore) -> None:
    store.fail("commit", times=4, error=conflict())

    assert store.run(increment) == 0

    assert store.calls["commit"] == 5
    store.fail("commit")
    with pytest.raises(StoreUnavailable):
        store.run(increment)
    assert store.calls["commit"] == 6


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_run_gives_up_with_the_last_conflict(store: FaultyStore, attempts: int) -> None:
    store.fail("commit", times=None, error=conflict())

    with pytest.raises(Conflict):
        store.run(increment, attempts=attempts)

    assert store.calls["commit"] == attempts


def test_run_pauses_between_attempts_and_never_long(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[Any] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    store.fail("commit", times=30, error=conflict())

    store.run(increment, attempts=31)

    assert len(pauses) == 30
    assert all(0 <= pause <= 0.1 for pause in pauses)
    assert max(pauses[:3]) <= 0.008
