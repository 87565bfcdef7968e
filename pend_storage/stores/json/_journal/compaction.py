"""Compaction: writes snapshots, and drops old segments by retention."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pend_storage import crashpoints
from pend_storage._files.directory import Directory
from pend_storage._files.names import TEMPORARY
from pend_storage.stores.json._journal.directory_handle import DirectoryHandle
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._journal.segments import (
    numbered,
    read_start,
    segment_path,
    snapshot_path,
)
from pend_storage.stores.json._journal.snapshot import snapshot

__all__ = ["KEEP_A_WEEK", "Retention", "compact", "delete_leftovers", "is_due"]

_LEAST: Final = 8 << 20
"""Bytes of journal below which no snapshot is due: they load in 0.1 s."""

_SNAPSHOT_WRITTEN = crashpoints.declare(
    "json.snapshot-written", "a new snapshot is in its place; the old one is too"
)
_OLD_DROPPED = crashpoints.declare(
    "json.old-dropped", "the snapshots before it are gone; old segments are not yet"
)


@dataclass(frozen=True, slots=True)
class Retention:
    """Retention of the change log, for its readers: by age and by size.

    A segment of the journal is dropped when it exceeds either limit.
    """

    seconds: float = 7 * 24 * 3600
    size: int = 1 << 30
    """In bytes."""


KEEP_A_WEEK: Final = Retention()
"""Seven days, and a gibibyte at most."""


def is_due(engine: Engine) -> bool:
    """Return True if the journal since the last snapshot is long enough for another one."""
    numbers = numbered(engine.directory, "snapshot")
    if not numbers:
        return False
    path = snapshot_path(engine.directory, numbers[-1])
    size = _size(path)
    journal = sum(
        _size(segment_path(engine.directory, n))
        for n in numbered(engine.directory, "journal")
        if n >= numbers[-1]
    )
    return journal > max(_LEAST, size // 2)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # dropped by another process
        return 0


def compact(
    engine: Engine,
    retention: Retention,
    needed: Callable[[Position], Iterable[Position]],
) -> None:
    """Write a snapshot, then drop the segments it replaces. Hold the checkpoint lock.

    Args:
        engine: the open store.
        retention: how much of the change log to retain.
        needed: returns the positions whose state may be read again, given the position
            of the snapshot.

    Raises:
        OSError: the disk is full; if that is known before, no segment is begun.
    """
    _require_space(engine)
    cut = engine.begin_checkpoint()
    places = [Position(cut.segment), *needed(cut.position)]
    engine.own.verify_path()
    engine.own.replace(
        snapshot_path(engine.directory, cut.segment).name,
        snapshot(
            cut.contents,
            segment=cut.segment,
            chain=cut.chain,
            sequence=cut.sequence,
            meta=cut.meta,
        ),
    )
    _SNAPSHOT_WRITTEN()
    drop_old(engine.own, retention, min(places).segment)


def _require_space(engine: Engine) -> None:
    """Require free space for a snapshot of the size of the last one.

    Each attempt begins a segment if there were commits since the attempt before: on a
    full disk, segments would pile up.
    """
    for number in numbered(engine.directory, "snapshot")[-1:]:
        wanted = _size(snapshot_path(engine.directory, number))
        if shutil.disk_usage(engine.directory).free < wanted:
            reason = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, reason, str(engine.directory))


def drop_old(own: DirectoryHandle, retention: Retention, needed: int) -> None:
    """Drop superseded snapshots, then segments beyond the retention.

    Args:
        own: the store's own directory.
        retention: how much of the change log to retain.
        needed: first segment whose state may be read again.
    """
    own.verify_path()
    snapshots = [n for n in numbered(own.path, "snapshot") if n <= needed]
    for number in snapshots[:-1]:
        own.unlink(snapshot_path(own.path, number).name)
    # Snapshots first: after a power failure, none may be left whose segments are gone.
    own.sync()
    _OLD_DROPPED()
    base = snapshots[-1] if snapshots else needed
    _drop_segments(own, retention, base)


def _drop_segments(own: DirectoryHandle, retention: Retention, base: int) -> None:
    """Drop segments from the oldest on, so that the rest is contiguous."""
    directory = own.path
    numbers = numbered(directory, "journal")
    total = sum(_size(segment_path(directory, number)) for number in numbers)
    oldest = time.time() - retention.seconds
    for number, following in itertools.pairwise(numbers):
        # A segment has no end time of its own: it ended when the next one began.
        ended = read_start(directory, following).at.timestamp()
        if number >= base or (total <= retention.size and ended >= oldest):
            break
        path = segment_path(directory, number)
        total -= _size(path)
        own.unlink(path.name)
    own.sync()


def delete_leftovers(own: DirectoryHandle) -> None:
    """Delete temporary files of a process that died. Hold the checkpoint lock."""
    _delete_temporary(own)
    with contextlib.suppress(FileNotFoundError), own.directory("views") as views:
        _delete_temporary(views)


def _delete_temporary(directory: Directory) -> None:
    for name in directory.names():
        if name.endswith(TEMPORARY):
            directory.unlink(name)
