"""JSON store: records in a directory on a local disk, for many threads and processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path

from typing_extensions import override

from pend_storage._files.failures import translated
from pend_storage._fork import on_fork
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.listing import Listing
from pend_storage._layouts.unread_files import UnreadFile
from pend_storage._model.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Outcome,
    Pending,
    Row,
)
from pend_storage._model.snapshots import (
    KeyChange,
    SnapshotReader,
    StoredChange,
    StoredRow,
)
from pend_storage._schema_changes import Evolution
from pend_storage._trusted_users import require_own
from pend_storage._whole_files.exclusive_use import IsHeld
from pend_storage.errors import PendStorageError, own_copy
from pend_storage.events import Hook, Progress, guarded, log_event
from pend_storage.instrumentation import Instruments
from pend_storage.instrumentation._timing import counting, hook_of, timing
from pend_storage.query import Condition, Query
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores._inmemory.write_planner import Plan
from pend_storage.stores._signal_shield import shielded
from pend_storage.stores.json._change_log import ChangeLog
from pend_storage.stores.json._directory_session import DirectorySession, SessionOptions
from pend_storage.stores.json._file_layouts import resolve_layouts
from pend_storage.stores.json._guarded_reads import GuardedReads
from pend_storage.stores.json._journal.compaction import KEEP_A_WEEK, Retention
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.named_locks import named_lock
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission
from pend_storage.stores.json._legacy_sync.file_lag import FileLag, file_lags
from pend_storage.stores.json._legacy_sync.initial_import import AdoptedFile
from pend_storage.stores.json._legacy_sync.unread_guard import UnreadFileGuard
from pend_storage.stores.json._recovery import DirectoryRecovery
from pend_storage.stores.json._schema_evolution import migrate_directory
from pend_storage.stores.json._store_directory import adoption_report, incarnation
from pend_storage.stores.json._unclaimed_files import DATA, unclaimed

__all__ = ["JsonStore"]


class JsonStore(Store):
    """Store records in a directory, synchronised with its legacy JSON files.

    The source of truth is the directory ``.pend-storage``: a snapshot, and a journal of
    all commits since, which is the change log too. Commits are written to the legacy files
    in the background, and edits of other programs in them are adopted as commits.
    """

    refuses_unread = True

    def __init__(
        self,
        schema: Schema,
        directory: str | os.PathLike[str],
        *,
        layouts: Sequence[Layout] = (),
        files: Mapping[str, str | os.PathLike[str]] | None = None,
        include: Sequence[str] = DATA,
        checkpoint_interval: float | None = 1.0,
        lock_timeout: float = 5.0,
        retain: Retention = KEEP_A_WEEK,
        allow_foreign_owner: bool | None = None,
        hook: Hook = log_event,
        progress: Progress | None = None,
        instruments: Instruments | None = None,
    ) -> None:
        """Open a directory; the first opening adopts its legacy files.

        Args:
            schema: the collections.
            directory: of the legacy files; it is created if it is missing.
            layouts: how legacy files map to collections. A collection without one has a
                file of its own name.
            files: path of a layout's file, if it is not below the directory.
            include: patterns of the files below the directory that are data, so that
                :meth:`unclaimed_files` lists those that no layout claims: ``*.json``
                in any folder, ``/*.json`` in the directory itself, ``!package.json``
                not; without any pattern it lists none.
            checkpoint_interval: seconds after which commits are in the legacy files, large
                ones later (:meth:`file_lags`); None: only when :meth:`checkpoint` is
                called, and at :meth:`close`.
            lock_timeout: seconds to wait for another process at most.
            retain: how much of the change log to retain.
            allow_foreign_owner: let a process of root work on a directory of another user,
                which that user may fill with links and special files; None: if
                ``PEND_ALLOW_FOREIGN_OWNER=1``.
            hook: receives the events for operators; they are logged by default.
            progress: is called with the progress of the first import of legacy files.
            instruments: get the duration of each call, and the events; None: no clock is
                read for them.

        Raises:
            ConfigError: not a directory, or this user may not read and write it; or this
                process is root's, and the directory is not.
            CorruptFile: a file of the store is damaged.
            LockTimeout: another process holds the directory for too long.
            SchemaOutOfDate: written by a newer version of the library, or by a program
                with another schema: see :meth:`migrate`.
            StoreUnavailable: the disk is full, read-only, or out of order.
        """
        self.schema = schema
        self._files = resolve_layouts(schema, directory, layouts, files)
        require_own(self._files.places, allow=allow_foreign_owner)
        self.directory: Path = self._files.directory
        self.layouts: tuple[Layout, ...] = self._files.layouts
        self._include = include = tuple(include)
        self._guard = UnreadFileGuard(self.layouts, self._files.paths)
        self._hook = hook_of(guarded(hook), instruments)
        self._timing = timing(instruments, "json", self._hook)
        self._admission = SchemaAdmission(schema, str(self.directory), self._hook)
        self._reads = GuardedReads(schema, self._guard)
        options = SessionOptions(
            include, checkpoint_interval, lock_timeout, retain, counting(self._timing)
        )
        self._session = DirectorySession(
            schema, self._files, self._admission, self._hook, options
        )
        self._log = ChangeLog(self._admission, str(self.directory))
        self._recovery = DirectoryRecovery(schema, self._admission)
        self._session.start(progress)
        on_fork(self._forked)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.directory)!r})"

    @classmethod
    def migrate(
        cls,
        schema: Schema,
        directory: str | os.PathLike[str],
        *,
        layouts: Sequence[Layout] = (),
        files: Mapping[str, str | os.PathLike[str]] | None = None,
        drop: bool = False,
        dry_run: bool = False,
        lock_timeout: float = 5.0,
        allow_foreign_owner: bool | None = None,
        hook: Hook = log_event,
    ) -> Evolution:
        """Migrate the records of a directory to another schema: all of them, or none.

        Additions need no migration: opening records them. What was renamed, and how values
        are converted, is declared in the schema (:class:`~pend_storage.Evolve`). Records
        keep their versions. Running programs with the former schema are refused from
        then on, but for programs since which there were only additions. Idempotent.

        Args:
            schema: the target.
            directory: as for the store.
            layouts: as for the store.
            files: as for the store.
            drop: delete collections and fields that the schema does not have any more.
            dry_run: report the changes, write nothing.
            lock_timeout: seconds to wait for another process at most.
            allow_foreign_owner: as for the store.
            hook: receives ``schema-migrated``.

        Returns:
            The changes, made or planned.

        Raises:
            SchemaOutOfDate: something would be lost, or stored values do not fit; they
                are named.
            LockTimeout: another process holds the directory for too long.
            CorruptFile: a file of the store is damaged.
            StoreUnavailable: the disk is full, read-only, or out of order.
        """
        resolved = resolve_layouts(schema, directory, layouts, files)
        require_own(resolved.places, allow=allow_foreign_owner)
        done = shielded(
            partial(
                migrate_directory,
                schema,
                resolved,
                drop=drop,
                dry_run=dry_run,
                timeout=lock_timeout,
                hook=guarded(hook),
            )
        )
        if not dry_run:  # opening and closing writes the legacy files in the new schema
            cls(
                schema,
                directory,
                layouts=layouts,
                files=files,
                checkpoint_interval=None,
                lock_timeout=lock_timeout,
                allow_foreign_owner=allow_foreign_owner,
                hook=hook,
            ).close()
        return done

    # -- life ---------------------------------------------------------------------------

    def _opened(self) -> Engine:
        """Return the engine; reopen it in a forked process."""
        return self._session.engine or self._session.opened()

    @override
    def close(self) -> None:
        self._session.close()

    def _forked(self) -> None:
        """Drop everything that is shared with the parent, in a forked child."""
        self._session.forked()

    # -- the contract ---------------------------------------------------------------------

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        engine = self._session.engine or self._session.opened()
        keys = tuple(keys)
        version = engine.version
        state = None if deleted else engine.unlocked_state()
        if state is not None and (
            state.is_read or self._guard.is_free(state, collection)
        ):  # the usual case; the version, read before and after, replaces the lock
            if epoch is not None:
                state.require_read(epoch)
            table = state.table(collection)
            # Absent until the first use of a collection: decoding takes the lock.
            rows = table.__dict__.get("rows")
            if rows is not None:
                found = [(key, rows.get(key)) for key in keys]
                if engine.version == version:
                    decode = table.spec.codec.decode
                    return {
                        key: Row(key, row[0], decode(row[1]))
                        for key, row in found
                        if row is not None
                    }

        return self._reads.read(engine, collection, keys, epoch, deleted=deleted)

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        return self._reads.query(self._opened(), collection, query, epoch)

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        return self._reads.count(self._opened(), collection, where, epoch)

    @override
    def listing(self, layout: Layout, *, epoch: int | None = None) -> Listing | None:
        engine = self._session.engine or self._session.opened()
        return self._reads.listing(engine, layout, epoch)

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        return self._reads.scan(
            self._opened, collection, after, deleted=deleted, epoch=epoch
        )

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        return self._opened().submit(partial(self._guard.add, batch, epoch))

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        try:
            engine = self._opened()
        except PendStorageError as error:
            return [own_copy(error) for _ in batches]
        add = self._guard.add
        return engine.submit_each([partial(add, batch, epoch) for batch in batches])

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        def follow(plan: Plan) -> int:
            self._admission.require_whole()
            return plan.apply_changes(records, epoch, mark)

        return self._opened().submit(follow)

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        yield from self._log.read(self._opened(), after)

    @override
    def find_commit(self, token: str) -> Change | None:
        return self._log.find(self._opened(), token)

    @override
    def incarnation(self) -> str:
        own = self._opened().directory
        with translated(own):
            return incarnation(own)

    @override
    def pending(self, after: int) -> Pending:
        found = self._log.pending(self._opened(), after)
        return super().pending(after) if found is None else found

    @override
    def head(self) -> int:
        return self._opened().read_state(lambda state: state.sequence)

    @override
    def meta(self, name: str) -> JSON:
        return self._opened().read_state(lambda state: deepcopy(state.meta.get(name)))

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        return self._opened().submit(
            lambda plan: plan.set_meta(name, expected, value, given)
        )

    @override
    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        return named_lock(self._opened().own, name, timeout)

    @override
    def hold_log(self, passed: Callable[[], int | None]) -> None:
        self._session.hold_log(passed)

    @override
    def purge(
        self, collection: str, keys: Iterable[str], *, tombstones: bool = True
    ) -> bool:
        name, gone = self.schema[collection].name, frozenset(keys)
        engine = self._opened()
        engine.submit(lambda plan: plan.forget(name, gone, tombstones=tombstones))
        if not tombstones:  # with them, the commit itself clears every process's memory
            engine.read_replica(lambda live: live.history.clear(live.log_end))
        checkpointer = self._session.checkpointer
        return checkpointer is not None and shielded(
            partial(checkpointer.purge, name, gone)
        )

    # -- recovery -------------------------------------------------------------------------

    @override
    def snapshot(self) -> AbstractContextManager[SnapshotReader]:
        self.identity()  # which is made at the first call
        return nullcontext(self._recovery.snapshot(self._opened()))

    @override
    def load_snapshot(
        self, rows: Iterable[tuple[str, StoredRow]], *, progress: Progress | None = None
    ) -> int:
        return self._recovery.load_snapshot(self._opened(), rows, progress)

    @override
    def load_changes(self, changes: Iterable[StoredChange]) -> int:
        return self._recovery.load_changes(self._opened(), changes)

    @override
    def reserve_numbers(self, above: int) -> None:
        self._recovery.reserve_numbers(self._opened(), above)

    @override
    def record_history(
        self, collection: str, key: str, *, before: int | None = None
    ) -> Iterator[KeyChange]:
        name = self.schema[collection].name
        return self._recovery.record_history(self._opened(), name, key, before)

    # -- legacy files ---------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Write all commits to the legacy files now.

        Raises:
            LockTimeout: another process held the checkpoint lock for too long.
            StoreUnavailable: a file cannot be written; the other files were.
        """
        self._opened()
        if self._session.checkpointer is not None:
            shielded(self._session.checkpointer.checkpoint)

    def compact(self) -> None:
        """Write a snapshot now, and drop journal segments: the next opening reads less."""
        self._opened()
        if self._session.checkpointer is not None:
            shielded(self._session.checkpointer.compact)

    def file_lags(self) -> tuple[FileLag, ...]:
        """Return the lag of each legacy file that does not show every commit yet."""
        engine = self._opened()
        with translated(engine.directory):
            return file_lags(engine, self.layouts)

    @override
    def unread_files(self) -> tuple[UnreadFile, ...]:
        return self._opened().read_state(self._guard.files)

    def adoption_report(self) -> tuple[AdoptedFile, ...]:
        """Return the outcome of the first import, by legacy file."""
        with translated(self.directory):
            return adoption_report(self._opened().directory)

    def unclaimed_files(self) -> tuple[Path, ...]:
        """Return the JSON files below the directory that no layout claims; never written."""
        with translated(self.directory):
            claimed = set(self._files.paths.values())
            return tuple(unclaimed(self.directory, claimed, self._include))
