"""Notes on the legacy spelling of a record, under one reserved name in ``extra``.

``absent``
    missing typed members, whose column has a default;
``order``
    the member names in their order, where it was not the usual one;
``numbers``
    the digits of numbers that no float holds, by their path in the legacy record;
``own``
    the record's own member of the reserved name, if it has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pend_storage.legacy._exact_json import Path, exact_numbers, with_numbers

__all__ = ["RESERVED", "Notes", "attach", "detach", "make"]

RESERVED: Final = "$legacy"
"""Reserved name in ``extra``."""


@dataclass(frozen=True, slots=True)
class Notes:
    """Notes of one record; empty for a record that new code made."""

    absent: frozenset[str] = frozenset()
    order: Sequence[str] = ()
    numbers: Sequence[tuple[Path, str]] = ()

    def finish(self, value: dict[str, Any]) -> dict[str, Any]:
        """Restore the order of members and exact digits in a legacy record."""
        if self.order:
            names = [name for name in self.order if name in value]
            value = {name: value[name] for name in dict.fromkeys([*names, *value])}
        if self.numbers:
            restored: dict[str, Any] = with_numbers(value, self.numbers)
            return restored
        return value


_NONE: Final = Notes()


def make(
    *, absent: Sequence[str], order: Sequence[str] | None, value: Any
) -> dict[str, Any]:
    """Make the notes of a record.

    Args:
        absent: missing typed members.
        order: member names in the file; None: the usual order.
        value: the legacy record; None: without exact numbers.
    """
    made: dict[str, Any] = {}
    if absent:
        made["absent"] = list(absent)
    if order is not None:
        made["order"] = list(order)
    if value is not None:
        made["numbers"] = numbers_of(value)
    return made


def numbers_of(value: Any) -> list[Any]:
    """Return the exact numbers of a value, as JSON."""
    return [[list(path), text] for path, text in exact_numbers(value)]


def attach(extra: dict[str, Any], made: dict[str, Any]) -> None:
    """Add notes to an ``extra``."""
    if RESERVED in extra:
        made["own"] = extra.pop(RESERVED)
    if made:
        extra[RESERVED] = made


def detach(extra: Mapping[str, Any]) -> tuple[Mapping[str, Any], Notes]:
    """Split an ``extra`` into legacy members, with exact digits, and notes."""
    made = extra.get(RESERVED)
    if not isinstance(made, Mapping):
        return extra, _NONE
    members = {name: item for name, item in extra.items() if name != RESERVED}
    if "own" in made:
        members[RESERVED] = made["own"]
    numbers = as_numbers(made.get("numbers"))
    found = Notes(
        frozenset(_names(made.get("absent"))), _names(made.get("order")), numbers
    )
    return (with_numbers(members, numbers) if numbers else members), found


def as_numbers(noted: Any) -> list[tuple[Path, str]]:
    """Decode noted numbers for :func:`with_numbers`; malformed ones are skipped."""
    pairs = noted if isinstance(noted, list) else []
    return [
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list)
        and len(pair) == 2  # noqa: PLR2004 - a path and its digits
        and isinstance(pair[0], list)
        and isinstance(pair[1], str)
    ]


def _names(noted: Any) -> list[str]:
    return [n for n in noted if isinstance(n, str)] if isinstance(noted, list) else []


def numbers_in(extra: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Return the exact numbers that an ``extra`` notes."""
    made = extra.get(RESERVED)
    return as_numbers(made.get("numbers")) if isinstance(made, Mapping) else []


def renewed(present: Mapping[str, Any], read: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the notes in an ``extra``, and keep its other members."""
    kept = {name: item for name, item in present.items() if name != RESERVED}
    return {**kept, **read}
