"""Replication lag: counts the changes after a position without reading the log each time."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Final

from pend_storage._files.failures import translated
from pend_storage._model.records import Pending
from pend_storage.errors import ChangesExpired
from pend_storage.stores.json._journal.history_reader import effects_after, oldest_kept
from pend_storage.stores.json._journal.log_timeline import LogTimeline
from pend_storage.stores.json._journal.replica import Replica
from pend_storage.stores.json._journal.replica_state import ReplicaState

__all__ = ["count_pending"]

_ATTEMPTS: Final = 3


def count_pending(engine: Replica, after: int, *, whole: bool = True) -> Pending | None:
    """Count the pending changes; None if commits came faster than the log was read.

    Args:
        engine: state of the open store.
        after: sequence number of the last entry that was applied elsewhere.
        whole: read the whole log, once, for followers at any place of it; False: only
            from this place on.

    Raises:
        ChangesExpired: the log is not retained so far back.
    """
    with translated(engine.directory):
        for _ in range(_ATTEMPTS):
            found, name, end = engine.read_replica(
                lambda live: (live.count(after), live.state.name, live.journal.position)
            )
            if found is not None:
                return Pending(*found)
            # Read without the lock: adopt_timeline adds what was committed meanwhile.
            base = oldest_kept(engine.directory, after, end, name)
            if not whole:  # the entry of the place itself too: callers compare its time
                base = max(base, after - 1)
            log = effects_after(engine.directory, base, end, name)
            with contextlib.suppress(ChangesExpired):  # some of it at this moment
                timeline = LogTimeline(log, base)
                engine.read_replica(
                    partial(ReplicaState.adopt_timeline, timeline=timeline)
                )
    return None
