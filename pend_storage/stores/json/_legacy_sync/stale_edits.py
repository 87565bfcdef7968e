"""Stale edits: protects commits from an edit that comes from an older copy of the file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from pend_storage._layouts.layout import Layout
from pend_storage._model.records import LegacyFile, Put
from pend_storage._redaction import record_name
from pend_storage.events import Event, Hook
from pend_storage.stores.json._legacy_sync.edit_detection import EditDetector
from pend_storage.stores.json._legacy_sync.edited_file import EditedFile, Operation
from pend_storage.stores.json._legacy_sync.overruled_values import (
    aside_of,
    beside_of,
    name_of,
)
from pend_storage.stores.json._legacy_sync.stale_copies import (
    EditedText,
    OlderCopy,
    older_copy,
)
from pend_storage.stores.json._legacy_sync.text_history import (
    ABSENT,
    TextHistory,
    digest_of_text,
)

__all__ = ["StaleEditCheck"]

_MOST_NAMED = 10
"""Records that an event names."""


class StaleEditCheck:
    """Check one edit against the text history of its file."""

    def __init__(
        self, reader: EditDetector, layout: Layout, found: EditedFile, hook: Hook
    ) -> None:
        """Create a check.

        Args:
            reader: compares the file again, without its stale entries.
            layout: of the file.
            found: the edit.
            hook: receives ``stale-copy``.
        """
        self._reader = reader
        self._layout = layout
        self._found = found
        self._hook = hook
        self._changes: Mapping[str, Operation] = {
            o.key: o for o in found.operations if o.collection == layout.collection
        }

    def run(self, shown: TextHistory) -> EditedFile:
        """Return the edit without the stale texts of an older copy.

        Args:
            shown: text history of the file.
        """
        copy = older_copy(shown, self._edited_texts(shown)) if self._changes else None
        if copy is None:
            return self._found
        if not self._is_certain(copy):
            self._retain_replaced(copy)
            return self._found
        skip = [
            self._found.source_entry[token]
            for token in copy.stale
            if isinstance(self._changes[token], Put)
        ]
        rest = self._reader.find(skip, copy.stale)
        rest.asides = [*self._stale_asides(copy), *self._members_aside()]
        rest.kept = copy.stale
        self._emit_stale_copy(copy)
        return rest

    # -- texts of the edit ----------------------------------------------------------------------

    def _edited_texts(self, shown: TextHistory) -> dict[str, EditedText]:
        """Return the text in the edit of each record that has a history, by token."""
        tokens = {state.token for state in shown.states}
        places = {
            item.token: place
            for place, item in enumerate(self._found.seen)
            if item.token in tokens
        }
        return {token: self._edited_text(token, places.get(token)) for token in tokens}

    def _edited_text(self, token: str, place: int | None) -> EditedText:
        found, change = self._found, self._changes.get(token)
        if isinstance(change, Put):
            digest = self._reader.digest(found, found.seen[found.source_entry[token]])
            return EditedText(digest, self._is_new(change))
        if change is not None:
            return EditedText(ABSENT, is_change=True)
        if place is not None:
            return EditedText(
                self._reader.digest(found, found.seen[place]), is_change=False
            )
        row = found.base.get(token)
        if row is None:
            return EditedText(ABSENT, is_change=False)
        record = found.content.decode(token, row[1])
        text = self._layout.render_one(found.parsed.header, record)
        return EditedText(digest_of_text(text), is_change=False)

    def _is_new(self, change: Put) -> bool:
        """Return True if the text of a record changed, rather than its place in the file."""
        row = self._found.base.get(change.key)
        if row is None:
            return True
        header = self._found.parsed.header
        before = self._found.content.decode(change.key, row[1])
        texts = [self._layout.render_one(header, r) for r in (before, change.record)]
        return texts[0] != texts[1]

    # -- decision -------------------------------------------------------------------------------

    def _is_certain(self, copy: OlderCopy) -> bool:
        """Return True if it is a stale copy rather than a record that was set back.

        Two records are not set back by chance, both to the text of one version and with
        nothing left of what came later; nor is one, together with a new change. An emptied
        file is no copy. A missing record that the store has deleted since is a doubt.
        """
        if copy.is_doubtful or not self._found.seen:
            return False
        return len(copy.committed) > 1 or any(
            isinstance(change, Put) and self._is_new(change)
            for token, change in self._changes.items()
            if token not in copy.stale
        )

    def _retain_replaced(self, copy: OlderCopy) -> None:
        """Adopt a possible revert on purpose, and quarantine the committed values."""
        found = self._found
        tokens = [  # for the others, the commit of the edit finds the conflict itself
            token
            for token in copy.stale | copy.overwritten
            if found.base.get(token) == found.content.row(token)
        ]
        reason = (
            "another program has set the record in the file back to what it was before a "
            "commit, or has written a stale copy of the file"
        )
        found.asides = self._asides(tokens, reason)
        kept = ", ".join(aside.key for aside in found.asides)
        where = f"; what was committed is in quarantine as {kept}" if kept else ""
        self._emit(
            f"{self._layout.file}: {self._names(copy.stale)} was set back by another program "
            "to what the file showed before a commit: on purpose, or with a stale copy of "
            f"the file. The edit counts{where}"
        )

    def _stale_asides(self, copy: OlderCopy) -> list[Put]:
        """Return quarantine entries: of the copy's stale texts, and of overwritten commits."""
        found, layout, schema = self._found, self._layout, self._found.content.schema
        reason = (
            "another program has written a stale copy of the file, and the store's value "
            "stays"
        )
        puts = [
            aside_of(schema, layout, found.parsed.header, change.record, reason)
            for token, change in self._changes.items()
            if token in copy.stale and isinstance(change, Put)
        ]
        reason = "another program has changed it in a stale copy of the file, and that counts"
        return puts + self._asides(copy.overwritten, reason)

    def _asides(self, tokens: Iterable[str], reason: str) -> list[Put]:
        """Return quarantine entries of the store's values of some records."""
        found, layout, schema = self._found, self._layout, self._found.content.schema
        header, made = found.parsed.header, []
        for token in tokens:
            row = found.content.row(token)
            if row is not None:
                record = found.content.decode(token, row[1])
                made.append(aside_of(schema, layout, header, record, reason))
        return made

    def _members_aside(self) -> list[Put]:
        """Return quarantine entries of members beside the records that the copy changes."""
        found, layout = self._found, self._layout
        edited, present = found.parsed.header, found.content.header
        if edited in (present, found.header[1]):
            return []
        reason = (
            "another program has written a stale copy of the file, and its value counts"
        )
        lost = layout.overruled_members(None, present, edited)
        return [
            beside_of(found.content.schema, layout, *one, reason)
            for one in lost.items()
        ]

    # -- events ---------------------------------------------------------------------------------

    def _emit_stale_copy(self, copy: OlderCopy) -> None:
        text = (
            f"{self._layout.file} was overwritten with a stale copy, which lacks what was "
            f"committed since of {self._names(copy.stale)}. The store's values stay, and "
            "the file is written again; what the copy says of them is in quarantine"
        )
        if copy.overwritten:
            text += (
                f". Of {self._names(copy.overwritten)}, which it changes, the copy counts, "
                "and what was committed is in quarantine"
            )
        self._emit(text)

    def _names(self, tokens: Iterable[str]) -> str:
        spec = self._found.content.schema[self._layout.collection]
        names = sorted(record_name(spec, self._name(token)) for token in tokens)
        more = len(names) - _MOST_NAMED
        return ", ".join(names[:_MOST_NAMED]) + (
            f" and {more} more" if more > 0 else ""
        )

    def _name(self, token: str) -> str:
        found, change = self._found, self._changes[token]
        header: LegacyFile = found.parsed.header
        if isinstance(change, Put):
            return name_of(self._layout, header, change.record)
        row = found.base[token]
        record = found.content.decode(token, row[1])
        return name_of(self._layout, found.parsed.header, record)

    def _emit(self, message: str) -> None:
        self._hook(Event("stale-copy", message, logging.WARNING))
