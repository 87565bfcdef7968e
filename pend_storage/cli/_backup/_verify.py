"""``pend-storage backup verify``."""

from __future__ import annotations

import click

from pend_storage._shown import listed
from pend_storage.cli._backup._pgbackrest import pgbackrest_option, verify_stanza
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session
from pend_storage.errors import ConfigError

__all__ = ["verify"]


@click.command(short_help="Read backups and compare them.")
@click.argument("backup_id", metavar="[ID]", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="All backups, and the whole log."
)
@click.option(
    "--deep",
    is_flag=True,
    help="Decode each record, and compare what refers to others.",
)
@pgbackrest_option
@pass_session
def verify(
    session: Session,
    *,
    backup_id: str | None,
    everything: bool,
    deep: bool,
    stanza: str | None,
) -> Exit:
    """Verify the backup ID with the log that follows it; without ID, everything.

    Exit code 1 where anything is wrong: damaged, missing, cut off, or not readable. Each
    damage is shown with the backups that it affects. The result is kept for `backup list`.
    """
    from pend_storage.operations.backup.verify import verify_backups

    if backup_id is not None and everything:
        raise ConfigError("an ID and --all exclude one another: give one of them.")
    if stanza is not None:
        return verify_stanza(session, stanza)
    out = session.output
    found = verify_backups(session.settings, backup_id, deep=deep, stage=out.progress)
    for damage in found.damaged:
        affected = listed(damage.affected) if damage.affected else "none"
        out.line(f"{damage.name}: {damage.reason}; affected: {affected}", style="fail")
    for name in found.undecoded:
        out.note(f"note: {name} has another schema, so its records were not decoded")
    if found.unread:
        out.note(
            f"note: {len(found.unread):,} objects cannot be decrypted here, so only their "
            "stored bytes were compared; give an identity to verify all of it"
        )
    out.line(
        f"{len(found.backups):,} backups and {found.segments:,} segments, {found.bytes:,} "
        f"bytes: {'whole' if found.ok else f'{len(found.damaged):,} faults'}",
        style="ok" if found.ok else "fail",
    )
    return session.finish(
        Exit.DONE if found.ok else Exit.FOUND,
        {
            "repository": found.repository,
            "backups": found.backups,
            "segments": found.segments,
            "bytes": found.bytes,
            "deep": found.deep,
            "damaged": found.damaged,
            "unread": found.unread,
            "undecoded": found.undecoded,
        },
    )
