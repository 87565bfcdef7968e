"""Discovery of the configuration file: the named one, or the nearest ``pend.toml``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pend_storage.errors import ConfigError

__all__ = ["DEFAULT_FILE", "configuration_file", "find_file"]

DEFAULT_FILE: Final = "pend.toml"

_STAND_IN: Final = frozenset(
    {"PEND_JSON_DIRECTORY", "PEND_DATABASE_URL", "DB_HOST", "DB_NAME"}
)
"""Variables that configure a store, so that no file is needed."""


def configuration_file(path: str | Path | None = None) -> Path | None:
    """Find the configuration file of this process; it is not opened.

    Args:
        path: the file that the caller names; if None, ``PEND_CONFIG`` or a search.

    Returns:
        The file; None where the environment variables stand in for it.

    Raises:
        ConfigError: the named file does not exist; or there is no file at all.
    """
    return find_file(path, {name: v for name, v in os.environ.items() if v})


def find_file(path: str | Path | None, variables: Mapping[str, str]) -> Path | None:
    """Find the configuration file; None where the variables stand in for it.

    The file is not opened: the caller checks first whose it is.

    Args:
        path: the file that the caller names; it must exist.
        variables: the environment variables; ``PEND_CONFIG`` names a file, too.

    Raises:
        ConfigError: the named file does not exist; or there is no file at all.
    """
    given = path or variables.get("PEND_CONFIG")
    if given is not None:
        file = Path(given).absolute()
        if file.is_file():
            return file
        whose = "" if path else " (from PEND_CONFIG)"
        raise ConfigError(
            f"there is no configuration file {file}{whose}. Name another one, or write "
            "it with: pend-storage init"
        )
    here = Path.cwd()
    found = here / DEFAULT_FILE
    if found.is_file():
        return found
    above = next(_files_above(here), None)
    if above is not None:
        return above
    if _STAND_IN & {*variables}:
        return None
    raise ConfigError(
        f"there is no {DEFAULT_FILE} in {here} or in a folder above it, and no "
        "environment variable stands in for it. Write one with: pend-storage init"
    )


def _files_above(here: Path) -> Iterator[Path]:
    """Yield the files in the folders above, nearest first, on the same file system."""
    device = here.stat().st_dev
    for folder in here.parents:
        if folder.stat().st_dev != device:
            return
        file = folder / DEFAULT_FILE
        if file.is_file():
            yield file
