"""Schema module: the declarations of a server's records."""

from __future__ import annotations

import functools
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from typing_extensions import override

from pend_storage._layouts.layout import Layout, one_each
from pend_storage._shown import cut, shown
from pend_storage._trusted_users import nearest_existing, require_trusted
from pend_storage.config import Settings
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.schema import Schema

__all__ = ["SchemaModule", "load_schema", "schema_module_files"]

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
        ConfigError: there is no such module, or it declares no schema; or another user
            than this one and root may change it.
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
    with _importable_from(settings):
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
def _importable_from(settings: Settings) -> Iterator[None]:
    """Allow imports from the folder of the configuration file, as the last resort.

    Modules from that folder, and of the schema's own package, are checked before they run.
    """
    finder = _CheckingFinder(settings)
    with _searched(settings.file):
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)


@contextmanager
def _searched(file: Path | None) -> Iterator[None]:
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


class _CheckingFinder(MetaPathFinder):
    """Finder of modules that refuses those which another user may change."""

    def __init__(self, settings: Settings) -> None:
        self._package = settings.schema.partition(".")[0]
        self._folder = None if settings.file is None else settings.file.parent
        self._allow = settings.allow_foreign_owner

    @override
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        found = _spec(fullname, path, target, besides=self)
        for file in _files(found):
            if self._is_checked(fullname, file):
                require_trusted(file, allow=self._allow)
        return found

    def _is_checked(self, fullname: str, file: Path) -> bool:
        if any(file.is_relative_to(root) for root in _installation()):
            return False
        is_beside = self._folder is not None and file.is_relative_to(self._folder)
        return is_beside or fullname.partition(".")[0] == self._package


def schema_module_files(settings: Settings) -> list[Path]:
    """Find the files of the schema module, without running any of them.

    Args:
        settings: of the environment.

    Returns:
        The files of the module and of its packages, outside of the installation; empty
        where there is no such module.
    """
    files: list[Path] = []
    path: Sequence[str] | None = None
    name = ""
    with _searched(settings.file):
        for part in settings.schema.split("."):
            name = f"{name}.{part}" if name else part
            found = _spec(name, path) if part else None
            files += _files(found)
            path = None if found is None else found.submodule_search_locations
            if path is None:
                break
    roots = _installation()
    return [f for f in files if not any(f.is_relative_to(root) for root in roots)]


def _spec(
    name: str,
    path: Sequence[str] | None,
    target: ModuleType | None = None,
    besides: object = None,
) -> ModuleSpec | None:
    """Find a module as the import system would, and do not run it."""
    for finder in [*sys.meta_path]:
        if finder is not besides:
            found = finder.find_spec(name, path, target)
            if found is not None:
                return found
    return None


def _files(found: ModuleSpec | None) -> list[Path]:
    """List the files that run when a module is imported, and its folder if it has none."""
    if found is None:
        return []
    if not found.has_location:  # built in, or a package without a file
        return [Path(folder) for folder in found.submodule_search_locations or ()]
    files = [
        nearest_existing(Path(str(found.origin)).absolute())
    ]  # an archive, perhaps
    if found.cached is not None and Path(found.cached).exists():
        files.append(Path(found.cached).absolute())
    return files


@functools.cache
def _installation() -> tuple[Path, ...]:
    """Return the folders of the interpreter and of this library: their owner is trusted."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    roots = {Path(sysconfig.get_path(name)) for name in names}
    return (*roots, Path(__file__).parents[2])
