"""Power failure recorder: from a process's operations to the states it may leave.

A killed process leaves all that it has written, because the system keeps it. A machine
whose power fails keeps what was synced, and of the rest anything: operations are
missing, torn at the blocks of the disk, or present although earlier ones are not. A
:class:`Recorder` records the operations of a process on a directory. Each :class:`Cut`
builds one of the possible states, and lists what had been acknowledged by then::

    with Recorder(directory) as recorder:
        store.put(...)
        recorder.acknowledge("k1")
    for cut in recorder.cuts():
        cut.build(place)
        ... open a store there, and look for what cut.acknowledged holds

The model demands what POSIX promises, and no more: a sync of a file keeps its content,
a sync of a directory keeps the names in it, and nothing else keeps anything.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from pend_storage._files import trust
from pend_storage.testing.leftovers import (
    Cut,
    Data,
    Length,
    Name,
    Names,
    Operation,
    Record,
    Sync,
    Tree,
    cuts_of,
)

__all__ = ["Cut", "Recorder"]


class Recorder:
    """Recorder of this process's operations on a directory, by patching ``os``.

    The inodes of all files are kept in a directory beside it, with ``.inodes`` after
    the name. Files written in another way (``open``) are noticed when they are renamed,
    and count as never synced. Use it in a ``with`` statement, around threads that end
    within it.
    """

    def __init__(self, directory: Path, *modules: tuple[ModuleType, str]) -> None:
        """Prepare the recorder; recording begins with the ``with`` statement.

        Args:
            directory: directory to record; its present content counts as synced.
            modules: functions with the parameters of ``renameat2`` (source, target,
                flag: 1 for a new name, 2 for an exchange; by keyword ``src_dir_fd`` and
                ``dst_dir_fd``, if they take them) that return True if it was done.
        """
        self.operations: list[Operation | Sync] = []
        self._acknowledged: list[tuple[int, Any]] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._directories: set[int] = set()
        self._lock = threading.RLock()
        self._modules = modules
        self._undo: list[Callable[[], None]] = []
        self._base = Tree()
        self._inodes = directory.with_name(f".{directory.name}.inodes")
        self._inodes.mkdir()
        self._link_really = os.link
        self._root = self._scan_directory(directory)

    def _scan_directory(self, directory: Path) -> int:
        number = self._numbered(directory.stat())
        self._directories.add(number)
        names = self._base.names[number] = {}
        for path in directory.iterdir():
            if path.is_dir():
                names[path.name] = self._scan_directory(path)
            else:
                names[path.name] = file = self._retain_inode(path, None, path.stat())
                self._base.files[file] = path.read_bytes()
                self._base.times[file] = path.stat().st_mtime_ns
        return number

    def _numbered(self, status: os.stat_result, *, new: bool = False) -> int:
        key = _key(status)
        # A new file may get the inode number of a deleted one, and is another file.
        if new or key not in self._numbers:
            self._numbers[key] = self._last = getattr(self, "_last", 0) + 1
        return self._numbers[key]

    def _retain_inode(
        self,
        path: Any,
        dir_fd: int | None,
        status: os.stat_result,
        *,
        new: bool = False,
    ) -> int:
        """Return the number of a file, and keep its inode by a hard link."""
        number = self._numbered(status, new=new)
        inode = self._inodes / str(number)
        if not inode.exists():
            self._link_really(path, inode, src_dir_fd=dir_fd)
        return number

    def acknowledge(self, what: Any) -> None:
        """Record an acknowledgement: the value must be durable from now on."""
        with self._lock:
            self._acknowledged.append((len(self.operations), what))

    # -- recording --------------------------------------------------------------------

    def __enter__(self) -> Self:
        wrappers: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "write": self._write,
            "pwrite": self._pwrite,
            "ftruncate": self._ftruncate,
            "fsync": self._fsync,
            "fdatasync": self._fsync,
            "rename": self._rename,
            "replace": self._rename,
            "unlink": self._unlink,
            "remove": self._unlink,
            "rmdir": self._unlink,
            "mkdir": self._mkdir,
            "link": self._link,
        }
        for name, wrapper in wrappers.items():
            self._patch(os, name, wrapper)
        for module, name in self._modules:
            self._patch(module, name, self._renameat2)
        stack = contextlib.ExitStack()
        stack.enter_context(self._second_names_are_known())
        self._undo.append(stack.close)
        return self

    @contextlib.contextmanager
    def _second_names_are_known(self) -> Iterator[None]:
        """Let stores use the files: they refuse one that has a second name elsewhere."""
        real = trust.names_of

        def names_of(file: os.stat_result) -> int:
            return 1 if _key(file) in self._numbers else real(file)

        trust.names_of = names_of
        try:
            yield
        finally:
            trust.names_of = real

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()

    def _patch(self, module: Any, name: str, wrapper: Callable[..., Any]) -> None:
        real = getattr(module, name)

        def patched(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return wrapper(real, *args, **kwargs)

        setattr(module, name, patched)
        self._undo.append(lambda: setattr(module, name, real))

    def _name(self, path: Any, dir_fd: int | None) -> Name | None:
        """Return directory and name of a path; None outside of the directory."""
        if isinstance(path, int):
            return None
        parent, name = os.path.split(os.fsdecode(path))
        try:
            status = os.stat(parent or ".", dir_fd=dir_fd)
        except OSError:
            return None
        number = self._numbers.get(_key(status))
        return None if number not in self._directories else (number, name)

    def _file(self, path: Any, dir_fd: int | None, name: Name) -> int:
        """Return the number of a file; record an unknown one as written, not synced."""
        status = os.lstat(path, dir_fd=dir_fd)
        known = _key(status) in self._numbers
        if known or not stat.S_ISREG(status.st_mode):
            return self._numbered(status)
        number = self._retain_inode(path, dir_fd, status)
        content = (self._inodes / str(number)).read_bytes()
        self.operations.append(Names(((name, number),)))
        self.operations.append(Data(number, 0, content, status.st_mtime_ns))
        return number

    def _open(
        self,
        real: Callable[..., int],
        path: Any,
        flags: int,
        mode: int = 0o777,
        *,
        dir_fd: int | None = None,
    ) -> int:
        name = self._name(path, dir_fd)
        before: os.stat_result | None = None
        if name is not None:
            try:
                before = os.stat(path, dir_fd=dir_fd)
            except OSError:
                before = None
        fd = real(path, flags, mode, dir_fd=dir_fd)
        if name is None:
            return fd
        number = self._numbers.get(_key(os.fstat(fd)), 0)
        if before is None:
            number = self._retain_inode(path, dir_fd, os.fstat(fd), new=True)
            self.operations.append(Names(((name, number),)))
        # Truncation is an operation of its own, which may be missing after the cut.
        elif number and flags & os.O_TRUNC and before.st_size:
            self.operations.append(Length(number, 0))
        return fd

    def _opened(self, fd: int) -> int | None:
        status = os.fstat(fd)
        return self._numbers.get(_key(status))

    def _write(self, real: Callable[..., int], fd: int, data: bytes) -> int:
        number = self._opened(fd)
        # write() moves the position, so it has to be read before.
        offset = os.lseek(fd, 0, os.SEEK_CUR) if number is not None else 0
        done = real(fd, data)
        if number is not None:
            self._written(fd, number, offset, data[:done])
        return done

    def _written(self, fd: int, number: int, offset: int, data: bytes) -> None:
        time = os.fstat(fd).st_mtime_ns
        self.operations.append(Data(number, offset, bytes(data), time))

    def _pwrite(
        self, real: Callable[..., int], fd: int, data: bytes, offset: int
    ) -> int:
        done = real(fd, data, offset)
        if (number := self._opened(fd)) is not None:
            self._written(fd, number, offset, data[:done])
        return done

    def _ftruncate(self, real: Callable[..., None], fd: int, length: int) -> None:
        real(fd, length)
        if (number := self._opened(fd)) is not None:
            self.operations.append(Length(number, length))

    def _fsync(self, real: Callable[..., None], fd: int) -> None:
        # No machine fails while this test runs, so waiting for the disk would be a
        # waste.
        if (number := self._opened(fd)) is not None:
            self.operations.append(Sync(number))
        else:
            real(fd)

    def _rename(
        self,
        real: Callable[..., None],
        source: Any,
        target: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        old, new = self._name(source, src_dir_fd), self._name(target, dst_dir_fd)
        number = None if old is None else self._file(source, src_dir_fd, old)
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if old is not None and new is not None:
            self.operations.append(Names(((old, None), (new, number))))

    def _renameat2(
        self,
        real: Callable[..., bool],
        source: Any,
        target: Any,
        flag: int,
        **at: int,
    ) -> bool:
        source_fd, target_fd = at.get("src_dir_fd"), at.get("dst_dir_fd")
        old, new = self._name(source, source_fd), self._name(target, target_fd)
        if old is None or new is None:
            return real(source, target, flag, **at)
        left = self._file(source, source_fd, old)
        right = self._file(target, target_fd, new) if flag == 2 else None
        if done := real(source, target, flag, **at):
            self.operations.append(Names(((old, right), (new, left))))
        return done

    def _link(
        self,
        real: Callable[..., None],
        source: Any,
        target: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        old, new = self._name(source, src_dir_fd), self._name(target, dst_dir_fd)
        real(
            source,
            target,
            src_dir_fd=src_dir_fd,
            dst_dir_fd=dst_dir_fd,
            follow_symlinks=follow_symlinks,
        )
        if old is not None and new is not None:
            number = self._file(source, src_dir_fd, old)
            self.operations.append(Names(((new, number),)))

    def _unlink(
        self, real: Callable[..., None], path: Any, *, dir_fd: int | None = None
    ) -> None:
        name = self._name(path, dir_fd)
        real(path, dir_fd=dir_fd)
        if name is not None:
            self.operations.append(Names(((name, None),)))

    def _mkdir(
        self,
        real: Callable[..., None],
        path: Any,
        mode: int = 0o777,
        *,
        dir_fd: int | None = None,
    ) -> None:
        name = self._name(path, dir_fd)
        real(path, mode, dir_fd=dir_fd)
        if name is not None:
            status = os.stat(path, dir_fd=dir_fd)
            # Known as a directory from now on, so names in it are recorded too.
            number = self._numbered(status, new=True)
            self._directories.add(number)
            self.operations.append(Names(((name, number),)))

    def cuts(self, *, samples: int = 3, seed: int = 0) -> Iterator[Cut]:
        """Yield the possible states of the directory, each only once.

        Open stores on them within the loop.

        Args:
            samples: number of random states after each operation, beside the systematic
                ones.
            seed: of the random states.
        """
        record = Record(
            self._base, self.operations, self._acknowledged, self._root, self._inodes
        )
        with self._second_names_are_known():
            yield from cuts_of(record, samples, seed)


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
