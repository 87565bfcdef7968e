"""How much of the change log is behind a place, without walking along it each time."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Final

from pend_storage._records import Pending
from pend_storage.errors import ChangesExpired
from pend_storage.stores.json.disk import translated
from pend_storage.stores.json.engine import Engine
from pend_storage.stores.json.live import Live
from pend_storage.stores.json.past import effects_after, oldest_kept
from pend_storage.stores.json.timeline import Timeline

__all__ = ["counted"]

_ATTEMPTS: Final = 3


def counted(engine: Engine, after: int) -> Pending | None:
    """See :meth:`Store.pending`; None where writers are quicker than the reading.

    Raises:
        ChangesExpired: the log is not kept so far back.
    """
    with translated(engine.directory):
        for _ in range(_ATTEMPTS):
            found, name, end = engine.consult(
                lambda live: (live.count(after), live.state.name, live.journal.position)
            )
            if found is not None:
                return Pending(*found)
            # Read without the lock: whatever was committed meanwhile is added later.
            oldest = oldest_kept(engine.directory, after, end, name)
            log = effects_after(engine.directory, oldest, end, name)
            with contextlib.suppress(ChangesExpired):  # some of it at this moment
                timeline = Timeline(log, oldest)
                engine.consult(partial(Live.take_timeline, timeline=timeline))
    return None
