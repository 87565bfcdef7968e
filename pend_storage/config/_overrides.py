"""Settings in code: the arguments of ``open_store``, alone or on top of a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pend_storage._layouts.layout import Layout
from pend_storage.config._database_url import url_fault
from pend_storage.config._reader import DEFAULT_ENVIRONMENT, load_settings
from pend_storage.config._settings import (
    Declared,
    JsonSettings,
    PostgresSettings,
    Settings,
)
from pend_storage.errors import ConfigError
from pend_storage.phases import Phase, parse_phase
from pend_storage.schema import Schema

__all__ = ["settings_in_code"]


def settings_in_code(
    path: str | Path | None = None,
    environment: str | None = None,
    *,
    schema: Schema | str | None = None,
    layouts: Iterable[Layout] | None = None,
    json: str | Path | None = None,
    postgres: str | None = None,
    phase: Phase | str | None = None,
    allow_foreign_owner: bool | None = None,
) -> Settings:
    """Read the settings of file and variables, and replace them by these arguments.

    Where a store is given (``json`` or ``postgres``) and no file is named, only the
    arguments count: neither a file nor an environment variable is read.

    Args:
        path: the configuration file.
        environment: which of its environments; without a file, its name.
        schema: the schema, or the name of a module that has it.
        layouts: of the legacy files; None: those of the schema's module.
        json: the JSON directory.
        postgres: URL of the database.
        phase: the phase that is wanted.
        allow_foreign_owner: trust files of another user; None: the environment decides.

    Raises:
        ConfigError: an argument is wrong, or one is missing.
    """
    alone = path is None and (json is not None or postgres is not None)
    if alone and schema is None:
        raise ConfigError(
            "open_store: a store is given, and no schema. Pass schema=, too: a Schema, or "
            'the name of a module that has one ("pend_storage.pend" for a Pend server).'
        )
    if alone:
        settings = replace(_bare(environment), allow_foreign_owner=allow_foreign_owner)
    else:
        settings = load_settings(
            path, environment, allow_foreign_owner=allow_foreign_owner
        )
    if isinstance(schema, str):
        settings = replace(settings, schema=schema, schema_named_by="schema=")
    own = schema if isinstance(schema, Schema) else None
    if own is not None or layouts is not None:
        given = None if layouts is None else tuple(layouts)
        settings = replace(settings, declared=Declared(schema=own, layouts=given))
    if phase is not None:
        settings = replace(settings, phase=parse_phase(phase, place="phase="))
    return _with_stores(settings, json, postgres)


def _bare(environment: str | None) -> Settings:
    return Settings(
        environment=environment or DEFAULT_ENVIRONMENT, file=None, is_from_code=True
    )


def _with_stores(
    settings: Settings, json: str | Path | None, postgres: str | None
) -> Settings:
    if json is not None:
        directory = Path(json).expanduser().absolute()
        known = settings.json or JsonSettings(directory=directory)
        settings = replace(settings, json=replace(known, directory=directory))
    if postgres is not None:
        fault = url_fault(postgres)
        if fault is not None:
            raise ConfigError(f"postgres=: {fault}")
        server = settings.postgres or PostgresSettings(url=postgres)
        settings = replace(settings, postgres=replace(server, url=postgres))
    return settings
