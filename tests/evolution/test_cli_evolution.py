"""``json migrate`` and ``db migrate`` as an operator calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pend_storage.dualwrite import Blocker, Readiness
from pend_storage.operations.facts import obstacles
from pend_storage.phases import Phase
from tests.integration.cli.conftest import clean_environment

BEFORE = """
from dataclasses import dataclass
import pend_storage as ps

@dataclass(frozen=True)
class Note:
    id: str
    text: str = ""
    stars: int = 0

SCHEMA = ps.Schema([ps.collection("notes", Note)])
"""
AFTER = (
    BEFORE.replace("text: str", "body: str")
    .replace("stars: int = 0", 'stars: str = ""')
    .replace(
        '"notes", Note',
        '"notes", Note, evolve=ps.Evolve(\n'
        '    renamed_from={"body": "text"}, convert={"stars": "{} stars".format})',
    )
)
FILL = """
import notes, pend_storage as ps
with ps.open_store("pend.toml") as store:
    store.collection(notes.Note).put_many([notes.Note("a", "one", 1), notes.Note("b")])
"""


@dataclass(frozen=True)
class Place:
    path: Path

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env={**clean_environment(), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        done = self.call("-m", "pend_storage", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def document(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code))

    def write(self, module: str) -> None:
        (self.path / "notes.py").write_text(module)


@pytest.fixture
def place(tmp_path: Path, new_database: Callable[[], str]) -> Place:
    (tmp_path / "pend.toml").write_text(
        '[environments.development]\nphase = "json-only"\nschema = "notes"\n'
        '[environments.development.json]\ndirectory = "data"\n'
        f'[environments.development.postgres]\nurl = "{new_database()}"\n'
    )
    (tmp_path / "data").mkdir()
    found = Place(tmp_path)
    found.write(BEFORE)
    found.run("db", "migrate")
    done = found.call("-c", FILL)
    assert done.returncode == 0, done.stderr
    return found


def test_both_sides_are_migrated_by_two_commands(place: Place) -> None:
    place.write(AFTER)
    assert "db migrate" in place.run("db", "status", code=1)
    assert "that of notes as it was then" in " ".join(
        place.run("status", code=1).split()
    )

    dry = place.document("json", "migrate", "--dry-run", code=1)
    assert [change["need"] for change in dry["changes"]] == ["migration", "conversion"]
    assert dry["records"] == {"notes": 2}
    shown = place.run("json", "migrate", "--dry-run", code=1)
    assert "notes.text is called body now" in shown
    sql = place.run("db", "migrate", "--sql")
    assert 'alter table "public".notes rename column text to body;' in sql

    assert "notes.stars changes from int to str" in place.run("json", "migrate")
    assert "2 changes of the schema" in place.run("db", "migrate")
    again = place.document("json", "migrate")
    assert (again["ok"], again["changes"]) == (True, [])
    assert "the schema is current" in place.run("db", "migrate")

    assert json.loads((place.path / "data/notes.json").read_text())["a"] == {
        "id": "a",
        "body": "one",
        "stars": "1 stars",
    }
    for command in (
        ["db", "seed"],
        ["phase", "set", "parallel"],
        ["migrate", "json"],
        ["db", "validate"],
    ):
        place.run(*command)


def test_what_would_be_deleted_needs_consent(place: Place) -> None:
    place.write(BEFORE.replace("    stars: int = 0\n", ""))

    for side in ("json", "db"):
        told = place.run(side, "migrate", code=2)
        assert "notes.stars is removed: agree by --drop" in " ".join(told.split())
    place.run("json", "migrate", "--drop")
    place.run("db", "migrate", "--drop")

    assert "stars" not in (place.path / "data/notes.json").read_text()


def test_another_schema_module_can_be_named(place: Place) -> None:
    (place.path / "later.py").write_text(AFTER)

    place.run("json", "migrate", "--schema", "later")
    place.run("db", "migrate", "--schema", "later")

    told = " ".join(place.run("db", "seed", code=2).split())
    assert "was migrated with the schema of later" in told
    assert "newer program" not in told


def test_the_wrong_schema_is_named_and_its_empty_tables_go(place: Place) -> None:
    place.run("db", "migrate", "--schema", "pend_storage.pend", code=2)
    place.run("db", "migrate", "--schema", "pend_storage.pend", "--drop-empty")

    told = place.run("db", "migrate", code=2)
    assert "was migrated with the schema of pend_storage.pend" in " ".join(told.split())
    assert "pend-storage db migrate --drop-empty" in " ".join(told.split())
    place.run("db", "migrate", "--drop-empty")
    place.run("db", "seed")


@pytest.mark.parametrize(
    ("sentence", "remedy"),
    [
        ("x has never been migrated. Run migrate() (pend-storage db migrate).", None),
        (
            "If that was wrong, drop it: pend-storage db migrate --drop-empty. If",
            "pend-storage db migrate --drop-empty",
        ),
        ("the database belongs to the environment 'a'", "pend-storage doctor"),
        ("a newer program has migrated. Update this program", "pend-storage doctor"),
        ("run JsonStore.migrate() (pend-storage json migrate; --dry-run", "json"),
    ],
)
def test_the_remedy_is_the_command_that_the_sentence_names(
    sentence: str, remedy: str | None
) -> None:
    found = Readiness(Phase.PARALLEL, (Phase.PARALLEL,), (Blocker("schema", sentence),))
    wanted = {None: "pend-storage db migrate", "json": "pend-storage json migrate"}

    assert obstacles(found.blockers)[0].remedy == wanted.get(remedy, remedy)
