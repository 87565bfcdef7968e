"""Two writers at once, for every way to write: nothing is lost, no write is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from pend_storage.store import Store
from tests.views.conftest import KINDS
from tests.views.making import LIST_FILE, LOG_FILE, MAP_FILE, WRAPPED_FILE

pytestmark = pytest.mark.timeout(200)

ROUNDS = 8
WRITERS = 4


def at_once(*acts: Callable[[], Any]) -> None:
    """Do all of it at the same moment; raise what one of them raised."""
    start, errors = threading.Barrier(len(acts)), list[BaseException]()

    def do(act: Callable[[], Any]) -> None:
        start.wait()
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=do, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def writers(change: Callable[[int, int], Any]) -> None:
    """Each writer does its change once in each round."""
    for turn in range(ROUNDS):
        at_once(
            *[
                lambda number=number, turn=turn: change(number, turn)
                for number in range(WRITERS)
            ]
        )


EVERY = {(number, turn) for number in range(WRITERS) for turn in range(ROUNDS)}


def named(number: int, turn: int) -> str:
    return f"{number}.{turn}"


def combinations(ways: Iterable[str], places: Sequence[str]) -> pytest.MarkDecorator:
    """Every way in every place of every store.

    Where PostgreSQL takes part, by default each way in the first place and the first way
    in each place; the rest in long runs.
    """
    first = next(iter(ways))
    return pytest.mark.parametrize(
        ("store", "way", "place"),
        [
            pytest.param(
                kind,
                way,
                place,
                marks=()
                if kind == "json" or way == first or place == places[0]
                else pytest.mark.deep,
                id=f"{kind}-{way}-{place}",
            )
            for kind in KINDS
            for way in ways
            for place in places
        ],
        indirect=["store"],
    )


MAP_WAYS: dict[str, Callable[[Any, str], Any]] = {
    "view[k] = v": lambda d, k: d.__setitem__(k, 1),
    "update": lambda d, k: d.update({k: 1}),
    "|=": lambda d, k: d.__ior__({k: 1}),
    "setdefault": lambda d, k: d.setdefault(k, 1),
}


@combinations(MAP_WAYS, ["file", "record", "deeper", "beside"])
def test_members_that_are_set_at_once_are_all_there(
    store: Store, way: str, place: str
) -> None:
    view = store.legacy(WRAPPED_FILE if place == "beside" else MAP_FILE)
    view.update({"r": {"n": 0, "deep": [{}]}})
    places: dict[str, Callable[[], Any]] = {
        "file": lambda: view,
        "record": lambda: view["r"],
        "deeper": lambda: view["r"]["deep"][0],
        "beside": lambda: view["r"],
    }

    writers(lambda n, t: MAP_WAYS[way](places[place](), named(n, t)))

    assert {named(*one) for one in EVERY} <= set(places[place]())


LIST_WAYS: dict[str, Callable[[Any, str], Any]] = {
    "append": lambda x, v: x.append(v),
    "extend": lambda x, v: x.extend([v]),
    "+=": lambda x, v: x.__iadd__([v]),
    "insert at the front": lambda x, v: x.insert(0, v),
    "insert at the end": lambda x, v: x.insert(len(x), v),
}


@combinations(LIST_WAYS, [LIST_FILE, LOG_FILE, "items", "record"])
def test_items_that_are_put_in_at_once_are_all_there(
    store: Store, way: str, place: str
) -> None:
    if place == "record":
        outer = store.legacy(MAP_FILE)
        outer["r"] = {"list": []}
        view = outer["r"]["list"]
    elif place == "items":
        view = store.legacy(WRAPPED_FILE)["items"]
    else:
        view = store.legacy(place)

    writers(lambda n, t: LIST_WAYS[way](view, named(n, t)))

    assert sorted(view) == sorted(named(*one) for one in EVERY)


def test_every_item_is_taken_out_once(store: Store) -> None:
    view = store.legacy(LIST_FILE)
    view.extend(range(ROUNDS * WRITERS))
    taken: list[int] = []

    writers(lambda _, turn: taken.append(view.pop(0 if turn % 2 else -1)))

    assert sorted(taken) == [*range(ROUNDS * WRITERS)]
    assert len(view) == 0


def test_different_items_that_are_changed_at_once_are_all_changed(
    store: Store,
) -> None:
    view = store.legacy(LIST_FILE)
    view.extend([{"id": n, "turns": []} for n in range(WRITERS)])

    def change(number: int, turn: int) -> None:
        item = next(x for x in view if x == {"id": number, "turns": [*range(turn)]})
        item["turns"].append(turn)
        view.insert(0, f"{number} {turn}")  # everything moves

    writers(change)

    items = [x for x in view if not isinstance(x, str)]
    assert items == [{"id": n, "turns": [*range(ROUNDS)]} for n in range(WRITERS)]


def test_assignments_of_one_key_are_never_refused(store: Store) -> None:
    view = store.legacy(MAP_FILE)

    writers(lambda n, t: view.__setitem__("k", named(n, t)))

    assert view["k"] in {named(n, ROUNDS - 1) for n in range(WRITERS)}


def test_a_list_that_is_sorted_while_it_grows_loses_nothing(store: Store) -> None:
    view = store.legacy(LIST_FILE)

    def change(number: int, turn: int) -> None:
        view.append(number * 100 + turn)
        if number == 0:
            view.sort(reverse=bool(turn % 2))
        if number == 1:
            view.reverse()

    writers(change)

    assert sorted(view) == sorted(n * 100 + t for n, t in EVERY)
