"""Edits of the files of a secondary: set aside in quarantine, and reported."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Final, Literal

from pend_storage._layouts.layout import Layout
from pend_storage._model.records import JSON, FindingRecord, Put
from pend_storage.events import Event, Hook
from pend_storage.schema import FINDINGS, LEGACY_FILES, QUARANTINE
from pend_storage.stores._inmemory.write_planner import Plan
from pend_storage.stores.json._journal.engine import Submit
from pend_storage.stores.json._legacy_sync.edited_file import EditedFile, Operation
from pend_storage.stores.json._legacy_sync.file_manifest import digest_of, token_of
from pend_storage.stores.json._legacy_sync.overruled_values import aside_of, beside_of

__all__ = ["SecondaryEdit", "note_as_secondary"]

_IN_VAIN: Final = "the file was changed while another store was primary"
_FOREIGN: Final = -1
"""Version of a header that only a file has."""
_MOST_FOUND: Final = 100
"""Findings made of one edit; all that it says is in quarantine all the same."""


class SecondaryEdit:
    """Set one edit aside: nothing of it is adopted, and nothing is lost."""

    def __init__(
        self, layout: Layout, raw: bytes, found: EditedFile, hook: Hook
    ) -> None:
        """Make one.

        Args:
            layout: of the file.
            raw: the file as it is now.
            found: the edit.
            hook: receives events of what was put aside.
        """
        self._layout = layout
        self._raw = raw
        self._found = found
        self._hook = hook

    def run(self, meta: tuple[tuple[str, JSON], ...], submit: Submit) -> None:
        """Put what the edit says aside.

        Args:
            meta: named values to set together with it.
            submit: carries it out.

        Raises:
            StaleEpoch: the store has become primary since.
        """
        found = self._found
        mine = {self._layout.collection, QUARANTINE}
        changed = [o for o in found.operations if o.collection in mine]
        asides = {
            (operation.collection, operation.key): self._quarantined(found, operation)
            for operation in changed
            if isinstance(operation, Put)
        }
        beside = self._members_aside(found)
        if beside:  # by no header of the store's: it is written anew
            found.header = (_FOREIGN, found.header[1])
        puts = [*asides.values(), *beside]
        told: list[tuple[Operation, Put | None]] = [
            (o, asides.get((o.collection, o.key))) for o in changed
        ]
        header = found.content.schema.put(LEGACY_FILES, found.content.header)
        told += [(header, aside) for aside in beside]
        findings = [self._finding(found, *one) for one in told[:_MOST_FOUND]]
        submit(partial(note_as_secondary, [*puts, *findings], meta))
        if found.operations or beside:
            self._tell(
                "outside-edit-quarantined",
                f"{self._layout.file} was changed by somebody else while another store is "
                f"primary; {len(puts)} records were put in quarantine, and the file will "
                "be written again",
                logging.WARNING,
            )

    def _quarantined(self, found: EditedFile, operation: Put) -> Put:
        schema, header = found.content.schema, found.parsed.header
        return aside_of(schema, self._layout, header, operation.record, _IN_VAIN)

    def _members_aside(self, found: EditedFile) -> list[Put]:
        """What the editor has set beside the records."""
        layout, edited, shown = self._layout, found.parsed.header, found.header[1]
        if edited in (found.content.header, shown):
            return []
        lost = layout.overruled_members(None, edited, found.content.header)
        set_by_him = layout.overruled_members(None, edited, shown or layout.missing())
        schema = found.content.schema
        return [
            beside_of(schema, layout, name, value, _IN_VAIN)
            for name, value in lost.items()
            if name in set_by_him
        ]

    def _finding(
        self, found: EditedFile, operation: Operation, aside: Put | None
    ) -> Put:
        """What an operator is told of an edit; one that deletes is undone at once."""
        key, now = operation.key, datetime.now(UTC)
        kind: Literal["missing", "extra", "different"] = "missing"
        if aside is not None:
            known = token_of(operation.collection, key) in found.base
            known = known or operation.collection == LEGACY_FILES
            kind = "different" if known else "extra"
        said = digest_of(self._raw) if aside is None else aside.key
        text = f"edit\0{self._layout.file}\0{key}\0{said}"
        record = FindingRecord(
            id=hashlib.sha256(text.encode()).hexdigest()[:32],
            collection=operation.collection,
            key=key,
            kind=kind,
            state="repaired" if aside is None else "open",
            source="edit",
            quarantined=None if aside is None else aside.key,
            first_seen=now,
            last_seen=now,
        )
        return found.content.schema.put(FINDINGS, record)

    def _tell(self, name: str, message: str, level: int) -> None:
        self._hook(Event(name, message, level))


def note_as_secondary(
    puts: list[Put], meta: tuple[tuple[str, JSON], ...], plan: Plan
) -> None:
    """Plan rows that a secondary writes of its own accord, outside of the change log.

    Raises:
        StaleEpoch: the store has become primary since: they must be committed.
    """
    plan.apply_changes((), None, None)
    plan.add_unlogged(puts, meta)
