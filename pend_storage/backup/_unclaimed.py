"""Files of a JSON directory that are in no collection, as a part of a snapshot.

The content: a line with the format; then for each file a line with its path, its size and
its SHA-256, and the bytes of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from pend_storage._files.by_path import read_linked
from pend_storage._files.trust import LARGEST_FILE
from pend_storage.backup._manifest import FORMAT, Part, require_format
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys, put_stream, read_stream
from pend_storage.errors import CorruptFile

__all__ = ["FILES_PART", "file_contents", "read_files", "write_files"]

FILES_PART: Final = "/files-"
"""Part of the name of an object with files."""
_ENCODER: Final = msgspec.json.Encoder()
_LONGEST_LINE: Final = 1 << 20


class _Format(msgspec.Struct):
    format: int


class _File(msgspec.Struct):
    """Line before the bytes of a file."""

    path: str
    """Bytes that are not UTF-8 are escaped."""
    size: int
    sha256: str


_FILE: Final = msgspec.json.Decoder(_File)


def write_files(
    files: Mapping[str, Path], repository: Repository, keys: Keys, *, folder: str
) -> tuple[Part, dict[str, str]]:
    """Write files to one part.

    Args:
        files: path inside the directory, and where it is; one that is gone meanwhile is
            left out.
        repository: where to write.
        keys: to encrypt to.
        folder: of the backup, ``backups/ID``.

    Returns:
        The part, and the SHA-256 of each file.

    Raises:
        ConfigError: a file or the repository may not be used by this user.
        StoreUnavailable: the repository cannot be reached, or is full.
    """
    digests: dict[str, str] = {}

    def content() -> Iterator[bytes]:
        yield _ENCODER.encode(_Format(FORMAT)) + b"\n"
        for name, path in sorted(files.items()):
            try:
                data = read_linked(path, limit=LARGEST_FILE)
            except FileNotFoundError:
                continue
            header = _header(name, data)
            digests[header.path] = header.sha256
            yield _ENCODER.encode(header) + b"\n"
            yield data

    part = put_stream(repository, f"{folder}{FILES_PART}0001", content(), keys)
    return msgspec.structs.replace(part, items=len(digests)), digests


def _header(name: str, data: bytes) -> _File:
    raw = name.encode("utf-8", "surrogateescape")
    path = raw.decode("utf-8", "backslashreplace")
    return _File(path, len(data), hashlib.sha256(data).hexdigest())


def read_files(
    repository: Repository, part: Part, keys: Keys
) -> Iterator[tuple[str, str]]:
    """Read a part with files: path and SHA-256 of each, computed from its bytes.

    Raises: as ``read_stream``.
    """
    for path, data in file_contents(repository, part, keys):
        yield path, hashlib.sha256(data).hexdigest()


def file_contents(
    repository: Repository, part: Part, keys: Keys
) -> Iterator[tuple[str, bytes]]:
    """Read a part with files: path and content of each.

    Raises: as ``read_stream``.
    """
    source = _Source(read_stream(repository, part, keys), part.name)
    line = source.line()
    require_format(line or b"", place=part.name)
    count = 0
    while line := source.line():
        try:
            header = _FILE.decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise CorruptFile(
                f"a line cannot be read: {error}", path=part.name
            ) from None
        yield header.path, source.take(header.size)
        count += 1
    if count != part.items:
        raise CorruptFile(f"it has {count:,} files, not {part.items:,}", path=part.name)


class _Source:
    """Stream of which lines and numbers of bytes are taken."""

    def __init__(self, pieces: Iterable[bytes], place: str) -> None:
        self._pieces = iter(pieces)
        self._place = place
        self._rest = b""

    def line(self) -> bytes | None:
        """Take a line without its end; None at the end of the stream."""
        while (end := self._rest.find(b"\n")) < 0:
            piece = next(self._pieces, None)
            if piece is None:
                if self._rest:
                    raise CorruptFile("it ends in a line", path=self._place)
                return None
            self._rest += piece
            if len(self._rest) > _LONGEST_LINE and b"\n" not in self._rest:
                raise CorruptFile("a line is too long", path=self._place)
        line, self._rest = self._rest[:end], self._rest[end + 1 :]
        return line

    def take(self, size: int) -> bytes:
        """Take a number of bytes."""
        parts, missing = [self._rest[:size]], size - len(self._rest)
        self._rest = self._rest[size:]
        while missing > 0:
            piece = next(self._pieces, None)
            if piece is None:
                raise CorruptFile("it ends in a file", path=self._place)
            parts.append(piece[:missing])
            self._rest = piece[missing:]
            missing -= len(piece)
        return b"".join(parts)
