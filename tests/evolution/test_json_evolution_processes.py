"""Migrations that die, and programs of two schemas at the same time: real processes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.errors import SchemaOutOfDate
from pend_storage.stores.json import JsonStore
from pend_storage.testing import Child, Report, run_until_crash
from tests.evolution.test_json_evolution import V1, Note, Renamed, Tagged, schema

RENAMED = schema(Renamed, evolve=ps.Evolve(renamed_from={"body": "text"}))
TAGGED = schema(Tagged)
COUNT = 60


def fill(directory: Path) -> None:
    with JsonStore(V1, directory, checkpoint_interval=None) as store:
        store.collection(Note).put_many(
            [Note(f"{n:02}", f"text {n}") for n in range(5)]
        )


def migrate(_report: Report, directory: Path) -> None:
    JsonStore.migrate(RENAMED, directory, hook=lambda _: None)


@pytest.mark.parametrize(
    ("point", "is_done"),
    [
        ("json.frame-written", None),
        ("json.frame-synced", True),
        ("json.file-written", True),
    ],
)
def test_a_migration_that_dies_is_done_or_is_not(
    tmp_path: Path, point: str, is_done: bool | None
) -> None:
    fill(tmp_path)

    run_until_crash(migrate, tmp_path, point=point)

    try:
        with JsonStore(V1, tmp_path, checkpoint_interval=None) as store:
            assert store.collection(Note).get("03") == Note("03", "text 3")
        assert is_done is not True
        JsonStore.migrate(RENAMED, tmp_path)
    except SchemaOutOfDate:
        assert is_done is not False
    with JsonStore(RENAMED, tmp_path, checkpoint_interval=None) as store:
        assert store.collection(Renamed).count() == 5
        assert store.collection(Renamed).get("03") == Renamed("03", "text 3")
    shown = json.loads((tmp_path / "notes.json").read_bytes())
    assert shown["03"] == {"id": "03", "body": "text 3", "stars": 0}


def rate(report: Report, directory: Path) -> None:
    """The program of before: gives stars."""
    with JsonStore(V1, directory, hook=lambda _: None) as store:
        report("open")
        for _ in range(COUNT):

            def more(tx: ps.Transaction) -> None:
                note = tx.collection(Note).get("00")
                assert note is not None
                tx.collection(Note).put(Note("00", note.text, note.stars + 1))

            store.run(more, attempts=100)
            time.sleep(0.002)


def tag(report: Report, directory: Path) -> None:
    """The program of after: tags, and counts in its tag."""
    with JsonStore(TAGGED, directory, hook=lambda _: None) as store:
        report("open")
        for _ in range(COUNT):

            def more(tx: ps.Transaction) -> None:
                note = tx.collection(Tagged).get("00")
                assert note is not None
                tags = str(int(note.tag or "0") + 1)
                tx.collection(Tagged).put(Tagged("00", note.text, note.stars, tags))

            store.run(more, attempts=100)
            time.sleep(0.002)


def test_programs_of_two_schemas_lose_nothing_of_each_other(tmp_path: Path) -> None:
    fill(tmp_path)

    with Child(rate, tmp_path) as old, Child(tag, tmp_path) as new:
        outcomes = [old.wait(), new.wait()]

    assert [outcome.errors for outcome in outcomes] == ["", ""]
    with JsonStore(TAGGED, tmp_path, checkpoint_interval=None) as store:
        found = store.collection(Tagged).get("00")
    assert found == Tagged("00", "text 0", COUNT, str(COUNT))
    shown = json.loads((tmp_path / "notes.json").read_bytes())
    assert shown["00"] == {
        "id": "00",
        "text": "text 0",
        "stars": COUNT,
        "tag": str(COUNT),
    }
