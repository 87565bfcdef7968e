"""The long jobs that a pair needs done, as this package sees them.

Who makes the pair says which functions do them; here is only what is asked of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from pend_storage.events import Hook, Progress
from pend_storage.store import Store
from pend_storage.verdicts import Certain

__all__ = ["Copy", "Divergence", "Hold", "Validate", "Validated"]

Hold: TypeAlias = Callable[[], str | None]
"""Asked between two chunks: why to wait a little, in a word; None to go on."""


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
        hold: Hold | None,
        hook: Hook,
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
    def unsettled(self) -> int:
        """How many records went on changing, so that nothing is known of them."""

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
        certain: Certain,
    ) -> Any:
        """Do it; gives a :class:`Validated`.

        What seems to differ counts only where ``certain`` says so; it is asked while the
        comparison goes on, about as many keys at once as are held in memory.
        """
