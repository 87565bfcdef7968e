"""Exit codes of the commands."""

from __future__ import annotations

from enum import IntEnum

from pend_storage.errors import (
    ConfigError,
    InvalidQuery,
    LockTimeout,
    PendStorageError,
    SchemaOutOfDate,
    StoreUnavailable,
    UnknownCollection,
)

__all__ = ["Exit", "exit_of"]


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FOUND = 1
    """The command did its work, and found a divergence, damage, or quarantine."""
    USAGE = 2
    """Wrong usage or configuration; nothing was changed."""
    UNREACHABLE = 3
    """A server, a disk or a lock is not available now; try again later."""
    INTERRUPTED = 130
    """Ended by Ctrl-C: 128 and the number of SIGINT, as in shells."""


_USAGE = (ConfigError, SchemaOutOfDate, UnknownCollection, InvalidQuery)
_UNREACHABLE = (StoreUnavailable, LockTimeout)


def exit_of(error: PendStorageError) -> Exit:
    """Return the exit code of a command that ended with this error."""
    if isinstance(error, _USAGE):
        return Exit.USAGE
    return Exit.UNREACHABLE if isinstance(error, _UNREACHABLE) else Exit.FOUND
