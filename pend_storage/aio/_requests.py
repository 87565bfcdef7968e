"""Requests of coroutines to a store, and the execution of a batch in one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeAlias

from pend_storage._model.records import Batch, Row
from pend_storage.aio._batching import AsyncRequest
from pend_storage.errors import StaleEpoch, StoreUnavailable
from pend_storage.query import Query, field, make_query
from pend_storage.schema import CollectionSpec
from pend_storage.store import Store

__all__ = [
    "CallRequest",
    "CommitRequest",
    "LookupRequest",
    "ReadRequest",
    "execute_calls",
    "execute_commits",
    "execute_reads",
]

Rows: TypeAlias = dict[str, Row]


class CallRequest(AsyncRequest):
    """Call of a function in a thread; never merged with others."""

    __slots__ = ("do",)

    def __init__(self, do: Callable[[], Any]) -> None:
        super().__init__()
        self.do = do


class CommitRequest(AsyncRequest):
    """Commit of a batch. Its conflict keys are the keys that it writes and checks."""

    __slots__ = ("batch", "conflict_keys", "epoch", "size")

    def __init__(self, batch: Batch, epoch: int | None) -> None:
        super().__init__()
        self.batch = batch
        self.epoch = epoch
        # Checked keys count as well: a check must not overtake an earlier write of its key.
        keys = [(o.collection, o.key) for o in batch.operations]
        self.size = len(keys) + len(batch.checks)
        self.conflict_keys = [*keys, *batch.checks] if batch.checks else keys


class ReadRequest(AsyncRequest):
    """Read of rows by key."""

    __slots__ = ("collection", "deleted", "epoch", "keys", "size")

    def __init__(
        self,
        collection: str,
        keys: tuple[str, ...],
        deleted: bool = False,  # noqa: FBT001, FBT002 - as in Store.read
        epoch: int | None = None,
    ) -> None:
        super().__init__()
        self.collection = collection
        self.keys = keys
        self.deleted = deleted
        self.epoch = epoch
        self.size = len(keys)

    @property
    def kind(self) -> Hashable:
        """Merge key: requests with the same one can be answered by one call."""
        return self.collection, self.deleted, self.epoch

    def ask(self, store: Store) -> Rows:
        """Read the keys of this request alone."""
        return self._read(store, self.keys)

    def _read(self, store: Store, keys: Iterable[str]) -> Rows:
        return store.read(self.collection, keys, deleted=self.deleted, epoch=self.epoch)

    @staticmethod
    def ask_together(store: Store, reads: Sequence[ReadRequest]) -> list[Rows]:
        """Read the keys of several requests in one call."""
        wanted = dict.fromkeys(key for read in reads for key in read.keys)
        rows = reads[0]._read(store, wanted)  # noqa: SLF001 - same class
        share = _Shares(store.schema[reads[0].collection])
        return [
            {key: share.of(rows[key]) for key in read.keys if key in rows}
            for read in reads
        ]


class LookupRequest(AsyncRequest):
    """Lookup of the row with a value in a unique field."""

    __slots__ = ("field", "query", "spec", "value")

    def __init__(
        self, spec: CollectionSpec, field: str, value: Any, query: Query
    ) -> None:
        """Make a request.

        Args:
            spec: of the collection.
            field: a unique one.
            value: of that field.
            query: finds the row, if the request is executed alone.
        """
        super().__init__()
        self.spec = spec
        self.field = field
        self.value = value
        self.query = query

    @property
    def kind(self) -> Hashable:
        """Merge key: requests with the same one can be answered by one call."""
        return self.spec.name, self.field

    def ask(self, store: Store) -> Row | None:
        """Look up the value of this request alone."""
        rows = store.query(self.spec.name, self.query)
        return rows[0] if rows else None

    @staticmethod
    def ask_together(
        store: Store, lookups: Sequence[LookupRequest]
    ) -> list[Row | None]:
        """Look up the values of several requests in one call."""
        spec, name = lookups[0].spec, lookups[0].field
        values = dict.fromkeys(lookup.value for lookup in lookups)
        query = make_query(spec, (field(name).in_(list(values)),))
        found = {
            getattr(row.record, name): row for row in store.query(spec.name, query)
        }
        share = _Shares(spec)
        return [
            share.of(found[lookup.value]) if lookup.value in found else None
            for lookup in lookups
        ]


class _Shares:
    """Rows for several callers, each with objects of its own.

    JSON values in a record are mutable: a caller that changes one must not change the
    answer of another caller.
    """

    def __init__(self, spec: CollectionSpec) -> None:
        self._codec = spec.codec
        self._given: set[str] = set()

    def of(self, row: Row) -> Row:
        """Return the row for one caller: the first gets it as it is, others a copy."""
        if row.key not in self._given:
            self._given.add(row.key)
            return row
        if row.record is None:
            return row
        record = self._codec.decode(self._codec.encode(row.record))
        return Row(row.key, row.version, record)


def execute_reads(
    store: Store, requests: Sequence[ReadRequest | LookupRequest]
) -> None:
    """Answer reads and lookups, those of one kind in one call."""
    kinds: dict[Hashable, list[Any]] = {}
    for request in requests:
        kinds.setdefault((type(request), request.kind), []).append(request)
    for group in kinds.values():
        _execute_kind(store, group)


def _execute_kind(store: Store, group: Sequence[Any]) -> None:
    if len(group) == 1:
        group[0].complete(group[0].ask, store)
        return
    try:
        answers = group[0].ask_together(store, group)
    except (StoreUnavailable, StaleEpoch) as error:  # it would fail for each alone, too
        for request in group:
            request.fail(error)
    except Exception:  # noqa: BLE001 - one request is at fault: each is executed alone
        for request in group:
            request.complete(request.ask, store)
    else:
        for request, answer in zip(group, answers, strict=True):
            request.resolve(answer)


def execute_commits(store: Store, requests: Sequence[CommitRequest]) -> None:
    """Commit batches: those of one epoch in one call, each as a commit of its own."""
    for epoch, run in groupby(requests, attrgetter("epoch")):
        group = list(run)
        if len(group) == 1:
            group[0].complete(store.commit, group[0].batch, epoch=epoch)
            continue
        outcomes = store.commit_each([each.batch for each in group], epoch=epoch)
        for request, outcome in zip(group, outcomes, strict=True):
            request.resolve(outcome)


def execute_calls(requests: Sequence[CallRequest]) -> None:
    """Call functions, one after the other."""
    for request in requests:
        request.complete(request.do)
