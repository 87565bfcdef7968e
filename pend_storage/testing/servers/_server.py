"""What the embedded servers have in common: joining, leaving, crashing, restarting."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from typing_extensions import override

from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.testing.servers import _keeper as keeper
from pend_storage.testing.servers._addresses import (
    Address,
    choose_address,
    loopback,
    read_address,
)
from pend_storage.testing.servers._keeper import Orders, open_lock, try_lock
from pend_storage.testing.servers._places import (
    Account,
    server_account,
    settle,
    socket_directory,
)

POLL_SECONDS = 0.02
LOG_TAIL_CHARACTERS = 2000
# All that keeper and server get to see of the environment: PG* and the like would
# change what they do.
PASSED_ON = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")


# Keepers that this process started and has to reap.
_children: set[int] = set()


class EmbeddedServer(ABC):
    """One server in one directory, shared by any number of processes.

    The first to start it starts the server, the last to stop it stops the server,
    and the kernel counts them: a user that is killed has stopped. The settings of the
    one who really starts it hold for all.

    Args:
        home: a directory of its own, made if need be. Data in it stays.
        settings: server settings, by the server's own names.
        listen: loopback address to listen on as well; None for the Unix socket alone.
        temporary: remove the home, too, when its last user has gone, however it went.
    """

    name: ClassVar[str]
    """What to call the server in messages."""
    pid_file: ClassVar[str]
    """What it leaves in its data directory when it is killed."""
    stop_signals: ClassVar[list[tuple[int, float]]]
    """How to stop it, gentlest first, each with the seconds it is given."""
    crash_signal: ClassVar[signal.Signals]
    """What makes it end at once, without tidying up."""

    def __init__(
        self,
        home: Path,
        *,
        settings: Mapping[str, str],
        listen: str | None,
        temporary: bool,
    ) -> None:
        self.home: Path = Path(home).absolute()
        self.settings: dict[str, str] = dict(settings)
        self.listen: str | None = None if listen is None else loopback(listen)
        self.temporary = temporary
        self.account: Account | None = server_account()
        self.address: Address = Address()
        self._users: int | None = None
        self._owner = os.getpid()
        self._place: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.home)!r})"

    @property
    def directory(self) -> Path:
        """Where the server's files are: the home, or where ``elsewhere`` in it leads.

        Raises:
            ConfigError: the server has not been started yet.
        """
        if self._place is None:
            raise ConfigError(f"{self!r} has not been started. Call start() first.")
        return self._place

    @property
    def log(self) -> Path:
        """The server's own log, of all its runs."""
        return self.directory / "server.log"

    @property
    def sockets(self) -> Path:
        """The directory with the server's Unix socket; only its owner may enter."""
        return socket_directory(self.directory, self.account)

    @property
    def tcp_address(self) -> tuple[str, int]:
        """Host and port for TCP.

        Raises:
            ConfigError: the server was started without ``listen``.
        """
        if self.address.listen is None or self.address.port is None:
            raise ConfigError(
                f"{self!r} does not listen on TCP. Start it with listen='127.0.0.1'; "
                "where several share it, the first to start it must."
            )
        return self.address.listen, self.address.port

    @property
    def _address_file(self) -> Path:
        return self.directory / "address.json"

    def start(self) -> None:
        """Join the users of the server, and start it if it does not run.

        Returns when it answers, however long it takes to recover from a crash. Harmless
        to repeat; after a crash it starts the server again.

        Raises:
            ConfigError: the home cannot be used by this user or this server.
            StoreUnavailable: the server ended at once; the message quotes its log.
        """
        joined = self._users is not None
        try:
            if not joined:
                self._join()
            with self._gate():
                self._ensure_running()
        except BaseException as error:
            if not joined:
                with suppress(OSError):  # the first error is the one to tell
                    self.stop()
            if isinstance(error, OSError):
                raise self._unusable(error) from error
            raise

    def stop(self) -> None:
        """Leave the server; the last to leave waits until it has ended.

        Harmless to repeat. In a forked child it only gives back the child's share.
        """
        if self._users is None or self._owner != os.getpid():
            self._leave()
            return
        try:
            with self._gate():
                self._leave_in_order()
        except FileNotFoundError:
            # Somebody removed the home. The keeper will notice that we have left.
            self._leave()

    def kill(self) -> None:
        """Crash the server for all its users; committed data is all that remains.

        Returns when all its processes are gone. ``start`` brings it back.
        """
        with self._gate():
            keeper.signal_holder(self.directory / keeper.SERVER, self.crash_signal)
            self._await_end(self._open(keeper.KEEPER))

    def restart(self) -> None:
        """Stop the server properly for all its users, and start it again.

        Raises:
            StoreUnavailable: it did not come back; the message quotes its log.
        """
        with self._gate():
            keeper.signal_holder(self.directory / keeper.KEEPER, signal.SIGTERM)
            self._await_end(self._open(keeper.KEEPER))
            self._ensure_running()

    @abstractmethod
    def _check(self, data: Path) -> None:
        """Refuse data that this server cannot read; it may not be there yet.

        Raises:
            ConfigError: which data, and what would read it.
        """

    @abstractmethod
    def _make_command(self, data: Path) -> list[str]:
        """The command that fills an empty data directory; empty if none is needed."""

    @abstractmethod
    def _run_command(self, data: Path) -> list[str]:
        """The command that serves ``self.address`` in the foreground."""

    @abstractmethod
    def _answers(self, data: Path) -> bool:
        """Whether the server answers by now; it may not even have begun to start."""

    def _join(self) -> None:
        """Become a user; waits while the former server ends."""
        while self._users is None:
            self._place = settle(self.home, self.account)
            # Not found, or not the same: a keeper has just removed a temporary home.
            with suppress(FileNotFoundError), self._gate(), ExitStack() as undo:
                users = self._open(keeper.USERS)
                undo.callback(os.close, users)
                fcntl.flock(users, fcntl.LOCK_SH)
                path = self.directory / keeper.USERS
                if os.path.samestat(os.fstat(users), path.stat()):
                    undo.pop_all()
                    self._users, self._owner = users, os.getpid()

    def _leave(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def _leave_in_order(self) -> None:
        # Opened before leaving: a temporary home may vanish right after.
        users = self._open(keeper.USERS)
        kept = self._open(keeper.KEEPER)
        self._leave()
        last = not _in_use(users)
        os.close(users)
        if last:
            self._await_end(kept)
        else:
            os.close(kept)
        if last and self.temporary:
            shutil.rmtree(self.home, ignore_errors=True)

    @contextmanager
    def _gate(self) -> Iterator[None]:
        """One at a time: joining, starting, leaving, crashing."""
        gate = self._open("gate.lock")
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield
        finally:
            os.close(gate)

    def _open(self, lock: str) -> int:
        return open_lock(self.directory / lock)

    def _ensure_running(self) -> None:
        """Start a keeper unless there is one, and wait until the server answers."""
        log_start = None
        while True:
            kept = self._open(keeper.KEEPER)
            try:
                if not try_lock(kept, fcntl.LOCK_EX):
                    self.address = read_address(self._address_file)
                    if self._answers(self.directory / keeper.DATA):
                        return
                elif log_start is None:
                    log_start = self._spawn(kept)
                else:
                    raise self._failure(log_start)
            finally:
                os.close(kept)
            time.sleep(POLL_SECONDS)

    def _spawn(self, kept: int) -> int:
        """Start a keeper with the lock that tells of its life.

        Returns:
            Where in the log its messages begin.
        """
        data = self.directory / keeper.DATA
        self._check(data)
        self.address = choose_address(self._address_file, self.listen)
        orders = Orders(
            place=str(self.directory),
            sockets=str(self.sockets),
            make=self._make_command(data.with_name(keeper.UNFINISHED)),
            run=self._run_command(data),
            stale=str(data / self.pid_file),
            signals=self.stop_signals,
            account=self.account.ids if self.account is not None else None,
            temporary=self.temporary,
        )
        arguments = [keeper.__file__, json.dumps(orders), str(kept)]
        with self.log.open("ab") as log:
            begin = log.tell()
            process = subprocess.Popen(  # noqa: S603
                # A bare interpreter: no site packages, no surprises, a quick start.
                [sys.executable, "-S", "-P", *arguments],
                cwd="/",
                env={key: os.environ[key] for key in PASSED_ON if key in os.environ}
                | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Not to be hit by the Ctrl-C or the hang-up that ends its user.
                start_new_session=True,
                pass_fds=[kept],
            )
        _children.add(process.pid)
        # It may outlive us, and Popen would complain: we reap it ourselves.
        process.returncode = 0
        return begin

    def _await_end(self, kept: int) -> None:
        """Wait until keeper and server are gone; closes the keeper's lock, given open."""
        try:
            fcntl.flock(kept, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):  # removed with a temporary home
                os.close(keeper.end_leftovers(self.directory, self.stop_signals))
            _reap(keeper.read_number(kept))
        finally:
            os.close(kept)

    def _failure(self, begin: int) -> StoreUnavailable:
        with self.log.open(errors="replace") as log:
            log.seek(begin)
            tail = log.read()[-LOG_TAIL_CHARACTERS:].strip()
        return StoreUnavailable(
            f"it did not start, and {self.log} says: {tail or 'nothing'}",
            store=f"embedded {self.name} in {self.home}",
        )

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.home} cannot hold a server: {error}. It must be a directory of its "
            "own that belongs to the user who starts the server, on a disk with space."
        )


def refuse_settings(settings: Mapping[str, str], ours: AbstractSet[str]) -> None:
    """Refuse settings that would lead the server away from its home.

    Raises:
        ConfigError: names them.
    """
    taken = sorted(ours & {name.lower() for name in settings})
    if taken:
        raise ConfigError(
            f"settings may not hold {', '.join(taken)}: the embedded server decides "
            "that itself. For TCP use listen='127.0.0.1'."
        )


def _in_use(users: int) -> bool:
    """Whether anybody but the keeper holds the lock of the users."""
    if try_lock(users, fcntl.LOCK_EX):
        return False
    return try_lock(users, fcntl.LOCK_SH)


def _reap(keeper_number: int | None) -> None:
    """Let a keeper that has ended vanish from the list of processes, if it is ours."""
    if keeper_number in _children:
        with suppress(ChildProcessError):  # we are a fork of the one who started it
            os.waitpid(keeper_number, 0)
        _children.discard(keeper_number)
