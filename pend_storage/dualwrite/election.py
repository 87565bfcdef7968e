"""The way out where a store was restored from a backup, replaced, or is lost for good.

No switch leads there, because a switch needs both stores and loses nothing. Here somebody
decides which store holds the truth from now on; what only the other one had is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

from pend_storage.crashpoints import declare
from pend_storage.dualwrite.marks import Mark
from pend_storage.dualwrite.roles import Side, other
from pend_storage.dualwrite.switch import SPOILED_META
from pend_storage.errors import ChangesExpired, Conflict, StoreUnavailable
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.records import Change
from pend_storage.store import Store

__all__ = ["Election", "elect"]

_SHOWN: Final = 1_000
_VOTED_OUT: Final = declare(
    "vote.detached", "the other store is voted out, the chosen one is not primary yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """What was decided."""

    primary: Side
    epoch: int
    missing: tuple[Change, ...] | None
    """Commits of the other store that the primary never got, the first thousand; None
    where the other one cannot be asked, or nothing tells how far it was followed."""
    is_other_reachable: bool
    """If not, see that nobody uses it any more. When it is back, decide once more."""


def elect(json: Store, postgres: Store, side: Side) -> Election:
    """Make this store primary, and detach the other one; nothing else may be running.

    Where that was interrupted, do it again. The other one must be emptied before it can follow again: what it holds and the
    primary does not know of could never be overwritten.

    Args:
        json: the one store.
        postgres: the other one.
        side: which of them holds the truth.

    Raises:
        StoreUnavailable: the store that is to be primary cannot be reached.
        Conflict: roles are changing at this moment; end whoever does that, and repeat.
    """
    stores: dict[Side, Store] = {"json": json, "postgres": postgres}
    chosen, rest = stores[side], stores[other(side)]
    epoch = 1 + max(_epoch(store) for store in stores.values())
    missing, reachable = None, True
    try:
        missing = _missing(chosen, rest)
        _set(rest, Role.DETACHED, epoch)
        rest.compare_and_set_meta(SPOILED_META, rest.meta(SPOILED_META), {"by": epoch})
    except StoreUnavailable:
        reachable = False
    _VOTED_OUT()
    _set(chosen, Role.PRIMARY, epoch)
    chosen.compare_and_set_meta(SPOILED_META, chosen.meta(SPOILED_META), None)
    return Election(
        primary=side, epoch=epoch, missing=missing, is_other_reachable=reachable
    )


def _epoch(store: Store) -> int:
    try:
        return store.role().epoch
    except StoreUnavailable:
        return 0


def _missing(chosen: Store, rest: Store) -> tuple[Change, ...] | None:
    mark = Mark.load(chosen)
    if mark is None or mark.of != rest.identity():
        return None
    try:
        return tuple(islice(rest.changes(mark.after), _SHOWN))
    except ChangesExpired:
        return None


def _set(store: Store, role: Role, epoch: int) -> None:
    found = store.meta(ROLE_META)
    wanted = RoleState(role, epoch).to_meta()
    if not store.compare_and_set_meta(ROLE_META, found, wanted):
        now = store.role()
        raise Conflict(
            collection="the role of a store",
            key=f"{now.role} at epoch {now.epoch}",
            expected=epoch,
            actual=now.epoch,
        )
