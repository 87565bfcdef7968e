"""PostgreSQL as a store; needs the ``postgres`` extra."""

from pend_storage.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
