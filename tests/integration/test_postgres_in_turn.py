"""Commits that go together end as if one came after the other: compared with the model."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pend_storage.errors import Conflict, PendStorageError, UniqueViolation
from pend_storage.records import Batch, Delete, Outcome, Put
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.postgres import PostgresStore
from pend_storage.testing.databases import Databases
from pend_storage.testing.domain import (
    SCHEMA,
    a_berth,
    a_cargo,
    a_log,
    a_ship,
    a_tally,
)


@pytest.fixture
def url(new_migrated_database: Callable[[Schema], str]) -> str:
    return new_migrated_database(SCHEMA)


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with PostgresStore(SCHEMA, url) as store:
        yield store


def batch(*records: Any) -> Batch:
    return SCHEMA.batch([SCHEMA.put(type(r), r) for r in records])


IDS = st.sampled_from("abc")
RECORDS = st.one_of(
    st.builds(
        a_ship,
        IDS,
        call_sign=st.sampled_from([None, "AA", "BB", "CC"]),
        berth_id=st.sampled_from([None, None, "a", "b"]),
    ),
    st.builds(
        a_berth,
        IDS,
        pier=st.just("p"),
        number=st.sampled_from([None, 1, 2]),
        neighbour_id=st.sampled_from([None, None, "a", "b"]),
    ),
    st.builds(a_cargo, IDS, ship_id=IDS),
    st.builds(a_tally, IDS, st.integers(0, 9)),
    st.builds(a_log, IDS),
)
PLACES = st.tuples(
    st.sampled_from(["ships", "berths", "cargo", "tallies", "logs"]), IDS
)
PARTS = st.lists(
    st.tuples(
        st.lists(RECORDS, max_size=2),
        st.lists(PLACES, max_size=1) | st.just([]),
        st.dictionaries(
            PLACES, st.sampled_from(["none", "present", "wrong"]), max_size=1
        )
        | st.just({}),
    ),
    min_size=1,
    max_size=12,
)


class Course:
    """Lists of batches at one store, and what came of them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def commit(self, parts: list[Any]) -> list[Any]:
        """Commit a list; versions are made comparable."""
        outcomes = self.store.commit_each([self._batch(*part) for part in parts])
        return [self._shown(outcome) for outcome in outcomes]

    def _batch(
        self,
        records: list[Any],
        deletes: list[tuple[str, str]],
        checks: dict[tuple[str, str], str],
    ) -> Batch:
        operations: list[Put | Delete] = [SCHEMA.delete(*d) for d in deletes]
        operations += [SCHEMA.put(type(r), r) for r in records]
        found = {place: self._version(place, how) for place, how in checks.items()}
        return SCHEMA.batch(operations, found)

    def _version(self, place: tuple[str, str], how: str) -> int:
        if how != "present":
            return 0 if how == "none" else 2**62
        row = self.store.read(place[0], [place[1]]).get(place[1])
        return row.version if row else 0

    def _shown(self, outcome: Outcome) -> Any:
        if isinstance(outcome, Conflict):
            found = bool(outcome.actual)
            return Conflict, outcome.collection, outcome.key, found
        if isinstance(outcome, PendStorageError):
            return type(outcome), str(outcome)
        return [version > 0 for version in outcome]

    def everything(self) -> Any:
        """All rows and tombstones, and the log, with its order."""
        rows = [
            (spec.name, row.key, row.record)
            for spec in SCHEMA
            for row in self.store.scan(spec.name, deleted=True)
        ]
        log = [
            [(r.collection, r.key, r.record) for r in change.records]
            for change in self.store.changes()
        ]
        return rows, log

    def check_versions(self) -> None:
        """They grow along each key, and the last one is what is there."""
        last: dict[tuple[str, str], int] = {}
        for change in self.store.changes():
            for r in change.records:
                assert r.version > last.get((r.collection, r.key), 0)
                last[r.collection, r.key] = r.version
        for (name, key), version in last.items():
            assert self.store.read(name, [key], deleted=True)[key].version == version


def test_the_outcome_is_as_if_one_came_after_the_other(databases: Databases) -> None:
    @settings(max_examples=2 * settings().max_examples)
    @given(lists=st.lists(PARTS, min_size=1, max_size=3))
    def check(lists: list[list[Any]]) -> None:
        lent = databases.lend(SCHEMA)
        try:
            with PostgresStore(SCHEMA, lent) as store, MemoryStore(SCHEMA) as model:
                sides = Course(store), Course(model)
                for parts in lists:
                    real, expected = (side.commit(parts) for side in sides)
                    assert real == expected
                    assert sides[0].everything() == sides[1].everything()
                sides[0].check_versions()
        finally:
            databases.give_back(lent)

    check()


def test_who_keeps_a_value_is_not_to_blame_for_it(store: PostgresStore) -> None:
    store.collection("ships").put(a_ship("s1", call_sign="AB"))
    both = batch(a_ship("s2", call_sign="AB"), a_ship("s1", crew=7, call_sign="AB"))

    for side in (store.commit_each([both]), store.commit_each([batch(a_log()), both])):
        assert isinstance(side[-1], UniqueViolation)
        assert side[-1].key == "s2"


def test_overlapping_keys_in_any_order_end_well(url: str) -> None:
    problems: list[Outcome] = []

    def write(seed: int) -> None:
        order = random.Random(seed)
        with PostgresStore(SCHEMA, url) as own:
            for turn in range(15):
                names = [str(n) for n in range(20)]
                order.shuffle(names)
                batches = [
                    batch(a_berth(name, pier=name), a_tally(name, turn))
                    if number % 2
                    else batch(a_ship(name, berth_id=names[number - 1]))
                    for number, name in enumerate(names)
                ]
                problems.extend(
                    o for o in own.commit_each(batches) if not isinstance(o, tuple)
                )

    with PostgresStore(SCHEMA, url) as store:
        store.commit_each([batch(a_berth(str(n), pier=str(n))) for n in range(20)])
        threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert problems == []
        Course(store).check_versions()
        assert len(list(store.changes())) == 20 + 4 * 15 * 20
