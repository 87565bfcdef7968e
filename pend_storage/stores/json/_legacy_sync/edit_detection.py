"""Edit detection: compares an edited file with what it showed before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.crowded_files import CrowdedFileError
from pend_storage._layouts.duplicate_members import is_beside
from pend_storage._layouts.layout import Entry, Layout, ParsedFile
from pend_storage._layouts.unread_files import marked
from pend_storage._model.records import LegacyFile, Put, QuarantinedRecord
from pend_storage.schema import LEGACY_FILES, QUARANTINE
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.history_reader import state_at
from pend_storage.stores.json._legacy_sync.edited_file import (
    EditedFile,
    Operation,
    Rows,
)
from pend_storage.stores.json._legacy_sync.file_contents import (
    FileContents,
    SeenRecord,
    file_contents_of,
)
from pend_storage.stores.json._legacy_sync.file_manifest import (
    UNKNOWN,
    FileManifest,
    place_of,
    token_of,
)
from pend_storage.stores.json._legacy_sync.read_set import ReadSet
from pend_storage.stores.json._legacy_sync.text_history import UNCLEAR, digest_of_text

__all__ = ["EditDetector", "broken_entry"]


class EditDetector:
    """Detect the changes in one file: a diff against its manifest, not against the store."""

    def __init__(
        self, engine: Engine, layout: Layout, raw: bytes, manifest: FileManifest | None
    ) -> None:
        """Create a detector.

        Args:
            engine: the open store.
            layout: of the file.
            raw: present content of the file.
            manifest: of the file before the edit; None if there was no file.
        """
        self._engine = engine
        self._layout = layout
        self._raw = raw
        self._manifest = manifest

    def find(
        self, skip: Collection[int] = (), without: Collection[str] = ()
    ) -> EditedFile:
        """Detect the edit.

        Args:
            skip: indexes of entries of the file to ignore.
            without: tokens of records to ignore.
        """
        with self._engine.live() as live:
            schema = live.state.schema
        parsed = self._layout.parse(schema, self._raw)
        try:
            return self._find(parsed, skip, without)
        except CrowdedFileError as error:
            return self._find(error.whole, (), without)

    def _find(
        self, parsed: ParsedFile, skip: Collection[int], without: Collection[str]
    ) -> EditedFile:
        with self._engine.live() as live:
            content = file_contents_of(live, self._layout, {})
        base, header = self._base(content)
        seen: list[SeenRecord] = []
        reads = ReadSet()
        if self._manifest is not None and self._manifest.shown.unlike:
            entries = list(parsed.entries)
            parsed = ParsedFile(parsed.header, entries)
            same = self._unlike(parsed.header, entries, content, base)
            skip = {*skip, *same}
        present = [
            content.decode(token, row[1])
            for token, row in base.items()
            if token not in without
        ]
        adopted = self._layout.adopt(
            content.schema,
            ParsedFile(parsed.header, _recorded(parsed.entries, seen, skip)),
            present,
            lambda c, k: self._find_record(base, reads, c, k),
        )
        # A record that the file did not show before was not deleted by the edit.
        removable = base if _shows_records(self._manifest) else _whole_files(content)
        operations: list[Operation] = []
        source_entry: dict[str, int] = {}
        for operation in adopted:
            if isinstance(operation, Put):
                if operation.collection == self._layout.collection:
                    source_entry[operation.key] = len(seen) - 1
            elif token_of(operation.collection, operation.key) not in removable:
                continue
            operations.append(operation)
        found = EditedFile(
            parsed, seen, content, base, header, operations, reads, source_entry
        )
        if broken_entry(found) is not None and self._was_never_read(content):
            found.parsed = replace(parsed, header=marked(parsed.header))
        return found

    def _was_never_read(self, content: FileContents) -> bool:
        """Return True if nothing of a file that is broken now was ever read."""
        if self._manifest is None and not content.header_version:
            return True
        return content.is_unread

    def digest(self, found: EditedFile, item: SeenRecord) -> str:
        """Return the digest of the text of an entry."""
        return self._digest(found.parsed.header, item, found.content)

    def _digest(
        self, header: LegacyFile, item: SeenRecord, content: FileContents
    ) -> str:
        if item.start != UNKNOWN:
            return digest_of_text(self._raw[item.start : item.end])
        record = content.decode(item.token, item.body)
        return digest_of_text(self._layout.render_one(header, record))

    def _unlike(
        self,
        header: LegacyFile,
        entries: list[Entry],
        content: FileContents,
        base: Rows,
    ) -> list[int]:
        """Return the indexes of entries that are unchanged, though no record has their text.

        An adopted edit had met commits, and the file was not written since. Records whose
        text of that time is missing now are added to the base: the edit deletes them.
        """
        assert self._manifest is not None  # noqa: S101 - the caller has checked
        unlike = self._manifest.shown.unlike
        known = {d: token for token, d in unlike.items() if d != UNCLEAR}
        same, missing = [], dict(unlike)
        for place, entry in enumerate(entries):
            item = SeenRecord.of(entry)
            missing.pop(item.token, None)
            token = known.pop(self._digest(header, item, content), None)
            if token is not None:
                missing.pop(token, None)
                same.append(place)
        for token in missing:
            row = content.row(token)
            if row is not None:
                base[token] = (0, row[1])
        return same

    def _base(
        self, content: FileContents
    ) -> tuple[Rows, tuple[int, LegacyFile | None]]:
        """Return the rows, and the header, that the file showed before the edit."""
        header = (content.header_version, content.header)
        if self._manifest is None or not _shows_records(self._manifest):
            return self.current(content), header
        base = _whole_files(content)
        missing: dict[str, int] = {}
        for token, version in zip(
            self._manifest.tokens, self._manifest.versions, strict=True
        ):
            rows = (content.row(token), self._manifest.rows.get(token))
            row = next((r for r in rows if r is not None and r[0] == version), None)
            if row is not None:
                base[token] = row
            elif version:
                missing[token] = version
        shown = self._manifest.header
        is_known = shown == content.header_version
        # Rows that were committed to since are read from the journal, as of the write.
        for position in () if is_known and not missing else self._manifest.positions:
            state = state_at(self._engine.directory, content.schema, position)
            if state is None:
                continue
            for token, version in missing.items():
                name, key = place_of(token, self._layout.collection)
                row = state.tables[name].rows.get(key)
                if row is not None and row[0] == version:
                    base[token] = row
            before = state.tables[LEGACY_FILES].row(self._layout.file)
            if before is not None and before.version == shown:
                header, is_known = (shown, before.record), True
        return base, header if is_known else (shown, None)

    def current(self, content: FileContents) -> Rows:
        """Return every record of the file, as the store has it."""
        rows = ((token, content.row(token)) for token in content.tokens())
        return {**_whole_files(content), **{t: r for t, r in rows if r is not None}}

    def _find_record(
        self, base: Rows, reads: ReadSet, collection: str, key: str
    ) -> Any:
        """Return a record for the layout: of this file as it was, of others as they are.

        Raises:
            Conflict: an earlier read found another version.
        """
        mine = collection in {self._layout.collection, QUARANTINE}
        row = base.get(token_of(collection, key)) if mine else None
        if row is not None:
            return self._engine.schema[collection].codec.decode(row[1])
        with self._engine.live() as live:
            found = live.state.table(collection).row(key)
        reads.record((collection, key), 0 if found is None else found.version)
        if found is None or (mine and self._layout.owns(found.record)):
            return None  # committed to this file, but never shown in it
        return found.record


def _shows_records(manifest: FileManifest | None) -> bool:
    """Return True if it is known which records the file showed before.

    False for a file that was missing, or was always broken.
    """
    return manifest is not None and (bool(manifest.tokens) or not manifest.broken)


def _recorded(
    entries: Iterable[Entry], seen: list[SeenRecord], skip: Collection[int]
) -> Iterator[Entry]:
    for place, entry in enumerate(entries):
        seen.append(SeenRecord.of(entry))
        if place not in skip:
            yield entry


def _whole_files(content: FileContents) -> Rows:
    """Return the quarantine rows of the whole file, or of members beside its records."""
    records = ((t, row, content.decode(t, row[1])) for t, row in content.aside.items())
    return {t: row for t, row, r in records if is_whole_file(r) or is_beside(r)}


def broken_entry(found: EditedFile) -> QuarantinedRecord | None:
    """Return the entry of a file that is broken as a whole; None if it is not."""
    seen, content = found.seen, found.content
    if len(seen) != 1 or place_of(seen[0].token, "")[0] != QUARANTINE:
        return None
    record: QuarantinedRecord = content.decode(seen[0].token, seen[0].body)
    return record if is_whole_file(record) else None
