"""What keeps a pair alike beside the relay: copying, comparing, repairing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NoReturn

from pend_storage.dualwrite.divergence_check import (
    Confirmed,
    DivergenceConfirmer,
    Finding,
    Place,
)
from pend_storage.dualwrite.divergence_registry import DivergenceRegistry
from pend_storage.dualwrite.jobs import Copy, Validate
from pend_storage.dualwrite.legacy_edits import (
    commit_unlogged,
    replicate_edits,
    settled_edits,
)
from pend_storage.dualwrite.readiness import record_validation
from pend_storage.dualwrite.relay import Relay
from pend_storage.dualwrite.repair import RepairReport, repair
from pend_storage.dualwrite.replication_position import is_complete_replica
from pend_storage.dualwrite.router import Route, Router, require_primary
from pend_storage.dualwrite.throttle import LagThrottle
from pend_storage.errors import (
    ConfigError,
    Conflict,
    InvalidRecord,
    ReferenceViolation,
    UniqueViolation,
)
from pend_storage.events import Hook, Progress
from pend_storage.store import Store

__all__ = ["Maintenance"]

_MOST_KEPT: Final = 1_000
"""Findings of one validation that are written down; all of them are counted."""


class Maintenance:
    """See the module."""

    def __init__(
        self,
        router: Router,
        relay: Relay,
        confirmer: DivergenceConfirmer,
        registry: DivergenceRegistry,
        hook: Hook,
        *,
        copy: Copy | None,
        validate: Validate | None,
        verify: Callable[[Route], None],
    ) -> None:
        self._verify = verify
        """Sees that the primary has lost nothing, before its rows replace others."""
        self._router = router
        self._relay = relay
        self._confirmer = confirmer
        self._registry = registry
        self._hook = hook
        self._copy = copy
        self._validate = validate

    @property
    def can_copy(self) -> bool:
        """Whether there is a way to copy a store."""
        return self._copy is not None

    # -- copying ------------------------------------------------------------------------

    def backfill(
        self,
        *,
        progress: Progress | None,
        rate: float | None,
        is_urgent: bool = False,
    ) -> Any:
        """Copy what was there before the secondary began to follow.

        Args:
            progress: called after every chunk.
            rate: records per second at most.
            is_urgent: somebody waits for it: do not wait where the secondary lags.
        """
        copy = self._copy
        if copy is None:
            _no_job("backfill")

        def once(route: Route) -> Any:
            return copy(
                route.store,
                follower_of(route),
                progress=progress,
                rate=rate,
                epoch=route.epoch,
                hold=None if is_urgent else LagThrottle(route),
                hook=self._hook,
            )

        def copied(route: Route) -> Any:
            self._verify(route)
            report = once(route)
            if not is_complete_replica(route.store, follower_of(route)):
                # It had been interrupted before the log was lost: that proves nothing.
                report = once(route)
            self._relay.wake()
            return report

        self._catch_up()
        return self._router.call(copied)

    def _catch_up(self) -> None:
        """As far as the secondary takes it: what it refuses is what jobs are for."""
        with contextlib.suppress(UniqueViolation, ReferenceViolation, InvalidRecord):
            self._relay.catch_up()

    # -- comparing ----------------------------------------------------------------------

    def validate(self, *, sample: float | None, progress: Progress | None) -> Any:
        """Compare both stores; what is only on its way does not count."""
        validate = self._validate
        if validate is None:
            _no_job("validation")

        def validated(route: Route) -> Any:
            follower = follower_of(route)
            stood = (route.store.incarnation(), follower.incarnation())
            self._catch_up()
            self.sync_edits(route)
            known = self._registry.findings()
            seen = _Seen(self._confirmer, route, known)
            report = validate(
                route.store, follower, sample=sample, progress=progress, certain=seen
            )
            self._registry.record(seen.first)
            self._registry.record_equal(seen.gone(known, is_full=sample is None))
            if sample is None:
                doubts = report.found + report.unsettled
                record_validation(
                    route.store, follower, found=doubts, incarnations=stood
                )
            return report

        return self._router.call(validated)

    # -- repairing ----------------------------------------------------------------------

    def repair(self, *, dry_run: bool) -> RepairReport:
        """Repair what is known to diverge, and all that a validation finds."""

        def repaired(route: Route) -> RepairReport:
            self._verify(route)
            follower = follower_of(route)
            self._catch_up()
            self.sync_edits(route)
            known = [f for f in self._registry.findings() if f.source != "edit"]
            seen = _Seen(self._confirmer, route, known)
            if self._validate is not None:
                self._validate(
                    route.store, follower, sample=None, progress=None, certain=seen
                )
            places = {(f.collection, f.key) for f in known if f.kind != "answer"}
            report = RepairReport(
                repairs=tuple(repair(route, places | seen.places, dry_run=dry_run)),
                dry_run=dry_run,
            )
            if not dry_run:
                self._close(known, report)
            self._relay.wake()
            return report

        return self._router.call(repaired)

    def _close(self, known: Sequence[Finding], report: RepairReport) -> None:
        """Note what a repair has done about what was known."""
        by_action: dict[str, list[Place]] = {}
        for item in report.repairs:
            place = (item.collection, item.key)
            by_action.setdefault(item.action, []).append(place)
        done = [*by_action.get("write", ()), *by_action.get("delete", ())]
        if report.ok:  # answers can only be told by asking again
            done += [(f.collection, f.key) for f in known if f.kind == "answer"]
        self._registry.record_repaired(done)
        self._registry.record_equal(by_action.get("none", ()))

    # -- edits --------------------------------------------------------------------------

    def sync_edits(self, route: Route) -> None:
        """See to what was written into legacy files while JSON was secondary."""
        with contextlib.suppress(Conflict):  # somebody else is just doing it
            brought = replicate_edits(route)
            self._registry.emit_edits(brought)
            settled = settled_edits(route)
            if settled:
                self._registry.record_accepted(settled)
            if commit_unlogged(route) or brought or settled:
                self._relay.wake()


class _Seen:
    """Decides what is certain, for a validation, and remembers what it was asked."""

    def __init__(
        self, confirmer: DivergenceConfirmer, route: Route, known: Sequence[Finding]
    ) -> None:
        self._confirmer = confirmer
        self._route = route
        self.places: set[Place] = set()
        """All that certainly differs."""
        self.first: list[Finding] = []
        """As much of it as is written down; what is known is renewed in any case."""
        self._known = {(f.collection, f.key) for f in known}
        self._unsettled: set[Place] = set()

    def __call__(self, collection: str, keys: Sequence[str]) -> Confirmed:
        """Look closely at keys that seem to differ."""
        confirmed = self._confirmer.confirm(
            self._route, collection, keys, source="validation"
        )
        for key, finding in confirmed.found.items():
            place = (collection, key)
            self.places.add(place)
            if place in self._known or len(self.first) < _MOST_KEPT:
                self.first.append(finding)
        self._unsettled.update((collection, key) for key in confirmed.unsettled)
        return confirmed

    def gone(self, known: Sequence[Finding], *, is_full: bool) -> Iterator[Place]:
        """What was known, and is equal now.

        What the validation did not come to speak of may have been passed by a sample:
        it is looked at here. Answers are good again where all of the records are.
        """
        wrong = {collection for collection, _ in self.places | self._unsettled}
        mine = [f for f in known if f.source != "edit"]
        ordered = sorted(mine, key=attrgetter("collection", "key"))
        for collection, group in groupby(ordered, attrgetter("collection")):
            found = list(group)
            if is_full and collection not in wrong:
                yield from ((collection, f.key) for f in found if f.kind == "answer")
            keys = [f.key for f in found if f.kind != "answer"]
            keys = [key for key in keys if (collection, key) not in self.places]
            if keys:
                confirmed = self._confirmer.confirm(self._route, collection, keys)
                open_ones = confirmed.found.keys() | confirmed.unsettled
                yield from ((collection, key) for key in keys if key not in open_ones)


def follower_of(route: Route) -> Store:
    """The secondary.

    Raises:
        ConfigError: there is none.
        StaleEpoch: nor is the route what it was; look again.
    """
    if route.follower is None:
        require_primary(route.store, route.epoch)  # perhaps there is one since
        raise ConfigError(
            "there is no secondary in this phase: switch to parallel or "
            "postgres-primary first."
        )
    return route.follower


def _no_job(name: str) -> NoReturn:
    raise ConfigError(
        f"this store was made without a {name}: make a pend_storage.DualWriteStore, or "
        "pass it as an argument."
    )
