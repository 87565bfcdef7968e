"""Commands print no control sequence, no hidden character and no forged line of anybody."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click
import pytest

import pend_storage as ps
from pend_storage.cli._app import root
from pend_storage.config import load_settings
from pend_storage.factory import open_pair
from pend_storage.pend import SCHEMA
from pend_storage.phases import Phase
from pend_storage.records import FindingRecord
from pend_storage.testing.fork_server import fork_server
from tests.front_door.conftest import OPENS
from tests.integration.cli.conftest import Site
from tests.security.texts import FORGED, HOSTILE, harm_of

WALLETS: Final = {
    HOSTILE: "0x12",
    f"=1+1{HOSTILE}": {"a": HOSTILE},
    "0x" + "1" * 64: "0x" + "2" * 40,
}
_NAME: Final = HOSTILE.replace("/", "")
_CONFIG: Final = """
[environments.development]
phase = "json-only"
[environments.development.json]
directory = "data"
"""
_POSTGRES: Final = '[environments.development.postgres]\nurl = "{url}"\n'


def leaves(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every command of the tree."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, (*path, name))


COMMANDS: Final = [path for path in leaves(root) if path != ("demo",)]
"""The demo shows only data that it invents."""
ARGUMENTS: Final[dict[tuple[str, ...], tuple[str, ...]]] = {
    ("inspect",): ("data",),
    ("init",): ("--directory", "data", "--schema", HOSTILE),
    ("phase", "set"): (HOSTILE,),
    ("quarantine", "show"): (HOSTILE,),
    ("quarantine", "retry"): ("--all", "--dry-run"),
    ("quarantine", "accept"): (HOSTILE, "--reason", HOSTILE),
    ("divergences", "accept"): (HOSTILE, "--reason", HOSTILE, "--by", HOSTILE),
    ("divergences", "show"): (HOSTILE,),
    ("jobs", "show"): (HOSTILE,),
    ("jobs", "pause"): (HOSTILE,),
    ("jobs", "resume"): (HOSTILE,),
    ("jobs", "cancel"): (HOSTILE,),
    ("console",): ("--listen", HOSTILE),
    ("completion",): (HOSTILE,),
}
WRONG: Final = [
    (HOSTILE,),
    (f"--{HOSTILE}",),
    ("phase", HOSTILE),
    ("status", "--env", HOSTILE),
    ("status", "--config", HOSTILE),
    ("status", "--schema", HOSTILE),
    ("quarantine", "list", "--file", HOSTILE),
    ("quarantine", "retry", HOSTILE),
    ("inspect", HOSTILE),
    ("inspect", "data", "--set", HOSTILE),
    ("inspect", "data", "--key", f"{HOSTILE}=id"),
    ("phase", "advance", "--accept", HOSTILE),
    ("db", "migrate", "--wait", HOSTILE),
]


def written(site: Site, descriptor: int, end: int, *arguments: str, **more: str) -> str:
    """Everything that a process writes to a descriptor, until the other end is closed."""
    process = fork_server().start(
        "tests.security.several:main",
        arguments,
        descriptors=[descriptor] * 3,
        environment=site.environment(**more),
        directory=str(site.path),
        path=[str(site.path), str(Path(__file__).parents[2])],
    )
    os.close(descriptor)
    timer = threading.Timer(300, process.kill)
    timer.start()
    seen = b""
    try:
        while part := os.read(end, 65536):
            seen += part
    except OSError:
        pass  # the terminal is closed
    finally:
        process.wait(110)
        timer.cancel()
        os.close(end)
    return seen.decode()


FORMS: Final[dict[str, tuple[str, ...]]] = {
    "pipe": (),
    "terminal": (),
    "csv": ("--format", "csv"),
    "json": ("--json", "--log-format", "json"),
}


def output(
    form: str, site: Site, commands: Sequence[Sequence[str]], **environ: str
) -> list[str]:
    """What each command writes, its errors included."""
    script = site.path / "commands.txt"
    script.write_text(json.dumps([[*each, *FORMS[form]] for each in commands]))
    if form == "terminal":
        end, descriptor = pty.openpty()
    else:
        end, descriptor = os.pipe()
    look = {"TERM": "xterm-256color", "COLUMNS": "2000"}
    text = written(site, descriptor, end, str(script), **(look | environ))
    assert "unexpected error" not in text, text
    parts = re.split(r"^== \d+\r?\n", text, flags=re.MULTILINE)
    assert len(parts) == len(commands) + 1
    return parts[1:]


def harm(
    site: Site, *commands: Sequence[str], form: str = "terminal", **environ: str
) -> list[str]:
    """Harm that the output of commands does."""
    shown = output(form, site, commands, **environ)
    return [
        f"{each!a}: {what}"
        for each, text in zip(commands, shown, strict=True)
        for what in harm_of(text)
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site without a database in a directory, with files, of hostile names."""
    site = Site(tmp_path_factory.mktemp("site") / _NAME, "")
    site.data.mkdir(parents=True)
    site.configure(_CONFIG)
    (site.data / "wallet-db.json").write_text(json.dumps(WALLETS))
    (site.data / "admin-pool-tiers.json").write_text("{" + HOSTILE)
    (site.data / f"{_NAME}.json").write_text(json.dumps([{HOSTILE: HOSTILE}] * 3))
    bytes_name = os.fsencode(site.data) + b"/\xff\x1b.json"
    with open(bytes_name, "w") as stream:  # noqa: PTH123 - a name that is no UTF-8
        stream.write("{}")
    assert site.run(*OPENS).code == 1  # a file that cannot be read stays as it is
    return site


@pytest.mark.parametrize("form", FORMS)
def test_no_command_prints_a_hostile_text_as_it_is(hostile: Site, form: str) -> None:
    commands = [(*path, *ARGUMENTS.get(path, ())) for path in COMMANDS]
    assert len(commands) > 15

    assert harm(hostile, *commands, form=form) == []


@pytest.mark.parametrize("form", ["pipe", "terminal", "json"])
def test_a_refused_argument_is_shown_escaped(hostile: Site, form: str) -> None:
    assert harm(hostile, *WRONG, form=form) == []


@pytest.mark.parametrize(
    "environ",
    [
        {"PEND_PHASE": HOSTILE},
        {"PEND_ENV": HOSTILE},
        {"PEND_CONFIG": HOSTILE},
        {"PEND_DATABASE_URL": HOSTILE},
        {"PEND_REDIS_URL": HOSTILE},
        {"DB_NAME": HOSTILE, "DB_HOST": "127.0.0.1", "DB_PORT": "1"},
        {"PEND_JSON_DIRECTORY": HOSTILE},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_a_variable_is_shown_escaped(hostile: Site, environ: dict[str, str]) -> None:
    assert harm(hostile, ["status"], ["doctor"], **environ) == []


CONFIGURATIONS: Final = (
    f"[environments.{json.dumps(HOSTILE)}]\n",
    f"{_CONFIG}\n{json.dumps(HOSTILE)} = 1\n",
    _CONFIG.replace("json-only", json.dumps(HOSTILE)[1:-1]),
    _CONFIG.replace('"data"', json.dumps(HOSTILE)),
    _CONFIG.replace("directory", json.dumps(HOSTILE)),
    f"[environments.development]\nschema = {json.dumps(HOSTILE)}\n",
    "\x1b]0;t\x07",
)


@pytest.mark.parametrize("form", ["pipe", "terminal"])
def test_a_configuration_is_cited_escaped(tmp_path: Path, form: str) -> None:
    site = Site(tmp_path, "")
    site.data.mkdir()
    commands = []
    for number, text in enumerate(CONFIGURATIONS):
        (tmp_path / f"{number}.toml").write_text(text)
        commands += [
            [each, "--config", f"{number}.toml"] for each in ("status", "doctor")
        ]

    assert harm(site, *commands, form=form) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_quarantined_record_is_shown_escaped(hostile: Site, form: str) -> None:
    found = site_records(hostile)
    assert len(found) >= 3
    show = [("quarantine", "show", record["id"]) for record in found]

    assert harm(hostile, *show, *((*s, "--full") for s in show), form=form) == []
    (first,) = output(form, hostile, show[:1])
    assert "[red]:smile:" in first  # neither a colour nor a picture


def test_raw_bytes_are_for_a_file_or_a_pipe_alone(hostile: Site) -> None:
    broken = next(
        r for r in site_records(hostile) if r["file"] == "admin-pool-tiers.json"
    )
    command = ("quarantine", "show", broken["id"], "--raw")

    (raw,) = output("pipe", hostile, [command])
    (refused,) = output("terminal", hostile, [command])
    mixed = hostile.run(*command, "--json")

    assert raw == "{" + HOSTILE
    assert "> FILE" in refused
    assert harm_of(refused) == []
    assert mixed.code == 2


def site_records(site: Site) -> list[dict[str, Any]]:
    document = site.run("quarantine", "list", "--json", "--full").document
    records: list[dict[str, Any]] = document["records"]
    return records


def test_a_document_has_the_exact_texts(hostile: Site) -> None:
    places = {record["place"] for record in site_records(hostile)}

    assert HOSTILE in places


def test_a_spreadsheet_evaluates_no_cell(hostile: Site) -> None:
    text = hostile.run("quarantine", "list", "--format", "csv").out

    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert any(cell.startswith("'=1+1") for cell in cells)
    assert [cell for cell in cells if cell[:1] in set("=+-@\t\r")] == []


def test_a_report_and_a_module_hold_no_hostile_text_as_it_is(hostile: Site) -> None:
    result = hostile.run(
        "inspect", "data", "--out", "made.py", "--report", "made.md", "--key",
        f"{_NAME}.json=id",
    )  # fmt: skip
    assert result.code in {0, 1}, result.err

    for name in ("made.py", "made.md"):
        assert harm_of((hostile.path / name).read_text()) == []
    compile((hostile.path / "made.py").read_text(), "made.py", "exec")


# -- with a database ----------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path, new_migrated_database: Callable[[ps.Schema], str]) -> Site:
    """A pair whose findings, quarantine and history hold hostile texts."""
    site = Site(tmp_path, new_migrated_database(SCHEMA))
    site.data.mkdir()
    site.configure(_CONFIG + _POSTGRES.format(url=site.url))
    (site.data / "wallet-db.json").write_text(json.dumps(WALLETS))
    with open_pair(load_settings(str(site.config), None)) as store:
        with store.acting(by=HOSTILE, reason=HOSTILE):
            store.switch(Phase.PARALLEL)
        now = datetime.now(UTC)
        store.collection(FindingRecord).put(
            FindingRecord(
                id="f" * 32,
                collection="users",
                key=HOSTILE,
                kind="different",
                source="read",
                differences=[{"path": [HOSTILE], "left": HOSTILE, "right": None}],
                first_seen=now,
                last_seen=now,
            )
        )
    return site


@pytest.mark.parametrize("form", ["pipe", "terminal"])
def test_a_pair_shows_authors_findings_and_messages_escaped(
    pair: Site, form: str
) -> None:
    commands = [
        ("status",),
        ("phase", "show"),
        ("doctor",),
        ("quarantine", "list"),
        ("db", "validate"),
        ("repair", "--dry-run"),
        ("phase", "advance", "--dry-run"),
        ("migrate", "json", "--dry-run"),
    ]
    base, _, query = pair.url.partition("?")
    wrong = f"{base.rpartition('/')[0]}/{quote(HOSTILE)}?{query}".rstrip("?")

    assert harm(pair, *commands, form=form, LOGNAME=_NAME) == []
    told = output(form, pair, [("status",), ("doctor",)], PEND_DATABASE_URL=wrong)
    assert [harm_of(text) for text in told] == [[], []]
    assert "does not exist" in "".join(told)  # the server's own words


def test_the_check_of_harm_bites() -> None:
    assert harm_of("ok\n\x1b[32mok\x1b[0m\r\n") == []
    assert harm_of("a\x1b]0;t\x07") == ["'\\x07'", "'\\x1b'"]
    assert harm_of(f"a\n{FORGED}") == [FORGED]
    assert harm_of("\x1b[2J") != []
