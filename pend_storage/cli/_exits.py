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
    """It did its work, and found something: a divergence, damage, quarantine."""
    USAGE = 2
    """Wrong usage or configuration; nothing was changed."""
    UNREACHABLE = 3
    """A server, a disk or a lock that is needed cannot be had now; try again later."""
    INTERRUPTED = 130
    """By Ctrl-C; as shells have it."""


_USAGE = (ConfigError, SchemaOutOfDate, UnknownCollection, InvalidQuery)
_UNREACHABLE = (StoreUnavailable, LockTimeout)


def exit_of(error: PendStorageError) -> Exit:
    """Return the exit code of a command that ended with this error."""
    if isinstance(error, _USAGE):
        return Exit.USAGE
    return Exit.UNREACHABLE if isinstance(error, _UNREACHABLE) else Exit.FOUND
