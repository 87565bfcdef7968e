"""Costs of idioms: round trips, and their growth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from typing_extensions import override

from pend_storage.pend import SCHEMA
from pend_storage.query import make_query
from pend_storage.records import Batch, Row
from pend_storage.schema import Schema
from pend_storage.stores.json import JsonStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from tests.views.conftest import files
from tests.views.making import LAYOUTS, LIST_FILE, LOG_FILE, MAP_FILE, WRAPPED_FILE

N = 40

_urls: WeakKeyDictionary[PostgresStore, str] = WeakKeyDictionary()


@pytest.fixture
def postgres(
    new_migrated_database: Callable[[Schema], str],
) -> Iterator[PostgresStore]:
    url = new_migrated_database(SCHEMA)
    with PostgresStore(SCHEMA, url, layouts=LAYOUTS) as store:
        _urls[store] = url
        store.legacy(MAP_FILE).update({f"k{n}": {"n": n} for n in range(N)})
        store.legacy(LIST_FILE).extend({"n": n} for n in range(N))
        yield store


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    asked: list[Any] = []
    ask = DatabaseClient.fetch

    def counting(self: DatabaseClient, *arguments: Any) -> Any:
        asked.append(arguments)
        return ask(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(DatabaseClient, "fetch", counting)
        yield asked


IDIOMS: dict[str, Callable[[Any, Any], Any]] = {
    "k in d": lambda d, _: "k7" in d,
    "k not in d": lambda d, _: "zz" not in d,
    "d[k]['n']": lambda d, _: d["k7"]["n"] == 7,
    "len(d)": lambda d, _: len(d) == N,
    "bool(d)": lambda d, _: bool(d),
    "items": lambda d, _: sum(value["n"] for _, value in d.items()) == N * (N - 1) / 2,
    "values": lambda d, _: sum(v["n"] for v in d.values()) == N * (N - 1) / 2,
    "names": lambda d, _: next(name for name in d if name == "k3"),
    "snapshot": lambda d, _: d.snapshot()["k1"] == {"n": 1},
    "len(l)": lambda _, x: len(x) == N,
    "l[-1]": lambda _, x: x[-1]["n"] == N - 1,
    "x in l": lambda _, x: {"n": 3} in x,
    "for x in l": lambda _, x: sum(item["n"] for item in x) == N * (N - 1) / 2,
    "reversed(l)": lambda _, x: next(reversed(x))["n"] == N - 1,
}


@pytest.mark.parametrize("idiom", IDIOMS)
def test_an_idiom_is_one_round_trip_to_postgresql(
    postgres: PostgresStore, monkeypatch: pytest.MonkeyPatch, idiom: str
) -> None:
    d, x = postgres.legacy(MAP_FILE), postgres.legacy(LIST_FILE)

    with counted(monkeypatch) as asked:
        assert IDIOMS[idiom](d, x)

    assert len(asked) == 1


def test_what_another_process_writes_is_seen_within_a_moment(
    postgres: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = postgres.legacy(MAP_FILE)["k7"]
    with PostgresStore(SCHEMA, _urls[postgres], layouts=LAYOUTS) as other:
        other.legacy(MAP_FILE)["k7"]["n"] = 99
    monkeypatch.setattr("pend_storage.live._recent.monotonic", lambda: 1e12)

    assert held["n"] == 99


class _Counting(JsonStore):
    """Counts operations committed."""

    operations = 0

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        self.operations += len(batch.operations)
        return super().commit(batch, epoch=epoch)


@pytest.mark.parametrize("file", [LIST_FILE, LOG_FILE])
def test_a_list_that_is_put_back_writes_what_differs(tmp_path: Any, file: str) -> None:
    with _Counting(SCHEMA, tmp_path, layouts=LAYOUTS, hook=lambda _: None) as store:
        view = store.legacy(file)
        view[:] = [{"n": n} for n in range(N)]
        plain = view.snapshot()
        plain[7] = {"n": "other"}
        for change, most in (
            (lambda: view.__setitem__(slice(None), plain), 1),
            (lambda: view.__setitem__(slice(None), list(view)), 0),
            (lambda: view.sort(key=lambda item: item["n"] == "other"), 1),
            (lambda: view.append(1), 1 if file == LIST_FILE else N + 2),
            (lambda: view[3].update(m=1), 1),
            (lambda: view[3].update(m=1), 0),
        ):
            store.operations = 0
            change()  # type: ignore[no-untyped-call]
            assert store.operations <= most


def test_a_json_store_decodes_what_is_looked_at(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with files(tmp_path) as store:
        d, x = store.legacy(MAP_FILE), store.legacy(LIST_FILE)
        d.update({f"k{n}": {"n": n} for n in range(N)})
        x.extend({"n": n} for n in range(N))
        assert (len(d), len(x)) == (N, N)
        codec = SCHEMA["documents"].codec
        decoded: list[bytes] = []
        decode = type(codec).decode

        def counting(self: Any, body: bytes) -> Any:
            decoded.append(body)
            return decode(self, body)

        monkeypatch.setattr(type(codec), "decode", counting)
        for most, look in (
            (0, lambda: "zz" in d),
            (0, lambda: (len(d), len(x), bool(d))),
            (0, lambda: (list(d), list(d.items()), list(x))),
            (1, lambda: "k7" in d),
            (1, lambda: d["k7"]["n"]),
            (1, lambda: x[-1]["n"]),
            (1, lambda: next(reversed(x))["n"]),
        ):
            decoded.clear()
            look()
            assert len(decoded) <= most


def test_a_listing_is_made_anew_from_what_was_set(tmp_path: Any) -> None:
    with files(tmp_path) as store, files(tmp_path) as other:
        view, theirs = store.legacy(LIST_FILE), other.legacy(LIST_FILE)
        layout = LAYOUTS[1]
        view.extend(range(5))
        first = store.listing(layout)
        assert first is store.listing(layout)

        theirs[2] = "two"
        other.legacy(MAP_FILE)["x"] = 1

        second = store.listing(layout)
        assert first is not None
        assert second is not None
        assert [second.value(item) for item in second.standing] == [0, 1, "two", 3, 4]
        assert [a is b for a, b in zip(first.items, second.items, strict=True)] == [
            True,
            True,
            False,
            True,
            True,
        ]


def test_a_file_of_very_many_records_has_no_listing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pend_storage.stores._inmemory.listings.MOST_LISTED", 3)
    with files(tmp_path) as store:
        view = store.legacy(LIST_FILE)
        view.extend([{"n": n} for n in range(5)])
        assert store.listing(LAYOUTS[1]) is None
        assert len(view) == 5
        view[0]["n"] = 7
        view.sort(key=lambda item: item["n"])
        del view[0]
        assert view == [{"n": 2}, {"n": 3}, {"n": 4}, {"n": 7}]


def test_rows_of_several_queries_come_together(postgres: PostgresStore) -> None:
    assert postgres.together() == ([], [])
    assert [
        type(row)
        for row in postgres.together(
            [("documents", _all())], [("documents", _all().where)]
        )[0][0]
    ] == [Row] * 2 * N
    assert postgres.legacy(WRAPPED_FILE) == {"items": []}


def _all() -> Any:
    return make_query(SCHEMA["documents"])
