"""Facts about backups, as status and doctor show them."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pend_storage.operations.backup.archive import archive_once
from pend_storage.operations.backup.create import create_backup
from pend_storage.operations.backup.drill import drill
from pend_storage.operations.backup.facts import BackupFacts, BackupProbe
from pend_storage.operations.doctor import examine
from pend_storage.operations.status import StatusProbe

from .environments import Environment, an_environment


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    made = an_environment(tmp_path)
    made.put("a", "b")
    return made


def facts(env: Environment) -> BackupFacts:
    with StatusProbe(env.settings) as probe:
        found = probe.status().backup
    assert found is not None
    return found


def findings(env: Environment) -> dict[str, str]:
    return {f.check: f"{f.state}: {f.message}" for f in examine(env.settings).findings}


def test_what_never_happened_is_null(env: Environment) -> None:
    document = env.document("status", code=1)

    found = document["backup"]
    assert found["problem"] is None
    assert (found["last_good"], found["drill"], found["window"]) == (None, None, None)
    assert found["failure"] is None
    assert found["is_old"] is True
    text = env.run("status").out
    assert "last good backup  never" in " ".join(text.split("\n")).replace("   ", "  ")
    assert findings(env)["backups"] == "fail: there is no good backup"


def test_the_facts_of_a_good_environment(env: Environment) -> None:
    made = create_backup(env.settings).manifest
    archive_once(env.settings)
    drill(env.settings, to="latest")

    found = facts(env)

    assert found.is_well
    assert found.last_good is not None
    assert found.last_good.id == made.id
    assert found.last_good.age_seconds < 3_600
    assert found.window is not None
    assert found.window.earliest_sequence == made.point.sequence
    assert found.archive is not None
    assert (found.archive.commits, found.archive.seconds) == (0, 0.0)
    assert found.drill is not None
    assert found.drill.outcome == "ok"
    assert found.next_run is not None
    assert found.bytes
    assert found.free_bytes
    good = findings(env)
    assert {good[n][:3] for n in ("backups", "archive", "drill")} == {"ok:"}
    assert "RTO" in env.run("status").out


def test_the_archive_lags_by_commits_and_seconds(env: Environment) -> None:
    create_backup(env.settings)
    archive_once(env.settings)
    env.put("c", "d")

    lag = facts(env).archive

    assert lag is not None
    assert lag.commits == 2
    assert lag.seconds is not None
    assert lag.seconds > 0


def test_a_backup_that_is_too_old_is_no_good_state(env: Environment) -> None:
    create_backup(env.settings)
    env.write('max_age = "0.001s"')

    assert facts(env).is_old
    assert "too old" in findings(env)["backups"]
    assert env.run("status").code == 1


def test_damage_is_said_and_clears(env: Environment) -> None:
    old = create_backup(env.settings).manifest
    new = create_backup(env.settings).manifest
    env.catalog.add_fact(new.id, "verified", ok=False, detail={})

    found = facts(env)

    assert found.damaged == 1
    assert found.last_good is not None
    assert found.last_good.id == old.id
    assert "backup damage" in findings(env)
    env.catalog.add_fact(new.id, "verified", ok=True, detail={})
    assert facts(env).damaged == 0


def test_a_failed_run_is_forgotten_once_a_backup_is_good(env: Environment) -> None:
    create_backup(env.settings)
    detail: dict[str, Any] = {"environment": "development", "message": "it is full"}
    env.catalog.add_fact("schedule", "failed", ok=False, detail=detail)
    assert facts(env).failure == "it is full"
    assert "it is full" in findings(env)["backup schedule"]

    create_backup(env.settings)

    assert facts(env).failure is None


def test_a_repository_out_of_reach_does_not_fail_status(env: Environment) -> None:
    create_backup(env.settings)
    place = env.folder / "repository"
    (place / "repository.json").write_text("{", encoding="utf-8")

    found = facts(env)

    assert found.problem is not None
    assert found.last_good is None
    assert env.run("status").code == 0
    assert "cannot be read" in env.run("status").out
    assert findings(env)["backups"].startswith("fail")


def test_what_was_read_is_kept_and_ages(env: Environment) -> None:
    create_backup(env.settings)
    probe = BackupProbe(env.settings)
    first = probe.facts().last_good
    shutil.rmtree(env.folder / "repository")

    again = probe.facts().last_good

    assert first is not None
    assert again is not None
    assert again.id == first.id
    assert again.age_seconds >= first.age_seconds
    assert timedelta(seconds=again.age_seconds) < timedelta(hours=1)


def test_without_a_repository_there_are_no_facts(env: Environment) -> None:
    env.config.write_text(
        env.config.read_text(encoding="utf-8").split(
            "[environments.development.backup]"
        )[0],
        encoding="utf-8",
    )

    with StatusProbe(env.settings) as probe:
        assert probe.status().backup is None
    assert env.document("status")["backup"] is None
