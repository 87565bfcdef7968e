"""Schedules of backups: cron expressions in UTC, and the runner that follows one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pend_storage._extras import with_packages
from pend_storage._shown import clause, shown
from pend_storage.errors import ConfigError, PendStorageError

if TYPE_CHECKING:
    from cronsim import CronSim

__all__ = ["Runner", "Schedule", "parse_schedule"]

_WORDS: Final[Mapping[str, str]] = {
    "hourly": "0 * * * *",
    "daily": "0 3 * * *",
    "weekly": "0 3 * * 1",
    "monthly": "0 3 1 * *",
}
_WEEKDAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_LAST_DAY: Final = -1000  # as cronsim has it
_MINUTE: Final = timedelta(minutes=1)
_FIRST_PAUSE: Final = timedelta(minutes=1)
_LONGEST_PAUSE: Final = timedelta(minutes=30)
_TICK: Final = 60.0
"""Seconds after which the clock is read again: it may have been set, or the host asleep."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Times of backups, by a cron expression in UTC."""

    expression: str

    def next_after(self, at: datetime) -> datetime:
        """Return the first time after another one.

        Raises:
            ConfigError: a package is missing.
        """
        return next(self._times(at))

    def last_before(self, at: datetime) -> datetime:
        """Return the last time that is not after another one.

        Raises:
            ConfigError: a package is missing.
        """
        end = at.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
        return next(self._times(end, reverse=True))

    def _times(self, at: datetime, *, reverse: bool = False) -> CronSim:
        with with_packages(user="a schedule of backups"):
            from cronsim import CronSim  # noqa: PLC0415 - optional
        return CronSim(self.expression, at.astimezone(UTC), reverse=reverse)

    def calendars(self) -> tuple[str, ...]:
        """Return the values of ``OnCalendar`` in a timer of systemd.

        Raises:
            ConfigError: a timer cannot express it, or a package is missing.
        """
        sim = self._times(datetime.now(UTC))
        if any(not isinstance(day, int) for day in sim.weekdays) or any(
            day < 0 and day != _LAST_DAY for day in sim.days
        ):
            raise ConfigError(
                f"the schedule {shown(self.expression)} cannot be written as a timer of "
                "systemd. Use pend-storage backup schedule cron, or schedule run."
            )
        months = _listed(sim.months, range(1, 13))
        time = (
            f"{_listed(sim.hours, range(24))}:{_listed(sim.minutes, range(60))}:00 UTC"
        )
        week = {int(day) % 7 for day in sim.weekdays if isinstance(day, int)}
        weekdays = ",".join(_WEEKDAYS[day] for day in sorted(week))
        days = list(_days(sim.days))
        all_days, all_week = days == ["-*"], week == {*range(7)}
        if all_week:
            return tuple(f"*-{months}{day} {time}" for day in days)
        found = () if all_days else tuple(f"*-{months}{day} {time}" for day in days)
        # Of a day of the month and one of the week, cron takes either; systemd wants both.
        return (*found, f"{weekdays} *-{months}-* {time}")


def _days(days: set[int]) -> Iterator[str]:
    plain = {day for day in days if day > 0}
    if plain:
        yield f"-{_listed(plain, range(1, 32))}"
    if _LAST_DAY in days:
        yield "~01"


def _listed(values: set[int], every: range) -> str:
    if values >= {*every}:
        return "*"
    return ",".join(f"{value:02}" for value in sorted(values))


def parse_schedule(text: str) -> Schedule:
    """Parse ``hourly``, ``daily``, ``weekly``, ``monthly``, or five fields of cron.

    Raises:
        ConfigError: it is none, it has no time ever, or a package is missing.
    """
    with with_packages(user="a schedule of backups"):
        from cronsim import CronSimError  # noqa: PLC0415 - optional
    expression = _WORDS.get(text.strip().lower(), " ".join(text.split()))
    schedule = Schedule(expression)
    try:
        if len(expression.split()) == len("mhdmw"):  # no field of seconds
            schedule.next_after(datetime.now(UTC))
            return schedule
    except (CronSimError, StopIteration):
        pass
    raise ConfigError(
        f"backup.schedule: {shown(text)} is no schedule. Write hourly, daily, weekly, "
        'monthly, or five fields of cron, such as "30 3 * * *" (UTC).'
    )


def is_due(schedule: Schedule, last: datetime | None, now: datetime) -> bool:
    """Return whether a run is due: there was none since the last time of the schedule.

    A run that was missed is made up once, however many times were missed.

    Args:
        schedule: the times.
        last: beginning of the last good run; None: there was none.
        now: the time.
    """
    return last is None or last < schedule.last_before(now)


class Runner:
    """Runner of a schedule in the foreground, until an event."""

    def __init__(
        self,
        schedule: Schedule,
        *,
        last_run: Callable[[], datetime | None],
        run: Callable[[], None],
        between: Callable[[], None],
        report: Callable[[str], None],
        every: float = _TICK,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Make a runner.

        Args:
            schedule: the times.
            last_run: returns the beginning of the last good run, of any host.
            run: makes a run; returns without one where another host makes it.
            between: called between runs.
            report: gets sentences about failures, and the next time.
            every: seconds between two calls of ``between``.
            clock: the time.
        """
        self._schedule = schedule
        self._last_run = last_run
        self._run = run
        self._between = between
        self._report = report
        self._every = every
        self._clock = clock
        self._pause = _FIRST_PAUSE
        self._not_before = datetime.min.replace(tzinfo=UTC)
        self._announced: datetime | None = None

    def follow(self, ended: threading.Event) -> None:
        """Follow the schedule until an event; the run under way is finished."""
        while not ended.is_set():
            self.step()
            if ended.wait(min(self._every, _TICK)):
                return

    def step(self) -> None:
        """Make a run where one is due, else what is done between runs."""
        now = self._clock()
        if now < self._not_before:
            self._attempt(self._between, "between two backups")
            return
        try:
            due = is_due(self._schedule, self._last_run(), now)
        except PendStorageError as error:
            self._failed(now, error)
            return
        if not due:
            self._announce(now)
            self._attempt(self._between, "between two backups")
            return
        try:
            self._run()
        except PendStorageError as error:
            self._failed(now, error)
        else:
            self._pause = _FIRST_PAUSE

    def _failed(self, now: datetime, error: PendStorageError) -> None:
        self._not_before = now + self._pause
        self._report(
            f"the backup failed, and is tried again in {self._pause}: {clause(str(error))}"
        )
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _attempt(self, work: Callable[[], None], what: str) -> None:
        try:
            work()
        except PendStorageError as error:
            self._report(f"{what}: {clause(str(error))}")

    def _announce(self, now: datetime) -> None:
        following = self._schedule.next_after(now)
        if following != self._announced:
            self._announced = following
            self._report(f"the next backup is due at {following:%Y-%m-%d %H:%M} UTC")
