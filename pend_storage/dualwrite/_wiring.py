"""Wiring of the parts that make up a pair.

Each part gets what it depends on by its constructor, so the parts are made in the order of
their dependencies, and none is needed by an earlier one. The one call against that order is
visible: the relay subscribes to the router, and is informed of every new route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from pend_storage.dualwrite._circuit_breaker import CircuitBreaker
from pend_storage.dualwrite._compared_totals import TotalsRecord
from pend_storage.dualwrite._divergence_acceptance import DivergenceAcceptance
from pend_storage.dualwrite._divergence_check import (
    ComparisonRules,
    DivergenceConfirmer,
    Redact,
)
from pend_storage.dualwrite._divergence_registry import DivergenceRegistry
from pend_storage.dualwrite._legacy_edits import LegacyEditSync
from pend_storage.dualwrite._log_continuity import LogContinuity
from pend_storage.dualwrite._maintenance import Backfill, Maintenance, Validate
from pend_storage.dualwrite._pair import Pair
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.dualwrite._phase_controller import PhaseController
from pend_storage.dualwrite._readiness import Check, ReadinessGate
from pend_storage.dualwrite._relay import Relay
from pend_storage.dualwrite._relay_schedule import RelaySchedule
from pend_storage.dualwrite._replicator import SynchronousReplicator
from pend_storage.dualwrite._router import Router
from pend_storage.dualwrite._shadow_reads import ShadowReadSampler
from pend_storage.events import Hook
from pend_storage.instrumentation._timing import Count

__all__ = ["PairOptions", "PairParts", "wire"]

_FIRST_PAUSE = 1.0
"""Seconds between the first two attempts at an obstacle, where no relay has a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptions:
    """Options of a pair, as :class:`~pend_storage.dualwrite.DualWriteStore` takes them."""

    secondary_timeout: float | None
    compare: float
    ignore: Iterable[str]
    redact: Redact
    switch_patience: float
    relay_interval: float | None
    retention: timedelta
    archive_hold: timedelta
    backfill: Backfill | None
    validate: Validate | None
    checks: Mapping[str, Check]
    hook: Hook
    count: Count | None


@dataclass(frozen=True, kw_only=True)
class PairParts:
    """Parts of a pair; those that no other part depends on are made at their first use."""

    pair: Pair
    options: PairOptions
    continuity: LogContinuity
    router: Router
    breaker: CircuitBreaker
    schedule: RelaySchedule
    registry: DivergenceRegistry
    edits: LegacyEditSync
    relay: Relay
    confirmer: DivergenceConfirmer
    metadata: PairMetadata

    @cached_property
    def replicator(self) -> SynchronousReplicator:
        """Replicator that applies commits to the secondary while their callers wait."""
        return SynchronousReplicator(
            self.breaker,
            self.options.hook,
            on_stale=self.router.invalidate,
            on_missed=self.schedule.notify,
        )

    @cached_property
    def shadow_reads(self) -> ShadowReadSampler:
        """Sampler of shadow reads."""
        return ShadowReadSampler(
            self.router,
            self.breaker,
            self.confirmer,
            self.registry,
            self.options.hook,
            share=self.options.compare,
            totals=self.totals,
        )

    @cached_property
    def totals(self) -> TotalsRecord:
        """Totals of the compared reads of all processes."""
        return TotalsRecord(self.metadata)

    @cached_property
    def acceptances(self) -> DivergenceAcceptance:
        """Acceptance of findings by operators."""
        return DivergenceAcceptance(self.registry, self.metadata)

    @cached_property
    def maintenance(self) -> Maintenance:
        """Backfill, validation and repair."""
        return Maintenance(
            self.router,
            self.relay,
            continuity=self.continuity,
            confirmer=self.confirmer,
            registry=self.registry,
            edits=self.edits,
            hook=self.options.hook,
            backfill=self.options.backfill,
            validate=self.options.validate,
        )

    @cached_property
    def phases(self) -> PhaseController:
        """Controller of the phase."""
        gate = ReadinessGate(
            self.pair,
            self.metadata,
            self.options.checks,
            can_copy=self.maintenance.can_backfill,
        )
        return PhaseController(
            self.router,
            self.relay,
            metadata=self.metadata,
            gate=gate,
            continuity=self.continuity,
            maintenance=self.maintenance,
            edits=self.edits,
        )


def wire(pair: Pair, options: PairOptions) -> PairParts:
    """Make the parts of a pair, each from those before it."""
    hook = options.hook
    continuity = LogContinuity(pair, hook)
    router = Router(pair, patience=options.switch_patience, hook=hook, check=continuity)
    breaker = CircuitBreaker(hook, options.secondary_timeout)
    schedule = RelaySchedule(hook, options.relay_interval or _FIRST_PAUSE)
    registry = DivergenceRegistry(router, hook, schedule)
    edits = LegacyEditSync(registry, schedule)
    relay = Relay(
        router,
        breaker,
        schedule=schedule,
        continuity=continuity,
        edits=edits,
        hook=hook,
        interval=options.relay_interval,
        retention=options.retention,
        archive_hold=options.archive_hold,
        count=options.count,
    )
    rules = ComparisonRules(options.ignore, options.redact, pair.json.schema)
    return PairParts(
        pair=pair,
        options=options,
        continuity=continuity,
        router=router,
        breaker=breaker,
        schedule=schedule,
        registry=registry,
        edits=edits,
        relay=relay,
        confirmer=DivergenceConfirmer(rules, relay.catch_up),
        metadata=PairMetadata(router),
    )
