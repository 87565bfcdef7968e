"""Abandonment of a secondary that is out of reach: the primary is alone at once.

It is recorded in the primary; the process that reaches the other store again detaches it.
"""

from __future__ import annotations

from typing import Final

from pend_storage.crashpoints import declare
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._roles import RolePair, detach, other
from pend_storage.phases import Role

__all__ = ["abandon_secondary", "detach_abandoned"]

ABANDONED_META: Final = "leave"
"""Meta of a primary: the epoch at which its secondary, out of reach, was abandoned."""
_LEFT: Final = declare(
    "leave.noted", "a secondary out of reach is given up, and does not know it"
)


def abandon_secondary(pair: Pair, view: RolePair) -> None:
    """Record that a secondary out of reach is abandoned: it is detached once it is back."""
    side = view.primary
    mine = None if side is None else view.of(side)
    assert side is not None  # noqa: S101 - its callers have checked
    assert mine is not None  # noqa: S101
    store = pair.store(side)
    store.compare_and_set_meta(ABANDONED_META, store.meta(ABANDONED_META), mine.epoch)
    _LEFT()


def detach_abandoned(pair: Pair, view: RolePair) -> bool:
    """Detach a secondary that was abandoned while it was out of reach.

    Returns:
        Whether there was something to do; read the roles again then.
    """
    side = view.primary
    if side is None or not view.is_settled:
        return False
    store = pair.store(side)
    left = store.meta(ABANDONED_META)
    if left is None:
        return False
    mine, peer = view.of(side), view.of(other(side))
    if mine and peer and peer.role is Role.SECONDARY and left == mine.epoch:
        pair.apply_step(detach(view, other(side)))
    store.compare_and_set_meta(ABANDONED_META, left, None)
    return True
