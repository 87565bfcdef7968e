"""Running jobs: what they report, what they obey, and that they never fail by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from pend_storage._jobs import running
from pend_storage._jobs.reporter import JobReporter
from pend_storage._jobs.requests import read_jobs, request
from pend_storage._jobs.running import running_job
from pend_storage._model.jobs import BEAT, JOBS_META, Job, Wish, parse_jobs, plain_jobs
from pend_storage._model.records import JSON
from pend_storage.errors import ConfigError, JobCancelled, StoreUnavailable
from pend_storage.events import Event, Pace
from pend_storage.operations.jobs import has_obeyed
from pend_storage.stores.memory import MemoryStore
from pend_storage.testing.domain import SCHEMA, Log, a_log

from .waiting import until


class Telling(MemoryStore):
    """Store that remembers events, and whose metadata can be away, or hang."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_away = False
        self.hangs: threading.Event | None = None
        super().__init__(SCHEMA)

    @override
    def tell(self, event: Event) -> None:
        self.events.append(event)

    @override
    def meta(self, name: str) -> JSON:
        if name == JOBS_META and self.is_away:
            raise StoreUnavailable("the disk is gone", store="the store")
        if name == JOBS_META and self.hangs is not None:
            self.hangs.wait(30)
        return super().meta(name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports ten times as often as usual."""
    monkeypatch.setattr(running, "BEAT", BEAT / 10)


@pytest.fixture
def store() -> Iterator[Telling]:
    with Telling() as made:
        yield made


def jobs(store: MemoryStore) -> tuple[Job, ...]:
    return read_jobs(store, datetime.now(UTC))


def only(store: MemoryStore) -> Job:
    (job,) = jobs(store)
    return job


class Work:
    """A job in a thread of its own, which counts as long as nothing stops it."""

    def __init__(self, store: MemoryStore, **options: Any) -> None:
        self.done = 0
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self.job: JobReporter | None = None
        self._store, self._options = store, options
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            with running_job(self._store, "backfill", **self._options) as job:
                self.job = job
                while not self.stop.is_set():
                    self.done += 1
                    job(self.done, 1_000_000)
                    time.sleep(0.005)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def end(self) -> None:
        self.stop.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def work(store: Telling) -> Iterator[Work]:
    made = Work(store, by="ann", reason="the move")
    until(lambda: jobs(store) and only(store).done)
    yield made
    made.end()


def test_others_see_who_began_a_job_and_how_far_it_is(
    store: Telling, work: Work
) -> None:
    first = until(lambda: only(store))
    assert (first.kind, first.by, first.reason) == ("backfill", "ann", "the move")
    assert (first.state, first.total) == ("running", 1_000_000)
    until(lambda: only(store).done > first.done)
    work.end()
    last = only(store)
    assert (last.state, last.done, last.result) == ("done", work.done, "done")


def test_a_rate_and_the_time_left_are_reported(store: Telling, work: Work) -> None:
    until(lambda: only(store).rate)
    job = only(store)
    assert job.rate is not None
    assert job.rate < 300
    assert job.eta_seconds is not None
    assert job.eta_seconds > 1_000


def test_a_job_pauses_goes_on_and_ends_within_two_seconds(
    store: Telling, work: Work
) -> None:
    identity = only(store).id
    began = time.monotonic()
    request(store, identity, "pause", by="bob", reason="peak hours")
    until(lambda: only(store).state == "paused", 2.0)
    until(lambda: only(store).waiting == "paused", 2.0)
    before = work.done
    time.sleep(0.3)
    assert work.done == before
    request(store, identity, "resume")
    until(lambda: work.done > before, 2.0)
    until(lambda: only(store).state == "running", 2.0)
    assert only(store).throttled["paused"] > 0.2
    request(store, identity, "cancel", by="bob", reason="not today")
    work.thread.join(2.0)
    assert time.monotonic() - began < 9
    assert isinstance(work.error, JobCancelled)
    assert (work.error.by, work.error.reason) == ("bob", "not today")
    ended = only(store)
    assert ended.state == "cancelled"
    assert "cancelled by bob (not today). Begin it again" in (ended.result or "")
    assert ended.request is not None
    assert ended.request.wish == "cancel"


def test_a_paused_job_can_be_cancelled(store: Telling, work: Work) -> None:
    request(store, only(store).id, "pause")
    until(lambda: only(store).state == "paused")
    request(store, only(store).id, "cancel")
    work.thread.join(5)
    assert isinstance(work.error, JobCancelled)


def test_time_in_which_a_job_was_paused_does_not_lower_its_rate() -> None:
    reporter = JobReporter(a_job(done=100), "")
    reporter._since -= 100.0  # 100 seconds, of which 90 were a pause
    reporter._paused = 90.0
    assert reporter.report(datetime.now(UTC)).rate == pytest.approx(10.0, rel=0.01)


def a_job(**fields: Any) -> Job:
    now = datetime.now(UTC)
    job = Job(id="j", kind="k", by="b", host="h", process=1, started=now, heartbeat=now)
    return replace(job, **fields)


@pytest.mark.parametrize("jump", [timedelta(days=-2), timedelta(days=2)])
def test_a_clock_that_jumps_changes_neither_the_rate_nor_the_time_left(
    jump: timedelta,
) -> None:
    reporter = JobReporter(a_job(done=50, total=100), "")
    reporter._since -= 10.0
    job = reporter.report(datetime.now(UTC) + jump)
    assert job.rate == pytest.approx(5.0, rel=0.01)
    assert job.eta_seconds == pytest.approx(10.0, rel=0.05)


def test_the_pace_of_the_work_is_taken_over() -> None:
    reporter = JobReporter(a_job(done=50, total=100), "")
    reporter.pace(Pace(rate=25.0, seconds_left=2.0, throttled={"lag": 3.5}))
    job = reporter.report(datetime.now(UTC))
    assert (job.rate, job.eta_seconds, dict(job.throttled)) == (25.0, 2.0, {"lag": 3.5})


def test_work_that_may_not_stop_refuses_requests(store: Telling) -> None:
    with running_job(store, "promote", can_wait=False) as job:
        until(lambda: jobs(store))
        with pytest.raises(ConfigError, match="a promote may not stop half-way"):
            request(store, job.id, "cancel")
        job.steer()
    assert only(store).state == "done"


def test_a_job_that_ended_or_that_is_none_cannot_be_asked(store: Telling) -> None:
    with running_job(store, "seed") as job:
        pass
    with pytest.raises(ConfigError, match="it is done"):
        request(store, job.id, "pause")
    with pytest.raises(ConfigError, match="it is done"):
        request(store, "2", "pause")  # it begins the id, and names one only
    for text in ("nothing", ""):
        with pytest.raises(ConfigError, match="there is no job"):
            request(store, text, "pause")


def test_a_part_of_an_id_that_names_two_jobs_is_refused(store: Telling) -> None:
    for _ in range(2):
        with running_job(store, "seed"):
            pass
    with pytest.raises(ConfigError, match="more than one job '20'"):
        request(store, "20", "pause")


def test_a_store_that_is_away_fails_no_work_and_is_told_once(store: Telling) -> None:
    store.is_away = True
    with running_job(store, "backfill") as job:
        until(lambda: store.events)
        time.sleep(0.5)  # more reports are due
        job(1, 2)
    assert [event.name for event in store.events] == ["job-not-recorded"]
    assert job.id in store.events[0].message


def test_a_store_that_comes_back_gets_the_report(store: Telling) -> None:
    store.is_away = True
    with running_job(store, "backfill") as job:
        until(lambda: store.events)
        store.is_away = False
        job(1, 2)
        until(lambda: jobs(store))
        assert only(store).state == "running"
    assert only(store).state == "done"


def test_a_store_that_hangs_is_not_waited_for(
    store: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_LAST_WORD", 0.1)
    store.hangs = threading.Event()
    began = time.monotonic()
    with running_job(store, "backfill") as job:
        job(1, 2)
    assert time.monotonic() - began < 5
    store.hangs.set()


def test_the_record_of_a_newer_version_is_left_alone(store: Telling) -> None:
    newer: JSON = {"version": 9, "jobs": "in another form"}
    store.compare_and_set_meta(JOBS_META, None, newer)
    with running_job(store, "backfill") as job:
        job(1, 2)
    assert store.meta(JOBS_META) == newer
    assert [event.name for event in store.events] == ["job-not-recorded"]


def test_work_without_a_place_for_its_record_is_done() -> None:
    with running_job(None, "restore") as job:
        job.begin_stage("restoring", unit="rows")
        job(1, 2)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConfigError("the URL is wrong. Correct it."), "the URL is wrong. Correct it."),
        (ValueError("+20 100 555 1234"), "ValueError"),
    ],
)
def test_a_failure_is_recorded_without_values_of_records(
    store: Telling, error: Exception, sentence: str
) -> None:
    with pytest.raises(type(error)), running_job(store, "repair"):
        raise error
    assert (only(store).state, only(store).result) == ("failed", sentence)


def test_an_interruption_is_recorded(store: Telling) -> None:
    with pytest.raises(KeyboardInterrupt), running_job(store, "repair", again="Again."):
        raise KeyboardInterrupt
    assert only(store).state == "cancelled"
    assert only(store).result == "interrupted. Again."


def test_a_job_in_a_job_is_a_part_of_it(store: Telling) -> None:
    with (
        running_job(store, "rollback") as outer,
        running_job(store, "validate") as inner,
    ):
        assert inner is outer
    assert only(store).kind == "rollback"


def test_two_jobs_at_once_keep_their_own_numbers(store: Telling) -> None:
    works = [Work(store, by=name) for name in ("ann", "bob")]
    until(lambda: {j.by for j in jobs(store) if j.done} == {"ann", "bob"})
    victim = next(job for job in jobs(store) if job.by == "bob")
    request(store, victim.id, "cancel")
    works[1].thread.join(5)
    before = works[0].done
    until(lambda: works[0].done > before)
    works[0].end()
    assert {job.by: job.state for job in jobs(store)} == {
        "ann": "done",
        "bob": "cancelled",
    }
    assert next(j for j in jobs(store) if j.by == "ann").done == works[0].done


def test_an_entry_that_was_lost_is_written_again(store: Telling, work: Work) -> None:
    store.compare_and_set_meta(JOBS_META, store.meta(JOBS_META), None)
    until(lambda: jobs(store))
    assert only(store).by == "ann"


def test_a_request_is_not_lost_between_two_reports(store: Telling, work: Work) -> None:
    # The report and the request write the same entry: whichever is second has read first.
    wishes: list[Wish] = ["pause", "resume"] * 3
    for wish in wishes:
        request(store, only(store).id, wish)
        until(lambda wish=wish: has_obeyed(only(store), wish), 5.0)  # type: ignore[misc]


def test_commits_of_a_job_have_its_author_and_reason(store: Telling) -> None:
    with running_job(store, "seed", by="ann", reason="a fresh start"):
        store.collection(Log).put(a_log("a", "x"))
    (change,) = store.changes()
    assert (change.by, change.reason) == ("ann", "a fresh start")


def test_the_author_of_the_context_began_it(store: Telling) -> None:
    with store.acting(by="bob", reason="why not"), running_job(store, "seed"):
        pass
    assert (only(store).by, only(store).reason) == ("bob", "why not")


class Counting(Telling):
    """Store that counts what is written to the record."""

    written = 0

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        self.written += name == JOBS_META
        return super().compare_and_set_meta(name, expected, value, given=given)


@pytest.mark.parametrize("moves", [True, False])
def test_it_writes_once_a_second_at_most_and_less_where_nothing_moves(
    moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "BEAT", BEAT)
    with Counting() as store, running_job(store, "backfill") as job:
        until(lambda: store.written)
        began, before = time.monotonic(), store.written
        while time.monotonic() < began + 3.2:
            if moves:
                job(int(1e6 * (time.monotonic() - began)), 10**9)
            time.sleep(0.001)
        count = store.written - before
    assert (1 <= count <= 4) if moves else count <= 1


def test_a_report_of_another_version_of_the_job_is_replaced(store: Telling) -> None:
    with running_job(store, "backfill") as job:
        until(lambda: jobs(store))
        found = store.meta(JOBS_META)
        changed = [replace(each, done=99) for each in parse_jobs(found)]
        store.compare_and_set_meta(JOBS_META, found, plain_jobs(changed))
        until(lambda: only(store).done == 0)
        assert job.id == only(store).id
