"""Switch of roles: fence, drain, open, follow; attach and detach. Crash-safe step by step.

Every step is one durable compare-and-set on one store. A process that finds a switch half
done finishes it (:func:`~pend_storage.dualwrite._roles.recovery_step`); a controller that
was paused meanwhile can do no harm, because its next compare-and-set fails.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from pend_storage._model.records import JSON, Advance
from pend_storage._restored import unusable_reason
from pend_storage.crashpoints import declare
from pend_storage.dualwrite import _roles as roles
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite._heartbeat import beating
from pend_storage.dualwrite._log_continuity import WITNESS_META, LogContinuity
from pend_storage.dualwrite._log_drain import drain
from pend_storage.dualwrite._pair import NAMES
from pend_storage.dualwrite._pair_metadata import PAIR_META, seal
from pend_storage.dualwrite._replication_position import (
    BACKFILL_META,
    POSITION_META,
    TAINTED_META,
    ReplicationPosition,
    changes_after,
    is_complete_replica,
    is_empty,
    position_at_end,
    resume_position,
)
from pend_storage.dualwrite._roles import RolePair, Side, other
from pend_storage.dualwrite._router import Router
from pend_storage.errors import (
    PendStorageError,
    StalePosition,
    SwitchRefused,
    SwitchTimeout,
)
from pend_storage.phases import Phase
from pend_storage.store import Store

__all__ = ["UNCOVERED", "Switcher", "require_time"]

UNCOVERED: Final = (
    "backfill",
    (
        "the store that is to become primary does not have everything yet: run a "
        "backfill (this cannot be accepted, because records would be lost)"
    ),
)
"""Reason that cannot be accepted: code and sentence."""
_NEAR: Final = 100
"""Commits that may be left to apply when the fence goes up: they are its write pause."""
_PAUSE: Final = 0.005

_PLANNED: Final = declare("switch.planned", "the roles are known, nothing is prepared")
_PREPARED: Final = declare(
    "switch.prepared", "the old primary knows where it will follow, nothing is fenced"
)
_FENCED: Final = declare(
    "switch.fenced", "the old primary is fenced, nothing is drained"
)
_DRAINED: Final = declare(
    "switch.drained", "the new primary has everything, and is not open"
)
_SEALED: Final = declare(
    "switch.sealed", "the shared values are sealed and not yet at the new primary"
)
_READY: Final = declare("switch.ready", "nothing is left to do but to open")
_OPENED: Final = declare(
    "switch.opened", "the new primary is open, the old one is still fenced"
)
_FOLLOWED: Final = declare("switch.followed", "the old primary follows")
_MARKED: Final = declare("attach.marked", "a detached store knows where it will follow")
_ATTACHED: Final = declare(
    "attach.following", "it follows, and the primary is still at the epoch before"
)
_DETACHED: Final = declare("detach.done", "a store is detached that followed")


def require_time(deadline: float) -> None:
    """Check that there is time left.

    Raises:
        SwitchTimeout: there is none.
    """
    if time.monotonic() >= deadline:
        raise SwitchTimeout(
            "the switch did not finish in time. Nothing is lost: the roles are as they "
            "were, or the next call finishes the switch. Look at `pend-storage status`, "
            "and try again with a longer timeout."
        )


class Switcher:
    """Switcher: moves a pair from one phase to a neighbouring one."""

    def __init__(self, router: Router, continuity: LogContinuity) -> None:
        self._router = router
        self._pair = router.pair
        self._continuity = continuity

    def wait_until_settled(self, deadline: float) -> RolePair:
        """Finish or await a half-done switch, and return the roles.

        Raises:
            StoreUnavailable: one of the stores cannot be reached.
            SwitchTimeout: another process is switching, and does not come to an end.
        """
        while True:
            view = self._router.maintain()
            if view.is_settled:
                return view
            if not view.is_whole:
                raise next(iter(self._pair.unreachable.values()))
            require_time(deadline)
            time.sleep(_PAUSE)

    def step(self, after: Phase, deadline: float) -> float:
        """Go to a neighbouring phase; return the seconds for which writes waited.

        Another process may come between: read the phase afterwards.

        Raises:
            StoreUnavailable: one of the stores cannot be reached.
            SwitchRefused: the new primary would not have everything.
            SwitchTimeout: not finished in time.
        """
        view = self.wait_until_settled(deadline)
        match (view.phase, after):
            case (Phase.JSON_ONLY, Phase.PARALLEL):
                self._attach(view, "postgres")
            case (Phase.POSTGRES_ONLY, Phase.POSTGRES_PRIMARY):
                self._attach(view, "json")
            case (Phase.PARALLEL, Phase.JSON_ONLY):
                self._detach(view, "postgres")
            case (Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY):
                self._detach(view, "json")
            case (Phase.PARALLEL, Phase.POSTGRES_PRIMARY):
                return self._swap(view, "json", deadline)
            case (Phase.POSTGRES_PRIMARY, Phase.PARALLEL):
                return self._swap(view, "postgres", deadline)
            case _:
                pass  # another process was quicker
        return 0.0

    # -- attach and detach --------------------------------------------------------------

    def _attach(self, view: RolePair, side: Side) -> None:
        source, target = self._pair.store(other(side)), self._pair.store(side)
        _refuse_tainted(target, side)
        found = target.meta(POSITION_META)
        wanted = resume_position(source, target).to_meta()
        if wanted != found and not target.compare_and_set_meta(
            POSITION_META, found, wanted
        ):
            return  # another process is attaching it
        _MARKED()
        following, primary = roles.attach(view, side)
        if self._pair.apply_step(following, {POSITION_META: wanted}):
            _ATTACHED()
            self._pair.apply_step(primary)
        self._router.maintain()

    def _detach(self, view: RolePair, side: Side) -> None:
        self._pair.apply_step(roles.detach(view, side))
        _DETACHED()
        self._router.maintain()

    # -- the switch ---------------------------------------------------------------------

    def _swap(self, view: RolePair, old: Side, deadline: float) -> float:
        source, target = self._pair.store(old), self._pair.store(other(old))
        epoch = roles.fence(view, old).before.epoch
        _PLANNED()
        if not self._prepare(view, old):
            return 0.0
        while self._drain(source, target, epoch, deadline) > _NEAR:
            require_time(deadline)  # all this is long before the fence
        with beating(source, deadline):
            begun = time.monotonic()
            # From here on writes wait: everything slow has been done before the fence.
            if not self._pair.apply_step(roles.fence(view, old)):
                return 0.0
            try:
                _FENCED()
                given = self._hand_over(view, old, epoch, deadline)
            except PendStorageError:
                self._call_off(view, old)
                raise
            if not self._open(view, old, given):
                return time.monotonic() - begun
            pause = time.monotonic() - begun
            _OPENED()
            self._follow(view, old)
        return pause

    def _prepare(self, view: RolePair, old: Side) -> bool:
        """Check that the new primary will have everything, and prepare the old to follow."""
        # The new one commits nothing before it is open, so its log as it ends now is where
        # the old one, which has everything, goes on. That it is not open yet is read after
        # its log: a late process would skip its first commits otherwise.
        source, target = self._pair.store(old), self._pair.store(other(old))
        if not is_complete_replica(source, target):
            raise SwitchRefused((UNCOVERED,))
        found = source.meta(POSITION_META)
        mark = position_at_end(target, ReplicationPosition.parse(found))
        if target.role() != view.of(other(old)):
            return False
        source.compare_and_set_meta(POSITION_META, found, mark.to_meta())
        # A witness of an earlier log of the new one is removed: it may have been emptied.
        source.compare_and_set_meta(WITNESS_META, source.meta(WITNESS_META), None)
        _PREPARED()
        return True

    def _drain(self, source: Store, target: Store, epoch: int, deadline: float) -> int:
        return drain(source, target, epoch, between=lambda: require_time(deadline))

    def _hand_over(
        self, view: RolePair, old: Side, epoch: int, deadline: float
    ) -> dict[str, JSON]:
        """Drain the log and copy the metadata to the new primary; the fence is up.

        Returns:
            Meta entries that the other side must have when it is opened: another server
            may stand behind its address by then.
        """
        source, target = self._pair.store(old), self._pair.store(other(old))
        drained = self._drain_to_the_end(source, target, epoch, deadline)
        if not is_complete_replica(source, target):
            # It was complete before the fence, but the log was lost meanwhile.
            raise SwitchRefused((UNCOVERED,))
        self._continuity.require_latest(self._router.route_of(view, old))
        _DRAINED()
        shared = seal(source, epoch)
        _SEALED()
        while not _wrote_metadata(target, shared, epoch):
            require_time(deadline)
        _READY()
        return {POSITION_META: drained, PAIR_META: shared}

    def _drain_to_the_end(
        self, source: Store, target: Store, epoch: int, deadline: float
    ) -> JSON:
        """Drain a fenced store; return the mark, behind which nothing is left."""
        while True:
            self._drain(source, target, epoch, deadline)
            found = target.meta(POSITION_META)
            mark = ReplicationPosition.parse(found)
            if mark is not None and next(changes_after(source, mark), None) is None:
                return found
            require_time(deadline)  # another server, which has less

    def _open(self, view: RolePair, old: Side, given: Mapping[str, JSON]) -> bool:
        """Open the new primary, the point of no return; False where it is too late."""
        step = roles.open_new(view, old)
        try:
            done = self._pair.apply_step(step, given)
        except PendStorageError:
            # The outcome is unknown: the roles show it, once they can be read.
            self._router.maintain(now=True)
            raise
        if done:
            opened = {step.side: step.after, old: roles.fence(view, old).after}
            self._router.adopt(RolePair(opened["json"], opened["postgres"]))
        else:
            self._router.maintain(now=True)
        return done

    def _follow(self, view: RolePair, old: Side) -> None:
        try:
            self._pair.apply_step(roles.follow(view, old))
        except OUT_OF_REACH:
            return  # any process that reaches it takes this step as a recovery
        _FOLLOWED()
        self._router.maintain()

    def _call_off(self, view: RolePair, old: Side) -> None:
        """Take down the fence of a failed switch: the old primary is opened again.

        The role of the other store is not read; it may be out of reach.
        """
        try:
            self._pair.apply_step(roles.call_off(view, old))
        finally:
            self._router.invalidate()
            self._router.adopt(RolePair(None, None))  # no role is known; calls wake up


def _wrote_metadata(target: Store, shared: JSON, epoch: int) -> bool:
    """Write the metadata of the pair to the new primary, on top of what it has."""
    advance = Advance(PAIR_META, target.meta(PAIR_META), shared)
    try:
        target.apply((), epoch=epoch, mark=advance)
    except StalePosition:  # another process, or another server
        return False
    return True


def _refuse_tainted(store: Store, side: Side) -> None:
    sealed = unusable_reason(store, f"the {NAMES[side]} store")
    if sealed is not None:
        raise SwitchRefused((("restored", sealed),))
    if store.meta(TAINTED_META) is None:
        return
    if not is_empty(store):
        place = "directory" if side == "json" else "database"
        sentence = (
            f"{NAMES[side]} holds records that the other store does not know of: it was "
            f"voted out, or replaced by one with records. Give it an empty {place} first"
        )
        raise SwitchRefused((("spoiled", sentence),))
    # The store is empty: its marks describe records that it does not have any more.
    for name in (POSITION_META, BACKFILL_META, WITNESS_META):
        store.compare_and_set_meta(name, store.meta(name), None)
    store.compare_and_set_meta(TAINTED_META, store.meta(TAINTED_META), None)
