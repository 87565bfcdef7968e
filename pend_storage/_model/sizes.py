"""Size limits of records, so that every store can hold them.

PostgreSQL's ``jsonb`` has limits that neither memory nor a file has, and a message to a
server cannot be longer than 1 GiB. The smallest limit counts for every store: it is
checked when a record is put, before anything is written, and by the adoption of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from pend_storage._model import limits

__all__ = [
    "CLOSER_LOOK",
    "ROW_BYTES",
    "STORABLE",
    "SizeLimits",
    "TooLargeError",
    "check_value",
    "jsonb_bytes",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLimits:
    """Size limits of a record, of its JSON values, and of a commit.

    Sources: ``jsonb.h`` and ``jsonb_util.c`` of PostgreSQL 15. A value is built in memory
    in an array that doubles as it grows and may not pass 1 GiB (``MaxAllocSize``), which
    ends at half of what ``JSONB_MAX_ELEMS`` names.
    """

    record: int = limits.MAX_RECORD_BYTES
    commit: int = limits.MAX_COMMIT_BYTES
    """With :data:`ROW_BYTES` for each record."""
    value: int = limits.MAX_VALUE_BYTES
    items: int = limits.MAX_ITEMS
    members: int = limits.MAX_MEMBERS


STORABLE: Final = SizeLimits()
CLOSER_LOOK: Final = 1 << 25
"""Bytes of canonical JSON from which a record is measured. Shorter ones pass every limit:
``jsonb`` takes at most six times the text (``0,`` becomes 12 bytes), and so many items
need at least two bytes each."""

ROW_BYTES: Final = 128
"""Bytes that a record takes in a message or in the change log beside its JSON, at most."""

_ENTRY: Final = 4  # JEntry, of each item, and of each name and each value
_HEAD: Final = 4  # of a container
_PADDING: Final = 3  # numbers and containers begin at a multiple of four
_SHORT_NUMBER: Final = 8  # up to four digits, with its header
_NUMBER_HEAD: Final = 8
_FOUR_DIGITS: Final = 10_000
_WRITTEN_OUT: Final = 1e16  # from here on, floats are written with all their digits
_TOKEN: Final = _ENTRY + _PADDING + _NUMBER_HEAD + 2


class TooLargeError(ValueError):
    """A value is larger than some store can hold; the message has size and limit."""


def jsonb_bytes(value: Any, limits: SizeLimits = STORABLE) -> int:
    """Estimate the bytes of a JSON value as ``jsonb``: never too few, a little too many.

    Raises:
        TooLargeError: it is larger than the limits.
    """
    return _Measure(limits).container([value])


def check_value(value: Any, text: bytes, limits: SizeLimits = STORABLE) -> None:
    """Check that ``jsonb`` can hold a JSON value.

    Args:
        value: the value.
        text: canonical JSON of it, or of what it is a part of.
        limits: what is allowed.

    Raises:
        TooLargeError: it cannot.
    """
    # A quick count first: each mark can begin one item, of a few bytes beside its text.
    tokens = sum(map(text.count, (b",", b":", b"[", b"{"))) + 2
    fits = len(text) + _TOKEN * tokens <= limits.value
    if not fits or tokens > min(limits.items, limits.members):
        jsonb_bytes(value, limits)


class _Measure:
    """Estimate of the bytes of values as ``jsonb``, never too few."""

    def __init__(self, limits: SizeLimits) -> None:
        self._limits = limits

    def container(self, items: list[Any] | tuple[Any, ...]) -> int:
        """Return the bytes of a list, without its entry in the value around it."""
        if len(items) > self._limits.items:
            raise TooLargeError(
                f"a list of {len(items):,} items; {self._limits.items:,} can be stored"
            )
        return self._whole("a list", _ENTRY * len(items) + sum(map(self._item, items)))

    def _object(self, members: Mapping[str, Any]) -> int:
        if len(members) > self._limits.members:
            raise TooLargeError(
                f"an object of {len(members):,} members; {self._limits.members:,} can be "
                "stored"
            )
        names = sum(self._text("a member name", name) for name in members)
        values = sum(map(self._item, members.values()))
        return self._whole("an object", 2 * _ENTRY * len(members) + names + values)

    def _whole(self, what: str, size: int) -> int:
        size += _HEAD + _PADDING
        if size > self._limits.value:
            raise TooLargeError(
                f"{what} of {size:,} bytes or more; {self._limits.value:,} can be stored"
            )
        return size

    def _text(self, what: str, text: str) -> int:
        size = len(text) if text.isascii() else len(text.encode())
        if size > self._limits.value:
            raise TooLargeError(
                f"{what} of {size:,} bytes; {self._limits.value:,} can be stored"
            )
        return size

    def _item(self, item: Any) -> int:
        if isinstance(item, str):
            return self._text("a text", item)
        if item is None or type(item) is bool:
            return 0
        if type(item) is int and -_FOUR_DIGITS < item < _FOUR_DIGITS:
            return _SHORT_NUMBER
        if isinstance(item, Mapping):
            return self._object(item)
        if isinstance(item, list | tuple):
            return self.container(item)
        return _number(item)


def _number(item: Any) -> int:
    """Return the bytes of a number: two for four digits, aligned to the point."""
    if isinstance(item, float) and abs(item) >= _WRITTEN_OUT:
        digits = Decimal(item).adjusted() + 1
    else:
        digits = len(repr(item))
    return _NUMBER_HEAD + 2 * (digits // 4 + 2) + _PADDING
