"""``pend-storage backup prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pend_storage._shown import moment
from pend_storage.cli._exits import Exit
from pend_storage.cli._output import Output
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.backup._prune import PruneReport

__all__ = ["prune", "show_pruning"]


@click.command(short_help="Delete what the policy does not keep.")
@click.option("--dry-run", is_flag=True, help="Say what would go; delete nothing.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait for another pruning so long.",
)
@pass_session
def prune(session: Session, *, dry_run: bool, wait: float) -> Exit:
    """Delete the backups and the archived log that backup.keep does not keep.

    The last good backup stays, and so do pinned ones, those that a restore reads, and those
    that another one continues. Damaged and unverified ones do not count as kept.
    """
    from pend_storage.operations.backup.retention import prune_backups

    settings = session.settings if dry_run else session.settings_to_change
    report = prune_backups(settings, dry_run=dry_run, wait=wait)
    show_pruning(session.output, report)
    return session.finish(
        Exit.DONE, {"deleted": report.deleted, "dry_run": dry_run, "result": report}
    )


def show_pruning(out: Output, report: PruneReport) -> None:
    """Render a pruning: each backup, with the reason."""
    gone = "would go" if report.dry_run else "deleted"
    out.table(
        ["backup", "state of", "", "why"],
        [
            (d.id, moment(d.at), "kept" if d.keeps else gone, "; ".join(d.reasons))
            for d in report.backups
        ],
        styles=[None if d.keeps else "warn" for d in report.backups],
    )
    for damage in report.damaged:
        out.line(f"left as it is: {damage.name}: {damage.reason}", style="warn")
    would = "would be " if report.dry_run else ""
    out.line(
        f"{len(report.deleted):,} backups, {report.segments:,} segments of the change log "
        f"and {report.abandoned:,} abandoned objects {would}deleted, {report.bytes:,} bytes"
    )
