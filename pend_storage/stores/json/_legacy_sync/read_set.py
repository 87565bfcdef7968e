"""Read set: versions of the records that an operation has read, checked at its commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from pend_storage.errors import Conflict

__all__ = ["Place", "ReadSet"]

Place: TypeAlias = tuple[str, str]
"""Collection and key."""


class ReadSet:
    """Map collection and key to the version that was read; 0: there was no record.

    :class:`~pend_storage._transaction.Transaction` does the same for callers of a store.
    File synchronisation works below it, with the rows themselves.
    """

    def __init__(self) -> None:
        self._seen: dict[Place, int] = {}

    @property
    def checks(self) -> Mapping[Place, int]:
        """The expected versions, for the batch that was computed from these reads."""
        return self._seen

    def record(self, place: Place, version: int) -> None:
        """Record a read.

        Args:
            place: collection and key.
            version: of the record; 0: there is none.

        Raises:
            Conflict: an earlier read found another version; the commit could only fail.
        """
        known = self._seen.setdefault(place, version)
        if known != version:
            collection, key = place
            raise Conflict(
                collection=collection, key=key, expected=known, actual=version
            )
