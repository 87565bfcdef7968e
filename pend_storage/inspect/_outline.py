"""Outline of a container: a bounded sample of its items, from which shapes are guessed.

A container of millions of items is read once, and its items are not kept: a sample of them
is, evenly spread and of bounded size.
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
"""Items of a sample at least, where there are as many; twice as many at most."""
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
    """Offset of its value."""
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Outline:
    """Outline of an object or a list."""

    raw: bytes
    start: int
    end: int
    is_list: bool
    count: int
    items: tuple[Item, ...]
    """All items, or an evenly spread sample."""
    _inner: dict[int, Outline] = field(default_factory=dict, compare=False, repr=False)

    def kinds(self) -> Counter[str]:
        """Count the JSON types in the sample."""
        return Counter(item.kind for item in self.items)

    def names(self) -> list[str]:
        """List the member names of the sample."""
        return [item.name for item in self.items if item.name is not None]

    def inner(self, item: Item) -> Outline:
        """Return the outline of a container in it, which is read once."""
        found = self._inner.get(item.start)
        if found is None:
            found = self._inner[item.start] = outline(self.raw, item.start)
        return found

    def member_names(self, item: Item) -> frozenset[str]:
        """Return the member names of an object in it; empty where it cannot be read."""
        if item.end - item.start > _SMALL:
            return frozenset(self.inner(item).names())
        value = _value(self.raw[item.start : item.end])
        return frozenset(value) if isinstance(value, dict) else frozenset()


def outline(raw: bytes, start: int) -> Outline:
    """Read the outline of the object or list at an offset.

    Raises:
        BrokenFileError: the value is neither, or it is not JSON.
    """
    is_list = raw[start : start + 1] == b"["
    sample: list[tuple[int, int, int]] = []
    count, step, end = 0, 1, start + 1
    for name, value, end in each(raw, start):
        if count % step == 0:
            sample.append((name, value, end))
            # Every second item is dropped when the sample is full, and the step doubled:
            # the sample stays evenly spread, though the number of items is not known.
            if len(sample) == 2 * _MOST:
                sample, step = sample[::2], step * 2
        count += 1
    end = raw.index(b"]" if is_list else b"}", end) + 1
    return Outline(
        raw, start, end, is_list, count, tuple(_items(raw, sample, is_list=is_list))
    )


def _items(
    raw: bytes, spans: list[tuple[int, int, int]], *, is_list: bool
) -> Iterator[Item]:
    for name, value, end in spans:
        yield Item(
            None if is_list else name_at(raw, name), value, end, kind_at(raw, value)
        )


def kind_at(raw: bytes, start: int) -> str:
    """Return the JSON type of the value at an offset, by its first byte."""
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
