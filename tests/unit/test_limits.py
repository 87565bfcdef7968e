"""Limits of values: the length before the pattern, and patterns of linear time."""

from __future__ import annotations

import ast
import itertools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

import pend_storage
from pend_storage import Limit, collection
from pend_storage._model import constraints, fast_path, limits
from pend_storage._model.limits import MAX_INDEXED_BYTES, MAX_PATTERN_INPUT
from pend_storage.errors import InvalidRecord
from pend_storage.schema import Schema

PACKAGE = Path(pend_storage.__file__).parent
ROOT = Path(__file__).parents[2]
SLOW = "^(a+)+$"
"""A pattern whose time doubles with each further character of a text that fails."""


@dataclass(frozen=True)
class Note:
    id: Annotated[str, Limit(pattern=SLOW)]
    short: Annotated[str, Limit(max_length=20, pattern=SLOW)] = "a"
    maybe: Annotated[str | None, Limit(min_length=1, max_length=20, pattern=SLOW)] = (
        None
    )
    free: Annotated[str, Limit(pattern="^b*$")] = ""
    long: Annotated[str, Limit(pattern="^b*$", max_length=2 * MAX_PATTERN_INPUT)] = ""


class Expressions:
    """Stands for the module ``re``, and counts the texts that patterns see."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def compile(self, pattern: str) -> Any:
        expressions = self

        class Expression:
            def search(self, text: str) -> object:
                expressions.seen.append(text)
                return re.search(pattern, text)

        return Expression()


@pytest.fixture
def expressions(monkeypatch: pytest.MonkeyPatch) -> Expressions:
    counting = Expressions()
    monkeypatch.setattr(fast_path, "re", counting)
    monkeypatch.setattr(constraints, "re", counting)
    return counting


@pytest.mark.parametrize(
    "text", ["a" * 40 + "!", "é" * 21, "a" * 21, "a" * 1_000_000 + "!"]
)
@pytest.mark.parametrize("name", ["short", "maybe"])
def test_a_pattern_never_sees_a_text_that_is_too_long(
    expressions: Expressions, name: str, text: str
) -> None:
    notes = Schema([collection("notes", Note)])
    fields: dict[str, Any] = {"id": "a", name: text}

    with pytest.raises(InvalidRecord, match=rf"{len(text)} long, 20 allowed"):
        notes.put("notes", Note(**fields))

    assert text not in expressions.seen


def test_a_key_is_measured_before_its_pattern_sees_it(expressions: Expressions) -> None:
    notes = Schema([collection("notes", Note)])

    for key in ("a" * (MAX_INDEXED_BYTES + 1), "é" * MAX_INDEXED_BYTES):
        with pytest.raises(InvalidRecord, match="an index holds"):
            notes.put("notes", Note(key))
    assert not expressions.seen


def test_a_pattern_without_a_length_sees_ten_thousand_characters() -> None:
    notes = Schema([collection("notes", Note)])

    notes.put("notes", Note("a", free="b" * MAX_PATTERN_INPUT))
    notes.put("notes", Note("a", long="b" * (MAX_PATTERN_INPUT + 1)))
    for text in ("b" * (MAX_PATTERN_INPUT + 1), "é" * (MAX_PATTERN_INPUT + 1)):
        with pytest.raises(InvalidRecord, match="declare max_length beside it"):
            notes.put("notes", Note("a", free=text))


# -- our own patterns -------------------------------------------------------------------


def own_patterns() -> Iterator[tuple[str, Any, str, int]]:
    """Yield each pattern of the package: its place, its text, how it is used, its flags."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not re.search(
            r"\bre\.[a-z]", text
        ):  # parsing all modules is a tenth of the collection's time
            continue
        tree = ast.parse(text)
        uses = {
            id(node.value): node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
        }
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            ):
                continue
            if getattr(node.func.value, "id", None) != "re" or not node.args:
                continue
            if not isinstance(node.args[0], ast.Constant):
                continue
            how = node.func.attr
            if how == "compile":
                how = uses.get(id(node), "search")
            flags = re.NOFLAG
            for flag in ("VERBOSE", "DOTALL", "IGNORECASE", "MULTILINE", "ASCII"):
                if any(f"re.{flag}" in ast.unparse(a) for a in node.args[1:]):
                    flags |= re.RegexFlag[flag]
            place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
            yield place, node.args[0].value, how, flags


PATTERNS = list(own_patterns())


def hostile_texts(pattern: str) -> Iterator[str]:
    """Yield short texts to repeat: each pair of characters that the pattern may stop at."""
    characters = {*re.sub(r"[\\\[\](){}|?*+^$]", "", pattern)[:12], *'a1 "e.'}
    yield from map("".join, itertools.product(sorted(characters), repeat=2))


def seconds(search: Callable[[Any], object], text: Any) -> float:
    begun = time.process_time()
    search(text)
    return time.process_time() - begun


@pytest.mark.parametrize(
    ("pattern", "how", "flags"),
    [row[1:] for row in PATTERNS],
    ids=[f"{number}-{row[0]}" for number, row in enumerate(PATTERNS)],
)
def test_the_time_of_an_own_pattern_grows_with_the_text_alone(
    pattern: Any, how: str, flags: int
) -> None:
    is_bytes = isinstance(pattern, bytes)
    compiled = re.compile(pattern, flags)
    way = getattr(compiled, how if how in {"match", "fullmatch"} else "search")

    for piece in hostile_texts(pattern.decode("latin-1") if is_bytes else pattern):
        texts: list[Any] = [piece * count + "\x01" for count in (500, 4_000)]
        if is_bytes:
            texts = [text.encode(errors="surrogatepass") for text in texts]
        few = many = 0.0
        for _ in range(5):
            few, many = (seconds(way, text) for text in texts)
            # Eight times as long; 64 times the time is quadratic.
            if many < 0.005 or many < 25 * few:
                break
        else:
            pytest.fail(f"{piece!r}: {few:.6f} s, and 8 times as long {many:.6f} s")


# -- the page of limits -------------------------------------------------------------------


def test_the_page_of_limits_has_every_limit_with_its_value() -> None:
    page = (ROOT / "docs" / "reference" / "limits.md").read_text("utf-8")
    rows = re.findall(r"^\| `(MAX_\w+)` \|.*\| ([\d,]+) \|[^|]*\|$", page, re.MULTILINE)
    left_out = {"MAX_BITS"}  # it is that of MAX_DIGITS

    written = {name: int(number.replace(",", "")) for name, number in rows}

    assert written == {
        name: getattr(limits, name) for name in limits.__all__ if name not in left_out
    }
