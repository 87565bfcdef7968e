"""Discovery of the configuration file: the named one, or the nearest ``pend.toml``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pend_storage.errors import ConfigError

__all__ = ["DEFAULT_FILE", "find_file"]

DEFAULT_FILE: Final = "pend.toml"

_STAND_IN: Final = frozenset(
    {"PEND_JSON_DIRECTORY", "PEND_DATABASE_URL", "DB_HOST", "DB_NAME"}
)
"""Variables that configure a store, so that no file is needed."""


def find_file(path: str | Path | None, variables: Mapping[str, str]) -> Path | None:
    """Find the configuration file; None where the variables stand in for it.

    Args:
        path: the file that the caller names; it must exist.
        variables: the environment variables; ``PEND_CONFIG`` names a file, too.

    Raises:
        ConfigError: the named file does not exist; or there is no file at all; or the
            only one lies in a folder above and belongs to another user.
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
        _require_own(above)
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


def _require_own(file: Path) -> None:
    """Refuse a file in a folder above that another user has put there.

    The module that it names is imported, so the owner of the file decides what runs.
    """
    trusted = {os.geteuid(), 0}
    # Under sudo, the files of the user who called it are as trustworthy as the call.
    if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdecimal():
        trusted.add(int(os.environ["SUDO_UID"]))
    for place in (file, file.parent):
        owner = place.stat().st_uid
        if owner not in trusted:
            raise ConfigError(
                f"{file} is in a folder above this one, and {place} belongs to another "
                f"user ({owner}). Name the file to use it: --config {file}"
            )
