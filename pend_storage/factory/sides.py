"""Each store by itself, as the settings describe it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pend_storage.config import Settings
from pend_storage.errors import ConfigError
from pend_storage.factory.schema_module import load_schema

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore
    from pend_storage.stores.postgres import PostgresStore

__all__ = ["open_json", "open_postgres"]


def open_json(settings: Settings) -> JsonStore:
    """Open the JSON directory; the first time, its legacy files are adopted.

    Raises:
        ConfigError: no directory is configured, or it is not there.
        LockTimeout: another process holds the directory.
        CorruptFile: a file of the store is damaged.
    """
    from pend_storage.stores.json import JsonStore, Retention

    wanted = settings.require_json()
    module = load_schema(settings)
    return JsonStore(
        module.schema,
        wanted.directory,
        layouts=module.layouts,
        files=wanted.files,
        checkpoint_interval=wanted.checkpoint_interval,
        retain=Retention(seconds=settings.dual_write.retention_days * 24 * 3600),
    )


def open_postgres(settings: Settings) -> PostgresStore:
    """Connect to the database.

    Raises:
        ConfigError: no database is configured, or its packages are not installed.
        StoreUnavailable: it cannot be reached.
    """
    wanted = settings.require_postgres()
    module = load_schema(settings)
    with _optional("postgres"):
        from pend_storage.stores.postgres import PostgresStore
    return PostgresStore(
        module.schema,
        wanted.full_url,
        layouts=module.layouts,
        pool_size=wanted.pool,
        connect_timeout=wanted.connect_timeout,
        idle_timeout=wanted.idle_timeout,
        connection_max_age=wanted.connection_max_age,
        statement_timeout=wanted.statement_timeout,
        pooler=wanted.pooler,
    )


@contextmanager
def _optional(extra: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "pend_storage":
            raise
        raise ConfigError(
            f"this needs the package {missing}, which is not installed: "
            f"pip install 'pend_storage[{extra}]'."
        ) from error
