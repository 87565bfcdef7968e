"""Changing roles: fence, drain, open, follow; attach and detach. Crash-safe step by step.

Every step is one durable compare-and-set on one store. Whoever finds a switch half done
finishes it (:func:`~pend_storage.dualwrite.roles.heal`); a controller that was paused
meanwhile can do no harm, because its next compare-and-set fails.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from pend_storage.crashpoints import declare
from pend_storage.dualwrite import roles
from pend_storage.dualwrite.background import start_thread
from pend_storage.dualwrite.circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite.continuity import WITNESS_META, Continuity
from pend_storage.dualwrite.draining import drain
from pend_storage.dualwrite.marks import (
    BACKFILL_META,
    MARK_META,
    SPOILED_META,
    Mark,
    end_mark,
    is_covered,
    is_empty,
    news,
    resume_mark,
)
from pend_storage.dualwrite.pair import NAMES
from pend_storage.dualwrite.pulse import SWITCH_META
from pend_storage.dualwrite.roles import Side, View, other
from pend_storage.dualwrite.routing import Router
from pend_storage.dualwrite.shared import SHARED_META, seal
from pend_storage.errors import (
    PendStorageError,
    StaleEpoch,
    StalePosition,
    SwitchRefused,
    SwitchTimeout,
)
from pend_storage.phases import Phase
from pend_storage.records import JSON, Advance
from pend_storage.store import Store

__all__ = ["UNCOVERED", "Switcher", "require_time"]

UNCOVERED: Final = (
    "backfill",
    (
        "the store that is to become primary does not have everything yet: run a "
        "backfill (this cannot be accepted, because records would be lost)"
    ),
)
"""The reason that nobody can accept: code and sentence."""
_BEAT_EVERY: Final = 0.5
"""Seconds between heartbeats of a switch."""
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
    """See that there is some left.

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
    """Moves a pair from phase to neighbouring phase."""

    def __init__(self, router: Router, continuity: Continuity) -> None:
        self._router = router
        self._pair = router.pair
        self._continuity = continuity

    def settle(self, deadline: float) -> View:
        """Finish or await whatever switch is half done, and give the roles.

        Raises:
            StoreUnavailable: one of the stores cannot be reached.
            SwitchTimeout: somebody else is at it, and does not come to an end.
        """
        while True:
            view = self._router.tend()
            if view.is_settled:
                return view
            if not view.is_whole:
                raise next(iter(self._pair.trouble.values()))
            require_time(deadline)
            time.sleep(_PAUSE)

    def step(self, after: Phase, deadline: float) -> float:
        """Go to a neighbouring phase; gives the seconds for which writes waited.

        Somebody else may come between: look at the phase afterwards.

        Raises:
            StoreUnavailable: one of the stores cannot be reached.
            SwitchRefused: the new primary would not have everything.
            SwitchTimeout: not finished in time.
        """
        view = self.settle(deadline)
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
                pass  # somebody else was quicker
        return 0.0

    # -- attach and detach --------------------------------------------------------------

    def _attach(self, view: View, side: Side) -> None:
        source, target = self._pair.store(other(side)), self._pair.store(side)
        _refuse_spoiled(target, side)
        found = target.meta(MARK_META)
        wanted = resume_mark(source, target).to_meta()
        if wanted != found and not target.compare_and_set_meta(
            MARK_META, found, wanted
        ):
            return  # somebody else is attaching it
        _MARKED()
        following, told = roles.attach(view, side)
        if self._pair.take(following, {MARK_META: wanted}):
            _ATTACHED()
            self._pair.take(told)
        self._router.tend()

    def _detach(self, view: View, side: Side) -> None:
        self._pair.take(roles.detach(view, side))
        _DETACHED()
        self._router.tend()

    # -- the switch ---------------------------------------------------------------------

    def _swap(self, view: View, old: Side, deadline: float) -> float:
        source, target = self._pair.store(old), self._pair.store(other(old))
        epoch = roles.fence(view, old).before.epoch
        _PLANNED()
        if not self._prepare(view, old):
            return 0.0
        while self._drain(source, target, epoch, deadline) > _NEAR:
            require_time(deadline)  # all this is long before the fence
        with _beating(source, deadline):
            begun = time.monotonic()
            if not self._pair.take(roles.fence(view, old)):
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

    def _prepare(self, view: View, old: Side) -> bool:
        """See that the new primary will have everything, and the old one follow it.

        The new one commits nothing before it is open, so its log as it ends now is where
        the old one, which has everything, goes on. That it is not open yet is looked at
        after its log: by somebody who is late this would skip its first commits.
        """
        source, target = self._pair.store(old), self._pair.store(other(old))
        if not is_covered(source, target):
            raise SwitchRefused((UNCOVERED,))
        found = source.meta(MARK_META)
        mark = end_mark(target, Mark.parse(found))
        if target.role() != view.of(other(old)):
            return False
        source.compare_and_set_meta(MARK_META, found, mark.to_meta())
        # Nor is an earlier log of the new one asked for, which was emptied since, perhaps.
        source.compare_and_set_meta(WITNESS_META, source.meta(WITNESS_META), None)
        _PREPARED()
        return True

    def _drain(self, source: Store, target: Store, epoch: int, deadline: float) -> int:
        return drain(source, target, epoch, between=lambda: require_time(deadline))

    def _hand_over(
        self, view: View, old: Side, epoch: int, deadline: float
    ) -> dict[str, JSON]:
        """Everything that is still missing on the other side; the fence is up.

        Returns:
            What the other side must have when it is opened: another server may stand
            behind its address by then.
        """
        source, target = self._pair.store(old), self._pair.store(other(old))
        drained = self._drain_to_the_end(source, target, epoch, deadline)
        if not is_covered(source, target):  # not any more: its log was lost meanwhile
            raise SwitchRefused((UNCOVERED,))
        self._continuity.require_latest(self._router.route_of(view, old))
        _DRAINED()
        shared = seal(source, epoch)
        _SEALED()
        while not _took(target, shared, epoch):
            require_time(deadline)
        _READY()
        return {MARK_META: drained, SHARED_META: shared}

    def _drain_to_the_end(
        self, source: Store, target: Store, epoch: int, deadline: float
    ) -> JSON:
        """Drain a fenced store; gives the mark, behind which nothing is left."""
        while True:
            self._drain(source, target, epoch, deadline)
            found = target.meta(MARK_META)
            mark = Mark.parse(found)
            if mark is not None and next(news(source, mark), None) is None:
                return found
            require_time(deadline)  # another server, which has less

    def _open(self, view: View, old: Side, given: Mapping[str, JSON]) -> bool:
        """The point of no return; False where somebody has made it impossible."""
        step = roles.open_new(view, old)
        try:
            done = self._pair.take(step, given)
        except PendStorageError:
            # Perhaps it did happen: that is for the roles to say, once they can be read.
            self._router.tend(now=True)
            raise
        if done:
            opened = {step.side: step.after, old: roles.fence(view, old).after}
            self._router.adopt(View(opened["json"], opened["postgres"]))
        else:
            self._router.tend(now=True)
        return done

    def _follow(self, view: View, old: Side) -> None:
        try:
            self._pair.take(roles.follow(view, old))
        except OUT_OF_REACH:
            return  # it follows when it is back
        _FOLLOWED()
        self._router.tend()

    def _call_off(self, view: View, old: Side) -> None:
        """The fence is ours, and we will not open the other one: so it goes down again.

        The other store need not be asked; it may be out of reach.
        """
        try:
            self._pair.take(roles.call_off(view, old))
        finally:
            self._router.forget()
            self._router.adopt(View(None, None))  # wakes those who wait


def _took(target: Store, shared: JSON, epoch: int) -> bool:
    """Give the shared values to the new primary, on top of what it has."""
    advance = Advance(SHARED_META, target.meta(SHARED_META), shared)
    try:
        target.apply((), epoch=epoch, mark=advance)
    except StalePosition:  # another process, or another server
        return False
    return True


def _refuse_spoiled(store: Store, side: Side) -> None:
    if store.meta(SPOILED_META) is None:
        return
    if not is_empty(store):
        place = "directory" if side == "json" else "database"
        sentence = (
            f"{NAMES[side]} holds what the other store does not know of: it was voted "
            f"out, or replaced by one with records. Give it an empty {place} first"
        )
        raise SwitchRefused((("spoiled", sentence),))
    for name in (
        MARK_META,
        BACKFILL_META,
        WITNESS_META,
    ):  # they tell of what is not there any more
        store.compare_and_set_meta(name, store.meta(name), None)
    store.compare_and_set_meta(SPOILED_META, store.meta(SPOILED_META), None)


@contextmanager
def _beating(store: Store, deadline: float) -> Iterator[None]:
    """Shows everyone that this switch is alive, until it ends or has no time left.

    Most switches have ended before the first beat.
    """
    name = uuid.uuid4().hex
    stop = threading.Event()

    def beat() -> None:
        count = 0
        while not stop.wait(_BEAT_EVERY) and time.monotonic() < deadline:
            count += 1
            try:
                seen = store.meta(SWITCH_META)
                store.compare_and_set_meta(
                    SWITCH_META, seen, {"id": name, "beat": count}
                )
            except StaleEpoch:
                return
            except PendStorageError:
                continue  # the next one may succeed

    thread = start_thread(beat, "pend-switch")
    try:
        yield
    finally:
        stop.set()
        if thread is not None:
            thread.join(_BEAT_EVERY)
