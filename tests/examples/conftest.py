"""Places for the example servers: data, ``pend.toml``, perhaps a database."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import pend_storage as ps
from pend_storage.pend import SCHEMA
from pend_storage.sample_data import generate
from tests.integration.cli.conftest import Site

JSON_ALONE = """
[environments.development.json]
directory = "data"
"""
BOTH = (
    JSON_ALONE
    + """
[environments.development.postgres]
url = "{url}"
"""
)


@pytest.fixture(scope="session")
def orderly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON files of a server with 60 users, without irregularities."""
    directory = tmp_path_factory.mktemp("orderly") / "data"
    generate(directory, users=60, irregular=0, seed=8)
    return directory


@pytest.fixture
def json_alone(tmp_path: Path, orderly: Path) -> Path:
    """``pend.toml`` beside a directory of data."""
    shutil.copytree(orderly, tmp_path / "data")
    config = tmp_path / "pend.toml"
    config.write_text(JSON_ALONE, encoding="utf-8")
    return config


@pytest.fixture
def both(
    tmp_path: Path,
    orderly: Path,
    new_migrated_database: Callable[[ps.Schema], str],
) -> Site:
    """A site with data in JSON files, and an empty database beside it."""
    site = Site(tmp_path, new_migrated_database(SCHEMA))
    shutil.copytree(orderly, site.data)
    site.configure(BOTH.format(url=site.url))
    return site
