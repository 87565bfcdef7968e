"""Freshness of reads, and retries of changes, for live views."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple, TypeVar

from pend_storage._transaction import Transaction
from pend_storage.errors import StoreUnavailable
from pend_storage.store import Store

__all__ = ["ATTEMPTS", "NEVER", "Moment", "is_closed", "run_change"]

T = TypeVar("T")

ATTEMPTS: Final = 200
"""Attempts at a change that conflicts; with the back-off between, some ten seconds."""
_RECENT: Final = 0.1
"""Seconds for which a read over the network is reused.

Without it ``view[key]["a"]`` would be two round trips, and a loop over the values of a file
one for each of them."""


class Moment(NamedTuple):
    """Freshness of a value: the moment of the store at which it was read."""

    at: object
    """Moment of the store; None: read again."""
    until: float
    """End of the freshness, in seconds of :func:`time.monotonic`."""

    @classmethod
    def now(cls, store: Store, tx: Transaction | None) -> Moment:
        """Take the present moment, before a read.

        Within a transaction, or of a store without moments: ``NEVER``.
        """
        at = store.moment() if tx is None else None
        return NEVER if at is None else cls(at, monotonic() + _RECENT)

    def holds(self, store: Store) -> bool:
        """Return whether the value is fresh: recent, and this process wrote nothing since."""
        if self.at is None or monotonic() > self.until:
            return False
        return store.moment() == self.at


NEVER: Final = Moment(None, 0.0)
"""Moment of a value that is never fresh: read it again."""


def run_change(
    store: Store, tx: Transaction | None, change: Callable[[Transaction], T]
) -> T:
    """Run a change in the transaction of a view, or in one of its own with retries."""
    if tx is not None:
        return change(tx)
    return store.run(change, attempts=ATTEMPTS)


def is_closed(error: StoreUnavailable) -> bool:
    """Return whether an error means a closed store, and not an unreachable one."""
    return error.reason == "the store is closed"
