"""Losses of a restore: the commits after its position, which the restored store lacks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pend_storage._model.records import Change
from pend_storage._model.snapshots import StoredChange
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._seal import highest_number
from pend_storage.backup._segments import read_changes
from pend_storage.backup._streams import Keys
from pend_storage.backup._target import Resolved
from pend_storage.errors import ChangesExpired, PendStorageError
from pend_storage.store import Store

__all__ = ["Losses", "commits_after", "losses"]

_SHOWN: Final = 20
_READ: Final = 100_000
"""Commits that are read at most; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Commits after a position, as far as they are known."""

    commits: int
    keys: int
    """Keys that they have changed, in those commits that were read."""
    is_partial: bool
    """Whether only the first commits were read, so that there may be more keys."""
    first: tuple[tuple[str, str], ...]
    """Collection and key of the first ones, 20 at most."""
    archived: int
    """Of the commits, those that the archive has: they can be restored later."""
    unknown: str | None
    """Why there may be more; None: these are all."""
    highest: int
    """Highest number that is known to have been given."""


def losses(
    resolved: Resolved,
    catalog: Catalog,
    keys: Keys,
    stores: Sequence[Store],
    *,
    most: int = _READ,
) -> Losses:
    """Return what a restore to a position lacks, by the archive and the live stores.

    Args:
        resolved: the position.
        catalog: of the repository.
        keys: to decrypt with.
        stores: the live ones as far as they can be reached, each with its own log.
        most: commits that are read; the rest is counted.

    Raises:
        CorruptFile: a later segment is damaged.
        StoreUnavailable: the repository cannot be reached.
    """
    tally = _Tally(most)
    end = resolved.upto
    for segment in resolved.later:
        if tally.is_full:
            tally.count(segment.entries)
        else:
            after, upto = max(end, segment.after), segment.upto
            for entry in read_changes(catalog.repository, [segment], keys, after, upto):
                tally.add(entry)
        end = segment.upto
    archived = tally.commits
    unknown = None if stores else "the live store cannot be reached"
    for store in stores:
        try:
            _add_live(tally, store, end)
        except ChangesExpired as error:
            unknown = f"the live log begins after {error.oldest}, and the archive ends at {end}"
        except PendStorageError as error:
            unknown = f"the live store cannot be read: {error}"
    return Losses(
        commits=tally.commits,
        keys=len(tally.keys),
        is_partial=tally.is_full,
        first=tuple(itertools.islice(tally.keys, _SHOWN)),
        archived=archived,
        unknown=unknown,
        highest=highest_number(max(tally.highest, end), *stores),
    )


def _add_live(tally: _Tally, store: Store, end: int) -> None:
    """Add the commits of a live store after the end of the archive."""
    for change in store.changes(end):
        if tally.is_full:
            tally.count(store.pending(change.sequence - 1).commits)
            return
        if change.sequence > end:
            tally.add(change)


def commits_after(stores: Sequence[Store], sequence: int) -> int | None:
    """Count the commits of live stores above a sequence number; None: it is not known."""
    try:
        found = [store.pending(sequence).commits for store in stores]
    except PendStorageError:
        return None
    return sum(found) if found else None


class _Tally:
    """Counts of commits: the first ones are read, and the rest is counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[int] = set()
        self.commits = self.highest = 0
        self.keys: dict[tuple[str, str], None] = {}

    @property
    def is_full(self) -> bool:
        """True once no further commit is to be read."""
        return len(self._seen) >= self._most

    def count(self, commits: int) -> None:
        """Count commits that were not read."""
        self.commits += commits

    def add(self, change: Change | StoredChange) -> None:
        """Count a commit once, in whichever logs it is."""
        if change.sequence in self._seen:
            return
        self._seen.add(change.sequence)
        self.commits += 1
        self.highest = max(self.highest, change.sequence)
        for record in change.records:
            self.highest = max(self.highest, record.version)
            self.keys[record.collection, record.key] = None
