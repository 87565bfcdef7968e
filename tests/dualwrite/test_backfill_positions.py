"""A backfill whose target, or source, is another server from one call to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
from typing_extensions import override

from pend_storage import crashpoints
from pend_storage.backfill import BACKFILL_META, backfill
from pend_storage.errors import StoreUnavailable
from pend_storage.records import Advance, ChangedRecord, Row
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing.domain import SCHEMA, Log, Tally, a_log, a_tally

from .test_restored_stores import copied


class Address(WrapperStore):
    """Behind it, the server is exchanged for what it was some calls before."""

    def __init__(
        self, inner: MemoryStore, at: int, back: int, *, is_after: bool = False
    ) -> None:
        """Args: is_after: between two calls, and not in the middle of one."""
        super().__init__(inner)
        self._is_after = is_after
        self.applied = 0
        self.kept = [copied(inner)]
        self._at, self._back = at, back
        self.server = "first"
        self.before_next: Callable[[], object] | None = None

    @override
    def incarnation(self) -> str:
        return self.server

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        self.applied += 1
        if self.applied == self._at and not self._is_after:
            self._exchange()
        if self.before_next is not None:
            happens, self.before_next = self.before_next, None
            happens()
        written = self.inner.apply(records, epoch=epoch, mark=mark)
        assert isinstance(self.inner, MemoryStore)
        self.kept.append(copied(self.inner))
        if self.applied == self._at and self._is_after:
            self._exchange()
        return written

    def _exchange(self) -> None:
        self.inner = self.kept[-1 - self._back]
        self.server = "second"


def a_source() -> MemoryStore:
    """Chunks of rows and graves: each is more than one call."""
    made = MemoryStore(SCHEMA)
    made.collection(Log).put_many(a_log(f"{n:04}", "1") for n in range(1_200))
    for n in range(0, 1_200, 7):
        made.collection(Log).delete(f"{n:04}")
    made.collection(Tally).put_many(a_tally(f"{n}", n) for n in range(30))
    return made


def rows(store: Store) -> Mapping[tuple[str, str], Row]:
    return {
        (spec.name, row.key): row
        for spec in store.schema
        for row in store.scan(spec.name, deleted=True)
    }


def is_complete(target: Store) -> bool:
    meta = target.meta(BACKFILL_META)
    return isinstance(meta, Mapping) and meta["complete"] is True


@pytest.mark.parametrize("back", [1, 2, 3])
@pytest.mark.parametrize("at", range(2, 7))
@pytest.mark.parametrize("is_after", [False, True])
def test_a_target_that_lost_calls_gets_them_again(
    at: int, back: int, *, is_after: bool
) -> None:
    source = a_source()
    back = min(back, at - 1)
    target = Address(MemoryStore(SCHEMA), at, back, is_after=is_after)

    backfill(source, target)
    if not is_complete(target):  # exchanged behind the last call: undetectable
        assert is_after
        backfill(source, target)

    assert target.server == "second"
    assert rows(target) == rows(source)
    assert is_complete(target)


@pytest.mark.parametrize("at", range(2, 7))
def test_also_where_it_was_interrupted_and_written_to_before(at: int) -> None:
    """Rows written since lie before the cursor: the cursor has no reason to move."""
    source, inner = a_source(), MemoryStore(SCHEMA)

    def dies(name: str) -> None:
        if name == "backfill.chunk":
            raise StoreUnavailable("gone", store="target")

    with crashpoints.handled(dies), pytest.raises(StoreUnavailable):
        backfill(source, inner)
    source.collection(Log).put_many(a_log(f"{n:04}", "2") for n in range(1, 1_200, 5))
    target = Address(inner, at, 1)

    backfill(source, target)

    assert rows(target) == rows(source)


def test_two_at_once_end_with_everything_there() -> None:
    source, inner = a_source(), MemoryStore(SCHEMA)
    target = Address(inner, 0, 0)
    target.before_next = lambda: backfill(source, inner)

    report = backfill(source, target)

    assert rows(inner) == rows(source)
    assert report.resumed


def test_what_was_copied_from_another_server_is_no_place_to_go_on_from() -> None:
    """Its numbers mean nothing at the new one: rows would be taken for copied."""

    class Source(WrapperStore):
        server = "old"

        @override
        def incarnation(self) -> str:
            return self.server

    source, target = Source(a_source()), MemoryStore(SCHEMA)

    def dies(name: str) -> None:
        if name == "backfill.chunk":
            raise StoreUnavailable("gone", store="target")

    with crashpoints.handled(dies), pytest.raises(StoreUnavailable):
        backfill(source, target)
    source.server = "new"

    report = backfill(source, target)

    assert not report.resumed
    assert rows(target) == rows(source)
    meta = target.meta(BACKFILL_META)
    assert isinstance(meta, Mapping)
    assert (meta["incarnation"], meta["complete"]) == ("new", True)
