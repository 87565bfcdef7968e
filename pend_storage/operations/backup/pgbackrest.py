"""Backups by pgBackRest, for a server that has it: its program is called, and not trusted."""

from __future__ import annotations

from pend_storage.backup.physical._pgbackrest import PgBackRest, PgBackRestBackup

__all__ = ["PgBackRestBackup", "back_up_stanza", "stanza_backups", "verify_stanza"]


def back_up_stanza(stanza: str, *, incremental: bool = False) -> PgBackRestBackup:
    """Make a backup of a stanza.

    Args:
        stanza: as pgBackRest's own configuration names it.
        incremental: only what changed since the last one.

    Raises:
        ConfigError: pgBackRest is not installed, or cannot use the stanza.
        StoreUnavailable: it failed.
    """
    return PgBackRest.find(stanza).back_up("incr" if incremental else "full")


def stanza_backups(stanza: str) -> list[PgBackRestBackup]:
    """List the backups of a stanza, oldest first. Raises as :func:`back_up_stanza`."""
    return PgBackRest.find(stanza).backups()


def verify_stanza(stanza: str) -> list[str]:
    """Verify a stanza; return the lines that report damage, whatever the exit code is.

    Raises: as :func:`back_up_stanza`.
    """
    return PgBackRest.find(stanza).verify()
