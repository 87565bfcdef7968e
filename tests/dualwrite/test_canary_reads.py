"""Canary reads: the secondary answers, and no caller can notice, except by the clock."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from pend_storage._model.knobs import TUNING_META, parse_knobs
from pend_storage.dualwrite import CODES, _canary_reads
from pend_storage.dualwrite._canary_reads import is_sticky
from pend_storage.dualwrite._live_knobs import LiveKnobs
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.operations.tuning import set_knob
from pend_storage.phases import Phase
from pend_storage.testing.domain import Log, Tally, a_tally
from pend_storage.testing.faults import Verb
from tests.processes.linear import Call, is_linearisable, version_faults

from .processes import Line, Place, Process, join, wait_until
from .test_divergence_check import damage

T = TypeVar("T")
PATIENCE = 60.0
WHO: dict[str, Any] = {"by": "ann", "reason": "a test"}


class Watched(Line):
    """Connection that counts reads, and may delay or refuse them."""

    reads = 0
    before_read: Callable[[], object] = staticmethod(lambda: None)

    @override
    def around(self, verb: Verb, call: Callable[[], T]) -> T:
        if verb == "read":
            self.reads += 1
            self.before_read()
        return super().around(verb, call)


class Watching(Process):
    """Process whose lines are watched."""

    @override
    def _make(self) -> Any:
        self.json, self.postgres = (
            Watched(self.place.json),
            Watched(self.place.postgres),
        )
        return super()._make()

    @property
    def secondary(self) -> Watched:
        line = self.postgres
        assert isinstance(line, Watched)
        return line

    def canary(self) -> _canary_reads.Canary:
        return self.store.compared().canary


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no machine that is busy suspend them, or turn them off."""
    monkeypatch.setattr(_canary_reads, "_UNNOTICED", PATIENCE)
    monkeypatch.setattr(_canary_reads, "_LONGEST_WAIT", PATIENCE)


@pytest.fixture
def canary(place: Place) -> Iterator[Watching]:
    """In the phase parallel, every key is a canary; ten records are in both stores."""
    process = Watching(place, canary=1.0)
    process.store.switch(Phase.PARALLEL)
    for number in range(10):
        process.put(f"k{number}", "right")
    process.store.catch_up()
    yield process
    process.secondary.before_read = lambda: None
    process.store.close()


# -- off ----------------------------------------------------------------------------------


def calls_of(work: Callable[[], object]) -> Counter[str]:
    """Count the calls of Python functions, by file and name."""
    seen: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            code = frame.f_code
            seen[f"{code.co_filename.rpartition('/')[2]}:{code.co_name}"] += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


def test_where_it_is_off_a_read_makes_no_further_call(place: Place) -> None:
    process = Watching(place)
    process.store.switch(Phase.PARALLEL)
    process.put("a", "1")
    process.store.read("logs", ["a"])

    off = calls_of(lambda: process.store.read("logs", ["a"]))
    process.store._canary.share = 1.0
    on = calls_of(lambda: process.store.read("logs", ["a"]))
    reads = process.secondary.reads
    process.store._canary.share = 0.0
    process.store.read("logs", ["a"])

    # The pair's own calls, in order: what they were before there were canary reads.
    own = {name for name in off if name.startswith(("_routed", "_router", "_shadow"))}
    assert own == {
        "_routed_reads.py:read",
        "_routed_reads.py:require_no_epoch",
        "_routed_reads.py:read_at",
        "_router.py:call_reading",
        "_shadow_reads.py:sample_keys",
        "_shadow_reads.py:_is_chosen",
    }
    assert not [name for name in off if name.startswith("_canary")]
    assert [name for name in on if name.startswith("_canary")]
    assert (process.secondary.reads, reads) == (1, 1)
    process.store.close()


@pytest.mark.parametrize("phase", [Phase.JSON_ONLY, Phase.POSTGRES_ONLY])
def test_without_a_secondary_the_primary_answers(place: Place, phase: Phase) -> None:
    process = Watching(place, canary=1.0)
    process.put("a", "1")
    process.store.switch(phase, accept=CODES)
    before = process.canary().asked

    assert process.get("a") == "1"
    assert process.canary().asked == before
    process.store.close()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(place: Place, share: float) -> None:
    with pytest.raises(ConfigError, match="canary must be a share from 0 to 1"):
        Watching(place, canary=share)


# -- the share ----------------------------------------------------------------------------


def test_a_share_has_about_so_many_keys_and_a_greater_one_has_them_too() -> None:
    keys = [f"k{n:05}" for n in range(10_000)]
    shares = [0.0, 0.01, 0.05, 0.5, 1.0]

    chosen = [{k for k in keys if is_sticky(share, "users", k)} for share in shares]

    for share, part in zip(shares, chosen, strict=True):
        assert abs(len(part) - share * 10_000) <= 300
    for smaller, greater in itertools.pairwise(chosen):
        assert smaller < greater
    assert (chosen[0], chosen[-1]) == (set(), {*keys})


def test_the_same_keys_are_chosen_at_every_call(canary: Watching) -> None:
    canary.store._canary.share = 0.5
    chosen = [k for k in (f"k{n}" for n in range(10)) if is_sticky(0.5, "logs", k)]
    assert 0 < len(chosen) < 10
    for _ in range(3):
        before = canary.canary().answered
        canary.store.read("logs", [f"k{n}" for n in range(10)])
        assert canary.canary().answered - before == len(chosen)


# -- the answer ---------------------------------------------------------------------------


def test_the_answer_is_the_row_of_the_secondary_where_both_agree(
    canary: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    real = canary.place.postgres.read

    def read(*arguments: Any, **options: Any) -> Any:
        rows = real(*arguments, **options)
        given.extend(rows.values())
        return rows

    monkeypatch.setattr(canary.place.postgres, "read", read)

    found = canary.store.read("logs", ["k1", "k2", "missing"])

    assert {key: row.record.text for key, row in found.items()} == {
        "k1": "right",
        "k2": "right",
    }
    assert all(any(row is each for each in given) for row in found.values())
    counts = canary.canary()
    assert (counts.asked, counts.answered, counts.behind) == (1, 2, 0)


def test_a_secondary_that_is_behind_is_not_believed(place: Place) -> None:
    process = Watching(place, canary=1.0, secondary_timeout=0.0)
    process.store.switch(Phase.PARALLEL)
    process.store._replicator.breaker.failed("it is behind")
    process.put("a", "1")
    process.store.catch_up()
    process.store._replicator.breaker.succeeded(0.0)
    place.json.role()
    process.store._replicator.breaker.failed("it is behind")
    process.put("a", "2")
    process.put("new", "3")
    process.store._replicator.breaker.succeeded(0.0)

    assert process.get("a") == "2"
    assert process.get("new") == "3"
    counts = process.canary()
    assert (counts.answered, counts.behind) == (0, 2)
    process.store.close()


def test_other_reads_are_the_primarys(canary: Watching) -> None:
    canary.store.read("logs", ["k1"], deleted=True)
    canary.store.collection(Log).find()
    canary.store.collection(Log).count()

    assert canary.canary().asked == 0
    assert canary.secondary.reads == 0


def test_the_latency_of_both_stores_is_recorded(canary: Watching) -> None:
    canary.secondary.before_read = lambda: time.sleep(0.003)
    for _ in range(20):
        canary.get("k1")

    counts = canary.canary()

    assert 0 < counts.primary_p50 <= counts.primary_p95
    assert 0.003 <= counts.secondary_p50 <= counts.secondary_p95
    assert counts.share == 1.0


def test_an_error_of_the_primary_is_raised_as_it_is(canary: Watching) -> None:
    canary.json.is_cut = True
    with pytest.raises(StoreUnavailable, match="the line is cut"):
        canary.get("k1")
    canary.json.is_cut = False


# -- a secondary in trouble ---------------------------------------------------------------


def test_a_secondary_that_fails_leaves_the_answer_and_rests(canary: Watching) -> None:
    canary.postgres.is_cut = True

    assert [canary.get("k1") for _ in range(5)] == ["right"] * 5

    counts = canary.canary()
    assert (counts.asked, counts.failed, counts.suspended) == (1, 1, 4)
    canary.postgres.is_cut = False
    canary.store._canary._resume_at = 0.0
    assert canary.get("k1") == "right"
    assert canary.canary().answered == 1


def test_a_secondary_that_hangs_costs_one_read_a_quarter_of_a_second(
    canary: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_canary_reads, "_LONGEST_WAIT", 0.25)
    go_on = threading.Event()
    canary.secondary.before_read = lambda: go_on.wait(PATIENCE)

    started = time.monotonic()
    found = [canary.get("k1") for _ in range(200)]
    taken = time.monotonic() - started
    go_on.set()

    assert found == ["right"] * 200
    assert canary.canary().failed == 1
    assert taken < 200 * 0.25 / 4


def turn_slow(
    canary: Watching, monkeypatch: pytest.MonkeyPatch, *, unnoticed: float
) -> None:
    """Let the secondary take a tenth of a second for each of twenty reads."""
    monkeypatch.setattr(_canary_reads, "_UNNOTICED", unnoticed)
    monkeypatch.setattr(_canary_reads, "_ENOUGH", 20)
    monkeypatch.setattr(_canary_reads, "_JUDGE_EVERY", 10)
    canary.secondary.before_read = lambda: time.sleep(0.1)
    for _ in range(20):
        canary.get("k1")


def test_a_slow_secondary_turns_the_reads_off_everywhere_and_for_good(
    canary: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_slow(canary, monkeypatch, unnoticed=0.01)

    assert canary.canary().share == 0.0
    (event,) = [e for e in canary.events if e.name == "canary-off"]
    assert "ms at the 95th percentile" in event.message
    assert "pend-storage tune dual_write.canary SHARE" in event.message
    wait_until(lambda: canary.store.meta(TUNING_META) is not None)
    setting = parse_knobs(canary.store.meta(TUNING_META)).settings["dual_write.canary"]
    assert (setting.value, setting.by) == (0.0, "canary reads")
    assert "95th percentile" in setting.reason


def test_a_secondary_that_is_slower_than_memory_but_quick_stays(
    canary: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn_slow(canary, monkeypatch, unnoticed=PATIENCE)

    counts = canary.canary()
    assert counts.secondary_p95 > 2 * counts.primary_p95
    assert counts.share == 1.0


# -- a difference -------------------------------------------------------------------------


def test_a_difference_is_answered_by_the_primary_and_turns_the_reads_off(
    canary: Watching, place: Place
) -> None:
    damage(place.postgres, "k1", "a wrong secret")

    assert canary.get("k1") == "right"

    wait_until(lambda: canary.canary().share == 0.0)
    assert canary.canary().differing == 1
    assert canary.store.compared().confirmed == 1
    (finding,) = canary.store.divergences()
    assert (finding.collection, finding.key) == ("logs", "k1")
    (event,) = [e for e in canary.events if e.name == "canary-off"]
    assert "a record of logs certainly differs" in event.message
    assert "secret" not in event.message
    wait_until(lambda: canary.store.meta(TUNING_META) is not None)


def test_a_difference_that_a_compared_read_finds_turns_them_off_too(
    place: Place, canary: Watching
) -> None:
    damage(place.postgres, "k1", "wrong")

    canary.store._shadow_reads.add_keys("logs", ["k1"])

    wait_until(lambda: canary.canary().share == 0.0)


def test_what_one_process_turned_off_is_off_in_others_and_after_a_restart(
    place: Place, canary: Watching
) -> None:
    serving = Process(
        place, canary=1.0, relay_interval=0.05, secondary_timeout=5.0, compare=0.0
    )
    serving.store._knobs._interval = 0.05
    serving.get("k2")
    wait_until(lambda: serving.store._canary.share == 1.0)
    damage(place.postgres, "k1", "wrong")
    canary.get("k1")

    wait_until(lambda: serving.store._canary.share == 0.0)
    serving.restart()
    serving.get("k2")
    wait_until(lambda: serving.store._knobs._was_read)
    assert serving.store._canary.share == 0.0
    serving.store.close()


def test_a_process_with_threads_is_off_until_it_has_read_the_knobs(
    place: Place, canary: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_knob(canary.store, "dual_write.canary", 0.5, **WHO)
    with monkeypatch.context() as unread:
        unread.setattr(LiveKnobs, "refresh", lambda _self: None)
        serving = Process(place, canary=1.0, relay_interval=0.05, compare=0.0)
        assert serving.get("k1") == "right"
        assert serving.store.compared().canary.asked == 0

    serving.store._knobs.refresh()

    assert serving.store._canary.share == 0.5
    serving.store.close()


def test_an_operator_turns_them_on_again(place: Place, canary: Watching) -> None:
    canary.store._canary.turn_off("a test")
    wait_until(lambda: canary.store.meta(TUNING_META) is not None)
    # Another knob, while this process has not read its own yet, changes nothing.
    canary.store._canary.follow(1.0, None)
    assert canary.canary().share == 0.0

    set_knob(canary.store, "dual_write.canary", 0.5, **WHO)
    canary.store._knobs.refresh()

    assert canary.canary().share == 0.5


def test_it_is_turned_off_once(canary: Watching) -> None:
    threads = [
        threading.Thread(target=canary.store._canary.turn_off, args=("a test",))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    join(*threads)

    assert [e.name for e in canary.events].count("canary-off") == 1


# -- threads and switches -----------------------------------------------------------------


class History:
    """Calls on one key, by threads of several processes, while phases change."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.errors: list[BaseException] = []
        self._numbers = iter(range(1, 1_000_000))
        self._lock = threading.Lock()
        self.stop = threading.Event()

    def write(self, process: Process) -> None:
        with self._lock:
            number = next(self._numbers)
        begin = time.monotonic()
        version = process.store.collection(Tally).put(a_tally("t", number))
        self._add(Call("write", number, begin, time.monotonic(), version))

    def read(self, process: Process) -> None:
        begin = time.monotonic()
        found = process.store.collection(Tally).versioned("t")
        value, version = (
            (None, 0) if found is None else (found.record.value, found.version)
        )
        self._add(Call("read", value, begin, time.monotonic(), version))

    def _add(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)

    def work(self, process: Process, seed: int) -> None:
        rng = random.Random(seed)
        try:
            while not self.stop.is_set():
                (self.read if rng.random() < 0.7 else self.write)(process)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.errors.append(error)


def test_one_key_is_linearisable_with_every_read_a_canary(place: Place) -> None:
    """Writes do not wait for the secondary, so it is behind most of the time."""
    settings: dict[str, Any] = {
        "canary": 1.0,
        "relay_interval": 0.01,
        "secondary_timeout": 0.0,
        "switch_patience": 60,
    }
    processes = [Process(place, **settings) for _ in range(2)]
    for process in processes:
        process.store._knobs._interval = 0.05
        process.get("x")
        wait_until(lambda each=process: each.store._canary.share == 1.0)  # type: ignore[misc]
    history = History()
    threads = [
        threading.Thread(target=history.work, args=(processes[n % 2], n))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    rng = random.Random(5)
    for n in range(25):
        phase = rng.choice([Phase.PARALLEL, Phase.POSTGRES_PRIMARY])
        processes[n % 2].store.switch(phase, accept=CODES)
        time.sleep(0.02)
    history.stop.set()
    join(*threads, timeout=60)

    counts = [process.store.compared().canary for process in processes]
    for process in processes:
        process.store.close()
    assert history.errors == []
    assert version_faults(history.calls) == []
    assert is_linearisable(history.calls)
    assert sum(each.answered for each in counts) > 0
    assert sum(each.behind for each in counts) > 0
    assert all(each.share == 1.0 for each in counts)
