"""Project configuration: the names in it exist, and hooks use pinned tools."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY_POINT: Final = (ROOT / ".ci/run").read_text()
MUTMUT: Final[dict[str, list[str]]] = PROJECT["tool"]["mutmut"]
FIRST_PAGES: Final = (
    "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "README.md",
    "SECURITY.md", ".editorconfig", ".pre-commit-config.yaml",
    ".github/PULL_REQUEST_TEMPLATE.md", ".github/ISSUE_TEMPLATE/bug.yml",
    ".github/ISSUE_TEMPLATE/config.yml", ".github/ISSUE_TEMPLATE/feature.yml",
)  # fmt: skip
IMPURE: Final = re.compile(
    r"^(?:from|import) (?:os|socket|threading|subprocess|asyncio|psycopg|redis)\b",
    re.MULTILINE,
)


@pytest.mark.parametrize("name", FIRST_PAGES)
def test_what_newcomers_look_for_is_there(name: str) -> None:
    assert (ROOT / name).read_text().strip()


@pytest.mark.parametrize("path", MUTMUT["only_mutate"])
def test_every_pure_module_is_there_and_does_no_input_or_output(path: str) -> None:
    assert not IMPURE.search((ROOT / path).read_text())


@pytest.mark.parametrize("path", MUTMUT["pytest_add_cli_args_test_selection"])
def test_every_test_of_the_pure_modules_is_there(path: str) -> None:
    assert (ROOT / path).is_file()


def test_hooks_use_the_tools_of_the_environment() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    pinned = PROJECT["project"]["optional-dependencies"]
    packages = {
        re.split(r"[=<>]", each)[0] for each in pinned["lint"] + pinned["types"]
    }

    for repository in config["repos"]:
        assert repository["repo"] == "local"  # nothing is downloaded at another version
        for hook in repository["hooks"]:
            tool = hook["entry"].split()[0].removeprefix(".venv/bin/")
            assert hook["language"] == "system"
            assert {"lint-imports": "import-linter"}.get(tool, tool) in packages


def test_contributors_are_told_every_command_of_the_entry_point() -> None:
    (commands,) = re.findall(r"usage: \.ci/run \[([\w|]+)\]", ENTRY_POINT)
    guide = (ROOT / "CONTRIBUTING.md").read_text()

    for command in commands.split("|"):
        assert f"{command}() {{" in ENTRY_POINT
        assert re.search(rf"`(?:\.ci/run )?{command}`", guide), command


def test_links_of_the_package_index_name_pages_that_are_there() -> None:
    urls = PROJECT["project"]["urls"]
    repository = urls["Repository"]

    assert {"Documentation", "Changelog", "Issues"} <= set(urls)
    for url in urls.values():
        assert url.startswith(repository)
        if "/blob/main/" in url:
            assert (ROOT / url.partition("/blob/main/")[2]).is_file()
