"""Each shape of file: read, written by records, by views and by old code, opened again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pend_storage as ps
from pend_storage.backfill import backfill
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.phases import Phase
from pend_storage.schema import QUARANTINE, Schema
from pend_storage.stores.postgres import PostgresStore
from pend_storage.validation import validate
from tests.ages import age
from tests.shapes.cases import SHAPES, Shape

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
J, PAR, PG, P = Phase


def opened(shape: Shape, directory: Path) -> ps.JsonStore:
    layouts = (shape.layout(),)
    schema = ps.schema_of(layouts)
    return ps.JsonStore(schema, directory, layouts=layouts, checkpoint_interval=None)


@pytest.fixture
def path(shape: Shape, tmp_path: Path) -> Path:
    found = tmp_path / shape.file
    found.write_text(shape.text)
    age(found)
    return found


def verbs(store: Any, shape: Shape) -> Any:
    """The verbs of the type that a caller has declared."""
    new = shape.new
    kind = ps.Document if new is None else type(new)
    return store.collection(kind)


@each_shape
def test_every_record_is_served_and_the_file_keeps_its_bytes(
    shape: Shape, path: Path, tmp_path: Path
) -> None:
    for _ in range(2):  # opened again, too
        with opened(shape, tmp_path) as store:
            assert verbs(store, shape).count() == shape.records
            assert len(list(verbs(store, shape).scan())) == shape.records
            assert store.collection(QUARANTINE).count() == 0
            assert store.legacy(shape.file).snapshot() == shape.load(shape.text)
        assert path.read_text() == shape.text


@each_shape
def test_a_record_that_is_put_as_it_was_read_changes_nothing(
    shape: Shape, path: Path, tmp_path: Path
) -> None:
    with opened(shape, tmp_path) as store:
        records = list(verbs(store, shape).scan())
        adapter = shape.layout().declares.adapter
        if adapter is not None and all(adapter.key_of(r) is None for r in records):
            records = []  # such a one has no key for the caller: it would be a new one
        verbs(store, shape).put_many(records)
        store.checkpoint()
    assert shape.load(path.read_text()) == shape.load(shape.text)


@each_shape
def test_a_new_record_stands_in_the_file_beside_the_others(
    shape: Shape, path: Path, tmp_path: Path
) -> None:
    if shape.new is None:
        pytest.skip("the file has room for one record")
    with opened(shape, tmp_path) as store:
        verbs(store, shape).put(shape.new)
        store.checkpoint()
        expected = store.legacy(shape.file).snapshot()
    now = shape.load(path.read_text())
    assert now == expected != shape.load(shape.text)
    with opened(shape, tmp_path) as store:
        assert shape.new in list(verbs(store, shape).scan())
        assert store.collection(QUARANTINE).count() == 0
    assert shape.load(path.read_text()) == now


@each_shape
def test_what_old_code_writes_is_adopted(
    shape: Shape, path: Path, tmp_path: Path
) -> None:
    with opened(shape, tmp_path) as store:
        changed = shape.old(shape.load(path.read_text()))
        path.write_text(shape.dump(changed))
        age(path)
        store.checkpoint()
        assert store.legacy(shape.file).snapshot() == changed
        assert store.collection(QUARANTINE).count() == 0
    assert shape.load(path.read_text()) == changed
    with opened(shape, tmp_path) as store:
        assert store.legacy(shape.file).snapshot() == changed


@each_shape
def test_a_pair_goes_to_postgresql_and_back(
    shape: Shape,
    path: Path,
    tmp_path: Path,
    new_migrated_database: Callable[[Schema], str],
) -> None:
    layouts = (shape.layout(),)
    schema = ps.schema_of(layouts)
    with DualWriteStore(
        json=ps.JsonStore(schema, tmp_path, layouts=layouts, checkpoint_interval=None),
        postgres=PostgresStore(schema, new_migrated_database(schema), layouts=layouts),
        backfill=backfill,
        validate=validate,
    ) as pair:
        pair.switch(PAR, accept=CODES)
        pair.backfill()
        assert pair.validate().ok
        for phase in (PG, P):
            pair.switch(phase, accept=CODES)
            assert verbs(pair, shape).count() == shape.records
            assert pair.legacy(shape.file).snapshot() == shape.load(shape.text)
        if shape.new is not None:
            verbs(pair, shape).put(shape.new)
        expected = pair.legacy(shape.file).snapshot()
        for phase in (PG, PAR, J):
            pair.switch(phase, accept=CODES)
    assert shape.load(path.read_text()) == expected


BROKEN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "list": (lambda value: [*value, {"stock": 1}], "missing-member"),
    "map by member name": (lambda value: {**value, "x": [1]}, "wrong-type"),
    "wrapped map": (
        lambda value: {**value, "todos": {**value["todos"], "x": 1}},
        "wrong-type",
    ),
    "JSON lines": (lambda value: [*value, {"text": "x"}], "missing-member"),
    "list with a composite key": (lambda value: [*value, value[0]], "key-taken"),
    "TinyDB": (
        lambda value: {"_default": {**value["_default"], "03": {}}},
        "bad-key",
    ),
    "settings": (lambda _: {"debug": True}, "missing-member"),
    "a bare number": (lambda _: "many", "bad-value"),
}


@pytest.mark.parametrize(
    "shape", [s for s in SHAPES if s.name in BROKEN], ids=lambda s: s.name
)
def test_what_fits_nothing_waits_in_its_place(
    shape: Shape, path: Path, tmp_path: Path
) -> None:
    change, code = BROKEN[shape.name]
    broken = change(shape.load(shape.text))
    path.write_text(shape.dump(broken))
    age(path)
    with opened(shape, tmp_path) as store:
        (waiting,) = store.collection(ps.QuarantinedRecord).find().items
        assert waiting.code == code
        assert store.legacy(shape.file).snapshot() == broken
        if shape.new is not None and code != "bad-value" and shape.name != "settings":
            verbs(store, shape).put(shape.new)
    held = json.dumps(broken).rstrip("]}").lstrip("[{")
    assert held in json.dumps(shape.load(path.read_text()))


def test_a_half_written_line_waits_and_the_next_one_does_not_join_it(
    tmp_path: Path,
) -> None:
    shape = next(s for s in SHAPES if s.name == "JSON lines")
    path = tmp_path / shape.file
    path.write_text('{"id": 1}\n{"id": 2, "ha')
    age(path)
    with opened(shape, tmp_path) as store:
        verbs(store, shape).put(shape.new)
        assert store.collection(QUARANTINE).count() == 1
    assert path.read_text() == '{"id": 1}\n{"id": 2, "ha\n{"id": 9, "text": ""}'


def test_a_file_that_changes_its_kind_is_a_document_all_the_same(
    tmp_path: Path,
) -> None:
    shape = next(s for s in SHAPES if s.name == "documents: scalar")
    path = tmp_path / shape.file
    path.write_text("3")
    age(path)
    with opened(shape, tmp_path) as store:
        for value in ([1, 2], {"a": 1}, "x", None, {}, [], 0):
            path.write_text(json.dumps(value))
            age(path)
            store.checkpoint()
            assert store.legacy(shape.file).snapshot() == value
            assert store.collection(QUARANTINE).count() == 0
        path.write_text("no JSON")
        age(path)
        store.checkpoint()
        (waiting,) = store.collection(ps.QuarantinedRecord).find().items
        assert (waiting.code, waiting.place) == ("not-json", "")
