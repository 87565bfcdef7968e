"""Batch sizes of synchronous replication to the secondary."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from pend_storage.dualwrite import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.records import ChangedRecord
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.faults import SlowStore

from .processes import living, wait_until
from .test_relay import Watched

MB = 1_000_000


def a_pair(secondary: SlowStore | Watched, **settings: Any) -> DualWriteStore:
    chosen: dict[str, Any] = {
        "relay_interval": None,
        "secondary_timeout": None,
        "compare": 0.0,
    }
    store = DualWriteStore(
        json=MemoryStore(SCHEMA), postgres=secondary, **{**chosen, **settings}
    )
    store.switch(Phase.PARALLEL)
    return store


def texts(calls: Sequence[Sequence[ChangedRecord]]) -> list[int]:
    return [sum(len(item.record.text) for item in call) for call in calls]


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_many_large_commits_at_once_go_in_calls_that_are_bounded(
    timeout: float | None,
) -> None:
    secondary = Watched(MemoryStore(SCHEMA))
    store = a_pair(secondary, secondary_timeout=timeout)
    secondary.sent.clear()
    secondary.most_text = 17 * MB
    puts = [[SCHEMA.put(Log, a_log(f"{n}", "x" * MB))] for n in range(40)]

    store.commit_each([SCHEMA.batch(put) for put in puts])

    assert max(texts(secondary.sent)) <= 17 * MB
    assert len(secondary.sent) < 10
    assert secondary.inner.collection(Log).count() == 40
    store.close()


def test_what_waits_is_bounded_in_bytes_and_the_rest_is_the_relays() -> None:
    slow = SlowStore(MemoryStore(SCHEMA))
    store = a_pair(slow, secondary_timeout=0)
    follower = store._replicator
    with slow.holding("apply") as gate:
        store.collection(Log).put(a_log("first"))
        gate.wait_until_reached()
        for n in range(100):
            store.collection(Log).put(a_log(f"{n}", "x" * MB))
        assert 60 * MB < follower._waiting_bytes < 70 * MB

    wait_until(lambda: not follower._waiting)
    assert follower._waiting_bytes == 0
    store.catch_up()
    assert living(slow.inner) == living(store._pair.json)
    store.close()


def test_calls_that_are_not_answered_are_made_smaller() -> None:
    secondary = Watched(MemoryStore(SCHEMA))
    store = a_pair(secondary)
    secondary.most_records = 100
    puts = [[SCHEMA.put(Log, a_log(f"{n:03}"))] for n in range(400)]
    secondary.sent.clear()

    for _ in range(4):
        store.commit_each([SCHEMA.batch(put) for put in puts])
        store._breaker.succeeded(0.0)

    sizes = list(map(len, secondary.sent))
    assert sizes[:3] == [400, 200, 100]
    assert max(sizes[3:]) < 120
    store.catch_up()
    assert living(secondary.inner) == living(store._pair.json)
    store.close()


def test_callers_of_large_and_small_records_all_get_through() -> None:
    secondary = Watched(MemoryStore(SCHEMA))
    store = a_pair(secondary, secondary_timeout=30.0)
    secondary.sent.clear()

    def work(me: int) -> None:
        for n in range(20):
            store.collection(Log).put(a_log(f"{me}-{n}", "x" * (MB if me % 2 else 1)))

    workers = [threading.Thread(target=work, args=(me,)) for me in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert secondary.inner.collection(Log).count() == 160
    assert max(texts(secondary.sent)) <= 17 * MB
    store.close()
