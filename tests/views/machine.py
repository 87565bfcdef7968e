"""A view and plain data: the same operations, the same answers, the same errors."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from pend_storage.live import plain

__all__ = ["LIST_STEPS", "MAP_STEPS", "Step", "compared", "values"]

Step = tuple[str, Callable[[Any], Any]]
"""What it is, and what it does to a view or to plain data."""

names = st.sampled_from(["a", "b", "c", "ä", "", "5", "null"])
keys = st.one_of(names, st.sampled_from([5, None, True, 1.5]))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x", "é", 0.5])
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=6,
)
indices = st.integers(-4, 4)
slices = st.builds(
    slice,
    st.none() | st.integers(-3, 3),
    st.none() | st.integers(-3, 3),
    st.none() | st.sampled_from([1, 2, -1]),
)


def _text(key: Any) -> str:
    """The name that ``json.dump`` writes."""
    (text,) = json.loads(json.dumps({key: 0}))
    return str(text)


def _set(key: Any, value: Any) -> Callable[[Any], Any]:
    # Plain data after a dump and a load, as it is when the next request reads the file.
    return lambda x: x.__setitem__(_text(key) if type(x) is dict else key, value)


def _method(name: str, *args: Any) -> Callable[[Any], Any]:
    return lambda x: getattr(x, name)(*copy.deepcopy(args))


def _inner_first(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A change of the first thing inside that can be changed."""

    def apply(x: Any) -> Any:
        inside = list(x.values()) if hasattr(x, "values") else list(x)
        for item in inside:
            if hasattr(item, "clear"):
                return change(item)
        return None

    return apply


def _grow(x: Any) -> None:
    if hasattr(x, "keys"):
        x["new"] = len(x)
    else:
        x.append(len(x))


def _grow_all(x: Any) -> None:
    for item in list(x.values()) if hasattr(x, "values") else x:
        if hasattr(item, "clear"):
            _grow(item)


def _ior(other: Any) -> Callable[[Any], Any]:
    def apply(x: Any) -> None:
        x |= other

    return apply


def _iadd(other: Any) -> Callable[[Any], Any]:
    def apply(x: Any) -> None:
        x += other

    return apply


def _imul(times: int) -> Callable[[Any], Any]:
    def apply(x: Any) -> None:
        x *= times

    return apply


def _sort(x: Any) -> None:
    sorted(
        plain(x)
    )  # where that fails, a list is left in any order, and a view as it was
    x.sort()


_BOTH: list[st.SearchStrategy[Step]] = [
    st.just(("len", len)),
    st.just(("bool", bool)),
    st.just(("list", list)),
    st.just(("reversed", lambda x: list(reversed(x)))),
    st.just(("str", str)),
    st.just(("deepcopy", copy.deepcopy)),
    st.just(("copy", copy.copy)),
    st.just(("grow inside", _inner_first(_grow))),
    st.just(("grow all inside", _grow_all)),
    st.just(("clear inside", _inner_first(lambda x: x.clear()))),
    values.map(lambda v: (f"== {v}", lambda x: x == v)),
    values.map(lambda v: (f"{v} in", lambda x: v in x)),
    st.just(("hash", hash)),
    st.just(("clear", lambda x: x.clear())),
]

MAP_STEPS: st.SearchStrategy[Step] = st.one_of(
    *_BOTH,
    keys.map(lambda k: (f"[{k!r}]", lambda x: x[k])),
    keys.map(lambda k: (f"get {k!r}", _method("get", k, 7))),
    keys.map(lambda k: (f"{k!r} in", lambda x: k in x)),
    st.tuples(keys, values).map(lambda t: (f"[{t[0]!r}] = {t[1]}", _set(*t))),
    st.tuples(keys, values).map(lambda t: (f"[{t[0]!r}] = {t[1]}", _set(*t))),
    keys.map(lambda k: (f"del {k!r}", _method("__delitem__", k))),
    keys.map(lambda k: (f"pop {k!r}", _method("pop", k))),
    keys.map(lambda k: (f"pop {k!r} or 1", _method("pop", k, 1))),
    st.just(("popitem", _method("popitem"))),
    st.tuples(names, values).map(
        lambda t: (f"setdefault {t}", _method("setdefault", *t))
    ),
    names.map(lambda k: (f"setdefault({k}, [])", lambda x: _grow(x.setdefault(k, [])))),
    st.dictionaries(names, values, max_size=3).map(
        lambda d: (f"update {d}", _method("update", d))
    ),
    st.dictionaries(names, values, max_size=3).map(lambda d: (f"|= {d}", _ior(d))),
    st.dictionaries(names, values, max_size=3).map(
        lambda d: (f"| {d}", lambda x: [x | d, d | x])
    ),
    st.just(("items", lambda x: [list(x.items()), list(x.values()), list(x.keys())])),
    st.just(("**", lambda x: {**x})),
    st.just(("update 5", _method("update", 5))),
    st.just(("[[]]", lambda x: x[[]])),
    st.just(("get []", lambda x: x.get([]))),
)

LIST_STEPS: st.SearchStrategy[Step] = st.one_of(
    *_BOTH,
    indices.map(lambda i: (f"[{i}]", lambda x: x[i])),
    slices.map(lambda s: (f"[{s}]", lambda x: x[s])),
    st.tuples(indices, values).map(
        lambda t: (f"[{t[0]}] = {t[1]}", _method("__setitem__", *t))
    ),
    st.tuples(slices, st.lists(values, max_size=4)).map(
        lambda t: (f"[{t[0]}] = {t[1]}", _method("__setitem__", *t))
    ),
    indices.map(lambda i: (f"del [{i}]", _method("__delitem__", i))),
    slices.map(lambda s: (f"del [{s}]", _method("__delitem__", s))),
    values.map(lambda v: (f"append {v}", _method("append", v))),
    values.map(lambda v: (f"append {v}", _method("append", v))),
    st.lists(values, max_size=4).map(lambda v: (f"extend {v}", _method("extend", v))),
    st.lists(values, max_size=2).map(lambda v: (f"+= {v}", _iadd(v))),
    st.integers(-1, 2).map(lambda n: (f"*= {n}", _imul(n))),
    st.integers(-1, 2).map(lambda n: (f"* {n}", lambda x: [x * n, n * x])),
    st.lists(values, max_size=2).map(lambda v: (f"+ {v}", lambda x: [x + v, v + x])),
    st.tuples(indices, values).map(lambda t: (f"insert {t}", _method("insert", *t))),
    indices.map(lambda i: (f"pop {i}", _method("pop", i))),
    st.just(("pop", _method("pop"))),
    values.map(lambda v: (f"remove {v}", _method("remove", v))),
    values.map(lambda v: (f"index {v}", _method("index", v))),
    values.map(lambda v: (f"count {v}", _method("count", v))),
    st.just(("reverse", _method("reverse"))),
    st.just(("sort", _sort)),
    st.booleans().map(
        lambda r: (f"sort by text {r}", lambda x: x.sort(key=_sort_key, reverse=r))
    ),
    st.lists(values, max_size=3).map(lambda v: (f"< {v}", lambda x: x < v)),
    st.just(("['a']", lambda x: x["a"])),
    st.just(("append()", lambda x: x.append())),
)


def _sort_key(value: Any) -> str:
    return json.dumps(plain(value), sort_keys=True)


def outcome(step: Callable[[Any], Any], target: Any) -> tuple[str, Any]:
    """Result of a step, as plain data, or the type of its error."""
    try:
        return "gives", _plain(step(target))
    except Exception as error:  # noqa: BLE001 - whatever it is
        return "raises", type(error).__name__


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return copy.deepcopy(plain(value))


def compared(step: Step, view: Any, model: Any) -> None:
    """Do the same to both."""
    what, change = step
    assert outcome(change, view) == outcome(change, model), what
