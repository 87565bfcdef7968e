"""Records of one file with the same member name: which of their texts stand in it.

Of equal member names every parser keeps the last value. So the last member of a name is
the record; earlier ones are *superseded*: they wait in quarantine, and their texts stay in
the file only as long as the member that counts follows them. When that one is deleted,
they leave the file, because the next parser would take the last of them for a record;
then they are in quarantine alone, without a position, and do not come back.
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
    """The text of a record with a member name."""

    name: str
    order: tuple[Any, ...]
    """By which the records of the file are sorted."""
    is_placed: bool
    is_superseded: bool
    token: Any
    """By which the caller knows the record."""


def is_superseded(record: Any) -> bool:
    """Whether a record is a member that a later one of the same name supersedes."""
    return isinstance(record, QuarantinedRecord) and record.code == SUPERSEDED


def is_beside(record: Any) -> bool:
    """Whether it is superseded and has no place among the records of its file.

    In an object around a list of records, its text is part of the file's header. In an
    object of records it has left the file.
    """
    return (
        is_superseded(record) and record.position is None and not is_whole_file(record)
    )


def text_of(layout: Layout, record: Any, version: int, token: Any) -> Text | None:
    """A record as one of several with the same member name; None where it has none."""
    name = layout.member_name(record)
    if name is None:
        return None
    is_placed = not isinstance(record, QuarantinedRecord)
    order = layout.order(record, version)
    return Text(name, order, is_placed, is_superseded(record), token)


def hidden(texts: Iterable[Text]) -> set[Any]:
    """The tokens of the quarantined texts that do not stand in the file.

    Args:
        texts: the quarantined records of a file that have a member name, and the placed
            ones that share a name with one of them, in any order.
    """
    by_name: dict[str, list[Text]] = {}
    for text in texts:
        by_name.setdefault(text.name, []).append(text)
    found = set()
    for same in by_name.values():
        counting = max(
            (text for text in same if not text.is_superseded),
            key=lambda text: (text.is_placed, text.order),
            default=None,
        )
        for text in same:
            behind = counting is None or text.order > counting.order
            if behind and text is not counting and not text.is_placed:
                found.add(text.token)
    return found
