"""Content generation: change counters, to skip a file without changes."""

from __future__ import annotations

from typing import NamedTuple

from pend_storage._layouts.layout import Layout
from pend_storage.schema import LEGACY_FILES, QUARANTINE
from pend_storage.stores.json._journal.replica_state import ReplicaState
from pend_storage.stores.json._legacy_sync.file_manifest import token_of

__all__ = ["Generation", "generation", "touched"]


class Generation(NamedTuple):
    """Counters, one of which changes with every change that a file may show."""

    state: int
    homes: int
    aside: int
    headers: int


def generation(live: ReplicaState, layout: Layout) -> Generation:
    """Return the present generation of a file's content. Hold the mutex."""
    tables = live.state.tables
    return Generation(
        live.state.serial,
        tables[layout.collection].changes,
        tables[QUARANTINE].changes,
        tables[LEGACY_FILES].changes,
    )


def touched(
    live: ReplicaState, layout: Layout, since: Generation | None
) -> frozenset[str] | None:
    """Return tokens that may have changed since a generation; None: any may have.

    Tables remember only the latest changes, and a reload remembers none.
    """
    # Another serial: the state was loaded again, and its counters began at zero.
    if since is None or since.state != live.state.serial:
        return None
    tables = live.state.tables
    homes = tables[layout.collection].touched(since.homes)
    aside = tables[QUARANTINE].touched(since.aside)
    if homes is None or aside is None:
        return None
    return homes | {token_of(QUARANTINE, key) for key in aside}
