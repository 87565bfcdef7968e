"""Two stores behind one: writes go to both, reads to the primary, phases change live."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Final

from typing_extensions import override

from pend_storage.dualwrite.circuit_breaker import CircuitBreaker
from pend_storage.dualwrite.compare import Finding, Judge, Redact, Rules, hide_values
from pend_storage.dualwrite.continuity import Continuity
from pend_storage.dualwrite.control import ALONE, Control, SwitchReport
from pend_storage.dualwrite.exclusive import lock_both
from pend_storage.dualwrite.findings import Book
from pend_storage.dualwrite.history import Switch, switches, whoever_this_is
from pend_storage.dualwrite.jobs import Copy, Validate
from pend_storage.dualwrite.lag import Lag
from pend_storage.dualwrite.pair import Pair
from pend_storage.dualwrite.readiness import Check, Gate, Readiness
from pend_storage.dualwrite.relay import Relay
from pend_storage.dualwrite.repair import RepairReport
from pend_storage.dualwrite.replicator import SynchronousReplicator
from pend_storage.dualwrite.roles import View
from pend_storage.dualwrite.routing import Route, Router
from pend_storage.dualwrite.sampling import Compared, Sampler
from pend_storage.dualwrite.shared import SharedMeta
from pend_storage.dualwrite.traffic import Traffic
from pend_storage.dualwrite.unread import UnreadGuard
from pend_storage.dualwrite.upkeep import Upkeep
from pend_storage.errors import (
    ConfigError,
    SchemaOutOfDate,
    StoreUnavailable,
)
from pend_storage.events import Hook, Progress, guarded, log_event
from pend_storage.holding import IsHeld
from pend_storage.phases import Phase
from pend_storage.store import Store

__all__ = ["DualWriteStore"]

_RETENTION: Final = timedelta(days=7)
_CLOSING: Final = 5.0
"""Seconds that closing waits for a thread at most."""


class DualWriteStore(Traffic):
    """Keeps a JSON store and a PostgreSQL store alike, and moves between phases.

    It knows nothing of either but the contract: any two stores with one schema will do.
    A fresh pair starts ``json-only``; or ``postgres-only`` where PostgreSQL was written
    to before and JSON is empty.

    Nor does it know who copies and compares: without ``backfill`` and ``validate`` it
    writes to both stores and switches. ``pend_storage.DualWriteStore`` knows both jobs.
    """

    def __init__(
        self,
        *,
        json: Store,
        postgres: Store,
        secondary_timeout: float | None = 1.0,
        compare: float = 0.05,
        ignore: Iterable[str] = (),
        redact: Redact = hide_values,
        switch_patience: float = 30.0,
        relay_interval: float | None = 0.2,
        retention: timedelta = _RETENTION,
        begin: Phase | None = None,
        backfill: Copy | None = None,
        validate: Validate | None = None,
        checks: Mapping[str, Check] | None = None,
        hook: Hook = log_event,
    ) -> None:
        """Wire two stores together; they are closed with this one.

        Args:
            json: primary at first.
            postgres: primary at last.
            secondary_timeout: seconds that a write waits for the secondary; the relay
                brings what did not arrive. 0: never wait; None: as long as it takes.
            compare: share of the reads that are compared with the secondary, 0 to 1.
            ignore: places that need not be equal: ``users.last_seen``, ``*.extra.note``.
            redact: what of a difference may be shown.
            switch_patience: seconds that a call waits while a switch is under way.
            relay_interval: seconds between two looks of the relay at the change log;
                None: it looks only when :meth:`catch_up` is called.
            retention: how long a change log is kept that the other side has passed.
            begin: first phase of a fresh pair, where it is not to be found out.
            backfill: copies a store into its follower; None: the default of the class.
            validate: compares two stores; likewise.
            checks: by code of a blocker: what is wrong, in a sentence, or None.
            hook: gets events; what it raises is logged once, and has no other effect.

        Raises:
            ConfigError: the schemas differ, a setting makes no sense, or the stores do
                not belong together any more: one was restored from a backup. They are
                not closed then.
        """
        if not 0 <= compare <= 1:
            raise ConfigError(f"compare must be a share from 0 to 1, not {compare}.")
        self._hook = hook = guarded(hook)
        copy, compare_all = self._default_jobs()
        backfill = backfill or copy
        validate = validate or compare_all
        self.schema = json.schema
        self.layouts = json.layouts or postgres.layouts
        self._pair = pair = Pair(json, postgres, begin=begin)
        self._router = Router(pair, patience=switch_patience, hook=hook)
        self._continuity = Continuity(pair, hook)
        self._router.on_tend = self._continuity.look
        self._timeout = secondary_timeout
        self._unread = UnreadGuard(self.layouts)
        self._breaker = CircuitBreaker(hook, secondary_timeout)
        self._relay = Relay(
            self._router,
            self._breaker,
            hook,
            interval=relay_interval,
            retention=retention,
        )
        self._replicator = SynchronousReplicator(
            self._breaker,
            hook,
            on_stale=self._router.forget,
            on_missed=self._relay.missed,
        )
        self._shared = SharedMeta(self._router)
        judge = Judge(Rules(ignore, redact), self._relay.catch_up)
        self._book = Book(self._router, hook, on_written=self._relay.missed)
        self._sampler = Sampler(
            lambda: self._router.route,
            judge,
            self._book,
            hook,
            share=compare,
            is_up=lambda: self._breaker.is_closed,
        )
        gate = Gate(
            self._pair, self._shared, checks or {}, can_copy=backfill is not None
        )
        self._upkeep = Upkeep(
            self._router,
            self._relay,
            judge,
            self._book,
            hook,
            copy=backfill,
            validate=validate,
            verify=self._continuity.require,
        )
        self._relay.refusal = self._continuity.refusal
        self._relay.chore = self._upkeep.tend_edits
        self._control = Control(
            self._router,
            self._relay,
            self._shared,
            gate,
            upkeep=self._upkeep,
            continuity=self._continuity,
        )
        self._router.on_route = self._take_route
        self._refuse_rewound()
        _stores.add(self)

    def _default_jobs(self) -> tuple[Copy | None, Validate | None]:
        """What copies and what compares, where no argument says so; see the class."""
        return None, None

    def _refuse_rewound(self) -> None:
        """A store that was restored from a backup must not go on as if it were not."""
        with contextlib.suppress(StoreUnavailable, SchemaOutOfDate):
            view = self._pair.look()
            if view.primary is None or not view.is_settled:
                return
            self._continuity.require(self._router.route_of(view, view.primary))
            self._router.adopt(view)  # not before: it starts the relay

    def _take_route(self, _: Route) -> None:
        # Also where nobody follows: the log is kept short, and a witness is left.
        self._relay.start()
        self._relay.wake()  # what stood in the way elsewhere need not here

    def _after_fork(self) -> None:
        for part in (self._router, self._replicator, self._relay, self._sampler):
            part.after_fork()
        self._book.after_fork()
        self._continuity.after_fork()
        self._control.after_fork()
        self._router.forget()

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._pair.json!r}, {self._pair.postgres!r})"

    @override
    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        return lock_both(self._router, self._breaker, name, timeout)

    # -- phases ---------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """The phase; in the middle of a switch, the one that still or already holds.

        Raises:
            StoreUnavailable: the store that would decide it cannot be reached.
        """
        return self._control.phase()

    def roles(self) -> View:
        """The roles of both stores as they are; None for one that cannot be reached."""
        return self._pair.look()

    def readiness(self, phase: Phase | str) -> Readiness:
        """What stands in the way of a phase, and the steps that would lead there."""
        return self._control.readiness(Phase(phase))

    def switch(
        self,
        phase: Phase | str,
        *,
        accept: Iterable[str] = (),
        timeout: float = 30.0,
        by: str | None = None,
    ) -> SwitchReport:
        """Move to a phase, through those between, under live traffic.

        Args:
            phase: where to.
            accept: codes of blockers to let pass. ``backfill`` cannot be: records would
                be lost.
            timeout: seconds after which to give up.
            by: who asks for it, for the record; None: this user, machine and process.

        Raises:
            SwitchRefused: something is in the way; nothing was changed.
            SwitchTimeout: not finished in time; nothing is lost, call it again.
            StoreUnavailable: one of the stores cannot be reached; likewise.
        """
        return self._control.switch(
            Phase(phase), accept=accept, timeout=timeout, by=by or whoever_this_is()
        )

    def history(self) -> tuple[Switch, ...]:
        """The latest switches, oldest first."""
        return switches(self._shared)

    def recover(self) -> View:
        """Finish or undo a switch that somebody left half done, without waiting."""
        return self._router.tend(now=True)

    # -- keeping the stores alike ---------------------------------------------------------

    def backfill(
        self, *, progress: Progress | None = None, rate: float | None = None
    ) -> Any:
        """Copy what was there before the secondary began to follow; resumable."""
        return self._upkeep.backfill(progress=progress, rate=rate)

    def validate(
        self, *, sample: float | None = None, progress: Progress | None = None
    ) -> Any:
        """Compare every record by value, in both directions; only certain ones count."""
        return self._upkeep.validate(sample=sample, progress=progress)

    def repair(self, *, dry_run: bool = False) -> RepairReport:
        """Bring the secondary in line with the primary, wherever it certainly is not."""
        return self._upkeep.repair(dry_run=dry_run)

    def divergences(self, *, closed: bool = False) -> tuple[Finding, ...]:
        """What was found to differ, by any process, and is not known to be equal since.

        Args:
            closed: also what was repaired, or seen to be equal again.
        """
        return self._book.findings(closed=closed)

    def compared(self) -> Compared:
        """How many reads were compared, dropped, found different, and certainly so."""
        return self._sampler.compared()

    def catch_up(self) -> int:
        """Apply the rest of the change log now; gives how many commits that were."""
        return self._relay.catch_up()

    def lag(self) -> Lag:
        """How far the secondary is behind; out of reach, as far as is known here.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """
        phase = self._control.phase()  # looks at the roles: perhaps nobody else does
        route = self._router.route
        if phase in ALONE.values():
            return Lag(0, 0.0, secondary_up=route.is_certain)
        self._continuity.look(route)
        return self._relay.lag(route)

    def relay(self, *, interval: float | None = None) -> None:
        """Be the relay in this thread until :meth:`close`: for a process of its own.

        Args:
            interval: as ``relay_interval`` of the store, which it stands for if None.
        """
        self._relay.run(interval)

    @override
    def close(self) -> None:
        """Close both stores; the secondary gets what is on its way to it.

        A witness of the last commit of this process is left beside the secondary's data,
        so that a primary which loses it later is noticed. That takes 2 seconds at most,
        and is skipped where the secondary is out of reach.
        """
        is_first, route = not self._router.is_closed, self._router.believed
        self._router.close()
        with contextlib.ExitStack() as stack:
            stack.callback(self._pair.postgres.close)
            stack.callback(self._pair.json.close)
            if is_first:
                stack.callback(self._leave_witness, route)
            stack.callback(self._relay.stop, _CLOSING)
            stack.callback(self._sampler.stop, _CLOSING)
            stack.callback(self._replicator.stop, _CLOSING)

    def _leave_witness(self, route: Route | None) -> None:
        if route and (route.follower is None or self._breaker.is_closed):
            self._continuity.close(route)


_stores: weakref.WeakSet[DualWriteStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store._after_fork()  # noqa: SLF001 - our own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
