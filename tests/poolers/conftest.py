"""PgBouncer in transaction mode before the PostgreSQL of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import psycopg
import pytest

from pend_storage.schema import Schema
from pend_storage.testing.domain import SCHEMA
from pend_storage.testing.servers import (
    EmbeddedPgBouncer,
    find_pgbouncer,
    temporary_pgbouncer,
)

Before = Callable[..., EmbeddedPgBouncer]


@pytest.fixture
def new_migrated_database(
    bouncer: EmbeddedPgBouncer, new_migrated_database: Callable[[Schema], str]
) -> Iterator[Callable[[Schema], str]]:
    """As elsewhere; PgBouncer's connections to the databases are closed afterwards.

    It keeps them for other clients, and a database in use is not lent again.
    """
    lent: list[str] = []

    def lend(schema: Schema) -> str:
        lent.append(new_migrated_database(schema))
        return lent[-1]

    yield lend
    for name in map(name_of, lent):
        # One that it was never asked for is unknown to it.
        with suppress(psycopg.DatabaseError):
            bouncer.order(f'KILL "{name}"')
            bouncer.order(f'RESUME "{name}"')


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def bouncer_before(url: str) -> Iterator[Before]:
    """Starts a PgBouncer with these settings before a server; it ends before ``url``."""
    require_pgbouncer()
    with ExitStack() as stack:

        def start(server: str, **settings: str) -> EmbeddedPgBouncer:
            return stack.enter_context(temporary_pgbouncer(server, settings))

        yield start


@pytest.fixture(scope="session")
def bouncer(postgres_server: str) -> Iterator[EmbeddedPgBouncer]:
    """One PgBouncer for tests that leave it as it is."""
    require_pgbouncer()
    settings = {"default_pool_size": "5", "server_idle_timeout": "5"}
    with temporary_pgbouncer(postgres_server, settings) as bouncer:
        yield bouncer


def name_of(url: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])


def require_pgbouncer() -> None:
    """Skip, by name, where there is none: .ci/run installs it."""
    if find_pgbouncer() is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
