from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pend_storage.schema import Schema
from pend_storage.store import Store

from .places import KINDS, Place


@pytest.fixture(params=KINDS, ids=str)
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    new_migrated_database: Callable[[Schema], str],
) -> Place:
    """Each store, and a pair in each phase."""
    return Place.make(request.param, tmp_path / "data", new_migrated_database)


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    with place.open_first() as opened:
        yield opened
