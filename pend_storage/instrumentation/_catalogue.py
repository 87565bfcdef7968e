"""Catalogue of the metrics: name, type, labels and meaning of each. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["METRICS", "Kind", "Metric", "Source", "of_source"]

Source: TypeAlias = Literal["calls", "pair", "backups"]
"""Who exports it: each process with instruments, or the one with the pair's collector."""

Kind: TypeAlias = Literal["gauge", "counter", "histogram", "summary"]
"""Type of a metric, as Prometheus calls it."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as it is exported."""

    source: Source
    name: str
    """Name of its samples; of a histogram and a summary without the suffix."""
    kind: Kind
    labels: tuple[str, ...]
    """Beside ``environment``, which every metric has."""
    meaning: str
    """One sentence."""


def _calls(name: str, kind: Kind, labels: str, meaning: str) -> Metric:
    return _metric("calls", f"pend_storage_{name}", kind, labels, meaning)


def _pair(name: str, kind: Kind, labels: str, meaning: str) -> Metric:
    return _metric("pair", f"pend_storage_{name}", kind, labels, meaning)


def _backup(name: str, kind: Kind, meaning: str) -> Metric:
    return _metric("backups", f"pend_backup_{name}", kind, "", meaning)


def _metric(source: Source, name: str, kind: Kind, labels: str, meaning: str) -> Metric:
    return Metric(source, name, kind, tuple(labels.split()), meaning)


_CALL: Final = "operation collection store"

METRICS: Final[tuple[Metric, ...]] = (
    _calls(
        "operation_duration_seconds",
        "histogram",
        "operation store",
        "Duration of the calls of users.",
    ),
    _calls("operations_total", "counter", _CALL, "Calls of users."),
    _calls(
        "operation_seconds_total", "counter", _CALL, "Seconds spent in calls of users."
    ),
    _calls(
        "operation_errors_total",
        "counter",
        f"{_CALL} error",
        "Calls that raised an exception, by its class.",
    ),
    _calls("conflicts_total", "counter", "", "Calls that ended in a conflict."),
    _calls(
        "merged_commits",
        "summary",
        "",
        "Commits that one transaction of the store made together.",
    ),
    _calls(
        "relay_applied_total",
        "counter",
        "",
        "Commits that the relay of this process applied to the secondary.",
    ),
    _calls("events_total", "counter", "event", "Events, by name."),
    _calls(
        "client_info", "gauge", "version python", "Version of this process; always 1."
    ),
    _pair("phase", "gauge", "phase", "1 for the phase of the pair, 0 for the others."),
    _pair(
        "wanted_phase",
        "gauge",
        "phase",
        "1 for the phase that the flag wants, 0 for the others.",
    ),
    _pair(
        "role", "gauge", "store role", "1 for the role of a store, 0 for the others."
    ),
    _pair("epoch", "gauge", "store", "Epoch of the role of a store."),
    _pair(
        "store_up",
        "gauge",
        "store role",
        "1 if a store can be reached, else 0; with its role, or the last known one.",
    ),
    _pair(
        "lag_seconds",
        "gauge",
        "",
        "Age of the oldest commit that the secondary lacks; +Inf if it is not known.",
    ),
    _pair("lag_commits", "gauge", "", "Commits that the secondary lacks."),
    _pair("replication_blocked", "gauge", "", "1 if the relay cannot go on, else 0."),
    _pair(
        "change_log_retention_seconds",
        "gauge",
        "",
        "Time for which applied commits stay in the change log.",
    ),
    _pair("divergences_open", "gauge", "", "Confirmed divergences that are open."),
    _pair(
        "quarantine_waiting", "gauge", "", "Quarantined records that need a decision."
    ),
    _pair(
        "blocker",
        "gauge",
        "phase code",
        "1 for each blocker of the next phase.",
    ),
    _pair(
        "compared_total",
        "counter",
        "outcome",
        "Compared reads of all processes, by outcome.",
    ),
    _pair("job_done", "gauge", "kind", "Records that a running job has done."),
    _pair("job_total", "gauge", "kind", "Records that a running job has to do."),
    _pair("job_eta_seconds", "gauge", "kind", "Seconds to the end of a running job."),
    _pair(
        "job_throttled_seconds",
        "gauge",
        "kind reason",
        "Seconds for which a running job was throttled.",
    ),
    _pair(
        "last_validation_timestamp_seconds",
        "gauge",
        "",
        "Time of the last validation of all records, whatever it found.",
    ),
    _pair(
        "backup_age_seconds", "gauge", "", "Age of the state in the last good backup."
    ),
    _pair(
        "switch_pause_seconds",
        "histogram",
        "",
        "Time for which writes waited in a switch.",
    ),
    _pair(
        "checkpoint_age_seconds",
        "gauge",
        "",
        "Age of the oldest commit that a legacy file does not show; 0 if all do.",
    ),
    _pair("journal_bytes", "gauge", "", "Bytes of the journal of the JSON store."),
    _pair("look_seconds", "gauge", "", "Duration of the look that found these facts."),
    _pair(
        "look_failures_total",
        "counter",
        "",
        "Looks that failed, so that no fact of the pair is exported.",
    ),
    _pair(
        "build_info", "gauge", "version python", "Version of the exporter; always 1."
    ),
    _backup(
        "last_success_timestamp",
        "gauge",
        "Time of the state in the last good backup.",
    ),
    _backup(
        "last_verified_timestamp", "gauge", "Time when that backup was verified last."
    ),
    _backup("last_drill_timestamp", "gauge", "Time of the last drill."),
    _backup("last_drill_success", "gauge", "1 if the last drill succeeded, else 0."),
    _backup(
        "last_drill_rto_seconds", "gauge", "Duration of the restore in the last drill."
    ),
    _backup(
        "last_drill_rpo_seconds", "gauge", "Loss, in time, that the last drill showed."
    ),
    _backup("archive_lag_commits", "gauge", "Commits that are not archived."),
    _backup(
        "archive_lag_seconds", "gauge", "Age of the oldest commit that is not archived."
    ),
    _backup("restore_window_earliest", "gauge", "Earliest time that can be restored."),
    _backup("restore_window_latest", "gauge", "Latest time that can be restored."),
    _backup(
        "failures_total", "counter", "Failed runs of the schedule, in the repository."
    ),
    _backup("repository_bytes", "gauge", "Bytes that the manifests name."),
)


def of_source(*sources: Source) -> dict[str, Metric]:
    """Return the metrics of sources, by name."""
    return {metric.name: metric for metric in METRICS if metric.source in sources}
