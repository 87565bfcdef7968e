"""The shared record of jobs: bounded, versioned, and judged by the age of a report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage._model.jobs import (
    DEAD_AFTER,
    Job,
    JobState,
    Request,
    as_read_at,
    parse_jobs,
    plain_jobs,
    with_job,
)
from pend_storage._model.records import JSON
from pend_storage.errors import ConfigError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATES: list[JobState] = ["running", "paused", "cancelled", "done", "failed"]


def a_job(number: int, state: JobState = "running", **fields: object) -> Job:
    at = NOW + timedelta(milliseconds=number)
    job = Job(
        id=f"{number:06}",
        kind="backfill",
        by="ann",
        host="web-1",
        process=7,
        started=at,
        heartbeat=at,
        state=state,
    )
    return replace(job, **fields)  # type: ignore[arg-type]


def test_a_record_is_read_as_it_was_written() -> None:
    asked = Request(wish="pause", by="bob", reason="peak hours", at=NOW)
    jobs = (
        a_job(1, done=3, total=9, rate=1.5, eta_seconds=4.0, throttled={"lag": 2.5}),
        a_job(2, "paused", request=asked, can_wait=False, waiting="paused"),
        a_job(3, "failed", result="the disk is full", reason="a try"),
    )
    assert parse_jobs(plain_jobs(jobs)) == jobs
    assert parse_jobs(None) == ()


@pytest.mark.parametrize("state", STATES)
def test_a_thousand_jobs_leave_a_small_record(state: JobState) -> None:
    known: tuple[Job, ...] = ()
    for number in range(1_000):
        long = "x" * 5_000
        job = a_job(number, state, by=long, reason=long, result=long, stage=long)
        known = with_job(known, job, NOW + timedelta(seconds=1))
        assert known[-1].id == job.id  # the newest has its place
    assert len(msgspec.json.encode(plain_jobs(known))) < 100_000
    assert len(known) <= 33


def test_jobs_that_died_make_room_for_those_that_run() -> None:
    known: tuple[Job, ...] = ()
    for number in range(100):
        known = with_job(known, a_job(number), NOW)
    later = NOW + 2 * DEAD_AFTER
    for number in range(100, 120):
        job = a_job(number, heartbeat=later, started=later)
        known = with_job(known, job, later)
    assert {f"{n:06}" for n in range(100, 120)} <= {job.id for job in known}


def test_a_failure_outlives_work_that_is_repeated_every_few_minutes() -> None:
    known = with_job((), a_job(0, "failed", kind="repair"), NOW)
    for number in range(1, 200):
        known = with_job(known, a_job(number, "done", kind="archive"), NOW)
    assert [job.kind for job in known].count("archive") == 4
    assert known[0].kind == "repair"


@given(
    st.lists(st.tuples(st.integers(0, 50), st.sampled_from(STATES)), max_size=120),
    st.integers(0, 60),
)
def test_the_job_that_reports_is_always_in_the_record(
    entries: list[tuple[int, JobState]], number: int
) -> None:
    known: tuple[Job, ...] = ()
    for each, state in entries:
        known = with_job(known, a_job(each, state), NOW)
    known = with_job(known, a_job(number), NOW)
    ids = [job.id for job in known]
    assert ids.count(f"{number:06}") == 1
    assert ids == sorted(set(ids))
    assert len(ids) <= 53


@pytest.mark.parametrize("seconds", [-1, 1])
def test_a_report_that_is_too_old_or_of_a_later_clock_is_of_a_dead_process(
    seconds: int,
) -> None:
    job = a_job(0, eta_seconds=9.0, waiting="lag")
    just = job.heartbeat + seconds * DEAD_AFTER
    read = as_read_at(job, just + seconds * timedelta(milliseconds=1))
    assert as_read_at(job, just) is job
    assert (read.state, read.eta_seconds, read.waiting) == ("died", None, None)
    assert "no report since 2026-01-01" in (read.result or "")


@pytest.mark.parametrize("state", ["cancelled", "done", "failed"])
def test_a_job_that_ended_does_not_die(state: JobState) -> None:
    job = a_job(0, state, result="it is over")
    assert as_read_at(job, NOW + timedelta(days=400)) is job


def test_the_record_of_a_newer_version_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"format 2, .* format 1: install the newer"):
        parse_jobs({"version": 2, "jobs": "something else"})


@pytest.mark.parametrize("value", [{}, {"version": 1, "jobs": [{"id": 3}]}, [], "x"])
def test_a_damaged_record_is_refused_with_what_to_do(value: JSON) -> None:
    with pytest.raises(ConfigError, match="only progress is lost"):
        parse_jobs(value)
