"""Holders of leases: a process, so that one of this host which has died is known at once."""

from __future__ import annotations

import os
import secrets
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from pend_storage._files.by_path import read_system_file
from pend_storage._shown import shown
from pend_storage.errors import ConfigError

__all__ = ["FORMAT", "Holder", "decode", "this_process"]

FORMAT: Final = 1
"""Version of what a lease holds."""
SKEW: Final = 30.0
"""Seconds by which the clocks of two hosts may differ."""
_UNREADABLE: Final = timedelta(hours=1)
"""Time after which a lease that cannot be decoded counts as expired."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Content of a lease: its holder, and its expiry."""

    format: int = FORMAT
    host: str
    pid: int
    process: str | None
    """Process on this machine since it started; None where that cannot be said."""
    random: str
    since: datetime
    expires: datetime
    released: bool = False

    def is_free(self, now: datetime) -> bool:
        """Return whether another process may take the lease: released, expired, or dead."""
        return (
            self.released
            or now > self.expires + timedelta(seconds=SKEW)
            or self._has_ended()
        )

    def label(self) -> str:
        """Name the holder in a message."""
        since = self.since.astimezone(UTC).isoformat(timespec="seconds")
        return f"process {self.pid} on {shown(self.host)}, since {since}"

    def _has_ended(self) -> bool:
        """Return whether the process is one of this machine, and has ended."""
        machine = _machine()
        if self.process is None or machine is None:
            return False
        theirs, _, started = self.process.rpartition(":")
        return theirs == machine and _is_gone(self.pid, started)


def this_process(now: datetime, seconds: float) -> Holder:
    """Make the content of a new lease of this process."""
    machine, started = _machine(), _started(os.getpid())
    known = machine is not None and started is not None
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        process=f"{machine}:{started}" if known else None,
        random=secrets.token_hex(16),
        since=now,
        expires=now + timedelta(seconds=seconds),
    )


def decode(text: bytes, name: str, modified: datetime) -> Holder:
    """Decode the content of a lease; one that is damaged expires an hour after its writing.

    Raises:
        ConfigError: a newer version of the library wrote it.
    """
    try:
        holder = msgspec.json.decode(text, type=Holder)
    except msgspec.DecodeError:
        return Holder(
            host="unknown",
            pid=0,
            process=None,
            random="",
            since=modified,
            expires=modified + _UNREADABLE,
        )
    if holder.format > FORMAT:
        raise ConfigError(
            f"{shown(name)} was written by a newer version of pend_storage. Upgrade it."
        )
    return holder


def _machine() -> str | None:
    """Return boot and namespace of process ids; None where the system does not say."""
    try:
        boot = (
            read_system_file(Path("/proc/sys/kernel/random/boot_id")).decode().strip()
        )
        space = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - of a kernel object
    except OSError:
        return None
    return f"{boot}:{space}"


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot."""
    try:
        text = read_system_file(Path(f"/proc/{pid}/stat"))
    except OSError:
        return None
    return (
        text.rpartition(b")")[2].split()[19].decode()
    )  # after the name, which may be odd


def _is_gone(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # it is there
    found = _started(pid)
    return found is not None and found != started  # the number was given out again
