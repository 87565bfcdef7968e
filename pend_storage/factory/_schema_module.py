"""Schema module: the declarations of a server's records."""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pend_storage._layouts.layout import Layout, one_each
from pend_storage._shown import cut, shown
from pend_storage.config import Settings
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.schema import Schema

__all__ = ["SchemaModule", "load_schema"]


_NOT_THE_MODULE: Final = (
    "<frozen importlib",
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
    str(Path(__file__).parents[1]),
)
"""Beginnings of file names in a traceback that are not of the imported module."""

IN_CODE: Final = "schema="
"""Stands in place of a module's name where a program passes its schema."""


@dataclass(frozen=True, slots=True)
class SchemaModule:
    """Declarations of the configured schema module."""

    name: str
    schema: Schema
    layouts: tuple[Layout, ...] = ()
    """Its ``LAYOUTS``: the legacy files."""
    seed: tuple[Any, ...] = ()
    """Its ``SEED``: records that a new store must have before all others."""


def load_schema(settings: Settings) -> SchemaModule:
    """Import the schema module, unless a program has passed its declarations.

    The module is searched for in ``sys.path``, and then beside the configuration file.

    Args:
        settings: of the environment.

    Raises:
        ConfigError: there is no such module, or it declares no schema.
    """
    declared = settings.declared
    if declared is None:
        return _imported(settings)
    if declared.schema is not None:
        return SchemaModule(IN_CODE, declared.schema, declared.layouts or ())
    return replace(_imported(settings), layouts=declared.layouts or ())


def _imported(settings: Settings) -> SchemaModule:
    name = settings.schema
    place = _place(settings)
    with _importable_from(settings.file):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there, and lacks a package of its own
            raise ConfigError(
                f"{place}: there is no module {shown(name)}. Correct the name, or install "
                "the package that has it."
            ) from error
        except (PendStorageError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(_import_fault(place, name, error)) from error
    schema = getattr(module, "SCHEMA", None)
    if not isinstance(schema, Schema):
        raise ConfigError(
            f"{place}: the module {shown(name)} has no SCHEMA. Assign a pend_storage.Schema "
            "to that name in it."
        )
    schema.module = name
    return SchemaModule(
        name,
        schema,
        one_each(_tuple_of(module, "LAYOUTS", place)),
        _tuple_of(module, "SEED", place),
    )


def _import_fault(place: str, name: str, error: BaseException) -> str:
    """Describe an error that the import of a module raised, with the line of the module."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        where = f"{error.filename}, line {error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        # The last line that is the user's own, not of a package that it calls.
        own = [f for f in frames if not f.filename.startswith(_NOT_THE_MODULE)]
        last = [*frames[-1:], *own][-1]
        where = f"{last.filename}, line {last.lineno}"
    reason = cut(str(error)) or "no reason"
    return (
        f"{place}: the module {name!r} cannot be imported: {type(error).__name__}: "
        f"{reason} ({where}). Correct the module."
    )


def _place(settings: Settings) -> str:
    """Return the place at which the module is named, for messages."""
    return settings.schema_named_by or f"{settings.place}.schema"


def _tuple_of(module: object, name: str, place: str) -> tuple[Any, ...]:
    value = getattr(module, name, ())
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise ConfigError(f"{place}: {name} in that module must be a list.")
    return tuple(value)


@contextmanager
def _importable_from(file: Path | None) -> Iterator[None]:
    """Allow imports from the folder of the configuration file, as the last resort."""
    if file is None:
        yield
        return
    folder = str(file.parent)
    # At the end: a file in that folder must not shadow an installed package.
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
