"""Schedule: times, texts for systemd and cron, the runner, many hosts and one run."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pend_storage.backup._schedule import Runner, Schedule, is_due, parse_schedule
from pend_storage.backup._timer_units import Job, crontab_lines, systemd_units
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.operations.backup.schedule import run_if_due
from pend_storage.testing import Child, Report

from .environments import Environment, an_environment

NIGHT = parse_schedule("0 3 * * *")
HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    made = an_environment(tmp_path)
    made.put("a", "b")
    return made


# -- times -------------------------------------------------------------------------------


def test_the_last_time_may_be_this_minute() -> None:
    assert NIGHT.last_before(at("2026-01-02T03:00:07")) == at("2026-01-02T03:00")
    assert NIGHT.last_before(at("2026-01-02T02:59:59")) == at("2026-01-01T03:00")
    assert NIGHT.next_after(at("2026-01-02T03:00")) == at("2026-01-03T03:00")


@pytest.mark.parametrize(
    ("last", "due"),
    [
        (None, True),
        ("2026-01-09T23:00", True),
        ("2026-01-01T03:00", True),
        ("2026-01-10T03:00", False),
        ("2026-01-10T11:00", False),
    ],
)
def test_a_run_is_due_until_it_was_made(last: str | None, *, due: bool) -> None:
    begun = None if last is None else at(last)

    assert is_due(NIGHT, begun, at("2026-01-10T12:00")) is due


@pytest.mark.parametrize("word", ["hourly", "daily", "weekly", "monthly"])
def test_words_are_schedules(word: str) -> None:
    assert parse_schedule(word).calendars()


@pytest.mark.parametrize(
    "text", ["", "sometimes", "1 2 3 4", "0 0 31 2 *", "99 * * * *"]
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no schedule"):
        parse_schedule(text)


def test_what_a_timer_cannot_express_is_refused() -> None:
    with pytest.raises(ConfigError, match="schedule cron"):
        parse_schedule("0 3 * * 5#2").calendars()


def a_field(rng: random.Random, least: int, most: int) -> str:
    some = sorted(rng.sample(range(least, most + 1), 3))
    return rng.choice(
        ["*", "*", str(some[0]), f"{some[0]},{some[2]}", f"{some[0]}-{some[1]}", "*/7"]
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("seed", range(6))
def test_a_timer_has_the_times_of_the_schedule(seed: int) -> None:
    rng = random.Random(seed)
    fields = [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)]
    schedule = parse_schedule(" ".join(a_field(rng, *bounds) for bounds in fields))
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    wanted: list[datetime] = []
    while len(wanted) < 8:
        wanted.append(schedule.next_after(wanted[-1] if wanted else begin))

    found: set[datetime] = set()
    for calendar in schedule.calendars():
        shown = subprocess.run(
            [
                *("systemd-analyze", "calendar", "--iterations=8", calendar),
                f"--base-time={begin:%Y-%m-%d %H:%M:%S} UTC",
            ],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
        ).stdout
        for line in shown.splitlines():
            if "UTC" in line and (
                "elapse" in line or "Iter" in line or "Iteration" in line
            ):
                words = line.split()
                stamp = words[words.index("UTC") - 2 : words.index("UTC")]
                found.add(at("T".join(stamp)))

    assert sorted(found)[:8] == wanted, schedule


# -- texts -------------------------------------------------------------------------------


def a_job(folder: Path) -> Job:
    return Job(
        environment="pro duct%ion",
        program=(
            sys.executable,
            "-m",
            "pend_storage",
            "--config",
            str(folder / "a b%.toml"),
        ),
        folder=folder,
        user="root",
    )


def test_a_timer_is_persistent_and_late_at_random(tmp_path: Path) -> None:
    service, timer, archiver = systemd_units(a_job(tmp_path), NIGHT)

    assert "OnCalendar=*-*-* 03:00:00 UTC\n" in timer.text
    assert "Persistent=true\nRandomizedDelaySec=300\n" in timer.text
    assert timer.name == "pend-backup-pro-duct-ion.timer"
    assert f"Unit={service.name}\n" in timer.text
    assert '"' + str(tmp_path / "a b%%.toml") + '"' in service.text
    assert "Type=oneshot\n" in service.text
    assert "UMask=0077\n" in service.text
    assert "archive --follow\n" in archiver.text


def test_days_of_the_month_and_of_the_week_are_two_calendars() -> None:
    assert parse_schedule("0 3 1,15 * MON").calendars() == (
        "*-*-01,15 03:00:00 UTC",
        "Mon *-*-* 03:00:00 UTC",
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    made = systemd_units(a_job(tmp_path), NIGHT)
    for unit in made:
        (tmp_path / unit.name).write_text(unit.text, encoding="utf-8")

    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / u.name for u in made)],
        capture_output=True,
        text=True,
        check=False,
    )

    about_ours = [line for line in said.stderr.splitlines() if "pend-backup" in line]
    assert about_ours == []


def test_a_line_of_a_crontab_is_a_command_of_a_shell(tmp_path: Path) -> None:
    *_, backup, archive = crontab_lines(a_job(tmp_path), NIGHT)

    assert backup.startswith("0 3 * * * cd ")
    assert archive.startswith("*/5 * * * * cd ")
    command = backup.split(" ", 5)[5].replace("\\%", "%")
    words = shlex.split(command)
    assert str(tmp_path / "a b%.toml") in words
    assert words[-4:] == ["backup", "schedule", "run", "--once"]
    assert "%" not in backup.replace("\\%", "")


def test_a_path_that_no_scheduler_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="control character"):
        Job(environment="x", program=("a\nb",), folder=tmp_path, user="u")


# -- the runner --------------------------------------------------------------------------


class Days:
    """Days of a runner by a clock of its own."""

    def __init__(self, schedule: Schedule, begin: str) -> None:
        self.now = at(begin)
        self.runs: list[datetime] = []
        self.said: list[str] = []
        self.between = 0
        self.fails = 0
        self.runner = Runner(
            schedule,
            last_run=lambda: max(self.runs, default=None),
            run=self.run,
            between=self.count,
            report=self.said.append,
            clock=lambda: self.now,
        )

    def run(self) -> None:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable("it is down", store="the repository")
        self.runs.append(self.now)

    def count(self) -> None:
        self.between += 1

    def until(self, end: str, step: timedelta = timedelta(minutes=1)) -> None:
        while self.now < at(end):
            self.runner.step()
            self.now += step


def test_a_backup_is_made_at_each_time() -> None:
    days = Days(NIGHT, "2026-01-01T03:00")

    days.until("2026-01-03T12:00")

    assert days.runs == [at(f"2026-01-0{n}T03:00") for n in (1, 2, 3)]
    assert days.between > 3_000
    assert len([text for text in days.said if "next backup" in text]) == 3


def test_what_was_missed_is_made_up_once() -> None:
    days = Days(NIGHT, "2026-01-01T03:00")
    days.until("2026-01-01T04:00")
    days.now = at("2026-01-09T17:30")  # the host was off

    days.until("2026-01-10T02:00")

    assert days.runs[1:] == [at("2026-01-09T17:30")]


def test_a_failure_is_tried_again_later_and_later() -> None:
    days = Days(NIGHT, "2026-01-01T03:00")
    days.fails = 5

    days.until("2026-01-01T06:00")

    # After 1, 2, 4, 8 and 16 minutes.
    assert days.runs == [at("2026-01-01T03:31")]
    assert sum("failed" in text for text in days.said) == 5


def test_the_runner_ends_at_an_event() -> None:
    days, ended = Days(NIGHT, "2026-01-01T04:00"), threading.Event()
    thread = threading.Thread(target=days.runner.follow, args=(ended,))
    thread.start()

    ended.set()
    thread.join(10)

    assert not thread.is_alive()


# -- runs of an environment --------------------------------------------------------------


def test_a_run_makes_archives_verifies_and_prunes(env: Environment) -> None:
    done = run_if_due(env.settings)
    env.put("c")

    again = run_if_due(env.settings)

    assert done.made == env.ids[0]
    assert done.verified == (done.made,)
    assert done.damaged == ()
    assert env.catalog.segments()
    assert again.made is None
    assert again.skipped == "no backup is due"
    assert len(env.ids) == 1


def make(report: Report, folder: str) -> None:
    made = run_if_due(Environment(Path(folder)).settings)
    report(made.made)


def test_of_many_hosts_one_makes_the_backup(env: Environment) -> None:
    with (
        Child(make, str(env.folder)) as one,
        Child(make, str(env.folder)) as two,
        Child(make, str(env.folder)) as three,
    ):
        reports = [each.wait_for_reports()[0] for each in (one, two, three)]

    assert len([name for name in reports if name is not None]) == 1
    assert len(env.ids) == 1


def test_a_failure_is_recorded_until_a_backup_succeeds(env: Environment) -> None:
    run_if_due(env.settings)
    for part in (env.folder / "repository" / "backups").glob("*/*"):
        part.unlink()
    data = env.folder / "data"
    data.rename(env.folder / "away")

    with pytest.raises(ConfigError):
        run_if_due(env.settings)

    [fact] = env.catalog.facts("schedule")
    assert (fact.kind, fact.ok) == ("failed", False)


def test_the_commands(env: Environment) -> None:
    shown = env.document("backup", "schedule", "show", code=1)["result"]
    assert shown["last"] is None
    assert shown["due"] is True
    first = env.document("backup", "schedule", "run", "--once")
    second = env.run("backup", "schedule", "run", "--once")
    assert first["result"]["made"] == env.ids[0]
    assert "no backup is due" in second.out
    assert env.document("backup", "schedule", "show")["result"]["due"] is False
    assert "OnCalendar" in env.run("backup", "schedule", "systemd").out
    assert "CRON_TZ=UTC" in env.run("backup", "schedule", "cron").out


@pytest.fixture
def runner(env: Environment) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pend_storage", "backup", "schedule", "run"),
            *("--archive-every", "1"),
        ],
        cwd=env.folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_the_runner_ends_on_sigterm_and_archives_in_between(
    env: Environment, runner: subprocess.Popen[str]
) -> None:
    deadline = time.monotonic() + 60
    while not (env.folder / "repository").exists() or not env.catalog.segments():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    env.put("later")
    end = len(env.catalog.segments())
    while len(env.catalog.segments()) == end:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    runner.send_signal(signal.SIGTERM)

    assert runner.wait(60) == 0
    assert len(env.ids) == 1
