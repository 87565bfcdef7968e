"""Places of several users."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.front_door.conftest import Site
from tests.security.acting import open_place


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give files away")
    path = open_place()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def app(place: Path) -> Site:
    """A server's place of root: ``pend.toml`` and an empty ``data``."""
    site = Site(place / "app", "", program="tests.security.acting:as_owner")
    site.data.mkdir(parents=True)
    site.config.write_text(
        '[environments.development.json]\ndirectory = "data"\n', encoding="utf-8"
    )
    return site
