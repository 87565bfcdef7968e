"""Constraints of a field beyond its kind: bounds, sizes, the shape of a container.

Each check gets a value of the right kind, and returns None, or the fault in a few words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, cast

import msgspec

from pend_storage._model.fields import FieldSpec, Kind, Limit
from pend_storage._model.limits import (
    MAX_INDEXED_BYTES,
    MAX_INDEXED_DIGITS,
    MAX_PATTERN_INPUT,
)
from pend_storage._shown import cut

__all__ = ["bound_checks"]

_Check = Callable[[Any], str | None]


def bound_checks(spec: FieldSpec) -> list[_Check]:
    """Return the checks of one field, cheapest first; none where it has no limits."""
    checks = [*_checks(spec.limit, spec.shown), *_index_checks(spec)]
    # Behind every check of the length: a pattern may take time by a power of it.
    return [*checks, *_pattern_checks(spec.limit, spec.shown), *_shape_checks(spec)]


def _checks(limit: Limit, shown: Callable[[Any], str]) -> Iterator[_Check]:
    if (ge := limit.ge) is not None:
        yield lambda v: None if v >= ge else f"{_number(shown, v)} is less than {ge}"
    if (gt := limit.gt) is not None:
        yield lambda v: None if v > gt else f"{_number(shown, v)} is not more than {gt}"
    if (le := limit.le) is not None:
        yield lambda v: None if v <= le else f"{_number(shown, v)} is more than {le}"
    if (lt := limit.lt) is not None:
        yield lambda v: None if v < lt else f"{_number(shown, v)} is not less than {lt}"
    if (low := limit.min_length) is not None:
        yield lambda v: None if len(v) >= low else f"shorter than {low}"
    if (high := limit.max_length) is not None:
        yield lambda v: None if len(v) <= high else f"{len(v)} long, {high} allowed"
    if limit.digits is not None or limit.places is not None:
        yield lambda v: _digits_excess(Decimal(v), limit, shown)


def _pattern_checks(limit: Limit, shown: Callable[[Any], str]) -> Iterator[_Check]:
    if limit.pattern is None:
        return
    if limit.max_length is None:
        yield _unbounded_excess
    search = re.compile(limit.pattern).search
    yield lambda v: None if search(v) else f"{shown(v)} does not match {limit.pattern}"


def _unbounded_excess(value: str) -> str | None:
    if len(value) <= MAX_PATTERN_INPUT:
        return None
    return (
        f"{len(value):,} characters are too many for a pattern, which sees "
        f"{MAX_PATTERN_INPUT:,}: declare max_length beside it to allow more"
    )


def _digits_excess(
    value: Decimal, limit: Limit, shown: Callable[[Any], str]
) -> str | None:
    places = max(0, -cast("int", _stripped(value).as_tuple().exponent))
    if limit.places is not None and places > limit.places:
        return f"{_number(shown, value)} has more than {limit.places} digits after the point"
    if limit.digits is None:
        return None
    before = max(0, value.adjusted() + 1) if value else 0
    if before > limit.digits - (limit.places or 0):
        return f"{_number(shown, value)} has too many digits before the point"
    return None


def _number(shown: Callable[[Any], str], value: Any) -> str:
    """Return a number as it is written, without the name of its type."""
    text = shown(value)
    return text.removeprefix("Decimal('").replace("')", "", 1)


def _stripped(value: Decimal) -> Decimal:
    """Strip trailing zeros; ``Decimal.normalize`` would round to the context."""
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    if not text:
        return Decimal(0)
    kept = tuple(map(int, text))
    return Decimal((sign, kept, cast("int", exponent) + len(digits) - len(text)))


def _index_checks(spec: FieldSpec) -> Iterator[_Check]:
    if not spec.indexed:
        return
    if spec.kind is Kind.STR:
        yield lambda v: _size_excess(v if v.isascii() else v.encode())
    elif spec.kind is Kind.BYTES:
        yield _size_excess
    elif spec.kind in {Kind.INT, Kind.DECIMAL}:
        yield lambda v: _number_excess(Decimal(v))


def _size_excess(value: str | bytes) -> str | None:
    if len(value) <= MAX_INDEXED_BYTES:
        return None
    return f"{len(value)} bytes long; an index holds {MAX_INDEXED_BYTES}"


def _number_excess(value: Decimal) -> str | None:
    exponent = cast("int", value.as_tuple().exponent)
    if not value or max(value.adjusted(), -exponent) < MAX_INDEXED_DIGITS:
        return None
    return f"it has more than the {MAX_INDEXED_DIGITS} digits that an index holds"


def _shape_checks(spec: FieldSpec) -> Iterator[_Check]:
    shape = spec.shape
    if shape is None:
        return

    def check(value: Any) -> str | None:
        try:
            read_back = msgspec.convert(value, shape)
        except msgspec.ValidationError as error:
            return cut(str(error))
        if read_back == value:
            return None
        return f"{spec.shown(value)} would become {spec.shown(read_back)}"

    yield check
