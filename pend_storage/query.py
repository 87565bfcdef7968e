"""Queries: their meaning, the same for every store, their check, and their evaluation.

- A comparison with a null (or, inside a JSON value, a missing) field is false; ``!=`` is
  the exact opposite of ``==``, and ``~`` of whatever it stands before. Two values, never
  three.
- Text orders by code point. Case is folded for ASCII letters only, because folding
  beyond ASCII differs between servers, versions and locales.
- Inside JSON, ``==`` compares values (numbers by value, true is not 1); order comparisons
  hold only between two numbers or two texts.
- Nulls come last in either direction; ties are broken by key, ascending.
- No record holds a text that cannot be stored (U+0000, a lone surrogate), so a comparison
  with one is false, and not an error; in order it stands at its place by code point.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from typing_extensions import override

from pend_storage._model.conditions import (
    And,
    Comparison,
    Condition,
    FieldPath,
    Not,
    Operator,
    Or,
    Query,
    SortKey,
    field,
    joined,
    negated,
)
from pend_storage._model.diff import equal
from pend_storage._model.fields import FieldSpec, Kind, Limit
from pend_storage._model.limits import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_IN,
    MAX_LIMIT,
    MAX_OPERAND_BYTES,
    MAX_ORDER_BY,
)
from pend_storage._model.records import JSON, Row
from pend_storage._model.storable_text import (
    UnstorableTextError,
    is_storable,
    order_bound,
)
from pend_storage._shown import path_text, shown
from pend_storage.codec import check_json, value_checker
from pend_storage.errors import InvalidQuery
from pend_storage.schema import CollectionSpec

__all__ = [
    "And",
    "Comparison",
    "Condition",
    "FieldPath",
    "Not",
    "Operator",
    "Or",
    "Query",
    "SortKey",
    "field",
    "fold_case",
    "make_query",
    "matches",
    "select",
    "sort_key",
    "sort_values",
]

_ASCII_FOLD: Final = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}


def fold_case(text: str) -> str:
    """Lower case for A to Z; every other character stays."""
    return text.translate(_ASCII_FOLD)


_ORDERS: Final = frozenset({Operator.LT, Operator.LE, Operator.GT, Operator.GE})


_ALL: Final = And(())
_NONE: Final = Or(())


def make_query(
    spec: CollectionSpec,
    where: Sequence[Condition] = (),
    order_by: Sequence[str] = (),
    limit: int | None = None,
    after: tuple[tuple[Any, ...], str] | None = None,
) -> Query:
    """Check a query against a collection.

    Raises:
        InvalidQuery: an unknown field, a value of another type, a negative limit, or more
            than :mod:`~pend_storage._model.limits` allows.
    """
    if isinstance(order_by, str):
        raise InvalidQuery(
            f"order_by must be a list of names, not the text {shown(order_by)}"
        )
    _check_limit(limit)
    names = tuple(order_by)
    if len(names) > MAX_ORDER_BY:
        raise InvalidQuery(
            f"order_by has {len(names):,} fields; {MAX_ORDER_BY} are allowed"
        )
    orders = tuple(_order(spec, text) for text in names)
    return Query(_Checker(spec).all_of(where), orders, limit, after)


def _check_limit(limit: Any) -> None:
    if limit is None:
        return
    if type(limit) is not int or limit < 0:
        raise InvalidQuery(f"limit must be an integer, 0 or more, not {shown(limit)}")
    if limit > MAX_LIMIT:  # not shown: Python refuses to print very long integers
        raise InvalidQuery(
            f"limit is more than {MAX_LIMIT}; leave it out to get all records"
        )


def _order(spec: CollectionSpec, text: str) -> SortKey:
    if not isinstance(text, str):
        raise InvalidQuery(f"order_by must be a list of names, not of {shown(text)}")
    order = SortKey(text.removeprefix("-"), text.startswith("-"))
    if _field(spec, order.field).kind.is_json:
        raise InvalidQuery(
            f"{spec.name}: cannot sort by the JSON field {shown(order.field)}"
        )
    return order


def _field(spec: CollectionSpec, name: str) -> FieldSpec:
    if name not in spec.fields:
        raise InvalidQuery(
            f"{spec.name} has no field {shown(name)}; it has: {', '.join(spec.fields)}"
        )
    return spec.fields[name]


_SHORT: Final = 1_000
"""Characters of a text that is not counted: the number of comparisons is limited, too."""


class _Checker:
    """Check of the conditions of one query, and the count of what they hold."""

    def __init__(self, spec: CollectionSpec) -> None:
        self._spec = spec
        self._comparisons = 0
        self._bytes = 0

    def all_of(self, where: Sequence[Condition]) -> Condition:
        """Return the conjunction of checked conditions."""
        if len(where) > MAX_CONDITIONS:
            raise _too_many(len(where))
        return joined(And, tuple([self._checked(part) for part in where]))

    def _checked(self, condition: Condition) -> Condition:
        match condition:
            case And(parts) | Or(parts):
                checked = tuple([self._checked(part) for part in parts])
                return joined(type(condition), checked)
            case Not(part):
                return negated(self._checked(part))
            case Comparison():
                item = _with_values(condition)
                self._count(item)
                return _checked_comparison(self._spec, item)
            case _:
                raise InvalidQuery(
                    f"{shown(condition)} is not a condition: write field(...) == value, "
                    "for example"
                )

    def _count(self, item: Comparison) -> None:
        """Refuse a comparison with which the query holds too much, before it is checked."""
        self._comparisons += len(item.path)
        if self._comparisons > MAX_CONDITIONS:
            raise _too_many(self._comparisons)
        if len(item.path) > MAX_DEPTH + 1:
            raise InvalidQuery(
                f"{self._spec.name}.{path_text(item.path)} leads {len(item.path) - 1:,} "
                f"levels into a JSON value, and no value has more than {MAX_DEPTH}"
            )
        value = item.value
        if item.operator is Operator.IN and len(value) > MAX_IN:
            raise InvalidQuery(
                f"{self._spec.name}.{path_text(item.path)} in {len(value):,} values; "
                f"{MAX_IN:,} are allowed. Ask in parts"
            )
        is_short = type(value) is int or (type(value) is str and len(value) < _SHORT)
        if is_short and len(item.path) == 1:
            return
        self._bytes += _size(item.path) + _size(value)
        if self._bytes > MAX_OPERAND_BYTES:
            raise InvalidQuery(
                f"{self._spec.name}.{path_text(item.path)} {item.operator} "
                f"{shown(value)}: the values of one query can have {MAX_OPERAND_BYTES:,} "
                "bytes"
            )


def _with_values(item: Comparison) -> Comparison:
    """Return a comparison whose values, where it has several, are a tuple."""
    if item.operator is not Operator.IN or type(item.value) is tuple:
        return item
    try:
        return Comparison(item.path, item.operator, tuple(item.value))
    except TypeError:
        raise InvalidQuery(
            f"{path_text(item.path)} in {shown(item.value)}: in_() takes several values"
        ) from None


def _too_many(count: int) -> InvalidQuery:
    return InvalidQuery(
        f"{count:,} conditions, with each name of a path into a JSON value; a query can "
        f"have {MAX_CONDITIONS:,}. Use in_() for many values of one field"
    )


def _size(value: Any) -> int:
    """Return about the bytes of an operand; what is nested too deeply counts as nothing.

    The check of the value refuses that.
    """
    size, waiting, depth = 0, [value], 0
    while waiting and depth <= MAX_DEPTH:
        depth += 1
        inside: list[Any] = []
        for item in waiting:
            if isinstance(item, str):
                size += len(item) if item.isascii() else 3 * len(item)
            elif isinstance(item, bytes | bytearray | memoryview):
                size += len(item)
            elif isinstance(item, Mapping):
                inside += (*item, *item.values())
            elif isinstance(item, list | tuple):
                inside += item
            else:
                size += 8
        if size > MAX_OPERAND_BYTES:
            break
        waiting = inside
    return size


def _checked_comparison(spec: CollectionSpec, item: Comparison) -> Condition:
    target = _field(spec, item.path[0])
    if len(item.path) > 1 and target.kind not in {Kind.OBJECT, Kind.JSON}:
        raise InvalidQuery(f"{spec.name}.{target.name} is not a JSON object")
    if not all(isinstance(name, str) for name in item.path):
        raise InvalidQuery(f"{spec.name}: the names of a path are text")
    if not all(map(is_storable, item.path)):
        return _ALL if item.operator is Operator.IS_NULL else _NONE
    check = _operand_checker(target, item.operator, in_json=target.kind.is_json)
    try:
        match item.operator:
            case Operator.IS_NULL:
                return item
            case Operator.IN:
                value: Any = tuple(_storable(check, item.value))
            case _:
                value = check(item.value)
    except UnstorableTextError:
        return _by_order(item)
    except (ValueError, TypeError) as error:
        raise InvalidQuery(
            f"{spec.name}.{path_text(item.path)} {item.operator} {target.shown(item.value)}: {error}"
        ) from None
    if target.kind.is_json and item.operator in _ORDERS and not _has_order(value):
        return _NONE
    return Comparison(item.path, item.operator, value)


def _storable(check: Callable[[Any], Any], values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        with contextlib.suppress(UnstorableTextError):
            yield check(value)


def _by_order(item: Comparison) -> Condition:
    """Replace a comparison with an unstorable text: only its order can be met."""
    if item.operator not in _ORDERS or not isinstance(item.value, str):
        return _NONE
    bound, is_above = order_bound(item.value)
    if item.operator in {Operator.LT, Operator.LE}:
        operator = Operator.LT if is_above else Operator.LE
    else:
        operator = Operator.GE if is_above else Operator.GT
    return Comparison(item.path, operator, bound)


def _has_order(value: JSON) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _operand_checker(
    target: FieldSpec, operator: Operator, *, in_json: bool
) -> Callable[[Any], Any]:
    if operator in {Operator.STARTS_WITH, Operator.CONTAINS}:
        if not (in_json or target.kind is Kind.STR or _is_word(target)):
            raise InvalidQuery(f"{target.name} is not text")
        return value_checker(FieldSpec(target.name, Kind.STR))
    if in_json:
        return _json_operand
    if target.kind is Kind.CHOICE:
        return _choice_operand(target)
    return _unlimited(target.name, target.kind)


@functools.lru_cache(maxsize=1024)
def _unlimited(name: str, kind: Kind) -> Callable[[Any], Any]:
    # Limits of the field do not bind the operand: tier < 99 is a fair question.
    return value_checker(FieldSpec(name, kind, limit=Limit()))


def _is_word(target: FieldSpec) -> bool:
    return target.kind is Kind.CHOICE and isinstance(target.choices[0], str)


def _json_operand(value: Any) -> JSON:
    if value is None:
        raise InvalidQuery("use is_null() to ask for null")
    return check_json(value)


def _choice_operand(target: FieldSpec) -> Callable[[Any], Any]:
    kind = Kind.STR if _is_word(target) else Kind.INT
    check = value_checker(FieldSpec(target.name, kind))
    return lambda value: check(value.value if isinstance(value, Enum) else value)


# -- evaluation -------------------------------------------------------------------


def matches(condition: Condition, record: Any) -> bool:
    """Return whether a record meets a checked condition."""
    return _test(condition)(record)


def _test(condition: Condition) -> Callable[[Any], bool]:
    """Compile a condition to a function, for many records."""
    match condition:
        case And(parts) | Or(parts):
            tests = tuple(map(_test, parts))
            return tests[0] if len(tests) == 1 else _joined(tests, type(condition))
        case Not(part):
            test = _test(part)
            return lambda record: not test(record)
        case Comparison(path, Operator.IN, values) if set(map(type, values)) == {str}:
            texts = frozenset(values)  # else each record is compared with each of them
            return lambda record: _is_among(_value_at(record, path), texts)
        case Comparison(path, operator, value):
            holds = _EVALUATE[operator]
            return lambda record: holds(_value_at(record, path), value)
        case _:
            raise TypeError(f"not a condition: {condition!r}")


def _joined(
    tests: Sequence[Callable[[Any], bool]], kind: type[Condition]
) -> Callable[[Any], bool]:
    decisive = kind is Or

    def test(record: Any) -> bool:
        for each in tests:  # a generator takes twice as long
            if each(record) is decisive:
                return decisive
        return not decisive

    return test


def _is_among(found: Any, texts: frozenset[str]) -> bool:
    return isinstance(found, str) and found in texts


def _value_at(record: Any, path: tuple[str, ...]) -> Any:
    value = getattr(record, path[0])
    for name in path[1:]:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value.value if isinstance(value, Enum) else value


def _comparable(found: Any, value: Any) -> bool:
    """Return whether two values have an order: numbers, texts, or values of one kind."""
    if found is None or isinstance(found, bool) is not isinstance(value, bool):
        return False
    if isinstance(found, str) or isinstance(value, str):
        return isinstance(found, str) and isinstance(value, str)
    return not isinstance(found, Mapping | list) and not isinstance(
        value, Mapping | list
    )


def _compares(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda found, value: _comparable(found, value) and test(found, value)


def _text(test: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    return lambda found, value: isinstance(found, str) and test(found, value)


_EVALUATE: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    Operator.EQ: lambda found, value: found is not None and equal(found, value),
    Operator.LT: _compares(lambda found, value: found < value),
    Operator.LE: _compares(lambda found, value: found <= value),
    Operator.GT: _compares(lambda found, value: found > value),
    Operator.GE: _compares(lambda found, value: found >= value),
    Operator.IN: lambda found, values: (
        found is not None and any(equal(found, value) for value in values)
    ),
    Operator.IS_NULL: lambda found, _: found is None,
    Operator.STARTS_WITH: _text(lambda found, value: found.startswith(value)),
    Operator.CONTAINS: _text(lambda found, value: fold_case(value) in fold_case(found)),
}


class _Descending:
    """Value in descending order, for use in a sort key."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Descending) -> bool:
        return bool(other.value < self.value)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and bool(other.value == self.value)

    __hash__ = None  # type: ignore[assignment]


def sort_key(
    order_by: Sequence[SortKey], values: Sequence[Any], key: str
) -> tuple[Any, ...]:
    """Return the sort key of a record: nulls last in either direction, then the key."""
    parts: list[Any] = []
    for order, value in zip(order_by, values, strict=True):
        if value is None:
            parts.append((1, 0))
        else:
            parts.append((0, _Descending(value) if order.descending else value))
    return (*parts, key)


def sort_values(order_by: Sequence[SortKey], record: Any) -> tuple[Any, ...]:
    """Return the values of a record that it is sorted by."""
    return tuple(_value_at(record, (order.field,)) for order in order_by)


def select(query: Query, rows: Iterable[Row]) -> list[Row]:
    """Evaluate a checked query on rows: filter, sort, skip to the cursor, limit."""
    meets = _test(query.where)
    keyed = [
        (
            sort_key(query.order_by, sort_values(query.order_by, row.record), row.key),
            row,
        )
        for row in rows
        if meets(row.record)
    ]
    if query.after is not None:
        start = sort_key(query.order_by, *query.after)
        keyed = [pair for pair in keyed if start < pair[0]]
    keyed.sort(key=lambda pair: pair[0])
    return [row for _, row in keyed[: query.limit]]
