"""Conditions, orders and queries as values; what they mean is in :mod:`.query`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from typing_extensions import override

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
]


class Operator(StrEnum):
    """What a comparison does."""

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
    """What a record must meet. Combine with ``&``, ``|`` and ``~``."""

    __slots__ = ()

    def __and__(self, other: Condition) -> Condition:
        return And((self, _condition(other)))

    def __or__(self, other: Condition) -> Condition:
        return Or((self, _condition(other)))

    def __rand__(self, other: object) -> Condition:
        return And((_condition(other), self))

    def __ror__(self, other: object) -> Condition:
        return Or((_condition(other), self))

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
    """One field, or one place inside a JSON field, against a value."""

    path: tuple[str, ...]
    operator: Operator
    value: Any = None


@dataclass(frozen=True, slots=True)
class And(Condition):
    """All of them; of none: true."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or(Condition):
    """At least one of them."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """Exactly the opposite."""

    condition: Condition


class FieldPath:
    """A field to compare. Made by :func:`field`."""

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
        """Equal to one of the values; of none: false."""
        return Comparison(self.path, Operator.IN, tuple(values))

    def is_null(self) -> Condition:
        """Null; inside a JSON value also: missing."""
        return Comparison(self.path, Operator.IS_NULL)

    def starts_with(self, text: str) -> Condition:
        """Text that begins so, case counts."""
        return Comparison(self.path, Operator.STARTS_WITH, text)

    def contains(self, text: str) -> Condition:
        """Text with this part in it, ASCII case does not count."""
        return Comparison(self.path, Operator.CONTAINS, text)


def field(name: str, *path: str) -> FieldPath:
    """A field of a record, or a place inside of one that holds JSON objects.

    Args:
        name: the field.
        path: member names on the way into its JSON value.
    """
    return FieldPath((name, *path))


@dataclass(frozen=True, slots=True)
class SortKey:
    """One field to sort by."""

    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A checked query. Made by :func:`make_query`."""

    where: Condition = And(())
    order_by: tuple[SortKey, ...] = ()
    limit: int | None = None
    after: tuple[tuple[Any, ...], str] | None = None
    """Sort values and key of the last record of the page before."""
