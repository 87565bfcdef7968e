"""Hypothesis strategies for records, conditions and queries of any schema.

Values collide on purpose: keys come from a small pool, and so do half of all other
values, because faults of a store show where the same key or the same value occurs
again. Every generated record is valid by the schema; see :func:`spoiled` for invalid
ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pend_storage._model.fields import FieldSpec, Kind, Limit
from pend_storage._model.records import JSON
from pend_storage.codec import value_checker
from pend_storage.errors import InvalidRecord
from pend_storage.query import Condition, FieldPath, field
from pend_storage.schema import CollectionSpec, Schema

__all__ = [
    "Keys",
    "conditions",
    "json_values",
    "keys_for",
    "orders",
    "records",
    "spoiled",
    "texts",
    "values",
]

Keys = Mapping[str, Sequence[str]]
"""Pool of keys, by collection."""

MEMBERS: Final = ("a", "b", "")
"""Member names in generated JSON objects."""
_COMMON: Final[Mapping[Kind, tuple[Any, ...]]] = {
    Kind.STR: ("a", "B", "", "ab", "A", "é", "\U0001f6a2", "\uffff", "%", "1", "AB2"),
    Kind.INT: (0, 1, -1, 2, 10, 2**31, 2**63, -(10**30)),
    Kind.BOOL: (True, False),
    Kind.FLOAT: (0.0, 1.0, -1.5, 0.1, 1e300, 5e-324, 1e23),
    Kind.DECIMAL: tuple(
        map(Decimal, ("0", "1", "1.50", "-0.25", "10", "1E+30", "1E-9"))
    ),
    Kind.DATETIME: (
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2020, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
    ),
    Kind.DATE: (date(2020, 1, 1), date(1, 1, 1), date(9999, 12, 31)),
    Kind.BYTES: (b"", b"a", b"\x00", b"\x00\xff", b"ab"),
    Kind.JSON: (None, 0, 1, 1.0, True, "", "a", "A", [], {}, [1], {"a": 1}, 1e23),
    Kind.OBJECT: ({}, {"a": 1}, {"a": None}, {"a": {"b": "a"}}, {"a": 1.0, "": []}),
    Kind.LIST: ([], [1], [1.0], ["a", None], [[]], [{"a": 1}]),
}
_KEYS: Final = ("a", "B", "b", "é", "\U0001f6a2", "10", "9", "a b")


def texts(**limits: Any) -> st.SearchStrategy[str]:
    """Generate text that every store can hold."""
    characters = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
    return st.text(characters, **limits)


def json_values(max_leaves: int = 8) -> st.SearchStrategy[JSON]:
    """Generate JSON values that every store can hold; member names repeat."""
    names = st.sampled_from(MEMBERS) | texts(max_size=3)
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts(max_size=8)
        | st.sampled_from(
            [c for c in _COMMON[Kind.JSON] if not isinstance(c, list | dict)]
        ),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
        ),
        max_leaves=max_leaves,
    )


def values(spec: FieldSpec) -> st.SearchStrategy[Any]:
    """Generate values of a field within its limits: common ones, and any."""
    strategy = _broad(spec).filter(_accepts(spec))
    common = [value for value in _common(spec) if _accepts(spec)(value)]
    if common:
        strategy = st.sampled_from(common) | strategy
    return st.none() | strategy if spec.optional else strategy


def _accepts(spec: FieldSpec) -> Any:
    check = value_checker(spec)

    def accepts(value: Any) -> bool:
        try:
            check(value)
        except (ValueError, TypeError):
            return False
        return True

    return accepts


def _common(spec: FieldSpec) -> Sequence[Any]:
    if spec.kind is Kind.CHOICE:
        return list(spec.enum) if spec.enum is not None else spec.choices
    return _COMMON[spec.kind]


def _broad(spec: FieldSpec) -> st.SearchStrategy[Any]:
    if spec.kind is Kind.CHOICE:
        return st.sampled_from(_common(spec))
    return _BROAD[spec.kind](spec.limit)


def _sizes(limit: Limit, usual: int) -> dict[str, Any]:
    low, high = limit.min_length or 0, limit.max_length
    most = low + usual
    return {"min_size": low, "max_size": most if high is None else min(most, high)}


def _limited_texts(limit: Limit) -> st.SearchStrategy[str]:
    if limit.pattern is not None:
        return st.from_regex(limit.pattern)
    return texts(**_sizes(limit, 8))


def _bounds(limit: Limit) -> tuple[Any, Any]:
    low = limit.ge if limit.gt is None else limit.gt
    high = limit.le if limit.lt is None else limit.lt
    return low, high


def _integers(limit: Limit) -> st.SearchStrategy[int]:
    low, high = _bounds(limit)
    return st.integers(
        None if low is None else math.ceil(low), None if high is None else int(high)
    )


def _decimals(limit: Limit) -> st.SearchStrategy[Decimal]:
    places = 6 if limit.places is None else limit.places
    low, high = _bounds(limit)
    unit = Decimal(1).scaleb(-places)
    most = 10 ** (limit.digits or 12)
    least = -most if low is None else math.ceil(Decimal(low) / unit)
    return st.integers(
        least, most if high is None else math.floor(Decimal(high) / unit)
    ).map(lambda number: number * unit)


def _floats(limit: Limit) -> st.SearchStrategy[float]:
    low, high = _bounds(limit)
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


def _datetimes(_: Limit) -> st.SearchStrategy[datetime]:
    zones = st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])
    years = [datetime(year, 1, 1) for year in (2, 9998)]  # noqa: DTZ001 - naive for st
    return st.datetimes(*years, timezones=zones)


def _objects(limit: Limit) -> st.SearchStrategy[Any]:
    names = st.sampled_from(MEMBERS) | texts(max_size=3)
    return st.dictionaries(names, json_values(4), **_sizes(limit, 3))


_BROAD: Final[Mapping[Kind, Callable[[Limit], st.SearchStrategy[Any]]]] = {
    Kind.STR: _limited_texts,
    Kind.INT: _integers,
    Kind.BOOL: lambda _: st.booleans(),
    Kind.FLOAT: _floats,
    Kind.DECIMAL: _decimals,
    Kind.DATETIME: _datetimes,
    Kind.DATE: lambda _: st.dates(),
    Kind.BYTES: lambda limit: st.binary(**_sizes(limit, 8)),
    Kind.JSON: lambda _: json_values(),
    Kind.OBJECT: _objects,
    Kind.LIST: lambda limit: st.lists(json_values(4), **_sizes(limit, 3)),
}


def keys_for(schema: Schema, size: int = 3) -> Keys:
    """Return a small pool of keys for each declared collection."""
    return {
        spec.name: _pool(spec.fields[spec.key], _KEYS, size) for spec in schema.declared
    }


def _pool(spec: FieldSpec, likely: Iterable[Any], size: int) -> list[Any]:
    """Return a few values of a field; never "" and never null."""
    accepts = _accepts(replace(spec, optional=False))
    found = [value for value in likely if value != "" and accepts(value)][:size]
    if len(found) >= size:
        return found

    @settings(
        max_examples=30,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_broad(spec).filter(accepts))
    def search(value: Any) -> None:
        if value != "" and value not in found and len(found) < size:
            found.append(value)

    search()
    return found


def records(
    schema: Schema, name: str, keys: Keys, *, key: str | None = None
) -> st.SearchStrategy[Any]:
    """Generate records of a collection, with keys and references from the pool.

    Args:
        schema: schema of the collection.
        name: name of the collection.
        keys: pool of keys.
        key: the only key to use; None for any of the pool.
    """
    spec = schema[name]
    alone = {field for group in spec.unique for field in group}
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for each in spec.fields.values():
        target = spec.references.get(each.name)
        if each.name == spec.key:
            fields[each.name] = st.sampled_from(keys[name] if key is None else [key])
        elif target is not None and keys.get(target):
            # A key of the pool may be missing in the store, so null must be the usual
            # case.
            choice = st.sampled_from(keys[target]).filter(_accepts(each))
            nulls = [st.none()] * 3 if each.optional else []
            fields[each.name] = st.one_of(*nulls, choice)
        elif each.name in alone:  # few values, so that unique ones collide often
            pool = st.sampled_from(_pool(each, _common(each), 3))
            fields[each.name] = pool | st.none() if each.optional else pool
        else:
            fields[each.name] = _or_default(each)
    return st.builds(spec.record_type, **fields)


def _or_default(spec: FieldSpec) -> st.SearchStrategy[Any]:
    """Generate mostly the default, so that a failing example shows what matters."""
    if spec.default is ... or not _accepts(replace(spec, optional=False))(spec.default):
        return st.none() | values(spec) if spec.optional else values(spec)
    return st.just(spec.default) | values(spec)


_BAD: Final[Mapping[Kind, tuple[Any, ...]]] = {
    Kind.STR: ("\x00", "a\ud800", 1, None),
    Kind.INT: (1.5, "1", True),
    Kind.BOOL: (0, "true"),
    Kind.FLOAT: (math.nan, math.inf, "1"),
    Kind.DECIMAL: (Decimal("NaN"), Decimal("Infinity"), 1.5),
    Kind.DATETIME: (datetime(2020, 1, 1), date(2020, 1, 1), "2020"),  # noqa: DTZ001
    Kind.DATE: (datetime(2020, 1, 1, tzinfo=UTC), 2020),
    Kind.BYTES: ("a", 1),
    Kind.CHOICE: ("no such choice", 10**9, object),
    Kind.JSON: (math.nan, {"a": "\x00"}, {"\ud800": 1}, object),
    Kind.OBJECT: ([], {"a": [math.inf]}, {1: 1}),
    Kind.LIST: ({}, ["\x00"], [{"\x00": 1}]),
}


def spoiled(
    schema: Schema, name: str, keys: Keys
) -> st.SearchStrategy[tuple[Any, str]]:
    """Generate records with one invalid value, and the name of that field."""
    spec = schema[name]

    good = records(schema, name, keys)

    def spoil(place: FieldSpec) -> st.SearchStrategy[tuple[Any, str]]:
        return st.tuples(good, st.sampled_from(_BAD[place.kind])).map(
            lambda pair: (replace(pair[0], **{place.name: pair[1]}), place.name)
        )

    choices = [spoil(each) for each in spec.fields.values()]
    return st.one_of(choices).filter(lambda pair: _is_refused(spec, pair[0]))


def _is_refused(spec: CollectionSpec, record: Any) -> bool:
    try:
        spec.codec.check(record)
    except InvalidRecord:
        return True
    return False


def conditions(spec: CollectionSpec, keys: Keys) -> st.SearchStrategy[Condition]:
    """Generate meaningful conditions on a collection, with operands that may match."""
    leaves = st.one_of(
        [_comparisons(spec, each, keys) for each in spec.fields.values()]
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a: ~a, inner),
        ),
        max_leaves=4,
    )


def _comparisons(
    spec: CollectionSpec, target: FieldSpec, keys: Keys
) -> st.SearchStrategy[Condition]:
    path = field(target.name)
    pool = keys.get(spec.references.get(target.name, spec.name), ())
    if target.name == spec.key or target.name in spec.references:
        return _typed(path, target, st.sampled_from(list(pool) or ["a"]))
    if target.kind in {Kind.OBJECT, Kind.JSON}:
        paths = st.lists(st.sampled_from(MEMBERS), max_size=2).map(
            lambda names: field(target.name, *names)
        )
        return paths.flatmap(_json_comparisons)
    if target.kind is Kind.LIST:
        return _json_comparisons(path)
    operands = values(replace(target, optional=False, limit=Limit()))
    return _typed(path, target, operands)


def _typed(
    path: FieldPath, target: FieldSpec, operands: st.SearchStrategy[Any]
) -> st.SearchStrategy[Condition]:
    choices = [*_any_kind(path, operands), *_ordering(path, operands)]
    if target.kind in {Kind.STR, Kind.CHOICE} and _is_text(target):
        choices += _textual(path)
    return st.one_of(choices)


def _is_text(target: FieldSpec) -> bool:
    return target.kind is Kind.STR or isinstance(target.choices[0], str)


def _json_comparisons(path: FieldPath) -> st.SearchStrategy[Condition]:
    operands = (
        st.sampled_from(_COMMON[Kind.JSON] + _COMMON[Kind.LIST] + _COMMON[Kind.OBJECT])
        | json_values(3)
    ).filter(lambda value: value is not None)
    return st.one_of(
        [*_any_kind(path, operands), *_ordering(path, operands), *_textual(path)]
    )


def _any_kind(
    path: FieldPath, operands: st.SearchStrategy[Any]
) -> list[st.SearchStrategy[Condition]]:
    return [
        operands.map(lambda v: path == v),
        operands.map(lambda v: path != v),
        st.lists(operands, max_size=3).map(path.in_),
        st.just(path.is_null()),
    ]


def _ordering(
    path: FieldPath, operands: st.SearchStrategy[Any]
) -> list[st.SearchStrategy[Condition]]:
    return [
        operands.map(lambda v: path < v),
        operands.map(lambda v: path <= v),
        operands.map(lambda v: path > v),
        operands.map(lambda v: path >= v),
    ]


def _textual(path: FieldPath) -> list[st.SearchStrategy[Condition]]:
    parts = st.sampled_from(_COMMON[Kind.STR]) | texts(max_size=2)
    return [parts.map(path.starts_with), parts.map(path.contains)]


def orders(spec: CollectionSpec) -> st.SearchStrategy[list[str]]:
    """Generate orders of a collection: up to three fields, each in either direction."""
    names = [each.name for each in spec.fields.values() if not each.kind.is_json]
    terms = st.sampled_from(names + [f"-{name}" for name in names])
    return st.lists(terms, max_size=3, unique_by=lambda term: term.removeprefix("-"))
