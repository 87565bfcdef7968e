"""Removal cascade: the consequences of a record that leaves its legacy file, or returns.

A *removed* record is deleted: its member is no longer in the file. A *displaced* one is
retained: its member is there, with a text that cannot be placed; the record is kept whole
in quarantine, with the records that referred to it, and is restored with a text that can.

Of the referrers of such a record,

- a reference that may be null becomes null;
- a record that needs it is deleted with it, where the files can derive it again;
- any other record that needs it is quarantined, at its place in its own file.

Pure: the caller reads, checks and writes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias

from pend_storage._layouts.layout import Layout
from pend_storage._layouts.references import absorbed, merged_fact
from pend_storage._layouts.retained_forms import (
    KEPT,
    REFERENCE_LOST,
    DisplacedRecord,
    Operation,
    content_of,
    displacing_text,
    exceeds_text,
    record_of,
    retained_id,
    same_place,
    without_file,
)
from pend_storage._model.diff import differences
from pend_storage._model.records import Delete, Put, QuarantinedRecord
from pend_storage._redaction import record_label
from pend_storage.errors import CorruptFile, InvalidRecord
from pend_storage.events import Event
from pend_storage.schema import LEGACY_FILES, QUARANTINE, CollectionSpec, Schema

__all__ = ["KEPT", "REFERENCE_LOST", "RecordLookups", "Removal"]

Place: TypeAlias = tuple[str, str]

_MOST_NAMED: Final = 5
"""Records that an event names at most."""


class RecordLookups(Protocol):
    """Reads of a store for an edit; the commit checks the versions of what was read."""

    def find(self, collection: str, key: str) -> Any:
        """Return the record under a key, or None."""

    def referrers(self, spec: CollectionSpec, name: str, key: str) -> Iterable[Any]:
        """Return the records of a collection that refer to a key by this field."""

    def records(self, layout: Layout) -> Iterable[Any]:
        """Return the placed records of a file, and maybe others of its collection."""

    def was_deleted(self, collection: str, key: str) -> bool:
        """Return whether the key has a tombstone: it was deleted and does not exist."""


class Removal:
    """Cascade of one edit of one file: adds what follows from removed records."""

    def __init__(
        self,
        schema: Schema,
        layouts: Sequence[Layout],
        layout: Layout,
        lookups: RecordLookups,
    ) -> None:
        """Prepare the cascade.

        Args:
            schema: of the store.
            layouts: of all files that the store knows.
            layout: of the edited file.
            lookups: reads the store as it was before the edit.
        """
        self._schema = schema
        self._layouts = layouts
        self._layout = layout
        self._lookups = lookups
        self._all: dict[Place, Operation] = {}
        self._removed: list[str] = []
        self._released: list[str] = []
        self._quarantined: list[str] = []

    def settle(self, wanted: Iterable[Operation]) -> dict[Place, Operation]:
        """Complete the operations of an edit with their consequences.

        Args:
            wanted: as from :meth:`Layout.adopt`; of one key the last operation wins.

        Returns:
            All operations, by collection and key.
        """
        self._all = {(o.collection, o.key): o for o in wanted}
        self._removed, self._released, self._quarantined = [], [], []
        first = list(self._all.values())
        for operation in first:
            if isinstance(operation, Delete) and operation.collection != QUARANTINE:
                self._remove(operation, first)
        for operation in first:
            if isinstance(operation, Delete) and operation.collection == QUARANTINE:
                self._restore_displaced(operation.key, first)
        for operation in first:
            if isinstance(operation, Put) and operation.collection != QUARANTINE:
                self._merge_facts_of_others(operation)
        return self._all

    def event(self) -> Event | None:
        """Return the report of the cascade for operators; None where nothing followed."""
        parts = [
            f"{len(names)} {what} ({_named(names)})"
            for names, what in (
                (self._released, "records refer to it no longer"),
                (self._quarantined, "records that need it are in quarantine"),
            )
            if names
        ]
        if not parts:
            return None
        return Event(
            "file-record-removed",
            f"{_named(self._removed)} left {self._layout.file}: {'; '.join(parts)}. Put the "
            "record back, or accept what is in quarantine",
            logging.WARNING,
            {
                "file": self._layout.file,
                "released": len(self._released),
                "quarantined": len(self._quarantined),
            },
        )

    # -- removed records ----------------------------------------------------------------

    def _remove(self, operation: Delete, edit: Sequence[Operation]) -> None:
        record = self._lookups.find(operation.collection, operation.key)
        if record is None:
            return
        spec = self._schema[operation.collection]
        self._removed.append(record_label(spec, operation.key))
        instead = displacing_text(self._layout, record, edit)
        if instead is None:
            self._release_referrers(operation.collection, operation.key, record, None)
            return
        kept = DisplacedRecord(spec.name, operation.key, content_of(spec, record))
        self._release_referrers(spec.name, operation.key, record, kept)
        self._retain(kept, instead, record)

    def _retain(
        self, kept: DisplacedRecord, instead: QuarantinedRecord, record: Any
    ) -> None:
        """Retain a displaced record in quarantine, unless its text alone restores it."""
        if not (
            kept.needing
            or kept.referrers
            or exceeds_text(self._layout, self._schema, record)
        ):
            return
        # Too many referrers for one row: retain the record without them.
        for part in (kept, replace(kept, referrers=[])):
            aside = part.aside(self._layout.file, instead.id)
            try:
                self._add(self._schema.put(QUARANTINE, aside))
            except InvalidRecord as error:
                if error.code != "too-large":
                    raise
            else:
                return

    def _release_referrers(
        self, collection: str, key: str, record: Any, kept: DisplacedRecord | None
    ) -> None:
        """Release the referrers of a record that is deleted."""
        facts = self._derived_facts(collection, record)
        for spec, name in self._schema.referrers(collection):
            for other in self._referring(spec, name, key):
                if spec.fields[name].optional:
                    freed = self._schema.put(spec.name, replace(other, **{name: None}))
                    self._add(freed)
                    self._released.append(record_label(spec, freed.key))
                    if kept is not None:
                        kept.referrers.append((spec.name, freed.key, name))
                else:
                    self._cascade(spec, name, other, facts, kept)

    def _referring(self, spec: CollectionSpec, name: str, key: str) -> Iterator[Any]:
        """Yield the records that refer to a key after the edit."""
        planned = {
            o.key: o.record
            for o in self._all.values()
            if isinstance(o, Put) and o.collection == spec.name
        }
        stored = {spec.key_of(r): r for r in self._lookups.referrers(spec, name, key)}
        for other, record in {**stored, **planned}.items():
            if isinstance(self._all.get((spec.name, other)), Delete):
                continue
            if getattr(record, name) == key:
                yield record

    def _cascade(
        self,
        spec: CollectionSpec,
        name: str,
        record: Any,
        facts: Mapping[Place, Any],
        kept: DisplacedRecord | None,
    ) -> None:
        """Delete a record whose reference to a deleted one may not be null."""
        key = spec.key_of(record)
        self._add(self._schema.delete(spec.name, key))
        if kept is not None:
            kept.needing.append((spec.name, key, content_of(spec, record)))
        elif not self._is_derivable(spec, record, facts):
            self._set_aside(spec, name, record)
        self._release_referrers(spec.name, key, record, kept)

    def _derived_facts(self, collection: str, record: Any) -> dict[Place, Any]:
        """Return the facts that a record of the file derives, by collection and key."""
        facts: dict[Place, Any] = {}
        if collection == self._layout.collection and self._layout.owns(record):
            for put in self._layout.told(self._schema, record) or ():
                facts[put.collection, put.key] = put.record
        return facts

    def _is_derivable(
        self, spec: CollectionSpec, record: Any, facts: Mapping[Place, Any]
    ) -> bool:
        """Return whether the files can derive a record again: deleting it loses nothing."""
        place = (spec.name, spec.key_of(record))
        made = facts.get(place)
        if made is None:
            return False
        if not differences(record, made):
            return True
        for put in self._facts_of_others({place}):
            made = absorbed(spec, made, put.record)
        return not differences(record, made)

    def _set_aside(self, spec: CollectionSpec, name: str, record: Any) -> None:
        """Quarantine a record at its place in its own file."""
        key = spec.key_of(record)
        reason = f"its {name} refers to a record that was removed"
        owner = next(
            (x for x in self._layouts if x.collection == spec.name and x.owns(record)),
            None,
        )
        if owner is None:
            aside = without_file(spec, key, content_of(spec, record))
        else:
            header = self._lookups.find(LEGACY_FILES, owner.file) or owner.missing()
            aside = owner.set_aside(self._schema, header, record, reason).record
        seen = replace(
            aside, code=REFERENCE_LOST, reason=reason, seen_at=datetime.now(UTC)
        )
        self._add(self._schema.put(QUARANTINE, seen))
        self._quarantined.append(f"{record_label(spec, key)} as {seen.id}")

    # -- restored records ---------------------------------------------------------------

    def _restore_displaced(self, left: str, edit: Sequence[Operation]) -> None:
        """Restore the record that was displaced by a quarantined text, which has left."""
        aside = self._lookups.find(QUARANTINE, retained_id(left))
        if aside is None or aside.code != KEPT:
            return
        kept = DisplacedRecord.load(aside.raw)
        home = self._all.get((kept.collection, kept.key))
        if isinstance(home, Put):
            if self._restore(kept, home):
                self._add(self._schema.delete(QUARANTINE, aside.id))
            return
        # Another unplaceable text took the place: link the retained record to that one.
        gone = self._lookups.find(QUARANTINE, left)
        for operation in edit:
            if not isinstance(operation, Put) or operation.collection != QUARANTINE:
                continue
            other: QuarantinedRecord = operation.record
            if self._layout.owns(other) and same_place(self._layout, gone, other):
                linked = replace(aside, id=retained_id(other.id))
                self._add(self._schema.delete(QUARANTINE, aside.id))
                self._add(self._schema.put(QUARANTINE, linked))
                return

    def _restore(self, kept: DisplacedRecord, home: Put) -> bool:
        """Write a retained record, merged with the file's text; False if it cannot be."""
        layout, lookups = self._layout, self._lookups
        if lookups.find(home.collection, home.key) is not None:
            return False
        try:
            former = record_of(self._schema[kept.collection], kept.record)
            record = layout.merged(former, home.record)
            position = layout.position(home.record)
            if position is not None:
                record = layout.placed(record, position)
            restored = self._schema.put(home.collection, record)
            needing = [
                (self._schema[name], key, record_of(self._schema[name], content))
                for name, key, content in kept.needing
            ]
        except (CorruptFile, InvalidRecord):  # of another version of the schema
            return False
        self._add(restored)
        for spec, key, record in needing:
            if lookups.find(spec.name, key) is None:
                fact = self._all.get((spec.name, key))
                if isinstance(fact, Put):
                    record = absorbed(spec, record, fact.record)  # noqa: PLW2901
                self._add(self._schema.put(spec.name, record))
        for name, key, attribute in kept.referrers:
            other = lookups.find(name, key)
            if other is not None and getattr(other, attribute) is None:
                found = replace(other, **{attribute: kept.key})
                self._add(self._schema.put(name, found))
        return True

    def _merge_facts_of_others(self, put: Put) -> None:
        """Merge facts of other files into the derived records of a restored one."""
        layout, lookups = self._layout, self._lookups
        if put.collection != layout.collection or not layout.owns(put.record):
            return
        if lookups.find(put.collection, put.key) is not None:
            return
        mine = {layout.collection, QUARANTINE}
        brought = {
            place
            for place, operation in self._all.items()
            if place[0] not in mine and isinstance(operation, Put)
        }
        if not brought or not lookups.was_deleted(put.collection, put.key):
            return
        places = brought.intersection(self._derived_facts(put.collection, put.record))
        if not places:
            return
        for fact in self._facts_of_others(places, of=put):
            place = (fact.collection, fact.key)
            known, spec = self._all[place], self._schema[fact.collection]
            assert isinstance(known, Put)  # noqa: S101 - only those were asked for
            record = merged_fact(spec, known.record, fact.record, self._target_exists)
            if record is not None and differences(known.record, record):
                self._add(self._schema.put(spec.name, record))

    def _target_exists(self, collection: str, key: str) -> bool:
        known = self._all.get((collection, key))
        if known is not None:
            return isinstance(known, Put)
        return self._lookups.find(collection, key) is not None

    def _facts_of_others(
        self, places: set[Place], of: Put | None = None
    ) -> Iterator[Put]:
        """Yield the facts that placed records of other files derive about these keys.

        The deriving records refer to ``of``, a restored record, again.
        """
        for layout in self._layouts if places else ():
            if layout.file == self._layout.file:
                continue
            for record in self._lookups.records(layout):
                if not layout.owns(record):
                    continue
                facts = layout.told(self._schema, record)
                if facts is None:
                    break
                found = [p for p in facts if (p.collection, p.key) in places]
                if found and of is not None:
                    self._restore_references(layout, record, of)
                yield from found

    def _restore_references(self, layout: Layout, record: Any, target: Put) -> None:
        """Restore references that were nulled while their target was removed."""
        spec = self._schema[layout.collection]
        text = layout.set_aside(self._schema, layout.missing(), record, "").record
        entry = layout.retry(self._schema, replace(text, code=""))
        if entry.home.collection != spec.name:
            return
        known = self._all.get((spec.name, spec.key_of(record)))
        present = known.record if isinstance(known, Put) else record
        changes = {
            name: target.key
            for name, collection in spec.references.items()
            if collection == target.collection
            and getattr(present, name) is None
            and getattr(entry.home.record, name) == target.key
        }
        if changes:
            self._add(self._schema.put(spec.name, replace(present, **changes)))

    def _add(self, operation: Operation) -> None:
        self._all[operation.collection, operation.key] = operation


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
