"""Conditions, sort keys and queries as values; their meaning is in :mod:`.query`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as attribute
from enum import StrEnum
from typing import Any, ClassVar, Final

from typing_extensions import override

from pend_storage._model.limits import MAX_CONDITION_DEPTH, MAX_CONDITIONS
from pend_storage._shown import shown
from pend_storage.errors import InvalidQuery

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
    "joined",
    "negated",
]


class Operator(StrEnum):
    """Operator of a comparison."""

    EQ = "=="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IN = "in"
    IS_NULL = "is null"
    STARTS_WITH = "starts with"
    CONTAINS = "contains"


class Condition:
    """Condition on a record. Combine with ``&``, ``|`` and ``~``.

    A chain of one operator is one flat condition, and two negations are none. A condition
    has at most 10,000 parts and 100 levels: making a larger one raises ``InvalidQuery``.
    """

    __slots__ = ()

    def __and__(self, other: Condition) -> Condition:
        return _chain(And, self, _condition(other))

    def __or__(self, other: Condition) -> Condition:
        return _chain(Or, self, _condition(other))

    def __rand__(self, other: object) -> Condition:
        return _chain(And, _condition(other), self)

    def __ror__(self, other: object) -> Condition:
        return _chain(Or, _condition(other), self)

    def __invert__(self) -> Condition:
        return Not(self)

    def __bool__(self) -> bool:
        raise InvalidQuery(
            "a condition has no truth of its own: combine conditions with &, | and ~ "
            "instead of and, or and not."
        )


def _condition(value: object) -> Condition:
    if isinstance(value, Condition):
        return value
    raise InvalidQuery(
        f"{shown(value)} is not a condition. Put each comparison in parentheses, as in "
        '(field("a") == 1) & (field("b") == 2).'
    )


@dataclass(frozen=True, slots=True)
class Comparison(Condition):
    """Comparison of one field, or of a place inside a JSON field, with a value."""

    path: tuple[str, ...]
    operator: Operator
    value: Any = None


@dataclass(frozen=True, slots=True)
class And(Condition):
    """Conjunction: all conditions; true without any."""

    conditions: tuple[Condition, ...]
    depth: int = attribute(init=False, repr=False, compare=False, default=0)
    """Levels of conditions, with this one."""

    def __post_init__(self) -> None:
        _measure(self, self.conditions)


@dataclass(frozen=True, slots=True)
class Or(Condition):
    """Disjunction: at least one condition; false without any."""

    conditions: tuple[Condition, ...]
    depth: int = attribute(init=False, repr=False, compare=False, default=0)
    """Levels of conditions, with this one."""

    def __post_init__(self) -> None:
        _measure(self, self.conditions)


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """Negation: exactly the opposite of a condition, for nulls too."""

    condition: Condition
    depth: int = attribute(init=False, repr=False, compare=False, default=0)
    """Levels of conditions, with this one."""

    def __post_init__(self) -> None:
        _measure(self, (self.condition,))

    @override
    def __invert__(self) -> Condition:
        return self.condition


_set: Final = object.__setattr__


def _measure(made: And | Or | Not, parts: tuple[Condition, ...]) -> None:
    """Record the depth of a new condition, and refuse one that is too large.

    Here, where it is made: a deep one exhausts the stack of whatever walks through it, its
    ``repr`` and ``pickle`` included.
    """
    _require_few(len(parts))
    depth = 1 + max([getattr(part, "depth", 0) for part in parts], default=0)
    _require_shallow(depth)
    _set(made, "depth", depth)


def _require_few(count: int) -> None:
    if count > MAX_CONDITIONS:
        raise InvalidQuery(
            f"{count:,} conditions; a query can have {MAX_CONDITIONS:,}. Use in_() for "
            "many values of one field"
        )


def _require_shallow(depth: int) -> None:
    if depth > MAX_CONDITION_DEPTH:
        raise InvalidQuery(
            f"conditions in {depth:,} levels of &, | and ~; a query can have "
            f"{MAX_CONDITION_DEPTH}. Join them by one operator where it means the same"
        )


def joined(
    kind: type[And | Or], parts: tuple[Condition, ...], *, depth: int | None = None
) -> And | Or:
    """Join conditions that were checked already.

    Args:
        kind: :class:`And` or :class:`Or`.
        parts: the conditions.
        depth: of the result, where it is known; None: it is computed.
    """
    made = object.__new__(kind)
    _set(made, "conditions", parts)
    if depth is None:
        depth = 1 + max([getattr(part, "depth", 0) for part in parts], default=0)
    _set(made, "depth", depth)
    return made


def negated(condition: Condition) -> Not:
    """Negate a condition that was checked already."""
    made = object.__new__(Not)
    _set(made, "condition", condition)
    _set(made, "depth", 1 + getattr(condition, "depth", 0))
    return made


def _chain(kind: type[And | Or], left: Condition, right: Condition) -> Condition:
    """Join two conditions; those that are joined by the same operator, as one."""
    parts: tuple[Condition, ...] = ()
    depth = 0
    for each in (left, right):
        if isinstance(each, kind):
            parts += each.conditions
            depth = max(depth, each.depth - 1)
        else:
            parts += (each,)
            depth = max(depth, getattr(each, "depth", 0))
    _require_few(len(parts))
    _require_shallow(1 + depth)
    return joined(kind, parts, depth=1 + depth)


class FieldPath:
    """Path of a field to compare. Made by :func:`field`."""

    __slots__ = ("path",)
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # == makes a condition

    def __init__(self, path: tuple[str, ...]) -> None:
        self.path: tuple[str, ...] = path

    @override
    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return Comparison(self.path, Operator.EQ, value)

    @override
    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return Not(Comparison(self.path, Operator.EQ, value))

    def __lt__(self, value: Any) -> Condition:
        return Comparison(self.path, Operator.LT, value)

    def __le__(self, value: Any) -> Condition:
        return Comparison(self.path, Operator.LE, value)

    def __gt__(self, value: Any) -> Condition:
        return Comparison(self.path, Operator.GT, value)

    def __ge__(self, value: Any) -> Condition:
        return Comparison(self.path, Operator.GE, value)

    def in_(self, values: Iterable[Any]) -> Condition:
        """Match a value equal to one of these, at most 100,000; never, without any."""
        return Comparison(self.path, Operator.IN, tuple(values))

    def is_null(self) -> Condition:
        """Match null; inside a JSON value also a missing member."""
        return Comparison(self.path, Operator.IS_NULL)

    def starts_with(self, text: str) -> Condition:
        """Match text that begins with this; case counts."""
        return Comparison(self.path, Operator.STARTS_WITH, text)

    def contains(self, text: str) -> Condition:
        """Match text that contains this; ASCII case does not count."""
        return Comparison(self.path, Operator.CONTAINS, text)


def field(name: str, *path: str) -> FieldPath:
    """Name a field of a record, or a place inside of its JSON value, for a condition.

    Args:
        name: of the field.
        path: member names, from the outermost object inwards.
    """
    return FieldPath((name, *path))


@dataclass(frozen=True, slots=True)
class SortKey:
    """Sort key: one field, ascending or descending."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Checked query. Made by :func:`make_query`."""

    where: Condition = And(())
    order_by: tuple[SortKey, ...] = ()
    limit: int | None = None
    after: tuple[tuple[Any, ...], str] | None = None
    """Sort values and key of the last record of the page before."""
