"""Views that are held while what they are of changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import override

from pend_storage._layouts.layout import Layout
from pend_storage._layouts.listing import Listing
from pend_storage.errors import StoreUnavailable
from pend_storage.pend import SCHEMA
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from tests.views.making import LAYOUTS, LIST_FILE, LOG_FILE, MAP_FILE, WRAPPED_FILE


@pytest.mark.parametrize("file", [LIST_FILE, LOG_FILE])
def test_an_item_is_followed_by_its_record(store: Store, file: str) -> None:
    view = store.legacy(file)
    view[:] = [{"id": n} for n in range(3)]
    by_index, by_loop = view[1], next(x for x in view if x["id"] == 1)

    view.insert(0, {"id": 9})
    view.reverse()
    by_index["a"] = 1
    by_loop["b"] = 2

    assert view == [{"id": 2}, {"id": 1, "a": 1, "b": 2}, {"id": 0}, {"id": 9}]
    assert by_index == by_loop == {"id": 1, "a": 1, "b": 2}


def test_an_inner_item_is_followed_as_far_as_it_can_be_told(
    memory_store: MemoryStore,
) -> None:
    view = memory_store.legacy(MAP_FILE)
    view["r"] = {"l": [{"id": n} for n in range(3)]}
    inner = view["r"]["l"]
    held = inner[1]

    inner.insert(0, {"id": 9})
    held["a"] = 1
    held["b"] = 2
    inner.append({"id": 8})
    inner[0]["c"] = 3
    held["d"] = 4

    assert view["r"]["l"] == [
        {"id": 9, "c": 3},
        {"id": 0},
        {"id": 1, "a": 1, "b": 2, "d": 4},
        {"id": 2},
        {"id": 8},
    ]


@pytest.mark.parametrize("file", [MAP_FILE, LIST_FILE])
def test_what_was_taken_out_can_be_read_and_not_be_changed(
    store: Store, file: str
) -> None:
    view = store.legacy(file)
    value = {"id": 1, "l": [{"deep": True}]}
    if file == MAP_FILE:
        view["k"] = value
        held = view["k"]
        deep = held["l"][0]
        del view["k"]
    else:
        view.append(value)
        held = view[0]
        deep = held["l"][0]
        view.remove(held)

    assert held == value
    assert deep == {"deep": True}
    for gone in (held, deep):
        with pytest.raises(LookupError, match="no longer exists"):
            gone["n"] = 1
    assert len(view) == 0


def test_an_inner_item_that_was_taken_out_is_not_another_one(
    memory_store: MemoryStore,
) -> None:
    view = memory_store.legacy(MAP_FILE)
    view["r"] = {"l": [{"id": n} for n in range(3)]}
    held = view["r"]["l"][1]

    view["r"]["l"].remove(held)

    assert held == {"id": 1}
    with pytest.raises(LookupError, match="was removed"):
        held["n"] = 1
    assert view["r"] == {"l": [{"id": 0}, {"id": 2}]}


def test_another_shape_is_not_written_into(memory_store: MemoryStore) -> None:
    view = memory_store.legacy(MAP_FILE)
    view["r"] = {"x": {"n": 1}}
    held = view["r"]["x"]

    view["r"]["x"] = [1]

    with pytest.raises(LookupError, match="list now, and was an object"):
        held["n"] = 2
    assert view["r"] == {"x": [1]}


def test_two_names_of_one_thing_see_the_same(store: Store) -> None:
    view = store.legacy(MAP_FILE)
    view["r"] = {"n": 1, "l": []}
    one, other, (looped,) = view["r"], view["r"], view.values()

    one["n"] = 2
    other["l"].append(3)

    assert one == other == looped == {"n": 2, "l": [3]}
    assert (one["n"], other["n"], looped["n"]) == (2, 2, 2)


def test_what_another_object_has_written_is_seen(store: Store) -> None:
    view = store.legacy(MAP_FILE)
    view["r"] = {"n": 1}
    held = view["r"]

    store.legacy(MAP_FILE)["r"] = {"n": 5}

    assert held["n"] == 5


def test_a_view_that_outlives_its_store_says_what_it_said(
    memory_store: MemoryStore,
) -> None:
    maps, items = memory_store.legacy(MAP_FILE), memory_store.legacy(LIST_FILE)
    maps["r"] = {"n": {"m": 1}}
    items.append({"n": 2})
    held: list[Any] = [maps["r"], *maps.values(), maps["r"]["n"], items[0], *items]

    memory_store.close()

    assert held == [{"n": {"m": 1}}, {"n": {"m": 1}}, {"m": 1}, {"n": 2}, {"n": 2}]
    with pytest.raises(StoreUnavailable):
        held[0]["n"] = 2
    with pytest.raises(StoreUnavailable):
        len(maps)


class _Meddled(MemoryStore):
    """Another caller writes right after a check."""

    meddle: Callable[[], object] | None = None

    @override
    def listing(self, layout: Layout, *, epoch: int | None = None) -> Listing | None:
        found = super().listing(layout, epoch=epoch)
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()
        return found


def test_an_item_that_has_changed_since_it_was_chosen_is_chosen_anew() -> None:
    store = _Meddled(SCHEMA, layouts=LAYOUTS)
    view = store.legacy(LIST_FILE)
    view.extend([{"n": 1}, {"n": 2}])
    first = view[0]

    store.meddle = lambda: first.update(n=5)
    with pytest.raises(ValueError, match="not in list"):
        view.remove({"n": 1})
    store.meddle = lambda: first.update(n=7)
    taken = view.pop(0)

    assert (taken, view.snapshot()) == ({"n": 7}, [{"n": 2}])


# -- inside a transaction -----------------------------------------------------------------


def test_views_of_a_transaction_are_written_together(store: Store) -> None:
    store.legacy(MAP_FILE)["ann"] = {"coins": 5}
    with store.transaction() as tx:
        users, log = tx.legacy(MAP_FILE), tx.legacy(LOG_FILE)
        users["ann"]["coins"] -= 2
        users.setdefault("bob", {"coins": 0})["coins"] += 2
        log.insert(0, {"from": "ann", "to": "bob"})
        tx.legacy(WRAPPED_FILE)["items"].append("x")
        tx.legacy(WRAPPED_FILE)["total"] = {"n": 1}
        tx.legacy(WRAPPED_FILE)["total"]["n"] += 1

        assert users == {"ann": {"coins": 3}, "bob": {"coins": 2}}
        assert (len(users), "bob" in users, len(log), log[0]["to"]) == (
            2,
            True,
            1,
            "bob",
        )
        assert store.legacy(MAP_FILE) == {"ann": {"coins": 5}}

    assert store.legacy(MAP_FILE) == {"ann": {"coins": 3}, "bob": {"coins": 2}}
    assert store.legacy(LOG_FILE) == [{"from": "ann", "to": "bob"}]
    assert store.legacy(WRAPPED_FILE) == {"items": ["x"], "total": {"n": 2}}


def test_an_exception_writes_nothing(memory_store: MemoryStore) -> None:
    def fail(tx: Any) -> None:
        tx.legacy(MAP_FILE)["a"] = {}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        memory_store.run(fail)

    assert memory_store.legacy(MAP_FILE) == {}


def test_what_a_transaction_read_is_checked(memory_store: MemoryStore) -> None:
    memory_store.legacy(MAP_FILE)["ann"] = {"coins": 0}
    turns: list[int] = []

    def add(tx: Any) -> None:
        ann = tx.legacy(MAP_FILE)["ann"]
        if not turns:
            memory_store.legacy(MAP_FILE)["ann"]["coins"] += 10
        turns.append(1)
        ann["coins"] += 1

    memory_store.run(add)

    assert (len(turns), memory_store.legacy(MAP_FILE)["ann"]) == (2, {"coins": 11})
