"""Common behaviour of all commands: help, suggestions, formats, colours, the log."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pend_storage.phases import Phase
from tests.front_door.conftest import OPENS, Site, put
from tests.integration.cli.conftest import clean_environment
from tests.integration.cli.stages import bring_to


@pytest.fixture
def place(tmp_path: Path) -> Site:
    """A site with JSON alone, whose quarantine has something."""
    site = Site(tmp_path, "")
    site.configure('[environments.development.json]\ndirectory = "data"\n')
    value = {"a": 1, "b": float("nan"), "long" * 30: float("inf")}
    put(site.data / "admin-pool-tiers.json", value)
    assert site.run(*OPENS).code == 0
    return site


def on_terminal(site: Site, *arguments: str, **environ: str) -> str:
    """Output of a command on a terminal."""
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        site.command(*arguments),
        cwd=site.path,
        env=site.environment(**{"TERM": "xterm-256color"} | environ),
        stdin=secondary,
        stdout=secondary,
        stderr=subprocess.DEVNULL,
    ):
        os.close(secondary)
        shown = b""
        try:
            while part := os.read(primary, 65536):
                shown += part
        except OSError:
            pass  # the other side has closed it
        os.close(primary)
    return shown.decode()


@pytest.mark.parametrize("group", [[], ["phase"], ["db"], ["migrate"], ["quarantine"]])
def test_a_group_without_a_command_shows_its_help(
    tmp_path: Path, group: list[str]
) -> None:
    site = Site(tmp_path, "")

    result, document = site.run(*group), site.run(*group, "--json")

    assert result.code == document.code == 2
    assert result.err.startswith("Usage: pend-storage")
    assert "Commands:" in result.err
    assert "error:" not in result.err
    assert "a command is missing" in document.document["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["stauts"], "no command 'stauts'; did you mean 'status'?"),
        (["db", "vaildate"], "no command 'vaildate'; did you mean 'validate'?"),
        (["phase", "advnce"], "no command 'advnce'; did you mean 'advance'?"),
        (["phase", "set", "paralel"], "phase 'paralel'; did you mean 'parallel'?"),
        (["migrate", "json", "--rte", "1"], "--rte; did you mean '--rate'?"),
        (["status", "--evn", "x"], "--evn; did you mean '--env'?"),
        (
            ["quarantine", "list", "--file", "walet-db.json"],
            "did you mean 'wallet-db.json'?",
        ),
        (
            ["quarantine", "retry", "--file", "walet-db.json"],
            "did you mean 'wallet-db.json'?",
        ),
    ],
)
def test_what_is_mistyped_gets_a_suggestion(
    place: Site, arguments: list[str], suggestion: str
) -> None:
    result = place.run(*arguments)

    assert result.code == 2, result.out
    assert suggestion in result.err


def test_a_code_that_is_mistyped_gets_a_suggestion(server: Site) -> None:
    result = server.run("phase", "advance", "--accept", "quarantin")

    assert result.code == 2
    assert "no blocker 'quarantin'; did you mean 'quarantine'?" in result.err


def test_a_phase_may_be_written_in_capitals(server: Site) -> None:
    bring_to(server, Phase.PARALLEL)

    result = server.run("phase", "set", "JSON-ONLY", "--dry-run")

    assert result.code == 0
    assert "would go from parallel to: json-only" in result.out


def test_a_dry_run_gives_a_fresh_pair_no_roles(server: Site) -> None:
    assert server.run(*OPENS).code == 0
    before, rows = server.digest(), server.rows()

    result = server.run("phase", "set", "parallel", "--dry-run")

    assert result.code == 2
    assert "were not used as a pair yet" in result.err
    assert (server.digest(), server.rows()) == (before, rows)


@pytest.mark.parametrize("arguments", [["-h"], ["phase", "-h"], ["phase", "set", "-h"]])
def test_h_is_help(tmp_path: Path, arguments: list[str]) -> None:
    result = Site(tmp_path, "").run(*arguments)

    assert result.code == 0
    assert result.out.startswith("Usage: pend-storage")


def test_a_narrow_terminal_gets_cards(place: Site) -> None:
    command = ("--no-color", "quarantine", "list")
    narrow = on_terminal(place, *command, COLUMNS="70")
    wide = on_terminal(place, *command, "--wide", COLUMNS="70")
    roomy = on_terminal(place, *command, COLUMNS="120")

    assert re.search(r"^file +admin-pool-tiers\.json", narrow, re.MULTILINE)
    assert re.search(r"^reason +NaN", narrow, re.MULTILINE)
    for table in (wide, roomy):
        assert re.search(r"id +file +place +status", table)
    assert re.search(r"admin-pool-tiers\.json +b +waiting .*NaN", wide)


def test_tables_can_be_had_as_csv(place: Site) -> None:
    result = place.run("quarantine", "list", "--format", "csv")

    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert result.code == 1
    assert [row["file"] for row in rows] == ["admin-pool-tiers.json"] * 2
    assert rows[0]["place"] == "b"
    assert len(rows[1]["place"]) == 120
    assert "2 wait" in result.err


def test_format_json_is_json(place: Site) -> None:
    result = place.run("quarantine", "list", "--format", "json")
    wrong = place.run("stauts", "--format=json")

    assert result.document["waiting"] == 2
    assert wrong.document["error"]["type"] == "ConfigError"


def test_colours_can_be_left_out(place: Site) -> None:
    coloured = on_terminal(place, "status", COLUMNS="120")
    by_variable = on_terminal(place, "status", COLUMNS="120", NO_COLOR="1")
    by_option = on_terminal(place, "status", "--no-color", COLUMNS="120")

    assert "\x1b[" in coloured
    assert "\x1b[" not in by_variable
    assert "\x1b[" not in by_option


def test_times_are_written_in_one_way(place: Site) -> None:
    listed = place.run("quarantine", "list", "--json").document
    shown = place.run("quarantine", "show", listed["records"][0]["id"])

    assert re.search(r"seen +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", shown.out)


def test_the_log_is_shown_as_wanted(place: Site) -> None:
    quiet = place.run(*OPENS, "-q")
    put(place.data / "admin-pool-tiers.json", {"a": 2})
    verbose = place.run("-v", *OPENS)
    put(place.data / "admin-pool-tiers.json", {"a": 3})
    logged = place.run(*OPENS, "--log-level", "info", "--log-format", "json", "--json")

    assert quiet.err == ""
    assert "info: outside-edit-adopted" in verbose.err
    lines = [json.loads(line) for line in logged.err.splitlines()]
    assert "outside-edit-adopted" in {line["event"] for line in lines}
    assert {"time", "level", "logger", "message"} <= {*lines[0]}
    assert logged.document["ok"]
    assert place.run("quarantine", "list", "--json").document["waiting"] == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_a_shell(tmp_path: Path, shell: str) -> None:
    script = Site(tmp_path, "").run("completion", shell)

    assert script.code == 0
    assert "_PEND_STORAGE_COMPLETE" in script.out


def test_what_completion_calls_answers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pend_storage"],
        env=clean_environment()
        | {
            "_PEND_STORAGE_COMPLETE": "bash_complete",
            "COMP_WORDS": "pend-storage phase set pos",
            "COMP_CWORD": "3",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split() == ["plain,postgres-primary", "plain,postgres-only"]
