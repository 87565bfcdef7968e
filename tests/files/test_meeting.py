"""Races between reading a file and the commit: other writers, doubts, refusals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from typing_extensions import override

from pend_storage import Conflict, MergeConflict, StoreUnavailable, UniqueViolation
from pend_storage._whole_files import steps
from pend_storage.legacy._record_reader import RecordReader
from pend_storage.pend import LAYOUTS, SCHEMA
from pend_storage.query import Query
from pend_storage.records import Batch, Row
from pend_storage.stores.memory import MemoryStore

from .places import ADDRESSES, ANY, ANY_TOO, SERVER_LOGS, WALLETS


class Met(MemoryStore):
    """A store in which others act right before, or after, the next commits."""

    def __init__(self) -> None:
        super().__init__(SCHEMA, layouts=LAYOUTS)
        self.before: list[Callable[[], Any]] = []
        self.after: list[Callable[[], Any]] = []
        self.looking: list[Callable[[], Any]] = []
        """While a file is read, after its records were."""
        self.batches: list[Batch] = []

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        found = super().query(collection, query, epoch=epoch)
        if self.looking and collection != "quarantine":
            self.looking.pop(0)()
        return found

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        if self.before:
            self.before.pop(0)()
        self.batches.append(batch)
        versions = super().commit(batch, epoch=epoch)
        if self.after:
            self.after.pop(0)()
        return versions


@pytest.fixture
def store() -> Met:
    return Met()


def change(store: Met, **members: Any) -> Callable[[], None]:
    def act() -> None:
        with store.edit(ANY) as data:
            data.update(members)

    return act


def test_a_save_that_meets_another_is_merged_again(store: Met) -> None:
    store.save(ANY, {"a": {"x": 1}, "b": 1})
    data = store.load(ANY)
    data["a"]["y"] = 2
    store.before = [change(store, a={"x": 2}), change(store, b=2)]

    store.save(ANY, data)

    assert store.load(ANY) == {"a": {"x": 2, "y": 2}, "b": 2}


def test_a_new_record_that_meets_another_of_its_name(store: Met) -> None:
    data = store.load(ANY, {})
    data["a"] = {"x": 1}
    store.before = [change(store, a={"y": 1})]

    store.save(ANY, data)

    assert store.load(ANY) == {"a": {"x": 1, "y": 1}}


def test_a_save_that_meets_the_opposite(store: Met) -> None:
    store.save(ANY, {"a": 1})
    data = store.load(ANY)
    data["a"] = 2
    store.before = [change(store, a=3)]

    with pytest.raises(MergeConflict):
        store.save(ANY, data)

    assert store.load(ANY) == {"a": 3}


def test_equal_items_that_meet_are_both_kept(store: Met) -> None:
    def append() -> None:
        with store.edit(ANY) as data:
            data.append("tick")

    store.save(ANY, [])
    store.before = [append]
    append()

    assert store.load(ANY) == ["tick", "tick"]


def test_one_number_that_two_give(store: Met) -> None:
    """Keys of the store do not show it, for a list of any values."""

    def create() -> None:
        with store.edit(ANY) as data:
            data.append({"id": 2, "by": "another"})

    store.save(ANY, [{"id": 1}])
    data = store.load(ANY)
    data.append({"id": 2, "by": "me"})
    store.before = [create]

    with pytest.raises(MergeConflict, match=r"'2\.by'"):
        store.save(ANY, data)

    assert store.load(ANY) == [{"id": 1}, {"id": 2, "by": "another"}]


def test_members_beside_a_list_that_meet(store: Met) -> None:
    def set_member() -> None:
        with store.edit(SERVER_LOGS) as data:
            data["a"] = 1

    store.save(SERVER_LOGS, {"a": 0, "b": 0, "logs": []})
    with store.edit(SERVER_LOGS) as data:
        data["b"] = 1
        store.before = [set_member]

    assert store.load(SERVER_LOGS) == {"a": 1, "b": 1, "logs": []}


def test_an_update_sees_what_it_meets(store: Met) -> None:
    store.save(ANY, {"n": 1})
    store.before = [change(store, n=10)]

    def increment(data: dict[str, int]) -> None:
        data["n"] += 1

    store.update(ANY, increment)

    assert store.load(ANY) == {"n": 11}


def test_only_what_it_read_is_checked(store: Met) -> None:
    store.save(ANY, {f"m{n}": n for n in range(100)})
    data = store.load(ANY)
    data["m1"] = -1
    store.save(ANY, data)

    assert len(store.batches[-1].checks) == 1


def test_a_commit_of_which_nothing_is_known_is_repeated_as_it_is(store: Met) -> None:
    def lose() -> None:
        raise StoreUnavailable("hung up", store="memory", outcome_known=False)

    store.save(ANY, ["a"])
    with store.edit(ANY) as data:
        data.append("b")
        store.after = [lose, lose]

    assert store.load(ANY) == ["a", "b"]
    assert len({batch.token for batch in store.batches[-3:]}) == 1


def test_what_certainly_did_not_happen_is_raised(store: Met) -> None:
    def lose() -> None:
        raise StoreUnavailable("away", store="memory")

    store.before = [lose]

    with pytest.raises(StoreUnavailable):
        store.save(ANY, ["a"])


def take(store: Met, phone: str, address: str) -> Callable[[], None]:
    def act() -> None:
        with store.edit(WALLETS) as wallets:
            wallets[phone] = address

    return act


def test_a_value_that_is_taken_meanwhile(store: Met) -> None:
    (one, address), (two, _), *_ = ADDRESSES.items()
    store.save(WALLETS, {})
    with store.edit(WALLETS) as wallets:
        wallets[one] = address
        store.before = [take(store, two, address)]

    assert store.load(WALLETS) == {two: address, one: address}
    (waits,) = [row.record for row in store.scan("quarantine")]
    assert waits.place == one


def test_a_value_that_is_taken_elsewhere(
    store: Met, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a reason in the file, the store's error is enough."""
    (one, address), (two, _), *_ = ADDRESSES.items()
    monkeypatch.setattr(RecordReader, "_claim", lambda *_: None)
    take(store, two, address)()

    take(store, one, address)()

    assert store.load(WALLETS) == {two: address, one: address}
    (waits,) = [row.record for row in store.scan("quarantine")]
    assert (waits.place, waits.code) == (one, "value-taken")
    assert store.collection("user_profiles").count() == 1
    with pytest.raises(UniqueViolation), store.edit(WALLETS, strict=True) as wallets:
        wallets[f"0x{9:064x}"] = address


def test_who_meets_others_all_the_time_gives_up(
    store: Met, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_RETRY_SECONDS", 0.05)
    store.save(ANY, {"a": {}})
    data = store.load(ANY)
    data["a"]["mine"] = 1

    def interfere(number: int) -> None:
        store.before = []
        change(store, a={f"k{number}": 1})()
        store.before = [partial(interfere, number + 1)]

    store.before = [partial(interfere, 0)]

    with pytest.raises(Conflict):
        store.save(ANY, data)


def test_a_file_that_others_have_removed(store: Met) -> None:
    store.save(ANY, {"a": 1})
    data = store.load(ANY)
    batch = store.schema.batch(
        [
            store.schema.delete("legacy_files", ANY),
            *(
                store.schema.delete("documents", row.key)
                for row in store.scan("documents")
            ),
        ]
    )
    store.commit(batch)
    assert not store.exists(ANY)
    store.save(ANY, data)
    assert not store.exists(ANY)
    data["b"] = 1

    with pytest.raises(MergeConflict, match=r"consents-db\.json was changed"):
        store.save(ANY, data)


def test_all_files_are_read_before_any_is_written(store: Met) -> None:
    with store.edit(ANY, ANY_TOO) as (one, other):
        one["a"] = other["a"] = 1
        store.before = [change(store, b=2)]

    assert store.load(ANY) == {"b": 2, "a": 1}
    assert store.load(ANY_TOO) == {"a": 1}


def test_a_file_is_read_at_one_moment(store: Met) -> None:
    """A record that is corrected meanwhile is not missed."""
    phone, address = next(iter(ADDRESSES.items()))
    store.save(WALLETS, {phone: 5})
    store.looking = [take(store, phone, address)]

    assert store.load(WALLETS) == {phone: address}
