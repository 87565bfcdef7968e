"""External edits: changes that other programs made in legacy files, adopted as commits.

The file is compared with what it showed before, not with what the store holds now, so
that a commit which is not in the file yet is not taken for a deletion by the editor.
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
    note_as_secondary,
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

__all__ = ["ExternalEdit", "adopted_meta", "note_as_secondary"]

_UNWANTED: Final = token_of(QUARANTINE, "unwanted-")
"""Stands for a text of a file that no record has."""
_ATTEMPTS: Final = 5
_LONGEST_HOLD: Final = 0.5
"""Seconds for which other writers may be kept waiting for the adoption of an edit that
met commits each time; where a comparison takes longer, the next round tries again."""


def adopted_meta(file: str) -> str:
    """Return the name of the meta entry that tells which edit was adopted last."""
    return f"json.adopted:{file}"


class ExternalEdit:
    """Adopt one edited file."""

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        raw: bytes,
        manifest: FileManifest | None,
        hook: Hook,
    ) -> None:
        """Make one.

        Args:
            engine: the store.
            layout: of the file.
            raw: the file as it is now.
            manifest: what it showed before; None where it was not there.
            hook: receives events of what came of it.
        """
        self._engine = engine
        self._layout = layout
        self._raw = raw
        self._manifest = manifest
        self._hook = hook
        self._reader = EditDetector(engine, layout, raw, manifest)
        self._told: list[Event] = []
        """Of the present attempt; the hook hears of the one that succeeds."""
        self._adopted: dict[str, str] = {}
        """Tokens of the records that were written; what the file showed before."""
        self._compared_in = 0.0
        """Seconds that the latest comparison with the store took."""

    def adopt(self, signature: FileSignature) -> FileManifest | None:
        """Bring the edit into the store; gives what the file shows now.

        None where roles are changing, or others commit all the time to what it must
        read: look again later.

        Args:
            signature: of the edited file.
        """
        try:
            manifest = self._in_turn(signature)
        except (Conflict, StaleEpoch):
            return None
        for event in self._told if manifest is not None else ():
            self._hook(event)
        return manifest

    def _in_turn(self, signature: FileSignature) -> FileManifest | None:
        """Adopt between the commits of others; at last, keep them waiting for it.

        Raises:
            Conflict: not even then, or that would keep them waiting for too long.
            StaleEpoch: roles are changing.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                return self._attempt(signature, self._engine.submit)
            except Conflict:  # a commit came between: look again
                if not left and self._compared_in > _LONGEST_HOLD:
                    raise
        with self._engine.alone() as submit:
            return self._attempt(signature, submit)

    def _attempt(self, signature: FileSignature, submit: Submit) -> FileManifest | None:
        self._told.clear()
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
        if already == self._mark(manifest):  # and then we died before we could note it
            found.base = self._reader.current(found.content)
            found.header = (0, None)
        elif role is Role.SECONDARY:
            meta = ((adopted_meta(self._layout.file), self._mark(manifest)),)
            aside = SecondaryEdit(self._layout, self._raw, found, self._told.append)
            aside.run(meta, submit)
        elif role is Role.PRIMARY:
            found = self._commit_all(found, self._mark(manifest), submit)
        else:
            return None
        return self._adopted_manifest(manifest, found)

    def _mark(self, manifest: FileManifest) -> JSON:
        """By which this edit, of the file as it was before, is known to be adopted."""
        before = self._manifest
        # With the version: the same file may be edited in the same way once more, later.
        known: list[JSON] = ["", 0]
        if before is not None:
            known = [before.digest, before.shown.version]
        return [*known, manifest.digest]

    def _positions(self, found: EditedFile) -> tuple[Any, ...]:
        """Where the rows are found that the file shows now."""
        old = () if self._manifest is None else self._manifest.positions
        # The first one is where the file was written: what no edit has changed since is
        # found there, whatever was committed to it.
        return (*dict.fromkeys((*old[:1], *old[-1:])), found.content.position)

    # -- as primary: ordinary commits -----------------------------------------------------

    def _commit_all(self, found: EditedFile, mark: JSON, submit: Submit) -> EditedFile:
        """Commit the edit; gives it without what an older copy says in it."""
        if self._manifest is not None and self._manifest.shown.states:
            check = StaleEditCheck(self._reader, self._layout, found, self._told.append)
            found = check.run(self._manifest.shown)
        meta = ((adopted_meta(self._layout.file), mark),)
        entry = broken_entry(found)
        if entry is not None:
            found.operations += _superseded(found.content, entry)
        commit = EditCommit(
            self._engine, self._layout, found, submit=submit, hook=self._told.append
        )
        written = commit.run(meta)
        adopted = self._note(found, written)
        if entry is not None:
            is_unread = is_marked(found.parsed.header)
            self._told.append(file_broken(entry, is_unread=is_unread))
        elif adopted:
            self._tell(
                "outside-edit-adopted",
                f"{self._layout.file} was changed by somebody else; {adopted} "
                "changes were adopted as commits",
            )
        return found

    def _note(self, found: EditedFile, written: list[tuple[Operation, int]]) -> int:
        """Bring the base to what the file shows now; gives how many changes that is."""
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
                    continue  # it lost, and does not stand in the file
                else:
                    found.base[token] = (version, operation.body)
            count += 1
        return count

    def _shown(self, found: EditedFile, token: str) -> str:
        """The digest of what the file showed of a record before the edit."""
        row = found.base.get(token)
        if row is None:
            return ABSENT
        if len(self._adopted) > MOST_AT_ONCE:
            return UNCLEAR  # all is forgotten
        record = found.content.decode(token, row[1])
        text = self._layout.render_one(found.parsed.header, record)
        return digest_of_text(text)

    # -- afterwards -----------------------------------------------------------------------

    def _adopted_manifest(
        self, manifest: FileManifest, found: EditedFile
    ) -> FileManifest:
        """What the file shows now, row by row."""
        with self._engine.live() as live:
            content = file_contents_of(live, self._layout, {})
        manifest.positions = (*manifest.positions, content.position)
        # Not what is committed by now: that is not in the file yet.
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
        self._note_unlike(manifest, match(manifest, found.seen, shown), found)
        manifest.remember(found.base, content.row)
        return manifest

    def _note_unlike(
        self, manifest: FileManifest, texts: list[SeenRecord], found: EditedFile
    ) -> None:
        """What no record says is written anew, or taken out, with the next version."""
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

    def _tell(self, name: str, message: str, level: int = logging.INFO) -> None:
        self._told.append(Event(name, message, level))


def _superseded(content: FileContents, entry: QuarantinedRecord) -> Iterator[Put]:
    """Entries of earlier texts that were broken as a whole: they wait no longer.

    Where the very text has come back of which an operator had decided, it waits again.
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
