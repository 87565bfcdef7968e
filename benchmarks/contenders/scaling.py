"""Our stores with more and more records, and with larger and larger ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal, TypeAlias

import psycopg

from benchmarks.case import Missing
from benchmarks.contenders import our_verbs
from benchmarks.measure import Operation, Slice, rate_of
from benchmarks.record import SCHEMA, account
from benchmarks.workbench import Workbench
from pend_storage.backfill import backfill
from pend_storage.records import ChangedRecord
from pend_storage.schema import Schema, collection
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore

__all__ = [
    "Verb",
    "json_by_count",
    "json_by_size",
    "postgres_by_count",
    "postgres_by_size",
]

Verb: TypeAlias = Literal["get", "put"]
_VERBS: Final[dict[Verb, Callable[[Store, int], Operation]]] = {
    "get": our_verbs.get,
    "put": our_verbs.put,
}
_CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A record as large as its text."""

    id: str
    body: str


_NOTES: Final = Schema([collection("notes", Note)])


def _directory(bench: Workbench, records: int) -> Path:
    """A JSON directory with so many accounts, filled once for all that use it."""
    name = f"accounts-{records}"
    path, filled = bench.kept(name)
    if not filled:
        with JsonStore(SCHEMA, path, checkpoint_interval=None) as store:
            numbers = iter(range(records))
            while chunk := list(islice(numbers, _CHUNK)):
                store.apply([_changed(number) for number in chunk])
        bench.fill(name)
    return path


def _changed(number: int) -> ChangedRecord:
    record = account(number)
    return ChangedRecord("accounts", record.id, number + 1, record)


def _fit(wanted: int, records: int) -> None:
    if wanted > records:
        raise Missing("more records than a quick run has")


@contextmanager
def json_by_count(
    bench: Workbench, most: int, *, records: int, verb: Verb
) -> Iterator[Slice]:
    """JsonStore with so many records."""
    _fit(records, most)
    with JsonStore(SCHEMA, _directory(bench, records)) as store:
        yield rate_of(_VERBS[verb](store, records), bench.plan.seconds)


@contextmanager
def postgres_by_count(
    bench: Workbench, most: int, *, records: int, verb: Verb
) -> Iterator[Slice]:
    """PostgresStore with so many records, which come by COPY."""
    _fit(records, most)
    with bench.database() as url, PostgresStore(SCHEMA, url) as store:
        store.migrate()
        with JsonStore(SCHEMA, _directory(bench, records)) as source:
            backfill(source, store)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("vacuum analyze")
        yield rate_of(_VERBS[verb](store, records), bench.plan.seconds)


def _notes(records: int, size: int) -> Sequence[Note]:
    """Text that does not get smaller by compression."""
    return [
        Note(id=f"n{number:04d}", body=_text(number, size)) for number in range(records)
    ]


def _text(number: int, size: int) -> str:
    return hashlib.shake_128(b"%d" % number).hexdigest(size // 2)


def _by_size(
    store: Store, bench: Workbench, records: int, size: int, verb: Verb
) -> Slice:
    before, after = _notes(records, size), _notes(records, size + 2)
    notes = store.collection(Note)
    notes.put_many(before)
    news = [*after, *before]

    def get(number: int) -> object:
        return notes.get(before[number % records].id)

    def put(number: int) -> object:
        return notes.put(news[number % len(news)])

    return rate_of(get if verb == "get" else put, bench.plan.seconds)


@contextmanager
def json_by_size(
    bench: Workbench, records: int, *, size: int, verb: Verb
) -> Iterator[Slice]:
    """JsonStore with records of so many bytes."""
    with JsonStore(_NOTES, bench.directory("notes")) as store:
        yield _by_size(store, bench, records, size, verb)


@contextmanager
def postgres_by_size(
    bench: Workbench, records: int, *, size: int, verb: Verb
) -> Iterator[Slice]:
    """PostgresStore with records of so many bytes."""
    with bench.database() as url, PostgresStore(_NOTES, url) as store:
        store.migrate()
        yield _by_size(store, bench, records, size, verb)
