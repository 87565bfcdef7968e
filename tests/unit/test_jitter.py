"""Pauses are spread, and the application's own generator is left alone."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pend_storage import _jitter as jitter
from pend_storage._transaction import Transaction
from pend_storage.errors import Conflict
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.stores.json import JsonStore
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA as DOMAIN


def test_a_number_is_between_both() -> None:
    found = {jitter.between(0.5, 1.0) for _ in range(100)}

    assert len(found) > 1
    assert all(0.5 <= number <= 1.0 for number in found)


@pytest.mark.parametrize(
    ("attempt", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (9_999, 3.0)]
)
def test_pauses_grow_up_to_a_limit(attempt: int, longest: float) -> None:
    state: Any = SimpleNamespace(attempt_number=attempt)
    pause = jitter.growing(first=0.5, most=3.0)

    found = [pause(state) for _ in range(200)]

    assert all(0.0 <= seconds <= longest for seconds in found)
    assert max(found) > longest / 2


def test_the_generator_of_the_application_is_left_alone(tmp_path: Path) -> None:
    before = random.getstate()

    with JsonStore(
        SCHEMA, tmp_path, layouts=LAYOUTS, checkpoint_interval=0.01
    ) as store:
        store.legacy("wallet-db.json")["0x" + "a" * 64] = "0x" + "b" * 40
        store.checkpoint()
    with MemoryStore(DOMAIN) as memory, pytest.raises(Conflict):
        memory.run(never_ends_well, attempts=4)

    assert random.getstate() == before


def never_ends_well(_: Transaction) -> None:
    raise Conflict(collection="logs", key="a", expected=1, actual=2)
