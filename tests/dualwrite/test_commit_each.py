"""Many callers' commits at once, through both stores, and through a switch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from typing_extensions import override

from pend_storage.dualwrite import CODES, DualWriteStore
from pend_storage.errors import StoreUnavailable, UniqueViolation
from pend_storage.phases import Phase
from pend_storage.records import Batch
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log, a_ship
from pend_storage.testing.faults import FaultyStore, InterceptingStore, Verb

from .processes import Place, Process, living

T = TypeVar("T")


def a_batch(*records: object) -> Batch:
    return SCHEMA.batch([SCHEMA.put(type(record), record) for record in records])


class SwitchingStore(InterceptingStore):
    """Has something done before the n-th commit."""

    before: Callable[[], object] | None = None
    countdown = 0

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        if verb == "commit" and self.before is not None:
            self.countdown -= 1
            if self.countdown == 0:
                before, self.before = self.before, None
                before()
        return call()


@pytest.fixture
def json() -> SwitchingStore:
    return SwitchingStore(MemoryStore(SCHEMA))


@pytest.fixture
def store(json: SwitchingStore) -> Iterator[DualWriteStore]:
    store = DualWriteStore(
        json=json, postgres=MemoryStore(SCHEMA), secondary_timeout=None
    )
    store.switch(Phase.PARALLEL)
    yield store
    store.close()


@pytest.mark.parametrize("phase", list(Phase))
def test_each_is_in_the_stores_of_the_phase(
    place: Place, one: Process, phase: Phase
) -> None:
    one.store.switch(phase, accept=CODES)

    outcomes = one.store.commit_each([a_batch(a_log(f"{n}")) for n in range(9)])

    assert [type(outcome) for outcome in outcomes] == [tuple] * 9
    primary = place.json if phase.position < 2 else place.postgres
    other = place.postgres if phase.position < 2 else place.json
    assert len(living(primary)) == 9
    both = phase in {Phase.PARALLEL, Phase.POSTGRES_PRIMARY}
    assert living(other) == (living(primary) if both else {})


def test_those_that_a_switch_overtakes_go_along_to_the_new_primary(
    json: SwitchingStore, store: DualWriteStore
) -> None:
    json.countdown = 4
    json.before = lambda: store.switch(Phase.POSTGRES_ONLY, accept=CODES)

    outcomes = store.commit_each(
        [a_batch(a_log("a", str(n)), a_log(f"{n}")) for n in range(9)]
    )

    versions = [outcome[0] for outcome in outcomes if isinstance(outcome, tuple)]
    assert len(versions) == 9
    assert versions == sorted(set(versions))
    assert store.collection(Log).versioned("a") == (a_log("a", "8"), versions[-1])
    # Written once each: three by the one store, six by the other.
    assert len(list(json.changes())) == 3
    assert len(store.collection(Log).find().items) == 10


def test_an_answer_that_is_final_is_not_asked_for_again(
    json: SwitchingStore, store: DualWriteStore
) -> None:
    store.collection("ships").put(a_ship("s1", call_sign="ABC"))
    json.countdown = 3
    json.before = lambda: store.switch(Phase.POSTGRES_ONLY, accept=CODES)

    outcomes = store.commit_each(
        [
            a_batch(a_ship("s2", call_sign="ABC")),
            a_batch(a_log("a")),
            a_batch(a_log("b")),
            a_batch(a_ship("s3", call_sign="ABC")),
        ]
    )

    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [UniqueViolation, tuple, tuple, UniqueViolation]


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore(MemoryStore(SCHEMA))


@pytest.fixture
def parallel(faulty: FaultyStore) -> Iterator[DualWriteStore]:
    """On a primary that fails on demand."""
    store = DualWriteStore(
        json=faulty, postgres=MemoryStore(SCHEMA), secondary_timeout=None
    )
    store.switch(Phase.PARALLEL)
    yield store
    store.close()


def test_a_primary_that_is_down_is_told_to_each_caller_for_itself(
    faulty: FaultyStore, parallel: DualWriteStore
) -> None:
    faulty.fail("commit", times=None)

    outcomes = parallel.commit_each([a_batch(a_log(f"{n}")) for n in range(3)])

    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3


def test_whether_it_happened_is_not_known_to_one_caller_only(
    faulty: FaultyStore, parallel: DualWriteStore
) -> None:
    faulty.fail("commit", skip=1, after=True)

    outcomes = parallel.commit_each([a_batch(a_log(f"{n}")) for n in range(3)])

    assert [type(outcome) for outcome in outcomes] == [tuple, StoreUnavailable, tuple]
    doubtful = outcomes[1]
    assert isinstance(doubtful, StoreUnavailable)
    assert not doubtful.outcome_known
    parallel.catch_up()
    for store in (faulty, parallel._pair.postgres):
        assert set(store.collection(Log).get_many("012")) == set("012")
