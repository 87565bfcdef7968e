"""Passive opening of an environment: its stores are read, and nothing is changed.

Interface only in this commit: the bodies follow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from pend_storage._model.records import JSON
from pend_storage.config import Settings
from pend_storage.dualwrite import Finding, Lag, Readiness, Switch
from pend_storage.dualwrite._roles import RolePair, Side
from pend_storage.events import Hooks, log_event
from pend_storage.phases import Phase
from pend_storage.store import Store

__all__ = ["PassiveEnvironment", "PassivePair", "open_passive"]


class PassivePair(Protocol):
    """Facts of a pair, from two stores that are only read; it starts no thread."""

    json: Store | None
    postgres: Store | None

    @property
    def phase(self) -> Phase:
        """Phase; raises ``StoreUnavailable`` where the store that decides is away."""

    def roles(self) -> RolePair:
        """Return the roles; None for a store that is away, or has no role."""

    def lag(self) -> Lag:
        """Measure the lag; costs the same at any backlog."""

    def readiness(self, phase: Phase | str) -> Readiness:
        """Return the blockers of a phase."""

    def divergences(self, *, closed: bool = False) -> tuple[Finding, ...]:
        """Return the open findings."""

    def history(self) -> tuple[Switch, ...]:
        """Return the switches, oldest first."""

    def meta(self, name: str) -> JSON:
        """Return a value of the pair, as the primary has it."""


class PassiveEnvironment(Protocol):
    """Stores of an environment, open for reading only."""

    json: Store | None
    """None: not configured, never opened by a server (a fresh directory), or away."""
    postgres: Store | None
    pair: PassivePair | None
    """None: one side is not configured, or the stores were never used as a pair."""

    def problem(self, side: Side) -> str | None:
        """Return why a store cannot be read; None where it can, or is not configured."""

    def refresh(self) -> None:
        """Make the next facts those of now: before each look of a long-running reader.

        It raises nothing: a store that is away has a :meth:`problem` then, and one that
        is back is opened again.
        """

    def close(self) -> None:
        """Close both stores."""


@contextlib.contextmanager
def open_passive(
    settings: Settings, *, hook: Hooks = log_event
) -> Iterator[PassiveEnvironment]:
    """Open the stores of an environment to look at them; nothing is changed.

    No file is adopted, written, locked or made, no role is assigned, and every statement
    to PostgreSQL is one of a read-only transaction.

    Args:
        settings: of the environment.
        hook: gets the stores' events; or several hooks.

    Raises:
        ConfigError: this process is root's, and the directory is not; the schema module
            cannot be loaded. A store that cannot be read is a ``problem``, not an error.
    """
    raise NotImplementedError
