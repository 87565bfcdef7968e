"""Side store: the new directory of a restored JSON store, apart from the live one.

It is filled under another name, which ends in ``.partial``. What has the name that was asked
for is complete, and sealed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from pend_storage._files.directory import Directory
from pend_storage._files.subtree import Subtree, require_relative
from pend_storage._shown import clause, shown
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys
from pend_storage.backup._unclaimed import FILES_PART, file_contents
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable

__all__ = ["SideDirectory", "require_apart", "require_new", "restore_files"]

_PARTIAL: Final = ".restore.partial"


def require_new(path: Path) -> None:
    """Refuse a path at which something is, other than an empty directory.

    Raises:
        ConfigError: something is there, or the folder that it is to be in is missing.
    """
    with _explained(path):
        parent = _parent(path)
        with parent:
            _require_free(parent, path)


def require_apart(path: Path, live: Path, what: str) -> None:
    """Refuse a path that is the live directory, in it, or around it.

    Args:
        path: of the directory to be made.
        live: a directory that is in use.
        what: it is, for the message.

    Raises:
        ConfigError: they are not apart.
    """
    side, used = path.resolve(), live.resolve()
    same = side == used or used in side.parents or side in used.parents
    if not same:
        with suppress(
            OSError
        ):  # names may differ, by mounts and by the case of letters
            same = os.path.samestat(side.stat(), used.stat())
    if same:
        raise ConfigError(
            f"{clause(str(path))} is {what}, in it, or around it. A restore never touches "
            "it: name a new directory beside it; backup promote makes that the one in use."
        )


class SideDirectory:
    """Directory that gets its name when it is complete; a context.

    What an interrupted restore has left under the other name is removed at the beginning.
    """

    def __init__(self, path: Path) -> None:
        """Make the directory under its other name, for its owner only.

        Args:
            path: which it gets in the end.

        Raises:
            ConfigError: something is there, or it cannot be made.
            StoreUnavailable: another restore fills it now.
        """
        self.path = path
        with _explained(path):
            self._parent = _parent(path)
            try:
                _require_free(self._parent, path)
                self._name = f"{path.name}{_PARTIAL}"
                _remove_interrupted(self._parent, self._name)
                self._made = self._parent.make_directory(self._name)
                _lock(self._made)
            except BaseException:
                self._parent.close()
                raise
        self.partial: Path = self._made.path
        """Where it is filled."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is not None:
                with suppress(OSError):
                    self._parent.remove_tree(self._name)
        finally:
            self._made.close()
            self._parent.close()

    def complete(self) -> None:
        """Give the directory its name, after its store was closed.

        Raises:
            ConfigError: something is at its path by now.
        """
        with _explained(self.path):
            self._made.sync()
            _require_free(self._parent, self.path)
            self._parent.rename(self._name, self.path.name)
            self._parent.sync()


def restore_files(
    directory: Path,
    repository: Repository,
    backup: BackupManifest,
    keys: Keys,
    *,
    own: str,
) -> int:
    """Write the files that no layout claims back to a directory; return their number.

    Args:
        directory: of the restored store.
        repository: with the backup.
        backup: with the files.
        keys: to decrypt with.
        own: name of the folder of the store itself, in which no such file is.

    Raises:
        ConfigError: a file has a name that leads elsewhere.
        CorruptFile: the files are not those of the manifest.
        StoreUnavailable: the disk is full, or the repository cannot be reached.
    """
    found: dict[str, str] = {}
    with _explained(directory), Subtree(Directory(directory)) as tree:
        for part in backup.parts:
            if FILES_PART not in part.name:
                continue
            for name, data in file_contents(repository, part, keys):
                digest = hashlib.sha256(data).hexdigest()
                if backup.files.get(name) != digest:
                    raise CorruptFile(
                        f"the file {shown(name)} is not the one of the manifest",
                        path=part.name,
                    )
                _require_outside(name, own)
                _write(tree, name, data)
                found[name] = digest
    if found != backup.files:
        raise CorruptFile("it lacks files of the manifest", path=f"backup {backup.id}")
    return len(found)


def _require_outside(name: str, own: str) -> None:
    if own in map(str.lower, require_relative(name, Path()).parts):
        raise ConfigError(
            f"the backup has a file {shown(name)}, which is none of the data. Restore into a "
            "database, and look at who has written to the repository."
        )


def _write(tree: Subtree, name: str, data: bytes) -> None:
    with suppress(FileNotFoundError):
        tree.status(name)
        raise ConfigError(
            f"{shown(name)} is a file of the restored store already. Look at the layouts."
        )
    fd = tree.create(name)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(fd)
    finally:
        os.close(fd)


def _parent(path: Path) -> Directory:
    if not path.name or path.name == "..":
        raise ConfigError(f"{clause(str(path))} is no name for a new directory.")
    try:
        return Directory(path.absolute().parent)
    except FileNotFoundError:
        raise ConfigError(
            f"{clause(str(path.absolute().parent))} does not exist. Make that folder, or "
            "correct the path."
        ) from None


def _require_free(parent: Directory, path: Path) -> None:
    status = parent.find(path.name)
    if status is None:
        return
    if stat.S_ISDIR(status.st_mode):
        with parent.directory(path.name) as there:
            if not there.names():
                return
    raise ConfigError(
        f"{clause(str(path))} exists and is not empty. A restore never replaces anything: name "
        "a new directory."
    )


def _remove_interrupted(parent: Directory, name: str) -> None:
    """Remove what a restore has left whose process has ended: its lock is free."""
    status = parent.find(name)
    if status is None:
        return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ConfigError(
            f"{clause(str(parent.path / name))} is not a folder of this user. Remove it."
        )
    with parent.directory(name) as left:
        _lock(left)
        parent.remove_tree(name)


def _lock(folder: Directory) -> None:
    """Lock a folder as long as its descriptor is open."""
    try:
        fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreUnavailable(
            "another restore fills it at the same time", store=str(folder.path)
        ) from None


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    """Translate errors of the system."""
    try:
        yield
    except PermissionError as error:
        raise ConfigError(
            f"{clause(str(error.filename or place))}: permission denied. Correct the "
            "permissions, or name another place."
        ) from error
    except OSError as error:
        raise StoreUnavailable(
            f"{clause(str(error.filename or place))}: {error.strerror}",
            store=str(place),
        ) from error
