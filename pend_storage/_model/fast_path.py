"""Fast path of the codec: a cheap test for records that may be stored as they are.

Every write of every store passes the checks of :mod:`pend_storage.codec`. Most values are
of the plain type with nothing odd in them, and this test finds that in a fraction of the
time. It is never true where a check would refuse or change a value. Where it is false, the
checks decide.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final, TypeAlias

from pend_storage._model.fields import FieldSpec, Kind, Limit
from pend_storage._model.limits import (
    MAX_BITS,
    MAX_DEPTH,
    MAX_INDEXED_BYTES,
    MAX_INDEXED_DIGITS,
    MAX_PATTERN_INPUT,
)

__all__ = ["PlainRecords", "plain_json"]

_Test: TypeAlias = Callable[[Any], Any]
"""Test of a value whose type is known to be the plain one; true: store it as it is."""
_Shape: TypeAlias = tuple[type, ...]

_MOST_SHAPES: Final = 1_000
"""Combinations of types that are cached; records of one type have few."""
_ENOUGH: Final = 1 << 128
"""Integers between this and its negative need no counting of bits."""


def plain_json(value: Any, depth: int = 0) -> bool:
    """Return whether a JSON value can be stored just as it is."""
    kind = type(value)
    if kind is dict:
        for name in value:
            if type(name) is not str or not name.isascii() or "\x00" in name:
                return False
        return depth < MAX_DEPTH and _plain_items(value.values(), depth + 1)
    if kind is list:
        return depth < MAX_DEPTH and _plain_items(value, depth + 1)
    return _plain_items((value,), depth)


def _plain_items(items: Any, depth: int) -> bool:  # noqa: C901 - calls would cost more
    for item in items:
        kind = type(item)
        if kind is str:
            if not item.isascii() or "\x00" in item:
                return False
        elif kind is int:
            if item.bit_length() > MAX_BITS:
                return False
        elif kind is float:
            if not math.isfinite(item) or item == 0.0:
                return False
        elif kind is dict or kind is list:
            if not plain_json(item, depth):
                return False
        elif item is not None and kind is not bool:
            return False
    return True


class PlainRecords:
    """Test of records of one type that need no further check.

    The tests that a record needs follow from the types of its values: a null needs none at
    all. So the tests are cached by the tuple of types.
    """

    def __init__(self, fields: tuple[FieldSpec, ...]) -> None:
        self._fields = fields
        # The class makes it a tuple where there is one field only.
        self._values = attrgetter(*(f.name for f in fields), "__class__")
        self._tests: dict[_Shape, tuple[tuple[int, _Test], ...]] = {}

    def __call__(self, record: Any) -> bool:
        """Return whether every value of the record may be stored just as it is."""
        values = self._values(record)
        shape = tuple(map(type, values))
        tests = self._tests.get(shape)
        if tests is None:
            tests = self._learn(shape)
        for index, test in tests:  # noqa: SIM110 - a generator would cost more
            if not test(values[index]):
                return False
        return True

    def _learn(self, shape: _Shape) -> tuple[tuple[int, _Test], ...]:
        if len(self._tests) >= _MOST_SHAPES:
            self._tests.clear()
        found = (_test(f, kind) for f, kind in zip(self._fields, shape, strict=False))
        tests = tuple((i, test) for i, test in enumerate(found) if test is not None)
        self._tests[shape] = tests
        return tests


def _never(_: Any) -> bool:
    return False


def _test(spec: FieldSpec, kind: type) -> _Test | None:
    """Make the test of one field for values of exactly this type; None: all are plain."""
    if kind is type(None) and spec.optional:
        return None
    if spec.kind is Kind.CHOICE:
        return _choice(spec, kind)
    make = _TESTS.get((spec.kind, kind))
    if make is None or spec.shape is not None:
        return _never
    return make(_indexable(spec) if spec.indexed else spec.limit)


def _indexable(spec: FieldSpec) -> Limit:
    """Return the limits of an indexed field, with the size that an index holds."""
    limit = spec.limit
    if spec.kind is Kind.STR:  # only ASCII is plain, so characters are bytes
        allowed = MAX_INDEXED_BYTES if limit.max_length is None else limit.max_length
        return replace(limit, max_length=min(allowed, MAX_INDEXED_BYTES))
    if spec.kind is Kind.DECIMAL and limit.digits is not None:
        places = min(limit.places or 0, MAX_INDEXED_DIGITS - 1)
        return replace(
            limit, digits=min(limit.digits, MAX_INDEXED_DIGITS), places=places
        )
    return limit


def _choice(spec: FieldSpec, kind: type) -> _Test | None:
    if spec.enum is not None:
        return None if kind is spec.enum else _never
    choices = frozenset(spec.choices)
    return choices.__contains__ if kind is type(spec.choices[0]) else _never


def _only(limit: Limit, *known: str) -> bool:
    """Return whether a limit sets only bounds of these names."""
    return all(getattr(limit, n) is None for n in Limit.__slots__ if n not in known)


def _text(limit: Limit) -> _Test:
    if not _only(limit, "max_length", "pattern"):
        return _never
    longest = limit.max_length
    if limit.pattern is not None:
        search = re.compile(limit.pattern).search
        most = MAX_PATTERN_INPUT if longest is None else longest
        # The length first: a pattern may take time by a power of it.
        return lambda value: (
            len(value) <= most
            and value.isascii()
            and "\x00" not in value
            and search(value)
        )
    if longest is not None:
        return lambda value: (
            len(value) <= longest and value.isascii() and "\x00" not in value
        )
    return lambda value: value.isascii() and "\x00" not in value


def _integer(limit: Limit) -> _Test:
    if not _only(limit, "ge", "le"):
        return _never
    low = -_ENOUGH if limit.ge is None else max(limit.ge, -_ENOUGH)
    high = _ENOUGH if limit.le is None else min(limit.le, _ENOUGH)
    return lambda value: low <= value <= high


def _float(limit: Limit) -> _Test:
    if not _only(limit):
        return _never
    # Zero may be negative: the check looks closely.
    return lambda value: value != 0.0 and math.isfinite(value)


def _decimal(limit: Limit) -> _Test:
    if not _only(limit, "digits", "places") or limit.digits is None:
        return _never
    places = limit.places or 0
    before = limit.digits - places

    def test(value: Decimal) -> bool:
        if not value or not value.is_finite():
            return False
        exponent = value.as_tuple().exponent
        return (
            type(exponent) is int and -places <= exponent and value.adjusted() < before
        )

    return test


def _time(limit: Limit) -> _Test:
    return (lambda value: value.tzinfo is UTC) if _only(limit) else _never


def _flag(limit: Limit) -> _Test | None:
    return None if _only(limit) else _never


def _json(limit: Limit) -> _Test:
    return plain_json if _only(limit) else _never


_TESTS: Final[Mapping[tuple[Kind, type], Callable[[Limit], _Test | None]]] = {
    (Kind.STR, str): _text,
    (Kind.INT, int): _integer,
    (Kind.FLOAT, float): _float,
    (Kind.DECIMAL, Decimal): _decimal,
    (Kind.DATETIME, datetime): _time,
    (Kind.BOOL, bool): _flag,
    (Kind.OBJECT, dict): _json,
    (Kind.LIST, list): _json,
    **{(Kind.JSON, kind): _json for kind in (dict, list, str, int, bool, type(None))},
}
