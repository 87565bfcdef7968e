"""``pend-storage backup list``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pend_storage._shown import moment
from pend_storage.cli._backup._pgbackrest import list_stanza, pgbackrest_option
from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session

if TYPE_CHECKING:
    from pend_storage.operations.backup.catalog import Listed

__all__ = ["as_document", "list_command"]

_COLUMNS = (
    *("id", "label", "time", "bytes", "epoch", "sequence", "state", "verified"),
    *("drilled", "pinned", "restorable until", "sequence there"),
)


@click.command("list", short_help="Backups, with their state and window.")
@pgbackrest_option
@pass_session
def list_command(session: Session, *, stanza: str | None) -> Exit:
    """List the backups of the environment, oldest first.

    A backup can be restored to every commit from its own position to the end of its window.
    Exit code 1 where something in the repository is damaged, or a gap is in the archive.
    """
    from pend_storage.operations.backup.catalog import list_backups

    if stanza is not None:
        return list_stanza(session, stanza)
    found = list_backups(session.settings)
    out = session.output
    if found.backups:
        out.table(_COLUMNS, [_row(listed) for listed in found.backups])
    else:
        out.line("there is no backup yet: pend-storage backup create")
    if found.archive is not None:
        out.line(
            f"the change log is archived up to sequence {found.archive.sequence} of epoch "
            f"{found.archive.epoch}, {moment(found.archive.at)}"
        )
    for gap in found.gaps:
        out.line(f"gap: {gap}", style="warn")
    for damage in found.damaged:
        out.line(f"damaged: {damage.name}: {damage.reason}", style="fail")
    for backup in found.backups:
        for fault in backup.log_faults:
            out.line(f"log after {backup.manifest.id}: {fault}", style="fail")
    is_bad = any(b.state == "damaged" or b.log_faults for b in found.backups)
    bad = found.damaged or found.gaps or is_bad
    return session.finish(
        Exit.FOUND if bad else Exit.DONE,
        {
            "repository": found.repository,
            "backups": [as_document(listed) for listed in found.backups],
            "archive": found.archive,
            "gaps": found.gaps,
            "damaged": found.damaged,
            "interrupted": found.interrupted,
        },
    )


def _row(listed: Listed) -> list[Any]:
    manifest, latest = listed.manifest, listed.window.latest
    return [
        manifest.id,
        manifest.label or "",
        moment(manifest.point.at),
        listed.size,
        manifest.point.epoch,
        manifest.point.sequence,
        listed.state,
        "" if listed.verified_at is None else moment(listed.verified_at),
        "" if listed.drilled_at is None else moment(listed.drilled_at),
        "yes" if listed.pinned else "",
        moment(latest.at),
        latest.sequence,
    ]


def as_document(listed: Listed) -> dict[str, Any]:
    """Return a backup as the JSON documents have it."""
    manifest, window = listed.manifest, listed.window
    return {
        "id": manifest.id,
        "kind": manifest.kind,
        "label": manifest.label,
        "environment": manifest.environment,
        "side": manifest.side,
        "server": manifest.server,
        "started_at": manifest.started_at,
        "finished_at": manifest.finished_at,
        "bytes": listed.size,
        "point": manifest.point,
        "state": listed.state,
        "verified_at": listed.verified_at,
        "drilled_at": listed.drilled_at,
        "pinned": listed.pinned,
        "log_faults": listed.log_faults,
        "window": {
            "earliest": window.earliest,
            "latest": window.latest,
            "gap": window.gap,
        },
    }
