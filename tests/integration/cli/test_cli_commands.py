"""init, doctor, quarantine, demo, and what all commands have in common."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from pend_storage.cli._app import _COMMANDS, root

if TYPE_CHECKING:
    from tests.integration.cli.conftest import Site

_LOG = "explorer-data/transactions-log.json"


def states(document: Any) -> dict[str, str]:
    return {f["check"]: f["state"] for f in document["result"]["findings"]}


@pytest.mark.parametrize("command", sorted(_COMMANDS))
def test_each_command_starts_in_an_interpreter_of_its_own(
    site: Site, command: str
) -> None:
    result = site.run_afresh(command, "--help")

    assert result.code == 0
    assert result.out.startswith(f"Usage: pend-storage {command}")
    assert result.err == ""


# -- init -------------------------------------------------------------------------------


def test_init_finds_the_directory_with_the_files_of_a_server(server: Site) -> None:
    server.config.unlink()
    (server.path / "code" / "deep").mkdir(parents=True)
    server.data.rename(server.path / "code" / "deep" / "files")

    document = server.ok("init", "--database", "postgresql://pend@db:5433/pend")

    text = server.config.read_text()
    assert document["result"]["directory"] == str(server.path / "code/deep/files")
    assert len(document["result"]["legacy_files"]) == 16
    assert 'directory = "code/deep/files"' in text
    assert 'url = "postgresql://pend@db:5433/pend"' in text


def test_what_init_writes_can_be_used_at_once(server: Site) -> None:
    server.config.unlink()

    server.ok("init", "--database", server.url, "--env", "staging")
    result = server.ok("migrate", "json", "--env", "staging", "--no-backup")

    assert result["adds_up"] is True


def test_init_leaves_a_file_alone_unless_forced(server: Site) -> None:
    before = server.config.read_text()

    refused = server.run("init", "--json")
    kept = server.config.read_text()
    server.ok("init", "--force")

    assert refused.code == 2
    assert "is there already" in refused.document["error"]["message"]
    assert kept == before
    assert server.config.read_text() != before


def test_init_never_writes_a_password(server: Site) -> None:
    server.config.unlink()

    document = server.ok("init", "--database", "postgresql://pend:hunter2@db/pend")

    assert document["result"]["password_left_out"] is True
    assert "hunter2" not in server.config.read_text()
    assert "postgresql://pend@db/pend" in server.config.read_text()


# -- doctor -----------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_with_a_migrated_server(server: Site) -> None:
    server.ok("db", "seed")
    server.ok("migrate", "json", "--no-backup")
    waiting = server.run("quarantine", "list", "--json").document["records"]
    identities = [record["id"] for record in waiting]
    server.ok("quarantine", "accept", *identities, "--reason", "seen")

    document = server.ok("doctor")

    found = states(document)
    assert {name for name, state in found.items() if state != "ok"} == {"backups"}
    assert {"database schema", "backfill", "quarantine", "clock", "free space"} <= {
        *found
    }


def test_doctor_changes_nothing(server: Site) -> None:
    files, rows = server.digest(), server.rows()

    server.ok("doctor")

    assert (server.digest(), server.rows()) == (files, rows)


def test_doctor_tells_what_to_do_before_a_migration(server: Site) -> None:
    (server.data / "consents-db.json").write_text('{"half": ')
    server.run("db", "seed", "--json")

    result = server.run("doctor")

    assert result.code == 1
    assert "consents-db.json" in result.out
    assert "ends in the middle" in result.out
    assert "-> Run: pend-storage migrate json" in result.out


def test_doctor_tells_of_strange_and_broken_files_after_one(server: Site) -> None:
    (server.data / "strange.json").write_text("[]")
    (server.data / "consents-db.json").write_text('{"half": ')
    assert server.run("migrate", "json", "--no-backup").code == 1

    result = server.run("doctor", "--json")

    found = states(result.document)
    assert result.code == 1
    assert found["broken files"] == "fail"
    assert found["unclaimed files"] == "warn"
    assert found["quarantine"] == found["environment"] == "warn"


def test_doctor_fails_where_the_database_belongs_to_others(server: Site) -> None:
    server.ok("db", "seed")
    server.configure(server.config.read_text().replace(".development", ".staging"))

    result = server.run("doctor", "--env", "staging", "--json")

    assert result.code == 1
    assert states(result.document)["environment"] == "fail"


def test_doctor_still_looks_at_the_files_where_no_server_runs(server: Site) -> None:
    url = "postgresql://postgres@127.0.0.1:1/pend"

    result = server.run("doctor", "--json", PEND_DATABASE_URL=url)

    assert result.code == 3
    found = states(result.document)
    assert found["database"] == "fail"
    assert found["legacy files"] == "ok"


def test_doctor_warns_of_a_password_that_others_may_read(server: Site) -> None:
    server.configure(
        server.config.read_text().replace("postgres@", "postgres:hunter2@")
    )
    server.config.chmod(0o644)

    exposed = states(server.ok("doctor"))
    server.config.chmod(0o600)
    private = states(server.ok("doctor"))

    assert exposed["secrets"] == "warn"
    assert "secrets" not in private


def test_doctor_warns_of_a_pooler_that_is_not_there(server: Site) -> None:
    server.configure(server.config.read_text() + '\npooler = "transaction"\n')

    assert states(server.ok("doctor"))["pooler"] == "warn"


# -- quarantine -------------------------------------------------------------------------


def test_reports_cut_values_and_keys_and_say_how_long_they_are(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, number = "k" * 700, "1" * 5_000
    file = site.data / "explorer-data" / "identity-map.json"
    file.parent.mkdir(parents=True)
    text = json.dumps({"long": "v" * 3_000_000, name: "NUMBER"})
    file.write_text(text.replace('"NUMBER"', number))
    monkeypatch.chdir(site.path)

    def run(*arguments: str) -> str:
        return CliRunner().invoke(root, arguments, catch_exceptions=False).stdout

    def widest(out: str) -> int:
        return max(map(len, out.splitlines()))

    for command in ("db migrate", "db seed", "migrate json --no-backup"):
        run(*command.split())
    site.change("update documents set body = to_jsonb(repeat('w', 3000000))")

    compared = run("db", "validate")
    assert "... (3,000,000 characters)" in compared
    assert widest(compared) < 700
    assert len(run("db", "validate", "--json")) < 5_000

    listed = run("quarantine", "list")
    assert "... (700 characters)" in listed
    assert widest(listed) < 300
    (record,) = json.loads(run("quarantine", "list", "--json"))["records"]
    assert len(record["place"]) == len(record["raw"]) == 200

    (full,) = json.loads(run("quarantine", "list", "--json", "--full"))["records"]
    assert full["place"] == name
    assert full["raw"] == f'"{name}": {number}'
    shown = run("quarantine", "show", record["id"])
    assert name in shown
    assert number not in shown
    assert number in run("quarantine", "show", record["id"], "--full")


def test_an_accepted_record_stays_and_is_not_asked_about_again(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    before = server.run("quarantine", "list", "--json")
    first = before.document["records"][0]

    server.ok("quarantine", "accept", first["id"][:8], "--reason", "of no value")

    after = server.run("quarantine", "list", "--json").document
    whole = server.run("quarantine", "list", "--all", "--json").document["records"]
    assert before.code == 1
    assert after["waiting"] == before.document["waiting"] - 1
    accepted = next(record for record in whole if record["id"] == first["id"])
    assert (accepted["status"], accepted["note"]) == ("accepted", "of no value")
    server.ok("migrate", "json", "--no-backup")
    server.ok("db", "validate")


def test_a_quarantined_record_is_shown_whole(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    record = server.run("quarantine", "list", "--json").document["records"][-1]

    shown = server.run("quarantine", "show", record["id"])
    document = server.ok("quarantine", "show", record["id"])

    assert document["record"] == record
    assert shown.code == 0
    assert record["reason"] in shown.out
    assert record["raw"].splitlines()[0] in shown.out


def test_a_repaired_record_takes_its_place_in_the_file(server: Site) -> None:
    path = server.data / "admin-pool-tiers.json"
    path.write_text('{\n  "a": 1,\n  "b": NaN,\n  "c": 2\n}')
    server.ok("migrate", "json", "--no-backup")
    listed = server.run("quarantine", "list", "--file", path.name, "--json").document
    identity = listed["records"][0]["id"]
    repaired = server.path / "repaired"
    repaired.write_text('"b": 7')

    again = server.run("quarantine", "retry", identity, "--json")
    placed = server.ok("quarantine", "retry", identity, "--with", str(repaired))

    assert again.code == 1
    assert "NaN" in again.document["results"][0]["reason"]
    assert placed["placed"] == 1
    assert path.read_text() == '{\n  "a": 1,\n  "b": 7,\n  "c": 2\n}'
    server.ok("migrate", "json", "--no-backup")
    server.ok("db", "validate")


def test_a_repair_that_takes_another_key_is_refused(server: Site) -> None:
    path = server.data / "admin-pool-tiers.json"
    path.write_text('{"a": 1, "b": NaN}')
    server.ok("migrate", "json", "--no-backup")
    listed = server.run("quarantine", "list", "--file", path.name, "--json").document
    repaired = server.path / "repaired"
    repaired.write_text('"a": 7')

    result = server.run(
        "quarantine", "retry", listed["records"][0]["id"],
        "--with", str(repaired), "--json",
    )  # fmt: skip

    assert result.code == 1
    assert "has its key" in result.document["results"][0]["reason"]
    assert path.read_text() == '{"a": 1, "b": NaN}'


def test_retrying_all_changes_nothing_where_nothing_improved(server: Site) -> None:
    server.ok("migrate", "json", "--no-backup")
    before = server.run("quarantine", "list", "--json").document

    result = server.run("quarantine", "retry", "--all", "--json")

    assert result.code == 1
    assert result.document["placed"] == 0
    assert len(result.document["results"]) == before["waiting"]
    assert server.run("quarantine", "list", "--json").document == before


# -- all of them ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [[], ["db"], ["db", "validate"], ["migrate", "json"], ["quarantine"], ["demo"]],
)
def test_help_is_there(site: Site, arguments: list[str]) -> None:
    result = site.run(*arguments, "--help")

    assert result.code == 0
    assert "Usage: pend-storage" in result.out


def test_help_does_not_load_what_commands_need(site: Site) -> None:
    probe = (
        "import sys\n"
        "from pend_storage.cli._app import run\n"
        "run(['--help'])\n"
        "heavy = {'sqlalchemy', 'psycopg', 'alembic', 'rich', 'msgspec', 'asyncio'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        env=site.environment(),
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_the_version_is_told(site: Site) -> None:
    assert site.run("--version").out.startswith("pend-storage, version 0.")


def test_options_may_stand_before_the_command(site: Site) -> None:
    result = site.run("--json", "--config", str(site.config), "db", "status")

    assert result.code == 1
    assert result.document["command"] == "pend-storage db status"


def test_output_without_a_terminal_is_plain(server: Site) -> None:
    result = server.run("migrate", "json", "--no-backup")

    assert "\x1b" not in result.out + result.err
    assert max(map(len, result.out.splitlines())) < 200


def test_a_terminal_gets_colours_and_a_progress_bar(server: Site) -> None:
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        server.command("migrate", "json", "--no-backup", "--rate", "900"),
        cwd=server.path,
        env=server.environment(TERM="xterm-256color", COLUMNS="120"),
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
    ) as process:
        os.close(secondary)
        shown = b""
        try:
            while part := os.read(primary, 65536):
                shown += part
        except OSError:
            pass  # the other side has closed it
        os.close(primary)

    assert process.returncode == 0
    text = shown.decode()
    assert "filling the database" in text
    assert "records, " in text
    assert "/s" in text
    assert "\x1b[" in text


def test_an_interrupt_ends_it_and_it_can_be_gone_on_with(server: Site) -> None:
    with subprocess.Popen(
        server.command("migrate", "json", "--rate", "100", "--no-backup"),
        cwd=server.path,
        env=server.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        store = server.data / ".pend-storage"
        deadline = time.monotonic() + 60
        while not store.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "call it again to go on" in said
    assert server.ok("migrate", "json", "--no-backup")["adds_up"] is True


def test_a_reader_that_has_enough_is_no_error(server: Site) -> None:
    name = " ".join(server.command("doctor"))

    result = server.shell(f"{name} | true; echo done")

    assert result.out == "done\n"
    assert "Traceback" not in result.err


def test_the_console_script_is_the_same(site: Site) -> None:
    script = Path(sys.executable).with_name("pend-storage")

    done = subprocess.run(
        [str(script), "db", "status", "--json"],
        cwd=site.path,
        env=site.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert json.loads(done.stdout)["result"]["schema_current"] is False
