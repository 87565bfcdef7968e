"""Reads compared while a writer is at work; how many differences are reported."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any, Final

from benchmarks.contenders.pair import dual_store, stores
from benchmarks.record import Account, accounts, revised
from benchmarks.results import Figure
from benchmarks.workbench import Workbench
from pend_storage.dualwrite import DualWriteStore
from pend_storage.phases import Phase
from pend_storage.store import Store

__all__ = ["compare_ours", "run", "writing"]

_READS: Final = 40_000
_QUICK_READS: Final = 1_000
_KEYS: Final = 20
_BEHIND: Final = 500
"""Reads that may wait to be compared: half of what there is room for."""


def run(bench: Workbench, tell: Callable[[str], None]) -> Sequence[Figure]:
    """The schedule for everybody, over one pair of stores, with one writer."""
    reads = _QUICK_READS if bench.plan.quick else _READS
    figures = []
    with (
        stores(bench) as (json, postgres),
        dual_store(json, postgres, Phase.PARALLEL, compare=1.0) as store,
    ):
        contenders: dict[str, Callable[[], int]] = {
            "laboratory": lambda: _laboratory(json, postgres, reads),
            "LaunchDarkly": lambda: _launchdarkly(json, postgres, reads),
            _OURS: lambda: compare_ours(store, reads),
        }
        for name, compare in contenders.items():
            tell(name)
            with writing(store) as written:
                alarms = compare()
                writes = written()
            figures.append(
                Figure(
                    what=f"{name}: false alarms",
                    value=float(alarms),
                    aim=0.0 if name == _OURS else None,
                    note=f"{alarms / reads:.2%} of {reads:,}, beside {writes:,} writes",
                )
            )
    return figures


_OURS: Final = "DualWriteStore"


@contextmanager
def writing(store: DualWriteStore) -> Iterator[Callable[[], int]]:
    """A thread that writes without a pause; returns a counter of its writes."""
    everyone, collection = accounts(_KEYS), store.collection(Account)
    collection.put_many(everyone)
    stop = threading.Event()
    count = 0

    def write() -> None:
        nonlocal count
        for account in cycle(everyone):
            if stop.is_set():
                return
            count += 1
            collection.put(revised(account, count))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: count
    finally:
        stop.set()
        thread.join()


def _keys(reads: int) -> Iterator[str]:
    return islice(cycle(account.id for account in accounts(_KEYS)), reads)


def compare_ours(store: DualWriteStore, reads: int) -> int:
    """Reads of the pair, all of them compared; gives how many certainly differ."""
    collection = store.collection(Account)
    before = store.compared()
    for key in _keys(reads):
        while store.compared().sampled - _settled(store) >= _BEHIND:
            time.sleep(0.001)  # what does not fit in is dropped, and would not count
        collection.get(key)
    while _settled(store) < store.compared().sampled:
        time.sleep(0.001)
    after = store.compared()
    assert after.compared - before.compared == reads, after
    return after.confirmed - before.confirmed


def _settled(store: DualWriteStore) -> int:
    found = store.compared()
    return found.compared + found.skipped + found.dropped


def _laboratory(json: Store, postgres: Store, reads: int) -> int:
    from laboratory import Experiment  # noqa: PLC0415

    alarms = 0

    class Counting(Experiment):  # type: ignore[misc]  # it has no types
        def publish(self, result: Any) -> None:
            nonlocal alarms
            alarms += not result.match

    here, there = json.collection(Account), postgres.collection(Account)
    for key in _keys(reads):
        experiment = Counting()
        experiment.control(here.get, args=[key])
        experiment.candidate(there.get, args=[key])
        experiment.conduct()
    return alarms


def _launchdarkly(json: Store, postgres: Store, reads: int) -> int:
    from benchmarks.contenders.launchdarkly import Stage, migrator  # noqa: PLC0415

    alarms = 0

    def compare(left: Account, right: Account) -> bool:
        nonlocal alarms
        alarms += left != right
        return left == right

    gets = (json.collection(Account).get, postgres.collection(Account).get)
    with migrator(Stage.SHADOW, read=gets, write=gets, compare=compare) as calls:
        for key in _keys(reads):
            assert calls.read(key).is_success()
    return alarms
