"""Files put together from pieces: the same bytes as writing everything anew."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pend_storage.stores.json import JsonStore
from pend_storage.stores.json._legacy_sync.render import Run, _runs
from pend_storage.testing.domain import SCHEMA, Log, a_log


@pytest.mark.parametrize(
    ("out", "left"),
    [
        ([], [(2, 8)]),
        ([2], [(3, 8)]),
        ([7], [(2, 7)]),
        ([4, 5], [(2, 4), (6, 8)]),
        ([0, 1, 8, 9], [(2, 8)]),
        ([2, 3, 4, 5, 6, 7], []),
    ],
)
def test_a_run_is_what_is_left_between_places(
    out: list[int], left: list[tuple[int, int]]
) -> None:
    assert list(_runs(2, 8, out)) == [Run(*pair) for pair in left]


@pytest.mark.parametrize("seed", range(8))
def test_any_changes_give_the_file_that_writing_it_anew_gives(
    seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    changed, fresh = tmp_path / "changed", tmp_path / "fresh"
    with JsonStore(SCHEMA, changed, checkpoint_interval=None) as store:
        logs = store.collection(Log)
        for _ in range(6):
            for _ in range(chance.choice([1, 3, 40, 200])):
                key = f"{chance.randrange(120):03}"
                if chance.random() < 0.4:
                    logs.delete(key)
                else:
                    logs.put(a_log(key, "é" * chance.randrange(30)))
            store.checkpoint()
        records = list(logs.scan())
    with JsonStore(SCHEMA, fresh, checkpoint_interval=None) as store:
        store.collection(Log).put_many(records)

    assert (changed / "logs.json").read_bytes() == (fresh / "logs.json").read_bytes()
