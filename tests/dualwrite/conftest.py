from __future__ import annotations

from collections.abc import Iterator

import pytest

from .processes import Place, Process


@pytest.fixture
def place() -> Place:
    """Two empty stores."""
    return Place()


@pytest.fixture
def one(place: Place) -> Iterator[Process]:
    """A process on them."""
    process = Process(place, switch_patience=20.0)
    yield process
    process.store.close()


@pytest.fixture
def two(place: Place, one: Process) -> Iterator[Process]:
    """Another one, which takes a switch for dead at once when it does not beat."""
    process = Process(place, switch_patience=20.0)
    process.store._router._heartbeat._dead_after = 0.0
    yield process
    process.store.close()
