"""Asynchronous verbs of a pair of stores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from pend_storage.errors import ConfigError
from pend_storage.events import Progress
from pend_storage.phases import Phase
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.dualwrite import (
        Compared,
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
    """The verbs of :class:`~pend_storage.dualwrite.DualWriteStore` with ``await``.

    They can take long, so each runs in a thread of the loop's own executor and keeps no
    thread from the store's calls. Cancelled, they go on to their end.

    All raise ``ConfigError`` over a store that is not a pair.
    """

    _store: Store

    async def phase(self) -> Phase:
        """The phase; in the middle of a switch, the one that still or already holds."""
        self._require("phase")
        phase: Phase = await asyncio.to_thread(getattr, self._store, "phase")
        return phase

    async def roles(self) -> RolePair:
        """The roles of both stores as they are; None for one that cannot be reached."""
        view: RolePair = await self._ask("roles")
        return view

    async def readiness(self, phase: Phase | str) -> Readiness:
        """What stands in the way of a phase, and the steps that would lead there."""
        readiness: Readiness = await self._ask("readiness", phase)
        return readiness

    async def switch(
        self,
        phase: Phase | str,
        *,
        accept: Iterable[str] = (),
        timeout: float = 30.0,  # noqa: ASYNC109 - the switch's own, which undoes it
        by: str | None = None,
    ) -> SwitchReport:
        """Move to a phase, through those between, under live traffic."""
        report: SwitchReport = await self._ask(
            "switch", phase, accept=accept, timeout=timeout, by=by
        )
        return report

    async def history(self) -> tuple[Switch, ...]:
        """The latest switches, oldest first."""
        found: tuple[Switch, ...] = await self._ask("history")
        return found

    async def recover(self) -> RolePair:
        """Finish or undo a switch that was left half done, without waiting."""
        view: RolePair = await self._ask("recover")
        return view

    async def backfill(
        self, *, progress: Progress | None = None, rate: float | None = None
    ) -> BackfillReport:
        """Copy what was there before the secondary began to follow; resumable.

        Args:
            progress: called in the thread.
            rate: rows a second at most.
        """
        report: BackfillReport = await self._ask(
            "backfill", progress=progress, rate=rate
        )
        return report

    async def validate(
        self, *, sample: float | None = None, progress: Progress | None = None
    ) -> ValidationReport:
        """Compare every record by value, in both directions; only certain ones count."""
        report: ValidationReport = await self._ask(
            "validate", sample=sample, progress=progress
        )
        return report

    async def repair(self, *, dry_run: bool = False) -> RepairReport:
        """Bring the secondary in line with the primary, wherever it certainly is not."""
        report: RepairReport = await self._ask("repair", dry_run=dry_run)
        return report

    async def divergences(self, *, closed: bool = False) -> tuple[Finding, ...]:
        """What was found to differ, by any process, and is not known to be equal since."""
        found: tuple[Finding, ...] = await self._ask("divergences", closed=closed)
        return found

    async def compared(self) -> Compared:
        """How many reads were compared, dropped, found different, and certainly so."""
        counts: Compared = await self._ask("compared")
        return counts

    async def catch_up(self) -> int:
        """Apply the rest of the change log now; returns how many commits that were."""
        count: int = await self._ask("catch_up")
        return count

    async def lag(self) -> Lag:
        """How far the secondary is behind; out of reach, as far as is known here."""
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
                "gives where both sides are configured."
            )
