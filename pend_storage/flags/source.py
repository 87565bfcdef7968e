"""What every place that may hold the phase flag can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pend_storage._records import JSON
from pend_storage.phases import Phase

__all__ = ["DesiredPhase", "FlagSource", "PairValues"]


class PairValues(Protocol):
    """The named values of a pair of stores, which survive a switch of its primary.

    A :class:`~pend_storage.DualWriteStore` is one.
    """

    def meta(self, name: str) -> JSON:
        """One value; None if it was never set.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """

    def compare_and_set_meta(self, name: str, expected: JSON, value: JSON) -> bool:
        """Set a value if it is what is expected. Errors as for :meth:`meta`."""


@dataclass(frozen=True)
class DesiredPhase:
    """The phase that somebody wants, and where that is written."""

    phase: Phase
    place: str
    """Where it was read, for messages."""
    version: int = 0
    """Grows with every write, where the place counts them; else 0."""
    at: str = field(default="", compare=False)
    """When it was written, by the clock of the place, in one fixed form, so that texts
    compare as times do; empty where that is not known."""
    source: str = field(default="", compare=False)
    """Under which name a pair remembers the versions of the place; empty where it
    remembers nothing of it. Set by what :meth:`FlagSource.remembering` gives."""


class FlagSource(ABC):
    """A place where the wanted phase may be written. Safe to share between threads.

    Whatever goes wrong is told from "not set here", because only the latter may let
    another place decide.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """What it is, for messages: ``the environment variable PEND_PHASE``."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """Whether :meth:`write` has a chance."""

    @abstractmethod
    def read(self) -> DesiredPhase | None:
        """What is wanted now; None if it is not set here.

        Raises:
            ConfigError: what is there is no phase.
            StoreUnavailable: it cannot be reached.
        """

    @abstractmethod
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        """Want another phase from now on.

        Args:
            phase: which.
            by: who wants it, for the record where there is one.

        Raises:
            ConfigError: it cannot be written; the message says what to do instead.
            StoreUnavailable: it cannot be reached.
        """

    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        """Be told at once that the flag may have changed, where the place can tell.

        It is no more than a hint, in any thread: one may be missed, and one too many may
        come. So :meth:`read` now and then as well.

        Returns:
            What to call to hear no more.
        """
        return _nothing

    def remembering(self, values: PairValues) -> FlagSource:  # noqa: ARG002
        """The same place, compared with what a pair remembers of it.

        The default is the place as it is: without versions that outlive a process there
        is nothing to compare. See :class:`~pend_storage.flags.memory.VersionedFlag`.

        Args:
            values: of the pair.
        """
        return self

    def close(self) -> None:
        """Give back connections. Reading again may open them again."""
        return


def _nothing() -> None:
    """There is nobody to be told."""
