"""Servers that keep JSON files themselves: write all of it, read all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Slice, rate_of
from benchmarks.record import as_document, documents, revisions, shuffled
from benchmarks.workbench import Workbench

__all__ = ["gets", "puts", "searches_in_memory"]


def _filled(bench: Workbench, records: int) -> Path:
    path = bench.directory("whole-file") / "db.json"
    path.write_text(json.dumps(documents(records), indent=2))
    return path


@contextmanager
def puts(bench: Workbench, records: int) -> Iterator[Slice]:
    """Change a dict in memory and ``json.dump`` all of it over the file.

    Neither synced nor renamed: a crash in the middle leaves half a file.
    """
    news = [(account.id, as_document(account)) for account in revisions(records)]
    path = _filled(bench, records)
    content = documents(records)

    def put(number: int) -> None:
        key, document = news[number % len(news)]
        content[key] = document
        with path.open("w") as stream:
            json.dump(content, stream, indent=2)

    yield rate_of(put, bench.plan.seconds)


@contextmanager
def gets(bench: Workbench, records: int) -> Iterator[Slice]:
    """``json.load`` the file, because another process may have written it."""
    keys = [account.id for account in shuffled(records)]
    path = _filled(bench, records)

    def get(number: int) -> object:
        with path.open() as stream:
            return json.load(stream)[keys[number % len(keys)]]

    yield rate_of(get, bench.plan.seconds)


@contextmanager
def searches_in_memory(bench: Workbench, records: int) -> Iterator[Slice]:
    """A filter, a sort and the first twenty, over dicts that are in memory anyway."""
    content = list(documents(records).values())

    def page(number: int) -> object:
        tier = number % 4
        found = [d for d in content if d["status"] == "pending" and d["tier"] == tier]
        found.sort(key=lambda document: str(document["opened_at"]), reverse=True)
        return found[:20]

    yield rate_of(page, bench.plan.seconds)
