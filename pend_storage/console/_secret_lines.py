"""Files of secrets: lines ``NAME ROLES SECRET``, which only their owner may read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from pend_storage._files.by_path import open_file
from pend_storage._files.reading import read_all
from pend_storage.console._actors import parse_roles
from pend_storage.errors import ConfigError

__all__ = ["SecretLine", "read_secret_lines"]

_LARGEST: Final = 1 << 16
"""Bytes of a file of tokens or users."""
_FIELDS: Final = 3
_SHARED: Final = 0o077
"""Mode bits by which others than the owner could read a file of secrets."""


class SecretLine(NamedTuple):
    """Line of a file of tokens or users."""

    name: str
    roles: frozenset[str]
    secret: str


def read_secret_lines(path: Path, *, what: str) -> tuple[SecretLine, ...]:
    """Read a file of secrets, which only its owner may read.

    Raises:
        ConfigError: it is missing, others may read it, or a line is wrong.
    """
    try:
        found = _content(path, what)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}. Write a line for each: NAME ROLES {what}, the "
            "roles separated by commas; and: chmod 600"
        ) from error
    lines = [
        _parse_line(path, number, line, what)
        for number, line in enumerate(found.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise ConfigError(f"{path}: there is no line in it: NAME ROLES {what}.")
    return tuple(lines)


def _content(path: Path, what: str) -> str:
    descriptor = open_file(path)
    try:
        status = os.fstat(descriptor)
        if status.st_mode & _SHARED:
            raise ConfigError(
                f"{path}: others than its owner may read it, and it holds a {what}. "
                "Correct that: chmod 600, and make new ones."
            )
        return read_all(descriptor, path, _LARGEST).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is no text in UTF-8.") from error
    finally:
        os.close(descriptor)


def _parse_line(path: Path, number: int, line: str, what: str) -> SecretLine:
    place = f"{path}, line {number}"
    parts = line.split()
    if len(parts) != _FIELDS:
        raise ConfigError(
            f"{place}: it must be NAME ROLES {what}, with one space between."
        )
    name, roles, secret = parts
    return SecretLine(name, parse_roles(roles.split(","), place=place), secret)
