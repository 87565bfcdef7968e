"""Which quarantined texts of a legacy file do not stand in it, from content to content."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pend_storage._records import Put, QuarantinedRecord
from pend_storage.layout import Layout
from pend_storage.namesakes import SUPERSEDED, Text, hidden, text_of
from pend_storage.schema import QUARANTINE

if TYPE_CHECKING:
    from pend_storage.stores.json.content import Content, Generation

__all__ = ["Namesakes", "left_by"]


class Namesakes:
    """The records of one file that share a member name with a quarantined one.

    All records are looked at once, if any quarantined one has a member name at all;
    afterwards only those that were written since.
    """

    def __init__(self) -> None:
        self.since: Generation | None = None
        """Up to which changes have been noted."""
        self._changed: frozenset[str] | None = None
        """Records to look at again; None: all."""
        self._names: frozenset[str] = frozenset()
        """Of the quarantined records when the placed ones were looked at."""
        self._aside: dict[str, tuple[int, Text | None]] = {}
        """By token: the version that was looked at, and what it is."""
        self._placed: dict[str, Text] = {}

    def catch_up(self, changed: frozenset[str] | None, now: Generation) -> None:
        """Take note of what was written since. Hold the mutex."""
        known = self._changed if self.since is not None else None
        self._changed = None if changed is None or known is None else known | changed
        self.since = now

    def aside(self, content: Content) -> list[Text]:
        """The quarantined records that have a member name."""
        looked: dict[str, tuple[int, Text | None]] = {}
        for token, (version, body) in content.aside.items():
            known = self._aside.get(token)
            if known is None or known[0] != version:
                record = content.decode(token, body)
                known = version, text_of(content.layout, record, version, token)
            looked[token] = known
        self._aside = looked
        return [text for _, text in looked.values() if text is not None]

    def hidden(self, content: Content) -> frozenset[str]:
        """The tokens of the quarantined records that do not stand in the file."""
        aside = self.aside(content)
        names = frozenset(text.name for text in aside)
        if not names:
            self._names, self._changed, self._placed = names, None, {}
            return frozenset()
        changed = self._changed if names <= self._names else None
        if changed is None:
            self._placed = {}
        for token in content.homes if changed is None else changed:
            self._look(content, token, names)
        self._names, self._changed = names, frozenset()
        return frozenset(hidden([*aside, *self._placed.values()]))

    def _look(self, content: Content, token: str, names: frozenset[str]) -> None:
        self._placed.pop(token, None)
        row = content.homes.get(token)
        if row is None:
            return
        record, layout = content.decode(token, row[1]), content.layout
        text = _placed(layout, record, row[0], token)
        if text is not None and text.name in names:
            self._placed[token] = text


def left_by(content: Content) -> dict[str, Put]:
    """The quarantined records that leave their file, by token, as they are afterwards.

    Superseded for good, so that what replaced them can be deleted.
    """
    found = {}
    for token in content.hidden:
        record: QuarantinedRecord = content.record(token)
        place = record.place or '""'  # without a position, "" means the whole file
        alone = replace(record, code=SUPERSEDED, position=None, place=place)
        found[token] = content.schema.put(QUARANTINE, alone)
    return found


def _placed(layout: Layout, record: object, version: int, token: str) -> Text | None:
    return text_of(layout, record, version, token) if layout.owns(record) else None
