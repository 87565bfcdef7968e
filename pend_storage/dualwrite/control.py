"""What an operator does with a pair's phase: look at it, and change it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pend_storage.dualwrite.circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite.continuity import Continuity
from pend_storage.dualwrite.history import Switch, add_switch, switches
from pend_storage.dualwrite.leaving import leave
from pend_storage.dualwrite.marks import is_covered
from pend_storage.dualwrite.readiness import Gate, Readiness, require_codes
from pend_storage.dualwrite.relay import Relay
from pend_storage.dualwrite.roles import Side, View
from pend_storage.dualwrite.routing import Router
from pend_storage.dualwrite.shared import SharedMeta
from pend_storage.dualwrite.switch import UNCOVERED, Switcher, require_time
from pend_storage.dualwrite.upkeep import Upkeep
from pend_storage.errors import (
    ChangesExpired,
    PendStorageError,
    StaleEpoch,
    SwitchRefused,
)
from pend_storage.phases import Phase, Role, path

__all__ = ["ALONE", "Control", "SwitchReport"]

ALONE: Final[dict[Side, Phase]] = {
    "json": Phase.JSON_ONLY,
    "postgres": Phase.POSTGRES_ONLY,
}
"""The phase in which a store is primary, and the other one takes no part."""
_PATIENCE: Final = 30.0
_PAUSE: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchReport:
    """What a switch did."""

    before: Phase
    after: Phase
    epoch: int
    """Of the primary, now."""
    steps: tuple[Phase, ...]
    """The phases gone through, ``after`` included."""
    accepted: tuple[str, ...]
    """Codes of the blockers that were let pass."""
    seconds: float
    """From the first step to the last."""
    pause: float
    """Seconds for which writes waited, altogether."""


class Control:
    """See the module."""

    def __init__(
        self,
        router: Router,
        relay: Relay,
        shared: SharedMeta,
        gate: Gate,
        *,
        upkeep: Upkeep,
        continuity: Continuity,
    ) -> None:
        self._router = router
        self._relay = relay
        self._shared = shared
        self._gate = gate
        self._upkeep = upkeep
        self._continuity = continuity
        self._switcher = Switcher(router, continuity)
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: nobody is switching there."""
        self._turn = threading.Lock()

    # -- phases -------------------------------------------------------------------------

    def phase(self) -> Phase:
        """The phase now; during a switch, the one that still or already holds.

        Raises:
            StoreUnavailable: the store that would decide it cannot be reached.
        """
        view = self._router.tend()
        if view.phase is None:
            return self._phase_from_history(view)
        return view.phase

    def _phase_from_history(self, view: View) -> Phase:
        """The secondary is out of reach; what the last switch led to is on the primary."""
        mine = None if view.primary is None else view.of(view.primary)
        if view.primary is not None and mine is not None and mine.epoch == 1:
            return ALONE[view.primary]  # never was another store attached
        known = switches(self._shared) if view.primary is not None else ()
        if known:
            last = known[-1].after
            if (last.json_role is Role.PRIMARY) is (view.primary == "json"):
                return last
        raise next(iter(self._router.pair.trouble.values()))

    def readiness(self, phase: Phase) -> Readiness:
        """What stands in the way from here to there."""
        view = self._switcher.settle(time.monotonic() + _PATIENCE)
        return self._gate.readiness(view, phase)

    def switch(
        self, wanted: Phase, *, accept: Iterable[str], timeout: float, by: str
    ) -> SwitchReport:
        """Go there, step by step; see :meth:`DualWriteStore.switch`."""
        accept = tuple(accept)
        require_codes(accept)
        begun = time.monotonic()
        deadline = begun + timeout
        with self._turn:
            left = self._leave(wanted, by)
            if left is not None:
                return left
            view = self._switcher.settle(deadline)
            assert view.phase is not None  # noqa: S101 - settled roles are a phase
            self._continuity.require(self._router.route)  # also where nothing moves
            accepted = self._pass(self._gate.readiness(view, wanted), accept)
            steps, pause = self._go(view.phase, wanted, deadline, by, accepted)
            return SwitchReport(
                before=view.phase,
                after=wanted,
                epoch=self._router.route.epoch,
                steps=steps,
                accepted=accepted,
                seconds=time.monotonic() - begun,
                pause=pause,
            )

    def _leave(self, wanted: Phase, by: str) -> SwitchReport | None:
        """Give up a secondary that cannot be reached; None where there is none such.

        The primary serves alone already; the other one is detached when it is back.
        """
        begun = time.monotonic()
        view = self._router.tend()
        if view.is_whole or view.primary is None or ALONE[view.primary] is not wanted:
            return None
        before = self._phase_from_history(view)
        if before is not wanted:
            self._continuity.require(self._router.route)
            leave(self._router.pair, view)
            self._note(before, wanted, by, (), 0.0)
        return SwitchReport(
            before=before,
            after=wanted,
            epoch=self._router.route.epoch,
            steps=(wanted,) if before is not wanted else (),
            accepted=(),
            seconds=time.monotonic() - begun,
            pause=0.0,
        )

    def _pass(self, found: Readiness, accept: tuple[str, ...]) -> tuple[str, ...]:
        """The codes that are let pass.

        Raises:
            SwitchRefused: others are in the way.
        """
        left = [
            (blocker.code, blocker.sentence)
            for blocker in found.blockers
            if blocker.code not in accept or blocker.code == UNCOVERED[0]
        ]
        if left:
            raise SwitchRefused(tuple(left))
        return tuple(blocker.code for blocker in found.blockers)

    def _go(
        self,
        before: Phase,
        wanted: Phase,
        deadline: float,
        by: str,
        accepted: tuple[str, ...],
    ) -> tuple[tuple[Phase, ...], float]:
        """All steps; others may come between, and recover what they take for dead."""
        taken: list[Phase] = []
        total, now = 0.0, before
        while now is not wanted:
            require_time(deadline)
            after = path(now, wanted)[0]
            pause = self._step(now, after, deadline)
            total += pause
            reached = self._switcher.settle(deadline).phase
            if reached is after:
                taken.append(after)
                self._note(now, after, by, accepted, pause)
            else:
                time.sleep(_PAUSE)
            assert reached is not None  # noqa: S101 - settled roles are a phase
            now = reached
        self._tend_edits()
        self._relay.wake()
        return tuple(taken), total

    def _tend_edits(self) -> None:
        """Commit what JSON has noted as secondary; else the relay does so soon."""
        with contextlib.suppress(PendStorageError):
            self._relay.catch_up()
            self._upkeep.tend_edits(self._router.route)

    def _step(self, now: Phase, after: Phase, deadline: float) -> float:
        self._continuity.require(self._router.route)
        try:
            if (now, after) == (Phase.POSTGRES_PRIMARY, Phase.PARALLEL):
                self._fill_json(deadline)
                self._upkeep.tend_edits(self._router.route)  # while it takes commits
            pause = self._switcher.step(after, deadline)
            if (now, after) == (Phase.POSTGRES_ONLY, Phase.POSTGRES_PRIMARY):
                self._fill_json(deadline)
        except StaleEpoch:
            return 0.0  # somebody else came between: look again
        except ChangesExpired:
            self._relay.catch_up()  # which begins the mark anew
            raise SwitchRefused((UNCOVERED,)) from None
        return pause

    def _fill_json(self, deadline: float) -> None:
        """Bring JSON up to date: from the change log if it reaches back, else whole.

        Interrupted by the deadline or by death, the copy goes on where it stopped the
        next time.
        """
        self._relay.catch_up()
        if self._upkeep.can_copy and not self._is_covered():
            self._upkeep.backfill(
                progress=lambda _done, _all: require_time(deadline),
                rate=None,
                is_urgent=True,
            )

    def _is_covered(self) -> bool:
        route = self._router.route
        return route.follower is None or is_covered(route.store, route.follower)

    def _note(
        self,
        before: Phase,
        after: Phase,
        by: str,
        accepted: tuple[str, ...],
        pause: float,
    ) -> None:
        switch = Switch(
            at=datetime.now(UTC),
            by=by,
            before=before,
            after=after,
            epoch=self._router.route.epoch,
            accepted=accepted,
            pause=pause,
        )
        # It was made all the same where this fails.
        with contextlib.suppress(*OUT_OF_REACH, StaleEpoch):
            add_switch(self._shared, switch)
