"""``pend-storage backup schedule``: show, systemd, cron, run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from pend_storage._shown import moment
from pend_storage.cli._exits import Exit
from pend_storage.cli._groups import CommandGroup
from pend_storage.cli._session import Session, command_options, pass_session
from pend_storage.cli._status import ended_by_signals

if TYPE_CHECKING:
    from pend_storage.operations.backup.schedule import ScheduledRun

__all__ = ["schedule"]


@click.group(cls=CommandGroup, short_help="Make backups at set times.")
@command_options
def schedule() -> None:
    """Make backups at the times of backup.schedule, by systemd, by cron, or here."""


@schedule.command("show", short_help="The schedule, and when the next backup is due.")
@pass_session
def show(session: Session) -> Exit:
    """Show the schedule, the last backup, and when the next one is due.

    Exit code 1 where a backup was missed.
    """
    from pend_storage.operations.backup.schedule import schedule_facts

    found = schedule_facts(session.settings)
    last = "never" if found.last is None else moment(found.last)
    if found.problem is not None:
        last = f"not known: {found.problem}"
    session.output.facts(
        [
            ("schedule", f"{found.expression} (UTC)"),
            ("last backup", last),
            ("next", moment(found.next)),
            ("missed", "yes" if found.due else "no"),
        ],
        styles=[None, None, None, "warn" if found.due else None],
    )
    code = Exit.FOUND if found.due else Exit.DONE
    return session.finish(code, {"result": found})


@schedule.command("systemd", short_help="Print a timer and its services.")
@pass_session
def systemd(session: Session) -> Exit:
    """Print the units of systemd: a timer with its service, and the archiver of the log.

    Nothing is installed: write each into /etc/systemd/system under the name above it.
    """
    from pend_storage.operations.backup.schedule import units

    made = units(session.settings)
    for unit in made:
        session.output.statement(f"# /etc/systemd/system/{unit.name}\n{unit.text}")
    names = [unit.name for unit in made]
    starts = " ".join(n for n in names if n.endswith((".timer", "-archive.service")))
    session.output.note(
        f"then: systemctl daemon-reload; systemctl enable --now {starts}"
    )
    return session.finish(Exit.DONE, {"result": made})


@schedule.command("cron", short_help="Print lines for a crontab.")
@pass_session
def cron(session: Session) -> Exit:
    """Print lines for the crontab of the user; nothing is installed."""
    from pend_storage.operations.backup.schedule import crontab

    lines = crontab(session.settings)
    session.output.statement("\n".join(lines))
    return session.finish(Exit.DONE, {"result": lines})


@schedule.command("run", short_help="Follow the schedule in the foreground.")
@click.option("--once", is_flag=True, help="Make the backup that is due, and end.")
@click.option(
    "--archive-every",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two copies of the change log.",
)
@pass_session
def run(session: Session, *, once: bool, archive_every: float) -> Exit:
    """Make each backup that is due, archive the log in between, verify, and prune.

    A backup that was missed is made up once. Of many hosts one makes it. Ends on SIGTERM,
    after the backup under way. With --once, exit code 1 where damage was found.
    """
    from pend_storage.operations.backup.schedule import follow_schedule, run_if_due

    settings, out = session.settings_to_change, session.output
    if once:
        done = run_if_due(settings)
        _show(session, done)
        code = Exit.FOUND if done.damaged or done.gaps else Exit.DONE
        return session.finish(code, {"result": done})
    began = time.monotonic()
    with ended_by_signals() as ended:
        made = follow_schedule(settings, ended, every=archive_every, report=out.note)
    return session.finish(
        Exit.DONE, {"made": made, "seconds": time.monotonic() - began}
    )


def _show(session: Session, done: ScheduledRun) -> None:
    from pend_storage.operations.backup.schedule import run_text

    out = session.output
    out.line(run_text(done), style="ok" if done.made else None)
    for damage in done.damaged:
        out.line(f"damaged: {damage.name}: {damage.reason}", style="fail")
    for gap in done.gaps:
        out.line(f"gap: {gap}", style="fail")
