"""Whole-file verbs of a store: ``load``, ``save``, ``edit``, ``update``, ``exclusive``.

Written once over the contract of a store; :class:`~pend_storage.store.Store` has them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from pend_storage._model.diff import ABSENT
from pend_storage._shown import shown
from pend_storage._whole_files.exclusive_use import IsHeld, caller
from pend_storage._whole_files.steps import (
    MISSING,
    FileStore,
    drafts_of,
    exclusive_uses_of,
    file_of,
    layout_of,
    make_drafts,
    open_files,
    value_of,
    value_or_default,
    working_copies_of,
    write,
)
from pend_storage._whole_files.working_copies import as_json
from pend_storage.errors import ConfigError, MergeConflict

__all__ = ["FileVerbs"]

T = TypeVar("T")


class FileVerbs:
    """Load, save and change whole files as plain data.

    For code that did ``json.load``, change, ``json.dump``. A mixin of
    :class:`~pend_storage.store.Store`.
    """

    def load(
        self: FileStore,
        file: str,
        default: Any = MISSING,
        *,
        exclusive: bool = False,
        timeout: float = 30.0,
    ) -> Any:
        """Load a file as ``json.load`` does: plain dictionaries and lists.

        They belong to the caller. :meth:`save` writes what the caller changes in them.

        Args:
            file: of one of the layouts.
            default: returned where the file does not exist.
            exclusive: no other caller gets exclusive use of the file until this one (this
                thread, or task) calls :meth:`save` for it, or ends, or 60 seconds are over.
            timeout: seconds to wait for exclusive use.

        Raises:
            ConfigError: no layout claims a file of that name.
            FileNotFoundError: the file does not exist, and there is no ``default``.
            CorruptFile: the file was never readable.
            LockTimeout: other callers had exclusive use until the timeout.
        """
        layout = layout_of(self, file)
        holds = exclusive_uses_of(self)
        if exclusive:
            holds.acquire_lease(file, timeout)
        try:
            base = value_of(self, layout)
            value = value_or_default(file, base, default)
        except BaseException:
            if exclusive:
                holds.release_lease(file)
            raise
        working_copies_of(self).record(file, value, base)
        return value

    def save(self: FileStore, file: str, value: Any, *, strict: bool = False) -> None:
        """Save a file as ``json.dump`` does, but merge it with concurrent writes.

        The difference between the value and what its caller had loaded is written: that
        very object, or the last value that this thread or task has loaded of the file. All
        of it is one transaction. Where nothing was loaded, the value replaces the file.

        Args:
            file: of one of the layouts; created where it does not exist.
            value: anything that ``json.dump`` takes.
            strict: raise where a record cannot be placed; else it stands in the file as
                it is and waits in quarantine, and an event says so.

        Raises:
            ConfigError: no layout claims a file of that name.
            MergeConflict: another writer has changed the same member to another value.
            InvalidRecord: the value has not the shape of the file; or ``strict``.
            TypeError: ``json.dump`` would not write it.
            UniqueViolation: a changed record has a value that another one has.
            ReferenceViolation: a deleted record is still referred to.
            CorruptFile: the file is broken as a whole.
        """
        holds, copies = exclusive_uses_of(self), working_copies_of(self)
        try:
            layout = layout_of(self, file)
            new = as_json(value)
            holds.require(file, caller())
            base = copies.base(file, value)
            write(self, drafts_of(layout, base, new), strict=strict)
        finally:
            holds.release_lease(file)
        copies.record(file, value, new)

    @contextmanager
    def edit(self: FileStore, *files: str, strict: bool = False) -> Iterator[Any]:
        """Edit files in a block: yields their content, and writes it at the end.

        .. code-block:: python

            with store.edit("economy.json", "shop.json") as (economy, shop):
                economy["users"]["111"]["wallet"] -= shop["items"][0]["price"]

        One transaction writes the changes of all files, merged with concurrent writes. An
        exception inside writes nothing. A file that does not exist is empty, and is
        created where something is put into it.

        Args:
            files: one, or several.
            strict: as for :meth:`save`.

        Raises: as :meth:`save`.
        """
        bases, values = open_files(self, files)
        yield values[0] if len(values) == 1 else tuple(values)
        drafts = make_drafts(bases, values)
        for file in files:
            exclusive_uses_of(self).require(file, caller())
        write(self, drafts, strict=strict)

    def update(
        self: FileStore,
        file: str,
        fn: Callable[[Any], T],
        *,
        timeout: float = 30.0,
        strict: bool = False,
    ) -> T:
        """Update the content of a file by a function; retried when it conflicts.

        The file is held exclusively meanwhile: callers of :meth:`update`,
        :meth:`exclusive` and ``load(..., exclusive=True)`` are serialized.

        Args:
            file: of one of the layouts; empty where it does not exist.
            fn: changes its argument in place. It may be called several times, so it must
                have no other effects.
            timeout: seconds to wait for exclusive use, and to retry.
            strict: as for :meth:`save`.

        Returns:
            The result of the function.

        Raises: as :meth:`save`, and:
            LockTimeout: other callers had exclusive use until the timeout.
            MergeConflict: every attempt until the timeout conflicted.
        """
        deadline = time.monotonic() + timeout
        with exclusive_uses_of(self).exclusive(file_of(self, file), timeout):
            while True:
                bases, values = open_files(self, (file,))
                result = fn(values[0])
                drafts = make_drafts(bases, values)
                exclusive_uses_of(self).require(file, caller())
                try:
                    write(self, drafts, strict=strict)
                except MergeConflict:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return result

    def exists(self: FileStore, file: str) -> bool:
        """Return whether a file exists; an empty one does.

        Raises:
            ConfigError: no layout claims a file of that name.
        """
        return value_of(self, layout_of(self, file)) is not ABSENT

    def exclusive(
        self: FileStore, file: str, *, timeout: float = 30.0
    ) -> AbstractContextManager[None]:
        """Hold a file exclusively in a block: one caller at a time.

        .. code-block:: python

            with store.exclusive("expenses.json"):
                expenses = store.load("expenses.json", default=[])
                expenses.append({"id": max((e["id"] for e in expenses), default=0) + 1})
                store.save("expenses.json", expenses)

        Over threads, tasks, processes and machines, in every phase. Re-entrant. It ends
        with the process that has it. An advisory lock: it excludes other callers of
        :meth:`exclusive`, :meth:`update` and ``load(..., exclusive=True)``, and no others.

        Args:
            file: of one of the layouts.
            timeout: seconds to wait for other callers.

        Raises:
            ConfigError: no layout claims a file of that name.
            LockTimeout: other callers held it until the timeout.
        """
        return exclusive_uses_of(self).exclusive(file_of(self, file), timeout)

    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        """Hold a named lock in a block: one holder at a time, over all processes.

        :meth:`exclusive` is built on it. The lock ends with the process that holds it, and
        blocks neither commits nor reads. It is not re-entrant.

        Args:
            name: of the lock.
            timeout: seconds to wait for other holders; 0: do not wait.

        Returns:
            A block that yields a function: it returns whether the lock is still held.

        Raises:
            LockTimeout: another holder held it until the timeout.
            StoreUnavailable: the server of the lock cannot be reached.
        """
        raise ConfigError(
            f"a {type(self).__name__} has no locks, so it cannot wait {timeout:g} s for "
            f"{shown(name)}: write its method lock()."
        )
