"""Snapshots: the whole content of a store at one exact position of its change log.

A row is given with its encoded body, so that a copy of millions of rows decodes none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from pend_storage._model.records import JSON

__all__ = [
    "ARCHIVE_META",
    "RESTORED_META",
    "KeyChange",
    "LogPoint",
    "SnapshotReader",
    "StoredChange",
    "StoredRecord",
    "StoredRow",
]

ARCHIVE_META: Final = "archive"
"""Meta with the position up to which the change log is archived: ``identity``, ``epoch``,
``sequence``, ``at``, ``repository``, and ``segment``, the last one."""
RESTORED_META: Final = "restored"
"""Meta of a store that was restored from a backup: see ``backup/_seal.py``."""


class StoredRow(NamedTuple):
    """Row with its encoded body; without one it is a tombstone."""

    key: str
    version: int
    body: bytes | None
    """The record in canonical JSON, as :class:`~pend_storage.codec.RecordCodec` encodes it."""


class StoredRecord(NamedTuple):
    """Changed record with its encoded body; without one it was deleted."""

    collection: str
    key: str
    version: int
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """Entry of a change log, as a change, with encoded bodies."""

    sequence: int
    epoch: int
    at: datetime
    records: tuple[StoredRecord, ...]
    token: str | None = None
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPoint:
    """Exact position: everything up to a sequence number of one store's log, and nothing after.

    Sequence numbers grow over all switches of a pair, because a store numbers its commits
    above every version that it has applied. So points of both stores can be compared.
    """

    identity: str
    """Of the store."""
    epoch: int
    """Of the store's role when the position was current; 0 for a store that stands alone."""
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """Change of one key: an entry of the history of a record."""

    sequence: int
    """Of the commit."""
    epoch: int
    at: datetime
    by: str | None
    reason: str | None
    version: int
    """Of the key, after the commit."""
    record: Any
    """The record; None where it was deleted."""


class SnapshotReader(ABC):
    """Content of a store at one position. Used by one thread, within its ``with`` block."""

    point: LogPoint
    at: datetime
    """Time of the position, UTC: no later commit has an earlier time by this clock."""
    meta: Mapping[str, JSON]
    """All named values beside the data, at the same position."""

    @abstractmethod
    def rows(self, collection: str) -> Iterator[StoredRow]:
        """Iterate over all rows and tombstones of a collection, in any order.

        Args:
            collection: name of the collection; the system collections are among them.

        Raises:
            UnknownCollection: there is none of that name.
            StoreUnavailable: the store cannot be reached any more.
        """
