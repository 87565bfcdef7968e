"""Lineage of stores: what another store has that a restored one lacks, and how they relate.

Versions of two stores can be compared only where the one's state comes from the other's
log. Whether it does is known from identities and positions; the rows show the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from pend_storage._model.meta_names import BACKFILL_META, POSITION_META, TAINTED_META
from pend_storage._model.records import Change, ChangedRecord, Row
from pend_storage._model.snapshots import StoredChange
from pend_storage._restored import RestoreNote
from pend_storage.backup._seal import highest_number
from pend_storage.errors import ChangesExpired
from pend_storage.store import Store

__all__ = [
    "BACKFILL_META",
    "POSITION_META",
    "SHOWN",
    "TAINTED_META",
    "Ahead",
    "Losses",
    "compare",
    "followed",
    "is_complete",
    "is_related",
    "losses",
    "own_changes",
]

SHOWN: Final = 20
"""Keys that a plan names."""
_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Commits that were made after the restored position, and are not there any more."""

    commits: int | None
    """None: no log that shows them can be read."""
    is_at_least: bool = False
    """True where a log is not kept far enough back, so that there may be more."""
    keys: tuple[tuple[str, str], ...] = ()
    """Collection and key of the first twenty records that they wrote."""


@dataclass(slots=True, kw_only=True)
class Ahead:
    """Rows in which a store differs from a restored one, by their versions."""

    newer: int = 0
    """Records and tombstones that are newer there, or only there."""
    older: int = 0
    """Rows that are older there: it does not have all that was restored."""
    keys: list[tuple[str, str]] = field(default_factory=list)
    """Collection and key of the first twenty of the newer ones."""
    erased: list[ChangedRecord] = field(default_factory=list)
    """Records that only the restored store has: they were deleted there since, and the
    tombstone was purged, or they were not copied yet. Each as a deletion."""


def is_related(note: RestoreNote, store: Store) -> bool:
    """Return whether a store's versions come from the log that was restored.

    Args:
        note: of the restored store.
        store: another one of the environment.
    """
    if store.meta(TAINTED_META) is not None:
        return False
    return note.source in {store.identity(), followed(store)}


def is_complete(note: RestoreNote, store: Store) -> bool:
    """Return whether a related store has had everything that was restored."""
    if store.identity() == note.source:
        return highest_number(0, store) >= note.sequence
    mark, filled = store.meta(POSITION_META), store.meta(BACKFILL_META)
    if not isinstance(mark, Mapping) or mark.get("of") != note.source:
        return False
    after = mark.get("after")
    if not isinstance(after, int) or after < note.sequence:
        return False
    is_filled = isinstance(filled, Mapping) and bool(filled.get("complete"))
    return bool(mark.get("whole")) or is_filled


def followed(store: Store) -> str | None:
    """Return the identity of the store that it has followed last."""
    mark = store.meta(POSITION_META)
    return str(mark.get("of")) if isinstance(mark, Mapping) else None


def compare(restored: Store, store: Store) -> Ahead:
    """Compare the versions of all rows, tombstones included.

    Args:
        restored: the restored store.
        store: a related one.
    """
    found = Ahead()
    for spec in restored.schema:
        for key, mine, there in _merged(
            restored.scan(spec.name, deleted=True), store.scan(spec.name, deleted=True)
        ):
            if there is None:
                assert mine is not None  # noqa: S101 - one of the two has the key
                if mine.record is not None:
                    gone = ChangedRecord(spec.name, key, mine.version + 1, None)
                    found.erased.append(gone)
            elif mine is None or there.version > mine.version:
                if mine is None and there.record is None:
                    continue  # made and deleted since: there is nothing to bring
                found.newer += 1
                if len(found.keys) < SHOWN:
                    found.keys.append((spec.name, key))
            elif there.version < mine.version:
                found.older += 1
    return found


def _merged(
    left: Iterator[Row], right: Iterator[Row]
) -> Iterator[tuple[str, Row | None, Row | None]]:
    """Yield each key of two scans in key order, with the row of either."""
    one, two = next(left, None), next(right, None)
    while one is not None or two is not None:
        if two is None or (one is not None and one.key < two.key):
            assert one is not None  # noqa: S101
            yield one.key, one, None
            one = next(left, None)
        elif one is None or two.key < one.key:
            yield two.key, None, two
            two = next(right, None)
        else:
            yield one.key, one, two
            one, two = next(left, None), next(right, None)


def losses(
    changes: Iterable[Change | StoredChange], kept: Store, *, is_at_least: bool = False
) -> Losses:
    """Return what of some commits a store lacks.

    Args:
        changes: made after the restored position; each counts once.
        kept: the store that holds what is not lost.
        is_at_least: whether there were more commits than these.
    """
    commits, keys, seen = 0, dict[tuple[str, str], None](), set[int]()
    entries = iter(changes)
    while page := list(islice(entries, _AT_ONCE)):
        there = _versions(kept, page)
        for change in page:
            lost = [
                (record.collection, record.key)
                for record in change.records
                if there.get((record.collection, record.key), 0) < record.version
            ]
            if lost and change.sequence not in seen:
                commits += 1
                keys |= dict.fromkeys(lost[: max(0, SHOWN - len(keys))])
            seen.add(change.sequence)
    return Losses(
        commits=commits, is_at_least=is_at_least, keys=tuple(islice(keys, SHOWN))
    )


def _versions(
    store: Store, changes: Iterable[Change | StoredChange]
) -> dict[tuple[str, str], int]:
    wanted: dict[str, set[str]] = {}
    for change in changes:
        for record in change.records:
            wanted.setdefault(record.collection, set()).add(record.key)
    return {
        (name, key): row.version
        for name, keys in wanted.items()
        if name in store.schema.names
        for key, row in store.read(name, sorted(keys), deleted=True).items()
    }


def own_changes(store: Store, after: int) -> tuple[Iterator[Change], bool]:
    """Return the entries of a store's own log after a number, as far as they are kept.

    Returns:
        The entries, and whether there were more, which are pruned.
    """
    entries = store.changes(after)
    try:
        first = next(entries, None)
    except ChangesExpired as expired:
        return store.changes(expired.oldest), True
    return _chained(first, entries), False


def _chained(first: Change | None, rest: Iterator[Change]) -> Iterator[Change]:
    if first is not None:
        yield first
        yield from rest
