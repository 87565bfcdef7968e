"""Transactions: reads that are checked, writes that take effect together.

A transaction remembers the version of every record that it read, and that a record was
missing where it was. At the end all of it is checked and written in one commit: if
anything read has changed meanwhile, nothing is written and ``Conflict`` is raised. That
makes transactions serialisable by key; a query inside of one checks the records that it
returned, not the absence of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import tenacity

from pend_storage.collection import find_rows, page_of, page_query
from pend_storage.errors import Conflict, InvalidQuery
from pend_storage.query import (
    Condition,
    Query,
    field,
    select,
)
from pend_storage.records import Delete, Page, Put, Row, Versioned
from pend_storage.schema import CollectionSpec

if TYPE_CHECKING:
    from pend_storage.store import Store

__all__ = ["Transaction", "TransactionCollection", "run_transaction"]

R = TypeVar("R")
T = TypeVar("T")
Place = tuple[str, str]


class _Work:
    """What a transaction has read and written so far."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: dict[Place, int] = {}
        """Versions read, or demanded by ``if_version``."""
        self.writes: dict[Place, Put | Delete] = {}

    def remember(self, collection: str, key: str, version: int) -> None:
        """Note a version; seen twice with different versions, the end could only fail."""
        known = self.seen.setdefault((collection, key), version)
        if known != version:
            raise Conflict(
                collection=collection, key=key, expected=known, actual=version
            )

    def own(self, spec: CollectionSpec) -> dict[str, Put | Delete]:
        """What was written in one collection, by key."""
        return {k: op for (name, k), op in self.writes.items() if name == spec.name}


class Transaction:
    """Use as ``with store.transaction() as tx:``; an exception inside writes nothing."""

    def __init__(self, store: Store) -> None:
        self._work = _Work(store)
        self.versions: dict[Place, int] = {}
        """After the end: the new version of each ``(collection, key)`` written."""

    @overload
    def collection(self, name: type[R]) -> TransactionCollection[R]: ...
    @overload
    def collection(self, name: str) -> TransactionCollection[Any]: ...
    def collection(self, name: str | type) -> TransactionCollection[Any]:
        """The verbs of one collection inside this transaction."""
        return TransactionCollection(self._work, self._work.store.schema[name])

    def commit(self) -> None:
        """Check all reads and write all writes, atomically; what follows begins anew.

        Raises:
            Conflict: something that was read has changed.
            UniqueViolation: another record has the same unique value.
            ReferenceViolation: a reference would lead nowhere.
        """
        work = self._work
        batch = work.store.schema.batch(work.writes.values(), work.seen)
        if not batch.operations and not batch.checks:
            return
        versions = work.store.commit(batch)
        places = [(o.collection, o.key) for o in batch.operations]
        self.versions = dict(zip(places, versions, strict=True))
        work.seen.clear()
        work.writes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()


class TransactionCollection(Generic[R]):
    """One collection inside a transaction. Sees the transaction's own writes."""

    __slots__ = ("_work", "spec")

    def __init__(self, work: _Work, spec: CollectionSpec) -> None:
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
        if (name,) not in self.spec.unique and name != self.spec.key:
            raise InvalidQuery(
                f"{self.spec.name}.{name} is not declared unique: use find()"
            )
        items = self.find(field(name) == value, limit=1).items
        return items[0] if items else None

    def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        """As :meth:`Collection.find`, with the transaction's own writes in it."""
        query = page_query(self.spec, where, order_by, limit, after)
        return page_of(self.spec, query, find_rows(query, self._merged))

    def count(self, *where: Condition) -> int:
        """How many records meet every condition; each of them is checked at the end."""
        return len(self.find(*where).items)

    def put(self, record: R, *, if_version: int | None = None) -> None:
        """Write a record at the end; its version is then in ``Transaction.versions``.

        Raises:
            InvalidRecord: it breaks the schema.
            Conflict: it is known already not to be at ``if_version``.
        """
        self._write(self._work.store.schema.put(self.spec.name, record), if_version)

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Delete at the end; whether there is a record to delete is checked too."""
        there = bool(self._rows((key,)))
        self._write(Delete(self.spec.name, key), if_version)
        return there

    def _write(self, operation: Put | Delete, if_version: int | None) -> None:
        place = (operation.collection, operation.key)
        if if_version is not None:
            self._demand(place, if_version)
        self._work.writes[place] = operation

    def _demand(self, place: Place, version: int) -> None:
        """Check a version as far as it is known; the rest is checked at the end."""
        work = self._work
        earlier = work.writes.get(place)
        if earlier is None:
            known = work.seen.setdefault(place, version)
            fits = known == version
        elif isinstance(earlier, Put):  # there now, without a version of its own yet
            known = work.seen.get(place, 0)
            fits = known == version != 0
        else:
            known = 0
            fits = version == 0
        if not fits:
            collection, key = place
            raise Conflict(
                collection=collection, key=key, expected=version, actual=known
            )

    def _rows(self, keys: Iterable[str]) -> dict[str, Row]:
        work, name, keys = self._work, self.spec.name, list(keys)
        unwritten = [key for key in keys if (name, key) not in work.writes]
        stored = work.store.read(name, unwritten) if unwritten else {}
        for key in unwritten:
            work.remember(name, key, stored[key].version if key in stored else 0)
        own = {
            key: self._own_row(operation)
            for key in keys
            if isinstance(operation := work.writes.get((name, key)), Put)
        }
        return {**stored, **own}

    def _own_row(self, put: Put) -> Row:
        version = self._work.seen.get((put.collection, put.key), 0)
        return Row(put.key, version, self.spec.codec.decode(put.body))

    def _merged(self, query: Query) -> list[Row]:
        """Stored rows and own writes, as if these were stored already."""
        own = self._work.own(self.spec)
        limit = query.limit
        asked = query if limit is None else replace(query, limit=limit + len(own))
        stored = [
            row
            for row in self._work.store.query(self.spec.name, asked)
            if row.key not in own
        ]
        for row in stored:
            self._work.remember(self.spec.name, row.key, row.version)
        if not own:
            return stored
        return select(
            query,
            [*stored, *(self._own_row(o) for o in own.values() if type(o) is Put)],
        )


def run_transaction(store: Store, fn: Callable[[Transaction], T], attempts: int) -> T:
    """Call ``fn`` in a transaction until it does not conflict, ``attempts`` times at most.

    The pause before the n-th repetition is random, up to 2^n ms and never over 100 ms:
    long enough to let the others pass, short enough for a caller who waits.
    """

    def attempt() -> T:
        transaction = Transaction(store)
        result = fn(transaction)
        transaction.commit()
        return result

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Conflict),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_random_exponential(multiplier=0.001, max=0.1),
        reraise=True,
    )
    return retrying(attempt)
