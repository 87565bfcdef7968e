"""Public names of a package that are loaded when they are first used.

The stub beside a package (``__init__.pyi``) is the only list of them: type checkers read
it, and so does :func:`load_export`. Importing the package loads nothing else.
"""

from __future__ import annotations

import ast
import importlib
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pend_storage._extras import missing_package

__all__ = ["exported_names", "load_export"]


class _Home(NamedTuple):
    """Module and name by which a public name is defined."""

    module: str
    name: str


def exported_names(package: str) -> list[str]:
    """List the public names of a package, sorted.

    Args:
        package: its full name; it has been imported.
    """
    return sorted(_exports(package))


def load_export(package: str, name: str) -> Any:
    """Load a public name of a package, and set it as an attribute of the package.

    Args:
        package: its full name.
        name: one of its public names, or ``__all__``.

    Raises:
        AttributeError: the package has no such public name.
        ConfigError: the name needs a package that is not installed.
    """
    if name == "__all__":
        value: Any = exported_names(package)
    else:
        home = None if name.startswith("__") else _exports(package).get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = _load(package, name, home)
    vars(sys.modules[package])[name] = value
    return value


def _load(package: str, name: str, home: _Home) -> Any:
    try:
        module = importlib.import_module(home.module)
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        raise missing from error
    if home.module == f"{package}.{name}":
        # The import system has set this attribute to the submodule, which can be called.
        return module
    return getattr(module, home.name)


@cache
def _exports(package: str) -> dict[str, _Home]:
    """Read the stub of a package: the definition of each public name."""
    stub = Path(str(sys.modules[package].__file__)).with_suffix(".pyi")
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    return {
        alias.asname: _Home(str(node.module), alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname is not None
    }
