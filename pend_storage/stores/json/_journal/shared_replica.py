"""Shared replica: a replica of a process that commits, up to date under the commit lock.

It also recovers: what a process wrote before it died is published by the next one.
"""

from __future__ import annotations

from pathlib import Path

from typing_extensions import override

from pend_storage.errors import CorruptFile
from pend_storage.schema import Schema
from pend_storage.stores.json._journal.directory_handle import DirectoryHandle
from pend_storage.stores.json._journal.journal import SegmentDropped
from pend_storage.stores.json._journal.process_locks import FlockLock
from pend_storage.stores.json._journal.replica import Replica
from pend_storage.stores.json._journal.replica_state import ReplicaState, load
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission

__all__ = ["SharedReplica"]


class SharedReplica(Replica):
    """Read the state of a directory, and catch up with it under the commit lock."""

    def __init__(
        self,
        schema: Schema,
        directory: Path,
        *,
        name: str,
        lock_timeout: float,
        admission: SchemaAdmission | None,
    ) -> None:
        """Load the state.

        Args:
            schema: the collections.
            directory: the store's own directory.
            name: of the store, in errors.
            lock_timeout: seconds to wait for another process at most.
            admission: admits the schema; None: the rows may be of any schema.

        Raises:
            SchemaOutOfDate: the rows are of another schema.
        """
        self._timeout = lock_timeout
        self._tail_is_torn = False
        self._checked_generation = 0
        own = DirectoryHandle(directory)  # the lock verifies the path for both
        self._lock = FlockLock(directory / "lock", own)
        try:
            super().__init__(schema, directory, name=name, admission=admission, own=own)
        except BaseException:
            self._lock.close()
            raise

    @override
    def _loaded(self) -> ReplicaState:
        """Load the state, and recover: publish what a process wrote before it died."""
        live = load(self.own, self.schema, self._name)
        try:
            if live.journal.size_changed():
                with self._lock.held(self._timeout):
                    live.catch_up()
        except SegmentDropped:  # in the meantime, by another process
            live.journal.close()
            return load(self.own, self.schema, self._name)
        except BaseException:
            live.journal.close()
            raise
        return live

    @override
    def _reload(self, *, to_the_end: bool = False) -> None:
        """Load the files again.

        Args:
            to_the_end: also what was written but not published; only under the commit lock.

        Raises:
            StoreUnavailable: the files lack commits that this process has seen.
        """
        live = load(self.own, self.schema, self._name)
        if to_the_end:
            try:
                live.catch_up()
            except (
                SegmentDropped
            ):  # impossible under the lock, unless files were removed
                raise CorruptFile(
                    "the journal goes on in a segment that is not there",
                    path=str(self.directory),
                ) from None
        self._live.journal.require_continued(live.journal)
        # Not closed here: a reader without a lock may still use the former one. Its
        # descriptors are closed with the last reference.
        self._live = live
        self._stale = False

    def _caught_up(self, *, is_verified: bool = False) -> ReplicaState:
        """Return the state with every frame of the journal. Hold the commit lock.

        If it fails midway, the next caller loads the files again: what was read is in the
        state, and may not be on the disk.

        Args:
            is_verified: the lock has just verified the path of the directory.
        """
        generation = self.own.generation if is_verified else self.own.verify_path()
        if generation != self._checked_generation and not self._live.journal.is_named():
            self._stale = True
        if self._stale:
            self._reload(to_the_end=True)
        self._checked_generation = generation
        self.version += 1
        try:
            try:
                self._tail_is_torn = self._live.catch_up()
            except SegmentDropped:
                self._reload(to_the_end=True)
                self._tail_is_torn = self._live.catch_up()
        except BaseException:
            self._stale = True
            raise
        finally:
            self.version += 1
        self._admit(self._live)
        return self._live

    @override
    def abandon(self) -> None:
        """Close all descriptors, in a forked child: unlocking would unlock the parent's lock."""
        self._live.journal.close()
        self._lock.close()
        self.own.close()
