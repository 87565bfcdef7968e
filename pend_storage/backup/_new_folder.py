"""New folder of a copy: with a temporary name and a lock until the copy is complete."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from pend_storage._files.directory import Directory
from pend_storage._files.subtree import Subtree
from pend_storage.errors import ConfigError, PendStorageError, StoreUnavailable

__all__ = ["NewFolder", "explained", "remove_interrupted"]

_PARTIAL: Final = ".partial"
_LOCK: Final = "in-progress.lock"


class NewFolder:
    """Folder for a copy; removed with all in it unless it is completed."""

    def __init__(self, parent: Directory, name: str) -> None:
        """Create the folder, for its owner only.

        Args:
            parent: the directory in which it is made.
            name: of the directory to copy.

        Raises:
            StoreUnavailable: another process removes or makes it at the same time.
        """
        self._parent = parent
        self._name, made = _create(parent, name)
        self.path: Path = parent.path / self._name
        """Path of the complete copy."""
        self.tree = Subtree(made)
        """The folder, to be filled."""
        self._lock = _lock(made)
        if self._lock is None:
            made.close()
            raise StoreUnavailable(
                "another process makes a copy at the same time", store="the copy"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            with suppress(OSError):
                self._parent.remove_tree(self._name + _PARTIAL)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self.tree.root.close()

    def complete(self) -> None:
        """Give the folder its name, which says that the copy is complete and verified."""
        made = self.tree.root
        made.unlink(_LOCK)
        self._parent.rename(self._name + _PARTIAL, self._name)
        made.sync()
        self._parent.sync()


def _create(parent: Directory, name: str) -> tuple[str, Directory]:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1_000):
        ending = "" if number == 1 else f"-{number}"
        folder = f"{name}-backup-{stamp}{ending}"
        try:
            made = parent.make_directory(folder + _PARTIAL)
        except FileExistsError:
            continue
        # From here on, no other process can complete a copy of this name.
        if parent.find(folder) is None:
            return folder, made
        made.close()
        parent.remove_tree(folder + _PARTIAL)
    raise ConfigError(f"{parent.path} is full of copies named {name}-backup-{stamp}.")


def remove_interrupted(parent: Directory, name: str) -> None:
    """Remove unfinished copies of processes that have ended: their locks are free."""
    for partial in parent.names():
        if not (partial.startswith(f"{name}-backup-") and partial.endswith(_PARTIAL)):
            continue
        status = parent.find(partial)
        # A folder of another user, or a link: not made by a process of this one.
        if (
            status is None
            or not stat.S_ISDIR(status.st_mode)
            or status.st_uid not in {os.geteuid(), parent.status().st_uid}
        ):
            continue
        with suppress(OSError, ConfigError), parent.directory(partial) as folder:
            lock = _lock(folder)
            if lock is not None:
                parent.remove_tree(partial)
                os.close(lock)


def _lock(folder: Directory) -> int | None:
    """Lock an unfinished copy; None where its process still runs, or the copy is gone."""
    try:
        lock = folder.open_or_create(_LOCK)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """Translate errors of the system into those of the library.

    Args:
        place: for errors that name no file.
    """
    try:
        yield
    except PendStorageError:
        raise
    except PermissionError as error:
        raise ConfigError(
            f"{error.filename or place}: permission denied. Correct the permissions, or "
            "name another place for the copy."
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"{error.filename or place}: {error.strerror}", store="the copy"
        ) from error
