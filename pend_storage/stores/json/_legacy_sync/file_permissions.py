"""File permissions: mode and owner, recorded in the store for files that are recreated.

An existing file keeps its mode when it is rewritten. For a file that is lost, or a directory
that is made from the other store, each file has a second row in ``legacy_files``, beside its
header: under its name and :data:`PERMISSIONS_MARK`. It is a row of its own because a change
of the header renders the file anew, and ``chmod`` should not.

The row is written when the file is adopted, and by the primary whenever mode or owner of the
file differ from it. A new file is at no moment accessible to more users than its row allows.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pend_storage._files.by_path import make_directories, read_system_file
from pend_storage._files.directory import Directory
from pend_storage._files.ownership import set_mode, set_owner
from pend_storage._layouts.layout import Layout
from pend_storage._model.records import LegacyFile
from pend_storage.errors import Conflict, StaleEpoch
from pend_storage.phases import Role
from pend_storage.schema import LEGACY_FILES, Schema
from pend_storage.stores._inmemory.state import State
from pend_storage.stores.json._journal.engine import Engine

try:
    import grp
    import pwd
except ImportError:  # pragma: no cover - systems without users and groups
    grp = pwd = None  # type: ignore[assignment]

__all__ = [
    "PERMISSIONS_MARK",
    "FilePermissions",
    "PermissionRecorder",
    "legacy_row",
    "permissions_key",
    "recorded_sibling_mode",
]

PERMISSIONS_MARK: Final = "#permissions"
"""Suffix of the file name, in the key of the row with mode and owner."""
_BITS: Final = 0o777
_USUAL: Final = 0o666
_DEFAULT: Final = {0o600, 0o640, 0o660}
_READ: Final = 0o444
_STATUS: Final = Path("/proc/self/status")


def permissions_key(file: str) -> str:
    """Return the key, in ``legacy_files``, of the row with a file's mode and owner."""
    return file + PERMISSIONS_MARK


def legacy_row(state: State, key: str) -> tuple[int, LegacyFile | None]:
    """Return version and record of a row in ``legacy_files``; 0 and None if there is none."""
    row = state.tables[LEGACY_FILES].rows.get(key)
    if row is None:
        return 0, None
    return row[0], state.schema[LEGACY_FILES].codec.decode(row[1])


def recorded_sibling_mode(
    schema: Schema, rows: Mapping[str, tuple[int, bytes]], file: str
) -> int:
    """Return what the recorded modes of all files in the folder of a file have in common.

    While a lost directory is written again, the files with the narrowest modes may not be
    there yet.

    Args:
        schema: the collections.
        rows: of ``legacy_files``.
        file: its name.
    """
    folder, common = PurePosixPath(file).parent, _BITS
    for key, (_, body) in rows.items():
        name, mark, rest = key.rpartition(PERMISSIONS_MARK)
        if mark and not rest and PurePosixPath(name).parent == folder:
            found = FilePermissions.of_row(schema[LEGACY_FILES].codec.decode(body))
            common &= _BITS if found is None else found.mode
    return common


@dataclass(frozen=True, slots=True)
class FilePermissions:
    """Mode, owner and group of a file."""

    mode: int
    """The permission bits."""
    owner: str | None = None
    """Name of the user, or its number if it has no name; None: not known."""
    group: str | None = None

    @classmethod
    def of_file(cls, status: os.stat_result) -> FilePermissions:
        """Return the permissions of an existing file."""
        owner, group = _user_name(status.st_uid), _group_name(status.st_gid)
        return cls(stat.S_IMODE(status.st_mode) & _BITS, owner, group)

    @classmethod
    def of_row(cls, row: LegacyFile | None) -> FilePermissions | None:
        """Return the permissions of a row; None if there is no row, or it has no mode."""
        kept = {} if row is None else row.format
        mode, owner, group = kept.get("mode"), kept.get("owner"), kept.get("group")
        if not isinstance(mode, str):
            return None
        return cls(
            int(mode, 8) & _BITS,
            owner if isinstance(owner, str) else None,
            group if isinstance(group, str) else None,
        )

    def row(self, file: str) -> LegacyFile:
        """Return the row that records them."""
        kept: dict[str, Any] = {"mode": f"{self.mode:04o}"}
        if self.owner is not None:
            kept["owner"] = self.owner
        if self.group is not None:
            kept["group"] = self.group
        return LegacyFile(file=permissions_key(file), format=kept)

    def apply(
        self, fd: int, directory: os.stat_result, *, is_folder: bool = False
    ) -> None:
        """Apply them to a new file or directory that only its owner can access.

        The owner is changed if the system allows it. If the group cannot be kept, the
        group that the file has instead gets no more than others.

        Args:
            fd: descriptor.
            directory: status of the directory that it is in.
            is_folder: it is a directory.
        """
        owner = _user_number(self.owner)
        if directory.st_uid != 0 == os.geteuid():
            # The rows are written by the owner of the directory: root makes no file of
            # his choice for a third user.
            owner = directory.st_uid
        set_owner(fd, owner, _group_number(self.group))
        mode = self.mode
        if self.group is not None and _group_name(os.fstat(fd).st_gid) != self.group:
            mode = mode & ~0o070 | mode & (mode & 0o007) << 3
        if is_folder:  # readers of the file may search its directory
            mode |= (mode & _READ) >> 2 | 0o700
        set_mode(fd, mode)

    def make_folders(self, folder: Path) -> None:
        """Create the directories of a file, searchable by the readers of the file."""

        def complete(made: Directory, parent: Directory) -> None:
            self.apply(made.fd, parent.status(), is_folder=True)

        make_directories(folder, complete)


class PermissionRecorder:
    """Record mode and owner of one file, when they change."""

    def __init__(self, engine: Engine, layout: Layout, *, is_shared: bool) -> None:
        """Create a recorder.

        Args:
            engine: the open store.
            layout: of the file.
            is_shared: other files hold records of the same collection, so that the
                collection does not show that this file exists.
        """
        self._engine = engine
        self._layout = layout
        self._is_shared = is_shared

    def record(self, status: os.stat_result | None) -> None:
        """Record mode and owner, if this store is primary and they have changed.

        After a conflict with another commit, or while roles change, nothing is recorded;
        the next round does it.

        Args:
            status: of the file; None if it is missing.
        """
        if status is None:
            return
        found = FilePermissions.of_file(status)
        key = permissions_key(self._layout.file)
        with self._engine.live() as live:
            role = live.state.role.role
            has_header = legacy_row(live.state, self._layout.file)[0] > 0
            version, known = legacy_row(live.state, key)
        if role is not Role.PRIMARY or FilePermissions.of_row(known) == found:
            return
        is_known = has_header or known is not None or self._is_shared
        if not is_known and found.mode in _DEFAULT | {_USUAL & ~_umask()}:
            return  # the mode of a file that this store, or an older version, created
        schema = self._engine.schema
        put = schema.put(LEGACY_FILES, found.row(self._layout.file))
        batch = schema.batch((put,), {(LEGACY_FILES, key): version})
        with contextlib.suppress(Conflict, StaleEpoch):
            self._engine.submit(lambda plan: plan.add(batch, None))


# -- names and numbers of users and groups ------------------------------------------------


@functools.lru_cache(maxsize=64)
def _user_name(number: int) -> str:
    return _lookup(lambda: pwd.getpwuid(number).pw_name) or str(number)


@functools.lru_cache(maxsize=64)
def _group_name(number: int) -> str:
    return _lookup(lambda: grp.getgrgid(number).gr_name) or str(number)


def _user_number(name: str | None) -> int:
    """Return the number of a user; -1, which changes nothing, if there is no such user."""
    if name is None or name.isdecimal():
        return -1 if name is None else int(name)
    found = _lookup(lambda: pwd.getpwnam(name).pw_uid)
    return -1 if found is None else found


def _group_number(name: str | None) -> int:
    if name is None or name.isdecimal():
        return -1 if name is None else int(name)
    found = _lookup(lambda: grp.getgrnam(name).gr_gid)
    return -1 if found is None else found


def _lookup(find: Callable[[], Any]) -> Any:
    with contextlib.suppress(KeyError, AttributeError):
        return find()
    return None


def _umask() -> int:
    """Return the umask of this process: ``os.umask`` would change it for a moment."""
    with contextlib.suppress(OSError):
        for line in read_system_file(_STATUS).splitlines():
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o022
