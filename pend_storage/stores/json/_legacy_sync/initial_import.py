"""Initial import: legacy files become rows when a directory is first opened.

Each layout parses its own file. Conflicts between files are resolved here: a unique value
that two files claim, and references to a record that no file has.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast

from pend_storage._files.directory import Directory
from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.crowded_files import CrowdedFileError
from pend_storage._layouts.layout import Entry, Find, Layout, ParsedFile
from pend_storage._layouts.unread_files import marked
from pend_storage._model.records import Delete, LegacyFile, Put, QuarantinedRecord
from pend_storage._shown import shown
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Event, Hook, Progress
from pend_storage.schema import LEGACY_FILES, QUARANTINE, CollectionSpec, Schema
from pend_storage.stores._inmemory.state import State
from pend_storage.stores._inmemory.table import index_value
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._legacy_sync.file_contents import file_contents_at, match
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileManifest,
    digest_of,
    place_of,
    signature_of,
)
from pend_storage.stores.json._legacy_sync.file_permissions import FilePermissions
from pend_storage.stores.json._legacy_sync.quiescence import QuiescentReader, is_whole
from pend_storage.stores.json._legacy_sync.row_spill import (
    RowSpill,
    SeenRows,
    SpilledRows,
)
from pend_storage.stores.json._legacy_sync.synced_file import SyncedFile
from pend_storage.stores.json._legacy_sync.unread_guard import file_broken

__all__ = ["AdoptedFile", "InitialImport"]

_REPORT_EVERY: Final = 1_000
_PATIENCE: Final = 10.0
"""Seconds to wait for a file that another program is writing."""
ADOPTED_VERSION: Final = 1
"""Version of every record that a legacy file held when its directory was first opened."""

_Place = tuple[str, str]
_Claim = tuple[str, tuple[str, ...], tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class AdoptedFile:
    """Outcome of the initial import of one legacy file, in numbers of records."""

    file: str
    read: int
    """Records in the file; 1 for a file that is broken as a whole."""
    adopted: int
    quarantined: int
    derived: int = 0
    """Records of other collections that were derived from it."""


@dataclass(slots=True)
class _ImportedFile:
    """A file that was read, with its manifest and entries."""

    layout: Layout
    synced: SyncedFile
    header: LegacyFile
    manifest: FileManifest
    seen: SeenRows
    derived: int = 0


class InitialImport:
    """Read all legacy files, and convert them to rows of the store."""

    def __init__(self, schema: Schema, hook: Hook, progress: Progress | None) -> None:
        self._schema = schema
        self._hook = hook
        self._progress = _Progress(progress)
        self._rows: dict[str, SpilledRows] = {}
        self._claims: dict[_Claim, str] = {}
        self._references: dict[str, dict[str, _ImportedFile]] = {}
        self._files: list[_ImportedFile] = []
        self._crowded: dict[tuple[str, str], ParsedFile] = {}
        """Files with too many bad records, by name and digest of their content."""

    @contextmanager
    def spilling(self, directory: Directory) -> Iterator[None]:
        """Spill rows to a temporary file in this directory, within the block.

        Raises:
            OSError: the file cannot be created.
        """
        self._spill = RowSpill(directory)
        names = self._schema.names
        self._rows = {n: SpilledRows(self._spill, ADOPTED_VERSION) for n in names}
        try:
            yield
        finally:
            self._spill.close()

    # -- reading ------------------------------------------------------------------------

    def read(self, layouts: Sequence[Layout], files: Mapping[str, SyncedFile]) -> None:
        """Read every file that exists, then resolve dangling references.

        Raises:
            StoreUnavailable: a program keeps writing a file.
        """
        while True:
            try:
                self._read_all(layouts, files)
            except (
                CrowdedFileError
            ):  # noted: the next attempt reads that file as a whole
                self._restart()
            else:
                return

    def _restart(self) -> None:
        """Forget everything that was read: other files may depend on the crowded one."""
        names = self._schema.names
        self._rows = {n: SpilledRows(self._spill, ADOPTED_VERSION) for n in names}
        self._claims, self._references, self._files = {}, {}, []

    def _read_all(
        self, layouts: Sequence[Layout], files: Mapping[str, SyncedFile]
    ) -> None:
        statuses = (file.status() for file in files.values())
        self._progress.total = sum(s.st_size for s in statuses if s is not None)
        for layout in layouts:
            read = self._read_whole(layout, files[layout.file])
            if read is not None:
                raw, status = read
                manifest = FileManifest(signature_of(status), digest_of(raw), ())
                self._read(layout, files[layout.file], raw, manifest)
                noted = FilePermissions.of_file(status).row(layout.file)
                self._set(self._schema.put(LEGACY_FILES, noted))
                del read, raw  # frees as much memory as everything else takes
        while self._resolve_references():  # a removal may leave others dangling
            pass

    def _read_whole(
        self, layout: Layout, file: SyncedFile
    ) -> tuple[bytes, os.stat_result] | None:
        """Read a file; wait some seconds for one that is being written."""
        sound = partial(is_whole, layout, self._schema)
        try:
            return QuiescentReader(file).read(None, sound, patience=_PATIENCE)
        except InterruptedError:
            raise StoreUnavailable(
                "a program keeps writing it. Stop that program while the files are "
                "adopted",
                store=str(file.target),
            ) from None

    def _read(
        self, layout: Layout, synced: SyncedFile, raw: bytes, manifest: FileManifest
    ) -> None:
        known = self._crowded.get((layout.file, manifest.digest))
        parsed = layout.parse(self._schema, raw) if known is None else known
        seen = SeenRows(self._spill, self._rows)
        file = _ImportedFile(layout, synced, parsed.header, manifest, seen)
        self._files.append(file)
        entries = self._progress.watched(parsed.entries, len(raw))
        noted = ParsedFile(parsed.header, seen.recorded(entries))
        current = _Current(self._find, self._rows)
        try:
            for operation in layout.adopt(self._schema, noted, (), current):
                if isinstance(operation, Delete):
                    self._remove((operation.collection, operation.key))
                else:
                    self._add(file, operation)
        except CrowdedFileError as error:
            self._crowded[layout.file, manifest.digest] = error.whole
            raise
        seen.record_last()
        header = parsed.header if self._broken(file) is None else marked(parsed.header)
        self._set(self._schema.put(LEGACY_FILES, header))

    def _find(self, collection: str, key: str) -> Any:
        row = self._rows[collection].get(key)
        return None if row is None else self._schema[collection].codec.decode(row[1])

    # -- writing ------------------------------------------------------------------------

    def _add(self, file: _ImportedFile, put: Put) -> None:
        spec = self._schema[put.collection]
        taken = self._conflicting_claim(spec, put)
        if taken is not None:
            fields = ", ".join(taken[1])
            reason = f"{shown(self._claims[taken])} has the same {fields}"
            put, spec = self._aside(file, put, reason), self._schema[QUARANTINE]
        if put.collection not in {file.layout.collection, QUARANTINE}:
            file.derived += put.key not in self._rows[put.collection]
        self._set(put)
        if spec.references:
            self._references.setdefault(put.collection, {})[put.key] = file

    def _aside(self, file: _ImportedFile, put: Put, reason: str) -> Put:
        """Return the quarantine entry that replaces a record of the file."""
        aside = file.layout.set_aside(self._schema, file.header, put.record, reason)
        seen = replace(aside.record, seen_at=datetime.now(UTC))
        return self._schema.put(QUARANTINE, seen)

    def _conflicting_claim(self, spec: CollectionSpec, put: Put) -> _Claim | None:
        """Return a unique value of this record that another record has."""
        for claim in _claims_of(spec, put.record):
            if self._claims.get(claim, put.key) != put.key:
                return claim
        return None

    def _set(self, put: Put) -> None:
        spec = self._schema[put.collection]
        if spec.unique:
            self._release_claims((put.collection, put.key))
            claims = _claims_of(spec, put.record)
            self._claims.update(dict.fromkeys(claims, put.key))
        self._rows[put.collection][put.key] = put.body

    def _release_claims(self, place: _Place) -> None:
        collection, key = place
        spec = self._schema[collection]
        if not spec.unique or key not in self._rows[collection]:
            return
        for claim in _claims_of(spec, self._find(collection, key)):
            if self._claims.get(claim) == key:
                del self._claims[claim]

    def _remove(self, place: _Place) -> None:
        self._release_claims(place)
        self._rows[place[0]].pop(place[1], None)

    def _resolve_references(self) -> bool:
        """Clear or quarantine records with dangling references; True if any was removed."""
        removed = False
        for place, file in self._referring():
            spec, record = self._schema[place[0]], self._find(*place)
            lost = [] if record is None else self._dangling_references(spec, record)
            if not lost:
                continue
            # An optional reference is cleared; a required one quarantines its record.
            if all(spec.fields[name].optional for name in lost):
                mended = replace(record, **dict.fromkeys(lost))
                self._set(self._schema.put(spec.name, mended))
                continue
            del self._references[place[0]][place[1]]
            self._remove(place)
            put = self._schema.put(spec.name, record)
            reason = f"its {', '.join(lost)} refers to a record that is not there"
            if spec.name == file.layout.collection:
                self._set(self._aside(file, put, reason))
            removed = True
        return removed

    def _referring(self) -> Iterator[tuple[_Place, _ImportedFile]]:
        """Yield every record with references, and its file."""
        for collection, files in self._references.items():
            for key, file in list(files.items()):
                yield (collection, key), file

    def _dangling_references(self, spec: CollectionSpec, record: Any) -> list[str]:
        return [
            name
            for name, target in spec.references.items()
            if (value := getattr(record, name)) is not None
            and value not in self._rows[target]
        ]

    # -- results ------------------------------------------------------------------------

    def state(self, name: str) -> State:
        """Return the initial state of the store."""
        state = State(self._schema, name)
        for collection, rows in self._rows.items():
            state.tables[collection].load(cast("Any", rows), {})
        state.sequence = ADOPTED_VERSION if any(self._rows.values()) else 0
        return state

    def manifests(
        self, state: State, position: Position
    ) -> Iterator[tuple[Layout, FileManifest]]:
        """Yield the manifest of each file, at a journal position."""
        for file in self._files:
            manifest = file.manifest
            manifest.positions, manifest.header = (position,), ADOPTED_VERSION
            manifest.broken = self._broken(file) is not None
            content = file_contents_at(state, position, file.layout, {})
            match(manifest, [] if manifest.broken else file.seen, content)
            yield file.layout, manifest

    def _broken(self, file: _ImportedFile) -> QuarantinedRecord | None:
        """Return the entry of a file that is broken as a whole; None if it is not."""
        if len(file.seen) != 1:
            return None
        collection, key = place_of(file.seen.tokens[0], file.layout.collection)
        record = self._find(collection, key)
        broken = isinstance(record, QuarantinedRecord) and is_whole_file(record)
        return record if broken else None

    def report(self) -> tuple[AdoptedFile, ...]:
        """Return the outcome of each file, and emit ``file-adopted`` or ``file-broken``."""
        aside: dict[str, int] = {}
        for key in self._rows[QUARANTINE]:
            record: QuarantinedRecord = self._find(QUARANTINE, key)
            aside[record.file] = aside.get(record.file, 0) + 1
        made = []
        for file in self._files:
            name, read = file.layout.file, len(file.seen)
            quarantined = aside.get(name, 0)
            one = AdoptedFile(name, read, read - quarantined, quarantined, file.derived)
            made.append(one)
            broken = self._broken(file)
            if broken is None:
                self._emit(one)
            else:
                self._hook(file_broken(broken, is_unread=True))
        return tuple(made)

    def _emit(self, one: AdoptedFile) -> None:
        level = logging.WARNING if one.quarantined else logging.INFO
        self._hook(
            Event(
                "file-adopted",
                f"{one.file}: {one.read} records read, {one.adopted} adopted, "
                f"{one.quarantined} in quarantine, {one.derived} more derived from them",
                level,
                {
                    "file": one.file,
                    "read": one.read,
                    "adopted": one.adopted,
                    "quarantined": one.quarantined,
                    "derived": one.derived,
                },
            )
        )


class _Progress:
    """Report the number of records read, and an estimate of the total by file size."""

    def __init__(self, report: Progress | None) -> None:
        self.total = 0
        """Size of all files in bytes."""
        self._emit = report
        self._bytes = 0
        self._records = 0

    def watched(self, entries: Iterable[Entry], size: int) -> Iterator[Entry]:
        """Yield the entries of a file of a size in bytes, and report progress as they pass."""
        if self._emit is None:
            yield from entries
            return
        before = self._bytes
        for entry in entries:
            yield entry
            start, end = entry.span or (0, 0)
            self._bytes += end - start
            self._records += 1
            if self._records % _REPORT_EVERY == 0:
                self._emit(self._records, self._estimate())
        self._bytes = before + size
        self._emit(self._records, self._estimate())

    def _estimate(self) -> int:
        share = self._bytes / self.total if self.total else 1.0
        return max(self._records, round(self._records / share) if share else 0)


class _Current:
    """Lookup of the rows imported so far."""

    def __init__(self, find: Find, rows: Mapping[str, SpilledRows]) -> None:
        self._find = find
        self._rows = rows

    def has(self, collection: str, key: str) -> bool:
        """Return True if there is a record."""
        return key in self._rows[collection]

    def __call__(self, collection: str, key: str) -> Any:
        return self._find(collection, key)


def _claims_of(spec: CollectionSpec, record: Any) -> Iterator[_Claim]:
    for fields in spec.unique:
        value = index_value(record, fields)
        if value is not None:
            yield spec.name, fields, value
