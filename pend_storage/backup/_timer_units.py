"""Texts for the schedulers of the system: units of systemd, and lines of a crontab.

Every value is quoted for the one that reads it: a folder may have spaces, quotes and
percent signs in its name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pend_storage._shown import shown
from pend_storage.backup._schedule import Schedule
from pend_storage.errors import ConfigError

__all__ = ["Job", "Unit", "crontab_lines", "systemd_units"]

_DELAY: Final = 300
"""Seconds at most by which a timer is late, so that many hosts do not begin at once."""
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9:_.-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Unit:
    """Unit of systemd."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Job of an environment: the program, and where it runs."""

    environment: str
    program: tuple[str, ...]
    """The command with its global options."""
    folder: Path
    """Working directory."""
    user: str

    def __post_init__(self) -> None:
        """Refuse what neither systemd nor cron can hold."""
        for text in (*self.program, str(self.folder), self.user):
            if _CONTROL.search(text):
                raise ConfigError(
                    f"{shown(text)} has a control character, so no scheduler of the system "
                    "can hold it. Rename it, or use pend-storage backup schedule run."
                )

    @property
    def name(self) -> str:
        """Name of the units."""
        return f"pend-backup-{_NO_NAME.sub('-', self.environment) or 'environment'}"


def systemd_units(job: Job, schedule: Schedule) -> tuple[Unit, ...]:
    """Return the units: a timer with its service, and the archiver of the change log.

    Args:
        job: of the environment.
        schedule: the times.

    Raises:
        ConfigError: a timer cannot express the schedule, or a package is missing.
    """
    calendars = "\n".join(f"OnCalendar={value}" for value in schedule.calendars())
    about = _plain(job.environment)
    service = _service(
        f"Backup of {about} by pend_storage",
        job,
        ("backup", "schedule", "run", "--once"),
        "Type=oneshot",
    )
    archiver = _service(
        f"Archive of the change log of {about} by pend_storage",
        job,
        ("backup", "archive", "--follow"),
        "Type=exec\nRestart=always\nRestartSec=10",
    )
    timer = (
        f"[Unit]\nDescription=Times of the backups of {about} by pend_storage\n\n"
        f"[Timer]\n{calendars}\nPersistent=true\nRandomizedDelaySec={_DELAY}\n"
        f"Unit={job.name}.service\n\n[Install]\nWantedBy=timers.target\n"
    )
    return (
        Unit(f"{job.name}.service", service),
        Unit(f"{job.name}.timer", timer),
        Unit(
            f"{job.name}-archive.service",
            f"{archiver}\n[Install]\nWantedBy=multi-user.target\n",
        ),
    )


def _service(about: str, job: Job, command: Sequence[str], kind: str) -> str:
    start = " ".join(_quoted(part) for part in (*job.program, *command))
    return (
        f"[Unit]\nDescription={about}\nWants=network-online.target\n"
        "After=network-online.target\n\n"
        f"[Service]\n{kind}\nUser={_plain(job.user)}\n"
        f"WorkingDirectory={str(job.folder).replace('%', '%%')}\n"
        f"ExecStart={start}\n"
        "# Secrets of the database and of the repository, if they are not in files:\n"
        f"#EnvironmentFile=/etc/pend-storage/{job.name}.env\n"
        "UMask=0077\nNoNewPrivileges=yes\nPrivateTmp=yes\nProtectSystem=full\n"
    )


def _plain(text: str) -> str:
    return _CONTROL.sub(" ", text).replace("%", "%%")


def _quoted(part: str) -> str:
    """Quote an argument for ``ExecStart``."""
    text = part.replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if re.search(r"[^\w/.:=@%+,-]", text, re.ASCII) else text


def crontab_lines(job: Job, schedule: Schedule) -> tuple[str, ...]:
    """Return lines for the crontab of the user: backups, and the archive each five minutes.

    Args:
        job: of the environment.
        schedule: the times.
    """
    program = shlex.join(job.program)
    folder = shlex.quote(str(job.folder))

    def line(times: str, *command: str) -> str:
        call = f"cd {folder} && {program} --quiet {shlex.join(command)}"
        return f"{times} {call}".replace("%", "\\%")

    about = (
        f"# Backups of {_CONTROL.sub(' ', job.environment)} by pend_storage. A cron that "
        "does not know CRON_TZ takes the times for local ones."
    )
    return (
        about,
        "CRON_TZ=UTC",
        line(schedule.expression, "backup", "schedule", "run", "--once"),
        line("*/5 * * * *", "backup", "archive"),
    )
