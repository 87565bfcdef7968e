"""Phase controller: reads the phase of a pair, checks readiness, and switches."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pend_storage._model.attribution import Actor, current_actor
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH
from pend_storage.dualwrite._legacy_edits import LegacyEditSync
from pend_storage.dualwrite._log_continuity import LogContinuity
from pend_storage.dualwrite._maintenance import Maintenance
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._pair_marks import set_pair_mark
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.dualwrite._readiness import Readiness, ReadinessGate, require_codes
from pend_storage.dualwrite._relay import Relay
from pend_storage.dualwrite._replication_position import is_complete_replica
from pend_storage.dualwrite._roles import RolePair, Side
from pend_storage.dualwrite._router import Router
from pend_storage.dualwrite._secondary_abandonment import abandon_secondary
from pend_storage.dualwrite._switch import UNCOVERED, Switcher, require_time
from pend_storage.dualwrite._switch_history import (
    Switch,
    record_switch,
    recorded_switches,
)
from pend_storage.errors import (
    ChangesExpired,
    PendStorageError,
    StaleEpoch,
    SwitchRefused,
)
from pend_storage.phases import Phase, Role, path

__all__ = ["ALONE", "PhaseController", "SwitchReport", "phase_of"]

ALONE: Final[dict[Side, Phase]] = {
    "json": Phase.JSON_ONLY,
    "postgres": Phase.POSTGRES_ONLY,
}
"""Phase in which a store is primary, and the other one is detached."""
_PATIENCE: Final = 30.0
_PAUSE: Final = 0.005


def phase_of(view: RolePair, metadata: PairMetadata, pair: Pair) -> Phase:
    """Return the phase of roles as they were read.

    Where a secondary is out of reach, it is the one after the last switch.

    Args:
        view: roles of both stores; None for one that is out of reach.
        metadata: has the history of switches.
        pair: knows why a store is out of reach.

    Raises:
        StoreUnavailable: the store that would decide it cannot be reached.
    """
    if view.phase is not None:
        return view.phase
    mine = None if view.primary is None else view.of(view.primary)
    if view.primary is not None and mine is not None and mine.epoch == 1:
        return ALONE[view.primary]  # no other store was ever attached
    known = recorded_switches(metadata) if view.primary is not None else ()
    if known:
        last = known[-1].after
        if (last.json_role is Role.PRIMARY) is (view.primary == "json"):
            return last
    raise next(iter(pair.unreachable.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchReport:
    """Outcome of a switch."""

    before: Phase
    after: Phase
    epoch: int
    """Of the primary, now."""
    steps: tuple[Phase, ...]
    """The phases gone through, ``after`` included."""
    accepted: tuple[str, ...]
    """Codes of the blockers that were accepted."""
    seconds: float
    """From the first step to the last."""
    pause: float
    """Seconds for which writes waited, altogether."""


class PhaseController:
    """Walks a pair from phase to phase, and records each step.

    The roles are moved by :class:`~pend_storage.dualwrite._switch.Switcher`; the controller
    decides whether they may be, and does what a step needs before and after it. Safe to
    share between threads.
    """

    def __init__(
        self,
        router: Router,
        relay: Relay,
        *,
        metadata: PairMetadata,
        gate: ReadinessGate,
        continuity: LogContinuity,
        maintenance: Maintenance,
        edits: LegacyEditSync,
    ) -> None:
        """Make a controller.

        Args:
            router: knows the primary.
            relay: drains before JSON is filled, and after the last step.
            metadata: holds the history of switches.
            gate: finds the blockers of a switch.
            continuity: checks that the primary has lost nothing before it is left.
            maintenance: fills JSON on the way back.
            edits: synchronised before and after JSON becomes primary.
        """
        self._router = router
        self._relay = relay
        self._metadata = metadata
        self._gate = gate
        self._continuity = continuity
        self._maintenance = maintenance
        self._edits = edits
        self._switcher = Switcher(router, continuity)
        self.after_fork()

    def after_fork(self) -> None:
        """Make a new lock in a forked child, where no switch is under way."""
        self._turn = threading.Lock()

    # -- reading ------------------------------------------------------------------------

    def phase(self) -> Phase:
        """Return the phase: during a switch the one before it, until the new one is open.

        Raises:
            StoreUnavailable: the store that would decide it cannot be reached.
        """
        view = self._router.maintain()
        return phase_of(view, self._metadata, self._router.pair)

    def readiness(self, phase: Phase) -> Readiness:
        """Return the blockers, and the steps, from the present phase to another."""
        view = self._switcher.wait_until_settled(time.monotonic() + _PATIENCE)
        return self._gate.readiness(view, phase)

    # -- switching ----------------------------------------------------------------------

    def switch(
        self, wanted: Phase, *, accept: Iterable[str], timeout: float, author: Actor
    ) -> SwitchReport:
        """Go to a phase, step by step; see :meth:`DualWriteStore.switch`."""
        accept = tuple(accept)
        require_codes(accept)
        begun = time.monotonic()
        deadline = begun + timeout
        with self._turn:
            abandoned = self._abandon_unreachable(wanted, author)
            if abandoned is not None:
                return abandoned
            view = self._switcher.wait_until_settled(deadline)
            assert view.phase is not None  # noqa: S101 - settled roles are a phase
            self._continuity.require(self._router.route)  # also where nothing moves
            accepted = _accepted(self._gate.readiness(view, wanted), accept)
            steps, pause = self._walk(view.phase, wanted, deadline, author, accepted)
            return SwitchReport(
                before=view.phase,
                after=wanted,
                epoch=self._router.route.epoch,
                steps=steps,
                accepted=accepted,
                seconds=time.monotonic() - begun,
                pause=pause,
            )

    def _abandon_unreachable(self, wanted: Phase, author: Actor) -> SwitchReport | None:
        """Abandon a secondary that cannot be reached, where the wanted phase needs none.

        The primary serves alone already; the other one is detached when it is back.

        Returns:
            The report of the switch; None where no secondary was abandoned.
        """
        begun = time.monotonic()
        view = self._router.maintain()
        if view.is_whole or view.primary is None or ALONE[view.primary] is not wanted:
            return None
        before = phase_of(view, self._metadata, self._router.pair)
        if before is not wanted:
            self._continuity.require(self._router.route)
            abandon_secondary(self._router.pair, view)
            self._record(before, wanted, author, (), 0.0)
        return SwitchReport(
            before=before,
            after=wanted,
            epoch=self._router.route.epoch,
            steps=(wanted,) if before is not wanted else (),
            accepted=(),
            seconds=time.monotonic() - begun,
            pause=0.0,
        )

    def _walk(
        self,
        before: Phase,
        wanted: Phase,
        deadline: float,
        author: Actor,
        accepted: tuple[str, ...],
    ) -> tuple[tuple[Phase, ...], float]:
        """Take all steps; return the phases gone through, and the write pause in seconds."""
        taken: list[Phase] = []
        total, now = 0.0, before
        # The phase is read again after each step: another process may have switched
        # meanwhile, or recovered a switch of this one. Only a step that was reached counts,
        # and of two processes that made it together, one.
        while now is not wanted:
            require_time(deadline)
            after = path(now, wanted)[0]
            self._mark(after)
            pause = self._step(now, after, deadline)
            total += pause
            reached = self._switcher.wait_until_settled(deadline).phase
            if reached is after:
                if self._record(now, after, author, accepted, pause):
                    taken.append(after)
            else:
                time.sleep(_PAUSE)
            assert reached is not None  # noqa: S101 - settled roles are a phase
            now = reached
        self._sync_edits()
        self._relay.wake()
        return tuple(taken), total

    def _sync_edits(self) -> None:
        """Commit edits that JSON set aside as secondary; the relay retries on errors."""
        with contextlib.suppress(PendStorageError):
            self._relay.catch_up()
            self._edits.sync(self._router.route)

    def _step(self, now: Phase, after: Phase, deadline: float) -> float:
        self._continuity.require(self._router.route)
        try:
            if (now, after) == (Phase.POSTGRES_PRIMARY, Phase.PARALLEL):
                self._fill_json(deadline)
                self._edits.sync(self._router.route)  # while it takes commits
            pause = self._switcher.step(after, deadline)
            if (now, after) == (Phase.POSTGRES_ONLY, Phase.POSTGRES_PRIMARY):
                self._fill_json(deadline)
        except StaleEpoch:
            return 0.0  # another process came between: read the phase again
        except ChangesExpired:
            self._relay.catch_up()  # which begins the mark anew
            raise SwitchRefused((UNCOVERED,)) from None
        return pause

    def _fill_json(self, deadline: float) -> None:
        """Bring JSON up to date: drain the change log, or backfill where that is too short.

        A backfill that the deadline or a crash interrupts is resumed by the next switch.
        """
        self._relay.catch_up()
        if self._maintenance.can_backfill and not self._is_complete():
            self._maintenance.backfill(
                progress=lambda _done, _all: require_time(deadline),
                rate=None,
                is_urgent=True,
            )

    def _is_complete(self) -> bool:
        route = self._router.route
        return route.follower is None or is_complete_replica(
            route.store, route.follower
        )

    def _mark(self, after: Phase) -> None:
        """Mark the position before a step, to restore to; no step fails for that."""
        route = self._router.route
        with contextlib.suppress(PendStorageError):
            set_pair_mark(self._metadata, route, after.value)

    def _record(
        self,
        before: Phase,
        after: Phase,
        author: Actor,
        accepted: tuple[str, ...],
        pause: float,
    ) -> bool:
        """Record a step; return False where another process has made the same one."""
        switch = Switch(
            at=datetime.now(UTC),
            by=author.by or current_actor(),
            reason=author.reason,
            before=before,
            after=after,
            epoch=self._router.route.epoch,
            accepted=accepted,
            pause=pause,
        )
        # The switch was made all the same where this fails.
        with contextlib.suppress(*OUT_OF_REACH, StaleEpoch):
            return record_switch(self._metadata, switch)
        return True


def _accepted(found: Readiness, accept: tuple[str, ...]) -> tuple[str, ...]:
    """Return the codes of the blockers that are accepted.

    Raises:
        SwitchRefused: others are in the way.
    """
    refused = found.refused(accept)
    if refused:
        raise SwitchRefused(tuple((b.code, b.sentence) for b in refused))
    return tuple(blocker.code for blocker in found.blockers)
