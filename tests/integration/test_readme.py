"""Every block of the README is run; the first two are what they promise to be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pend_storage.sample_data import generate
from tests.ages import age

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
INSTALL = re.compile(
    r"python3 -m venv \.venv && \.venv/bin/pip install -q '\.\[(\w+)\]' && (.+)\n"
)


def bash(script: str, directory: Path, **environment: str) -> str:
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env={
            **os.environ,
            **environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in {0, 1}, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_first_two_blocks_are_one_pasteable_line_each() -> None:
    for (language, text), extra in zip(BLOCKS[:2], ("demo", "test"), strict=True):
        found = INSTALL.fullmatch(text)

        assert language == "bash"
        assert found is not None
        assert found[1] == extra


@pytest.mark.parametrize(
    "pace",
    ["--pace 0.2", pytest.param("", id="as it is", marks=pytest.mark.deep)],
)
def test_the_first_command_shows_the_demo(tmp_path: Path, pace: str) -> None:
    """Without the pauses for those who watch, which are most of its time."""
    found = INSTALL.fullmatch(BLOCKS[0][1])
    assert found is not None
    command = found[2].replace(".venv/bin/", "")

    shown = bash(f"{command} {pace}", tmp_path, TMPDIR=str(tmp_path))

    assert "All is well" in shown
    for word in ("wallet-db.json", "blockchain_events", "half", "same answer", "ms"):
        assert word in shown
    assert "quarantine" in shown
    assert not list(tmp_path.glob("pend-demo-*"))  # it cleans up


def test_the_second_command_is_what_integration_runs() -> None:
    found = INSTALL.fullmatch(BLOCKS[1][1])

    assert found is not None
    assert found[2] == ".venv/bin/pytest"
    assert "n == 2' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_ten_lines_print_what_they_ask_for(tmp_path: Path) -> None:
    (example,) = [text for language, text in BLOCKS if language == "python"]
    file = tmp_path / "data" / "economy.json"
    file.parent.mkdir()
    (content,) = re.findall(r"such as `(\{.*\})`:", README)
    file.write_text(content, encoding="utf-8")
    age(file)

    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout == "{'wallet': 16, 'items': ['mug']} 1\n"
    assert json.loads(file.read_bytes()) == {"ann": {"wallet": 16, "items": ["mug"]}}


def test_the_commands_migrate_a_directory_and_change_the_phase(
    tmp_path: Path, new_database: Callable[[], str]
) -> None:
    generate(tmp_path / "data", users=20, irregular=0.0)
    url = new_database()

    shown = bash(BLOCKS[3][1], tmp_path, PEND_DATABASE_URL=url)
    moved = bash(BLOCKS[4][1], tmp_path, PEND_DATABASE_URL=url)

    assert "clean: " in shown
    assert "phase parallel" in moved
    assert "from parallel to json-only" in moved


@pytest.mark.parametrize(
    "link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README)))
)
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
