"""Tests that the documentation names exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if "_build" not in path.parts
)
REFERENCE: Final = re.compile(r"\b((?:tests|pend_storage)/[\w/]+\.py)::([\w:]+)")
FAILURES: Final = ROOT / "docs/explanation/failure-modes.md"
PROTOCOL: Final = ROOT / "docs/explanation/dual-writing.md"


def references(text: str) -> list[tuple[str, str]]:
    """File and name of each test that a text names."""
    return REFERENCE.findall(text)


@cache
def names(path: Path) -> frozenset[str]:
    """Return the names that a file defines, down to methods: ``TestThis::test_that``."""
    return frozenset(_defined(ast.parse(path.read_text(encoding="utf-8")).body))


def _defined(body: Iterable[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name
            case ast.ClassDef(name=name, body=inner):
                yield prefix + name
                yield from _defined(inner, f"{prefix}{name}::")
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield prefix + name
            case _:
                pass


def rows(page: Path, columns: int) -> list[str]:
    """The rows of all tables with so many columns, without their heads."""
    lines = page.read_text(encoding="utf-8").splitlines()
    tables = [line for line in lines if line.startswith("|")]
    return [
        line
        for number, line in enumerate(tables)
        if line.count("|") == columns + 1
        and not line.startswith("|---")
        and not tables[min(number + 1, len(tables) - 1)].startswith("|---")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    for file, name in references(page.read_text(encoding="utf-8")):
        assert (ROOT / file).is_file(), f"{page.name} names {file}, which is not there"
        assert name in names(ROOT / file), f"{page.name} names {file}::{name}"


def test_every_failure_names_what_proves_it() -> None:
    found = rows(FAILURES, 5)

    assert len(found) >= 30
    for row in found:
        assert references(row), f"nothing proves that {row}"


def test_every_invariant_names_the_tests_that_can_fail() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    found = dict(
        re.findall(r"^### (I\d) (.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    )

    assert list(found) == [f"I{n}" for n in range(1, 9)]
    for name, body in found.items():
        assert references(body), f"no test is named for {name}"


def test_a_test_that_is_not_there_would_be_noticed() -> None:
    here = Path(__file__).relative_to(ROOT)
    (found,) = references(f"see `{here}::test_that_never_was` there")

    assert found == (str(here), "test_that_never_was")
    assert found[1] not in names(ROOT / here)
    assert test_a_test_that_is_not_there_would_be_noticed.__name__ in names(ROOT / here)
