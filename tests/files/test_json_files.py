"""Saves to the file of a directory, beside edits of other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage import CorruptFile, InvalidRecord
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json import JsonStore
from tests.ages import age

from .places import ANY, LOGS, SERVER_LOGS

Open = Callable[..., JsonStore]


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    """Opens a directory with these files; the store is closed at the end."""

    def open_store(**files: str) -> JsonStore:
        for name, text in files.items():
            path = tmp_path / f"{name}.json"
            path.write_text(text)
            age(path)
        store = JsonStore(SCHEMA, tmp_path, layouts=LAYOUTS, checkpoint_interval=None)
        request.addfinalizer(store.close)
        return store

    return open_store


def text_of(store: JsonStore, file: str = ANY) -> str:
    store.checkpoint()
    return (store.directory / file).read_text()


@pytest.mark.parametrize(
    "text",
    [
        '{\n    "a": {\n        "x": 1\n    },\n    "b": [1, 2.50, 3]\n}\n',
        '{"a":{"x":1},"b":[1,2.50,3]}',
        '{\n\t"a": {\n\t\t"x": 1\n\t},\n\t"b": [1, 2.50, 3]\n}',
        '{"a": {"x": 1}, "b": [1, 2.50, 3]}',
    ],
)
def test_the_style_of_a_file_stays(opened: Open, text: str) -> None:
    store = opened(**{"consents-db": text})
    data = store.load(ANY)
    assert data == json.loads(text)
    data["a"]["x"] = 7

    store.save(ANY, data)

    assert text_of(store) == text.replace('"x": 1', '"x": 7').replace('"x":1', '"x":7')


def test_exact_numbers_stay(opened: Open) -> None:
    text = '[{"n": 0.10000000000000000000001, "m": 1}, 12345678901234567890.5]'
    store = opened(**{"consents-db": text})
    data = store.load(ANY)
    assert data == [{"n": 0.1, "m": 1}, 12345678901234567890.5]
    data[0]["m"] = 2

    store.save(ANY, data)

    assert text_of(store) == text.replace('"m": 1', '"m": 2')


def test_superseded_members_stay_where_they_are(opened: Open) -> None:
    store = opened(**{"consents-db": '{"a": 1, "a": 2, "b": 3, "a": 4}'})
    data = store.load(ANY)
    assert data == {"a": 4, "b": 3}
    data["b"] = 5
    store.save(ANY, data)
    waiting = store.collection("quarantine").count()
    assert waiting == 2

    data["a"] = 6
    store.save(ANY, data)
    assert text_of(store) == '{"a": 1, "a": 2, "a": 6, "b": 5}'

    del data["a"]
    store.save(ANY, data)
    assert text_of(store) == '{"b": 5}'


def test_what_is_torn_inside_stays(opened: Open) -> None:
    text = '{"a": {"x": 01}, "b": {"y": 1, "y": 2}, "c": 1}'
    store = opened(**{"consents-db": text})
    data = store.load(ANY)
    assert data == {"a": '{"x": 01}', "b": {"y": 2}, "c": 1}
    data["c"] = 2

    store.save(ANY, data)

    assert text_of(store) == text.replace('"c": 1', '"c": 2')


def test_an_object_without_its_list(opened: Open) -> None:
    store = opened(**{"admin-logs": '{ "kept": 1 }'})
    assert store.load(LOGS) == {"kept": 1}
    store.save(LOGS, {"kept": 1})
    assert text_of(store, LOGS) == '{ "kept": 1 }'

    with store.edit(LOGS) as logs:
        logs["kept"] = 2

    assert json.loads(text_of(store, LOGS)) == {"kept": 2}


def test_an_empty_file_is_an_empty_object(opened: Open) -> None:
    store = opened(**{"consents-db": ""})

    assert store.exists(ANY)
    assert store.load(ANY) == {}


def test_members_beside_a_list_keep_their_style(opened: Open) -> None:
    text = '{\n    "a": 1,\n    "logs": [\n        "x"\n    ],\n    "b": {"c": 1}\n}\n'
    store = opened(**{"server-logs": text})
    with store.edit(SERVER_LOGS) as logs:
        logs["logs"].append("y")

    assert text_of(store, SERVER_LOGS) == text.replace('"x"', '"x",\n        "y"')
    with (
        pytest.raises(InvalidRecord, match=r"[nN]a[nN]|number"),
        store.edit(SERVER_LOGS) as logs,
    ):
        logs["a"] = float("nan")


def test_a_file_that_was_never_read(opened: Open) -> None:
    store = opened(**{"consents-db": '{"a": 1'})

    for verb in (
        lambda: store.load(ANY, {}),
        lambda: store.save(ANY, {}),
        lambda: store.exists(ANY),
        lambda: store.edit(ANY).__enter__(),
        lambda: store.update(ANY, print),
    ):
        with pytest.raises(CorruptFile, match="pend-storage quarantine"):
            verb()
    assert (store.directory / ANY).read_text() == '{"a": 1'


def test_a_file_that_others_have_broken(opened: Open) -> None:
    store = opened(**{"consents-db": '{"a": 1}'})
    data = store.load(ANY)
    (store.directory / ANY).write_text('{"a": 2')
    age(store.directory / ANY)
    store.checkpoint()
    data["b"] = 1

    with pytest.raises(CorruptFile):
        store.save(ANY, data)

    assert store.load(ANY) == {"a": 1}
    assert text_of(store) == '{"a": 2'


def test_what_old_code_writes_meets_a_save(opened: Open) -> None:
    store = opened(**{"consents-db": '{"a": {"x": 1}}'})
    data = store.load(ANY)
    (store.directory / ANY).write_text('{"a": {"x": 1, "y": 2}, "b": 3}')
    age(store.directory / ANY)
    store.checkpoint()
    data["a"]["x"] = 4

    store.save(ANY, data)

    assert json.loads(text_of(store)) == {"a": {"x": 4, "y": 2}, "b": 3}


def test_the_file_of_a_collection_without_a_layout(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Note:
        id: str
        likes: int = 0

    schema = ps.Schema([ps.collection("notes", Note)])
    with JsonStore(schema, tmp_path) as store:
        notes = store.collection(Note)
        notes.put(Note("a", 1))
        mine = store.load("notes.json")
        key, record = next(iter(mine.items()))
        assert key == "a"
        mine["b"] = {**record, "id": "b"} if "id" in record else dict(record)
        notes.put(Note("a", 2))

        store.save("notes.json", mine)

        assert notes.get("a") == Note("a", 2)
        assert notes.get("b") == Note("b", 1)
        bad: Any = {"likes": "many"}
        with store.edit("notes.json") as data:
            data["c"] = bad
        assert store.load("notes.json")["c"] == bad
        assert notes.count() == 2
