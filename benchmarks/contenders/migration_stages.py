"""Stages of a migration, timed one by one.

In a migration some of them overlap, so the sum is a little more than the whole.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.contenders.pend_directory import copy_of, pend_directory
from benchmarks.workbench import Workbench
from pend_storage._layouts.layout import Entry
from pend_storage.backfill import backfill
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.records import Put
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore

__all__ = ["stages"]


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started


def stages(bench: Workbench, events: int) -> dict[str, float]:
    """Seconds by stage of one migration."""
    source = pend_directory(bench, events)
    raws = {
        layout: path.read_bytes()
        for layout in LAYOUTS
        if (path := source / layout.file).exists()
    }
    clock, wholes = _Clock(), _Clock()
    with clock.time("parse"):
        for raw in raws.values():
            _parse(raw)
    with wholes.time("entries"):
        entries = [
            entry
            for layout, raw in raws.items()
            for entry in layout.parse(SCHEMA, raw).entries
        ]
    puts = [put for entry in entries for put in _puts(entry)]
    with clock.time("check"):
        _each(puts, lambda put: SCHEMA[put.collection].codec.check(put.record))
    with clock.time("encode"):
        _each(puts, lambda put: SCHEMA[put.collection].codec.encode(put.record))
    del entries, puts
    _both_halves(bench, events, clock, wholes)
    return _taken_apart(clock.seconds, wholes.seconds)


def _both_halves(bench: Workbench, events: int, clock: _Clock, wholes: _Clock) -> None:
    directory = copy_of(bench, pend_directory(bench, events))
    with bench.database() as url, PostgresStore(SCHEMA, url) as target:
        target.migrate()
        with wholes.time("adoption"):
            store = JsonStore(SCHEMA, directory, layouts=LAYOUTS)
        with store:
            with clock.time("decode"):
                for spec in SCHEMA:
                    for _ in store.scan(spec.name, deleted=True):
                        pass
            with wholes.time("backfill"):
                backfill(store, target)
    shutil.rmtree(directory)


def _taken_apart(parts: dict[str, float], wholes: dict[str, float]) -> dict[str, float]:
    known = parts["parse"] + parts["check"] + parts["encode"]
    return {
        "parse (json.loads)": parts["parse"],
        "map the records": max(0.0, wholes["entries"] - known),
        "check the fields": parts["check"],
        "encode the records": parts["encode"],
        "plan, journal, snapshot": max(0.0, wholes["adoption"] - wholes["entries"]),
        "decode for PostgreSQL": parts["decode"],
        "apply in PostgreSQL": max(0.0, wholes["backfill"] - parts["decode"]),
    }


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:  # an irregular file; the layouts find another way
        return None


def _puts(entry: Entry) -> list[Put]:
    return [entry.home, *entry.derived]


def _each(puts: list[Put], do: Callable[[Put], object]) -> None:
    for put in puts:
        do(put)
