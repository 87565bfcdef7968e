"""Views of files whose records have types: what they are can change under a view."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage.errors import InvalidRecord
from pend_storage.schema import Schema
from pend_storage.store import Store


@dataclass(frozen=True)
class Task:
    id: int
    title: str = ""


@dataclass(frozen=True)
class Note:
    text: str = ""
    n: int = 0


@dataclass(frozen=True)
class Post:
    id: str
    n: int = 0


@dataclass(frozen=True)
class Tag:
    id: str
    n: int = 0


@dataclass(frozen=True)
class Item:
    id: str


LAYOUTS = [
    ps.records("tasks.json", Task),
    ps.records("notes.json", Note, key=None),
    ps.records("db.json", Post, path="posts"),
    ps.records("db.json", Tag, path="tags", key=ps.MEMBER_NAME),
    ps.records("wrapped.json", Item, path="items"),
]
SCHEMA = ps.schema_of(LAYOUTS)


@pytest.fixture(params=["json", "postgres"])
def store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    new_migrated_database: Callable[[Schema], str],
) -> Iterator[Store]:
    if request.param == "json":
        made: Store = ps.JsonStore(SCHEMA, tmp_path, layouts=LAYOUTS)
    else:
        url = new_migrated_database(SCHEMA)
        made = ps.PostgresStore(SCHEMA, url, layouts=LAYOUTS)
    with made:
        yield made


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("notes.json", {"n": 5, "text": "no key, and so another one each time"}),
        ("tasks.json", {"id": 9, "title": "of another id"}),
        ("tasks.json", {"title": 5, "more": 1, "id": 8}),
        ("tasks.json", {"id": 2, "title": "an id that is taken", "n": 1}),
    ],
)
def test_an_item_is_followed_when_a_change_makes_it_another_record(
    store: Store, file: str, changes: dict[str, Any]
) -> None:
    view = store.legacy(file)
    view[:] = [{"id": 1, "l": []}, {"id": 3}, {"id": 2}]
    held = view[1]
    want = view.snapshot()

    for name, value in changes.items():
        held[name] = value
        want[1][name] = value
        assert held == want[1]
    held.setdefault("l", []).append(1)
    del held["l"]

    assert view == want


def test_a_loop_renumbers_the_records(store: Store) -> None:
    view = store.legacy("tasks.json")
    view[:] = [{"id": n} for n in range(3)]

    for place, item in enumerate(view):
        item["id"] = 10 + place
        item["title"] = str(place)

    assert view == [{"id": 10 + n, "title": str(n)} for n in range(3)]


def test_inside_a_transaction_an_item_is_followed_as_well(store: Store) -> None:
    store.legacy("notes.json")[:] = [{"text": "a"}, {"text": "b"}]

    def change(tx: ps.Transaction) -> None:
        held = tx.legacy("notes.json")[0]
        held["n"] = 1
        held["text"] = "c"

    store.run(change)

    assert store.legacy("notes.json") == [{"text": "c", "n": 1}, {"text": "b"}]


def test_clear_takes_out_all_members_beside_the_parts(store: Store) -> None:
    view = store.legacy("db.json")
    view.update(posts=[{"id": "p"}], tags={"t": {"n": 1}}, version=3, beside={"m": 1})

    view.clear()

    assert view == {"posts": [], "tags": {}}


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("db.json", "posts", {"x": 1}),
        ("db.json", "posts", "abc"),
        ("db.json", "posts", None),
        ("db.json", "tags", [["a", {}]]),
        ("db.json", "tags", 5),
        ("wrapped.json", "items", {"x": 1}),
        ("wrapped.json", "items", "ab"),
    ],
)
def test_records_of_another_shape_are_refused(
    store: Store, file: str, name: str, value: Any
) -> None:
    view = store.legacy(file)
    view.update({"db.json": {"posts": [{"id": "p"}], "tags": {"t": {}}}}.get(file, {}))
    view["beside"] = 1
    before = view.snapshot()

    with pytest.raises(InvalidRecord, match="the records of"):
        view[name] = value
    with pytest.raises(InvalidRecord, match="the records of"):
        view.update({"other": 1, name: value})

    assert view == before


def test_the_files_say_what_the_views_say(tmp_path: Path) -> None:
    with ps.JsonStore(SCHEMA, tmp_path, layouts=LAYOUTS) as store:
        notes = store.legacy("notes.json")
        notes[:] = [{"text": "same"}, {"text": "same"}]
        for held in notes:
            held["n"] = 1
            held["n"] = "not a number"
            held["done"] = True

    (text,) = {json.dumps(x) for x in json.loads((tmp_path / "notes.json").read_text())}
    assert json.loads(text) == {"text": "same", "n": "not a number", "done": True}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"n": float("nan")}])
def test_what_is_no_json_is_not_taken_for_null(store: Store, value: Any) -> None:
    view = store.legacy("notes.json")
    view[:] = [None, {"n": None}]

    assert value not in view
    with pytest.raises(InvalidRecord):
        view[:] = [value, value]
    assert view == [None, {"n": None}]
