"""PgBouncer in transaction mode before the PostgreSQL of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pend_storage.testing.servers import (
    EmbeddedPgBouncer,
    find_pgbouncer,
    temporary_pgbouncer,
)

Before = Callable[..., EmbeddedPgBouncer]


@pytest.fixture
def bouncer_before() -> Iterator[Before]:
    """Starts a PgBouncer with these settings before a server."""
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


def require_pgbouncer() -> None:
    """Skip, by name, where there is none: .ci/run installs it."""
    if find_pgbouncer() is None:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
