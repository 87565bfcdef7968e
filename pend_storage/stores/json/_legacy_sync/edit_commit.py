"""Edit commit: commits an external edit, merges it with commits, quarantines what is refused.

Whole records are written, computed from records that were read: of the file, of those
that it derives, of those that refer to a deleted one. The commit checks the version of
each, so that a commit made in between is never overwritten: it raises ``Conflict``, and
the edit is compared with the store again.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from pend_storage._audit_images import (
    is_due,
    places_due,
    versions_in,
    with_images,
)
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.removal import Removal
from pend_storage._model.attribution import Actor, acting_as
from pend_storage._model.records import JSON, Batch, Delete, LegacyFile, Put
from pend_storage._redaction import record_label, record_name
from pend_storage._shown import listed, shown
from pend_storage.errors import PendStorageError, ReferenceViolation, UniqueViolation
from pend_storage.events import Event, Hook
from pend_storage.schema import AUDIT, LEGACY_FILES, QUARANTINE
from pend_storage.stores._inmemory.table import index_value
from pend_storage.stores._inmemory.write_planner import Plan
from pend_storage.stores.json._journal.engine import Engine, Submit
from pend_storage.stores.json._legacy_sync.edit_lookups import EditLookups
from pend_storage.stores.json._legacy_sync.edited_file import EditedFile, Operation
from pend_storage.stores.json._legacy_sync.file_manifest import token_of
from pend_storage.stores.json._legacy_sync.overruled_values import (
    aside_of,
    beside_of,
    name_of,
)
from pend_storage.stores.json._legacy_sync.read_set import Place
from pend_storage.stores.json._legacy_sync.three_way_merge import merge

__all__ = ["EditCommit"]

_Row: TypeAlias = tuple[int, bytes] | None
_Meta: TypeAlias = tuple[tuple[str, JSON], ...]


class EditCommit:
    """Commit one edit. Values that the store refuses are quarantined."""

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        found: EditedFile,
        *,
        submit: Submit,
        hook: Hook,
    ) -> None:
        """Create it.

        Args:
            engine: the open store, for reads.
            layout: of the file.
            found: the edit.
            submit: commits.
            hook: receives ``outside-edit-refused`` and ``outside-edit-met-commit``.
        """
        self._engine = engine
        self._submit = submit
        self._layout = layout
        self._found = found
        self._schema = found.content.schema
        self._hook = hook
        self._planned: dict[Place, Operation] = {}
        self._overruled: dict[Place, Place] = {}
        """Place of a record to the place of its overruled value in quarantine."""
        self._removed: Event | None = None

    def run(self, meta: _Meta) -> list[tuple[Operation, int]]:
        """Commit; repeat without each operation that the store refuses.

        Args:
            meta: meta entries to set in the same commit.

        Returns:
            The operations that were written, with their versions.

        Raises:
            Conflict: a record that was read was committed to since.
            StaleEpoch: the store is not primary any more.
        """
        # A thread that opens or writes the store adopts the edit, and is not its author.
        editor = Actor("file edit", f"{self._layout.file} was edited")
        with acting_as(editor):
            return self._run(meta)

    def _run(self, meta: _Meta) -> list[tuple[Operation, int]]:
        for aside in self._found.asides:
            self._plan(aside)
        for operation in self._found.operations:
            rebased = self._rebased(operation)
            if rebased is not None:
                self._plan(rebased)
        self._plan_header()
        while True:
            wanted = self._with_dependents()
            checks = self._checks(wanted)
            # Not limited: an edit may touch every record of a file, and is one commit.
            batch = self._schema.batch(wanted.values(), checks, limited=False)
            try:
                versions = self._submit(functools.partial(_add, batch, meta))
            except (UniqueViolation, ReferenceViolation) as error:
                if self._with_dependents().keys() == wanted.keys():
                    self._withdraw(error)
                # Else a new reference to a deleted record: it is one more dependent.
            else:
                if self._removed is not None:
                    self._hook(self._removed)
                written = zip(batch.operations, versions, strict=True)
                return [pair for pair in written if pair[0].collection != AUDIT]

    def _plan(self, operation: Operation) -> None:
        self._planned[operation.collection, operation.key] = operation

    def _plan_header(self) -> None:
        """Plan the header, if the editor has changed members beside the records."""
        found, (version, shown) = self._found, self._found.header
        if found.parsed.header in (found.content.header, shown):
            return
        header, present = found.parsed.header, found.content
        if version != present.header_version:
            self._retain_members(shown, present.header, header)
            if shown is not None:
                header = self._layout.merged_header(shown, present.header, header)
        self._plan(self._schema.put(LEGACY_FILES, header))

    def _retain_members(
        self, shown: LegacyFile | None, present: LegacyFile, edited: LegacyFile
    ) -> None:
        """Quarantine the overruled members beside the records, after a conflict."""
        lost = self._layout.overruled_members(shown, present, edited)
        for name, value in lost.items():
            reason = "a commit set it, and another program set it in the file meanwhile"
            self._plan(beside_of(self._schema, self._layout, name, value, reason))
        self._emit(
            "outside-edit-met-commit",
            f"what stands beside the records of {self._layout.file} was changed by "
            "another program and by a commit at the same time; "
            + (
                f"of {_quoted(lost)} the edit counts, and what the commit "
                "had set is in quarantine"
                if lost
                else "both are kept"
            ),
        )

    def _checks(self, wanted: Iterable[Place]) -> Mapping[Place, int]:
        """Return the expected versions for the commit.

        Of the file's own records only those that are written: the others were compared
        with the file alone.
        """
        content, reads = self._found.content, self._found.reads
        for place in wanted:
            if place[0] in {self._layout.collection, QUARANTINE}:
                row = content.row(token_of(*place))
                reads.record(place, row[0] if row else self._version(place))
            elif place[0] == LEGACY_FILES:
                reads.record(place, content.header_version)
        return reads.checks

    def _version(self, place: Place) -> int:
        """Return the version of a row that does not stand in the file."""
        if place[0] != QUARANTINE:
            return 0
        with self._engine.live() as live:
            row = live.state.table(QUARANTINE).row(place[1])
        return 0 if row is None else row.version

    # -- refused operations -------------------------------------------------------------

    def _withdraw(self, error: UniqueViolation | ReferenceViolation) -> None:
        """Withdraw the operation that the store has refused, and quarantine its value."""
        if isinstance(error, UniqueViolation):
            place = (error.collection, error.key)
        else:
            place = _refused_place(self._planned, error)
        if place not in self._planned:  # a dependent was refused: nothing to withdraw
            raise error
        operation = self._planned.pop(place)
        overruled = self._overruled.pop(place, None)
        if overruled is not None:  # the committed value stays: it is not overruled
            self._planned.pop(overruled, None)
        if isinstance(operation, Put) and place[0] == self._layout.collection:
            self._set_aside(operation, error)
        self._emit(
            "outside-edit-refused",
            f"{self._layout.file} was changed by another program, and what it says of "
            f"{self._event_label(operation)} cannot be: {error}",
        )

    def _event_label(self, operation: Operation) -> str:
        return record_name(self._schema[operation.collection], self._label(operation))

    def _label(self, operation: Operation) -> str:
        """Return the name of an operation's record, as the file shows it."""
        found = self._found
        if operation.collection == self._layout.collection:
            if isinstance(operation, Put):
                return name_of(self._layout, found.parsed.header, operation.record)
            row = found.base.get(operation.key) or found.content.row(operation.key)
            if row is not None:
                record = found.content.decode(operation.key, row[1])
                return name_of(self._layout, found.parsed.header, record)
        return record_label(self._schema[operation.collection], operation.key)

    def _set_aside(self, put: Put, error: UniqueViolation | ReferenceViolation) -> None:
        """Quarantine a refused value: in its place in the file, unless that is taken."""
        header = self._found.parsed.header
        if self._is_taken(put, error):
            self._quarantine(put.record, header, f"the store refused it: {error}")
            return
        aside = self._layout.set_aside(self._schema, header, put.record, str(error))
        seen = dataclasses.replace(aside.record, seen_at=datetime.now(UTC))
        self._planned[aside.collection, aside.key] = self._schema.put(QUARANTINE, seen)

    def _is_taken(self, put: Put, error: UniqueViolation | ReferenceViolation) -> bool:
        """Return True if a value of the store stands in the same place of the file."""
        if self._found.content.row(put.key) is not None:
            return True
        if isinstance(error, ReferenceViolation):
            return False
        called = self._label(put)
        with self._engine.live() as live:
            table = live.state.table(put.collection)
            values = index_value(put.record, error.fields) or ()
            rows = [table.row(key) for key in table.index(error.fields).keys(values)]
        header, records = self._found.parsed.header, [r.record for r in rows if r]
        return any(
            name_of(self._layout, header, record) == called
            for record in records
            if self._layout.owns(record)
        )

    def _quarantine(self, record: Any, header: LegacyFile, reason: str) -> Put:
        """Quarantine an overruled value, apart from the file."""
        aside = aside_of(self._schema, self._layout, header, record, reason)
        self._plan(aside)
        return aside

    # -- conflicts with commits ---------------------------------------------------------

    def _rebased(self, operation: Operation) -> Operation | None:
        """Rebase the edit of a record onto commits made since the file was written.

        None if the commits resulted in the same text as the edit.
        """
        content, key = self._found.content, operation.key
        if operation.collection != content.collection:
            return operation
        before, now = self._found.base.get(key), content.row(key)
        if _version(before) == _version(now):  # no commit since the file was written
            return operation
        if self._has_same_text(operation, now):
            return None
        return self._resolved(operation, before, now)

    def _resolved(self, operation: Operation, before: _Row, now: _Row) -> Operation:
        """Resolve a conflict of an edit and a commit on one record."""
        content, key = self._found.content, operation.key
        if now is None:
            self._emit_met_commit(operation, "deleted", "changed", "the edit counts")
            return operation
        committed = content.decode(key, now[1])
        if isinstance(operation, Delete):
            self._overrule(operation, committed, "written", "deleted")
            return operation
        if before is None:
            self._overrule(operation, committed, "written", "added")
            record = self._layout.merged(committed, operation.record)
            return self._schema.put(
                operation.collection, self._placed(record, operation)
            )
        return self._merged(operation, content.decode(key, before[1]), committed)

    def _merged(self, operation: Put, base: Any, committed: Any) -> Put:
        """Merge both changes of a record, three-way."""
        layout, schema = self._layout, self._schema
        record, lost = merge(base, committed, operation.record, layout.computed)
        # Parsed back from its text, so that computed fields agree with the merged ones.
        text = aside_of(schema, layout, self._found.parsed.header, record, "").record
        entry = layout.retry(schema, text)
        if entry.home.collection == operation.collection:
            record = self._placed(layout.merged(record, entry.home.record), operation)
        if lost:
            how = f"of {', '.join(lost)} the edit counts"
            self._overrule(operation, committed, "changed", "changed", how)
        else:
            self._emit_met_commit(
                operation, "changed", "changed", "both changes are kept"
            )
        return self._schema.put(operation.collection, record)

    def _placed(self, record: Any, edited: Put) -> Any:
        position = self._layout.position(edited.record)
        return record if position is None else self._layout.placed(record, position)

    def _overrule(
        self,
        operation: Operation,
        committed: Any,
        did: str,
        edit: str,
        how: str = "the edit counts",
    ) -> None:
        """Quarantine a committed value that an edit overrules."""
        reason = (
            f"a commit had {did} it, and another program {edit} it in the file: {how}"
        )
        aside = self._quarantine(committed, self._found.parsed.header, reason)
        self._overruled[operation.collection, operation.key] = (QUARANTINE, aside.key)
        kept = f"{how}, and what the commit had written is in quarantine as {aside.key}"
        self._emit_met_commit(operation, did, edit, kept)

    def _emit_met_commit(
        self, operation: Operation, did: str, edit: str, how: str
    ) -> None:
        self._emit(
            "outside-edit-met-commit",
            f"{self._layout.file}: {self._event_label(operation)} was {did} by a commit and "
            f"{edit} by another program at the same time; {how}",
        )

    def _has_same_text(self, operation: Operation, now: _Row) -> bool:
        if now is None or isinstance(operation, Delete):
            return now is None and isinstance(operation, Delete)
        content, layout = self._found.content, self._layout
        committed = content.decode(operation.key, now[1])
        text = layout.render_one(content.header, committed)
        return text == layout.render_one(content.header, operation.record)

    def _with_dependents(self) -> dict[Place, Operation]:
        """Return the planned operations and their dependents: what refers to deleted records.

        Raises:
            Conflict: a record was changed since it was read for the same edit.
        """
        schema, layouts = self._schema, self._engine.layouts
        lookups = EditLookups(self._engine, self._found.reads)
        removal = Removal(schema, layouts, self._layout, lookups)
        wanted = removal.settle(self._planned.values())
        self._removed = removal.event()
        return wanted

    def _emit(self, name: str, message: str) -> None:
        self._hook(Event(name, message, logging.WARNING))


def _version(row: _Row) -> int:
    return 0 if row is None else row[0]


def _add(batch: Batch, meta: _Meta, plan: Plan) -> tuple[int, ...]:
    schema = plan.state.schema
    if not is_due(schema, batch):
        return plan.add(batch, None, meta=meta)
    rows = {
        name: {key: row for key in keys if (row := plan.present(name, key)) is not None}
        for name, keys in places_due(schema, batch).items()
    }
    made, _ = with_images(schema, batch, rows)
    return versions_in(batch.operations, made, plan.add(made, None, meta=meta))


def _refused_place(
    wanted: dict[tuple[str, str], Operation], error: ReferenceViolation
) -> tuple[str, str]:
    """Return the place of the operation that a reference violation refuses."""
    target = (error.target, error.value)
    if isinstance(wanted.get(target), Delete):
        return target
    for place, operation in wanted.items():
        if (
            place[0] == error.collection
            and isinstance(operation, Put)
            and getattr(operation.record, error.field) == error.value
        ):
            return place
    raise PendStorageError(str(error)) from error


def _quoted(names: Iterable[str]) -> str:
    return listed(map(shown, names))
