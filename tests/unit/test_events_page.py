"""The events page: every event that the library has is on it, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "pend_storage"
PAGE: Final = ROOT / "docs/reference/events.md"

HYPHENATED: Final = re.compile(r"[a-z]+(-[a-z]+)+").fullmatch
THREAD: Final = re.compile(r"pend-[a-z-]+").fullmatch
REASONS: Final = frozenset({"slow-target", "too-large"})
"""Hyphenated words in modules of events that are facts of an event, or codes."""


def words(source: str) -> set[str]:
    """The hyphenated words of a module that makes events."""
    tree = ast.parse(source)
    makes_events = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "pend_storage.events"
        and any(alias.name == "Event" for alias in node.names)
        for node in ast.walk(tree)
    )
    found = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and HYPHENATED(node.value)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name("Event"), [ast.Constant(str(name)), *_]):
                found.add(name)
            case _:
                pass
    return {word for word in found if not THREAD(word)} if makes_events else set()


def in_the_library() -> set[str]:
    """The names of all events."""
    sources = [
        path
        for path in PACKAGE.rglob("*.py")
        if not {"testing", "cli"} & set(path.relative_to(PACKAGE).parts)
    ]
    found = set().union(*(words(path.read_text(encoding="utf-8")) for path in sources))
    return found - REASONS


def on_the_page() -> list[str]:
    """The names that begin a row of a table."""
    return re.findall(
        r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )


OF_A_VARIABLE: Final = {"flags/auto.py": ("auto-switch-refused", "auto-switch-failed")}
"""Events whose name is in a variable, and which have fields."""


def fields_in(path: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """Name and fields of each event that a module makes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name("Event"), [first, *rest], keywords):
                given = [k.value for k in keywords if k.arg == "fields"] + rest[2:3]
            case _:
                continue
        place = path.relative_to(PACKAGE).as_posix()
        found: frozenset[str] = frozenset()
        for value in given:
            members = named.get(getattr(value, "id", ""), value)
            assert isinstance(members, ast.Dict), f"{place}: fields that cannot be read"
            found |= {str(ast.literal_eval(key)) for key in members.keys if key}
        if isinstance(first, ast.Constant):
            yield str(first.value), found
        elif found:
            for name in OF_A_VARIABLE[place]:
                yield name, found


def fields_in_the_library() -> dict[str, set[str]]:
    """The fields of each event."""
    fields: dict[str, set[str]] = {name: set() for name in in_the_library()}
    for path in PACKAGE.rglob("*.py"):
        if not {"testing", "cli"} & set(path.relative_to(PACKAGE).parts):
            for name, found in fields_in(path):
                fields.setdefault(name, set()).update(found)
    return fields


def test_the_fields_of_every_event_are_on_the_page() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]+) \|",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    on_page = {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows}

    assert on_page == fields_in_the_library()


def test_every_event_is_on_the_page_and_no_other() -> None:
    found = in_the_library()

    assert len(found) > 35
    assert sorted(on_the_page()) == sorted(found)


def test_no_event_is_on_the_page_twice() -> None:
    assert len(on_the_page()) == len(set(on_the_page()))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "from pend_storage.events import Event\nEvent('a-new-one', '')",
            {"a-new-one"},
        ),
        ("from pend_storage.events import Event\nx = 'pend-thread'", set()),
        ("from pend_storage.events import Hook\nx = 'no-event-here'", set()),
    ],
)
def test_a_new_event_would_be_noticed(source: str, expected: set[str]) -> None:
    assert words(source) == expected
