"""Commits what somebody else has changed in a legacy file, as far as the rules allow.

Whole records are written, computed from records that were read: of the file, of those
that it derives, of those that refer to a deleted one. The commit checks the version of
each, so that a commit made in between is never overwritten: it raises ``Conflict``, and
the edit is compared again with what the store holds by then.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from pend_storage.diff import equal
from pend_storage.errors import PendStorageError, ReferenceViolation, UniqueViolation
from pend_storage.events import Event, Hook
from pend_storage.layout import Layout, ParsedFile
from pend_storage.records import JSON, Batch, Delete, LegacyFile, Put, Row
from pend_storage.schema import LEGACY_FILES, QUARANTINE
from pend_storage.shown import shown
from pend_storage.stores.json.content import Content, Seen
from pend_storage.stores.json.engine import Engine, Submit
from pend_storage.stores.json.read_set import Place, ReadSet
from pend_storage.stores.json.views import token_of
from pend_storage.stores.plan import Plan

__all__ = ["EditCommit", "Found", "Operation", "Rows"]

Rows: TypeAlias = dict[str, tuple[int, bytes]]
"""Token to version and body."""
Operation: TypeAlias = Put | Delete
_Meta: TypeAlias = tuple[tuple[str, JSON], ...]


@dataclass(slots=True)
class Found:
    """What an edited file says, beside what the store says."""

    parsed: ParsedFile
    seen: list[Seen]
    content: Content
    base: Rows
    """The rows that the file showed before the edit."""
    header: tuple[int, LegacyFile | None]
    """Version and content of the header by which the file was written before the edit;
    no content where that is not known any more."""
    operations: list[Operation]
    reads: ReadSet
    """What else was read of the store to compute the operations."""


class EditCommit:
    """The commit of one edit. What the store refuses goes to quarantine."""

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        found: Found,
        *,
        submit: Submit,
        hook: Hook,
    ) -> None:
        """Make one.

        Args:
            engine: is read.
            layout: of the file.
            found: the edit.
            submit: carries the commit out.
            hook: is told what was refused, and what met a commit.
        """
        self._engine = engine
        self._submit = submit
        self._layout = layout
        self._found = found
        self._schema = found.content.schema
        self._hook = hook
        self._wanted: dict[Place, Operation] = {}

    def run(self, meta: _Meta) -> list[tuple[Operation, int]]:
        """Commit; gives what was written, with its versions.

        Args:
            meta: named values to set together with it.

        Raises:
            Conflict: a record that was read was committed to since.
            StaleEpoch: the store is not primary any more.
        """
        for operation in self._found.operations:
            rebased = self._rebased(operation)
            if rebased is not None:
                self._want(rebased)
        self._want_header()
        while True:
            wanted = self._with_freed()
            checks = self._checks(wanted)
            batch = self._schema.batch(wanted.values(), checks, limited=False)
            try:
                versions = self._submit(functools.partial(_add, batch, meta))
            except (UniqueViolation, ReferenceViolation) as error:
                if self._with_freed().keys() == wanted.keys():
                    self._drop(error)
                # Else something has come to refer to what is to be deleted.
            else:
                return list(zip(batch.operations, versions, strict=True))

    def _want(self, operation: Operation) -> None:
        self._wanted[operation.collection, operation.key] = operation

    def _want_header(self) -> None:
        """What stands beside the records, if the editor has changed it."""
        found, (version, shown) = self._found, self._found.header
        if found.parsed.header in (found.content.header, shown):
            return
        header, present = found.parsed.header, found.content
        if version != present.header_version:
            self._tell(
                "outside-edit-met-commit",
                f"what stands beside the records of {self._layout.file} was changed by "
                "somebody else and by a commit at the same time; of what both changed, "
                "the edit counts",
            )
            if shown is not None:
                header = self._layout.merged_header(shown, present.header, header)
        self._want(self._schema.put(LEGACY_FILES, header))

    def _checks(self, wanted: Iterable[Place]) -> Mapping[Place, int]:
        """What was read must not have changed until the commit.

        Of the file's own records only those that are written: what the others are is
        compared with the file alone.
        """
        content, reads = self._found.content, self._found.reads
        for place in wanted:
            if place[0] in {self._layout.collection, QUARANTINE}:
                row = content.row(token_of(*place))
                reads.note(place, row[0] if row else 0)
            elif place[0] == LEGACY_FILES:
                reads.note(place, content.header_version)
        return reads.checks

    # -- what is refused ----------------------------------------------------------------

    def _drop(self, error: UniqueViolation | ReferenceViolation) -> None:
        """Take out the operation that the store has refused."""
        if isinstance(error, UniqueViolation):
            place = (error.collection, error.key)
        else:
            place = _refused_place(self._wanted, error)
        operation = self._wanted.pop(place)
        if isinstance(operation, Put) and place[0] == self._layout.collection:
            self._set_aside(operation, str(error))
        self._tell(
            "outside-edit-refused",
            f"{self._layout.file} was changed by somebody else, and what it says of "
            f"{place[0]}[{shown(place[1])}] cannot be: {error}",
        )

    def _set_aside(self, put: Put, reason: str) -> None:
        header = self._found.parsed.header
        aside = self._layout.set_aside(self._schema, header, put.record, reason)
        seen = dataclasses.replace(aside.record, seen_at=datetime.now(UTC))
        self._wanted[aside.collection, aside.key] = self._schema.put(QUARANTINE, seen)

    # -- what was committed meanwhile ---------------------------------------------------

    def _rebased(self, operation: Operation) -> Operation | None:
        """The edit of a record, on top of what was committed to it meanwhile.

        None where the commit has made of the record what the file says.
        """
        content, key = self._found.content, operation.key
        if operation.collection != content.collection:
            return operation
        before, now = self._found.base.get(key), content.row(key)
        if _version(before) == _version(now):
            return operation
        if before is None or now is None or isinstance(operation, Delete):
            if self._says_the_same(operation, now):
                return None
            self._tell_overruled(operation, now)
            return operation
        old, record = content.decode(key, before[1]), content.decode(key, now[1])
        edited = {
            f.name: value
            for f in dataclasses.fields(old)
            if not equal(
                getattr(old, f.name), value := getattr(operation.record, f.name)
            )
        }
        self._tell(
            "outside-edit-met-commit",
            f"{self._layout.file}: {shown(key)} was changed by somebody else and by a commit "
            f"at the same time; of {', '.join(edited)} the edit counts",
        )
        merged = dataclasses.replace(record, **edited)
        return self._schema.put(operation.collection, merged)

    def _says_the_same(
        self, operation: Operation, now: tuple[int, bytes] | None
    ) -> bool:
        if now is None or isinstance(operation, Delete):
            return now is None and isinstance(operation, Delete)
        content, layout = self._found.content, self._layout
        committed = content.decode(operation.key, now[1])
        text = layout.render_one(content.header, committed)
        return text == layout.render_one(content.header, operation.record)

    def _tell_overruled(
        self, operation: Operation, now: tuple[int, bytes] | None
    ) -> None:
        """Tell of a commit that an edit undoes as a whole."""
        committed = "deleted" if now is None else "written"
        edit = "changed" if now is None else "added"
        if isinstance(operation, Delete):
            edit = "deleted"
        self._tell(
            "outside-edit-met-commit",
            f"{self._layout.file}: {shown(operation.key)} was {committed} by a commit and "
            f"{edit} by somebody else at the same time; the edit counts",
        )

    def _with_freed(self) -> dict[Place, Operation]:
        """What is wanted; records that refer to one that is deleted let go of it.

        Raises:
            Conflict: one of them was changed since it was read for the same edit.
        """
        wanted = dict(self._wanted)
        deleted = [o for o in wanted.values() if isinstance(o, Delete)]
        for operation in deleted:
            for place, name, row in self._referrers(operation):
                known = wanted.get(place)
                if isinstance(known, Delete):
                    continue
                record = row.record if known is None else known.record
                if getattr(record, name) == operation.key:
                    freed = dataclasses.replace(record, **{name: None})
                    wanted[place] = self._schema.put(place[0], freed)
        return wanted

    def _referrers(self, target: Delete) -> Iterator[tuple[Place, str, Row]]:
        """The records that can let go of this one, and the fields by which they refer."""
        for spec, name in self._schema.referrers(target.collection):
            if not spec.fields[name].optional:
                continue
            with self._engine.live() as live:
                table = live.state.table(spec.name)
                keys = list(table.index((name,)).keys((target.key,)))
                rows = [table.row(key) for key in keys]
            for row in rows:
                if row is not None:
                    place = (spec.name, row.key)
                    self._found.reads.note(place, row.version)
                    yield place, name, row

    def _tell(self, name: str, message: str) -> None:
        self._hook(Event(name, message, logging.WARNING))


def _version(row: tuple[int, bytes] | None) -> int:
    return 0 if row is None else row[0]


def _add(batch: Batch, meta: _Meta, plan: Plan) -> tuple[int, ...]:
    return plan.add(batch, None, meta=meta)


def _refused_place(
    wanted: dict[tuple[str, str], Operation], error: ReferenceViolation
) -> tuple[str, str]:
    """The operation that a reference stands against."""
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
