"""The change log of a JSON store, and how long it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pend_storage.errors import (
    ChangesExpired,
)
from pend_storage.stores.json import JsonStore, Retention
from pend_storage.testing.domain import SCHEMA, Tally, a_log, a_tally


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_store(directory: Path) -> Iterator[Callable[..., JsonStore]]:
    opened: list[JsonStore] = []

    def open_it(**settings: Any) -> JsonStore:
        settings = {"checkpoint_interval": None} | settings
        opened.append(JsonStore(SCHEMA, directory, **settings))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def test_changes_are_served_across_segments_and_from_memory_alike(
    open_store: Callable[..., JsonStore],
) -> None:
    here = open_store()
    for n in range(9):
        here.collection(Tally).put(a_tally("t", n))
        if n % 3 == 2:
            here.compact()
    fresh = open_store()

    for store in (here, fresh):
        sequences = [change.sequence for change in store.changes()]
        assert len(sequences) == 9
        assert sequences == sorted(sequences)
        for place, sequence in enumerate(sequences):
            rest = [change.sequence for change in store.changes(sequence)]
            assert rest == sequences[place + 1 :]
    assert list(here.changes()) == list(fresh.changes())


def test_changes_that_are_not_kept_any_more_are_refused_with_what_is(
    open_store: Callable[..., JsonStore],
) -> None:
    here = open_store(retain=Retention(seconds=0))
    for n in range(3):
        here.collection(Tally).put(a_tally("t", n))
        here.checkpoint()
        here.checkpoint()  # deletes the replaced file, whose state is kept until then
        here.compact()
    here.collection(Tally).put(a_tally("t", 3))
    fresh = open_store()

    with pytest.raises(ChangesExpired) as caught:
        list(fresh.changes(0))

    rest = list(fresh.changes(caught.value.oldest))
    assert [change.records[0].record.value for change in rest] == [3]


def test_a_log_larger_than_what_is_retained_loses_its_oldest_segments(
    open_store: Callable[..., JsonStore], directory: Path
) -> None:
    here = open_store(retain=Retention(size=3_000))
    for n in range(10):
        here.collection("logs").put(a_log("l", f"{n}" * 1_000))
        here.checkpoint()
        here.checkpoint()  # deletes the replaced file, whose state is kept until then
        here.compact()

    left = sorted((directory / ".pend-storage").glob("journal-*"))
    assert 2 <= len(left) <= 5
    assert len(list((directory / ".pend-storage").glob("snapshot-*"))) == 1
