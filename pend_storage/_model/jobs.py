"""Jobs: the shared record of long work, which every process can read. Pure.

The record is one value of the metadata: the jobs that run, and the last ones that ended.
The process that runs a job rewrites its entry about once a second; other processes read
the record, and ask for a pause, a continuation or an end in the same entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

import msgspec

from pend_storage._model.records import JSON
from pend_storage._shown import cut, shown
from pend_storage.errors import ConfigError

__all__ = [
    "BEAT",
    "DEAD_AFTER",
    "JOBS_META",
    "Job",
    "JobState",
    "Request",
    "Wish",
    "as_read_at",
    "parse_jobs",
    "plain_jobs",
    "with_job",
]

JOBS_META: Final = "jobs"
"""Meta of a pair, and of a store that stands alone: the jobs that run, and the last ones."""
BEAT: Final = timedelta(seconds=1)
"""Time between two reports of a job, at least."""
DEAD_AFTER: Final = timedelta(seconds=15)
"""Age of a heartbeat, in either direction, from which on its job counts as died. Clocks of
hosts must agree by less."""

_VERSION: Final = 1
_ABSENT: Final[tuple[JSON, ...]] = (None, "", {})
_MOST_LIVE: Final = 32
"""Entries of jobs that have not ended, at most; those that died are dropped first."""
_MOST_ENDED: Final = 20
_MOST_ALIKE: Final = 3
"""Jobs of one kind that are done, at most: work that is repeated every few minutes must
not push out what failed."""
_LONGEST_NAME: Final = 200
_LONGEST_TEXT: Final = 500

JobState: TypeAlias = Literal[
    "running", "paused", "cancelled", "done", "failed", "died"
]
Wish: TypeAlias = Literal["pause", "resume", "cancel"]

_LIVE: Final = frozenset({"running", "paused"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Request of another process to a job: the last one counts."""

    wish: Wish
    by: str
    reason: str | None = None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Job: long work of one process, as that process reported it last."""

    id: str
    kind: str
    """What is done: ``backfill``, ``validate``, ``repair``, ``backup-create`` and so on."""
    by: str
    """Who began it: a name that was given, or user, machine and process."""
    reason: str | None = None
    host: str
    process: int
    """Process id on that host."""
    started: datetime
    heartbeat: datetime
    """Time of the last report, by the clock of its host, UTC."""
    stage: str = ""
    """The part of it that runs now, in words."""
    unit: str = "records"
    """Unit of :attr:`done`, :attr:`total` and :attr:`rate`."""
    done: int = 0
    """Of the present stage."""
    total: int | None = None
    """None: not known."""
    rate: float | None = None
    """Per second; None: not known yet."""
    eta_seconds: float | None = None
    """Seconds to the end of the stage at this rate; None: not known."""
    throttled: Mapping[str, float] = field(default_factory=dict)
    """Seconds waited so far, by reason: ``rate``, ``lag``, ``slow-target``, ``paused``."""
    waiting: str | None = None
    """The reason for which it waits right now; None: it works."""
    state: JobState = "running"
    """Died: no report for longer than :data:`DEAD_AFTER`."""
    result: str | None = None
    """Sentence on the outcome; None: it has not ended."""
    can_wait: bool = True
    """Whether it obeys requests: work that may not stop half-way does not."""
    request: Request | None = None
    """What another process asked for last."""

    @property
    def is_live(self) -> bool:
        """True where it has not ended, as far as is known."""
        return self.state in _LIVE


class _Record(msgspec.Struct, kw_only=True):
    version: int
    jobs: list[Job] = []


def parse_jobs(value: JSON) -> tuple[Job, ...]:
    """Parse the record, oldest first; None is an empty one.

    Raises:
        ConfigError: a newer version of the library has written it, or it is damaged.
    """
    if value is None:
        return ()
    version = value.get("version") if isinstance(value, Mapping) else None
    if isinstance(version, int) and version > _VERSION:
        raise ConfigError(
            f"the jobs of this environment are recorded in format {version}, and this "
            f"version of pend_storage reads format {_VERSION}: install the newer one here."
        )
    try:
        return tuple(msgspec.convert(value, _Record).jobs)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"the record of the jobs cannot be read ({error}): restore the meta entry "
            f"{shown(JOBS_META)}, or remove it; only progress is lost by that."
        ) from None


def plain_jobs(jobs: Iterable[Job]) -> JSON:
    """Return the value of the metadata for these jobs."""
    members: list[JSON] = []
    for job in jobs:
        # Written about once a second, so without what parsing adds by itself.
        entry: dict[str, JSON] = msgspec.to_builtins(job)
        members.append({n: v for n, v in entry.items() if v not in _ABSENT})
    return {"version": _VERSION, "jobs": members}


def with_job(known: Sequence[Job], job: Job, now: datetime) -> tuple[Job, ...]:
    """Return the record with one entry replaced or added, within its bounds.

    Args:
        known: the record so far.
        job: the entry; its long texts are cut.
        now: by which the age of a heartbeat is judged.
    """
    mine = replace(
        job,
        kind=cut(job.kind, _LONGEST_NAME),
        by=cut(job.by, _LONGEST_NAME),
        reason=None if job.reason is None else cut(job.reason, _LONGEST_TEXT),
        stage=cut(job.stage, _LONGEST_NAME),
        result=None if job.result is None else cut(job.result, _LONGEST_TEXT),
    )
    others = [other for other in known if other.id != job.id]
    live = [other for other in others if as_read_at(other, now).is_live]
    ended = _without_repeated([other for other in others if other not in live])
    # The bound of each is for those beside this job, which always has its place.
    kept = [*ended[-_MOST_ENDED:], *live[-_MOST_LIVE:], mine]
    return tuple(sorted(kept, key=_order))


def _without_repeated(ended: Sequence[Job]) -> list[Job]:
    kept: list[Job] = []
    for job in reversed(ended):
        alike = sum(
            job.state == other.state == "done" and job.kind == other.kind
            for other in kept
        )
        if alike < _MOST_ALIKE:
            kept.append(job)
    return kept[::-1]


def _order(job: Job) -> tuple[datetime, str]:
    return job.started, job.id


def as_read_at(job: Job, now: datetime) -> Job:
    """Return a job as it counts at a moment: died where its reports have stopped.

    A heartbeat far in the future is one of a clock that was set back since; its process
    would have reported again by now, so it counts as a stopped one.
    """
    if job.is_live and abs(now - job.heartbeat) > DEAD_AFTER:
        return replace(
            job,
            state="died",
            waiting=None,
            eta_seconds=None,
            result=job.result
            or f"no report since {job.heartbeat.isoformat(timespec='seconds')}: its "
            "process was ended, or its host is gone. Begin it again.",
        )
    return job
