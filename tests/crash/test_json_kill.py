"""Processes that use a JSON store and are killed: nothing acknowledged is ever lost."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest

from pend_storage import crashpoints
from pend_storage.stores.json import JsonStore
from pend_storage.testing import Report, kill_at_random, run_until_crash
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_tally

KILLS = 20
MANY_KILLS = 200


def count_up(report: Report, directory: Path, name: str) -> None:
    """Count for ever, two records a commit; now and then tidy up."""
    with JsonStore(SCHEMA, directory, checkpoint_interval=0.01) as store:
        tallies = store.collection(Tally)
        first = tallies.get(name)
        start = first.value + 1 if first else 1
        report(start - 1)
        for n in itertools.count(start):
            tallies.put_many([a_tally(name, n), a_tally(f"{name}-twin", n)])
            report(n)
            if n % 7 == 0:
                store.collection(Log).put(Log(id=f"{name}-{n}", text="x" * (n % 50)))
            if n % 50 == 0:
                store.compact()


def use_everything(report: Report, directory: Path) -> None:
    """Pass every crash point, again and again."""
    with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
        for n in range(20):
            store.collection(Tally).put(a_tally("t", n))
            report(n)
            edit(directory / "logs.json", f"log {n}")
            store.checkpoint()
            store.compact()


def edit(path: Path, text: str) -> None:
    """Change a file as old code does, a while ago."""
    path.write_text(json.dumps({"l": {"id": "l", "text": text}}))
    os.utime(path, (1_000_000_000, 1_000_000_000))


def value_of(directory: Path, name: str) -> int:
    with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
        found = store.collection(Tally).get(name)
        twin = store.collection(Tally).get(f"{name}-twin")
    assert (found and found.value) == (twin and twin.value), "half of a commit"
    return found.value if found else 0


def survive(directory: Path, kills: int) -> None:
    for seed in range(kills):
        outcome = kill_at_random(count_up, directory, "n", seed=seed, within=0.15)

        acknowledged = outcome.reports[-1]
        assert value_of(directory, "n") in {acknowledged, acknowledged + 1}
        shown = json.loads((directory / "tallies.json").read_text())
        assert shown["n"]["value"] == shown["n-twin"]["value"]


@pytest.mark.slow
def test_no_kill_at_a_random_moment_loses_what_was_acknowledged(tmp_path: Path) -> None:
    survive(tmp_path / "data", KILLS)


@pytest.mark.deep
@pytest.mark.timeout(1200)
def test_two_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    survive(tmp_path / "data", MANY_KILLS)


POINTS = sorted(
    set(crashpoints.points("json."))
    # A first opening, and a restore: they have tests of their own.
    - {"json.adopted", "json.adoption-in-place", "json.load-written"}
)


@pytest.mark.parametrize("skip", [0, 3])
@pytest.mark.parametrize("point", POINTS)
def test_the_next_process_finds_all_after_a_death_at(
    point: str, skip: int, tmp_path: Path
) -> None:
    directory = tmp_path / "data"

    outcome = run_until_crash(use_everything, directory, point=point, skip=skip)

    acknowledged = outcome.reports[-1] if outcome.reports else -1
    with JsonStore(SCHEMA, directory, checkpoint_interval=None) as store:
        found = store.collection(Tally).get("t")
        value = -1 if found is None else found.value
        assert value in {acknowledged, acknowledged + 1}
        store.collection(Tally).put(a_tally("t", 1000))
        store.checkpoint()
        store.compact()
        shown = json.loads((directory / "tallies.json").read_text())
        assert shown["t"]["value"] == 1000
        written = [r for change in store.changes() for r in change.records]
        values = [r.record.value for r in written if r.collection == "tallies"]
        assert values == [*range(value + 1), 1000]
        texts = [r.record.text for r in written if r.collection == "logs"]
        assert texts == [f"log {n}" for n in range(len(texts))]
    leavings = [
        p.name for p in directory.rglob("*") if p.name.endswith(("new", "next"))
    ]
    assert leavings == []


def open_first(report: Report, directory: Path) -> None:
    with JsonStore(SCHEMA, directory, checkpoint_interval=None):
        report("open")


@pytest.mark.parametrize("point", ["json.adopted", "json.adoption-in-place"])
def test_a_death_while_files_are_adopted_leaves_them_to_the_next(
    point: str, tmp_path: Path
) -> None:
    file = tmp_path / "tallies.json"
    file.write_text('{\n  "t": {"name": "t", "value": 7}\n}\n')

    run_until_crash(open_first, tmp_path, point=point)

    with JsonStore(SCHEMA, tmp_path, checkpoint_interval=None) as store:
        assert store.collection(Tally).versioned("t") == (a_tally("t", 7), 1)
        assert [one.read for one in store.adoption_report()] == [1]
    assert not (tmp_path / ".pend-storage.new").exists()
