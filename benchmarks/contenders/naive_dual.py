"""Naive dual writes, by hand: the whole file, then a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.contenders.account_table import UPSERT, account_table, parameters
from benchmarks.measure import Slice, rate_of
from benchmarks.record import as_document, documents, revisions
from benchmarks.workbench import Workbench

__all__ = ["puts"]


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """``json.dump`` of all records over the file, then an upsert of the one.

    The file is neither synced nor renamed, concurrent writers are not excluded,
    and what a crash leaves between the two writes stays so.
    """
    news = [
        (account.id, as_document(account), parameters(account))
        for account in revisions(records)
    ]
    content = documents(records)
    path = bench.directory("naive") / "db.json"
    with (
        account_table(bench, records) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):

        def put(number: int) -> None:
            key, document, row = news[number % len(news)]
            content[key] = document
            with path.open("w") as stream:
                json.dump(content, stream, indent=2)
            connection.execute(UPSERT, row)

        yield rate_of(put, bench.plan.seconds)
