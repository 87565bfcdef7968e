"""Recovery of a directory: its snapshots, loading it from a backup, histories of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import partial
from typing import Final

from pend_storage._files.failures import translated
from pend_storage._model.snapshots import (
    KeyChange,
    LogPoint,
    SnapshotReader,
    StoredChange,
    StoredRow,
)
from pend_storage._recovery_defaults import key_changes
from pend_storage._schema_note import Description
from pend_storage.events import Progress
from pend_storage.phases import IDENTITY_META, ROLE_META, RoleState
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.bulk_rows import (
    ContentsReader,
    NewestRows,
    contents_of,
    decoded_contents,
    require_empty,
    require_no_role,
    with_rows,
)
from pend_storage.stores._inmemory.state import SCHEMA_META, ChangedRow
from pend_storage.stores._inmemory.table import Contents
from pend_storage.stores._inmemory.write_planner import Plan
from pend_storage.stores._signal_shield import shielded
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.history_reader import entries_about
from pend_storage.stores.json._journal.replica import Replica
from pend_storage.stores.json._journal.replica_state import ReplicaState
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission

__all__ = ["DirectoryRecovery"]

_MOST_APPENDED: Final = 20_000
"""Rows of a loaded change log that go to the journal at most."""
_RESERVED: Final = ".numbers"
"""Collection that no schema can have: its one tombstone has the highest reserved number
as its version. Programs that do not know of it count above every version all the same."""


class DirectoryRecovery:
    """Recovery verbs of an open directory."""

    def __init__(self, schema: Schema, admission: SchemaAdmission) -> None:
        """Keep the schema.

        Args:
            schema: the collections.
            admission: knows whether a newer program has added to the schema.
        """
        self._schema = schema
        self._admission = admission

    def snapshot(self, engine: Engine) -> SnapshotReader:
        """Copy the tables under the commit lock; rows are read from the copy.

        Raises:
            LockTimeout: another process holds the commit lock for too long.
            SchemaOutOfDate: a newer program has added to the schema.
        """
        cut, at = shielded(engine.cut)
        self._admission.require_whole()
        meta = deepcopy(cut.meta)
        point = LogPoint(
            identity=str(meta[IDENTITY_META]),
            epoch=RoleState.from_meta(meta.get(ROLE_META)).epoch,
            sequence=cut.sequence,
        )
        # Rows from before an addition to the schema lack the new members.
        note = Description.from_json(meta[SCHEMA_META])
        return ContentsReader(
            self._schema, cut.contents, point, at, meta, canonical=not note.ancestors
        )

    def load_snapshot(
        self,
        engine: Engine,
        rows: Iterable[tuple[str, StoredRow]],
        progress: Progress | None,
    ) -> int:
        """Write rows as the snapshot of an empty store; see :meth:`Store.load_snapshot`."""
        engine.read_state(require_empty)
        self._admission.require_whole()
        contents = decoded_contents(self._schema, rows, progress)
        count = sum(len(there) + len(graves) for there, graves in contents.values())
        if count:
            shielded(partial(engine.replace_contents, partial(_loaded, contents)))
        return count

    def load_changes(self, engine: Engine, changes: Iterable[StoredChange]) -> int:
        """Write the newest row of each key, outside of the change log.

        Few rows are appended to the journal. Many are written as a snapshot, because the
        journal would keep them for as long as the change log is retained.
        """
        engine.read_state(require_no_role)
        self._admission.require_whole()
        newest = NewestRows(self._schema, changes)
        is_replaced = len(newest.rows) > _MOST_APPENDED and shielded(
            partial(engine.replace_contents, partial(_merged, newest))
        )
        if not is_replaced:
            shielded(partial(_append, engine, newest))
        return newest.entries

    def reserve_numbers(self, engine: Engine, above: int) -> None:
        """Record a number below all later ones, as the version of a tombstone."""
        mark = ChangedRow(_RESERVED, "", above, None)

        def reserve(plan: Plan) -> None:
            if plan.state.sequence < above:
                plan.rewrite([mark], ())

        engine.submit(reserve)

    def record_history(
        self, engine: Replica, collection: str, key: str, before: int | None
    ) -> Iterator[KeyChange]:
        """Yield the changes of one key, read from the segments, the last one first."""
        self._admission.require_whole()
        state, end = engine.read_replica(
            lambda live: (live.state, live.journal.position)
        )
        floor = self._admission.floor  # entries up to it are of a former schema
        with translated(engine.directory):
            for entry in entries_about(engine.directory, collection, key, end):
                if entry.sequence <= floor:
                    return
                if before is None or entry.sequence < before:
                    yield from key_changes(state.change_of(entry), collection, key)


def _loaded(contents: dict[str, Contents], live: ReplicaState) -> dict[str, Contents]:
    """Return the rows of a backup with what an empty store has already."""
    require_empty(live.state)
    return {**contents_of(live.state), **contents}


def _merged(newest: NewestRows, live: ReplicaState) -> dict[str, Contents] | None:
    """Return all rows with newer ones; None where the store has a log of its own to keep."""
    require_no_role(live.state)
    if live.log_end:
        return None
    return with_rows(contents_of(live.state), newest.newer_than(live.state))


def _append(engine: Engine, newest: NewestRows) -> None:
    """Commit what is newer than the state, alone: no other commit is planned with it."""

    def load(plan: Plan) -> None:
        require_no_role(plan.state)
        rows = list(newest.newer_than(plan.state))
        if rows:
            plan.rewrite(rows, ())

    with engine.exclusive() as submit:
        submit(load)
