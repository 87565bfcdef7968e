"""Jobs of a pair, and what its processes know of one another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pend_storage._jobs import running
from pend_storage._jobs.requests import read_jobs, request
from pend_storage._jobs.running import running_job
from pend_storage._model.jobs import BEAT, DEAD_AFTER, Job
from pend_storage.backup._seal import CARRIED_NOT
from pend_storage.dualwrite import CODES, Finding, Switch, force_promotion
from pend_storage.dualwrite._compared_totals import COMPARED_META, TotalsRecord
from pend_storage.dualwrite._divergence_acceptance import ACCEPTED_META
from pend_storage.dualwrite._switch_history import record_promotion
from pend_storage.errors import ConfigError, JobCancelled, StoreUnavailable
from pend_storage.operations.divergences import accept, list_divergences, show
from pend_storage.phases import Phase
from pend_storage.schema import FINDINGS
from pend_storage.testing.domain import Log, a_log
from tests.dualwrite.processes import Place, Process
from tests.dualwrite.test_divergence_check import damage

from .waiting import until

J, PAR, PG, P = Phase


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports ten times as often as usual."""
    monkeypatch.setattr(running, "BEAT", BEAT / 10)


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def one(place: Place) -> Iterator[Process]:
    """In the phase parallel, with records of which PostgreSQL has none."""
    place.json.collection(Log).put_many([a_log(f"{n:05}", "x") for n in range(3_000)])
    process = Process(place, switch_patience=20.0, compare=0.0)
    process.store.switch(PAR)
    yield process
    process.store.close()


@pytest.fixture
def two(place: Place, one: Process) -> Iterator[Process]:
    process = Process(place, switch_patience=20.0)
    yield process
    process.store.close()


def jobs(process: Process) -> tuple[Job, ...]:
    return read_jobs(process.store, datetime.now(UTC))


class Backfill:
    """Backfill of one process in a thread of its own."""

    def __init__(self, process: Process, **options: Any) -> None:
        self.error: BaseException | None = None
        self.report: Any = None
        self._process, self._options = process, options
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.report = self._process.store.backfill(**self._options)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error


# -- the job of a backfill ----------------------------------------------------------------


def test_another_process_reads_the_progress_of_a_backfill_and_ends_it(
    one: Process, two: Process
) -> None:
    # At this rate one chunk makes a wait of a minute, in the middle of which it obeys.
    work = Backfill(one, rate=8.0, by="ann", reason="the move")
    until(lambda: jobs(two) and jobs(two)[0].waiting == "rate")
    (job,) = jobs(two)
    assert (job.kind, job.by, job.reason) == ("backfill", "ann", "the move")
    assert job.done == 0  # the chunk counts once its wait is over
    assert job.state == "running"

    request(two.store, job.id, "cancel", by="bob", reason="too early")
    work.thread.join(2.0)

    assert isinstance(work.error, JobCancelled)
    assert "goes on from there" in str(work.error)
    (ended,) = jobs(two)
    assert (ended.state, ended.request and ended.request.by) == ("cancelled", "bob")
    resumed = two.store.backfill()
    assert resumed.resumed
    assert one.place.postgres.collection(Log).count() == 3_000
    assert [job.state for job in jobs(one)] == ["cancelled", "done"]
    assert jobs(one)[1].result == "3,000 records copied"


def test_a_paused_backfill_copies_nothing_and_goes_on(
    one: Process, two: Process
) -> None:
    work = Backfill(one, rate=1_000.0)
    until(lambda: jobs(two) and jobs(two)[0].done)
    request(two.store, jobs(two)[0].id, "pause")
    until(lambda: jobs(two)[0].state == "paused", 2.0)
    before = one.place.postgres.collection(Log).count()
    time.sleep(0.3)
    assert one.place.postgres.collection(Log).count() == before < 3_000
    request(two.store, jobs(two)[0].id, "resume")
    work.thread.join(30)
    assert work.error is None
    assert one.place.postgres.collection(Log).count() == 3_000
    assert jobs(two)[0].throttled["paused"] > 0.2


@pytest.mark.parametrize("verb", ["validate", "repair"])
def test_comparisons_are_jobs_too(one: Process, two: Process, verb: str) -> None:
    one.store.backfill()
    getattr(one.store, verb)(by="ann", reason="a look")
    job = jobs(two)[-1]
    assert (job.kind, job.by, job.reason, job.state) == (verb, "ann", "a look", "done")


def test_a_dry_run_of_a_repair_is_no_job(one: Process) -> None:
    one.store.repair(dry_run=True)
    assert jobs(one) == ()


def test_a_switch_during_a_job_takes_its_record_along(
    one: Process, two: Process
) -> None:
    one.store.backfill()
    with running_job(one.store, "backup-create", by="ann") as job:
        job(1, 3)
        until(lambda: jobs(two)[-1].done == 1)
        two.store.switch(PG, accept=CODES)
        job(2, 3)
        until(lambda: jobs(two)[-1].done == 2)
        request(two.store, job.id, "pause")
        until(lambda: jobs(one)[-1].state == "paused")
        request(two.store, job.id, "resume")
    assert [(j.kind, j.state) for j in jobs(two)] == [
        ("backfill", "done"),
        ("backup-create", "done"),
    ]
    two.restart()  # it survives the processes, too
    assert jobs(two)[-1].kind == "backup-create"


def test_a_job_whose_process_is_gone_has_died(one: Process, two: Process) -> None:
    with running_job(one.store, "validate") as job:
        until(lambda: jobs(two))
        found = one.store.meta("jobs")
    # As a process that was killed has left it.
    one.store.compare_and_set_meta("jobs", one.store.meta("jobs"), found)
    assert jobs(two)[0].state == "running"
    later = datetime.now(UTC) + DEAD_AFTER + timedelta(seconds=1)
    (dead,) = read_jobs(two.store, later)
    assert (dead.id, dead.state) == (job.id, "died")
    assert "Begin it again" in (dead.result or "")


def test_a_pair_that_is_out_of_reach_fails_no_job(one: Process) -> None:
    with running_job(one.store, "backup-verify") as job:
        until(lambda: jobs(one))
        one.json.is_cut = True
        until(lambda: "job-not-recorded" in [event.name for event in one.events])
        job(1, 2)
        one.json.is_cut = False
    assert jobs(one)[-1].state == "done"


# -- the history of switches --------------------------------------------------------------


def test_a_switch_keeps_who_made_it_and_why(one: Process, two: Process) -> None:
    two.store.switch(J, by="ann", reason="a rehearsal")
    with two.store.acting(by="bob", reason="again"):
        two.store.switch(PAR)
    assert [(s.by, s.reason, s.kind) for s in one.store.history()[-2:]] == [
        ("ann", "a rehearsal", "switch"),
        ("bob", "again", "switch"),
    ]


def test_a_promotion_is_in_the_history_once(place: Place, one: Process) -> None:
    one.store.switch(J, by="ann")
    one.store.close()
    force_promotion(place.json, place.postgres, "postgres")
    entry = Switch(
        at=datetime.now(UTC),
        by="bob",
        reason="the disk died",
        kind="election",
        before=J,
        after=P,
        epoch=place.postgres.role().epoch,
        pause=0.0,
    )
    for _ in range(2):  # an interrupted command is called again
        record_promotion(place.postgres, entry)
    process = Process(place)
    try:
        assert process.store.history()[-1] == entry
        assert [s.kind for s in process.store.history()].count("election") == 1
    finally:
        process.store.close()


# -- compared reads -----------------------------------------------------------------------


def test_every_process_sees_the_compared_reads_of_all(place: Place) -> None:
    processes = [
        Process(place, compare=1.0, secondary_timeout=5.0, relay_interval=0.01)
        for _ in range(2)
    ]
    first, second = processes
    first.store.switch(PAR)
    first.put("a", "right")
    first.store.catch_up()
    damage(place.postgres, "a", "wrong")
    for process in processes:
        for _ in range(3):
            process.get("a")
        assert process.store._shadow_reads.wait(30)

    def compared() -> int:
        totals = second.store.compared_totals()
        return 0 if totals is None else totals.compared

    until(lambda: compared() == 6)
    totals = first.store.compared_totals()
    assert totals is not None
    assert (totals.sampled, totals.dropped, totals.confirmed) == (6, 0, 6)
    assert totals.since <= totals.at
    for process in processes:
        process.store.close()


class Values:
    """Values of a pair, in memory, which may be out of reach."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.is_away = False

    def get(self, name: str) -> Any:
        if self.is_away:
            raise StoreUnavailable("away", store="the primary")
        return self.values.get(name)

    def compare_and_set(
        self, name: str, expected: Any, value: Any, given: Any = None, also: Any = None
    ) -> bool:
        assert given is also is None
        if self.values.get(name) != expected:
            return False
        self.values[name] = value
        return True


def counts(number: int) -> dict[str, int]:
    names = ("sampled", "dropped", "compared", "skipped", "rechecked", "confirmed")
    return dict.fromkeys(names, number)


def test_counts_that_could_not_be_added_are_added_later() -> None:
    values = Values()
    record = TotalsRecord(values)
    values.is_away = True
    record.add(counts(5), now=True)
    values.is_away = False
    record.add(counts(7), now=True)
    record.add(counts(7), now=True)
    found = record.read()
    assert found is not None
    assert found.dropped == 7


def test_a_forked_child_does_not_count_its_parent_again() -> None:
    values = Values()
    TotalsRecord(values).add(counts(5), now=True)
    child = TotalsRecord(values)
    child.begin_at(counts(5))
    child.add(counts(6), now=True)
    found = child.read()
    assert found is not None
    assert found.compared == 6


def test_totals_of_a_newer_version_are_left_alone() -> None:
    values = Values()
    values.values[COMPARED_META] = {"version": 2, "sums": []}
    record = TotalsRecord(values)
    record.add(counts(5), now=True)
    assert record.read() is None
    assert values.values[COMPARED_META] == {"version": 2, "sums": []}


def test_a_restored_store_gets_neither_jobs_nor_counts() -> None:
    assert {"jobs", COMPARED_META} <= CARRIED_NOT
    assert ACCEPTED_META not in CARRIED_NOT  # as the findings


# -- acceptance of divergences ------------------------------------------------------------


@pytest.fixture
def wrong(place: Place) -> Iterator[Process]:
    """One record is damaged in the secondary, and a validation has found it."""
    process = Process(place, secondary_timeout=5.0, relay_interval=0.01)
    process.store.switch(PAR)
    process.put("a", "right")
    process.store.catch_up()
    damage(place.postgres, "a", "wrong")
    assert process.store.validate().found == 1
    yield process
    process.store.close()


def only(process: Process) -> Finding:
    (found,) = process.store.divergences(closed=True)
    return found


def test_an_acceptance_keeps_who_and_why_and_closes_the_finding(
    wrong: Process, place: Place
) -> None:
    identity = only(wrong).id
    (done,) = accept(wrong.store, [identity[:6]], by="ann", reason="known since May")
    assert (done.id, done.state) == (identity, "accepted")
    another = Process(place)
    (found,) = list_divergences(another.store, closed=True)
    assert found.accepted is not None
    assert (found.accepted.by, found.accepted.reason) == ("ann", "known since May")
    assert list_divergences(another.store) == ()
    another.store.close()
    change = next(
        c
        for c in reversed(list(wrong.store.changes()))
        if any(r.collection == FINDINGS for r in c.records)
    )
    assert (change.by, change.reason) == ("ann", "known since May")


def test_the_same_divergence_stays_accepted(wrong: Process) -> None:
    accept(wrong.store, [only(wrong).id], by="ann", reason="known")
    assert wrong.store.validate().found == 1  # it is still there
    assert only(wrong).state == "accepted"


def test_a_divergence_comes_back_when_the_record_is_written_again(
    wrong: Process, place: Place
) -> None:
    accept(wrong.store, [only(wrong).id], by="ann", reason="known")
    wrong.put("a", "newer")
    wrong.store.catch_up()
    damage(place.postgres, "a", "wrong")  # as before, in another version
    wrong.store.validate()
    (found,) = list_divergences(wrong.store)
    assert found.is_open
    assert found.accepted is not None  # what was decided about the earlier one


def test_a_divergence_comes_back_when_it_is_another_one(
    wrong: Process, place: Place
) -> None:
    accept(wrong.store, [only(wrong).id], by="ann", reason="known")
    damage(place.postgres, "a", "wrong in another way")
    wrong.store.validate()
    assert only(wrong).state == "open"


def test_an_accepted_divergence_that_ends_and_begins_again_is_open(
    wrong: Process, place: Place
) -> None:
    accept(wrong.store, [only(wrong).id], by="ann", reason="known")
    wrong.store.repair()
    assert wrong.store.validate().ok
    wrong.put("a", "right again")
    wrong.store.catch_up()
    damage(place.postgres, "a", None)
    wrong.store.validate()
    assert [f.state for f in wrong.store.divergences()] == ["open"]


def test_a_finding_that_changed_while_someone_looked_is_not_accepted(
    wrong: Process, place: Place
) -> None:
    seen = {only(wrong).id: only(wrong)}
    damage(place.postgres, "a", "wrong in another way")
    wrong.store._registry._written.clear()  # a minute later
    wrong.store.validate()
    with pytest.raises(ConfigError, match="has changed meanwhile"):
        wrong.store._registry.accept(seen)
    assert only(wrong).state == "open"


def test_none_is_accepted_where_one_cannot_be(wrong: Process, place: Place) -> None:
    with pytest.raises(ConfigError, match="no open divergence 'nothing'"):
        wrong.store.accept_divergences(
            [only(wrong).id, "nothing"], by="ann", reason="known"
        )
    with pytest.raises(ConfigError, match="needs a reason"):
        wrong.store.accept_divergences([only(wrong).id], reason=" ")
    assert only(wrong).state == "open"


@pytest.mark.parametrize("field", ["kind", "source"])
def test_what_no_version_identifies_cannot_be_accepted(
    wrong: Process, field: str
) -> None:
    found = only(wrong)
    now = datetime.now(UTC)
    other = Finding(
        collection="logs",
        key="" if field == "kind" else "b",
        kind="answer" if field == "kind" else "different",
        source="read" if field == "kind" else "edit",
        versions=(0, 0),
        first_seen=now,
        last_seen=now,
    )
    wrong.store._registry.record([other])
    ids = [f.id for f in wrong.store.divergences() if f.id != found.id]
    with pytest.raises(ConfigError, match="See: pend-storage"):
        wrong.store.accept_divergences(ids, reason="known")
    assert len(wrong.store.divergences()) == 2


def test_values_are_hidden_unless_they_are_wanted(wrong: Process, place: Place) -> None:
    class Sides:
        """Pair whose stores have names, as the one of an environment."""

        json, postgres = place.json, place.postgres
        roles = staticmethod(wrong.store.roles)
        divergences = staticmethod(wrong.store.divergences)
        meta = staticmethod(wrong.store.meta)

    identity = only(wrong).id
    hidden = show(Sides(), identity)
    assert "wrong" not in str(hidden.differences)
    seen = show(Sides(), identity, values=True)
    assert [(d.left, d.right) for d in seen.differences] == [("right", "wrong")]


def test_decisions_are_bounded(wrong: Process) -> None:
    acceptances = wrong.store._acceptances
    for number in range(0, 1_100, 100):
        ids = [f"{n}" for n in range(number, number + 100)]
        acceptances._record(ids, by="b" * 900, reason="r" * 900)
    known = acceptances.known()
    assert len(known) == 1_000
    assert "0" not in known
    assert len(known["1099"].reason) <= 500
