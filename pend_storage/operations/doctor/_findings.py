"""Findings: the results of the single checks of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pend_storage.errors import PendStorageError

__all__ = ["Finding", "State", "fail", "ok", "warn"]


class State(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARN = "warn"
    """The checked thing works, and needs attention."""
    FAIL = "fail"
    """The checked thing does not work, or not for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check."""

    check: str
    state: State
    message: str
    remedy: str = ""
    """Remedy, for people; empty where nothing is to be done."""
    error: PendStorageError | None = None
    """Error that the check has raised, where the error is the finding."""


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
