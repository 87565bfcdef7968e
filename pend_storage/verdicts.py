"""What whoever looks again says of records that seemed to differ. No I/O.

A comparison and the one who decides what is certain know nothing of each other but this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from pend_storage.diff import Difference

__all__ = ["Certain", "Judged", "Verdict"]


class Verdict(Protocol):
    """A certain difference."""

    @property
    def kind(self) -> Any:
        """Missing, extra or different."""

    @property
    def versions(self) -> tuple[int, int]:
        """In the first and in the second store; 0 where there is no trace of it."""

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Field by field, as they may be shown."""


class Judged(Protocol):
    """What became of keys that seemed to differ; those in neither are equal."""

    @property
    def found(self) -> Mapping[str, Verdict]:
        """What certainly differs, by key."""

    @property
    def unsettled(self) -> Collection[str]:
        """What went on changing, so that nothing is certain."""


Certain: TypeAlias = Callable[[str, Sequence[str]], Judged]
"""Gets a collection and keys in it that seem to differ."""
