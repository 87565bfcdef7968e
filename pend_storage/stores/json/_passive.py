"""Passive JSON store: reads a directory, beside its servers, and changes nothing in it.

Opening a :class:`JsonStore` adopts edits of other programs, recovers what a dead process
left, writes legacy files and takes locks. A reader that must not do any of that reads the
published part of the journal instead. No file is opened for writing, so it works where
this user may only read.

It has two tiers. Meta, role, positions, the end of the change log, quarantine and findings
need no row of the users' collections, and none is in memory for them. The first read of
such a row loads the directory whole, as a :class:`JsonStore` would.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Final

from typing_extensions import override

from pend_storage._files.failures import translated
from pend_storage._fork import on_fork
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.listing import Listing
from pend_storage._layouts.unread_files import UnreadFile
from pend_storage._model.records import JSON, Change, Pending, Row
from pend_storage._model.snapshots import KeyChange
from pend_storage._trusted_users import require_own
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.events import Event, Hook, guarded, log_event
from pend_storage.query import Condition, Query
from pend_storage.schema import FINDINGS, LEGACY_FILES, QUARANTINE, Schema
from pend_storage.stores._inmemory.sparse_state import SparseState
from pend_storage.stores._inmemory.state import SCHEMA_META, State
from pend_storage.stores._read_only import ReadOnlyStore
from pend_storage.stores._signal_shield import shielded
from pend_storage.stores.json._change_log import ChangeLog
from pend_storage.stores.json._file_layouts import resolve_layouts
from pend_storage.stores.json._guarded_reads import GuardedReads
from pend_storage.stores.json._journal.read_only_replica import ReadOnlyReplica
from pend_storage.stores.json._journal.schema_admission import (
    SchemaAdmission,
    require_fitting,
)
from pend_storage.stores.json._legacy_sync.file_lag import FileLag, FileLagMeter
from pend_storage.stores.json._legacy_sync.unread_guard import UnreadFileGuard
from pend_storage.stores.json._recovery import DirectoryRecovery
from pend_storage.stores.json._store_directory import (
    has_store,
    incarnation,
    require_format,
)
from pend_storage.stores.json._unclaimed_files import DATA, unclaimed

__all__ = ["PassiveJsonStore"]

_HELD: Final = frozenset({FINDINGS, LEGACY_FILES, QUARANTINE})
"""Collections whose rows the first tier holds: few, and facts are counted in them."""


class PassiveJsonStore(ReadOnlyStore):
    """Read a directory as :class:`JsonStore` does, and change nothing in it.

    What it reads is what is committed: an edit of another program that no server has
    adopted yet is not there. Beside a server it follows every commit, through snapshots and
    through a directory that is put in the place of the old one.
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
        allow_foreign_owner: bool | None = None,
        hook: Hook = log_event,
    ) -> None:
        """Open a directory that has a store; arguments as for :class:`JsonStore`.

        Raises:
            ConfigError: not a directory, or it has no store yet; or this process is
                root's, and the directory is not.
            CorruptFile: a file of the store is damaged.
            SchemaOutOfDate: written by a newer version of the library, or by a program
                with another schema.
        """
        self.schema = schema
        self._files = resolve_layouts(schema, directory, layouts, files)
        require_own(self._files.places, allow=allow_foreign_owner)
        self.directory: Path = self._files.directory
        self.layouts: tuple[Layout, ...] = self._files.layouts
        self._include = tuple(include)
        self._hook = guarded(hook)
        self._admission = SchemaAdmission(schema, str(self.directory), self._hook)
        self._guard = UnreadFileGuard(self.layouts, self._files.paths)
        self._reads = GuardedReads(schema, self._guard)
        self._log = ChangeLog(self._admission, str(self.directory))
        self._recovery = DirectoryRecovery(schema, self._admission)
        self._lags = FileLagMeter(self.layouts)
        self._is_closed = False
        self._forked()
        self._facts()
        on_fork(self._forked)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.directory)!r})"

    # -- life ---------------------------------------------------------------------------

    def _forked(self) -> None:
        """Begin anew in a forked child, whose descriptors are the parent's, too."""
        self._opening = threading.Lock()
        self._first: ReadOnlyReplica | None = None
        """Tier of the facts: without the rows of the users' collections."""
        self._second: ReadOnlyReplica | None = None
        """Tier of all rows."""

    @override
    def close(self) -> None:
        shielded(self._close)

    def _close(self) -> None:
        with self._opening:
            self._is_closed = True
            replicas, self._first, self._second = (
                (self._first, self._second),
                None,
                None,
            )
        for replica in replicas:
            if replica is not None:
                replica.close()

    def _facts(self) -> ReadOnlyReplica:
        """Return the first tier; opened again where the directory is another one by now."""
        found = self._first
        if found is None or not found.is_current():
            found = shielded(partial(self._open_facts, found))
        return found

    def _open_facts(self, stale: ReadOnlyReplica | None) -> ReadOnlyReplica:
        with self._opening:
            if self._first is None or self._first is stale:
                state = partial(SparseState, held=_HELD)
                self._first = self._opened(self._admission, state)
                self._admission.finish_opening()
            return self._first

    def _rows(self, collection: str) -> ReadOnlyReplica:
        """Return the tier that has the rows of a collection."""
        if self.schema[collection].name in _HELD:
            return self._facts()
        found = self._second
        if found is None or not found.is_current():
            found = shielded(partial(self._open_rows, found))
        return found

    def _open_rows(self, stale: ReadOnlyReplica | None) -> ReadOnlyReplica:
        with self._opening:
            if self._second is None or self._second is stale:
                name = str(self.directory)
                # One of its own: it compares by the identity of what the state has.
                admission = SchemaAdmission(self.schema, name, _ignore)
                opened = self._opened(admission, State)
                opened.read_state(partial(_require_fitting, self.schema, name))
                admission.finish_opening()
                self._second = opened
            return self._second

    def _opened(
        self, admission: SchemaAdmission, state: Callable[[Schema, str], State]
    ) -> ReadOnlyReplica:
        if self._is_closed:
            raise StoreUnavailable("the store is closed", store=str(self.directory))
        with translated(self.directory):
            if not has_store(self.directory):
                raise ConfigError(_no_store(self.directory))
            require_format(self._files.own, mark=False)
            return ReadOnlyReplica(
                self.schema,
                self._files.own,
                name=str(self.directory),
                admission=admission,
                state=state,
            )

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
        replica = self._rows(collection)
        return self._reads.read(
            replica, collection, tuple(keys), epoch, deleted=deleted
        )

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        return self._reads.query(self._rows(collection), collection, query, epoch)

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        return self._reads.count(self._rows(collection), collection, where, epoch)

    @override
    def listing(self, layout: Layout, *, epoch: int | None = None) -> Listing | None:
        return self._reads.listing(self._rows(layout.collection), layout, epoch)

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        opened = partial(self._rows, collection)
        return self._reads.scan(opened, collection, after, deleted=deleted, epoch=epoch)

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        yield from self._log.read(self._facts(), after)

    @override
    def find_commit(self, token: str) -> Change | None:
        return self._log.find(self._facts(), token)

    @override
    def incarnation(self) -> str:
        own = self._facts().directory
        with translated(own):
            return incarnation(own)

    @override
    def pending(self, after: int) -> Pending:
        found = self._log.pending(self._facts(), after, whole=False)
        return super().pending(after) if found is None else found

    @override
    def head(self) -> int:
        return self._facts().read_state(lambda state: state.sequence)

    @override
    def meta(self, name: str) -> JSON:
        return self._facts().read_state(lambda state: deepcopy(state.meta.get(name)))

    @override
    def record_history(
        self, collection: str, key: str, *, before: int | None = None
    ) -> Iterator[KeyChange]:
        name = self.schema[collection].name
        return self._recovery.record_history(self._facts(), name, key, before)

    # -- legacy files ---------------------------------------------------------------------

    def file_lags(self) -> tuple[FileLag, ...]:
        """Return the lag of each legacy file that does not show every commit yet."""
        replica = self._facts()
        with translated(replica.directory):
            return self._lags.lags(replica)

    @override
    def unread_files(self) -> tuple[UnreadFile, ...]:
        return self._facts().read_state(self._guard.files)

    def unclaimed_files(self) -> tuple[Path, ...]:
        """Return the JSON files below the directory that no layout claims."""
        with translated(self.directory):
            claimed = set(self._files.paths.values())
            return tuple(unclaimed(self.directory, claimed, self._include))


def _ignore(_event: Event) -> None:
    """Drop an event: the first tier emits it as well."""


def _require_fitting(schema: Schema, name: str, state: State) -> None:
    """Refuse rows without a recorded schema that do not fit, as a server does."""
    if state.meta.get(SCHEMA_META) is None:
        require_fitting(state, schema, name)


def _no_store(directory: Path) -> str:
    return (
        f"{directory} has no store yet: its files were not read by a server, nor by "
        "`pend-storage migrate json`, and looking at it adopts nothing."
    )
