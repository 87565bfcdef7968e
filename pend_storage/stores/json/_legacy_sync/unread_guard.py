"""Unread file guard: refuses answers that rest on a legacy file that was never readable.

Evaluated together with the state, under one lock: otherwise an answer could come from
before a file was read, while the guard already sees it as read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pend_storage._layouts.layout import Layout
from pend_storage._layouts.unread_files import UnreadFile, UnreadFiles, unread_of
from pend_storage._model.records import Batch, QuarantinedRecord, Row
from pend_storage.errors import CorruptFile, ReferenceViolation
from pend_storage.events import Event
from pend_storage.phases import Role
from pend_storage.query import Condition, make_query
from pend_storage.schema import LEGACY_FILES, QUARANTINE
from pend_storage.stores._inmemory.state import State
from pend_storage.stores._inmemory.write_planner import Plan

__all__ = ["UnreadFileGuard", "file_broken"]


class UnreadFileGuard:
    """Refuse reads and writes that rest on an unread file, while the store is primary."""

    def __init__(self, layouts: Iterable[Layout], paths: Mapping[str, Path]) -> None:
        self._layouts: Final = {layout.file: layout for layout in layouts}
        self._paths: Final = paths

    def is_free(self, state: State, collection: str) -> bool:
        """Return True if no read of a collection is refused; False if that is not known.

        Needs no mutex.
        """
        unread = state.unread
        return unread is not None and not unread.concern(collection)

    def files(self, state: State) -> tuple[UnreadFile, ...]:
        """Return the unread files, in any role of the store. Hold the mutex."""
        return () if state.is_read else self._unread_files(state).files

    def _unread_files(self, state: State) -> UnreadFiles:
        if state.unread is None:
            found = UnreadFiles(self._find_unread(state), self._layouts)
            state.is_read, state.unread = not found.files, found
        return state.unread

    def _find_unread(self, state: State) -> Iterator[UnreadFile]:
        headers = state.table(LEGACY_FILES)
        aside = state.table(QUARANTINE)

        def entries(file: str) -> Iterator[Row]:
            for key in aside.index(("file",)).keys((file,)) if aside.rows else ():
                row = aside.row(key)
                assert row is not None  # noqa: S101 - the index has it
                yield row

        decode = headers.spec.codec.decode
        present = [
            Row(k, version, decode(b)) for k, (version, b) in headers.rows.items()
        ]
        return unread_of(present, entries, self._layouts, self._paths)

    def _active_guard(self, state: State) -> UnreadFiles | None:
        """Return the unread files to guard; None if nothing is refused."""
        if state.is_read or state.role.role is not Role.PRIMARY:
            return None
        return self._unread_files(state)

    # -- hold the mutex -------------------------------------------------------------------

    def require_rows(
        self,
        state: State,
        collection: str,
        keys: Iterable[str],
        found: Mapping[str, Row],
    ) -> None:
        """See :meth:`UnreadFiles.require_rows`."""
        unread = self._active_guard(state)
        if unread is not None:
            unread.require_rows(state.schema[collection].name, keys, found)

    def refusal(
        self, state: State, collection: str, where: Condition
    ) -> CorruptFile | None:
        """See :meth:`UnreadFiles.refusal`."""
        unread = self._active_guard(state)
        return (
            None if unread is None else unread.refusal(state.schema[collection], where)
        )

    def require_all(self, state: State, collection: str, where: Condition) -> None:
        """Require that no record of an unread file could match a condition.

        Raises:
            CorruptFile: one could.
        """
        refusal = self.refusal(state, collection, where)
        if refusal is not None:
            raise refusal

    def require_file(self, state: State, layout: Layout) -> None:
        """Require that a layout's file was read.

        Raises:
            CorruptFile: it was not.
        """
        if not state.is_read and self._active_guard(state) is not None:
            where = make_query(state.schema[layout.collection], layout.where).where
            self.require_all(state, layout.collection, where)

    def add(self, batch: Batch, epoch: int | None, plan: Plan) -> tuple[int, ...]:
        """Plan a commit, unless it rests on an unread file.

        Raises:
            CorruptFile: it does.
        """
        state = plan.state
        unread = self._active_guard(state)
        # A repeated commit that succeeded before is answered, not refused.
        if unread is None or plan.is_done(batch):
            return plan.add(batch, epoch)
        state.require(Role.PRIMARY, epoch)

        def find(collection: str, key: str) -> Any:
            row = state.table(collection).row(key)
            return None if row is None else row.record

        unread.require_commit(batch, find)
        try:
            return plan.add(batch, epoch)
        except ReferenceViolation as error:
            # The missing target may be in an unread file: that is the better answer.
            if find(error.target, str(error.value)) is None:
                unread.require_target(error.target, str(error.value))
            raise


def file_broken(entry: QuarantinedRecord, *, is_unread: bool) -> Event:
    """Return the event ``file-broken``.

    Args:
        entry: quarantine entry of the whole file.
        is_unread: nothing of the file could ever be read.
    """
    rest = (
        "Nothing of it could be read: look-ups and writes that rest on it are refused"
        if is_unread
        else "What the store had read of it before is served, and kept"
    )
    return Event(
        "file-broken",
        f"{entry.file} cannot be read, and is left as it is: {entry.reason.rstrip('.')}. "
        f"{rest}, until the file is repaired in its place, or its entry in quarantine, "
        f"{entry.id}, is accepted to have it written from the store",
        logging.ERROR,
        {"file": entry.file, "id": entry.id, "is_unread": is_unread},
    )
