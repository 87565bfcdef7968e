"""What coroutines ask of a store, and how several of them are answered in one call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

from pend_storage.aio.batching import to_future_exception
from pend_storage.errors import StaleEpoch, StoreUnavailable
from pend_storage.query import Query, field, make_query
from pend_storage.records import Batch, Outcome, Row
from pend_storage.schema import CollectionSpec
from pend_storage.sharing import own_copy
from pend_storage.store import Store

__all__ = [
    "CallRequest",
    "CommitRequest",
    "LookupRequest",
    "ReadRequest",
    "answer_looks",
    "carry_out",
    "commit_all",
]

Rows: TypeAlias = dict[str, Row]
ConflictKeys: TypeAlias = Sequence[tuple[str, str]]
"""Collections and keys."""


class CallRequest(NamedTuple):
    """Anything that is not merged."""

    do: Callable[[], Any]

    @property
    def size(self) -> int:
        """One at a time."""
        return 1

    @property
    def conflict_keys(self) -> ConflictKeys:
        """It goes beside any other."""
        return ()


class CommitRequest(NamedTuple):
    """A commit."""

    batch: Batch
    epoch: int | None

    @property
    def size(self) -> int:
        """How many keys it touches."""
        return len(self.batch.operations) + len(self.batch.checks)

    @property
    def conflict_keys(self) -> ConflictKeys:
        """What it writes and checks."""
        written = [(o.collection, o.key) for o in self.batch.operations]
        return [*written, *self.batch.checks] if self.batch.checks else written


class ReadRequest(NamedTuple):
    """Rows by key."""

    collection: str
    keys: tuple[str, ...]
    deleted: bool = False
    epoch: int | None = None

    @property
    def size(self) -> int:
        """How many keys."""
        return len(self.keys)

    @property
    def conflict_keys(self) -> ConflictKeys:
        """It goes beside any other."""
        return ()

    @property
    def kind(self) -> Hashable:
        """What can be asked in one call."""
        return self.collection, self.deleted, self.epoch

    def ask(self, store: Store) -> Rows:
        """Ask for these alone."""
        return self.ask_for(store, self.keys)

    def ask_for(self, store: Store, keys: Iterable[str]) -> Rows:
        """Ask for these and those of others."""
        return store.read(self.collection, keys, deleted=self.deleted, epoch=self.epoch)

    @staticmethod
    def ask_together(store: Store, reads: Sequence[ReadRequest]) -> list[Rows]:
        """Ask for the keys of several in one call."""
        wanted = dict.fromkeys(key for read in reads for key in read.keys)
        rows = reads[0].ask_for(store, wanted)
        share = _Shares(store.schema[reads[0].collection])
        return [
            {key: share.of(rows[key]) for key in read.keys if key in rows}
            for read in reads
        ]


class LookupRequest(NamedTuple):
    """The row with a value in a unique field."""

    spec: CollectionSpec
    field: str
    value: Any
    query: Query
    """The one that asks for it alone."""

    @property
    def size(self) -> int:
        """One value."""
        return 1

    @property
    def conflict_keys(self) -> ConflictKeys:
        """It goes beside any other."""
        return ()

    @property
    def kind(self) -> Hashable:
        """What can be asked in one call."""
        return self.spec.name, self.field

    def ask(self, store: Store) -> Row | None:
        """Ask for this alone."""
        rows = store.query(self.spec.name, self.query)
        return rows[0] if rows else None

    @staticmethod
    def ask_together(
        store: Store, lookups: Sequence[LookupRequest]
    ) -> list[Row | None]:
        """Ask for the values of several in one call."""
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


Look: TypeAlias = ReadRequest | LookupRequest


class _Shares:
    """Sees to it that no two callers get one object: JSON values in it can be changed."""

    def __init__(self, spec: CollectionSpec) -> None:
        self._codec = spec.codec
        self._given: set[str] = set()

    def of(self, row: Row) -> Row:
        """The row for one caller."""
        if row.key not in self._given:
            self._given.add(row.key)
            return row
        if row.record is None:
            return row
        record = self._codec.decode(self._codec.encode(row.record))
        return Row(row.key, row.version, record)


def answer_looks(store: Store, looks: Sequence[Look]) -> list[Any]:
    """Answer looks, those of one kind in one call; an answer or an error for each."""
    kinds: dict[Hashable, list[int]] = {}
    for place, look in enumerate(looks):
        kinds.setdefault((type(look), look.kind), []).append(place)
    answers: list[Any] = [None] * len(looks)
    for conflict_keys in kinds.values():
        group = [looks[place] for place in conflict_keys]
        for place, answer in zip(
            conflict_keys, _answer_kind(store, group), strict=True
        ):
            answers[place] = answer
    return answers


def _answer_kind(store: Store, looks: Sequence[Any]) -> list[Any]:
    if len(looks) == 1:
        return [_or_error(lambda: looks[0].ask(store))]
    try:
        together: list[Any] = looks[0].ask_together(store, looks)
    except (StoreUnavailable, StaleEpoch) as error:  # whoever asks, and for whatever
        return [own_copy(error) for _ in looks]
    except Exception:  # noqa: BLE001 - one of them; its neighbours need not suffer
        return [_or_error(lambda look=look: look.ask(store)) for look in looks]  # type: ignore[misc]
    return together


def commit_all(store: Store, orders: Sequence[CommitRequest]) -> list[Outcome]:
    """Commit orders, each on its own but in one call."""
    outcomes: list[Any] = []
    for epoch, run in groupby(orders, lambda order: order.epoch):
        batches = [order.batch for order in run]
        if len(batches) == 1:
            batch = batches[0]
            outcomes.append(
                _or_error(lambda b=batch, e=epoch: store.commit(b, epoch=e))  # type: ignore[misc]
            )
        else:
            outcomes += store.commit_each(batches, epoch=epoch)
    return outcomes


def carry_out(jobs: Sequence[CallRequest]) -> list[Any]:
    """Do jobs, one after the other."""
    return [_or_error(job.do) for job in jobs]


def _or_error(do: Callable[[], Any]) -> Any:
    try:
        return do()
    except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
        return to_future_exception(error)
