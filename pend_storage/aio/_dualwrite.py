"""Asynchronous methods of a pair of stores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from pend_storage._model.snapshots import LogPoint
from pend_storage.errors import ConfigError
from pend_storage.events import Progress
from pend_storage.phases import Phase
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.dualwrite import (
        Acceptance,
        Compared,
        ComparedTotals,
        Finding,
        Lag,
        Readiness,
        RepairReport,
        Switch,
        SwitchReport,
    )
    from pend_storage.dualwrite._roles import RolePair
    from pend_storage.reports import BackfillReport, ValidationReport

__all__ = ["AsyncDualWriteMixin"]


class AsyncDualWriteMixin:
    """Methods of :class:`~pend_storage.dualwrite.DualWriteStore`, awaited.

    They can take long, so each runs in a thread of the loop's own executor, and takes no
    thread from the store's calls. Cancelled, they go on to their end.

    All raise ``ConfigError`` over a store that is not a pair.
    """

    _store: Store

    async def phase(self) -> Phase:
        """Return the phase: during a switch the one before it, until the new one is open."""
        self._require("phase")
        phase: Phase = await asyncio.to_thread(getattr, self._store, "phase")
        return phase

    async def roles(self) -> RolePair:
        """Read the roles of both stores; None for one that cannot be reached."""
        view: RolePair = await self._ask("roles")
        return view

    async def readiness(self, phase: Phase | str) -> Readiness:
        """Return the blockers of a phase, and the steps that would lead there."""
        readiness: Readiness = await self._ask("readiness", phase)
        return readiness

    async def switch(
        self,
        phase: Phase | str,
        *,
        accept: Iterable[str] = (),
        timeout: float = 30.0,  # noqa: ASYNC109 - the switch's own, which undoes it
        by: str | None = None,
        reason: str | None = None,
    ) -> SwitchReport:
        """Switch to a phase, through those between, under live traffic."""
        report: SwitchReport = await self._ask(
            "switch", phase, accept=accept, timeout=timeout, by=by, reason=reason
        )
        return report

    async def note_backup(
        self,
        id: str,  # noqa: A002 - the name that backups have everywhere
        point: LogPoint,
        *,
        at: datetime,
        verified_at: datetime,
    ) -> None:
        """Record a verified backup at a position, for readiness; ``at`` is its time."""
        await self._ask("note_backup", id, point, at=at, verified_at=verified_at)

    async def history(self) -> tuple[Switch, ...]:
        """Return the latest switches, oldest first."""
        found: tuple[Switch, ...] = await self._ask("history")
        return found

    async def recover(self) -> RolePair:
        """Finish or undo a half-done switch, without waiting for its heartbeat to stop."""
        view: RolePair = await self._ask("recover")
        return view

    async def backfill(
        self,
        *,
        progress: Progress | None = None,
        rate: float | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> BackfillReport:
        """Backfill: copy what was there before the secondary began to follow; resumable.

        Args:
            progress: called in the thread.
            rate: records per second at most; None for no limit.
            by: who began it; None: the author of this context, or user, machine, process.
            reason: of the job.
        """
        report: BackfillReport = await self._ask(
            "backfill", progress=progress, rate=rate, by=by, reason=reason
        )
        return report

    async def validate(
        self,
        *,
        sample: float | None = None,
        progress: Progress | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> ValidationReport:
        """Compare every record by value, in both directions; report certain divergences."""
        report: ValidationReport = await self._ask(
            "validate", sample=sample, progress=progress, by=by, reason=reason
        )
        return report

    async def repair(
        self,
        *,
        dry_run: bool = False,
        by: str | None = None,
        reason: str | None = None,
    ) -> RepairReport:
        """Repair the secondary from the primary, wherever a divergence is certain."""
        report: RepairReport = await self._ask(
            "repair", dry_run=dry_run, by=by, reason=reason
        )
        return report

    async def divergences(self, *, closed: bool = False) -> tuple[Finding, ...]:
        """Return the open findings of all processes, by the time they were first seen."""
        found: tuple[Finding, ...] = await self._ask("divergences", closed=closed)
        return found

    async def compared(self) -> Compared:
        """Return the counters of compared reads: sampled, dropped, confirmed."""
        counts: Compared = await self._ask("compared")
        return counts

    async def compared_totals(self) -> ComparedTotals | None:
        """Return the counters of the compared reads of all processes; None: there are none."""
        totals: ComparedTotals | None = await self._ask("compared_totals")
        return totals

    async def accept_divergences(
        self, ids: Iterable[str], *, by: str | None = None, reason: str
    ) -> tuple[Finding, ...]:
        """Accept open findings: the stores may differ there, as they do now."""
        found: tuple[Finding, ...] = await self._ask(
            "accept_divergences", tuple(ids), by=by, reason=reason
        )
        return found

    async def acceptances(self) -> Mapping[str, Acceptance]:
        """Return who accepted which findings, and why, by the ids of the findings."""
        known: Mapping[str, Acceptance] = await self._ask("acceptances")
        return known

    async def catch_up(self) -> int:
        """Drain the change log into the secondary now; return the number of commits."""
        count: int = await self._ask("catch_up")
        return count

    async def prune_logs(self) -> None:
        """Drop entries of both logs that are older than the retention, and applied."""
        await self._ask("prune_logs")

    async def lag(self) -> Lag:
        """Measure the lag of the secondary; out of reach, from the last mark known here."""
        lag: Lag = await self._ask("lag")
        return lag

    async def _ask(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        self._require(verb)
        method = getattr(self._store, verb)
        return await asyncio.to_thread(partial(method, *args, **kwargs))

    def _require(self, verb: str) -> None:
        if not hasattr(type(self._store), verb):
            raise ConfigError(
                f"{verb}() is for a pair of stores, and this is a "
                f"{type(self._store).__name__}: wrap a DualWriteStore, which open_store() "
                "returns where both sides are configured."
            )
