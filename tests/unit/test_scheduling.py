"""The order of a run: slow scopes first, and a table that names scopes that exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.scheduling import SLOW_SCOPES_FILE, slow_scopes

ROOT: Final = Path(__file__).parents[2]
SCOPES: Final[dict[str, float]] = json.loads(SLOW_SCOPES_FILE.read_text())
FEW: Final = ("attribution", "crashpoints", "diff", "testing_package")
"""Modules of tests without a server."""
PLUGIN: Final = """
import pytest
from tests.scheduling import SlowestFirst

def pytest_xdist_make_scheduler(config, log):
    return SlowestFirst(config, log, {"test_b.py": 9.0, "test_c.py::TestMany": 5.0})

@pytest.hookimpl
def pytest_runtest_logstart(nodeid):
    print("started", nodeid)
"""


def test_each_slow_scope_is_there() -> None:
    missing = []
    for scope in SCOPES:
        file, *classes = scope.split("::")
        path = ROOT / file
        words = set(re.findall(r"\w+", path.read_text())) if path.exists() else set()
        if not (path.exists() and words.issuperset(classes)):
            missing.append(scope)

    assert len(SCOPES) > 100
    assert missing == []


def test_slow_scopes_are_started_before_those_with_more_tests(tmp_path: Path) -> None:
    one, many = "def test_one(): pass\n", "@pytest.mark.parametrize('n', range(20))\n"
    (tmp_path / "test_a.py").write_text(
        f"import pytest\n{many}def test_a(n): pass\n", encoding="utf-8"
    )
    (tmp_path / "test_b.py").write_text(one, encoding="utf-8")
    (tmp_path / "test_c.py").write_text(
        f"import pytest\nclass TestMany:\n    {many}    def test_c(self, n): pass\n",
        encoding="utf-8",
    )
    (tmp_path / "test_d.py").write_text(one, encoding="utf-8")
    (tmp_path / "plugin_of_the_run.py").write_text(PLUGIN, encoding="utf-8")

    shown = run(tmp_path, "-p", "plugin_of_the_run", "-n", "1", "--dist=loadscope")

    scopes = re.findall(r"started (\S+)::", shown)
    assert list(dict.fromkeys(scopes)) == [
        "test_b.py",
        "test_c.py::TestMany",
        "test_a.py",
        "test_d.py",
    ]


def test_the_runs_of_this_project_are_scheduled_so() -> None:
    shown = run(ROOT, "-n", "1", "-v", *(f"tests/unit/test_{n}.py" for n in FEW))

    assert "scheduling tests via SlowestFirst" in shown
    assert (
        "units waiting" not in shown
    )  # what the scheduler logs for those who debug it


def test_the_table_is_made_of_the_report_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = "<testcase classname='{}' name='{}' time='{}'/>"
    cases = (
        ("tests.unit.test_codec", "test_a", 2.0),
        ("tests.unit.test_codec", "test_b[1]", 2.04),
        ("tests.contract.test_memory.TestMemory", "test_c", 4.0),
        ("tests.unit.test_query", "test_d", 1.0),
        ("docs.tutorial.md", "line:1,column:1", 5.0),
    )
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        + "".join(case.format(*each) for each in cases)
        + "</testsuite></testsuites>",
        encoding="utf-8",
    )
    monkeypatch.chdir(ROOT)

    assert slow_scopes(report) == {
        "docs/tutorial.md": 5.0,
        "tests/contract/test_memory.py::TestMemory": 4.0,
        "tests/unit/test_codec.py": 4.0,
    }


def run(directory: Path, *arguments: str) -> str:
    path = os.pathsep.join((str(directory), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-p", "no:randomly", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
