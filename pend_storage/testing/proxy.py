"""TCP proxy on loopback: a line to a server that can be cut, delayed or stalled.

.. code-block:: python

    with temporary_postgres(listen="127.0.0.1") as server:
        with Proxy(*server.tcp_address) as line:
            store = PostgresStore(schema, line.through(server.tcp_url))
            line.delay(0.2)            # each piece, in both directions
            line.stall("answers")      # requests arrive, answers do not
            line.cut()                 # all connections end; new ones end at once
            line.restore()

All connections of one proxy share its faults: give each process its own proxy to
separate them. The proxy runs in a thread, and must be in the process that controls it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from pend_storage.errors import ConfigError

__all__ = ["Direction", "Proxy"]

Direction: TypeAlias = Literal["both", "requests", "answers"]
"""Requests go to the server, answers come back to the client."""

_DIRECTIONS: Final[tuple[Direction, Direction]] = ("requests", "answers")
_PIECE: Final = 65_536
_GRACE: Final = 0.02
"""Seconds for connections that were just accepted to begin and end."""
_THREAD_TIMEOUT: Final = 10.0
"""Seconds for the thread to start, to end, or to execute a command."""


class Proxy:
    """Proxy that forwards all data until a fault is set. Use ``with``."""

    def __init__(self, host: str, port: int, *, listen: str = "127.0.0.1") -> None:
        """Prepare the proxy; it listens after :meth:`start`.

        Args:
            host: host of the server, which need not listen yet.
            port: port of the server.
            listen: loopback address to listen on; the port is a free one.
        """
        self._target = (host, port)
        self._listen = listen
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._address: tuple[str, int] | None = None
        self._lines: set[Line] = set()
        self._is_cut = False
        self._delays: dict[Direction, float] = dict.fromkeys(_DIRECTIONS, 0.0)
        self._open: dict[Direction, asyncio.Event] = {}
        self.accepted: int = 0
        """Number of connections that were forwarded."""

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

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to connect to.

        Raises:
            ConfigError: the proxy has not been started.
        """
        if self._address is None:
            raise ConfigError("the proxy has not been started. Call start() first.")
        return self._address

    def through(self, url: str) -> str:
        """Return a URL with the proxy's address in place of the server's."""
        parts = urlsplit(url)
        host, port = self.address
        login, at, _ = parts.netloc.rpartition("@")
        host = f"[{host}]" if ":" in host else host
        return urlunsplit(parts._replace(netloc=f"{login}{at}{host}:{port}"))

    # -- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start to listen; harmless to repeat."""
        if self._thread is not None:
            return
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="proxy", daemon=True
        )
        self._thread.start()
        assert ready.wait(_THREAD_TIMEOUT), "the proxy does not start"

    def stop(self) -> None:
        """End all connections, and stop listening; harmless to repeat."""
        if self._thread is None:
            return
        self._run_in_loop(self._ended.set)
        self._thread.join(_THREAD_TIMEOUT)
        assert not self._thread.is_alive(), "the proxy does not end"
        self._thread = self._address = self._loop = None

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._is_cut = False
        self._delays = dict.fromkeys(_DIRECTIONS, 0.0)
        self._open = {way: asyncio.Event() for way in _DIRECTIONS}
        for event in self._open.values():
            event.set()
        server = await self._bind()
        try:
            ready.set()
            await self._ended.wait()
        finally:
            for listener in server.sockets:
                self._loop.remove_reader(listener.fileno())
            self._is_cut = True
            self._abort()
            # A connection that was just accepted has no task yet, or one that has not
            # begun and would not notice its cancellation. It ends itself once it
            # begins, which it can only while the server is not closed.
            await asyncio.sleep(_GRACE)
            server.close()

    async def _bind(self) -> asyncio.Server:
        """Listen on a free port, and record the address."""
        server = await asyncio.start_server(self._accept, self._listen, 0)
        self._address = server.sockets[0].getsockname()[:2]
        return server

    # -- control, from any thread ---------------------------------------------------------

    def cut(self) -> None:
        """End all connections, and end new ones as soon as they are accepted."""

        def cut() -> None:
            self._is_cut = True
            self._abort()

        self._run_in_loop(cut)

    def reset(self) -> None:
        """End all connections; new ones work."""
        self._run_in_loop(self._abort)

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """Delay every piece of data by a time in seconds."""
        self._run_in_loop(
            lambda: self._delays.update(dict.fromkeys(_directions(direction), seconds))
        )

    def stall(self, direction: Direction = "both") -> None:
        """Stop forwarding without an error; connections stay open."""

        def stall() -> None:
            for way in _directions(direction):
                self._open[way].clear()

        self._run_in_loop(stall)

    def restore(self) -> None:
        """Remove all faults; stalled data arrives."""

        def restore() -> None:
            self._is_cut = False
            self._delays.update(dict.fromkeys(_DIRECTIONS, 0.0))
            for event in self._open.values():
                event.set()

        self._run_in_loop(restore)

    def _run_in_loop(self, do: Callable[[], object]) -> None:
        """Run a function in the proxy's thread, and wait until it is done."""
        loop = self._loop
        if loop is None:
            raise ConfigError("the proxy has not been started. Call start() first.")
        done = threading.Event()

        def work() -> None:
            do()
            done.set()

        # State of the proxy is changed only in its own thread, so it needs no lock.
        loop.call_soon_threadsafe(work)
        assert done.wait(_THREAD_TIMEOUT), "the proxy's thread does not respond"

    # -- the lines, in the thread ---------------------------------------------------------

    def _abort(self) -> None:
        for line in list(self._lines):
            line.abort()

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        line = Line(writer)
        self._lines.add(line)
        try:
            there, back = await asyncio.open_connection(*self._target)
            line.add(back)
            self.accepted += 1
            await asyncio.gather(
                self._pump(reader, back, "requests"),
                self._pump(there, writer, "answers"),
            )
        except (OSError, asyncio.CancelledError):
            pass  # one end has closed the connection, or the line was cut
        finally:
            self._lines.discard(line)
            line.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Direction,
    ) -> None:
        while piece := await reader.read(_PIECE):
            if self._delays[way]:
                await asyncio.sleep(self._delays[way])
            await self._open[way].wait()
            writer.write(piece)
            await writer.drain()
        await self._open[way].wait()
        with suppress(OSError):
            writer.write_eof()


class Line:
    """One connection through the proxy: both of its sockets, and its task."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writers = [writer]
        self._task = asyncio.current_task()

    def add(self, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)

    def abort(self) -> None:
        """Abort both sockets at once, without an orderly shutdown."""
        for writer in self._writers:
            writer.transport.abort()
        # A task that aborts itself ends on its own; to cancel it would hide why.
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


def _directions(direction: Direction) -> tuple[Direction, ...]:
    return _DIRECTIONS if direction == "both" else (direction,)
