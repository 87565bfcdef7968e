"""``pend-storage backup create``."""

from __future__ import annotations

import click

from pend_storage.cli._backup._pgbackrest import create_in_stanza, pgbackrest_option
from pend_storage.cli._backup._physical import create_physical
from pend_storage.cli._exits import Exit
from pend_storage.cli._output import seconds
from pend_storage.cli._session import Session, pass_session

__all__ = ["create"]


@click.command(short_help="Make a backup, and verify it.")
@click.option(
    "--kind",
    type=click.Choice(["snapshot", "physical", "incremental"]),
    default="snapshot",
    show_default=True,
    help="What is made: a snapshot restores to JSON and to any PostgreSQL; the others are "
    "copies of the files of one's own server.",
)
@click.option(
    "--parent",
    metavar="ID",
    help="Backup that an incremental one continues.  [default: the newest]",
)
@click.option("--label", metavar="TEXT", help="Text for people.")
@click.option("--keep", is_flag=True, help="Never deleted by the policy.")
@click.option(
    "--portable",
    is_flag=True,
    help="Accepted, and the same: every snapshot is portable.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait for another process that makes a backup.",
)
@pgbackrest_option
@pass_session
def create(
    session: Session,
    *,
    kind: str,
    parent: str | None,
    label: str | None,
    keep: bool,
    portable: bool,
    wait: float,
    stanza: str | None,
) -> Exit:
    """Make a backup of the primary at one exact position, and read it back.

    It is listed only when all of it was read back and compared. Writers wait for
    milliseconds. An interrupted backup is never listed, and the next one removes it.
    Exit code 3 where another process makes a backup.
    """
    from pend_storage.operations.backup.create import create_backup

    del portable
    out = session.output
    if stanza is not None:
        return create_in_stanza(session, stanza, kind=kind)
    if kind != "snapshot":
        return create_physical(
            session, kind, parent=parent, label=label, keep=keep, wait=wait
        )
    done = create_backup(
        session.settings_to_change,
        label=label,
        keep=keep,
        wait=wait,
        stage=out.progress,
    )
    manifest = done.manifest
    out.line(
        f"{manifest.id}: {done.records:,} records, {done.size:,} bytes, at sequence "
        f"{manifest.point.sequence} of epoch {manifest.point.epoch}, verified, in "
        f"{seconds(done.seconds)}",
        style="ok",
    )
    if done.note is not None:
        out.note(f"note: the readiness does not know of this backup: {done.note}")
    return session.finish(
        Exit.DONE,
        {
            "id": manifest.id,
            "kind": kind,
            "repository": done.repository,
            "point": manifest.point,
            "records": done.records,
            "bytes": done.size,
            "verified_at": manifest.verified_at,
            "kept": manifest.kept,
            "removed": done.removed,
            "seconds": done.seconds,
            "note": done.note,
        },
    )
