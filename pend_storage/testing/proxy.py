"""A line to a server that can be cut, slowed down or held up: a TCP proxy on loopback.

.. code-block:: python

    with temporary_postgres(listen="127.0.0.1") as server:
        with Proxy(*server.tcp_address) as line:
            store = PostgresStore(schema, line.through(server.tcp_url))
            line.delay(0.2)            # each piece, in both directions
            line.stall("answers")      # what is asked is done, and nobody hears of it
            line.cut()                 # all connections end; new ones end at once
            line.restore()

All connections of one proxy share its fate: give each process a proxy of its own to part
them from each other. It runs in a thread, and must be in the process that controls it.
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
"""Requests go to the server, answers come back."""

_WAYS: Final[tuple[Direction, Direction]] = ("requests", "answers")
_PIECE: Final = 65_536
_GRACE: Final = 0.02
_PATIENCE: Final = 10.0
"""Seconds in which the thread must start, end, or do as it is told."""


class Proxy:
    """Passes on what is sent to it, unless it is told not to. Use ``with``."""

    def __init__(self, host: str, port: int, *, listen: str = "127.0.0.1") -> None:
        """Make it; nothing listens before :meth:`start`.

        Args:
            host: where the server listens; it need not do so yet.
            port: likewise.
            listen: loopback address to listen on; the port is a free one.
        """
        self._target = (host, port)
        self._listen = listen
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._address: tuple[str, int] | None = None
        self._lines: set[Line] = set()
        self._is_cut = False
        self._delays: dict[Direction, float] = dict.fromkeys(_WAYS, 0.0)
        self._open: dict[Direction, asyncio.Event] = {}
        self.accepted: int = 0
        """Connections so far that were passed on."""

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
            ConfigError: it has not been started.
        """
        if self._address is None:
            raise ConfigError("the proxy has not been started. Call start() first.")
        return self._address

    def through(self, url: str) -> str:
        """The URL with the proxy's address in place of the server's."""
        parts = urlsplit(url)
        host, port = self.address
        login, at, _ = parts.netloc.rpartition("@")
        host = f"[{host}]" if ":" in host else host
        return urlunsplit(parts._replace(netloc=f"{login}{at}{host}:{port}"))

    # -- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Listen; harmless to repeat."""
        if self._thread is not None:
            return
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="proxy", daemon=True
        )
        self._thread.start()
        assert ready.wait(_PATIENCE), "the proxy does not start"

    def stop(self) -> None:
        """End all connections, and listen no more; harmless to repeat."""
        if self._thread is None:
            return
        self._tell(self._ended.set)
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive(), "the proxy does not end"
        self._thread = self._address = self._loop = None

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._is_cut = False
        self._delays = dict.fromkeys(_WAYS, 0.0)
        self._open = {way: asyncio.Event() for way in _WAYS}
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
            # What was just accepted has no task yet, or one that has not begun and would
            # not notice that it is cancelled. It ends itself if it is let begin, and that
            # it can only while the server is not closed.
            await asyncio.sleep(_GRACE)
            server.close()

    async def _bind(self) -> asyncio.Server:
        """Listen, and know the address."""
        server = await asyncio.start_server(self._accept, self._listen, 0)
        self._address = server.sockets[0].getsockname()[:2]
        return server

    # -- control, from any thread ---------------------------------------------------------

    def cut(self) -> None:
        """End all connections, and end new ones as soon as they are made."""

        def cut() -> None:
            self._is_cut = True
            self._abort()

        self._tell(cut)

    def reset(self) -> None:
        """End all connections; new ones work."""
        self._tell(self._abort)

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """Keep every piece back for so long."""
        self._tell(
            lambda: self._delays.update(dict.fromkeys(_ways(direction), seconds))
        )

    def stall(self, direction: Direction = "both") -> None:
        """Let nothing pass any more, without a word; connections stay open."""

        def stall() -> None:
            for way in _ways(direction):
                self._open[way].clear()

        self._tell(stall)

    def restore(self) -> None:
        """Be a good line again; what was held up arrives."""

        def restore() -> None:
            self._is_cut = False
            self._delays.update(dict.fromkeys(_WAYS, 0.0))
            for event in self._open.values():
                event.set()

        self._tell(restore)

    def _tell(self, do: Callable[[], object]) -> None:
        """Have the thread do it, and wait until it is done."""
        loop = self._loop
        if loop is None:
            raise ConfigError("the proxy has not been started. Call start() first.")
        done = threading.Event()

        def work() -> None:
            do()
            done.set()

        loop.call_soon_threadsafe(work)
        assert done.wait(_PATIENCE), "the proxy does not do as it is told"

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
            pass  # an end of it is gone, or the line was cut
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
    """One connection through the proxy: both of its halves, and who works for it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writers = [writer]
        self._task = asyncio.current_task()

    def add(self, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)

    def abort(self) -> None:
        """End both halves at once: neither side gets to say goodbye."""
        for writer in self._writers:
            writer.transport.abort()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


def _ways(direction: Direction) -> tuple[Direction, ...]:
    return _WAYS if direction == "both" else (direction,)
