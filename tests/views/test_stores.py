"""The differential machine over real stores, and over a pair in its phases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pend_storage.live import plain
from pend_storage.store import Store
from tests.views.machine import LIST_STEPS, MAP_STEPS, Step, compared, values
from tests.views.making import LIST_FILE, LOG_FILE, MAP_FILE
from tests.views.test_as_plain_data import reload

pytestmark = pytest.mark.timeout(200)

few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
many = settings(few, max_examples=400)
maps = st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3)
lists = st.lists(values, max_size=4)


def play(store: Store, view: Any, model: Any, script: list[Step]) -> None:
    in_jsonb = store.moment() is not None  # PostgreSQL answers
    settle(model, in_jsonb=in_jsonb)
    for step in script:
        compared(step, view, model)
        settle(model, in_jsonb=in_jsonb)
    assert plain(view) == model


def settle(model: Any, *, in_jsonb: bool) -> None:
    """The next request's view. PostgreSQL has an order of its own for the members of
    an object inside of a record: short names first."""
    reload(model)
    if in_jsonb:
        inside = sorted_inside(model)  # pairs of an object, items of a list
        model.clear()
        (model.update if isinstance(model, dict) else model.extend)(inside)


def sorted_inside(value: Any, *, top: bool = True) -> Any:
    if isinstance(value, list):
        return [sorted_inside(item, top=False) for item in value]
    if not isinstance(value, dict):
        return value
    pairs = [(name, sorted_inside(item, top=False)) for name, item in value.items()]
    if top:
        return pairs
    return dict(sorted(pairs, key=lambda p: (len(p[0].encode()), p[0].encode())))


def an_object(store: Store, start: dict[str, Any], script: list[Step]) -> None:
    view = store.legacy(MAP_FILE)
    view.clear()
    view.update(start)
    play(store, view, start, script)


def a_list(store: Store, file: str, start: list[Any], script: list[Step]) -> None:
    view = store.legacy(file)
    view[:] = start
    play(store, view, start, script)


@few
@given(start=maps, script=st.lists(MAP_STEPS, max_size=6))
def test_an_object(store: Store, start: dict[str, Any], script: list[Step]) -> None:
    an_object(store, start, script)


@few
@given(
    file=st.sampled_from([LIST_FILE, LOG_FILE]),
    start=lists,
    script=st.lists(LIST_STEPS, max_size=6),
)
def test_a_list(store: Store, file: str, start: list[Any], script: list[Step]) -> None:
    a_list(store, file, start, script)


@pytest.mark.deep
@many
@given(start=maps, script=st.lists(MAP_STEPS, max_size=20))
def test_an_object_for_long(
    store: Store, start: dict[str, Any], script: list[Step]
) -> None:
    an_object(store, start, script)


@pytest.mark.deep
@many
@given(
    file=st.sampled_from([LIST_FILE, LOG_FILE]),
    start=lists,
    script=st.lists(LIST_STEPS, max_size=20),
)
def test_a_list_for_long(
    store: Store, file: str, start: list[Any], script: list[Step]
) -> None:
    a_list(store, file, start, script)
