"""Transactions: reads that are checked, writes that take effect together.

A transaction remembers the version of every record that it read, and that a record was
missing where it was. At the end all of it is checked and written in one commit: if
anything read has changed meanwhile, nothing is written and ``Conflict`` is raised. That
makes transactions serialisable by key; a query inside of one checks the records that it
returned, not the absence of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Self, TypeVar, overload

import tenacity

from pend_storage._audit_images import commit_audited
from pend_storage._collection_queries import (
    fetch_one_more,
    given,
    given_key,
    is_given,
    key_text,
    lookup_query,
    over,
    page_of,
    page_query,
    version_demanded,
)
from pend_storage._layouts.layout import layout_of
from pend_storage._model.record_types import RecordAdapter, RecordKey
from pend_storage._model.records import Page, Put, Row, Versioned
from pend_storage._retry import ON_CONFLICT
from pend_storage._unit_of_work import Place, UnitOfWork
from pend_storage.contract import StoreBackend
from pend_storage.query import Condition, Query
from pend_storage.schema import CollectionSpec

__all__ = ["Transaction", "TransactionCollection", "run_transaction"]

R = TypeVar("R")
K = TypeVar("K", bound=RecordKey)
T = TypeVar("T")


class Transaction:
    """Transaction: ``with store.transaction() as tx:``. An exception writes nothing."""

    def __init__(self, store: StoreBackend) -> None:
        self._store = store
        self._work = UnitOfWork(store.schema)
        self._collections: dict[str | type, TransactionCollection[Any]] = {}
        self.versions: dict[Place, int] = {}
        """After the end: the new version of each ``(collection, key)`` written."""
        self.companions: dict[object, Any] = {}
        """Objects that other code attaches to this transaction, by keys of its own."""
        self._afterwards: list[Callable[[], None]] = []

    @overload
    def collection(self, name: type[R]) -> TransactionCollection[R]: ...
    @overload
    def collection(self, name: str) -> TransactionCollection[Any]: ...
    def collection(self, name: str | type) -> TransactionCollection[Any]:
        """Return the operations of one collection inside this transaction."""
        known = self._collections.get(name)
        if known is None:
            schema = self._store.schema
            known = self._collection_of(schema[name], schema.adapter(name))
            self._collections[name] = known
        return known

    def _collection_of(
        self, spec: CollectionSpec, adapter: RecordAdapter | None
    ) -> TransactionCollection[Any]:
        return TransactionCollection(self._store, self._work, spec, adapter)

    def legacy(self, file: str, *, strict: bool = False) -> Any:
        """Open a legacy file as :meth:`Store.legacy` does, inside this transaction.

        Reads through it are checked at the end, and writes take effect then, together
        with the rest. Do not use it, or values that it returned, afterwards.

        Raises:
            ConfigError: no layout claims a file of that name.
        """
        layout = layout_of(self._store.layouts, file)
        return layout.view(self._store, self, strict=strict)

    def commit(self) -> None:
        """Check all reads and write all writes, atomically; later calls begin anew.

        Raises:
            Conflict: a record that was read has changed.
            UniqueViolation: another record has the same unique value.
            ReferenceViolation: a reference would lead nowhere.
        """
        batch = self._work.batch()
        if batch is not None:
            self.versions = self._work.finish(batch, commit_audited(self._store, batch))
        # A callback that registers another one means the next commit of this transaction.
        afterwards, self._afterwards = self._afterwards, []
        for call in afterwards:
            call()

    def after_commit(self, call: Callable[[], None]) -> None:
        """Register a function to be called when this transaction is committed."""
        self._afterwards.append(call)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()


class TransactionCollection(Generic[R]):
    """Collection inside a transaction. Sees the transaction's own writes."""

    __slots__ = ("_adapter", "_store", "_work", "spec")

    def __init__(
        self,
        store: StoreBackend,
        work: UnitOfWork,
        spec: CollectionSpec,
        adapter: RecordAdapter | None = None,
    ) -> None:
        self._store = store
        self._work = work
        self.spec: CollectionSpec = spec
        self._adapter = adapter

    def get(self, key: RecordKey) -> R | None:
        """Return the record under a key, or None; either answer is checked at the end."""
        return self.get_many((key,)).get(key)

    def get_many(self, keys: Iterable[K]) -> dict[K, R]:
        """Return the records under these keys; missing keys are absent, and checked too."""
        wanted = {key: key_text(self._adapter, key) for key in keys}
        rows = self._rows(wanted.values())
        return {
            key: given(self._adapter, rows[text].record)
            for key, text in wanted.items()
            if text in rows
        }

    def versioned(self, key: RecordKey) -> Versioned[R] | None:
        """Return the record and the version at which it was read (0: written here, new)."""
        text = key_text(self._adapter, key)
        row = self._rows((text,)).get(text)
        if row is None:
            return None
        return Versioned(given(self._adapter, row.record), row.version)

    def get_by(self, name: str, value: Any) -> R | None:
        """Return the record with this value in a field declared unique, or None.

        Raises:
            InvalidQuery: the field alone is not declared unique.
        """
        rows = self._find(lookup_query(self.spec, name, value))
        return given(self._adapter, rows[0].record) if rows else None

    def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        """Find as :meth:`Collection.find` does, with the transaction's own writes in it."""
        signing = self._store.cursor_key
        query = page_query(self.spec, where, order_by, limit, after, cursor_key=signing)
        rows = self._find(fetch_one_more(query))
        return page_of(self.spec, query, rows, self._adapter, cursor_key=signing)

    def rows(self, *where: Condition) -> list[Row]:
        """Return the rows that :meth:`find` finds, with the versions that were read."""
        return self._find(page_query(self.spec, where, (), None, None))

    def select(self, query: Query) -> list[Row]:
        """Return the rows of a prepared query; its operands are not checked again."""
        return self._find(query)

    def count(self, *where: Condition) -> int:
        """Count the records that meet every condition; each of them is checked at the end."""
        return len(self.find(*where).items)

    def put(self, record: R, *, if_version: int | None = None) -> None:
        """Write a record at the end; its version is then in ``Transaction.versions``.

        Raises:
            InvalidRecord: it breaks the schema.
            Conflict: it is known already not to be at ``if_version``.
        """
        present = None
        key = given_key(self.spec, record) if is_given(self.spec, record) else None
        if key is not None:  # stored fields that the caller's type lacks are kept
            row = self._rows((key,)).get(key)
            present = row and row.record
        put = over(self._store.schema, self.spec, record, present)
        self._work.write(put, version_demanded(if_version))

    def write(self, put: Put) -> None:
        """Write an operation of :meth:`Schema.put` at the end."""
        self._work.write(put, None)

    def delete(self, key: RecordKey, *, if_version: int | None = None) -> bool:
        """Delete at the end; that there is a record, or none, is checked then too."""
        text = key_text(self._adapter, key)
        there = bool(self._rows((text,)))
        delete = self._store.schema.delete(self.spec.name, text)
        self._work.write(delete, version_demanded(if_version))
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


def run_transaction(
    begin: Callable[[], Transaction], fn: Callable[[Transaction], T], attempts: int
) -> T:
    """Call ``fn`` in a transaction until it does not conflict, ``attempts`` times at most."""

    def attempt() -> T:
        transaction = begin()
        result = fn(transaction)
        transaction.commit()
        return result

    stop = tenacity.stop_after_attempt(attempts)
    return tenacity.Retrying(stop=stop, **ON_CONFLICT)(attempt)
