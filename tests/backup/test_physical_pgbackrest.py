"""Adapter of pgBackRest: against a program that prints what the real one printed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from pend_storage.backup.physical._pgbackrest import PgBackRest
from pend_storage.backup.physical._pitr import recover
from pend_storage.backup.physical._side_server import SideServer, make_side_directory
from pend_storage.backup.physical._targets import (
    end_of_backup,
    end_of_log,
    sequence_target,
    time_target,
)
from pend_storage.cli._app import run
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable
from tests.backup.servers import DEBIAN, Lab, as_server_user, lab

FULL = {
    "archive": {
        "start": "000000010000000000000002",
        "stop": "000000010000000000000002",
    },
    "backrest": {"format": 5, "version": "2.45"},
    "database": {"id": 1, "repo-key": 1},
    "error": False,
    "info": {
        "delta": 54_000_000,
        "repository": {"delta": 19_000_000, "size": 19_000_000},
        "size": 54_000_000,
    },
    "label": "20260131-120000F",
    "lsn": {"start": "0/2000028", "stop": "0/2000100"},
    "prior": None,
    "reference": None,
    "timestamp": {"start": 1769860800, "stop": 1769860803},
    "type": "full",
}
INCREMENTAL = {
    **FULL,
    "label": "20260131-120000F_20260131-130000I",
    "type": "incr",
    "reference": ["20260131-120000F"],
    "timestamp": {"start": 1769864400, "stop": 1769864402},
}


def fake(
    place: Path,
    *,
    info: object = None,
    output: str = "",
    code: int = 0,
) -> PgBackRest:
    """Make a program that writes what is given, and records its arguments."""
    answer = json.dumps(info) if not isinstance(info, str) else info
    (place / "info").write_text(answer)
    (place / "output").write_text(output)
    program = place / "pgbackrest"
    program.write_text(
        f"""#!/bin/sh
echo "$@" >> {place}/calls
case "$*" in
  *info) cat {place}/info ;;
  *) cat {place}/output; exit {code} ;;
esac
"""
    )
    program.chmod(0o700)
    return PgBackRest(program, "main")


def stanza(*backups: object, code: int = 0) -> list[object]:
    status = {"code": code, "message": "ok" if code == 0 else "missing stanza path"}
    return [{"name": "main", "status": status, "backup": list(backups), "db": []}]


def calls(place: Path) -> list[str]:
    return (place / "calls").read_text().splitlines()


def test_backups_are_listed_oldest_first(tmp_path: Path) -> None:
    program = fake(tmp_path, info=stanza(INCREMENTAL, FULL))

    full, incremental = program.backups()

    assert full.label == "20260131-120000F"
    assert full.kind == "full"
    assert full.finished_at == datetime(2026, 1, 31, 12, 0, 3, tzinfo=UTC)
    assert (full.start, full.end) == ("0/2000028", "0/2000100")
    assert (full.size, full.stored) == (54_000_000, 19_000_000)
    assert incremental.parents == ("20260131-120000F",)
    assert calls(tmp_path) == ["--stanza=main --output=json info"]


@pytest.mark.parametrize("info", [[], stanza(code=1)])
def test_a_stanza_that_cannot_be_used_is_refused(tmp_path: Path, info: object) -> None:
    with pytest.raises(ConfigError, match="check"):
        fake(tmp_path, info=info).backups()


@pytest.mark.parametrize("info", ["no json", '{"a": 1}', '[{"name": "main"}]'])
def test_an_answer_that_is_not_understood_is_no_empty_list(
    tmp_path: Path, info: str
) -> None:
    with pytest.raises(CorruptFile):
        fake(tmp_path, info=info).backups()


def test_a_backup_that_is_not_listed_afterwards_failed(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="lists no new backup"):
        fake(tmp_path, info=stanza(FULL)).back_up("full")


def test_a_backup_that_fails_is_an_error(tmp_path: Path) -> None:
    program = fake(tmp_path, info=stanza(FULL), output="ERROR: [082]: no WAL", code=82)

    with pytest.raises(StoreUnavailable, match="no WAL"):
        program.back_up()


def test_damage_is_found_although_the_program_ends_with_zero(tmp_path: Path) -> None:
    """Upstream #2502: status: error, and exit code 0."""
    output = """stanza: main
status: error
  archiveId: 15-1, total WAL checked: 4, total valid WAL: 3
    missing: 0, checksum invalid: 1, size invalid: 0, other: 0
"""
    found = fake(tmp_path, output=output).verify()

    assert found
    assert any("status: error" in line for line in found)


def test_a_whole_repository_has_no_damage(tmp_path: Path) -> None:
    output = """stanza: main
status: ok
  archiveId: 15-1, total WAL checked: 4, total valid WAL: 4
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
"""
    assert fake(tmp_path, output=output).verify() == []


def test_a_verification_that_could_not_run_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="failed with 37"):
        fake(tmp_path, output="P00: requires option: stanza", code=37).verify()


def test_a_restore_gets_the_target_and_never_archives(tmp_path: Path) -> None:
    program = fake(tmp_path)
    target = sequence_target(5_000 * 1024, inclusive=False, offset=0, backup_end=1)

    program.restore(tmp_path / "data", target)

    [call] = calls(tmp_path)
    assert "--archive-mode=off" in call
    assert "--type=xid --target=5000 --target-exclusive --target-action=promote" in call
    assert call.endswith(" restore")


def test_the_end_of_a_backup_and_of_the_log_are_targets(tmp_path: Path) -> None:
    program = fake(tmp_path)

    program.restore(tmp_path / "data", end_of_backup())
    program.restore(tmp_path / "data", end_of_log())

    first, second = calls(tmp_path)
    assert "--type=immediate" in first
    assert "--type" not in second


def test_a_target_before_every_backup_is_refused(tmp_path: Path) -> None:
    program = fake(
        tmp_path, output="unable to find backup set with stop time less than", code=75
    )
    at = datetime(2026, 1, 31, 13, tzinfo=UTC)
    target = time_target(at, backup_end=datetime(2026, 1, 31, 12, tzinfo=UTC))

    with pytest.raises(ConfigError, match="no backup that ended before"):
        program.restore(tmp_path / "data", target)


def test_a_program_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="apt-get install pgbackrest"):
        PgBackRest.find("main")
    with pytest.raises(ConfigError, match="no name of a stanza"):
        PgBackRest.find("--config=/etc/shadow")


def test_the_commands_take_the_name_of_a_stanza(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(tmp_path, info=stanza(FULL), output="status: error")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    config = tmp_path / "pend.toml"
    config.write_text('[environments.development.json]\ndirectory = "data"\n')

    def call(*words: str) -> int:
        words = ("backup", *words, "--pgbackrest", "main", "--config", str(config))
        return run(list(words))

    assert call("list") == 0
    assert "20260131-120000F" in capsys.readouterr().out
    assert call("verify") == 1
    assert call("create") == 2
    assert call("create", "--kind", "physical") == 3  # it lists no new one
    assert "lists no new backup" in capsys.readouterr().err


PROGRAM = shutil.which("pgbackrest")


@pytest.mark.deep
@pytest.mark.skipif(PROGRAM is None, reason="pgbackrest is not installed")
def test_the_real_program_backs_up_verifies_and_restores(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="pb"))
    place.chmod(0o755)
    config = place / "pgbackrest.conf"
    archive = f"{PROGRAM} --config={config} --stanza=main archive-push %p"
    settings = {"archive_mode": "on", "archive_command": archive}
    with lab(DEBIAN, settings) as made:
        config.write_text(
            f"[global]\nrepo1-path={made.place}/repo\nlog-path={made.place}/log\n"
            f"lock-path={made.place}/lock\nspool-path={made.place}/spool\nstart-fast=y\n"
            f"log-level-file=off\n[main]\npg1-path={made.server.directory}/data\n"
            f"pg1-socket-path={made.server.sockets}\npg1-user=postgres\n"
        )
        assert PROGRAM is not None
        program = PgBackRest(Path(PROGRAM), "main", config)
        rows, damage = as_server_user(lambda: _journey(made, program))
        assert rows == [1, 2, 3]
        assert damage
    shutil.rmtree(place)


def _journey(made: Lab, program: PgBackRest) -> tuple[list[int], list[str]]:
    program._run("stanza-create")
    made.fill(2)
    full = program.back_up("full")
    made.fill(3)
    program.back_up("incr")
    assert [each.kind for each in program.backups()] == ["full", "incr"]
    assert program.verify() == []
    made.fill(1)
    made.sql("select pg_switch_wal()")
    target = sequence_target(made.number_of(4), inclusive=False, offset=0, backup_end=1)
    side = SideServer(make_side_directory(made.place / "side"), made.tools)
    fetch = program.fetch_command(side.data)
    early = time_target(full.started_at, backup_end=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(ConfigError, match="no backup that ended before"):
        program.restore(side.data, early)
    program.restore(side.data, target, backup=full.label)
    recovered = recover(
        side,
        target,
        timeline=1,
        login=made.settings,
        timeout=60.0,
        restore_command=fetch,
    )
    assert recovered.timeline == 2
    with psycopg.connect(**side.address(made.settings)) as connection:
        rows = connection.execute("select id from doc order by id").fetchall()
    side.stop()
    file = max((made.place / "repo").rglob("*.gz"), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return [row[0] for row in rows], program.verify()
