"""``pend-storage backup archive``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pend_storage._shown import moment
from pend_storage.cli._backup._physical import archive_wal
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session
from pend_storage.errors import StoreUnavailable

if TYPE_CHECKING:
    from pend_storage.backup._archive import Archived
    from pend_storage.operations.backup.archive import ArchiveTotals

__all__ = ["archive"]


@click.command(short_help="Copy the change log to the repository.")
@click.option(
    "--follow",
    is_flag=True,
    help="Go on, until SIGTERM or Ctrl-C, through every switch.",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two passes with --follow: what a disaster may cost.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait for another process that archives.",
)
@click.option(
    "--wal",
    "spool",
    metavar="SPOOL",
    help="Archive the write-ahead log of one's own server in place of the change log, by "
    "way of this directory on a disk that survives.",
)
@pass_session
def archive(
    session: Session, *, follow: bool, interval: float, wait: float, spool: str | None
) -> Exit:
    """Copy the commits since the last call to the repository.

    With these, a backup can be restored to any later commit. Exit code 1 where the log
    does not continue what is archived: a gap, which `backup list` names. Exit code 3 where
    another process archives.
    """
    from pend_storage.cli._status import ended_by_signals
    from pend_storage.operations.backup.archive import archive_once, follow_log

    if spool is not None:
        return archive_wal(session, Path(spool), follow=follow, interval=interval)
    settings = session.settings_to_change
    if not follow:
        return _finish(session, archive_once(settings, wait=wait))
    out = session.output
    with ended_by_signals() as ended:
        out.note("archive: at work; end it with SIGTERM or Ctrl-C")

        def report(done: Archived | StoreUnavailable) -> None:
            if isinstance(done, StoreUnavailable):
                out.note(f"archive: {done}")
            elif done.entries:
                out.note(f"archive: {done.entries:,} commits up to {done.end.sequence}")

        totals = follow_log(
            settings, ended, interval=interval, wait=wait, report=report
        )
    return _finish(session, totals)


def _finish(session: Session, totals: ArchiveTotals) -> Exit:
    out, last = session.output, totals.last
    gaps = totals.gaps or []
    for gap in gaps:
        out.line(f"the archive was begun anew: {gap}", style="warn")
    if last is not None:
        out.line(
            f"{totals.entries:,} commits in {totals.segments:,} segments; archived up to "
            f"sequence {last.end.sequence} of epoch {last.end.epoch}, "
            f"{moment(last.end.at)}",
            style="ok",
        )
    return session.finish(
        Exit.FOUND if gaps else Exit.DONE,
        {
            "segments": totals.segments,
            "commits": totals.entries,
            "end": None if last is None else last.end,
            "gaps": gaps,
        },
    )
