"""Reading the change logs of one store or a pair, from where an archive ends.

The order of entries is that of (epoch, sequence): no epoch belongs to two stores, and a
store numbers its commits above all that it has applied.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from pend_storage._model.records import Change
from pend_storage._model.snapshots import StoredChange, StoredRecord
from pend_storage.backup._lineage import TAINTED_META
from pend_storage.backup._manifest import SegmentManifest
from pend_storage.errors import ChangesExpired, StoreUnavailable
from pend_storage.phases import Role
from pend_storage.schema import Schema
from pend_storage.store import Store

__all__ = [
    "Beginning",
    "Broken",
    "LogEntry",
    "LogReading",
    "Source",
    "entries_after",
    "first_entries",
    "present_epoch",
    "source_of",
]

_READABLE: Final = (Role.PRIMARY, Role.FENCED)
"""Roles of the store that has the latest entries; a fenced one while a switch is under way."""


class LogEntry(NamedTuple):
    """Entry of the log of a store."""

    epoch: int
    sequence: int
    identity: str
    change: StoredChange


class Broken(Exception):
    """The log does not continue what is archived; the text says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """Store whose log is followed now, and all stores whose logs may continue it."""

    store: Store
    identity: str
    epoch: int
    stores: tuple[Store, ...]

    def by_identity(self, identity: str) -> Store | None:
        """Return the store of an identity; None where there is none."""
        if identity == self.identity:
            return self.store
        return next((s for s in self.stores if s.identity() == identity), None)


def source_of(stores: Sequence[Store]) -> Source:
    """Return the source among the stores of an environment.

    Raises:
        StoreUnavailable: no store that can be reached is primary.
    """
    found: list[tuple[bool, int, Store]] = []
    problem: StoreUnavailable | None = None
    for store in stores:
        try:
            state = store.role()
        except StoreUnavailable as error:
            problem = error
            continue
        if state.role in _READABLE:
            found.append((state.role is Role.PRIMARY, state.epoch, store))
    if not found:
        raise problem or StoreUnavailable(
            "no store is primary", store="the environment"
        )
    _, epoch, store = max(found, key=lambda item: item[:2])
    return Source(store, store.identity(), epoch, tuple(stores))


# -- following ------------------------------------------------------------------------------


class LogReading:
    """Reading of the logs, up to where one does not continue the other.

    A store that became primary by a switch has all that the other one had. After a forced
    promotion it may lack some: what follows is no continuation then.
    """

    def __init__(
        self, source: Source, entries: Iterator[LogEntry], before: LogEntry | None
    ) -> None:
        """Begin to read.

        Args:
            source: with all stores.
            entries: in order.
            before: the last entry before them; None: it is not known.
        """
        self._source = source
        self._entries = entries
        self._last = before
        self.broken: str | None = None
        """Why the reading has ended before the end; None: it has not."""

    def __iter__(self) -> Iterator[LogEntry]:
        """Yield the entries; look at :attr:`broken` afterwards."""
        for entry in self._entries:
            if not self._continues(entry.identity):
                return
            self._last = entry
            yield entry
        self._continues(self._source.identity)

    def _continues(self, identity: str) -> bool:
        """Return whether a store has all that the store before it had."""
        last = self._last
        if last is not None and last.identity != identity:
            before = self._source.by_identity(last.identity)
            after = self._source.by_identity(identity)
            assert before is not None  # noqa: S101 - both logs are read
            assert after is not None  # noqa: S101
            self.broken = self._break_between(before, last, after)
        return self.broken is None

    def _break_between(self, before: Store, last: LogEntry, after: Store) -> str | None:
        """Return why the log of one store does not continue that of another, if so.

        Args:
            before: the store that was primary before.
            last: its last entry.
            after: the store that was primary then.
        """
        is_other = before is not self._source.store
        is_primary = is_other and before.role().role is Role.PRIMARY
        if is_primary or before.meta(TAINTED_META) is not None:
            return "another store was promoted by force, and lacks what this one has"
        return _missing_commit(last, after)


def _missing_commit(last: LogEntry, after: Store) -> str | None:
    """Return a sentence where a store does not have an entry of another; None: it has."""
    for record in last.change.records:
        found = after.read(record.collection, [record.key], deleted=True)
        if record.key not in found or found[record.key].version < record.version:
            return (
                f"the primary does not have the commit {last.sequence} of the store that "
                "was primary before"
            )
    return None


def entries_after(source: Source, end: SegmentManifest) -> LogReading:
    """Return the entries after the end of an archive, up to the source's epoch.

    Args:
        source: where the latest entries are.
        end: the last segment.

    Raises:
        Broken: the logs do not continue it.
        StoreUnavailable: a store that may have some of them cannot be reached.
    """
    store = source.by_identity(end.identity)
    if store is None:
        raise Broken(f"it is now the log of another store, {source.identity[:8]}")
    if source.epoch < end.epoch:
        raise Broken(f"the store was put back to the epoch {source.epoch}")
    others = [s for s in source.stores if s is not store]
    if source.epoch == end.epoch:
        if store is not source.store:
            raise Broken("two stores were primary in one epoch")
        others = []
    elif not others:
        raise Broken(
            f"the epoch is {source.epoch} now, and the log of the other store is not here"
        )
    before, log = _continued(store, end)
    logs = [log]
    logs += [_from(other, end.upto) for other in others]
    merged = _until(source, logs)
    first = next(merged, None)
    if first is not None and first.epoch < end.epoch:
        raise Broken(f"the entry {first.sequence} is of an earlier epoch")
    rest = merged if first is None else itertools.chain([first], merged)
    return LogReading(source, rest, before)


def _continued(
    store: Store, end: SegmentManifest
) -> tuple[LogEntry, Iterator[LogEntry]]:
    """Return the last entry of a segment, as the log has it, and those after it."""
    known = end.last_sequence
    if known is None:
        return _place_of(end), _from(store, end.upto)
    log = store.changes(known - 1)
    try:
        first = next(log, None)
    except ChangesExpired:  # pruned up to that entry, or beyond: nothing to compare
        return _place_of(end), _from(store, end.upto)
    if first is None or (first.sequence, first.token) != (known, end.last_token):
        raise Broken(f"the store's log does not have the entry {known} any more")
    before = next(_entries(store, [first]))
    rest = (change for change in log if change.sequence > end.upto)
    return before, _entries(store, rest)


def _place_of(end: SegmentManifest) -> LogEntry:
    """Return the end of a segment as an entry without records, where there is no other."""
    at = datetime.fromisoformat(end.upto_at)
    nothing = StoredChange(sequence=end.upto, epoch=end.epoch, at=at, records=())
    return LogEntry(end.epoch, end.upto, end.identity, nothing)


def _from(store: Store, after: int) -> Iterator[LogEntry]:
    try:
        log = store.changes(after)
        first = next(log, None)
    except ChangesExpired as expired:
        raise Broken(f"the log was pruned up to {expired.oldest}") from expired
    return _entries(store, log if first is None else itertools.chain([first], log))


def _entries(store: Store, changes: Iterable[Change]) -> Iterator[LogEntry]:
    identity = store.identity()
    for change in changes:
        yield LogEntry(
            change.epoch, change.sequence, identity, _stored(store.schema, change)
        )


def _stored(schema: Schema, change: Change) -> StoredChange:
    records = tuple(
        StoredRecord(
            item.collection,
            item.key,
            item.version,
            None
            if item.record is None
            else schema[item.collection].codec.encode(item.record),
        )
        for item in change.records
    )
    return StoredChange(
        sequence=change.sequence,
        epoch=change.epoch,
        at=change.at,
        records=records,
        token=change.token,
        by=change.by,
        reason=change.reason,
    )


# -- beginning ------------------------------------------------------------------------------


class Beginning(NamedTuple):
    """Place at which a new chain begins, and what follows."""

    epoch: int
    after: int
    reading: LogReading


def first_entries(source: Source) -> Beginning:
    """Return the beginning of a chain: at the oldest entry that is kept.

    Where another store was primary between, and has not kept its entries of that time, it
    is the beginning of the present epoch.

    Raises:
        StoreUnavailable: a store cannot be reached.
    """
    oldest, first, log = _oldest(source.store)
    if first is None or first.epoch == source.epoch:
        reading = LogReading(source, _until(source, [log]), None)
        return Beginning(source.epoch, oldest, reading)
    others = [s for s in source.stores if s is not source.store]
    try:
        logs = [_from(store, oldest) for store in others]
    except (Broken, StoreUnavailable):
        logs = []
    if logs:
        reading = LogReading(source, _until(source, [log, *logs]), None)
        return Beginning(first.epoch, oldest, reading)
    return present_epoch(source)


def present_epoch(source: Source) -> Beginning:
    """Return the beginning of a chain with the entries of the source's epoch only.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    after, _, log = _oldest(source.store)
    for entry in log:
        if entry.epoch >= source.epoch:
            rest = _until(source, [itertools.chain([entry], log)])
            return Beginning(source.epoch, after, LogReading(source, rest, None))
        after = entry.sequence
    return Beginning(source.epoch, after, LogReading(source, iter(()), None))


def _oldest(store: Store) -> tuple[int, LogEntry | None, Iterator[LogEntry]]:
    after = 0
    while True:
        log = _entries(store, store.changes(after))
        try:
            first = next(log, None)
        except ChangesExpired as expired:
            after = expired.oldest
            continue
        return after, first, log if first is None else itertools.chain([first], log)


def _until(source: Source, logs: list[Iterator[LogEntry]]) -> Iterator[LogEntry]:
    for entry in heapq.merge(*logs):
        if entry.epoch > source.epoch:
            return
        yield entry
