"""Findings: the results of single checks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pend_storage.errors import PendStorageError

__all__ = ["Finding", "State", "fail", "ok", "warn"]


class State(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARN = "warn"
    """It works, and needs attention."""
    FAIL = "fail"
    """It does not work, or not for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check."""

    check: str
    state: State
    message: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""
    error: PendStorageError | None = None
    """What the check ran into, where that is what it found."""


def ok(check: str, message: str) -> Finding:
    """Make a finding without a problem."""
    return Finding(check=check, state=State.OK, message=message)


def warn(check: str, message: str, remedy: str) -> Finding:
    """Make a finding that needs attention."""
    return Finding(check=check, state=State.WARN, message=message, remedy=remedy)


def fail(
    check: str, message: str, remedy: str = "", *, error: PendStorageError | None = None
) -> Finding:
    """Make a finding of something that does not work."""
    return Finding(
        check=check, state=State.FAIL, message=message, remedy=remedy, error=error
    )
