"""The long jobs that a pair needs done, as this package sees them.

Who makes the pair says which functions do them; here is only what is asked of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pend_storage.events import Progress
from pend_storage.store import Store

__all__ = ["Copy", "Divergence", "Validate", "Validated"]


class Copy(Protocol):
    """Copies every collection of a store into one that follows it; a backfill.

    What it has done is in the target's meta (:data:`~.marks.BACKFILL_META`), so that it
    can be interrupted, and so that everybody can see whether it was ever complete.
    """

    def __call__(
        self,
        source: Store,
        target: Store,
        /,
        *,
        progress: Progress | None,
        rate: float | None,
        epoch: int,
    ) -> Any:
        """Do it; gives a report."""


class Divergence(Protocol):
    """A record that a validation found not to be the same in both stores."""

    @property
    def collection(self) -> str:
        """Name of its collection."""

    @property
    def key(self) -> str:
        """Its key."""


class Validated(Protocol):
    """What a validation found."""

    @property
    def found(self) -> int:
        """How many divergences."""

    @property
    def divergences(self) -> Sequence[Divergence]:
        """The first of them."""


class Validate(Protocol):
    """Compares every record of two stores by value, in both directions."""

    def __call__(
        self,
        left: Store,
        right: Store,
        /,
        *,
        sample: float | None,
        progress: Progress | None,
    ) -> Any:
        """Do it; gives a :class:`Validated`, a dataclass."""
