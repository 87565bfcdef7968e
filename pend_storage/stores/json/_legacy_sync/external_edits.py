"""External edits: changes of other programs in legacy files, adopted as commits.

The file is compared with what it showed before, not with what the store holds now.
Otherwise a commit that is not in the file yet would be taken for a deletion by the editor.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.unread_files import is_marked
from pend_storage._model.records import JSON, Put, QuarantinedRecord
from pend_storage.errors import Conflict, StaleEpoch
from pend_storage.events import Event, Hook
from pend_storage.phases import Role
from pend_storage.schema import QUARANTINE
from pend_storage.stores.json._journal.engine import Engine, Submit
from pend_storage.stores.json._legacy_sync.edit_commit import EditCommit
from pend_storage.stores.json._legacy_sync.edit_detection import (
    EditDetector,
    broken_entry,
)
from pend_storage.stores.json._legacy_sync.edited_file import EditedFile, Operation
from pend_storage.stores.json._legacy_sync.edits_on_secondary import (
    SecondaryEdit,
    write_as_secondary,
)
from pend_storage.stores.json._legacy_sync.file_contents import (
    FileContents,
    SeenRecord,
    file_contents_of,
    match,
)
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileManifest,
    FileSignature,
    digest_of,
    place_of,
    token_of,
)
from pend_storage.stores.json._legacy_sync.stale_edits import StaleEditCheck
from pend_storage.stores.json._legacy_sync.text_history import (
    ABSENT,
    MOST_AT_ONCE,
    UNCLEAR,
    digest_of_text,
)
from pend_storage.stores.json._legacy_sync.unread_guard import file_broken

__all__ = ["ExternalEdit", "adopted_meta", "write_as_secondary"]

_UNWANTED: Final = token_of(QUARANTINE, "unwanted-")
"""Token prefix of a text in a file that no record has."""
_ATTEMPTS: Final = 5
_LONGEST_HOLD: Final = 0.5
"""Seconds for which the commit lock may be held to adopt an edit that met a commit at each
attempt; if the comparison takes longer, the next round tries again."""


def adopted_meta(file: str) -> str:
    """Return the name of the meta entry that records the last adopted edit of a file."""
    return f"json.adopted:{file}"


class ExternalEdit:
    """Adopt one edit, as a commit with the versions that it was computed from."""

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        raw: bytes,
        manifest: FileManifest | None,
        hook: Hook,
    ) -> None:
        """Create it.

        Args:
            engine: the open store.
            layout: of the file.
            raw: present content of the file.
            manifest: of the file before the edit; None if there was no file.
            hook: receives the events of the adoption.
        """
        self._engine = engine
        self._layout = layout
        self._raw = raw
        self._manifest = manifest
        self._hook = hook
        self._reader = EditDetector(engine, layout, raw, manifest)
        self._pending_events: list[Event] = []
        """Events of the present attempt; emitted if it succeeds."""
        self._adopted: dict[str, str] = {}
        """Token of each record that was written, to the digest that the file showed before."""
        self._compared_in = 0.0
        """Duration in seconds of the latest comparison with the store."""

    def adopt(self, signature: FileSignature) -> FileManifest | None:
        """Adopt the edit.

        Args:
            signature: of the edited file.

        Returns:
            The manifest of the edited file. None if roles are changing, or every attempt
            met a conflict: retry in the next round.
        """
        try:
            manifest = self._adopt_between_commits(signature)
        except (Conflict, StaleEpoch):
            return None
        for event in self._pending_events if manifest is not None else ():
            self._hook(event)
        return manifest

    def _adopt_between_commits(self, signature: FileSignature) -> FileManifest | None:
        """Adopt optimistically; after several conflicts, under the commit lock.

        Raises:
            Conflict: not even then, or the lock would be held for too long.
            StaleEpoch: roles are changing.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                return self._attempt(signature, self._engine.submit)
            except Conflict:  # a commit to a record that was read: compare again
                if not left and self._compared_in > _LONGEST_HOLD:
                    raise
        with self._engine.exclusive() as submit:
            return self._attempt(signature, submit)

    def _attempt(self, signature: FileSignature, submit: Submit) -> FileManifest | None:
        self._pending_events.clear()
        self._adopted.clear()
        begun = time.monotonic()
        found = self._reader.find()
        self._compared_in = time.monotonic() - begun
        return self._carry_out(found, signature, submit)

    def _carry_out(
        self, found: EditedFile, signature: FileSignature, submit: Submit
    ) -> FileManifest | None:
        with self._engine.live() as live:
            role = live.state.role.role
            already = live.state.meta.get(adopted_meta(self._layout.file))
        manifest = FileManifest(signature, digest_of(self._raw), self._positions(found))
        manifest.broken = broken_entry(found) is not None
        # Equal if a process died between this commit and saving the manifest.
        if already == self._adoption_mark(manifest):
            found.base = self._reader.current(found.content)
            found.header = (0, None)
        elif role is Role.SECONDARY:
            meta = ((adopted_meta(self._layout.file), self._adoption_mark(manifest)),)
            aside = SecondaryEdit(
                self._layout, self._raw, found, self._pending_events.append
            )
            aside.run(meta, submit)
        elif role is Role.PRIMARY:
            found = self._commit_all(found, self._adoption_mark(manifest), submit)
        else:
            return None
        return self._adopted_manifest(manifest, found)

    def _adoption_mark(self, manifest: FileManifest) -> JSON:
        """Return the idempotency mark of this edit: digests before and after, and the version."""
        before = self._manifest
        # With the version: the same file may be edited in the same way again, later.
        known: list[JSON] = ["", 0]
        if before is not None:
            known = [before.digest, before.shown.version]
        return [*known, manifest.digest]

    def _positions(self, found: EditedFile) -> tuple[Any, ...]:
        """Return the journal positions of the rows that the file shows now."""
        old = () if self._manifest is None else self._manifest.positions
        # The first one is that of the last write: rows that no edit has changed since are
        # found there, even if they were committed to.
        return (*dict.fromkeys((*old[:1], *old[-1:])), found.content.position)

    # -- as primary: ordinary commits -----------------------------------------------------

    def _commit_all(self, found: EditedFile, mark: JSON, submit: Submit) -> EditedFile:
        """Commit the edit; return it without the stale texts of an older copy."""
        if self._manifest is not None and self._manifest.shown.states:
            check = StaleEditCheck(
                self._reader, self._layout, found, self._pending_events.append
            )
            found = check.run(self._manifest.shown)
        meta = ((adopted_meta(self._layout.file), mark),)
        entry = broken_entry(found)
        if entry is not None:
            found.operations += _superseded(found.content, entry)
        commit = EditCommit(
            self._engine,
            self._layout,
            found,
            submit=submit,
            hook=self._pending_events.append,
        )
        written = commit.run(meta)
        adopted = self._record_written(found, written)
        if entry is not None:
            is_unread = is_marked(found.parsed.header)
            self._pending_events.append(file_broken(entry, is_unread=is_unread))
        elif adopted:
            self._emit(
                "outside-edit-adopted",
                f"{self._layout.file} was changed by another program; {adopted} "
                "changes were adopted as commits",
            )
        return found

    def _record_written(
        self, found: EditedFile, written: list[tuple[Operation, int]]
    ) -> int:
        """Update the base to what the file shows now; return the number of changes."""
        count = 0
        for operation, version in written:
            if isinstance(operation, Put) and operation.record == found.parsed.header:
                found.header = (version, found.parsed.header)
            token = token_of(operation.collection, operation.key)
            if operation.collection == self._layout.collection:
                self._adopted[token] = self._shown(found, token)
            if operation.collection in {self._layout.collection, QUARANTINE}:
                if not isinstance(operation, Put):
                    found.base.pop(token, None)
                elif not self._layout.owns(operation.record):
                    continue  # an overruled value, which does not stand in the file
                else:
                    found.base[token] = (version, operation.body)
            count += 1
        return count

    def _shown(self, found: EditedFile, token: str) -> str:
        """Return the digest of the text that the file showed of a record before the edit."""
        row = found.base.get(token)
        if row is None:
            return ABSENT
        if len(self._adopted) > MOST_AT_ONCE:
            return UNCLEAR  # so many changes clear the history
        record = found.content.decode(token, row[1])
        text = self._layout.render_one(found.parsed.header, record)
        return digest_of_text(text)

    # -- afterwards -----------------------------------------------------------------------

    def _adopted_manifest(
        self, manifest: FileManifest, found: EditedFile
    ) -> FileManifest:
        """Return the manifest of the edited file, row by row."""
        with self._engine.live() as live:
            content = file_contents_of(live, self._layout, {})
        manifest.positions = (*manifest.positions, content.position)
        # The edited header, not the committed one: that is not in the file yet.
        manifest.header = found.header[0]
        if found.parsed.header == found.content.header:
            manifest.header = found.content.header_version
        if manifest.broken and self._manifest is not None:
            old = self._manifest
            manifest.tokens, manifest.versions = old.tokens, old.versions
            manifest.starts, manifest.ends = old.starts, old.ends
            manifest.rows = old.rows
            manifest.shown = old.shown
            return manifest
        shown = dataclasses.replace(content, homes=found.base, aside={}, others={})
        self._record_unlike(manifest, match(manifest, found.seen, shown), found)
        manifest.remember(found.base, content.row)
        return manifest

    def _record_unlike(
        self, manifest: FileManifest, texts: list[SeenRecord], found: EditedFile
    ) -> None:
        """Record texts that no record has: the next version rewrites or removes them."""
        known, unlike = set(manifest.tokens if texts else ()), {}
        for number, item in enumerate(texts):
            token = item.token if item.token not in known else f"{_UNWANTED}{number}"
            known.add(token)
            manifest.add(token, 0, item.start, item.end)
            if len(texts) <= MOST_AT_ONCE:
                unlike[token] = self._reader.digest(found, item)
        if self._manifest is not None:
            old, before = self._manifest.shown, dict(self._adopted)
            for token in {*unlike, *found.kept} - before.keys():
                if place_of(token, "")[0] != QUARANTINE:
                    before[token] = old.unlike.get(token) or self._shown(found, token)
            manifest.shown = old.adopted(before, self._adopted, unlike)

    def _emit(self, name: str, message: str, level: int = logging.INFO) -> None:
        self._pending_events.append(Event(name, message, level))


def _superseded(content: FileContents, entry: QuarantinedRecord) -> Iterator[Put]:
    """Close the entries of earlier broken contents of the file.

    If the very content has come back that an operator had decided on, its entry is opened
    again.
    """
    for token, (_, body) in content.aside.items():
        record: QuarantinedRecord = content.decode(token, body)
        if not is_whole_file(record):
            continue
        waits = record.is_waiting
        if record.id != entry.id and waits:
            note = f"another text took its place: {entry.id}"
            settled = dataclasses.replace(record, status="accepted", note=note)
            yield content.schema.put(QUARANTINE, settled)
        elif record.id == entry.id and not waits:
            again = dataclasses.replace(
                entry, status="waiting", seen_at=datetime.now(UTC)
            )
            yield content.schema.put(QUARANTINE, again)
