"""Load and save of files of every shape that can be declared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore


@dataclass(frozen=True)
class Post:
    id: int
    title: str = ""


@dataclass(frozen=True)
class User:
    name: str
    coins: int = 0


def settings() -> Any:
    @dataclass(frozen=True)
    class Settings:
        theme: str = "dark"
        level: int = 1

    return ps.records("f.json", Settings, key=None, shape=ps.OBJECT)


SHAPES: dict[str, tuple[Callable[[], list[Any]], str, Any, Callable[[Any], Any]]] = {
    "documents map": (
        lambda: [*ps.documents("f.json")],
        "f.json",
        {"a": {"n": 1}, "b": 2},
        lambda d: d["a"].update(n=2),
    ),
    "documents list": (
        lambda: [*ps.documents("f.json")],
        "f.json",
        [{"id": 1}, "x", None],
        lambda d: d.append({"id": 2}),
    ),
    "records list": (
        lambda: [ps.records("f.json", Post)],
        "f.json",
        [{"id": 1, "title": "a"}, {"id": 2, "title": "b", "more": [1]}],
        lambda d: d.append({"id": 3, "title": "c"}),
    ),
    "records map": (
        lambda: [ps.records("f.json", User, key=ps.MEMBER_NAME)],
        "f.json",
        {"ann": {"coins": 1}, "bob": {"coins": 2, "bag": []}},
        lambda d: d["bob"]["bag"].append(1),
    ),
    "wrapped list": (
        lambda: [ps.records("f.json", Post, path="posts")],
        "f.json",
        {"version": 1, "posts": [{"id": 1, "title": "a"}]},
        lambda d: d["posts"].append({"id": 2, "title": "b"}),
    ),
    "wrapped map": (
        lambda: [ps.records("f.json", User, key=ps.MEMBER_NAME, path="users")],
        "f.json",
        {"users": {"ann": {"coins": 1}}, "count": 1},
        lambda d: d.update(count=2, users={"ann": {"coins": 3}, "bob": {"coins": 4}}),
    ),
    "several collections": (
        lambda: [
            ps.records("f.json", Post, path="posts"),
            ps.records("f.json", User, key=ps.MEMBER_NAME, path="users"),
        ],
        "f.json",
        {"posts": [{"id": 1, "title": "a"}], "users": {"ann": {"coins": 1}}, "v": 3},
        lambda d: (d["posts"].append({"id": 2, "title": "b"}), d.update(v=4)),
    ),
    "json lines": (
        lambda: [*ps.documents("f.jsonl")],
        "f.jsonl",
        [{"event": "a"}, {"event": "b"}],
        lambda d: d.append({"event": "c"}),
    ),
    "one object": (
        lambda: [settings()],
        "f.json",
        {"theme": "light", "level": 2},
        lambda d: d.update(level=3, extra=[1]),
    ),
}


def read(path: Path) -> Any:
    text = path.read_text()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return json.loads(text)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(shape: str, tmp_path: Path) -> None:
    declare, file, value, change = SHAPES[shape]
    layouts = declare()
    schema = ps.schema_of(layouts)
    text = json.dumps(value)
    if file.endswith(".jsonl"):
        text = "".join(json.dumps(item) + "\n" for item in value)
    (tmp_path / file).write_text(text)
    with JsonStore(
        schema, tmp_path, layouts=layouts, checkpoint_interval=None
    ) as store:
        mine, yours = store.load(file), store.load(file)
        assert mine == value
        change(mine)
        store.save(file, mine)
        assert store.load(file) == mine
        store.checkpoint()
        assert read(tmp_path / file) == mine
        store.save(file, yours)  # nothing was changed in it
        assert store.load(file) == mine
        assert not list(store.scan("quarantine"))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_from_nothing(shape: str) -> None:
    declare, file, value, change = SHAPES[shape]
    layouts = declare()
    with MemoryStore(ps.schema_of(layouts), layouts=layouts) as store:
        assert not store.exists(file)
        store.save(file, value)
        assert store.load(file) == value
        with store.edit(file) as data:
            change(data)
        assert store.load(file) == data


def test_a_scalar() -> None:
    layouts = ps.documents("n.json")
    with MemoryStore(ps.schema_of(layouts), layouts=layouts) as store:
        for value in (5, "text", None, False, {"a": 1}, [1]):
            store.save("n.json", value)
            assert store.exists("n.json")
            assert store.load("n.json") == value


@dataclass(frozen=True)
class Item:
    sku: str
    price: int = 0


def test_records_are_merged_by_their_declared_key() -> None:
    layouts = [ps.records("f.json", Item, key="sku")]
    with MemoryStore(ps.schema_of(layouts), layouts=layouts) as store:
        store.save("f.json", [{"sku": "a", "price": 1}, {"sku": "b", "price": 1}])
        mine, yours = store.load("f.json"), store.load("f.json")
        mine.reverse()
        mine[0]["price"] = 2
        yours[0]["price"] = 3
        store.save("f.json", mine)
        store.save("f.json", yours)

        assert store.load("f.json") == [
            {"sku": "b", "price": 2},
            {"sku": "a", "price": 3},
        ]


@pytest.mark.parametrize("value", [{"id": 1}, {}, "x", 5])
def test_json_lines_are_a_list(value: Any, tmp_path: Path) -> None:
    layouts = [ps.records("f.jsonl", Post)]
    (tmp_path / "f.jsonl").write_text('{"id": 1}\n')
    with JsonStore(ps.schema_of(layouts), tmp_path, layouts=layouts) as store:
        with pytest.raises(ps.InvalidRecord, match="save a list"):
            store.save("f.jsonl", value)
        assert store.load("f.jsonl") == [{"id": 1}]
