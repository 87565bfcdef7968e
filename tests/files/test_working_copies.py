"""Working copies: loaded values are kept as long as they can be saved, and no longer."""

from __future__ import annotations

import contextvars
import gc
import threading
from typing import Any

import pytest

from pend_storage._whole_files.three_way_merge import KeptText
from pend_storage._whole_files.working_copies import (
    NEVER,
    WorkingCopies,
    as_json,
    plain_copy,
)


def test_values_that_nobody_holds_are_forgotten() -> None:
    copies = WorkingCopies()
    for n in range(1000):
        copies.record("a.json", {"n": n}, {"n": n})

    assert len(copies) <= 1


def test_values_that_somebody_holds_are_known() -> None:
    copies = WorkingCopies()
    held: list[Any] = []
    for n in range(200):
        held.append({"n": n})
        copies.record("a.json", held[-1], n)
        copies.record("a.json", {"n": "dropped"}, n)

    assert all(copies.base("a.json", value) == n for n, value in enumerate(held))
    assert len(copies) <= 300
    held.clear()
    for _ in range(20):
        copies.record("a.json", [], None)
    assert len(copies) <= 1


def test_a_value_is_of_one_file() -> None:
    copies = WorkingCopies()
    value: list[Any] = []
    copies.record("a.json", value, "base")

    assert copies.base("a.json", value) == "base"
    assert copies.base("b.json", value) is NEVER


def test_numbers_and_texts_are_no_identities() -> None:
    copies = WorkingCopies()
    copies.record("a.json", 5, 5)

    assert len(copies) == 0
    assert copies.base("a.json", 5) == 5


def test_a_context_knows_what_it_loaded_last() -> None:
    copies = WorkingCopies()
    copies.record("a.json", {}, "outside")
    inner = contextvars.copy_context()

    inner.run(copies.record, "a.json", {}, "inside")

    assert copies.base("a.json", {}) == "outside"
    assert inner.run(copies.base, "a.json", {}) == "inside"
    assert contextvars.Context().run(copies.base, "a.json", {}) is NEVER


def test_a_thread_knows_what_it_loaded_last() -> None:
    copies = WorkingCopies()
    copies.record("a.json", {}, "main")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(copies.base("a.json", {})))
    thread.start()
    thread.join()

    assert found == [NEVER]


def test_stores_do_not_know_of_each_other() -> None:
    one, other = WorkingCopies(), WorkingCopies()
    value: dict[str, Any] = {}
    one.record("a.json", value, "one")

    assert other.base("a.json", value) is NEVER


def test_what_was_loaded_of_a_store_goes_with_it() -> None:
    class Base:
        pass

    def load() -> None:
        WorkingCopies().record("a.json", {}, Base())

    for _ in range(20):
        load()
    gc.collect()

    assert sum(isinstance(o, Base) for o in gc.get_objects()) <= 1


def test_a_plain_copy_is_new_all_through() -> None:
    shown: dict[str, Any] = {"x": []}
    value = {"a": [1, {"b": KeptText(b"{}", shown)}]}

    made = plain_copy(value)
    made["a"][1]["b"]["x"].append(1)

    assert shown == {"x": []}


def test_json_of_a_value_is_new_and_plain() -> None:
    class Text(str):
        __slots__ = ()

    value = {Text("a"): [Text("b"), True, 3, 1.5, None, (1,)]}

    made = as_json(value)

    assert made == {"a": ["b", True, 3, 1.5, None, [1]]}
    assert type(next(iter(made))) is str
    assert type(made["a"][0]) is str


@pytest.mark.parametrize("value", [b"bytes", object(), {"a": {1}}, [1j]])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        as_json(value)
