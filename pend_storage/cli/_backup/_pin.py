"""``pend-storage backup pin`` and ``backup unpin``."""

from __future__ import annotations

import click

from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session

__all__ = ["pin", "unpin"]


@click.command(short_help="Keep a backup, whatever the policy.")
@click.argument("backup_id", metavar="ID")
@pass_session
def pin(session: Session, backup_id: str) -> Exit:
    """Keep a backup, whatever the policy. A part of its ID is enough."""
    return _set(session, backup_id, pinned=True)


@click.command(short_help="Give a backup back to the policy.")
@click.argument("backup_id", metavar="ID")
@pass_session
def unpin(session: Session, backup_id: str) -> Exit:
    """Give a backup back to the policy: the next pruning may delete it."""
    return _set(session, backup_id, pinned=False)


def _set(session: Session, backup_id: str, *, pinned: bool) -> Exit:
    from pend_storage.operations.backup.retention import pin_backup

    result = pin_backup(session.settings_to_change, backup_id, pinned=pinned)
    state = "pinned" if pinned else "left to the policy"
    before = "" if result.changed else ", as it was before"
    session.output.line(f"{result.id} is {state}{before}")
    return session.finish(Exit.DONE, {"result": result})
