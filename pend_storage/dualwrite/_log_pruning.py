"""Pruning of a change log: what all of its readers have passed, the archive among them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pend_storage._archive_hold import ARCHIVE_META, ArchiveHold
from pend_storage.dualwrite._log_position import kept_changes
from pend_storage.events import Hook
from pend_storage.store import Store

__all__ = ["prune_before", "prune_old"]


def prune_old(
    store: Store,
    passed: int | None,
    *,
    retention: timedelta,
    archive_hold: timedelta,
    hook: Hook,
) -> int:
    """Prune the entries that are older than the retention; returns their number.

    Args:
        store: whose change log is pruned.
        passed: sequence number that the other store has applied; None: any.
        retention: how long entries are kept.
        archive_hold: how much longer they are kept for an archive that lags.
        hook: gets the event ``archive-hold-exceeded``.
    """
    hold = ArchiveHold.of(store.meta(ARCHIVE_META))
    upto = passed
    if hold is not None:
        upto = hold.limit(passed, retention=retention, most=archive_hold)
    count, last = prune_before(store, datetime.now(UTC) - retention, upto)
    if hold is not None and last > hold.sequence:
        hook(hold.exceeded(last, store.identity()))
    return count


def prune_before(store: Store, cutoff: datetime, upto: int | None) -> tuple[int, int]:
    """Prune the entries before a time.

    Args:
        store: whose change log is pruned.
        cutoff: entries at this time and later stay.
        upto: last sequence number that may be pruned; None: any.

    Returns:
        The number of entries that were pruned, and the sequence of the last one; 0 for
        none.
    """
    # The last old entry stays: it shows where the kept part of the log begins.
    old: list[int] = [0, 0]
    count = 0
    for change in kept_changes(store):
        if change.at >= cutoff or (upto is not None and change.sequence > upto):
            break
        old = [old[-1], change.sequence]
        count += 1
    if old[0]:
        store.prune(old[0])
    return max(0, count - 1), old[0]
