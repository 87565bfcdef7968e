"""Adoption of a changed legacy file: the operations that make the store equal to it."""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.duplicate_members import SUPERSEDED, is_beside, is_superseded
from pend_storage._layouts.layout import Entry, Find, ParsedFile
from pend_storage._layouts.references import anchored, merged_fact
from pend_storage._model.diff import differences
from pend_storage._model.records import Delete, LegacyFile, Put, QuarantinedRecord
from pend_storage.legacy import _quarantine as quarantine
from pend_storage.legacy._file_envelope import WRAPPERS, FileEnvelope
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.schema import QUARANTINE, CollectionSpec, Schema

__all__ = ["adopt"]

_Match = tuple[int, str]
"""Rank and key of a stored record."""


def adopt(
    layout: RecordPlacement,
    schema: Schema,
    parsed: ParsedFile,
    present: Iterable[Any],
    find: Find,
    *,
    in_place: bool = False,
) -> Iterator[Put | Delete]:
    """Adopt entries of a file; see :meth:`pend_storage._layouts.layout.Layout.adopt`.

    Args:
        layout: of the file.
        schema: likewise.
        parsed: likewise.
        present: likewise.
        find: likewise.
        in_place: the entries are some records of the file, each at its own position.
    """
    work = _Adoption(layout, schema, parsed.header, find, in_place=in_place)
    work.index_present(present)
    for entry in parsed.entries:
        if _is_broken(entry):
            yield from work.broken(entry)
            return
        if is_beside(entry.home.record):
            yield from work.beside(entry)
            continue
        yield from work.entry(entry)
    yield from work.leftover()


def _is_broken(entry: Entry) -> bool:
    record = entry.home.record
    return isinstance(record, QuarantinedRecord) and is_whole_file(record)


class _Adoption:
    """State of the adoption of one file."""

    def __init__(
        self,
        layout: RecordPlacement,
        schema: Schema,
        header: LegacyFile,
        find: Find,
        *,
        in_place: bool,
    ) -> None:
        self.in_place: Final = in_place
        self.layout: Final = layout
        self.schema: Final = schema
        self.header: Final = header
        self.find: Final = find
        self.keeps_beside: Final = FileEnvelope.of(header).shape in WRAPPERS
        """Superseded texts may stand beside the records of this file."""
        self.unmatched: Final[dict[str, deque[_Match]]] = {}
        """Stored records of the file that no entry has matched yet, by identity."""
        self.last = -1
        """Rank of the previous entry."""
        self.has: Final[Callable[[str, str], bool] | None] = getattr(find, "has", None)
        """Existence test of a ``find`` that sees the operations of this adoption itself:
        then they are not recorded here."""
        self.written: Final[dict[tuple[str, str], Any]] = {}
        """Records of this adoption that later entries may refer to or merge into."""
        self.resolved: Final[dict[tuple[str, str], bool]] = {}
        """Cache of resolved references: true where the target exists."""
        self.substitutes: Final[set[str]] = set()
        """Substitute keys of records whose own key was taken."""

    def index_present(self, present: Iterable[Any]) -> None:
        """Index the stored records of the file by their identity."""
        found: dict[str, list[_Match]] = {}
        for record in present:
            if is_beside(record) and not self.keeps_beside:
                continue  # not in the file any more: it stays in quarantine alone
            rank = self.layout.rank(record)
            match = (sys.maxsize if rank is None else rank, self._key(record))
            found.setdefault(self._identity(record), []).append(match)
        for identity, matches in found.items():
            self.unmatched[identity] = deque(sorted(matches))

    def entry(self, entry: Entry) -> Iterator[Put | Delete]:
        """Adopt one entry: match it with a stored record, or add it."""
        place = self.layout.position(entry.home.record) if self.in_place else None
        if place is not None:
            self.last = place - 1
        matches = self.unmatched and self.unmatched.get(self._identity_of_entry(entry))
        if not matches:
            self.last += 1
            yield from self._new(entry)
            return
        rank, key = matches.popleft()
        # A record without a rank has no stored place: it takes the one in the file.
        moved = rank <= self.last or rank == sys.maxsize
        moved = moved or (place is not None and rank != place)
        self.last = self.last + 1 if moved else rank
        home = entry.home
        by_content = self.layout.mapping.by_content
        if home.collection == QUARANTINE:
            yield from self._still_aside(home, key, moved=moved)
        elif not by_content(home.record):
            yield from self._changed(entry, key, moved=moved)
        elif moved:
            record = self.layout.placed(self.find(home.collection, key), self.last)
            yield self.schema.put(home.collection, record)

    def _still_aside(self, home: Put, key: str, *, moved: bool) -> Iterator[Put]:
        """Update the reason and position of a text that was in quarantine before."""
        present = self.find(QUARANTINE, key)
        record = replace(present, code=home.record.code, reason=home.record.reason)
        if moved:
            record = self.layout.placed(record, self.last)
        if record != present:
            yield self.schema.put(QUARANTINE, record)

    def broken(self, entry: Entry) -> Iterator[Put]:
        """Quarantine a file that is broken as a whole; its records stay as they are."""
        if self._identity(entry.home.record) not in self.unmatched:
            yield self._stamp(entry.home)

    def beside(self, entry: Entry) -> Iterator[Put]:
        """Adopt a superseded text beside the records, which has no position."""
        matches = self.unmatched.get(self._identity(entry.home.record))
        if matches:
            matches.popleft()
        else:
            yield self._stamp(entry.home)

    def leftover(self) -> Iterator[Delete]:
        """Delete the stored records that the file no longer holds."""
        for identity, matches in self.unmatched.items():
            name = QUARANTINE if identity[:1] == _RAW else self.layout.collection
            for _, key in matches:
                yield self.schema.delete(name, key)

    # -- one entry ----------------------------------------------------------------------

    def _new(self, entry: Entry) -> Iterator[Put]:
        home = entry.home
        if home.collection == QUARANTINE:
            yield self._stamp(self._with_free_id(home), self.last)
            return
        home = self._with_free_key(home)
        record = anchored(
            self.schema[home.collection], home.record, self._target_exists
        )
        if record is None:
            yield self._unanchored(home.record)
            return
        if self.layout.position(record) != self.last:
            record = self.layout.placed(record, self.last)
        yield self._put(home, record)
        yield from self._derived(entry, record)

    def _changed(
        self, entry: Entry, key: str, *, moved: bool
    ) -> Iterator[Put | Delete]:
        home = entry.home
        spec = self.schema[home.collection]
        present = self.find(home.collection, key)
        record = self.layout.mapping.merge(present, home.record)
        record = self._with_resolved(spec, record, home.record)
        record = self._without_dangling(spec, present, record)
        if record is None:
            yield self._unanchored(home.record)
            yield self.schema.delete(home.collection, key)
            return
        if moved:
            record = self.layout.placed(record, self.last)
        if differences(present, record):
            yield self._put(home, record)
            yield from self._derived(entry, record)
        elif entry.derived:
            self._record_written(home.collection, key, present)

    def _unanchored(self, record: Any) -> Put:
        """Quarantine a record whose required reference dangles."""
        reason = "it refers to a record that is not there"
        aside = self.layout.set_aside(self.schema, self.header, record, reason)
        return self._stamp(aside, self.last)

    def _without_dangling(self, spec: CollectionSpec, present: Any, record: Any) -> Any:
        """Null the references of a record that have changed and dangle."""
        changed = [
            name
            for name in spec.references
            if getattr(present, name) != getattr(record, name)
        ]
        return anchored(spec, record, self._target_exists) if changed else record

    def _with_resolved(self, spec: CollectionSpec, record: Any, read: Any) -> Any:
        """Restore references that dangled when the record was adopted first."""
        changes = {
            name: value
            for name, target in spec.references.items()
            if getattr(record, name) is None
            and (value := getattr(read, name)) is not None
            and self._target_exists(target, value)
        }
        return replace(record, **changes) if changes else record

    def _derived(self, entry: Entry, home: Any) -> Iterator[Put]:
        if entry.derived:
            self._record_written(entry.home.collection, self._key(home), home)
        for put in entry.derived:
            spec = self.schema[put.collection]
            place = (put.collection, put.key)
            present = self.written.get(place) or self.find(*place)
            record = merged_fact(spec, present, put.record, self._target_exists)
            if record is None or (present and not differences(present, record)):
                continue
            self._record_written(*place, record)
            yield self._put(put, record)

    def _record_written(self, collection: str, key: str, record: Any) -> None:
        if self.has is None:
            self.written[collection, key] = record

    def _put(self, home: Put, record: Any) -> Put:
        return (
            home if record is home.record else self.schema.put(home.collection, record)
        )

    def _stamp(self, home: Put, position: int | None = None) -> Put:
        """Set the position of a quarantined record, and now as its time of discovery."""
        record = replace(home.record, position=position, seen_at=datetime.now(UTC))
        return self.schema.put(home.collection, record)

    def _with_free_key(self, home: Put) -> Put:
        """Return the record under a free key: its own, or a substitute."""
        occurrence, key = getattr(home.record, "occurrence", 0), home.key
        while key in self.substitutes or self._key_exists(home.collection, key):
            occurrence += 1
            record = self.layout.mapping.again(home.record, occurrence)
            home = self.schema.put(home.collection, record)
            key = home.key
        if home.key != key or occurrence:
            self.substitutes.add(key)
        return home

    def _with_free_id(self, home: Put) -> Put:
        """Return a quarantined text under a free key, for equal texts of one file."""
        if self.has is not None:  # the first import of a whole file: all keys are free
            return home
        record, occurrence = home.record, 0
        while record.id in self.substitutes or self._stands(record.id):
            occurrence += 1
            record = quarantine.with_occurrence(record, occurrence)
        self.substitutes.add(record.id)
        return home if record is home.record else self.schema.put(QUARANTINE, record)

    def _stands(self, key: str) -> bool:
        found = self.find(QUARANTINE, key)
        return found is not None and found.position is not None

    # -- lookups ------------------------------------------------------------------------

    def _key_exists(self, collection: str, key: str) -> bool:
        if self.has is not None:
            return self.has(collection, key)
        return self.find(collection, key) is not None

    def _target_exists(self, target: str, key: str) -> bool:
        """Return whether the target of a reference exists."""
        place = (target, key)
        if self.has is not None:
            return self.has(target, key)
        if place in self.written:
            return True
        if place not in self.resolved:
            self.resolved[place] = self.find(target, key) is not None
        return self.resolved[place]

    def _identity_of_entry(self, entry: Entry) -> str:
        home = entry.home
        by_content = self.layout.mapping.by_content
        if home.collection != QUARANTINE and by_content(home.record):
            # Just parsed, so its content hash is that of its present content.
            return f"{_PLACED}{home.record.content_hash}"
        return self._identity(home.record)

    def _identity(self, record: Any) -> str:
        if isinstance(record, QuarantinedRecord):
            kind = SUPERSEDED if is_superseded(record) else ""
            return _RAW + kind + hashlib.sha256(record.raw).hexdigest()
        return _PLACED + self.layout.mapping.identity(record)

    def _key(self, record: Any) -> str:
        if isinstance(record, QuarantinedRecord):
            return record.id
        return self.schema[self.layout.collection].key_of(record)


_RAW: Final = "q"
_PLACED: Final = "p"
