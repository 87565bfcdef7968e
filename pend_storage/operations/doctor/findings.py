"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pend_storage.errors import PendStorageError

__all__ = ["Finding", "State", "fail", "ok", "warn"]


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, and somebody should look at it."""
    FAIL = "fail"
    """It does not work, or not for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    state: State
    message: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""
    error: PendStorageError | None = None
    """What the check ran into, where that is what it found."""


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check=check, state=State.OK, message=message)


def warn(check: str, message: str, remedy: str) -> Finding:
    """Somebody should look at it."""
    return Finding(check=check, state=State.WARN, message=message, remedy=remedy)


def fail(
    check: str, message: str, remedy: str = "", *, error: PendStorageError | None = None
) -> Finding:
    """It does not work."""
    return Finding(
        check=check, state=State.FAIL, message=message, remedy=remedy, error=error
    )
