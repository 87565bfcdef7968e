"""The voice of texts: nouns and verbs of the field, no riddles.

Docstrings, comments, messages and pages name things by the words of
``docs/reference/glossary.md``. Two kinds of text are counted in each file: phrases that
say neither who nor what, and first lines of docstrings that begin with a question word
instead of a noun or a verb. ``words_baseline.json`` beside this file has the counts that
a file may have at most. They may only shrink; new files have none. Write the file anew,
after texts were mended or files were moved, by::

    python tests/unit/test_words.py
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
BASELINE_FILE: Final = Path(__file__).with_name("words_baseline.json")
BASELINE: Final[dict[str, dict[str, int]]] = (
    json.loads(BASELINE_FILE.read_text()) if BASELINE_FILE.exists() else {}
)

BANNED: Final = (
    "whoever", "whomever", "whosoever", "somebody", "nobody",
    "is told", "are told", "was told", "were told", "be told", "tells of", "is asked of",
    "is borne", "are borne", "see the module", "sees to it that", "looks after",
    "knows nothing of", "in the company of", "through no wish of", "beyond all measure",
)  # fmt: skip
"""Phrases that may not stand in any text, in whatever case, also over a line's end."""
QUESTIONS: Final = (
    "What", "Whatever", "Whether", "Which", "Who", "Whose", "Whom", "How", "Where",
    "When", "Why",
)  # fmt: skip
"""Words with which no first line of a docstring of the package begins."""

_PHRASE: Final = re.compile(
    r"\b(?:" + "|".join(each.replace(" ", r"[\s#]+") for each in BANNED) + r")\b",
    re.IGNORECASE,
)
_QUESTION: Final = re.compile(rf"(?:{'|'.join(QUESTIONS)})\b")
_EXEMPT: Final = frozenset({"tests/unit/test_words.py", "CHANGELOG.md"})
"""This file has the phrases. The changelog says what was written at its time."""


def sources() -> Iterator[Path]:
    """Yield every file whose text is checked."""
    for folder in ("pend_storage", "tests", "benchmarks", "docs", ".github"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".pyi", ".md", ".yml"} and not {
                "_build", "__pycache__"
            } & set(path.parts):  # fmt: skip
                yield path
    yield from sorted(ROOT.glob("*.md"))


def phrases(text: str) -> list[str]:
    """Return the banned phrases of a text."""
    return [" ".join(found.split()).lower() for found in _PHRASE.findall(text)]


def first_lines(text: str) -> list[str]:
    """Return the first lines of a module's docstrings that begin with a question."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = (node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds))
    firsts = ((ast.get_docstring(node) or "").partition("\n")[0] for node in documented)
    return [line for line in firsts if _QUESTION.match(line)]


@cache
def counted() -> dict[str, dict[str, int]]:
    """Count both kinds in every file; a file without any is left out."""
    found: dict[str, dict[str, int]] = {"phrases": {}, "first lines": {}}
    for path in sources():
        name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        if name not in _EXEMPT and (number := len(phrases(text))):
            found["phrases"][name] = number
        if name.startswith("pend_storage/") and (number := len(first_lines(text))):
            found["first lines"][name] = number
    return found


@pytest.mark.parametrize("kind", ["phrases", "first lines"])
def test_no_text_has_more_of_the_old_voice_than_before(kind: str) -> None:
    allowed = BASELINE[kind]
    worse = {
        name: f"{number} instead of {allowed.get(name, 0)}"
        for name, number in counted()[kind].items()
        if number > allowed.get(name, 0)
    }

    assert not worse, f"{kind}: {worse}. See {Path(__file__).name} for what is counted."


def test_phrases_are_found_in_whatever_case_and_over_the_end_of_a_line() -> None:
    text = "Whoever waits\n# is\n# told of it; a fellow, and test_nobody_is_told.\n"

    assert phrases(text) == ["whoever", "is # told"]
    assert phrases("The caller waits. The event names the file.") == []


def test_a_first_line_is_a_noun_or_a_verb() -> None:
    text = '"""Whether it holds."""\ndef f():\n    """Return it.\n\n    What for."""\n'

    assert first_lines(text) == ["Whether it holds."]


def rewrite() -> None:
    """Write the baseline anew; refuse if there is more of the old voice than before."""
    found = counted()
    for kind, files in found.items():
        before, now = sum(BASELINE.get(kind, {}).values()), sum(files.values())
        if BASELINE and now > before:
            sys.exit(f"{kind}: {now} instead of {before}: the baseline may only shrink")
        print(f"{kind}: {now} in {len(files)} files, before {before}")  # noqa: T201
    BASELINE_FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    rewrite()
