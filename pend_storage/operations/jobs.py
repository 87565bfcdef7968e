"""Jobs of an environment: what runs, how far it is, and requests to it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Final

from pend_storage._jobs.place import JobPlace, JobRecord
from pend_storage._jobs.reporter import JobReporter
from pend_storage._jobs.requests import find_job, read_jobs, request
from pend_storage._jobs.running import RESUMED, running_job
from pend_storage._model.attribution import acting, actor, current_actor
from pend_storage._model.jobs import JOBS_META, Job, Wish
from pend_storage.config import Settings
from pend_storage.errors import PendStorageError
from pend_storage.events import Progress
from pend_storage.factory import has_begun, open_json, open_pair, open_postgres
from pend_storage.operations.marks import primary_of
from pend_storage.operations.progress import Stage
from pend_storage.stores.json import has_store

__all__ = [
    "JOBS_META",
    "RESUMED",
    "Job",
    "JobPlace",
    "JobReporter",
    "acted",
    "ask",
    "find_job",
    "has_obeyed",
    "jobs_of",
    "open_places",
    "read_jobs",
    "request",
    "running_job",
    "settings_job",
    "staged",
]

_PATIENCE: Final = 5.0
"""Seconds to wait until a job obeys."""
_POLL: Final = 0.2


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
def open_places(settings: Settings) -> Iterator[tuple[JobPlace, ...]]:
    """Open what has records of the jobs of an environment: the pair, then its stores.

    Raises:
        ConfigError: no store is configured.
        StoreUnavailable: no store can be reached.
    """
    with ExitStack() as opened:
        if has_begun(settings):
            pair = opened.enter_context(open_pair(settings))
            yield (pair, pair.json, pair.postgres)
            return
        places: list[JobPlace] = []
        problem: PendStorageError | None = None
        if settings.json is not None and has_store(settings.json.directory):
            try:
                places.append(opened.enter_context(open_json(settings)))
            except PendStorageError as error:
                problem = error
        if settings.postgres is not None:
            try:
                database = opened.enter_context(open_postgres(settings))
                database.role()  # it connects at the first call
                places.append(database)
            except PendStorageError as error:
                problem = error
        if not places and problem is not None:
            raise problem
        yield tuple(places)


def ask(
    places: Iterable[JobPlace],
    job_id: str,
    wish: Wish,
    *,
    by: str | None = None,
    reason: str | None = None,
    patience: float = _PATIENCE,
) -> Job:
    """Ask a job for a pause, its continuation or its end, and wait until it obeys.

    Args:
        places: as :func:`open_places` yields them.
        job_id: id of the job, or an unambiguous beginning or end of it.
        wish: ``pause``, ``resume`` or ``cancel``.
        by: who asks; None: the author of this context, or user, machine and process.
        reason: of the person; the record keeps it.
        patience: seconds to wait; 0: not at all.

    Returns:
        The job as it is then; one that has not obeyed yet has the request.

    Raises:
        ConfigError: there is no such job, it has ended, or it may not stop half-way.
        StoreUnavailable: the store with its record cannot be reached.
    """
    known = tuple(places)
    wanted = find_job(jobs_of(known, datetime.now(UTC)), job_id)
    place = next(
        place for place in known if wanted.id in {j.id for j in _jobs_in(place)}
    )
    job = request(place, wanted.id, wish, by=by, reason=reason)
    deadline = time.monotonic() + patience
    while not has_obeyed(job, wish) and time.monotonic() < deadline:
        time.sleep(_POLL)
        job = find_job(_jobs_in(place), wanted.id)
    return job


def has_obeyed(job: Job, wish: Wish) -> bool:
    """Return whether a job is in the state that it was asked for, or has ended."""
    if not job.is_live:
        return True
    return job.state == {"pause": "paused", "resume": "running"}.get(wish)


def _jobs_in(place: JobPlace) -> tuple[Job, ...]:
    return jobs_of((place,), datetime.now(UTC))


def jobs_of(places: Iterable[JobRecord], now: datetime) -> tuple[Job, ...]:
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
