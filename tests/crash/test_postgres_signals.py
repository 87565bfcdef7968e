"""Ctrl-C at any instant of a commit to PostgreSQL: no lock stays, nothing is lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from pend_storage.errors import StoreUnavailable
from pend_storage.schema import Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Child, Report
from pend_storage.testing.domain import SCHEMA, Tally, a_tally
from pend_storage.testing.interrupts import (
    Interrupter,
    interrupted_at,
    outcome_in_time,
)

SECONDS: Final = 4.0
MANY_SECONDS: Final = 200.0
THREADS: Final = 6
CONNECTIONS: Final = 6


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


def opened(url: str, size: int = CONNECTIONS) -> PostgresStore:
    return PostgresStore(SCHEMA, url, pool_size=size, pool_timeout=5)


def put(store: PostgresStore, name: str, n: int) -> None:
    store.collection(Tally).put(a_tally(name, n))


def add(store: PostgresStore, name: str) -> None:
    """Count up by one, as often as it conflicts."""

    def work(transaction: Any) -> None:
        tallies = transaction.collection(Tally)
        found = tallies.get(name)
        tallies.put(a_tally(name, found.value + 1 if found else 1))

    store.run(work, attempts=1000)


class Counts:
    """Bounds of each counter, from the threads that are not interrupted."""

    def __init__(self) -> None:
        self.least: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, store: PostgresStore, name: str) -> None:
        """One more; where the outcome is not known, perhaps."""
        try:
            add(store, name)
        except StoreUnavailable as error:
            with self._lock:
                self.most[name] += not error.outcome_known
            raise
        with self._lock:
            self.most[name] += 1
            self.least[name] += 1


def all_at_once(store: PostgresStore, count: int) -> str:
    """Outcomes of as many concurrent commits; those beside a lost slot hang."""
    return outcome_in_time(lambda: _at_once(store, count), 20)


def _at_once(store: PostgresStore, count: int) -> None:
    said: list[str] = []

    def call(n: int) -> None:
        said.append(outcome_in_time(partial(put, store, f"once {n}", n)))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["done"] * count, said


def storm(report: Report, url: str, seconds: float) -> None:
    """Commits of the main thread under Ctrl-C, beside threads that share its pool."""
    store, until = opened(url), time.monotonic() + seconds
    counts = Counts()

    def steady(name: str) -> None:
        while time.monotonic() < until:
            try:
                counts.add(store, name)
                counts.add(store, "shared")
            except Exception as error:  # noqa: BLE001 - this is what is looked for
                report(f"{error!r} in {name}, which was not interrupted")
            time.sleep(random.random() * 0.002)

    threads = [threading.Thread(target=steady, args=(f"t{n}",)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    interrupter = Interrupter(0.02)
    attempts, done = 0, 0

    def work() -> None:
        nonlocal done
        add(store, "main")
        done += 1
        store.collection(Tally).get("t0")
        store.collection(Tally).count()

    while time.monotonic() < until:
        attempts += 1
        try:
            interrupter.attempt(work)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            report(f"{error!r} in the thread that was interrupted")
    interrupter.end()
    for thread in threads:
        thread.join()
    counts.least["main"], counts.most["main"] = done, attempts
    report(all_at_once(store, 3 * CONNECTIONS))
    report((interrupter.hits, dict(counts.least), dict(counts.most)))
    store.close()


def run_storm(url: str, seconds: float) -> None:
    with Child(storm, url, seconds) as child:
        outcome = child.finish()
    assert outcome.reports, outcome.errors
    *told, (hits, least, most) = outcome.reports
    assert told == ["done"]
    assert hits > 0
    with opened(url) as store:
        for name, count in least.items():
            found = store.collection(Tally).get(name)
            assert found is not None, name
            assert count <= found.value <= most[name], name


def test_nothing_is_lost_under_ctrl_c_at_any_instant(url: str) -> None:
    run_storm(url, SECONDS)


@pytest.mark.deep
@pytest.mark.timeout(400)
def test_nothing_is_lost_in_minutes_of_it(url: str) -> None:
    run_storm(url, MANY_SECONDS)


def commits(report: Report, url: str) -> None:
    """Ctrl-C at each line of a commit, one after the other, on few connections."""
    with opened(url, size=2) as store:
        put(store, "t", 0)
        line = 1
        while interrupted_at(line, partial(put, store, "t", line)):
            later = outcome_in_time(partial(put, store, "later", line))
            if later != "done":
                report(f"after line {line}: {later}")
                return
            line += 1
        report(all_at_once(store, 8))
        report(line)


def beginnings(report: Report, url: str, step: int) -> None:
    """The same at some lines of a first commit, which connects, with one connection."""
    line = 1
    while True:
        with opened(url, size=1) as store:
            if not interrupted_at(line, partial(put, store, "t", line)):
                break
            later = outcome_in_time(partial(put, store, "later", line))
        if later != "done":
            report(f"after line {line}: {later}")
        line += step
    report(line)


def test_a_commit_that_is_interrupted_at_any_line_stops_nobody(url: str) -> None:
    with Child(commits, url) as child:
        outcome = child.finish()

    *told, lines = outcome.reports
    assert told == ["done"], outcome.errors
    assert lines > 50


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.deep)])
def test_a_first_commit_that_is_interrupted_leaves_room_for_the_next(
    url: str, step: int
) -> None:
    with Child(beginnings, url, step) as child:
        outcome = child.finish()

    *told, lines = outcome.reports
    assert not told, outcome.errors
    # About 700 lines: the texts of the functions are made once in a process, not by each
    # connection, and were most of the lines before.
    assert lines > 500
