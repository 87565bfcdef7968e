"""Streams of a repository: compressed, hashed, and encrypted on their way.

Reading verifies everything: the hash of the stored bytes, the end of the compressed frame,
the authentication of each encrypted block, and the hash of the content. What is read from
an encrypted or compressed stream is known to be right only at its end. So the last piece is
given out only after everything was verified, and a reader that publishes what it has read
does so after that.

Memory is bounded, whatever the size of the stream and whatever is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from pend_storage._extras import with_packages
from pend_storage.backup._age import Keys, NoIdentity, Undecryptable
from pend_storage.backup._manifest import Part
from pend_storage.backup._repository import Repository
from pend_storage.errors import ConfigError, CorruptFile

with with_packages(user="a backup repository"):
    import zstandard

__all__ = ["Keys", "put_stream", "read_stream", "verify_stored"]

_LEVEL: Final = 1
"""Of zstandard. Level 3 took three times as long for rows, and did not make them smaller."""
_GATHERED: Final = 256 << 10
"""Bytes that are compressed at a time: content may come line by line."""
_SLICE: Final = 4 << 10
"""Bytes that are decompressed at a time: they become 128 MiB at the very worst."""


def put_stream(
    repository: Repository,
    name: str,
    content: Iterable[bytes],
    keys: Keys,
    *,
    collection: str | None = None,
    items: int = 0,
) -> Part:
    """Write a stream to an object, ``.zst`` or ``.zst.age`` is added to its name.

    Args:
        repository: where it is written; an object of that name is replaced.
        name: of the object, without an ending.
        content: in pieces of any size.
        keys: with those that it is encrypted to, if any.
        collection: as in the manifest.
        items: as in the manifest.

    Raises: as :meth:`Repository.put`.
    """
    name += ".zst.age" if keys.encrypts else ".zst"
    plain = _Hashed(_gathered(content))
    stored = _Hashed(keys.encrypted(_compressed(plain)))
    repository.put(name, stored)
    return Part(
        name=name,
        size=stored.size,
        sha256=stored.sha256(),
        content_size=plain.size,
        content_sha256=plain.sha256(),
        encrypted=keys.encrypts,
        collection=collection,
        items=items,
    )


def read_stream(repository: Repository, part: Part, keys: Keys) -> Iterator[bytes]:
    """Read the content of an object in pieces; everything is verified by the last one.

    Raises:
        CorruptFile: what is stored differs from what was written; the object is named.
        ConfigError: no identity can decrypt it, or its packages are not installed.
        FileNotFoundError: it is missing.
    """
    stored = _Hashed(repository.get(part.name), most=part.size)
    try:
        sealed = keys.decrypted(stored) if part.encrypted else stored
        plain = _Hashed(_decompressed(sealed), most=part.content_size)
        held = b""
        for piece in plain:
            if held:
                yield held
            held = piece
        _require_same(stored, part.size, part.sha256, "as stored")
        _require_same(plain, part.content_size, part.content_sha256, "of its content")
    except NoIdentity as error:
        # A damaged header looks like one that was made for another key.
        _verify(repository, part, stored)
        raise ConfigError(
            f"{repository.url}/{part.name} is encrypted, and no identity that was given "
            "can decrypt it. Give the one that belongs to a key of encrypt_to: "
            "identity_file, or PEND_BACKUP_IDENTITY."
        ) from error
    except (_Damaged, Undecryptable) as error:
        raise CorruptFile(str(error), path=f"{repository.url}/{part.name}") from error
    if held:
        yield held


def verify_stored(repository: Repository, part: Part) -> None:
    """Verify the stored bytes of an object, which needs no key.

    Raises:
        CorruptFile: they differ from those that were written.
        FileNotFoundError: it is missing.
    """
    _verify(repository, part, _Hashed(repository.get(part.name), most=part.size))


def _verify(repository: Repository, part: Part, stored: _Hashed) -> None:
    try:
        for _ in stored:
            pass
        _require_same(stored, part.size, part.sha256, "as stored")
    except _Damaged as error:
        raise CorruptFile(str(error), path=f"{repository.url}/{part.name}") from error


class _Damaged(Exception):
    """Damage: what is stored is not what was written."""


class _Hashed:
    """Pieces, counted and hashed as they pass; iterated once, or on after a break."""

    def __init__(self, pieces: Iterable[bytes], *, most: int | None = None) -> None:
        """Args: pieces: of bytes. most: bytes; more are damage, and end the iteration."""
        self._pieces = iter(pieces)
        self._most = most
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self.size += len(piece)
        if self._most is not None and self.size > self._most:
            raise _Damaged(f"it has more than its {self._most:,} bytes")
        self._hash.update(piece)
        return piece

    def sha256(self) -> str:
        return self._hash.hexdigest()


def _require_same(found: _Hashed, size: int, sha256: str, what: str) -> None:
    if found.size != size:
        raise _Damaged(f"the size {what} is {found.size:,} instead of {size:,} bytes")
    if found.sha256() != sha256:
        raise _Damaged(f"the SHA-256 {what} is not the one that was recorded")


def _gathered(content: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces, so that each step has some work to do."""
    pieces: list[bytes] = []
    size = 0
    for piece in content:
        pieces.append(piece)
        size += len(piece)
        if size >= _GATHERED:
            yield b"".join(pieces)
            pieces, size = [], 0
    if size:
        yield b"".join(pieces)


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress to one frame, with a checksum."""
    frame = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
    for piece in pieces:
        if done := frame.compress(piece):
            yield done
    yield frame.flush()


def _decompressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress one frame, which has to be complete and to end with the last byte."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    for piece in pieces:
        for start in range(0, len(piece), _SLICE):
            if frame.eof:
                raise _Damaged("bytes follow the end of the compressed frame")
            try:
                done = frame.decompress(piece[start : start + _SLICE])
            except zstandard.ZstdError as error:
                raise _Damaged(f"it cannot be decompressed ({error})") from error
            if done:
                yield done
    if frame.unused_data:
        raise _Damaged("bytes follow the end of the compressed frame")
    if not frame.eof:
        raise _Damaged("the compressed frame has no end: a part is missing")
