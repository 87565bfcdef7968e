"""The outer structure of a value, from a sample of what is in it: shapes are guessed by it.

A container of millions of items is gone through once and not kept: as many items as fit a
bound are remembered, evenly spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from pend_storage.legacy._exact_json import UnreadableError, read_last
from pend_storage.legacy._scan import each, name_at

__all__ = ["Item", "Outline", "kind_at", "outline"]

_MOST: Final = 512
"""Items that are remembered, and twice as many for a moment."""
_SMALL: Final = 1 << 16
"""Bytes of an item that is decoded as a whole."""
_KINDS: Final = {
    ord("{"): "object",
    ord("["): "list",
    ord('"'): "text",
    ord("t"): "bool",
    ord("f"): "bool",
    ord("n"): "null",
}
_DECODE: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list, or one member of an object."""

    name: str | None
    start: int
    """Where its value begins."""
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Outline:
    """An object or a list, seen from outside."""

    raw: bytes
    start: int
    end: int
    is_list: bool
    count: int
    items: tuple[Item, ...]
    """All of them, or a sample evenly spread."""
    _inner: dict[int, Outline] = field(default_factory=dict, compare=False, repr=False)

    def kinds(self) -> Counter[str]:
        """How often each JSON type occurs in the sample."""
        return Counter(item.kind for item in self.items)

    def names(self) -> list[str]:
        """Member names of the sample."""
        return [item.name for item in self.items if item.name is not None]

    def inner(self, item: Item) -> Outline:
        """The outline of a container in it."""
        found = self._inner.get(item.start)
        if found is None:  # a large one is gone through once, however often it is asked
            found = self._inner[item.start] = outline(self.raw, item.start)
        return found

    def member_names(self, item: Item) -> frozenset[str]:
        """The member names of an object in it; empty where it cannot be read."""
        if item.end - item.start > _SMALL:
            return frozenset(self.inner(item).names())
        value = _value(self.raw[item.start : item.end])
        return frozenset(value) if isinstance(value, dict) else frozenset()


def outline(raw: bytes, start: int) -> Outline:
    """The outline of the object or list that begins here.

    Raises:
        BrokenFileError: it is neither, or it is not sound.
    """
    is_list = raw[start : start + 1] == b"["
    kept: list[tuple[int, int, int]] = []
    count, step, end = 0, 1, start + 1
    for name, value, end in each(raw, start):
        if count % step == 0:
            kept.append((name, value, end))
            if len(kept) == 2 * _MOST:
                kept, step = kept[::2], step * 2
        count += 1
    end = raw.index(b"]" if is_list else b"}", end) + 1
    return Outline(
        raw, start, end, is_list, count, tuple(_items(raw, kept, is_list=is_list))
    )


def _items(
    raw: bytes, spans: list[tuple[int, int, int]], *, is_list: bool
) -> Iterator[Item]:
    for name, value, end in spans:
        yield Item(
            None if is_list else name_at(raw, name), value, end, kind_at(raw, value)
        )


def kind_at(raw: bytes, start: int) -> str:
    """The JSON type of the value that begins here."""
    return _KINDS.get(raw[start], "number")


def _value(text: bytes) -> Any:
    try:
        return _DECODE(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return read_last(text)
    except UnreadableError:
        return None
