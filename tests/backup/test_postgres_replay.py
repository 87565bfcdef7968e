"""Replay of a change log into PostgreSQL: as :meth:`apply` would, and quicker."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pend_storage._model.snapshots import StoredChange, StoredRecord
from pend_storage.errors import ConfigError, CorruptFile
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.stores.postgres._recovery import log_replay
from pend_storage.testing.domain import (
    SCHEMA,
    Berth,
    Tally,
    a_berth,
    a_cargo,
    a_ship,
    a_tally,
)
from tests.backup.postgres_rows import content, fill, stored


@pytest.fixture
def new_store(
    new_migrated_database: Callable[[Schema], str],
) -> Iterator[Callable[[], PostgresStore]]:
    made: list[PostgresStore] = []

    def make() -> PostgresStore:
        made.append(PostgresStore(SCHEMA, new_migrated_database(SCHEMA)))
        return made[-1]

    yield make
    for store in made:
        store.close()


def some_history(seed: int) -> Store:
    """Commits that put, delete, and swap unique values."""
    chance, store = random.Random(seed), MemoryStore(SCHEMA)
    fill(store, 4)
    for number in range(150):
        key = f"t{chance.randrange(12)}"
        if chance.random() < 0.3:
            store.collection(Tally).delete(key)
        else:
            store.collection(Tally).put(a_tally(key, number))
    berths = store.collection(Berth)
    with store.transaction() as tx:
        one, two = (berths.get(f"b00{n}") for n in (0, 1))
        assert one is not None
        assert two is not None
        tx.collection(Berth).put(a_berth(one.id, pier=two.pier, number=two.number))
        tx.collection(Berth).put(a_berth(two.id, pier=one.pier, number=one.number))
    return store


def entry(sequence: int, *records: tuple[str, str, Any]) -> StoredChange:
    return StoredChange(
        sequence=sequence,
        epoch=0,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        records=tuple(
            StoredRecord(
                name,
                key,
                sequence,
                None if record is None else SCHEMA[name].codec.encode(record),
            )
            for name, key, record in records
        ),
    )


@pytest.mark.parametrize("chunk", [1, 7, 20_000])
def test_the_result_is_that_of_apply(
    new_store: Callable[[], PostgresStore],
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
) -> None:
    monkeypatch.setattr(log_replay, "_CHUNK", chunk)
    source = some_history(chunk)
    replayed, applied = new_store(), new_store()
    changes = list(source.changes())

    assert replayed.load_changes(stored(changes)) == len(changes)
    for change in changes:
        applied.apply(change.records)

    assert content(replayed) == content(applied) == content(source)
    assert list(replayed.changes()) == []
    later = replayed.collection(Tally).put(a_tally("later"))
    assert later > max(version for version, _ in content(source).values())


def test_what_is_newer_stays(new_store: Callable[[], PostgresStore]) -> None:
    store = new_store()
    store.load_changes(
        [entry(10, ("tallies", "a", a_tally("a", 10)), ("tallies", "b", None))]
    )
    before = content(store)

    store.load_changes(
        [
            entry(5, ("tallies", "a", None)),
            entry(9, ("tallies", "b", a_tally("b"))),
            entry(10, ("tallies", "a", a_tally("a", 10))),
        ]
    )

    assert content(store) == before
    store.load_changes([entry(11, ("tallies", "b", a_tally("b", 11)))])
    assert content(store)["tallies", "b"] == (11, a_tally("b", 11))


def test_a_record_may_come_before_the_one_it_refers_to(
    new_store: Callable[[], PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_replay, "_CHUNK", 1)
    store = new_store()
    changes = [
        entry(4, ("cargo", "c", a_cargo("c", ship_id="s"))),
        entry(5, ("tallies", "a", a_tally("a"))),
        entry(6, ("tallies", "b", a_tally("b"))),
        entry(7, ("ships", "s", a_ship("s"))),
        entry(8, ("tallies", "c", a_tally("c"))),
    ]

    assert store.load_changes(changes) == 5

    assert len(content(store)) == 5


def test_a_log_that_ends_between_the_two_is_refused(
    new_store: Callable[[], PostgresStore],
) -> None:
    store = new_store()
    with pytest.raises(ConfigError, match="choose a later target"):
        store.load_changes([entry(4, ("cargo", "c", a_cargo("c", ship_id="s")))])
    assert content(store) == {}


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.SECONDARY, Role.DETACHED])
def test_a_store_with_a_role_is_refused(
    new_store: Callable[[], PostgresStore], role: Role
) -> None:
    store = new_store()
    store.compare_and_set_meta(ROLE_META, None, RoleState(role, 1).to_meta())
    with pytest.raises(ConfigError, match="has a role"):
        store.load_changes([entry(4, ("tallies", "a", a_tally("a")))])
    assert content(store) == {}


def test_a_body_that_is_no_record_is_refused(
    new_store: Callable[[], PostgresStore],
) -> None:
    store = new_store()
    damaged = StoredChange(
        sequence=1,
        epoch=0,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        records=(StoredRecord("tallies", "a", 1, b'{"name":1}'),),
    )
    with pytest.raises(CorruptFile):
        store.load_changes([damaged])
