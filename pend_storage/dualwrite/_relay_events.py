"""Relay events: sentences about what the relay has found in the secondary."""

from __future__ import annotations

import logging

from pend_storage.dualwrite._replication_position import ReplicationPosition
from pend_storage.events import Event

__all__ = ["backfill_event", "rewound_event"]


def rewound_event(
    before: ReplicationPosition, now: ReplicationPosition | None
) -> Event:
    """Return the event about a secondary that has lost commits.

    Args:
        before: the position that was seen.
        now: the position that was found; None: it has none any more.
    """
    place = "no position any more"
    if now is not None:
        place = f"position {now.sequence} (of {now.committed_at})"
    return Event(
        "secondary-rewound",
        f"the secondary was at position {before.sequence} (of {before.committed_at}) of the "
        f"change log, and has {place} now: it lost commits by a failover or a restore. The "
        "relay applies them again from the change log, as far as that reaches back; validate "
        "the secondary before it becomes primary",
        logging.WARNING,
        {"before": before.sequence, "now": None if now is None else now.sequence},
    )


def backfill_event() -> Event:
    """Return the event about a secondary that the change log does not reach."""
    return Event(
        "backfill-needed",
        "the change log does not reach back to where the secondary left it: it follows from "
        "now on, and needs a backfill before it may become primary",
        logging.WARNING,
    )
