"""Verbs of a pair that keep its stores alike: backfill, validation, repair, findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pend_storage._jobs.running import RESUMED, running_job
from pend_storage._model.attribution import acting, actor, current_actor
from pend_storage.dualwrite._compared_totals import ComparedTotals, TotalsRecord
from pend_storage.dualwrite._divergence_acceptance import (
    Acceptance,
    DivergenceAcceptance,
)
from pend_storage.dualwrite._divergence_check import Finding
from pend_storage.dualwrite._divergence_registry import DivergenceRegistry
from pend_storage.dualwrite._maintenance import Maintenance
from pend_storage.dualwrite._repair import RepairReport
from pend_storage.dualwrite._routed_store import RoutedStore
from pend_storage.dualwrite._shadow_reads import Compared, ShadowReadSampler
from pend_storage.events import Progress
from pend_storage.reports import BackfillReport, ValidationReport

__all__ = ["MaintainedStore"]


class MaintainedStore(RoutedStore):
    """Verbs that copy, compare and repair; the parts are made by ``DualWriteStore``."""

    _maintenance: Maintenance
    _registry: DivergenceRegistry
    _acceptances: DivergenceAcceptance
    _shadow_reads: ShadowReadSampler
    _totals: TotalsRecord

    def backfill(
        self,
        *,
        progress: Progress | None = None,
        rate: float | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> BackfillReport:
        """Backfill: copy what was there before the secondary began to follow; resumable.

        It runs as a job: other processes see its progress, and may pause or cancel it.

        Args:
            progress: called after every chunk.
            rate: records per second at most; None for no limit.
            by: who began it; None: the author of this context, or user, machine, process.
            reason: of the job.

        Raises:
            ConfigError: there is no secondary, or the primary was rewound.
            JobCancelled: another process asked for its end; what was copied stays.
            StoreUnavailable: one of the stores cannot be reached; call it again later.
        """
        with running_job(self, "backfill", by=by, reason=reason, again=RESUMED) as job:
            report = self._maintenance.backfill(
                progress=job.following(progress), rate=rate
            )
            job.finish(f"{report.rows:,} records copied")
            return report

    def validate(
        self,
        *,
        sample: float | None = None,
        progress: Progress | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> ValidationReport:
        """Compare every record by value, in both directions; report certain divergences.

        Args:
            sample: share of the records to compare, 0 to 1; None: all of them.
            progress: called now and then.
            by: as of :meth:`backfill`.
            reason: as of :meth:`backfill`.

        Raises: as :meth:`backfill`.
        """
        with running_job(self, "validate", by=by, reason=reason) as job:
            report = self._maintenance.validate(
                sample=sample, progress=job.following(progress)
            )
            job.finish(f"{report.found:,} of {report.checked:,} records differ")
            return report

    def repair(
        self,
        *,
        dry_run: bool = False,
        by: str | None = None,
        reason: str | None = None,
    ) -> RepairReport:
        """Repair the secondary from the primary, wherever a divergence is certain.

        Args:
            dry_run: only report what would be written or deleted.
            by: as of :meth:`backfill`.
            reason: as of :meth:`backfill`.

        Raises: as :meth:`backfill`.
        """
        if dry_run:
            return self._maintenance.repair(dry_run=True)
        with running_job(self, "repair", by=by, reason=reason) as job:
            report = self._maintenance.repair(dry_run=False, progress=job)
            job.finish(f"{report.repaired:,} records repaired")
            return report

    def divergences(self, *, closed: bool = False) -> tuple[Finding, ...]:
        """Return the open findings of all processes, by the time they were first seen.

        Args:
            closed: also those that were repaired, accepted, or seen to be equal again.
        """
        return self._registry.findings(closed=closed)

    def accept_divergences(
        self, ids: Iterable[str], *, by: str | None = None, reason: str
    ) -> tuple[Finding, ...]:
        """Accept open findings: the stores may differ there, as they do now.

        A record that differs in another way, or in another version, is a divergence again.
        A validation goes on counting it, and a repair repairs it.

        Args:
            ids: of the findings.
            by: who accepts; None: the author of this context, or user, machine, process.
            reason: of the decision, which is kept.

        Raises:
            ConfigError: one of them is not open, or cannot be accepted; none was then.
            Conflict: other processes wrote the same findings all the time.
            StoreUnavailable: the primary cannot be reached.
        """
        author = by or actor().by or current_actor()
        with acting(by=author, reason=reason):
            return self._acceptances.accept(tuple(ids), by=author, reason=reason)

    def acceptances(self) -> Mapping[str, Acceptance]:
        """Return who accepted which findings, and why, by the ids of the findings.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """
        return self._acceptances.known()

    def compared(self) -> Compared:
        """Return the counters of compared reads of this process: sampled, dropped, confirmed."""
        return self._shadow_reads.compared()

    def compared_totals(self) -> ComparedTotals | None:
        """Return the counters of the compared reads of all processes, a few seconds old.

        None: no process has compared any, or the totals are of a newer version.

        Raises:
            StoreUnavailable: the primary cannot be reached.
        """
        return self._totals.read()
