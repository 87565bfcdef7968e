"""Legacy files that somebody else has changed: what was changed, and what comes of it.

The file is compared with what it showed before, not with what the store holds now, so
that a commit which is not in the file yet is not taken for a deletion by the editor.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pend_storage.diff import equal
from pend_storage.errors import (
    Conflict,
    PendStorageError,
    ReferenceViolation,
    StaleEpoch,
    UniqueViolation,
)
from pend_storage.events import Event, Hook
from pend_storage.layout import Entry, Layout, ParsedFile, is_whole_file
from pend_storage.phases import Role
from pend_storage.records import Batch, Delete, Put, QuarantinedRecord
from pend_storage.schema import LEGACY_FILES, QUARANTINE
from pend_storage.stores.json.content import Content, Seen, content_of, match
from pend_storage.stores.json.engine import Engine
from pend_storage.stores.json.past import state_at
from pend_storage.stores.json.views import (
    Signature,
    View,
    digest_of,
    place_of,
    token_of,
)
from pend_storage.stores.plan import Plan

__all__ = ["EDIT_MARK", "Edit", "adopted_meta"]

EDIT_MARK: Final = "#edit"
"""Behind the file name of quarantined records that an editor's file held in vain."""
_ATTEMPTS: Final = 5

Rows = dict[str, tuple[int, bytes]]
Operation = Put | Delete


def adopted_meta(file: str) -> str:
    """Name of the meta entry with the digest of the last edit that was adopted."""
    return f"json.adopted:{file}"


@dataclass(slots=True)
class _Found:
    """What an edited file says, beside what the store says."""

    parsed: ParsedFile
    seen: list[Seen]
    content: Content
    base: Rows
    """The rows that the file showed before the edit."""
    operations: list[Operation]


class Edit:
    """One edited file."""

    def __init__(
        self,
        engine: Engine,
        layout: Layout,
        raw: bytes,
        view: View | None,
        hook: Hook,
    ) -> None:
        """Make one.

        Args:
            engine: the store.
            layout: of the file.
            raw: the file as it is now.
            view: what it showed before; None where it was not there.
            hook: is told what came of it.
        """
        self._engine = engine
        self._layout = layout
        self._raw = raw
        self._view = view
        self._hook = hook

    def adopt(self, signature: Signature) -> View | None:
        """Bring the edit into the store; gives what the file shows now.

        None where roles are changing: look again later.

        Args:
            signature: of the edited file.
        """
        for _ in range(_ATTEMPTS):
            found = self._find()
            try:
                return self._carry_out(found, signature)
            except Conflict:
                continue  # somebody has committed meanwhile: look again
            except StaleEpoch:
                return None
        return None

    def _carry_out(self, found: _Found, signature: Signature) -> View | None:
        with self._engine.live() as live:
            role = live.state.role.role
            already = live.state.meta.get(adopted_meta(self._layout.file))
        view = View(signature, digest_of(self._raw), self._positions(found))
        view.broken = _is_broken(found.seen, found.content)
        if already == view.digest:  # and then we died before we could note it
            found.base = self._current(found.content)
        elif role is Role.SECONDARY:
            self._set_aside_all(found, view.digest)
        elif role is Role.PRIMARY:
            self._commit_all(found, view.digest)
        else:
            return None
        return self._viewed(view, found)

    # -- what was changed ---------------------------------------------------------------

    def _find(self) -> _Found:
        with self._engine.live() as live:
            content = content_of(live, self._layout, {})
        base = self._base(content)
        seen: list[Seen] = []
        parsed = self._layout.parse(content.schema, self._raw)
        noted = ParsedFile(parsed.header, _noted(parsed.entries, seen))
        present = [content.decode(token, row[1]) for token, row in base.items()]
        operations = list(
            self._layout.adopt(
                content.schema, noted, present, lambda c, k: self._look(base, c, k)
            )
        )
        if self._view is None:  # it showed nothing before, so nothing was taken out
            operations = [o for o in operations if isinstance(o, Put)]
        return _Found(parsed, seen, content, base, operations)

    def _base(self, content: Content) -> Rows:
        """The rows that the file showed before somebody changed it."""
        if self._view is None:
            return self._current(content)
        base = _whole_files(content)
        missing: dict[str, int] = {}
        for token, version in self._view.known().items():
            row = content.row(token)
            if row is not None and row[0] == version:
                base[token] = row
            else:
                missing[token] = version
        for position in self._view.positions if missing else ():
            state = state_at(self._engine.directory, content.schema, position)
            if state is None:
                continue
            for token, version in missing.items():
                name, key = place_of(token, self._layout.collection)
                row = state.tables[name].rows.get(key)
                if row is not None and row[0] == version:
                    base[token] = row
        return base

    def _current(self, content: Content) -> Rows:
        rows = ((token, content.row(token)) for token in content.tokens())
        return {**_whole_files(content), **{t: r for t, r in rows if r is not None}}

    def _look(self, base: Rows, collection: str, key: str) -> Any:
        """A record for the layout: of this file as it was, of others as they are."""
        mine = collection in {self._layout.collection, QUARANTINE}
        row = base.get(token_of(collection, key)) if mine else None
        if row is not None:
            return self._engine.schema[collection].codec.decode(row[1])
        with self._engine.live() as live:
            found = live.state.table(collection).row(key)
        if found is None or (mine and self._layout.owns(found.record)):
            return None  # committed to this file, but never shown in it
        return found.record

    def _positions(self, found: _Found) -> tuple[Any, ...]:
        """Where the rows are found that the file shows now."""
        old = () if self._view is None else self._view.positions
        return (*old[-1:], found.content.position)

    # -- as primary: ordinary commits -----------------------------------------------------

    def _commit_all(self, found: _Found, digest: str) -> None:
        schema = found.content.schema
        operations = [self._rebased(found, o) for o in found.operations]
        operations = list(self._freed(found.content, operations))
        if found.content.header != found.parsed.header:
            operations.append(schema.put(LEGACY_FILES, found.parsed.header))
        meta = ((adopted_meta(self._layout.file), digest),)
        written = self._commit(found, operations, meta)
        self._note(found, written)
        changed = len(written)
        if changed:
            self._tell(
                "outside-edit-adopted",
                f"{self._layout.file} was changed by somebody else; {changed} changes were "
                "adopted as commits",
            )

    def _commit(
        self,
        found: _Found,
        operations: list[Operation],
        meta: tuple[tuple[str, Any], ...],
    ) -> list[tuple[Operation, int]]:
        """Commit what the store accepts; what it refuses goes to quarantine."""
        schema = found.content.schema
        wanted = {(o.collection, o.key): o for o in operations}
        while True:
            batch = schema.batch(wanted.values(), self._checks(found, wanted))
            commit = functools.partial(_add, batch, meta)
            try:
                versions = self._engine.submit(commit)
            except (UniqueViolation, ReferenceViolation) as error:
                self._drop(found, wanted, error)
                continue
            return list(zip(batch.operations, versions, strict=True))

    def _checks(
        self, found: _Found, wanted: dict[tuple[str, str], Operation]
    ) -> dict[tuple[str, str], int]:
        """What was compared must not have changed until the commit."""
        mine = {self._layout.collection, QUARANTINE}
        return {
            place: row[0] if (row := found.content.row(token_of(*place))) else 0
            for place in wanted
            if place[0] in mine
        }

    def _drop(
        self,
        found: _Found,
        wanted: dict[tuple[str, str], Operation],
        error: UniqueViolation | ReferenceViolation,
    ) -> None:
        """Take out the operation that the store has refused."""
        if isinstance(error, UniqueViolation):
            place = (error.collection, error.key)
        else:
            place = _refused_place(wanted, error)
        operation = wanted.pop(place)
        if isinstance(operation, Put) and place[0] == self._layout.collection:
            header = found.parsed.header
            aside = self._layout.set_aside(
                found.content.schema, header, operation.record, str(error)
            )
            seen = dataclasses.replace(aside.record, seen_at=datetime.now(UTC))
            aside = found.content.schema.put(QUARANTINE, seen)
            wanted[aside.collection, aside.key] = aside
        self._tell(
            "outside-edit-refused",
            f"{self._layout.file} was changed by somebody else, and what it says of "
            f"{place[0]}[{place[1]!r}] cannot be: {error}",
            logging.WARNING,
        )

    def _rebased(self, found: _Found, operation: Operation) -> Operation:
        """The edit of a record, on top of what was committed to it meanwhile."""
        if isinstance(operation, Delete) or operation.collection == QUARANTINE:
            return operation
        if operation.collection != self._layout.collection:
            return operation
        before = found.base.get(operation.key)
        now = found.content.row(operation.key)
        if before is None or now is None or before[0] == now[0]:
            return operation
        old = found.content.decode(operation.key, before[1])
        record = found.content.decode(operation.key, now[1])
        edited = {
            f.name: value
            for f in dataclasses.fields(old)
            if not equal(
                getattr(old, f.name), value := getattr(operation.record, f.name)
            )
        }
        self._tell(
            "outside-edit-met-commit",
            f"{self._layout.file}: {operation.key!r} was changed by somebody else and "
            f"by a commit at the same time; of {', '.join(edited)} the edit counts",
            logging.WARNING,
        )
        merged = dataclasses.replace(record, **edited)
        return found.content.schema.put(operation.collection, merged)

    def _freed(
        self, content: Content, operations: list[Operation]
    ) -> Iterator[Operation]:
        """The operations, and before each deletion what lets go of the record."""
        taken = {(o.collection, o.key) for o in operations}
        for operation in operations:
            if isinstance(operation, Delete):
                yield from self._letting_go(content, operation, taken)
            yield operation

    def _letting_go(
        self, content: Content, delete: Delete, taken: set[tuple[str, str]]
    ) -> Iterator[Put]:
        for spec, name in content.schema.referrers(delete.collection):
            if not spec.fields[name].optional:
                continue
            with self._engine.live() as live:
                table = live.state.table(spec.name)
                rows = [table.row(k) for k in table.index((name,)).keys((delete.key,))]
            for row in rows:
                if row is not None and (spec.name, row.key) not in taken:
                    record = dataclasses.replace(row.record, **{name: None})
                    yield content.schema.put(spec.name, record)

    def _note(self, found: _Found, written: list[tuple[Operation, int]]) -> None:
        """Bring the base to what the file shows now."""
        for operation, version in written:
            if operation.collection not in {self._layout.collection, QUARANTINE}:
                continue
            token = token_of(operation.collection, operation.key)
            if isinstance(operation, Put):
                found.base[token] = (version, operation.body)
            else:
                found.base.pop(token, None)

    # -- as secondary: nothing is adopted, nothing is lost --------------------------------

    def _set_aside_all(self, found: _Found, digest: str) -> None:
        puts = [
            self._quarantined(found, operation)
            for operation in found.operations
            if isinstance(operation, Put)
            and operation.collection in {self._layout.collection, QUARANTINE}
        ]
        meta = ((adopted_meta(self._layout.file), digest),)

        self._engine.submit(lambda plan: plan.note(puts, meta))
        if found.operations:
            self._tell(
                "outside-edit-quarantined",
                f"{self._layout.file} was changed by somebody else while another store is "
                f"primary; {len(puts)} records were put in quarantine, and the file will "
                "be written again",
                logging.WARNING,
            )

    def _quarantined(self, found: _Found, operation: Put) -> Put:
        layout, schema = self._layout, found.content.schema
        raw = layout.render_one(found.parsed.header, operation.record)
        record = operation.record
        place = record.place if isinstance(record, QuarantinedRecord) else operation.key
        digest = hashlib.sha256(raw).hexdigest()[:32]
        aside = QuarantinedRecord(
            id=f"{layout.file}{EDIT_MARK}#{digest}",
            file=f"{layout.file}{EDIT_MARK}",
            place=place,
            raw=raw,
            code="edited-while-secondary",
            reason="the file was changed while another store was primary",
            seen_at=datetime.now(UTC),
        )
        return schema.put(QUARANTINE, aside)

    # -- afterwards -----------------------------------------------------------------------

    def _viewed(self, view: View, found: _Found) -> View:
        """What the file shows now, row by row."""
        with self._engine.live() as live:
            content = content_of(live, self._layout, {})
        view.positions = (*view.positions, content.position)
        view.header = content.header_version
        if view.broken and self._view is not None:
            old = self._view
            view.tokens, view.versions = old.tokens, old.versions
            view.starts, view.ends = old.starts, old.ends
            return view
        shown = dataclasses.replace(content, homes=found.base, aside={}, others={})
        match(view, found.seen, shown)
        return view

    def _tell(self, name: str, message: str, level: int = logging.INFO) -> None:
        self._hook(Event(name, message, level))


def _add(
    batch: Batch, meta: tuple[tuple[str, Any], ...], plan: Plan
) -> tuple[int, ...]:
    return plan.add(batch, None, meta=meta)


def _noted(entries: Iterable[Entry], seen: list[Seen]) -> Iterator[Entry]:
    for entry in entries:
        seen.append(Seen.of(entry))
        yield entry


def _whole_files(content: Content) -> Rows:
    """The rows that say that the file was broken as a whole."""
    return {
        token: row
        for token, row in content.aside.items()
        if is_whole_file(content.decode(token, row[1]))
    }


def _is_broken(seen: list[Seen], content: Content) -> bool:
    if len(seen) != 1 or place_of(seen[0].token, "")[0] != QUARANTINE:
        return False
    return is_whole_file(content.decode(seen[0].token, seen[0].body))


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
