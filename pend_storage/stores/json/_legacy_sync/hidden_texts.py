"""Hidden texts: quarantined texts that must not stand in their legacy file.

A quarantined text may have the member name of a record. A JSON parser takes the last of
duplicate names, so that text would stand for the record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from pend_storage._layouts.duplicate_members import SUPERSEDED, Text, hidden, text_of
from pend_storage._layouts.layout import Layout
from pend_storage._model.records import Put, QuarantinedRecord
from pend_storage.errors import Conflict, StaleEpoch
from pend_storage.phases import Role
from pend_storage.schema import QUARANTINE, Schema
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._legacy_sync.content_generation import Generation

__all__ = ["HiddenTexts", "release_hidden"]


class Rows(Protocol):
    """The rows of one file: :class:`~pend_storage.stores.json._legacy_sync.file_contents.FileContents`."""

    schema: Schema
    layout: Layout
    homes: Mapping[str, tuple[int, bytes]]
    aside: Mapping[str, tuple[int, bytes]]

    @property
    def hidden(self) -> frozenset[str]:
        """Tokens of the hidden records."""

    def decode(self, token: str, body: bytes) -> Any:
        """Decode a row."""

    def record(self, token: str) -> Any:
        """Return the record of a token."""


class HiddenTexts:
    """Track the records of one file that share a member name with a quarantined one.

    All records are compared once, if any quarantined one has a member name at all;
    afterwards only those that were written since.
    """

    def __init__(self) -> None:
        self.since: Generation | None = None
        """Generation up to which changes are recorded."""
        self._changed: frozenset[str] | None = None
        """Tokens of records to compare; None: all."""
        self._names: frozenset[str] = frozenset()
        """Member names of the quarantined records at the last comparison."""
        self._aside: dict[str, tuple[int, Text | None]] = {}
        """Token to the version that was decoded, and its text."""
        self._placed: dict[str, Text] = {}

    def catch_up(self, changed: frozenset[str] | None, now: Generation) -> None:
        """Record the changes since the last call. Hold the mutex.

        Args:
            changed: tokens of changed records; None: any may have changed.
            now: present generation.
        """
        known = self._changed if self.since is not None else None
        self._changed = None if changed is None or known is None else known | changed
        self.since = now

    def aside(self, content: Rows) -> list[Text]:
        """Return the quarantined records that have a member name."""
        current: dict[str, tuple[int, Text | None]] = {}
        for token, (version, body) in content.aside.items():
            known = self._aside.get(token)
            if known is None or known[0] != version:
                record = content.decode(token, body)
                known = version, text_of(content.layout, record, version, token)
            current[token] = known
        self._aside = current
        return [text for _, text in current.values() if text is not None]

    def hidden(self, content: Rows) -> frozenset[str]:
        """Return the tokens of the hidden records."""
        aside = self.aside(content)
        names = frozenset(text.name for text in aside)
        if not names:
            self._names, self._changed, self._placed = names, None, {}
            return frozenset()
        # A new name may be that of any record: compare all of them again.
        changed = self._changed if names <= self._names else None
        if changed is None:
            self._placed = {}
        for token in content.homes if changed is None else changed:
            self._refresh_placed(content, token, names)
        self._names, self._changed = names, frozenset()
        return frozenset(hidden([*aside, *self._placed.values()]))

    def _refresh_placed(self, content: Rows, token: str, names: frozenset[str]) -> None:
        self._placed.pop(token, None)
        row = content.homes.get(token)
        if row is None:
            return
        record, layout = content.decode(token, row[1]), content.layout
        text = _placed(layout, record, row[0], token)
        if text is not None and text.name in names:
            self._placed[token] = text


def release_hidden(engine: Engine, content: Rows) -> bool:
    """Commit that hidden texts leave their file for good; return True if there are any.

    A secondary leaves the commit to the primary: until then it does not write the texts.
    After a conflict with another commit, the next round tries again.
    """
    leaving = _released_by(content)
    if not leaving:
        return False
    with engine.live() as live:
        if live.state.role.role is not Role.PRIMARY:
            return False
    checks = {
        (QUARANTINE, put.key): content.aside[token][0] for token, put in leaving.items()
    }
    batch = content.schema.batch(leaving.values(), checks)
    with contextlib.suppress(Conflict, StaleEpoch):
        engine.submit(lambda plan: plan.add(batch, None))
    return True


def _released_by(content: Rows) -> dict[str, Put]:
    """Return the hidden records by token, as superseded entries without a position.

    Superseded for good: otherwise a deletion of the other record would bring the text back.
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
