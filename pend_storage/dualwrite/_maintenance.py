"""Maintenance of a pair beside the relay: backfill, validation and repair."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, NoReturn, Protocol

from pend_storage.dualwrite._divergence_check import DivergenceConfirmer, Finding, Place
from pend_storage.dualwrite._divergence_registry import DivergenceRegistry
from pend_storage.dualwrite._legacy_edits import LegacyEditSync
from pend_storage.dualwrite._log_continuity import LogContinuity
from pend_storage.dualwrite._readiness import record_validation
from pend_storage.dualwrite._relay import Relay
from pend_storage.dualwrite._repair import RepairReport, repair
from pend_storage.dualwrite._replication_position import is_complete_replica
from pend_storage.dualwrite._route import Route, follower_of
from pend_storage.dualwrite._router import Router
from pend_storage.dualwrite._throttle import LagThrottle, Throttle
from pend_storage.errors import (
    ConfigError,
    InvalidRecord,
    ReferenceViolation,
    UniqueViolation,
)
from pend_storage.events import Hook, Progress
from pend_storage.reports import BackfillReport, Confirm, Confirmed, ValidationReport
from pend_storage.store import Store

__all__ = ["Backfill", "Maintenance", "Validate"]

_MOST_RECORDED: Final = 1_000
"""Findings of one validation that are recorded; all of them are counted."""


class Backfill(Protocol):
    """Copies every collection of a store into one that follows it.

    Its progress is in the target's meta
    (:data:`~pend_storage.dualwrite._replication_position.BACKFILL_META`), so that it can be
    interrupted, and so that every process can see whether it was ever complete.
    """

    def __call__(
        self,
        source: Store,
        target: Store,
        /,
        *,
        progress: Progress | None,
        rate: float | None,
        epoch: int,
        hold: Throttle | None,
        hook: Hook,
    ) -> BackfillReport:
        """Copy, and return what was done."""


class Validate(Protocol):
    """Compares every record of two stores by value, in both directions."""

    def __call__(
        self,
        left: Store,
        right: Store,
        /,
        *,
        sample: float | None,
        progress: Progress | None,
        certain: Confirm,
    ) -> ValidationReport:
        """Compare, and return what was found.

        What seems to differ counts only where ``certain`` confirms it; that is called while
        the comparison goes on, with about as many keys at once as are held in memory.
        """


class Maintenance:
    """Maintenance of a pair: copies, compares and repairs from the present primary.

    Each job runs through the router: where a switch changes the primary meanwhile, it is
    begun anew from the new one.
    """

    def __init__(
        self,
        router: Router,
        relay: Relay,
        *,
        continuity: LogContinuity,
        confirmer: DivergenceConfirmer,
        registry: DivergenceRegistry,
        edits: LegacyEditSync,
        hook: Hook,
        backfill: Backfill | None,
        validate: Validate | None,
    ) -> None:
        """Make it.

        Args:
            router: knows the primary.
            relay: drains the change log before a job, and is woken after it.
            continuity: checks that the primary has lost nothing, before its rows replace
                others.
            confirmer: decides which differences are certain.
            registry: records them.
            edits: synchronises edits of legacy files before a comparison.
            hook: gets the events of a backfill.
            backfill: copies a store; None: there is no way to copy.
            validate: compares two stores; None: there is no way to compare.
        """
        self._router = router
        self._relay = relay
        self._continuity = continuity
        self._confirmer = confirmer
        self._registry = registry
        self._edits = edits
        self._hook = hook
        self._backfill = backfill
        self._validate = validate

    @property
    def can_backfill(self) -> bool:
        """True where a backfill is configured."""
        return self._backfill is not None

    # -- copying ------------------------------------------------------------------------

    def backfill(
        self,
        *,
        progress: Progress | None,
        rate: float | None,
        is_urgent: bool = False,
    ) -> BackfillReport:
        """Copy what was there before the secondary began to follow.

        Args:
            progress: called after every chunk.
            rate: records per second at most.
            is_urgent: a switch waits for it: do not pause where the secondary lags.

        Raises:
            ConfigError: no backfill is configured, there is no secondary, or the
                primary's log has lost what was in it.
            StoreUnavailable: a store cannot be reached.
        """

        def copied(route: Route) -> BackfillReport:
            self._continuity.require(route)
            report = self._copy(route, progress, rate, is_urgent=is_urgent)
            if not is_complete_replica(route.store, follower_of(route)):
                # It resumed a copy that began before a gap in the log. A copy proves
                # nothing about what was written in the gap, so it is made once more.
                report = self._copy(route, progress, rate, is_urgent=is_urgent)
            self._relay.wake()
            return report

        if self._backfill is None:
            _raise_missing("backfill")
        self._catch_up()
        return self._router.call(copied)

    def _copy(
        self,
        route: Route,
        progress: Progress | None,
        rate: float | None,
        *,
        is_urgent: bool,
    ) -> BackfillReport:
        assert self._backfill is not None  # noqa: S101 - its caller has checked
        return self._backfill(
            route.store,
            follower_of(route),
            progress=progress,
            rate=rate,
            epoch=route.epoch,
            hold=None if is_urgent else LagThrottle(route),
            hook=self._hook,
        )

    def _catch_up(self) -> None:
        """Drain the log up to the first refused commit: such commits are for these jobs."""
        with contextlib.suppress(UniqueViolation, ReferenceViolation, InvalidRecord):
            self._relay.catch_up()

    # -- comparing ----------------------------------------------------------------------

    def validate(
        self, *, sample: float | None, progress: Progress | None
    ) -> ValidationReport:
        """Compare both stores record by record; commits that are on their way do not count.

        Args:
            sample: share of the records to compare, 0 to 1; None: all of them.
            progress: called now and then.

        Raises: as :meth:`backfill`.
        """
        validate = self._validate
        if validate is None:
            _raise_missing("validation")

        def validated(route: Route) -> ValidationReport:
            follower = follower_of(route)
            stood = (route.store.incarnation(), follower.incarnation())
            self._catch_up()
            self._edits.sync(route)
            known = self._registry.findings()
            seen = _Confirmations(self._confirmer, route, known)
            report = validate(
                route.store, follower, sample=sample, progress=progress, certain=seen
            )
            self._registry.record(seen.first)
            self._registry.record_equal(seen.equal_again(known, is_full=sample is None))
            if sample is None:
                doubts = report.found + report.unsettled
                record_validation(
                    route.store, follower, found=doubts, incarnations=stood
                )
            return report

        return self._router.call(validated)

    # -- repairing ----------------------------------------------------------------------

    def repair(
        self, *, dry_run: bool, progress: Progress | None = None
    ) -> RepairReport:
        """Repair every open finding, and every divergence that a validation confirms.

        Args:
            dry_run: only report what would be written or deleted.
            progress: called now and then during the validation.

        Raises: as :meth:`backfill`.
        """

        def repaired(route: Route) -> RepairReport:
            self._continuity.require(route)
            follower = follower_of(route)
            self._catch_up()
            self._edits.sync(route)
            known = [f for f in self._registry.findings() if f.source != "edit"]
            seen = _Confirmations(self._confirmer, route, known)
            if self._validate is not None:
                self._validate(
                    route.store,
                    follower,
                    sample=None,
                    progress=progress,
                    certain=seen,
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
        """Record what a repair has done about the known findings."""
        by_action: dict[str, list[Place]] = {}
        for item in report.repairs:
            place = (item.collection, item.key)
            by_action.setdefault(item.action, []).append(place)
        done = [*by_action.get("write", ()), *by_action.get("delete", ())]
        if report.ok:  # answers are known only by asking again
            done += [(f.collection, f.key) for f in known if f.kind == "answer"]
        self._registry.record_repaired(done)
        self._registry.record_equal(by_action.get("none", ()))


class _Confirmations:
    """Confirmed differences of one validation."""

    def __init__(
        self, confirmer: DivergenceConfirmer, route: Route, known: Sequence[Finding]
    ) -> None:
        self._confirmer = confirmer
        self._route = route
        self.places: set[Place] = set()
        """Keys that were confirmed to differ."""
        self.first: list[Finding] = []
        """Those of them that are recorded; a known finding is renewed in any case."""
        self._known = {(f.collection, f.key) for f in known}
        self._unsettled: set[Place] = set()

    def __call__(self, collection: str, keys: Sequence[str]) -> Confirmed:
        """Confirm which of these keys differ."""
        findings, unsettled = self._confirmer.confirm(
            self._route, collection, keys, source="validation"
        )
        for key, finding in findings.items():
            place = (collection, key)
            self.places.add(place)
            if place in self._known or len(self.first) < _MOST_RECORDED:
                self.first.append(finding)
        self._unsettled.update((collection, key) for key in unsettled)
        found = {key: finding.as_divergence() for key, finding in findings.items()}
        return Confirmed(found, unsettled)

    def equal_again(
        self, known: Sequence[Finding], *, is_full: bool
    ) -> Iterator[Place]:
        """Yield the known findings whose records are equal now."""
        # What the validation did not confirm may have been passed by a sample, so it is
        # compared here. Answers are good again where all of the records are.
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


def _raise_missing(name: str) -> NoReturn:
    raise ConfigError(
        f"this store was made without a {name}: make a pend_storage.DualWriteStore, or "
        "pass it as an argument."
    )
