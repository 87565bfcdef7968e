"""Secondary edits: edits of a secondary's files, quarantined and reported as divergences."""

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

__all__ = ["SecondaryEdit", "write_as_secondary"]

_IN_VAIN: Final = "the file was changed while another store was primary"
_FOREIGN: Final = -1
"""Version of a header that is in a file, but not in the store."""
_MOST_FOUND: Final = 100
"""Findings recorded of one edit; its values are all quarantined, however many."""


class SecondaryEdit:
    """Quarantine one edit: nothing of it is adopted, and nothing is lost."""

    def __init__(
        self, layout: Layout, raw: bytes, found: EditedFile, hook: Hook
    ) -> None:
        """Create it.

        Args:
            layout: of the file.
            raw: present content of the file.
            found: the edit.
            hook: receives ``outside-edit-quarantined``.
        """
        self._layout = layout
        self._raw = raw
        self._found = found
        self._hook = hook

    def run(self, meta: tuple[tuple[str, JSON], ...], submit: Submit) -> None:
        """Write the edited values to quarantine, and a finding for each.

        Args:
            meta: meta entries to set in the same write.
            submit: commits.

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
        if beside:  # the file has no header of the store: this renders it anew
            found.header = (_FOREIGN, found.header[1])
        puts = [*asides.values(), *beside]
        affected: list[tuple[Operation, Put | None]] = [
            (o, asides.get((o.collection, o.key))) for o in changed
        ]
        header = found.content.schema.put(LEGACY_FILES, found.content.header)
        affected += [(header, aside) for aside in beside]
        findings = [self._finding(found, *one) for one in affected[:_MOST_FOUND]]
        submit(partial(write_as_secondary, [*puts, *findings], meta))
        if found.operations or beside:
            self._emit(
                "outside-edit-quarantined",
                f"{self._layout.file} was changed by another program while another store is "
                f"primary; {len(puts)} records were put in quarantine, and the file will "
                "be written again",
                logging.WARNING,
            )

    def _quarantined(self, found: EditedFile, operation: Put) -> Put:
        schema, header = found.content.schema, found.parsed.header
        return aside_of(schema, self._layout, header, operation.record, _IN_VAIN)

    def _members_aside(self, found: EditedFile) -> list[Put]:
        """Return quarantine entries of members that the editor has set beside the records."""
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
        """Return the finding of one edited record; a deletion is undone at once: repaired."""
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

    def _emit(self, name: str, message: str, level: int) -> None:
        self._hook(Event(name, message, level))


def write_as_secondary(
    puts: list[Put], meta: tuple[tuple[str, JSON], ...], plan: Plan
) -> None:
    """Plan rows that a secondary writes by itself, outside of the change log.

    Raises:
        StaleEpoch: the store has become primary since: it must commit them.
    """
    plan.apply_changes((), None, None)
    plan.add_unlogged(puts, meta)
