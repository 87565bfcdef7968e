"""Bulk replacement: all rows of a store, written as a snapshot at once."""

from __future__ import annotations

from pend_storage import crashpoints
from pend_storage._files.failures import translated
from pend_storage.stores.json._journal.directory_handle import DirectoryHandle
from pend_storage.stores.json._journal.journal import Journal
from pend_storage.stores.json._journal.replica_state import ReplicaState
from pend_storage.stores.json._journal.segments import segment_path, snapshot_path
from pend_storage.stores.json._journal.snapshot import Contents, snapshot

__all__ = ["replace_contents"]

_WRITTEN = crashpoints.declare(
    "json.load-written", "the rows of a backup are in place, but not published"
)


def replace_contents(
    own: DirectoryHandle, live: ReplicaState, contents: Contents
) -> None:
    """Write other rows as the state before a new segment. Hold the commit lock.

    The new segment is two further on, and the one between is deleted. So every process
    that follows the journal misses it, and loads the snapshot, as after a long sleep.
    Until the snapshot has its name, the store is as it was.

    Args:
        own: the store's own directory.
        live: the state, with every frame of the journal; entries of its change log
            cannot be read any more.
        contents: all rows.

    Raises:
        StoreUnavailable: the disk refuses.
    """
    state, base = live.state, live.log_end
    sequence = max(
        state.sequence,
        *(row[0] for rows, _ in contents.values() for row in rows.values()),
        *(version for _, graves in contents.values() for version in graves.values()),
        0,
    )
    with translated(own.path):
        between = _journal_in_next_segment(own, live.journal, base)
        try:
            last = between.end_segment(base)
            start = last.reread_start()
            own.replace(
                snapshot_path(own.path, start.number).name,
                snapshot(
                    contents,
                    segment=start.number,
                    chain=start.chain,
                    sequence=sequence,
                    meta=state.meta,
                ),
            )
            _WRITTEN()
            own.unlink(segment_path(own.path, start.number - 1).name)
            own.sync()
            between.continue_in(last)
        finally:
            between.close()


def _journal_in_next_segment(
    own: DirectoryHandle, journal: Journal, base: int
) -> Journal:
    """End the present segment, and open the journal at the start of the next one."""
    following = journal.end_segment(base)
    try:
        start = following.reread_start()
    finally:
        following.close()
    return Journal(own.path, start.number, start.chain, own)
