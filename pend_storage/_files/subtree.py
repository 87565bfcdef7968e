"""Subtree: files below a directory by relative names, of which no part may be a link."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import Self

from pend_storage._files.directory import Directory
from pend_storage._files.failures import located
from pend_storage._files.trust import Check, fault_of_own
from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = ["Subtree", "require_relative"]


def require_relative(name: str, place: Path) -> PurePosixPath:
    """Return a name as a relative path that leads to something below a directory.

    Args:
        name: with forward slashes.
        place: the directory, for the message.

    Raises:
        ConfigError: the name is empty, absolute, or has ``..`` or NUL in it.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ConfigError(
            f"{shown(name)} is not the name of a file below {place}. Use a relative name "
            "without '..'."
        )
    return path


class Subtree:
    """Hold a directory open, and open what is below it name by name.

    The descriptor of each folder leads to the next one, so a folder that is exchanged for
    a link meanwhile is refused, and nothing outside of the directory is reached.
    """

    def __init__(self, root: Directory) -> None:
        """Args: root: the directory; closed with this object."""
        self.root = root

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.root.close()

    def open_file(self, name: str, *, check: Check = fault_of_own) -> int:
        """Open a file for reading; return the descriptor.

        Args:
            name: relative, with forward slashes.
            check: as for :meth:`Directory.open_file`.

        Raises:
            ConfigError: a part of the name is a link, or the file must not be used.
            FileNotFoundError: it is missing.
        """
        folder, last = self._folder_of(name)
        with folder:
            return folder.open_file(last, check=check)

    def status(self, name: str) -> os.stat_result:
        """Return the status of a name; follows no link.

        Raises:
            FileNotFoundError: it is missing.
        """
        folder, last = self._folder_of(name)
        with folder:
            return folder.status(last)

    def create(self, name: str) -> int:
        """Create a file for its owner only, in place of one that is there.

        Returns:
            The descriptor, open for reading and writing.
        """
        folder, last = self._folder_of(name, create=True)
        with folder:
            folder.unlink(last)
            return folder.create_narrow(last)

    def make_folder(self, name: str) -> None:
        """Create a folder for its owner only, with those above it, where it is missing."""
        folder, last = self._folder_of(name, create=True)
        with folder:
            _entered(folder, last, create=True).close()

    def make_link(self, name: str, target: str) -> None:
        """Create a symbolic link, which is never followed here."""
        folder, last = self._folder_of(name, create=True)
        with folder, located(folder.path / last):
            os.symlink(target, last, dir_fd=folder.fd)

    def unlink(self, name: str) -> None:
        """Delete a file, or a link, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            folder, last = self._folder_of(name)
            with folder:
                folder.unlink(last)

    def _folder_of(self, name: str, *, create: bool = False) -> tuple[Directory, str]:
        """Open the folder of a name; return it, and the last part of the name."""
        *above, last = require_relative(name, self.root.path).parts
        folder = Directory.of_descriptor(self.root.path, os.dup(self.root.fd))
        for part in above:
            with folder:
                folder = _entered(folder, part, create=create)
        return folder, last


def _entered(folder: Directory, name: str, *, create: bool) -> Directory:
    if create:
        with contextlib.suppress(FileExistsError):
            return folder.make_directory(name)
    return folder.directory(name)
