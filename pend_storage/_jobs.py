"""Running jobs: long work that reports its progress where every process can read it.

A thread beside the work writes the report, and reads what other processes ask for. The
work itself never waits for a report, and never fails because one cannot be written; it
stops between two chunks where another process has asked for that.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

from pend_storage._model.attribution import acting, actor, current_actor
from pend_storage._model.jobs import (
    BEAT,
    JOBS_META,
    Job,
    Request,
    Wish,
    as_read_at,
    parse_jobs,
    plain_jobs,
    with_job,
)
from pend_storage._model.records import JSON
from pend_storage._shown import clause, shown
from pend_storage.errors import ConfigError, JobCancelled, PendStorageError
from pend_storage.events import Event, Pace, Progress

__all__ = ["JobPlace", "JobReporter", "read_jobs", "request", "running_job"]

_ATTEMPTS: Final = 20
_LAST_WORD: Final = 5.0
"""Seconds that the end of a job waits for its last report at most."""
_NAP: Final = 0.1
"""Seconds between two looks of a paused job at what is asked of it."""
_SETTLED: Final = 2.0
"""Seconds of work before a rate is believed."""
_AGAIN: Final = "Begin it again when it is wanted."


class JobPlace(Protocol):
    """Place of the record of jobs: any store, a pair above all."""

    def meta(self, name: str) -> JSON:
        """As :meth:`StoreBackend.meta`."""

    def compare_and_set_meta(self, name: str, expected: JSON, value: JSON) -> bool:
        """As :meth:`StoreBackend.compare_and_set_meta`."""

    def tell(self, event: Event) -> None:
        """As :meth:`StoreBackend.tell`."""


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
            began = time.monotonic()
            self.waits("paused")
            while self._wants("pause"):
                self._changed.wait(_NAP)
            self.waits(None)
            with self._lock:
                self._paused += time.monotonic() - began
        asked = self._wish
        if self.cancelled and asked is not None:
            raise JobCancelled(
                kind=self._job.kind,
                job=self.id,
                by=asked.by,
                reason=asked.reason,
                again=self._again,
            )

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

    def end(self, state: str, result: str) -> None:
        """Set the final state; the sentence of :meth:`finish` stays for a job that is done."""
        with self._lock:
            kept = self._job.result if state == "done" else None
            self._job = replace(
                self._job,
                state="cancelled"
                if state == "cancelled"
                else "done"
                if state == "done"
                else "failed",
                waiting=None,
                eta_seconds=None,
                result=kept or result,
            )

    def report(self, now: datetime) -> Job:
        """Return the entry of the record at a moment."""
        with self._lock:
            job, pace = self._job, self._pace
            paused = self._paused
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


_running: Final[ContextVar[JobReporter | None]] = ContextVar(
    "pend_storage_job", default=None
)


@contextmanager
def running_job(
    store: JobPlace | None,
    kind: str,
    *,
    by: str | None = None,
    reason: str | None = None,
    total: int | None = None,
    can_wait: bool = True,
    again: str = _AGAIN,
) -> Iterator[JobReporter]:
    """Run a block as a job: its progress is recorded, and requests to it are obeyed.

    A job inside another one of the same thread is a part of that one. What the block
    commits is attributed to ``by`` and ``reason``, where they are given.

    Args:
        store: where the record is: the pair, or a store that stands alone; None: nowhere.
        kind: what is done, one word such as ``backfill``.
        by: who began it; None: the author of this context, or user, machine and process.
        reason: of the person who began it.
        total: records to do, as far as known.
        can_wait: False for work that may not stop half-way: requests are refused.
        again: sentence on what a cancelled job leaves, and how it goes on.

    Raises:
        JobCancelled: from the calls of the reporter, where that was asked for.
    """
    outer = _running.get()
    with acting(by=by, reason=reason):
        if outer is not None:
            yield outer
            return
        reporter = JobReporter(_begun(kind, total=total, can_wait=can_wait), again)
        record = _Record(store, reporter)
        held = _running.set(reporter)
        record.start()
        try:
            yield reporter
        except JobCancelled as error:
            reporter.end("cancelled", str(error))
            raise
        except Exception as error:
            reporter.end("failed", _sentence(error))
            raise
        except BaseException:
            reporter.end("cancelled", f"interrupted. {again}")
            raise
        else:
            reporter.end("done", "done")
        finally:
            _running.reset(held)
            record.stop()


def _begun(kind: str, *, total: int | None, can_wait: bool) -> Job:
    now, author = datetime.now(UTC), actor()
    return Job(
        id=f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        kind=kind,
        by=author.by or current_actor(),
        reason=author.reason,
        host=socket.gethostname(),
        process=os.getpid(),
        started=now,
        heartbeat=now,
        total=total,
        can_wait=can_wait,
    )


def _sentence(error: Exception) -> str:
    # Only the library's own messages are free of values of records.
    return str(error) if isinstance(error, PendStorageError) else type(error).__name__


class _Record:
    """Thread that writes the report of a job, and reads the requests to it."""

    def __init__(self, store: JobPlace | None, reporter: JobReporter) -> None:
        self._store = store
        self._reporter = reporter
        self._ended = threading.Event()
        self._is_silent = False
        self._thread = threading.Thread(target=self._work, name="pend-job", daemon=True)

    def start(self) -> None:
        if self._store is not None:
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is ending: the work goes on
                self._store = None

    def stop(self) -> None:
        """Write the last report; a store that does not answer is not waited for."""
        self._ended.set()
        if self._store is not None:
            self._thread.join(_LAST_WORD)

    def _work(self) -> None:
        store = self._store
        assert store is not None  # noqa: S101 - the thread is not begun without one
        while True:
            is_last = self._ended.is_set()
            self._write(store)
            if is_last:
                return
            self._ended.wait(BEAT.total_seconds())

    def _write(self, store: JobPlace) -> None:
        try:
            for _ in range(_ATTEMPTS):
                found = store.meta(JOBS_META)
                known = parse_jobs(found)
                mine = next((job for job in known if job.id == self._reporter.id), None)
                self._reporter.obey(None if mine is None else mine.request)
                now = datetime.now(UTC)
                value = plain_jobs(with_job(known, self._reporter.report(now), now))
                if store.compare_and_set_meta(JOBS_META, found, value):
                    return
        except Exception as error:  # noqa: BLE001 - the work never fails by its report
            self._tell(store, error)

    def _tell(self, store: JobPlace, error: Exception) -> None:
        if self._is_silent:
            return
        self._is_silent = True
        store.tell(
            Event(
                "job-not-recorded",
                f"the progress of the job {self._reporter.id} cannot be recorded "
                f"({clause(_sentence(error))}): it goes on, and other processes do not see it",
                logging.WARNING,
                {"job": self._reporter.id},
            )
        )


# -- other processes ----------------------------------------------------------------------


def read_jobs(store: JobPlace, now: datetime) -> tuple[Job, ...]:
    """Read the jobs that run, and the last ones that ended, oldest first.

    Args:
        store: the pair, or a store that stands alone.
        now: by which the age of a heartbeat is judged, UTC.

    Raises:
        ConfigError: a newer version of the library has recorded them.
        StoreUnavailable: the store cannot be reached.
    """
    return tuple(as_read_at(job, now) for job in parse_jobs(store.meta(JOBS_META)))


def request(
    store: JobPlace,
    job_id: str,
    wish: Wish,
    *,
    by: str | None = None,
    reason: str | None = None,
) -> Job:
    """Ask the process that runs a job for a pause, its continuation, or its end.

    It obeys between two chunks, within two seconds as a rule; :func:`read_jobs` shows it.

    Args:
        store: the pair, or a store that stands alone.
        job_id: id of the job, or an unambiguous end or beginning of it.
        wish: ``pause``, ``resume`` or ``cancel``.
        by: who asks; None: the author of this context, or user, machine and process.
        reason: of the request.

    Returns:
        The job, with the request.

    Raises:
        ConfigError: there is no such job, it has ended, or it may not stop half-way.
        StoreUnavailable: the store cannot be reached, or too many processes write at once.
    """
    author = actor()
    for _ in range(_ATTEMPTS):
        now = datetime.now(UTC)
        found = store.meta(JOBS_META)
        known = parse_jobs(found)
        job = find_job([as_read_at(each, now) for each in known], job_id)
        _require_obeying(job, wish)
        asked = Request(
            wish=wish,
            by=by or author.by or current_actor(),
            reason=reason or author.reason,
            at=now,
        )
        changed = [
            replace(each, request=asked) if each.id == job.id else each
            for each in known
        ]
        if store.compare_and_set_meta(JOBS_META, found, plain_jobs(changed)):
            return replace(job, request=asked)
    raise ConfigError(
        f"the job {shown(job_id)} could not be asked, because other processes write the "
        "record of the jobs all the time. Call it again."
    )


def find_job(jobs: list[Job], text: str) -> Job:
    """Find a job by its id, or by an unambiguous beginning or end of it.

    Raises:
        ConfigError: no job matches, or more than one.
    """
    exact = [job for job in jobs if job.id == text]
    near = [job for job in jobs if job.id.startswith(text) or job.id.endswith(text)]
    found = exact or (near if text else [])
    if len(found) == 1:
        return found[0]
    how = "more than one job" if found else "no job"
    raise ConfigError(f"there is {how} {shown(text)}. See: pend-storage jobs list")


def _require_obeying(job: Job, wish: Wish) -> None:
    if not job.is_live:
        raise ConfigError(
            f"the job {job.id} cannot be asked to {wish}: it is {job.state}. See: "
            "pend-storage jobs list"
        )
    if not job.can_wait:
        raise ConfigError(
            f"the job {job.id} cannot be asked to {wish}: a {job.kind} may not stop "
            "half-way. Let it end."
        )
