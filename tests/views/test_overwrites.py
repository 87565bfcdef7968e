"""Views that are assigned after their place was overwritten: as plain data would be."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest

from pend_storage.live import _overwrites as overwrites
from pend_storage.store import Store
from tests.views.making import LIST_FILE, LOG_FILE, MAP_FILE, WRAPPED_FILE

OBJECT = {"n": 1, "deep": {"m": [1, {"x": 2}]}}
VALUES: list[Any] = [
    OBJECT,
    {"n": 2},
    [{"n": 3}, {"n": 4}],
    "text",
    7,
    None,
]


def swap(at: Any, one: Any, other: Any) -> None:
    at[one], at[other] = at[other], at[one]


def move(at: Any, one: Any, other: Any) -> None:
    at[other] = at.pop(one)
    at.insert(one, {"n": 0}) if isinstance(other, int) else None


def take_out_and_put(at: Any, one: Any, other: Any) -> None:
    held = at[one]
    del at[one]
    at[other if isinstance(other, str) else -1] = held


def replace_and_put(at: Any, one: Any, other: Any) -> None:
    held = at[one]
    at[one] = {"new": True}
    at[other] = held


def put_back(at: Any, one: Any, other: Any) -> None:
    held = at[one]
    at[one] = "trial"
    at[one] = held
    if isinstance(held, dict) or hasattr(held, "keys"):
        at[one]["later"] = 1
    at[other] = at[one]


def assign_to_itself(at: Any, one: Any, _: Any) -> None:
    at[one] = at[one]


def put_inside_of_itself(at: Any, one: Any, other: Any) -> None:
    held = at[one]
    at[one] = {"was": held}
    at[other] = [held, held]


def change_then_replace(at: Any, one: Any, other: Any) -> None:
    if not isinstance(at[one], dict) and not hasattr(at[one], "keys"):
        return
    held = at[one]
    at[one]["changed"] = {"deep": 5}  # by another view of it
    inner = held["changed"]
    at[one] = "text"
    at[other] = held if isinstance(other, str) else {"held": held}
    at[one] = {"inner": inner}


MOVES = [
    swap,
    move,
    take_out_and_put,
    replace_and_put,
    put_back,
    assign_to_itself,
    put_inside_of_itself,
    change_then_replace,
]


def _top(store: Store) -> Any:
    return store.legacy(MAP_FILE)


@pytest.mark.parametrize("moving", MOVES)
@pytest.mark.parametrize("where", ["members", "inner members", "items", "inner items"])
def test_it_is_as_with_plain_data(
    store: Store, where: str, moving: Callable[..., None]
) -> None:
    pairs = [(a, b) for a in VALUES[:4] for b in VALUES if a is not b]
    for one, other in pairs:
        values = copy.deepcopy([one, other, {"n": 9}])
        if where.endswith("items"):
            names: list[Any] = [0, 1, 2]
            start: Any = values
        else:
            names = ["a", "b", "c"]
            start = dict(zip(names, values, strict=True))
        expected = copy.deepcopy(start)
        moving(expected, *names[:2])

        view = _filled(store, where, start)
        moving(view, *names[:2])

        assert json.loads(json.dumps(expected)) == view.snapshot()


def _filled(store: Store, where: str, start: Any) -> Any:
    """A view of this content."""
    if where == "items":
        view = store.legacy(LIST_FILE)
        view[:] = start
        return view
    top = store.legacy(MAP_FILE)
    if where == "members":
        top.clear()
        top.update(start)
        return top
    top["r"] = {"in": start}
    return top["r"]["in"]


def test_all_members_can_be_handed_round(store: Store) -> None:
    view = store.legacy(MAP_FILE)
    view.clear()
    view.update({f"k{n}": {"n": n} for n in range(5)})
    names, held = list(view), list(view.values())

    for name, value in zip(names, held[1:] + held[:1], strict=True):
        view[name] = value

    assert view == {f"k{n}": {"n": (n + 1) % 5} for n in range(5)}


@pytest.mark.parametrize("file", [LIST_FILE, LOG_FILE, WRAPPED_FILE])
def test_a_list_can_be_shuffled_in_place(store: Store, file: str) -> None:
    view = store.legacy(file)
    if file == WRAPPED_FILE:
        view["items"] = [{"n": n} for n in range(8)]
        view = view["items"]
    else:
        view[:] = [{"n": n} for n in range(8)]
    expected = view.snapshot()
    random.Random(5).shuffle(expected)

    random.Random(5).shuffle(view)

    assert view.snapshot() == expected


def test_values_move_between_files(store: Store) -> None:
    maps, items = store.legacy(MAP_FILE), store.legacy(LIST_FILE)
    maps["a"], items[:] = {"n": 1}, [{"n": 2}]

    maps["a"], items[0] = items[0], maps["a"]

    assert (maps["a"], items) == ({"n": 2}, [{"n": 1}])


def test_views_of_a_transaction_do_likewise(store: Store) -> None:
    store.legacy(MAP_FILE).update({"a": OBJECT, "b": {"n": 2}, "c": "text"})
    with store.transaction() as tx:
        view = tx.legacy(MAP_FILE)
        view["a"], view["b"], view["c"] = view["b"], view["c"], view["a"]

    found = store.legacy(MAP_FILE)
    assert (found["a"], found["b"], found["c"]) == ({"n": 2}, "text", OBJECT)


def test_two_views_of_one_file_do_likewise(store: Store) -> None:
    store.legacy(MAP_FILE).update({"a": OBJECT, "b": {"n": 2}})
    one, other = store.legacy(MAP_FILE), store.legacy(MAP_FILE)

    one["a"], other["b"] = other["b"], one["a"]

    assert (one["a"], one["b"]) == ({"n": 2}, OBJECT)


def test_what_another_thread_overwrites_is_followed(store: Store) -> None:
    view = store.legacy(MAP_FILE)
    view["a"] = {"n": 1}
    held = view["a"]

    thread = Thread(target=view.__setitem__, args=("a", {"n": 2}))
    thread.start()
    thread.join()
    view["b"] = held

    assert view["b"] == {"n": 2}


def test_what_another_task_overwrites_is_followed(store: Store) -> None:
    view = store.legacy(MAP_FILE)
    view["a"] = {"n": 1}

    async def overwrite() -> None:
        view["a"] = {"n": 2}

    async def main() -> None:
        held = view["a"]
        await asyncio.create_task(overwrite())
        view["b"] = held

    asyncio.run(main())

    assert view["b"] == {"n": 2}


def test_a_view_that_is_written_through_stands_for_its_place(store: Store) -> None:
    view = store.legacy(MAP_FILE)
    view["a"] = {"n": 1}
    held = view["a"]
    view["a"] = {"n": 2}
    held["m"] = 3

    view["b"] = held

    assert view["a"] == view["b"] == {"n": 2, "m": 3}


def test_nothing_is_kept_for_no_view(store: Store) -> None:
    view = store.legacy(MAP_FILE)
    for n in range(5):
        view["a"] = {"n": n}
        view["a"]["m"] = {"n": n}

    assert not overwrites.is_watched()


def test_what_is_kept_for_a_held_view_has_a_bound(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overwrites, "_MOST_VALUES", 20)
    view = store.legacy(MAP_FILE)
    view["a"], view["b"] = {"n": -1}, {"n": -2}
    held = view["b"]
    for n in range(50):
        view["a"] = {"n": n}

    kept, point = 0, held._at[2]
    while point is not None:
        kept, point = kept + (point.entry is not None), point.following
    assert kept <= 20
    assert held == {"n": -2}
