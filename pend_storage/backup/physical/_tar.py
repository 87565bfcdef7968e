"""Tar stream of a directory: written and read piece by piece, through the one door.

The format is POSIX's, so that ``zstd -d`` and ``tar`` of any system can read a backup too.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from typing_extensions import override

from pend_storage._files.directory import Directory
from pend_storage._files.durability import write_all
from pend_storage._files.subtree import Subtree
from pend_storage._shown import shown
from pend_storage.errors import CorruptFile

__all__ = ["TarFile", "extract_tar", "files_of_tar", "tar_of"]

_BLOCK: Final = 1 << 20
_UNIT: Final = 512
_STREAM: Final = "r|"
_END: Final = bytes(2 * _UNIT)


def tar_of(root: Path) -> Iterator[bytes]:
    """Yield the tar stream of everything below a directory, in the order of names.

    Args:
        root: a private directory, to which nothing writes meanwhile.

    Raises:
        CorruptFile: it has something that is neither a file nor a directory, or a file
            changed meanwhile.
    """
    with Directory(root) as folder:
        yield from _entries(folder, PurePosixPath())
    yield _END


def _entries(folder: Directory, path: PurePosixPath) -> Iterator[bytes]:
    for name in sorted(folder.names()):
        status = folder.status(name)
        info = tarfile.TarInfo((path / name).as_posix())
        info.mtime = int(status.st_mtime)
        if stat.S_ISDIR(status.st_mode):
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            yield info.tobuf(tarfile.PAX_FORMAT)
            with folder.directory(name) as inner:
                yield from _entries(inner, path / name)
        elif stat.S_ISREG(status.st_mode):
            info.size, info.mode = status.st_size, 0o600
            yield info.tobuf(tarfile.PAX_FORMAT)
            yield from _content(folder, name, status.st_size)
        else:
            raise CorruptFile(
                "it is neither a file nor a directory", path=str(folder.path / name)
            )


def _content(folder: Directory, name: str, size: int) -> Iterator[bytes]:
    fd = folder.open_file(name)
    try:
        rest = size
        while rest:
            piece = os.read(fd, min(_BLOCK, rest))
            if not piece:
                raise CorruptFile(
                    "it became shorter while it was read", path=str(folder.path / name)
                )
            rest -= len(piece)
            yield piece
    finally:
        os.close(fd)
    if size % _UNIT:
        yield bytes(_UNIT - size % _UNIT)


class TarFile(NamedTuple):
    """File of a tar stream; its content is read before the next one is asked for."""

    name: str
    size: int
    content: Iterator[bytes]


def extract_tar(content: Iterable[bytes], into: Path) -> int:
    """Write the files of a tar stream below a directory, each for its owner only.

    Args:
        content: of the stream.
        into: a private directory, which is empty.

    Returns:
        The number of files.

    Raises:
        CorruptFile: the stream is none, ends early, or holds a link or a device.
        ConfigError: a name leads out of the directory.
        OSError: the disk is full, and so on.
    """
    count = 0
    with Subtree(Directory(into)) as tree:
        for file in files_of_tar(content, folder=tree.make_folder):
            fd = tree.create(file.name)
            try:
                for piece in file.content:
                    write_all(fd, piece)
            finally:
                os.close(fd)
            count += 1
    return count


def files_of_tar(
    content: Iterable[bytes], *, folder: Callable[[str], object] | None = None
) -> Iterator[TarFile]:
    """Yield the files of a tar stream; the stream is read to its end.

    Args:
        content: of the stream.
        folder: called with the name of each folder.

    Raises:
        CorruptFile: the stream is none, ends early, or holds a link or a device.
    """
    stream = _Stream(content)
    try:
        with tarfile.open(None, _STREAM, stream, 20 * _UNIT) as archive:
            for member in archive:
                if member.isdir():
                    if folder is not None:
                        folder(member.name)
                elif member.isreg():
                    yield TarFile(member.name, member.size, _read(archive, member))
                else:
                    raise CorruptFile(
                        f"it holds {shown(member.name)}, which is no file",
                        path="base backup",
                    )
    except tarfile.TarError as error:
        raise CorruptFile(
            f"the stream of files: {error}", path="base backup"
        ) from error
    stream.drain()


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    source = archive.extractfile(member)
    if source is None:
        return
    while piece := source.read(_BLOCK):
        yield piece


class _Stream(io.RawIOBase):
    """Readable object over pieces of bytes."""

    def __init__(self, content: Iterable[bytes]) -> None:
        super().__init__()
        self._pieces = iter(content)
        self._rest = memoryview(b"")

    @override
    def readable(self) -> bool:
        return True

    @override
    def read(self, size: int = -1, /) -> bytes:
        parts: list[bytes] = []
        while size:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
                continue
            part = self._rest[:size] if size > 0 else self._rest
            self._rest = self._rest[len(part) :]
            parts.append(bytes(part))
            size -= len(part) if size > 0 else 0
        return b"".join(parts)

    def drain(self) -> None:
        """Read to the end, so that the last piece is verified too."""
        while self.read(_BLOCK):
            pass
