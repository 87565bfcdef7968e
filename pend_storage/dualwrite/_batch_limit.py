"""Batch limits of the calls to the secondary, in records and in bytes.

They adapt: a call that ran into a timeout, or lost its connection, is repeated with
half of it, down to a single commit; calls that succeed let them grow again, slowly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from pend_storage._model.records import Change, ChangedRecord
from pend_storage.schema import Schema

__all__ = [
    "MOST_BYTES",
    "MOST_RECORDS",
    "Backlog",
    "BatchLimit",
    "Entry",
    "Load",
    "load_of",
]

MOST_RECORDS: Final = 1_000
"""Records in one call at most, unless a single commit has more."""
MOST_BYTES: Final = 16 << 20
"""Bytes of encoded records in one call at most, unless a single commit has more."""
_GROWTH: Final = 8
"""After a call that used most of its room, an eighth more is tried."""
_CAREFUL: Final = 20
"""Calls that succeed before as much is tried again as what has failed."""
_ROW_BYTES: Final = 100
"""What a row costs beside its body: names, version, framing."""


class Load(NamedTuple):
    """Changed records of one or more commits, with their size in bytes."""

    records: Sequence[ChangedRecord]
    bytes: int
    """Of the encoded records, roughly."""

    @classmethod
    def of(cls, records: Sequence[ChangedRecord], bodies: Iterable[int]) -> Load:
        """Return the load of some records.

        Args:
            records: what was changed.
            bodies: sizes of the encoded records, in bytes.
        """
        return cls(records, sum(bodies) + _ROW_BYTES * len(records))


def load_of(schema: Schema, records: Sequence[ChangedRecord]) -> Load:
    """Return the load of records whose sizes are not known yet: they are encoded."""
    sizes = (
        len(schema[item.collection].codec.encode(item.record))
        for item in records
        if item.record is not None
    )
    return Load.of(records, sizes)


class BatchLimit:
    """Limit of the next call in records and bytes; adapts to the outcome of earlier calls."""

    def __init__(self) -> None:
        self.most_records = MOST_RECORDS
        """Records in one call that an operator allows."""
        self.records = MOST_RECORDS
        self.bytes = MOST_BYTES
        self._ceiling = (MOST_RECORDS, MOST_BYTES)
        self._careful = 0
        """Calls for which the ceiling is kept."""

    def fits(self, load: Load, records: int, size: int) -> bool:
        """Return whether a load fits into a batch; an empty batch takes any load.

        Args:
            load: what is to be added.
            records: number of records in the batch.
            size: bytes of these records.
        """
        return not records or (
            records + len(load.records) <= min(self.records, self.most_records)
            and size + load.bytes <= self.bytes
        )

    def shrink(self, records: int, size: int) -> None:
        """Halve the limit after a call that was not answered.

        Args:
            records: number of records in that call.
            size: bytes of these records.
        """
        # The ceiling keeps the limit below what has failed, for some calls: without it the
        # limit would grow into the same timeout again and again.
        records, size = min(self.records, records), min(self.bytes, size)
        self.records, self.bytes = max(1, records // 2), max(1, size // 2)
        self._ceiling = (max(1, 3 * records // 4), max(1, 3 * size // 4))
        self._careful = _CAREFUL

    def grow(self, records: int, size: int) -> None:
        """Raise the limit by an eighth after a call that was answered; args as above."""
        # A call that used less than half of the limit proves nothing about the rest.
        # The limit does not grow by calls that an operator keeps small.
        if 2 * records >= self.records or 2 * size >= self.bytes:
            self._careful = max(0, self._careful - 1)
            most = self._ceiling if self._careful else (MOST_RECORDS, MOST_BYTES)
            self.records = _grown(self.records, most[0])
            self.bytes = _grown(self.bytes, most[1])


def _grown(value: int, most: int) -> int:
    return min(max(value, most), value + max(1, value // _GROWTH))


class Entry(NamedTuple):
    """Commit of the change log, with its load."""

    change: Change
    load: Load


class Backlog:
    """Backlog: the rest of a change log, read from the store only as far as needed."""

    def __init__(self, log: Iterable[Change], schema: Schema) -> None:
        self._log = iter(log)
        self._schema = schema
        self._held: deque[Entry] = deque()

    def take(self, room: BatchLimit, most: int | None = None) -> list[Entry]:
        """Remove and return the next commits that fit into one call.

        Args:
            room: limit of the call.
            most: number of commits at most; None for no limit.

        Returns:
            The commits; none at the end of the log.
        """
        taken: list[Entry] = []
        records = size = 0
        while (most is None or len(taken) < most) and self._read():
            load = self._held[0].load
            if taken and not room.fits(load, records, size):
                break
            taken.append(self._held.popleft())
            records += len(load.records)
            size += load.bytes
        return taken

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Return commits that were not applied to the front of the backlog."""
        self._held.extendleft(reversed(entries))

    def _read(self) -> bool:
        """Read a commit ahead if none is held; return False at the end of the log."""
        if not self._held:
            change = next(self._log, None)
            if change is None:
                return False
            self._held.append(Entry(change, load_of(self._schema, change.records)))
        return True
