"""Base of embedded servers: join, leave, crash and restart a shared server."""

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
from pend_storage.testing.servers._keeper import ServerSpec, open_lock, try_lock
from pend_storage.testing.servers._places import (
    Account,
    exclusive_lock,
    prepare_home,
    server_account,
    socket_directory,
)
from pend_storage.testing.servers._secrets import read_password

POLL_SECONDS = 0.02
_PASSWORD = "password"  # noqa: S105 - the name of its file
LOG_TAIL_CHARACTERS = 350
# The whole environment of keeper and server: PG* and similar variables would change
# their behaviour.
PASSED_ON = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")


# Keepers that this process started and has to reap.
_children: set[int] = set()


class EmbeddedServer(ABC):
    """Server in one directory, shared by any number of processes.

    The first user starts the server, the last one stops it, and the kernel counts them:
    a killed user counts as gone. The settings of the user that starts it apply to all.

    Args:
        home: directory for its files, created if it does not exist. Its data stays.
        settings: server settings, by the server's own names.
        listen: loopback address to listen on as well; None for the Unix socket alone.
        temporary: remove the home, too, when its last user has ended.
    """

    name: ClassVar[str]
    """Name of the server in messages."""
    pid_file: ClassVar[str]
    """Name of the file that it leaves in its data directory when it is killed."""
    stop_signals: ClassVar[list[tuple[int, float]]]
    """Stop signals, gentlest first, each with seconds to wait."""
    crash_signal: ClassVar[signal.Signals]
    """Signal that ends it at once, without a clean shutdown."""

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
        self._server_directory: Path | None = None
        self._password: str | None = None

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
        """Directory of the server's files: the home, or the target of ``elsewhere``.

        Raises:
            ConfigError: the server has not been started yet.
        """
        if self._server_directory is None:
            raise ConfigError(f"{self!r} has not been started. Call start() first.")
        return self._server_directory

    @property
    def log(self) -> Path:
        """Path of the server's own log, of all its runs."""
        return self.directory / "server.log"

    @property
    def sockets(self) -> Path:
        """Directory of the server's Unix socket; only its owner may enter."""
        return socket_directory(self.directory, self.account)

    @property
    def tcp_address(self) -> tuple[str, int]:
        """Host and port of TCP.

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
    def password(self) -> str:
        """Password for TCP. Only the user who started the server can read its file.

        Raises:
            ConfigError: the server was started without ``listen``.
        """
        _ = self.tcp_address
        if self._password is None:
            self._password = read_password(self.directory / _PASSWORD)
        return self._password

    @property
    def _address_file(self) -> Path:
        return self.directory / "address.json"

    def start(self) -> None:
        """Join the users of the server, and start it if it does not run.

        Returns when it answers, however long a recovery from a crash takes. Harmless to
        repeat; after a crash it starts the server again.

        Raises:
            ConfigError: the home cannot be used by this user or this server.
            StoreUnavailable: the server ended at once; the message quotes its log.
        """
        joined = self._users is not None
        try:
            if not joined:
                self._join()
            with self._exclusive():
                self._ensure_running()
        except BaseException as error:
            if not joined:
                with suppress(OSError):  # the first error is the cause
                    self.stop()
            if isinstance(error, OSError):
                raise self._unusable(error) from error
            raise

    def stop(self) -> None:
        """Leave the server; the last user waits until it has ended.

        Harmless to repeat. In a forked child it only releases the child's share.
        """
        if self._users is None or self._owner != os.getpid():
            self._release_share()
            return
        try:
            with self._exclusive():
                self._release_and_wait()
        except FileNotFoundError:
            # The home was removed. The keeper will notice that this user has left.
            self._release_share()

    def kill(self) -> None:
        """Crash the server for all its users; only committed data remains.

        Returns when all its processes have ended. ``start`` starts it again.
        """
        with self._exclusive():
            keeper.signal_holder(self.directory / keeper.SERVER, self.crash_signal)
            self._await_end(self._open(keeper.KEEPER))

    def restart(self) -> None:
        """Stop the server cleanly for all its users, and start it again.

        Raises:
            StoreUnavailable: it did not start; the message quotes its log.
        """
        with self._exclusive():
            keeper.signal_holder(self.directory / keeper.KEEPER, signal.SIGTERM)
            self._await_end(self._open(keeper.KEEPER))
            self._ensure_running()

    @abstractmethod
    def _check(self, data: Path) -> None:
        """Refuse data that this server cannot read; the data may not exist yet.

        Raises:
            ConfigError: names the data, and what would read it.
        """

    @abstractmethod
    def _make_command(self, data: Path) -> list[str]:
        """Return the command that fills a new data directory; empty if not needed."""

    @abstractmethod
    def _run_command(self, data: Path) -> list[str]:
        """Return the command that serves ``self.address`` in the foreground."""

    def _prepare(self, data: Path) -> None:  # noqa: ARG002
        """Write the files that the server's command names; ``self.address`` is chosen."""
        return

    def _secure(self, data: Path) -> None:  # noqa: ARG002
        """Set the password of a server that answers, and listens on TCP."""
        return

    @abstractmethod
    def _answers(self, data: Path) -> bool:
        """Return True if the server answers; it may not even have begun to start."""

    def _join(self) -> None:
        """Become a user; wait while a former server ends."""
        while self._users is None:
            self._server_directory = prepare_home(self.home, self.account)
            # Missing, or another file: a keeper has just removed a temporary home.
            with suppress(FileNotFoundError), self._exclusive(), ExitStack() as undo:
                users = self._open(keeper.USERS)
                undo.callback(os.close, users)
                fcntl.flock(users, fcntl.LOCK_SH)
                path = self.directory / keeper.USERS
                if os.path.samestat(os.fstat(users), path.stat()):
                    undo.pop_all()
                    self._users, self._owner = users, os.getpid()

    def _release_share(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def _release_and_wait(self) -> None:
        # Opened before leaving: a temporary home may be removed right after.
        users = self._open(keeper.USERS)
        keeper_lock = self._open(keeper.KEEPER)
        self._release_share()
        last = not _in_use(users)
        os.close(users)
        if last:
            self._await_end(keeper_lock)
        else:
            os.close(keeper_lock)
        if last and self.temporary:
            shutil.rmtree(self.home, ignore_errors=True)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Serialise joining, starting, leaving and crashing, between processes."""
        with exclusive_lock(self.directory / "gate.lock"):
            yield

    def _open(self, lock: str) -> int:
        return open_lock(self.directory / lock)

    def _ensure_running(self) -> None:
        """Start a keeper unless one runs, and wait until the server answers."""
        log_start = None
        while True:
            keeper_lock = self._open(keeper.KEEPER)
            try:
                # A held lock means that a keeper runs; a free one after our start, that
                # it failed.
                if not try_lock(keeper_lock, fcntl.LOCK_EX):
                    self.address = read_address(self._address_file)
                    if self._answers(self.directory / keeper.DATA):
                        break
                elif log_start is None:
                    log_start = self._spawn(keeper_lock)
                else:
                    raise self._failure(log_start)
            finally:
                os.close(keeper_lock)
            time.sleep(POLL_SECONDS)
        if self.address.listen is not None:
            # Each time: the process that started the server may have died before this.
            self._secure(self.directory / keeper.DATA)

    def _spawn(self, keeper_lock: int) -> int:
        """Start a keeper, and hand down its lock, which is held while it runs.

        Returns:
            Position in the log where its messages begin.
        """
        data = self.directory / keeper.DATA
        self._check(data)
        self.address = choose_address(self._address_file, self.listen)
        self._prepare(data)
        spec = ServerSpec(
            place=str(self.directory),
            sockets=str(self.sockets),
            make=self._make_command(data.with_name(keeper.UNFINISHED)),
            run=self._run_command(data),
            stale=str(data / self.pid_file),
            signals=self.stop_signals,
            account=self.account.ids if self.account is not None else None,
            temporary=self.temporary,
        )
        arguments = [keeper.__file__, json.dumps(spec), str(keeper_lock)]
        with self.log.open("ab") as log:
            begin = log.tell()
            process = subprocess.Popen(  # noqa: S603
                # A bare interpreter without site packages starts quickly.
                [sys.executable, "-S", "-P", *arguments],
                cwd="/",
                env={key: os.environ[key] for key in PASSED_ON if key in os.environ}
                | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # In its own session: Ctrl-C or a hang-up of its user must not end it.
                start_new_session=True,
                pass_fds=[keeper_lock],
            )
        _children.add(process.pid)
        # It may outlive this process, and Popen would warn; _reap() collects it.
        process.returncode = 0
        return begin

    def _await_end(self, keeper_lock: int) -> None:
        """Wait until keeper and server have ended; closes the keeper's open lock."""
        try:
            fcntl.flock(keeper_lock, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):  # removed with a temporary home
                os.close(keeper.end_leftovers(self.directory, self.stop_signals))
            _reap(keeper.read_number(keeper_lock))
        finally:
            os.close(keeper_lock)

    def _failure(self, begin: int) -> StoreUnavailable:
        with self.log.open(errors="replace") as log:
            log.seek(begin)
            lines = log.read().split("\n")
        # The cause is at the end, and a message is one line of bounded length.
        tail = " / ".join(filter(None, map(str.strip, lines)))[-LOG_TAIL_CHARACTERS:]
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
    """Refuse settings that are reserved for the embedded server.

    Raises:
        ConfigError: names the settings.
    """
    taken = sorted(ours & {name.lower() for name in settings})
    if taken:
        raise ConfigError(
            f"settings may not hold {', '.join(taken)}: the embedded server decides "
            "that itself. For TCP use listen='127.0.0.1'."
        )


def _in_use(users: int) -> bool:
    """Return True if any process but the keeper holds the users' lock."""
    if try_lock(users, fcntl.LOCK_EX):
        return False
    # An exclusive lock fails beside users, and beside a keeper that stops the server. A
    # shared lock fails only beside such a keeper.
    return try_lock(users, fcntl.LOCK_SH)


def _reap(keeper_number: int | None) -> None:
    """Reap a keeper that has ended, if this process has started it."""
    if keeper_number in _children:
        with suppress(ChildProcessError):  # a fork of the process that started it
            os.waitpid(keeper_number, 0)
        _children.discard(keeper_number)
