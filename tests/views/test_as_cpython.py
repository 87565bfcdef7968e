"""CPython's own tests of mappings and sequences, run against views.

What differs is listed, each with its reason; everything else must pass.
"""

from __future__ import annotations

import unittest
from typing import Any

import pytest

from pend_storage.legacy.views import LegacyMapping, LegacySequence
from pend_storage.live._nested import NestedList, NestedMap
from tests.views.making import LIST_FILE, MAP_FILE, memory

mapping_tests = pytest.importorskip("test.mapping_tests")
list_tests = pytest.importorskip("test.list_tests")


class _Map(LegacyMapping):
    """A file of its own, made as a dict is."""

    def __init__(self, *args: Any, **members: Any) -> None:
        store = memory()
        super().__init__(store.layouts[0], store)  # type: ignore[arg-type]
        self.update(dict(*args, **members))


class _List(LegacySequence):
    """A file of its own, made as a list is."""

    place = 1

    def __init__(self, values: Any = ()) -> None:
        store = memory()
        super().__init__(store.layouts[self.place], store)  # type: ignore[arg-type]
        self.extend(list(values))


class _Log(_List):
    """One that grows at the front."""

    place = 2


class _InnerMap(NestedMap):
    """An object inside of a record."""

    __slots__ = ()

    def __init__(self, *args: Any, **members: Any) -> None:
        outer = memory().legacy(MAP_FILE)
        outer["x"] = {"inner": dict(*args, **members)}
        inner = outer["x"]["inner"]
        super().__init__(inner._at, None)


class _InnerList(NestedList):
    """A list inside of a list inside of a record."""

    __slots__ = ()

    def __init__(self, values: Any = ()) -> None:
        outer = memory().legacy(LIST_FILE)
        outer.append([[0], list(values)])
        inner = outer[0][1]
        super().__init__(inner._at, None)


NOT_JSON = "keys or values that are no JSON: a view refuses them"
KEYS = "keys that are no text: a view writes them as json.dump does, as text"
REPR = "the repr of a whole file names it, and nothing can hold itself"
SNAPSHOT = "an iterator goes over what was there when it began"
FROMKEYS = "fromkeys gives a dict: a view is always of something"
IN_SORT = "a list that is changed while it is sorted: a copy is sorted"
GARBAGE = "an iterator holds the items, and not the view"

MAPS = {
    "test_copy": KEYS,
    "test_update": KEYS,
    "test_items": KEYS,
    "test_repr": KEYS,
    "test_mutatingiteration": KEYS,
    "test_fromkeys": FROMKEYS,
    "test_eq": NOT_JSON,
    "test_getitem": NOT_JSON,
    "test_pop": NOT_JSON,
    "test_setdefault": NOT_JSON,
}
LISTS = {
    "test_repr": REPR,
    "test_contains_fake": NOT_JSON,
    "test_contains_order": NOT_JSON,
    "test_count": NOT_JSON,
    "test_index": NOT_JSON,
    "test_remove": NOT_JSON,
    "test_exhausted_iterator": SNAPSHOT,
    "test_sort": IN_SORT,
}
DEEP = "nested deeper than any store takes, and slow to get there"
UNRUN = {"test_free_after_iterating": GARBAGE, "test_repr_deep": DEEP}
"""Not run at all: what the first breaks is reported after it has ended."""
MANY = "thousands of changes, each of which is a commit, or writes a record anew"
SLOW = {"test_popitem": MANY, "test_sort": MANY}
"""Not run on objects, and not inside of a record: the machine does the same on less."""


def _failures(case: type[unittest.TestCase]) -> dict[str, str]:
    names = set(unittest.defaultTestLoader.getTestCaseNames(case)) - UNRUN.keys()
    if case.type2test not in {_List, _Log}:  # type: ignore[attr-defined]
        names -= SLOW.keys()
    result = unittest.TestResult()
    unittest.TestSuite(case(name) for name in sorted(names)).run(result)
    assert result.testsRun >= 20
    failed = [*result.failures, *result.errors]
    return {test.id().rpartition(".")[2]: text for test, text in failed}


@pytest.mark.parametrize("kind", [_Map, _InnerMap])
def test_a_view_of_an_object_passes_the_tests_of_dict(kind: type) -> None:
    class Case(mapping_tests.TestHashMappingProtocol):  # type: ignore[name-defined,misc]
        type2test = kind

        def _reference(self) -> dict[str, Any]:
            return {"1": "2", "key1": "value1", "key2": 3.5}

    failed = _failures(Case)

    assert failed.keys() == MAPS.keys(), failed


@pytest.mark.parametrize("kind", [_List, _Log, _InnerList])
def test_a_view_of_a_list_passes_the_tests_of_list(kind: type) -> None:
    class Case(list_tests.CommonTest):  # type: ignore[name-defined,misc]
        type2test = kind

    failed = _failures(Case)

    expected = LISTS.keys() - (SLOW.keys() if kind is _InnerList else ())
    assert failed.keys() == expected, failed
