"""Flag sources: the interface of every place that may hold the phase flag."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pend_storage._model.records import JSON
from pend_storage.phases import Phase

__all__ = ["DesiredPhase", "FlagSource", "PairValues"]


class PairValues(Protocol):
    """Named values of a pair of stores, which survive a switch of its primary.

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
    """Desired phase, and where it is written."""

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
    """Source of the desired phase. Safe to share between threads.

    A failure is distinguished from "not set here", because only the latter lets another
    source decide.
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
        """Read the desired phase; None if it is not set here.

        Raises:
            ConfigError: what is there is no phase.
            StoreUnavailable: it cannot be reached.
        """

    @abstractmethod
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        """Write another desired phase.

        Args:
            phase: which.
            by: who wants it, for the record where there is one.

        Raises:
            ConfigError: it cannot be written; the message says what to do instead.
            StoreUnavailable: it cannot be reached.
        """

    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        """Subscribe to changes of the flag, where the source can broadcast them.

        A call is a hint only, in any thread: one may be missed, and one too many may
        come. So :meth:`read` at intervals as well.

        Returns:
            A function that ends the subscription.
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
    """End a subscription that was none."""
