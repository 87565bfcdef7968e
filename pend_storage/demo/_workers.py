"""Workers of the demo: start, kill and stop client processes, sum their counters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pend_storage.demo._worker import Ledger, Tally
from pend_storage.errors import StoreUnavailable

__all__ = ["Kind", "Workers"]

Kind: TypeAlias = Literal["writer", "reader"]

_STOP_TIMEOUT: Final = 30.0
"""Seconds that a client may take to end: a call may still be under way."""
_START_TIMEOUT: Final = 30.0
"""Seconds that a client may take to report for the first time."""


@dataclass(slots=True)
class _Client:
    kind: Kind
    process: subprocess.Popen[str]
    tally: Tally = field(default_factory=Tally)
    has_begun: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Read the client's reports from its stdout until it ends."""
        assert self.process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self.process.stdout:
            if line.endswith("\n"):  # a killed client may leave half of a line
                self.tally = Tally(**json.loads(line))
                self.has_begun.set()


class Workers:
    """Writer and reader processes that share one configuration."""

    def __init__(self, config: Path, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._log = folder / "clients.log"
        self._clients: list[_Client] = []

    def start(self, kind: Kind) -> None:
        """Start one more client; return when it has begun to work.

        Raises:
            StoreUnavailable: the client did not report within 30 s.
        """
        number = str(len(self._clients))
        command = [sys.executable, "-m", "pend_storage.demo._worker"]
        arguments = [kind, number, str(self._config), str(self._ledger(number))]
        with self._log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command + arguments,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                text=True,
            )
        client = _Client(kind, process)
        self._clients.append(client)
        # Read all the time: a full pipe would block the client.
        threading.Thread(target=client.watch, daemon=True).start()
        if not client.has_begun.wait(_START_TIMEOUT):
            said = self._log.read_text(errors="replace").strip().splitlines()
            reason = f"a client did not start ({said[-1] if said else 'no output'})"
            raise StoreUnavailable(reason, store="the demo")

    def kill_a_writer(self) -> None:
        """Kill a running writer by SIGKILL, as the kernel does when memory runs out."""
        victim = next(
            client
            for client in self._clients
            if client.kind == "writer" and client.process.poll() is None
        )
        victim.process.kill()
        victim.process.wait()

    def stop(self) -> None:
        """Stop all clients by SIGTERM after their current call; kill those that hang."""
        for client in self._clients:
            if client.process.poll() is None:
                client.process.send_signal(signal.SIGTERM)
        for client in self._clients:
            try:
                client.process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                client.process.kill()
                client.process.wait()

    def tally(self, kind: Kind | None = None) -> Tally:
        """Sum the counters of all clients, including those that have ended.

        Args:
            kind: only writers or only readers; None for both.
        """
        total = Tally()
        for client in self._clients:
            if kind in {None, client.kind}:
                _add(total, client.tally)
        return total

    def count(self, kind: Kind) -> int:
        """Return the number of running clients of a kind."""
        return sum(c.kind == kind and c.process.poll() is None for c in self._clients)

    def acknowledged(self) -> Iterator[tuple[str, str, int]]:
        """Yield collection, key and version of all records that were acknowledged."""
        for ledger in self._folder.glob("writer-*.ledger"):
            yield from Ledger.read(ledger)

    def _ledger(self, number: str) -> Path:
        return self._folder / f"writer-{number}.ledger"


def _add(total: Tally, one: Tally) -> None:
    for member in fields(Tally):
        mine, other = getattr(total, member.name), getattr(one, member.name)
        if member.name == "slowest":
            total.slowest = max(mine, other)
        elif member.name == "error":
            total.error = mine or other
        else:
            setattr(total, member.name, mine + other)


def _environment() -> dict[str, str]:
    """Return the environment without this library's settings."""
    # Settings of the environment override those of the demo's configuration file.
    ours = ("PEND_", "DB_")
    return {n: value for n, value in os.environ.items() if not n.startswith(ours)}
