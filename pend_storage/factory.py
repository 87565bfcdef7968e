"""The composition root: settings in, stores out. Nothing else knows both."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pend_storage.config import Settings, load_settings
from pend_storage.errors import ConfigError
from pend_storage.layout import Layout
from pend_storage.phases import Phase, Role
from pend_storage.schema import Schema
from pend_storage.store import Store

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore
    from pend_storage.stores.postgres import PostgresStore

__all__ = [
    "SchemaModule",
    "load_schema",
    "open_json",
    "open_postgres",
    "open_primary",
    "open_store",
]


@dataclass(frozen=True, slots=True)
class SchemaModule:
    """What the configured schema module declares."""

    name: str
    schema: Schema
    layouts: tuple[Layout, ...] = ()
    """Its ``LAYOUTS``: the legacy files."""
    seed: tuple[Any, ...] = ()
    """Its ``SEED``: records that a new store must have before all others."""


def open_store(
    path: str | Path | None = None, *, environment: str | None = None
) -> Store:
    """Open the store of a configured environment.

    Args:
        path: the configuration file; see :func:`~pend_storage.config.load_settings`.
        environment: which of its environments.

    Raises:
        ConfigError: the configuration is wrong.
        StoreUnavailable: the store cannot be reached.
        SchemaOutOfDate: the database must be migrated first.
    """
    settings = load_settings(path, environment)
    match settings.phase:
        case Phase.JSON_ONLY:
            return open_json(settings)
        case Phase.POSTGRES_ONLY:
            return open_postgres(settings)
        case Phase.PARALLEL | Phase.POSTGRES_PRIMARY:
            raise ConfigError(
                f"{settings.place}: the phase {settings.phase.value!r} needs a store "
                "that writes to JSON and PostgreSQL at once, which is not yet available "
                f"in this version. Use {Phase.JSON_ONLY.value!r} or "
                f"{Phase.POSTGRES_ONLY.value!r}."
            )


def open_json(settings: Settings) -> JsonStore:
    """Open the JSON directory; the first time, its legacy files are adopted.

    Raises:
        ConfigError: no directory is configured, or it is not there.
        LockTimeout: another process holds the directory.
        CorruptFile: a file of the store is damaged.
    """
    from pend_storage.stores.json import JsonStore

    wanted = settings.require_json()
    module = load_schema(settings)
    return JsonStore(
        module.schema,
        wanted.directory,
        layouts=module.layouts,
        files=wanted.files,
        checkpoint_interval=wanted.checkpoint_interval,
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
        statement_timeout=wanted.statement_timeout,
        pooler=wanted.pooler,
    )


def open_primary(settings: Settings) -> Store:
    """Open the store from which the environment reads, in whatever phase it is.

    Raises:
        ConfigError: it is not configured.
        StoreUnavailable: it cannot be reached.
    """
    if settings.phase.postgres_role is Role.PRIMARY:
        return open_postgres(settings)
    return open_json(settings)


def load_schema(settings: Settings) -> SchemaModule:
    """Import the schema module.

    It is looked for where Python looks, and then beside the configuration file.

    Raises:
        ConfigError: there is no such module, or it declares no schema.
    """
    name = settings.schema
    place = f"{settings.place}.schema"
    with _importable_from(settings.file):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and lacks a package of its own
            raise ConfigError(
                f"{place}: there is no module {name!r}. Correct the name, or install "
                "the package that has it."
            ) from error
    schema = getattr(module, "SCHEMA", None)
    if not isinstance(schema, Schema):
        raise ConfigError(
            f"{place}: the module {name!r} has no SCHEMA. Assign a pend_storage.Schema "
            "to that name in it."
        )
    return SchemaModule(
        name,
        schema,
        _tuple_of(module, "LAYOUTS", place),
        _tuple_of(module, "SEED", place),
    )


def _tuple_of(module: object, name: str, place: str) -> tuple[Any, ...]:
    value = getattr(module, name, ())
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise ConfigError(f"{place}: {name} in that module must be a list.")
    return tuple(value)


@contextmanager
def _importable_from(file: Path | None) -> Iterator[None]:
    """Modules beside the configuration file can be imported, after all others."""
    if file is None:
        yield
        return
    folder = str(file.parent)
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


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
