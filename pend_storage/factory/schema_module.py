"""The module in which a server declares its records."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pend_storage.config import Settings
from pend_storage.errors import ConfigError
from pend_storage.layout import Layout, one_each
from pend_storage.schema import Schema

__all__ = ["SchemaModule", "load_schema"]


@dataclass(frozen=True, slots=True)
class SchemaModule:
    """What the configured schema module declares."""

    name: str
    schema: Schema
    layouts: tuple[Layout, ...] = ()
    """Its ``LAYOUTS``: the legacy files."""
    seed: tuple[Any, ...] = ()
    """Its ``SEED``: records that a new store must have before all others."""


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
        one_each(_tuple_of(module, "LAYOUTS", place)),
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
