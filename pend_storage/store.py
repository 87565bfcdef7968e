"""Store: the contract of a backend, and the operations of users built on it once.

A backend subclasses :class:`Store` and writes the methods of
:class:`~pend_storage.contract.StoreBackend`, which are described there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Self, TypeVar, overload

from pend_storage._collection import Collection
from pend_storage._health import DEADLINE, Health, health_of
from pend_storage._layouts.layout import Layout, layout_of
from pend_storage._layouts.unread_files import UnreadFile, unread_of
from pend_storage._model import attribution
from pend_storage._model.records import Row
from pend_storage._timed_collection import TimedCollection
from pend_storage._timed_transaction import TimedTransaction
from pend_storage._transaction import Transaction, run_transaction
from pend_storage._whole_files.verbs import FileVerbs
from pend_storage.contract import StoreBackend
from pend_storage.query import field, make_query
from pend_storage.schema import LEGACY_FILES, QUARANTINE

__all__ = ["Store", "unread_in"]

R = TypeVar("R")
T = TypeVar("T")


class Store(FileVerbs, StoreBackend):
    """Store of the records of a schema.

    Safe to use from any number of threads. A backend writes the abstract methods of
    :class:`~pend_storage.contract.StoreBackend`; the rest is built on them.
    """

    def acting(
        self,
        *,
        by: str | None = None,
        reason: str | None = None,
        request: str | None = None,
    ) -> AbstractContextManager[None]:
        """Attribute all commits made in a block to an author and a reason.

        It holds for this thread and for coroutines and tasks begun inside, for every
        store, and is kept in the change log: :attr:`Change.by`, :attr:`Change.reason`.
        Audit entries have it too, and the request.

        Args:
            by: a person, a job, a request; None keeps the author of an outer block.
            reason: of the commits; None keeps that of an outer block.
            request: id of the request that they serve; None keeps that of an outer block.

        Raises:
            ConfigError: U+0000 or a lone surrogate in one of them.
        """
        return attribution.acting(by=by, reason=reason, request=request)

    @overload
    def collection(self, name: type[R]) -> Collection[R]: ...
    @overload
    def collection(self, name: str) -> Collection[Any]: ...
    def collection(self, name: str | type) -> Collection[Any]:
        """Return the operations of one collection, by record type or name.

        Raises:
            UnknownCollection: the schema has none of that name.
        """
        spec, adapter = self.schema[name], self.schema.adapter(name)
        if self._timing is None:
            return Collection(self, spec, adapter)
        return TimedCollection(self, spec, adapter, self._timing)

    def transaction(self) -> Transaction:
        """Begin a transaction: reads are checked, and writes take effect together."""
        if self._timing is None:
            return Transaction(self)
        return TimedTransaction(self, self._timing)

    def run(self, fn: Callable[[Transaction], T], *, attempts: int = 10) -> T:
        """Call a function in a transaction, and repeat it with back-off while it conflicts.

        Args:
            fn: may run several times, so it must have no other effects.
            attempts: number of attempts at most.

        Raises:
            Conflict: the last attempt conflicted too.
        """
        return run_transaction(self.transaction, fn, attempts)

    def health(self, *, deadline: float = DEADLINE) -> Health:
        """Return whether the store can serve now; it raises nothing, and changes nothing.

        Args:
            deadline: seconds until which it must have answered.
        """
        return health_of(self, deadline=deadline)

    def unread_files(self) -> tuple[UnreadFile, ...]:
        """List the unread legacy files: those that could never be read, with the reason.

        In a JSON store that is primary, or alone, and in a pair, calls that depend on one
        of them raise :class:`~pend_storage.errors.CorruptFile`.
        """
        return unread_in(self, {layout.file: layout for layout in self.layouts})

    def legacy(self, file: str, *, strict: bool = False) -> Any:
        """Open a legacy file as a live mapping or sequence, in its legacy shape.

        Args:
            file: its name in the layout.
            strict: raise ``InvalidRecord`` for a value that fits no record. Else it is
                written as old code would write it: it is in the file, and waits in
                quarantine.

        Raises:
            ConfigError: no layout claims a file of that name.
            CorruptFile: it is broken as a whole, and nothing of it could ever be read.
        """
        return layout_of(self.layouts, file).view(self, strict=strict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unread_in(
    store: StoreBackend, layouts: Mapping[str, Layout]
) -> tuple[UnreadFile, ...]:
    """List the unread files of layouts, by the headers and quarantine of a store.

    It reads the headers of the files once, and the entries of each that may be unread.
    """

    def entries(file: str) -> list[Row]:
        spec = store.schema[QUARANTINE]
        return store.query(QUARANTINE, make_query(spec, (field("file") == file,)))

    headers = store.scan(LEGACY_FILES) if layouts else ()
    return tuple(unread_of(headers, entries, layouts, {}))
