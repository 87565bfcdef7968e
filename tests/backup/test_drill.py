"""Drills: three outcomes, broken backups, targets of time, and nothing is left behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pend_storage import crashpoints
from pend_storage.backup import _drill
from pend_storage.backup._drill import Drill, verdict
from pend_storage.backup._standing import standings
from pend_storage.operations.backup.archive import archive_once
from pend_storage.operations.backup.create import create_backup
from pend_storage.operations.backup.drill import drill
from pend_storage.store import Store
from pend_storage.testing import Report, run_until_crash
from pend_storage.testing.domain import Log, a_log

from .environments import Environment, an_environment


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    """An environment with a backup, and a log that goes on after it."""
    made = an_environment(tmp_path)
    made.put(*(f"before-{n}" for n in range(20)))
    create_backup(made.settings)
    made.put(*(f"after-{n}" for n in range(5)))
    with made.store() as store:
        store.collection(Log).delete("before-3")
    archive_once(made.settings)
    return made


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "scratch"
    place.mkdir()
    yield place
    assert list(place.iterdir()) == []


def drilled(env: Environment, scratch: Path, **more: Any) -> Drill:
    return drill(env.settings, into=str(scratch), **more)


def test_a_drill_of_the_latest_point(env: Environment, scratch: Path) -> None:
    result = drilled(env, scratch, to="latest")

    assert (result.outcome, result.reason) == ("ok", None)
    assert result.backup == env.ids[0]
    assert result.rows >= 20
    assert result.changes == 6
    assert result.rto_seconds is not None
    assert result.rto_seconds > 0
    assert result.rpo_seconds == 0
    assert result.bottleneck in result.stages
    assert result.estimate_large_seconds > (result.estimate_seconds or 0)  # type: ignore[operator]
    [fact] = [f for f in env.catalog.facts(env.ids[0]) if f.kind == "drilled"]
    assert fact.ok
    assert fact.detail["rto_seconds"] == result.rto_seconds


def test_a_random_point_is_the_same_by_its_seed(
    env: Environment, scratch: Path
) -> None:
    first = drilled(env, scratch)
    same = drilled(env, scratch, seed=first.seed)
    points = {drilled(env, scratch, seed=n, record=False).sequence for n in range(3)}

    assert (first.outcome, same.outcome) == ("ok", "ok")
    assert first.sequence == same.sequence
    assert len(points) > 1


def test_the_age_of_what_is_lost_is_the_rpo(env: Environment, scratch: Path) -> None:
    env.put("unarchived")

    result = drilled(env, scratch, to="latest")

    assert result.outcome == "ok"
    assert result.rpo_seconds is not None
    assert result.rpo_seconds > 0
    env.write('rpo = "0.001s"')
    missed = drilled(env, scratch, to="latest")
    assert missed.outcome == "failed"
    assert "RPO" in (missed.reason or "")
    assert not missed.damaged
    # Too slow is not damaged: the backup still counts.
    assert standings(env.catalog)[0].fault is None


def test_a_restore_that_is_too_slow_has_failed(env: Environment, scratch: Path) -> None:
    env.write('rto = "0.000001s"')

    result = drilled(env, scratch, to="latest", budget=60.0)

    assert result.outcome == "failed"
    assert "RTO" in (result.reason or "")


def test_a_budget_that_is_used_up_proves_nothing(
    env: Environment, scratch: Path
) -> None:
    result = drilled(env, scratch, to="latest", budget=0.0)

    assert (result.outcome, result.rto_seconds) == ("inconclusive", None)
    assert "budget" in (result.reason or "")


def test_targets_are_compared_with_what_is_known() -> None:
    assert verdict(rto_seconds=None, rpo_seconds=None, rto=None, rpo=None) is None


# -- broken backups ----------------------------------------------------------------------


def a_part(env: Environment, begins: str = "backups/") -> Path:
    folder = env.folder / "repository"
    return min(folder.glob(f"{begins}**/*.zst"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_byte_of_the_backup_fails_the_drill(
    env: Environment, scratch: Path
) -> None:
    flip(a_part(env))

    result = env.run("backup", "drill", "--into", str(scratch))

    assert result.code == 1, result
    assert result.out.startswith("failed")
    assert standings(env.catalog)[0].fault == "the last drill with it failed"


def test_a_flipped_byte_of_the_log_fails_the_drill(
    env: Environment, scratch: Path
) -> None:
    flip(a_part(env, "log/"))

    assert drilled(env, scratch, to="latest").outcome == "failed"


def test_a_missing_part_fails_the_drill(env: Environment, scratch: Path) -> None:
    create_backup(env.settings)
    a_part(env).unlink()

    result = drilled(env, scratch, to="latest")

    assert result.outcome == "failed"
    assert "damaged" in (result.reason or "")


def test_no_backup_at_all_fails_the_drill(tmp_path: Path, scratch: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    made = an_environment(empty)
    made.put("a")
    create_backup(made.settings)
    shutil.rmtree(made.folder / "repository" / "backups")

    result = made.run("backup", "drill", "--into", str(scratch), "--json")

    assert result.code == 1
    assert result.document["outcome"] == "failed"
    assert result.document["result"]["rpo_seconds"] is None


@pytest.mark.parametrize("what", ["changed", "deleted", "returned"])
@pytest.mark.parametrize("to", ["latest", "backup"])
def test_a_restored_store_that_differs_fails_the_drill(
    env: Environment, scratch: Path, monkeypatch: pytest.MonkeyPatch, what: str, to: str
) -> None:
    """What is stored differs after the restore has compared it, as by a bad disk."""
    if to == "backup":
        shutil.rmtree(env.folder / "repository" / "log")
    read = _drill.first_read

    def spoiled(store: Store, report: Any) -> None:
        read(store, report)
        log = store.collection(Log)
        if what == "changed":
            log.put(a_log("after-1" if to == "latest" else "before-1", "other"))
        elif what == "deleted":
            log.delete("after-1" if to == "latest" else "before-1")
        else:
            log.put(a_log("before-3" if to == "latest" else "stranger"))

    monkeypatch.setattr("pend_storage.operations.backup.drill.first_read", spoiled)

    result = drilled(env, scratch, to="latest")

    assert (result.outcome, result.damaged) == ("failed", True)
    assert "differs" in (result.reason or "")


def test_what_the_backup_cannot_help_is_inconclusive(
    env: Environment, tmp_path: Path
) -> None:
    result = env.run("backup", "drill", "--into", str(tmp_path / "nowhere"), "--json")

    assert result.code == 3
    assert result.document["outcome"] == "inconclusive"


# -- nothing is left ---------------------------------------------------------------------


def drill_in(report: Report, folder: str, scratch: str) -> None:
    drill(Environment(Path(folder)).settings, to="latest", into=scratch)
    report("done")


@pytest.mark.parametrize("point", ["restore.rows", "restore.sealed"])
def test_what_a_dead_drill_left_is_removed_by_the_next(
    env: Environment, scratch: Path, point: str
) -> None:
    run_until_crash(drill_in, str(env.folder), str(scratch), point=point)
    assert list(scratch.iterdir()) != []

    assert drilled(env, scratch, to="latest").outcome == "ok"


def test_a_drill_leaves_a_running_one_alone(env: Environment, scratch: Path) -> None:
    seen: list[str] = []

    def second(point: str) -> None:
        if point == "restore.loaded" and not seen:
            seen.append(point)
            other = scratch / "pend-drill-0000000000000000"
            other.mkdir()
            inner = [p for p in scratch.iterdir() if p != other]
            from pend_storage.operations.backup.scratch import scratch_store

            with scratch_store(env.settings, env.catalog.repository, str(scratch)):
                assert inner[0].exists()
                assert not other.exists()

    with crashpoints.handled(second):
        assert drilled(env, scratch, to="latest").outcome == "ok"
    assert seen


def test_the_default_place_is_that_of_temporary_files(env: Environment) -> None:
    result = drill(env.settings, to="latest")

    assert result.outcome == "ok"
    assert Path(result.scratch).parent == Path(tempfile.gettempdir())
    assert not Path(result.scratch).exists()


def test_a_schema_of_a_database_is_dropped(env: Environment, new_database: Any) -> None:
    from pend_storage.stores.postgres import inspection

    url = new_database()

    result = drill(env.settings, to="latest", into=url)

    assert (result.outcome, result.reason) == ("ok", None)
    assert "pend_drill_" in result.scratch
    with inspection(url) as session:
        found = session.execute(
            "select nspname from pg_namespace where nspname like 'pend%'"
        ).fetchall()
    assert found == []
