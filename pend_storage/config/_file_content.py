"""Content of a configuration file: its TOML as values, and the paths in it.

The file may hold anything: whatever cannot be read is a ``ConfigError`` that names it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pend_storage._shown import cut, shown
from pend_storage._trusted_users import read_trusted
from pend_storage.errors import ConfigError

__all__ = ["expanded", "parsed_file", "parsed_toml"]


def parsed_file(file: Path, *, allow: bool | None = None) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        file: its path.
        allow: trust a file of another user; None: as the environment says.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        content = read_trusted(file, allow=allow)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}. Correct its permissions."
        ) from error
    return parsed_toml(content, file)


def parsed_toml(content: bytes, file: Path) -> dict[str, Any]:
    """Parse the content of a TOML file.

    Args:
        content: of the file.
        file: its path, for messages.

    Raises:
        ConfigError: it is no TOML, or holds a value that Python cannot.
    """
    try:
        return tomllib.loads(content.decode())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {cut(str(error))}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}, byte {error.start}: not UTF-8. Save the file as UTF-8."
        ) from None
    except RecursionError:
        raise ConfigError(
            f"{file} is nested too deeply. Write tables and values on a few levels."
        ) from None
    except ValueError:  # a number of more digits than Python converts, for example
        raise ConfigError(
            f"{file} has a number or a time that Python cannot hold. Correct it."
        ) from None


def expanded(text: str, place: str) -> Path:
    """Return a path, with ``~`` replaced by the home directory that it stands for.

    Args:
        text: as it is written.
        place: where it is written, for messages.

    Raises:
        ConfigError: it cannot be a path, or begins with the home of an unknown user.
    """
    if "\x00" in text:
        raise ConfigError(f"{place}: the path {shown(text)} has a NUL. Remove it.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{place}: the path {shown(text)} begins with a home directory that this "
            "machine does not know. Write the directory itself."
        ) from None
