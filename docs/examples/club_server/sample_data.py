"""Invents the ten files of the club: ``python sample_data.py DIRECTORY``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FILES: dict[str, Any] = {
    "economy.json": {
        str(100_000_000_000_000_000 + number): {
            "wallet": 50 * number,
            "bank": 1000 - number,
            "inventory": ["mug"] * (number % 3),
            "used_codes": [],
        }
        for number in range(1, 41)
    },
    "products.json": [
        {"id": number, "name": name, "price": 4.5 * number, "stock": 20 - number}
        for number, name in enumerate(["mug", "shirt", "sticker", "poster"], start=1)
    ],
    "orders.json": [
        {
            "id": number,
            "price": 4.5,
            "user": str(100_000_000_000_000_000 + number),
            "product": 1,
        }
        for number in range(1, 31)
    ],
    "warnings.json": {
        "700000000000000001": {
            "100000000000000003": [{"reason": "spam", "number": 1}],
            "100000000000000004": [],
        },
        "700000000000000002": {},
    },
    "todos.json": {
        "metadata": {"count": 2},
        "todos": {
            "1": {"text": "order mugs", "done": True},
            "2": {"text": "print posters", "done": False},
        },
    },
    "db.json": {
        "posts": [{"id": 1, "author": "ada", "text": "Welcome to the club"}],
        "authors": [{"name": "ada", "posts": 1}],
    },
    "settings.json": {
        "language": "en",
        "shop": {"open": True, "currency": "EUR"},
        "colours": ["red", "black"],
    },
    "prefixes.json": {"700000000000000001": "!", "700000000000000002": "?"},
    "blocked.json": ["100000000000000039"],
    "counter.json": 1041,
}


def write(directory: Path) -> None:
    """Write the files into a directory, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in FILES.items():
        (directory / name).write_text(json.dumps(value, indent=2), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
