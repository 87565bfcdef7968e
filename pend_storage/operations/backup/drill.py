"""Drill of an environment: a trial restore into a throw-away store, measured and compared."""

from __future__ import annotations

import contextlib
import random
import secrets
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from pend_storage.backup._catalog import Catalog
from pend_storage.backup._drill import (
    Drill,
    OverBudget,
    Stopwatch,
    estimates,
    examine,
    first_read,
    is_of_the_backup,
    random_target,
    verdict,
)
from pend_storage.backup._manifest import Point
from pend_storage.backup._reachable import archive_of
from pend_storage.backup._repository import Repository
from pend_storage.backup._restore import RestoreReport, in_use, restore
from pend_storage.backup._standing import DRILLED
from pend_storage.backup._streams import Keys
from pend_storage.backup._target import Resolved
from pend_storage.backup._window import windows
from pend_storage.config import Settings
from pend_storage.errors import ConfigError, JobCancelled, PendStorageError
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.backup.restore import find_target
from pend_storage.operations.backup.scratch import Scratch, scratch_store
from pend_storage.operations.backup.side import live_stores
from pend_storage.operations.jobs import settings_job, staged
from pend_storage.operations.progress import Stage, silent

__all__ = ["LEASE", "To", "drill"]

To: TypeAlias = Literal["random", "latest"]

LEASE: Final = "drill"
_DEFAULT_BUDGET: Final = 3_600.0


def drill(
    settings: Settings,
    *,
    to: To = "random",
    into: str | None = None,
    budget: float | None = None,
    seed: int | None = None,
    record: bool = True,
    stage: Stage = silent,
    by: str | None = None,
    reason: str | None = None,
) -> Drill:
    """Restore to a throw-away store, compare, measure, and remove it.

    Args:
        settings: of the environment.
        to: a random restorable point, or the latest one.
        into: folder or database for the store; None: the folder for temporary files.
        budget: seconds after which it ends; None: backup.rto, or an hour.
        seed: of the random point; None: a new one.
        record: add the result as a fact.
        stage: gets the progress.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: no repository is configured, or a key cannot be used.
        LockTimeout: another drill is under way.
        StoreUnavailable: the repository cannot be reached.
    """
    wanted = settings.require_backup()
    repository, keys = open_repository(settings), keys_of(settings)
    if budget is None:
        given = wanted.rto
        budget = _DEFAULT_BUDGET if given is None else given.total_seconds()
    seed = secrets.randbelow(1 << 32) if seed is None and to == "random" else seed
    with contextlib.ExitStack() as held:
        with contextlib.suppress(ConfigError):  # no right to write: one that only reads
            held.enter_context(repository.lease(LEASE))
        job = held.enter_context(settings_job(settings, "drill", by=by, reason=reason))
        work = _Drill(settings, repository, keys, Stopwatch(budget))
        result = work.run(to, seed, into, staged(job, stage))
        job.finish(f"{result.outcome}: {result.reason or 'as it should be'}")
        if record and work.found is not None:
            with contextlib.suppress(PendStorageError):
                Catalog(repository).add_fact(
                    work.found.backup.id,
                    DRILLED,
                    ok=result.outcome == "ok",
                    detail=result.to_fact(),
                )
    return result


class _Drill:
    """Drill under way: what it has reached so far."""

    def __init__(
        self, settings: Settings, repository: Repository, keys: Keys, watch: Stopwatch
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._catalog = Catalog(repository)
        self._keys = keys
        self._watch = watch
        self._scratch = ""
        self._target: str | None = None
        self._report: RestoreReport | None = None
        self._rto: float | None = None
        self._nothing = False
        self.found: Resolved | None = None

    def run(self, to: To, seed: int | None, into: str | None, stage: Stage) -> Drill:
        """Run the drill; whatever happens, there is a result."""
        wanted = self._settings.require_backup()
        rpo = self._rpo()
        reason, outcome, damaged = None, "ok", False
        try:
            self._restore(to, seed, into, stage)
        except OverBudget:
            took = self._watch.elapsed
            reason = f"it was not done after {took:,.0f} s, which was its budget"
            is_late = wanted.rto is not None and took > wanted.rto.total_seconds()
            outcome = "failed" if is_late and self._rto is None else "inconclusive"
        except JobCancelled:
            raise  # it says nothing about the backup
        except (PendStorageError, FileNotFoundError) as error:
            damaged = is_of_the_backup(error) or self._nothing
            reason, outcome = str(error), "failed" if damaged else "inconclusive"
        spoiled = self._catalog.damaged()
        if outcome == "ok" and spoiled:
            outcome = "failed"
            reason = f"{len(spoiled):,} objects of the repository are damaged: {spoiled[0].name}"
        missed = verdict(
            rto_seconds=self._rto, rpo_seconds=rpo, rto=wanted.rto, rpo=wanted.rpo
        )
        if outcome == "ok" and missed is not None:
            outcome, reason = "failed", missed
        return self._result(outcome, reason, damaged=damaged, seed=seed, rpo=rpo)  # type: ignore[arg-type]

    def _result(
        self,
        outcome: Literal["ok", "failed", "inconclusive"],
        reason: str | None,
        *,
        damaged: bool,
        seed: int | None,
        rpo: float | None,
    ) -> Drill:
        report, found = self._report, self.found
        soon, large = estimates(report, self._rto, self._present())
        return Drill(
            outcome=outcome,
            reason=reason,
            damaged=damaged,
            seed=seed,
            target=self._target,
            backup=None if found is None else found.backup.id,
            sequence=None if found is None else found.upto,
            at=None if found is None else found.at,
            scratch=self._scratch,
            rto_seconds=self._rto,
            rpo_seconds=rpo,
            rows=0 if report is None else report.rows,
            changes=0 if report is None else report.changes,
            rate=None if report is None else report.rate,
            stages=self._watch.stages,
            estimate_seconds=soon,
            estimate_large_seconds=large,
        )

    # -- restoring -----------------------------------------------------------------------

    def _restore(
        self, to: To, seed: int | None, into: str | None, stage: Stage
    ) -> None:
        settings, watch = self._settings, self._watch
        archive = archive_of(
            self._catalog, self._keys, environment=settings.environment
        )
        self._nothing = all(archive.is_damaged(r.backup) for r in archive.reaches)
        rng = random.Random(seed)  # noqa: S311 - to be repeated, no secret
        self._target = random_target(archive, rng) if to == "random" else to
        self.found = find_target(settings, self._target, self._catalog, self._keys)
        watch.ended("finding the position")
        with scratch_store(settings, self._repository, into) as scratch:
            self._scratch = scratch.label
            self._fill_and_examine(scratch, self.found, stage)

    def _fill_and_examine(
        self, scratch: Scratch, found: Resolved, stage: Stage
    ) -> None:
        watch, catalog, keys = self._watch, self._catalog, self._keys
        scratch.prepare()
        watch.ended("preparing the store")
        with (
            stage("restoring", unit="rows and commits") as progress,
            scratch.open() as store,
        ):

            def on_progress(done: int, total: int) -> None:
                watch.check()
                if progress is not None:
                    progress(done, total)

            self._report = report = restore(
                found, catalog, keys, store, progress=on_progress
            )
        watch.ended("restoring")
        # Opened anew, as a server does: what counts is what was stored.
        with scratch.open() as store, in_use(self._repository, found.backup):
            first_read(store, report)
            watch.ended("opening and first read")
            self._rto = watch.elapsed
            with stage("comparing"):
                examine(store, found, report, catalog, keys)

    # -- what is known besides -----------------------------------------------------------

    def _latest(self) -> Point | None:
        """Return the last point that can be restored."""
        own = [
            b
            for b in self._catalog.backups()
            if b.environment == self._settings.environment and b.kind == "snapshot"
        ]
        ends = [w.latest for w in windows(own, self._catalog.segments())]
        return max(ends, key=lambda p: (p.epoch, p.sequence, p.at), default=None)

    def _rpo(self) -> float | None:
        """Return the age of the oldest commit that cannot be restored, in seconds."""
        latest = self._latest()
        if latest is None:
            return None
        now = datetime.now(UTC)
        with live_stores(self._settings) as live, contextlib.suppress(PendStorageError):
            pending = [store.pending(latest.sequence).oldest for store in live]
            if pending:
                lost = [(now - at).total_seconds() for at in pending if at is not None]
                return max(0.0, *lost) if lost else 0.0
        return max(0.0, (now - datetime.fromisoformat(latest.at)).total_seconds())

    def _present(self) -> int:
        """Count the rows and commits that a restore to the latest position reads."""
        own = [
            b
            for b in self._catalog.backups()
            if b.environment == self._settings.environment and b.kind == "snapshot"
        ]
        found = windows(own, self._catalog.segments())
        if not found:
            return 0
        newest = max(found, key=lambda w: (w.earliest.epoch, w.earliest.sequence))
        facts = newest.backup.collections.values()
        return sum(f.rows + f.tombstones for f in facts) + sum(
            s.entries for s in newest.segments
        )
