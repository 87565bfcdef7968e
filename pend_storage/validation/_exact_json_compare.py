"""Exact comparison of two JSON texts by value, quick where they are mostly equal.

Exactly: numbers by the decimal value that is written there, whatever their size; true is
not 1; members given twice count twice; NaN and infinities, which are not JSON but do
occur, equal themselves. The order of members and the way of writing them do not count.

Quickly: equal bytes are equal values. Long texts are divided by a scan for brackets alone,
and only parts whose bytes differ are parsed.
"""

from __future__ import annotations

import json
import mmap
import re
from array import array
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from operator import itemgetter
from typing import Any, Final, TypeAlias

__all__ = ["Text", "Unequal", "unequal"]

_SHOWN: Final = 200
"""Characters of a text that a finding shows."""
_LONG: Final = 20_000
"""Bytes from which on a text is taken apart instead of parsed."""
_LONGEST_INT: Final = 4_000
"""Digits; CPython refuses to convert much more than these to an int."""

_SPACE: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_START: Final = re.compile(_SPACE + rb"([\[{])" + _SPACE, re.DOTALL)
_NAME: Final = re.compile(b"(%b)%b:%b" % (_STRING, _SPACE, _SPACE), re.DOTALL)
_SIMPLE: Final = re.compile(rb'%b|[^ \t\r\n,"\[\]{}]++' % _STRING, re.DOTALL)
_COMMA: Final = re.compile(b"%b,%b" % (_SPACE, _SPACE))
_ENDS: Final = {
    b"[": re.compile(rb"%b\]%b" % (_SPACE, _SPACE)),
    b"{": re.compile(b"%b}%b" % (_SPACE, _SPACE)),
}
# Up to the next bracket outside of strings, and that bracket.
_BRACKET: Final = re.compile(
    rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*+([\[\]{}])' % _STRING, re.DOTALL
)

Text: TypeAlias = bytes | mmap.mmap
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Unequal:
    """Place at which two texts do not have the same value."""

    path: Path
    left: str
    """The text there, shortened; empty where there is none."""
    right: str


@dataclass(frozen=True, slots=True)
class _Word:
    """NaN or an infinity, or a number that Decimal cannot hold."""

    text: str


def unequal(left: Text, right: Text) -> Generator[Unequal]:
    """Yield the places at which two JSON texts differ by value; none if they are equal.

    A text that is not JSON equals only itself, byte by byte. Close the generator before
    the mapped files that it reads.
    """
    yield from _unequal(left, right, ())


def _unequal(left: Text, right: Text, path: Path) -> Iterator[Unequal]:
    if left == right:  # of mapped files only the identity: others have compared them
        return
    if len(left) + len(right) < _LONG and _same_texts(bytes(left), bytes(right)):
        return
    a, b = _divide(left), _divide(right)
    if a is None or b is None or (a.names is None) is not (b.names is None):
        if not _same_texts(bytes(left), bytes(right)):
            yield Unequal(path, _shown(left), _shown(right))
        return
    for step, x, y in _paired(a, b):
        one, other = left[slice(*a.span(x))], right[slice(*b.span(y))]
        yield from _unequal(one, other, (*path, step))


def _same_texts(left: bytes, right: bytes) -> bool:
    if not (left and right):
        return False
    try:
        a, b = _parse(left), _parse(right)
        # Only with a true or a false in it can what Python calls equal be something else.
        return bool(a == b) and (not _may_hold_bool(left) or _same(a, b))
    except (ValueError, RecursionError):
        return False


def _may_hold_bool(text: bytes) -> bool:
    return b"true" in text or b"false" in text


def _shown(text: Text) -> str:
    cut = text[: _SHOWN + 1].decode("utf-8", "backslashreplace")
    return cut if len(text) <= _SHOWN else f"{cut[:_SHOWN]}..."


# -- dividing ------------------------------------------------------------------------


@dataclass(slots=True)
class _Parts:
    """Spans of the items of a list, or of the values of an object's members, in bytes."""

    names: dict[str, int] | None
    """Of an object: index of each member by name; None for a list."""
    starts: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))

    def add(self, start: int, end: int) -> None:
        self.starts.append(start)
        self.ends.append(end)

    def span(self, index: int | None) -> tuple[int, int]:
        """Return begin and end of a part; an empty span where there is none."""
        if index is None or index >= len(self.starts):
            return 0, 0
        return self.starts[index], self.ends[index]


def _paired(
    left: _Parts, right: _Parts
) -> Iterator[tuple[str | int, int | None, int | None]]:
    """Yield the parts at the same index, or under the same name, of both; None: missing."""
    if left.names is not None and right.names is not None:
        for name in {**left.names, **right.names}:
            yield name, left.names.get(name), right.names.get(name)
    else:
        for index in range(max(len(left.starts), len(right.starts))):
            yield index, index, index


def _divide(text: Text) -> _Parts | None:
    """Divide a list or an object; return None for other texts, or repeated members."""
    start = _START.match(text)
    if start is None:
        return None
    names: dict[str, int] | None = None if start[1] == b"[" else {}
    parts = _Parts(names)
    place = start.end()
    end_at = _ENDS[start[1]].match
    while end_at(text, place) is None or parts.starts:
        if names is not None:
            name = _NAME.match(text, place)
            if name is None:
                return None
            names[_name_of(name[1])] = len(parts.starts)
            place = name.end()
        end = _value_end(text, place)
        if end is None:
            return None
        parts.add(place, end)
        comma = _COMMA.match(text, end)
        place = end if comma is None else comma.end()
        if comma is None:
            break
    unique = names is None or len(names) == len(parts.starts)
    closing = end_at(text, place)
    return parts if unique and closing and closing.end() == len(text) else None


_UNQUOTE: Final = json.JSONDecoder(strict=False).decode


def _name_of(quoted: bytes) -> str:
    if b"\\" not in quoted:
        return quoted[1:-1].decode("utf-8", "backslashreplace")
    name: str = _UNQUOTE(quoted.decode("utf-8", "backslashreplace"))
    return name


def _value_end(text: Text, place: int) -> int | None:
    if text[place : place + 1] not in {b"[", b"{"}:
        simple = _SIMPLE.match(text, place)
        return None if simple is None else simple.end()
    depth = 0
    while (found := _BRACKET.match(text, place)) is not None:
        place = found.end()
        depth += 1 if found[1] in {b"[", b"{"} else -1
        if not depth:
            return place
    return None


# -- comparing -----------------------------------------------------------------------


def _integer(text: str) -> Any:
    return int(text) if len(text) < _LONGEST_INT else _number(text)


def _number(text: str) -> Any:
    try:
        return Decimal(text)
    except InvalidOperation:
        return _Word(text)


def _members(pairs: list[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    """Return an object as sorted pairs; members of one name stay in their order."""
    return tuple(sorted(pairs, key=_NAME_OF_PAIR))


_NAME_OF_PAIR: Final = itemgetter(0)
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_float=_number,
    parse_int=_integer,
    parse_constant=_Word,
)


def _parse(text: bytes) -> Any:
    return _DECODER.decode(text.decode("utf-8-sig"))


def _same(left: Any, right: Any) -> bool:
    """Return whether values that are ``==`` also agree in which of them are bools."""
    if isinstance(left, tuple):
        return all(_same(a, b) for (_, a), (_, b) in zip(left, right, strict=True))
    if isinstance(left, list):
        return all(map(_same, left, right))
    return isinstance(left, bool) is isinstance(right, bool)
