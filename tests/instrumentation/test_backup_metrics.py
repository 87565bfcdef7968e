"""Metrics of backups: what never happened has no sample, and each event moves its own."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
from prometheus_client import CollectorRegistry
from typing_extensions import override

from pend_storage.instrumentation import PairCollector
from pend_storage.operations.backup import facts as backup_facts
from pend_storage.operations.backup.archive import archive_once
from pend_storage.operations.backup.create import create_backup
from pend_storage.operations.backup.drill import drill
from pend_storage.operations.status import StatusProbe
from tests.backup.environments import Environment, an_environment

from .scrapes import Sample, one, scrape


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    made = an_environment(tmp_path)
    made.put("a", "b")
    return made


def facts(env: Environment) -> list[Sample]:
    registry = CollectorRegistry()
    with StatusProbe(env.settings) as probe:
        registry.register(PairCollector(probe.status))
        return scrape(registry)


def test_what_never_happened_has_no_sample(env: Environment) -> None:
    found = {name for name, *_ in facts(env) if "backup" in name}

    assert found == {"pend_backup_failures_total"}


def test_a_backup_an_archive_and_a_drill_show(env: Environment) -> None:
    before = time.time()
    create_backup(env.settings)
    archive_once(env.settings)
    drill(env.settings, to="latest")

    found = facts(env)

    times = (
        "last_success_timestamp",
        "last_verified_timestamp",
        "last_drill_timestamp",
        "restore_window_earliest",
        "restore_window_latest",
    )
    for name in times:
        assert before - 60 <= one(found, f"pend_backup_{name}") <= time.time() + 1, name
    assert 0 <= one(found, "pend_storage_backup_age_seconds") < 600
    assert one(found, "pend_backup_last_drill_success") == 1
    assert one(found, "pend_backup_last_drill_rto_seconds") > 0
    assert one(found, "pend_backup_last_drill_rpo_seconds") >= 0
    assert one(found, "pend_backup_archive_lag_commits") == 0
    assert one(found, "pend_backup_archive_lag_seconds") == 0
    assert one(found, "pend_backup_repository_bytes") > 0
    assert one(found, "pend_backup_failures_total") == 0


def test_an_old_backup_shows_its_age(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_backup(env.settings)

    class Later(datetime):
        @classmethod
        @override
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(days=3)

    monkeypatch.setattr(backup_facts, "datetime", Later)

    age = one(facts(env), "pend_storage_backup_age_seconds")
    assert 3 * 24 * 3600 <= age < 3 * 24 * 3600 + 600


def test_commits_that_are_not_archived_show(env: Environment) -> None:
    create_backup(env.settings)
    archive_once(env.settings)

    env.put("c", "d", "e")

    found = facts(env)
    assert one(found, "pend_backup_archive_lag_commits") >= 3
    assert one(found, "pend_backup_archive_lag_seconds") > 0


def test_failed_runs_are_counted_also_after_a_good_backup(env: Environment) -> None:
    create_backup(env.settings)
    for number in range(2):
        detail = {"environment": "development", "message": f"it is full {number}"}
        env.catalog.add_fact("schedule", "failed", ok=False, detail=detail)
    other = {"environment": "staging", "message": "of another environment"}
    env.catalog.add_fact("schedule", "failed", ok=False, detail=other)

    assert one(facts(env), "pend_backup_failures_total") == 2
    create_backup(env.settings)
    assert one(facts(env), "pend_backup_failures_total") == 2


def test_a_repository_out_of_reach_has_no_samples(env: Environment) -> None:
    create_backup(env.settings)
    (env.folder / "repository" / "repository.json").write_text("{", encoding="utf-8")

    assert not [name for name, *_ in facts(env) if "backup" in name]
