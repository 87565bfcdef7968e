"""Read set: the versions at which an operation has read records, checked at its commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from pend_storage.errors import Conflict

__all__ = ["Place", "ReadSet"]

Place: TypeAlias = tuple[str, str]
"""Collection and key."""


class ReadSet:
    """Map collection and key to the version that was read; 0 where there was no record.

    :class:`~pend_storage._transaction.Transaction` does the same for callers that work with a
    store. The keeper of legacy files works below it, with the rows themselves.
    """

    def __init__(self) -> None:
        self._seen: dict[Place, int] = {}

    @property
    def checks(self) -> Mapping[Place, int]:
        """For the batch that is computed from what was read."""
        return self._seen

    def record(self, place: Place, version: int) -> None:
        """Take note of a read.

        Args:
            place: collection and key.
            version: that was found there; 0: no record.

        Raises:
            Conflict: an earlier read found another version; the commit could only fail.
        """
        known = self._seen.setdefault(place, version)
        if known != version:
            collection, key = place
            raise Conflict(
                collection=collection, key=key, expected=known, actual=version
            )
