"""Embedded PostgreSQL, PgBouncer and Redis servers for tests, demos and first steps.

No service has to be installed: a server is started from existing binaries (of the
system, or of the ``embedded`` extra) in a directory that you name. It stops when its
last user has ended, even if that user was killed.

.. code-block:: python

    with EmbeddedPostgres(Path("demo")) as server:
        store = PostgresStore(schema, server.url)

The servers trust everybody who can reach them: the socket directory is private to its
owner, and TCP is off unless requested. They are not meant for production.
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
