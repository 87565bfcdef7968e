"""From nothing to the first answer: opening a JSON directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.contenders.pend_directory import (
    copy_of,
    legacy_files,
    pend_directory,
)
from benchmarks.measure import Slice, rate_once
from benchmarks.workbench import Workbench
from pend_storage.pend import LAYOUTS, SCHEMA, BlockchainEvent
from pend_storage.stores.json import JsonStore

__all__ = [
    "adopts",
    "loads",
    "opens",
    "opens_and_checkpoints",
    "opens_and_gets",
    "opens_and_puts",
]


def _adopted(bench: Workbench, events: int) -> Path:
    name = f"adopted-{events}"
    path, filled = bench.kept(name)
    if not filled:
        copied = copy_of(bench, pend_directory(bench, events))
        path.rmdir()
        copied.rename(path)
        with JsonStore(SCHEMA, path, layouts=LAYOUTS):
            pass
        bench.fill(name)
    return path


def _open(directory: Path) -> JsonStore:
    return JsonStore(SCHEMA, directory, layouts=LAYOUTS)


def _opened(
    bench: Workbench, events: int, then: Callable[[JsonStore], object]
) -> Slice:
    directory = _adopted(bench, events)

    @contextmanager
    def prepared() -> Iterator[Callable[[], int]]:
        opened: list[JsonStore] = []

        def work() -> int:
            store = _open(directory)
            opened.append(store)
            then(store)
            return 1

        yield work
        for store in opened:
            store.close()

    return rate_once(prepared)


@contextmanager
def opens(bench: Workbench, events: int) -> Iterator[Slice]:
    """The constructor alone, of a directory that was adopted before."""
    yield _opened(bench, events, lambda _: None)


@contextmanager
def opens_and_gets(bench: Workbench, events: int) -> Iterator[Slice]:
    """The constructor and the first ``get``."""
    key = _some_event(_adopted(bench, events)).id

    def then(store: JsonStore) -> None:
        assert store.collection(BlockchainEvent).get(key) is not None

    yield _opened(bench, events, then)


@contextmanager
def opens_and_puts(bench: Workbench, events: int) -> Iterator[Slice]:
    """The constructor and the first ``put`` into the largest collection."""
    event = _some_event(_adopted(bench, events))
    flip = partial(next, _changes(event))
    yield _opened(
        bench, events, lambda store: store.collection(BlockchainEvent).put(flip())
    )


@contextmanager
def opens_and_checkpoints(bench: Workbench, events: int) -> Iterator[Slice]:
    """The constructor, and what it does in the background soon afterwards."""
    yield _opened(bench, events, JsonStore.checkpoint)


def _changes(event: BlockchainEvent) -> Iterator[BlockchainEvent]:
    number = 0
    while True:
        number += 1
        yield replace(event, extra={**event.extra, "benchmark": number})


def _some_event(directory: Path) -> BlockchainEvent:
    with _open(directory) as store:
        return next(store.collection(BlockchainEvent).scan())


@contextmanager
def adopts(bench: Workbench, events: int) -> Iterator[Slice]:
    """The constructor over a directory that it has never seen: every file is parsed."""
    source = pend_directory(bench, events)

    @contextmanager
    def prepared() -> Iterator[Callable[[], int]]:
        directory = copy_of(bench, source)
        opened: list[JsonStore] = []

        def work() -> int:
            opened.append(_open(directory))
            return 1

        yield work
        for store in opened:
            store.close()

    yield rate_once(prepared)


@contextmanager
def loads(bench: Workbench, events: int) -> Iterator[Slice]:
    """``json.load`` of every legacy file, one after the other."""
    files = legacy_files(pend_directory(bench, events))

    def work() -> int:
        for path in files:
            with path.open() as stream:
                json.load(stream)
        return 1

    @contextmanager
    def prepared() -> Iterator[Callable[[], int]]:
        yield work

    yield rate_once(prepared)
