"""Named marks of a pair: before each change of phase one is made, to restore to."""

from __future__ import annotations

from datetime import UTC, datetime

from pend_storage._model.marks import MARKS_META, Mark, automatic_name, with_mark
from pend_storage.dualwrite._pair_metadata import PairMetadata
from pend_storage.dualwrite._route import Route

__all__ = ["set_pair_mark"]


def set_pair_mark(metadata: PairMetadata, route: Route, step: str) -> None:
    """Mark the end of the primary's log before a step.

    Commits that are made at the same moment may be on either side of it.

    Raises:
        StoreUnavailable: the primary cannot be reached.
    """
    at = datetime.now(UTC)
    head = route.store.head()
    last = max((change.sequence for change in route.store.changes(head)), default=0)
    mark = Mark(sequence=max(head, last), epoch=route.epoch, at=at.isoformat())
    name = automatic_name(step, at)
    while True:
        found = metadata.get(MARKS_META)
        if metadata.compare_and_set(MARKS_META, found, with_mark(found, name, mark)):
            return
