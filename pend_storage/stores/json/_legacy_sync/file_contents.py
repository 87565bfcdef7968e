"""Contents of one legacy file as the store has them, at one position in the journal."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pend_storage._layouts.broken_files import BROKEN, broken_record
from pend_storage._layouts.layout import Entry, Layout
from pend_storage._layouts.unread_files import is_marked
from pend_storage._model.records import LegacyFile, QuarantinedRecord
from pend_storage.schema import QUARANTINE, Schema
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
    """The rows that belong to a file, or may."""

    schema: Schema
    layout: Layout
    position: Position
    header: LegacyFile
    """By which the file is written; of a broken file, by which it would be."""
    header_version: int
    homes: StoredRows
    """Of the whole collection: other files may share it."""
    aside: StoredRows
    """Quarantined records of the file."""
    others: dict[str, int] = field(default_factory=dict)
    """Keys and versions of rows that are known to belong to another file."""
    permissions: FilePermissions | None = None
    """Mode and owner of the file when it was seen last; None: not known."""
    broken: bytes | None = None
    """The file, where it is broken as a whole and that is not accepted."""
    is_there: bool = False
    """Whether the file exists even without a record: a file of that name was read, or
    written, before. A row of its own says so, or a deleted record."""
    is_unread: bool = False
    """Whether it is broken, and nothing of it could ever be read."""
    hidden_texts: HiddenTexts = field(default_factory=HiddenTexts)
    """What is known of records that share a member name."""
    _hidden: frozenset[str] | None = field(default=None, init=False)

    @property
    def hidden(self) -> frozenset[str]:
        """Tokens of quarantined records whose text must not stand in the file (now).

        A parser would take it for a record that was deleted.
        """
        if self._hidden is None:
            self._hidden = self.hidden_texts.hidden(self)
        return self._hidden

    @property
    def collection(self) -> str:
        """Of the file's records, unless they are quarantined."""
        return self.layout.collection

    def row(self, token: str) -> tuple[int, bytes] | None:
        """Version and body of a record of the file."""
        return self.homes.get(token) or self.aside.get(token)

    def record(self, token: str) -> Any:
        """The record itself, which must be there."""
        row = self.row(token)
        assert row is not None  # noqa: S101 - the caller has looked
        return self.decode(token, row[1])

    def decode(self, token: str, body: bytes) -> Any:
        """A record of the file from its body."""
        name, _ = place_of(token, self.layout.collection)
        return self.schema[name].codec.decode(body)

    def changed(
        self, manifest: FileManifest | None, touched: frozenset[str] | None = None
    ) -> Iterator[str]:
        """Tokens of records of the file that it does not show as they are.

        Args:
            manifest: what it shows; None: nothing.
            touched: where to look; None: everywhere.
        """
        tokens: Iterable[str] = itertools.chain(self.homes, self.aside)
        if touched is not None:
            # One that was hidden may stand in the file again: in front of a new record.
            tokens = touched.union(text.token for text in self.hidden_texts.aside(self))
        shown = (lambda _: None) if manifest is None else manifest.version
        for token in tokens:
            row = self.row(token)
            if row is None or row[0] == shown(token) or token in self.hidden:
                continue
            if not self._is_other(token, row):
                yield token

    def _is_other(self, token: str, row: tuple[int, bytes]) -> bool:
        """Whether a row does not stand in the file."""
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
        """Whether a file that is broken as a whole stands there as it was found."""
        if manifest is None or manifest.anew or self.broken is None:
            return False
        is_same = self.layout.is_part or manifest.digest == digest_of(self.broken)
        return manifest.broken and is_same

    def tokens(self) -> list[str]:
        """Every record of the file."""
        return list(self.changed(None))


def file_contents_of(
    live: ReplicaState,
    layout: Layout,
    others: dict[str, int],
    hidden_texts: HiddenTexts | None = None,
) -> FileContents:
    """Return what the store holds of a file now. Hold the mutex.

    Args:
        live: the store.
        layout: of the file.
        others: see :class:`FileContents`; kept from one content to the next.
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
    """Return what a state holds of a file."""
    schema = state.schema
    version, header = legacy_row(state, layout.file)
    _, noted = legacy_row(state, permissions_key(layout.file))
    aside = _aside(state, layout.file)
    broken = None if header is None else _broken(schema, header, aside)
    is_unread = broken is not None and header is not None and is_marked(header)
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
    """What is remembered of an entry of a file that was parsed."""

    token: str
    body: bytes
    start: int
    end: int

    @classmethod
    def of(cls, entry: Entry) -> SeenRecord:
        """Of an entry."""
        start, end = entry.span or (UNKNOWN, UNKNOWN)
        home = entry.home
        return cls(token_of(home.collection, home.key), home.body, start, end)


def match(
    manifest: FileManifest, seen: Iterable[SeenRecord], content: FileContents
) -> list[SeenRecord]:
    """Fill a manifest: which text of a file that was read stands for which row.

    A text is taken for a row if it says exactly the same. So the order is not known
    either.

    Returns:
        What stands for no row.
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
    """Match what has another key or more fields in the store, but the same text."""
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
