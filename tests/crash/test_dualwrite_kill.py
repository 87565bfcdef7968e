"""Processes on one directory and one database that are killed, or sleep through a switch."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pend_storage import crashpoints
from pend_storage._transaction import Transaction
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Child, Report, run_until_crash
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally
from pend_storage.validation import validate

pytestmark = pytest.mark.timeout(180)
J, PAR, PG, P = Phase
ROUND = (PAR, PG, P, PG, PAR, J)
PREFIXES = ("write.", "relay.", "switch.", "attach.", "detach.", "role.", "backfill.")
POINTS = [name for name in crashpoints.points() if name.startswith(PREFIXES)]


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


def a_pair(directory: Path, url: str, **settings: Any) -> DualWriteStore:
    return DualWriteStore(
        json=JsonStore(SCHEMA, directory),
        postgres=PostgresStore(SCHEMA, url),
        backfill=backfill,
        validate=validate,
        **settings,
    )


def to(pair: DualWriteStore, phase: Phase) -> None:
    pair.switch(phase, accept=CODES)


def go_round(report: Report, directory: Path, url: str) -> None:
    """Pass every instant of the protocol, again and again."""
    with a_pair(directory, url) as pair:
        for n, phase in enumerate(ROUND * 3):
            to(pair, phase)
            pair.collection(Tally).put_many([a_tally("t", n), a_tally("twin", n)])
            report(n)
            pair.collection(Log).put(a_log("gone"))
            pair.collection(Log).delete("gone")
            if phase in {PAR, PG}:
                pair.backfill()
                pair.catch_up()


def assert_alike(pair: DualWriteStore) -> None:
    """In every phase that has two stores, and by the change log alone."""
    for phase in (PAR, PG):
        to(pair, phase)
        pair.catch_up()
        assert pair.validate().ok


@pytest.mark.parametrize("point", POINTS)
def test_the_next_process_goes_on_after_a_death_at(
    point: str, tmp_path: Path, url: str
) -> None:
    die_and_go_on(tmp_path / "data", url, point, 0)


@pytest.mark.deep
@pytest.mark.parametrize("skip", [1, 2, 3, 5])
@pytest.mark.parametrize("point", [p for p in POINTS if p != "role.begun"])
def test_the_next_process_goes_on_after_a_later_death_at(
    point: str, skip: int, tmp_path: Path, url: str
) -> None:
    die_and_go_on(tmp_path / "data", url, point, skip)


def die_and_go_on(directory: Path, url: str, point: str, skip: int) -> None:
    outcome = run_until_crash(go_round, directory, url, point=point, skip=skip)

    acknowledged = outcome.reports[-1] if outcome.reports else -1
    with a_pair(directory, url) as pair:
        pair._router._heartbeat._dead_after = 0.0  # no other process is at work
        found = pair.collection(Tally).get_many(["t", "twin"])
        values = {tally.value for tally in found.values()} or {-1}
        assert len(values) == 1, "half of a commit"
        assert values <= {acknowledged, acknowledged + 1}
        pair.collection(Tally).put(a_tally("t", 1000))
        pair.collection(Log).delete("gone")
        assert_alike(pair)
        assert pair.collection(Log).get("gone") is None
        assert pair.collection(Tally).get("t") == a_tally("t", 1000)


def add(tx: Transaction) -> None:
    tally = tx.collection(Tally).get("t") or a_tally("t")
    tx.collection(Tally).put(replace(tally, value=tally.value + 1))


def add_for_ever(report: Report, directory: Path, url: str) -> None:
    with a_pair(directory, url) as pair:
        for n in itertools.count(1):
            pair.run(add, attempts=1_000)
            report(n)


def survive(directory: Path, url: str, *, writers: int, changes: int) -> None:
    rng = random.Random(changes)
    with a_pair(directory, url) as pair:
        running = [Child(add_for_ever, directory, url) for _ in range(writers)]
        acknowledged = died = 0
        for child in running:
            child.start()
        try:
            for change in range(changes):
                to(pair, rng.choice(list(Phase)))
                if change % 3 == 2:
                    child = running.pop(0)
                    child.wait_for_reports(1)
                    acknowledged += len(child.kill().reports)
                    died += 1
                    running.append(Child(add_for_ever, directory, url))
                    running[-1].start()
        finally:
            ended = [child.kill() for child in running]
        acknowledged += sum(len(outcome.reports) for outcome in ended)

        assert all(outcome.killed for outcome in ended), ended
        assert_alike(pair)
        tally = pair.collection(Tally).get("t")
        assert tally is not None
        # A killed process may have committed once more than it could report; and what
        # it had sent to the server may end after it.
        assert acknowledged <= tally.value <= acknowledged + died + len(ended)


@pytest.mark.slow
def test_writers_that_are_killed_while_phases_change_lose_nothing(
    tmp_path: Path, url: str
) -> None:
    survive(tmp_path / "data", url, writers=2, changes=12)


@pytest.mark.deep
@pytest.mark.timeout(1200)
def test_many_writers_that_are_killed_while_phases_change_lose_nothing(
    tmp_path: Path, url: str
) -> None:
    survive(tmp_path / "data", url, writers=6, changes=120)


def add_slowly(report: Report, directory: Path, url: str) -> None:
    """A process that is stopped under the directory's lock would block all others."""
    json = JsonStore(SCHEMA, directory, checkpoint_interval=None)
    postgres = PostgresStore(SCHEMA, url)
    with DualWriteStore(json=json, postgres=postgres) as pair:
        for n in itertools.count(1):
            pair.run(add, attempts=1_000)
            report(n)
            time.sleep(0.3)


@pytest.mark.parametrize("after", [PG, P])
def test_a_process_that_was_stopped_goes_on_at_the_new_primary(
    tmp_path: Path, url: str, after: Phase
) -> None:
    """With the operating system's own means: it notices nothing of the time between."""
    directory = tmp_path / "data"
    with a_pair(directory, url) as pair, Child(add_slowly, directory, url) as child:
        to(pair, PAR)
        child.wait_for_reports(len(child.wait_for_reports(1)) + 1)
        os.kill(child.pid, signal.SIGSTOP)
        try:
            before = len(child.wait_for_reports(0))
            to(pair, after)
            pair.run(add, attempts=1_000)
        finally:
            os.kill(child.pid, signal.SIGCONT)
        child.wait_for_reports(before + 2)
        done = len(child.kill().reports)

        tally = pair.collection(Tally).get("t")
        assert tally is not None
        assert done + 1 <= tally.value <= done + 2
        if after is P:
            json = pair._pair.json.collection(Tally).get("t")
            assert json is not None
            assert json.value <= before + 1
        assert_alike(pair)
