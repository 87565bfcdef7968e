"""Files as servers of all kinds keep them, and the shape that each has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pend_storage.inspect import Shape

__all__ = ["AMBIGUOUS", "SHAPES", "put"]

_HASHES = [f"0x{n:064x}" for n in (7**30, 7**31, 7**32)]
_LINES = '{"_id": "a1", "n": 1}\n{"_id": "a2", "n": 2}\n{"_id": "a3", "n": 3}\n'

SHAPES: dict[str, tuple[Any, Shape]] = {
    "products.json": (
        [{"id": f"P-{n}", "name": "Keyboard", "stock": n} for n in range(5)],
        Shape.LIST,
    ),
    "two.json": ([{"id": 1, "total": 9.5}, {"id": 2, "total": 1}], Shape.LIST),
    "economy.json": (
        {"80351110224678912": {"wallet": 5}, "80351110224678913": {"wallet": 7}},
        Shape.MAP,
    ),
    "hashes.json": (dict.fromkeys(_HASHES, "text"), Shape.MAP),
    "days.json": ({f"2025-07-{n:02}": {"users": n} for n in range(1, 20)}, Shape.MAP),
    "prefixes.json": ({str(10**17 + n): "!" for n in range(8)}, Shape.MAP),
    "people.json": (
        {f"user{n}": {"age": n, "city": "Rome"} for n in range(30)},
        Shape.MAP,
    ),
    "lists-by-id.json": (
        {str(10**17 + n): [{"reason": "spam", "by": 1}] for n in range(6)},
        Shape.MAP,
    ),
    "warnings.json": (
        {
            str(10**17 + guild): {
                str(10**16 + 7 * guild + user): {"count": user, "reasons": []}
                for user in range(3)
            }
            for guild in range(4)
        },
        Shape.MAP_OF_MAPS,
    ),
    "warned.json": (  # lists in maps, of two guilds, one of which is empty
        {str(10**17): {str(10**16 + 1): [{"n": 1}], str(10**16 + 2): []}, "9" * 18: {}},
        Shape.MAP_OF_MAPS,
    ),
    "levels.json": (
        {str(10**17 + g): {str(10**16 + g): 5, str(10**16 - g): 7} for g in range(3)},
        Shape.MAP_OF_MAPS,
    ),
    "logs.json": (
        {"logs": [{"at": "2025-01-01", "what": "start"}] * 3, "total": 3},
        Shape.WRAPPED_LIST,
    ),
    "only-list.json": ({"products": [{"id": "P-1"}]}, Shape.WRAPPED_LIST),
    "todos.json": (
        {
            "metadata": {"count": 2},
            "todos": {"1721": {"done": True}, "1722": {"done": False}},
        },
        Shape.WRAPPED_MAP,
    ),
    "tinydb.json": (
        {"_default": {str(n): {"name": "x", "n": n} for n in range(1, 5)}},
        Shape.WRAPPED_MAP,
    ),
    "tinydb-tables.json": (
        {
            "users": {str(n): {"name": "x", "n": n} for n in range(1, 5)},
            "rooms": {str(n): {"title": "y", "size": n} for n in range(1, 4)},
        },
        Shape.COLLECTIONS,
    ),
    "lowdb.json": (
        {
            "posts": [{"id": n, "title": "t", "views": 1} for n in range(4)],
            "users": [{"id": n, "name": "n", "mail": "m"} for n in range(3)],
            "profile": {"name": "typicode"},
        },
        Shape.COLLECTIONS,
    ),
    "config.json": (
        {
            "prefix": "!",
            "port": 8080,
            "debug": False,
            "database": {"host": "localhost", "port": 5432},
            "owners": [1, 2],
        },
        Shape.OBJECT,
    ),
    "counter.json": (17, Shape.SCALAR),
    "word.json": ("hello", Shape.SCALAR),
    "nothing.json": (None, Shape.SCALAR),
    "blocked.json": ([10**17, 10**17 + 1], Shape.SCALARS),
    "words.json": (["a", "b", "c"], Shape.SCALARS),
    "empty-list.json": ([], Shape.EMPTY),
    "empty-map.json": ({}, Shape.EMPTY),
    "events.jsonl": (_LINES, Shape.JSON_LINES),
    "nedb.json": (_LINES, Shape.JSON_LINES),
}
"""A file's content (a text as it is for JSON lines), and its shape."""

AMBIGUOUS: dict[str, Any] = {
    "alice.json": {"alice": 3},
    "mail.json": {"smtp": {"host": "a", "port": 1}, "imap": {"host": "b", "port": 2}},
    "scores.json": {"alice": 3, "bob": 4},
}
"""Maps or settings: the file does not show which."""


def put(directory: Path, name: str, content: Any) -> Path:
    """Write a file, as ``json.dump`` does unless it is JSON lines."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    is_text = isinstance(content, str) and "\n" in content
    path.write_text(content if is_text else json.dumps(content, indent=2))
    return path
