"""Hold on a change log for the archive, which is one more reader of it.

The archive records in the stores up to where it has copied their logs. What lies above is
kept beyond the retention, for a limited time: an archive that is out of use would keep the
log for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pend_storage._model.records import JSON
from pend_storage._model.snapshots import ARCHIVE_META
from pend_storage.events import Event

__all__ = ["ARCHIVE_META", "MOST", "ArchiveHold"]

MOST: Final = timedelta(days=3)
"""Time beyond the retention for which the log is kept, unless it is configured."""


@dataclass(frozen=True, slots=True)
class ArchiveHold:
    """Position of the archive in the logs of an environment.

    Numbers of both stores of a pair are comparable, so it holds for either log.
    """

    sequence: int
    """Up to which the logs are archived."""
    at: datetime
    """When that was so."""

    @classmethod
    def of(cls, value: JSON) -> ArchiveHold | None:
        """Parse the meta entry; None where nothing is archived."""
        if not isinstance(value, Mapping):
            return None
        sequence, at = value.get("sequence"), value.get("at")
        if not isinstance(sequence, int) or not isinstance(at, str):
            return None
        try:
            moment = datetime.fromisoformat(at)
        except ValueError:
            return None
        return cls(sequence, moment if moment.tzinfo else moment.replace(tzinfo=UTC))

    def is_over(self, retention: timedelta, most: timedelta) -> bool:
        """Return whether the archive has stood still for too long.

        Args:
            retention: for which entries are kept without an archive.
            most: time beyond that for which they are kept for the archive.
        """
        return self.at < datetime.now(UTC) - retention - most

    def limit(
        self, upto: int | None, *, retention: timedelta, most: timedelta
    ) -> int | None:
        """Return up to where entries may be dropped; None: no entry is held.

        Args:
            upto: number up to which other readers have passed; None: all have.
            retention: as of :meth:`is_over`.
            most: as of :meth:`is_over`.
        """
        if self.is_over(retention, most):
            return upto
        return self.sequence if upto is None else min(upto, self.sequence)

    def exceeded(self, dropped: int, store: str) -> Event:
        """Return the event about entries that were dropped and not archived.

        Args:
            dropped: number up to which entries were dropped.
            store: whose log it is.
        """
        return Event(
            "archive-hold-exceeded",
            f"the change log of {store} was pruned up to {dropped}, and is archived up to "
            f"{self.sequence} only: what was committed between cannot be restored one by "
            "one. Run the archiver again, and make a backup: pend-storage backup create",
            logging.WARNING,
            {"archived": self.sequence, "pruned": dropped},
        )
