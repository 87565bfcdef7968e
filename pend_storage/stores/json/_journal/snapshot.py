"""Snapshots: the whole state in one file, loaded lazily.

Opening checks the checksums and decodes no record; a collection is decoded at its first use.

A snapshot is a sequence of frames, each but the first and the last one followed by a
block of rows: a line with their keys, a line with their versions, and a line for each
record. So the file is readable by eye, and is decoded by splitting lines.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from pend_storage._files.by_path import open_file
from pend_storage._model.records import JSON
from pend_storage.errors import CorruptFile, SchemaOutOfDate
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.state import LogRecord, State
from pend_storage.stores.json._journal.log_frames import (
    HEADER_SIZE,
    encode_frame,
    read_frame,
    wanted_size,
)

__all__ = ["FORMAT", "Contents", "Snapshot", "read_snapshot", "snapshot"]

FORMAT: Final = 5
"""On-disk format: version of everything in the store's own directory.

1: the first. 2: entries of the change log carry a token, an author and a reason. 3: the
schema of the rows is recorded in the meta, and records may have members that a program does
not know. 4: a record may say that tombstones are purged; an older program would bring them back.
5: commits of audited collections have entries in the audit; an older program would write none.
"""
_PIECE: Final = 1 << 20
_WRONG_BLOCK: Final = "the checksum of a block of rows is wrong"
_BLOCK: Final = 5_000
"""Rows in a block: enough to be fast, few enough to be copied while others work."""

_keys: Final = msgspec.json.Decoder(list[str]).decode
_versions: Final = msgspec.json.Decoder(list[int]).decode
_encode: Final = msgspec.json.Encoder().encode

Rows = dict[str, tuple[int, bytes]]
Contents = Mapping[str, tuple[Rows, dict[str, int]]]
"""Collection to its rows and its tombstones."""


class _Head(msgspec.Struct, frozen=True):
    format: int
    segment: int
    chain: int
    sequence: int
    meta: dict[str, Any]


class _Block(msgspec.Struct, frozen=True):
    collection: str
    rows: int
    keys: int
    versions: int
    bodies: int
    """Bytes of each part; no bodies at all are tombstones."""
    crc: int


class _Parts(NamedTuple):
    """A block, and the offset of its lines in the file."""

    block: _Block
    start: int


class _OpenSnapshot:
    """An open snapshot, from which collections are loaded at their first use.

    A newer snapshot may replace the file meanwhile; the descriptor still leads to this
    one. It is closed when no collection is left to be loaded.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = os.dup(fd)  # the reader closes its own descriptor

    def __del__(self) -> None:
        os.close(self._fd)

    def body(self, parts: _Parts) -> bytes:
        """Read the lines of a block, and verify their checksum again.

        Raises:
            CorruptFile: they have changed since the snapshot was opened.
        """
        block, start = parts
        wanted = block.keys + block.versions + block.bodies
        pieces: list[bytes] = []
        while wanted and (piece := os.pread(self._fd, wanted, start)):
            pieces.append(piece)
            start, wanted = start + len(piece), wanted - len(piece)
        body = b"".join(pieces)
        if zlib.crc32(body) != block.crc:
            raise CorruptFile(_WRONG_BLOCK, path=str(self._path), offset=parts.start)
        return body


@dataclass(frozen=True)
class Snapshot:
    """A loaded snapshot: the state, and the segment with which the journal goes on."""

    state: State
    segment: int
    chain: int
    """The checksum at the end of the segment before."""


def snapshot(
    contents: Contents,
    *,
    segment: int,
    chain: int,
    sequence: int,
    meta: Mapping[str, JSON],
) -> Iterator[bytes]:
    """Encode a snapshot: yield its text in chunks.

    Args:
        contents: all rows.
        segment: the first segment that is not in it.
        chain: checksum at the end of the segment before.
        sequence: the highest sequence number or version so far.
        meta: all meta entries.
    """
    head = _Head(FORMAT, segment, chain, sequence, dict(meta))
    frame, after = encode_frame(_encode(head), 0)
    yield frame
    for name, (rows, tombstones) in contents.items():
        for block, body in itertools.chain(
            _row_blocks(name, rows), _tombstone_blocks(name, tombstones)
        ):
            frame, after = encode_frame(_encode(block), after)
            yield frame
            yield body
    # A snapshot that was cut off between two blocks lacks this frame.
    yield encode_frame(b'{"end":true}', after)[0]


def _row_blocks(name: str, rows: Rows) -> Iterator[tuple[_Block, bytes]]:
    items = iter(rows.items())
    while part := list(itertools.islice(items, _BLOCK)):
        keys = _encode([key for key, _ in part]) + b"\n"
        versions = _encode([row[0] for _, row in part]) + b"\n"
        bodies = b"\n".join([row[1] for _, row in part]) + b"\n"
        yield _block(name, len(part), keys, versions, bodies)


def _tombstone_blocks(
    name: str, tombstones: Mapping[str, int]
) -> Iterator[tuple[_Block, bytes]]:
    items = iter(tombstones.items())
    while part := list(itertools.islice(items, _BLOCK)):
        keys = _encode([key for key, _ in part]) + b"\n"
        versions = _encode([version for _, version in part]) + b"\n"
        yield _block(name, len(part), keys, versions, b"")


def _block(
    name: str, rows: int, keys: bytes, versions: bytes, bodies: bytes
) -> tuple[_Block, bytes]:
    body = b"".join((keys, versions, bodies))
    sizes = (len(keys), len(versions), len(bodies))
    return _Block(name, rows, *sizes, zlib.crc32(body)), body


def read_snapshot(
    path: Path,
    schema: Schema,
    name: str,
    *,
    state: Callable[[Schema, str], State] = State,
) -> Snapshot:
    """Read a snapshot.

    Args:
        path: of the file.
        schema: the collections.
        name: of the store, in errors.
        state: makes the empty state.

    Raises:
        CorruptFile: it is damaged.
        FileNotFoundError: a newer one has replaced it.
        SchemaOutOfDate: written by a newer version of the library.
    """
    with os.fdopen(open_file(path), "rb") as file:
        return _Reader(path, file).read(state(schema, name))


class _Reader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._chain = 0
        self._size = os.fstat(file.fileno()).st_size

    def read(self, state: State) -> Snapshot:
        head = self._decode(self._frame(), _Head)
        if head.format > FORMAT:
            raise SchemaOutOfDate(
                f"{self._path}: written by a newer version of pend_storage (on-disk "
                f"format {head.format}, this version knows {FORMAT}). Upgrade it."
            )
        state.install(LogRecord(head.sequence, meta=tuple(head.meta.items())))
        tables: dict[str, list[_Parts]] = {}
        while (payload := self._frame()) != b'{"end":true}':
            block = self._decode(payload, _Block)
            tables.setdefault(block.collection, []).append(self._parts(block))
        source = _OpenSnapshot(self._path, self._file.fileno())
        for collection, parts in tables.items():
            state.any_table(collection).load_later(partial(_contents, source, parts))
        return Snapshot(state, head.segment, head.chain)

    def _parts(self, block: _Block) -> _Parts:
        start = self._file.tell()
        # Read through now, to detect damage at opening; decoded at the first use.
        left, crc = block.keys + block.versions + block.bodies, 0
        while left and (piece := self._file.read(min(left, _PIECE))):
            left, crc = left - len(piece), zlib.crc32(piece, crc)
        if crc != block.crc:
            raise self._corrupt(_WRONG_BLOCK, start)
        return _Parts(block, start)

    def _frame(self) -> bytes:
        start = self._file.tell()
        data = self._file.read(HEADER_SIZE)
        size = wanted_size(data, 0) or 0
        # Bounded by the file: a damaged size must not allocate gigabytes.
        data += self._file.read(max(0, min(size, self._size) - HEADER_SIZE))
        frame = read_frame(data, 0, self._chain)
        if frame is None:
            raise self._corrupt("the snapshot is damaged or not complete", start)
        self._chain = frame.chain
        return frame.payload

    def _decode(self, payload: bytes, kind: type[Any]) -> Any:
        try:
            return msgspec.json.decode(payload, type=kind)
        except msgspec.DecodeError as error:
            raise self._corrupt(
                f"the payload of a frame cannot be decoded ({error})", self._file.tell()
            ) from error

    def _corrupt(self, reason: str, offset: int) -> CorruptFile:
        return CorruptFile(reason, path=str(self._path), offset=offset)


def _contents(
    source: _OpenSnapshot, places: list[_Parts]
) -> tuple[Rows, dict[str, int]]:
    """Decode the blocks of one collection, one at a time."""
    rows: Rows = {}
    tombstones: dict[str, int] = {}
    for parts in places:
        block, body = parts.block, source.body(parts)
        behind = block.keys + block.versions
        keys = _keys(body[: block.keys])
        versions = _versions(body[block.keys : behind])
        if block.bodies:
            # JSON text has no raw line breaks inside of strings: a line is a record.
            bodies = body[behind:-1].split(b"\n")
            rows.update(zip(keys, zip(versions, bodies, strict=True), strict=True))
        else:
            tombstones.update(zip(keys, versions, strict=True))
    return rows, tombstones
