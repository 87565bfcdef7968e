"""Archiving of the change log of an environment, once or continuously."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pend_storage.backup._archive import LEASE, Archived, Archiver
from pend_storage.config import Settings
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Hook, guarded, log_event
from pend_storage.operations.backup.live import open_live
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.jobs import running_job
from pend_storage.store import Store

__all__ = ["ArchiveTotals", "archive_once", "follow_log"]

_CUT_EVERY: Final = 300.0
"""Seconds between two cuts while the log is followed."""
_LONGEST_PAUSE: Final = 60.0
"""Seconds between two attempts while a store or the repository is out of reach."""


@dataclass(slots=True, kw_only=True)
class ArchiveTotals:
    """Sums over the passes of one run."""

    segments: int = 0
    entries: int = 0
    last: Archived | None = None
    gaps: list[str] | None = None

    def add(self, done: Archived) -> None:
        """Add a pass."""
        self.segments += done.segments
        self.entries += done.entries
        self.last = done
        if done.gap is not None:
            self.gaps = [*(self.gaps or []), done.gap]


@contextmanager
def _archiver(
    settings: Settings, wait: float, hook: Hook
) -> Iterator[tuple[Archiver, Store]]:
    """Open what archives, and the store with the record of the jobs."""
    repository, keys = open_repository(settings, create=True), keys_of(settings)
    with (
        open_live(settings) as live,
        repository.lease(LEASE, wait=wait) as lease,
    ):
        archiver = Archiver(live.stores, repository, keys, lease, hook=hook)
        yield archiver, live.pair or live.stores[0]


def archive_once(
    settings: Settings,
    *,
    wait: float = 0.0,
    hook: Hook = log_event,
    by: str | None = None,
    reason: str | None = None,
) -> ArchiveTotals:
    """Archive the log up to its present end.

    Args:
        settings: of the environment.
        wait: seconds to wait for another archiver.
        hook: gets the event ``archive-gap``.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: no repository is configured, or a permission is missing.
        JobCancelled: another process asked for its end; what was archived stays.
        LockTimeout: another process archives.
        StoreUnavailable: a store or the repository cannot be reached, or is full.
    """
    totals = ArchiveTotals()
    with (
        _archiver(settings, wait, guarded(hook)) as (archiver, place),
        running_job(place, "archive", by=by, reason=reason) as job,
    ):
        job.begin_stage("archiving the change log", unit="commits")
        totals.add(archiver.run(stop=lambda: job.cancelled))
        job.steer()
        job.finish(f"{totals.entries:,} commits archived")
    return totals


def follow_log(
    settings: Settings,
    ended: threading.Event,
    *,
    interval: float,
    wait: float = 0.0,
    hook: Hook = log_event,
    report: Callable[[Archived | StoreUnavailable], None] = lambda _: None,
) -> ArchiveTotals:
    """Archive the log as it grows, until an event; the segment under way is finished.

    It has no end of its own, so it is no job: the lag of the archive shows that it works.
    What is out of reach is tried again and again, and is no end.

    Args:
        settings: of the environment.
        ended: ends it.
        interval: seconds between two passes.
        wait: seconds to wait for another archiver.
        hook: gets the event ``archive-gap``.
        report: called after each pass, with its result or its error.

    Raises:
        ConfigError: no repository is configured, or a permission is missing.
        LockTimeout: another process archives by now.
    """
    totals = ArchiveTotals()
    with _archiver(settings, wait, guarded(hook)) as (archiver, _):
        pause = interval
        while True:
            try:
                done = archiver.run(stop=ended.is_set, every=_CUT_EVERY)
            except StoreUnavailable as error:
                pause = min(2 * pause, max(_LONGEST_PAUSE, interval))
                report(error)
            else:
                pause = interval
                totals.add(done)
                report(done)
            if ended.wait(pause):
                return totals
