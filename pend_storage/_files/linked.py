"""Linked files: files of other programs, at the end of a path whose links are followed.

The library reads and replaces them, but other programs do so as well, and an administrator
may have put a link in their place. The directory at the end of the links is held open.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pend_storage._files.directory import Directory
from pend_storage._files.failures import located
from pend_storage._files.paths import resolve
from pend_storage._files.reading import open_directory_at, read_all
from pend_storage._files.trust import (
    LARGEST_FILE,
    Fault,
    fault_of_kind,
    fault_of_legacy,
    fault_of_links,
    fault_of_size,
    require,
)

__all__ = ["LinkedFile"]


class LinkedFile:
    """File at the end of a path: its directory, held open, and its name in it."""

    def __init__(self, path: Path) -> None:
        """Follow the links of a path, and open the directory at the end.

        Args:
            path: of the file, which need not exist.

        Raises:
            OSError: its directory is missing, or the links are a loop.
        """
        self.given = path
        place = resolve(path)
        fd = place.fd
        if not place.is_open:
            try:
                with located(place.path.parent):
                    fd = open_directory_at(place.fd, ".")
            finally:
                os.close(place.fd)
        self.directory = Directory.of_descriptor(place.path.parent, fd)
        self.name = place.name
        self.path = place.path
        """Path of the file, without links."""
        self._links = place.links

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor of the directory; idempotent."""
        self.directory.close()

    def fault(self) -> Fault | None:
        """Return the reason why the file must not be used; None if it may, or is missing."""
        found = self.directory.find(self.name)
        directory = self.directory.status()
        if self._links:
            fault = fault_of_links(self._links, (found or directory).st_uid)
            if fault is not None:
                return fault
        if found is None:
            return None
        return fault_of_legacy(found, directory) or fault_of_size(found)

    def status(self) -> os.stat_result | None:
        """Return the status of the file; None if it is missing.

        Raises:
            ConfigError: a link of another user leads to it.
        """
        found = self.directory.find(self.name)
        if self._links:
            owner = (found or self.directory.status()).st_uid
            require(self.given, fault_of_links(self._links, owner))
        return found

    def open(self) -> int:
        """Open the file for reading; never waits, also not for a pipe or a device.

        Returns:
            The descriptor.

        Raises:
            ConfigError: it is no regular file, or another user may have planted it.
            FileNotFoundError: it is missing.
        """
        status = self.status()
        if status is not None:  # before opening: to open a device may have an effect
            require(self.given, fault_of_kind(status))
        fd = self.directory.open_file(self.name, check=fault_of_legacy)
        try:
            if self._links:
                owner = os.fstat(fd).st_uid
                require(self.given, fault_of_links(self._links, owner))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def read(self, limit: int = LARGEST_FILE) -> bytes:
        """Return the content of the file; raises as :meth:`open`.

        Args:
            limit: bytes to read at most.
        """
        fd = self.open()
        try:
            return read_all(fd, self.given, limit)
        finally:
            os.close(fd)
