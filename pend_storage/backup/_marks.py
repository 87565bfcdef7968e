"""Named marks in the change log of a store."""

from __future__ import annotations

from datetime import UTC, datetime

from pend_storage._model.marks import (
    MARKS_META,
    Mark,
    automatic_name,
    marks_in,
    marks_of,
    with_mark,
)
from pend_storage.backup._seal import highest_number
from pend_storage.store import Store

__all__ = ["MARKS_META", "Mark", "mark_before", "marks_in", "marks_of", "set_mark"]


def set_mark(values: Store, log: Store, name: str) -> Mark:
    """Mark the present end of a change log.

    Args:
        values: keeps the mark: the store, or the pair that it is primary of.
        log: the store that commits.
        name: of the mark; an earlier one of this name is replaced.

    Raises:
        ConfigError: it is no name.
        StoreUnavailable: a store cannot be reached.
    """
    mark = Mark(
        sequence=highest_number(0, log),
        epoch=log.role().epoch,
        at=datetime.now(UTC).isoformat(),
    )
    while True:
        found = values.meta(MARKS_META)
        wanted = with_mark(found, name, mark)
        if values.compare_and_set_meta(MARKS_META, found, wanted):
            return mark


def mark_before(values: Store, log: Store, step: str) -> str:
    """Mark the position before a step; returns the name. Args as :func:`set_mark`."""
    name = automatic_name(step, datetime.now(UTC))
    set_mark(values, log, name)
    return name
