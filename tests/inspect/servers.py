"""Directories of four kinds of servers that keep JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.inspect.zoo import put

__all__ = ["SERVERS"]


def lowdb(directory: Path) -> None:
    """One file with everything, as lowdb and json-server keep it."""
    put(
        directory,
        "db.json",
        {
            "posts": [
                {"id": n, "title": f"Post {n}", "authorId": n % 3, "tags": ["a", "b"]}
                for n in range(30)
            ],
            "users": [{"id": n, "name": f"User {n}"} for n in range(3)],
            "profile": {"name": "typicode"},
        },
    )


def tinydb(directory: Path) -> None:
    """TinyDB: tables of records by number, as it prints them."""
    records = {str(n): {"name": f"n{n}", "count": n, "tags": []} for n in range(1, 40)}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "db.json").write_text(json.dumps({"_default": records}))


def lines(directory: Path) -> None:
    """A log with one record a line, and NeDB's file."""
    events = [
        {"id": f"e{n}", "at": f"2025-06-{n % 28 + 1:02}T10:00:00.000Z", "level": "info"}
        for n in range(50)
    ]
    put(directory, "events.jsonl", "".join(json.dumps(e) + "\n" for e in events))
    put(directory, "users.ndjson", '{"_id":"a","n":1}\n{"_id":"b","n":2}\n')


def bot(directory: Path) -> None:
    """A bot's directory: ten files of ten kinds."""
    guilds = [str(10**17 + n) for n in range(5)]
    users = [str(2 * 10**17 + n) for n in range(12)]
    put(directory, "economy.json", {u: {"wallet": 5, "bank": 0.5} for u in users})
    put(
        directory,
        "warnings.json",
        {g: {u: [{"reason": "spam"}] for u in users[:3]} for g in guilds},
    )
    put(directory, "prefixes.json", dict.fromkeys(guilds, "!"))
    put(
        directory,
        "levels.json",
        {g: {u: {"xp": n, "level": 1} for n, u in enumerate(users)} for g in guilds},
    )
    put(directory, "blacklist.json", [int(u) for u in users[:4]])
    put(
        directory,
        "reminders.json",
        [{"user": int(u), "at": 1_750_000_000 + n} for n, u in enumerate(users)],
    )
    put(
        directory,
        "shop.json",
        {"items": [{"id": n, "name": f"i{n}", "price": n * 10} for n in range(8)]},
    )
    put(
        directory,
        "todos.json",
        {"metadata": {"count": 2}, "todos": {u: {"done": False} for u in users}},
    )
    put(directory, "config.json", {"prefix": "!", "debug": False, "owner": 5})
    put(directory, "counter.json", 41)
    put(directory, "afk.json", {})


def folders(directory: Path) -> None:
    """One file for each record, in two folders, beside a file of another kind."""
    for n in range(7):
        record = {"coins": n, "name": f"n{n}", "tags": []}
        put(directory, f"users/{10**17 + n}.json", record)
        put(directory, f"rooms/r{n}.json", {"id": f"r{n}", "title": "t", "size": n})
    put(directory, "products.json", [{"id": n} for n in range(3)])


SERVERS: dict[str, Callable[[Path], None]] = {
    "lowdb": lowdb,
    "tinydb": tinydb,
    "lines": lines,
    "bot": bot,
    "folders": folders,
}
