"""Legacy files of which nothing could ever be read: what is in them is unknown.

A record that is absent because its file could not be read is not absent, it is unknown. So a
look-up that such a record could answer, and a write that rests on its absence, are refused
with :class:`~pend_storage.errors.CorruptFile`. A store that has read a file once knows its
records also when the file breaks later, and goes on with them.

A file is unread while its header says so (:func:`marked`) and its entry in quarantine, which
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
"""Member of a header's ``format``."""
_BROKEN: Final = "broken"
_FIRST: Final = 1
"""Version of what the first opening of a directory has read."""

_ALL: Final = ""
_exempt: Final[ContextVar[str | None]] = ContextVar("pend_storage_exempt", default=None)
"""File on which look-ups may rest although it is unread; ``_ALL``: on any."""
_resting: Final[ContextVar[str | None]] = ContextVar(
    "pend_storage_resting", default=None
)
"""On which file look-ups rest; None: on whichever may hold the record."""


@contextmanager
def as_stored(file: str = _ALL) -> Iterator[None]:
    """In the block rows are read as they are in the store: for copying and comparing.

    Args:
        file: only those of this file; else of all.
    """
    token = _exempt.set(file)
    try:
        yield
    finally:
        _exempt.reset(token)


@contextmanager
def resting_on(file: str) -> Iterator[None]:
    """In the block look-ups by key are about records of this file alone.

    For collections that several files share, where a key does not tell the file.
    """
    token = _resting.set(file)
    try:
        yield
    finally:
        _resting.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadFile:
    """A legacy file of which nothing could ever be read."""

    file: str
    """Its name in the layout."""
    collection: str
    """Of its records."""
    path: str
    """Where it is, as far as the store knows."""
    quarantined: str
    """Id of its entry in quarantine."""
    reason: str
    """What is wrong with it, and what it looks like."""

    def error(self) -> CorruptFile:
        """The error for what rests on it."""
        return CorruptFile(self.reason, path=self.path, quarantined=self.quarantined)


def marked(header: LegacyFile) -> LegacyFile:
    """The header of a broken file, with the mark that nothing of it was ever read."""
    return replace(header, format={**header.format, _MARK: True})


def is_marked(header: LegacyFile) -> bool:
    """Whether a header says that nothing of its file was ever read."""
    return header.format.get(_MARK) is True


def unread_of(
    headers: Iterable[Row],
    entries: Callable[[str], Iterable[Row]],
    layouts: Mapping[str, Layout],
    places: Mapping[str, Any],
) -> Iterator[UnreadFile]:
    """The files that are unread, by what a store holds.

    Args:
        headers: of all files.
        entries: gives what of a file is in quarantine.
        layouts: by file.
        places: where files are, by name.
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
    """The unread files of a store at one moment, and what rests on them."""

    def __init__(
        self, files: Iterable[UnreadFile], layouts: Mapping[str, Layout]
    ) -> None:
        """Take note of them.

        Args:
            files: the files.
            layouts: by file.
        """
        self.files: Final = tuple(files)
        self._layouts: Final = tuple((file, layouts[file.file]) for file in self.files)
        self._collections: Final = {file.collection for file in self.files}
        if self.files:
            self._collections.add(LEGACY_FILES)

    def concern(self, collection: str) -> bool:
        """Whether a look into this collection may rest on one of them."""
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
        """Refuse a look-up by key of what may stand in an unread file.

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
        """The error for a query whose answer may lack records of an unread file."""
        for file, layout in self._of(spec.name):
            if not _exclude(where, layout.where):
                return file.error()
        return None

    # -- writes ---------------------------------------------------------------------------

    def require_commit(self, batch: Batch, find: Callable[[str, str], Any]) -> None:
        """Refuse a commit that rests on what is not known.

        What was read for it was judged when it was read. A commit that settles the file's
        own entry in quarantine is let through: it accepts it, or adopts its repaired text.

        Args:
            batch: the commit.
            find: gives the record that is in the store, or None.

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
        """Refuse to say that a reference leads nowhere, where that is not known.

        Raises:
            CorruptFile: the record may stand in an unread file.
        """
        self.require_rows(collection, (key,), {})


def _is_exempt(file: UnreadFile) -> bool:
    return _exempt.get() in {_ALL, file.file}


def _changes_header(
    file: UnreadFile, operation: Put | Delete, find: Callable[[str, str], Any]
) -> bool:
    """Whether an operation says how an unread file is written; not if it says it again."""
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
    """Whether an operation writes a record of a file, or deletes one that may be in it."""
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
    """Whether a commit decides about the entry of a file in quarantine."""
    return any(
        operation.collection == QUARANTINE and operation.key == file.quarantined
        for operation in batch.operations
    )


def _exclude(where: Condition, mine: Iterable[Condition]) -> bool:
    """Whether a record that meets ``mine`` cannot meet a query.

    Only what is plain is seen: the two demand different values of the same field.
    """
    wanted = {c.path: c.value for c in _conjuncts(where)}
    return any(
        c.path in wanted and wanted[c.path] != c.value
        for part in mine
        for c in _conjuncts(part)
    )


def _conjuncts(where: Condition) -> Iterator[Comparison]:
    """The equalities that every record must meet."""
    match where:
        case And(parts):
            for part in parts:
                yield from _conjuncts(part)
        case Comparison(_, Operator.EQ, _):
            yield where
        case _:
            pass


def names_one(spec: CollectionSpec, where: Condition) -> bool:
    """Whether at most one record can meet a condition: it demands a unique value."""
    unique = {(spec.key,), *(f for f in spec.unique if len(f) == 1)}
    return any(c.path in unique for c in _conjuncts(where))
