"""A copy of a JSON directory that can be trusted, made while others may write to it.

.. code-block:: text

    data-backup-20260131T120000Z/
        manifest.json       size and SHA-256 of every file
        data/...            the files, where they were in the directory
        outside/...         legacy files that lie elsewhere

The copy has another name until it is complete and verified, so one that was interrupted
is never taken for a whole one; the next copy removes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from pend_storage.backup._tree import (
    OUTSIDE,
    Fingerprint,
    Keeps,
    Tree,
    everything,
    fingerprint,
    look_at,
)
from pend_storage.errors import (
    ConfigError,
    CorruptFile,
    PendStorageError,
    StoreUnavailable,
)
from pend_storage.events import Progress

__all__ = ["DirectoryCopy", "copy_directory", "verify_copy"]

MANIFEST: Final = "manifest.json"
_PARTIAL: Final = ".partial"
_LOCK: Final = "in-progress.lock"
_BLOCK: Final = 1 << 20
_PASSES: Final = 20
"""How often a file, or the whole directory, may change under the copy."""
_PAUSE: Final = 0.05
"""Seconds before a file that was just written is copied again."""
Tell: TypeAlias = Callable[[int], None]
_RESERVE: Final = 16 << 20
"""Bytes that must stay free on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryCopy:
    """A complete, verified copy."""

    path: Path
    files: int
    bytes: int
    links: tuple[str, ...] = ()
    """Symbolic links; copied as links, what they lead to is not in the copy."""
    left_out: tuple[str, ...] = ()
    """Sockets, pipes and devices."""


def copy_directory(
    source: Path,
    *,
    extra: Mapping[str, Path] | None = None,
    into: Path | None = None,
    keeps: Keeps = everything,
    progress: Progress | None = None,
) -> DirectoryCopy:
    """Copy a directory, with everything in it that counts, and read the copy again to verify it.

    A file that is written meanwhile is copied again until it holds still, and so is the
    directory, until one whole look finds nothing changed since the one before.

    Args:
        source: the directory.
        extra: single files outside of it that belong to it, by name.
        into: the folder in which to make the copy; the directory's parent if None.
        keeps: says of each entry whether it counts; all do, unless this is given.
        progress: called with bytes done and to do.

    Raises:
        ConfigError: there is no such directory, or something may not be read or written.
        StoreUnavailable: no space, or a file that never holds still.
        CorruptFile: what was written did not read back the same.
    """
    if not source.is_dir():
        raise ConfigError(f"{source} is not a directory; name the one with the files.")
    parent = source.resolve().parent if into is None else into
    with _explained(source):
        parent.mkdir(parents=True, exist_ok=True)
        _remove_interrupted(parent, source.name)
        folder = _new_folder(parent, source.name)
        work = _Copy(source, extra or {}, folder, keeps, progress)
        try:
            return work.make()
        except BaseException:
            shutil.rmtree(work.partial, ignore_errors=True)
            raise
        finally:
            work.release()


def verify_copy(path: Path) -> int:
    """Read a copy and compare it with its manifest; gives how many files are in it.

    Raises:
        CorruptFile: a file is missing or not the same.
        ConfigError: it is not a copy.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        entries = {str(name): dict(entry) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is not a copy made by this library: {error}. Name the folder that "
            f"has {MANIFEST} in it."
        ) from error
    with _explained(path):
        for name, entry in entries.items():
            _verify(path / name, str(entry["sha256"]), int(entry["size"]))
    return len(entries)


@contextmanager
def _explained(place: Path) -> Iterator[None]:
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


def _new_folder(parent: Path, name: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1_000):
        ending = "" if number == 1 else f"-{number}"
        folder = parent / f"{name}-backup-{stamp}{ending}"
        try:
            folder.with_name(folder.name + _PARTIAL).mkdir(mode=0o700)
        except FileExistsError:
            continue
        if not folder.exists():
            return folder
        folder.with_name(folder.name + _PARTIAL).rmdir()
    raise ConfigError(f"{parent} is full of copies named {name}-backup-{stamp}.")


def _remove_interrupted(parent: Path, name: str) -> None:
    """Remove copies that their makers, no longer alive, have left unfinished."""
    for partial in parent.glob(f"{name}-backup-*{_PARTIAL}"):
        lock = _lock(partial)
        if lock is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(lock)


def _lock(partial: Path) -> int | None:
    """Lock an unfinished copy; None where its maker is still at it, or it is gone."""
    try:
        lock = os.open(partial / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


class _Copy:
    """One copy under way."""

    def __init__(
        self,
        source: Path,
        extra: Mapping[str, Path],
        folder: Path,
        keeps: Keeps,
        progress: Progress | None,
    ) -> None:
        self.partial = folder.with_name(folder.name + _PARTIAL)
        self._folder = folder
        self._lock = _lock(self.partial)
        if self._lock is None:
            raise StoreUnavailable(
                "another process makes a copy at the same time", store="the copy"
            )
        self._source = source
        self._extra = {name: path.resolve() for name, path in extra.items()}
        self._keeps = keeps
        self._progress = progress
        self._copied: dict[str, tuple[Fingerprint, str]] = {}
        self._done = 0
        self._total = 0

    def release(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def make(self) -> DirectoryCopy:
        tree = self._look()
        self._check_space(tree)
        self._total = 2 * tree.size  # written, then read
        for _ in range(_PASSES):
            self._copy_changed(tree)
            again = self._look()
            if again == tree:
                break
            tree = again
            time.sleep(_PAUSE)
        else:
            raise StoreUnavailable(
                f"{self._source} changes all the time; stop the server that writes "
                "there, or choose a quieter moment",
                store="the copy",
            )
        self._shape(tree)
        for name, (found, digest) in self._copied.items():
            _verify(self._target(name), digest, found[1], tell=self._tell)
        self._finish(tree)
        return DirectoryCopy(
            path=self._folder,
            files=len(self._copied),
            bytes=tree.size,
            links=tuple(tree.links),
            left_out=tuple(sorted(tree.others)),
        )

    def _look(self) -> Tree:
        return look_at(self._source, self._extra, self._keeps)

    def _check_space(self, tree: Tree) -> None:
        free = shutil.disk_usage(self.partial).free
        if free < tree.size + _RESERVE:
            raise StoreUnavailable(
                f"the copy needs {tree.size:,} bytes and {free:,} are free; make room, "
                "or name another place for the copy",
                store=str(self.partial.parent),
            )

    def _tell(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)

    def _target(self, name: str) -> Path:
        return self.partial / name

    def _origin(self, name: str) -> Path:
        folder, _, inside = name.partition("/")
        return self._extra[inside] if folder == OUTSIDE else self._source / inside

    # -- writing -----------------------------------------------------------------------

    def _copy_changed(self, tree: Tree) -> None:
        for name in self._copied.keys() - tree.files.keys():
            self._target(name).unlink()
            del self._copied[name]
        for name, found in tree.files.items():
            if name not in self._copied or self._copied[name][0] != found:
                self._copy_still(name)

    def _copy_still(self, name: str) -> None:
        """Copy a file as it is at one moment; nothing where it has gone meanwhile."""
        target = self._target(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_PASSES):
            try:
                copied = _copy_file(self._origin(name), target, self._tell)
            except FileNotFoundError:
                target.unlink(missing_ok=True)
                return
            if copied is not None:
                self._copied[name] = copied
                return
            time.sleep(_PAUSE)
        raise StoreUnavailable(
            f"{self._origin(name)} is written all the time; stop its writer first",
            store="the copy",
        )

    def _shape(self, tree: Tree) -> None:
        """Folders (empty ones too) and links."""
        for name in sorted(tree.folders):
            self._target(name).mkdir(parents=True, exist_ok=True)
        for name, leads_to in tree.links.items():
            self._target(name).symlink_to(leads_to)

    def _finish(self, tree: Tree) -> None:
        manifest: dict[str, Any] = {
            "format": 1,
            "made_at": datetime.now(UTC).isoformat(),
            "source": str(self._source),
            "outside": {name: str(path) for name, path in self._extra.items()},
            "files": {
                name: {"size": found[1], "sha256": digest}
                for name, (found, digest) in sorted(self._copied.items())
            },
            "links": dict(tree.links),
            "left_out": sorted(tree.others),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=False)
        with (self.partial / MANIFEST).open("wb") as stream:
            stream.write(text.encode("utf-8", "surrogateescape") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        (self.partial / _LOCK).unlink()
        self.partial.rename(self._folder)
        for folder in (self._folder, self._folder.parent):
            _sync_folder(folder)


def _copy_file(
    origin: Path, target: Path, tell: Tell
) -> tuple[Fingerprint, str] | None:
    """Copy and sync one file; None where it was written meanwhile."""
    digest = hashlib.sha256()
    target.unlink(missing_ok=True)  # it may be write-protected already
    with _open_in_place(origin) as reader, target.open("wb") as writer:
        before = os.fstat(reader.fileno())
        while block := reader.read(_BLOCK):
            digest.update(block)
            writer.write(block)
            tell(len(block))
        writer.flush()
        os.fsync(writer.fileno())
        after = os.fstat(reader.fileno())
    if fingerprint(before) != fingerprint(after):
        return None
    if fingerprint(origin.stat()) != fingerprint(after):
        return None  # another file has taken its place
    target.chmod(before.st_mode & 0o777)
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    return fingerprint(after), digest.hexdigest()


def _open_in_place(path: Path) -> BinaryIO:
    """Open a file unless it has become a link since it was looked at."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")


def _verify(path: Path, digest: str, size: int, tell: Tell | None = None) -> None:
    found = hashlib.sha256()
    seen = 0
    try:
        with path.open("rb") as stream:
            _forget_cached(stream)
            while block := stream.read(_BLOCK):
                found.update(block)
                seen += len(block)
                if tell is not None:
                    tell(len(block))
    except FileNotFoundError:
        raise CorruptFile("the copy lacks this file", path=str(path)) from None
    if seen != size or found.hexdigest() != digest:
        raise CorruptFile("the copy is not what was written", path=str(path))


def _forget_cached(stream: BinaryIO) -> None:
    """Have the file read from the disk, where the system lets us ask for that."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
