"""Collector of the facts of a pair: by one look for each scrape."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from time import perf_counter
from typing import Any, Final

from pend_storage.instrumentation._catalogue import of_source
from pend_storage.instrumentation._families import (
    Family,
    Samples,
    build_labels,
    described,
)
from pend_storage.phases import Phase, Role

__all__ = ["PairCollector"]

_METRICS: Final = of_source("pair", "backups")
_PHASES: Final = tuple(phase.value for phase in Phase)
_ROLES: Final = tuple(role.value for role in Role)
_PAUSES: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets of pauses, in seconds."""
_UNKNOWN: Final = "unknown"
_OUTCOMES: Final = (
    "sampled",
    "dropped",
    "compared",
    "skipped",
    "rechecked",
    "confirmed",
)
"""Outcomes of compared reads."""
_ACTIVE: Final = frozenset({"running", "paused"})
"""States of a job whose progress is exported."""


class PairCollector:
    """Collector of the facts of a pair of stores, by one look for each scrape.

    For one process of an environment, the exporter; the other processes export their calls.
    A fact that is not known has no sample: an alert on it goes off by ``absent``.

    .. code-block:: python

        with StatusProbe(settings) as probe:
            registry.register(PairCollector(probe.status))
    """

    def __init__(self, look: Callable[[], Any]) -> None:
        """Collect from a look.

        Args:
            look: returns an :class:`~pend_storage.operations.status.EnvironmentStatus`.
                If it raises, the scrape has no facts of the pair, and
                ``pend_storage_look_failures_total`` grows.
        """
        self._look = look
        self._lock = threading.Lock()
        """One look at a time: two scrapes must not count a switch twice."""
        self._failures = 0
        self._environment = ""
        self._roles: dict[str, str] = {}
        """Last known role of each store."""
        self._pauses = _Pauses()

    def describe(self) -> Iterable[Family]:
        """Return the families without samples, for the registry."""
        return described(_METRICS)

    def collect(self) -> Iterator[Family]:
        """Look, and return the families with samples. Never raises."""
        with self._lock:
            started = perf_counter()
            try:
                status = self._look()
                samples = self._samples(status)
            except Exception:  # noqa: BLE001 - the other metrics of the scrape go on
                self._failures += 1
                samples = Samples(_METRICS, environment=self._environment)
            else:
                samples.add("pend_storage_look_seconds", perf_counter() - started)
            samples.add("pend_storage_look_failures_total", self._failures)
            samples.add("pend_storage_build_info", 1.0, **build_labels())
            return samples.families()

    def _samples(self, status: Any) -> Samples:
        self._environment = status.environment
        samples = Samples(_METRICS, environment=status.environment)
        if status.phase is not None:
            phase = status.phase.value
            samples.choose("pend_storage_phase", phase, _PHASES, "phase")
        if status.flag.wanted is not None:
            wanted = status.flag.wanted.value
            samples.choose("pend_storage_wanted_phase", wanted, _PHASES, "phase")
        for store, facts in (("json", status.json), ("postgres", status.postgres)):
            if facts is not None:
                self._add_store(samples, status.phase, store, facts)
        samples.add(
            "pend_storage_change_log_retention_seconds",
            getattr(status, "retention_seconds", None),
        )
        if status.details is not None:
            _add_replication(samples, status.details)
            self._pauses.add(status.details.history)
            self._pauses.show(samples)
        compared = getattr(status, "compared", None)
        for outcome in _OUTCOMES if compared is not None else ():
            number = getattr(compared, outcome)
            samples.add("pend_storage_compared_total", number, outcome=outcome)
        _add_jobs(samples, getattr(status, "jobs", ()))
        if status.backup is not None and status.backup.problem is None:
            _add_backup(samples, status.backup)
        return samples

    def _add_store(
        self, samples: Samples, phase: Phase | None, store: str, facts: Any
    ) -> None:
        role = self._role(phase, store, facts.role)
        samples.add(
            "pend_storage_store_up",
            float(facts.problem is None),
            store=store,
            role=role,
        )
        if facts.role is not None:
            for choice in _ROLES:
                value = float(choice == facts.role.value)
                samples.add("pend_storage_role", value, store=store, role=choice)
        samples.add("pend_storage_epoch", facts.epoch, store=store)
        if store == "json" and facts.problem is None and facts.role is not None:
            age = max((file.seconds for file in facts.files), default=0.0)
            samples.add("pend_storage_checkpoint_age_seconds", age)
            journal = getattr(facts, "journal_bytes", None)
            samples.add("pend_storage_journal_bytes", journal)

    def _role(self, phase: Phase | None, store: str, role: Role | None) -> str:
        """Return the role of a store: of one that is out of reach, by the phase."""
        if role is None and phase is not None:
            role = phase.json_role if store == "json" else phase.postgres_role
        if role is not None:
            self._roles[store] = role.value
        return self._roles.get(store, _UNKNOWN)


class _Pauses:
    """Histogram of the pauses of switches; each switch counts once."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_PAUSES) + 1)
        self._sum = 0.0
        self._latest: tuple[int, datetime] | None = None

    def add(self, history: Iterable[Any]) -> None:
        """Count the switches after the latest one that was counted."""
        for switch in sorted(history, key=_when):
            if self._latest is not None and _when(switch) <= self._latest:
                continue
            self._latest = _when(switch)
            # Of switches that are folded to one entry, only the sum of the pauses is known.
            pause = switch.pause / switch.count
            self._counts[bisect_left(_PAUSES, pause)] += switch.count
            self._sum += switch.pause

    def show(self, samples: Samples) -> None:
        samples.add_histogram(
            "pend_storage_switch_pause_seconds", _PAUSES, self._counts, self._sum
        )


def _when(switch: Any) -> tuple[int, datetime]:
    return switch.epoch, switch.at


def _add_replication(samples: Samples, details: Any) -> None:
    lag = details.lag
    if lag is not None:
        samples.add("pend_storage_lag_seconds", lag.seconds)
        samples.add("pend_storage_lag_commits", lag.commits)
        blocked = float(lag.blocked is not None)
        samples.add("pend_storage_replication_blocked", blocked)
    samples.add("pend_storage_divergences_open", details.divergences)
    samples.add("pend_storage_quarantine_waiting", details.waiting)
    ahead = details.ahead
    for code in () if ahead is None else dict.fromkeys(b.code for b in ahead.blockers):
        samples.add("pend_storage_blocker", 1.0, phase=ahead.phase.value, code=code)
    at = details.validation.get("at") if _is_mapping(details.validation) else None
    if at is not None:
        seconds = datetime.fromisoformat(str(at)).timestamp()
        samples.add("pend_storage_last_validation_timestamp_seconds", seconds)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _add_jobs(samples: Samples, jobs: Iterable[Any]) -> None:
    """Add the jobs that run; of several of one kind, the one that began last."""
    latest: dict[str, Any] = {}
    for job in sorted(jobs, key=lambda job: job.started):
        if job.state in _ACTIVE:
            latest[job.kind] = job
    for kind, job in latest.items():
        samples.add("pend_storage_job_done", job.done, kind=kind)
        samples.add("pend_storage_job_total", job.total, kind=kind)
        samples.add("pend_storage_job_eta_seconds", job.eta_seconds, kind=kind)
        for reason, seconds in job.throttled.items():
            samples.add(
                "pend_storage_job_throttled_seconds", seconds, kind=kind, reason=reason
            )


def _add_backup(samples: Samples, backup: Any) -> None:
    good, drill, archive = backup.last_good, backup.drill, backup.archive
    if good is not None:
        samples.add("pend_storage_backup_age_seconds", good.age_seconds)
        samples.add("pend_backup_last_success_timestamp", good.at.timestamp())
        if good.verified_at is not None:
            verified = good.verified_at.timestamp()
            samples.add("pend_backup_last_verified_timestamp", verified)
    if drill is not None:
        samples.add("pend_backup_last_drill_timestamp", drill.at.timestamp())
        samples.add("pend_backup_last_drill_success", float(drill.outcome == "ok"))
        samples.add("pend_backup_last_drill_rto_seconds", drill.rto_seconds)
        samples.add("pend_backup_last_drill_rpo_seconds", drill.rpo_seconds)
    if archive is not None:
        samples.add("pend_backup_archive_lag_commits", archive.commits)
        samples.add("pend_backup_archive_lag_seconds", archive.seconds)
    if backup.window is not None:
        earliest, latest = backup.window.earliest, backup.window.latest
        samples.add("pend_backup_restore_window_earliest", earliest.timestamp())
        samples.add("pend_backup_restore_window_latest", latest.timestamp())
    samples.add("pend_backup_failures_total", backup.failures)
    samples.add("pend_backup_repository_bytes", backup.bytes)
