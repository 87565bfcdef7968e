"""Checkpointer: synchronises all legacy files in the background, and compacts the journal.

One process at a time does so, under the checkpoint lock; the others skip the round.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pend_storage import _jitter as jitter
from pend_storage._files.failures import translate, translated
from pend_storage._layouts.layout import Layout
from pend_storage.errors import PendStorageError, StoreUnavailable
from pend_storage.events import Event, Hook
from pend_storage.stores.json._archive_reader import ArchiveReader
from pend_storage.stores.json._journal.compaction import (
    FORGET_ALL,
    Passed,
    Retention,
    compact,
    delete_leftovers,
    drop_expired,
    has_expired,
    is_due,
)
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._journal.process_locks import FlockLock
from pend_storage.stores.json._journal.schema_admission import SchemaAdmission
from pend_storage.stores.json._legacy_sync.file_manifest import token_of
from pend_storage.stores.json._legacy_sync.file_sync import FileSync
from pend_storage.stores.json._legacy_sync.quiescence import SETTLE
from pend_storage.stores.json._unclaimed_files import unclaimed

__all__ = ["Checkpointer"]

_COMPACT_AGAIN: Final = 30.0
"""Seconds between two checks whether a snapshot is due; twice as many after each failure,
because each attempt may leave a segment of the journal."""
_LONGEST_AGAIN: Final = 3600.0
_SNAPSHOT: Final = "a snapshot"
_REPEAT: Final = 60
"""Rounds after which a failure that lasts is reported again."""


class Checkpointer:
    """Synchronise the legacy files of one store, in rounds."""

    def __init__(
        self,
        engine: Engine,
        layouts: Sequence[Layout],
        paths: Mapping[str, Path],
        *,
        directory: Path,
        include: Sequence[str],
        retention: Retention,
        lock_timeout: float,
        hook: Hook,
        admission: SchemaAdmission,
    ) -> None:
        """Create a checkpointer; :meth:`start` runs it in the background.

        Args:
            engine: the open store.
            layouts: of the files.
            paths: file to its path.
            directory: is searched once for files that no layout claims.
            include: patterns of the files that are data.
            retention: how much of the change log to retain.
            lock_timeout: seconds to wait for another process at most.
            hook: receives events of files and of failures.
            admission: knows whether a newer program has added to the schema.
        """
        self._engine = engine
        self._admission = admission
        files = Counter(layout.collection for layout in layouts)
        self._syncs = [
            FileSync(engine, x, paths[x.file], hook, is_shared=files[x.collection] > 1)
            for x in layouts
        ]
        self._directory: Path | None = directory
        self._claimed = set(paths.values())
        self._include = include
        self._retention = retention
        self._timeout = lock_timeout
        self._hook = hook
        self._lock = FlockLock(engine.directory / "checkpoint.lock", engine.own)
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures: dict[str, int] = {}
        self._compact_after = 0.0
        self._archive = ArchiveReader(engine, retention, hook)
        self.passed: Passed = lambda: None
        """How far a follower has applied the change log; set by the store."""

    @property
    def _managed_syncs(self) -> list[FileSync]:
        """Files that this program synchronises: none if its schema is behind.

        A program that lacks fields of a newer schema would write files without them.
        """
        return [] if self._admission.is_behind else self._syncs

    # -- rounds -----------------------------------------------------------------------

    def adopt_edits(self) -> None:
        """Adopt external edits of all files, unless another process is at work."""
        with self._mutex, self._lock.tried() as mine:
            if mine and not self._admission.is_behind:
                delete_leftovers(self._engine.own)
                for sync in self._syncs:
                    sync.adopt_only()

    def round(self) -> None:
        """Run one round: synchronise every file, write a snapshot if one is due.

        Failures are reported as ``checkpoint-failed``, and retried in the next round.
        """
        self._attempt("any file", self._round)

    def _round(self) -> None:
        with self._mutex, self._lock.tried() as mine:
            if mine:
                self._emit_unclaimed()
                self._sync_all()
            if mine and time.monotonic() >= self._compact_after:
                self._attempt(_SNAPSHOT, self._compact_if_due)
                failed = min(self._failures.get(_SNAPSHOT, -1) + 1, 10)
                pause = min(_COMPACT_AGAIN * 2**failed, _LONGEST_AGAIN)
                self._compact_after = time.monotonic() + pause

    def _sync_all(self) -> None:
        """Synchronise every file; retry once those that were being written just now."""
        left = self._managed_syncs
        for is_last in (False, True):
            for sync in left:
                synchronise = functools.partial(
                    sync.synchronise, force=False, wait=False
                )
                self._attempt(sync.layout.file, synchronise)
            left = [sync for sync in left if sync.is_busy]
            if is_last or not left or self._stop.wait(_jittered(SETTLE, 0.4)):
                return

    def checkpoint(self) -> None:
        """Write all commits to the legacy files now.

        Raises:
            LockTimeout: another process held the checkpoint lock for too long.
            StoreUnavailable: a file cannot be written, or another program writes it
                without a pause; the other files were written.
        """
        errors: list[PendStorageError] = []
        with self._mutex, self._lock.held(self._timeout):
            self._emit_unclaimed()
            for sync in self._managed_syncs:
                try:
                    sync.synchronise(force=True, wait=True)
                    if sync.is_busy:
                        errors.append(_busy(sync))
                except PendStorageError as error:
                    errors.append(error)
                except OSError as error:
                    errors.append(translate(error, sync.path))
            if not errors:
                self._compact_if_due()
        if errors:
            raise errors[0]

    def compact(self) -> None:
        """Write a snapshot now, and drop the segments that it replaces."""
        with self._mutex, self._lock.held(self._timeout):
            self._compact()

    def _emit_unclaimed(self) -> None:
        """Emit ``files-unclaimed``, once for each opening."""
        directory, self._directory = self._directory, None
        if directory is None:
            return
        found = list(unclaimed(directory, self._claimed, self._include))
        if found:
            names = ", ".join(str(path.relative_to(directory)) for path in found[:5])
            self._hook(
                Event(
                    "files-unclaimed",
                    f"{len(found)} JSON files in {directory} are claimed by no layout and "
                    f"are left alone: {names}{', ...' if found[5:] else ''}",
                    logging.WARNING,
                    {"files": len(found)},
                )
            )

    def _compact_if_due(self) -> None:
        with translated(self._engine.directory):
            if is_due(self._engine, self._retention):
                self._compact()
            elif has_expired(self._engine, self._retention):
                with self._archive.watched():
                    drop_expired(
                        self._engine, self._retention, self._needed, self._held
                    )

    def _compact(self) -> None:
        with translated(self._engine.directory), self._archive.watched():
            compact(self._engine, self._retention, self._needed, self._held)

    def _held(self) -> int | None:
        """Return how far followers and the archive are; None: past all of the log."""
        return self._archive.limit(self._passed())

    def _passed(self) -> int | None:
        """Return how far followers are; None where they have applied all of the log."""
        upto = self.passed()
        if upto is None:
            return None
        # The start of a segment may lie above the last entry before it: versions that
        # were applied count too.
        end = self._engine.read_replica(lambda live: live.log_end)
        return None if upto >= end else upto

    def purge(self, collection: str, keys: Iterable[str]) -> bool:
        """Erase what the store's own files keep of deleted records.

        Returns:
            False where older segments or snapshots are still needed.
        """
        tokens = {token_of(collection, key) for key in keys}
        lock = self._lock.held(self._timeout)
        with self._mutex, lock, translated(self._engine.directory):
            self._synchronise_now()
            for sync in self._syncs:
                sync.forget(tokens)
            self._synchronise_now()  # deletes the replaced files, and loads the manifests
            compact(self._engine, FORGET_ALL, self._needed, self._passed)
            return not has_expired(self._engine, FORGET_ALL)

    def _synchronise_now(self) -> None:
        for sync in self._managed_syncs:
            sync.synchronise(force=True, wait=True)

    def _needed(self, now: Position) -> list[Position]:
        # A manifest names positions; edit detection reads the state at them again.
        return [p for sync in self._syncs for p in sync.positions(now)]

    def _attempt(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except (PendStorageError, OSError) as error:
            count = self._failures[what] = self._failures.get(what, -1) + 1
            if count % _REPEAT == 0:
                self._hook(
                    Event(
                        "checkpoint-failed",
                        f"{what} could not be written: {error}. Nothing is lost, it will "
                        "be tried again",
                        logging.ERROR,
                        {"what": what, "failures": count + 1},
                    )
                )
        else:
            self._failures.pop(what, None)

    # -- life -------------------------------------------------------------------------

    def start(self, interval: float) -> None:
        """Start the background thread.

        Args:
            interval: seconds between two rounds, about.
        """
        self._thread = threading.Thread(
            target=self._run, args=(interval,), name="pend-checkpoint", daemon=True
        )
        self._thread.start()

    def _run(self, interval: float) -> None:
        # Jitter: else a program that writes at the same interval would be met each time.
        while not self._stop.wait(_jittered(interval, -0.15)):
            self.round()

    def close(self) -> None:
        """Stop the background thread, and write all files a last time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.checkpoint()
        except PendStorageError as error:
            self._hook(
                Event(
                    "checkpoint-failed",
                    f"the files could not be brought up to date at the end: {error} "
                    "Nothing is lost; the next process will do it",
                    logging.ERROR,
                    {"what": "the files", "failures": 1},
                )
            )
        self._lock.close()

    def abandon(self) -> None:
        """Close the lock's descriptors, in a forked child: the parent goes on."""
        self._lock.close()


def _busy(sync: FileSync) -> StoreUnavailable:
    return StoreUnavailable(
        "another program writes it without a pause. Nothing is lost: it is brought up to "
        "date when that program pauses",
        store=str(sync.path),
    )


def _jittered(seconds: float, share: float) -> float:
    """Return seconds plus a random part of up to a share of them; a negative one subtracts."""
    return seconds * (1 + share * jitter.between(0.0, 1.0))
