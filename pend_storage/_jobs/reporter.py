"""Reporter of a job: the progress of the work, and its obedience to requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, Literal

from pend_storage._model.jobs import Job, Request, Wish
from pend_storage.errors import JobCancelled
from pend_storage.events import Pace, Progress

__all__ = ["JobReporter"]

_NAP: Final = 0.1
"""Seconds between two looks of a paused job at the last request."""
_SETTLED: Final = 2.0
"""Seconds of work before a rate is believed."""


class JobReporter:
    """Reporter of one job: a ``PacedProgress`` that obeys requests of other processes.

    Safe to share between threads.
    """

    def __init__(self, job: Job, again: str) -> None:
        """Make one; :func:`running_job` does.

        Args:
            job: as it begins.
            again: sentence on what a cancelled job leaves, and how it goes on.
        """
        self._job = job
        self._again = again
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._wish: Request | None = None
        self._paused = 0.0
        self._paused_at: float | None = None
        self._begin_stage()

    def _begin_stage(self) -> None:
        self._since = time.monotonic()
        self._paused_before = self._paused
        self._pace: Pace | None = None

    @property
    def id(self) -> str:
        """Id of the job."""
        return self._job.id

    @property
    def cancelled(self) -> bool:
        """True where another process has asked for its end."""
        return self._wants("cancel")

    def _wants(self, wish: Wish) -> bool:
        asked = self._wish
        return self._job.can_wait and asked is not None and asked.wish == wish

    # -- the side of the work -------------------------------------------------------------

    def __call__(self, done: int, total: int, /) -> None:
        """Report progress, and obey: see :meth:`steer`.

        Raises:
            JobCancelled: another process has asked for the end of the job.
        """
        with self._lock:
            self._job = replace(self._job, done=done, total=total)
        self.steer()

    def pace(self, pace: Pace, /) -> None:
        """Report the pace."""
        with self._lock:
            self._pace = pace

    def waits(self, reason: str | None) -> None:
        """Report for which reason the job waits right now; None: it works again."""
        with self._lock:
            self._job = replace(self._job, waiting=reason)

    def steer(self) -> None:
        """Wait while the job is paused; call it wherever the work may stop.

        Raises:
            JobCancelled: another process has asked for the end of the job.
        """
        if self._wants("pause"):
            self.waits("paused")
            with self._lock:
                self._paused_at = time.monotonic()
            while self._wants("pause"):
                self._changed.wait(_NAP)
            with self._lock:
                self._paused, self._paused_at = self._paused_until_now(), None
            self.waits(None)
        asked = self._wish
        if self.cancelled and asked is not None:
            raise JobCancelled(
                kind=self._job.kind,
                job=self.id,
                by=asked.by,
                reason=asked.reason,
                again=self._again,
            )

    def _paused_until_now(self) -> float:
        """Return the seconds for which the job was paused so far; under the lock."""
        at = self._paused_at
        return self._paused + (0.0 if at is None else time.monotonic() - at)

    def begin_stage(self, label: str, *, unit: str = "records") -> None:
        """Begin a part of the job with counts of its own.

        Args:
            label: name of the part, in words.
            unit: unit of its counts.
        """
        self.steer()
        with self._lock:
            self._job = replace(
                self._job, stage=label, unit=unit, done=0, total=None, waiting=None
            )
            self._begin_stage()

    def following(self, progress: Progress | None) -> Progress:
        """Return a callback that reports to the job, and to another callback.

        Args:
            progress: gets the same numbers; None: nothing else does.
        """
        return self if progress is None else _Both(self, progress)

    def finish(self, result: str) -> None:
        """Set the sentence on the outcome that the record keeps."""
        with self._lock:
            self._job = replace(self._job, result=result)

    # -- the side of the report -----------------------------------------------------------

    def obey(self, asked: Request | None) -> None:
        """Take what another process asked for last."""
        if asked is not None and asked != self._wish:
            self._wish = asked
            self._changed.set()
            self._changed.clear()

    def end(self, state: Literal["done", "failed", "cancelled"], result: str) -> None:
        """Set the final state; the sentence of :meth:`finish` stays for a job that is done."""
        with self._lock:
            kept = self._job.result if state == "done" else None
            self._job = replace(
                self._job,
                state=state,
                waiting=None,
                eta_seconds=None,
                result=kept or result,
            )

    def report(self, now: datetime) -> Job:
        """Return the entry of the record at a moment."""
        with self._lock:
            job, pace = self._job, self._pace
            paused = self._paused_until_now()
            worked = time.monotonic() - self._since - (paused - self._paused_before)
        rate = pace.rate if pace is not None else job.rate
        if pace is None and job.done and worked > _SETTLED:
            rate = job.done / worked
        left = None
        if job.is_live and rate and job.total is not None:
            left = max(0, job.total - job.done) / rate
        throttled = {} if pace is None else dict(pace.throttled)
        if paused:
            throttled["paused"] = round(paused, 3)
        state = job.state
        if state == "running" and self._wants("pause"):
            state = "paused"
        return replace(
            job,
            heartbeat=now,
            rate=None if rate is None else round(rate, 3),
            eta_seconds=None if left is None else round(left, 1),
            throttled={name: round(value, 3) for name, value in throttled.items()},
            state=state,
            request=self._wish,
        )


class _Both:
    """Progress callback that reports to a job and to another callback."""

    def __init__(self, job: JobReporter, other: Progress) -> None:
        self._job = job
        self._other = other

    def __call__(self, done: int, total: int, /) -> None:
        self._other(done, total)
        self._job(done, total)

    def pace(self, pace: Pace, /) -> None:
        inner: Callable[[Pace], None] | None = getattr(self._other, "pace", None)
        if inner is not None:
            inner(pace)
        self._job.pace(pace)

    def waits(self, reason: str | None) -> None:
        self._job.waits(reason)

    def steer(self) -> None:
        self._job.steer()
