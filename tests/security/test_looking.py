"""Every command that only looks changes nothing, whatever it finds.

Each command is in one of the lists below: one that is new fails the first test until it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import psycopg
import pytest
from psycopg import sql

from pend_storage.cli._app import root
from pend_storage.operations.phase import change_phase
from pend_storage.phases import Phase
from tests.front_door.conftest import Site, make_server, put, sample
from tests.integration.cli.stages import DOWN, bring_to, settings_of
from tests.looking import only_readable, state_of
from tests.security.acting import OTHER, open_place
from tests.security.database_roles import reader_of

__all__ = ["make_server", "sample"]

pytestmark = pytest.mark.timeout(300)

LOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    "inspect": ("{data}",),
    "status": (),
    "health": (),
    "doctor": (),
    "db grants": (),
    "db status": (),
    "phase show": (),
    "quarantine list": ("--all",),
    "quarantine show": ("{id}",),
    "backup list": (),
    "backup show": ("{backup}",),
    "backup diff": ("live",),
    "backup schedule cron": (),
    "backup schedule show": (),
    "backup schedule systemd": (),
    "completion": ("bash",),
}
"""Commands that only look, with arguments."""
TRIALS: Final[Mapping[str, tuple[str, ...]]] = {
    "phase advance": (),
    "phase rollback": (),
    "phase set": ("json-only",),
    "rollback": (),
    "quarantine retry": ("{id}",),
    "purge": ("users", "--deleted"),
    "backup prune": (),
}
"""Commands whose dry run only looks, with arguments."""
WORKS: Final[Mapping[str, str]] = {
    "demo": "makes an environment of its own",
    "console": "has actions; what only looks of it is tested in tests/console",
    "init": "writes a configuration",
    "db migrate": "migrates",
    "db prune": "prunes the log",
    "db seed": "writes first records",
    "db validate": "records the result, and applies what the secondary lacks",
    "json migrate": "migrates",
    "migrate json": "migrates",
    "phase advance": "switches",
    "phase rollback": "switches",
    "phase set": "switches",
    "repair": "repairs",
    "relay": "applies the log",
    "rollback": "switches",
    "quarantine accept": "accepts",
    "quarantine retry": "places records",
    "backup create": "makes a backup",
    "backup archive": "copies the log",
    "backup verify": "records the result in the repository",
    "backup restore": "restores",
    "backup promote": "promotes",
    "backup undo": "writes a value",
    "backup prune": "deletes backups",
    "backup pin": "records the pin in the repository",
    "backup unpin": "records it",
    "backup drill": "records the result in the repository",
    "backup schedule run": "makes backups",
    "purge": "erases",
}
"""Commands that change something, and what."""
WORKING_TRIALS: Final[Mapping[str, str]] = {
    "json migrate": "tries the migration under the lock of the directory",
    "migrate json": "migrates a copy, which it removes",
    "repair": "first applies the log, so that only certain differences are shown",
    "backup restore": "resolves the target in the repository, and checks the place",
    "backup promote": "opens the restored store",
    "backup undo": "reads the history of the pair",
}
"""Commands whose dry run does more than look, and what."""

_TABLE: Final = """
[environments.development.backup]
repository = "backups"
"""


def leaves() -> Iterator[tuple[str, click.Command]]:
    """Every command, by the words that call it."""

    def below(command: click.Command, words: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(command, click.Group):
            yield words, command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from below(found, f"{words} {name}".strip())

    yield from below(root, "")


def has_dry_run(command: click.Command) -> bool:
    return any("--dry-run" in parameter.opts for parameter in command.params)


def test_every_command_is_in_one_of_the_lists() -> None:
    commands = dict(leaves())
    trials = {name for name, command in commands.items() if has_dry_run(command)}

    assert LOOKS.keys() | WORKS.keys() == commands.keys()
    assert not LOOKS.keys() & WORKS.keys()
    assert TRIALS.keys() | WORKING_TRIALS.keys() == trials
    assert not TRIALS.keys() & WORKING_TRIALS.keys()


# -- the environment ----------------------------------------------------------------------


@pytest.fixture
def open_site(make_server: Any) -> Iterator[Site]:
    """A site with data, in a place that every user may enter."""
    place = open_place()
    made: Site = make_server(place / "server")
    made.configure(made.config.read_text() + _TABLE)
    yield made
    shutil.rmtree(place)


@contextmanager
def reachable_by_all(url: str) -> Iterator[None]:
    """Let every user enter the directory of a server's socket within the block."""
    host = str(psycopg.conninfo.conninfo_to_dict(url).get("host", ""))
    folders = [Path(host), Path(host).parent] if host.startswith("/") else []
    modes = [folder.stat().st_mode for folder in folders]
    for folder, mode in zip(folders, modes, strict=True):
        folder.chmod(mode | 0o011)
    try:
        yield
    finally:
        for folder, mode in zip(folders, modes, strict=True):
            folder.chmod(mode)


def prepare(site: Site, phase: Phase | None) -> None:
    """Bring a site to a phase; leave an edit that waits, and a file that is broken."""
    if phase is not None:
        bring_to(site, Phase.PARALLEL)
        assert site.run("backup", "create").code == 0
        if phase is not Phase.PARALLEL:
            change_phase(
                settings_of(site),
                phase,
                accept=("unclaimed", "validation", "lag", "quarantine", "backup"),
            )
    put(site.data / "wallet-db.json", {f"0x{1:064x}": f"0x{1:040x}"})
    (site.data / "economy.json").write_text('{"users": {')
    (site.data / "consents-db.json").write_text('{"a": ')
    (site.data / "unclaimed.json").write_text("{}")


def arguments(site: Site, words: tuple[str, ...]) -> list[str]:
    """Put what stands there now in the place of the names in braces."""
    known = {"data": str(site.data), "id": "none", "backup": "none"}
    if "{id}" in words:
        listed = site.run("quarantine", "list", "--json").out
        records = json.loads(listed).get("records") or [{"id": "none"}]
        known["id"] = records[0]["id"]
    if "{backup}" in words:
        found = [path.name for path in (site.path / "backups").glob("backups/*")]
        known["backup"] = found[0] if found else "none"
    return [word.format(**known) for word in words]


def calls(site: Site) -> list[list[str]]:
    """Every command that looks, with its arguments."""
    found = [[*name.split(), *arguments(site, more)] for name, more in LOOKS.items()]
    return found + [
        [*name.split(), "--dry-run", *arguments(site, more)]
        for name, more in TRIALS.items()
    ]


def look(site: Site, url: str) -> dict[str, int]:
    """Run every command that looks, and compare all after each; the exit codes."""
    codes = {}
    commands = calls(site)
    before, rows = state_of(site.path), site.rows()
    for command in commands:
        result = site.run(*command, PEND_DATABASE_URL=url)
        assert "Traceback" not in result.err, (command, result.err)
        assert result.code in {0, 1, 2, 3}, (command, result)
        assert state_of(site.path) == before, command
        assert site.rows() == rows, command
        codes[" ".join(command[:2])] = result.code
    return codes


# -- the tests ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phase", [None, *Phase], ids=lambda p: p.value if p else "fresh"
)
def test_looking_changes_nothing(open_site: Site, phase: Phase | None) -> None:
    """As a user who could write all of it: what is adopted or recovered would show."""
    prepare(open_site, phase)
    with reader_of(open_site.url) as reader:
        codes = look(open_site, reader)
        shown = open_site.run("status", "--json", PEND_DATABASE_URL=reader).document

    assert shown["phase"] == (phase.value if phase else None)
    assert codes["quarantine list"] == (1 if phase else 0)
    if phase is not None:
        assert shown["result"]["postgres"]["problem"] is None
        assert shown["result"]["details"]["waiting"] > 0
        assert codes["purge --dry-run"] == 0


def test_looking_changes_nothing_with_the_database_away(open_site: Site) -> None:
    prepare(open_site, Phase.PARALLEL)

    codes = look(open_site, DOWN)

    assert codes["db status"] == 3
    assert codes["status"] == 1
    assert codes["quarantine list"] == 1  # JSON has it


@pytest.mark.parametrize("phase", [None, Phase.POSTGRES_PRIMARY])
def test_a_directory_and_a_role_that_may_only_be_read_are_enough(
    open_site: Site, phase: Phase | None
) -> None:
    prepare(open_site, phase)
    user = OTHER if os.geteuid() == 0 else None
    commands = [*calls(open_site), ["status", "--json"]]
    script = open_site.path / "commands.json"
    script.write_text(json.dumps(commands))
    several = Site(
        open_site.path, open_site.url, "tests.security.acting:several_as_owner"
    )
    with (
        reader_of(open_site.url) as url,
        reachable_by_all(url),
        only_readable(open_site.path, user),
    ):
        before, rows = state_of(open_site.path), open_site.rows()
        result = several.run(str(script), PEND_DATABASE_URL=url)
        assert "Traceback" not in result.err, result.err
        assert state_of(open_site.path) == before
        assert open_site.rows() == rows
    found = re.findall(r"^== (\d+)$", result.out, re.MULTILINE)
    codes = {" ".join(c[:2]): int(n) for c, n in zip(commands, found, strict=True)}
    shown = json.loads(result.out.splitlines()[-3])

    assert set(codes.values()) <= {0, 1, 2, 3}
    if phase is not None:
        assert shown["phase"] == phase.value
        assert shown["result"]["json"]["problem"] is None
        assert shown["result"]["postgres"]["problem"] is None
        assert shown["result"]["details"]["lag"]["commits"] == 0
        assert codes["purge --dry-run"] == codes["backup diff"] == 0
        assert codes["quarantine list"] == 1


def test_a_role_that_cannot_see_a_table_is_told_what_it_lacks(
    open_site: Site,
) -> None:
    prepare(open_site, Phase.PARALLEL)
    with reader_of(open_site.url) as reader:
        name = psycopg.conninfo.conninfo_to_dict(reader)["user"]
        revoke = sql.SQL("revoke select on quarantine, users from {}")
        with psycopg.connect(open_site.url, autocommit=True) as connection:
            connection.execute(revoke.format(sql.Identifier(str(name))))
        status = open_site.run("status", "--json", PEND_DATABASE_URL=reader)
        listed = open_site.run("db", "status", PEND_DATABASE_URL=reader)

    problem = json.loads(status.out)["result"]["postgres"]["problem"]
    assert "may not read" in problem
    assert "quarantine" in problem
    assert "users" in problem
    assert "db grants" in problem
    assert json.loads(status.out)["phase"] == "parallel"  # JSON is shown all the same
    assert listed.code == 2
    assert "may not read" in listed.err


def test_a_directory_that_is_watched_by_root_is_refused_as_before(
    open_site: Site, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give files away")
    prepare(open_site, Phase.PARALLEL)
    for path in (open_site.data, *open_site.data.rglob("*")):
        os.chown(path, OTHER, OTHER, follow_symlinks=False)
    script = (
        "from pend_storage.config import load_settings\n"
        "from pend_storage.factory import open_passive\n"
        f"with open_passive(load_settings({str(open_site.config)!r})) as seen:\n"
        "    print(seen.problem('json'))\n"
    )
    (tmp_path / "look.py").write_text(script)

    result = open_site.shell(f"{sys.executable} {tmp_path / 'look.py'}")

    assert "this process runs as root" in result.out
