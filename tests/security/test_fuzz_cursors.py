"""Fuzzed cursors: a forged or mutated one is refused, or moves the window of its query."""

from __future__ import annotations

import base64
import random
from typing import Any

import msgspec
import pytest

from pend_storage.errors import InvalidQuery
from pend_storage.query import field
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Ship, a_ship

ORDERS: list[list[str]] = [[], ["crew"], ["-name", "price"], ["docked_at"], ["alarm"]]
VALUES: list[Any] = [
    None,
    True,
    -1,
    10**400,
    1e308,
    "",
    "x" * 5_000,
    "\u0000",
    "é",
    [],
    {},
    [[]] * 3,
    "2020-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "NaN",
    "1E+999999",
]


def cursor_of(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def mutations(chance: random.Random, cursor: str) -> str:
    """Return a mutation of a cursor: of its text, its bytes or its values."""
    content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    match chance.randrange(4):
        case 0:
            place = chance.randrange(len(cursor))
            letter = chance.choice("AZaz09-_=+/ \n\x00é\ud800")
            return cursor[:place] + letter + cursor[place + chance.randrange(3) :]
        case 1:
            changed = bytearray(content)
            changed[chance.randrange(len(changed))] = chance.randrange(256)
            return cursor_of(bytes(changed))
        case 2:
            signature, values, key = msgspec.json.decode(content)
            forged = [chance.choice(VALUES) for _ in values]
            parts = [signature, forged, chance.choice([key, *VALUES])]
            return cursor_of(msgspec.json.encode(parts))
        case _:
            return cursor_of(b"[" * chance.choice([1, 500, 100_000]) + content)


def fuzz(seed: int, count: int) -> None:
    chance = random.Random(seed)
    with MemoryStore(SCHEMA) as store:
        ships = store.collection(Ship)
        ships.put_many(a_ship(f"s{n}", crew=n % 3, name=f"n{n}") for n in range(9))
        ships.put_many(a_ship(f"hidden{n}", crew=900 + n) for n in range(3))
        is_shown = field("crew") < 900
        for order_by in ORDERS:
            page = ships.find(is_shown, order_by=order_by, limit=4)
            assert page.next is not None
            for _ in range(count):
                cursor = mutations(chance, page.next)
                try:
                    found = ships.find(is_shown, order_by=order_by, after=cursor)
                except InvalidQuery as error:
                    assert len(str(error)) < 1_000
                else:  # at most the window of the same query, never a hidden record
                    assert all(ship.crew < 900 for ship in found.items)


@pytest.mark.parametrize("seed", range(2))
def test_a_mutated_cursor_is_refused_or_moves_the_window(seed: int) -> None:
    fuzz(seed, 150)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_mutated_cursors_are_refused_or_move_the_window(seed: int) -> None:
    fuzz(seed, 5_000)
