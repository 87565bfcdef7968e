"""Keeper: a small supervisor process that runs one server while it has users.

Every user of a server holds a shared lock on ``users.lock``; the kernel releases it
when the user ends in any way, also by ``kill -9``. The keeper waits in a blocking
exclusive lock on the same file. Once it gets the lock, no user is left, and it stops
the server.

Three more promises hold by construction:

- *A stopping server cannot be joined.* While the keeper stops it, it holds
  ``users.lock`` alone, so the next user waits and then starts a new one.
- *No two servers in one directory.* ``keeper.lock`` is inherited, already held, from
  the process that starts the keeper, and is free only when the keeper has ended.
- *Nothing survives unnoticed.* The server and all its children inherit ``server.lock``,
  so it is free only when the last of them has ended. If the keeper itself is killed,
  Linux signals the server to stop (``PR_SET_PDEATHSIG``); elsewhere the next keeper
  does.

The two locks also hold the process number of keeper and server. This file is run as a
script by a bare interpreter (a few milliseconds to start, no site packages), so it uses
the standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

USERS = "users.lock"
KEEPER = "keeper.lock"
SERVER = "server.lock"
DATA = "data"
UNFINISHED = "data.new"

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02


class ServerSpec(NamedTuple):
    """Server to run, with commands and signals; passed to the keeper as JSON.

    Attributes:
        place: the server's own directory, with the locks, the log and ``data``.
        sockets: directory of its socket; made at start and removed at the end.
        make: command that fills ``data.new`` the first time; empty if none is needed.
        run: command that runs the server in the foreground.
        stale: file that a killed server leaves behind and that would prevent the next
            start.
        signals: stop signals, gentlest first, each with seconds to wait.
        account: user and group to run as, or None for the keeper's own.
        temporary: remove the directory when the last user has ended.
    """

    place: str
    sockets: str
    make: list[str]
    run: list[str]
    stale: str
    signals: list[tuple[int, float]]
    account: tuple[int, int] | None
    temporary: bool


def open_lock(path: Path) -> int:
    """Open a lock file without locking it; create it if it does not exist."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(lock: int, mode: int) -> bool:
    """Try to lock without waiting; return True if the lock is held now."""
    try:
        fcntl.flock(lock, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_number(lock: int) -> int | None:
    """Read the process number of a lock file's present or last holder, or None."""
    text = os.pread(lock, 20, 0)
    return int(text) if text else None


def write_number(lock: int, number: int | None) -> None:
    """Write a process number to a lock file; None removes it."""
    os.ftruncate(lock, 0)
    if number is not None:
        os.pwrite(lock, str(number).encode(), 0)


def signal_holder(path: Path, number: int) -> None:
    """Signal the process whose number is in a lock file, if the lock is held.

    The number in a free lock is stale: it may belong to another process by now.
    """
    lock = open_lock(path)
    try:
        holder = None if try_lock(lock, fcntl.LOCK_SH) else read_number(lock)
        if holder is not None:
            os.kill(holder, number)
    except ProcessLookupError:
        return  # the process has just ended
    finally:
        os.close(lock)


def end_leftovers(place: Path, signals: list[tuple[int, float]]) -> int:
    """Wait until all processes of a former server have ended; stop those that run.

    Returns:
        Descriptor of the server's lock, held exclusively.

    Raises:
        TimeoutError: a process did not end, not even when killed.
    """
    path = place / SERVER
    lock = open_lock(path)
    if try_lock(lock, fcntl.LOCK_EX):
        return lock
    for number, seconds in signals:
        signal_holder(path, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if try_lock(lock, fcntl.LOCK_EX):
                return lock
            time.sleep(_POLL_SECONDS)
    message = f"processes of a former server still hold {path}"
    raise TimeoutError(message)


def main() -> None:
    """Run the server of the first argument until it has no users, then clean up.

    The second argument is the descriptor of ``keeper.lock``, already held.
    """
    spec = ServerSpec(*json.loads(sys.argv[1]))
    place = Path(spec.place)
    os.umask(0o077)
    write_number(int(sys.argv[2]), os.getpid())
    lock = end_leftovers(place, spec.signals)
    users = open_lock(place / USERS)
    # The lock proves that the former server has ended. The server itself could only
    # check whether a process has the number in the file: perhaps an unrelated one.
    Path(spec.stale).unlink(missing_ok=True)
    _make(spec, lock)
    server = _spawn(spec.run, spec, lock)
    write_number(lock, server.pid)
    _end_when_unused(server, users, spec.signals)
    server.wait()
    write_number(lock, None)
    os.close(lock)
    # The children of a killed server need a moment to notice its end.
    end_leftovers(place, spec.signals)
    shutil.rmtree(spec.sockets, ignore_errors=True)
    if spec.temporary and try_lock(users, fcntl.LOCK_EX):
        _remove(place)
    sys.exit(server.returncode != 0)


def _make(spec: ServerSpec, lock: int) -> None:
    """Create the directories; ``data`` appears complete or not at all."""
    _own_directory(Path(spec.sockets), spec.account)
    data = Path(spec.place, DATA)
    if data.exists():
        return
    unfinished = data.with_name(UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    _own_directory(unfinished, spec.account)
    if spec.make and _spawn(spec.make, spec, lock).wait() != 0:
        sys.exit(1)
    unfinished.rename(data)


def _own_directory(path: Path, account: tuple[int, int] | None) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None:
        os.chown(path, *account)


def _spawn(command: list[str], spec: ServerSpec, lock: int) -> subprocess.Popen[bytes]:
    """Start a command as the server's user, with the server's lock and the log."""
    user, group = spec.account or (None, None)
    return subprocess.Popen(  # noqa: S603
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        pass_fds=[lock],
        user=user,
        group=group,
        extra_groups=None if spec.account is None else [],
        # Safe here: this process has no threads yet.
        preexec_fn=_signal_at_keeper_end(spec.signals[0][0]),  # noqa: PLW1509
    )


def _signal_at_keeper_end(number: int) -> Callable[[], None]:
    """Return a function that a child calls to be signalled when the keeper ends.

    To be called after the change of user, which would reset the setting.
    """
    if sys.platform != "linux":
        return lambda: None
    keeper = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def request_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != keeper:  # the keeper ended before prctl took effect
            os._exit(1)

    return request_signal


def _end_when_unused(
    server: subprocess.Popen[bytes], users: int, signals: list[tuple[int, float]]
) -> None:
    """Stop the server in the background when its last user ends, or on SIGTERM."""

    def end() -> None:
        for number, seconds in signals:
            server.send_signal(number)
            time.sleep(seconds)

    def watch() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        end()

    signal.signal(
        signal.SIGTERM, lambda *_: threading.Thread(target=end, daemon=True).start()
    )
    threading.Thread(target=watch, daemon=True).start()


def _remove(place: Path) -> None:
    """Remove a temporary directory; renamed first, so that it cannot be joined."""
    gone = place.with_name(f"{place.name}.gone")
    place.rename(gone)
    shutil.rmtree(gone)


if __name__ == "__main__":
    main()
