"""``pend-storage jobs``: list, show, pause, resume, cancel."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from pend_storage._shown import moment
from pend_storage.cli._exits import Exit
from pend_storage.cli._groups import CommandGroup
from pend_storage.cli._output import seconds
from pend_storage.cli._render import job_counts, job_progress, job_styles
from pend_storage.cli._session import Session, command_options, pass_session

if TYPE_CHECKING:
    from pend_storage._model.jobs import Job, Wish
    from pend_storage.cli._output import Output

__all__ = ["jobs"]


@click.group(cls=CommandGroup, short_help="Long work of all processes.")
@command_options
def jobs() -> None:
    """Long work of all processes: backfills, validations, repairs, backups and so on.

    A process reports about once a second; one that has not done so for 15 seconds has
    died. Jobs obey between two chunks, within two seconds as a rule.
    """


@jobs.command("list", short_help="What runs, and the last ones that ended.")
@pass_session
def list_command(session: Session) -> Exit:
    """List the jobs that run, and the last ones that ended."""
    found = _read(session)
    out = session.output
    if found:
        out.table(
            ["id", "kind", "state", "done", "per s", "left", "waits", "began", "by"],
            [
                (
                    job.id,
                    job.kind,
                    job.state,
                    job_counts(job),
                    "" if job.rate is None else f"{job.rate:,.0f}",
                    "" if job.eta_seconds is None else seconds(job.eta_seconds),
                    job.waiting or "",
                    moment(job.started),
                    job.by,
                )
                for job in found
            ],
            styles=job_styles(found),
        )
    running = sum(job.is_live for job in found)
    out.line(f"{running:,} run")
    return session.finish(Exit.DONE, {"running": running, "jobs": found})


@jobs.command("show", short_help="Show one, whole.")
@click.argument("identity", metavar="ID")
@pass_session
def show(session: Session, identity: str) -> Exit:
    """Show a job. The beginning or the end of its ID is enough, where it names only one."""
    from pend_storage.operations.jobs import find_job

    job = find_job(_read(session), identity)
    _show(session.output, job)
    return session.finish(Exit.DONE, {"job": job})


def _read(session: Session) -> tuple[Job, ...]:
    from pend_storage.operations.jobs import jobs_of, open_places

    with open_places(session.settings_to_open) as places:
        return jobs_of(places, datetime.now(UTC))


def _show(out: Output, job: Job) -> None:
    rows = [
        ("id", job.id),
        ("kind", job.kind),
        ("state", job.state),
        ("progress", job_progress(job)),
        ("began", f"{moment(job.started)}, by {job.by}"),
        ("reason", job.reason or ""),
        ("process", f"{job.process} on {job.host}"),
        ("last report", moment(job.heartbeat)),
        ("waited", ", ".join(f"{n}: {s:,.1f} s" for n, s in job.throttled.items())),
        ("result", job.result or ""),
    ]
    if job.request is not None:
        asked = job.request
        why = "" if asked.reason is None else f": {asked.reason}"
        rows.append(("asked", f"{asked.wish}, by {asked.by}, {moment(asked.at)}{why}"))
    out.facts([row for row in rows if row[1]], whole=True)


@jobs.command(short_help="Let one wait, until it is resumed.")
@click.argument("identity", metavar="ID")
@pass_session
def pause(session: Session, identity: str) -> Exit:
    """Let a job wait between two chunks, until it is resumed.

    Exit code 1 where it has not obeyed after 5 seconds; it does so as soon as it can.
    """
    return _ask(session, identity, "pause")


@jobs.command(short_help="Let one go on that was paused.")
@click.argument("identity", metavar="ID")
@pass_session
def resume(session: Session, identity: str) -> Exit:
    """Let a job go on that was paused. Exit code as of `jobs pause`."""
    return _ask(session, identity, "resume")


@jobs.command(short_help="End one between two chunks.")
@click.argument("identity", metavar="ID")
@pass_session
def cancel(session: Session, identity: str) -> Exit:
    """End a job between two chunks: its command ends with exit code 1.

    What was done stays: a backfill that is begun again goes on from there. Exit code as of
    `jobs pause`.
    """
    return _ask(session, identity, "cancel")


def _ask(session: Session, identity: str, wish: Wish) -> Exit:
    from pend_storage.operations.jobs import ask, has_obeyed, open_places

    with open_places(session.settings_to_change) as places:
        job = ask(places, identity, wish)
    obeyed = has_obeyed(job, wish)
    state = job.state if obeyed else f"{job.state}, and has not obeyed yet"
    session.output.line(
        f"{job.kind} {job.id}: {state}", style="ok" if obeyed else "warn"
    )
    return session.finish(
        Exit.DONE if obeyed else Exit.FOUND, {"obeyed": obeyed, "job": job}
    )
