"""Writes a legacy file from what the store holds: unchanged texts are copied."""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pend_storage.stores.json.content import Content
from pend_storage.stores.json.disk import give_to, write_all
from pend_storage.stores.json.views import UNKNOWN, View, signature_of

__all__ = ["Changes", "order_of", "write_file"]

_PIECE: Final = 1 << 18
_FEW: Final = 100


class Changes:
    """What a file must be brought up to date with."""

    def __init__(self, view: View | None, content: Content) -> None:
        known = {} if view is None else view.known()
        self.written = set(content.changed(known))
        """Records that are new, or have changed."""
        self.gone = {
            token
            for token, version in known.items()
            if token not in self.written and not _same(content.row(token), version)
        }
        self.anew = (
            view is None
            or view.anew
            or view.broken
            or view.header != content.header_version
        )
        """Nothing of the present file can be used."""

    def __bool__(self) -> bool:
        return self.anew or bool(self.written or self.gone)


def _same(row: tuple[int, bytes] | None, version: int) -> bool:
    return row is not None and row[0] == version


def order_of(view: View | None, content: Content, changes: Changes) -> list[str]:
    """The tokens of the file in their order.

    What has not changed keeps its place, so only what has is looked at; unless that is
    much, or the order is not known yet.
    """
    out = changes.gone | changes.written
    kept = [] if view is None else [t for t in view.tokens if t not in out]

    def place(token: str) -> tuple[Any, ...]:
        row = content.row(token)
        assert row is not None  # noqa: S101 - it belongs to the file
        record = content.decode(token, row[1])
        return (content.layout.order(record, row[0]), token)

    many = len(changes.written) > _FEW + len(kept) // 20
    if many or (view is not None and not view.ordered):
        return sorted([*kept, *changes.written], key=place)
    for wanted, token in sorted((place(token), token) for token in changes.written):
        kept.insert(bisect_right(kept, wanted, key=place), token)
    return kept


def write_file(
    path: Path,
    content: Content,
    changes: Changes,
    *,
    view: View | None,
    old: bytes,
    model: os.stat_result | None,
) -> View:
    """Write a file with what the store holds, durable, under a name of its own.

    Args:
        path: the name.
        content: what the store holds.
        changes: how that differs from what the file shows now.
        view: what the file shows now.
        old: the file as it is now; what has not changed is copied from there.
        model: of the file as it is now: its owner and mode are taken over.
    """
    order = order_of(view, content, changes)
    spans = {} if view is None or changes.anew else _spans(view)
    texts = _texts(order, old, spans, content, changes)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        starts, ends, digest = _write(fd, content, texts, len(order))
        if model is not None:
            give_to(fd, model)
            os.fchmod(fd, stat.S_IMODE(model.st_mode))
        os.fsync(fd)
        status = os.fstat(fd)
    finally:
        os.close(fd)
    versions = array("q", (_version(content, token) for token in order))
    return View(
        signature_of(status),
        digest,
        (content.position,),
        content.header_version,
        tokens=order,
        versions=versions,
        starts=starts,
        ends=ends,
    )


def _version(content: Content, token: str) -> int:
    row = content.row(token)
    return 0 if row is None else row[0]


def _spans(view: View) -> dict[str, tuple[int, int]]:
    places = zip(view.tokens, view.starts, view.ends, strict=True)
    return {t: (start, end) for t, start, end in places if start != UNKNOWN}


def _texts(
    order: list[str],
    old: bytes,
    spans: dict[str, tuple[int, int]],
    content: Content,
    changes: Changes,
) -> Iterator[bytes]:
    layout, header = content.layout, content.header
    for token in order:
        span = None if token in changes.written else spans.get(token)
        if span is not None:
            yield old[span[0] : span[1]]
        else:
            yield layout.render_one(header, content.record(token))


def _write(
    fd: int, content: Content, texts: Iterable[bytes], count: int
) -> tuple[array[int], array[int], str]:
    """Write the file; gives where each text begins and ends, and the file's digest."""
    starts, ends, digest = array("q"), array("q"), hashlib.blake2b(digest_size=16)
    taken: deque[bytes] = deque()
    piece: list[bytes] = []
    size = place = 0
    for chunk in content.layout.assemble(content.header, _noted(texts, taken)):
        if taken and chunk is taken[0]:
            taken.popleft()
            starts.append(place)
            ends.append(place + len(chunk))
        place += len(chunk)
        size += len(chunk)
        piece.append(chunk)
        if size >= _PIECE:
            _flush(fd, piece, digest)
            size = 0
    _flush(fd, piece, digest)
    if len(starts) != count:  # the layout has put texts together: no place is known
        starts = ends = array("q", [UNKNOWN]) * count
    return starts, ends, digest.hexdigest()


def _flush(fd: int, piece: list[bytes], digest: Any) -> None:
    data = b"".join(piece)
    piece.clear()
    digest.update(data)
    write_all(fd, data)


def _noted(texts: Iterable[bytes], taken: deque[bytes]) -> Iterator[bytes]:
    for text in texts:
        taken.append(text)
        yield text
