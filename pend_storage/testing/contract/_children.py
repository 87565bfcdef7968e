"""Worker functions of the contract's threads and child processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from time import sleep
from typing import Any

from pend_storage._transaction import Transaction
from pend_storage.errors import StaleEpoch
from pend_storage.store import Store
from pend_storage.testing.contract._harness import commit
from pend_storage.testing.domain import Log, Tally, a_log, a_tally

__all__ = [
    "add",
    "commit_before_and_after",
    "get",
    "increment",
    "write_pairs",
    "write_until_stale",
]

Report = Callable[[Any], None]
Opener = Callable[..., Store]


def add(tx: Transaction, name: str, amount: int = 1) -> int:
    """Add to a counter, which begins at 0; return its former value."""
    tallies = tx.collection(Tally)
    before = tallies.get(name) or a_tally(name)
    tallies.put(replace(before, value=before.value + amount))
    return before.value


def get(report: Report, opener: Opener, args: tuple[Any, ...], name: str) -> None:
    """Report the value of a counter."""
    with opener(*args) as store:
        tally = store.collection(Tally).get(name)
        report(tally and tally.value)


def increment(
    report: Report, opener: Opener, args: tuple[Any, ...], name: str, times: int
) -> None:
    """Increment a counter a number of times; report each commit."""
    with opener(*args) as store:
        for n in range(times):
            store.run(lambda tx: add(tx, name), attempts=1000)
            report(n)


def write_pairs(report: Report, opener: Opener, args: tuple[Any, ...]) -> None:
    """Write two counters in one commit, forever; report each acknowledged commit."""
    with opener(*args) as store:
        for n in count(1):
            commit(store, a_tally("x", n), a_tally("y", n))
            report(n)


def write_until_stale(
    report: Report, opener: Opener, args: tuple[Any, ...], epoch: int
) -> None:
    """Write records at an epoch until it is over; report each acknowledged commit."""
    with opener(*args) as store:
        try:
            for n in count():
                commit(store, a_log(f"{n}"), epoch=epoch)
                report(f"{n}")
        except StaleEpoch:
            report("stale")


def commit_before_and_after(
    report: Report, opener: Opener, args: tuple[Any, ...]
) -> None:
    """Commit before and after the log ``go`` is written; report both versions."""
    with opener(*args) as store:
        report(commit(store, a_log("before"))[0])
        while store.collection(Log).get("go") is None:
            sleep(0.01)
        report(commit(store, a_log("after"))[0])
