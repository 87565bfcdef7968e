"""Duplicate members: records of one file that have the same member name.

Of equal member names every parser keeps the last value. So the last member of a name is
the record; earlier ones are *superseded*: they wait in quarantine, and their texts stay in
the file only as long as the effective member follows them. When that one is deleted, they
leave the file, because the next parser would take the last of them for a record; then they
are in quarantine alone, without a position, and do not come back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.layout import Layout
from pend_storage._model.records import QuarantinedRecord

__all__ = ["SUPERSEDED", "Text", "hidden", "is_beside", "is_superseded", "text_of"]

SUPERSEDED: Final = "superseded"
"""The code of a quarantined member that a later one of the same name supersedes."""


class Text(NamedTuple):
    """Text of a record with a member name."""

    name: str
    order: tuple[Any, ...]
    """Sort key among the records of the file."""
    is_placed: bool
    is_superseded: bool
    token: Any
    """Identifies the record for the caller of :func:`hidden`."""


def is_superseded(record: Any) -> bool:
    """Return whether a record is superseded by a later member of the same name."""
    return isinstance(record, QuarantinedRecord) and record.code == SUPERSEDED


def is_beside(record: Any) -> bool:
    """Return whether a record is superseded and has no position among the file's records.

    In an object around a list of records, its text is part of the file's header. In an
    object of records it has left the file.
    """
    return (
        is_superseded(record) and record.position is None and not is_whole_file(record)
    )


def text_of(layout: Layout, record: Any, version: int, token: Any) -> Text | None:
    """Make the :class:`Text` of a record; None where it has no member name."""
    name = layout.member_name(record)
    if name is None:
        return None
    is_placed = not isinstance(record, QuarantinedRecord)
    order = layout.order(record, version)
    return Text(name, order, is_placed, is_superseded(record), token)


def hidden(texts: Iterable[Text]) -> set[Any]:
    """Return the tokens of quarantined texts that the file omits.

    Args:
        texts: the quarantined records of a file that have a member name, and the placed
            ones that share a name with one of them, in any order.
    """
    by_name: dict[str, list[Text]] = {}
    for text in texts:
        by_name.setdefault(text.name, []).append(text)
    found = set()
    for same in by_name.values():
        # The effective member: a placed record, else the last text that is no duplicate.
        counting = max(
            (text for text in same if not text.is_superseded),
            key=lambda text: (text.is_placed, text.order),
            default=None,
        )
        for text in same:
            # Behind the effective member, a parser would keep this text instead.
            behind = counting is None or text.order > counting.order
            if behind and text is not counting and not text.is_placed:
                found.add(text.token)
    return found
