"""Knobs: set in one process, followed by all others while they work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from typing_extensions import override

from pend_storage._model.knobs import KNOBS, TUNING_META, parse_knobs
from pend_storage.dualwrite import CODES
from pend_storage.errors import ConfigError
from pend_storage.events import Pace
from pend_storage.operations.tuning import find_knob, knobs, reset_knob, set_knob
from pend_storage.phases import Phase
from pend_storage.records import Advance, Batch, ChangedRecord
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, a_log

from .processes import Line, Place, Process, join, wait_until

WHO: dict[str, Any] = {"by": "ann", "reason": "a test"}


@pytest.fixture
def operator(place: Place, one: Process) -> Iterator[Process]:
    """Another process, which only sets knobs."""
    process = Process(place)
    yield process
    process.store.close()


def names(process: Process) -> list[str]:
    return [event.name for event in process.events]


# -- the values ---------------------------------------------------------------------------


def test_a_knob_has_its_value_and_who_set_it_and_why(operator: Process) -> None:
    set_knob(operator.store, "backfill.rate", 50, by="ann", reason="disk is full")

    found = {knob.name: knob for knob in knobs(operator.store)}

    assert set(found) == set(KNOBS)
    rate = found["backfill.rate"]
    assert (rate.value, rate.is_set, rate.by) == (50, True, "ann")
    assert rate.reason == "disk is full"
    assert rate.at is not None
    assert not found["relay.batch"].is_set


def test_a_reset_is_recorded_and_the_configuration_decides(operator: Process) -> None:
    set_knob(operator.store, "backfill.rate", 50, **WHO)

    knob = reset_knob(operator.store, "backfill.rate", by="bob", reason="done")

    assert (knob.value, knob.is_set, knob.by, knob.reason) == (
        None,
        False,
        "bob",
        "done",
    )
    assert knobs(operator.store)[0].name == "backfill.rate"
    assert knobs(operator.store)[0].by == "bob"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dual_write.compare", 1.5, "from 0 to 1, not 1.5"),
        ("dual_write.compare", float("nan"), "not nan"),
        ("backfill.rate", -1, "from 0 to"),
        ("backfill.rate", float("inf"), "not inf"),
        ("relay.batch", 0, "from 1 to 1000"),
        ("relay.batch", 2.5, "a whole number"),
        ("dual_write.compare.shops", 0.5, r"no knob .*did you mean .*compare\.ships"),
        ("backfil.rate", 1, r"did you mean 'backfill\.rate'"),
        ("backfill.rate.ships", 1, "no knob"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    operator: Process, name: str, value: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        set_knob(operator.store, name, value, **WHO)

    assert operator.store.meta(TUNING_META) is None


def test_the_knob_of_a_collection_follows_the_one_for_all_until_it_is_set(
    operator: Process,
) -> None:
    set_knob(operator.store, "dual_write.compare", 0.25, **WHO)
    name = "dual_write.compare.ships"

    before = find_knob(operator.store.schema, knobs(operator.store), name)
    set_knob(operator.store, name, 1, **WHO)
    after = find_knob(operator.store.schema, knobs(operator.store), name)

    assert (before.value, before.is_set) == (0.25, False)
    assert (after.value, after.is_set) == (1, True)
    with pytest.raises(ConfigError, match="no knob"):
        find_knob(
            operator.store.schema, knobs(operator.store), "dual_write.compare.shops"
        )


def test_one_store_alone_has_no_knobs() -> None:
    alone: Any = MemoryStore(SCHEMA)

    for call in (knobs, lambda store: set_knob(store, "relay.batch", 5, **WHO)):
        with pytest.raises(ConfigError, match="a pair of stores"):
            call(alone)


def test_many_processes_set_knobs_at_once_and_none_is_lost(
    place: Place, one: Process
) -> None:
    others = [Process(place) for _ in range(4)]
    collections = [spec.name for spec in SCHEMA.declared][:4]
    threads = [
        threading.Thread(
            target=set_knob,
            args=(other.store, f"dual_write.compare.{name}", 0.5),
            kwargs=WHO,
        )
        for other, name in zip(others, collections, strict=True)
    ]
    for thread in threads:
        thread.start()
    join(*threads)
    for other in others:
        other.store.close()

    found = parse_knobs(one.store.meta(TUNING_META))
    assert found.by_collection("dual_write.compare") == dict.fromkeys(collections, 0.5)


def test_a_knob_that_another_process_sets_meanwhile_is_kept(
    one: Process, operator: Process
) -> None:
    """It is set after this process has read the knobs, and before it replaces them."""
    set_knob(one.store, "backfill.rate", 5, **WHO)
    one.json.before_next["compare_and_set_meta"] = lambda: set_knob(
        operator.store, "relay.batch", 7, **WHO
    )

    set_knob(one.store, "backfill.rate", 9, **WHO)

    found = parse_knobs(one.store.meta(TUNING_META))
    assert (found.value("relay.batch"), found.value("backfill.rate")) == (7, 9)


def test_knobs_survive_a_switch_and_a_restart(place: Place, one: Process) -> None:
    set_knob(one.store, "backfill.rate", 7, **WHO)
    for phase in (Phase.PARALLEL, Phase.POSTGRES_PRIMARY, Phase.POSTGRES_ONLY):
        one.store.switch(phase, accept=CODES)

    one.restart()

    assert parse_knobs(one.store.meta(TUNING_META)).value("backfill.rate") == 7
    assert one.store._knobs.current().value("backfill.rate") == 7


# -- a backfill ---------------------------------------------------------------------------


class Copying:
    """Backfill of a process in a thread, with the number of records it has copied."""

    def __init__(self, process: Process, rate: float | None) -> None:
        self.done = 0
        self.throttled: dict[str, float] = {}
        self._thread = threading.Thread(
            target=process.store.backfill,
            kwargs={"progress": self, "rate": rate},
            daemon=True,
        )
        self._thread.start()

    def __call__(self, done: int, _total: int, /) -> None:
        self.done = done

    def pace(self, pace: Pace, /) -> None:
        self.throttled = {**pace.throttled}

    def rate(self, seconds: float) -> float:
        """Measure the records per second that are copied from now on."""
        before, started = self.done, time.monotonic()
        time.sleep(seconds)
        return (self.done - before) / (time.monotonic() - started)

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        join(self._thread)


@pytest.fixture
def full(place: Place, one: Process) -> Process:
    """A process in the phase parallel, with 6,000 records that are still to be copied."""
    for start in range(0, 6_000, 500):
        one.store.commit(
            _batch([a_log(f"k{n:05}", "x") for n in range(start, start + 500)])
        )
    one.store.switch(Phase.PARALLEL, accept=CODES)
    return one


def _batch(records: list[Any]) -> Batch:
    return SCHEMA.batch(SCHEMA.put("logs", record) for record in records)


def test_a_running_backfill_follows_the_rate_within_two_seconds(
    full: Process, operator: Process
) -> None:
    copying = Copying(full, 200)
    wait_until(lambda: copying.done > 0)

    set_knob(operator.store, "backfill.rate", 100_000, **WHO)

    wait_until(lambda: copying.is_done, timeout=10)
    assert copying.done >= 6_000
    assert copying.throttled["rate"] > 0


def test_a_rate_of_nothing_pauses_the_backfill_and_a_reset_resumes_it(
    full: Process, operator: Process
) -> None:
    set_knob(operator.store, "backfill.rate", 400, **WHO)
    copying = Copying(full, None)
    wait_until(lambda: copying.done > 0)

    set_knob(operator.store, "backfill.rate", 0, **WHO)
    wait_until(lambda: "paused" in _waits(full))
    paused_at = copying.done
    time.sleep(1.5)
    # At most the one chunk that was being written.
    assert copying.done - paused_at <= 500
    assert not copying.is_done

    reset_knob(operator.store, "backfill.rate", **WHO)
    copying.join()
    assert copying.done >= 6_000


def _waits(process: Process) -> str:
    return " ".join(e.message for e in process.events if e.name == "backfill-throttled")


def test_a_lower_rate_is_kept_from_then_on(full: Process, operator: Process) -> None:
    copying = Copying(full, 1_000)
    wait_until(lambda: copying.done > 0)
    set_knob(operator.store, "backfill.rate", 100, **WHO)
    time.sleep(2.0)

    # A chunk that was read before may still be written: no more than that.
    assert copying.rate(3.0) <= 100 + 500 / 3.0
    set_knob(operator.store, "backfill.rate", 1_000_000, **WHO)
    copying.join()


def test_a_backfill_that_is_begun_later_follows_it_too(
    full: Process, operator: Process
) -> None:
    set_knob(operator.store, "backfill.rate", 1_000_000, **WHO)
    full.restart()

    copying = Copying(full, 1)

    wait_until(lambda: copying.is_done, timeout=20)
    assert copying.done >= 6_000


def test_a_switch_that_waits_for_a_copy_does_not_wait_for_the_knob(
    place: Place, one: Process, operator: Process
) -> None:
    one.store.switch(Phase.PARALLEL)
    one.store.switch(Phase.POSTGRES_PRIMARY, accept=CODES)
    one.put("a", "1")
    one.store.switch(Phase.POSTGRES_ONLY, accept=CODES)
    one.put("b", "2")
    place.postgres.prune(place.postgres.head())  # so that JSON must be copied anew
    set_knob(operator.store, "backfill.rate", 0, **WHO)

    one.store.switch(Phase.POSTGRES_PRIMARY, accept=CODES, timeout=20)

    assert one.store.phase is Phase.POSTGRES_PRIMARY
    assert set(place.json.read("logs", ["a", "b"])) == {"a", "b"}


# -- the processes that serve -------------------------------------------------------------


@pytest.fixture
def serving(place: Place, one: Process) -> Iterator[Process]:
    """A server with its threads; it compares nothing by its configuration."""
    process = Process(place, relay_interval=0.05, secondary_timeout=5.0)
    process.store._knobs._interval = 0.05
    process.store.switch(Phase.PARALLEL)
    process.put("a", "1")
    yield process
    process.store.close()


def sampled(process: Process, reads: int = 20) -> int:
    before = process.store.compared().sampled
    for _ in range(reads):
        process.get("a")
    return process.store.compared().sampled - before


def test_the_share_of_compared_reads_follows(
    serving: Process, operator: Process
) -> None:
    assert sampled(serving) == 0

    set_knob(operator.store, "dual_write.compare", 1, **WHO)
    wait_until(lambda: "knob-changed" in names(serving))
    assert sampled(serving) == 20

    reset_knob(operator.store, "dual_write.compare", **WHO)
    wait_until(lambda: names(serving).count("knob-changed") == 2)
    assert sampled(serving) == 0


def test_a_collection_has_a_share_of_its_own(
    serving: Process, operator: Process
) -> None:
    set_knob(operator.store, "dual_write.compare.logs", 1, **WHO)
    wait_until(lambda: "knob-changed" in names(serving))

    before = serving.store.compared().sampled
    serving.store.read("ships", ["x"])
    assert serving.store.compared().sampled == before
    assert sampled(serving) == 20


def test_a_change_is_an_event_that_names_its_actor(
    serving: Process, operator: Process
) -> None:
    set_knob(operator.store, "relay.batch", 5, by="ann", reason="slow disk")
    wait_until(lambda: "knob-changed" in names(serving))

    (event,) = [e for e in serving.events if e.name == "knob-changed"]
    assert event.message == "relay.batch is 5, as ann has set it (slow disk)"
    assert event.fields == {
        "knob": "relay.batch",
        "value": 5,
        "by": "ann",
        "reason": "slow disk",
    }


class Counting(Line):
    """Connection that notes how many records each call applies."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.sizes: list[int] = []

    @override
    def apply(
        self, records: Any, *, epoch: int | None = None, mark: Advance | None = None
    ) -> int:
        items: list[ChangedRecord] = [*records]
        if items:
            self.sizes.append(len(items))
        return super().apply(items, epoch=epoch, mark=mark)


def test_the_batch_of_the_relay_follows(place: Place, operator: Process) -> None:
    process = Process(place, secondary_timeout=0.0)
    process.store.switch(Phase.PARALLEL)
    counting = Counting(place.postgres)
    process.store._pair.postgres = counting
    process.store._router.invalidate()
    process.store._router._route = None
    set_knob(operator.store, "relay.batch", 3, **WHO)
    process.store._knobs.refresh()
    for number in range(20):
        process.store.commit(_batch([a_log(f"n{number}", "x")]))

    process.store.catch_up()

    assert max(counting.sizes) == 3
    counting.sizes.clear()
    reset_knob(operator.store, "relay.batch", **WHO)
    process.store._knobs.refresh()
    for number in range(20):
        process.store.commit(_batch([a_log(f"m{number}", "x")]))
    process.store.catch_up()
    assert max(counting.sizes) >= 20
    process.store.close()


def test_knobs_of_a_newer_version_are_refused_and_the_old_ones_stay(
    place: Place, serving: Process, operator: Process
) -> None:
    set_knob(operator.store, "dual_write.compare", 1, **WHO)
    wait_until(lambda: "knob-changed" in names(serving))
    known = operator.store.meta(TUNING_META)

    operator.store.compare_and_set_meta(TUNING_META, known, {"version": 2, "x": []})
    wait_until(lambda: "knobs-unreadable" in names(serving))
    time.sleep(0.3)

    assert names(serving).count("knobs-unreadable") == 1
    assert sampled(serving) == 20
    with pytest.raises(ConfigError, match=r"version 2.*Upgrade this one"):
        set_knob(operator.store, "relay.batch", 5, **WHO)


def test_a_primary_out_of_reach_changes_no_knob(
    place: Place, serving: Process, operator: Process
) -> None:
    set_knob(operator.store, "dual_write.compare", 1, **WHO)
    wait_until(lambda: "knob-changed" in names(serving))

    serving.json.is_cut = True
    time.sleep(0.3)
    assert serving.store._shadow_reads.share == 1
    serving.json.is_cut = False
    assert "knobs-unreadable" not in names(serving)

    assert sampled(serving) == 20


def test_a_pair_without_threads_reads_no_knobs_by_itself(
    one: Process, operator: Process
) -> None:
    set_knob(operator.store, "dual_write.compare", 1, **WHO)
    one.put("a", "1")

    threads = [thread.name for thread in threading.enumerate()]

    assert "pend-knobs" not in threads
    assert one.store._shadow_reads.share == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_follows_too(serving: Process, operator: Process) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            serving.get("a")
            set_knob(operator.store, "dual_write.compare", 1, **WHO)
            wait_until(lambda: serving.store._shadow_reads.share == 1)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert status == 0


def test_closing_ends_the_thread(place: Place, one: Process) -> None:
    process = Process(place, relay_interval=0.05)
    process.put("a", "1")
    thread = process.store._knobs._thread
    assert thread is not None

    process.store.close()

    assert not thread.is_alive()
