"""The glossary: each term once, with a meaning, and names that the code has."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/reference/glossary.md").read_text(encoding="utf-8")
PUBLIC, _, _REST = PAGE.partition("## Words of the code")
CODE, _, _ = _REST.partition("## Words that are not used")
NAME: Final = re.compile(r"`([\w/.]+)`")
PEERS: Final = (
    "PostgreSQL", "MySQL", "Vitess", "gh-ost", "Debezium", "Litestream", "LaunchDarkly"
)  # fmt: skip


def rows(text: str, columns: int) -> list[list[str]]:
    """Return the cells of each row of the tables with so many columns."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == columns and row[0] not in HEADS]


HEADS: Final = {"term", "name", "not"}
TERMS: Final = rows(PUBLIC, 3)
NAMES: Final = rows(CODE, 4)


@cache
def defined() -> set[str]:
    """Return the names of modules, classes, functions and annotated attributes."""
    found: set[str] = set()
    for path in (ROOT / "pend_storage").rglob("*.py"):
        found.add(path.name.lstrip("_"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    found.add(name.lstrip("_"))
                case ast.AnnAssign(target=ast.Name(id=name)):
                    found.add(name.lstrip("_"))
                case _:
                    pass
    return found


def exists(name: str) -> bool:
    """Return True if a module, class or function has this name, or with an underscore."""
    return (
        re.split(r"[./]", name.removesuffix(".py"))[-1].lstrip("_")
        + (".py" if name.endswith(".py") else "")
        in defined()
    )


def test_every_term_stands_there_once() -> None:
    terms = re.findall(r"^\| ((?:\*[\w -]+\*(?:, )?)+) \|", PUBLIC, re.MULTILINE)
    words = [word for term in terms for word in re.findall(r"\*([^*]+)\*", term)]

    assert len(words) == len(set(words))
    assert len(TERMS) > 40
    for expected in [
        "collection",
        "record",
        "key",
        "version",
        "commit",
        "mark",
        "position",
        "role",
        "epoch",
        "phase",
        "relay",
        "backfill",
        "tombstone",
        "divergence",
        "repair",
        "quarantine",
        "layout",
    ]:
        assert expected in words
    assert "change log" in words


@pytest.mark.parametrize("row", TERMS, ids=lambda row: str(row[0]))
def test_every_term_has_a_meaning(row: list[str]) -> None:
    assert len(row[1]) > 10


@pytest.mark.parametrize("peer", PEERS)
def test_the_words_of_others_are_there(peer: str) -> None:
    assert PAGE.count(peer) >= 3


@pytest.mark.parametrize("row", NAMES, ids=lambda row: str(row[0]))
def test_every_name_of_the_code_is_there_or_is_still_called_as_before(
    row: list[str],
) -> None:
    name, meaning, _, before = row
    current = [each for each in NAME.findall(name) if exists(each)]

    assert current or any(map(exists, NAME.findall(before))), f"{name} is not defined"
    assert len(meaning) > 10
