"""Embedded PostgreSQL, PgBouncer and Redis servers for tests, demos and first steps.

No service has to be installed: a server is started from existing binaries (of the
system, or of the ``embedded`` extra) in a directory that you name. It stops when its
last user has ended, even if that user was killed.

.. code-block:: python

    with EmbeddedPostgres(Path("demo")) as server:
        store = PostgresStore(schema, server.url)

The servers trust everybody who can reach their Unix socket, whose directory is private to
its owner. TCP is off unless requested, and wants a random password, which is in the URLs and
in a file of the home that only its owner can read. They are not meant for production.
"""

from pend_storage.testing.servers._discovery import find_postgres, find_redis
from pend_storage.testing.servers._pgbouncer import (
    EmbeddedPgBouncer,
    find_pgbouncer,
    temporary_pgbouncer,
)
from pend_storage.testing.servers._postgres import EmbeddedPostgres, temporary_postgres
from pend_storage.testing.servers._redis import EmbeddedRedis, temporary_redis

__all__ = [
    "EmbeddedPgBouncer",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "find_pgbouncer",
    "find_postgres",
    "find_redis",
    "temporary_pgbouncer",
    "temporary_postgres",
    "temporary_redis",
]
