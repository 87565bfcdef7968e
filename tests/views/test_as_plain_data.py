"""The differential machine: a view against the dict or list that ``json.load`` gives."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pend_storage.live import plain
from pend_storage.pend import SCHEMA
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore
from tests.views.machine import LIST_STEPS, MAP_STEPS, Step, compared, values
from tests.views.making import (
    LAYOUTS,
    LIST_FILE,
    LOG_FILE,
    MAP_FILE,
    WRAPPED_FILE,
    fill,
    memory,
)

names = st.sampled_from(["a", "b", "c"])
maps = st.dictionaries(names, values, max_size=4)
lists = st.lists(values, max_size=5)
PLACES = ["file", "inside"]


def target(view: Any, place: str) -> Any:
    """The whole of a file, or what stands inside of a record of it."""
    if place == "file":
        return view
    inner = view["in"] if hasattr(view, "keys") else view[1]
    return inner["deep"][1]


def content(value: Any, place: str, *, is_map: bool) -> Any:
    if place == "file":
        return value
    record = {"other": 1, "deep": [0, value, 2]}
    return {"x": 1, "in": record} if is_map else ["x", record]


def play(view: Any, model: Any, script: list[Step], place: str) -> None:
    for step in script:
        compared(step, target(view, place), target(model, place))
        reload(model)
    assert plain(view) == model


def reload(model: Any) -> None:
    """Next request: ``l *= 2`` leaves each item there twice, and not two
    names of one."""
    loaded = json.loads(json.dumps(model))
    model.clear()
    (model.update if isinstance(model, dict) else model.extend)(loaded)


@pytest.mark.parametrize("place", PLACES)
@given(start=maps, script=st.lists(MAP_STEPS, max_size=12))
def test_an_object(place: str, start: dict[str, Any], script: list[Step]) -> None:
    store, model = memory(), content(start, place, is_map=True)
    fill(store, MAP_FILE, model)
    play(store.legacy(MAP_FILE), model, script, place)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("file", [LIST_FILE, LOG_FILE, WRAPPED_FILE])
@given(start=lists, script=st.lists(LIST_STEPS, max_size=12))
def test_a_list(file: str, place: str, start: list[Any], script: list[Step]) -> None:
    store, model = memory(), content(start, place, is_map=False)
    wraps = file == WRAPPED_FILE
    fill(store, file, {"items": model, "n": 1} if wraps else model)
    view = store.legacy(file)
    play(view["items"] if wraps else view, model, script, place)


@given(start=maps, script=st.lists(MAP_STEPS, max_size=8))
def test_an_object_beside_a_wrapped_list(
    start: dict[str, Any], script: list[Step]
) -> None:
    store = memory()
    fill(store, WRAPPED_FILE, {"settings": start, "items": [1], "n": 2})
    view = store.legacy(WRAPPED_FILE)
    for step in script:
        compared(step, view["settings"], start)
        reload(start)
    assert view == {"settings": start, "items": [1], "n": 2}


# -- the file afterwards ------------------------------------------------------------------


@contextmanager
def json_store() -> Iterator[tuple[Store, Path]]:
    with tempfile.TemporaryDirectory() as name:
        store = JsonStore(
            SCHEMA, name, layouts=LAYOUTS, checkpoint_interval=None, hook=lambda _: None
        )
        with store:
            yield store, Path(name)


@settings(max_examples=15, deadline=None)
@given(start=maps, script=st.lists(MAP_STEPS, max_size=8))
def test_the_file_of_an_object_is_what_json_dump_would_write(
    start: dict[str, Any], script: list[Step]
) -> None:
    with json_store() as (store, directory):
        view = store.legacy(MAP_FILE)
        view.update(start)
        play(view, start, script, "file")
        store.checkpoint()  # type: ignore[attr-defined]
        path = directory / MAP_FILE
        assert (json.loads(path.read_bytes()) if path.exists() else {}) == start


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("file", [LIST_FILE, LOG_FILE])
@given(start=lists, script=st.lists(LIST_STEPS, max_size=8))
def test_the_file_of_a_list_is_what_json_dump_would_write(
    file: str, start: list[Any], script: list[Step]
) -> None:
    with json_store() as (store, directory):
        view = store.legacy(file)
        view.extend(start)
        play(view, start, script, "file")
        store.checkpoint()  # type: ignore[attr-defined]
        path = directory / file
        assert (json.loads(path.read_bytes()) if path.exists() else []) == start
