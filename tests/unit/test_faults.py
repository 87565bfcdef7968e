from __future__ import annotations

from threading import Thread

import pytest

from pend_storage.errors import LockTimeout, StoreUnavailable
from pend_storage.phases import ROLE_META
from pend_storage.query import And, Query
from pend_storage.stores.memory import MemoryStore
from pend_storage.stores.wrapper import WrapperStore
from pend_storage.testing import FaultyStore, SlowStore
from pend_storage.testing.contract._lifetime import VERBS
from pend_storage.testing.domain import SCHEMA, Log, a_log
from pend_storage.testing.faults import InterceptingStore, Verb

VERB_NAMES: list[Verb] = [
    "read",
    "query",
    "count",
    "scan",
    "commit",
    "apply",
    "changes",
    "meta",
    "compare_and_set_meta",
]


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore(MemoryStore(SCHEMA))


@pytest.mark.parametrize("verb", VERB_NAMES)
def test_each_verb_can_be_made_to_fail_once(faulty: FaultyStore, verb: Verb) -> None:
    faulty.fail(verb)

    with pytest.raises(StoreUnavailable, match=verb) as caught:
        VERBS[verb](faulty)
    VERBS[verb](faulty)

    assert caught.value.outcome_known
    assert faulty.calls[verb] == 2


def test_before_the_inner_call_nothing_has_happened(faulty: FaultyStore) -> None:
    faulty.fail("commit")

    with pytest.raises(StoreUnavailable) as caught:
        faulty.collection(Log).put(a_log("a"))

    assert caught.value.outcome_known
    assert faulty.collection(Log).get("a") is None


@pytest.mark.parametrize("verb", ["commit", "apply", "compare_and_set_meta"])
def test_after_the_inner_call_it_has_happened_and_nobody_knows(
    faulty: FaultyStore, verb: Verb
) -> None:
    faulty.fail(verb, after=True)

    with pytest.raises(StoreUnavailable) as caught:
        VERBS[verb](faulty)

    assert not caught.value.outcome_known
    if verb == "commit":
        assert faulty.collection(Log).get("a") is not None


def test_a_read_that_fails_afterwards_has_done_no_harm(faulty: FaultyStore) -> None:
    faulty.fail("read", after=True)

    with pytest.raises(StoreUnavailable) as caught:
        VERBS["read"](faulty)

    assert caught.value.outcome_known


def test_calls_are_skipped_and_then_fail_so_many_times(faulty: FaultyStore) -> None:
    faulty.fail("count", skip=2, times=2)
    outcomes = []
    for _ in range(6):
        try:
            outcomes.append(faulty.collection(Log).count())
        except StoreUnavailable:
            outcomes.append(-1)

    assert outcomes == [0, 0, -1, -1, 0, 0]


def test_a_fault_without_an_end_lasts_until_it_is_healed(faulty: FaultyStore) -> None:
    faulty.fail("count", "meta", times=None)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            faulty.collection(Log).count()

    faulty.heal()

    assert faulty.collection(Log).count() == 0
    assert faulty.meta("m") is None


def test_any_error_may_be_raised(faulty: FaultyStore) -> None:
    faulty.fail("scan", error=LockTimeout(path="a.lock", seconds=1.0))

    with pytest.raises(LockTimeout):
        list(faulty.collection(Log).scan())


def test_faults_of_one_verb_come_one_after_the_other(faulty: FaultyStore) -> None:
    faulty.fail("count", skip=1)
    faulty.fail("count", error=KeyError("second"))

    with pytest.raises(KeyError):
        faulty.collection(Log).count()
    with pytest.raises(StoreUnavailable):
        faulty.collection(Log).count()
    assert faulty.collection(Log).count() == 0


def test_a_slow_store_waits_as_long_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    slow = SlowStore(MemoryStore(SCHEMA), {"read": 0.5})

    slow.collection(Log).get("a")
    slow.collection(Log).count()

    assert slept == [0.5]


def test_a_gate_holds_calls_back_until_it_is_opened() -> None:
    slow = SlowStore(MemoryStore(SCHEMA))

    with slow.holding("commit", "apply") as gate:
        writer = Thread(target=lambda: slow.collection(Log).put(a_log("a")))
        writer.start()
        gate.wait_until_reached()
        assert slow.collection(Log).get("a") is None
        gate.open()
        writer.join()

    assert slow.collection(Log).get("a") == a_log("a")


def test_leaving_the_block_opens_the_gate() -> None:
    slow = SlowStore(MemoryStore(SCHEMA))

    with slow.holding("commit") as gate:
        writer = Thread(target=lambda: slow.collection(Log).put(a_log("a")))
        writer.start()
        gate.wait_until_reached()
    writer.join()

    assert slow.collection(Log).get("a") == a_log("a")


def test_a_gate_at_which_nobody_stands_is_told() -> None:
    slow = SlowStore(MemoryStore(SCHEMA))

    with (
        slow.holding("commit") as gate,
        pytest.raises(AssertionError, match="no call reached"),
    ):
        gate.wait_until_reached(0.01)


def test_what_intercepts_must_say_how() -> None:
    with pytest.raises(NotImplementedError):
        InterceptingStore(MemoryStore(SCHEMA)).meta("m")


def test_a_wrapper_shows_what_is_inside(faulty: FaultyStore) -> None:
    inner = WrapperStore(faulty)

    assert repr(inner).startswith("WrapperStore(FaultyStore(")
    assert inner.schema is SCHEMA
    assert inner.layouts == ()


def test_a_wrapper_forwards_what_is_no_verb_too(faulty: FaultyStore) -> None:
    store = WrapperStore(faulty)
    store.collection(Log).put(a_log("a"))

    assert store.head() == faulty.inner.head() > 0
    assert store.identity() == faulty.inner.identity()
    store.prune(0)
    assert store.query("logs", Query()) == faulty.inner.query("logs", Query())
    assert store.count("logs", And(())) == 1
    assert store.meta(ROLE_META) is None
