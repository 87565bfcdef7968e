"""PostgreSQL as a store; needs the ``postgres`` extra."""

from pend_storage.stores.postgres._store import PostgresStore

__all__ = ["PostgresStore"]
