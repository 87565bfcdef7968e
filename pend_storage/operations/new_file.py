"""New files of an operator: configuration, schema modules, reports. Never overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pend_storage._files.directory import Directory
from pend_storage._files.durability import sync, write_all
from pend_storage._files.ownership import set_mode
from pend_storage.errors import ConfigError

__all__ = ["write_new", "write_new_lines"]

_MODE: Final = 0o644
"""Mode of a complete file: it has no secrets, and a server of another user may read it."""


_PRIVATE: Final = 0o600
"""Mode of a file with values of records."""


def write_new(path: Path, text: str) -> None:
    """Write a file that does not exist yet; a link in its place is not followed.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    _write(path, [text], _MODE)


def write_new_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file for its owner alone, one text after the other, in bounded memory.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    _write(path, lines, _PRIVATE)


def _write(path: Path, texts: Iterable[str], mode: int) -> None:
    path = path.absolute()
    try:
        with Directory(path.parent) as directory:
            fd = directory.create_narrow(path.name)
            try:
                for text in texts:
                    write_all(fd, text.encode())
                set_mode(fd, mode)
                sync(fd)
            except BaseException:
                directory.unlink(path.name)
                raise
            finally:
                os.close(fd)
            directory.sync()
    except FileExistsError as error:
        raise ConfigError(
            f"{path} is there already, and is not overwritten. Choose another name, or "
            "remove it."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. Choose another place."
        ) from error
