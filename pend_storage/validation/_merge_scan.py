"""Merge of two key-ordered scans, and the comparison of the rows that it pairs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from itertools import islice
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from pend_storage._model.diff import equal
from pend_storage._model.records import Row
from pend_storage.schema import CollectionSpec

__all__ = ["Block", "Comparator", "merged"]

_BATCH: Final = 1_000
"""Rows that a thread reads ahead while those before them are compared."""
_ENCODE: Final = msgspec.json.Encoder(order="deterministic").encode


class Block(NamedTuple):
    """Rows of both scans, paired by key; None where only the other one has the key."""

    left: list[Row | None]
    right: list[Row | None]


class Comparator:
    """Comparator of the records of one collection, by value.

    ``==`` between dataclasses does most of it, but inside of JSON values it takes true
    for 1. Equal JSON values mostly have equal texts too; where not, a walk decides.
    """

    def __init__(self, spec: CollectionSpec) -> None:
        names = [f.name for f in spec.fields.values() if f.kind.is_json]
        self._json: Callable[[Any], Any] | None = attrgetter(*names) if names else None

    def all_same(self, block: Block) -> bool:
        """Return whether every pair is equal, by a quick test.

        False proves nothing: then :meth:`same` decides pair by pair.
        """
        if None in block.left or None in block.right:
            return False
        left = [row.record for row in block.left]  # type: ignore[union-attr]
        right = [row.record for row in block.right]  # type: ignore[union-attr]
        if left != right:
            return False
        if self._json is None:
            return True
        return bool(
            _ENCODE(list(map(self._json, left)))
            == _ENCODE(list(map(self._json, right)))
        )

    def same(self, left: Row | None, right: Row | None) -> bool:
        """Return whether one pair is equal."""
        if left is None or right is None:
            return left is right
        if left.record != right.record:
            return False
        if self._json is None:
            return True
        a, b = self._json(left.record), self._json(right.record)
        if isinstance(a, tuple):  # of several fields
            a, b = list(a), list(b)
        return bool(_ENCODE(a) == _ENCODE(b)) or equal(a, b)


def merged(left: Iterator[Row], right: Iterator[Row]) -> Generator[Block]:
    """Merge two scans in key order, block by block."""
    with ExitStack() as stack:
        lefts, rights = _ahead(left, stack), _ahead(right, stack)
        a, b = next(lefts, []), next(rights, [])
        while a and b:
            block, used_left, used_right = _paired(a, b)
            yield block
            a = a[used_left:] or next(lefts, [])
            b = b[used_right:] or next(rights, [])
        while a:
            yield Block([*a], [None] * len(a))
            a = next(lefts, [])
        while b:
            yield Block([None] * len(b), [*b])
            b = next(rights, [])


def _paired(a: list[Row], b: list[Row]) -> tuple[Block, int, int]:
    """Pair rows up to the lower of the two last keys.

    Returns:
        The pairs, and the numbers of rows of each side that are in them.
    """
    size = min(len(a), len(b))
    if [row.key for row in a[:size]] == [row.key for row in b[:size]]:
        return Block([*a[:size]], [*b[:size]]), size, size
    last = min(a[-1].key, b[-1].key)
    lefts = {row.key: row for row in a if row.key <= last}
    rights = {row.key: row for row in b if row.key <= last}
    keys = sorted({**lefts, **rights})
    block = Block([lefts.get(k) for k in keys], [rights.get(k) for k in keys])
    return block, len(lefts), len(rights)


def _ahead(rows: Iterator[Row], stack: ExitStack) -> Iterator[list[Row]]:
    """Yield rows in batches, read by a thread of their own one batch ahead."""
    executor = stack.enter_context(ThreadPoolExecutor(1, "pend-validation-reader"))

    def batch() -> list[Row]:
        return list(islice(rows, _BATCH))

    def submitted() -> Future[list[Row]]:
        return executor.submit(copy_context().run, batch)  # it may read as_stored()

    upcoming = submitted()
    while found := upcoming.result():
        upcoming = submitted()
        yield found
