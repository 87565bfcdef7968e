"""Directory session: opening a store's directory, reopening it after a fork, closing it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pend_storage._files.failures import translated
from pend_storage._model.records import JSON
from pend_storage.errors import StoreUnavailable
from pend_storage.events import Hook, Progress
from pend_storage.instrumentation._timing import Count
from pend_storage.phases import Role
from pend_storage.schema import Schema
from pend_storage.stores._inmemory.state import SCHEMA_META
from pend_storage.stores._inmemory.write_planner import Plan
from pend_storage.stores._signal_shield import later, shielded
from pend_storage.stores.json._checkpointer import Checkpointer
from pend_storage.stores.json._file_layouts import FileLayouts
from pend_storage.stores.json._journal.compaction import Passed, Retention
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission
from pend_storage.stores.json._legacy_sync.preexisting_files import require_fitting
from pend_storage.stores.json._legacy_sync.preflight import check_places
from pend_storage.stores.json._store_directory import (
    check_directory,
    open_store_directory,
)

__all__ = ["DirectorySession", "SessionOptions"]


@dataclass(frozen=True)
class SessionOptions:
    """Settings of an open directory, as the caller of the store gave them."""

    include: Sequence[str]
    """Patterns of the files below the directory that are data."""
    checkpoint_interval: float | None
    """Seconds between two rounds of the checkpointer; None: no thread is started."""
    lock_timeout: float
    retention: Retention
    count: Count | None
    """Counts the commits that were written together; None: nothing does."""


class DirectorySession:
    """Own the engine and the checkpointer of one directory in one process.

    A fork inherits neither: the child drops them, and opens its own at the first call.
    """

    def __init__(
        self,
        schema: Schema,
        files: FileLayouts,
        admission: SchemaAdmission,
        hook: Hook,
        options: SessionOptions,
    ) -> None:
        self._schema = schema
        self._files = files
        self._admission = admission
        self._hook = hook
        self._options = options
        self._opening = threading.Lock()
        self._closed = False
        self._passed: Passed = lambda: None
        self.engine: Engine | None = None
        self.checkpointer: Checkpointer | None = None

    def hold_log(self, passed: Passed) -> None:
        """Hold the entries of the change log that a follower has not applied."""
        self._passed = passed
        if self.checkpointer is not None:
            self.checkpointer.passed = passed

    def start(self, progress: Progress | None) -> None:
        """Open the directory for the first time; import its legacy files if needed."""
        try:
            shielded(partial(self._start, progress))
        except BaseException:
            # A signal may end this call while a helper thread still opens: close that too.
            later(self.close)
            raise

    def _start(self, progress: Progress | None) -> None:
        with self._opening:
            self._open(progress)

    def opened(self) -> Engine:
        """Return the engine; reopen it in a forked process.

        Raises:
            StoreUnavailable: the session is closed.
        """
        return self.engine or shielded(self._reopen)

    def _reopen(self) -> Engine:
        with self._opening:
            if self._closed:
                name = str(self._files.directory)
                raise StoreUnavailable("the store is closed", store=name)
            return self.engine or self._open()

    def _open(self, progress: Progress | None = None) -> Engine:
        files, timeout = self._files, self._options.lock_timeout
        check_directory(files.directory)
        with translated(files.directory):
            require_fitting(self._schema, files.layouts, files.synced_files())
        own = open_store_directory(
            self._schema,
            files.directory,
            files.layouts,
            files.synced_files(),
            timeout=timeout,
            hook=self._hook,
            progress=progress,
        )
        with translated(files.directory):
            engine = Engine(
                self._schema,
                own,
                name=str(files.directory),
                lock_timeout=timeout,
                hook=self._hook,
                admission=self._admission,
                layouts=files.layouts,
                count=self._options.count,
            )
            try:
                self._record_schema(engine)
                with engine.live() as live:
                    detached = live.state.role.role is Role.DETACHED
                paths = {x.source: files.paths[x.file] for x in files.layouts}
                check_places(paths, self._hook, detached=detached)
                self._start_checkpointer(engine)
            except BaseException:
                engine.close()
                raise
        self.engine = engine
        return engine

    def _record_schema(self, engine: Engine) -> None:
        """Record the schema in the meta if it is not there, or if this program adds to it.

        Repeated until the compare-and-set succeeds: other processes open at the same time.
        """
        is_noted = False
        while not is_noted:
            noted, wanted = engine.read_state(self._admission.next_description)
            is_noted = noted is wanted or engine.submit(
                partial(_set_schema_note, noted=noted, wanted=wanted)
            )
        self._admission.finish_opening()

    def _start_checkpointer(self, engine: Engine) -> None:
        checkpointer = Checkpointer(
            engine,
            self._files.layouts,
            self._files.paths,
            directory=self._files.directory,
            include=self._options.include,
            retention=self._options.retention,
            lock_timeout=self._options.lock_timeout,
            hook=self._hook,
            admission=self._admission,
        )
        checkpointer.passed = self._passed
        try:
            checkpointer.adopt_edits()
        except BaseException:
            checkpointer.abandon()
            raise
        self.checkpointer = checkpointer
        if self._options.checkpoint_interval is not None:
            checkpointer.start(self._options.checkpoint_interval)

    def close(self) -> None:
        """Write the legacy files a last time, and close all descriptors."""
        shielded(self._close)

    def _close(self) -> None:
        with self._opening:
            self._closed = True
            engine, self.engine = self.engine, None
            checkpointer, self.checkpointer = self.checkpointer, None
        if checkpointer is not None:
            checkpointer.close()
        if engine is not None:
            engine.close()

    def forked(self) -> None:
        """Drop the parent's engine and checkpointer, in a forked child."""
        self._opening = (
            threading.Lock()
        )  # a thread of the parent may have held the old one
        engine, self.engine = self.engine, None
        checkpointer, self.checkpointer = self.checkpointer, None
        for part in (checkpointer, engine):
            # A thread of the parent may have closed a descriptor just before the fork, and
            # not cleared its number yet.
            with contextlib.suppress(OSError):
                if part is not None:
                    part.abandon()


def _set_schema_note(plan: Plan, *, noted: JSON, wanted: JSON) -> bool:
    return plan.set_meta(SCHEMA_META, noted, wanted)
