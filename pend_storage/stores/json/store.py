"""The JSON store: a directory on a local disk, for many threads and many processes."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from typing_extensions import override

from pend_storage.errors import (
    ChangesExpired,
    CorruptFile,
    PendStorageError,
    StoreUnavailable,
)
from pend_storage.events import Hook, Progress, guarded, log_event
from pend_storage.holding import IsHeld
from pend_storage.layout import Layout
from pend_storage.listing import Listing
from pend_storage.phases import Role
from pend_storage.query import And, Condition, Query
from pend_storage.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Outcome,
    Pending,
    Row,
)
from pend_storage.schema import Schema
from pend_storage.schema_changes import Evolution
from pend_storage.sharing import own_copy
from pend_storage.store import Store
from pend_storage.stores.json.admission import Admission
from pend_storage.stores.json.backlog import counted
from pend_storage.stores.json.checkpoint import Checkpointer
from pend_storage.stores.json.compaction import KEEP_A_WEEK, Retention
from pend_storage.stores.json.disk import translated
from pend_storage.stores.json.engine import Engine
from pend_storage.stores.json.evolution import migrate_directory
from pend_storage.stores.json.exclusive import forget_held, named_lock
from pend_storage.stores.json.file_lag import FileLag, file_lags
from pend_storage.stores.json.guard import Guard
from pend_storage.stores.json.home import (
    adoption_report,
    check_directory,
    incarnation,
    open_home,
)
from pend_storage.stores.json.intake import AdoptedFile
from pend_storage.stores.json.live import Live
from pend_storage.stores.json.locks import forget_waits
from pend_storage.stores.json.newcomers import require_fitting
from pend_storage.stores.json.past import effects_after
from pend_storage.stores.json.preflight import check_places
from pend_storage.stores.json.strangers import DATA, unclaimed
from pend_storage.stores.json.wiring import wired
from pend_storage.stores.listings import Listings, is_current
from pend_storage.stores.plan import Plan
from pend_storage.stores.signal_shield import later, shielded
from pend_storage.stores.state import SCHEMA_META, State
from pend_storage.stores.table import StoredRow, Table
from pend_storage.unread import UnreadFile, names_one

__all__ = ["JsonStore"]

T = TypeVar("T")

_PAGE: Final = 500
"""Rows that a scan takes under the lock at a time."""

_stores: Final[weakref.WeakSet[JsonStore]] = weakref.WeakSet()


class JsonStore(Store):
    """Keeps records in a directory whose legacy JSON files stay true.

    What is true is in the directory ``.pend-storage``: a snapshot, and a journal of all
    commits since, which is the change log too. The legacy files follow it, and what
    others change in them is adopted.
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
        hook: Hook = log_event,
        progress: Progress | None = None,
    ) -> None:
        """Open a directory; the first time its legacy files are adopted.

        Args:
            schema: the collections.
            directory: where the legacy files are; it is made if it is missing.
            layouts: how legacy files map to collections. A collection without one is
                kept in a file of its own name.
            files: where a layout's file is, if not below the directory.
            include: patterns of the files below the directory that are data, so that
                :meth:`unclaimed_files` tells of those that no layout claims: ``*.json``
                in any folder, ``/*.json`` in the directory itself, ``!package.json``
                not; none at all: it tells of none.
            checkpoint_interval: seconds in which the legacy files follow, large ones
                later (:meth:`file_lags`); None: only when :meth:`checkpoint` is called,
                and at the end.
            lock_timeout: seconds to wait for another process at most.
            retain: how much of the change log to keep.
            hook: is told what should not go unnoticed.
            progress: is told how far the adoption of legacy files is.

        Raises:
            ConfigError: not a directory, or not ours to read and write.
            CorruptFile: a file of the store is damaged.
            LockTimeout: another process holds the directory for too long.
            SchemaOutOfDate: a newer version of the library has written it, or a program
                with another schema: see :meth:`migrate`.
            StoreUnavailable: the disk is full, read-only, or out of order.
        """
        self.schema = schema
        self._wiring = wired(schema, directory, layouts, files)
        self.directory = self._wiring.directory
        self.layouts = self._wiring.layouts
        self._include = tuple(include)
        self._interval = checkpoint_interval
        self._timeout = lock_timeout
        self._retain = retain
        self._hook = guarded(hook)
        self._opening = threading.Lock()
        self._closed = False
        self._paths = self._wiring.paths
        self._guard = Guard(self.layouts, self._paths)
        self._admission = Admission(schema, str(self.directory), self._hook)
        self._listings = Listings()
        self._engine: Engine | None = None
        self._checkpointer: Checkpointer | None = None
        try:
            shielded(partial(self._open_first, progress))
        except BaseException:
            later(self.close)  # what is opened by now, or comes to be when we have gone
            raise
        _stores.add(self)

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
        hook: Hook = log_event,
    ) -> Evolution:
        """Bring the records of a directory to another schema: all of them, or none.

        Additions need no migration: opening takes them. What was renamed, and how values
        are converted, is declared in the schema (:class:`~pend_storage.Evolve`). Records
        keep their versions. Running programs with the former schema are refused from
        then on, but for programs since which there were only additions. Harmless to
        repeat.

        Args:
            schema: the collections as they are to be.
            directory: as for the store.
            layouts: as for the store.
            files: as for the store.
            drop: whether what the schema does not have any more may be deleted.
            dry_run: whether only to say what would be done.
            lock_timeout: seconds to wait for another process at most.
            hook: is told what was done.

        Returns:
            What was changed, or would be.

        Raises:
            SchemaOutOfDate: something would be lost, or stored values do not fit; they
                are named.
            LockTimeout: another process holds the directory for too long.
            CorruptFile: a file of the store is damaged.
            StoreUnavailable: the disk is full, read-only, or out of order.
        """
        done = shielded(
            partial(
                migrate_directory,
                schema,
                wired(schema, directory, layouts, files),
                drop=drop,
                dry_run=dry_run,
                timeout=lock_timeout,
                hook=guarded(hook),
            )
        )
        if not dry_run:  # and with it the files
            cls(
                schema,
                directory,
                layouts=layouts,
                files=files,
                checkpoint_interval=None,
                lock_timeout=lock_timeout,
                hook=hook,
            ).close()
        return done

    # -- life ---------------------------------------------------------------------------

    def _open_first(self, progress: Progress | None) -> None:
        with self._opening:
            self._open(progress)

    def _open(self, progress: Progress | None = None) -> Engine:
        check_directory(self.directory)
        require_fitting(self.schema, self.layouts, self._wiring.places())
        own = open_home(
            self.schema,
            self.directory,
            self.layouts,
            self._wiring.places(),
            timeout=self._timeout,
            hook=self._hook,
            progress=progress,
        )
        with translated(self.directory):
            engine = Engine(
                self.schema,
                own,
                name=str(self.directory),
                lock_timeout=self._timeout,
                hook=self._hook,
                admission=self._admission,
                layouts=self.layouts,
            )
            try:
                self._note_schema(engine)
                with engine.live() as live:
                    detached = live.state.role.role is Role.DETACHED
                paths = {x.source: self._paths[x.file] for x in self.layouts}
                check_places(paths, self._hook, detached=detached)
                self._watch_files(engine)
            except BaseException:
                engine.close()
                raise
        self._engine = engine
        return engine

    def _note_schema(self, engine: Engine) -> None:
        """Note the schema of the rows where it is not noted, or is added to."""
        is_noted = False
        while not is_noted:
            noted, wanted = engine.look(self._admission.next_note)
            is_noted = noted is wanted or engine.submit(
                partial(_note, noted=noted, wanted=wanted)
            )
        self._admission.opened()

    def _watch_files(self, engine: Engine) -> None:
        checkpointer = Checkpointer(
            engine,
            self.layouts,
            self._paths,
            directory=self.directory,
            include=self._include,
            retention=self._retain,
            lock_timeout=self._timeout,
            hook=self._hook,
            admission=self._admission,
        )
        try:
            checkpointer.look()
        except BaseException:
            checkpointer.abandon()
            raise
        self._checkpointer = checkpointer
        if self._interval is not None:
            checkpointer.start(self._interval)

    def _opened(self) -> Engine:
        """The engine; opened again in a process that was forked."""
        engine = self._engine
        if engine is not None:
            return engine
        return shielded(self._opened_again)

    def _opened_again(self) -> Engine:
        with self._opening:
            if self._closed:
                raise StoreUnavailable("the store is closed", store=str(self.directory))
            return self._engine or self._open()

    @override
    def close(self) -> None:
        shielded(self._close)

    def _close(self) -> None:
        with self._opening:
            self._closed = True
            engine, self._engine = self._engine, None
            checkpointer, self._checkpointer = self._checkpointer, None
        if checkpointer is not None:
            checkpointer.close()
        if engine is not None:
            engine.close()

    def _forked(self) -> None:
        """In a forked child: share nothing with the parent, open again when needed."""
        self._opening = threading.Lock()
        engine, self._engine = self._engine, None
        checkpointer, self._checkpointer = self._checkpointer, None
        for part in (checkpointer, engine):
            # A thread of the parent may have closed a file that it had not forgotten yet.
            with contextlib.suppress(OSError):
                if part is not None:
                    part.abandon()

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
        engine = self._engine or self._opened()
        keys = tuple(keys)
        version = engine.version
        state = None if deleted else engine.glance()
        if state is not None and (
            state.is_read or self._guard.is_free(state, collection)
        ):  # nearly always; no lock is taken
            if epoch is not None:
                state.require_read(epoch)
            table = state.table(collection)
            rows = table.__dict__.get("rows")  # not there: left for later
            if rows is not None:
                found = [(key, rows.get(key)) for key in keys]
                if engine.version == version:
                    decode = table.spec.codec.decode
                    return {
                        key: Row(key, row[0], decode(row[1]))
                        for key, row in found
                        if row is not None
                    }

        def look(state: State) -> dict[str, Row]:
            state.require_read(epoch)
            rows = state.read(collection, keys, deleted=deleted)
            if not deleted:
                self._guard.require_rows(state, collection, keys, rows)
            return rows

        return engine.look(look)

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        def look(state: State) -> tuple[State, list[StoredRow], CorruptFile | None]:
            state.require_read(epoch)
            refusal = self._guard.refusal(state, collection, query.where)
            return state, state.candidates(collection, query), refusal

        state, candidates, refusal = self._opened().look(look)
        rows = state.answer(collection, query, candidates)
        if refusal is not None and not (
            rows and names_one(self.schema[collection], query.where)
        ):
            raise refusal
        return rows

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        if where != And(()):
            return len(self.query(collection, Query(where), epoch=epoch))

        def look(state: State) -> int:
            state.require_read(epoch)
            self._guard.require_all(state, collection, where)
            return len(state.table(collection))

        return self._opened().look(look)

    @override
    def listing(self, layout: Layout, *, epoch: int | None = None) -> Listing | None:
        engine = self._engine or self._opened()
        version, known = engine.version, self._listings.known(layout)
        state = engine.glance()
        if (
            known is not None
            and state is not None
            and state.is_read
            and is_current(known, state)
            and engine.version == version
        ):  # nearly always; no lock is taken
            state.require_read(epoch)
            return known

        def look(job: Callable[[State], T]) -> T:
            def careful(state: State) -> T:
                state.require_read(epoch)
                self._guard.require_file(state, layout)
                return job(state)

            return engine.look(careful)

        return self._listings.of(layout, look)

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        def look(state: State) -> tuple[Table, list[StoredRow]]:
            state.require_read(epoch)
            if not deleted:
                self._guard.require_all(state, collection, And(()))
            rows = state.page(collection, after, deleted=deleted, size=_PAGE)
            return state.table(collection), rows

        while True:
            table, rows = self._opened().look(look)
            yield from table.decoded(rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

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
            return plan.follow(records, epoch, mark)

        return self._opened().submit(follow)

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        engine = self._opened()
        self._admission.require_whole()
        self._require_readable(after)
        state, end, found = engine.consult(
            lambda live: (
                live.state,
                live.journal.position,
                live.history.since(after),
            )
        )
        if found is None:
            with translated(engine.directory):
                effects = effects_after(engine.directory, after, end, state.name)
                yield from map(state.change_of, effects)
        else:
            yield from map(state.change_of, found)

    def _require_readable(self, after: int) -> None:
        """Refuse to read entries of the change log that are of a former schema.

        Raises:
            ChangesExpired: some of those that are asked for are.
        """
        floor = self._admission.floor
        if after < floor:
            raise ChangesExpired(store=str(self.directory), after=after, oldest=floor)

    @override
    def find_commit(self, token: str) -> Change | None:
        engine = self._opened()

        def look(live: Live) -> Change | None:
            with translated(engine.directory):
                effect = live.find(token)
            if effect is None:
                return None
            if effect.sequence <= self._admission.floor:  # its records cannot be read
                rows = tuple(row._replace(body=None) for row in effect.rows)
                effect = replace(effect, rows=rows)
            return live.state.change_of(effect)

        return engine.consult(look)

    @override
    def incarnation(self) -> str:
        own = self._opened().directory
        with translated(own):
            return incarnation(own)

    @override
    def pending(self, after: int) -> Pending:
        engine = self._opened()
        engine.look(lambda _: None)
        self._require_readable(after)
        found = counted(engine, after)
        return super().pending(after) if found is None else found

    @override
    def head(self) -> int:
        return self._opened().look(lambda state: state.sequence)

    @override
    def meta(self, name: str) -> JSON:
        return self._opened().look(lambda state: deepcopy(state.meta.get(name)))

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

    # -- legacy files ---------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Bring every legacy file up to date now.

        Raises:
            LockTimeout: another process is doing so for too long.
            StoreUnavailable: a file cannot be written; the others were.
        """
        self._opened()
        if self._checkpointer is not None:
            shielded(self._checkpointer.checkpoint)

    def compact(self) -> None:
        """Write a snapshot now, so that the next opening has less to read."""
        self._opened()
        if self._checkpointer is not None:
            shielded(self._checkpointer.compact)

    def file_lags(self) -> tuple[FileLag, ...]:
        """The legacy files that do not show every commit yet, and for how long."""
        engine = self._opened()
        with translated(engine.directory):
            return file_lags(engine, self.layouts)

    @override
    def unread_files(self) -> tuple[UnreadFile, ...]:
        return self._opened().look(self._guard.files)

    def adoption_report(self) -> tuple[AdoptedFile, ...]:
        """What became of each legacy file when the directory was first opened."""
        with translated(self.directory):
            return adoption_report(self._opened().directory)

    def unclaimed_files(self) -> tuple[Path, ...]:
        """The JSON files below the directory that no layout claims; never touched."""
        with translated(self.directory):
            claimed = set(self._paths.values())
            return tuple(unclaimed(self.directory, claimed, self._include))


def _note(plan: Plan, *, noted: JSON, wanted: JSON) -> bool:
    return plan.set_meta(SCHEMA_META, noted, wanted)


def _after_fork() -> None:
    for store in list(_stores):
        store._forked()  # noqa: SLF001 - its own module
    forget_waits()
    forget_held()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
