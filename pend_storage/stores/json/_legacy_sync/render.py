"""Rendering: writes a legacy file from the store's rows, and copies unchanged texts.

A file is assembled from pieces. Consecutive unchanged records are one piece, copied with
the separators between them; so a change costs little more than copying the file.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from pend_storage._files.attributes import FileAttributes, apply
from pend_storage._files.directory import Directory
from pend_storage._files.durability import write_all
from pend_storage._files.ownership import NARROW, give_to, set_mode, sibling_mode
from pend_storage.schema import QUARANTINE
from pend_storage.stores.json._legacy_sync.file_contents import FileContents
from pend_storage.stores.json._legacy_sync.file_manifest import (
    UNKNOWN,
    FileManifest,
    place_of,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.file_permissions import (
    recorded_sibling_mode,
)
from pend_storage.stores.json._legacy_sync.text_history import (
    ABSENT,
    MOST_AT_ONCE,
    UNCLEAR,
    TextHistory,
    digest_of_text,
)

__all__ = ["Changes", "Run", "pieces_of", "write_file"]

_BUFFER: Final = 1 << 18
_FEW: Final = 100


class Run(NamedTuple):
    """Run of consecutive records in the present file, by their indexes in its manifest."""

    first: int
    end: int


Piece: TypeAlias = Run | str
"""Piece of a file: a run of copied records, or the token of one that is rendered."""


class Changes:
    """Difference between a file and the store: records to write, records to remove."""

    def __init__(
        self,
        manifest: FileManifest | None,
        content: FileContents,
        touched: frozenset[str] | None,
    ) -> None:
        """Compare a file with the store.

        Args:
            manifest: of the file; None if it is missing.
            content: the store's rows.
            touched: tokens that may have changed; None: any.
        """
        self.render_all = (
            manifest is None
            or manifest.render_all
            or manifest.broken
            or content.broken is not None
            or manifest.header != content.header_version
        )
        """No text of the present file can be copied."""
        self.written = set(content.changed(manifest, touched))
        """Tokens of new and changed records."""
        self.gone = (
            set() if manifest is None else self._gone(manifest, content, touched)
        )
        """Tokens of records that do not belong to the file any more."""

    def _gone(
        self,
        manifest: FileManifest,
        content: FileContents,
        touched: frozenset[str] | None,
    ) -> set[str]:
        shown = manifest.index().keys()
        return {
            token
            for token in (shown if touched is None else touched & shown)
            if token not in self.written
            and not _same(content.row(token), manifest.version(token))
        } | {token for token in content.hidden if token in shown}

    def __bool__(self) -> bool:
        return self.render_all or bool(self.written or self.gone)


def _same(row: tuple[int, bytes] | None, version: int | None) -> bool:
    return row is not None and row[0] == version


def pieces_of(
    manifest: FileManifest | None, content: FileContents, changes: Changes
) -> list[Piece]:
    """Return the pieces of the new file, in order."""
    if manifest is None:
        order: list[str] = sorted(changes.written, key=lambda t: _place(content, t))
        return list(order)
    index = manifest.index()
    # A text without known offsets cannot be copied: render it too.
    written = changes.written | (manifest.unplaced() - changes.gone)
    out = sorted(index[t] for t in written | changes.gone if t in index)
    # Beyond that, one sort of all records is faster than a search for each.
    many = len(written) > _FEW + len(index) // 20
    if many or changes.render_all or not manifest.ordered:
        return _sorted_pieces(manifest, content, changes, written)
    kept = [i for first, end in _runs(0, len(index), out) for i in range(first, end)]
    pieces: list[Piece] = []
    done = 0
    for wanted, token in sorted((_place(content, t), t) for t in written):
        place = bisect_right(
            kept, wanted, key=lambda i: _place(content, manifest.tokens[i])
        )
        before = kept[place] if place < len(kept) else len(index)
        pieces += _runs(done, before, out)
        pieces.append(token)
        done = before
    return [*pieces, *_runs(done, len(index), out)]


def _place(content: FileContents, token: str) -> tuple[Any, ...]:
    row = content.row(token)
    assert row is not None  # noqa: S101 - it belongs to the file
    record = content.decode(token, row[1])
    return (content.layout.order(record, row[0]), token)


def _runs(first: int, end: int, out: Sequence[int]) -> Iterator[Run]:
    """Yield what is left of a run without some indexes."""
    for place in out[bisect_left(out, first) : bisect_left(out, end)]:
        if first < place:
            yield Run(first, place)
        first = place + 1
    if first < end:
        yield Run(first, end)


def _sorted_pieces(
    manifest: FileManifest, content: FileContents, changes: Changes, written: set[str]
) -> list[Piece]:
    """Return the pieces if the order is not known: each record is one."""
    index = manifest.index()
    kept = index.keys() - written - changes.gone
    order = sorted([*kept, *written], key=lambda token: _place(content, token))
    if changes.render_all:
        return list(order)
    return [t if t in written else Run(index[t], index[t] + 1) for t in order]


def write_file(
    directory: Directory,
    name: str,
    content: FileContents,
    changes: Changes,
    *,
    manifest: FileManifest | None,
    old: bytes,
    model: FileAttributes | None,
) -> FileManifest:
    """Write the new version of a file under a name of its own, and sync it.

    Args:
        directory: of the file.
        name: of the new version.
        content: the store's rows.
        changes: their difference from the present file.
        manifest: of the present file.
        old: content of the present file, from which unchanged texts are copied.
        model: attributes of the present file, which are kept. A missing file gets the
            permissions that the store has recorded, else the owner of its directory, and
            the permissions that all files beside it have, except for those of others.

    Returns:
        The manifest of the new version.
    """
    is_broken = content.broken is not None
    pieces = [] if is_broken else pieces_of(manifest, content, changes)
    texts = _texts(pieces, manifest, old, content)
    fd = directory.create_narrow(name)  # widened when the file is complete
    lost: tuple[str, ...] = ()
    try:
        output = _Output(fd)
        places = output.write(content, texts, old)
        if model is not None:
            lost = apply(fd, model)
        elif content.permissions is not None:
            content.permissions.apply(fd, directory.status())
        else:
            _apply_defaults(fd, directory, content)
        os.fsync(fd)
        signature = signature_of(os.fstat(fd))
    finally:
        os.close(fd)
    new = FileManifest(
        signature,
        output.digest.hexdigest(),
        (content.position,),
        content.header_version,
        is_broken,
        lost=lost,
    )
    _record_places(new, pieces, places, manifest, content)
    if manifest is not None:
        new.shown = _shown_after(manifest, old, changes)
    return new


def _apply_defaults(fd: int, directory: Directory, content: FileContents) -> None:
    # A command that root runs must not take the file away from the server.
    give_to(fd, directory.status())
    file = content.layout.file
    mode = sibling_mode(directory.fd, Path(file).suffix, os.fstat(fd).st_gid)
    recorded = recorded_sibling_mode(content.schema, content.noted, file)
    set_mode(fd, mode & recorded | NARROW)


def _shown_after(manifest: FileManifest, old: bytes, changes: Changes) -> TextHistory:
    """Return the history with the texts that the new version replaces."""
    before, index = {}, manifest.index()
    no_texts = manifest.render_all or manifest.broken
    for token in changes.written | changes.gone:
        place = index.get(token)
        if place_of(token, "")[0] == QUARANTINE:
            continue  # old code takes it for an ordinary record, and leaves it as it is
        if place is None:
            before[token] = ABSENT
        elif (
            no_texts or manifest.starts[place] == UNKNOWN or len(before) > MOST_AT_ONCE
        ):
            before[token] = UNCLEAR
        else:
            before[token] = digest_of_text(
                old[manifest.starts[place] : manifest.ends[place]]
            )
    return manifest.shown.written(before)


def _texts(
    pieces: list[Piece],
    manifest: FileManifest | None,
    old: bytes,
    content: FileContents,
) -> Iterator[bytes]:
    layout, header = content.layout, content.header
    for piece in pieces:
        if isinstance(piece, Run) and manifest is not None:
            yield old[manifest.starts[piece.first] : manifest.ends[piece.end - 1]]
        elif isinstance(piece, str):
            yield layout.render_one(header, content.record(piece))


class _Output:
    """Buffered writer that records the offsets of the texts."""

    def __init__(self, fd: int) -> None:
        self.digest = hashlib.blake2b(digest_size=16)
        self._fd = fd
        self._chunks: list[bytes] = []
        self._waiting = 0

    def write(
        self, content: FileContents, texts: Iterable[bytes], old: bytes
    ) -> list[tuple[int, int]]:
        """Write the file; return start and end offset of each piece.

        Empty if the layout has joined texts, so that no offset is known.
        """
        places: list[tuple[int, int]] = []
        taken: deque[bytes] = deque()
        place = 0
        for chunk in _chunks(content, _recorded(texts, taken), old):
            end = place + len(chunk)
            # By identity: the layout yields the texts themselves, and separators of its own.
            if taken and chunk is taken[0]:
                taken.popleft()
                places.append((place, end))
            place = end
            self._add(chunk)
        self._flush()
        return [] if taken else places

    def _add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._waiting += len(chunk)
        if self._waiting >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._waiting = 0
        self.digest.update(data)
        write_all(self._fd, data)


def _chunks(
    content: FileContents, texts: Iterable[bytes], old: bytes
) -> Iterable[bytes]:
    if content.broken is not None:
        return (content.layout.restored(content.broken, old),)
    return content.layout.assemble_in(content.header, texts, old)


def _recorded(texts: Iterable[bytes], taken: deque[bytes]) -> Iterator[bytes]:
    for text in texts:
        taken.append(text)
        yield text


def _record_places(
    new: FileManifest,
    pieces: list[Piece],
    places: list[tuple[int, int]],
    old: FileManifest | None,
    content: FileContents,
) -> None:
    """Fill the manifest with the records of the new file, and their offsets."""
    known = places or [(UNKNOWN, UNKNOWN)] * len(pieces)
    for piece, (start, end) in zip(pieces, known, strict=True):
        if isinstance(piece, Run) and old is not None:
            _record_run(new, piece, start, old)
        elif isinstance(piece, str):
            row = content.row(piece)
            new.add(piece, row[0] if row else 0, start, end)


def _record_run(new: FileManifest, run: Run, start: int, old: FileManifest) -> None:
    first, end = run
    new.tokens += old.tokens[first:end]
    new.versions += old.versions[first:end]
    starts, ends = old.starts[first:end], old.ends[first:end]
    by = start - starts[0]  # the run moves as a whole
    if start == UNKNOWN:
        starts = ends = array("q", [UNKNOWN]) * len(starts)
    elif by:
        starts = array("q", [place + by for place in starts])
        ends = array("q", [place + by for place in ends])
    new.starts += starts
    new.ends += ends
