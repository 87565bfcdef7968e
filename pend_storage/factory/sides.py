"""Each store by itself, as the settings describe it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pend_storage.config import Settings
from pend_storage.errors import ConfigError
from pend_storage.events import Hooks, guarded, log_event
from pend_storage.extras import with_packages
from pend_storage.factory.schema_module import load_schema

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore
    from pend_storage.stores.postgres import PostgresStore

__all__ = ["open_json", "open_postgres", "require_directory"]


def open_json(
    settings: Settings, *, create: bool = False, hook: Hooks = log_event
) -> JsonStore:
    """Open the JSON directory; the first time, its legacy files are adopted.

    Args:
        settings: of the environment.
        create: make the directory if it is missing.
        hook: gets the store's events; or several hooks.

    Raises:
        ConfigError: no directory is configured, or it is not there.
        LockTimeout: another process holds the directory.
        CorruptFile: a file of the store is damaged.
    """
    from pend_storage.stores.json import DATA, JsonStore, Retention

    wanted = settings.require_json()
    if not create:
        require_directory(settings, wanted.directory)
    included = DATA if wanted.include is None else wanted.include
    module = load_schema(settings)
    return JsonStore(
        module.schema,
        wanted.directory,
        layouts=module.layouts,
        files=wanted.files,
        include=() if wanted.unclaimed == "ignore" else included,
        checkpoint_interval=wanted.checkpoint_interval,
        retain=Retention(seconds=settings.dual_write.retention_days * 24 * 3600),
        hook=guarded(hook),
    )


def require_directory(settings: Settings, directory: Path) -> None:
    """See that the JSON directory is there: a mistyped one must not become an empty store.

    Raises:
        ConfigError: it is not.
    """
    if directory.is_dir():
        return
    where = f"{settings.place}: the JSON directory {directory}"
    if directory.exists():
        raise ConfigError(f"{where} is not a directory. Correct json.directory.")
    raise ConfigError(
        f"{where} does not exist. Correct json.directory; for a new server make the "
        "directory, or pass create=True to open_store; and remove json.directory where "
        "JSON was given up for good."
    )


def open_postgres(settings: Settings, *, hook: Hooks = log_event) -> PostgresStore:
    """Connect to the database.

    Args:
        settings: of the environment.
        hook: gets the store's events; or several hooks.

    Raises:
        ConfigError: no database is configured, or its packages are not installed.
        StoreUnavailable: it cannot be reached.
    """
    wanted = settings.require_postgres()
    module = load_schema(settings)
    with with_packages():
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
        hook=guarded(hook),
    )
