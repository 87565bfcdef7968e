"""Requests to jobs of other processes, and the reading of what they report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from pend_storage._jobs.place import JobPlace, JobRecord
from pend_storage._model.attribution import actor, current_actor
from pend_storage._model.jobs import (
    JOBS_META,
    Job,
    Request,
    Wish,
    as_read_at,
    parse_jobs,
    plain_jobs,
)
from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = ["find_job", "read_jobs", "request"]

_ATTEMPTS: Final = 20


def read_jobs(store: JobRecord, now: datetime) -> tuple[Job, ...]:
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


def find_job(jobs: Iterable[Job], text: str) -> Job:
    """Find a job by its id, or by an unambiguous beginning or end of it.

    Raises:
        ConfigError: no job matches, or more than one.
    """
    known = tuple(jobs)
    exact = [job for job in known if job.id == text]
    near = [job for job in known if job.id.startswith(text) or job.id.endswith(text)]
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
