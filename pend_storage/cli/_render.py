"""Rendering of facts for people: phase, roles, lag, blockers, broken files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pend_storage._shown import moment
from pend_storage.cli._output import Cell, Output, seconds

if TYPE_CHECKING:
    from pend_storage._model.jobs import Job
    from pend_storage.dualwrite import ComparedTotals
    from pend_storage.operations.backup.facts import (
        BackupFacts,
        DrillFact,
        GoodBackup,
    )
    from pend_storage.operations.facts import Obstacle, PairFacts, StoreFacts
    from pend_storage.operations.quarantine import BrokenFile
    from pend_storage.operations.status import EnvironmentStatus

__all__ = [
    "job_counts",
    "job_progress",
    "job_styles",
    "show_backup",
    "show_broken",
    "show_details",
    "show_jobs",
    "show_obstacles",
    "show_phase",
]

_BAR: Final = 20
"""Characters of a bar."""
_UNSUCCESSFUL: Final = frozenset({"failed", "died"})


def show_phase(out: Output, status: EnvironmentStatus) -> None:
    """Render the phase, the flag, and the roles of both stores."""
    now = "none yet" if status.phase is None else status.phase.value
    out.line(f"{status.environment}: phase {now}", style="title")
    flag = status.flag
    wanted = (
        f"nothing; it may be said by {flag.place}"
        if flag.wanted is None
        else f"{flag.wanted.value}, by {flag.place}"
    )
    rows: list[tuple[Cell, ...]] = [
        ("configuration", status.configuration),
        ("wanted", wanted),
        ("JSON", _side(status.json)),
        ("PostgreSQL", _side(status.postgres)),
    ]
    if status.json is not None and status.json.files:
        rows.insert(3, ("legacy files", _files(status.json)))
    out.facts(rows)
    if flag.problem is not None:
        out.line(f"the flag: {flag.problem}", style="warn")
    if flag.held is not None:
        out.line(f"the flag: {flag.held}", style="warn")
    if status.problem is not None:
        out.line(status.problem, style="fail")
    elif status.is_fresh:
        out.line("the stores were not used as a pair yet", style="quiet")
    if status.differs and flag.wanted is not None:
        out.line(
            f"not in the wanted phase: pend-storage phase set {flag.wanted.value}",
            style="warn",
        )


def show_backup(out: Output, found: BackupFacts | None) -> None:
    """Render the facts about the backups; nothing where no repository is configured."""
    if found is None:
        return
    if found.problem is not None:
        out.line(
            f"backups: the repository cannot be read: {found.problem}", style="warn"
        )
        return
    good, drill, window = found.last_good, found.drill, found.window
    rows: list[tuple[Cell, ...]] = [
        ("last good backup", "never" if good is None else _good_backup(good)),
        ("archive", _archive(found)),
        ("last drill", "never" if drill is None else _last_drill(drill)),
    ]
    if window is not None:
        gap = "" if window.gap is None else f"; gap: {window.gap}"
        reach = f"{moment(window.earliest)} to {moment(window.latest)}{gap}"
        rows.insert(1, ("restorable", reach))
    if found.next_run is not None:
        rows.append(("next backup", moment(found.next_run)))
    if found.bytes is not None:
        free = found.free_bytes
        room = "" if free is None else f", {free:,} free"
        rows.append(("repository", f"{found.bytes:,} bytes{room}; {found.repository}"))
    out.facts(rows)
    if found.is_old:
        out.line(
            "the last good backup is too old: pend-storage backup create", style="warn"
        )
    if found.damaged:
        out.line(
            f"{found.damaged:,} backups or objects are damaged: pend-storage backup verify "
            "--all",
            style="fail",
        )
    if found.failure is not None:
        out.line(f"the last scheduled backup failed: {found.failure}", style="fail")


def _good_backup(good: GoodBackup) -> str:
    return f"{good.id}, {seconds(good.age_seconds)} old, state of {moment(good.at)}"


def _archive(found: BackupFacts) -> str:
    lag = found.archive
    if lag is None or lag.upto is None:
        return "never"
    if lag.problem is not None:
        return f"up to {lag.upto}; {lag.problem}"
    if lag.commits is None or lag.seconds is None:
        return f"up to {lag.upto}; how far the log is, is not known"
    return f"{lag.commits:,} commits, {seconds(lag.seconds)} behind"


def _last_drill(drill: DrillFact) -> str:
    reason = "" if drill.reason is None else f": {drill.reason}"
    rto = "" if drill.rto_seconds is None else f", RTO {seconds(drill.rto_seconds)}"
    return f"{moment(drill.at)}, {drill.outcome}{reason}{rto}"


def show_broken(out: Output, files: Sequence[BrokenFile]) -> None:
    """Render the legacy files that are broken as a whole, and the ways to repair them."""
    for file in files:
        rest = (
            "what rests on it is refused" if file.unread else "the store has the rest"
        )
        out.line(f"{file.file} cannot be read, {rest}: {file.reason}", style="fail")
        out.line(
            f"  repair it in its place, or: pend-storage quarantine retry {file.id} "
            f"--with FILE, or: pend-storage quarantine accept {file.id} --reason ...",
            style="fail",
        )


def _side(side: StoreFacts | None) -> str:
    if side is None:
        return "not configured"
    if side.problem is not None:
        return f"cannot be asked: {side.problem}"
    if side.role is None:
        return f"no role yet; {side.place}"
    return f"{side.role.value} at epoch {side.epoch}; {side.place}"


def _files(side: StoreFacts) -> str:
    """Render the lag of the legacy files behind the commits."""
    oldest = side.files[0]
    more = f"; {len(side.files) - 1:,} more are behind" if side.files[1:] else ""
    what = "record" if oldest.records == 1 else "records"
    age = seconds(oldest.seconds)
    return f"{oldest.file} is {age} behind, {oldest.records:,} {what}{more}"


def _compared(totals: ComparedTotals) -> str:
    return (
        f"{totals.compared:,} compared, {totals.dropped:,} dropped, "
        f"{totals.confirmed:,} differed, since {moment(totals.since)}"
    )


def show_details(
    out: Output, details: PairFacts, compared: ComparedTotals | None = None
) -> None:
    """Render the replication between the stores, and the blockers of the next phase."""
    lag = details.lag
    rows: list[tuple[Cell, ...]] = []
    if lag is not None:
        state = "" if lag.secondary_up else "; the secondary is down"
        rows.append(("lag", f"{lag.commits:,} commits, {seconds(lag.seconds)}{state}"))
        if lag.blocked is not None:
            rows.append(("blocked", lag.blocked))
    if details.backfill is not None:
        rows.append(("backfill", details.backfill))
        rows.append(("validation", _validation(details.validation)))
    if compared is not None:
        rows.append(("compared reads", _compared(compared)))
    if details.divergences:
        open_ones = f"{details.divergences:,} open: pend-storage divergences list"
        rows.append(("divergences", open_ones))
    if details.waiting is not None:
        rows.append(("quarantine", f"{details.waiting:,} wait"))
    if details.history:
        last = details.history[-1]
        phases = f"{last.before.value} to {last.after.value}"
        rows.append(("last switch", f"{moment(last.at)}, {phases}, by {last.by}"))
    out.facts(rows)
    ahead = details.ahead
    if ahead is not None:
        if ahead.ready:
            out.line(f"ready for {ahead.phase.value}", style="ok")
        else:
            out.line(f"not ready for {ahead.phase.value}:", style="quiet")
            show_obstacles(out, ahead.blockers)


def _validation(fact: Any) -> str:
    if not isinstance(fact, Mapping):
        return "never since the secondary began to follow"
    at, found = moment(str(fact.get("at"))), fact.get("found")
    return f"{at}: clean" if not found else f"{at}: {found:,} records differ"


def show_jobs(out: Output, jobs: Sequence[Job]) -> None:
    """Render the jobs that run, and the last one of those that ended, where it failed."""
    live = [job for job in jobs if job.is_live]
    ended = [job for job in jobs if not job.is_live]
    if ended and ended[-1].state in _UNSUCCESSFUL:
        live.append(ended[-1])
    if not live:
        return
    for job in live:
        style = "fail" if job.state in _UNSUCCESSFUL else None
        out.line(
            f"{job.kind} {job.id}, {job.state}: {job_progress(job)}; by {job.by}",
            style=style,
        )


def job_styles(jobs: Iterable[Job]) -> list[str | None]:
    """Return the style of the row of each job."""
    return ["fail" if job.state in _UNSUCCESSFUL else None for job in jobs]


def job_counts(job: Job) -> str:
    """Return what a job has done in its present stage, and what there is to do."""
    return f"{job.done:,} of {job.total:,}" if job.total else f"{job.done:,}"


def job_progress(job: Job) -> str:
    """Return the progress of a job in one line: a bar, counts, rate, time left, waits."""
    if not job.is_live:
        return job.result or ""
    bar = ""
    if job.total:
        full = min(_BAR, _BAR * job.done // job.total)
        bar = f"[{'#' * full}{'.' * (_BAR - full)}] "
    parts = [job.stage, f"{bar}{job_counts(job)} {job.unit}"]
    if job.rate:
        parts.append(f"{job.rate:,.0f}/s")
    if job.eta_seconds is not None:
        parts.append(f"{seconds(job.eta_seconds)} left")
    if job.waiting is not None:
        parts.append(f"waits: {job.waiting}")
    return ", ".join(part for part in parts if part)


def show_obstacles(out: Output, found: tuple[Obstacle, ...]) -> None:
    """Render blockers: code, sentence, and the command that removes each."""
    for obstacle in found:
        out.line(f"{obstacle.code}: {obstacle.sentence}", style="warn")
        remedy = f"    -> {obstacle.remedy}"
        if obstacle.can_be_accepted:
            remedy += f"; or let it pass with --accept {obstacle.code}"
        out.line(remedy)
