"""Equality by value, and the differences between two records. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from typing_extensions import override

from pend_storage._shown import (
    MOST_SHOWN,
    bounded,
    bounded_path,
    outline,
    path_text,
    shown,
)

__all__ = ["ABSENT", "Difference", "differences", "equal"]


class _Absent:
    """Marker of a missing member, which is not the same as null."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()


_MOST: Final = 2 * MOST_SHOWN  # a value that is cut already is not cut again
_SCALARS: Final = frozenset({str, int, bool, float, datetime})
"""Types for which ``==`` is equality by value."""
_SEQUENCES: Final = (list, tuple)
"""Both become an array when they are stored, and come back as a list."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference: one place at which two records are not equal."""

    path: tuple[str | int, ...]
    """Field, then member names and list indices inside of its JSON value."""
    left: Any
    right: Any

    @override
    def __str__(self) -> str:
        return f"{path_text(self.path)}: {shown(self.left, _MOST)} is not {shown(self.right, _MOST)}"

    def hidden(self) -> Difference:
        """Return the place of the difference, and of its values only type and size."""
        return Difference(self.path, outline(self.left), outline(self.right))

    def bounded(self) -> Difference:
        """Return the difference with its values cut, as reports keep it."""
        return Difference(
            bounded_path(self.path), bounded(self.left), bounded(self.right)
        )


def equal(left: Any, right: Any) -> bool:
    """Compare by value: numbers by value, but true is not 1 and text is not a number."""
    if type(left) is type(right) and type(left) in _SCALARS:
        return bool(left == right)
    return next(_walk(left, right, ()), None) is None


def differences(left: Any, right: Any) -> tuple[Difference, ...]:
    """Return every place at which two records (or two JSON values) differ."""
    return tuple(_walk(_plain(left), _plain(right), ()))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return value


def _walk(left: Any, right: Any, path: tuple[str | int, ...]) -> Iterator[Difference]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for name in {**left, **right}:
            yield from _walk(
                left.get(name, ABSENT), right.get(name, ABSENT), (*path, name)
            )
    elif isinstance(left, _SEQUENCES) and isinstance(right, _SEQUENCES):
        if len(left) != len(right):
            yield Difference(path, left, right)
            return
        for index, pair in enumerate(zip(left, right, strict=True)):
            yield from _walk(*pair, (*path, index))
    elif isinstance(left, bool) is not isinstance(right, bool) or left != right:
        yield Difference(path, left, right)
