"""Schema migration of the JSON directory and of the database."""

from __future__ import annotations

from contextlib import nullcontext

from pend_storage._schema_changes import Evolution
from pend_storage.config import Settings
from pend_storage.errors import ConfigError
from pend_storage.events import Hooks, guarded, log_event
from pend_storage.factory import load_schema, open_postgres
from pend_storage.operations.jobs import acted
from pend_storage.operations.marks import marked
from pend_storage.stores.json import JsonStore

__all__ = ["migrate_database", "migrate_directory"]


def migrate_directory(
    settings: Settings,
    *,
    drop: bool = False,
    dry_run: bool = False,
    hook: Hooks = log_event,
    by: str | None = None,
    reason: str | None = None,
) -> Evolution:
    """Migrate the records of the JSON directory; see ``JsonStore.migrate``.

    Args:
        settings: of the environment.
        drop: allow to delete fields and collections that the schema does not have.
        dry_run: only report the changes.
        hook: gets the events.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the commits keep it.

    Returns:
        The changes that were made, or would be.

    Raises:
        ConfigError: no directory is configured, or it does not exist.
        SchemaOutOfDate: records would be lost, or stored values do not fit.
        LockTimeout: another process holds the directory for too long.
    """
    wanted = settings.require_json()
    if not wanted.directory.is_dir():
        raise ConfigError(
            f"{settings.place}: {wanted.directory} is not a directory. Correct "
            "json.directory."
        )
    module = load_schema(settings)
    mark = nullcontext() if dry_run else marked(settings, "json-migrate")
    with acted(by, reason), mark:
        return JsonStore.migrate(
            module.schema,
            wanted.directory,
            layouts=module.layouts,
            files=wanted.files,
            drop=drop,
            dry_run=dry_run,
            hook=guarded(hook),
        )


def migrate_database(
    settings: Settings,
    *,
    wait: float = 60.0,
    drop: bool = False,
    drop_empty: bool = False,
    dry_run: bool = False,
    by: str | None = None,
    reason: str | None = None,
) -> Evolution:
    """Migrate the database; see ``PostgresStore.migrate``.

    Args:
        settings: of the environment.
        wait: seconds for which the locks are tried.
        drop: allow to delete fields and collections that the schema does not have.
        drop_empty: allow to drop empty tables of another schema.
        dry_run: only find the statements that would be run.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the commits keep it.

    Returns:
        The changes that were made, or would be.

    Raises:
        ConfigError: no database is configured.
        SchemaOutOfDate: records would be lost, or stored values do not fit.
        StoreUnavailable: the database cannot be reached.
    """
    mark = nullcontext() if dry_run else marked(settings, "db-migrate")
    with acted(by, reason), mark, open_postgres(settings) as store:
        return store.migrate(
            wait=wait, drop=drop, drop_empty=drop_empty, dry_run=dry_run
        )
