"""File synchronisation of one legacy file: adopts external edits, writes new commits."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from pend_storage import crashpoints
from pend_storage._files.attributes import FileAttributes
from pend_storage._files.by_path import read_file
from pend_storage._layouts.layout import Layout
from pend_storage.events import Event, Hook
from pend_storage.phases import Role
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._legacy_sync.content_generation import (
    Generation,
    generation,
    touched,
)
from pend_storage.stores.json._legacy_sync.external_edits import ExternalEdit
from pend_storage.stores.json._legacy_sync.file_contents import (
    FileContents,
    file_contents_of,
)
from pend_storage.stores.json._legacy_sync.file_events import (
    BusyFileEvents,
    LostAttributeEvents,
)
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileManifest,
    FileSignature,
    digest_of,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.file_permissions import PermissionRecorder
from pend_storage.stores.json._legacy_sync.hidden_texts import (
    HiddenTexts,
    release_hidden,
)
from pend_storage.stores.json._legacy_sync.quiescence import QuiescentReader, is_whole
from pend_storage.stores.json._legacy_sync.render import Changes, write_file
from pend_storage.stores.json._legacy_sync.synced_folder import synced_file_for
from pend_storage.stores.json._legacy_sync.write_pace import WritePace

__all__ = ["FileSync"]

_EDIT_ADOPTED = crashpoints.declare(
    "json.edit-adopted", "an outside edit is committed, and that is not noted yet"
)

_PATIENCE: Final = 3.0
"""Seconds that an opening or a checkpoint waits for a file that is being written."""
_TRIES: Final = 10
"""Attempts in one round to write a file, if an edit comes before each of them."""
_FEW: Final = 3
"""Attempts after which a round ends once it has taken :data:`_LONG` seconds."""
_LONG: Final = 1.0
_TICK: Final = 1.0
"""Seconds after which two changes of a file have two time stamps for certain."""


class FileSync:
    """Synchronise one legacy file. Used by one thread of one process at a time."""

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        path: Path,
        hook: Hook,
        *,
        is_shared: bool = False,
    ) -> None:
        """Create it.

        Args:
            engine: the open store.
            layout: of the file.
            path: of the file.
            hook: receives the events of the file.
            is_shared: other files hold records of the same collection.
        """
        self.layout = layout
        self.path = path
        self._engine = engine
        self._hook = hook
        self._file = synced_file_for(layout, path, engine.directory)
        self._permissions = PermissionRecorder(engine, layout, is_shared=is_shared)
        self._is_shared = is_shared
        self._manifest: FileManifest | None = None
        self._is_unsaved = False
        self._others: dict[str, int] = {}
        self._hidden_texts = HiddenTexts()
        self._generation: Generation | None = None
        """Generation of the contents that the file shows completely."""
        self._pace = WritePace()
        self._reader = QuiescentReader(self._file)
        self.is_busy = False
        """Another program was writing the file at the last read, or wrote it before each
        attempt to replace it."""
        self._busy = BusyFileEvents(layout.file, self._reader, hook)
        self._is_elsewhere = False
        """A symbolic link was changed since the file was read last."""
        self._lost_attributes = LostAttributeEvents(hook)
        self._attributes: FileAttributes | None = None
        """Attributes of the file, in case it is deleted and written again."""
        self._attributed: FileSignature | None = None

    def synchronise(self, *, force: bool, wait: bool) -> None:
        """Adopt external edits, then write new commits.

        Args:
            force: write even during the pause after the last write.
            wait: up to some seconds for a file that another program is writing.
        """
        with self._file.held():
            try:
                self._synchronise(force=force, wait=wait)
            finally:
                self._save_manifest()
        self._busy.report(is_busy=self.is_busy)

    def _synchronise(self, *, force: bool, wait: bool) -> None:
        end = time.monotonic() + _LONG
        for number in range(_TRIES):
            if number >= _FEW and time.monotonic() >= end:
                break
            # Before every attempt: a write must not replace an edit that was not adopted.
            if self._role() is Role.DETACHED or not self.adopt_edits(wait=wait):
                return
            self._permissions.record(self._file.status())
            if not force and self._pace.is_resting():
                return
            if self._write():
                self._busy.won()
                return
        if self.is_busy:
            self._busy.lost()

    def adopt_only(self) -> None:
        """Adopt external edits, and write nothing."""
        with self._file.held():
            if self._role() is not Role.DETACHED and not self._file.is_unmodified():
                self.adopt_edits(wait=True)
                self._save_manifest()

    def _save_manifest(self) -> None:
        """Save the manifest of an adopted edit, unless a write has saved a newer one."""
        if self._manifest is not None and self._is_unsaved:
            self._file.save_manifest(self._manifest)
        self._is_unsaved = False

    def forget(self, tokens: AbstractSet[str]) -> None:
        """Erase records that are not in the file any more from the history of its texts."""
        self._file.forget(tokens)  # the next round loads the manifest again

    def positions(self, now: Position) -> tuple[Position, ...]:
        """Return the journal positions of the rows that the file, and the replaced one, shows.

        Args:
            now: the present position, which replaces all others if the file is complete.
        """
        manifest = self._file.manifest()
        replaced = self._file.replaced_positions()
        if manifest is None:
            return replaced
        with self._engine.live() as live:
            current = generation(live, self.layout) == self._generation
            at_place = live.journal.position == now
        if (
            current
            and at_place
            and manifest.stamp == (self._manifest and self._manifest.stamp)
        ):
            manifest.positions = (now,)
            self._file.save_manifest(manifest)
            self._manifest = manifest
        return (*manifest.positions, *replaced)

    # -- external edits -----------------------------------------------------------------

    def adopt_edits(self, *, wait: bool) -> bool:
        """Adopt external edits; return False if the file must not be written now."""
        self.is_busy = False
        self._locate()
        self._tidy()
        status = self._file.status()
        manifest = self._manifest
        if status is None:
            return self._restore()
        now = signature_of(status)
        if now != self._attributed:
            self._attributes, self._attributed = self._file.attributes(), now
        known = (
            manifest is not None and manifest.signature == now and not _due(manifest)
        )
        if known and not self._is_elsewhere:
            self._reader.record_rest()
            return True
        return self._read(_PATIENCE if wait else 0.0)

    def _locate(self) -> None:
        """Follow a symbolic link that was changed meanwhile."""
        before = self._file.target
        if not self._file.locate():
            return
        self._engine.own.verify_path()  # else the whole directory may have been replaced
        self._is_elsewhere = True
        self._emit(
            "file-relinked",
            f"{self.layout.file} leads to {self._file.target} now, and no longer to "
            f"{before}. From now on that file is read and written; what is in it counts as "
            "an edit of the one before, which is left as it is",
            logging.WARNING,
        )

    def _tidy(self) -> None:
        """Load the present manifest, recover from a crash, adopt a late edit."""
        stamp = self._file.manifest_stamp()
        known = self._manifest is not None and self._manifest.stamp == stamp
        late = None
        if not known or self._file.has_leftovers():
            late = self._file.recover()
            self._manifest = self._file.manifest()
            self._generation = None
        late = late or self._file.late_edit(self._manifest)
        if late is not None:
            adopted = self._adopt_late(late)
            self._emit(
                "late-edit-kept",
                f"{self.layout.file} was changed by a program that had opened it before "
                f"it was written anew; what it wrote is in {late}"
                + (", and was adopted like any edit" if adopted else ""),
                logging.WARNING,
            )

    def _adopt_late(self, late: Path) -> bool:
        """Adopt an edit that was written into the replaced file, if that is whole.

        It is compared with the manifest of the replaced file. The result is written into
        the present file like any commit.
        """
        raw, replaced = read_file(late), self._file.replaced_manifest()
        self._file.forget_replaced()
        if replaced is None or not is_whole(self.layout, self._engine.schema, raw):
            return False
        edit = ExternalEdit(self._engine, self.layout, raw, replaced, self._hook)
        return edit.adopt(replaced.signature) is not None

    def _restore(self) -> bool:
        """Handle a missing file: it will be written again."""
        self._is_elsewhere = False
        if self._manifest is not None:
            self._emit(
                "file-restored",
                f"{self.layout.file} was missing, and is written again from the store",
                logging.WARNING,
            )
            self._manifest = None
            self._generation = None
            self._file.forget_manifest()
            self._is_unsaved = False
        return True

    def _is_whole(self, raw: bytes) -> bool:
        if self._manifest is not None and digest_of(raw) == self._manifest.digest:
            return True
        return is_whole(self.layout, self._engine.schema, raw)

    def _read(self, patience: float) -> bool:
        """Read the file, and adopt its changes."""
        known = None if self._manifest is None else self._manifest.signature
        try:
            read = self._reader.read(known, self._is_whole, patience=patience)
        except InterruptedError:
            self.is_busy = True
            return False
        if read is None:
            return self._restore()
        self._is_elsewhere = False
        raw, status = read
        manifest, digest = self._manifest, digest_of(raw)
        if manifest is not None and manifest.digest == digest:
            manifest.verified = manifest.signature == signature_of(status)
            if not manifest.verified:  # touched, or copied back as it was
                manifest.signature = signature_of(status)
                self._file.save_manifest(manifest)
            return True
        if not raw.strip() and manifest is not None and manifest.tokens:
            return self._emptied(manifest, status)
        return self._adopt(raw, signature_of(status))

    def _emptied(self, manifest: FileManifest, status: os.stat_result) -> bool:
        """Handle an emptied file: truncated rather than edited, so it is written again."""
        self._emit(
            "file-restored",
            f"{self.layout.file} was emptied, and is written again from the store",
            logging.WARNING,
        )
        manifest.signature, manifest.render_all = signature_of(status), True
        return True

    def _adopt(self, raw: bytes, signature: FileSignature) -> bool:
        edit = ExternalEdit(self._engine, self.layout, raw, self._manifest, self._hook)
        manifest = edit.adopt(signature)
        if manifest is None:
            return False
        _EDIT_ADOPTED()
        manifest.stamp = self._file.manifest_stamp()
        self._manifest, self._generation, self._is_unsaved = manifest, None, True
        return True

    # -- new commits ----------------------------------------------------------------------

    def _role(self) -> Role:
        with self._engine.live() as live:
            return live.state.role.role

    def _write(self) -> bool:
        """Write the file if needed; return False if an edit or a commit intervened."""
        begun = time.monotonic()
        manifest = self._manifest
        with self._engine.live() as live:
            found = generation(live, self.layout)
            if found == self._generation and not (manifest and manifest.render_all):
                return True
            if manifest is not None and manifest.shows_all(live.journal.position):
                self._generation = found
                return True
            content = file_contents_of(
                live, self.layout, self._others, self._hidden_texts
            )
            maybe = touched(live, self.layout, self._generation)
            homes = live.state.tables[self.layout.collection]
            had_records = not self._is_shared and bool(homes.tombstones)
        if content.is_shown_broken(manifest):
            return True
        if release_hidden(self._engine, content):
            return False  # that was a commit: the contents are outdated
        changes = Changes(manifest, content, maybe)
        is_there = manifest is not None or content.is_there or had_records
        if changes and (is_there or changes.written):
            if not self._write_changes(manifest, content, changes):
                return False
            self._pace.written(time.monotonic() - begun)
        self._generation = found
        return True

    def _write_changes(
        self, manifest: FileManifest | None, content: FileContents, changes: Changes
    ) -> bool:
        old, digest, status = b"", "", self._file.status()
        if manifest is None:
            if status is not None:  # created since adopt_edits: read it first
                self.is_busy = True
                return False
            self._file.make_parent(content.permissions)
        else:
            read = self._file.read_unchanged(manifest)
            if read is None:
                self.is_busy = True
                return False
            old, status = read
            digest = digest_of(old)
        before = None if status is None else signature_of(status)
        model = self._attributes if status is None else self._file.attributes()
        with self._file.writing() as (directory, name):
            new = write_file(
                directory,
                name,
                content,
                changes,
                manifest=manifest,
                old=old,
                model=model,
            )
            new.replaced_digest = digest
            self._engine.own.verify_path()  # else the file may belong to a replaced directory
            if not self._file.replace(new, before):
                self.is_busy = True
                return False
        new.stamp = self._file.manifest_stamp()
        self._manifest, self._is_unsaved = new, False
        self._lost_attributes.report(self._file.target, new.lost)
        return True

    def _emit(self, name: str, message: str, level: int) -> None:
        self._hook(Event(name, message, level))


def _due(manifest: FileManifest) -> bool:
    """Return True if a file with the right signature is to be verified by its digest.

    A change of the same length, in the same tick of the clock, leaves the signature.
    """
    age = time.time() - manifest.signature.ctime_ns / 1e9
    return not manifest.verified and not 0 <= age <= _TICK
