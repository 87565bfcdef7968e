"""Single stores of an environment: the JSON directory and the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

from pend_storage._archive_hold import MOST
from pend_storage._extras import with_packages
from pend_storage._shown import clause, shown
from pend_storage.backup import Keeps
from pend_storage.config import JsonSettings, PostgresSettings, Settings
from pend_storage.config._settings import Pooler
from pend_storage.errors import ConfigError
from pend_storage.events import Hooks, guarded, log_event
from pend_storage.factory._schema_module import SchemaModule, load_schema
from pend_storage.instrumentation import Instruments
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore
    from pend_storage.stores.postgres import PostgresStore

__all__ = [
    "ENVIRONMENT_META",
    "MIGRATION_META",
    "archive_hold",
    "connection_options",
    "included_files",
    "kept_files",
    "open_json",
    "open_postgres",
    "require_directory",
    "require_environment",
    "unclaimed_files",
]

ENVIRONMENT_META: Final = "environment"
"""Name of the meta entry of the database with the environment that it belongs to."""
MIGRATION_META: Final = "migrate-json"
"""Name of the meta entry of the database about the last ``migrate json``: the copy of the
directory, the time of its verification, and whether the migration has ended."""


def open_json(
    settings: Settings,
    *,
    create: bool = False,
    hook: Hooks = log_event,
    instruments: Instruments | None = None,
) -> JsonStore:
    """Open the JSON directory; at the first opening, its legacy files are adopted.

    Args:
        settings: of the environment.
        create: make the directory if it is missing.
        hook: gets the store's events; or several hooks.
        instruments: of the store.

    Raises:
        ConfigError: no directory is configured, or it does not exist; or this process is
            root's, and the directory is not.
        LockTimeout: another process holds the directory.
        CorruptFile: a file of the store is damaged.
    """
    from pend_storage.stores.json import JsonStore, Retention

    wanted = settings.require_json()
    if not create:
        require_directory(settings, wanted.directory)
    module = load_schema(settings)
    return JsonStore(
        module.schema,
        wanted.directory,
        layouts=module.layouts,
        files=wanted.files,
        include=included_files(wanted),
        checkpoint_interval=wanted.checkpoint_interval,
        retain=Retention(
            seconds=settings.dual_write.retention_days * 24 * 3600,
            archive_hold=archive_hold(settings).total_seconds(),
        ),
        allow_foreign_owner=settings.allow_foreign_owner,
        hook=guarded(hook),
        instruments=instruments,
    )


def archive_hold(settings: Settings) -> timedelta:
    """Return how much longer the change logs are kept for an archive that lags."""
    return MOST if settings.backup is None else settings.backup.max_hold


def require_directory(settings: Settings, directory: Path) -> None:
    """Refuse a missing JSON directory: a mistyped path must not become a new store.

    Raises:
        ConfigError: the path is no directory.
    """
    where = f"{settings.place}: the JSON directory {clause(str(directory))}"
    try:
        if directory.is_dir():
            return
    except OSError as error:  # the name is too long, or a loop of links
        raise ConfigError(
            f"{where}: {error.strerror}. Correct json.directory."
        ) from error
    if directory.exists():
        raise ConfigError(f"{where} is not a directory. Correct json.directory.")
    raise ConfigError(
        f"{where} does not exist. Correct json.directory; for a new server make the "
        "directory, or pass create=True to open_store; and remove json.directory where "
        "JSON was given up for good."
    )


def open_postgres(
    settings: Settings,
    *,
    hook: Hooks = log_event,
    instruments: Instruments | None = None,
) -> PostgresStore:
    """Connect to the database.

    Args:
        settings: of the environment.
        hook: gets the store's events; or several hooks.
        instruments: of the store.

    Raises:
        ConfigError: no database is configured, or its packages are not installed.
        StoreUnavailable: the database cannot be reached.
    """
    wanted = settings.require_postgres()
    module = load_schema(settings)
    with with_packages():
        from pend_storage.stores.postgres import PostgresStore
    return PostgresStore(
        module.schema,
        wanted.full_url,
        layouts=module.layouts,
        **connection_options(wanted),
        hook=guarded(hook),
        instruments=instruments,
    )


class ConnectionOptions(TypedDict):
    """Options of a store's connections, by the names of its constructor."""

    pool_size: int
    connect_timeout: float
    idle_timeout: float
    connection_max_age: float
    statement_timeout: float
    pooler: Pooler | None
    database_schema: str


def connection_options(wanted: PostgresSettings) -> ConnectionOptions:
    """Return the options of each store of a database, one that only reads included."""
    return {
        "pool_size": wanted.pool,
        "connect_timeout": wanted.connect_timeout,
        "idle_timeout": wanted.idle_timeout,
        "connection_max_age": wanted.connection_max_age,
        "statement_timeout": wanted.statement_timeout,
        "pooler": wanted.pooler,
        "database_schema": wanted.schema,
    }


def require_environment(settings: Settings, postgres: Store) -> None:
    """Refuse a database that belongs to another environment.

    Raises:
        ConfigError: the database belongs to another environment.
        SchemaOutOfDate: the database must be migrated first.
        StoreUnavailable: the database cannot be reached.
    """
    owner = postgres.meta(ENVIRONMENT_META)
    if owner not in {None, settings.environment}:
        raise ConfigError(
            f"{settings.place}: the database belongs to the environment {shown(owner)}. "
            "Correct the URL, or choose that environment by --env or PEND_ENV."
        )


# -- the files of a directory -------------------------------------------------------------


def kept_files(module: SchemaModule, wanted: JsonSettings) -> Keeps:
    """Return the predicate for the files that belong to a copy of a directory.

    Legacy files of the layouts, data files, and the store's own files belong to it. The
    directory need not be a store yet.
    """
    from pend_storage.stores.json import keeper_of

    return keeper_of(_claimed(module), _included(wanted))


def unclaimed_files(module: SchemaModule, wanted: JsonSettings) -> tuple[Path, ...]:
    """List the data files that no layout claims; none where they are ignored."""
    from pend_storage.stores.json import unclaimed

    if wanted.unclaimed == "ignore":
        return ()
    claimed = {wanted.directory / name for name in _claimed(module)}
    return tuple(unclaimed(wanted.directory, claimed, _included(wanted)))


def included_files(wanted: JsonSettings) -> Sequence[str]:
    """Return the patterns of data files that a store reports; none where it need not."""
    return () if wanted.unclaimed == "ignore" else _included(wanted)


def _included(wanted: JsonSettings) -> Sequence[str]:
    """Return the patterns of the files that are data."""
    from pend_storage.stores.json import DATA

    return DATA if wanted.include is None else wanted.include


def _claimed(module: SchemaModule) -> list[str]:
    """List the files of the layouts, and of the collections that have none."""
    names = [layout.source for layout in module.layouts]
    for spec in module.schema:
        names += [f"{spec.name}.json", f"{spec.name}.rows.json"]
    return names
