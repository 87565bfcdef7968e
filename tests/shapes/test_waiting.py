"""Quarantined records are retried and accepted, for every shape of file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage.operations.quarantine import accept, retry
from tests.ages import age


@dataclass(frozen=True)
class Item:
    id: int
    name: str = ""


@dataclass(frozen=True)
class Other:
    id: int


@dataclass(frozen=True)
class Settings:
    port: int


LIST: Any = [{"id": 1}, {"name": "x"}]
MAP: Any = {"1": {"id": 1}, "2": {"id": 3, "name": "x"}}
OTHER = ps.records("f.json", Other, path="q")
FILES: dict[str, tuple[list[Any], Any, bytes]] = {
    "list": ([ps.records("f.json", Item)], LIST, b'{"id": 2}'),
    "lines": ([ps.records("f.jsonl", Item)], LIST, b'{"id": 2}'),
    "map": (
        [ps.records("f.json", Item, shape=ps.MAP)],
        MAP,
        b'"2": {"id": 2}',
    ),
    "wrapped list": (
        [ps.records("f.json", Item, path="p")],
        {"p": LIST, "n": 1},
        b'{"id": 2}',
    ),
    "wrapped map": (
        [ps.records("f.json", Item, path="p", shape=ps.MAP)],
        {"p": MAP, "n": 1},
        b'"2": {"id": 2}',
    ),
    "part, a list": (
        [ps.records("f.json", Item, path="p"), OTHER],
        {"p": LIST, "q": [{"id": 1}], "n": 1},
        b'{"id": 2}',
    ),
    "part, a map": (
        [ps.records("f.json", Item, path="p", shape=ps.MAP), OTHER],
        {"p": MAP, "q": [{"id": 1}], "n": 1},
        b'"2": {"id": 2}',
    ),
    "part of another shape": (
        [ps.records("f.json", Item, path="p", shape=ps.LIST), OTHER],
        {"p": "none", "q": [{"id": 1}], "n": 1},
        b'{"p": [{"id": 2}]}',
    ),
    "settings": (
        [ps.records("f.json", Settings, shape=ps.OBJECT)],
        {"debug": True},
        b'{"port": 2}',
    ),
}


def opened(layouts: list[Any], directory: Path) -> ps.JsonStore:
    return ps.JsonStore(
        ps.schema_of(layouts), directory, layouts=layouts, checkpoint_interval=None
    )


def written(layouts: list[Any], value: Any, directory: Path) -> Path:
    path: Path = directory / layouts[0].file
    text = json.dumps(value)
    if layouts[0].file.endswith("l"):
        text = "".join(json.dumps(item) + "\n" for item in value)
    path.write_text(text)
    age(path)
    return path


@pytest.mark.parametrize("shape", FILES)
def test_a_repaired_text_takes_its_place(shape: str, tmp_path: Path) -> None:
    layouts, value, repaired = FILES[shape]
    path = written(layouts, value, tmp_path)
    with opened(layouts, tmp_path) as store:
        (waiting,) = store.collection(ps.QuarantinedRecord).find().items
        assert not retry(store, waiting).placed
        assert retry(store, waiting, text=repaired).placed
        assert store.collection("quarantine").count() == 0
        if shape != "settings":
            assert store.collection(Item).get(2) == Item(2)
        store.checkpoint()
        expected = store.legacy(layouts[0].file).snapshot()
    text = path.read_text()
    if path.suffix == ".jsonl":
        assert [json.loads(line) for line in text.splitlines()] == expected
    else:
        assert json.loads(text) == expected
    assert "2" in text
    assert '"x"' not in text
    with opened(layouts, tmp_path) as store:
        assert store.collection("quarantine").count() == 0
        assert store.legacy(layouts[0].file).snapshot() == expected


@pytest.mark.parametrize("shape", [shape for shape in FILES if "another" not in shape])
def test_what_was_accepted_stays_in_the_file(shape: str, tmp_path: Path) -> None:
    layouts, value, _ = FILES[shape]
    path = written(layouts, value, tmp_path)
    before = path.read_bytes()
    with opened(layouts, tmp_path) as store:
        (waiting,) = store.collection(ps.QuarantinedRecord).find().items
        accept(store, waiting, "known")
        store.checkpoint()
        assert store.legacy(layouts[0].file).snapshot() == value
    assert path.read_bytes() == before
