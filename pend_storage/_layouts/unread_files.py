"""Unread files: legacy files that were never readable, so that their records are unknown.

A record that is missing because its file could not be read is not absent, it is unknown. So
a lookup that such a record could answer, and a write that depends on its absence, are
refused with :class:`~pend_storage.errors.CorruptFile`. A store that has read a file once
knows its records also when the file breaks later, and goes on with them.

A file is unread while its header is marked (:func:`marked`) and its quarantine entry, which
holds all its bytes, waits. Both are rows, so they reach the other store of a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.layout import Layout
from pend_storage._model.conditions import And, Comparison, Condition, Operator
from pend_storage._model.records import (
    Batch,
    Delete,
    LegacyFile,
    Put,
    QuarantinedRecord,
    Row,
)
from pend_storage.errors import CorruptFile
from pend_storage.schema import LEGACY_FILES, QUARANTINE, CollectionSpec

__all__ = [
    "UnreadFile",
    "UnreadFiles",
    "as_stored",
    "is_marked",
    "marked",
    "names_one",
    "resting_on",
    "unread_of",
]

_MARK: Final = "unread"
"""Member of a header's ``format`` that marks an unread file."""
_BROKEN: Final = "broken"
_FIRST: Final = 1
"""Version of rows that the first opening of a directory imported."""

_ALL: Final = ""
_exempt: Final[ContextVar[str | None]] = ContextVar("pend_storage_exempt", default=None)
"""Unread file whose rows may be read as they are; ``_ALL``: those of all files."""
_resting: Final[ContextVar[str | None]] = ContextVar(
    "pend_storage_resting", default=None
)
"""File that lookups are about; None: each file that may hold the record."""


@contextmanager
def as_stored(file: str = _ALL) -> Iterator[None]:
    """Disable the guard in a block: rows are read as stored, for copying and comparing.

    Args:
        file: only for this unread file; by default for all.
    """
    token = _exempt.set(file)
    try:
        yield
    finally:
        _exempt.reset(token)


@contextmanager
def resting_on(file: str) -> Iterator[None]:
    """Limit lookups by key in a block to records of one file.

    For collections that several files share, where a key does not name its file: another,
    unread one would refuse the lookup.
    """
    token = _resting.set(file)
    try:
        yield
    finally:
        _resting.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadFile:
    """Legacy file that was never readable."""

    file: str
    """Name in the layout."""
    collection: str
    """Collection of its records."""
    path: str
    """Path, as far as the store knows it; else the name."""
    quarantined: str
    """Id of its quarantine entry."""
    reason: str
    """Parse error, and a description of the content."""

    def error(self) -> CorruptFile:
        """Make the error for lookups and writes that depend on the file."""
        return CorruptFile(self.reason, path=self.path, quarantined=self.quarantined)


def marked(header: LegacyFile) -> LegacyFile:
    """Mark the header of a broken file as unread."""
    return replace(header, format={**header.format, _MARK: True})


def is_marked(header: LegacyFile) -> bool:
    """Return whether a header is marked as that of an unread file."""
    return header.format.get(_MARK) is True


def unread_of(
    headers: Iterable[Row],
    entries: Callable[[str], Iterable[Row]],
    layouts: Mapping[str, Layout],
    places: Mapping[str, Any],
) -> Iterator[UnreadFile]:
    """Find the unread files of a store by its headers and quarantine entries.

    Args:
        headers: of all files.
        entries: returns the quarantine rows of a file.
        layouts: by file.
        places: paths of files, by name.
    """
    for header in headers:
        record = header.record
        layout = layouts.get(record.file)
        # Directories that were opened by an older version have no marks.
        old = record.format.get("shape") == _BROKEN
        if layout is None or not (old or is_marked(record)):
            continue
        for entry in entries(record.file):
            aside: QuarantinedRecord = entry.record
            # Without a mark only the first import can have met the file unread: a file
            # that broke later has known records.
            waits = is_whole_file(aside) and aside.is_waiting
            if waits and (is_marked(record) or entry.version == _FIRST):
                yield UnreadFile(
                    file=layout.file,
                    collection=layout.collection,
                    path=str(places.get(layout.file, layout.file)),
                    quarantined=aside.id,
                    reason=aside.reason,
                )
                break


class UnreadFiles:
    """Guard over the unread files of a store: refuses what depends on their records."""

    def __init__(
        self, files: Iterable[UnreadFile], layouts: Mapping[str, Layout]
    ) -> None:
        """Index the files by collection.

        Args:
            files: the unread files at this moment.
            layouts: by file.
        """
        self.files: Final = tuple(files)
        self._layouts: Final = tuple((file, layouts[file.file]) for file in self.files)
        self._collections: Final = {file.collection for file in self.files}
        if self.files:
            self._collections.add(LEGACY_FILES)

    def concern(self, collection: str) -> bool:
        """Return whether a lookup in this collection may depend on an unread file."""
        return collection in self._collections

    def _of(self, collection: str) -> Iterator[tuple[UnreadFile, Layout]]:
        resting = _resting.get()
        for file, layout in self._layouts:
            about = file.collection == collection and resting in {None, file.file}
            if about and not _is_exempt(file):
                yield file, layout

    # -- look-ups -------------------------------------------------------------------------

    def require_rows(
        self, collection: str, keys: Iterable[str], found: Mapping[str, Row]
    ) -> None:
        """Refuse a lookup by key of a record that may be in an unread file.

        Raises:
            CorruptFile: a key was not found, and may be there.
        """
        if collection == LEGACY_FILES:
            self._require_headers(keys)
        elif any(key not in found for key in keys):
            for file, _ in self._of(collection):
                raise file.error()

    def _require_headers(self, files: Iterable[str]) -> None:
        wanted = set(files)
        for file in self.files:
            if file.file in wanted and not _is_exempt(file):
                raise file.error()

    def refusal(self, spec: CollectionSpec, where: Condition) -> CorruptFile | None:
        """Return the error for a query whose answer may lack records of an unread file."""
        for file, layout in self._of(spec.name):
            if not _exclude(where, layout.where):
                return file.error()
        return None

    # -- writes ---------------------------------------------------------------------------

    def require_commit(self, batch: Batch, find: Callable[[str, str], Any]) -> None:
        """Refuse a commit that depends on unknown records.

        Its reads were guarded when they were made. A commit that settles the file's own
        quarantine entry passes: it accepts the entry, or adopts its repaired text.

        Args:
            batch: the commit.
            find: returns the record in the store, or None.

        Raises:
            CorruptFile: it writes a record of an unread file, or deletes one that may be
                there.
        """
        for file, layout in self._layouts:
            if not _settles(batch, file):
                for operation in batch.operations:
                    if _changes_header(file, operation, find) or _writes(
                        layout, operation, batch, find
                    ):
                        raise file.error()

    def require_target(self, collection: str, key: str) -> None:
        """Refuse to report a dangling reference where its target is unknown.

        Raises:
            CorruptFile: the target may be in an unread file.
        """
        self.require_rows(collection, (key,), {})


def _is_exempt(file: UnreadFile) -> bool:
    return _exempt.get() in {_ALL, file.file}


def _changes_header(
    file: UnreadFile, operation: Put | Delete, find: Callable[[str, str], Any]
) -> bool:
    """Return whether an operation changes the header of an unread file."""
    place = (operation.collection, operation.key)
    if place != (LEGACY_FILES, file.file):
        return False
    return isinstance(operation, Delete) or operation.record != find(*place)


def _writes(
    layout: Layout,
    operation: Put | Delete,
    batch: Batch,
    find: Callable[[str, str], Any],
) -> bool:
    """Return whether an operation writes a record of a file, or deletes a possible one."""
    if operation.collection != layout.collection:
        return False
    if isinstance(operation, Put):
        return layout.owns(operation.record)
    place = (operation.collection, operation.key)
    present = find(*place)
    if present is None:  # by now; what was read before was of another file
        return place not in batch.checks
    return layout.owns(present)


def _settles(batch: Batch, file: UnreadFile) -> bool:
    """Return whether a commit accepts or deletes the quarantine entry of a file."""
    return any(
        operation.collection == QUARANTINE and operation.key == file.quarantined
        for operation in batch.operations
    )


def _exclude(where: Condition, mine: Iterable[Condition]) -> bool:
    """Return whether no record that meets ``mine`` can meet a query.

    Conservative: only equalities on the same field with different values are recognised.
    """
    wanted = {c.path: c.value for c in _conjuncts(where)}
    return any(
        c.path in wanted and wanted[c.path] != c.value
        for part in mine
        for c in _conjuncts(part)
    )


def _conjuncts(where: Condition) -> Iterator[Comparison]:
    """Yield the equalities that every matching record must meet."""
    match where:
        case And(parts):
            for part in parts:
                yield from _conjuncts(part)
        case Comparison(_, Operator.EQ, _):
            yield where
        case _:
            pass


def names_one(spec: CollectionSpec, where: Condition) -> bool:
    """Return whether at most one record can meet a condition: it names a unique value."""
    unique = {(spec.key,), *(f for f in spec.unique if len(f) == 1)}
    return any(c.path in unique for c in _conjuncts(where))
