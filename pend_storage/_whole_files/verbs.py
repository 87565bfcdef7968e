"""Whole files as plain data: for code that loads, changes and saves.

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
    Files,
    copies_of,
    drafts_of,
    file_of,
    finished,
    given,
    holds_of,
    layout_of,
    opened,
    value_of,
    write,
)
from pend_storage._whole_files.working_copies import as_json
from pend_storage.errors import ConfigError, MergeConflict

__all__ = ["FileVerbs"]

T = TypeVar("T")


class FileVerbs:
    """Load, save and change whole files; see :class:`~pend_storage.store.Store`."""

    def load(
        self: Files,
        file: str,
        default: Any = MISSING,
        *,
        exclusive: bool = False,
        timeout: float = 30.0,
    ) -> Any:
        """What ``json.load`` of a file gives: plain dictionaries and lists.

        They are the caller's own. :meth:`save` writes what he has changed in them.

        Args:
            file: of one of the layouts.
            default: what to give where the file does not exist.
            exclusive: nobody else gets exclusive use of the file until this caller (this
                thread, or task) calls :meth:`save` for it, or ends, or 60 seconds are over.
            timeout: seconds to wait for exclusive use.

        Raises:
            ConfigError: no layout claims a file of that name.
            FileNotFoundError: it does not exist, and there is no ``default``.
            CorruptFile: nothing of it could ever be read.
            LockTimeout: others had exclusive use of it for so long.
        """
        layout = layout_of(self, file)
        holds = holds_of(self)
        if exclusive:
            holds.borrow(file, timeout)
        try:
            base = value_of(self, layout)
            value = given(file, base, default)
        except BaseException:
            if exclusive:
                holds.bring_back(file)
            raise
        copies_of(self).note(file, value, base)
        return value

    def save(self: Files, file: str, value: Any, *, strict: bool = False) -> None:
        """Write a file, as ``json.dump`` does, but keep what others wrote meanwhile.

        What is written is the difference between the value and what its caller had
        loaded: that very object, or the last thing that this thread or task has loaded
        of the file. All of it is one transaction. Where nothing was loaded, the file says
        what the value says.

        Args:
            file: of one of the layouts; it is made where it does not exist.
            value: whatever ``json.dump`` takes.
            strict: raise where a record cannot be placed; else it stands in the file as
                it is and waits in quarantine, and an event says so.

        Raises:
            ConfigError: no layout claims a file of that name.
            MergeConflict: somebody else has changed the same member to another value.
            InvalidRecord: the value has not the shape of the file; or ``strict``.
            TypeError: ``json.dump`` would not write it.
            UniqueViolation: a changed record has a value that another one has.
            ReferenceViolation: a deleted record is still needed.
            CorruptFile: the file is broken as a whole.
        """
        holds, copies = holds_of(self), copies_of(self)
        try:
            layout = layout_of(self, file)
            new = as_json(value)
            holds.require(file, caller())
            base = copies.base(file, value)
            write(self, drafts_of(layout, base, new), strict=strict)
        finally:
            holds.bring_back(file)
        copies.note(file, value, new)

    @contextmanager
    def edit(self: Files, *files: str, strict: bool = False) -> Iterator[Any]:
        """The content of files, to be changed in a block and written at its end.

        .. code-block:: python

            with store.edit("economy.json", "shop.json") as (economy, shop):
                economy["users"]["111"]["wallet"] -= shop["items"][0]["price"]

        One transaction writes what was changed in all of them, merged with what others
        wrote meanwhile. An exception inside writes nothing. A file that does not exist is
        empty, and is made where something is put into it.

        Args:
            files: one, or several.
            strict: as for :meth:`save`.

        Raises: as :meth:`save`.
        """
        bases, values = opened(self, files)
        yield values[0] if len(values) == 1 else tuple(values)
        drafts = finished(bases, values)
        for file in files:
            holds_of(self).require(file, caller())
        write(self, drafts, strict=strict)

    def update(
        self: Files,
        file: str,
        fn: Callable[[Any], T],
        *,
        timeout: float = 30.0,
        strict: bool = False,
    ) -> T:
        """Have a function change the content of a file; again, where it met others.

        It has exclusive use of the file meanwhile: all that use :meth:`update`,
        :meth:`exclusive` or ``load(..., exclusive=True)`` come one after the other.

        Args:
            file: of one of the layouts; empty where it does not exist.
            fn: changes what it is given. It may be called several times, so it must have
                no other effects.
            timeout: seconds to wait for exclusive use, and to repeat.
            strict: as for :meth:`save`.

        Returns:
            What the function gave.

        Raises: as :meth:`save`, and:
            LockTimeout: others had exclusive use of the file for so long.
            MergeConflict: it met others all that time.
        """
        deadline = time.monotonic() + timeout
        with holds_of(self).exclusive(file_of(self, file), timeout):
            while True:
                bases, values = opened(self, (file,))
                result = fn(values[0])
                drafts = finished(bases, values)
                holds_of(self).require(file, caller())
                try:
                    write(self, drafts, strict=strict)
                except MergeConflict:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return result

    def exists(self: Files, file: str) -> bool:
        """Whether a file exists; an empty one does.

        Raises:
            ConfigError: no layout claims a file of that name.
        """
        return value_of(self, layout_of(self, file)) is not ABSENT

    def exclusive(
        self: Files, file: str, *, timeout: float = 30.0
    ) -> AbstractContextManager[None]:
        """Exclusive use of a file in a block: one caller at a time.

        .. code-block:: python

            with store.exclusive("expenses.json"):
                expenses = store.load("expenses.json", default=[])
                expenses.append({"id": max((e["id"] for e in expenses), default=0) + 1})
                store.save("expenses.json", expenses)

        Over threads, tasks, processes and machines, in every phase. A caller that has it
        may take it again. It ends with the process that has it. It keeps out those who
        ask for it too, or call :meth:`update`, and nobody else.

        Args:
            file: of one of the layouts.
            timeout: seconds to wait for others.

        Raises:
            ConfigError: no layout claims a file of that name.
            LockTimeout: others had it all that time.
        """
        return holds_of(self).exclusive(file_of(self, file), timeout)

    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        """Hold a lock of a name in a block: one holder at a time, in all processes.

        :meth:`exclusive` is made of it. The lock ends with the process that holds it, and
        its holder keeps nothing from anybody else that a commit or a read needs. Holding
        it does not let the same caller take it again.

        Args:
            name: of the lock.
            timeout: seconds to wait for other holders; 0: not at all.

        Returns:
            The block gets a function that tells whether it is still held.

        Raises:
            LockTimeout: others held it all that time.
            StoreUnavailable: the server that keeps it cannot be reached.
        """
        raise ConfigError(
            f"a {type(self).__name__} has no locks, so it cannot wait {timeout:g} s for "
            f"{shown(name)}: write its method lock()."
        )
