"""Running of a job: its begin, its end, and the thread that writes its report."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from pend_storage._jobs.place import JobPlace
from pend_storage._jobs.reporter import JobReporter
from pend_storage._model.attribution import acting, actor, current_actor
from pend_storage._model.jobs import (
    BEAT,
    DEAD_AFTER,
    JOBS_META,
    Job,
    parse_jobs,
    plain_jobs,
    with_job,
)
from pend_storage._shown import clause
from pend_storage.errors import JobCancelled, PendStorageError
from pend_storage.events import Event

__all__ = ["RESUMED", "running_job"]

_ATTEMPTS: Final = 20
_LAST_WORD: Final = 5.0
"""Seconds that the end of a job waits for its last report at most."""
_SIGN_OF_LIFE: Final = DEAD_AFTER / 3
"""Age of a report that is written again though nothing has changed."""
_AGAIN: Final = "Begin it again when it is wanted."
RESUMED: Final = "What was copied stays; begin it again, and it goes on from there."
"""Of a backfill that was cancelled."""

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
    commits is attributed to its author and reason.

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
    author = by or actor().by or current_actor()
    with acting(by=author, reason=reason):
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


def _is_due(known: Job, job: Job) -> bool:
    """Return whether a report says something new, or is needed as a sign of life."""
    if abs(job.heartbeat - known.heartbeat) >= _SIGN_OF_LIFE:
        return True
    return replace(known, heartbeat=job.heartbeat) != job


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
                job = self._reporter.report(now)
                if mine is not None and not _is_due(mine, job):
                    return
                value = plain_jobs(with_job(known, job, now))
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
