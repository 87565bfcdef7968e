"""``migrate json``: a legacy directory is adopted, and copied into PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.contenders.pend_directory import copy_of, pend_directory
from benchmarks.measure import Slice, rate_once
from benchmarks.workbench import Workbench
from pend_storage.backfill import backfill
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore

__all__ = ["adopted", "migrates"]


@contextmanager
def migrates(bench: Workbench, events: int) -> Iterator[Slice]:
    """Both halves, from an untouched directory into an empty database."""
    source = pend_directory(bench, events)

    @contextmanager
    def prepared() -> Iterator[Callable[[], int]]:
        directory = copy_of(bench, source)
        with bench.database() as url, PostgresStore(SCHEMA, url) as target:
            target.migrate()

            def work() -> int:
                with JsonStore(SCHEMA, directory, layouts=LAYOUTS) as store:
                    return backfill(store, target).rows

            yield work
        shutil.rmtree(directory)

    yield rate_once(prepared)


@contextmanager
def adopted(bench: Workbench, events: int) -> Iterator[JsonStore]:
    """A store over a copy of the directory, which it has adopted."""
    directory = copy_of(bench, pend_directory(bench, events))
    with JsonStore(SCHEMA, directory, layouts=LAYOUTS) as store:
        yield store
    shutil.rmtree(directory)
