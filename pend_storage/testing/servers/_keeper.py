"""The keeper: a small process that runs one server for as long as somebody uses it.

Every user of a server holds a shared lock on ``users.lock``; the kernel takes it back
however the user ends, also by ``kill -9``. The keeper waits in a blocking exclusive
lock on the same file. When it gets it, nobody is left, and it stops the server.

Three more promises hold by construction:

- *Nobody joins a dying server.* While the keeper stops it, it holds ``users.lock``
  alone, so the next user waits and then starts a fresh one.
- *No two servers in one place.* ``keeper.lock`` is handed down, already held, by the
  process that starts the keeper, and is free only when the keeper is gone.
- *Nothing survives unnoticed.* The server and all its children inherit ``server.lock``,
  so it is free only when the last of them is gone. If the keeper itself is killed, Linux
  tells the server to stop (``PR_SET_PDEATHSIG``); elsewhere the next keeper does.

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


class Orders(NamedTuple):
    """What the keeper is to do; travels as JSON.

    Attributes:
        place: the server's own directory, with the locks, the log and ``data``.
        sockets: directory for its socket; made at start and removed at the end.
        make: command that fills ``data.new`` the first time; empty where none is needed.
        run: command that runs the server in the foreground.
        stale: a file that a killed server leaves behind and that would keep the next
            one from starting.
        signals: how to stop it, gentlest first, each with the seconds it is given.
        account: user and group to run as, or None for the keeper's own.
        temporary: remove the place when the last user has gone.
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
    """Open a lock file, making it if need be, without locking it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(lock: int, mode: int) -> bool:
    """Take the lock if that is possible at once, and say whether it was."""
    try:
        fcntl.flock(lock, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_number(lock: int) -> int | None:
    """The process that a lock file stands for, or last stood for; None: none."""
    text = os.pread(lock, 20, 0)
    return int(text) if text else None


def write_number(lock: int, number: int | None) -> None:
    """Note in a lock file which process it stands for; None: no more."""
    os.ftruncate(lock, 0)
    if number is not None:
        os.pwrite(lock, str(number).encode(), 0)


def signal_holder(path: Path, number: int) -> None:
    """Signal the process noted in a lock file, if somebody holds that lock.

    A number in a lock that nobody holds is old: it may be another process by now.
    """
    lock = open_lock(path)
    try:
        holder = None if try_lock(lock, fcntl.LOCK_SH) else read_number(lock)
        if holder is not None:
            os.kill(holder, number)
    except ProcessLookupError:
        return  # it has just ended
    finally:
        os.close(lock)


def end_leftovers(place: Path, signals: list[tuple[int, float]]) -> int:
    """Wait until no process of a former server is left, and stop those that are.

    Returns:
        The server's lock, held by the caller alone.

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
    """Carry out the orders in the first argument, then leave nothing behind.

    The second argument is the descriptor of ``keeper.lock``, held already.
    """
    orders = Orders(*json.loads(sys.argv[1]))
    place = Path(orders.place)
    os.umask(0o077)
    write_number(int(sys.argv[2]), os.getpid())
    lock = end_leftovers(place, orders.signals)
    users = open_lock(place / USERS)
    # The lock proves that its server is gone. The server itself could only look whether
    # a process has the number in the file, and that may be a zombie or a stranger.
    Path(orders.stale).unlink(missing_ok=True)
    _make(orders, lock)
    server = _spawn(orders.run, orders, lock)
    write_number(lock, server.pid)
    _end_when_unused(server, users, orders.signals)
    server.wait()
    write_number(lock, None)
    os.close(lock)
    # A killed server's children need a moment to notice.
    end_leftovers(place, orders.signals)
    shutil.rmtree(orders.sockets, ignore_errors=True)
    if orders.temporary and try_lock(users, fcntl.LOCK_EX):
        _remove(place)
    sys.exit(server.returncode != 0)


def _make(orders: Orders, lock: int) -> None:
    """Make the directories; ``data`` appears complete or not at all."""
    _own_directory(Path(orders.sockets), orders.account)
    data = Path(orders.place, DATA)
    if data.exists():
        return
    unfinished = data.with_name(UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    _own_directory(unfinished, orders.account)
    if orders.make and _spawn(orders.make, orders, lock).wait() != 0:
        sys.exit(1)
    unfinished.rename(data)


def _own_directory(path: Path, account: tuple[int, int] | None) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None:
        os.chown(path, *account)


def _spawn(command: list[str], orders: Orders, lock: int) -> subprocess.Popen[bytes]:
    """Start a command as the server's user; it inherits the server's lock and our log."""
    user, group = orders.account or (None, None)
    return subprocess.Popen(  # noqa: S603
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        pass_fds=[lock],
        user=user,
        group=group,
        extra_groups=None if orders.account is None else [],
        # Safe here: this process has no threads yet.
        preexec_fn=_die_with_keeper(orders.signals[0][0]),  # noqa: PLW1509
    )


def _die_with_keeper(number: int) -> Callable[[], None]:
    """Make what a child calls after changing its user, which would undo it."""
    if sys.platform != "linux":
        return lambda: None
    keeper = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != keeper:  # it died before we could ask
            os._exit(1)

    return ask


def _end_when_unused(
    server: subprocess.Popen[bytes], users: int, signals: list[tuple[int, float]]
) -> None:
    """Stop the server in the background when its last user goes, or on SIGTERM."""

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
    """Remove a temporary place; renamed first, so that nobody joins half of it."""
    gone = place.with_name(f"{place.name}.gone")
    place.rename(gone)
    shutil.rmtree(gone)


if __name__ == "__main__":
    main()
