"""Dual-write store: writes go to both stores, reads to the primary, phases change live."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from typing_extensions import override

from pend_storage._archive_hold import MOST
from pend_storage._fork import on_fork
from pend_storage._health import DEADLINE, Health, health_of_pair
from pend_storage._layouts.layout import Layout
from pend_storage._model.attribution import Actor, actor, current_actor
from pend_storage._model.snapshots import LogPoint
from pend_storage._whole_files.exclusive_use import IsHeld
from pend_storage.dualwrite._backup_fact import incarnation_of, record_backup
from pend_storage.dualwrite._divergence_check import Redact, hide_values
from pend_storage.dualwrite._lag import Lag
from pend_storage.dualwrite._maintained_store import MaintainedStore
from pend_storage.dualwrite._maintenance import Backfill, Validate
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._pair_locks import lock_both
from pend_storage.dualwrite._pair_purge import LogHold, PairPurge
from pend_storage.dualwrite._phase_controller import ALONE, SwitchReport
from pend_storage.dualwrite._readiness import Check, Readiness
from pend_storage.dualwrite._roles import SIDES, RolePair
from pend_storage.dualwrite._route import Route
from pend_storage.dualwrite._switch_history import Switch, recorded_switches
from pend_storage.dualwrite._timed_route import TimedRoute
from pend_storage.dualwrite._unread_file_guard import UnreadFileGuard
from pend_storage.dualwrite._wiring import PairOptions, wire
from pend_storage.errors import ConfigError, SchemaOutOfDate, StoreUnavailable
from pend_storage.events import Hook, guarded, log_event
from pend_storage.instrumentation import Instruments
from pend_storage.instrumentation._timing import counting, hook_of, timing
from pend_storage.phases import Phase
from pend_storage.schema import Schema
from pend_storage.store import Store

__all__ = ["DualWriteStore"]

_RETENTION: Final = timedelta(days=7)
_CLOSING: Final = 5.0
"""Seconds that closing waits for a thread at most."""


class DualWriteStore(MaintainedStore):
    """Dual-write store: a JSON store and a PostgreSQL store in one of four phases.

    It uses only the contract of the stores: any two with one schema will do.
    A fresh pair starts ``json-only``; or ``postgres-only`` where PostgreSQL was written
    to before and JSON is empty.

    The jobs that copy and compare are passed in: without ``backfill`` and ``validate``
    it writes to both stores and switches. ``pend_storage.DualWriteStore`` has both jobs.
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
        archive_hold: timedelta = MOST,
        begin: Phase | None = None,
        backfill: Backfill | None = None,
        validate: Validate | None = None,
        checks: Mapping[str, Check] | None = None,
        hook: Hook = log_event,
        instruments: Instruments | None = None,
    ) -> None:
        """Wire two stores together; they are closed with this one.

        Args:
            json: primary at first.
            postgres: primary at last.
            secondary_timeout: seconds that a write waits for the secondary; the relay
                applies what did not arrive. 0: never wait; None: as long as it takes.
            compare: share of the reads that are compared with the secondary, 0 to 1.
            ignore: places that need not be equal: ``users.last_seen``, ``*.extra.note``.
            redact: what of a difference may be shown.
            switch_patience: seconds that a call waits while a switch is under way.
            relay_interval: seconds between two reads of the change log by the relay; None:
                it is read only when :meth:`catch_up` is called.
            retention: how long entries of a change log are kept that the other side has
                applied.
            archive_hold: how much longer they are kept for an archive that lags.
            begin: first phase of a fresh pair; None: the phase of the store with records.
            backfill: copies a store into its follower; None: the default of the class.
            validate: compares two stores; None: the default of the class.
            checks: functions by code of a blocker; each returns a sentence on what is
                wrong, or None.
            hook: gets events; what it raises is logged once, and has no other effect.
            instruments: get the duration of each call of the pair, by the store that is
                primary, and its events. Give them to both stores, too.

        Raises:
            ConfigError: the schemas differ, a setting makes no sense, or the stores do not
                belong together any more: one was restored from a backup. They are not closed
                then.
        """
        if not 0 <= compare <= 1:
            raise ConfigError(f"compare must be a share from 0 to 1, not {compare}.")
        self._hook = hook_of(guarded(hook), instruments)
        self._timing = timing(instruments, "pair", self._hook)
        default_backfill, default_validate = self._default_jobs()
        options = PairOptions(
            secondary_timeout=secondary_timeout,
            compare=compare,
            ignore=ignore,
            redact=redact,
            switch_patience=switch_patience,
            relay_interval=relay_interval,
            retention=retention,
            archive_hold=archive_hold,
            backfill=backfill or default_backfill,
            validate=validate or default_validate,
            checks=checks or {},
            hook=self._hook,
            count=counting(self._timing),
        )
        self._assign_parts(Pair(json, postgres, begin=begin), options)
        for side in SIDES:
            self._pair.store(side).hold_log(LogHold(self._router, side))
        self._refuse_rewound()
        on_fork(self._after_fork)

    def _assign_parts(self, pair: Pair, options: PairOptions) -> None:
        """Make the parts of the pair, and assign them to the attributes that verbs use."""
        self.schema: Schema = pair.json.schema
        self.layouts: tuple[Layout, ...] = pair.json.layouts or pair.postgres.layouts
        parts = wire(pair, options)
        self._pair = pair
        self._timeout = options.secondary_timeout
        self._unread = UnreadFileGuard(self.layouts)
        self._router = parts.router
        if self._timing is not None:
            self._router.subscribe(TimedRoute(self._timing))
        self._continuity = parts.continuity
        self._breaker = parts.breaker
        self._schedule = parts.schedule
        self._relay = parts.relay
        self._replicator = parts.replicator
        self._metadata = parts.metadata
        self._registry = parts.registry
        self._shadow_reads = parts.shadow_reads
        self._totals = parts.totals
        self._acceptances = parts.acceptances
        self._maintenance = parts.maintenance
        self._phases = parts.phases

    def _default_jobs(self) -> tuple[Backfill | None, Validate | None]:
        """Return the jobs that copy and compare where no argument names others."""
        return None, None

    def _refuse_rewound(self) -> None:
        """Raise where a store was restored from a backup, before anything is written."""
        with contextlib.suppress(StoreUnavailable, SchemaOutOfDate):
            view = self._pair.read_roles()
            if view.primary is None or not view.is_settled:
                return
            self._continuity.require(self._router.route_of(view, view.primary))
            self._router.adopt(view)  # not before: it starts the relay

    def _after_fork(self) -> None:
        for part in (self._router, self._replicator, self._relay, self._shadow_reads):
            part.after_fork()
        self._registry.after_fork()
        self._continuity.after_fork()
        self._phases.after_fork()
        self._router.invalidate()

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._pair.json!r}, {self._pair.postgres!r})"

    @override
    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        return lock_both(self._router, self._breaker, name, timeout)

    @property
    def stores(self) -> tuple[Store, Store]:
        """The JSON store and the PostgreSQL store, for tools that look at each."""
        return self._pair.json, self._pair.postgres

    # -- phases ---------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Phase: during a switch the one before it, until the new primary is open.

        Raises:
            StoreUnavailable: the store that would decide it cannot be reached.
        """
        return self._phases.phase()

    @override
    def health(self, *, deadline: float = DEADLINE) -> Health:
        return health_of_pair(self._pair.json, self._pair.postgres, deadline=deadline)

    def roles(self) -> RolePair:
        """Read the roles of both stores; None for one that cannot be reached."""
        return self._pair.read_roles()

    def readiness(self, phase: Phase | str) -> Readiness:
        """Return the blockers of a phase, and the steps that would lead there.

        Raises:
            StoreUnavailable: one of the stores cannot be reached.
        """
        return self._phases.readiness(Phase(phase))

    def note_backup(
        self,
        id: str,  # noqa: A002 - the name that backups have everywhere
        point: LogPoint,
        *,
        at: datetime,
        verified_at: datetime,
    ) -> None:
        """Record a verified backup at a position, for readiness; ``at`` is its time."""
        found = {side: incarnation_of(self._pair.store(side)) for side in SIDES}
        known = {side: name for side, name in found.items() if name is not None}
        record_backup(
            self._metadata, verified_at, incarnations=known, id=id, point=point, at=at
        )

    def switch(
        self,
        phase: Phase | str,
        *,
        accept: Iterable[str] = (),
        timeout: float = 30.0,
        by: str | None = None,
        reason: str | None = None,
    ) -> SwitchReport:
        """Switch to a phase, through those between, under live traffic.

        Args:
            phase: the wanted one.
            accept: codes of blockers to accept. ``backfill`` cannot be accepted: records
                would be lost.
            timeout: seconds for the whole switch.
            by: actor in the history of switches; None: the author of this context, see
                :meth:`~pend_storage.store.Store.acting`, or this user, machine and process.
            reason: in the history of switches; None: that of this context.

        Returns:
            The phases gone through, and the write pause.

        Raises:
            SwitchRefused: there are blockers that were not accepted; nothing was changed.
            SwitchTimeout: not finished in time; nothing is lost, call it again.
            StoreUnavailable: one of the stores cannot be reached; nothing is lost either.
        """
        outer = actor()
        author = Actor(by or outer.by or current_actor(), reason or outer.reason)
        work = partial(
            self._phases.switch,
            Phase(phase),
            accept=accept,
            timeout=timeout,
            author=author,
        )
        return work() if self._timing is None else self._timing.call("switch", "", work)

    def history(self) -> tuple[Switch, ...]:
        """Return the latest switches, oldest first."""
        return recorded_switches(self._metadata)

    def recover(self) -> RolePair:
        """Finish or undo a half-done switch, without waiting for its heartbeat to stop."""
        return self._router.maintain(now=True)

    # -- replication ------------------------------------------------------------------

    def catch_up(self) -> int:
        """Drain the change log into the secondary now; return the number of commits."""
        return self._relay.catch_up()

    def lag(self) -> Lag:
        """Measure the lag of the secondary, in commits and seconds.

        Where it is out of reach, the last mark that this process has read counts.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """
        phase = self._phases.phase()  # reads the roles, so that the route is not old
        route = self._router.route
        if phase in ALONE.values():
            return Lag(0, 0.0, secondary_up=route.is_certain)
        self._continuity.refresh(route)
        return self._relay.lag(route)

    @override
    def purge(
        self, collection: str, keys: Iterable[str], *, tombstones: bool = True
    ) -> bool:
        """Purge both stores; a secondary must be in reach, and applies the log first.

        A store that is detached is purged too, of keys that it has no record of. Where it
        has one, the record stays there, the tombstone stays here, and the answer is False.
        """
        work = PairPurge(self._router, self._relay)
        name = self.schema[collection].name
        return work.purge(name, keys, tombstones=tombstones)

    def prune_logs(self) -> None:
        """Drop entries of both logs that are older than the retention, and applied.

        The relay does so every ten minutes. The JSON store drops its own by itself.

        Raises:
            StoreUnavailable: one of the stores cannot be reached.
        """
        self._relay.prune()

    def relay(self, *, interval: float | None = None) -> None:
        """Relay in the calling thread until :meth:`close`: for a process of its own.

        Args:
            interval: seconds, as ``relay_interval`` of the store; None for that one.
        """
        self._relay.run(interval)

    @override
    def close(self) -> None:
        """Close both stores, after the writes on their way to the secondary have arrived.

        A witness of the last commit of this process is left beside the secondary's data,
        so that a primary which loses it later is noticed. That takes 2 seconds at most,
        and is skipped where the secondary is out of reach.
        """
        is_first, route = not self._router.is_closed, self._router.known_route
        self._router.close()
        # Callbacks run from the last to the first: threads end before the witness is left,
        # and the stores are closed at the very end, also where an earlier step raises.
        with contextlib.ExitStack() as stack:
            stack.callback(self._pair.postgres.close)
            stack.callback(self._pair.json.close)
            if is_first:
                stack.callback(self._leave_witness, route)
            stack.callback(self._relay.stop, _CLOSING)
            stack.callback(self._shadow_reads.stop, _CLOSING)
            stack.callback(self._replicator.stop, _CLOSING)

    def _leave_witness(self, route: Route | None) -> None:
        if route and (route.follower is None or self._breaker.is_closed):
            self._continuity.leave_witness(route)
