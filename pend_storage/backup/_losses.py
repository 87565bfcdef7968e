"""Losses of a restore: the commits after its position, which the restored store lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
_COUNTED: Final = 100_000
"""Keys that are counted at most; above, their number is the least that it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Commits after a position, as far as they are known."""

    commits: int
    records: int
    """Changes of records in these commits."""
    keys: int
    """Keys that they have changed; 100,000 at most are counted."""
    first: tuple[tuple[str, str], ...]
    """Collection and key of the first ones, 20 at most."""
    archived: int
    """Of the commits, those that the archive has: they can be restored later."""
    unknown: str | None
    """Why there may be more; None: these are all."""
    highest: int
    """Highest number that is known to have been given."""


def losses(
    resolved: Resolved, catalog: Catalog, keys: Keys, stores: Sequence[Store]
) -> Losses:
    """Return what a restore to a position lacks, by the archive and the live stores.

    Args:
        resolved: the position.
        catalog: of the repository.
        keys: to decrypt with.
        stores: the live ones as far as they can be reached, each with its own log.

    Raises:
        CorruptFile: a later segment is damaged.
        StoreUnavailable: the repository cannot be reached.
    """
    tally = _Tally()
    segments = resolved.later
    end = segments[-1].upto if segments else resolved.upto
    for entry in read_changes(catalog.repository, segments, keys, resolved.upto, end):
        tally.add(entry)
    archived = len(tally.commits)
    unknown = None if stores else "the live store cannot be reached"
    for store in stores:
        try:
            for change in _after(store, end):
                tally.add(change)
        except ChangesExpired as error:
            unknown = f"the live log begins after {error.oldest}, and the archive ends at {end}"
        except PendStorageError as error:
            unknown = f"the live store cannot be read: {error}"
    return Losses(
        commits=len(tally.commits),
        records=tally.records,
        keys=len(tally.keys),
        first=tuple(tally.keys)[:_SHOWN],
        archived=archived,
        unknown=unknown,
        highest=highest_number(max(tally.highest, end), *stores),
    )


def commits_after(stores: Sequence[Store], sequence: int) -> int | None:
    """Count the commits of live stores above a sequence number; None: it is not known."""
    try:
        found = [store.pending(sequence).commits for store in stores]
    except PendStorageError:
        return None
    return sum(found) if found else None


def _after(store: Store, sequence: int) -> Iterator[Change]:
    return (change for change in store.changes(sequence) if change.sequence > sequence)


class _Tally:
    def __init__(self) -> None:
        self.commits: set[int] = set()
        self.records = self.highest = 0
        self.keys: dict[tuple[str, str], None] = {}

    def add(self, change: Change | StoredChange) -> None:
        """Count a commit once, whichever log it is in."""
        if change.sequence in self.commits:
            return
        self.commits.add(change.sequence)
        self.highest = max(self.highest, change.sequence)
        for record in change.records:
            self.records += 1
            self.highest = max(self.highest, record.version)
            if len(self.keys) < _COUNTED:
                self.keys[record.collection, record.key] = None
