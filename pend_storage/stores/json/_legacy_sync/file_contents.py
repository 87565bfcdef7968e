"""File contents: the rows of one legacy file, at one position in the journal."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pend_storage._layouts.broken_files import BROKEN, broken_record
from pend_storage._layouts.layout import Entry, Layout
from pend_storage._layouts.unread_files import is_marked
from pend_storage._model.records import LegacyFile, QuarantinedRecord
from pend_storage.schema import LEGACY_FILES, QUARANTINE, Schema
from pend_storage.stores._inmemory.state import State
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._journal.replica_state import ReplicaState
from pend_storage.stores.json._legacy_sync.content_generation import generation, touched
from pend_storage.stores.json._legacy_sync.file_manifest import (
    UNKNOWN,
    FileManifest,
    digest_of,
    place_of,
    token_of,
)
from pend_storage.stores.json._legacy_sync.file_permissions import (
    FilePermissions,
    legacy_row,
    permissions_key,
)
from pend_storage.stores.json._legacy_sync.hidden_texts import HiddenTexts

__all__ = [
    "FileContents",
    "SeenRecord",
    "file_contents_at",
    "file_contents_of",
    "match",
]

StoredRows = Mapping[str, tuple[int, bytes]]
"""Token to version and body."""


@dataclass(slots=True)
class FileContents:
    """Rows that belong, or may belong, to a file."""

    schema: Schema
    layout: Layout
    position: Position
    header: LegacyFile
    """Header with which the file is written; for a broken file, the default one."""
    header_version: int
    homes: StoredRows
    """Rows of the whole collection: other files may share it."""
    aside: StoredRows
    """Quarantined records of the file."""
    others: dict[str, int] = field(default_factory=dict)
    """Cache: key to version of rows that are known to belong to another file."""
    permissions: FilePermissions | None = None
    """Mode and owner of the file as last recorded; None: not known."""
    broken: bytes | None = None
    """Content of a file that is broken as a whole, unless the entry was accepted."""
    is_there: bool = False
    """The file exists even without a record: one of that name was read or written before. Its
    row in ``legacy_files`` shows it, or a deleted record."""
    is_unread: bool = False
    """It is broken, and nothing of it could ever be read."""
    hidden_texts: HiddenTexts = field(default_factory=HiddenTexts)
    """Tracker of records that share a member name."""
    noted: StoredRows = field(default_factory=dict)
    """Rows of ``legacy_files``, for the permissions of a file that is not known."""
    _hidden: frozenset[str] | None = field(default=None, init=False)

    @property
    def hidden(self) -> frozenset[str]:
        """Tokens of quarantined records whose text must not stand in the file.

        A parser would take such a text for the record of the same name.
        """
        if self._hidden is None:
            self._hidden = self.hidden_texts.hidden(self)
        return self._hidden

    @property
    def collection(self) -> str:
        """Collection of the file's records, unless they are quarantined."""
        return self.layout.collection

    def row(self, token: str) -> tuple[int, bytes] | None:
        """Return version and body of a record of the file."""
        return self.homes.get(token) or self.aside.get(token)

    def record(self, token: str) -> Any:
        """Return a record, which must exist."""
        row = self.row(token)
        assert row is not None  # noqa: S101 - the caller has checked
        return self.decode(token, row[1])

    def decode(self, token: str, body: bytes) -> Any:
        """Decode a record of the file."""
        name, _ = place_of(token, self.layout.collection)
        return self.schema[name].codec.decode(body)

    def changed(
        self, manifest: FileManifest | None, touched: frozenset[str] | None = None
    ) -> Iterator[str]:
        """Yield the tokens of records that the file does not show at their versions.

        Args:
            manifest: of the file; None: it shows nothing.
            touched: tokens to compare; None: all.
        """
        tokens: Iterable[str] = itertools.chain(self.homes, self.aside)
        if touched is not None:
            # A text that was hidden may stand in the file again, before a new record.
            tokens = touched.union(text.token for text in self.hidden_texts.aside(self))
        shown = (lambda _: None) if manifest is None else manifest.version
        for token in tokens:
            row = self.row(token)
            if row is None or row[0] == shown(token) or token in self.hidden:
                continue
            if not self._is_other(token, row):
                yield token

    def _is_other(self, token: str, row: tuple[int, bytes]) -> bool:
        """Return True if a row belongs to another file, or to none."""
        version, body = row
        if self.others.get(token) == version:
            return True
        record = self.decode(token, body)
        stands = (
            record.position is not None
            if isinstance(record, QuarantinedRecord)
            else self.layout.owns(record)
        )
        if not stands:
            self.others[token] = version
        return not stands

    def is_shown_broken(self, manifest: FileManifest | None) -> bool:
        """Return True if the file shows its broken content, byte by byte."""
        if manifest is None or manifest.render_all or self.broken is None:
            return False
        is_same = self.layout.is_part or manifest.digest == digest_of(self.broken)
        return manifest.broken and is_same

    def tokens(self) -> list[str]:
        """Return the token of every record of the file."""
        return list(self.changed(None))


def file_contents_of(
    live: ReplicaState,
    layout: Layout,
    others: dict[str, int],
    hidden_texts: HiddenTexts | None = None,
) -> FileContents:
    """Return the present contents of a file. Hold the mutex.

    Args:
        live: state and journal.
        layout: of the file.
        others: see :class:`FileContents`; reused from one call to the next.
        hidden_texts: likewise.
    """
    content = file_contents_at(live.state, live.journal.position, layout, others)
    if hidden_texts is not None:
        changed = touched(live, layout, hidden_texts.since)
        hidden_texts.catch_up(changed, generation(live, layout))
        content.hidden_texts = hidden_texts
    return content


def file_contents_at(
    state: State, position: Position, layout: Layout, others: dict[str, int]
) -> FileContents:
    """Return the contents of a file in a state."""
    schema = state.schema
    version, header = legacy_row(state, layout.file)
    _, noted = legacy_row(state, permissions_key(layout.file))
    aside = _aside(state, layout.file)
    broken = None if header is None else _broken(schema, header, aside)
    is_unread = broken is not None and header is not None and is_marked(header)
    # The header of a broken file describes nothing: render with the default one.
    if header is None or header.format.get("shape") == BROKEN:
        header = layout.missing()
    return FileContents(
        schema,
        layout,
        position,
        header,
        version,
        state.tables[layout.collection].rows.copy(),
        aside,
        others,
        FilePermissions.of_row(noted),
        broken,
        is_there=version > 0 or noted is not None,
        is_unread=is_unread,
        noted=state.tables[LEGACY_FILES].rows.copy(),
    )


def _broken(schema: Schema, header: LegacyFile, aside: StoredRows) -> bytes | None:
    decode = schema[QUARANTINE].codec.decode
    record = broken_record(header, (decode(body) for _, body in aside.values()))
    return None if record is None else record.raw


def _aside(state: State, file: str) -> StoredRows:
    table = state.tables[QUARANTINE]
    keys = table.index(("file",)).keys((file,)) if table.rows else ()
    return {token_of(QUARANTINE, key): table.rows[key] for key in keys}


class SeenRecord(NamedTuple):
    """Token, body and byte offsets of an entry of a parsed file."""

    token: str
    body: bytes
    start: int
    end: int

    @classmethod
    def of(cls, entry: Entry) -> SeenRecord:
        """Return that of an entry."""
        start, end = entry.span or (UNKNOWN, UNKNOWN)
        home = entry.home
        return cls(token_of(home.collection, home.key), home.body, start, end)


def match(
    manifest: FileManifest, seen: Iterable[SeenRecord], content: FileContents
) -> list[SeenRecord]:
    """Fill a manifest: match the texts of a file that was read with rows of the store.

    A text matches a row of exactly the same content. The order is not known afterwards.

    Returns:
        Entries that match no row.
    """
    left: list[SeenRecord] = []
    matched: set[str] = set()
    for item in seen:
        row = content.row(item.token)
        if row is not None and row[1] == item.body and item.token not in matched:
            matched.add(item.token)
            manifest.add(item.token, row[0], item.start, item.end)
        else:
            left.append(item)
    manifest.ordered = False
    return _match_by_text(manifest, left, matched, content) if left else []


def _match_by_text(
    manifest: FileManifest,
    left: list[SeenRecord],
    matched: set[str],
    content: FileContents,
) -> list[SeenRecord]:
    """Match rows with another key or more fields, if they would be rendered the same."""
    layout, header = content.layout, content.header
    waiting: dict[bytes, list[str]] = {}
    for token in content.tokens():
        if token not in matched:
            text = layout.render_one(header, content.record(token))
            waiting.setdefault(text, []).append(token)
    if not waiting:
        return left
    over: list[SeenRecord] = []
    for item in left:
        text = layout.render_one(header, content.decode(item.token, item.body))
        tokens = waiting.get(text)
        if tokens:
            token = tokens.pop(0)
            row = content.row(token)
            assert row is not None  # noqa: S101 - it was there a moment ago
            manifest.add(token, row[0], item.start, item.end)
        else:
            over.append(item)
    return over
