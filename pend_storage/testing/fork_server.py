"""Fork server: Python processes in milliseconds, forked from one with imports done.

A new interpreter needs half a second of a processor to import what a store needs. The
fork server does that once, and nothing else: it has no threads, opens no store, and
keeps no descriptor of the processes that it starts. They share no state with the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pend_storage._fork import on_fork

__all__ = ["ForkServer", "ForkedProcess", "fork_server"]

_PRELOADED: Final = (
    *("pend_storage.stores.json", "pend_storage.stores.postgres"),
    *("pend_storage.stores.memory", "pend_storage.dualwrite", "pend_storage.backfill"),
    *("pend_storage.validation", "pend_storage.pend", "pend_storage.factory"),
    *("pend_storage.aio", "pend_storage.testing.domain", "pend_storage.testing.child"),
    *("sqlalchemy.dialects.postgresql.psycopg", "alembic.command", "tomlkit"),
    *("rich.progress", "rich.table", "click", "redis"),
)
_NUMBER_BYTES: Final = 8
"""Bytes of a number on the socket between client and server."""
_MOST_DESCRIPTORS: Final = 16


@dataclass(frozen=True, slots=True)
class _Request:
    function: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    path: tuple[str, ...]


class ForkedProcess:
    """Running process; a subset of ``subprocess.Popen``."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._lock = threading.Lock()
        self.pid: Final = self._receive()
        self.returncode: int | None = None
        """Exit code; negative: number of the signal that killed it; None: running."""

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code.

        Args:
            timeout: in seconds; None: no limit.

        Raises:
            subprocess.TimeoutExpired: the process still runs.
        """
        if (
            self.returncode is None
            and not select.select([self._line], [], [], timeout)[0]
        ):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        with self._lock:
            if self.returncode is None:
                self.returncode = self._receive()
                self._line.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _receive(self) -> int:
        found = self._line.recv(_NUMBER_BYTES, socket.MSG_WAITALL)
        if len(found) < _NUMBER_BYTES:
            raise RuntimeError("the fork server has ended")
        return int.from_bytes(found, signed=True)


class ForkServer:
    """Client of the fork server, which ends with this process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._control = ours
        self._lock = threading.Lock()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
                cwd="/",
            )

    def start(
        self,
        function: str,
        arguments: Sequence[str] = (),
        *,
        descriptors: Sequence[int],
        environment: dict[str, str],
        directory: str | None = None,
        path: Iterable[str] = (),
    ) -> ForkedProcess:
        """Start a process that calls a function, and exits as a program does.

        Args:
            function: ``module:name``; called without arguments.
            arguments: for ``sys.argv``. An argument ``fd:N`` is replaced by the number
                that ``descriptors[N]`` has in the process.
            descriptors: the first three become its standard input, output and errors.
            environment: the complete environment.
            directory: working directory; None: that of this process.
            path: entries for ``sys.path``, before those of a new interpreter.
        """
        request = _Request(
            function,
            tuple(arguments),
            environment,
            directory or str(Path.cwd()),
            tuple(path),
        )
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            # Under the lock: descriptors and marker of two requests must not mix.
            socket.send_fds(self._control, [b"+"], [theirs.fileno(), *descriptors])
        body = pickle.dumps(request)
        ours.sendall(len(body).to_bytes(_NUMBER_BYTES) + body)
        return ForkedProcess(ours)

    def close(self) -> None:
        """Stop the server; the processes that it started go on."""
        self._control.close()
        self._process.wait()


@functools.cache
def fork_server() -> ForkServer:
    """Return the server of this process; started at the first call."""
    server = ForkServer()
    owner = os.getpid()

    def close() -> None:
        if os.getpid() == owner:
            server.close()

    atexit.register(close)
    return server


# A forked child must not share the connection of its parent.
on_fork(fork_server.cache_clear)


# -- the server ----------------------------------------------------------------------------


def _preload() -> None:
    for name in _PRELOADED:
        with contextlib.suppress(ModuleNotFoundError):  # an extra is not installed
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child's collection must not write to the pages that all share


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._running: dict[int, socket.socket] = {}
        self._ended, self._wakeup = os.pipe()
        # Signals only wake select(): children are reaped outside of the handler.
        os.set_blocking(self._wakeup, False)
        signal.set_wakeup_fd(self._wakeup)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def serve(self) -> tuple[_Request, list[int]] | None:
        """Fork a process for each request.

        Returns:
            In each forked process its request and descriptors; None in the server, when
            the client has closed the connection.
        """
        while True:
            control = self._control.fileno()
            ready, _, _ = select.select([control, self._ended], [], [])
            if self._ended in ready:
                os.read(self._ended, 4096)
                self._reap()
            if control in ready:
                word, descriptors, _, _ = socket.recv_fds(
                    self._control, 1, _MOST_DESCRIPTORS
                )
                if not word:
                    return None
                # Its own connection, for the request, the pid and the exit code.
                line = socket.socket(fileno=descriptors.pop(0))
                pid = os.fork()
                if not pid:
                    self._detach_from_server()
                    with line:
                        return _read_request(line), descriptors
                for descriptor in descriptors:
                    os.close(descriptor)
                line.sendall(pid.to_bytes(_NUMBER_BYTES, signed=True))
                self._running[pid] = line

    def _detach_from_server(self) -> None:
        """Release in a forked child what belongs to the server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for line in (self._control, *self._running.values()):
            line.close()
        os.close(self._ended)
        os.close(self._wakeup)

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            with self._running.pop(pid) as line, contextlib.suppress(OSError):
                # OSError: the process that requested it has ended.
                line.sendall(code.to_bytes(_NUMBER_BYTES, signed=True))


def _read_request(line: socket.socket) -> _Request:
    size = int.from_bytes(line.recv(_NUMBER_BYTES, socket.MSG_WAITALL))
    found: _Request = pickle.loads(line.recv(size, socket.MSG_WAITALL))  # noqa: S301
    return found


def _set_up(request: _Request, descriptors: list[int]) -> Any:
    """Set up the process as a program would find it; return the function to call."""
    for target, descriptor in enumerate(descriptors[:3]):
        # dup2 also makes the copy inheritable, as standard streams have to be.
        os.dup2(descriptor, target)
        os.close(descriptor)
    sys.argv = [request.function]
    for argument in request.arguments:
        kind, _, place = argument.partition(":")
        sys.argv.append(str(descriptors[int(place)]) if kind == "fd" else argument)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.directory)
    sys.path[:0] = request.path
    # Finders of the server have cached directories without the new paths.
    importlib.invalidate_caches()
    module, _, name = request.function.partition(":")
    return getattr(importlib.import_module(module), name)


def _main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    _preload()
    started = _Server(control).serve()
    if started is not None:
        _set_up(*started)()


if __name__ == "__main__":
    _main()
