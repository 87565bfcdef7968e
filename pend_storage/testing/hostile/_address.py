"""Address of exchangeable servers: a Unix socket that outlives the servers behind it.

Clients keep the address, and another server answers afterwards. There are three manners
of exchanging it, see :class:`Manner`. A request or an answer can be trapped on its way,
so that the exchange happens between what the server has done and what its client knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from pend_storage.testing.proxy import Line, Proxy

__all__ = ["PLAIN", "POSTGRES", "Address", "Manner", "TrappedWay", "Wire"]

TrappedWay: TypeAlias = Literal["asked", "answered"]
"""Asked: a request is on its way to the server. Answered: the server has executed it,
and the answer is on its way back."""

_PIECE: Final = 65_536
_REST_TIMEOUT: Final = 1.0
"""Seconds that busy sessions get to finish before an exchange."""
_OUTAGE: Final = 0.4
"""Seconds for which a visible exchange refuses connections."""
_POLL_INTERVAL: Final = 0.005


class Manner(Enum):
    """Manner of an exchange, as clients observe it."""

    MOVED = (
        "connections survive, as behind a pooler: the next request meets the new one"
    )
    RECONNECTED = "idle connections end: the next use connects anew, without an error"
    CUT = "all connections end, and new ones are refused for a moment"


class Wire:
    """Knowledge of a protocol; this one is for an unknown protocol."""

    can_move: bool = False
    """A session can be moved to another server by repeating its greeting."""

    def is_at_rest(self, tail: bytes) -> bool:
        """Return True if no request is in progress after an answer.

        Args:
            tail: the last sixteen bytes of the answer at most.
        """
        return bool(tail)


class _PostgresWire(Wire):
    """PostgreSQL: at rest after ``ReadyForQuery``, idle, outside of a transaction."""

    can_move = True

    @override
    def is_at_rest(self, tail: bytes) -> bool:
        return tail.endswith(b"Z\0\0\0\5I")


PLAIN: Final = Wire()
POSTGRES: Final = _PostgresWire()
"""For clients without a password; a greeting with one cannot be repeated."""


class _Session(Line):
    """One client, and its present connection to a server."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        super().__init__(client)
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.listener: asyncio.Task[None] | None = None
        self.generation = -1
        self.greeting = b""
        self.tail = b""
        self.is_at_rest = False

    @override
    def abort(self) -> None:
        if self.server is not None:
            self.server.transport.abort()
        if self.listener is not None:
            self.listener.cancel()
        super().abort()


class _Trap:
    """One-shot trap for a piece of data in one direction."""

    def __init__(self, way: TrappedWay, skip: int, spring: Callable[[], None]) -> None:
        self.way = way
        self.left = skip
        self.spring = spring


class Address(Proxy):
    """Unix socket that forwards to the server that is behind it. Use ``with``."""

    accepted: int

    def __init__(self, path: Path, target: Path, *, wire: Wire = PLAIN) -> None:
        """Prepare the address; it listens after :meth:`start`.

        Args:
            path: path of the socket, which is created.
            target: socket of the first server.
            wire: protocol of the clients.
        """
        super().__init__("", 0)
        self.path = path
        self.target = target
        self._wire = wire
        self._generation = 0
        self._manner: Manner | None = None
        self._trap: _Trap | None = None

    @override
    async def _bind(self) -> asyncio.Server:
        self.path.unlink(missing_ok=True)
        self._gate = asyncio.Event()
        self._gate.set()
        return await asyncio.start_unix_server(self._accept, self.path)

    # -- exchanges, from any thread -------------------------------------------------------

    @contextmanager
    def exchanging(self, manner: Manner) -> Iterator[None]:
        """Exchange the server within the block, while no data passes.

        Set :attr:`target` in the block, or restart the server. Requests in progress get
        a second to finish; sessions that are still busy then are aborted.

        Args:
            manner: how clients observe the exchange.
        """
        # A protocol that cannot repeat its greeting has to reconnect.
        if manner is Manner.MOVED and not self._wire.can_move:
            manner = Manner.RECONNECTED
        if manner is Manner.CUT:
            self.cut()
        else:
            # Hold new requests first: else busy sessions would never come to rest.
            self._run_in_loop(lambda: self._pause(manner))
            self._await_rest()
            self._run_in_loop(self._abort_busy)
        try:
            yield
        finally:
            if manner is Manner.CUT:
                time.sleep(_OUTAGE)
                self.restore()
            self._run_in_loop(self._resume)

    def trap(self, way: TrappedWay, skip: int, spring: Callable[[], None]) -> None:
        """Call ``spring`` when the next piece is on its way, and drop that piece.

        Args:
            way: direction of the piece.
            skip: pieces to let pass before.
            spring: called once, in a thread of its own; may exchange the server.
        """
        self._run_in_loop(lambda: setattr(self, "_trap", _Trap(way, skip, spring)))

    def disarm(self) -> None:
        """Remove the trap."""
        self._run_in_loop(lambda: setattr(self, "_trap", None))

    def _await_rest(self) -> None:
        deadline = time.monotonic() + _REST_TIMEOUT
        while time.monotonic() < deadline:
            found: list[bool] = []
            self._run_in_loop(lambda found=found: found.append(self._is_quiet()))  # type: ignore[misc]
            if found[0]:
                return
            time.sleep(_POLL_INTERVAL)

    # -- in the thread ----------------------------------------------------------------------

    def _sessions(self) -> list[_Session]:
        return [line for line in self._lines if isinstance(line, _Session)]

    def _is_quiet(self) -> bool:
        sessions = self._sessions()
        return all(s.is_at_rest for s in sessions if s.server is not None)

    def _pause(self, manner: Manner) -> None:
        self._manner = manner
        self._gate.clear()

    def _abort_busy(self) -> None:
        """Abort busy sessions, whose request could finish after the exchange."""
        for session in self._sessions():
            if session.server is not None and not session.is_at_rest:
                session.abort()

    def _resume(self) -> None:
        self._generation += 1
        for session in self._sessions():
            # A session in the middle of a request cannot be moved: its answer is lost.
            survives = self._manner is Manner.MOVED and session.is_at_rest
            if session.server is not None and not survives:
                session.abort()
        self._manner = None
        self._gate.set()

    @override
    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        session = _Session(writer)
        self._lines.add(session)
        try:
            await self._gate.wait()
            await self._connect(session)
            self.accepted += 1
            while piece := await reader.read(_PIECE):
                if session.is_at_rest:
                    await self._gate.wait()
                # The client kept its connection; its next request meets the new server.
                if session.generation != self._generation:
                    await self._connect(session)
                await self._request(session, piece)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # an end of it is gone, or the session was cut
        finally:
            self._lines.discard(session)
            session.abort()

    async def _request(self, session: _Session, piece: bytes) -> None:
        session.is_at_rest = False
        if not session.tail:
            session.greeting += piece
        # Not during the greeting: a client without a session has asked nothing yet.
        elif self._is_trapped("asked"):
            await self._trigger_trap(session)
        if session.server is not None:
            session.server.write(piece)
            await session.server.drain()

    async def _connect(self, session: _Session) -> None:
        """Connect a session to the present server; a moved one repeats its greeting."""
        if session.listener is not None:
            session.listener.cancel()
        if session.server is not None:
            session.server.transport.abort()
        session.generation = self._generation
        reader, session.server = await asyncio.open_unix_connection(self.target)
        if session.tail:
            session.server.write(session.greeting)
            tail = b""
            while not self._wire.is_at_rest(tail):
                piece = await reader.read(_PIECE)
                if not piece:
                    raise ConnectionResetError
                tail = (tail + piece)[-16:]
        answers = self._answers(session, reader, session.generation)
        session.listener = asyncio.create_task(answers)

    async def _answers(
        self, session: _Session, reader: asyncio.StreamReader, generation: int
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE):
                if self._survives_server(session, generation):
                    continue  # last message of a former server, sent without a request
                if session.tail and self._is_trapped("answered"):
                    await self._trigger_trap(session)
                # A message may be split over two pieces.
                tail = (session.tail + piece)[-16:]
                session.client.write(piece)
                await session.client.drain()
                session.is_at_rest = self._wire.is_at_rest(tail)
                if session.tail or session.is_at_rest:  # else in the greeting
                    session.tail = tail
        if session.generation == generation and not self._survives_server(
            session, generation
        ):
            session.listener = None
            session.abort()

    def _survives_server(self, session: _Session, generation: int) -> bool:
        """Return True if a session survives the server of a generation."""
        is_moving = self._generation != generation or self._manner is Manner.MOVED
        return is_moving and session.is_at_rest

    def _is_trapped(self, way: TrappedWay) -> bool:
        trap = self._trap
        if trap is None or trap.way != way:
            return False
        trap.left -= 1
        return trap.left < 0

    async def _trigger_trap(self, session: _Session) -> None:
        """Trigger the trap once, and end the session that was caught in it.

        Raises:
            ConnectionResetError: always, after the trap's function has run.
        """
        # Disarmed first, so that no other session triggers it too.
        trap, self._trap = self._trap, None
        # Without a server the session counts as at rest, so the exchange does not wait
        # for it.
        server, session.server = session.server, None
        if server is not None:
            server.transport.abort()
        if trap is not None:
            # In another thread: the exchange waits for this loop to pause and resume.
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, trap.spring)
        raise ConnectionResetError
