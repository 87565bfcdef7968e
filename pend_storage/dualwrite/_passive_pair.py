"""Passive pair: facts of two stores that are only read.

A :class:`~pend_storage.dualwrite.DualWriteStore` gives a fresh pair its roles, finishes a
switch that died, and applies the change log. A reader that must change nothing asks here: it
takes no step, starts no thread, and shows half a switch as what it is.

Every fact costs the same at any backlog. Where only a walk along the log can prove
something, what was proved is kept, and a cheap comparison shows whether it still holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Final

from typing_extensions import override

from pend_storage._model.records import JSON
from pend_storage.dualwrite._circuit_breaker import OUT_OF_REACH, why
from pend_storage.dualwrite._divergence_check import Finding
from pend_storage.dualwrite._finding_records import to_finding
from pend_storage.dualwrite._lag import Distance, Lag, is_on_log, lag_of
from pend_storage.dualwrite._log_continuity import WITNESS_META
from pend_storage.dualwrite._log_position import LogPosition, LogRewound, has_entry
from pend_storage.dualwrite._pair import Pair, joining_role
from pend_storage.dualwrite._pair_metadata import PairMetadata, values_at
from pend_storage.dualwrite._phase_controller import ALONE, phase_of
from pend_storage.dualwrite._readiness import Check, Readiness, ReadinessGate
from pend_storage.dualwrite._relay_schedule import blocked_reason
from pend_storage.dualwrite._replication_position import (
    ReplicationPosition,
    is_complete_for,
    is_complete_when_resumed,
    log_reaches,
)
from pend_storage.dualwrite._roles import SIDES, RolePair, Side, other
from pend_storage.dualwrite._switch_history import Switch, recorded_switches
from pend_storage.errors import (
    ChangesExpired,
    ConfigError,
    StoreUnavailable,
)
from pend_storage.phases import Phase, Role, RoleState
from pend_storage.query import field, make_query
from pend_storage.schema import FINDINGS
from pend_storage.store import Store

__all__ = ["PassivePair"]

_PAUSE: Final = 0.1


class PassivePair:
    """Facts of a pair, each of them when it is asked for. Safe to share between threads."""

    def __init__(
        self,
        json: Store,
        postgres: Store,
        *,
        fresh: Collection[Side] = (),
        checks: Mapping[str, Check] | None = None,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        """Look at two stores, of which none is changed or closed.

        Args:
            json: the store of the JSON side, or one that raises why it is away.
            postgres: the store of the PostgreSQL side, likewise.
            fresh: sides that have no store yet; those stores raise, and have no role.
            checks: functions by code of a blocker; each returns a sentence, or None.
            refresh: makes the stores read again what they keep.
        """
        self.json = json
        self.postgres = postgres
        self._pair = _RoleReader(json, postgres, fresh=fresh, refresh=refresh)
        self._metadata = _PrimaryValues(self)
        self._gate = ReadinessGate(
            self._pair,
            self._metadata,
            checks or {},
            can_copy=True,
            is_complete=self.is_complete,
            measure=self._distance,
        )
        self._refresh = refresh
        self._passed: ReplicationPosition | None = None
        self._reached: object = None
        self._found: object = None

    def recall(self, earlier: PassivePair) -> None:
        """Take over what an earlier pair of the same environment has seen.

        Args:
            earlier: with another store away than now.
        """
        self._passed = earlier._passed
        self._reached, self._found = earlier._reached, earlier._found

    def store(self, side: Side) -> Store:
        """Return one of the stores."""
        return self._pair.store(side)

    # -- roles --------------------------------------------------------------------------

    def roles(self) -> RolePair:
        """Read the roles of both stores; None for one that cannot be reached.

        A store without a role beside one that has a role counts as what it would become.

        Raises:
            StoreUnavailable: neither can be reached.
            ConfigError: a store was restored from a backup, or replaced.
        """
        return self._pair.read_roles()

    @property
    def phase(self) -> Phase:
        """Phase: during a switch the one before it, until the new primary is open.

        Raises:
            StoreUnavailable: the store that would decide it cannot be reached.
        """
        return phase_of(self.roles(), self._metadata, self._pair)

    def primary(self) -> tuple[Side, RolePair]:
        """Return the side of the primary; in the middle of a switch, of the fenced store.

        Raises:
            StoreUnavailable: the store that may be primary cannot be reached.
        """
        view = self.roles()
        side = view.primary or view.fenced
        if side is None:
            for error in self._pair.unreachable.values():
                raise error
            raise StoreUnavailable("no store is primary", store="the pair of stores")
        return side, view

    def follower(self) -> tuple[Store, Store | None]:
        """Return the primary, and the secondary that follows it, if there is one.

        Raises: as :meth:`primary`.
        """
        side, view = self.primary()
        peer = view.of(other(side))
        follows = peer is not None and peer.role is Role.SECONDARY
        return self.store(side), self.store(other(side)) if follows else None

    # -- values of the pair ---------------------------------------------------------------

    def meta(self, name: str) -> JSON:
        """Return a named value of the pair, as the primary has it."""
        return self._metadata.get(name)

    def compare_and_set_meta(self, name: str, expected: JSON, value: JSON) -> bool:
        """Refuse: a pair that is only read changes nothing.

        Raises:
            ConfigError: always.
        """
        return self._metadata.compare_and_set(name, expected, value)

    @property
    def stores(self) -> Pair:
        """Both stores, for functions that take those of a pair that writes."""
        return self._pair

    @property
    def values(self) -> PairMetadata:
        """Values of the pair, for functions that take those of a pair that writes."""
        return self._metadata

    def history(self) -> tuple[Switch, ...]:
        """Return the switches, oldest first."""
        return recorded_switches(self._metadata)

    def divergences(self, *, closed: bool = False) -> tuple[Finding, ...]:
        """Return the open findings, or all of them, by when they were first seen."""
        store = self.store(self.primary()[0])
        where = () if closed else (field("state") == "open",)
        query = make_query(store.schema[FINDINGS], where, order_by=("first_seen",))
        return tuple(to_finding(row.record) for row in store.query(FINDINGS, query))

    def open_divergences(self) -> int:
        """Count the open findings."""
        store = self.store(self.primary()[0])
        where = (field("state") == "open",)
        return store.count(FINDINGS, make_query(store.schema[FINDINGS], where).where)

    # -- replication ----------------------------------------------------------------------

    def lag(self) -> Lag:
        """Measure the lag of the secondary; where it is away, by its last known mark.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """
        side, view = self.primary()
        if phase_of(view, self._metadata, self._pair) in ALONE.values():
            return Lag(0, 0.0, secondary_up=view.is_settled)
        primary, follower = self.store(side), self.store(other(side))
        found = self._measured(primary, follower, view, side)
        lost = self._lost(primary, follower)
        if lost is None:
            return found
        return replace(
            found, commits=max(1, found.commits), seconds=math.inf, blocked=lost
        )

    def _measured(
        self, primary: Store, follower: Store, view: RolePair, side: Side
    ) -> Lag:
        trouble = self._pair.unreachable.get(other(side))
        blocked = "the secondary does not follow yet"
        if trouble is not None:
            blocked = f"the secondary cannot be reached ({why(trouble)})"
        elif view.of(other(side)) == RoleState(Role.SECONDARY, _epoch(view, side)):
            try:
                self._passed = mark = ReplicationPosition.load(follower)
                reason = blocked_reason(follower, mark)
            except OUT_OF_REACH as error:
                blocked = f"the secondary cannot be reached ({why(error)})"
            else:
                near = self._distance(primary, mark)
                reason = near.problem or (reason if near.commits else None)
                return Lag(*near[:2], secondary_up=True, blocked=reason)
        far = self._distance(primary, self._passed).at_least()
        return Lag(*far[:2], secondary_up=False, blocked=far.problem or blocked)

    def _lost(self, primary: Store, follower: Store) -> str | None:
        """Return why the primary's log lost what was seen in it; None where it did not."""
        try:
            witness = LogPosition.parse(follower.meta(WITNESS_META))
        except OUT_OF_REACH:
            return None
        if witness is None or witness.source != primary.identity():
            return None
        state = (witness, primary.incarnation())
        if state != self._found:
            try:
                has_entry(primary, witness)
            except LogRewound as error:
                return str(error)
            self._found = state
        return None

    def _distance(self, primary: Store, mark: ReplicationPosition | None) -> Distance:
        return lag_of(primary, mark, self._reaches)

    def _reaches(self, primary: Store, mark: ReplicationPosition) -> bool:
        """Return whether the log is kept back to a mark; it is walked to once for a mark.

        Raises:
            ConfigError: it was rewound.
        """
        state = (mark, primary.incarnation())
        if state == self._reached:
            try:
                primary.pending(mark.sequence)
            except ChangesExpired:
                return False
            return True
        found = log_reaches(primary, mark)
        if found:
            self._reached = state
        return found

    def is_complete(self, primary: Store, follower: Store) -> bool:
        """Return whether a switch would find the follower complete.

        As :func:`is_complete_when_resumed`, without a walk along the log each time.

        Raises:
            ConfigError: the primary's log was rewound.
            StoreUnavailable: one of the stores cannot be reached.
        """
        mark = ReplicationPosition.load(follower)
        if mark is None or mark.source != primary.identity():
            return is_complete_when_resumed(primary, follower)
        if is_on_log(primary, mark) or self._reaches(primary, mark):
            return is_complete_for(primary, follower, mark)
        return is_complete_when_resumed(primary, follower)

    # -- the way on -----------------------------------------------------------------------

    def readiness(self, phase: Phase | str, *, patience: float = 0.0) -> Readiness:
        """Return the blockers of a phase, and the steps that would lead there.

        Args:
            phase: the phase asked about.
            patience: seconds to wait for a switch that is under way to end.

        Raises:
            StoreUnavailable: a store cannot be reached, or a switch is under way.
        """
        deadline = time.monotonic() + patience
        while not (view := self.roles()).is_settled:
            for error in self._pair.unreachable.values():
                raise error
            if time.monotonic() >= deadline:
                raise StoreUnavailable(
                    "a switch is under way, or died half done. Ask again; a running server "
                    "or `pend-storage doctor` ends it",
                    store="the pair of stores",
                )
            time.sleep(_PAUSE)
            self._refresh()
        return self._gate.readiness(view, Phase(phase))


def _epoch(view: RolePair, side: Side) -> int:
    state = view.of(side)
    return -1 if state is None else state.epoch


class _RoleReader(Pair):
    """Pair of stores whose roles are read, and never set."""

    def __init__(
        self,
        json: Store,
        postgres: Store,
        *,
        fresh: Collection[Side],
        refresh: Callable[[], None],
    ) -> None:
        super().__init__(json, postgres)
        self._fresh = frozenset(fresh)
        self._refresh = refresh

    @override
    def _read_again(self) -> RolePair:
        self._refresh()
        return self._read_once()

    @override
    def _read_once(self) -> RolePair:
        metas = {
            side: None if side in self._fresh else self._read_role(side)
            for side in SIDES
        }
        if len(self.unreachable) == len(SIDES):
            raise self.unreachable["json"]
        known: dict[Side, RoleState] = {
            side: RoleState.from_meta(meta)
            for side, meta in metas.items()
            if meta is not None
        }
        for side in SIDES:
            missing = side not in known and side not in self.unreachable
            if missing and other(side) in known:
                known[side] = RoleState(joining_role(side, known[other(side)]), 1)
                break
        return RolePair(known.get("json"), known.get("postgres"))

    @override
    def _require_usable(self) -> None:
        """Do nothing: the opening of the environment has asked."""


class _PrimaryValues(PairMetadata):
    """Values of a pair, read at the primary, and never set."""

    def __init__(self, pair: PassivePair) -> None:
        self._pair = pair

    @override
    def get(self, name: str) -> JSON:
        side, _ = self._pair.primary()
        return values_at(self._pair.store(side)).get(name)

    @override
    def compare_and_set(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        given: Mapping[str, JSON] | None = None,
        also: Mapping[str, JSON] | None = None,
    ) -> bool:
        raise ConfigError(
            f"the stores are open for reading only, so the value {name} was not set. Open "
            "the pair itself to change it."
        )
