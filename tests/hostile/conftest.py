from __future__ import annotations

from collections.abc import Iterator

import pytest

from pend_storage.testing.hostile import SCHEMA, Templates


@pytest.fixture(scope="session")
def templates() -> Iterator[Templates]:
    """Clusters that are made once and copied for each run."""
    with Templates(SCHEMA) as made:
        yield made
