"""Jobs of an environment: what runs, how far it is, and requests to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

from pend_storage._jobs.place import JobPlace
from pend_storage._jobs.reporter import JobReporter
from pend_storage._jobs.requests import find_job, read_jobs, request
from pend_storage._jobs.running import RESUMED, running_job
from pend_storage._model.attribution import acting, actor, current_actor
from pend_storage._model.jobs import JOBS_META, Job
from pend_storage.config import Settings
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.events import Progress
from pend_storage.operations.marks import primary_of
from pend_storage.operations.progress import Stage

__all__ = [
    "JOBS_META",
    "RESUMED",
    "Job",
    "JobPlace",
    "JobReporter",
    "acted",
    "find_job",
    "jobs_of",
    "open_place",
    "read_jobs",
    "request",
    "running_job",
    "settings_job",
    "staged",
]


@contextmanager
def acted(by: str | None, reason: str | None) -> Iterator[str]:
    """Attribute what an operation commits and records; yields its author.

    Args:
        by: who does it; None: the author of this context, or user, machine and process.
        reason: of the person.
    """
    author = by or actor().by or current_actor()
    with acting(by=author, reason=reason):
        yield author


def staged(job: JobReporter, stage: Stage) -> Stage:
    """Return a stage that reports to a job too, and obeys the requests to it.

    Args:
        job: the running job.
        stage: shows the progress of the command.
    """

    @contextmanager
    def begin(label: str, /, *, unit: str = "records") -> Iterator[Progress | None]:
        job.begin_stage(label, unit=unit)
        with stage(label, unit=unit) as progress:
            yield job.following(progress)

    return begin


@contextmanager
def settings_job(
    settings: Settings,
    kind: str,
    *,
    by: str | None,
    reason: str | None,
    can_wait: bool = True,
) -> Iterator[JobReporter]:
    """Run a block as a job of an environment whose stores it does not open itself.

    The record is in the primary. Where that cannot be opened now, nothing is recorded, and
    the work goes on.

    Args:
        settings: of the environment.
        kind: what is done, one word such as ``drill``.
        by: who does it; None: the author of this context, or user, machine and process.
        reason: of the person.
        can_wait: False for work that may not stop half-way.
    """
    with ExitStack() as opened:
        place: JobPlace | None = None
        with contextlib.suppress(PendStorageError, OSError):
            place, _ = primary_of(settings, opened)
        with running_job(
            place, kind, by=by, reason=reason, can_wait=can_wait
        ) as reporter:
            yield reporter


@contextmanager
def open_place(settings: Settings) -> Iterator[JobPlace]:
    """Open the store that has the record of the jobs of an environment.

    Raises:
        ConfigError: no store is configured.
        StoreUnavailable: the primary cannot be reached.
    """
    with ExitStack() as opened:
        place, _ = primary_of(settings, opened)
        yield place


def jobs_of(places: Iterable[JobPlace], now: datetime) -> tuple[Job, ...]:
    """Read the jobs that are recorded in several places, oldest first; each once.

    A place that does not answer, or whose record is of a newer version, is passed over.

    Args:
        places: the pair, and its stores: a job that began before they were a pair is
            recorded in the store that it wrote to.
        now: by which the age of a heartbeat is judged, UTC.
    """
    found: dict[str, Job] = {}
    for place in places:
        with contextlib.suppress(PendStorageError):
            for job in read_jobs(place, now):
                found.setdefault(job.id, job)
    return tuple(sorted(found.values(), key=lambda job: (job.started, job.id)))


def require_reason(reason: str | None) -> str:
    """Return a reason that is not empty.

    Raises:
        ConfigError: there is none.
    """
    if reason is None or not reason.strip():
        raise ConfigError("a reason is needed, which is kept: give it with --reason.")
    return reason
