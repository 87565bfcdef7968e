"""Transactions: reads that are checked, writes that take effect together.

A transaction remembers the version of every record that it read, and that a record was
missing where it was. At the end all of it is checked and written in one commit: if
anything read has changed meanwhile, nothing is written and ``Conflict`` is raised. That
makes transactions serialisable by key; a query inside of one checks the records that it
returned, not the absence of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, overload

import tenacity

from pend_storage import jitter
from pend_storage.errors import Conflict
from pend_storage.layout import layout_of
from pend_storage.query import Condition, Query
from pend_storage.records import Page, Row, Versioned
from pend_storage.schema import CollectionSpec
from pend_storage.unit_of_work import Place, UnitOfWork
from pend_storage.verbs import lookup_query, page_of, page_query, probing

if TYPE_CHECKING:
    from pend_storage.store import Store

__all__ = ["RETRY", "Transaction", "TransactionCollection", "run_transaction"]

R = TypeVar("R")
T = TypeVar("T")

RETRY: Final[dict[str, Any]] = {
    "retry": tenacity.retry_if_exception_type(Conflict),
    "wait": jitter.growing(first=0.001, most=0.1),
    "reraise": True,
}
"""How a transaction that conflicts is repeated. The pause before the n-th repetition is
random, up to 2^n ms and never over 100 ms: long enough to let the others pass, short
enough for a caller who waits."""


class Transaction:
    """Use as ``with store.transaction() as tx:``; an exception inside writes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._work = UnitOfWork(store.schema)
        self.versions: dict[Place, int] = {}
        """After the end: the new version of each ``(collection, key)`` written."""

    @overload
    def collection(self, name: type[R]) -> TransactionCollection[R]: ...
    @overload
    def collection(self, name: str) -> TransactionCollection[Any]: ...
    def collection(self, name: str | type) -> TransactionCollection[Any]:
        """The verbs of one collection inside this transaction."""
        return TransactionCollection(self._store, self._work, self._store.schema[name])

    def legacy(self, file: str) -> Any:
        """A legacy file as :meth:`Store.legacy` gives it, inside this transaction.

        What is read through it is checked at the end, and what is written takes effect
        then, together with the rest. Do not use it, or what it has given, afterwards.

        Raises:
            ConfigError: no layout claims a file of that name.
        """
        return layout_of(self._store.layouts, file).view(self._store, self)

    def commit(self) -> None:
        """Check all reads and write all writes, atomically; what follows begins anew.

        Raises:
            Conflict: something that was read has changed.
            UniqueViolation: another record has the same unique value.
            ReferenceViolation: a reference would lead nowhere.
        """
        batch = self._work.batch()
        if batch is not None:
            self.versions = self._work.finish(batch, self._store.commit(batch))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()


class TransactionCollection(Generic[R]):
    """One collection inside a transaction. Sees the transaction's own writes."""

    __slots__ = ("_store", "_work", "spec")

    def __init__(self, store: Store, work: UnitOfWork, spec: CollectionSpec) -> None:
        self._store = store
        self._work = work
        self.spec = spec

    def get(self, key: str) -> R | None:
        """The record under a key, or None; either answer is checked at the end."""
        return self.get_many((key,)).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, R]:
        """The records under these keys; missing keys are absent, and checked too."""
        return {key: row.record for key, row in self._rows(keys).items()}

    def versioned(self, key: str) -> Versioned[R] | None:
        """The record and the version at which it was read (0: written here, new)."""
        row = self._rows((key,)).get(key)
        return None if row is None else Versioned(row.record, row.version)

    def get_by(self, name: str, value: Any) -> R | None:
        """The record with this value in a field declared unique, or None.

        Raises:
            InvalidQuery: the field alone is not declared unique.
        """
        rows = self._find(lookup_query(self.spec, name, value))
        return rows[0].record if rows else None

    def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        """As :meth:`Collection.find`, with the transaction's own writes in it."""
        query = page_query(self.spec, where, order_by, limit, after)
        return page_of(self.spec, query, self._find(probing(query)))

    def rows(self, *where: Condition) -> list[Row]:
        """What :meth:`find` finds, with the versions at which it was read."""
        return self._find(page_query(self.spec, where, (), None, None))

    def count(self, *where: Condition) -> int:
        """How many records meet every condition; each of them is checked at the end."""
        return len(self.find(*where).items)

    def put(self, record: R, *, if_version: int | None = None) -> None:
        """Write a record at the end; its version is then in ``Transaction.versions``.

        Raises:
            InvalidRecord: it breaks the schema.
            Conflict: it is known already not to be at ``if_version``.
        """
        self._work.write(self._store.schema.put(self.spec.name, record), if_version)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Delete at the end; whether there is a record to delete is checked too."""
        there = bool(self._rows((key,)))
        self._work.write(self._store.schema.delete(self.spec.name, key), if_version)
        return there

    def _rows(self, keys: Iterable[str]) -> dict[str, Row]:
        wanted = list(keys)
        asked = self._work.unwritten(self.spec, wanted)
        stored = self._store.read(self.spec.name, asked) if asked else {}
        return self._work.found(self.spec, wanted, stored)

    def _find(self, query: Query) -> list[Row]:
        asked = self._work.widened(self.spec, query)
        stored = self._store.query(self.spec.name, asked)
        return self._work.merged(self.spec, query, stored)


def run_transaction(store: Store, fn: Callable[[Transaction], T], attempts: int) -> T:
    """Call ``fn`` in a transaction until it does not conflict, ``attempts`` times at most."""

    def attempt() -> T:
        transaction = Transaction(store)
        result = fn(transaction)
        transaction.commit()
        return result

    stop = tenacity.stop_after_attempt(attempts)
    return tenacity.Retrying(stop=stop, **RETRY)(attempt)
