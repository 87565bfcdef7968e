"""pytest fixtures: one PostgreSQL and one Redis for a whole run, and fresh databases.

Import the fixtures into a ``conftest.py``. ``PEND_TEST_DSN`` and
``PEND_TEST_REDIS_URL`` name servers to use; without them embedded ones are started. No
test is skipped for lack of a server: the run ends at once if a server is unavailable.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import psycopg
import pytest

from pend_storage.errors import PendStorageError, StoreUnavailable
from pend_storage.schema import Schema
from pend_storage.testing.databases import Databases
from pend_storage.testing.servers import temporary_postgres, temporary_redis

__all__ = [
    "Servers",
    "databases",
    "new_database",
    "new_migrated_database",
    "postgres_server",
    "postgres_url",
    "redis_server",
    "redis_url",
    "servers_of",
    "warm_up",
]

# The data need not survive a crash of the machine, and this doubles the speed.
_POSTGRES_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off"}
_REDIS_DATABASES: Final = 15
_numbers = itertools.count(1)


class Servers:
    """Servers of a test run, started on first use."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._urls: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        """Version by server, of those in use."""

    def postgres(self) -> str:
        """Return the URL of a database from which others can be created."""
        return self._started("PostgreSQL", self._start_postgres)

    def redis(self) -> str:
        """Return the URL of a server whose databases may be emptied."""
        return self._started("Redis", self._start_redis)

    def close(self) -> None:
        """Stop the servers that were started here."""
        self._stack.close()

    def _started(self, name: str, start: Callable[[], str]) -> str:
        if name not in self._urls:
            try:
                self._urls[name] = start()
            except (PendStorageError, psycopg.Error, OSError) as error:
                pytest.exit(f"{name} is required by tests, and unavailable: {error}", 3)
        return self._urls[name]

    def _start_postgres(self) -> str:
        url = os.environ.get("PEND_TEST_DSN")
        if not url:
            server = temporary_postgres(settings=_POSTGRES_SETTINGS)
            url = self._stack.enter_context(server).url
        with psycopg.connect(url, connect_timeout=10) as connection:
            version = connection.info.parameter_status("server_version")
        self.versions["PostgreSQL"] = str(version)
        return url

    def _start_redis(self) -> str:
        import redis  # noqa: PLC0415 - needed only by tests of Redis

        url = os.environ.get("PEND_TEST_REDIS_URL")
        if not url:
            url = self._stack.enter_context(temporary_redis()).url
        try:
            with redis.Redis.from_url(url) as client:
                about: Any = client.info("server")
        except redis.RedisError as error:
            raise StoreUnavailable(str(error), store="Redis") from error
        self.versions["Redis"] = str(about["redis_version"])
        return url


_SERVERS = pytest.StashKey[Servers]()


def servers_of(config: pytest.Config) -> Servers:
    """Return the servers of this run; they are stopped at its end."""
    if _SERVERS not in config.stash:
        servers = config.stash[_SERVERS] = Servers()
        config.add_cleanup(servers.close)
    return config.stash[_SERVERS]


def warm_up(session: pytest.Session) -> dict[str, str]:
    """Start the servers that the collected tests need; return their versions.

    Call it from ``pytest_collection_finish``. The run ends if a server is unavailable.
    """
    needed = {
        name for item in session.items for name in getattr(item, "fixturenames", ())
    }
    servers = servers_of(session.config)
    if "postgres_server" in needed:
        servers.postgres()
    if "redis_server" in needed:
        servers.redis()
    return servers.versions


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> str:
    """URL of the run's PostgreSQL; create databases there, and use those."""
    return servers_of(pytestconfig).postgres()


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> str:
    """URL of the run's Redis: use ``redis_url`` instead."""
    return servers_of(pytestconfig).redis()


@pytest.fixture(scope="session")
def databases(postgres_server: str) -> Iterator[Databases]:
    """Factory of databases, empty or migrated; dropped at the end of the run."""
    made = Databases(postgres_server)
    yield made
    made.drop_all()


@pytest.fixture(scope="session")
def new_database(databases: Databases) -> Callable[[], str]:
    """Function that creates an empty database and returns its URL."""
    return databases.make


@pytest.fixture
def new_migrated_database(databases: Databases) -> Iterator[Callable[[Schema], str]]:
    """Function that returns the URL of an empty database, migrated to a schema.

    After the test the databases are emptied and reused, which is much faster than
    creating new ones. Close your stores before.
    """
    lent: list[str] = []

    def lend(schema: Schema) -> str:
        lent.append(databases.lend(schema))
        return lent[-1]

    yield lend
    for url in lent:
        databases.give_back(url)


@pytest.fixture(scope="class")
def postgres_url(databases: Databases) -> str:
    """URL of a new, empty database, one for each test class or single function."""
    return databases.make()


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """URL of an empty Redis database, one of fifteen; it is emptied afterwards, too."""
    import redis  # noqa: PLC0415

    address, _, options = redis_server.partition("?")
    number = next(_numbers) % _REDIS_DATABASES + 1
    url = f"{address}?{urlencode({**dict(parse_qsl(options)), 'db': number})}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()
