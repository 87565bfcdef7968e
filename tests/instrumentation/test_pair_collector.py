"""The collector of a pair's facts, by statuses that are made up."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Made
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry

from pend_storage.instrumentation import PairCollector
from pend_storage.instrumentation._catalogue import of_source
from pend_storage.phases import Phase, Role

from .scrapes import Sample, one, scrape

NOW: Final = datetime(2026, 11, 30, 12, tzinfo=UTC)
LATER: Final = NOW + timedelta(hours=1)


def a_store(role: Role | None, problem: str | None = None, **more: Any) -> Made:
    facts = {"role": role, "epoch": None if role is None else 7, "problem": problem}
    return Made(**{**facts, "files": (), "journal_bytes": 10, **more})


def a_job(kind: str = "backfill", **more: Any) -> Made:
    facts = {"state": "running", "started": NOW, "done": 3, "total": 10}
    return Made(**{"kind": kind, "eta_seconds": 9.0, "throttled": {}, **facts, **more})


def a_switch(epoch: int, pause: float, *, count: int = 1) -> Made:
    at = NOW + timedelta(minutes=epoch)
    return Made(epoch=epoch, at=at, pause=pause, count=count)


def a_status(**more: Any) -> Made:
    ahead = Made(
        phase=Phase.POSTGRES_PRIMARY,
        blockers=[Made(code="lag"), Made(code="backup"), Made(code="lag")],
    )
    details = Made(
        lag=Made(commits=4, seconds=2.5, blocked=None),
        divergences=1,
        waiting=2,
        ahead=ahead,
        validation={"at": NOW.isoformat(), "ok": True},
        history=(a_switch(2, 0.2), a_switch(3, 0.4)),
    )
    backup = Made(
        problem=None,
        last_good=Made(at=NOW, verified_at=LATER, age_seconds=5.0),
        drill=Made(at=NOW, outcome="failed", rto_seconds=3.0, rpo_seconds=1.0),
        archive=Made(commits=1, seconds=2.0),
        window=Made(earliest=NOW, latest=LATER),
        failures=1,
        bytes=100,
    )
    names = ("sampled", "dropped", "compared", "skipped", "rechecked", "confirmed")
    facts = {
        "environment": "production",
        "phase": Phase.PARALLEL,
        "flag": Made(wanted=Phase.POSTGRES_PRIMARY),
        "json": a_store(Role.PRIMARY),
        "postgres": a_store(Role.SECONDARY),
        "retention_seconds": 600.0,
        "details": details,
        "jobs": (a_job(throttled={"lag": 1.5}),),
        "compared": Made(**{name: n for n, name in enumerate(names)}),
        "backup": backup,
    }
    return Made(**{**facts, **more})


def collected(*statuses: Any) -> list[Sample]:
    """The last scrape of these looks, one after the other."""
    looks = iter(statuses)
    registry = CollectorRegistry()
    registry.register(PairCollector(lambda: next(looks)))
    found: list[Sample] = []
    for _ in statuses:
        found = scrape(registry)
    return found


def test_every_metric_of_a_pair_is_in_a_scrape() -> None:
    names = {name for name, *_ in collected(a_status())}

    for name, metric in of_source("pair", "backups").items():
        assert (f"{name}_bucket" if metric.kind == "histogram" else name) in names


def test_labels_are_those_of_the_catalogue() -> None:
    known = of_source("pair", "backups")
    for name, labels, _ in collected(a_status()):
        metric = known.get(name) or known[name.rpartition("_")[0]]
        assert set(labels) - {"le"} == {"environment", *metric.labels}, name


def test_values_are_those_of_the_status() -> None:
    found = collected(a_status())

    assert one(found, "pend_storage_wanted_phase", phase="postgres-primary") == 1
    assert one(found, "pend_storage_lag_seconds") == 2.5
    assert one(found, "pend_storage_lag_commits") == 4
    assert one(found, "pend_storage_blocker", code="lag") == 1
    assert one(found, "pend_storage_compared_total", outcome="confirmed") == 5
    assert one(found, "pend_storage_job_done", kind="backfill") == 3
    assert one(found, "pend_storage_job_total", kind="backfill") == 10
    assert one(found, "pend_storage_job_eta_seconds", kind="backfill") == 9
    throttled = {"kind": "backfill", "reason": "lag"}
    assert one(found, "pend_storage_job_throttled_seconds", **throttled) == 1.5
    assert one(found, "pend_backup_last_drill_success") == 0
    assert one(found, "pend_backup_last_success_timestamp") == NOW.timestamp()
    assert one(found, "pend_backup_restore_window_latest") == LATER.timestamp()


@pytest.mark.parametrize(
    ("phase", "roles"),
    [
        (Phase.PARALLEL, ("primary", "secondary")),
        (Phase.POSTGRES_PRIMARY, ("secondary", "primary")),
        (Phase.JSON_ONLY, ("primary", "detached")),
    ],
)
def test_a_store_out_of_reach_has_the_role_of_the_phase(
    phase: Phase, roles: tuple[str, str]
) -> None:
    away = a_store(None, "it does not answer")
    found = collected(a_status(phase=phase, json=away, postgres=away))

    for store, role in zip(("json", "postgres"), roles, strict=True):
        assert one(found, "pend_storage_store_up", store=store, role=role) == 0
    assert "pend_storage_role" not in {name for name, *_ in found}


def test_with_both_stores_out_of_reach_the_last_known_roles_count() -> None:
    away = a_store(None, "it does not answer")
    nothing = {"phase": None, "json": away, "postgres": away, "details": None}

    found = collected(a_status(), a_status(**nothing))
    assert one(found, "pend_storage_store_up", store="json", role="primary") == 0

    found = collected(a_status(**nothing))
    assert one(found, "pend_storage_store_up", store="json", role="unknown") == 0
    assert "pend_storage_phase" not in {name for name, *_ in found}


def test_a_lag_that_is_not_known_is_infinite_and_one_of_no_secondary_has_no_sample() -> (
    None
):
    status = a_status()
    status.details.lag = Made(commits=1, seconds=math.inf, blocked="no connection")
    found = collected(status)
    assert one(found, "pend_storage_lag_seconds") == math.inf
    assert one(found, "pend_storage_replication_blocked") == 1

    status.details.lag = None
    assert "pend_storage_lag_seconds" not in {name for name, *_ in collected(status)}


def test_each_switch_counts_once_however_often_it_is_seen() -> None:
    name = "pend_storage_switch_pause_seconds"
    first, second = a_status(), a_status()
    second.details.history = (a_switch(3, 0.4), a_switch(4, 40.0))
    found = collected(first, first, second, second)

    assert one(found, f"{name}_count") == 3
    assert one(found, f"{name}_sum") == pytest.approx(40.6)
    assert one(found, f"{name}_bucket", le="0.25") == 1
    assert one(found, f"{name}_bucket", le="0.5") == 2
    assert one(found, f"{name}_bucket", le="30.0") == 2
    assert one(found, f"{name}_bucket", le="+Inf") == 3


def test_folded_switches_count_as_many() -> None:
    status = a_status()
    status.details.history = (a_switch(9, 2.0, count=10),)
    found = collected(status)

    assert one(found, "pend_storage_switch_pause_seconds_count") == 10
    assert one(found, "pend_storage_switch_pause_seconds_bucket", le="0.25") == 10


@pytest.mark.parametrize("state", ["done", "failed", "died", "cancelled"])
def test_a_job_that_has_ended_shows_no_progress(state: str) -> None:
    found = collected(a_status(jobs=(a_job(state=state),)))

    assert not [name for name, *_ in found if "_job_" in name]


def test_of_two_jobs_of_one_kind_the_one_that_began_last_counts() -> None:
    jobs = (a_job(done=7, started=LATER), a_job(done=3), a_job("validate", done=1))
    found = collected(a_status(jobs=jobs))

    assert one(found, "pend_storage_job_done", kind="backfill") == 7
    assert one(found, "pend_storage_job_done", kind="validate") == 1


def test_what_a_job_does_not_know_has_no_sample() -> None:
    found = collected(a_status(jobs=(a_job(total=None, eta_seconds=None),)))
    names = {name for name, *_ in found}

    assert "pend_storage_job_done" in names
    assert not {"pend_storage_job_total", "pend_storage_job_eta_seconds"} & names


def test_a_status_of_an_older_probe_is_enough() -> None:
    status = a_status()
    del status.jobs, status.compared, status.retention_seconds
    del status.json.journal_bytes

    assert one(collected(status), "pend_storage_look_failures_total") == 0


def test_a_look_that_fails_once_is_followed_by_facts() -> None:
    looks = iter([OSError("a disk"), a_status()])

    def look() -> Any:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    registry = CollectorRegistry()
    registry.register(PairCollector(look))

    assert "pend_storage_phase" not in {name for name, *_ in scrape(registry)}
    found = scrape(registry)
    assert one(found, "pend_storage_look_failures_total") == 1
    assert one(found, "pend_storage_phase", phase="parallel") == 1


def test_scrapes_at_once_look_one_after_the_other() -> None:
    busy, most = 0, 0

    def look() -> Any:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        threading.Event().wait(0.02)
        busy -= 1
        return a_status()

    collector = PairCollector(look)
    threads = [
        threading.Thread(target=lambda: list(collector.collect())) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1


def test_a_second_collector_of_one_registry_is_refused() -> None:
    registry = CollectorRegistry()
    registry.register(PairCollector(a_status))

    with pytest.raises(ValueError, match="pend_storage_phase"):
        registry.register(PairCollector(a_status))


def test_registering_makes_no_look() -> None:
    def look() -> Any:
        pytest.fail("it looked")

    CollectorRegistry(auto_describe=True).register(PairCollector(look))
