"""Verdict on an environment: what an operator asks at night, answered from its facts. Pure.

Seven questions in a fixed order; each answer has a level, a sentence, and where something
can be done, the exact command. The verdict is as bad as its worst answer, so that nothing
that needs care stands beside "nothing waits".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from pend_storage._shown import moment
from pend_storage.operations._verdict_risks import Risks
from pend_storage.operations._verdict_values import (
    DOCTOR,
    QUESTIONS,
    Answer,
    Found,
    Level,
    Question,
    Verdict,
    duration,
    why,
    worst,
)
from pend_storage.operations.facts import previous_phase
from pend_storage.operations.status import EnvironmentStatus
from pend_storage.phases import Phase, Role

__all__ = [
    "QUESTIONS",
    "Answer",
    "Level",
    "Question",
    "Verdict",
    "duration",
    "verdict",
]

STALE: Final = 5.0
"""Seconds after which facts are not of now any more."""
LOST: Final = 60.0
"""Seconds after which they prove nothing."""


def verdict(
    status: EnvironmentStatus,
    now: datetime,
    *,
    looked_at: datetime | None = None,
    retention: timedelta | None = None,
) -> Verdict:
    """Judge an environment by all facts of its status.

    Args:
        status: the facts.
        now: time at which the verdict is read, UTC.
        looked_at: time at which the facts were probed, UTC; None: now.
        retention: for how long the primary's change log is kept; None: it is not known.
    """
    facts = _Facts(status, retention)
    answers = [
        facts.failing(),
        facts.risk(),
        facts.phase(),
        facts.back(),
        facts.running(),
    ]
    fresh = _fresh(now, looked_at or now)
    answers.append(_next(status, [*answers, fresh]))
    answers.append(fresh)
    gravest = max(answers, key=lambda answer: answer.level.rank)
    return Verdict(
        level=gravest.level, sentence=_summary(gravest, answers), answers=(*answers,)
    )


def _summary(gravest: Answer, answers: Sequence[Answer]) -> str:
    """Return the worst answer's sentence, with the number of the others that need care."""
    if gravest.level is Level.OK:
        return "all is well: nothing fails, no data is at risk, nothing waits"
    others = {
        answer.sentence
        for answer in answers
        if answer.level is not Level.OK and answer.question != "next"
    } - {gravest.sentence}
    if not others:
        return gravest.sentence
    count = (
        "1 more answer needs"
        if len(others) == 1
        else f"{len(others)} more answers need"
    )
    return f"{gravest.sentence}; {count} care"


class _Facts:
    """The facts of a status, as answers to the first five questions."""

    def __init__(self, status: EnvironmentStatus, retention: timedelta | None) -> None:
        self._status = status
        self._details = status.details
        self._risks = Risks(status, retention)
        named = (("JSON", status.json), ("PostgreSQL", status.postgres))
        self._sides = [(name, side) for name, side in named if side is not None]

    # -- 1: failing -----------------------------------------------------------------------

    def failing(self) -> Answer:
        """Return whether calls of users fail or wait now."""
        found = [*self._unread(), *self._silent_primary(), *self._fenced()]
        if self._status.problem is not None:
            found.append(
                Found(
                    Level.FAILING,
                    f"the stores cannot be opened as a pair: {why(self._status.problem)}",
                    DOCTOR,
                )
            )
        well = "nothing fails for users: the primary answers"
        if self._status.is_fresh:
            well = "nothing fails: no server has used these stores yet"
        return worst("failing", found, well)

    def _unread(self) -> Iterator[Found]:
        for file in self._status.broken:
            if file.unread:
                yield Found(
                    Level.FAILING,
                    f"{file.file} could never be read, and calls that depend on it are "
                    f"refused: {file.reason}",
                    f"pend-storage quarantine show {file.id}",
                )

    def _silent_primary(self) -> Iterator[Found]:
        """Yield each store that does not answer, and is primary or may be."""
        answering = [side for _, side in self._sides if side.problem is None]
        has_primary = any(side.role is Role.PRIMARY for side in answering)
        for name, side in self._sides:
            if side.problem is None or has_primary:
                continue
            primary = "is primary" if self._is_primary(name) else "may be primary"
            yield Found(
                Level.FAILING,
                f"{name} {primary} and does not answer: {why(side.problem)}",
                DOCTOR,
            )
        if not self._sides:
            yield Found(Level.FAILING, "no store is configured", "pend-storage init")

    def _is_primary(self, name: str) -> bool:
        phase = self._status.phase
        if phase is None:
            return len(self._sides) == 1
        role = phase.json_role if name == "JSON" else phase.postgres_role
        return role is Role.PRIMARY

    def _fenced(self) -> Iterator[Found]:
        for name, side in self._sides:
            if side.role is Role.FENCED:
                yield Found(
                    Level.ATTENTION,
                    f"{name} is fenced: a switch is under way, and writes wait for it",
                    "pend-storage phase show",
                )

    def risk(self) -> Answer:
        """Return what puts data, or its copy, at risk."""
        return self._risks.answer()

    # -- 3: phase -------------------------------------------------------------------------

    def phase(self) -> Answer:
        """Return the phase, with the last switch and what the flag wants."""
        status, flag = self._status, self._status.flag
        found: list[Found] = []
        if flag.problem is not None:
            found.append(
                Found(
                    Level.ATTENTION,
                    f"the flag cannot be read: {why(flag.problem)}",
                    DOCTOR,
                )
            )
        if flag.held is not None:
            found.append(Found(Level.ATTENTION, flag.held, "pend-storage phase show"))
        if status.differs and status.phase is not None and flag.wanted is not None:
            found.append(
                Found(
                    Level.ATTENTION,
                    f"the phase is {status.phase.value}, and {flag.place} wants "
                    f"{flag.wanted.value}",
                    f"pend-storage phase set {flag.wanted.value} --dry-run",
                )
            )
        if status.phase is None and not status.is_fresh and len(self._sides) > 1:
            found.append(
                Found(Level.ATTENTION, "the phase cannot be known now", DOCTOR)
            )
        return worst("phase", found, self._phase_sentence())

    def _phase_sentence(self) -> str:
        phase = self._status.phase
        if phase is None:
            alone = [name for name, _ in self._sides]
            if len(alone) == 1:
                return f"{alone[0]} stands alone: there is no phase"
            return "the stores are no pair yet"
        history = () if self._details is None else self._details.history
        if not history:
            return f"{phase.value}; no switch is recorded"
        last = history[-1]
        return f"{phase.value} since {moment(last.at)}, by {last.by}"

    # -- 4: back --------------------------------------------------------------------------

    def back(self) -> Answer:
        """Return whether the phase before can be had now, and at which cost."""
        phase = self._status.phase
        before = None if phase is None else previous_phase(phase)
        if before is None:
            known = phase is not None or self._status.is_fresh or len(self._sides) < 2  # noqa: PLR2004 - a pair
            said = (
                "there is no phase to go back to"
                if known
                else ("whether one can go back is not known: the phase is not")
            )
            level = Level.OK if known else Level.ATTENTION
            return Answer(question="back", level=level, sentence=said)
        found = [*self._against_going_back(before)]
        well = f"one can go back to {before.value} now: nothing would be lost; {self._pause()}"
        answer = worst("back", found, well)
        if answer.command is None:
            answer = replace(answer, command="pend-storage phase rollback --dry-run")
        return answer

    def _against_going_back(self, before: Phase) -> Iterator[Found]:
        phase = self._status.phase
        postgres, json = self._status.postgres, self._status.json
        if phase is Phase.PARALLEL:
            return  # PostgreSQL is only detached; it may be away
        if postgres is not None and postgres.problem is not None:
            yield Found(
                Level.FAILING,
                f"one cannot go back to {before.value}: PostgreSQL is primary, and does not "
                "answer; its last commits would be lost",
                DOCTOR,
            )
        if json is not None and json.problem is not None:
            yield Found(
                Level.RISK,
                f"one cannot go back to {before.value}: JSON does not answer",
                DOCTOR,
            )
        lag = None if self._details is None else self._details.lag
        if lag is not None and lag.blocked is not None:
            yield Found(
                Level.RISK,
                f"one cannot go back to {before.value} while replication is blocked",
                DOCTOR,
            )
        elif lag is not None and self._risks.level_of_lag(lag.seconds) is not Level.OK:
            yield Found(
                Level.ATTENTION,
                f"going back to {before.value} loses nothing, and takes longer: JSON is "
                f"{lag.commits:,} commits behind",
            )

    def _pause(self) -> str:
        if self._status.phase is Phase.POSTGRES_ONLY:
            return "JSON is brought up to date first, and writes go on meanwhile"
        history = () if self._details is None else self._details.history
        if not history:
            return "writes wait while the last commits are applied"
        return f"writes waited {duration(history[-1].pause)} at the last switch"

    # -- 5: running -----------------------------------------------------------------------

    def running(self) -> Answer:
        """Return the jobs that run, and those that died."""
        jobs: Sequence[Any] = getattr(self._status, "jobs", ())
        running = [job for job in jobs if job.state in {"running", "paused"}]
        found = [*_ended_badly(jobs)]
        found += [
            Found(
                Level.ATTENTION,
                f"{job.kind} is paused",
                f"pend-storage jobs resume {job.id}",
            )
            for job in running
            if job.state == "paused"
        ]
        if self._details is not None and self._details.backfill == "interrupted":
            busy = any(
                job.kind == "backfill" and job.state == "running" for job in jobs
            )
            if not busy:
                found.append(
                    Found(
                        Level.ATTENTION,
                        "the backfill was interrupted, and is not complete",
                        "pend-storage migrate json",
                    )
                )
        sentences = [_job_sentence(job) for job in running]
        return worst("running", found, "; ".join(sentences) or "nothing runs")


def _ended_badly(jobs: Sequence[Any]) -> Iterator[Found]:
    """Yield jobs that died or failed, unless a later one of their kind is good."""
    for place, job in enumerate(jobs):
        later = {other.state for other in jobs[place + 1 :] if other.kind == job.kind}
        if job.state in {"died", "failed"} and not later & {"running", "done"}:
            what = "died: its process ended" if job.state == "died" else "failed"
            yield Found(
                Level.ATTENTION,
                f"{job.kind} {what}, after {job.done:,} records",
                f"pend-storage jobs show {job.id}",
            )


def _job_sentence(job: Any) -> str:
    total = "" if job.total is None else f" of {job.total:,}"
    left = "" if job.eta_seconds is None else f", {duration(job.eta_seconds)} left"
    slowed = max(job.throttled, key=job.throttled.__getitem__, default=None)
    why = "" if slowed is None else f", slowed by {slowed}"
    return f"{job.kind}: {job.done:,}{total}{left}{why}"


# -- 6 and 7: next, fresh -----------------------------------------------------------------


def _next(status: EnvironmentStatus, answers: Sequence[Answer]) -> Answer:
    """Return what is to be done first: against the worst answer, else towards the end."""
    gravest = max(answers, key=lambda answer: answer.level.rank)
    if gravest.level is not Level.OK:
        said = gravest.sentence.partition("; ")[0]
        return Answer(
            question="next", level=gravest.level, sentence=said, command=gravest.command
        )
    ahead = None if status.details is None else status.details.ahead
    if ahead is not None and ahead.blockers:
        first = ahead.blockers[0]
        count = len(ahead.blockers)
        many = "1 blocker" if count == 1 else f"{count} blockers"
        said = f"{many} before {ahead.phase.value}; {first.code}: {first.sentence}"
        return Answer(
            question="next", level=Level.OK, sentence=said, command=first.remedy
        )
    if ahead is not None:
        return Answer(
            question="next",
            level=Level.OK,
            sentence=f"all is ready for {ahead.phase.value}",
            command="pend-storage phase advance --dry-run",
        )
    if status.is_fresh and status.json is not None and status.postgres is not None:
        return Answer(
            question="next",
            level=Level.OK,
            sentence="prepare the database, then bring the JSON directory into it",
            command="pend-storage db migrate",
        )
    return Answer(question="next", level=Level.OK, sentence="nothing is to be done")


def _fresh(now: datetime, looked_at: datetime) -> Answer:
    """Judge the age of the facts; a clock that went back makes them no younger."""
    age = abs((now - looked_at).total_seconds())
    if age <= STALE:
        return Answer(
            question="fresh", level=Level.OK, sentence=f"looked {duration(age)} ago"
        )
    level = Level.RISK if age > LOST else Level.ATTENTION
    return Answer(
        question="fresh",
        level=level,
        sentence=f"these facts are {duration(age)} old: what is now is not known",
        command="pend-storage status",
    )
