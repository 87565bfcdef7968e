"""Recovery verbs of a pair: whose snapshot, whose numbers, both histories."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import pytest
from typing_extensions import override

from pend_storage._model.snapshots import KeyChange, SnapshotReader, StoredRow
from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import ConfigError, StaleEpoch, StoreUnavailable
from pend_storage.phases import ROLE_META, Phase, Role, RoleState
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing.contract._harness import commit
from pend_storage.testing.contract._snapshots import all_stored, stored_rows
from pend_storage.testing.domain import SCHEMA, Log, a_log


class Watched(WrapperStore):
    """Store that does something before its snapshots and histories, once."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.before: Any = None
        self.open = 0
        self.histories = 0

    def _happen(self) -> None:
        happen, self.before = self.before, None
        if happen is not None:
            happen()

    @override
    def snapshot(self) -> AbstractContextManager[SnapshotReader]:
        self._happen()
        return _Counted(self, self.inner.snapshot())

    @override
    def record_history(
        self, collection: str, key: str, *, before: int | None = None
    ) -> Iterator[KeyChange]:
        self.histories += 1
        self._happen()
        return self.inner.record_history(collection, key, before=before)


class _Counted(AbstractContextManager[SnapshotReader]):
    def __init__(
        self, store: Watched, inner: AbstractContextManager[SnapshotReader]
    ) -> None:
        self._store, self._inner = store, inner

    @override
    def __enter__(self) -> SnapshotReader:
        self._store.open += 1
        return self._inner.__enter__()

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.open -= 1
        self._inner.__exit__(kind, error, trace)


class Stores:
    def __init__(self) -> None:
        self.json = Watched(MemoryStore(SCHEMA))
        self.postgres = Watched(MemoryStore(SCHEMA))
        self.pair = DualWriteStore(json=self.json, postgres=self.postgres)

    def switch(self, phase: Phase) -> None:
        self.pair.switch(phase, accept=CODES)


@pytest.fixture
def stores() -> Iterator[Stores]:
    made = Stores()
    with made.pair:
        yield made


def test_a_snapshot_is_that_of_the_primary_at_its_own_numbers(stores: Stores) -> None:
    for phase in Phase:
        stores.switch(phase)
        versions = commit(stores.pair, a_log("a", phase))
        json = phase in {Phase.JSON_ONLY, Phase.PARALLEL}
        primary = stores.json if json else stores.postgres

        with stores.pair.snapshot() as reader:
            assert reader.point.identity == primary.identity()
            assert reader.point.epoch == primary.role().epoch
            assert reader.point.sequence == versions[0] == primary.head()
            rows = stored_rows(reader, SCHEMA)
        # A pair names divergences and files in system collections of its primary.
        assert rows == all_stored(primary)
    assert stores.json.open == stores.postgres.open == 0


@pytest.mark.parametrize("phase", [Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY])
def test_a_switch_before_the_cut_begins_the_snapshot_anew(
    stores: Stores, phase: Phase
) -> None:
    stores.switch(Phase.PARALLEL)
    commit(stores.pair, a_log("a", "old"))

    def switch() -> None:
        other = DualWriteStore(json=stores.json.inner, postgres=stores.postgres.inner)
        other.switch(phase, accept=CODES)
        commit(other, a_log("a", "new"), a_log("b"))

    stores.json.before = switch
    with stores.pair.snapshot() as reader:
        assert (stores.json.open, stores.postgres.open) == (0, 1)
        assert reader.point.identity == stores.postgres.identity()
        assert [row.key for row in sorted(reader.rows("logs"))] == ["a", "b"]
        meta = reader.meta[ROLE_META]
        assert RoleState.from_meta(meta).role is Role.PRIMARY
    assert (stores.json.open, stores.postgres.open) == (0, 0)


def test_the_snapshot_of_a_fenced_store_is_taken_while_no_other_is_open(
    stores: Stores,
) -> None:
    stores.switch(Phase.PARALLEL)
    commit(stores.pair, a_log("a"))
    epoch = stores.json.role().epoch
    fenced = RoleState(Role.FENCED, epoch).to_meta()
    stores.json.compare_and_set_meta(ROLE_META, stores.json.meta(ROLE_META), fenced)
    stores.json.compare_and_set_meta("switch", None, {"n": 1})

    with stores.pair.snapshot() as reader:
        assert reader.point.identity == stores.json.identity()
        assert [row.key for row in reader.rows("logs")] == ["a"]


def test_without_a_primary_there_is_no_snapshot(stores: Stores) -> None:
    commit(stores.pair, a_log("a"))
    for store in (stores.json, stores.postgres):
        detached = RoleState(Role.DETACHED, 9).to_meta()
        store.compare_and_set_meta(ROLE_META, store.meta(ROLE_META), detached)

    with pytest.raises((StaleEpoch, ConfigError)), stores.pair.snapshot():
        pass
    assert stores.json.open == stores.postgres.open == 0


def test_an_error_in_the_block_closes_the_snapshot(stores: Stores) -> None:
    with pytest.raises(ZeroDivisionError), stores.pair.snapshot():
        raise ZeroDivisionError
    assert stores.json.open == 0


def texts(store: Store, **options: Any) -> list[str | None]:
    return [
        change.record and change.record.text
        for change in store.record_history("logs", "a", **options)
    ]


def through_all_phases(stores: Stores) -> None:
    for n, phase in enumerate([*Phase, *reversed(Phase)]):
        stores.switch(phase)
        stores.pair.collection(Log).put(a_log("a", f"{n}"))
        stores.pair.collection(Log).put(a_log("b", f"{n}"))


def test_a_history_goes_through_both_logs_without_a_double(stores: Stores) -> None:
    through_all_phases(stores)

    assert texts(stores.pair) == ["7", "6", "5", "4", "3", "2", "1", "0"]
    assert len(texts(stores.json)) == len(texts(stores.postgres)) == 4
    found = list(stores.pair.record_history("logs", "a"))
    assert [c.sequence for c in found] == sorted(
        {c.sequence for c in found}, reverse=True
    )
    assert [c.version for c in found] == [c.sequence for c in found]
    for place, change in enumerate(found):
        assert (
            texts(stores.pair, before=change.sequence)
            == texts(stores.pair)[place + 1 :]
        )


def test_the_other_log_is_read_only_for_older_changes(stores: Stores) -> None:
    through_all_phases(stores)
    stores.postgres.histories = 0

    history = stores.pair.record_history("logs", "a")
    assert next(history).record == a_log("a", "7")
    assert stores.postgres.histories == 0
    assert len(list(history)) == 7
    assert stores.postgres.histories == 1


def test_a_history_that_may_go_on_elsewhere_says_that_it_cannot_be_read(
    stores: Stores,
) -> None:
    through_all_phases(stores)

    def fail() -> None:
        raise StoreUnavailable("it is down", store="PostgreSQL")

    stores.postgres.before = fail
    history = stores.pair.record_history("logs", "a")
    assert next(history).record == a_log("a", "7")
    with pytest.raises(StoreUnavailable, match="down"):
        list(history)


def test_a_process_that_slept_through_a_switch_reads_the_whole_history(
    stores: Stores,
) -> None:
    stores.switch(Phase.PARALLEL)
    commit(stores.pair, a_log("a", "old"))
    other = DualWriteStore(json=stores.json.inner, postgres=stores.postgres.inner)
    other.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
    commit(other, a_log("a", "new"))

    assert texts(stores.pair) == ["new", "old"]


def test_a_pair_is_not_restored(stores: Stores) -> None:
    row = StoredRow("a", 1, SCHEMA["logs"].codec.encode(a_log("a")))
    for refused in (
        lambda: stores.pair.load_snapshot([("logs", row)]),
        lambda: stores.pair.load_changes([]),
        lambda: stores.pair.reserve_numbers(5),
    ):
        with pytest.raises(ConfigError, match="one new, empty store"):
            refused()
    assert stores.json.head() == stores.postgres.head() == 0
