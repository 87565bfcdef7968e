"""Compaction: writes snapshots, and drops old segments by retention."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from pend_storage import crashpoints
from pend_storage._archive_hold import MOST
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

__all__ = [
    "FORGET_ALL",
    "KEEP_A_WEEK",
    "Passed",
    "Retention",
    "compact",
    "delete_leftovers",
    "drop_expired",
    "has_expired",
    "is_due",
]

_LEAST: Final = 8 << 20
"""Bytes of journal below which no snapshot is due by size: they load in 0.1 s."""
_SHARE: Final = 4
"""Snapshots that age alone makes due, at most, in the time of one retention."""

Passed: TypeAlias = Callable[[], int | None]
"""Returns the sequence number up to which a follower has applied the change log; None
where no store follows."""

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
    archive_hold: float = MOST.total_seconds()
    """Seconds for which entries are kept longer for an archive that lags."""


KEEP_A_WEEK: Final = Retention()
"""Seven days, and a gibibyte at most."""
FORGET_ALL: Final = Retention(seconds=0.0, size=1 << 62, archive_hold=0.0)
"""Nothing is retained, except what a follower has not applied, whatever its size."""


def is_due(engine: Engine, retention: Retention) -> bool:
    """Return True if the journal since the last snapshot is long or old enough for another.

    Old enough, because the snapshot has rows that were changed or deleted since, and a
    segment can be dropped only once a later one has begun.
    """
    numbers = numbered(engine.directory, "snapshot")
    if not numbers:
        return False
    return _is_long(engine, numbers) or _is_old(engine, numbers[-1], retention)


def _is_old(engine: Engine, number: int, retention: Retention) -> bool:
    """Return True if commits were made since a snapshot that is older than its share."""
    with contextlib.suppress(FileNotFoundError):  # dropped by another process
        age = time.time() - read_start(engine.directory, number).at.timestamp()
        # The clock may have been set back since: then the age is not known.
        if abs(age) * _SHARE < retention.seconds:
            return False
        return engine.read_replica(
            lambda live: (
                live.journal.start.number != number or not live.journal.is_fresh
            )
        )
    return False


def _is_long(engine: Engine, numbers: list[int]) -> bool:
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
    passed: Passed = lambda: None,
) -> None:
    """Write a snapshot, then drop the segments it replaces. Hold the checkpoint lock.

    Args:
        engine: the open store.
        retention: how much of the change log to retain.
        needed: returns the positions whose state may be read again, given the position
            of the snapshot.
        passed: how far a follower is; entries after that are not dropped by age.

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
    drop_old(engine.own, retention, min(places).segment, passed)


def has_expired(engine: Engine, retention: Retention) -> bool:
    """Return True if a superseded snapshot, or an expired segment before it, is left."""
    snapshots = numbered(engine.directory, "snapshot")
    if len(snapshots) != 1:
        return len(snapshots) > 1
    with contextlib.suppress(FileNotFoundError):  # dropped by another process
        segments = numbered(engine.directory, "journal")
        if segments[0] < snapshots[0]:
            ended = read_start(engine.directory, segments[1]).at.timestamp()
            return ended < time.time() - retention.seconds
    return False


def drop_expired(
    engine: Engine,
    retention: Retention,
    needed: Callable[[Position], Iterable[Position]],
    passed: Passed = lambda: None,
) -> None:
    """Drop what has expired since the last snapshot was written. Args as :func:`compact`."""
    now = engine.read_replica(lambda live: live.journal.position)
    snapshots = numbered(engine.directory, "snapshot")
    places = [Position(snapshots[-1]), *needed(now)]
    drop_old(engine.own, retention, min(places).segment, passed)


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


def drop_old(
    own: DirectoryHandle,
    retention: Retention,
    needed: int,
    passed: Passed = lambda: None,
) -> None:
    """Drop superseded snapshots, then segments beyond the retention.

    Args:
        own: the store's own directory.
        retention: how much of the change log to retain.
        needed: first segment whose state may be read again.
        passed: how far a follower is.
    """
    own.verify_path()
    snapshots = [n for n in numbered(own.path, "snapshot") if n <= needed]
    for number in snapshots[:-1]:
        own.unlink(snapshot_path(own.path, number).name)
    # Snapshots first: after a power failure, none may be left whose segments are gone.
    own.sync()
    _OLD_DROPPED()
    base = snapshots[-1] if snapshots else needed
    _drop_segments(own, retention, base, passed)


def _drop_segments(
    own: DirectoryHandle, retention: Retention, base: int, passed: Passed
) -> None:
    """Drop segments from the oldest on, so that the rest is contiguous."""
    directory = own.path
    numbers = numbered(directory, "journal")
    total = sum(_size(segment_path(directory, number)) for number in numbers)
    oldest = time.time() - retention.seconds
    applied = functools.cache(passed)  # asks another store: only if a segment expired
    for number, following in itertools.pairwise(numbers):
        if number >= base:
            break
        # A segment has no end time of its own: it ended when the next one began.
        start = read_start(directory, following)
        if total <= retention.size:
            upto = applied() if start.at.timestamp() < oldest else -1
            if upto is not None and upto < start.base:
                break  # too young, or a follower has not applied all of it
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
