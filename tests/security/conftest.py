"""Directories of several users, for tests that run as root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.front_door.conftest import Site
from tests.security.acting import open_place

OTHER_USER = 65534


@contextmanager
def as_other_user() -> Iterator[None]:
    """Be that user within the block."""
    os.setegid(OTHER_USER)
    os.seteuid(OTHER_USER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A directory of another user, in one of root that all users may enter."""
    with tempfile.TemporaryDirectory(prefix="pend-door-") as name:
        Path(name).chmod(0o755)
        place = Path(name, "theirs")
        place.mkdir()
        os.chown(place, OTHER_USER, OTHER_USER)
        yield place


@pytest.fixture
def secret(theirs: Path) -> Path:
    """A file of root, which the other user may not read."""
    place = theirs.parent / "secret"
    place.write_bytes(b"ROOT-ONLY")
    place.chmod(0o600)
    return place


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
