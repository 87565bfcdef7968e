"""TinyDB as it comes: the whole file is written at every change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tinydb import Query, TinyDB

from benchmarks.measure import Slice, rate_of
from benchmarks.record import as_document, documents, revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["gets", "gets_by_number", "puts", "searches"]


@contextmanager
def _filled(bench: Workbench, records: int) -> Iterator[TinyDB]:
    with TinyDB(bench.directory("tinydb") / "db.json") as database:
        database.insert_multiple(documents(records).values())
        yield database


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """``upsert`` by the field ``id``."""
    news = [as_document(account) for account in revisions(records)]
    key = Query().id

    with _filled(bench, records) as database:

        def put(number: int) -> None:
            document = news[number % len(news)]
            database.upsert(document, key == document["id"])

        yield rate_of(put, bench.plan.seconds)


@contextmanager
def gets(bench: Workbench, records: int) -> Iterator[Slice]:
    """``get`` by the field ``id``."""
    keys = [account.id for account in shuffled(records)]
    key = Query().id
    with _filled(bench, records) as database:
        yield rate_of(
            lambda number: database.get(key == keys[number % len(keys)]),
            bench.plan.seconds,
        )


@contextmanager
def gets_by_number(bench: Workbench, records: int) -> Iterator[Slice]:
    """``get`` by TinyDB's own document number: it knows no other index."""
    order = [int(account.id[1:]) + 1 for account in shuffled(records)]
    with _filled(bench, records) as database:
        yield rate_of(
            lambda number: database.get(doc_id=order[number % len(order)]),
            bench.plan.seconds,
        )


@contextmanager
def searches(bench: Workbench, records: int) -> Iterator[Slice]:
    """A filter over two fields, sorted by a third, the first twenty.

    Without TinyDB's cache of answers, which does not see what other processes write.
    """
    record = Query()
    with _filled(bench, records) as database:

        def page(number: int) -> object:
            database.clear_cache()
            found = database.search(
                (record.status == "pending") & (record.tier == number % 4)
            )
            found.sort(key=lambda document: str(document["opened_at"]), reverse=True)
            return found[:20]

        yield rate_of(page, bench.plan.seconds)
