"""How long what was read is good for, and how a change of a view is repeated."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from pend_storage._transaction import Transaction
from pend_storage.errors import StoreUnavailable
from pend_storage.store import Store

__all__ = ["ATTEMPTS", "NEVER", "Moment", "is_closed", "settled"]

T = TypeVar("T")

ATTEMPTS: Final = 200
"""Of a change that conflicts with others; with the pauses between, some ten seconds."""
_RECENT: Final = 0.1
"""Seconds for which a look over the network answers for what was just read.

Without it ``view[key]["a"]`` would be two round trips, and a loop over the values of a file
one for each of them."""


class Moment(NamedTuple):
    """When something was read."""

    at: object
    """Of the store; None: the store is to be asked again."""
    until: float

    @classmethod
    def now(cls, store: Store, tx: Transaction | None) -> Moment:
        """Before something is read."""
        at = store.moment() if tx is None else None
        return NEVER if at is None else cls(at, monotonic() + _RECENT)

    def holds(self, store: Store) -> bool:
        """Whether this process has written nothing since, and it is not long ago."""
        if self.at is None or monotonic() > self.until:
            return False
        return store.moment() == self.at


NEVER: Final = Moment(None, 0.0)
"""What was read is to be read again."""


def settled(
    store: Store, tx: Transaction | None, change: Callable[[Transaction], T]
) -> T:
    """Make a change in the transaction of a view, or in one of its own."""
    if tx is not None:
        return change(tx)
    return store.run(change, attempts=ATTEMPTS)


def is_closed(error: StoreUnavailable) -> bool:
    """Whether a store says that it was closed, and not that it cannot be reached."""
    return error.reason == "the store is closed"
