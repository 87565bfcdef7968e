"""The idioms of code that keeps a dict or a list in a file."""

from __future__ import annotations

import json
import shelve
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinydb import TinyDB, where

from benchmarks.measure import Slice, rate_of
from benchmarks.workbench import Workbench
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json import JsonStore

__all__ = ["loads", "shelves", "tinydb", "views"]

_MAP = "consents-db.json"
_LIST = "explorer-data/live-stats.json"


def _content(records: int) -> dict[str, Any]:
    return {f"k{n}": {"n": n, "signed": True, "by": "ann"} for n in range(records)}


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def _in_map(idiom: str, number: int, data: MutableMapping[str, Any]) -> object:
    key = f"k{number * 7 % 499}"
    match idiom:
        case "miss":
            assert f"x{number}" not in data
        case "length":
            return len(data)
        case "items":
            return list(data.items())
        case "values":
            return sum(value["n"] for value in data.values())
        case _:
            data[key]["n"] += 1
    return None


def _in_list(idiom: str, number: int, data: Any, plain: list[Any]) -> object:
    if idiom == "last":
        return data[-1]
    plain[number % len(plain)] = {"n": -number}
    data[:] = plain
    return None


def _is_list(idiom: str) -> bool:
    return idiom in {"last", "resave"}


@contextmanager
def views(bench: Workbench, records: int, idiom: str) -> Iterator[Slice]:
    """A view that is held, as a module of old code holds its dict."""
    directory = bench.directory("views")
    content = _content(records)
    _write(directory / _MAP, content)
    _write(directory / _LIST, list(content.values()))
    with JsonStore(SCHEMA, directory, layouts=LAYOUTS) as store:
        if _is_list(idiom):
            items, plain = store.legacy(_LIST), list(content.values())
            do: Callable[[int], object] = lambda n: _in_list(idiom, n, items, plain)  # noqa: E731
        else:
            data = store.legacy(_MAP)
            do = lambda n: _in_map(idiom, n, data)  # noqa: E731
        do(0)  # the first look makes the listing
        yield rate_of(do, bench.plan.seconds)


@contextmanager
def loads(bench: Workbench, records: int, idiom: str) -> Iterator[Slice]:
    """``json.load``, the idiom, and where it changes something ``json.dump``."""
    path = bench.directory("loads") / "data.json"
    content: Any = _content(records)
    plain = list(content.values())
    _write(path, plain if _is_list(idiom) else content)

    def do(number: int) -> None:
        with path.open() as stream:
            data = json.load(stream)
        if _is_list(idiom):
            _in_list(idiom, number, data, plain)
        else:
            _in_map(idiom, number, data)
        if idiom in {"change", "resave"}:
            with path.open("w") as stream:
                json.dump(data, stream, indent=2)

    yield rate_of(do, bench.plan.seconds)


@contextmanager
def tinydb(bench: Workbench, records: int, idiom: str) -> Iterator[Slice]:
    """A document for each member."""
    with TinyDB(bench.directory("idioms") / "db.json") as database:
        database.insert_multiple(
            {"key": key, **value} for key, value in _content(records).items()
        )
        idioms: dict[str, Callable[[int], object]] = {
            "miss": lambda n: database.contains(where("key") == f"x{n}"),
            "length": lambda _: len(database),
            "items": lambda _: database.all(),
            "values": lambda _: sum(one["n"] for one in database.all()),
            "last": lambda _: database.all()[-1],
        }
        change: Callable[[int], object] = lambda n: database.update(  # noqa: E731
            {"n": n}, where("key") == f"k{n * 7 % 499}"
        )
        yield rate_of(idioms.get(idiom, change), bench.plan.seconds)


@contextmanager
def shelves(bench: Workbench, records: int, idiom: str) -> Iterator[Slice]:
    """A pickled value for each member, written at once."""
    with shelve.open(str(bench.directory("shelf") / "data")) as shelf:  # noqa: S301
        shelf.update(_content(records))

        def do(number: int) -> None:
            if idiom != "change":
                _in_map(idiom, number, shelf)
                return
            key = f"k{number * 7 % 499}"
            shelf[key] = {**shelf[key], "n": number}
            shelf.sync()

        yield rate_of(do, bench.plan.seconds)
