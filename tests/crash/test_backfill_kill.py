"""A backfill whose process is killed: the next one goes on, and nothing is lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from pend_storage import crashpoints
from pend_storage.backfill import BACKFILL_META, backfill
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing import Report, kill_at_random, run_until_crash
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally

NewDatabase = Callable[[Schema], str]
_RECORDS = 1_800


def copy(report: Report, directory: Path, url: str) -> None:
    """One backfill from a directory into a database."""
    with (
        JsonStore(SCHEMA, directory, checkpoint_interval=None) as source,
        PostgresStore(SCHEMA, url) as target,
    ):
        done = backfill(source, target, progress=lambda done, _: report(done))
        report(done.rows)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With records, and the grave of one."""
    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as store:
        logs = store.collection(Log)
        logs.put_many([a_log(f"{n:05}", "x") for n in range(_RECORDS)])
        logs.delete("00003")
        store.collection(Tally).put_many([a_tally(f"{n}") for n in range(50)])
    return tmp_path


def rows(of: Store) -> dict[tuple[str, str], object]:
    return {
        (spec.name, row.key): row
        for spec in of.schema
        for row in of.scan(spec.name, deleted=True)
    }


def is_finished_by_the_next(directory: Path, url: str, *, resumed: bool) -> None:
    """Also what was written and deleted before and behind the cursor meanwhile."""
    with (
        JsonStore(SCHEMA, directory, checkpoint_interval=None) as source,
        PostgresStore(SCHEMA, url) as target,
    ):
        logs = source.collection(Log)
        logs.put_many([a_log("00000", "changed"), a_log("01799", "changed")])
        logs.delete("00001")
        report = backfill(source, target)

        assert rows(target) == rows(source)
        assert report.resumed is resumed
        done = target.meta(BACKFILL_META)
        assert isinstance(done, dict)
        assert done["complete"] is True


CHUNKS = 3 + 1  # of logs, and one of tallies


@pytest.mark.parametrize("skip", range(CHUNKS))
def test_after_each_chunk(
    directory: Path, new_migrated_database: NewDatabase, skip: int
) -> None:
    url = new_migrated_database(SCHEMA)

    outcome = run_until_crash(copy, directory, url, point="backfill.chunk", skip=skip)

    assert outcome.killed
    assert len(outcome.reports) == skip
    is_finished_by_the_next(directory, url, resumed=True)


def test_when_all_is_done(directory: Path, new_migrated_database: NewDatabase) -> None:
    url = new_migrated_database(SCHEMA)

    outcome = run_until_crash(copy, directory, url, point="backfill.complete")

    assert outcome.killed
    is_finished_by_the_next(directory, url, resumed=False)


def test_these_are_all_of_its_points() -> None:
    assert set(crashpoints.points("backfill.")) == {
        "backfill.chunk",
        "backfill.complete",
    }


def test_at_any_moment(directory: Path, new_migrated_database: NewDatabase) -> None:
    url = new_migrated_database(SCHEMA)
    for seed in itertools.islice(itertools.count(), 3):
        kill_at_random(copy, directory, url, seed=seed, within=0.1)
    with (
        JsonStore(SCHEMA, directory, checkpoint_interval=None) as source,
        PostgresStore(SCHEMA, url) as target,
    ):
        backfill(source, target)

        assert rows(target) == rows(source)
