"""Flag source: the interface of everything that can hold the phase flag."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pend_storage._model.records import JSON
from pend_storage.errors import ConfigError
from pend_storage.phases import Phase

__all__ = ["DesiredPhase", "FlagSource", "ForgedFlag", "PairValues", "UnsignedFlag"]


class UnsignedFlag(ConfigError):
    """Flag without a signature, where one is required."""


class ForgedFlag(ConfigError):
    """Flag with a wrong signature."""


class PairValues(Protocol):
    """Named values of a pair of stores, which survive a switch of its primary.

    A :class:`~pend_storage.DualWriteStore` is one.
    """

    def meta(self, name: str) -> JSON:
        """Return one value; None if it was never set.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """

    def compare_and_set_meta(self, name: str, expected: JSON, value: JSON) -> bool:
        """Set a value if the present one is as expected. Raises as :meth:`meta` does."""


@dataclass(frozen=True)
class DesiredPhase:
    """Desired phase, with the source that it was read from."""

    phase: Phase
    place: str
    """Name of the source, for messages."""
    version: int = 0
    """Grows with every write, where the source counts them; else 0."""
    at: str = field(default="", compare=False)
    """Time of the write, by the clock of the source, in one fixed format, so that texts
    compare as times do; empty where it is not known."""
    source: str = field(default="", compare=False)
    """Name under which a pair remembers the versions of the source; empty where it
    remembers none. Set by the sources that :meth:`FlagSource.remembering` returns."""
    is_signed: bool = field(default=False, compare=False)
    """Whether a signature by a key of this process was verified."""
    is_remote: bool = field(default=False, compare=False)
    """Whether a service sets it, so that more people than those of the configuration can: then
    automatic switches are bounded, as for a source that counts versions."""


class FlagSource(ABC):
    """Source of the desired phase: a file, a variable, a Redis key. Thread-safe.

    A failure is distinguished from "not set here", because only the latter lets another
    source decide.
    """

    @property
    @abstractmethod
    def place(self) -> str:
        """Name of the source, for messages: ``the environment variable PEND_PHASE``."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """True where :meth:`write` can succeed, as far as is known without a write."""

    @abstractmethod
    def read(self) -> DesiredPhase | None:
        """Read the desired phase; None if it is not set here.

        Raises:
            ConfigError: the source holds something that is no phase.
            StoreUnavailable: the source cannot be reached.
        """

    @abstractmethod
    def write(self, phase: Phase, *, by: str) -> DesiredPhase:
        """Write another desired phase.

        Args:
            phase: the desired phase.
            by: name of the writer, for the record where the source has one.

        Raises:
            ConfigError: the source cannot be written; the message says what to do.
            StoreUnavailable: the source cannot be reached.
        """

    def subscribe(self, on_change: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        """Subscribe to changes of the flag, where the source can broadcast them.

        A call is a hint only, in any thread: one may be missed, and one may come without
        a change. So :meth:`read` at intervals as well.

        Args:
            on_change: called without arguments; it must be quick.

        Returns:
            A function that ends the subscription.
        """
        return _unsubscribe_nothing

    def remembering(self, values: PairValues) -> FlagSource:  # noqa: ARG002
        """Return the same source, with its words checked against the memory of a pair.

        The default is the source as it is: without versions that outlive a process there
        is nothing to check. See :class:`~pend_storage.flags.memory.VersionedFlag`.

        Args:
            values: meta entries of the pair.
        """
        return self

    def close(self) -> None:
        """Close connections. A later read may open them again."""
        return


def _unsubscribe_nothing() -> None:
    """End the subscription to a source that has no broadcasts."""
